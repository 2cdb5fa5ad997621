//! Annotated dumps: bytes beside their meaning, for golden tests and for people who look into a file.

use std::fmt;
use std::ops::Range;

use crate::reader::{Reader, widen};
use crate::table::{Encoding, Field, FieldTable};

const BYTES_PER_LINE: usize = 16;

/// Rows of bytes with their offset, name and meaning, rendered as aligned text. Bytes that need more than one line go on under the
/// first, 16 a line.
///
/// ```
/// use thermocline_format::Dump;
///
/// let mut dump = Dump::new();
/// dump.row(0, b"THERMOCL", "magic", "\"THERMOCL\"");
/// dump.row(8, &[1, 0], "kind", "1");
/// assert_eq!(
///     dump.to_string(),
///     "00000000  54 48 45 52 4d 4f 43 4c  magic  \"THERMOCL\"\n\
///      00000008  01 00                    kind   1\n"
/// );
/// ```
///
/// A dump of a part of a long file keeps only the rows of what lies in a window, and notes:
///
/// ```
/// use thermocline_format::Dump;
///
/// let mut dump = Dump::within(8..16);
/// dump.row(0, b"THERMOCL", "magic", "");
/// dump.row(8, &[1, 0], "kind", "1");
/// dump.note(99, "end", "cut off");
/// assert_eq!(dump.to_string(), "00000008  01 00  kind  1\n00000063         end   cut off\n");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dump {
    rows: Vec<Row>,
    window: Range<u64>,
    place: Option<Range<u64>>,
}

impl Default for Dump {
    fn default() -> Self {
        Self::new()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    offset: u64,
    bytes: Vec<u8>,
    name: String,
    meaning: String,
}

impl Dump {
    /// A dump without rows.
    pub const fn new() -> Self {
        Self::within(0..u64::MAX)
    }

    /// A dump that keeps only rows of what lies at least in part in `window`, in bytes from the start of the file.
    pub const fn within(window: Range<u64>) -> Self {
        Self { rows: Vec::new(), window, place: None }
    }

    /// Whether rows of the bytes in `place` are kept, so that what nobody will see need not be worked out. An empty place counts as the
    /// byte that it lies before.
    pub fn wants(&self, place: &Range<u64>) -> bool {
        place.start < self.window.end && place.end.max(place.start.saturating_add(1)) > self.window.start
    }

    /// Says that the rows from now on are about the bytes in `place`, whatever offsets they name: for parts that are not stored as they
    /// are shown. `None`: they are about the bytes that they have.
    pub fn set_place(&mut self, place: Option<Range<u64>>) {
        self.place = place;
    }

    /// Adds the `bytes` that lie `offset` bytes after the start of the file. `meaning` is their value in words, and may be empty. Of bytes
    /// that lie in the window in part, that part is kept.
    pub fn row(&mut self, offset: u64, bytes: &[u8], name: impl Into<String>, meaning: impl Into<String>) {
        let (offset, bytes) = match &self.place {
            Some(place) if self.wants(place) => (offset, bytes),
            None if self.wants(&(offset..offset.saturating_add(widen(bytes.len())))) => self.clip(offset, bytes),
            _ => return,
        };
        self.rows.push(Row { offset, bytes: bytes.to_vec(), name: name.into(), meaning: meaning.into() });
    }

    /// The part of `bytes` in the window, and its offset.
    fn clip<'a>(&self, offset: u64, bytes: &'a [u8]) -> (u64, &'a [u8]) {
        let to = usize::try_from(self.window.end.saturating_sub(offset)).unwrap_or(usize::MAX);
        let bytes = bytes.get(..to).unwrap_or(bytes);
        let before = self.window.start.saturating_sub(offset);
        match usize::try_from(before).ok().and_then(|from| bytes.get(from..)).filter(|rest| !rest.is_empty()) {
            Some(rest) => (offset.saturating_add(before), rest),
            None => (offset, bytes),
        }
    }

    /// Adds a row without bytes, which is kept wherever it lies: where the file ends, what is wrong with it.
    pub fn note(&mut self, offset: u64, name: impl Into<String>, meaning: impl Into<String>) {
        self.rows.push(Row { offset, bytes: Vec::new(), name: name.into(), meaning: meaning.into() });
    }

