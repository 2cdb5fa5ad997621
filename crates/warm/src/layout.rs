//! The format of a sorted file, field by field; docs/formats/sst.md is rendered from here.
//!
//! ```text
//! | envelope 64 | partition | partition | ... | index | dictionary | summary | footer 92 |
//!
//! partition:     | frames: main blocks, history blocks, values apart, in any order | partition index | filter |
//! frame:         | payload, compressed or not | codec 1 | raw length 4 | checksum 8 |
//! main block:    | line 64 | line 64 | ... | entry | entry | ...
//! line:          | ten heads of 4 | ten offsets of 2 | count 2 | zero 2 |
//! history block: | group | group | ...       group: | count 2 | flags 2 | pairs | values |
//! ```

#![deny(
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "bytes from disk must not be able to cause a panic or to be narrowed in silence"
)]

use std::ops::Range;

use thermocline_format::{
    Corruption, ENVELOPE_SIZE_BYTES, Encoding, Field, FieldTable, FileKind, FileLabel, Reader, Salt, StoreId, Writer, checksum64,
};
use thermocline_tier::limits::{KEY_SIZE_BYTES_MAX, VALUE_SIZE_BYTES_MAX};
use thermocline_tier::{EntryKind, TableStats, Version};

use crate::meta::TableKey;

/// A main or history block is closed when it has reached this size before compression, or what the options say if that is less.
pub(crate) const BLOCK_SIZE_BYTES: usize = 16 * 1024;
/// A partition has no more main blocks than this; it is closed when it has as many, or as the options say. Its index takes about 32 KiB of
/// memory then, and what bytes from disk can make it take has a bound, though their keys share beginnings.
pub(crate) const PARTITION_BLOCKS: usize = 256;
/// Or so many times more history blocks.
pub(crate) const PARTITION_HISTORY_RATIO: usize = 4;
/// Values from this size on are stored apart.
pub(crate) const VALUE_APART_SIZE_BYTES_MIN: usize = 4096;
/// No block is larger before compression: a full one, and one entry more. How full a block is while it is built is an estimate;
/// the rest is for what that leaves out, the fields that few entries have.
pub(crate) const BLOCK_SIZE_BYTES_MAX: usize = 2 * BLOCK_SIZE_BYTES + KEY_SIZE_BYTES_MAX + VALUE_APART_SIZE_BYTES_MIN;
/// The keys of a line.
pub(crate) const LINE_KEYS: usize = 10;
/// A line fills one cache line.
pub(crate) const LINE_SIZE_BYTES: usize = 64;
/// The lines of a block: their first heads fill three quarters of a resident cache line.
pub(crate) const LINES_MAX: usize = 12;
/// The keys of a block.
pub(crate) const BLOCK_KEYS_MAX: usize = LINES_MAX * LINE_KEYS;
/// Of which the offsets of a line begin.
pub(crate) const LINE_OFFSETS_AT: usize = LINE_KEYS * 4;
/// Of which the count of a line begins.
pub(crate) const LINE_COUNT_AT: usize = LINE_KEYS * 6;

pub(crate) const FRAME_TRAILER_SIZE_BYTES: usize = 13;
pub(crate) const FOOTER_SIZE_BYTES: usize = 92;
const FOOTER_CHECKED_SIZE_BYTES: usize = 84;
const FOOTER_MAGIC: [u8; 8] = *b"THERMSST";
/// The narrow form of an entry's head.
pub(crate) const ENTRY_SIZE_BYTES: usize = 8;
/// The wide form.
pub(crate) const ENTRY_WIDE_SIZE_BYTES: usize = 15;
pub(crate) const HISTORY_REF_SIZE_BYTES: usize = 10;
pub(crate) const VALUE_REF_SIZE_BYTES: usize = 24;
pub(crate) const GROUP_HEADER_SIZE_BYTES: usize = 4;

