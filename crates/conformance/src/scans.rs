//! Requests for scans, and the checks that walk them page by page.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use thermocline_tier::{
    Direction, EntryKind, KeyRange, RangeBatch, RangeCursor, RangeRequest, RawEntry, ReadWindow, Result, TierStorage, Version,
};

use crate::failure::CaseResult;
use crate::harness::{Harness, expect, expect_that};
use crate::notation;
use crate::stacked::drain;

pub(crate) fn as_of(table: EntryKind, range: KeyRange, at: u64) -> RangeRequest {
    RangeRequest { table, range, window: ReadWindow::as_of(Version(at)), direction: Direction::Forward }
}

pub(crate) fn between(table: EntryKind, range: KeyRange, after: u64, at: u64) -> RangeRequest {
    RangeRequest { window: ReadWindow::between(Version(after), Version(at)), ..as_of(table, range, at) }
}

/// The range of one key.
pub(crate) fn point(table: EntryKind, prefix: &[u8], at: u64) -> RangeRequest {
    let key = Bytes::copy_from_slice(prefix);
    as_of(table, KeyRange { start: Bound::Included(key.clone()), end: Bound::Included(key) }, at)
}

/// The same scan from its other end.
pub(crate) fn reversed(request: &RangeRequest) -> RangeRequest {
    let direction = match request.direction {
        Direction::Forward => Direction::Reverse,
        Direction::Reverse => Direction::Forward,
    };
    RangeRequest { direction, ..request.clone() }
}

/// The next page, in the cursor's own direction.
pub(crate) fn next_page(tier: &dyn TierStorage, cursor: &mut RangeCursor, batch_size: usize) -> Result<RangeBatch> {
    match cursor.request().direction {
        Direction::Forward => tier.range_next(cursor, batch_size),
        Direction::Reverse => tier.range_rev_next(cursor, batch_size),
    }
}

fn describe(request: &RangeRequest, batch_size: usize) -> String {
    let bound = |bound: &Bound<Bytes>| match bound {
        Bound::Included(key) => format!("{} included", notation::bytes(key)),
        Bound::Excluded(key) => format!("{} excluded", notation::bytes(key)),
        Bound::Unbounded => "open".into(),
    };
    let RangeRequest { table, range, window, direction } = request;
    let after = window.after.map_or_else(String::new, |after| format!("after {after} "));
    let (start, end) = (bound(&range.start), bound(&range.end));
    format!("{direction} range of {table} from {start} to {end} {after}at {}, batch {batch_size}", window.at)
}

impl Harness<'_> {
    /// Checks one page: its rows, that `has_more` and the cursor say whether others follow, and that the cursor stands on its last row.
    pub(crate) fn check_page(&self, cursor: &mut RangeCursor, batch_size: usize, expected: &str, has_more: bool) -> CaseResult {
        let what = describe(cursor.request(), batch_size);
        let page = next_page(&*self.tier(), cursor, batch_size)?;
        expect(|| format!("page of the {what}"), expected, &notation::rows(page.iter()))?;
        expect(|| format!("has_more in the {what}, behind {expected:?}"), &has_more.to_string(), &page.has_more.to_string())?;
        let is_exhausted = cursor.is_exhausted();
        expect(|| format!("exhausted in the {what}, behind {expected:?}"), &(!has_more).to_string(), &is_exhausted.to_string())?;
        match (page.last(), cursor.last()) {
            (Some(row), Some(last)) => {
                expect(|| format!("cursor of the {what}"), &notation::bytes(row.prefix), &notation::bytes(last))
            }
            (Some(_), None) => expect_that(false, &format!("the cursor of the {what} has moved")),
            (None, _) => Ok(()),
        }
    }

    /// Checks the pages of a scan one by one, and that nothing follows the last.
    pub(crate) fn check_pages(&self, request: &RangeRequest, batch_size: usize, pages: &[&str]) -> CaseResult {
        let mut cursor = request.clone().into_cursor();
        for (number, page) in pages.iter().enumerate() {
            self.check_page(&mut cursor, batch_size, page, number + 1 < pages.len())?;
        }
        self.check_page(&mut cursor, batch_size, "", false)
    }

    /// Checks a scan whole: in batches of several sizes, as a stream, and mirrored.
    pub(crate) fn check_range(&self, request: &RangeRequest, expected: &str) -> CaseResult {
        let rows: Vec<&str> = expected.split(' ').filter(|row| !row.is_empty()).collect();
        self.check_one_way(request, &rows)?;
        self.check_one_way(&reversed(request), &rows.into_iter().rev().collect::<Vec<_>>())
    }

    /// As [`check_range`](Self::check_range), in the request's direction alone.
    pub(crate) fn check_one_way(&self, request: &RangeRequest, rows: &[&str]) -> CaseResult {
        for batch_size in [1, 2, 3, rows.len().max(1), rows.len() + 1, 1_000_000] {
            let pages: Vec<String> = rows.chunks(batch_size).map(|page| page.join(" ")).collect();
            let pages = if pages.is_empty() { vec![String::new()] } else { pages };
            self.check_pages(request, batch_size, &pages.iter().map(String::as_str).collect::<Vec<_>>())?;
        }
        for batch_size in [1, 3, 1_000_000] {
            let mut scan = Arc::clone(&self.tier()).scan(request.clone())?;
            let found = drain(&mut *scan, batch_size, rows.len())?;
            let what = || format!("stream of the {}", describe(request, batch_size));
            expect(what, &rows.join(" "), &notation::rows(found.iter()))?;
            expect(|| format!("has_more at the end of the {}", what()), "false", &found.has_more.to_string())?;
        }
        Ok(())
    }

    /// Everything that a scan returns in batches of one size, and whether it ended within `rows_max` rows.
    pub(crate) fn collect(&self, request: &RangeRequest, batch_size: usize, rows_max: usize) -> Result<Vec<RawEntry>> {
        let (tier, mut cursor, mut rows) = (self.tier(), request.clone().into_cursor(), Vec::new());
        while !cursor.is_exhausted() && rows.len() <= rows_max {
            let page = next_page(&*tier, &mut cursor, batch_size)?;
            if page.is_empty() {
                break;
            }
            rows.extend(page.into_entries());
        }
        Ok(rows)
    }
}
