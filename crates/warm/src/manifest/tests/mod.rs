//! Tests of the manifest, within the crate, since nothing of it is public.

#![expect(
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "sweeps shall say how much they looked at, and random numbers are cut to size"
)]

mod crafted;
mod crash;
mod damage;
mod directories;
mod faults;
mod golden;
mod hostile;
mod round_trip;
mod states;
mod support;
