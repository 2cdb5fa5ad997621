//! What is rewritten next: no level is left to grow.

use thermocline_conformance::ModelTier;
use thermocline_io::SimDisk;
use thermocline_tier::{Checkpoint, DurableTier, KeyRef, Pressure, TierStorage, Version};
use thermocline_warm::{WarmOptions, WarmTier};

use crate::backends::{compact, open, small};
use crate::support::{MULTI, Random, SOURCE, batch};

/// Absorbs one table of keys all over the range, each new.
fn absorb(tier: &WarmTier, version: u64, random: &mut Random) {
    let keys: Vec<String> = (0..50).map(|_| format!("{:06}", random.below(1_000_000))).collect();
    let writes: Vec<_> = keys.iter().map(|key| (MULTI, key.as_bytes(), Some(&b"a value of some length"[..]))).collect();
    let model = ModelTier::new();
    model.set(&batch(version, &writes)).unwrap();
    tier.absorb(&model, Checkpoint { version: Version(version), ..Checkpoint::default() }).unwrap();
}

fn sizes(tier: &WarmTier) -> Vec<u64> {
    let mut sizes = vec![0; 7];
    for file in tier.files() {
        sizes[usize::from(file.level)] += file.size_bytes;
    }
    sizes
}

#[test]
fn level_1_drains_while_level_0_never_rests() {
    let disk = SimDisk::new(1);
    let options = WarmOptions { level_size_ratio: 8, ..small() };
    let tier = open(&disk, options.clone()).unwrap();
    let mut random = Random(1);
    let mut version = 0;
    let mut largest = 0;
    for round in 0..60 {
        // Level 0 is at its limit whenever a choice is made.
        while tier.files().iter().filter(|file| file.level == 0).count() < options.level0_flushes {
            version += 1;
            absorb(&tier, version, &mut random);
        }
        let rewritten = tier.counters().rewritten_bytes;
        while tier.counters().rewritten_bytes == rewritten && tier.step().unwrap() {}
        if round > 10 {
            largest = largest.max(sizes(&tier)[1]);
        }
    }
    let sizes = sizes(&tier);
    assert!(largest < 4 * options.level1_size_bytes, "{largest} bytes in level 1, now {sizes:?}");
    assert!(sizes[2] > sizes[1], "{sizes:?}");
}

#[test]
fn many_keys_are_found_together_as_they_are_one_by_one_wherever_they_lie() {
    let disk = SimDisk::new(1);
    let tier = open(&disk, WarmOptions { level1_size_bytes: 2000, ..small() }).unwrap();
    let mut random = Random(2);
    let keys: Vec<String> = (0..120).map(|key| format!("{key:03}")).collect();
    for version in 1..60 {
        let mut write = |_| {
            let key = keys[2 * random.index(keys.len() / 2)].as_bytes();
            (MULTI, key, (random.index(9) > 0).then_some(&b"some value"[..]))
        };
        let writes: Vec<_> = (0..40).map(&mut write).collect();
        let model = ModelTier::new();
        for write in writes {
            model.set(&batch(version, &[write])).unwrap();
        }
        tier.absorb(&model, Checkpoint::default()).unwrap();
        for _ in 0..if version < 59 { 9 } else { 0 } {
            tier.step().unwrap();
        }
    }
    let sizes = sizes(&tier);
    assert!(sizes[0] > 0 && sizes.iter().filter(|size| **size > 0).count() > 2, "{sizes:?}");
    for round in 0..40 {
        let at = Version(random.below(64));
        let asked: Vec<&String> = (0..[1, 5, 16, 17, 200][round % 5]).map(|_| &keys[random.index(keys.len())]).collect();
        let refs: Vec<KeyRef<'_>> = asked.iter().map(|key| KeyRef { table: MULTI, prefix: key.as_bytes() }).collect();
        let alone: Vec<_> = asked.iter().map(|key| tier.get(MULTI, key.as_bytes(), at).unwrap()).collect();
        assert_eq!(tier.get_many(&refs, at).unwrap(), alone, "at {at}");
    }
}

/// Files were counted, of which a flush of some tables made four: each flush was merged by itself, and writers were slowed down.
#[test]
fn flushes_of_many_files_count_once() {
    let options = WarmOptions { level0_flushes: 4, level0_flushes_slow: 6, file_size_bytes: 4 << 10, ..small() };
    let tier = open(&SimDisk::new(1), options).unwrap();
    let keys: Vec<String> = (0..400).map(|key| format!("{key:04}")).collect();
    let absorb = |version: u64| {
        let writes: Vec<_> = keys.iter().map(|key| (MULTI, key.as_bytes(), Some(&[b'v'; 100][..]))).collect();
        let model = ModelTier::new();
        model.set(&batch(version, &writes)).unwrap();
        tier.absorb(&model, Checkpoint { version: Version(version), ..Checkpoint::default() }).unwrap();
        tier.files().iter().filter(|file| file.level == 0).count()
    };
    let files = absorb(1);
    assert!(files > 4, "{files} files");
    assert!(absorb(2) > files + 4 && absorb(3) > 2 * files + 4);
    assert!(!tier.step().unwrap(), "three are not enough");
    assert_eq!(tier.pressure(), Pressure::None);
    absorb(4);
    let rewritten = tier.counters().rewritten_bytes;
    while tier.step().unwrap() {}
    assert!(tier.counters().rewritten_bytes > rewritten);
    assert!(tier.files().iter().all(|file| file.level > 0));
    for version in 5..11 {
        absorb(version);
    }
    assert!(matches!(tier.pressure(), Pressure::Slow { .. }), "{:?}", tier.pressure());
    for key in &keys {
        assert_eq!(tier.get(MULTI, key.as_bytes(), Version(7)).unwrap().version(), Some(Version(7)));
    }
}

/// A table that is large enough has its files for itself, so that clearing it rewrites nothing.
#[test]
fn large_tables_have_files_of_their_own_and_go_with_them() {
    let tier = open(&SimDisk::new(1), WarmOptions { file_size_bytes: 8 << 10, ..small() }).unwrap();
    let keys: Vec<String> = (0..150).map(|key| format!("{key:06}")).collect();
    for (version, table) in [(1, MULTI), (2, SOURCE)] {
        let writes: Vec<_> = keys.iter().map(|key| (table, key.as_bytes(), Some(&b"a value of some length"[..]))).collect();
        let model = ModelTier::new();
        model.set(&batch(version, &writes)).unwrap();
        tier.absorb(&model, Checkpoint { version: Version(version), ..Checkpoint::default() }).unwrap();
    }
    compact(&tier).unwrap();
    let of = |table| tier.files().iter().filter(|file| file.tables.iter().any(|(of, _)| *of == table)).count();
    assert!(tier.files().iter().all(|file| file.tables.len() == 1), "{:?}", tier.files());
    let (kept, written) = (of(SOURCE), tier.counters().rewritten_bytes);
    assert!(of(MULTI) > 0 && kept > 0);
    tier.clear_table(MULTI).unwrap();
    while tier.step().unwrap() {}
    assert_eq!((of(MULTI), of(SOURCE), tier.counters().rewritten_bytes), (0, kept, written));
}
