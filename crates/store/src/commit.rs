//! The way of a commit: one thread at a time leads, and carries every commit that waits through the log, the tier and
//! publication.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use parking_lot::MutexGuard;
use thermocline_tier::{EntryKind, Error, ErrorKind, Result, TierBatch, Version};
use thermocline_wal::{Durability, LogEntry};

use crate::batch::Batch;
use crate::options::{CommitOptions, OpenMode};
use crate::pins::PinTable;
use crate::store::{Inner, Store};

/// What a thread asks of the leader.
#[derive(Debug)]
pub(crate) struct Request {
    action: Action,
    /// The version asked for, and once admitted the one given.
    version: Option<Version>,
    durability: Durability,
}

#[derive(Debug)]
enum Action {
    Commit { writes: TierBatch, clears: BTreeSet<EntryKind> },
    EnsureTable(EntryKind),
    Purge(EntryKind),
    Sync,
}

/// What the leader answers: the commit's version, or the last one for requests that make none.
pub(crate) type Outcome = Result<Version>;

/// What belongs to the leader.
#[derive(Debug)]
pub(crate) struct Writer {
    /// The last version that was given out and logged.
    pub(crate) last: Version,
}

impl Inner {
    fn submit(&self, action: Action, options: CommitOptions) -> Outcome {
        self.check_open()?;
        if self.options.mode == OpenMode::ReadOnly {
            return Err(ErrorKind::Unsupported { what: "writing to a store that was opened read-only".into() }.into());
        }
        let durability = options.durability.unwrap_or(self.options.durability);
        let request = Request { action, version: options.version, durability };
        self.queue.submit(request, durability == Durability::Sync, |group| self.lead(group))
    }

    /// Carries a group through. A purge goes by itself: it may compact what memory was set aside for those behind it.
    fn lead(&self, mut group: Vec<Request>) -> Vec<Outcome> {
        let mut writer = self.writer.lock();
        let is_purge = |request: &Request| matches!(request.action, Action::Purge(_));
        let parts = group.chunk_by_mut(|before, after| !is_purge(before) && !is_purge(after));
        parts.flat_map(|part| self.lead_part(&mut writer, part)).collect()
    }

    /// Admits each request, logs all with one write, syncs once if any asks for it, applies, publishes. A request that is refused does
    /// not touch the others.
    fn lead_part(&self, writer: &mut Writer, group: &mut [Request]) -> Vec<Outcome> {
        // While a purge is under way no snapshot may pin what it removes.
        let has_purge = group.iter().any(|request| matches!(request.action, Action::Purge(_)));
        let pins = has_purge.then(|| self.pins.lock());
        let mut last = writer.last;
        let rooms = self.make_room(group);
        let admit = |(request, room): (&mut Request, Result<()>)| {
            room?;
            self.admit(request, &mut last, pins.as_ref())
        };
        let mut outcomes: Vec<Outcome> = group.iter_mut().zip(rooms).map(admit).collect();
        if let Err(error) = self.log_group(group, &outcomes) {
            for (request, outcome) in group.iter().zip(&mut outcomes).filter(|(_, outcome)| outcome.is_ok()) {
                *outcome = Err(unlogged(&error, request));
            }
            return outcomes;
        }
        writer.last = last;
        let mut applied = None;
        for (request, outcome) in group.iter().zip(&mut outcomes) {
            let Ok(version) = *outcome else { continue };
            // After one that is in the log and not in the tier, only replaying the log can help: those behind it are not applied either.
            match self.poison.check().and_then(|()| self.apply(request)) {
                Ok(()) => applied = Some(version),
                Err(error) => {
                    self.poison.set(&error);
                    *outcome = Err(Error::with_source(ErrorKind::CommitUnknown { version }, error));
                }
            }
        }
        if let Some(version) = applied {
            self.published.store(version.0, Ordering::Release);
        }
        outcomes
    }

