//! Automation of the workspace: `cargo xtask <command>`. It relies on cargo and git alone, and on no crate of the engine, so that it
//! builds fast and still works when the engine does not compile.

#![forbid(unsafe_code)]
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "automation runs on real files, processes and time, and talks to a terminal; it is not part of the engine"
)]

mod bench;
mod ci;
mod demo;
mod dependencies;
mod formats;
mod histories;
mod layers;
mod models;
mod msrv;
mod process;
mod tests;
mod tidy;
mod workspace;

use std::process::ExitCode;

use crate::process::Failure;
use crate::workspace::Workspace;

const USAGE: &str = "\
usage: cargo xtask <command> [options]

  test [ARGS]          run every test and doctest; ARGS go to the test runner
  ci                   every check but the tests: fmt, layers, tidy, deps, msrv, formats, clippy, doc, models
  layers               check that the dependencies among the workspace's crates point down
  tidy                 check the rules of style that the compiler does not
  formats [--check]    render docs/formats from the code, or compare
  deps [--update]      compare the dependencies and their licences with xtask/dependencies.tsv, or write it
  msrv                 check that every crate and dependency fits the minimum supported Rust version
  models               run the models of the lock-free parts through every interleaving
  bench [ARGS]         run the benchmark harness in release; ARGS go to it
  bench --setup        install what the next two need (Debian)
  bench --compare [--engines A,B] [--workloads W,D] [--quick] [--git REPOSITORY | --tsv FILE] ...
                       build other engines and measure them beside this one; with --test, test their adapters instead
  bench --gate [--update]
                       count the instructions of small workloads, and compare with benches/gate.tsv
  demo [REPOSITORY] [--seed S]
                       the main job: import a git history, kill the import, read back, compare with git
  histories [--data DIR] [--kill N] [--hot-budget BYTES] [--seed S] [--cli FILE]
                       import real histories and compact them, kill both at random moments, and compare every sampled version
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(message)) => {
            eprintln!("xtask: {message}\n\n{USAGE}");
            ExitCode::from(2)
        }
        Err(Failure::Failed(message)) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<(), Failure> {
    let Some((command, rest)) = arguments.split_first() else {
        return Err(Failure::Usage("a command is missing".to_owned()));
    };
    if matches!(command.as_str(), "help" | "--help" | "-h") {
        print!("{USAGE}");
        return Ok(());
    }
    let workspace = Workspace::find()?;
    match command.as_str() {
        "test" => tests::run(&workspace, rest),
        "bench" => bench::run(&workspace, rest),
        "demo" => demo::run(&workspace, rest),
        "histories" => histories::run(&workspace, rest),
        "ci" => no_options(rest).and_then(|()| ci::run(&workspace)),
        "layers" => no_options(rest).and_then(|()| layers::run(&workspace)),
        "tidy" => no_options(rest).and_then(|()| tidy::run(&workspace)),
        "models" => no_options(rest).and_then(|()| models::run(&workspace)),
        "msrv" => no_options(rest).and_then(|()| msrv::run(&workspace)),
        "formats" => formats::run(&workspace, flag(rest, "--check")?.map_or(formats::Mode::Write, |()| formats::Mode::Check)),
        "deps" => dependencies::run(
            &workspace,
            flag(rest, "--update")?.map_or(dependencies::Mode::Check, |()| dependencies::Mode::Update),
        ),
        other => Err(Failure::Usage(format!("there is no command {other:?}"))),
    }
}

fn no_options(rest: &[String]) -> Result<(), Failure> {
    match rest.first() {
        None => Ok(()),
        Some(option) => Err(Failure::Usage(format!("unknown option {option:?}"))),
    }
}

/// Whether the one option that a command knows was given.
fn flag(rest: &[String], known: &str) -> Result<Option<()>, Failure> {
    match rest {
        [] => Ok(None),
        [option] if option == known => Ok(Some(())),
        [option, ..] => Err(Failure::Usage(format!("unknown option {option:?}"))),
    }
}
