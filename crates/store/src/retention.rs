//! Pins that have names, and policies of retention.

use std::time::Duration;

use thermocline_drop::{Authority, Change, Pin, PinVersions, PolicyScope, Reading, Retention, Scope};
use thermocline_tier::{EntryKind, ErrorKind, Result, Version};

use crate::store::{Core, Store};

/// What a pin with a name is to keep.
///
/// ```
/// use std::time::Duration;
/// use thermocline_store::{PinRequest, PinVersions, Scope};
/// use thermocline_tier::{EntryKind, Version};
///
/// let request = PinRequest {
///     scope: Scope::Table(EntryKind::Multi),
///     lease: Some(Duration::from_secs(3600)),
///     ..PinRequest::from(Version(7))
/// };
/// assert_eq!(request.versions, PinVersions::From(Version(7)));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinRequest {
    /// Which versions.
    pub versions: PinVersions,
    /// Of which tables or keys.
    pub scope: Scope,
    /// For how long, from now on: it ends within a second after that, or with the first [`apply_retention`](Store::apply_retention).
    /// `None`: until it is released.
    pub lease: Option<Duration>,
}

impl PinRequest {
    /// One version of all tables, until it is released.
    pub const fn one(version: Version) -> Self {
        Self { versions: PinVersions::One(version), scope: Scope::All, lease: None }
    }

    /// A version and all above, of all tables, until it is released.
    pub const fn from(version: Version) -> Self {
        Self { versions: PinVersions::From(version), scope: Scope::All, lease: None }
    }
}

/// A wall clock that has jumped by so much, or so much more or less than was noted, is noted.
const CLOCK_NOTED_MICROS: u128 = 60_000_000;

impl Core {
    /// Has a change hold durably that pins something, which cannot go meanwhile. The caller has the turn.
    pub(crate) fn note_pinning(&self, change: impl FnOnce(&Authority) -> Result<Change>) -> Result<()> {
        let change = {
            let mut authority = self.reclaim.lock();
            let change = change(&authority)?;
            authority.reserve(&change);
            change
        };
        let noted = self.note(vec![change]);
        self.reclaim.lock().end_reservation();
        noted
    }

    fn pin(&self, name: &str, request: PinRequest) -> Result<()> {
        let latest = self.latest();
        if let PinVersions::One(version) = request.versions
            && version > latest
        {
            let what = format!("pin {name:?} of version {version}, which is above the last commit {latest}");
            return Err(ErrorKind::InvalidArgument { what }.into());
        }
        let _turn = self.retention_turn.lock();
        let created = self.moment();
        let lease_until = request.lease.map(|lease| created.after(lease));
        let pin = Pin { versions: request.versions, scope: request.scope, created, lease_until };
        self.note_pinning(|authority| authority.pin(name, pin))
    }

    /// Has the policies move the horizons that are due, and ends the pins whose lease is over. Whether anything was.
    pub(crate) fn apply_retention(&self) -> Result<bool> {
        let tables = self.storage.view().tables()?;
        if !self.reclaim.read().has_duties(&tables) {
            return Ok(false);
        }
        let _turn = self.retention_turn.lock();
        let (reading, noted) = (self.reading(), self.reclaim.read().clock());
        let mut changes = self.reclaim.read().due(reading.moment, self.latest(), &tables);
        // How far the wall clock has jumped must outlive the process.
        if reading.ahead().abs_diff(noted.map_or(0, Reading::ahead)) >= CLOCK_NOTED_MICROS {
            changes.push(Change::Clock(reading));
        }
        let moves = |change: &Change| !matches!(change, Change::Time { .. } | Change::Clock(_));
        if changes.is_empty() {
            return Ok(false);
        }
        let has_moved = changes.iter().any(moves);
        self.note(changes.clone())?;
        for change in changes {
            match change {
                Change::Release { name } => tracing::info!(pin = name, "the lease of a pin is over"),
                Change::Table { table, horizon, .. } => tracing::debug!(%table, %horizon, "a policy has moved a horizon"),
                _ => {}
            }
        }
        if has_moved {
            self.marks.thin(&self.reclaim.read().retained());
            self.storage.signals.ring();
        }
        Ok(has_moved)
    }
}

impl Store {
    /// Pins a version of all tables under a name, durably: it can be read until the pin is [released](Self::release_pin), also after
    /// restarts. A pin of the same name is replaced.
    ///
    /// ```
    /// # let store = thermocline::Store::in_memory()?;
    /// let now = store.snapshot()?;
    /// store.pin("nightly report", now.version())?;
    /// assert_eq!(store.pins()[0].0, "nightly report");
    /// store.release_pin("nightly report")?;
    /// assert!(store.pins().is_empty());
    /// # Ok::<(), thermocline_tier::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`pin_with`](Self::pin_with).
    pub fn pin(&self, name: &str, version: Version) -> Result<()> {
        self.pin_with(name, PinRequest::one(version))
    }