/// Flags of an entry.
pub(crate) mod flags {
    /// The entry is a tombstone.
    pub(crate) const TOMBSTONE: u8 = 1;
    /// The key has older versions in this file.
    pub(crate) const HISTORY: u8 = 2;
    /// The entry has a suffix.
    pub(crate) const SUFFIX: u8 = 4;
    /// The head has the wide form.
    pub(crate) const WIDE: u8 = 8;
    /// The value is stored apart.
    pub(crate) const APART: u8 = 16;
}

/// Flags of a history group and bits of its pairs.
pub(crate) mod group {
    /// The pairs have 12 bytes, with 64 bits for the version.
    pub(crate) const WIDE: u16 = 1;
    /// Each value follows the length of its suffix and the suffix.
    pub(crate) const SUFFIXES: u16 = 2;
    /// Of an end: the version is a tombstone.
    pub(crate) const TOMBSTONE: u32 = 1 << 31;
    /// Of an end: the value is stored apart.
    pub(crate) const APART: u32 = 1 << 30;
    /// The bits of an end that are its place.
    pub(crate) const END: u32 = APART - 1;
}

pub(crate) const FRAME_TABLE: FieldTable = FieldTable::new(
    "frame trailer",
    "The last 13 bytes of a frame; the payload stands before them. Whoever refers to a frame knows where it begins, how long it is and \
     its checksum.",
    &[
        Field::at(
            0,
            Encoding::U8,
            "codec",
            "0 none, 1 LZ4 block, 2 Zstandard, 3 Zstandard with the file's dictionary; 0 in all frames but those of blocks and values apart",
        ),
        Field::at(1, Encoding::U32, "raw length", "of the payload when decompressed; at most 251 times its length as stored"),
        Field::at(
            5,
            Encoding::Checksum64,
            "checksum",
            "XXH3-64 of payload, codec and raw length, salted with the frame's offset",
        ),
    ],
);

pub(crate) const LINE_TABLE: FieldTable = FieldTable::new(
    "line",
    "A main block begins with one line for each ten keys, in the order of the keys.",
    &[
        Field::at(
            0,
            Encoding::Bytes(40),
            "heads",
            "of each key the four bytes after the common prefix of the block's keys, as a big-endian number in little-endian bytes; \
             shorter keys are filled up with zeros; all ones where there is no key",
        ),
        Field::at(40, Encoding::Bytes(20), "offsets", "of each entry from the beginning of the block, as u16"),
        Field::at(60, Encoding::U16, "count", "how many keys the line has; 10 in all lines but the last"),
        Field::at(62, Encoding::Zero(2), "reserved", "zero"),
    ],
);

pub(crate) const ENTRY_TABLE: FieldTable = FieldTable::new(
    "entry",
    "The newest version of a key in the file. The wide form has, after the flags, u16 length of the key's rest, u32 length of the value \
     and u64 version.",
    &[
        Field::at(
            0,
            Encoding::Bits8,
            "flags",
            "1 tombstone, 2 older versions follow in history blocks, 4 suffix, 8 wide, 16 value apart",
        ),
        Field::at(1, Encoding::U8, "rest length", "of the key after the block's common prefix"),
        Field::at(2, Encoding::U16, "value length", "of the value as stored in the entry; 24 if it is apart"),
        Field::at(4, Encoding::U32, "version", "above the oldest version that the partition index names for the block"),
        Field::at(
            8,
            Encoding::Variable,
            "parts",
            "if there are older versions: u32 history block of the partition, u16 offset of the group in it, u32 how many further blocks the key's history \
             goes on in, at their beginnings; if there is a suffix: u16 its length; then the key's rest, the suffix, the value, or, if it \
             is apart: u64 offset, u32 stored length and u32 raw length of its frame, and the frame's checksum",
        ),
    ],
);

