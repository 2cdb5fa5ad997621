//! A tier over std's ordered map behind one reader-writer lock: plainly right rather than fast. It relies on nothing but the
//! lock for the atomicity of batches, so readers and writers do wait for one another.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;
use thermocline_tier::{
    Direction, DropVersion, EntryKind, EntryRef, Error, ErrorKind, KeyRange, KeyRef, Lookup, PagedScan, RangeBatch, RangeCursor,
    RangeRequest, RawEntry, Result, TableStats, TierBatch, TierScan, TierStats, TierStorage, Version,
};

use crate::options::HotOptions;

/// The bytes counted for a key besides the key itself: its share of a map node, its version map.
const KEY_OVERHEAD_BYTES: u64 = 96;
/// The bytes counted for an entry besides suffix and value: its share of a map node, two shared buffers.
const ENTRY_OVERHEAD_BYTES: u64 = 128;

/// The model: the contract of [`TierStorage`] over a `BTreeMap` behind one lock. Readers do not wait for readers, but they
/// do wait for writers. Its `memory_bytes` is an estimate from the sizes of keys, suffixes and values.
///
/// ```
/// use thermocline_hot::{BTreeTier, HotOptions};
/// use thermocline_tier::{BatchBuilder, EntryKind, TierStorage, Version, WholeKey};
///
/// let tier = BTreeTier::new(HotOptions::default());
/// let mut batch = BatchBuilder::new();
/// batch.put(EntryKind::Multi, b"k", b"v")?;
/// tier.set(&batch.finish(&WholeKey, Version(1)))?;
/// assert!(tier.contains(EntryKind::Multi, b"k", Version::MAX)?);
/// assert!(!tier.contains(EntryKind::Multi, b"k", Version(0))?);
/// # Ok::<(), thermocline_tier::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct BTreeTier {
    options: HotOptions,
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    tables: BTreeMap<EntryKind, Table>,
    memory_bytes: u64,
}

#[derive(Debug, Default)]
struct Table {
    keys: BTreeMap<Bytes, BTreeMap<Version, Entry>>,
    stats: TableStats,
}

#[derive(Debug)]
struct Entry {
    suffix: Bytes,
    value: Option<Bytes>,
}

impl Entry {
    fn user_bytes(&self, prefix: &[u8]) -> u64 {
        (prefix.len() + self.suffix.len() + self.value.as_ref().map_or(0, Bytes::len)) as u64
    }

    fn memory_bytes(&self) -> u64 {
        self.user_bytes(&[]) + ENTRY_OVERHEAD_BYTES
    }

    fn to_lookup(&self, version: Version) -> Lookup {
        match &self.value {
            Some(bytes) => Lookup::Value { version, suffix: self.suffix.clone(), bytes: bytes.clone() },
            None => Lookup::Tombstone { version },
        }
    }
}

impl Table {
    fn newest(&self, prefix: &[u8], at: Version) -> Option<(Version, &Entry)> {
        let (version, entry) = self.keys.get(prefix)?.range(..=at).next_back()?;
        Some((*version, entry))
    }

    /// Stores an entry and answers by how many bytes the table grew.
    fn put(&mut self, entry: EntryRef<'_>) -> (u64, u64) {
        let stored = Entry { suffix: Bytes::copy_from_slice(entry.suffix), value: entry.value.map(Bytes::copy_from_slice) };
        let mut added = stored.memory_bytes();
        self.stats.entries += 1;
        self.stats.tombstones += u64::from(entry.is_tombstone());
        self.stats.user_bytes += stored.user_bytes(entry.prefix);
        if !self.keys.contains_key(entry.prefix) {
            self.stats.keys += 1;
            added += entry.prefix.len() as u64 + KEY_OVERHEAD_BYTES;
            self.keys.insert(Bytes::copy_from_slice(entry.prefix), BTreeMap::new());
        }
        let replaced = self.keys.get_mut(entry.prefix).and_then(|versions| versions.insert(entry.version, stored));
        (added, replaced.map_or(0, |replaced| self.forget(entry.prefix, &replaced)))
    }

