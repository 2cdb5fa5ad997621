//! A reader and a writer on two processors, each against itself alone.

use std::time::Duration;

use thermocline::Version;

use crate::bench::{Bench, ratio};
use crate::report::Sample;
use crate::stores::{self, Inner};
use thermocline_yardstick::failure::{Failure, Outcome};
use thermocline_yardstick::meter::{Meter, Timed, await_quiet, join, on_cpu, pin, run_for};
use thermocline_yardstick::workload::{COMMIT_ENTRIES, Random, Workload, table_of};

/// The rows.
pub(crate) const ROWS: [&str; 4] = ["beside-reader", "beside-writer", "beside-gets", "beside-inserts"];
/// Of this many entries one has a new key.
const NEW_ONE_IN: u32 = 5;
/// Of this many reads one is checked.
const CHECK_ONE_IN: u64 = 512;

/// Measures a reader alone, both together, the writer alone, and the reader alone once more: the store grows meanwhile, so the reader's
/// base is the mean of before and after.
pub(crate) fn measure(bench: &mut Bench, workload: &Workload, store: &Inner, round: u32) -> Outcome<()> {
    if !bench.arguments.wants_any(&ROWS) {
        return Ok(());
    }
    let outcome = all(bench, workload, store, round);
    let [reader, writer, gets, inserts] = match outcome {
        Ok(samples) => samples.map(Ok),
        Err(Failure::Wrong(what)) => [(); 4].map(|()| Err(Failure::Wrong(what.clone()))),
        Err(failure) => return Err(failure),
    };
    for (name, outcome) in ROWS.into_iter().zip([reader, writer, gets, inserts]) {
        if bench.wants(name) {
            bench.settle(name, outcome)?;
        }
    }
    Ok(())
}

fn all(bench: &Bench, workload: &Workload, store: &Inner, round: u32) -> Outcome<[Sample; 4]> {
    let slice = bench.slice();
    let mut writer = Writer::new(store, workload, u64::from(round));
    let before = bench.rate(|| read(store, workload, slice, 1))?;
    let (gets, inserts) = together(bench, workload, store, &mut writer)?;
    let writer_alone = {
        let meter = Meter::start();
        let timed = on_cpu(bench.cpu_of(1), || writer.run(slice))?;
        Sample::of(&timed, meter.stop())
    };
    let after = bench.rate(|| read(store, workload, slice, 2))?;
    let alone = Sample::new(f64::midpoint(before.value, after.value), before.load.worse(after.load));
    Ok([ratio(&gets, &alone), ratio(&inserts, &writer_alone), gets, inserts])
}

/// Both at once, each tied to its processor.
fn together(bench: &Bench, workload: &Workload, store: &Inner, writer: &mut Writer<'_>) -> Outcome<(Sample, Sample)> {
    let slice = bench.slice();
    let (reader_cpu, writer_cpu) = (bench.cpu(), bench.cpu_of(1));
    let barrier = std::sync::Barrier::new(2);
    await_quiet(bench.arguments.patience());
    let meter = Meter::start();
    let (gets, inserts) = std::thread::scope(|scope| {
        let barrier = &barrier;
        let reading = scope.spawn(move || {
            let pinned = pin(reader_cpu);
            barrier.wait();
            pinned?;
            read(store, workload, slice, 3)
        });
        let writing = scope.spawn(move || {
            let pinned = pin(writer_cpu);
            barrier.wait();
            pinned?;
            writer.run(slice)
        });
        (join(reading), join(writing))
    });
    let load = meter.stop();
    Ok((Sample::of(&gets?, load), Sample::of(&inserts?, load)))
}

/// Latest reads of the workload's keys, whichever round's value they have by now.
fn read(store: &Inner, workload: &Workload, slice: Duration, seed: u64) -> Outcome<Timed> {
    let mut random = Random::new(seed);
    run_for(slice, 256, |number| {
        let index = random.below(workload.keys);
        let value = store.get(table_of(index), &workload.key(index))?;
        std::hint::black_box(value.as_ref().and_then(|value| value.first()));
        if number.is_multiple_of(CHECK_ONE_IN) {
            let is_right = match &value {
                Some(value) => workload.is_some_rounds_value(index, value, Writer::ROUNDS_MAX),
                None => (0..Writer::ROUNDS_MAX).any(|round| workload.is_tombstone(index, round)),
            };
            if !is_right {
                return Err(Failure::Wrong(format!("key {index} beside a writer")));
            }
        }
        Ok(1)
    })
}

/// Commits of 100 entries to random keys, one in five of them new.
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    store: &'a Inner,
    workload: &'a Workload,
    random: Random,
    next_new: u32,
    last: Version,
}

impl<'a> Writer<'a> {
    /// The writer's values belong to a round after the workload's.
    const ROUNDS_MAX: u32 = 8;

    pub(crate) fn new(store: &'a Inner, workload: &'a Workload, seed: u64) -> Self {
        Self { store, workload, random: Random::new(seed), next_new: workload.keys, last: store.last_version() }
    }

    pub(crate) fn run(&mut self, slice: Duration) -> Outcome<Timed> {
        let Self { store, workload, random, next_new, last } = self;
        let mut value = Vec::new();
        run_for(slice, 1, |_| {
            let mut batch = stores::batch_of(COMMIT_ENTRIES);
            for _ in 0..COMMIT_ENTRIES {
                let index = if random.below(NEW_ONE_IN) == 0 {
                    *next_new += 1;
                    *next_new
                } else {
                    random.below(workload.keys)
                };
                stores::write(&mut batch, workload, index, workload.rounds, &mut value);
            }
            let version = store.commit(batch)?;
            if Some(version) != last.next() {
                return Err(Failure::Wrong(format!("version {version} after {last} beside a reader")));
            }
            *last = version;
            Ok(COMMIT_ENTRIES as u64)
        })
    }
}
