//! What changed in a range between two versions: one net entry for each key.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use thermocline_format::StoreId;
use thermocline_tier::{
    Direction, EntryKind, Error, ErrorKind, KeyRange, KeyRef, RangeCursor, RangeRequest, ReadWindow, Result, Row, Version,
};

use crate::cursor;
use crate::snapshot::Snapshot;
use crate::store::Inner;

/// How many changed keys one step of a diff looks at.
const STEP_ENTRIES: usize = 256;

/// A key whose value differs between two versions.
///
/// ```
/// use thermocline_store::DiffEntry;
///
/// let deleted = DiffEntry { key: "k".into(), before: Some("v".into()), after: None };
/// assert_ne!(deleted.before, deleted.after);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiffEntry {
    /// The key.
    pub key: Bytes,
    /// Its value at the version from which the diff goes; `None` if it had none.
    pub before: Option<Bytes>,
    /// Its value at the version to which the diff goes; `None` if it had none.
    pub after: Option<Bytes>,
}

/// The net differences of a range between two versions, ordered by key. A key that changed and changed back is not among
/// them. From a newer version to an older one it is the way back: what to write to undo.
///
/// It pins both versions while it lives. Its cost follows the keys that were written between the versions, as far as
/// the tiers can skip the others, and the whole range if the table was cleared in between.
///
/// ```
/// # let store = thermocline::Store::in_memory()?;
/// use thermocline_store::Batch;
/// use thermocline_tier::{EntryKind, KeyRange, Version};
///
/// let mut batch = Batch::new();
/// batch.put(EntryKind::Multi, b"a", b"1").put(EntryKind::Multi, b"b", b"1");
/// let from = store.commit(batch)?;
/// let mut batch = Batch::new();
/// batch.put(EntryKind::Multi, b"b", b"2").remove(EntryKind::Multi, b"a");
/// let to = store.commit(batch)?;
/// let keys = store.diff(EntryKind::Multi, KeyRange::all(), from..to)?.map(|entry| entry.map(|entry| entry.key));
/// assert_eq!(keys.collect::<Result<Vec<_>, _>>()?, ["a", "b"]);
/// # Ok::<(), thermocline_tier::Error>(())
/// ```
pub struct Diff {
    older: Snapshot,
    newer: Snapshot,
    /// The diff as it was asked for: its window names the version to go from and the one to go to, in that order.
    asked: RangeRequest,
    /// Where the reading stands, ahead of what was handed out.
    position: RangeCursor,
    ready: std::vec::IntoIter<(Bytes, DiffEntry)>,
    last: Option<Bytes>,
    failure: Option<Error>,
}

/// Where a diff stands, as a small value that pins nothing.
///
/// ```
/// # let store = thermocline::Store::in_memory()?;
/// use thermocline_tier::{EntryKind, KeyRange, Version};
///
/// let diff = store.diff(EntryKind::Multi, KeyRange::all(), Version(0)..Version(0))?;
/// let token = diff.cursor().encode();
/// assert_eq!(store.resume_diff(&token)?.count(), 0);
/// # Ok::<(), thermocline_tier::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiffCursor {
    store: StoreId,
    position: RangeCursor,
}

impl DiffCursor {
    /// The cursor as bytes, for [`Store::resume_diff`](crate::Store::resume_diff).
    pub fn encode(&self) -> Vec<u8> {
        cursor::encode(self.store, &self.position)
    }
}

impl Diff {
    /// A diff from `from` to `to`, from the beginning of the range or after `last`.
    pub(crate) fn new(inner: &Arc<Inner>, mut asked: RangeRequest, last: Option<Bytes>) -> Result<Self> {
        let (from, to) = (asked.window.after.unwrap_or_default(), asked.window.at);
        let newer = Snapshot::pin(inner, from.max(to), "diff")?;
        let older = Snapshot::pin(inner, from.min(to), "diff")?;
        let (low, high) = (older.version(), newer.version());
        // "The latest" is what it is now, also for whoever goes on with this diff after more commits.
        asked.window = ReadWindow::between(from.min(high), to.min(high));
        for side in [&older, &newer] {
            inner.check_retained(asked.table, || asked.range.clone(), side.version(), side.reader())?;
        }
        // A clear deletes keys without an entry of their own, so then every key has to be looked at.
        let was_cleared = inner.marks.clears(asked.table).any_between(low, high);
        let window = if was_cleared { ReadWindow::as_of(high) } else { ReadWindow::between(low, high) };
        let request = RangeRequest { window, ..asked.clone() };
        let position = RangeCursor::from_parts(request, last.clone(), low == high);
        Ok(Self { older, newer, asked, position, ready: Vec::new().into_iter(), last, failure: None })
    }

