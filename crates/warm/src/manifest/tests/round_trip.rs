//! What was committed is what is found, however often the file was written anew.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use thermocline_io::{Disk, MemoryDisk, Operation, Reason};
use thermocline_tier::{ErrorKind, Version};

use super::support::{Random, Run, STORE, file, manifests, open, random_edit, read_only, shared};
use crate::manifest::{Edit, Manifest, State};
use crate::meta::FileMeta;

#[test]
fn random_edits_are_found_again() {
    for seed in 0..12 {
        let mut run = Run::new(seed);
        run.play(150).unwrap();
        let known = run.knowledge.known.clone().unwrap();
        let (manifest, state) = read_only(&run.disk).unwrap().unwrap();
        assert_eq!(state, known, "seed {seed}");
        assert_eq!(manifest.header.store, STORE);
        let (files, bytes) = run.manifest.as_ref().unwrap().verify().unwrap();
        assert_eq!(files, 1);
        assert_eq!(manifest.verify().unwrap().0, 1);
        let (id, len) = run.disk.files()[0];
        // Behind what is durable stands the witness.
        assert_eq!(bytes + 4096, len, "{id}");
        assert_eq!(run.disk.files().len(), 1, "seed {seed}: nothing is left over");
    }
}

#[test]
fn new_manifest_is_empty_and_there_is_one_at_a_time() {
    let run = Run::new(1);
    assert!(open(&run.disk).unwrap().is_none());
    assert!(read_only(&run.disk).unwrap().is_none());
    let manifest = Manifest::create(shared(&run.disk), STORE).unwrap();
    assert_eq!(manifest.written_bytes(), 3 * 4096);
    drop(manifest);
    assert_eq!(open(&run.disk).unwrap().unwrap().1, State::default());
    let error = Manifest::create(shared(&run.disk), STORE).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::InvalidArgument { .. }), "{error}");
    assert_eq!(open(&run.disk).unwrap().unwrap().1, State::default());
}

#[test]
fn grown_manifest_is_written_anew() {
    let mut run = Run::new(0);
    run.rewrite_size_bytes_min = 30_000;
    run.open().unwrap();
    let first = manifests(&run.disk);
    let mut longest = 0;
    for _ in 0..100 {
        run.commit().unwrap();
        longest = longest.max(run.disk.files()[0].1);
    }
    assert!(manifests(&run.disk)[0] > first[0] + 2);
    let snapshot = Manifest::create(shared(&Run::new(0).disk), STORE).unwrap().written_bytes();
    assert!(longest > 30_000 && snapshot < 30_000, "{longest}");
    assert!(longest < 2_000_000, "{longest}");
}

#[test]
fn no_page_is_written_twice_and_names_follow_content() {
    for seed in 0..6 {
        let mut run = Run::new(seed);
        run.play(80).unwrap();
        let mut written = BTreeMap::new();
        let mut unsynced = BTreeSet::new();
        let mut has_unsynced_names = false;
        for entry in run.disk.trace() {
            let Some(id) = entry.file else {
                assert_eq!(entry.operation, Operation::SyncDir);
                has_unsynced_names = false;
                continue;
            };
            match entry.operation {
                Operation::Write => {
                    assert_eq!(entry.reason, Some(Reason::ManifestWrite));
                    let (writes, end) = written.entry(id).or_insert((0, 0));
                    assert_eq!((entry.offset, entry.len % 4096), (*end, 0), "{id}");
                    // What the manifest before does not say is written when that one is gone for good.
                    assert!(*writes < 2 || !has_unsynced_names, "{id}: write {writes} before the names are durable");
                    *writes += 1;
                    *end += entry.len;
                    unsynced.insert(id);
                }
                Operation::SyncData => drop(unsynced.remove(&id)),
                Operation::CreateNew => has_unsynced_names = true,
                Operation::Remove => {
                    // The one that takes its place is durable by then, with its name.
                    assert!(unsynced.iter().all(|other| *other <= id), "{id} removed before {unsynced:?} is durable");
                    assert!(!has_unsynced_names, "{id} removed before the names are durable");
                    has_unsynced_names = true;
                }
                _ => {}
            }
        }
    }
}

#[test]
fn reading_only_writes_nothing() {
    let mut run = Run::new(2);
    run.play(30).unwrap();
    let operations = run.disk.operations();
    let (mut manifest, state) = read_only(&run.disk).unwrap().unwrap();
    let (edit, after) = random_edit(&mut Random(1), &state);
    assert!(matches!(manifest.commit(&edit, &after).unwrap_err().kind(), ErrorKind::Unsupported { .. }));
    manifest.verify().unwrap();
    assert_eq!(run.disk.operations(), operations);
    assert_eq!(manifest.written_bytes(), 0);
}

#[test]
fn edit_that_could_not_be_read_back_is_refused() {
    let mut run = Run::new(2);
    run.open().unwrap();
    let manifest = run.manifest.as_mut().unwrap();
    let long = Edit { add: vec![FileMeta { summary: vec![0; 65_537].into(), ..file(1, 0) }], ..Edit::default() };
    let operations = run.disk.operations();
    let error = manifest.commit(&long, &State::default()).unwrap_err();
    assert!(error.to_string().contains("a summary of 65537 bytes"), "{error}");
    assert_eq!(run.disk.operations(), operations);
    manifest.commit(&Edit::default(), &State::default()).unwrap();
}

#[test]
fn ten_thousand_files_are_opened_as_they_were() {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
    let mut manifest = Manifest::create(Arc::clone(&disk), STORE).unwrap();
    let mut state = State::default();
    for start in (1..=10_000).step_by(100) {
        let add = (start..start + 100).map(|number| file(number, (number % 6) as u8)).collect();
        let edit = Edit { add, ..Edit::default() };
        state.apply(&edit).unwrap();
        manifest.commit(&edit, &state).unwrap();
    }
    for number in 1..=1000 {
        let edit = Edit { moves: vec![(number, 6)], horizon: Some(Version(number)), ..Edit::default() };
        state.replay(edit.clone()).unwrap();
        manifest.commit(&edit, &state).unwrap();
    }
    drop(manifest);
    for _ in 0..2 {
        let (manifest, found) = Manifest::open(Arc::clone(&disk), None, false).unwrap().unwrap();
        assert_eq!(found.files.len(), 10_000);
        assert!(found == state);
        let (_, bytes) = manifest.verify().unwrap();
        assert!(bytes < 3 << 20, "{bytes}");
    }
}

#[test]
fn longest_keys_and_summaries_fit() {
    let mut run = Run::new(1);
    run.open().unwrap();
    let manifest = run.manifest.as_mut().unwrap();
    let mut state = State::default();
    for number in 1..=20 {
        let mut long = FileMeta { summary: vec![number as u8; 65_536].into(), ..file(number, 3) };
        long.first.prefix.resize(65_535, b'a');
        long.last.prefix.resize(65_535, b'z');
        let edit = Edit { add: vec![long], ..Edit::default() };
        state.apply(&edit).unwrap();
        manifest.commit(&edit, &state).unwrap();
    }
    manifest.verify().unwrap();
    assert!(read_only(&run.disk).unwrap().unwrap().1 == state);
    assert!(open(&run.disk).unwrap().unwrap().1 == state);
}
