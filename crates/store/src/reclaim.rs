//! Which versions may still be read, as readers and the durable tier ask it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{RwLock, RwLockReadGuard, RwLockUpgradableReadGuard, RwLockWriteGuard};
use thermocline_drop::{Authority, Change, ConsumerState, Holding};
use thermocline_tier::{EntryKind, KeyRange, Result, RetainedTables, Version};

use crate::marks::TableMarks;
use crate::store::Core;

/// Whether what a reader reads is pinned by the reader itself.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reader<'a> {
    /// By its snapshot: all of it, or what could be read when it was made.
    Pinned(Option<&'a RetainedTables>),
    /// By nobody, or by somebody else: what it has read counts only if its version is still retained afterwards.
    Unpinned,
}

/// The authority of a store. It can be asked at any time but while a pin is added or removed: the durable tier asks with its own locks
/// held, also while a purge, which holds the pins, waits for those.
#[derive(Debug)]
pub(crate) struct Reclaim {
    authority: RwLock<Authority>,
    marks: Arc<TableMarks>,
    /// The authority's ceiling: reads from here on need not ask it.
    ceiling: AtomicU64,
    /// Whether some consumer may hold writers.
    may_hold_writers: AtomicBool,
}

impl Reclaim {
    pub(crate) fn new(marks: Arc<TableMarks>) -> Self {
        Self { authority: RwLock::default(), marks, ceiling: AtomicU64::new(0), may_hold_writers: AtomicBool::new(false) }
    }

    /// What must be kept: what reads may ask for, without what clears hide from all of them.
    pub(crate) fn kept(&self) -> RetainedTables {
        let mut retained = self.read().retained();
        self.marks.add_clears_to(&mut retained);
        retained
    }

    /// To add and remove pins.
    pub(crate) fn lock(&self) -> RwLockWriteGuard<'_, Authority> {
        self.authority.write()
    }

    /// Keeps pins from coming and going while the answer is held.
    pub(crate) fn hold(&self) -> RwLockUpgradableReadGuard<'_, Authority> {
        self.authority.upgradable_read()
    }

    /// The authority as it is now. Waits for nobody who waits himself.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Authority> {
        self.authority.read_recursive()
    }

    /// Makes changes hold that are durable.
    pub(crate) fn apply(&self, changes: &[Change]) {
        let mut authority = self.lock();
        for change in changes {
            authority.apply(change);
        }
        self.ceiling.store(authority.ceiling().0, Ordering::Release);
        self.note_holders(&authority);
    }

    fn note_holders(&self, authority: &Authority) {
        let may_hold = |consumer: &ConsumerState| matches!(consumer.holding, Holding::HoldWriters(_));
        let may_hold_writers = authority.holding_consumers().any(|(_, consumer, _)| may_hold(consumer));
        self.may_hold_writers.store(may_hold_writers, Ordering::Release);
    }

    /// Has a consumer that begins anew hold from the last commit on: `latest` is asked when no horizon can move meanwhile.
    pub(crate) fn resume(&self, name: &str, latest: impl FnOnce() -> Version) {
        let mut authority = self.lock();
        authority.resume(name, latest());
        self.note_holders(&authority);
    }

    /// Ends that; whether there was anything to end.
    pub(crate) fn end_resumption(&self, name: &str) -> bool {
        let mut authority = self.lock();
        let had_begun = authority.end_resumption(name);
        self.note_holders(&authority);
        had_begun
    }

    /// Leaves consumers behind that would hold a part of the log that is gone: a crash came before one that could not be made was taken
    /// back.
    pub(crate) fn overtake_below(&self, log_from: Version) {
        let behind = |(name, consumer): (&str, &ConsumerState)| {
            let consumer = ConsumerState { is_overtaken: true, ..consumer.clone() };
            Change::Consumer { name: name.to_owned(), consumer }
        };
        let is_behind = |(_, consumer): &(&str, &ConsumerState)| consumer.holds() && consumer.position < log_from;
        let changes: Vec<Change> = self.read().consumers().filter(is_behind).map(behind).collect();
        self.apply(&changes);
    }

    /// Has consumers let go of what lies below their positions, all of which are durable.
    pub(crate) fn settle(&self) {
        let mut authority = self.lock();
        let noted = authority.unsettled();
        authority.settle(&noted);
    }

    /// Whether writers must ask if some consumer holds them.
    pub(crate) fn may_hold_writers(&self) -> bool {
        self.may_hold_writers.load(Ordering::Acquire)
    }

    /// From this version on every version of every table can be read.
    fn ceiling(&self) -> Version {
        Version(self.ceiling.load(Ordering::Acquire))
    }
}

