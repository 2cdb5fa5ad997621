//! The rows about reclaim: what reads and commits feel of it while it runs, and whether a store that keeps the latest alone stays as small
//! as it is.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use thermocline::{Durability, KeyRange, PolicyScope, Retention, Store, TableStats, TierFile};

use crate::bench::{Bench, progress, ratio};
use crate::beside::Writer;
use crate::report::Sample;
use crate::stores::{self, Inner, Placed};
use thermocline_yardstick::failure::{Failure, Outcome};
use thermocline_yardstick::meter::{Meter, Timed, join, on_cpu, resident_bytes};
use thermocline_yardstick::process::size_on_disk;
use thermocline_yardstick::workload::{Random, TABLES, Workload, table_of};

const BESIDE_ROWS: [&str; 2] = ["reclaim-reader", "reclaim-writer"];
const STEADY_ROWS: [&str; 2] = ["steady-size", "steady-memory"];
/// Of all latencies this part is looked at: one of a hundred is higher.
const PERCENTILE: usize = 99;
/// Of this many reads one is checked.
const CHECK_ONE_IN: usize = 64;
/// A reclaim that takes longer has failed.
const RECLAIM_MAX: Duration = Duration::from_secs(120);
/// How often it is looked whether a reclaim is over.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// What the steady store may use: so little that it flushes and rewrites all the time.
const STEADY_MEMORY_BYTES: u64 = 32 << 20;
/// Of the rounds of the steady store, the first part that the others are compared with: one of so many.
const STEADY_BASE: usize = 10;

/// Reads and commits beside the removal of all but the last of the workload's rounds, each against itself on the same store before.
pub(crate) fn measure_beside(bench: &mut Bench, workload: &Workload) -> Outcome<()> {
    if !bench.arguments.wants_any(&BESIDE_ROWS) {
        return Ok(());
    }
    for round in 0..bench.arguments.rounds() {
        progress(&format!("reclaiming W, round {}", round + 1));
        if bench.wants("reclaim-reader") {
            let placed = settled(bench, workload)?;
            let before = size_on_disk(&placed.directory);
            let outcome = reader(bench, workload, &placed.store).and_then(|sample| shrunk(&placed, before).map(|()| sample));
            bench.settle("reclaim-reader", outcome)?;
            placed.remove()?;
        }
        if bench.wants("reclaim-writer") {
            let placed = settled(bench, workload)?;
            let outcome = writer(bench, workload, &placed.store, u64::from(round));
            bench.settle("reclaim-writer", outcome)?;
            placed.remove()?;
        }
    }
    Ok(())
}

/// Whether what was reclaimed is gone: one round of four stays, and the log of the commits beside it.
fn shrunk(placed: &Placed, before: u64) -> Outcome<()> {
    let after = size_on_disk(&placed.directory);
    if after < before * 3 / 4 {
        return Ok(());
    }
    Err(Failure::Wrong(format!("{after} bytes after reclaiming, of {before}")))
}

/// A store that has the workload in files, and nothing left to do.
fn settled(bench: &mut Bench, workload: &Workload) -> Outcome<Placed> {
    let placed = stores::loaded(bench, workload)?;
    placed.store.flush()?;
    placed.store.wait_idle()?;
    Ok(placed)
}

