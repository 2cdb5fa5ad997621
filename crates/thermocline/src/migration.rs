//! Migration with the types of the engine's strategy.

use std::ops::Deref;
use std::sync::Arc;

use thermocline_migration::{Slot, StoredRow, Strategy, Summary, observe};
use thermocline_store::Pass;
use thermocline_tier::{Error, ErrorKind, FileSummary, Result, TierFile};

use crate::builder::Store;

/// What the strategy noted of the rows of one file; it dereferences to the summary.
///
/// See [`Store::summaries`] for an example.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentSummary<T> {
    /// The file.
    pub file: Arc<TierFile>,
    /// Whether the store still consists of it. If not, somebody still reads it who has begun before it was rewritten.
    pub is_live: bool,
    /// What was noted.
    pub summary: T,
}

impl<T> Deref for SegmentSummary<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.summary
    }
}

/// How much of a store some predicate holds of, such as that rows of an old schema are left.
///
/// ```
/// assert!(thermocline::MigrationStatus::default().is_done());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MigrationStatus {
    /// Files that it holds of, and all.
    pub files: (u64, u64),
    /// Their bytes, and those of all.
    pub bytes: (u64, u64),
    /// The keys in them, and in all; a key that several files hold counts in each.
    pub keys: (u64, u64),
    /// Whether it holds of what is in memory and in no file yet.
    pub is_in_memory: bool,
}

impl MigrationStatus {
    /// Whether it holds of nothing any more.
    pub fn is_done(&self) -> bool {
        self.files.0 == 0 && !self.is_in_memory
    }
}

/// Reads what the strategy noted of a file.
fn read<T: Summary>(file: &FileSummary) -> Result<T> {
    let slot = Slot::decode(&file.slot);
    let summary = slot.ok_or_else(|| "there is none".into()).and_then(|slot| T::decode(slot.summary));
    summary.map_err(|error| {
        Error::with_source(ErrorKind::CallbackFailed { what: format!("decode of the summary of {}", file.file.name) }, error)
    })
}

impl<S: Strategy> Store<S> {
    /// What the strategy noted of each file that is live, or still read by somebody. May be empty. It tells nothing of what is in no file yet: see
    /// [`memory_summary`](Self::memory_summary), and [`live_summary`](Self::live_summary) for all of it together.
    ///
    /// No file is touched, but for one whose summary cannot be read, or was never made: it is made anew and kept. Cost: a step for each file.
    ///
    /// ```
    /// use thermocline::{HookError, Store, StoredRow, Strategy, Summary};
    ///
    /// /// The oldest clock that lives, in the last 8 bytes of each key.
    /// #[derive(Clone, Debug, Default)]
    /// struct Oldest(Option<u64>);
    ///
    /// impl Summary for Oldest {
    ///     fn encode(&self, out: &mut Vec<u8>) {
    ///         out.extend(self.0.unwrap_or(u64::MAX).to_le_bytes());
    ///     }
    ///     fn decode(bytes: &[u8]) -> Result<Self, HookError> {
    ///         let clock = u64::from_le_bytes(bytes.try_into()?);
    ///         Ok(Self(Some(clock).filter(|clock| *clock != u64::MAX)))
    ///     }
    ///     fn merge(&mut self, other: &Self) {
    ///         self.0 = self.0.into_iter().chain(other.0).min();
    ///     }
    /// }
    ///
    /// struct Clocks;
    ///
    /// impl Strategy for Clocks {
    ///     type Summary = Oldest;
    ///     type Context = ();
    ///     type ContextSource = ();
    ///     fn name(&self) -> &str {
    ///         "clocks-1"
    ///     }
    ///     fn layout(&self) -> std::sync::Arc<dyn thermocline::KeyLayout> {
    ///         std::sync::Arc::new(thermocline::FixedSuffix(8))
    ///     }
    ///     fn contexts(&self) -> &() {
    ///         &()
    ///     }
    ///     fn observe(&self, summary: &mut Oldest, row: &StoredRow<'_>) -> Result<(), HookError> {
    ///         summary.merge(&Oldest(Some(u64::from_le_bytes(row.suffix.try_into()?))));
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let directory = tempfile::tempdir()?;
    /// let store = Store::builder(directory.path().join("db")).strategy(Clocks).open()?;
    /// let mut batch = thermocline::Batch::new();
    /// for (key, clock) in [(b"a", 7_u64), (b"b", 5)] {
    ///     batch.put(thermocline::Table::Multi, &[&key[..], &clock.to_le_bytes()].concat(), b"row");
    /// }
    /// store.commit(batch)?;
    /// assert_eq!((store.summaries()?.len(), store.live_summary()?.0), (0, Some(5)));
    /// store.flush()?;
    /// assert_eq!(store.summaries()?.iter().filter_map(|file| file.0).min(), Some(5));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`file_summaries`](thermocline_store::Store::file_summaries).
    pub fn summaries(&self) -> Result<Vec<SegmentSummary<S::Summary>>> {
        let read = |file: FileSummary| {
            let summary = read(&file)?;
            Ok(SegmentSummary { file: file.file, is_live: file.is_live, summary })
        };
        self.file_summaries()?.into_iter().map(read).collect()
    }

