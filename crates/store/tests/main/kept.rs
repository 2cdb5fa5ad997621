//! Random commits, clears, horizons, policies, pins of every kind with and without leases, snapshots, consumers, flushes, rewrites, restarts
//! and time that passes; at the end of each stretch everything is rewritten, and what is stored is compared with what the reads that are
//! allowed see: no more and no less.
//!
//! What is kept is reckoned here from the definition, read by read, and not as the store does it.
//!
//! Hunts: a version that goes although somebody may read it; one that stays although nobody may; a pin or policy of one table that keeps, or
//! takes, another's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use thermocline_io::{Clock, Environment, SimClock, SimDisk};
use thermocline_store::{
    Batch, Consumer, ConsumerOptions, Holding, PinRequest, PinVersions, PolicyScope, Retention, Rung, Scope, Snapshot, Store,
};
use thermocline_tier::{DropRule, EntryKind, ErrorKind, KeyRange, Version};

use super::story::{Below, Numbers, Setup, open_as, open_in};
use super::{T, commit};

const OTHER: EntryKind = EntryKind::source(5);
const STATE: EntryKind = EntryKind::operator(2);
const TABLES: [EntryKind; 3] = [T, OTHER, STATE];
/// Up to which age the ladder of these tests keeps all, in seconds.
const WHOLE_SECONDS: u64 = 60;
const KEYS: [&str; 5] = ["a", "b", "c", "d", "e"];

