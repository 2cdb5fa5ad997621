//! What a tier on disk offers to the store above it, beyond storage.

use std::fmt::Debug;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::Result;
use crate::migrating::MigratingTier;
use crate::range::KeyRange;
use crate::retained::RetainedTables;
use crate::storage::{Amount, TableStats, TierStorage};
use crate::table::EntryKind;
use crate::version::Version;

/// How far a durable tier has taken over from the log.
///
/// ```
/// use thermocline_tier::{Checkpoint, Version};
///
/// assert_eq!(Checkpoint::default().version, Version::ZERO);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// Every commit at or below it is in the tier, durably: the log need not replay it.
    pub version: Version,
    /// What the store itself must know at that version, in the store's own encoding. May be empty.
    pub state: Bytes,
}

/// Whether a tier keeps up with what it is given.
///
/// ```
/// assert!(thermocline_tier::Pressure::None < thermocline_tier::Pressure::Stop { why: "level 0 is full".into() });
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// It does.
    None,
    /// It falls behind: writers should slow down.
    Slow {
        /// What is behind, for people.
        why: String,
    },
    /// It is so far behind that writers should wait.
    Stop {
        /// What is behind, for people.
        why: String,
    },
}

/// Says what is retained at the moment.
pub trait RetentionSource: Send + Sync + Debug {
    /// What every allowed read can see from now on lies in it. A tier may hold its own locks while it asks, also in
    /// [`clear_table`](TierStorage::clear_table): the answer waits for nobody who waits for the tier.
    fn retained(&self) -> RetainedTables;

    /// The newest version that a snapshot or a pin holds, be it at or above the horizon; `None` if there is none, [`Version::MAX`] if something
    /// holds every version from one on. Locks as in [`retained`](Self::retained).
    fn newest_pin(&self) -> Option<Version>;
}

/// A tier whose content survives the process, below the tier that takes the writes.
///
/// Its work is passive: nothing happens on its own, [`step`](DurableTier::step) does a bounded piece. All methods may be called from any
/// thread; steps of different threads work on different pieces.
pub trait DurableTier: TierStorage {
    /// How far it has taken over.
    fn checkpoint(&self) -> Checkpoint;

    /// Takes over all entries and tables of `source`, to which nothing is written meanwhile, and `checkpoint`, in one atomic and durable
    /// step: when it returns all of it is readable here and survives a crash; after an error, nothing has changed. An entry that is here
    /// already is replaced. Entries that need not be kept, as far as it was [told](Self::set_retention), may be left out.
    ///
    /// # Errors
    /// [`DiskFull`](crate::ErrorKind::DiskFull), [`Io`](crate::ErrorKind::Io), [`Poisoned`](crate::ErrorKind::Poisoned) after a failed sync of
    /// the manifest, and what `source` fails with.
    fn absorb(&self, source: &dyn TierStorage, checkpoint: Checkpoint) -> Result<()>;

    /// The version from which on nothing is reclaimed; it survives restarts.
    fn horizon(&self) -> Version;

    /// Moves the horizon forward, durably; entries that no allowed read can see vanish with later rewrites. A lower horizon than
    /// the present one changes nothing.
    ///
    /// # Errors
    /// As [`absorb`](DurableTier::absorb).
    fn set_horizon(&self, horizon: Version) -> Result<()>;

    /// From now on, asks `source` at the start of each rewrite, and of each [`absorb`](Self::absorb), what must be kept. Before, that is
    /// all from the horizon on, and all that is absorbed.
    fn set_retention(&self, source: Arc<dyn RetentionSource>);

    /// Does one bounded piece of the most urgent background work; false if there is none.
    ///
    /// # Errors
    /// As [`absorb`](DurableTier::absorb); what was there before is untouched then.
    fn step(&self) -> Result<bool>;

    /// From now on until none is left, work of the background is also to rewrite what may hold entries that need not be kept, however
    /// few: for a store that has promised that they are gone in time.
    fn reclaim_all(&self);

    /// Whether some of what [`reclaim_all`](Self::reclaim_all) asked for is left to do. It may say so until a [`step`](Self::step) has found
    /// that there is none.
    fn is_reclaiming_all(&self) -> bool;

    /// Holds up what background work does only to free space, or lets it go on.
    fn pause_reclaim(&self, is_paused: bool);

    /// How much was left out of what was absorbed and rewritten since the tier was opened, by table; without tables of which nothing was.
    fn reclaimed(&self) -> Vec<(EntryKind, Amount)>;

    /// Whether background work keeps up.
    fn pressure(&self) -> Pressure;

    /// Rewrites what holds keys of a range of a table, so that each key lies in one place and what is reclaimable is gone. `wake` is
    /// called, without locks, when there is work that other threads can take on by [`step`](DurableTier::step): as often as that begins.
    ///
    /// # Errors
    /// As [`step`](DurableTier::step).
    fn compact(&self, table: EntryKind, range: &KeyRange, wake: &dyn Fn()) -> Result<()>;

    /// The files that the tier consists of, by level and key.
    fn files(&self) -> Vec<TierFile>;

    /// What it has read and written since it was opened.
    fn counters(&self) -> FileCounters;

    /// What it offers to engines that migrate their rows; `None` for a tier that was opened without a strategy.
    fn migrating(&self) -> Option<&dyn MigratingTier> {
        None
    }

    /// Reads every byte of the tier's files and checks it; gives back how many files and bytes there are.
    ///
    /// # Errors
    /// [`Corruption`](crate::ErrorKind::Corruption) naming the file and the offset, [`Io`](crate::ErrorKind::Io).
    fn verify(&self) -> Result<VerifiedFiles>;
}

/// A file of a durable tier, for people and programs that look into a store.
///
/// ```
/// use thermocline_tier::TierFile;
///
/// fn total(files: &[TierFile]) -> u64 { files.iter().map(|file| file.size_bytes).sum() }
/// assert_eq!(total(&[]), 0);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TierFile {
    /// Its name.
    pub name: String,
    /// Its level, from 0.
    pub level: u8,
    /// Its length.
    pub size_bytes: u64,
    /// The table and the key that it begins with.
    pub first: (EntryKind, Bytes),
    /// Those that it ends with.
    pub last: (EntryKind, Bytes),
    /// The oldest and the newest version in it.
    pub versions: (Version, Version),
    /// What it holds of each table, in order.
    pub tables: Vec<(EntryKind, TableStats)>,
}

/// What a durable tier has read and written: since it was opened, but for the totals.
///
/// ```
/// assert_eq!(thermocline_tier::FileCounters::default().written_bytes, 0);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileCounters {
    /// Bytes of files that were written.
    pub written_bytes: u64,
    /// Those of them that rewriting caused.
    pub rewritten_bytes: u64,
    /// Bytes of files that tables were flushed to since the tier was made, in all sessions.
    pub flushed_total_bytes: u64,
    /// Bytes of files that were made of other files since then.
    pub rewritten_total_bytes: u64,
    /// Blocks that readers had to fetch from files.
    pub blocks_read: u64,
    /// What cached blocks, indexes and filters take in memory.
    pub cached_bytes: u64,
}

/// What [`DurableTier::verify`] has read.
///
/// ```
/// assert_eq!(thermocline_tier::VerifiedFiles::default().files, 0);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VerifiedFiles {
    /// Files, the manifest among them.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Entries, all versions.
    pub entries: u64,
}
