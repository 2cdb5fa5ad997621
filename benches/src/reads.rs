//! The reads that rows time, over anything that can be read; each loop keeps a sample of its answers and checks them against the
//! model when the clock has stopped.

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use thermocline_tier::{Direction, EntryKind, Result, Version};

use thermocline_yardstick::failure::{Failure, Outcome};
use thermocline_yardstick::meter::{Timed, run_for};
use thermocline_yardstick::workload::{KEY_SIZE_BYTES, Key, Random, ScanLimit, Workload, table_of};

/// The length of the scans.
pub(crate) const SCAN_ENTRIES: usize = 100;
/// The keys of one `get_many`.
pub(crate) const MANY_KEYS: usize = 32;
/// Of this many point reads one is checked.
const CHECK_ONE_IN: u64 = 512;
/// The most answers that one slice keeps for checking.
const ANSWERS_MAX: usize = 4096;

/// What can be read: a store, or a tier alone.
pub(crate) trait Reads: Sync {
    /// What its scans of [`SCAN_ENTRIES`] count.
    const SCAN_LIMIT: ScanLimit;

    /// The latest value.
    fn get(&self, table: EntryKind, key: &Key) -> Result<Option<Bytes>>;
    /// The value at a version.
    fn get_at(&self, table: EntryKind, key: &Key, at: Version) -> Result<Option<Bytes>>;
    /// The latest values of keys of one table.
    fn get_many(&self, table: EntryKind, keys: &[Key; MANY_KEYS]) -> Result<Vec<Option<Bytes>>>;
    /// Hands the first `limit` rows from `from` on, inclusive, to `visit`.
    fn scan(&self, scan: ScanOf<'_>, visit: impl FnMut(&[u8], &[u8])) -> Result<()>;
}

/// One short scan.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ScanOf<'a> {
    pub(crate) table: EntryKind,
    pub(crate) from: &'a Key,
    pub(crate) direction: Direction,
    pub(crate) at: Version,
    pub(crate) limit: usize,
}

/// Which point reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    Latest,
    AsOf,
    Missing,
}

/// An answer that was kept: key, version, value.
type Answer = (u32, Version, Option<Bytes>);

