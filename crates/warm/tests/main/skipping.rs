//! What reads leave unread: files and blocks of other versions, and blocks that another key has brought.
//!
//! Hunts: a range of versions that is written, and looked at by nobody; a block that is read once for each of its keys.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use thermocline_conformance::ModelTier;
use thermocline_io::{FileId, Operation, Reason, SimDisk};
use thermocline_tier::{
    Checkpoint, Direction, DurableTier, KeyRange, KeyRef, Lookup, RangeRequest, ReadWindow, TierStorage, Version,
};
use thermocline_warm::{WarmOptions, WarmTier};

use crate::backends::open;
use crate::support::{MULTI, batch};

/// How many bytes of each sorted file reads come to, for answers to the world, while `work` is done by a tier that was just opened.
fn bytes_read(disk: &SimDisk, options: &WarmOptions, work: impl FnOnce(&WarmTier)) -> BTreeMap<FileId, u64> {
    let disk = disk.duplicate();
    let (tier, read) = (open(&disk, options.clone()).unwrap(), Arc::new(Mutex::new(BTreeMap::new())));
    let sum = Arc::clone(&read);
    disk.observe(move |call| {
        if let (Operation::Read, Some(file @ FileId::Sst(_)), Some(Reason::SstRead)) = (call.operation, call.file, call.reason) {
            *sum.lock().entry(file).or_insert(0) += call.len;
        }
    });
    work(&tier);
    let read = read.lock();
    read.clone()
}

/// Files, and blocks of one file, whose versions a read does not ask for.
#[test]
fn what_is_newer_or_older_than_a_read_asks_for_is_not_read() {
    let (disk, options) = (SimDisk::new(1), WarmOptions { block_size_bytes: 256, ..WarmOptions::default() });
    let tier = open(&disk, options.clone()).unwrap();
    let write = |versions: std::ops::RangeInclusive<u64>| {
        let (model, last) = (ModelTier::new(), *versions.end());
        for version in versions {
            let keys: Vec<String> = (0..300).map(|key| format!("k{key:04}")).collect();
            let writes: Vec<_> = keys.iter().map(|key| (MULTI, key.as_bytes(), Some(&b"a value of some length"[..]))).collect();
            model.set(&batch(version, &writes)).unwrap();
        }
        tier.absorb(&model, Checkpoint { version: Version(last), ..Checkpoint::default() }).unwrap();
    };
    write(1..=5);
    write(100..=105);
    let files: Vec<FileId> =
        disk.files().into_iter().map(|(file, _)| file).filter(|file| matches!(file, FileId::Sst(_))).collect();
    let [old, new] = files[..] else { panic!("{files:?}") };
    drop(tier);
    let scan = |at: u64, after: Option<u64>| {
        bytes_read(&disk, &options, |tier| {
            let window = ReadWindow { at: Version(at), after: after.map(Version) };
            let request = RangeRequest { table: MULTI, range: KeyRange::all(), window, direction: Direction::Forward };
            let page = tier.range_next(&mut request.into_cursor(), 1_000).unwrap();
            assert_eq!(page.len(), 300);
        })
    };
    let as_of = scan(5, None);
    assert!(as_of.contains_key(&old) && !as_of.contains_key(&new), "{as_of:?}");
    let between = scan(200, Some(50));
    assert!(between.contains_key(&new) && !between.contains_key(&old), "{between:?}");
    let get = |at: u64| bytes_read(&disk, &options, |tier| assert!(tier.get(MULTI, b"k0007", Version(at)).unwrap().is_value()));
    assert!(!get(5).contains_key(&new) && !get(200).contains_key(&old));
    // Of history no more than is asked for, and none by a scan of the latest.
    let (latest, middle) = (scan(200, None)[&new], scan(102, None)[&new]);
    assert!(latest * 2 < middle, "{latest} bytes, and {middle} as of a version");
}

#[test]
fn sixteen_keys_of_one_block_are_read_with_it_in_any_order() {
    let (disk, options) = (SimDisk::new(1), WarmOptions::default());
    let tier = open(&disk, options.clone()).unwrap();
    let keys: Vec<String> = (0..40).map(|key| format!("k{key:02}")).collect();
    let writes: Vec<_> = keys.iter().map(|key| (MULTI, key.as_bytes(), Some(&b"v"[..]))).collect();
    tier.set(&batch(1, &writes)).unwrap();
    drop(tier);
    let of = |numbers: &[usize]| -> u64 {
        let keys: Vec<KeyRef<'_>> =
            numbers.iter().map(|number| KeyRef { table: MULTI, prefix: keys[*number].as_bytes() }).collect();
        let read = bytes_read(&disk, &options, |tier| {
            assert!(tier.get_many(&keys, Version::MAX).unwrap().iter().all(Lookup::is_value));
        });
        read.values().sum()
    };
    let one = of(&[7]);
    let mut sixteen: Vec<usize> = (10..26).collect();
    for _order in 0..4 {
        assert_eq!(of(&sixteen), one);
        sixteen.rotate_left(5);
        sixteen.swap(0, 9);
    }
}
