//! What opening brings back: the durable tier up to its checkpoint, and from the log what came after.
//!
//! While the log is opened, what can be read from it is not yet certain to be durable. So nothing goes into the durable tier then:
//! the records fill one table in memory, up to its budget, and the rest is left. Once the log is open all of it is durable, and is
//! read again from there on, with a flush whenever the table is full. A small budget is enough to open any log.

use std::collections::BTreeSet;
use std::sync::Arc;

use thermocline_drop::{Change as Retained, DropCommand, decode};
use thermocline_format::StoreId;
use thermocline_io::{Disk, Environment};
use thermocline_tier::{DurableTier, EntryKind, Error, ErrorKind, Result, RetentionSource, TierBatch, TierStorage, Version};
use thermocline_wal::{Commit, Log, LogBase, OpenLog, RecoveryReport, Replayed};

use crate::directory::Directory;
use crate::drops::drop_again;
use crate::layout::State;
use crate::marks::TableMarks;
use crate::options::{OpenMode, StoreOptions};
use crate::reclaim::Reclaim;
use crate::storage::{Storage, Unpurged};
use crate::tiers::{DurableRequest, Tiers};
use crate::view::View;

/// What a store is opened from. The directory's lock is held.
pub(crate) struct Recovery<'a> {
    pub(crate) directory: Arc<Directory>,
    pub(crate) tiers: &'a Tiers,
    pub(crate) environment: &'a Environment,
    pub(crate) options: &'a StoreOptions,
    /// The store that is there, if it has a durable tier already. A log says so too, but what it says need not be durable yet: so
    /// without a durable tier the log is opened first, and a directory with a durable tier always has a log.
    pub(crate) store: Option<StoreId>,
}

/// What was brought back.
pub(crate) struct Recovered {
    pub(crate) storage: Arc<Storage>,
    pub(crate) marks: Arc<TableMarks>,
    /// Commands to drop versions that were carried out, of what the log has brought back.
    pub(crate) dropped: Vec<DropCommand>,
    pub(crate) reclaim: Arc<Reclaim>,
    pub(crate) report: RecoveryReport,
    pub(crate) last: Version,
    /// The last version that a checkpoint covers.
    pub(crate) covered: Version,
}

impl Recovery<'_> {
    fn is_read_only(&self) -> bool {
        self.options.mode == OpenMode::ReadOnly
    }

    fn disk(&self) -> Arc<dyn Disk> {
        Arc::clone(&self.directory) as Arc<dyn Disk>
    }

    fn open_durable(&self, store: StoreId) -> Result<Option<Arc<dyn DurableTier>>> {
        let Some(open) = &self.tiers.durable else { return Ok(None) };
        let (disk, environment) = (self.disk(), self.environment);
        let migration = self.options.migration.clone();
        open(DurableRequest { disk, environment, store, is_read_only: self.is_read_only(), migration }).map(Some)
    }

    pub(crate) fn run(&self) -> Result<Recovered> {
        let mut durable = match self.store {
            Some(store) => self.open_durable(store)?,
            None => None,
        };
        let checkpoint = durable.as_ref().map(|durable| durable.checkpoint()).unwrap_or_default();
        let state = State::decode(&checkpoint.state)?;
        let marks = Arc::new(TableMarks::default());
        marks.restore(state.marks);
        let reclaim = Arc::new(Reclaim::new(Arc::clone(&marks)));
        reclaim.apply(&state.retention);
        let mut replay = Replay::new(self, durable.as_deref(), &marks, &reclaim, checkpoint.version)?;
        let request = OpenLog {
            disk: self.disk(),
            randomness: &*self.environment.randomness,
            clock: &*self.environment.clock,
            options: self.options.log.clone(),
            layout: self.options.layout.as_ref(),
            is_read_only: self.is_read_only(),
            store: self.store,
            base: state.base.clone(),
        };
        let (log, report) = Log::open(request, &mut |record| replay.apply(record))?;
        let Replay { active, is_used, is_full, applied, unpurged, dropped, .. } = replay;
        let log = Arc::new(log);
        // A log that no durable tier has taken anything from yet is enough for reading.
        if self.store.is_none() && !self.is_read_only() {
            durable = self.open_durable(log.store_id())?;
        }
        let reached = report.last_version.max(state.base.as_ref().map_or(Version::ZERO, |base| base.after));
        check_reached(reached, checkpoint.version)?;
        let last = reached.max(checkpoint.version);

        let make_hot = self.tiers.hot.clone().filter(|_| durable.is_some());
        // Alone, a tier in memory is always asked.
        let is_used = is_used || durable.is_none();
        let view = View::new(active, is_used, Vec::new(), durable);
        let log_from = state.base.as_ref().map_or(Version::ZERO, |base| base.after);
        let storage = Storage::new(Arc::clone(&self.directory), view, make_hot, log, self.options, unpurged, log_from);
        if let Some(durable) = storage.durable() {
            // What a crash took from the log was never part of what the horizon was moved over.
            reclaim.apply(&[Retained::Horizon(durable.horizon().min(last))]);
            // Before anything is written to it: that may rewrite files.
            durable.set_retention(Arc::clone(&reclaim) as Arc<dyn RetentionSource>);
        }
        // What was in the log is durable now.
        reclaim.settle();
        reclaim.overtake_below(log_from);
        if is_full && applied < last {
            if self.is_read_only() {
                return Err(cannot_write());
            }
            catch_up(&storage, &marks, &reclaim, applied, last, state.base.as_ref(), &dropped)?;
        }
        if !self.is_read_only() {
            flush_all(&storage)?;
        }
        let covered = storage.durable().map_or(Version::ZERO, |durable| durable.checkpoint().version);
        Ok(Recovered { storage: Arc::new(storage), marks, dropped, reclaim, report, last, covered })
    }
}

