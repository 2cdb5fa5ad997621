//! Readers of a log that is cut before or beneath them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use thermocline_io::sync::{Mutex, yield_now};
use thermocline_io::{
    Access, DirEntry, Disk, DiskFile, DiskResult, FileId, LockGuard, LockMode, MemoryDisk, Reason, Space, SyncFailed,
};
use thermocline_tier::{ErrorKind, Result, Version};
use thermocline_wal::{Durability, Log};

use crate::cut::{sample, uncut};
use crate::support::{Item, commit, open, open_from, small};

fn next(reader: &mut thermocline_wal::LogReader) -> Result<Option<u64>> {
    reader.next_commit(Version::MAX).map(|commit| commit.map(|commit| commit.version.0))
}

#[test]
fn reader_below_the_base_is_refused_and_told_from_where_on_it_can_read() {
    let sample = sample(10_000, 5);
    let after = sample.base.after.0;
    let log = sample.open().unwrap().log;
    for since in 0..after {
        let error = log.reader(Version(since)).map(|_| ()).unwrap_err();
        let expected = ErrorKind::VersionReclaimed { requested: Version(since), horizon: Version(after) };
        assert_eq!(error.kind(), &expected);
    }
    for since in after..=46 {
        let mut reader = log.reader(Version(since)).unwrap();
        for version in since + 1..=45 {
            assert_eq!(next(&mut reader).unwrap(), Some(version));
        }
        assert_eq!(next(&mut reader).unwrap(), None);
    }
}

#[test]
fn reader_under_way_ends_the_segment_that_it_has_open_and_never_skips() {
    let (sample, log) = uncut(0, 0);
    let last = sample.base.after.0;
    // Where each segment ends, by trying every base.
    let mut ends: Vec<u64> = (0..log.stats().size_bytes).step_by(500).map(|keep| log.base(keep).after.0).collect();
    ends.sort_unstable();
    ends.dedup();
    assert!(ends.len() > 3 && ends[0] == 0, "{ends:?}");
    drop(log);
    let mut outcomes = [0; 3];
    for read in 0..=last {
        for &cut in &ends[1..] {
            let copy = sample.copy();
            let log = open_from(&copy.shared(), &copy.options, false, None).unwrap().log;
            let mut reader = log.reader(Version::ZERO).unwrap();
            for version in 1..=read {
                assert_eq!(next(&mut reader).unwrap(), Some(version));
            }
            let base = (0..=log.stats().size_bytes).step_by(100).map(|keep| log.base(keep)).find(|base| base.after.0 == cut);
            log.cut(&base.unwrap()).unwrap();
            commit(&log, last + 1, Durability::Buffered).unwrap();
            let mut version = read;
            let end = loop {
                match next(&mut reader) {
                    Ok(Some(found)) => {
                        version += 1;
                        assert_eq!(found, version, "read {read}, cut behind {cut}");
                    }
                    Ok(None) => break Ok(()),
                    Err(error) => break Err(error),
                }
            };
            match end {
                Ok(()) => {
                    assert_eq!(version, last + 1, "read {read}, cut behind {cut}");
                    outcomes[usize::from(read < cut)] += 1;
                }
                Err(error) => {
                    let expected = ErrorKind::VersionReclaimed { requested: Version(version), horizon: Version(cut) };
                    assert_eq!(error.kind(), &expected, "read {read}, cut behind {cut}");
                    assert!(version < cut && next(&mut reader).is_err());
                    outcomes[2] += 1;
                }
            }
        }
    }
    assert!(outcomes.iter().all(|count| *count > 10), "behind the base, in the segment before, further back: {outcomes:?}");
}

