//! What is appended comes back: at open, from readers, in every durability, over segments and reopenings.

use std::sync::Arc;

use thermocline_io::{DirEntry, Disk, MemoryDisk, Reason};
use thermocline_tier::{BatchBuilder, EntryKind, ErrorKind, FixedSuffix, Version};
use thermocline_wal::{Durability, Log, LogEntry, LogOptions, Padding, Preallocate};

use crate::support::{Item, batch, commit, expected, open, open_as, small};

fn disk() -> Arc<dyn Disk> {
    Arc::new(MemoryDisk::new())
}

#[test]
fn every_kind_of_record_comes_back_in_order() {
    let disk = disk();
    let mut written = Vec::new();
    let opened = open(&disk, &LogOptions::default()).unwrap();
    assert!(opened.report.is_new);
    let mut builder = BatchBuilder::new();
    builder.put(EntryKind::Multi, b"key.suffix", b"").unwrap();
    builder.put(EntryKind::source(9), &vec![7; 65_535], &vec![8; 100_000]).unwrap();
    builder.remove(EntryKind::operator(1), b"").unwrap();
    let first = builder.finish(&FixedSuffix(7), Version(3));
    let second = batch(0);
    let mut second = second;
    second.set_version(Version(9));
    let clears = [EntryKind::Multi, EntryKind::source(2)];
    let entries = [
        LogEntry::EnsureTable { table: EntryKind::operator(5) },
        LogEntry::Note { bytes: b"" },
        LogEntry::Commit { time: 77, batch: &first, clears: &clears },
        LogEntry::Commit { time: 0, batch: &second, clears: &[] },
        LogEntry::PurgeTable { version: Version(u64::MAX - 1), time: u64::MAX, table: EntryKind::source(2) },
    ];
    opened.log.append(&entries, Durability::Sync).unwrap();
    written.extend(entries.iter().map(expected));
    opened.log.close().unwrap();

    let reopened = open(&disk, &LogOptions::default()).unwrap();
    assert_eq!(reopened.items, written);
    assert!(reopened.report.was_clean_close);
    assert_eq!((reopened.report.records, reopened.report.commits, reopened.report.entries), (5, 2, 3));
    assert_eq!(reopened.report.last_version, Version(u64::MAX - 1));
    let after = batch(1);
    let again = [LogEntry::Commit { time: 0, batch: &after, clears: &[] }];
    let error = reopened.log.append(&again, Durability::Sync).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::VersionNotIncreasing { .. }), "{error}");
}

#[test]
fn histories_survive_rotation_reopening_and_every_option() {
    for padding in [Padding::None, Padding::Sector512, Padding::Page4096] {
        for preallocate in [Preallocate::No, Preallocate::Zeroed] {
            for closes in [true, false] {
                let disk = disk();
                let options = LogOptions { padding, preallocate, stage_size_bytes: 700, ..small(8192) };
                let mut written: Vec<Item> = Vec::new();
                let mut version = 0;
                for round in 0..6 {
                    let opened = open(&disk, &options).unwrap();
                    assert_eq!(opened.items, written, "{options:?} round {round}");
                    for step in 0..25 {
                        version += 1 + step % 3;
                        let durability = [Durability::Memory, Durability::Buffered, Durability::Sync][(version % 3) as usize];
                        written.push(commit(&opened.log, version, durability).unwrap());
                        if step % 7 == 3 {
                            opened.log.prepare_step().unwrap();
                            opened.log.witness_step().unwrap();
                        }
                    }
                    if closes {
                        opened.log.close().unwrap();
                    } else {
                        opened.log.sync().unwrap();
                    }
                    check_readers(&opened.log, &written);
                    let verified = thermocline_wal::verify(&*disk, None).unwrap();
                    assert_eq!(verified.commits, written.len() as u64);
                    assert_eq!(opened.log.verify().unwrap().entries, verified.entries);
                }
                let read_only = open_as(&disk, &options, true).unwrap();
                assert_eq!(read_only.items, written);
                check_readers(&read_only.log, &written);
                let error = commit(&read_only.log, 9_999, Durability::Sync).unwrap_err();
                assert!(matches!(error.kind(), ErrorKind::Unsupported { .. }));
            }
        }
    }
}

