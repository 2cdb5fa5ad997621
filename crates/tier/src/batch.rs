//! Batches of writes: collected in any order, handed to tiers in one order.

use crate::entry::EntryRef;
use crate::error::Result;
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
        let order = |a: &Slot, b: &Slot| (a.table, a.prefix(buffer)).cmp(&(b.table, b.prefix(buffer)));
        if !self.slots.is_sorted_by(|a, b| order(a, b).is_lt()) {
            self.slots.sort_by(order);
            // The sort is stable, so of equal keys the last written stands last: keep that one.
            let mut kept = 0;
            for index in 0..self.slots.len() {
                let is_last = self.slots.get(index + 1).is_none_or(|next| order(&self.slots[index], next).is_ne());
                if is_last {
                    self.slots[kept] = self.slots[index];
                    kept += 1;
                }
            }
            self.slots.truncate(kept);
        }
        TierBatch { version, buffer: self.buffer, slots: self.slots }
    }
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
