//! Rows that expire: by a clock that is moved by hand, against a model that knows when each row was made and written last.
//!
//! Hunts: a row that outlives its time, or does not reach it; a row that was written again or made anew beside the deletion; a time that is
//! forgotten by a restart, or counts anew; history below the horizon that makes a row older than it is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use thermocline_io::{Clock, Disk, Environment, SimClock, SimDisk};
use thermocline_store::{
    Anchor, Batch, CommitOptions, ConsumerOptions, Durability, Holding, PinRequest, PolicyScope, Retention, Store, Ttl,
};

use thermocline_tier::{EntryKind, KeyRange, Version};

use super::retained_crashes::cut_everywhere;
use super::story::{Below, Numbers};
use super::tiered::{hot, options};
use super::{T, U, commit, get, texts};

const SECOND: Duration = Duration::from_secs(1);

struct World {
    clock: Arc<SimClock>,
    disk: SimDisk,
    is_tiered: bool,
}

impl World {
    fn new(is_tiered: bool) -> Self {
        let clock = SimClock::new();
        clock.set_wall(Duration::from_secs(1_000_000));
        Self { clock: Arc::new(clock), disk: SimDisk::new(1), is_tiered }
    }

    fn open(&self) -> Store {
        let environment = Environment { clock: Arc::clone(&self.clock) as Arc<dyn Clock>, ..Environment::simulated(7) };
        let tiers = if self.is_tiered { hot().over(|request| Below::Warm.open(request)) } else { hot() };
        Store::open(Arc::new(self.disk.clone()) as Arc<dyn Disk>, tiers, &environment, options()).unwrap()
    }

    fn pass(&self, store: &Store, seconds: u32) {
        self.clock.advance(SECOND * seconds);
        store.run_until_idle();
    }
}

/// Commits, and notes when: what is not noted at once counts from when it is.
fn put(store: &Store, table: EntryKind, writes: &[&str]) {
    commit(store, table, writes);
    store.apply_retention().unwrap();
}

fn rows(store: &Store, table: EntryKind) -> Vec<String> {
    texts(store.snapshot().unwrap().range::<&[u8]>(table, ..))
}

fn ttl(seconds: u32, anchor: Anchor) -> Ttl {
    Ttl { after: SECOND * seconds, anchor }
}

#[test]
fn rows_expire_by_when_they_were_written_last_or_first_and_the_stream_says_so() {
    for is_tiered in [false, true] {
        let world = World::new(is_tiered);
        let store = world.open();
        store.set_ttl(PolicyScope::Table(T), Some(ttl(10, Anchor::Updated))).unwrap();
        store.set_ttl(PolicyScope::Table(U), Some(ttl(10, Anchor::Created))).unwrap();
        let rest = EntryKind::source(9);
        for table in [T, U, rest] {
            put(&store, table, &["a=1", "b=1", "c=1"]);
        }
        world.pass(&store, 5);
        for table in [T, U] {
            put(&store, table, &["a=2", "c"]);
        }
        world.pass(&store, 4);
        put(&store, U, &["c=3"]);
        assert_eq!(
            (rows(&store, T), rows(&store, U)),
            (vec!["a=2".into(), "b=1".into()], vec!["a=2".into(), "b=1".into(), "c=3".into()])
        );
        let before = store.last_version();
        world.pass(&store, 2);
        assert_eq!((rows(&store, T), rows(&store, U)), (vec!["a=2".to_owned()], vec!["c=3".to_owned()]), "{is_tiered}");
        assert_eq!(get(&store, T, "b", before).as_deref(), Some("1"), "older versions keep it");
        let commits: Vec<_> = store.changes(before).unwrap().map(|commit| commit.unwrap().changes).collect();
        let deleted: Vec<_> =
            commits.iter().flatten().map(|change| (change.table, &change.prefix[..], change.value.is_none())).collect();
        assert_eq!(deleted, [(T, &b"b"[..], true), (U, b"a", true), (U, b"b", true)]);
        store.close().unwrap();
        let store = world.open();
        assert_eq!(store.ttls().len(), 2);
        world.pass(&store, 4);
        assert!(rows(&store, T).is_empty());
        assert_eq!(rows(&store, U), ["c=3"]);
        // What is written with every pass never expires by when it was written last.
        for round in 0..7 {
            put(&store, T, &[&format!("busy={round}")]);
            put(&store, U, &[&format!("busy={round}")]);
            world.pass(&store, 3);
        }
        assert_eq!(rows(&store, T), ["busy=6"]);
        assert_eq!(rows(&store, U), ["busy=6"], "deleted when it was 12 seconds old, and made anew");
        assert_eq!(store.history(U, b"busy").unwrap().filter(|entry| entry.value.is_none()).count(), 1);
        assert_eq!(rows(&store, rest).len(), 3);
        store.set_ttl(PolicyScope::Table(T), None).unwrap();
        world.pass(&store, 100);
        assert_eq!(rows(&store, T), ["busy=6"]);
        assert!(store.set_ttl(PolicyScope::Sources, Some(ttl(0, Anchor::Updated))).is_err());
    }
}

