//! The bytes of a log segment: the segment header and the record header, encode beside decode. What the records carry is in
//! [`payload`](crate::payload).
//!
//! ```text
//! byte 0            64                116            4088      4096
//!      +------------+-----------------+---- zero ----+---------+--------+--------+-- -+---------+--------+-- - -+
//!      | envelope   | segment header  |              | check-  | record | record | pad | record | zeros         |
//!      | 64         | 52              | 3972         | sum u64 |        |        |     |        | not yet used  |
//!      +------------+-----------------+--------------+---------+--------+--------+-- -+---------+--------+-- - -+
//!                   '-- covered by the checksum -----'         '---- group ------'    '-group--'
//!
//! record  0         4      5       6      8          16        20     24         32         40         48
//!         +---------+------+-------+------+----------+---------+------+----------+----------+----------+-------- - -
//!         | payload | kind | flags | zero | sequence | entries | zero | synced   | payload  | header   | payload
//!         | length  |      |       |      |          |         |      | through  | checksum | checksum |
//!         | u32     | u8   | u8    | 2    | u64      | u32     | 4    | u64      | u64      | u64      | length
//!         +---------+------+-------+------+----------+---------+------+----------+----------+----------+-------- - -
//!         '-------- covered by the header's checksum -----------------------------'
//! ```
//!
//! The header has a checksum of its own, so that a flipped bit in the length is damage to a header and not "a record that runs past
//! the end of the file". Both checksums are salted with the store, the segment's number and the offset.
//!
//! Padding ends with a copy of the last record's header checksum. So a group is whole only if the very last byte of its write is there:
//! a write that was refused half-way can never be taken for one that was accepted.

#![deny(
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "bytes from disk must not be able to cause a panic or to be narrowed in silence"
)]

use thermocline_format::{
    Corruption, ENVELOPE_SIZE_BYTES, Encoding, Envelope, Expected, Field, FieldTable, FileKind, FileLabel, FormatError, Purpose,
    Reader, Salt, StoreId, Writer, checksum64,
};

use crate::options::Padding;

/// Where a segment's records begin: the header fills the bytes before. A page, so that no later write touches its sectors.
pub(crate) const SEGMENT_HEADER_SIZE: u64 = 4096;
const SEGMENT_HEADER_LEN: usize = 4096;
const SEGMENT_FIELDS_OFFSET: u64 = 64;
const SEGMENT_RESERVED_LEN: usize = 3972;

/// The size of a record's header, in bytes.
pub(crate) const RECORD_HEADER_LEN: usize = 48;
pub(crate) const RECORD_HEADER_SIZE: u64 = 48;
const RECORD_CHECKED_LEN: usize = 40;
/// What ends the padding behind a group: the last record's header checksum once more.
pub(crate) const TRAILER_SIZE: u64 = 8;
pub(crate) const TRAILER_LEN: usize = 8;

/// The field table of what follows the envelope in a segment's header.
pub(crate) const SEGMENT_HEADER_TABLE: FieldTable = FieldTable::new(
    "segment header",
    "Bytes 64 to 4095 of a segment, after the envelope. The checksum covers bytes 64 to 4087 and is salted with the store, the \
     number and offset 64. The header is made durable before the first record is written, so a segment with records and a bad header \
     is damaged, not unfinished. Offsets in this table count from byte 64.",
    &[
        Field::at(0, Encoding::U64, "first sequence", "the sequence of the segment's first record, from 1"),
        Field::at(
            8,
            Encoding::U64,
            "previous segment",
            "the number of the segment before this one in the chain; 0 for the first",
        ),
        Field::at(
            16,
            Encoding::U64,
            "previous length",
            "where the previous segment's records end, in bytes: they are durable up to there, and what follows there is not part of \
             the log; 0 for the first segment",
        ),
        Field::at(24, Encoding::U64, "previous chain", "the chain hash at that end; 0 for the first segment"),
        Field::at(
            32,
            Encoding::U64,
            "carried end",
            "where the records end that were carried over from a segment of which it was not known whether they were durable; 4096 if \
             there are none",
        ),
        Field::at(
            40,
            Encoding::U64,
            "replaces",
            "the number of the segment that the carried records come from, if this segment takes its place: that one is removed once \
             the carried records are durable; 0 if none",
        ),
        Field::at(48, Encoding::U32, "padding", "the unit in bytes that padded groups are filled up to: 1 (none), 512 or 4096"),
        Field::at(52, Encoding::Zero(SEGMENT_RESERVED_LEN), "reserved", "zero"),
        Field::at(4024, Encoding::U64, "checksum", "XXH3-64 of bytes 64 to 4087"),
    ],
);

