//! The bytes of a manifest file: its header and the headers of its records, encode beside decode. What the records carry is in
//! [`payload`](super::payload).
//!
//! ```text
//! byte 0            64                96             4080      4096       n * 4096          m * 4096
//!      +------------+-----------------+---- zero ----+---------+----------+------+----------+------+--
//!      | envelope   | manifest header |              | check-  | snapshot | edit | witness  | edit | ..
//!      | 64         | 32              | 3984         | sum 16  |          |      |          |      |
//!      +------------+-----------------+--------------+---------+----------+------+----------+------+--
//!                   '-- covered by the checksum -----'         '- records, each a whole number of pages -
//!
//! record  0         4      5      8          16        24         40         56         72
//!         +---------+------+------+----------+---------+----------+----------+----------+---------+---------+----------+
//!         | payload | kind | zero | sequence | synced  | chain    | payload  | header   | payload | padding | header   |
//!         | length  |      |      |          | through |          | checksum | checksum |         |         | checksum |
//!         | u32     | u8   | 3    | u64      | u64     | u128     | u128     | u128     | length  |         | u128     |
//!         +---------+------+------+----------+---------+----------+----------+----------+---------+---------+----------+
//!         '-------- covered by the header's checksum -----------------------'                  at the end of a page -'
//! ```
//!
//! The header has a checksum of its own, so that a flipped bit in the length is damage to a header and not "a record that runs past
//! the end of the file". All checksums are salted with the store, the file's number and the offset.
//!
//! A record ends with a copy of its header checksum, at the end of its last page. So it is whole only if the very last byte of
//! its write is there: a write that was refused half-way can never be taken for one that was accepted.

#![deny(
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "bytes from disk must not be able to cause a panic or to be narrowed in silence"
)]

use thermocline_format::{
    Corruption, ENVELOPE_SIZE_BYTES, Encoding, Envelope, Expected, Field, FieldTable, FileKind, FileLabel, FormatError, Purpose,
    Reader, Salt, StoreId, Writer, checksum128,
};

use super::to_u64;

/// The unit of everything in a manifest: no two writes ever touch the same page, so none can harm what another made durable, on
/// devices that write sectors of 512 or of 4096 bytes.
pub(super) const PAGE_SIZE: u64 = 4096;
pub(super) const PAGE_LEN: usize = 4096;
/// Where the records begin: the header fills the page before.
pub(super) const RECORDS_OFFSET: u64 = PAGE_SIZE;
pub(super) const FIELDS_OFFSET: u64 = 64;
/// The fields of the header that carry something.
pub(super) const FIELDS_LEN: usize = 32;
const RESERVED_LEN: usize = 3984;
pub(super) const CHECKSUM_OFFSET: u64 = 4080;

/// The size of a record's header, in bytes.
pub(super) const RECORD_HEADER_LEN: usize = 72;
const RECORD_HEADER_SIZE: u64 = 72;
const RECORD_CHECKED_LEN: usize = 56;
/// What ends a record: its header checksum once more.
pub(super) const TRAILER_LEN: usize = 16;
const TRAILER_SIZE: u64 = 16;
/// The longest payload, in bytes: 1 GiB.
pub(super) const PAYLOAD_SIZE_BYTES_MAX: u32 = 1 << 30;

/// The field table of what follows the envelope in a manifest's header.
pub(super) const HEADER_TABLE: FieldTable = FieldTable::new(
    "manifest header",
    "Bytes 64 to 4095 of a manifest, after the envelope. The checksum covers bytes 64 to 4079 and is salted with the store, the \
     number and offset 64. The header is made durable before the first record is written, so a manifest with records and a bad \
     header is damaged, not unfinished. Offsets in this table count from byte 64.",
    &[
        Field::at(
            0,
            Encoding::U64,
            "previous manifest",
            "the number of the manifest that this one takes the place of; 0 for a store's first",
        ),
        Field::at(8, Encoding::U64, "first sequence", "the sequence of the first record; 1 in a store's first manifest"),
        Field::at(
            16,
            Encoding::U128,
            "chain",
            "the header checksum of the record before the first one, in the previous manifest; 0 in a store's first",
        ),
        Field::at(32, Encoding::Zero(RESERVED_LEN), "reserved", "zero"),
        Field::at(4016, Encoding::Checksum128, "checksum", "XXH3-128 of bytes 64 to 4079"),
    ],
);

