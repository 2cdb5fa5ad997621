//! The kit over the project's own tiers, and over stacks of them.

use std::sync::Arc;

use thermocline_conformance::{Backend, ModelTier, stacked};
use thermocline_hot::{BTreeTier, HotOptions, HotTier};

fn model() -> Backend {
    Backend::new("model", || Arc::new(ModelTier::new())).with_budget(|bytes| Arc::new(ModelTier::with_budget(bytes)))
}

fn limited(bytes: u64) -> HotOptions {
    HotOptions { memory_limit_bytes: Some(bytes), ..HotOptions::default() }
}

fn hot() -> Backend {
    Backend::new("hot", || Arc::new(HotTier::new(HotOptions::default())))
        .with_budget(|bytes| Arc::new(HotTier::new(limited(bytes))))
}

fn btree() -> Backend {
    Backend::new("btree", || Arc::new(BTreeTier::new(HotOptions::default())))
        .with_budget(|bytes| Arc::new(BTreeTier::new(limited(bytes))))
}

thermocline_conformance::tier_conformance! {
    model: model(),
    model_over_model: stacked(&model()),
    btree: btree(),
    hot: hot(),
    hot_over_hot: stacked(&hot()),
}
