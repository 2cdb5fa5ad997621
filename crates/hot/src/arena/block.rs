//! A block of zeroed memory at a fixed address.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;

use thermocline_io::memory::{Anonymous, HugePages};

use crate::meter::{Meter, Metered};

/// Blocks from this size on come from the system rather than the heap.
const MAPPED_SIZE_BYTES_MIN: usize = 128 << 10;
/// The size of a huge page: a block of so many bytes or more asks for them.
const HUGE_PAGE_BYTES: usize = 2 << 20;
/// The size of an ordinary page: what memory is touched by.
const PAGE_BYTES: usize = 4096;

/// How the pages of a block come to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pages {
    /// All are counted as held from the start; huge ones if the block is large enough.
    Whole,
    /// One at a time as they are first touched, and counted so: [`Block::touch`].
    Lazy,
}

/// Zeroed memory, aligned for words, given back when dropped. It hands out its address and makes no reference to its bytes.
#[derive(Debug)]
pub(super) struct Block {
    start: NonNull<u64>,
    size_bytes: usize,
    /// `None`: from the heap.
    mapping: Option<Anonymous>,
    metered: Metered,
}

// SAFETY: a block is an address, a length and the duty to give the memory back, none of which depends on a thread; what is read
// and written behind the address is up to its users.
unsafe impl Send for Block {}
// SAFETY: as above; nothing of the block itself changes after `new` but an atomic count.
unsafe impl Sync for Block {}

impl Block {
    /// A block of `words` eight-byte words; `None` if the machine has no memory left for it.
    pub(super) fn new(words: usize, pages: Pages, meter: &Meter) -> Option<Self> {
        let size_bytes = words.checked_mul(8)?;
        if size_bytes >= MAPPED_SIZE_BYTES_MIN && !cfg!(miri) {
            let mapping = Anonymous::new(size_bytes).ok()?;
            if pages == Pages::Whole && size_bytes >= HUGE_PAGE_BYTES {
                match mapping.advise_huge_pages() {
                    // Smaller pages work as well, only slower.
                    HugePages::Advised | HugePages::Refused => {}
                }
            }
            let start = NonNull::new(mapping.as_ptr())?.cast();
            let metered = meter.count(if pages == Pages::Whole { size_bytes } else { 0 });
            return Some(Self { start, size_bytes, mapping: Some(mapping), metered });
        }
        let layout = Layout::array::<u64>(words).ok().filter(|layout| layout.size() > 0)?;
        // SAFETY: the layout is of at least one byte.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) })?.cast();
        Some(Self { start, size_bytes, mapping: None, metered: meter.count(size_bytes) })
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

    /// Counts the pages of the first `bytes`, which are about to be touched.
    pub(super) fn touch(&self, bytes: usize) {
        self.metered.grow_to(bytes.next_multiple_of(PAGE_BYTES).min(self.size_bytes));
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if self.mapping.is_none() {
            // The layout of `new`, which was valid there.
            let Ok(layout) = Layout::array::<u64>(self.size_bytes / 8) else { return };
            // SAFETY: without a mapping the memory is from `alloc_zeroed` in `new`, with this layout, and given back only here.
            unsafe { dealloc(self.start.as_ptr().cast(), layout) };
        }
    }
}