/// The field table of a record's header.
pub(super) const RECORD_HEADER_TABLE: FieldTable = FieldTable::new(
    "record header",
    "The first 72 bytes of a record; its payload follows, then padding without a meaning, and at the end of the record's last page \
     a copy of the header checksum. 72 zero bytes are the end of what was written.",
    &[
        Field::at(0, Encoding::U32, "payload length", "in bytes, without this header, at most 1 GiB"),
        Field::at(
            4,
            Encoding::U8,
            "kind",
            "1 snapshot (the first record, and no other), 2 edit, 3 witness (its payload is empty)",
        ),
        Field::at(5, Encoding::Zero(3), "reserved", "zero"),
        Field::at(8, Encoding::U64, "sequence", "one more than that of the record before"),
        Field::at(
            16,
            Encoding::U64,
            "synced through",
            "when the record was made, everything before this offset of this file was known to be durable; 4096 to the record's \
             own offset",
        ),
        Field::at(24, Encoding::U128, "chain", "the header checksum of the record before"),
        Field::at(40, Encoding::Checksum128, "payload checksum", "XXH3-128 of the payload, salted with the payload's offset"),
        Field::at(56, Encoding::Checksum128, "header checksum", "XXH3-128 of bytes 0 to 55, salted with the record's offset"),
    ],
);

const _: () = assert!(HEADER_TABLE.size_bytes_is(PAGE_LEN.wrapping_sub(ENVELOPE_SIZE_BYTES)));
const _: () = assert!(RECORD_HEADER_TABLE.size_bytes_is(RECORD_HEADER_LEN));

/// The label of a manifest, for messages.
pub(super) fn label_of(number: u64) -> FileLabel {
    FileLabel::numbered(FileKind::Manifest, number)
}

/// A place between two records, and what continues there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) offset: u64,
    /// Of the next record.
    pub(super) sequence: u64,
    /// The header checksum of the record before.
    pub(super) chain: u128,
}

/// What a manifest's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) store: StoreId,
    pub(super) number: u64,
    /// The manifest whose place it takes; `None` for a store's first.
    pub(super) previous: Option<u64>,
    pub(super) first_sequence: u64,
    pub(super) chain: u128,
}

impl Header {
    pub(super) fn label(&self) -> FileLabel {
        label_of(self.number)
    }

    pub(super) fn salt(&self) -> Salt {
        Salt::new(self.store, FileKind::Manifest, self.number)
    }

    /// Where the first record stands.
    pub(super) fn start(&self) -> Position {
        Position { offset: RECORDS_OFFSET, sequence: self.first_sequence, chain: self.chain }
    }

    /// The first page of the file.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::with_capacity(PAGE_LEN);
        writer.bytes(&Envelope::new(FileKind::Manifest, self.number, self.store).encode());
        let start = writer.len();
        writer.u64(self.previous.unwrap_or(0));
        writer.u64(self.first_sequence);
        writer.u128(self.chain);
        writer.zeros(RESERVED_LEN);
        writer.u128(checksum128(self.salt().at(FIELDS_OFFSET), writer.since(start)));
        writer.finish()
    }

    /// Decodes and checks the first bytes of a manifest, as many as there are up to a page.
    pub(super) fn decode(bytes: &[u8], number: u64, purpose: Purpose) -> Result<Self, FormatError> {
        let label = label_of(number);
        let envelope = Envelope::decode(bytes, &Expected { kind: FileKind::Manifest, number, store: None, purpose })?;
        let mut reader = Reader::new(bytes, label, 0);
        reader.bytes(ENVELOPE_SIZE_BYTES, "envelope")?;
        let covered = reader.bytes(FIELDS_LEN.saturating_add(RESERVED_LEN), "manifest header")?;
        let salt = Salt::new(envelope.store, FileKind::Manifest, number);
        reader.checksum128(salt.at(FIELDS_OFFSET), covered, "manifest header checksum")?;
        Ok(Self::fields(Reader::new(covered, label, FIELDS_OFFSET), number, envelope.store)?)
    }

    fn fields(mut reader: Reader<'_>, number: u64, store: StoreId) -> Result<Self, Corruption> {
        let label = reader.file();
        let previous = reader.u64("previous manifest")?;
        let first_sequence = reader.u64("first sequence")?;
        let chain = reader.u128("chain")?;
        reader.zeros(RESERVED_LEN, "manifest header reserved bytes")?;
        reader.finish()?;

        if previous >= number {
            let (expected, found) = ("a lower number than the manifest's own", previous.to_string());
            return Err(Corruption::new(label, 64, "previous manifest", expected, found));
        }
        let previous = (previous != 0).then_some(previous);
        let is_first = first_sequence == 1 && chain == 0;
        if previous.is_none() && !is_first {
            let found = format!("{first_sequence} and {chain:#034x}");
            return Err(Corruption::new(label, 72, "first sequence and chain", "1 and 0 in a store's first manifest", found));
        }
        if previous.is_some() && first_sequence < 2 {
            let found = first_sequence.to_string();
            return Err(Corruption::new(label, 72, "first sequence", "at least 2 behind another manifest", found));
        }
        Ok(Self { store, number, previous, first_sequence, chain })
    }
}

