//! Damage to the files of a log: flipped bits, cut and garbled tails, zeroed, exchanged, missing and foreign files. Whatever is done,
//! opening gives the true history, a shorter one only where nothing proves that more was durable, or a clear error.

use std::sync::Arc;

use thermocline_format::Corruption;
use thermocline_io::{DirEntry, Disk, FileId, Reason, SeededRandomness, SimClock, SimDisk};
use thermocline_tier::{Error, ErrorKind, Version, WholeKey};
use thermocline_wal::{Durability, Log, LogOptions, OpenLog, Padding};

use crate::support::{Item, Random, commit, open, open_as, small};

/// A log of several segments. Its last group was synced and nothing was written after it, unless it was closed.
struct Sample {
    disk: SimDisk,
    options: LogOptions,
    items: Vec<Item>,
    /// Of the last segment: where what is proven to be durable ends.
    witnessed_end: u64,
    last: FileId,
}

fn sample(padding: Padding, closes: bool) -> Sample {
    let disk = SimDisk::new(1);
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let options = LogOptions { padding, ..small(8192) };
    let mut items = vec![];
    let log = open(&shared, &options).unwrap().log;
    for version in 1..24 {
        items.push(commit(&log, version, if version % 3 == 0 { Durability::Buffered } else { Durability::Sync }).unwrap());
    }
    // The second incarnation carries nothing over; the third carries one commit.
    log.close().unwrap();
    drop(log);
    let log = open(&shared, &options).unwrap().log;
    items.push(commit(&log, 24, Durability::Sync).unwrap());
    drop(log);
    let log = open(&shared, &options).unwrap().log;
    items.push(commit(&log, 26, Durability::Sync).unwrap());
    let segment = *disk.files().iter().map(|(id, _)| id).rfind(|id| matches!(id, FileId::Wal(_))).unwrap();
    let end = |disk: &SimDisk| disk.file_bytes(segment).unwrap().iter().rposition(|&byte| byte != 0).unwrap() as u64 + 1;
    let witnessed_end = end(&disk);
    items.push(commit(&log, 27, Durability::Sync).unwrap());
    if closes {
        log.close().unwrap();
    }
    let last = segment;
    Sample { disk, options, items, witnessed_end: if closes { u64::MAX } else { witnessed_end }, last }
}

/// The damage that an error reports.
fn damage(error: &Error) -> Option<&Corruption> {
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(damage) = inner.downcast_ref::<Corruption>() {
            return Some(damage);
        }
        source = inner.source();
    }
    None
}

#[derive(Debug, Default)]
struct Outcomes {
    harmless: u64,
    detected: u64,
    torn: u64,
}

impl Sample {
    /// Opens a damaged copy and sorts the outcome. `may_tear`: the last group may be taken for torn.
    fn outcome(&self, disk: &SimDisk, may_tear: bool, what: &str, outcomes: &mut Outcomes) {
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let before = disk.files();
        match open_as(&shared, &self.options, true) {
            Ok(opened) if opened.items == self.items => outcomes.harmless += 1,
            Ok(opened) => {
                assert!(may_tear, "{what}: a shorter history of {} items", opened.items.len());
                assert_eq!(opened.items, self.items[..self.items.len() - 1], "{what}");
                assert!(opened.report.discarded_bytes > 0 || opened.report.tear.is_none(), "{what}");
                outcomes.torn += 1;
            }
            Err(error) => {
                let is_clear =
                    matches!(error.kind(), ErrorKind::Corruption | ErrorKind::ForeignFile | ErrorKind::UnsupportedFormat);
                assert!(is_clear, "{what}: {error}");
                assert!(
                    error.kind() != &ErrorKind::Corruption || damage(&error).is_some() || error.to_string().contains("wal-"),
                    "{what}"
                );
                outcomes.detected += 1;
                assert!(open(&shared, &self.options).is_err(), "{what}: only the read-only open refuses");
            }
        }
        assert_eq!(disk.files(), before, "{what}: files changed");
    }

    fn segments(&self) -> Vec<(FileId, u64)> {
        self.disk.files().into_iter().filter(|(id, _)| matches!(id, FileId::Wal(_))).collect()
    }
}

