//! Random histories: operations drawn at random, done to a backend and to the model alike, and every answer compared. A history
//! that fails is shrunk to a short one.

mod operation;
mod run;

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

pub use operation::{KEYS, Operation, Run, Write, operations};
pub use run::run_history;

use crate::backend::Backend;
use crate::failure::{CaseFailure, CaseResult};

/// How many histories, how long, and which.
///
/// ```
/// use std::sync::Arc;
/// use thermocline_conformance::{Backend, HistoryOptions, ModelTier, random_histories};
///
/// let options = HistoryOptions { histories: 4, seed: 7, ..HistoryOptions::default() };
/// random_histories(&Backend::new("model", || Arc::new(ModelTier::new())), &options)?;
/// # Ok::<(), thermocline_conformance::CaseFailure>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryOptions {
    /// The number of histories.
    pub histories: u32,
    /// The most operations in one.
    pub operations_max: usize,
    /// The most simplifications that are tried on a history that fails.
    pub shrink_steps_max: u32,
    /// Decides which are drawn: equal seeds, equal histories.
    pub seed: u64,
}

impl Default for HistoryOptions {
    /// A few hundred histories of a fixed seed: a second or two for a tier in memory.
    fn default() -> Self {
        Self { histories: 500, operations_max: 60, shrink_steps_max: 5_000, seed: 1 }
    }
}

/// Compares `backend` with the model on random histories.
///
/// # Errors
/// The shortest failing history that shrinking found, with the seed and the first answer that differs.
pub fn random_histories(backend: &Backend, options: &HistoryOptions) -> CaseResult {
    let HistoryOptions { histories, operations_max, shrink_steps_max, seed } = *options;
    let config = Config { cases: histories, failure_persistence: None, max_shrink_iters: shrink_steps_max, ..Config::default() };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let run = runner.run(&operations(operations_max), |history| {
        run_history(backend, &history).map_err(|failure| TestCaseError::fail(failure.to_string()))
    });
    run.map_err(|error| match error {
        TestError::Fail(reason, history) => {
            let lines: Vec<String> = history.iter().map(|operation| format!("\n  {operation:?}")).collect();
            CaseFailure::new(format!("history of seed {seed}:{}\nit", lines.concat()), "the model's answers", reason.message())
        }
        TestError::Abort(reason) => CaseFailure::new("drawing histories", "histories", reason.message()),
    })
}
