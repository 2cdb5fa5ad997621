//! What a store can be told when it is opened, and for a commit.

use std::sync::Arc;
use std::time::Duration;

use thermocline_migration::Migration;
use thermocline_tier::{ErrorKind, Result, SharedLayout, Version, WholeKey};
use thermocline_wal::{Durability, LogOptions};

/// How a directory is opened.
///
/// ```
/// assert_ne!(thermocline_store::OpenMode::CreateIfMissing, thermocline_store::OpenMode::ReadOnly);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Opens the store, and makes one in an empty directory.
    CreateIfMissing,
    /// Opens a store that must exist.
    MustExist,
    /// Makes a store; refuses a directory that holds one.
    CreateNew,
    /// Opens a store that must exist, writes nothing to the directory, and lets other readers in beside it.
    ReadOnly,
}

/// Who does the work that may wait: preparing log segments ahead of use, witnessing what has become durable, flushing tables, and
/// what the durable tier has to do.
///
/// ```
/// assert_ne!(thermocline_store::Background::Thread, thermocline_store::Background::ByHand);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Background {
    /// Threads of the store's own: one for the log, one for what time calls for, such as policies of retention, and over a durable tier one
    /// for flushing and some for the tier's work.
    Thread,
    /// The caller, through [`Store::run_until_idle`](crate::Store::run_until_idle): for tests and simulations. A commit that would
    /// have to wait for such work does it itself.
    ByHand,
}

/// The options of a store. All have good defaults and each is honoured.
///
/// ```
/// use thermocline_store::{Durability, StoreOptions};
///
/// let options = StoreOptions { durability: Durability::Buffered, ..StoreOptions::default() };
/// assert_eq!(options.mode, thermocline_store::OpenMode::CreateIfMissing);
/// ```
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Whether the store must or may exist. Default: [`OpenMode::CreateIfMissing`].
    pub mode: OpenMode,
    /// The durability of commits that do not name one. Default: [`Durability::Sync`].
    pub durability: Durability,
    /// Where keys split into prefix and suffix. Its name is stored, and opening with another is refused. Default: [`WholeKey`].
    pub layout: SharedLayout,
    /// Who does the background work. Default: [`Background::Thread`].
    pub background: Background,
    /// The commit log's own options.
    pub log: LogOptions,
    /// How much memory the table that takes the writes may use, in bytes, before it is sealed and moved into the durable tier; a
    /// single group of commits may take it beyond. Where commits go straight to the durable tier it is how much log is written
    /// between two checkpoints. Without a durable tier it has no effect. `None`, the default, seals only when
    /// [`flush`](crate::Store::flush) asks for it.
    pub hot_budget_bytes: Option<u64>,
    /// How many sealed tables may wait to be moved before writers wait, at least 1. Default: 1.
    pub sealed_tables_max: usize,
    /// How much of the log stays for [`changes`](crate::Store::changes) once recovery needs it no more, in bytes, rounded up to
    /// whole segments. Default: 0.
    pub log_keep_bytes: u64,
    /// Within this time from when it need not be kept any more, what is stored is gone from memory, files and log, also when nothing is
    /// written, and over restarts: after half of it, everything is flushed, and the files are rewritten that may hold such entries, a file and
    /// what it meets one level below at a time, in turns with what else there is to rewrite. Without a durable tier, memory is swept then; the
    /// log of such a store is never cut. `None`, the default, leaves them until there are enough of them in a file.
    ///
    /// Not meant is the log as far as [`log_keep_bytes`](Self::log_keep_bytes) and consumers hold it; nor files that a snapshot or a scan from
    /// before still reads, nor one that the system refuses to remove: these go with their last reader, or with the next open.
    pub garbage_max_age: Option<Duration>,
    /// A snapshot, or a scan of one, that lives for longer than this is named in a warning, once, with the place where it was made: it keeps
    /// what it can read, and may have been forgotten. An hour by default; `None`: never.
    pub snapshot_warn_age: Option<Duration>,
    /// What rows are shown to on their way to the files of a durable tier, which may change them there; its layout must be [`layout`](Self::layout).
    /// May be another one each time that the store is opened. None by default; without a durable tier it has no effect.
    pub migration: Option<Arc<dyn Migration>>,
    /// How many threads do the durable tier's own work, at least 1, with [`Background::Thread`]. Default: 1.
    pub tier_threads: usize,
}

impl StoreOptions {
    /// Checks the ranges of the store's own options.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) naming the option.
    pub(crate) fn check(&self) -> Result<()> {
        for (name, value) in [("sealed_tables_max", self.sealed_tables_max), ("tier_threads", self.tier_threads)] {
            if value == 0 {
                return Err(ErrorKind::InvalidArgument { what: format!("store option {name} is 0, not at least 1") }.into());
            }
        }
        if let Some(migration) = &self.migration {
            let (wanted, layout) = (migration.layout().name(), self.layout.name());
            if wanted != layout {
                let what = format!("strategy {} splits keys by {wanted}, but the store's layout is {layout}", migration.name());
                return Err(ErrorKind::InvalidArgument { what }.into());
            }
        }
        Ok(())
    }
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            mode: OpenMode::CreateIfMissing,
            durability: Durability::Sync,
            layout: Arc::new(WholeKey),
            background: Background::Thread,
            log: LogOptions::default(),
            hot_budget_bytes: None,
            sealed_tables_max: 1,
            log_keep_bytes: 0,
            garbage_max_age: None,
            snapshot_warn_age: Some(Duration::from_secs(3600)),
            migration: None,
            tier_threads: 1,
        }
    }
}

/// How one commit is made.
///
/// ```
/// use thermocline_store::{CommitOptions, Durability};
///
/// let options = CommitOptions { durability: Some(Durability::Memory), ..CommitOptions::default() };
/// assert_eq!(options.version, None);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct CommitOptions {
    /// The commit's version, above the last one; `None` takes the next.
    pub version: Option<Version>,
    /// `None` takes the store's default.
    pub durability: Option<Durability>,
}
