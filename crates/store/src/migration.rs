//! What an engine that migrates its rows can ask of a store: the summaries of its files, and passes over them.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use thermocline_migration::{Migration, StoredRow, check_not_in_hook};
use thermocline_tier::{
    DurableTier, EntryKind, EntryRef, ErrorKind, FileSummary, KeyRange, MigratingTier, MigrationReport, Result, TierFile,
};

use crate::store::Store;

/// Which files a pass is about.
///
/// ```
/// use thermocline_store::PassScope;
/// use thermocline_tier::{EntryKind, KeyRange};
///
/// assert_ne!(PassScope::All, PassScope::Range(EntryKind::Multi, KeyRange::all()));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PassScope {
    /// All.
    All,
    /// Those that hold keys of a table.
    Table(EntryKind),
    /// Those that hold keys of a range of a table.
    Range(EntryKind, KeyRange),
}

impl PassScope {
    fn covers(&self, file: &TierFile) -> bool {
        let meets = |table: EntryKind, range: &KeyRange| {
            let (first, last) = (&file.first, &file.last);
            let ends_before = last.0 < table || last.0 == table && !range.is_after_start(&last.1);
            let begins_after = first.0 > table || first.0 == table && !range.is_before_end(&first.1);
            !ends_before && !begins_after
        };
        match self {
            Self::All => true,
            Self::Table(table) => meets(*table, &KeyRange::all()),
            Self::Range(table, range) => meets(*table, range),
        }
    }
}

/// How far a pass has come.
///
/// ```
/// assert_eq!(thermocline_store::PassProgress::default().files_left, 0);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PassProgress {
    /// Files that it has rewritten.
    pub files_done: u64,
    /// Their bytes.
    pub bytes_done: u64,
    /// Files that it has yet to rewrite, as far as is known.
    pub files_left: u64,
    /// Their bytes.
    pub bytes_left: u64,
    /// What was done with rows, those of files that had to go along included.
    pub migrated: MigrationReport,
    /// Whether it was cancelled, and so has not come to its end.
    pub is_cancelled: bool,
}

#[derive(Debug, Default)]
struct Control {
    state: Mutex<ControlState>,
    changed: Condvar,
}

#[derive(Clone, Copy, Debug, Default)]
struct ControlState {
    is_paused: bool,
    is_cancelled: bool,
    bytes_per_second: Option<u64>,
}

/// Holds up, slows down or ends a [`Pass`], from any thread. Takes effect between two files; one of level 0 takes all of that level along.
///
/// ```
/// use thermocline_store::{PassProgress, PassScope, Store};
///
/// fn compact_gently(store: &Store) -> thermocline_tier::Result<PassProgress> {
///     let mut pass = store.compact_all(&PassScope::All)?;
///     pass.control().throttle(Some(10 << 20));
///     pass.run().cloned()
/// }
///
/// let store = thermocline::Store::in_memory()?;
/// assert!(compact_gently(&store).is_err(), "it has no files, and no strategy");
/// # Ok::<(), thermocline_tier::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct PassControl(Arc<Control>);

impl PassControl {
    fn change(&self, change: impl FnOnce(&mut ControlState)) {
        change(&mut self.0.state.lock());
        self.0.changed.notify_all();
    }

    /// Has it wait after the present file, until it is [resumed](Self::resume).
    pub fn pause(&self) {
        self.change(|state| state.is_paused = true);
    }

    /// Has it go on.
    pub fn resume(&self) {
        self.change(|state| state.is_paused = false);
    }

    /// Ends it after the present file. What it has done stays done; another pass goes on from there.
    pub fn cancel(&self) {
        self.change(|state| state.is_cancelled = true);
    }

    /// From now on, has it wait after each file for as long as that many bytes are to take; `None`, as at first: not at all.
    pub fn throttle(&self, bytes_per_second: Option<u64>) {
        self.change(|state| state.bytes_per_second = bytes_per_second.map(|rate| rate.max(1)));
    }
}

