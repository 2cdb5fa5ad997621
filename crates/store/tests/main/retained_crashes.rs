//! A power cut at every operation of runs that move horizons, make and release pins, and follow with a consumer, between commits,
//! flushes and rewrites.
//!
//! Hunts: a pin, a horizon or a checkpoint that was acknowledged and is forgotten; a version that is reclaimed, or a log that is cut, before
//! what allows it is durable; a consumer that misses a commit or the value before it.

use std::collections::BTreeMap;

use thermocline_io::{CrashPoint, CrashProfile, Phase, SimDisk};
use thermocline_store::{Batch, CommitOptions, Consumer, ConsumerOptions, Durability, Holding, Store};
use thermocline_tier::{ErrorKind, KeyRange, Version};

use super::story::{Below, Numbers, Setup, open_as};
use super::{T, U};

/// What was promised when an operation was acknowledged.
#[derive(Clone, Debug, Default)]
struct Promised {
    last: u64,
    horizon: u64,
    /// By name; the version is that of the pin.
    pins: BTreeMap<String, u64>,
    /// Of the consumer.
    position: u64,
}

fn options() -> ConsumerOptions {
    ConsumerOptions { since: Some(Version::ZERO), holding: Holding::All, with_previous: true, ..ConsumerOptions::default() }
}

/// One step; the state that it promises.
fn step(store: &Store, view: &mut Consumer, numbers: &mut Numbers, mut promised: Promised) -> Promised {
    match numbers.below(12) {
        0..4 => {
            promised.last += 1;
            let mut batch = Batch::new();
            batch.put(T, b"k", promised.last.to_string().as_bytes()).put(U, b"k", promised.last.to_string().as_bytes());
            store.commit_with(batch, CommitOptions { durability: Some(Durability::Sync), version: None }).unwrap();
        }
        4 | 5 => store.flush().unwrap(),
        6 => store.compact(T, &KeyRange::all()).unwrap(),
        7 => {
            promised.horizon = promised.horizon.max(promised.last.saturating_sub(numbers.below(3)));
            store.set_horizon(Version(promised.horizon)).unwrap();
        }
        8 => {
            let (name, version) = (format!("pin {}", numbers.below(3)), promised.last.saturating_sub(numbers.below(4)));
            if store.pin(&name, Version(version)).is_ok() {
                promised.pins.insert(name, version);
            }
        }
        9 => {
            let name = format!("pin {}", numbers.below(3));
            if promised.pins.remove(&name).is_some() {
                store.release_pin(&name).unwrap();
            }
        }
        _ => {
            view.poll().unwrap();
            let back = numbers.below(3);
            promised.position = promised.position.max(view.delivered().0.saturating_sub(back));
            view.checkpoint(Version(promised.position)).unwrap();
        }
    }
    promised
}

/// Compares what a power cut left with what was promised before it, and with what was under way.
fn check(store: &Store, has_files: bool, before: &Promised, after: &Promised, repro: &str) {
    let last = store.last_version().0;
    assert!((before.last..=after.last).contains(&last), "{repro}: last version {last}");
    let horizon = store.horizon().0;
    assert!((before.horizon..=after.horizon).contains(&horizon), "{repro}: horizon {horizon}");
    let position = store.consumers()[0].state.position.0;
    // Over files commits are in memory by default, and so is a checkpoint, until what it held may go.
    let least = if has_files { 0 } else { before.position };
    assert!((least..=after.position).contains(&position), "{repro}: position {position}");
    let kept = before.pins.iter().filter(|(name, version)| after.pins.get(*name) == Some(*version));
    let kept: Vec<u64> = kept.map(|(_, version)| *version).collect();
    assert!(kept.iter().all(|kept| store.pins().iter().any(|(_, pin)| pin.versions.first().0 == *kept)), "{repro}: {kept:?}");
    for version in 1..=last {
        for table in [T, U] {
            match store.get_at(table, b"k", Version(version)) {
                Ok(value) => {
                    assert_eq!(value.as_deref(), Some(version.to_string().as_bytes()), "{repro}: at {version} of {table}");
                }
                Err(error) => {
                    assert!(matches!(error.kind(), ErrorKind::VersionReclaimed { .. }), "{repro}: {error}");
                    let is_promised = version >= after.horizon || version >= position || kept.contains(&version);
                    assert!(!is_promised, "{repro}: {version} of {table} is gone");
                }
            }
        }
    }
    let mut view = store.consumer("view", options()).unwrap_or_else(|error| panic!("{repro}: {error}"));
    let batch = view.poll().unwrap_or_else(|error| panic!("{repro}: {error}"));
    let commits: Vec<u64> = batch.commits.iter().map(|commit| commit.version.0).collect();
    assert_eq!(commits, (position + 1..=last).collect::<Vec<_>>(), "{repro}");
    for (version, previous) in commits.iter().zip(&batch.previous) {
        let expected = (*version > 1).then(|| (version - 1).to_string());
        let is_expected = |value: &Option<bytes::Bytes>| value.as_deref() == expected.as_ref().map(String::as_bytes);
        assert!(previous.iter().all(is_expected), "{repro}: before {version}");
    }
}

fn sweep(setup: Setup, seed: u64, steps: usize) {
    let (disk, mut numbers) = (SimDisk::new(seed), Numbers(seed));
    let mut states = vec![Promised::default()];
    let mut store = open_as(&disk, setup).unwrap();
    let mut view = store.consumer("view", options()).unwrap();
    disk.mark(0);
    for number in 0..steps {
        if number % 13 == 12 {
            drop((view, store));
            store = open_as(&disk, setup).unwrap();
            view = store.consumer("view", options()).unwrap();
        }
        let next = step(&store, &mut view, &mut numbers, states[number].clone());
        states.push(next);
        disk.mark(states.len() as u64 - 1);
        store.run_until_idle();
    }
    let recording = disk.recording();
    let (mut walk, mut images) = (recording.sweep(), 0_u64);
    for operation in 0..=recording.operations() {
        for phase in [Phase::Before, Phase::Inside, Phase::After] {
            let cut = CrashPoint { operation, phase };
            // Before that there is no consumer.
            let Some(mark) = recording.last_mark_before(cut) else { continue };
            let before = &states[usize::try_from(mark).unwrap()];
            let after = states.get(usize::try_from(mark).unwrap() + 1).unwrap_or(before);
            let profile = CrashProfile::numbered(images);
            let repro = format!("{setup:?} seed {seed} {cut:?} {profile:?}");
            let image = walk.crash_image(cut, profile, images);
            let store = open_as(&image, setup).unwrap_or_else(|error| panic!("{repro}: {error}"));
            check(&store, setup != Setup::Hot, before, after, &repro);
            images += 1;
        }
    }
    let end = states.last().unwrap();
    println!("{setup:?} seed {seed}: {images} images of {} operations; at the end {end:?}", recording.operations());
    assert!(end.last > 5 && end.horizon > 0 && end.position > 0, "{end:?}");
}

#[test]
fn a_power_cut_anywhere_breaks_no_promise_of_a_pin_a_horizon_or_a_consumer() {
    for (seed, setup) in [
        (71, Setup::Hot),
        (72, Setup::Over(Below::Warm, 1)),
        (92, Setup::Over(Below::Warm, 1)),
        (73, Setup::Over(Below::Warm, 2_000)),
        (74, Setup::Over(Below::Model, 2_000)),
        (75, Setup::Alone(Below::Warm, 2_000)),
    ] {
        sweep(setup, seed, 60);
    }
}
