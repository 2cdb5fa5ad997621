//! Readers beside writers on other threads. They hunt batches, drops and clears that are seen half done, values torn or given to
//! another key, and keys that vanish while they are rewritten.
//!
//! Threads are std's scoped ones: the kit checks backends of others, who need not know how this project starts threads. Nothing is
//! timed; a writer goes on until the readers have looked often enough, within a bound.

use std::panic::resume_unwind;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use thermocline_tier::{EntryKind, KeyRange, KeyRef, Lookup, TierStorage, Version};

use crate::backend::{Capability, Step};
use crate::failure::{CaseFailure, CaseResult};
use crate::harness::{Harness, OTHER, TABLE, batch_of, drop_of, expect, expect_that};
use crate::notation;
use crate::scans::{as_of, next_page, reversed};

/// A writer makes at least so many rounds,
const ROUNDS_MIN: u64 = 100;
/// goes on until the readers together have looked so often,
const LOOKS_MIN: u64 = 100;
/// and ends after so many rounds in any case.
const ROUNDS_MAX: u64 = 5_000;

/// Runs `writer` round by round on this thread, beside `readers`, which look again and again until it has ended.
fn beside(readers: &[&(dyn Fn() -> CaseResult + Sync)], mut writer: impl FnMut(u64) -> CaseResult) -> CaseResult {
    let (is_done, looks, start) = (AtomicBool::new(false), AtomicU64::new(0), Barrier::new(readers.len() + 1));
    let read = |look: &(dyn Fn() -> CaseResult + Sync)| {
        start.wait();
        loop {
            // Read before the look, so that the last one comes after the last write.
            let was_done = is_done.load(Ordering::Acquire);
            let result = look();
            looks.fetch_add(1, Ordering::Relaxed);
            if was_done || result.is_err() {
                return result;
            }
        }
    };
    thread::scope(|scope| {
        let handles: Vec<_> = readers.iter().map(|look| scope.spawn(|| read(*look))).collect();
        start.wait();
        let done = SetOnDrop(&is_done);
        let mut written = Ok(());
        for round in 1..=ROUNDS_MAX {
            if written.is_err() || (round > ROUNDS_MIN && looks.load(Ordering::Relaxed) >= LOOKS_MIN) {
                break;
            }
            written = writer(round);
            thermocline_io::sync::yield_now();
        }
        drop(done);
        let read = handles.into_iter().map(join).fold(Ok(()), Result::and);
        written.and(read)
    })
}

fn join(handle: thread::ScopedJoinHandle<'_, CaseResult>) -> CaseResult {
    handle.join().unwrap_or_else(|payload| resume_unwind(payload))
}

/// Lets the readers end, also if the writer panics.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

fn version_text(lookup: &Lookup) -> String {
    lookup.version().map_or_else(|| "-".into(), |version| version.to_string())
}

/// Checks that whoever sees one table's row of a batch sees the others', one call after the other and in one call.
fn check_together(tier: &dyn TierStorage, tables: &[EntryKind], at: Version) -> CaseResult {
    let seen = |table: &EntryKind| tier.get(*table, b"k", at);
    for order in [tables.to_vec(), tables.iter().rev().copied().collect::<Vec<_>>()] {
        let mut newest = None;
        for table in &order {
            let found = seen(table)?.version();
            let what = || format!("{table} at version {at} shows what another table has shown before");
            expect_that(found >= newest, &what())?;
            newest = found;
        }
    }
    let keys: Vec<KeyRef<'_>> = tables.iter().map(|table| KeyRef { table: *table, prefix: b"k" }).collect();
    let found: Vec<String> = tier.get_many(&keys, at)?.iter().map(version_text).collect();
    let first = found.first().cloned().unwrap_or_default();
    let expected = vec![first; tables.len()];
    expect(|| format!("the versions in one batched get at {at}"), &expected.join(" "), &found.join(" "))
}

/// Checks that a page shows all rows of a batch at the same version, in both directions.
fn check_page_together(tier: &dyn TierStorage, table: EntryKind, at: Version, keys: usize) -> CaseResult {
    let forward = as_of(table, KeyRange::all(), at.0);
    for request in [reversed(&forward), forward] {
        let page = next_page(tier, &mut request.into_cursor(), 100)?;
        let versions: Vec<String> = page.iter().map(|row| row.version.to_string()).collect();
        let Some(first) = versions.first() else { continue };
        let expected = vec![first.clone(); keys];
        expect(|| format!("the versions in one page of {table} at {at}"), &expected.join(" "), &versions.join(" "))?;
    }
    Ok(())
}

