//! Failing syncs, full disks, failing reads and writes, short transfers: at the n-th call, for every n.

use std::collections::BTreeMap;

use thermocline_io::{
    CrashPoint, CrashProfile, Disk, DiskErrorKind, Fault, FaultKind, FileId, Operation, Reason, SimDisk, Survival, SyncCache,
    TraceEntry, When,
};
use thermocline_tier::ErrorKind;
use thermocline_wal::{Durability, LogOptions, Padding};

use crate::support::{Opened, Random, batch, commit, open, open_as, open_from, small};
use crate::workload::{CUTTING, Run, options};

const STEPS: usize = 40;

/// Opens what a run left behind, checks it, cuts the power when that is done, and checks that nothing was lost.
fn check_restart(run: &mut Run, disk: &SimDisk, least: usize, what: &str) {
    let open = |run: &Run| -> thermocline_tier::Result<Opened> {
        open_from(&run.shared_disk(), &run.options, false, run.knowledge.base.as_ref())
    };
    run.disk = disk.clone();
    let opened = open(run).unwrap_or_else(|error| panic!("{what}: {error}"));
    let found = run.knowledge.check(&opened.items, least).unwrap_or_else(|why| panic!("{what}: {why}"));
    drop(opened);
    let end = CrashPoint::before(disk.operations());
    let cut = disk.crash_image(end, CrashProfile::new(Survival::None), 1);
    run.disk = cut;
    let again = open(run).unwrap_or_else(|error| panic!("{what}, then a power cut: {error}"));
    run.knowledge.check(&again.items, found).unwrap_or_else(|why| panic!("{what}, then a power cut: {why}"));
}

/// Fails the n-th sync of a run for every n, and checks what is left with and without a power cut.
fn failing_syncs(operation: Operation, cause: DiskErrorKind, seed: u64) -> u64 {
    let mut failures = 0;
    for cache in [SyncCache::Kept, SyncCache::Dropped] {
        for nth in 0.. {
            let mut run = Run::new(seed, options(seed));
            let kind = FaultKind::FailSync { cause, cache };
            let fault = run.disk.inject(Fault::new(kind, When::Nth(nth)).on(operation));
            let mut refused = 0;
            let mut steps = 0;
            while steps < STEPS && run.step_through(&mut refused) {
                steps += 1;
            }
            if run.disk.fault_count(fault) == 0 {
                break;
            }
            failures += 1;
            let what = format!("seed {seed}, {operation} {nth} failed, {cache:?}");
            if let Some(log) = &run.log
                && log.is_poisoned()
            {
                let error = commit(log, u64::MAX - 2, Durability::Sync).unwrap_err();
                assert_eq!(error.kind(), &ErrorKind::Poisoned, "{what}");
                assert!(log.close().is_err());
            }
            run.log = None;
            let durable = run.knowledge.durable;
            let profile = CrashProfile::numbered(nth);
            let cut = run.disk.crash_image(CrashPoint::before(run.disk.operations()), profile, nth);
            check_restart(&mut run, &cut, durable, &format!("{what}, power cut"));
            // The restart without a power cut comes last: it goes on with the disk of the run.
        }
        for nth in 0.. {
            let mut run = Run::new(seed, options(seed));
            let kind = FaultKind::FailSync { cause, cache };
            let fault = run.disk.inject(Fault::new(kind, When::Nth(nth)).on(operation));
            let mut refused = 0;
            let mut steps = 0;
            while steps < STEPS && run.step_through(&mut refused) {
                steps += 1;
            }
            if run.disk.fault_count(fault) == 0 {
                break;
            }
            run.log = None;
            let disk = run.disk.clone();
            let durable = run.knowledge.durable;
            check_restart(&mut run, &disk, durable, &format!("seed {seed}, {operation} {nth} failed, {cache:?}, restart"));
        }
    }
    failures
}

#[test]
fn no_failing_sync_loses_what_was_acknowledged() {
    let mut failures = 0;
    for seed in (0..12).chain(CUTTING..CUTTING + 6) {
        failures += failing_syncs(Operation::SyncData, DiskErrorKind::Io, seed);
        failures += failing_syncs(Operation::SyncDir, DiskErrorKind::Io, seed);
    }
    failures += failing_syncs(Operation::SyncData, DiskErrorKind::DiskFull, 13);
    println!("{failures} failing syncs");
}

