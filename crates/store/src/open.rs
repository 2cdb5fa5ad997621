//! Opening and closing a store: lock, tiers, log.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use thermocline_drop::Reckoner;
use thermocline_format::StoreId;
use thermocline_io::{DirEntry, Disk, DiskErrorKind, Environment, FileId, LockMode, Reason};
use thermocline_migration::check_not_in_hook;
use thermocline_tier::{Error, ErrorKind, Result, VerifiedFiles};
use thermocline_wal::Log;
use thermocline_wal::VerifyReport as LogVerifyReport;
use thermocline_wal::group::GroupCommit;

use crate::background::Workers;
use crate::commit::Writer;
use crate::consumer::Consumers;
use crate::directory::Directory;
use crate::drops::drop_again;
use crate::options::{Background, OpenMode, StoreOptions};
use crate::pressure::PressureMeter;
use crate::recover::{Recovered, Recovery};
use crate::store::{Core, Inner, Store};
use crate::tiers::Tiers;

/// What [`Store::verify`] has checked.
///
/// ```
/// # let store = thermocline::Store::in_memory()?;
/// let report = store.verify()?;
/// assert_eq!((report.log.commits, report.files.files), (0, 0));
/// # Ok::<(), thermocline_tier::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyReport {
    /// The log.
    pub log: LogVerifyReport,
    /// The files of the durable tier; none without one.
    pub files: VerifiedFiles,
}

impl Store {
    /// Opens a store on a disk, over its tiers; a single tier in memory, which must be empty, can be given as it is. Engines use
    /// the facade crate, which brings both.
    ///
    /// The directory's lock is taken before anything is read, and everything in the log is checked. What the durable tier has not
    /// taken over yet is replayed.
    ///
    /// # Errors
    /// [`Locked`](ErrorKind::Locked) while another handle has it open; [`NotFound`](ErrorKind::NotFound) and
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) where the mode, the tiers and the directory do not fit, an option is out of
    /// range, or the layout is another than the stored one; [`ForeignFile`](ErrorKind::ForeignFile),
    /// [`UnsupportedFormat`](ErrorKind::UnsupportedFormat) and [`Corruption`](ErrorKind::Corruption) naming file and offset;
    /// [`DiskFull`](ErrorKind::DiskFull) and [`Io`](ErrorKind::Io).
    pub fn open(disk: Arc<dyn Disk>, tiers: impl Into<Tiers>, environment: &Environment, options: StoreOptions) -> Result<Self> {
        let directory = disk.label();
        let opened = open(disk, &tiers.into(), environment, options);
        opened.map_err(|error| error.context(format!("open {directory}")))
    }

    /// Reads every byte of the store's files and checks it.
    ///
    /// # Errors
    /// [`Corruption`](ErrorKind::Corruption) naming the first damaged place; [`Closed`](ErrorKind::Closed), [`Io`](ErrorKind::Io).
    pub fn verify(&self) -> Result<VerifyReport> {
        self.inner.check_open()?;
        let mut log = self.inner.storage.log.verify()?;
        if self.inner.options.mode == OpenMode::ReadOnly {
            // What recovery passed over still lies there.
            log.discarded_bytes = self.inner.recovery.discarded_bytes;
        }
        let _open = self.inner.storage.enter()?;
        let durable = self.inner.storage.durable();
        let files = durable.map_or_else(|| Ok(VerifiedFiles::default()), |durable| durable.verify())?;
        Ok(VerifyReport { log, files })
    }

    /// Closes the store for all its handles: makes every commit durable, ends background work, marks the log as cleanly closed, and
    /// releases the directory. What is in memory stays in the log, from which the next open brings it back.
    /// Later calls on any handle or snapshot fail with [`Closed`](ErrorKind::Closed), and so do iterators once they have handed out
    /// what they had read before. Closing twice is not an error.
    ///
    /// # Errors
    /// What the last write or sync failed with; the store is closed all the same, and recovers when it is opened again.
    pub fn close(&self) -> Result<()> {
        check_not_in_hook("closing the store")?;
        self.inner.close()
    }
}