/// The field table of a record's header.
pub(crate) const RECORD_HEADER_TABLE: FieldTable = FieldTable::new(
    "record header",
    "The first 48 bytes of a record; its payload follows. 48 zero bytes are the end of what was written. The chain hash of a record is \
     XXH3-64 of its header checksum (as 8 bytes), seeded with the chain hash of the record before; before the first record of a segment \
     it is the header's previous chain.",
    &[
        Field::at(0, Encoding::U32, "payload length", "in bytes, without this header"),
        Field::at(4, Encoding::U8, "kind", "1 genesis, 2 commit, 3 ensure table, 4 purge table, 5 witness, 6 close, 7 note"),
        Field::at(
            5,
            Encoding::Bits8,
            "flags",
            "1: the last record of its group (records of a group count only if all are there); 2: padding follows the group, of which \
             the last 8 bytes repeat the header checksum and the others have no meaning; the next record begins at the first multiple \
             of the padding that leaves room for them",
        ),
        Field::at(6, Encoding::Zero(2), "reserved", "zero"),
        Field::at(8, Encoding::U64, "sequence", "one more than that of the record before, across segments"),
        Field::at(16, Encoding::U32, "entries", "how many entries the payload holds; 0 for all kinds but commit"),
        Field::at(20, Encoding::Zero(4), "reserved", "zero"),
        Field::at(
            24,
            Encoding::U64,
            "synced through",
            "when the record was made, everything before this offset of this segment was known to be durable; 4096 to the record's own \
             offset",
        ),
        Field::at(32, Encoding::U64, "payload checksum", "XXH3-64 of the payload, salted with the payload's offset"),
        Field::at(40, Encoding::U64, "header checksum", "XXH3-64 of bytes 0 to 39, salted with the record's offset"),
    ],
);

const _: () = assert!(SEGMENT_HEADER_TABLE.size_bytes_is(SEGMENT_HEADER_LEN.wrapping_sub(ENVELOPE_SIZE_BYTES)));
const _: () = assert!(RECORD_HEADER_TABLE.size_bytes_is(RECORD_HEADER_LEN));

/// A place between two records, and what continues there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) offset: u64,
    /// Of the next record.
    pub(crate) sequence: u64,
    /// The chain hash so far.
    pub(crate) chain: u64,
}

/// What a segment's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) store: StoreId,
    pub(crate) number: u64,
    pub(crate) first_sequence: u64,
    /// Where the log comes from; `None` for the first segment.
    pub(crate) previous: Option<Previous>,
    /// Where the carried records end; [`SEGMENT_HEADER_SIZE`] if there are none.
    pub(crate) carried_end: u64,
    /// The segment whose place it takes.
    pub(crate) replaces: Option<u64>,
    pub(crate) padding: Padding,
}

/// The end of the previous segment, as its successor knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Previous {
    pub(crate) number: u64,
    pub(crate) length: u64,
    pub(crate) chain: u64,
}

impl SegmentHeader {
    pub(crate) fn salt(&self) -> Salt {
        Salt::new(self.store, FileKind::Wal, self.number)
    }

    /// The chain hash before the first record.
    pub(crate) fn chain(&self) -> u64 {
        self.previous.map_or(0, |previous| previous.chain)
    }

    /// Where the first record stands.
    pub(crate) fn start(&self) -> Position {
        Position { offset: SEGMENT_HEADER_SIZE, sequence: self.first_sequence, chain: self.chain() }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::with_capacity(SEGMENT_HEADER_LEN);
        writer.bytes(&Envelope::new(FileKind::Wal, self.number, self.store).encode());
        let start = writer.len();
        writer.u64(self.first_sequence);
        let previous = self.previous.unwrap_or(Previous { number: 0, length: 0, chain: 0 });
        writer.u64(previous.number);
        writer.u64(previous.length);
        writer.u64(previous.chain);
        writer.u64(self.carried_end);
        writer.u64(self.replaces.unwrap_or(0));
        writer.u32(self.padding.unit());
        writer.zeros(SEGMENT_RESERVED_LEN);
        writer.u64(checksum64(self.salt().at(SEGMENT_FIELDS_OFFSET), writer.since(start)));
        writer.finish()
    }

