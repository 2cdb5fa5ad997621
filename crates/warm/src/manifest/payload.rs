//! The bytes that records carry, encode beside decode.
//!
//! ```text
//! snapshot | next file number | last rank | last marker | flushed | rewritten | edit: what makes the state of nothing, its lists in order
//!          | u64              | u64       | u64         | u64     | u64       |
//! edit     | parts | checkpoint, if it is there       | horizon, if it is there
//!          | u8    | version u64, length varint, bytes | u64
//!          | removed | moved | added | tables | forgotten drops | drops | forgotten clears | clears
//!          lists, each of them a count (varint) and so many items:
//!            number u64 | number u64, level u8 | file | table |
//!            key, version u64 | key, version u64, marker u64 | table | table, marker u64
//!          | summaries, if they are there: a list like the others
//!            number u64, length varint, bytes
//! table    | tag | id  |   key | table | length | prefix |
//!          | u8  | u32 |       |       | varint |        |
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
use thermocline_tier::limits::KEY_SIZE_BYTES_MAX;
use thermocline_tier::{Checkpoint, EntryKind, TableStats, Version};

use super::state::{Counters, Edit, SUMMARY_SIZE_BYTES_MAX, State};
use crate::meta::{FileMeta, TableKey};

/// The part of an edit that is there: a checkpoint.
const HAS_CHECKPOINT: u8 = 1;
/// The part of an edit that is there: a horizon.
const HAS_HORIZON: u8 = 2;
/// Bit of an edit's parts.
const HAS_SUMMARIES: u8 = 4;

const TABLE_LEN: usize = 5;
/// The least that a key takes: its table and a length of 0.
const KEY_LEN_MIN: usize = 6;
/// The least that the statistics of a table take: the table and four varints.
const STATS_LEN_MIN: usize = 9;
/// The least that a file takes: its fixed fields, two keys, the counts and the statistics of one table.
const FILE_LEN_MIN: usize = 80;

