//! Main blocks: each key once, with its newest entry. Building, and searching in place.

#![deny(clippy::indexing_slicing, reason = "bytes from disk must not be able to cause a panic")]

use std::cmp::Ordering;

use thermocline_tier::Version;

use crate::layout::{
    BLOCK_KEYS_MAX, ENTRY_SIZE_BYTES, ENTRY_WIDE_SIZE_BYTES, HISTORY_REF_SIZE_BYTES, LINE_COUNT_AT, LINE_KEYS, LINE_OFFSETS_AT,
    LINE_SIZE_BYTES, common_len, flags,
};

/// The four bytes by which keys are compared first, after the common prefix.
#[inline]
pub(crate) fn head(rest: &[u8]) -> u32 {
    match rest.first_chunk::<4>() {
        // As a big-endian number, so that its order is that of the bytes.
        Some(bytes) => u32::from_le_bytes(*bytes).swap_bytes(),
        None => rest.iter().zip([24, 16, 8]).fold(0, |head, (byte, shift)| head | u32::from(*byte) << shift),
    }
}

/// Where the older versions of a key are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HistoryRef {
    /// The history block of the first group.
    pub(crate) block: u32,
    /// The group's place in it.
    pub(crate) offset: u16,
    /// In how many further blocks the history goes on.
    pub(crate) more: u32,
}

impl HistoryRef {
    fn encode(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.block.to_le_bytes());
        out.extend_from_slice(&self.offset.to_le_bytes());
        out.extend_from_slice(&self.more.to_le_bytes());
    }
}

/// The newest entry of a key, as it lies in a block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) flags: u8,
    /// The key after the block's common prefix.
    pub(crate) rest: &'a [u8],
    pub(crate) suffix: &'a [u8],
    pub(crate) version: Version,
    /// The value, or the reference to one that is apart.
    pub(crate) value: &'a [u8],
    pub(crate) history: Option<HistoryRef>,
}

/// A cursor over bytes that fails instead of panicking. As small as it is, since it stands in the way of every read.
#[derive(Clone, Copy)]
pub(crate) struct Bits<'a>(pub(crate) &'a [u8]);

impl<'a> Bits<'a> {
    #[inline]
    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(u8::from_le_bytes)
    }

    #[inline]
    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    #[inline]
    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    #[inline]
    pub(crate) fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }
}

impl<'a> Entry<'a> {
    /// Reads the entry at the beginning of `bytes`; `base` is the oldest version of the block.
    #[inline]
    fn read(bytes: &'a [u8], base: Version) -> Option<Self> {
        let mut bits = Bits(bytes);
        let flags = bits.u8()?;
        let (rest_len, value_len, version) = if flags & flags::WIDE == 0 {
            let (rest_len, value_len) = (usize::from(bits.u8()?), usize::from(bits.u16()?));
            (rest_len, value_len, base.0.checked_add(u64::from(bits.u32()?))?)
        } else {
            (usize::from(bits.u16()?), bits.u32()? as usize, bits.u64()?)
        };
        let history = if flags & flags::HISTORY == 0 {
            None
        } else {
            Some(HistoryRef { block: bits.u32()?, offset: bits.u16()?, more: bits.u32()? })
        };
        let suffix_len = if flags & flags::SUFFIX == 0 { 0 } else { usize::from(bits.u16()?) };
        let rest = bits.bytes(rest_len)?;
        let suffix = bits.bytes(suffix_len)?;
        let value = bits.bytes(value_len)?;
        Some(Self { flags, rest, suffix, version: Version(version), value, history })
    }

    #[inline]
    pub(crate) fn is_tombstone(&self) -> bool {
        self.flags & flags::TOMBSTONE != 0
    }

    #[inline]
    pub(crate) fn is_apart(&self) -> bool {
        self.flags & flags::APART != 0
    }
}

/// A main block before compression. Answers are `None` where the bytes are not those of a block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MainBlock<'a> {
    bytes: &'a [u8],
    keys: usize,
    base: Version,
}

impl<'a> MainBlock<'a> {
    /// A block of so many keys, whose oldest version is `base`.
    #[inline]
    pub(crate) fn new(bytes: &'a [u8], keys: usize, base: Version) -> Self {
        Self { bytes, keys, base }
    }