    /// Removes an entry and answers by how many bytes the table shrank.
    fn remove(&mut self, prefix: &[u8], version: Version) -> u64 {
        let Some(versions) = self.keys.get_mut(prefix) else { return 0 };
        let Some(removed) = versions.remove(&version) else { return 0 };
        let mut freed = 0;
        if versions.is_empty() {
            self.keys.remove(prefix);
            self.stats.keys -= 1;
            freed += prefix.len() as u64 + KEY_OVERHEAD_BYTES;
        }
        freed + self.forget(prefix, &removed)
    }

    fn forget(&mut self, prefix: &[u8], removed: &Entry) -> u64 {
        self.stats.entries -= 1;
        self.stats.tombstones -= u64::from(removed.value.is_none());
        self.stats.user_bytes -= removed.user_bytes(prefix);
        removed.memory_bytes()
    }

    fn memory_bytes(&self) -> u64 {
        let of_key = |(prefix, versions): (&Bytes, &BTreeMap<Version, Entry>)| {
            prefix.len() as u64 + KEY_OVERHEAD_BYTES + versions.values().map(Entry::memory_bytes).sum::<u64>()
        };
        self.keys.iter().map(of_key).sum()
    }
}

type BorrowedBounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// The same bounds, borrowed as the map wants them; `None` for a range that the map would refuse as inverted.
fn bounds(range: &KeyRange) -> Option<BorrowedBounds<'_>> {
    fn borrow(bound: &Bound<Bytes>) -> Bound<&[u8]> {
        match bound {
            Bound::Included(key) => Bound::Included(key),
            Bound::Excluded(key) => Bound::Excluded(key),
            Bound::Unbounded => Bound::Unbounded,
        }
    }
    (!range.is_empty()).then(|| (borrow(&range.start), borrow(&range.end)))
}

impl BTreeTier {
    /// An empty tier.
    pub fn new(options: HotOptions) -> Self {
        Self { options, state: RwLock::default() }
    }

    /// The options that the tier was made with.
    pub fn options(&self) -> &HotOptions {
        &self.options
    }

    fn page(&self, cursor: &mut RangeCursor, direction: Direction, batch_size: usize) -> Result<RangeBatch> {
        cursor.check_use(direction, batch_size)?;
        let mut page = RangeBatch::new();
        let state = self.state.read();
        let table = state.tables.get(&cursor.request().table).filter(|_| !cursor.is_exhausted());
        let remaining = cursor.remaining();
        if let (Some(table), Some(bounds)) = (table, bounds(&remaining)) {
            let range = table.keys.range::<[u8], _>(bounds);
            match direction {
                Direction::Forward => fill(&mut page, range, cursor, batch_size),
                Direction::Reverse => fill(&mut page, range.rev(), cursor, batch_size),
            }
        }
        match page.last() {
            Some(last) => cursor.advance(last.prefix, page.has_more),
            None => cursor.exhaust(),
        }
        Ok(page)
    }
}

/// Appends the entries that the cursor's window selects, until the page is full.
fn fill<'a>(
    page: &mut RangeBatch,
    keys: impl Iterator<Item = (&'a Bytes, &'a BTreeMap<Version, Entry>)>,
    cursor: &RangeCursor,
    batch_size: usize,
) {
    let window = cursor.request().window;
    for (prefix, versions) in keys {
        let Some((version, entry)) = versions.range(..=window.at).next_back() else { continue };
        if !window.selects(*version) {
            continue;
        }
        if page.len() == batch_size {
            page.has_more = true;
            return;
        }
        page.push(prefix, &entry.suffix, *version, entry.value.as_deref());
    }
}

