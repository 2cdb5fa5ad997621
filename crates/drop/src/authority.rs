//! The one authority that says what may be reclaimed.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::Location;
use std::sync::Arc;

use thermocline_tier::{EntryKind, ErrorKind, KeyRange, Result, Retained, RetainedTables, TableRetained, Version};

use crate::change::Change;
use crate::consumers::{ConsumerState, Holding};
use crate::pending::{DropCommand, Pending};
use crate::pins::{Pin, PinVersions, Reader, Readers, Scope, check_name};
use crate::retention::{Anchor, Retention, Steps, Ttl};
use crate::times::{Moment, Reading, Times};

/// For which tables a policy is.
///
/// ```
/// use thermocline_drop::PolicyScope;
/// use thermocline_tier::EntryKind;
///
/// assert!(PolicyScope::Table(EntryKind::Multi) > PolicyScope::Operators, "tables come after kinds");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PolicyScope {
    /// All tables of sources that have none of their own.
    Sources,
    /// All tables of operators that have none of their own.
    Operators,
    /// One table.
    Table(EntryKind),
}

impl PolicyScope {
    /// Whether it is a table, or its kind.
    fn covers(self, table: EntryKind) -> bool {
        match self {
            Self::Sources => matches!(table, EntryKind::Source(_)),
            Self::Operators => matches!(table, EntryKind::Operator(_)),
            Self::Table(own) => own == table,
        }
    }
}

/// Somebody who keeps versions.
///
/// ```
/// use thermocline_drop::HolderId;
///
/// assert_ne!(HolderId::Pin("a".into()), HolderId::Consumer("a".into()));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HolderId {
    /// A pin, by its name.
    Pin(String),
    /// A consumer, by its name.
    Consumer(String),
    /// A reader, by its version and number.
    Reader(Version, u64),
}

/// Rows of a table that may have expired: those whose last version at `through` is above `after`.
///
/// ```
/// use std::time::Duration;
/// use thermocline_drop::{Anchor, Authority, Change, Moment, PolicyScope, Ttl};
/// use thermocline_tier::{EntryKind, Version};
///
/// let mut authority = Authority::default();
/// let ttl = Ttl { after: Duration::from_secs(60), anchor: Anchor::Updated };
/// let change = authority.set_ttl(PolicyScope::Table(EntryKind::Multi), Some(ttl))?;
/// authority.apply(&change);
/// authority.apply(&Change::Time { version: Version(7), moment: Moment::from_micros(1) });
/// let due = |seconds: u64| authority.expiries(Moment::from_micros(seconds * 1_000_000), &[EntryKind::Multi]);
/// assert!(due(59).is_empty());
/// assert_eq!(due(61)[0].through, Version(7));
/// # Ok::<(), thermocline_tier::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// The table.
    pub table: EntryKind,
    /// From when on the rows' lives count.
    pub anchor: Anchor,
    /// Rows up to this version were looked at.
    pub after: Version,
    /// The last version that is old enough.
    pub through: Version,
}

/// What is known of one table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct TableState {
    /// Of the table; the store's may be above.
    horizon: Version,
    steps: Steps,
}

/// A consumer, and from where on it holds: not above its position, which may not be durable yet.
#[derive(Clone, Debug)]
struct Holder {
    state: ConsumerState,
    from: Version,
    /// From where on it holds while it begins anew.
    resumed: Option<Version>,
}

impl Holder {
    /// From where on it holds the log.
    fn log_from(&self) -> Option<Version> {
        if self.state.holds() { Some(self.from) } else { self.resumed }
    }

    /// From where on it holds the versions of its keys.
    fn versions_from(&self) -> Option<Version> {
        if self.state.holds() { Some(self.from.max(self.state.versions_from)) } else { self.resumed }
    }
}