    #[inline]
    fn line(&self, number: usize) -> Option<&'a [u8; LINE_SIZE_BYTES]> {
        self.bytes.get(number * LINE_SIZE_BYTES..)?.first_chunk()
    }

    #[inline]
    fn head(&self, index: usize) -> Option<u32> {
        let line = self.line(index / LINE_KEYS)?;
        line.get(index % LINE_KEYS * 4..)?.first_chunk::<4>().map(|bytes| u32::from_le_bytes(*bytes))
    }

    /// The entry of a key by its number.
    #[inline]
    pub(crate) fn entry(&self, index: usize) -> Option<Entry<'a>> {
        if index >= self.keys {
            return None;
        }
        let line = self.line(index / LINE_KEYS)?;
        let offset =
            line.get(LINE_OFFSETS_AT + index % LINE_KEYS * 2..)?.first_chunk::<2>().map(|bytes| u16::from_le_bytes(*bytes))?;
        Entry::read(self.bytes.get(usize::from(offset)..)?, self.base)
    }

    /// The number of the first key whose head is at least `head`; `first_heads` are those of the lines.
    #[inline]
    pub(crate) fn first_at_least(&self, head: u32, first_heads: &[u32]) -> Option<usize> {
        // The key is in the last line that begins below the head, or begins the line after it.
        let line = first_heads.iter().map(|first| usize::from(*first < head)).sum::<usize>().saturating_sub(1);
        let (heads, _) = self.line(line)?.first_chunk::<LINE_OFFSETS_AT>()?.as_chunks::<4>();
        // Where there is no key the head is the highest, so it is not counted.
        let below = heads.iter().map(|bytes| usize::from(u32::from_le_bytes(*bytes) < head)).sum::<usize>();
        Some((line * LINE_KEYS + below).min(self.keys))
    }

    /// The number of the first key that is not below `rest`, and its entry if it is that key. `first_heads` are those of the lines, of
    /// which there are as many as the block has.
    #[inline]
    pub(crate) fn lower_bound(&self, rest: &[u8], first_heads: &[u32]) -> Option<(usize, Option<Entry<'a>>)> {
        self.lower_bound_from(self.first_at_least(head(rest), first_heads)?, rest)
    }

    /// The same, from the first key on whose head is at least that of `rest`.
    #[inline]
    pub(crate) fn lower_bound_from(&self, mut index: usize, rest: &[u8]) -> Option<(usize, Option<Entry<'a>>)> {
        let wanted = head(rest);
        // Keys with the same head follow each other. Mostly there is one; with long prefixes shared inside the block there may be many.
        let mut tried = 0;
        while index < self.keys && self.head(index)? == wanted {
            const TRIES_MAX: usize = 4;
            tried += 1;
            if tried == TRIES_MAX {
                index = self.first_among_equals(index, wanted, rest)?;
                continue;
            }
            let entry = self.entry(index)?;
            match entry.rest.cmp(rest) {
                Ordering::Less => index += 1,
                Ordering::Equal => return Some((index, Some(entry))),
                Ordering::Greater => break,
            }
        }
        Some((index, None))
    }

    /// By halves: the first key from `from` on that has another head or is not below `rest`.
    fn first_among_equals(&self, from: usize, wanted: u32, rest: &[u8]) -> Option<usize> {
        let (mut low, mut high) = (from, self.keys);
        while low < high {
            let middle = usize::midpoint(low, high);
            if self.head(middle)? == wanted && self.entry(middle)?.rest < rest {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Some(low)
    }
}

/// What a builder is given for a key's newest entry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewEntry<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) suffix: &'a [u8],
    pub(crate) version: Version,
    /// `TOMBSTONE` and `APART`, as they apply.
    pub(crate) flags: u8,
    pub(crate) value: &'a [u8],
    pub(crate) history: Option<HistoryRef>,
    /// The oldest version of the key in the file.
    pub(crate) oldest: Version,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    key_end: usize,
    suffix_end: usize,
    value_end: usize,
    version: Version,
    flags: u8,
    history: Option<HistoryRef>,
}

/// Gathers the keys of one main block.
#[derive(Debug, Default)]
pub(crate) struct MainBuilder {
    /// Key, suffix and value of each entry.
    bytes: Vec<u8>,
    slots: Vec<Slot>,
    versions: Option<(Version, Version)>,
}

/// A block as it is before compression, and what the index says about it.
#[derive(Debug)]
pub(crate) struct BuiltBlock {
    pub(crate) raw: Vec<u8>,
    pub(crate) first: Vec<u8>,
    pub(crate) versions: (Version, Version),
    pub(crate) keys: u16,
    pub(crate) common_len: u16,
    pub(crate) heads: Vec<u32>,
}

impl MainBuilder {
    /// Whether the block has reached its number of keys, or would go over its size with one more of the average size.
    pub(crate) fn is_full(&self, size_max: usize) -> bool {
        let keys = self.slots.len();
        let size = self.bytes.len() + (ENTRY_SIZE_BYTES + HISTORY_REF_SIZE_BYTES + LINE_SIZE_BYTES / LINE_KEYS) * keys;
        keys >= BLOCK_KEYS_MAX || size + size / keys.max(1) > size_max
    }

