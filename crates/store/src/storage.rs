//! The tiers of an open store, and the moves between them: sealing the table that takes the writes, moving sealed ones into the
//! durable tier, cutting the log behind them.
//!
//! Locks, in the order in which they are taken: the writer's (of the store), the gate, what is moving, the edits of the view.
//! Readers take none.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use arc_swap::{ArcSwap, Guard};
use parking_lot::{Mutex, MutexGuard, RwLock, RwLockReadGuard};
use thermocline_drop::Change;
use thermocline_tier::{Checkpoint, DurableTier, EntryKind, Error, ErrorKind, Pressure, Result, TierBatch, TierStorage, Version};
use thermocline_wal::{Log, LogBase};

use crate::background::{Job, Signals};
use crate::directory::Directory;
use crate::health::Poison;
use crate::layout::State;
use crate::marks::TableMarks;
use crate::nothing::Nothing;
use crate::options::{OpenMode, StoreOptions};
use crate::tiers::MakeHot;
use crate::view::{Sealed, View};

/// Writers slow down when so small a share of the last table's budget is left. Not before: they would only wait at another place.
const SLOW_SHARE: u64 = 8;

/// Purged tables whose rows the durable tier still holds: it could not remove them when they were purged. Readers do not see them
/// (their version is below the table's floor), but nothing may be moved down before they are gone, since clearing takes everything.
pub(crate) type Unpurged = BTreeSet<EntryKind>;

/// What background work and the store's handles share.
pub(crate) struct Storage {
    directory: Arc<Directory>,
    view: ArcSwap<View>,
    /// Held to replace the view.
    edits: Mutex<()>,
    /// Makes the next table in memory.
    make_hot: Option<Arc<MakeHot>>,
    pub(crate) log: Arc<Log>,
    pub(crate) poison: Poison,
    pub(crate) signals: Signals,
    pub(crate) hot_budget_bytes: Option<u64>,
    pub(crate) sealed_tables_max: usize,
    /// Tables that were moved into the durable tier, while somebody may read them.
    moved: Mutex<Vec<Weak<dyn TierStorage>>>,
    /// Held while entries move into the durable tier, and while a purge removes some.
    moving: Mutex<Unpurged>,
    has_unpurged: AtomicBool,
    /// Read by whoever works on the durable tier; written, and then true, once the store is closed.
    is_closed: RwLock<bool>,
    is_read_only: bool,
    flushes: AtomicU64,
    /// Commits at or below this version are cut off from the log, or will be.
    log_from: AtomicU64,
}

/// Whether writers may go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Strain {
    None,
    /// They should slow down.
    Slow(String),
    /// They should wait for this work.
    Stop(Job, String),
}

impl Storage {
    pub(crate) fn new(
        directory: Arc<Directory>,
        view: View,
        make_hot: Option<Arc<MakeHot>>,
        log: Arc<Log>,
        options: &StoreOptions,
        unpurged: Unpurged,
        log_from: Version,
    ) -> Self {
        Self {
            directory,
            view: ArcSwap::from_pointee(view),
            edits: Mutex::new(()),
            make_hot,
            log,
            poison: Poison::default(),
            signals: Signals::default(),
            hot_budget_bytes: options.hot_budget_bytes,
            sealed_tables_max: options.sealed_tables_max,
            moved: Mutex::default(),
            has_unpurged: AtomicBool::new(!unpurged.is_empty()),
            moving: Mutex::new(unpurged),
            is_closed: RwLock::new(false),
            is_read_only: options.mode == OpenMode::ReadOnly,
            flushes: AtomicU64::new(0),
            log_from: AtomicU64::new(log_from.0),
        }
    }

    /// The log has the commits above this version, and will have them until another table is sealed.
    pub(crate) fn log_from(&self) -> Version {
        Version(self.log_from.load(Ordering::Acquire))
    }

    /// The tiers as they are now. Load the version to read at before: a view holds all that was published when it was loaded.
    #[inline]
    pub(crate) fn view(&self) -> Guard<Arc<View>> {
        self.view.load()
    }

