//! Bad input that no command can work with: what is said, and with which exit code.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::program::{Folder, Ran, sample};

#[test]
fn wrong_usage_exits_with_two() {
    let folder = sample();
    for line in [
        "scan --table nonsense",
        "scan --table source:x",
        "scan --table source:4294967296",
        "scan --at -1",
        "scan --at x",
        "scan --format yaml",
        "scan --limit x",
        "scan --bogus",
        "scan --from 0 --hex",
        "get zz --hex",
        "get",
        "diff 1",
        "changes",
        "import",
        "import --git a --tsv b",
        "import --tsv a --contents",
        "import --tsv a --report-every 0",
        "import --tsv a --durability never",
        "import --tsv a --hot-budget 64KB",
        "import --tsv a --memory-budget much",
        "import --tsv a --log-keep some",
        "scan --hot-budget 64KiB",
        "inspect --json --html page.html",
        "inspect --format json",
        "compact --from a",
        "compact --table nonsense",
        "dump --bytes all",
        "dump --from x",
        "nonsense",
    ] {
        let ran = folder.say(line);
        assert_eq!(ran.code, Some(2), "{line}: {}", ran.errors);
        assert!(ran.errors.starts_with("error: "), "{line}: {}", ran.errors);
    }
    folder.say("scan --table nonsense").refused(2, "table `nonsense` is not multi, source:N or operator:N");
}

#[test]
fn a_missing_store_is_an_error_that_makes_nothing() {
    let folder = Folder::new();
    for line in ["get k", "scan", "history k", "diff 0 1", "changes --since 0", "stats", "verify", "export", "inspect", "compact"]
    {
        folder.say(line).refused(1, "not found");
        folder.say(line).refused(1, "hint: check the path");
    }
    assert!(!folder.store().exists());
    std::fs::create_dir(folder.store()).unwrap();
    folder.say("scan").refused(1, "not found");
    assert_eq!(std::fs::read_dir(folder.store()).unwrap().count(), 0);
}

#[test]
fn a_missing_input_file_is_named() {
    let folder = Folder::new();
    folder.say("import --tsv missing.tsv").refused(1, "cannot read `missing.tsv`");
    let directory = folder.path("");
    folder.run("import", [OsStr::new("--tsv"), directory.as_os_str()]).refused(1, "cannot read");
    assert!(!folder.store().exists());
}

#[test]
fn a_directory_of_something_else_is_left_as_it_is() {
    let folder = Folder::new();
    std::fs::create_dir(folder.store()).unwrap();
    folder.write("store/letter.txt", "not a store");
    let ran = folder.import("1 put a 1");
    ran.refused(1, "error: ");
    let names: Vec<_> = std::fs::read_dir(folder.store()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["letter.txt"]);
    folder.say("scan").refused(1, "error: ");
}

#[test]
fn a_file_in_place_of_a_directory_is_refused() {
    let folder = Folder::new();
    folder.write("store", "a file");
    folder.say("scan").refused(1, "error: ");
    folder.import("1 put a 1").refused(1, "error: ");
    assert_eq!(std::fs::read(folder.store()).unwrap(), b"a file");
}

#[test]
fn a_store_is_not_made_below_a_missing_directory() {
    let folder = Folder::new();
    let file = folder.write("changes.tsv", "1\tput\ta\t1\n");
    let store = folder.path("missing/store");
    let words = [OsStr::new("import"), store.as_os_str(), OsStr::new("--tsv"), file.as_os_str()];
    let ran: Ran = std::process::Command::new(env!("CARGO_BIN_EXE_thermocline")).args(words).output().unwrap().into();
    ran.refused(1, "cannot make the directory");
}

/// The import blocks on its own output, which nobody reads on, so that it is surely alive while the others try.
#[test]
fn a_second_process_is_told_that_the_store_is_in_use() {
    let folder = Folder::new();
    let many: String = (1..200_000).map(|version| format!("{version}\tput\tk\t{version}\n")).collect();
    let file = folder.write("many.tsv", many);
    let options = [OsStr::new("--report-every"), OsStr::new("1"), OsStr::new("--tsv"), file.as_os_str()];
    let mut import = folder.command("import", options).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut output = BufReader::with_capacity(16, import.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "committed 1\n");
    for other in ["scan", "stats", "verify", "changes --since 0", "inspect", "compact"] {
        folder.say(other).refused(1, "the store is in use by");
        folder.say(other).refused(1, &format!("process {} holds it", import.id()));
        folder.say(other).refused(1, "hint: wait until the other process has ended");
    }
    folder.import("1 put a 1").refused(1, "the store is in use by");
    import.kill().unwrap();
    import.wait().unwrap();
    assert_eq!(folder.say("get k --at 1").ok(), "1\n");
}

/// Each file of a store loses or changes a byte in turn: the commands either still read what was written, or say which file is
/// damaged and where. They never read something else.
#[test]
fn damaged_files_are_named_or_harmless_and_never_misread() {
    let whole = sample();
    let expected = whole.say("changes --since 0").ok();
    let mut damaged = 0;
    for entry in std::fs::read_dir(whole.store()).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        for place in [0, 9, 40, 64, 70, 100, 150, 200] {
            let mut changed = bytes.clone();
            let Some(byte) = changed.get_mut(place) else { continue };
            *byte ^= 0x40;
            std::fs::write(&path, &changed).unwrap();
            let (read, verified) = (whole.say("changes --since 0"), whole.say("verify"));
            if read.code == Some(0) {
                assert_eq!(read.text, expected, "{} byte {place}", path.display());
                continue;
            }
            read.refused(1, "error: ");
            assert_eq!(verified.code, Some(1), "{}", verified.text);
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            assert!(verified.errors.contains(&name), "{name}: {}", verified.errors);
            damaged += 1;
        }
        std::fs::write(&path, &bytes).unwrap();
    }
    assert!(damaged > 0);
    assert_eq!(whole.say("changes --since 0").ok(), expected);
}
