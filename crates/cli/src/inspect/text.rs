//! What the text and the page have in common, and the text.

use std::io::Write;

use thermocline::{Bytes, FileCounters, Table, Version};

use super::Inspection;
use super::grid::{Column, Grid};
use crate::failure::Failure;
use crate::files::{FileSum, old_versions, ratio};
use crate::output::{Shown, put};
use crate::sizes::Size;
use crate::{files, stats};

/// Of a key that is longer, its beginning and its end are shown: keys that lie side by side often begin alike.
const KEY_SHOWN_MAX: usize = 32;
const KEY_SHOWN_TAIL: usize = 12;

/// Prints all that is known.
pub(super) fn put(inspection: &Inspection, out: &mut dyn Write) -> Result<(), Failure> {
    for (name, value) in facts(inspection) {
        put!(out, "{name}: {value}")?;
    }
    for (name, grid) in grids(inspection) {
        put!(out, "\n{name}")?;
        grid.put(out)?;
    }
    Ok(())
}

/// What can be said in a line each.
pub(super) fn facts(inspection: &Inspection) -> Vec<(&'static str, String)> {
    let Inspection { stats, total, .. } = inspection;
    let mut facts = vec![
        ("version", format!("{}, {}", stats.last_version, stats::health(stats))),
        ("horizon", horizon(stats.horizon)),
        ("checkpoint", checkpoint(stats.checkpoint, stats.last_version)),
        ("files", format!("{} in {} files, with {} entries", Size(total.size_bytes), total.files, total.counts.entries)),
        ("log", format!("{} in {} segments", Size(stats.log.size_bytes), stats.log.segments)),
        ("memory", format!("{} for tables and for what is cached of files", Size(stats.tiers.memory_bytes))),
        ("read amplification", read_amplification(inspection)),
        ("space amplification", space_amplification(inspection)),
        ("write amplification", write_amplification(inspection)),
    ];
    let pins: Vec<String> = stats.pins.iter().map(|pin| format!("{} at version {}", pin.name, pin.version)).collect();
    facts.push(("pins", if pins.is_empty() { "none".to_owned() } else { pins.join(", ") }));
    if let Some(failure) = &stats.background_failure {
        facts.push(("background work fails", Shown(failure.as_bytes()).to_string()));
    }
    facts
}

fn horizon(horizon: Version) -> String {
    match horizon {
        Version::ZERO => "none: every version can be read".to_owned(),
        _ => format!("{horizon}: every version from there on can be read"),
    }
}

fn checkpoint(checkpoint: Version, last: Version) -> String {
    if checkpoint == Version::ZERO {
        "none: everything is in the log and in memory".to_owned()
    } else if checkpoint >= last {
        format!("{checkpoint}: everything lies in files")
    } else {
        format!("{checkpoint}: what came after it, up to version {last}, is in the log and in memory")
    }
}

fn read_amplification(inspection: &Inspection) -> String {
    let (upper, below) = inspection.read_files();
    let all = inspection.read_files_max();
    if all == 0 {
        return "none: there are no files".to_owned();
    }
    format!("at most {all} files for a point read: {upper} of level 0, and one of each of the {below} levels below that have any")
}

fn space_amplification(inspection: &Inspection) -> String {
    inspection.space_amplification().map_or_else(
        || "not known: the files hold no keys and values".to_owned(),
        |times| format!("{times:.2} bytes of files for each byte of keys and values in them, all versions counted"),
    )
}

fn write_amplification(inspection: &Inspection) -> String {
    match files::write_amplification(&inspection.counters) {
        Some(times) => {
            let FileCounters { flushed_total_bytes, rewritten_total_bytes, .. } = inspection.counters;
            let (flushed, rewritten) = (Size(flushed_total_bytes), Size(rewritten_total_bytes));
            format!(
                "{times:.1} since the store was made: {flushed} of files flushed, {rewritten} written again; the log comes on top"
            )
        }
        None => "none: nothing was flushed".to_owned(),
    }
}

/// The tables of all that there are several of.
pub(super) fn grids(inspection: &Inspection) -> Vec<(&'static str, Grid)> {
    let grids = [("levels", levels(inspection)), ("tables", tables(inspection)), ("files", all_files(inspection))];
    grids.into_iter().filter(|(_, grid)| !grid.rows.is_empty()).collect()
}

fn levels(inspection: &Inspection) -> Grid {
    let columns = vec![
        Column::Text("level"),
        Column::Number("files"),
        Column::Number("size"),
        Column::Number("entries"),
        Column::Number("old versions"),
        Column::Number("tombstones"),
    ];
    let row = |name: String, FileSum { files, size_bytes, counts }: &FileSum| {
        let entries = counts.entries;
        let shares = [share(old_versions(counts), entries), share(counts.tombstones, entries)];
        [name, files.to_string(), Size(*size_bytes).to_string(), entries.to_string()].into_iter().chain(shares).collect()
    };
    let mut rows: Vec<Vec<String>> = inspection.levels.iter().map(|(level, sum)| row(level.to_string(), sum)).collect();
    if rows.len() > 1 {
        rows.push(row("all".to_owned(), &inspection.total));
    }
    Grid { columns, rows }
}

