//! Reads of one key and of many. They hunt answers off by one at a version's boundary, answers that carry the version that was
//! asked for, tombstones taken for absence, and batched answers that are out of order, merged or cut.

use thermocline_tier::{EntryKind, KeyRange, KeyRef, TierStorage, Version};

use crate::backend::Capability;
use crate::failure::CaseResult;
use crate::harness::{Harness, OTHER, TABLE, batch_of, expect, expect_that};
use crate::notation;
use crate::scans::{as_of, next_page, reversed};

pub(crate) fn case_001_each_version_reads_exactly(h: &mut Harness<'_>) -> CaseResult {
    for version in 1..=3 {
        h.set(version, "a", version.to_string())?;
    }
    h.in_every_state(|h| {
        for (at, expected) in [(0, "-"), (1, "1@1"), (2, "2@2"), (3, "3@3"), (4, "3@3"), (1024, "3@3"), (u64::MAX, "3@3")] {
            h.check_get("a", at, expected)?;
        }
        Ok(())
    })
}

pub(crate) fn case_002_gaps_between_versions_read_the_older(h: &mut Harness<'_>) -> CaseResult {
    for version in [1, 5, 10] {
        h.set(version, "a", format!("v{version}"))?;
    }
    h.in_every_state(|h| {
        h.check_get("a", 3, "v1@1")?;
        h.check_get("a", 7, "v5@5")?;
        h.check_get("a", 15, "v10@10")
    })
}

pub(crate) fn case_003_before_the_first_version_is_absent(h: &mut Harness<'_>) -> CaseResult {
    h.set(10, "a", "x")?;
    h.in_every_state(|h| {
        h.check_get("a", 5, "-")?;
        h.check_get("a", 9, "-")?;
        h.check_get("a", 10, "x@10")
    })
}

pub(crate) fn case_004_tombstone_is_its_own_answer(h: &mut Harness<'_>) -> CaseResult {
    h.set(1, "a", "v1")?;
    h.set(3, "a", "v3")?;
    h.remove(5, "a")?;
    h.in_every_state(|h| {
        for (at, expected) in [(6, "~@5"), (5, "~@5"), (4, "v3@3"), (2, "v1@1"), (0, "-")] {
            h.check_get("a", at, expected)?;
        }
        Ok(())
    })
}

pub(crate) fn case_005_late_version_takes_its_own_place(h: &mut Harness<'_>) -> CaseResult {
    h.set(3, "a", "v3")?;
    h.set(1, "a", "v1")?;
    h.in_every_state(|h| {
        h.check_get("a", 3, "v3@3")?;
        h.check_get("a", 2, "v1@1")?;
        h.check_get("a", 1, "v1@1")?;
        h.check_get("a", 0, "-")
    })
}

pub(crate) fn case_006_three_versions_in_descending_order(h: &mut Harness<'_>) -> CaseResult {
    for version in [10, 5, 3] {
        h.set(version, "a", format!("v{version}"))?;
    }
    h.in_every_state(|h| {
        for (at, expected) in [(u64::MAX, "v10@10"), (10, "v10@10"), (9, "v5@5"), (5, "v5@5"), (4, "v3@3"), (3, "v3@3"), (2, "-")]
        {
            h.check_get("a", at, expected)?;
        }
        h.check_versions("a", "v10@10 v5@5 v3@3")
    })
}

pub(crate) fn case_007_versions_zero_and_maximum_are_usable(h: &mut Harness<'_>) -> CaseResult {
    h.set(0, "a", "z")?;
    h.set(u64::MAX, "b", "m")?;
    h.set(0, "b", "n")?;
    h.in_every_state(|h| {
        h.check_get("a", 0, "z@0")?;
        h.check_get("a", u64::MAX, "z@0")?;
        h.check_get("b", 0, "n@0")?;
        h.check_get("b", u64::MAX - 1, "n@0")?;
        h.check_get("b", u64::MAX, "m@latest")?;
        h.check_versions("b", "m@latest n@0")
    })
}

pub(crate) fn case_008_reading_creates_no_table(h: &mut Harness<'_>) -> CaseResult {
    h.set_in_other()?;
    h.in_every_state(|h| {
        for at in [0, 1, u64::MAX] {
            h.check_get("a", at, "-")?;
        }
        h.check_versions("a", "")?;
        h.check_range(&as_of(TABLE, KeyRange::all(), u64::MAX), "")?;
        h.check_stats([0; 4])?;
        h.check_tables(&[OTHER])
    })
}

impl Harness<'_> {
    fn set_in_other(&mut self) -> CaseResult {
        self.write(1, |batch| batch.put(OTHER, b"a", b"other"))
    }
}

pub(crate) fn case_009_contains_follows_get(h: &mut Harness<'_>) -> CaseResult {
    for version in 1..=3 {
        h.set(version, "a", version.to_string())?;
    }
    h.remove(5, "a")?;
    h.set(7, "a", "")?;
    h.in_every_state(|h| {
        let expected = [(0, false), (1, true), (2, true), (3, true), (4, true), (5, false), (6, false), (7, true), (8, true)];
        for (at, is_there) in expected {
            let found = h.tier().contains(TABLE, b"a", Version(at))?;
            expect(|| format!("contains a at version {at}"), &is_there.to_string(), &found.to_string())?;
        }
        expect_that(!h.tier().contains(TABLE, b"b", Version::MAX)?, "contains is false for a key that was never written")
    })
}

