//! Tests of the warm tier through its public interface.

mod backends;
mod conformance;
mod crashes;
mod damage;
mod faults;
mod golden;
mod hostile;
mod markers;
mod reclaim;
mod script;
mod support;
