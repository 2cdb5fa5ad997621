//! What an engine implements.

use std::error::Error;
use std::sync::Arc;

use bytes::Bytes;
use thermocline_tier::{SharedLayout, WholeKey};

use crate::row::StoredRow;

/// Why a hook failed: any error of the engine's.
pub type HookError = Box<dyn Error + Send + Sync + 'static>;

/// What an engine wants to know of the rows of a file, without reading it: the oldest clock, the schema versions that occur.
///
/// It is noted row by row and merged with those of other files, in any order: `merge` should be associative and commutative, with
/// `Self::default()`, the summary of nothing, changing nothing.
///
/// ```
/// use thermocline_migration::{HookError, Summary};
///
/// #[derive(Clone, Debug, Default, PartialEq)]
/// struct Schemas(std::collections::BTreeSet<u8>);
///
/// impl Summary for Schemas {
///     fn encode(&self, out: &mut Vec<u8>) {
///         out.extend(&self.0);
///     }
///     fn decode(bytes: &[u8]) -> Result<Self, HookError> {
///         Ok(Self(bytes.iter().copied().collect()))
///     }
///     fn merge(&mut self, other: &Self) {
///         self.0.extend(&other.0);
///     }
/// }
///
/// let mut bytes = Vec::new();
/// Schemas([1, 3].into()).encode(&mut bytes);
/// assert_eq!(Schemas::decode(&bytes)?, Schemas([1, 3].into()));
/// # Ok::<(), HookError>(())
/// ```
pub trait Summary: Clone + Default + Send + Sync + 'static {
    /// Appends its bytes, at most [`SUMMARY_SIZE_BYTES_MAX`](crate::SUMMARY_SIZE_BYTES_MAX) of them: more fails the job. They should begin
    /// with a version of their own, so that a later release of the engine can tell them apart.
    fn encode(&self, out: &mut Vec<u8>);

    /// Brings one back from its bytes.
    ///
    /// # Errors
    /// Whatever is wrong with them: the summary is then made anew by reading the file.
    fn decode(bytes: &[u8]) -> Result<Self, HookError>;

    /// Takes in what another one has noted.
    fn merge(&mut self, other: &Self);
}

/// The summary of engines that want to know nothing.
impl Summary for () {
    fn encode(&self, _out: &mut Vec<u8>) {}

    fn decode(bytes: &[u8]) -> Result<Self, HookError> {
        if bytes.is_empty() { Ok(()) } else { Err(format!("{} bytes where there should be none", bytes.len()).into()) }
    }

    fn merge(&mut self, (): &Self) {}
}

/// What a job of compaction migrates by: a copy of the engine's catalog, at one moment.
///
/// ```
/// use thermocline_migration::MigrationContext;
///
/// struct Catalog { generation: u64 }
///
/// impl MigrationContext for Catalog {
///     fn id(&self) -> u64 {
///         self.generation
///     }
/// }
/// assert_eq!(Catalog { generation: 3 }.id(), 3);
/// ```
pub trait MigrationContext: Send + 'static {
    /// Grows with each change of what rows should be like, and never falls, also from one process to the next. Files remember the one that
    /// they were written with; a forced pass rewrites those of older ones.
    fn id(&self) -> u64;
}

/// A context that is shared.
impl<C: MigrationContext + Sync> MigrationContext for Arc<C> {
    fn id(&self) -> u64 {
        C::id(self)
    }
}

/// The context of engines that need none. Its id is 0.
impl MigrationContext for () {
    fn id(&self) -> u64 {
        0
    }
}

/// Where contexts come from.
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use thermocline_migration::{HookError, MigrationContext, MigrationContextSource};
///
/// struct Generation(u64);
///
/// impl MigrationContext for Generation {
///     fn id(&self) -> u64 {
///         self.0
///     }
/// }
///
/// struct Generations(AtomicU64);
///
/// impl MigrationContextSource for Generations {
///     type Context = Generation;
///
///     fn context(&self) -> Result<Generation, HookError> {
///         Ok(Generation(self.0.load(Ordering::Acquire)))
///     }
/// }
/// assert_eq!(Generations(AtomicU64::new(2)).context()?.id(), 2);
/// # Ok::<(), HookError>(())
/// ```
pub trait MigrationContextSource: Send + Sync + 'static {
    /// What it hands out.
    type Context: MigrationContext;

    /// The context as of now. It is asked for at the start of each job of compaction, and again between its steps, a few times a second at
    /// most, always between two keys: it should answer at once.
    ///
    /// # Errors
    /// Whatever keeps it from answering: the job fails, loses nothing, and is tried again.
    fn context(&self) -> Result<Self::Context, HookError>;
}

