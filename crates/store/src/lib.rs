//! Thermocline's store layer: commits at versions through one log, reads at any version through whatever tiers it is given.
//!
//! It relies on a [`TierStorage`](thermocline_tier::TierStorage) for entries, perhaps over a
//! [`DurableTier`](thermocline_tier::DurableTier) that takes them over, on `thermocline-wal` for durability, and on
//! `thermocline-io` for the machine. It never names a tier: the facade crate wires them.
//!
//! Over a durable tier, commits go to the log and to a table in memory. A full table is *sealed* between two commits, *flushed*
//! into the durable tier together with a checkpoint, and the log is *cut* behind it. Readers see the tables and the tier through
//! one view that is replaced, never changed, so they take no lock.

#![forbid(unsafe_code)]

mod background;
mod batch;
mod changes;
mod commit;
mod consumer;
mod cursor;
mod diff;
mod directory;
mod drops;
mod estimate;
mod expiry;
mod files;
mod health;
mod history;
mod layout;
mod ledger;
mod maintain;
mod marks;
mod migration;
mod nothing;
mod open;
mod options;
mod page;
mod pressure;
mod reclaim;
mod reclaimer;
mod recover;
mod retention;
mod scan;
mod snapshot;
mod stats;
mod storage;
mod store;
mod tiers;
mod view;

pub use batch::Batch;
pub use changes::{Change, Changes, Commit};
pub use consumer::{ChangeBatch, Consumer, ConsumerInfo, ConsumerOptions};
pub use cursor::Cursor;
pub use diff::{Diff, DiffCursor, DiffEntry};
pub use estimate::ReclaimReport;
pub use history::{History, HistoryEntry};
pub use layout::format_tables;
pub use ledger::{Holder, WhyRetained};
pub use migration::{DryRun, Pass, PassControl, PassProgress, PassScope};
pub use open::VerifyReport;
pub use options::{Background, CommitOptions, OpenMode, StoreOptions};
pub use page::Page;
pub use pressure::BackPressure;
pub use retention::PinRequest;
pub use scan::Scan;
pub use snapshot::Snapshot;
pub use stats::{Health, PinInfo, StoreStats};
pub use store::Store;
pub use thermocline_drop::{Anchor, ConsumerState, Holding, Moment, Pin, PinVersions, PolicyScope, Retention, Rung, Scope, Ttl};
pub use thermocline_tier::Amount;
pub use thermocline_wal::Durability;
pub use tiers::{DurableRequest, Tiers};