/// Readers from several versions see exactly the commits above them.
fn check_readers(log: &Log, written: &[Item]) {
    let last = written.last().and_then(Item::version).unwrap_or(0);
    for since in [0, 1, last / 3, last / 2, last.saturating_sub(1), last] {
        for limit in [last / 2, u64::MAX] {
            let mut reader = log.reader(Version(since)).unwrap();
            let mut found = Vec::new();
            while let Some(commit) = reader.next_commit(Version(limit)).unwrap() {
                let entries = commit.changes.into_iter();
                let entries = entries.map(|c| (c.table, c.prefix.to_vec(), c.suffix.to_vec(), c.value.map(|v| v.to_vec())));
                let (version, time, clears) = (commit.version.0, commit.time, commit.clears);
                found.push(Item::Commit { version, time, clears, entries: entries.collect() });
            }
            let wanted = |item: &&Item| item.version().is_some_and(|version| version > since && version <= limit);
            assert_eq!(found, written.iter().filter(wanted).cloned().collect::<Vec<_>>(), "since {since} to {limit}");
        }
    }
}

#[test]
fn reopening_without_writing_leaves_no_files_behind() {
    let disk = disk();
    let options = small(8192);
    commit(&open(&disk, &options).unwrap().log, 1, Durability::Sync).unwrap();
    let count = |disk: &Arc<dyn Disk>| disk.list(Reason::Open).unwrap().len();
    // The first carries the commit over, the second finds nothing to carry.
    open(&disk, &options).unwrap().log.close().unwrap();
    open(&disk, &options).unwrap().log.close().unwrap();
    let before = count(&disk);
    for _ in 0..50 {
        let opened = open(&disk, &options).unwrap();
        assert_eq!(opened.items.len(), 1);
        opened.log.close().unwrap();
    }
    assert_eq!(count(&disk), before);
}

#[test]
fn closed_log_takes_no_more_space_than_its_records() {
    let disk = disk();
    let options = small(1 << 20);
    let opened = open(&disk, &options).unwrap();
    let mut version = 1;
    commit(&opened.log, version, Durability::Sync).unwrap();
    while opened.log.stats().size_bytes < 600_000 {
        version += 1;
        commit(&opened.log, version, Durability::Buffered).unwrap();
    }
    while opened.log.prepare_step().unwrap() {}
    let size = |disk: &Arc<dyn Disk>| {
        let sizes = disk.list(Reason::Open).unwrap().into_iter().map(|entry| match entry {
            DirEntry::File(_, len) => len,
            DirEntry::Foreign(_) => 0,
        });
        sizes.sum::<u64>()
    };
    assert!(size(&disk) > 3 << 19, "filled ahead");
    let written = opened.log.stats().size_bytes;
    opened.log.close().unwrap();
    // The end of the last commit, and the record of the close, each padded to its sector.
    assert!(size(&disk) <= written + 3 * 512, "{} of {written}", size(&disk));

    let opened = open(&disk, &options).unwrap();
    commit(&opened.log, version + 1, Durability::Sync).unwrap();
    drop(opened);
    let reopened = open(&disk, &options).unwrap();
    assert_eq!(reopened.items.len() as u64, version + 1);
    assert!(size(&disk) < written + 100_000, "what a killed process left is given back: {}", size(&disk));
}

