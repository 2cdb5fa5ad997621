//! The envelope: the 64 bytes that every file begins with.
//!
//! ```text
//! byte  0        8       10       12       16       20       24                40       48       56       64
//!       +--------+--------+--------+--------+--------+--------+-----------------+--------+--------+--------+
//!       | magic  | kind   | format | incom- | read-  | compa- | store id        | file   | zero   | check- |
//!       |        |        | version| patible| only   | tible  |                 | number |        | sum    |
//!       | 8 text | u16    | u16    | u32    | u32    | u32    | 16 bytes        | u64    | 8      | u64    |
//!       +--------+--------+--------+--------+--------+--------+-----------------+--------+--------+--------+
//!       '-seed---'--------------------- covered by the checksum --------------------------------'
//! ```
//!
//! Integers are little-endian. The checksum is XXH3-64 of bytes 8 to 55, seeded with the magic read as a u64. It is not salted with
//! the store or the number, since the envelope is where these are read from.
//!
//! **What never changes.** Every format version of every kind, also of releases to come, keeps the place and meaning of the magic, the
//! kind, the format version, the three sets of feature bits and the checksum, and the range of the checksum. So an older release
//! can tell a newer file from a damaged one.
//!
//! **Order of the checks**, each on bytes that the checks before have made trustworthy:
//!
//! 1. *Length*: fewer than 64 bytes are damage.
//! 2. *Magic*: a wrong magic is a foreign file, unless what follows proves the file ours. Two forms of damage to a file of ours are
//!    recognised: a magic that is wrong while the checksum is right, and 64 zero bytes, which a file has whose length reached the disk
//!    before its data.
//! 3. *Checksum*: before the format version is acted upon, so that a flipped bit in the version is damage and not "a newer release".
//! 4. *Kind, format version and feature bits*: what this release does not know is unsupported.
//! 5. *Fields*: reserved bytes that are not zero are damage.
//! 6. *Relations*: another store's id is a foreign file; another kind or number than the file's name says is damage, since the file, or
//!    its first block, is then not where it was written.

use crate::checksum::checksum64;
use crate::dump::Dump;
use crate::error::{Corruption, FileLabel, FormatError};
use crate::reader::{Reader, widen};
use crate::registry::{Features, FileKind, FormatVersion, StoreId};
use crate::table::{Encoding, Field, FieldTable};
use crate::writer::Writer;

/// The size of an envelope, in bytes.
pub const ENVELOPE_SIZE_BYTES: usize = 64;

/// The first 8 bytes of every file.
pub const MAGIC: [u8; 8] = *b"THERMOCL";

const CHECKSUM_SEED: u64 = u64::from_le_bytes(MAGIC);
const RESERVED_SIZE_BYTES: usize = 8;
const CHECKSUM_OFFSET: u64 = 56;

/// The field table of the envelope.
pub const ENVELOPE_TABLE: FieldTable = FieldTable::new(
    "envelope",
    "The first 64 bytes of every file. The checksum covers bytes 8 to 55 and is seeded with the magic read as a u64.",
    &[
        Field::at(0, Encoding::Text(8), "magic", "`THERMOCL`"),
        Field::at(8, Encoding::U16, "kind", "the kind of file, by its number in the registry"),
        Field::at(10, Encoding::U16, "format version", "the version of this kind's format, from 1"),
        Field::at(
            12,
            Encoding::Bits32,
            "incompatible features",
            "a release that does not know one of these bits cannot read the file",
        ),
        Field::at(
            16,
            Encoding::Bits32,
            "read-only features",
            "a release that does not know one of these bits may read but not write",
        ),
        Field::at(20, Encoding::Bits32, "compatible features", "a release that does not know these bits may read and write"),
        Field::at(24, Encoding::Bytes(16), "store id", "the store that the file belongs to: random bits, made with the store"),
        Field::at(40, Encoding::U64, "file number", "the number in the file's name; never used again in the store"),
        Field::at(48, Encoding::Zero(RESERVED_SIZE_BYTES), "reserved", "zero"),
        Field::at(56, Encoding::Checksum64, "checksum", "XXH3-64 of bytes 8 to 55, seeded with the magic"),
    ],
);

const _: () = assert!(ENVELOPE_TABLE.size_bytes_is(ENVELOPE_SIZE_BYTES), "the fields must fill the envelope exactly");

/// What a file is opened for. It decides about feature bits that allow reading but not writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// The file will only be read.
    Read,
    /// The file may be appended to.
    Write,
}

