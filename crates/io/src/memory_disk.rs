//! A directory that lives in memory and is gone with its last handle: no faults, no trace, nothing durable.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::disk::{Access, DirEntry, Disk, DiskFile, DiskResult, FileId, LockGuard, LockMode, Reason, Space};
use crate::error::{DiskError, DiskErrorKind, SyncFailed};
use crate::sync::{Mutex, RwLock, RwLockWriteGuard};

/// A [`Disk`] in memory, for stores that need not outlive the process. Syncing succeeds and means nothing. For tests of
/// durability there is the simulated disk.
///
/// ```
/// use thermocline_io::{Disk, FileId, MemoryDisk, Reason, read_up_to_at, write_all_at};
///
/// let disk = MemoryDisk::new();
/// let file = disk.create_new(FileId::Wal(1), Reason::WalPrepare)?;
/// write_all_at(&*file, 0, b"hello", Reason::WalAppend)?;
/// let mut buffer = [0; 16];
/// assert_eq!(read_up_to_at(&*file, 0, &mut buffer, Reason::WalRead)?, 5);
/// # Ok::<(), thermocline_io::DiskError>(())
/// ```
#[derive(Debug, Default)]
pub struct MemoryDisk {
    files: Mutex<BTreeMap<FileId, Arc<RwLock<Vec<u8>>>>>,
    holders: Arc<Mutex<Holders>>,
}

#[derive(Debug, Default)]
struct Holders {
    /// How many hold the lock; `usize::MAX` for one that holds it alone.
    count: usize,
    /// Whether it was ever taken alone, which makes the lock file of other disks. Here it is not listed.
    was_exclusive: bool,
}

#[derive(Debug)]
struct MemoryFile {
    id: FileId,
    bytes: Arc<RwLock<Vec<u8>>>,
    access: Access,
}

/// Gives the lock back.
#[derive(Debug)]
struct MemoryLock(Arc<Mutex<Holders>>);

impl LockGuard for MemoryLock {}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        let mut holders = self.0.lock();
        holders.count = if holders.count == usize::MAX { 0 } else { holders.count.saturating_sub(1) };
    }
}

impl MemoryDisk {
    /// An empty directory.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Disk for MemoryDisk {
    fn create_new(&self, id: FileId, reason: Reason) -> DiskResult<Arc<dyn DiskFile>> {
        let mut files = self.files.lock();
        if files.contains_key(&id) {
            return Err(DiskError::new(DiskErrorKind::AlreadyExists, "create").with_file(id).with_reason(reason));
        }
        let bytes = Arc::new(RwLock::new(Vec::new()));
        files.insert(id, Arc::clone(&bytes));
        Ok(Arc::new(MemoryFile { id, bytes, access: Access::ReadWrite }))
    }

    fn open(&self, id: FileId, access: Access, reason: Reason) -> DiskResult<Arc<dyn DiskFile>> {
        match self.files.lock().get(&id) {
            Some(bytes) => Ok(Arc::new(MemoryFile { id, bytes: Arc::clone(bytes), access })),
            None => Err(DiskError::new(DiskErrorKind::NotFound, "open").with_file(id).with_reason(reason)),
        }
    }

    fn remove(&self, id: FileId, reason: Reason) -> DiskResult<()> {
        match self.files.lock().remove(&id) {
            Some(_) => Ok(()),
            None => Err(DiskError::new(DiskErrorKind::NotFound, "remove").with_file(id).with_reason(reason)),
        }
    }

    fn list(&self, _reason: Reason) -> DiskResult<Vec<DirEntry>> {
        let files = self.files.lock();
        Ok(files.iter().map(|(id, bytes)| DirEntry::File(*id, bytes.read().len() as u64)).collect())
    }

    fn sync_dir(&self, _reason: Reason) -> Result<(), SyncFailed> {
        Ok(())
    }

    fn try_lock(&self, mode: LockMode) -> DiskResult<Box<dyn LockGuard>> {
        let mut holders = self.holders.lock();
        let refused = |kind| Err(DiskError::new(kind, "lock").with_file(FileId::Lock).with_reason(Reason::Open));
        holders.count = match (mode, holders.count) {
            (LockMode::Shared, _) if !holders.was_exclusive => return refused(DiskErrorKind::NotFound),
            (LockMode::Exclusive, 0) => usize::MAX,
            (LockMode::Shared, count) if count != usize::MAX => count + 1,
            _ => return refused(DiskErrorKind::Locked),
        };
        holders.was_exclusive |= mode == LockMode::Exclusive;
        Ok(Box::new(MemoryLock(Arc::clone(&self.holders))))
    }

    fn space(&self) -> DiskResult<Space> {
        Err(DiskError::new(DiskErrorKind::Unsupported, "measure the space of"))
    }

    fn label(&self) -> String {
        "memory".into()
    }
}

impl MemoryFile {
    fn refused(&self, kind: DiskErrorKind, operation: &'static str, offset: u64, reason: Reason) -> DiskError {
        DiskError::new(kind, operation).with_file(self.id).with_offset(offset).with_reason(reason)
    }

    /// The bytes, for writing, with room for `len` of them: a length that no memory has is an error and no abort.
    fn writable(
        &self,
        len: u64,
        operation: &'static str,
        offset: u64,
        reason: Reason,
    ) -> DiskResult<(RwLockWriteGuard<'_, Vec<u8>>, usize)> {
        if self.access == Access::Read {
            return Err(self.refused(DiskErrorKind::Denied, operation, offset, reason));
        }
        let mut bytes = self.bytes.write();
        let len_now = bytes.len();
        let room = usize::try_from(len).ok().filter(|len| bytes.try_reserve(len.saturating_sub(len_now)).is_ok());
        match room {
            Some(len) => Ok((bytes, len)),
            None => Err(self.refused(DiskErrorKind::DiskFull, operation, offset, reason)),
        }
    }
}

impl DiskFile for MemoryFile {
    fn id(&self) -> FileId {
        self.id
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8], _reason: Reason) -> DiskResult<usize> {
        let bytes = self.bytes.read();
        let found = usize::try_from(offset).ok().and_then(|start| bytes.get(start..)).unwrap_or_default();
        let count = found.len().min(buffer.len());
        buffer[..count].copy_from_slice(&found[..count]);
        Ok(count)
    }

    fn write_at(&self, offset: u64, new: &[u8], reason: Reason) -> DiskResult<usize> {
        let (mut bytes, end) = self.writable(offset.saturating_add(new.len() as u64), "write", offset, reason)?;
        if new.is_empty() {
            return Ok(0);
        }
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[end - new.len()..end].copy_from_slice(new);
        Ok(new.len())
    }

    fn len(&self) -> DiskResult<u64> {
        Ok(self.bytes.read().len() as u64)
    }

    fn allocate(&self, offset: u64, len: u64, reason: Reason) -> DiskResult<()> {
        let (mut bytes, end) = self.writable(offset.saturating_add(len), "allocate", offset, reason)?;
        if len > 0 && bytes.len() < end {
            bytes.resize(end, 0);
        }
        Ok(())
    }

    fn set_len(&self, len: u64, reason: Reason) -> DiskResult<()> {
        let (mut bytes, len) = self.writable(len, "set the length of", len, reason)?;
        bytes.resize(len, 0);
        Ok(())
    }

    fn sync_data(&self, _reason: Reason) -> Result<(), SyncFailed> {
        Ok(())
    }
}
