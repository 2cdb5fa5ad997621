//! What every contestant must do: versioned work behind one trait, called by the same loops for all.

use std::path::PathBuf;

use crate::failure::Outcome;

/// The place of a table among a workload's tables, from 0.
pub type Table = u8;

/// The version to read at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// Whatever is newest when the call comes.
    Latest,
    /// The newest entries at or below this version.
    Version(u64),
}

impl At {
    /// The bound as a number: [`u64::MAX`] for the latest.
    pub fn bound(self) -> u64 {
        match self {
            Self::Latest => u64::MAX,
            Self::Version(version) => version,
        }
    }
}

pub use thermocline::Direction;

/// Takes a key with its value before and after.
pub type VisitChange<'a> = &'a mut dyn FnMut(&[u8], Option<&[u8]>, Option<&[u8]>);

/// What a commit promises when it returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// It survives the loss of power.
    Sync,
    /// It survives the death of the process: the log was handed to the operating system.
    Buffered,
}

/// One write of a commit. No key occurs twice in a commit.
#[derive(Clone, Copy, Debug)]
pub struct Write<'a> {
    /// Its table.
    pub table: Table,
    /// Its key.
    pub key: &'a [u8],
    /// The new value, or `None` to delete.
    pub value: Option<&'a [u8]>,
}

/// A scan of one table.
#[derive(Clone, Copy, Debug)]
pub struct Scan<'a> {
    /// The table.
    pub table: Table,
    /// Where it starts, inclusive; `None` for the end of the table that the direction starts from.
    pub from: Option<&'a [u8]>,
    /// Which way.
    pub direction: Direction,
    /// At which version.
    pub at: At,
    /// How many rows at most.
    pub limit: usize,
    /// How to get over entries that the version does not want; only engines that store versions as keys of their own care.
    pub skip: Skip,
}

/// How a reader of keys with versions in them gets from the entry that it wants to the next key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// One entry after the other.
    Step,
    /// With a seek to the next key, and another to the version.
    Seek,
}

/// What an engine is given when it is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where its files lie. The directory exists; it is empty when a store is made.
    pub directory: PathBuf,
    /// What its caches, and its memory for writes, may take together, as far as it can be told.
    pub cache_bytes: u64,
    /// What the workload writes in all, in bytes of keys and values; for engines that must be told a size ahead.
    pub data_bytes: u64,
    /// The length of the workload's keys, if all are of one.
    pub key_len: Option<usize>,
    /// The length of its values, if all are of one.
    pub value_len: Option<usize>,
    /// Whether the workload is about durable commits.
    pub has_durable_commits: bool,
}

/// How an engine was set up: shown beside its figures.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Settings {
    /// Name and release.
    pub release: String,
    /// How versions are kept.
    pub versions: String,
    /// What stands for `Buffered`, and what for `Sync`.
    pub durability: String,
    /// The sizes of its caches and buffers.
    pub memory: String,
    /// Compression, filters, and whatever else was set.
    pub other: String,
}

/// A number of bytes as settings show it, in whole mebibytes.
///
/// ```
/// assert_eq!(thermocline_yardstick::engine::mebibytes(512 << 20), "512 MiB");
/// ```
pub fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

/// A store under test. Reads run beside commits and beside each other.
///
/// Answers go to closures rather than into owned values, so that no engine pays for copies that its own interface does not ask for; each
/// harness loop reads the first and the last byte of a value.
pub trait Engine: Send + Sync + Sized {
    /// As it is called on the command line: lower case, short.
    const NAME: &'static str;
    /// Whether [`Scan::skip`] makes a difference: then both are tried, and the faster is kept.
    const HAS_SKIPS: bool = false;
    /// Whether it keeps versions at all. One that does not is shown, but is no peer: what it leaves out is what the others pay for.
    const KEEPS_VERSIONS: bool = true;
    /// Phases, by the start of their names, in which it promises less than was asked for, so that it is shown, but is no peer: an
    /// acknowledged commit that dies with the process costs nothing.
    const PROMISES_LESS_IN: &'static [&'static str] = &[];

    /// How it is set up with these options.
    fn settings(options: &Options) -> Settings;

    /// Opens the store, or makes it.
    fn open(options: &Options) -> Outcome<Self>;

    /// Commits a batch over any tables, all or nothing. With `version` at that one, which is above all before; else at the next one of the
    /// engine's own. Commits with a version come from one thread at a time, those without
    /// from many, and only after one with a version since the store was opened.
    fn commit(&self, version: Option<u64>, writes: &[Write<'_>], durability: Durability) -> Outcome<()>;

    /// Hands the value that `at` sees to `visit`, once: `None` if there is none.
    fn get(&self, table: Table, key: &[u8], at: At, visit: &mut dyn FnMut(Option<&[u8]>)) -> Outcome<()>;

    /// As [`get`](Self::get) for many keys of one table, all as of one moment: `visit` is called once for each key, in their order.
    fn get_many(&self, table: Table, keys: &[&[u8]], at: At, visit: &mut dyn FnMut(Option<&[u8]>)) -> Outcome<()> {
        keys.iter().try_for_each(|key| self.get(table, key, at, visit))
    }

    /// Hands rows (key, value) to `visit` in the scan's order, deleted ones left out.
    fn scan(&self, scan: &Scan<'_>, visit: &mut dyn FnMut(&[u8], &[u8])) -> Outcome<()>;

    /// Hands each key of a table whose value differs between two versions to `visit`, in key order, with the value before and after.
    /// [`Failure::Unsupported`](crate::failure::Failure::Unsupported) if there is no way.
    fn diff(&self, table: Table, from: u64, to: u64, skip: Skip, visit: VisitChange<'_>) -> Outcome<()>;

    /// Removes every entry that no read at `version` or later can see.
    /// [`Failure::Unsupported`](crate::failure::Failure::Unsupported) if there is no way.
    fn reclaim(&self, version: u64) -> Outcome<()>;

    /// Finishes what the commits have caused in the background: flushes, compactions, checkpoints.
    fn settle(&self) -> Outcome<()>;

    /// Brings the store into its best form for reads and for its size, where there is a way to ask for that. Is not timed, but after
    /// [`reclaim`](Self::reclaim).
    fn compact(&mut self) -> Outcome<()> {
        Ok(())
    }

    /// Closes the store. Everything committed is there when it is opened again.
    fn close(self) -> Outcome<()>;
}