pub(crate) const GROUP_TABLE: FieldTable = FieldTable::new(
    "history group",
    "Older versions of one key, newest first. A key with much history has groups in consecutive history blocks, of which all but the \
     first begin their blocks and all but the last end theirs.",
    &[
        Field::at(0, Encoding::U16, "count", "the versions in the group, at least one"),
        Field::at(2, Encoding::Bits16, "flags", "1 wide pairs, 2 suffixes"),
        Field::at(
            4,
            Encoding::Variable,
            "pairs and values",
            "for each version u32 (wide: u64) how far it is below the key's newest version, and u32 where its value ends, counted from the \
             end of the pairs, with bit 31 for a tombstone and bit 30 for a value apart; then the values, each, if the group has suffixes, \
             after u16 length of the suffix and the suffix",
        ),
    ],
);

pub(crate) const FOOTER_TABLE: FieldTable = FieldTable::new(
    "footer",
    "The last 92 bytes of the file. A length of 0 stands for a part that the file does not have.",
    &[
        Field::at(0, Encoding::U64, "index offset", "in bytes from the beginning of the file"),
        Field::at(8, Encoding::U32, "index length", "of the frame's payload as stored"),
        Field::at(12, Encoding::U64, "index checksum", "as in its frame"),
        Field::at(20, Encoding::U64, "dictionary offset", ""),
        Field::at(28, Encoding::U32, "dictionary length", ""),
        Field::at(32, Encoding::U64, "dictionary checksum", ""),
        Field::at(40, Encoding::U64, "summary offset", ""),
        Field::at(48, Encoding::U32, "summary length", ""),
        Field::at(52, Encoding::U64, "summary checksum", ""),
        Field::at(60, Encoding::U64, "file length", "of the whole file"),
        Field::at(68, Encoding::U64, "entries", "all versions of all keys"),
        Field::at(76, Encoding::Text(8), "magic", "`THERMSST`"),
        Field::at(84, Encoding::Checksum64, "checksum", "XXH3-64 of the fields before, salted with the footer's offset"),
    ],
);

pub(crate) const INDEX_TABLE: FieldTable = FieldTable::new(
    "index",
    "The payload of the frame that says what is in the file and where its partitions are. Repeated parts are described in the meaning of \
     their count.",
    &[
        Field::at(0, Encoding::U64, "oldest version", "in the file"),
        Field::at(8, Encoding::U64, "newest version", "in the file"),
        Field::at(
            16,
            Encoding::Varint,
            "tables",
            "for each, in order: u8 tag and u32 id of the table; varints: keys, entries, tombstones, user bytes",
        ),
        Field::after(Encoding::Prefixed, "last key", "of the last table"),
        Field::after(
            Encoding::Varint,
            "partitions",
            "for each, in order: u8 tag and u32 id of its first table; its first key after its length; the place of its index; stored \
             length, as varint, and u64 checksum of its filter, which lies right behind that; its oldest version above the file's and its \
             newest above that, as varints. A place: varint offset, varint stored length of the payload, u64 checksum. A partition's blocks \
             and values lie between the filter of the one before, or the envelope, and its index",
        ),
    ],
);

pub(crate) const PARTITION_TABLE: FieldTable = FieldTable::new(
    "partition index",
    "The payload of the frame that says where the blocks of a partition are.",
    &[
        Field::at(0, Encoding::U64, "oldest version", "in the partition"),
        Field::at(8, Encoding::U64, "newest version", "in the partition"),
        Field::at(
            16,
            Encoding::Varint,
            "tables",
            "for each, in order: u8 tag and u32 id of the table; varint: main blocks, of which all tables together have 256 at most; \
             then each main block: its first key, as varint of bytes shared with the block before in the table and the rest with its \
             length; its place; its oldest version above the partition's and its newest above that, as varints; u16 count of keys; u16 \
             length of their common prefix; u32 first head of each line",
        ),
        Field::after(Encoding::Varint, "history blocks", "for each its place and versions as for main blocks"),
    ],
);

const _: () = assert!(FRAME_TABLE.size_bytes_is(FRAME_TRAILER_SIZE_BYTES));
const _: () = assert!(LINE_TABLE.size_bytes_is(LINE_SIZE_BYTES));
const _: () = assert!(FOOTER_TABLE.size_bytes_is(FOOTER_SIZE_BYTES));

/// Where a frame is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) offset: u64,
    /// Of the payload as stored.
    pub(crate) len: u32,
    pub(crate) checksum: u64,
}

