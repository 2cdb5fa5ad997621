//! Visiting every entry: a page of places is read as all else is read here; the entries at those places are handed out after that.
//!
//! What is handed out is borrowed from the arena, not copied: a version node and a record's key are never written again once a
//! reader has seen them, and the page holds their arena as long as it needs it, also if the tier moves to another one meanwhile.

use std::sync::Arc;

use thermocline_tier::{EntryKind, EntryRef, Result, Version};

use crate::arena::values::{ValueAt, Values};
use crate::record::Record;
use crate::region::Region;
use crate::state::{State, View};
use crate::tree::Leaf;

/// Entries of one page: enough that to seek its beginning costs nothing, few enough that the places stay in the cache.
pub(crate) const PAGE_ENTRIES: usize = 4096;
/// How many records, and how many entries, memory is asked for ahead.
const AHEAD: usize = 16;

/// Where an entry lies.
#[derive(Clone, Copy, Debug)]
struct Place {
    record: u32,
    value: ValueAt,
    version: Version,
}

/// What the places of a page refer to.
#[derive(Debug)]
pub(crate) struct Arena {
    region: Arc<Region>,
    values: Arc<Values>,
}

/// The places of one page.
#[derive(Debug)]
struct Page {
    places: Vec<Place>,
    entries_max: usize,
}

impl Page {
    #[inline]
    fn is_full(&self) -> bool {
        self.places.len() >= self.entries_max
    }
}

/// A walk through a table: how far it has come, and its next page.
#[derive(Debug)]
pub(crate) struct Walk {
    page: Page,
    /// The key of the entry that was handed out last, and its version; `None` at the beginning of a table.
    key: Vec<u8>,
    version: Option<Version>,
}

impl Walk {
    /// A walk in pages of `entries_max` entries.
    pub(crate) fn new(entries_max: usize) -> Self {
        Self { page: Page { places: Vec::new(), entries_max }, key: Vec::new(), version: None }
    }

    /// Goes to the beginning of a table.
    pub(crate) fn start(&mut self) {
        self.version = None;
    }

    /// Hands out the entries of the page, and goes on behind them.
    pub(crate) fn hand_out(&mut self, arena: &Arena, visit: &mut dyn FnMut(EntryRef<'_>) -> Result<()>) -> Result<()> {
        let Arena { region, values } = arena;
        let places = &self.page.places;
        places.iter().take(AHEAD).for_each(|place| values.prefetch_value(place.value));
        let mut last = None;
        for (index, place) in places.iter().enumerate() {
            if let Some(ahead) = places.get(index + AHEAD) {
                values.prefetch_value(ahead.value);
            }
            if last != Some(place.record) {
                Record::new(region, place.record).copy_key(&mut self.key);
                last = Some(place.record);
            }
            self.version = Some(place.version);
            if let Some(entry) = values.entry(&self.key, place.version, place.value) {
                visit(entry)?;
            }
        }
        Ok(())
    }
}

impl State {
    /// Reads the next page of a walk through a table, and answers with what it refers to; `None` if there is nothing more.
    pub(crate) fn next_page(&self, kind: EntryKind, view: View, walk: &mut Walk) -> Option<Arena> {
        let Walk { page, key, version } = walk;
        page.places.clear();
        let (table, region) = (self.table(kind)?, &*self.region);
        let mut leaf = match version {
            Some(_) => table.tree.leaf_of(region, key),
            None => table.tree.end_leaf(region, false),
        };
        let mut last = *version;
        loop {
            let next = leaf.next();
            Leaf::prefetch(region, next);
            let ordered = leaf.ordered(region);
            let mut records = ordered.records();
            if let Some(version) = last.take() {
                // What is left of the key where the last page ended is what a reader at the version before sees.
                let before = version.previous();
                records = &records[leaf.rank(region, &ordered, key, before.is_none())..];
                if let (Some(before), Some((first, others))) = (before, records.split_first())
                    && Record::new(region, *first).is_of(key)
                {
                    self.add_versions(*first, View { at: before.min(view.at), ..view }, page);
                    records = others;
                }
            }
            self.add_records(records, view, page);
            if next == 0 || page.is_full() {
                break;
            }
            leaf = Leaf::new(region, next);
        }
        (!page.places.is_empty()).then(|| Arena { region: Arc::clone(&self.region), values: Arc::clone(&self.values) })
    }

