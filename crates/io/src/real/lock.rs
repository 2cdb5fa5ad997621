//! The lock of a directory: `flock` on a file that is never removed.
//!
//! `flock` belongs to the open file, not to the process, so that a second open in the same process is refused like one from another
//! process, and the system frees it when its holder dies. What the file says about the holder is for messages only.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{FlockOperation, OFlags};
use rustix::io::Errno;

use crate::disk::{DiskResult, FileId, LockGuard, LockMode, Reason};
use crate::error::{DiskError, DiskErrorKind};
use crate::real::errno::uninterrupted;
use crate::real::file::Origin;
use crate::real::{Refused, open_regular_at};

const OPERATION: &str = "lock";
/// Enough for a process number in decimal.
const HOLDER_LEN_MAX: usize = 20;

#[derive(Debug)]
pub(super) struct RealLock {
    file: OwnedFd,
    origin: Arc<Origin>,
    /// Whether the file says who we are. On a full disk it may not; the lock holds all the same.
    holder_noted: bool,
}

impl LockGuard for RealLock {}

impl Drop for RealLock {
    fn drop(&mut self) {
        // No explicit unlock: a forked child that drops its copy would free its parent's lock. Closing the last copy frees it.
        if self.holder_noted && self.origin.is_own_process() {
            // If it fails, a later message names a process that has gone.
            self.holder_noted = rustix::fs::ftruncate(&self.file, 0).is_err();
        }
    }
}

/// Takes the lock or fails at once. The exclusive lock makes the file if need be; the shared one writes nothing.
pub(super) fn acquire(directory: impl AsFd, mode: LockMode, origin: &Arc<Origin>) -> DiskResult<RealLock> {
    let (flags, operation) = match mode {
        LockMode::Exclusive => (OFlags::RDWR | OFlags::CREATE, FlockOperation::NonBlockingLockExclusive),
        LockMode::Shared => (OFlags::RDONLY, FlockOperation::NonBlockingLockShared),
    };
    let of_kind = |kind| origin.of_kind(kind, OPERATION, Some(FileId::Lock), Some(Reason::Open));
    let of_errno = |errno| origin.error(errno, OPERATION, Some(FileId::Lock), None, Some(Reason::Open));
    if mode == LockMode::Exclusive {
        origin.check_process(OPERATION, Some(FileId::Lock), Some(Reason::Open))?;
    }
    let file = open_regular_at(directory, FileId::Lock, flags).map_err(|refused| match refused {
        Refused::NotRegular => of_kind(DiskErrorKind::NotRegular),
        Refused::System(errno) => of_errno(errno),
    })?;
    match uninterrupted(|| rustix::fs::flock(&file, operation)) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Err(describe_holder(&file, of_kind(DiskErrorKind::Locked))),
        Err(errno) => return Err(of_errno(errno)),
    }
    let holder_noted = mode == LockMode::Exclusive && note_holder(&file).is_ok();
    Ok(RealLock { file, origin: Arc::clone(origin), holder_noted })
}

fn note_holder(file: &OwnedFd) -> Result<(), Errno> {
    rustix::fs::ftruncate(file, 0)?;
    rustix::io::pwrite(file, std::process::id().to_string().as_bytes(), 0)?;
    Ok(())
}

fn describe_holder(file: &OwnedFd, error: DiskError) -> DiskError {
    let mut text = [0; HOLDER_LEN_MAX];
    let len = rustix::io::pread(file, &mut text, 0).unwrap_or(0);
    let holder: Option<u32> = text.get(..len).and_then(|text| std::str::from_utf8(text).ok()).and_then(|text| text.parse().ok());
    match holder {
        Some(process) => error.with_detail(format!("process {process} holds it")),
        None => error.with_detail("its holder is not known, it may be a reader"),
    }
}