impl Place {
    /// The frame's length on disk.
    pub(crate) fn frame_len(&self) -> usize {
        widen(self.len).saturating_add(FRAME_TRAILER_SIZE_BYTES)
    }

    pub(crate) fn end(&self) -> u64 {
        self.offset.saturating_add(to_u64(self.frame_len()))
    }

    /// Whether the frame lies within these bytes of the file.
    pub(crate) fn is_within(&self, bytes: &Range<u64>) -> bool {
        self.offset >= bytes.start && self.end() <= bytes.end
    }
}

#[inline]
pub(crate) fn widen(len: u32) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}

#[inline]
pub(crate) fn to_u64(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

/// The name and the salt of one file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FileIdentity {
    pub(crate) store: StoreId,
    pub(crate) number: u64,
}

impl FileIdentity {
    pub(crate) fn label(&self) -> FileLabel {
        FileLabel::numbered(FileKind::Sst, self.number)
    }

    pub(crate) fn salt(&self) -> Salt {
        Salt::new(self.store, FileKind::Sst, self.number)
    }
}

/// The footer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Footer {
    pub(crate) index: Place,
    pub(crate) dictionary: Place,
    pub(crate) summary: Place,
    pub(crate) file_len: u64,
    pub(crate) entries: u64,
}

impl Footer {
    /// The bytes, and the checksum in them.
    pub(crate) fn encode(&self, salt: Salt) -> (Vec<u8>, u64) {
        let mut writer = Writer::with_capacity(FOOTER_SIZE_BYTES);
        for place in [self.index, self.dictionary, self.summary] {
            writer.u64(place.offset);
            writer.u32(place.len);
            writer.u64(place.checksum);
        }
        writer.u64(self.file_len);
        writer.u64(self.entries);
        writer.bytes(&FOOTER_MAGIC);
        let checksum = checksum64(salt.at(self.offset()), writer.as_slice());
        writer.u64(checksum);
        (writer.finish(), checksum)
    }

    fn offset(&self) -> u64 {
        self.file_len.saturating_sub(to_u64(FOOTER_SIZE_BYTES))
    }

    /// Reads the last bytes of a file of `file_len` bytes whose parent knows the checksum.
    pub(crate) fn decode(bytes: &[u8], file_len: u64, parent_checksum: u64, file: &FileIdentity) -> Result<Self, Corruption> {
        let label = file.label();
        let offset = file_len.saturating_sub(to_u64(FOOTER_SIZE_BYTES));
        let mut whole = Reader::new(bytes, label, offset);
        let covered = whole.bytes(FOOTER_CHECKED_SIZE_BYTES, "footer")?;
        whole.checksum64(file.salt().at(offset), covered, "footer checksum")?;
        whole.finish()?;
        let found = bytes
            .get(FOOTER_CHECKED_SIZE_BYTES..)
            .and_then(|tail| tail.first_chunk::<8>())
            .map_or(0, |bytes| u64::from_le_bytes(*bytes));
        if found != parent_checksum {
            let at = offset.saturating_add(to_u64(FOOTER_CHECKED_SIZE_BYTES));
            let expected = format!("{parent_checksum:#018x} as the manifest says");
            return Err(Corruption::new(label, at, "footer checksum", expected, format!("{found:#018x}")));
        }
        let mut reader = Reader::new(covered, label, offset);
        let mut place = || -> Result<Place, Corruption> {
            let place = Place {
                offset: reader.u64("footer offset")?,
                len: reader.u32("footer length")?,
                checksum: reader.u64("footer checksum of a part")?,
            };
            if place.len != 0 && place.end() > offset {
                return Err(reader.corruption("footer place", format!("an end at {offset} at most"), place.end().to_string()));
            }
            Ok(place)
        };
        let (index, dictionary, summary) = (place()?, place()?, place()?);
        let footer = Self {
            index,
            dictionary,
            summary,
            file_len: reader.u64("footer file length")?,
            entries: reader.u64("footer entries")?,
        };
        if footer.file_len != file_len {
            return Err(reader.corruption("footer file length", file_len.to_string(), footer.file_len.to_string()));
        }
        let magic = reader.array::<8>("footer magic")?;
        if magic != FOOTER_MAGIC {
            return Err(reader.corruption("footer magic", "THERMSST", magic.escape_ascii().to_string()));
        }
        reader.finish()?;
        Ok(footer)
    }
}

