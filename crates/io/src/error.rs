//! Errors of files: a closed set of kinds, each with the file, the offset and the purpose. A failed sync has its own type, because
//! nothing may treat it as an error that goes away by trying again.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;

use crate::disk::{FileId, Reason};

/// What went wrong with a file or the directory. Each kind says what the caller should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum DiskErrorKind {
    /// The file or the directory is not there. Corruption if it must be there.
    #[error("not found")]
    NotFound,
    /// The file is already there. Take another number.
    #[error("it already exists")]
    AlreadyExists,
    /// The name belongs to a symbolic link, a pipe, a device, a socket or a directory. Never touched; somebody must clear it away.
    #[error("it is not a regular file")]
    NotRegular,
    /// The device is full. Nothing is broken; free space and go on.
    #[error("no space is left on the device")]
    DiskFull,
    /// A quota, or a limit on the size of files, is used up. Treat like a full disk.
    #[error("the quota or the limit on file sizes is used up")]
    Quota,
    /// The device failed. Report it; do not treat the data as absent.
    #[error("input/output error")]
    Io,
    /// Permission is missing, or the file was opened for reading only.
    #[error("permission denied")]
    Denied,
    /// The file system is read-only.
    #[error("the file system is read-only")]
    ReadOnly,
    /// The process or the system has no free file handle. Try again later.
    #[error("too many open files")]
    TooManyOpen,
    /// A signal came first. The helpers that loop try again; a caller sees it only after very many in a row.
    #[error("interrupted by a signal")]
    Interrupted,
    /// The file system cannot do this. Do without.
    #[error("the file system does not support it")]
    Unsupported,
    /// Somebody else holds the directory's lock.
    #[error("the directory is locked")]
    Locked,
    /// A write made no progress.
    #[error("a write transferred nothing")]
    WriteZero,
    /// The file ended before all bytes that were asked for.
    #[error("the file ends too early")]
    UnexpectedEnd,
    /// The directory's path cannot be used: too long, with a zero byte, or not a directory.
    #[error("the path is not that of a usable directory")]
    InvalidPath,
    /// An offset and a length end beyond what a file can hold. A mistake of the caller.
    #[error("the range ends beyond the largest offset")]
    InvalidRange,
    /// The process was forked after the directory was opened, and this is the child. Open the directory anew.
    #[error("the directory was opened by another process, before a fork")]
    UsedAfterFork,
    /// Memory for the operation could not be had.
    #[error("out of memory")]
    OutOfMemory,
}

impl DiskErrorKind {
    /// Whether the cause is missing space, so that writing can go on when space returns.
    pub fn is_space(self) -> bool {
        matches!(self, Self::DiskFull | Self::Quota)
    }
}

/// A failed operation on a file or the directory, other than a sync. One word wide.
///
/// ```
/// use thermocline_io::{DiskError, DiskErrorKind, FileId, Reason};
///
/// let error = DiskError::new(DiskErrorKind::DiskFull, "write").with_file(FileId::Wal(1)).with_offset(4096).with_reason(Reason::WalAppend);
/// assert_eq!(error.to_string(), "cannot write wal-0000000000000001 at offset 4096 to append to the log: no space is left on the device");
/// assert!(error.kind().is_space());
/// ```
#[derive(Clone)]
pub struct DiskError(Box<Context>);

#[derive(Clone)]
struct Context {
    kind: DiskErrorKind,
    operation: &'static str,
    file: Option<FileId>,
    offset: Option<u64>,
    reason: Option<Reason>,
    label: Option<Arc<str>>,
    detail: Option<Arc<str>>,
    source: Option<Arc<io::Error>>,
}

impl DiskError {
    /// An error of `kind` in `operation`, a verb such as `write`. Nothing else is known yet.
    #[must_use]
    pub fn new(kind: DiskErrorKind, operation: &'static str) -> Self {
        Self(Box::new(Context {
            kind,
            operation,
            file: None,
            offset: None,
            reason: None,
            label: None,
            detail: None,
            source: None,
        }))
    }

    /// Adds the file.
    #[must_use]
    pub fn with_file(mut self, file: FileId) -> Self {
        self.0.file = Some(file);
        self
    }

    /// Adds the offset, in bytes.
    #[must_use]
    pub fn with_offset(mut self, offset: u64) -> Self {
        self.0.offset = Some(offset);
        self
    }

    /// Adds what the operation was done for.
    #[must_use]
    pub fn with_reason(mut self, reason: Reason) -> Self {
        self.0.reason = Some(reason);
        self
    }