/// What the opener knows about a file before it reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Expected {
    /// The kind in the file's name.
    pub kind: FileKind,
    /// The number in the file's name.
    pub number: u64,
    /// The store's id; `None` while it is not known, for the first file that is read.
    pub store: Option<StoreId>,
    /// What the file is opened for.
    pub purpose: Purpose,
}

/// The decoded envelope of a file.
///
/// ```
/// use thermocline_format::{Envelope, Expected, FileKind, Purpose, StoreId};
///
/// let store = StoreId([7; 16]);
/// let envelope = Envelope::new(FileKind::Wal, 3, store);
/// let bytes = envelope.encode();
///
/// let mut expected = Expected { kind: FileKind::Wal, number: 3, store: Some(store), purpose: Purpose::Write };
/// assert_eq!(Envelope::decode(&bytes, &expected)?, envelope);
///
/// expected.number = 4;
/// assert!(Envelope::decode(&bytes, &expected).is_err());
/// # Ok::<(), thermocline_format::FormatError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Envelope {
    /// The kind of file.
    pub kind: FileKind,
    /// The version of its format.
    pub version: FormatVersion,
    /// The features that it uses.
    pub features: Features,
    /// The store that it belongs to.
    pub store: StoreId,
    /// Its number.
    pub number: u64,
}

impl Envelope {
    /// The envelope of a new file: the newest format version, no features.
    pub const fn new(kind: FileKind, number: u64, store: StoreId) -> Self {
        Self { kind, version: kind.version_max(), features: Features::NONE, store, number }
    }

    /// The label of the file, for messages.
    pub const fn label(&self) -> FileLabel {
        FileLabel::numbered(self.kind, self.number)
    }

    /// The 64 bytes of this envelope.
    pub fn encode(&self) -> [u8; ENVELOPE_SIZE_BYTES] {
        let mut writer = Writer::with_capacity(ENVELOPE_SIZE_BYTES);
        writer.bytes(&MAGIC);
        writer.u16(self.kind.code());
        writer.u16(self.version.0);
        writer.u32(self.features.incompatible);
        writer.u32(self.features.read_only);
        writer.u32(self.features.compatible);
        writer.bytes(&self.store.0);
        writer.u64(self.number);
        writer.zeros(RESERVED_SIZE_BYTES);
        writer.u64(checksum64(CHECKSUM_SEED, writer.since(MAGIC.len())));

        let mut bytes = [0; ENVELOPE_SIZE_BYTES];
        for (to, from) in bytes.iter_mut().zip(writer.as_slice()) {
            *to = *from;
        }
        bytes
    }

    /// Decodes and checks the envelope at the front of `bytes`; what follows it is not looked at. The order of the checks is that of
    /// this module's description.
    ///
    /// # Errors
    /// [`FormatError::Corruption`] for damage, [`FormatError::Foreign`] for a file of something else or of another store,
    /// [`FormatError::Unsupported`] for a file of a newer release.
    pub fn decode(bytes: &[u8], expected: &Expected) -> Result<Self, FormatError> {
        let label = FileLabel::numbered(expected.kind, expected.number);
        let raw = Raw::read(bytes, label)?;
        raw.check_release(label, expected.purpose)?;
        let kind = FileKind::from_code(raw.kind).ok_or_else(|| unknown_kind(label, raw.kind))?;
        let envelope = Self {
            kind,
            version: FormatVersion(raw.version),
            features: raw.features,
            store: StoreId(raw.store),
            number: raw.number,
        };
        Reader::new(&raw.reserved, label, 48).zeros(RESERVED_SIZE_BYTES, "envelope reserved bytes")?;
        envelope.check_relations(label, expected)?;
        Ok(envelope)
    }

    fn check_relations(&self, label: FileLabel, expected: &Expected) -> Result<(), FormatError> {
        if let Some(store) = expected.store
            && store != self.store
        {
            let (expected, found) = (format!("store id {store}"), format!("store id {}", self.store));
            return Err(FormatError::Foreign { file: label, expected, found });
        }
        if self.kind != expected.kind {
            return Err(Corruption::new(label, 8, "envelope file kind", expected.kind.name(), self.kind.name()).into());
        }
        if self.number != expected.number {
            let (expected, found) = (expected.number.to_string(), self.number.to_string());
            return Err(Corruption::new(label, 40, "envelope file number", expected, found).into());
        }
        Ok(())
    }

    /// Adds the fields of an envelope to a dump, from the first 64 of `bytes`, without judging them.
    pub fn dump(bytes: &[u8], dump: &mut Dump) {
        dump.table(&ENVELOPE_TABLE, 0, bytes.get(..ENVELOPE_SIZE_BYTES).unwrap_or(bytes));
    }
}