#[test]
fn no_flipped_bit_changes_what_is_read() {
    let mut outcomes = Outcomes::default();
    let mut random = Random(3);
    for (padding, closes) in [(Padding::None, false), (Padding::Sector512, false), (Padding::Sector512, true)] {
        let sample = sample(padding, closes);
        for (id, len) in sample.segments() {
            let bytes = sample.disk.file_bytes(id).unwrap();
            for offset in 0..len {
                // Zeros ahead of use are many and alike: a sample of them will do.
                let near = &bytes[offset.saturating_sub(8) as usize..(offset + 8).min(len) as usize];
                if near.iter().all(|&byte| byte == 0) && offset % 61 != 0 {
                    continue;
                }
                // All bits of headers (which lie where bytes are read first), one of every other byte.
                let bits = if offset < 200 || random.chance(8) {
                    0..8
                } else {
                    let bit = random.below(8);
                    bit..bit + 1
                };
                for bit in bits {
                    let disk = sample.disk.duplicate();
                    assert!(disk.flip_bit(id, offset * 8 + bit));
                    let may_tear = id == sample.last && offset >= sample.witnessed_end;
                    sample.outcome(
                        &disk,
                        may_tear,
                        &format!("{padding:?}, closed {closes}, {id} byte {offset} bit {bit}"),
                        &mut outcomes,
                    );
                }
            }
        }
    }
    println!("flipped bits: {outcomes:?}");
    assert!(outcomes.detected > 1000 && outcomes.harmless > 0 && outcomes.torn > 0);
}

#[test]
fn no_spoilt_sector_changes_what_is_read() {
    let mut outcomes = Outcomes::default();
    let mut random = Random(4);
    let sample = sample(Padding::Sector512, false);
    for (id, len) in sample.segments() {
        let whole = sample.disk.file_bytes(id).unwrap();
        for size in [512, 4096] {
            for sector in 0..len / size {
                for kind in 0..3 {
                    let mut bytes = whole.clone();
                    let range = (sector * size) as usize..((sector + 1) * size) as usize;
                    match kind {
                        0 => bytes[range.clone()].fill(0),
                        1 => bytes[range.clone()].iter_mut().for_each(|byte| *byte = random.next() as u8),
                        _ => {
                            let other = random.below(len / size) * size;
                            bytes.copy_within(other as usize..(other + size) as usize, range.start);
                        }
                    }
                    let disk = sample.disk.duplicate();
                    disk.replace_file(id, &bytes);
                    let may_tear = id == sample.last && (sector + 1) * size > sample.witnessed_end;
                    // A header alone among zeros is a segment that was never begun, if nothing behind it is left either.
                    sample.outcome(&disk, may_tear, &format!("{id} sector {sector} of {size}, kind {kind}"), &mut outcomes);
                }
            }
        }
    }
    println!("spoilt sectors: {outcomes:?}");
}

#[test]
fn every_cut_tail_gives_the_whole_groups_before_it() {
    for padding in [Padding::None, Padding::Sector512] {
        let sample = sample(padding, false);
        let bytes = sample.disk.file_bytes(sample.last).unwrap();
        let end = bytes.iter().rposition(|&byte| byte != 0).unwrap() as u64 + 1;
        let mut lengths = std::collections::BTreeSet::new();
        for len in 4096..=end {
            for tail in 0..3 {
                let disk = sample.disk.duplicate();
                let mut cut = bytes[..len as usize].to_vec();
                match tail {
                    0 => {}
                    1 => cut.resize(bytes.len(), 0),
                    _ => cut.extend((0..700).map(|index| (index * 7 + len) as u8 | 1)),
                }
                disk.replace_file(sample.last, &cut);
                let shared: Arc<dyn Disk> = Arc::new(disk.clone());
                let opened = match open(&shared, &sample.options) {
                    Ok(opened) => opened,
                    // The segment took the place of another, which is removed only when the records from there are durable.
                    Err(error) if error.to_string().contains("R12") && len < sample.witnessed_end => continue,
                    Err(error) => panic!("{padding:?}, {len} bytes, tail {tail}: {error}"),
                };
                assert_eq!(opened.items, sample.items[..opened.items.len()], "{len} bytes, tail {tail}");
                assert!(opened.items.len() >= sample.items.len() - 2, "only the last segment was cut");
                lengths.insert(opened.items.len());
                let torn = opened.report.discarded_bytes > 0;
                assert_eq!(torn, opened.report.tear.is_some(), "{len} bytes, tail {tail}: {:?}", opened.report);
            }
        }
        assert_eq!(lengths.len(), 3, "{lengths:?}");
    }
}

