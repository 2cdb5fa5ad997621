//! An open file of the real disk, and what it shares with its directory.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use crate::disk::{DiskFile, DiskResult, FileId, Reason};
use crate::error::{DiskError, DiskErrorKind, SyncFailed};
use crate::real::errno::{kind_of, uninterrupted};
use crate::sync::atomic::{AtomicBool, Ordering};

/// Where a handle comes from: the directory's path for messages, and the process that opened it.
pub(super) struct Origin {
    pub(super) label: Arc<str>,
    process: u32,
}

impl Origin {
    pub(super) fn new(label: String) -> Self {
        Self { label: label.into(), process: std::process::id() }
    }

    /// Whether this is still the process that opened the directory, not a fork of it.
    pub(super) fn is_own_process(&self) -> bool {
        std::process::id() == self.process
    }

    /// Refuses to change anything in a forked child, which shares its parent's lock.
    pub(super) fn check_process(&self, operation: &'static str, file: Option<FileId>, reason: Option<Reason>) -> DiskResult<()> {
        if self.is_own_process() { Ok(()) } else { Err(self.of_kind(DiskErrorKind::UsedAfterFork, operation, file, reason)) }
    }

    pub(super) fn of_kind(
        &self,
        kind: DiskErrorKind,
        operation: &'static str,
        file: Option<FileId>,
        reason: Option<Reason>,
    ) -> DiskError {
        let mut error = DiskError::new(kind, operation).with_label(Arc::clone(&self.label));
        if let Some(file) = file {
            error = error.with_file(file);
        }
        if let Some(reason) = reason {
            error = error.with_reason(reason);
        }
        error
    }

    pub(super) fn error(
        &self,
        errno: Errno,
        operation: &'static str,
        file: Option<FileId>,
        offset: Option<u64>,
        reason: Option<Reason>,
    ) -> DiskError {
        let error = self.of_kind(kind_of(errno), operation, file, reason).with_source(errno.into());
        match offset {
            Some(offset) => error.with_offset(offset),
            None => error,
        }
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label)
    }
}

/// Whether a sync of a handle has failed. Linux reports a lost write to one sync only; the next one would lie.
#[derive(Debug, Default)]
pub(super) struct SyncState {
    failed: AtomicBool,
}

impl SyncState {
    pub(super) fn run(
        &self,
        origin: &Origin,
        file: Option<FileId>,
        reason: Reason,
        sync: impl FnOnce() -> Result<(), Errno>,
    ) -> Result<(), SyncFailed> {
        let fail = |kind| SyncFailed::new(kind, file, reason).with_label(Arc::clone(&origin.label));
        if !origin.is_own_process() {
            return Err(fail(DiskErrorKind::UsedAfterFork));
        }
        if self.failed.load(Ordering::Acquire) {
            return Err(fail(DiskErrorKind::Io).with_detail("an earlier sync of the same handle failed"));
        }
        sync().map_err(|errno| {
            self.failed.store(true, Ordering::Release);
            fail(kind_of(errno)).with_source(errno.into())
        })
    }
}

#[derive(Debug)]
pub(super) struct RealFile {
    file: OwnedFd,
    id: FileId,
    origin: Arc<Origin>,
    sync: SyncState,
}

impl RealFile {
    pub(super) fn new(file: OwnedFd, id: FileId, origin: Arc<Origin>) -> Self {
        Self { file, id, origin, sync: SyncState::default() }
    }

    fn fail(&self, errno: Errno, operation: &'static str, offset: u64, reason: Reason) -> DiskError {
        self.origin.error(errno, operation, Some(self.id), Some(offset), Some(reason))
    }
}

impl DiskFile for RealFile {
    fn id(&self) -> FileId {
        self.id
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8], reason: Reason) -> DiskResult<usize> {
        rustix::io::pread(&self.file, buffer, offset).map_err(|errno| self.fail(errno, "read", offset, reason))
    }

    fn write_at(&self, offset: u64, bytes: &[u8], reason: Reason) -> DiskResult<usize> {
        self.origin.check_process("write", Some(self.id), Some(reason))?;
        rustix::io::pwrite(&self.file, bytes, offset).map_err(|errno| self.fail(errno, "write", offset, reason))
    }

    fn len(&self) -> DiskResult<u64> {
        match rustix::fs::fstat(&self.file) {
            Ok(found) => Ok(u64::try_from(found.st_size).unwrap_or(0)),
            Err(errno) => Err(self.origin.error(errno, "ask for the length of", Some(self.id), None, None)),
        }
    }

    fn allocate(&self, offset: u64, len: u64, reason: Reason) -> DiskResult<()> {
        self.origin.check_process("allocate", Some(self.id), Some(reason))?;
        if len == 0 {
            return Ok(());
        }
        uninterrupted(|| rustix::fs::fallocate(&self.file, FallocateFlags::empty(), offset, len))
            .map_err(|errno| self.fail(errno, "allocate", offset, reason))
    }

    fn set_len(&self, len: u64, reason: Reason) -> DiskResult<()> {
        self.origin.check_process("set the length of", Some(self.id), Some(reason))?;
        uninterrupted(|| rustix::fs::ftruncate(&self.file, len))
            .map_err(|errno| self.fail(errno, "set the length of", len, reason))
    }

    fn sync_data(&self, reason: Reason) -> Result<(), SyncFailed> {
        self.sync.run(&self.origin, Some(self.id), reason, || rustix::fs::fdatasync(&self.file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file_of(process: u32) -> RealFile {
        let file = tempfile::tempfile().unwrap();
        RealFile::new(file.into(), FileId::Wal(1), Arc::new(Origin { label: "here".into(), process }))
    }

    /// A forked child is told apart by its process number; forking a test process itself is not safe.
    #[test]
    fn a_forked_child_changes_nothing() {
        let file = file_of(std::process::id().wrapping_add(1));
        let refused = [
            file.write_at(0, b"x", Reason::WalAppend).map(drop),
            file.set_len(9, Reason::WalPrepare),
            file.allocate(0, 9, Reason::WalPrepare),
        ];
        for error in refused.map(Result::unwrap_err) {
            assert_eq!(error.kind(), DiskErrorKind::UsedAfterFork);
        }
        assert_eq!(file.sync_data(Reason::WalSync).unwrap_err().cause(), DiskErrorKind::UsedAfterFork);
        assert_eq!(file.len().unwrap(), 0);
    }

    #[test]
    fn a_sync_that_failed_fails_for_ever() {
        let file = file_of(std::process::id());
        let first = file.sync.run(&file.origin, None, Reason::WalSync, || Err(Errno::DQUOT));
        assert_eq!(first.unwrap_err().cause(), DiskErrorKind::Quota);
        let second = file.sync_data(Reason::WalSync).unwrap_err();
        assert_eq!(
            second.to_string(),
            "here: sync of wal-0000000000000001 to make the log durable failed, it is not known what is durable: \
             input/output error: an earlier sync of the same handle failed"
        );
        file.write_at(0, b"x", Reason::WalAppend).unwrap();
    }

    #[test]
    fn offsets_that_the_system_refuses_are_errors() {
        let file = file_of(std::process::id());
        let error = file.write_at(1 << 63, b"x", Reason::WalAppend).unwrap_err();
        assert_eq!((error.offset(), error.file()), (Some(1 << 63), Some(FileId::Wal(1))));
    }
}