    /// Pins versions under a name, durably. A pin of the same name is replaced, which is how a lease is renewed.
    ///
    /// What is asked for must be there, of each table that it is about: of all tables that is so for no version below the horizon of
    /// any, such as those of operators, which [keep the latest only](Self::set_retention) of themselves. Whoever pins the latest of all while
    /// others commit does so while a snapshot of it lives.
    ///
    /// # Errors
    /// [`VersionReclaimed`](ErrorKind::VersionReclaimed) if some of what is asked for is gone; [`InvalidArgument`](ErrorKind::InvalidArgument)
    /// for an empty name, or one version above the last commit; [`LimitExceeded`](ErrorKind::LimitExceeded) for a name of more than 255
    /// bytes; else as [`commit`](Self::commit).
    pub fn pin_with(&self, name: &str, request: PinRequest) -> Result<()> {
        self.inner.check_writable()?;
        self.inner.pin(name, request)
    }

    /// Ends a pin.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if there is none of that name; else as [`commit`](Self::commit).
    pub fn release_pin(&self, name: &str) -> Result<()> {
        self.inner.check_writable()?;
        let _turn = self.inner.retention_turn.lock();
        let change = self.inner.reclaim.read().release(name)?;
        self.inner.note(vec![change])?;
        self.inner.storage.signals.ring();
        Ok(())
    }

    /// The pins that have names, in the order of these. [`StoreStats::pins`](crate::StoreStats::pins) has those of readers too.
    pub fn pins(&self) -> Vec<(String, Pin)> {
        self.inner.reclaim.read().pins().map(|(name, pin)| (name.to_owned(), pin.clone())).collect()
    }

    /// Sets the policy of a table, or of all tables of a kind that have none of their own; `None` takes it away. Tables of operators of which
    /// none was set keep the [latest only](Retention::LatestOnly), all others [everything](Retention::KeepAll). Durable when this
    /// returns; it takes effect within a second, or with [`apply_retention`](Self::apply_retention). Ages count from when the first
    /// policy was set: what was committed before is as old as that.
    ///
    /// ```
    /// # let store = thermocline::Store::in_memory()?;
    /// use thermocline_store::{PolicyScope, Retention};
    /// use thermocline_tier::EntryKind;
    ///
    /// assert_eq!(store.retention(EntryKind::operator(3)), Retention::LatestOnly);
    /// assert_eq!(store.retention(EntryKind::source(3)), Retention::KeepAll);
    /// store.set_retention(PolicyScope::Operators, Some(Retention::NewestVersions(3)))?;
    /// assert_eq!(store.retention(EntryKind::operator(3)), Retention::NewestVersions(3));
    /// # Ok::<(), thermocline_tier::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) naming what is wrong with the policy; else as [`commit`](Self::commit).
    pub fn set_retention(&self, scope: PolicyScope, retention: Option<Retention>) -> Result<()> {
        self.inner.check_writable()?;
        let _turn = self.inner.retention_turn.lock();
        let change = self.inner.reclaim.read().set_policy(scope, retention)?;
        self.inner.note(vec![change.clone()])?;
        tracing::info!(?change, "a policy of retention is set");
        Ok(())
    }

    /// The policy of a table: its own, that of its kind, or what tables of the kind keep of which [none was set](Self::set_retention).
    pub fn retention(&self, table: EntryKind) -> Retention {
        self.inner.reclaim.read().retention(table).clone()
    }

    /// The policies that were set.
    pub fn retentions(&self) -> Vec<(PolicyScope, Retention)> {
        self.inner.reclaim.read().policies().map(|(scope, retention)| (scope, retention.clone())).collect()
    }

    /// The version from which on every version of a table can be read: that of the [store](Self::horizon), or one above that the table's
    /// policy has moved.
    pub fn table_horizon(&self, table: EntryKind) -> Version {
        self.inner.reclaim.read().table_horizon(table)
    }

    /// Moves the horizons of tables to where their policies have them now, durably, and ends the pins whose lease is over: what a thread
    /// does every second by itself, or [`run_until_idle`](Self::run_until_idle). What no allowed
    /// read can see is removed with later flushes and rewrites, or without a durable tier by sweeping memory. Whether anything moved.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn apply_retention(&self) -> Result<bool> {
        self.inner.check_writable()?;
        self.inner.apply_retention()
    }
}
