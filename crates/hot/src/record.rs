//! Key records and their histories.
//!
//! ```text
//! record                                             history block
//! 0  version of the newest entry                     0  next (older) block, low; capacity 48..64; count 32..48
//! 1  newest value, low; history block, high          1  versions, ascending    capacity words
//! 2  key length 0..16; leaf, high                       values                 capacity / 2 words
//! 3  the key, zero-padded
//! ```
//!
//! What a reader relies on while a writer appends version V to a record (C4, C16):
//! 1. the old newest entry goes into the history first,
//! 2. then V into word 0,
//! 3. then node and history into word 1, in one store.
//!
//! The reader loads word 1 before word 0. If word 0 is at or below the version it reads at, which is a published one, step 3 happened before it
//! began, so word 1 belongs to it. If word 0 is above, and published, likewise, and the answer is in the history. If it is not
//! published yet, the reader cannot tell whether step 3 has happened, and looks at the version in the node itself.

use std::cmp::Ordering as Order;

use thermocline_tier::Version;

use crate::arena::values::{ValueAt, Values};
use crate::key;
use crate::region::{Region, RegionWriter, half, high, join, low, prefetch_start, set_half};
use crate::sync::{AtomicU64, Ordering};

const HEADER_WORDS: usize = 3;
const BLOCK_CAPACITY_FIRST: usize = 4;
const BLOCK_CAPACITY_MAX: usize = if cfg!(miri) { 64 } else { 1024 };

/// The words of the longest history block.
pub(crate) const BLOCK_WORDS_MAX: usize = Block::block_words(BLOCK_CAPACITY_MAX);

/// The words of a record with a key of `key_len` bytes.
pub(crate) fn record_words(key_len: usize) -> usize {
    HEADER_WORDS + key::word_count(key_len)
}

/// An entry of a key: its version and its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) version: Version,
    pub(crate) value: ValueAt,
}

impl Found {
    /// No entry.
    pub(crate) const NOTHING: Self = Self { version: Version::ZERO, value: ValueAt::NONE };
}

/// What is visible of a record, as far as the record itself tells.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sight {
    Nothing,
    Newest(Found),
    /// Look here.
    History(u32),
}

/// A record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'a> {
    words: &'a [AtomicU64],
}

impl<'a> Record<'a> {
    #[inline]
    pub(crate) fn new(region: &'a Region, at: u32) -> Self {
        Self { words: region.words(at) }
    }

    /// Writes a new record. It is nobody's before it is published by index and tree.
    pub(crate) fn create(region: &'a mut RegionWriter, key: &[u8], first: Found) -> u32 {
        let at = region.allocate(record_words(key.len()));
        let words = region.region().words(at);
        words[0].store(first.version.0, Ordering::Relaxed);
        words[1].store(join(first.value.to_bits(), 0), Ordering::Relaxed);
        words[2].store(key.len() as u64, Ordering::Relaxed);
        for index in 0..key::word_count(key.len()) {
            words[HEADER_WORDS + index].store(key::word(key, index), Ordering::Relaxed);
        }
        at
    }

    #[inline]
    pub(crate) fn key_len(self) -> usize {
        (self.words[2].load(Ordering::Relaxed) & 0xffff) as usize
    }

    #[inline]
    fn key_word(self, index: usize) -> u64 {
        self.words[HEADER_WORDS + index].load(Ordering::Relaxed)
    }

    /// Whether this is the record of `key`.
    #[inline]
    pub(crate) fn is_of(self, key: &[u8]) -> bool {
        if self.key_len() != key.len() {
            return false;
        }
        let words = &self.words[HEADER_WORDS..];
        let mut chunks = key.chunks_exact(8);
        let is_equal = |(word, chunk): (&AtomicU64, &[u8])| word.load(Ordering::Relaxed) == key::word(chunk, 0);
        words.iter().zip(chunks.by_ref()).all(is_equal)
            && (chunks.remainder().is_empty() || self.key_word(key.len() / 8) == key::word(chunks.remainder(), 0))
    }

    /// The order of the record's key and `key`.
    pub(crate) fn compare(self, key: &[u8]) -> Order {
        let common = key::word_count(self.key_len().min(key.len()));
        for index in 0..common {
            let order = key::compare_words(self.key_word(index), key::word(key, index));
            if order.is_ne() {
                return order;
            }
        }
        self.key_len().cmp(&key.len())
    }

