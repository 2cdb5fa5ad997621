//! Hooks that fail, panic, or do what they must not.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use thermocline_io::SimDisk;
use thermocline_migration::erase;
use thermocline_tier::{DurableTier, ErrorKind, KeyRange, TierStorage, Version};
use thermocline_warm::{OpenWarm, StoreId, WarmOptions, WarmTier};

use super::{
    Change, Plan, Schemas, Seen, Targets, Trouble, check_summaries, migrating, open, open_scope, rows, set_horizon, summed,
};
use crate::backends::{compact, small};
use crate::support::{MULTI, SOURCE, batch, check_no_orphans, one};

const KEYS: u64 = 12;

/// Some settled rows of schema 1, of which each step of a rewrite reads a few.
fn filled(disk: &SimDisk, plan: &Arc<Plan>) -> Arc<WarmTier> {
    let tier = open_scope::<3>(disk, WarmOptions { step_size_bytes: 40, ..small() }, plan);
    for version in 1..=KEYS {
        tier.set(&one(version, MULTI, &format!("k{version:02}=1"))).unwrap();
    }
    set_horizon(&tier, KEYS);
    tier
}

#[test]
fn hook_that_fails_at_any_row_changes_nothing_and_the_next_run_succeeds() {
    for trouble in [Trouble::Fails, Trouble::Panics] {
        for call in 0..KEYS {
            let (disk, plan) = (SimDisk::new(1), Plan::to(2));
            let tier = filled(&disk, &plan);
            let (before, files) = (rows(&tier), migrating(&tier).summaries());
            *plan.trouble.lock() = Some((plan.calls.load(Ordering::Relaxed) + call, trouble));
            let failed = tier.compact(MULTI, &KeyRange::all(), &|| {}).unwrap_err();
            assert!(matches!(failed.kind(), ErrorKind::CallbackFailed { .. }), "{failed}");
            assert!(failed.to_string().contains("key b\"k"), "{failed}");
            assert_eq!((rows(&tier), migrating(&tier).summaries()), (before, files), "{trouble:?} at {call}");
            check_no_orphans(&disk, &tier).unwrap();
            let counters = migrating(&tier).migration_counters();
            assert_eq!((counters.failures, counters.done.offered), (1, 0));
            assert_eq!(counters.last_failure.unwrap().to_string(), failed.to_string());

            compact(&tier).unwrap();
            assert_eq!(summed(&tier), Seen::of([(b'2', KEYS)]), "{trouble:?} at {call}");
            assert!(rows(&tier).iter().all(|row| row.ends_with("=2+")));
            check_summaries(&tier);
        }
    }
}

#[test]
fn hook_that_fails_while_rows_are_flushed_leaves_all_as_it_was() {
    let (disk, plan) = (SimDisk::new(1), Plan::to(2));
    let tier = open(&disk, &plan);
    tier.set(&one(1, MULTI, "a=1")).unwrap();
    *plan.trouble.lock() = Some((2, Trouble::Panics));
    let writes = [(MULTI, &b"b"[..], Some(&b"1"[..])), (MULTI, b"c", Some(b"1"))];
    let failed = tier.set(&batch(2, &writes)).unwrap_err();
    assert!(failed.to_string().contains("observe of table multi, key b\"c\", version 2: panicked: panic in call 2"), "{failed}");
    assert_eq!(rows(&tier), ["a@1=1"]);
    check_no_orphans(&disk, &tier).unwrap();
    tier.set(&batch(2, &writes)).unwrap();
    assert_eq!(summed(&tier), Seen::of([(b'1', 3)]));
    assert_eq!(migrating(&tier).migration_counters().failures, 1);
}

#[test]
fn answers_that_would_not_be_the_same_key_or_not_fit_are_refused_by_name() {
    for (change, expected) in [
        (Change::OtherPrefix, ": with the new suffix of 10 bytes, layout marked takes 7 bytes"),
        (Change::LongKey, ": a key of 70004 bytes, over the limit of 65535"),
        (Change::Restless, ": it changes again what it has made"),
    ] {
        let (disk, plan) = (SimDisk::new(1), Plan::to(2));
        *plan.change.lock() = change;
        let tier = filled(&disk, &plan);
        let before = rows(&tier);
        let refused = tier.compact(MULTI, &KeyRange::all(), &|| {}).unwrap_err();
        assert!(matches!(refused.kind(), ErrorKind::CallbackViolation { .. }), "{refused}");
        assert!(refused.to_string().contains(expected) && refused.to_string().contains("table multi, key b\"k"), "{refused}");
        assert_eq!(rows(&tier), before);
        check_no_orphans(&disk, &tier).unwrap();
        *plan.change.lock() = Change::Value;
        compact(&tier).unwrap();
        assert_eq!(summed(&tier), Seen::of([(b'2', KEYS)]));
    }
}

