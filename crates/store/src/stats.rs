//! What a store says about itself.

use std::panic::Location;
use std::sync::atomic::Ordering;

use thermocline_drop::Moment;
use thermocline_tier::{MigrationCounters, TierStats, Version};
use thermocline_wal::{LogStats, RecoveryReport};

use crate::background::Job;
use crate::options::OpenMode;
use crate::pressure::BackPressure;
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
    /// What holds it and its number, such as `snapshot 12`, or its own name in quotes.
    pub name: String,
    /// The version that it pins, the oldest if it pins more than one.
    pub version: Version,
    /// When it was made, as the wall clock showed.
    pub since: Moment,
    /// Where in the program it was made; `None` for one with a name of its own.
    pub place: Option<&'static Location<'static>>,
}

/// What a store holds and does, at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StoreStats {
    /// Whether it can be read and written.
    pub health: Health,
    /// The last version that readers can see.
    pub last_version: Version,
    /// What the tiers hold, all together: a key that lies in two of them counts twice.
    pub tiers: TierStats,
    /// How many full tables wait in memory to be moved into the durable tier.
    pub sealed_tables: usize,
    /// How many flushes there were since the store was opened.
    pub flushes: u64,
    /// The last version that the durable tier has taken over from the log; [`Version::ZERO`] without one.
    pub checkpoint: Version,
    /// The version from which on every version can be read.
    pub horizon: Version,
    /// How many entries that need not be kept were dropped from memory, where there is no durable tier.
    pub swept_entries: u64,
    /// How many rows have [expired](Store::set_ttl) and were deleted since the store was opened.
    pub expired_rows: u64,
    /// How many versions [commands](crate::Batch::drop_versions) of commits have dropped since the store was opened.
    pub dropped_versions: u64,
    /// How many such commands wait, for the drop worker or for pins.
    pub pending_drops: usize,
    /// Since when something may be stored that need not be kept, if there is a [time](crate::StoreOptions::garbage_max_age) for that, or the
    /// store is open for reading only: until it is known to be gone.
    pub garbage_since: Option<Moment>,
    /// What the [strategy](crate::StoreOptions::migration) did since the store was opened, if there is one and a durable tier.
    pub migration: Option<MigrationCounters>,
    /// How writers were held back.
    pub back_pressure: BackPressure,
    /// Why flushing or the durable tier's own work fails at the moment, if it does. It is tried again.
    pub background_failure: Option<String>,
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
        let storage = &inner.storage;
        let view = storage.view_owned();
        let health = match storage.poison.cause().or(storage.log.poison_cause()) {
            _ if inner.is_closed.load(Ordering::Relaxed) => Health::Closed,
            Some(cause) => Health::Poisoned { cause: cause.to_string() },
            None => Health::Healthy,
        };
        let mut pins: Vec<PinInfo> = {
            let authority = inner.reclaim.read();
            let readers = authority.readers().iter();
            let readers = readers.map(|(version, number, reader)| PinInfo {
                name: format!("{} {number}", reader.holder),
                version,
                since: reader.since,
                place: Some(reader.place),
            });
            let named = authority.pins().map(|(name, pin)| PinInfo {
                name: format!("{name:?}"),
                version: pin.versions.first(),
                since: pin.created,
                place: None,
            });
            readers.chain(named).collect()
        };
        pins.sort_by_key(|pin| pin.version);
        StoreStats {
            health,
            last_version: inner.latest(),
            tiers: view.stats(),
            sealed_tables: view.sealed.len(),
            flushes: storage.flushes(),
            checkpoint: view.durable.as_ref().map_or(Version::ZERO, |durable| durable.checkpoint().version),
            horizon: inner.horizon(),
            swept_entries: inner.swept_entries(),
            expired_rows: inner.expired_rows.load(Ordering::Relaxed),
            dropped_versions: inner.dropped_versions.load(Ordering::Relaxed),
            pending_drops: inner.reclaim.read().pending_drops_len(),
            garbage_since: inner
                .reclaim
                .read()
                .garbage_since()
                .filter(|_| inner.options.mode == OpenMode::ReadOnly || inner.options.garbage_max_age.is_some()),
            migration: view.durable.as_ref().and_then(|durable| Some(durable.migrating()?.migration_counters())),
            back_pressure: inner.pressure.read(),
            background_failure: [Job::Flush, Job::Tier]
                .into_iter()
                .find_map(|job| storage.signals.failure(job))
                .map(|failure| failure.to_string()),
            log: storage.log.stats(),
            pins,
            recovery: inner.recovery.clone(),
        }
    }
}