    /// The order of two records' keys.
    pub(crate) fn compare_record(self, other: Record<'_>) -> Order {
        let common = key::word_count(self.key_len().min(other.key_len()));
        for index in 0..common {
            let order = key::compare_words(self.key_word(index), other.key_word(index));
            if order.is_ne() {
                return order;
            }
        }
        self.key_len().cmp(&other.key_len())
    }

    /// The eight bytes of the key after the first `skip`: as [`key::head`].
    pub(crate) fn head(self, skip: usize) -> u64 {
        let (index, shift) = (skip / 8, skip % 8 * 8);
        let count = key::word_count(self.key_len());
        let part = |index: usize| if index < count { self.key_word(index) } else { 0 };
        let word = if shift == 0 { part(index) } else { part(index) >> shift | part(index + 1) << (64 - shift) };
        word.swap_bytes()
    }

    /// The words of the key.
    #[inline]
    pub(crate) fn key_words(self) -> impl Iterator<Item = u64> + 'a {
        self.words[HEADER_WORDS..].iter().map(|word| word.load(Ordering::Relaxed))
    }

    /// Asks for its memory.
    #[inline]
    pub(crate) fn prefetch(self) {
        prefetch_start(self.words);
    }

    /// Calls `use_key` with the key's bytes.
    #[inline]
    pub(crate) fn with_key<R>(self, use_key: impl FnOnce(&[u8]) -> R) -> R {
        const SHORT_WORDS: usize = 8;
        let len = self.key_len();
        let count = key::word_count(len);
        if count <= SHORT_WORDS {
            let mut bytes = [0; SHORT_WORDS * 8];
            let words = &self.words[HEADER_WORDS..];
            for (to, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(words).take(count) {
                *to = word.load(Ordering::Relaxed).to_le_bytes();
            }
            return use_key(&bytes[..len]);
        }
        let mut bytes = Vec::with_capacity(count * 8);
        for index in 0..count {
            bytes.extend_from_slice(&self.key_word(index).to_le_bytes());
        }
        use_key(&bytes[..len])
    }

    /// Replaces the content of `bytes` by the key.
    #[inline]
    pub(crate) fn copy_key(self, bytes: &mut Vec<u8>) {
        let len = self.key_len();
        bytes.clear();
        for word in self.key_words().take(key::word_count(len)) {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.truncate(len);
    }

    pub(crate) fn leaf(self) -> u32 {
        high(self.words[2].load(Ordering::Relaxed))
    }

    /// For the writer only, who alone reads it.
    pub(crate) fn set_leaf(self, leaf: u32) {
        let word = self.words[2].load(Ordering::Relaxed);
        self.words[2].store(join(low(word), leaf), Ordering::Relaxed);
    }

    /// What a reader at `at` sees, where `published` is what it loaded as the published version before; `at` is not above it.
    #[inline]
    pub(crate) fn look(self, values: &Values, at: Version, published: Version) -> Sight {
        let pointers = self.words[1].load(Ordering::Acquire);
        let version = Version(self.words[0].load(Ordering::Acquire));
        let (value, history) = (ValueAt::from_bits(low(pointers)), high(pointers));
        if value.is_none() {
            return Sight::Nothing;
        }
        if version <= at {
            return Sight::Newest(Found { version, value });
        }
        if version > published
            && let Some(own) = values.version(value)
            && own <= at
        {
            return Sight::Newest(Found { version: own, value });
        }
        if history == 0 { Sight::Nothing } else { Sight::History(history) }
    }

    /// The newest entry, for the writer; `None` for a key without entries.
    pub(crate) fn newest(self) -> Option<Found> {
        let value = ValueAt::from_bits(low(self.words[1].load(Ordering::Relaxed)));
        (!value.is_none()).then(|| Found { version: Version(self.words[0].load(Ordering::Relaxed)), value })
    }

    /// Newest value and history in one word: the hint that the index keeps.
    pub(crate) fn pointers(self) -> u64 {
        self.words[1].load(Ordering::Relaxed)
    }

    pub(crate) fn history(self) -> u32 {
        high(self.words[1].load(Ordering::Acquire))
    }

    /// Makes `newest` the newest entry and `history` the history.
    pub(crate) fn set(self, newest: Option<Found>, history: u32) {
        let newest = newest.unwrap_or(Found::NOTHING);
        self.words[0].store(newest.version.0, Ordering::Release);
        self.words[1].store(join(newest.value.to_bits(), history), Ordering::Release);
    }

    /// Replaces the newest entry's node.
    pub(crate) fn replace_newest(self, value: ValueAt) {
        let word = self.words[1].load(Ordering::Relaxed);
        self.words[1].store(join(value.to_bits(), high(word)), Ordering::Release);
    }
}

/// A block of older versions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block<'a> {
    words: &'a [AtomicU64],
    next: u32,
    count: usize,
    capacity: usize,
}