#[test]
fn summary_that_is_too_long_fails_the_job_and_nothing_else() {
    let (disk, plan) = (SimDisk::new(1), Plan::to(2));
    let tier = filled(&disk, &plan);
    let before = rows(&tier);
    plan.padding.store(7300, Ordering::Relaxed);
    let refused = tier.compact(MULTI, &KeyRange::all(), &|| {}).unwrap_err();
    assert!(refused.to_string().contains("over the limit of 65512"), "{refused}");
    assert_eq!(rows(&tier), before);
    check_no_orphans(&disk, &tier).unwrap();
    plan.padding.store(0, Ordering::Relaxed);
    compact(&tier).unwrap();
    assert_eq!(summed(&tier), Seen::of([(b'2', KEYS)]));
}

#[test]
fn context_that_goes_back_is_refused() {
    let (disk, plan) = (SimDisk::new(1), Plan::to(5));
    let tier = filled(&disk, &plan);
    // It takes many steps; meanwhile the engine's catalog forgets something.
    plan.falls_after.store(6, Ordering::Relaxed);
    let refused = tier.compact(MULTI, &KeyRange::all(), &|| {}).unwrap_err();
    assert!(refused.to_string().contains("its id is 4, and 5 before"), "{refused}");
    compact(&tier).unwrap();
}

#[test]
fn work_on_other_files_goes_on_while_a_hook_fails() {
    let (disk, plan) = (SimDisk::new(1), Plan::to(2));
    let tier = open(&disk, &plan);
    let value = [b'1'; 100];
    let fill = |table, prefix: &str, version: u64| {
        let rows: Vec<String> = (0..80).map(|key| format!("{prefix}{key:03}")).collect();
        let rows: Vec<_> = rows.iter().map(|key| (table, key.as_bytes(), Some(&value[..]))).collect();
        tier.set(&batch(version, &rows)).unwrap();
        tier.compact(table, &KeyRange::all(), &|| {}).unwrap();
    };
    (1..8).for_each(|version| fill(MULTI, "m", version));
    (8..16).for_each(|version| fill(SOURCE, "s", version));
    assert!(tier.files().iter().filter(|file| file.first.0 == MULTI).count() > 2, "several groups of files fail");
    plan.fails_in_multi.store(true, Ordering::Relaxed);
    set_horizon(&tier, 15);
    let mut failures = 0;
    while failures < 40 {
        match tier.step() {
            Ok(true) => {}
            Ok(false) => panic!("there is something that fails"),
            Err(error) => {
                assert!(error.to_string().contains("table multi"), "{error}");
                failures += 1;
            }
        }
    }
    let offered: std::collections::BTreeSet<String> = plan.take_offered().into_iter().collect();
    assert_eq!(offered.len(), 80, "the whole of the other table: {offered:?}");
    assert_eq!(migrating(&tier).migration_counters().failures, failures);
    plan.fails_in_multi.store(false, Ordering::Relaxed);
    compact(&tier).unwrap();
    assert!(rows(&tier).iter().all(|row| row.contains("=2")));
}

#[test]
fn context_without_a_number_fails_the_job_and_no_more() {
    let (disk, plan) = (SimDisk::new(1), Plan::to(2));
    let tier = filled(&disk, &plan);
    plan.panics_in_id.store(true, Ordering::Relaxed);
    let failed = tier.compact(MULTI, &KeyRange::all(), &|| {}).unwrap_err();
    assert!(failed.to_string().contains("context of strategy schemas: panicked: no number"), "{failed}");
    plan.panics_in_id.store(false, Ordering::Relaxed);
    compact(&tier).unwrap();
    assert_eq!(summed(&tier), Seen::of([(b'2', KEYS)]));
}

