//! Failed and lying syncs: what readers see, what a restart finds, what a power cut leaves.

use rstest::rstest;
use thermocline_io::{Disk, DiskErrorKind, Fault, FaultKind, FileId, Operation, Reason, SimDisk, SyncCache, When};

use crate::support::{FILE, create, create_durable, durable_only, write};

fn failing(cache: SyncCache) -> Fault {
    Fault::new(FaultKind::FailSync { cause: DiskErrorKind::Io, cache }, When::Nth(0))
}

#[rstest]
#[case(SyncCache::Kept, b"new")]
#[case(SyncCache::Dropped, b"old")]
fn after_a_failed_sync_the_next_one_lies(#[case] cache: SyncCache, #[case] visible: &[u8]) {
    let disk = SimDisk::new(1);
    let file = create_durable(&disk, FILE, b"old");
    disk.inject(failing(cache).on(Operation::SyncData));
    write(&*file, 0, b"new");
    let failed = file.sync_data(Reason::WalSync).unwrap_err();
    assert_eq!((failed.cause(), failed.file(), failed.reason()), (DiskErrorKind::Io, Some(FILE), Some(Reason::WalSync)));
    assert!(!disk.trace().last().unwrap().succeeded);
    assert_eq!(disk.file_bytes(FILE).unwrap(), visible);
    file.sync_data(Reason::WalSync).unwrap();
    assert_eq!(durable_only(&disk).file_bytes(FILE).unwrap(), b"old", "the second sync must not have helped");
    let restarted = disk.kill_image(thermocline_io::CrashPoint::before(disk.operations()), 0);
    assert_eq!(restarted.file_bytes(FILE).unwrap(), visible);
    assert_eq!(durable_only(&restarted).file_bytes(FILE).unwrap(), b"old");
}

#[test]
fn what_is_written_after_a_failed_sync_is_synced_and_leaves_a_hole() {
    let disk = SimDisk::new(1);
    let file = create_durable(&disk, FILE, &[1; 512]);
    disk.inject(failing(SyncCache::Kept).on(Operation::SyncData));
    write(&*file, 512, &[2; 1_024]);
    file.sync_data(Reason::WalSync).unwrap_err();
    write(&*file, 1_536, &[3; 512]);
    file.sync_data(Reason::WalSync).unwrap();
    let live = disk.file_bytes(FILE).unwrap();
    assert!(live[512..1_536].iter().all(|byte| *byte == 2));
    let bytes = durable_only(&disk).file_bytes(FILE).unwrap();
    assert_eq!(bytes.len(), 2_048);
    assert!(bytes[..512].iter().all(|byte| *byte == 1) && bytes[1_536..].iter().all(|byte| *byte == 3));
    assert!(bytes[512..1_536].iter().all(|byte| *byte == 0), "lost data must not come back");
}

#[test]
fn touching_a_lost_sector_again_saves_it() {
    let disk = SimDisk::new(1);
    let file = create_durable(&disk, FILE, &[1; 1_024]);
    disk.inject(failing(SyncCache::Kept).on(Operation::SyncData));
    write(&*file, 0, &[2; 1_024]);
    file.sync_data(Reason::WalSync).unwrap_err();
    write(&*file, 10, &[3; 10]);
    file.sync_data(Reason::WalSync).unwrap();
    let bytes = durable_only(&disk).file_bytes(FILE).unwrap();
    assert_eq!((bytes[0], bytes[10], bytes[511], bytes[512]), (2, 3, 2, 1));
}

#[rstest]
#[case(SyncCache::Kept, true)]
#[case(SyncCache::Dropped, false)]
fn a_failed_sync_of_the_directory_loses_names(#[case] cache: SyncCache, #[case] visible: bool) {
    let disk = SimDisk::new(1);
    disk.inject(failing(cache).on(Operation::SyncDir));
    create(&disk, FILE);
    let failed = disk.sync_dir(Reason::WalPrepare).unwrap_err();
    assert_eq!((failed.cause(), failed.file()), (DiskErrorKind::Io, None));
    assert_eq!(disk.file_bytes(FILE).is_some(), visible);
    disk.sync_dir(Reason::WalPrepare).unwrap();
    assert!(durable_only(&disk).files().is_empty());
    create(&disk, FileId::Wal(9));
    disk.sync_dir(Reason::WalPrepare).unwrap();
    assert_eq!(durable_only(&disk).files(), [(FileId::Wal(9), 0)]);
}

#[test]
fn a_sync_that_lies_leaves_everything_pending() {
    let disk = SimDisk::new(1);
    let file = create_durable(&disk, FILE, b"old");
    let fault = disk.inject(Fault::new(FaultKind::LieAboutSync, When::Nth(0)).on(Operation::SyncData));
    write(&*file, 0, b"new");
    file.sync_data(Reason::WalSync).unwrap();
    assert_eq!(disk.fault_count(fault), 1);
    assert_eq!(durable_only(&disk).file_bytes(FILE).unwrap(), b"old");
    file.sync_data(Reason::WalSync).unwrap();
    assert_eq!(durable_only(&disk).file_bytes(FILE).unwrap(), b"new");
}

#[test]
fn a_plain_failure_of_a_sync_is_a_sync_failure() {
    let disk = SimDisk::new(1);
    let file = create_durable(&disk, FILE, b"old");
    disk.inject(Fault::new(FaultKind::Fail(DiskErrorKind::DiskFull), When::From(0)).reason(Reason::WalSync));
    write(&*file, 0, b"new");
    let failed = file.sync_data(Reason::WalSync).unwrap_err();
    assert!(failed.cause().is_space());
    assert_eq!(
        failed.to_string(),
        "simulated disk: sync of wal-0000000000000001 to make the log durable failed, it is not known what is durable: no space is left on the device: injected"
    );
    assert_eq!(
        disk.sync_dir(Reason::WalSync).unwrap_err().to_string(),
        "simulated disk: sync of the directory to make the log durable failed, it is not known what is durable: no space is left on the device: injected"
    );
}
