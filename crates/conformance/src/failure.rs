//! What a case says when a backend does not do what it expects.

use std::error::Error;
use std::fmt;

use crate::backend::Capability;

/// The result of a case: nothing to say, or what was found instead of what was expected.
pub type CaseResult = Result<(), CaseFailure>;

/// A difference between what a case expects and what the backend did. One word wide, so that checks stay cheap.
///
/// ```
/// use thermocline_conformance::CaseFailure;
///
/// let failure = CaseFailure::new("get of a at version 4", "v3@3", "-").in_case(4, "case_004_tombstone_is_its_own_answer");
/// assert_eq!(failure.case(), Some(4));
/// assert_eq!(
///     failure.to_string(),
///     "case_004_tombstone_is_its_own_answer: get of a at version 4: expected v3@3, found -"
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaseFailure(Box<Inner>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Inner {
    case: Option<(u16, String)>,
    lacking: Option<Capability>,
    state: Option<String>,
    what: String,
    expected: String,
    found: String,
}

impl CaseFailure {
    /// A failure of one check: what was asked, what should have been answered, what was.
    pub fn new(what: impl Into<String>, expected: impl Into<String>, found: impl Into<String>) -> Self {
        let (what, expected, found) = (what.into(), expected.into(), found.into());
        Self(Box::new(Inner { case: None, lacking: None, state: None, what, expected, found }))
    }

    /// No failure, but the end of a case that meets what the backend lacks: the case then counts as skipped for it.
    #[must_use]
    pub fn lacking(capability: Capability) -> Self {
        let mut failure = Self::new("the backend", capability.to_string(), "none of it");
        failure.0.lacking = Some(capability);
        failure
    }

    /// What the backend lacks; `None` for a true failure.
    pub fn lacks(&self) -> Option<Capability> {
        self.0.lacking
    }

    /// Adds the case that failed; the first one stays.
    #[must_use]
    pub fn in_case(mut self, number: u16, name: &str) -> Self {
        self.0.case.get_or_insert_with(|| (number, name.into()));
        self
    }

    /// Adds the state of the backend in which it failed, such as "after reopen"; the first one stays.
    #[must_use]
    pub fn in_state(mut self, state: &str) -> Self {
        self.0.state.get_or_insert_with(|| state.into());
        self
    }

    /// The number of the case; `None` for a check outside the numbered cases.
    pub fn case(&self) -> Option<u16> {
        self.0.case.as_ref().map(|(number, _)| *number)
    }

    /// What was found, in the notation of the check.
    pub fn found(&self) -> &str {
        &self.0.found
    }
}

impl fmt::Display for CaseFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { case, lacking: _, state, what, expected, found } = &*self.0;
        if let Some((_, name)) = case {
            write!(f, "{name}: ")?;
        }
        if let Some(state) = state {
            write!(f, "{state}: ")?;
        }
        write!(f, "{what}: expected {expected}, found {found}")
    }
}

impl Error for CaseFailure {}

impl From<thermocline_tier::Error> for CaseFailure {
    fn from(error: thermocline_tier::Error) -> Self {
        Self::new("an operation of the backend", "no error", error.to_string())
    }
}
