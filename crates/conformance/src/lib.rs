//! Checks of Thermocline's tiers: numbered cases, a reference model, and random histories compared with it.
//!
//! For anybody who writes a backend behind [`TierStorage`](thermocline_tier::TierStorage): a [`Backend`] says how to make one and
//! what it can do; [`tier_conformance!`] makes a test of each case, [`run_all`] runs them without a test framework.
//!
//! ```
//! use std::sync::Arc;
//! use thermocline_conformance::{Backend, ModelTier, run_all};
//!
//! let report = run_all(&Backend::new("model", || Arc::new(ModelTier::new())));
//! assert!(report.is_success(), "{report}");
//! ```
//!
//! A case is a function named by its number and the fact that it proves. It writes to a fresh instance and checks answers written
//! in a short notation (`v3@3` the value `v3` of version 3, `~@5` a tombstone, `-` absent). A backend that can flush, compact or
//! reopen declares these as [`Step`]s: every case then runs with each step taken after every write too, and checks what it expects
//! after each step again. What a backend cannot do it declares as a lacking [`Capability`]; nothing is skipped in silence in a
//! [`Report`].
//!
//! The kit itself is checked by mutants: backends broken on purpose, each of which some case must catch.
//!
//! The cases of a store (72, 83 for its purges, 86, 91 to 95, 106 to 113, 141 by commits) stand apart and take a [`StoreBackend`], which also runs the cases of
//! tiers through a store. Numbers in neither belong to flush and caches (96 to 105), and to snapshot sets, projections and
//! migration (114 to 140).

#![forbid(unsafe_code)]

mod backend;
mod case;
mod cases;
mod durable_journal;
mod durable_model;
mod failure;
mod harness;
mod history;
mod macros;
mod model;
mod notation;
mod report;
mod scans;
mod stacked;
mod store_backend;
mod store_cases;
mod store_tier;

pub use backend::{Backend, Capability, Step, Subject};
pub use case::{Case, Outcome};
pub use durable_model::DurableModel;
pub use failure::{CaseFailure, CaseResult};
pub use harness::Harness;
pub use history::{HistoryOptions, KEYS, Operation, Run, Write, operations, random_histories, run_history};
pub use model::ModelTier;
pub use report::{Report, run_all, run_cases};
/// The test framework that [`tier_conformance!`] uses, so that a user of it needs no dependency of their own.
pub use rstest;
pub use stacked::stacked;
pub use store_backend::StoreBackend;
pub use store_cases::StoreCase;
pub use store_tier::StoreTier;

/// Fails the test that runs it unless `backend` passes the case `number` or lacks what it needs.
///
/// # Panics
/// If the case fails, or if there is none of that number.
#[track_caller]
pub fn assert_case(backend: &Backend, number: u16) {
    let outcome = Case::find(number).map(|case| case.run_on(backend));
    match outcome {
        Some(Outcome::Passed | Outcome::Skipped(_)) => {}
        Some(Outcome::Failed(failure)) => fail_test(&format!("{}: {failure}", backend.name())),
        None => fail_test(&format!("there is no case {number}")),
    }
}

/// Fails the test that runs it unless the store of `backend` passes the store case `number` or lacks what it needs.
///
/// # Panics
/// If the case fails, or if there is none of that number.
#[track_caller]
pub fn assert_store_case(backend: &StoreBackend, number: u16) {
    match StoreCase::find(number).map(|case| case.run_on(backend)) {
        Some(Outcome::Passed | Outcome::Skipped(_)) => {}
        Some(Outcome::Failed(failure)) => fail_test(&format!("{}: {failure}", backend.name())),
        None => fail_test(&format!("there is no store case {number}")),
    }
}

/// How many histories a backend gets that takes no late versions: each late write makes its adapter write everything anew.
const HISTORIES_REBUILT: u32 = 8;

/// Fails the test that runs it unless `backend` agrees with the model on random histories of the default options; of a few of them
/// where late versions are lacking.
///
/// # Panics
/// If a history fails, with the shortest one found.
#[track_caller]
pub fn assert_histories(backend: &Backend) {
    let defaults = HistoryOptions::default();
    let histories = if backend.has(Capability::LateVersions) { defaults.histories } else { HISTORIES_REBUILT };
    if let Err(failure) = random_histories(backend, &HistoryOptions { histories, ..defaults }) {
        fail_test(&format!("{}: {failure}", backend.name()));
    }
}

#[expect(clippy::panic, reason = "a test fails by a panic, and only tests call what calls this")]
#[track_caller]
fn fail_test(message: &str) {
    panic!("{message}");
}
