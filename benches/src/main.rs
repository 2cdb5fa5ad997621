//! The workload harness: loads, reads, commits and recovers whole stores, and prints the figures beside their bars.
//!
//! `cargo xtask bench` runs it. Criterion benchmarks of the parts live in the crates of the parts; this is the product from the
//! outside. How it measures, and why so:
//!
//! - Measuring threads are tied to processors: a scheduler that leaves two threads on one makes every parallel figure wrong.
//! - The processor time of others is taken beside each measurement. From 0.2 processors on the figure is disturbed: it is taken again,
//!   counts only if no quiet one is there, and is marked `!`.
//! - The rows over one store take turns, round by round, so that a slow minute of the machine meets all of them; the figure is the
//!   median over the rounds. Rates that are compared with one another are measured one right after the other.
//! - Keys are drawn by the same cheap generator inside every loop, and made anew from their index; making keys and values is part of
//!   every figure.
//! - Answers are sampled and checked against the model. A wrong answer voids its row, and the run fails.

#![forbid(unsafe_code)]
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a benchmark measures the real machine: its clock, threads and files are not simulated"
)]
#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "counts become figures of three digits, and generators cut numbers to size on purpose"
)]

mod arguments;
mod bench;
mod beside;
mod consumer_rows;
mod memory_probe;
mod migration_rows;
mod read_rows;
mod reads;
mod reclaim_rows;
mod report;
mod rows;
mod stores;
mod sync_rows;
mod tier_rows;
mod warm_rows;
mod write_rows;

use std::error::Error as _;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use tempfile::TempDir;

use crate::arguments::{Arguments, Data};
use crate::bench::Bench;
use crate::memory_probe::Probe;
use crate::rows::{ROWS, TIER_ROWS};
use serde_json::{Value, json};
use thermocline_yardstick::failure::{Failure, Outcome};
use thermocline_yardstick::machine::Machine;
use thermocline_yardstick::workload::Workload;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments, &mut io::stdout()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            let code = if matches!(failure, Failure::Usage(_)) { 2 } else { 1 };
            let mut text = failure.to_string();
            let mut source = failure.source();
            while let Some(cause) = source {
                text = format!("{text}: {cause}");
                source = cause.source();
            }
            writeln!(io::stderr(), "error: {text}").unwrap_or_default();
            ExitCode::from(code)
        }
    }
}

/// Measures and prints; answers whether every answer was right.
fn run(arguments: Arguments, out: &mut dyn Write) -> Outcome<bool> {
    arguments.check()?;
    let printing = Failure::machine("print");
    if arguments.list {
        list(out).map_err(printing)?;
        return Ok(true);
    }
    let directory = scratch_directory(arguments.dir.as_deref())?;
    let machine = Machine::look(directory.path())?;
    machine.print(out).map_err(Failure::machine("print"))?;
    let size = if arguments.quick { "a tenth of the data" } else { "all data" };
    let (rounds, slice, seed) = (arguments.rounds(), arguments.slice().as_millis(), arguments.seed);
    writeln!(out, "{size}, {rounds} rounds, slices of {slice} ms, seed {seed}\n").map_err(Failure::machine("print"))?;
    let mut bench = Bench::new(arguments, directory.path(), machine.cores());
    measure(&mut bench)?;
    bench.report.print(out).map_err(Failure::machine("print"))?;
    if let Some(file) = &bench.arguments.json {
        let text = format!("{:#}\n", bench.report.to_json(&header(&machine, &bench.arguments)));
        fs::write(file, text).map_err(Failure::machine("write the file of figures"))?;
    }
    Ok(!bench.report.has_wrong())
}

/// What the file of figures says about the run.
fn header(machine: &Machine, arguments: &Arguments) -> Value {
    let run = json!({
        "quick": arguments.quick, "rounds": arguments.rounds(), "slice_ms": arguments.slice().as_secs_f64() * 1e3, "seed": arguments.seed,
    });
    json!({ "machine": machine.to_json(), "run": run })
}

fn list(out: &mut dyn Write) -> io::Result<()> {
    ROWS.iter().chain(TIER_ROWS).try_for_each(|row| writeln!(out, "{:20} {}", row.name, row.what))
}

/// Beside the program by default, since a system's directory for temporary files often lies in memory.
fn scratch_directory(asked: Option<&Path>) -> Outcome<TempDir> {
    let beside = || std::env::current_exe().ok().and_then(|program| program.parent().map(Path::to_path_buf));
    let place = asked.map(PathBuf::from).or_else(beside).unwrap_or_else(|| PathBuf::from("."));
    tempfile::Builder::new().prefix("bench-").tempdir_in(place).map_err(Failure::machine("make a directory for the stores"))
}

fn measure(bench: &mut Bench) -> Outcome<()> {
    let (shrink, seed) = (bench.arguments.shrink(), bench.arguments.seed);
    memory_latency(bench)?;
    if bench.arguments.has_data(Data::W) {
        let workload = Workload::new(500_000 / shrink, 4, seed);
        // First, since it shows what the first load adds to the process.
        write_rows::measure(bench, &workload)?;
        consumer_rows::measure(bench, &workload)?;
        read_rows::measure_w(bench, &workload)?;
        reclaim_rows::measure_beside(bench, &workload)?;
        reclaim_rows::measure_size(bench, "reclaim-size", &workload)?;
        migration_rows::measure_compaction(bench, &workload)?;
        migration_rows::measure_summaries(bench)?;
        read_rows::measure_overhead(bench, &workload)?;
        warm_rows::measure_overhead(bench, &workload)?;
        if bench.wants("open-warm") {
            warm_rows::measure_open(bench, &Workload::new(1_250_000 / shrink, 4, seed))?;
        }
        tier_rows::measure_w(bench, &workload)?;
    }
    if bench.arguments.has_data(Data::D) {
        let deep = Workload::new(40_000 / shrink, 50, seed);
        let flat = Workload::new(40_000 / shrink, 1, seed);
        read_rows::measure_d(bench, &deep, &flat)?;
        reclaim_rows::measure_size(bench, "reclaim-size-deep", &deep)?;
        reclaim_rows::measure_steady(bench, &deep)?;
        tier_rows::measure_d(bench, &deep, &flat)?;
    }
    if bench.arguments.has_data(Data::Commits) {
        sync_rows::measure(bench, &Workload::new(500_000 / shrink, 1, seed))?;
    }
    memory_latency(bench)
}

/// Before and after all else, so that a machine that changed meanwhile shows.
fn memory_latency(bench: &mut Bench) -> Outcome<()> {
    for (name, words) in memory_probe::SIZES {
        if bench.wants(name) {
            let outcome = Probe::new(words, bench.arguments.seed).measure(bench);
            bench.settle(name, outcome)?;
        }
    }
    Ok(())
}
