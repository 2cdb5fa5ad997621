//! Checksums against the reference implementation, and the salt.

use std::collections::BTreeSet;

use thermocline_format::{FileKind, Reader, Salt, StoreId, Writer, checksum64, checksum128};

fn store() -> StoreId {
    StoreId([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15])
}

#[test]
fn checksums_equal_those_of_the_reference_implementation() {
    let long: Vec<u8> = (0..=u8::MAX).cycle().take(1024).collect();
    let cases: [(&[u8], u64, u64, u128); 5] = [
        (b"", 0, 0x2d06_8005_38d3_94c2, 0x99aa_06d3_0147_98d8_6001_c324_468d_497f),
        (b"a", 0, 0xe6c6_32b6_1e96_4e1f, 0xa96f_af70_5af1_6834_e6c6_32b6_1e96_4e1f),
        (b"thermocline", 0, 0x0ad2_e7c8_b166_6b09, 0x6376_6669_dae0_0934_9ff9_86ea_c321_0335),
        (b"thermocline", 1, 0xdda9_7ea0_3d18_8972, 0xf72a_c1f8_ac8f_de51_384b_1065_a4e2_4b6a),
        (&long, 0x0123_4567_89ab_cdef, 0x0f99_3b69_68bd_7f77, 0xdfd8_f059_b8a5_27eb_0f99_3b69_68bd_7f77),
    ];
    for (bytes, seed, expected64, expected128) in cases {
        assert_eq!(checksum64(seed, bytes), expected64, "64 bits of {} bytes, seed {seed}", bytes.len());
        assert_eq!(checksum128(seed, bytes), expected128, "128 bits of {} bytes, seed {seed}", bytes.len());
    }
}

#[test]
fn salt_of_a_place_never_changes() {
    let salt = Salt::new(store(), FileKind::Wal, 0x1a);
    assert_eq!(salt.at(0), 0x1c96_35d3_381b_a9b7);
    assert_eq!(salt.at(64), 0x7bbc_d805_d69c_e2e8);
    assert_eq!(salt.at(u64::MAX), 0x2e38_f69e_7766_ce4f);
}

#[test]
fn salt_differs_by_store_number_and_offset() {
    let mut seeds = BTreeSet::new();
    for bit in 0..128_u32 {
        let other = StoreId((1_u128 << bit).to_le_bytes());
        assert!(seeds.insert(Salt::new(other, FileKind::Wal, 0).at(0)));
    }
    for number in 0..1_000 {
        for offset in [0, 1, 64, 512, 4096, 1 << 40, u64::MAX] {
            assert!(seeds.insert(Salt::new(store(), FileKind::Wal, number).at(offset)), "file {number}, offset {offset}");
        }
    }
}

#[test]
fn block_in_the_wrong_place_is_refused() {
    let salt = Salt::new(store(), FileKind::Wal, 1);
    let mut writer = Writer::new();
    writer.bytes(b"a block of data");
    writer.u64(checksum64(salt.at(4096), b"a block of data"));
    let block = writer.finish();

    let check = |seed| {
        let mut reader = Reader::new(&block, "a file", 4096);
        let data = reader.bytes(15, "data")?;
        reader.checksum64(seed, data, "block checksum")?;
        reader.finish()
    };
    assert_eq!(check(salt.at(4096)), Ok(()));
    assert!(check(salt.at(8192)).is_err(), "another offset");
    assert!(check(Salt::new(store(), FileKind::Wal, 2).at(4096)).is_err(), "another file");
    assert!(check(Salt::new(StoreId([0; 16]), FileKind::Wal, 1).at(4096)).is_err(), "another store");
}

#[test]
fn wrong_checksum_names_what_was_computed_and_what_was_found() {
    let mut writer = Writer::new();
    writer.u128(5);
    writer.u64(5);
    let bytes = writer.finish();
    let mut reader = Reader::new(&bytes, "a file", 100);
    let error = reader.checksum128(0, b"", "footer checksum").unwrap_err();
    assert_eq!(
        error.to_string(),
        "a file is damaged at byte 100: footer checksum: expected 0x99aa06d3014798d86001c324468d497f, \
         found 0x00000000000000000000000000000005"
    );
    reader.u128("skipped").unwrap();
    let error = reader.checksum64(0, b"", "record checksum").unwrap_err();
    assert_eq!(
        error.to_string(),
        "a file is damaged at byte 116: record checksum: expected 0x2d06800538d394c2, found 0x0000000000000005"
    );
}
