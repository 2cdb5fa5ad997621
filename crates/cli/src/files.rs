//! What the sorted files of a store hold, summed up.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use thermocline::{FileCounters, TableStats, TierFile};

use crate::sizes::Size;

/// The sum of some files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FileSum {
    pub(crate) files: u64,
    pub(crate) size_bytes: u64,
    /// A key that lies in two files counts twice.
    pub(crate) counts: TableStats,
}

impl FileSum {
    pub(crate) fn of<'a>(files: impl IntoIterator<Item = &'a TierFile>) -> Self {
        let mut sum = Self::default();
        for file in files {
            sum.files += 1;
            sum.size_bytes += file.size_bytes;
            sum.counts.add(&counts_of(file));
        }
        sum
    }

    pub(crate) fn json(&self) -> Value {
        let mut value = json!({ "files": self.files, "bytes": self.size_bytes });
        merge(&mut value, counts_json(&self.counts));
        value
    }
}

/// What a file holds of all its tables.
pub(crate) fn counts_of(file: &TierFile) -> TableStats {
    let mut sum = TableStats::default();
    file.tables.iter().for_each(|(_, counts)| sum.add(counts));
    sum
}

/// Entries that are not the newest of their key in their file.
pub(crate) fn old_versions(counts: &TableStats) -> u64 {
    counts.entries.saturating_sub(counts.keys)
}

/// The fields by which every command calls the counts.
pub(crate) fn counts_json(counts: &TableStats) -> Value {
    json!({
        "keys": counts.keys,
        "entries": counts.entries,
        "tombstones": counts.tombstones,
        "user_bytes": counts.user_bytes,
    })
}

/// Adds the fields of an object to another.
pub(crate) fn merge(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from);
    }
}

/// The levels that have files, from the top.
pub(crate) fn levels(files: &[TierFile]) -> BTreeMap<u8, FileSum> {
    let mut by_level: BTreeMap<u8, Vec<&TierFile>> = BTreeMap::new();
    for file in files {
        by_level.entry(file.level).or_default().push(file);
    }
    by_level.into_iter().map(|(level, files)| (level, FileSum::of(files))).collect()
}

/// How many times as much rewriting has made of what was flushed, since the store was made; `None` if nothing was.
pub(crate) fn write_amplification(counters: &FileCounters) -> Option<f64> {
    let (flushed, rewritten) = (counters.flushed_total_bytes, counters.rewritten_total_bytes);
    (flushed > 0).then(|| ratio(flushed.saturating_add(rewritten), flushed))
}

pub(crate) fn counters_json(counters: &FileCounters) -> Value {
    json!({
        "written_bytes": counters.written_bytes,
        "rewritten_bytes": counters.rewritten_bytes,
        "blocks_read": counters.blocks_read,
        "cached_bytes": counters.cached_bytes,
    })
}

/// What a session has written to files, in words.
pub(crate) fn written(counters: &FileCounters) -> String {
    let FileCounters { written_bytes, rewritten_bytes, .. } = *counters;
    format!("wrote {} to files and their manifest, of that {} by rewriting", Size(written_bytes), Size(rewritten_bytes))
}

#[expect(clippy::cast_precision_loss, reason = "for people, who read one or two digits behind the point")]
pub(crate) fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn write_amplification_is_known_where_something_was_flushed() {
        let counters = |flushed_total_bytes, rewritten_total_bytes| FileCounters {
            flushed_total_bytes,
            rewritten_total_bytes,
            ..FileCounters::default()
        };
        assert_eq!(write_amplification(&counters(0, 0)), None);
        assert_eq!(write_amplification(&counters(100, 0)), Some(1.0));
        assert_eq!(write_amplification(&counters(100, 400)), Some(5.0));
    }
}
