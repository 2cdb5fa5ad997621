//! Cutting the log before a base: what is left, and what is refused.

use std::sync::Arc;

use thermocline_format::StoreId;
use thermocline_io::{
    DirEntry, Disk, DiskErrorKind, Fault, FaultKind, FileId, Operation, Reason, SeededRandomness, SimClock, SimDisk, SyncCache,
    When,
};
use thermocline_tier::{Error, ErrorKind, Result, Version, WholeKey};
use thermocline_wal::{Durability, Genesis, Log, LogBase, LogOptions, OpenLog, RecoveryReport};

use crate::support::{Item, Opened, commit, open, open_from, small};

/// A log with a few segments before its base.
pub(crate) struct Sample {
    pub(crate) disk: SimDisk,
    pub(crate) options: LogOptions,
    /// What is behind the base.
    pub(crate) items: Vec<Item>,
    pub(crate) base: LogBase,
}

impl Sample {
    pub(crate) fn shared(&self) -> Arc<dyn Disk> {
        Arc::new(self.disk.clone())
    }

    pub(crate) fn open(&self) -> Result<Opened> {
        open_from(&self.shared(), &self.options, false, Some(&self.base))
    }

    pub(crate) fn numbers(&self) -> Vec<u64> {
        numbers(&self.disk)
    }

    pub(crate) fn copy(&self) -> Self {
        Self { disk: self.disk.duplicate(), options: self.options.clone(), items: self.items.clone(), base: self.base.clone() }
    }

    /// The error of opening it, which must change nothing and be the same for reading only.
    fn refused(&self, what: &str) -> Error {
        let bytes = || self.disk.files().iter().map(|(id, _)| (*id, self.disk.file_bytes(*id))).collect::<Vec<_>>();
        let before = bytes();
        let error = self.open().map(|opened| opened.report).err().unwrap_or_else(|| panic!("{what}: opened"));
        assert!(bytes() == before, "{what}: a refused open changed something");
        let reading = open_from(&self.shared(), &self.options, true, Some(&self.base)).map(|opened| opened.report).unwrap_err();
        assert_eq!(reading.to_string(), error.to_string(), "{what}");
        assert_eq!(error.kind(), &ErrorKind::Corruption, "{what}: {error}");
        assert_eq!(thermocline_wal::verify(&self.disk, Some(&self.base)).unwrap_err().to_string(), error.to_string(), "{what}");
        error
    }
}

fn numbers(disk: &SimDisk) -> Vec<u64> {
    disk.files().iter().filter_map(|(id, _)| if let FileId::Wal(number) = id { Some(*number) } else { None }).collect()
}

fn commits(log: &Log, versions: std::ops::RangeInclusive<u64>) -> Vec<Item> {
    versions.map(|version| commit(log, version, Durability::Sync).unwrap()).collect()
}

/// Forty commits, of which the base has `kept_bytes` behind it, and `more` of them; not cut yet.
pub(crate) fn uncut(kept_bytes: u64, more: u64) -> (Sample, Log) {
    let disk = SimDisk::new(1);
    let options = small(8192);
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let log = open(&shared, &options).unwrap().log;
    let mut items = commits(&log, 1..=40);
    log.rotate().unwrap();
    let base = log.base(kept_bytes);
    items.extend(commits(&log, 41..=40 + more));
    items.retain(|item| item.version() > Some(base.after.0));
    (Sample { disk, options, items, base }, log)
}

pub(crate) fn sample(kept_bytes: u64, more: u64) -> Sample {
    let (sample, log) = uncut(kept_bytes, more);
    log.cut(&sample.base).unwrap();
    sample
}

