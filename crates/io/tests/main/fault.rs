//! Faults other than failed syncs, each kind and each restriction.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rstest::rstest;
use thermocline_io::{
    Access, Disk, DiskErrorKind, Fault, FaultKind, FileClass, FileId, LockMode, Misdirection, Operation, Reason, SimDisk, When,
    write_all_at,
};

use crate::support::{FILE, OTHER, create, create_durable, durable_only, read_all, write};

#[rstest]
#[case(DiskErrorKind::Io)]
#[case(DiskErrorKind::DiskFull)]
#[case(DiskErrorKind::Quota)]
#[case(DiskErrorKind::TooManyOpen)]
#[case(DiskErrorKind::Denied)]
#[case(DiskErrorKind::ReadOnly)]
#[case(DiskErrorKind::NotFound)]
fn every_call_can_fail_once_without_effect(#[case] kind: DiskErrorKind) {
    let disk = SimDisk::new(1);
    let file = create_durable(&disk, FILE, b"text");
    let operations = disk.operations();
    let calls: [&dyn Fn() -> Option<DiskErrorKind>; 10] = [
        &|| disk.create_new(OTHER, Reason::WalPrepare).err().map(|error| error.kind()),
        &|| disk.open(FILE, Access::Read, Reason::Open).err().map(|error| error.kind()),
        &|| disk.list(Reason::Open).err().map(|error| error.kind()),
        &|| disk.try_lock(LockMode::Exclusive).err().map(|error| error.kind()),
        &|| disk.space().err().map(|error| error.kind()),
        &|| file.read_at(0, &mut [0], Reason::Verify).err().map(|error| error.kind()),
        &|| file.write_at(0, &[0], Reason::WalAppend).err().map(|error| error.kind()),
        &|| file.len().err().map(|error| error.kind()),
        &|| file.allocate(0, 10, Reason::WalPrepare).err().map(|error| error.kind()),
        &|| file.set_len(2, Reason::WalPrepare).err().map(|error| error.kind()),
    ];
    for call in calls {
        let fault = disk.inject(Fault::new(FaultKind::Fail(kind), When::Nth(0)));
        assert_eq!(call(), Some(kind));
        assert_eq!((disk.fault_count(fault), disk.operations()), (1, operations));
    }
    assert_eq!(read_all(&*file), b"text");
    for call in calls {
        assert_eq!(call(), None, "a fault of one call must not strike twice");
    }
    disk.inject(Fault::new(FaultKind::Fail(kind), When::Nth(0)));
    assert_eq!(disk.remove(FILE, Reason::WalRemove).unwrap_err().kind(), kind);
    disk.remove(FILE, Reason::WalRemove).unwrap();
}

#[test]
fn a_fault_counts_only_the_calls_that_it_is_restricted_to() {
    let disk = SimDisk::new(1);
    let (wal, sst) = (create(&disk, FILE), create(&disk, OTHER));
    let plain = |when| Fault::new(FaultKind::Fail(DiskErrorKind::Io), when);
    let faults = [
        disk.inject(plain(When::Nth(1)).on(Operation::Write).class(FileClass::Wal)),
        disk.inject(plain(When::From(0)).file(OTHER).reason(Reason::Verify)),
        disk.inject(plain(When::From(0)).on(Operation::Read).class(FileClass::Wal).range(100..200)),
    ];
    let counts = || faults.map(|fault| disk.fault_count(fault));
    for (offset, fails) in [(0, false), (1, true), (2, false)] {
        assert!(sst.write_at(offset, &[1], Reason::WalAppend).is_ok());
        assert_eq!(wal.write_at(offset, &[1], Reason::WalAppend).is_err(), fails);
    }
    assert_eq!(counts(), [1, 0, 0]);
    assert!(sst.read_at(0, &mut [0], Reason::WalRead).is_ok() && sst.read_at(0, &mut [0], Reason::Verify).is_err());
    assert_eq!(counts(), [1, 1, 0]);
    assert!(wal.read_at(0, &mut [0; 100], Reason::Verify).is_ok() && wal.read_at(200, &mut [0; 8], Reason::Verify).is_ok());
    assert!(wal.read_at(0, &mut [0; 101], Reason::Verify).is_err() && wal.read_at(199, &mut [0; 8], Reason::Verify).is_err());
    assert_eq!(counts(), [1, 1, 2]);
    disk.clear_faults();
    assert!(sst.read_at(0, &mut [0], Reason::Verify).is_ok());
    assert_eq!(counts(), [1, 1, 2]);
}

