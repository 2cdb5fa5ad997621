//! A batch of entries read by a scan.

use std::iter::FusedIterator;

use bytes::Bytes;

use crate::entry::{EntryRef, RawEntry};
use crate::version::Version;

/// Values up to this size are copied into the batch's own buffer, which is cheaper than a counted reference for each; larger
/// ones are shared.
pub const INLINE_VALUE_SIZE_BYTES_MAX: usize = 1024;

/// A batch of a scan that has become as large as this ends: with values of a gibibyte hundreds of entries would be too many.
pub const SCAN_BATCH_SIZE_BYTES: usize = 1 << 20;

/// After so many entries a batch knows what room the rest will take.
const SAMPLE_ENTRIES: usize = 8;
/// Room for the first entries, before anything is known.
const SAMPLE_SIZE_BYTES: usize = 1024;
/// Room is made for no more than this at once: a batch may be asked for more entries than there are. From there on it grows as it is filled.
const RESERVED_SIZE_BYTES_MAX: usize = 128 << 10;

/// Entries of one table in the order of a scan, in one buffer: no allocation and no reference count for each entry.
///
/// ```
/// use thermocline_tier::{RangeBatch, Version};
///
/// let mut batch = RangeBatch::new();
/// batch.push(b"k", b"", Version(1), Some(b"v"));
/// batch.push(b"l", b"", Version(2), None);
/// assert_eq!(batch.len(), 2);
/// assert_eq!(batch.get(0).and_then(|entry| entry.value), Some(b"v".as_slice()));
/// assert!(batch.into_entries().last().is_some_and(|entry| entry.value.is_none()));
/// ```
#[derive(Clone, Debug, Default)]
pub struct RangeBatch {
    buffer: Vec<u8>,
    slots: Vec<Slot>,
    shared: Vec<Bytes>,
    shared_size_bytes: usize,
    /// Whether the scan has more entries after these. Exact, not a guess.
    pub has_more: bool,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    start: usize,
    prefix_len: usize,
    suffix_len: usize,
    version: Version,
    value: SlotValue,
}

#[derive(Clone, Copy, Debug)]
enum SlotValue {
    Tombstone,
    /// Behind the key in the buffer, this long.
    Inline(usize),
    /// An index into `shared`.
    Shared(usize),
}

