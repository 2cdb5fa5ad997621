//! The reference model of a durable tier: the model in memory, with a journal on disk that every change goes through first.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use thermocline_io::Disk;
use thermocline_store::DurableRequest;
use thermocline_tier::{
    Amount, Checkpoint, DropVersion, DurableTier, EntryKind, EntryRef, Error, ErrorKind, FileCounters, KeyRange, KeyRef, Lookup,
    PagedScan, Pressure, RangeBatch, RangeCursor, RangeRequest, RawEntry, Result, Retained, RetainedTables, RetentionSource,
    TableStats, TierBatch, TierFile, TierScan, TierStats, TierStorage, VerifiedFiles, Version,
};

use crate::durable_journal::{self, Edit, Encoder, Journal};
use crate::model::ModelTier;

/// A durable tier that is plainly right and not fast: the whole content is in memory, every change is one record of a journal in a
/// file that is synced, and background work writes the journal anew without what is not retained. It survives whatever its disk
/// survives.
///
/// A flush leaves work behind; a [`step`](DurableTier::step) does half of what there is. How much makes writers slow down and wait
/// can be set.
///
/// ```
/// use std::sync::Arc;
/// use thermocline_conformance::{DurableModel, StoreBackend};
/// use thermocline_hot::HotTier;
///
/// let backend = StoreBackend::over("hot over a model", || Arc::new(HotTier::default()), |request| DurableModel::open(&request));
/// let disk = backend.disk();
/// let store = backend.open(&disk, StoreBackend::options())?;
/// store.ensure_table(thermocline_tier::EntryKind::source(7))?;
/// store.flush()?;
/// assert_eq!(store.stats().flushes, 1);
/// # Ok::<(), thermocline_tier::Error>(())
/// ```
#[derive(Debug)]
pub struct DurableModel {
    disk: Arc<dyn Disk>,
    store: [u8; 16],
    content: ModelTier,
    state: Mutex<State>,
    retention: Mutex<Option<Arc<dyn RetentionSource>>>,
    slow_at: u64,
    stop_at: u64,
}

#[derive(Debug)]
struct State {
    journal: Journal,
    checkpoint: Checkpoint,
    horizon: Version,
    /// Flushes and moves of the horizon whose work is due.
    debt: u64,
    /// All of its work is reclaiming.
    is_paused: bool,
    reclaimed: BTreeMap<EntryKind, Amount>,
}

impl State {
    /// Makes edits durable, then applies them.
    fn change(&mut self, edits: &Encoder, apply_all: impl FnOnce() -> Result<()>) -> Result<()> {
        self.journal.append(edits)?;
        apply_all()
    }
}

impl DurableModel {
    /// Opens the model of a directory, or makes one. It is never behind.
    ///
    /// # Errors
    /// [`ForeignFile`](ErrorKind::ForeignFile) for another store's, [`Io`](ErrorKind::Io), [`DiskFull`](ErrorKind::DiskFull).
    pub fn open(request: &DurableRequest<'_>) -> Result<Arc<dyn DurableTier>> {
        Self::open_slow(request, u64::MAX, u64::MAX)
    }

    /// As [`open`](Self::open), but writers should slow down when the work of `slow_at` flushes is due, and wait when it is
    /// `stop_at`.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_slow(request: &DurableRequest<'_>, slow_at: u64, stop_at: u64) -> Result<Arc<dyn DurableTier>> {
        let disk = Arc::clone(&request.disk);
        let found = durable_journal::find(&*disk)?;
        let content = ModelTier::new();
        let (mut checkpoint, mut horizon) = (Checkpoint::default(), Version::ZERO);
        for edit in found.newest.iter().flat_map(|(_, _, edits)| edits) {
            match edit {
                Edit::Store(store) if *store != request.store.0 => {
                    return Err(Error::with_source(ErrorKind::ForeignFile, "the journal belongs to another store"));
                }
                Edit::Checkpoint(newer) => checkpoint = newer.clone(),
                Edit::Horizon(newer) => horizon = *newer,
                edit => apply(&content, edit)?,
            }
        }
        let journal = match &found.newest {
            Some((number, end, _)) if request.is_read_only => Journal::read_only(Arc::clone(&disk), *number, *end),
            _ => Journal::make(Arc::clone(&disk), &found, &whole(&content, request.store.0, &checkpoint, horizon)?)?,
        };
        let state = Mutex::new(State { journal, checkpoint, horizon, debt: 0, is_paused: false, reclaimed: BTreeMap::new() });
        Ok(Arc::new(Self { disk, store: request.store.0, content, state, retention: Mutex::new(None), slow_at, stop_at }))
    }

    /// Removes what is not retained, and writes the journal anew. The reclaimed entries are gone from memory at once; a crash
    /// brings them back, and nobody can tell.
    fn rewrite(&self, state: &mut State) -> Result<()> {
        let before = self.content.stats().tables;
        let retention = self.retention.lock().clone();
        let all = || RetainedTables::new(Retained::new(state.horizon, []));
        let garbage = garbage(&self.content, &retention.map_or_else(all, |retention| retention.retained()))?;
        self.content.drop_versions(&garbage)?;
        let after: BTreeMap<EntryKind, TableStats> = self.content.stats().tables.into_iter().collect();
        for (table, before) in before {
            let after = after.get(&table).copied().unwrap_or_default();
            let (entries, bytes) = (before.entries - after.entries, before.user_bytes - after.user_bytes);
            if entries > 0 {
                *state.reclaimed.entry(table).or_default() += Amount { entries, bytes };
            }
        }
        state.journal.replace(&whole(&self.content, self.store, &state.checkpoint, state.horizon)?)
    }
}

