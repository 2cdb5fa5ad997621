//! The bytes of a checkpoint's state: what the store itself must know at the checkpoint's version, encode beside decode. They lie
//! in the durable tier, which hands them back when it is opened.
//!
//! ```text
//! byte 0         2       3      4
//!      +---------+-------+------+----------------+--------+-------------------+-----------+----------+
//!      | version | flags | zero | log base       | tables | marks of a table  | retention | checksum |
//!      | u16     | u8    | 1    | if flag 0 says | varint | as many as tables |           | u64      |
//!      +---------+-------+------+----------------+--------+-------------------+-----------+----------+
//!      '----------------------- covered by the checksum -----------------------------------'
//!
//! log base | segment | after | time | layout         |
//!          | u64     | u64   | u64  | varint, bytes  |
//! marks    | table   | floor | clears | cleared at, ..      |
//!          | 5 bytes | u64   | varint | u64 each, ascending |
//! ```

#![deny(
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "bytes from disk must not be able to cause a panic or to be narrowed in silence"
)]

use bytes::Bytes;
use thermocline_drop::Change;
use thermocline_format::{Corruption, Encoding, Field, FieldTable, FormatError, Reader, Writer, checksum64};
use thermocline_tier::{EntryKind, Error, ErrorKind, Result, Version};
use thermocline_wal::{Genesis, LAYOUT_NAME_SIZE_BYTES_MAX, LogBase};

use crate::marks::MarkedTable;

/// What errors call these bytes.
const LABEL: &str = "the state in the checkpoint";
/// The version of the layout.
const VERSION: u16 = 1;
/// The flag that says that a log base follows.
const HAS_BASE: u8 = 1;
/// The seed of the checksum, so that no other checked bytes of ours pass for these.
const SEED: u64 = u64::from_le_bytes(*b"tcstate1");

/// A table's tag and id, a floor, no clears.
const MARKS_LEN_MIN: usize = 14;
const VERSION_LEN: usize = 8;

const TABLES: [FieldTable; 3] = [
    FieldTable::new(
        "checkpoint state",
        "What the store itself knows at the version of the checkpoint. The checksum covers all bytes before it, with the seed \
         `tcstate1`.",
        &[
            Field::at(0, Encoding::U16, "version", "of this layout: 1"),
            Field::at(2, Encoding::Bits8, "flags", "bit 0: a log base follows"),
            Field::at(3, Encoding::Zero(1), "reserved", ""),
            Field::at(4, Encoding::Variable, "log base", "if the flag is set"),
            Field::after(Encoding::Varint, "tables", "how many tables have marks"),
            Field::after(Encoding::Variable, "marks", "of each of these tables, ascending"),
            Field::after(
                Encoding::Variable,
                "retention",
                "horizons, pins and policies: a list of changes, as the notes of the log have it",
            ),
            Field::after(Encoding::Checksum64, "checksum", "of all bytes before"),
        ],
    ),
    FieldTable::new(
        "log base",
        "Where the log begins: what lies before is covered by the checkpoint and may be gone.",
        &[
            Field::at(0, Encoding::U64, "segment", "the number of the log's first segment"),
            Field::at(8, Encoding::U64, "after", "the last version before that segment"),
            Field::at(16, Encoding::U64, "time", "when the store was made, in microseconds since the Unix epoch"),
            Field::at(24, Encoding::Prefixed, "layout", "the name of the key layout, UTF-8, at most 1,024 bytes"),
        ],
    ),
    FieldTable::new(
        "table marks",
        "What holds for a whole table.",
        &[
            Field::at(0, Encoding::U8, "table tag", "0 multi, 1 source, 2 operator"),
            Field::at(1, Encoding::U32, "table id", "0 for multi"),
            Field::at(5, Encoding::U64, "floor", "the version of the last purge, 0 if there was none"),
            Field::at(13, Encoding::Varint, "clears", "how many follow"),
            Field::after(Encoding::Variable, "cleared at", "8 bytes each: the versions of the clears, ascending"),
        ],
    ),
];

/// The field tables of the store's part of a checkpoint, for its page of documentation.
///
/// ```
/// assert!(thermocline_store::format_tables().iter().any(|table| table.name == "log base"));
/// ```
pub fn format_tables() -> Vec<FieldTable> {
    TABLES.into_iter().chain(thermocline_drop::format_tables()).collect()
}

