//! A power cut at every operation of scripted runs: no acknowledged commit is lost, none is torn, and there are no holes, also if
//! recovery itself is cut.
//!
//! Hunts: acknowledging before the sync; a directory entry that was never made durable; trusting what can be read back after
//! a failed sync; stopping in the wrong place at a torn tail; a recovery that destroys what it recovers from; a log that is cut
//! before what was flushed is durable; a checkpoint ahead of the log; a purge that one of two tiers forgets.
//!
//! `THERMOCLINE_SWEEP_SEEDS` sets how many images are made at each cut.

use thermocline_io::{CrashPoint, CrashProfile, Phase, SimDisk};
use thermocline_tier::Version;

use super::story::{Below, Numbers, Setup, Story, open, open_as};

/// Images at each cut, unless the environment says otherwise.
const SEEDS: u64 = 3;
/// Of how many images one is cut again while it recovers.
const NESTED_EVERY: u64 = 40;
/// At how many places a recovery is cut.
const NESTED_CUTS: usize = 6;
const PHASES: [Phase; 3] = [Phase::Before, Phase::Inside, Phase::After];

fn seeds() -> u64 {
    std::env::var("THERMOCLINE_SWEEP_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SEEDS)
}

/// Opens what a power cut left and checks it, then cuts the recovery too, to `depth` levels. Returns the images that were opened.
fn check_image(story: &Story, setup: Setup, image: &SimDisk, durable: Version, depth: u32, repro: &str) -> u64 {
    let store = open_as(image, setup).unwrap_or_else(|error| panic!("{repro}: {error}"));
    story.check(&store, durable, &repro);
    let recovered = store.last_version();
    let operations = image.operations();
    // A reader has seen it now, so it may not be lost again: opening must have made it durable.
    drop(store);
    let mut images = 1;
    if depth == 0 {
        return images;
    }
    let mut sweep = image.recording().sweep();
    let stride = operations / NESTED_CUTS + 1;
    // The end is always among the places: what recovery has shown must stay.
    for operation in (0..operations).step_by(stride).chain([operations]) {
        let profile = CrashProfile::numbered(u64::from(depth) + operation as u64);
        let cut = CrashPoint { operation, phase: PHASES[operation % 3] };
        let nested = sweep.crash_image(cut, profile, operation as u64);
        let least = if operation == operations { recovered } else { durable };
        images += check_image(story, setup, &nested, least, depth - 1, &format!("{repro}, then {cut:?} {profile:?}"));
    }
    images
}

/// Cuts a run of `steps` steps that closes and reopens the store `reopens` times.
fn sweep(setup: Setup, seed: u64, steps: usize, reopens: usize) {
    let (disk, mut story, mut numbers) = (SimDisk::new(seed), Story::new(setup), Numbers(seed));
    for reopen in 0..=reopens {
        let store = open_as(&disk, setup).unwrap();
        story.run(&store, &disk, steps, &mut numbers);
        if reopen % 2 == 0 {
            store.close().unwrap();
            story.durable = store.last_version();
            disk.mark(story.durable.0);
        }
    }
    let recording = disk.recording();
    let (mut walk, mut images, mut nested) = (recording.sweep(), 0_u64, 0_u64);
    for operation in 0..=recording.operations() {
        for phase in PHASES {
            let cut = CrashPoint { operation, phase };
            let durable = Version(recording.last_mark_before(cut).unwrap_or(0));
            for number in 0..seeds() {
                // Each cut draws other profiles, so that all of them meet every kind of operation.
                let profile = CrashProfile::numbered(number + 5 * operation as u64);
                let image = walk.crash_image(cut, profile, number);
                images += 1;
                let depth = if images % NESTED_EVERY == 0 { 2 } else { 0 };
                let repro = format!("{setup:?} seed {seed} {cut:?} {profile:?} {number}");
                nested += check_image(&story, setup, &image, durable, depth, &repro) - 1;
            }
        }
    }
    println!(
        "{setup:?} seed {seed}: power cut at every one of {} operations, {images} images and {nested} of recoveries: 0 lost, 0 torn",
        recording.operations()
    );
}

#[test]
fn a_power_cut_anywhere_loses_nothing_that_was_acknowledged() {
    for seed in 1..=3 {
        sweep(Setup::Hot, seed, 60, 0);
    }
}

#[test]
fn a_power_cut_anywhere_around_closing_and_reopening_loses_nothing() {
    for seed in 11..=13 {
        sweep(Setup::Hot, seed, 15, 4);
    }
}

#[test]
fn a_power_cut_anywhere_around_flushes_loses_nothing() {
    for (seed, budget) in [(31, 1), (32, 1_000), (33, 4_000)] {
        sweep(Setup::Over(Below::Model, budget), seed, 40, 0);
    }
}

#[test]
fn a_power_cut_anywhere_around_flushes_and_reopening_loses_nothing() {
    for (seed, budget) in [(41, 1), (42, 2_000)] {
        sweep(Setup::Over(Below::Model, budget), seed, 12, 4);
    }
}

#[test]
fn a_power_cut_anywhere_in_a_durable_tier_alone_loses_nothing() {
    for (seed, budget) in [(51, 1), (52, 2_000)] {
        sweep(Setup::Alone(Below::Model, budget), seed, 12, 3);
    }
}

#[test]
fn a_power_cut_anywhere_over_warm_loses_nothing() {
    sweep(Setup::Over(Below::Warm, 1), 61, 30, 0);
    sweep(Setup::Over(Below::Warm, 2_000), 62, 10, 3);
    sweep(Setup::Alone(Below::Warm, 2_000), 63, 10, 2);
}

#[test]
fn a_killed_process_loses_nothing_that_reached_the_system() {
    let over = |below| [Setup::Over(below, 1), Setup::Over(below, 2_000), Setup::Alone(below, 2_000)];
    let setups = [Setup::Hot, Setup::Hot].into_iter().chain(over(Below::Model)).chain(over(Below::Warm));
    for (seed, setup) in (21..).zip(setups) {
        let (disk, mut story) = (SimDisk::new(seed), Story::new(setup));
        let store = open_as(&disk, setup).unwrap();
        story.run(&store, &disk, 80, &mut Numbers(seed));
        let recording = disk.recording();
        let mut walk = recording.sweep();
        for operation in 0..=recording.operations() {
            for phase in PHASES {
                let cut = CrashPoint { operation, phase };
                let durable = Version(recording.last_mark_before(cut).unwrap_or(0));
                let repro = format!("{setup:?} seed {seed} {cut:?} killed");
                check_image(&story, setup, &walk.kill_image(cut, seed), durable, 0, &repro);
            }
        }
    }
}

#[test]
fn the_same_seed_makes_the_same_run() {
    let fingerprint = |seed| {
        let (disk, mut story) = (SimDisk::new(seed), Story::new(Setup::Hot));
        story.run(&open(&disk).unwrap(), &disk, 60, &mut Numbers(seed));
        disk.recording().fingerprint()
    };
    assert_eq!(fingerprint(5), fingerprint(5));
    assert_ne!(fingerprint(5), fingerprint(6));
}