    /// Has the tier set memory aside for the group, before anything is logged: what is in the log must fit. If not all of it does, those
    /// requests are refused that do not fit behind the ones before them.
    fn make_room(&self, group: &[Request]) -> Vec<Result<()>> {
        let all: Vec<&TierBatch> = group.iter().filter_map(Request::writes).collect();
        if self.tier.make_room(&all).is_ok() {
            return group.iter().map(|_| Ok(())).collect();
        }
        let mut fitting = Vec::new();
        let check = |request| {
            let Some(writes) = Request::writes(request) else { return Ok(()) };
            fitting.push(writes);
            self.tier.make_room(&fitting).inspect_err(|_| {
                fitting.pop();
            })
        };
        group.iter().map(check).collect()
    }

    /// Gives a request its version, or refuses it; nothing is changed then.
    fn admit(&self, request: &mut Request, last: &mut Version, pins: Option<&MutexGuard<'_, PinTable>>) -> Outcome {
        self.check_open()?;
        if let Some(cause) = self.log.poison_cause() {
            self.poison.set(cause);
        }
        self.poison.check()?;
        if matches!(request.action, Action::EnsureTable(_) | Action::Sync) {
            return Ok(*last);
        }
        let version = match request.version {
            Some(version) if version <= *last => {
                return Err(ErrorKind::VersionNotIncreasing { attempted: version, last: *last }.into());
            }
            Some(version) => version,
            None => last.next().unwrap_or(Version::MAX),
        };
        if version > Version::COMMIT_MAX {
            return Err(ErrorKind::VersionExhausted { attempted: version }.into());
        }
        if let (Action::Purge(_), Some(pins)) = (&request.action, pins) {
            pins.check_none_below(version)?;
        }
        if let Action::Commit { writes, .. } = &mut request.action {
            writes.set_version(version);
        }
        request.version = Some(version);
        *last = version;
        Ok(version)
    }

    /// Logs what was admitted, and makes it durable if anyone asked for that.
    fn log_group(&self, group: &[Request], outcomes: &[Outcome]) -> Result<()> {
        let time = self.wall_micros();
        let clears: Vec<Vec<EntryKind>> = group.iter().map(Request::clears).collect();
        let admitted = || group.iter().zip(outcomes).zip(&clears).filter(|((_, outcome), _)| outcome.is_ok());
        let mut durability = None;
        let mut entries = Vec::with_capacity(group.len());
        for ((request, _), clears) in admitted() {
            durability = durability.max(Some(request.durability));
            let version = request.version.unwrap_or_default();
            match &request.action {
                Action::Commit { writes, .. } => entries.push(LogEntry::Commit { time, batch: writes, clears }),
                Action::EnsureTable(table) => entries.push(LogEntry::EnsureTable { table: *table }),
                Action::Purge(table) => entries.push(LogEntry::PurgeTable { version, time, table: *table }),
                Action::Sync => {}
            }
        }
        let Some(durability) = durability else { return Ok(()) };
        let result = self.log.append(&entries, durability);
        if let Err(error) = &result
            && self.log.is_poisoned()
        {
            self.poison.set(error);
        }
        result
    }

    fn apply(&self, request: &Request) -> Result<()> {
        let version = request.version.unwrap_or_default();
        match &request.action {
            Action::Commit { writes, clears } => {
                for table in clears {
                    self.marks.clear(*table, version);
                }
                if writes.is_empty() { Ok(()) } else { self.tier.set(writes) }
            }
            Action::EnsureTable(table) => self.tier.ensure_table(*table),
            Action::Purge(table) => {
                self.marks.purge(*table, version);
                self.tier.clear_table(*table)
            }
            Action::Sync => Ok(()),
        }
    }

    fn wall_micros(&self) -> u64 {
        u64::try_from(self.clock.wall().as_micros()).unwrap_or(u64::MAX)
    }
}

