//! The kit over the store on the project's own tiers.

use std::sync::Arc;

use thermocline_conformance::{Capability, Case, DurableModel, Outcome, StoreBackend, StoreCase, run_all};
use thermocline_hot::{BTreeTier, HotOptions, HotTier};
use thermocline_store::DurableRequest;
use thermocline_tier::{DurableTier, Result, TierStack, TierStorage};
use thermocline_warm::{OpenWarm, WarmOptions, WarmTier};

fn hot() -> StoreBackend {
    StoreBackend::new("store over hot", || Arc::new(HotTier::new(HotOptions::default())))
}

fn btree() -> StoreBackend {
    StoreBackend::new("store over btree", || Arc::new(BTreeTier::default()))
}

#[expect(clippy::expect_used, reason = "a stack of two tiers is never refused")]
fn hot_over_hot() -> StoreBackend {
    let hot = || Arc::new(HotTier::new(HotOptions::default())) as Arc<dyn TierStorage>;
    StoreBackend::new("store over hot over hot", move || {
        Arc::new(TierStack::new(vec![hot(), hot()]).expect("two tiers make a stack"))
    })
}

fn hot_over_model() -> StoreBackend {
    let hot = || Arc::new(HotTier::new(HotOptions::default()));
    StoreBackend::over("store over hot over a durable model", hot, |request| DurableModel::open(&request))
}

fn model_alone() -> StoreBackend {
    StoreBackend::durable("store over a durable model", |request| DurableModel::open(&request))
}

/// Opens the warm tier with files of a few entries and levels of a few files, so that all levels are in use.
fn open_warm(request: DurableRequest<'_>) -> Result<Arc<dyn DurableTier>> {
    let options = WarmOptions {
        cache_size_bytes: 64 << 10,
        file_size_bytes: 4 << 10,
        level0_flushes: 2,
        level0_flushes_slow: 4,
        level1_size_bytes: 8 << 10,
        level_size_ratio: 2,
        step_size_bytes: 1000,
        ..WarmOptions::default()
    };
    let DurableRequest { disk, store, is_read_only, .. } = request;
    Ok(Arc::new(WarmTier::open(OpenWarm { disk, store, options, is_read_only, migration: None })?))
}

fn hot_over_warm() -> StoreBackend {
    StoreBackend::over("store over hot over warm", || Arc::new(HotTier::new(HotOptions::default())), open_warm)
}

fn warm_alone() -> StoreBackend {
    StoreBackend::durable("store over warm", open_warm)
}

thermocline_conformance::store_conformance! {
    hot: hot(),
    btree: btree(),
    hot_over_hot: hot_over_hot(),
    hot_over_model: hot_over_model(),
    model_alone: model_alone(),
    hot_over_warm: hot_over_warm(),
    warm_alone: warm_alone(),
}

/// What a store skips, and for want of what. A case that is skipped anew must be entered here, with thought.
#[test]
fn skipped_cases_are_known() {
    let report = run_all(&btree().as_tier());
    assert!(report.is_success(), "{report}");
    let skipped: Vec<(u16, Capability)> = report
        .outcomes()
        .iter()
        .filter_map(|(case, outcome)| match outcome {
            Outcome::Skipped(lacking) => Some((case.number, *lacking)),
            Outcome::Passed | Outcome::Failed(_) => None,
        })
        .collect();
    assert_eq!(report.outcomes().len(), Case::ALL.len());
    let of = |capability: Capability| -> Vec<u16> {
        skipped.iter().filter(|(_, lacking)| *lacking == capability).map(|(number, _)| *number).collect()
    };
    assert_eq!(of(Capability::LateVersions), [5, 6, 19, 20, 21, 30, 32, 33, 53, 141]);
    assert_eq!(of(Capability::ExtremeVersions), [7]);
    assert_eq!(of(Capability::Stacking), [31, 60, 61, 62, 89]);
    assert_eq!(of(Capability::ExactStats), [88]);
    assert_eq!(skipped.len(), 17);
}

#[test]
fn store_cases_are_these_and_none_is_skipped() {
    let numbers: Vec<u16> = StoreCase::ALL.iter().map(|case| case.number).collect();
    assert_eq!(numbers, [72, 83, 86, 91, 92, 93, 94, 95, 106, 107, 108, 109, 110, 111, 112, 113, 141]);
    let skipped = StoreCase::ALL.iter().filter(|case| matches!(case.run_on(&btree()), Outcome::Skipped(_)));
    assert_eq!(skipped.count(), 0);
}