    pub(crate) fn push(&mut self, entry: &NewEntry<'_>) {
        self.bytes.extend_from_slice(entry.key);
        let key_end = self.bytes.len();
        self.bytes.extend_from_slice(entry.suffix);
        let suffix_end = self.bytes.len();
        self.bytes.extend_from_slice(entry.value);
        let value_end = self.bytes.len();
        let NewEntry { version, flags, history, .. } = *entry;
        self.slots.push(Slot { key_end, suffix_end, value_end, version, flags, history });
        let (oldest, newest) = self.versions.unwrap_or((entry.oldest, version));
        self.versions = Some((oldest.min(entry.oldest), newest.max(version)));
    }

    fn parts(&self) -> impl Iterator<Item = (&[u8], &[u8], &[u8], &Slot)> {
        let mut start = 0;
        self.slots.iter().map(move |slot| {
            let part = |from: usize, to: usize| self.bytes.get(from..to).unwrap_or_default();
            let parts =
                (part(start, slot.key_end), part(slot.key_end, slot.suffix_end), part(slot.suffix_end, slot.value_end), slot);
            start = slot.value_end;
            parts
        })
    }

    /// The block of what was pushed, at least one entry; the builder is empty then.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a block's keys, its common prefix and its offsets are far below the limits of u16"
    )]
    pub(crate) fn finish(&mut self) -> Option<BuiltBlock> {
        let (base, newest) = self.versions.take()?;
        let (first, ..) = self.parts().next()?;
        let (last, ..) = self.parts().last()?;
        let common = common_len(first, last);
        let first = first.to_vec();
        let lines = self.slots.len().div_ceil(LINE_KEYS);
        let mut raw = vec![0; lines * LINE_SIZE_BYTES];
        raw.reserve(self.bytes.len() + ENTRY_WIDE_SIZE_BYTES * self.slots.len());
        let (mut heads, mut offsets) = (Vec::with_capacity(self.slots.len()), Vec::with_capacity(self.slots.len()));
        for (key, suffix, value, slot) in self.parts() {
            let rest = key.get(common..).unwrap_or_default();
            heads.push(head(rest));
            offsets.push(raw.len() as u16);
            write_entry(&mut raw, rest, suffix, value, slot, base);
        }
        write_lines(&mut raw, &heads, &offsets);
        let block = BuiltBlock {
            raw,
            first,
            versions: (base, newest),
            keys: self.slots.len() as u16,
            common_len: common as u16,
            heads: heads.iter().copied().step_by(LINE_KEYS).collect(),
        };
        self.bytes.clear();
        self.slots.clear();
        Some(block)
    }
}