#[test]
fn another_time_counts_for_rows_that_were_looked_at_before() {
    let world = World::new(true);
    let store = world.open();
    store.set_ttl(PolicyScope::Sources, Some(ttl(10, Anchor::Updated))).unwrap();
    put(&store, T, &["a=1"]);
    world.pass(&store, 8);
    put(&store, T, &["a=2"]);
    world.pass(&store, 8);
    assert_eq!(rows(&store, T), ["a=2"]);
    store.set_ttl(PolicyScope::Sources, Some(ttl(10, Anchor::Created))).unwrap();
    world.pass(&store, 1);
    assert!(rows(&store, T).is_empty(), "made 17 seconds ago");
}

/// When a row was made, when it was written last, and its value.
#[derive(Clone, Copy, Debug)]
struct Row {
    created: Duration,
    updated: Duration,
    value: u64,
}

#[test]
fn rows_of_random_writes_live_as_long_as_they_should() {
    for (seed, anchor, is_tiered, retention) in [
        (1, Anchor::Updated, false, None),
        (2, Anchor::Created, false, None),
        (3, Anchor::Updated, true, Some(Retention::LatestOnly)),
        (4, Anchor::Created, true, Some(Retention::LatestOnly)),
        (5, Anchor::Created, true, Some(Retention::Age(SECOND * 3))),
        (6, Anchor::Updated, true, None),
    ] {
        let (world, mut numbers) = (World::new(is_tiered), Numbers(seed));
        let mut store = world.open();
        store.set_ttl(PolicyScope::Table(T), Some(ttl(20, anchor))).unwrap();
        store.set_retention(PolicyScope::Table(T), retention).unwrap();
        let (mut model, mut value, mut expired): (BTreeMap<u64, Row>, u64, usize) = (BTreeMap::new(), 0, 0);
        for step in 0..300 {
            let now = world.clock.wall();
            match numbers.below(10) {
                0..5 => {
                    let mut batch = Batch::new();
                    for _write in 0..numbers.below(400) / 100 {
                        let key = numbers.below(700);
                        value += 1;
                        if numbers.below(6) == 0 {
                            batch.remove(T, &key.to_be_bytes());
                            model.remove(&key);
                        } else {
                            batch.put(T, &key.to_be_bytes(), &value.to_be_bytes());
                            let created = model.get(&key).map_or(now, |row| row.created);
                            model.insert(key, Row { created, updated: now, value });
                        }
                    }
                    store.commit(batch).unwrap();
                }
                5 if numbers.below(8) == 0 => {
                    store.clear_table(T).unwrap();
                    model.clear();
                }
                6 => store.flush().unwrap(),
                7 => store.compact(T, &KeyRange::all()).unwrap(),
                8 if numbers.below(6) == 0 => {
                    store.close().unwrap();
                    store = world.open();
                }
                _ => {}
            }
            store.run_until_idle();
            world.pass(&store, u32::try_from(numbers.below(2)).unwrap());
            let now = world.clock.wall();
            let since = |row: &Row| if anchor == Anchor::Created { row.created } else { row.updated };
            let before = model.len();
            model.retain(|_, row| now.saturating_sub(since(row)) < SECOND * 20);
            expired += before - model.len();
            let found: BTreeMap<u64, u64> = store
                .snapshot()
                .unwrap()
                .range::<&[u8]>(T, ..)
                .map(|row| {
                    let (key, value) = row.unwrap();
                    let number = |bytes: &[u8]| u64::from_be_bytes(bytes.try_into().unwrap());
                    (number(&key), number(&value))
                })
                .collect();
            let expected: BTreeMap<u64, u64> = model.iter().map(|(key, row)| (*key, row.value)).collect();
            assert_eq!(found, expected, "seed {seed} step {step}");
        }
        assert!(expired > 50, "seed {seed}: {expired}");
        assert!(store.stats().last_version > Version::ZERO);
    }
}