impl BTreeTier {
    fn check_room(&self, state: &State, batches: &[&TierBatch]) -> Result<()> {
        let Some(budget) = self.options.memory_limit_bytes else { return Ok(()) };
        let need =
            |batch: &&TierBatch| batch.size_bytes() as u64 + batch.len() as u64 * (KEY_OVERHEAD_BYTES + ENTRY_OVERHEAD_BYTES);
        let needed: u64 = batches.iter().map(need).sum();
        if needed > 0 && state.memory_bytes + needed > budget {
            return Err(Error::new(ErrorKind::MemoryExhausted { budget, used: state.memory_bytes }));
        }
        Ok(())
    }
}

impl TierStorage for BTreeTier {
    fn get(&self, table: EntryKind, prefix: &[u8], at: Version) -> Result<Lookup> {
        let state = self.state.read();
        let found = state.tables.get(&table).and_then(|table| table.newest(prefix, at));
        Ok(found.map_or(Lookup::Absent, |(version, entry)| entry.to_lookup(version)))
    }

    fn get_many(&self, keys: &[KeyRef<'_>], at: Version) -> Result<Vec<Lookup>> {
        // One lock for all keys, so that they see one state.
        let state = self.state.read();
        let one = |key: &KeyRef<'_>| {
            let found = state.tables.get(&key.table).and_then(|table| table.newest(key.prefix, at));
            found.map_or(Lookup::Absent, |(version, entry)| entry.to_lookup(version))
        };
        Ok(keys.iter().map(one).collect())
    }

    fn make_room(&self, batches: &[&TierBatch]) -> Result<()> {
        self.check_room(&self.state.read(), batches)
    }

    fn set(&self, batch: &TierBatch) -> Result<()> {
        let mut state = self.state.write();
        self.check_room(&state, &[batch])?;
        for (table, entry) in batch.iter() {
            let (added, freed) = state.tables.entry(table).or_default().put(entry);
            state.memory_bytes = state.memory_bytes + added - freed;
        }
        Ok(())
    }

    fn range_next(&self, cursor: &mut RangeCursor, batch_size: usize) -> Result<RangeBatch> {
        self.page(cursor, Direction::Forward, batch_size)
    }

    fn range_rev_next(&self, cursor: &mut RangeCursor, batch_size: usize) -> Result<RangeBatch> {
        self.page(cursor, Direction::Reverse, batch_size)
    }

    fn scan(self: Arc<Self>, request: RangeRequest) -> Result<Box<dyn TierScan>> {
        Ok(Box::new(PagedScan::new(self, request)))
    }

    fn ensure_table(&self, table: EntryKind) -> Result<()> {
        self.state.write().tables.entry(table).or_default();
        Ok(())
    }

    fn tables(&self) -> Result<Vec<EntryKind>> {
        Ok(self.state.read().tables.keys().copied().collect())
    }

    fn clear_table(&self, table: EntryKind) -> Result<()> {
        let mut state = self.state.write();
        if let Some(cleared) = state.tables.get_mut(&table).map(std::mem::take) {
            state.memory_bytes -= cleared.memory_bytes();
        }
        Ok(())
    }

    fn drop_versions(&self, drops: &[DropVersion]) -> Result<()> {
        let mut state = self.state.write();
        for DropVersion { table, prefix, version } in drops {
            let freed = state.tables.get_mut(table).map_or(0, |table| table.remove(prefix, *version));
            state.memory_bytes -= freed;
        }
        Ok(())
    }

    fn get_all_versions(&self, table: EntryKind, prefix: &[u8]) -> Result<Vec<RawEntry>> {
        let state = self.state.read();
        let Some((key, versions)) = state.tables.get(&table).and_then(|table| table.keys.get_key_value(prefix)) else {
            return Ok(Vec::new());
        };
        let entry = |(version, entry): (&Version, &Entry)| RawEntry {
            prefix: key.clone(),
            suffix: entry.suffix.clone(),
            version: *version,
            value: entry.value.clone(),
        };
        Ok(versions.iter().rev().map(entry).collect())
    }

    fn stats(&self) -> TierStats {
        let state = self.state.read();
        TierStats {
            tables: state.tables.iter().map(|(table, content)| (*table, content.stats)).collect(),
            memory_bytes: state.memory_bytes,
            garbage_bytes: 0,
        }
    }
}
