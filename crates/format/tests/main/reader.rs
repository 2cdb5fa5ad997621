//! Reading and writing values: round trips, one form for each number, hostile lengths, what an error names.

use proptest::prelude::*;
use thermocline_format::{Corruption, FileKind, FileLabel, Reader, VARINT_SIZE_BYTES_MAX, Writer, varint_size_bytes};

const FILE: FileLabel = FileLabel::numbered(FileKind::Wal, 1);

/// One value of each kind that a writer can write.
#[derive(Clone, Debug)]
enum Item {
    U8(u8),
    U16(u16),
    U32(u32),
    U64(u64),
    U128(u128),
    I64(i64),
    Varint(u64),
    Bytes(Vec<u8>),
    Prefixed(Vec<u8>),
    Zeros(usize),
}

impl Item {
    fn write(&self, writer: &mut Writer) {
        match self {
            Self::U8(value) => writer.u8(*value),
            Self::U16(value) => writer.u16(*value),
            Self::U32(value) => writer.u32(*value),
            Self::U64(value) => writer.u64(*value),
            Self::U128(value) => writer.u128(*value),
            Self::I64(value) => writer.i64(*value),
            Self::Varint(value) => writer.varint(*value),
            Self::Bytes(value) => writer.bytes(value),
            Self::Prefixed(value) => writer.prefixed(value),
            Self::Zeros(count) => writer.zeros(*count),
        }
    }

    fn check(&self, reader: &mut Reader<'_>) -> Result<(), Corruption> {
        match self {
            Self::U8(value) => assert_eq!(reader.u8("item")?, *value),
            Self::U16(value) => assert_eq!(reader.u16("item")?, *value),
            Self::U32(value) => assert_eq!(reader.u32("item")?, *value),
            Self::U64(value) => assert_eq!(reader.u64("item")?, *value),
            Self::U128(value) => assert_eq!(reader.u128("item")?, *value),
            Self::I64(value) => assert_eq!(reader.i64("item")?, *value),
            Self::Varint(value) => assert_eq!(reader.varint("item")?, *value),
            Self::Bytes(value) => assert_eq!(reader.bytes(value.len(), "item")?, value),
            Self::Prefixed(value) => assert_eq!(reader.prefixed(value.len(), "item")?, value),
            Self::Zeros(count) => reader.zeros(*count, "item")?,
        }
        Ok(())
    }
}

fn item() -> impl Strategy<Value = Item> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..300);
    prop_oneof![
        any::<u8>().prop_map(Item::U8),
        any::<u16>().prop_map(Item::U16),
        any::<u32>().prop_map(Item::U32),
        any::<u64>().prop_map(Item::U64),
        any::<u128>().prop_map(Item::U128),
        any::<i64>().prop_map(Item::I64),
        (any::<u64>(), 0..64_u32).prop_map(|(value, shift)| Item::Varint(value >> shift)),
        bytes().prop_map(Item::Bytes),
        bytes().prop_map(Item::Prefixed),
        (0..40_usize).prop_map(Item::Zeros),
    ]
}

fn varint(bytes: &[u8]) -> Result<u64, String> {
    let mut reader = Reader::new(bytes, FILE, 512);
    let value = reader.varint("number").map_err(|error| error.to_string())?;
    reader.finish().map_err(|error| error.to_string())?;
    Ok(value)
}

