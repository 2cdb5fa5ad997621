//! Faults of the disk at every operation of scripted runs: full disks, failed syncs, failed writes and reads, short transfers.
//!
//! Hunts: acknowledging what a failed sync left open; syncing a file again after that; going on behind a hole; a full disk that
//! poisons; a read error taken for an absent key.

use thermocline_io::{
    CrashPoint, CrashProfile, DiskErrorKind, Fault, FaultKind, Operation, Reason, SimDisk, Survival, SyncCache, When,
};
use thermocline_store::Health;
use thermocline_tier::{ErrorKind, Version};

use super::story::{Below, Numbers, Setup, Story, open, open_as, open_with};
use super::{T, batch};

const STEPS: usize = 60;
const SETUPS: [Setup; 5] = [
    Setup::Hot,
    Setup::Over(Below::Model, 1_500),
    Setup::Alone(Below::Model, 1_500),
    Setup::Over(Below::Warm, 1_500),
    Setup::Alone(Below::Warm, 1_500),
];

/// Runs a script with a fault, and checks that what was acknowledged is there after going on without it, after a restart, and
/// after a power cut that follows. Returns how often the fault struck.
fn run_with(setup: Setup, seed: u64, fault: Fault) -> u64 {
    let repro = format!("{setup:?} seed {seed} {fault:?}");
    let (disk, mut story) = (SimDisk::new(seed), Story::new(setup));
    let id = disk.inject(fault);
    match open_as(&disk, setup) {
        Ok(store) => {
            // Over a durable tier a step is many operations.
            let steps = if setup == Setup::Hot { STEPS } else { STEPS / 2 };
            story.run(&store, &disk, steps, &mut Numbers(seed));
            if store.stats().health == Health::Healthy {
                story.check(&store, story.durable, &repro);
            }
            drop(store);
        }
        Err(error) => assert!(
            matches!(error.kind(), ErrorKind::Io | ErrorKind::DiskFull | ErrorKind::CommitUnknown { .. } | ErrorKind::Poisoned),
            "{repro}: {error}"
        ),
    }
    disk.clear_faults();
    for image in [disk.crash_image(CrashPoint::before(usize::MAX), CrashProfile::new(Survival::None), seed), disk.duplicate()] {
        let store = open_as(&image, setup).unwrap_or_else(|error| panic!("{repro}: {error}"));
        story.check(&store, story.durable, &repro);
        let recovered = store.last_version();
        drop(store);
        let cut = image.crash_image(CrashPoint::before(usize::MAX), CrashProfile::new(Survival::None), seed);
        story.check(&open_as(&cut, setup).unwrap(), recovered, &format!("{repro}, restarted, cut"));
    }
    disk.fault_count(id)
}

/// Lets a kind of fault strike at its first call, its second and so on, until a run has no such call.
fn at_every_call(setup: Setup, make: impl Fn(When) -> Fault) -> u64 {
    let mut runs = 0;
    for when in [When::Nth as fn(u64) -> When, When::From] {
        for nth in 0.. {
            if run_with(setup, nth % 5, make(when(nth))) == 0 {
                break;
            }
            runs += 1;
        }
    }
    runs
}

#[test]
fn every_failing_sync_leaves_what_was_acknowledged() {
    for cache in [SyncCache::Kept, SyncCache::Dropped] {
        for cause in [DiskErrorKind::Io, DiskErrorKind::DiskFull] {
            for operation in [Operation::SyncData, Operation::SyncDir] {
                // Over a durable tier the causes make no difference that those of the log do not show.
                let setups = if cause == DiskErrorKind::Io { &SETUPS[..] } else { &SETUPS[..1] };
                for &setup in setups {
                    let fault = |when| Fault::new(FaultKind::FailSync { cause, cache }, when).on(operation);
                    let runs = at_every_call(setup, fault);
                    println!("{setup:?}: {operation:?} failing with {cause:?}, {cache:?}: {runs} runs, 0 lost");
                    assert!(runs > 0);
                }
            }
        }
    }
}

#[test]
fn every_failing_write_leaves_what_was_acknowledged() {
    for kind in [DiskErrorKind::Io, DiskErrorKind::DiskFull, DiskErrorKind::Quota] {
        let setups = if kind == DiskErrorKind::Quota { &SETUPS[..1] } else { &SETUPS[..] };
        for &setup in setups {
            for fault in [FaultKind::Fail(kind), FaultKind::FailAfterPart(kind)] {
                assert!(at_every_call(setup, |when| Fault::new(fault, when).on(Operation::Write)) > 0);
            }
            assert!(at_every_call(setup, |when| Fault::new(FaultKind::Fail(kind), when).on(Operation::CreateNew)) > 0);
            // A file that cannot be removed is there again after a crash, and no harm.
            let runs = at_every_call(setup, |when| Fault::new(FaultKind::Fail(kind), when).on(Operation::Remove));
            assert_eq!(runs > 0, setup != Setup::Hot);
        }
    }
}

#[test]
fn short_transfers_change_nothing() {
    for (fault, setup) in
        [FaultKind::ShortTransfer, FaultKind::SingleByte].into_iter().zip([Setup::Hot, Setup::Over(Below::Warm, 1)])
    {
        let (disk, mut story) = (SimDisk::new(3), Story::new(setup));
        disk.inject(Fault::new(fault, When::PerMille { chance: 500, seed: 3 }));
        for _reopen in 0..3 {
            let store = open_as(&disk, setup).unwrap();
            story.run(&store, &disk, 20, &mut Numbers(story.durable.0));
            assert_eq!(store.stats().health, Health::Healthy);
            story.check(&store, story.durable, &fault);
        }
    }
}

