//! Every version of one key.

use std::sync::Arc;

use bytes::Bytes;
use thermocline_tier::{EntryKind, Result, Version};

use crate::reclaim::{Reader, only};
use crate::store::Inner;

/// One version of a key.
///
/// ```
/// use thermocline_store::HistoryEntry;
/// use thermocline_tier::Version;
///
/// let deleted = HistoryEntry { version: Version(3), value: None };
/// assert!(deleted.value.is_none());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryEntry {
    /// The commit that wrote it.
    pub version: Version,
    /// The value; `None` where the commit deleted the key, alone or with its whole table.
    pub value: Option<Bytes>,
}

/// The versions of a key, newest first.
///
/// ```
/// # let store = thermocline::Store::in_memory()?;
/// use thermocline_store::Batch;
/// use thermocline_tier::EntryKind;
///
/// let mut batch = Batch::new();
/// batch.put(EntryKind::Multi, b"k", b"v");
/// store.commit(batch)?;
/// store.clear_table(EntryKind::Multi)?;
/// let values: Vec<_> = store.history(EntryKind::Multi, b"k")?.map(|entry| entry.value).collect();
/// assert_eq!(values, [None, Some("v".into())]);
/// # Ok::<(), thermocline_tier::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct History(std::vec::IntoIter<HistoryEntry>);

impl History {
    /// The versions at or below `at`.
    pub(crate) fn read(inner: &Arc<Inner>, table: EntryKind, key: &[u8], at: Version, reader: Reader<'_>) -> Result<Self> {
        inner.check_open()?;
        let stored = inner.storage.view().merged()?.get_all_versions(table, key)?;
        inner.check_retained(table, || only(key), at, reader)?;
        let clears = inner.marks.clears(table);
        let mut entries: Vec<HistoryEntry> = stored
            .into_iter()
            .filter(|entry| entry.version <= at && entry.version >= clears.floor())
            .map(|entry| HistoryEntry { version: entry.version, value: entry.value })
            .collect();
        // Oldest first, so that a clear finds what an earlier one has left.
        for clear in clears.oldest_first(at) {
            // What the commit of the clear itself wrote stands after the clear.
            let older = entries.partition_point(|entry| entry.version >= clear);
            let is_rewritten = older > 0 && entries[older - 1].version == clear;
            if !is_rewritten && entries.get(older).is_some_and(|entry| entry.value.is_some()) {
                entries.insert(older, HistoryEntry { version: clear, value: None });
            }
        }
        Ok(Self(entries.into_iter()))
    }
}

impl Iterator for History {
    type Item = HistoryEntry;

    fn next(&mut self) -> Option<HistoryEntry> {
        self.0.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl DoubleEndedIterator for History {
    fn next_back(&mut self) -> Option<HistoryEntry> {
        self.0.next_back()
    }
}

impl ExactSizeIterator for History {}
