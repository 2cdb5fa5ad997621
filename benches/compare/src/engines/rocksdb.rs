//! RocksDB with versions in the keys, through the `rocksdb` crate.
//!
//! Settings as in `rocksdb_options`; filters after the wiki's "Prefix Seek": they know the part of a key before its version, so that a
//! point read, which seeks, skips tables and memtables without the key. Walks ignore them (`total_order_seek`).

use std::cell::{OnceCell, RefCell};
use std::ffi::CStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rocksdb::compaction_filter::CompactionFilter;
use rocksdb::compaction_filter_factory::{CompactionFilterContext, CompactionFilterFactory};
use rocksdb::{
    CompactionDecision, DB, DBRawIterator, Options as DbOptions, ReadOptions, SliceTransform, SnapshotWithThreadMode, WriteBatch,
};
use self_cell::self_cell;
use thermocline_yardstick::engine::{Direction, Durability, Options, Settings};
use thermocline_yardstick::failure::{Failure, Outcome};
use thermocline_yardstick::versioned::{Cursor, Entry, Ordered, Snapshot, Superseded, VERSIONS_IN_KEYS, Versioned};

use super::rocksdb_options::{self, Tuned};

/// The engine, tuned for speed.
#[cfg(feature = "rocksdb")]
pub type RocksDb = Versioned<Store<false>>;
/// The same, tuned for space.
#[cfg(feature = "rocksdb-zstd")]
pub type RocksDbZstd = Versioned<Store<true>>;

const VERSION_SIZE_BYTES: usize = 8;
/// A key of no bytes: table, and the zero that ends a key without a common length.
const OWNER_SIZE_BYTES_MIN: usize = 2;

/// Iterators for point reads that nobody uses at the moment: to make one anew costs about as much as a seek.
struct Idle<'a>(Mutex<Vec<DBRawIterator<'a>>>);

self_cell! {
    struct Opened {
        owner: DB,

        #[not_covariant]
        dependent: Idle,
    }
}

/// An open database, tuned for space or not.
pub struct Store<const SMALL: bool> {
    opened: Opened,
    /// What no read at this version or above can see is left out of compactions; 0 for nothing.
    reclaimed: Arc<AtomicU64>,
}

/// Makes a filter for each compaction.
struct Filters(Arc<AtomicU64>);

/// `None` where nothing goes.
struct Filter(Option<Superseded>);

const FILTER_NAME: &CStr = c"thermocline.superseded";

impl CompactionFilterFactory for Filters {
    type Filter = Filter;

    fn create(&mut self, _context: CompactionFilterContext) -> Filter {
        let version = self.0.load(Ordering::Relaxed);
        Filter((version > 0).then(|| Superseded::new(version)))
    }

    fn name(&self) -> &CStr {
        FILTER_NAME
    }
}

impl CompactionFilter for Filter {
    fn filter(&mut self, _level: u32, key: &[u8], _value: &[u8]) -> CompactionDecision {
        let is_gone = self.0.as_mut().is_some_and(|superseded| superseded.is_gone(key));
        if is_gone { CompactionDecision::Remove } else { CompactionDecision::Keep }
    }

    fn name(&self) -> &CStr {
        FILTER_NAME
    }
}

/// Table and user key of a stored key.
fn owner(key: &[u8]) -> &[u8] {
    key.split_at_checked(key.len().saturating_sub(VERSION_SIZE_BYTES)).map_or(key, |(owner, _)| owner)
}

fn has_owner(key: &[u8]) -> bool {
    key.len() >= OWNER_SIZE_BYTES_MIN + VERSION_SIZE_BYTES
}

impl<const SMALL: bool> Store<SMALL> {
    const TUNED: Tuned = if SMALL { Tuned::ForSpace } else { Tuned::ForSpeed };

    fn database(&self) -> &DB {
        self.opened.borrow_owner()
    }

    /// Lets go of the iterators that nobody uses: they keep the files of the state that they stand on.
    fn forget_idle(&self) {
        self.opened.with_dependent(|_database, idle| idle.list().clear());
    }
}

fn point_options(snapshot: Option<&SnapshotWithThreadMode<'_, DB>>) -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_prefix_same_as_start(true);
    if let Some(snapshot) = snapshot {
        options.set_snapshot(snapshot);
    }
    options
}

