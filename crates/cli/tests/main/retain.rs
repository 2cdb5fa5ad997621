//! Horizon, drop, retention, pins, and consumers of changes.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::program::{Folder, sample};

#[test]
fn drop_moves_the_horizon_and_takes_what_nobody_may_read() {
    let folder = sample();
    assert_eq!(folder.say("horizon").ok(), "every version from 0 to 4 can be read\n");
    let dropped = folder.say("drop --before 3").ok();
    assert!(dropped.starts_with("horizon 3: every version from there on can be read\nbefore: "), "{dropped}");
    folder.say("get b --at 2").refused(1, "version 2 was reclaimed");
    assert_eq!(folder.say("get b --at 3").ok(), "2\n");
    assert_eq!(folder.say("history b").ok(), "version 2: 2\n");
    assert_eq!(folder.say("horizon --format json").ok(), "{\"horizon\":3,\"last_version\":4,\"tables\":{}}\n");
    let json = folder.say("drop --before 99 --format json").ok();
    assert!(json.starts_with("{\"after\":{") && json.contains("\"horizon\":4"), "{json}");
}

#[test]
fn pins_keep_their_versions_from_being_dropped() {
    let folder = sample();
    assert_eq!(folder.say("pins").ok(), "none\n");
    folder.say("pins --set report --at 1").ok();
    folder.say("pins --set rest --from 3 --table source:7 --lease 7d").ok();
    let pins = folder.say("pins").ok();
    assert!(pins.starts_with("pin report: version 1 of all tables, since 2"), "{pins}");
    assert!(pins.contains("pin rest: every version from 3 on of source:7, since 2") && pins.contains(", until 2"), "{pins}");
    let json = folder.say("pins --format json").ok();
    assert!(json.contains("\"report\":{\"at\":1,\"from\":null,\"lease_until_micros\":null,\"of\":\"all tables\""), "{json}");
    folder.say("drop --before 3").ok();
    assert_eq!(folder.say("get b --at 1").ok(), "1\n");
    folder.say("pins --release report").ok();
    folder.say("get b --at 1").refused(1, "version 1 was reclaimed");
    folder.say("pins --release report").refused(1, "a pin named \"report\"");
    folder.say("pins --set late --at 1").refused(1, "version 1 was reclaimed");
    folder.say("pins --set two").refused(2, "--at");
}

#[test]
fn what_one_table_keeps_can_be_read_whole_and_leases_that_are_over_keep_nothing() {
    let folder = sample();
    folder.say("pins --set rest --from 2 --table multi").ok();
    folder.say("pins --set over --at 1 --lease 1ms").ok();
    folder.say("drop --before 4").ok();
    assert_eq!(folder.say("scan --at 2").ok(), folder.say("scan --at 3").ok());
    folder.say("get b --at 1").refused(1, "version 1 was reclaimed");
}

#[test]
fn ledger_names_who_keeps_what() {
    let folder = sample();
    // Of `a` and `b` the first versions, and that `a` is deleted.
    assert_eq!(folder.say("reclaim --dry-run --exact --before 4").ok(), "3 entries with 5 bytes of keys and values\n");
    assert_eq!(folder.say("reclaim --dry-run --before 4").ok(), "multi: about 2 entries with 4 bytes of keys and values\n");
    folder.say("pins --set report --at 1").ok();
    assert_eq!(folder.say("reclaim --dry-run --exact --before 4").ok(), "0 entries with 0 bytes of keys and values\n");
    folder.say("drop --before 4").ok();
    let why = folder.say("why-retained").ok();
    assert!(why.starts_with("pin \"report\": from version 1, since 2"), "{why}");
    assert!(why.contains("; alone 3 entries with 5 bytes of keys and values\n"), "{why}");
    assert!(
        why.ends_with(
            "several together: 0 entries with 0 bytes of keys and values\nnobody: 0 entries with 0 bytes of keys and values\n"
        ),
        "{why}"
    );
    let json = folder.json("why-retained --format json");
    assert_eq!(json["holders"]["pin \"report\""]["alone"], serde_json::json!({ "entries": 3, "bytes": 5 }));
    folder.say("pins --release report").ok();
    assert_eq!(folder.say("reclaim --dry-run --exact --format json").ok(), "{\"bytes\":5,\"entries\":3}\n");
}

#[test]
fn what_policies_let_go_is_reclaimed() {
    let folder = sample();
    folder.say("retention --set latest --table multi").ok();
    assert_eq!(folder.say("reclaim --dry-run --exact").ok(), "3 entries with 5 bytes of keys and values\n");
    let said = folder.say("reclaim").ok();
    assert!(said.starts_with("before: ") && said.contains("\nafter: "), "{said}");
    assert!(said.contains(" hold 3 entries, of them 0 older versions and 0 tombstones; "), "{said}");
    assert_eq!(folder.say("reclaim --dry-run --exact").ok(), "0 entries with 0 bytes of keys and values\n");
    assert_eq!(folder.say("get b").ok(), "2\n");
    folder.say("get b --at 1").refused(1, "version 1 was reclaimed");
    folder.say("reclaim --before 2").refused(2, "--dry-run");
}

