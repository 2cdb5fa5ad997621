//! The whole comparison: each engine in a process of its own, contestants alternated round by round.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::failure::{Failure, Outcome};
use crate::meter::{await_quiet, own_cpus};
use crate::real::Source;
use crate::report::{Report, Run};
use crate::spec::{Kind, Spec};
use crate::worker::{Answer, Job, write_back};
use crate::workload::Random;

/// The word before a job on the command line of a worker.
pub const WORKER: &str = "worker";
/// A worker that takes longer is ended, and what it was to measure counts as failed.
const PATIENCE: Duration = Duration::from_secs(45 * 60);

/// So long it is waited at most, before each worker, for others to leave the processors.
const QUIET_PATIENCE: Duration = Duration::from_secs(2);

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The engines' names.
    pub engines: Vec<String>,
    /// The workloads.
    pub specs: Vec<Spec>,
    /// How often every engine runs through every workload.
    pub rounds: u32,
    /// How long one loop lasts.
    pub slice: Duration,
    /// Seeds everything.
    pub seed: u64,
    /// Where the stores lie meanwhile.
    pub directory: PathBuf,
    /// For the workload that is a history.
    pub history: Option<Source>,
}

/// Runs the plan: this program, started anew as a worker for every engine, workload and round. `progress` is told what begins.
pub fn run(plan: &Plan, mut progress: impl FnMut(&str)) -> Outcome<Report> {
    let program = std::env::current_exe().map_err(Failure::machine("find this program"))?;
    let cpus = own_cpus();
    let mut report = Report::new(plan);
    for spec in &plan.specs {
        if spec.kind == Kind::Real && plan.history.is_none() {
            progress("workload H is left out: it needs --tsv FILE");
            continue;
        }
        for round in 0..plan.rounds {
            // In another order in every round, so that nobody always comes after the same one.
            let mut engines: Vec<&String> = plan.engines.iter().collect();
            let mut random = Random::new(plan.seed + u64::from(round));
            for last in (1..engines.len()).rev() {
                engines.swap(last, random.below(u32::try_from(last + 1).unwrap_or(1)) as usize);
            }
            for engine in engines {
                progress(&format!("workload {}, round {} of {}: {engine}", spec.name, round + 1, plan.rounds));
                let directory = plan.directory.join("store");
                std::fs::create_dir_all(&directory).map_err(Failure::machine("make a directory for a store"))?;
                let job = Job {
                    engine: engine.clone(),
                    spec: spec.clone(),
                    // Every engine has the same data; every round has other data.
                    seed: plan.seed + u64::from(round),
                    slice_ms: u64::try_from(plan.slice.as_millis()).unwrap_or(u64::MAX),
                    directory: directory.clone(),
                    cpus: cpus.clone(),
                    history: plan.history.clone(),
                };
                let outcome = work(&program, &job).map_err(|failure| failure.to_string());
                report.runs.push(Run { workload: spec.name.clone(), keys: spec.keys, engine: engine.clone(), round, outcome });
                std::fs::remove_dir_all(&directory).map_err(Failure::machine("remove a store's directory"))?;
                // What one leaves to the system is not for the next one to bear.
                write_back(&plan.directory)?;
                await_quiet(QUIET_PATIENCE);
            }
        }
    }
    Ok(report)
}

/// One job in a process of its own.
fn work(program: &Path, job: &Job) -> Outcome<Answer> {
    let text = serde_json::to_string(job).map_err(Failure::engine)?;
    let mut command = Command::new(program);
    command.arg(WORKER).arg(text).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(Failure::machine("start a worker"))?;
    let began = Instant::now();
    // The answer is a few KiB, which a pipe holds, so that nobody need read it before the worker ends.
    let status = loop {
        if let Some(status) = child.try_wait().map_err(Failure::machine("wait for a worker"))? {
            break status;
        }
        if began.elapsed() > PATIENCE {
            child.kill().map_err(Failure::machine("end a worker"))?;
            child.wait().map_err(Failure::machine("wait for a worker"))?;
            return Err(Failure::Usage(format!("it did not end within {} minutes", PATIENCE.as_secs() / 60)));
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let output = child.wait_with_output().map_err(Failure::machine("read a worker's answer"))?;
    if !status.success() {
        return Err(Failure::Usage(format!("it ended with {status}")));
    }
    serde_json::from_slice(&output.stdout).map_err(Failure::engine)
}
