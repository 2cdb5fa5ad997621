//! The vocabulary of Thermocline's tiers: tables, versions, keys, entries, batches, cursors, and the [`TierStorage`] trait with
//! its numbered contract. It relies on nothing else in the workspace and does no I/O.

#![forbid(unsafe_code)]

mod batch;
mod durable;
mod entry;
mod error;
mod key;
pub mod limits;
mod migrating;
mod page;
mod paged;
mod range;
mod retained;
mod rule;
mod stack;
mod storage;
mod table;
mod version;

pub use batch::{BatchBuilder, TierBatch};
pub use durable::{Checkpoint, DurableTier, FileCounters, Pressure, RetentionSource, TierFile, VerifiedFiles};
pub use entry::{EntryRef, KeyRef, Lookup, RawEntry};
pub use error::{Error, ErrorKind, Result};
pub use key::{FixedSuffix, KeyLayout, SharedLayout, WholeKey};
pub use migrating::{FileSummary, MigratingTier, MigrationCounters, MigrationReport};
pub use page::{INLINE_VALUE_SIZE_BYTES_MAX, RangeBatch, Row, RowRef, Rows, SCAN_BATCH_SIZE_BYTES};
pub use paged::PagedScan;
pub use range::{Direction, KeyRange, RangeCursor, RangeRequest, ReadWindow};
pub use retained::{Clear, Retained, RetainedTables, TableRetained};
pub use rule::DropRule;
pub use stack::TierStack;
pub use storage::{Amount, DropVersion, SkipFile, TableStats, TierScan, TierStats, TierStorage};
pub use table::{EntryKind, FlowNodeId, ShapeId};
pub use version::Version;
