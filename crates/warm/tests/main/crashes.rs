//! A power cut at every operation of scripted runs: what was answered is there, each act is whole or not at all, and nothing
//! stays in the directory that the manifest does not name, also if recovery itself is cut.
//!
//! Hunts: answering before the sync; names that were never made durable; files removed before the manifest that does without them
//! is durable; a recovery that destroys what it recovers from.
//!
//! `THERMOCLINE_SWEEP_SEEDS` sets how many images are made at each cut.

use std::sync::Arc;

use thermocline_io::{CrashPoint, CrashProfile, Phase, SectorSize, SimDisk, Survival};
use thermocline_tier::{DurableTier, TierStorage};

use crate::backends::{compact, open};
use crate::script::{Look, Run};
use crate::support::{MULTI, check_no_orphans, one};

/// Images at each cut, unless the environment says otherwise.
const SEEDS: u64 = 1;
/// Of how many images one is cut again while it recovers.
const NESTED_EVERY: u64 = 40;
/// At how many places a recovery is cut.
const NESTED_CUTS: usize = 6;
const PHASES: [Phase; 3] = [Phase::Before, Phase::Inside, Phase::After];

fn seeds() -> u64 {
    std::env::var("THERMOCLINE_SWEEP_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SEEDS)
}

/// Opens what a power cut left. It must be what was there after one of the acts in `acts`; gives back which.
fn check_image(run: &Run, image: &SimDisk, acts: std::ops::RangeInclusive<usize>, depth: u32, images: &mut u64, repro: &str) {
    *images += 1;
    let tier = Arc::new(open(image, run.options.clone()).unwrap_or_else(|error| panic!("{repro}: {error}")));
    let look = Look::of_tier(&tier).unwrap_or_else(|error| panic!("{repro}: {error}"));
    let possible = &run.looks[*acts.start()..=(*acts.end()).min(run.looks.len() - 1)];
    let Some(found) = possible.iter().position(|possible| **possible == look) else {
        let act = run.acts.get(acts.start());
        panic!("{repro}, during {act:?}:\nfound\n{look:#?}\nexpected\n{possible:#?}");
    };
    check_no_orphans(image, &tier).unwrap_or_else(|why| panic!("{repro}: {why}"));
    let operations = image.operations();
    if (*images).is_multiple_of(8) {
        look.check_scan(&tier).unwrap();
        tier.verify().unwrap_or_else(|error| panic!("{repro}: {error}"));
    }
    if (*images).is_multiple_of(16) {
        // It can go on.
        compact(&tier).unwrap();
        assert!(Look::of_tier(&tier).unwrap() == look, "{repro}: a rewrite changed something");
        tier.set(&one(1 << 40, MULTI, "later=1")).unwrap();
        assert!(tier.contains(MULTI, b"later", thermocline_tier::Version::MAX).unwrap());
        drop(tier);
        let tier = open(image, run.options.clone()).unwrap();
        assert!(tier.contains(MULTI, b"later", thermocline_tier::Version::MAX).unwrap(), "{repro}");
        check_no_orphans(image, &tier).unwrap_or_else(|why| panic!("{repro}: {why}"));
    } else {
        drop(tier);
    }
    if depth == 0 {
        return;
    }
    let mut sweep = image.recording().sweep();
    let stride = operations / NESTED_CUTS + 1;
    // The end is always among the places: what recovery has shown must stay.
    for operation in (0..operations).step_by(stride).chain([operations]) {
        let profile = CrashProfile::numbered(u64::from(depth) + operation as u64);
        let cut = CrashPoint { operation, phase: PHASES[operation % 3] };
        let nested = sweep.crash_image(cut, profile, operation as u64);
        let found = acts.start() + found;
        let acts = if operation == operations { found..=found } else { acts.clone() };
        check_image(run, &nested, acts, depth - 1, images, &format!("{repro}, then {cut:?} {profile:?}"));
    }
}

/// A profile that every correct device may have.
fn correct(number: u64) -> CrashProfile {
    CrashProfile::numbered(number)
}

/// Devices that spoil whole sectors around what they write.
fn torn(number: u64) -> CrashProfile {
    let survival = match number % 4 {
        0 => Survival::Random { per_mille: 500 },
        1 => Survival::AllButOne,
        2 => Survival::Prefix,
        _ => Survival::Random { per_mille: 100 },
    };
    let sector = if number % 8 < 4 { SectorSize::Bytes512 } else { SectorSize::Bytes4096 };
    CrashProfile::new(survival).sector(sector).garbage_per_mille(200).torn_overwrites()
}

fn sweep(seed: u64, acts: usize, reopen_every: usize, profile: fn(u64) -> CrashProfile) {
    let run = Run::play(seed, acts, reopen_every);
    let recording = run.disk.recording();
    let (mut walk, mut images, mut all) = (recording.sweep(), 0_u64, 0_u64);
    for operation in 0..=recording.operations() {
        for phase in PHASES {
            let cut = CrashPoint { operation, phase };
            let answered = recording.last_mark_before(cut).unwrap_or(0) as usize;
            for number in 0..seeds() {
                // Each cut draws other profiles, so that all of them meet every kind of operation.
                let profile = profile(number + 5 * operation as u64 + phase as u64);
                let image = walk.crash_image(cut, profile, number);
                images += 1;
                let depth = if images % NESTED_EVERY == 0 { 2 } else { 0 };
                let repro = format!("seed {seed} {cut:?} {profile:?} {number}");
                check_image(&run, &image, answered..=answered + 1, depth, &mut all, &repro);
            }
        }
    }
    let operations = recording.operations();
    println!(
        "seed {seed}: power cut at every one of {operations} operations, {images} images and {} of recoveries",
        all - images
    );
}

#[test]
fn a_power_cut_anywhere_loses_nothing_that_was_answered() {
    for seed in 1..=3 {
        sweep(seed, 40, usize::MAX, correct);
    }
}

#[test]
fn a_power_cut_anywhere_around_reopening_loses_nothing() {
    for seed in 11..=13 {
        sweep(seed, 30, 6, correct);
    }
}

#[test]
fn a_device_that_spoils_what_is_next_to_its_writes_harms_nothing_that_was_answered() {
    for seed in 31..=32 {
        sweep(seed, 25, 9, torn);
    }
}

#[test]
fn a_killed_process_loses_nothing() {
    for seed in 21..=22 {
        let run = Run::play(seed, 40, 15);
        let recording = run.disk.recording();
        let (mut walk, mut images) = (recording.sweep(), 0);
        for operation in 0..=recording.operations() {
            for phase in PHASES {
                let cut = CrashPoint { operation, phase };
                let answered = recording.last_mark_before(cut).unwrap_or(0) as usize;
                let image = walk.kill_image(cut, seed);
                check_image(&run, &image, answered..=answered + 1, 0, &mut images, &format!("seed {seed} {cut:?} killed"));
            }
        }
        println!("seed {seed}: killed at every one of {} operations, {images} images", recording.operations());
    }
}

#[test]
fn the_same_seed_makes_the_same_run() {
    let fingerprint = |seed| Run::play(seed, 40, 15).disk.recording().fingerprint();
    assert_eq!(fingerprint(5), fingerprint(5));
    assert_ne!(fingerprint(5), fingerprint(6));
}
