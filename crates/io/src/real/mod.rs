//! The real disk: one directory of the operating system, reached through a handle that is opened once. Every later operation names
//! files relative to that handle, so that neither a change of the working directory nor a renamed parent leads elsewhere.
//!
//! Rests on POSIX calls; built for and tested on Linux. On other systems `fdatasync` may reach only the cache of the device.

mod errno;
mod file;
mod lock;

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::disk::{Access, DirEntry, Disk, DiskFile, DiskResult, FileId, LockGuard, LockMode, Reason, Space};
use crate::error::{DiskError, DiskErrorKind, SyncFailed};
use crate::real::errno::uninterrupted;
use crate::real::file::{Origin, RealFile, SyncState};

/// Files are for their owner alone.
const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);
const DIRECTORY_MODE: Mode = Mode::RWXU;

/// A directory of the operating system.
///
/// Opening takes no lock: [`try_lock`](Disk::try_lock) does. All handles are closed on `exec`. In a process that was forked after
/// the directory was opened, every operation that writes fails with `UsedAfterFork`, since the child shares the parent's lock.
/// Once a sync has failed, every later sync of the same handle fails too, because the system may answer it with a false success.
///
/// ```
/// use thermocline_io::{Disk, FileId, RealDisk, Reason, read_exact_at, write_all_at};
///
/// let parent = tempfile::tempdir()?;
/// let disk = RealDisk::open(parent.path().join("db"), true)?;
/// let file = disk.create_new(FileId::Wal(1), Reason::WalPrepare)?;
/// write_all_at(&*file, 0, b"hello", Reason::WalAppend)?;
/// file.sync_data(Reason::WalSync)?;
/// disk.sync_dir(Reason::WalSync)?;
///
/// let mut bytes = [0; 5];
/// read_exact_at(&*file, 0, &mut bytes, Reason::Verify)?;
/// assert_eq!(&bytes, b"hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct RealDisk {
    directory: OwnedFd,
    origin: Arc<Origin>,
    sync: SyncState,
}

impl RealDisk {
    /// Opens the directory at `path`. With `create`, makes it first if it is missing (its parent must be there), private to the
    /// user, and makes its entry in the parent durable.
    ///
    /// # Errors
    /// `NotFound` if it (or, with `create`, its parent) is missing; `InvalidPath` if it is not a directory or cannot be named;
    /// `Denied`, `ReadOnly`, `DiskFull`, `TooManyOpen`, `Io`; `Io` also if the parent could not be synced.
    pub fn open(path: impl AsRef<Path>, create: bool) -> DiskResult<Self> {
        let path = path.as_ref();
        let origin = Arc::new(Origin::new(path.display().to_string()));
        if path.as_os_str().is_empty() || path.as_os_str().as_bytes().contains(&0) {
            let error = DiskError::new(DiskErrorKind::InvalidPath, "open the directory");
            return Err(error.with_label(Arc::clone(&origin.label)).with_detail("it is empty or has a zero byte"));
        }
        if create {
            make_directory(path, &origin)?;
        }
        let directory =
            open_directory(path).map_err(|errno| origin.error(errno, "open the directory", None, None, Some(Reason::Open)))?;
        Ok(Self { directory, origin, sync: SyncState::default() })
    }

    fn fail(&self, errno: Errno, operation: &'static str, id: FileId, reason: Reason) -> DiskError {
        self.origin.error(errno, operation, Some(id), None, Some(reason))
    }

    fn open_regular(&self, id: FileId, flags: OFlags, operation: &'static str, reason: Reason) -> DiskResult<OwnedFd> {
        open_regular_at(&self.directory, id, flags).map_err(|error| match error {
            Refused::NotRegular => self.origin.of_kind(DiskErrorKind::NotRegular, operation, Some(id), Some(reason)),
            Refused::System(errno) => self.fail(errno, operation, id, reason),
        })
    }
}

impl Disk for RealDisk {
    fn create_new(&self, id: FileId, reason: Reason) -> DiskResult<Arc<dyn DiskFile>> {
        self.origin.check_process("create", Some(id), Some(reason))?;
        let file = self.open_regular(id, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL, "create", reason)?;
        Ok(Arc::new(RealFile::new(file, id, Arc::clone(&self.origin))))
    }

    fn open(&self, id: FileId, access: Access, reason: Reason) -> DiskResult<Arc<dyn DiskFile>> {
        let flags = match access {
            Access::Read => OFlags::RDONLY,
            Access::ReadWrite => OFlags::RDWR,
        };
        let file = self.open_regular(id, flags, "open", reason)?;
        Ok(Arc::new(RealFile::new(file, id, Arc::clone(&self.origin))))
    }