/// What the index of a partition says about a main block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MainBlockEntry {
    pub(crate) first: Vec<u8>,
    pub(crate) place: Place,
    pub(crate) versions: (Version, Version),
    pub(crate) keys: u16,
    pub(crate) common_len: u16,
    /// The first head of each line.
    pub(crate) heads: Vec<u32>,
}

/// What the index of a partition says about a history block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HistoryBlockEntry {
    pub(crate) place: Place,
    pub(crate) versions: (Version, Version),
}

/// What the index of a partition says about a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TableEntry {
    pub(crate) table: EntryKind,
    pub(crate) blocks: Vec<MainBlockEntry>,
}

/// The index of a partition as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PartitionIndex {
    pub(crate) versions: (Version, Version),
    pub(crate) tables: Vec<TableEntry>,
    pub(crate) history: Vec<HistoryBlockEntry>,
}

/// What the file's index says about a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PartitionEntry {
    pub(crate) first: TableKey,
    /// Where its blocks and values begin; they end where its index begins.
    pub(crate) start: u64,
    pub(crate) index: Place,
    /// Right behind the index.
    pub(crate) filter: Place,
    pub(crate) versions: (Version, Version),
}

/// The index of a file as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileIndex {
    pub(crate) versions: (Version, Version),
    pub(crate) tables: Vec<(EntryKind, TableStats)>,
    /// Of the last table.
    pub(crate) last_key: Vec<u8>,
    pub(crate) partitions: Vec<PartitionEntry>,
}

/// The versions of nothing: what comes makes the range wider.
pub(crate) const NO_VERSIONS: (Version, Version) = (Version::MAX, Version::ZERO);

impl Default for PartitionIndex {
    fn default() -> Self {
        Self { versions: NO_VERSIONS, tables: Vec::new(), history: Vec::new() }
    }
}

impl Default for FileIndex {
    fn default() -> Self {
        Self { versions: NO_VERSIONS, tables: Vec::new(), last_key: Vec::new(), partitions: Vec::new() }
    }
}

fn write_table(writer: &mut Writer, table: EntryKind) {
    let (tag, id) = table.to_parts();
    writer.u8(tag);
    writer.u32(id);
}

fn write_place(writer: &mut Writer, place: &Place) {
    writer.varint(place.offset);
    writer.varint(u64::from(place.len));
    writer.u64(place.checksum);
}

fn write_versions(writer: &mut Writer, base: Version, (oldest, newest): (Version, Version)) {
    writer.varint(oldest.0.saturating_sub(base.0));
    writer.varint(newest.0.saturating_sub(oldest.0));
}

