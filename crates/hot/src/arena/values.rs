//! Version nodes: written once, then only read, and handed out without copying.
//!
//! ```text
//! node, at a multiple of 8 bytes
//! | version 8 | lengths 4 | suffix length 2 | suffix | value            |
//!                          \_ only with SUFFIX _/     \_ with LARGE: its number on the shelf of large values, 4
//! lengths: bits 0..24 the value's length; 29 TOMBSTONE, 30 LARGE, 31 SUFFIX
//! ```
//!
//! Nodes fill chunks one after the other. The bytes of a chunk below its committed length are never written again, so that
//! shared references to them are sound; a full chunk becomes one `Bytes`, of which a value is a slice: one count for a chunk, not
//! one for the tier, so that readers on several cores do not meet at one counter.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use thermocline_tier::{EntryRef, INLINE_VALUE_SIZE_BYTES_MAX, Lookup, RangeBatch, RawEntry, Version};

use crate::arena::block::Block;
use crate::arena::table::{TABLE_LEN, Table};
use crate::meter::{Meter, Metered};
use crate::record::Record;
use crate::region::{CHUNK_WORDS, CHUNK_WORDS_LOG2, Need, chunk_pages};

const HEADER_BYTES: usize = 12;
const LEN_MASK: u32 = (1 << 24) - 1;
const TOMBSTONE: u32 = 1 << 29;
const LARGE: u32 = 1 << 30;
const SUFFIX: u32 = 1 << 31;

/// Values above this size get memory of their own.
const INLINE_BYTES_MAX: usize = if cfg!(miri) { 1 << 10 } else { 64 << 10 };
/// Values of an unfinished chunk up to this size are copied when they are handed out; above it, they hold the chunk.
const COPY_BYTES_MAX: usize = 512;
/// The chunks that 31 bits of word offset reach, half of what a table holds.
const CHUNKS_MAX: usize = TABLE_LEN / 2;
/// The bytes of a chunk.
const CHUNK_BYTES: usize = CHUNK_WORDS * 8;
/// The first words stay zero: offset 0 is "none", and reads as an empty node.
const RESERVED_BYTES: usize = 16;

/// Segments of the shelf of large values: enough for 2^28 of them, which are more than 16 TiB.
const LARGE_SEGMENTS: usize = 28;

/// Where a version node lies, and whether it is a tombstone. 0 is "none".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ValueAt(u32);

impl ValueAt {
    const TOMBSTONE: u32 = 1 << 31;
    pub(crate) const NONE: Self = Self(0);

    #[inline]
    pub(crate) fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    #[inline]
    pub(crate) fn to_bits(self) -> u32 {
        self.0
    }

    #[inline]
    pub(crate) fn is_none(self) -> bool {
        self.0 == 0
    }

    #[inline]
    pub(crate) fn is_tombstone(self) -> bool {
        self.0 & Self::TOMBSTONE != 0
    }

    /// The chunk, and the byte in it.
    #[inline]
    fn place(self) -> (u32, usize) {
        let word = self.0 & !Self::TOMBSTONE;
        (word >> CHUNK_WORDS_LOG2, (word as usize % CHUNK_WORDS) * 8)
    }
}

#[derive(Debug)]
struct Chunk {
    block: Arc<Block>,
    /// Bytes below this are never written again. An atomic of std even under loom: it models no protocol that loom checks.
    committed_bytes: std::sync::atomic::AtomicUsize,
    sealed: OnceLock<Bytes>,
}

impl Chunk {
    /// The bytes that are there for good.
    #[inline]
    fn committed(&self) -> &[u8] {
        let len = self.committed_bytes.load(std::sync::atomic::Ordering::Acquire);
        // SAFETY: `committed_bytes` never exceeds the block, the block lives as long as the borrow of `self`, and the writer, whose
        // writes below this length happened before its release store of it, writes only above it from then on.
        unsafe { std::slice::from_raw_parts(self.block.start(), len) }
    }
}

