//! Who still reads which version.

use std::collections::BTreeMap;

use parking_lot::{RwLock, RwLockReadGuard, RwLockUpgradableReadGuard, RwLockWriteGuard};
use thermocline_tier::{ErrorKind, Result, Version};

/// Whether what a reader reads is pinned by the reader itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// By its snapshot.
    Pinned,
    /// By nobody, or by somebody else: what it has read counts only if its version is still retained afterwards.
    Unpinned,
}

/// The live pins of a store. They can be read at any time but while one is added or removed: the durable tier asks for them with its own
/// locks held, also while a purge, which holds the pins, waits for those.
#[derive(Debug, Default)]
pub(crate) struct Pins(RwLock<PinTable>);

/// The pins by version and number.
#[derive(Debug, Default)]
pub(crate) struct PinTable {
    last_number: u64,
    live: BTreeMap<(Version, u64), &'static str>,
}

impl PinTable {
    /// Registers a pin and returns its number.
    pub(crate) fn add(&mut self, version: Version, holder: &'static str) -> u64 {
        self.last_number += 1;
        self.live.insert((version, self.last_number), holder);
        self.last_number
    }

    /// Whether anything pins this very version.
    pub(crate) fn has(&self, version: Version) -> bool {
        self.live.range((version, 0)..=(version, u64::MAX)).next().is_some()
    }

    /// Every live pin, oldest version first: version, number, kind of holder.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Version, u64, &'static str)> + '_ {
        self.live.iter().map(|(&(version, number), &holder)| (version, number, holder))
    }

    /// Refuses what would take away the state that a pin below `version` reads.
    pub(crate) fn check_none_below(&self, version: Version) -> Result<()> {
        match self.iter().next() {
            Some((pinned, number, holder)) if pinned < version => {
                Err(ErrorKind::Pinned { pin: format!("{holder} {number}"), version: pinned }.into())
            }
            _ => Ok(()),
        }
    }
}

impl Pins {
    /// To add and remove pins.
    pub(crate) fn lock(&self) -> RwLockWriteGuard<'_, PinTable> {
        self.0.write()
    }

    /// Keeps pins from coming and going while the answer is held.
    pub(crate) fn hold(&self) -> RwLockUpgradableReadGuard<'_, PinTable> {
        self.0.upgradable_read()
    }

    /// The pins of now. Waits for nobody who waits himself.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, PinTable> {
        self.0.read_recursive()
    }

    pub(crate) fn remove(&self, version: Version, number: u64) {
        self.lock().live.remove(&(version, number));
    }
}

/// For the durable tier, which keeps what these versions see.
impl thermocline_tier::Pins for Pins {
    fn pinned(&self) -> Vec<Version> {
        let mut versions: Vec<Version> = self.read().iter().map(|(version, _, _)| version).collect();
        versions.dedup();
        versions
    }
}

#[cfg(test)]
mod tests {
    use thermocline_tier::Pins as _;

    use super::*;

    #[test]
    fn pins_can_be_read_while_a_purge_holds_them_and_a_snapshot_waits() {
        let pins = Pins::default();
        pins.lock().add(Version(7), "snapshot");
        std::thread::scope(|scope| {
            let held = pins.hold();
            let snapshot = scope.spawn(|| pins.lock().add(Version(8), "snapshot"));
            for _ in 0..10_000 {
                thermocline_io::sync::yield_now();
                assert_eq!(pins.pinned(), [Version(7)]);
                assert!(!snapshot.is_finished());
            }
            drop(held);
            snapshot.join().unwrap();
        });
        assert_eq!(pins.pinned(), [Version(7), Version(8)]);
    }
}