impl FileIndex {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.u64(self.versions.0.0);
        writer.u64(self.versions.1.0);
        writer.length(self.tables.len());
        for (table, stats) in &self.tables {
            write_table(&mut writer, *table);
            for number in [stats.keys, stats.entries, stats.tombstones, stats.user_bytes] {
                writer.varint(number);
            }
        }
        writer.prefixed(&self.last_key);
        writer.length(self.partitions.len());
        for partition in &self.partitions {
            write_table(&mut writer, partition.first.table);
            writer.prefixed(&partition.first.prefix);
            write_place(&mut writer, &partition.index);
            writer.varint(u64::from(partition.filter.len));
            writer.u64(partition.filter.checksum);
            write_versions(&mut writer, self.versions.0, partition.versions);
        }
        writer.finish()
    }

    /// Reads the index that lies at `offset`, before which all partitions must end.
    pub(crate) fn decode(bytes: &[u8], file: &FileIdentity, offset: u64) -> Result<Self, Corruption> {
        let mut reader = Reader::new(bytes, file.label(), offset);
        let versions = (Version(reader.u64("index oldest version")?), Version(reader.u64("index newest version")?));
        let count = reader.count(bytes.len(), 9, "index tables")?;
        let mut tables: Vec<(EntryKind, TableStats)> = Vec::with_capacity(count);
        for _ in 0..count {
            let table = read_table(&mut reader)?;
            if tables.last().is_some_and(|(last, _)| *last >= table) {
                return Err(reader.corruption("index table", "a higher table than the one before", table.to_string()));
            }
            let stats = TableStats {
                keys: reader.varint("index keys")?,
                entries: reader.varint("index entries")?,
                tombstones: reader.varint("index tombstones")?,
                user_bytes: reader.varint("index user bytes")?,
            };
            tables.push((table, stats));
        }
        let last_key = reader.prefixed(KEY_SIZE_BYTES_MAX, "index last key")?.to_vec();
        // A partition takes a table of five bytes, a length, a place of ten, the rest of another and two versions.
        let count = reader.count(bytes.len(), 27, "index partitions")?;
        let mut partitions: Vec<PartitionEntry> = Vec::with_capacity(count);
        let mut start = to_u64(ENVELOPE_SIZE_BYTES);
        for _ in 0..count {
            let partition = read_partition(&mut reader, versions.0, start..offset)?;
            if partitions.last().is_some_and(|last| last.first >= partition.first) {
                return Err(reader.corruption("partition first key", "a higher key than of the one before", "not a higher one"));
            }
            start = partition.filter.end();
            partitions.push(partition);
        }
        reader.finish()?;
        Ok(Self { versions, tables, last_key, partitions })
    }

    /// The first key of the file.
    pub(crate) fn first(&self) -> Option<&TableKey> {
        self.partitions.first().map(|partition| &partition.first)
    }

    /// The last key of the file.
    pub(crate) fn last(&self) -> Option<TableKey> {
        Some(TableKey { table: self.tables.last()?.0, prefix: self.last_key.clone() })
    }
}

fn read_partition(reader: &mut Reader<'_>, base: Version, within: Range<u64>) -> Result<PartitionEntry, Corruption> {
    let table = read_table(reader)?;
    let prefix = reader.prefixed(KEY_SIZE_BYTES_MAX, "partition first key")?.to_vec();
    let index = read_place(reader, &within)?;
    let len = reader.varint("partition filter length")?;
    let checksum = reader.u64("partition filter checksum")?;
    let filter = u32::try_from(len).ok().map(|len| Place { offset: index.end(), len, checksum });
    let Some(filter) = filter.filter(|filter| filter.end() <= within.end) else {
        return Err(reader.corruption("partition filter length", format!("an end at {} at most", within.end), len.to_string()));
    };
    let versions = read_versions(reader, base)?;
    Ok(PartitionEntry { first: TableKey { table, prefix }, start: within.start, index, filter, versions })
}

