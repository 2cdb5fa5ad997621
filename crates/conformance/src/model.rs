//! The reference model: the contract of a tier in as few lines as can be read at one go. It relies on nothing but std's ordered
//! maps and one lock, filters instead of seeking, and is what every other backend is compared with.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;
use thermocline_tier::{
    Direction, DropVersion, EntryKind, EntryRef, ErrorKind, KeyRef, Lookup, PagedScan, RangeBatch, RangeCursor, RangeRequest,
    RawEntry, Result, TableStats, TierBatch, TierScan, TierStats, TierStorage, Version,
};

/// A tier that is plainly right and not fast: a page costs a walk over its whole table.
///
/// Every call takes one lock, so that batches, drops and clears are atomic for readers on other threads. Its memory is counted as
/// the bytes of keys, suffixes and values.
///
/// ```
/// use thermocline_conformance::ModelTier;
/// use thermocline_tier::{BatchBuilder, EntryKind, Lookup, TierStorage, Version, WholeKey};
///
/// let model = ModelTier::new();
/// let mut batch = BatchBuilder::new();
/// batch.remove(EntryKind::Multi, b"k")?;
/// model.set(&batch.finish(&WholeKey, Version(2)))?;
/// assert_eq!(model.get(EntryKind::Multi, b"k", Version::MAX)?, Lookup::Tombstone { version: Version(2) });
/// # Ok::<(), thermocline_tier::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct ModelTier {
    tables: RwLock<BTreeMap<EntryKind, Table>>,
    budget_bytes: Option<u64>,
}

type Table = BTreeMap<Bytes, BTreeMap<Version, Stored>>;

#[derive(Clone, Debug)]
struct Stored {
    suffix: Bytes,
    value: Option<Bytes>,
}

impl ModelTier {
    /// An empty tier without a bound.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty tier that refuses, with [`MemoryExhausted`](ErrorKind::MemoryExhausted), a batch after which its keys, suffixes and
    /// values might take more than `budget_bytes` bytes.
    pub fn with_budget(budget_bytes: u64) -> Self {
        Self { tables: RwLock::default(), budget_bytes: Some(budget_bytes) }
    }

    fn page(&self, cursor: &mut RangeCursor, direction: Direction, batch_size: usize) -> Result<RangeBatch> {
        cursor.check_use(direction, batch_size)?;
        let mut page = RangeBatch::new();
        if cursor.is_exhausted() {
            return Ok(page);
        }
        let request = cursor.request().clone();
        let remaining = cursor.remaining();
        let tables = self.tables.read();
        let ascending = tables.get(&request.table).into_iter().flatten();
        let in_order: Box<dyn Iterator<Item = (&Bytes, &BTreeMap<Version, Stored>)>> = match direction {
            Direction::Forward => Box::new(ascending),
            Direction::Reverse => Box::new(ascending.rev()),
        };
        let mut selected = in_order.filter(|(prefix, _)| remaining.contains(prefix)).filter_map(|(prefix, versions)| {
            let (version, stored) = newest(versions, request.window.at)?;
            request.window.selects(version).then_some((prefix, version, stored))
        });
        for (prefix, version, stored) in selected.by_ref().take(batch_size) {
            page.push(prefix, &stored.suffix, version, stored.value.as_deref());
        }
        page.has_more = selected.next().is_some();
        match page.last() {
            Some(last) => cursor.advance(last.prefix, page.has_more),
            None => cursor.exhaust(),
        }
        Ok(page)
    }
}

/// The newest of a key's entries at or below `at`.
fn newest(versions: &BTreeMap<Version, Stored>, at: Version) -> Option<(Version, &Stored)> {
    versions.range(..=at).next_back().map(|(version, stored)| (*version, stored))
}

fn entry(prefix: &Bytes, version: Version, stored: &Stored) -> RawEntry {
    RawEntry { prefix: prefix.clone(), suffix: stored.suffix.clone(), version, value: stored.value.clone() }
}