/// All that a tier holds, as edits.
fn whole(content: &ModelTier, store: [u8; 16], checkpoint: &Checkpoint, horizon: Version) -> Result<Encoder> {
    let mut edits = Encoder::default();
    edits.store(store);
    edits.checkpoint(checkpoint);
    edits.horizon(horizon);
    content.tables()?.into_iter().for_each(|table| edits.ensure(table));
    content.visit_entries(&mut |table, entry| {
        edits.entry(table, entry);
        Ok(())
    })?;
    Ok(edits)
}

fn apply(content: &ModelTier, edit: &Edit) -> Result<()> {
    match edit {
        Edit::Entry(table, entry) => write(content, *table, entry.as_ref()),
        Edit::Ensure(table) => content.ensure_table(*table),
        Edit::Clear(table) => content.clear_table(*table),
        Edit::Drop(table, prefix, version) => {
            content.drop_versions(&[DropVersion { table: *table, prefix: prefix.clone(), version: *version }])
        }
        Edit::Store(_) | Edit::Checkpoint(_) | Edit::Horizon(_) => Ok(()),
    }
}

fn write(content: &ModelTier, table: EntryKind, entry: EntryRef<'_>) -> Result<()> {
    let mut batch = TierBatch::empty(entry.version);
    batch.push_sorted(table, entry.prefix, entry.suffix, entry.value)?;
    content.set(&batch)
}

/// The entries that no allowed read sees. A tombstone that is the oldest entry of its key hides nothing, here in the lowest tier.
fn garbage(content: &ModelTier, retained: &RetainedTables) -> Result<Vec<DropVersion>> {
    let mut keys: Vec<(EntryKind, Vec<RawEntry>)> = Vec::new();
    content.visit_entries(&mut |table, entry| {
        let entry = RawEntry {
            prefix: bytes::Bytes::copy_from_slice(entry.prefix),
            suffix: bytes::Bytes::new(),
            version: entry.version,
            value: entry.value.map(|_| bytes::Bytes::new()),
        };
        match keys.last_mut() {
            Some((of, versions)) if *of == table && versions.last().is_some_and(|last| last.prefix == entry.prefix) => {
                versions.push(entry);
            }
            _ => keys.push((table, vec![entry])),
        }
        Ok(())
    })?;
    let mut garbage = Vec::new();
    for (table, versions) in keys {
        let Some(retained) = versions.first().map(|newest| retained.of(table, &newest.prefix)) else { continue };
        let mut newer = None;
        let mut kept = Vec::new();
        for (position, entry) in (0..).zip(versions) {
            let version = entry.version;
            let drop_version = DropVersion { table, prefix: entry.prefix, version };
            if retained.keeps(version, newer, position) {
                kept.push((drop_version, entry.value.is_none()));
            } else {
                garbage.push(drop_version);
            }
            newer = Some(version);
        }
        while kept.last().is_some_and(|(oldest, is_tombstone)| *is_tombstone && oldest.version <= retained.horizon()) {
            garbage.extend(kept.pop().map(|(oldest, _)| oldest));
        }
    }
    Ok(garbage)
}

impl DurableTier for DurableModel {
    fn checkpoint(&self) -> Checkpoint {
        self.state.lock().checkpoint.clone()
    }

    fn absorb(&self, source: &dyn TierStorage, checkpoint: Checkpoint) -> Result<()> {
        let mut edits = Encoder::default();
        let tables = source.tables()?;
        for table in &tables {
            edits.ensure(*table);
        }
        source.visit_entries(&mut |table, entry| {
            edits.entry(table, entry);
            Ok(())
        })?;
        edits.checkpoint(&checkpoint);
        let mut state = self.state.lock();
        state.change(&edits, || {
            tables.iter().try_for_each(|table| self.content.ensure_table(*table))?;
            source.visit_entries(&mut |table, entry| write(&self.content, table, entry))
        })?;
        state.checkpoint = checkpoint;
        state.debt += 1;
        Ok(())
    }

    fn horizon(&self) -> Version {
        self.state.lock().horizon
    }

