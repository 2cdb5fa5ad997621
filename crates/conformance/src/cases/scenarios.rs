//! Data sets with a scan and its answer, shared by the cases that look at them from different sides: page by page, whole, and in
//! reverse.

use thermocline_tier::{BatchBuilder, EntryKind, KeyRange, RangeRequest, Version, WholeKey};

use crate::failure::CaseResult;
use crate::harness::Harness;
use crate::scans::{as_of, between};

/// One data set and one scan of it.
pub(crate) struct Scenario {
    /// Version, key, value; without a value a tombstone.
    pub(crate) writes: Vec<(u64, Vec<u8>, Option<String>)>,
    pub(crate) range: KeyRange,
    pub(crate) after: Option<u64>,
    pub(crate) at: u64,
    /// The rows, ascending.
    pub(crate) rows: String,
}

impl Scenario {
    /// Values at version 1 for each key, and the rows that a scan of all at `at` then has.
    fn new(writes: &[(u64, &str, Option<&str>)], at: u64, rows: &str) -> Self {
        let writes = writes.iter().map(|(version, key, value)| (*version, key.as_bytes().to_vec(), value.map(str::to_owned)));
        Self { writes: writes.collect(), range: KeyRange::all(), after: None, at, rows: rows.into() }
    }

    fn range(self, range: KeyRange) -> Self {
        Self { range, ..self }
    }

    fn after(self, after: u64) -> Self {
        Self { after: Some(after), ..self }
    }

    pub(crate) fn request(&self, table: EntryKind) -> RangeRequest {
        match self.after {
            Some(after) => between(table, self.range.clone(), after, self.at),
            None => as_of(table, self.range.clone(), self.at),
        }
    }

    pub(crate) fn write(&self, h: &mut Harness<'_>, table: EntryKind) -> CaseResult {
        let mut batches = Vec::new();
        for (version, key, value) in &self.writes {
            let mut batch = BatchBuilder::new();
            match value {
                Some(value) => batch.put(table, key, value.as_bytes())?,
                None => batch.remove(table, key)?,
            }
            batches.push(batch.finish(&WholeKey, Version(*version)));
        }
        h.write_all(&batches)
    }