    pub(crate) fn resume(inner: &Arc<Inner>, token: &[u8]) -> Result<Self> {
        let (store, position) = cursor::decode(token)?;
        if store != inner.store_id {
            return Err(ErrorKind::WrongStore { what: "cursor" }.into());
        }
        if position.request().window.after.is_none() {
            return Err(ErrorKind::InvalidArgument { what: "the cursor belongs to a page, not to a diff".into() }.into());
        }
        let window = position.request().window;
        inner.check_committed(window.at.max(window.after.unwrap_or_default()))?;
        Self::new(inner, position.request().clone(), position.last().cloned())
    }

    /// The same diff in descending order of keys, from its beginning.
    ///
    /// # Errors
    /// As [`Store::diff`](crate::Store::diff).
    pub fn descending(self) -> Result<Self> {
        Self::new(&self.newer.inner, RangeRequest { direction: Direction::Reverse, ..self.asked.clone() }, None)
    }

    /// The place after the entry that was handed out last.
    pub fn cursor(&self) -> DiffCursor {
        let position = RangeCursor::from_parts(self.asked.clone(), self.last.clone(), false);
        DiffCursor { store: self.newer.inner.store_id, position }
    }

    /// The versions that the diff goes from and to.
    pub fn versions(&self) -> (Version, Version) {
        if self.is_backward() {
            (self.newer.version(), self.older.version())
        } else {
            (self.older.version(), self.newer.version())
        }
    }

    fn is_backward(&self) -> bool {
        self.asked.window.after > Some(self.asked.window.at)
    }

    /// Reads on until there is something to hand out, or nothing is left.
    fn fill(&mut self) -> Result<()> {
        let inner = Arc::clone(&self.newer.inner);
        while self.ready.len() == 0 && !self.position.is_exhausted() {
            inner.check_open()?;
            let batch = inner.next_batch(&mut self.position, STEP_ENTRIES)?;
            let rows: Vec<Row> = batch.into_rows().collect();
            self.ready = self.compare(&inner, &rows)?.into_iter();
        }
        Ok(())
    }

    /// The rows, as of the newer version, whose value at the older one was another.
    fn compare(&self, inner: &Inner, rows: &[Row]) -> Result<Vec<(Bytes, DiffEntry)>> {
        let table = self.asked.table;
        let keys: Vec<KeyRef<'_>> = rows.iter().map(|row| KeyRef { table, prefix: row.prefix() }).collect();
        let olds = inner.lookup_many_at(&keys, self.older.version(), self.older.reader())?;
        let hidden_below = inner.marks.clears(table).hidden_below(self.newer.version());
        let mut changed = Vec::new();
        for (row, old) in rows.iter().zip(olds) {
            let is_hidden = hidden_below.is_some_and(|clear| row.version < clear);
            let (old, new) = (old.into_value(), row.value.clone().filter(|_| !is_hidden));
            if old != new {
                let (before, after) = if self.is_backward() { (new, old) } else { (old, new) };
                changed.push((row.key.slice(..row.prefix_len), DiffEntry { key: row.key.clone(), before, after }));
            }
        }
        Ok(changed)
    }
}

/// The diff that `Store::diff` asks for.
pub(crate) fn request(table: EntryKind, range: KeyRange, from: Version, to: Version) -> RangeRequest {
    RangeRequest { table, range, window: ReadWindow::between(from, to), direction: Direction::Forward }
}

impl Iterator for Diff {
    type Item = Result<DiffEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(failure) = &self.failure {
            return Some(Err(failure.clone()));
        }
        if let Err(failure) = self.fill() {
            self.failure = Some(failure.clone());
            return Some(Err(failure));
        }
        let (prefix, entry) = self.ready.next()?;
        self.last = Some(prefix);
        Some(Ok(entry))
    }
}

impl fmt::Debug for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Diff").field("asked", &self.asked).field("last", &self.last).finish_non_exhaustive()
    }
}
