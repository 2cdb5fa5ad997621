//! The bytes of format version 1, as literal files: what this release writes, and what every later one must still read.
//!
//! `THERMOCLINE_WRITE_GOLDEN=1 cargo test -p thermocline-warm golden` writes the files anew; do that only for a format that was
//! never released.

use bytes::Bytes;
use thermocline_io::{FileId, SimDisk};
use thermocline_tier::{Checkpoint, EntryKind, TableStats, Version};

use super::support::{STORE, file, key, open, read_only, shared};
use crate::manifest::{Edit, Manifest, State, dump_manifest};
use crate::meta::FileMeta;

/// A file with everything a file can have.
fn full() -> FileMeta {
    let stats = |keys, entries, tombstones, user_bytes| TableStats { keys, entries, tombstones, user_bytes };
    FileMeta {
        number: 0x1122_3344_5566_7788,
        level: 6,
        size_bytes: 0x10_0000,
        checksum: 0x0123_4567_89ab_cdef,
        first: key(EntryKind::Multi, b""),
        last: key(EntryKind::operator(u32::MAX), b"last key"),
        version_min: Version(0),
        version_max: Version(u64::MAX - 1),
        applied: 2,
        rank: 9,
        tables: vec![
            (EntryKind::Multi, stats(1, 300, 0, 70_000)),
            (EntryKind::source(7), stats(2, 2, 2, 0)),
            (EntryKind::operator(u32::MAX), stats(u64::MAX, u64::MAX, 1, u64::MAX)),
        ],
        summary: Bytes::from_static(b"summary"),
    }
}

/// Edits with every part that an edit can have.
fn edits() -> Vec<Edit> {
    vec![
        Edit {
            add: vec![file(1, 0), file(2, 3)],
            tables: vec![EntryKind::Multi, EntryKind::source(7)],
            horizon: Some(Version(3)),
            drops: vec![(key(EntryKind::Multi, b"k"), Version(5), 1), (key(EntryKind::source(7), b""), Version(6), 2)],
            clears: vec![(EntryKind::operator(4), 2)],
            ..Edit::default()
        },
        Edit {
            add: vec![full()],
            remove: vec![1],
            moves: vec![(2, 4)],
            checkpoint: Some(Checkpoint { version: Version(4), state: b"state".as_slice().into() }),
            clears: vec![(EntryKind::Multi, 3)],
            forget_drops: vec![(key(EntryKind::Multi, b"k"), Version(5))],
            forget_clears: vec![EntryKind::operator(4)],
            ..Edit::default()
        },
        Edit { summaries: vec![(2, Bytes::from_static(b"another"))], ..Edit::default() },
    ]
}

/// A first manifest with three edits and their witnesses, and the one that takes its place; and the state.
fn write_all() -> ([Vec<u8>; 2], State) {
    let disk = SimDisk::new(1);
    let mut state = State::default();
    let mut manifest = Manifest::create(shared(&disk), STORE).unwrap();
    for edit in edits() {
        state.apply(&edit).unwrap();
        manifest.commit(&edit, &state).unwrap();
    }
    let first = disk.file_bytes(FileId::Manifest(1)).unwrap();
    open(&disk).unwrap();
    ([first, disk.file_bytes(FileId::Manifest(2)).unwrap()], state)
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
    let mut bytes = vec![0; 10 * 4096];
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
    let (files, state) = write_all();
    for (number, bytes) in (1..).zip(&files) {
        let dump = dump_manifest(bytes, number).to_string();
        compare(&format!("manifest-{number:016x}.v1.txt"), &dump);
        let literal = SimDisk::new(1);
        let mut golden = bytes_of(&dump);
        golden.resize(bytes.len(), 0);
        literal.replace_file(FileId::Manifest(number), &golden);
        assert_eq!(read_only(&literal).unwrap().unwrap().1, state, "read from the golden bytes alone");
    }
}

#[test]
fn dump_of_damaged_bytes_says_where_it_stops() {
    let ([whole, _], _) = write_all();
    let rows = |bytes: &[u8]| dump_manifest(bytes, 1).to_string().lines().count();
    for len in [0, 10, 64, 4095, 4096, 4100, 4200, 8192 + 4096 + 300] {
        assert!(rows(&whole[..len]) <= rows(&whole), "{len} bytes");
    }
    let mut damaged = whole.clone();
    damaged[4096 + 5] ^= 1;
    assert!(dump_manifest(&damaged, 1).to_string().contains("record header checksum"));
    assert!(dump_manifest(&whole, 2).to_string().contains("envelope file number"));
}