    /// Decodes and checks the first bytes of a segment, as many as there are up to the header's size.
    pub(crate) fn decode(bytes: &[u8], number: u64, store: Option<StoreId>, purpose: Purpose) -> Result<Self, FormatError> {
        let label = FileLabel::numbered(FileKind::Wal, number);
        let envelope = Envelope::decode(bytes, &Expected { kind: FileKind::Wal, number, store, purpose })?;
        let mut reader = Reader::new(bytes, label, 0);
        reader.bytes(ENVELOPE_SIZE_BYTES, "envelope")?;
        let covered = reader.bytes(SEGMENT_HEADER_LEN.saturating_sub(ENVELOPE_SIZE_BYTES).saturating_sub(8), "segment header")?;
        let salt = Salt::new(envelope.store, FileKind::Wal, number);
        reader.checksum64(salt.at(SEGMENT_FIELDS_OFFSET), covered, "segment header checksum")?;
        Self::fields(Reader::new(covered, label, SEGMENT_FIELDS_OFFSET), number, envelope.store)
    }

    fn fields(mut reader: Reader<'_>, number: u64, store: StoreId) -> Result<Self, FormatError> {
        let label = reader.file();
        let first_sequence = reader.u64("first sequence")?;
        let previous = Previous {
            number: reader.u64("previous segment")?,
            length: reader.u64("previous length")?,
            chain: reader.u64("previous chain")?,
        };
        let carried_end = reader.u64("carried end")?;
        let replaces = reader.u64("replaces")?;
        let unit = reader.u32("padding")?;
        reader.zeros(SEGMENT_RESERVED_LEN, "segment header reserved bytes")?;
        reader.finish()?;

        let damage = |offset, part, expected: &str, found: u64| {
            FormatError::from(Corruption::new(label, offset, part, expected.to_owned(), found.to_string()))
        };
        let Some(padding) = Padding::from_unit(unit) else {
            return Err(damage(112, "padding", "1, 512 or 4096", u64::from(unit)));
        };
        if first_sequence == 0 {
            return Err(damage(64, "first sequence", "a number from 1", 0));
        }
        if carried_end < SEGMENT_HEADER_SIZE {
            return Err(damage(96, "carried end", "at least 4096", carried_end));
        }
        if replaces >= number {
            return Err(damage(104, "replaces", "a lower number than the segment's own", replaces));
        }
        let previous = match previous {
            Previous { number: 0, length: 0, chain: 0 } => None,
            Previous { number: before, .. } if before == 0 || before >= number => {
                return Err(damage(72, "previous segment", "a lower number than the segment's own", before));
            }
            Previous { length, .. } if length < SEGMENT_HEADER_SIZE => {
                return Err(damage(80, "previous length", "at least 4096", length));
            }
            previous => Some(previous),
        };
        if previous.is_none() && first_sequence != 1 {
            return Err(damage(64, "first sequence", "1 in the first segment", first_sequence));
        }
        let replaces = (replaces != 0).then_some(replaces);
        Ok(Self { store, number, first_sequence, previous, carried_end, replaces, padding })
    }
}

/// What a record is. Numbers are never used again for something else; 0 stays invalid, since it is what unwritten space reads as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordKind {
    Genesis,
    Commit,
    EnsureTable,
    PurgeTable,
    Witness,
    Close,
    Note,
}

impl RecordKind {
    /// The highest number in use.
    pub(crate) const CODE_MAX: u8 = Self::Note.code();

    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Genesis => 1,
            Self::Commit => 2,
            Self::EnsureTable => 3,
            Self::PurgeTable => 4,
            Self::Witness => 5,
            Self::Close => 6,
            Self::Note => 7,
        }
    }

    pub(crate) const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Genesis),
            2 => Some(Self::Commit),
            3 => Some(Self::EnsureTable),
            4 => Some(Self::PurgeTable),
            5 => Some(Self::Witness),
            6 => Some(Self::Close),
            7 => Some(Self::Note),
            _ => None,
        }
    }

    /// Whether the record is part of the store's history, and not of the log's own housekeeping.
    pub(crate) const fn is_history(self) -> bool {
        !matches!(self, Self::Witness | Self::Close)
    }
}

