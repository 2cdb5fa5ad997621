//! Field tables: the layout of a structure as data, from which the documentation and the dumps are rendered, so that neither can differ
//! from the code's own description.

/// How a field is written.
///
/// ```
/// use thermocline_format::Encoding;
///
/// assert_eq!(Encoding::U32.width(), Some(4));
/// assert_eq!(Encoding::Varint.width(), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Encoding {
    /// One byte, unsigned.
    U8,
    /// 2 bytes, unsigned, little-endian.
    U16,
    /// 4 bytes, unsigned, little-endian.
    U32,
    /// 8 bytes, unsigned, little-endian.
    U64,
    /// 16 bytes, unsigned, little-endian.
    U128,
    /// 8 bytes, two's complement, little-endian.
    I64,
    /// One byte of flags.
    Bits8,
    /// 2 bytes of flags, little-endian.
    Bits16,
    /// 4 bytes of flags, little-endian.
    Bits32,
    /// A 64-bit checksum, little-endian.
    Checksum64,
    /// A 128-bit checksum, little-endian.
    Checksum128,
    /// So many bytes of ASCII text.
    Text(usize),
    /// So many bytes.
    Bytes(usize),
    /// So many bytes that must be zero.
    Zero(usize),
    /// An unsigned integer in LEB128, in its shortest form: 1 to 10 bytes.
    Varint,
    /// A varint length, then so many bytes.
    Prefixed,
    /// As many bytes as the field's meaning says.
    Variable,
}

impl Encoding {
    /// The width in bytes; `None` if it is not always the same.
    pub const fn width(self) -> Option<usize> {
        match self {
            Self::U8 | Self::Bits8 => Some(1),
            Self::U16 | Self::Bits16 => Some(2),
            Self::U32 | Self::Bits32 => Some(4),
            Self::U64 | Self::I64 | Self::Checksum64 => Some(8),
            Self::U128 | Self::Checksum128 => Some(16),
            Self::Text(count) | Self::Bytes(count) | Self::Zero(count) => Some(count),
            Self::Varint | Self::Prefixed | Self::Variable => None,
        }
    }

    /// The name of the encoding in the documentation.
    pub const fn name(self) -> &'static str {
        match self {
            Self::U8 => "u8",
            Self::U16 => "u16",
            Self::U32 => "u32",
            Self::U64 => "u64",
            Self::U128 => "u128",
            Self::I64 => "i64",
            Self::Bits8 => "bits, u8",
            Self::Bits16 => "bits, u16",
            Self::Bits32 => "bits, u32",
            Self::Checksum64 => "checksum, u64",
            Self::Checksum128 => "checksum, u128",
            Self::Text(_) => "text",
            Self::Bytes(_) | Self::Variable => "bytes",
            Self::Zero(_) => "zero",
            Self::Varint => "varint",
            Self::Prefixed => "varint length, bytes",
        }
    }
}

/// One field of a structure.
///
/// ```
/// use thermocline_format::{Encoding, Field};
///
/// const LENGTH: Field = Field::at(0, Encoding::U32, "length", "of the payload, in bytes");
/// const PAYLOAD: Field = Field::after(Encoding::Variable, "payload", "as many bytes as the length says");
/// assert_eq!((LENGTH.offset, PAYLOAD.offset), (Some(0), None));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Where it begins, in bytes from the start of the structure; `None` behind a field of variable width.
    pub offset: Option<usize>,
    /// How it is written.
    pub encoding: Encoding,
    /// Its name: lower case, no full stop.
    pub name: &'static str,
    /// What it says, in Markdown: units, range, special values.
    pub meaning: &'static str,
}

impl Field {
    /// A field at a fixed offset.
    pub const fn at(offset: usize, encoding: Encoding, name: &'static str, meaning: &'static str) -> Self {
        Self { offset: Some(offset), encoding, name, meaning }
    }

