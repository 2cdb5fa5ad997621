//! The commands that look at a whole store: stats and verify.

use std::io::Write;

use serde_json::{Map, Value, json};
use thermocline::{Health, StoreStats};

use crate::arguments::{Format, Inspect};
use crate::failure::Failure;
use crate::output::{Shown, put, put_fields, put_json};
use crate::{progress, read};

/// Prints what the store holds.
pub(crate) fn stats(arguments: &Inspect, out: &mut dyn Write) -> Result<(), Failure> {
    let stats = read::open(&arguments.directory)?.stats();
    if arguments.format != Format::Text {
        return put_values(out, arguments.format, &stats_values(&stats));
    }
    put!(out, "version {}, {}", stats.last_version, health(&stats))?;
    put!(out, "log: {} bytes in {} segments", stats.log.size_bytes, stats.log.segments)?;
    if stats.recovery.discarded_bytes > 0 {
        let why = stats.recovery.tear.as_deref().unwrap_or_default();
        put!(
            out,
            "log: {} bytes at its end belong to no whole commit ({})",
            stats.recovery.discarded_bytes,
            Shown(why.as_bytes())
        )?;
    }
    put!(out, "memory: {} bytes, of them {} to be reclaimed", stats.tiers.memory_bytes, stats.tiers.garbage_bytes)?;
    for (table, counts) in &stats.tiers.tables {
        put!(
            out,
            "table {table}: {} keys, {} entries, {} of them tombstones, {} bytes",
            counts.keys,
            counts.entries,
            counts.tombstones,
            counts.user_bytes
        )?;
    }
    Ok(())
}

fn health(stats: &StoreStats) -> &'static str {
    match stats.health {
        Health::Healthy => "healthy",
        Health::Closed => "closed",
        _ => "poisoned",
    }
}

fn stats_values(stats: &StoreStats) -> Value {
    let table = |counts: &thermocline::TableStats| {
        json!({
            "keys": counts.keys,
            "entries": counts.entries,
            "tombstones": counts.tombstones,
            "user_bytes": counts.user_bytes,
        })
    };
    let tables: Map<String, Value> = stats.tiers.tables.iter().map(|(name, counts)| (name.to_string(), table(counts))).collect();
    json!({
        "last_version": stats.last_version.0,
        "health": health(stats),
        "tables": tables,
        "memory_bytes": stats.tiers.memory_bytes,
        "garbage_bytes": stats.tiers.garbage_bytes,
        "log": { "segments": stats.log.segments, "size_bytes": stats.log.size_bytes },
        "recovery": {
            "was_clean_close": stats.recovery.was_clean_close,
            "discarded_bytes": stats.recovery.discarded_bytes,
            "tear": stats.recovery.tear,
        },
    })
}

/// Reads every byte of the store's files, and says what it checked. Opening the store replays them, so that what can be read but not
/// applied is found as well.
pub(crate) fn verify(arguments: &Inspect, out: &mut dyn Write) -> Result<(), Failure> {
    let bar = progress::bar(None, "checks");
    bar.set_message("verifying");
    bar.tick();
    let store = read::open(&arguments.directory)?;
    bar.inc(1);
    let report = store.verify()?;
    bar.finish_and_clear();
    if arguments.format != Format::Text {
        let values = json!({
            "segments": report.segments,
            "bytes": report.size_bytes,
            "records": report.records,
            "commits": report.commits,
            "entries": report.entries,
            "last_version": report.last_version.0,
            "discarded_bytes": report.discarded_bytes,
        });
        return put_values(out, arguments.format, &values);
    }
    put!(
        out,
        "{} bytes in {} segments are intact: {} records, {} of them commits with {} entries, up to version {}",
        report.size_bytes,
        report.segments,
        report.records,
        report.commits,
        report.entries,
        report.last_version
    )?;
    match report.discarded_bytes {
        0 => Ok(()),
        bytes => put!(
            out,
            "{bytes} bytes at the end belong to no whole commit: a write that was cut off, and never reported as durable"
        ),
    }
}

/// One JSON object, or a line for each value with the names on the way to it.
fn put_values(out: &mut dyn Write, format: Format, values: &Value) -> Result<(), Failure> {
    if format == Format::Json {
        return put_json(out, values);
    }
    let mut lines = Vec::new();
    flatten("", values, &mut lines);
    lines.iter().try_for_each(|(name, value)| put_fields(out, &[name.as_bytes(), value.as_bytes()]))
}

fn flatten(name: &str, value: &Value, lines: &mut Vec<(String, String)>) {
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                let name = if name.is_empty() { field.clone() } else { format!("{name}.{field}") };
                flatten(&name, value, lines);
            }
        }
        Value::String(text) => lines.push((name.to_owned(), text.clone())),
        Value::Null => lines.push((name.to_owned(), String::new())),
        other => lines.push((name.to_owned(), other.to_string())),
    }
}