#[test]
fn tail_of_zeros_is_no_empty_record() {
    let sample = sample(Padding::None, false);
    let disk = sample.disk.duplicate();
    let mut bytes = disk.file_bytes(sample.last).unwrap();
    bytes.resize(bytes.len() + 100_000, 0);
    disk.replace_file(sample.last, &bytes);
    let opened = open(&(Arc::new(disk) as Arc<dyn Disk>), &sample.options).unwrap();
    assert_eq!(opened.items, sample.items);
    assert_eq!((opened.report.discarded_bytes, &opened.report.tear), (0, &None));
}

fn refused(sample: &Sample, disk: &SimDisk, what: &str) -> Error {
    let before: Vec<_> = disk.files().iter().map(|(id, _)| disk.file_bytes(*id)).collect();
    let opened = open(&(Arc::new(disk.clone()) as Arc<dyn Disk>), &sample.options);
    let error = opened.map(|opened| opened.report).err().unwrap_or_else(|| panic!("{what}: opened"));
    let after: Vec<_> = disk.files().iter().map(|(id, _)| disk.file_bytes(*id)).collect();
    assert_eq!(before, after, "a refused open changes nothing");
    error
}

#[test]
fn missing_swapped_and_duplicated_segments_are_refused_by_name() {
    let sample = sample(Padding::Sector512, false);
    let segments: Vec<FileId> = sample.segments().into_iter().map(|(id, _)| id).collect();
    assert!(segments.len() >= 4, "{segments:?}");
    let (earlier, last) = segments.split_at(segments.len() - 1);
    for &id in earlier {
        let disk = sample.disk.duplicate();
        disk.delete_file(id);
        let error = refused(&sample, &disk, &format!("{id} of {segments:?} deleted"));
        assert_eq!(error.kind(), &ErrorKind::Corruption);
        assert!(error.to_string().contains("R14") && error.to_string().contains(&id.to_string()), "{error}");

        let disk = sample.disk.duplicate();
        disk.truncate_file(id, 0);
        assert!(refused(&sample, &disk, &format!("{id} of {segments:?} empty")).to_string().contains("R8"));

        let disk = sample.disk.duplicate();
        disk.truncate_file(id, 4096);
        assert!(refused(&sample, &disk, &format!("{id} of {segments:?} cut")).to_string().contains("R15"));
    }
    for &id in &segments {
        let disk = sample.disk.duplicate();
        let other = if id == segments[0] { segments[1] } else { segments[0] };
        disk.swap_files(id, other);
        assert_eq!(damage(&refused(&sample, &disk, "")).unwrap().part(), "envelope file number");

        let disk = sample.disk.duplicate();
        disk.replace_file(FileId::Wal(77), &disk.file_bytes(id).unwrap());
        assert_eq!(refused(&sample, &disk, "").kind(), &ErrorKind::Corruption, "a copy under another number");
    }
    let disk = sample.disk.duplicate();
    disk.replace_file(earlier[1], &disk.file_bytes(last[0]).unwrap());
    assert_eq!(refused(&sample, &disk, "").kind(), &ErrorKind::Corruption);
}

#[test]
fn older_copy_of_a_segment_is_refused() {
    let disk = SimDisk::new(1);
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let options = small(8192);
    let log = open(&shared, &options).unwrap().log;
    commit(&log, 1, Durability::Sync).unwrap();
    let older = disk.file_bytes(FileId::Wal(1)).unwrap();
    for version in 2..40 {
        commit(&log, version, Durability::Sync).unwrap();
    }
    drop(log);
    disk.replace_file(FileId::Wal(1), &older);
    let error = open(&shared, &options).map(|opened| opened.items.len()).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Corruption, "{error}");
}

