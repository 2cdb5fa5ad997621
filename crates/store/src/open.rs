//! Opening and closing a store: lock, log, replay.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use thermocline_io::{DirEntry, Disk, DiskErrorKind, Environment, FileId, LockMode, Reason};
use thermocline_tier::{Error, ErrorKind, Result, TierStorage, Version};
use thermocline_wal::group::GroupCommit;
use thermocline_wal::{Log, OpenLog, Replayed, VerifyReport};

use crate::background::Worker;
use crate::commit::Writer;
use crate::health::Poison;
use crate::marks::TableMarks;
use crate::options::{Background, OpenMode, StoreOptions};
use crate::pins::Pins;
use crate::store::{Inner, Store};

/// Puts the log's records back into the tier.
struct Replay<'a> {
    tier: &'a dyn TierStorage,
    marks: &'a TableMarks,
    last: Version,
}

impl Replay<'_> {
    fn apply(&mut self, record: Replayed<'_>) -> Result<()> {
        match record {
            Replayed::Commit(commit) => {
                for table in commit.clears {
                    self.marks.clear(*table, commit.version);
                }
                if !commit.batch.is_empty() {
                    self.tier.set(commit.batch)?;
                }
                self.last = commit.version;
            }
            Replayed::EnsureTable { table } => self.tier.ensure_table(table)?,
            Replayed::PurgeTable { version, table, .. } => {
                self.marks.purge(table, version);
                self.tier.clear_table(table)?;
                self.last = version;
            }
        }
        Ok(())
    }
}

impl Store {
    /// Opens a store on a disk, over a tier that must be empty. Engines use the facade crate, which brings both.
    ///
    /// The directory's lock is taken before anything is read, and everything in the log is checked and replayed.
    ///
    /// # Errors
    /// [`Locked`](ErrorKind::Locked) while another handle has it open; [`NotFound`](ErrorKind::NotFound) and
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) where the mode and the directory do not fit, or the layout is another than the
    /// stored one; [`ForeignFile`](ErrorKind::ForeignFile), [`UnsupportedFormat`](ErrorKind::UnsupportedFormat) and
    /// [`Corruption`](ErrorKind::Corruption) naming file and offset; [`DiskFull`](ErrorKind::DiskFull) and [`Io`](ErrorKind::Io).
    pub fn open(
        disk: Arc<dyn Disk>,
        tier: Arc<dyn TierStorage>,
        environment: &Environment,
        options: StoreOptions,
    ) -> Result<Self> {
        let directory = disk.label();
        let opened = open(disk, tier, environment, options);
        opened.map_err(|error| error.context(format!("open {directory}")))
    }

    /// Reads every byte of the store's files and checks it.
    ///
    /// # Errors
    /// [`Corruption`](ErrorKind::Corruption) naming the first damaged place; [`Closed`](ErrorKind::Closed), [`Io`](ErrorKind::Io).
    pub fn verify(&self) -> Result<VerifyReport> {
        self.inner.check_open()?;
        let mut report = self.inner.log.verify()?;
        if self.inner.options.mode == OpenMode::ReadOnly {
            // What recovery passed over still lies there.
            report.discarded_bytes = self.inner.recovery.discarded_bytes;
        }
        Ok(report)
    }

    /// Closes the store for all its handles: makes every commit durable, marks the log as cleanly closed, and releases the directory.
    /// Later calls on any handle or snapshot fail with [`Closed`](ErrorKind::Closed), and so do iterators once they have handed out
    /// what they had read before. Closing twice is not an error.
    ///
    /// # Errors
    /// What the last write or sync failed with; the store is closed all the same, and recovers when it is opened again.
    pub fn close(&self) -> Result<()> {
        self.inner.close()
    }
}

fn open(disk: Arc<dyn Disk>, tier: Arc<dyn TierStorage>, environment: &Environment, options: StoreOptions) -> Result<Store> {
    let is_read_only = options.mode == OpenMode::ReadOnly;
    check_directory(&*disk, options.mode)?;
    let lock =
        disk.try_lock(if is_read_only { LockMode::Shared } else { LockMode::Exclusive }).map_err(|error| match error.kind() {
            DiskErrorKind::NotFound => {
                Error::with_source(ErrorKind::NotFound { what: "a store in this directory".into() }, error)
            }
            _ => thermocline_wal::disk_error(error),
        })?;
    match (Log::exists(&*disk)?, options.mode) {
        (false, OpenMode::MustExist | OpenMode::ReadOnly) => {
            return Err(ErrorKind::NotFound { what: "a store in this directory".into() }.into());
        }
        (true, OpenMode::CreateNew) => {
            return Err(ErrorKind::InvalidArgument { what: "there is a store in this directory already".into() }.into());
        }
        _ => {}
    }
    let marks = TableMarks::default();
    let mut replay = Replay { tier: &*tier, marks: &marks, last: Version::ZERO };
    let request = OpenLog {
        disk: Arc::clone(&disk),
        randomness: &*environment.randomness,
        clock: &*environment.clock,
        options: options.log.clone(),
        layout: options.layout.as_ref(),
        is_read_only,
    };
    let (log, recovery) = Log::open(request, &mut |record| replay.apply(record))?;
    let last = replay.last;
    let log = Arc::new(log);
    let worker = match options.background {
        Background::Thread if !is_read_only => Some(Worker::start(Arc::clone(&log), &*environment.spawner)?),
        _ => None,
    };
    let inner = Inner {
        store_id: log.store_id(),
        tier,
        log,
        options,
        clock: Arc::clone(&environment.clock),
        disk,
        published: AtomicU64::new(last.0),
        marks,
        pins: Pins::default(),
        poison: Poison::default(),
        is_closed: AtomicBool::new(false),
        queue: GroupCommit::new(),
        writer: Mutex::new(Writer { last }),
        recovery,
        worker: Mutex::new(worker),
        lock: Mutex::new(Some(lock)),
    };
    Ok(Store { inner: Arc::new(inner) })
}

/// Looks around before the lock is taken, since that makes a file: a directory without a log stays as it is unless a store is to be
/// made, and a directory of something else never becomes a store.
fn check_directory(disk: &dyn Disk, mode: OpenMode) -> Result<()> {
    let entries = disk.list(Reason::Open).map_err(thermocline_wal::disk_error)?;
    if entries.iter().any(|entry| matches!(entry, DirEntry::File(FileId::Wal(_), _))) {
        return Ok(());
    }
    if matches!(mode, OpenMode::MustExist | OpenMode::ReadOnly) {
        return Err(ErrorKind::NotFound { what: "a store in this directory".into() }.into());
    }
    let foreign = entries.iter().filter_map(|entry| if let DirEntry::Foreign(name) = entry { Some(name) } else { None });
    match foreign.min() {
        None => Ok(()),
        Some(name) => {
            let what = format!("the directory holds no store but other files, such as `{}`", name.escape_debug());
            Err(Error::with_source(ErrorKind::ForeignFile, what))
        }
    }
}

impl Inner {
    /// Closes once; later calls do nothing.
    pub(crate) fn close(&self) -> Result<()> {
        // Whoever leads a group holds the writer: behind it nothing is under way.
        let writer = self.writer.lock();
        if self.is_closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        if let Some(worker) = self.worker.lock().take() {
            worker.stop();
        }
        let result = if self.options.mode == OpenMode::ReadOnly { Ok(()) } else { self.log.close() };
        drop(self.lock.lock().take());
        drop(writer);
        result
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Nobody is left to tell; recovery at the next open copes with whatever failed.
        if let Err(error) = self.close() {
            tracing::warn!(%error, "closing the store failed");
        }
    }
}
