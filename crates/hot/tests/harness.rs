//! What the tests share: batches from lists, and the comparison of two tiers in every way of reading.

use std::sync::Arc;

use thermocline_hot::{BTreeTier, HotOptions, HotTier};
use thermocline_tier::{
    BatchBuilder, Direction, DropVersion, EntryKind, EntryRef, FixedSuffix, KeyRange, KeyRef, RangeBatch, RangeCursor,
    RangeRequest, RawEntry, ReadWindow, TierBatch, TierStorage, Version, WholeKey,
};

/// A write: table, key, value or tombstone.
pub(crate) type Write = (EntryKind, Vec<u8>, Option<Vec<u8>>);

/// The number of cases for a proptest: few under miri, which is some thousand times slower.
pub(crate) fn cases(usual: u32) -> u32 {
    if cfg!(miri) { 2 } else { usual }
}

/// `usual`, or `small` under miri.
pub(crate) fn scaled(usual: usize, small: usize) -> usize {
    if cfg!(miri) { small } else { usual }
}

pub(crate) fn batch(version: u64, writes: &[Write]) -> TierBatch {
    builder(writes).finish(&WholeKey, Version(version))
}

pub(crate) fn batch_with_suffix(version: u64, writes: &[Write]) -> TierBatch {
    builder(writes).finish(&FixedSuffix(1), Version(version))
}

fn builder(writes: &[Write]) -> BatchBuilder {
    let mut builder = BatchBuilder::new();
    for (table, key, value) in writes {
        match value {
            Some(value) => builder.put(*table, key, value).unwrap(),
            None => builder.remove(*table, key).unwrap(),
        }
    }
    builder
}

pub(crate) fn put(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Write {
    (EntryKind::Multi, key.as_ref().to_vec(), Some(value.as_ref().to_vec()))
}

pub(crate) fn drop_of(table: EntryKind, key: &[u8], version: u64) -> DropVersion {
    DropVersion { table, prefix: bytes::Bytes::copy_from_slice(key), version: Version(version) }
}

/// A hot tier and its model, written alike.
#[derive(Debug, Default)]
pub(crate) struct Pair {
    pub(crate) hot: Arc<HotTier>,
    pub(crate) model: BTreeTier,
}

impl Pair {
    pub(crate) fn new(options: HotOptions) -> Self {
        Self { hot: Arc::new(HotTier::new(options)), model: BTreeTier::default() }
    }

    pub(crate) fn set(&self, batch: &TierBatch) {
        self.hot.set(batch).unwrap();
        self.model.set(batch).unwrap();
    }

    pub(crate) fn drop_versions(&self, drops: &[DropVersion]) {
        self.hot.drop_versions(drops).unwrap();
        self.model.drop_versions(drops).unwrap();
    }

    pub(crate) fn clear(&self, table: EntryKind) {
        self.hot.clear_table(table).unwrap();
        self.model.clear_table(table).unwrap();
    }

    /// Compares a visit with the model's, and with what the tier says key by key.
    pub(crate) fn check_visit(&self) {
        let visited = visit(&*self.hot);
        assert_eq!(visited, visit(&self.model));
        assert_eq!(visited, read_all(&*self.hot));
    }

    /// Compares everything that needs no key.
    pub(crate) fn check_whole(&self, versions: &[u64]) {
        let tables = self.model.tables().unwrap();
        assert_eq!(self.hot.tables().unwrap(), tables);
        assert_eq!(self.hot.stats().tables, self.model.stats().tables);
        self.check_visit();
        for table in tables {
            for at in versions.iter().copied().chain([0, u64::MAX]).map(Version) {
                for direction in [Direction::Forward, Direction::Reverse] {
                    for window in [ReadWindow::as_of(at), ReadWindow::between(Version(at.0 / 2), at)] {
                        let request = RangeRequest { table, range: KeyRange::all(), window, direction };
                        self.check_scan(&request, 7);
                    }
                }
            }
        }
    }

    /// Compares all that can be asked of one key.
    pub(crate) fn check_key(&self, table: EntryKind, key: &[u8], versions: &[u64]) {
        assert_eq!(
            self.hot.get_all_versions(table, key).unwrap(),
            self.model.get_all_versions(table, key).unwrap(),
            "all versions of {key:?}"
        );
        for at in versions.iter().flat_map(|v| [v.saturating_sub(1), *v, v.saturating_add(1)]).chain([0, u64::MAX]).map(Version) {
            let expected = self.model.get(table, key, at).unwrap();
            assert_eq!(self.hot.get(table, key, at).unwrap(), expected, "{key:?} at {at}");
            assert_eq!(self.hot.contains(table, key, at).unwrap(), expected.is_value());
            assert_eq!(self.hot.get_many(&[KeyRef { table, prefix: key }; 2], at).unwrap(), [expected.clone(), expected]);
            assert_eq!(self.hot.get_previous(table, key, at).unwrap(), self.model.get_previous(table, key, at).unwrap());
        }
    }

    /// Compares a scan page by page, entry by entry, paged and streamed.
    pub(crate) fn check_scan(&self, request: &RangeRequest, page_size: usize) {
        let (mut hot, mut model) = (request.clone().into_cursor(), request.clone().into_cursor());
        let mut scan = Arc::clone(&self.hot).scan(request.clone()).unwrap();
        let mut streamed = RangeBatch::new();
        loop {
            let found = page(&*self.hot, &mut hot, page_size);
            let expected = page(&self.model, &mut model, page_size);
            assert_eq!(entries(&found), entries(&expected), "{request:?}");
            assert_eq!(found.has_more, expected.has_more, "{request:?}");
            assert_eq!(hot, model);
            scan.next_batch(page_size, &mut streamed).unwrap();
            assert_eq!((entries(&streamed), streamed.has_more), (entries(&expected), expected.has_more), "{request:?}");
            if !expected.has_more {
                return;
            }
        }
    }
}

pub(crate) fn page(tier: &dyn TierStorage, cursor: &mut RangeCursor, page_size: usize) -> RangeBatch {
    match cursor.request().direction {
        Direction::Forward => tier.range_next(cursor, page_size).unwrap(),
        Direction::Reverse => tier.range_rev_next(cursor, page_size).unwrap(),
    }
}

pub(crate) fn entries(page: &RangeBatch) -> Vec<RawEntry> {
    page.clone().into_entries().collect()
}

/// Every entry that a visit hands out.
pub(crate) fn visit(tier: &dyn TierStorage) -> Vec<(EntryKind, RawEntry)> {
    let mut visited = Vec::new();
    let mut keep = |table, entry: EntryRef<'_>| {
        visited.push((table, owned(entry)));
        Ok(())
    };
    tier.visit_entries(&mut keep).unwrap();
    visited
}

fn owned(entry: EntryRef<'_>) -> RawEntry {
    let copy = bytes::Bytes::copy_from_slice;
    RawEntry { prefix: copy(entry.prefix), suffix: copy(entry.suffix), version: entry.version, value: entry.value.map(copy) }
}

/// Every entry, read key by key: what a visit is by its contract.
fn read_all(tier: &dyn TierStorage) -> Vec<(EntryKind, RawEntry)> {
    let mut all = Vec::new();
    for table in tier.tables().unwrap() {
        let window = ReadWindow::as_of(Version::MAX);
        let request = RangeRequest { table, range: KeyRange::all(), window, direction: Direction::Forward };
        for newest in entries(&tier.range_next(&mut request.into_cursor(), usize::MAX - 1).unwrap()) {
            all.extend(tier.get_all_versions(table, &newest.prefix).unwrap().into_iter().map(|entry| (table, entry)));
        }
    }
    all
}
