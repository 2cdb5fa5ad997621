//! A count of the bytes that a tier holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts the bytes of every block that a tier has from the allocator or the system, until the block is given back: a block that a
/// handed-out value or a slow reader still holds goes on counting.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meter {
    bytes: Arc<AtomicU64>,
}

impl Meter {
    /// Counts `bytes` until the answer is dropped.
    pub(crate) fn count(&self, bytes: usize) -> Metered {
        let bytes = bytes as u64;
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Metered { meter: self.clone(), bytes }
    }

    /// The bytes counted now.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// A share in a [`Meter`]'s count.
#[derive(Debug)]
pub(crate) struct Metered {
    meter: Meter,
    bytes: u64,
}

impl Drop for Metered {
    fn drop(&mut self) {
        self.meter.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
