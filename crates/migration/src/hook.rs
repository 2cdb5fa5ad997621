//! Calling what an engine wrote: panics end here, and so do calls back that could not end.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use thermocline_tier::{Error, ErrorKind, Result};

use crate::row::StoredRow;
use crate::strategy::{HookError, Strategy};

thread_local! {
    static IS_IN_HOOK: Cell<bool> = const { Cell::new(false) };
}

/// Refuses what a hook must not do: change the store, or wait for the work that the hook is a part of.
///
/// ```
/// assert!(thermocline_migration::check_not_in_hook("commit").is_ok(), "no hook runs on this thread");
/// ```
///
/// # Errors
/// [`Reentrant`](ErrorKind::Reentrant) naming `what`, on a thread that runs a hook.
pub fn check_not_in_hook(what: &'static str) -> Result<()> {
    if IS_IN_HOOK.get() { Err(ErrorKind::Reentrant { what }.into()) } else { Ok(()) }
}

/// Marks the thread as one that runs a hook, until it is dropped.
struct InHook(bool);

impl InHook {
    fn enter() -> Self {
        Self(IS_IN_HOOK.replace(true))
    }
}

impl Drop for InHook {
    fn drop(&mut self) {
        IS_IN_HOOK.set(self.0);
    }
}

/// Shows a row that is in no file yet to a strategy, on behalf of whoever asks what is in memory.
///
/// # Errors
/// [`CallbackFailed`](ErrorKind::CallbackFailed) if it fails or panics.
pub fn observe<S: Strategy>(strategy: &S, summary: &mut S::Summary, row: &StoredRow<'_>) -> Result<()> {
    call("observe", || row.place(), || strategy.observe(summary, row))
}

/// Runs a hook. What it fails with, or panics with, becomes an error that names the hook and the place; that a file is damaged stays what it is.
pub(crate) fn call<T>(
    hook: &'static str,
    place: impl FnOnce() -> String,
    run: impl FnOnce() -> std::result::Result<T, HookError>,
) -> Result<T> {
    let answer = {
        let _in_hook = InHook::enter();
        // Whatever it leaves half done is its own, and is thrown away with the job.
        catch_unwind(AssertUnwindSafe(run))
    };
    match answer {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(failed(hook, &place(), error)),
        Err(panic) => Err(failed(hook, &place(), format!("panicked: {}", message(&*panic)).into())),
    }
}

#[cold]
fn failed(hook: &'static str, place: &str, error: HookError) -> Error {
    match error.downcast::<Error>() {
        // What it got from the row's own value; anything else is about something of the engine's.
        Ok(error) if error.kind() == &ErrorKind::Corruption => error.context(format!("{hook} of {place}")),
        Ok(error) => Error::with_source(ErrorKind::CallbackFailed { what: format!("{hook} of {place}") }, *error),
        Err(error) => Error::with_source(ErrorKind::CallbackFailed { what: format!("{hook} of {place}") }, error),
    }
}

/// What a hook did that it must not do.
#[cold]
pub(crate) fn violation(hook: &'static str, place: &str, what: &str) -> Error {
    ErrorKind::CallbackViolation { what: format!("{hook} of {place}: {what}") }.into()
}

fn message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("with something that is no text")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<T>(run: impl FnOnce() -> std::result::Result<T, HookError>) -> Result<T> {
        call("migrate", || "key k".to_owned(), run)
    }

    #[test]
    fn panics_and_failures_are_errors_that_name_hook_and_place() {
        let failed = run::<()>(|| Err("no such schema".into())).unwrap_err();
        assert_eq!(failed.to_string(), "the strategy failed: migrate of key k: no such schema");
        assert!(matches!(failed.kind(), ErrorKind::CallbackFailed { .. }));
        let number = std::hint::black_box(3);
        let panicked = run::<()>(|| panic!("number {number}")).unwrap_err();
        assert_eq!(panicked.to_string(), "the strategy failed: migrate of key k: panicked: number 3");
        assert!(run::<()>(|| std::panic::panic_any(5)).unwrap_err().to_string().contains("no text"));
    }

    #[test]
    fn error_of_a_file_keeps_its_kind() {
        let error = run::<()>(|| Err(Error::new(ErrorKind::Corruption).into())).unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Corruption);
        let of_another_store = run::<()>(|| Err(Error::new(ErrorKind::Poisoned).into())).unwrap_err();
        assert!(matches!(of_another_store.kind(), ErrorKind::CallbackFailed { .. }), "this store is not poisoned by it");
    }

    #[test]
    fn what_a_hook_must_not_do_is_refused_while_it_runs_and_only_then() {
        let refused = run(|| Ok(check_not_in_hook("commit"))).unwrap().unwrap_err();
        assert!(refused.to_string().contains("commit"), "{refused}");
        let handed_on = run::<()>(|| Ok(check_not_in_hook("commit")?)).unwrap_err();
        assert!(matches!(handed_on.kind(), ErrorKind::CallbackFailed { .. }), "the hook's fault, not the caller's");
        check_not_in_hook("commit").unwrap();
        run::<()>(|| panic!("in the middle")).unwrap_err();
        check_not_in_hook("commit").unwrap();
    }
}
