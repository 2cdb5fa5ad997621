//! The way of a commit: one thread at a time leads, and carries every commit that waits through the log, the tier and
//! publication.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use thermocline_drop::{Authority, Change, DropCommand, Moment, Reading, encode};
use thermocline_migration::check_not_in_hook;
use thermocline_tier::{EntryKind, Error, ErrorKind, Result, TierBatch, Version};
use thermocline_wal::{Durability, LogBase, LogEntry};

use crate::batch::{Batch, Parts};
use crate::drops;
use crate::expiry::ExpiredRows;
use crate::options::{CommitOptions, OpenMode};
use crate::storage::{Storage, Unpurged};
use crate::store::{Core, Store};

/// What a record takes in the log beside the writes, about, in bytes.
const RECORD_OVERHEAD_BYTES: u64 = 64;
/// A table is sealed, however little it holds, when the log since the last seal has become so many times its budget,
const LOG_PER_BUDGET: u64 = 4;
/// or so many times this if the budget is smaller, in bytes.
const LOG_BUDGET_MIN_BYTES: u64 = 16 << 20;

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
    Commit {
        writes: TierBatch,
        clears: BTreeSet<EntryKind>,
        drops: Vec<DropCommand>,
    },
    /// Becomes a commit that deletes those rows of a table that are still the same.
    Expire(ExpiredRows),
    EnsureTable(EntryKind),
    /// Changes of what is retained.
    Note(Vec<Change>),
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
    /// The last version that some checkpoint covers, or will once a table that is sealed is flushed.
    pub(crate) covered: Version,
    /// How much was logged since the last seal, about, in bytes.
    logged_bytes: u64,
    /// Requests that are in the log, durably, and that the durable tier had no room for when it should have taken them. They have
    /// been answered, with an error; they are applied before anything else is.
    late: Vec<Request>,
}

impl Writer {
    pub(crate) fn new(last: Version, covered: Version) -> Self {
        Self { last, covered, logged_bytes: 0, late: Vec::new() }
    }
}

impl Core {
    /// Logs changes of what is retained, and then makes them hold: durably, unless they only say when versions were committed.
    pub(crate) fn note(&self, changes: Vec<Change>) -> Result<()> {
        let is_time = changes.iter().all(|change| matches!(change, Change::Time { .. } | Change::Clock(_)));
        self.note_as(changes, if is_time { Durability::Buffered } else { Durability::Sync })
    }

    /// The same, as durably as it is said.
    pub(crate) fn note_as(&self, changes: Vec<Change>, durability: Durability) -> Result<()> {
        let options = CommitOptions { durability: Some(durability), ..CommitOptions::default() };
        self.submit(Action::Note(changes), options).map(drop)
    }

    /// Deletes expired rows, unless they have changed meanwhile.
    pub(crate) fn delete_expired(&self, rows: ExpiredRows) -> Result<()> {
        let options = CommitOptions { durability: Some(Durability::Memory), ..CommitOptions::default() };
        self.submit(Action::Expire(rows), options).map(drop)
    }

    fn submit(&self, action: Action, options: CommitOptions) -> Outcome {
        check_not_in_hook("a commit")?;
        self.check_open()?;
        if self.options.mode == OpenMode::ReadOnly {
            return Err(ErrorKind::Unsupported { what: "writing to a store that was opened read-only".into() }.into());
        }
        if let Action::Commit { writes, drops, .. } = &action {
            if !writes.is_empty() {
                self.wait_for_room(writes.size_bytes())?;
            }
            if !drops.is_empty() {
                self.make_room_for_drops(drops)?;
            }
        }
        let durability = self.durability_of(&action, options);
        let request = Request { action, version: options.version, durability };
        self.queue.submit(request, durability == Durability::Sync, |group| self.lead(group))
    }

    /// What touches a durable tier at once must be durable in the log before: after a crash, the tier must not be ahead of the log.
    fn durability_of(&self, action: &Action, options: CommitOptions) -> Durability {
        let view = self.storage.view();
        let is_direct = match action {
            Action::Purge(_) => view.durable.is_some(),
            _ => view.durable.is_some() && view.active.is_none(),
        };
        if is_direct { Durability::Sync } else { options.durability.unwrap_or(self.options.durability) }
    }

