//! The hash index of one table: from key to record, for point reads and updates. It orders nothing.
//!
//! Open addressing with linear probing. A slot is a word: the upper half of the key's hash, and the record's offset. A key's first
//! slot is given by the top bits of that half, so growing walks the old slots in order and reads no key. Slots are set once and never
//! removed: a key without entries stays until its table is rebuilt.

use crate::arena::words::{Words, prefetch};
use crate::key;
use crate::meter::Meter;
use crate::record::Record;
use crate::region::{Region, high, join, low};
use crate::sync::Ordering;

/// Slots of a new table.
const SLOTS_MIN: usize = 16;

/// A hash table of one size; a larger one takes its place when it is two thirds full.
#[derive(Debug)]
pub(crate) struct Index {
    slots: Words,
    /// The bits of a tag below those that choose its first slot.
    shift: u32,
}

/// The upper half of a key's hash: what the index stores of it.
#[inline]
pub(crate) fn tag(key: &[u8], seed: u64) -> u32 {
    high(key::hash(key, seed))
}

impl Index {
    /// An empty index with room for at least `keys`; `None` if there is no memory.
    pub(crate) fn new(keys: usize, meter: &Meter) -> Option<Self> {
        let len = Self::slots_for(keys);
        Some(Self { slots: Words::new(len, meter)?, shift: u32::BITS - len.ilog2() })
    }

    fn slots_for(keys: usize) -> usize {
        (keys + keys / 2 + 1).next_power_of_two().max(SLOTS_MIN)
    }

    /// The bytes of an index for `keys`.
    pub(crate) fn size_bytes_for(keys: usize) -> u64 {
        Self::slots_for(keys) as u64 * 8
    }

    /// Whether `keys` keys are as many as it should hold.
    pub(crate) fn is_full(&self, keys: usize) -> bool {
        keys * 3 >= self.slots.as_slice().len() * 2
    }

    #[inline]
    fn first(&self, tag: u32) -> usize {
        (tag >> self.shift) as usize
    }

    /// Asks for the cache line of a tag's first slot.
    #[inline]
    pub(crate) fn prefetch(&self, tag: u32) {
        if let Some(slot) = self.slots.as_slice().get(self.first(tag)) {
            prefetch(slot);
        }
    }

    /// The records that may be the key's, by their tag, as offsets: a probe for each.
    #[inline]
    pub(crate) fn candidates(&self, tag: u32) -> impl Iterator<Item = u32> + '_ {
        let slots = self.slots.as_slice();
        let mask = slots.len() - 1;
        let mut index = self.first(tag);
        std::iter::from_fn(move || {
            // Ends: less than all slots are taken.
            loop {
                let slot = slots[index & mask].load(Ordering::Acquire);
                index += 1;
                if slot == 0 {
                    return None;
                }
                if high(slot) == tag {
                    return Some(low(slot));
                }
            }
        })
    }

    /// The offset of the key's record.
    #[inline]
    pub(crate) fn find(&self, region: &Region, tag: u32, key: &[u8]) -> Option<u32> {
        self.candidates(tag).find(|at| Record::new(region, *at).is_of(key))
    }

    /// Adds a key that is not there. The record must be complete: readers see it from here on.
    pub(crate) fn insert(&self, tag: u32, record: u32) {
        let slots = self.slots.as_slice();
        let mask = slots.len() - 1;
        let mut index = self.first(tag);
        while slots[index & mask].load(Ordering::Relaxed) != 0 {
            index += 1;
        }
        slots[index & mask].store(join(record, tag), Ordering::Release);
    }

    /// A larger index with the same content; `None` if there is no memory.
    pub(crate) fn grown(&self, keys: usize, meter: &Meter) -> Option<Self> {
        let larger = Self::new(keys, meter)?;
        for slot in self.slots.as_slice() {
            let slot = slot.load(Ordering::Relaxed);
            if slot != 0 {
                larger.insert(high(slot), low(slot));
            }
        }
        Some(larger)
    }
}
