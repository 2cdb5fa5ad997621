//! Dumps of single files, whole and damaged.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use crate::files::engine;
use crate::program::{Folder, Ran};

fn dump(path: &Path, options: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_thermocline"));
    command.arg("dump").arg(path).args(options).output().unwrap().into()
}

/// A file of the store whose name begins like this.
fn file(folder: &Folder, prefix: &str) -> std::path::PathBuf {
    let name = folder.content().into_keys().find(|name| name.starts_with(prefix)).unwrap();
    folder.store().join(name)
}

#[test]
fn every_kind_of_file_is_dumped_with_its_meaning() {
    let folder = engine();
    let kinds = [
        ("wal-", &["THERMOCL", "previous segment", "synced through", "layout "][..]),
        ("manifest-", &["previous manifest", "added files", "oldest version"]),
        ("sst-", &["table multi", "main block", "raw length", "entry ", "at version 1: \"1\"", "THERMSST"]),
    ];
    for (prefix, parts) in kinds {
        let text = dump(&file(&folder, prefix), &["--bytes", "1GiB"]).ok();
        for part in parts {
            assert!(text.contains(part), "expected {part} in the dump of {prefix}:\n{text}");
        }
        assert!(!text.contains("left out"), "{text}");
    }
}

#[test]
fn a_part_of_a_file_is_dumped_and_what_is_left_out_is_said() {
    let folder = engine();
    let path = file(&folder, "wal-");
    let len = std::fs::read(&path).unwrap().len();
    let text = dump(&path, &["--from", "0x1000", "--bytes", "16"]).ok();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("00001000  "), "{text}");
    assert!(lines.iter().all(|line| line.starts_with("0000100") || line.contains("end") || line.starts_with("bytes ")), "{text}");
    let last = format!("bytes 4096 to 4112 of {len} were dumped; {} are left out: see --from and --bytes", len - 16);
    assert_eq!(lines.last(), Some(&last.as_str()));
    // Beyond the end there is nothing to show.
    assert!(dump(&path, &["--from", "1TiB"]).ok().contains(&format!("bytes {len} to {len} of {len}")));
}

#[test]
fn blocks_of_a_part_of_a_sorted_file_are_shown_with_their_history() {
    let folder = engine();
    folder.say("compact").ok();
    let path = file(&folder, "sst-");
    let whole = dump(&path, &[]).ok();
    assert!(whole.contains("older entry") && whole.contains("at version 2: \"2\""), "{whole}");
    // Of the frame: an index says how many main blocks there are before any of them.
    let offset = |name: &str| {
        let line = whole.lines().find(|line| line.contains(&format!("  {name}  ")) && line.contains("a frame of ")).unwrap();
        format!("0x{}", &line[..8])
    };
    let main = dump(&path, &["--from", &offset("main block"), "--bytes", "1"]).ok();
    assert!(main.contains("entry ") && !main.contains("older entry") && main.contains("THERMSST"), "{main}");
    let history = dump(&path, &["--from", &offset("history block"), "--bytes", "1"]).ok();
    assert!(history.contains("older entry") && !history.contains("  entry "), "{history}");
}

#[test]
fn other_names_and_missing_files_are_refused() {
    let folder = engine();
    let letter = folder.write("letter.txt", "Dear");
    let refused = dump(&letter, &[]);
    refused.refused(1, "letter.txt` is not named as a file of a store that can be dumped");
    refused.refused(1, "hint: such files are called wal-");
    dump(&folder.store().join("LOCK"), &[]).refused(1, "is not named as a file");
    dump(&folder.store(), &[]).refused(1, "is not named as a file");
    dump(&folder.path("wal-00000000000000ff"), &[]).refused(1, "cannot read `");
}

#[test]
fn damaged_files_are_dumped_up_to_the_damage_and_beyond() {
    let folder = engine();
    folder.say("compact").ok();
    for prefix in ["wal-", "manifest-", "sst-"] {
        let path = file(&folder, prefix);
        let bytes = std::fs::read(&path).unwrap();
        let name = path.file_name().and_then(OsStr::to_str).unwrap();
        let dump = |bytes: &[u8]| thermocline::dump_file(name, bytes, 0..u64::MAX).unwrap().to_string();
        let whole = dump(&bytes);
        for len in (0..bytes.len()).step_by(bytes.len() / 300 + 1) {
            assert_ne!(dump(&bytes[..len]), whole, "{name} cut to {len} bytes");
        }
        for place in (0..bytes.len()).step_by(bytes.len() / 1000 + 1) {
            let mut damaged = bytes.clone();
            damaged[place] ^= 0x04;
            assert_ne!(dump(&damaged), "", "{name} byte {place}");
        }
        let noise: Vec<u8> = (0..20_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect();
        assert_ne!(dump(&noise), "");
    }
    let path = file(&folder, "sst-");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[70] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let text = dump(&path, &[]).ok();
    assert!(text.contains("checksum") && text.contains("THERMSST") && text.contains("table multi"), "{text}");
    std::fs::write(&path, b"").unwrap();
    dump(&path, &[]).ok();
}
