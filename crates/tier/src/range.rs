//! Ranges of keys, windows of versions, and the cursors that page through them.

use std::fmt;
use std::ops::{Bound, RangeBounds};

use bytes::Bytes;

use crate::error::{ErrorKind, Result};
use crate::table::EntryKind;
use crate::version::Version;

/// A range of key prefixes, in byte order, with any bounds.
///
/// ```
/// use thermocline_tier::KeyRange;
///
/// let range = KeyRange::new("a".."c");
/// assert!(range.contains(b"b") && !range.contains(b"c"));
/// assert!(KeyRange::prefix(b"user/").contains(b"user/1"));
/// assert!(KeyRange::all().contains(b""));
/// assert!(KeyRange::new("c".."a").is_empty());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    /// The lower bound.
    pub start: Bound<Bytes>,
    /// The upper bound.
    pub end: Bound<Bytes>,
}

impl KeyRange {
    /// The range between two bounds; `..` is every key. The bounds' bytes are copied.
    pub fn new<K: AsRef<[u8]>>(range: impl RangeBounds<K>) -> Self {
        let copy = |bound: Bound<&K>| bound.map(|key| Bytes::copy_from_slice(key.as_ref()));
        Self { start: copy(range.start_bound()), end: copy(range.end_bound()) }
    }

    /// Every key.
    pub const fn all() -> Self {
        Self { start: Bound::Unbounded, end: Bound::Unbounded }
    }

    /// Every key that begins with `prefix`; an empty one is every key.
    pub fn prefix(prefix: &[u8]) -> Self {
        let kept = prefix.iter().rposition(|byte| *byte != u8::MAX).map_or(0, |last| last + 1);
        let end = match prefix[..kept].split_last() {
            None => Bound::Unbounded,
            Some((last, head)) => {
                let mut successor = head.to_vec();
                successor.push(last + 1);
                Bound::Excluded(Bytes::from(successor))
            }
        };
        Self { start: Bound::Included(Bytes::copy_from_slice(prefix)), end }
    }

    /// Whether no key can lie in the range.
    pub fn is_empty(&self) -> bool {
        match (&self.start, &self.end) {
            (Bound::Unbounded, Bound::Excluded(end)) => end.is_empty(),
            (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
            (Bound::Included(start), Bound::Included(end)) => start > end,
            (Bound::Excluded(start), Bound::Excluded(end)) => {
                // Nothing lies between a key and its immediate successor, the key with a zero byte after it.
                start >= end || (end.len() == start.len() + 1 && end.ends_with(&[0]) && end.starts_with(start))
            }
            (Bound::Included(start) | Bound::Excluded(start), Bound::Included(end) | Bound::Excluded(end)) => start >= end,
        }
    }

    /// Whether `key` lies in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        self.is_after_start(key) && self.is_before_end(key)
    }

    /// Whether `key` is not below the lower bound.
    pub fn is_after_start(&self, key: &[u8]) -> bool {
        match &self.start {
            Bound::Included(start) => key >= &start[..],
            Bound::Excluded(start) => key > &start[..],
            Bound::Unbounded => true,
        }
    }

    /// Whether `key` is not above the upper bound.
    pub fn is_before_end(&self, key: &[u8]) -> bool {
        match &self.end {
            Bound::Included(end) => key <= &end[..],
            Bound::Excluded(end) => key < &end[..],
            Bound::Unbounded => true,
        }
    }
}

/// Which versions a scan looks at.
///
/// ```
/// use thermocline_tier::{ReadWindow, Version};
///
/// assert!(ReadWindow::as_of(Version(5)).selects(Version(5)));
/// assert!(!ReadWindow::between(Version(3), Version(5)).selects(Version(3)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadWindow {
    /// If set, only keys whose newest version at or below `at` is *above* this one are selected.
    pub after: Option<Version>,
    /// The version to read at, inclusive.
    pub at: Version,
}

impl ReadWindow {
    /// The state as of `at`.
    pub const fn as_of(at: Version) -> Self {
        Self { after: None, at }
    }

    /// Of the state as of `at`, the keys whose newest entry was written after `after`.
    pub const fn between(after: Version, at: Version) -> Self {
        Self { after: Some(after), at }
    }

    /// Whether a key whose newest entry at or below `at` has version `newest` belongs to the window.
    pub fn selects(&self, newest: Version) -> bool {
        newest <= self.at && self.after.is_none_or(|after| newest > after)
    }
}

/// The order in which a scan walks keys.
///
/// ```
/// assert_eq!(thermocline_tier::Direction::Reverse.to_string(), "reverse");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Ascending.
    Forward,
    /// Descending.
    Reverse,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Forward => "forward",
            Self::Reverse => "reverse",
        })
    }
}

