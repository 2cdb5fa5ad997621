//! Field tables and the pages rendered from them.

use std::collections::BTreeSet;

use thermocline_format::{ENVELOPE_SIZE_BYTES, ENVELOPE_TABLE, Encoding, Field, FieldTable, FileKind, render_markdown};

const PAIR: FieldTable = FieldTable::new(
    "pair of things",
    "A length and what it counts.",
    &[
        Field::at(0, Encoding::U32, "length", "of the text, in bytes"),
        Field::at(4, Encoding::Variable, "text", "as many bytes as the length says"),
        Field::after(Encoding::U64, "checksum", "of the text"),
    ],
);

#[test]
fn page_holds_title_introduction_and_a_table_for_each_structure() {
    let expected = "\
# Title

An introduction.

## Pair of things (variable size)

A length and what it counts.

| offset | width | encoding | field | meaning |
| ---: | ---: | --- | --- | --- |
| 0 | 4 | u32 | length | of the text, in bytes |
| 4 | varies | bytes | text | as many bytes as the length says |
| after | 8 | u64 | checksum | of the text |
";
    assert_eq!(render_markdown("Title", "An introduction.\n", &[PAIR]), expected);
    assert_eq!(render_markdown("Title", "", &[]), "# Title\n");
}

#[test]
fn envelope_table_fills_the_envelope_and_names_each_field_once() {
    assert_eq!(ENVELOPE_TABLE.size_bytes(), Some(ENVELOPE_SIZE_BYTES));
    let names: BTreeSet<&str> = ENVELOPE_TABLE.fields.iter().map(|field| field.name).collect();
    assert_eq!(names.len(), ENVELOPE_TABLE.fields.len());
}

#[test]
fn size_is_unknown_behind_a_field_of_variable_width() {
    assert_eq!(PAIR.size_bytes(), None);
    assert!(!PAIR.size_bytes_is(12));
}

#[test]
fn size_that_does_not_fit_is_unknown() {
    const HUGE: FieldTable = FieldTable {
        name: "huge",
        summary: "",
        fields: &[Field::at(0, Encoding::Bytes(usize::MAX), "a", ""), Field::after(Encoding::U8, "b", "")],
    };
    assert_eq!(HUGE.size_bytes(), None);
}

#[test]
fn width_of_each_encoding() {
    let widths = [
        (Encoding::U8, Some(1)),
        (Encoding::Bits8, Some(1)),
        (Encoding::U16, Some(2)),
        (Encoding::U32, Some(4)),
        (Encoding::Bits32, Some(4)),
        (Encoding::U64, Some(8)),
        (Encoding::I64, Some(8)),
        (Encoding::U128, Some(16)),
        (Encoding::Bits16, Some(2)),
        (Encoding::Checksum64, Some(8)),
        (Encoding::Checksum128, Some(16)),
        (Encoding::Text(5), Some(5)),
        (Encoding::Bytes(6), Some(6)),
        (Encoding::Zero(7), Some(7)),
        (Encoding::Varint, None),
        (Encoding::Prefixed, None),
        (Encoding::Variable, None),
    ];
    for (encoding, width) in widths {
        assert_eq!(encoding.width(), width, "{}", encoding.name());
    }
}

#[test]
fn table_with_a_wrong_offset_is_refused() {
    const GAP: &[Field] = &[Field::at(0, Encoding::U8, "a", ""), Field::at(2, Encoding::U8, "b", "")];
    const OVERLAP: &[Field] = &[Field::at(0, Encoding::U16, "a", ""), Field::at(1, Encoding::U8, "b", "")];
    const FIXED_AFTER: &[Field] = &[Field::at(0, Encoding::Varint, "a", ""), Field::at(1, Encoding::U8, "b", "")];
    const MISSING: &[Field] = &[Field::after(Encoding::U8, "a", "")];
    for fields in [GAP, OVERLAP, FIXED_AFTER, MISSING] {
        assert!(std::panic::catch_unwind(|| FieldTable::new("", "", fields)).is_err(), "{fields:?} was accepted");
    }
}

#[test]
fn kinds_have_numbers_and_names_of_their_own() {
    let codes: BTreeSet<u16> = FileKind::ALL.iter().map(|kind| kind.code()).collect();
    let names: BTreeSet<&str> = FileKind::ALL.iter().map(|kind| kind.name()).collect();
    assert_eq!((codes.len(), names.len()), (FileKind::ALL.len(), FileKind::ALL.len()));
    assert_eq!(codes.last(), Some(&FileKind::CODE_MAX));
    for &kind in FileKind::ALL {
        assert_eq!(FileKind::from_code(kind.code()), Some(kind));
        assert!(kind.version_min() <= kind.version_max());
        assert!(!kind.meaning().is_empty());
    }
}