impl PartitionIndex {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        let base = self.versions.0;
        writer.u64(base.0);
        writer.u64(self.versions.1.0);
        writer.length(self.tables.len());
        for table in &self.tables {
            write_table(&mut writer, table.table);
            writer.length(table.blocks.len());
            let mut before: &[u8] = &[];
            for block in &table.blocks {
                let shared = common_len(before, &block.first);
                writer.length(shared);
                writer.prefixed(block.first.get(shared..).unwrap_or_default());
                before = &block.first;
                write_place(&mut writer, &block.place);
                write_versions(&mut writer, base, block.versions);
                writer.u16(block.keys);
                writer.u16(block.common_len);
                for head in &block.heads {
                    writer.u32(*head);
                }
            }
        }
        writer.length(self.history.len());
        for block in &self.history {
            write_place(&mut writer, &block.place);
            write_versions(&mut writer, base, block.versions);
        }
        writer.finish()
    }

    /// Reads the index of a partition, which must be what the file's index says. Its blocks lie between where it starts and its index.
    pub(crate) fn decode(bytes: &[u8], file: &FileIdentity, partition: &PartitionEntry) -> Result<Self, Corruption> {
        let mut reader = Reader::new(bytes, file.label(), partition.index.offset);
        let within = partition.start..partition.index.offset;
        let versions = (Version(reader.u64("index oldest version")?), Version(reader.u64("index newest version")?));
        let base = versions.0;
        let count = reader.count(bytes.len(), 6, "index tables")?;
        let mut tables: Vec<TableEntry> = Vec::with_capacity(count);
        let mut blocks_max = PARTITION_BLOCKS;
        for _ in 0..count {
            let table = read_table_blocks(&mut reader, base, &within, blocks_max)?;
            blocks_max = blocks_max.saturating_sub(table.blocks.len());
            if tables.last().is_some_and(|last| last.table >= table.table) {
                return Err(reader.corruption("index table", "a higher table than the one before", table.table.to_string()));
            }
            tables.push(table);
        }
        let count = reader.count(bytes.len(), 12, "index history blocks")?;
        let mut history: Vec<HistoryBlockEntry> = Vec::with_capacity(count);
        for _ in 0..count {
            let place = read_place(&mut reader, &within)?;
            if history.last().is_some_and(|last| place.offset < last.place.end()) {
                return Err(reader.corruption("history block", "one behind the one before", place.offset.to_string()));
            }
            history.push(HistoryBlockEntry { place, versions: read_versions(&mut reader, base)? });
        }
        let index = Self { versions, tables, history };
        let is_as_listed = index.first().as_ref() == Some(&partition.first) && versions == partition.versions;
        if !is_as_listed {
            return Err(reader.corruption("partition index", "first key and versions as the file's index says", "others"));
        }
        reader.finish()?;
        Ok(index)
    }

    /// The first key of the partition.
    pub(crate) fn first(&self) -> Option<TableKey> {
        let table = self.tables.first()?;
        Some(TableKey { table: table.table, prefix: table.blocks.first()?.first.clone() })
    }

    /// The first key of its last main block.
    pub(crate) fn last_first(&self) -> Option<(EntryKind, &[u8])> {
        let table = self.tables.last()?;
        Some((table.table, table.blocks.last()?.first.as_slice()))
    }
}

fn read_place(reader: &mut Reader<'_>, within: &Range<u64>) -> Result<Place, Corruption> {
    let offset = reader.varint("block offset")?;
    let len = reader.varint("block length")?;
    let checksum = reader.u64("block checksum")?;
    let place = u32::try_from(len).ok().map(|len| Place { offset, len, checksum });
    place.filter(|place| place.is_within(within)).ok_or_else(|| {
        let Range { start, end } = within;
        reader.corruption("block place", format!("bytes from {start} to {end}"), format!("{offset} and {len} bytes"))
    })
}

fn read_versions(reader: &mut Reader<'_>, base: Version) -> Result<(Version, Version), Corruption> {
    let oldest = base.0.checked_add(reader.varint("block oldest version")?);
    let above = reader.varint("block newest version")?;
    match oldest.and_then(|oldest| Some((Version(oldest), Version(oldest.checked_add(above)?)))) {
        Some(versions) => Ok(versions),
        None => Err(reader.corruption("block versions", "versions of 64 bits", "higher ones")),
    }
}

fn read_table(reader: &mut Reader<'_>) -> Result<EntryKind, Corruption> {
    let (tag, id) = (reader.u8("index table tag")?, reader.u32("index table id")?);
    let table = EntryKind::from_parts(tag, id);
    table.ok_or_else(|| reader.corruption("index table", "a table of this release", format!("tag {tag}, id {id}")))
}

