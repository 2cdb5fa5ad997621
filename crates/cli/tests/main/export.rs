//! Exports, and importing them again.

use std::ffi::OsStr;

use crate::program::{Folder, Ran, sample};

fn import_export(from: &Folder, line: &str) -> (Folder, Ran) {
    let exported = from.say(line);
    let folder = Folder::new();
    let file = folder.write("exported.tsv", &exported.bytes);
    folder.run("import", [OsStr::new("--tsv"), file.as_os_str()]).ok();
    (folder, exported)
}

#[test]
fn a_history_survives_export_and_import() {
    let folder = sample();
    let (again, exported) = import_export(&folder, "export --history");
    assert_eq!(exported.ok(), "1\tput\ta\t1\n1\tput\tb\t1\n2\tput\tb\t2\n2\tput\tc\t2\n4\tdel\ta\t\n4\tput\td\t4\n");
    for line in ["scan", "scan --at 1", "scan --at 2", "scan --at 3", "changes --since 0", "export --history"] {
        assert_eq!(again.say(line).ok(), folder.say(line).ok(), "{line}");
    }
}

#[test]
fn a_state_is_one_commit_at_its_version() {
    let folder = sample();
    assert_eq!(folder.say("export --at 2").ok(), "2\tput\ta\t1\n2\tput\tb\t2\n2\tput\tc\t2\n");
    assert_eq!(folder.say("export --at 0").ok(), "");
    assert_eq!(folder.say("export --at 99").ok(), "4\tput\tb\t2\n4\tput\tc\t2\n4\tput\td\t4\n");
    let (again, _) = import_export(&folder, "export --at 2");
    assert_eq!(again.say("scan").ok(), folder.say("scan --at 2").ok());
}

#[test]
fn a_history_ends_at_the_version_asked_for() {
    assert_eq!(sample().say("export --history --at 2").ok().lines().count(), 4);
}

#[test]
fn what_the_change_format_cannot_hold_is_refused_and_goes_as_json() {
    let folder = Folder::new();
    let repository = crate::repository::Repository::new(folder.path("repository"));
    repository.edit("file", Some(b"two\nlines"));
    repository.commit("first");
    let options = [OsStr::new("--contents"), OsStr::new("--git"), repository.0.as_os_str()];
    folder.run("import", options).ok();
    folder.say("export").refused(1, "the value of key `file` at version 1 holds a tab or a line feed");
    let object = "{\"key\":\"file\",\"table\":\"multi\",\"value\":\"two\\nlines\",\"version\":1}\n";
    assert_eq!(folder.say("export --format json").ok(), object);
    assert_eq!(folder.say("export --history --format json").ok(), object);
}