    fn set_horizon(&self, horizon: Version) -> Result<()> {
        let mut state = self.state.lock();
        if horizon <= state.horizon {
            return Ok(());
        }
        let mut edits = Encoder::default();
        edits.horizon(horizon);
        state.change(&edits, || Ok(()))?;
        state.horizon = horizon;
        state.debt += 1;
        Ok(())
    }

    fn files(&self) -> Vec<TierFile> {
        Vec::new()
    }

    fn counters(&self) -> FileCounters {
        FileCounters::default()
    }

    fn set_retention(&self, source: Arc<dyn RetentionSource>) {
        *self.retention.lock() = Some(source);
    }

    fn step(&self) -> Result<bool> {
        let mut state = self.state.lock();
        if state.debt == 0 || state.is_paused {
            return Ok(false);
        }
        self.rewrite(&mut state)?;
        state.debt /= 2;
        Ok(true)
    }

    fn pause_reclaim(&self, is_paused: bool) {
        self.state.lock().is_paused = is_paused;
    }

    fn reclaimed(&self) -> Vec<(EntryKind, Amount)> {
        self.state.lock().reclaimed.clone().into_iter().collect()
    }

    fn reclaim_all(&self) {
        self.state.lock().debt += 1;
    }

    fn is_reclaiming_all(&self) -> bool {
        self.state.lock().debt > 0
    }

    fn pressure(&self) -> Pressure {
        let why = |debt: u64| format!("the work of {debt} flushes is due");
        match self.state.lock().debt {
            debt if debt >= self.stop_at => Pressure::Stop { why: why(debt) },
            debt if debt >= self.slow_at => Pressure::Slow { why: why(debt) },
            _ => Pressure::None,
        }
    }

    fn compact(&self, _table: EntryKind, _range: &KeyRange, _wake: &dyn Fn()) -> Result<()> {
        self.rewrite(&mut self.state.lock())
    }

    fn verify(&self) -> Result<VerifiedFiles> {
        let (number, end) = self.state.lock().journal.place();
        let (found, edits) = durable_journal::read(&*self.disk, number)?;
        if found < end {
            let what = format!("manifest-{number:016x} is damaged at byte {found}: expected records up to byte {end}");
            return Err(Error::with_source(ErrorKind::Corruption, what));
        }
        let entries = edits.iter().filter(|edit| matches!(edit, Edit::Entry(..))).count() as u64;
        Ok(VerifiedFiles { files: 1, bytes: end, entries })
    }
}

impl TierStorage for DurableModel {
    fn get(&self, table: EntryKind, prefix: &[u8], at: Version) -> Result<Lookup> {
        self.content.get(table, prefix, at)
    }

    fn get_many(&self, keys: &[KeyRef<'_>], at: Version) -> Result<Vec<Lookup>> {
        self.content.get_many(keys, at)
    }

    fn set(&self, batch: &TierBatch) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let mut edits = Encoder::default();
        batch.iter().for_each(|(table, entry)| edits.entry(table, entry));
        self.state.lock().change(&edits, || self.content.set(batch))
    }

    fn make_room(&self, batches: &[&TierBatch]) -> Result<()> {
        let mut edits = Encoder::default();
        batches.iter().flat_map(|batch| batch.iter()).for_each(|(table, entry)| edits.entry(table, entry));
        self.state.lock().journal.reserve(&edits, batches.len())
    }

    fn range_next(&self, cursor: &mut RangeCursor, batch_size: usize) -> Result<RangeBatch> {
        self.content.range_next(cursor, batch_size)
    }

    fn range_rev_next(&self, cursor: &mut RangeCursor, batch_size: usize) -> Result<RangeBatch> {
        self.content.range_rev_next(cursor, batch_size)
    }

    fn scan(self: Arc<Self>, request: RangeRequest) -> Result<Box<dyn TierScan>> {
        Ok(Box::new(PagedScan::new(self, request)))
    }

    fn ensure_table(&self, table: EntryKind) -> Result<()> {
        let mut edits = Encoder::default();
        edits.ensure(table);
        self.state.lock().change(&edits, || self.content.ensure_table(table))
    }

    fn tables(&self) -> Result<Vec<EntryKind>> {
        self.content.tables()
    }

    fn clear_table(&self, table: EntryKind) -> Result<()> {
        let mut edits = Encoder::default();
        edits.clear(table);
        self.state.lock().change(&edits, || self.content.clear_table(table))
    }

    fn drop_versions(&self, drops: &[DropVersion]) -> Result<()> {
        if drops.is_empty() {
            return Ok(());
        }
        let mut edits = Encoder::default();
        for named in drops {
            edits.drop_version(named.table, &named.prefix, named.version);
        }
        self.state.lock().change(&edits, || self.content.drop_versions(drops))
    }

    fn get_all_versions(&self, table: EntryKind, prefix: &[u8]) -> Result<Vec<RawEntry>> {
        self.content.get_all_versions(table, prefix)
    }

    fn stats(&self) -> TierStats {
        self.content.stats()
    }
}