impl RangeBatch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    fn reserve(&mut self, entries: usize, bytes: usize) {
        self.slots.reserve(entries);
        self.buffer.reserve(bytes);
    }

    /// To be called before each push by a scan that fills the batch with up to `entries_max` entries: makes room for some at the beginning,
    /// and for the rest when the first few have shown what they take, so that buffers need not grow step by step.
    #[inline]
    pub fn make_room(&mut self, entries_max: usize) {
        match self.slots.len() {
            0 => self.reserve(entries_max.min(SAMPLE_ENTRIES), SAMPLE_SIZE_BYTES),
            SAMPLE_ENTRIES => {
                let each = self.buffer.len() / SAMPLE_ENTRIES * 9 / 8 + size_of::<Slot>();
                let entries = entries_max.saturating_sub(SAMPLE_ENTRIES).min(RESERVED_SIZE_BYTES_MAX / each);
                self.reserve(entries, (each - size_of::<Slot>()) * entries);
            }
            _ => {}
        }
    }

    /// Appends an entry, copying its value.
    #[inline]
    pub fn push(&mut self, prefix: &[u8], suffix: &[u8], version: Version, value: Option<&[u8]>) {
        let slot_value = value.map_or(SlotValue::Tombstone, |value| SlotValue::Inline(value.len()));
        self.push_key(prefix, suffix, version, slot_value);
        self.buffer.extend_from_slice(value.unwrap_or_default());
    }

    /// Appends an entry whose prefix lies in words of eight bytes, the first byte lowest, copying its value: for a tier that keeps
    /// keys so, and is spared a copy in between. `prefix` yields at least `prefix_len` bytes; fewer make a shorter prefix.
    #[inline]
    pub fn push_words(
        &mut self,
        prefix: impl Iterator<Item = u64>,
        prefix_len: usize,
        suffix: &[u8],
        version: Version,
        value: Option<&[u8]>,
    ) {
        let start = self.buffer.len();
        for word in prefix.take(prefix_len.div_ceil(8)) {
            self.buffer.extend_from_slice(&word.to_le_bytes());
        }
        self.buffer.truncate(start + prefix_len);
        let prefix_len = self.buffer.len() - start;
        let slot_value = value.map_or(SlotValue::Tombstone, |value| SlotValue::Inline(value.len()));
        self.slots.push(Slot { start, prefix_len, suffix_len: suffix.len(), version, value: slot_value });
        if !suffix.is_empty() {
            self.buffer.extend_from_slice(suffix);
        }
        self.buffer.extend_from_slice(value.unwrap_or_default());
    }

    /// As [`push`](Self::push), with the prefix in two parts.
    #[inline]
    pub fn push_parts(&mut self, prefix: [&[u8]; 2], suffix: &[u8], version: Version, value: Option<&[u8]>) {
        let start = self.buffer.len();
        let prefix_len = prefix[0].len() + prefix[1].len();
        let slot_value = value.map_or(SlotValue::Tombstone, |value| SlotValue::Inline(value.len()));
        self.slots.push(Slot { start, prefix_len, suffix_len: suffix.len(), version, value: slot_value });
        self.buffer.extend_from_slice(prefix[0]);
        self.buffer.extend_from_slice(prefix[1]);
        if !suffix.is_empty() {
            self.buffer.extend_from_slice(suffix);
        }
        self.buffer.extend_from_slice(value.unwrap_or_default());
    }

    /// Appends an entry, sharing its value.
    pub fn push_shared(&mut self, prefix: &[u8], suffix: &[u8], version: Version, value: Bytes) {
        self.push_key(prefix, suffix, version, SlotValue::Shared(self.shared.len()));
        self.shared_size_bytes += value.len();
        self.shared.push(value);
    }

    #[inline]
    fn push_key(&mut self, prefix: &[u8], suffix: &[u8], version: Version, value: SlotValue) {
        let start = self.buffer.len();
        self.slots.push(Slot { start, prefix_len: prefix.len(), suffix_len: suffix.len(), version, value });
        self.buffer.extend_from_slice(prefix);
        if !suffix.is_empty() {
            self.buffer.extend_from_slice(suffix);
        }
    }

    /// Appends entry `index` of another batch; nothing if there is none.
    pub fn push_from(&mut self, other: &Self, index: usize) {
        let (Some(slot), Some(entry)) = (other.slots.get(index), other.get(index)) else { return };
        match slot.value {
            SlotValue::Shared(shared) => {
                self.push_shared(entry.prefix, entry.suffix, entry.version, other.shared[shared].clone());
            }
            SlotValue::Tombstone | SlotValue::Inline(_) => {
                self.push(entry.prefix, entry.suffix, entry.version, entry.value);
            }
        }
    }

    /// What the keys and values of the entries take, in bytes; those of [truncated](Self::truncate) entries too.
    pub fn size_bytes(&self) -> usize {
        self.buffer.len() + self.shared_size_bytes
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Entry `index`; `None` past the end.
    pub fn get(&self, index: usize) -> Option<EntryRef<'_>> {
        self.slots.get(index).map(|slot| self.entry(slot))
    }

    /// The last entry.
    pub fn last(&self) -> Option<EntryRef<'_>> {
        self.slots.last().map(|slot| self.entry(slot))
    }

    /// The entries in the order of the scan.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = EntryRef<'_>> + DoubleEndedIterator {
        self.slots.iter().map(|slot| self.entry(slot))
    }

    /// The entries with their whole keys, in the order of the scan.
    #[inline]
    pub fn rows(&self) -> impl ExactSizeIterator<Item = RowRef<'_>> + DoubleEndedIterator {
        self.slots.iter().map(|slot| {
            let value_start = slot.start + slot.prefix_len + slot.suffix_len;
            RowRef {
                key: &self.buffer[slot.start..value_start],
                version: slot.version,
                value: match slot.value {
                    SlotValue::Tombstone => None,
                    SlotValue::Inline(len) => Some(&self.buffer[value_start..value_start + len]),
                    SlotValue::Shared(index) => Some(&self.shared[index]),
                },
            }
        })
    }

    fn entry(&self, slot: &Slot) -> EntryRef<'_> {
        let suffix_start = slot.start + slot.prefix_len;
        let value_start = suffix_start + slot.suffix_len;
        EntryRef {
            prefix: &self.buffer[slot.start..suffix_start],
            suffix: &self.buffer[suffix_start..value_start],
            version: slot.version,
            value: match slot.value {
                SlotValue::Tombstone => None,
                SlotValue::Inline(len) => Some(&self.buffer[value_start..value_start + len]),
                SlotValue::Shared(index) => Some(&self.shared[index]),
            },
        }
    }

    /// Removes all entries and keeps the memory.
    pub fn clear(&mut self) {
        self.buffer.clear();
        self.slots.clear();
        self.shared.clear();
        self.shared_size_bytes = 0;
        self.has_more = false;
    }

    /// Keeps the first `len` entries.
    pub fn truncate(&mut self, len: usize) {
        self.slots.truncate(len);
    }

    /// The entries as rows, owned. They share the batch's buffer: no bytes are copied.
    pub fn into_rows(self) -> Rows {
        Rows { buffer: Bytes::from(self.buffer), shared: self.shared, slots: self.slots.into_iter(), last: None }
    }

    /// The entries, owned. They share the batch's buffer: no bytes are copied.
    pub fn into_entries(self) -> impl ExactSizeIterator<Item = RawEntry> + DoubleEndedIterator + Send {
        let (buffer, shared) = (Bytes::from(self.buffer), self.shared);
        self.slots.into_iter().map(move |slot| {
            let suffix_start = slot.start + slot.prefix_len;
            let value_start = suffix_start + slot.suffix_len;
            RawEntry {
                prefix: buffer.slice(slot.start..suffix_start),
                // An empty slice of a `Bytes` would still count a reference.
                suffix: if slot.suffix_len == 0 { Bytes::new() } else { buffer.slice(suffix_start..value_start) },
                version: slot.version,
                value: match slot.value {
                    SlotValue::Tombstone => None,
                    SlotValue::Inline(len) => Some(buffer.slice(value_start..value_start + len)),
                    SlotValue::Shared(index) => Some(shared[index].clone()),
                },
            }
        })
    }
}

