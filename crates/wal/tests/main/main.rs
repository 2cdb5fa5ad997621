//! Tests of the commit log through its public interface.

mod round_trip;
mod support;