#[test]
fn cut_log_holds_what_is_behind_its_base() {
    for (kept_bytes, more) in [(0, 0), (0, 1), (0, 30), (1, 0), (10_000, 5), (u64::MAX, 3)] {
        let (sample, log) = uncut(kept_bytes, more);
        let segments = numbers(&sample.disk);
        let below = segments.iter().filter(|number| **number < sample.base.number).count() as u64;
        assert_eq!(log.cut(&sample.base).unwrap(), below);
        assert_eq!(log.cut(&sample.base).unwrap(), 0, "cutting twice is cutting once");
        assert_eq!(log.stats().segments, segments.len() as u64 - below);
        assert_eq!(numbers(&sample.disk)[..], segments[below as usize..]);
        assert_eq!(log.base(u64::MAX), sample.base, "the first segment there is");
        log.verify().unwrap();
        let (store, genesis) = (log.store_id(), log.genesis().clone());
        drop(log);

        let verified = thermocline_wal::verify(&sample.disk, Some(&sample.base)).unwrap();
        assert_eq!(verified.commits, sample.items.len() as u64);
        for is_read_only in [true, false] {
            let opened = open_from(&sample.shared(), &sample.options, is_read_only, Some(&sample.base)).unwrap();
            assert_eq!(opened.items, sample.items);
            assert_eq!(opened.report.last_version, Version(40 + more));
            assert_eq!((opened.log.store_id(), opened.log.genesis()), (store, &genesis));
            assert_eq!(opened.log.base(u64::MAX), sample.base);
            opened.log.verify().unwrap();
            if !is_read_only {
                let error = commit(&opened.log, 40 + more, Durability::Sync).unwrap_err();
                assert!(matches!(error.kind(), ErrorKind::VersionNotIncreasing { last, .. } if last.0 == 40 + more), "{error}");
                commits(&opened.log, 100..=110);
                opened.log.close().unwrap();
            }
        }
        assert_eq!(sample.open().unwrap().items.len(), sample.items.len() + 11);
        if below > 0 {
            let error = open(&sample.shared(), &sample.options).map(|opened| opened.report).unwrap_err();
            assert!(error.kind() == &ErrorKind::Corruption && error.to_string().contains("R14"), "{error}");
            assert!(Log::exists(&sample.disk).is_err() && thermocline_wal::verify(&sample.disk, None).is_err());
        }
        assert_eq!(Log::identify(&sample.disk).unwrap(), Some(store));
    }
}

#[test]
fn base_keeps_as_many_bytes_as_asked_for() {
    let (sample, log) = uncut(0, 3);
    let mut last = log.base(0);
    assert_eq!(last.number, sample.base.number);
    let all = log.stats().size_bytes;
    for keep_bytes in (0..all + 10_000).step_by(700) {
        let base = log.base(keep_bytes);
        assert!(base.number <= last.number && base.after <= last.after);
        let copy = sample.disk.duplicate();
        let shared: Arc<dyn Disk> = Arc::new(copy.clone());
        let opened = open_from(&shared, &sample.options, true, Some(&base)).unwrap();
        let oldest = opened.items.first().and_then(Item::version).unwrap();
        assert_eq!(oldest, base.after.0 + 1, "every version of the test is one more than the one before");
        let before_active = opened.log.stats().size_bytes - opened.log.stats().size_bytes.min(8192);
        assert!(base.number == 1 || before_active + 8192 >= keep_bytes, "{keep_bytes} bytes: {base:?}");
        last = base;
    }
    assert_eq!((last.number, last.after), (1, Version::ZERO));
}

