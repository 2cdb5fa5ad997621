//! Tests of the warm tier through its public interface.

mod backends;
mod conformance;
mod damage;
mod golden;
mod hostile;
mod support;