proptest! {
    #[test]
    fn items_round_trip(items in proptest::collection::vec(item(), 0..20), offset in 0..u64::MAX / 2) {
        let mut writer = Writer::new();
        let mut positions = Vec::new();
        for item in &items {
            positions.push(writer.len());
            item.write(&mut writer);
        }
        let mut reader = Reader::new(writer.as_slice(), FILE, offset);
        for (item, position) in items.iter().zip(positions) {
            prop_assert_eq!(reader.offset(), offset + position as u64);
            item.check(&mut reader)?;
        }
        prop_assert!(reader.is_empty());
        reader.finish()?;
    }

    #[test]
    fn truncated_items_are_refused(items in proptest::collection::vec(item(), 1..8), cut: prop::sample::Index) {
        let mut writer = Writer::new();
        for item in &items {
            item.write(&mut writer);
        }
        prop_assume!(!writer.is_empty());
        let bytes = &writer.as_slice()[..cut.index(writer.len())];
        let mut reader = Reader::new(bytes, FILE, 0);
        prop_assert!(items.iter().try_for_each(|item| item.check(&mut reader)).is_err());
    }

    #[test]
    fn varint_has_one_form(bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
        if let Ok(value) = varint(&bytes) {
            let mut writer = Writer::new();
            writer.varint(value);
            prop_assert_eq!(writer.as_slice(), bytes);
        }
    }

    #[test]
    fn any_bytes_in_any_order_of_reads_are_harmless(
        bytes in proptest::collection::vec(any::<u8>(), 0..100),
        calls in proptest::collection::vec((0..12_u8, any::<usize>()), 0..40),
        offset: u64,
    ) {
        let mut reader = Reader::new(&bytes, FILE, offset);
        for (call, size) in calls {
            let before = (reader.offset(), reader.remaining());
            let failed = match call {
                0 => reader.u8("part").is_err(),
                1 => reader.u16("part").is_err(),
                2 => reader.u32("part").is_err(),
                3 => reader.u64("part").is_err(),
                4 => reader.u128("part").is_err(),
                5 => reader.varint("part").is_err(),
                6 => reader.bytes(size, "part").is_err(),
                7 => reader.prefixed(size, "part").is_err(),
                8 => reader.count(size, size % 5, "part").is_err(),
                9 => reader.zeros(size % 3, "part").is_err(),
                10 => reader.checksum64(offset, &bytes, "part").is_err(),
                _ => reader.part(size, "part").is_err(),
            };
            if failed {
                prop_assert_eq!((reader.offset(), reader.remaining()), before, "call {} moved the reader and failed", call);
            }
            prop_assert!(reader.remaining() <= before.1);
        }
    }
}

#[test]
fn varint_golden_bytes_at_each_width() {
    let cases: [(u64, &[u8]); 9] = [
        (0, &[0]),
        (1, &[1]),
        (127, &[0x7f]),
        (128, &[0x80, 1]),
        (300, &[0xac, 2]),
        (16_383, &[0xff, 0x7f]),
        (16_384, &[0x80, 0x80, 1]),
        (1 << 63, &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1]),
        (u64::MAX, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
    ];
    for (value, bytes) in cases {
        let mut writer = Writer::new();
        writer.varint(value);
        assert_eq!(writer.as_slice(), bytes);
        assert_eq!(varint(bytes), Ok(value));
    }
}

#[test]
fn varint_size_is_what_the_writer_takes() {
    let mut sizes = Vec::new();
    for shift in 0..64 {
        for value in [(1_u64 << shift) - 1, 1 << shift, u64::MAX >> shift] {
            let mut writer = Writer::new();
            writer.varint(value);
            assert_eq!(writer.len(), varint_size_bytes(value), "{value:#x}");
            sizes.push(writer.len());
        }
    }
    assert_eq!((sizes.iter().min(), sizes.iter().max()), (Some(&1), Some(&VARINT_SIZE_BYTES_MAX)));
}

#[test]
fn varint_that_is_too_long_too_large_or_cut_off_is_refused() {
    let head = "wal-0000000000000001 is damaged at byte 512: number: expected";
    let cases: [(&[u8], &str); 6] = [
        (&[0x80, 0], "the shortest form of an integer, found a zero byte at its end"),
        (&[0xff, 0x80, 0], "the shortest form of an integer, found a zero byte at its end"),
        (&[0xff; 9], "a variable-length integer, found its first 9 bytes and no more"),
        (&[], "a variable-length integer, found nothing"),
        (&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2], "an integer of 64 bits, found a longer one"),
        (&[0xff; 100], "an integer of 64 bits, found a longer one"),
    ];
    for (bytes, text) in cases {
        assert_eq!(varint(bytes), Err(format!("{head} {text}")));
    }
}

#[test]
fn hostile_length_is_refused_before_anything_is_allocated() {
    let mut writer = Writer::new();
    writer.varint(u64::MAX);
    writer.bytes(b"short");
    let mut reader = Reader::new(writer.as_slice(), FILE, 0);
    let error = reader.prefixed(usize::MAX, "value").unwrap_err();
    assert_eq!(
        error.to_string(),
        "wal-0000000000000001 is damaged at byte 0: value: expected at most 5 bytes, found a length of 18446744073709551615 bytes"
    );
    let error = reader.count(usize::MAX, 4, "entries").unwrap_err();
    assert_eq!(
        error.to_string(),
        "wal-0000000000000001 is damaged at byte 0: entries: expected at most 1 items, found a count of 18446744073709551615"
    );
    assert!(reader.bytes(usize::MAX, "value").is_err());
    assert!(reader.part(usize::MAX, "value").is_err());
    assert!(reader.zeros(usize::MAX, "padding").is_err());
}

