//! Locks and atomics for the whole engine, from one place, so that a model checker can take their place.
//!
//! Locks come from `parking_lot`: they cannot be poisoned (the engine has its own, explicit poisoning) and are one byte wide.
//!
//! ```
//! use thermocline_io::sync::Mutex;
//! use thermocline_io::sync::atomic::{AtomicU64, Ordering};
//!
//! let total = Mutex::new(0_u64);
//! *total.lock() += 1;
//! let next = AtomicU64::new(7);
//! assert_eq!(next.fetch_add(*total.lock(), Ordering::AcqRel), 7);
//! ```

pub use parking_lot::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, WaitTimeoutResult};
pub use std::sync::Arc;

/// Lets another thread run before this one goes on, if one waits for the processor.
#[expect(clippy::disallowed_methods, reason = "the one place for it")]
pub fn yield_now() {
    std::thread::yield_now();
}

/// Atomics.
pub mod atomic {
    pub use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
}
