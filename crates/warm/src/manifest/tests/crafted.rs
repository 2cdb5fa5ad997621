//! Manifests with right checksums that no writer writes: each is refused, with the place and the part.

use thermocline_format::{Writer, checksum128};
use thermocline_io::{FileId, SimDisk};
use thermocline_tier::{EntryKind, ErrorKind, Version};

use super::support::{STORE, damage, file, key, open, read_only};
use crate::manifest::layout::{Header, Position, RecordKind, begin_record, seal_record};
use crate::manifest::payload::{write_edit, write_snapshot};
use crate::manifest::{Edit, State};
use crate::meta::FileMeta;

const PAGE: u64 = 4096;

/// A manifest under construction.
struct Craft {
    header: Header,
    bytes: Vec<u8>,
    end: Position,
}

impl Craft {
    fn new() -> Self {
        let header = Header { store: STORE, number: 1, previous: None, first_sequence: 1, chain: 0 };
        Self { header, bytes: header.encode(), end: header.start() }
    }

    /// With files 1 and 2, and a drop and a clear.
    fn with_snapshot() -> Self {
        let mut state = State::default();
        let edit = Edit {
            add: vec![file(1, 0), file(2, 3)],
            horizon: Some(Version(5)),
            drops: vec![(key(EntryKind::Multi, b"k"), Version(3), 1)],
            clears: vec![(EntryKind::Multi, 2)],
            ..Edit::default()
        };
        state.apply(&edit).unwrap();
        let mut craft = Self::new();
        craft.record(RecordKind::Snapshot, |writer| write_snapshot(writer, &state));
        craft
    }

    fn record(&mut self, kind: RecordKind, write: impl FnOnce(&mut Writer)) {
        let (at, synced) = (self.end, self.end.offset);
        self.place(at, kind, synced, write);
    }

    fn place(&mut self, at: Position, kind: RecordKind, synced_through: u64, write: impl FnOnce(&mut Writer)) {
        let mut writer = begin_record();
        write(&mut writer);
        let (bytes, end) = seal_record(writer, &self.header, at, kind, synced_through);
        self.bytes.extend(bytes);
        self.end = end;
    }

    fn edit(&mut self, edit: &Edit) {
        self.record(RecordKind::Edit, |writer| write_edit(writer, edit));
    }

    /// Writes over a byte of the header of the record at `offset`, and makes its checksums right.
    fn patch(&mut self, offset: u64, place: usize, bytes: &[u8]) {
        let start = offset as usize;
        self.bytes[start + place..start + place + bytes.len()].copy_from_slice(bytes);
        let checksum = checksum128(self.header.salt().at(offset), &self.bytes[start..start + 56]).to_le_bytes();
        self.bytes[start + 56..start + 72].copy_from_slice(&checksum);
        let end = self.bytes.len();
        self.bytes[end - 16..].copy_from_slice(&checksum);
    }

    /// Must be refused, for this at this place.
    fn refused(&self, part: &str, offset: u64, expected: &str) {
        let disk = self.disk();
        let error = read_only(&disk).expect_err(expected);
        assert!(error.to_string().contains(expected), "expected `{expected}`, got: {error}");
        assert_eq!(error.kind(), &ErrorKind::Corruption, "{error}");
        let damage = damage(&error).unwrap();
        assert_eq!((damage.part(), damage.offset()), (part, offset), "{error}");
        assert_eq!(open(&disk).unwrap_err().to_string(), error.to_string());
        assert_eq!(disk.operations(), 0);
    }

    fn disk(&self) -> SimDisk {
        let disk = SimDisk::new(1);
        disk.replace_file(FileId::Manifest(1), &self.bytes);
        disk.restart_recording();
        disk
    }
}

