//! The tables of the manifest's format as data, and dumps of manifests with each field beside its meaning.

use std::ops::Range;

use thermocline_format::{Corruption, Dump, Envelope, FieldTable, Purpose, Reader};
use thermocline_tier::EntryKind;

use super::layout::{
    CHECKSUM_OFFSET, FIELDS_LEN, FIELDS_OFFSET, HEADER_TABLE, Header, HeaderRead, RECORD_HEADER_LEN, RECORD_HEADER_TABLE,
    RECORDS_OFFSET, RecordHeader, RecordKind, TRAILER_LEN, label_of,
};
use super::payload::PAYLOAD_TABLES;
use super::{to_len, to_u64};

/// How many fields of the header come before its reserved bytes.
const HEADER_FIELDS: usize = 3;

/// The field tables of the manifest's format, from which its page of documentation is rendered: the file's header (which follows
/// the envelope), the record's header, the payloads and what they are made of.
///
/// ```
/// assert!(thermocline_warm::manifest_format_tables().iter().any(|table| table.name == "manifest header"));
/// ```
pub fn manifest_format_tables() -> Vec<FieldTable> {
    let of_strategy = thermocline_migration::format_tables().iter().copied();
    [HEADER_TABLE, RECORD_HEADER_TABLE].into_iter().chain(PAYLOAD_TABLES).chain(of_strategy).collect()
}

/// The bytes of manifest `number`, field by field, for golden tests and for people who look into a file. Damage does not stop it
/// before it must: what cannot be read becomes a row that says so, and the rest is left out. Stretches of zeros are named, not
/// shown.
///
/// ```
/// let dump = thermocline_warm::dump_manifest(b"THERMOCL", 1).to_string();
/// assert!(dump.contains("magic"));
/// ```
pub fn dump_manifest(bytes: &[u8], number: u64) -> Dump {
    dump_manifest_part(bytes, number, 0..u64::MAX)
}