/// What a record is. Numbers are never used again for something else; 0 stays invalid, since it is what unwritten space reads as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordKind {
    /// All that the manifest says.
    Snapshot,
    /// What changes.
    Edit,
    /// Nothing but how far the file is durable.
    Witness,
}

impl RecordKind {
    const CODE_MAX: u8 = Self::Witness.code();

    pub(super) const fn code(self) -> u8 {
        match self {
            Self::Snapshot => 1,
            Self::Edit => 2,
            Self::Witness => 3,
        }
    }

    const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Snapshot),
            2 => Some(Self::Edit),
            3 => Some(Self::Witness),
            _ => None,
        }
    }
}

/// What a record's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordHeader {
    pub(super) payload_len: u32,
    pub(super) kind: RecordKind,
    pub(super) sequence: u64,
    pub(super) synced_through: u64,
    pub(super) chain: u128,
    pub(super) payload_checksum: u128,
    /// The header's own checksum, which the next record repeats.
    pub(super) checksum: u128,
}

/// What stands where a record's header is expected.
#[derive(Clone, Debug)]
pub(super) enum HeaderRead {
    /// A header with a right checksum and possible fields.
    Valid(RecordHeader),
    /// Zeros: nothing was written here.
    Empty,
    /// The checksum is wrong. Whether it is a torn write or damage, other evidence must tell.
    Broken(Corruption),
    /// The checksum is right, so this is what a writer wrote, and it cannot be.
    Impossible(FormatError),
}

/// A buffer with room for a record's header, for the payload to follow.
pub(super) fn begin_record() -> Writer {
    let mut writer = Writer::with_capacity(PAGE_LEN);
    writer.zeros(RECORD_HEADER_LEN);
    writer
}

/// Completes the record that `writer` holds, the header's space and the payload, for a place in the file of `header`. Returns its
/// bytes and the place behind it.
///
/// The payload is at most [`PAYLOAD_SIZE_BYTES_MAX`] long: callers check.
pub(super) fn seal_record(
    mut writer: Writer,
    header: &Header,
    at: Position,
    kind: RecordKind,
    synced_through: u64,
) -> (Vec<u8>, Position) {
    let salt = header.salt();
    let payload = writer.since(RECORD_HEADER_LEN);
    let payload_len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    debug_assert!(payload_len <= PAYLOAD_SIZE_BYTES_MAX, "callers check the length of payloads");
    let payload_checksum = checksum128(salt.at(at.offset.saturating_add(RECORD_HEADER_SIZE)), payload);

    let mut fields = Writer::with_capacity(RECORD_HEADER_LEN);
    fields.u32(payload_len);
    fields.u8(kind.code());
    fields.zeros(3);
    fields.u64(at.sequence);
    fields.u64(synced_through);
    fields.u128(at.chain);
    fields.u128(payload_checksum);
    let checksum = checksum128(salt.at(at.offset), fields.as_slice());
    fields.u128(checksum);
    writer.overwrite(0, fields.as_slice());

    let filled = writer.len().saturating_add(TRAILER_LEN);
    writer.zeros(filled.next_multiple_of(PAGE_LEN).saturating_sub(filled));
    writer.u128(checksum);
    let bytes = writer.finish();
    let offset = at.offset.saturating_add(to_u64(bytes.len()));
    (bytes, Position { offset, sequence: at.sequence.saturating_add(1), chain: checksum })
}

