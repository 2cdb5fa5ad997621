//! The table of cases itself.

use std::collections::BTreeSet;

use thermocline_conformance::{Backend, Capability, Case, ModelTier, Outcome, run_all};

/// Numbers that a single tier, or a stack of two, cannot show: they need a store.
const STORE: [u16; 2] = [72, 86];

#[test]
fn every_number_that_a_tier_can_show_has_one_case() {
    let wanted: Vec<u16> = (1..=90).filter(|number| !STORE.contains(number)).chain(141..=143).collect();
    let found: Vec<u16> = Case::ALL.iter().map(|case| case.number).collect();
    assert_eq!(found, wanted);
}

#[test]
fn names_begin_with_the_number_and_are_unique() {
    for case in Case::ALL {
        assert!(case.name.starts_with(&format!("case_{:03}_", case.number)), "{}", case.name);
        assert_eq!(Case::find(case.number).map(|found| found.name), Some(case.name));
    }
    let names: BTreeSet<&str> = Case::ALL.iter().map(|case| case.name).collect();
    assert_eq!(names.len(), Case::ALL.len());
}

/// C16, that readers never wait, is a promise about time, which no case measures.
#[test]
fn every_clause_of_the_contract_but_the_last_has_a_case() {
    let found: BTreeSet<String> = Case::ALL.iter().flat_map(|case| case.clauses).map(ToString::to_string).collect();
    let wanted: BTreeSet<String> = (1..=15).map(|number| format!("C{number}")).collect();
    assert_eq!(found, wanted);
}

#[test]
fn cases_are_skipped_only_for_what_the_backend_lacks() {
    let report = run_all(&Backend::new("model", || std::sync::Arc::new(ModelTier::new())));
    let skipped: Vec<_> = report.outcomes().iter().filter(|(_, outcome)| matches!(outcome, Outcome::Skipped(_))).collect();
    assert_eq!(skipped.iter().map(|(case, _)| case.number).collect::<Vec<_>>(), [70, 71]);
    assert!(skipped.iter().all(|(_, outcome)| matches!(outcome, Outcome::Skipped(Capability::Takes(_)))));
    assert!(report.is_success(), "{report}");
}
