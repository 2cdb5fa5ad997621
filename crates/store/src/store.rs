//! The store: what is shared by all its handles, and the reads.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use thermocline_drop::Reckoner;
use thermocline_format::StoreId;
use thermocline_io::{Clock, Disk, LockGuard};
use thermocline_tier::{Amount, EntryKind, Error, ErrorKind, KeyRange, KeyRef, Lookup, Result, Version};
use thermocline_wal::RecoveryReport;
use thermocline_wal::group::GroupCommit;

use crate::background::Workers;
use crate::changes::Changes;
use crate::commit::{Outcome, Request, Writer};
use crate::consumer::Consumers;
use crate::cursor::Cursor;
use crate::diff::{self, Diff};
use crate::drops::Dropping;
use crate::expiry::Expiring;
use crate::history::History;
use crate::marks::TableMarks;
use crate::options::StoreOptions;
use crate::page::{self, Page};
use crate::pressure::PressureMeter;
use crate::reclaim::{Reader, Reclaim, only};
use crate::reclaimer::{Garbage, Sweeping};
use crate::snapshot::Snapshot;
use crate::storage::Storage;

/// A handle to an open store. Cloning is cheap; all clones are the same store, and any thread may use any of them.
///
/// Commits take turns; readers wait for no commit. The store is closed by [`close`](Store::close), or when the last handle,
/// snapshot and iterator is gone.
///
/// ```
/// # let store = thermocline::Store::in_memory()?;
/// use thermocline_store::Batch;
/// use thermocline_tier::EntryKind;
///
/// let mut batch = Batch::new();
/// batch.put(EntryKind::source(7), b"user/1", b"Ada");
/// let version = store.commit(batch)?;
/// assert_eq!(store.get(EntryKind::source(7), b"user/1")?.as_deref(), Some(b"Ada".as_slice()));
/// assert_eq!(store.last_version(), version);
/// # Ok::<(), thermocline_tier::Error>(())
/// ```
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

/// What all handles of one store share. The store closes when it is dropped.
pub(crate) struct Inner {
    pub(crate) core: Arc<Core>,
    pub(crate) workers: Mutex<Option<Workers>>,
    /// Released when the store closes.
    pub(crate) lock: Mutex<Option<Box<dyn LockGuard>>>,
}

impl Deref for Inner {
    type Target = Core;

    fn deref(&self) -> &Core {
        &self.core
    }
}

/// What background work needs of a store, too: it keeps no store open.
pub(crate) struct Core {
    /// The tiers and the log.
    pub(crate) storage: Arc<Storage>,
    pub(crate) store_id: StoreId,
    pub(crate) options: StoreOptions,
    pub(crate) clock: Arc<dyn Clock>,
    /// Tells the time, with `clock`.
    pub(crate) reckoner: Mutex<Reckoner>,
    pub(crate) disk: Arc<dyn Disk>,
    /// The last version that readers may see.
    pub(crate) published: AtomicU64,
    /// Held by whoever changes what is retained, but for readers.
    pub(crate) retention_turn: Mutex<()>,
    pub(crate) marks: Arc<TableMarks>,
    pub(crate) reclaim: Arc<Reclaim>,
    pub(crate) pressure: PressureMeter,
    pub(crate) is_closed: AtomicBool,
    pub(crate) queue: GroupCommit<Request, Outcome>,
    pub(crate) writer: Mutex<Writer>,
    pub(crate) recovery: RecoveryReport,
    pub(crate) consumers: Consumers,
    pub(crate) sweeping: Mutex<Sweeping>,
    pub(crate) dropping: Mutex<Dropping>,
    pub(crate) expiring: Mutex<Expiring>,
    pub(crate) expired_rows: AtomicU64,
    /// The newest commit that had versions dropped which are older.
    pub(crate) dropped_through: AtomicU64,
    pub(crate) dropped_versions: AtomicU64,
    /// What was removed from memory since the store was opened.
    pub(crate) reclaimed: Mutex<BTreeMap<EntryKind, Amount>>,
    pub(crate) is_reclaim_paused: AtomicBool,
    pub(crate) garbage: Mutex<Garbage>,
    /// Whether it was asked to be removed, and is not known to be gone. Held by who looks after that.
    pub(crate) garbage_asked: Mutex<bool>,
    /// Readers made up to this moment that live on have been named in a warning.
    pub(crate) warned_until: Mutex<thermocline_drop::Moment>,
}

impl Core {
    /// The last version that readers may see.
    pub(crate) fn latest(&self) -> Version {
        Version(self.published.load(Ordering::Acquire))
    }

    pub(crate) fn check_open(&self) -> Result<()> {
        if self.is_closed.load(Ordering::Relaxed) { Err(ErrorKind::Closed.into()) } else { Ok(()) }
    }

    /// Refuses a cursor of a version that no commit has reached: the store that wrote it has lost its end since.
    pub(crate) fn check_committed(&self, version: Version) -> Result<()> {
        let last = self.latest();
        if version <= last {
            return Ok(());
        }
        let what =
            format!("the cursor's version {version} is above the last commit {last}: the store has lost what it was made from");
        Err(ErrorKind::InvalidArgument { what }.into())
    }