#[test]
fn failing_sync_poisons_with_its_cause_and_leaves_reading_alone() {
    let mut run = Run::new(1, small(8192));
    run.open().unwrap();
    let log = run.log.as_ref().unwrap();
    commit(log, 1, Durability::Sync).unwrap();
    let kind = FaultKind::FailSync { cause: DiskErrorKind::DiskFull, cache: SyncCache::Kept };
    run.disk.inject(Fault::new(kind, When::Nth(0)));
    let error = commit(log, 2, Durability::Sync).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::CommitUnknown { version } if version.0 == 2), "{error}");
    assert!(log.is_poisoned());
    assert_eq!(log.poison_cause().unwrap().kind(), &ErrorKind::DiskFull);
    let syncs = log.stats().syncs;
    for _ in 0..2 {
        let error = commit(log, 3, Durability::Memory).unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Poisoned);
        assert!(error.to_string().contains("no space is left"), "{error}");
        assert!(log.sync().is_err());
    }
    assert!(log.background_step().is_err());
    assert_eq!(log.stats().syncs, syncs, "a file of which a sync failed is not synced again");
    let mut reader = log.reader(thermocline_tier::Version(0)).unwrap();
    assert_eq!(reader.next_commit(thermocline_tier::Version(1)).unwrap().unwrap().version.0, 1);
    assert_eq!(log.durable_version().0, 1);
}

/// Fails writes of a run, lets it go on, and checks that only what was refused is missing. Returns whether the fault struck.
fn failing_calls(seed: u64, fault: Fault, heals: bool, what: &str) -> bool {
    let mut run = Run::new(seed, options(seed));
    what.clone_into(&mut run.name);
    run.open().unwrap();
    let fault = run.disk.inject(fault);
    let mut refused = 0;
    for _ in 0..STEPS {
        assert!(run.step_through(&mut refused), "{what}: poisoned");
    }
    if run.disk.fault_count(fault) == 0 {
        return false;
    }
    let operations = run.disk.operations();
    let recording = run.disk.recording();
    if heals {
        run.disk.clear_faults();
        // Without opening it again, if it was open.
        for _ in 0..10 {
            let before = refused;
            assert!(run.step_through(&mut refused), "{what}: poisoned");
            assert_eq!(refused, before, "{what}: still failing");
        }
        run.sync().unwrap();
    }
    run.disk.clear_faults();
    run.log = None;
    let written = run.knowledge.written;
    let disk = run.disk.clone();
    let mut random = Random(seed);
    let mut sweep = recording.sweep();
    for operation in (0..operations).rev().take(12) {
        let cut = CrashPoint::after(operation);
        let knowledge = run.knowledge_at(recording.last_mark_before(cut));
        let image = sweep.crash_image(cut, CrashProfile::numbered(random.next()), random.next());
        let image: std::sync::Arc<dyn Disk> = std::sync::Arc::new(image);
        let base = knowledge.base.as_ref();
        let opened =
            open_from(&image, &run.options, false, base).unwrap_or_else(|error| panic!("{what}, cut after {operation}: {error}"));
        knowledge.check(&opened.items, knowledge.durable).unwrap_or_else(|why| panic!("{what}, cut after {operation}: {why}"));
    }
    check_restart(&mut run, &disk, written, what);
    true
}

fn every_nth(kind: FaultKind, operation: Operation, seeds: std::ops::Range<u64>) -> u64 {
    let mut struck = 0;
    for seed in seeds {
        for nth in 0.. {
            let once = Fault::new(kind, When::Nth(nth)).on(operation);
            if !failing_calls(seed, once, true, &format!("seed {seed}, {operation} {nth} once, {kind:?}")) {
                break;
            }
            let forever = Fault::new(kind, When::From(nth)).on(operation);
            failing_calls(seed, forever, true, &format!("seed {seed}, {operation} from {nth} on, {kind:?}"));
            struck += 2;
        }
    }
    struck
}

#[test]
fn full_disk_refuses_appends_and_lets_them_go_on_when_space_returns() {
    let full = DiskErrorKind::DiskFull;
    let mut struck = every_nth(FaultKind::FailAfterPart(full), Operation::Write, 0..6);
    struck += every_nth(FaultKind::Fail(full), Operation::Write, 6..9);
    struck += every_nth(FaultKind::Fail(DiskErrorKind::Quota), Operation::CreateNew, 9..12);
    struck += every_nth(FaultKind::Fail(full), Operation::SetLen, 12..14);
    struck += every_nth(FaultKind::FailAfterPart(full), Operation::Write, CUTTING..CUTTING + 3);
    struck += every_nth(FaultKind::Fail(full), Operation::SetLen, CUTTING + 3..CUTTING + 5);
    struck += every_nth(FaultKind::Fail(full), Operation::CreateNew, CUTTING + 5..CUTTING + 8);
    println!("{struck} runs on a full disk");
}

