//! Dropping versions. They hunt drops that take more or less than they name, that hide instead of uncover, and that eat a later
//! write of the same version.

use thermocline_tier::{DropRule, EntryKind, KeyRange, Version};

use crate::backend::Capability;
use crate::failure::CaseResult;
use crate::harness::{Harness, OTHER, TABLE, drop_of, expect};
use crate::notation::joined;
use crate::scans::{as_of, reversed};

fn set_versions(h: &mut Harness<'_>, key: &str, versions: &[u64]) -> CaseResult {
    versions.iter().try_for_each(|version| h.set(*version, key, format!("v{version}")))
}

pub(crate) fn case_074_dropping_the_oldest(h: &mut Harness<'_>) -> CaseResult {
    set_versions(h, "a", &[1, 2, 3])?;
    h.drop_one(1, "a")?;
    h.in_every_state(|h| {
        for (at, expected) in [(1, "-"), (2, "v2@2"), (3, "v3@3")] {
            h.check_get("a", at, expected)?;
        }
        h.check_versions("a", "v3@3 v2@2")
    })
}

pub(crate) fn case_075_dropping_from_the_middle_uncovers_the_older(h: &mut Harness<'_>) -> CaseResult {
    set_versions(h, "a", &[1, 2, 3])?;
    h.drop_one(2, "a")?;
    h.in_every_state(|h| {
        for (at, expected) in [(1, "v1@1"), (2, "v1@1"), (3, "v3@3")] {
            h.check_get("a", at, expected)?;
        }
        h.check_versions("a", "v3@3 v1@1")
    })
}

pub(crate) fn case_076_dropping_the_newest_uncovers_the_older(h: &mut Harness<'_>) -> CaseResult {
    set_versions(h, "a", &[1, 3, 5])?;
    h.drop_one(5, "a")?;
    h.in_every_state(|h| {
        h.check_get("a", 5, "v3@3")?;
        h.check_get("a", u64::MAX, "v3@3")?;
        h.check_get("a", 1, "v1@1")?;
        h.check_versions("a", "v3@3 v1@1")
    })
}

pub(crate) fn case_077_dropping_all_versions_removes_the_key(h: &mut Harness<'_>) -> CaseResult {
    set_versions(h, "a", &[1, 2])?;
    set_versions(h, "b", &[1, 2])?;
    h.remove(3, "b")?;
    set_versions(h, "c", &[1])?;
    let listed = h.tier().get_all_versions(TABLE, b"b")?;
    h.drop_all(&listed.iter().map(|entry| drop_of(TABLE, &entry.prefix, entry.version.0)).collect::<Vec<_>>())?;
    h.in_every_state(|h| {
        for at in [1, 2, 3, u64::MAX] {
            h.check_get("b", at, "-")?;
        }
        h.check_versions("b", "")?;
        h.check_range(&as_of(TABLE, KeyRange::all(), 9), "a=v2@2 c=v1@1")?;
        h.check_stats([2, 3, 0, 9])
    })
}

pub(crate) fn case_078_dropping_a_tombstone_uncovers_the_value(h: &mut Harness<'_>) -> CaseResult {
    set_versions(h, "a", &[1])?;
    h.remove(2, "a")?;
    h.drop_one(2, "a")?;
    h.in_every_state(|h| {
        h.check_get("a", 2, "v1@1")?;
        h.check_versions("a", "v1@1")?;
        h.check_stats([1, 1, 0, 3])
    })
}

pub(crate) fn case_079_dropping_what_is_not_there_is_nothing(h: &mut Harness<'_>) -> CaseResult {
    set_versions(h, "a", &[1, 5])?;
    h.write(1, |batch| batch.put(OTHER, b"b", b"x"))?;
    let before = h.dump()?;
    let unknown = [
        drop_of(TABLE, "a", 0),
        drop_of(TABLE, "a", 3),
        drop_of(TABLE, "a", 6),
        drop_of(TABLE, "a", u64::MAX),
        drop_of(TABLE, "b", 1),
        drop_of(TABLE, "", 1),
        drop_of(OTHER, "a", 1),
        drop_of(EntryKind::source(8), "a", 1),
    ];
    h.drop_all(&unknown)?;
    h.drop_all(&[])?;
    h.in_every_state(|h| {
        expect(|| "everything after drops of nothing".into(), &before, &h.dump()?)?;
        h.check_get("a", 3, "v1@1")?;
        h.check_get("a", 6, "v5@5")?;
        h.check_tables(&[TABLE, OTHER])
    })
}

pub(crate) fn case_080_dropping_twice_is_nothing(h: &mut Harness<'_>) -> CaseResult {
    set_versions(h, "a", &[1, 2, 3])?;
    h.drop_all(&[drop_of(TABLE, "a", 2), drop_of(TABLE, "a", 2)])?;
    let before = h.dump()?;
    h.drop_one(2, "a")?;
    h.in_every_state(|h| {
        expect(|| "everything after the second drop".into(), &before, &h.dump()?)?;
        h.check_versions("a", "v3@3 v1@1")
    })
}

pub(crate) fn case_081_dropped_version_can_be_written_again(h: &mut Harness<'_>) -> CaseResult {
    set_versions(h, "a", &[1, 2])?;
    h.drop_one(2, "a")?;
    h.in_every_state(|h| h.check_get("a", 2, "v1@1"))?;
    h.set(2, "a", "again")?;
    h.in_every_state(|h| {
        h.check_get("a", 2, "again@2")?;
        h.check_versions("a", "again@2 v1@1")
    })
}

