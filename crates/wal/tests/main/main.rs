//! Tests of the commit log through its public interface.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "a test that meets what it does not expect shall fail, and sweeps shall say how much they looked at"
)]

mod crafted;
mod crash;
mod cut;
mod cut_readers;
mod damage;
mod faults;
mod golden;
mod groups;
mod hostile;
mod lies;
mod round_trip;
mod support;
mod workload;