#[test]
fn failing_writes_are_errors_and_the_log_goes_on() {
    let mut struck = every_nth(FaultKind::FailAfterPart(DiskErrorKind::Io), Operation::Write, 20..23);
    struck += every_nth(FaultKind::ZeroTransfer, Operation::Write, 23..25);
    struck += every_nth(FaultKind::Fail(DiskErrorKind::TooManyOpen), Operation::CreateNew, 25..27);
    struck += every_nth(FaultKind::Fail(DiskErrorKind::Io), Operation::Remove, 27..29);
    struck += every_nth(FaultKind::Fail(DiskErrorKind::Io), Operation::Remove, CUTTING..CUTTING + 6);
    struck += every_nth(FaultKind::FailAfterPart(DiskErrorKind::Io), Operation::Write, CUTTING + 6..CUTTING + 8);
    println!("{struck} runs with failing calls");
}

#[test]
fn disk_of_limited_size_fills_up_and_is_usable_again() {
    for padding in [Padding::None, Padding::Page4096] {
        let mut run = Run::new(5, LogOptions { padding, ..small(16_384) });
        run.disk.set_capacity(Some(60_000));
        run.open().unwrap();
        let log = run.log.take().unwrap();
        let mut written = vec![];
        let mut version = 0;
        let error = loop {
            version += 1;
            match commit(&log, version, Durability::Sync) {
                Ok(item) => written.push(item),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), &ErrorKind::DiskFull, "{error}");
        assert!(!log.is_poisoned());
        assert_eq!(commit(&log, version + 1, Durability::Sync).unwrap_err().kind(), &ErrorKind::DiskFull);
        run.disk.set_capacity(None);
        written.push(commit(&log, version, Durability::Sync).unwrap());
        log.close().unwrap();
        run.disk.set_capacity(Some(10));
        let read_only = open_as(&run.shared_disk(), &run.options, true).unwrap();
        assert_eq!(read_only.items, written, "a full disk can be read");
        assert_eq!(open(&run.shared_disk(), &run.options).unwrap_err().kind(), &ErrorKind::DiskFull);
        run.disk.set_capacity(None);
        assert_eq!(open(&run.shared_disk(), &run.options).unwrap().items, written);
    }
}

#[test]
fn failing_read_fails_the_open_and_changes_nothing() {
    let mut run = Run::new(3, options(3));
    run.play(60).unwrap();
    run.log.take().unwrap().sync().unwrap();
    let whole = run.disk.duplicate();
    let mut failed = 0;
    for operation in [Operation::Read, Operation::Open, Operation::List, Operation::Length] {
        for nth in 0.. {
            let disk = whole.duplicate();
            let fault = disk.inject(Fault::new(FaultKind::Fail(DiskErrorKind::Io), When::Nth(nth)).on(operation));
            let shared: std::sync::Arc<dyn Disk> = std::sync::Arc::new(disk.clone());
            let result = open(&shared, &run.options);
            if disk.fault_count(fault) == 0 {
                break;
            }
            failed += 1;
            match result {
                // Looking at a file to give back its unused end may fail without harm.
                Ok(opened) => {
                    assert_eq!(operation, Operation::Open);
                    run.knowledge.check(&opened.items, run.knowledge.groups.len()).unwrap();
                }
                Err(error) => assert_eq!(error.kind(), &ErrorKind::Io),
            }
            let reopened = open(&shared, &run.options).unwrap();
            run.knowledge.check(&reopened.items, run.knowledge.groups.len()).unwrap();
        }
    }
    assert!(failed > 10, "{failed}");
}

#[test]
fn short_transfers_and_interruptions_change_nothing() {
    for kind in [FaultKind::ShortTransfer, FaultKind::SingleByte, FaultKind::Fail(DiskErrorKind::Interrupted)] {
        for seed in 40..43 {
            let chance = if kind == FaultKind::ShortTransfer { 500 } else { 100 };
            let mut run = Run::new(seed, options(seed));
            for operation in [Operation::Read, Operation::Write] {
                run.disk.inject(Fault::new(kind, When::PerMille { chance, seed }).on(operation));
            }
            run.play(60).unwrap();
            run.sync().unwrap();
            run.log = None;
            run.open().unwrap();
            assert_eq!(run.knowledge.groups.len(), run.knowledge.durable);
        }
    }
}

