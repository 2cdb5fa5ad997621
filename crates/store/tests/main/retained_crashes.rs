//! A power cut at every operation of runs that move horizons, make and release pins, and follow with a consumer, between commits,
//! flushes and rewrites; and of runs that have things removed in every way there is.
//!
//! Hunts: a pin, a horizon or a checkpoint that was acknowledged and is forgotten; a version that is reclaimed, or a log that is cut, before
//! what allows it is durable; a consumer that misses a commit or the value before it.

use std::collections::BTreeMap;
use std::time::Duration;

use thermocline_io::{CrashPoint, CrashProfile, Phase, SimDisk};
use thermocline_store::{
    Batch, ChangeBatch, CommitOptions, Consumer, ConsumerOptions, Durability, Holding, PinRequest, PolicyScope, Retention, Scope,
    Store, StoreOptions,
};
use thermocline_tier::{DropRule, EntryKind, Error, ErrorKind, KeyRange, Version};

use super::story::{Below, Numbers, Setup, open_as};
use super::tiered::{hot, open_tiers, options as options_of_tiers};
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
    check_commits(&batch, position + 1..=last, repro);
}

/// A batch has these commits, and before each write what the commit before it wrote.
fn check_commits(batch: &ChangeBatch, expected: std::ops::RangeInclusive<u64>, repro: &str) {
    let commits: Vec<u64> = batch.commits.iter().map(|commit| commit.version.0).collect();
    assert_eq!(commits, expected.collect::<Vec<_>>(), "{repro}");
    for (version, previous) in commits.iter().zip(&batch.previous) {
        let expected = (*version > 1).then(|| (version - 1).to_string());
        let is_expected = |value: &Option<bytes::Bytes>| value.as_deref() == expected.as_ref().map(String::as_bytes);
        assert!(previous.iter().all(is_expected), "{repro}: before {version}");
    }
}