fn answers(tier: &dyn TierStorage, keys: &[(EntryKind, Vec<u8>)], at: u64) -> Result<String, thermocline_tier::Error> {
    let keys: Vec<KeyRef<'_>> = keys.iter().map(|(table, prefix)| KeyRef { table: *table, prefix }).collect();
    Ok(notation::joined(tier.get_many(&keys, Version(at))?.iter().map(notation::answer)))
}

pub(crate) fn case_010_batched_get_answers_each_key_in_order(h: &mut Harness<'_>) -> CaseResult {
    h.set(1, "present", "p")?;
    h.set(1, "gone", "g")?;
    h.remove(2, "gone")?;
    h.in_every_state(|h| {
        let keys = ["present", "absent", "present", "gone"].map(|key| (TABLE, key.as_bytes().to_vec()));
        expect(|| "batched get at version 2".into(), "p@1 - p@1 ~@2", &answers(&*h.tier(), &keys, 2)?)?;
        expect(|| "batched get at version 1".into(), "p@1 - p@1 g@1", &answers(&*h.tier(), &keys, 1)?)?;
        expect(|| "batched get at version 0".into(), "- - - -", &answers(&*h.tier(), &keys, 0)?)?;
        expect(|| "batched get of no key".into(), "", &answers(&*h.tier(), &[], 2)?)
    })
}

pub(crate) fn case_011_batched_get_of_many_sizes(h: &mut Harness<'_>) -> CaseResult {
    const SIZES: [usize; 10] = [1, 2, 7, 8, 9, 63, 64, 65, 129, 130];
    // Not in the order of the bytes, so that an answer out of order shows.
    let key = |index: usize| format!("key-{:03}", (index * 37) % 131).into_bytes();
    for version in [1, 2] {
        let batch = batch_of(version, |batch| {
            (0..130).try_for_each(|index| batch.put(TABLE, &key(index), format!("{index}").as_bytes()))
        })?;
        h.apply(&batch)?;
    }
    h.in_every_state(|h| {
        for size in SIZES {
            for absent in [0, size / 2, size] {
                let mut keys: Vec<_> = (0..size).map(|index| (TABLE, key(index))).collect();
                let mut expected: Vec<_> = (0..size).map(|index| format!("{index}@1")).collect();
                keys.insert(absent, (TABLE, b"absent".to_vec()));
                expected.insert(absent, "-".into());
                let found = answers(&*h.tier(), &keys, 1)?;
                expect(|| format!("batched get of {size} keys and an absent one at {absent}"), &expected.join(" "), &found)?;
            }
        }
        Ok(())
    })
}

pub(crate) fn case_012_batched_get_keeps_tables_apart(h: &mut Harness<'_>) -> CaseResult {
    let tables = [EntryKind::Multi, EntryKind::source(1), EntryKind::source(2), EntryKind::operator(1), EntryKind::operator(2)];
    h.write(1, |batch| {
        batch.put(EntryKind::Multi, b"k", b"multi")?;
        batch.put(EntryKind::source(1), b"k", b"source-1")?;
        batch.put(EntryKind::operator(1), b"k", b"operator-1")?;
        batch.remove(EntryKind::operator(2), b"k")
    })?;
    h.in_every_state(|h| {
        let mut keys = tables.map(|table| (table, b"k".to_vec()));
        expect(|| "batched get over tables".into(), "multi@1 source-1@1 - operator-1@1 ~@1", &answers(&*h.tier(), &keys, 1)?)?;
        keys.reverse();
        let expected = "~@1 operator-1@1 - source-1@1 multi@1";
        expect(|| "batched get over tables, reversed".into(), expected, &answers(&*h.tier(), &keys, 1)?)
    })
}

pub(crate) fn case_013_previous_is_strictly_below(h: &mut Harness<'_>) -> CaseResult {
    h.set(1, "a", "v1")?;
    h.set(4, "a", "v4")?;
    h.remove(6, "a")?;
    h.set(8, "a", "v8")?;
    if h.has(Capability::ExtremeVersions) {
        h.set(u64::MAX, "a", "last")?;
    }
    let check = |h: &Harness<'_>| {
        let expected =
            [(0, "-"), (1, "-"), (2, "v1@1"), (4, "v1@1"), (5, "v4@4"), (6, "v4@4"), (7, "~@6"), (8, "~@6"), (9, "v8@8")];
        for (before, expected) in expected.into_iter().chain([(u64::MAX, "v8@8")]) {
            let found = h.tier().get_previous(TABLE, b"a", Version(before))?;
            expect(|| format!("newest version of a below {before}"), expected, &notation::answer(&found))?;
        }
        expect_that(!h.tier().get_previous(TABLE, b"b", Version::MAX)?.is_value(), "an unknown key has no previous version")
    };
    // The second time from a warm cache, where there is one.
    h.in_every_state(|h| check(h).and_then(|()| check(h)))
}

/// Reads of a missing table in both directions leave no trace; shared with the cases of ranges.
pub(crate) fn read_nothing(h: &Harness<'_>, table: EntryKind) -> CaseResult {
    for request in [as_of(table, KeyRange::all(), u64::MAX), reversed(&as_of(table, KeyRange::all(), u64::MAX))] {
        let mut cursor = request.into_cursor();
        let page = next_page(&*h.tier(), &mut cursor, 10)?;
        expect_that(
            page.is_empty() && !page.has_more && cursor.is_exhausted(),
            "a missing table is empty and exhausted at once",
        )?;
    }
    Ok(())
}
