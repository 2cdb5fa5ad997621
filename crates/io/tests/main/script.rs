//! One script over the real disk, the simulated one and the one in memory: they must answer alike.

use rstest::rstest;
use thermocline_io::{Access, DirEntry, DiskErrorKind, FileClass, FileId, Reason};

use crate::support::{Bench, FILE, OTHER, create, memory, read_all, real, simulated, write};

#[rstest]
#[case::real(real())]
#[case::simulated(simulated())]
#[case::memory(memory())]
fn a_file_holds_what_was_written(#[case] bench: Bench) {
    let file = create(&*bench.disk, FILE);
    assert_eq!((file.id(), file.len().unwrap()), (FILE, 0));
    write(&*file, 0, b"hello world");
    write(&*file, 6, b"there");
    write(&*file, 9_000, b"far");
    assert_eq!(file.len().unwrap(), 9_003);
    let mut expected = vec![0; 9_003];
    expected[..11].copy_from_slice(b"hello there");
    expected[9_000..].copy_from_slice(b"far");
    assert_eq!(read_all(&*file), expected);
    let again = bench.disk.open(FILE, Access::Read, Reason::Verify).unwrap();
    assert_eq!(read_all(&*again), expected);
    file.sync_data(Reason::WalSync).unwrap();
    bench.disk.sync_dir(Reason::WalSync).unwrap();
}

#[rstest]
#[case::real(real())]
#[case::simulated(simulated())]
#[case::memory(memory())]
fn lengths_change_by_zeros(#[case] bench: Bench) {
    let file = create(&*bench.disk, FILE);
    write(&*file, 0, &[9; 6_000]);
    file.set_len(5_000, Reason::WalPrepare).unwrap();
    file.set_len(6_000, Reason::WalPrepare).unwrap();
    let bytes = read_all(&*file);
    assert!(bytes[..5_000].iter().all(|byte| *byte == 9) && bytes[5_000..].iter().all(|byte| *byte == 0));
    assert_eq!(bytes.len(), 6_000);
    match file.allocate(6_000, 4_000, Reason::WalPrepare) {
        Ok(()) => assert_eq!(file.len().unwrap(), 10_000),
        Err(error) => assert_eq!(error.kind(), DiskErrorKind::Unsupported),
    }
    let len = file.len().unwrap();
    match file.allocate(0, 100, Reason::WalPrepare) {
        Ok(()) => assert_eq!(file.len().unwrap(), len),
        Err(error) => assert_eq!(error.kind(), DiskErrorKind::Unsupported),
    }
    file.allocate(1 << 20, 0, Reason::WalPrepare).unwrap();
    assert_eq!(file.len().unwrap(), len);
}

#[rstest]
#[case::real(real())]
#[case::simulated(simulated())]
#[case::memory(memory())]
fn names_are_made_and_removed_once(#[case] bench: Bench) {
    let disk = &*bench.disk;
    let file = create(disk, FILE);
    write(&*file, 0, b"kept open");
    let error = disk.create_new(FILE, Reason::WalPrepare).unwrap_err();
    assert_eq!(
        (error.kind(), error.file(), error.reason()),
        (DiskErrorKind::AlreadyExists, Some(FILE), Some(Reason::WalPrepare))
    );
    disk.remove(FILE, Reason::WalRemove).unwrap();
    assert_eq!(disk.remove(FILE, Reason::WalRemove).unwrap_err().kind(), DiskErrorKind::NotFound);
    assert_eq!(disk.open(FILE, Access::Read, Reason::Open).unwrap_err().kind(), DiskErrorKind::NotFound);
    assert_eq!(read_all(&*file), b"kept open");
    write(&*file, 0, b"KEPT");
    assert_eq!(read_all(&*file), b"KEPT open");
    let new = create(disk, FILE);
    assert_eq!((new.len().unwrap(), read_all(&*file).len()), (0, 9));
}

#[rstest]
#[case::real(real())]
#[case::simulated(simulated())]
#[case::memory(memory())]
fn the_list_names_every_file(#[case] bench: Bench) {
    let disk = &*bench.disk;
    let ids = [FileId::Manifest(1), FileId::Wal(u64::MAX), FileId::Sst(3), FileId::Cold(0), FileId::Backup(0xab)];
    for id in ids {
        write(&*create(disk, id), 0, &[1; 10]);
    }
    let mut found: Vec<FileId> = disk
        .list(Reason::Open)
        .unwrap()
        .into_iter()
        .map(|entry| match entry {
            DirEntry::File(id, 10) => id,
            other => panic!("{other:?}"),
        })
        .collect();
    found.sort_unstable();
    assert_eq!(found, ids);
}