/// A pass over files of a store: rewrites each that was chosen when it began, one after the other. It does nothing by itself: whoever has it
/// [runs](Self::run) it, or has it do [one file](Self::step) at a time. Files that appear while it goes on are not its affair, so it comes
/// to an end. Nothing is lost by dropping it, or by a crash: what is rewritten is, and a pass that is begun then finds what is left.
///
/// See [`PassControl`] for an example.
pub struct Pass {
    store: Store,
    /// The numbers and sizes of the files that are left, the next one last.
    left: Vec<(u64, u64)>,
    progress: PassProgress,
    control: PassControl,
}

impl fmt::Debug for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pass").field("progress", &self.progress).finish_non_exhaustive()
    }
}

fn migrating(durable: &dyn DurableTier) -> Result<&dyn MigratingTier> {
    durable.migrating().ok_or_else(no_strategy)
}

fn no_strategy() -> thermocline_tier::Error {
    ErrorKind::Unsupported { what: "migration in a store that was opened without a strategy, or has no files".into() }.into()
}

impl Pass {
    /// Holds it up, slows it down or ends it, from another thread.
    pub fn control(&self) -> PassControl {
        self.control.clone()
    }

    /// How far it has come.
    pub fn progress(&self) -> &PassProgress {
        &self.progress
    }

    /// Leaves out the files that are not there any more: they went along with others, or with compaction. Notes their sizes.
    fn look(&mut self) -> Result<()> {
        let durable = self.store.durable()?;
        let live: BTreeSet<u64> =
            migrating(&*durable)?.summaries().iter().filter(|file| file.is_live).map(|file| file.number).collect();
        let (left, gone): (Vec<_>, Vec<_>) = self.left.iter().copied().partition(|(number, _)| live.contains(number));
        let sum = |files: &[(u64, u64)]| files.iter().map(|(_, size_bytes)| size_bytes).sum::<u64>();
        self.progress.files_done += gone.len() as u64;
        self.progress.bytes_done += sum(&gone);
        (self.progress.files_left, self.progress.bytes_left) = (left.len() as u64, sum(&left));
        self.left = left;
        Ok(())
    }

    /// Rewrites a file, whatever its [control](Self::control) says, with all of level 0 if it lies there; false if none is left.
    ///
    /// # Errors
    /// As [`Store::compact`]; [`CallbackFailed`](ErrorKind::CallbackFailed) and [`CallbackViolation`](ErrorKind::CallbackViolation) if a hook of
    /// the strategy is at fault. Nothing is lost then; the next call goes on with the next file.
    pub fn step(&mut self) -> Result<bool> {
        check_not_in_hook("a pass over files")?;
        let Some((number, size_bytes)) = self.left.pop() else { return Ok(false) };
        let migrated = self.store.rewrite_file(number);
        if migrated.is_ok() {
            // Counted with all that went.
            self.left.push((number, size_bytes));
        }
        self.look()?;
        // It is gone; and if it is not, it had its turn.
        self.left.retain(|(left, _)| *left != number);
        self.progress.migrated.add(&migrated?.unwrap_or_default());
        Ok(true)
    }

    /// Goes on to the end, or until it is [cancelled](PassControl::cancel).
    ///
    /// # Errors
    /// As [`step`](Self::step); the first file that fails ends it.
    pub fn run(&mut self) -> Result<&PassProgress> {
        self.run_with(|_| {})
    }

    /// The same, with a call after each file.
    ///
    /// # Errors
    /// As [`step`](Self::step); the first file that fails ends it.
    pub fn run_with(&mut self, mut after_file: impl FnMut(&PassProgress)) -> Result<&PassProgress> {
        loop {
            let done = self.progress.bytes_done;
            if !self.may_go_on() || !self.step()? {
                return Ok(&self.progress);
            }
            after_file(&self.progress);
            self.rest(self.progress.bytes_done - done);
        }
    }

    /// Waits while it is paused; false once it is cancelled.
    fn may_go_on(&mut self) -> bool {
        let mut state = self.control.0.state.lock();
        while state.is_paused && !state.is_cancelled {
            self.control.0.changed.wait(&mut state);
        }
        self.progress.is_cancelled = state.is_cancelled;
        !state.is_cancelled
    }

