//! Which rows are offered, and what becomes of them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use thermocline_io::SimDisk;
use thermocline_migration::{NoMigration, erase};
use thermocline_tier::{DurableTier, Retained, RetainedTables, RetentionSource, TierStorage, Version};
use thermocline_warm::{Compression, OpenWarm, StoreId, WarmOptions, WarmTier};

use super::{Change, Plan, Seen, check_summaries, migrating, open, open_scope, rows, set_horizon, summed};
use crate::backends::{compact, small};
use crate::support::{MULTI, Random, SOURCE, batch, one, sorted_files};

#[test]
fn strategy_that_changes_nothing_leaves_every_byte_of_every_file() {
    let run = |migration| {
        let disk = SimDisk::new(1);
        let (shared, store) = (Arc::new(disk.clone()), StoreId([7; 16]));
        let tier = WarmTier::open(OpenWarm { disk: shared, store, options: small(), is_read_only: false, migration }).unwrap();
        let mut random = Random(5);
        for version in 1..60 {
            let writes: Vec<(String, Vec<u8>)> = (0..8)
                .map(|_| {
                    let len = if random.chance(3) { 9000 } else { random.index(60) };
                    (format!("key {}#{version}", random.below(90)), random.bytes(1 + len))
                })
                .collect();
            let writes: Vec<_> =
                writes.iter().map(|(key, value)| (MULTI, key.as_bytes(), (value[0] > 20).then_some(value.as_slice()))).collect();
            tier.set(&batch(version, &writes)).unwrap();
            set_horizon(&tier, version / 2);
        }
        compact(&tier).unwrap();
        sorted_files(&disk).into_iter().map(|file| (file, disk.file_bytes(file).unwrap())).collect::<Vec<_>>()
    };
    let (without, with) = (run(None), run(Some(erase(Arc::new(NoMigration)))));
    assert!(without.len() > 3);
    assert!(without == with);
}

#[test]
fn settled_row_of_each_key_is_offered_once_and_the_others_are_observed() {
    let (disk, plan) = (SimDisk::new(1), Plan::to(2));
    let tier = open(&disk, &plan);
    for (version, write) in
        [(1, "a=1"), (2, "a=1b"), (3, "b=1"), (4, "b"), (5, "c=1"), (6, "d=1"), (7, "a=1c"), (8, "c=1d"), (9, "e=1")]
    {
        tier.set(&one(version, MULTI, write)).unwrap();
    }
    assert_eq!(plan.observed.lock().len(), 8, "all that was flushed, but for the deletion");
    assert!(plan.take_offered().is_empty());
    set_horizon(&tier, 7);
    plan.observed.lock().clear();
    compact(&tier).unwrap();
    assert_eq!(plan.take_offered(), ["a@7", "c@5", "d@6"]);
    plan.observed.lock().sort_unstable();
    assert_eq!(*plan.observed.lock(), ["c@8", "e@9"], "superseded rows are gone, and the deletion hides nothing");
    assert_eq!(rows(&tier), ["a@7=2c+", "c@8=1d", "c@5=2+", "d@6=2+", "e@9=1"]);
    assert_eq!(summed(&tier), Seen::of([(b'1', 2), (b'2', 3)]));
    let counters = migrating(&tier).migration_counters();
    assert_eq!((counters.done.offered, counters.done.modified, counters.failures), (3, 3, 0));
    assert_eq!(counters.done.contexts, [2]);
    check_summaries(&tier);
}

#[derive(Debug, Default)]
struct Pins(Mutex<BTreeSet<u64>>, u64);

impl RetentionSource for Pins {
    fn retained(&self) -> RetainedTables {
        RetainedTables::new(Retained::new(Version(self.1), self.0.lock().iter().copied().map(Version)))
    }

    fn newest_pin(&self) -> Option<Version> {
        self.0.lock().last().copied().map(Version)
    }
}

/// Writes two keys, has everything rewritten beside some pins, and says what was offered.
fn offered<const SCOPE: u8>(horizon: u64, pins: &[u64]) -> Vec<String> {
    let (disk, plan) = (SimDisk::new(1), Plan::to(2));
    let tier = open_scope::<SCOPE>(&disk, small(), &plan);
    let pins = Pins(Mutex::new(pins.iter().copied().collect()), horizon);
    tier.set_retention(Arc::new(pins));
    for (version, write) in [(2, "a=1"), (4, "a=1"), (6, "a=1"), (5, "b=1"), (8, "b=1")] {
        tier.set(&one(version, MULTI, write)).unwrap();
    }
    compact(&tier).unwrap();
    check_summaries(&tier);
    plan.take_offered()
}