type Place = (EntryKind, &'static str);

fn places() -> impl Iterator<Item = Place> {
    TABLES.into_iter().flat_map(|table| KEYS.into_iter().map(move |key| (table, key)))
}

#[derive(Default)]
struct Model {
    last: u64,
    /// Seconds since the start.
    now: u64,
    /// When each commit was made, in order: versions begin with 1.
    times: Vec<u64>,
    /// The horizons that policies and the store's own may have given to each table so far, at most.
    horizons: BTreeMap<EntryKind, u64>,
    /// All that was ever written: versions, oldest first, each with whether it is a value.
    written: BTreeMap<Place, Vec<(u64, bool)>>,
    clears: BTreeMap<EntryKind, Vec<u64>>,
}

impl Model {
    /// The entry that a read at `at` finds, if it was not cleared.
    fn seen(&self, place: Place, at: u64) -> Option<(u64, bool)> {
        let entry = *self.written.get(&place)?.iter().rev().find(|(version, _)| *version <= at)?;
        let is_cleared =
            self.clears.get(&place.0).is_some_and(|clears| clears.iter().any(|clear| (entry.0 + 1..=at).contains(clear)));
        (!is_cleared).then_some(entry)
    }

    /// The last version that is so many seconds old.
    fn version_of_age(&self, seconds: u64) -> u64 {
        let until = self.now.saturating_sub(seconds);
        self.times.partition_point(|time| *time <= until) as u64
    }

    /// Follows a round in which policies and leases were looked at, and checks that no horizon went further than it may, nor less far than
    /// it must.
    fn follow(&mut self, store: &Store, readers: &mut Vec<Reader>, context: &str) {
        for table in TABLES {
            let (at_least, at_most) = match store.retention(table) {
                Retention::KeepAll => (0, 0),
                Retention::Since(version) => (version.0, version.0),
                Retention::NewestVersions(_) | Retention::LatestOnly => (self.last, self.last),
                Retention::Age(age) => (0, self.version_of_age(age.as_secs())),
                Retention::Ladder(_) => (0, self.version_of_age(WHOLE_SECONDS)),
            };
            let highest = self.horizons.entry(table).or_default();
            *highest = (*highest).max(at_most).max(store.horizon().0);
            let horizon = store.table_horizon(table).0;
            // A table that was never written is in no need of one.
            let is_there = store.tables().unwrap().contains(&table);
            assert!(horizon <= *highest && (horizon >= at_least || !is_there), "{context}: {table}, {horizon} of {highest}");
        }
        let pins: BTreeSet<String> = store.pins().into_iter().map(|(name, _)| name).collect();
        readers.retain(|reader| match reader {
            Reader::Pin(name, _, _, until) => {
                let is_over = until.is_some_and(|until| until < self.now);
                assert_eq!(pins.contains(name), !is_over, "{context}: {name} until {until:?}, now {}", self.now);
                !is_over
            }
            Reader::Snapshot(..) => true,
        });
    }
}

/// Somebody who may read.
enum Reader {
    /// With the second in which its lease ends.
    Pin(String, PinVersions, Scope, Option<u64>),
    /// With the keys that it could read when it was made.
    Snapshot(Snapshot, BTreeSet<Place>),
}

impl Reader {
    fn may_read(&self, place: Place, at: u64) -> bool {
        match self {
            Self::Pin(_, versions, scope, _) => {
                let is_version = match versions {
                    PinVersions::One(one) => one.0 == at,
                    PinVersions::From(from) => from.0 <= at,
                };
                is_version && scope.covers(place.0, place.1.as_bytes())
            }
            Self::Snapshot(snapshot, granted) => snapshot.version().0 == at && granted.contains(&place),
        }
    }
}

fn scope(numbers: &mut Numbers) -> Scope {
    let table = TABLES[usize::try_from(numbers.below(3)).unwrap()];
    match numbers.below(3) {
        0 => Scope::All,
        1 => Scope::Table(table),
        _ => Scope::Range(table, KeyRange::new("b".."d")),
    }
}

/// Compares what snapshots read with what they could read when they were made.
fn check_snapshots(readers: &[Reader], model: &Model, context: &str) {
    for reader in readers {
        let Reader::Snapshot(snapshot, granted) = reader else { continue };
        let at = snapshot.version().0;
        let value =
            |place: Place| model.seen(place, at).filter(|(_, is_value)| *is_value).map(|(version, _)| version.to_string());
        for (table, key) in granted {
            let found = snapshot.get(*table, key.as_bytes()).unwrap();
            assert_eq!(
                found.as_deref(),
                value((*table, *key)).as_ref().map(String::as_bytes),
                "{context}: {table} {key} at {at}"
            );
        }
        for table in TABLES.into_iter().filter(|table| KEYS.iter().all(|key| granted.contains(&(*table, *key)))) {
            // A table of which each key is pinned for itself cannot be read as a whole.
            let rows: thermocline_tier::Result<Vec<_>> = snapshot.range::<&[u8]>(table, ..).collect();
            let Ok(rows) = rows else { continue };
            let rows: Vec<String> = rows
                .iter()
                .map(|(key, value)| [&key[..], b"=", &value[..]].concat())
                .map(|row| String::from_utf8(row).unwrap())
                .collect();
            let expected: Vec<String> = KEYS.iter().filter_map(|key| Some(format!("{key}={}", value((table, *key))?))).collect();
            assert_eq!(rows, expected, "{context}: {table} at {at}");
        }
    }
}

/// Rewrites everything, and compares what is stored with what may be read.
fn check(store: &Store, model: &mut Model, readers: &mut Vec<Reader>, consumer: Option<&(Consumer, Scope)>, context: &str) {
    store.wait_idle().unwrap();
    model.follow(store, readers, context);
    for _twice in 0..2 {
        store.flush().unwrap();
        for table in TABLES {
            store.compact(table, &KeyRange::all()).unwrap();
        }
        store.wait_idle().unwrap();
    }
    for place in places() {
        let (table, key) = place;
        let horizon = store.table_horizon(table).0;
        let held_from = || {
            let state = store.consumers().swap_remove(0).state;
            state.position.max(state.versions_from).0
        };
        let held = consumer.map(|(_, scope)| (held_from(), scope));
        // Which versions a ladder keeps, it has chosen.
        let is_ladder = matches!(store.retention(table), Retention::Ladder(_));
        let is_step = |at: u64| is_ladder && store.get_at(table, key.as_bytes(), Version(at)).is_ok();
        let may_read = |at: u64| {
            at >= horizon
                || is_step(at)
                || readers.iter().any(|reader| reader.may_read(place, at))
                || held.as_ref().is_some_and(|(from, scope)| at >= *from && scope.covers(table, key.as_bytes()))
        };
        // Whoever pins a version to read it gets what a single read of it gets.
        for at in (0..=model.last).map(Version) {
            let (alone, pinned) =
                (store.get_at(table, key.as_bytes(), at), store.at(at).and_then(|pin| pin.get(table, key.as_bytes())));
            assert_eq!(alone.ok(), pinned.ok(), "{context}: {table} {key} at {at}");
        }
        let seen = |at: u64| model.seen(place, at).filter(|(_, is_value)| *is_value).map(|(version, _)| version);
        let needed: BTreeSet<u64> = (0..=model.last).filter(|at| may_read(*at)).filter_map(seen).collect();
        let (values, deletions): (Vec<_>, Vec<_>) =
            store.history(table, key.as_bytes()).unwrap().partition(|entry| entry.value.is_some());
        let found: BTreeSet<u64> = values.iter().map(|entry| entry.version.0).collect();
        // Beyond what is seen some of the newest may be kept, unless another policy has let them go before.
        let newest = match store.retention(table) {
            Retention::NewestVersions(count) => usize::try_from(count).unwrap(),
            _ => 0,
        };
        let written = model.written.get(&place).map(Vec::as_slice).unwrap_or_default();
        let may_be_kept: BTreeSet<u64> = written.iter().rev().take(newest).map(|(version, _)| *version).collect();
        let context =
            format!("{context}: {table} {key}, horizon {horizon}: {found:?}, needed {needed:?}, newest {may_be_kept:?}");
        assert!(needed.is_subset(&found) && found.difference(&needed).all(|version| may_be_kept.contains(version)), "{context}");
        // A deletion is there for a read that sees it, or is how a clear shows.
        let is_seen = |version: u64| (0..=model.last).any(|at| may_read(at) && model.seen(place, at) == Some((version, false)));
        let is_clear = |version: u64| model.clears.get(&table).is_some_and(|clears| clears.contains(&version));
        for deletion in deletions.iter().map(|entry| entry.version.0) {
            let is_needed = is_seen(deletion) || is_clear(deletion) || may_be_kept.contains(&deletion);
            assert!(is_needed, "{context}: the deletion at {deletion} is there for nobody");
        }
        for at in 0..=model.last {
            match store.get_at(table, key.as_bytes(), Version(at)) {
                Ok(value) => {
                    let seen = seen(at).map(|version| version.to_string());
                    assert_eq!(value.as_deref(), seen.as_ref().map(String::as_bytes), "{context}: at {at}");
                }
                Err(error) => {
                    assert!(matches!(error.kind(), ErrorKind::VersionReclaimed { .. }), "{context}: {error}");
                    assert!(!may_read(at), "{context}: at {at}");
                }
            }
        }
    }
}

fn write(store: &Store, model: &mut Model, numbers: &mut Numbers) {
    let version = model.last + 1;
    let mut batch = Batch::new();
    for table in TABLES {
        if numbers.below(25) == 0 {
            batch.clear_table(table);
            model.clears.entry(table).or_default().push(version);
        }
    }
    for (table, key) in places() {
        let is_value = match numbers.below(9) {
            0..3 => true,
            3 => false,
            _ => continue,
        };
        if is_value {
            batch.put(table, key.as_bytes(), version.to_string().as_bytes());
        } else {
            batch.remove(table, key.as_bytes());
        }
        model.written.entry((table, key)).or_default().push((version, is_value));
    }
    assert_eq!(store.commit(batch).unwrap(), Version(version));
    model.last = version;
    model.times.push(model.now);
}

fn policy(numbers: &mut Numbers, last: u64) -> Option<Retention> {
    let rung = |age, every| Rung { age: Duration::from_secs(age), every: Duration::from_secs(every) };
    match numbers.below(7) {
        0 => None,
        1 => Some(Retention::KeepAll),
        2 => Some(Retention::Since(Version(numbers.below(last + 1)))),
        3 => Some(Retention::NewestVersions(1 + numbers.below(3))),
        4 => Some(Retention::Age(Duration::from_secs(numbers.below(200)))),
        5 => Some(Retention::Ladder(vec![rung(WHOLE_SECONDS, 0), rung(600, 30)])),
        _ => Some(Retention::LatestOnly),
    }
}

fn pin(store: &Store, model: &Model, numbers: &mut Numbers, readers: &mut Vec<Reader>) {
    let (name, at) = (format!("pin {}", numbers.below(4)), Version(numbers.below(model.last + 1)));
    let versions = if numbers.below(2) == 0 { PinVersions::One(at) } else { PinVersions::From(at) };
    let (scope, lease) = (scope(numbers), Some(numbers.below(300)).filter(|lease| lease % 2 == 0));
    let request = PinRequest { versions, scope: scope.clone(), lease: lease.map(Duration::from_secs) };
    if store.pin_with(&name, request).is_ok() {
        readers.retain(|reader| !matches!(reader, Reader::Pin(own, ..) if *own == name));
        readers.push(Reader::Pin(name, versions, scope, lease.map(|lease| model.now + lease)));
    }
}

fn snapshot(store: &Store, model: &Model, numbers: &mut Numbers, readers: &mut Vec<Reader>) {
    if let Ok(snapshot) = store.at(Version(numbers.below(model.last + 1))) {
        let granted = places().filter(|(table, key)| snapshot.get(*table, key.as_bytes()).is_ok()).collect();
        readers.push(Reader::Snapshot(snapshot, granted));
    }
}

fn make_consumer(store: &Store, model: &Model, numbers: &mut Numbers) -> Option<(Consumer, Scope)> {
    let scope = scope(numbers);
    let since = Some(Version(numbers.below(model.last + 1)));
    let options = ConsumerOptions { since, scope: scope.clone(), holding: Holding::All, ..ConsumerOptions::default() };
    store.consumer("view", options).ok().map(|consumer| (consumer, scope))
}

fn run(setup: Setup, seed: u64) {
    let (disk, mut numbers, mut model) = (SimDisk::new(seed), Numbers(seed), Model::default());
    let clock = Arc::new(SimClock::new());
    let environment = Environment { clock: Arc::clone(&clock) as Arc<dyn Clock>, ..Environment::simulated(7) };
    let open = || open_in(&disk, setup, &environment).unwrap();
    let mut store = open();
    let mut readers: Vec<Reader> = Vec::new();
    let mut consumer: Option<(Consumer, Scope)> = None;
    for step in 0..160 {
        let context = format!("{setup:?} seed {seed} step {step}");
        let passed = numbers.below(20);
        clock.advance(Duration::from_secs(passed));
        model.now += passed;
        match numbers.below(20) {
            0..7 => write(&store, &mut model, &mut numbers),
            7 => store.flush().unwrap(),
            8 => store.compact(TABLES[usize::try_from(numbers.below(3)).unwrap()], &KeyRange::all()).unwrap(),
            9 => store.set_horizon(Version(numbers.below(model.last + 1))).unwrap(),
            19 => {
                for _ in 0..numbers.below(5) {
                    store.step().unwrap();
                    model.follow(&store, &mut readers, &context);
                }
            }
            10 => {
                let scopes = [PolicyScope::Sources, PolicyScope::Operators, PolicyScope::Table(T), PolicyScope::Table(STATE)];
                let scope = scopes[usize::try_from(numbers.below(4)).unwrap()];
                store.set_retention(scope, policy(&mut numbers, model.last)).unwrap();
            }
            11 | 12 => pin(&store, &model, &mut numbers, &mut readers),
            13 => snapshot(&store, &model, &mut numbers, &mut readers),
            14 | 15 if !readers.is_empty() => {
                let number = numbers.below(readers.len() as u64);
                if let Reader::Pin(name, ..) = readers.swap_remove(usize::try_from(number).unwrap()) {
                    store.release_pin(&name).unwrap();
                }
            }
            16 if consumer.is_none() => consumer = make_consumer(&store, &model, &mut numbers),
            16 => {
                if let Some((consumer, _)) = &mut consumer {
                    consumer.poll().unwrap();
                    consumer.checkpoint(Version(consumer.delivered().0.saturating_sub(numbers.below(3)))).unwrap();
                }
            }
            17 if numbers.below(3) == 0 => {
                consumer = None;
                store.remove_consumer("view").ok();
            }
            18 if numbers.below(4) == 0 => {
                readers.retain(|reader| matches!(reader, Reader::Pin(..)));
                let scope = consumer.take().map(|(_, scope)| scope);
                store.close().unwrap();
                store = open();
                consumer = scope.map(|scope| {
                    let options = ConsumerOptions { scope: scope.clone(), ..ConsumerOptions::default() };
                    (store.consumer("view", options).unwrap(), scope)
                });
            }
            _ => {
                store.run_until_idle();
                model.follow(&store, &mut readers, &context);
            }
        }
        check_snapshots(&readers, &model, &context);
        if step % 40 == 39 {
            check(&store, &mut model, &mut readers, consumer.as_ref(), &context);
        }
    }
    assert!(model.last > 20, "{}", model.last);
}

#[test]
fn what_is_stored_in_memory_is_what_may_be_read() {
    for seed in 0..20 {
        run(Setup::Hot, seed);
    }
}

#[test]
fn what_is_stored_in_files_is_what_may_be_read() {
    for seed in 0..16 {
        run(Setup::Over(Below::Warm, 1), 100 + seed);
        run(Setup::Over(Below::Warm, 4_000), 200 + seed);
    }
}

#[test]
fn what_is_stored_in_files_alone_is_what_may_be_read() {
    for seed in 0..8 {
        run(Setup::Alone(Below::Warm, 2_000), 300 + seed);
    }
}

/// A rewrite may have taken the deletion in one file and left what it hid in another.
#[test]
fn dropped_version_uncovers_nothing_that_a_reclaimed_deletion_hid() {
    let store = open_as(&SimDisk::new(1), Setup::Over(Below::Warm, 1 << 20)).unwrap();
    commit(&store, T, &["k=1"]);
    store.flush().unwrap();
    commit(&store, T, &["k"]);
    let newest = commit(&store, T, &["k=3"]);
    store.set_horizon(newest).unwrap();
    store.flush().unwrap();
    let mut batch = Batch::new();
    batch.drop_versions(T, b"k", DropRule::only(newest));
    store.commit(batch).unwrap();
    store.wait_idle().unwrap();
    assert_eq!(store.get(T, b"k").unwrap(), None);
    store.compact(T, &KeyRange::all()).unwrap();
    assert_eq!(store.history(T, b"k").unwrap().count(), 0);
}
