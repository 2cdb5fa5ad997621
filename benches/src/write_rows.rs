//! The rows over W that write: loads, memory, recovery, a writer beside a reader, and commits of one entry.

use std::sync::Arc;

use thermocline::{Batch, WholeKey};
use thermocline_io::{Environment, RealDisk};
use thermocline_wal::{Log, LogOptions, OpenLog};

use crate::bench::{Bench, progress, ratio};
use crate::beside;
use crate::reads::{check_content, check_latest};
use crate::report::Sample;
use crate::stores::{self, Inner, Placed, StoreReads};
use thermocline_yardstick::failure::{Failure, Outcome};
use thermocline_yardstick::meter::{Load, Meter, Timed, await_quiet, resident_bytes, run_for};
use thermocline_yardstick::workload::{Random, Workload};

const ROWS: [&str; 7] = ["load", "load-two", "memory", "memory-resident", "replay", "replay-log", "single"];
/// The rows that need a single committer's store.
const ROWS_OF_ONE: [&str; 6] = ["load", "memory", "memory-resident", "replay", "replay-log", "single"];

/// Measures all of them, round by round, each round on fresh stores.
pub(crate) fn measure(bench: &mut Bench, workload: &Workload) -> Outcome<()> {
    if !bench.arguments.wants_any(&ROWS) && !bench.arguments.wants_any(&beside::ROWS) {
        return Ok(());
    }
    let one = [workload.commits()];
    let two = [workload.commits_of_half(0), workload.commits_of_half(1)];
    for round in 0..bench.arguments.rounds() {
        progress(&format!("writing W, round {}", round + 1));
        // The first load of the process also shows what it adds to the resident set, before any memory is used a second time.
        let resident = (round == 0).then(resident_bytes);
        let Some((placed, base)) = load_or_void(bench, "load", workload, &one)? else { return Ok(()) };
        if bench.wants("load") {
            remark_cost(bench, "load", workload, &base);
            bench.settle("load", Ok(base))?;
        }
        if let Some(resident) = resident {
            memory(bench, workload, &placed.store, resident);
        }
        if bench.arguments.wants_any(&ROWS_OF_ONE) || bench.arguments.wants_any(&beside::ROWS) {
            let check = StoreReads::new(&placed.store).and_then(|reads| check_content(&reads, workload, u64::from(round)));
            bench.void_if_wrong(&["load"], check)?;
        }
        let placed = recover(bench, workload, placed)?;
        beside::measure(bench, workload, &placed.store, round)?;
        single(bench, workload, &placed.store, round)?;
        placed.remove()?;
        if bench.wants("load-two") {
            let Some((placed, sample)) = load_or_void(bench, "load-two", workload, &two)? else { continue };
            remark_cost(bench, "load-two", workload, &sample);
            bench.settle("load-two", Ok(ratio(&sample, &base)))?;
            let check = StoreReads::new(&placed.store).and_then(|reads| check_latest(&reads, workload, u64::from(round)));
            bench.void_if_wrong(&["load-two"], check)?;
            placed.remove()?;
        }
    }
    Ok(())
}

/// Loads a fresh store; `None` if it counted its commits wrongly, which voids the row.
fn load_or_void(
    bench: &mut Bench,
    name: &'static str,
    workload: &Workload,
    committers: &[Vec<Vec<u32>>],
) -> Outcome<Option<(Placed, Sample)>> {
    match load(bench, workload, committers) {
        Ok(loaded) => Ok(Some(loaded)),
        Err(wrong @ Failure::Wrong(_)) => bench.void_if_wrong(&[name], Err(wrong)).map(|()| None),
        Err(failure) => Err(failure),
    }
}

/// Loads a fresh store; again if foreign load disturbed, and the quietest is the answer.
fn load(bench: &mut Bench, workload: &Workload, committers: &[Vec<Vec<u32>>]) -> Outcome<(Placed, Sample)> {
    let (mut placed, mut best) = load_once(bench, workload, committers)?;
    for _ in 0..bench.arguments.retries {
        if best.load.is_quiet() {
            break;
        }
        placed.remove()?;
        let (again, sample) = load_once(bench, workload, committers)?;
        placed = again;
        if sample.load.foreign_cpus < best.load.foreign_cpus {
            best = sample;
        }
    }
    Ok((placed, best))
}

fn load_once(bench: &mut Bench, workload: &Workload, committers: &[Vec<Vec<u32>>]) -> Outcome<(Placed, Sample)> {
    let placed = Placed::fresh(bench)?;
    await_quiet(bench.arguments.patience());
    let sample = stores::timed_load(bench, &placed.store, workload, committers)?;
    Ok((placed, sample))
}

