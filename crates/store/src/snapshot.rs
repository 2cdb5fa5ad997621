//! A view of the store at one version.

use std::fmt;
use std::ops::{ControlFlow, RangeBounds};
use std::panic::Location;
use std::sync::Arc;

use bytes::Bytes;
use thermocline_tier::{
    Direction, EntryKind, KeyRange, KeyRef, Lookup, RangeRequest, ReadWindow, Result, RetainedTables, Version,
};

use crate::history::History;
use crate::page::{self, Page};
use crate::reclaim::Reader;
use crate::scan::Scan;
use crate::store::Inner;

/// The state of the store at one version, for as long as it lives: it pins that version, so that nothing it can see is
/// reclaimed. Reading through it never waits for writers, and gives the same bytes for ever.
///
/// It keeps the store open: a store closes when it and everything made from it are gone.
///
/// ```
/// # let store = thermocline::Store::in_memory()?;
/// use thermocline_store::Batch;
/// use thermocline_tier::EntryKind;
///
/// let before = store.snapshot()?;
/// let mut batch = Batch::new();
/// batch.put(EntryKind::Multi, b"k", b"v");
/// store.commit(batch)?;
/// assert_eq!(before.get(EntryKind::Multi, b"k")?, None);
/// assert_eq!(store.snapshot()?.get(EntryKind::Multi, b"k")?.as_deref(), Some(b"v".as_slice()));
/// # Ok::<(), thermocline_tier::Error>(())
/// ```
#[must_use = "a snapshot pins its version only while it lives"]
pub struct Snapshot {
    pub(crate) inner: Arc<Inner>,
    version: Version,
    pin: u64,
    /// What could be read when it was made, if some table had lost its version by then.
    granted: Option<Arc<RetainedTables>>,
}

impl Snapshot {
    /// Pins the latest version, or `at` if that is older.
    #[track_caller]
    pub(crate) fn pin(inner: &Arc<Inner>, at: Version, holder: &'static str) -> Result<Self> {
        inner.check_open()?;
        // Under the lock of the pins, so that a purge sees either the pin or its own version in place of ours, and so that nothing
        // begins to be reclaimed that the pin should keep.
        let mut authority = inner.reclaim.lock();
        let version = at.min(inner.latest());
        let (pin, granted) = authority.pin_reader(version, holder, Location::caller(), inner.moment())?;
        Ok(Self { inner: Arc::clone(inner), version, pin, granted })
    }

