//! Records with right checksums that no writer writes: each is refused, with the part that is wrong.

use std::sync::Arc;

use thermocline_format::{Corruption, FileKind, Salt, StoreId, checksum64};
use thermocline_io::{Disk, FileId, SimDisk};
use thermocline_tier::{BatchBuilder, EntryKind, Error, ErrorKind, Version, WholeKey};
use thermocline_wal::{Durability, LogEntry, LogOptions, Padding};

use crate::support::{open, small};

/// A log of one segment with five commits, and the offsets of its records.
fn sample() -> (SimDisk, LogOptions, Vec<usize>) {
    let disk = SimDisk::new(1);
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let options = LogOptions { padding: Padding::None, ..small(65_536) };
    let log = open(&shared, &options).unwrap().log;
    for version in 1..6 {
        let mut builder = BatchBuilder::new();
        builder.put(EntryKind::source(1), b"a", b"x").unwrap();
        builder.put(EntryKind::source(1), b"b", b"y").unwrap();
        builder.put(EntryKind::source(2), b"c", b"z").unwrap();
        let batch = builder.finish(&WholeKey, Version(version * 10));
        log.append(&[LogEntry::Commit { time: 0, batch: &batch, clears: &[] }], Durability::Sync).unwrap();
    }
    let bytes = disk.file_bytes(FileId::Wal(1)).unwrap();
    let mut offsets = vec![];
    let mut at = 4096;
    while bytes[at + 4] != 0 {
        offsets.push(at);
        at += 48 + u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    }
    (disk, options, offsets)
}

/// Makes the checksums of the record at `at` right.
fn seal(bytes: &mut [u8], number: u64, at: usize) {
    let store = StoreId(bytes[24..40].try_into().unwrap());
    let salt = Salt::new(store, FileKind::Wal, number);
    let len = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let payload = checksum64(salt.at(at as u64 + 48), &bytes[at + 48..at + 48 + len]);
    bytes[at + 32..at + 40].copy_from_slice(&payload.to_le_bytes());
    let header = checksum64(salt.at(at as u64), &bytes[at..at + 40]);
    bytes[at + 40..at + 48].copy_from_slice(&header.to_le_bytes());
}

fn part(error: &Error) -> String {
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(damage) = inner.downcast_ref::<Corruption>() {
            return damage.part().to_owned();
        }
        source = inner.source();
    }
    error.to_string()
}

/// Edits the bytes of a record, seals it again, and opens.
fn crafted(record: usize, edit: impl Fn(&mut [u8])) -> Error {
    let (disk, options, offsets) = sample();
    let mut bytes = disk.file_bytes(FileId::Wal(1)).unwrap();
    let (at, end) = (offsets[record], offsets[record + 1]);
    edit(&mut bytes[at..end]);
    seal(&mut bytes, 1, at);
    disk.replace_file(FileId::Wal(1), &bytes);
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    assert_eq!(thermocline_wal::verify(&disk, None).unwrap_err().kind(), open(&shared, &options).unwrap_err().kind());
    open(&shared, &options).unwrap_err()
}

#[test]
fn records_that_cannot_be_are_refused_by_their_part() {
    // Record 0 is the genesis, 1 its witness, 2 to 6 the commits. A commit's payload begins at 48: version, time, number of clears (a
    // byte), then runs from 65 on: table (5), count (4), entries of 5 bytes each.
    type Edit = fn(&mut [u8]);
    let cases: &[(&str, usize, Edit)] = &[
        ("version", 3, |record| record[48] = 10),
        ("version", 3, |record| record[48] = 9),
        ("version", 3, |record| record[48] = 0),
        ("version", 5, |record| record[48..56].fill(0xff)),
        ("commit entries", 3, |record| record[16] = 2),
        ("commit entries", 3, |record| record[16] = 4),
        ("commit clears", 3, |record| record[64] = 100),
        ("table", 3, |record| record[65] = 3),
        ("table", 3, |record| record[65] = 0),
        ("run", 3, |record| record[65 + 1] = 2),
        ("run count", 3, |record| record[65 + 5] = 0),
        ("entry key length", 3, |record| record[65 + 9] = 0x7f),
        ("entry suffix length", 3, |record| record[65 + 10] = 2),
        ("entry value", 3, |record| record[65 + 11] = 0x7f),
        ("entry", 3, |record| record[65 + 12] = b'b'),
        ("record sequence", 3, |record| record[8] += 1),
        ("record sequence", 3, |record| record[8] -= 1),
        ("record synced through", 3, |record| record[24..28].copy_from_slice(&[0, 0, 1, 0])),
        ("record synced through", 3, |record| record[24..32].fill(0)),
        ("record reserved bytes", 3, |record| record[6] = 1),
        ("record reserved bytes", 3, |record| record[21] = 1),
        ("record kind", 3, |record| record[4] = 0),
        ("record kind", 3, |record| record[4] = 1),
        ("record kind", 0, |record| record[4] = 3),
        ("record entries", 0, |record| record[16] = 1),
        ("genesis layout name", 0, |record| record[57] = 0xff),
        ("end", 0, |record| record[56] -= 1),
        ("record flags", 3, |record| record[5] = 2),
        ("record kind", 1, |record| record[5] = 0),
    ];
    for (expected, record, edit) in cases {
        let error = crafted(*record, edit);
        assert_eq!(error.kind(), &ErrorKind::Corruption, "{expected}: {error}");
        assert_eq!(part(&error), *expected, "{error}");
    }
}

#[test]
fn kinds_and_flags_of_a_newer_release_are_unsupported_and_nothing_is_changed() {
    for (record, edit) in [(3, (|record| record[4] = 8) as fn(&mut [u8])), (6 - 1, |record| record[5] |= 4)] {
        let error = crafted(record, edit);
        assert_eq!(error.kind(), &ErrorKind::UnsupportedFormat, "{error}");
        assert!(error.to_string().contains("newer release"), "{error}");
    }
}

#[test]
fn segment_that_was_changed_and_sealed_again_does_not_fit_its_successor() {
    let (disk, options, offsets) = sample();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    drop(open(&shared, &options).unwrap());
    let mut bytes = disk.file_bytes(FileId::Wal(1)).unwrap();
    let value = offsets[3] + 65 + 13;
    assert_eq!(bytes[value], b'x');
    bytes[value] = b'X';
    seal(&mut bytes, 1, offsets[3]);
    disk.replace_file(FileId::Wal(1), &bytes);
    for error in [open(&shared, &options).unwrap_err(), thermocline_wal::verify(&disk, None).unwrap_err()] {
        assert!(error.to_string().contains("R15") && part(&error) == "previous chain", "{error}");
    }
}

#[test]
fn damage_before_a_witnessed_place_names_its_rule() {
    let (disk, options, offsets) = sample();
    for (record, rule) in [(2, "R2"), (5, "R2"), (6, "")] {
        let copy = disk.duplicate();
        copy.flip_bit(FileId::Wal(1), (offsets[record] as u64 + 50) * 8);
        let opened = open(&(Arc::new(copy) as Arc<dyn Disk>), &options);
        match opened {
            Err(error) => assert!(!rule.is_empty() && error.to_string().contains(&format!("recovery rule {rule}:")), "{error}"),
            Ok(opened) => assert_eq!((rule, opened.items.len()), ("", 4)),
        }
    }
}