/// A part of a chunk that is below its committed length: what a handed-out `Bytes` keeps alive.
struct Held {
    block: Arc<Block>,
    start_bytes: usize,
    len_bytes: usize,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: whoever makes a `Held` takes start and length from a slice of `Chunk::committed` of this block, so it lies inside it.
        let start = unsafe { self.block.start().add(self.start_bytes) };
        // SAFETY: the range is inside the block, which `self` keeps alive, and below the committed length, so never written again.
        unsafe { std::slice::from_raw_parts(start, self.len_bytes) }
    }
}

/// A large value with memory of its own.
struct Large {
    bytes: Box<[u8]>,
    _metered: Metered,
}

impl AsRef<[u8]> for Large {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// A version node, read.
#[derive(Clone, Copy, Debug)]
struct Node<'a> {
    version: Version,
    lengths: u32,
    suffix: &'a [u8],
    /// The value's bytes, or a large value's number.
    payload: &'a [u8],
    /// Where the payload starts in its chunk.
    payload_start: usize,
}

/// All version nodes of an arena, as readers see them.
#[derive(Debug)]
pub(crate) struct Values {
    chunks: Table<Chunk>,
    /// Segment n has room for 2^n large values, so that no value moves and reading one takes no lock.
    large: [OnceLock<Box<[OnceLock<Bytes>]>>; LARGE_SEGMENTS],
}

impl Values {
    /// Asks for the cache line of a node's header.
    #[inline]
    pub(crate) fn prefetch(&self, at: ValueAt) {
        let (number, start) = at.place();
        if let Some(chunk) = self.chunks.get(number) {
            super::prefetch(chunk.block.start().wrapping_add(start));
        }
    }

    /// Asks for the first cache lines of a node: of its value too, if it is not long.
    #[inline]
    pub(crate) fn prefetch_value(&self, at: ValueAt) {
        let (number, start) = at.place();
        if let Some(chunk) = self.chunks.get(number) {
            let node = chunk.block.start().wrapping_add(start);
            super::prefetch(node);
            super::prefetch(node.wrapping_add(64));
            super::prefetch(node.wrapping_add(128));
        }
    }

    #[inline]
    fn node(&self, at: ValueAt) -> Option<(&Chunk, Node<'_>)> {
        let (number, start) = at.place();
        let chunk = self.chunks.get(number)?;
        let rest = chunk.committed().get(start..)?;
        let (version, rest) = rest.split_first_chunk::<8>()?;
        let (lengths, mut rest) = rest.split_first_chunk::<4>()?;
        let lengths = u32::from_le_bytes(*lengths);
        let mut suffix: &[u8] = &[];
        let mut payload_start = start + HEADER_BYTES;
        if lengths & SUFFIX != 0 {
            let (len, after) = rest.split_first_chunk::<2>()?;
            (suffix, rest) = after.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
            payload_start += 2 + suffix.len();
        }
        let payload = rest.get(..(lengths & LEN_MASK) as usize)?;
        let version = Version(u64::from_le_bytes(*version));
        Some((chunk, Node { version, lengths, suffix, payload, payload_start }))
    }

    /// Large value `number`, whose place is segment and index: the highest bit of `number + 1`, and the bits below it.
    fn large_place(number: u32) -> (usize, usize) {
        let segment = (number + 1).ilog2();
        (segment as usize, (number + 1 - (1 << segment)) as usize)
    }

    fn large(&self, payload: &[u8]) -> Option<&Bytes> {
        let (segment, index) = Self::large_place(u32::from_le_bytes(*payload.first_chunk::<4>()?));
        self.large.get(segment)?.get()?.get(index)?.get()
    }

    fn set_large(&self, number: u32, value: Bytes) {
        let (segment, index) = Self::large_place(number);
        let slots = self.large[segment].get_or_init(|| (0..1_usize << segment).map(|_| OnceLock::new()).collect());
        slots[index].get_or_init(|| value);
    }

    /// The version of a node; `None` for [`ValueAt::NONE`].
    #[inline]
    pub(crate) fn version(&self, at: ValueAt) -> Option<Version> {
        if at.is_none() { None } else { self.node(at).map(|(_, node)| node.version) }
    }

