//! What a store says about itself.

use std::sync::atomic::Ordering;

use thermocline_tier::{TierStats, Version};
use thermocline_wal::{LogStats, RecoveryReport};

use crate::store::Store;

/// Whether a store can be read and written.
///
/// ```
/// # let store = thermocline::Store::in_memory()?;
/// assert_eq!(store.stats().health, thermocline_store::Health::Healthy);
/// # Ok::<(), thermocline_tier::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Health {
    /// It can be read and written.
    Healthy,
    /// It can be read; writes are refused since a failure that only opening it again can clear.
    Poisoned {
        /// The first failure.
        cause: String,
    },
    /// It was closed.
    Closed,
}

/// A pin that is alive.
///
/// ```
/// # let store = thermocline::Store::in_memory()?;
/// let snapshot = store.snapshot()?;
/// assert_eq!(store.stats().pins.len(), 1);
/// drop(snapshot);
/// assert!(store.stats().pins.is_empty());
/// # Ok::<(), thermocline_tier::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinInfo {
    /// What holds it and its number, such as `snapshot 12`.
    pub name: String,
    /// The version that it pins.
    pub version: Version,
}

/// What a store holds and does, at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StoreStats {
    /// Whether it can be read and written.
    pub health: Health,
    /// The last version that readers can see.
    pub last_version: Version,
    /// What the tiers hold.
    pub tiers: TierStats,
    /// What the log holds.
    pub log: LogStats,
    /// The live pins, oldest version first.
    pub pins: Vec<PinInfo>,
    /// What was found in the log when the store was opened.
    pub recovery: RecoveryReport,
}

impl Store {
    /// What the store holds and does.
    pub fn stats(&self) -> StoreStats {
        let inner = &self.inner;
        let health = match inner.poison.cause().or(inner.log.poison_cause()) {
            _ if inner.is_closed.load(Ordering::Relaxed) => Health::Closed,
            Some(cause) => Health::Poisoned { cause: cause.to_string() },
            None => Health::Healthy,
        };
        let pins = inner
            .pins
            .lock()
            .iter()
            .map(|(version, number, holder)| PinInfo { name: format!("{holder} {number}"), version })
            .collect();
        StoreStats {
            health,
            last_version: inner.latest(),
            tiers: inner.tier.stats(),
            log: inner.log.stats(),
            pins,
            recovery: inner.recovery.clone(),
        }
    }
}