/// For the durable tier.
impl thermocline_tier::RetentionSource for Reclaim {
    fn retained(&self) -> RetainedTables {
        self.kept()
    }

    fn newest_pin(&self) -> Option<Version> {
        self.read().newest_pin()
    }
}

impl Core {
    /// Refuses what was read of some keys of a table at `at` if that state may have been reclaimed meanwhile. Ask *after* reading: a horizon
    /// moves before anything is removed.
    #[inline]
    pub(crate) fn check_reclaimed(
        &self,
        table: EntryKind,
        range: impl FnOnce() -> KeyRange,
        at: Version,
        reader: Reader<'_>,
    ) -> Result<()> {
        if at >= self.reclaim.ceiling() { Ok(()) } else { self.check_below_ceiling(table, range, at, reader) }
    }

    #[cold]
    fn check_below_ceiling(
        &self,
        table: EntryKind,
        range: impl FnOnce() -> KeyRange,
        at: Version,
        reader: Reader<'_>,
    ) -> Result<()> {
        match reader {
            Reader::Pinned(None) => Ok(()),
            Reader::Pinned(Some(granted)) => granted.check_read(table, &range(), at),
            Reader::Unpinned => {
                let authority = self.reclaim.read();
                if at >= authority.table_horizon(table) {
                    return Ok(());
                }
                // A version that is pinned now was pinned when the horizon passed it: from then on only what is pinned can be pinned.
                authority.check_read(table, &range(), at)
            }
        }
    }

    /// Refuses what was read of some keys of a table at `at` if that state is gone.
    pub(crate) fn check_retained(
        &self,
        table: EntryKind,
        range: impl FnOnce() -> KeyRange,
        at: Version,
        reader: Reader<'_>,
    ) -> Result<()> {
        self.check_reclaimed(table, range, at, reader)?;
        self.marks.check_floor(table, at)
    }
}

/// The range of one key.
pub(crate) fn only(key: &[u8]) -> KeyRange {
    KeyRange::new(key..=key)
}

#[cfg(test)]
mod tests {
    use std::panic::Location;

    use thermocline_drop::Moment;
    use thermocline_tier::RetentionSource as _;

    use super::*;

    fn pin(authority: &mut Authority, version: u64) {
        authority.pin_reader(Version(version), "snapshot", Location::caller(), Moment::default()).unwrap();
    }

    #[test]
    fn what_is_retained_can_be_asked_while_a_purge_holds_the_pins_and_a_snapshot_waits() {
        let reclaim = Reclaim::new(Arc::default());
        pin(&mut reclaim.lock(), 7);
        reclaim.apply(&[Change::Horizon(Version(9))]);
        std::thread::scope(|scope| {
            let held = reclaim.hold();
            let snapshot = scope.spawn(|| pin(&mut reclaim.lock(), 9));
            for _ in 0..10_000 {
                thermocline_io::sync::yield_now();
                assert!(reclaim.retained().others().allows(Version(7)));
                assert!(!snapshot.is_finished());
            }
            drop(held);
            snapshot.join().unwrap();
        });
        assert_eq!(reclaim.read().readers().iter().map(|(version, ..)| version.0).collect::<Vec<_>>(), [7, 9]);
    }
}