    /// A field behind one of variable width.
    pub const fn after(encoding: Encoding, name: &'static str, meaning: &'static str) -> Self {
        Self { offset: None, encoding, name, meaning }
    }
}

/// The layout of one structure.
///
/// ```
/// use thermocline_format::{Encoding, Field, FieldTable};
///
/// const PAIR: FieldTable = FieldTable::new(
///     "pair",
///     "Two numbers.",
///     &[Field::at(0, Encoding::U16, "first", "a number"), Field::at(2, Encoding::U16, "second", "another")],
/// );
/// const _: () = assert!(PAIR.size_bytes_is(4));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldTable {
    /// The structure's name: lower case.
    pub name: &'static str,
    /// What it is, in Markdown: one or more sentences.
    pub summary: &'static str,
    /// Its fields, in the order of their bytes.
    pub fields: &'static [Field],
}

impl FieldTable {
    /// A table of `fields`. As a constant it is checked while compiling.
    ///
    /// # Panics
    /// If the fields leave a gap or overlap, or if a field has an offset though it lies behind one of variable width, or none though
    /// it does not.
    pub const fn new(name: &'static str, summary: &'static str, fields: &'static [Field]) -> Self {
        let mut rest = fields;
        let mut next = Some(0);
        while let [field, after @ ..] = rest {
            match (field.offset, next) {
                (Some(offset), Some(end)) => assert!(offset == end, "a field must begin where the one before it ends"),
                (Some(_), None) => assert!(next.is_some(), "a field behind one of variable width has no fixed offset"),
                (None, Some(_)) => assert!(next.is_none(), "a field behind fields of fixed width has an offset"),
                (None, None) => {}
            }
            next = match (next, field.encoding.width()) {
                (Some(end), Some(width)) => end.checked_add(width),
                _ => None,
            };
            rest = after;
        }
        Self { name, summary, fields }
    }

    /// The size of the structure in bytes; `None` if it is not always the same.
    pub const fn size_bytes(&self) -> Option<usize> {
        let mut rest = self.fields;
        let mut size: usize = 0;
        while let [field, after @ ..] = rest {
            size = match field.encoding.width() {
                Some(width) => match size.checked_add(width) {
                    Some(size) => size,
                    None => return None,
                },
                None => return None,
            };
            rest = after;
        }
        Some(size)
    }

    /// Whether the structure always has this size, in bytes. For assertions while compiling.
    pub const fn size_bytes_is(&self, size: usize) -> bool {
        matches!(self.size_bytes(), Some(found) if found == size)
    }
}

/// A page of documentation in Markdown: the title, the introduction (Markdown, may be empty), then a section with a table of fields for
/// each structure. Equal input gives equal text.
pub fn render_markdown(title: &str, introduction: &str, tables: &[FieldTable]) -> String {
    let mut page = format!("# {title}\n");
    if !introduction.is_empty() {
        page.extend(["\n", introduction.trim_end(), "\n"]);
    }
    page.extend(tables.iter().map(section));
    page
}

fn section(table: &FieldTable) -> String {
    let size = match table.size_bytes() {
        Some(size) => format!("{size} bytes"),
        None => "variable size".to_owned(),
    };
    let mut section = format!("\n## {} ({size})\n\n{}\n\n", capitalised(table.name), table.summary.trim_end());
    section.push_str("| offset | width | encoding | field | meaning |\n| ---: | ---: | --- | --- | --- |\n");
    section.extend(table.fields.iter().map(line));
    section
}

fn line(field: &Field) -> String {
    let offset = field.offset.map_or_else(|| "after".to_owned(), |offset| offset.to_string());
    let width = field.encoding.width().map_or_else(|| "varies".to_owned(), |width| width.to_string());
    let (encoding, name, meaning) = (field.encoding.name(), field.name, field.meaning);
    format!("| {offset} | {width} | {encoding} | {name} | {meaning} |\n")
}

fn capitalised(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
