//! The bytes of format version 1, as literal files: what this release writes, and what every later one must still read.
//!
//! `THERMOCLINE_WRITE_GOLDEN=1 cargo test -p thermocline-wal golden` writes the files anew; do that only for a format that was never
//! released.

use std::sync::Arc;

use thermocline_io::{Disk, FileId, SimDisk};
use thermocline_tier::{BatchBuilder, EntryKind, FixedSuffix, TierBatch, Version};
use thermocline_wal::{Durability, Log, LogEntry, LogOptions, Padding, dump_segment};

use crate::support::{Item, expected, open, small};

fn batch(version: u64) -> TierBatch {
    let mut builder = BatchBuilder::new();
    builder.put(EntryKind::Multi, b"key-suffix", b"value").unwrap();
    builder.put(EntryKind::source(7), b"", b"").unwrap();
    builder.put(EntryKind::source(7), b"long", &[0x5a; 200]).unwrap();
    builder.remove(EntryKind::operator(u32::MAX), b"gone").unwrap();
    builder.finish(&FixedSuffix(7), Version(version))
}

/// A log of three segments with every kind of record: the first is closed, the second leaves a commit to be carried over, the third
/// carries it and takes the second's place.
fn write_all(disk: &SimDisk, options: &LogOptions) -> Vec<Item> {
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut items = vec![];
    let mut append = |log: &Log, entries: &[LogEntry<'_>], durability| {
        log.append(entries, durability).unwrap();
        items.extend(entries.iter().map(expected));
    };
    let log = open(&shared, options).unwrap().log;
    let (first, empty) = (batch(3), TierBatch::empty(Version(5)));
    let clears = [EntryKind::Multi, EntryKind::operator(2)];
    let group = [
        LogEntry::EnsureTable { table: EntryKind::source(7) },
        LogEntry::Note { bytes: b"noted" },
        LogEntry::Commit { time: 1_700_000_000_000_000, batch: &first, clears: &clears },
    ];
    append(&log, &group, Durability::Sync);
    append(&log, &[LogEntry::Commit { time: 1, batch: &empty, clears: &[] }], Durability::Buffered);
    append(&log, &[LogEntry::PurgeTable { version: Version(9), time: 2, table: EntryKind::source(7) }], Durability::Memory);
    log.close().unwrap();
    let log = open(&shared, options).unwrap().log;
    let second = TierBatch::empty(Version(u64::MAX - 1));
    append(&log, &[LogEntry::Commit { time: 3, batch: &second, clears: &[] }], Durability::Sync);
    drop(log);
    drop(open(&shared, options).unwrap());
    items
}

fn path(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

#[expect(clippy::disallowed_methods, reason = "golden files are files of the source tree, not of a store")]
fn compare(name: &str, text: &str) {
    if std::env::var_os("THERMOCLINE_WRITE_GOLDEN").is_some() {
        std::fs::write(path(name), text).unwrap();
    }
    let golden = std::fs::read_to_string(path(name)).unwrap();
    assert!(golden == text, "{name} differs; now it is:\n{text}");
}

/// The bytes that a dump shows; what it does not show is zero.
fn bytes_of(dump: &str) -> Vec<u8> {
    let mut bytes = vec![0; 8192];
    for line in dump.lines() {
        let (offset, rest) = line.split_once("  ").unwrap();
        let offset = usize::from_str_radix(offset, 16).unwrap();
        let hex = rest.get(..48).unwrap_or(rest);
        let pairs = hex.split(' ').take_while(|pair| pair.len() == 2).map(|pair| u8::from_str_radix(pair, 16).unwrap());
        for (index, byte) in pairs.enumerate() {
            bytes[offset + index] = byte;
        }
    }
    bytes
}

#[test]
fn bytes_are_those_of_format_version_1() {
    for (padding, name) in [(Padding::Sector512, "512"), (Padding::None, "none")] {
        let options = LogOptions { padding, ..small(8192) };
        let disk = SimDisk::new(1);
        let items = write_all(&disk, &options);
        let literal = SimDisk::new(1);
        let segments: Vec<FileId> = disk.files().iter().map(|(id, _)| *id).filter(|id| matches!(id, FileId::Wal(_))).collect();
        assert_eq!(segments, [FileId::Wal(1), FileId::Wal(3)]);
        for id in segments {
            let FileId::Wal(number) = id else { continue };
            let dump = dump_segment(&disk.file_bytes(id).unwrap(), number).to_string();
            compare(&format!("{id}.{name}.v1.txt"), &dump);
            literal.replace_file(id, &bytes_of(&dump));
        }
        let literal: Arc<dyn Disk> = Arc::new(literal);
        assert_eq!(open(&literal, &options).unwrap().items, items, "read from the golden bytes alone");
    }
}

#[test]
fn dump_of_damaged_bytes_says_where_it_stops() {
    let disk = SimDisk::new(1);
    write_all(&disk, &small(8192));
    let whole = disk.file_bytes(FileId::Wal(1)).unwrap();
    for len in [0, 10, 64, 4095, 4096, 4100, 4200, 4700] {
        assert!(
            dump_segment(&whole[..len], 1).to_string().lines().count() <= dump_segment(&whole, 1).to_string().lines().count()
        );
    }
    let mut damaged = whole;
    damaged[4096 + 512] ^= 1;
    assert!(dump_segment(&damaged, 1).to_string().contains("record header checksum"));
    assert!(dump_segment(&damaged, 2).to_string().contains("envelope file number"));
}