    /// Carries a group through. A purge goes by itself: it may compact what memory was set aside for those behind it. So does what looks at
    /// the state that it changes.
    fn lead(&self, mut group: Vec<Request>) -> Vec<Outcome> {
        let mut writer = self.writer.lock();
        let is_alone = |request: &Request| matches!(request.action, Action::Purge(_) | Action::Expire(..));
        let parts = group.chunk_by_mut(|before, after| !is_alone(before) && !is_alone(after));
        parts.flat_map(|part| self.lead_part(&mut writer, part)).collect()
    }

    /// Admits each request, logs all with one write, syncs once if any asks for it, applies, publishes. A request that is refused
    /// does not touch the others.
    fn lead_part(&self, writer: &mut Writer, group: &mut [Request]) -> Vec<Outcome> {
        let ready = self.apply_late(writer).and_then(|()| self.seal_if_full(writer));
        if let Err(error) = ready.and_then(|()| group.iter_mut().try_for_each(|request| self.resolve_expiry(request))) {
            return group.iter().map(|_| Err(error.clone())).collect();
        }
        // While a purge is under way nothing moves between the tiers, and no snapshot may pin what it removes.
        let has_purge = group.iter().any(|request| matches!(request.action, Action::Purge(_)));
        let mut unpurged = has_purge.then(|| self.storage.hold_moves());
        let pins = has_purge.then(|| self.reclaim.hold());
        let mut last = writer.last;
        let rooms = self.make_room(group);
        let admit = |(request, room): (&mut Request, Result<()>)| {
            room?;
            self.admit(request, &mut last, pins.as_deref())
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
        for (request, outcome) in group.iter_mut().zip(&mut outcomes) {
            let Ok(version) = *outcome else { continue };
            writer.logged_bytes += request.logged_bytes();
            // After one that is in the log and not in the tier, those behind it are not applied either.
            let is_behind = !writer.late.is_empty();
            let result = self.storage.poison.check().and_then(|()| {
                // What is retained needs no tier, and must hold before what it retains can go.
                let must_wait = is_behind && !matches!(request.action, Action::Note(_));
                if must_wait { Err(ErrorKind::DiskFull.into()) } else { self.apply(request, unpurged.as_deref_mut()) }
            });
            match result {
                // A note behind one that is not in the tier has that one's version, or a later one.
                Ok(()) if is_behind => {}
                Ok(()) => applied = Some(version),
                Err(error) => {
                    self.storage.heed(&error);
                    if matches!(error.kind(), ErrorKind::DiskFull | ErrorKind::Io) {
                        writer.late.push(request.take());
                    } else {
                        // Only replaying the log can help.
                        self.storage.poison.set(&error);
                    }
                    *outcome = Err(Error::with_source(ErrorKind::CommitUnknown { version }, error));
                }
            }
        }
        if let Some(version) = applied {
            self.publish(version);
        }
        outcomes
    }

    /// Makes a commit of what deletes expired rows, or nothing if none are left.
    fn resolve_expiry(&self, request: &mut Request) -> Result<()> {
        if let Action::Expire(rows) = &request.action {
            let writes = self.expired_batch(rows)?;
            request.action = if writes.is_empty() {
                Action::Sync
            } else {
                let writes = writes.finish(&*self.options.layout, Version::ZERO);
                Action::Commit { writes, clears: BTreeSet::new(), drops: Vec::new() }
            };
        }
        Ok(())
    }

    /// Applies what the durable tier had no room for, in order.
    pub(crate) fn apply_late(&self, writer: &mut Writer) -> Result<()> {
        while let Some(request) = writer.late.first() {
            self.apply(request, None)?;
            let version = request.version;
            writer.late.remove(0);
            if let Some(version) = version {
                self.publish(version);
            }
        }
        Ok(())
    }

    /// Lets readers see everything up to a version.
    fn publish(&self, version: Version) {
        self.published.store(version.0, Ordering::Release);
        self.consumers.wake();
    }

    /// Seals the table that takes the writes if it has outgrown its budget, or the log since the last seal is long; but not while
    /// too many wait to be flushed: then it takes what comes, which is little, since writers wait.
    fn seal_if_full(&self, writer: &mut Writer) -> Result<()> {
        let Some(budget) = self.storage.hot_budget_bytes else { return Ok(()) };
        let is_due = {
            let view = self.storage.view();
            let log_max = match view.active {
                Some(_) => budget.max(LOG_BUDGET_MIN_BYTES).saturating_mul(LOG_PER_BUDGET),
                None => budget,
            };
            let is_log_long = writer.logged_bytes >= log_max && writer.last > writer.covered;
            view.durable.is_some()
                && view.sealed.len() < self.storage.sealed_tables_max
                && (Storage::is_full(&view, budget) || is_log_long)
        };
        if is_due { self.seal(writer) } else { Ok(()) }
    }

    /// Puts a fresh table above the one that takes the writes.
    pub(crate) fn seal(&self, writer: &mut Writer) -> Result<()> {
        let log = &self.storage.log;
        match self.overtake_as_leader().and_then(|()| log.rotate()) {
            // With the segments before the new one all notes are durable.
            Ok(()) => self.reclaim.settle(),
            Err(error) if log.is_poisoned() => {
                // What is not known concerns earlier commits, not what was to come.
                self.storage.poison.set(&error);
                return self.storage.poison.check();
            }
            // The checkpoint covers what it covers; only the log stays longer.
            Err(error) => tracing::warn!(%error, "could not begin another log segment"),
        }
        // From one moment: what the checkpoint says of consumers, and the log that it keeps for them.
        let authority = self.reclaim.read();
        let (base, retention) = (self.log_base(authority.log_from()), authority.changes());
        drop(authority);
        self.storage.seal(writer.last, Some(base), &self.marks, retention);
        writer.covered = writer.last;
        writer.logged_bytes = 0;
        Ok(())
    }

    /// Where the log may begin from now on if consumers hold it from a version on.
    pub(crate) fn log_base(&self, held_from: Option<Version>) -> LogBase {
        let log = &self.storage.log;
        let held_bytes = held_from.map_or(0, |from| log.bytes_above(from));
        log.base(self.options.log_keep_bytes.max(held_bytes))
    }

    /// Has the tier set memory aside for the group, before anything is logged: what is in the log must fit. If not all of it does,
    /// those requests are refused that do not fit behind the ones before them.
    fn make_room(&self, group: &[Request]) -> Vec<Result<()>> {
        let all: Vec<&TierBatch> = group.iter().filter_map(Request::writes).collect();
        let view = self.storage.view();
        if view.make_room(&all).is_ok() {
            return group.iter().map(|_| Ok(())).collect();
        }
        let mut fitting = Vec::new();
        let check = |request| {
            let Some(writes) = Request::writes(request) else { return Ok(()) };
            fitting.push(writes);
            view.make_room(&fitting).inspect_err(|_| {
                fitting.pop();
            })
        };
        group.iter().map(check).collect()
    }

    /// Gives a request its version, or refuses it; nothing is changed then.
    fn admit(&self, request: &mut Request, last: &mut Version, pins: Option<&Authority>) -> Outcome {
        self.check_open()?;
        self.storage.check_poison()?;
        if matches!(request.action, Action::EnsureTable(_) | Action::Note(_) | Action::Sync) {
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
        if let (Action::Purge(table), Some(pins)) = (&request.action, pins) {
            pins.check_no_pin_below(*table, version)?;
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
        let time = self.reading().wall.as_micros();
        let clears: Vec<Vec<EntryKind>> = group.iter().map(Request::clears).collect();
        let notes: Vec<Vec<u8>> = group.iter().map(Request::note).collect();
        let parts = clears.iter().zip(&notes);
        let admitted = || group.iter().zip(outcomes).zip(parts.clone()).filter(|((_, outcome), _)| outcome.is_ok());
        let mut durability = None;
        let mut entries = Vec::with_capacity(group.len());
        for ((request, _), (clears, note)) in admitted() {
            durability = durability.max(Some(request.durability));
            let version = request.version.unwrap_or_default();
            match &request.action {
                Action::Commit { writes, drops, .. } => {
                    entries.push(LogEntry::Commit { time, batch: writes, clears });
                    if !drops.is_empty() {
                        // One group: a crash takes both or none.
                        entries.push(LogEntry::Note { bytes: note });
                    }
                }
                Action::EnsureTable(table) => entries.push(LogEntry::EnsureTable { table: *table }),
                Action::Note(_) => entries.push(LogEntry::Note { bytes: note }),
                Action::Purge(table) => entries.push(LogEntry::PurgeTable { version, time, table: *table }),
                Action::Expire(..) | Action::Sync => {}
            }
        }
        let Some(durability) = durability else { return Ok(()) };
        let result = self.storage.log.append(&entries, durability);
        if let Err(error) = &result
            && self.storage.log.is_poisoned()
        {
            self.storage.poison.set(error);
        }
        result
    }

    /// Applies what is in the log. A purge comes with what is moving, held.
    fn apply(&self, request: &Request, unpurged: Option<&mut Unpurged>) -> Result<()> {
        let version = request.version.unwrap_or_default();
        match &request.action {
            Action::Commit { writes, clears, drops } => {
                if !writes.is_empty() {
                    self.storage.write(writes)?;
                }
                // Once, and before the version is published.
                for table in clears {
                    self.marks.clear(*table, version);
                }
                if !drops.is_empty() {
                    self.reclaim.apply(&drops::changes(drops, version));
                }
                Ok(())
            }
            Action::EnsureTable(table) => self.storage.ensure_table(*table),
            Action::Note(changes) => {
                self.reclaim.apply(changes);
                Ok(())
            }
            Action::Purge(table) => {
                self.note_garbage();
                self.marks.purge(*table, version);
                match unpurged {
                    Some(unpurged) => self.storage.purge(unpurged, *table),
                    None => self.storage.purge(&mut self.storage.hold_moves(), *table),
                }
            }
            Action::Expire(..) | Action::Sync => Ok(()),
        }
    }

    /// The present moment, and what the wall clock shows: the same, if that does not jump.
    pub(crate) fn reading(&self) -> Reading {
        self.reckoner.lock().read(self.clock.now(), self.clock.wall())
    }

    /// The present moment.
    pub(crate) fn moment(&self) -> Moment {
        self.reading().moment
    }
}

impl Request {
    /// The request, and nothing in its place.
    fn take(&mut self) -> Self {
        let action = std::mem::replace(&mut self.action, Action::Sync);
        Self { action, version: self.version, durability: self.durability }
    }

    /// What the request writes to the tier, if it does.
    fn writes(&self) -> Option<&TierBatch> {
        match &self.action {
            Action::Commit { writes, .. } if !writes.is_empty() => Some(writes),
            _ => None,
        }
    }

    /// What it takes in the log, about.
    fn logged_bytes(&self) -> u64 {
        let drops = match &self.action {
            Action::Commit { drops, .. } => drops::size_bytes(drops),
            _ => 0,
        };
        (self.writes().map_or(0, TierBatch::size_bytes) + drops) as u64 + RECORD_OVERHEAD_BYTES
    }

    fn clears(&self) -> Vec<EntryKind> {
        match &self.action {
            Action::Commit { clears, .. } => clears.iter().copied().collect(),
            _ => Vec::new(),
        }
    }

    fn note(&self) -> Vec<u8> {
        match &self.action {
            Action::Note(changes) => encode(changes),
            Action::Commit { drops, .. } if !drops.is_empty() => encode(&drops::changes(drops, self.version.unwrap_or_default())),
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
    /// [`LimitExceeded`](ErrorKind::LimitExceeded) for a write over a limit, for [drops](Batch::drop_versions) beside too many that wait until
    /// pins are released, or, [by hand](crate::Background::ByHand), while a consumer
    /// [holds writers](crate::Holding::HoldWriters); [`MemoryExhausted`](ErrorKind::MemoryExhausted),
    /// [`DiskFull`](ErrorKind::DiskFull), [`Io`](ErrorKind::Io), [`Poisoned`](ErrorKind::Poisoned),
    /// [`VersionExhausted`](ErrorKind::VersionExhausted), [`Closed`](ErrorKind::Closed): nothing was committed. If the process
    /// or the machine dies after an `Io` or a `DiskFull`, before another commit succeeds, opening the store again may find the
    /// batch in the log after all: whole, never a part of it.
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
        let Parts { writes, clears, drops } = batch.into_parts()?;
        let writes = writes.finish(&*self.inner.options.layout, Version::ZERO);
        self.inner.submit(Action::Commit { writes, clears, drops }, options)
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