    /// `part`, a part of the node's chunk that starts at `start`, as owned bytes.
    #[inline]
    fn share(chunk: &Chunk, start: usize, part: &[u8]) -> Bytes {
        if let Some(sealed) = chunk.sealed.get() {
            return sealed.slice(start..start + part.len());
        }
        if part.len() <= COPY_BYTES_MAX {
            return Bytes::copy_from_slice(part);
        }
        Bytes::from_owner(Held { block: Arc::clone(&chunk.block), start_bytes: start, len_bytes: part.len() })
    }

    /// A value's bytes and suffix, owned; `None` for a tombstone.
    fn owned(&self, at: ValueAt) -> (Bytes, Option<Bytes>) {
        let Some((chunk, node)) = self.node(at) else { return (Bytes::new(), None) };
        let suffix = if node.suffix.is_empty() {
            Bytes::new()
        } else {
            Self::share(chunk, node.payload_start - node.suffix.len(), node.suffix)
        };
        if at.is_tombstone() {
            return (suffix, None);
        }
        let value = if node.lengths & LARGE != 0 {
            self.large(node.payload).cloned().unwrap_or_default()
        } else if node.payload.is_empty() {
            Bytes::new()
        } else {
            Self::share(chunk, node.payload_start, node.payload)
        };
        (suffix, Some(value))
    }

    /// The answer of a point read.
    #[inline]
    pub(crate) fn lookup(&self, version: Version, at: ValueAt) -> Lookup {
        if at.is_tombstone() {
            return Lookup::Tombstone { version };
        }
        // Most values are small, have no suffix and lie in a full chunk.
        match self.shared(at) {
            Some(bytes) => Lookup::Value { version, suffix: Bytes::new(), bytes },
            None => self.lookup_slowly(version, at),
        }
    }

    /// The value of a node in a full chunk, if it has no suffix and is not large.
    #[inline]
    fn shared(&self, at: ValueAt) -> Option<Bytes> {
        let (number, start) = at.place();
        let sealed = self.chunks.get(number)?.sealed.get()?;
        let header = sealed.get(start..)?.first_chunk::<HEADER_BYTES>()?;
        let lengths = u32::from_le_bytes(*header.last_chunk::<4>()?);
        let end = start + HEADER_BYTES + (lengths & LEN_MASK) as usize;
        (lengths & (SUFFIX | LARGE) == 0 && end <= sealed.len()).then(|| sealed.slice(start + HEADER_BYTES..end))
    }

    #[cold]
    fn lookup_slowly(&self, version: Version, at: ValueAt) -> Lookup {
        let (suffix, bytes) = self.owned(at);
        Lookup::Value { version, suffix, bytes: bytes.unwrap_or_default() }
    }

    /// One entry of all of a key's.
    pub(crate) fn raw_entry(&self, prefix: Bytes, version: Version, at: ValueAt) -> RawEntry {
        let (suffix, value) = self.owned(at);
        RawEntry { prefix, suffix, version, value }
    }

    /// The entry, borrowed; `None` for [`ValueAt::NONE`].
    #[inline]
    pub(crate) fn entry<'a>(&'a self, prefix: &'a [u8], version: Version, at: ValueAt) -> Option<EntryRef<'a>> {
        let (_, node) = self.node(at)?;
        let value = if at.is_tombstone() {
            None
        } else if node.lengths & LARGE != 0 {
            Some(self.large(node.payload)?.as_ref())
        } else {
            Some(node.payload)
        };
        Some(EntryRef { prefix, suffix: node.suffix, version, value })
    }