/// The horizon, the pins, and the policies that move the one and keep the other.
///
/// What must survive is changed in two steps: a method says which [`Change`]s are due, and refuses what would break a promise; once they
/// are durable, [`apply`](Self::apply) makes them hold. Nothing may be reclaimed by a change that is not durable yet.
///
/// ```
/// use thermocline_drop::{Authority, Moment, Pin, PinVersions, Scope};
/// use thermocline_tier::{EntryKind, KeyRange, Version};
///
/// let mut authority = Authority::default();
/// let now = Moment::from_micros(1);
/// let pin = Pin { versions: PinVersions::One(Version(3)), scope: Scope::All, created: now, lease_until: None };
/// let changes = [authority.pin("report", pin)?, authority.move_horizon(Version(10)).expect("it is above the present one")];
/// changes.iter().for_each(|change| authority.apply(change));
///
/// let rows = EntryKind::Multi;
/// assert!(authority.check_read(rows, &KeyRange::all(), Version(3)).is_ok());
/// assert!(authority.check_read(rows, &KeyRange::all(), Version(4)).is_err());
/// # Ok::<(), thermocline_tier::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Authority {
    horizon: Version,
    tables: BTreeMap<EntryKind, TableState>,
    policies: BTreeMap<PolicyScope, Retention>,
    ttls: BTreeMap<PolicyScope, Ttl>,
    /// Of each table, up to which version rows were looked at that may have expired.
    expired: BTreeMap<EntryKind, Version>,
    pins: BTreeMap<String, Pin>,
    consumers: BTreeMap<String, Holder>,
    /// What is about to be pinned: a change that makes a pin, or a consumer that holds something.
    reserved: Option<Change>,
    times: Times,
    readers: Readers,
    pending: Arc<Pending>,
    garbage_since: Option<Moment>,
    clock: Option<Reading>,
}