#[test]
fn row_that_is_written_beside_its_deletion_stays() {
    let world = World::new(false);
    let store = world.open();
    store.set_ttl(PolicyScope::Table(T), Some(ttl(10, Anchor::Updated))).unwrap();
    let keys: Vec<String> = (0..500).map(|key| format!("{key:03}")).collect();
    let writes: Vec<String> = keys.iter().map(|key| format!("{key}=1")).collect();
    put(&store, T, &writes.iter().map(String::as_str).collect::<Vec<_>>());
    world.clock.advance(SECOND * 11);
    std::thread::scope(|scope| {
        scope.spawn(|| store.run_until_idle());
        for key in &keys {
            commit(&store, T, &[&format!("{key}=2")]);
        }
    });
    // Each was written after, or beside, its deletion.
    assert_eq!(rows(&store, T).len(), keys.len());
}

#[test]
fn rows_expire_no_more_once_the_time_is_taken_away_and_wait_for_consumers_that_hold_writers() {
    const ROWS: usize = 20_000;
    for is_tiered in [false, true] {
        let world = World::new(is_tiered);
        let store = world.open();
        let table = PolicyScope::Table(T);
        store.set_ttl(table, Some(ttl(10, Anchor::Updated))).unwrap();
        let all: Vec<String> = (0..ROWS).map(|row| format!("{row:05}=v")).collect();
        put(&store, T, &all.iter().map(String::as_str).collect::<Vec<_>>());
        let held = ConsumerOptions { holding: Holding::HoldWriters(20_000), ..ConsumerOptions::default() };
        let mut view = store.consumer("view", held).unwrap();
        let lease = PinRequest { lease: Some(SECOND), ..PinRequest::one(store.last_version()) };
        store.pin_with("lease", lease).unwrap();
        world.pass(&store, 20);
        let left = rows(&store, T).len();
        assert!(left > 0 && left < ROWS, "{left} are left when the consumer is behind");
        assert!(store.pins().is_empty(), "other things go on");
        assert_eq!(store.stats().expired_rows, (ROWS - left) as u64);

        // In the middle of it, the time is taken away.
        store.set_ttl(table, None).unwrap();
        let mut catch_up = || {
            while !view.poll().unwrap().commits.is_empty() {}
            view.checkpoint(view.delivered()).unwrap();
        };
        catch_up();
        world.pass(&store, 20);
        assert_eq!(rows(&store, T).len(), left, "{is_tiered}");

        // By another one, each is looked at, those too that were before.
        store.set_ttl(table, Some(ttl(60, Anchor::Updated))).unwrap();
        catch_up();
        world.pass(&store, 10);
        assert_eq!(rows(&store, T).len(), left, "{is_tiered}");
        for _ in 0..100 {
            catch_up();
            world.pass(&store, 10);
        }
        assert_eq!(rows(&store, T).len(), 0, "{is_tiered}");
    }
}

#[test]
fn table_with_much_to_expire_keeps_no_other_waiting() {
    let world = World::new(false);
    let store = world.open();
    store.set_ttl(PolicyScope::Sources, Some(ttl(10, Anchor::Updated))).unwrap();
    let all: Vec<String> = (0..20_000).map(|row| format!("{row:05}=v")).collect();
    let tables = [EntryKind::source(1), EntryKind::source(2), EntryKind::source(3)];
    for table in [tables[0], tables[2]] {
        put(&store, table, &all.iter().map(String::as_str).collect::<Vec<_>>());
    }
    put(&store, tables[1], &["k=v"]);
    world.clock.advance(SECOND * 20);
    for _ in 0..4 {
        assert!(store.step().unwrap());
    }
    assert!(rows(&store, tables[1]).is_empty());
    let left = [tables[0], tables[2]].map(|table| rows(&store, table).len());
    assert!(left.iter().all(|left| (1..20_000).contains(left)), "{left:?}");
    while store.step().unwrap() {}
    assert!(tables.iter().all(|table| rows(&store, *table).is_empty()));
    assert_eq!(store.stats().expired_rows, 40_001);
}

#[test]
fn rows_expire_by_no_wall_clock_that_jumps() {
    let world = World::new(true);
    let store = world.open();
    store.set_ttl(PolicyScope::Table(T), Some(ttl(10, Anchor::Updated))).unwrap();
    let year = SECOND * 365 * 86_400;
    put(&store, T, &["a=1"]);
    world.clock.set_wall(world.clock.wall() + year);
    world.pass(&store, 4);
    assert_eq!(rows(&store, T), ["a=1"], "hardly faster");
    world.pass(&store, 10);
    assert!(rows(&store, T).is_empty());
    put(&store, T, &["b=1"]);
    world.clock.set_wall(world.clock.wall().saturating_sub(2 * year));
    world.pass(&store, 9);
    assert_eq!(rows(&store, T), ["b=1"]);
    world.pass(&store, 20);
    assert!(rows(&store, T).is_empty(), "hardly slower");
}