    /// The same, to be kept for longer.
    pub(crate) fn view_owned(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// The tables in memory, and those of before that somebody still reads.
    pub(crate) fn all_in_memory(&self) -> Vec<Arc<dyn TierStorage>> {
        // In this order: what goes is noted before it is gone from view.
        let mut tables: Vec<Arc<dyn TierStorage>> = self.view.load().in_memory().cloned().collect();
        let moved: Vec<Arc<dyn TierStorage>> = self.moved.lock().iter().filter_map(Weak::upgrade).collect();
        for table in moved {
            if !tables.iter().any(|other| Arc::ptr_eq(other, &table)) {
                tables.push(table);
            }
        }
        tables
    }

    pub(crate) fn durable(&self) -> Option<Arc<dyn DurableTier>> {
        self.view.load().durable.clone()
    }

    /// How many tables were moved into the durable tier, or checkpoints made without one.
    pub(crate) fn flushes(&self) -> u64 {
        self.flushes.load(Ordering::Relaxed)
    }

    fn edit(&self, change: impl FnOnce(&View) -> View) {
        let _edits = self.edits.lock();
        let next = change(&self.view.load());
        self.view.store(Arc::new(next));
    }

    /// Lets readers ask the active table, which has been written to. To be called before what was written is published.
    fn use_active(&self) {
        self.edit(View::with_active_used);
    }

    /// Writes a batch to the tier that takes writes. Only its publication lets readers see it.
    pub(crate) fn write(&self, batch: &TierBatch) -> Result<()> {
        let view = self.view();
        if view.active.is_none() {
            self.finish_purges()?;
        }
        view.writable()?.set(batch)?;
        if view.active.is_some() && !view.is_active_used {
            self.use_active();
        }
        Ok(())
    }

    /// Brings a table into being in the tier that takes writes.
    pub(crate) fn ensure_table(&self, table: EntryKind) -> Result<()> {
        let view = self.view();
        if view.tables()?.contains(&table) {
            return Ok(());
        }
        view.writable()?.ensure_table(table)?;
        if view.active.is_some() && !view.is_active_used {
            self.use_active();
        }
        Ok(())
    }

    /// Keeps the store from being closed while the answer is held.
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed).
    pub(crate) fn enter(&self) -> Result<RwLockReadGuard<'_, bool>> {
        // Whoever waits until nobody works must not keep others from working meanwhile.
        let is_closed = self.is_closed.read_recursive();
        if *is_closed { Err(ErrorKind::Closed.into()) } else { Ok(is_closed) }
    }

    /// Waits until nobody works on the durable tier.
    pub(crate) fn settle(&self) {
        drop(self.is_closed.write());
    }

    /// Waits for whatever is under way, and lets nothing begin any more.
    pub(crate) fn close(&self) {
        *self.is_closed.write() = true;
    }

    /// Lets go of the tiers. Readers fail from now on.
    pub(crate) fn release(&self) {
        self.edit(|_view| View::closed());
    }

    /// Puts a fresh table above the active one, which from now on waits to be moved down. `version` is the last that was committed:
    /// nothing is written meanwhile. In a store that writes straight to the durable tier it seals nothing and asks for a checkpoint
    /// alone.
    pub(crate) fn seal(&self, version: Version, base: Option<LogBase>, marks: &TableMarks, retention: Vec<Change>) {
        let state = State { base: base.clone(), marks: marks.as_of(version), retention }.encode();
        let checkpoint = Checkpoint { version, state };
        if let Some(base) = &base {
            self.log_from.fetch_max(base.after.0, Ordering::AcqRel);
        }
        self.edit(|view| {
            let full = view.active.clone().filter(|_| view.is_active_used);
            let active = match (&full, &self.make_hot) {
                (Some(_), Some(make)) => Some(make()),
                _ => view.active.clone(),
            };
            view.with_sealed(active, Arc::new(Sealed { tier: full, checkpoint, base }))
        });
        self.signals.ring();
    }

    /// Moves the oldest sealed table into the durable tier, and cuts the log behind it. Returns whether there was anything to do.
    fn flush_oldest(&self) -> Result<bool> {
        let _open = self.enter()?;
        if self.is_read_only {
            return Ok(false);
        }
        self.check_poison()?;
        let mut unpurged = self.moving.lock();
        let view = self.view_owned();
        let Some(durable) = &view.durable else { return Ok(false) };
        let did_purge = self.purge_durable(&mut unpurged, &**durable)?;
        let Some(sealed) = view.sealed.last() else { return Ok(did_purge) };
        self.sync_log_up_to(sealed.checkpoint.version)?;
        let source = sealed.tier.as_deref().unwrap_or(&Nothing);
        durable.absorb(source, sealed.checkpoint.clone())?;
        if let Some(tier) = &sealed.tier {
            let mut moved = self.moved.lock();
            moved.retain(|tier| tier.strong_count() > 0);
            // Before it goes from view, so that whoever looks at both misses none.
            moved.push(Arc::downgrade(tier));
        }
        self.edit(|view| view.without(sealed));
        self.flushes.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(version = %sealed.checkpoint.version, "a table was flushed");
        if let Some(base) = &sealed.base
            && let Err(error) = self.log.cut(base)
        {
            // The next cut takes these segments too, and so does opening the log.
            tracing::warn!(%error, "could not cut the log behind what was flushed");
        }
        Ok(true)
    }

    /// Makes the log durable up to a version, of which the durable tier is about to take something: it must not be ahead of the log, or
    /// after a crash the stream of changes would have a hole.
    pub(crate) fn sync_log_up_to(&self, version: Version) -> Result<()> {
        if self.log.durable_version() >= version {
            return Ok(());
        }
        self.log.sync().map_err(|error| match error.kind() {
            // Of earlier commits, not of what is waited for.
            ErrorKind::CommitUnknown { .. } => Error::with_source(ErrorKind::Poisoned, error),
            _ => error,
        })
    }

    /// Does one piece of flushing; returns whether there was any.
    pub(crate) fn flush_step(&self) -> Result<bool> {
        self.note(Job::Flush, self.flush_oldest())
    }

    /// Has the durable tier do one piece of its own work; returns whether there was any.
    pub(crate) fn tier_step(&self) -> Result<bool> {
        let step = || {
            let _open = self.enter()?;
            let Some(durable) = self.durable().filter(|_| !self.is_read_only) else { return Ok(false) };
            self.check_poison()?;
            durable.step()
        };
        self.note(Job::Tier, step())
    }

    /// Does one piece of the most urgent work; returns whether there was any. Work that fails does not keep other work from being
    /// done.
    pub(crate) fn work_step(&self) -> Result<bool> {
        let flushed = self.flush_step();
        if matches!(flushed, Ok(true)) {
            return flushed;
        }
        let stepped = self.tier_step();
        if matches!(stepped, Ok(true)) {
            return stepped;
        }
        flushed?;
        stepped?;
        self.log.background_step()
    }

    /// Tells how a job went: to those who wait for it, and to the store if it cannot be written to any more.
    fn note(&self, job: Job, result: Result<bool>) -> Result<bool> {
        match &result {
            Err(error) if error.kind() == &ErrorKind::Closed => return result,
            Err(error) => self.heed(error),
            Ok(_) => {}
        }
        self.signals.note(job, &result);
        result
    }

    /// Refuses to change anything after a failure that only opening the store again can clear, be it the log's.
    pub(crate) fn check_poison(&self) -> Result<()> {
        if let Some(cause) = self.log.poison_cause() {
            self.poison.set(cause);
        }
        self.poison.check()
    }

    /// Poisons the store if, after this failure, only opening it again can tell what is durable.
    pub(crate) fn heed(&self, error: &Error) {
        if self.poison.cause().is_none() && (error.kind() == &ErrorKind::Poisoned || self.directory.has_failed()) {
            self.poison.set(error);
        }
    }

    /// Keeps entries from moving into the durable tier while the answer is held.
    pub(crate) fn hold_moves(&self) -> MutexGuard<'_, Unpurged> {
        self.moving.lock()
    }

    /// Removes a table's rows from every tier. If the durable one fails to, readers miss nothing, and it is tried again before
    /// anything else is written there.
    pub(crate) fn purge(&self, unpurged: &mut Unpurged, table: EntryKind) -> Result<()> {
        let view = self.view_owned();
        for tier in view.in_memory() {
            tier.clear_table(table)?;
        }
        let Some(durable) = &view.durable else { return Ok(()) };
        unpurged.insert(table);
        // Told to the store and to writers who wait, if it failed.
        if self.note(Job::Flush, self.purge_durable(unpurged, &**durable)).is_err() {
            self.signals.ring();
        }
        Ok(())
    }

    /// Removes from the durable tier what was purged.
    fn purge_durable(&self, unpurged: &mut Unpurged, durable: &dyn DurableTier) -> Result<bool> {
        let mut did_any = false;
        while let Some(table) = unpurged.first().copied() {
            self.has_unpurged.store(true, Ordering::Relaxed);
            durable.clear_table(table)?;
            unpurged.remove(&table);
            did_any = true;
        }
        self.has_unpurged.store(false, Ordering::Relaxed);
        Ok(did_any)
    }

    /// Makes the durable tier fit to be written to directly.
    pub(crate) fn finish_purges(&self) -> Result<()> {
        if !self.has_unpurged.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut unpurged = self.moving.lock();
        match self.durable() {
            Some(durable) => self.purge_durable(&mut unpurged, &*durable).map(drop),
            None => Ok(()),
        }
    }

    /// Whether the active table has outgrown its budget.
    pub(crate) fn is_full(view: &View, budget: u64) -> bool {
        view.active.is_some() && view.is_active_used && view.active_bytes() >= budget
    }

    /// Whether writers should slow down or wait, and why.
    pub(crate) fn strain(&self) -> Strain {
        let view = self.view();
        let Some(durable) = &view.durable else { return Strain::None };
        let waiting = view.sealed.len();
        let mut strain = Strain::None;
        if let Some(budget) = self.hot_budget_bytes.filter(|_| waiting >= self.sealed_tables_max) {
            let why = || format!("{waiting} full tables wait to be flushed, and the one in use fills up");
            match view.active_bytes() {
                used if used >= budget && used > 0 => return Strain::Stop(Job::Flush, why()),
                used if used >= budget - budget / SLOW_SHARE && used > 0 => strain = Strain::Slow(why()),
                _ => {}
            }
        }
        match durable.pressure() {
            Pressure::None => strain,
            Pressure::Slow { why } => Strain::Slow(why),
            Pressure::Stop { why } => Strain::Stop(Job::Tier, why),
        }
    }
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Storage").field("view", &self.view.load()).finish_non_exhaustive()
    }
}
