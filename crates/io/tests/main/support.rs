//! What several tests need.

use std::sync::Arc;

use thermocline_io::{
    CrashPoint, CrashProfile, Disk, DiskFile, FileId, MemoryDisk, RealDisk, Reason, SimDisk, Survival, read_up_to_at,
    write_all_at,
};

pub(crate) const FILE: FileId = FileId::Wal(1);
pub(crate) const OTHER: FileId = FileId::Sst(2);

/// A disk to run a script on; a real one takes its directory with it.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) disk: Arc<dyn Disk>,
    _directory: Option<tempfile::TempDir>,
}

pub(crate) fn real() -> Bench {
    let directory = tempfile::tempdir().unwrap();
    let disk = Arc::new(RealDisk::open(directory.path(), false).unwrap());
    Bench { disk, _directory: Some(directory) }
}

pub(crate) fn simulated() -> Bench {
    Bench { disk: Arc::new(SimDisk::new(7)), _directory: None }
}

pub(crate) fn memory() -> Bench {
    Bench { disk: Arc::new(MemoryDisk::new()), _directory: None }
}

pub(crate) fn create(disk: &dyn Disk, id: FileId) -> Arc<dyn DiskFile> {
    disk.create_new(id, Reason::WalPrepare).unwrap()
}

/// A file whose name and first bytes are durable.
pub(crate) fn create_durable(disk: &SimDisk, id: FileId, bytes: &[u8]) -> Arc<dyn DiskFile> {
    let file = create(disk, id);
    write(&*file, 0, bytes);
    file.sync_data(Reason::WalSync).unwrap();
    disk.sync_dir(Reason::WalSync).unwrap();
    file
}

pub(crate) fn write(file: &dyn DiskFile, offset: u64, bytes: &[u8]) {
    write_all_at(file, offset, bytes, Reason::WalAppend).unwrap();
}

pub(crate) fn read_all(file: &dyn DiskFile) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap() + 1];
    let read = read_up_to_at(file, 0, &mut bytes, Reason::Verify).unwrap();
    bytes.truncate(read);
    bytes
}

/// What is left when the power goes now and nothing that is pending survives.
pub(crate) fn durable_only(disk: &SimDisk) -> SimDisk {
    disk.crash_image(CrashPoint::before(disk.operations()), CrashProfile::new(Survival::None), 0)
}
