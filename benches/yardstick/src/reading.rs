//! The loops that read: the same, and as cheap, for every engine. Each keeps a sample of its answers and checks them against the model
//! when the clock has stopped.

use std::hint::black_box;
use std::time::Duration;

use thermocline::Version;

use crate::engine::{At, Direction, Engine, Scan, Skip};
use crate::failure::{Failure, Outcome};
use crate::meter::{Timed, run_for};
use crate::worker::seed_of;
use crate::workload::{KEY_SIZE_BYTES, Random, ScanLimit, Workload, place_of};

/// The length of the short scans.
pub const SCAN_ROWS: usize = 100;
/// The keys of one `get_many`.
const MANY_KEYS: usize = 16;
/// Of this many operations one is checked.
const CHECK_ONE_IN: u64 = 256;
/// The most answers that one loop keeps.
const ANSWERS_MAX: usize = 2048;
/// So many further answers, of single keys, are checked when the clock has stopped.
const CHECKS_AFTER: u64 = 2048;

/// Which keys, and at which version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// Keys that are there, latest.
    Latest,
    /// Keys that are there, at a random version.
    AsOf,
    /// Keys that were never written.
    Missing,
}

impl Point {
    fn draw(self, workload: &Workload, random: &mut Random) -> (u32, At) {
        let index = random.below(workload.keys);
        match self {
            Self::Latest => (index, At::Latest),
            Self::AsOf => (index, random_version(workload, random)),
            Self::Missing => (index + workload.keys, At::Latest),
        }
    }
}

fn random_version(workload: &Workload, random: &mut Random) -> At {
    let last = u32::try_from(workload.last_version().0).unwrap_or(u32::MAX);
    At::Version(u64::from(random.below(last)) + 1)
}

/// An answer that was kept: which key, at which version, and the value.
type Answer = (u32, At, Option<Vec<u8>>);

fn check(workload: &Workload, answers: &[Answer]) -> Outcome<()> {
    for (index, at, value) in answers {
        if *value != workload.expected(*index, Version(at.bound())) {
            return Err(Failure::Wrong(format!("key {index} at {at:?}: {}", describe(value.as_deref()))));
        }
    }
    Ok(())
}

fn describe(value: Option<&[u8]>) -> String {
    value.map_or_else(
        || "no value".to_owned(),
        |value| format!("{} bytes, {}..", value.len(), value[..value.len().min(8)].escape_ascii()),
    )
}

/// What every loop does with a value: looks at its first and its last byte.
pub fn touch(value: Option<&[u8]>) {
    black_box(value.map(|value| (value.first(), value.last())));
}

/// The seed of the reads of the same kind that come before those that are timed: as many, of other keys. They bring into the caches what such
/// reads keep there.
fn lead_in(seed: u64) -> Random {
    Random::new(seed_of(seed, "lead-in"))
}

/// Single point reads of random keys.
pub fn points(engine: &impl Engine, workload: &Workload, point: Point, slice: Duration, seed: u64) -> Outcome<Timed> {
    let mut answers: Vec<Answer> = Vec::with_capacity(ANSWERS_MAX);
    let mut read = |number: u64, random: &mut Random, is_checked: bool| {
        let (index, at) = point.draw(workload, random);
        let key = workload.key(index);
        if is_checked || (number.is_multiple_of(CHECK_ONE_IN) && answers.len() < ANSWERS_MAX) {
            let mut answer = None;
            engine.get(place_of(index), &key, at, &mut |value| answer = Some(value.map(<[u8]>::to_vec)))?;
            answers.push((index, at, answer.ok_or_else(unanswered)?));
        } else {
            engine.get(place_of(index), &key, at, &mut touch)?;
        }
        Ok(1)
    };
    let (mut before, mut random) = (lead_in(seed), Random::new(seed));
    run_for(slice, 64, |number| read(number, &mut before, false))?;
    let timed = run_for(slice, 256, |number| read(number, &mut random, false))?;
    (0..CHECKS_AFTER).try_for_each(|number| read(number, &mut random, true).map(drop))?;
    check(workload, &answers)?;
    Ok(timed)
}

