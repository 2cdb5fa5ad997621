//! Reverse ranges: the mirror of forward ones. They hunt pages reversed one by one, resumption that repeats a row, and another
//! version than forward reads.

use thermocline_tier::KeyRange;

use crate::cases::scenarios::{self, Scenario};
use crate::failure::CaseResult;
use crate::harness::{Harness, TABLE};
use crate::scans::{as_of, reversed};

pub(crate) fn case_063_reverse_is_the_mirror_of_forward(h: &mut Harness<'_>) -> CaseResult {
    Scenario::check_all(h, |h, request, rows| {
        let mirrored: Vec<&str> = rows.iter().rev().copied().collect();
        h.check_one_way(&reversed(&request), &mirrored)
    })
}

pub(crate) fn case_064_ten_keys_by_three_from_the_end(h: &mut Harness<'_>) -> CaseResult {
    let scenario = scenarios::ten_keys();
    scenario.write(h, TABLE)?;
    let pages = ["9=x@1 8=x@1 7=x@1", "6=x@1 5=x@1 4=x@1", "3=x@1 2=x@1 1=x@1", "0=x@1"];
    h.in_every_state(|h| h.check_pages(&reversed(&scenario.request(TABLE)), 3, &pages))
}

pub(crate) fn case_065_resuming_at_an_excluded_end_repeats_nothing(h: &mut Harness<'_>) -> CaseResult {
    ["a", "b", "ba", "c"].iter().try_for_each(|key| h.set(1, key, "x"))?;
    h.in_every_state(|h| {
        h.check_pages(&reversed(&as_of(TABLE, KeyRange::new(..="c"), 1)), 2, &["c=x@1 ba=x@1", "b=x@1 a=x@1"])?;
        // A new scan that ends where the last page stopped.
        h.check_pages(&reversed(&as_of(TABLE, KeyRange::new(.."ba"), 1)), 2, &["b=x@1 a=x@1"])?;
        h.check_pages(&reversed(&as_of(TABLE, KeyRange::new("a".."b"), 1)), 2, &["a=x@1"])?;
        h.check_pages(&reversed(&as_of(TABLE, KeyRange::new("a".."a"), 1)), 2, &[""])
    })
}

pub(crate) fn case_066_reverse_below_the_version_of_some_keys(h: &mut Harness<'_>) -> CaseResult {
    h.set(1, "a", "a1")?;
    h.set(3, "b", "b3")?;
    h.set(1, "c", "c1")?;
    h.set(5, "c", "c5")?;
    h.set(7, "d", "d7")?;
    h.in_every_state(|h| {
        h.check_pages(&reversed(&as_of(TABLE, KeyRange::all(), 2)), 1, &["c=c1@1", "a=a1@1"])?;
        h.check_pages(&reversed(&as_of(TABLE, KeyRange::all(), 4)), 2, &["c=c1@1 b=b3@3", "a=a1@1"])?;
        h.check_pages(&reversed(&as_of(TABLE, KeyRange::all(), 5)), 2, &["c=c5@5 b=b3@3", "a=a1@1"])
    })
}