    /// Appends the entry to a page.
    #[inline]
    pub(crate) fn push(&self, page: &mut RangeBatch, record: Record<'_>, version: Version, at: ValueAt) {
        let Some((chunk, node)) = self.node(at) else { return };
        if node.lengths & LARGE == 0 && node.payload.len() <= INLINE_VALUE_SIZE_BYTES_MAX {
            let value = (!at.is_tombstone()).then_some(node.payload);
            page.push_words(record.key_words(), record.key_len(), node.suffix, version, value);
        } else {
            let value = if node.lengths & LARGE != 0 {
                self.large(node.payload).cloned().unwrap_or_default()
            } else {
                Self::share(chunk, node.payload_start, node.payload)
            };
            record.with_key(|prefix| page.push_shared(prefix, node.suffix, version, value));
        }
    }

    /// What an entry is to its user and to the arena: the bytes of suffix and value, and the bytes in memory.
    pub(crate) fn sizes(&self, at: ValueAt) -> NodeSizes {
        let Some((_, node)) = self.node(at) else { return NodeSizes::default() };
        let large_bytes = if node.lengths & LARGE != 0 { self.large(node.payload).map_or(0, Bytes::len) } else { 0 };
        let value_bytes = if node.lengths & LARGE != 0 { large_bytes } else { node.payload.len() };
        let node_bytes = (HEADER_BYTES + suffix_field(node.suffix.len()) + node.payload.len()).next_multiple_of(8);
        NodeSizes { user_bytes: (node.suffix.len() + value_bytes) as u64, memory_bytes: (node_bytes + large_bytes) as u64 }
    }
}

/// The size of one version node.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NodeSizes {
    /// Suffix and value.
    pub(crate) user_bytes: u64,
    /// All of it.
    pub(crate) memory_bytes: u64,
}

fn suffix_field(suffix_len: usize) -> usize {
    if suffix_len == 0 { 0 } else { 2 + suffix_len }
}

/// The bytes that a node takes in its chunk.
pub(crate) fn node_size_bytes(suffix_len: usize, value_len: usize) -> usize {
    let payload = if value_len > INLINE_BYTES_MAX { 4 } else { value_len };
    (HEADER_BYTES + suffix_field(suffix_len) + payload).next_multiple_of(8)
}

/// The bytes that a value takes besides its node.
pub(crate) fn large_size_bytes(value_len: usize) -> usize {
    if value_len > INLINE_BYTES_MAX { value_len } else { 0 }
}

/// The one writer of [`Values`]: there is one for each, and appending takes it exclusively.
#[derive(Debug)]
pub(crate) struct ValueWriter {
    values: Arc<Values>,
    meter: Meter,
    chunks: usize,
    /// In the last chunk.
    position_bytes: usize,
    large_count: u32,
    spare: Vec<Block>,
}

impl ValueWriter {
    /// New, empty values, and their writer; `None` if there is no memory.
    pub(crate) fn new(meter: &Meter) -> Option<Self> {
        let values = Arc::new(Values { chunks: Table::new(meter)?, large: [const { OnceLock::new() }; LARGE_SEGMENTS] });
        let mut writer = Self { values, meter: meter.clone(), chunks: 0, position_bytes: 0, large_count: 0, spare: Vec::new() };
        let block = Block::new(CHUNK_WORDS, chunk_pages(0), meter)?;
        writer.install(block, RESERVED_BYTES);
        Some(writer)
    }

    /// What readers read from.
    pub(crate) fn values(&self) -> &Arc<Values> {
        &self.values
    }

    fn install(&mut self, block: Block, position_bytes: usize) {
        let chunk = Chunk { block: Arc::new(block), committed_bytes: position_bytes.into(), sealed: OnceLock::new() };
        assert!(self.values.chunks.push(chunk), "reserving checks that chunks can be addressed");
        self.chunks += 1;
        self.position_bytes = position_bytes;
    }

    #[expect(clippy::cast_possible_truncation, reason = "at most TABLE_LEN chunks")]
    fn number(&self) -> u32 {
        self.chunks as u32 - 1
    }

    /// What must be mapped before `needed` bytes of nodes, the longest of `longest` bytes, surely fit; `None` if it is beyond what
    /// offsets reach.
    pub(crate) fn need(&self, needed: usize, longest: usize) -> Option<Need> {
        let room = CHUNK_BYTES - self.position_bytes + self.spare.len() * (CHUNK_BYTES - longest);
        let counted = if self.chunks == 1 { 0 } else { room };
        Need::new(needed, longest, room, counted, CHUNKS_MAX.saturating_sub(self.chunks + self.spare.len()))
    }