#[test]
fn reader_at_the_end_of_a_segment_that_is_cut_reads_on() {
    let (sample, log) = uncut(0, 0);
    let mut reader = log.reader(Version(40)).unwrap();
    for version in 41..=60 {
        assert_eq!(next(&mut reader).unwrap(), None);
        // Twice, so that neither the reader's segment nor the one after it is left.
        log.rotate().unwrap();
        if version % 2 == 0 {
            log.cut(&log.base(0)).unwrap();
        }
        commit(&log, version, Durability::Memory).unwrap();
        assert_eq!(next(&mut reader).unwrap(), Some(version));
        assert_eq!(next(&mut log.reader(Version(version - 1)).unwrap()).unwrap(), Some(version));
    }
    assert!(sample.numbers().len() <= 3);
}

/// A disk that does something before the next opening of a file for one reason.
struct Hooked {
    disk: MemoryDisk,
    hook: Mutex<Option<(Reason, Hook)>>,
}

type Hook = Box<dyn FnOnce() + Send>;

impl std::fmt::Debug for Hooked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.disk.fmt(f)
    }
}

impl Disk for Hooked {
    fn create_new(&self, id: FileId, reason: Reason) -> DiskResult<Arc<dyn DiskFile>> {
        self.disk.create_new(id, reason)
    }

    fn open(&self, id: FileId, access: Access, reason: Reason) -> DiskResult<Arc<dyn DiskFile>> {
        let hook = self.hook.lock().take_if(|(wanted, _)| *wanted == reason);
        if let Some((_, hook)) = hook {
            hook();
        }
        self.disk.open(id, access, reason)
    }

    fn remove(&self, id: FileId, reason: Reason) -> DiskResult<()> {
        self.disk.remove(id, reason)
    }

    fn list(&self, reason: Reason) -> DiskResult<Vec<DirEntry>> {
        self.disk.list(reason)
    }

    fn sync_dir(&self, reason: Reason) -> std::result::Result<(), SyncFailed> {
        self.disk.sync_dir(reason)
    }

    fn try_lock(&self, mode: LockMode) -> DiskResult<Box<dyn LockGuard>> {
        self.disk.try_lock(mode)
    }

    fn space(&self) -> DiskResult<Space> {
        self.disk.space()
    }

    fn label(&self) -> String {
        self.disk.label()
    }
}

/// A log with ten segments of one commit each, and one in use without any.
fn hooked() -> (Arc<Hooked>, Arc<Log>) {
    let hooked = Arc::new(Hooked { disk: MemoryDisk::new(), hook: Mutex::new(None) });
    let disk: Arc<dyn Disk> = Arc::<Hooked>::clone(&hooked);
    let log = open(&disk, &small(8192)).unwrap().log;
    for version in 1..=10 {
        commit(&log, version, Durability::Sync).unwrap();
        log.rotate().unwrap();
    }
    (hooked, Arc::new(log))
}

/// At the next opening of a file for this reason, appends so many commits and cuts everything that there is.
fn cut_at_next_open(hooked: &Hooked, log: &Arc<Log>, reason: Reason, commits: u64) {
    let log = Arc::clone(log);
    let hook = move || {
        for _ in 0..commits {
            commit(&log, log.stats().last_version.0 + 1, Durability::Sync).unwrap();
        }
        log.rotate().unwrap();
        assert!(log.cut(&log.base(0)).unwrap() > 0);
    };
    *hooked.hook.lock() = Some((reason, Box::new(hook)));
}

