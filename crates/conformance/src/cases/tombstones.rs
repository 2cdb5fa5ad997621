//! Tombstones at the boundaries of versions and pages. They hunt deletions that come one version early or late, and tombstones
//! lost at the end of a page.

use thermocline_tier::KeyRange;

use crate::failure::CaseResult;
use crate::harness::{Harness, TABLE};
use crate::scans::as_of;

pub(crate) fn case_029_deletion_begins_at_its_version(h: &mut Harness<'_>) -> CaseResult {
    h.set(1, "a", "x")?;
    h.remove(5, "a")?;
    h.set(1, "b", "x")?;
    h.remove(6, "b")?;
    h.in_every_state(|h| {
        h.check_get("a", 5, "~@5")?;
        h.check_get("b", 5, "x@1")?;
        h.check_range(&as_of(TABLE, KeyRange::all(), 5), "a=~@5 b=x@1")
    })
}

pub(crate) fn case_030_tombstone_below_the_first_value(h: &mut Harness<'_>) -> CaseResult {
    h.set(5, "a", "x")?;
    h.remove(2, "a")?;
    h.in_every_state(|h| {
        h.check_get("a", 1, "-")?;
        h.check_get("a", 2, "~@2")?;
        h.check_get("a", 3, "~@2")?;
        h.check_get("a", 5, "x@5")?;
        h.check_versions("a", "x@5 ~@2")
    })
}

pub(crate) fn case_034_trailing_tombstone_of_a_page_is_delivered(h: &mut Harness<'_>) -> CaseResult {
    h.set(1, "a", "x")?;
    h.set(10, "b", "late")?;
    h.remove(3, "c")?;
    h.in_every_state(|h| {
        h.check_pages(&as_of(TABLE, KeyRange::all(), 5), 1, &["a=x@1", "c=~@3"])?;
        h.check_pages(&as_of(TABLE, KeyRange::all(), 5), 2, &["a=x@1 c=~@3"])?;
        h.check_pages(&as_of(TABLE, KeyRange::new("b"..), 5), 1, &["c=~@3"])?;
        h.check_pages(&as_of(TABLE, KeyRange::new("b".."c"), 5), 1, &[""])
    })
}