    /// Waits for as long as so many bytes are to take.
    fn rest(&self, bytes: u64) {
        let clock = &self.store.inner.clock;
        let began = clock.now();
        let mut state = self.control.0.state.lock();
        while let (Some(rate), false) = (state.bytes_per_second, state.is_cancelled) {
            let whole =
                Duration::from_nanos(u64::try_from(u128::from(bytes) * 1_000_000_000 / u128::from(rate)).unwrap_or(u64::MAX));
            let Some(left) = whole.checked_sub(clock.now().saturating_sub(began)).filter(|left| !left.is_zero()) else { return };
            self.control.0.changed.wait_for(&mut state, left);
        }
    }
}

/// What the strategy would change.
///
/// ```
/// assert_eq!(thermocline_store::DryRun::default().modified, 0);
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct DryRun {
    /// Rows that were looked at.
    pub rows: u64,
    /// Those of them that a rewrite would offer to `migrate` now.
    pub offered: u64,
    /// Those of them that `migrate` would change.
    pub modified: u64,
    /// Rows that `filter` would let go, if no snapshot or pin sees them.
    pub filtered: u64,
    /// The bytes of suffixes and values of the rows that would be changed, before and after.
    pub bytes: (u64, u64),
    /// What went wrong with the first row with which something did: that ends it.
    pub failure: Option<thermocline_tier::Error>,
}

impl DryRun {
    /// Shows a row to the strategy.
    fn look(&mut self, job: &mut dyn thermocline_migration::Job, row: &StoredRow<'_>) -> Result<()> {
        self.offered += 1;
        if job.filter(row)? {
            self.filtered += 1;
            return Ok(());
        }
        if let Some(modified) = job.migrate(row)? {
            let value = row.value()?.len();
            let len = |part: &Option<Bytes>, before: usize| part.as_ref().map_or(before, Bytes::len) as u64;
            self.modified += 1;
            self.bytes.0 += (row.suffix.len() + value) as u64;
            self.bytes.1 += len(&modified.suffix, row.suffix.len()) + len(&modified.value, value);
        }
        Ok(())
    }
}

impl Store {
    /// The durable tier, if it has a strategy.
    fn durable(&self) -> Result<Arc<dyn DurableTier>> {
        self.inner.check_open()?;
        let durable = self.inner.storage.durable().ok_or_else(no_strategy)?;
        migrating(&*durable)?;
        Ok(durable)
    }

    fn migration(&self) -> Result<&dyn Migration> {
        self.inner.options.migration.as_deref().ok_or_else(no_strategy)
    }

    /// What the strategy noted of each file, also of those that only readers of before still read; none if the store has no files.
    /// Where the strategy of now cannot read one, or a file was written without one, the summary is made anew and kept, which reads that
    /// file. Else no file is touched. Cost: a step for each file.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) for a store with files that was opened without a strategy; [`Closed`](ErrorKind::Closed); where a
    /// summary is made anew [`CallbackFailed`](ErrorKind::CallbackFailed), [`Corruption`](ErrorKind::Corruption) and as [`flush`](Self::flush).
    pub fn file_summaries(&self) -> Result<Vec<FileSummary>> {
        self.inner.check_open()?;
        if self.inner.storage.durable().is_none() {
            return Ok(Vec::new());
        }
        let (durable, migration) = (self.durable()?, self.migration()?);
        let tier = migrating(&*durable)?;
        let _open = self.inner.storage.enter()?;
        loop {
            let mut files = tier.summaries();
            let is_unknown = |file: &FileSummary| {
                thermocline_migration::Slot::decode(&file.slot).is_none_or(|slot| migration.check_summary(slot.summary).is_err())
            };
            let mut is_complete = true;
            for file in files.iter_mut().filter(|file| is_unknown(file)) {
                match tier.summarize(file.number)? {
                    Some(slot) => file.slot = slot,
                    // It was rewritten meanwhile, or went with its last reader.
                    None => is_complete = false,
                }
            }
            if is_complete {
                return Ok(files);
            }
        }
    }

