//! The atomics of this crate, so that loom can take their place (`--cfg loom`).

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicPtr, AtomicU64, Ordering, fence};
#[cfg(not(loom))]
pub(crate) use thermocline_io::sync::atomic::{AtomicPtr, AtomicU64, Ordering, fence};