/// The first entry at or above a key, if it begins with so many bytes of it.
fn first_of(
    iterator: &mut DBRawIterator<'_>,
    key: &[u8],
    prefix_len: usize,
    visit: &mut dyn FnMut(Option<Entry<'_>>),
) -> Outcome<()> {
    iterator.seek(key);
    match iterator.item() {
        Some(entry) => visit(key.get(..prefix_len).is_some_and(|prefix| entry.0.starts_with(prefix)).then_some(entry)),
        None => {
            iterator.status().map_err(Failure::engine)?;
            visit(None);
        }
    }
    Ok(())
}

impl<'a> Idle<'a> {
    fn list(&self) -> MutexGuard<'_, Vec<DBRawIterator<'a>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One that stands on the newest state.
    fn take(&self, database: &'a DB) -> Outcome<DBRawIterator<'a>> {
        let idle = self.list().pop();
        match idle {
            Some(mut iterator) => iterator.refresh().map_err(Failure::engine).map(|()| iterator),
            None => Ok(database.raw_iterator_opt(point_options(None))),
        }
    }
}

impl<const SMALL: bool> Ordered for Store<SMALL> {
    const NAME: &'static str = if SMALL { "rocksdb-zstd" } else { "rocksdb" };
    type Snapshot<'a> = View<'a>;

    fn settings(options: &Options) -> Settings {
        Settings {
            release: format!("rocksdb {}", rocksdb_options::RELEASE),
            versions: VERSIONS_IN_KEYS.to_owned(),
            durability: rocksdb_options::DURABILITY.to_owned(),
            memory: rocksdb_options::memory_setting(options),
            other: format!(
                "{}; filters over table and user key, not whole keys; superseded versions left out by a compaction filter; default column family",
                rocksdb_options::shared_setting(options, Self::TUNED)
            ),
        }
    }

    fn open(options: &Options) -> Outcome<Self> {
        let mut database = DbOptions::default();
        let mut tables = rocksdb_options::prepare(&mut database, options, Self::TUNED)?;
        database.set_prefix_extractor(match options.key_len {
            Some(key_len) => SliceTransform::create_fixed_prefix(1 + key_len),
            None => SliceTransform::create("thermocline.owner", owner, Some(has_owner)),
        });
        tables.set_whole_key_filtering(false);
        database.set_block_based_table_factory(&tables);
        let reclaimed = Arc::new(AtomicU64::new(0));
        database.set_compaction_filter_factory(Filters(Arc::clone(&reclaimed)));
        let database = DB::open(&database, &options.directory).map_err(Failure::engine)?;
        Ok(Self { opened: Opened::new(database, |_database| Idle(Mutex::default())), reclaimed })
    }

    fn write(&self, puts: &[(Vec<u8>, Vec<u8>)], deletes: &[Vec<u8>], durability: Durability) -> Outcome<()> {
        let mut batch = WriteBatch::default();
        for (key, value) in puts {
            batch.put(key, value);
        }
        for key in deletes {
            batch.delete(key);
        }
        self.database().write_opt(batch, &rocksdb_options::write_options(durability)).map_err(Failure::engine)
    }

    fn snapshot(&self) -> Outcome<View<'_>> {
        Ok(View { is_for_one: false, points: RefCell::new(None), pinned: OnceCell::new(), opened: &self.opened })
    }

    fn snapshot_for_one(&self) -> Outcome<View<'_>> {
        Ok(View { is_for_one: true, ..self.snapshot()? })
    }

    fn settle(&self) -> Outcome<()> {
        self.forget_idle();
        rocksdb_options::settle(self.database())
    }

    fn compact(&mut self) -> Outcome<()> {
        self.forget_idle();
        rocksdb_options::compact(self.database())
    }

    fn reclaim_while_compacting(&self, version: u64) -> bool {
        self.reclaimed.store(version, Ordering::Relaxed);
        true
    }

    fn close(self) -> Outcome<()> {
        self.database().flush_wal(true).map_err(Failure::engine)
    }
}

/// A state of the database. A view that only does point reads keeps to the state of its one iterator, which a view for one read takes from
/// those that are idle; an explicit snapshot, which takes the database's mutex, is made with the first cursor.
pub struct View<'a> {
    is_for_one: bool,
    /// The iterator that all point reads of this view share.
    points: RefCell<Option<DBRawIterator<'a>>>,
    pinned: OnceCell<SnapshotWithThreadMode<'a, DB>>,
    opened: &'a Opened,
}

impl Snapshot for View<'_> {
    type Cursor<'s>
        = Walk<'s>
    where
        Self: 's;

    fn first(&self, key: &[u8], prefix_len: usize, visit: &mut dyn FnMut(Option<Entry<'_>>)) -> Outcome<()> {
        if self.is_for_one {
            return self.opened.with_dependent(|database, idle| {
                let mut iterator = idle.take(database)?;
                let found = first_of(&mut iterator, key, prefix_len, visit);
                idle.list().push(iterator);
                found
            });
        }
        let mut points = self.points.borrow_mut();
        let options = || point_options(self.pinned.get());
        let iterator = points.get_or_insert_with(|| self.opened.borrow_owner().raw_iterator_opt(options()));
        first_of(iterator, key, prefix_len, visit)
    }

    fn cursor(&self, direction: Direction) -> Outcome<Walk<'_>> {
        let database = self.opened.borrow_owner();
        let snapshot = self.pinned.get_or_init(|| database.snapshot());
        let mut options = ReadOptions::default();
        options.set_snapshot(snapshot);
        options.set_total_order_seek(true);
        Ok(Walk { iterator: database.raw_iterator_opt(options), direction })
    }
}

/// A walk with a raw iterator.
pub struct Walk<'s> {
    iterator: DBRawIterator<'s>,
    direction: Direction,
}

impl Walk<'_> {
    fn check(&self) -> Outcome<()> {
        if self.iterator.valid() { Ok(()) } else { self.iterator.status().map_err(Failure::engine) }
    }
}

impl Cursor for Walk<'_> {
    fn seek(&mut self, key: &[u8]) -> Outcome<()> {
        match self.direction {
            Direction::Forward => self.iterator.seek(key),
            Direction::Reverse => {
                self.iterator.seek_for_prev(key);
                if self.iterator.key() == Some(key) {
                    self.iterator.prev();
                }
            }
        }
        self.check()
    }

    fn step(&mut self) -> Outcome<()> {
        match self.direction {
            _ if !self.iterator.valid() => {}
            Direction::Forward => self.iterator.next(),
            Direction::Reverse => self.iterator.prev(),
        }
        self.check()
    }

    fn entry(&self) -> Option<Entry<'_>> {
        self.iterator.item()
    }
}
