//! Tables as wholes: making and clearing them. They hunt rows that survive a clear or come back after it, writes that a clear
//! swallows, and tables lost with their last row.

use thermocline_tier::KeyRange;

use crate::backend::Capability;
use crate::failure::CaseResult;
use crate::harness::{Harness, OTHER, TABLE, drop_of};
use crate::scans::as_of;

pub(crate) fn case_067_ensured_table_is_there_and_empty(h: &mut Harness<'_>) -> CaseResult {
    h.ensure(TABLE)?;
    h.ensure(TABLE)?;
    h.in_every_state(|h| {
        h.check_tables(&[TABLE])?;
        h.check_range(&as_of(TABLE, KeyRange::all(), u64::MAX), "")
    })?;
    h.set(1, "a", "x")?;
    h.ensure(TABLE)?;
    h.ensure(OTHER)?;
    h.in_every_state(|h| {
        h.check_tables(&[TABLE, OTHER])?;
        h.check_get("a", 1, "x@1")
    })
}

pub(crate) fn case_068_clearing_a_missing_table_is_nothing(h: &mut Harness<'_>) -> CaseResult {
    h.write(1, |batch| batch.put(OTHER, b"a", b"x"))?;
    h.clear(TABLE)?;
    h.in_every_state(|h| {
        h.check_tables(&[OTHER])?;
        h.check_get_in(OTHER, "a", 1, "x@1")
    })
}

fn check_cleared(h: &Harness<'_>) -> CaseResult {
    for at in [0, 1, 2, 3, u64::MAX] {
        h.check_get("a", at, "-")?;
        h.check_get("b", at, "-")?;
    }
    h.check_versions("a", "")?;
    h.check_versions("b", "")?;
    h.check_range(&as_of(TABLE, KeyRange::all(), u64::MAX), "")?;
    h.check_stats([0; 4])?;
    h.check_tables(&[TABLE])
}

/// Two keys with three versions, one a tombstone.
fn fill(h: &mut Harness<'_>) -> CaseResult {
    h.set(1, "a", "v1")?;
    h.set(2, "a", "v2")?;
    h.set(2, "b", "v2")?;
    h.remove(3, "b")
}

pub(crate) fn case_069_clear_removes_every_version(h: &mut Harness<'_>) -> CaseResult {
    fill(h)?;
    h.check_stats([2, 4, 1, 10])?;
    h.clear(TABLE)?;
    h.in_every_state(check_cleared)?;
    if h.has(Capability::Drops) {
        h.drop_all(&[drop_of(TABLE, "a", 1), drop_of(TABLE, "b", 3)])?;
    }
    h.in_every_state(check_cleared)?;
    // Also below and at the versions that were cleared.
    h.set(1, "a", "again")?;
    h.set(3, "b", "again")?;
    h.in_every_state(|h| {
        h.check_get("a", 1, "again@1")?;
        h.check_get("b", 3, "again@3")?;
        h.check_versions("a", "again@1")?;
        h.check_stats([2, 2, 0, 12])
    })
}

pub(crate) fn case_070_clear_is_not_undone_by_reopen(h: &mut Harness<'_>) -> CaseResult {
    fill(h)?;
    // First with the rows wherever the steps bring them, then with rows that no step has met.
    h.in_every_state(|h| h.check_get("a", 2, "v2@2"))?;
    h.clear(TABLE)?;
    h.take(crate::Step::Reopen)?;
    h.in_every_state(check_cleared)?;
    fill(h)?;
    h.clear(TABLE)?;
    h.take(crate::Step::Reopen)?;
    h.in_every_state(check_cleared)
}

pub(crate) fn case_071_clear_is_not_undone_by_a_crash(h: &mut Harness<'_>) -> CaseResult {
    fill(h)?;
    h.in_every_state(|h| h.check_get("a", 2, "v2@2"))?;
    h.clear(TABLE)?;
    h.take(crate::Step::Crash)?;
    h.in_every_state(check_cleared)?;
    fill(h)?;
    h.clear(TABLE)?;
    h.take(crate::Step::Crash)?;
    h.in_every_state(check_cleared)
}
