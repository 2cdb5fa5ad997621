//! The rows of a range as an iterator from both ends.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use thermocline_migration::{Slot, Summary};
use thermocline_tier::{
    Direction, EntryKind, Error, KeyRange, RangeBatch, RangeRequest, ReadWindow, Result, Row, Rows, TierScan, Version,
};

use crate::snapshot::Snapshot;

/// How many entries the first read of a scan takes: enough for a short scan, little to waste if the caller stops early.
const FIRST_BATCH_ENTRIES: usize = 16;
/// By what each read grows over the one before.
const BATCH_GROWTH: usize = 7;
/// How many entries a read of a long scan takes.
const BATCH_ENTRIES_MAX: usize = 512;

/// The visible rows of a range at one version, in key order: pairs of key and value. It can be walked from both ends, which
/// meet in the middle.
///
/// It holds its snapshot, so its version stays pinned, and no lock. After an error it stays failed: the error comes
/// again, never a partial answer that looks like the end.
///
/// ```
/// # let store = thermocline::Store::in_memory()?;
/// use thermocline_store::Batch;
/// use thermocline_tier::EntryKind;
///
/// let mut batch = Batch::new();
/// batch.put(EntryKind::Multi, b"a", b"1").put(EntryKind::Multi, b"b", b"2").put(EntryKind::Multi, b"c", b"3");
/// store.commit(batch)?;
/// let mut rows = store.snapshot()?.range(EntryKind::Multi, "a"..);
/// assert_eq!(rows.next().transpose()?, Some(("a".into(), "1".into())));
/// assert_eq!(rows.next_back().transpose()?, Some(("c".into(), "3".into())));
/// assert_eq!(rows.count(), 1);
/// # Ok::<(), thermocline_tier::Error>(())
/// ```
pub struct Scan {
    snapshot: Snapshot,
    request: RangeRequest,
    /// Rows below this version were cleared or purged with their table.
    hidden_below: Option<Version>,
    /// Which files are not wanted, by their slots.
    skip: Option<Box<SkipSlot>>,
    front: Option<Side>,
    back: Option<Side>,
    /// The ends have met.
    is_over: bool,
    failure: Option<Error>,
}

type SkipSlot = dyn Fn(&[u8]) -> bool + Send + Sync;

/// One end of the scan.
struct Side {
    scan: Box<dyn TierScan>,
    rows: Rows,
    has_more: bool,
    batch_entries: usize,
    /// The prefix that was passed last before `rows` was read.
    passed: Option<Vec<u8>>,
}

impl Side {
    fn open(snapshot: &Snapshot, request: RangeRequest, skip: Option<&SkipSlot>) -> Result<Self> {
        let tier = Arc::clone(snapshot.inner.storage.view().merged()?);
        let scan = match skip {
            Some(skip) => tier.scan_skipping(request, &skip)?,
            None => tier.scan(request)?,
        };
        Ok(Self { scan, rows: Rows::default(), has_more: true, batch_entries: FIRST_BATCH_ENTRIES, passed: None })
    }

    /// The prefix up to which this end has come.
    fn reached(&self) -> Option<&[u8]> {
        self.rows.last_prefix().or(self.passed.as_deref())
    }

    /// Reads the next entries into `rows`.
    fn refill(&mut self) -> Result<()> {
        if let Some(last) = self.rows.last_prefix() {
            self.passed = Some(last.to_vec());
        }
        let mut batch = RangeBatch::new();
        self.scan.next_batch(self.batch_entries, &mut batch)?;
        self.batch_entries = (self.batch_entries * BATCH_GROWTH).min(BATCH_ENTRIES_MAX);
        self.has_more = batch.has_more;
        self.rows = batch.into_rows();
        Ok(())
    }
}

