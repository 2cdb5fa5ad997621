//! Buffers of decompressed blocks, used again: a cached block is often freed by another thread than the one that reads the next, and an
//! allocator with a heap for each thread would keep the memory of both.

use std::sync::Arc;

use bytes::Bytes;
use thermocline_io::sync::Mutex;

/// A block begins at a cache line: its own lines are aligned to those of the processor.
const ALIGNMENT: usize = 64;
/// The sizes of buffers are multiples of this, so that those of full blocks are alike.
const SIZE_STEP_BYTES: usize = 1 << 10;
/// Those that are used again; smaller and larger ones are left to the allocator.
const SIZES_BYTES: std::ops::Range<usize> = 4 << 10..32 << 10;
/// So many wait for use at most. Mostly it is one: a new block takes the place of another.
const FREE_MAX: usize = 16;

/// Those that nobody uses. The oldest comes first.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    free: Mutex<Vec<Vec<u8>>>,
}

/// Room for one block.
#[derive(Debug)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
    home: Arc<Buffers>,
}

impl Buffers {
    /// What a buffer for a block of so many bytes takes.
    pub(crate) fn size_bytes(len: usize) -> usize {
        let least = len + ALIGNMENT;
        if SIZES_BYTES.contains(&least) { least.next_multiple_of(SIZE_STEP_BYTES) } else { least }
    }

    /// A buffer for a block of so many bytes, which hold anything.
    pub(crate) fn take(self: &Arc<Self>, len: usize) -> Buffer {
        let size = Self::size_bytes(len);
        let used = SIZES_BYTES.contains(&size).then(|| {
            let mut free = self.free.lock();
            free.iter().rposition(|bytes| bytes.len() == size).map(|found| free.remove(found))
        });
        let bytes = used.flatten().unwrap_or_else(|| vec![0; size]);
        let start = bytes.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        Buffer { bytes, start, len, home: Arc::clone(self) }
    }

    fn give_back(&self, bytes: Vec<u8>) {
        if SIZES_BYTES.contains(&bytes.len()) {
            let mut free = self.free.lock();
            if free.len() == FREE_MAX {
                // Of a size that is asked for no more, or one of a burst.
                free.remove(0);
            }
            free.push(bytes);
        }
    }
}

impl Buffer {
    pub(crate) fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }

    /// The block. Its buffer is used again when the last slice of it is gone.
    pub(crate) fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.home.give_back(std::mem::take(&mut self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(buffers: &Arc<Buffers>, len: usize, with: u8) -> Bytes {
        let mut buffer = buffers.take(len);
        buffer.as_mut().fill(with);
        buffer.into_bytes()
    }

    #[test]
    fn buffer_is_used_again_when_the_last_slice_is_gone_and_not_before() {
        let buffers = Arc::new(Buffers::default());
        let first = filled(&buffers, 16_000, 1);
        assert_eq!(first.as_ptr().align_offset(ALIGNMENT), 0);
        let (place, value) = (first.as_ptr(), first.slice(100..200));
        drop(first);
        let second = filled(&buffers, 16_000, 2);
        assert_ne!(second.as_ptr(), place);
        assert_eq!(value, vec![1; 100]);
        drop(value);
        // A block that differs a little fits too.
        let third = filled(&buffers, 16_050, 3);
        assert_eq!((third.as_ptr(), third.len()), (place, 16_050));
        assert_eq!(second, vec![2; 16_000]);
    }

    #[test]
    fn few_are_kept_and_those_of_other_sizes_leave() {
        let buffers = Arc::new(Buffers::default());
        let free = || buffers.free.lock().iter().map(Vec::len).collect::<Vec<_>>();
        drop((0..2 * FREE_MAX).map(|_| filled(&buffers, 8000, 1)).collect::<Vec<_>>());
        assert_eq!(free(), [Buffers::size_bytes(8000); FREE_MAX]);
        drop((0..FREE_MAX).map(|_| filled(&buffers, 16_000, 1)).collect::<Vec<_>>());
        assert_eq!(free(), [Buffers::size_bytes(16_000); FREE_MAX]);
        // Tiny and huge ones are the allocator's.
        drop([filled(&buffers, 0, 1), filled(&buffers, 100, 1), filled(&buffers, 100_000, 1)]);
        assert_eq!(free(), [Buffers::size_bytes(16_000); FREE_MAX]);
    }
}
