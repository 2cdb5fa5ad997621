//! What goes into the log, and what comes out of it: at open as borrowed records, later as a stream of commits.

use bytes::Bytes;
use thermocline_tier::{EntryKind, TierBatch, Version};

/// One record to append. All records of one append form a group: after a crash either all of them are there or none.
///
/// ```
/// use thermocline_tier::EntryKind;
/// use thermocline_wal::LogEntry;
///
/// let entry = LogEntry::EnsureTable { table: EntryKind::source(7) };
/// assert_eq!(entry.version(), None);
/// ```
#[derive(Clone, Copy, Debug)]
pub enum LogEntry<'a> {
    /// A commit, at the batch's version, which must be above all before. The batch may be empty.
    Commit {
        /// When it was made, in microseconds since the Unix epoch. A label; it decides no order.
        time: u64,
        /// The writes.
        batch: &'a TierBatch,
        /// The tables of which everything older than this version is deleted, in order; the writes come after.
        clears: &'a [EntryKind],
    },
    /// A table came into being.
    EnsureTable {
        /// The table.
        table: EntryKind,
    },
    /// A table was removed with all its history.
    PurgeTable {
        /// The version at which that happened, above all before.
        version: Version,
        /// When it happened, in microseconds since the Unix epoch.
        time: u64,
        /// The table.
        table: EntryKind,
    },
    /// Something that the store must know again, in the store's own encoding. It has no version, and is no commit.
    Note {
        /// The store's bytes.
        bytes: &'a [u8],
    },
}

impl LogEntry<'_> {
    /// The version that the record makes, if it makes one.
    pub fn version(&self) -> Option<Version> {
        match self {
            Self::Commit { batch, .. } => Some(batch.version()),
            Self::PurgeTable { version, .. } => Some(*version),
            Self::EnsureTable { .. } | Self::Note { .. } => None,
        }
    }
}

/// A record that is read back when the log is opened. Records come in the order in which they were appended.
///
/// ```
/// use thermocline_tier::EntryKind;
/// use thermocline_wal::Replayed;
///
/// let record = Replayed::EnsureTable { table: EntryKind::Multi };
/// assert!(!matches!(record, Replayed::Commit(_)));
/// ```
#[derive(Clone, Copy, Debug)]
pub enum Replayed<'a> {
    /// A commit.
    Commit(ReplayedCommit<'a>),
    /// A table came into being.
    EnsureTable {
        /// The table.
        table: EntryKind,
    },
    /// A table was removed with all its history.
    PurgeTable {
        /// The version at which that happened.
        version: Version,
        /// When it happened, in microseconds since the Unix epoch.
        time: u64,
        /// The table.
        table: EntryKind,
    },
    /// Something that the store must know again.
    Note {
        /// The store's bytes.
        bytes: &'a [u8],
    },
}

/// A commit that is read back when the log is opened.
///
/// ```
/// use thermocline_tier::{TierBatch, Version};
/// use thermocline_wal::ReplayedCommit;
///
/// let batch = TierBatch::empty(Version(3));
/// let commit = ReplayedCommit { version: Version(3), time: 0, batch: &batch, clears: &[] };
/// assert_eq!(commit.version, commit.batch.version());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct ReplayedCommit<'a> {
    /// Its version; each is above the one before.
    pub version: Version,
    /// When it was made, in microseconds since the Unix epoch.
    pub time: u64,
    /// The writes; may be empty. The memory is used again for the next commit.
    pub batch: &'a TierBatch,
    /// The tables that it cleared, in order.
    pub clears: &'a [EntryKind],
}

/// A commit as a change consumer reads it. Its bytes are slices of the block that was read from the log: keeping one keeps its block
/// (256 KiB, or the whole commit if that is longer).
///
/// ```
/// use thermocline_tier::Version;
/// use thermocline_wal::Commit;
///
/// let commit = Commit { version: Version(1), time: 0, clears: vec![], purged: None, changes: vec![] };
/// assert!(commit.changes.is_empty());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Its version.
    pub version: Version,
    /// When it was made, in microseconds since the Unix epoch.
    pub time: u64,
    /// The tables of which everything older was deleted, in order, before the changes.
    pub clears: Vec<EntryKind>,
    /// The table that was removed with all its history. Such a commit has nothing else.
    pub purged: Option<EntryKind>,
    /// The writes in order of (table, prefix), each key once; may be empty.
    pub changes: Vec<Change>,
}

/// One write of a commit.
///
/// ```
/// use bytes::Bytes;
/// use thermocline_tier::EntryKind;
/// use thermocline_wal::Change;
///
/// let change = Change { table: EntryKind::Multi, prefix: Bytes::from_static(b"k"), suffix: Bytes::new(), value: None };
/// assert!(change.value.is_none(), "the key was deleted");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The table.
    pub table: EntryKind,
    /// The part of the key that orders.
    pub prefix: Bytes,
    /// The rest of the key; empty where the layout has no suffix.
    pub suffix: Bytes,
    /// The value; `None` deletes the key.
    pub value: Option<Bytes>,
}

/// Where a log begins once what came before has been taken over by a durable tier: from [`Log::base`](crate::Log::base), for
/// [`Log::cut`](crate::Log::cut). The caller keeps it, durably, *before* it cuts, and opens the log with it from then on.
///
/// ```
/// use thermocline_tier::Version;
/// use thermocline_wal::{Genesis, LogBase};
///
/// let genesis = Genesis { layout: "whole-key".into(), time: 0 };
/// let base = LogBase { number: 12, after: Version(7_000), genesis };
/// assert!(base.after < Version(7_001), "the first commit that the log still holds");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogBase {
    /// The first segment that is needed.
    pub number: u64,
    /// The last version before that segment; [`Version::ZERO`] if there is none.
    pub after: Version,
    /// What the first record of the log said, which may be cut off.
    pub genesis: Genesis,
}

/// The first record of a log: what holds for the whole store.
///
/// ```
/// let genesis = thermocline_wal::Genesis { layout: "whole-key".into(), time: 0 };
/// assert_eq!(genesis.layout, "whole-key");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Genesis {
    /// The name of the store's key layout, at most [`LAYOUT_NAME_SIZE_BYTES_MAX`](crate::LAYOUT_NAME_SIZE_BYTES_MAX) bytes.
    pub layout: String,
    /// When the store was made, in microseconds since the Unix epoch.
    pub time: u64,
}
