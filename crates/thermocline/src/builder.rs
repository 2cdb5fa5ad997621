//! Opening a store: the one place that wires tiers, log and machine together.

use std::fmt;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use thermocline_io::{Disk, DiskErrorKind, Environment, MemoryDisk, RealDisk};
use thermocline_migration::{NoMigration, Strategy, erase};
use thermocline_store::{Background, Durability, OpenMode, StoreOptions};
use thermocline_tier::{Error, ErrorKind, KeyLayout, Result, SharedLayout};
use thermocline_wal::LogOptions;
use thermocline_warm::Compression;

use crate::tiers::{self, FileOptions, MemoryOptions, TierSet};

/// An open store. All its methods but the opening ones are those of [`thermocline_store::Store`], to which it dereferences.
///
/// ```
/// use thermocline::{Batch, Store, Table};
///
/// let directory = tempfile::tempdir()?;
/// let store = Store::open(directory.path().join("db"))?;
/// let mut batch = Batch::new();
/// batch.put(Table::Multi, b"k", b"v");
/// store.commit(batch)?;
/// store.close()?;
///
/// let store = Store::open(directory.path().join("db"))?;
/// assert_eq!(store.get(Table::Multi, b"k")?.as_deref(), Some(b"v".as_slice()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Store<S = NoMigration> {
    inner: thermocline_store::Store,
    strategy: Arc<S>,
}

impl<S> Clone for Store<S> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), strategy: Arc::clone(&self.strategy) }
    }
}

impl<S> fmt::Debug for Store<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl<S> Store<S> {
    pub(crate) fn strategy(&self) -> &S {
        &self.strategy
    }
}

impl Store {
    /// Opens the store in a directory, and makes one if there is none.
    ///
    /// # Errors
    /// As [`Builder::open`].
    pub fn open(directory: impl AsRef<Path>) -> Result<Self> {
        Self::builder(directory).open()
    }

    /// A builder, to open with options.
    pub fn builder(directory: impl AsRef<Path>) -> Builder {
        Builder {
            directory: directory.as_ref().to_path_buf(),
            options: StoreOptions::default(),
            tiers: TierSet::default().hot().warm(),
            memory: MemoryOptions::default(),
            files: FileOptions::default(),
            layout: None,
            strategy: Arc::new(NoMigration),
        }
    }

    /// A store that lives in memory and is gone with its last handle: the same API, no directory. Its log lies in memory too, so
    /// that the change stream works; it takes about as much again as the data. Two threads do what time calls for, such as policies of
    /// retention, leases and times to live.
    ///
    /// # Errors
    /// [`Io`](thermocline_tier::ErrorKind::Io) if the system gives no random numbers.
    pub fn in_memory() -> Result<Self> {
        let log = LogOptions { segment_size_bytes: IN_MEMORY_SEGMENT_SIZE_BYTES, ..LogOptions::default() };
        let options = StoreOptions { durability: Durability::Buffered, log, ..StoreOptions::default() };
        let (memory, files) = (MemoryOptions::default(), FileOptions::default());
        let inner = open_on(Arc::new(MemoryDisk::new()), options, TierSet::default().hot(), memory, files)?;
        Ok(Self { inner, strategy: Arc::new(NoMigration) })
    }
}

/// Small, since most stores in memory are small.
const IN_MEMORY_SEGMENT_SIZE_BYTES: u64 = 1 << 20;

impl<S> Deref for Store<S> {
    type Target = thermocline_store::Store;

    fn deref(&self) -> &Self::Target {
        &self.inner
    }
}

/// Collects the options of a store and opens it.
///
/// ```
/// use thermocline::{Durability, OpenMode, Store};
///
/// let directory = tempfile::tempdir()?;
/// let missing = Store::builder(directory.path().join("db")).mode(OpenMode::MustExist).open();
/// assert!(missing.is_err());
/// let store = Store::builder(directory.path().join("db")).durability(Durability::Buffered).memory_budget(256 << 20).open()?;
/// # drop(store);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a builder does nothing until `open` is called"]
pub struct Builder<S = NoMigration> {
    directory: PathBuf,
    options: StoreOptions,
    tiers: TierSet,
    memory: MemoryOptions,
    files: FileOptions,
    /// That was asked for.
    layout: Option<SharedLayout>,
    strategy: Arc<S>,
}

impl<S> Clone for Builder<S> {
    fn clone(&self) -> Self {
        let Self { directory, options, tiers, memory, files, layout, strategy } = self;
        Self {
            directory: directory.clone(),
            options: options.clone(),
            tiers: *tiers,
            memory: *memory,
            files: *files,
            layout: layout.clone(),
            strategy: Arc::clone(strategy),
        }
    }
}