    /// Adds a row for each field of `table` as `bytes` have it, the first of which lies `offset` bytes after the start of the file. The
    /// last field of variable width takes what is left. Bytes that end too early, or that a field cannot be read from, become a row
    /// that says so: a dump is for looking at damage, too.
    pub fn table(&mut self, table: &FieldTable, offset: u64, bytes: &[u8]) {
        let mut reader = Reader::new(bytes, "a dump", offset);
        for field in table.fields {
            let start = reader.offset();
            let before = reader.peek();
            let Some(meaning) = value(&mut reader, field) else {
                self.row(start, before, field.name, "(cut off or malformed)");
                return;
            };
            let taken = before.len().saturating_sub(reader.remaining());
            self.row(start, before.get(..taken).unwrap_or(before), field.name, meaning);
        }
        if !reader.is_empty() {
            self.row(reader.offset(), reader.peek(), "rest", "");
        }
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

/// The field's value in words; `None` if the bytes do not have it.
fn value(reader: &mut Reader<'_>, field: &Field) -> Option<String> {
    let part = field.name;
    let text = match field.encoding {
        Encoding::U8 => reader.u8(part).ok()?.to_string(),
        Encoding::U16 => reader.u16(part).ok()?.to_string(),
        Encoding::U32 => reader.u32(part).ok()?.to_string(),
        Encoding::U64 => reader.u64(part).ok()?.to_string(),
        Encoding::U128 | Encoding::Checksum128 => format!("{:#034x}", reader.u128(part).ok()?),
        Encoding::Checksum64 => format!("{:#018x}", reader.u64(part).ok()?),
        Encoding::I64 => reader.i64(part).ok()?.to_string(),
        Encoding::Bits8 => format!("{:#010b}", reader.u8(part).ok()?),
        Encoding::Bits16 => format!("{:#06x}", reader.u16(part).ok()?),
        Encoding::Bits32 => format!("{:#010x}", reader.u32(part).ok()?),
        Encoding::Text(count) => quoted(reader.bytes(count, part).ok()?),
        Encoding::Bytes(count) => bytes_value(reader.bytes(count, part).ok()?),
        Encoding::Zero(count) => {
            let zero = reader.bytes(count, part).ok()?.iter().all(|&byte| byte == 0);
            if zero { "zero".to_owned() } else { "not zero".to_owned() }
        }
        Encoding::Varint => reader.varint(part).ok()?.to_string(),
        Encoding::Prefixed => bytes_value(reader.prefixed(usize::MAX, part).ok()?),
        Encoding::Variable => bytes_value(reader.take_rest()),
    };
    Some(text)
}

fn quoted(text: &[u8]) -> String {
    format!("\"{}\"", text.escape_ascii())
}

fn bytes_value(bytes: &[u8]) -> String {
    let printable = bytes.iter().all(|&byte| byte == b' ' || byte.is_ascii_graphic());
    if printable { quoted(bytes) } else { format!("{} bytes", bytes.len()) }
}

impl fmt::Display for Dump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let longest = self.rows.iter().map(|row| row.bytes.len()).max().unwrap_or_default();
        let hex_width = longest.min(BYTES_PER_LINE).saturating_mul(3).saturating_sub(1);
        let name_width = self.rows.iter().map(|row| row.name.len()).max().unwrap_or_default();
        for row in &self.rows {
            write_row(f, row, hex_width, name_width)?;
        }
        Ok(())
    }
}

fn write_row(f: &mut fmt::Formatter<'_>, row: &Row, hex_width: usize, name_width: usize) -> fmt::Result {
    let mut offset = row.offset;
    let mut lines = row.bytes.chunks(BYTES_PER_LINE);
    let first = hex(lines.next().unwrap_or_default());
    let line = format!("{offset:08x}  {first:hex_width$}  {:name_width$}  {}", row.name, row.meaning);
    writeln!(f, "{}", line.trim_end())?;
    for bytes in lines {
        offset = offset.saturating_add(widen(BYTES_PER_LINE));
        writeln!(f, "{offset:08x}  {}", hex(bytes))?;
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.join(" ")
}