#[test]
fn segment_that_is_cut_in_the_moment_it_is_opened_is_no_failure_of_the_disk() {
    // A new reader. It goes to the newest segment if it has read all; that has a record of its own, so that it can be cut.
    for (since, commits) in [(11, 0), (11, 1), (10, 0), (0, 0), (0, 3)] {
        let (hooked, log) = hooked();
        commit(&log, 11, Durability::Sync).unwrap();
        cut_at_next_open(&hooked, &log, Reason::WalRead, commits);
        let (since, horizon) = (Version(since), Version(11 + commits));
        match log.reader(since) {
            Ok(mut reader) => {
                assert_eq!(since, horizon, "nothing is missing");
                commit(&log, 50, Durability::Memory).unwrap();
                assert_eq!(next(&mut reader).unwrap(), Some(50));
            }
            Err(error) => {
                assert_eq!(error.kind(), &ErrorKind::VersionReclaimed { requested: since, horizon });
                assert!(since < horizon);
            }
        }
        assert!(hooked.hook.lock().is_none());
    }
    // A reader that goes on to the next segment.
    let (hooked, log) = hooked();
    let mut reader = log.reader(Version::ZERO).unwrap();
    for version in 1..=4 {
        assert_eq!(next(&mut reader).unwrap(), Some(version));
    }
    cut_at_next_open(&hooked, &log, Reason::WalRead, 3);
    for _ in 0..2 {
        let error = next(&mut reader).unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::VersionReclaimed { requested: Version(4), horizon: Version(13) });
    }
    // A check, at its first segment: it is left out, and so is what came since.
    commit(&log, 14, Durability::Sync).unwrap();
    cut_at_next_open(&hooked, &log, Reason::Verify, 0);
    assert_eq!(log.verify().unwrap().commits, 0);
    assert_eq!(log.verify().unwrap().last_version, Version(14));
}

#[test]
fn readers_and_checks_beside_appends_and_cuts_miss_nothing_in_silence() {
    const LAST: u64 = 3_000;
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
    let log = open(&disk, &small(8192)).unwrap().log;
    let published = AtomicU64::new(0);
    let (is_written, is_cut) = (AtomicBool::new(false), AtomicBool::new(false));
    let append = || {
        for version in 1..=LAST {
            let durability = if version % 5 == 0 { Durability::Buffered } else { Durability::Memory };
            commit(&log, version, durability).unwrap();
            published.store(version, Ordering::Release);
        }
        is_written.store(true, Ordering::Release);
    };
    let cut = || {
        for round in 0_u64.. {
            let is_last = is_written.load(Ordering::Acquire);
            log.rotate().unwrap();
            let base = log.base(if round.is_multiple_of(3) && !is_last { 0 } else { 9_000 });
            log.cut(&base).unwrap();
            log.prepare_step().unwrap();
            if is_last {
                is_cut.store(true, Ordering::Release);
                return base;
            }
        }
        unreachable!("the rounds do not end")
    };
    let check = || {
        while !is_cut.load(Ordering::Acquire) {
            log.verify().unwrap();
        }
    };
    // Returns how often it was cut off. A late one is met by every cut there is.
    let read = |is_late: bool| {
        let (mut version, mut jumps) = (0, 0);
        let mut reader = log.reader(Version::ZERO);
        while version < LAST {
            let limit = published.load(Ordering::Acquire);
            match reader.as_mut().map_err(|error| error.clone()).and_then(|reader| reader.next_commit(Version(limit))) {
                Ok(Some(commit)) => {
                    version += 1;
                    assert_eq!(commit.version.0, version);
                }
                Ok(None) => yield_now(),
                Err(error) => {
                    let &ErrorKind::VersionReclaimed { requested, horizon } = error.kind() else { panic!("{error}") };
                    assert!(requested.0 == version && horizon > requested, "{error} at {version}");
                    (version, jumps) = (horizon.0, jumps + 1);
                    reader = log.reader(horizon);
                }
            }
            while is_late && !is_cut.load(Ordering::Acquire) {
                yield_now();
            }
        }
        jumps
    };
    let base = std::thread::scope(|scope| {
        let cutter = scope.spawn(cut);
        scope.spawn(check);
        let readers = [true, false, false].map(|is_late| scope.spawn(move || read(is_late)));
        append();
        let jumps = readers.map(|reader| reader.join().unwrap());
        assert!(jumps[0] > 0, "the late reader was not cut off: {jumps:?}");
        cutter.join().unwrap()
    });
    log.close().unwrap();
    let opened = open_from(&disk, &small(8192), false, Some(&base)).unwrap();
    let versions: Vec<u64> = opened.items.iter().filter_map(Item::version).collect();
    assert_eq!(versions, (base.after.0 + 1..=LAST).collect::<Vec<_>>());
}
