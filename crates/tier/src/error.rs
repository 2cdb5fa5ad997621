//! The one error type of everything above the tiers.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use crate::version::Version;

/// The result of every fallible operation on tiers and stores.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, where, and what it came from. One word wide, so that results stay cheap to hand on;
/// cloning one shares its source.
///
/// ```
/// use thermocline_tier::{Error, ErrorKind, Version};
///
/// let kind = ErrorKind::VersionNotIncreasing { attempted: Version(3), last: Version(5) };
/// let error = Error::new(kind).context("commit to data/db");
/// assert_eq!(error.to_string(), "commit to data/db: version 3 is not above the last committed version 5");
/// ```
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    context: Vec<String>,
    source: Option<Arc<dyn StdError + Send + Sync + 'static>>,
}

/// What a caller can tell errors apart by. Each kind says what the caller should do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An argument makes no sense. Mend the call.
    #[error("{what}")]
    InvalidArgument {
        /// What is wrong, naming the argument.
        what: String,
    },
    /// Something is larger than the store allows. Nothing was changed; split or shorten it.
    #[error("{what} is {found}, over the limit of {max}")]
    LimitExceeded {
        /// What is too large, with its unit.
        what: &'static str,
        /// How large it is.
        found: u64,
        /// The most that is allowed.
        max: u64,
    },
    /// A commit asked for a version that is not above the last one. Nothing was changed; ask for a higher one.
    #[error("version {attempted} is not above the last committed version {last}")]
    VersionNotIncreasing {
        /// The version that was asked for.
        attempted: Version,
        /// The store's last version.
        last: Version,
    },
    /// The store has used its last version. It can still be read.
    #[error("version {attempted} is above {}, the last that a store can commit", Version::COMMIT_MAX)]
    VersionExhausted {
        /// The version that was asked for.
        attempted: Version,
    },
    /// A read at a version whose history is gone. Read at the horizon or above.
    #[error("version {requested} was reclaimed: reads are possible from version {horizon} on")]
    VersionReclaimed {
        /// The version that was asked for.
        requested: Version,
        /// The oldest readable version.
        horizon: Version,
    },
    /// A consumer of changes was left behind: commits that it has not seen are gone. Begin anew from a snapshot.
    #[error(
        "the consumer was overtaken: it wants the commits above version {wanted}, and those above version {oldest} are there"
    )]
    Overtaken {
        /// The last version that it has seen.
        wanted: Version,
        /// Commits above this version are still there.
        oldest: Version,
    },
    /// Something that would be destroyed is still pinned. Release the pin, or wait.
    #[error("version {version} is pinned by {pin}")]
    Pinned {
        /// Who pins, by name.
        pin: String,
        /// The version that is pinned.
        version: Version,
    },
    /// A cursor was used for another scan than its own. Start a new cursor.
    #[error("the cursor's {what} is {cursor}, but it was used with {request}")]
    CursorMismatch {
        /// What differs: table, start, end, version or direction.
        what: &'static str,
        /// The cursor's.
        cursor: String,
        /// The request's.
        request: String,
    },
    /// Bytes on disk are not what was written. Restore from a backup, or salvage; the store does not guess.
    #[error("corruption")]
    Corruption,
    /// The files belong to something else, or to another store. Check the path.
    #[error("foreign file")]
    ForeignFile,
    /// The files were written by a newer release. Use that release.
    #[error("unsupported format")]
    UnsupportedFormat,
    /// The operating system failed an operation. Other keys and later calls may still work.
    #[error("input/output error")]
    Io,
    /// The disk or quota is full. Nothing was acknowledged; writes work again when there is room.
    #[error("disk full")]
    DiskFull,
    /// There is no store where one was expected.
    #[error("not found: {what}")]
    NotFound {
        /// What is missing.
        what: String,
    },
    /// Another handle, here or in another process, has the store open. Close that one.
    #[error("the store is in use by {holder}")]
    Locked {
        /// Who holds the lock, as far as known.
        holder: String,
    },
    /// A sync failed, so that it is not known whether the commit is durable. It was not acknowledged; reopen the store to see.
    #[error("it is not known whether version {version} is durable")]
    CommitUnknown {
        /// The commit's version.
        version: Version,
    },
    /// An earlier failure made the store read-only; the source is that first failure. Reopen the store.
    #[error("the store is read-only after an earlier failure")]
    Poisoned,
    /// The memory budget is used up and nothing can be moved out. Free or raise it.
    #[error("memory budget of {budget} bytes is used up ({used} bytes in use)")]
    MemoryExhausted {
        /// The budget in bytes.
        budget: u64,
        /// What is in use, in bytes.
        used: u64,
    },
    /// The store was closed. Open it again.
    #[error("the store is closed")]
    Closed,
    /// A value of one store, such as a snapshot or cursor, was used with another.
    #[error("the {what} belongs to another store")]
    WrongStore {
        /// What was used.
        what: &'static str,
    },
    /// What the engine plugged in, such as its migration strategy, failed or panicked; the source is its error. Nothing was changed; it is
    /// tried again later. Mend the strategy, or what it depends on.
    #[error("the strategy failed: {what}")]
    CallbackFailed {
        /// What was called, and about what.
        what: String,
    },
    /// What the engine plugged in did something that it must not do. Nothing was changed. Mend it.
    #[error("the strategy broke a rule: {what}")]
    CallbackViolation {
        /// What was called, about what, and what it did.
        what: String,
    },
    /// What the engine plugged in called back what waits for it. Nothing was changed; read only there.
    #[error("{what} was called by a hook of the strategy, which can only read")]
    Reentrant {
        /// What was called.
        what: &'static str,
    },
    /// This tier or this machine cannot do it.
    #[error("not supported: {what}")]
    Unsupported {
        /// What cannot be done.
        what: String,
    },
}

impl ErrorKind {
    /// Whether what the engine plugged in is at fault.
    pub fn is_callback(&self) -> bool {
        matches!(self, Self::CallbackFailed { .. } | Self::CallbackViolation { .. })
    }
}

impl Error {
    /// An error of `kind` with no context and no source.
    pub fn new(kind: ErrorKind) -> Self {
        Self(Box::new(Inner { kind, context: Vec::new(), source: None }))
    }

    /// An error of `kind` that came from `source`.
    pub fn with_source(kind: ErrorKind, source: impl Into<Box<dyn StdError + Send + Sync + 'static>>) -> Self {
        Self(Box::new(Inner { kind, context: Vec::new(), source: Some(Arc::from(source.into())) }))
    }

    /// Adds where it happened, outermost last: the message reads `context: kind: source`.
    #[must_use]
    pub fn context(mut self, context: impl Into<String>) -> Self {
        self.0.context.push(context.into());
        self
    }

    /// What the caller can tell errors apart by.
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for context in self.0.context.iter().rev() {
            write!(f, "{context}: ")?;
        }
        self.0.kind.fmt(f)?;
        match &self.0.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("context", &self.0.context)
            .field("source", &self.0.source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.0.source {
            Some(source) => Some(source.as_ref()),
            None => None,
        }
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self::new(kind)
    }
}
