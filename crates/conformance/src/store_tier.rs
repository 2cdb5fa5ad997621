//! A store behind the contract of a tier, so that the tier cases and the random histories run on it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::iter::Peekable;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use thermocline_io::{CrashPoint, CrashProfile, SimDisk, Survival};
use thermocline_store::{Batch, CommitOptions, Durability, Snapshot, Store};
use thermocline_tier::{
    Direction, DropRule, DropVersion, EntryKind, ErrorKind, KeyRange, KeyRef, Lookup, RangeBatch, RangeCursor, RangeRequest,
    RawEntry, Result, TierBatch, TierScan, TierStats, TierStorage, Version,
};

use crate::store_backend::StoreBackend;

/// A store on a simulated disk, seen as a tier.
///
/// A write is a commit at its version, a drop a commit with nothing else, a clear is a purge, and every answer is the store's.
/// Two things a store does not do for a tier:
///
/// - It takes no version at or below its last. After such a write the adapter makes a new store, with the same history in ascending
///   order, before anything is read: what the tier cases say of reads then holds for the store too. What they say of late writes
///   themselves does not concern a store.
/// - Its ranges hide tombstones. The adapter asks for every key that was ever removed, and puts the tombstones that the store
///   answers with among the rows of its ranges.
///
/// ```
/// use std::sync::Arc;
/// use thermocline_conformance::{ModelTier, StoreBackend, StoreTier};
/// use thermocline_tier::{BatchBuilder, EntryKind, Lookup, TierStorage, Version, WholeKey};
///
/// let tier = StoreTier::open(&StoreBackend::new("store", || Arc::new(ModelTier::new())))?;
/// let mut batch = BatchBuilder::new();
/// batch.remove(EntryKind::Multi, b"k")?;
/// tier.set(&batch.finish(&WholeKey, Version(2)))?;
/// assert_eq!(tier.get(EntryKind::Multi, b"k", Version::MAX)?, Lookup::Tombstone { version: Version(2) });
/// # Ok::<(), thermocline_tier::Error>(())
/// ```
pub struct StoreTier {
    backend: StoreBackend,
    open: RwLock<Option<(SimDisk, Store)>>,
    /// Something was written that the store could not take: it must be made anew.
    is_stale: AtomicBool,
    written: Mutex<Written>,
    /// Every key that was removed at some version.
    removed: RwLock<BTreeSet<(EntryKind, Bytes)>>,
}

type Writes = BTreeMap<(EntryKind, Bytes), Option<Bytes>>;

/// What the store must hold, to make it anew.
#[derive(Default)]
struct Written {
    tables: BTreeSet<EntryKind>,
    versions: BTreeMap<Version, Writes>,
}

impl Written {
    fn add(&mut self, batch: &TierBatch) {
        let writes = self.versions.entry(batch.version()).or_default();
        for (table, entry) in batch.iter() {
            self.tables.insert(table);
            writes.insert((table, Bytes::copy_from_slice(entry.prefix)), entry.value.map(Bytes::copy_from_slice));
        }
    }
}

impl StoreTier {
    /// An empty store of `backend`.
    ///
    /// # Errors
    /// What opening it fails with.
    pub fn open(backend: &StoreBackend) -> Result<Self> {
        let tier = Self {
            backend: backend.clone(),
            open: RwLock::default(),
            is_stale: AtomicBool::new(false),
            written: Mutex::default(),
            removed: RwLock::default(),
        };
        tier.store()?;
        Ok(tier)
    }

    /// The store, with all that was written.
    fn store(&self) -> Result<Store> {
        let is_stale = || self.is_stale.load(Ordering::Acquire);
        if !is_stale()
            && let Some((_, store)) = &*self.open.read()
        {
            return Ok(store.clone());
        }
        let written = self.written.lock();
        let mut open = self.open.write();
        if let (false, Some((_, store))) = (is_stale(), &*open) {
            return Ok(store.clone());
        }
        let disk = self.backend.disk();
        let store = self.open_on(&disk)?;
        for table in &written.tables {
            store.ensure_table(*table)?;
        }
        for (version, writes) in &written.versions {
            let options = CommitOptions { version: Some(*version), durability: Some(Durability::Memory) };
            store
                .commit_with(batch_of(writes.iter().map(|((table, key), value)| (*table, &**key, value.as_deref()))), options)?;
        }
        store.sync()?;
        disk.restart_recording();
        *open = Some((disk, store.clone()));
        self.is_stale.store(false, Ordering::Release);
        Ok(store)
    }

