//! Which manifest counts, when there are several, or none, or somebody else's.

use thermocline_format::{Envelope, FileKind, StoreId, checksum64};
use thermocline_io::{Disk, FileId, Reason, SimDisk};
use thermocline_tier::{ErrorKind, Version};

use super::support::{STORE, file, manifests, open, read_only, shared};
use crate::manifest::{Edit, Manifest, State};

const PAGE: usize = 4096;

/// A store that has gone through three manifests, with what each was like at its end, and the states.
struct Story {
    /// Of manifests 1 to 3.
    bytes: [Vec<u8>; 3],
    states: [State; 3],
}

fn story() -> Story {
    let disk = SimDisk::new(1);
    let mut state = State::default();
    let mut manifest = Manifest::create(shared(&disk), STORE).unwrap();
    let mut bytes = Vec::new();
    let mut states = Vec::new();
    for number in 1..=3 {
        let edit = Edit { add: vec![file(number, 0)], ..Edit::default() };
        state.apply(&edit).unwrap();
        manifest.commit(&edit, &state).unwrap();
        bytes.push(disk.file_bytes(FileId::Manifest(number)).unwrap());
        states.push(state.clone());
        manifest = open(&disk).unwrap().unwrap().0;
    }
    Story { bytes: bytes.try_into().unwrap(), states: states.try_into().unwrap() }
}

fn disk_of(files: &[(u64, &[u8])]) -> SimDisk {
    let disk = SimDisk::new(1);
    for (number, bytes) in files {
        disk.replace_file(FileId::Manifest(*number), bytes);
    }
    disk.restart_recording();
    disk
}

/// Opens a directory both ways: they agree, and what is refused is left as it was. `None`: there is no manifest.
fn check(disk: &SimDisk) -> Result<Option<State>, ErrorKind> {
    let before = disk.files();
    let seen = read_only(disk).map(|opened| opened.map(|(_, state)| state));
    let opened = open(disk).map(|opened| opened.map(|(_, state)| state));
    match (seen, opened) {
        (Ok(seen), Ok(opened)) => {
            assert!(seen == opened);
            assert_eq!(manifests(disk).len() == 1, seen.is_some(), "nothing is left over");
            Ok(seen)
        }
        (Err(seen), Err(opened)) => {
            assert_eq!(seen.to_string(), opened.to_string());
            assert_eq!((disk.files(), disk.operations()), (before, 0), "what is refused is left alone");
            assert!(seen.kind() != &ErrorKind::Corruption || seen.to_string().contains("manifest"), "{seen}");
            Err(seen.kind().clone())
        }
        (seen, opened) => panic!("reading only: {seen:?}, reading to write: {opened:?}"),
    }
}

#[test]
fn newest_complete_manifest_counts_and_the_others_go() {
    let Story { bytes: [first, second, third], states: [_, one_more, all] } = story();
    assert_eq!(check(&disk_of(&[(1, &first), (2, &second), (3, &third)])), Ok(Some(all.clone())));
    assert_eq!(check(&disk_of(&[(1, &first), (3, &third)])), Ok(Some(all.clone())));
    assert_eq!(check(&disk_of(&[(3, &third)])), Ok(Some(all.clone())));
    assert_eq!(check(&disk_of(&[(1, &first), (2, &second)])), Ok(Some(one_more)));
    // An older one may be damaged: nothing needs it.
    let mut spoilt = second.clone();
    spoilt[100] ^= 1;
    assert_eq!(check(&disk_of(&[(2, &spoilt), (3, &third)])), Ok(Some(all.clone())));
    assert_eq!(check(&disk_of(&[(2, &[]), (3, &third)])), Ok(Some(all)));
}

#[test]
fn manifest_that_was_begun_and_not_finished_is_dropped_while_the_one_before_is_there() {
    let Story { bytes: [first, second, third], states: [_, one_more, _] } = story();
    // Of the third: nothing, a blank page, a garbled one, its header, its header and half of the snapshot.
    let half = [&third[..PAGE], &third[PAGE..PAGE + 300]].concat();
    let torn = [&third[..PAGE], &[0; 500], &third[PAGE + 500..2 * PAGE]].concat();
    for begun in [&[][..], &[0; 17], &[0; PAGE], &[0xaa; PAGE], &third[..PAGE], &half, &torn] {
        let what = begun.len();
        assert_eq!(check(&disk_of(&[(2, &second), (3, begun)])), Ok(Some(one_more.clone())), "{what} bytes");
        assert_eq!(check(&disk_of(&[(1, &first), (2, &second), (3, begun)])), Ok(Some(one_more.clone())), "{what} bytes");
    }
    // Two attempts.
    assert_eq!(check(&disk_of(&[(2, &second), (3, &half), (4, &[])])), Ok(Some(one_more)));
}

#[test]
fn manifest_that_is_not_complete_is_damaged_when_the_one_before_is_gone() {
    let Story { bytes: [first, _, third], .. } = story();
    for cut in [PAGE, PAGE + 300] {
        assert_eq!(check(&disk_of(&[(3, &third[..cut])])), Err(ErrorKind::Corruption), "{cut} bytes");
        assert_eq!(check(&disk_of(&[(1, &first), (3, &third[..cut])])), Err(ErrorKind::Corruption), "{cut} bytes");
    }
}

