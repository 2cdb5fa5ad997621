//! Tests of the warm tier through its public interface.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "a test that meets what it does not expect shall fail, and sweeps shall say how much they looked at"
)]

mod allocations;
mod backends;
mod conformance;
mod crashes;
mod damage;
mod faults;
mod golden;
mod hostile;
mod levels;
mod markers;
mod migration;
mod open_files;
mod reading;
mod reclaim;
mod rewriting;
mod script;
mod skipping;
mod support;