/// Writes batches over `tables` beside two readers that must see each batch whole: first versions in order, then late ones, each
/// below all that is there.
fn check_batches_whole(h: &Harness<'_>, tables: &[EntryKind]) -> CaseResult {
    if h.has_schedule() {
        return Ok(());
    }
    let tier = h.tier();
    let frontier = AtomicU64::new(0);
    let write = |version: u64| -> CaseResult {
        frontier.store(version, Ordering::Release);
        let value = version.to_string();
        Ok(tier.set(&batch_of(version, |batch| {
            tables.iter().try_for_each(|table| {
                ["j", "k", "l"].iter().try_for_each(|key| batch.put(*table, key.as_bytes(), value.as_bytes()))
            })
        })?)?)
    };
    let points = || {
        check_together(&*tier, tables, Version::MAX)?;
        check_together(&*tier, tables, Version(frontier.load(Ordering::Acquire)))
    };
    let pages = || {
        let at = Version(frontier.load(Ordering::Acquire));
        tables.iter().try_for_each(|table| {
            check_page_together(&*tier, *table, Version::MAX, 3)?;
            check_page_together(&*tier, *table, at, 3)
        })
    };
    beside(&[&points, &pages], |round| write(10 * ROUNDS_MAX + round))?;
    if !h.has(Capability::LateVersions) {
        return Ok(());
    }
    beside(&[&points, &pages], |round| write(10 * ROUNDS_MAX - round))
}

pub(crate) fn case_015_reader_of_one_row_sees_the_whole_batch(h: &mut Harness<'_>) -> CaseResult {
    check_batches_whole(h, &[TABLE, OTHER])
}

pub(crate) fn case_143_version_is_visible_with_all_its_tables(h: &mut Harness<'_>) -> CaseResult {
    let tables = [EntryKind::Multi, EntryKind::source(1), EntryKind::source(2), EntryKind::operator(1), EntryKind::operator(2)];
    check_batches_whole(h, &tables)
}

pub(crate) fn case_084_drop_over_tables_is_atomic(h: &mut Harness<'_>) -> CaseResult {
    let tables = [TABLE, OTHER, EntryKind::Multi];
    let both = |version: u64| batch_of(version, |batch| tables.iter().try_for_each(|table| batch.put(*table, b"k", b"x")));
    let drops = |version: u64| tables.map(|table| drop_of(table, "k", version));
    h.apply(&both(1)?)?;
    h.apply(&both(2)?)?;
    h.drop_all(&drops(2))?;
    h.in_every_state(|h| tables.iter().try_for_each(|table| h.check_get_in(*table, "k", 2, "x@1")))?;
    if h.has_schedule() || !h.has(Capability::AtomicDrops) {
        return Ok(());
    }
    let tier = h.tier();
    let points = || {
        let keys = tables.map(|table| KeyRef { table, prefix: b"k" });
        let found: Vec<String> = tier.get_many(&keys, Version(2))?.iter().map(version_text).collect();
        expect_that(found.iter().all(|version| *version == found[0]), "all tables show a drop, or none does")
    };
    let batch = both(2)?;
    beside(&[&points, &points], |_round| {
        tier.set(&batch)?;
        Ok(tier.drop_versions(&drops(2))?)
    })?;
    let rows = || check_page_together(&*tier, TABLE, Version(5), 3);
    let batch = batch_of(5, |batch| ["j", "k", "l"].iter().try_for_each(|key| batch.put(TABLE, key.as_bytes(), b"x")))?;
    tier.clear_table(TABLE)?;
    beside(&[&rows], |_round| {
        tier.set(&batch)?;
        Ok(tier.clear_table(TABLE)?)
    })
}

/// So many writers, each with keys of its own,
const OWNERS: u64 = 2;
/// so many of them,
const KEYS: u64 = 8;
/// written so often.
const OPERATIONS: u64 = 400;
/// A writer takes a step after so many operations, if the backend can do that beside readers.
const OPERATIONS_PER_STEP: u64 = 50;

/// A value that tells whose it is and can be checked for tears.
fn stamped(key: &str, version: u64) -> String {
    format!("{key}:{version};").repeat(16)
}

/// Checks that a row carries what was written for its key and version.
fn check_stamp(row: thermocline_tier::EntryRef<'_>) -> CaseResult {
    let Some(value) = row.value else { return Ok(()) };
    let expected = stamped(&notation::bytes(row.prefix), row.version.0);
    expect_that(expected.as_bytes() == value, &format!("{} is whole and of its own key", notation::row(row)))
}

fn check_scan(tier: &dyn TierStorage) -> CaseResult {
    let forward = as_of(TABLE, KeyRange::all(), u64::MAX);
    for request in [reversed(&forward), forward] {
        let is_reverse = request.direction == thermocline_tier::Direction::Reverse;
        let (mut cursor, mut last) = (request.into_cursor(), None::<Vec<u8>>);
        for _page in 0..=OWNERS * KEYS {
            for row in next_page(tier, &mut cursor, 3)?.iter() {
                check_stamp(row)?;
                let is_in_order =
                    last.is_none_or(|last| if is_reverse { row.prefix < &last[..] } else { row.prefix > &last[..] });
                expect_that(is_in_order, &format!("{} follows in order, once", notation::row(row)))?;
                last = Some(row.prefix.to_vec());
            }
        }
        expect_that(cursor.is_exhausted(), "a scan over few keys ends")?;
    }
    Ok(())
}

