//! Tests of the warm tier through its public interface.

mod backends;
mod conformance;
mod crashes;
mod damage;
mod faults;
mod golden;
mod hostile;
mod markers;
mod reading;
mod reclaim;
mod script;
mod support;