/// The source of contexts of engines that need none.
impl MigrationContextSource for () {
    type Context = ();

    fn context(&self) -> Result<(), HookError> {
        Ok(())
    }
}

/// What is to become of a row. `None` in a field of [`Modified`](Self::Modified) keeps what is there.
///
/// ```
/// use thermocline_migration::Migrate;
///
/// let stamped = Migrate::Modified { value: None, suffix: Some(vec![0; 8].into()) };
/// assert_ne!(stamped, Migrate::Unchanged);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Migrate {
    /// It stays as it is, and is copied as it lies in the file.
    Unchanged,
    /// It gets another value, another suffix, or both; its version and its prefix stay.
    Modified {
        /// The new value. An empty one is a value, not a deletion.
        value: Option<Bytes>,
        /// The new suffix, of any length that leaves the key's prefix where it is.
        suffix: Option<Bytes>,
    },
}

/// Which rows are offered to [`migrate`](Strategy::migrate).
///
/// | scope | what is offered | what a reader with a snapshot or a pin sees at its version |
/// | --- | --- | --- |
/// | [`Settled`](Self::Settled) | of each key the newest row at or below the horizon and every pin | the same rows, a settled one perhaps in its new form |
/// | [`Unpinned`](Self::Unpinned) | of these, those newer than every snapshot and pin when the rewrite begins | the same bytes, if made before that |
/// | [`All`](Self::All) | every row of every version | the same rows, perhaps in their new form |
///
/// A store in which some snapshot is always open never migrates anything with `Unpinned`: it is for engines whose readers compare bytes, and
/// whose snapshots are short.
///
/// ```
/// assert_eq!(thermocline_migration::MigrationScope::default(), thermocline_migration::MigrationScope::Settled);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MigrationScope {
    /// The settled row of each key: what no allowed read can tell apart from an older one any more.
    #[default]
    Settled,
    /// The same, unless a snapshot or a pin may see it.
    Unpinned,
    /// All rows, for engines that keep all history and want it in the new form.
    All,
}

