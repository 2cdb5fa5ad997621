//! Blocks and indexes in memory, within a budget.
//!
//! A block is reached through the table of its partition, by its number, without a lock and without a hash; the partition's index through
//! that of its file. A ring of all that is cached lets the clock's hand find what to give up: a block that was read since the hand came by
//! last gets another round, an index gets some. Blocks and indexes that only a long scan reads take free room and never that of others.

use std::ops::Deref;
use std::sync::{Arc, Weak};

use arc_swap::{ArcSwapOption, Guard};
use bytes::Bytes;
use thermocline_io::sync::Mutex;
use thermocline_io::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use crate::buffers::Buffers;

/// So often the hand must come by an index that nobody has used meanwhile before it is given up. With an index all its blocks go.
pub(crate) const INDEX_ROUNDS: u8 = 4;

/// What rewrites may keep for the readers of their files, as one part of so many of the budget: nothing gives it up until they are live.
const PREFILL_PART: u64 = 4;

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
        Buffers::size_bytes(self.data.len()) + BLOCK_OVERHEAD_BYTES
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

/// The tables of one partition's blocks.
pub(crate) trait Slots: Send + Sync + std::fmt::Debug {
    /// The slot of a number that [`Cache::insert`] was given.
    fn slot(&self, number: u32) -> Option<&Slot>;
}

/// The indexes of one file's partitions.
pub(crate) trait Indexes: Send + Sync + std::fmt::Debug {
    /// The hand comes by the index of a number that [`Cache::insert_index`] was given: it is given up if nobody has used it for
    /// [`INDEX_ROUNDS`]. Whether it is gone.
    fn pass(&self, number: usize) -> bool;
}

#[derive(Debug)]
enum Frame {
    Block { owner: Weak<dyn Slots>, number: u32 },
    Index { owner: Weak<dyn Indexes>, number: usize },
}

impl Frame {
    fn is_live(&self) -> bool {
        match self {
            Self::Block { owner, .. } => owner.strong_count() > 0,
            Self::Index { owner, .. } => owner.strong_count() > 0,
        }
    }
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
    /// What stays as long as a file is in use.
    pinned_bytes: AtomicU64,
    /// Indexes of partitions, with their filters.
    index_bytes: AtomicU64,
    block_bytes: AtomicU64,
    /// The part of them that waits for files to become live.
    prefill_bytes: AtomicU64,
    misses: AtomicU64,
    /// Frames whose owner is gone.
    dead: AtomicUsize,
    ring: Mutex<Ring>,
    pub(crate) buffers: Arc<Buffers>,
}

impl Cache {
    pub(crate) fn new(budget_bytes: u64) -> Self {
        let buffers = Arc::<Buffers>::default();
        buffers.set_room(budget_bytes);
        Self {
            budget_bytes,
            pinned_bytes: AtomicU64::new(0),
            index_bytes: AtomicU64::new(0),
            block_bytes: AtomicU64::new(0),
            prefill_bytes: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            dead: AtomicUsize::new(0),
            ring: Mutex::new(Ring::default()),
            buffers,
        }
    }

    /// What blocks, indexes and filters take.
    pub(crate) fn used_bytes(&self) -> u64 {
        let indexes = self.pinned_bytes.load(Ordering::Relaxed) + self.index_bytes.load(Ordering::Relaxed);
        indexes + self.block_bytes.load(Ordering::Relaxed)
    }

    /// What blocks and indexes give up waits for others as long as there is room.
    fn note_room(&self) {
        self.buffers.set_room(self.budget_bytes.saturating_sub(self.used_bytes()));
    }

    /// Blocks that had to be read from their files.
    pub(crate) fn misses(&self) -> u64 {
        self.misses.load(Ordering::Relaxed)
    }

    pub(crate) fn count_miss(&self) {
        self.misses.fetch_add(1, Ordering::Relaxed);
    }

    /// What a file keeps in memory has come there.
    pub(crate) fn pin(&self, bytes: usize) {
        self.pinned_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        if self.used_bytes() > self.budget_bytes {
            self.evict(&mut self.ring.lock());
        }
        self.note_room();
    }

    /// A file's partitions are gone, and with them so many indexes that were kept.
    pub(crate) fn forget_partitions(&self, bytes: usize, indexes: usize) {
        self.pinned_bytes.fetch_sub(bytes as u64, Ordering::Relaxed);
        self.dead.fetch_add(indexes, Ordering::Relaxed);
        self.note_room();
    }

