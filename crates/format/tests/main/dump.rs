//! Annotated dumps, as golden text.

use thermocline_format::{Dump, ENVELOPE_SIZE_BYTES, Encoding, Envelope, Field, FieldTable, FileKind, StoreId};

const RECORD: FieldTable = FieldTable::new(
    "record",
    "Every encoding that can be read without another field.",
    &[
        Field::at(0, Encoding::U8, "kind", ""),
        Field::at(1, Encoding::Bits8, "flags", ""),
        Field::at(2, Encoding::U32, "count", ""),
        Field::at(6, Encoding::I64, "delta", ""),
        Field::at(14, Encoding::U128, "hash", ""),
        Field::at(30, Encoding::Zero(2), "reserved", ""),
        Field::at(32, Encoding::Varint, "sequence", ""),
        Field::after(Encoding::Prefixed, "name", ""),
        Field::after(Encoding::U16, "shard", ""),
        Field::after(Encoding::Bits16, "marks", ""),
        Field::after(Encoding::Checksum64, "checksum", ""),
        Field::after(Encoding::Checksum128, "footer checksum", ""),
        Field::after(Encoding::U64, "version", ""),
        Field::after(Encoding::Variable, "payload", ""),
    ],
);

const ONE: FieldTable = FieldTable::new("one", "", &[Field::at(0, Encoding::U8, "first", "")]);

fn record() -> Vec<u8> {
    let mut bytes = vec![9, 0b101, 1, 2, 0, 0];
    bytes.extend((-2_i64).to_le_bytes());
    bytes.extend(0xabc_u128.to_le_bytes());
    bytes.extend([0, 7, 0x80, 0x01, 3, b'k', b'e', b'y']);
    bytes.extend([4, 1, 0, 0x80, 1, 2, 3, 4, 5, 6, 7, 8]);
    bytes.extend(0xdef_u128.to_le_bytes());
    bytes.extend(77_u64.to_le_bytes());
    bytes.extend(0..=19);
    bytes
}

#[test]
fn dump_of_an_envelope_explains_every_byte() {
    let store = StoreId([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
    let mut dump = Dump::new();
    Envelope::dump(&Envelope::new(FileKind::Wal, 0x1a, store).encode(), &mut dump);
    let expected = "\
00000000  54 48 45 52 4d 4f 43 4c                          magic                  \"THERMOCL\"
00000008  01 00                                            kind                   1
0000000a  01 00                                            format version         1
0000000c  00 00 00 00                                      incompatible features  0x00000000
00000010  00 00 00 00                                      read-only features     0x00000000
00000014  00 00 00 00                                      compatible features    0x00000000
00000018  00 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f  store id               16 bytes
00000028  1a 00 00 00 00 00 00 00                          file number            26
00000030  00 00 00 00 00 00 00 00                          reserved               zero
00000038  d6 d2 30 3d 16 4f 67 c5                          checksum               0xc5674f163d30d2d6
";
    assert_eq!(dump.to_string(), expected);
}

#[test]
fn dump_of_a_table_reads_each_encoding() {
    let mut dump = Dump::new();
    dump.table(&RECORD, 4096, &record());
    let expected = "\
00001000  09                                               kind             9
00001001  05                                               flags            0b00000101
00001002  01 02 00 00                                      count            513
00001006  fe ff ff ff ff ff ff ff                          delta            -2
0000100e  bc 0a 00 00 00 00 00 00 00 00 00 00 00 00 00 00  hash             0x00000000000000000000000000000abc
0000101e  00 07                                            reserved         not zero
00001020  80 01                                            sequence         128
00001022  03 6b 65 79                                      name             \"key\"
00001026  04 01                                            shard            260
00001028  00 80                                            marks            0x8000
0000102a  01 02 03 04 05 06 07 08                          checksum         0x0807060504030201
00001032  ef 0d 00 00 00 00 00 00 00 00 00 00 00 00 00 00  footer checksum  0x00000000000000000000000000000def
00001042  4d 00 00 00 00 00 00 00                          version          77
0000104a  00 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f  payload          20 bytes
0000105a  10 11 12 13
";
    assert_eq!(dump.to_string(), expected);
}

#[test]
fn dump_of_bytes_that_end_early_says_so() {
    let bytes = record();
    for size in 0..74 {
        let mut dump = Dump::new();
        dump.table(&RECORD, 0, &bytes[..size]);
        assert!(dump.to_string().contains("(cut off or malformed)"), "cut to {size} bytes");
    }
}

#[test]
fn dump_shows_bytes_behind_the_last_field() {
    let mut dump = Dump::new();
    assert!(dump.is_empty());
    dump.table(&ONE, 0, &[1, 2, 3]);
    assert_eq!(dump.to_string(), "00000000  01     first  1\n00000001  02 03  rest\n");
}

#[test]
fn dump_of_a_whole_buffer_takes_the_first_64_bytes_for_the_envelope() {
    let mut bytes = Envelope::new(FileKind::Wal, 1, StoreId([1; 16])).encode().to_vec();
    let mut alone = Dump::new();
    Envelope::dump(&bytes, &mut alone);
    bytes.extend([1, 2, 3]);
    let mut followed = Dump::new();
    Envelope::dump(&bytes, &mut followed);
    assert_eq!(alone, followed);
    assert_eq!(bytes.len(), ENVELOPE_SIZE_BYTES + 3);
}

#[test]
fn dump_of_a_window_keeps_what_lies_there_and_notes() {
    let shown = |window: std::ops::Range<u64>| {
        let mut dump = Dump::within(window);
        for offset in [0, 2, 4] {
            dump.row(offset, &[1, 2], "pair", "");
        }
        dump.row(6, &[], "nothing", "");
        dump.note(9, "end", "");
        dump.to_string().lines().map(|line| line[6..8].to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(shown(0..u64::MAX), ["00", "02", "04", "06", "09"]);
    assert_eq!(shown(0..0), ["09"]);
    assert_eq!(shown(2..4), ["02", "09"]);
    assert_eq!(shown(6..7), ["06", "09"]);
    // Pairs that lie in the window in part are shown in part.
    assert_eq!(shown(1..3), ["01", "02", "09"]);
    let mut dump = Dump::within(1..3);
    dump.row(0, &[1, 2], "pair", "");
    assert_eq!(dump.to_string(), "00000001  02  pair\n");
}

#[test]
fn dump_takes_rows_for_those_of_the_place_that_it_was_told() {
    let mut dump = Dump::within(100..200);
    dump.set_place(Some(90..110));
    dump.row(0, &[1], "kept", "");
    dump.set_place(Some(200..210));
    dump.row(150, &[2], "not kept", "");
    dump.set_place(None);
    dump.row(150, &[3], "kept", "");
    assert_eq!(dump.to_string(), "00000000  01  kept\n00000096  03  kept\n");
}
