//! Tests of the commit log through its public interface.

mod crash;
mod damage;
mod faults;
mod round_trip;
mod support;
mod workload;