#[test]
fn rotation_uses_the_segment_that_was_prepared() {
    let disk = disk();
    let opened = open(&disk, &small(65_536)).unwrap();
    let mut filled = 0;
    for version in 1..2_000 {
        let durability = if version % 50 == 1 { Durability::Sync } else { Durability::Buffered };
        commit(&opened.log, version, durability).unwrap();
        while opened.log.prepare_step().unwrap() {}
        assert!(!opened.log.prepare_step().unwrap());
        if opened.log.stats().rotations == 0 {
            filled = opened.log.stats().filled_bytes;
        }
    }
    let stats = opened.log.stats();
    assert!(stats.rotations > 5, "{stats:?}");
    assert_eq!(stats.filled_bytes, filled, "appends had nothing to fill but the first segment: {stats:?}");
    drop(opened);
    assert_eq!(open(&disk, &small(65_536)).unwrap().items.len(), 1_999);
}

#[test]
fn segments_are_filled_only_while_somebody_waits_for_syncs() {
    let disk = disk();
    let opened = open(&disk, &small(65_536)).unwrap();
    let mut version = 0;
    let mut commit_until_rotated = |durability| {
        let before = opened.log.stats();
        while opened.log.stats().rotations == before.rotations {
            version += 1;
            commit(&opened.log, version, durability).unwrap();
            while opened.log.prepare_step().unwrap() {}
        }
        opened.log.stats().filled_bytes > before.filled_bytes
    };
    assert!(!commit_until_rotated(Durability::Buffered));
    assert!(!commit_until_rotated(Durability::Buffered));
    assert!(commit_until_rotated(Durability::Sync));
    // The first was still filled for those who waited in the one before.
    commit_until_rotated(Durability::Buffered);
    commit_until_rotated(Durability::Buffered);
    assert!(!commit_until_rotated(Durability::Buffered));
    drop(opened);
    assert_eq!(open(&disk, &small(65_536)).unwrap().items.len() as u64, version);
}

#[test]
fn next_segment_is_not_prepared_before_this_one_is_half_full() {
    let disk = disk();
    let options = small(65_536);
    let opened = open(&disk, &options).unwrap();
    let files = || disk.list(Reason::Open).unwrap().len();
    let mut version = 1;
    commit(&opened.log, version, Durability::Sync).unwrap();
    while opened.log.stats().size_bytes < 4096 + (65_536 - 4096) / 2 {
        assert!(!opened.log.background_step().unwrap() || files() == 1, "after {version} commits");
        version += 1;
        commit(&opened.log, version, Durability::Buffered).unwrap();
    }
    assert!(version > 50 && files() == 1);
    assert!(opened.log.prepare_step().unwrap());
    assert_eq!(files(), 2);
    // What was begun is used, and the fresh segment is empty.
    opened.log.rotate().unwrap();
    assert!(!opened.log.prepare_step().unwrap());
    assert_eq!(files(), 2);
}

/// A log has as many segments as sessions, and a process may have far fewer files open.
#[cfg(target_os = "linux")]
#[expect(clippy::disallowed_methods, reason = "the system tells how many files are open through a file system of its own")]
#[test]
fn an_open_log_holds_no_file_for_each_of_its_segments() {
    const SESSIONS: u64 = 200;
    let directory = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(thermocline_io::RealDisk::open(directory.path(), true).unwrap());
    for version in 1..=SESSIONS {
        let opened = open(&disk, &small(16_384)).unwrap();
        commit(&opened.log, version, Durability::Sync).unwrap();
        opened.log.close().unwrap();
    }
    let mut open_files = 0;
    let request = thermocline_wal::OpenLog {
        disk: Arc::clone(&disk),
        randomness: &thermocline_io::SeededRandomness::new(7),
        clock: &thermocline_io::SimClock::new(),
        options: small(16_384),
        layout: &thermocline_tier::WholeKey,
        is_read_only: false,
        store: None,
        base: None,
    };
    let count = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = count();
    let (log, report) = Log::open(request, &mut |_| {
        open_files = open_files.max(count());
        Ok(())
    })
    .unwrap();
    assert_eq!((report.commits, report.segments), (SESSIONS, SESSIONS));
    // Other tests of this process may open some.
    assert!(open_files.max(count()) < before + 100, "{open_files} files open");
    drop(log);
}