fn open(disk: Arc<dyn Disk>, tiers: &Tiers, environment: &Environment, options: StoreOptions) -> Result<Store> {
    options.check()?;
    if options.migration.is_some() && tiers.hot.is_none() {
        // What was committed straight to files is replayed into them after a crash, and would undo what was migrated since.
        let what =
            "a strategy needs a tier in memory above the files: without one, replaying the log would undo what was migrated";
        return Err(ErrorKind::InvalidArgument { what: what.into() }.into());
    }
    let is_read_only = options.mode == OpenMode::ReadOnly;
    check_directory(&*disk, options.mode)?;
    let lock =
        disk.try_lock(if is_read_only { LockMode::Shared } else { LockMode::Exclusive }).map_err(|error| match error.kind() {
            DiskErrorKind::NotFound => {
                Error::with_source(ErrorKind::NotFound { what: "a store in this directory".into() }, error)
            }
            _ => thermocline_wal::disk_error(error),
        })?;
    let store = find_store(&*disk, tiers, options.mode)?;
    let directory = Arc::new(Directory::new(Arc::clone(&disk)));
    let recovery = Recovery { directory, tiers, environment, options: &options, store };
    let Recovered { storage, marks, reclaim, report, last, covered, dropped } = recovery.run()?;
    let reckoner = Reckoner::new(reclaim.read().last_moment(), reclaim.read().clock());
    let core = Arc::new(Core {
        store_id: storage.log.store_id(),
        storage,
        options,
        clock: Arc::clone(&environment.clock),
        reckoner: Mutex::new(reckoner),
        disk,
        published: AtomicU64::new(last.0),
        retention_turn: Mutex::new(()),
        marks,
        reclaim,
        pressure: PressureMeter::default(),
        is_closed: AtomicBool::new(false),
        queue: GroupCommit::new(),
        writer: Mutex::new(Writer::new(last, covered)),
        recovery: report,
        consumers: Consumers::default(),
        sweeping: Mutex::default(),
        dropping: Mutex::default(),
        expiring: Mutex::default(),
        expired_rows: AtomicU64::new(0),
        dropped_through: AtomicU64::new(0),
        dropped_versions: AtomicU64::new(0),
        reclaimed: Mutex::default(),
        is_reclaim_paused: AtomicBool::new(false),
        garbage: Mutex::default(),
        garbage_asked: Mutex::default(),
        warned_until: Mutex::default(),
    });
    // What was dropped from memory has come back with the log.
    let view = core.storage.view();
    if is_read_only {
        // The files know what was dropped from them, and may not be written to.
        view.in_memory().try_for_each(|tier| drop_again(&**tier, &dropped))?;
    } else {
        drop_again(&**view.merged()?, &dropped)?;
    }
    drop(view);
    if !is_read_only && let Err(error) = core.drop_all(false) {
        tracing::warn!(%error, "dropping versions fails; it is tried again");
    }
    let workers = match core.options.background {
        Background::Thread if !is_read_only => Some(Workers::start(&core, &*environment.spawner)?),
        _ => None,
    };
    let inner = Inner { core, workers: Mutex::new(workers), lock: Mutex::new(Some(lock)) };
    Ok(Store { inner: Arc::new(inner) })
}

/// Compares what is in the directory with the mode and the tiers. Returns the identity of a store that has a durable tier.
fn find_store(disk: &dyn Disk, tiers: &Tiers, mode: OpenMode) -> Result<Option<StoreId>> {
    let entries = disk.list(Reason::Open).map_err(thermocline_wal::disk_error)?;
    let manifest = entries.iter().find_map(|entry| match entry {
        DirEntry::File(file @ FileId::Manifest(_), _) => Some(*file),
        _ => None,
    });
    if let (Some(manifest), None) = (manifest, &tiers.durable) {
        let what = format!("the store keeps a part of its data in files ({manifest}): open it with the tier that they belong to");
        return Err(ErrorKind::InvalidArgument { what }.into());
    }
    let store = match manifest {
        None => None,
        Some(manifest) => {
            let store = Log::identify(disk)?;
            if store.is_none() {
                // If there is a log after all, this says what is wrong with it.
                Log::exists(disk)?;
                let what = format!("the directory has {manifest}, but no log");
                return Err(Error::with_source(ErrorKind::Corruption, what));
            }
            store
        }
    };
    match (store.is_some() || Log::exists(disk)?, mode) {
        (false, OpenMode::MustExist | OpenMode::ReadOnly) => {
            Err(ErrorKind::NotFound { what: "a store in this directory".into() }.into())
        }
        (true, OpenMode::CreateNew) => {
            Err(ErrorKind::InvalidArgument { what: "there is a store in this directory already".into() }.into())
        }
        _ => Ok(store),
    }
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
        // Whoever closes it again waits until it is.
        let mut lock = self.lock.lock();
        {
            // Whoever leads a group holds the writer: behind it nothing is under way, and nothing begins any more.
            let _writer = self.writer.lock();
            if self.is_closed.swap(true, Ordering::AcqRel) {
                return Ok(());
            }
        }
        self.consumers.wake();
        if let Some(workers) = self.workers.lock().take() {
            workers.stop();
        }
        // What others do by hand ends too, before the directory is anybody else's. Some of that waits for the writer.
        self.storage.close();
        let writer = self.writer.lock();
        let result = if self.options.mode == OpenMode::ReadOnly { Ok(()) } else { self.storage.log.close() };
        self.storage.release();
        drop(lock.take());
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