/// What a scan reads: a range of one table, a window of versions, and a direction.
///
/// ```
/// use thermocline_tier::{Direction, EntryKind, KeyRange, RangeRequest, ReadWindow, Version};
///
/// let request = RangeRequest {
///     table: EntryKind::Multi,
///     range: KeyRange::all(),
///     window: ReadWindow::as_of(Version(9)),
///     direction: Direction::Forward,
/// };
/// assert_eq!(request.clone().into_cursor().request(), &request);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeRequest {
    /// The table.
    pub table: EntryKind,
    /// The keys.
    pub range: KeyRange,
    /// The versions.
    pub window: ReadWindow,
    /// The order.
    pub direction: Direction,
}

impl RangeRequest {
    /// A cursor at the beginning of this scan.
    pub fn into_cursor(self) -> RangeCursor {
        RangeCursor { request: self, last: None, is_exhausted: false }
    }
}

/// Where a scan stands. A small value that holds no lock, no file and no block, so that it can be kept for any time and
/// written out.
///
/// ```
/// use thermocline_tier::{Direction, EntryKind, KeyRange, RangeRequest, ReadWindow, Version};
///
/// let request = RangeRequest {
///     table: EntryKind::Multi,
///     range: KeyRange::all(),
///     window: ReadWindow::as_of(Version::MAX),
///     direction: Direction::Forward,
/// };
/// let mut cursor = request.into_cursor();
/// cursor.advance(b"k", true);
/// assert!(cursor.remaining().contains(b"l") && !cursor.remaining().contains(b"k"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeCursor {
    request: RangeRequest,
    last: Option<Bytes>,
    is_exhausted: bool,
}

impl RangeCursor {
    /// A cursor as it was taken apart by its accessors, to bring one back from bytes.
    pub fn from_parts(request: RangeRequest, last: Option<Bytes>, is_exhausted: bool) -> Self {
        Self { request, last, is_exhausted }
    }

    /// The scan that the cursor belongs to.
    pub fn request(&self) -> &RangeRequest {
        &self.request
    }

    /// The last prefix that was returned; `None` before the first batch.
    pub fn last(&self) -> Option<&Bytes> {
        self.last.as_ref()
    }

    /// Whether the scan has ended. An exhausted cursor stays so, whatever is written later.
    pub fn is_exhausted(&self) -> bool {
        self.is_exhausted
    }

    /// The part of the range that has not been returned yet.
    pub fn remaining(&self) -> KeyRange {
        let mut range = self.request.range.clone();
        if let Some(last) = &self.last {
            match self.request.direction {
                Direction::Forward => range.start = Bound::Excluded(last.clone()),
                Direction::Reverse => range.end = Bound::Excluded(last.clone()),
            }
        }
        range
    }

    /// Moves past `last`, for a tier that has just returned it; without `has_more` the scan has ended.
    pub fn advance(&mut self, last: &[u8], has_more: bool) {
        self.last = Some(Bytes::copy_from_slice(last));
        self.is_exhausted = !has_more;
    }

    /// Ends the scan.
    pub fn exhaust(&mut self) {
        self.is_exhausted = true;
    }

    /// Refuses a scan that the cursor does not belong to.
    ///
    /// # Errors
    /// [`CursorMismatch`](ErrorKind::CursorMismatch) naming what differs: table, start, end, version or direction.
    pub fn check(&self, request: &RangeRequest) -> Result<()> {
        fn differ(what: &'static str, cursor: &impl fmt::Debug, request: &impl fmt::Debug) -> Result<()> {
            let (cursor, request) = (format!("{cursor:?}"), format!("{request:?}"));
            Err(ErrorKind::CursorMismatch { what, cursor, request }.into())
        }
        let own = &self.request;
        if own.table != request.table {
            return differ("table", &own.table, &request.table);
        }
        if own.range.start != request.range.start {
            return differ("start", &own.range.start, &request.range.start);
        }
        if own.range.end != request.range.end {
            return differ("end", &own.range.end, &request.range.end);
        }
        if own.window != request.window {
            return differ("version", &own.window, &request.window);
        }
        self.check_direction(request.direction)
    }

    /// Refuses a cursor that walks the other way, and a batch size of 0: what every tier checks first.
    ///
    /// # Errors
    /// [`CursorMismatch`](ErrorKind::CursorMismatch), [`InvalidArgument`](ErrorKind::InvalidArgument).
    pub fn check_use(&self, direction: Direction, batch_size: usize) -> Result<()> {
        self.check_direction(direction)?;
        check_batch_size(batch_size)
    }

    fn check_direction(&self, direction: Direction) -> Result<()> {
        if self.request.direction == direction {
            return Ok(());
        }
        let (cursor, request) = (self.request.direction.to_string(), direction.to_string());
        Err(ErrorKind::CursorMismatch { what: "direction", cursor, request }.into())
    }
}

/// Refuses a batch size of 0.
pub(crate) fn check_batch_size(batch_size: usize) -> Result<()> {
    if batch_size == 0 {
        return Err(ErrorKind::InvalidArgument { what: "a batch size of 0 can never finish a scan".into() }.into());
    }
    Ok(())
}
