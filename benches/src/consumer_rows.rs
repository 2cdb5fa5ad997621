//! The rows about the stream of commits: how fast a consumer reads it, and what one that follows costs a writer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use thermocline::{Consumer, ConsumerOptions};

use crate::bench::{Bench, progress, ratio};
use crate::report::Sample;
use crate::stores::{self, Placed};
use thermocline_yardstick::failure::{Failure, Outcome};
use thermocline_yardstick::meter::{Meter, Timed};
use thermocline_yardstick::workload::Workload;

const ROWS: [&str; 2] = ["changes", "load-followed"];
/// How long the consumer waits at most before it looks whether the load is over.
const WAIT_MAX: Duration = Duration::from_millis(100);

/// Measures both, round by round, each round on fresh stores.
pub(crate) fn measure(bench: &mut Bench, workload: &Workload) -> Outcome<()> {
    if !bench.arguments.wants_any(&ROWS) {
        return Ok(());
    }
    let committers = [workload.commits()];
    for round in 0..bench.arguments.rounds() {
        progress(&format!("reading the changes of W, round {}", round + 1));
        let placed = Placed::fresh(bench)?;
        let mut consumer = placed.store.consumer("reader", ConsumerOptions::default())?;
        let alone = stores::timed_load(bench, &placed.store, workload, &committers)?;
        if bench.wants("changes") {
            let meter = Meter::start();
            let read = Timed::of(workload.entries(), || read_all(&mut consumer, workload));
            let outcome = read.map(|timed| Sample::of(&timed, meter.stop()));
            bench.settle("changes", outcome)?;
        }
        drop(consumer);
        placed.remove()?;
        if !bench.wants("load-followed") {
            continue;
        }
        let placed = Placed::fresh(bench)?;
        let mut consumer = placed.store.consumer("follower", ConsumerOptions::default())?;
        let is_over = AtomicBool::new(false);
        let (followed, entries) = std::thread::scope(|scope| {
            let following = scope.spawn(|| follow(&mut consumer, &is_over));
            let loaded = stores::timed_load(bench, &placed.store, workload, &committers);
            is_over.store(true, Ordering::Release);
            let entries = following.join().unwrap_or_else(|_panic| Err(Failure::Wrong("the consumer panicked".into())));
            Ok::<_, Failure>((loaded?, entries?))
        })?;
        bench.settle("load-followed", Ok(ratio(&followed, &alone)))?;
        bench.void_if_wrong(&["load-followed"], check(entries, workload))?;
        drop(consumer);
        placed.remove()?;
    }
    Ok(())
}

fn check(entries: u64, workload: &Workload) -> Outcome<()> {
    if entries == workload.entries() {
        return Ok(());
    }
    Err(Failure::Wrong(format!("the consumer got {entries} entries of {}", workload.entries())))
}

/// Reads everything, and looks at the first and the last byte of each value.
fn read_all(consumer: &mut Consumer, workload: &Workload) -> Outcome<()> {
    let mut entries = 0;
    loop {
        let before = consumer.delivered();
        entries += count(consumer)?;
        if consumer.delivered() == before {
            return check(entries, workload);
        }
    }
}

/// Reads what comes until the load is over and everything is read. Checkpoints every batch, as a view would.
fn follow(consumer: &mut Consumer, is_over: &AtomicBool) -> Outcome<u64> {
    let mut entries = 0;
    loop {
        let was_over = is_over.load(Ordering::Acquire);
        let batch = consumer.wait(WAIT_MAX)?;
        entries += batch.commits.iter().map(|commit| commit.changes.len() as u64).sum::<u64>();
        consumer.checkpoint(batch.up_to)?;
        if was_over && batch.commits.is_empty() {
            return Ok(entries);
        }
    }
}

fn count(consumer: &mut Consumer) -> Outcome<u64> {
    let batch = consumer.poll()?;
    let mut entries = 0;
    for change in batch.commits.iter().flat_map(|commit| &commit.changes) {
        std::hint::black_box(change.value.as_ref().map(|value| (value.first(), value.last())));
        entries += 1;
    }
    Ok(entries)
}
