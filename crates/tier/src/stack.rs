//! Several tiers read as one: for each key the newest entry wins, whichever tier holds it.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::batch::TierBatch;
use crate::entry::{KeyRef, Lookup, RawEntry};
use crate::error::{ErrorKind, Result};
use crate::page::{RangeBatch, SCAN_BATCH_SIZE_BYTES};
use crate::range::{Direction, RangeCursor, RangeRequest, check_batch_size};
use crate::storage::{DropVersion, SkipFile, TierScan, TierStats, TierStorage};
use crate::table::EntryKind;
use crate::version::Version;

/// Tiers stacked from the one that takes writes down to the oldest.
///
/// Recency is decided by version, never by the order of the tiers, so that data may move between tiers, and land late, without
/// changing an answer; the order only breaks the tie of one (key, version) present in two tiers during a move, where the upper
/// wins. A scan emits no key beyond the point that every unexhausted tier has reached.
///
/// It is a tier itself and keeps the contract, but for one clause: dropping and clearing reach the tiers one after the other, so
/// a concurrent reader may see them half done.
///
/// ```
/// use std::sync::Arc;
/// use thermocline_tier::{EntryKind, Lookup, Result, TierStack, TierStorage, Version};
///
/// fn read_through(upper: Arc<dyn TierStorage>, lower: Arc<dyn TierStorage>) -> Result<Lookup> {
///     TierStack::new(vec![upper, lower])?.get(EntryKind::Multi, b"k", Version::MAX)
/// }
/// ```
#[derive(Clone, Debug)]
pub struct TierStack {
    upper: Arc<dyn TierStorage>,
    /// All tiers, the upper one first.
    tiers: Vec<Arc<dyn TierStorage>>,
}

impl TierStack {
    /// Stacks `tiers`, the one that takes writes first.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) if there is no tier.
    pub fn new(tiers: Vec<Arc<dyn TierStorage>>) -> Result<Self> {
        match tiers.first() {
            Some(upper) => Ok(Self { upper: Arc::clone(upper), tiers }),
            None => Err(ErrorKind::InvalidArgument { what: "a stack needs at least one tier".into() }.into()),
        }
    }

    fn page(&self, cursor: &mut RangeCursor, direction: Direction, batch_size: usize) -> Result<RangeBatch> {
        cursor.check_use(direction, batch_size)?;
        let mut page = RangeBatch::new();
        if cursor.is_exhausted() {
            return Ok(page);
        }
        let request = RangeRequest { range: cursor.remaining(), ..cursor.request().clone() };
        // As many as were asked for, however large: a page is what its reader wants to have at once.
        MergeScan::open(&self.tiers, &request, usize::MAX)?.next_batch(batch_size, &mut page)?;
        match page.last() {
            Some(last) => cursor.advance(last.prefix, page.has_more),
            None => cursor.exhaust(),
        }
        Ok(page)
    }
}

/// The newer of two answers; the first on a tie.
fn newer(first: Lookup, second: Lookup) -> Lookup {
    if second.version() > first.version() { second } else { first }
}

impl TierStorage for TierStack {
    fn get(&self, table: EntryKind, prefix: &[u8], at: Version) -> Result<Lookup> {
        let mut newest = Lookup::Absent;
        for tier in &self.tiers {
            newest = newer(newest, tier.get(table, prefix, at)?);
        }
        Ok(newest)
    }

