//! The directory of a store that several parts write to: a failed sync of it fails for all of them, for good.

use std::sync::{Arc, OnceLock};

use thermocline_io::{Access, DirEntry, Disk, DiskFile, DiskResult, FileId, LockGuard, LockMode, Reason, Space, SyncFailed};

/// A disk whose directory is never synced again once that has failed.
///
/// The log and the durable tier make files in one directory, and each sync covers the names that all of them have made. After a
/// failed one the system may take lost names for written, so that the next sync, by somebody else, says that all is well: a
/// manifest could then list a file whose name is not durable.
#[derive(Debug)]
pub(crate) struct Directory {
    disk: Arc<dyn Disk>,
    failed: OnceLock<SyncFailed>,
}

impl Directory {
    pub(crate) fn new(disk: Arc<dyn Disk>) -> Self {
        Self { disk, failed: OnceLock::new() }
    }

    /// Whether a sync of the directory has failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.get().is_some()
    }
}

impl Disk for Directory {
    fn create_new(&self, id: FileId, reason: Reason) -> DiskResult<Arc<dyn DiskFile>> {
        self.disk.create_new(id, reason)
    }

    fn open(&self, id: FileId, access: Access, reason: Reason) -> DiskResult<Arc<dyn DiskFile>> {
        self.disk.open(id, access, reason)
    }

    fn remove(&self, id: FileId, reason: Reason) -> DiskResult<()> {
        self.disk.remove(id, reason)
    }

    fn list(&self, reason: Reason) -> DiskResult<Vec<DirEntry>> {
        self.disk.list(reason)
    }

    fn sync_dir(&self, reason: Reason) -> Result<(), SyncFailed> {
        if let Some(failed) = self.failed.get() {
            return Err(failed.clone());
        }
        if let Err(failed) = self.disk.sync_dir(reason) {
            return Err(self.failed.get_or_init(|| failed).clone());
        }
        // One that failed meanwhile may have taken with it what this one was to make durable.
        self.failed.get().map_or(Ok(()), |failed| Err(failed.clone()))
    }

    fn try_lock(&self, mode: LockMode) -> DiskResult<Box<dyn LockGuard>> {
        self.disk.try_lock(mode)
    }

    fn space(&self) -> DiskResult<Space> {
        self.disk.space()
    }

    fn label(&self) -> String {
        self.disk.label()
    }
}

#[cfg(test)]
mod tests {
    use thermocline_io::{DiskErrorKind, Fault, FaultKind, Operation, SimDisk, SyncCache, When};

    use super::*;

    #[test]
    fn a_directory_is_never_synced_again_after_a_failure() {
        let sim = SimDisk::new(1);
        let directory = Directory::new(Arc::new(sim.clone()));
        directory.sync_dir(Reason::Open).unwrap();
        let fail = FaultKind::FailSync { cause: DiskErrorKind::Io, cache: SyncCache::Kept };
        sim.inject(Fault::new(fail, When::Nth(0)).on(Operation::SyncDir));
        assert!(directory.sync_dir(Reason::WalPrepare).is_err());
        assert!(directory.has_failed());
        let operations = sim.operations();
        let again = directory.sync_dir(Reason::SstWrite).unwrap_err();
        assert_eq!((again.reason(), sim.operations()), (Some(Reason::WalPrepare), operations));
    }
}