#[test]
fn rotate_makes_all_before_durable_and_does_nothing_twice() {
    let disk = SimDisk::new(1);
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let options = LogOptions { segment_size_bytes: 1 << 20, ..small(1 << 20) };
    let log = open(&shared, &options).unwrap().log;
    for version in 1..=10 {
        commit(&log, version, Durability::Memory).unwrap();
    }
    assert_eq!(log.durable_version(), Version::ZERO);
    log.rotate().unwrap();
    assert_eq!(log.durable_version(), Version(10));
    assert_eq!(log.base(0), LogBase { number: 2, after: Version(10), genesis: log.genesis().clone() });
    let size = |number| disk.file_bytes(FileId::Wal(number)).map_or(0, |bytes| bytes.len());
    assert!(size(1) < 20_000 && size(2) == 4096, "no zeros are left behind the records: {} and {}", size(1), size(2));
    for _ in 0..3 {
        log.rotate().unwrap();
    }
    assert_eq!((log.stats().rotations, numbers(&disk)), (1, vec![1, 2]));
    // A commit that is only in memory counts as one.
    commit(&log, 11, Durability::Memory).unwrap();
    log.rotate().unwrap();
    assert_eq!((log.durable_version(), log.base(0).after), (Version(11), Version(11)));
    drop(log);
    assert_eq!(open(&shared, &options).unwrap().items.len(), 11);
}

#[test]
fn segments_below_the_base_are_removed_unread_whatever_they_hold() {
    let (sample, log) = uncut(10_000, 5);
    drop(log);
    let below: Vec<u64> = sample.numbers().into_iter().filter(|number| *number < sample.base.number).collect();
    assert!(below.len() >= 3);
    // As an interrupted cut leaves them; and spoilt, foreign, empty, of another store.
    for spoils in [false, true] {
        let copy = sample.copy();
        if spoils {
            copy.disk.replace_file(FileId::Wal(below[0]), b"PK\x03\x04 and so on");
            copy.disk.truncate_file(FileId::Wal(below[1]), 0);
            copy.disk.flip_bit(FileId::Wal(below[2]), 80 * 8);
        }
        copy.disk.delete_file(FileId::Wal(below[below.len() - 1]));
        let files = copy.numbers();
        let reading = open_from(&copy.shared(), &copy.options, true, Some(&copy.base)).unwrap();
        assert_eq!((reading.items, copy.numbers()), (copy.items.clone(), files), "reading only removes nothing");
        let trace = copy.disk.trace().len();
        let opened = copy.open().unwrap();
        assert_eq!((&opened.items, opened.report.removed_files), (&copy.items, below.len() as u64 - 1));
        assert!(copy.numbers().iter().all(|number| *number >= copy.base.number));
        let touched = |file| matches!(file, Some(FileId::Wal(number)) if number < copy.base.number);
        let calls: Vec<Operation> =
            copy.disk.trace()[trace..].iter().filter(|entry| touched(entry.file)).map(|entry| entry.operation).collect();
        assert!(calls.iter().all(|call| *call == Operation::Remove), "{calls:?}");
    }
    // One that cannot be removed is harmless.
    let copy = sample.copy();
    copy.disk.inject(Fault::new(FaultKind::Fail(DiskErrorKind::Denied), When::From(0)).on(Operation::Remove));
    let opened = copy.open().unwrap();
    assert_eq!((opened.items, opened.report.removed_files), (copy.items.clone(), 0));
    copy.disk.clear_faults();
    drop(opened.log);
    assert_eq!(copy.open().unwrap().report.removed_files, below.len() as u64);
}

#[test]
fn missing_base_is_refused_by_name() {
    for (kept_bytes, more) in [(0, 0), (0, 2), (0, 30), (10_000, 5)] {
        let sample = sample(kept_bytes, more);
        let name = FileId::Wal(sample.base.number).to_string();
        let copy = sample.copy();
        copy.disk.delete_file(FileId::Wal(sample.base.number));
        let error = copy.refused("no base");
        assert!(error.to_string().contains("R19") && error.to_string().contains(&name), "{error}");

        // Another number than the one with which the log begins.
        for number in [sample.base.number - 1, 99] {
            let copy = Sample { base: LogBase { number, ..sample.base.clone() }, ..sample.copy() };
            let name = FileId::Wal(number).to_string();
            let error = copy.refused("another base");
            assert!(error.to_string().contains("R19") && error.to_string().contains(&name), "{error}");
        }
    }
    // No log at all, only what lies below the base, or one that was never made whole.
    let (sample, log) = uncut(0, 0);
    drop(log);
    for keeps in [0, 3] {
        let copy = sample.copy();
        copy.numbers().into_iter().skip(keeps).for_each(|number| assert!(copy.disk.delete_file(FileId::Wal(number))));
        assert!(copy.refused("no log").to_string().contains("R19"));
    }
    let copy = Sample { base: LogBase { number: 1, after: Version::ZERO, ..sample.base.clone() }, ..sample.copy() };
    copy.numbers().into_iter().skip(1).for_each(|number| assert!(copy.disk.delete_file(FileId::Wal(number))));
    copy.disk.truncate_file(FileId::Wal(1), 4096);
    assert!(copy.refused("only a header").to_string().contains("R19"));
}