#[rstest]
#[case::real(real())]
#[case::simulated(simulated())]
#[case::memory(memory())]
fn a_handle_for_reading_does_not_write(#[case] bench: Bench) {
    write(&*create(&*bench.disk, FILE), 0, b"text");
    let file = bench.disk.open(FILE, Access::Read, Reason::Verify).unwrap();
    let error = file.write_at(0, b"x", Reason::WalAppend).unwrap_err();
    assert_eq!((error.kind(), error.file(), error.offset()), (DiskErrorKind::Denied, Some(FILE), Some(0)));
    assert_eq!(read_all(&*file), b"text");
    let file = bench.disk.open(FILE, Access::ReadWrite, Reason::Open).unwrap();
    write(&*file, 0, b"next");
    assert_eq!(read_all(&*file), b"next");
}

#[rstest]
#[case::real(real())]
#[case::simulated(simulated())]
#[case::memory(memory())]
fn reading_past_the_end_ends(#[case] bench: Bench) {
    let file = create(&*bench.disk, OTHER);
    write(&*file, 0, b"abc");
    let mut buffer = [7; 8];
    assert_eq!(file.read_at(1, &mut buffer, Reason::Verify).unwrap(), 2);
    assert_eq!(&buffer[..2], b"bc");
    assert_eq!(file.read_at(3, &mut buffer, Reason::Verify).unwrap(), 0);
    assert_eq!(file.read_at(1 << 40, &mut buffer, Reason::Verify).unwrap(), 0);
    assert_eq!(file.read_at(0, &mut [], Reason::Verify).unwrap(), 0);
}

#[rstest]
#[case::real(real())]
#[case::simulated(simulated())]
#[case::memory(memory())]
fn space_is_reported_or_not_known(#[case] bench: Bench) {
    match bench.disk.space() {
        Ok(space) => assert!(space.total_bytes > 0 && space.available_bytes <= space.total_bytes),
        Err(error) => assert_eq!(error.kind(), DiskErrorKind::Unsupported),
    }
}

#[rstest]
#[case::real(real())]
#[case::simulated(simulated())]
#[case::memory(memory())]
fn a_stray_offset_is_an_error(#[case] bench: Bench) {
    let file = create(&*bench.disk, FILE);
    assert!(file.write_at(i64::MAX as u64 - 1, &[1], Reason::WalAppend).is_err());
    assert!(file.write_at(u64::MAX - 1, &[1], Reason::WalAppend).is_err());
    assert!(file.set_len(u64::MAX, Reason::WalPrepare).is_err());
    assert!(file.allocate(u64::MAX - 1, 1, Reason::WalPrepare).is_err());
    assert_eq!(file.len().unwrap(), 0);
    assert!(matches!(file.read_at(u64::MAX - 1, &mut [0], Reason::Verify), Ok(0) | Err(_)));
}

#[rstest]
#[case("LOCK", Some(FileId::Lock))]
#[case("wal-0000000000000000", Some(FileId::Wal(0)))]
#[case("sst-ffffffffffffffff", Some(FileId::Sst(u64::MAX)))]
#[case("manifest-00000000000000ff", Some(FileId::Manifest(255)))]
#[case("wal-00000000000000FF", None)]
#[case("wal-000000000000001", None)]
#[case("wal-00000000000000001", None)]
#[case("wal-+000000000000001", None)]
#[case("wal-0000000000000001.bak", None)]
#[case("wal0000000000000001", None)]
#[case("Wal-0000000000000001", None)]
#[case("lock", None)]
#[case("", None)]
#[case("../wal-0000000000000001", None)]
#[case("wal-0000000000000\u{e9}1", None)]
fn only_exact_names_are_ours(#[case] name: &str, #[case] expected: Option<FileId>) {
    assert_eq!(FileId::parse(name), expected);
    if let Some(id) = expected {
        assert_eq!(id.to_string(), name);
        assert_eq!(id.number().is_none(), id.class() == FileClass::Lock);
    }
}
