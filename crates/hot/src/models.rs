//! Models of what one writer and readers share, run by loom through every interleaving within its bounds: `cargo xtask models`.
//!
//! They run the crate's own code, whose atomics are loom's then, on small chunks of heap memory. The arena of values and `OnceLock`s
//! stay std's: loom sees no weak memory there, miri and the tests with threads do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use loom::thread;
use thermocline_tier::Version;

use crate::arena::cell::Cell;
use crate::arena::values::{ValueAt, ValueWriter};
use crate::gate::Gate;
use crate::index::{Index, tag};
use crate::meter::Meter;
use crate::record::{self, Found, Record, Sight};
use crate::region::{Region, RegionWriter};
use crate::tree::Tree;

fn entry(values: &mut ValueWriter, version: u64) -> Found {
    let value = values.append(Version(version), &[], Some(&version.to_le_bytes()));
    Found { version: Version(version), value }
}

fn arena() -> (RegionWriter, ValueWriter) {
    let meter = Meter::default();
    (RegionWriter::new(&meter).unwrap(), ValueWriter::new(&meter).unwrap())
}

/// Appends `found` as the writer does.
fn append(region: &mut RegionWriter, at: u32, found: Found) {
    let shared = Arc::clone(region.region());
    let record = Record::new(&shared, at);
    let history = record::append(region, record.history(), record.newest().unwrap());
    record.set(Some(found), history);
}

#[test]
fn history_comes_before_the_head() {
    loom::model(|| {
        let (mut region, mut values) = arena();
        let first = entry(&mut values, 1);
        let at = Record::create(&mut region, b"k", first);
        let gate = Arc::new(Gate::new());
        gate.publish(Version(1));
        let (shared, all) = (Arc::clone(region.region()), Arc::clone(values.values()));
        let reader = {
            let gate = Arc::clone(&gate);
            thread::spawn(move || {
                let published = gate.enter().unwrap().published;
                let found = match Record::new(&shared, at).look(&all, published, published) {
                    Sight::Nothing => None,
                    Sight::Newest(found) => Some(found),
                    Sight::History(block) => record::find(&shared, block, published),
                };
                let found = found.expect("the key has an entry at every published version");
                assert_eq!(found.version, published);
                assert_eq!(all.version(found.value), Some(published));
            })
        };
        for version in 2..4 {
            let found = entry(&mut values, version);
            append(&mut region, at, found);
            gate.publish(Version(version));
        }
        reader.join().unwrap();
    });
}

#[test]
fn a_slot_of_a_leaf_comes_before_its_count() {
    loom::model(|| {
        let (mut region, mut values) = arena();
        let tree = Arc::new(Tree::new(&mut region));
        let insert = |region: &mut RegionWriter, tree: &Tree, key: &[u8], found: Found| {
            let record = Record::create(region, key, found);
            tree.insert(region, key, record, &mut Vec::new());
        };
        let found = entry(&mut values, 1);
        insert(&mut region, &tree, b"b", found);
        let shared = Arc::clone(region.region());
        let reader = {
            let tree = Arc::clone(&tree);
            thread::spawn(move || {
                let leaf = tree.leaf_of(&shared, b"b");
                let ordered = leaf.ordered(&shared);
                let keys: Vec<Vec<u8>> =
                    ordered.records().iter().map(|at| Record::new(&shared, *at).with_key(<[u8]>::to_vec)).collect();
                assert!(keys.contains(&b"b".to_vec()));
                assert!(keys.is_sorted(), "{keys:?}");
                assert!(keys.iter().all(|key| [b"a", b"b", b"c"].contains(&&[key[0]])), "{keys:?}");
            })
        };
        let found = entry(&mut values, 2);
        insert(&mut region, &tree, b"a", found);
        insert(&mut region, &tree, b"c", found);
        reader.join().unwrap();
    });
}

#[test]
fn a_change_is_seen_whole_or_not_at_all() {
    loom::model(|| {
        let (mut region, mut values) = arena();
        let records: Vec<u32> = (0..2)
            .map(|_| {
                let newest = entry(&mut values, 9);
                Record::create(&mut region, b"k", newest)
            })
            .collect();
        let gate = Arc::new(Gate::new());
        gate.publish(Version(9));
        let shared = Arc::clone(region.region());
        let reader = {
            let (gate, records) = (Arc::clone(&gate), records.clone());
            thread::spawn(move || {
                let Some(ticket) = gate.enter() else { return };
                let old = |at: &u32| {
                    let history = Record::new(&shared, *at).history();
                    if history == 0 { None } else { record::find(&shared, history, Version(5)).map(|found| found.version) }
                };
                let seen: Vec<_> = records.iter().map(old).collect();
                if gate.is_valid(ticket) {
                    assert_eq!(seen[0], seen[1]);
                }
            })
        };
        gate.change(|| {
            for at in &records {
                let late = entry(&mut values, 5);
                let history = record::insert(&mut region, 0, late).history;
                let shared: Arc<Region> = Arc::clone(region.region());
                let record = Record::new(&shared, *at);
                record.set(record.newest(), history);
            }
        });
        reader.join().unwrap();
    });
}

/// A state that knows when it is gone.
struct Watched(Arc<AtomicBool>);

impl Drop for Watched {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_state_lives_as_long_as_it_is_read() {
    loom::model(|| {
        let cell = Arc::new(Cell::new(Watched(Arc::default())));
        let reader = {
            let cell = Arc::clone(&cell);
            thread::spawn(move || {
                cell.read(|state| {
                    thread::yield_now();
                    assert!(!state.0.load(Ordering::SeqCst), "a state was given back under its reader");
                });
            })
        };
        cell.replace(Watched(Arc::default()));
        cell.collect();
        reader.join().unwrap();
    });
}

#[test]
fn a_key_in_the_index_is_complete_and_a_larger_index_has_it() {
    loom::model(|| {
        let (mut region, _) = arena();
        let meter = Meter::default();
        let found = Found { version: Version(1), value: ValueAt::from_bits(2) };
        let index = Index::new(0, &meter).unwrap();
        let cell = Arc::new(Cell::new(index));
        let shared = Arc::clone(region.region());
        let reader = {
            let cell = Arc::clone(&cell);
            thread::spawn(move || {
                let find = |index: &Index| index.find(&shared, tag(b"a", 0), b"a", |_| {});
                let first = cell.read(find);
                if let Some(at) = first {
                    assert!(Record::new(&shared, at).newest().is_some());
                    assert_eq!(cell.read(find), first, "a key that was seen is gone");
                }
            })
        };
        let record = Record::create(&mut region, b"a", found);
        cell.read(|index| index.insert(tag(b"a", 0), record, 0));
        let larger = cell.read(|index| index.grown(1, &meter)).unwrap();
        cell.replace(larger);
        reader.join().unwrap();
    });
}
