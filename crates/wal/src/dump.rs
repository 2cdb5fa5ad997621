//! The tables of the log's format as data, and dumps of segments with each field beside its meaning.

use std::ops::Range;

use thermocline_format::{Corruption, Dump, Envelope, FieldTable, FileKind, FileLabel, Purpose, Reader};
use thermocline_tier::EntryKind;

use crate::layout::{
    HeaderRead, RECORD_HEADER_LEN, RECORD_HEADER_TABLE, RecordHeader, RecordKind, SEGMENT_HEADER_SIZE, SEGMENT_HEADER_TABLE,
    SegmentHeader, TRAILER_LEN,
};
use crate::payload::PAYLOAD_TABLES;
use crate::{to_len, to_u64};

/// How many fields of the segment's header come before its reserved bytes.
const SEGMENT_FIELDS: usize = 7;
const SEGMENT_FIELDS_OFFSET: u64 = 64;
const SEGMENT_CHECKSUM_OFFSET: u64 = 4088;
/// Of a value that is longer, its meaning has the beginning.
const TEXT_SIZE_BYTES_MAX: usize = 1024;

/// The field tables of the log's format, from which its page of documentation is rendered: the segment's header (which follows the
/// envelope), the record's header, and the payloads.
///
/// ```
/// assert!(thermocline_wal::format_tables().iter().any(|table| table.name == "record header"));
/// ```
pub fn format_tables() -> Vec<FieldTable> {
    [SEGMENT_HEADER_TABLE, RECORD_HEADER_TABLE].into_iter().chain(PAYLOAD_TABLES).collect()
}

/// The bytes of segment `number`, field by field, for golden tests and for people who look into a file. Damage does not stop it before
/// it must: what cannot be read becomes a row that says so, and the rest is left out. Stretches of zeros are named, not shown.
///
/// ```
/// let dump = thermocline_wal::dump_segment(b"THERMOCL", 1).to_string();
/// assert!(dump.contains("magic"));
/// ```
pub fn dump_segment(bytes: &[u8], number: u64) -> Dump {
    dump_segment_part(bytes, number, 0..u64::MAX)
}

/// As [`dump_segment`], of what lies in `window` alone, in bytes from the start of the file, and of where its records end. Takes memory
/// for that only.
///
/// ```
/// let dump = thermocline_wal::dump_segment_part(b"THERMOCL", 1, 4096..8192).to_string();
/// assert!(!dump.contains("magic"));
/// ```
pub fn dump_segment_part(bytes: &[u8], number: u64, window: Range<u64>) -> Dump {
    let mut dump = Dump::within(window);
    let label = FileLabel::numbered(FileKind::Wal, number);
    Envelope::dump(bytes, &mut dump);
    let Some((head, _)) = bytes.split_at_checked(to_len(SEGMENT_HEADER_SIZE)) else {
        return dump;
    };
    let fields = SEGMENT_HEADER_TABLE.fields.get(..SEGMENT_FIELDS).unwrap_or_default();
    let known = FieldTable { fields, ..SEGMENT_HEADER_TABLE };
    let (from, to) = (to_len(SEGMENT_FIELDS_OFFSET), to_len(SEGMENT_CHECKSUM_OFFSET));
    let shown = known.size_bytes().unwrap_or_default();
    dump.table(&known, SEGMENT_FIELDS_OFFSET, head.get(from..from + shown).unwrap_or_default());
    let reserved = head.get(from + shown..to).unwrap_or_default();
    gap(&mut dump, SEGMENT_FIELDS_OFFSET + to_u64(shown), reserved, "reserved");
    dump.row(SEGMENT_CHECKSUM_OFFSET, head.get(to..).unwrap_or_default(), "checksum", "");
    match SegmentHeader::decode(head, number, None, Purpose::Read) {
        Ok(header) => records(&mut dump, bytes, &header, label),
        Err(error) => dump.note(0, "segment header", error.to_string()),
    }
    dump
}

/// Bytes without a meaning: named if they are zeros, else shown.
fn gap(dump: &mut Dump, offset: u64, bytes: &[u8], name: &str) {
    if bytes.iter().all(|&byte| byte == 0) {
        dump.row(offset, &[], name, format!("{} zero bytes", bytes.len()));
    } else {
        dump.row(offset, bytes, name, "");
    }
}

