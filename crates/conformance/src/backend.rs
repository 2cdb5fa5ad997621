//! What a backend tells the kit about itself: how to make one, what it can do, and which steps change where its data lies.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use thermocline_tier::{Result, TierStorage};

/// Something that a backend does to its data without changing any answer.
///
/// ```
/// assert_eq!(thermocline_conformance::Step::Reopen.to_string(), "reopen");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Moves what is in memory to where it will stay: to files, or to a lower tier.
    Flush,
    /// Rewrites what was flushed.
    Compact,
    /// Closes in good order and opens again.
    Reopen,
    /// Dies without closing and opens what is left. Every write that the tier has answered counts as durable.
    Crash,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flush => "flush",
            Self::Compact => "compaction",
            Self::Reopen => "reopen",
            Self::Crash => "crash and reopen",
        })
    }
}

/// What a case may need of a backend beyond the contract itself. A case whose needs are not met is skipped, and reported so.
///
/// ```
/// assert_eq!(thermocline_conformance::Capability::ExactStats.to_string(), "exact statistics");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Capability {
    /// [`TierStorage::stats`] counts keys, entries, tombstones and user bytes exactly.
    ExactStats,
    /// Drops and clears are atomic for readers on other threads too, as contract C4 asks.
    AtomicDrops,
    /// A tier with a small budget can be made, which refuses what does not fit.
    Budget,
    /// The steps may be taken while other threads read and write.
    ConcurrentSteps,
    /// A write at or below a version that was written before, and again at the same one.
    LateVersions,
    /// Writes at version 0 and at the maximum, which are legal in a tier.
    ExtremeVersions,
    /// Suffixes of a length that each batch chooses anew.
    Suffixes,
    /// [`TierStorage::drop_versions`].
    Drops,
    /// An instance can be a part of a stack.
    Stacking,
    /// A step.
    Takes(Step),
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ExactStats => f.write_str("exact statistics"),
            Self::AtomicDrops => f.write_str("atomic drops"),
            Self::Budget => f.write_str("a budget"),
            Self::ConcurrentSteps => f.write_str("steps beside readers and writers"),
            Self::LateVersions => f.write_str("late versions"),
            Self::ExtremeVersions => f.write_str("version 0 and the maximum"),
            Self::Suffixes => f.write_str("suffixes chosen by the batch"),
            Self::Drops => f.write_str("dropping versions"),
            Self::Stacking => f.write_str("being stacked"),
            Self::Takes(step) => step.fmt(f),
        }
    }
}

/// One instance of a backend, with what belongs to it: the files or the lower tier that outlive a reopened handle.
pub trait Subject: Send + Sync {
    /// The tier as it is now. A step may replace it; a handle from before the step is not used after it.
    fn tier(&self) -> Arc<dyn TierStorage>;

    /// Takes a step. Only the backend's declared steps are asked for.
    ///
    /// # Errors
    /// What the backend fails with; the case that asked for the step then fails.
    fn take(&self, step: Step) -> Result<()>;
}

/// A tier in memory: no step changes it.
struct InMemory(Arc<dyn TierStorage>);

impl Subject for InMemory {
    fn tier(&self) -> Arc<dyn TierStorage> {
        Arc::clone(&self.0)
    }

    fn take(&self, _step: Step) -> Result<()> {
        Ok(())
    }
}

type Open = dyn Fn() -> Result<Box<dyn Subject>> + Send + Sync;
type OpenWithBudget = dyn Fn(u64) -> Arc<dyn TierStorage> + Send + Sync;

/// A backend under test: makes empty instances, as many as the cases want, and says what they can do.
///
/// ```
/// use std::sync::Arc;
/// use thermocline_conformance::{Backend, ModelTier, run_all};
///
/// let backend = Backend::new("model", || Arc::new(ModelTier::new()))
///     .with_budget(|bytes| Arc::new(ModelTier::with_budget(bytes)));
/// let report = run_all(&backend);
/// assert!(report.is_success(), "{report}");
/// ```
#[derive(Clone)]
pub struct Backend {
    name: String,
    open: Arc<Open>,
    open_with_budget: Option<Arc<OpenWithBudget>>,
    steps: Vec<Step>,
    lacking: BTreeSet<Capability>,
}

impl Backend {
    /// A backend whose instances live in memory and take no steps.
    pub fn new<T: TierStorage + 'static>(name: &str, make: impl Fn() -> Arc<T> + Send + Sync + 'static) -> Self {
        Self::with_subjects(name, &[], move || Ok(Box::new(InMemory(make()))))
    }

    /// A backend whose instances can take `steps`. Each case then runs once as it stands and once for each step, taken after every
    /// write; and its expectations are checked after each step again.
    pub fn with_subjects(
        name: &str,
        steps: &[Step],
        open: impl Fn() -> Result<Box<dyn Subject>> + Send + Sync + 'static,
    ) -> Self {
        let lacking = BTreeSet::from([Capability::ConcurrentSteps]);
        Self { name: name.into(), open: Arc::new(open), open_with_budget: None, steps: steps.to_vec(), lacking }
    }

    /// Adds how to make a tier that refuses to hold more than so many bytes.
    #[must_use]
    pub fn with_budget<T: TierStorage + 'static>(mut self, make: impl Fn(u64) -> Arc<T> + Send + Sync + 'static) -> Self {
        self.open_with_budget = Some(Arc::new(move |bytes| make(bytes)));
        self
    }

    /// Declares that its steps may be taken beside readers and writers.
    #[must_use]
    pub fn with_concurrent_steps(mut self) -> Self {
        self.lacking.remove(&Capability::ConcurrentSteps);
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

    /// The steps that it offers, in the order in which the cases take them.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Whether it can do what a case needs.
    pub fn has(&self, capability: Capability) -> bool {
        let is_offered = match capability {
            Capability::Budget => self.open_with_budget.is_some(),
            Capability::Takes(step) => self.steps.contains(&step),
            Capability::ConcurrentSteps => !self.steps.is_empty(),
            _ => true,
        };
        is_offered && !self.lacking.contains(&capability)
    }

    /// An empty instance.
    ///
    /// # Errors
    /// What making one fails with.
    pub fn open(&self) -> Result<Box<dyn Subject>> {
        (self.open)()
    }

    /// An empty tier that holds at most `bytes` bytes; `None` if the backend offers none.
    pub fn open_with_budget(&self, bytes: u64) -> Option<Arc<dyn TierStorage>> {
        self.open_with_budget.as_ref().map(|open| open(bytes))
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend")
            .field("name", &self.name)
            .field("steps", &self.steps)
            .field("lacking", &self.lacking)
            .finish_non_exhaustive()
    }
}
