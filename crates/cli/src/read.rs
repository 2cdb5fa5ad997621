//! The reading commands: get, scan, history and diff. All of them open the store read-only.

use std::io::Write;

use serde_json::{Value, json};
use thermocline::{DiffEntry, Table, Version};

use crate::arguments::{Diff, Format, Get, History, Scan};
use crate::changes::Removal;
use crate::failure::Failure;
use crate::open;
use crate::output::{Shown, json_bytes, json_value, put, put_fields, put_json};

/// Prints the value of one key; a key without a value is an error.
pub(crate) fn get(arguments: &Get, out: &mut dyn Write) -> Result<(), Failure> {
    let (key, view) = (arguments.key()?, &arguments.view);
    let snapshot = open::for_reading(&arguments.directory)?.at(view.version())?;
    let Some(value) = snapshot.get(view.table, &key)? else {
        return Err(Failure::Refused {
            what: format!("key `{}` has no value in table {} at version {}", Shown(&key), view.table, snapshot.version()),
            hint: "`thermocline history` shows every version of a key, `thermocline scan` the keys that there are",
        });
    };
    match view.format {
        Format::Text => put!(out, "{}", Shown(&value)),
        Format::Tsv | Format::Json => put_row(out, view.format, &key, &value),
    }
}

/// Prints the rows of a range.
pub(crate) fn scan(arguments: &Scan, out: &mut dyn Write) -> Result<(), Failure> {
    let view = &arguments.view;
    let range = arguments.range()?;
    let mut rows = open::for_reading(&arguments.directory)?.at(view.version())?.scan(view.table, range);
    let mut left = arguments.limit.unwrap_or(usize::MAX);
    while left > 0 {
        let next = if arguments.reverse { rows.next_back() } else { rows.next() };
        let Some(row) = next else { break };
        let (key, value) = row?;
        put_row(out, view.format, &key, &value)?;
        left -= 1;
    }
    Ok(())
}

fn put_row(out: &mut dyn Write, format: Format, key: &[u8], value: &[u8]) -> Result<(), Failure> {
    match format {
        Format::Text => put!(out, "{} = {}", Shown(key), Shown(value)),
        Format::Tsv => put_fields(out, &[key, value]),
        Format::Json => put_json(out, &json!({ "key": json_bytes(key), "value": json_bytes(value) })),
    }
}

/// Prints every version of a key, newest first.
pub(crate) fn history(arguments: &History, out: &mut dyn Write) -> Result<(), Failure> {
    let (key, view) = (arguments.key()?, &arguments.view);
    let snapshot = open::for_reading(&arguments.directory)?.at(view.version())?;
    for entry in snapshot.history(view.table, &key)? {
        let value = entry.value.as_deref();
        match view.format {
            Format::Text => match value {
                Some(value) => put!(out, "version {}: {}", entry.version, Shown(value))?,
                None => put!(out, "version {}: deleted", entry.version)?,
            },
            Format::Tsv => put_change_fields(out, entry.version, &key, value)?,
            Format::Json => put_json(out, &json!({ "version": entry.version.0, "value": json_value(value) }))?,
        }
    }
    Ok(())
}

/// Prints the net differences between two versions.
pub(crate) fn diff(arguments: &Diff, out: &mut dyn Write) -> Result<(), Failure> {
    let store = open::for_reading(&arguments.directory)?;
    let versions = Version(arguments.from)..Version(arguments.to);
    for entry in store.diff(arguments.table, arguments.range()?, versions)? {
        put_difference(out, arguments.format, &entry?)?;
    }
    Ok(())
}

fn put_difference(out: &mut dyn Write, format: Format, entry: &DiffEntry) -> Result<(), Failure> {
    let (key, before, after) = (&entry.key[..], entry.before.as_deref(), entry.after.as_deref());
    match (format, before, after) {
        (Format::Text, None, after) => put!(out, "+ {} = {}", Shown(key), Shown(after.unwrap_or_default())),
        (Format::Text, Some(before), None) => put!(out, "- {} = {}", Shown(key), Shown(before)),
        (Format::Text, Some(before), Some(after)) => put!(out, "~ {} = {} -> {}", Shown(key), Shown(before), Shown(after)),
        (Format::Tsv, ..) => {
            let what: &[u8] = match (before, after) {
                (None, _) => b"added",
                (Some(_), None) => b"removed",
                (Some(_), Some(_)) => b"changed",
            };
            put_fields(out, &[what, key, before.unwrap_or_default(), after.unwrap_or_default()])
        }
        (Format::Json, ..) => {
            put_json(out, &json!({ "key": json_bytes(key), "before": json_value(before), "after": json_value(after) }))
        }
    }
}

/// Of which table a change is, and when it was made.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) table: Table,
    pub(crate) version: Version,
    /// The time of the commit, where JSON is to say it, in microseconds since the Unix epoch.
    pub(crate) time_micros: Option<u64>,
}

impl Place {
    fn put_json(self, out: &mut dyn Write, what: Value) -> Result<(), Failure> {
        let mut object = json!({ "version": self.version.0, "table": self.table.to_string() });
        if let (Value::Object(object), Value::Object(what)) = (&mut object, what) {
            object.extend(self.time_micros.map(|time| ("time_micros".to_owned(), json!(time))));
            object.extend(what);
        }
        put_json(out, &object)
    }
}

/// The head of a commit where the format has one, and that it emptied the table, where the format can say so.
pub(crate) fn put_removal(out: &mut dyn Write, format: Format, place: Place, removal: Removal) -> Result<(), Failure> {
    let removal = match removal {
        Removal::None => None,
        Removal::Cleared => Some("clear"),
        Removal::Purged => Some("purge"),
    };
    match (format, removal) {
        (Format::Text, None) => put!(out, "version {}", place.version),
        (Format::Text, Some(removal)) => put!(out, "version {}\n  {removal} {}", place.version, place.table),
        (Format::Json, Some(removal)) => place.put_json(out, json!({ "removal": removal })),
        (Format::Json, None) | (Format::Tsv, _) => Ok(()),
    }
}

/// One change of a commit, as `changes` and `export` print it.
pub(crate) fn put_change(
    out: &mut dyn Write,
    format: Format,
    place: Place,
    key: &[u8],
    value: Option<&[u8]>,
) -> Result<(), Failure> {
    match (format, value) {
        (Format::Text, Some(value)) => put!(out, "  put {} = {}", Shown(key), Shown(value)),
        (Format::Text, None) => put!(out, "  del {}", Shown(key)),
        (Format::Tsv, value) => put_change_fields(out, place.version, key, value),
        (Format::Json, value) => place.put_json(out, json!({ "key": json_bytes(key), "value": json_value(value) })),
    }
}

/// A line of the change format.
fn put_change_fields(out: &mut dyn Write, version: Version, key: &[u8], value: Option<&[u8]>) -> Result<(), Failure> {
    let operation: &[u8] = if value.is_some() { b"put" } else { b"del" };
    put_fields(out, &[version.to_string().as_bytes(), operation, key, value.unwrap_or_default()])
}
