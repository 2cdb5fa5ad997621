//! What a store stands on: how its tiers are made.

use std::fmt;
use std::sync::Arc;

use thermocline_format::StoreId;
use thermocline_io::{Disk, Environment};
use thermocline_migration::Migration;
use thermocline_tier::{DurableTier, Result, TierStorage};

/// Makes an empty tier in memory.
pub(crate) type MakeHot = dyn Fn() -> Arc<dyn TierStorage> + Send + Sync;
/// Opens the durable tier of a directory.
pub(crate) type OpenDurable = dyn Fn(DurableRequest<'_>) -> Result<Arc<dyn DurableTier>> + Send + Sync;

/// What a durable tier is opened with. The directory's lock is held.
#[derive(Debug)]
pub struct DurableRequest<'a> {
    /// The directory. The log's files lie in it too.
    pub disk: Arc<dyn Disk>,
    /// Clock, randomness and threads.
    pub environment: &'a Environment,
    /// The identity of the store, for the tier's files.
    pub store: StoreId,
    /// Nothing is written; the tier exists.
    pub is_read_only: bool,
    /// What rows are shown to on their way to files, if anything.
    pub migration: Option<Arc<dyn Migration>>,
}

/// The tiers of a store: one in memory that is filled from the log, one over a durable tier that takes over from the log, or the
/// durable one alone.
///
/// ```
/// use std::sync::Arc;
/// use thermocline_hot::{HotOptions, HotTier};
/// use thermocline_io::{Environment, MemoryDisk};
/// use thermocline_store::{Store, StoreOptions, Tiers};
///
/// let tiers = Tiers::hot(|| Arc::new(HotTier::new(HotOptions::default())));
/// let store = Store::open(Arc::new(MemoryDisk::new()), tiers, &Environment::real(), StoreOptions::default())?;
/// assert_eq!(store.stats().sealed_tables, 0);
/// # Ok::<(), thermocline_tier::Error>(())
/// ```
#[derive(Clone)]
pub struct Tiers {
    pub(crate) hot: Option<Arc<MakeHot>>,
    pub(crate) durable: Option<Arc<OpenDurable>>,
}

impl Tiers {
    /// Tiers in memory alone: all that the store holds must fit there. `make` is asked for an empty one.
    pub fn hot(make: impl Fn() -> Arc<dyn TierStorage> + Send + Sync + 'static) -> Self {
        Self { hot: Some(Arc::new(make)), durable: None }
    }

    /// A durable tier alone: every commit is synced to the log and then written straight to the tier.
    pub fn durable(open: impl Fn(DurableRequest<'_>) -> Result<Arc<dyn DurableTier>> + Send + Sync + 'static) -> Self {
        Self { hot: None, durable: Some(Arc::new(open)) }
    }

    /// Puts a durable tier below: tables in memory take the writes, and are moved down when they are full. A table in memory is
    /// made anew each time.
    #[must_use]
    pub fn over(mut self, open: impl Fn(DurableRequest<'_>) -> Result<Arc<dyn DurableTier>> + Send + Sync + 'static) -> Self {
        self.durable = Some(Arc::new(open));
        self
    }
}

/// One tier in memory, which must be empty.
impl From<Arc<dyn TierStorage>> for Tiers {
    fn from(tier: Arc<dyn TierStorage>) -> Self {
        Self::hot(move || Arc::clone(&tier))
    }
}

impl<T: TierStorage + 'static> From<Arc<T>> for Tiers {
    fn from(tier: Arc<T>) -> Self {
        Self::from(tier as Arc<dyn TierStorage>)
    }
}

impl fmt::Debug for Tiers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tiers")
            .field("hot", &self.hot.is_some())
            .field("durable", &self.durable.is_some())
            .finish_non_exhaustive()
    }
}
