//! Batches of writes: collected in any order, handed to tiers in one order.

use std::cmp::Ordering;

use crate::entry::EntryRef;
use crate::error::{ErrorKind, Result};
use crate::key::KeyLayout;
use crate::limits::{self, BATCH_SIZE_BYTES_MAX};
use crate::table::EntryKind;
use crate::version::Version;

/// Collects writes to any tables, in any order. Keys and values are copied once, into one buffer.
///
/// ```
/// use thermocline_tier::{BatchBuilder, EntryKind, Version, WholeKey};
///
/// let mut builder = BatchBuilder::new();
/// builder.put(EntryKind::Multi, b"b", b"1")?;
/// builder.put(EntryKind::Multi, b"a", b"2")?;
/// builder.remove(EntryKind::Multi, b"b")?;
/// let batch = builder.finish(&WholeKey, Version(1));
///
/// let keys: Vec<_> = batch.iter().map(|(_, entry)| (entry.prefix, entry.value)).collect();
/// assert_eq!(keys, [(b"a".as_slice(), Some(b"2".as_slice())), (b"b".as_slice(), None)]);
/// # Ok::<(), thermocline_tier::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct BatchBuilder {
    buffer: Vec<u8>,
    slots: Vec<Slot>,
}

/// Where one write lies in the buffer: key, then value.
#[derive(Clone, Copy, Debug)]
struct Slot {
    table: EntryKind,
    start: u32,
    prefix_len: u16,
    key_len: u16,
    value_len: u32,
    is_tombstone: bool,
}

impl Slot {
    fn key<'a>(&self, buffer: &'a [u8]) -> &'a [u8] {
        let start = self.start as usize;
        &buffer[start..start + usize::from(self.key_len)]
    }

    fn prefix<'a>(&self, buffer: &'a [u8]) -> &'a [u8] {
        &self.key(buffer)[..usize::from(self.prefix_len)]
    }

    fn value<'a>(&self, buffer: &'a [u8]) -> Option<&'a [u8]> {
        let start = self.start as usize + usize::from(self.key_len);
        (!self.is_tombstone).then(|| &buffer[start..start + self.value_len as usize])
    }
}

impl BatchBuilder {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty batch with room for `entries` writes of together `bytes` bytes of keys and values.
    pub fn with_capacity(entries: usize, bytes: usize) -> Self {
        Self { buffer: Vec::with_capacity(bytes), slots: Vec::with_capacity(entries) }
    }

    /// Writes `value` under `key`. The last write of a key within the batch wins.
    ///
    /// # Errors
    /// [`LimitExceeded`](crate::ErrorKind::LimitExceeded) for a key, a value or a batch over its limit; the batch stays as it was.
    pub fn put(&mut self, table: EntryKind, key: &[u8], value: &[u8]) -> Result<()> {
        limits::check_value(value)?;
        self.push(table, key, Some(value))
    }

    /// Deletes `key`, whether or not it is there.
    ///
    /// # Errors
    /// [`LimitExceeded`](crate::ErrorKind::LimitExceeded) for a key or a batch over its limit; the batch stays as it was.
    pub fn remove(&mut self, table: EntryKind, key: &[u8]) -> Result<()> {
        self.push(table, key, None)
    }

    #[expect(clippy::cast_possible_truncation, reason = "key, value and batch sizes were checked against limits that fit")]
    fn push(&mut self, table: EntryKind, key: &[u8], value: Option<&[u8]>) -> Result<()> {
        limits::check_key(key)?;
        let size = self.buffer.len() + key.len() + value.map_or(0, <[u8]>::len);
        limits::check("batch size in bytes", size, BATCH_SIZE_BYTES_MAX)?;
        self.slots.push(Slot {
            table,
            start: self.buffer.len() as u32,
            prefix_len: key.len() as u16,
            key_len: key.len() as u16,
            value_len: value.map_or(0, <[u8]>::len) as u32,
            is_tombstone: value.is_none(),
        });
        self.buffer.extend_from_slice(key);
        self.buffer.extend_from_slice(value.unwrap_or_default());
        Ok(())
    }

    /// Takes back every write to `table`.
    pub fn forget_table(&mut self, table: EntryKind) {
        self.slots.retain(|slot| slot.table != table);
    }