#[test]
fn damaged_header_of_the_base_is_refused() {
    for (kept_bytes, more) in [(0, 0), (0, 2), (0, 30), (10_000, 5)] {
        let sample = sample(kept_bytes, more);
        let id = FileId::Wal(sample.base.number);
        let name = id.to_string();
        let check = |what: &str, spoil: &dyn Fn(&SimDisk)| {
            let copy = sample.copy();
            spoil(&copy.disk);
            let error = copy.refused(what);
            assert!(error.to_string().contains("R8") && error.to_string().contains(&name), "{what}: {error}");
        };
        for byte in [0, 9, 20, 30, 64, 80, 4090] {
            check("a flipped bit", &|disk| assert!(disk.flip_bit(id, byte * 8)));
        }
        for len in [0, 1, 63, 4095] {
            check("cut short", &|disk| assert!(disk.truncate_file(id, len)));
        }
        check("zeros", &|disk| {
            let mut bytes = disk.file_bytes(id).unwrap();
            bytes[..4096].fill(0);
            disk.replace_file(id, &bytes);
        });
    }
}

#[test]
fn base_without_records_stays_however_often_the_log_is_opened() {
    for closes in [false, true] {
        let sample = sample(0, 0);
        for round in 0..5 {
            let opened = sample.open().unwrap();
            assert_eq!((opened.items.len(), opened.report.last_version), (0, Version(40)), "round {round}");
            assert_eq!(opened.log.base(u64::MAX), sample.base);
            if closes {
                opened.log.close().unwrap();
            }
            drop(opened);
            assert_eq!(sample.numbers()[0], sample.base.number);
            assert!(sample.numbers().len() <= 3, "{:?}", sample.numbers());
        }
        let written = commits(&sample.open().unwrap().log, 50..=60);
        for _ in 0..3 {
            assert_eq!(sample.open().unwrap().items, written);
        }
    }
}

#[test]
fn records_that_only_a_base_witnesses_are_carried_and_not_lost() {
    // The base is the last segment, and no record in it says that it is durable; nor does a power cut prove anything.
    let sample = sample(0, 1);
    assert_eq!(sample.numbers(), [sample.base.number]);
    for _ in 0..4 {
        let opened = sample.open().unwrap();
        assert_eq!(opened.items, sample.items);
        assert_eq!(opened.log.base(u64::MAX), sample.base);
    }
}

#[test]
fn damage_to_carried_records_of_the_base_is_refused() {
    let disk = SimDisk::new(1);
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let options = small(65_536);
    let log = open(&shared, &options).unwrap().log;
    commits(&log, 1..=3);
    drop(log);
    // This session carries version 3 over, and its segment becomes the base.
    let log = open(&shared, &options).unwrap().log;
    let base = log.base(0);
    assert_eq!((base.number, base.after, log.cut(&base).unwrap()), (2, Version(2), 1));
    drop(log);
    let sample = Sample { disk, options, items: vec![], base };
    assert_eq!(sample.open().unwrap().items.len(), 1);
    let copy = sample.copy();
    copy.disk.delete_file(FileId::Wal(3));
    let mut bytes = copy.disk.file_bytes(FileId::Wal(2)).unwrap();
    bytes[4096..].fill(0);
    copy.disk.replace_file(FileId::Wal(2), &bytes);
    assert!(copy.refused("carried records gone").to_string().contains("R12"));
}