impl Authority {
    /// Makes a change hold that is durable.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Horizon(version) => {
                self.horizon = self.horizon.max(*version);
            }
            Change::Table { table, horizon, steps } => {
                let state = self.tables.entry(*table).or_default();
                state.horizon = state.horizon.max(*horizon);
                state.steps = Steps::new(steps.clone());
            }
            Change::Policy { scope, retention: Some(retention) } => {
                self.policies.insert(*scope, retention.clone());
            }
            Change::Policy { scope, retention: None } => {
                self.policies.remove(scope);
            }
            Change::Pin { name, pin } => {
                self.pins.insert(name.clone(), pin.clone());
            }
            Change::Release { name } => {
                self.pins.remove(name);
            }
            Change::Consumer { name, consumer } => {
                let before = self.consumers.get(name);
                let resumed = before.filter(|_| consumer.is_overtaken).and_then(|before| before.resumed);
                let before = before.filter(|before| before.state.holds() && before.state.scope == consumer.scope);
                let from = before.map_or(consumer.position, |before| before.from.min(consumer.position));
                self.consumers.insert(name.clone(), Holder { state: consumer.clone(), from, resumed });
            }
            Change::RemoveConsumer { name } => {
                self.consumers.remove(name);
            }
            Change::Time { version, moment } => self.times.note(*version, *moment),
            Change::Drop(command) => Arc::make_mut(&mut self.pending).add(command),
            Change::DropEnd(command) => Arc::make_mut(&mut self.pending).remove(command),
            // For who replays a log that brings them back.
            Change::Dropped(_) => {}
            Change::Clock(reading) => self.clock = Some(*reading),
            Change::Ttl { scope, ttl } => {
                match ttl {
                    Some(ttl) => self.ttls.insert(*scope, *ttl),
                    None => self.ttls.remove(scope),
                };
                // By another time others may have expired of those that were looked at.
                self.expired.retain(|table, _| !scope.covers(*table));
            }
            Change::Garbage(since) => self.garbage_since = *since,
            Change::Expired { table, through } => {
                let expired = self.expired.entry(*table).or_default();
                *expired = (*expired).max(*through);
            }
        }
    }

    /// The changes that make this state of nothing: what a checkpoint must hold.
    pub fn changes(&self) -> Vec<Change> {
        let times = self.times.samples().iter().map(|(version, moment)| Change::Time { version: *version, moment: *moment });
        let policies =
            self.policies.iter().map(|(scope, retention)| Change::Policy { scope: *scope, retention: Some(retention.clone()) });
        let tables = self.tables.iter().map(|(table, state)| {
            let steps = state.steps.kept().to_vec();
            Change::Table { table: *table, horizon: state.horizon, steps }
        });
        let pins = self.pins.iter().map(|(name, pin)| Change::Pin { name: name.clone(), pin: pin.clone() });
        let consumers = self.consumers.iter().map(|(name, consumer)| {
            let (name, consumer) = (name.clone(), consumer.state.clone());
            Change::Consumer { name, consumer }
        });
        let horizon = (self.horizon > Version::ZERO).then_some(Change::Horizon(self.horizon));
        let drops = self.pending.after(None).cloned().map(Change::Drop);
        let ttls = self.ttls.iter().map(|(scope, ttl)| Change::Ttl { scope: *scope, ttl: Some(*ttl) });
        let expired = self.expired.iter().map(|(table, through)| Change::Expired { table: *table, through: *through });
        let garbage = self.garbage_since.map(|since| Change::Garbage(Some(since)));
        let clock = self.clock.map(Change::Clock);
        let of_rows = ttls.chain(expired).chain(drops).chain(garbage).chain(clock);
        times.chain(policies).chain(tables).chain(pins).chain(consumers).chain(horizon).chain(of_rows).collect()
    }

    /// The commands to drop versions that wait, behind one or all, in the order of their commits.
    pub fn pending_drops(&self, after: Option<&DropCommand>) -> impl Iterator<Item = &DropCommand> {
        self.pending.after(after)
    }

    /// How many commands to drop versions wait.
    pub fn pending_drops_len(&self) -> usize {
        self.pending.len()
    }

    /// What the commands take that wait, about, in bytes.
    pub fn pending_drops_size_bytes(&self) -> usize {
        self.pending.size_bytes()
    }

    /// What pins, consumers and readers keep, whatever horizons and policies say: each version from the horizon in here on, and those that
    /// are pinned below.
    ///
    /// ```
    /// use thermocline_drop::{Authority, Retention};
    /// use thermocline_tier::{EntryKind, Version};
    ///
    /// assert!(!Authority::default().pinned().of(EntryKind::Multi, b"k").allows(Version(7)));
    /// ```
    pub fn pinned(&self) -> RetainedTables {
        let pins = Self {
            horizon: Version::MAX,
            pins: self.pins.clone(),
            consumers: self.consumers.clone(),
            reserved: self.reserved.clone(),
            readers: self.readers.clone(),
            ..Self::default()
        };
        pins.retained()
    }

    /// The version from which on every version of every table can be read, but for tables whose policy keeps less.
    pub fn horizon(&self) -> Version {
        self.horizon
    }

    /// The version from which on every version of a table can be read.
    pub fn table_horizon(&self, table: EntryKind) -> Version {
        self.tables.get(&table).map_or(self.horizon, |state| state.horizon.max(self.horizon))
    }

    /// From this version on every version of every table can be read: no read there needs asking.
    pub fn ceiling(&self) -> Version {
        self.tables.values().map(|state| state.horizon).max().unwrap_or_default().max(self.horizon)
    }

    /// The policy of a table: its own, or that of its kind, or if none was set the latest only of operators, and all of others.
    pub fn retention(&self, table: EntryKind) -> &Retention {
        let (of_kind, default) = match table {
            EntryKind::Multi => (None, &Retention::KeepAll),
            EntryKind::Source(_) => (self.policies.get(&PolicyScope::Sources), &Retention::KeepAll),
            EntryKind::Operator(_) => (self.policies.get(&PolicyScope::Operators), &Retention::LatestOnly),
        };
        self.policies.get(&PolicyScope::Table(table)).or(of_kind).unwrap_or(default)
    }

    /// When rows of a table expire: as was set for it or its kind.
    pub fn ttl(&self, table: EntryKind) -> Option<Ttl> {
        let of_kind = match table {
            EntryKind::Multi => None,
            EntryKind::Source(_) => self.ttls.get(&PolicyScope::Sources),
            EntryKind::Operator(_) => self.ttls.get(&PolicyScope::Operators),
        };
        self.ttls.get(&PolicyScope::Table(table)).or(of_kind).copied()
    }

    /// The times to live that were set.
    pub fn ttls(&self) -> impl Iterator<Item = (PolicyScope, Ttl)> {
        self.ttls.iter().map(|(scope, ttl)| (*scope, *ttl))
    }

    /// Another time to live, or with `None` that of the table's kind, or none.
    ///
    /// # Errors
    /// As [`Ttl::check`].
    pub fn set_ttl(&self, scope: PolicyScope, ttl: Option<Ttl>) -> Result<Change> {
        ttl.as_ref().map_or(Ok(()), Ttl::check)?;
        Ok(Change::Ttl { scope, ttl })
    }

    /// Of which of `tables`, in order, rows may have expired by now that were not looked at.
    pub fn expiries(&self, now: Moment, tables: &[EntryKind]) -> Vec<Expiry> {
        let expiry = |table: &EntryKind| {
            let ttl = self.ttl(*table)?;
            let after = self.expired.get(table).copied().unwrap_or_default();
            let through = self.times.version_at(now.before(ttl.after));
            (through > after).then_some(Expiry { table: *table, anchor: ttl.anchor, after, through })
        };
        tables.iter().filter_map(expiry).collect()
    }

    /// Since when something may be stored that need not be kept, as far as anybody looks.
    pub fn garbage_since(&self) -> Option<Moment> {
        self.garbage_since
    }

    /// The policies that were set.
    pub fn policies(&self) -> impl Iterator<Item = (PolicyScope, &Retention)> {
        self.policies.iter().map(|(scope, retention)| (*scope, retention))
    }

    /// The last moment that is known of: the store's time is never before.
    pub fn last_moment(&self) -> Moment {
        self.times.last()
    }

    /// What the wall clock showed when it was noted last that it had jumped.
    pub fn clock(&self) -> Option<Reading> {
        self.clock
    }

    /// The pins by name.
    pub fn pins(&self) -> impl Iterator<Item = (&str, &Pin)> {
        self.pins.iter().map(|(name, pin)| (name.as_str(), pin))
    }

    /// The consumers by name.
    pub fn consumers(&self) -> impl Iterator<Item = (&str, &ConsumerState)> {
        self.consumers.iter().map(|(name, consumer)| (name.as_str(), &consumer.state))
    }

    /// A consumer.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if there is none of that name.
    pub fn consumer(&self, name: &str) -> Result<&ConsumerState> {
        let consumer = self.consumers.get(name).map(|consumer| &consumer.state);
        consumer.ok_or_else(|| ErrorKind::NotFound { what: format!("a consumer named {name:?}") }.into())
    }

    /// The consumers that hold something, and from where on: their positions, or where those who were overtaken have begun anew.
    pub fn holding_consumers(&self) -> impl Iterator<Item = (&str, &ConsumerState, Version)> {
        self.consumers.iter().filter_map(|(name, Holder { state, resumed, .. })| {
            let from = if state.holds() { Some(state.position) } else { *resumed };
            from.map(|from| (name.as_str(), state, from))
        })
    }

    /// Has a consumer that holds something hold from `version` on also if it is overtaken, or was: until it is told to hold by a change again,
    /// or this [ends](Self::end_resumption), but not over a restart. No horizon may be above `version`.
    pub fn resume(&mut self, name: &str, version: Version) {
        if let Some(consumer) = self.consumers.get_mut(name).filter(|consumer| consumer.state.holding != Holding::Nothing) {
            consumer.resumed = Some(version);
        }
    }

    /// Ends what [`resume`](Self::resume) began; whether it had.
    pub fn end_resumption(&mut self, name: &str) -> bool {
        self.consumers.get_mut(name).is_some_and(|consumer| consumer.resumed.take().is_some())
    }

    /// The version from which on the log must stay for those consumers that hold it; `None` if none does.
    pub fn log_from(&self) -> Option<Version> {
        self.consumers.values().filter_map(Holder::log_from).min()
    }

    /// The same if a holder were not there.
    pub fn log_from_without(&self, holder: &HolderId) -> Option<Version> {
        let others = self.consumers.iter().filter(|(name, _)| !matches!(holder, HolderId::Consumer(own) if own == *name));
        others.filter_map(|(_, consumer)| consumer.log_from()).min()
    }

    /// The consumers that hold more than their positions say, with these: what is to be [settled](Self::settle) once it is durable.
    pub fn unsettled(&self) -> Vec<(String, Version)> {
        let ahead =
            self.consumers.iter().filter(|(_, consumer)| consumer.state.holds() && consumer.from < consumer.state.position);
        ahead.map(|(name, consumer)| (name.clone(), consumer.state.position)).collect()
    }

    /// Lets consumers go of what lies below positions that are durable by now.
    pub fn settle(&mut self, durable: &[(String, Version)]) {
        for (name, position) in durable {
            if let Some(consumer) = self.consumers.get_mut(name).filter(|consumer| consumer.state.position >= *position) {
                consumer.from = consumer.from.max(*position);
            }
        }
    }

    /// What pins with names and consumers keep, and of what.
    fn held(&self) -> impl Iterator<Item = (PinVersions, &Scope)> + Clone {
        let of_consumers = self.consumers.values().filter_map(|consumer| {
            let from = consumer.versions_from()?;
            Some((PinVersions::From(from), &consumer.state.scope))
        });
        let reserved = self.reserved.iter().filter_map(|change| match change {
            Change::Pin { pin, .. } => Some((pin.versions, &pin.scope)),
            Change::Consumer { consumer, .. } if consumer.holds() => {
                Some((PinVersions::From(consumer.position.max(consumer.versions_from)), &consumer.scope))
            }
            _ => None,
        });
        self.pins.values().map(|pin| (pin.versions, &pin.scope)).chain(of_consumers).chain(reserved)
    }

    /// The newest version that a reader or a pin holds, be it at or above the horizon: [`Version::MAX`] if something holds every version from
    /// one on, `None` if there is no holder.
    pub fn newest_pin(&self) -> Option<Version> {
        let held = self.held().map(|(versions, _)| versions.one().unwrap_or(Version::MAX));
        held.chain(self.readers.iter().map(|(version, ..)| version)).max()
    }

    /// What would be retained without a holder: all but what it alone keeps.
    pub fn retained_without(&self, holder: &HolderId) -> RetainedTables {
        let mut others = self.clone();
        match holder {
            HolderId::Pin(name) => drop(others.pins.remove(name)),
            HolderId::Consumer(name) => drop(others.consumers.remove(name)),
            HolderId::Reader(version, number) => others.let_go(*version, *number),
        }
        others.retained()
    }

    /// What would be retained if nobody held anything but the horizon and the policies.
    pub fn retained_by_nobody(&self) -> RetainedTables {
        let mut others = self.clone();
        others.pins.clear();
        others.consumers.clear();
        others.readers = Readers::default();
        others.retained()
    }

    /// What would be retained with the horizon at a version, or where it is if that is above.
    pub fn retained_from(&self, horizon: Version) -> RetainedTables {
        let mut others = self.clone();
        others.apply(&Change::Horizon(horizon));
        others.retained()
    }

    /// Whether time alone may call for something, with these tables: [`due`](Self::due).
    pub fn has_duties(&self, tables: &[EntryKind]) -> bool {
        let has_lease = |pin: &Pin| pin.lease_until.is_some();
        let has_steps = |state: &TableState| !state.steps.kept().is_empty();
        !self.policies.is_empty()
            || tables.iter().any(|table| *self.retention(*table) != Retention::KeepAll)
            || !self.ttls.is_empty()
            || self.pins.values().any(has_lease)
            || self.tables.values().any(has_steps)
    }

    /// Keeps what a change of [`pin`](Self::pin) or [`set_consumer`](Self::set_consumer) is going to pin, until it does, or was given up:
    /// others may let go of it meanwhile. There is one reservation at a time.
    pub fn reserve(&mut self, change: &Change) {
        self.reserved = Some(change.clone());
    }

    /// Ends what [`reserve`](Self::reserve) began.
    pub fn end_reservation(&mut self) {
        self.reserved = None;
    }

    /// The pins of readers.
    pub fn readers(&self) -> &Readers {
        &self.readers
    }

    /// What is retained of a key of a table.
    fn retained_of(&self, table: EntryKind, key: &[u8]) -> Retained {
        let own = self.tables.get(&table);
        let covering = self.held().filter(|(_, scope)| scope.covers(table, key)).map(|(versions, _)| versions);
        let from = covering.clone().filter_map(PinVersions::from);
        let one = covering.filter_map(PinVersions::one);
        let horizon = from.min().map_or(self.table_horizon(table), |from| self.table_horizon(table).min(from));
        let steps = own.into_iter().flat_map(|state| state.steps.kept()).map(|(_, version)| *version);
        let newest = self.retention(table).newest();
        Retained::new(horizon, one.chain(steps).chain(self.readers.versions(table, key))).with_newest(newest)
    }

    /// What is retained of a table.
    fn retained_of_table(&self, table: EntryKind) -> TableRetained {
        let granted = self.readers.iter().filter_map(|(_, _, reader)| reader.granted());
        let ranges = granted.flat_map(|granted| granted.parts(table)).map(|(start, _)| KeyRange::new(start..));
        let pinned = self.held().filter_map(|(_, scope)| match scope {
            Scope::Range(own, range) if *own == table && !range.is_empty() => Some(range.clone()),
            _ => None,
        });
        let ranges: Vec<KeyRange> = ranges.chain(pinned).collect();
        TableRetained::new(&ranges, |key| self.retained_of(table, key))
    }

    /// What is retained of everything: what a rewrite that begins now must keep.
    pub fn retained(&self) -> RetainedTables {
        let granted = self.readers.iter().filter_map(|(_, _, reader)| reader.granted());
        let special: BTreeSet<EntryKind> = (self.tables.keys().copied())
            .chain(self.policies.keys().filter_map(|scope| match scope {
                PolicyScope::Table(table) => Some(*table),
                _ => None,
            }))
            .chain(self.held().filter_map(|(_, scope)| scope.table()))
            .chain(granted.flat_map(|granted| granted.tables()))
            .collect();
        let everywhere = self.held().filter(|(_, scope)| **scope == Scope::All).map(|(versions, _)| versions);
        let horizon = everywhere.clone().filter_map(PinVersions::from).fold(self.horizon, Version::min);
        let one = everywhere.filter_map(PinVersions::one);
        let readers = self
            .readers
            .iter()
            .filter(|(version, _, reader)| reader.granted().is_none_or(|granted| granted.others().allows(*version)));
        let others = Retained::new(horizon, one.chain(readers.map(|(version, _, _)| version)));
        // A table of which nothing special is known may still be of a kind that keeps its newest versions.
        let newest_of = |scope| self.policies.get(&scope).map_or(0, Retention::newest);
        let mut retained = RetainedTables::new(others)
            .with_newest_of_kind(EntryKind::source(0), newest_of(PolicyScope::Sources))
            .with_newest_of_kind(EntryKind::operator(0), newest_of(PolicyScope::Operators));
        for table in special {
            retained.insert(table, self.retained_of_table(table));
        }
        retained
    }

    /// Refuses a read of keys of a table at a version that is gone.
    ///
    /// # Errors
    /// [`VersionReclaimed`](ErrorKind::VersionReclaimed).
    pub fn check_read(&self, table: EntryKind, range: &KeyRange, version: Version) -> Result<()> {
        self.check(table, range, PinVersions::One(version))
    }

    fn check(&self, table: EntryKind, range: &KeyRange, versions: PinVersions) -> Result<()> {
        let requested = versions.first();
        if requested >= self.table_horizon(table) {
            return Ok(());
        }
        let retained = self.retained_of_table(table);
        let refused = retained.overlapping(range).find(|retained| match versions {
            PinVersions::One(version) => !retained.allows(version),
            PinVersions::From(version) => version < retained.horizon(),
        });
        match refused {
            Some(retained) => Err(ErrorKind::VersionReclaimed { requested, horizon: retained.horizon() }.into()),
            None => Ok(()),
        }
    }

    /// Refuses versions of which some table of a scope has lost one.
    fn check_scope(&self, scope: &Scope, versions: PinVersions) -> Result<()> {
        let all = KeyRange::all();
        match scope {
            Scope::Table(table) => self.check(*table, &all, versions),
            Scope::Range(table, range) => self.check(*table, range, versions),
            Scope::All => {
                let others = self.retained();
                let of_others = others.others();
                let is_there = match versions {
                    PinVersions::One(version) => of_others.allows(version),
                    PinVersions::From(version) => version >= of_others.horizon(),
                };
                if !is_there {
                    let (requested, horizon) = (versions.first(), of_others.horizon());
                    return Err(ErrorKind::VersionReclaimed { requested, horizon }.into());
                }
                others.tables().try_for_each(|table| {
                    self.check(table, &all, versions).map_err(|error| error.context(format!("table {table}")))
                })
            }
        }
    }

    /// The version from which on every version of a scope is there.
    fn whole_from(&self, scope: &Scope) -> Version {
        let all = KeyRange::all();
        let of_table = |table, range: &KeyRange| {
            let retained = self.retained_of_table(table);
            retained.overlapping(range).map(Retained::horizon).max().unwrap_or_default()
        };
        match scope {
            Scope::Table(table) => of_table(*table, &all),
            Scope::Range(table, range) => of_table(*table, range),
            Scope::All => {
                let retained = self.retained();
                let of_tables = retained.tables().map(|table| of_table(table, &all)).max();
                of_tables.unwrap_or_default().max(retained.others().horizon())
            }
        }
    }

    /// A new pin, or another one in place of that of the same name.
    ///
    /// # Errors
    /// [`VersionReclaimed`](ErrorKind::VersionReclaimed) if a version that it asks for is gone; [`InvalidArgument`](ErrorKind::InvalidArgument)
    /// or [`LimitExceeded`](ErrorKind::LimitExceeded) for a name that is empty or too long.
    pub fn pin(&self, name: &str, pin: Pin) -> Result<Change> {
        check_name(name)?;
        pin.scope.check()?;
        self.check_scope(&pin.scope, pin.versions)?;
        Ok(Change::Pin { name: name.to_owned(), pin })
    }

    /// The end of a pin.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if there is none of that name.
    pub fn release(&self, name: &str) -> Result<Change> {
        if self.pins.contains_key(name) {
            Ok(Change::Release { name: name.to_owned() })
        } else {
            Err(ErrorKind::NotFound { what: format!("a pin named {name:?}") }.into())
        }
    }

    /// A new consumer, or another state of one. If versions that it is to hold are gone, it holds those above and the log alone below, unless
    /// it `needs_versions`.
    ///
    /// # Errors
    /// [`VersionReclaimed`](ErrorKind::VersionReclaimed) if it needs what is gone; else as [`pin`](Self::pin).
    pub fn set_consumer(&self, name: &str, mut consumer: ConsumerState, needs_versions: bool) -> Result<Change> {
        check_name(name)?;
        consumer.scope.check()?;
        if consumer.holds() {
            let from = consumer.position.max(consumer.versions_from);
            let is_there = self.check_scope(&consumer.scope, PinVersions::From(from));
            if needs_versions {
                is_there?;
            } else if is_there.is_err() {
                consumer.versions_from = self.whole_from(&consumer.scope);
            }
        }
        Ok(Change::Consumer { name: name.to_owned(), consumer })
    }

    /// The end of a consumer.
    ///
    /// # Errors
    /// As [`consumer`](Self::consumer).
    pub fn remove_consumer(&self, name: &str) -> Result<Change> {
        self.consumer(name)?;
        Ok(Change::RemoveConsumer { name: name.to_owned() })
    }

    /// The horizon moved forward; `None` if it is there already.
    pub fn move_horizon(&self, version: Version) -> Option<Change> {
        (version > self.horizon).then_some(Change::Horizon(version))
    }

    /// Another policy, or with `None` that of the table's kind, or of tables of which none was set.
    ///
    /// # Errors
    /// As [`Retention::check`].
    pub fn set_policy(&self, scope: PolicyScope, retention: Option<Retention>) -> Result<Change> {
        retention.as_ref().map_or(Ok(()), Retention::check)?;
        Ok(Change::Policy { scope, retention })
    }

    /// What is due at a moment: pins whose lease is over, and the horizons of `tables`, which exist, by their policies. `last` is the last
    /// version that readers can see. Empty if nothing is.
    pub fn due(&self, now: Moment, last: Version, tables: &[EntryKind]) -> Vec<Change> {
        let mut times = self.times.clone();
        times.note(last, now);
        let now = now.max(times.last());
        let is_noted = times != self.times;
        let mut changes: Vec<Change> = is_noted.then_some(Change::Time { version: last, moment: now }).into_iter().collect();
        let expired = self.pins.iter().filter(|(_, pin)| pin.is_expired(now));
        changes.extend(expired.map(|(name, _)| Change::Release { name: name.clone() }));
        for table in tables {
            let retention = self.retention(*table);
            let state = self.tables.get(table).cloned().unwrap_or_default();
            let mut next = state.clone();
            let horizon = match self.ttl(*table) {
                // What says when rows were made stays until they were looked at.
                Some(Ttl { anchor: Anchor::Created, .. }) => {
                    retention.horizon(now, last, &times).min(self.expired.get(table).copied().unwrap_or_default())
                }
                _ => retention.horizon(now, last, &times),
            };
            next.horizon = next.horizon.max(horizon);
            match retention {
                Retention::Ladder(rungs) => next.steps.advance(rungs, self.table_horizon(*table), now, &times),
                _ => next.steps = Steps::default(),
            }
            if next != state {
                changes.push(Change::Table { table: *table, horizon: next.horizon, steps: next.steps.kept().to_vec() });
            }
        }
        changes
    }

    /// Pins a version for a reader, which must [let go](Self::let_go) of it by the number that is given back. If the horizon of
    /// some table is above, the second value says what could be read before: the reader gets no more than that.
    ///
    /// # Errors
    /// [`VersionReclaimed`](ErrorKind::VersionReclaimed) if nothing says that the version can be read of some keys.
    pub fn pin_reader(
        &mut self,
        version: Version,
        holder: &'static str,
        place: &'static Location<'static>,
        now: Moment,
    ) -> Result<(u64, Option<Arc<RetainedTables>>)> {
        let granted = if version >= self.ceiling() {
            None
        } else {
            let retained = self.retained();
            if !retained.allows_some(version) {
                let horizon = retained.others().horizon();
                return Err(ErrorKind::VersionReclaimed { requested: version, horizon }.into());
            }
            Some(Arc::new(retained))
        };
        let number = self.readers.add(version, Reader::new(holder, place, now, granted.clone()));
        Ok((number, granted))
    }

    /// Pins for another reader what a live one pins; gives back its number.
    pub fn pin_again(&mut self, version: Version, number: u64) -> u64 {
        self.readers.again(version, number)
    }

    /// Refuses what would take away the state of a table that a pin below `version` reads. Consumers are not asked: each would have
    /// to be at the last commit, and nothing be committed after; they hear of it.
    ///
    /// # Errors
    /// [`Pinned`](ErrorKind::Pinned) naming the pin.
    pub fn check_no_pin_below(&self, table: EntryKind, version: Version) -> Result<()> {
        let reader = self.readers.iter().next().map(|(pinned, number, reader)| (pinned, format!("{} {number}", reader.holder)));
        let of_table = |pin: &Pin| pin.scope.table().is_none_or(|own| own == table);
        let reserved = self.reserved.iter().filter_map(|change| match change {
            Change::Pin { name, pin } => Some((name, pin)),
            _ => None,
        });
        let named = self.pins.iter().chain(reserved).filter(|(_, pin)| of_table(pin));
        let named = named.map(|(name, pin)| (pin.versions.first(), format!("{name:?}")));
        match reader.into_iter().chain(named).find(|(pinned, _)| *pinned < version) {
            Some((pinned, pin)) => Err(ErrorKind::Pinned { pin, version: pinned }.into()),
            None => Ok(()),
        }
    }

    /// The end of a reader's pin.
    pub fn let_go(&mut self, version: Version, number: u64) {
        self.readers.remove(version, number);
    }
}

#[cfg(test)]
mod tests;