#[test]
fn settled_rows_lie_at_or_below_the_horizon_and_every_pin() {
    assert_eq!(offered::<0>(0, &[]), [""; 0]);
    assert_eq!(offered::<0>(7, &[]), ["a@6", "b@5"]);
    assert_eq!(offered::<0>(7, &[12]), ["a@6", "b@5"], "whoever reads at 12 reads the same rows, in their new form");
    assert_eq!(offered::<0>(7, &[4]), ["a@4"], "6 is told apart from it");
    assert_eq!(offered::<0>(7, &[1, 12]), [""; 0]);
}

#[test]
fn what_a_pin_sees_keeps_its_bytes_where_the_strategy_says_so() {
    assert_eq!(offered::<1>(7, &[]), ["a@6", "b@5"]);
    assert_eq!(offered::<1>(7, &[5, 6]), [""; 0]);
    assert_eq!(offered::<1>(8, &[9]), [""; 0]);
    assert_eq!(offered::<1>(9, &[3]), [""; 0], "settled up to 3, where the pin sees all");
}

#[test]
fn strategy_that_keeps_all_history_is_offered_every_version() {
    assert_eq!(offered::<2>(0, &[]), ["a@2", "a@4", "a@6", "b@5", "b@8"]);
}

#[test]
fn value_suffix_or_both_are_replaced_and_the_key_stays() {
    for (change, expected) in [
        (Change::Value, ["a#1@1=2long+", "b#clock@2=2+"]),
        (Change::Suffix, ["a#moved@1=1long", "b#moved@2=1"]),
        (Change::Both, ["a#moved@1=2long+", "b#moved@2=2+"]),
    ] {
        let (disk, plan) = (SimDisk::new(1), Plan::to(2));
        *plan.change.lock() = change;
        let tier = open(&disk, &plan);
        tier.set(&one(1, MULTI, "a#1=1long")).unwrap();
        tier.set(&one(2, MULTI, "b#clock=1")).unwrap();
        set_horizon(&tier, 2);
        compact(&tier).unwrap();
        assert_eq!(rows(&tier), expected, "{change:?}");
        drop(tier);
        let tier = open(&disk, &plan);
        assert_eq!(rows(&tier), expected, "{change:?}, opened again");
        assert_eq!(tier.get(MULTI, b"a", Version(1)).unwrap().version(), Some(Version(1)));
        check_summaries(&tier);
        tier.verify().unwrap();
    }
}

#[test]
fn long_values_are_migrated_as_short_ones_are() {
    let (disk, plan) = (SimDisk::new(1), Plan::to(2));
    let options = WarmOptions { compression_flushed: Compression::Lz4, ..small() };
    let tier = open_scope::<0>(&disk, options, &plan);
    let long = format!("1{}", "long ".repeat(2000));
    tier.set(&batch(1, &[(MULTI, b"a", Some(long.as_bytes())), (MULTI, b"b", Some(b"3"))])).unwrap();
    set_horizon(&tier, 1);
    compact(&tier).unwrap();
    let found = tier.get(MULTI, b"a", Version::MAX).unwrap();
    let thermocline_tier::Lookup::Value { bytes: value, .. } = found else { panic!("{found:?}") };
    assert_eq!(value, format!("2{}+", "long ".repeat(2000)).into_bytes());
    assert_eq!(summed(&tier), Seen::of([(b'2', 1), (b'3', 1)]));
}

#[test]
fn context_is_asked_for_again_between_steps_and_never_within_a_key() {
    let (disk, plan) = (SimDisk::new(1), Plan::to(2));
    let options = WarmOptions { step_size_bytes: 300, file_size_bytes: 4 << 10, ..small() };
    let tier = open_scope::<2>(&disk, options, &plan);
    for version in 1..=3 {
        let writes: Vec<String> = (0..60).map(|key| format!("{key:03}")).collect();
        let writes: Vec<_> = writes.iter().map(|key| (MULTI, key.as_bytes(), Some(&b"1 with something more"[..]))).collect();
        tier.set(&batch(version, &writes)).unwrap();
    }
    // One thread at a time works on the rewrite: in two parts, of which each has a context of its own.
    plan.grows_every.store(50, Ordering::Relaxed);
    compact(&tier).unwrap();
    let offered = plan.offered.lock().clone();
    assert!(offered.len() >= 180);
    let contexts: BTreeSet<u64> = offered.iter().map(|(_, context)| *context).collect();
    assert!(contexts.len() >= 3, "{contexts:?}");
    for versions in offered.chunk_by(|one, next| one.0[..3] == next.0[..3]) {
        assert!(versions.iter().all(|(_, context)| *context == versions[0].1), "{versions:?}");
    }
    let report = migrating(&tier).migration_counters().done;
    assert!(contexts.iter().all(|context| report.contexts.contains(context)), "{:?} of {contexts:?}", report.contexts);
    let found = rows(&tier);
    assert_eq!(found.len(), 180);
    assert!(
        found.iter().all(|row| row.contains("with something more+") && !row.contains("=1")),
        "each was migrated, once at least"
    );
    check_summaries(&tier);
}

