//! The disk as the engine sees it: one directory of files that are named by kind and number, never by a path.

use std::fmt::Debug;
use std::sync::Arc;

use crate::error::{DiskError, SyncFailed};

/// The name of a file: a kind and a number. On disk it is derived from both (`wal-0000000000000001`), so that no name that was
/// read from a file is ever used as a path.
///
/// ```
/// use thermocline_io::FileId;
///
/// assert_eq!(FileId::Wal(26).to_string(), "wal-000000000000001a");
/// assert_eq!(FileId::parse("wal-000000000000001a"), Some(FileId::Wal(26)));
/// assert_eq!(FileId::parse("notes.txt"), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum FileId {
    /// The lock file; there is one.
    Lock,
    /// A manifest.
    Manifest(u64),
    /// A segment of the commit log.
    Wal(u64),
    /// A sorted file of the warm tier.
    Sst(u64),
    /// A shard of a cold snapshot.
    Cold(u64),
    /// The completion record of a backup.
    Backup(u64),
}

/// What a file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading only.
    Read,
    /// Reading and writing.
    ReadWrite,
}

/// Why an operation is done. The simulated disk checks the order of operations by it and injects faults by it; errors carry it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// Opening a store: looking around, taking the lock.
    Open,
    /// Making or preparing a log segment.
    WalPrepare,
    /// Appending to the log.
    WalAppend,
    /// Making the log durable.
    WalSync,
    /// Reading the log back at open.
    WalRecover,
    /// Reading the log as a change stream.
    WalRead,
    /// Removing a log segment that nothing needs.
    WalRemove,
    /// Writing a sorted file.
    SstWrite,
    /// Reading a sorted file for a reader of the store.
    SstRead,
    /// Reading sorted files to rewrite them.
    SstCompact,
    /// Removing a sorted file that nothing needs.
    SstRemove,
    /// Writing the manifest.
    ManifestWrite,
    /// Reading the manifest back.
    ManifestRead,
    /// Removing a manifest that a newer one replaces.
    ManifestRemove,
    /// Checking files.
    Verify,
}

/// An entry of the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DirEntry {
    /// One of our files, with its length in bytes. What has one of our names but is not a regular file is listed too, with length
    /// 0, so that it is met and refused at [`Disk::open`] and not passed over.
    File(FileId, u64),
    /// A name that is not ours. Never opened, never removed.
    Foreign(String),
}

/// Space on the device, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// All of it.
    pub total_bytes: u64,
    /// What is free for us.
    pub available_bytes: u64,
}

/// How the directory is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockMode {
    /// One writer, nobody else.
    Exclusive,
    /// Any number of readers, no writer.
    Shared,
}

/// The lock of a directory; dropping it releases the lock.
pub trait LockGuard: Send + Sync + Debug {}

/// The result of an operation that is not a sync.
pub type DiskResult<T> = Result<T, DiskError>;

/// A directory of numbered files.
pub trait Disk: Send + Sync + Debug {
    /// Makes a file that must not exist, for reading and writing, private to the user. Its entry is durable only after
    /// [`sync_dir`](Disk::sync_dir).
    ///
    /// # Errors
    /// `AlreadyExists`, `DiskFull`, `Io` and what else the system answers.
    fn create_new(&self, id: FileId, reason: Reason) -> DiskResult<Arc<dyn DiskFile>>;

    /// Opens a regular file; symbolic links, pipes, devices and directories are refused as `NotRegular`.
    ///
    /// # Errors
    /// `NotFound`, `NotRegular`, `Denied`, `TooManyOpen`, `Io`.
    fn open(&self, id: FileId, access: Access, reason: Reason) -> DiskResult<Arc<dyn DiskFile>>;

    /// Removes a file. Durable only after [`sync_dir`](Disk::sync_dir); open handles stay usable.
    ///
    /// # Errors
    /// `NotFound`; `NotRegular` for anything but a regular file, which is left alone; `Denied`, `ReadOnly`, `Io`.
    fn remove(&self, id: FileId, reason: Reason) -> DiskResult<()>;

    /// What is in the directory, in any order, foreign names included.
    ///
    /// # Errors
    /// `Io`.
    fn list(&self, reason: Reason) -> DiskResult<Vec<DirEntry>>;

    /// Makes the creation and removal of files durable.
    ///
    /// # Errors
    /// [`SyncFailed`]: it is not known what is durable; see there.
    fn sync_dir(&self, reason: Reason) -> Result<(), SyncFailed>;

    /// Takes the directory's lock without waiting. The exclusive lock makes the lock file if it is missing, and writes into it who
    /// holds it, for messages; the shared one writes nothing.
    ///
    /// # Errors
    /// `Locked` naming the holder as far as known; `NotFound` if a shared lock finds no lock file; `NotRegular`, `Denied`,
    /// `ReadOnly`, `TooManyOpen`, `Io`.
    fn try_lock(&self, mode: LockMode) -> DiskResult<Box<dyn LockGuard>>;

    /// Space on the device.
    ///
    /// # Errors
    /// `Io`, `Unsupported`.
    fn space(&self) -> DiskResult<Space>;

    /// Where the directory is, for messages only.
    fn label(&self) -> String;
}

/// An open file. Offsets and lengths are in bytes.
#[expect(clippy::len_without_is_empty, reason = "asking for the length can fail")]
pub trait DiskFile: Send + Sync + Debug {
    /// The file's name.
    fn id(&self) -> FileId;

    /// Reads at `offset`; may be short, 0 at the end. Callers use [`read_exact_at`](crate::read_exact_at) and
    /// [`read_up_to_at`](crate::read_up_to_at), the one place that loops.
    ///
    /// # Errors
    /// `Interrupted`, `Io`.
    fn read_at(&self, offset: u64, buffer: &mut [u8], reason: Reason) -> DiskResult<usize>;

    /// Writes at `offset`; may be short. Callers use [`write_all_at`](crate::write_all_at).
    ///
    /// # Errors
    /// `Interrupted`, `DiskFull`, `Quota`, `Io`.
    fn write_at(&self, offset: u64, bytes: &[u8], reason: Reason) -> DiskResult<usize>;

    /// The length.
    ///
    /// # Errors
    /// `Io`.
    fn len(&self) -> DiskResult<u64>;

    /// Reserves space on the device, growing the file to `offset + len` if it is shorter; what is new reads as zeros. A `len` of 0
    /// changes nothing.
    ///
    /// # Errors
    /// `DiskFull`, `Quota`, `Unsupported`, `Io`.
    fn allocate(&self, offset: u64, len: u64, reason: Reason) -> DiskResult<()>;

    /// Cuts or extends (with zeros) the file. Never used on a file that may be mapped.
    ///
    /// # Errors
    /// `DiskFull`, `Io`.
    fn set_len(&self, len: u64, reason: Reason) -> DiskResult<()>;

    /// Makes the file's data and length durable. Says nothing about its directory entry.
    ///
    /// # Errors
    /// [`SyncFailed`]: it is not known what is durable, and asking again may lie; see there.
    fn sync_data(&self, reason: Reason) -> Result<(), SyncFailed>;
}
