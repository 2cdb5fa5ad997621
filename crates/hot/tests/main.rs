//! Tests of the tiers in memory.

#![expect(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test that meets what it does not expect shall fail")]

mod harness;
mod memory;
mod model;
mod shapes;
mod threads;
mod visit;
