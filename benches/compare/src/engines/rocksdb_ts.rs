//! RocksDB with its own versions: user-defined timestamps, through the `rocksdb` crate.
//!
//! After the wiki's "User-defined Timestamp". The comparator is the library's own for timestamps of eight bytes, found by name in an
//! options string: one written in Rust would be called back for each comparison, and could not shorten the keys of indexes.

use std::sync::{Mutex, PoisonError};

use rocksdb::{ColumnFamily, DB, DBRawIterator, Options as DbOptions, ReadOptions, WriteBatch};
use thermocline_yardstick::engine::{
    At, Direction, Durability, Engine, Options, Scan, Settings, Skip, Table, VisitChange, Write,
};
use thermocline_yardstick::failure::{Failure, Outcome};

use super::rocksdb_options::{self, Tuned};

const COLUMN_FAMILY: &str = "default";
const COMPARATOR: &str = "comparator=leveldb.BytewiseComparator.u64ts";
const TIMESTAMP_SIZE_BYTES: usize = 8;
/// What follows the timestamp of an internal key: the kind of entry in the lowest byte, and the sequence number.
const TRAILER_SIZE_BYTES: usize = 8;
/// `kTypeValue` in RocksDB's `dbformat.h`.
const KIND_VALUE: u8 = 1;

/// An open database.
pub struct RocksDbTs {
    database: DB,
    /// The last version given out. Held while writing, since timestamps of a key must grow with its sequence numbers.
    last: Mutex<u64>,
}

/// As the comparator reads them.
fn timestamp(version: u64) -> [u8; TIMESTAMP_SIZE_BYTES] {
    version.to_le_bytes()
}

fn stored_key(table: Table, key: &[u8]) -> Vec<u8> {
    let mut stored = Vec::with_capacity(1 + key.len());
    stored.push(table);
    stored.extend_from_slice(key);
    stored
}

/// A key as an iterator hands it out if it was asked for all versions.
struct Internal<'a> {
    user_key: &'a [u8],
    is_value: bool,
}

impl<'a> Internal<'a> {
    fn of(key: &'a [u8]) -> Outcome<Self> {
        let too_short = || Failure::Wrong(format!("an internal key of {} bytes", key.len()));
        let (rest, trailer) = key.split_last_chunk::<TRAILER_SIZE_BYTES>().ok_or_else(too_short)?;
        let (stored, _) = rest.split_last_chunk::<TIMESTAMP_SIZE_BYTES>().ok_or_else(too_short)?;
        let (_, user_key) = stored.split_first().ok_or_else(too_short)?;
        Ok(Self { user_key, is_value: trailer.first() == Some(&KIND_VALUE) })
    }
}

impl RocksDbTs {
    fn family(&self) -> Outcome<&ColumnFamily> {
        self.database.cf_handle(COLUMN_FAMILY).ok_or_else(|| Failure::engine("the default column family is not open"))
    }

    fn read_options(at: u64) -> ReadOptions {
        let mut options = ReadOptions::default();
        options.set_timestamp(timestamp(at));
        options
    }

    /// Read options for a walk of one table.
    fn walk_options(table: Table, at: u64) -> ReadOptions {
        let mut options = Self::read_options(at);
        options.set_iterate_lower_bound([table]);
        options.set_iterate_upper_bound([table + 1]);
        options
    }
}

fn check(iterator: &DBRawIterator<'_>) -> Outcome<()> {
    iterator.status().map_err(Failure::engine)
}

impl Engine for RocksDbTs {
    const NAME: &'static str = "rocksdb-ts";

    fn settings(options: &Options) -> Settings {
        Settings {
            release: format!("rocksdb {}", rocksdb_options::RELEASE),
            versions: "user-defined timestamps of 64 bits, persisted; commits are put in order by a mutex of the adapter"
                .to_owned(),
            durability: rocksdb_options::DURABILITY.to_owned(),
            memory: rocksdb_options::memory_setting(options),
            other: format!(
                "{}; filters over whole keys without timestamps; default column family",
                rocksdb_options::shared_setting(options, Tuned::ForSpeed)
            ),
        }
    }

    fn open(options: &Options) -> Outcome<Self> {
        let mut with_comparator = DbOptions::default().get_options_from_string(COMPARATOR).map_err(Failure::engine)?;
        let tables = rocksdb_options::prepare(&mut with_comparator, options, Tuned::ForSpeed)?;
        with_comparator.set_memtable_whole_key_filtering(true);
        with_comparator.set_block_based_table_factory(&tables);
        let families = [(COLUMN_FAMILY, with_comparator.clone())];
        let database = DB::open_cf_with_opts(&with_comparator, &options.directory, families).map_err(Failure::engine)?;
        Ok(Self { database, last: Mutex::new(0) })
    }

