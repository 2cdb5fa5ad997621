//! Memory for everything that is changed in place: records, history blocks, tree nodes. Word-addressed, allocated by bumping a
//! position, given back as a whole.

use std::sync::Arc;

use crate::arena::table::{TABLE_LEN, Table};
use crate::arena::words::{Pages, Words, prefetch};
use crate::meter::Meter;
use crate::sync::{AtomicU64, Ordering};

/// Offsets count words of 8 bytes; the bits above this many are the number of a chunk, here and in the arena of values.
pub(crate) const CHUNK_WORDS_LOG2: u32 = if cfg!(any(miri, loom)) { 9 } else { 18 };
/// The words of a chunk: 2 MiB, one huge page.
pub(crate) const CHUNK_WORDS: usize = 1 << CHUNK_WORDS_LOG2;
/// Offset 0 is "none".
const RESERVED_WORDS: usize = 1;

/// The pages of chunk `number`: a tier starts small, with ordinary pages as it needs them.
pub(crate) fn chunk_pages(number: usize) -> Pages {
    if number == 0 { Pages::Lazy } else { Pages::Whole }
}

/// What a reservation asks for: chunks to map, and the bytes that the tier's memory grows by with them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Need {
    pub(crate) chunks: usize,
    pub(crate) bytes: usize,
}

impl Need {
    /// To fit `needed` bytes in pieces of at most `longest` into `room` bytes, of which `counted` are counted as held, and chunks of
    /// 2 MiB; `None` if more chunks are needed than `chunks_left`.
    pub(crate) fn new(needed: usize, longest: usize, room: usize, counted: usize, chunks_left: usize) -> Option<Self> {
        const PAGE_BYTES: usize = 4096;
        if needed <= room {
            return Some(Self {
                chunks: 0,
                bytes: (needed + PAGE_BYTES).saturating_sub(counted).min(room.saturating_sub(counted)),
            });
        }
        let chunks = (needed - room).div_ceil(CHUNK_WORDS * 8 - longest);
        let bytes = room.saturating_sub(counted) + chunks * CHUNK_WORDS * 8;
        (chunks <= chunks_left).then_some(Self { chunks, bytes })
    }
}

/// The chunks, as readers see them.
#[derive(Debug)]
pub(crate) struct Region {
    chunks: Table<Words>,
}

impl Region {
    /// The words from offset `at` to the end of its chunk: an object starts here and ends inside.
    #[inline]
    pub(crate) fn words(&self, at: u32) -> &[AtomicU64] {
        let chunk = self.chunks.get(at >> CHUNK_WORDS_LOG2).map_or(&[][..], Words::as_slice);
        chunk.get(at as usize % CHUNK_WORDS..).unwrap_or_default()
    }

    /// Asks for the first 64 bytes of an object.
    #[inline]
    pub(crate) fn prefetch(&self, at: u32) {
        prefetch_start(self.words(at));
    }
}

/// Asks for the first 64 bytes of an object, which are a small one's all. Objects are not aligned to cache lines: that is two lines, seven
/// times of eight.
#[inline]
pub(crate) fn prefetch_start(words: &[AtomicU64]) {
    const LINE_WORDS: usize = 8;
    if let Some(line) = words.first_chunk::<LINE_WORDS>() {
        prefetch(&line[0]);
        prefetch(&line[LINE_WORDS - 1]);
    } else if let Some(word) = words.first() {
        prefetch(word);
    }
}

/// The one who allocates in a [`Region`].
#[derive(Debug)]
pub(crate) struct RegionWriter {
    region: Arc<Region>,
    meter: Meter,
    chunks: usize,
    /// In the last chunk.
    position: usize,
    allocated_words: u64,
    spare: Vec<Words>,
}

impl RegionWriter {
    /// A new, empty region, and its writer; `None` if there is no memory.
    pub(crate) fn new(meter: &Meter) -> Option<Self> {
        let region = Arc::new(Region { chunks: Table::new(meter)? });
        let mut writer = Self { region, meter: meter.clone(), chunks: 0, position: 0, allocated_words: 0, spare: Vec::new() };
        let first = Words::new(CHUNK_WORDS, chunk_pages(0), meter)?;
        writer.install(first);
        writer.position = RESERVED_WORDS;
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

    fn install(&mut self, words: Words) {
        assert!(self.region.chunks.push(words), "reserving checks that chunks can be addressed");
        self.chunks += 1;
        self.position = 0;
    }

    /// What must be mapped before objects of `needed` words in all, none longer than `longest`, surely fit; `None` if it is beyond what
    /// offsets reach.
    pub(crate) fn need(&self, needed: usize, longest: usize) -> Option<Need> {
        let last = CHUNK_WORDS - self.position;
        let room = last + self.spare.len() * (CHUNK_WORDS - longest);
        let counted = if self.chunks == 1 { 0 } else { room };
        Need::new(needed * 8, longest * 8, room * 8, counted * 8, TABLE_LEN - self.chunks - self.spare.len())
    }

    /// Maps chunks ahead of their use; `false` if there is no memory.
    pub(crate) fn reserve(&mut self, chunks: usize) -> bool {
        for _ in 0..chunks {
            let Some(words) = Words::new(CHUNK_WORDS, Pages::Whole, &self.meter) else { return false };
            self.spare.push(words);
        }
        true
    }

    fn next_chunk(&mut self) {
        let words = self.spare.pop().or_else(|| Words::new(CHUNK_WORDS, Pages::Whole, &self.meter));
        let Some(words) = words else { std::alloc::handle_alloc_error(std::alloc::Layout::new::<[u64; CHUNK_WORDS]>()) };
        self.install(words);
    }

    /// Allocates an object of `len` zeroed words. Room is best reserved before; without it, running out of memory aborts, as
    /// everywhere in Rust.
    pub(crate) fn allocate(&mut self, len: usize) -> u32 {
        assert!(len <= CHUNK_WORDS, "an object must fit into a chunk");
        if self.position + len > CHUNK_WORDS {
            self.next_chunk();
        }
        #[expect(clippy::cast_possible_truncation, reason = "at most TABLE_LEN chunks of CHUNK_WORDS words, which 32 bits count")]
        let (number, word) = ((self.chunks - 1) as u32, self.position as u32);
        self.position += len;
        self.allocated_words += len as u64;
        if number == 0
            && let Some(first) = self.region.chunks.get(0)
        {
            first.touch(self.position);
        }
        (number << CHUNK_WORDS_LOG2) + word
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