#[test]
fn rows_that_are_filtered_go_and_uncover_nothing_in_other_files() {
    for has_older in [false, true] {
        let (disk, plan) = (SimDisk::new(1), Plan::to(2));
        let tier = open(&disk, &plan);
        if has_older {
            // One level below, so that the rewrite of what is flushed later may not read it.
            tier.set(&one(1, MULTI, "b=1older")).unwrap();
            compact(&tier).unwrap();
        }
        tier.set(&one(3, MULTI, "a=1")).unwrap();
        tier.set(&one(4, MULTI, "b=1x")).unwrap();
        tier.set(&one(5, MULTI, "c=1x")).unwrap();
        set_horizon(&tier, 4);
        plan.filters.store(true, Ordering::Relaxed);
        compact(&tier).unwrap();
        assert_eq!(*plan.filtered.lock(), ["b@4"], "c is not settled");
        assert_eq!(plan.take_offered(), ["a@3"], "what is filtered is not offered");
        assert_eq!(rows(&tier), ["a@3=2+", "c@5=1x"]);
        assert!(!tier.contains(MULTI, b"b", Version::MAX).unwrap());
        assert_eq!(migrating(&tier).migration_counters().done.filtered, 1);
        check_summaries(&tier);
    }
}

#[test]
fn rows_that_a_pin_may_see_are_not_filtered() {
    for (pin, is_there) in [(None, false), (Some(2), false), (Some(3), true), (Some(9), true)] {
        let (disk, plan) = (SimDisk::new(1), Plan::to(0));
        plan.filters.store(true, Ordering::Relaxed);
        let tier = open(&disk, &plan);
        tier.set_retention(Arc::new(Pins(Mutex::new(pin.into_iter().collect()), 8)));
        // The pin of 2 has something of its own to see; it leaves nothing settled above.
        tier.set(&one(3, SOURCE, "k=1x")).unwrap();
        compact(&tier).unwrap();
        let is_unsettled = pin == Some(2);
        assert_eq!(tier.contains(SOURCE, b"k", Version::MAX).unwrap(), is_there || is_unsettled, "{pin:?}");
    }
}

#[test]
fn file_is_rewritten_for_the_strategy_s_sake_once_and_again_under_a_new_context() {
    let (disk, plan) = (SimDisk::new(1), Plan::to(2));
    let tier = open(&disk, &plan);
    tier.set(&one(1, MULTI, "a=1")).unwrap();
    tier.set(&one(9, MULTI, "b=1")).unwrap();
    compact(&tier).unwrap();
    set_horizon(&tier, 5);
    let work = || (0..100).take_while(|_| tier.step().unwrap()).count();
    assert_eq!(work(), 0, "nothing calls for it");
    plan.wants.store(true, Ordering::Relaxed);
    // It was nothing when it was asked last; now something has changed that the tier hears of.
    set_horizon(&tier, 6);
    assert!(work() > 0);
    assert_eq!((plan.take_offered(), summed(&tier)), (vec!["a@1".to_owned()], Seen::of([(b'1', 1), (b'2', 1)])));
    assert_eq!(work(), 0, "b is of an old schema, but not settled");
    plan.target.store(3, Ordering::Relaxed);
    assert!(work() > 0);
    assert_eq!(plan.take_offered(), ["a@1"]);
    set_horizon(&tier, 9);
    assert!(work() > 0);
    assert_eq!(summed(&tier), Seen::of([(b'3', 2)]));
    assert_eq!(work(), 0);
}

#[test]
fn strategy_that_is_offered_everything_is_not_offered_it_again_and_again() {
    let (disk, plan) = (SimDisk::new(1), Plan::to(2));
    let tier = open_scope::<2>(&disk, small(), &plan);
    tier.set(&one(1, MULTI, "a=1")).unwrap();
    tier.set(&one(2, MULTI, "a=9")).unwrap();
    compact(&tier).unwrap();
    assert_eq!(plan.take_offered(), ["a@1", "a@2"]);
    assert!(migrating(&tier).behind(2).is_empty(), "nothing is left");
    plan.wants.store(true, Ordering::Relaxed);
    assert_eq!(migrating(&tier).behind(3).len(), 1);
    plan.target.store(3, Ordering::Relaxed);
    assert!((0..100).take_while(|_| tier.step().unwrap()).count() < 100);
    assert_eq!(plan.take_offered(), ["a@1", "a@2"]);
}