fn unanswered() -> Failure {
    Failure::Wrong("a read without an answer".to_owned())
}

/// Reads of many random keys of one table.
pub fn many(engine: &impl Engine, workload: &Workload, point: Point, slice: Duration, seed: u64) -> Outcome<Timed> {
    let mut answers: Vec<Answer> = Vec::with_capacity(ANSWERS_MAX);
    let mut read = |number: u64, random: &mut Random, is_checked: bool| {
        let (first, at) = point.draw(workload, random);
        let mut indexes = [0; MANY_KEYS];
        let mut keys = [[0; KEY_SIZE_BYTES]; MANY_KEYS];
        for (index, key) in indexes.iter_mut().zip(&mut keys) {
            *index = random.below(workload.keys / 4) * 4 + first % 4;
            *key = workload.key(*index);
        }
        let keys = keys.each_ref().map(<[u8; KEY_SIZE_BYTES]>::as_slice);
        let mut count = 0;
        if is_checked || (number.is_multiple_of(CHECK_ONE_IN) && answers.len() < ANSWERS_MAX) {
            engine.get_many(place_of(first), &keys, at, &mut |value| {
                answers.push((indexes.get(count).copied().unwrap_or(u32::MAX), at, value.map(<[u8]>::to_vec)));
                count += 1;
            })?;
        } else {
            engine.get_many(place_of(first), &keys, at, &mut |value| {
                touch(value);
                count += 1;
            })?;
        }
        if count != MANY_KEYS {
            return Err(Failure::Wrong(format!("{count} answers to {MANY_KEYS} keys")));
        }
        Ok(MANY_KEYS as u64)
    };
    let (mut before, mut random) = (lead_in(seed), Random::new(seed));
    run_for(slice, 8, |number| read(number, &mut before, false))?;
    let timed = run_for(slice, 16, |number| read(number, &mut random, false))?;
    (0..CHECKS_AFTER / MANY_KEYS as u64).try_for_each(|number| read(number, &mut random, true).map(drop))?;
    check(workload, &answers)?;
    Ok(timed)
}

/// A scan that was kept: where it began, at which version, and its rows.
type KeptScan = (u32, At, Vec<(Vec<u8>, Vec<u8>)>);

/// How short scans go.
#[derive(Clone, Copy, Debug)]
pub struct Scans {
    /// Which way.
    pub direction: Direction,
    /// At the latest version, or at random ones.
    pub point: Point,
    /// How engines without versions get over those that are not wanted.
    pub skip: Skip,
}

/// Short scans from random keys.
pub fn scans(engine: &impl Engine, workload: &Workload, scans: Scans, slice: Duration, seed: u64) -> Outcome<Timed> {
    let Scans { direction, point, skip } = scans;
    let mut kept: Vec<KeptScan> = Vec::new();
    let mut read = |number: u64, random: &mut Random, is_checked: bool| {
        let (from, at) = point.draw(workload, random);
        let key = workload.key(from);
        let scan = Scan { table: place_of(from), from: Some(&key), direction, at, limit: SCAN_ROWS, skip };
        let mut rows = 0;
        if is_checked || (number.is_multiple_of(CHECK_ONE_IN / 4) && kept.len() < ANSWERS_MAX / 16) {
            let mut answer = Vec::with_capacity(SCAN_ROWS);
            engine.scan(&scan, &mut |key, value| answer.push((key.to_vec(), value.to_vec())))?;
            rows += answer.len() as u64;
            kept.push((from, at, answer));
        } else {
            engine.scan(&scan, &mut |key, value| {
                touch(Some(key));
                touch(Some(value));
                rows += 1;
            })?;
        }
        Ok(rows)
    };
    let (mut before, mut random) = (lead_in(seed), Random::new(seed));
    run_for(slice, 2, |number| read(number, &mut before, false))?;
    let timed = run_for(slice, 4, |number| read(number, &mut random, false))?;
    (0..CHECKS_AFTER / SCAN_ROWS as u64).try_for_each(|number| read(number, &mut random, true).map(drop))?;
    for (from, at, rows) in kept {
        let at = Version(at.bound());
        let expected = workload.expected_scan(from, at, direction, ScanLimit::Rows(SCAN_ROWS));
        let is_right = rows.len() == expected.len()
            && expected.iter().zip(&rows).all(|(index, (key, value))| {
                workload.key(*index) == key.as_slice() && workload.expected(*index, at).as_deref() == Some(value)
            });
        if !is_right {
            return Err(Failure::Wrong(format!("a scan from key {from} at {at}: {} rows, or others", rows.len())));
        }
    }
    Ok(timed)
}

