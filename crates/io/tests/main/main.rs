//! Tests of the real and the simulated disk, of faults, and of clock, randomness, threads and memory.

#![expect(clippy::unwrap_used, reason = "in a test a failed step is a failed test")]

mod crash;
mod damage;
mod environment;
mod fault;
mod lock;
mod real;
mod script;
mod support;
mod sync_failure;
mod transfer;