impl<'a> Block<'a> {
    #[inline]
    pub(crate) fn new(region: &'a Region, at: u32) -> Self {
        let words = region.words(at);
        let header = words[0].load(Ordering::Acquire);
        let (count, capacity) = ((header >> 32 & 0xffff) as usize, (header >> 48) as usize);
        Self { words, next: low(header), count, capacity }
    }

    const fn block_words(capacity: usize) -> usize {
        1 + capacity + capacity / 2
    }

    fn create(region: &mut RegionWriter, capacity: usize, next: u32) -> u32 {
        let at = region.allocate(Self::block_words(capacity));
        let words = region.region().words(at);
        words[0].store(u64::from(next) | (capacity as u64) << 48, Ordering::Relaxed);
        at
    }

    fn set_header(&mut self, next: u32, count: usize) {
        (self.next, self.count) = (next, count);
        self.words[0].store(u64::from(next) | (count as u64) << 32 | (self.capacity as u64) << 48, Ordering::Release);
    }

    #[inline]
    fn version(&self, index: usize) -> Version {
        Version(self.words[1 + index].load(Ordering::Relaxed))
    }

    #[inline]
    fn value(&self, index: usize) -> ValueAt {
        ValueAt::from_bits(half(&self.words[1 + self.capacity..], index, Ordering::Relaxed))
    }

    fn found(&self, index: usize) -> Found {
        Found { version: self.version(index), value: self.value(index) }
    }

    fn put(&self, index: usize, found: Found) {
        self.words[1 + index].store(found.version.0, Ordering::Relaxed);
        set_half(&self.words[1 + self.capacity..], index, found.value.to_bits(), Ordering::Relaxed);
    }

    /// The number of entries at or below `at`.
    #[inline]
    fn rank(&self, at: Version) -> usize {
        if self.count <= 8 {
            return (0..self.count).rev().find(|index| self.version(*index) <= at).map_or(0, |index| index + 1);
        }
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = usize::midpoint(low, high);
            if self.version(middle) <= at { low = middle + 1 } else { high = middle }
        }
        low
    }
}

/// The newest entry at or below `at` in the history that starts at `block`.
#[inline]
pub(crate) fn find(region: &Region, mut block: u32, at: Version) -> Option<Found> {
    while block != 0 {
        let blocks = Block::new(region, block);
        let rank = blocks.rank(at);
        if rank > 0 {
            return Some(blocks.found(rank - 1));
        }
        block = blocks.next;
    }
    None
}

/// Calls `visit` for the history's entries at or below `at`, newest first, until it answers `false`.
pub(crate) fn visit(region: &Region, mut block: u32, at: Version, mut visit: impl FnMut(Found) -> bool) {
    while block != 0 {
        let entries = Block::new(region, block);
        region.prefetch(entries.next);
        if !(0..entries.rank(at)).rev().all(|index| visit(entries.found(index))) {
            return;
        }
        block = entries.next;
    }
}

/// Appends the entry that is about to stop being the newest; answers with the history's first block, which may be new. It is
/// visible to readers at once, as a second sight of the newest entry.
pub(crate) fn append(region: &mut RegionWriter, history: u32, entry: Found) -> u32 {
    let mut first = history;
    if history == 0 {
        first = Block::create(region, BLOCK_CAPACITY_FIRST, 0);
    } else {
        let block = Block::new(region.region(), history);
        if block.count == block.capacity {
            first = Block::create(region, (block.capacity * 2).min(BLOCK_CAPACITY_MAX), history);
        }
    }
    let mut block = Block::new(region.region(), first);
    block.put(block.count, entry);
    block.set_header(block.next, block.count + 1);
    first
}

/// What became of a history, and how many bytes of it are garbage now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Changed {
    pub(crate) history: u32,
    /// The entry that was replaced or removed.
    pub(crate) old: Option<ValueAt>,
    pub(crate) garbage_bytes: u64,
}