#[test]
fn policies_are_set_shown_and_taken_away() {
    let folder = sample();
    assert_eq!(
        folder.say("retention").ok(),
        "none: tables keep every version from the horizon on, those of operators the latest alone\n"
    );
    folder.say("retention --set ladder:1d,30d/1h --sources").ok();
    folder.say("retention --set latest --table multi").ok();
    assert_eq!(folder.say("retention").ok(), "sources: ladder:1day,30days/1h\nmulti: latest\n");
    assert_eq!(folder.say("horizon").ok(), "every version from 0 to 4 can be read\nof table multi: from 4 on, by its policy\n");
    folder.say("get b --at 1").refused(1, "version 1 was reclaimed");
    folder.say("compact").ok();
    assert_eq!(folder.say("history b").ok(), "version 2: 2\n");
    folder.say("retention --unset --table multi").ok();
    assert_eq!(folder.say("retention --format json").ok(), "{\"sources\":\"ladder:1day,30days/1h\"}\n");
    folder.say("retention --set newest:0 --sources").refused(2, "at least 1");
    folder.say("retention --set latest").refused(2, "--table");
}

#[test]
fn times_to_live_are_set_shown_and_taken_away() {
    let folder = sample();
    assert_eq!(folder.say("ttl").ok(), "none: rows live for ever\n");
    folder.say("ttl --set created:30d --sources").ok();
    folder.say("ttl --set updated:1us --table multi").ok();
    assert_eq!(folder.say("ttl").ok(), "sources: created:30days\nmulti: updated:1us\n");
    // Time counts from when the first was set.
    std::thread::sleep(std::time::Duration::from_millis(5));
    folder.say("ttl --set updated:1us --operators").ok();
    assert_eq!(folder.say("scan").ok(), "");
    assert!(!folder.say("changes --since 4").ok().is_empty(), "a commit of the store's own");
    folder.say("ttl --unset --table multi").ok();
    assert_eq!(folder.say("ttl --format json").ok(), "{\"operators\":\"updated:1us\",\"sources\":\"created:30days\"}\n");
    folder.say("ttl --set updated:0s --sources").refused(2, "no time");
    folder.say("ttl --set later:1s --sources").refused(2, "created:TIME");
}

#[test]
fn consumer_is_given_each_commit_once() {
    let folder = sample();
    let of = |options: &str| folder.say(&format!("changes --consumer view --format tsv {options}"));
    assert_eq!(of("--since 0 --limit 1").ok(), "1\tput\ta\t1\n1\tput\tb\t1\n");
    assert_eq!(of("--limit 1").ok(), "2\tput\tb\t2\n2\tput\tc\t2\n");
    let pins = folder.say("pins").ok();
    assert!(pins.starts_with("consumer view: at version 2 of multi, since 2"), "{pins}");
    assert!(pins.contains("; holds what comes after; "), "{pins}");
    assert_eq!(of("--hold nothing").ok(), "4\tdel\ta\t\n4\tput\td\t4\n");
    assert_eq!(of("").ok(), "");
    assert!(folder.say("pins").ok().contains("; holds nothing; "), "what was said once is kept");
    let content = folder.content();
    assert_eq!(of("").ok(), "");
    assert!(folder.content() == content, "a look at nothing new leaves no trace");
    of("--table source:7").refused(1, "consumer \"view\" is about multi, not source:7");
    folder.say("changes --consumer view --forget").ok();
    assert_eq!(folder.say("pins").ok(), "none\n");
    folder.say("changes --consumer view --forget").refused(1, "a consumer named \"view\"");
    // A new one begins with what is to come.
    assert_eq!(of("").ok(), "");
    folder.say("changes").refused(2, "--since");
    folder.say("changes --since 0 --hold all").refused(2, "--consumer");
}

#[test]
fn consumer_that_was_left_behind_goes_on_with_the_latest_state() {
    let folder = sample();
    let of = |options: &str| folder.say(&format!("changes --consumer view {options}"));
    assert_eq!(of("--since 0 --hold nothing --limit 1 --format tsv").ok(), "1\tput\ta\t1\n1\tput\tb\t1\n");
    folder.say("compact --log-keep 0").ok();
    of("").refused(1, "version 1");
    of("--resync --format tsv").refused(1, "--format json");
    of("").refused(1, "version 1");
    assert_eq!(of("--resync").ok(), "version 4\n  clear multi\n  put b = 2\n  put c = 2\n  put d = 4\n");
    assert_eq!(of("").ok(), "");
    folder.say("changes --since 4 --resync").refused(2, "--consumer");
}

#[test]
fn whoever_follows_hears_of_later_imports() {
    for options in [vec!["--since", "3"], vec!["--consumer", "view", "--since", "3"]] {
        let folder = sample();
        let options = options.into_iter().chain(["--follow", "--every", "10ms", "--format", "json"]);
        let mut following = folder.command("changes", options).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(following.stdout.take().unwrap()).lines().map(Result::unwrap);
        let first: serde_json::Value = serde_json::from_str(&lines.next().unwrap()).unwrap();
        assert_eq!((&first["key"], &first["table"], &first["version"]), (&"a".into(), &"multi".into(), &4.into()));
        assert!(first["value"].is_null() && first["time_micros"].as_u64().unwrap() > 1_700_000_000_000_000, "{first}");
        assert!(lines.next().unwrap().contains("\"key\":\"d\""));
        // Until the follower has let go of the store for a moment.
        let more = "1 put a 1; 1 put b 1; 2 put b 2; 2 put c 2; 4 del a -; 4 put d 4; 5 put e 5";
        while folder.import(more).code != Some(0) {}
        let last: serde_json::Value = serde_json::from_str(&lines.next().unwrap()).unwrap();
        assert_eq!((&last["key"], &last["value"], &last["version"]), (&"e".into(), &"5".into(), &5.into()));
        following.kill().unwrap();
        following.wait().unwrap();
    }
}

#[test]
fn help_names_the_commands() {
    let folder = Folder::new();
    for command in ["horizon", "drop", "retention", "ttl", "pins"] {
        let help = folder.say(&format!("{command} --help")).text;
        assert!(help.contains("Usage: thermocline"), "{help}");
    }
}
