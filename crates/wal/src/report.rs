//! What opening, checking and running a log tell about it.

use thermocline_tier::Version;

/// What was found in the log when it was opened.
///
/// ```
/// let report = thermocline_wal::RecoveryReport::default();
/// assert!(!report.was_clean_close && report.discarded_bytes == 0);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// There was no log; a new one was made.
    pub is_new: bool,
    /// How many segments hold the log.
    pub segments: u64,
    /// How many records were replayed, those of the log's own not counted.
    pub records: u64,
    /// How many of them were commits.
    pub commits: u64,
    /// How many entries the commits have together.
    pub entries: u64,
    /// The last version; [`Version::ZERO`] if there was none.
    pub last_version: Version,
    /// The log was closed by [`Log::close`](crate::Log::close) and nothing came after.
    pub was_clean_close: bool,
    /// How many bytes at the end were not part of any whole group: a write that power or the process did not survive. None of it was
    /// acknowledged as durable.
    pub discarded_bytes: u64,
    /// Why the log ends where it ends, if bytes were discarded: the first of them, and what is wrong with it.
    pub tear: Option<String>,
    /// How many records were not proven to be durable, and were written again. 0 if opened for reading.
    pub carried_records: u64,
    /// How many files were removed that are not part of the log: unfinished or replaced segments.
    pub removed_files: u64,
}

/// What was checked.
///
/// ```
/// let report = thermocline_wal::VerifyReport::default();
/// assert_eq!(report.size_bytes, 0);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// How many segments.
    pub segments: u64,
    /// How many bytes of them hold the log, headers and padding included.
    pub size_bytes: u64,
    /// How many records, those of the log's own included.
    pub records: u64,
    /// How many of them are commits.
    pub commits: u64,
    /// How many entries the commits have together.
    pub entries: u64,
    /// The last version.
    pub last_version: Version,
    /// How many bytes behind the last whole group belong to none: the torn end of a log that was not closed.
    pub discarded_bytes: u64,
}

/// What a log holds, and what it has done since it was opened.
///
/// ```
/// let stats = thermocline_wal::LogStats::default();
/// assert_eq!(stats.syncs, 0);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogStats {
    /// How many segments hold the log.
    pub segments: u64,
    /// How many bytes of them are in use, headers and padding included.
    pub size_bytes: u64,
    /// The last version that was written.
    pub last_version: Version,
    /// The last version that is known to be durable.
    pub durable_version: Version,
    /// How many groups were appended.
    pub groups: u64,
    /// How many writes of groups were done.
    pub writes: u64,
    /// How many bytes they wrote.
    pub written_bytes: u64,
    /// How many syncs were done.
    pub syncs: u64,
    /// How often a new segment was begun.
    pub rotations: u64,
    /// How many bytes of zeros appends had to write themselves, since no segment was prepared in time.
    pub filled_bytes: u64,
}