impl Scan {
    pub(crate) fn new(snapshot: Snapshot, table: EntryKind, range: KeyRange) -> Self {
        let at = snapshot.version();
        let hidden_below = snapshot.inner.marks.clears(table).hidden_below(at);
        let request = RangeRequest { table, range, window: ReadWindow::as_of(at), direction: Direction::Forward };
        Self { snapshot, request, hidden_below, skip: None, front: None, back: None, is_over: false, failure: None }
    }

    /// Leaves out files by their summaries, those of the store's [strategy](crate::StoreOptions::migration): for a scan that wants nothing of the
    /// rows that `skip` answers true about. It is asked about each file once, at either end when that begins.
    ///
    /// A file that holds what hides something in another one, such as a deletion or a newer row, is read all the same, so that no row comes back from the
    /// dead; so is what is in memory, and a file whose summary cannot be read as a `T`. So rows that are not wanted may come, and the caller leaves them out
    /// himself; what never happens is that a row is missing that `skip` does not cover.
    ///
    /// ```
    /// # let store = thermocline::Store::in_memory()?;
    /// use thermocline_tier::EntryKind;
    ///
    /// let rows = store.snapshot()?.range(EntryKind::Multi, "a"..).skip_segments(|(): &()| true);
    /// assert_eq!(rows.count(), 0);
    /// # Ok::<(), thermocline_tier::Error>(())
    /// ```
    #[must_use]
    pub fn skip_segments<T: Summary>(self, skip: impl Fn(&T) -> bool + Send + Sync + 'static) -> Self {
        let skip_slot = move |slot: &[u8]| {
            let summary = Slot::decode(slot).and_then(|slot| T::decode(slot.summary).ok());
            summary.is_some_and(|summary| skip(&summary))
        };
        Self { skip: Some(Box::new(skip_slot)), ..self }
    }

    /// The next visible row at one end, whatever the other end has handed out.
    fn advance(&mut self, direction: Direction) -> Result<Option<Row>> {
        let slot = if direction == Direction::Forward { &mut self.front } else { &mut self.back };
        let side = match slot {
            Some(side) => side,
            None => {
                slot.insert(Side::open(&self.snapshot, RangeRequest { direction, ..self.request.clone() }, self.skip.as_deref())?)
            }
        };
        loop {
            for row in side.rows.by_ref() {
                if row.value.is_some() && self.hidden_below.is_none_or(|clear| row.version >= clear) {
                    return Ok(Some(row));
                }
            }
            if !side.has_more {
                return Ok(None);
            }
            self.snapshot.inner.check_open()?;
            side.refill()?;
            let RangeRequest { table, range, window, .. } = &self.request;
            self.snapshot.inner.check_retained(*table, || range.clone(), window.at, self.snapshot.reader())?;
        }
    }

    /// The next row at one end that the other end has not reached.
    fn next_at(&mut self, direction: Direction) -> Option<Result<(Bytes, Bytes)>> {
        if let Some(failure) = &self.failure {
            return Some(Err(failure.clone()));
        }
        if self.is_over {
            return None;
        }
        let row = match self.advance(direction) {
            Ok(row) => row?,
            Err(failure) => {
                self.failure = Some(failure.clone());
                return Some(Err(failure));
            }
        };
        let far = if direction == Direction::Forward { &self.back } else { &self.front };
        let has_met = far.as_ref().and_then(Side::reached).is_some_and(|other| match direction {
            Direction::Forward => row.prefix() >= other,
            Direction::Reverse => row.prefix() <= other,
        });
        if has_met {
            // Every row was handed out at one end or the other.
            self.is_over = true;
            return None;
        }
        Some(Ok((row.key, row.value.unwrap_or_default())))
    }
}

impl Iterator for Scan {
    type Item = Result<(Bytes, Bytes)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_at(Direction::Forward)
    }
}

impl DoubleEndedIterator for Scan {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.next_at(Direction::Reverse)
    }
}

impl fmt::Debug for Scan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scan").field("request", &self.request).field("failure", &self.failure).finish_non_exhaustive()
    }
}