#[test]
fn after_a_failed_sync_the_store_reads_on_and_refuses_writes_with_the_first_cause() {
    let disk = SimDisk::new(1);
    let store = open_with(&disk, 1 << 20).unwrap();
    store.commit(batch(T, &["a=1"])).unwrap();
    let fault = FaultKind::FailSync { cause: DiskErrorKind::Io, cache: SyncCache::Kept };
    disk.inject(Fault::new(fault, When::Nth(0)).reason(Reason::WalSync));
    let error = store.commit(batch(T, &["a=2"])).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::CommitUnknown { version: Version(2) }, "{error}");
    assert_eq!(store.get(T, b"a").unwrap().as_deref(), Some(b"1".as_slice()));
    let syncs = |disk: &SimDisk| disk.trace().iter().filter(|entry| entry.operation == Operation::SyncData).count();
    let before = syncs(&disk);
    for _again in 0..2 {
        let error = store.commit(batch(T, &["a=3"])).unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Poisoned);
        assert!(error.to_string().contains("sync"), "{error}");
    }
    assert_eq!(syncs(&disk), before, "a file is never synced again after a failure");
    assert!(matches!(store.stats().health, Health::Poisoned { .. }));
    assert_eq!(store.last_version(), Version(1));
}

#[test]
fn a_full_disk_refuses_commits_and_space_brings_them_back_without_reopening() {
    let disk = SimDisk::new(1);
    let store = open(&disk).unwrap();
    store.commit(batch(T, &["a=1"])).unwrap();
    disk.set_capacity(Some(24 << 10));
    let large = format!("b={}", "x".repeat(4000));
    let error = (0..20).find_map(|_| store.commit(batch(T, &[&large])).err()).unwrap();
    assert_eq!(error.kind(), &ErrorKind::DiskFull, "{error}");
    let last = store.last_version();
    assert_eq!(store.stats().health, Health::Healthy);
    assert_eq!(store.get(T, b"a").unwrap().as_deref(), Some(b"1".as_slice()));
    disk.set_capacity(None);
    let next = store.commit(batch(T, &["a=2"])).unwrap();
    assert_eq!(next.0, last.0 + 1);
    drop(store);
    let store = open(&disk).unwrap();
    assert_eq!(store.last_version(), next);
    assert_eq!(store.get(T, b"a").unwrap().as_deref(), Some(b"2".as_slice()));
}

#[test]
fn a_scan_ends_with_the_failure_of_a_read_and_the_next_one_is_whole() {
    let disk = SimDisk::new(9);
    let reopened = || super::tiered::open(&disk, Below::Warm, super::tiered::options());
    let store = reopened();
    let key = |number: u32| format!("{number:05}");
    let mut expected = Vec::new();
    for number in 0..3_000 {
        expected.push(format!("{}={}", key(number), "a value of some length ".repeat(4)));
    }
    let writes: Vec<&str> = expected.iter().map(String::as_str).collect();
    store.commit(batch(T, &writes)).unwrap();
    store.flush().unwrap();
    // Some of it is in memory.
    store.commit(batch(T, &writes[1_000..1_010])).unwrap();
    store.close().unwrap();
    let mut struck = 0;
    for nth in 0.. {
        let store = reopened();
        let fault = Fault::new(FaultKind::Fail(DiskErrorKind::Io), When::Nth(nth)).on(Operation::Read);
        let fault = disk.inject(fault.class(thermocline_io::FileClass::Sst));
        let scan = || store.snapshot().unwrap().range::<&[u8]>(T, ..);
        let (mut rows, mut failure) = (0, None);
        for row in scan() {
            match row {
                Ok((found, value)) => {
                    let row = [&found[..], b"=", &value[..]].concat();
                    assert_eq!(row, expected[rows].as_bytes(), "read {nth}");
                    rows += 1;
                }
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        if disk.fault_count(fault) == 0 {
            assert_eq!(rows, expected.len());
            break;
        }
        let failure = failure.unwrap_or_else(|| panic!("read {nth} failed, and the scan has {rows} rows"));
        assert!(failure.kind() == &ErrorKind::Io && rows < expected.len(), "{failure}");
        struck += 1;
        assert_eq!(scan().map(Result::unwrap).count(), expected.len(), "after read {nth}");
        store.commit(batch(T, &[&expected[struck]])).unwrap();
        disk.clear_faults();
        store.close().unwrap();
    }
    assert!(struck > 5, "{struck}");
}

#[test]
fn a_read_that_fails_fails_the_open_and_takes_nothing_away() {
    for setup in SETUPS {
        let (disk, mut story) = (SimDisk::new(9), Story::new(setup));
        story.run(&open_as(&disk, setup).unwrap(), &disk, STEPS, &mut Numbers(9));
        for nth in 0.. {
            let image = disk.duplicate();
            let fault = image.inject(Fault::new(FaultKind::Fail(DiskErrorKind::Io), When::Nth(nth)).on(Operation::Read));
            let opened = open_as(&image, setup);
            if image.fault_count(fault) == 0 {
                break;
            }
            if let Err(error) = opened {
                assert_eq!(error.kind(), &ErrorKind::Io, "{error}");
            }
            image.clear_faults();
            story.check(&open_as(&image, setup).unwrap(), story.durable, &nth);
        }
    }
}