#[test]
fn versions_and_genesis_must_be_those_of_the_base() {
    let sample = sample(10_000, 5);
    let first = sample.items[0].version().unwrap();
    let copy = Sample { base: LogBase { after: Version(first), ..sample.base.clone() }, ..sample.copy() };
    let error = open_from(&copy.shared(), &copy.options, false, Some(&copy.base)).map(|opened| opened.report).unwrap_err();
    assert!(error.kind() == &ErrorKind::Corruption && error.to_string().contains("version"), "{error}");

    // Another layout: whether the genesis is still there or not, and whichever of the two says so.
    let (uncut, log) = uncut(0, 3);
    drop(log);
    let whole = LogBase { number: 1, after: Version::ZERO, ..uncut.base.clone() };
    let other = Genesis { layout: "other".into(), ..whole.genesis.clone() };
    for (sample, base) in [(&sample, &sample.base), (&uncut, &whole)] {
        let base = LogBase { genesis: other.clone(), ..base.clone() };
        let error = open_from(&sample.shared(), &sample.options, false, Some(&base)).map(|opened| opened.report).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::InvalidArgument { .. }), "{error}");
        assert!(error.to_string().contains("`other`") && error.to_string().contains("whole-key"), "{error}");
    }
    let later = LogBase { genesis: Genesis { time: 77, ..whole.genesis.clone() }, ..whole.clone() };
    let error = open_from(&uncut.shared(), &uncut.options, false, Some(&later)).map(|opened| opened.report).unwrap_err();
    assert!(error.kind() == &ErrorKind::Corruption && error.to_string().contains("genesis"), "{error}");
    assert_eq!(open_from(&uncut.shared(), &uncut.options, false, Some(&whole)).unwrap().items.len(), 43);
}

#[test]
fn log_is_made_with_the_identity_asked_for_and_refused_with_another() {
    let disk = SimDisk::new(1);
    let open = |store, is_read_only| -> Result<(Log, RecoveryReport)> {
        let request = OpenLog {
            disk: Arc::new(disk.clone()),
            randomness: &SeededRandomness::new(7),
            clock: &SimClock::new(),
            options: small(8192),
            layout: &WholeKey,
            is_read_only,
            store,
            base: None,
        };
        Log::open(request, &mut |_| Ok(()))
    };
    assert_eq!(Log::identify(&disk).unwrap(), None);
    let (ours, other) = (StoreId([3; 16]), StoreId([4; 16]));
    drop(open(Some(ours), false).unwrap());
    assert_eq!(Log::identify(&disk).unwrap(), Some(ours));
    for is_read_only in [true, false] {
        assert_eq!(open(Some(other), is_read_only).unwrap_err().kind(), &ErrorKind::ForeignFile);
        assert_eq!(open(Some(ours), is_read_only).unwrap().0.store_id(), ours);
        assert_eq!(open(None, is_read_only).unwrap().0.store_id(), ours);
    }
    // The newest header that can be read tells.
    disk.replace_file(FileId::Wal(50), b"something");
    assert_eq!(Log::identify(&disk).unwrap(), Some(ours));
    let names = disk.list(Reason::Open).unwrap();
    for entry in names {
        if let DirEntry::File(id @ FileId::Wal(_), _) = entry {
            disk.truncate_file(id, 100);
        }
    }
    assert_eq!(Log::identify(&disk).unwrap(), None);
}