fn read_table_blocks(
    reader: &mut Reader<'_>,
    base: Version,
    within: &Range<u64>,
    blocks_max: usize,
) -> Result<TableEntry, Corruption> {
    let table = read_table(reader)?;
    // A block takes two lengths, a place of ten, two versions, two numbers of two bytes and a head.
    let count = reader.count(blocks_max, 22, "index main blocks")?;
    if count == 0 {
        return Err(reader.corruption("index main blocks", "at least one", "none"));
    }
    let mut blocks: Vec<MainBlockEntry> = Vec::with_capacity(count);
    for _ in 0..count {
        let before = blocks.last().map(|block| block.first.as_slice());
        let block = read_block(reader, before, base, within)?;
        blocks.push(block);
    }
    Ok(TableEntry { table, blocks })
}

fn read_block(
    reader: &mut Reader<'_>,
    before: Option<&[u8]>,
    base: Version,
    within: &Range<u64>,
) -> Result<MainBlockEntry, Corruption> {
    let shared_max = before.map_or(0, <[u8]>::len);
    let shared = reader.varint("block shared key length")?;
    let Some(shared) = usize::try_from(shared).ok().and_then(|shared| before.unwrap_or_default().get(..shared)) else {
        return Err(reader.corruption("block shared key length", format!("at most {shared_max}"), shared.to_string()));
    };
    let rest_max = KEY_SIZE_BYTES_MAX.saturating_sub(shared.len());
    let first = [shared, reader.prefixed(rest_max, "block first key")?].concat();
    if before.is_some_and(|before| before >= first.as_slice()) {
        return Err(reader.corruption("block first key", "a higher key than of the block before", "not a higher one"));
    }
    let place = read_place(reader, within)?;
    let versions = read_versions(reader, base)?;
    let keys = reader.u16("block keys")?;
    let common_len = reader.u16("block common prefix length")?;
    if keys == 0 || usize::from(keys) > BLOCK_KEYS_MAX || usize::from(common_len) > first.len() {
        let found = format!("{keys} keys with {common_len} common bytes");
        return Err(reader.corruption("block keys", format!("1 to {BLOCK_KEYS_MAX} and at most {}", first.len()), found));
    }
    let lines = usize::from(keys).div_ceil(LINE_KEYS);
    let mut heads = Vec::with_capacity(lines);
    for _ in 0..lines {
        heads.push(reader.u32("block head")?);
    }
    if !heads.is_sorted() {
        return Err(reader.corruption("block heads", "ascending heads", "others"));
    }
    Ok(MainBlockEntry { first, place, versions, keys, common_len, heads })
}

/// How many bytes two keys have in common at their beginnings.
pub(crate) fn common_len(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Where a value apart is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ValueRef {
    pub(crate) place: Place,
    pub(crate) raw_len: u32,
}

impl ValueRef {
    pub(crate) fn encode(&self) -> [u8; VALUE_REF_SIZE_BYTES] {
        let mut writer = Writer::with_capacity(VALUE_REF_SIZE_BYTES);
        writer.u64(self.place.offset);
        writer.u32(self.place.len);
        writer.u32(self.raw_len);
        writer.u64(self.place.checksum);
        let mut bytes = [0; VALUE_REF_SIZE_BYTES];
        for (to, from) in bytes.iter_mut().zip(writer.as_slice()) {
            *to = *from;
        }
        bytes
    }

    /// Reads a reference to a value that must lie within these bytes; `None` if it cannot be one.
    pub(crate) fn decode(bytes: &[u8], within: &Range<u64>) -> Option<Self> {
        let mut reader = Reader::new(bytes, "a value's reference", 0);
        let (offset, len) = (reader.u64("offset").ok()?, reader.u32("length").ok()?);
        let raw_len = reader.u32("raw length").ok()?;
        let place = Place { offset, len, checksum: reader.u64("checksum").ok()? };
        let is_sound = reader.is_empty() && place.is_within(within) && widen(raw_len) <= VALUE_SIZE_BYTES_MAX;
        is_sound.then_some(Self { place, raw_len })
    }
}

/// The field tables of the format, from which its page is rendered.
pub(crate) fn format_tables() -> Vec<FieldTable> {
    vec![FRAME_TABLE, LINE_TABLE, ENTRY_TABLE, GROUP_TABLE, PARTITION_TABLE, INDEX_TABLE, FOOTER_TABLE]
}