#[test]
fn what_is_crafted_right_is_accepted() {
    let mut craft = Craft::with_snapshot();
    craft.record(RecordKind::Witness, |_| {});
    craft.edit(&Edit { remove: vec![1], ..Edit::default() });
    assert_eq!(read_only(&craft.disk()).unwrap().unwrap().1.files.len(), 1);
}

#[test]
fn records_out_of_place_are_refused() {
    let at = Craft::with_snapshot().end;
    let mut craft = Craft::with_snapshot();
    craft.place(Position { sequence: 3, ..at }, RecordKind::Edit, PAGE, |writer| write_edit(writer, &Edit::default()));
    craft.refused("record sequence", at.offset + 8, "expected 2, found 3");
    let mut craft = Craft::with_snapshot();
    craft.place(Position { sequence: 1, ..at }, RecordKind::Witness, PAGE, |_| {});
    craft.refused("record sequence", at.offset + 8, "expected 2, found 1");
    let mut craft = Craft::with_snapshot();
    craft.place(Position { chain: at.chain ^ 1, ..at }, RecordKind::Witness, PAGE, |_| {});
    craft.refused("record chain", at.offset + 24, "expected 0x");
    let mut craft = Craft::with_snapshot();
    craft.record(RecordKind::Snapshot, |writer| write_snapshot(writer, &State::default()));
    craft.refused("record kind", at.offset + 4, "expected another kind, found a snapshot");
    for kind in [RecordKind::Edit, RecordKind::Witness] {
        let mut craft = Craft::new();
        craft.record(kind, |writer| {
            if kind == RecordKind::Edit {
                write_edit(writer, &Edit::default());
            }
        });
        craft.refused("record kind", PAGE + 4, "expected a snapshot, found another kind");
    }
}

#[test]
fn impossible_headers_of_records_are_refused() {
    let at = Craft::with_snapshot().end.offset;
    let patched = |place: usize, bytes: &[u8]| {
        let mut craft = Craft::with_snapshot();
        craft.record(RecordKind::Witness, |_| {});
        craft.patch(at, place, bytes);
        craft
    };
    patched(4, &[0]).refused("record kind", at + 4, "expected a number from 1, found 0");
    patched(5, &[1]).refused("record reserved bytes", at + 5, "expected zero, found 0x01");
    patched(0, &[1]).refused("record payload length", at, "expected at most 0, found 1");
    patched(16, &(PAGE - 1).to_le_bytes()).refused("record synced through", at + 16, "found 4095");
    patched(16, &(at + 1).to_le_bytes()).refused("record synced through", at + 16, &format!("expected 4096 to {at}"));
    let mut craft = Craft::with_snapshot();
    craft.edit(&Edit::default());
    craft.patch(at, 0, &((1_u32 << 30) + 1).to_le_bytes());
    craft.refused("record payload length", at, "expected at most 1073741824, found 1073741825");
    let newer = patched(4, &[4]);
    let error = read_only(&newer.disk()).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::UnsupportedFormat);
    assert!(error.to_string().contains("kind of record 0x4"), "{error}");
    // A length beyond the end of the file is no reason to allocate: the record is not whole.
    let mut craft = Craft::with_snapshot();
    craft.edit(&Edit { remove: vec![1], ..Edit::default() });
    craft.patch(at, 0, &(1_u32 << 30).to_le_bytes());
    assert_eq!(read_only(&craft.disk()).unwrap().unwrap().1.files.len(), 2);
}