    /// The number of writes, overwritten ones included.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is no write.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Orders the writes, keeps the last of each key, and gives them their version. Cost: a sort of the keys, none if they
    /// came in order; no byte is copied.
    pub fn finish(mut self, layout: &dyn KeyLayout, version: Version) -> TierBatch {
        let buffer = &self.buffer;
        for slot in &mut self.slots {
            let prefix_len = layout.prefix_len(slot.table, slot.key(buffer));
            slot.prefix_len = u16::try_from(prefix_len).unwrap_or(u16::MAX).min(slot.key_len);
        }
        if !self.slots.is_sorted_by(|a, b| order(a, b, buffer).is_lt()) {
            self.slots = sorted(&self.slots, buffer);
        }
        TierBatch { version, buffer: self.buffer, slots: self.slots }
    }
}

/// The bits of a sort word that hold a write's index, below those of the key's head.
const SORT_INDEX_BITS: u32 = 30;
/// The bits of a sort word that hold the key's head.
const SORT_HEAD_BITS: u32 = 64;

/// The slots in order of (table, prefix), of equal ones only the last.
///
/// Each slot becomes one number (table, first eight bytes of the prefix, index), and numbers sort much faster than keys that lie
/// elsewhere: sorting would else be a large part of what a commit of random keys costs. Only slots with equal tables and heads look at
/// whole keys.
fn sorted(slots: &[Slot], buffer: &[u8]) -> Vec<Slot> {
    if slots.len() >> SORT_INDEX_BITS != 0 {
        return settled(slots.to_vec(), buffer);
    }
    let word = |(index, slot): (usize, &Slot)| {
        let (table, head) = (u128::from(slot.table.code()), u128::from(head(slot.prefix(buffer))));
        (table << SORT_HEAD_BITS | head) << SORT_INDEX_BITS | index as u128
    };
    let mut words: Vec<u128> = slots.iter().enumerate().map(word).collect();
    words.sort_unstable();
    let slot = |word: &u128| slots[(word & ((1 << SORT_INDEX_BITS) - 1)) as usize];
    let mut kept = Vec::with_capacity(slots.len());
    for run in words.chunk_by(|a, b| a >> SORT_INDEX_BITS == b >> SORT_INDEX_BITS) {
        match run {
            [only] => kept.push(slot(only)),
            run => kept.extend(settled(run.iter().map(slot).collect(), buffer)),
        }
    }
    kept
}

/// Sorts slots by their whole keys and keeps the last written of equal ones.
fn settled(mut slots: Vec<Slot>, buffer: &[u8]) -> Vec<Slot> {
    slots.sort_by(|a, b| order(a, b, buffer));
    // The sort is stable, so of equal keys the last written stands last.
    slots.reverse();
    slots.dedup_by(|older, newer| order(older, newer, buffer).is_eq());
    slots.reverse();
    slots
}

fn order(a: &Slot, b: &Slot, buffer: &[u8]) -> Ordering {
    (a.table, a.prefix(buffer)).cmp(&(b.table, b.prefix(buffer)))
}

/// The first eight bytes as a number that orders as they do; shorter prefixes are filled up with zeros, so equal heads do not mean equal
/// prefixes.
fn head(prefix: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    let len = prefix.len().min(bytes.len());
    bytes[..len].copy_from_slice(&prefix[..len]);
    u64::from_le_bytes(bytes).swap_bytes()
}

/// Writes of one version, ordered by (table, key), each key once: what tiers and the log take. Equal writes give an equal
/// batch, whatever order they were collected in.
///
/// ```
/// use thermocline_tier::{BatchBuilder, EntryKind, Version, WholeKey};
///
/// let mut builder = BatchBuilder::new();
/// builder.put(EntryKind::source(1), b"k", b"v")?;
/// let batch = builder.finish(&WholeKey, Version(7));
/// assert_eq!((batch.version(), batch.len()), (Version(7), 1));
/// # Ok::<(), thermocline_tier::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct TierBatch {
    version: Version,
    buffer: Vec<u8>,
    slots: Vec<Slot>,
}

impl TierBatch {
    /// A batch without entries, to be filled by [`push_sorted`](Self::push_sorted).
    pub fn empty(version: Version) -> Self {
        Self { version, buffer: Vec::new(), slots: Vec::new() }
    }

