//! Durable commits as multiples of what the disk itself does in the same seconds.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use thermocline::{Batch, CommitOptions, Durability};

use crate::bench::{Bench, progress, ratio};
use crate::report::Sample;
use crate::stores::{Inner, Placed};
use thermocline_yardstick::failure::{Failure, Outcome};
use thermocline_yardstick::meter::{Meter, Timed, await_quiet, join, run_for};
use thermocline_yardstick::workload::{Random, Workload, table_of};

/// What is overwritten and synced at a time.
const BLOCK_SIZE_BYTES: usize = 4096;
/// The size of the file that is overwritten, zero-filled beforehand so that no sync has to allocate.
const FILE_SIZE_BYTES: u64 = 16 << 20;
/// The rows of commits, with their numbers of threads.
const ROWS: [(&str, usize); 3] = [("sync-1", 1), ("sync-8", 8), ("sync-32", 32)];

/// Measures all, each between two measurements of the bare disk.
pub(crate) fn measure(bench: &mut Bench, workload: &Workload) -> Outcome<()> {
    if !bench.arguments.wants_any(&["fdatasync", "sync-1", "sync-8", "sync-32"]) {
        return Ok(());
    }
    let directory = bench.fresh_directory();
    std::fs::create_dir_all(&directory).map_err(Failure::machine("make a directory"))?;
    let bare = Bare::create(&directory.join("bare"))?;
    let placed = Placed::fresh(bench)?;
    let slice = bench.slice();
    for round in 0..bench.arguments.rounds() {
        progress(&format!("durable commits, round {}", round + 1));
        await_quiet(bench.arguments.patience());
        let mut before = bare.sample(slice)?;
        note_bare(bench, before)?;
        for (name, threads) in ROWS {
            if !bench.wants(name) {
                continue;
            }
            let seed = bench.arguments.seed + u64::from(round);
            let outcome = commit(&placed.store, workload, threads, slice, seed).and_then(|(sample, latency)| {
                let after = bare.sample(slice)?;
                let base = Sample::new(f64::midpoint(before.value, after.value), before.load.worse(after.load));
                let (commits, p99) = (sample.value / 1e3, latency.as_micros());
                // Two very different rates of the bare disk mean that others used the disk.
                let disk = format!("bare {:.1} k and {:.1} k around them", before.value / 1e3, after.value / 1e3);
                bench.report.remark(name, format!("{commits:.1} k commits/s, p99 {p99} us, {disk} in the last round"));
                before = after;
                Ok(ratio(&sample, &base))
            });
            bench.settle(name, outcome)?;
            note_bare(bench, before)?;
        }
    }
    placed.remove()?;
    std::fs::remove_dir_all(&directory).map_err(Failure::machine("remove a directory"))
}

fn note_bare(bench: &mut Bench, sample: Sample) -> Outcome<()> {
    if bench.wants("fdatasync") { bench.settle("fdatasync", Ok(sample)) } else { Ok(()) }
}

/// The file that is overwritten and synced without any store.
#[derive(Debug)]
struct Bare {
    file: File,
}

impl Bare {
    fn create(path: &Path) -> Outcome<Self> {
        let file = OpenOptions::new().write(true).create_new(true).open(path).map_err(Failure::machine("create a file"))?;
        let zeros = vec![0; 1 << 20];
        for offset in (0..FILE_SIZE_BYTES).step_by(zeros.len()) {
            file.write_all_at(&zeros, offset).map_err(Failure::machine("fill a file"))?;
        }
        file.sync_all().map_err(Failure::machine("sync a file"))?;
        Ok(Self { file })
    }

    fn sample(&self, slice: Duration) -> Outcome<Sample> {
        let block = [0xA5; BLOCK_SIZE_BYTES];
        let meter = Meter::start();
        let timed = run_for(slice, 1, |number| {
            let offset = (number * BLOCK_SIZE_BYTES as u64) % FILE_SIZE_BYTES;
            self.file.write_all_at(&block, offset).map_err(Failure::machine("overwrite a block"))?;
            self.file.sync_data().map_err(Failure::machine("sync a file"))?;
            Ok(1)
        })?;
        Ok(Sample::new(timed.rate(), meter.stop()))
    }
}

/// Commits one entry at a time, each acknowledged as durable, from `threads` threads; also the 99th of 100 latencies.
fn commit(store: &Inner, workload: &Workload, threads: usize, slice: Duration, seed: u64) -> Outcome<(Sample, Duration)> {
    let barrier = Barrier::new(threads);
    let before = store.last_version().0;
    let meter = Meter::start();
    let results: Vec<Outcome<(Timed, Vec<Duration>)>> = std::thread::scope(|scope| {
        let barrier = &barrier;
        let committer = |number: usize| {
            scope.spawn(move || {
                barrier.wait();
                committer(store, workload, slice, seed * 1000 + number as u64)
            })
        };
        let running: Vec<_> = (0..threads).map(committer).collect();
        running.into_iter().map(join).collect()
    });
    let load = meter.stop();
    let results: Vec<(Timed, Vec<Duration>)> = results.into_iter().collect::<Outcome<_>>()?;
    let commits: u64 = results.iter().map(|(timed, _)| timed.units).sum();
    let made = store.last_version().0 - before;
    if made != commits {
        return Err(Failure::Wrong(format!("{commits} commits made {made} versions")));
    }
    let rate = results.iter().map(|(timed, _)| timed.rate()).sum();
    let mut latencies: Vec<Duration> = results.into_iter().flat_map(|(_, latencies)| latencies).collect();
    latencies.sort_unstable();
    let p99 = latencies.get(latencies.len() * 99 / 100).copied().unwrap_or_default();
    Ok((Sample::new(rate, load), p99))
}

/// One committing thread; reads its last commit back.
fn committer(store: &Inner, workload: &Workload, slice: Duration, seed: u64) -> Outcome<(Timed, Vec<Duration>)> {
    let options = CommitOptions { durability: Some(Durability::Sync), ..CommitOptions::default() };
    let mut random = Random::new(seed);
    let mut latencies = Vec::new();
    let mut last = (0, 0);
    let timed = run_for(slice, 1, |number| {
        let index = random.below(workload.keys);
        let round = number as u32;
        let mut batch = Batch::new();
        batch.put(table_of(index), &workload.key(index), &workload.value(index, round));
        let began = Instant::now();
        last = (index, store.commit_with(batch, options)?.0);
        latencies.push(began.elapsed());
        Ok(1)
    })?;
    let (index, version) = last;
    let value = store.get_at(table_of(index), &workload.key(index), thermocline::Version(version))?;
    let round = timed.units as u32 - 1;
    if value.as_deref() != Some(workload.value(index, round).as_slice()) {
        return Err(Failure::Wrong(format!("key {index} at version {version} after a durable commit")));
    }
    Ok((timed, latencies))
}
