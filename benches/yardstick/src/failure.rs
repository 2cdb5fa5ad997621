//! Why a measurement ends early.

/// The result of everything that measures.
pub type Outcome<T> = Result<T, Failure>;

/// What stopped a measurement.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The engine answered something else than the model: the row's figure means nothing.
    #[error("wrong answer: {0}")]
    Wrong(String),
    /// The engine has no way to do what a phase asks for.
    #[error("not supported: {0}")]
    Unsupported(String),
    /// The engine failed.
    #[error("the engine failed: {0}")]
    Engine(Box<dyn std::error::Error + Send + Sync>),
    /// The machine failed.
    #[error("cannot {what}: {source}")]
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
    pub fn machine(what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Machine { what, source }
    }

    /// For `map_err` on calls to an engine.
    pub fn engine(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Engine(error.into())
    }
}

impl From<thermocline::Error> for Failure {
    fn from(error: thermocline::Error) -> Self {
        Self::engine(error)
    }
}
