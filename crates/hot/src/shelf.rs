//! A list that only grows and is read without locks.

use std::sync::OnceLock;

/// The length of the first segment; each further one is twice as long.
const SEGMENT_LEN_FIRST: u32 = 8;
/// Enough segments for every index of 31 bits.
const SEGMENTS: usize = 28;

/// A list whose elements are set once, in any order, and never move. Reading one costs two loads that are usually in cache.
#[derive(Debug)]
pub(crate) struct Shelf<T> {
    segments: [OnceLock<Box<[OnceLock<T>]>>; SEGMENTS],
}

/// The segment of an index, and the place in it.
fn place(index: u32) -> (usize, usize) {
    let shifted = index + SEGMENT_LEN_FIRST;
    let segment = shifted.ilog2() - SEGMENT_LEN_FIRST.ilog2();
    (segment as usize, (shifted - (SEGMENT_LEN_FIRST << segment)) as usize)
}

impl<T> Shelf<T> {
    pub(crate) fn new() -> Self {
        Self { segments: [const { OnceLock::new() }; SEGMENTS] }
    }

    /// Element `index`; `None` if it was not set.
    #[inline]
    pub(crate) fn get(&self, index: u32) -> Option<&T> {
        let (segment, within) = place(index);
        self.segments[segment].get()?[within].get()
    }

    /// Sets element `index`; an element that is set stays as it is.
    pub(crate) fn set(&self, index: u32, element: T) -> &T {
        let (segment, within) = place(index);
        let len = (SEGMENT_LEN_FIRST as usize) << segment;
        let slots = self.segments[segment].get_or_init(|| (0..len).map(|_| OnceLock::new()).collect());
        slots[within].get_or_init(|| element)
    }
}

#[cfg(test)]
mod tests {
    use super::{Shelf, place};

    #[test]
    fn places_are_dense_and_distinct() {
        let mut expected = (0, 0);
        for index in 0..5000 {
            assert_eq!(place(index), expected, "index {index}");
            expected.1 += 1;
            if expected.1 == 8 << expected.0 {
                expected = (expected.0 + 1, 0);
            }
        }
    }

    #[test]
    fn elements_stay_where_they_were_set() {
        let shelf = Shelf::new();
        assert_eq!(shelf.get(3), None);
        assert_eq!(*shelf.set(3, "a"), "a");
        assert_eq!(*shelf.set(3, "b"), "a");
        assert_eq!((shelf.get(3), shelf.get(100)), (Some(&"a"), None));
    }
}
