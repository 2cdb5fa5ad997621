//! Which versions lie in which segment, in memory, so that a reader starts where it needs to.

use thermocline_tier::Version;

use crate::encoder::Span;
use crate::layout::{Position, SegmentHeader};

/// Marks within a segment lie at least so far apart, in bytes.
const MARK_DISTANCE: u64 = 1 << 20;

/// The segments of a log, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Index {
    segments: Vec<SegmentEntry>,
}

/// One segment.
#[derive(Clone, Debug)]
pub(crate) struct SegmentEntry {
    pub(crate) header: SegmentHeader,
    /// Where the written groups end.
    pub(crate) end: Position,
    /// The last version in it or before it.
    pub(crate) last: Version,
    /// Places where a group begins, with the first version of that group or a later one.
    marks: Vec<(Version, u64)>,
}

impl Index {
    /// Adds a segment behind the others.
    pub(crate) fn push(&mut self, header: SegmentHeader) {
        let last = self.last();
        self.segments.push(SegmentEntry { header, end: header.start(), last, marks: Vec::new() });
    }

    /// Takes the newest segment out, for one that is replaced.
    pub(crate) fn pop(&mut self) {
        self.segments.pop();
    }

    /// Notes a group in the newest segment.
    pub(crate) fn note(&mut self, span: Span) {
        let Some(segment) = self.segments.last_mut() else { return };
        segment.last = span.last;
        if segment.marks.last().is_none_or(|&(_, offset)| span.offset >= offset + MARK_DISTANCE) {
            segment.marks.push((span.first, span.offset));
        }
    }

    /// The newest segment is written up to `end`.
    pub(crate) fn set_end(&mut self, end: Position) {
        if let Some(segment) = self.segments.last_mut() {
            segment.end = end;
        }
    }

    /// Forgets what lies in the newest segment from `end` on.
    pub(crate) fn cut(&mut self, end: Position, last: Version) {
        if let Some(segment) = self.segments.last_mut() {
            segment.end = end;
            segment.last = last;
            segment.marks.retain(|&(_, offset)| offset < end.offset);
        }
    }

    /// The last version in the log.
    pub(crate) fn last(&self) -> Version {
        self.segments.last().map_or(Version::ZERO, |segment| segment.last)
    }

    pub(crate) fn segments(&self) -> &[SegmentEntry] {
        &self.segments
    }

    /// The segment that holds the first version above `since`, if any does, and a place at or before it where a group begins. A
    /// segment without such a version but with room for it counts if it is the newest.
    pub(crate) fn find(&self, since: Version) -> Option<(SegmentEntry, u64)> {
        let index = self.segments.partition_point(|segment| segment.last <= since).min(self.segments.len().checked_sub(1)?);
        let segment = self.segments.get(index)?;
        let mark = segment.marks.partition_point(|&(first, _)| first <= since).checked_sub(1);
        let offset = mark.and_then(|mark| segment.marks.get(mark)).map_or(segment.header.start().offset, |&(_, offset)| offset);
        Some((segment.clone(), offset))
    }

    /// The segment after the one with this number.
    pub(crate) fn after(&self, number: u64) -> Option<SegmentEntry> {
        let index = self.segments.partition_point(|segment| segment.header.number <= number);
        self.segments.get(index).cloned()
    }

    /// Where the written groups of this segment end.
    pub(crate) fn end_of(&self, number: u64) -> Option<Position> {
        let index = self.segments.binary_search_by_key(&number, |segment| segment.header.number).ok()?;
        self.segments.get(index).map(|segment| segment.end)
    }
}