    fn get_many(&self, keys: &[KeyRef<'_>], at: Version) -> Result<Vec<Lookup>> {
        let mut newest = self.upper.get_many(keys, at)?;
        for tier in self.tiers.iter().skip(1) {
            for (best, found) in newest.iter_mut().zip(tier.get_many(keys, at)?) {
                *best = newer(std::mem::take(best), found);
            }
        }
        Ok(newest)
    }

    fn set(&self, batch: &TierBatch) -> Result<()> {
        self.upper.set(batch)
    }

    fn make_room(&self, batches: &[&TierBatch]) -> Result<()> {
        self.upper.make_room(batches)
    }

    fn range_next(&self, cursor: &mut RangeCursor, batch_size: usize) -> Result<RangeBatch> {
        self.page(cursor, Direction::Forward, batch_size)
    }

    fn range_rev_next(&self, cursor: &mut RangeCursor, batch_size: usize) -> Result<RangeBatch> {
        self.page(cursor, Direction::Reverse, batch_size)
    }

    fn scan(self: Arc<Self>, request: RangeRequest) -> Result<Box<dyn TierScan>> {
        Ok(Box::new(MergeScan::open(&self.tiers, &request, SCAN_BATCH_SIZE_BYTES)?))
    }

    /// Only the lowest tier leaves files out: those above hide what is below.
    fn scan_skipping(self: Arc<Self>, request: RangeRequest, skip: SkipFile<'_>) -> Result<Box<dyn TierScan>> {
        let lowest = self.tiers.len() - 1;
        let open = |(number, tier): (usize, &Arc<dyn TierStorage>)| {
            let tier = Arc::clone(tier);
            if number == lowest { tier.scan_skipping(request.clone(), skip) } else { tier.scan(request.clone()) }
        };
        let scans = self.tiers.iter().enumerate().map(open).collect::<Result<_>>()?;
        Ok(Box::new(MergeScan::of(scans, &request, SCAN_BATCH_SIZE_BYTES)))
    }

    fn ensure_table(&self, table: EntryKind) -> Result<()> {
        self.upper.ensure_table(table)
    }

    fn tables(&self) -> Result<Vec<EntryKind>> {
        let mut all = BTreeSet::new();
        for tier in &self.tiers {
            all.extend(tier.tables()?);
        }
        Ok(all.into_iter().collect())
    }

    fn clear_table(&self, table: EntryKind) -> Result<()> {
        self.tiers.iter().try_for_each(|tier| tier.clear_table(table))
    }

    fn drop_versions(&self, drops: &[DropVersion]) -> Result<()> {
        self.tiers.iter().try_for_each(|tier| tier.drop_versions(drops))
    }

    fn get_all_versions(&self, table: EntryKind, prefix: &[u8]) -> Result<Vec<RawEntry>> {
        let mut all: BTreeMap<Version, RawEntry> = BTreeMap::new();
        for tier in &self.tiers {
            for entry in tier.get_all_versions(table, prefix)? {
                all.entry(entry.version).or_insert(entry);
            }
        }
        Ok(all.into_values().rev().collect())
    }

    /// The sums over the tiers: a key that lies in two of them counts twice.
    fn stats(&self) -> TierStats {
        let mut sum = TierStats::default();
        let mut tables = BTreeMap::new();
        for stats in self.tiers.iter().map(|tier| tier.stats()) {
            sum.memory_bytes += stats.memory_bytes;
            sum.garbage_bytes += stats.garbage_bytes;
            for (table, found) in stats.tables {
                tables.entry(table).or_insert_with(crate::TableStats::default).add(&found);
            }
        }
        sum.tables = tables.into_iter().collect();
        sum
    }

    fn memory_bytes(&self) -> u64 {
        self.tiers.iter().map(|tier| tier.memory_bytes()).sum()
    }
}

/// A merge of one scan for each tier.
#[derive(Debug)]
struct MergeScan {
    sources: Vec<Source>,
    direction: Direction,
    /// A batch that has become as large as this ends.
    batch_size_bytes: usize,
}

/// A tier's scan with the page that was read from it last.
#[derive(Debug)]
struct Source {
    scan: Box<dyn TierScan>,
    page: RangeBatch,
    index: usize,
}

impl Source {
    /// Reads the next page if the current one is used up and the tier has more.
    fn refill(&mut self, entries_max: usize) -> Result<()> {
        if self.index == self.page.len() && self.page.has_more {
            self.scan.next_batch(entries_max, &mut self.page)?;
            self.index = 0;
        }
        Ok(())
    }

    fn has_more(&self) -> bool {
        self.index < self.page.len() || self.page.has_more
    }
}

impl MergeScan {
    fn open(tiers: &[Arc<dyn TierStorage>], request: &RangeRequest, batch_size_bytes: usize) -> Result<Self> {
        let scans = tiers.iter().map(|tier| Arc::clone(tier).scan(request.clone())).collect::<Result<_>>()?;
        Ok(Self::of(scans, request, batch_size_bytes))
    }

    fn of(scans: Vec<Box<dyn TierScan>>, request: &RangeRequest, batch_size_bytes: usize) -> Self {
        let source = |scan| {
            let mut page = RangeBatch::new();
            // Nothing has been read yet, so there may be more.
            page.has_more = true;
            Source { scan, page, index: 0 }
        };
        Self { sources: scans.into_iter().map(source).collect(), direction: request.direction, batch_size_bytes }
    }

    /// Hands out the next page of the one source that has anything left, as it is; false if there is not just one.
    fn take_whole_page(&mut self, entries_max: usize, out: &mut RangeBatch) -> Result<bool> {
        for source in &mut self.sources {
            source.refill(entries_max)?;
        }
        let mut left = self.sources.iter_mut().filter(|source| source.has_more());
        let (Some(only), None) = (left.next(), left.next()) else { return Ok(false) };
        // One that has ended early, for its size, is filled up if that is not wanted.
        let is_short = only.page.has_more && only.page.len() < entries_max && only.page.size_bytes() < self.batch_size_bytes;
        if only.index > 0 || only.page.len() > entries_max || is_short {
            return Ok(false);
        }
        std::mem::swap(&mut only.page, out);
        only.page.has_more = out.has_more;
        Ok(true)
    }