    fn commit(&self, version: Option<u64>, writes: &[Write<'_>], durability: Durability) -> Outcome<()> {
        let family = self.family()?;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let version = version.unwrap_or(*last + 1);
        let timestamp = timestamp(version);
        let mut batch = WriteBatch::default();
        for write in writes {
            let key = stored_key(write.table, write.key);
            match write.value {
                Some(value) => batch.put_cf_with_ts(family, key, timestamp, value),
                None => batch.delete_cf_with_ts(family, key, timestamp),
            }
        }
        self.database.write_opt(batch, &rocksdb_options::write_options(durability)).map_err(Failure::engine)?;
        *last = version;
        Ok(())
    }

    fn get(&self, table: Table, key: &[u8], at: At, visit: &mut dyn FnMut(Option<&[u8]>)) -> Outcome<()> {
        let value =
            self.database.get_pinned_opt(stored_key(table, key), &Self::read_options(at.bound())).map_err(Failure::engine)?;
        visit(value.as_deref());
        Ok(())
    }

    fn get_many(&self, table: Table, keys: &[&[u8]], at: At, visit: &mut dyn FnMut(Option<&[u8]>)) -> Outcome<()> {
        let stored: Vec<_> = keys.iter().map(|key| stored_key(table, key)).collect();
        let is_sorted = stored.is_sorted();
        let values = self.database.batched_multi_get_cf_opt(self.family()?, &stored, is_sorted, &Self::read_options(at.bound()));
        for value in values {
            visit(value.map_err(Failure::engine)?.as_deref());
        }
        Ok(())
    }

    fn scan(&self, scan: &Scan<'_>, visit: &mut dyn FnMut(&[u8], &[u8])) -> Outcome<()> {
        let mut iterator = self.database.raw_iterator_opt(Self::walk_options(scan.table, scan.at.bound()));
        let from = scan.from.map(|from| stored_key(scan.table, from));
        match (scan.direction, from) {
            (Direction::Forward, Some(from)) => iterator.seek(from),
            (Direction::Forward, None) => iterator.seek_to_first(),
            (Direction::Reverse, Some(from)) => iterator.seek_for_prev(from),
            (Direction::Reverse, None) => iterator.seek_to_last(),
        }
        let mut rows = 0;
        while rows < scan.limit {
            let Some((key, value)) = iterator.item() else { return check(&iterator) };
            visit(key.get(1..).unwrap_or_default(), value);
            rows += 1;
            if rows < scan.limit {
                match scan.direction {
                    Direction::Forward => iterator.next(),
                    Direction::Reverse => iterator.prev(),
                }
            }
        }
        Ok(())
    }

    /// One walk over the versions between, and a point read for each key that has any.
    fn diff(&self, table: Table, from: u64, to: u64, _skip: Skip, visit: VisitChange<'_>) -> Outcome<()> {
        if from >= to {
            return Ok(());
        }
        let mut options = Self::walk_options(table, to);
        options.set_iter_start_ts(timestamp(from + 1));
        let mut iterator = self.database.raw_iterator_opt(options);
        iterator.seek_to_first();
        let before_options = Self::read_options(from);
        let mut last_key: Option<Vec<u8>> = None;
        while let Some((key, value)) = iterator.item() {
            let internal = Internal::of(key)?;
            // The newest version of a key comes first, and it is the one that counts.
            if last_key.as_deref() != Some(internal.user_key) {
                let before = self
                    .database
                    .get_pinned_opt(stored_key(table, internal.user_key), &before_options)
                    .map_err(Failure::engine)?;
                let after = internal.is_value.then_some(value);
                if before.as_deref() != after {
                    visit(internal.user_key, before.as_deref(), after);
                }
                last_key = Some(internal.user_key.to_vec());
            }
            iterator.next();
        }
        check(&iterator)
    }

    /// The next compaction leaves it out.
    fn reclaim(&self, version: u64) -> Outcome<()> {
        self.database.increase_full_history_ts_low(self.family()?, timestamp(version)).map_err(Failure::engine)
    }

    fn settle(&self) -> Outcome<()> {
        rocksdb_options::settle(&self.database)
    }

    fn compact(&mut self) -> Outcome<()> {
        rocksdb_options::compact(&self.database)
    }

    fn close(self) -> Outcome<()> {
        self.database.flush_wal(true).map_err(Failure::engine)
    }
}