#[test]
fn files_of_others_are_refused_or_left_alone() {
    let sample = sample(Padding::Sector512, false);
    let last = match sample.last {
        FileId::Wal(number) => number,
        other => panic!("{other}"),
    };
    let zip: Vec<u8> = b"PK\x03\x04".iter().copied().cycle().take(9000).collect();
    for (content, name) in [(zip.clone(), "a zip"), (b"not a log".to_vec(), "a text"), (vec![7; 4095], "a page less a byte")] {
        for id in [FileId::Wal(last + 1), sample.last, FileId::Wal(1)] {
            let disk = sample.disk.duplicate();
            disk.replace_file(id, &content);
            let error = refused(&sample, &disk, "");
            let kind = if id == FileId::Wal(1) { ErrorKind::Corruption } else { ErrorKind::ForeignFile };
            assert_eq!(error.kind(), &kind, "{name} as {id}: {error}");
        }
        let disk = SimDisk::new(1);
        disk.replace_file(FileId::Wal(1), &content);
        let error = refused(&sample, &disk, "");
        assert_eq!(error.kind(), &ErrorKind::ForeignFile, "{name} alone: {error}");
        assert!(Log::exists(&disk).is_err());
    }

    // A segment of another store, under a number that would fit.
    let other = SimDisk::new(9);
    let shared: Arc<dyn Disk> = Arc::new(other.clone());
    let request = OpenLog {
        disk: Arc::clone(&shared),
        randomness: &SeededRandomness::new(999),
        clock: &SimClock::new(),
        options: sample.options.clone(),
        layout: &WholeKey,
        is_read_only: false,
        store: None,
        base: None,
    };
    let log = Log::open(request, &mut |_| Ok(())).unwrap().0;
    for version in 1..60 {
        commit(&log, version, Durability::Sync).unwrap();
    }
    drop(log);
    for number in [2, last] {
        let disk = sample.disk.duplicate();
        disk.replace_file(FileId::Wal(number), &other.file_bytes(FileId::Wal(number)).unwrap());
        assert_eq!(refused(&sample, &disk, "").kind(), &ErrorKind::ForeignFile);
    }

    // Names that are not ours are no business of ours; what is no regular file is refused.
    let disk = sample.disk.duplicate();
    for name in ["notes.txt", ".DS_Store", "wal-zz", "wal-0000000000000001.bak"] {
        assert!(disk.add_foreign(name));
    }
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    assert_eq!(open(&shared, &sample.options).unwrap().items, sample.items);
    let names = disk.list(Reason::Open).unwrap();
    assert_eq!(names.iter().filter(|entry| matches!(entry, DirEntry::Foreign(_))).count(), 4);
    disk.add_irregular(FileId::Wal(500));
    assert_eq!(open(&shared, &sample.options).map(|opened| opened.items.len()).unwrap_err().kind(), &ErrorKind::Io);

    // Another key layout.
    let request = OpenLog {
        disk: Arc::new(sample.disk.duplicate()),
        randomness: &SeededRandomness::new(1),
        clock: &SimClock::new(),
        options: sample.options.clone(),
        layout: &thermocline_tier::FixedSuffix(8),
        is_read_only: false,
        store: None,
        base: None,
    };
    let error = Log::open(request, &mut |_| Ok(())).map(|_| ()).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::InvalidArgument { .. }), "{error}");
    assert!(error.to_string().contains("whole-key") && error.to_string().contains("fixed-suffix-8"));
}

#[test]
fn damage_beneath_an_open_log_is_found_by_reading_and_by_verify() {
    let sample = sample(Padding::Sector512, false);
    let shared: Arc<dyn Disk> = Arc::new(sample.disk.clone());
    let opened = open(&shared, &sample.options).unwrap();
    assert!(opened.log.verify().is_ok());
    sample.disk.flip_bit(FileId::Wal(1), (4096 + 50) * 8);
    let error = opened.log.verify().unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Corruption);
    let found = damage(&error).unwrap();
    assert_eq!(found.file().to_string(), "wal-0000000000000001");
    assert!(found.offset() >= 4096 && found.offset() <= 4096 + 50, "{error}");
    let mut reader = opened.log.reader(Version::ZERO).unwrap();
    let error = std::iter::from_fn(|| reader.next_commit(Version::MAX).transpose()).find_map(Result::err).unwrap();
    assert_eq!(error.kind(), &ErrorKind::Corruption);
    assert_eq!(thermocline_wal::verify(&sample.disk, None).unwrap_err().kind(), &ErrorKind::Corruption);
}
