//! The real directory: what is planted in it is refused without harm, and it is held by its handle, not by its path.

use std::os::unix::fs::symlink;
use std::path::Path;

use rstest::rstest;
use rustix::fs::{CWD, FileType, Mode};
use thermocline_io::{Access, DirEntry, Disk, DiskErrorKind, FileId, LockMode, RealDisk, Reason};

use crate::support::{FILE, create, read_all, write};

fn plant_link(path: &Path) {
    let target = path.with_file_name("secret");
    rustix::fs::open(&target, rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY, Mode::RUSR | Mode::WUSR).unwrap();
    symlink("secret", path).unwrap();
}

fn plant_dangling_link(path: &Path) {
    symlink("nowhere", path).unwrap();
}

fn plant_pipe(path: &Path) {
    rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

fn plant_directory(path: &Path) {
    rustix::fs::mkdir(path, Mode::RWXU).unwrap();
}

fn plant_socket(path: &Path) {
    drop(std::os::unix::net::UnixListener::bind(path).unwrap());
}

#[rstest]
#[case::link(plant_link)]
#[case::dangling_link(plant_dangling_link)]
#[case::pipe(plant_pipe)]
#[case::directory(plant_directory)]
#[case::socket(plant_socket)]
fn what_is_no_regular_file_is_refused_and_left_alone(#[case] plant: fn(&Path)) {
    let directory = tempfile::tempdir().unwrap();
    let disk = RealDisk::open(directory.path(), false).unwrap();
    plant(&directory.path().join(FILE.to_string()));
    plant(&directory.path().join("LOCK"));
    for access in [Access::Read, Access::ReadWrite] {
        let error = disk.open(FILE, access, Reason::Open).unwrap_err();
        assert_eq!((error.kind(), error.file()), (DiskErrorKind::NotRegular, Some(FILE)), "{error}");
    }
    assert_eq!(disk.create_new(FILE, Reason::WalPrepare).unwrap_err().kind(), DiskErrorKind::AlreadyExists);
    assert_eq!(disk.remove(FILE, Reason::WalRemove).unwrap_err().kind(), DiskErrorKind::NotRegular);
    for mode in [LockMode::Exclusive, LockMode::Shared] {
        assert_eq!(disk.try_lock(mode).unwrap_err().kind(), DiskErrorKind::NotRegular);
    }
    let listed = disk.list(Reason::Open).unwrap();
    assert!(listed.contains(&DirEntry::File(FILE, 0)) && listed.contains(&DirEntry::File(FileId::Lock, 0)), "{listed:?}");
}

#[test]
fn foreign_names_are_listed_as_such() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["notes.txt", "sst-zz", "wal-0000000000000001.bak"] {
        plant_pipe(&directory.path().join(name));
    }
    let disk = RealDisk::open(directory.path(), false).unwrap();
    write(&*create(&disk, FILE), 0, b"12345");
    let mut listed: Vec<String> = disk
        .list(Reason::Open)
        .unwrap()
        .into_iter()
        .map(|entry| match entry {
            DirEntry::File(id, len) => format!("{id} {len}"),
            DirEntry::Foreign(name) => name,
        })
        .collect();
    listed.sort();
    assert_eq!(listed, ["notes.txt", "sst-zz", "wal-0000000000000001 5", "wal-0000000000000001.bak"]);
}

#[test]
fn the_directory_is_made_only_when_asked_for() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("db");
    let error = RealDisk::open(&path, false).unwrap_err();
    assert_eq!(error.kind(), DiskErrorKind::NotFound);
    assert!(error.to_string().starts_with(&path.display().to_string()), "{error}");
    let disk = RealDisk::open(&path, true).unwrap();
    assert_eq!(disk.label(), path.display().to_string());
    let mode = rustix::fs::stat(&path).unwrap().st_mode;
    assert_eq!(mode & 0o777, 0o700);
    RealDisk::open(&path, true).unwrap();
    assert_eq!(RealDisk::open(path.join("a").join("b"), true).unwrap_err().kind(), DiskErrorKind::NotFound);
}

#[test]
fn paths_that_name_no_directory_are_refused() {
    let parent = tempfile::tempdir().unwrap();
    let pipe = parent.path().join("pipe");
    plant_pipe(&pipe);
    for create in [false, true] {
        let kind = |path: &Path| RealDisk::open(path, create).unwrap_err().kind();
        assert_eq!(kind(&pipe), DiskErrorKind::InvalidPath);
        assert_eq!(kind(Path::new("")), DiskErrorKind::InvalidPath);
        assert_eq!(kind(Path::new("a\0b")), DiskErrorKind::InvalidPath);
        assert_eq!(kind(&parent.path().join("n".repeat(5_000))), DiskErrorKind::InvalidPath);
    }
}

#[test]
fn files_are_private() {
    let directory = tempfile::tempdir().unwrap();
    let disk = RealDisk::open(directory.path(), false).unwrap();
    create(&disk, FILE);
    drop(disk.try_lock(LockMode::Exclusive).unwrap());
    for name in [FILE.to_string(), "LOCK".to_owned()] {
        let mode = rustix::fs::stat(directory.path().join(name)).unwrap().st_mode;
        assert_eq!(mode & 0o077, 0);
    }
}

#[test]
fn the_directory_is_held_by_its_handle() {
    let parent = tempfile::tempdir().unwrap();
    let (before, after) = (parent.path().join("before"), parent.path().join("after"));
    let disk = RealDisk::open(&before, true).unwrap();
    rustix::fs::rename(&before, &after).unwrap();
    // Another directory takes the path.
    let other = RealDisk::open(&before, true).unwrap();
    write(&*create(&disk, FILE), 0, b"moved");
    assert!(other.list(Reason::Open).unwrap().is_empty());
    let moved = RealDisk::open(&after, false).unwrap();
    assert_eq!(read_all(&*moved.open(FILE, Access::Read, Reason::Open).unwrap()), b"moved");
}

#[test]
fn a_directory_that_was_removed_is_not_made_again() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("db");
    let disk = RealDisk::open(&path, true).unwrap();
    rustix::fs::rmdir(&path).unwrap();
    assert_eq!(disk.create_new(FILE, Reason::WalPrepare).unwrap_err().kind(), DiskErrorKind::NotFound);
    assert_eq!(RealDisk::open(&path, false).unwrap_err().kind(), DiskErrorKind::NotFound);
}

#[test]
fn names_that_are_not_text_work_as_paths() {
    use std::os::unix::ffi::OsStrExt;
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join(std::ffi::OsStr::from_bytes(b"db\xff"));
    let disk = RealDisk::open(path, true).unwrap();
    write(&*create(&disk, FILE), 0, b"x");
    assert_eq!(disk.list(Reason::Open).unwrap(), [DirEntry::File(FILE, 1)]);
}
