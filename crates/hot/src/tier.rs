//! The hot tier.

use std::sync::Arc;

use thermocline_tier::{
    DropVersion, EntryKind, KeyRef, Lookup, RangeBatch, RangeCursor, RangeRequest, RawEntry, Result, TierBatch, TierScan,
    TierStats, TierStorage, Version,
};

use crate::btree::BTreeTier;
use crate::options::HotOptions;

/// The in-memory tier.
///
/// ```
/// use thermocline_hot::{HotOptions, HotTier};
/// use thermocline_tier::{BatchBuilder, EntryKind, TierStorage, Version, WholeKey};
///
/// let tier = HotTier::new(HotOptions::default());
/// let mut batch = BatchBuilder::new();
/// batch.put(EntryKind::Multi, b"k", b"v")?;
/// tier.set(&batch.finish(&WholeKey, Version(1)))?;
/// assert_eq!(tier.get(EntryKind::Multi, b"k", Version::MAX)?.into_value().as_deref(), Some(b"v".as_slice()));
/// # Ok::<(), thermocline_tier::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct HotTier {
    inner: BTreeTier,
}

impl HotTier {
    /// An empty tier.
    pub fn new(options: HotOptions) -> Self {
        Self { inner: BTreeTier::new(options) }
    }

    /// The options that the tier was made with.
    pub fn options(&self) -> &HotOptions {
        self.inner.options()
    }
}

impl TierStorage for HotTier {
    fn get(&self, table: EntryKind, prefix: &[u8], at: Version) -> Result<Lookup> {
        self.inner.get(table, prefix, at)
    }

    fn get_many(&self, keys: &[KeyRef<'_>], at: Version) -> Result<Vec<Lookup>> {
        self.inner.get_many(keys, at)
    }

    fn set(&self, batch: &TierBatch) -> Result<()> {
        self.inner.set(batch)
    }

    fn range_next(&self, cursor: &mut RangeCursor, batch_size: usize) -> Result<RangeBatch> {
        self.inner.range_next(cursor, batch_size)
    }

    fn range_rev_next(&self, cursor: &mut RangeCursor, batch_size: usize) -> Result<RangeBatch> {
        self.inner.range_rev_next(cursor, batch_size)
    }

    fn scan(self: Arc<Self>, request: RangeRequest) -> Result<Box<dyn TierScan>> {
        Ok(Box::new(thermocline_tier::PagedScan::new(self, request)))
    }

    fn ensure_table(&self, table: EntryKind) -> Result<()> {
        self.inner.ensure_table(table)
    }

    fn tables(&self) -> Result<Vec<EntryKind>> {
        self.inner.tables()
    }

    fn clear_table(&self, table: EntryKind) -> Result<()> {
        self.inner.clear_table(table)
    }

    fn drop_versions(&self, drops: &[DropVersion]) -> Result<()> {
        self.inner.drop_versions(drops)
    }

    fn get_all_versions(&self, table: EntryKind, prefix: &[u8]) -> Result<Vec<RawEntry>> {
        self.inner.get_all_versions(table, prefix)
    }

    fn stats(&self) -> TierStats {
        self.inner.stats()
    }
}