    /// An index has come into memory: of a running read, as long as it is not [kept](Self::insert_index).
    pub(crate) fn hold_index(&self, bytes: usize) {
        self.index_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.note_room();
    }

    /// An index that nobody can reach any more is about to be dropped with its slots.
    pub(crate) fn forget_index<'a>(&self, bytes: usize, slots: impl Iterator<Item = &'a Slot>) {
        let (mut count, mut block_bytes) = (0, 0);
        // To look is much cheaper than to take out, which waits for readers and is done once more when the slot is dropped.
        for size in slots.filter_map(|slot| slot.load().as_ref().map(|block| block.size_bytes())) {
            count += 1;
            block_bytes += size as u64;
        }
        self.index_bytes.fetch_sub(bytes as u64, Ordering::Relaxed);
        self.block_bytes.fetch_sub(block_bytes, Ordering::Relaxed);
        self.dead.fetch_add(count, Ordering::Relaxed);
        // Before the blocks are dropped: there is room for their buffers now.
        self.note_room();
    }

    /// Keeps an index that was read and [held](Self::hold_index): `put` puts it into its place, unless another one is there. One that only
    /// a long scan reads is kept if there is room.
    pub(crate) fn insert_index(&self, owner: &Arc<dyn Indexes>, number: usize, reading: Reading, put: impl FnOnce() -> bool) {
        if reading == Reading::Stream && self.used_bytes() > self.budget_bytes {
            return;
        }
        let mut ring = self.ring.lock();
        if put() {
            self.push(&mut ring, Frame::Index { owner: Arc::downgrade(owner), number });
        }
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
        self.push(&mut ring, Frame::Block { owner: Arc::downgrade(owner), number });
    }

    fn push(&self, ring: &mut Ring, frame: Frame) {
        ring.frames.push(frame);
        self.evict(ring);
        self.note_room();
        if self.dead.load(Ordering::Relaxed) > ring.frames.len() / 2 {
            ring.frames.retain(Frame::is_live);
            ring.hand = 0;
            self.dead.store(0, Ordering::Relaxed);
        }
    }

    fn evict(&self, ring: &mut Ring) {
        // Ends: the first rounds at the latest take every mark away, unless readers are as quick.
        let mut turns = (usize::from(INDEX_ROUNDS) + 2) * ring.frames.len();
        while self.used_bytes() > self.budget_bytes && turns > 0 && !ring.frames.is_empty() {
            turns -= 1;
            if ring.hand >= ring.frames.len() {
                ring.hand = 0;
            }
            let is_gone = match &ring.frames[ring.hand] {
                Frame::Block { owner, number } => owner.upgrade().is_none_or(|owner| self.pass(&*owner, *number)),
                Frame::Index { owner, number } => owner.upgrade().is_none_or(|owner| owner.pass(*number)),
            };
            if is_gone {
                // The newest takes its place, and must not be the next to go.
                ring.frames.swap_remove(ring.hand);
            }
            ring.hand += 1;
        }
    }

    /// The hand comes by a block: it is given up if nobody has used it since the last time. Whether it is gone.
    fn pass(&self, owner: &dyn Slots, number: u32) -> bool {
        let Some(slot) = owner.slot(number) else { return true };
        if slot.load().as_ref().is_some_and(|block| block.is_used.swap(false, Ordering::Relaxed)) {
            return false;
        }
        if let Some(block) = slot.swap(None) {
            self.block_bytes.fetch_sub(block.size_bytes() as u64, Ordering::Relaxed);
        }
        true
    }
}

/// Main blocks of a file that is being written, where it takes the place of blocks that are cached: who has read those finds these. They count
/// as cached, and take free room only.
#[derive(Debug)]
pub(crate) struct Prefill {
    cache: Arc<Cache>,
    /// With their partitions and their numbers there.
    blocks: Vec<(usize, u32, Arc<Block>)>,
}

