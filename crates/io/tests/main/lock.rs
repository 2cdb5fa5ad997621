//! One writer per directory: in the process, across processes, and after the holder was killed.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};

use rstest::rstest;
use thermocline_io::{Disk, DiskErrorKind, FileId, LockMode, RealDisk, SimDisk};

use crate::support::{Bench, memory, real, simulated};

/// Tells the test binary, started anew, to hold the lock of this directory.
const HOLD: &str = "THERMOCLINE_IO_TEST_HOLD_LOCK_OF";

#[rstest]
#[case::real(real())]
#[case::simulated(simulated())]
#[case::memory(memory())]
fn the_exclusive_lock_keeps_all_others_out(#[case] bench: Bench) {
    let disk = &*bench.disk;
    assert_eq!(disk.try_lock(LockMode::Shared).unwrap_err().kind(), DiskErrorKind::NotFound);
    let guard = disk.try_lock(LockMode::Exclusive).unwrap();
    for mode in [LockMode::Exclusive, LockMode::Shared] {
        let error = disk.try_lock(mode).unwrap_err();
        assert_eq!((error.kind(), error.file()), (DiskErrorKind::Locked, Some(FileId::Lock)));
    }
    drop(guard);
    drop(disk.try_lock(LockMode::Exclusive).unwrap());
}

#[rstest]
#[case::real(real())]
#[case::simulated(simulated())]
#[case::memory(memory())]
fn readers_share_and_keep_writers_out(#[case] bench: Bench) {
    let disk = &*bench.disk;
    drop(disk.try_lock(LockMode::Exclusive).unwrap());
    let first = disk.try_lock(LockMode::Shared).unwrap();
    let second = disk.try_lock(LockMode::Shared).unwrap();
    assert_eq!(disk.try_lock(LockMode::Exclusive).unwrap_err().kind(), DiskErrorKind::Locked);
    drop(first);
    assert_eq!(disk.try_lock(LockMode::Exclusive).unwrap_err().kind(), DiskErrorKind::Locked);
    drop(second);
    drop(disk.try_lock(LockMode::Exclusive).unwrap());
}

#[test]
fn a_second_handle_of_the_same_directory_is_refused_in_the_same_process() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("db");
    let first = RealDisk::open(&path, true).unwrap();
    let guard = first.try_lock(LockMode::Exclusive).unwrap();
    std::os::unix::fs::symlink(&path, parent.path().join("link")).unwrap();
    for way in [path.clone(), parent.path().join("link"), path.join("..").join("db")] {
        let error = RealDisk::open(way, false).unwrap().try_lock(LockMode::Exclusive).unwrap_err();
        assert_eq!(error.kind(), DiskErrorKind::Locked);
        assert!(error.to_string().contains(&format!("process {} holds it", std::process::id())), "{error}");
    }
    // The guard holds the lock, not the handle of the directory.
    drop(first);
    let second = RealDisk::open(&path, false).unwrap();
    assert_eq!(second.try_lock(LockMode::Exclusive).unwrap_err().kind(), DiskErrorKind::Locked);
    drop(guard);
    drop(second.try_lock(LockMode::Exclusive).unwrap());
}

#[test]
fn another_process_is_refused_until_the_holder_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let mut holder = start_holder(directory.path());
    let disk = RealDisk::open(directory.path(), false).unwrap();
    for mode in [LockMode::Exclusive, LockMode::Shared] {
        let error = disk.try_lock(mode).unwrap_err();
        assert_eq!(error.kind(), DiskErrorKind::Locked);
        assert!(error.to_string().contains(&format!("process {} holds it", holder.id())), "{error}");
    }
    holder.kill().unwrap();
    holder.wait().unwrap();
    drop(disk.try_lock(LockMode::Exclusive).unwrap());
}

fn start_holder(directory: &std::path::Path) -> Child {
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "lock::holder", "--nocapture"])
        .env(HOLD, directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    let ready = lines.map_while(Result::ok).any(|line| line.ends_with("locked"));
    assert!(ready, "the holder could not take the lock");
    holder
}

/// Runs in the process that [`start_holder`] starts; alone it does nothing.
#[test]
fn holder() {
    let Some(directory) = std::env::var_os(HOLD) else { return };
    let disk = RealDisk::open(directory, false).unwrap();
    let _guard = disk.try_lock(LockMode::Exclusive).unwrap();
    writeln!(std::io::stdout(), "locked").unwrap();
    // Until the other end goes, or we are killed.
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

#[test]
fn a_lost_lock_can_be_taken_by_another() {
    let disk = SimDisk::new(1);
    let lost = disk.try_lock(LockMode::Exclusive).unwrap();
    disk.lose_locks();
    let taken = disk.try_lock(LockMode::Exclusive).unwrap();
    drop(lost);
    assert_eq!(disk.try_lock(LockMode::Exclusive).unwrap_err().kind(), DiskErrorKind::Locked);
    drop(taken);
    drop(disk.try_lock(LockMode::Exclusive).unwrap());
}