    fn open_on(&self, disk: &SimDisk) -> Result<Store> {
        self.backend.open(disk, StoreBackend::options())
    }

    /// Flushes the store.
    ///
    /// # Errors
    /// What that fails with.
    pub fn flush(&self) -> Result<()> {
        self.store()?.flush()?;
        self.forget_trace();
        Ok(())
    }

    /// Compacts every table of the store.
    ///
    /// # Errors
    /// What that fails with.
    pub fn compact(&self) -> Result<()> {
        let store = self.store()?;
        store.tables()?.into_iter().try_for_each(|table| store.compact(table, &KeyRange::all()))?;
        store.wait_idle()?;
        self.forget_trace();
        Ok(())
    }

    /// Gives back what the disk keeps for crashes in the past.
    fn forget_trace(&self) {
        if let Some((disk, _)) = &*self.open.read() {
            disk.restart_recording();
        }
    }

    /// Closes the store and opens it again.
    ///
    /// # Errors
    /// What either fails with.
    pub fn reopen(&self) -> Result<()> {
        self.store()?.close()?;
        self.replace(SimDisk::clone)
    }

    /// Cuts the power, which takes away all that was not synced, and opens the store on what is left.
    ///
    /// # Errors
    /// What opening fails with.
    pub fn crash(&self) -> Result<()> {
        self.store()?;
        self.replace(|disk| disk.crash_image(CrashPoint::before(usize::MAX), CrashProfile::new(Survival::None), 0))
    }

    fn replace(&self, next_disk: impl FnOnce(&SimDisk) -> SimDisk) -> Result<()> {
        let mut open = self.open.write();
        let Some(disk) = open.as_ref().map(|(disk, _)| next_disk(disk)) else { return Ok(()) };
        let store = self.open_on(&disk)?;
        disk.restart_recording();
        *open = Some((disk, store));
        Ok(())
    }

    fn at(&self, at: Version) -> Result<Snapshot> {
        self.store()?.at(at)
    }

    /// The tombstones among the rows of a scan, in its order.
    fn tombstones(&self, snapshot: &Snapshot, request: &RangeRequest, range: &KeyRange) -> Result<VecDeque<RawEntry>> {
        let removed = self.removed.read();
        let keys: Vec<KeyRef<'_>> = removed
            .iter()
            .filter(|(table, key)| *table == request.table && range.contains(key))
            .map(|(table, prefix)| KeyRef { table: *table, prefix })
            .collect();
        let found = reclaimed_as(Vec::new(), snapshot.lookup_many(&keys))?;
        let mut tombstones: VecDeque<RawEntry> = keys
            .iter()
            .zip(found)
            .filter_map(|(key, found)| match found {
                Lookup::Tombstone { version } if request.window.selects(version) => Some(row(key.prefix, version, None)),
                _ => None,
            })
            .collect();
        if request.direction == Direction::Reverse {
            tombstones.make_contiguous().reverse();
        }
        Ok(tombstones)
    }

    fn page(&self, cursor: &mut RangeCursor, direction: Direction, batch_size: usize) -> Result<RangeBatch> {
        cursor.check_use(direction, batch_size)?;
        if cursor.is_exhausted() {
            return Ok(RangeBatch::new());
        }
        let (request, range) = (cursor.request().clone(), cursor.remaining());
        let snapshot = self.at(request.window.at)?;
        let tombstones = self.tombstones(&snapshot, &request, &range)?;
        let mut merged = if request.window.after.is_some() {
            let visible = visible(&snapshot, &RangeRequest { range, ..request });
            Merged { visible: visible.peekable(), tombstones }
        } else {
            let page = match direction {
                Direction::Forward => snapshot.page(request.table, range, batch_size),
                Direction::Reverse => snapshot.page_rev(request.table, range, batch_size),
            };
            let page = reclaimed_as(thermocline_store::Page::default(), page)?;
            let has_more = page.next.is_some();
            let rows = page.entries.into_iter().map(Ok).collect::<Vec<_>>().into_iter();
            let visible = versioned(snapshot, &request, Box::new(rows)).collect::<Vec<_>>();
            let mut merged = Merged { visible: (Box::new(visible.into_iter()) as Visible).peekable(), tombstones };
            return finish_page(cursor, direction, &mut merged, batch_size, has_more);
        };
        finish_page(cursor, direction, &mut merged, batch_size, false)
    }
}

fn finish_page(
    cursor: &mut RangeCursor,
    direction: Direction,
    merged: &mut Merged,
    batch_size: usize,
    has_more_behind: bool,
) -> Result<RangeBatch> {
    let mut page = RangeBatch::new();
    merged.fill(direction, batch_size, &mut page)?;
    page.has_more |= has_more_behind;
    match page.last() {
        Some(last) => cursor.advance(last.prefix, page.has_more),
        None => cursor.exhaust(),
    }
    Ok(page)
}

