//! The bytes that records carry, encode beside decode.
//!
//! ```text
//! commit    | version | time | clears | table, table, ..      | run | run | ..
//!           | u64     | u64  | varint | 5 bytes each          |
//! run       | table   | entries | entry | entry | ..
//!           | 5 bytes | u32     |
//! entry     | key length | suffix length | value length + 1, 0 for a tombstone | key (prefix, suffix) | value
//!           | varint     | varint        | varint                              |                      |
//! table     | tag | id  |
//!           | u8  | u32 |
//! ```

#![deny(
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "bytes from disk must not be able to cause a panic or to be narrowed in silence"
)]

use bytes::Bytes;
use thermocline_format::{Corruption, Encoding, Field, FieldTable, Reader, Writer};
use thermocline_tier::limits::{KEY_SIZE_BYTES_MAX, VALUE_SIZE_BYTES_MAX};
use thermocline_tier::{EntryKind, TierBatch, Version};

use crate::entry::{Change, Commit, Genesis};

/// The longest name of a key layout, in bytes.
pub const LAYOUT_NAME_SIZE_BYTES_MAX: usize = 1024;

/// A table's tag and id.
const TABLE_LEN: usize = 5;
/// A run of one entry without key and value.
const RUN_LEN_MIN: usize = 12;
/// The most that one entry takes beside its key and value: three varints.
const ENTRY_OVERHEAD_MAX: usize = 11;

/// The field tables of the payloads, in the order of the records' kinds.
pub(crate) const PAYLOAD_TABLES: [FieldTable; 7] = [
    FieldTable::new(
        "genesis payload",
        "The first record of a store's log.",
        &[
            Field::at(0, Encoding::U64, "time", "when the store was made, in microseconds since the Unix epoch"),
            Field::at(8, Encoding::Prefixed, "layout", "the name of the key layout, UTF-8, at most 1,024 bytes"),
        ],
    ),
    FieldTable::new(
        "commit payload",
        "A commit. A table is its tag (u8: 0 multi, 1 source, 2 operator) and its id (u32, 0 for multi).",
        &[
            Field::at(0, Encoding::U64, "version", "above that of every record before"),
            Field::at(8, Encoding::U64, "time", "when it was made, in microseconds since the Unix epoch"),
            Field::at(16, Encoding::Varint, "clears", "how many tables it clears"),
            Field::after(Encoding::Variable, "cleared tables", "5 bytes each, ascending"),
            Field::after(Encoding::Variable, "runs", "one for each table with entries, ascending, to the end of the payload"),
        ],
    ),
    FieldTable::new(
        "run",
        "The entries of one table in a commit.",
        &[
            Field::at(0, Encoding::U8, "table tag", "0 multi, 1 source, 2 operator"),
            Field::at(1, Encoding::U32, "table id", "0 for multi"),
            Field::at(5, Encoding::U32, "count", "how many entries follow, at least 1"),
            Field::at(9, Encoding::Variable, "entries", "ascending by prefix, each prefix once"),
        ],
    ),
    FieldTable::new(
        "entry",
        "One write.",
        &[
            Field::at(0, Encoding::Varint, "key length", "of prefix and suffix together, in bytes, at most 65,535"),
            Field::after(Encoding::Varint, "suffix length", "how many of the key's last bytes are suffix"),
            Field::after(Encoding::Varint, "value length", "in bytes, plus 1; 0 is a tombstone, which has no value"),
            Field::after(Encoding::Variable, "key", "prefix, then suffix"),
            Field::after(Encoding::Variable, "value", ""),
        ],
    ),
    FieldTable::new(
        "ensure table payload",
        "A table came into being. (The payloads of witness and close are empty.)",
        &[
            Field::at(0, Encoding::U8, "table tag", "0 multi, 1 source, 2 operator"),
            Field::at(1, Encoding::U32, "table id", "0 for multi"),
        ],
    ),
    FieldTable::new(
        "purge table payload",
        "A table was removed with all its history.",
        &[
            Field::at(0, Encoding::U64, "version", "above that of every record before"),
            Field::at(8, Encoding::U64, "time", "when it happened, in microseconds since the Unix epoch"),
            Field::at(16, Encoding::U8, "table tag", "0 multi, 1 source, 2 operator"),
            Field::at(17, Encoding::U32, "table id", "0 for multi"),
        ],
    ),
    FieldTable::new(
        "note payload",
        "What the store must know again besides its commits, in its own encoding.",
        &[Field::at(0, Encoding::Variable, "bytes", "to the end of the payload")],
    ),
];

pub(crate) fn write_genesis(writer: &mut Writer, genesis: &Genesis) {
    writer.u64(genesis.time);
    writer.prefixed(genesis.layout.as_bytes());
}

