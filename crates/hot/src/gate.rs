//! How readers and the writer meet: the published version, and the sequence number of changes that are not appends (C4).
//!
//! A batch above all versions is invisible until its version is published by one store. Anything else (a late or repeated version,
//! dropping, clearing) makes the sequence number odd, changes what readers may be reading, and makes it even again; a reader
//! that saw it odd, or different before and after, reads again. All that it can have met are atomic words with offsets that are or were
//! valid, so such a read is useless but harmless.

use thermocline_tier::Version;

use crate::sync::{AtomicU64, Ordering, fence};

/// Alone in its cache lines, since the writer stores to it at every batch.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Gate {
    sequence: AtomicU64,
    published: AtomicU64,
}

/// A reader's entry into the gate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    sequence: u64,
    pub(crate) published: Version,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self { sequence: AtomicU64::new(0), published: AtomicU64::new(0) }
    }

    /// Lets a reader in; `None` while a change is under way.
    #[inline]
    pub(crate) fn enter(&self) -> Option<Ticket> {
        let sequence = self.sequence.load(Ordering::Acquire);
        let published = Version(self.published.load(Ordering::Acquire));
        sequence.is_multiple_of(2).then_some(Ticket { sequence, published })
    }

    /// Whether what was read since `enter` is of one state.
    #[inline]
    pub(crate) fn is_valid(&self, ticket: Ticket) -> bool {
        fence(Ordering::Acquire);
        self.sequence.load(Ordering::Relaxed) == ticket.sequence
    }

    /// The published version; stable for whoever holds the writer's lock.
    pub(crate) fn published(&self) -> Version {
        Version(self.published.load(Ordering::Acquire))
    }

    /// Publishes `version` and everything stored before.
    pub(crate) fn publish(&self, version: Version) {
        self.published.store(version.0, Ordering::Release);
    }

    /// Runs a change that readers must not see half done. For the writer only.
    pub(crate) fn change<R>(&self, change: impl FnOnce() -> R) -> R {
        let sequence = self.sequence.load(Ordering::Relaxed);
        self.sequence.store(sequence + 1, Ordering::Relaxed);
        // Whoever sees a store of the change sees the odd number too.
        fence(Ordering::Release);
        let _opened = Opened { gate: self, sequence: sequence + 2 };
        change()
    }
}

/// Ends a change also if it unwinds: left odd, the number would turn away readers for ever, and after the next change let them in during it.
struct Opened<'a> {
    gate: &'a Gate,
    sequence: u64,
}

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        self.gate.sequence.store(self.sequence, Ordering::Release);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::Gate;

    #[test]
    fn a_change_that_panics_lets_readers_in_again() {
        let gate = Gate::new();
        let before = gate.enter().unwrap();
        let panicked = catch_unwind(AssertUnwindSafe(|| gate.change(|| panic!("as a broken change would"))));
        assert!(panicked.is_err());
        assert!(!gate.is_valid(before));
        let after = gate.enter().unwrap();
        assert!(gate.is_valid(after));
        gate.change(|| assert!(gate.enter().is_none()));
    }
}
