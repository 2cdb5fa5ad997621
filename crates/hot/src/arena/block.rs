//! A block of zeroed memory at a fixed address.

use std::ptr::NonNull;

use thermocline_io::memory::{Anonymous, HugePages};

use crate::meter::{Meter, Metered};

/// Blocks from this size on come from the system rather than the heap, backed by huge pages where it offers them.
pub(crate) const MAPPED_SIZE_BYTES_MIN: usize = 2 << 20;

/// Zeroed memory, aligned for words, given back when dropped. It hands out its address and makes no reference to its bytes.
#[derive(Debug)]
pub(super) struct Block {
    start: NonNull<u64>,
    size_bytes: usize,
    /// `None`: from the heap.
    mapping: Option<Anonymous>,
    _metered: Metered,
}

// SAFETY: a block is an address, a length and the duty to give the memory back, none of which depends on a thread; what is read
// and written behind the address is up to its users, `Words` and `Values`.
unsafe impl Send for Block {}
// SAFETY: as above; nothing of the block itself changes after `new`.
unsafe impl Sync for Block {}

impl Block {
    /// A block of `words` eight-byte words; `None` if the machine has no memory left for it.
    pub(super) fn new(words: usize, meter: &Meter) -> Option<Self> {
        let size_bytes = words.checked_mul(8)?;
        if size_bytes >= MAPPED_SIZE_BYTES_MIN && !cfg!(miri) {
            let mapping = Anonymous::new(size_bytes).ok()?;
            match mapping.advise_huge_pages() {
                // Smaller pages work as well, only slower.
                HugePages::Advised | HugePages::Refused => {}
            }
            let start = NonNull::new(mapping.as_ptr())?.cast();
            return Some(Self { start, size_bytes, mapping: Some(mapping), _metered: meter.count(size_bytes) });
        }
        let mut zeroed: Vec<u64> = Vec::new();
        zeroed.try_reserve_exact(words).ok()?;
        zeroed.resize(words, 0);
        let start = NonNull::from(Box::leak(zeroed.into_boxed_slice())).cast();
        Some(Self { start, size_bytes, mapping: None, _metered: meter.count(size_bytes) })
    }

    /// The first byte. Valid for `size_bytes` as long as the block lives.
    #[inline]
    pub(super) fn start(&self) -> *mut u8 {
        self.start.as_ptr().cast()
    }

    /// The same, as words, for which it is aligned: by the allocator, or as the start of a page.
    #[inline]
    pub(super) fn start_words(&self) -> *mut u64 {
        self.start.as_ptr()
    }

    #[inline]
    pub(super) fn size_bytes(&self) -> usize {
        self.size_bytes
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if self.mapping.is_none() {
            let words = std::ptr::slice_from_raw_parts_mut(self.start.as_ptr(), self.size_bytes / 8);
            // SAFETY: without a mapping the memory is the leaked boxed slice of `new`, of this length, given back only here.
            drop(unsafe { Box::from_raw(words) });
        }
    }
}
