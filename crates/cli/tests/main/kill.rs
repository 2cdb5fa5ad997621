//! Imports that are killed, and go on. Hunts commits that are lost, doubled or torn by the death of the process.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::program::Folder;

/// So many that a pipe full of reports is far from the end.
const COMMITS: u64 = 30_000;
const KILLS: u64 = 5;
const SEED: u64 = 0x5eed;

fn scramble(number: u64) -> u64 {
    let mixed = (number ^ SEED).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 20
}

/// A history of a few changes a commit, some of them deletes, and its states at some versions.
fn history() -> (String, Vec<(u64, String)>) {
    let (mut text, mut state, mut samples) = (String::new(), BTreeMap::new(), Vec::new());
    for version in 1..=COMMITS {
        let key = |change: u64| format!("key/{:04}", scramble(version * 31 + change) % 700);
        let changes: BTreeMap<String, u64> = (0..=scramble(version) % 8).map(|change| (key(change), change)).collect();
        for (key, change) in changes {
            if scramble(version * 37 + change).is_multiple_of(10) {
                writeln!(text, "{version}\tdel\t{key}\t").unwrap();
                state.remove(&key);
            } else {
                writeln!(text, "{version}\tput\t{key}\t{version}.{change}").unwrap();
                state.insert(key, format!("{version}.{change}"));
            }
        }
        if version % 5_000 == 0 || version == 1 {
            samples.push((version, state.iter().map(|(key, value)| format!("{key}\t{value}\n")).collect()));
        }
    }
    (text, samples)
}

/// In `hot_budget` as much as all of the history, or so little that most of it goes to files between the kills.
#[track_caller]
fn check_killed_imports(hot_budget: &str) {
    let folder = Folder::new();
    let (text, samples) = history();
    let file = folder.write("history.tsv", &text);
    let [budget, report_every, one, tsv] = ["--hot-budget", "--report-every", "1", "--tsv"].map(OsStr::new);
    let options = [budget, OsStr::new(hot_budget), report_every, one, tsv, file.as_os_str()];
    let mut last = 0;
    for kill in 0..KILLS {
        let mut import = folder.command("import", options).stdout(Stdio::piped()).spawn().unwrap();
        // A small buffer, so that the import cannot run far ahead of what was read.
        let mut lines = BufReader::with_capacity(64, import.stdout.take().unwrap()).lines();
        let wanted = 1 + scramble(kill) % (COMMITS / 30);
        let reported = lines.by_ref().map(Result::unwrap).nth(usize::try_from(wanted).unwrap()).unwrap();
        import.kill().unwrap();
        assert!(!import.wait().unwrap().success(), "the import ended before it was killed");
        let reported: u64 = reported.strip_prefix("committed ").unwrap().parse().unwrap();
        let stats: serde_json::Value = serde_json::from_str(&folder.say("stats --format json").ok()).unwrap();
        let found = stats["last_version"].as_u64().unwrap();
        assert!(found >= reported && reported > last, "reported {reported}, found {found}, before it {last}; seed {SEED}");
        last = found;
        folder.say("verify").ok();
    }
    folder.run("import", [budget, OsStr::new(hot_budget), tsv, file.as_os_str()]).ok();
    for (version, expected) in samples {
        assert_eq!(folder.say(&format!("scan --format tsv --at {version}")).ok(), expected, "version {version}, seed {SEED}");
    }
    assert!(folder.say("export --history").ok() == text, "the history differs; seed {SEED}");
}

#[test]
fn a_killed_import_loses_nothing_that_it_reported_and_goes_on() {
    check_killed_imports("64MiB");
}

#[test]
fn a_killed_import_into_files_loses_nothing_that_it_reported_and_goes_on() {
    check_killed_imports("128KiB");
}
