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
        let metered = Metered { meter: self.clone(), bytes: AtomicU64::new(0) };
        metered.grow_to(bytes);
        metered
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
    bytes: AtomicU64,
}

impl Metered {
    /// Makes the share `bytes`, if it is less.
    #[inline]
    pub(crate) fn grow_to(&self, bytes: usize) {
        let bytes = bytes as u64;
        if self.bytes.load(Ordering::Relaxed) < bytes {
            let before = self.bytes.swap(bytes, Ordering::Relaxed);
            self.meter.bytes.fetch_add(bytes - before, Ordering::Relaxed);
        }
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        self.meter.bytes.fetch_sub(*self.bytes.get_mut(), Ordering::Relaxed);
    }
}