/// One writer's life; answers with the last operation on each of its keys, as text.
fn own(h: &Harness<'_>, owner: u64, clock: &AtomicU64, may_step: bool) -> Result<Vec<(String, String)>, CaseFailure> {
    let mut last = vec![String::from("-"); usize::try_from(KEYS).unwrap_or_default()];
    for operation in 0..OPERATIONS {
        let (number, version) = ((operation * 5 + owner) % KEYS, clock.fetch_add(1, Ordering::Relaxed));
        let key = format!("owner-{owner}-key-{number}");
        let is_removal = operation % 7 == 6;
        let value = stamped(&key, version);
        h.tier().set(&batch_of(version, |batch| {
            if is_removal { batch.remove(TABLE, key.as_bytes()) } else { batch.put(TABLE, key.as_bytes(), value.as_bytes()) }
        })?)?;
        let slot = last.get_mut(usize::try_from(number).unwrap_or_default());
        if let Some(slot) = slot {
            *slot = if is_removal { format!("~@{version}") } else { format!("{}@{version}", notation::bytes(value.as_bytes())) };
        }
        if may_step && operation % OPERATIONS_PER_STEP == 0 {
            h.subject().take(Step::Flush)?;
        }
    }
    Ok((0..KEYS).map(|number| format!("owner-{owner}-key-{number}")).zip(last).collect())
}

pub(crate) fn case_141_writers_and_readers_on_many_threads(h: &mut Harness<'_>) -> CaseResult {
    let may_step = h.has(Capability::ConcurrentSteps) && h.has(Capability::Takes(Step::Flush));
    let (clock, writing) = (AtomicU64::new(1), AtomicU64::new(OWNERS));
    let shared: &Harness<'_> = h;
    let read = || -> CaseResult {
        loop {
            let was_last = writing.load(Ordering::Acquire) == 0;
            let tier = shared.tier();
            check_scan(&*tier)?;
            for owner in 0..OWNERS {
                let key = format!("owner-{owner}-key-0");
                if let Lookup::Value { version, bytes, .. } = tier.get(TABLE, key.as_bytes(), Version::MAX)? {
                    let whole = stamped(&key, version.0);
                    expect_that(bytes == whole, &format!("the value of {key} at version {version} is whole and its own"))?;
                }
            }
            if was_last {
                return Ok(());
            }
        }
    };
    let last = thread::scope(|scope| {
        let (clock, writing) = (&clock, &writing);
        let writers: Vec<_> = (0..OWNERS)
            .map(|owner| {
                scope.spawn(move || {
                    let _done = SubtractOnDrop(writing);
                    own(shared, owner, clock, may_step)
                })
            })
            .collect();
        let readers: Vec<_> = (0..2).map(|_| scope.spawn(read)).collect();
        let written = writers.into_iter().map(|writer| writer.join().unwrap_or_else(|payload| resume_unwind(payload)));
        let last = written.collect::<Result<Vec<_>, CaseFailure>>();
        readers.into_iter().map(join).fold(Ok(()), Result::and)?;
        last
    })?;
    h.in_every_state(|h| last.iter().flatten().try_for_each(|(key, expected)| h.check_get(key, u64::MAX, expected)))
}

/// Counts a writer out, also if it panics.
struct SubtractOnDrop<'a>(&'a AtomicU64);

impl Drop for SubtractOnDrop<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

pub(crate) fn case_142_key_never_vanishes_while_rewritten(h: &mut Harness<'_>) -> CaseResult {
    const READERS: usize = 4;
    const READS: u64 = 500;
    const BUMPS: u64 = 200;
    if h.has_schedule() {
        return Ok(());
    }
    h.set(1, "a", "x")?;
    let tier = h.tier();
    let (start, left) = (Barrier::new(READERS + 1), AtomicU64::new(READERS as u64));
    let read = || -> CaseResult {
        start.wait();
        let _done = SubtractOnDrop(&left);
        (0..READS).try_for_each(|_| {
            let found = tier.get(TABLE, b"a", Version::MAX)?;
            expect_that(found.is_value(), "a key that always exists is found")
        })
    };
    thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS).map(|_| scope.spawn(read)).collect();
        start.wait();
        let mut written = Ok(());
        for round in 0..ROUNDS_MAX {
            if written.is_err() || (round >= BUMPS && left.load(Ordering::Acquire) == 0) {
                break;
            }
            written = batch_of(round + 2, |batch| batch.put(TABLE, b"a", b"x")).and_then(|batch| tier.set(&batch));
            thermocline_io::sync::yield_now();
        }
        readers.into_iter().map(join).fold(Ok(()), Result::and).and(written.map_err(CaseFailure::from))
    })
}
