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

impl<T> Table<T> {
    /// An empty table; `None` if there is no memory.
    pub(crate) fn new(meter: &Meter) -> Option<Self> {
        let block = Block::new(TABLE_LEN, Pages::Lazy, meter)?;
        block.touch(1);
        Some(Self { block, len: AtomicUsize::new(0), owned: PhantomData })
    }

    /// Entry `index`, which must be below `TABLE_LEN`.
    #[inline]
    fn entry(&self, index: usize) -> &AtomicPtr<T> {
        assert!(index < TABLE_LEN, "the number of a chunk has too many bits");
        // SAFETY: the block has TABLE_LEN words, and `index` is below.
        let entry = unsafe { self.block.start_words().cast::<AtomicPtr<T>>().add(index) };
        // SAFETY: the word is zeroed, which is a null pointer, or was set as one; it is aligned and as wide (asserted below); it lives
        // as long as `self`, and nobody refers to it but as an atomic pointer.
        unsafe { &*entry }
    }

    /// Element `index`.
    #[inline]
    pub(crate) fn get(&self, index: u32) -> Option<&T> {
        let pointer = self.entry(index as usize).load(Ordering::Acquire);
        // SAFETY: a pointer in the table is null or came from `Box::into_raw` in `push`, whose content happened before the release
        // store of it; it is freed only when the table is dropped, which the borrow of `self` excludes, and only shared until then.
        unsafe { pointer.as_ref() }
    }

    /// Appends an element. False, and nothing done, if the table is full.
    pub(crate) fn push(&self, element: T) -> bool {
        let index = self.len.fetch_add(1, Ordering::Relaxed);
        if index >= TABLE_LEN {
            self.len.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        self.block.touch((index + 1) * 8);
        self.entry(index).store(Box::into_raw(Box::new(element)), Ordering::Release);
        true
    }
}

impl<T> Drop for Table<T> {
    fn drop(&mut self) {
        for index in 0..*self.len.get_mut() {
            let pointer = self.entry(index).load(Ordering::Acquire);
            // SAFETY: every entry below `len` was set by `push` from `Box::into_raw`, and is freed only here, where `&mut self`
            // excludes readers.
            drop(unsafe { Box::from_raw(pointer) });
        }
    }
}

const _: () = assert!(size_of::<usize>() == 8, "offsets and pointers are taken to be of 64 bits");

// SAFETY: the table owns its elements, gives out shared references to them on any thread, and drops them on any thread.
unsafe impl<T: Send + Sync> Send for Table<T> {}
// SAFETY: as above; `push` takes an element from any thread.
unsafe impl<T: Send + Sync> Sync for Table<T> {}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::{TABLE_LEN, Table};
    use crate::meter::Meter;

    #[test]
    fn a_table_owns_what_was_pushed_and_refuses_more_than_it_can_hold() {
        let meter = Meter::default();
        let table = Table::new(&meter).unwrap();
        assert_eq!(table.get(0), None);
        for index in 0..TABLE_LEN {
            assert!(table.push(index.to_string()));
        }
        assert!(!table.push(String::new()));
        assert_eq!(table.get(7).map(String::as_str), Some("7"));
        drop(table);
        assert_eq!(meter.bytes(), 0);
    }
}
