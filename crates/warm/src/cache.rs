//! Blocks in memory, within a budget.
//!
//! A block is reached through the table of its file, by its number, without a lock and without a hash. A ring of all cached blocks lets
//! the clock's hand find one to give up: a block that was read since the hand came by last gets another round. Blocks that only a long
//! scan reads take free room and never that of others.

use std::ops::Deref;
use std::sync::{Arc, Weak};

use arc_swap::{ArcSwapOption, Guard};
use bytes::Bytes;
use thermocline_io::sync::Mutex;
use thermocline_io::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// What a cached block takes beside its bytes: itself, its counts and its place in the ring.
const BLOCK_OVERHEAD_BYTES: usize = 128;

/// A decompressed block.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) data: Bytes,
    /// Read since the hand came by.
    is_used: AtomicBool,
}

impl Block {
    pub(crate) fn new(data: Bytes) -> Self {
        Self { data, is_used: AtomicBool::new(false) }
    }

    #[inline]
    fn mark(&self) {
        // Mostly it is marked, and then the cache line is left alone.
        if !self.is_used.load(Ordering::Relaxed) {
            self.is_used.store(true, Ordering::Relaxed);
        }
    }

    fn size_bytes(&self) -> usize {
        self.data.len() + BLOCK_OVERHEAD_BYTES
    }
}

/// The place of a block in its file's table.
pub(crate) type Slot = ArcSwapOption<Block>;

/// A block that is being read: it stays as long as this lives.
#[derive(Debug)]
pub(crate) enum BlockRef {
    Cached(Guard<Option<Arc<Block>>>),
    Own(Arc<Block>),
}

impl BlockRef {
    /// The block of a slot, if it is there.
    #[inline]
    pub(crate) fn load(slot: &Slot) -> Option<Self> {
        let guard = slot.load();
        let block = guard.as_deref()?;
        block.mark();
        Some(Self::Cached(guard))
    }

    /// The block, to be kept for longer.
    pub(crate) fn into_own(self) -> Option<Arc<Block>> {
        match self {
            Self::Cached(guard) => Guard::into_inner(guard),
            Self::Own(block) => Some(block),
        }
    }
}

impl Deref for BlockRef {
    type Target = Bytes;

    #[inline]
    fn deref(&self) -> &Bytes {
        static EMPTY: Bytes = Bytes::new();
        match self {
            Self::Cached(guard) => guard.as_deref().map_or(&EMPTY, |block| &block.data),
            Self::Own(block) => &block.data,
        }
    }
}

/// The tables of one file's blocks.
pub(crate) trait Slots: Send + Sync + std::fmt::Debug {
    /// The slot of a number that [`Cache::insert`] was given.
    fn slot(&self, number: u32) -> Option<&Slot>;
}

#[derive(Debug)]
struct Frame {
    owner: Weak<dyn Slots>,
    number: u32,
}

#[derive(Debug, Default)]
struct Ring {
    frames: Vec<Frame>,
    hand: usize,
}

/// How a block was come by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// It will probably be read again.
    Point,
    /// By a scan that has read much: it takes only room that is free.
    Stream,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Cache {
    budget_bytes: u64,
    /// Indexes and filters.
    pinned_bytes: AtomicU64,
    block_bytes: AtomicU64,
    misses: AtomicU64,
    /// Frames whose file is gone.
    dead: AtomicUsize,
    ring: Mutex<Ring>,
}

impl Cache {
    pub(crate) fn new(budget_bytes: u64) -> Self {
        Self {
            budget_bytes,
            pinned_bytes: AtomicU64::new(0),
            block_bytes: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            dead: AtomicUsize::new(0),
            ring: Mutex::new(Ring::default()),
        }
    }

    /// What blocks, indexes and filters take.
    pub(crate) fn used_bytes(&self) -> u64 {
        self.pinned_bytes.load(Ordering::Relaxed) + self.block_bytes.load(Ordering::Relaxed)
    }

    /// Blocks that had to be read from their files.
    pub(crate) fn misses(&self) -> u64 {
        self.misses.load(Ordering::Relaxed)
    }

    pub(crate) fn count_miss(&self) {
        self.misses.fetch_add(1, Ordering::Relaxed);
    }

    /// An index or a filter has come into memory.
    pub(crate) fn pin(&self, bytes: usize) {
        self.pinned_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        if self.used_bytes() > self.budget_bytes {
            self.evict(&mut self.ring.lock());
        }
    }