/// The field tables of the payloads and of what they are made of.
pub(super) const PAYLOAD_TABLES: [FieldTable; 5] = [
    FieldTable::new(
        "snapshot payload",
        "All that the manifest says at that moment.",
        &[
            Field::at(0, Encoding::U64, "next file number", "above that of every sorted file that ever was live"),
            Field::at(8, Encoding::U64, "last rank", "the highest that any file ever had; 0 if there was none"),
            Field::at(16, Encoding::U64, "last marker", "the last sequence that a marker was given; 0 if there was none"),
            Field::at(24, Encoding::U64, "flushed", "the bytes of all files that ever came to level 0"),
            Field::at(32, Encoding::U64, "rewritten", "the bytes of all files that were ever made for a level below"),
            Field::at(
                40,
                Encoding::Variable,
                "content",
                "an edit that makes the state of nothing: what is not there is left out",
            ),
        ],
    ),
    FieldTable::new(
        "edit payload",
        "What changes, all or nothing: files are removed, then moved, then added; markers are forgotten, then made. Each list is a \
         count (varint) and so many items. A table is its tag (u8: 0 multi, 1 source, 2 operator) and its id (u32, 0 for multi). A \
         key is a table, a length (varint, at most 65,535) and so many bytes.",
        &[
            Field::at(0, Encoding::Bits8, "parts", "1: a checkpoint follows; 2: a horizon follows; 4: summaries end the edit"),
            Field::at(
                1,
                Encoding::Variable,
                "checkpoint",
                "if it is there: its version (u64), the length of the store's state (varint), that state",
            ),
            Field::after(Encoding::Variable, "horizon", "if it is there: a version (u64), not below the one before"),
            Field::after(Encoding::Variable, "removed files", "list of numbers (u64) of live files"),
            Field::after(Encoding::Variable, "moved files", "list of numbers (u64) of live files, each with its new level (u8)"),
            Field::after(Encoding::Variable, "added files", "list of files, under numbers that are not in use"),
            Field::after(Encoding::Variable, "tables", "list of tables that exist from now on"),
            Field::after(Encoding::Variable, "forgotten drops", "list of keys, each with a version (u64)"),
            Field::after(
                Encoding::Variable,
                "drops",
                "list of keys, each with a version (u64) and the sequence of its marker (u64), above all before",
            ),
            Field::after(Encoding::Variable, "forgotten clears", "list of tables"),
            Field::after(
                Encoding::Variable,
                "clears",
                "list of tables, each with the sequence of its marker (u64), above all before",
            ),
            Field::after(
                Encoding::Variable,
                "summaries",
                "if they are there: list of numbers (u64) of live files, each with a new file summary (length as varint, bytes)",
            ),
        ],
    ),
    FieldTable::new(
        "file",
        "A sorted file that is live from now on. On one level, except level 0, files hold disjoint keys.",
        &[
            Field::at(0, Encoding::U64, "number", "the number in its name, from 1"),
            Field::at(8, Encoding::U8, "level", "0 to 6"),
            Field::at(9, Encoding::U64, "size", "its length in bytes"),
            Field::at(17, Encoding::Checksum64, "checksum", "the one that ends its footer"),
            Field::at(25, Encoding::U64, "oldest version", ""),
            Field::at(33, Encoding::U64, "newest version", "not below the oldest"),
            Field::at(41, Encoding::U64, "applied", "the last marker that was applied when it was written"),
            Field::at(
                49,
                Encoding::U64,
                "rank",
                "of two files with the same version of a key, the higher rank wins; on level 0 files of one flush share it, with disjoint keys",
            ),
            Field::at(57, Encoding::Variable, "first key", "a key"),
            Field::after(Encoding::Variable, "last key", "a key, not below the first"),
            Field::after(Encoding::Variable, "tables", "list of table statistics, ascending by table, at least one"),
            Field::after(Encoding::Prefixed, "summary", "a file summary, at most 65,536 bytes"),
        ],
    ),
    FieldTable::new(
        "key",
        "A key in its table.",
        &[
            Field::at(0, Encoding::U8, "table tag", "0 multi, 1 source, 2 operator"),
            Field::at(1, Encoding::U32, "table id", "0 for multi"),
            Field::at(5, Encoding::Prefixed, "prefix", "the part of the key that orders, at most 65,535 bytes"),
        ],
    ),
    FieldTable::new(
        "table statistics",
        "What a file holds of one table.",
        &[
            Field::at(0, Encoding::U8, "table tag", "0 multi, 1 source, 2 operator"),
            Field::at(1, Encoding::U32, "table id", "0 for multi"),
            Field::at(5, Encoding::Varint, "keys", "at least 1"),
            Field::after(Encoding::Varint, "entries", "all versions of all keys, tombstones included"),
            Field::after(Encoding::Varint, "tombstones", "among the entries"),
            Field::after(Encoding::Varint, "user bytes", "prefixes, suffixes and values of all entries, in bytes"),
        ],
    ),
];

/// Writes a state as a snapshot.
pub(super) fn write_snapshot(writer: &mut Writer, state: &State) {
    let Counters { file_number_next, rank_last, marker_last, flushed_bytes, rewritten_bytes } = state.counters();
    writer.u64(file_number_next);
    writer.u64(rank_last);
    writer.u64(marker_last);
    writer.u64(flushed_bytes);
    writer.u64(rewritten_bytes);
    write_parts(writer, Some(&state.checkpoint), Some(state.horizon), false);
    // Nothing to remove and nothing to move.
    writer.length(0);
    writer.length(0);
    list(writer, state.files.values(), write_file);
    list(writer, state.tables.iter(), |writer, table| write_table(writer, *table));
    // Nothing to forget.
    writer.length(0);
    list(writer, state.drops.iter(), |writer, ((key, version), marker)| write_drop(writer, key, *version, *marker));
    writer.length(0);
    list(writer, state.clears.iter(), |writer, (table, marker)| write_clear(writer, *table, *marker));
}

/// Writes an edit.
pub(super) fn write_edit(writer: &mut Writer, edit: &Edit) {
    write_parts(writer, edit.checkpoint.as_ref(), edit.horizon, !edit.summaries.is_empty());
    list(writer, edit.remove.iter(), |writer, number| writer.u64(*number));
    list(writer, edit.moves.iter(), |writer, (number, level)| {
        writer.u64(*number);
        writer.u8(*level);
    });
    list(writer, edit.add.iter(), write_file);
    list(writer, edit.tables.iter(), |writer, table| write_table(writer, *table));
    list(writer, edit.forget_drops.iter(), |writer, (key, version)| {
        write_key(writer, key);
        writer.u64(version.0);
    });
    list(writer, edit.drops.iter(), |writer, (key, version, marker)| write_drop(writer, key, *version, *marker));
    list(writer, edit.forget_clears.iter(), |writer, table| write_table(writer, *table));
    list(writer, edit.clears.iter(), |writer, (table, marker)| write_clear(writer, *table, *marker));
    if !edit.summaries.is_empty() {
        list(writer, edit.summaries.iter(), |writer, (number, summary)| {
            writer.u64(*number);
            writer.prefixed(summary);
        });
    }
}

