//! A scripted run of a store with the state that every version must have, for sweeps of power cuts and faults.

use std::collections::BTreeMap;
use std::sync::Arc;

use thermocline_conformance::DurableModel;
use thermocline_hot::BTreeTier;
use thermocline_io::{Disk, Environment, SimDisk};
use thermocline_store::{Background, Batch, CommitOptions, Durability, DurableRequest, Snapshot, Store, StoreOptions, Tiers};
use thermocline_tier::{DurableTier, EntryKind, ErrorKind, KeyRange, Result, TierStorage, Version};
use thermocline_wal::{LogOptions, Preallocate};
use thermocline_warm::{OpenWarm, WarmOptions, WarmTier};

use super::{T, U};

/// The rows of a whole store.
pub(crate) type State = BTreeMap<(EntryKind, Vec<u8>), Vec<u8>>;

/// What a run did: the state at each version that was acknowledged, or of which a failed sync left open whether it exists.
#[derive(Clone, Debug)]
pub(crate) struct Story {
    pub(crate) states: BTreeMap<Version, State>,
    /// Each table with the versions at which it was purged.
    purges: Vec<(EntryKind, Version)>,
    /// Of the highest horizon that was asked for.
    horizon: Version,
    /// The last version that was acknowledged as durable.
    pub(crate) durable: Version,
    /// The store has a durable tier, which is flushed to, compacted, and has its horizon moved.
    is_tiered: bool,
}

/// Small numbers from a seed (`SplitMix64`), the same on every machine.
#[derive(Debug)]
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// What a store of a story stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setup {
    Hot,
    /// A table in memory over a durable tier, and how many bytes fill the table.
    Over(Below, u64),
    /// A durable tier alone, and how many bytes of log make a checkpoint due.
    Alone(Below, u64),
}

/// A durable tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Below {
    Model,
    Warm,
}

impl Below {
    /// Opens it, such that writers slow down and wait after a few flushes.
    pub(crate) fn open(self, request: DurableRequest<'_>) -> Result<Arc<dyn DurableTier>> {
        if self == Self::Model {
            return DurableModel::open_slow(&request, 2, 4);
        }
        let DurableRequest { disk, store, is_read_only, migration, .. } = request;
        let options = WarmOptions {
            cache_size_bytes: 64 << 10,
            file_size_bytes: 4 << 10,
            level0_flushes: 2,
            level0_flushes_slow: 2,
            level1_size_bytes: 4 << 10,
            level_size_ratio: 2,
            step_size_bytes: 1000,
            ..WarmOptions::default()
        };
        Ok(Arc::new(WarmTier::open(OpenWarm { disk, store, options, is_read_only, migration })?))
    }
}

/// Opens with the smallest segments, so that a short run goes through many.
pub(crate) fn open(disk: &SimDisk) -> Result<Store> {
    open_with(disk, LogOptions::SEGMENT_SIZE_BYTES_MIN)
}

pub(crate) fn open_with(disk: &SimDisk, segment_size_bytes: u64) -> Result<Store> {
    open_on(disk, Setup::Hot, segment_size_bytes, &Environment::simulated(7))
}

pub(crate) fn open_as(disk: &SimDisk, setup: Setup) -> Result<Store> {
    open_in(disk, setup, &Environment::simulated(7))
}

pub(crate) fn open_in(disk: &SimDisk, setup: Setup, environment: &Environment) -> Result<Store> {
    open_on(disk, setup, LogOptions::SEGMENT_SIZE_BYTES_MIN, environment)
}

fn open_on(disk: &SimDisk, setup: Setup, segment_size_bytes: u64, environment: &Environment) -> Result<Store> {
    let mut log = LogOptions { segment_size_bytes, ..LogOptions::default() };
    if setup != Setup::Hot {
        log.preallocate = Preallocate::No;
    }
    let mut options = StoreOptions { background: Background::ByHand, log, ..StoreOptions::default() };
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let hot = || Tiers::hot(|| Arc::new(BTreeTier::default()) as Arc<dyn TierStorage>);
    let tiers = match setup {
        Setup::Hot => hot(),
        Setup::Over(below, _) => hot().over(move |request| below.open(request)),
        Setup::Alone(below, _) => Tiers::durable(move |request| below.open(request)),
    };
    if let Setup::Over(_, budget) | Setup::Alone(_, budget) = setup {
        options.hot_budget_bytes = Some(budget);
        // What must be durable at once is, whatever the default.
        options.durability = Durability::Memory;
    }
    Store::open(disk, tiers, environment, options)
}

impl Story {
    pub(crate) fn new(setup: Setup) -> Self {
        let states = BTreeMap::from([(Version::ZERO, State::new())]);
        Self { states, purges: Vec::new(), horizon: Version::ZERO, durable: Version::ZERO, is_tiered: setup != Setup::Hot }
    }

    fn last(&self) -> (Version, State) {
        self.states.last_key_value().map(|(version, state)| (*version, state.clone())).unwrap_or_default()
    }

    /// Does `steps` random operations on `store`. A failure is allowed, and is then no part of the story; what was acknowledged as
    /// durable is marked in the disk's trace.
    pub(crate) fn run(&mut self, store: &Store, disk: &SimDisk, steps: usize, numbers: &mut Numbers) {
        for _step in 0..steps {
            match numbers.below(20) {
                0 => {
                    if store.sync().is_ok() {
                        self.durable = store.last_version();
                    }
                }
                1 => {
                    let (table, (version, mut state)) = (U, self.last());
                    state.retain(|(of, _), _| *of != table);
                    let result = store.purge_table(table);
                    let purged = match &result {
                        Ok(purged) => {
                            self.durable = *purged;
                            Some(*purged)
                        }
                        Err(error) => match error.kind() {
                            ErrorKind::CommitUnknown { version } => Some(*version),
                            _ => None,
                        },
                    };
                    if let Some(purged) = purged {
                        assert!(purged > version, "purge at {purged} after {version}: {result:?}");
                        self.states.insert(purged, state);
                        self.purges.push((table, purged));
                    }
                }
                2 => store.run_until_idle(),
                3..=5 if self.is_tiered => self.maintain(store, numbers),
                _ => self.commit(store, numbers),
            }
            disk.mark(self.durable.0);
        }
    }