/// An entry with its whole key, borrowed from the batch.
///
/// ```
/// use thermocline_tier::{RangeBatch, RowRef, Version};
///
/// let mut batch = RangeBatch::new();
/// batch.push(b"k", b"suffix", Version(1), None);
/// assert_eq!(batch.rows().next(), Some(RowRef { key: b"ksuffix", version: Version(1), value: None }));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowRef<'a> {
    /// The key: prefix, then suffix.
    pub key: &'a [u8],
    /// The version at which the row was written.
    pub version: Version,
    /// The value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
}

/// An entry with its whole key, owned.
///
/// ```
/// use thermocline_tier::{RangeBatch, Version};
///
/// let mut batch = RangeBatch::new();
/// batch.push(b"k", b"suffix", Version(1), Some(b"v"));
/// let row = batch.into_rows().next().unwrap_or_default();
/// assert_eq!((&row.key[..], row.prefix()), (b"ksuffix".as_slice(), b"k".as_slice()));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// The key: prefix, then suffix.
    pub key: Bytes,
    /// The length of the prefix within the key, in bytes.
    pub prefix_len: usize,
    /// The version at which the row was written.
    pub version: Version,
    /// The value; `None` is a tombstone.
    pub value: Option<Bytes>,
}

impl Row {
    /// The part of the key that orders.
    pub fn prefix(&self) -> &[u8] {
        &self.key[..self.prefix_len]
    }
}

/// The rows of a [`RangeBatch`], in the order of the scan.
///
/// ```
/// assert_eq!(thermocline_tier::Rows::default().count(), 0);
/// ```
#[derive(Debug, Default)]
pub struct Rows {
    buffer: Bytes,
    shared: Vec<Bytes>,
    slots: std::vec::IntoIter<Slot>,
    /// Start and length of the prefix that was handed out last.
    last: Option<(usize, usize)>,
}

impl Rows {
    /// The prefix of the row that was handed out last.
    pub fn last_prefix(&self) -> Option<&[u8]> {
        self.last.map(|(start, len)| &self.buffer[start..start + len])
    }
}

impl Iterator for Rows {
    type Item = Row;

    fn next(&mut self) -> Option<Row> {
        let slot = self.slots.next()?;
        self.last = Some((slot.start, slot.prefix_len));
        let value_start = slot.start + slot.prefix_len + slot.suffix_len;
        let value = match slot.value {
            SlotValue::Tombstone => None,
            SlotValue::Inline(len) => Some(self.buffer.slice(value_start..value_start + len)),
            SlotValue::Shared(index) => Some(self.shared[index].clone()),
        };
        let key = self.buffer.slice(slot.start..value_start);
        Some(Row { key, prefix_len: slot.prefix_len, version: slot.version, value })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.slots.size_hint()
    }
}

impl ExactSizeIterator for Rows {}
impl FusedIterator for Rows {}