    /// Takes out every entry, keeps the memory, and sets the version: a reader of many batches fills one again and again.
    pub fn reset(&mut self, version: Version) {
        self.version = version;
        self.buffer.clear();
        self.slots.clear();
    }

    /// Adds an entry behind all others, for readers of files that hold entries in order. The key is given already split.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if (table, prefix) is not above that of the last entry;
    /// [`LimitExceeded`](crate::ErrorKind::LimitExceeded) for a key, a value or a batch over its limit. The batch stays as it was.
    ///
    /// ```
    /// use thermocline_tier::{EntryKind, TierBatch, Version};
    ///
    /// let mut batch = TierBatch::empty(Version(3));
    /// batch.push_sorted(EntryKind::Multi, b"a", b"", Some(b"1"))?;
    /// batch.push_sorted(EntryKind::Multi, b"b", b"", None)?;
    /// assert!(batch.push_sorted(EntryKind::Multi, b"b", b"", None).is_err());
    /// assert_eq!(batch.len(), 2);
    /// # Ok::<(), thermocline_tier::Error>(())
    /// ```
    #[expect(clippy::cast_possible_truncation, reason = "key, value and batch sizes are checked against limits that fit")]
    pub fn push_sorted(&mut self, table: EntryKind, prefix: &[u8], suffix: &[u8], value: Option<&[u8]>) -> Result<()> {
        let key_len = prefix.len() + suffix.len();
        limits::check("key size in bytes", key_len, limits::KEY_SIZE_BYTES_MAX)?;
        limits::check_value(value.unwrap_or_default())?;
        let size = self.buffer.len() + key_len + value.map_or(0, <[u8]>::len);
        limits::check("batch size in bytes", size, BATCH_SIZE_BYTES_MAX)?;
        if self.slots.last().is_some_and(|last| (last.table, last.prefix(&self.buffer)) >= (table, prefix)) {
            return Err(ErrorKind::InvalidArgument { what: "an entry is not above the one before it".into() }.into());
        }
        self.slots.push(Slot {
            table,
            start: self.buffer.len() as u32,
            prefix_len: prefix.len() as u16,
            key_len: key_len as u16,
            value_len: value.map_or(0, <[u8]>::len) as u32,
            is_tombstone: value.is_none(),
        });
        self.buffer.extend_from_slice(prefix);
        self.buffer.extend_from_slice(suffix);
        self.buffer.extend_from_slice(value.unwrap_or_default());
        Ok(())
    }

    /// The version of every entry in it.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The same writes at another version: a commit learns its version only when its turn comes.
    pub fn set_version(&mut self, version: Version) {
        self.version = version;
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The bytes of all keys and values as collected, overwritten ones included: an upper bound of the entries' own.
    pub fn size_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// The entries in order of (table, prefix), each prefix of a table once.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (EntryKind, EntryRef<'_>)> + '_ {
        self.slots.iter().map(|slot| {
            let (prefix, suffix) = slot.key(&self.buffer).split_at(usize::from(slot.prefix_len));
            (slot.table, EntryRef { prefix, suffix, version: self.version, value: slot.value(&self.buffer) })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::WholeKey;

    /// Every pair of short keys that share a head with zero padding, with duplicates, in two tables: against a map.
    #[test]
    fn batch_is_ordered_by_whole_keys_and_keeps_the_last_write() {
        let keys: [&[u8]; 9] = [b"12345678", b"", b"\0", b"a\0", b"a", b"12345678b", b"12345678a", b"a", b"\xff"];
        let mut builder = BatchBuilder::new();
        let mut model = std::collections::BTreeMap::new();
        for (number, (table, key)) in
            (0_u8..).zip([EntryKind::operator(1), EntryKind::Multi].into_iter().flat_map(|table| keys.map(|key| (table, key))))
        {
            builder.put(table, key, &[number]).unwrap();
            model.insert((table, key.to_vec()), vec![number]);
        }
        let batch = builder.finish(&WholeKey, Version(1));
        let found: Vec<_> =
            batch.iter().map(|(table, entry)| ((table, entry.prefix.to_vec()), entry.value.unwrap().to_vec())).collect();
        assert_eq!(found, model.into_iter().collect::<Vec<_>>());
    }
}