pub(crate) fn case_082_drop_stays_after_every_step(h: &mut Harness<'_>) -> CaseResult {
    set_versions(h, "a", &[1, 2, 3])?;
    set_versions(h, "b", &[1])?;
    // Brings them into files, where there are files.
    h.in_every_state(|h| h.check_versions("a", "v3@3 v2@2 v1@1"))?;
    h.drop_all(&[drop_of(TABLE, "a", 3), drop_of(TABLE, "a", 1), drop_of(TABLE, "b", 1)])?;
    // Twice through all steps: reopened before and after a compaction.
    for _ in 0..2 {
        h.in_every_state(|h| {
            h.check_get("a", 9, "v2@2")?;
            h.check_get("a", 1, "-")?;
            h.check_get("b", 1, "-")?;
            h.check_versions("a", "v2@2")?;
            h.check_range(&as_of(TABLE, KeyRange::all(), 9), "a=v2@2")
        })?;
    }
    Ok(())
}

pub(crate) fn case_083_drop_ahead_of_a_scan_takes_effect(h: &mut Harness<'_>) -> CaseResult {
    for key in ["a", "b", "c", "d"] {
        set_versions(h, key, &[1, 3])?;
    }
    let (mut forward, mut reverse) =
        (as_of(TABLE, KeyRange::all(), 3).into_cursor(), reversed(&as_of(TABLE, KeyRange::all(), 3)).into_cursor());
    h.check_page(&mut forward, 1, "a=v3@3", true)?;
    h.check_page(&mut reverse, 1, "d=v3@3", true)?;
    h.drop_all(&[drop_of(TABLE, "b", 3), drop_of(TABLE, "c", 3), drop_of(TABLE, "c", 1)])?;
    h.check_page(&mut forward, 2, "b=v1@1 d=v3@3", false)?;
    h.check_page(&mut reverse, 2, "b=v1@1 a=v3@3", false)
}

pub(crate) fn case_085_rules_select_what_is_dropped(h: &mut Harness<'_>) -> CaseResult {
    const STORED: [u64; 5] = [1, 5, 10, 20, 100];
    let rules: [(Option<u64>, Option<usize>, &[u64]); 9] = [
        (Some(15), Some(3), &[100, 20, 10]),
        (Some(3), Some(2), &[100, 20, 10, 5]),
        (Some(50), Some(1), &[100]),
        (None, Some(0), &[]),
        (None, Some(10), &[100, 20, 10, 5, 1]),
        (Some(10), None, &[100, 20, 10]),
        (Some(0), None, &[100, 20, 10, 5, 1]),
        (Some(u64::MAX), None, &[]),
        (None, None, &[]),
    ];
    for (number, (up_to, keep_last, kept)) in rules.into_iter().enumerate() {
        let key = format!("k{number}");
        set_versions(h, &key, &STORED)?;
        apply_rule(h, &key, DropRule { up_to: up_to.map(Version), keep_last, ..DropRule::default() })?;
        let expected = joined(kept.iter().map(|version| format!("v{version}@{version}")));
        h.in_every_state(|h| h.check_versions(&key, &expected))?;
    }
    // A stored maximum is not strictly below any bound. What a store takes is.
    if !h.has(Capability::ExtremeVersions) {
        return Ok(());
    }
    set_versions(h, "max", &[1, u64::MAX])?;
    apply_rule(h, "max", DropRule { up_to: Some(Version::MAX), ..DropRule::default() })?;
    h.in_every_state(|h| h.check_versions("max", &format!("v{}@latest", u64::MAX)))
}

fn apply_rule(h: &mut Harness<'_>, key: &str, rule: DropRule) -> CaseResult {
    let stored: Vec<Version> = h.tier().get_all_versions(TABLE, key.as_bytes())?.iter().map(|entry| entry.version).collect();
    let drops: Vec<_> = rule.select(&stored).into_iter().map(|version| drop_of(TABLE, key, version.0)).collect();
    h.drop_all(&drops)
}

pub(crate) fn case_087_sets_drops_and_removes_interleaved(h: &mut Harness<'_>) -> CaseResult {
    h.set(1, "a", "v1")?;
    h.drop_one(1, "a")?;
    h.set(2, "a", "v2")?;
    h.remove(3, "a")?;
    h.set(4, "a", "v4")?;
    h.drop_one(4, "a")?;
    h.in_every_state(|h| h.check_get("a", 9, "~@3"))?;
    h.set(5, "a", "v5")?;
    h.in_every_state(|h| {
        h.check_get("a", 9, "v5@5")?;
        h.check_get("a", 4, "~@3")?;
        h.check_get("a", 2, "v2@2")?;
        h.check_get("a", 1, "-")?;
        h.check_versions("a", "v5@5 ~@3 v2@2")
    })
}

pub(crate) fn case_088_size_falls_after_drop_not_after_delete(h: &mut Harness<'_>) -> CaseResult {
    h.set(1, "a", "0123456789")?;
    h.check_stats_of_rewritten([1, 1, 0, 11])?;
    h.remove(2, "a")?;
    h.check_stats_of_rewritten([1, 2, 1, 12])?;
    h.drop_one(1, "a")?;
    h.check_stats_of_rewritten([1, 1, 1, 1])?;
    h.drop_one(2, "a")?;
    h.check_stats_of_rewritten([0; 4])?;
    h.in_every_state(|h| h.check_tables(&[TABLE]))
}
