//! The one poison state of a store: the first failure after which nothing may be written any more.

use std::sync::OnceLock;

use thermocline_tier::{Error, ErrorKind, Result};

/// Set once, never unset: only opening the store again finds out what is on disk.
#[derive(Debug, Default)]
pub(crate) struct Poison(OnceLock<Error>);

impl Poison {
    /// Poisons the store. Later causes are ignored: the first one explains the rest.
    pub(crate) fn set(&self, cause: &Error) {
        if self.0.set(cause.clone()).is_ok() {
            tracing::error!(%cause, "the store is read-only from now on");
        }
    }

    /// # Errors
    /// [`ErrorKind::Poisoned`] with the first failure as its source.
    pub(crate) fn check(&self) -> Result<()> {
        match self.0.get() {
            None => Ok(()),
            Some(cause) => Err(Error::with_source(ErrorKind::Poisoned, cause.clone())),
        }
    }

    /// The first failure.
    pub(crate) fn cause(&self) -> Option<&Error> {
        self.0.get()
    }
}
