//! The cases of a store, beside those that it runs as a tier: what its snapshots, its log and its directory promise.

mod damage;
mod durability;
mod ledger;
mod reclaim;
mod tables;
mod threads;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::backend::Capability;
use crate::case::{Outcome, panic_message};
use crate::failure::{CaseFailure, CaseResult};
use crate::store_backend::StoreBackend;

/// One case of a store.
///
/// ```
/// use thermocline_conformance::StoreCase;
///
/// assert_eq!(StoreCase::find(110).map(|case| case.name), Some("case_110_written_again_after_reopening"));
/// assert!(StoreCase::find(1).is_none(), "a tier case: the store runs it as a tier");
/// ```
#[derive(Clone, Copy)]
pub struct StoreCase {
    /// Its number, which never changes. 83 and 141 have a side that a tier shows, and one that a store shows.
    pub number: u16,
    /// Its number and the fact that it proves.
    pub name: &'static str,
    /// What it needs of a store; without it the case is skipped.
    pub needs: &'static [Capability],
    /// The case itself.
    pub run: fn(&StoreBackend) -> CaseResult,
}

impl fmt::Debug for StoreCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreCase").field("name", &self.name).finish_non_exhaustive()
    }
}

macro_rules! table {
    ({} $($number:literal $name:ident $module:ident [$($need:expr),*];)*) => {
        &[$(StoreCase { number: $number, name: stringify!($name), needs: &[$($need),*], run: $module::$name }),*]
    };
}

impl StoreCase {
    /// Every case of a store, by number.
    pub const ALL: &'static [Self] = crate::for_each_store_case!(table, {});

    /// The case of a number; `None` if no store case has it.
    pub fn find(number: u16) -> Option<&'static Self> {
        Self::ALL.iter().find(|case| case.number == number)
    }

    /// Runs the case on fresh stores of `backend`. A panic of the store is a failure.
    pub fn run_on(&self, backend: &StoreBackend) -> Outcome {
        if let Some(lacking) = self.needs.iter().find(|need| !backend.has(**need)) {
            return Outcome::Skipped(*lacking);
        }
        let result = catch_unwind(AssertUnwindSafe(|| (self.run)(backend)));
        match result.unwrap_or_else(|payload| Err(CaseFailure::new("the store", "no panic", panic_message(&*payload)))) {
            Ok(()) => Outcome::Passed,
            Err(failure) => Outcome::of_failure(failure.in_case(self.number, self.name)),
        }
    }
}
