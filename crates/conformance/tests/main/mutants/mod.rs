//! Backends that are wrong on purpose. Each must fail the cases named for it, and every case must be failed by one of them: a case
//! that nothing fails proves nothing.

mod durable;
mod mutation;
mod page;
mod tier;

use std::collections::BTreeSet;
use std::sync::Arc;

use thermocline_conformance::{Backend, Case, HistoryOptions, ModelTier, Subject, random_histories, run_all, run_cases};

use durable::{DurableMutant, STEPS};
use mutation::{CAUGHT_BY, Mutation};
use tier::MutantTier;

fn durable(mutation: Mutation) -> Backend {
    Backend::with_subjects("mutant", STEPS, move || Ok(Box::new(DurableMutant::new(mutation)) as Box<dyn Subject>))
}

fn backend(mutation: Mutation) -> Backend {
    let backend = if mutation.is_about_steps() {
        durable(mutation)
    } else {
        Backend::new("mutant", move || Arc::new(MutantTier::new(mutation, ModelTier::new())))
    };
    backend.with_budget(move |bytes| {
        let model = if mutation == Mutation::BudgetIgnored { ModelTier::new() } else { ModelTier::with_budget(bytes) };
        Arc::new(MutantTier::new(mutation, model))
    })
}

/// What shows only by luck, on threads, is tried so often.
const TRIES_ON_THREADS: usize = 10;

/// Mutations that random histories do not find, since these have one thread, no budget, small keys and values and few versions.
const UNSEEN_BY_HISTORIES: &[Mutation] = &[
    Mutation::KeysCut,
    Mutation::ValuesCut,
    Mutation::RefusedBatchHalfApplied,
    Mutation::BudgetIgnored,
    Mutation::RangeLooksAtThousandVersions,
    Mutation::WrongDirectionTaken,
    Mutation::ZeroBatchTaken,
    Mutation::BatchEntryByEntry,
    Mutation::ManyOneByOne,
    Mutation::PageRowByRow,
    Mutation::DropOneByOne,
    Mutation::ClearKeyByKey,
    Mutation::UpdateRemovesFirst,
    Mutation::ValueInHalves,
];

fn fails(backend: &Backend, number: u16, tries: usize) -> bool {
    Case::find(number).is_some_and(|case| (0..tries).any(|_| case.run_on(backend).is_failure()))
}

#[test]
fn each_mutant_fails_every_case_named_for_it() {
    let mut survivors = Vec::new();
    for (mutation, cases) in CAUGHT_BY {
        let backend = backend(*mutation);
        let tries = if mutation.is_about_threads() { TRIES_ON_THREADS } else { 1 };
        let passed: Vec<u16> = cases.iter().copied().filter(|number| !fails(&backend, *number, tries)).collect();
        if cases.is_empty() || !passed.is_empty() {
            survivors.push(format!("{mutation:?} passes {passed:?} of {cases:?}"));
        }
    }
    assert!(survivors.is_empty(), "{survivors:#?}");
}

#[test]
fn each_case_is_failed_by_a_mutant() {
    let failed: BTreeSet<u16> = CAUGHT_BY.iter().flat_map(|(_, cases)| cases.iter().copied()).collect();
    let all: BTreeSet<u16> = Case::ALL.iter().map(|case| case.number).collect();
    assert_eq!(failed, all);
}

#[test]
fn wrapper_without_a_mutation_passes() {
    let memory = run_all(&backend(Mutation::Unchanged));
    assert!(memory.is_success(), "{memory}");
    // Moving 64 MiB about, and readers beside writers, show nothing of the steps.
    let cases = Case::ALL.iter().filter(|case| ![15, 26, 84, 141, 142, 143].contains(&case.number));
    let durable = run_cases(&durable(Mutation::Unchanged), cases);
    assert!(durable.is_success(), "{durable}");
}

#[test]
fn random_histories_find_what_one_thread_can() {
    let options = HistoryOptions { shrink_steps_max: 0, ..HistoryOptions::default() };
    let is_found = |mutation: &Mutation| random_histories(&backend(*mutation), &options).is_err();
    let all = CAUGHT_BY.iter().map(|(mutation, _)| mutation).filter(|mutation| !UNSEEN_BY_HISTORIES.contains(mutation));
    let unseen: Vec<_> = all.filter(|mutation| !is_found(mutation)).collect();
    assert!(unseen.is_empty(), "{unseen:?}");
}

/// A failing history of dozens of operations comes back as the few that matter.
#[test]
fn failing_history_is_shrunk() {
    let failure = random_histories(&backend(Mutation::DropRemovesKey), &HistoryOptions::default());
    let text = failure.expect_err("the mutant is found").to_string();
    let operations = text.lines().filter(|line| line.starts_with("  ")).count();
    assert!((2..=4).contains(&operations), "{text}");
}
