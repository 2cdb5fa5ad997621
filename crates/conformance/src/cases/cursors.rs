//! Cursors, and what is written or moved between two of their pages. They hunt rows lost, repeated or mixed from two states, and
//! cursors that are silently used for another scan.

use bytes::Bytes;
use thermocline_tier::{ErrorKind, KeyRange, RangeRequest, ReadWindow, Version};

use crate::failure::CaseResult;
use crate::harness::{Harness, OTHER, TABLE, expect, expect_error, expect_that};
use crate::notation;
use crate::scans::{as_of, next_page, reversed};

fn all_at(at: u64) -> RangeRequest {
    as_of(TABLE, KeyRange::all(), at)
}

pub(crate) fn case_053_late_keys_ahead_appear_and_behind_do_not(h: &mut Harness<'_>) -> CaseResult {
    ["b", "d", "f", "h"].iter().try_for_each(|key| h.set(1, key, "x"))?;
    let (mut forward, mut reverse) = (all_at(5).into_cursor(), reversed(&all_at(5)).into_cursor());
    h.check_page(&mut forward, 2, "b=x@1 d=x@1", true)?;
    h.check_page(&mut reverse, 2, "h=x@1 f=x@1", true)?;
    // Behind the one cursor is ahead of the other.
    for key in ["a", "c", "e", "g", "i"] {
        h.set(2, key, "late")?;
    }
    // Already returned, or still to come: a newer version within the window makes no second row.
    h.set(3, "d", "again")?;
    h.set(3, "f", "again")?;
    h.set(6, "h", "too-new")?;
    h.check_page(&mut forward, 2, "e=late@2 f=again@3", true)?;
    h.check_page(&mut forward, 2, "g=late@2 h=x@1", true)?;
    h.check_page(&mut forward, 2, "i=late@2", false)?;
    h.check_page(&mut reverse, 2, "e=late@2 d=again@3", true)?;
    h.check_page(&mut reverse, 3, "c=late@2 b=x@1 a=late@2", false)
}

pub(crate) fn case_054_newer_keys_never_appear(h: &mut Harness<'_>) -> CaseResult {
    ["b", "d", "f"].iter().try_for_each(|key| h.set(5, key, "x"))?;
    let (mut forward, mut reverse) = (all_at(5).into_cursor(), reversed(&all_at(5)).into_cursor());
    h.check_page(&mut forward, 1, "b=x@5", true)?;
    h.check_page(&mut reverse, 1, "f=x@5", true)?;
    for key in ["a", "b", "c", "d", "e", "f", "g"] {
        h.set(6, key, "new")?;
    }
    h.remove(7, "d")?;
    h.check_page(&mut forward, 1, "d=x@5", true)?;
    h.check_page(&mut forward, 1, "f=x@5", false)?;
    h.check_page(&mut reverse, 2, "d=x@5 b=x@5", false)
}

pub(crate) fn case_055_steps_between_pages_change_nothing(h: &mut Harness<'_>) -> CaseResult {
    let mut version = 1;
    for round in 0..3 {
        for index in (round..24).step_by(round + 1) {
            let key = format!("k{index:02}");
            let written = if index % 5 == 4 { h.remove(version, key) } else { h.set(version, key, format!("v{version}")) };
            written?;
            version += 1;
        }
    }
    let read_at = version - 1;
    let steps = h.backend().steps().to_vec();
    for batch_size in 1..=8 {
        for request in [all_at(read_at), reversed(&all_at(read_at)), all_at(read_at / 2)] {
            let expected = notation::rows(h.collect(&request, 1_000, 24)?.iter().map(thermocline_tier::RawEntry::as_ref));
            let (mut cursor, mut found) = (request.into_cursor(), Vec::new());
            for page_number in 0..=24_usize {
                let page = next_page(&*h.tier(), &mut cursor, batch_size)?;
                found.push(notation::rows(page.iter()));
                if cursor.is_exhausted() {
                    break;
                }
                version += 1;
                h.set(version, format!("k{:02}", (page_number * 7) % 24), "newer")?;
                if let Some(step) = steps.get(page_number % steps.len().max(1)) {
                    h.take(*step)?;
                }
            }
            expect(|| format!("rows with steps between pages of {batch_size}"), &expected, &found.join(" "))?;
        }
    }
    Ok(())
}

pub(crate) fn case_056_dropping_the_key_under_the_cursor(h: &mut Harness<'_>) -> CaseResult {
    ["a", "b", "c", "d", "e"].iter().try_for_each(|key| h.set(1, key, "x"))?;
    let (mut forward, mut reverse) = (all_at(1).into_cursor(), reversed(&all_at(1)).into_cursor());
    h.check_page(&mut forward, 2, "a=x@1 b=x@1", true)?;
    h.check_page(&mut reverse, 2, "e=x@1 d=x@1", true)?;
    h.drop_one(1, "b")?;
    h.drop_one(1, "d")?;
    h.check_page(&mut forward, 1, "c=x@1", true)?;
    h.check_page(&mut forward, 1, "e=x@1", false)?;
    h.check_page(&mut reverse, 1, "c=x@1", true)?;
    h.check_page(&mut reverse, 1, "a=x@1", false)
}