/// A log that ends before the checkpoint has lost what was durable.
fn check_reached(reached: Version, checkpoint: Version) -> Result<()> {
    if reached >= checkpoint {
        return Ok(());
    }
    let what = format!("the log ends at version {reached}, below the checkpoint at version {checkpoint}");
    Err(Error::with_source(ErrorKind::Corruption, what))
}

/// So many commands that were carried out are gathered before they are carried out again, where all is in memory.
const DROPPED_MAX: usize = 16_384;

/// Puts the log's records back, as far as memory goes.
struct Replay<'a> {
    marks: &'a TableMarks,
    reclaim: &'a Reclaim,
    /// `None` where everything goes to the durable tier, which must wait until the log is open.
    active: Option<Arc<dyn TierStorage>>,
    /// Takes tables that are ensured where there is no active tier.
    durable: Option<&'a dyn DurableTier>,
    is_used: bool,
    /// Bytes that the active tier may take; `None` if all must fit.
    budget: Option<u64>,
    /// Commits are left for later.
    is_full: bool,
    /// What the checkpoint covers.
    covered: Version,
    /// Everything up to this version is in the tiers.
    applied: Version,
    /// Commands to drop versions that were carried out after the checkpoint.
    dropped: Vec<DropCommand>,
    is_memory_alone: bool,
    /// Tables that the durable tier has.
    tables: BTreeSet<EntryKind>,
    unpurged: Unpurged,
}

impl<'a> Replay<'a> {
    fn new(
        recovery: &Recovery<'_>,
        durable: Option<&'a dyn DurableTier>,
        marks: &'a TableMarks,
        reclaim: &'a Reclaim,
        covered: Version,
    ) -> Result<Self> {
        let tables = durable.map_or_else(|| Ok(Vec::new()), TierStorage::tables)?;
        let active = recovery.tiers.hot.as_ref().map(|make| make());
        let budget = match &active {
            _ if recovery.is_read_only() || recovery.tiers.durable.is_none() => None,
            Some(_) => recovery.options.hot_budget_bytes,
            None => Some(0),
        };
        Ok(Self {
            marks,
            reclaim,
            is_full: active.is_none(),
            active,
            durable: durable.filter(|_| !recovery.is_read_only()),
            is_used: false,
            budget,
            covered,
            applied: covered,
            dropped: Vec::new(),
            is_memory_alone: recovery.tiers.durable.is_none(),
            tables: tables.into_iter().collect(),
            unpurged: BTreeSet::new(),
        })
    }

    /// Whether a commit of this version is to be put back now.
    fn takes(&mut self, version: Version) -> bool {
        if version <= self.applied {
            return false;
        }
        let has_grown = |budget| self.active.as_ref().is_some_and(|active| self.is_used && active.memory_bytes() >= budget);
        self.is_full = self.is_full || self.budget.is_some_and(has_grown);
        !self.is_full
    }

    fn active(&self) -> Result<&dyn TierStorage> {
        self.active.as_deref().ok_or_else(cannot_write)
    }

