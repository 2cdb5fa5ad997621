//! A store under test: which tiers it stands on, and which disk below its log.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use thermocline_io::{Disk, Environment, SimDisk};
use thermocline_store::{Background, DurableRequest, OpenMode, PolicyScope, Retention, Store, StoreOptions, Tiers};
use thermocline_tier::{DurableTier, Result, TierStorage};
use thermocline_wal::Preallocate;

use crate::backend::{Backend, Capability, Step, Subject};
use crate::store_tier::StoreTier;

/// So little that every commit makes the table full, in bytes.
const HOT_BUDGET_BYTES: u64 = 1;

type MakeTiers = dyn Fn() -> Tiers + Send + Sync;
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
    make_tiers: Arc<MakeTiers>,
    /// The store keeps its data in files, which it can flush to and compact.
    is_durable: bool,
    prepare_disk: Arc<PrepareDisk>,
    lacking: BTreeSet<Capability>,
}

impl StoreBackend {
    /// A store over what `make_tier` makes: a fresh, empty tier each time, since a store fills it from its log.
    pub fn new<T: TierStorage + 'static>(name: &str, make_tier: impl Fn() -> Arc<T> + Send + Sync + 'static) -> Self {
        Self::of_tiers(name, false, move || Tiers::from(make_tier() as Arc<dyn TierStorage>))
    }

    /// A store over tables in memory, of which `make_hot` makes an empty one each time, over the durable tier that `open` opens.
    /// Its cases run with a budget so small that every commit fills a table and is flushed, at the latest, two commits later.
    pub fn over<T: TierStorage + 'static>(
        name: &str,
        make_hot: impl Fn() -> Arc<T> + Send + Sync + 'static,
        open: impl Fn(DurableRequest<'_>) -> Result<Arc<dyn DurableTier>> + Send + Sync + 'static,
    ) -> Self {
        let tiers = Tiers::hot(move || make_hot() as Arc<dyn TierStorage>).over(open);
        Self::of_tiers(name, true, move || tiers.clone())
    }

    /// A store whose commits go straight to the durable tier that `open` opens.
    pub fn durable(
        name: &str,
        open: impl Fn(DurableRequest<'_>) -> Result<Arc<dyn DurableTier>> + Send + Sync + 'static,
    ) -> Self {
        let tiers = Tiers::durable(open);
        Self::of_tiers(name, true, move || tiers.clone())
    }

    fn of_tiers(name: &str, is_durable: bool, make_tiers: impl Fn() -> Tiers + Send + Sync + 'static) -> Self {
        Self {
            name: name.into(),
            make_tiers: Arc::new(make_tiers),
            is_durable,
            prepare_disk: Arc::new(|_disk| {}),
            // What lies in two tiers counts twice, and what lies in files may be counted until it is rewritten.
            lacking: if is_durable { BTreeSet::from([Capability::ExactStats]) } else { BTreeSet::new() },
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

    /// Opens the store of `disk` over fresh tiers. Options that say nothing of a budget get the smallest one.
    ///
    /// # Errors
    /// What opening fails with.
    pub fn open(&self, disk: &SimDisk, mut options: StoreOptions) -> Result<Store> {
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        options.hot_budget_bytes.get_or_insert(HOT_BUDGET_BYTES);
        if self.is_durable {
            // A log that goes on in another segment at every commit is not worth filling ahead.
            options.log.preallocate = Preallocate::No;
        }
        let is_writable = options.mode != OpenMode::ReadOnly;
        let store = Store::open(disk, (self.make_tiers)(), &Environment::simulated(7), options)?;
        // Most cases are about what was; what operators keep by default is for the cases of policies.
        if is_writable && store.retentions().is_empty() {
            store.set_retention(PolicyScope::Operators, Some(Retention::KeepAll))?;
        }
        Ok(store)
    }

    /// The store as a backend of tier cases, through a [`StoreTier`], with reopening and power cuts as steps, and with flushes and
    /// compactions if it has a durable tier.
    pub fn as_tier(&self) -> Backend {
        let backend = self.clone();
        let open = move || Ok(Box::new(StoreSubject(Arc::new(StoreTier::open(&backend)?))) as Box<dyn Subject>);
        let all = [Step::Flush, Step::Compact, Step::Reopen, Step::Crash];
        let steps = if self.is_durable { &all[..] } else { &all[2..] };
        let backend = Backend::with_subjects(&self.name, steps, open);
        let lacking = [
            Capability::AtomicDrops,
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
            Step::Flush => self.0.flush(),
            Step::Compact => self.0.compact(),
            Step::Reopen => self.0.reopen(),
            Step::Crash => self.0.crash(),
        }
    }
}
