//! A run of the whole kit, for users without a test framework.

use std::fmt;

use crate::backend::Backend;
use crate::case::{Case, Outcome};
use crate::failure::CaseFailure;

/// What came of every case. Its text names the cases that failed and those that were skipped, one a line.
///
/// ```
/// use std::sync::Arc;
/// use thermocline_conformance::{Backend, Case, ModelTier, Outcome, run_cases};
///
/// let backend = Backend::new("model", || Arc::new(ModelTier::new()));
/// let report = run_cases(&backend, Case::ALL.iter().filter(|case| case.number == 71));
/// assert!(report.is_success());
/// assert_eq!(
///     report.to_string(),
///     "model: 0 passed, 0 failed, 1 skipped\n  case_071_clear_is_not_undone_by_a_crash: skipped, lacks crash and reopen"
/// );
/// ```
#[derive(Clone, Debug)]
pub struct Report {
    backend: String,
    outcomes: Vec<(&'static Case, Outcome)>,
}

impl Report {
    /// Each case that ran, with what came of it, in the order of the cases.
    pub fn outcomes(&self) -> &[(&'static Case, Outcome)] {
        &self.outcomes
    }

    /// The cases that failed, and why.
    pub fn failures(&self) -> impl Iterator<Item = (&'static Case, &CaseFailure)> {
        self.outcomes.iter().filter_map(|(case, outcome)| match outcome {
            Outcome::Failed(failure) => Some((*case, failure)),
            Outcome::Passed | Outcome::Skipped(_) => None,
        })
    }

    /// Whether no case failed.
    pub fn is_success(&self) -> bool {
        self.failures().next().is_none()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failed = self.failures().count();
        let skipped = self.outcomes.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Skipped(_))).count();
        let passed = self.outcomes.len() - failed - skipped;
        write!(f, "{}: {passed} passed, {failed} failed, {skipped} skipped", self.backend)?;
        for (case, outcome) in &self.outcomes {
            match outcome {
                Outcome::Passed => {}
                Outcome::Skipped(lacking) => write!(f, "\n  {}: skipped, lacks {lacking}", case.name)?,
                Outcome::Failed(failure) => write!(f, "\n  {failure}")?,
            }
        }
        Ok(())
    }
}

/// Runs every case on `backend`. A few seconds for a tier in memory.
pub fn run_all(backend: &Backend) -> Report {
    run_cases(backend, Case::ALL.iter())
}

/// Runs some of the cases on `backend`.
pub fn run_cases(backend: &Backend, cases: impl Iterator<Item = &'static Case>) -> Report {
    let outcomes = cases.map(|case| (case, case.run_on(backend))).collect();
    Report { backend: backend.name().into(), outcomes }
}