pub(crate) fn case_057_clear_empties_the_remaining_pages(h: &mut Harness<'_>) -> CaseResult {
    ["a", "b", "c", "d"].iter().try_for_each(|key| h.set(1, key, "x"))?;
    let (mut forward, mut reverse) = (all_at(9).into_cursor(), reversed(&all_at(9)).into_cursor());
    let mut resumed = all_at(9).into_cursor();
    h.check_page(&mut forward, 1, "a=x@1", true)?;
    h.check_page(&mut reverse, 1, "d=x@1", true)?;
    h.check_page(&mut resumed, 1, "a=x@1", true)?;
    h.clear(TABLE)?;
    h.check_page(&mut forward, 10, "", false)?;
    h.check_page(&mut reverse, 10, "", false)?;
    // Rows written after the clear are new ones, and appear by the rule for late keys.
    h.set(2, "c", "new")?;
    h.check_page(&mut forward, 10, "", false)?;
    h.check_page(&mut resumed, 10, "c=new@2", false)
}

pub(crate) fn case_058_wrong_use_is_refused_by_name(h: &mut Harness<'_>) -> CaseResult {
    ["a", "b", "c"].iter().try_for_each(|key| h.set(1, key, "x"))?;
    let request = all_at(1);
    let (mut forward, mut reverse) = (request.clone().into_cursor(), reversed(&request).into_cursor());
    h.check_page(&mut forward, 1, "a=x@1", true)?;
    h.check_page(&mut reverse, 1, "c=x@1", true)?;
    let is_direction = |kind: &ErrorKind| matches!(kind, ErrorKind::CursorMismatch { what: "direction", .. });
    let is_size = |kind: &ErrorKind| matches!(kind, ErrorKind::InvalidArgument { .. });
    let tier = h.tier();
    expect_error("range_next of a reverse cursor", "CursorMismatch: direction", tier.range_next(&mut reverse, 1), is_direction)?;
    expect_error(
        "range_rev_next of a forward cursor",
        "CursorMismatch: direction",
        tier.range_rev_next(&mut forward, 1),
        is_direction,
    )?;
    expect_error("a forward page of 0", "InvalidArgument", tier.range_next(&mut forward, 0), is_size)?;
    expect_error("a reverse page of 0", "InvalidArgument", tier.range_rev_next(&mut reverse, 0), is_size)?;
    let mut page = thermocline_tier::RangeBatch::new();
    let stream = tier.clone().scan(request.clone()).and_then(|mut scan| scan.next_batch(0, &mut page));
    expect_error("a streamed page of 0", "InvalidArgument", stream, is_size)?;
    drop(tier);

    let others = [
        ("table", RangeRequest { table: OTHER, ..request.clone() }),
        ("start", RangeRequest { range: KeyRange::new("a"..), ..request.clone() }),
        ("end", RangeRequest { range: KeyRange::new(.."z"), ..request.clone() }),
        ("version", RangeRequest { window: ReadWindow::as_of(Version(2)), ..request.clone() }),
        ("version", RangeRequest { window: ReadWindow::between(Version(0), Version(1)), ..request.clone() }),
        ("direction", reversed(&request)),
    ];
    for (difference, other) in others {
        let is_named = |kind: &ErrorKind| matches!(kind, ErrorKind::CursorMismatch { what, .. } if *what == difference);
        expect_error("a cursor with another request", &format!("CursorMismatch: {difference}"), forward.check(&other), is_named)?;
    }
    forward.check(&request)?;
    h.check_page(&mut forward, 5, "b=x@1 c=x@1", false)?;
    h.check_page(&mut reverse, 5, "b=x@1 a=x@1", false)
}

pub(crate) fn case_059_exhausted_cursor_stays_exhausted(h: &mut Harness<'_>) -> CaseResult {
    h.set(1, "b", "x")?;
    let (mut forward, mut reverse) = (all_at(9).into_cursor(), reversed(&all_at(9)).into_cursor());
    let mut empty = as_of(OTHER, KeyRange::all(), 9).into_cursor();
    h.check_page(&mut forward, 5, "b=x@1", false)?;
    h.check_page(&mut reverse, 5, "b=x@1", false)?;
    h.check_page(&mut empty, 5, "", false)?;
    h.set(2, "a", "x")?;
    h.set(2, "c", "x")?;
    h.write(2, |batch| batch.put(OTHER, b"k", b"x"))?;
    for cursor in [&mut forward, &mut reverse, &mut empty] {
        h.check_page(cursor, 5, "", false)?;
        expect_that(cursor.is_exhausted(), "the cursor is still exhausted")?;
    }
    // So does one that was taken apart and put together again.
    let parts = (forward.request().clone(), forward.last().cloned(), forward.is_exhausted());
    let mut again = thermocline_tier::RangeCursor::from_parts(parts.0, parts.1, parts.2);
    expect_that(again == forward && again.last() == Some(&Bytes::from_static(b"b")), "a cursor survives its parts")?;
    h.check_page(&mut again, 5, "", false)
}
