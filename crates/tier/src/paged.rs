//! A streaming scan made of pages, for tiers where a seek costs little.

use std::sync::Arc;

use crate::error::Result;
use crate::page::RangeBatch;
use crate::range::{Direction, RangeCursor, RangeRequest};
use crate::storage::{TierScan, TierStorage};

/// A [`TierScan`] over [`TierStorage::range_next`] and [`TierStorage::range_rev_next`]: each batch seeks anew.
///
/// ```no_run
/// use std::sync::Arc;
/// use thermocline_tier::{PagedScan, RangeBatch, RangeRequest, Result, TierScan, TierStorage};
///
/// fn first_hundred(tier: Arc<dyn TierStorage>, request: RangeRequest) -> Result<RangeBatch> {
///     let mut batch = RangeBatch::new();
///     PagedScan::new(tier, request).next_batch(100, &mut batch)?;
///     Ok(batch)
/// }
/// ```
#[derive(Debug)]
pub struct PagedScan<T: TierStorage + ?Sized> {
    tier: Arc<T>,
    cursor: RangeCursor,
}

impl<T: TierStorage + ?Sized> PagedScan<T> {
    /// A scan from the beginning of `request`.
    pub fn new(tier: Arc<T>, request: RangeRequest) -> Self {
        Self { tier, cursor: request.into_cursor() }
    }
}

impl<T: TierStorage + ?Sized> TierScan for PagedScan<T> {
    fn next_batch(&mut self, entries_max: usize, out: &mut RangeBatch) -> Result<()> {
        *out = match self.cursor.request().direction {
            Direction::Forward => self.tier.range_next(&mut self.cursor, entries_max)?,
            Direction::Reverse => self.tier.range_rev_next(&mut self.cursor, entries_max)?,
        };
        Ok(())
    }
}