impl<S> fmt::Debug for Builder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { directory, options, tiers, memory, files, layout, strategy: _ } = self;
        f.debug_struct("Builder")
            .field("directory", directory)
            .field("options", options)
            .field("tiers", tiers)
            .field("memory", memory)
            .field("files", files)
            .field("layout", layout)
            .finish_non_exhaustive()
    }
}

impl<S: Strategy> Builder<S> {
    /// Whether the store must or may exist; by default it is made if it is missing.
    pub fn mode(mut self, mode: OpenMode) -> Self {
        self.options.mode = mode;
        self
    }

    /// The durability of commits that do not name one; by default [`Durability::Sync`].
    pub fn durability(mut self, durability: Durability) -> Self {
        self.options.durability = durability;
        self
    }

    /// Which tiers the store stands on; by default hot over warm. A store whose data lies in files cannot be opened without the
    /// tier that they belong to; one that was hot alone can be opened with a tier below, and moves there.
    ///
    /// ```
    /// use thermocline::{ErrorKind, Store};
    ///
    /// let directory = tempfile::tempdir()?;
    /// let store = Store::builder(directory.path().join("db")).tiers(|t| t.hot()).open()?;
    /// assert!(store.files().is_empty());
    /// let refused = Store::builder(directory.path().join("other")).tiers(|t| t).open();
    /// assert!(matches!(refused.unwrap_err().kind(), ErrorKind::InvalidArgument { .. }), "no tier at all");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn tiers(mut self, choose: impl FnOnce(TierSet) -> TierSet) -> Self {
        self.tiers = choose(TierSet::default());
        self
    }

    /// The main memory that the tiers may use, in bytes.
    ///
    /// - Hot alone: a hard limit, by default none, but for the copy that is made while memory is given back. A commit that could
    ///   need more is refused with [`MemoryExhausted`](thermocline_tier::ErrorKind::MemoryExhausted), before it is logged; so is
    ///   opening a store that does not fit.
    /// - With a warm tier: by default 512 MiB. One eighth is for the table that takes the writes, one for the full one that is
    ///   being flushed, two, but not more than 64 MiB, are for flushing, compaction and what the allocator loses, and what is
    ///   left for blocks, indexes and filters of the files. When the tables are full, writers slow down and wait. A single group
    ///   of commits may take a table beyond its share.
    pub fn memory_budget(mut self, bytes: u64) -> Self {
        self.memory.budget_bytes = Some(bytes);
        self
    }

    /// With tables in memory above a warm tier: how much memory each of the two may use, in bytes, in place of an eighth of the memory
    /// budget. The rest is shared as before, two to one. Refused for a store that is hot or warm alone.
    pub fn hot_budget(mut self, bytes: u64) -> Self {
        self.memory.hot_bytes = Some(bytes);
        self
    }

    /// With a warm tier: how files are compressed as they are flushed, and as they come from compaction, which holds nearly all of the data;
    /// by default with LZ4, and with Zstandard at its level -1. Files that are there stay as they are until they are rewritten. Refused for
    /// a store that is hot alone.
    ///
    /// ```
    /// use thermocline::{Compression, Store};
    ///
    /// let directory = tempfile::tempdir()?;
    /// let store = Store::builder(directory.path().join("db")).compression(Compression::None, Compression::Zstd(3)).open()?;
    /// let refused = Store::builder(directory.path().join("other")).compression(Compression::Lz4, Compression::Zstd(99)).open();
    /// assert!(refused.unwrap_err().to_string().contains("99"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn compression(mut self, flushed: Compression, compacted: Compression) -> Self {
        self.files.compression = Some((flushed, compacted));
        self
    }

    /// With a warm tier: how large a block of a file becomes before compression, in bytes, from 256 to 16 KiB, the default; half of it where
    /// the data is one to eight times as large as the cache. A read of one key reads one block; small ones take more index and compress less. Refused for a
    /// store that is hot alone.
    pub fn block_size(mut self, bytes: u64) -> Self {
        self.files.block_size_bytes = Some(bytes);
        self
    }

    /// How much of the log stays for [`changes`](thermocline_store::Store::changes) once recovery needs it no more, in bytes; by
    /// default nothing. A store that is hot alone keeps all of it.
    pub fn log_keep(mut self, bytes: u64) -> Self {
        self.options.log_keep_bytes = bytes;
        self
    }

    /// Within what time what need not be kept any more is gone from memory, files and log, also when nothing is written; by default it
    /// goes when there is enough of it. See [`garbage_max_age`](StoreOptions::garbage_max_age).
    ///
    /// ```
    /// use std::time::Duration;
    /// use thermocline::Store;
    ///
    /// let directory = tempfile::tempdir()?;
    /// let store = Store::builder(directory.path().join("db")).garbage_max_age(Duration::from_secs(86_400)).open()?;
    /// assert_eq!(store.stats().garbage_since, None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn garbage_max_age(mut self, age: Duration) -> Self {
        self.options.garbage_max_age = Some(age);
        self
    }

    /// For how long a snapshot may live before a warning names it, once, with the place where it was made; by default an hour. See
    /// [`snapshot_warn_age`](StoreOptions::snapshot_warn_age).
    pub fn snapshot_warn_age(mut self, age: Option<Duration>) -> Self {
        self.options.snapshot_warn_age = age;
        self
    }

    /// Where keys split into prefix and suffix; by default the whole key is prefix.
    pub fn layout(mut self, layout: impl KeyLayout + 'static) -> Self {
        self.layout = Some(Arc::new(layout));
        self
    }

    /// With a warm tier: how the engine's rows are summed up and migrated on their way to files. The store then splits keys by the
    /// strategy's [layout](Strategy::layout); a [`layout`](Self::layout) that is asked for must be the same. The strategy may be another one each
    /// time; what older ones noted of files is made anew when it is needed. Refused for a store that is hot alone, whose rows come to no
    /// file. See docs/MIGRATION.md.
    ///
    /// ```
    /// use thermocline::{NoMigration, Store};
    ///
    /// let directory = tempfile::tempdir()?;
    /// let store = Store::builder(directory.path().join("db")).strategy(NoMigration).open()?;
    /// assert!(store.summaries()?.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn strategy<T: Strategy>(self, strategy: T) -> Builder<T> {
        let Self { directory, mut options, tiers, memory, files, layout, strategy: _ } = self;
        let strategy = Arc::new(strategy);
        options.migration = Some(erase(Arc::clone(&strategy)));
        Builder { directory, options, tiers, memory, files, layout, strategy }
    }

    /// Who does the background work; by default threads of the store's own.
    pub fn background(mut self, background: Background) -> Self {
        self.options.background = background;
        self
    }

    /// With a warm tier and [`Background::Thread`]: how many threads compact, at least 1, by default 1. Two share one rewrite, each with
    /// about half of its bytes; more find nothing to do. Another thread always flushes. Refused for a store that is hot alone.
    ///
    /// ```
    /// use thermocline::{ErrorKind, Store};
    ///
    /// let directory = tempfile::tempdir()?;
    /// let refused = Store::builder(directory.path().join("db")).tier_threads(0).open();
    /// assert!(matches!(refused.unwrap_err().kind(), ErrorKind::InvalidArgument { .. }));
    /// let _store = Store::builder(directory.path().join("db")).tier_threads(2).open()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn tier_threads(mut self, threads: usize) -> Self {
        self.files.threads = Some(threads);
        self
    }

    /// The commit log's own options.
    pub fn log(mut self, log: LogOptions) -> Self {
        self.options.log = log;
        self
    }

    /// Opens the store.
    ///
    /// # Errors
    /// [`NotFound`](thermocline_tier::ErrorKind::NotFound) if it must exist and does not,
    /// [`InvalidArgument`](thermocline_tier::ErrorKind::InvalidArgument) for options that make no sense, `Locked` while another
    /// handle has it open, `ForeignFile` for a directory of something else, `UnsupportedFormat` for one of a newer release,
    /// `Corruption` for damaged files, and `Io`.
    pub fn open(mut self) -> Result<Store<S>> {
        let of_strategy = || self.options.migration.as_ref().map(|migration| migration.layout());
        if let Some(layout) = self.layout.take().or_else(of_strategy) {
            self.options.layout = layout;
        }
        let may_create = matches!(self.options.mode, OpenMode::CreateIfMissing | OpenMode::CreateNew);
        let disk = RealDisk::open(&self.directory, may_create).map_err(|error| {
            let error = match error.kind() {
                DiskErrorKind::NotFound if !may_create => {
                    Error::with_source(ErrorKind::NotFound { what: "a store in this directory".into() }, error)
                }
                _ => thermocline_wal::disk_error(error),
            };
            error.context(format!("open {}", self.directory.display()))
        })?;
        let inner = open_on(Arc::new(disk), self.options, self.tiers, self.memory, self.files)?;
        Ok(Store { inner, strategy: self.strategy })
    }
}

