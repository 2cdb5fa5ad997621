//! What the tests share: a log on any disk, scripted commits, and the history that a log gives back.

use std::sync::Arc;

use thermocline_io::{Disk, SeededRandomness, SimClock};
use thermocline_tier::{BatchBuilder, EntryKind, Result, TierBatch, Version, WholeKey};
use thermocline_wal::{Durability, Log, LogBase, LogEntry, LogOptions, OpenLog, Padding, RecoveryReport, Replayed};

/// One record of a history, owned, for comparing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    Commit { version: u64, time: u64, clears: Vec<EntryKind>, entries: Vec<Entry> },
    Ensure(EntryKind),
    Purge { version: u64, time: u64, table: EntryKind },
    Note(Vec<u8>),
}

pub(crate) type Entry = (EntryKind, Vec<u8>, Vec<u8>, Option<Vec<u8>>);

impl Item {
    pub(crate) fn version(&self) -> Option<u64> {
        match self {
            Self::Commit { version, .. } | Self::Purge { version, .. } => Some(*version),
            Self::Ensure(_) | Self::Note(_) => None,
        }
    }
}

pub(crate) fn owned(record: &Replayed<'_>) -> Item {
    match record {
        Replayed::Commit(commit) => Item::Commit {
            version: commit.version.0,
            time: commit.time,
            clears: commit.clears.to_vec(),
            entries: entries_of(commit.batch),
        },
        Replayed::EnsureTable { table } => Item::Ensure(*table),
        Replayed::Note { bytes } => Item::Note(bytes.to_vec()),
        Replayed::PurgeTable { version, time, table } => Item::Purge { version: version.0, time: *time, table: *table },
    }
}

pub(crate) fn entries_of(batch: &TierBatch) -> Vec<Entry> {
    batch
        .iter()
        .map(|(table, entry)| (table, entry.prefix.to_vec(), entry.suffix.to_vec(), entry.value.map(<[u8]>::to_vec)))
        .collect()
}

/// The item that the log gives back for an entry.
pub(crate) fn expected(entry: &LogEntry<'_>) -> Item {
    match entry {
        LogEntry::Commit { time, batch, clears } => {
            Item::Commit { version: batch.version().0, time: *time, clears: clears.to_vec(), entries: entries_of(batch) }
        }
        LogEntry::EnsureTable { table } => Item::Ensure(*table),
        LogEntry::Note { bytes } => Item::Note(bytes.to_vec()),
        LogEntry::PurgeTable { version, time, table } => Item::Purge { version: version.0, time: *time, table: *table },
    }
}

/// Small segments, so that few commits fill many.
pub(crate) fn small(segment_size_bytes: u64) -> LogOptions {
    LogOptions { segment_size_bytes, padding: Padding::Sector512, ..LogOptions::default() }
}

/// A log and the history that opening it gave.
pub(crate) struct Opened {
    pub(crate) log: Log,
    pub(crate) report: RecoveryReport,
    pub(crate) items: Vec<Item>,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened").field("report", &self.report).field("items", &self.items.len()).finish_non_exhaustive()
    }
}

pub(crate) fn open(disk: &Arc<dyn Disk>, options: &LogOptions) -> Result<Opened> {
    open_as(disk, options, false)
}

pub(crate) fn open_as(disk: &Arc<dyn Disk>, options: &LogOptions, is_read_only: bool) -> Result<Opened> {
    open_from(disk, options, is_read_only, None)
}

pub(crate) fn open_from(
    disk: &Arc<dyn Disk>,
    options: &LogOptions,
    is_read_only: bool,
    base: Option<&LogBase>,
) -> Result<Opened> {
    let mut items = Vec::new();
    let request = OpenLog {
        disk: Arc::clone(disk),
        randomness: &SeededRandomness::new(7),
        clock: &SimClock::new(),
        options: options.clone(),
        layout: &WholeKey,
        is_read_only,
        store: None,
        base: base.cloned(),
    };
    let (log, report) = Log::open(request, &mut |record| {
        items.push(owned(&record));
        Ok(())
    })?;
    Ok(Opened { log, report, items })
}

/// The entries of a test commit follow from its version alone.
pub(crate) fn batch(version: u64) -> TierBatch {
    let mut builder = BatchBuilder::new();
    for number in 0..version % 4 {
        let key = format!("key/{}/{number}", version % 13);
        let table = [EntryKind::Multi, EntryKind::source(3), EntryKind::operator(u32::MAX)][(version + number) as usize % 3];
        if (version + number).is_multiple_of(5) {
            builder.remove(table, key.as_bytes()).unwrap();
        } else {
            let value = vec![version as u8; (version.wrapping_mul(37) % 300) as usize];
            builder.put(table, key.as_bytes(), &value).unwrap();
        }
    }
    builder.finish(&WholeKey, Version(version))
}

pub(crate) fn commit(log: &Log, version: u64, durability: Durability) -> Result<Item> {
    let batch = batch(version);
    let entry = LogEntry::Commit { time: version.wrapping_mul(10), batch: &batch, clears: &[] };
    log.append(&[entry], durability)?;
    Ok(expected(&entry))
}

/// Random numbers that follow from a seed (`SplitMix64`).
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}
