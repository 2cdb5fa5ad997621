//! Errors of disk and format as the errors that callers see.

use thermocline_format::{Corruption, FormatError};
use thermocline_io::{DiskError, DiskErrorKind, SyncFailed};
use thermocline_tier::{Error, ErrorKind};

/// A failed operation on a file as the error of a store: [`DiskFull`](ErrorKind::DiskFull) for missing space,
/// [`Locked`](ErrorKind::Locked) for a lock, else [`Io`](ErrorKind::Io); the operation itself is the source.
///
/// ```
/// use thermocline_io::{DiskError, DiskErrorKind};
/// use thermocline_tier::ErrorKind;
///
/// let error = thermocline_wal::disk_error(DiskError::new(DiskErrorKind::Quota, "write"));
/// assert_eq!(error.kind(), &ErrorKind::DiskFull);
/// ```
pub fn disk_error(error: DiskError) -> Error {
    let kind = match error.kind() {
        kind if kind.is_space() => ErrorKind::DiskFull,
        // The source names the process, as far as the lock file does.
        DiskErrorKind::Locked => ErrorKind::Locked { holder: "another process or handle".into() },
        _ => ErrorKind::Io,
    };
    Error::with_source(kind, error)
}

/// A failed sync: the cause of poisoning.
pub(crate) fn sync_error(failed: SyncFailed) -> Error {
    let kind = if failed.cause().is_space() { ErrorKind::DiskFull } else { ErrorKind::Io };
    Error::with_source(kind, failed)
}

pub(crate) fn format_error(error: FormatError) -> Error {
    match error {
        FormatError::Corruption(damage) => corruption(damage),
        foreign @ FormatError::Foreign { .. } => Error::with_source(ErrorKind::ForeignFile, foreign),
        unsupported @ FormatError::Unsupported { .. } => Error::with_source(ErrorKind::UnsupportedFormat, unsupported),
        other => Error::with_source(ErrorKind::Corruption, other),
    }
}

pub(crate) fn corruption(damage: Corruption) -> Error {
    Error::with_source(ErrorKind::Corruption, damage)
}