/// The store's own part of a checkpoint.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    /// Where the log begins; `None` if it begins with the first segment that there ever was.
    pub(crate) base: Option<LogBase>,
    /// The tables with marks, ascending.
    pub(crate) marks: Vec<MarkedTable>,
    /// Horizons, pins and policies.
    pub(crate) retention: Vec<Change>,
}

impl State {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = Writer::new();
        out.u16(VERSION);
        out.u8(if self.base.is_some() { HAS_BASE } else { 0 });
        out.zeros(1);
        if let Some(base) = &self.base {
            out.u64(base.number);
            out.u64(base.after.0);
            out.u64(base.genesis.time);
            out.prefixed(base.genesis.layout.as_bytes());
        }
        out.length(self.marks.len());
        for marked in &self.marks {
            let (tag, id) = marked.table.to_parts();
            out.u8(tag);
            out.u32(id);
            out.u64(marked.floor.0);
            out.length(marked.clears.len());
            marked.clears.iter().for_each(|clear| out.u64(clear.0));
        }
        out.bytes(&thermocline_drop::encode(&self.retention));
        let checksum = checksum64(SEED, out.as_slice());
        out.u64(checksum);
        Bytes::from(out.finish())
    }

    /// The state of a checkpoint; that of the very first one has no bytes.
    ///
    /// # Errors
    /// [`Corruption`](ErrorKind::Corruption), or [`UnsupportedFormat`](ErrorKind::UnsupportedFormat) for one of a newer release.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        read(bytes).map_err(|error| match error {
            FormatError::Unsupported { .. } => Error::with_source(ErrorKind::UnsupportedFormat, error),
            damage => Error::with_source(ErrorKind::Corruption, damage),
        })
    }
}

fn read(bytes: &[u8]) -> std::result::Result<State, FormatError> {
    let Some((body, _)) = bytes.split_last_chunk::<8>() else {
        let found = format!("{} bytes", bytes.len());
        return Err(Corruption::new(LABEL, 0, "length", "at least 8 bytes", found).into());
    };
    let mut all = Reader::new(bytes, LABEL, 0);
    let mut reader = all.part(body.len(), "body")?;
    // The checksum comes first, so that damage is not taken for a newer release.
    let version = reader.clone().u16("version")?;
    all.checksum64(SEED, body, "checksum")?;
    all.finish()?;
    if version > VERSION {
        let (found, max) = (u64::from(version), u64::from(VERSION));
        return Err(FormatError::Unsupported { file: LABEL.into(), what: "layout version", found, max });
    }
    let state = read_body(&mut reader)?;
    reader.finish()?;
    Ok(state)
}

fn read_body(reader: &mut Reader<'_>) -> std::result::Result<State, Corruption> {
    let at = reader.offset();
    if reader.u16("version")? != VERSION {
        return Err(Corruption::new(LABEL, at, "version", "1", "0"));
    }
    let at = reader.offset();
    let flags = reader.u8("flags")?;
    if flags & !HAS_BASE != 0 {
        return Err(Corruption::new(LABEL, at, "flags", "0 or 1", flags.to_string()));
    }
    reader.zeros(1, "reserved")?;
    let base = if flags & HAS_BASE == 0 { None } else { Some(read_base(reader)?) };
    let count = reader.count(usize::MAX, MARKS_LEN_MIN, "tables")?;
    let mut marks: Vec<MarkedTable> = Vec::with_capacity(count);
    for _table in 0..count {
        let at = reader.offset();
        let marked = read_marks(reader)?;
        if marks.last().is_some_and(|before| before.table >= marked.table) {
            return Err(Corruption::new(LABEL, at, "table", "above the one before", marked.table.to_string()));
        }
        marks.push(marked);
    }
    let at = reader.offset();
    let retention = thermocline_drop::decode(reader.take_rest(), LABEL.into(), at)?;
    Ok(State { base, marks, retention })
}

fn read_base(reader: &mut Reader<'_>) -> std::result::Result<LogBase, Corruption> {
    let (number, after) = (reader.u64("log base segment")?, Version(reader.u64("log base after")?));
    let time = reader.u64("log base time")?;
    let at = reader.offset();
    let layout = reader.prefixed(LAYOUT_NAME_SIZE_BYTES_MAX, "log base layout")?;
    match std::str::from_utf8(layout) {
        Ok(layout) => Ok(LogBase { number, after, genesis: Genesis { layout: layout.to_owned(), time } }),
        Err(_) => Err(Corruption::new(LABEL, at, "log base layout", "UTF-8", "other bytes")),
    }
}

