//! From a chunk's number to the chunk, in one load.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use crate::arena::block::{Block, Pages};
use crate::meter::Meter;

/// The entries of a table: with chunks of 2 MiB, 32 GiB.
#[cfg(not(any(miri, loom)))]
pub(crate) const TABLE_LEN: usize = 1 << 14;
/// The entries of a table.
#[cfg(any(miri, loom))]
pub(crate) const TABLE_LEN: usize = 1 << 8;

/// A list that only grows, whose elements never move: appended to by one writer, read without locks.
#[derive(Debug)]
pub(crate) struct Table<T> {
    /// `TABLE_LEN` pointers, null (zero) where none was set. The pages that hold only those are never touched.
    block: Block,
    len: AtomicUsize,
    owned: PhantomData<Box<T>>,
}

impl<T: Send + Sync> Table<T> {
    /// An empty table; `None` if there is no memory.
    pub(crate) fn new(meter: &Meter) -> Option<Self> {
        let block = Block::new(TABLE_LEN, Pages::Lazy, meter)?;
        block.touch(1);
        Some(Self { block, len: AtomicUsize::new(0), owned: PhantomData })
    }

    #[inline]
    fn pointers(&self) -> &[AtomicPtr<T>; TABLE_LEN] {
        let start = self.block.start_words().cast::<[AtomicPtr<T>; TABLE_LEN]>();
        // SAFETY: the block is TABLE_LEN words of zeroed memory, which are null pointers, aligned and as wide (the crate supports
        // 64-bit targets, asserted below); it lives as long as `self`, and this is the only view of it.
        unsafe { &*start }
    }

    /// Element `index`.
    #[inline]
    pub(crate) fn get(&self, index: u32) -> Option<&T> {
        let pointer = self.pointers().get(index as usize)?.load(Ordering::Acquire);
        // SAFETY: a pointer in the table is null or came from `Box::into_raw` in `push`, whose content happened before the release
        // store of it; it is freed only when the table is dropped, which the borrow of `self` excludes, and only shared until then.
        unsafe { pointer.as_ref() }
    }

    /// Appends an element. False, and nothing done, if the table is full.
    pub(crate) fn push(&self, element: T) -> bool {
        let index = self.len.fetch_add(1, Ordering::Relaxed);
        let Some(slot) = self.pointers().get(index) else {
            self.len.fetch_sub(1, Ordering::Relaxed);
            return false;
        };
        self.block.touch((index + 1) * 8);
        slot.store(Box::into_raw(Box::new(element)), Ordering::Release);
        true
    }
}

impl<T> Drop for Table<T> {
    fn drop(&mut self) {
        let start = self.block.start_words().cast::<AtomicPtr<T>>();
        for index in 0..*self.len.get_mut() {
            // SAFETY: `len` never exceeds TABLE_LEN, and the block has so many words.
            let slot = unsafe { start.add(index) };
            // SAFETY: as in `pointers`: a zeroed or set, aligned pointer; `&mut self` excludes any other use.
            let pointer = unsafe { (*slot).load(Ordering::Acquire) };
            // SAFETY: every slot below `len` was set by `push` from `Box::into_raw`, and is freed only here.
            drop(unsafe { Box::from_raw(pointer) });
        }
    }
}

const _: () = assert!(size_of::<usize>() == 8, "offsets and pointers are taken to be of 64 bits");
