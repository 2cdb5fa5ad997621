//! The table of cases, and how one is run.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::backend::{Backend, Capability, Step};
use crate::cases;
use crate::failure::{CaseFailure, CaseResult};
use crate::harness::Harness;

/// One case of the kit.
///
/// ```
/// use thermocline_conformance::Case;
///
/// let case = Case::find(4).expect("the kit has case 4");
/// assert_eq!((case.name, case.clauses), ("case_004_tombstone_is_its_own_answer", ["C2"].as_slice()));
/// ```
#[derive(Clone, Copy)]
pub struct Case {
    /// Its number, which never changes and is never given to another.
    pub number: u16,
    /// Its number and the fact that it proves.
    pub name: &'static str,
    /// The clauses of the contract of [`TierStorage`](thermocline_tier::TierStorage) that it checks.
    pub clauses: &'static [&'static str],
    /// What it needs of a backend; without it the case is skipped.
    pub needs: &'static [Capability],
    /// The case itself, for a fresh instance.
    pub run: fn(&mut Harness<'_>) -> CaseResult,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What came of a case.
///
/// ```
/// assert!(!thermocline_conformance::Outcome::Passed.is_failure());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The backend does what the case expects.
    Passed,
    /// The backend declares that it lacks what the case needs.
    Skipped(Capability),
    /// The backend does something else.
    Failed(CaseFailure),
}

impl Outcome {
    /// A failure, or a case skipped in its midst.
    pub(crate) fn of_failure(failure: CaseFailure) -> Self {
        failure.lacks().map_or(Self::Failed(failure), Self::Skipped)
    }

    /// Whether the case failed.
    pub fn is_failure(&self) -> bool {
        matches!(self, Self::Failed(_))
    }
}

macro_rules! table {
    ({} $($number:literal $name:ident $module:ident [$($clause:ident)*] [$($need:expr),*];)*) => {
        &[$(Case {
            number: $number,
            name: stringify!($name),
            clauses: &[$(stringify!($clause)),*],
            needs: &[$($need),*],
            run: cases::$module::$name,
        }),*]
    };
}

impl Case {
    /// Every case that runs on a tier, by number.
    pub const ALL: &'static [Self] = {
        use Capability::Takes;
        crate::for_each_tier_case!(table, {})
    };

    /// The case of a number; `None` if no tier case has it.
    pub fn find(number: u16) -> Option<&'static Self> {
        Self::ALL.iter().find(|case| case.number == number)
    }

    /// Runs the case on fresh instances of `backend`: once as it stands, and once for each step of the backend, taken after every
    /// write. A panic of the backend is a failure.
    pub fn run_on(&self, backend: &Backend) -> Outcome {
        if let Some(lacking) = self.needs.iter().find(|need| !backend.has(**need)) {
            return Outcome::Skipped(*lacking);
        }
        let schedules = std::iter::once(None).chain(backend.steps().iter().copied().map(Some));
        for schedule in schedules {
            if let Err(failure) = self.run_with(backend, schedule) {
                return Outcome::of_failure(failure.in_case(self.number, self.name));
            }
        }
        Outcome::Passed
    }

    fn run_with(&self, backend: &Backend, schedule: Option<Step>) -> CaseResult {
        let mut harness = Harness::new(backend, schedule)?;
        // The harness is only read after a panic, for the state that the message names.
        let result = catch_unwind(AssertUnwindSafe(|| (self.run)(&mut harness)));
        let result = result.unwrap_or_else(|payload| Err(CaseFailure::new("the backend", "no panic", panic_message(&*payload))));
        result.map_err(|failure| harness.annotate(failure))
    }
}

pub(crate) fn panic_message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    format!("a panic: {}", text.unwrap_or("without a message"))
}