/// Hands to `visit` what a power cut before, inside and after each operation leaves, with the number of the last mark before it, which image
/// it is, and what cut it was. From the first mark on; how many there were.
pub(super) fn cut_everywhere(disk: &SimDisk, mut visit: impl FnMut(&SimDisk, usize, u64, &str)) -> u64 {
    let recording = disk.recording();
    let (mut walk, mut images) = (recording.sweep(), 0);
    for operation in 0..=recording.operations() {
        for phase in [Phase::Before, Phase::Inside, Phase::After] {
            let cut = CrashPoint { operation, phase };
            let Some(mark) = recording.last_mark_before(cut) else { continue };
            let profile = CrashProfile::numbered(images);
            let image = walk.crash_image(cut, profile, images);
            visit(&image, usize::try_from(mark).unwrap(), images, &format!("{cut:?} {profile:?}"));
            images += 1;
        }
    }
    images
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
    let images = cut_everywhere(&disk, |image, step, _number, what| {
        let (before, after) = (&states[step], states.get(step + 1).unwrap_or(&states[step]));
        let repro = format!("{setup:?} seed {seed} {what}");
        let store = open_as(image, setup).unwrap_or_else(|error| panic!("{repro}: {error}"));
        check(&store, setup != Setup::Hot, before, after, &repro);
    });
    let end = states.last().unwrap();
    println!("{setup:?} seed {seed}: {images} images; at the end {end:?}");
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

/// A consumer that may be left behind: whatever a power cut leaves, it is given every commit after its checkpoint, or told.
fn sweep_overtaken(setup: Setup, seed: u64, steps: usize) {
    let options = || ConsumerOptions { holding: Holding::Overtake(400), ..options() };
    let is_overtaken = |error: &Error| matches!(error.kind(), ErrorKind::Overtaken { .. });
    let commit = |store: &Store, version: u64| {
        let mut batch = Batch::new();
        batch.put(T, b"k", version.to_string().as_bytes());
        store.commit_with(batch, CommitOptions { durability: Some(Durability::Sync), version: None }).unwrap();
    };
    let (disk, mut numbers) = (SimDisk::new(seed), Numbers(seed));
    let (mut lasts, mut overtaken) = (vec![0], 0);
    let mut store = open_as(&disk, setup).unwrap();
    let mut view = store.consumer("view", options()).unwrap();
    disk.mark(0);
    for number in 0..steps {
        if number % 11 == 10 {
            drop((view, store));
            store = open_as(&disk, setup).unwrap();
            view = store.consumer("view", options()).unwrap();
        }
        let mut last = lasts[number];
        match numbers.below(12) {
            0..7 => {
                last += 1;
                commit(&store, last);
            }
            7 | 8 => store.flush().unwrap(),
            9 => store.set_horizon(Version(last)).unwrap(),
            _ => match view.poll() {
                Ok(_) => view.checkpoint(view.delivered()).unwrap(),
                Err(error) if is_overtaken(&error) => {
                    overtaken += 1;
                    let snapshot = view.resynchronize().unwrap();
                    view.checkpoint(snapshot.version()).unwrap();
                }
                Err(error) => panic!("{error}"),
            },
        }
        lasts.push(last);
        disk.mark(lasts.len() as u64 - 1);
        store.run_until_idle();
    }
    let mut told = 0;
    let images = cut_everywhere(&disk, |image, step, _number, what| {
        let repro = format!("{setup:?} seed {seed} {what}");
        let store = open_as(image, setup).unwrap_or_else(|error| panic!("{repro}: {error}"));
        let last = store.last_version().0;
        assert!((lasts[step]..=*lasts.get(step + 1).unwrap_or(&lasts[step])).contains(&last), "{repro}: {last}");
        let mut view = store.consumer("view", options()).unwrap_or_else(|error| panic!("{repro}: {error}"));
        let mut first = view.delivered().0 + 1;
        let mut batch = view.poll();
        if let Err(error) = &batch {
            assert!(is_overtaken(error), "{repro}: {error}");
            told += 1;
            let snapshot = view.resynchronize().unwrap_or_else(|error| panic!("{repro}: {error}"));
            let value = (last > 0).then(|| last.to_string());
            assert_eq!(snapshot.get(T, b"k").unwrap().as_deref(), value.as_ref().map(String::as_bytes), "{repro}");
            commit(&store, last + 1);
            first = last + 1;
            batch = view.poll();
        }
        let batch = batch.unwrap_or_else(|error| panic!("{repro}: {error}"));
        check_commits(&batch, first..=store.last_version().0, &repro);
    });
    println!("{setup:?} seed {seed}: {images} images, {told} told; overtaken {overtaken} times");
    assert!(told > 0 && told < images && overtaken > 0, "{told} of {images}, {overtaken}");
}

#[test]
fn a_power_cut_anywhere_makes_a_consumer_that_may_be_left_behind_miss_nothing_unsaid() {
    for (seed, setup) in [(61, Setup::Hot), (62, Setup::Over(Below::Warm, 1)), (63, Setup::Over(Below::Warm, 2_000))] {
        sweep_overtaken(setup, seed, 60);
    }
}

const KEYS: [&str; 3] = ["a", "b", "c"];

/// What every key of both tables has at a version.
type State = BTreeMap<(EntryKind, &'static str), u64>;

/// A run that has things removed in every way there is, and what was promised.
#[derive(Clone, Debug)]
struct Removed {
    /// After each commit.
    states: Vec<State>,
    horizon: u64,
    /// Whether some policy of U may have let anything go but the latest.
    is_thinned: bool,
    /// Versions of U.
    pins: BTreeMap<String, u64>,
    /// Of `a` in T all below may have been dropped but its newest version.
    dropped_below: u64,
}

impl Removed {
    fn last(&self) -> u64 {
        self.states.len() as u64 - 1
    }

    fn commit(&mut self, store: &Store, numbers: &mut Numbers) {
        let version = self.last() + 1;
        let (mut batch, mut state) = (Batch::new(), self.states[self.states.len() - 1].clone());
        if numbers.below(6) == 0 {
            batch.clear_table(U);
            state.retain(|(table, _), _| *table != U);
        }
        for table in [T, U] {
            for key in KEYS {
                match numbers.below(5) {
                    0..2 => {
                        batch.put(table, key.as_bytes(), version.to_string().as_bytes());
                        state.insert((table, key), version);
                    }
                    2 => {
                        batch.remove(table, key.as_bytes());
                        state.remove(&(table, key));
                    }
                    _ => {}
                }
            }
        }
        if numbers.below(5) == 0 {
            self.dropped_below = version;
            batch.drop_versions(T, b"a", DropRule { up_to: Some(Version(version)), keep_last: Some(1), ..DropRule::default() });
        }
        store.commit_with(batch, CommitOptions { durability: Some(Durability::Sync), version: None }).unwrap();
        self.states.push(state);
    }

    fn step(&mut self, store: &Store, numbers: &mut Numbers) {
        match numbers.below(12) {
            0..5 => self.commit(store, numbers),
            5 => store.flush().unwrap(),
            6 => store.compact(U, &KeyRange::all()).unwrap(),
            7 => {
                self.horizon = self.horizon.max(self.last().saturating_sub(numbers.below(3)));
                store.set_horizon(Version(self.horizon)).unwrap();
            }
            8 => {
                let policies = [None, Some(Retention::LatestOnly), Some(Retention::NewestVersions(2))];
                let policy = policies[usize::try_from(numbers.below(3)).unwrap()].clone();
                self.is_thinned |= policy.is_some();
                store.set_retention(PolicyScope::Table(U), policy).unwrap();
            }
            9 => {
                let (name, version) = (format!("pin {}", numbers.below(2)), self.last().saturating_sub(numbers.below(4)));
                let request = PinRequest { scope: Scope::Table(U), ..PinRequest::one(Version(version)) };
                if store.pin_with(&name, request).is_ok() {
                    self.pins.insert(name, version);
                }
            }
            10 => {
                let name = format!("pin {}", numbers.below(2));
                if self.pins.remove(&name).is_some() {
                    store.release_pin(&name).unwrap();
                }
            }
            _ => store.run_until_idle(),
        }
    }

    /// Compares what a power cut left with this, which was under way, and with what was promised before.
    fn check(&self, store: &Store, before: &Self, repro: &str) {
        let last = store.last_version().0;
        assert!((before.last()..=self.last()).contains(&last), "{repro}: last version {last}");
        assert!((before.horizon..=self.horizon).contains(&store.horizon().0), "{repro}: horizon {}", store.horizon());
        let is_kept = |version: u64| before.pins.iter().any(|(name, pin)| *pin == version && self.pins.get(name) == Some(pin));
        for (version, state) in (0..=last).zip(&self.states) {
            for table in [T, U] {
                let may_be_gone = version < self.horizon || table == U && self.is_thinned && version < last;
                for key in KEYS {
                    let expected = state.get(&(table, key)).map(u64::to_string);
                    let repro = || format!("{repro}: {key} of {table} at {version}");
                    match store.get_at(table, key.as_bytes(), Version(version)) {
                        Ok(found) => {
                            let is_right = found.as_deref() == expected.as_ref().map(String::as_bytes);
                            // The command that was under way may or may not have been one.
                            let is_dropped = found.is_none() && (table, key) == (T, "a") && version < self.dropped_below;
                            assert!(is_right || is_dropped, "{}: {found:?}, not {expected:?}", repro());
                        }
                        Err(error) => {
                            assert!(matches!(error.kind(), ErrorKind::VersionReclaimed { .. }), "{}: {error}", repro());
                            assert!(may_be_gone && !(table == U && is_kept(version)), "{} is gone", repro());
                        }
                    }
                }
            }
        }
    }
}

fn sweep_removals(below: Option<Below>, seed: u64, steps: usize) {
    let (disk, mut numbers) = (SimDisk::new(seed), Numbers(seed));
    // Whatever need not be kept must be gone at once.
    let options = StoreOptions { garbage_max_age: Some(Duration::ZERO), hot_budget_bytes: Some(500), ..options_of_tiers() };
    let open = |disk: &SimDisk| {
        let tiers = below.map_or_else(hot, |below| hot().over(move |request| below.open(request)));
        open_tiers(disk, tiers, options.clone())
    };
    let (states, pins) = (vec![State::new()], BTreeMap::new());
    let mut runs = vec![Removed { states, horizon: 0, is_thinned: false, pins, dropped_below: 0 }];
    let mut store = open(&disk).unwrap();
    disk.mark(0);
    for number in 0..steps {
        if number % 17 == 16 {
            drop(store);
            store = open(&disk).unwrap();
        }
        let mut next = runs[number].clone();
        next.step(&store, &mut numbers);
        runs.push(next);
        disk.mark(runs.len() as u64 - 1);
    }
    let images = cut_everywhere(&disk, |image, step, number, what| {
        let (before, after) = (&runs[step], runs.get(step + 1).unwrap_or(&runs[step]));
        let repro = format!("{below:?} seed {seed} {what}");
        let store = open(image).unwrap_or_else(|error| panic!("{repro}: {error}"));
        after.check(&store, before, &repro);
        // And what is removed from now on, is removed by what is known.
        if number % 8 == 0 {
            store.run_until_idle();
            after.check(&store, before, &repro);
        }
    });
    let end = runs.last().unwrap();
    println!("{below:?} seed {seed}: {images} images");
    assert!(end.last() > 10 && end.horizon > 0 && end.is_thinned && end.dropped_below > 0, "{end:?}");
}

#[test]
fn a_power_cut_anywhere_in_removals_leaves_right_answers_and_what_was_promised() {
    for (seed, below) in [(81, None), (82, Some(Below::Warm)), (83, Some(Below::Warm)), (84, Some(Below::Model))] {
        sweep_removals(below, seed, 70);
    }
}
