//! The commits of a store, in order, from its log.

use std::fmt;
use std::sync::Arc;

use thermocline_tier::{Error, Result, Version};
use thermocline_wal::LogReader;
pub use thermocline_wal::{Change, Commit};

use crate::store::Inner;

/// The commits above a version, in order, each as it was made: the stream that views, replicas and audits are built on.
///
/// The iterator ends at the last commit that readers can see. Asked again later, it goes on with what has come since, so polling
/// never misses or repeats a commit. It holds no lock. After an error it stays failed.
///
/// It has no name and holds nothing back: what the log lets go before it is read is gone. To wait for what comes, for some tables alone, for
/// values before each change, and to go on after a restart there are [consumers](crate::Store::consumer).
///
/// ```
/// # let store = thermocline::Store::in_memory()?;
/// use thermocline_store::Batch;
/// use thermocline_tier::{EntryKind, Version};
///
/// let mut changes = store.changes(Version::ZERO)?;
/// assert!(changes.next().is_none());
/// let mut batch = Batch::new();
/// batch.put(EntryKind::Multi, b"k", b"v");
/// let version = store.commit(batch)?;
/// let commit = changes.next().transpose()?;
/// assert_eq!(commit.map(|commit| (commit.version, commit.changes.len())), Some((version, 1)));
/// # Ok::<(), thermocline_tier::Error>(())
/// ```
pub struct Changes {
    inner: Arc<Inner>,
    reader: LogReader,
    failure: Option<Error>,
}

impl Changes {
    pub(crate) fn open(inner: &Arc<Inner>, since: Version) -> Result<Self> {
        inner.check_open()?;
        Ok(Self { reader: inner.storage.log.reader(since)?, inner: Arc::clone(inner), failure: None })
    }

    /// The next commit that readers can see.
    fn read(&mut self) -> Result<Option<Commit>> {
        self.inner.check_open()?;
        self.reader.next_commit(self.inner.latest())
    }
}

impl Iterator for Changes {
    type Item = Result<Commit>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(failure) = &self.failure {
            return Some(Err(failure.clone()));
        }
        match self.read() {
            Ok(commit) => commit.map(Ok),
            Err(failure) => {
                self.failure = Some(failure.clone());
                Some(Err(failure))
            }
        }
    }
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changes").field("reader", &self.reader).field("failure", &self.failure).finish_non_exhaustive()
    }
}