    pub(crate) fn horizon(&self) -> Version {
        self.reclaim.read().horizon()
    }

    /// A point read at a version that was published.
    fn lookup_exactly(&self, table: EntryKind, key: &[u8], at: Version, reader: Reader<'_>) -> Result<Lookup> {
        let found = self.storage.view().get(table, key, at)?;
        // Before it is known that the state is there: what clears have hidden is forgotten once a horizon has passed them.
        let judged = self.marks.judge(table, at, found);
        self.check_reclaimed(table, || only(key), at, reader)?;
        judged
    }

    /// A point read of the latest state.
    fn lookup_latest(&self, table: EntryKind, key: &[u8]) -> Result<Lookup> {
        self.check_open()?;
        self.read_latest(|at| self.lookup_exactly(table, key, at, Reader::Unpinned))
    }

    /// A point read at a version, or of the latest state if that is older.
    pub(crate) fn lookup_at(&self, table: EntryKind, key: &[u8], version: Version, reader: Reader<'_>) -> Result<Lookup> {
        self.check_open()?;
        if matches!(reader, Reader::Pinned(_)) {
            return self.lookup_exactly(table, key, version, reader);
        }
        self.read_at(version, |at| self.lookup_exactly(table, key, at, reader))
    }

    /// Reads the latest state, again if another came in between, so that the version that was the latest is gone: by a purge, or by
    /// a horizon that moved.
    #[inline]
    fn read_latest<R>(&self, read: impl Fn(Version) -> Result<R>) -> Result<R> {
        let at = self.latest();
        let answer = read(at);
        if self.is_outdated(at, &answer) { self.read_latest_again(at, answer, &read) } else { answer }
    }

    /// Whether the state at `at`, which was the latest, is gone since, or something may have been dropped from it.
    #[inline]
    fn is_outdated<R>(&self, at: Version, answer: &Result<R>) -> bool {
        self.dropped_through.load(Ordering::SeqCst) > at.0 || matches!(answer, Err(error) if is_reclaimed(error))
    }

    #[cold]
    fn read_latest_again<R>(&self, mut at: Version, mut answer: Result<R>, read: &impl Fn(Version) -> Result<R>) -> Result<R> {
        loop {
            // A purge holds this lock until its own version is published.
            drop(self.reclaim.lock());
            let latest = self.latest();
            if latest == at {
                return answer;
            }
            at = latest;
            answer = read(at);
            if !self.is_outdated(at, &answer) {
                return answer;
            }
        }
    }

    /// Reads at `version`, or the latest state if that is older.
    fn read_at<R>(&self, version: Version, read: impl Fn(Version) -> Result<R>) -> Result<R> {
        if version <= self.latest() { read(version) } else { self.read_latest(|latest| read(latest.min(version))) }
    }

    /// Point reads at a version, of any tables.
    pub(crate) fn lookup_many_at(&self, keys: &[KeyRef<'_>], at: Version, reader: Reader<'_>) -> Result<Vec<Lookup>> {
        self.check_open()?;
        let mut found = self.storage.view().get_many(keys, at)?;
        let mut judged = Ok(());
        if self.marks.has_any() {
            judged = keys.iter().zip(&mut found).try_for_each(|(key, answer)| {
                *answer = self.marks.judge(key.table, at, std::mem::take(answer))?;
                Ok(())
            });
        }
        // As for one.
        for key in keys {
            self.check_reclaimed(key.table, || only(key.prefix), at, reader)?;
        }
        judged.map(|()| found)
    }

    pub(crate) fn get_many_at<K: AsRef<[u8]>>(
        &self,
        table: EntryKind,
        keys: &[K],
        at: Version,
        reader: Reader<'_>,
    ) -> Result<Vec<Option<Bytes>>> {
        let refs: Vec<KeyRef<'_>> = keys.iter().map(|key| KeyRef { table, prefix: key.as_ref() }).collect();
        Ok(self.lookup_many_at(&refs, at, reader)?.into_iter().map(Lookup::into_value).collect())
    }
}

fn is_reclaimed(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::VersionReclaimed { .. })
}

