//! Memory as a slice of atomic words.

#[cfg(not(loom))]
use crate::arena::block::Block;
pub(crate) use crate::arena::block::Pages;
use crate::meter::Meter;
use crate::sync::AtomicU64;

/// Zeroed atomic words at a fixed address.
#[derive(Debug)]
pub(crate) struct Words {
    #[cfg(not(loom))]
    block: Block,
    #[cfg(loom)]
    words: Box<[AtomicU64]>,
}

#[cfg(not(loom))]
impl Words {
    /// `len` zeroed words; `None` if there is no memory for them.
    pub(crate) fn new(len: usize, pages: Pages, meter: &Meter) -> Option<Self> {
        Some(Self { block: Block::new(len, pages, meter)? })
    }

    /// All the words.
    #[inline]
    pub(crate) fn as_slice(&self) -> &[AtomicU64] {
        let (start, len) = (self.block.start_words().cast::<AtomicU64>(), self.block.size_bytes() / 8);
        // SAFETY: the block is `len` words of initialised (zeroed) memory, aligned for them, and lives as long as the borrow of
        // `self`; this is the only view of it ever made, and atomics may be written through a shared reference.
        unsafe { std::slice::from_raw_parts(start, len) }
    }

    /// Counts the memory of the first `len` words, if it is counted as it is touched.
    pub(crate) fn touch(&self, len: usize) {
        self.block.touch(len * 8);
    }
}

#[cfg(loom)]
impl Words {
    pub(crate) fn new(len: usize, _pages: Pages, _meter: &Meter) -> Option<Self> {
        Some(Self { words: (0..len).map(|_| AtomicU64::new(0)).collect() })
    }

    pub(crate) fn as_slice(&self) -> &[AtomicU64] {
        &self.words
    }

    pub(crate) fn touch(&self, _len: usize) {}
}

/// Asks for the cache line of `word`.
#[inline]
pub(crate) fn prefetch(word: &AtomicU64) {
    super::prefetch(std::ptr::from_ref(word));
}