    /// What the strategy observes of the rows that are in memory and in no file yet, as of now. Cost: all of them are shown to it.
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed), and what [`observe`](Strategy::observe) fails with as [`CallbackFailed`](ErrorKind::CallbackFailed).
    pub fn memory_summary(&self) -> Result<S::Summary> {
        let mut summary = S::Summary::default();
        self.visit_memory(&mut |table, entry| {
            let Some(value) = entry.value else { return Ok(()) };
            let row = StoredRow::new(table, entry.prefix, entry.suffix, entry.version, value);
            observe(self.strategy(), &mut summary, &row)
        })?;
        Ok(summary)
    }

    /// What the strategy knows of everything that lives: [`memory_summary`](Self::memory_summary) and all [`summaries`](Self::summaries)
    /// merged; `S::Summary::default()` of an empty store. Every row that was committed before the call and can still be read is in it, also if it
    /// moves to a file meanwhile: what is noted of none is gone from memory and files. Not meant are rows that are committed while it is asked for, and
    /// [changes](thermocline_store::Store::changes), which hand out what was committed as it was.
    ///
    /// # Errors
    /// As [`memory_summary`](Self::memory_summary) and [`summaries`](Self::summaries).
    pub fn live_summary(&self) -> Result<S::Summary> {
        // In this order: what is flushed in between is in both.
        let mut live = self.memory_summary()?;
        for file in self.summaries()? {
            live.merge(&file.summary);
        }
        Ok(live)
    }

    /// How much of the store `is_behind` holds of, such as that the oldest schema in a summary is below a watermark.
    ///
    /// # Errors
    /// As [`live_summary`](Self::live_summary).
    pub fn migration_status(&self, is_behind: impl Fn(&S::Summary) -> bool) -> Result<MigrationStatus> {
        let is_in_memory = is_behind(&self.memory_summary()?);
        let mut status = MigrationStatus { is_in_memory, ..MigrationStatus::default() };
        for file in self.summaries()? {
            let counts = [1, file.file.size_bytes, file.file.tables.iter().map(|(_, stats)| stats.keys).sum()];
            let is_behind = u64::from(is_behind(&file.summary));
            for (sum, count) in [&mut status.files, &mut status.bytes, &mut status.keys].into_iter().zip(counts) {
                *sum = (sum.0 + is_behind * count, sum.1 + count);
            }
        }
        Ok(status)
    }

    /// A pass over the files that `is_behind` holds of and of which a rewrite may offer something to the strategy, after everything in memory was
    /// flushed. Rows that are not settled stay as they are: [`migration_status`](Self::migration_status) tells afterwards.
    ///
    /// # Errors
    /// As [`pass`](thermocline_store::Store::pass).
    pub fn drive_to(&self, is_behind: impl Fn(&S::Summary) -> bool) -> Result<Pass> {
        self.pass(|file| Ok(is_behind(&read(file)?)))
    }
}