#[test]
fn cap_holds_though_the_bytes_are_there() {
    let mut writer = Writer::new();
    writer.prefixed(&[7; 100]);
    let mut reader = Reader::new(writer.as_slice(), FILE, 0);
    assert!(reader.prefixed(99, "key").is_err());
    assert_eq!(reader.prefixed(100, "key").map(<[u8]>::len), Ok(100));
}

#[test]
fn count_of_things_without_size_is_bounded_by_the_cap() {
    let bytes = [5];
    assert_eq!(Reader::new(&bytes, FILE, 0).count(5, 0, "flags"), Ok(5));
    assert!(Reader::new(&bytes, FILE, 0).count(4, 0, "flags").is_err());
}

#[test]
fn trailing_bytes_are_refused() {
    let mut reader = Reader::new(&[1, 2, 3], FILE, 4096);
    reader.u8("first").unwrap();
    let error = reader.finish().unwrap_err();
    assert_eq!((error.file(), error.offset(), error.part()), (FILE, 4097, "end"));
    assert_eq!((error.expected(), error.found()), ("no more bytes", "2 more bytes"));
}

#[test]
fn short_read_names_what_is_left() {
    let mut reader = Reader::new(&[1], FILE, 10);
    let error = reader.u32("length").unwrap_err();
    assert_eq!(error.to_string(), "wal-0000000000000001 is damaged at byte 10: length: expected 4 bytes, found 1 byte");
}

#[test]
fn zeros_name_the_first_other_byte() {
    let mut reader = Reader::new(&[0, 0, 9, 0], FILE, 100);
    let error = reader.zeros(4, "padding").unwrap_err();
    assert_eq!((error.offset(), error.expected(), error.found()), (102, "zero", "0x09"));
    assert_eq!(reader.zeros(2, "padding"), Ok(()));
}

#[test]
fn part_keeps_offsets_and_its_own_end() {
    let mut reader = Reader::new(&[1, 2, 3, 4], FILE, 50);
    reader.u8("head").unwrap();
    let mut part = reader.part(2, "body").unwrap();
    assert_eq!((part.offset(), part.remaining(), reader.offset()), (51, 2, 53));
    part.u8("first").unwrap();
    assert!(part.u16("second").is_err());
    assert_eq!(part.finish().unwrap_err().offset(), 52);
    assert_eq!(reader.take_rest(), [4]);
    assert!(reader.is_empty());
}

#[test]
fn offset_past_the_end_of_u64_is_harmless() {
    let mut reader = Reader::new(&[1, 2], FILE, u64::MAX);
    reader.u16("pair").unwrap();
    assert!(reader.u8("more").is_err());
}

#[test]
fn result_of_a_read_stays_small() {
    assert_eq!(size_of::<Corruption>(), size_of::<usize>());
    assert_eq!(size_of::<Result<u64, Corruption>>(), 16);
}

#[test]
fn overwrite_fills_space_left_before() {
    let mut writer = Writer::append_to(vec![9]);
    let position = writer.len();
    writer.zeros(4);
    writer.bytes(b"tail");
    writer.overwrite(position, &7_u32.to_le_bytes());
    assert_eq!(writer.as_slice(), [9, 7, 0, 0, 0, b't', b'a', b'i', b'l']);
    assert_eq!(writer.since(5), b"tail");
    assert_eq!(writer.since(100), b"");
    assert!(std::panic::catch_unwind(move || writer.overwrite(7, &[0; 3])).is_err());
}

#[test]
fn cleared_writer_keeps_its_memory() {
    let mut writer = Writer::with_capacity(100);
    writer.reserve(200);
    writer.bytes(&[1; 50]);
    assert!(!writer.is_empty());
    let memory = writer.as_slice().as_ptr();
    writer.clear();
    assert!(writer.is_empty());
    writer.length(300);
    assert_eq!((writer.as_slice(), writer.len()), (&[0xac, 2][..], 2));
    assert_eq!(writer.as_slice().as_ptr(), memory);
    assert_eq!(writer.finish(), [0xac, 2]);
}

#[test]
fn peek_shows_what_is_left_and_moves_nothing() {
    let mut reader = Reader::new(&[1, 2, 3], FILE, 10);
    reader.u8("first").unwrap();
    assert_eq!((reader.peek(), reader.remaining(), reader.offset()), (&[2, 3][..], 2, 11));
    let error = reader.corruption("kind", "1", "2");
    assert_eq!((error.offset(), error.file()), (11, FILE));
    assert_eq!(
        format!("{error:?}"),
        "Corruption { file: Numbered { kind: Wal, number: 1 }, offset: 11, part: \"kind\", expected: \"1\", found: \"2\" }"
    );
}