fn write_parts(writer: &mut Writer, checkpoint: Option<&Checkpoint>, horizon: Option<Version>, has_summaries: bool) {
    let parts = checkpoint.map_or(0, |_| HAS_CHECKPOINT) | horizon.map_or(0, |_| HAS_HORIZON);
    let parts = if has_summaries { parts | HAS_SUMMARIES } else { parts };
    writer.u8(parts);
    if let Some(checkpoint) = checkpoint {
        writer.u64(checkpoint.version.0);
        writer.prefixed(&checkpoint.state);
    }
    if let Some(horizon) = horizon {
        writer.u64(horizon.0);
    }
}

fn list<T>(writer: &mut Writer, items: impl ExactSizeIterator<Item = T>, write: impl Fn(&mut Writer, T)) {
    writer.length(items.len());
    items.for_each(|item| write(writer, item));
}

fn write_table(writer: &mut Writer, table: EntryKind) {
    let (tag, id) = table.to_parts();
    writer.u8(tag);
    writer.u32(id);
}

fn write_key(writer: &mut Writer, key: &TableKey) {
    write_table(writer, key.table);
    writer.prefixed(&key.prefix);
}

fn write_drop(writer: &mut Writer, key: &TableKey, version: Version, marker: u64) {
    write_key(writer, key);
    writer.u64(version.0);
    writer.u64(marker);
}

fn write_clear(writer: &mut Writer, table: EntryKind, marker: u64) {
    write_table(writer, table);
    writer.u64(marker);
}

fn write_file(writer: &mut Writer, file: &FileMeta) {
    writer.u64(file.number);
    writer.u8(file.level);
    writer.u64(file.size_bytes);
    writer.u64(file.checksum);
    writer.u64(file.version_min.0);
    writer.u64(file.version_max.0);
    writer.u64(file.applied);
    writer.u64(file.rank);
    write_key(writer, &file.first);
    write_key(writer, &file.last);
    list(writer, file.tables.iter(), |writer, (table, stats)| {
        write_table(writer, *table);
        writer.varint(stats.keys);
        writer.varint(stats.entries);
        writer.varint(stats.tombstones);
        writer.varint(stats.user_bytes);
    });
    writer.prefixed(&file.summary);
}

/// Reads a snapshot. What it says is not yet checked.
pub(super) fn read_snapshot(mut reader: Reader<'_>) -> Result<(Edit, Counters), Corruption> {
    let counters = Counters {
        file_number_next: reader.u64("next file number")?,
        rank_last: reader.u64("last rank")?,
        marker_last: reader.u64("last marker")?,
        flushed_bytes: reader.u64("flushed bytes")?,
        rewritten_bytes: reader.u64("rewritten bytes")?,
    };
    Ok((read_edit(reader)?, counters))
}

/// Reads an edit. What it says is not yet checked.
pub(super) fn read_edit(mut reader: Reader<'_>) -> Result<Edit, Corruption> {
    let reader = &mut reader;
    let at = reader.offset();
    let parts = reader.u8("edit parts")?;
    if parts & !(HAS_CHECKPOINT | HAS_HORIZON | HAS_SUMMARIES) != 0 {
        return Err(Corruption::new(reader.file(), at, "edit parts", "no bits but 1, 2 and 4", parts.to_string()));
    }
    let checkpoint = if parts & HAS_CHECKPOINT != 0 { Some(read_checkpoint(reader)?) } else { None };
    let horizon = if parts & HAS_HORIZON != 0 { Some(read_version(reader, "horizon")?) } else { None };
    let edit = Edit {
        checkpoint,
        horizon,
        remove: read_list(reader, 8, "removed files", |reader| reader.u64("removed file"))?,
        moves: read_list(reader, 9, "moved files", |reader| Ok((reader.u64("moved file")?, reader.u8("moved file's level")?)))?,
        add: read_list(reader, FILE_LEN_MIN, "added files", read_file)?,
        tables: read_list(reader, TABLE_LEN, "tables", read_table)?,
        forget_drops: read_list(reader, KEY_LEN_MIN.saturating_add(8), "forgotten drops", |reader| {
            Ok((read_key(reader)?, read_version(reader, "forgotten drop's version")?))
        })?,
        drops: read_list(reader, KEY_LEN_MIN.saturating_add(16), "drops", |reader| {
            Ok((read_key(reader)?, read_version(reader, "drop's version")?, reader.u64("drop's marker")?))
        })?,
        forget_clears: read_list(reader, TABLE_LEN, "forgotten clears", read_table)?,
        clears: read_list(reader, TABLE_LEN.saturating_add(8), "clears", |reader| {
            Ok((read_table(reader)?, reader.u64("clear's marker")?))
        })?,
        summaries: if parts & HAS_SUMMARIES != 0 { read_summaries(reader)? } else { Vec::new() },
    };
    reader.clone().finish()?;
    Ok(edit)
}