/// The keys of one run, and what a power cut may leave of them.
#[derive(Clone, Debug, Default)]
struct Promised {
    now: Duration,
    /// Those that live.
    rows: BTreeMap<u64, Row>,
    /// What was written last, if that was no deletion; expired or not.
    written: BTreeMap<u64, u64>,
}

impl Promised {
    fn commit(&mut self, store: &Store, numbers: &mut Numbers, value: u64) {
        let (key, now) = (numbers.below(8), self.now);
        let mut batch = Batch::new();
        if numbers.below(6) == 0 {
            batch.remove(T, &key.to_be_bytes());
            self.rows.remove(&key);
            self.written.remove(&key);
        } else {
            batch.put(T, &key.to_be_bytes(), &value.to_be_bytes());
            let created = self.rows.get(&key).map_or(now, |row| row.created);
            self.rows.insert(key, Row { created, updated: now, value });
            self.written.insert(key, value);
        }
        store.commit_with(batch, CommitOptions { durability: Some(Durability::Sync), version: None }).unwrap();
    }

    /// Compares a store that was opened after a power cut with this, which was under way, and what was before. How many rows are back.
    fn check(&self, before: &Self, store: &Store, is_alive: impl Fn(&Row, Duration) -> bool, repro: &str) -> usize {
        let mut returned = 0;
        for key in 0..8_u64 {
            let found = store.get(T, &key.to_be_bytes()).unwrap();
            let repro = format!("{repro}: {key} is {found:?}, {before:?}, {self:?}");
            // A write that was under way may have been lost, and what was there has reached its time.
            let lives = |state: &Self| state.rows.get(&key).is_some_and(|row| is_alive(row, self.now));
            match found.map(|value| u64::from_be_bytes(value[..].try_into().unwrap())) {
                Some(value) => {
                    // A deletion by age need not be durable: the row may be back for as long as its time takes.
                    assert!([before, self].iter().any(|state| state.written.get(&key) == Some(&value)), "{repro}");
                    returned += usize::from(!lives(before) && !lives(self));
                }
                None => assert!(!lives(before) || !lives(self), "{repro}"),
            }
        }
        returned
    }
}

#[test]
fn a_power_cut_anywhere_ends_no_row_early_and_lets_none_live_for_ever() {
    for (seed, anchor, is_tiered) in [(21, Anchor::Updated, true), (22, Anchor::Created, true), (23, Anchor::Updated, false)] {
        let (world, mut numbers) = (World::new(is_tiered), Numbers(seed));
        let mut store = world.open();
        store.set_ttl(PolicyScope::Table(T), Some(ttl(10, anchor))).unwrap();
        let is_alive = |row: &Row, now: Duration| {
            let since = if anchor == Anchor::Created { row.created } else { row.updated };
            now.saturating_sub(since) < SECOND * 10
        };
        let mut states = vec![Promised { now: world.clock.wall(), ..Promised::default() }];
        world.disk.mark(0);
        for step in 0..60 {
            let mut next = states[step].clone();
            match numbers.below(10) {
                0..6 => next.commit(&store, &mut numbers, step as u64),
                6 => store.flush().unwrap(),
                7 => store.compact(T, &KeyRange::all()).unwrap(),
                8 => {
                    store.close().unwrap();
                    store = world.open();
                }
                _ => {}
            }
            store.run_until_idle();
            world.pass(&store, u32::try_from(numbers.below(4)).unwrap());
            let now = world.clock.wall();
            next.now = now;
            next.rows.retain(|_, row| is_alive(row, now));
            states.push(next);
            world.disk.mark(states.len() as u64 - 1);
        }
        let mut returned = 0;
        let images = cut_everywhere(&world.disk, |image, step, _number, what| {
            let (before, after) = (&states[step], states.get(step + 1).unwrap_or(&states[step]));
            let world = World { disk: image.clone(), ..World::new(is_tiered) };
            world.clock.set_wall(after.now);
            let (store, repro) = (world.open(), format!("seed {seed} {what}"));
            returned += after.check(before, &store, is_alive, &repro);
            store.run_until_idle();
            after.check(before, &store, is_alive, &repro);
            world.pass(&store, 10);
            assert!(rows(&store, T).is_empty(), "{repro}");
        });
        println!("seed {seed}: {images} images, in which rows were back {returned} times");
        assert!(states.windows(2).any(|pair| pair[1].rows.len() < pair[0].rows.len()) && images > 100);
    }
}
