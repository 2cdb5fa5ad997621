//! Memory for everything that is changed in place: records, history blocks, tree nodes. Word-addressed, allocated by bumping a
//! position, given back as a whole.

use std::sync::Arc;

use crate::arena::words::Words;
use crate::meter::Meter;
use crate::shelf::Shelf;
use crate::sync::{AtomicU64, Ordering};

/// Offsets count words of 8 bytes; the bits above this many are the number of a chunk, here and in the arena of values.
pub(crate) const CHUNK_WORDS_LOG2: u32 = 18;
/// The words of a full-sized chunk: 2 MiB, one huge page.
pub(crate) const CHUNK_WORDS: usize = 1 << CHUNK_WORDS_LOG2;
/// The chunks that 32 bits of word offset reach.
const CHUNKS_MAX: u32 = 1 << (32 - CHUNK_WORDS_LOG2);
/// The longest object: a record whose key has 65,535 bytes.
const OBJECT_WORDS_MAX: usize = 8 << 10;
/// Offset 0 is "none".
const RESERVED_WORDS: usize = 1;

/// The words of chunk `number`: small stores start small.
pub(crate) fn chunk_words(number: u32) -> usize {
    match number {
        0 => 2 << 10,
        1 => 8 << 10,
        2 => 32 << 10,
        3 => 128 << 10,
        _ => CHUNK_WORDS,
    }
}

/// The chunks, as readers see them.
#[derive(Debug)]
pub(crate) struct Region {
    chunks: Shelf<Words>,
}

impl Region {
    /// The words from offset `at` to the end of its chunk: an object starts here and ends inside.
    #[inline]
    pub(crate) fn words(&self, at: u32) -> &[AtomicU64] {
        let chunk = self.chunks.get(at >> CHUNK_WORDS_LOG2).map_or(&[][..], Words::as_slice);
        chunk.get(at as usize % CHUNK_WORDS..).unwrap_or_default()
    }

    /// Asks for the first cache line of an object.
    #[inline]
    pub(crate) fn prefetch(&self, at: u32) {
        if let Some(word) = self.words(at).first() {
            crate::arena::words::prefetch(word);
        }
    }
}

/// The one who allocates in a [`Region`].
#[derive(Debug)]
pub(crate) struct RegionWriter {
    region: Arc<Region>,
    meter: Meter,
    chunk: u32,
    position: usize,
    chunk_len: usize,
    allocated_words: u64,
    spare: Vec<Words>,
}

impl RegionWriter {
    /// A new, empty region, and its writer; `None` if there is no memory.
    pub(crate) fn new(meter: &Meter) -> Option<Self> {
        let region = Arc::new(Region { chunks: Shelf::new() });
        let mut writer =
            Self { region, meter: meter.clone(), chunk: 0, position: 0, chunk_len: 0, allocated_words: 0, spare: Vec::new() };
        let words = Words::new(chunk_words(0), meter)?;
        writer.install(0, words);
        Some(writer)
    }

    /// What readers read from.
    pub(crate) fn region(&self) -> &Arc<Region> {
        &self.region
    }

    /// The bytes of all objects allocated so far.
    pub(crate) fn allocated_bytes(&self) -> u64 {
        self.allocated_words * 8
    }

    fn install(&mut self, number: u32, words: Words) {
        self.chunk = number;
        self.position = if number == 0 { RESERVED_WORDS } else { 0 };
        self.chunk_len = words.as_slice().len();
        self.region.chunks.set(number, words);
    }

    /// The sizes in words of the chunks to map before objects of `needed` words in all, none longer than `longest`, surely fit;
    /// `None` if they are beyond what offsets reach.
    pub(crate) fn chunks_needed(&self, needed: usize, longest: usize) -> Option<Vec<usize>> {
        let mut room = self.chunk_len - self.position;
        room += self.spare.iter().map(|words| words.as_slice().len().saturating_sub(longest)).sum::<usize>();
        let mut number = self.chunk + u32::try_from(self.spare.len()).ok()?;
        let mut chunks = Vec::new();
        while room < needed {
            number += 1;
            let words = chunk_words(number).max((2 * longest).min(CHUNK_WORDS));
            chunks.push(words);
            room += words - longest;
        }
        (number < CHUNKS_MAX).then_some(chunks)
    }

    /// Maps chunks of `chunks` words ahead of their use; `false` if there is no memory.
    pub(crate) fn reserve(&mut self, chunks: &[usize]) -> bool {
        for words in chunks {
            let Some(words) = Words::new(*words, &self.meter) else { return false };
            self.spare.insert(0, words);
        }
        true
    }

    fn next_chunk(&mut self) {
        let words = self.spare.pop().or_else(|| Words::new(CHUNK_WORDS, &self.meter));
        let Some(words) = words else { std::alloc::handle_alloc_error(std::alloc::Layout::new::<[u64; CHUNK_WORDS]>()) };
        self.install(self.chunk + 1, words);
    }

    /// Allocates an object of `len` zeroed words. Room is best reserved before; without it, running out of memory aborts, as
    /// everywhere in Rust.
    pub(crate) fn allocate(&mut self, len: usize) -> u32 {
        assert!(len <= OBJECT_WORDS_MAX + 8, "an object must fit into a chunk");
        while self.position + len > self.chunk_len {
            self.next_chunk();
        }
        #[expect(clippy::cast_possible_truncation, reason = "a position in a chunk, which has CHUNK_WORDS words")]
        let at = (self.chunk << CHUNK_WORDS_LOG2) + self.position as u32;
        self.position += len;
        self.allocated_words += len as u64;
        at
    }
}

/// The lower half of a word.
#[inline]
pub(crate) fn low(word: u64) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is what is asked for")]
    let half = word as u32;
    half
}

/// The upper half of a word.
#[inline]
pub(crate) fn high(word: u64) -> u32 {
    low(word >> 32)
}

/// A word of two halves.
#[inline]
pub(crate) fn join(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

/// Half `index` of an array of halves, two a word.
#[inline]
pub(crate) fn half(words: &[AtomicU64], index: usize, order: Ordering) -> u32 {
    let word = words[index / 2].load(order);
    if index.is_multiple_of(2) { low(word) } else { high(word) }
}

/// Sets half `index` of an array of halves; the single writer needs no read-modify-write for it.
#[inline]
pub(crate) fn set_half(words: &[AtomicU64], index: usize, value: u32, order: Ordering) {
    let word = words[index / 2].load(Ordering::Relaxed);
    let word = if index.is_multiple_of(2) { join(value, high(word)) } else { join(low(word), value) };
    words[index / 2].store(word, order);
}