impl Request {
    /// What the request writes to the tier, if it does.
    fn writes(&self) -> Option<&TierBatch> {
        match &self.action {
            Action::Commit { writes, .. } if !writes.is_empty() => Some(writes),
            _ => None,
        }
    }

    fn clears(&self) -> Vec<EntryKind> {
        match &self.action {
            Action::Commit { clears, .. } => clears.iter().copied().collect(),
            _ => Vec::new(),
        }
    }
}

/// What a member of a group that could not be logged is told.
fn unlogged(error: &Error, request: &Request) -> Error {
    match (error.kind(), request.version) {
        (ErrorKind::CommitUnknown { .. }, Some(version)) => {
            Error::with_source(ErrorKind::CommitUnknown { version }, error.clone())
        }
        _ => error.clone(),
    }
}

impl Store {
    /// Commits a batch at the next version, with the store's default durability. All of it becomes visible at once, to
    /// every reader, or nothing does. An empty batch advances the version.
    ///
    /// # Errors
    /// [`LimitExceeded`](ErrorKind::LimitExceeded) for a write over a limit, [`MemoryExhausted`](ErrorKind::MemoryExhausted),
    /// [`DiskFull`](ErrorKind::DiskFull), [`Io`](ErrorKind::Io), [`Poisoned`](ErrorKind::Poisoned),
    /// [`VersionExhausted`](ErrorKind::VersionExhausted), [`Closed`](ErrorKind::Closed): nothing was committed. If the process
    /// or the machine dies after an `Io` or a `DiskFull`, before another commit succeeds, opening the store again may find the batch in
    /// the log after all: whole, never a part of it.
    /// [`CommitUnknown`](ErrorKind::CommitUnknown): a sync failed; reopening the store shows whether the commit is there.
    pub fn commit(&self, batch: Batch) -> Result<Version> {
        self.commit_with(batch, CommitOptions::default())
    }

    /// Commits a batch at a version of the caller's own, which must be above the last.
    ///
    /// # Errors
    /// [`VersionNotIncreasing`](ErrorKind::VersionNotIncreasing); else as [`commit`](Self::commit).
    pub fn commit_at(&self, version: Version, batch: Batch) -> Result<Version> {
        self.commit_with(batch, CommitOptions { version: Some(version), ..CommitOptions::default() })
    }

    /// Commits a batch with options of its own.
    ///
    /// # Errors
    /// As [`commit`](Self::commit) and [`commit_at`](Self::commit_at).
    pub fn commit_with(&self, batch: Batch, options: CommitOptions) -> Result<Version> {
        let (writes, clears) = batch.into_parts()?;
        let writes = writes.finish(&*self.inner.options.layout, Version::ZERO);
        self.inner.submit(Action::Commit { writes, clears }, options)
    }

    /// Brings a table into being, so that it is listed before anything is written to it. Makes no version.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn ensure_table(&self, table: EntryKind) -> Result<()> {
        self.inner.submit(Action::EnsureTable(table), CommitOptions::default())?;
        Ok(())
    }

    /// Deletes every row of a table at a new version. Snapshots and reads of older versions still see the rows. Costs the
    /// same for any number of rows.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn clear_table(&self, table: EntryKind) -> Result<Version> {
        let mut batch = Batch::new();
        batch.clear_table(table);
        self.commit(batch)
    }

    /// Removes a table's rows with all their history, physically and at once. From then on the table is empty, and reading it
    /// at an older version fails.
    ///
    /// # Errors
    /// [`Pinned`](ErrorKind::Pinned) naming the pin, while anything pins an older version; else as [`commit`](Self::commit).
    pub fn purge_table(&self, table: EntryKind) -> Result<Version> {
        self.inner.submit(Action::Purge(table), CommitOptions::default())
    }

    /// Makes every commit so far durable, whatever durability it asked for.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn sync(&self) -> Result<()> {
        let options = CommitOptions { durability: Some(Durability::Sync), ..CommitOptions::default() };
        self.inner.submit(Action::Sync, options)?;
        Ok(())
    }
}
