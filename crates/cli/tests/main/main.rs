//! The program as its users meet it: every test runs the binary and looks at its output, its messages and its exit code.

#![expect(
    clippy::disallowed_methods,
    clippy::format_collect,
    clippy::unwrap_used,
    reason = "tests make input files and look at a store's files from outside; what fails here fails the test, and its speed is no matter"
)]

mod dump;
mod export;
mod files;
mod git;
mod inspect;
mod kill;
mod program;
mod read;
mod refuse;
mod repository;
mod retain;
mod tables;
mod tsv;