fn size_bytes(entry: EntryRef<'_>) -> u64 {
    (entry.prefix.len() + entry.suffix.len() + entry.value.map_or(0, <[u8]>::len)) as u64
}

fn table_stats(table: &Table) -> TableStats {
    let mut stats = TableStats { keys: table.len() as u64, ..TableStats::default() };
    for (prefix, versions) in table {
        for (version, stored) in versions {
            stats.entries += 1;
            stats.tombstones += u64::from(stored.value.is_none());
            stats.user_bytes += size_bytes(entry(prefix, *version, stored).as_ref());
        }
    }
    stats
}

fn used_bytes(tables: &BTreeMap<EntryKind, Table>) -> u64 {
    tables.values().map(|table| table_stats(table).user_bytes).sum()
}

fn get(tables: &BTreeMap<EntryKind, Table>, table: EntryKind, prefix: &[u8], at: Version) -> Lookup {
    let found = tables.get(&table).and_then(|table| table.get_key_value(prefix));
    let found = found.and_then(|(prefix, versions)| newest(versions, at).map(|(version, stored)| entry(prefix, version, stored)));
    found.map_or(Lookup::Absent, Lookup::from)
}

impl TierStorage for ModelTier {
    fn get(&self, table: EntryKind, prefix: &[u8], at: Version) -> Result<Lookup> {
        Ok(get(&self.tables.read(), table, prefix, at))
    }

    fn get_many(&self, keys: &[KeyRef<'_>], at: Version) -> Result<Vec<Lookup>> {
        let tables = self.tables.read();
        Ok(keys.iter().map(|key| get(&tables, key.table, key.prefix, at)).collect())
    }

    fn set(&self, batch: &TierBatch) -> Result<()> {
        let mut tables = self.tables.write();
        if let Some(budget) = self.budget_bytes {
            let used = used_bytes(&tables);
            if used + batch.iter().map(|(_, entry)| size_bytes(entry)).sum::<u64>() > budget {
                return Err(ErrorKind::MemoryExhausted { budget, used }.into());
            }
        }
        for (table, entry) in batch.iter() {
            let versions = tables.entry(table).or_default().entry(Bytes::copy_from_slice(entry.prefix)).or_default();
            let (suffix, value) = (Bytes::copy_from_slice(entry.suffix), entry.value.map(Bytes::copy_from_slice));
            versions.insert(entry.version, Stored { suffix, value });
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
        self.tables.write().entry(table).or_default();
        Ok(())
    }

    fn tables(&self) -> Result<Vec<EntryKind>> {
        Ok(self.tables.read().keys().copied().collect())
    }

    fn clear_table(&self, table: EntryKind) -> Result<()> {
        if let Some(content) = self.tables.write().get_mut(&table) {
            content.clear();
        }
        Ok(())
    }

    fn drop_versions(&self, drops: &[DropVersion]) -> Result<()> {
        let mut tables = self.tables.write();
        for DropVersion { table, prefix, version } in drops {
            let Some(content) = tables.get_mut(table) else { continue };
            if let Some(versions) = content.get_mut(prefix) {
                versions.remove(version);
                if versions.is_empty() {
                    content.remove(prefix);
                }
            }
        }
        Ok(())
    }

    fn get_all_versions(&self, table: EntryKind, prefix: &[u8]) -> Result<Vec<RawEntry>> {
        let tables = self.tables.read();
        let found = tables.get(&table).and_then(|table| table.get_key_value(prefix));
        let all = found.map(|(prefix, versions)| versions.iter().rev().map(|(version, stored)| entry(prefix, *version, stored)));
        Ok(all.into_iter().flatten().collect())
    }

    fn stats(&self) -> TierStats {
        let tables = self.tables.read();
        let memory_bytes = used_bytes(&tables);
        let tables = tables.iter().map(|(table, content)| (*table, table_stats(content))).collect();
        TierStats { tables, memory_bytes, garbage_bytes: 0 }
    }
}