pub(crate) fn read_genesis(mut reader: Reader<'_>) -> Result<Genesis, Corruption> {
    let time = reader.u64("genesis time")?;
    let at = reader.offset();
    let name = reader.prefixed(LAYOUT_NAME_SIZE_BYTES_MAX, "genesis layout name")?;
    let Ok(layout) = std::str::from_utf8(name).map(str::to_owned) else {
        return Err(Corruption::new(reader.file(), at, "genesis layout name", "UTF-8", "other bytes"));
    };
    reader.finish()?;
    Ok(Genesis { layout, time })
}

pub(crate) fn write_table(writer: &mut Writer, table: EntryKind) {
    let (tag, id) = table.to_parts();
    writer.u8(tag);
    writer.u32(id);
}

fn table(reader: &mut Reader<'_>) -> Result<EntryKind, Corruption> {
    let at = reader.offset();
    let tag = reader.u8("table tag")?;
    let id = reader.u32("table id")?;
    EntryKind::from_parts(tag, id).ok_or_else(|| {
        let found = format!("tag {tag}, id {id}");
        Corruption::new(reader.file(), at, "table", "tag 0 with id 0, or tag 1 or 2", found)
    })
}

pub(crate) fn read_ensure_table(mut reader: Reader<'_>) -> Result<EntryKind, Corruption> {
    let table = table(&mut reader)?;
    reader.finish()?;
    Ok(table)
}

pub(crate) fn write_purge(writer: &mut Writer, version: Version, time: u64, table: EntryKind) {
    writer.u64(version.0);
    writer.u64(time);
    write_table(writer, table);
}

/// Version, time and table.
pub(crate) fn read_purge(mut reader: Reader<'_>) -> Result<(Version, u64, EntryKind), Corruption> {
    let version = version(&mut reader)?;
    let time = reader.u64("purge time")?;
    let table = table(&mut reader)?;
    reader.finish()?;
    Ok((version, time, table))
}

fn version(reader: &mut Reader<'_>) -> Result<Version, Corruption> {
    let at = reader.offset();
    let version = Version(reader.u64("version")?);
    if version == Version::ZERO || version > Version::COMMIT_MAX {
        let expected = format!("1 to {}", Version::COMMIT_MAX.0);
        return Err(Corruption::new(reader.file(), at, "version", expected, version.0.to_string()));
    }
    Ok(version)
}

/// At least as many bytes as [`write_commit`] takes.
pub(crate) fn commit_size_max(batch: &TierBatch, clears: &[EntryKind]) -> usize {
    // Every entry may begin a run of its own.
    let per_entry = ENTRY_OVERHEAD_MAX.saturating_add(RUN_LEN_MIN);
    let entries = batch.len().saturating_mul(per_entry).saturating_add(batch.size_bytes());
    entries.saturating_add(clears.len().saturating_mul(TABLE_LEN)).saturating_add(32)
}

pub(crate) fn write_commit(writer: &mut Writer, time: u64, batch: &TierBatch, clears: &[EntryKind]) {
    writer.u64(batch.version().0);
    writer.u64(time);
    writer.length(clears.len());
    for &table in clears {
        write_table(writer, table);
    }
    let mut run: Option<(EntryKind, usize, u32)> = None;
    for (table, entry) in batch.iter() {
        match &mut run {
            Some((current, _, count)) if *current == table => *count = count.saturating_add(1),
            _ => {
                end_run(writer, run);
                write_table(writer, table);
                run = Some((table, writer.len(), 1));
                writer.u32(0);
            }
        }
        let key_len = entry.prefix.len().saturating_add(entry.suffix.len());
        let value_code = entry.value.map_or(0, |value| value.len().saturating_add(1));
        // All three fit a byte each: by far the most common case, worth a single append.
        if let (Ok(key @ 0..0x80), Ok(suffix @ 0..0x80), Ok(value @ 0..0x80)) =
            (u8::try_from(key_len), u8::try_from(entry.suffix.len()), u8::try_from(value_code))
        {
            writer.bytes(&[key, suffix, value]);
        } else {
            writer.length(key_len);
            writer.length(entry.suffix.len());
            writer.length(value_code);
        }
        writer.bytes(entry.prefix);
        writer.bytes(entry.suffix);
        writer.bytes(entry.value.unwrap_or_default());
    }
    end_run(writer, run);
}

fn end_run(writer: &mut Writer, run: Option<(EntryKind, usize, u32)>) {
    if let Some((_, position, count)) = run {
        writer.overwrite(position, &count.to_le_bytes());
    }
}

/// The front of a commit: what comes before the runs.
pub(crate) struct CommitFront {
    pub(crate) version: Version,
    pub(crate) time: u64,
}

