//! Reading ahead: blocks that lie one behind the other come with one read of the file, and are checked and decoded one by one, when their
//! turn comes.

use std::ops::Range;

use thermocline_io::Reason;
use thermocline_tier::{Direction, Result};

use crate::cache::Block;
use crate::index::Index;
use crate::layout::{Place, to_u64};
use crate::segment::Segment;

/// Who has read so many blocks, one after the other, will probably go on.
pub(crate) const STREAM_BLOCKS_MIN: usize = 8;
/// What all sources of a scan may hold together, unless they are so many that the least for each is more.
pub(crate) const SCAN_SIZE_BYTES_MAX: u64 = 512 << 10;
/// The same for a part of a rewrite.
pub(crate) const REWRITE_SIZE_BYTES_MAX: u64 = 1 << 20;
/// What each source may hold, however many there are. A block that is longer is read alone.
const SIZE_BYTES_RANGE: (u64, u64) = (16 << 10, 128 << 10);

/// What each of so many may read ahead, if together they may hold `size_bytes`.
pub(crate) fn share(size_bytes: u64, count: usize) -> u64 {
    let (min, max) = SIZE_BYTES_RANGE;
    (size_bytes / to_u64(count).max(1)).clamp(min, max)
}

/// The bytes of blocks as they lie in a file, of which some were not asked for yet.
#[derive(Debug)]
pub(crate) struct Ahead {
    size_bytes_max: u64,
    offset: u64,
    bytes: Vec<u8>,
}

impl Ahead {
    /// Of its [`share`].
    pub(crate) fn new(size_bytes_max: u64) -> Self {
        Self { size_bytes_max, offset: 0, bytes: Vec::new() }
    }

    /// The bytes of a frame, if they were read.
    fn get(&self, place: &Place) -> Option<&[u8]> {
        let start = usize::try_from(place.offset.checked_sub(self.offset)?).ok()?;
        self.bytes.get(start..)?.get(..place.frame_len())
    }

    /// Forgets what was read, and gives the memory back.
    pub(crate) fn clear(&mut self) {
        *self = Self::new(self.size_bytes_max);
    }

    /// A block by its number among both kinds. If it was not read ahead, it is read with those that lie beside it in the direction, as long as
    /// these are wanted. What is wrong with one of them is found when it is asked for.
    pub(crate) fn block(
        &mut self,
        segment: &Segment,
        index: &Index,
        number: u32,
        direction: Direction,
        is_wanted: impl Fn(u32) -> bool,
        reason: Reason,
    ) -> Result<Block> {
        let Some(place) = index.place(number) else { return segment.load_block(index, number, reason) };
        if self.get(&place).is_none() {
            let run = self.run(index, number, &place, direction, is_wanted);
            self.clear();
            if run != (place.offset..place.end()) {
                let len = usize::try_from(run.end.saturating_sub(run.start)).unwrap_or(usize::MAX);
                match segment.read_at(run.start, len, reason) {
                    Ok(bytes) => (self.offset, self.bytes) = (run.start, bytes),
                    // The block alone may still be there; and if it is not, the error is about it.
                    Err(error) => tracing::debug!(%error, "could not read ahead"),
                }
            }
        }
        match self.get(&place) {
            Some(bytes) => segment.open_block(index, &place, bytes),
            None => segment.load_block(index, number, reason),
        }
    }

    /// The bytes of a block and of those that lie beside it in the direction without anything between.
    fn run(
        &self,
        index: &Index,
        number: u32,
        place: &Place,
        direction: Direction,
        is_wanted: impl Fn(u32) -> bool,
    ) -> Range<u64> {
        let mut run = place.offset..place.end();
        let mut number = number;
        loop {
            let next = match direction {
                Direction::Forward => number.checked_add(1),
                Direction::Reverse => number.checked_sub(1),
            };
            let Some(next) = next.filter(|next| is_wanted(*next)) else { return run };
            let Some(place) = index.place(next) else { return run };
            let is_beside = match direction {
                Direction::Forward => place.offset == run.end,
                Direction::Reverse => place.end() == run.start,
            };
            let longer = run.start.min(place.offset)..run.end.max(place.end());
            if !is_beside || longer.end - longer.start > self.size_bytes_max {
                return run;
            }
            (run, number) = (longer, next);
        }
    }
}
