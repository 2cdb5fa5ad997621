//! The export command: a table in the change format, so that every export can be imported again.

use std::io::Write;

use indicatif::ProgressBar;
use thermocline::{KeyRange, Store, Version};

use crate::arguments::{Export, ExportFormat, Format};
use crate::changes::{self, TableChanges};
use crate::failure::Failure;
use crate::open;
use crate::output::Shown;
use crate::progress;
use crate::read::{self, Place};

/// Prints the state of a table as one commit at its version, or every commit of its history.
pub(crate) fn run(arguments: &Export, out: &mut dyn Write) -> Result<(), Failure> {
    let store = open::for_reading(&arguments.directory)?;
    let until = arguments.version().min(store.last_version());
    if arguments.history { export_history(arguments, &store, until, out) } else { export_state(arguments, &store, until, out) }
}

fn export_state(arguments: &Export, store: &Store, at: Version, out: &mut dyn Write) -> Result<(), Failure> {
    let bar = progress::bar(None, "rows");
    bar.set_message("exporting");
    for row in store.at(at)?.scan(arguments.table, KeyRange::all()) {
        let (key, value) = row?;
        put(arguments, at, &key, Some(&value), out)?;
        bar.inc(1);
    }
    finish(&bar, out)
}

fn export_history(arguments: &Export, store: &Store, until: Version, out: &mut dyn Write) -> Result<(), Failure> {
    let bar = progress::bar(Some(until.0), "versions");
    bar.set_message("exporting");
    for commit in TableChanges::new(store, arguments.table, Version::ZERO, until)? {
        let commit = commit?;
        let version = commit.version;
        if arguments.format == ExportFormat::Json {
            read::put_removal(out, Format::Json, place(arguments, version), commit.removal)?;
            for (key, value) in &commit.changes {
                put(arguments, version, key, value.as_deref(), out)?;
            }
        } else {
            for (key, value) in changes::spell_out(store, arguments.table, commit)? {
                put(arguments, version, &key, value.as_deref(), out)?;
            }
        }
        bar.set_position(version.0);
    }
    finish(&bar, out)
}

/// The bar goes away only when everything is out, so that it does not end in the middle of the output.
fn finish(bar: &ProgressBar, out: &mut dyn Write) -> Result<(), Failure> {
    out.flush().map_err(Failure::Output)?;
    bar.finish_and_clear();
    Ok(())
}

fn put(arguments: &Export, version: Version, key: &[u8], value: Option<&[u8]>, out: &mut dyn Write) -> Result<(), Failure> {
    let format = match arguments.format {
        ExportFormat::Json => Format::Json,
        ExportFormat::Tsv => {
            check_separators(version, key, value)?;
            Format::Tsv
        }
    };
    read::put_change(out, format, place(arguments, version), key, value)
}

fn place(arguments: &Export, version: Version) -> Place {
    Place { table: arguments.table, version, time_micros: None }
}

/// Refuses bytes that would be read back as something else.
fn check_separators(version: Version, key: &[u8], value: Option<&[u8]>) -> Result<(), Failure> {
    let breaks = |bytes: &[u8]| bytes.iter().any(|byte| matches!(byte, b'\t' | b'\n'));
    let what = match value {
        _ if breaks(key) => "",
        Some(value) if breaks(value) => "the value of ",
        _ => return Ok(()),
    };
    Err(Failure::Refused {
        what: format!(
            "{what}key `{}` at version {version} holds a tab or a line feed, which the change format cannot hold",
            Shown(key)
        ),
        hint: "use `--format json`, which holds any bytes; or read single versions with `thermocline scan --format tsv`",
    })
}
