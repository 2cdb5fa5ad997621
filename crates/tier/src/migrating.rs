//! What a durable tier offers to engines that migrate their rows while it rewrites its files.

use std::sync::Arc;

use bytes::Bytes;

use crate::durable::TierFile;
use crate::entry::EntryRef;
use crate::error::{Error, Result};
use crate::table::EntryKind;

/// What was done with rows on their way to files.
///
/// ```
/// assert!(thermocline_tier::MigrationReport::default().contexts.is_empty());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MigrationReport {
    /// Rows that were observed alone.
    pub observed: u64,
    /// Rows that were offered to the strategy's `migrate`.
    pub offered: u64,
    /// Those of them that it changed.
    pub modified: u64,
    /// Rows that its `filter` let go.
    pub filtered: u64,
    /// The ids of the contexts that were used, ascending.
    pub contexts: Vec<u64>,
}

impl MigrationReport {
    /// Adds what was done elsewhere.
    pub fn add(&mut self, other: &Self) {
        let Self { observed, offered, modified, filtered, contexts } = other;
        self.observed = self.observed.saturating_add(*observed);
        self.offered = self.offered.saturating_add(*offered);
        self.modified = self.modified.saturating_add(*modified);
        self.filtered = self.filtered.saturating_add(*filtered);
        self.contexts.extend(contexts);
        self.contexts.sort_unstable();
        self.contexts.dedup();
    }
}

/// What a tier's strategy has done since the tier was opened.
///
/// ```
/// assert_eq!(thermocline_tier::MigrationCounters::default().failures, 0);
/// ```
#[derive(Clone, Debug, Default)]
pub struct MigrationCounters {
    /// In all jobs that ended well. Of the contexts the last ones that were used, 16 at most.
    pub done: MigrationReport,
    /// How many jobs failed because a hook failed, panicked or did what it must not.
    pub failures: u64,
    /// Why the last of them did.
    pub last_failure: Option<Error>,
}

/// A file, and what a strategy noted of its rows.
///
/// ```
/// use thermocline_tier::FileSummary;
///
/// fn unknown(files: &[FileSummary]) -> usize { files.iter().filter(|file| file.slot.is_empty()).count() }
/// assert_eq!(unknown(&[]), 0);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSummary {
    /// The file.
    pub file: Arc<TierFile>,
    /// Its number: files that were made later have higher ones.
    pub number: u64,
    /// What the strategy noted, with what the tier notes beside it; empty if nothing that the present strategy can read.
    pub slot: Bytes,
    /// Whether the tier still consists of it. If not, a reader that has begun before still reads it, and so do all that are asked about here.
    pub is_live: bool,
}

/// A durable tier that shows the rows of its files to a strategy.
pub trait MigratingTier {
    /// All files, by level and key, and then those of before that somebody still reads. Reads no file. Cost: a step for each file.
    fn summaries(&self) -> Vec<FileSummary>;

    /// Makes the summary of a file anew by reading it, and keeps it, durably if the file is live and the tier can be written to; its slot, or
    /// `None` for a file that is gone.
    ///
    /// # Errors
    /// [`CallbackFailed`](crate::ErrorKind::CallbackFailed), [`Corruption`](crate::ErrorKind::Corruption),
    /// [`DiskFull`](crate::ErrorKind::DiskFull), [`Io`](crate::ErrorKind::Io); the summary is as it was then.
    fn summarize(&self, number: u64) -> Result<Option<Bytes>>;

    /// Rewrites a live file, with those that must go with it, and so offers its rows to the strategy; what was done, or `None` if the file
    /// is not live any more. `wake` is called as by [`compact`](crate::DurableTier::compact).
    ///
    /// # Errors
    /// As [`step`](crate::DurableTier::step).
    fn rewrite(&self, number: u64, wake: &dyn Fn()) -> Result<Option<MigrationReport>>;

    /// Waits until the rewrite that is under way, if any is, has ended, with the help of whoever calls: what is written from then on is by
    /// what is retained, and by the context, of after the call.
    ///
    /// # Errors
    /// As [`step`](crate::DurableTier::step).
    fn finish_rewrite(&self, wake: &dyn Fn()) -> Result<()>;

    /// Shows all rows of a live file in order to `visit`, with whether a rewrite that begins now would keep the row and offer it to the
    /// strategy, until it answers false. Nothing is written.
    ///
    /// # Errors
    /// As [`get`](crate::TierStorage::get), and the first error of `visit`.
    fn visit_file(&self, number: u64, visit: &mut dyn FnMut(EntryKind, EntryRef<'_>, bool) -> Result<bool>) -> Result<()>;

    /// Of [`summaries`](Self::summaries) those of live files of which a rewrite that begins now, under a context of this id, may offer rows that were
    /// not offered under it yet; also those of which that is not known.
    fn behind(&self, context: u64) -> Vec<FileSummary>;

    /// What was done since the tier was opened.
    fn migration_counters(&self) -> MigrationCounters;
}
