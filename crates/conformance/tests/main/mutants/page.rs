//! Pages of a mutant: the model's algorithm with each fault where it would be made.

use std::cmp::Ordering;
use std::ops::Bound;

use bytes::Bytes;
use thermocline_conformance::ModelTier;
use thermocline_tier::{
    Direction, EntryKind, ErrorKind, KeyRange, RangeBatch, RangeCursor, RangeRequest, RawEntry, ReadWindow, Result, TierStorage,
    Version,
};

use crate::mutants::mutation::Mutation as M;
use crate::mutants::tier::{MutantTier, pause};

/// All keys of a table, in order.
pub(crate) fn keys_of(model: &ModelTier, table: EntryKind) -> Vec<Bytes> {
    let window = ReadWindow::as_of(Version::MAX);
    let request = RangeRequest { table, range: KeyRange::all(), window, direction: Direction::Forward };
    let all = model.range_next(&mut request.into_cursor(), usize::MAX).unwrap_or_default();
    all.iter().map(|row| Bytes::copy_from_slice(row.prefix)).collect()
}

pub(crate) fn page(tier: &MutantTier, cursor: &mut RangeCursor, direction: Direction, batch_size: usize) -> Result<RangeBatch> {
    let is_wrong = cursor.request().direction != direction;
    if !(tier.is(M::WrongDirectionTaken) && is_wrong || tier.is(M::ZeroBatchTaken) && batch_size == 0) {
        cursor.check_use(direction, batch_size)?;
    }
    if batch_size == 0 || cursor.is_exhausted() && !tier.is(M::ExhaustedCursorRevives) {
        return Ok(RangeBatch::new());
    }
    if tier.mutation.is_about_threads() && !tier.is(M::PageRowByRow) {
        return match direction {
            Direction::Forward => tier.inner.range_next(cursor, batch_size),
            Direction::Reverse => tier.inner.range_rev_next(cursor, batch_size),
        };
    }
    let request = cursor.request().clone();
    refuse(tier, &request)?;
    let mut keys = keys_in_range(tier, cursor, direction)?;
    let scanned = if matches!(tier.mutation, M::PageShortened | M::EmptyPageEndsScan) { batch_size } else { usize::MAX };
    let more_keys = keys.len() > scanned;
    keys.truncate(scanned);
    let last_scanned = keys.last().map(|(_, key)| key.clone());
    let mut rows: Vec<RawEntry> = Vec::new();
    for (table, key) in keys {
        if tier.is(M::PageRowByRow) {
            pause();
        }
        rows.extend(select(tier, table, &key, cursor, direction));
    }
    let taken = taken(tier, &rows, batch_size);
    let has_more = match tier.mutation {
        M::HasMoreAlways => true,
        M::HasMoreGuessed => taken == batch_size,
        M::PageShortened => more_keys,
        M::EmptyPageEndsScan => more_keys && taken > 0,
        _ => rows.len() > taken,
    };
    let mut page = RangeBatch::new();
    for row in &rows[..taken] {
        page.push(&row.prefix, &row.suffix, row.version, row.value.as_deref());
    }
    if tier.is(M::TrailingTombstoneLost) && page.last().is_some_and(|row| row.is_tombstone()) {
        page.truncate(taken - 1);
    }
    if tier.is(M::ReverseByPage) && direction == Direction::Reverse {
        page = turned(&page);
    }
    page.has_more = has_more;
    let last = rows[..taken].last().map(|row| row.prefix.clone());
    match if scanned == batch_size { last_scanned } else { last } {
        Some(last) => cursor.advance(&last, has_more),
        None => cursor.exhaust(),
    }
    Ok(page)
}

fn turned(page: &RangeBatch) -> RangeBatch {
    let mut turned = RangeBatch::new();
    (0..page.len()).rev().for_each(|index| turned.push_from(page, index));
    turned
}

fn refuse(tier: &MutantTier, request: &RangeRequest) -> Result<()> {
    let is_inverted = match (&request.range.start, &request.range.end) {
        (Bound::Included(start) | Bound::Excluded(start), Bound::Included(end) | Bound::Excluded(end)) => start > end,
        _ => false,
    };
    assert!(!(is_inverted && tier.is(M::InvertedRangePanics)), "range start is greater than range end");
    let is_missing = tier.is(M::MissingTableFails) && !tier.inner.tables()?.contains(&request.table);
    if is_missing || is_inverted && tier.is(M::InvertedRangeFails) {
        return Err(ErrorKind::InvalidArgument { what: "a range that cannot be read".into() }.into());
    }
    Ok(())
}

fn order(tier: &MutantTier, left: &[u8], right: &[u8]) -> Ordering {
    let signed = |key: &[u8]| key.iter().map(|byte| byte.wrapping_add(128)).collect::<Vec<_>>();
    let cut = |key: &[u8]| (key[..key.len().min(8)].to_vec(), key.len());
    match tier.mutation {
        M::SignedBytes => signed(left).cmp(&signed(right)),
        M::OrderByLength => cut(left).cmp(&cut(right)),
        _ => left.cmp(right),
    }
}