fn read_marks(reader: &mut Reader<'_>) -> std::result::Result<MarkedTable, Corruption> {
    let at = reader.offset();
    let (tag, id) = (reader.u8("table tag")?, reader.u32("table id")?);
    let Some(table) = EntryKind::from_parts(tag, id) else {
        let found = format!("tag {tag}, id {id}");
        return Err(Corruption::new(LABEL, at, "table", "tag 0 with id 0, or tag 1 or 2", found));
    };
    let floor = Version(reader.u64("floor")?);
    let count = reader.count(usize::MAX, VERSION_LEN, "clears")?;
    let mut clears: Vec<Version> = Vec::with_capacity(count);
    for _clear in 0..count {
        let at = reader.offset();
        let clear = Version(reader.u64("cleared at")?);
        if clears.last().is_some_and(|before| *before >= clear) {
            return Err(Corruption::new(LABEL, at, "cleared at", "above the one before", clear.to_string()));
        }
        clears.push(clear);
    }
    Ok(MarkedTable { table, floor, clears })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        let genesis = Genesis { layout: "whole-key".into(), time: 1_700_000_000_000_000 };
        let base = LogBase { number: 26, after: Version(9), genesis };
        let marks = vec![
            MarkedTable { table: EntryKind::Multi, floor: Version(7), clears: vec![] },
            MarkedTable { table: EntryKind::source(7), floor: Version::ZERO, clears: vec![Version(3), Version(300)] },
        ];
        State { base: Some(base), marks, retention: vec![Change::Horizon(Version(2))] }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
    }

    /// The bytes of layout version 1: what this release writes, and what every later one must still read.
    const GOLDEN: &str = "010001001a00000000000000090000000000000000401e18240a06000977686f6c652d6b6579020000000000070000000000000000\
                          010700000000000000000000000203000000000000002c01000000000000010102000000000000005f081a81ed9ee571";

    #[test]
    fn bytes_of_the_layout_are_these() {
        assert_eq!(hex(&state().encode()), GOLDEN);
        assert!(hex(&State::default().encode()).starts_with("0100000000"));
    }

    #[test]
    fn what_was_encoded_is_decoded() {
        for state in
            [state(), State::default(), State { base: None, ..state() }, State { marks: vec![], retention: vec![], ..state() }]
        {
            let decoded = State::decode(&state.encode()).unwrap();
            assert_eq!(format!("{decoded:?}"), format!("{state:?}"));
        }
        assert!(State::decode(&[]).unwrap().base.is_none());
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_found() {
        let bytes = state().encode();
        for cut in 1..bytes.len() {
            assert_eq!(State::decode(&bytes[..cut]).unwrap_err().kind(), &ErrorKind::Corruption, "cut at {cut}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let error = State::decode(&damaged).unwrap_err();
            assert_eq!(error.kind(), &ErrorKind::Corruption, "bit {bit}");
            assert!(error.to_string().contains(LABEL), "{error}");
        }
    }

    /// As [`State::encode`], for a body with a mistake in it.
    fn sealed(mut body: Vec<u8>) -> Vec<u8> {
        let checksum = checksum64(SEED, &body);
        body.extend(checksum.to_le_bytes());
        body
    }

    #[test]
    fn bodies_that_were_never_written_are_refused() {
        let body = |bytes: &[u8]| State::decode(&sealed(bytes.to_vec())).unwrap_err();
        assert_eq!(body(&[2, 0, 0, 0, 0]).kind(), &ErrorKind::UnsupportedFormat);
        let refused: [&[u8]; 9] = [
            &[0, 0, 0, 0, 0],
            &[1, 0, 2, 0, 0],
            &[1, 0, 0, 1, 0],
            &[1, 0, 0, 0],
            &[1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x7f],
            &[1, 0, 0, 0, 0, 0, 0],
            &[1, 0, 0, 0, 0, 1, 9],
            // A table of an unknown kind; clears that do not ascend.
            &[1, 0, 0, 0, 1, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 5, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0],
        ];
        for bytes in refused {
            assert_eq!(body(bytes).kind(), &ErrorKind::Corruption, "{bytes:?}");
        }
    }
}
