//! Random pins, consumers, readers, horizons, policies and restarts against a model that knows of each version of each key whether it was ever let go.
//!
//! Hunts: a read that is allowed of what may be gone; a promise that is forgotten, at once or by a restart; a pin that gives back what was
//! let go; a pin of one range or table that keeps others.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use thermocline_drop::{
    Authority, Change, ConsumerState, Holding, Moment, Pin, PinVersions, PolicyScope, Retention, Rung, Scope, decode, encode,
};
use thermocline_tier::{EntryKind, KeyRange, RetainedTables, Version};

const TABLES: [EntryKind; 4] = [EntryKind::Multi, EntryKind::source(1), EntryKind::source(2), EntryKind::operator(1)];
const KEYS: [&str; 4] = ["", "b", "m", "zz"];
const VERSIONS: u64 = 20;

#[derive(Clone, Debug)]
enum Step {
    Commit(u64),
    Horizon(u64),
    Policy(PolicyScope, Option<Retention>),
    Tick(u64),
    Pin(u8, PinVersions, Scope, Option<u64>),
    Release(u8),
    Consumer(u8, u64, Scope, Holding, bool),
    RemoveConsumer(u8),
    Read(u64),
    ReadAgain(usize),
    LetGo(usize),
    Restart,
}

fn table() -> impl Strategy<Value = EntryKind> {
    prop::sample::select(&TABLES[..])
}

