//! The rows of a range as an iterator from both ends.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
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
    front: Option<Side>,
    back: Option<Side>,
    /// The ends have met.
    is_over: bool,
    failure: Option<Error>,
}

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
    fn open(snapshot: &Snapshot, request: RangeRequest) -> Result<Self> {
        let scan = Arc::clone(snapshot.inner.storage.view().merged()?).scan(request)?;
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
        Self { snapshot, request, hidden_below, front: None, back: None, is_over: false, failure: None }
    }

    /// The next visible row at one end, whatever the other end has handed out.
    fn advance(&mut self, direction: Direction) -> Result<Option<Row>> {
        let slot = if direction == Direction::Forward { &mut self.front } else { &mut self.back };
        let side = match slot {
            Some(side) => side,
            None => slot.insert(Side::open(&self.snapshot, RangeRequest { direction, ..self.request.clone() })?),
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