/// Notes the processor time of all threads, the store's own among them: two committers that wait for each other cost no more of it than
/// one, two that get in each other's way do.
fn remark_cost(bench: &mut Bench, name: &'static str, workload: &Workload, sample: &Sample) {
    let nanoseconds = sample.load.own_nanoseconds(workload.entries());
    bench.report.remark(name, format!("{nanoseconds:.0} ns of processors an entry in the last round"));
}

fn memory(bench: &mut Bench, workload: &Workload, store: &Inner, resident_before: u64) {
    let user_bytes = workload.user_bytes() as f64;
    let accounted = store.stats().tiers.memory_bytes;
    let resident = resident_bytes().saturating_sub(resident_before);
    for (name, bytes) in [("memory", accounted), ("memory-resident", resident)] {
        if bench.wants(name) {
            bench.report.add(name, Sample::new(bytes as f64 / user_bytes, Load::default()));
            let (mib, user_mib) = (bytes >> 20, workload.user_bytes() >> 20);
            bench.report.remark(name, format!("{mib} MiB for {user_mib} MiB"));
        }
    }
}

/// Times recovery of the closed store, its files in the page cache: the log alone, then the whole reopening. Leaves it open.
fn recover(bench: &mut Bench, workload: &Workload, placed: Placed) -> Outcome<Placed> {
    if !bench.arguments.wants_any(&["replay", "replay-log"]) {
        return Ok(placed);
    }
    let Placed { store, directory } = placed;
    store.close()?;
    drop(store);
    let with_meter = |work: &dyn Fn() -> Outcome<()>| {
        let meter = Meter::start();
        let timed = Timed::of(workload.entries(), work)?;
        Ok(Sample::of(&timed, meter.stop()))
    };
    if bench.wants("replay-log") {
        let outcome = bench.retried(|| with_meter(&|| replay_log(&directory, workload)));
        bench.settle("replay-log", outcome)?;
    }
    if bench.wants("replay") {
        let outcome = bench.retried(|| {
            let (meter, mut reopened) = (Meter::start(), None);
            let timed = Timed::of(workload.entries(), || {
                reopened = Some(stores::open(&directory)?);
                Ok(())
            })?;
            let sample = Sample::of(&timed, meter.stop());
            reopened.map_or(Ok(()), |store| store.close())?;
            Ok(sample)
        });
        bench.settle("replay", outcome)?;
    }
    let store = stores::open(&directory)?;
    let check = StoreReads::new(&store).and_then(|reads| check_content(&reads, workload, 1));
    bench.void_if_wrong(&["replay"], check)?;
    Ok(Placed { store, directory })
}

/// Reads and checks every record of a closed store's log and does nothing with them.
fn replay_log(directory: &std::path::Path, workload: &Workload) -> Outcome<()> {
    let disk = RealDisk::open(directory, false).map_err(thermocline_wal::disk_error)?;
    let environment = Environment::real();
    let request = OpenLog {
        disk: Arc::new(disk),
        randomness: &*environment.randomness,
        clock: &*environment.clock,
        options: LogOptions::default(),
        layout: &WholeKey,
        is_read_only: true,
        store: None,
        base: None,
    };
    let mut entries = 0;
    let (_log, _report) = Log::open(request, &mut |record| {
        if let thermocline_wal::Replayed::Commit(commit) = record {
            entries += commit.batch.len() as u64;
        }
        Ok(())
    })?;
    if entries == workload.entries() {
        return Ok(());
    }
    Err(Failure::Wrong(format!("the log gave {entries} entries of {}", workload.entries())))
}

/// Commits of one entry each over the loaded keys.
fn single(bench: &mut Bench, workload: &Workload, store: &Inner, round: u32) -> Outcome<()> {
    let mut random = Random::new(u64::from(round));
    let seed = random.next_word();
    let before = store.last_version().0;
    let commits = std::sync::atomic::AtomicU64::new(0);
    let slice = bench.slice();
    bench.row("single", || {
        let (mut random, mut value) = (Random::new(seed), Vec::new());
        let timed = run_for(slice, 16, |_| {
            let mut batch = Batch::new();
            stores::write(&mut batch, workload, random.below(workload.keys), workload.rounds, &mut value);
            store.commit(batch)?;
            Ok(1)
        })?;
        commits.fetch_add(timed.units, std::sync::atomic::Ordering::Relaxed);
        Ok(timed)
    })?;
    let made = store.last_version().0 - before;
    let counted = commits.into_inner();
    let check = if made == counted { Ok(()) } else { Err(Failure::Wrong(format!("{counted} commits made {made} versions"))) };
    bench.void_if_wrong(&["single"], check)
}
