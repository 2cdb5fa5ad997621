//! `cargo xtask ci`: every check but the tests.

use std::time::Instant;

use crate::process::{Failure, cargo, run as run_command};
use crate::workspace::Workspace;
use crate::{dependencies, formats, layers, models, msrv, tidy};

type Step = (&'static str, fn(&Workspace) -> Result<(), Failure>);

/// Cheap checks first; a failure does not hide those behind it.
const STEPS: &[Step] = &[
    ("fmt", fmt),
    ("layers", layers::run),
    ("tidy", tidy::run),
    ("deps", |workspace| dependencies::run(workspace, dependencies::Mode::Check)),
    ("msrv", msrv::run),
    ("formats", |workspace| formats::run(workspace, formats::Mode::Check)),
    ("clippy", clippy),
    ("doc", doc),
    ("models", models::run),
    ("example", example),
];

/// Runs each step and says at the end which failed.
pub(crate) fn run(workspace: &Workspace) -> Result<(), Failure> {
    let mut failed = Vec::new();
    for (name, step) in STEPS {
        println!("--- {name}");
        let start = Instant::now();
        let outcome = step(workspace);
        let seconds = start.elapsed().as_secs_f64();
        match outcome {
            Ok(()) => println!("--- {name}: passed in {seconds:.1} s\n"),
            Err(failure) => {
                println!("{}\n--- {name}: FAILED in {seconds:.1} s\n", failure.message());
                failed.push(*name);
            }
        }
    }
    if failed.is_empty() {
        println!("ci: all {} checks passed", STEPS.len());
        return Ok(());
    }
    Err(Failure::new(format!("{} of {} checks failed: {}", failed.len(), STEPS.len(), failed.join(", "))))
}

fn fmt(workspace: &Workspace) -> Result<(), Failure> {
    run_command(cargo().current_dir(&workspace.root).args(["fmt", "--all", "--check"]))
}

fn clippy(workspace: &Workspace) -> Result<(), Failure> {
    let arguments = ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
    run_command(cargo().current_dir(&workspace.root).args(arguments))
}

/// The one that is a chapter of the documents, over this repository's own history.
fn example(workspace: &Workspace) -> Result<(), Failure> {
    let arguments = ["run", "--package", "thermocline", "--example", "schema_migration", "--locked"];
    run_command(cargo().current_dir(&workspace.root).args(arguments))
}

/// Libraries only: the program and the facade share the name `thermocline`, and the pages of one would overwrite the other's.
fn doc(workspace: &Workspace) -> Result<(), Failure> {
    let arguments = ["doc", "--workspace", "--no-deps", "--lib", "--locked"];
    run_command(cargo().current_dir(&workspace.root).env("RUSTDOCFLAGS", "-Dwarnings").args(arguments))
}
