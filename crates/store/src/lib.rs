//! Thermocline's store layer: commits at versions through one log, reads at any version through whatever tiers it is given.
//!
//! It relies on a [`TierStorage`](thermocline_tier::TierStorage) for entries, on `thermocline-wal` for durability, and on
//! `thermocline-io` for the machine. It never names a tier: the facade crate wires them.

#![forbid(unsafe_code)]

mod background;
mod batch;
mod changes;
mod commit;
mod cursor;
mod diff;
mod health;
mod history;
mod marks;
mod open;
mod options;
mod page;
mod pins;
mod scan;
mod snapshot;
mod stats;
mod store;

pub use batch::Batch;
pub use changes::{Change, Changes, Commit};
pub use cursor::Cursor;
pub use diff::{Diff, DiffCursor, DiffEntry};
pub use history::{History, HistoryEntry};
pub use options::{Background, CommitOptions, OpenMode, StoreOptions};
pub use page::Page;
pub use scan::Scan;
pub use snapshot::Snapshot;
pub use stats::{Health, PinInfo, StoreStats};
pub use store::Store;
pub use thermocline_wal::Durability;