    /// A file's index and blocks are gone.
    pub(crate) fn forget<'a>(&self, pinned_bytes: usize, slots: impl Iterator<Item = &'a Slot>) {
        let (mut count, mut bytes) = (0, 0);
        for block in slots.filter_map(|slot| slot.swap(None)) {
            count += 1;
            bytes += block.size_bytes() as u64;
        }
        self.pinned_bytes.fetch_sub(pinned_bytes as u64, Ordering::Relaxed);
        self.block_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.dead.fetch_add(count, Ordering::Relaxed);
    }

    /// Keeps a block that was read, if there is or can be made room for it.
    pub(crate) fn insert(&self, owner: &Arc<dyn Slots>, number: u32, block: &Arc<Block>, reading: Reading) {
        let size = block.size_bytes() as u64;
        let free = self.budget_bytes.saturating_sub(self.pinned_bytes.load(Ordering::Relaxed));
        if size > free || (reading == Reading::Stream && self.used_bytes() + size > self.budget_bytes) {
            return;
        }
        let Some(slot) = owner.slot(number) else { return };
        let mut ring = self.ring.lock();
        if slot.load().is_some() {
            // Another reader was first.
            return;
        }
        slot.store(Some(Arc::clone(block)));
        self.block_bytes.fetch_add(size, Ordering::Relaxed);
        ring.frames.push(Frame { owner: Arc::downgrade(owner), number });
        self.evict(&mut ring);
        if self.dead.load(Ordering::Relaxed) > ring.frames.len() / 2 {
            ring.frames.retain(|frame| frame.owner.strong_count() > 0);
            ring.hand = 0;
            self.dead.store(0, Ordering::Relaxed);
        }
    }

    fn evict(&self, ring: &mut Ring) {
        // Ends: the first round at the latest takes every mark away, unless readers are as quick.
        let mut turns = 3 * ring.frames.len();
        while self.used_bytes() > self.budget_bytes && turns > 0 && !ring.frames.is_empty() {
            turns -= 1;
            if ring.hand >= ring.frames.len() {
                ring.hand = 0;
            }
            let frame = &ring.frames[ring.hand];
            let owner = frame.owner.upgrade();
            let slot = owner.as_ref().and_then(|owner| owner.slot(frame.number));
            let block = slot.and_then(ArcSwapOption::load_full);
            if let Some(block) = &block
                && block.is_used.swap(false, Ordering::Relaxed)
            {
                ring.hand += 1;
                continue;
            }
            if let (Some(slot), Some(_)) = (slot, block)
                && let Some(block) = slot.swap(None)
            {
                self.block_bytes.fetch_sub(block.size_bytes() as u64, Ordering::Relaxed);
            }
            ring.frames.swap_remove(ring.hand);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Table(Vec<Slot>);

    impl Slots for Table {
        fn slot(&self, number: u32) -> Option<&Slot> {
            self.0.get(number as usize)
        }
    }

    const SIZE: usize = 1000;

    fn table(count: usize) -> Arc<dyn Slots> {
        Arc::new(Table((0..count).map(|_| Slot::empty()).collect()))
    }

    fn read(cache: &Cache, table: &Arc<dyn Slots>, number: u32, reading: Reading) -> bool {
        if BlockRef::load(table.slot(number).unwrap()).is_some() {
            return true;
        }
        cache.insert(table, number, &Arc::new(Block::new(vec![0; SIZE].into())), reading);
        false
    }

    #[test]
    fn blocks_in_use_stay_and_the_budget_is_kept() {
        let cache = Cache::new(10 * (SIZE + BLOCK_OVERHEAD_BYTES) as u64);
        let table = table(1000);
        for number in 0..1000 {
            read(&cache, &table, number, Reading::Point);
            // One block is read all the time.
            assert!(read(&cache, &table, 0, Reading::Point), "at {number}");
            assert!(cache.used_bytes() <= 10 * (SIZE + BLOCK_OVERHEAD_BYTES) as u64);
        }
    }

    #[test]
    fn scan_takes_no_room_from_others() {
        let cache = Cache::new(10 * (SIZE + BLOCK_OVERHEAD_BYTES) as u64);
        let table = table(1000);
        for number in 0..5 {
            read(&cache, &table, number, Reading::Point);
        }
        for number in 100..200 {
            read(&cache, &table, number, Reading::Stream);
        }
        for number in 0..5 {
            assert!(read(&cache, &table, number, Reading::Point), "{number}");
        }
        assert!(read(&cache, &table, 100, Reading::Stream), "there was room for some");
    }

    #[test]
    fn indexes_push_blocks_out() {
        let cache = Cache::new(10 * (SIZE + BLOCK_OVERHEAD_BYTES) as u64);
        let table = table(10);
        for number in 0..10 {
            read(&cache, &table, number, Reading::Point);
        }
        cache.pin(5 * (SIZE + BLOCK_OVERHEAD_BYTES));
        assert!(cache.used_bytes() <= 10 * (SIZE + BLOCK_OVERHEAD_BYTES) as u64);
        cache.pin(1 << 30);
        assert!(!read(&cache, &table, 0, Reading::Point), "nothing is left for blocks");
        assert!(!read(&cache, &table, 0, Reading::Point));
    }

    #[test]
    fn blocks_of_a_file_that_is_gone_are_forgotten() {
        let cache = Cache::new(1 << 30);
        for _ in 0..100 {
            let table = Arc::new(Table((0..10).map(|_| Slot::empty()).collect()));
            let slots: Arc<dyn Slots> = Arc::clone(&table) as Arc<dyn Slots>;
            for number in 0..10 {
                read(&cache, &slots, number, Reading::Point);
            }
            cache.forget(0, table.0.iter());
        }
        assert_eq!(cache.used_bytes(), 0);
        assert!(cache.ring.lock().frames.len() <= 40);
    }
}