    fn apply(&mut self, record: Replayed<'_>) -> Result<()> {
        match record {
            Replayed::Commit(commit) if self.takes(commit.version) => {
                if !commit.batch.is_empty() {
                    self.active()?.set(commit.batch)?;
                    self.is_used = true;
                }
                commit.clears.iter().for_each(|table| self.marks.clear(*table, commit.version));
                self.applied = commit.version;
            }
            Replayed::PurgeTable { version, table, .. } if self.takes(version) => {
                self.marks.purge(table, version);
                self.active()?.clear_table(table)?;
                self.unpurged.insert(table);
                self.applied = version;
            }
            Replayed::EnsureTable { table } => return self.ensure(table),
            // Without a version too; to hear of what is known already changes nothing in the end.
            Replayed::Note { bytes } => {
                let changes = decode(bytes, "a note in the log".into(), 0);
                let changes = changes.map_err(|damage| Error::with_source(ErrorKind::Corruption, damage))?;
                self.reclaim.apply(&changes);
                let dropped = changes.into_iter().filter_map(|change| match change {
                    Retained::Dropped(command) if command.version > self.covered => Some(command),
                    _ => None,
                });
                self.dropped.extend(dropped);
                if self.dropped.len() >= DROPPED_MAX
                    && self.is_memory_alone
                    && let Some(active) = &self.active
                {
                    drop_again(&**active, &self.dropped)?;
                    self.dropped.clear();
                }
            }
            Replayed::Commit(_) | Replayed::PurgeTable { .. } => {}
        }
        Ok(())
    }

    /// Has no version, so it is not known whether a checkpoint covers it.
    fn ensure(&mut self, table: EntryKind) -> Result<()> {
        if !self.tables.insert(table) {
            return Ok(());
        }
        match (&self.active, self.durable) {
            (Some(active), _) => {
                self.is_used = true;
                active.ensure_table(table)
            }
            (None, Some(durable)) => durable.ensure_table(table),
            (None, None) => Err(cannot_write()),
        }
    }
}

/// What a read-only store over a durable tier alone answers to a log that holds more than that tier.
fn cannot_write() -> Error {
    let what = "reading a store whose log must first be written to its tier: open it for writing, or with a tier in memory";
    ErrorKind::Unsupported { what: what.into() }.into()
}

/// Puts back the commits after `from` up to `to`, from the log that is open now, flushing as it goes.
fn catch_up(
    storage: &Storage,
    marks: &TableMarks,
    reclaim: &Reclaim,
    from: Version,
    to: Version,
    base: Option<&LogBase>,
    dropped: &[DropCommand],
) -> Result<()> {
    let mut reader = storage.log.reader(from)?;
    let mut batch = TierBatch::empty(from);
    let mut applied = from;
    while applied < to {
        let Some(commit) = reader.next_commit(to)? else {
            let what = format!("the log gives back no commit between version {applied} and version {to}");
            return Err(Error::with_source(ErrorKind::Corruption, what));
        };
        let budget = storage.hot_budget_bytes.unwrap_or(u64::MAX);
        if Storage::is_full(&storage.view(), budget) {
            // A checkpoint covers the notes of what was dropped, so that what it covers must be without that.
            drop_again(&**storage.view().merged()?, dropped)?;
            // The log was opened with this base, and keeps it until the next seal.
            storage.seal(applied, base.cloned(), marks, reclaim.read().changes());
            flush_all(storage)?;
        }
        put_back(storage, marks, &commit, &mut batch)?;
        applied = commit.version;
    }
    Ok(())
}

fn put_back(storage: &Storage, marks: &TableMarks, commit: &Commit, batch: &mut TierBatch) -> Result<()> {
    if let Some(table) = commit.purged {
        marks.purge(table, commit.version);
        return storage.purge(&mut storage.hold_moves(), table);
    }
    batch.reset(commit.version);
    for change in &commit.changes {
        batch.push_sorted(change.table, &change.prefix, &change.suffix, change.value.as_deref())?;
    }
    if !batch.is_empty() {
        storage.write(batch)?;
    }
    commit.clears.iter().for_each(|table| marks.clear(*table, commit.version));
    Ok(())
}

/// Flushes what is sealed and removes what is purged. A full disk, or a strategy that fails, is no reason not to open: then the tables stay in
/// memory, as they were before, and the flush is tried again later.
fn flush_all(storage: &Storage) -> Result<()> {
    loop {
        match storage.flush_step() {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(error) if error.kind() == &ErrorKind::DiskFull || error.kind().is_callback() => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}
