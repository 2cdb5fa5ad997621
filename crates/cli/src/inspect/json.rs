//! All that is known of a store's files as one JSON object.

use serde_json::{Value, json};
use thermocline::{Bytes, Table, TierFile};

use super::Inspection;
use crate::output::json_bytes;
use crate::{files, stats};

/// The object. Keys are whole; what is not known is null.
pub(super) fn values(inspection: &Inspection) -> Value {
    let Inspection { stats, .. } = inspection;
    let levels = inspection.levels.iter().map(|(level, sum)| {
        let old_versions = files::old_versions(&sum.counts);
        joined(json!({ "level": level, "old_versions": old_versions }), sum.json())
    });
    let tables = inspection.tables.iter().map(|(table, space)| {
        let table = json!({ "table": table.to_string(), "files": space.files, "bytes_estimate": space.size_bytes_estimate });
        joined(table, files::counts_json(&space.counts))
    });
    let pins = stats.pins.iter().map(|pin| {
        let place = pin.place.map(ToString::to_string);
        json!({ "name": pin.name, "version": pin.version.0, "since_micros": pin.since.as_micros(), "place": place })
    });
    json!({
        "last_version": stats.last_version.0,
        "horizon": stats.horizon.0,
        "checkpoint": stats.checkpoint.0,
        "health": stats::health(stats),
        "background_failure": stats.background_failure,
        "log": { "segments": stats.log.segments, "bytes": stats.log.size_bytes },
        "memory_bytes": stats.tiers.memory_bytes,
        "total": inspection.total.json(),
        "levels": levels.collect::<Vec<_>>(),
        "tables": tables.collect::<Vec<_>>(),
        "files": inspection.files.iter().map(file).collect::<Vec<_>>(),
        "read_files_max": inspection.read_files_max(),
        "space_amplification": inspection.space_amplification(),
        "write_amplification": files::write_amplification(&inspection.counters),
        "flushed_total_bytes": inspection.counters.flushed_total_bytes,
        "rewritten_total_bytes": inspection.counters.rewritten_total_bytes,
        "session": files::counters_json(&inspection.counters),
        "pins": pins.collect::<Vec<_>>(),
    })
}

fn file(file: &TierFile) -> Value {
    let tables = file.tables.iter();
    let tables = tables.map(|(table, counts)| joined(json!({ "table": table.to_string() }), files::counts_json(counts)));
    let value = json!({
        "name": file.name,
        "level": file.level,
        "bytes": file.size_bytes,
        "first": key(&file.first),
        "last": key(&file.last),
        "oldest_version": file.versions.0.0,
        "newest_version": file.versions.1.0,
        "tables": tables.collect::<Vec<_>>(),
    });
    joined(value, files::counts_json(&files::counts_of(file)))
}

fn key((table, key): &(Table, Bytes)) -> Value {
    json!({ "table": table.to_string(), "key": json_bytes(key) })
}

fn joined(mut value: Value, more: Value) -> Value {
    files::merge(&mut value, more);
    value
}
