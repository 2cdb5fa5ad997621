//! Loads and reads of the tier alone: what the store layer and the log add is the difference to the rows of the same name.

use std::sync::Arc;

use bytes::Bytes;
use thermocline_hot::{HotOptions, HotTier};
use thermocline_tier::{
    BatchBuilder, Direction, EntryKind, KeyRange, KeyRef, Lookup, RangeRequest, ReadWindow, Result, TierStorage, Version,
    WholeKey,
};

use crate::bench::{Bench, progress};
use crate::reads::{MANY_KEYS, Point, Reads, SCAN_ENTRIES, ScanOf, check_content, many, points, scans};
use thermocline_yardstick::failure::Outcome;
use thermocline_yardstick::meter::Timed;
use thermocline_yardstick::workload::{COMMIT_ENTRIES, KEY_SIZE_BYTES, Key, ScanLimit, VALUE_SIZE_BYTES, Workload, table_of};

/// The rows that need W.
const W_ROWS: [&str; 7] = [
    "tier-load",
    "tier-get-latest",
    "tier-get-as-of",
    "tier-get-missing",
    "tier-scan-forward",
    "tier-scan-reverse",
    "tier-get-many",
];

/// A tier as readers see it, called as the store calls it: through the trait.
#[derive(Debug)]
pub(crate) struct TierReads {
    pub(crate) tier: Arc<dyn TierStorage>,
    /// What is read where the latest is asked for.
    pub(crate) latest: Version,
}

impl Reads for TierReads {
    const SCAN_LIMIT: ScanLimit = ScanLimit::Entries(SCAN_ENTRIES);

    fn get(&self, table: EntryKind, key: &Key) -> Result<Option<Bytes>> {
        Ok(self.tier.get(table, key, self.latest)?.into_value())
    }

    fn get_at(&self, table: EntryKind, key: &Key, at: Version) -> Result<Option<Bytes>> {
        Ok(self.tier.get(table, key, at)?.into_value())
    }

    fn get_many(&self, table: EntryKind, keys: &[Key; MANY_KEYS]) -> Result<Vec<Option<Bytes>>> {
        let keys: [KeyRef<'_>; MANY_KEYS] = std::array::from_fn(|number| KeyRef { table, prefix: &keys[number] });
        Ok(self.tier.get_many(&keys, self.latest)?.into_iter().map(Lookup::into_value).collect())
    }

    fn scan(&self, scan: ScanOf<'_>, mut visit: impl FnMut(&[u8], &[u8])) -> Result<()> {
        let range = match scan.direction {
            Direction::Forward => KeyRange::new::<Key>(*scan.from..),
            Direction::Reverse => KeyRange::new::<Key>(..=*scan.from),
        };
        let window = ReadWindow::as_of(scan.at);
        let mut cursor = RangeRequest { table: scan.table, range, window, direction: scan.direction }.into_cursor();
        let page = match scan.direction {
            Direction::Forward => self.tier.range_next(&mut cursor, scan.limit)?,
            Direction::Reverse => self.tier.range_rev_next(&mut cursor, scan.limit)?,
        };
        for entry in page.iter() {
            if let Some(value) = entry.value {
                visit(entry.prefix, value);
            }
        }
        Ok(())
    }
}

/// Writes the whole workload into a tier.
pub(crate) fn load(tier: &dyn TierStorage, workload: &Workload, rounds: &[Vec<u32>]) -> Outcome<()> {
    let (mut version, mut value) = (Version::ZERO, Vec::new());
    for (round, order) in (0..).zip(rounds) {
        for commit in order.chunks(COMMIT_ENTRIES) {
            let mut batch = BatchBuilder::with_capacity(commit.len(), commit.len() * (KEY_SIZE_BYTES + VALUE_SIZE_BYTES));
            for index in commit {
                let (table, key) = (table_of(*index), workload.key(*index));
                if workload.is_tombstone(*index, round) {
                    batch.remove(table, &key)?;
                } else {
                    workload.write_value(*index, round, &mut value);
                    batch.put(table, &key, &value)?;
                }
            }
            version = version.next().unwrap_or(Version::MAX);
            tier.set(&batch.finish(&WholeKey, version))?;
        }
    }
    Ok(())
}

/// A tier that holds the workload.
pub(crate) fn loaded(workload: &Workload) -> Outcome<TierReads> {
    let tier: Arc<dyn TierStorage> = Arc::new(HotTier::new(HotOptions::default()));
    load(&*tier, workload, &workload.commits())?;
    Ok(TierReads { tier, latest: workload.last_version() })
}

/// The rows over W.
pub(crate) fn measure_w(bench: &mut Bench, workload: &Workload) -> Outcome<()> {
    if !bench.arguments.wants_any(&W_ROWS) {
        return Ok(());
    }
    let commits = workload.commits();
    let reads = loaded(workload)?;
    bench.void_if_wrong(&["tier-load"], check_content(&reads, workload, 1))?;
    let (slice, seed) = (bench.slice(), bench.arguments.seed);
    for round in 0..bench.arguments.rounds() {
        progress(&format!("the tier alone on W, round {}", round + 1));
        let seed = seed + u64::from(round);
        bench.row("tier-load", || {
            let tier = HotTier::new(HotOptions::default());
            Timed::of(workload.entries(), || load(&tier, workload, &commits))
        })?;
        bench.row("tier-get-latest", || points(&reads, workload, Point::Latest, slice, seed))?;
        bench.row("tier-get-as-of", || points(&reads, workload, Point::AsOf, slice, seed))?;
        bench.row("tier-get-missing", || points(&reads, workload, Point::Missing, slice, seed))?;
        bench.row("tier-get-many", || many(&reads, workload, slice, seed))?;
        let latest = Some(reads.latest);
        bench.row("tier-scan-forward", || scans(&reads, workload, Direction::Forward, latest, slice, seed))?;
        bench.row("tier-scan-reverse", || scans(&reads, workload, Direction::Reverse, latest, slice, seed))?;
    }
    Ok(())
}

/// The rows over D, and over its keys with one version.
pub(crate) fn measure_d(bench: &mut Bench, deep: &Workload, flat: &Workload) -> Outcome<()> {
    if !bench.arguments.wants_any(&["tier-get-as-of-deep", "tier-scan-deep"]) {
        return Ok(());
    }
    let (deep_reads, flat_reads) = (loaded(deep)?, loaded(flat)?);
    let (slice, seed) = (bench.slice(), bench.arguments.seed);
    for round in 0..bench.arguments.rounds() {
        progress(&format!("the tier alone on D, round {}", round + 1));
        let seed = seed + u64::from(round);
        bench.row("tier-get-as-of-deep", || points(&deep_reads, deep, Point::AsOf, slice, seed))?;
        bench.ratio_row(
            "tier-scan-deep",
            || scans(&deep_reads, deep, Direction::Forward, Some(deep_reads.latest), slice, seed),
            || scans(&flat_reads, flat, Direction::Forward, Some(flat_reads.latest), slice, seed),
        )?;
    }
    Ok(())
}