fn is_in(tier: &MutantTier, range: &KeyRange, key: &[u8]) -> bool {
    let is_after = match &range.start {
        Bound::Included(start) => order(tier, key, start).is_ge(),
        Bound::Excluded(start) => order(tier, key, start).is_gt(),
        Bound::Unbounded => true,
    };
    let is_before = match &range.end {
        Bound::Included(end) => order(tier, key, end).is_le(),
        Bound::Excluded(end) => order(tier, key, end).is_lt(),
        Bound::Unbounded => true,
    };
    is_after && is_before
}

/// The keys that are left of the scan, in its order, with the table that each comes from.
fn keys_in_range(tier: &MutantTier, cursor: &RangeCursor, direction: Direction) -> Result<Vec<(EntryKind, Bytes)>> {
    let request = cursor.request();
    let mut range = request.range.clone();
    match (tier.mutation, &range.start, &range.end) {
        (M::ExcludedStartIncluded, Bound::Excluded(start), _) => range.start = Bound::Included(start.clone()),
        (M::ExcludedEndIncluded, _, Bound::Excluded(end)) => range.end = Bound::Included(end.clone()),
        (M::IncludedEndExcluded, _, Bound::Included(end)) if range.start != range.end => range.end = Bound::Excluded(end.clone()),
        (M::ReverseRepeatsEnd, _, Bound::Excluded(end)) if direction == Direction::Reverse => {
            range.end = Bound::Included(end.clone());
        }
        _ => {}
    }
    let mut keys: Vec<(EntryKind, Bytes)> = Vec::new();
    for table in tier.inner.tables()? {
        let is_leak = tier.is(M::ScanLeavesTable) && range.end == Bound::Unbounded && table > request.table;
        if table == request.table || is_leak {
            keys.extend(keys_of(&tier.inner, table).into_iter().map(|key| (table, key)));
        }
    }
    keys.retain(|(_, key)| is_in(tier, &range, key));
    keys.sort_by(|(left_table, left), (right_table, right)| left_table.cmp(right_table).then_with(|| order(tier, left, right)));
    if direction == Direction::Reverse && !tier.is(M::ReverseByPage) {
        keys.reverse();
    }
    let Some(last) = cursor.last() else { return Ok(keys) };
    let repeats = tier.is(M::CursorRepeatsLast) || tier.is(M::CursorRepeatsAfterFlush) && tier.memory.lock().is_flushed;
    let is_forward = direction == Direction::Forward || tier.is(M::ReverseByPage);
    let is_left = |key: &[u8]| match order(tier, key, last) {
        Ordering::Equal => repeats,
        Ordering::Greater => is_forward,
        Ordering::Less => !is_forward,
    };
    let is_gone = !keys.iter().any(|(_, key)| key == last);
    if tier.is(M::CursorCountsKeys) {
        // As many as it has returned, wherever they lie now: known here by the place of the last one alone.
        let returned = keys.iter().filter(|(_, key)| !is_left(key)).count();
        let returned = returned.saturating_sub(usize::from(is_gone)) + usize::from(is_gone) * 2;
        keys.drain(..returned.min(keys.len()));
        return Ok(keys);
    }
    keys.retain(|(_, key)| is_left(key));
    if tier.is(M::CursorSkipsAfterDrop) && is_gone && !keys.is_empty() {
        keys.remove(0);
    }
    Ok(keys)
}

/// The row of a key, if the window selects it.
fn select(tier: &MutantTier, table: EntryKind, key: &[u8], cursor: &RangeCursor, direction: Direction) -> Option<RawEntry> {
    let window = cursor.request().window;
    let at = match tier.mutation {
        M::RangeReadsLatest => Version::MAX,
        M::ZeroMeansLatest if window.at == Version::ZERO => Version::MAX,
        M::ReverseReadsLatest if direction == Direction::Reverse => Version::MAX,
        M::CursorForgetsVersion if cursor.last().is_some() => Version::MAX,
        M::BoundaryExclusive if window.at != Version::MAX => window.at.previous()?,
        M::VersionZeroInvisible if window.at == Version::ZERO => return None,
        _ => window.at,
    };
    let all = tier.all_of(table, key);
    let looked_at = if tier.is(M::RangeLooksAtThousandVersions) { 1_000 } else { usize::MAX };
    let newest = all.iter().take(looked_at).find(|entry| entry.version <= at);
    if newest.is_none() && tier.is(M::RangeShowsNewer) {
        return all.last().cloned();
    }
    let newest = newest?;
    let is_selected = match (tier.mutation, window.after) {
        (_, None) | (M::BetweenIgnored, _) => true,
        (M::BetweenIncludesLower, Some(after)) => newest.version >= after,
        (_, Some(after)) => newest.version > after,
    };
    let is_hidden = tier.is(M::RangesHideTombstones) && newest.value.is_none();
    (is_selected && !is_hidden).then(|| match tier.mutation {
        M::AnswersRequestedVersion if newest.value.is_some() => RawEntry { version: window.at, ..newest.clone() },
        _ => newest.clone(),
    })
}

/// How many rows go into the page.
fn taken(tier: &MutantTier, rows: &[RawEntry], batch_size: usize) -> usize {
    if !tier.is(M::TombstonesDoNotCount) {
        return rows.len().min(batch_size);
    }
    let mut values = 0;
    rows.iter()
        .position(|row| {
            values += usize::from(row.value.is_some());
            values > batch_size
        })
        .unwrap_or(rows.len())
}
