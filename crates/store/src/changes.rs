//! The commits of a store, in order, from its log.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use thermocline_drop::Scope;
use thermocline_migration::check_not_in_hook;
use thermocline_tier::{Error, Result, Version};
use thermocline_wal::LogReader;
pub use thermocline_wal::{Change, Commit};

use crate::consumer::keep_scope;
use crate::store::Inner;

/// The commits above a version, in order, each as it was made: the stream that views, replicas and audits are built on.
///
/// The iterator ends at the last commit that readers can see. Asked again later, it goes on with what has come since, so polling
/// never misses or repeats a commit. It holds no lock. After an error it stays failed.
///
/// It has no name and holds nothing back: what the log lets go before it is read is gone. For values before each change, and to go on
/// after a restart, there are [consumers](crate::Store::consumer).
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
///
/// let mut of_sources = store.changes(Version::ZERO)?.about(thermocline_store::Scope::Table(EntryKind::source(1)));
/// assert!(of_sources.wait(std::time::Duration::from_millis(1))?.is_none());
/// # Ok::<(), thermocline_tier::Error>(())
/// ```
pub struct Changes {
    inner: Arc<Inner>,
    reader: LogReader,
    scope: Scope,
    /// What was read goes up to here.
    seen: Version,
    failure: Option<Error>,
}

impl Changes {
    pub(crate) fn open(inner: &Arc<Inner>, since: Version) -> Result<Self> {
        inner.check_open()?;
        let reader = inner.storage.log.reader(since)?;
        Ok(Self { reader, inner: Arc::clone(inner), scope: Scope::All, seen: since, failure: None })
    }

    /// The same, of some keys alone: of each commit what concerns them, without commits of which that is nothing.
    #[must_use]
    pub fn about(self, scope: Scope) -> Self {
        Self { scope, ..self }
    }

    /// The next commit, as soon as there is one; `None` if there is none for so long. After an error it stays failed, as the iterator does.
    ///
    /// # Errors
    /// [`VersionReclaimed`](thermocline_tier::ErrorKind::VersionReclaimed) if the log has let the next commits go;
    /// [`Closed`](thermocline_tier::ErrorKind::Closed), or what reading the log fails with.
    pub fn wait(&mut self, at_most: Duration) -> Result<Option<Commit>> {
        check_not_in_hook("a wait for commits")?;
        let begun = self.inner.clock.now();
        loop {
            if let Some(next) = self.next().transpose()? {
                return Ok(Some(next));
            }
            let left = at_most.saturating_sub(self.inner.clock.now().saturating_sub(begun));
            if left.is_zero() || !self.inner.consumers.wait_above(&self.inner, self.seen, left) {
                return Ok(None);
            }
        }
    }

    /// The next commit that readers can see and that is asked for.
    fn read(&mut self) -> Result<Option<Commit>> {
        self.inner.check_open()?;
        while let Some(mut commit) = self.reader.next_commit(self.inner.latest())? {
            self.seen = commit.version;
            if keep_scope(&mut commit, &self.scope) {
                return Ok(Some(commit));
            }
        }
        Ok(None)
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
