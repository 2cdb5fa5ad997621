//! Failing syncs, full disks, failing reads and writes, short transfers: at the n-th call, for every n.

use std::error::Error as _;

use thermocline_io::{
    CrashPoint, CrashProfile, DiskErrorKind, Fault, FaultKind, FileId, Operation, SimDisk, Survival, SyncCache, When,
};
use thermocline_tier::{Error, ErrorKind};

use super::support::{Knowledge, Random, Run, manifests, open, random_edit, read_only};
use crate::manifest::State;

const STEPS: usize = 25;

/// Opens what a run left behind, checks it, cuts the power when that is done, and checks that nothing was lost.
fn check_restart(disk: &SimDisk, knowledge: &Knowledge, what: &str) {
    let found = open(disk).unwrap_or_else(|error| panic!("{what}: {error}")).map(|(_, state)| state);
    knowledge.check(found.as_ref()).unwrap_or_else(|why| panic!("{what}: {why}"));
    let cut = disk.crash_image(CrashPoint::before(disk.operations()), CrashProfile::new(Survival::None), 1);
    let again = open(&cut).unwrap_or_else(|error| panic!("{what}, then a power cut: {error}")).map(|(_, state)| state);
    assert!(found == again, "{what}, then a power cut: another state");
    assert!(manifests(disk).len() <= 1 && manifests(&cut).len() <= 1, "{what}: files are left over");
}

/// A poisoned manifest says why, goes on reading, and touches no file any more.
fn check_poisoned(run: &mut Run, cause: &ErrorKind, what: &str) {
    let known = run.knowledge.known.clone().unwrap();
    let (edit, after) = random_edit(&mut Random(9), &known);
    let operations = run.disk.operations();
    let manifest = run.manifest.as_mut().unwrap();
    for _ in 0..2 {
        let error = manifest.commit(&edit, &after).unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Poisoned, "{what}");
        let source = error.source().and_then(|source| source.downcast_ref::<Error>()).map(Error::kind);
        assert_eq!(source, Some(cause), "{what}");
    }
    manifest.verify().unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(run.disk.operations(), operations, "{what}: a poisoned manifest writes");
}

/// Runs until the n-th sync fails. `None` if there are not so many.
fn run_to_failing_sync(seed: u64, operation: Operation, nth: u64, cause: DiskErrorKind, cache: SyncCache) -> Option<Run> {
    let mut run = Run::new(seed);
    let fault = run.disk.inject(Fault::new(FaultKind::FailSync { cause, cache }, When::Nth(nth)).on(operation));
    let kind = if cause.is_space() { ErrorKind::DiskFull } else { ErrorKind::Io };
    let what = format!("seed {seed}, {operation} {nth} failed, {cache:?}");
    let mut is_open = run.open().is_ok();
    for _ in 0..STEPS {
        if run.disk.fault_count(fault) > 0 || !is_open {
            break;
        }
        is_open = run.step().is_ok();
    }
    if run.disk.fault_count(fault) == 0 {
        return None;
    }
    if run.manifest.is_some() {
        check_poisoned(&mut run, &kind, &what);
    }
    run.manifest = None;
    Some(run)
}

fn failing_syncs(operation: Operation, cause: DiskErrorKind, seed: u64) -> u64 {
    let mut failures = 0;
    for cache in [SyncCache::Kept, SyncCache::Dropped] {
        for nth in 0.. {
            let Some(run) = run_to_failing_sync(seed, operation, nth, cause, cache) else { break };
            failures += 1;
            let what = format!("seed {seed}, {operation} {nth} failed, {cache:?}");
            for image in 0..4 {
                let profile = CrashProfile::numbered(nth + image);
                let cut = run.disk.crash_image(CrashPoint::before(run.disk.operations()), profile, image);
                check_restart(&cut, &run.knowledge, &format!("{what}, power cut"));
            }
            check_restart(&run.disk, &run.knowledge, &format!("{what}, restart"));
        }
    }
    failures
}

#[test]
fn no_failing_sync_loses_what_was_acknowledged() {
    let mut failures = 0;
    for seed in 0..3 {
        failures += failing_syncs(Operation::SyncData, DiskErrorKind::Io, seed);
        failures += failing_syncs(Operation::SyncDir, DiskErrorKind::Io, seed);
    }
    failures += failing_syncs(Operation::SyncData, DiskErrorKind::DiskFull, 3);
    println!("{failures} failing syncs");
    assert!(failures > 100);
}