impl Store {
    /// The value of a key in the latest state; `None` if it was deleted or never written. `key` is the prefix, where the
    /// store's layout has suffixes.
    ///
    /// The value is not copied: as long as it lives, so does the block that it lies in, up to 64 KiB, beside the budget of memory. Copy
    /// what you keep.
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed), or what the tiers fail with.
    pub fn get(&self, table: EntryKind, key: &[u8]) -> Result<Option<Bytes>> {
        Ok(self.inner.lookup_latest(table, key)?.into_value())
    }

    /// The value of a key at `version`. Above the last commit that is the latest state.
    ///
    /// # Errors
    /// [`VersionReclaimed`](ErrorKind::VersionReclaimed) if that state is gone, else as [`get`](Self::get).
    pub fn get_at(&self, table: EntryKind, key: &[u8], version: Version) -> Result<Option<Bytes>> {
        Ok(self.inner.lookup_at(table, key, version, Reader::Unpinned)?.into_value())
    }

    /// The newest entry of a key in the latest state: value or tombstone with its version, or absent.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn lookup(&self, table: EntryKind, key: &[u8]) -> Result<Lookup> {
        self.inner.lookup_latest(table, key)
    }

    /// Whether a key has a value in the latest state.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn contains(&self, table: EntryKind, key: &[u8]) -> Result<bool> {
        Ok(self.inner.lookup_latest(table, key)?.is_value())
    }

    /// The values of many keys of one table, all in the same state: as many answers, in the order of the keys. Much faster
    /// than one by one.
    ///
    /// # Errors
    /// As [`get`](Self::get); there is no partial answer.
    pub fn get_many<K: AsRef<[u8]>>(&self, table: EntryKind, keys: impl IntoIterator<Item = K>) -> Result<Vec<Option<Bytes>>> {
        let keys: Vec<K> = keys.into_iter().collect();
        self.inner.read_latest(|at| self.inner.get_many_at(table, &keys, at, Reader::Unpinned))
    }

    /// The latest state, pinned.
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed).
    #[track_caller]
    pub fn snapshot(&self) -> Result<Snapshot> {
        Snapshot::pin(&self.inner, Version::MAX, "snapshot")
    }

    /// The state at `version`, pinned. Above the last commit that is the latest state. Below the [horizon](Store::horizon) it holds what
    /// pins and policies keep: keys of which that is not so fail when they are read, as a table does that was purged later, with
    /// `VersionReclaimed`.
    ///
    /// # Errors
    /// [`VersionReclaimed`](ErrorKind::VersionReclaimed) for a version below the horizon of which nothing is kept;
    /// [`Closed`](ErrorKind::Closed).
    #[track_caller]
    pub fn at(&self, version: Version) -> Result<Snapshot> {
        Snapshot::pin(&self.inner, version, "snapshot")
    }

    /// Reads on from a cursor's token: the next `limit` rows at the cursor's version, which need not be pinned.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for a damaged token, one of a diff, one of a commit that a power cut has
    /// taken back, or a limit of 0;
    /// [`WrongStore`](ErrorKind::WrongStore) for another store's; [`VersionReclaimed`](ErrorKind::VersionReclaimed) if its version
    /// is gone.
    pub fn resume(&self, token: &[u8], limit: usize) -> Result<Page> {
        let cursor = Cursor::decode(token)?;
        if cursor.store != self.inner.store_id {
            return Err(ErrorKind::WrongStore { what: "cursor" }.into());
        }
        if cursor.request().window.after.is_some() {
            return Err(ErrorKind::InvalidArgument { what: "the cursor belongs to a diff, not to a page".into() }.into());
        }
        self.inner.check_committed(cursor.request().window.at)?;
        page::read(&self.inner, cursor.position, limit, Reader::Unpinned)
    }

    /// Every version of a key that is kept, newest first: all from the [horizon](Self::horizon) on.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn history(&self, table: EntryKind, key: &[u8]) -> Result<History> {
        self.inner.read_latest(|at| History::read(&self.inner, table, key, at, Reader::Unpinned))
    }

    /// The keys of a range whose values differ between two versions, from the state at `versions.start` to the state at
    /// `versions.end`, either of which may be the newer.
    ///
    /// # Errors
    /// [`VersionReclaimed`](ErrorKind::VersionReclaimed) if a state is gone, else as [`get`](Self::get).
    pub fn diff(&self, table: EntryKind, range: KeyRange, versions: Range<Version>) -> Result<Diff> {
        Diff::new(&self.inner, diff::request(table, range, versions.start, versions.end), None)
    }

    /// Goes on with a diff from its cursor's token.
    ///
    /// # Errors
    /// As [`resume`](Self::resume).
    pub fn resume_diff(&self, token: &[u8]) -> Result<Diff> {
        Diff::resume(&self.inner, token)
    }

    /// The commits above `since`, in order, as they were made; [`Version::ZERO`] gives all. Over a durable tier the log keeps only
    /// what recovery needs, and what [`StoreOptions::log_keep_bytes`] asks for beyond.
    ///
    /// # Errors
    /// [`VersionReclaimed`](ErrorKind::VersionReclaimed) if the log does not reach back to `since`; [`Closed`](ErrorKind::Closed),
    /// or what reading the log fails with.
    pub fn changes(&self, since: Version) -> Result<Changes> {
        Changes::open(&self.inner, since)
    }

    /// The tables that were ever written to or ensured, in order. A cleared or purged table is among them.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn tables(&self) -> Result<Vec<EntryKind>> {
        self.inner.check_open()?;
        self.inner.storage.view().tables()
    }

    /// The version of the last commit that readers can see; [`Version::ZERO`] before the first.
    pub fn last_version(&self) -> Version {
        self.inner.latest()
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("directory", &self.inner.disk.label())
            .field("last_version", &self.last_version())
            .finish_non_exhaustive()
    }
}
