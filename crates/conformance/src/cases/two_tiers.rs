//! Two instances of the backend in a stack, each written to on its own. They hunt answers decided by the order of the tiers instead
//! of by version, and rows lost where the pages of two tiers do not end at the same key.

use thermocline_tier::{KeyRange, TierStorage};

use crate::failure::CaseResult;
use crate::harness::{Harness, TABLE, put};
use crate::notation::joined;
use crate::scans::{as_of, reversed};
use crate::stacked::move_entries;

pub(crate) fn case_031_upper_tombstone_hides_lower_value(h: &mut Harness<'_>) -> CaseResult {
    let two = h.two_tiers()?;
    put(&*two.lower, 1, "a", Some("x"))?;
    put(&*two.upper, 2, "a", None)?;
    two.stack.check_get("a", 2, "~@2")?;
    two.stack.check_get("a", 1, "x@1")?;
    two.stack.check_get("a", 0, "-")
}

pub(crate) fn case_032_newer_value_below_an_older_tombstone_wins(h: &mut Harness<'_>) -> CaseResult {
    let two = h.two_tiers()?;
    put(&*two.lower, 5, "a", Some("x"))?;
    put(&*two.upper, 2, "a", None)?;
    for (at, expected) in [(6, "x@5"), (5, "x@5"), (4, "~@2"), (2, "~@2"), (1, "-")] {
        two.stack.check_get("a", at, expected)?;
    }
    two.stack.check_versions("a", "x@5 ~@2")
}

pub(crate) fn case_033_late_tombstone_above_a_newer_value(h: &mut Harness<'_>) -> CaseResult {
    let two = h.two_tiers()?;
    put(&*two.upper, 3, "a", Some("x"))?;
    move_entries(&*two.upper, &*two.lower)?;
    put(&*two.upper, 2, "a", None)?;
    for (at, expected) in [(3, "x@3"), (4, "x@3"), (2, "~@2"), (1, "-")] {
        two.stack.check_get("a", at, expected)?;
    }
    move_entries(&*two.upper, &*two.lower)?;
    two.stack.check_get("a", 3, "x@3")?;
    two.stack.check_get("a", 2, "~@2")
}

/// Keys k00 to k99, or every so many of them.
fn fill(tier: &dyn TierStorage, version: u64, every: usize, value: &str) -> CaseResult {
    (0..100).step_by(every).try_for_each(|index| put(tier, version, format!("k{index:02}"), Some(value)))
}

/// The rows of k00 to k99 as text.
fn rows(answer: impl Fn(usize) -> &'static str) -> String {
    joined((0..100).map(|index| format!("k{index:02}={}", answer(index))))
}

pub(crate) fn case_060_sparse_updates_over_dense_rows(h: &mut Harness<'_>) -> CaseResult {
    let two = h.two_tiers()?;
    fill(&*two.lower, 1, 1, "old")?;
    put(&*two.upper, 2, "k47", Some("new"))?;
    let expected = rows(|index| if index == 47 { "new@2" } else { "old@1" });
    let pages: Vec<String> = expected.split(' ').collect::<Vec<_>>().chunks(16).map(|page| page.join(" ")).collect();
    let request = as_of(TABLE, KeyRange::all(), 2);
    two.stack.check_pages(&request, 16, &pages.iter().map(String::as_str).collect::<Vec<_>>())?;
    two.stack.check_range(&request, &expected)?;
    two.stack.check_range(&as_of(TABLE, KeyRange::all(), 1), &rows(|_| "old@1"))
}

pub(crate) fn case_061_lower_table_created_during_a_scan(h: &mut Harness<'_>) -> CaseResult {
    for is_reverse in [false, true] {
        let two = h.two_tiers()?;
        fill(&*two.upper, 1, 10, "x")?;
        let forward = as_of(TABLE, KeyRange::all(), 1);
        let request = if is_reverse { reversed(&forward) } else { forward };
        let mut expected: Vec<String> = (0..100).step_by(10).map(|index| format!("k{index:02}=x@1")).collect();
        if is_reverse {
            expected.reverse();
        }
        let mut cursor = request.into_cursor();
        two.stack.check_page(&mut cursor, 3, &expected[..3].join(" "), true)?;
        move_entries(&*two.upper, &*two.lower)?;
        two.stack.check_page(&mut cursor, 3, &expected[3..6].join(" "), true)?;
        two.stack.check_page(&mut cursor, 10, &expected[6..].join(" "), false)?;
    }
    Ok(())
}

pub(crate) fn case_062_one_tier_ends_long_before_the_other(h: &mut Harness<'_>) -> CaseResult {
    for upper_is_short in [true, false] {
        let two = h.two_tiers()?;
        let (short, long) = if upper_is_short { (&two.upper, &two.lower) } else { (&two.lower, &two.upper) };
        fill(&**long, 1, 1, "long")?;
        fill(&**short, 2, 60, "short")?;
        let expected = rows(|index| if index % 60 == 0 { "short@2" } else { "long@1" });
        two.stack.check_range(&as_of(TABLE, KeyRange::all(), 2), &expected)?;
        // Only at its last key, so that in a reverse scan too it ends in the first page.
        put(&**short, 3, "k99", None)?;
        let expected = expected.replace("k99=long@1", "k99=~@3");
        two.stack.check_range(&as_of(TABLE, KeyRange::all(), 3), &expected)?;
    }
    Ok(())
}

pub(crate) fn case_089_all_versions_list_each_once(h: &mut Harness<'_>) -> CaseResult {
    h.set(2, "a", "v2")?;
    h.remove(4, "a")?;
    h.set(1, "a", "v1")?;
    h.set(2, "a", "v2")?;
    h.in_every_state(|h| h.check_versions("a", "~@4 v2@2 v1@1"))?;

    // Versions 2 and 3 are in both tiers, as in the midst of a flush.
    let two = h.two_tiers()?;
    for (version, value) in [(1, Some("v1")), (2, None), (3, Some("v3"))] {
        put(&*two.lower, version, "a", value)?;
    }
    for (version, value) in [(2, None), (3, Some("v3")), (4, Some("v4")), (5, None)] {
        put(&*two.upper, version, "a", value)?;
    }
    two.stack.check_versions("a", "~@5 v4@4 v3@3 ~@2 v1@1")?;
    two.stack.check_get("a", 3, "v3@3")?;
    two.stack.check_get("a", 2, "~@2")
}
