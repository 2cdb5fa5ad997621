//! Damage done by tests directly, and the trace.

use thermocline_io::{
    Access, CrashPoint, CrashProfile, DirEntry, Disk, DiskErrorKind, FileId, LockMode, Operation, Reason, SimDisk, Survival,
};

use crate::support::{FILE, OTHER, create, create_durable, durable_only, read_all, write};

#[test]
fn damage_is_durable_and_seen_by_open_handles() {
    let disk = SimDisk::new(1);
    let file = create_durable(&disk, FILE, b"text");
    assert!(disk.flip_bit(FILE, 8) && !disk.flip_bit(FILE, 32) && !disk.flip_bit(OTHER, 0));
    assert_eq!(read_all(&*file), b"tdxt");
    assert!(disk.truncate_file(FILE, 2) && !disk.truncate_file(OTHER, 2));
    assert_eq!(read_all(&*file), b"td");
    assert!(disk.truncate_file(FILE, 3));
    assert_eq!(durable_only(&disk).file_bytes(FILE).unwrap(), b"td\0");
    disk.replace_file(FILE, b"replaced");
    disk.replace_file(OTHER, b"new");
    assert_eq!(durable_only(&disk).files(), [(FILE, 8), (OTHER, 3)]);
    disk.swap_files(FILE, OTHER);
    assert_eq!(durable_only(&disk).file_bytes(FILE).unwrap(), b"new");
    assert!(disk.delete_file(FILE) && !disk.delete_file(FILE));
    assert_eq!(durable_only(&disk).files(), [(OTHER, 8)]);
}

#[test]
fn replacing_a_file_makes_its_name_durable() {
    let disk = SimDisk::new(1);
    create(&disk, FILE);
    disk.replace_file(FILE, b"x");
    assert_eq!(durable_only(&disk).files(), [(FILE, 1)]);
}

#[test]
fn foreign_and_irregular_names_stay_and_are_refused() {
    let disk = SimDisk::new(1);
    create_durable(&disk, FILE, b"text");
    assert!(disk.add_foreign("notes.txt") && !disk.add_foreign("wal-0000000000000005"));
    disk.add_irregular(FILE);
    disk.add_irregular(FileId::Lock);
    let disk = disk.crash_image(CrashPoint::before(disk.operations()), CrashProfile::new(Survival::None), 0);
    let listed = disk.list(Reason::Open).unwrap();
    for entry in [DirEntry::Foreign("notes.txt".to_owned()), DirEntry::File(FILE, 0), DirEntry::File(FileId::Lock, 0)] {
        assert!(listed.contains(&entry), "{listed:?}");
    }
    assert_eq!(listed.len(), 3);
    assert_eq!(disk.open(FILE, Access::Read, Reason::Open).unwrap_err().kind(), DiskErrorKind::NotRegular);
    assert_eq!(disk.remove(FILE, Reason::WalRemove).unwrap_err().kind(), DiskErrorKind::NotRegular);
    assert_eq!(disk.create_new(FILE, Reason::WalPrepare).unwrap_err().kind(), DiskErrorKind::AlreadyExists);
    assert_eq!(disk.try_lock(LockMode::Exclusive).unwrap_err().kind(), DiskErrorKind::NotRegular);
}

#[test]
fn the_list_is_shuffled_by_the_seed() {
    let lists = |seed| {
        let disk = SimDisk::new(seed);
        (0..6).for_each(|number| drop(create(&disk, FileId::Sst(number))));
        (0..4).map(|_| disk.list(Reason::Open).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(lists(1), lists(1));
    assert_ne!(lists(1), lists(2));
    assert!(lists(1).windows(2).any(|pair| pair[0] != pair[1]));
}

#[test]
fn the_trace_tells_what_was_done_for_what() {
    let disk = SimDisk::new(1);
    let file = create_durable(&disk, FILE, &[1; 10]);
    read_all(&*file);
    write(&*file, 10, &[2; 5]);
    disk.remove(FILE, Reason::WalRemove).unwrap();
    let trace: Vec<_> =
        disk.trace().iter().map(|entry| (entry.operation, entry.file, entry.reason, entry.offset, entry.len)).collect();
    let expected = [
        (Operation::CreateNew, Some(FILE), Some(Reason::WalPrepare), 0, 0),
        (Operation::Write, Some(FILE), Some(Reason::WalAppend), 0, 10),
        (Operation::SyncData, Some(FILE), Some(Reason::WalSync), 0, 0),
        (Operation::SyncDir, None, Some(Reason::WalSync), 0, 0),
        (Operation::Write, Some(FILE), Some(Reason::WalAppend), 10, 5),
        (Operation::Remove, Some(FILE), Some(Reason::WalRemove), 0, 0),
    ];
    assert_eq!(trace, expected);
    assert!(disk.trace().iter().all(|entry| entry.succeeded));
}
