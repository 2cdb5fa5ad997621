//! Forward ranges, page by page. They hunt pages cut short by what they must skip, scans that end too early or never, `has_more`
//! that guesses, and rows of other tables.

use thermocline_tier::{EntryKind, KeyRange};

use crate::cases::point_reads::read_nothing;
use crate::cases::scenarios::{self, Scenario};
use crate::failure::CaseResult;
use crate::harness::{Harness, OTHER, TABLE, batch_of, expect};
use crate::notation;
use crate::scans::{as_of, between, reversed};

/// Writes a scenario to the default table and answers with its scan.
fn written(h: &mut Harness<'_>, scenario: &Scenario) -> Result<thermocline_tier::RangeRequest, crate::CaseFailure> {
    scenario.write(h, TABLE)?;
    Ok(scenario.request(TABLE))
}

pub(crate) fn case_035_one_page_holds_all(h: &mut Harness<'_>) -> CaseResult {
    ["a", "b", "c"].iter().try_for_each(|key| h.set(1, key, "x"))?;
    h.in_every_state(|h| h.check_pages(&as_of(TABLE, KeyRange::all(), 1), 100, &["a=x@1 b=x@1 c=x@1"]))
}

pub(crate) fn case_036_ten_keys_by_three(h: &mut Harness<'_>) -> CaseResult {
    let request = written(h, &scenarios::ten_keys())?;
    let pages = ["0=x@1 1=x@1 2=x@1", "3=x@1 4=x@1 5=x@1", "6=x@1 7=x@1 8=x@1", "9=x@1"];
    h.in_every_state(|h| h.check_pages(&request, 3, &pages))
}

pub(crate) fn case_037_has_more_is_exact_at_full_pages(h: &mut Harness<'_>) -> CaseResult {
    ["a", "b", "c", "d", "e", "f"].iter().try_for_each(|key| h.set(1, key, "x"))?;
    // Behind the last visible row lie rows that the scan must not take for more.
    h.set(9, "g", "late")?;
    h.in_every_state(|h| {
        let all = as_of(TABLE, KeyRange::all(), 1);
        h.check_pages(&all, 6, &["a=x@1 b=x@1 c=x@1 d=x@1 e=x@1 f=x@1"])?;
        h.check_pages(&all, 3, &["a=x@1 b=x@1 c=x@1", "d=x@1 e=x@1 f=x@1"])?;
        let head = as_of(TABLE, KeyRange::new(.."d"), 1);
        h.check_pages(&head, 3, &["a=x@1 b=x@1 c=x@1"])?;
        h.check_pages(&reversed(&head), 3, &["c=x@1 b=x@1 a=x@1"])?;
        h.check_pages(&as_of(TABLE, KeyRange::new("f"..), 1), 1, &["f=x@1"])
    })
}

pub(crate) fn case_038_batch_size_does_not_matter(h: &mut Harness<'_>) -> CaseResult {
    Scenario::check_all(h, |h, request, rows| {
        let whole = h.collect(&request, 1_000_000, rows.len())?;
        let single = h.collect(&request, 1, rows.len())?;
        let text = |found: &[thermocline_tier::RawEntry]| notation::rows(found.iter().map(thermocline_tier::RawEntry::as_ref));
        expect(|| format!("rows one by one against all at once, {}", request.table), &text(&whole), &text(&single))?;
        h.check_one_way(&request, rows)
    })
}

pub(crate) fn case_041_inverted_range_is_empty(h: &mut Harness<'_>) -> CaseResult {
    ["a", "b", "c"].iter().try_for_each(|key| h.set(1, key, "x"))?;
    h.in_every_state(|h| {
        for range in [KeyRange::new("c".."a"), KeyRange::new("c"..="a"), KeyRange::new("zz".."z"), KeyRange::new("b".."b")] {
            h.check_range(&as_of(TABLE, range, 1), "")?;
        }
        h.check_range(&as_of(TABLE, KeyRange::new(..""), 1), "")
    })
}

pub(crate) fn case_042_range_below_every_version_is_empty(h: &mut Harness<'_>) -> CaseResult {
    ["a", "b", "c"].iter().try_for_each(|key| h.set(3, key, "x"))?;
    h.in_every_state(|h| {
        for at in [0, 1, 2] {
            h.check_range(&as_of(TABLE, KeyRange::all(), at), "")?;
        }
        h.check_range(&as_of(TABLE, KeyRange::all(), 3), "a=x@3 b=x@3 c=x@3")
    })
}

pub(crate) fn case_043_range_shows_the_older_keys_alone(h: &mut Harness<'_>) -> CaseResult {
    let scenario = scenarios::six_versions();
    let request = written(h, &scenario)?;
    h.in_every_state(|h| h.check_range(&request, &scenario.rows))
}

pub(crate) fn case_044_newer_key_does_not_shorten_a_page(h: &mut Harness<'_>) -> CaseResult {
    let scenario = scenarios::newer_key_in_the_window();
    let request = written(h, &scenario)?;
    h.in_every_state(|h| {
        h.check_pages(&request, 7, &["a=x@1 b=x@1 d=x@1 e=x@1 f=x@1 g=x@1 h=x@1", "i=x@1"])?;
        h.check_pages(&request, 8, &[&scenario.rows])
    })
}

