//! Get, scan, history, diff and changes, in every format.

use std::ffi::OsStr;
use std::io::Read;
use std::process::Stdio;

use crate::program::{Folder, Ran, sample};

#[track_caller]
fn check(line: &str, expected: &str) {
    assert_eq!(sample().say(line).ok(), expected, "{line}");
}

#[test]
fn get_prints_the_value_at_a_version_in_every_format() {
    check("get b", "2\n");
    check("get b --at 1", "1\n");
    check("get b --at 3", "2\n");
    check("get b --at 99", "2\n");
    check("get b --format tsv", "b\t2\n");
    check("get b --format json", "{\"key\":\"b\",\"value\":\"2\"}\n");
    check("get 62 --hex", "2\n");
}

#[test]
fn get_of_a_key_without_value_is_an_error_that_says_so() {
    sample().say("get a").refused(1, "key `a` has no value in table multi at version 4");
    sample().say("get b --at 0").refused(1, "at version 0");
    sample().say("get b --table source:7").refused(1, "in table source:7");
}

#[test]
fn scan_prints_the_rows_of_a_range_both_ways() {
    check("scan", "b = 2\nc = 2\nd = 4\n");
    check("scan --format tsv", "b\t2\nc\t2\nd\t4\n");
    check("scan --format json --limit 1", "{\"key\":\"b\",\"value\":\"2\"}\n");
    check("scan --at 1 --format tsv", "a\t1\nb\t1\n");
    check("scan --at 0", "");
    check("scan --reverse --format tsv", "d\t4\nc\t2\nb\t2\n");
    check("scan --reverse --limit 2 --format tsv", "d\t4\nc\t2\n");
    check("scan --limit 0", "");
    check("scan --from c --format tsv", "c\t2\nd\t4\n");
    check("scan --to c --format tsv", "b\t2\n");
    check("scan --from b --to d --reverse --format tsv", "c\t2\nb\t2\n");
    check("scan --prefix c --format tsv", "c\t2\n");
    check("scan --from 63 --hex --limit 1 --format tsv", "c\t2\n");
    check("scan --from d --to b", "");
    check("scan --table operator:1", "");
}

#[test]
fn history_prints_every_version_newest_first() {
    check("history a", "version 4: deleted\nversion 1: 1\n");
    check("history a --at 3", "version 1: 1\n");
    check("history a --format tsv", "4\tdel\ta\t\n1\tput\ta\t1\n");
    check("history a --format json", "{\"value\":null,\"version\":4}\n{\"value\":\"1\",\"version\":1}\n");
    check("history nothing", "");
}

#[test]
fn diff_prints_net_changes_and_the_way_back() {
    check("diff 1 4", "- a = 1\n~ b = 1 -> 2\n+ c = 2\n+ d = 4\n");
    check("diff 4 1", "+ a = 1\n~ b = 2 -> 1\n- c = 2\n- d = 4\n");
    check("diff 0 1 --format tsv", "added\ta\t\t1\nadded\tb\t\t1\n");
    check("diff 2 4 --format tsv", "removed\ta\t1\t\nadded\td\t\t4\n");
    check("diff 1 2 --format json --to-key c", "{\"after\":\"2\",\"before\":\"1\",\"key\":\"b\"}\n");
    check("diff 1 4 --from-key d", "+ d = 4\n");
    check("diff 1 4 --prefix b", "~ b = 1 -> 2\n");
    check("diff 2 3", "");
    check("diff 1 4 --table source:1", "");
}

#[test]
fn changes_prints_commits_as_they_were_made() {
    check("changes --since 2", "version 4\n  del a\n  put d = 4\n");
    check("changes --since 0 --limit 1 --format tsv", "1\tput\ta\t1\n1\tput\tb\t1\n");
    check("changes --since 1 --at 3 --format tsv", "2\tput\tb\t2\n2\tput\tc\t2\n");
    let json = sample().say("changes --since 2 --format json").ok();
    let lines: Vec<serde_json::Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let time = &lines[0]["time_micros"];
    assert!(time.as_u64().unwrap() > 1_700_000_000_000_000, "{json}");
    let line =
        |key, value| serde_json::json!({ "key": key, "table": "multi", "time_micros": time, "value": value, "version": 4 });
    assert_eq!(lines, [line("a", None), line("d", Some("4"))]);
    check("changes --since 4", "");
    check("changes --since 0 --table source:1", "");
}

#[test]
fn bytes_that_are_no_text_are_raw_escaped_or_hexadecimal() {
    let folder = Folder::new();
    let file = folder.write("raw.tsv", b"1\tput\tk\xff\t\x00\xfe\x1b\n");
    folder.run("import", [OsStr::new("--tsv"), file.as_os_str()]).ok();
    assert_eq!(folder.say("scan --format tsv").bytes, b"k\xff\t\x00\xfe\x1b\n");
    assert_eq!(folder.say("scan").ok(), "k\\xff = \\u{0}\\xfe\\u{1b}\n");
    assert_eq!(folder.say("scan --format json").ok(), "{\"key\":{\"hex\":\"6bff\"},\"value\":{\"hex\":\"00fe1b\"}}\n");
    assert_eq!(folder.say("get 6bff --hex --format tsv").bytes, b"k\xff\t\x00\xfe\x1b\n");
}

#[cfg(unix)]
#[test]
fn a_key_on_the_command_line_is_its_raw_bytes() {
    use std::os::unix::ffi::OsStrExt;
    let folder = Folder::new();
    let file = folder.write("raw.tsv", b"1\tput\t\xff\xfe\tv\n1\tput\t-k\tw\n");
    folder.run("import", [OsStr::new("--tsv"), file.as_os_str()]).ok();
    assert_eq!(folder.run("get", [OsStr::from_bytes(b"\xff\xfe")]).ok(), "v\n");
    assert_eq!(folder.run("get", ["--", "-k"]).ok(), "w\n");
}

#[test]
fn two_readers_share_a_store() {
    let folder = Folder::new();
    let many: String = (0..20_000).map(|key| format!("1\tput\t{key:08}\tvalue\n")).collect();
    let file = folder.write("many.tsv", many);
    folder.run("import", [OsStr::new("--tsv"), file.as_os_str()]).ok();
    // The first one is still open: nobody reads its output, which no pipe can hold.
    let mut first = folder.command("scan", ["--format", "tsv"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut byte = [0];
    first.stdout.as_mut().unwrap().read_exact(&mut byte).unwrap();
    assert_eq!(folder.say("get 00000007").ok(), "value\n");
    let rest: Ran = first.wait_with_output().unwrap().into();
    assert_eq!((rest.code, rest.bytes.len()), (Some(0), 20_000 * 15 - 1));
}

#[test]
fn a_closed_pipe_ends_a_read_quietly() {
    let folder = Folder::new();
    let many: String = (0..50_000).map(|key| format!("1\tput\t{key:08}\tvalue\n")).collect();
    let file = folder.write("many.tsv", many);
    folder.run("import", [OsStr::new("--tsv"), file.as_os_str()]).ok();
    for line in ["scan", "changes --since 0", "diff 0 1", "export", "export --history"] {
        let mut words = line.split(' ');
        let mut command = folder.command(words.next().unwrap(), words);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut head = [0; 10];
        let mut output = child.stdout.take().unwrap();
        output.read_exact(&mut head).unwrap();
        drop(output);
        let ran: Ran = child.wait_with_output().unwrap().into();
        assert_eq!((ran.code, ran.errors.as_str()), (Some(0), ""), "{line}");
    }
}