fn scope() -> impl Strategy<Value = Scope> {
    let key = || prop::sample::select(&["", "a", "b", "b\0", "m", "zz"][..]);
    let range = prop_oneof![
        key().prop_map(|key| KeyRange::new(key..)),
        key().prop_map(|key| KeyRange::new(..=key)),
        (key(), key()).prop_map(|(start, end)| KeyRange::new(start..end)),
    ];
    prop_oneof![
        Just(Scope::All),
        table().prop_map(Scope::Table),
        (table(), range).prop_map(|(table, range)| Scope::Range(table, range))
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let version = || 0..VERSIONS;
    let versions = (version(), any::<bool>()).prop_map(|(version, is_one)| {
        if is_one { PinVersions::One(Version(version)) } else { PinVersions::From(Version(version)) }
    });
    let retention = prop_oneof![
        Just(Retention::KeepAll),
        Just(Retention::LatestOnly),
        version().prop_map(|version| Retention::Since(Version(version))),
        (1..4_u64).prop_map(Retention::NewestVersions),
        (1..20_u64).prop_map(|micros| Retention::Age(Duration::from_micros(micros))),
        (0..6_u64, 1..4_u64, 1..4_u64).prop_map(|(whole, every, coarser)| {
            let rung = |age, every| Rung { age: Duration::from_micros(age), every: Duration::from_micros(every) };
            let whole = (whole > 0).then(|| rung(whole, 0));
            Retention::Ladder(whole.into_iter().chain([rung(10, every), rung(25, every * coarser)]).collect())
        }),
    ];
    let holding = prop::sample::select(&[Holding::Nothing, Holding::All, Holding::HoldWriters(9), Holding::Overtake(9)][..]);
    let scopes = prop_oneof![Just(PolicyScope::Sources), Just(PolicyScope::Operators), table().prop_map(PolicyScope::Table)];
    prop_oneof![
        4 => (1..6_u64).prop_map(Step::Commit),
        2 => version().prop_map(Step::Horizon),
        1 => (scopes, prop::option::of(retention)).prop_map(|(scope, retention)| Step::Policy(scope, retention)),
        3 => (0..5_u64).prop_map(Step::Tick),
        4 => (0..6_u8, versions, scope(), prop::option::of(0..10_u64)).prop_map(|(name, versions, scope, lease)| Step::Pin(name, versions, scope, lease)),
        2 => (0..6_u8).prop_map(Step::Release),
        3 => (0..3_u8, version(), scope(), holding, prop::bool::weighted(0.2)).prop_map(|(name, position, scope, holding, is_overtaken)| {
            Step::Consumer(name, position, scope, holding, is_overtaken)
        }),
        1 => (0..3_u8).prop_map(Step::RemoveConsumer),
        3 => version().prop_map(Step::Read),
        1 => any::<usize>().prop_map(Step::ReadAgain),
        2 => any::<usize>().prop_map(Step::LetGo),
        1 => Just(Step::Restart),
    ]
}

/// A place: table, key, version.
type Place = (EntryKind, &'static str, u64);

fn places() -> impl Iterator<Item = Place> {
    TABLES
        .into_iter()
        .flat_map(|table| KEYS.into_iter().flat_map(move |key| (0..=VERSIONS * 2).map(move |version| (table, key, version))))
}

fn covers(versions: PinVersions, version: u64) -> bool {
    match versions {
        PinVersions::One(one) => one.0 == version,
        PinVersions::From(from) => from.0 <= version,
    }
}

struct LiveReader {
    version: Version,
    number: u64,
    granted: Option<Arc<RetainedTables>>,
    /// What it must be able to read as long as it lives.
    promised: BTreeSet<Place>,
}

struct Run {
    authority: Authority,
    last: u64,
    now: u64,
    readers: Vec<LiveReader>,
    pins: BTreeMap<String, Pin>,
    consumers: BTreeMap<String, ConsumerState>,
    /// What ladders keep of tables.
    steps: BTreeMap<EntryKind, Vec<(Moment, Version)>>,
    /// What was ever let go.
    gone: BTreeSet<Place>,
}

impl Run {
    fn new() -> Self {
        Self {
            authority: Authority::default(),
            last: 0,
            now: 0,
            readers: Vec::new(),
            pins: BTreeMap::new(),
            consumers: BTreeMap::new(),
            steps: BTreeMap::new(),
            gone: BTreeSet::new(),
        }
    }

    fn apply(&mut self, changes: &[Change]) {
        let stored = decode(&encode(changes), "a test".into(), 0).unwrap();
        for change in &stored {
            self.authority.apply(change);
        }
        let noted = self.authority.unsettled();
        self.authority.settle(&noted);
        for change in stored {
            match change {
                Change::Pin { name, pin } => drop(self.pins.insert(name, pin)),
                Change::Release { name } => drop(self.pins.remove(&name)),
                Change::Consumer { name, consumer } => drop(self.consumers.insert(name, consumer)),
                Change::RemoveConsumer { name } => drop(self.consumers.remove(&name)),
                Change::Table { table, steps, .. } => drop(self.steps.insert(table, steps)),
                _ => {}
            }
        }
    }

    /// Whether somebody was promised a place, a ladder keeps it, or the table's horizon has not passed it.
    fn is_promised(&self, place: Place) -> bool {
        let (table, key, version) = place;
        let by_pin = |pin: &Pin| pin.scope.covers(table, key.as_bytes()) && covers(pin.versions, version);
        let by_consumer = |consumer: &ConsumerState| {
            consumer.holds()
                && consumer.scope.covers(table, key.as_bytes())
                && consumer.position.max(consumer.versions_from).0 <= version
        };
        version >= self.authority.table_horizon(table).0
            || self.pins.values().any(by_pin)
            || self.consumers.values().any(by_consumer)
            || self.steps.get(&table).is_some_and(|steps| steps.iter().any(|(_, step)| step.0 == version))
            || self.readers.iter().any(|reader| reader.promised.contains(&place))
    }

    fn pin(&mut self, name: u8, versions: PinVersions, scope: &Scope, lease: Option<u64>) {
        let created = Moment::from_micros(self.now);
        let lease_until = lease.map(|lease| created.after(Duration::from_micros(lease)));
        let pin = Pin { versions, scope: scope.clone(), created, lease_until };
        let wanted = |place: &Place| scope.covers(place.0, place.1.as_bytes()) && covers(versions, place.2);
        if let Ok(change) = self.authority.pin(&format!("pin {name}"), pin) {
            let lost = places().filter(wanted).find(|place| self.gone.contains(place));
            assert_eq!(lost, None, "{versions:?} of {scope:?} was pinned after it was let go");
            self.apply(&[change]);
        } else {
            let is_below = |table: &EntryKind| versions.first() < self.authority.table_horizon(*table);
            assert!(TABLES.iter().any(is_below), "{versions:?} of {scope:?} was refused");
        }
    }

    fn consumer(&mut self, name: u8, state: ConsumerState) {
        let (scope, position, holds) = (state.scope.clone(), state.position, state.holds());
        let lost = |gone: &BTreeSet<Place>, from: Version| {
            let wanted = |place: &Place| scope.covers(place.0, place.1.as_bytes()) && from.0 <= place.2;
            places().filter(wanted).find(|place| holds && gone.contains(place))
        };
        let is_below = |authority: &Authority, from: Version| TABLES.iter().any(|table| from < authority.table_horizon(*table));
        let needs_versions = name.is_multiple_of(2);
        match self.authority.set_consumer(&format!("consumer {name}"), state, needs_versions) {
            Ok(change) => {
                let Change::Consumer { consumer, .. } = &change else { panic!("{change:?}") };
                let from = position.max(consumer.versions_from);
                let what = format!("a consumer of {scope:?} from {position} on");
                assert_eq!(lost(&self.gone, from), None, "{what} was let in after that was let go");
                assert!(
                    from == position || !needs_versions && is_below(&self.authority, position),
                    "{what} holds from {from} on"
                );
                self.apply(&[change]);
            }
            Err(error) => {
                assert!(needs_versions && holds && is_below(&self.authority, position), "{scope:?} from {position} on: {error}");
            }
        }
        let held = self.consumers.values().filter(|consumer| consumer.holds());
        assert_eq!(self.authority.log_from(), held.map(|consumer| consumer.position).min());
    }

    fn read(&mut self, version: Version) {
        let is_there = |place: &Place| place.2 == version.0 && !self.gone.contains(place);
        let promised: BTreeSet<Place> = places().filter(is_there).collect();
        let pinned = self.authority.pin_reader(version, "reader", Location::caller(), Moment::from_micros(self.now));
        if let Ok((number, granted)) = pinned {
            self.readers.push(LiveReader { version, number, granted, promised });
        } else {
            assert!(version < self.authority.horizon());
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Commit(count) => self.last += count,
            Step::Horizon(version) => {
                let change = self.authority.move_horizon(Version((*version).min(self.last)));
                self.apply(change.as_slice());
            }
            Step::Policy(scope, retention) => {
                let change = self.authority.set_policy(*scope, retention.clone()).unwrap();
                self.apply(&[change]);
            }
            Step::Tick(micros) => {
                self.now += micros;
                let before = self.authority.horizon();
                let changes = self.authority.due(Moment::from_micros(self.now), Version(self.last), &TABLES);
                self.apply(&changes);
                assert_eq!(self.authority.horizon(), before, "policies move the horizons of tables");
                assert!(TABLES.iter().all(|table| self.authority.table_horizon(*table).0 <= self.last));
                assert!(self.pins.values().all(|pin| !pin.is_expired(Moment::from_micros(self.now))));
                assert_eq!(self.authority.due(Moment::from_micros(self.now), Version(self.last), &TABLES), []);
            }
            Step::Pin(name, versions, scope, lease) => self.pin(*name, *versions, scope, *lease),
            Step::Release(name) => {
                let name = format!("pin {name}");
                let released = self.authority.release(&name);
                assert_eq!(released.is_ok(), self.pins.contains_key(&name));
                self.apply(released.ok().as_slice());
            }
            Step::Consumer(name, position, scope, holding, is_overtaken) => {
                let (scope, since) = (scope.clone(), Moment::from_micros(self.now));
                let position = Version(*position);
                let (versions_from, holding) = (Version::ZERO, *holding);
                let is_overtaken = *is_overtaken;
                self.consumer(*name, ConsumerState { position, versions_from, scope, holding, is_overtaken, since });
            }
            Step::RemoveConsumer(name) => {
                let name = format!("consumer {name}");
                let removed = self.authority.remove_consumer(&name);
                assert_eq!(removed.is_ok(), self.consumers.contains_key(&name));
                self.apply(removed.ok().as_slice());
            }
            Step::Read(version) => self.read(Version((*version).min(self.last))),
            Step::ReadAgain(which) if !self.readers.is_empty() => {
                let reader = &self.readers[which % self.readers.len()];
                let number = self.authority.pin_again(reader.version, reader.number);
                let (version, granted, promised) = (reader.version, reader.granted.clone(), reader.promised.clone());
                self.readers.push(LiveReader { version, number, granted, promised });
            }
            Step::LetGo(which) if !self.readers.is_empty() => {
                let reader = self.readers.swap_remove(which % self.readers.len());
                self.authority.let_go(reader.version, reader.number);
            }
            Step::Restart => {
                let stored = encode(&self.authority.changes());
                self.authority = Authority::default();
                for change in decode(&stored, "a test".into(), 0).unwrap() {
                    self.authority.apply(&change);
                }
                self.readers.clear();
            }
            Step::ReadAgain(_) | Step::LetGo(_) => {}
        }
        let let_go: Vec<Place> = places().filter(|place| !self.is_promised(*place)).collect();
        self.gone.extend(let_go);
    }

    fn check(&self) {
        let retained = self.authority.retained();
        for place in places() {
            let (table, key, version) = place;
            let (range, version) = (KeyRange::new(key..=key), Version(version));
            let is_allowed = self.authority.check_read(table, &range, version).is_ok();
            assert_eq!(is_allowed, !self.gone.contains(&place), "{table} {key:?} at {version}");
            assert_eq!(retained.of(table, key.as_bytes()).allows(version), is_allowed, "{table} {key:?} at {version}");
            assert!(version < self.authority.ceiling() || is_allowed);
        }
        for table in TABLES {
            // What holds for a range is what holds for each of its keys.
            for version in (0..=self.last).map(Version) {
                let of_key = |key: &&'static str| !self.gone.contains(&(table, *key, version.0));
                let is_allowed = self.authority.check_read(table, &KeyRange::all(), version).is_ok();
                assert!(!is_allowed || KEYS.iter().all(of_key));
            }
        }
        for reader in &self.readers {
            for (table, key, version) in places().filter(|place| place.2 == reader.version.0) {
                let range = KeyRange::new(key..=key);
                let granted =
                    reader.granted.as_ref().is_none_or(|granted| granted.check_read(table, &range, reader.version).is_ok());
                assert_eq!(granted, reader.promised.contains(&(table, key, version)));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]
    #[test]
    fn nothing_is_read_that_may_be_gone_and_no_promise_is_forgotten(steps in prop::collection::vec(step(), 1..40)) {
        let mut run = Run::new();
        for step in &steps {
            run.step(step);
            run.check();
        }
    }
}