fn write_lines(raw: &mut [u8], heads: &[u32], offsets: &[u16]) {
    let (lines, _) = raw.as_chunks_mut::<LINE_SIZE_BYTES>();
    for ((line, heads), offsets) in lines.iter_mut().zip(heads.chunks(LINE_KEYS)).zip(offsets.chunks(LINE_KEYS)) {
        let all_heads = heads.iter().copied().chain(std::iter::repeat(u32::MAX)).take(LINE_KEYS).flat_map(u32::to_le_bytes);
        let all_offsets = offsets.iter().copied().chain(std::iter::repeat(0)).take(LINE_KEYS).flat_map(u16::to_le_bytes);
        #[expect(clippy::cast_possible_truncation, reason = "at most ten")]
        let count = (heads.len() as u16).to_le_bytes();
        for (to, from) in line.iter_mut().zip(all_heads.chain(all_offsets).chain(count)) {
            *to = from;
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "keys and values are limited far below")]
fn write_entry(raw: &mut Vec<u8>, rest: &[u8], suffix: &[u8], value: &[u8], slot: &Slot, base: Version) {
    let delta = slot.version.0 - base.0;
    let narrow = (u8::try_from(rest.len()), u16::try_from(value.len()), u32::try_from(delta));
    let mut flags = slot.flags;
    flags |= if slot.history.is_some() { flags::HISTORY } else { 0 };
    flags |= if suffix.is_empty() { 0 } else { flags::SUFFIX };
    if let (Ok(rest_len), Ok(value_len), Ok(delta)) = narrow {
        raw.push(flags);
        raw.push(rest_len);
        raw.extend_from_slice(&value_len.to_le_bytes());
        raw.extend_from_slice(&delta.to_le_bytes());
    } else {
        raw.push(flags | flags::WIDE);
        raw.extend_from_slice(&(rest.len() as u16).to_le_bytes());
        raw.extend_from_slice(&(value.len() as u32).to_le_bytes());
        raw.extend_from_slice(&slot.version.0.to_le_bytes());
    }
    if let Some(history) = slot.history {
        history.encode(raw);
    }
    if !suffix.is_empty() {
        raw.extend_from_slice(&(suffix.len() as u16).to_le_bytes());
    }
    raw.extend_from_slice(rest);
    raw.extend_from_slice(suffix);
    raw.extend_from_slice(value);
}

const _: () = assert!(LINE_COUNT_AT + 4 == LINE_SIZE_BYTES, "count and reserved bytes end a line");

#[cfg(test)]
mod tests {
    use super::*;

    fn build(keys: &[Vec<u8>]) -> BuiltBlock {
        let mut builder = MainBuilder::default();
        for (number, key) in (0_u64..).zip(keys) {
            let version = Version(100 + number * 7 % 13);
            let value = format!("value of {number}");
            let history = (number % 3 == 0).then_some(HistoryRef { block: 9, offset: 77, more: 2 });
            let suffix: &[u8] = if number % 4 == 0 { b"suffix" } else { b"" };
            let flags = if number % 5 == 4 { flags::TOMBSTONE } else { 0 };
            builder.push(&NewEntry { key, suffix, version, flags, value: value.as_bytes(), history, oldest: Version(90) });
        }
        builder.finish().unwrap()
    }

    fn check(keys: &[Vec<u8>]) {
        let built = build(keys);
        let block = MainBlock::new(&built.raw, usize::from(built.keys), built.versions.0);
        let common = usize::from(built.common_len);
        assert_eq!(usize::from(built.keys), keys.len());
        for (number, key) in keys.iter().enumerate() {
            let entry = block.entry(number).unwrap();
            assert_eq!([&built.first[..common], entry.rest].concat(), *key);
            assert_eq!(entry.value, format!("value of {number}").as_bytes());
            assert_eq!(entry.version, Version(100 + number as u64 * 7 % 13));
            assert_eq!(entry.history.is_some(), number % 3 == 0);
            assert_eq!(entry.suffix.is_empty(), number % 4 != 0);
            assert_eq!(entry.is_tombstone(), number % 5 == 4);
            let (found, hit) = block.lower_bound(&key[common..], &built.heads).unwrap();
            assert!(found == number && hit.is_some(), "{key:?}");
            // What lies just behind a key is not there, unless it is the next one.
            let behind = [&key[common..], &[0]].concat();
            let (found, hit) = block.lower_bound(&behind, &built.heads).unwrap();
            assert_eq!(found, number + 1, "{behind:?}");
            assert_eq!(hit.is_some(), keys.get(number + 1).is_some_and(|next| next[common..] == behind));
        }
        assert!(block.entry(keys.len()).is_none());
    }

    #[test]
    fn every_key_is_found_in_blocks_of_every_size() {
        for count in 1..=BLOCK_KEYS_MAX {
            check(&(0..count).map(|number| format!("key{:06}", number * 37).into_bytes()).collect::<Vec<_>>());
        }
    }

    #[test]
    fn keys_that_share_much_inside_the_block_are_found() {
        let keys = |count| (0..count).map(|number| format!("tenant/{:04}/order/{number:012}", number / 40).into_bytes());
        check(&keys(120).collect::<Vec<_>>());
        let mut odd: Vec<Vec<u8>> = keys(60).collect();
        odd.extend([b"a".to_vec(), b"zzzz".to_vec()]);
        odd.sort();
        check(&odd);
    }

    #[test]
    fn short_keys_and_zeros_are_distinct() {
        let mut keys: Vec<Vec<u8>> =
            vec![vec![], vec![0], vec![0, 0], vec![0, 0, 0, 0], vec![0, 0, 0, 0, 0], vec![1], vec![255; 4], vec![255; 5]];
        keys.sort();
        check(&keys);
    }

    #[test]
    fn distant_versions_and_long_parts_take_the_wide_form() {
        let mut builder = MainBuilder::default();
        let key = vec![b'k'; 1000];
        let value = vec![1; 4095];
        let entry = NewEntry {
            key: &key,
            suffix: b"s",
            version: Version(u64::MAX),
            flags: 0,
            value: &value,
            history: None,
            oldest: Version(0),
        };
        builder.push(&NewEntry { key: b"a", version: Version(0), ..entry });
        builder.push(&entry);
        let built = builder.finish().unwrap();
        let block = MainBlock::new(&built.raw, 2, built.versions.0);
        let read = block.entry(1).unwrap();
        assert_eq!((read.version, read.rest, read.suffix, read.value), (Version(u64::MAX), &key[..], &b"s"[..], &value[..]));
        assert_eq!(block.entry(0).unwrap().version, Version(0));
    }

    #[test]
    fn cut_blocks_answer_nothing() {
        let built = build(&(0..30).map(|number| format!("{number:05}").into_bytes()).collect::<Vec<_>>());
        for len in 0..built.raw.len() {
            let block = MainBlock::new(&built.raw[..len], usize::from(built.keys), built.versions.0);
            for index in 0..30 {
                assert!(block.entry(index).is_none_or(|entry| entry.rest.len() <= built.raw.len()));
            }
            assert!(block.entry(29).is_none());
        }
    }
}