type Visible = Box<dyn Iterator<Item = Result<RawEntry>> + Send>;

/// The rows of a store's scan among the tombstones.
struct Merged {
    visible: Peekable<Visible>,
    tombstones: VecDeque<RawEntry>,
}

impl Merged {
    fn fill(&mut self, direction: Direction, entries: usize, out: &mut RangeBatch) -> Result<()> {
        for _entry in 0..entries {
            let take_tombstone = match (self.visible.peek(), self.tombstones.front()) {
                (Some(Ok(row)), Some(tombstone)) => (row.prefix < tombstone.prefix) == (direction == Direction::Reverse),
                (row, tombstone) => row.is_none() && tombstone.is_some(),
            };
            let next = if take_tombstone { self.tombstones.pop_front().map(Ok) } else { self.visible.next() };
            let Some(entry) = next.transpose()? else { break };
            out.push(&entry.prefix, &entry.suffix, entry.version, entry.value.as_deref());
        }
        out.has_more = self.visible.peek().is_some() || !self.tombstones.is_empty();
        Ok(())
    }
}

struct StoreScan {
    merged: Merged,
    direction: Direction,
}

impl fmt::Debug for StoreScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreScan").field("direction", &self.direction).finish_non_exhaustive()
    }
}

impl TierScan for StoreScan {
    fn next_batch(&mut self, entries_max: usize, out: &mut RangeBatch) -> Result<()> {
        if entries_max == 0 {
            return Err(ErrorKind::InvalidArgument { what: "a batch of 0 entries can never finish a scan".into() }.into());
        }
        out.clear();
        self.merged.fill(self.direction, entries_max, out)
    }
}

/// The rows that the store's iterator gives.
fn visible(snapshot: &Snapshot, request: &RangeRequest) -> Visible {
    let scan = snapshot.scan(request.table, request.range.clone());
    let rows: Box<dyn Iterator<Item = Result<(Bytes, Bytes)>> + Send> = match request.direction {
        Direction::Forward => Box::new(scan),
        Direction::Reverse => Box::new(scan.rev()),
    };
    versioned(snapshot.clone(), request, rows)
}

/// Adds to each row its version, which must belong to the same value.
fn versioned(
    snapshot: Snapshot,
    request: &RangeRequest,
    rows: Box<dyn Iterator<Item = Result<(Bytes, Bytes)>> + Send>,
) -> Visible {
    let (table, window) = (request.table, request.window);
    let find = move |found: Result<(Bytes, Bytes)>| -> Option<Result<RawEntry>> {
        let (key, value) = match found {
            Ok(found) => found,
            Err(error) if is_reclaimed(&error) => return None,
            Err(error) => return Some(Err(error)),
        };
        match snapshot.lookup(table, &key) {
            Ok(Lookup::Value { version, bytes, .. }) if bytes == value => {
                window.selects(version).then(|| Ok(row(&key, version, Some(value))))
            }
            Ok(other) => {
                let what = format!("a range shows {} with a value, a lookup {other:?}", key.escape_ascii());
                Some(Err(ErrorKind::InvalidArgument { what }.into()))
            }
            Err(error) => Some(Err(error)),
        }
    };
    Box::new(rows.filter_map(find))
}

fn row(prefix: &[u8], version: Version, value: Option<Bytes>) -> RawEntry {
    RawEntry { prefix: Bytes::copy_from_slice(prefix), suffix: Bytes::new(), version, value }
}

fn batch_of<'a>(writes: impl Iterator<Item = (EntryKind, &'a [u8], Option<&'a [u8]>)>) -> Batch {
    let mut batch = Batch::new();
    for (table, key, value) in writes {
        match value {
            Some(value) => batch.put(table, key, value),
            None => batch.remove(table, key),
        };
    }
    batch
}

fn is_reclaimed(error: &thermocline_tier::Error) -> bool {
    matches!(error.kind(), ErrorKind::VersionReclaimed { .. })
}

/// A state that a purge took away has nothing in it, for a tier.
fn reclaimed_as<T>(nothing: T, found: Result<T>) -> Result<T> {
    match found {
        Err(error) if is_reclaimed(&error) => Ok(nothing),
        other => other,
    }
}

fn refuse(what: &str) -> thermocline_tier::Error {
    ErrorKind::Unsupported { what: what.into() }.into()
}

