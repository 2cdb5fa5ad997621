//! Which versions lie in which segment, in memory, so that a reader starts where it needs to.

use thermocline_tier::Version;

use crate::encoder::Span;
use crate::layout::{Position, SegmentHeader};

/// Marks within a segment lie at least so far apart, in bytes: a reader passes over so much at most, and how much lies ahead of a
/// consumer is known as exactly. A mark takes 16 bytes.
const MARK_DISTANCE: u64 = 64 << 10;

/// The segments of a log, oldest first.
#[derive(Debug)]
pub(crate) struct Index {
    /// The last version before the first segment: what has been cut off, or [`Version::ZERO`].
    before: Version,
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
    /// Without segments yet; the first one follows on this version.
    pub(crate) fn new(before: Version) -> Self {
        Self { before, segments: Vec::new() }
    }

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
        self.segments.last().map_or(self.before, |segment| segment.last)
    }

    /// The last version before the first segment.
    pub(crate) fn before(&self) -> Version {
        self.before
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

    /// Where the written groups of this segment end; `None` if there is no such segment, or not any more.
    pub(crate) fn end_of(&self, number: u64) -> Option<Position> {
        self.segments.get(self.place_of(number)?).map(|segment| segment.end)
    }

    /// The last version before this segment; `None` as for [`end_of`](Self::end_of).
    pub(crate) fn before_segment(&self, number: u64) -> Option<Version> {
        Some(self.before_place(self.place_of(number)?))
    }

    /// The latest segment such that those from it on, without the newest, hold at least so many bytes; the first if all together do
    /// not. With the last version before it. `None` if there is no segment.
    pub(crate) fn keeping(&self, bytes: u64) -> Option<(u64, Version)> {
        let mut place = self.segments.len().checked_sub(1)?;
        let mut kept: u64 = 0;
        while kept < bytes && place > 0 {
            place -= 1;
            kept = kept.saturating_add(self.segments.get(place)?.end.offset);
        }
        Some((self.segments.get(place)?.header.number, self.before_place(place)))
    }

    /// How many bytes there are from the place on where a reader of what is above `since` begins: all of it, and a little before. Enough
    /// for [`keeping`](Self::keeping) to keep it.
    pub(crate) fn bytes_above(&self, since: Version) -> u64 {
        let Some((first, offset)) = self.find(since).filter(|_| since < self.last()) else { return 0 };
        let after = self.segments.iter().filter(|segment| segment.header.number > first.header.number);
        let after: u64 = after.map(|segment| segment.end.offset).sum();
        first.end.offset.saturating_sub(offset).saturating_add(after)
    }

    /// Forgets the segments before this one, and returns their numbers.
    pub(crate) fn remove_before(&mut self, number: u64) -> Vec<u64> {
        let place = self.segments.partition_point(|segment| segment.header.number < number);
        self.before = self.before_place(place);
        self.segments.drain(..place).map(|segment| segment.header.number).collect()
    }

    fn place_of(&self, number: u64) -> Option<usize> {
        self.segments.binary_search_by_key(&number, |segment| segment.header.number).ok()
    }

    fn before_place(&self, place: usize) -> Version {
        place.checked_sub(1).and_then(|place| self.segments.get(place)).map_or(self.before, |segment| segment.last)
    }
}

#[cfg(test)]
mod tests {
    use thermocline_format::StoreId;

    use super::*;
    use crate::options::Padding;

    /// Segments 3, 5 and 8 behind version 10; each ends at byte 5,000, and their last versions are 20, 20 and 30.
    fn index() -> Index {
        let mut index = Index::new(Version(10));
        for (number, last) in [(3, 20), (5, 0), (8, 30)] {
            let (store, padding) = (StoreId([1; 16]), Padding::None);
            index.push(SegmentHeader {
                store,
                number,
                first_sequence: 1,
                previous: None,
                carried_end: 4096,
                replaces: None,
                padding,
            });
            if last > 0 {
                index.note(Span { offset: 4096, first: Version(last), last: Version(last) });
            }
            index.set_end(Position { offset: 5_000, sequence: 2, chain: 0 });
        }
        index
    }

    #[test]
    fn segments_are_kept_until_those_before_the_newest_hold_enough() {
        let index = index();
        for (bytes, number, before) in
            [(0, 8, 20), (1, 5, 20), (5_000, 5, 20), (5_001, 3, 10), (10_000, 3, 10), (10_001, 3, 10), (u64::MAX, 3, 10)]
        {
            assert_eq!(index.keeping(bytes), Some((number, Version(before))), "{bytes} bytes");
        }
        assert_eq!(Index::new(Version(1)).keeping(0), None);
    }

    #[test]
    fn what_is_above_a_version_is_kept_by_its_bytes() {
        let index = index();
        let segments = [(9, 3, 10), (10, 3, 10), (19, 3, 10), (20, 5, 20), (29, 5, 20), (30, 8, 20)];
        for (since, number, before) in segments {
            let kept = index.keeping(index.bytes_above(Version(since)));
            assert!(kept.is_some_and(|kept| kept.0 <= number && kept.1 <= Version(before)), "above {since}: {kept:?}");
        }
        assert_eq!([10, 20, 30].map(|since| index.bytes_above(Version(since))), [904 + 10_000, 904, 0]);
        assert_eq!(Index::new(Version(1)).bytes_above(Version(1)), 0);
    }

    #[test]
    fn what_is_removed_is_known_by_its_last_version() {
        let mut index = index();
        assert_eq!((index.before(), index.last()), (Version(10), Version(30)));
        assert_eq!(index.remove_before(3), [] as [u64; 0]);
        assert_eq!((index.before(), index.before_segment(5)), (Version(10), Some(Version(20))));
        assert_eq!(index.remove_before(8), [3, 5]);
        assert_eq!((index.before(), index.last(), index.before_segment(8)), (Version(20), Version(30), Some(Version(20))));
        assert_eq!((index.before_segment(5), index.end_of(3)), (None, None));
        index.pop();
        assert_eq!(index.last(), Version(20));
    }
}
