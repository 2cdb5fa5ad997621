//! A tier that holds nothing, for a checkpoint that moves no entries.

use std::sync::Arc;

use thermocline_tier::{
    DropVersion, EntryKind, EntryRef, ErrorKind, Lookup, RangeBatch, RangeCursor, RangeRequest, RawEntry, Result, TierBatch,
    TierScan, TierStats, TierStorage, Version,
};

#[derive(Debug)]
pub(crate) struct Nothing;

#[derive(Debug)]
struct NoRows;

impl TierScan for NoRows {
    fn next_batch(&mut self, _entries_max: usize, out: &mut RangeBatch) -> Result<()> {
        out.clear();
        Ok(())
    }
}

/// Nothing is ever written to it.
fn refused<T>() -> Result<T> {
    Err(ErrorKind::Unsupported { what: "writing to a tier that holds nothing".into() }.into())
}

impl TierStorage for Nothing {
    fn get(&self, _table: EntryKind, _prefix: &[u8], _at: Version) -> Result<Lookup> {
        Ok(Lookup::Absent)
    }

    fn set(&self, batch: &TierBatch) -> Result<()> {
        if batch.is_empty() { Ok(()) } else { refused() }
    }

    fn range_next(&self, cursor: &mut RangeCursor, _batch_size: usize) -> Result<RangeBatch> {
        cursor.exhaust();
        Ok(RangeBatch::new())
    }

    fn range_rev_next(&self, cursor: &mut RangeCursor, batch_size: usize) -> Result<RangeBatch> {
        self.range_next(cursor, batch_size)
    }

    fn scan(self: Arc<Self>, _request: RangeRequest) -> Result<Box<dyn TierScan>> {
        Ok(Box::new(NoRows))
    }

    fn ensure_table(&self, _table: EntryKind) -> Result<()> {
        refused()
    }

    fn tables(&self) -> Result<Vec<EntryKind>> {
        Ok(Vec::new())
    }

    fn clear_table(&self, _table: EntryKind) -> Result<()> {
        Ok(())
    }

    fn drop_versions(&self, _drops: &[DropVersion]) -> Result<()> {
        Ok(())
    }

    fn get_all_versions(&self, _table: EntryKind, _prefix: &[u8]) -> Result<Vec<RawEntry>> {
        Ok(Vec::new())
    }

    fn visit_entries(&self, _visit: &mut dyn FnMut(EntryKind, EntryRef<'_>) -> Result<()>) -> Result<()> {
        Ok(())
    }

    fn stats(&self) -> TierStats {
        TierStats::default()
    }
}