#[test]
fn manifest_in_use_is_not_dropped_for_the_one_before() {
    let Story { bytes: [_, second, third], .. } = story();
    // In the header, in the header of the snapshot, in its payload.
    for place in [0, 20, 70, PAGE - 1, PAGE + 3, PAGE + 60, PAGE + 90, 2 * PAGE - 1] {
        let mut spoilt = third.clone();
        spoilt[place] ^= 8;
        assert_eq!(check(&disk_of(&[(2, &second), (3, &spoilt)])), Err(ErrorKind::Corruption), "byte {place}");
    }
    let mut spoilt = third;
    spoilt[..2 * PAGE].fill(0);
    assert_eq!(check(&disk_of(&[(2, &second), (3, &spoilt)])), Err(ErrorKind::Corruption));
}

#[test]
fn manifests_that_contradict_each_other_are_refused() {
    let Story { bytes: [_, second, third], .. } = story();
    // The second goes on after the third was made of it.
    let disk = disk_of(&[(1, &story().bytes[0])]);
    let (mut manifest, mut state) = open(&disk).unwrap().unwrap();
    for number in [2, 7] {
        let edit = Edit { add: vec![file(number, 0)], ..Edit::default() };
        state.apply(&edit).unwrap();
        manifest.commit(&edit, &state).unwrap();
    }
    let longer = disk.file_bytes(FileId::Manifest(2)).unwrap();
    assert_eq!(check(&disk_of(&[(2, &longer), (3, &third)])), Err(ErrorKind::Corruption));
    // The second has another record where the third was made of it.
    let disk = disk_of(&[(1, &story().bytes[0])]);
    let (mut manifest, mut state) = open(&disk).unwrap().unwrap();
    let edit = Edit { add: vec![file(5, 0)], ..Edit::default() };
    state.apply(&edit).unwrap();
    manifest.commit(&edit, &state).unwrap();
    let other = disk.file_bytes(FileId::Manifest(2)).unwrap();
    assert_eq!(other.len(), second.len());
    assert_eq!(check(&disk_of(&[(2, &other), (3, &third)])), Err(ErrorKind::Corruption));
}

#[test]
fn beginnings_of_a_first_manifest_are_no_manifest() {
    let Story { bytes: [first, _, third], .. } = story();
    for len in [0, PAGE, PAGE + 1, PAGE + 300] {
        let disk = disk_of(&[(1, &first[..len])]);
        assert!(read_only(&disk).unwrap().is_none(), "{len} bytes");
        assert!(open(&disk).unwrap().is_none(), "{len} bytes");
        // Another attempt, under another identity, takes another number and leaves nothing behind.
        let other = StoreId([9; 16]);
        let mut manifest = Manifest::create(shared(&disk), other).unwrap();
        assert_eq!(manifests(&disk), [2], "{len} bytes");
        manifest.commit(&Edit::default(), &State::default()).unwrap();
        assert_eq!(Manifest::open(shared(&disk), Some(other), true).unwrap().unwrap().1, State::default());
        // With sorted files it is no beginning.
        let disk = disk_of(&[(1, &first[..len])]);
        disk.create_new(FileId::Sst(4), Reason::SstWrite).unwrap();
        disk.restart_recording();
        assert_eq!(check(&disk), Err(ErrorKind::Corruption), "{len} bytes");
        assert_eq!(Manifest::create(shared(&disk), STORE).unwrap_err().kind(), &ErrorKind::Corruption);
    }
    // Cut shorter than a page can become by itself.
    for len in [1, 8, 63, 64, 500, PAGE - 1] {
        assert_eq!(check(&disk_of(&[(1, &first[..len])])), Err(ErrorKind::Corruption), "{len} bytes");
        assert_eq!(check(&disk_of(&[(3, &third[..len])])), Err(ErrorKind::Corruption), "{len} bytes");
    }
}

#[test]
fn sorted_files_without_a_manifest_are_damage() {
    let disk = SimDisk::new(1);
    disk.create_new(FileId::Sst(4), Reason::SstWrite).unwrap();
    disk.restart_recording();
    assert_eq!(check(&disk), Err(ErrorKind::Corruption));
    assert_eq!(Manifest::create(shared(&disk), STORE).unwrap_err().kind(), &ErrorKind::Corruption);
}

/// The envelope of the store, of another one, or of a newer release, on a manifest's bytes.
fn with_envelope(bytes: &[u8], number: u64, store: StoreId, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut envelope = Envelope::new(FileKind::Manifest, number, store).encode();
    change(&mut envelope);
    let checksum = checksum64(u64::from_le_bytes(*b"THERMOCL"), &envelope[8..56]);
    envelope[56..].copy_from_slice(&checksum.to_le_bytes());
    [&envelope[..], &bytes[64..]].concat()
}

