//! Batches: several writes at one version. They hunt half-applied batches, the wrong winner among writes of one key, and empty
//! batches that leave traces.

use thermocline_tier::{EntryKind, KeyRange};

use crate::failure::CaseResult;
use crate::harness::{Harness, OTHER, TABLE, expect};
use crate::scans::as_of;

pub(crate) fn case_014_batch_over_tables_is_visible_at_its_version(h: &mut Harness<'_>) -> CaseResult {
    h.write(5, |batch| {
        batch.put(OTHER, b"k", b"y")?;
        batch.put(TABLE, b"k", b"x")
    })?;
    h.in_every_state(|h| {
        h.check_get_in(TABLE, "k", 5, "x@5")?;
        h.check_get_in(OTHER, "k", 5, "y@5")?;
        h.check_get_in(TABLE, "k", 4, "-")?;
        h.check_get_in(OTHER, "k", 4, "-")?;
        h.check_tables(&[TABLE, OTHER])
    })
}

pub(crate) fn case_016_empty_batch_changes_nothing(h: &mut Harness<'_>) -> CaseResult {
    h.write(9, |_batch| Ok(()))?;
    h.in_every_state(|h| h.check_tables(&[]))?;
    h.set(1, "a", "x")?;
    let before = h.dump()?;
    h.write(9, |_batch| Ok(()))?;
    h.in_every_state(|h| {
        expect(|| "everything after an empty batch".into(), &before, &h.dump()?)?;
        h.check_tables(&[TABLE])
    })
}

pub(crate) fn case_017_last_write_of_a_batch_wins(h: &mut Harness<'_>) -> CaseResult {
    h.write(1, |batch| {
        batch.put(TABLE, b"b", b"0")?;
        batch.put(TABLE, b"a", b"1")?;
        batch.put(TABLE, b"a", b"2")
    })?;
    h.in_every_state(|h| {
        h.check_get("a", 1, "2@1")?;
        h.check_versions("a", "2@1")?;
        h.check_range(&as_of(TABLE, KeyRange::all(), 1), "a=2@1 b=0@1")
    })
}

pub(crate) fn case_018_set_and_remove_in_one_batch(h: &mut Harness<'_>) -> CaseResult {
    h.write(1, |batch| {
        batch.put(TABLE, b"a", b"1")?;
        batch.remove(TABLE, b"a")?;
        batch.remove(TABLE, b"b")?;
        batch.put(TABLE, b"b", b"1")
    })?;
    h.in_every_state(|h| {
        h.check_get("a", 1, "~@1")?;
        h.check_get("b", 1, "1@1")?;
        h.check_versions("a", "~@1")?;
        h.check_versions("b", "1@1")
    })
}

pub(crate) fn case_073_clear_leaves_other_tables(h: &mut Harness<'_>) -> CaseResult {
    let tables = [EntryKind::source(6), TABLE, EntryKind::source(8)];
    for version in 1..=3_u64 {
        h.write(version, |batch| {
            tables.iter().try_for_each(|table| {
                batch.put(*table, b"", version.to_string().as_bytes())?;
                batch.put(*table, b"k", version.to_string().as_bytes())?;
                batch.put(*table, &[0xff; 4], version.to_string().as_bytes())
            })
        })?;
    }
    // Brings the three tables into one file where there are files.
    h.in_every_state(|h| h.check_get("k", 3, "3@3"))?;
    h.clear(TABLE)?;
    h.in_every_state(|h| {
        h.check_range(&as_of(TABLE, KeyRange::all(), u64::MAX), "")?;
        for table in [EntryKind::source(6), EntryKind::source(8)] {
            h.check_get_in(table, "k", 1, "1@1")?;
            h.check_range(&as_of(table, KeyRange::all(), u64::MAX), "=3@3 k=3@3 \\xff\\xff\\xff\\xff=3@3")?;
        }
        Ok(())
    })
}