fn open_on(
    disk: Arc<dyn Disk>,
    mut options: StoreOptions,
    set: TierSet,
    memory: MemoryOptions,
    files: FileOptions,
) -> Result<thermocline_store::Store> {
    let environment = Environment::real();
    let tiers = tiers::make(set, memory, files, &environment, &mut options)?;
    thermocline_store::Store::open(disk, tiers, &environment, options)
}

#[cfg(test)]
mod tests {
    use thermocline_tier::{EntryKind, KeyRange};

    use super::*;

    #[test]
    fn rows_in_memory_expire_by_themselves() {
        const SOON: Duration = Duration::from_secs(60);
        let store = Store::in_memory().unwrap();
        let ttl = thermocline_store::Ttl { after: Duration::from_millis(1), anchor: thermocline_store::Anchor::Updated };
        store.set_ttl(thermocline_store::PolicyScope::Table(EntryKind::Multi), Some(ttl)).unwrap();
        let mut changes = store.changes(store.last_version()).unwrap();
        let mut batch = thermocline_store::Batch::new();
        batch.put(EntryKind::Multi, b"k", b"v");
        store.commit(batch).unwrap();
        let mut next = || changes.wait(SOON).unwrap().unwrap().changes.remove(0).value;
        assert_eq!((next().as_deref(), next()), (Some(b"v".as_slice()), None));
    }

