//! Why a run of the benchmarks ends early.

/// The result of everything that measures.
pub(crate) type Outcome<T> = Result<T, Failure>;

/// What stopped a measurement.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The store answered something else than the model: the row's figure means nothing.
    #[error("wrong answer: {0}")]
    Wrong(String),
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] thermocline_tier::Error),
    /// The machine failed.
    #[error("cannot {what}")]
    Machine {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A measuring thread panicked; its message is on the standard error.
    #[error("a measuring thread panicked")]
    Panicked,
    /// The arguments make no sense.
    #[error("{0}")]
    Usage(String),
}

impl Failure {
    /// For `map_err` on calls to the machine.
    pub(crate) fn machine(what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Machine { what, source }
    }
}