pub(crate) fn case_045_visible_key_behind_invisible_pages(h: &mut Harness<'_>) -> CaseResult {
    let (whole, window) = (scenarios::invisible_pages(None), scenarios::invisible_pages(Some(4)));
    whole.write(h, TABLE)?;
    window.write(h, OTHER)?;
    h.in_every_state(|h| {
        for request in [whole.request(TABLE), window.request(OTHER)] {
            for batch_size in [1, 7, 10] {
                h.check_pages(&request, batch_size, &["k63=x@5"])?;
                h.check_pages(&reversed(&request), batch_size, &["k63=x@5"])?;
            }
        }
        Ok(())
    })
}

pub(crate) fn case_046_ten_thousand_versions_before_the_next_key(h: &mut Harness<'_>) -> CaseResult {
    let mut batches = vec![batch_of(1, |batch| batch.put(TABLE, b"b", b"next"))?];
    for version in 1..=10_000_u64 {
        batches.push(batch_of(version, |batch| batch.put(TABLE, b"a", format!("v{version}").as_bytes()))?);
    }
    h.write_all(&batches)?;
    h.in_every_state(|h| {
        h.check_pages(&as_of(TABLE, KeyRange::all(), 1), 1, &["a=v1@1", "b=next@1"])?;
        h.check_range(&as_of(TABLE, KeyRange::all(), 5_000), "a=v5000@5000 b=next@1")?;
        h.check_range(&as_of(TABLE, KeyRange::all(), u64::MAX), "a=v10000@10000 b=next@1")?;
        let versions = h.tier().get_all_versions(TABLE, b"a")?;
        expect(|| "the number of versions of a".into(), "10000", &versions.len().to_string())
    })
}

pub(crate) fn case_048_tombstones_are_rows_and_count(h: &mut Harness<'_>) -> CaseResult {
    let scenario = scenarios::tombstones_only();
    let request = written(h, &scenario)?;
    let rows: Vec<&str> = scenario.rows.split(' ').collect();
    h.in_every_state(|h| {
        let pages: Vec<String> = rows.chunks(4).map(|page| page.join(" ")).collect();
        h.check_pages(&request, 4, &pages.iter().map(String::as_str).collect::<Vec<_>>())?;
        h.check_range(&request, &scenario.rows)
    })
}

pub(crate) fn case_049_missing_table_is_empty_and_exhausted(h: &mut Harness<'_>) -> CaseResult {
    h.write(1, |batch| {
        batch.put(EntryKind::source(6), b"a", b"x")?;
        batch.put(EntryKind::source(8), b"a", b"x")
    })?;
    h.in_every_state(|h| {
        read_nothing(h, TABLE)?;
        read_nothing(h, EntryKind::Multi)?;
        h.check_range(&as_of(TABLE, KeyRange::new("a"..="z"), 1), "")?;
        h.check_tables(&[EntryKind::source(6), EntryKind::source(8)])
    })
}

pub(crate) fn case_050_range_stays_in_its_table(h: &mut Harness<'_>) -> CaseResult {
    let tables = [
        EntryKind::Multi,
        EntryKind::source(0),
        EntryKind::source(6),
        TABLE,
        EntryKind::source(8),
        EntryKind::source(255),
        EntryKind::source(256),
        EntryKind::source(u32::MAX),
        EntryKind::operator(0),
        EntryKind::operator(u32::MAX),
    ];
    h.write(1, |batch| {
        for table in tables {
            batch.put(table, b"", table.to_string().as_bytes())?;
            batch.put(table, &[0xff; 8], table.to_string().as_bytes())?;
        }
        Ok(())
    })?;
    h.in_every_state(|h| {
        for table in tables {
            let expected = format!("={table}@1 \\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff={table}@1");
            h.check_range(&as_of(table, KeyRange::all(), 1), &expected)?;
        }
        h.check_range(&as_of(EntryKind::source(7_000), KeyRange::all(), 1), "")?;
        h.check_tables(&tables)
    })
}

pub(crate) fn case_051_skipped_versions_do_not_count(h: &mut Harness<'_>) -> CaseResult {
    let scenario = scenarios::skipped_versions();
    let request = written(h, &scenario)?;
    h.in_every_state(|h| {
        h.check_pages(&request, 10, &[&scenario.rows])?;
        h.check_range(&request, &scenario.rows)
    })
}

pub(crate) fn case_052_between_excludes_its_lower_end(h: &mut Harness<'_>) -> CaseResult {
    h.set(5, "a", "x")?;
    h.set(3, "b", "x")?;
    h.set(7, "b", "y")?;
    h.remove(6, "c")?;
    h.in_every_state(|h| {
        let rows = |after, at, expected| h.check_range(&between(TABLE, KeyRange::all(), after, at), expected);
        rows(4, 5, "a=x@5")?;
        rows(5, 5, "")?;
        rows(5, 6, "c=~@6")?;
        rows(5, 7, "b=y@7 c=~@6")?;
        rows(2, 6, "a=x@5 b=x@3 c=~@6")?;
        rows(3, 6, "a=x@5 c=~@6")?;
        rows(6, u64::MAX, "b=y@7")?;
        rows(7, u64::MAX, "")?;
        rows(9, 4, "")
    })
}