    /// Rewrites a file, and so offers its rows to the strategy; `None` if it is not live any more.
    fn rewrite_file(&self, number: u64) -> Result<Option<MigrationReport>> {
        self.inner.check_writable()?;
        let durable = self.durable()?;
        let _open = self.inner.storage.enter()?;
        self.inner.storage.check_poison()?;
        let _working = self.inner.storage.signals.join_tier_work();
        let wake = || self.inner.storage.signals.ring();
        migrating(&*durable)?.rewrite(number, &wake).inspect_err(|error| self.inner.storage.heed(error))
    }

    /// A pass over the files for which `choose` holds, of those of which a rewrite would offer rows that were not offered under the strategy's present
    /// context yet, after everything in memory was flushed.
    ///
    /// # Errors
    /// As [`file_summaries`](Self::file_summaries) and [`flush`](Self::flush), and what `choose` fails with.
    pub fn pass(&self, mut choose: impl FnMut(&FileSummary) -> Result<bool>) -> Result<Pass> {
        self.flush()?;
        let durable = self.durable()?;
        let tier = migrating(&*durable)?;
        {
            // What began before may go by an older horizon or context, and its files come behind.
            let _open = self.inner.storage.enter()?;
            let _working = self.inner.storage.signals.join_tier_work();
            tier.finish_rewrite(&|| self.inner.storage.signals.ring())?;
        }
        // So that all that there is can be read.
        self.file_summaries()?;
        let mut left = Vec::new();
        for file in tier.behind(self.migration()?.context_id()?) {
            if choose(&file)? {
                left.push((file.number, file.file.size_bytes));
            }
        }
        // The upper levels first: what they hold is newer, and may take others along.
        left.reverse();
        let (progress, control) = (PassProgress::default(), PassControl(Arc::default()));
        let mut pass = Pass { store: self.clone(), left, progress, control };
        pass.look()?;
        pass.progress = PassProgress {
            files_left: pass.progress.files_left,
            bytes_left: pass.progress.bytes_left,
            ..PassProgress::default()
        };
        Ok(pass)
    }

    /// A pass over all files that hold something which the strategy has not been offered under its present context: rows that were not
    /// settled when the file was written and may be now, and rows that were offered under older contexts.
    ///
    /// # Errors
    /// As [`pass`](Self::pass).
    pub fn compact_all(&self, scope: &PassScope) -> Result<Pass> {
        self.pass(|file| Ok(scope.covers(&file.file)))
    }

    /// Shows every row in memory that is in no file yet, of all versions, to `visit`, and those of tables that were flushed while somebody still
    /// reads them. In no order that matters.
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed), and the first error of `visit`.
    pub fn visit_memory(&self, visit: &mut dyn FnMut(EntryKind, EntryRef<'_>) -> Result<()>) -> Result<()> {
        self.inner.check_open()?;
        self.inner.storage.all_in_memory().iter().try_for_each(|tier| tier.visit_entries(visit))
    }

    /// Shows so many rows of files to the strategy, about as many of each file, the first ones, and says what it would change. Nothing is written.
    ///
    /// # Errors
    /// As [`file_summaries`](Self::file_summaries). What hooks fail with is in the answer.
    pub fn dry_run(&self, rows_max: u64) -> Result<DryRun> {
        let (durable, migration) = (self.durable()?, self.migration()?);
        let tier = migrating(&*durable)?;
        let _open = self.inner.storage.enter()?;
        let files: Vec<FileSummary> = tier.summaries().into_iter().filter(|file| file.is_live).collect();
        let mut found = DryRun::default();
        for (number, file) in files.iter().enumerate() {
            let files_left = (files.len() - number) as u64;
            let share = rows_max.saturating_sub(found.rows).div_ceil(files_left);
            let until = found.rows + share;
            let mut job = migration.begin();
            if let Err(failure) = job.refresh() {
                found.failure = Some(failure);
                break;
            }
            tier.visit_file(file.number, &mut |table, entry, is_offered| {
                if found.rows >= until {
                    return Ok(false);
                }
                found.rows += 1;
                let row = StoredRow::new(table, entry.prefix, entry.suffix, entry.version, entry.value.unwrap_or_default());
                if is_offered && let Err(failure) = found.look(&mut *job, &row) {
                    found.failure = Some(failure);
                }
                Ok(found.failure.is_none())
            })?;
            if found.failure.is_some() {
                break;
            }
        }
        Ok(found)
    }
}