/// A count, checked against the bytes that are left before anything is allocated, and so many items.
fn read_list<T>(
    reader: &mut Reader<'_>,
    size_min: usize,
    part: &'static str,
    read: impl Fn(&mut Reader<'_>) -> Result<T, Corruption>,
) -> Result<Vec<T>, Corruption> {
    let count = reader.count(usize::MAX, size_min, part)?;
    (0..count).map(|_| read(reader)).collect()
}

fn read_checkpoint(reader: &mut Reader<'_>) -> Result<Checkpoint, Corruption> {
    let version = read_version(reader, "checkpoint's version")?;
    let state = Bytes::copy_from_slice(reader.prefixed(usize::MAX, "checkpoint's state")?);
    Ok(Checkpoint { version, state })
}

fn read_version(reader: &mut Reader<'_>, part: &'static str) -> Result<Version, Corruption> {
    reader.u64(part).map(Version)
}

fn read_table(reader: &mut Reader<'_>) -> Result<EntryKind, Corruption> {
    let at = reader.offset();
    let tag = reader.u8("table tag")?;
    let id = reader.u32("table id")?;
    EntryKind::from_parts(tag, id).ok_or_else(|| {
        let found = format!("tag {tag}, id {id}");
        Corruption::new(reader.file(), at, "table", "tag 0 with id 0, or tag 1 or 2", found)
    })
}

fn read_key(reader: &mut Reader<'_>) -> Result<TableKey, Corruption> {
    Ok(TableKey { table: read_table(reader)?, prefix: reader.prefixed(KEY_SIZE_BYTES_MAX, "key")?.to_vec() })
}

fn read_file(reader: &mut Reader<'_>) -> Result<FileMeta, Corruption> {
    Ok(FileMeta {
        number: reader.u64("file number")?,
        level: reader.u8("file level")?,
        size_bytes: reader.u64("file size")?,
        checksum: reader.u64("file checksum")?,
        version_min: read_version(reader, "file's oldest version")?,
        version_max: read_version(reader, "file's newest version")?,
        applied: reader.u64("file's applied markers")?,
        rank: reader.u64("file rank")?,
        first: read_key(reader)?,
        last: read_key(reader)?,
        tables: read_list(reader, STATS_LEN_MIN, "file's tables", |reader| Ok((read_table(reader)?, read_stats(reader)?)))?,
        summary: read_summary(reader)?,
    })
}

fn read_summaries(reader: &mut Reader<'_>) -> Result<Vec<(u64, Bytes)>, Corruption> {
    let at = reader.offset();
    let summaries = read_list(reader, 9, "summaries", |reader| Ok((reader.u64("summarized file")?, read_summary(reader)?)))?;
    if summaries.is_empty() {
        return Err(Corruption::new(reader.file(), at, "summaries", "at least one, since they are said to be there", "none"));
    }
    Ok(summaries)
}

fn read_summary(reader: &mut Reader<'_>) -> Result<Bytes, Corruption> {
    reader.prefixed(SUMMARY_SIZE_BYTES_MAX, "file summary").map(Bytes::copy_from_slice)
}

fn read_stats(reader: &mut Reader<'_>) -> Result<TableStats, Corruption> {
    Ok(TableStats {
        keys: reader.varint("table's keys")?,
        entries: reader.varint("table's entries")?,
        tombstones: reader.varint("table's tombstones")?,
        user_bytes: reader.varint("table's user bytes")?,
    })
}
