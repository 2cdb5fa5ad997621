//! One state, replaced now and then, read all the time.
//!
//! A reader enters a slot (one of 64, by its thread), loads the pointer, reads, and leaves. A replaced state is given back when every slot
//! has once been seen empty since: whoever was in it has left, and whoever entered later loads the new pointer. That holds since all four
//! steps (enter, load; replace, look at the slot) are sequentially consistent: if the look does not see a reader, then that reader's load comes after
//! the replacement. A count for each reader, as `Arc` keeps it, would have all threads meet at one cache line.

use std::cell::Cell as ThreadCell;
use std::sync::atomic::{AtomicUsize as ThreadCounter, Ordering as ThreadOrdering};

use thermocline_io::sync::Mutex;

use crate::sync::{AtomicPtr, AtomicU64, Ordering};

/// Slots for readers. Threads beyond share them, which delays giving back, and nothing else.
const SLOTS: usize = if cfg!(loom) { 2 } else { 64 };

/// The readers inside, of the threads of one slot. Alone in its cache lines.
#[derive(Debug)]
#[repr(align(128))]
struct Slot {
    readers: AtomicU64,
}

/// Leaves the slot also when a reader unwinds.
struct Inside<'a>(&'a Slot);

impl Drop for Inside<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.readers.fetch_sub(1, Ordering::Release);
    }
}

/// A replaced state, and the slots, one a bit, that have not been seen empty since.
#[derive(Debug)]
struct Retired<T> {
    pointer: *mut T,
    occupied: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Cell<T> {
    current: AtomicPtr<T>,
    slots: Box<[Slot]>,
    retired: Mutex<Vec<Retired<T>>>,
}

// SAFETY: the cell owns its states and gives out shared references to them on any thread, and drops them on any thread.
unsafe impl<T: Send + Sync> Send for Cell<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Cell<T> {}

/// Loom takes sequentially consistent accesses for acquire and release only; fences it knows.
#[inline]
fn loom_fence() {
    #[cfg(loom)]
    crate::sync::fence(Ordering::SeqCst);
}

/// The slot of this thread.
#[inline]
fn own_slot() -> usize {
    static THREADS: ThreadCounter = ThreadCounter::new(0);
    thread_local! {
        static SLOT: ThreadCell<usize> = const { ThreadCell::new(usize::MAX) };
    }
    SLOT.with(|slot| {
        if slot.get() == usize::MAX {
            slot.set(THREADS.fetch_add(1, ThreadOrdering::Relaxed) % SLOTS);
        }
        slot.get()
    })
}

impl<T: Send + Sync> Cell<T> {
    pub(crate) fn new(state: T) -> Self {
        let slots = (0..SLOTS).map(|_| Slot { readers: AtomicU64::new(0) }).collect();
        Self { current: AtomicPtr::new(Box::into_raw(Box::new(state))), slots, retired: Mutex::new(Vec::new()) }
    }

    /// Runs `read` on the current state, which stays as long as it runs.
    #[inline]
    pub(crate) fn read<R>(&self, read: impl FnOnce(&T) -> R) -> R {
        let slot = &self.slots[own_slot() % SLOTS];
        slot.readers.fetch_add(1, Ordering::SeqCst);
        loom_fence();
        let inside = Inside(slot);
        let pointer = self.current.load(Ordering::SeqCst);
        // SAFETY: the pointer came from `Box::into_raw` and is freed by `collect` only after this slot was seen empty after the pointer's
        // replacement, or by dropping the cell. This thread is in the slot, and came before it loaded the pointer, so `collect`
        // sees it or replaced the pointer before the load (see the module); the borrow of `self` excludes dropping.
        let state = unsafe { &*pointer };
        let answer = read(state);
        drop(inside);
        answer
    }

    /// Replaces the state. The old one is given back when its readers have left, in this call or a later one.
    pub(crate) fn replace(&self, state: T) {
        let old = self.current.swap(Box::into_raw(Box::new(state)), Ordering::SeqCst);
        self.retired.lock().push(Retired { pointer: old, occupied: u64::MAX >> (64 - SLOTS) });
        self.collect();
    }

    /// Gives back the replaced states whose readers have left; answers whether some are left.
    pub(crate) fn collect(&self) -> bool {
        let mut retired = self.retired.lock();
        loom_fence();
        retired.retain_mut(|old| {
            for (index, slot) in self.slots.iter().enumerate() {
                if old.occupied & 1 << index != 0 && slot.readers.load(Ordering::SeqCst) == 0 {
                    old.occupied &= !(1 << index);
                }
            }
            if old.occupied == 0 {
                // The readers' last accesses happened before they left; seeing them gone, with `SeqCst`, acquires that.
                // SAFETY: the pointer came from `Box::into_raw`, is no longer `current`, is in the list once, and nobody reads
                // it any more (see the module).
                drop(unsafe { Box::from_raw(old.pointer) });
            }
            old.occupied != 0
        });
        !retired.is_empty()
    }
}

impl<T> Drop for Cell<T> {
    fn drop(&mut self) {
        let current = self.current.load(Ordering::SeqCst);
        let pointers = self.retired.get_mut().drain(..).map(|old| old.pointer).chain([current]);
        for pointer in pointers {
            // SAFETY: each came from `Box::into_raw`, once; `&mut self` excludes readers.
            drop(unsafe { Box::from_raw(pointer) });
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;

    use super::Cell;

    #[test]
    fn a_replaced_state_lives_as_long_as_its_readers_and_no_longer() {
        let (first, second) = (Arc::new(1), Arc::new(2));
        let cell = Cell::new(Arc::clone(&first));
        cell.read(|state| {
            cell.replace(Arc::clone(&second));
            assert_eq!((**state, Arc::strong_count(&first)), (1, 2));
            assert!(cell.collect());
            cell.read(|inner| assert_eq!(**inner, 2));
        });
        assert!(!cell.collect());
        assert_eq!((Arc::strong_count(&first), Arc::strong_count(&second)), (1, 2));
        drop(cell);
        assert_eq!(Arc::strong_count(&second), 1);
    }
}