impl RecordHeader {
    /// Looks at the bytes where a record's header may stand, `offset` bytes into the file. Fewer bytes than a header has are no
    /// header.
    pub(super) fn read(bytes: &[u8], label: FileLabel, salt: Salt, offset: u64) -> HeaderRead {
        let (bytes, is_whole) = match bytes.split_first_chunk::<RECORD_HEADER_LEN>() {
            Some((bytes, _)) => (bytes.as_slice(), true),
            None => (bytes, false),
        };
        if bytes.iter().all(|&byte| byte == 0) {
            return HeaderRead::Empty;
        }
        if !is_whole {
            let found = format!("{} bytes", bytes.len());
            return HeaderRead::Broken(Corruption::new(label, offset, "record header", "72 bytes", found));
        }
        let mut reader = Reader::new(bytes, label, offset);
        let checked = match reader.bytes(RECORD_CHECKED_LEN, "record header") {
            Ok(checked) => checked,
            Err(damage) => return HeaderRead::Broken(damage),
        };
        if let Err(damage) = reader.checksum128(salt.at(offset), checked, "record header checksum") {
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
        reader.zeros(3, "record reserved bytes")?;
        let sequence = reader.u64("record sequence")?;
        let synced_at = reader.offset();
        let synced_through = reader.u64("record synced through")?;
        let chain = reader.u128("record chain")?;
        let payload_checksum = reader.u128("record payload checksum")?;
        let checksum = reader.u128("record header checksum")?;
        reader.finish()?;

        if kind == 0 {
            return Err(Corruption::new(label, offset.saturating_add(4), "record kind", "a number from 1", "0").into());
        }
        let Some(kind) = RecordKind::from_code(kind) else {
            let (found, max) = (u64::from(kind), u64::from(RecordKind::CODE_MAX));
            return Err(FormatError::Unsupported { file: label, what: "kind of record", found, max });
        };
        let payload_max = if kind == RecordKind::Witness { 0 } else { PAYLOAD_SIZE_BYTES_MAX };
        if payload_len > payload_max {
            let (expected, found) = (format!("at most {payload_max}"), payload_len.to_string());
            return Err(Corruption::new(label, offset, "record payload length", expected, found).into());
        }
        if synced_through < RECORDS_OFFSET || synced_through > offset {
            let expected = format!("{RECORDS_OFFSET} to {offset}");
            return Err(Corruption::new(label, synced_at, "record synced through", expected, synced_through.to_string()).into());
        }
        Ok(Self { payload_len, kind, sequence, synced_through, chain, payload_checksum, checksum })
    }

    /// How many bytes the record takes, all told.
    pub(super) fn size(&self) -> u64 {
        let filled = RECORD_HEADER_SIZE.saturating_add(u64::from(self.payload_len)).saturating_add(TRAILER_SIZE);
        filled.next_multiple_of(PAGE_SIZE)
    }

    /// Checks that the record follows on what is before `at`, where it stands.
    pub(super) fn check_place(&self, at: Position, first: u64, label: FileLabel) -> Result<(), Corruption> {
        let damage = |place: u64, part, expected: String, found: String| {
            Corruption::new(label, at.offset.saturating_add(place), part, expected, found)
        };
        if self.sequence != at.sequence {
            return Err(damage(8, "record sequence", at.sequence.to_string(), self.sequence.to_string()));
        }
        if self.chain != at.chain {
            return Err(damage(24, "record chain", format!("{:#034x}", at.chain), format!("{:#034x}", self.chain)));
        }
        let is_snapshot = self.kind == RecordKind::Snapshot;
        if is_snapshot != (at.offset == first) {
            let (snapshot, other) = ("a snapshot".to_owned(), "another kind".to_owned());
            let (expected, found) = if is_snapshot { (other, snapshot) } else { (snapshot, other) };
            return Err(damage(4, "record kind", expected, found));
        }
        Ok(())
    }

    /// The payload within all bytes of the record, which stands at `offset`.
    ///
    /// # Errors
    /// If the record's end is missing, or the payload is not as its checksum says.
    pub(super) fn payload<'a>(
        &self,
        record: &'a [u8],
        label: FileLabel,
        salt: Salt,
        offset: u64,
    ) -> Result<&'a [u8], Corruption> {
        let mut reader = Reader::new(record, label, offset);
        reader.bytes(RECORD_HEADER_LEN, "record header")?;
        let payload_offset = reader.offset();
        let payload = reader.bytes(usize::try_from(self.payload_len).unwrap_or(usize::MAX), "record payload")?;
        let found = checksum128(salt.at(payload_offset), payload);
        if found != self.payload_checksum {
            let (expected, found) = (format!("{:#034x}", self.payload_checksum), format!("{found:#034x}"));
            return Err(Corruption::new(label, payload_offset, "record payload checksum", expected, found));
        }
        reader.bytes(reader.remaining().saturating_sub(TRAILER_LEN), "record padding")?;
        let trailer_offset = reader.offset();
        let trailer = reader.u128("record trailer")?;
        if trailer != self.checksum {
            let (expected, found) = (format!("{:#034x}", self.checksum), format!("{trailer:#034x}"));
            return Err(Corruption::new(label, trailer_offset, "record trailer", expected, found));
        }
        Ok(payload)
    }
}

/// The place behind a record.
pub(super) fn after(record: &RecordHeader, at: Position) -> Position {
    let offset = at.offset.saturating_add(record.size());
    Position { offset, sequence: at.sequence.saturating_add(1), chain: record.checksum }
}