    fn remove(&self, id: FileId, reason: Reason) -> DiskResult<()> {
        self.origin.check_process("remove", Some(id), Some(reason))?;
        let name = id.to_string();
        let found = uninterrupted(|| rustix::fs::statat(&self.directory, &name, AtFlags::SYMLINK_NOFOLLOW))
            .map_err(|errno| self.fail(errno, "remove", id, reason))?;
        if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
            return Err(self.origin.of_kind(DiskErrorKind::NotRegular, "remove", Some(id), Some(reason)));
        }
        uninterrupted(|| rustix::fs::unlinkat(&self.directory, &name, AtFlags::empty()))
            .map_err(|errno| self.fail(errno, "remove", id, reason))
    }

    fn list(&self, reason: Reason) -> DiskResult<Vec<DirEntry>> {
        list_directory(&self.directory).map_err(|errno| self.origin.error(errno, "list the directory", None, None, Some(reason)))
    }

    fn sync_dir(&self, reason: Reason) -> Result<(), SyncFailed> {
        self.sync.run(&self.origin, None, reason, || rustix::fs::fsync(&self.directory))
    }

    fn try_lock(&self, mode: LockMode) -> DiskResult<Box<dyn LockGuard>> {
        Ok(Box::new(lock::acquire(&self.directory, mode, &self.origin)?))
    }

    fn space(&self) -> DiskResult<Space> {
        let found = uninterrupted(|| rustix::fs::fstatvfs(&self.directory))
            .map_err(|errno| self.origin.error(errno, "ask for the space of the device", None, None, None))?;
        Ok(Space {
            total_bytes: found.f_frsize.saturating_mul(found.f_blocks),
            available_bytes: found.f_frsize.saturating_mul(found.f_bavail),
        })
    }

    fn label(&self) -> String {
        self.origin.label.as_ref().into()
    }
}

enum Refused {
    NotRegular,
    System(Errno),
}

/// Opens one of our names without following a link and without waiting for the other end of a pipe, then looks at what it is.
fn open_regular_at(directory: impl AsFd, id: FileId, flags: OFlags) -> Result<OwnedFd, Refused> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let name = id.to_string();
    let file = match uninterrupted(|| rustix::fs::openat(&directory, &name, flags, FILE_MODE)) {
        Ok(file) => file,
        // A link, a directory opened for writing, a socket, a device without a driver.
        Err(Errno::LOOP | Errno::ISDIR | Errno::NXIO | Errno::NODEV) => return Err(Refused::NotRegular),
        Err(errno) => return Err(Refused::System(errno)),
    };
    let found = rustix::fs::fstat(&file).map_err(Refused::System)?;
    if FileType::from_raw_mode(found.st_mode) == FileType::RegularFile { Ok(file) } else { Err(Refused::NotRegular) }
}

fn open_directory(path: &Path) -> Result<OwnedFd, Errno> {
    uninterrupted(|| rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()))
}

/// Makes the directory and syncs its parent, also if the directory was there: the process that made it may have died in between.
fn make_directory(path: &Path, origin: &Origin) -> DiskResult<()> {
    let fail = |errno, operation| origin.error(errno, operation, None, None, Some(Reason::Open));
    let existed = match uninterrupted(|| rustix::fs::mkdir(path, DIRECTORY_MODE)) {
        Ok(()) => false,
        Err(Errno::EXIST) => true,
        // Some systems answer so for a directory that is there.
        Err(Errno::ROFS | Errno::ACCESS | Errno::PERM | Errno::ISDIR) if open_directory(path).is_ok() => true,
        Err(errno) => return Err(fail(errno, "make the directory")),
    };
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => return Ok(()),
    };
    match open_directory(parent) {
        Ok(parent) => match rustix::fs::fsync(&parent) {
            // A read-only parent holds nothing that is not durable, and nobody may sync some special file systems' directories.
            Err(Errno::ROFS | Errno::INVAL) if existed => Ok(()),
            synced => synced.map_err(|errno| fail(errno, "sync the parent of the directory")),
        },
        // Whoever made the directory for us has the right to sync its parent; we have not.
        Err(Errno::ACCESS) if existed => Ok(()),
        Err(errno) => Err(fail(errno, "open the parent of the directory")),
    }
}

fn list_directory(directory: impl AsFd) -> Result<Vec<DirEntry>, Errno> {
    let mut entries = Vec::new();
    for entry in uninterrupted(|| Dir::read_from(&directory))? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let ours = name.to_str().ok().and_then(FileId::parse);
        let Some(id) = ours else {
            entries.push(DirEntry::Foreign(name.to_string_lossy().into_owned()));
            continue;
        };
        match uninterrupted(|| rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)) {
            Ok(found) if FileType::from_raw_mode(found.st_mode) == FileType::RegularFile => {
                entries.push(DirEntry::File(id, u64::try_from(found.st_size).unwrap_or(0)));
            }
            Ok(_) => entries.push(DirEntry::File(id, 0)),
            // Removed since the name was read.
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(entries)
}