/// The fields as they stand in the file, with a checksum that is right.
struct Raw {
    kind: u16,
    version: u16,
    features: Features,
    store: [u8; 16],
    number: u64,
    reserved: [u8; RESERVED_SIZE_BYTES],
}

impl Raw {
    fn read(bytes: &[u8], label: FileLabel) -> Result<Self, FormatError> {
        let Some((head, _)) = bytes.split_first_chunk::<ENVELOPE_SIZE_BYTES>() else {
            let (expected, found) = (format!("{ENVELOPE_SIZE_BYTES} bytes"), format!("{} bytes", bytes.len()));
            return Err(Corruption::new(label, widen(bytes.len()), "envelope", expected, found).into());
        };
        let mut reader = Reader::new(head, label, 0);
        let magic = reader.array::<8>("envelope magic")?;
        let covered = reader.bytes(48, "envelope fields")?;
        let checksum = reader.u64("envelope checksum")?;
        reader.finish()?;
        let checksum_expected = checksum64(CHECKSUM_SEED, covered);

        if magic != MAGIC {
            return Err(wrong_magic(label, head, magic, checksum == checksum_expected));
        }
        if checksum != checksum_expected {
            let (expected, found) = (format!("{checksum_expected:#018x}"), format!("{checksum:#018x}"));
            return Err(Corruption::new(label, CHECKSUM_OFFSET, "envelope checksum", expected, found).into());
        }
        Ok(Self::fields(Reader::new(covered, label, 8))?)
    }

    fn fields(mut reader: Reader<'_>) -> Result<Self, Corruption> {
        let raw = Self {
            kind: reader.u16("envelope file kind")?,
            version: reader.u16("envelope format version")?,
            features: Features {
                incompatible: reader.u32("envelope incompatible features")?,
                read_only: reader.u32("envelope read-only features")?,
                compatible: reader.u32("envelope compatible features")?,
            },
            store: reader.array("envelope store id")?,
            number: reader.u64("envelope file number")?,
            reserved: reader.array("envelope reserved bytes")?,
        };
        reader.finish()?;
        Ok(raw)
    }

    /// Whether this release may do with the file what it wants to. The checksum is right, so the numbers are what the writer meant.
    fn check_release(&self, file: FileLabel, purpose: Purpose) -> Result<(), FormatError> {
        let kind = FileKind::from_code(self.kind).ok_or_else(|| unknown_kind(file, self.kind))?;
        let (oldest, newest) = (kind.version_min(), kind.version_max());
        if self.version < oldest.0 {
            let (expected, found) = (format!("{oldest} to {newest}"), self.version.to_string());
            return Err(Corruption::new(file, 10, "envelope format version", expected, found).into());
        }
        let known = kind.features_known();
        let unsupported = |what, found, max| FormatError::Unsupported { file, what, found, max };
        if self.version > newest.0 {
            return Err(unsupported("format version", u64::from(self.version), u64::from(newest.0)));
        }
        if self.features.incompatible & !known.incompatible != 0 {
            let (found, max) = (u64::from(self.features.incompatible), u64::from(known.incompatible));
            return Err(unsupported("set of incompatible features", found, max));
        }
        if purpose == Purpose::Write && self.features.read_only & !known.read_only != 0 {
            let (found, max) = (u64::from(self.features.read_only), u64::from(known.read_only));
            return Err(unsupported("set of read-only features", found, max));
        }
        Ok(())
    }
}

fn unknown_kind(file: FileLabel, found: u16) -> FormatError {
    if found == 0 {
        return Corruption::new(file, 8, "envelope file kind", "a number from 1", "0").into();
    }
    FormatError::Unsupported { file, what: "file kind", found: u64::from(found), max: u64::from(FileKind::CODE_MAX) }
}

fn wrong_magic(file: FileLabel, head: &[u8], magic: [u8; 8], checksum_right: bool) -> FormatError {
    let expected = format!("\"{}\"", MAGIC.escape_ascii());
    if head.iter().all(|&byte| byte == 0) {
        return Corruption::new(file, 0, "envelope magic", expected, "64 zero bytes").into();
    }
    let found = format!("\"{}\"", magic.escape_ascii());
    if checksum_right {
        return Corruption::new(file, 0, "envelope magic", expected, found).into();
    }
    FormatError::Foreign { file, expected: format!("magic {expected}"), found: format!("magic {found}") }
}