    /// Writes every scenario to a table of its own, and checks each scan in every state.
    pub(crate) fn check_all(
        h: &mut Harness<'_>,
        check: impl Fn(&Harness<'_>, RangeRequest, &[&str]) -> CaseResult,
    ) -> CaseResult {
        let scenarios: Vec<_> = (100..).map(EntryKind::source).zip(all()).collect();
        for (table, scenario) in &scenarios {
            scenario.write(h, *table)?;
        }
        h.in_every_state(|h| {
            for (table, scenario) in &scenarios {
                let rows: Vec<&str> = scenario.rows.split(' ').filter(|row| !row.is_empty()).collect();
                check(h, scenario.request(*table), &rows)?;
            }
            Ok(())
        })
    }
}

/// The data sets of cases 35 to 52, whose scans must not depend on the size of the batches nor on the direction.
pub(crate) fn all() -> Vec<Scenario> {
    let abc = [(1, "a", Some("x")), (1, "b", Some("x")), (1, "c", Some("x"))];
    let mut scenarios = vec![
        Scenario::new(&abc, 1, "a=x@1 b=x@1 c=x@1"),
        Scenario::new(&abc, 0, ""),
        Scenario::new(&abc, 1, "").range(KeyRange::new("c".."a")),
        Scenario::new(&abc, 1, "b=x@1").range(KeyRange::new("b"..="b")),
        Scenario::new(&[(1, "a", Some("x")), (2, "b", None), (1, "c", Some("x"))], 5, "a=x@1 b=~@2 c=x@1"),
        Scenario::new(&[(1, "a", Some("x")), (9, "b", None), (1, "c", Some("x"))], 5, "a=x@1 c=x@1"),
        Scenario::new(&[(1, "a", Some("x")), (3, "a", Some("y")), (4, "b", Some("z"))], 4, "b=z@4").after(3),
        Scenario::new(&[(1, "", Some("x")), (1, "\0", Some("")), (2, "\0\0", None)], 2, "=x@1 \\x00=@1 \\x00\\x00=~@2"),
    ];
    scenarios.push(ten_keys());
    scenarios.push(six_versions());
    scenarios.push(newer_key_in_the_window());
    scenarios.extend([invisible_pages(None), invisible_pages(Some(4))]);
    scenarios.push(tombstones_only());
    scenarios.push(skipped_versions());
    scenarios
}

/// Keys 0 to 9 at version 1 (36, 64).
pub(crate) fn ten_keys() -> Scenario {
    let writes = (0..10).map(|key: u8| (1, vec![b'0' + key], Some("x".into()))).collect();
    let rows = (0..10).map(|key| format!("{key}=x@1")).collect::<Vec<_>>().join(" ");
    Scenario { writes, range: KeyRange::all(), after: None, at: 1, rows }
}

/// One key a version, read at the fourth (43).
pub(crate) fn six_versions() -> Scenario {
    let keys = ["a", "b", "c", "d", "e", "f"];
    let writes: Vec<_> = (1..).zip(keys).map(|(version, key)| (version, key, Some("x"))).collect();
    Scenario::new(&writes, 4, "a=x@1 b=x@2 c=x@3 d=x@4")
}

/// A key with only a newer version in the midst of a page (44).
pub(crate) fn newer_key_in_the_window() -> Scenario {
    let old = ["a", "b", "d", "e", "f", "g", "h", "i"];
    let mut writes: Vec<_> = old.iter().map(|key| (1, *key, Some("x"))).collect();
    writes.push((10, "c", Some("x")));
    Scenario::new(&writes, 3, "a=x@1 b=x@1 d=x@1 e=x@1 f=x@1 g=x@1 h=x@1 i=x@1")
}

/// A hundred keys of which one alone is visible, in their midst (45).
pub(crate) fn invisible_pages(after: Option<u64>) -> Scenario {
    // Too new for both windows; every other one also too old for the window between.
    let mut writes: Vec<(u64, Vec<u8>, Option<String>)> = Vec::new();
    for index in 0..100 {
        let key = format!("k{index:02}").into_bytes();
        if index % 2 == 0 && after.is_some() {
            writes.push((2, key.clone(), Some("old".into())));
        }
        writes.push((10, key, Some("new".into())));
    }
    writes.push((5, b"k63".to_vec(), Some("x".into())));
    Scenario { writes, range: KeyRange::all(), after, at: 5, rows: "k63=x@5".into() }
}

/// A stretch of tombstones between two values (48).
pub(crate) fn tombstones_only() -> Scenario {
    let mut writes = vec![(1, b"a".to_vec(), Some("x".into()))];
    let mut rows = vec!["a=x@1".to_owned()];
    for index in 0..12 {
        let key = format!("b{index:02}");
        rows.push(format!("{key}=~@2"));
        writes.push((1, key.clone().into_bytes(), Some("x".into())));
        writes.push((2, key.into_bytes(), None));
    }
    writes.push((1, b"c".to_vec(), Some("x".into())));
    rows.push("c=x@1".into());
    Scenario { writes, range: KeyRange::all(), after: None, at: 2, rows: rows.join(" ") }
}

/// Keys with an old and a new version beside keys with an old one alone, seen between (51).
pub(crate) fn skipped_versions() -> Scenario {
    let mut writes = Vec::new();
    let mut rows = Vec::new();
    for index in 0..20 {
        writes.push((1, format!("k{index:02}").into_bytes(), Some("old".into())));
        if index % 2 == 1 {
            writes.push((11, format!("k{index:02}").into_bytes(), Some("new".into())));
            rows.push(format!("k{index:02}=new@11"));
        }
    }
    Scenario { writes, range: KeyRange::all(), after: Some(10), at: 20, rows: rows.join(" ") }
}
