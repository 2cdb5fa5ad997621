//! The commands that look at a whole store: stats and verify.

use std::io::Write;

use serde_json::{Map, Value, json};
use thermocline::{Health, StoreStats, TierFile, Version};

use crate::arguments::{Format, Report};
use crate::failure::Failure;
use crate::files::{self, FileSum};
use crate::output::{Shown, put, put_values};
use crate::retain::moment_text;
use crate::{open, progress};

/// Prints what the store holds.
pub(crate) fn stats(arguments: &Report, out: &mut dyn Write) -> Result<(), Failure> {
    let store = open::for_reading(&arguments.directory)?;
    let (stats, files) = (store.stats(), store.files());
    if arguments.format != Format::Text {
        return put_values(out, arguments.format, &stats_values(&stats, &files));
    }
    put!(out, "version {}, {}", stats.last_version, health(&stats))?;
    put_files(&stats, &files, out)?;
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
    if let Some(since) = stats.garbage_since {
        put!(out, "some of what is stored need not be kept, since {}", moment_text(since))?;
    }
    if stats.pending_drops > 0 {
        put!(out, "{} commands to drop versions of keys wait", stats.pending_drops)?;
    }
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

/// The sorted files, where there are any.
fn put_files(stats: &StoreStats, files: &[TierFile], out: &mut dyn Write) -> Result<(), Failure> {
    if stats.horizon > Version::ZERO {
        put!(out, "horizon {}: every version from there on can be read", stats.horizon)?;
    }
    if stats.checkpoint == Version::ZERO && files.is_empty() {
        return Ok(());
    }
    let sum = FileSum::of(files);
    put!(out, "files: {} bytes in {} files, up to version {}", sum.size_bytes, sum.files, stats.checkpoint)?;
    for (level, sum) in files::levels(files) {
        put!(out, "level {level}: {} bytes in {} files, {} entries", sum.size_bytes, sum.files, sum.counts.entries)?;
    }
    put!(out, "a key of a table counts once for each file that holds it, and once for memory")
}

pub(crate) fn health(stats: &StoreStats) -> &'static str {
    match stats.health {
        Health::Healthy => "healthy",
        Health::Closed => "closed",
        _ => "poisoned",
    }
}

fn stats_values(stats: &StoreStats, files: &[TierFile]) -> Value {
    let tables = stats.tiers.tables.iter().map(|(name, counts)| (name.to_string(), files::counts_json(counts)));
    let tables: Map<String, Value> = tables.collect();
    let levels: Map<String, Value> = files::levels(files).iter().map(|(level, sum)| (level.to_string(), sum.json())).collect();
    json!({
        "last_version": stats.last_version.0,
        "horizon": stats.horizon.0,
        "garbage_since_micros": stats.garbage_since.map(thermocline::Moment::as_micros),
        "checkpoint": stats.checkpoint.0,
        "health": health(stats),
        "files": FileSum::of(files).json(),
        "levels": levels,
        "tables": tables,
        "memory_bytes": stats.tiers.memory_bytes,
        "garbage_bytes": stats.tiers.garbage_bytes,
        "pending_drops": stats.pending_drops,
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
pub(crate) fn verify(arguments: &Report, out: &mut dyn Write) -> Result<(), Failure> {
    let bar = progress::bar(None, "checks");
    bar.set_message("verifying");
    bar.tick();
    let store = open::for_reading(&arguments.directory)?;
    bar.inc(1);
    let thermocline::VerifyReport { log: report, files, .. } = store.verify()?;
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
            "files": { "files": files.files, "bytes": files.bytes, "entries": files.entries },
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
    if files.files > 0 {
        put!(out, "{} bytes in {} files are intact: {} entries", files.bytes, files.files, files.entries)?;
    }
    match report.discarded_bytes {
        0 => Ok(()),
        bytes => put!(
            out,
            "{bytes} bytes at the end belong to no whole commit: a write that was cut off, and never reported as durable"
        ),
    }
}
