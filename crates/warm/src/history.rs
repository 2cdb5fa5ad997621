//! History blocks: the older versions of keys, in groups. Building, and searching in place.

#![deny(clippy::indexing_slicing, reason = "bytes from disk must not be able to cause a panic")]

use thermocline_tier::Version;

use crate::block::Bits;
use crate::layout::{GROUP_HEADER_SIZE_BYTES, group};

const PAIR_SIZE_BYTES: usize = 8;
const PAIR_WIDE_SIZE_BYTES: usize = 12;

/// An older version, as it lies in a block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Old<'a> {
    pub(crate) version: Version,
    pub(crate) suffix: &'a [u8],
    /// The value, or the reference to one that is apart.
    pub(crate) value: &'a [u8],
    pub(crate) is_tombstone: bool,
    pub(crate) is_apart: bool,
}

/// A group of versions, newest first. Answers are `None` where the bytes are not those of a group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group<'a> {
    count: usize,
    flags: u16,
    pairs: &'a [u8],
    values: &'a [u8],
    newest: Version,
}

impl<'a> Group<'a> {
    /// The group at `offset` of a block; `newest` is the newest version of its key.
    #[inline]
    pub(crate) fn read(block: &'a [u8], offset: usize, newest: Version) -> Option<Self> {
        let mut bits = Bits(block.get(offset..)?);
        let count = usize::from(bits.u16()?);
        let flags = bits.u16()?;
        let width = if flags & group::WIDE == 0 { PAIR_SIZE_BYTES } else { PAIR_WIDE_SIZE_BYTES };
        let pairs = bits.bytes(count * width)?;
        (count != 0).then_some(Self { count, flags, pairs, values: bits.0, newest })
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    #[inline]
    fn pair(&self, index: usize) -> Option<(u64, u32)> {
        if self.flags & group::WIDE == 0 {
            let mut bits = Bits(self.pairs.get(index * PAIR_SIZE_BYTES..)?);
            Some((u64::from(bits.u32()?), bits.u32()?))
        } else {
            let mut bits = Bits(self.pairs.get(index * PAIR_WIDE_SIZE_BYTES..)?);
            Some((bits.u64()?, bits.u32()?))
        }
    }

    #[inline]
    fn version(&self, index: usize) -> Option<Version> {
        self.newest.0.checked_sub(self.pair(index)?.0).map(Version)
    }

    /// The oldest version of the group.
    pub(crate) fn oldest(&self) -> Option<Version> {
        self.version(self.count.checked_sub(1)?)
    }

    /// The version of a number, from the newest on.
    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<Old<'a>> {
        let (delta, end) = self.pair(index)?;
        let version = Version(self.newest.0.checked_sub(delta)?);
        let start = match index.checked_sub(1) {
            Some(before) => self.pair(before)?.1 & group::END,
            None => 0,
        };
        let stored = self.values.get(start as usize..(end & group::END) as usize)?;
        let (suffix, value) = if self.flags & group::SUFFIXES == 0 {
            (&[][..], stored)
        } else {
            let mut bits = Bits(stored);
            let len = usize::from(bits.u16()?);
            (bits.bytes(len)?, bits.0)
        };
        let (is_tombstone, is_apart) = (end & group::TOMBSTONE != 0, end & group::APART != 0);
        Some(Old { version, suffix, value, is_tombstone, is_apart })
    }

    /// The number of the newest version at or below `at`; the count if there is none. `None` if the bytes are no group.
    #[inline]
    pub(crate) fn find(&self, at: Version) -> Option<usize> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = usize::midpoint(low, high);
            if self.version(middle)? > at { low = middle + 1 } else { high = middle }
        }
        Some(low)
    }
}

/// An older version to be stored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewOld<'a> {
    pub(crate) version: Version,
    pub(crate) suffix: &'a [u8],
    /// Bits of [`group`] that say what the value is.
    pub(crate) bits: u32,
    pub(crate) value: &'a [u8],
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    delta: u64,
    bits: u32,
    suffix_end: usize,
    value_end: usize,
}

/// Gathers the groups of one history block.
#[derive(Debug, Default)]
pub(crate) struct HistoryBuilder {
    /// Closed groups.
    raw: Vec<u8>,
    /// Suffixes and values of the open group.
    bytes: Vec<u8>,
    slots: Vec<Slot>,
    versions: Option<(Version, Version)>,
    /// How many versions there are.
    count: usize,
}

/// A block before compression, and what the index says about it.
#[derive(Debug)]
pub(crate) struct BuiltHistory {
    pub(crate) raw: Vec<u8>,
    pub(crate) versions: (Version, Version),
}

impl HistoryBuilder {
    /// Whether the next version must go to another block: with one more of the average size this one would go over its size.
    pub(crate) fn is_full(&self, size_max: usize) -> bool {
        let open = GROUP_HEADER_SIZE_BYTES + self.slots.len() * PAIR_WIDE_SIZE_BYTES + self.bytes.len();
        let size = self.raw.len() + open;
        self.count > 0 && size + size / self.count > size_max
    }