/// How an engine's rows are summed up and migrated.
///
/// # When hooks are called
/// - Each row, of whatever version, that goes to a file is shown to exactly one of [`observe`](Self::observe) and
///   [`migrate`](Self::migrate), once. Flushing observes all; compaction offers to `migrate` what [`SCOPE`](Self::SCOPE) says, and observes
///   the rest. Neither sees deletions, nor what compaction leaves out. [`filter`](Self::filter) is asked before `migrate`.
/// - The rows of a file come in the order of tables and keys, of each key the newest first. Those of another file may come at the same time, from
///   another thread.
///
/// # What hooks must be like
/// - Pure: the same answer for the same row and context. What they say takes effect with the file that is made, or not at all: after a crash,
///   a failure or a cancelled job they are asked again about the same rows.
/// - Idempotent: a row that `migrate` has made must come back [`Unchanged`](Migrate::Unchanged), since every later compaction shows it
///   again. It is asked so on the spot for one changed row of [`IDEMPOTENCE_SAMPLE`](Self::IDEMPOTENCE_SAMPLE).
/// - They may read the store. Whatever would change it or wait for its background work is refused with
///   [`Reentrant`](thermocline_tier::ErrorKind::Reentrant), since the hook is a part of that work. For the same reason they must not wait for a
///   thread that commits, nor drop the last handle of the store.
///
/// A hook that fails or panics fails its job: nothing is lost, the files that it read stay, and it is tried again later.
///
/// ```
/// use thermocline_migration::{HookError, Migrate, Strategy, StoredRow, erase};
/// use thermocline_tier::{EntryKind, Version};
///
/// /// Values that are upper case, and how many there are.
/// struct UpperCase;
///
/// impl Strategy for UpperCase {
///     type Summary = ();
///     type Context = ();
///     type ContextSource = ();
///
///     fn name(&self) -> &str {
///         "upper-case"
///     }
///     fn contexts(&self) -> &() {
///         &()
///     }
///     fn observe(&self, (): &mut (), _row: &StoredRow<'_>) -> Result<(), HookError> {
///         Ok(())
///     }
///     fn migrate(&self, (): &mut (), (): &mut (), row: &StoredRow<'_>) -> Result<Migrate, HookError> {
///         let upper = row.value()?.to_ascii_uppercase();
///         Ok(if upper == row.value()? {
///             Migrate::Unchanged
///         } else {
///             Migrate::Modified { value: Some(upper.into()), suffix: None }
///         })
///     }
/// }
///
/// let mut job = erase(std::sync::Arc::new(UpperCase)).begin();
/// job.refresh()?;
/// let row = StoredRow::new(EntryKind::Multi, b"k", b"", Version(1), b"quiet");
/// assert_eq!(job.migrate(&row)?.and_then(|modified| modified.value).as_deref(), Some(&b"QUIET"[..]));
/// # Ok::<(), thermocline_tier::Error>(())
/// ```
pub trait Strategy: Send + Sync + 'static {
    /// What is noted of each file.
    type Summary: Summary;
    /// What a job migrates by.
    type Context: MigrationContext;
    /// Where contexts come from.
    type ContextSource: MigrationContextSource<Context = Self::Context>;

    /// Which rows are offered to [`migrate`](Self::migrate).
    const SCOPE: MigrationScope = MigrationScope::Settled;
    /// Of so many rows that `migrate` has changed in a job, the first is shown to it again at once, with a summary that is thrown away: it must
    /// answer with the same bytes. 0: none.
    const IDEMPOTENCE_SAMPLE: u64 = 1024;

    /// A name for the strategy and the encoding of its summaries, stored with each file: those of another name are made anew by reading
    /// their files.
    fn name(&self) -> &str;

    /// Where keys split into prefix and suffix; by default the whole key is prefix.
    fn layout(&self) -> SharedLayout {
        Arc::new(WholeKey)
    }

    /// Where contexts come from.
    fn contexts(&self) -> &Self::ContextSource;

    /// Notes a row.
    ///
    /// # Errors
    /// Whatever keeps it from doing so; fails the job.
    fn observe(&self, summary: &mut Self::Summary, row: &StoredRow<'_>) -> Result<(), HookError>;

    /// Says what is to become of a row, and notes the row as it is then. By default it stays, and is observed.
    ///
    /// # Errors
    /// Whatever keeps it from doing so; fails the job.
    fn migrate(
        &self,
        _context: &mut Self::Context,
        summary: &mut Self::Summary,
        row: &StoredRow<'_>,
    ) -> Result<Migrate, HookError> {
        self.observe(summary, row)?;
        Ok(Migrate::Unchanged)
    }

    /// Whether a settled row is to go, as one that has expired: from then on reads find nothing of its key at its version. Rows that a
    /// snapshot or a pin may see when the job begins are not asked about, and stay. A snapshot that is made while the job runs may see the
    /// row at first and then not. By default none goes.
    ///
    /// # Errors
    /// Whatever keeps it from answering; fails the job.
    fn filter(&self, _context: &mut Self::Context, _row: &StoredRow<'_>) -> Result<bool, HookError> {
        Ok(false)
    }

    /// Whether a file of this summary is worth a rewrite by itself, when nothing else calls for one. It is asked about files that hold something
    /// that a rewrite would offer to [`migrate`](Self::migrate) and that was not offered under this context yet. By default none is.
    fn wants_rewrite(&self, _context: &Self::Context, _summary: &Self::Summary) -> bool {
        false
    }
}

/// The strategy of engines that migrate nothing.
///
/// ```
/// use thermocline_migration::{NoMigration, Strategy};
///
/// assert_eq!(NoMigration.name(), "none");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoMigration;

impl Strategy for NoMigration {
    type Summary = ();
    type Context = ();
    type ContextSource = ();

    fn name(&self) -> &'static str {
        "none"
    }

    fn contexts(&self) -> &() {
        &()
    }

    fn observe(&self, (): &mut (), _row: &StoredRow<'_>) -> Result<(), HookError> {
        Ok(())
    }
}