#[test]
fn chances_follow_from_their_seed() {
    let run = |seed| {
        let disk = SimDisk::new(1);
        let file = create(&disk, FILE);
        disk.inject(Fault::new(FaultKind::Fail(DiskErrorKind::Io), When::PerMille { chance: 300, seed }));
        (0..200).map(|_| file.len().is_err()).collect::<Vec<_>>()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
    let failed = run(1).into_iter().filter(|failed| *failed).count();
    assert!((30..90).contains(&failed), "{failed}");
}

#[test]
fn a_disk_fills_up_in_the_middle_of_a_write_and_goes_on_when_space_returns() {
    let disk = SimDisk::new(1);
    let file = create(&disk, FILE);
    disk.set_capacity(Some(100));
    write(&*file, 0, &[1; 80]);
    let error = write_all_at(&*file, 80, &[2; 40], Reason::WalAppend).unwrap_err();
    assert_eq!((error.kind(), error.offset(), file.len().unwrap()), (DiskErrorKind::DiskFull, Some(100), 100));
    assert_eq!(disk.space().unwrap().available_bytes, 0);
    write(&*file, 0, &[3; 100]);
    assert_eq!(file.allocate(0, 101, Reason::WalPrepare).unwrap_err().kind(), DiskErrorKind::DiskFull);
    assert_eq!(file.set_len(101, Reason::WalPrepare).unwrap_err().kind(), DiskErrorKind::DiskFull);
    assert_eq!(create(&disk, OTHER).write_at(0, &[1], Reason::WalAppend).unwrap_err().kind(), DiskErrorKind::DiskFull);
    disk.set_capacity(Some(120));
    write(&*file, 80, &[2; 40]);
    assert_eq!(file.len().unwrap(), 120);
    disk.remove(FILE, Reason::WalRemove).unwrap();
    assert_eq!(disk.space().unwrap().available_bytes, 120);
}

#[test]
fn a_failure_after_part_of_a_write_shows_at_the_next_write() {
    let disk = SimDisk::new(1);
    let file = create(&disk, FILE);
    disk.inject(Fault::new(FaultKind::FailAfterPart(DiskErrorKind::Quota), When::Nth(0)));
    let error = write_all_at(&*file, 0, &[1; 10], Reason::WalAppend).unwrap_err();
    assert_eq!((error.kind(), error.offset(), file.len().unwrap()), (DiskErrorKind::Quota, Some(5), 5));
    write(&*file, 5, &[1; 5]);
    disk.inject(Fault::new(FaultKind::FailAfterPart(DiskErrorKind::Quota), When::Nth(0)));
    assert_eq!(file.write_at(10, &[1], Reason::WalAppend).unwrap_err().kind(), DiskErrorKind::Quota);
    assert_eq!(file.len().unwrap(), 10);
}

fn differing_bits(a: &[u8], b: &[u8]) -> u32 {
    a.iter().zip(b).map(|(a, b)| (a ^ b).count_ones()).sum()
}

#[test]
fn a_bit_that_flips_in_flight_is_right_the_second_time() {
    let disk = SimDisk::new(1);
    let file = create_durable(&disk, FILE, &[0; 64]);
    disk.inject(Fault::new(FaultKind::FlipInFlight, When::Nth(0)));
    let mut found = [0; 64];
    file.read_at(0, &mut found, Reason::Verify).unwrap();
    assert_eq!(differing_bits(&found, &[0; 64]), 1);
    assert_eq!(read_all(&*file), [0; 64]);
}

#[rstest]
#[case(Operation::Read)]
#[case(Operation::Write)]
fn a_bit_that_flips_at_rest_stays_flipped(#[case] operation: Operation) {
    let disk = SimDisk::new(1);
    let file = create_durable(&disk, FILE, &[0; 64]);
    disk.inject(Fault::new(FaultKind::FlipAtRest, When::Nth(0)).on(operation));
    let mut found = [0; 32];
    file.write_at(0, &[0; 32], Reason::WalAppend).unwrap();
    file.read_at(0, &mut found, Reason::Verify).unwrap();
    file.sync_data(Reason::WalSync).unwrap();
    assert_eq!(differing_bits(&found, &[0; 32]), 1);
    assert_eq!(differing_bits(&durable_only(&disk).file_bytes(FILE).unwrap(), &[0; 64]), 1);
}

#[test]
fn a_lost_write_claims_success() {
    let disk = SimDisk::new(1);
    let file = create_durable(&disk, FILE, &[1; 100]);
    disk.inject(Fault::new(FaultKind::LoseWrite, When::Nth(0)));
    write(&*file, 50, &[2; 100]);
    file.sync_data(Reason::WalSync).unwrap();
    let mut expected = [0; 150];
    expected[..100].fill(1);
    assert_eq!(durable_only(&disk).file_bytes(FILE).unwrap(), expected);
}

#[rstest]
#[case(Misdirection::SameFile, FILE)]
#[case(Misdirection::OtherFile, OTHER)]
fn a_misdirected_write_lands_elsewhere(#[case] misdirection: Misdirection, #[case] target: FileId) {
    for seed in 0..20 {
        let disk = SimDisk::new(seed);
        let file = create_durable(&disk, FILE, &[0; 2_048]);
        create_durable(&disk, OTHER, &[0; 2_048]);
        disk.inject(Fault::new(FaultKind::MisdirectWrite(misdirection), When::Nth(0)));
        write(&*file, 512, &[9; 256]);
        let untouched = if target == FILE { OTHER } else { FILE };
        assert_eq!(disk.file_bytes(untouched).unwrap(), [0; 2_048]);
        let found = disk.file_bytes(target).unwrap();
        let places: Vec<usize> = (0..4).map(|sector| sector * 512).filter(|at| found[*at..*at + 256] == [9; 256]).collect();
        assert_eq!((places.len(), found.iter().map(|byte| usize::from(*byte)).sum()), (1, 256 * 9));
        assert!(target == OTHER || places[0] != 512);
    }
}

#[test]
fn misdirected_and_stale_reads_are_wrong_once() {
    let disk = SimDisk::new(1);
    let mut bytes = [1; 1_024];
    bytes[512..].fill(2);
    let file = create_durable(&disk, FILE, &bytes);
    let mut found = [0; 4];
    disk.inject(Fault::new(FaultKind::MisdirectRead, When::Nth(0)));
    file.read_at(0, &mut found, Reason::Verify).unwrap();
    assert_eq!(found, [2; 4]);
    write(&*file, 0, &[3; 4]);
    disk.inject(Fault::new(FaultKind::StaleRead, When::Nth(0)));
    file.read_at(0, &mut found, Reason::Verify).unwrap();
    assert_eq!(found, [1; 4]);
    file.read_at(0, &mut found, Reason::Verify).unwrap();
    assert_eq!(found, [3; 4]);
}

#[test]
fn an_observer_sees_every_call_and_may_use_the_disk_or_panic() {
    let disk = SimDisk::new(1);
    let stop = Arc::new(AtomicBool::new(false));
    let (inner, stopped) = (disk.clone(), Arc::clone(&stop));
    disk.observe(move |call| {
        assert!(inner.operations() < 100);
        assert!(!(stopped.load(Ordering::Relaxed) && call.operation == Operation::Write), "stop here");
    });
    let file = create(&disk, FILE);
    write(&*file, 0, b"before");
    stop.store(true, Ordering::Relaxed);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| file.write_at(0, b"AFTER", Reason::WalAppend)));
    assert!(panicked.is_err());
    assert_eq!(disk.file_bytes(FILE).unwrap(), b"before");
}

#[test]
fn a_stray_offset_takes_no_memory() {
    let disk = SimDisk::new(1);
    let file = create(&disk, FILE);
    assert_eq!(file.write_at(1 << 50, &[1], Reason::WalAppend).unwrap_err().kind(), DiskErrorKind::Quota);
    assert_eq!(file.set_len(1 << 50, Reason::WalPrepare).unwrap_err().kind(), DiskErrorKind::Quota);
}
