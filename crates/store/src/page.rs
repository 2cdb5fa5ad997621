//! Visible rows many at a time: in pages, for those who read in pieces, and handed out borrowed, for those who read fast.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use thermocline_tier::{Direction, ErrorKind, RangeBatch, RangeCursor, RangeRequest, Result};

use crate::cursor::Cursor;
use crate::reclaim::Reader;
use crate::store::{Core, Inner};

/// The most entries that one page asks a tier for at a time, so that a huge limit does not become a huge read.
const READ_ENTRIES_MAX: usize = 1024;

/// Rows of a range at one version, and where the next ones are.
///
/// ```
/// assert!(thermocline_store::Page::default().next.is_none());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Key and value of each row in the order of the scan; as many as were asked for if there are that many.
    pub entries: Vec<(Bytes, Bytes)>,
    /// The place after the last row; `None` exactly if there is no further row.
    pub next: Option<Cursor>,
}

/// Hands the first `limit` visible rows to `visit`, until it breaks off. For a reader that pins the version.
pub(crate) fn visit(
    inner: &Arc<Inner>,
    request: RangeRequest,
    limit: usize,
    reader: Reader<'_>,
    mut visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
) -> Result<()> {
    inner.check_open()?;
    let (table, at, range) = (request.table, request.window.at, request.range.clone());
    let hidden_below = inner.marks.clears(table).hidden_below(at);
    let mut scan = Arc::clone(inner.storage.view().merged()?).scan(request)?;
    let (mut batch, mut left) = (RangeBatch::new(), limit);
    while left > 0 {
        // Some more than asked for, since some may be tombstones: another read costs another seek.
        scan.next_batch(left.saturating_add(left / 16).min(READ_ENTRIES_MAX), &mut batch)?;
        inner.check_retained(table, || range.clone(), at, reader)?;
        for row in batch.rows() {
            let Some(value) = row.value else { continue };
            if hidden_below.is_some_and(|clear| row.version < clear) {
                continue;
            }
            if visit(row.key, value).is_break() {
                return Ok(());
            }
            left -= 1;
            if left == 0 {
                return Ok(());
            }
        }
        if !batch.has_more {
            return Ok(());
        }
    }
    Ok(())
}

/// Reads the next `limit` visible rows from `position` on.
pub(crate) fn read(inner: &Arc<Inner>, mut position: RangeCursor, limit: usize, reader: Reader<'_>) -> Result<Page> {
    inner.check_open()?;
    if limit == 0 {
        return Err(ErrorKind::InvalidArgument { what: "a page of 0 rows can never finish a scan".into() }.into());
    }
    let request = position.request().clone();
    let hidden_below = inner.marks.clears(request.table).hidden_below(request.window.at);
    let mut page = Page::default();
    let mut last = position.last().cloned();
    // One row more than asked for, to know whether there is one.
    while !position.is_exhausted() {
        let wanted = (limit - page.entries.len()).saturating_add(1).min(READ_ENTRIES_MAX);
        let batch = inner.next_batch(&mut position, wanted)?;
        inner.check_retained(request.table, || request.range.clone(), request.window.at, reader)?;
        for row in batch.into_rows() {
            let Some(value) = row.value else { continue };
            if hidden_below.is_some_and(|clear| row.version < clear) {
                continue;
            }
            if page.entries.len() == limit {
                let position = RangeCursor::from_parts(request, last, false);
                page.next = Some(Cursor { store: inner.store_id, position });
                return Ok(page);
            }
            last = Some(row.key.slice(..row.prefix_len));
            page.entries.push((row.key, value));
        }
    }
    Ok(page)
}

impl Core {
    /// The next batch of a scan over all tiers.
    pub(crate) fn next_batch(&self, position: &mut RangeCursor, entries: usize) -> Result<RangeBatch> {
        let view = self.storage.view();
        let tier = view.merged()?;
        match position.request().direction {
            Direction::Forward => tier.range_next(position, entries),
            Direction::Reverse => tier.range_rev_next(position, entries),
        }
    }
}