    /// What the files take of a thousand rows that compress well.
    fn file_bytes(choose: impl FnOnce(Builder) -> Builder) -> u64 {
        let directory = tempfile::tempdir().unwrap();
        let store = choose(Store::builder(directory.path().join("db")).background(Background::ByHand)).open().unwrap();
        let mut batch = thermocline_store::Batch::new();
        for key in 0..1000_u32 {
            batch.put(EntryKind::Multi, &key.to_le_bytes(), &[b'v'; 200]);
        }
        store.commit(batch).unwrap();
        store.compact(EntryKind::Multi, &KeyRange::all()).unwrap();
        let bytes = store.files().iter().map(|file| file.size_bytes).sum();
        assert_eq!(store.get(EntryKind::Multi, &7_u32.to_le_bytes()).unwrap().as_deref(), Some([b'v'; 200].as_slice()));
        store.close().unwrap();
        bytes
    }

    #[test]
    fn options_of_files_are_honoured_or_refused_by_name() {
        let plain = file_bytes(|builder| builder.compression(Compression::None, Compression::None));
        let packed = file_bytes(|builder| builder.compression(Compression::None, Compression::Zstd(3)));
        let small_blocks = file_bytes(|builder| builder.compression(Compression::None, Compression::None).block_size(512));
        assert!(packed * 5 < plain, "{packed} bytes, {plain} without compression");
        assert!(small_blocks > plain + 1000, "{small_blocks} bytes in small blocks, {plain} in large ones");
        let refused = |choose: fn(Builder) -> Builder| {
            let directory = tempfile::tempdir().unwrap();
            choose(Store::builder(directory.path().join("db"))).open().unwrap_err().to_string()
        };
        assert!(refused(|builder| builder.block_size(100)).contains("block_size_bytes is 100"));
        assert!(refused(|builder| builder.tiers(TierSet::hot).block_size(4096)).contains("without files"));
        assert!(
            refused(|builder| builder.tiers(TierSet::hot).compression(Compression::Lz4, Compression::Lz4))
                .contains("without files")
        );
        assert!(refused(|builder| builder.tiers(TierSet::hot).tier_threads(2)).contains("without files"));
        assert!(refused(|builder| builder.tiers(TierSet::hot).hot_budget(1 << 20)).contains("set the memory budget"));
        assert!(refused(|builder| builder.tiers(TierSet::warm).hot_budget(1 << 20)).contains("set the memory budget"));
    }

    #[test]
    fn store_on_each_set_of_tiers_keeps_what_it_was_given() {
        let sets: [fn(TierSet) -> TierSet; 3] = [TierSet::hot, TierSet::warm, |tiers| tiers.hot().warm()];
        for (set, has_files) in sets.into_iter().zip([false, true, true]) {
            let directory = tempfile::tempdir().unwrap();
            let open = |mode| {
                let builder = Store::builder(directory.path().join("db")).tiers(set).memory_budget(16 << 20);
                builder.background(Background::ByHand).mode(mode).open().unwrap()
            };
            let store = open(OpenMode::CreateNew);
            let put = |value: &[u8]| {
                let mut batch = thermocline_store::Batch::new();
                batch.put(EntryKind::Multi, b"k", value);
                store.commit(batch).unwrap()
            };
            let first = put(b"1");
            store.flush().unwrap();
            put(b"2");
            store.compact(EntryKind::Multi, &KeyRange::all()).unwrap();
            assert_eq!(!store.files().is_empty(), has_files);
            put(b"3");
            store.close().unwrap();
            for mode in [OpenMode::MustExist, OpenMode::ReadOnly] {
                let store = open(mode);
                let found =
                    [first, thermocline_tier::Version::MAX].map(|at| store.get_at(EntryKind::Multi, b"k", at).unwrap().unwrap());
                assert_eq!(found, ["1", "3"], "{mode:?}");
                assert!(store.verify().is_ok());
                store.close().unwrap();
            }
        }
    }
}
