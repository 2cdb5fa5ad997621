//! Importing the change format: exact states, malformed lines, and going on.

use std::ffi::OsStr;

use crate::program::{Folder, changes, sample};

fn version(folder: &Folder) -> u64 {
    let stats: serde_json::Value = serde_json::from_str(&folder.say("stats --format json").ok()).unwrap();
    stats["last_version"].as_u64().unwrap()
}

#[test]
fn commit_numbers_become_versions_with_their_gaps() {
    let folder = sample();
    assert_eq!(version(&folder), 4);
    assert_eq!(folder.say("scan --at 3 --format tsv").ok(), "a\t1\nb\t2\nc\t2\n");
}

#[test]
fn the_summary_says_what_was_imported() {
    let folder = Folder::new();
    let lines = "3 put a 1; 3 put b 1; 5 put a 2";
    let summary = "imported 2 commits, 3 to 5, with 3 changes; the store is at version 5\n";
    assert_eq!(folder.import(lines).ok(), summary);
    assert_eq!(folder.import(lines).ok(), "nothing to import; the store is at version 5\n");
    assert_eq!(folder.import("").ok(), "nothing to import; the store is at version 5\n");
}

#[test]
fn the_last_write_of_a_commit_wins() {
    let folder = Folder::new();
    let lines = "1 put a 1; 1 del a -; 1 put a 3; 2 put b 1; 2 del b -";
    folder.import(lines).ok();
    assert_eq!(folder.say("scan --format tsv").ok(), "a\t3\n");
    assert_eq!(folder.import(lines).ok(), "nothing to import; the store is at version 2\n");
}

#[test]
fn an_import_goes_on_where_an_earlier_one_stopped() {
    let folder = Folder::new();
    folder.import("1 put a 1; 2 put b 2").ok();
    let summary = folder.import("1 put a 1; 2 put b 2; 3 put c 3; 5 del a -").ok();
    assert_eq!(summary, "imported 2 commits, 3 to 5, with 2 changes; the store is at version 5\n");
    assert_eq!(folder.say("scan --format tsv").ok(), "b\t2\nc\t3\n");
    assert_eq!(folder.say("scan --at 1 --format tsv").ok(), "a\t1\n");
    // A file that begins where the store ends has nothing to compare.
    folder.import("6 put d 6").ok();
    assert_eq!(version(&folder), 6);
}

#[test]
fn another_history_is_refused_and_changes_nothing() {
    let others =
        ["1 put a 9; 2 put b 2; 3 put c 3", "1 put a 1; 2 put x 2; 3 put c 3", "1 del a -; 3 put c 3", "2 put a 1; 3 put c 3"];
    for other in others {
        let folder = Folder::new();
        folder.import("1 put a 1; 2 put b 2").ok();
        folder.import(other).refused(1, "the store is at version 2, but its table multi does not hold this history");
        assert_eq!(version(&folder), 2, "{other}");
    }
    let folder = Folder::new();
    folder.import("1 put a 1").ok();
    let file = folder.write("changes.tsv", changes("1 put a 1; 2 put a 2"));
    let options = [OsStr::new("--table"), OsStr::new("source:1"), OsStr::new("--tsv"), file.as_os_str()];
    folder.run("import", options).refused(1, "its table source:1 does not hold");
}

#[track_caller]
fn check_malformed(content: &str, line: u64, what: &str, kept: u64) {
    let folder = Folder::new();
    let file = folder.write("bad.tsv", content);
    let ran = folder.run("import", [OsStr::new("--tsv"), file.as_os_str()]);
    ran.refused(1, &format!("bad.tsv`, line {line}: "));
    ran.refused(1, what);
    assert_eq!(version(&folder), kept, "{content:?}");
}

#[test]
fn a_malformed_line_is_named_and_only_whole_commits_before_it_are_kept() {
    let good = "1\tput\ta\t1\n2\tput\tb\t2\n";
    check_malformed("garbage\n", 1, "expected 4 fields", 0);
    check_malformed(&format!("{good}3\tput\tc\n"), 3, "expected 4 fields", 2);
    check_malformed(&format!("{good}3\tput\tc\t3\n3\tset\tc\t3\n4\tput\tc\t4\n"), 4, "`set` is neither put nor del", 2);
    check_malformed(&format!("{good}3\tdel\tb\t2\n"), 3, "a del has a value", 2);
    check_malformed(&format!("{good}3\tput\tc\td\te\n"), 3, "found more", 2);
    check_malformed(&format!("{good}1\tput\tc\td\n"), 3, "commit 1 comes after commit 2", 2);
    check_malformed(&format!("{good}3\tput\tc\tcut"), 3, "cut short", 2);
    // Nobody can tell whether the line belongs to commit 2.
    check_malformed(&format!("{good}\n"), 3, "expected 4 fields", 1);
    check_malformed(&format!("{good}x\tput\tc\t3\n"), 3, "`x` is not a commit number", 1);
    check_malformed(&format!("{good}2"), 3, "cut short", 1);
    check_malformed(&format!("{good}2\tput\tc"), 3, "cut short", 1);
}

#[test]
fn a_mended_file_goes_on_after_its_malformed_line() {
    let folder = Folder::new();
    folder.import("1 put a 1; 2 put b 2; 3 what").refused(1, "line 3");
    folder.import("1 put a 1; 2 put b 2; 3 put c 3").ok();
    assert_eq!(folder.say("scan --format tsv").ok(), "a\t1\nb\t2\nc\t3\n");
}

#[test]
fn a_key_over_the_limit_is_refused_with_its_commit() {
    let folder = Folder::new();
    let long = "k".repeat(65_536);
    let file = folder.write("long.tsv", format!("1\tput\ta\t1\n2\tput\t{long}\tv\n"));
    folder
        .run("import", [OsStr::new("--tsv"), file.as_os_str()])
        .refused(1, "import commit 2: key size in bytes is 65536, over the limit of 65535");
    assert_eq!(version(&folder), 1);
}

#[test]
fn every_durability_keeps_everything_of_a_finished_import() {
    for durability in ["sync", "buffered", "memory"] {
        let folder = Folder::new();
        let file = folder.write("changes.tsv", changes("1 put a 1; 2 put b 2"));
        let options = [OsStr::new("--durability"), OsStr::new(durability), OsStr::new("--tsv"), file.as_os_str()];
        folder.run("import", options).ok();
        assert_eq!(folder.say("scan --format tsv").ok(), "a\t1\nb\t2\n", "{durability}");
    }
}

#[test]
fn reports_name_each_version_that_was_committed() {
    let folder = Folder::new();
    let file = folder.write("changes.tsv", changes("1 put a 1; 2 put b 2; 4 put c 4; 5 put d 5; 6 put e 6"));
    let options = [OsStr::new("--report-every"), OsStr::new("2"), OsStr::new("--tsv"), file.as_os_str()];
    let output = folder.run("import", options).ok();
    assert!(output.starts_with("committed 2\ncommitted 5\nimported 5 commits"), "{output}");
}

#[test]
fn a_table_of_ones_own_leaves_the_others_alone() {
    let folder = Folder::new();
    let file = folder.write("changes.tsv", changes("1 put a 1"));
    folder.run("import", [OsStr::new("--table"), OsStr::new("source:7"), OsStr::new("--tsv"), file.as_os_str()]).ok();
    assert_eq!(folder.say("scan").ok(), "");
    assert_eq!(folder.say("scan --table source:7").ok(), "a = 1\n");
    assert_eq!(folder.say("changes --since 0 --table source:7 --format tsv").ok(), "1\tput\ta\t1\n");
}