    pub(crate) fn reader(&self) -> Reader<'_> {
        Reader::Pinned(self.granted.as_deref())
    }

    /// The version that is seen: never above the last commit at the time the snapshot was made.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The value of a key; `None` if it was deleted or never written.
    ///
    /// # Errors
    /// [`VersionReclaimed`](thermocline_tier::ErrorKind::VersionReclaimed) if the table was purged since; else what the tiers fail with.
    pub fn get(&self, table: EntryKind, key: &[u8]) -> Result<Option<Bytes>> {
        Ok(self.lookup(table, key)?.into_value())
    }

    /// The newest entry of a key: its value or tombstone with the version it was written at, or absent.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn lookup(&self, table: EntryKind, key: &[u8]) -> Result<Lookup> {
        self.inner.lookup_at(table, key, self.version, self.reader())
    }

    /// Whether a key has a value.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn contains(&self, table: EntryKind, key: &[u8]) -> Result<bool> {
        Ok(self.lookup(table, key)?.is_value())
    }

    /// The values of many keys of one table: as many answers, in the order of the keys.
    ///
    /// # Errors
    /// As [`get`](Self::get); there is no partial answer.
    pub fn get_many<K: AsRef<[u8]>>(&self, table: EntryKind, keys: impl IntoIterator<Item = K>) -> Result<Vec<Option<Bytes>>> {
        let keys: Vec<K> = keys.into_iter().collect();
        self.inner.get_many_at(table, &keys, self.version, self.reader())
    }

    /// Many keys of any tables.
    ///
    /// # Errors
    /// As [`get`](Self::get); there is no partial answer.
    pub fn lookup_many(&self, keys: &[KeyRef<'_>]) -> Result<Vec<Lookup>> {
        self.inner.lookup_many_at(keys, self.version, self.reader())
    }

    /// The rows of a range in key order, as an iterator that can be walked from both ends. Any bounds are legal; an inverted
    /// range is empty.
    pub fn range<K: AsRef<[u8]>>(&self, table: EntryKind, range: impl RangeBounds<K>) -> Scan {
        self.scan(table, KeyRange::new(range))
    }

    /// The rows whose keys begin with `prefix`, as [`range`](Self::range).
    pub fn prefix(&self, table: EntryKind, prefix: &[u8]) -> Scan {
        self.scan(table, KeyRange::prefix(prefix))
    }

    /// The rows of a range that was built before, as [`range`](Self::range).
    pub fn scan(&self, table: EntryKind, range: KeyRange) -> Scan {
        Scan::new(self.clone(), table, range)
    }

    /// Hands the first `limit` rows of a range to `visit`, key and value, in key order or the reverse, until it breaks off. The rows are
    /// borrowed, so that none of them costs an allocation or a count: the fastest way to read many.
    ///
    /// ```
    /// # let store = thermocline::Store::in_memory()?;
    /// use std::ops::ControlFlow;
    /// use thermocline_store::Batch;
    /// use thermocline_tier::{Direction, EntryKind, KeyRange};
    ///
    /// let mut batch = Batch::new();
    /// batch.put(EntryKind::Multi, b"a", b"1").put(EntryKind::Multi, b"b", b"22").put(EntryKind::Multi, b"c", b"333");
    /// store.commit(batch)?;
    /// let mut bytes = 0;
    /// store.snapshot()?.visit(EntryKind::Multi, KeyRange::all(), Direction::Reverse, 2, |_key, value| {
    ///     bytes += value.len();
    ///     ControlFlow::Continue(())
    /// })?;
    /// assert_eq!(bytes, 5);
    /// # Ok::<(), thermocline_tier::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`get`](Self::get); rows may have been handed out before.
    pub fn visit(
        &self,
        table: EntryKind,
        range: KeyRange,
        direction: Direction,
        limit: usize,
        visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<()> {
        page::visit(&self.inner, self.request(table, range, direction), limit, self.reader(), visit)
    }

    fn request(&self, table: EntryKind, range: KeyRange, direction: Direction) -> RangeRequest {
        RangeRequest { table, range, window: ReadWindow::as_of(self.version), direction }
    }

    /// The first `limit` rows of a range and a cursor to the next ones.
    ///
    /// # Errors
    /// [`InvalidArgument`](thermocline_tier::ErrorKind::InvalidArgument) for a limit of 0, else as [`get`](Self::get).
    pub fn page(&self, table: EntryKind, range: KeyRange, limit: usize) -> Result<Page> {
        self.page_in(table, range, Direction::Forward, limit)
    }

    /// The last `limit` rows of a range, the last first, and a cursor to those before.
    ///
    /// # Errors
    /// As [`page`](Self::page).
    pub fn page_rev(&self, table: EntryKind, range: KeyRange, limit: usize) -> Result<Page> {
        self.page_in(table, range, Direction::Reverse, limit)
    }

    fn page_in(&self, table: EntryKind, range: KeyRange, direction: Direction, limit: usize) -> Result<Page> {
        page::read(&self.inner, self.request(table, range, direction).into_cursor(), limit, self.reader())
    }

    /// Every version of a key up to this snapshot's, newest first.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn history(&self, table: EntryKind, key: &[u8]) -> Result<History> {
        History::read(&self.inner, table, key, self.version, self.reader())
    }
}

impl Clone for Snapshot {
    fn clone(&self) -> Self {
        let pin = self.inner.reclaim.lock().pin_again(self.version, self.pin);
        Self { inner: Arc::clone(&self.inner), version: self.version, pin, granted: self.granted.clone() }
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        self.inner.reclaim.lock().let_go(self.version, self.pin);
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("version", &self.version).field("pin", &self.pin).finish_non_exhaustive()
    }
}
