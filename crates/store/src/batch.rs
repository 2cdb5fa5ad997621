//! The batch that a user fills and commits.

use std::collections::BTreeSet;

use thermocline_tier::{BatchBuilder, EntryKind, Error, Result};

/// Writes to any tables, committed together or not at all. Within a batch the last operation on a key wins.
///
/// Filling a batch never fails: the first write that breaks a limit is kept as an error, and the commit returns it
/// and changes nothing.
///
/// ```
/// use thermocline_store::Batch;
/// use thermocline_tier::EntryKind;
///
/// let mut batch = Batch::new();
/// batch.put(EntryKind::source(7), b"user/1", b"Ada").remove(EntryKind::source(7), b"user/2");
/// assert_eq!(batch.len(), 2);
/// ```
#[derive(Debug, Default)]
pub struct Batch {
    pub(crate) writes: BatchBuilder,
    pub(crate) clears: BTreeSet<EntryKind>,
    refused: Option<Error>,
}

impl Batch {
    /// An empty batch. Committing it advances the version and changes nothing else.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty batch with room for `entries` writes of together `bytes` bytes of keys and values.
    pub fn with_capacity(entries: usize, bytes: usize) -> Self {
        Self { writes: BatchBuilder::with_capacity(entries, bytes), ..Self::default() }
    }

    /// Writes `value` under `key`: key and value are copied. The limits are those of [`thermocline_tier::limits`].
    pub fn put(&mut self, table: EntryKind, key: &[u8], value: &[u8]) -> &mut Self {
        let result = self.writes.put(table, key, value);
        self.keep_first_error(result)
    }

    /// Deletes `key`, whether or not it is there.
    pub fn remove(&mut self, table: EntryKind, key: &[u8]) -> &mut Self {
        let result = self.writes.remove(table, key);
        self.keep_first_error(result)
    }

    /// Deletes every key of `table`, those written earlier in this batch included; later writes of the batch stand. Older versions
    /// still see the rows. Costs the same for any number of rows.
    pub fn clear_table(&mut self, table: EntryKind) -> &mut Self {
        self.writes.forget_table(table);
        self.clears.insert(table);
        self
    }

    /// The number of writes and clears, overwritten ones included.
    pub fn len(&self) -> usize {
        self.writes.len() + self.clears.len()
    }

    /// Whether there is nothing to commit but the version.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn keep_first_error(&mut self, result: Result<()>) -> &mut Self {
        if let Err(error) = result {
            self.refused.get_or_insert(error);
        }
        self
    }

    /// The parts to commit.
    ///
    /// # Errors
    /// The first write that was refused.
    pub(crate) fn into_parts(self) -> Result<(BatchBuilder, BTreeSet<EntryKind>)> {
        match self.refused {
            Some(error) => Err(error),
            None => Ok((self.writes, self.clears)),
        }
    }
}
