//! The thermocline command line: imports histories into stores, and reads, compares, checks, inspects,
//! compacts, thins out and exports them.
//!
//! It relies on the facade crate for everything about stores, and on the `git` program for git histories. A command is one function
//! from its parsed arguments to lines on an output; this file only picks it and turns its failure into an exit code: 0 for
//! success, 1 for an error, 2 for wrong usage.

#![forbid(unsafe_code)]

mod arguments;
mod changes;
mod compact;
mod dump;
mod export;
mod failure;
mod files;
mod follow;
mod import;
mod inspect;
mod open;
mod output;
mod progress;
mod read;
mod retain;
mod sizes;
mod stats;

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use clap::Parser;

use crate::arguments::{Arguments, Command};
use crate::failure::Failure;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut out = BufWriter::new(io::stdout().lock());
    let result = run(&arguments.command, &mut out).and_then(|()| out.flush().map_err(Failure::Output));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) if failure.is_closed_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            // If standard error is closed too, the exit code has to say it all.
            failure.report(&mut io::stderr().lock()).ok();
            failure.exit_code()
        }
    }
}

fn run(command: &Command, out: &mut dyn Write) -> Result<(), Failure> {
    match command {
        Command::Import(arguments) => import::run(arguments, out),
        Command::Get(arguments) => read::get(arguments, out),
        Command::Scan(arguments) => read::scan(arguments, out),
        Command::History(arguments) => read::history(arguments, out),
        Command::Diff(arguments) => read::diff(arguments, out),
        Command::Changes(arguments) => follow::changes(arguments, out),
        Command::Stats(arguments) => stats::stats(arguments, out),
        Command::Verify(arguments) => stats::verify(arguments, out),
        Command::Inspect(arguments) => inspect::run(arguments, out),
        Command::Dump(arguments) => dump::run(arguments, out),
        Command::Compact(arguments) => compact::run(arguments, out),
        Command::Export(arguments) => export::run(arguments, out),
        Command::Horizon(arguments) => retain::horizon(arguments, out),
        Command::Drop(arguments) => retain::drop_before(arguments, out),
        Command::Retention(arguments) => retain::retention(arguments, out),
        Command::Ttl(arguments) => retain::ttl(arguments, out),
        Command::Pins(arguments) => retain::pins(arguments, out),
        Command::WhyRetained(arguments) => retain::why_retained(arguments, out),
        Command::Reclaim(arguments) => retain::reclaim(arguments, out),
    }
}