impl TierStorage for StoreTier {
    fn get(&self, table: EntryKind, prefix: &[u8], at: Version) -> Result<Lookup> {
        reclaimed_as(Lookup::Absent, self.at(at)?.lookup(table, prefix))
    }

    fn contains(&self, table: EntryKind, prefix: &[u8], at: Version) -> Result<bool> {
        reclaimed_as(false, self.at(at)?.contains(table, prefix))
    }

    fn get_many(&self, keys: &[KeyRef<'_>], at: Version) -> Result<Vec<Lookup>> {
        let snapshot = self.at(at)?;
        match snapshot.lookup_many(keys) {
            // One purged table fails all: then each for itself.
            Err(error) if is_reclaimed(&error) => {
                keys.iter().map(|key| reclaimed_as(Lookup::Absent, snapshot.lookup(key.table, key.prefix))).collect()
            }
            found => found,
        }
    }

    fn set(&self, batch: &TierBatch) -> Result<()> {
        if batch.iter().any(|(_, entry)| !entry.suffix.is_empty()) {
            return Err(refuse("a suffix"));
        }
        if batch.is_empty() {
            // For a store it would be a version.
            return Ok(());
        }
        let store = if self.is_stale.load(Ordering::Acquire) { None } else { Some(self.store()?) };
        let mut written = self.written.lock();
        let removed = batch.iter().filter(|(_, entry)| entry.is_tombstone());
        self.removed.write().extend(removed.map(|(table, entry)| (table, Bytes::copy_from_slice(entry.prefix))));
        match store.filter(|store| batch.version() > store.last_version()) {
            Some(store) => {
                let writes = batch.iter().map(|(table, entry)| (table, entry.prefix, entry.value));
                store.commit_at(batch.version(), batch_of(writes))?;
            }
            None => self.is_stale.store(true, Ordering::Release),
        }
        written.add(batch);
        Ok(())
    }

    fn range_next(&self, cursor: &mut RangeCursor, batch_size: usize) -> Result<RangeBatch> {
        self.page(cursor, Direction::Forward, batch_size)
    }

    fn range_rev_next(&self, cursor: &mut RangeCursor, batch_size: usize) -> Result<RangeBatch> {
        self.page(cursor, Direction::Reverse, batch_size)
    }

    fn scan(self: Arc<Self>, request: RangeRequest) -> Result<Box<dyn TierScan>> {
        let snapshot = self.at(request.window.at)?;
        let tombstones = self.tombstones(&snapshot, &request, &request.range)?;
        let merged = Merged { visible: visible(&snapshot, &request).peekable(), tombstones };
        Ok(Box::new(StoreScan { merged, direction: request.direction }))
    }

    fn ensure_table(&self, table: EntryKind) -> Result<()> {
        let store = self.store()?;
        self.written.lock().tables.insert(table);
        store.ensure_table(table)
    }

    fn tables(&self) -> Result<Vec<EntryKind>> {
        self.store()?.tables()
    }

    fn clear_table(&self, table: EntryKind) -> Result<()> {
        let store = self.store()?;
        let mut written = self.written.lock();
        match store.purge_table(table) {
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::VersionExhausted { .. }) => {
                self.is_stale.store(true, Ordering::Release);
            }
            Err(error) => return Err(error),
        }
        for writes in written.versions.values_mut() {
            writes.retain(|(of, _), _| *of != table);
        }
        Ok(())
    }

    fn drop_versions(&self, drops: &[DropVersion]) -> Result<()> {
        let store = self.store()?;
        let mut written = self.written.lock();
        let mut batch = Batch::new();
        for DropVersion { table, prefix, version } in drops {
            batch.drop_versions(*table, prefix, DropRule::only(*version));
            if let Some(writes) = written.versions.get_mut(version) {
                writes.remove(&(*table, prefix.clone()));
            }
        }
        match store.commit(batch) {
            Ok(_) => store.run_until_idle(),
            Err(error) if matches!(error.kind(), ErrorKind::VersionExhausted { .. }) => {
                self.is_stale.store(true, Ordering::Release);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn get_all_versions(&self, table: EntryKind, prefix: &[u8]) -> Result<Vec<RawEntry>> {
        let history = self.store()?.history(table, prefix)?;
        Ok(history.map(|entry| row(prefix, entry.version, entry.value)).collect())
    }

    fn stats(&self) -> TierStats {
        self.store().map(|store| store.stats().tiers).unwrap_or_default()
    }
}

impl fmt::Debug for StoreTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreTier").field("backend", &self.backend).finish_non_exhaustive()
    }
}