    /// Where the open group begins, or the next one.
    pub(crate) fn offset(&self) -> usize {
        self.raw.len()
    }

    /// Adds a version to the open group, or opens one. `newest` is the newest version of the key.
    pub(crate) fn push(&mut self, old: &NewOld<'_>, newest: Version) {
        self.bytes.extend_from_slice(old.suffix);
        let suffix_end = self.bytes.len();
        self.bytes.extend_from_slice(old.value);
        let value_end = self.bytes.len();
        self.count += 1;
        self.slots.push(Slot { delta: newest.0 - old.version.0, bits: old.bits, suffix_end, value_end });
        let (oldest, newest) = self.versions.unwrap_or((old.version, old.version));
        self.versions = Some((oldest.min(old.version), newest.max(old.version)));
    }

    /// Ends the open group, if there is one.
    #[expect(clippy::cast_possible_truncation, reason = "a group's versions and bytes are below those of a block and an entry")]
    pub(crate) fn close_group(&mut self) {
        if self.slots.is_empty() {
            return;
        }
        let is_wide = self.slots.iter().any(|slot| u32::try_from(slot.delta).is_err());
        let mut start = 0;
        let has_suffixes = self.slots.iter().any(|slot| {
            let has_suffix = slot.suffix_end > start;
            start = slot.value_end;
            has_suffix
        });
        let flags = if is_wide { group::WIDE } else { 0 } | if has_suffixes { group::SUFFIXES } else { 0 };
        self.raw.extend_from_slice(&(self.slots.len() as u16).to_le_bytes());
        self.raw.extend_from_slice(&flags.to_le_bytes());
        for (number, slot) in (1..).zip(&self.slots) {
            if is_wide {
                self.raw.extend_from_slice(&slot.delta.to_le_bytes());
            } else {
                self.raw.extend_from_slice(&(slot.delta as u32).to_le_bytes());
            }
            let end = slot.value_end + if has_suffixes { 2 * number } else { 0 };
            self.raw.extend_from_slice(&(end as u32 | slot.bits).to_le_bytes());
        }
        if has_suffixes {
            let mut start = 0;
            for slot in &self.slots {
                self.raw.extend_from_slice(&((slot.suffix_end - start) as u16).to_le_bytes());
                self.raw.extend_from_slice(self.bytes.get(start..slot.value_end).unwrap_or_default());
                start = slot.value_end;
            }
        } else {
            self.raw.extend_from_slice(&self.bytes);
        }
        self.bytes.clear();
        self.slots.clear();
    }

    /// The block of all closed groups; `None` if there are none. The builder is empty then.
    pub(crate) fn finish(&mut self) -> Option<BuiltHistory> {
        self.close_group();
        let versions = self.versions.take()?;
        self.count = 0;
        Some(BuiltHistory { raw: std::mem::take(&mut self.raw), versions })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(versions: &[u64], suffix: &'static [u8]) {
        let newest = Version(u64::MAX - 5);
        let mut builder = HistoryBuilder::default();
        builder.push(&NewOld { version: Version(7), suffix: b"", bits: 0, value: b"another key's" }, Version(9));
        builder.close_group();
        let offset = builder.offset();
        for version in versions {
            let bits = if version % 5 == 0 { group::TOMBSTONE } else { 0 };
            let suffix = if version % 2 == 0 { suffix } else { b"" };
            builder.push(&NewOld { version: Version(*version), suffix, bits, value: version.to_string().as_bytes() }, newest);
        }
        let built = builder.finish().unwrap();
        let read = Group::read(&built.raw, offset, newest).unwrap();
        assert_eq!(read.len(), versions.len());
        for (index, version) in versions.iter().enumerate() {
            let old = read.get(index).unwrap();
            assert_eq!((old.version, old.value), (Version(*version), version.to_string().as_bytes()));
            assert_eq!(old.suffix.is_empty(), version % 2 != 0 || suffix.is_empty());
            assert_eq!(old.is_tombstone, version % 5 == 0);
            assert_eq!(read.find(Version(*version)), Some(index));
            assert_eq!(read.find(Version(version - 1)), Some(index + 1), "the next one is not that close");
        }
        assert_eq!(read.oldest(), versions.last().map(|version| Version(*version)));
        for len in offset..built.raw.len() {
            let cut = Group::read(&built.raw[..len], offset, newest);
            assert!(cut.is_none_or(|cut| cut.get(versions.len() - 1).is_none()));
        }
    }

    #[test]
    fn every_version_is_found() {
        let near: Vec<u64> = (1..100).rev().map(|number| u64::MAX - 2000 + number * 11).collect();
        check(&near, b"");
        check(&near, b"suffix");
        check(&[u64::MAX - 7, 1000, 3], b"");
        check(&[u64::MAX - 7, 1000, 4], b"s");
        check(&[5], b"");
    }
}
