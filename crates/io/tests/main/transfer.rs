//! The loops over short transfers.

use rstest::rstest;
use thermocline_io::{
    DiskErrorKind, Fault, FaultKind, Operation, Reason, SimDisk, When, read_exact_at, read_up_to_at, write_all_at,
};

use crate::support::{FILE, create, read_all, write};

#[rstest]
#[case(FaultKind::SingleByte)]
#[case(FaultKind::ShortTransfer)]
fn short_transfers_are_continued(#[case] kind: FaultKind) {
    let disk = SimDisk::new(3);
    let fault = disk.inject(Fault::new(kind, When::From(0)));
    let file = create(&disk, FILE);
    let bytes: Vec<u8> = (0..200).collect();
    write_all_at(&*file, 10, &bytes, Reason::WalAppend).unwrap();
    let mut found = [0; 200];
    read_exact_at(&*file, 10, &mut found, Reason::Verify).unwrap();
    assert_eq!(found[..], bytes);
    assert!(disk.fault_count(fault) > 4);
}

#[test]
fn interruptions_are_retried() {
    let disk = SimDisk::new(3);
    let file = create(&disk, FILE);
    disk.inject(Fault::new(FaultKind::Fail(DiskErrorKind::Interrupted), When::PerMille { chance: 700, seed: 5 }));
    disk.inject(Fault::new(FaultKind::SingleByte, When::From(0)));
    write_all_at(&*file, 0, &[5; 100], Reason::WalAppend).unwrap();
    let mut found = [0; 100];
    read_exact_at(&*file, 0, &mut found, Reason::Verify).unwrap();
    assert_eq!(found, [5; 100]);
}

#[test]
fn endless_interruptions_end() {
    let disk = SimDisk::new(3);
    let file = create(&disk, FILE);
    disk.inject(Fault::new(FaultKind::Fail(DiskErrorKind::Interrupted), When::From(0)));
    assert_eq!(write_all_at(&*file, 0, b"x", Reason::WalAppend).unwrap_err().kind(), DiskErrorKind::Interrupted);
    assert_eq!(read_up_to_at(&*file, 0, &mut [0], Reason::Verify).unwrap_err().kind(), DiskErrorKind::Interrupted);
}

#[test]
fn a_write_that_moves_nothing_is_an_error() {
    let disk = SimDisk::new(3);
    let file = create(&disk, FILE);
    disk.inject(Fault::new(FaultKind::SingleByte, When::Nth(0)).on(Operation::Write));
    disk.inject(Fault::new(FaultKind::ZeroTransfer, When::From(1)).on(Operation::Write));
    let error = write_all_at(&*file, 100, b"abc", Reason::WalAppend).unwrap_err();
    assert_eq!((error.kind(), error.file(), error.offset()), (DiskErrorKind::WriteZero, Some(FILE), Some(101)));
}

#[test]
fn a_file_that_ends_too_early_is_an_error_that_names_the_place() {
    let disk = SimDisk::new(3);
    let file = create(&disk, FILE);
    write(&*file, 0, b"abcdef");
    let error = read_exact_at(&*file, 4, &mut [0; 10], Reason::WalRecover).unwrap_err();
    assert_eq!((error.kind(), error.offset(), error.reason()), (DiskErrorKind::UnexpectedEnd, Some(6), Some(Reason::WalRecover)));
    assert_eq!(
        error.to_string(),
        "cannot read wal-0000000000000001 at offset 6 to read the log back: the file ends too early: 10 bytes were asked for from offset 4 on"
    );
    assert_eq!(read_up_to_at(&*file, 4, &mut [0; 10], Reason::WalRecover).unwrap(), 2);
    read_exact_at(&*file, 6, &mut [], Reason::WalRecover).unwrap();
    assert_eq!(read_all(&*file), b"abcdef");
}

#[rstest]
#[case(u64::MAX)]
#[case(i64::MAX as u64)]
fn offsets_beyond_what_files_have_are_refused(#[case] offset: u64) {
    let disk = SimDisk::new(3);
    let file = create(&disk, FILE);
    assert_eq!(write_all_at(&*file, offset, b"ab", Reason::WalAppend).unwrap_err().kind(), DiskErrorKind::InvalidRange);
    assert_eq!(read_up_to_at(&*file, offset, &mut [0; 2], Reason::Verify).unwrap_err().kind(), DiskErrorKind::InvalidRange);
}
