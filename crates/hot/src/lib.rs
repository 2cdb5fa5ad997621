//! Thermocline's in-memory tier.
//!
//! [`HotTier`] is the tier that takes every commit: ordered, multi-version, read without locks. [`BTreeTier`] keeps the same
//! contract with std's ordered map behind one lock; it is what `HotTier` is checked against, and a contestant in the benchmarks.

#![deny(unsafe_code)]

mod arena;
mod btree;
mod gate;
mod index;
mod key;
mod many;
mod meter;
#[cfg(all(test, loom))]
mod models;
mod options;
mod record;
mod region;
mod scan;
mod state;
mod sync;
mod tier;
mod tree;
mod visit;
mod writer;

pub use btree::BTreeTier;
pub use options::HotOptions;
pub use tier::HotTier;