/// Puts an entry in its place in the history, replacing one of its version. In place: readers must be made to retry.
pub(crate) fn insert(region: &mut RegionWriter, history: u32, entry: Found) -> Changed {
    let (mut previous, mut current) = (0, history);
    while current != 0 {
        let block = Block::new(region.region(), current);
        let rank = block.rank(entry.version);
        if rank > 0 && block.version(rank - 1) == entry.version {
            let old = block.value(rank - 1);
            block.put(rank - 1, entry);
            return Changed { history, old: Some(old), garbage_bytes: 0 };
        }
        if rank > 0 || block.next == 0 {
            return insert_at(region, history, previous, current, rank, entry);
        }
        (previous, current) = (current, block.next);
    }
    Changed { history: append(region, 0, entry), old: None, garbage_bytes: 0 }
}

/// Inserts at `rank` of block `current`, which gives way to a larger one, or to two, if it is full.
fn insert_at(region: &mut RegionWriter, history: u32, previous: u32, current: u32, rank: usize, entry: Found) -> Changed {
    let full = Block::new(region.region(), current);
    if full.count < full.capacity {
        shift_in(full, rank, entry);
        return Changed { history, old: None, garbage_bytes: 0 };
    }
    let (count, next, capacity) = (full.count, full.next, full.capacity);
    if capacity < BLOCK_CAPACITY_MAX {
        let larger = Block::create(region, capacity * 2, next);
        copy_entries(region.region(), current, 0..count, larger);
        shift_in(Block::new(region.region(), larger), rank, entry);
        let history = relink(region.region(), history, previous, larger);
        return Changed { history, old: None, garbage_bytes: Block::block_words(capacity) as u64 * 8 };
    }
    // The older half moves to a block of its own behind this one.
    let older = Block::create(region, capacity, next);
    copy_entries(region.region(), current, 0..count / 2, older);
    let mut newer = Block::new(region.region(), current);
    (count / 2..count).for_each(|index| newer.put(index - count / 2, newer.found(index)));
    newer.set_header(older, count - count / 2);
    if rank > count / 2 {
        shift_in(newer, rank - count / 2, entry);
    } else {
        shift_in(Block::new(region.region(), older), rank, entry);
    }
    Changed { history, old: None, garbage_bytes: 0 }
}

fn copy_entries(region: &Region, from: u32, indexes: std::ops::Range<usize>, to: u32) {
    let (from, mut to) = (Block::new(region, from), Block::new(region, to));
    let count = indexes.len();
    indexes.enumerate().for_each(|(index, source)| to.put(index, from.found(source)));
    to.set_header(to.next, count);
}

fn shift_in(mut block: Block<'_>, rank: usize, entry: Found) {
    (rank..block.count).rev().for_each(|index| block.put(index + 1, block.found(index)));
    block.put(rank, entry);
    block.set_header(block.next, block.count + 1);
}

/// Makes `block` follow `previous`; answers with the history's first block.
fn relink(region: &Region, history: u32, previous: u32, block: u32) -> u32 {
    if previous == 0 {
        return block;
    }
    let mut previous = Block::new(region, previous);
    previous.set_header(block, previous.count);
    history
}

/// Removes the entry of `version` from the history. In place: readers must be made to retry.
pub(crate) fn remove(region: &Region, history: u32, version: Version) -> Changed {
    let (mut previous, mut current) = (0, history);
    while current != 0 {
        let mut block = Block::new(region, current);
        let rank = block.rank(version);
        if rank > 0 {
            if block.version(rank - 1) != version {
                break;
            }
            let old = block.value(rank - 1);
            (rank..block.count).for_each(|index| block.put(index - 1, block.found(index)));
            block.set_header(block.next, block.count - 1);
            let mut changed = Changed { history, old: Some(old), garbage_bytes: 0 };
            if block.count == 0 {
                changed.history = relink_over(region, history, previous, block.next);
                changed.garbage_bytes = Block::block_words(block.capacity) as u64 * 8;
            }
            return changed;
        }
        (previous, current) = (current, block.next);
    }
    Changed { history, old: None, garbage_bytes: 0 }
}

fn relink_over(region: &Region, history: u32, previous: u32, next: u32) -> u32 {
    if previous == 0 { next } else { relink(region, history, previous, next) }
}

/// The newest entry of the history.
pub(crate) fn first(region: &Region, history: u32) -> Option<Found> {
    find(region, history, Version::MAX)
}