#[test]
fn cut_refuses_what_is_no_base_of_the_log() {
    let (sample, log) = uncut(10_000, 5);
    let base = &sample.base;
    let files = sample.numbers();
    let wrong = [
        LogBase { number: 999, ..base.clone() },
        LogBase { number: base.number + 1, ..base.clone() },
        LogBase { after: Version(base.after.0 - 1), ..base.clone() },
        LogBase { after: Version(base.after.0 + 1), ..base.clone() },
        LogBase { genesis: Genesis { layout: "other".into(), time: 0 }, ..base.clone() },
    ];
    for wrong in wrong {
        let error = log.cut(&wrong).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::InvalidArgument { .. }), "{error}");
    }
    assert_eq!(sample.numbers(), files, "nothing was removed");
    let older = log.base(u64::MAX);
    assert!(log.cut(base).unwrap() > 0);
    assert_eq!(log.cut(&older).unwrap(), 0, "an older base");
    log.close().unwrap();
    assert_eq!(log.cut(base).unwrap_err().kind(), &ErrorKind::Closed);
    assert_eq!(log.rotate().unwrap_err().kind(), &ErrorKind::Closed);
    let reading = open_from(&sample.shared(), &sample.options, true, Some(base)).unwrap().log;
    assert!(matches!(reading.cut(base).unwrap_err().kind(), ErrorKind::Unsupported { .. }));
    assert!(matches!(reading.rotate().unwrap_err().kind(), ErrorKind::Unsupported { .. }));
    drop(log);

    let log = sample.open().unwrap().log;
    let kind = FaultKind::FailSync { cause: DiskErrorKind::Io, cache: SyncCache::Dropped };
    sample.disk.inject(Fault::new(kind, When::Nth(0)).on(Operation::SyncData));
    commit(&log, 90, Durability::Memory).unwrap();
    assert!(matches!(log.rotate().unwrap_err().kind(), ErrorKind::CommitUnknown { version: Version(90) }));
    assert_eq!(log.rotate().unwrap_err().kind(), &ErrorKind::Poisoned);
    assert_eq!(log.cut(base).unwrap_err().kind(), &ErrorKind::Poisoned);
    drop(log);
    assert_eq!(sample.open().unwrap().items, sample.items);
}

#[test]
fn segment_that_cannot_be_removed_is_tried_again() {
    let (sample, log) = uncut(0, 2);
    let below = sample.numbers().len() as u64 - 1;
    sample.disk.inject(Fault::new(FaultKind::Fail(DiskErrorKind::Denied), When::Nth(1)).on(Operation::Remove));
    let error = log.cut(&sample.base).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Io);
    assert_eq!((log.stats().segments, sample.numbers().len()), (1, 2), "cut, but for one file");
    let error = log.reader(Version(39)).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::VersionReclaimed { horizon: Version(40), .. }), "{error}");
    assert!(below > 2);
    assert_eq!(log.cut(&sample.base).unwrap(), 1);
    assert_eq!(sample.numbers(), [sample.base.number]);
    drop(log);
    assert_eq!(sample.open().unwrap().items, sample.items);
}

#[test]
fn full_disk_refuses_a_rotation_and_the_log_goes_on() {
    let (sample, log) = uncut(0, 0);
    // The segment in use is filled ahead: what fits into it needs no more space.
    let mut written = commits(&log, 41..=41);
    sample.disk.set_capacity(Some(1));
    for _ in 0..3 {
        assert_eq!(log.rotate().unwrap_err().kind(), &ErrorKind::DiskFull);
    }
    assert_eq!(log.base(0), sample.base);
    written.extend(commits(&log, 42..=43));
    assert_eq!(log.durable_version(), Version(43));
    // Cutting is what makes room.
    log.cut(&sample.base).unwrap();
    assert_eq!(sample.numbers(), [sample.base.number], "no attempt left a file behind");
    sample.disk.set_capacity(None);
    log.rotate().unwrap();
    let base = log.base(0);
    assert_eq!(base.after, Version(43));
    written.extend(commits(&log, 44..=50));
    drop(log);
    assert_eq!(sample.open().unwrap().items, written);
}
