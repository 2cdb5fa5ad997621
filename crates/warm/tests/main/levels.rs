//! What is rewritten next: no level is left to grow.

use thermocline_conformance::ModelTier;
use thermocline_io::SimDisk;
use thermocline_tier::{Checkpoint, DurableTier, TierStorage, Version};
use thermocline_warm::{WarmOptions, WarmTier};

use crate::backends::{open, small};
use crate::support::{MULTI, Random, batch};

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
        while tier.files().iter().filter(|file| file.level == 0).count() < options.level0_files {
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
