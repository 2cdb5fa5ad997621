//! Puts other engines beside Thermocline: the same data, the same loops, each in a process of its own, round by round.
//!
//! ```text
//! cargo xtask bench --compare [--engines a,b] [--workloads W,D] [--quick]
//! ```

mod engines;
mod html;

#[cfg(test)]
mod check;
#[cfg(test)]
mod killed;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use thermocline_yardstick::engine::Engine;
use thermocline_yardstick::failure::{Failure, Outcome};
use thermocline_yardstick::machine::Machine;
use thermocline_yardstick::real::Source;
use thermocline_yardstick::report::{OWN, Report};
use thermocline_yardstick::runner::{self, Plan, WORKER};
use thermocline_yardstick::spec::Spec;
use thermocline_yardstick::thermocline::Thermocline;
use thermocline_yardstick::worker::{self, Answer, Job};

use crate::engines::Visitor;

/// Compares Thermocline with other engines.
#[derive(Debug, Parser)]
struct Arguments {
    /// Only these engines, separated by commas; Thermocline always runs.
    #[arg(long, value_delimiter = ',')]
    engines: Vec<String>,
    /// Only these workloads, separated by commas.
    #[arg(long, value_delimiter = ',')]
    workloads: Vec<String>,
    /// A tenth of the data, 200,000 entries at most, and one round: shows that everything runs; the figures say little.
    #[arg(long)]
    quick: bool,
    /// How often every engine runs through every workload [default: 5, with --quick 1].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
    /// How long one loop of reads or commits lasts, in milliseconds [default: 1000, with --quick 200].
    #[arg(long, value_name = "MS")]
    slice: Option<u64>,
    /// Seeds keys, values and orders.
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// The history for workload H, in the format of `thermocline export --history`.
    #[arg(long, value_name = "FILE")]
    tsv: Option<PathBuf>,
    /// Where compare.txt, .json, .csv and .html are written.
    #[arg(long, value_name = "DIR", default_value = "target/compare")]
    out: PathBuf,
    /// Where the stores lie meanwhile [default: the directory of the results].
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Lists engines and workloads, and ends.
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let outcome = match (words.next().as_deref(), words.next()) {
        (Some(WORKER), Some(job)) => work(&job).map(|()| true),
        _ => compare(Arguments::parse()),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// What a worker does with the engine of its job.
struct Work<'a>(&'a Job);

impl Visitor for Work<'_> {
    type Output = Outcome<Answer>;

    fn visit<E: Engine>(self) -> Outcome<Answer> {
        worker::run::<E>(self.0)
    }
}

/// Runs one job, and prints its answer.
fn work(job: &str) -> Outcome<()> {
    let job: Job = serde_json::from_str(job).map_err(Failure::engine)?;
    let unknown = || Failure::Usage(format!("engine {} was not built in", job.engine));
    let answer = match job.engine.as_str() {
        OWN => Work(&job).visit::<Thermocline>(),
        other => engines::dispatch(other, Work(&job)).ok_or_else(unknown)?,
    }?;
    let text = serde_json::to_string(&answer).map_err(Failure::engine)?;
    std::io::stdout().write_all(text.as_bytes()).map_err(Failure::machine("answer"))
}

/// Runs the comparison; answers whether no engine has answered wrongly.
fn compare(arguments: Arguments) -> Outcome<bool> {
    if arguments.list {
        println!("engines: {OWN}, {}", engines::NAMES.join(", "));
        println!("workloads: {}", Spec::all().iter().map(|spec| spec.name.as_str()).collect::<Vec<_>>().join(", "));
        return Ok(true);
    }
    let plan = plan(&arguments)?;
    std::fs::create_dir_all(&arguments.out).map_err(Failure::machine("make the directory of the results"))?;
    let machine = Machine::look(&plan.directory)?;
    machine.print(&mut std::io::stderr()).map_err(Failure::machine("print"))?;
    let report = runner::run(&plan, |line| eprintln!("{line}"))?;
    write_results(&arguments, &plan, &report, &machine)?;
    print!("{}", report.to_text());
    let wrong = report.wrong();
    for line in &wrong {
        eprintln!("wrong answer: {line}");
    }
    Ok(wrong.is_empty())
}

fn plan(arguments: &Arguments) -> Outcome<Plan> {
    let mut names = vec![OWN.to_owned()];
    for name in &arguments.engines {
        if name != OWN && !engines::NAMES.contains(&name.as_str()) {
            return Err(Failure::Usage(format!("there is no engine {name:?}; there are {OWN}, {}", engines::NAMES.join(", "))));
        }
    }
    let is_wanted = |name: &&str| arguments.engines.is_empty() || arguments.engines.iter().any(|wanted| wanted == *name);
    names.extend(engines::NAMES.iter().copied().filter(is_wanted).map(str::to_owned));
    let specs = match arguments.workloads.as_slice() {
        [] => Spec::all(),
        named => named.iter().map(|name| Spec::named(name)).collect::<Outcome<_>>()?,
    };
    let directory = arguments.dir.clone().unwrap_or_else(|| arguments.out.clone()).join("stores");
    std::fs::create_dir_all(&directory).map_err(Failure::machine("make a directory for the stores"))?;
    Ok(Plan {
        engines: names,
        specs: specs.into_iter().map(|spec| if arguments.quick { spec.quick() } else { spec }).collect(),
        rounds: arguments.rounds.unwrap_or(if arguments.quick { 1 } else { 5 }),
        slice: Duration::from_millis(arguments.slice.unwrap_or(if arguments.quick { 200 } else { 1000 })),
        seed: arguments.seed,
        directory,
        history: arguments.tsv.clone().map(Source),
    })
}

fn write_results(arguments: &Arguments, plan: &Plan, report: &Report, machine: &Machine) -> Outcome<()> {
    let mut header = Vec::new();
    machine.print(&mut header).map_err(Failure::machine("describe the machine"))?;
    let size = if arguments.quick { "a tenth of the data (200,000 entries at most)" } else { "all data" };
    let (rounds, slice, seed) = (plan.rounds, plan.slice.as_millis(), plan.seed);
    let header = format!("{}{size}, {rounds} rounds, slices of {slice} ms, seed {seed}\n", String::from_utf8_lossy(&header));
    let write = |name: &str, text: &str| {
        let path: &Path = &arguments.out.join(name);
        std::fs::write(path, text).map_err(Failure::machine("write a file of results"))?;
        eprintln!("wrote {}", path.display());
        Ok(())
    };
    write("compare.txt", &format!("{header}\n{}", report.to_text()))?;
    let run = serde_json::json!({ "quick": arguments.quick, "rounds": rounds, "slice_ms": slice as u64, "seed": seed });
    let json = report.to_json(&serde_json::json!({ "machine": machine.to_json(), "run": run }));
    write("compare.json", &format!("{json:#}\n"))?;
    write("compare.csv", &report.to_csv())?;
    write("compare.html", &html::page(report, &header)?)
}