/// Fails calls of a run, lets it go on, and checks that only what was refused is missing. Returns whether the fault struck.
fn failing_calls(seed: u64, fault: Fault, what: &str) -> bool {
    let mut run = Run::new(seed);
    run.open().unwrap();
    let fault = run.disk.inject(fault);
    for _ in 0..STEPS {
        if let Err(error) = run.step() {
            assert!(matches!(error.kind(), ErrorKind::DiskFull | ErrorKind::Io), "{what}: {error}");
        }
    }
    if run.disk.fault_count(fault) == 0 {
        return false;
    }
    run.disk.clear_faults();
    // Without opening it again, if it was open.
    for _ in 0..4 {
        let result = if run.manifest.is_some() { run.commit() } else { run.open() };
        result.unwrap_or_else(|error| panic!("{what}: still failing: {error}"));
    }
    run.manifest = None;
    let recording = run.disk.recording();
    let mut random = Random(seed);
    let mut sweep = recording.sweep();
    for operation in 0..recording.operations() {
        let cut = CrashPoint::after(operation);
        let knowledge = run.knowledge_at(recording.last_mark_before(cut));
        let image = sweep.crash_image(cut, CrashProfile::numbered(random.next()), random.next());
        let found = read_only(&image).unwrap_or_else(|error| panic!("{what}, cut after {operation}: {error}"));
        knowledge
            .check(found.as_ref().map(|(_, state)| state))
            .unwrap_or_else(|why| panic!("{what}, cut after {operation}: {why}"));
    }
    check_restart(&run.disk, &run.knowledge, what);
    true
}

fn every_nth(kind: FaultKind, operation: Operation, seeds: std::ops::Range<u64>) -> u64 {
    let mut struck = 0;
    for seed in seeds {
        for nth in 0.. {
            let once = Fault::new(kind, When::Nth(nth)).on(operation);
            if !failing_calls(seed, once, &format!("seed {seed}, {operation} {nth} once, {kind:?}")) {
                break;
            }
            let forever = Fault::new(kind, When::From(nth)).on(operation);
            failing_calls(seed, forever, &format!("seed {seed}, {operation} from {nth} on, {kind:?}"));
            struck += 2;
        }
    }
    struck
}

#[test]
fn full_disk_refuses_edits_and_lets_them_go_on_when_space_returns() {
    let full = DiskErrorKind::DiskFull;
    let mut struck = every_nth(FaultKind::FailAfterPart(full), Operation::Write, 0..2);
    struck += every_nth(FaultKind::Fail(full), Operation::Write, 3..4);
    struck += every_nth(FaultKind::Fail(DiskErrorKind::Quota), Operation::CreateNew, 0..2);
    struck += every_nth(FaultKind::Fail(full), Operation::SetLen, 0..2);
    println!("{struck} runs on a full disk");
    assert!(struck > 100);
}

#[test]
fn failing_calls_are_errors_and_the_manifest_goes_on() {
    let mut struck = every_nth(FaultKind::FailAfterPart(DiskErrorKind::Io), Operation::Write, 6..7);
    struck += every_nth(FaultKind::ZeroTransfer, Operation::Write, 7..8);
    struck += every_nth(FaultKind::Fail(DiskErrorKind::TooManyOpen), Operation::CreateNew, 3..5);
    struck += every_nth(FaultKind::Fail(DiskErrorKind::Io), Operation::Remove, 0..3);
    println!("{struck} runs with failing calls");
    assert!(struck > 50);
}

#[test]
fn disk_of_limited_size_fills_up_and_is_usable_again() {
    let mut run = Run::new(2);
    run.open().unwrap();
    run.disk.set_capacity(Some(100_000));
    let error = loop {
        if let Err(error) = run.commit() {
            break error;
        }
    };
    assert_eq!(error.kind(), &ErrorKind::DiskFull, "{error}");
    for _ in 0..3 {
        assert_eq!(run.commit().unwrap_err().kind(), &ErrorKind::DiskFull);
    }
    assert_eq!(manifests(&run.disk).len(), 1, "what could not be finished is gone");
    let known = run.knowledge.known.clone().unwrap();
    assert!(read_only(&run.disk).unwrap().unwrap().1 == known, "a full disk can be read");
    assert_eq!(open(&run.disk).unwrap_err().kind(), &ErrorKind::DiskFull);
    assert!(read_only(&run.disk.duplicate()).unwrap().unwrap().1 == known, "and an open that fails changes nothing");
    run.disk.set_capacity(None);
    run.commit().unwrap();
    run.commit().unwrap();
    check_restart(&run.disk, &run.knowledge, "space is back");
}

#[test]
fn refused_edit_stays_refused_although_its_record_was_written_but_for_the_last_byte() {
    let mut run = Run::new(2);
    run.open().unwrap();
    run.commit().unwrap();
    let before = run.disk.file_bytes(FileId::Manifest(1)).unwrap();
    run.commit().unwrap();
    let known = run.knowledge.known.clone().unwrap();
    let whole = run.disk.file_bytes(FileId::Manifest(1)).unwrap();
    run.manifest = None;
    // The edit's record and its witness: the edit's ends a page before the file does.
    let end = whole.len() - 4096;
    for len in before.len() + 1..=end {
        // The space behind may be there all the same, and hold zeros.
        for space in [len, end] {
            let mut bytes = whole[..len].to_vec();
            bytes.resize(space, 0);
            let cut = run.disk.duplicate();
            cut.replace_file(FileId::Manifest(1), &bytes);
            let found = read_only(&cut).unwrap().unwrap().1;
            assert_eq!(found == known, len == end, "{len} bytes of {space}");
        }
    }
}