impl Prefill {
    pub(crate) fn new(cache: &Arc<Cache>) -> Self {
        Self { cache: Arc::clone(cache), blocks: Vec::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Keeps the content of a block, if there is room.
    pub(crate) fn keep(&mut self, partition: usize, number: u32, raw: &[u8]) {
        let size = (Buffers::size_bytes(raw.len()) + BLOCK_OVERHEAD_BYTES) as u64;
        let waiting = self.cache.prefill_bytes.load(Ordering::Relaxed) + size;
        if self.cache.used_bytes() + size > self.cache.budget_bytes || waiting > self.cache.budget_bytes / PREFILL_PART {
            return;
        }
        self.cache.block_bytes.fetch_add(size, Ordering::Relaxed);
        self.cache.prefill_bytes.fetch_add(size, Ordering::Relaxed);
        self.cache.note_room();
        let mut buffer = self.cache.buffers.take(raw.len());
        buffer.as_mut().copy_from_slice(raw);
        self.blocks.push((partition, number, Arc::new(Block::new(buffer.into_bytes()))));
    }

    /// A block that was kept; from now on it counts no more.
    pub(crate) fn take(&mut self) -> Option<(usize, u32, Arc<Block>)> {
        let (partition, number, block) = self.blocks.pop()?;
        let size = block.size_bytes() as u64;
        self.cache.block_bytes.fetch_sub(size, Ordering::Relaxed);
        self.cache.prefill_bytes.fetch_sub(size, Ordering::Relaxed);
        Some((partition, number, block))
    }
}

impl Drop for Prefill {
    fn drop(&mut self) {
        while self.take().is_some() {}
        self.cache.note_room();
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
        let cache = Cache::new(10 * (Buffers::size_bytes(SIZE) + BLOCK_OVERHEAD_BYTES) as u64);
        let table = table(1000);
        for number in 0..1000 {
            read(&cache, &table, number, Reading::Point);
            // One block is read all the time.
            assert!(read(&cache, &table, 0, Reading::Point), "at {number}");
            assert!(cache.used_bytes() <= 10 * (Buffers::size_bytes(SIZE) + BLOCK_OVERHEAD_BYTES) as u64);
        }
    }

    #[test]
    fn blocks_that_come_into_use_stay_and_those_that_nobody_uses_any_more_go() {
        let cache = Cache::new(100 * (Buffers::size_bytes(SIZE) + BLOCK_OVERHEAD_BYTES) as u64);
        let table = table(1000);
        for number in 0..100 {
            read(&cache, &table, number, Reading::Point);
        }
        let round = || (500..550).filter(|number| read(&cache, &table, *number, Reading::Point)).count();
        assert_eq!((round(), round(), round()), (0, 50, 50));
    }

    #[test]
    fn scan_takes_no_room_from_others() {
        let cache = Cache::new(10 * (Buffers::size_bytes(SIZE) + BLOCK_OVERHEAD_BYTES) as u64);
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
    fn what_files_keep_pushes_blocks_out() {
        let cache = Cache::new(10 * (Buffers::size_bytes(SIZE) + BLOCK_OVERHEAD_BYTES) as u64);
        let table = table(10);
        for number in 0..10 {
            read(&cache, &table, number, Reading::Point);
        }
        cache.pin(5 * (Buffers::size_bytes(SIZE) + BLOCK_OVERHEAD_BYTES));
        assert!(cache.used_bytes() <= 10 * (Buffers::size_bytes(SIZE) + BLOCK_OVERHEAD_BYTES) as u64);
        cache.pin(1 << 30);
        assert!(!read(&cache, &table, 0, Reading::Point), "nothing is left for blocks");
        assert!(!read(&cache, &table, 0, Reading::Point));
    }

    #[test]
    fn blocks_of_a_file_that_is_being_written_take_free_room_only_and_give_it_back() {
        let size = (Buffers::size_bytes(SIZE) + BLOCK_OVERHEAD_BYTES) as u64;
        let cache = Arc::new(Cache::new(40 * size));
        let table = table(40);
        let fill = || {
            let mut prefill = Prefill::new(&cache);
            for number in 0..20 {
                prefill.keep(3, number, &[7; SIZE]);
            }
            prefill
        };
        let mut prefill = fill();
        assert_eq!((prefill.blocks.len(), cache.used_bytes()), (10, 10 * size), "a part of the budget");
        assert!(fill().is_empty(), "of all together");
        let (partition, number, block) = prefill.take().unwrap();
        assert_eq!((partition, number, block.data.to_vec()), (3, 9, vec![7; SIZE]));
        drop(prefill);
        assert_eq!(cache.used_bytes(), 0);
        for number in 0..36 {
            read(&cache, &table, number, Reading::Point);
        }
        assert_eq!(fill().blocks.len(), 4, "room that is free");
        assert_eq!(cache.used_bytes(), 36 * size);
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
            cache.forget_index(0, table.0.iter());
        }
        assert_eq!(cache.used_bytes(), 0);
        assert!(cache.ring.lock().frames.len() <= 40);
    }
}