fn share(part: u64, whole: u64) -> String {
    if whole == 0 { "-".to_owned() } else { format!("{:.1} %", ratio(part, whole) * 100.0) }
}

fn tables(inspection: &Inspection) -> Grid {
    let columns = vec![
        Column::Text("table"),
        Column::Number("files"),
        Column::Number("entries"),
        Column::Number("tombstones"),
        Column::Number("keys and values"),
        Column::Number("size (estimate)"),
    ];
    let row = |(table, space): (&Table, &super::TableSpace)| {
        vec![
            table.to_string(),
            space.files.to_string(),
            space.counts.entries.to_string(),
            space.counts.tombstones.to_string(),
            Size(space.counts.user_bytes).to_string(),
            Size(space.size_bytes_estimate).to_string(),
        ]
    };
    Grid { columns, rows: inspection.tables.iter().map(row).collect() }
}

fn all_files(inspection: &Inspection) -> Grid {
    let columns = vec![
        Column::Text("file"),
        Column::Number("level"),
        Column::Number("size"),
        Column::Number("versions"),
        Column::Number("keys"),
        Column::Number("entries"),
        Column::Number("tombstones"),
        Column::Text("first key"),
        Column::Text("last key"),
    ];
    let row = |file: &thermocline::TierFile| {
        let counts = files::counts_of(file);
        vec![
            file.name.clone(),
            file.level.to_string(),
            Size(file.size_bytes).to_string(),
            format!("{}..{}", file.versions.0, file.versions.1),
            counts.keys.to_string(),
            counts.entries.to_string(),
            counts.tombstones.to_string(),
            shown_key(&file.first),
            shown_key(&file.last),
        ]
    };
    Grid { columns, rows: inspection.files.iter().map(row).collect() }
}

/// A key with its table, short enough for a line.
pub(super) fn shown_key((table, key): &(Table, Bytes)) -> String {
    format!("{table} {}", shortened(key))
}

/// The beginning and the end of a key.
pub(super) fn shortened(key: &[u8]) -> String {
    // So many bytes that the characters at either end are surely whole, and no more of a key of 64 KiB.
    const PART: usize = 8 * KEY_SHOWN_MAX;
    if key.is_empty() {
        return "(empty)".to_owned();
    }
    let all: Vec<String> = if key.len() > 2 * PART { Vec::new() } else { characters(key) };
    if (1..=KEY_SHOWN_MAX).contains(&all.len()) {
        return all.concat();
    }
    let head = characters(key.get(..PART).unwrap_or(key));
    let tail = characters(key.get(key.len().saturating_sub(PART)..).unwrap_or(key));
    let head = head.get(..KEY_SHOWN_MAX - KEY_SHOWN_TAIL - 1).unwrap_or(&head);
    let tail = tail.get(tail.len().saturating_sub(KEY_SHOWN_TAIL)..).unwrap_or(&tail);
    format!("{}\u{2026}{}", head.concat(), tail.concat())
}

/// Each character of a key as it is shown; an escaped one stays whole.
fn characters(key: &[u8]) -> Vec<String> {
    let mut all = Vec::new();
    for chunk in key.utf8_chunks() {
        let mut buffer = [0; 4];
        all.extend(chunk.valid().chars().map(|character| Shown(character.encode_utf8(&mut buffer).as_bytes()).to_string()));
        all.extend(chunk.invalid().iter().map(|byte| Shown(&[*byte]).to_string()));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_keys_keep_their_ends_and_short_ones_everything() {
        assert_eq!(shortened(b""), "(empty)");
        assert_eq!(shortened(b"key/1"), "key/1");
        assert_eq!(shortened(&[b'x'; 32]), "x".repeat(32));
        let long = format!("{}{}", "a".repeat(5000), "b".repeat(5000));
        assert_eq!(shortened(long.as_bytes()), format!("{}\u{2026}{}", "a".repeat(19), "b".repeat(12)));
        assert_eq!(shortened(&long.as_bytes()[4980..5020]), format!("{}\u{2026}{}", "a".repeat(19), "b".repeat(12)));
        // Escaped characters are not cut in two.
        assert_eq!(shortened(&[0xff; 33]), format!("{}\u{2026}{}", "\\xff".repeat(19), "\\xff".repeat(12)));
        assert_eq!(shortened("\u{1f980}\n".repeat(16).as_bytes()), "\u{1f980}\\n".repeat(16));
    }

    #[test]
    fn a_checkpoint_says_what_is_not_in_files() {
        assert_eq!(checkpoint(Version(7), Version(7)), "7: everything lies in files");
        assert!(
            checkpoint(Version::ZERO, Version(7)).starts_with("none")
                && checkpoint(Version::ZERO, Version::ZERO).starts_with("none")
        );
        assert!(checkpoint(Version(3), Version(7)).contains("up to version 7, is in the log"));
    }
}