/// Lets everything go but what the last round wrote, and waits until the store's own threads have rewritten the files of which much was
/// that.
fn reclaim(store: &Inner, workload: &Workload) -> Outcome<()> {
    store.set_horizon(workload.last_version())?;
    let began = Instant::now();
    while store.files().iter().any(|file| has_much_that_is_old(file, workload)) {
        if began.elapsed() > RECLAIM_MAX {
            return Err(Failure::Wrong(format!("a reclaim has not ended after {RECLAIM_MAX:?}")));
        }
        // Whoever waited for the work by the store's own means would help with it.
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

/// A quarter is what the store finds worth a rewrite.
fn has_much_that_is_old(file: &TierFile, workload: &Workload) -> bool {
    let sum = |of: fn(&TableStats) -> u64| file.tables.iter().map(|(_, stats)| of(stats)).sum::<u64>();
    let entries = sum(|stats| stats.entries);
    file.level > 0 && file.versions.1 <= workload.last_version() && (entries - sum(|stats| stats.keys)) * 4 >= entries
}

/// Works beside the reclaim until that is over.
fn beside_reclaim<T: Send>(
    bench: &Bench,
    store: &Inner,
    workload: &Workload,
    work: impl FnOnce(&(dyn Fn() -> bool + Sync)) -> Outcome<T> + Send,
) -> Outcome<(T, Meter)> {
    let is_over = AtomicBool::new(false);
    let meter = Meter::start();
    let cpu = bench.cpu();
    std::thread::scope(|scope| {
        let is_over = &is_over;
        let reclaiming = scope.spawn(move || {
            let outcome = reclaim(store, workload);
            is_over.store(true, Ordering::Release);
            outcome
        });
        let worked = on_cpu(cpu, || work(&|| is_over.load(Ordering::Acquire)));
        join(reclaiming)?;
        Ok((worked?, meter))
    })
}

fn reader(bench: &Bench, workload: &Workload, store: &Inner) -> Outcome<Sample> {
    let meter = Meter::start();
    let slice = bench.slice();
    let alone = on_cpu(bench.cpu(), || {
        latency(store, workload, &while_within(slice))?;
        latency(store, workload, &while_within(slice))
    })?;
    let alone = Sample::new(alone, meter.stop());
    let (beside, meter) = beside_reclaim(bench, store, workload, |is_over| latency(store, workload, is_over))?;
    Ok(ratio(&Sample::new(beside, meter.stop()), &alone))
}

fn while_within(slice: Duration) -> impl Fn() -> bool + Sync {
    let began = Instant::now();
    move || began.elapsed() >= slice
}

/// Latest reads until it is over: below what most of them stay, in nanoseconds.
fn latency(store: &Inner, workload: &Workload, is_over: &(dyn Fn() -> bool + Sync)) -> Outcome<f64> {
    let (mut random, mut latencies) = (Random::new(1), Vec::with_capacity(1 << 20));
    while !is_over() {
        let index = random.below(workload.keys);
        let key = workload.key(index);
        let began = Instant::now();
        let value = store.get(table_of(index), &key)?;
        latencies.push(began.elapsed());
        let is_checked = latencies.len().is_multiple_of(CHECK_ONE_IN);
        if is_checked && value.as_deref() != workload.expected(index, workload.last_version()).as_deref() {
            return Err(Failure::Wrong(format!("key {index} beside a reclaim")));
        }
    }
    let place = latencies.len() * PERCENTILE / 100;
    if place >= latencies.len() {
        return Err(Failure::Wrong("no read came to its end beside a reclaim".into()));
    }
    let (_, latency, _) = latencies.select_nth_unstable(place);
    Ok(latency.as_secs_f64() * 1e9)
}

fn writer(bench: &Bench, workload: &Workload, store: &Inner, seed: u64) -> Outcome<Sample> {
    let mut writer = Writer::new(store, workload, seed);
    let slice = bench.slice();
    let meter = Meter::start();
    // As long as a reclaim takes, so that flushes count here too.
    let alone = Sample::of(&on_cpu(bench.cpu(), || writer.run(slice * 5))?, meter.stop());
    let (beside, meter) = beside_reclaim(bench, store, workload, |is_over| {
        let mut sum = Timed { units: 0, wall: Duration::ZERO, cpu: Duration::ZERO };
        while !is_over() {
            let timed = writer.run(slice.min(Duration::from_millis(20)))?;
            sum = Timed { units: sum.units + timed.units, wall: sum.wall + timed.wall, cpu: sum.cpu + timed.cpu };
        }
        Ok(sum)
    })?;
    if beside.units == 0 {
        return Err(Failure::Wrong("no commit came to its end beside a reclaim".into()));
    }
    Ok(ratio(&Sample::of(&beside, meter.stop()), &alone))
}

/// What is left of a workload once all but its last round was reclaimed, against a store that never had any other.
pub(crate) fn measure_size(bench: &mut Bench, name: &'static str, workload: &Workload) -> Outcome<()> {
    if !bench.wants(name) {
        return Ok(());
    }
    for round in 0..bench.arguments.rounds() {
        progress(&format!("{name}, round {}", round + 1));
        let meter = Meter::start();
        let (all, last) = (reclaimed_size(bench, workload, 0)?, reclaimed_size(bench, workload, workload.orders().len() - 1)?);
        bench.settle(name, Ok(Sample::new(all as f64 / last as f64, meter.stop())))?;
    }
    Ok(())
}

/// The size on disk of a store of the workload's rounds from one on, without anything but the latest state.
fn reclaimed_size(bench: &mut Bench, workload: &Workload, from: usize) -> Outcome<u64> {
    let placed = Placed::fresh(bench)?;
    for (round, order) in (0..).zip(workload.orders()).skip(from) {
        stores::load_round(&placed.store, workload, round, order)?;
    }
    placed.store.flush()?;
    placed.store.set_horizon(placed.store.last_version())?;
    for table in TABLES {
        placed.store.compact(table, &KeyRange::all())?;
    }
    placed.store.close()?;
    let size = size_on_disk(&placed.directory);
    placed.remove()?;
    Ok(size)
}

/// Forty thousand keys that are written again and again, where the latest alone is kept: the files and the memory of the later rounds
/// against those of the first. As many updates as ten minutes bring at 3,300 a second; the policy is applied after each round, where
/// in ten minutes it would be each second.
pub(crate) fn measure_steady(bench: &mut Bench, workload: &Workload) -> Outcome<()> {
    if !bench.arguments.wants_any(&STEADY_ROWS) {
        return Ok(());
    }
    for round in 0..bench.arguments.rounds() {
        progress(&format!("the steady store, round {}", round + 1));
        let directory = bench.fresh_directory();
        let base = resident_bytes();
        let store = Store::builder(&directory).durability(Durability::Buffered).memory_budget(STEADY_MEMORY_BYTES).open()?;
        let placed = Placed { store, directory };
        for table in TABLES {
            placed.store.set_retention(PolicyScope::Table(table), Some(Retention::LatestOnly))?;
        }
        let meter = Meter::start();
        let mut steps = Vec::new();
        for (round, order) in (0..).zip(workload.orders()) {
            stores::load_round(&placed.store, workload, round, order)?;
            placed.store.apply_retention()?;
            steps.push((size_on_disk(&placed.directory), resident_bytes().saturating_sub(base)));
        }
        let load = meter.stop();
        let (first, rest) = steps.split_at(steps.len() / STEADY_BASE);
        let most = |steps: &[(u64, u64)], of: fn(&(u64, u64)) -> u64| steps.iter().map(of).max().unwrap_or_default() as f64;
        for (name, of) in STEADY_ROWS.into_iter().zip([(|step| step.0) as fn(&(u64, u64)) -> u64, |step| step.1]) {
            if bench.wants(name) {
                bench.settle(name, Ok(Sample::new(most(rest, of) / most(first, of), load)))?;
            }
        }
        bench.void_if_wrong(&STEADY_ROWS, keeps_the_latest(&placed.store, workload))?;
        placed.remove()?;
    }
    Ok(())
}

/// Every key has its last value, and what lies below cannot be read.
fn keeps_the_latest(store: &Inner, workload: &Workload) -> Outcome<()> {
    let last = workload.last_version();
    for index in 0..workload.keys {
        if store.get(table_of(index), &workload.key(index))?.as_deref() != workload.expected(index, last).as_deref() {
            return Err(Failure::Wrong(format!("key {index} of the steady store")));
        }
    }
    let refused = store.get_at(TABLES[0], &workload.key(0), thermocline::Version(1));
    if refused.is_ok_and(|value| value.is_some()) {
        return Err(Failure::Wrong("the first version of the steady store can still be read".into()));
    }
    Ok(())
}