    /// Adds where the directory is.
    #[must_use]
    pub fn with_label(mut self, label: impl Into<Arc<str>>) -> Self {
        self.0.label = Some(label.into());
        self
    }

    /// Adds a remark for people.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<Arc<str>>) -> Self {
        self.0.detail = Some(detail.into());
        self
    }

    /// Adds the system's own error.
    #[must_use]
    pub fn with_source(mut self, source: io::Error) -> Self {
        self.0.source = Some(Arc::new(source));
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> DiskErrorKind {
        self.0.kind
    }

    /// The operation, as a verb.
    pub fn operation(&self) -> &'static str {
        self.0.operation
    }

    /// The file; `None` if the operation was on the directory.
    pub fn file(&self) -> Option<FileId> {
        self.0.file
    }

    /// Where in the file, in bytes, if the operation had a place.
    pub fn offset(&self) -> Option<u64> {
        self.0.offset
    }

    /// What the operation was done for, if it was told.
    pub fn reason(&self) -> Option<Reason> {
        self.0.reason
    }
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let context = &*self.0;
        if let Some(label) = &context.label {
            write!(f, "{label}: ")?;
        }
        write!(f, "cannot {}", context.operation)?;
        write_place(f, context.file, context.offset, context.reason)?;
        write!(f, ": {}", context.kind)?;
        if let Some(detail) = &context.detail {
            write!(f, ": {detail}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DiskError::{:?}({self})", self.0.kind)
    }
}

impl StdError for DiskError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

/// A sync that failed. What is durable is not known: the system may have dropped the data or kept it, and a second sync of the same
/// file may say that all is well although the data is gone. So the only safe answer is to stop acknowledging, never to sync this
/// file again, and to find out at the next open. There is no conversion into [`DiskError`], so `?` cannot make a retryable error
/// of it.
///
/// ```
/// use thermocline_io::{DiskErrorKind, FileId, Reason, SyncFailed};
///
/// let failed = SyncFailed::new(DiskErrorKind::Io, Some(FileId::Wal(1)), Reason::WalSync);
/// assert_eq!(failed.cause(), DiskErrorKind::Io);
/// assert_eq!(failed.to_string(), "sync of wal-0000000000000001 to make the log durable failed, it is not known what is durable: input/output error");
/// ```
#[derive(Clone)]
pub struct SyncFailed(Box<Context>);

impl SyncFailed {
    /// A failed sync of `file`, or of the directory's entries if `None`.
    #[must_use]
    pub fn new(cause: DiskErrorKind, file: Option<FileId>, reason: Reason) -> Self {
        let mut error = DiskError::new(cause, "sync").with_reason(reason);
        error.0.file = file;
        Self(error.0)
    }

    /// Adds where the directory is.
    #[must_use]
    pub fn with_label(mut self, label: impl Into<Arc<str>>) -> Self {
        self.0.label = Some(label.into());
        self
    }

    /// Adds a remark for people.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<Arc<str>>) -> Self {
        self.0.detail = Some(detail.into());
        self
    }

    /// Adds the system's own error.
    #[must_use]
    pub fn with_source(mut self, source: io::Error) -> Self {
        self.0.source = Some(Arc::new(source));
        self
    }

    /// What the system said. Kept for messages and statistics; it never makes a retry safe.
    pub fn cause(&self) -> DiskErrorKind {
        self.0.kind
    }

    /// The file; `None` for the directory's entries.
    pub fn file(&self) -> Option<FileId> {
        self.0.file
    }

    /// What the sync was done for.
    pub fn reason(&self) -> Option<Reason> {
        self.0.reason
    }
}

impl fmt::Display for SyncFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let context = &*self.0;
        if let Some(label) = &context.label {
            write!(f, "{label}: ")?;
        }
        write!(f, "sync of")?;
        if context.file.is_none() {
            write!(f, " the directory")?;
        }
        write_place(f, context.file, None, context.reason)?;
        write!(f, " failed, it is not known what is durable: {}", context.kind)?;
        if let Some(detail) = &context.detail {
            write!(f, ": {detail}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for SyncFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SyncFailed::{:?}({self})", self.0.kind)
    }
}

impl StdError for SyncFailed {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

fn write_place(f: &mut fmt::Formatter<'_>, file: Option<FileId>, offset: Option<u64>, reason: Option<Reason>) -> fmt::Result {
    if let Some(file) = file {
        write!(f, " {file}")?;
    }
    if let Some(offset) = offset {
        write!(f, " at offset {offset}")?;
    }
    if let Some(reason) = reason {
        write!(f, " to {reason}")?;
    }
    Ok(())
}
