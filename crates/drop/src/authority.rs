//! The one authority that says what may be reclaimed.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::Location;
use std::sync::Arc;

use thermocline_tier::{EntryKind, ErrorKind, KeyRange, Result, Retained, RetainedTables, TableRetained, Version};

use crate::change::Change;
use crate::consumers::ConsumerState;
use crate::pending::{DropCommand, Pending};
use crate::pins::{Pin, PinVersions, Reader, Readers, Scope, check_name};
use crate::retention::{Retention, Steps};
use crate::times::{Moment, Times};

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
    pins: BTreeMap<String, Pin>,
    consumers: BTreeMap<String, Holder>,
    /// What is about to be pinned: a change that makes a pin, or a consumer that holds something.
    reserved: Option<Change>,
    times: Times,
    readers: Readers,
    pending: Pending,
}

impl Authority {
    /// Makes a change hold that is durable.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Horizon(version) => {
                self.horizon = self.horizon.max(*version);
                // No policy can ask for what lies below.
                self.times.forget_below(self.horizon);
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
                let before =
                    self.consumers.get(name).filter(|before| before.state.holds() && before.state.scope == consumer.scope);
                let from = before.map_or(consumer.position, |before| before.from.min(consumer.position));
                self.consumers.insert(name.clone(), Holder { state: consumer.clone(), from });
            }
            Change::RemoveConsumer { name } => {
                self.consumers.remove(name);
            }
            Change::Time { version, moment } => self.times.note(*version, *moment),
            Change::Drop(command) => self.pending.add(command),
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
        times.chain(policies).chain(tables).chain(pins).chain(consumers).chain(horizon).chain(drops).collect()
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

    /// A command to drop versions was carried out. No change says so: to carry it out again drops nothing.
    pub fn end_drop(&mut self, command: &DropCommand) {
        self.pending.remove(command);
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

    /// The policy of a table.
    pub fn retention(&self, table: EntryKind) -> &Retention {
        const KEEP_ALL: &Retention = &Retention::KeepAll;
        let of_kind = match table {
            EntryKind::Multi => None,
            EntryKind::Source(_) => self.policies.get(&PolicyScope::Sources),
            EntryKind::Operator(_) => self.policies.get(&PolicyScope::Operators),
        };
        self.policies.get(&PolicyScope::Table(table)).or(of_kind).unwrap_or(KEEP_ALL)
    }

    /// The policies that were set.
    pub fn policies(&self) -> impl Iterator<Item = (PolicyScope, &Retention)> {
        self.policies.iter().map(|(scope, retention)| (*scope, retention))
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

    /// The version from which on the log must stay for those consumers that hold it; `None` if none does.
    pub fn log_from(&self) -> Option<Version> {
        self.consumers.values().filter(|consumer| consumer.state.holds()).map(|consumer| consumer.from).min()
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
        let consumers = self.consumers.values().filter(|consumer| consumer.state.holds());
        let of_consumers = consumers.map(|consumer| (PinVersions::From(consumer.from), &consumer.state.scope));
        let reserved = self.reserved.iter().filter_map(|change| match change {
            Change::Pin { pin, .. } => Some((pin.versions, &pin.scope)),
            Change::Consumer { consumer, .. } if consumer.holds() => {
                Some((PinVersions::From(consumer.position), &consumer.scope))
            }
            _ => None,
        });
        self.pins.values().map(|pin| (pin.versions, &pin.scope)).chain(of_consumers).chain(reserved)
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

    /// Whether time alone may call for something: [`due`](Self::due).
    pub fn has_duties(&self) -> bool {
        let has_lease = |pin: &Pin| pin.lease_until.is_some();
        let has_steps = |state: &TableState| !state.steps.kept().is_empty();
        !self.policies.is_empty() || self.pins.values().any(has_lease) || self.tables.values().any(has_steps)
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
        // A table of which nothing special is known may still be of a kind that keeps its newest versions.
        let newest = self.policies.values().map(Retention::newest).max().unwrap_or_default();
        let granted = self.readers.iter().filter_map(|(_, _, reader)| reader.granted());
        let special: BTreeSet<EntryKind> = (self.tables.keys().copied())
            .chain(self.policies.keys().filter_map(|scope| match scope {
                PolicyScope::Table(table) => Some(*table),
                _ => None,
            }))
            .chain(self.held().filter_map(|(_, scope)| scope.table()))
            .chain(granted.flat_map(|granted| granted.tables()))
            .chain((newest > 0).then_some(EntryKind::Multi))
            .collect();
        let everywhere = self.held().filter(|(_, scope)| **scope == Scope::All).map(|(versions, _)| versions);
        let horizon = everywhere.clone().filter_map(PinVersions::from).fold(self.horizon, Version::min);
        let one = everywhere.filter_map(PinVersions::one);
        let readers = self
            .readers
            .iter()
            .filter(|(version, _, reader)| reader.granted().is_none_or(|granted| granted.others().allows(*version)));
        let others = Retained::new(horizon, one.chain(readers.map(|(version, _, _)| version))).with_newest(newest);
        let mut retained = RetainedTables::new(others);
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

    /// A new pin, or another one in place of that of the same name.
    ///
    /// # Errors
    /// [`VersionReclaimed`](ErrorKind::VersionReclaimed) if a version that it asks for is gone; [`InvalidArgument`](ErrorKind::InvalidArgument)
    /// or [`LimitExceeded`](ErrorKind::LimitExceeded) for a name that is empty or too long.
    pub fn pin(&self, name: &str, pin: Pin) -> Result<Change> {
        check_name(name)?;
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

    /// A new consumer, or another state of one.
    ///
    /// # Errors
    /// [`VersionReclaimed`](ErrorKind::VersionReclaimed) if it holds what is gone; else as [`pin`](Self::pin).
    pub fn set_consumer(&self, name: &str, consumer: ConsumerState) -> Result<Change> {
        check_name(name)?;
        if consumer.holds() {
            self.check_scope(&consumer.scope, PinVersions::From(consumer.position))?;
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
            next.horizon = next.horizon.max(retention.horizon(now, last, &times));
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
    /// [`VersionReclaimed`](ErrorKind::VersionReclaimed) if nothing says that the version can be read of all tables that keep all.
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
            if !retained.others().allows(version) {
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
mod tests {
    use std::time::Duration;

    use super::*;

    const ROWS: EntryKind = EntryKind::source(7);
    const OTHERS: EntryKind = EntryKind::Multi;

    fn pin(versions: PinVersions, scope: Scope) -> Pin {
        Pin { versions, scope, created: Moment::default(), lease_until: None }
    }

    fn with(pins: &[(&str, Pin)], horizon: u64) -> Authority {
        let mut authority = Authority::default();
        for (name, pin) in pins {
            let change = authority.pin(name, pin.clone()).unwrap();
            authority.apply(&change);
        }
        authority.apply(&Change::Horizon(Version(horizon)));
        authority
    }

    fn readable(authority: &Authority, table: EntryKind, key: &str) -> Vec<u64> {
        let is_readable = |version: &u64| authority.check_read(table, &KeyRange::new(key..=key), Version(*version)).is_ok();
        (0..12).filter(is_readable).collect()
    }

    #[test]
    fn pin_of_a_table_or_a_range_keeps_no_other() {
        let range = KeyRange::new("b".."d");
        let pins = [
            ("one", pin(PinVersions::One(Version(3)), Scope::Table(ROWS))),
            ("from", pin(PinVersions::From(Version(7)), Scope::Range(ROWS, range.clone()))),
        ];
        let authority = with(&pins, 10);
        assert_eq!(readable(&authority, ROWS, "a"), [3, 10, 11]);
        assert_eq!(readable(&authority, ROWS, "c"), [3, 7, 8, 9, 10, 11]);
        assert_eq!(readable(&authority, OTHERS, "c"), [10, 11]);
        assert!(authority.check_read(ROWS, &range, Version(8)).is_ok());
        assert!(authority.check_read(ROWS, &KeyRange::all(), Version(8)).is_err());
        assert!(authority.check_read(ROWS, &KeyRange::all(), Version(3)).is_ok());
        assert_eq!(*authority.retained().of(OTHERS, b"c"), Retained::new(Version(10), []));
    }

    #[test]
    fn what_is_gone_cannot_be_pinned_and_is_named() {
        let mut authority = with(&[("old", pin(PinVersions::From(Version(5)), Scope::Table(ROWS)))], 10);
        let refused =
            |authority: &Authority, versions, scope| authority.pin("new", pin(versions, scope)).unwrap_err().to_string();
        let gone = "version 6 was reclaimed: reads are possible from version 10 on";
        assert_eq!(refused(&authority, PinVersions::One(Version(6)), Scope::All), gone);
        assert_eq!(refused(&authority, PinVersions::From(Version(6)), Scope::Table(OTHERS)), gone);
        assert!(authority.pin("new", pin(PinVersions::From(Version(6)), Scope::Table(ROWS))).is_ok());
        assert!(refused(&authority, PinVersions::From(Version(4)), Scope::Table(ROWS)).contains("from version 5 on"));
        // A table whose policy keeps less than the others is named.
        authority.apply(&Change::Table { table: OTHERS, horizon: Version(11), steps: vec![] });
        assert!(refused(&authority, PinVersions::One(Version(10)), Scope::All).starts_with("table multi: "));
        assert!(authority.pin("", pin(PinVersions::One(Version(11)), Scope::All)).is_err());
        assert!(authority.pin(&"x".repeat(256), pin(PinVersions::One(Version(11)), Scope::All)).is_err());
        assert!(authority.release("nobody").unwrap_err().to_string().contains("nobody"));
    }

    #[test]
    fn newest_versions_of_a_kind_are_kept_when_the_horizon_of_the_store_moves_first() {
        let mut authority = with(&[], 0);
        let change = authority.set_policy(PolicyScope::Sources, Some(Retention::NewestVersions(3))).unwrap();
        authority.apply(&change);
        authority.apply(&Change::Horizon(Version(9)));
        let retained = authority.retained();
        let keeps = |table, position| retained.of(table, b"k").keeps(Version(5), Some(Version(6)), position);
        assert!(keeps(ROWS, 2) && !keeps(ROWS, 3));
        assert!(!keeps(OTHERS, 2), "no source");
    }

    #[test]
    fn reader_below_the_horizon_of_a_table_reads_the_others_only() {
        let mut authority = with(&[], 5);
        authority.apply(&Change::Table { table: ROWS, horizon: Version(9), steps: vec![] });
        let mut at = |version| authority.pin_reader(Version(version), "snapshot", Location::caller(), Moment::default());
        assert!(at(4).is_err());
        assert!(at(9).unwrap().1.is_none());
        let (number, granted) = at(7).unwrap();
        let granted = granted.unwrap();
        assert!(granted.check_read(OTHERS, &KeyRange::all(), Version(7)).is_ok());
        assert!(granted.check_read(ROWS, &KeyRange::all(), Version(7)).is_err());
        authority.apply(&Change::Horizon(Version(10)));
        assert_eq!(readable(&authority, OTHERS, "k"), [7, 9, 10, 11]);
        assert_eq!(readable(&authority, ROWS, "k"), [9, 10, 11]);
        authority.let_go(Version(7), number);
        assert_eq!(readable(&authority, OTHERS, "k"), [9, 10, 11]);
    }

    #[test]
    fn consumer_holds_from_where_it_was_until_its_position_is_durable() {
        let mut authority = Authority::default();
        let put = |authority: &mut Authority, position, scope: Scope| {
            let (position, since) = (Version(position), Moment::default());
            let state = ConsumerState { position, scope, holding: crate::Holding::All, is_overtaken: false, since };
            let change = authority.set_consumer("view", state).unwrap();
            authority.apply(&change);
        };
        put(&mut authority, 3, Scope::Table(ROWS));
        assert_eq!((authority.unsettled(), authority.log_from()), (vec![], Some(Version(3))));
        authority.apply(&Change::Horizon(Version(10)));
        put(&mut authority, 6, Scope::Table(ROWS));
        let noted = authority.unsettled();
        put(&mut authority, 8, Scope::Table(ROWS));
        assert_eq!((authority.log_from(), readable(&authority, ROWS, "k")), (Some(Version(3)), (3..12).collect()));
        authority.settle(&noted);
        assert_eq!((authority.log_from(), readable(&authority, ROWS, "k")), (Some(Version(6)), (6..12).collect()));
        authority.settle(&authority.unsettled());
        assert_eq!((authority.unsettled(), readable(&authority, ROWS, "k")), (vec![], (8..12).collect()));
        // What was held of one table says nothing of another.
        put(&mut authority, 11, Scope::Table(OTHERS));
        assert_eq!((readable(&authority, ROWS, "k"), readable(&authority, OTHERS, "k")), (vec![10, 11], vec![10, 11]));
        assert_eq!(authority.log_from(), Some(Version(11)));
    }

    #[test]
    fn what_is_about_to_be_pinned_stays_when_the_reader_that_pinned_it_goes() {
        let mut authority = Authority::default();
        let (number, _) = authority.pin_reader(Version(3), "snapshot", Location::caller(), Moment::default()).unwrap();
        authority.apply(&Change::Horizon(Version(10)));
        let change = authority.pin("report", pin(PinVersions::One(Version(3)), Scope::Table(ROWS))).unwrap();
        authority.reserve(&change);
        authority.let_go(Version(3), number);
        assert_eq!(readable(&authority, ROWS, "k"), [3, 10, 11]);
        assert_eq!(readable(&authority, OTHERS, "k"), [10, 11]);
        // Nor is it purged meanwhile.
        assert!(authority.check_no_pin_below(ROWS, Version(12)).unwrap_err().to_string().contains("\"report\""));
        assert!(authority.check_no_pin_below(OTHERS, Version(12)).is_ok());
        authority.apply(&change);
        authority.end_reservation();
        assert_eq!(readable(&authority, ROWS, "k"), [3, 10, 11]);

        let refused = authority.pin("another", pin(PinVersions::One(Version(4)), Scope::Table(ROWS)));
        assert!(refused.is_err());
        authority.reserve(&Change::Release { name: "report".into() });
        authority.apply(&authority.release("report").unwrap());
        assert_eq!(readable(&authority, ROWS, "k"), [10, 11]);
    }

    #[test]
    fn removal_of_a_table_is_refused_while_it_is_pinned_below() {
        let mut authority = with(&[("report", pin(PinVersions::From(Version(5)), Scope::Table(ROWS)))], 0);
        let refused =
            |authority: &Authority, table| authority.check_no_pin_below(table, Version(9)).map_err(|error| error.to_string());
        assert_eq!(refused(&authority, ROWS), Err("version 5 is pinned by \"report\"".into()));
        assert_eq!(refused(&authority, OTHERS), Ok(()));
        let (number, _) = authority.pin_reader(Version(8), "diff", Location::caller(), Moment::default()).unwrap();
        assert_eq!(refused(&authority, OTHERS), Err("version 8 is pinned by diff 1".into()));
        authority.let_go(Version(8), number);
        authority.pin_reader(Version(9), "diff", Location::caller(), Moment::default()).unwrap();
        assert_eq!(refused(&authority, OTHERS), Ok(()));
    }

    #[test]
    fn leases_end_and_policies_move_horizons_when_they_are_due() {
        let second = Duration::from_secs(1);
        let now = |seconds: u32| Moment::default().after(second * seconds);
        let lease = Pin { lease_until: Some(now(3)), ..pin(PinVersions::One(Version(1)), Scope::All) };
        let mut authority = with(&[("lease", lease)], 0);
        for (scope, retention) in
            [(PolicyScope::Operators, Retention::LatestOnly), (PolicyScope::Table(ROWS), Retention::Age(2 * second))]
        {
            let change = authority.set_policy(scope, Some(retention)).unwrap();
            authority.apply(&change);
        }
        let tables = [OTHERS, ROWS, EntryKind::operator(1)];
        let mut horizons = Vec::new();
        for seconds in 1..=6 {
            let changes = authority.due(now(seconds), Version(u64::from(seconds) * 10), &tables);
            for change in &changes {
                authority.apply(change);
            }
            horizons.push(tables.map(|table| authority.table_horizon(table).0));
            assert_eq!(authority.pins().count(), usize::from(seconds <= 3));
        }
        assert_eq!(horizons, [[0, 0, 10], [0, 0, 20], [0, 10, 30], [0, 20, 40], [0, 30, 50], [0, 40, 60]]);
        // A clock that has run backwards makes nothing older.
        assert_eq!(authority.due(now(1), Version(60), &tables), []);
    }
}