fn records(dump: &mut Dump, bytes: &[u8], header: &SegmentHeader, label: FileLabel) {
    let mut offset = SEGMENT_HEADER_SIZE;
    loop {
        let rest = bytes.get(to_len(offset)..).unwrap_or_default();
        let record = match RecordHeader::read(rest, label, header.salt(), offset) {
            HeaderRead::Valid(record) => record,
            HeaderRead::Empty if rest.iter().all(|&byte| byte == 0) => {
                return dump.note(offset, "end", format!("{} zero bytes", rest.len()));
            }
            HeaderRead::Empty => return dump.row(offset, rest, "end", ""),
            HeaderRead::Broken(damage) => return dump.note(offset, "end", damage.to_string()),
            HeaderRead::Impossible(error) => return dump.note(offset, "end", error.to_string()),
        };
        let (end, next) = (to_len(record.end(offset) - offset), to_len(record.next(offset, header.padding) - offset));
        if !dump.wants(&(offset..offset + to_u64(next))) {
            offset += to_u64(next);
            continue;
        }
        dump.table(&RECORD_HEADER_TABLE, offset, rest.get(..RECORD_HEADER_LEN).unwrap_or_default());
        let payload_offset = offset + to_u64(RECORD_HEADER_LEN);
        let mut reader = Reader::new(rest.get(RECORD_HEADER_LEN..end).unwrap_or_default(), label, payload_offset);
        if let Err(damage) = payload(dump, &record, &mut reader) {
            dump.row(damage.offset(), &[], damage.part().to_owned(), damage.to_string());
        }
        if record.flags.is_padded {
            let trailer = next.saturating_sub(TRAILER_LEN);
            gap(dump, offset + to_u64(end), rest.get(end..trailer).unwrap_or_default(), "padding");
            dump.row(offset + to_u64(trailer), rest.get(trailer..next).unwrap_or_default(), "trailer", "");
        }
        offset += to_u64(next);
    }
}

fn payload(dump: &mut Dump, record: &RecordHeader, reader: &mut Reader<'_>) -> Result<(), Corruption> {
    match record.kind {
        RecordKind::Genesis => {
            number(dump, reader, "time", Reader::u64)?;
            let start = reader.clone();
            let name = reader.prefixed(usize::MAX, "layout")?;
            row(dump, &start, reader, "layout", name.escape_ascii().to_string());
        }
        RecordKind::Commit => commit(dump, reader)?,
        RecordKind::EnsureTable => table(dump, reader, "table")?,
        RecordKind::PurgeTable => {
            number(dump, reader, "version", Reader::u64)?;
            number(dump, reader, "time", Reader::u64)?;
            table(dump, reader, "table")?;
        }
        RecordKind::Note => bytes(dump, reader, "note", to_u64(reader.remaining()))?,
        RecordKind::Witness | RecordKind::Close => {}
    }
    reader.clone().finish()
}

fn commit(dump: &mut Dump, reader: &mut Reader<'_>) -> Result<(), Corruption> {
    number(dump, reader, "version", Reader::u64)?;
    number(dump, reader, "time", Reader::u64)?;
    for _ in 0..number(dump, reader, "clears", Reader::varint)? {
        table(dump, reader, "cleared table")?;
    }
    while !reader.is_empty() {
        table(dump, reader, "run table")?;
        for _ in 0..number(dump, reader, "run count", |reader, part| reader.u32(part).map(u64::from))? {
            let key = number(dump, reader, "key length", Reader::varint)?;
            number(dump, reader, "suffix length", Reader::varint)?;
            let value = number(dump, reader, "value length", Reader::varint)?;
            bytes(dump, reader, "key", key)?;
            bytes(dump, reader, "value", value.saturating_sub(1))?;
        }
    }
    Ok(())
}

/// A row of what was read between two states of a reader.
fn row(dump: &mut Dump, start: &Reader<'_>, end: &Reader<'_>, name: &str, meaning: String) {
    let taken = start.remaining() - end.remaining();
    dump.row(start.offset(), start.peek().get(..taken).unwrap_or_default(), name, meaning);
}

fn number<'a>(
    dump: &mut Dump,
    reader: &mut Reader<'a>,
    name: &'static str,
    read: impl Fn(&mut Reader<'a>, &'static str) -> Result<u64, Corruption>,
) -> Result<u64, Corruption> {
    let start = reader.clone();
    let found = read(reader, name)?;
    row(dump, &start, reader, name, found.to_string());
    Ok(found)
}

fn table(dump: &mut Dump, reader: &mut Reader<'_>, name: &'static str) -> Result<(), Corruption> {
    let start = reader.clone();
    let (tag, id) = (reader.u8(name)?, reader.u32(name)?);
    let meaning = EntryKind::from_parts(tag, id).map_or_else(|| "no table".to_owned(), |table| table.to_string());
    row(dump, &start, reader, name, meaning);
    Ok(())
}

fn bytes(dump: &mut Dump, reader: &mut Reader<'_>, name: &'static str, len: u64) -> Result<(), Corruption> {
    let start = reader.clone();
    let found = reader.bytes(to_len(len), name)?;
    if !found.is_empty() {
        row(dump, &start, reader, name, text(found));
    }
    Ok(())
}

fn text(bytes: &[u8]) -> String {
    match bytes.get(..TEXT_SIZE_BYTES_MAX) {
        Some(shown) => format!("\"{}\"... of {} bytes", shown.escape_ascii(), bytes.len()),
        None => format!("\"{}\"", bytes.escape_ascii()),
    }
}