    /// What only a store with a durable tier does.
    fn maintain(&mut self, store: &Store, numbers: &mut Numbers) {
        match numbers.below(3) {
            0 => {
                let last = self.last().0;
                if store.flush().is_ok() {
                    self.durable = last.min(store.last_version()).max(self.durable);
                }
            }
            1 => {
                let horizon = Version(store.last_version().0.saturating_sub(numbers.below(4)));
                // If it fails it is not known whether it was moved.
                self.horizon = self.horizon.max(horizon);
                if store.set_horizon(horizon).is_ok() {
                    self.durable = self.durable.max(store.last_version());
                }
            }
            // A failure is no part of the story.
            _ => drop(store.compact(T, &KeyRange::all())),
        }
    }

    fn commit(&mut self, store: &Store, numbers: &mut Numbers) {
        let (last, mut state) = self.last();
        let mut batch = Batch::new();
        if numbers.below(12) == 0 {
            batch.clear_table(T);
            state.retain(|(table, _), _| *table != T);
        }
        for _write in 0..numbers.below(6) {
            let table = if numbers.below(2) == 0 { T } else { U };
            let key = vec![b'k', u8::try_from(numbers.below(12)).unwrap()];
            if numbers.below(4) == 0 {
                batch.remove(table, &key);
                state.remove(&(table, key));
            } else {
                let value = vec![u8::try_from(numbers.below(256)).unwrap(); usize::try_from(numbers.below(200)).unwrap()];
                batch.put(table, &key, &value);
                state.insert((table, key), value);
            }
        }
        let version = Version(last.0 + 1 + numbers.below(3));
        let durability = [Durability::Sync, Durability::Buffered, Durability::Memory][usize::try_from(numbers.below(3)).unwrap()];
        match store.commit_with(batch, CommitOptions { version: Some(version), durability: Some(durability) }) {
            Ok(committed) => {
                assert_eq!(committed, version);
                self.states.insert(version, state);
                if durability == Durability::Sync {
                    self.durable = version;
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::CommitUnknown { .. }) => {
                self.states.insert(version, state);
            }
            Err(_) => {}
        }
    }

    /// Checks a store that was opened again: it has a version that was committed, at least `durable`, and at that version and
    /// every older one exactly the state of then.
    pub(crate) fn check(&self, store: &Store, durable: Version, context: &dyn std::fmt::Debug) {
        let last = store.last_version();
        assert!(last >= durable, "{context:?}: acknowledged version {durable} is lost, the last is {last}");
        assert!(self.states.contains_key(&last), "{context:?}: version {last} was never committed");
        let horizon = store.horizon();
        assert!(horizon <= self.horizon && horizon <= last, "{context:?}: horizon {horizon} at {last}");
        self.check_changes(store, last, context);
        for (version, state) in self.states.range(..=last).rev().take(4) {
            if *version < horizon {
                let refused = store.at(*version).map(drop);
                assert!(matches!(refused.unwrap_err().kind(), ErrorKind::VersionReclaimed { .. }), "{context:?}");
                continue;
            }
            let snapshot = store.at(*version).unwrap();
            for table in [T, U] {
                if self.purges.iter().any(|(of, purged)| *of == table && *purged <= last && version < purged) {
                    assert!(snapshot.get(table, b"k").is_err(), "{context:?}: {table} is readable below its purge");
                    continue;
                }
                check_rows(&snapshot, table, state, &format!("{context:?}: {table} at {version} of {last}"));
            }
        }
    }

    /// The log gives every commit from some version on, and says so of those before.
    fn check_changes(&self, store: &Store, last: Version, context: &dyn std::fmt::Debug) {
        for (since, _) in self.states.range(..=last) {
            match store.changes(*since) {
                Ok(changes) => {
                    let found: Result<Vec<Version>> = changes.map(|commit| commit.map(|commit| commit.version)).collect();
                    // A disk that fails writes cannot be read up to the end, if the end is not written yet.
                    let Ok(found) = found else { return };
                    let after = self.states.keys().filter(|version| *version > since && **version <= last);
                    assert_eq!(found, after.copied().collect::<Vec<_>>(), "{context:?}: changes since {since}");
                    return;
                }
                Err(error) => assert!(matches!(error.kind(), ErrorKind::VersionReclaimed { .. }), "{context:?}: {error}"),
            }
        }
        panic!("{context:?}: no changes since any version");
    }
}

/// Checks the rows of a table by a scan, and each by itself.
fn check_rows(snapshot: &Snapshot, table: EntryKind, state: &State, context: &str) {
    let expected: Vec<_> =
        state.iter().filter(|((of, _), _)| *of == table).map(|((_, key), value)| (&key[..], &value[..])).collect();
    let found: Vec<_> = snapshot.range::<&[u8]>(table, ..).map(|row| row.unwrap()).collect();
    let found: Vec<_> = found.iter().map(|(key, value)| (&key[..], &value[..])).collect();
    assert_eq!(found, expected, "{context}");
    for number in 0..12 {
        let key = [b'k', number];
        let value = expected.iter().find(|(of, _)| *of == key).map(|(_, value)| *value);
        assert_eq!(snapshot.get(table, &key).unwrap().as_deref(), value, "{context}: key {number}");
    }
}
