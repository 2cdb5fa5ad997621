//! The envelope: literal bytes, every flipped bit, truncation, newer releases, other stores.

use proptest::prelude::*;
use thermocline_format::{
    ENVELOPE_SIZE_BYTES, Envelope, Expected, Features, FileKind, FormatError, FormatVersion, MAGIC, Purpose, StoreId, checksum64,
};

const STORE: StoreId = StoreId([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
const EXPECTED: Expected = Expected { kind: FileKind::Wal, number: 0x1a, store: Some(STORE), purpose: Purpose::Write };

#[rustfmt::skip]
const GOLDEN: [u8; ENVELOPE_SIZE_BYTES] = [
    0x54, 0x48, 0x45, 0x52, 0x4d, 0x4f, 0x43, 0x4c, // magic "THERMOCL"
    0x01, 0x00,                                     // kind 1: wal
    0x01, 0x00,                                     // format version 1
    0x00, 0x00, 0x00, 0x00,                         // incompatible features
    0x00, 0x00, 0x00, 0x00,                         // read-only features
    0x00, 0x00, 0x00, 0x00,                         // compatible features
    0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, // store id
    0x08, 0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f,
    0x1a, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, // file number 26
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, // reserved
    0xd6, 0xd2, 0x30, 0x3d, 0x16, 0x4f, 0x67, 0xc5, // checksum
];

/// Changes bytes of the golden envelope and makes the checksum right again, as a newer release or an attacker would.
fn sealed(offset: usize, bytes: &[u8]) -> [u8; ENVELOPE_SIZE_BYTES] {
    let mut envelope = GOLDEN;
    envelope[offset..offset + bytes.len()].copy_from_slice(bytes);
    let checksum = checksum64(u64::from_le_bytes(MAGIC), &envelope[8..56]);
    envelope[56..].copy_from_slice(&checksum.to_le_bytes());
    envelope
}

/// Decodes and compares the error's text.
fn check(bytes: &[u8], expected: &Expected, text: &str) {
    assert_eq!(Envelope::decode(bytes, expected).unwrap_err().to_string(), text);
}

#[test]
fn golden_envelope_is_written_and_read() {
    let envelope = Envelope::new(FileKind::Wal, 0x1a, STORE);
    assert_eq!(envelope.encode(), GOLDEN);
    assert_eq!(Envelope::decode(&GOLDEN, &EXPECTED), Ok(envelope));
    assert_eq!(Envelope::decode(&GOLDEN, &Expected { store: None, purpose: Purpose::Read, ..EXPECTED }), Ok(envelope));
    assert_eq!(envelope.label().to_string(), "wal-000000000000001a");
}

#[test]
fn bytes_behind_the_envelope_are_not_looked_at() {
    let mut file = GOLDEN.to_vec();
    file.extend([0xff; 100]);
    assert!(Envelope::decode(&file, &EXPECTED).is_ok());
}

#[test]
fn every_flipped_bit_is_corruption() {
    for byte in 0..ENVELOPE_SIZE_BYTES {
        for bit in 0..8 {
            let mut damaged = GOLDEN;
            damaged[byte] ^= 1 << bit;
            for store in [Some(STORE), None] {
                let decoded = Envelope::decode(&damaged, &Expected { store, ..EXPECTED });
                assert!(matches!(decoded, Err(FormatError::Corruption(_))), "byte {byte}, bit {bit}: {decoded:?}");
            }
        }
    }
}

#[test]
fn every_truncation_is_corruption() {
    for size in 0..ENVELOPE_SIZE_BYTES {
        let text = format!("wal-000000000000001a is damaged at byte {size}: envelope: expected 64 bytes, found {size} bytes");
        check(&GOLDEN[..size], &EXPECTED, &text);
    }
}

#[test]
fn zeros_are_corruption() {
    let text = "wal-000000000000001a is damaged at byte 0: envelope magic: expected \"THERMOCL\", found 64 zero bytes";
    check(&[0; 4096], &EXPECTED, text);
}

#[test]
fn magic_damaged_under_a_right_checksum_is_corruption() {
    let mut damaged = GOLDEN;
    damaged[..8].copy_from_slice(&[0; 8]);
    let text = "wal-000000000000001a is damaged at byte 0: envelope magic: expected \"THERMOCL\", \
                found \"\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\"";
    check(&damaged, &EXPECTED, text);
}

#[test]
fn file_of_something_else_is_foreign() {
    let mut file = b"SQLite format 3\0".to_vec();
    file.resize(100, 1);
    let decoded = Envelope::decode(&file, &EXPECTED);
    assert!(matches!(decoded, Err(FormatError::Foreign { .. })));
    let text = "wal-000000000000001a is not a file of this store: expected magic \"THERMOCL\", found magic \"SQLite f\"";
    check(&file, &EXPECTED, text);
}

#[test]
fn file_of_another_store_is_foreign() {
    let envelope = Envelope::new(FileKind::Wal, 0x1a, StoreId([0xee; 16])).encode();
    let text = "wal-000000000000001a is not a file of this store: expected store id 000102030405060708090a0b0c0d0e0f, \
                found store id eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee";
    check(&envelope, &EXPECTED, text);
    assert!(Envelope::decode(&envelope, &Expected { store: None, ..EXPECTED }).is_ok());
}

#[test]
fn file_under_another_number_is_corruption() {
    let text = "wal-000000000000001b is damaged at byte 40: envelope file number: expected 27, found 26";
    check(&GOLDEN, &Expected { number: 0x1b, ..EXPECTED }, text);
}

#[test]
fn newer_format_version_is_unsupported() {
    let text = "wal-000000000000001a was written by a newer release: format version 0x2 is not supported, this release knows 0x1";
    check(&sealed(10, &[2, 0]), &EXPECTED, text);
}

#[test]
fn newer_format_version_may_use_the_reserved_bytes_and_other_feature_bits() {
    let mut newer = sealed(10, &[2, 0]);
    newer[12..24].copy_from_slice(&[0xff; 12]);
    newer[48..56].copy_from_slice(&[0xff; 8]);
    let checksum = checksum64(u64::from_le_bytes(MAGIC), &newer[8..56]);
    newer[56..].copy_from_slice(&checksum.to_le_bytes());
    let decoded = Envelope::decode(&newer, &EXPECTED);
    assert!(matches!(decoded, Err(FormatError::Unsupported { what: "format version", found: 2, max: 1, .. })), "{decoded:?}");
}

#[test]
fn unknown_kind_is_unsupported_and_kind_zero_is_corruption() {
    let text = "wal-000000000000001a was written by a newer release: file kind 0xffff is not supported, this release knows 0x3";
    check(&sealed(8, &[0xff, 0xff]), &EXPECTED, text);
    let text = "wal-000000000000001a is damaged at byte 8: envelope file kind: expected a number from 1, found 0";
    check(&sealed(8, &[0, 0]), &EXPECTED, text);
}

#[test]
fn format_version_zero_is_corruption() {
    let text = "wal-000000000000001a is damaged at byte 10: envelope format version: expected 1 to 1, found 0";
    check(&sealed(10, &[0, 0]), &EXPECTED, text);
}

#[test]
fn unknown_incompatible_feature_is_unsupported_for_every_purpose() {
    let bytes = sealed(12, &[0, 0, 0, 0x80]);
    for purpose in [Purpose::Read, Purpose::Write] {
        let text = "wal-000000000000001a was written by a newer release: set of incompatible features 0x80000000 is not supported, \
                    this release knows 0x0";
        check(&bytes, &Expected { purpose, ..EXPECTED }, text);
    }
}

#[test]
fn unknown_read_only_feature_allows_reading_alone() {
    let bytes = sealed(16, &[1, 0, 0, 0]);
    let text = "wal-000000000000001a was written by a newer release: set of read-only features 0x1 is not supported, \
                this release knows 0x0";
    check(&bytes, &EXPECTED, text);
    let envelope = Envelope::decode(&bytes, &Expected { purpose: Purpose::Read, ..EXPECTED }).unwrap();
    assert_eq!(envelope.features, Features { incompatible: 0, read_only: 1, compatible: 0 });
}

#[test]
fn unknown_compatible_feature_is_accepted() {
    let envelope = Envelope::decode(&sealed(20, &[1, 2, 3, 4]), &EXPECTED).unwrap();
    assert_eq!(envelope.features.compatible, 0x0403_0201);
}

#[test]
fn reserved_bytes_that_are_not_zero_are_corruption() {
    for offset in 48..56 {
        let text =
            format!("wal-000000000000001a is damaged at byte {offset}: envelope reserved bytes: expected zero, found 0x2a");
        check(&sealed(offset, &[0x2a]), &EXPECTED, &text);
    }
}

proptest! {
    #[test]
    fn envelope_round_trips(store: [u8; 16], number: u64, read_only: u32, compatible: u32) {
        let envelope = Envelope {
            kind: FileKind::Wal,
            version: FormatVersion(1),
            features: Features { incompatible: 0, read_only, compatible },
            store: StoreId(store),
            number,
        };
        let expected = Expected { kind: FileKind::Wal, number, store: Some(StoreId(store)), purpose: Purpose::Read };
        prop_assert_eq!(Envelope::decode(&envelope.encode(), &expected), Ok(envelope));
    }

    #[test]
    fn random_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Envelope::decode(&bytes, &EXPECTED).is_err());
    }

    #[test]
    fn sealed_fields_decode_or_are_refused_without_panic(fields in proptest::collection::vec(any::<u8>(), 48)) {
        let bytes = sealed(8, &fields);
        if let Ok(envelope) = Envelope::decode(&bytes, &Expected { store: None, purpose: Purpose::Read, ..EXPECTED }) {
            prop_assert_eq!(envelope.encode(), bytes);
        }
    }
}