/// The flags of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RecordFlags {
    /// The last record of its group.
    pub(crate) ends_group: bool,
    /// The next record begins at the next multiple of the padding.
    pub(crate) is_padded: bool,
}

impl RecordFlags {
    const ENDS_GROUP: u8 = 1;
    const IS_PADDED: u8 = 2;
    const KNOWN: u8 = Self::ENDS_GROUP | Self::IS_PADDED;

    fn code(self) -> u8 {
        let ends_group = if self.ends_group { Self::ENDS_GROUP } else { 0 };
        let is_padded = if self.is_padded { Self::IS_PADDED } else { 0 };
        ends_group | is_padded
    }

    fn from_code(code: u8) -> Self {
        Self { ends_group: code & Self::ENDS_GROUP != 0, is_padded: code & Self::IS_PADDED != 0 }
    }
}

/// What a record's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) payload_len: u32,
    pub(crate) kind: RecordKind,
    pub(crate) flags: RecordFlags,
    pub(crate) sequence: u64,
    pub(crate) entries: u32,
    pub(crate) synced_through: u64,
    pub(crate) payload_checksum: u64,
    /// The header's own checksum, which the chain goes through.
    pub(crate) checksum: u64,
}

/// What stands where a record's header is expected.
#[derive(Clone, Debug)]
pub(crate) enum HeaderRead {
    /// A header with a right checksum and possible fields.
    Valid(RecordHeader),
    /// Zeros: nothing was written here.
    Empty,
    /// The checksum is wrong. Whether it is a torn write or damage, other evidence must tell.
    Broken(Corruption),
    /// The checksum is right, so this is what a writer wrote, and it cannot be.
    Impossible(FormatError),
}

/// The chain hash after a record.
pub(crate) fn chain_after(chain: u64, header_checksum: u64) -> u64 {
    checksum64(chain, &header_checksum.to_le_bytes())
}