/// The strategy of the same name with summaries of nothing.
#[derive(Debug)]
struct Forgetful(Schemas<0>);

impl thermocline_migration::Strategy for Forgetful {
    type Summary = ();
    type Context = super::Target;
    type ContextSource = Targets;

    fn name(&self) -> &'static str {
        "schemas"
    }

    fn layout(&self) -> thermocline_tier::SharedLayout {
        self.0.layout()
    }

    fn contexts(&self) -> &Targets {
        self.0.contexts()
    }

    fn observe(&self, (): &mut (), _row: &thermocline_migration::StoredRow<'_>) -> Result<(), thermocline_migration::HookError> {
        Ok(())
    }
}

#[test]
fn summaries_that_cannot_be_read_are_made_anew_in_the_background() {
    let (disk, plan) = (SimDisk::new(1), Plan::to(2));
    let files = filled(&disk, &plan).files().len();
    let migration = Some(erase(Arc::new(Forgetful(Schemas::<0>(Targets(Arc::clone(&plan)))))));
    let (shared, store, options) = (Arc::new(disk.clone()), StoreId([7; 16]), WarmOptions { level0_flushes: 64, ..small() });
    let tier = WarmTier::open(OpenWarm { disk: shared, store, options, is_read_only: false, migration }).unwrap();
    let is_read = |file: &thermocline_tier::FileSummary| {
        thermocline_migration::Slot::decode(&file.slot).is_some_and(|slot| slot.summary.is_empty())
    };
    assert!(!migrating(&tier).summaries().iter().any(is_read));
    let steps = (0..100).take_while(|_| tier.step().unwrap()).count();
    assert!(steps >= files && steps < 100, "{steps}");
    assert!(migrating(&tier).summaries().iter().all(is_read));
}

#[test]
fn strategy_of_another_name_has_summaries_made_anew() {
    #[derive(Debug)]
    struct Renamed(Schemas<0>);
    impl thermocline_migration::Strategy for Renamed {
        type Summary = super::Padded;
        type Context = super::Target;
        type ContextSource = Targets;
        fn name(&self) -> &'static str {
            "schemas-2"
        }
        fn layout(&self) -> thermocline_tier::SharedLayout {
            self.0.layout()
        }
        fn contexts(&self) -> &Targets {
            self.0.contexts()
        }
        fn observe(
            &self,
            summary: &mut super::Padded,
            row: &thermocline_migration::StoredRow<'_>,
        ) -> Result<(), thermocline_migration::HookError> {
            self.0.observe(summary, row)
        }
    }
    let (disk, plan) = (SimDisk::new(1), Plan::to(2));
    drop(filled(&disk, &plan));
    let open_renamed = |is_read_only| {
        let migration = Some(erase(Arc::new(Renamed(Schemas::<0>(Targets(Arc::clone(&plan)))))));
        let (disk, store) = (Arc::new(disk.clone()), StoreId([7; 16]));
        WarmTier::open(OpenWarm { disk, store, options: small(), is_read_only, migration }).unwrap()
    };
    for is_read_only in [true, false, true] {
        let tier = open_renamed(is_read_only);
        let unknown: Vec<u64> =
            migrating(&tier).summaries().iter().filter(|file| file.slot.is_empty()).map(|file| file.number).collect();
        let mut sum = Seen::default();
        for number in &unknown {
            let slot = migrating(&tier).summarize(*number).unwrap().unwrap();
            let slot = thermocline_migration::Slot::decode(&slot).unwrap();
            assert_eq!((slot.context, slot.observed_from > Version::ZERO), (None, true));
            sum.0.extend([(b'1', sum.0.get(&b'1').copied().unwrap_or_default() + 1)]);
        }
        if is_read_only && !unknown.is_empty() {
            // Nothing was kept.
            assert!(migrating(&tier).summaries().iter().all(|file| file.slot.is_empty()));
        } else {
            assert_eq!(summed(&tier), Seen::of([(b'1', KEYS)]));
            check_summaries(&tier);
        }
        assert_eq!(migrating(&tier).summarize(10_000).unwrap(), None, "there is no such file");
    }
    assert!(migrating(&open_renamed(true)).summaries().iter().all(|file| !file.slot.is_empty()), "it was kept");
}