/// A scan that was kept: where it began, its version, its keys and values.
struct KeptScan {
    from: u32,
    at: Version,
    rows: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Single point reads of random keys.
pub(crate) fn points(reads: &impl Reads, workload: &Workload, point: Point, slice: Duration, seed: u64) -> Outcome<Timed> {
    let mut answers: Vec<Answer> = Vec::with_capacity(ANSWERS_MAX);
    let mut random = Random::new(seed);
    let last = u32::try_from(workload.last_version().0).unwrap_or(u32::MAX);
    let mut read = |number: u64| {
        let mut index = random.below(workload.keys);
        let mut at = Version::MAX;
        let value = match point {
            Point::Latest => reads.get(table_of(index), &workload.key(index))?,
            Point::AsOf => {
                at = Version(u64::from(random.below(last)) + 1);
                reads.get_at(table_of(index), &workload.key(index), at)?
            }
            Point::Missing => {
                index += workload.keys;
                reads.get(table_of(index), &workload.key(index))?
            }
        };
        black_box(value.as_ref().and_then(|value| value.first()));
        if number.is_multiple_of(CHECK_ONE_IN) && answers.len() < ANSWERS_MAX {
            answers.push((index, at, value));
        }
        Ok(1)
    };
    // Brings code and upper levels of the index into the caches.
    run_for(slice / 20, 64, &mut read)?;
    let timed = run_for(slice, 256, &mut read)?;
    check_answers(workload, &answers)?;
    Ok(timed)
}

/// Many point reads at a time.
pub(crate) fn many(reads: &impl Reads, workload: &Workload, slice: Duration, seed: u64) -> Outcome<Timed> {
    let mut answers: Vec<Answer> = Vec::with_capacity(ANSWERS_MAX);
    let mut random = Random::new(seed);
    let mut read = |number: u64| {
        // All of one table, as the call wants them.
        let first = random.below(workload.keys);
        let mut indexes = [0; MANY_KEYS];
        let mut keys = [[0; KEY_SIZE_BYTES]; MANY_KEYS];
        for (index, key) in indexes.iter_mut().zip(&mut keys) {
            *index = random.below(workload.keys / 4) * 4 + first % 4;
            *key = workload.key(*index);
        }
        let values = reads.get_many(table_of(first), &keys)?;
        if values.len() != MANY_KEYS {
            return Err(Failure::Wrong(format!("{} answers to {MANY_KEYS} keys", values.len())));
        }
        for value in &values {
            black_box(value.as_ref().and_then(|value| value.first()));
        }
        if number.is_multiple_of(CHECK_ONE_IN) && answers.len() < ANSWERS_MAX {
            answers.extend(indexes.into_iter().zip(values).map(|(index, value)| (index, Version::MAX, value)));
        }
        Ok(MANY_KEYS as u64)
    };
    run_for(slice / 20, 8, &mut read)?;
    let timed = run_for(slice, 16, &mut read)?;
    check_answers(workload, &answers)?;
    Ok(timed)
}

/// Short scans from random keys of the workload, at `at` or, without it, at random versions; counts entries.
pub(crate) fn scans<R: Reads>(
    reads: &R,
    workload: &Workload,
    direction: Direction,
    at: Option<Version>,
    slice: Duration,
    seed: u64,
) -> Outcome<Timed> {
    let mut random = Random::new(seed);
    let mut kept: Vec<KeptScan> = Vec::new();
    let last = u32::try_from(workload.last_version().0).unwrap_or(u32::MAX);
    let mut read = |number: u64| {
        let from = random.below(workload.keys);
        let at = at.unwrap_or_else(|| Version(u64::from(random.below(last)) + 1));
        let key = workload.key(from);
        let scan = ScanOf { table: table_of(from), from: &key, direction, at, limit: SCAN_ENTRIES };
        let mut count = 0;
        if number.is_multiple_of(CHECK_ONE_IN) && kept.len() < ANSWERS_MAX / SCAN_ENTRIES {
            let mut rows = Vec::new();
            reads.scan(scan, |key, value| rows.push((key.to_vec(), value.to_vec())))?;
            count += rows.len() as u64;
            kept.push(KeptScan { from, at, rows });
        } else {
            reads.scan(scan, |key, value| {
                count += 1;
                black_box((key.first(), value.first()));
            })?;
        }
        Ok(count)
    };
    run_for(slice / 20, 4, &mut read)?;
    let timed = run_for(slice, 8, &mut read)?;
    kept.iter().try_for_each(|kept| check_scan(workload, kept, direction, R::SCAN_LIMIT))?;
    Ok(timed)
}

fn check_answers(workload: &Workload, answers: &[Answer]) -> Outcome<()> {
    for (index, at, value) in answers {
        if value.as_deref() != workload.expected(*index, *at).as_deref() {
            return Err(Failure::Wrong(format!("key {index} at version {at}")));
        }
    }
    Ok(())
}

fn check_scan(workload: &Workload, kept: &KeptScan, direction: Direction, limit: ScanLimit) -> Outcome<()> {
    let KeptScan { from, at, rows } = kept;
    let expected = workload.expected_scan(*from, *at, direction, limit);
    let is_row = |(index, (key, value)): (&u32, &(Vec<u8>, Vec<u8>))| {
        workload.key(*index).as_slice() == key.as_slice()
            && workload.expected(*index, *at).is_some_and(|expected| expected.as_slice() == value.as_slice())
    };
    if expected.len() == rows.len() && expected.iter().zip(rows).all(is_row) {
        return Ok(());
    }
    Err(Failure::Wrong(format!("a {direction} scan from key {from} at version {at}")))
}

/// Checks random keys and scans at the latest and at random versions: what was loaded is what is there.
pub(crate) fn check_content(reads: &impl Reads, workload: &Workload, seed: u64) -> Outcome<()> {
    let slice = Duration::from_millis(20);
    points(reads, workload, Point::Latest, slice, seed)?;
    points(reads, workload, Point::AsOf, slice, seed)?;
    points(reads, workload, Point::Missing, slice, seed)?;
    check_latest(reads, workload, seed)?;
    check_edges(reads, workload, seed)?;
    for direction in [Direction::Forward, Direction::Reverse] {
        scans(reads, workload, direction, Some(workload.last_version()), slice, seed)?;
        scans(reads, workload, direction, None, slice, seed)?;
    }
    Ok(())
}

/// Checks reads at the very versions at which keys were written, and just below: random versions seldom meet them, and off by one is what
/// a read as of a version most easily gets wrong.
pub(crate) fn check_edges(reads: &impl Reads, workload: &Workload, seed: u64) -> Outcome<()> {
    let mut random = Random::new(seed);
    for _ in 0..ANSWERS_MAX {
        let (index, round) = (random.below(workload.keys), random.below(workload.rounds));
        let written = workload.version_of(index, round);
        for at in [Some(written), written.previous()].into_iter().flatten() {
            let value = reads.get_at(table_of(index), &workload.key(index), at)?;
            check_answers(workload, &[(index, at, value)])?;
        }
    }
    Ok(())
}

/// Checks the latest values of one key in sixteen, whatever versions they have.
pub(crate) fn check_latest(reads: &impl Reads, workload: &Workload, seed: u64) -> Outcome<()> {
    let mut random = Random::new(seed);
    for _ in 0..workload.keys / 16 {
        let index = random.below(workload.keys);
        let value = reads.get(table_of(index), &workload.key(index))?;
        check_answers(workload, &[(index, Version::MAX, value)])?;
    }
    Ok(())
}
