//! Entries and answers as text, so that an expectation reads like the case it comes from and a failure shows both sides alike.
//!
//! An answer is `value@version`, `~@version` for a tombstone, `-` for absent; a row is `key=answer`; rows are separated by blanks.
//! Bytes that are not printable are escaped as in Rust; a suffix follows its value after a `/`; long bytes are shortened to their ends
//! and, in angle brackets, their length.

use thermocline_tier::{EntryRef, Lookup, RawEntry};

/// Bytes up to this length are shown whole.
const SHOWN_WHOLE_BYTES_MAX: usize = 80;
/// Of longer ones, so many from either end.
const SHOWN_END_BYTES: usize = 8;

pub(crate) fn bytes(bytes: &[u8]) -> String {
    if bytes.len() <= SHOWN_WHOLE_BYTES_MAX {
        return bytes.escape_ascii().to_string();
    }
    let (head, tail) = (&bytes[..SHOWN_END_BYTES], &bytes[bytes.len() - SHOWN_END_BYTES..]);
    format!("{}..{}<{}>", head.escape_ascii(), tail.escape_ascii(), bytes.len())
}

fn value(value: &[u8], suffix: &[u8]) -> String {
    if suffix.is_empty() { bytes(value) } else { format!("{}/{}", bytes(value), bytes(suffix)) }
}

pub(crate) fn answer(lookup: &Lookup) -> String {
    match lookup {
        Lookup::Value { version, suffix, bytes } => format!("{}@{version}", value(bytes, suffix)),
        Lookup::Tombstone { version } => format!("~@{version}"),
        Lookup::Absent => "-".into(),
    }
}

pub(crate) fn entry(entry: EntryRef<'_>) -> String {
    match entry.value {
        Some(found) => format!("{}@{}", value(found, entry.suffix), entry.version),
        None => format!("~@{}", entry.version),
    }
}

pub(crate) fn row(row: EntryRef<'_>) -> String {
    format!("{}={}", bytes(row.prefix), entry(row))
}

pub(crate) fn rows<'a>(rows: impl Iterator<Item = EntryRef<'a>>) -> String {
    joined(rows.map(row))
}

/// The versions of one key, as they are listed.
pub(crate) fn versions(entries: &[RawEntry]) -> String {
    joined(entries.iter().map(|raw| entry(raw.as_ref())))
}

pub(crate) fn joined(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(" ")
}
