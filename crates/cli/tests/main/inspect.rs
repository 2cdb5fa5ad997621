//! Stats and verify.

use crate::program::sample;

#[test]
fn stats_say_what_is_there_in_every_format() {
    let folder = sample();
    let text = folder.say("stats").ok();
    assert!(text.contains("version 4") && text.contains("multi"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&folder.say("stats --format json").ok()).unwrap();
    assert_eq!(json["last_version"], 4);
    let table = &json["tables"]["multi"];
    assert_eq!((&table["keys"], &table["entries"], &table["tombstones"]), (&4.into(), &6.into(), &1.into()));
    let tsv = folder.say("stats --format tsv").ok();
    assert!(tsv.contains("last_version\t4\n") && tsv.contains("tables.multi.keys\t4\n"), "{tsv}");
}

#[test]
fn verify_says_what_it_checked() {
    let folder = sample();
    let text = folder.say("verify").ok();
    assert!(text.contains("bytes") && text.contains("intact"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&folder.say("verify --format json").ok()).unwrap();
    assert!(json["bytes"].as_u64().unwrap() > 0, "{json}");
}

#[test]
fn verify_reports_what_was_cut_off() {
    let folder = sample();
    let segment = std::fs::read_dir(folder.store()).unwrap().map(|entry| entry.unwrap().path());
    let segment = segment.filter(|path| path.to_string_lossy().contains("wal-")).max().unwrap();
    // Half a record, as a power cut leaves it behind.
    let bytes = [std::fs::read(&segment).unwrap(), vec![0x5a; 70]].concat();
    std::fs::write(&segment, bytes).unwrap();
    let json: serde_json::Value = serde_json::from_str(&folder.say("verify --format json").ok()).unwrap();
    assert_eq!(json["discarded_bytes"], 70, "{json}");
    assert!(folder.say("verify").ok().contains("70 bytes at the end belong to no whole commit"));
}