impl RecordHeader {
    /// Completes the record that begins at `start` of `writer`: the header's space was left free, the payload stands behind it. `offset`
    /// is where the record lies in the segment. Returns the header's checksum.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is a field of the header; a struct for them would only be this one again"
    )]
    pub(crate) fn seal(
        writer: &mut Writer,
        start: usize,
        salt: Salt,
        offset: u64,
        kind: RecordKind,
        flags: RecordFlags,
        sequence: u64,
        entries: u32,
        synced_through: u64,
    ) -> u64 {
        let payload = writer.since(start.saturating_add(RECORD_HEADER_LEN));
        let payload_len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        debug_assert_eq!(u64::from(payload_len), crate::to_u64(payload.len()), "callers check the length of payloads");
        let payload_checksum = checksum64(salt.at(offset.saturating_add(RECORD_HEADER_SIZE)), payload);

        let mut put = |at: usize, bytes: &[u8]| writer.overwrite(start.saturating_add(at), bytes);
        put(0, &payload_len.to_le_bytes());
        put(4, &[kind.code(), flags.code(), 0, 0]);
        put(8, &sequence.to_le_bytes());
        put(16, &entries.to_le_bytes());
        put(20, &[0; 4]);
        put(24, &synced_through.to_le_bytes());
        put(32, &payload_checksum.to_le_bytes());
        let checked = writer.since(start).get(..RECORD_CHECKED_LEN).unwrap_or_default();
        let checksum = checksum64(salt.at(offset), checked);
        writer.overwrite(start.saturating_add(RECORD_CHECKED_LEN), &checksum.to_le_bytes());
        checksum
    }

    /// Looks at the bytes where a record's header may stand, `offset` bytes into the segment. Fewer bytes than a header has are no
    /// header.
    pub(crate) fn read(bytes: &[u8], label: FileLabel, salt: Salt, offset: u64) -> HeaderRead {
        let Some((bytes, _)) = bytes.split_first_chunk::<RECORD_HEADER_LEN>() else {
            if bytes.iter().all(|&byte| byte == 0) {
                return HeaderRead::Empty;
            }
            let found = format!("{} bytes", bytes.len());
            return HeaderRead::Broken(Corruption::new(label, offset, "record header", "48 bytes", found));
        };
        if bytes.iter().all(|&byte| byte == 0) {
            return HeaderRead::Empty;
        }
        let mut reader = Reader::new(bytes, label, offset);
        let checked = match reader.bytes(RECORD_CHECKED_LEN, "record header") {
            Ok(checked) => checked,
            Err(damage) => return HeaderRead::Broken(damage),
        };
        if let Err(damage) = reader.checksum64(salt.at(offset), checked, "record header checksum") {
            return HeaderRead::Broken(damage);
        }
        match Self::fields(bytes, label, offset) {
            Ok(header) => HeaderRead::Valid(header),
            Err(error) => HeaderRead::Impossible(error),
        }
    }

    fn fields(bytes: &[u8], label: FileLabel, offset: u64) -> Result<Self, FormatError> {
        let mut reader = Reader::new(bytes, label, offset);
        let payload_len = reader.u32("record payload length")?;
        let kind = reader.u8("record kind")?;
        let flags = reader.u8("record flags")?;
        reader.zeros(2, "record reserved bytes")?;
        let sequence = reader.u64("record sequence")?;
        let entries = reader.u32("record entries")?;
        reader.zeros(4, "record reserved bytes")?;
        let synced_at = reader.offset();
        let synced_through = reader.u64("record synced through")?;
        let payload_checksum = reader.u64("record payload checksum")?;
        let checksum = reader.u64("record header checksum")?;
        reader.finish()?;

        if kind == 0 {
            return Err(Corruption::new(label, offset.saturating_add(4), "record kind", "a number from 1", "0").into());
        }
        let Some(kind) = RecordKind::from_code(kind) else {
            let (found, max) = (u64::from(kind), u64::from(RecordKind::CODE_MAX));
            return Err(FormatError::Unsupported { file: label, what: "kind of record", found, max });
        };
        if flags & !RecordFlags::KNOWN != 0 {
            let (found, max) = (u64::from(flags), u64::from(RecordFlags::KNOWN));
            return Err(FormatError::Unsupported { file: label, what: "set of record flags", found, max });
        }
        let flags = RecordFlags::from_code(flags);
        if flags.is_padded && !flags.ends_group {
            let expected = "padding only behind the last record of a group";
            return Err(Corruption::new(label, offset.saturating_add(5), "record flags", expected, "padding within one").into());
        }
        if synced_through < SEGMENT_HEADER_SIZE || synced_through > offset {
            let expected = format!("{SEGMENT_HEADER_SIZE} to {offset}");
            return Err(Corruption::new(label, synced_at, "record synced through", expected, synced_through.to_string()).into());
        }
        Ok(Self { payload_len, kind, flags, sequence, entries, synced_through, payload_checksum, checksum })
    }

    /// Where the record that lies at `offset` ends, without padding.
    pub(crate) fn end(&self, offset: u64) -> u64 {
        offset.saturating_add(RECORD_HEADER_SIZE).saturating_add(u64::from(self.payload_len))
    }

    /// Where the record behind it begins.
    pub(crate) fn next(&self, offset: u64, padding: Padding) -> u64 {
        let end = self.end(offset);
        if self.flags.is_padded { padding.round_up(end.saturating_add(TRAILER_SIZE)) } else { end }
    }

    /// Checks what ends the padding. `group` begins with the record and should have `len` bytes, the padding included.
    pub(crate) fn check_trailer(&self, group: &[u8], len: usize, label: FileLabel, offset: u64) -> Result<(), Corruption> {
        if !self.flags.is_padded {
            return Ok(());
        }
        let start = len.saturating_sub(TRAILER_LEN);
        let found = group.get(start..).and_then(|rest| rest.first_chunk::<TRAILER_LEN>()).copied().map(u64::from_le_bytes);
        if found == Some(self.checksum) {
            return Ok(());
        }
        let expected = format!("{:#018x}", self.checksum);
        let found = found.map_or_else(|| "the end of the file".to_owned(), |found| format!("{found:#018x}"));
        Err(Corruption::new(label, offset.saturating_add(crate::to_u64(start)), "group trailer", expected, found))
    }

    /// Checks the payload of the record at `offset`.
    pub(crate) fn check_payload(&self, payload: &[u8], label: FileLabel, salt: Salt, offset: u64) -> Result<(), Corruption> {
        let payload_offset = offset.saturating_add(RECORD_HEADER_SIZE);
        let found = checksum64(salt.at(payload_offset), payload);
        if found == self.payload_checksum {
            return Ok(());
        }
        let (expected, found) = (format!("{:#018x}", self.payload_checksum), format!("{found:#018x}"));
        Err(Corruption::new(label, payload_offset, "record payload checksum", expected, found))
    }
}