    /// Maps chunks ahead of their use; `false` if there is no memory.
    pub(crate) fn reserve(&mut self, chunks: usize) -> bool {
        for number in self.chunks..self.chunks + chunks {
            let Some(block) = Block::new(CHUNK_WORDS, chunk_pages(number), &self.meter) else { return false };
            self.spare.push(block);
        }
        true
    }

    /// Closes the chunk, which becomes one `Bytes`, and goes on to the next.
    fn next_chunk(&mut self) {
        if let Some(chunk) = self.values.chunks.get(self.number()) {
            let held = Held { block: Arc::clone(&chunk.block), start_bytes: 0, len_bytes: chunk.committed().len() };
            chunk.sealed.get_or_init(|| Bytes::from_owner(held));
        }
        let block = self.spare.pop().or_else(|| Block::new(CHUNK_WORDS, chunk_pages(self.chunks), &self.meter));
        let Some(block) = block else { std::alloc::handle_alloc_error(std::alloc::Layout::new::<[u64; CHUNK_WORDS]>()) };
        self.install(block, 0);
    }

    /// Appends a node. Room is best reserved before; without it, running out of memory aborts, as everywhere in Rust.
    pub(crate) fn append(&mut self, version: Version, suffix: &[u8], value: Option<&[u8]>) -> ValueAt {
        match value {
            None => self.put(version, suffix, TOMBSTONE, &[]),
            Some(bytes) if bytes.len() > INLINE_BYTES_MAX => {
                let large = Large { bytes: bytes.into(), _metered: self.meter.count(bytes.len()) };
                self.put_large(version, suffix, Bytes::from_owner(large))
            }
            Some(bytes) => self.put(version, suffix, 0, bytes),
        }
    }

    /// Appends a copy of another arena's node; a large value is shared, not copied.
    pub(crate) fn append_from(&mut self, source: &Values, at: ValueAt) -> ValueAt {
        let Some((_, node)) = source.node(at) else { return ValueAt::NONE };
        if node.lengths & LARGE != 0 {
            return self.put_large(node.version, node.suffix, source.large(node.payload).cloned().unwrap_or_default());
        }
        self.put(node.version, node.suffix, node.lengths & TOMBSTONE, node.payload)
    }

    fn put_large(&mut self, version: Version, suffix: &[u8], value: Bytes) -> ValueAt {
        let number = self.large_count;
        self.values.set_large(number, value);
        self.large_count += 1;
        self.put(version, suffix, LARGE, &number.to_le_bytes())
    }

    fn put(&mut self, version: Version, suffix: &[u8], flags: u32, payload: &[u8]) -> ValueAt {
        #[expect(clippy::cast_possible_truncation, reason = "at most INLINE_BYTES_MAX")]
        let lengths = payload.len() as u32 | flags | if suffix.is_empty() { 0 } else { SUFFIX };
        let size = (HEADER_BYTES + suffix_field(suffix.len()) + payload.len()).next_multiple_of(8);
        if self.position_bytes + size > CHUNK_BYTES {
            self.next_chunk();
        }
        let mut header = [0; HEADER_BYTES + 2];
        header[..8].copy_from_slice(&version.0.to_le_bytes());
        header[8..HEADER_BYTES].copy_from_slice(&lengths.to_le_bytes());
        let mut header_len = HEADER_BYTES;
        if !suffix.is_empty() {
            #[expect(clippy::cast_possible_truncation, reason = "a suffix is part of a key, which has at most 65,535 bytes")]
            header[HEADER_BYTES..].copy_from_slice(&(suffix.len() as u16).to_le_bytes());
            header_len += 2;
        }
        #[expect(clippy::cast_possible_truncation, reason = "a position in a chunk, which has CHUNK_WORDS words")]
        let word = (self.number() << CHUNK_WORDS_LOG2) + (self.position_bytes / 8) as u32;
        self.write_parts(&[&header[..header_len], suffix, payload], size);
        ValueAt(word | if flags & TOMBSTONE != 0 { ValueAt::TOMBSTONE } else { 0 })
    }

