//! A scripted run of a store with the state that every version must have, for sweeps of power cuts and faults.

use std::collections::BTreeMap;
use std::sync::Arc;

use thermocline_hot::BTreeTier;
use thermocline_io::{Disk, Environment, SimDisk};
use thermocline_store::{Background, Batch, CommitOptions, Durability, Store, StoreOptions};
use thermocline_tier::{EntryKind, ErrorKind, Result, Version};
use thermocline_wal::LogOptions;

use super::{T, U};

/// The rows of a whole store.
pub(crate) type State = BTreeMap<(EntryKind, Vec<u8>), Vec<u8>>;

/// What a run did: the state at each version that was acknowledged, or of which a failed sync left open whether it exists.
#[derive(Clone, Debug)]
pub(crate) struct Story {
    pub(crate) states: BTreeMap<Version, State>,
    /// Each table with the versions at which it was purged.
    purges: Vec<(EntryKind, Version)>,
    /// The last version that was acknowledged as durable.
    pub(crate) durable: Version,
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

/// Opens with the smallest segments, so that a short run goes through many.
pub(crate) fn open(disk: &SimDisk) -> Result<Store> {
    open_with(disk, LogOptions::SEGMENT_SIZE_BYTES_MIN)
}

pub(crate) fn open_with(disk: &SimDisk, segment_size_bytes: u64) -> Result<Store> {
    let log = LogOptions { segment_size_bytes, ..LogOptions::default() };
    let options = StoreOptions { background: Background::ByHand, log, ..StoreOptions::default() };
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    Store::open(disk, Arc::new(BTreeTier::default()), &Environment::simulated(7), options)
}

impl Story {
    pub(crate) fn new() -> Self {
        let states = BTreeMap::from([(Version::ZERO, State::new())]);
        Self { states, purges: Vec::new(), durable: Version::ZERO }
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
                        assert!(purged > version);
                        self.states.insert(purged, state);
                        self.purges.push((table, purged));
                    }
                }
                2 => store.run_until_idle(),
                _ => self.commit(store, numbers),
            }
            disk.mark(self.durable.0);
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
        for (version, state) in self.states.range(..=last).rev().take(4) {
            let snapshot = store.at(*version).unwrap();
            for table in [T, U] {
                if self.purges.iter().any(|(of, purged)| *of == table && *purged <= last && version < purged) {
                    assert!(snapshot.get(table, b"k").is_err(), "{context:?}: {table} is readable below its purge");
                    continue;
                }
                let expected: Vec<_> =
                    state.iter().filter(|((of, _), _)| *of == table).map(|((_, key), value)| (&key[..], &value[..])).collect();
                let found: Vec<_> = snapshot.range::<&[u8]>(table, ..).map(|row| row.unwrap()).collect();
                let found: Vec<_> = found.iter().map(|(key, value)| (&key[..], &value[..])).collect();
                assert_eq!(found, expected, "{context:?}: {table} at {version} of {last}");
            }
        }
    }
}