#[test]
fn reader_reports_a_failing_read_and_goes_on_after_it() {
    let mut run = Run::new(1, small(8192));
    run.open().unwrap();
    let log = run.log.as_ref().unwrap();
    for version in 1..40 {
        commit(log, version, Durability::Buffered).unwrap();
    }
    let mut reader = log.reader(thermocline_tier::Version(0)).unwrap();
    let chance = When::PerMille { chance: 300, seed: 1 };
    run.disk.inject(Fault::new(FaultKind::Fail(DiskErrorKind::Io), chance).on(Operation::Read));
    run.disk.inject(Fault::new(FaultKind::FlipInFlight, chance).on(Operation::Read));
    let (mut version, mut errors) = (0, 0);
    while version < 39 {
        match reader.next_commit(thermocline_tier::Version::MAX) {
            Ok(Some(commit)) => {
                version += 1;
                assert_eq!(commit.version.0, version);
                assert_eq!(commit.changes.len(), batch(version).len());
            }
            Ok(None) => panic!("ended at {version}"),
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::Io | ErrorKind::Corruption), "{error}");
                errors += 1;
                assert!(errors < 1000);
            }
        }
    }
}

/// Whether the trace has a write of records, or a cut, in a sector with records that were synced before.
fn touches_synced_sector(trace: &[TraceEntry], padding: Padding) -> Option<TraceEntry> {
    // Where the records of a file end, and up to where they were synced.
    let mut files: BTreeMap<FileId, (u64, u64)> = BTreeMap::new();
    for entry in trace {
        let Some(file) = entry.file.filter(|file| matches!(file, FileId::Wal(_))) else { continue };
        let (end, synced) = files.entry(file).or_default();
        let is_of_records = matches!(entry.reason, Some(Reason::WalAppend | Reason::WalRecover));
        match entry.operation {
            Operation::CreateNew => (*end, *synced) = (0, 0),
            Operation::Write if is_of_records && entry.offset < padding.round_up(*synced) => return Some(*entry),
            Operation::Write if is_of_records => *end = (*end).max(entry.offset + entry.len),
            Operation::SetLen if !is_of_records && entry.offset < padding.round_up(*synced) => return Some(*entry),
            Operation::SyncData if entry.succeeded => *synced = *end,
            _ => {}
        }
    }
    None
}

#[test]
fn no_sector_with_durable_records_is_written_again_whatever_fails() {
    let full = FaultKind::Fail(DiskErrorKind::DiskFull);
    for seed in (0..8).chain(CUTTING..CUTTING + 24) {
        for (operation, chance) in [(Operation::CreateNew, 0), (Operation::CreateNew, 600), (Operation::Write, 100)] {
            let padding = [Padding::Sector512, Padding::Page4096][(seed % 2) as usize];
            let mut run = Run::new(seed, LogOptions { padding, ..options(seed) });
            run.open().unwrap();
            run.disk.inject(Fault::new(full, When::PerMille { chance, seed }).on(operation));
            let mut refused = 0;
            for _ in 0..150 {
                assert!(run.step_through(&mut refused));
            }
            let touched = touches_synced_sector(&run.disk.trace(), padding);
            assert_eq!(touched, None, "seed {seed}, {operation}, {chance}");
        }
    }
}

#[test]
fn nothing_is_written_to_a_segment_after_a_write_to_it_has_failed() {
    let mut run = Run::new(1, small(65_536));
    run.open().unwrap();
    let log = run.log.as_ref().unwrap();
    commit(log, 1, Durability::Sync).unwrap();
    let full = Fault::new(FaultKind::FailAfterPart(DiskErrorKind::DiskFull), When::Nth(0)).on(Operation::Write);
    run.disk.inject(full.reason(Reason::WalAppend));
    let before = log.stats().rotations;
    assert_eq!(commit(log, 2, Durability::Buffered).unwrap_err().kind(), &ErrorKind::DiskFull);
    let traced = run.disk.trace().len();
    for version in 2..6 {
        commit(log, version, Durability::Sync).unwrap();
    }
    assert_eq!(log.stats().rotations, before + 1);
    let trace = run.disk.trace();
    let failed = trace[..traced].iter().rfind(|entry| entry.operation == Operation::Write).unwrap().file;
    let later = trace[traced..].iter().filter(|entry| entry.operation == Operation::Write && entry.file == failed).count();
    assert_eq!(later, 0);
    // The one sync makes durable what the next segment's header states.
    let next_header = trace[traced..].iter().position(|entry| entry.operation == Operation::Write).unwrap();
    let synced_old =
        trace[..traced + next_header].iter().rfind(|entry| entry.operation == Operation::SyncData && entry.file == failed);
    assert!(synced_old.is_some());
}