#[test]
fn nothing_is_written_to_a_file_after_a_write_to_it_has_failed() {
    let mut run = Run::new(2);
    run.open().unwrap();
    run.commit().unwrap();
    let first = manifests(&run.disk);
    let full = Fault::new(FaultKind::FailAfterPart(DiskErrorKind::DiskFull), When::Nth(0)).on(Operation::Write);
    run.disk.inject(full);
    assert_eq!(run.commit().unwrap_err().kind(), &ErrorKind::DiskFull);
    assert_eq!(manifests(&run.disk), first);
    let traced = run.disk.trace().len();
    for _ in 0..3 {
        run.commit().unwrap();
    }
    assert_eq!(manifests(&run.disk), [first[0] + 1]);
    let is_old = |file: Option<FileId>| file.and_then(FileId::number) == Some(first[0]);
    let touched: Vec<_> =
        run.disk.trace()[traced..].iter().filter(|entry| is_old(entry.file)).map(|entry| entry.operation).collect();
    assert_eq!(touched, [Operation::Remove]);
}

#[test]
fn grown_manifest_that_cannot_be_written_anew_goes_on_and_tries_again_later() {
    let mut run = Run::new(0);
    run.rewrite_size_bytes_min = 100_000;
    run.open().unwrap();
    let fault = Fault::new(FaultKind::Fail(DiskErrorKind::DiskFull), When::From(0)).on(Operation::CreateNew);
    let fault = run.disk.inject(fault);
    while run.disk.files()[0].1 < 500_000 {
        run.commit().unwrap();
    }
    let tries = run.disk.fault_count(fault);
    assert!((2..=6).contains(&tries), "{tries}");
    run.disk.clear_faults();
    while manifests(&run.disk) == [1] {
        run.commit().unwrap();
    }
    assert!(run.disk.files()[0].1 < 300_000);
    check_restart(&run.disk, &run.knowledge, "written anew at last");
}

#[test]
fn failing_read_fails_the_open_and_changes_nothing() {
    let mut run = Run::new(2);
    run.play(30).unwrap();
    let known = run.knowledge.known.clone().unwrap();
    let mut failed = 0;
    for operation in [Operation::Read, Operation::Open, Operation::List, Operation::Length] {
        for nth in 0.. {
            let disk = run.disk.duplicate();
            let fault = disk.inject(Fault::new(FaultKind::Fail(DiskErrorKind::Io), When::Nth(nth)).on(operation));
            let result = open(&disk);
            if disk.fault_count(fault) == 0 {
                break;
            }
            failed += 1;
            assert_eq!(result.unwrap_err().kind(), &ErrorKind::Io);
            assert_eq!(disk.operations(), 0, "nothing was changed");
            assert!(open(&disk).unwrap().unwrap().1 == known);
        }
    }
    assert!(failed > 10, "{failed}");
}

#[test]
fn failing_read_fails_the_check_and_not_the_commits() {
    let mut run = Run::new(2);
    run.play(10).unwrap();
    for kind in [FaultKind::Fail(DiskErrorKind::Io), FaultKind::FlipInFlight] {
        run.disk.inject(Fault::new(kind, When::From(0)).on(Operation::Read));
        let error = run.manifest.as_ref().unwrap().verify().unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Io | ErrorKind::Corruption | ErrorKind::ForeignFile), "{error}");
        run.commit().unwrap();
        run.disk.clear_faults();
    }
    run.manifest.as_ref().unwrap().verify().unwrap();
}

#[test]
fn short_transfers_and_interruptions_change_nothing() {
    for kind in [FaultKind::ShortTransfer, FaultKind::SingleByte, FaultKind::Fail(DiskErrorKind::Interrupted)] {
        for seed in 40..43 {
            let mut run = Run::new(seed);
            for operation in [Operation::Read, Operation::Write] {
                run.disk.inject(Fault::new(kind, When::PerMille { chance: 100, seed }).on(operation));
            }
            run.play(40).unwrap();
            assert!(read_only(&run.disk).unwrap().unwrap().1 == run.knowledge.known.clone().unwrap());
        }
    }
}

#[test]
fn new_manifest_that_cannot_be_made_is_no_manifest() {
    for operation in [Operation::CreateNew, Operation::SetLen, Operation::Write] {
        for nth in 0..3 {
            let mut run = Run::new(nth);
            let fault = Fault::new(FaultKind::Fail(DiskErrorKind::DiskFull), When::Nth(nth)).on(operation);
            let fault = run.disk.inject(fault);
            let result = run.open();
            // The last write is the witness, which nobody needs.
            assert_eq!(result.is_err(), run.disk.fault_count(fault) > 0 && nth < 2, "{operation} {nth}");
            run.disk.clear_faults();
            run.manifest = None;
            run.open().unwrap();
            run.commit().unwrap();
            assert_eq!(run.knowledge.possible, None::<State>);
        }
    }
}
