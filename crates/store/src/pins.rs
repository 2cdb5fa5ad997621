//! Who still reads which version.

use std::collections::BTreeMap;

use parking_lot::{Mutex, MutexGuard};
use thermocline_tier::{ErrorKind, Result, Version};

/// Whether what a reader reads is pinned by the reader itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// By its snapshot.
    Pinned,
    /// By nobody, or by somebody else: what it has read counts only if its version is still retained afterwards.
    Unpinned,
}

/// The live pins of a store.
#[derive(Debug, Default)]
pub(crate) struct Pins(Mutex<PinTable>);

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
    pub(crate) fn lock(&self) -> MutexGuard<'_, PinTable> {
        self.0.lock()
    }

    pub(crate) fn remove(&self, version: Version, number: u64) {
        self.lock().live.remove(&(version, number));
    }
}

/// For the durable tier, which keeps what these versions see.
impl thermocline_tier::Pins for Pins {
    fn pinned(&self) -> Vec<Version> {
        let mut versions: Vec<Version> = self.lock().iter().map(|(version, _, _)| version).collect();
        versions.dedup();
        versions
    }
}