    /// Writes `parts` one behind the other and commits `size` bytes.
    fn write_parts(&mut self, parts: &[&[u8]], size: usize) {
        let end = self.position_bytes + size;
        let Some(chunk) = self.values.chunks.get(self.number()) else { return };
        assert!(end <= chunk.block.size_bytes(), "a node must lie in its chunk");
        if self.chunks == 1 {
            chunk.block.touch(end);
        }
        let mut position = self.position_bytes;
        for part in parts {
            assert!(position + part.len() <= end, "a node must not be longer than its size");
            // SAFETY: `position` is inside the block, checked just above against `end`, and that against the block's size.
            let target = unsafe { chunk.block.start().add(position) };
            // SAFETY: the range is inside the block and above the committed length, so nobody refers to it; this writer is the only
            // one, since there is one for each `Values` and `&mut self` excludes another call; `part` cannot overlap it, being a
            // shared reference.
            unsafe { std::ptr::copy_nonoverlapping(part.as_ptr(), target, part.len()) };
            position += part.len();
        }
        chunk.committed_bytes.store(end, std::sync::atomic::Ordering::Release);
        self.position_bytes = end;
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use bytes::Bytes;
    use thermocline_tier::Version;

    use super::{CHUNK_BYTES, ValueAt, ValueWriter};
    use crate::meter::Meter;

    fn value_of(writer: &ValueWriter, at: ValueAt) -> Bytes {
        writer.values().lookup(Version(1), at).into_value().unwrap_or_default()
    }

    #[test]
    fn values_read_alike_before_and_after_their_chunk_is_full_and_outlive_it() {
        let meter = Meter::default();
        let mut writer = ValueWriter::new(&meter).unwrap();
        // One of each way to be handed out: copied, held, large.
        let sizes = [0, 1, 100, 511, 512, 513, 900, 70_000];
        let values: Vec<Vec<u8>> = (1..).zip(sizes).map(|(byte, size)| vec![byte; size]).collect();
        let places: Vec<ValueAt> = values.iter().map(|value| writer.append(Version(1), b"", Some(value))).collect();
        let before: Vec<Bytes> = places.iter().map(|at| value_of(&writer, *at)).collect();
        let filler = vec![0xff; 1000];
        for _ in 0..2 * CHUNK_BYTES / 1000 {
            writer.append(Version(2), b"suffix", Some(&filler));
        }
        let after: Vec<Bytes> = places.iter().map(|at| value_of(&writer, *at)).collect();
        assert!(meter.bytes() > 2 * CHUNK_BYTES as u64);
        drop(writer);
        assert!(before == values && after == values);
        drop((before, after));
        assert_eq!(meter.bytes(), 0);
    }

    #[test]
    fn suffixes_and_tombstones_come_back_from_a_copy_too() {
        let meter = Meter::default();
        let (mut source, mut copy) = (ValueWriter::new(&meter).unwrap(), ValueWriter::new(&meter).unwrap());
        for (suffix, value) in [(&b""[..], None), (b"s", None), (b"s", Some(&b""[..])), (b"suffix", Some(b"value"))] {
            let at = source.append(Version(7), suffix, value);
            let copied = copy.append_from(source.values(), at);
            for (values, at) in [(source.values(), at), (copy.values(), copied)] {
                let entry = values.raw_entry(Bytes::new(), Version(7), at);
                assert_eq!((&entry.suffix[..], entry.value.as_deref()), (suffix, value));
                assert_eq!((values.version(at), at.is_tombstone()), (Some(Version(7)), value.is_none()));
                assert_eq!(values.sizes(at).user_bytes, (suffix.len() + value.map_or(0, <[u8]>::len)) as u64);
            }
        }
    }
}