#[test]
fn impossible_edits_are_refused() {
    let multi = EntryKind::Multi;
    let add = |file: FileMeta| Edit { add: vec![file], ..Edit::default() };
    let cases = [
        ("file 9 is removed or moved, but is not live", Edit { remove: vec![9], ..Edit::default() }),
        ("file 1 is added, but its number is in use", add(file(1, 0))),
        ("its number is out of range", add(FileMeta { number: u64::MAX, ..file(9, 0) })),
        ("level 255", add(FileMeta { level: 255, ..file(9, 0) })),
        ("first key is above its last", add(FileMeta { first: key(multi, b"~"), ..file(9, 0) })),
        ("applied markers up to 3", add(FileMeta { applied: 3, ..file(9, 0) })),
        ("the horizon goes back", Edit { horizon: Some(Version(4)), ..Edit::default() }),
        ("has marker 2, but 2 was given out before", Edit { clears: vec![(multi, 2)], ..Edit::default() }),
        ("is forgotten that is not there", Edit { forget_clears: vec![EntryKind::source(1)], ..Edit::default() }),
    ];
    for (expected, edit) in cases {
        let mut craft = Craft::with_snapshot();
        let at = craft.end.offset;
        craft.edit(&edit);
        craft.refused("record content", at, expected);
        // Also in the middle.
        craft.edit(&Edit::default());
        craft.refused("record content", at, expected);
    }
    let mut craft = Craft::with_snapshot();
    craft.edit(&add(FileMeta { number: 9, ..file(2, 3) }));
    craft.refused("live files", PAGE, "files 2 and 9 of level 3 overlap");
    let mut craft = Craft::new();
    let mut lying = State { file_number_next: 4, ..State::default() };
    lying.files.insert(4, file(4, 0));
    craft.record(RecordKind::Snapshot, |writer| write_snapshot(writer, &lying));
    craft.refused("record content", PAGE, "next file number 4 is in use");
}

#[test]
fn malformed_payloads_are_refused() {
    let empty = |writer: &mut Writer| write_edit(writer, &Edit::default());
    let at = Craft::with_snapshot().end.offset;
    let payload = at + 72;
    let crafted = |write: &dyn Fn(&mut Writer)| {
        let mut craft = Craft::with_snapshot();
        craft.record(RecordKind::Edit, write);
        craft
    };
    crafted(&|_| {}).refused("edit parts", payload, "expected 1 byte, found 0 bytes");
    crafted(&|writer| writer.u8(8)).refused("edit parts", payload, "expected no bits but 1, 2 and 4, found 8");
    crafted(&|writer| {
        writer.u8(4);
        (0..9).for_each(|_| writer.u8(0));
    })
    .refused("summaries", payload + 9, "at least one");
    crafted(&|writer| {
        empty(writer);
        writer.u8(0);
    })
    .refused("end", payload + 9, "1 more byte");
    // Counts of more than there could be.
    crafted(&|writer| {
        writer.u8(0);
        writer.varint(u64::MAX);
        writer.zeros(100);
    })
    .refused("removed files", payload + 1, "found a count of 18446744073709551615");
    crafted(&|writer| {
        writer.zeros(3);
        writer.varint(2);
        writer.zeros(100);
    })
    .refused("added files", payload + 3, "expected at most 1 items, found a count of 2");
    let long = FileMeta { summary: vec![0; 65_537].into(), ..file(9, 0) };
    crafted(&|writer| write_edit(writer, &Edit { add: vec![long.clone()], ..Edit::default() })).refused(
        "file summary",
        payload + 4 + 57 + 2 * 27 + 1 + 5 + 5,
        "expected at most 65536 bytes, found a length of 65537 bytes",
    );
    let long = (key(EntryKind::Multi, &vec![0; 65_536]), Version(1), 3);
    crafted(&|writer| write_edit(writer, &Edit { drops: vec![long.clone()], ..Edit::default() })).refused(
        "key",
        payload + 12,
        "expected at most 65535 bytes, found a length of 65536 bytes",
    );
    crafted(&|writer| {
        writer.zeros(4);
        writer.varint(1);
        writer.u8(3);
        writer.zeros(100);
    })
    .refused("table", payload + 5, "found tag 3, id 0");
    let mut craft = Craft::new();
    craft.record(RecordKind::Snapshot, |writer| writer.zeros(20));
    craft.refused("last marker", PAGE + 72 + 16, "expected 8 bytes, found 4 bytes");
}