/// As [`dump_manifest`], of what lies in `window` alone, in bytes from the start of the file, and of where its records end.
///
/// ```
/// let dump = thermocline_warm::dump_manifest_part(b"THERMOCL", 1, 4096..8192).to_string();
/// assert!(!dump.contains("magic"));
/// ```
pub fn dump_manifest_part(bytes: &[u8], number: u64, window: Range<u64>) -> Dump {
    let mut dump = Dump::within(window);
    Envelope::dump(bytes, &mut dump);
    let Some((head, _)) = bytes.split_at_checked(to_len(RECORDS_OFFSET)) else {
        return dump;
    };
    let known = FieldTable { fields: HEADER_TABLE.fields.get(..HEADER_FIELDS).unwrap_or_default(), ..HEADER_TABLE };
    let (from, to) = (to_len(FIELDS_OFFSET), to_len(CHECKSUM_OFFSET));
    dump.table(&known, FIELDS_OFFSET, head.get(from..from + FIELDS_LEN).unwrap_or_default());
    let reserved = head.get(from + FIELDS_LEN..to).unwrap_or_default();
    gap(&mut dump, FIELDS_OFFSET + to_u64(FIELDS_LEN), reserved, "reserved");
    dump.row(CHECKSUM_OFFSET, head.get(to..).unwrap_or_default(), "checksum", "");
    match Header::decode(head, number, Purpose::Read) {
        Ok(header) => records(&mut dump, bytes, &header),
        Err(error) => dump.note(0, "manifest header", error.to_string()),
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

fn records(dump: &mut Dump, bytes: &[u8], header: &Header) {
    let label = label_of(header.number);
    let mut offset = RECORDS_OFFSET;
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
        if !dump.wants(&(offset..offset + record.size())) {
            offset += record.size();
            continue;
        }
        dump.table(&RECORD_HEADER_TABLE, offset, rest.get(..RECORD_HEADER_LEN).unwrap_or_default());
        let size = to_len(record.size());
        let (end, trailer) = (RECORD_HEADER_LEN + to_len(u64::from(record.payload_len)), size - TRAILER_LEN);
        let mut reader =
            Reader::new(rest.get(RECORD_HEADER_LEN..end).unwrap_or_default(), label, offset + to_u64(RECORD_HEADER_LEN));
        if let Err(damage) = payload(&mut Rows { dump, reader: &mut reader }, record.kind) {
            dump.row(damage.offset(), &[], damage.part().to_owned(), damage.to_string());
        }
        gap(dump, offset + to_u64(end), rest.get(end..trailer).unwrap_or_default(), "padding");
        dump.row(offset + to_u64(trailer), rest.get(trailer..size).unwrap_or_default(), "trailer", "");
        offset += record.size();
    }
}

fn payload(rows: &mut Rows<'_, '_>, kind: RecordKind) -> Result<(), Corruption> {
    match kind {
        RecordKind::Snapshot => {
            for name in ["next file number", "last rank", "last marker", "flushed", "rewritten"] {
                rows.u64(name)?;
            }
            edit(rows)?;
        }
        RecordKind::Edit => edit(rows)?,
        RecordKind::Witness => {}
    }
    rows.reader.clone().finish()
}

fn edit(rows: &mut Rows<'_, '_>) -> Result<(), Corruption> {
    let parts = rows.number("parts", |reader, part| reader.u8(part).map(u64::from))?;
    if parts & 1 != 0 {
        rows.u64("checkpoint's version")?;
        rows.bytes("checkpoint's state")?;
    }
    if parts & 2 != 0 {
        rows.u64("horizon")?;
    }
    rows.list("removed files", |rows| rows.u64("removed file"))?;
    rows.list("moved files", |rows| {
        rows.u64("moved file")?;
        rows.u8("level")
    })?;
    rows.list("added files", file)?;
    rows.list("tables", |rows| rows.table("table"))?;
    rows.list("forgotten drops", |rows| {
        rows.key("forgotten drop")?;
        rows.u64("version")
    })?;
    rows.list("drops", |rows| {
        rows.key("drop")?;
        rows.u64("version")?;
        rows.u64("marker")
    })?;
    rows.list("forgotten clears", |rows| rows.table("forgotten clear"))?;
    rows.list("clears", |rows| {
        rows.table("clear")?;
        rows.u64("marker")
    })?;
    if parts & 4 == 0 {
        return Ok(());
    }
    rows.list("summaries", |rows| {
        rows.u64("summarized file")?;
        rows.bytes("summary")
    })
}

fn file(rows: &mut Rows<'_, '_>) -> Result<(), Corruption> {
    rows.u64("file number")?;
    rows.u8("level")?;
    rows.u64("size")?;
    rows.read("checksum", |reader| reader.u64("checksum"), |checksum| format!("{checksum:#018x}"))?;
    for name in ["oldest version", "newest version", "applied", "rank"] {
        rows.u64(name)?;
    }
    rows.key("first key")?;
    rows.key("last key")?;
    rows.list("file's tables", |rows| {
        rows.table("table")?;
        for name in ["keys", "entries", "tombstones", "user bytes"] {
            rows.number(name, Reader::varint)?;
        }
        Ok(())
    })?;
    rows.bytes("summary")
}

/// Makes a row of each thing that it reads.
struct Rows<'d, 'r> {
    dump: &'d mut Dump,
    reader: &'d mut Reader<'r>,
}

impl<'r> Rows<'_, 'r> {
    fn read<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&mut Reader<'r>) -> Result<T, Corruption>,
        meaning: impl FnOnce(&T) -> String,
    ) -> Result<T, Corruption> {
        let start = self.reader.clone();
        let found = read(self.reader)?;
        let taken = start.remaining() - self.reader.remaining();
        self.dump.row(start.offset(), start.peek().get(..taken).unwrap_or_default(), name, meaning(&found));
        Ok(found)
    }

    fn number(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&mut Reader<'r>, &'static str) -> Result<u64, Corruption>,
    ) -> Result<u64, Corruption> {
        self.read(name, |reader| read(reader, name), u64::to_string)
    }

    fn u64(&mut self, name: &'static str) -> Result<(), Corruption> {
        self.number(name, Reader::u64).map(drop)
    }

    fn u8(&mut self, name: &'static str) -> Result<(), Corruption> {
        self.read(name, |reader| reader.u8(name), u8::to_string).map(drop)
    }

    fn bytes(&mut self, name: &'static str) -> Result<(), Corruption> {
        self.read(name, |reader| reader.prefixed(usize::MAX, name), |bytes| format!("\"{}\"", bytes.escape_ascii())).map(drop)
    }

    fn table(&mut self, name: &'static str) -> Result<(), Corruption> {
        let meaning = |(tag, id): &(u8, u32)| {
            EntryKind::from_parts(*tag, *id).map_or_else(|| "no table".to_owned(), |table| table.to_string())
        };
        self.read(name, |reader| Ok((reader.u8(name)?, reader.u32(name)?)), meaning).map(drop)
    }

    fn key(&mut self, name: &'static str) -> Result<(), Corruption> {
        self.table(name)?;
        self.bytes("prefix")
    }

    /// A count and so many items. Each item takes at least a byte, so this ends with the bytes.
    fn list(&mut self, name: &'static str, item: impl Fn(&mut Self) -> Result<(), Corruption>) -> Result<(), Corruption> {
        let count = self.number(name, Reader::varint)?;
        (0..count).try_for_each(|_| item(self))
    }
}