/// All rows of all tables, once; their number and every 64th of them, or some thousands, are checked when the clock has stopped.
pub fn full_scan(engine: &impl Engine, workload: &Workload, at: At, skip: Skip) -> Outcome<Timed> {
    // Few enough that what is kept does not show in the memory of the run.
    let check_one_row_in = u64::from(workload.keys / 8192).max(64);
    let (mut total, mut sample) = (0, Vec::new());
    let mut timed = Timed::of(0, || {
        for table in 0..4 {
            let scan = Scan { table, from: None, direction: Direction::Forward, at, limit: usize::MAX, skip };
            engine.scan(&scan, &mut |key, value| {
                touch(Some(key));
                touch(Some(value));
                if total % check_one_row_in == 0 {
                    sample.push((total, key.to_vec(), value.to_vec()));
                }
                total += 1;
            })?;
        }
        Ok(())
    })?;
    timed.units = total;
    let version = Version(at.bound());
    let expected: Vec<u32> = (0..4).flat_map(|table| workload.expected_scan_all(table, version)).collect();
    if expected.len() as u64 != total {
        return Err(Failure::Wrong(format!("a full scan at {at:?} of {total} rows, not {}", expected.len())));
    }
    for (number, key, value) in &sample {
        let index = expected.get(usize::try_from(*number).unwrap_or(usize::MAX)).copied().unwrap_or(u32::MAX);
        if workload.key(index) != key.as_slice() || workload.expected(index, version).as_ref() != Some(value) {
            return Err(Failure::Wrong(format!("row {number} of a full scan at {at:?}")));
        }
    }
    Ok(timed)
}

/// Everything that differs between two versions, checked whole: how many keys.
pub fn check_diff(engine: &impl Engine, workload: &Workload, from: u64, to: u64, skip: Skip) -> Outcome<u64> {
    let mut total = 0;
    for table in 0..4 {
        let mut found = Vec::new();
        engine.diff(table, from, to, skip, &mut |key, before, after| {
            found.push((key.to_vec(), before.map(<[u8]>::to_vec), after.map(<[u8]>::to_vec)));
        })?;
        let value = |index, version| workload.expected(index, Version(version));
        let changed = workload
            .sorted_keys(table)
            .filter(|index| workload.round_at(*index, Version(from)) != workload.round_at(*index, Version(to)));
        let expected = changed.map(|index| (workload.key(index).to_vec(), value(index, from), value(index, to)));
        let expected: Vec<_> = expected.filter(|(_, before, after)| before != after).collect();
        if found != expected {
            return Err(Failure::Wrong(format!(
                "{} keys differ in table {table} from {from} to {to}, not {}",
                found.len(),
                expected.len()
            )));
        }
        total += found.len() as u64;
    }
    Ok(total)
}

/// The same without looking: how many keys.
pub fn diff(engine: &impl Engine, from: u64, to: u64, skip: Skip) -> Outcome<u64> {
    let mut total = 0;
    for table in 0..4 {
        engine.diff(table, from, to, skip, &mut |key, before, after| {
            touch(Some(key));
            touch(before);
            touch(after);
            total += 1;
        })?;
    }
    Ok(total)
}
