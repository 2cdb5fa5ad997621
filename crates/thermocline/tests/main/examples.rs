//! The examples, run over histories of which is known what must come out.

#[expect(dead_code, reason = "its own main reads real histories")]
#[path = "../../examples/materialized_view.rs"]
mod materialized_view;
#[expect(dead_code, clippy::duplicate_mod, reason = "its own main reads real histories, as the other's does")]
#[path = "../../examples/schema_migration.rs"]
mod schema_migration;

use std::collections::BTreeMap;

/// Files come, change, and go.
fn history() -> Vec<materialized_view::Changes> {
    let path = |number: u64| {
        let kind = match number % 3 {
            0 => "rs",
            1 => "md",
            _ => "toml",
        };
        format!("folder {}/file {number}.{kind}", number % 7)
    };
    let commit = |commit: u64| {
        let change = |change: u32| {
            let number = commit.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(7 * change) % 500;
            let value = (number % 4 != commit % 4).then(|| format!("{commit} {}", "content ".repeat(20)));
            (path(number), value)
        };
        // Each key once.
        (0..5_u32).map(change).collect::<BTreeMap<_, _>>().into_iter().collect()
    };
    (1..=1_500).map(commit).collect()
}

#[test]
fn view_is_what_the_rows_say_after_a_restart_and_after_being_left_behind() {
    let directory = tempfile::tempdir().unwrap();
    let history = history();
    let summary = materialized_view::run(&directory.path().join("db"), &history).unwrap();
    assert_eq!(summary.resynchronized, 1);
    // All but what came while it slept.
    assert_eq!(summary.followed, 375 + 375);
    let mut files = BTreeMap::new();
    history.into_iter().flatten().for_each(|(path, value)| drop(files.insert(path, value)));
    let mut kinds = BTreeMap::new();
    for (path, _) in files.iter().filter(|(_, value)| value.is_some()) {
        *kinds.entry(path.rsplit('.').next().unwrap().to_owned()).or_insert(0) += 1;
    }
    assert_eq!(summary.kinds, kinds);
}

#[test]
fn old_schemas_are_forgotten_when_no_row_is_left_of_them() {
    let directory = tempfile::tempdir().unwrap();
    let report = schema_migration::run(&directory.path().join("db"), &history()).unwrap();
    assert_eq!((report.schemas.0 > 1, report.schemas.1), (true, 1), "{report:?}");
    assert!(report.watermarks.0 < report.watermarks.1, "{report:?}");
    assert!(report.migrated > report.rows / 2 && report.reads > 100, "{report:?}");
}