/// Reads the front of a commit and leaves the reader before the runs. The cleared tables go into `clears`.
pub(crate) fn read_commit_front(reader: &mut Reader<'_>, clears: &mut Vec<EntryKind>) -> Result<CommitFront, Corruption> {
    let version = version(reader)?;
    let time = reader.u64("commit time")?;
    let count = reader.count(usize::MAX, TABLE_LEN, "commit clears")?;
    clears.clear();
    for _ in 0..count {
        let at = reader.offset();
        let table = table(reader)?;
        if clears.last().is_some_and(|&last| last >= table) {
            return Err(Corruption::new(reader.file(), at, "cleared table", "tables in ascending order", table.to_string()));
        }
        clears.push(table);
    }
    Ok(CommitFront { version, time })
}

/// One entry as it lies in a payload.
struct RawEntry<'a> {
    prefix: &'a [u8],
    suffix: &'a [u8],
    value: Option<&'a [u8]>,
}

#[inline]
fn entry<'a>(reader: &mut Reader<'a>) -> Result<RawEntry<'a>, Corruption> {
    let key_len = reader.length(KEY_SIZE_BYTES_MAX, "entry key length")?;
    let at = reader.offset();
    let suffix_len = reader.length(KEY_SIZE_BYTES_MAX, "entry suffix length")?;
    let Some(prefix_len) = key_len.checked_sub(suffix_len) else {
        let expected = format!("at most the key's {key_len} bytes");
        return Err(Corruption::new(reader.file(), at, "entry suffix length", expected, suffix_len.to_string()));
    };
    let value_at = reader.offset();
    let value_code = reader.varint("entry value length")?;
    let prefix = reader.bytes(prefix_len, "entry key")?;
    let suffix = reader.bytes(suffix_len, "entry key suffix")?;
    let value = match value_code.checked_sub(1) {
        None => None,
        Some(length) => {
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            if length > VALUE_SIZE_BYTES_MAX {
                let expected = format!("at most {VALUE_SIZE_BYTES_MAX} bytes");
                return Err(Corruption::new(reader.file(), value_at, "entry value length", expected, length.to_string()));
            }
            Some(reader.bytes(length, "entry value")?)
        }
    };
    Ok(RawEntry { prefix, suffix, value })
}

/// Reads the runs of a commit to the payload's end and hands each entry to `take` with its table and its offset. `entries` is what the
/// record's header promises.
#[inline]
fn read_runs<'a>(
    mut reader: Reader<'a>,
    entries: u32,
    mut take: impl FnMut(EntryKind, RawEntry<'a>, u64) -> Result<(), Corruption>,
) -> Result<(), Corruption> {
    let mut found: u64 = 0;
    let mut last_table = None;
    while !reader.is_empty() {
        let at = reader.offset();
        let table = table(&mut reader)?;
        if last_table.is_some_and(|last| last >= table) {
            return Err(Corruption::new(reader.file(), at, "run", "tables in ascending order", table.to_string()));
        }
        last_table = Some(table);
        let count = reader.u32("run count")?;
        if count == 0 {
            return Err(Corruption::new(reader.file(), at, "run count", "at least 1", "0"));
        }
        for _ in 0..count {
            let at = reader.offset();
            let entry = entry(&mut reader)?;
            take(table, entry, at)?;
        }
        found = found.saturating_add(u64::from(count));
    }
    if found != u64::from(entries) {
        return Err(reader.corruption("commit entries", entries.to_string(), found.to_string()));
    }
    reader.finish()
}

/// Reads the rest of a commit into `batch`, whose memory is used again.
pub(crate) fn read_entries(reader: Reader<'_>, entries: u32, version: Version, batch: &mut TierBatch) -> Result<(), Corruption> {
    batch.reset(version);
    let file = reader.file();
    read_runs(reader, entries, |table, entry, at| {
        batch.push_sorted(table, entry.prefix, entry.suffix, entry.value).map_err(|error| {
            Corruption::new(file, at, "entry", "entries in ascending order, within the limits", error.to_string())
        })
    })
}

/// Reads the rest of a commit as slices of `block`, of which the reader's bytes are a part.
pub(crate) fn read_changes(
    reader: Reader<'_>,
    entries: u32,
    block: &Bytes,
    clears: Vec<EntryKind>,
    front: &CommitFront,
) -> Result<Commit, Corruption> {
    // Each entry takes at least 3 bytes, which bounds the allocation by what was really read.
    let room = usize::try_from(entries).unwrap_or(usize::MAX).min(reader.remaining());
    let mut changes = Vec::with_capacity(room);
    read_runs(reader, entries, |table, entry, _| {
        let (prefix, suffix) = (block.slice_ref(entry.prefix), slice_of(block, entry.suffix));
        changes.push(Change { table, prefix, suffix, value: entry.value.map(|value| slice_of(block, value)) });
        Ok(())
    })?;
    Ok(Commit { version: front.version, time: front.time, clears, purged: None, changes })
}

/// An empty slice needs no count of the block.
fn slice_of(block: &Bytes, part: &[u8]) -> Bytes {
    if part.is_empty() { Bytes::new() } else { block.slice_ref(part) }
}
