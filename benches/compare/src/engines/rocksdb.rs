//! RocksDB with versions in the keys, through the `rocksdb` crate.
//!
//! Settings as in `rocksdb_options`; filters after the wiki's "Prefix Seek": they know the part of a key before its version, so that a
//! point read, which seeks, skips tables and memtables without the key. Walks ignore them (`total_order_seek`).

use std::cell::{OnceCell, RefCell};
use std::ffi::CStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rocksdb::compaction_filter::CompactionFilter;
use rocksdb::compaction_filter_factory::{CompactionFilterContext, CompactionFilterFactory};
use rocksdb::{
    CompactOptions, CompactionDecision, DB, DBRawIterator, Options as DbOptions, ReadOptions, SliceTransform,
    SnapshotWithThreadMode, WriteBatch,
};
use thermocline_yardstick::engine::{Direction, Durability, Options, Settings};
use thermocline_yardstick::failure::{Failure, Outcome};
use thermocline_yardstick::versioned::{Cursor, Entry, Ordered, Snapshot, Superseded, Versioned};

use super::{VERSIONS_IN_KEYS, rocksdb_options};

/// The engine.
pub type RocksDb = Versioned<Store>;

const VERSION_SIZE_BYTES: usize = 8;
/// A key of no bytes: table, and the zero that ends a key without a common length.
const OWNER_SIZE_BYTES_MIN: usize = 2;

/// An open database.
pub struct Store {
    database: DB,
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

impl Ordered for Store {
    const NAME: &'static str = "rocksdb";
    type Snapshot<'a> = View<'a>;

    fn settings(options: &Options) -> Settings {
        Settings {
            release: format!("rocksdb {}", rocksdb_options::RELEASE),
            versions: VERSIONS_IN_KEYS.to_owned(),
            durability: rocksdb_options::DURABILITY.to_owned(),
            memory: rocksdb_options::memory_setting(options),
            other: format!(
                "{}; filters over table and user key, not whole keys; superseded versions left out by a compaction filter; default column family",
                rocksdb_options::shared_setting(options)
            ),
        }
    }

    fn open(options: &Options) -> Outcome<Self> {
        let mut database = DbOptions::default();
        let mut tables = rocksdb_options::prepare(&mut database, options)?;
        database.set_prefix_extractor(match options.key_len {
            Some(key_len) => SliceTransform::create_fixed_prefix(1 + key_len),
            None => SliceTransform::create("thermocline.owner", owner, Some(has_owner)),
        });
        tables.set_whole_key_filtering(false);
        database.set_block_based_table_factory(&tables);
        let reclaimed = Arc::new(AtomicU64::new(0));
        database.set_compaction_filter_factory(Filters(Arc::clone(&reclaimed)));
        Ok(Self { database: DB::open(&database, &options.directory).map_err(Failure::engine)?, reclaimed })
    }

    fn write(&self, puts: &[(Vec<u8>, Vec<u8>)], deletes: &[Vec<u8>], durability: Durability) -> Outcome<()> {
        let mut batch = WriteBatch::default();
        for (key, value) in puts {
            batch.put(key, value);
        }
        for key in deletes {
            batch.delete(key);
        }
        self.database.write_opt(batch, &rocksdb_options::write_options(durability)).map_err(Failure::engine)
    }

    fn snapshot(&self) -> Outcome<View<'_>> {
        Ok(View { points: RefCell::new(None), pinned: OnceCell::new(), database: &self.database })
    }

    fn settle(&self) -> Outcome<()> {
        rocksdb_options::settle(&self.database)
    }

    fn compact(&self) -> Outcome<()> {
        rocksdb_options::compact(&self.database, &mut CompactOptions::default())
    }

    fn reclaim_while_compacting(&self, version: u64) -> bool {
        self.reclaimed.store(version, Ordering::Relaxed);
        true
    }

    fn close(self) -> Outcome<()> {
        self.database.flush_wal(true).map_err(Failure::engine)
    }
}

/// A state of the database. A view that only does point reads keeps to the state of its one iterator; an explicit snapshot, which takes
/// the database's mutex, is made with the first cursor.
pub struct View<'a> {
    /// The iterator that all point reads of this view share: making one costs about as much as a seek.
    points: RefCell<Option<DBRawIterator<'a>>>,
    pinned: OnceCell<SnapshotWithThreadMode<'a, DB>>,
    database: &'a DB,
}

impl View<'_> {
    fn read_options(&self) -> ReadOptions {
        let mut options = ReadOptions::default();
        if let Some(snapshot) = self.pinned.get() {
            options.set_snapshot(snapshot);
        }
        options
    }
}

impl<'a> Snapshot for View<'a> {
    type Cursor<'s>
        = Walk<'s>
    where
        Self: 's;

    fn first(&self, key: &[u8], prefix_len: usize, visit: &mut dyn FnMut(Option<Entry<'_>>)) -> Outcome<()> {
        let mut points = self.points.borrow_mut();
        let iterator = points.get_or_insert_with(|| {
            let mut options = self.read_options();
            options.set_prefix_same_as_start(true);
            self.database.raw_iterator_opt(options)
        });
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

    fn cursor(&self, direction: Direction) -> Outcome<Walk<'_>> {
        self.pinned.get_or_init(|| self.database.snapshot());
        let mut options = self.read_options();
        options.set_total_order_seek(true);
        Ok(Walk { iterator: self.database.raw_iterator_opt(options), direction })
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
