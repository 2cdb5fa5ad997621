//! A store under test: which tiers it stands on, and which disk below its log.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use thermocline_io::{Disk, Environment, SimDisk};
use thermocline_store::{Background, Store, StoreOptions};
use thermocline_tier::{Result, TierStorage};

use crate::backend::{Backend, Capability, Step, Subject};
use crate::store_tier::StoreTier;

type MakeTier = dyn Fn() -> Arc<dyn TierStorage> + Send + Sync;
type PrepareDisk = dyn Fn(&SimDisk) + Send + Sync;

/// A store over tiers of one kind, with its log on simulated disks.
///
/// ```
/// use std::sync::Arc;
/// use thermocline_conformance::{ModelTier, Outcome, StoreBackend, StoreCase};
///
/// let backend = StoreBackend::new("store over model", || Arc::new(ModelTier::new()));
/// let case = StoreCase::find(72).expect("the kit has case 72");
/// assert_eq!(case.run_on(&backend), Outcome::Passed);
/// ```
#[derive(Clone)]
pub struct StoreBackend {
    name: String,
    make_tier: Arc<MakeTier>,
    prepare_disk: Arc<PrepareDisk>,
    lacking: BTreeSet<Capability>,
}

impl StoreBackend {
    /// A store over what `make_tier` makes: a fresh, empty tier each time, since a store fills it from its log.
    ///
    /// It lacks what no store offers yet: [`Capability::DropRules`].
    pub fn new<T: TierStorage + 'static>(name: &str, make_tier: impl Fn() -> Arc<T> + Send + Sync + 'static) -> Self {
        Self {
            name: name.into(),
            make_tier: Arc::new(move || make_tier()),
            prepare_disk: Arc::new(|_disk| {}),
            lacking: BTreeSet::from([Capability::DropRules]),
        }
    }

    /// Does something to every disk before the store is made on it, such as injecting a fault.
    #[must_use]
    pub fn with_disk(mut self, prepare: impl Fn(&SimDisk) + Send + Sync + 'static) -> Self {
        self.prepare_disk = Arc::new(prepare);
        self
    }

    /// Declares something that it cannot do.
    #[must_use]
    pub fn lacking(mut self, capability: Capability) -> Self {
        self.lacking.insert(capability);
        self
    }

    /// Its name, for reports.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it can do what a case needs.
    pub fn has(&self, capability: Capability) -> bool {
        !self.lacking.contains(&capability)
    }

    /// An empty disk for a store.
    pub fn disk(&self) -> SimDisk {
        let disk = SimDisk::new(1);
        (self.prepare_disk)(&disk);
        disk
    }

    /// The options that the cases begin with: the defaults, but background work by hand, so that every run is the same.
    pub fn options() -> StoreOptions {
        StoreOptions { background: Background::ByHand, ..StoreOptions::default() }
    }

    /// Opens the store of `disk` over a fresh tier.
    ///
    /// # Errors
    /// What opening fails with.
    pub fn open(&self, disk: &SimDisk, options: StoreOptions) -> Result<Store> {
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        Store::open(disk, (self.make_tier)(), &Environment::simulated(7), options)
    }

    /// The store as a backend of tier cases, through a [`StoreTier`], with reopening and power cuts as steps.
    pub fn as_tier(&self) -> Backend {
        let backend = self.clone();
        let open = move || Ok(Box::new(StoreSubject(Arc::new(StoreTier::open(&backend)?))) as Box<dyn Subject>);
        let backend = Backend::with_subjects(&self.name, &[Step::Reopen, Step::Crash], open);
        let lacking = [
            Capability::AtomicDrops,
            Capability::Drops,
            Capability::ExactStats,
            Capability::ExtremeVersions,
            Capability::LateVersions,
            Capability::Stacking,
            Capability::Suffixes,
        ];
        lacking.into_iter().chain(self.lacking.iter().copied()).fold(backend, Backend::lacking)
    }
}

impl fmt::Debug for StoreBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreBackend").field("name", &self.name).field("lacking", &self.lacking).finish_non_exhaustive()
    }
}

struct StoreSubject(Arc<StoreTier>);

impl Subject for StoreSubject {
    fn tier(&self) -> Arc<dyn TierStorage> {
        Arc::clone(&self.0) as Arc<dyn TierStorage>
    }

    fn take(&self, step: Step) -> Result<()> {
        match step {
            Step::Crash => self.0.crash(),
            _ => self.0.reopen(),
        }
    }
}
