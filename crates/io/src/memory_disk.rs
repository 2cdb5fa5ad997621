//! A directory that lives in memory and is gone with its last handle: no faults, no trace, nothing durable.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::disk::{Access, DirEntry, Disk, DiskFile, DiskResult, FileId, LockGuard, LockMode, Reason, Space};
use crate::error::{DiskError, DiskErrorKind, SyncFailed};
use crate::sync::{Mutex, RwLock};

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
    files: Mutex<BTreeMap<FileId, Arc<MemoryFile>>>,
    /// How many hold the lock; `usize::MAX` for one that holds it alone.
    holders: Arc<Mutex<usize>>,
}

#[derive(Debug)]
struct MemoryFile {
    id: FileId,
    bytes: RwLock<Vec<u8>>,
}

/// Gives the lock back.
#[derive(Debug)]
struct MemoryLock(Arc<Mutex<usize>>);

impl LockGuard for MemoryLock {}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        let mut holders = self.0.lock();
        *holders = if *holders == usize::MAX { 0 } else { holders.saturating_sub(1) };
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
        let file = Arc::new(MemoryFile { id, bytes: RwLock::new(Vec::new()) });
        files.insert(id, Arc::clone(&file));
        Ok(file)
    }

    fn open(&self, id: FileId, _access: Access, reason: Reason) -> DiskResult<Arc<dyn DiskFile>> {
        match self.files.lock().get(&id) {
            Some(file) => Ok(Arc::clone(file) as Arc<dyn DiskFile>),
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
        Ok(files.values().map(|file| DirEntry::File(file.id, file.bytes.read().len() as u64)).collect())
    }

    fn sync_dir(&self, _reason: Reason) -> Result<(), SyncFailed> {
        Ok(())
    }

    fn try_lock(&self, mode: LockMode) -> DiskResult<Box<dyn LockGuard>> {
        let mut holders = self.holders.lock();
        *holders = match (mode, *holders) {
            (LockMode::Exclusive, 0) => usize::MAX,
            (LockMode::Shared, count) if count != usize::MAX => count + 1,
            _ => return Err(DiskError::new(DiskErrorKind::Locked, "lock")),
        };
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
    /// The offset as an index, or the answer for one that no memory has.
    fn index(&self, offset: u64, operation: &'static str) -> DiskResult<usize> {
        usize::try_from(offset)
            .map_err(|_too_large| DiskError::new(DiskErrorKind::InvalidRange, operation).with_file(self.id).with_offset(offset))
    }

    fn grow_to(&self, len: u64, operation: &'static str) -> DiskResult<()> {
        let len = self.index(len, operation)?;
        let mut bytes = self.bytes.write();
        if bytes.len() < len {
            bytes.resize(len, 0);
        }
        Ok(())
    }
}

impl DiskFile for MemoryFile {
    fn id(&self) -> FileId {
        self.id
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8], _reason: Reason) -> DiskResult<usize> {
        let offset = self.index(offset, "read")?;
        let bytes = self.bytes.read();
        let found = bytes.get(offset..).unwrap_or_default();
        let count = found.len().min(buffer.len());
        buffer[..count].copy_from_slice(&found[..count]);
        Ok(count)
    }

    fn write_at(&self, offset: u64, new: &[u8], _reason: Reason) -> DiskResult<usize> {
        let start = self.index(offset, "write")?;
        let end = self.index(offset.saturating_add(new.len() as u64), "write")?;
        let mut bytes = self.bytes.write();
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[start..end].copy_from_slice(new);
        Ok(new.len())
    }

    fn len(&self) -> DiskResult<u64> {
        Ok(self.bytes.read().len() as u64)
    }

    fn allocate(&self, offset: u64, len: u64, _reason: Reason) -> DiskResult<()> {
        self.grow_to(offset.saturating_add(len), "allocate")
    }

    fn set_len(&self, len: u64, _reason: Reason) -> DiskResult<()> {
        let len = self.index(len, "set the length of")?;
        self.bytes.write().resize(len, 0);
        Ok(())
    }

    fn sync_data(&self, _reason: Reason) -> Result<(), SyncFailed> {
        Ok(())
    }
}
