//! Thermocline: an embeddable, ordered, multi-version key-value store.
//!
//! An engine commits batches over many tables at versions, reads any version exactly, walks ranges both ways, pages through
//! them with cursors, and follows the changes.
//!
//! ```
//! use thermocline::{Batch, KeyRange, Store, Table};
//!
//! let rows = Table::source(7);
//! let store = Store::in_memory()?;
//!
//! let mut batch = Batch::new();
//! batch.put(rows, b"user/1", b"Ada").put(rows, b"user/2", b"Bob");
//! let first = store.commit(batch)?;
//!
//! let mut batch = Batch::new();
//! batch.remove(rows, b"user/2");
//! store.commit(batch)?;
//!
//! assert_eq!(store.get(rows, b"user/2")?, None);
//! assert_eq!(store.at(first)?.get(rows, b"user/2")?.as_deref(), Some(b"Bob".as_slice()));
//! for entry in store.snapshot()?.prefix(rows, b"user/") {
//!     let (key, value) = entry?;
//!     assert_eq!((&key[..], &value[..]), (b"user/1".as_slice(), b"Ada".as_slice()));
//! }
//! assert_eq!(store.diff(rows, KeyRange::all(), first..store.last_version())?.count(), 1);
//! # Ok::<(), thermocline::Error>(())
//! ```

#![forbid(unsafe_code)]

mod builder;
mod dump;
mod migration;
mod tiers;

/// The code in the README runs as a test, which is the only time that the file is needed.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

pub use builder::{Builder, Store};
pub use bytes::Bytes;
pub use dump::dump_file;
pub use migration::{MigrationStatus, SegmentSummary};
pub use thermocline_migration::{
    HookError, Migrate, MigrationContext, MigrationContextSource, MigrationScope, NoMigration, StoredRow, Strategy, Summary,
};
pub use thermocline_store::{
    Amount, Anchor, BackPressure, Background, Batch, Change, ChangeBatch, Changes, Commit, CommitOptions, Consumer, ConsumerInfo,
    ConsumerOptions, ConsumerState, Cursor, Diff, DiffCursor, DiffEntry, DryRun, Durability, Health, History, HistoryEntry,
    Holder, Holding, Moment, OpenMode, Page, Pass, PassControl, PassProgress, PassScope, Pin, PinInfo, PinRequest, PinVersions,
    PolicyScope, ReclaimReport, Retention, Rung, Scan, Scope, Snapshot, StoreOptions, StoreStats, Ttl, VerifyReport, WhyRetained,
};
pub use thermocline_tier::{
    Direction, DropRule, EntryKind, EntryKind as Table, Error, ErrorKind, FileCounters, FileSummary, FixedSuffix, FlowNodeId,
    KeyLayout, KeyRange, KeyRef, Lookup, MigrationCounters, MigrationReport, RangeRequest, ReadWindow, Result, ShapeId,
    SharedLayout, TableStats, TierFile, TierStats, VerifiedFiles, Version, WholeKey, limits,
};
pub use thermocline_wal::{LogOptions, LogStats, Padding, Preallocate, RecoveryReport, VerifyReport as LogVerifyReport};
pub use thermocline_warm::Compression;
pub use tiers::TierSet;
