//! The batch that a user fills and commits.

use std::collections::BTreeSet;

use bytes::Bytes;
use thermocline_drop::DropCommand;
use thermocline_tier::{BatchBuilder, DropRule, EntryKind, Error, Result, Version, limits};

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
    drops: Vec<DropCommand>,
    refused: Option<Error>,
}

/// What a batch has to commit.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) writes: BatchBuilder,
    pub(crate) clears: BTreeSet<EntryKind>,
    /// Without the commit's version, which is not known yet.
    pub(crate) drops: Vec<DropCommand>,
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

    /// Drops older versions of `key` for good: of those that it has once this batch is committed, what this batch writes included, the
    /// ones that `rule` selects. Tombstones count as versions. If the newest is dropped, the next older one is the newest from then on; if
    /// that was a tombstone, what it hid is seen again.
    ///
    /// It is done in the background, soon after the commit, also after a restart; [`run_until_idle`](crate::Store::run_until_idle) and
    /// [`wait_idle`](crate::Store::wait_idle) do it at once. What snapshots, pins and consumers can see stays until they let go. Other reads
    /// of older versions see what is left: nothing tells them that more was there; and a store over files that is opened read-only before what
    /// was dropped from memory is flushed still shows it. `key` is the prefix, where the store's layout has suffixes. The
    /// [stream of commits](crate::Store::changes) does not show it. Policies of [`Retention`](crate::Retention) do more for less where
    /// they fit: this reads each key that it is asked for.
    ///
    /// ```
    /// # let store = thermocline::Store::in_memory()?;
    /// use thermocline_store::Batch;
    /// use thermocline_tier::EntryKind;
    ///
    /// for round in 0..3_u8 {
    ///     let mut batch = Batch::new();
    ///     batch.put(EntryKind::Multi, b"draft", &[round]).keep_last(EntryKind::Multi, b"draft", 2);
    ///     store.commit(batch)?;
    /// }
    /// store.wait_idle()?;
    /// assert_eq!(store.history(EntryKind::Multi, b"draft")?.count(), 2);
    /// # Ok::<(), thermocline_tier::Error>(())
    /// ```
    pub fn drop_versions(&mut self, table: EntryKind, key: &[u8], rule: DropRule) -> &mut Self {
        let result = limits::check_key(key);
        if result.is_ok() {
            self.drops.push(DropCommand { version: Version::ZERO, table, key: Bytes::copy_from_slice(key), rule });
        }
        self.keep_first_error(result)
    }

    /// Drops the versions of `key` below `version`: see [`drop_versions`](Self::drop_versions).
    pub fn drop_up_to(&mut self, table: EntryKind, key: &[u8], version: Version) -> &mut Self {
        self.drop_versions(table, key, DropRule { up_to: Some(version), ..DropRule::default() })
    }

    /// Drops all but the newest `count` versions of `key`: see [`drop_versions`](Self::drop_versions).
    pub fn keep_last(&mut self, table: EntryKind, key: &[u8], count: usize) -> &mut Self {
        self.drop_versions(table, key, DropRule { keep_last: Some(count), ..DropRule::default() })
    }

    /// The number of writes, clears and drops, overwritten ones included.
    pub fn len(&self) -> usize {
        self.writes.len() + self.clears.len() + self.drops.len()
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
    pub(crate) fn into_parts(self) -> Result<Parts> {
        match self.refused {
            Some(error) => Err(error),
            None => Ok(Parts { writes: self.writes, clears: self.clears, drops: self.drops }),
        }
    }
}