#[test]
fn manifests_of_another_store_are_foreign() {
    let Story { bytes: [first, second, _], .. } = story();
    let other_disk = SimDisk::new(1);
    let other_store = StoreId([8; 16]);
    drop(Manifest::create(shared(&other_disk), other_store).unwrap());
    let other_first = other_disk.file_bytes(FileId::Manifest(1)).unwrap();
    drop(Manifest::open(shared(&other_disk), None, false).unwrap());
    let other_second = other_disk.file_bytes(FileId::Manifest(2)).unwrap();
    assert_eq!(check(&disk_of(&[(1, &other_first)])), Err(ErrorKind::ForeignFile));
    assert_eq!(check(&disk_of(&[(2, &other_second)])), Err(ErrorKind::ForeignFile));
    assert_eq!(check(&disk_of(&[(1, &first), (2, &other_second)])), Err(ErrorKind::ForeignFile));
    assert_eq!(check(&disk_of(&[(1, &other_first), (2, &second)])), Err(ErrorKind::ForeignFile));
    // Without knowing the store, the newest one tells, and must agree with the others.
    let mixed = disk_of(&[(1, &first), (2, &other_second)]);
    assert_eq!(Manifest::open(shared(&mixed), None, true).unwrap_err().kind(), &ErrorKind::ForeignFile);
    let alone = Manifest::open(shared(&disk_of(&[(2, &other_second)])), None, true).unwrap().unwrap();
    assert_eq!(alone.0.header.store, other_store);
}

#[test]
fn files_of_something_else_under_our_names_are_foreign() {
    let Story { bytes: [_, second, _], .. } = story();
    let zip = [b"PK\x03\x04".as_slice(), &[0x5a; 9000]].concat();
    for other in [&zip[..], &zip[..100], b"notes", &[0xaa; 5000]] {
        assert_eq!(check(&disk_of(&[(1, other)])), Err(ErrorKind::ForeignFile), "{} bytes", other.len());
        assert_eq!(check(&disk_of(&[(2, &second), (3, other)])), Err(ErrorKind::ForeignFile), "{} bytes", other.len());
    }
    let disk = disk_of(&[(2, &second)]);
    disk.add_irregular(FileId::Manifest(3));
    disk.restart_recording();
    assert_eq!(check(&disk), Err(ErrorKind::Io));
    let disk = disk_of(&[(2, &second)]);
    assert!(disk.add_foreign("manifest-0000000000000003.bak"));
    assert!(check(&disk).unwrap().is_some());
}

#[test]
fn newer_releases_are_told_from_damage_and_left_alone() {
    let Story { bytes: [_, second, third], .. } = story();
    let newer = with_envelope(&third, 3, STORE, |envelope| envelope[10] = 2);
    let feature = with_envelope(&third, 3, STORE, |envelope| envelope[12] = 1);
    for bytes in [newer, feature] {
        assert_eq!(check(&disk_of(&[(3, &bytes)])), Err(ErrorKind::UnsupportedFormat));
        assert_eq!(check(&disk_of(&[(2, &second), (3, &bytes)])), Err(ErrorKind::UnsupportedFormat));
        assert_eq!(check(&disk_of(&[(2, &second), (3, &bytes[..64])])), Err(ErrorKind::UnsupportedFormat));
    }
    // A release that may read and not write.
    let read_only_feature = with_envelope(&third, 3, STORE, |envelope| envelope[16] = 1);
    let disk = disk_of(&[(3, &read_only_feature)]);
    assert!(read_only(&disk).unwrap().is_some());
    assert_eq!(open(&disk).unwrap_err().kind(), &ErrorKind::UnsupportedFormat);
}

#[test]
fn file_under_another_number_is_damage() {
    let Story { bytes: [first, second, _], .. } = story();
    assert_eq!(check(&disk_of(&[(2, &first)])), Err(ErrorKind::Corruption));
    assert_eq!(check(&disk_of(&[(1, &second), (2, &first)])), Err(ErrorKind::Corruption));
}

#[test]
fn numbers_are_not_used_again() {
    let Story { bytes: [_, second, _], states: [_, one_more, _] } = story();
    let disk = disk_of(&[(2, &second), (40, &[])]);
    let (mut manifest, mut state) = open(&disk).unwrap().unwrap();
    assert_eq!(state, one_more);
    assert_eq!(manifests(&disk), [41]);
    // Nor those of files that could not be made.
    disk.set_capacity(Some(disk.files().iter().map(|(_, len)| len).sum()));
    let edit = Edit { horizon: Some(Version(3)), ..Edit::default() };
    state.apply(&edit).unwrap();
    for _ in 0..3 {
        assert_eq!(manifest.commit(&edit, &state).unwrap_err().kind(), &ErrorKind::DiskFull);
    }
    disk.set_capacity(None);
    manifest.commit(&edit, &state).unwrap();
    assert_eq!(manifests(&disk), [44]);
    // There is none above the last.
    let last = disk_of(&[(2, &second), (u64::MAX, &[])]);
    assert!(open(&last).is_err());
    assert!(read_only(&last).unwrap().is_some());
}
