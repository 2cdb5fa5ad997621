//! What a store can be told when it is opened, and for a commit.

use std::sync::Arc;

use thermocline_tier::{SharedLayout, Version, WholeKey};
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

/// Who does the work that may wait: preparing log segments ahead of use, and witnessing what has become durable.
///
/// ```
/// assert_ne!(thermocline_store::Background::Thread, thermocline_store::Background::ByHand);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Background {
    /// A thread of the store's own.
    Thread,
    /// The caller, through [`Store::run_until_idle`](crate::Store::run_until_idle): for tests and simulations.
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
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            mode: OpenMode::CreateIfMissing,
            durability: Durability::Sync,
            layout: Arc::new(WholeKey),
            background: Background::Thread,
            log: LogOptions::default(),
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