    /// The source that holds the winning entry of the first key, given that every source is refilled.
    fn winner(&self) -> Option<usize> {
        let mut best: Option<(usize, crate::EntryRef<'_>)> = None;
        for (number, source) in self.sources.iter().enumerate() {
            let Some(entry) = source.page.get(source.index) else { continue };
            let is_better = best.is_none_or(|(_, best)| {
                let order = entry.prefix.cmp(best.prefix);
                let order = if self.direction == Direction::Forward { order } else { order.reverse() };
                order == Ordering::Less || (order == Ordering::Equal && entry.version > best.version)
            });
            if is_better {
                best = Some((number, entry));
            }
        }
        best.map(|(number, _)| number)
    }
}

impl TierScan for MergeScan {
    fn next_batch(&mut self, entries_max: usize, out: &mut RangeBatch) -> Result<()> {
        out.clear();
        check_batch_size(entries_max)?;
        if self.take_whole_page(entries_max, out)? {
            return Ok(());
        }
        while out.len() < entries_max && out.size_bytes() < self.batch_size_bytes {
            for source in &mut self.sources {
                source.refill(entries_max)?;
            }
            let Some(winner) = self.winner() else { break };
            out.make_room(entries_max);
            out.push_from(&self.sources[winner].page, self.sources[winner].index);
            let emitted = out.last().map(|entry| entry.prefix);
            for source in &mut self.sources {
                if source.page.get(source.index).map(|entry| entry.prefix) == emitted {
                    source.index += 1;
                }
            }
        }
        out.has_more = self.sources.iter().any(Source::has_more);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It answered with an empty page and `has_more`, so that a caller that goes on while there is more never ended.
    #[test]
    fn merged_page_of_no_entries_is_refused() {
        let mut scan = MergeScan { sources: Vec::new(), direction: Direction::Forward, batch_size_bytes: usize::MAX };
        let refused = scan.next_batch(0, &mut RangeBatch::new());
        assert!(refused.is_err_and(|error| matches!(error.kind(), ErrorKind::InvalidArgument { .. })));
    }

    /// Entries of consecutive keys, a page at a time, of so many at most, as if they were large.
    #[derive(Debug)]
    struct Keys(std::ops::Range<u8>, usize);

    impl TierScan for Keys {
        fn next_batch(&mut self, entries_max: usize, out: &mut RangeBatch) -> Result<()> {
            out.clear();
            for key in self.0.by_ref().take(entries_max.min(self.1)) {
                out.push(&[key], b"", Version(1), Some(b"v"));
            }
            out.has_more = !self.0.is_empty();
            Ok(())
        }
    }

    fn source(keys: std::ops::Range<u8>, page_max: usize) -> Source {
        let mut page = RangeBatch::new();
        page.has_more = true;
        Source { scan: Box::new(Keys(keys, page_max)), page, index: 0 }
    }

    /// A page had as few entries as the tier's own batch, which ends early where values are large.
    #[test]
    fn page_has_what_was_asked_for_also_where_one_source_with_short_batches_is_left() {
        for (batch_size_bytes, expected) in [(usize::MAX, 10), (1, 2)] {
            let sources = vec![source(0..0, 2), source(0..30, 2)];
            let mut scan = MergeScan { sources, direction: Direction::Forward, batch_size_bytes };
            let mut out = RangeBatch::new();
            scan.next_batch(10, &mut out).unwrap();
            assert!(out.has_more);
            assert_eq!(out.len(), expected);
        }
    }

    /// Where one source is left its pages are handed out as they are: none is lost, and none comes twice, whatever the sizes of batches.
    #[test]
    fn pages_of_the_last_source_are_handed_out_whole() {
        for sizes in [[1, 1], [3, 7], [7, 3], [40, 2], [2, 40]] {
            let sources = vec![source(0..5, 100), source(3..30, 100), source(0..0, 100)];
            let mut scan = MergeScan { sources, direction: Direction::Forward, batch_size_bytes: usize::MAX };
            let (mut out, mut found) = (RangeBatch::new(), Vec::new());
            for size in sizes.iter().cycle() {
                scan.next_batch(*size, &mut out).unwrap();
                assert!(out.len() <= *size);
                found.extend(out.iter().map(|entry| entry.prefix[0]));
                assert_eq!(out.has_more, found.len() < 30, "after {} of 30", found.len());
                if !out.has_more {
                    break;
                }
            }
            assert_eq!(found, (0..30).collect::<Vec<u8>>());
        }
    }
}