    /// Adds the entries of records in three steps, each some records behind the one before: ask for the record, ask for its
    /// history, add.
    fn add_records(&self, records: &[u32], view: View, page: &mut Page) {
        let region = &*self.region;
        for step in 0..records.len() + 2 * AHEAD {
            if page.is_full() {
                return;
            }
            if let Some(record) = records.get(step) {
                region.prefetch(*record);
            }
            if let Some(record) = step.checked_sub(AHEAD).and_then(|index| records.get(index)) {
                region.prefetch(Record::new(region, *record).history());
            }
            if let Some(record) = step.checked_sub(2 * AHEAD).and_then(|index| records.get(index)) {
                self.add_versions(*record, view, page);
            }
        }
    }

    /// Adds the entries of one record, as far as there is room.
    #[inline]
    fn add_versions(&self, record: u32, view: View, page: &mut Page) {
        self.all_versions(record, view, |found| {
            page.places.push(Place { record, value: found.value, version: found.version });
            !page.is_full()
        });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use thermocline_tier::{BatchBuilder, DropVersion, EntryKind, EntryRef, TierStorage, Version, WholeKey};

    use crate::{BTreeTier, HotTier};

    type Visited = Vec<(EntryKind, Vec<u8>, Version, Option<Vec<u8>>)>;

    fn keep(into: &mut Visited) -> impl FnMut(EntryKind, EntryRef<'_>) -> thermocline_tier::Result<()> {
        |table, entry| {
            into.push((table, entry.prefix.to_vec(), entry.version, entry.value.map(<[u8]>::to_vec)));
            Ok(())
        }
    }

    #[test]
    fn a_key_that_goes_away_between_pages_takes_nothing_along() {
        for version in [0, 1] {
            let tier = HotTier::default();
            for (key, version) in [(b"a", version), (b"b", 5), (b"b", 1)] {
                let mut batch = BatchBuilder::new();
                batch.put(EntryKind::Multi, key, b"").unwrap();
                tier.set(&batch.finish(&WholeKey, Version(version))).unwrap();
            }
            let mut visited = Vec::new();
            let mut visit = |table, entry: EntryRef<'_>| {
                visited.push((entry.prefix.to_vec(), entry.version.0));
                let prefix = bytes::Bytes::copy_from_slice(entry.prefix);
                tier.drop_versions(&[DropVersion { table, prefix, version: entry.version }])?;
                tier.compact();
                Ok(())
            };
            tier.visit_pages(1, &mut visit).unwrap();
            assert_eq!(visited, [(b"a".to_vec(), version), (b"b".to_vec(), 5), (b"b".to_vec(), 1)]);
        }
    }

    #[test]
    fn pages_of_any_size_end_anywhere_and_lose_nothing() {
        let (tier, model) = (HotTier::default(), BTreeTier::default());
        let keys = if cfg!(miri) { 12 } else { 150 };
        for version in [7, 0, u64::MAX, 1, 9, 8] {
            let mut batch = BatchBuilder::new();
            for n in (0..keys).filter(|n| version % 7 != 1 || n % 3 == 0) {
                let (table, key) = (EntryKind::source(n % 2), vec![0; n as usize]);
                let written = if n % 5 == 0 { batch.remove(table, &key) } else { batch.put(table, &key, &version.to_le_bytes()) };
                written.unwrap();
            }
            let batch = batch.finish(&WholeKey, Version(version));
            tier.set(&batch).unwrap();
            model.set(&batch).unwrap();
        }
        let mut expected = Visited::new();
        model.visit_entries(&mut keep(&mut expected)).unwrap();
        for page_entries in [1, 2, 3, 5, 64, 100, expected.len(), expected.len() + 1] {
            let mut visited = Visited::new();
            tier.visit_pages(page_entries, &mut keep(&mut visited)).unwrap();
            assert_eq!(visited, expected, "pages of {page_entries}");
        }
    }
}
