//! SurrealKV with its own versions.
//!
//! After its documentation of versioned queries: `set_at` writes a version, `get_at` reads as of one, `history` walks the versions of a
//! range. There is no walk as of a version, so one is made of `history`: it hands out the versions of each key up to the one asked for.

use std::sync::atomic::{AtomicU64, Ordering};

use surrealkv::{
    CompactRangeOptions, Error, HistoryOptions, LSMIterator, Mode, Options as TreeOptions, ReadOptions, Transaction, Tree,
    TreeBuilder, WriteOptions,
};
use thermocline_yardstick::engine::{
    At, Direction, Durability, Engine, Options, Scan, Settings, Skip, Table, VisitChange, Write, mebibytes,
};
use thermocline_yardstick::failure::{Failure, Outcome};
use tokio::runtime::{Builder, Runtime};

const RELEASE: &str = "surrealkv 1.2";
/// Zero keeps all versions.
const RETENTION_NS: u64 = 0;

/// An open tree, and the runtime that its tasks and commits run on.
pub struct SurrealKv {
    tree: Tree,
    runtime: Runtime,
    /// The last version given out.
    last: AtomicU64,
}

fn memtable_bytes(options: &Options) -> u64 {
    (options.cache_bytes / 8).clamp(8 << 20, 100 << 20)
}

fn cache_bytes(options: &Options) -> u64 {
    options.cache_bytes.saturating_sub(2 * memtable_bytes(options)).max(options.cache_bytes / 2)
}

fn stored_key(table: Table, key: &[u8]) -> Vec<u8> {
    let mut stored = Vec::with_capacity(2 + key.len());
    stored.push(table);
    stored.extend_from_slice(key);
    stored
}

/// The bounds of a scan: the first inclusive, the second exclusive.
fn bounds(scan: &Scan<'_>) -> (Vec<u8>, Vec<u8>) {
    let (mut low, mut high) = (vec![scan.table], vec![scan.table + 1]);
    if let Some(from) = scan.from {
        match scan.direction {
            Direction::Forward => low = stored_key(scan.table, from),
            Direction::Reverse => {
                high = stored_key(scan.table, from);
                high.push(0);
            }
        }
    }
    (low, high)
}

fn seek_end(iterator: &mut impl LSMIterator, direction: Direction) -> Outcome<()> {
    match direction {
        Direction::Forward => iterator.seek_first(),
        Direction::Reverse => iterator.seek_last(),
    }
    .map(|_is_valid| ())
    .map_err(Failure::engine)
}

fn step(iterator: &mut impl LSMIterator, direction: Direction) -> Outcome<()> {
    match direction {
        Direction::Forward => iterator.next(),
        Direction::Reverse => iterator.prev(),
    }
    .map(|_is_valid| ())
    .map_err(Failure::engine)
}

fn user_key(stored: &[u8]) -> &[u8] {
    stored.get(1..).unwrap_or_default()
}

impl SurrealKv {
    fn read(&self) -> Outcome<Transaction> {
        self.tree.begin_with_mode(Mode::ReadOnly).map_err(Failure::engine)
    }

    fn scan_latest(&self, scan: &Scan<'_>, visit: &mut dyn FnMut(&[u8], &[u8])) -> Outcome<()> {
        let transaction = self.read()?;
        let (low, high) = bounds(scan);
        let mut options = ReadOptions::new();
        options.set_iterate_lower_bound(Some(low));
        options.set_iterate_upper_bound(Some(high));
        let mut iterator = transaction.range_with_options(&options).map_err(Failure::engine)?;
        seek_end(&mut iterator, scan.direction)?;
        let mut rows = 0;
        while rows < scan.limit && iterator.valid() {
            visit(user_key(iterator.key().user_key()), &iterator.value_ref().map_err(Failure::engine)?);
            rows += 1;
            if rows < scan.limit {
                step(&mut iterator, scan.direction)?;
            }
        }
        Ok(())
    }

    fn scan_as_of(&self, scan: &Scan<'_>, visit: &mut dyn FnMut(&[u8], &[u8])) -> Outcome<()> {
        let transaction = self.read()?;
        let (low, high) = bounds(scan);
        let options = HistoryOptions::new().with_tombstones(true).with_ts_range(0, scan.at.bound());
        let mut iterator = transaction.history_with_options(&low, &high, &options).map_err(Failure::engine)?;
        seek_end(&mut iterator, scan.direction)?;
        let (mut rows, mut key, mut value, mut is_deleted) = (0, Vec::new(), Vec::new(), true);
        while rows < scan.limit {
            let is_next = !iterator.valid() || iterator.key().user_key() != key;
            if is_next {
                if !is_deleted {
                    visit(user_key(&key), &value);
                    rows += 1;
                }
                if !iterator.valid() {
                    break;
                }
                key.clear();
                key.extend_from_slice(iterator.key().user_key());
            }
            // Forward the newest version comes first, in reverse last.
            if is_next || scan.direction == Direction::Reverse {
                is_deleted = iterator.key().is_tombstone();
                if !is_deleted {
                    iterator.value_into(&mut value).map_err(Failure::engine)?;
                }
            }
            if rows < scan.limit {
                step(&mut iterator, scan.direction)?;
            }
        }
        Ok(())
    }
}

fn get(transaction: &Transaction, table: Table, key: &[u8], at: At) -> Outcome<Option<Vec<u8>>> {
    let key = stored_key(table, key);
    match at {
        At::Latest => transaction.get(key),
        At::Version(version) => transaction.get_at(key, version),
    }
    .map_err(Failure::engine)
}

impl Engine for SurrealKv {
    const NAME: &'static str = "surrealkv";

    fn settings(options: &Options) -> Settings {
        Settings {
            release: RELEASE.to_owned(),
            versions: "its own: versioning on, all versions kept; walks as of a version are made of `history`".to_owned(),
            durability: "Buffered: Durability::Eventual (log written to the operating system); Sync: Durability::Immediate, log preallocated"
                .to_owned(),
            memory: format!(
                "block cache of {}, memtables of {} (which do not count values)",
                mebibytes(cache_bytes(options)),
                mebibytes(memtable_bytes(options))
            ),
            other: "snappy but for level 0, bloom filters of 10 bits, 64 KiB blocks, no value log; tokio runtime with 2 threads".to_owned(),
        }
    }

    fn open(options: &Options) -> Outcome<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_time().build().map_err(Failure::engine)?;
        let tree_options = TreeOptions::new()
            .with_path(options.directory.clone())
            .with_versioning(true, RETENTION_NS)
            .with_block_cache_capacity(cache_bytes(options))
            .with_max_memtable_size(usize::try_from(memtable_bytes(options)).map_err(Failure::engine)?)
            .with_l0_no_compression()
            .with_wal_preallocation(true);
        let tree = {
            let _context = runtime.enter();
            TreeBuilder::with_options(tree_options).build().map_err(Failure::engine)?
        };
        Ok(Self { tree, runtime, last: AtomicU64::new(0) })
    }

    fn commit(&self, version: Option<u64>, writes: &[Write<'_>], durability: Durability) -> Outcome<()> {
        let durability = match durability {
            Durability::Sync => surrealkv::Durability::Immediate,
            Durability::Buffered => surrealkv::Durability::Eventual,
        };
        loop {
            let transaction = self.tree.begin_with_mode(Mode::WriteOnly).map_err(Failure::engine)?;
            let mut transaction = transaction.with_durability(durability);
            // Taken after the begin: of two commits to a key, one conflicts or begins after the other.
            let given = match version {
                Some(version) => {
                    self.last.store(version, Ordering::Relaxed);
                    version
                }
                None => self.last.fetch_add(1, Ordering::Relaxed) + 1,
            };
            for write in writes {
                let key = stored_key(write.table, write.key);
                match write.value {
                    Some(value) => transaction.set_at(key, value, given),
                    None => transaction.soft_delete_with_options(key, &WriteOptions::new().with_timestamp(Some(given))),
                }
                .map_err(Failure::engine)?;
            }
            match self.runtime.block_on(transaction.commit()) {
                Err(Error::TransactionWriteConflict | Error::TransactionRetry) => {}
                result => return result.map_err(Failure::engine),
            }
        }
    }

    fn get(&self, table: Table, key: &[u8], at: At, visit: &mut dyn FnMut(Option<&[u8]>)) -> Outcome<()> {
        visit(get(&self.read()?, table, key, at)?.as_deref());
        Ok(())
    }

    fn get_many(&self, table: Table, keys: &[&[u8]], at: At, visit: &mut dyn FnMut(Option<&[u8]>)) -> Outcome<()> {
        let transaction = self.read()?;
        for key in keys {
            visit(get(&transaction, table, key, at)?.as_deref());
        }
        Ok(())
    }

    fn scan(&self, scan: &Scan<'_>, visit: &mut dyn FnMut(&[u8], &[u8])) -> Outcome<()> {
        match scan.at {
            At::Latest => self.scan_latest(scan, visit),
            At::Version(_) => self.scan_as_of(scan, visit),
        }
    }

    /// The history between the versions, which skips tables without any of it, and a point read for each key in it.
    fn diff(&self, table: Table, from: u64, to: u64, _skip: Skip, visit: VisitChange<'_>) -> Outcome<()> {
        if from >= to {
            return Ok(());
        }
        let transaction = self.read()?;
        let options = HistoryOptions::new().with_tombstones(true).with_ts_range(from + 1, to);
        let (low, high) = (vec![table], vec![table + 1]);
        let mut iterator = transaction.history_with_options(&low, &high, &options).map_err(Failure::engine)?;
        iterator.seek_first().map_err(Failure::engine)?;
        let mut last_key = Vec::new();
        while iterator.valid() {
            let key = iterator.key();
            if key.user_key() != last_key {
                last_key.clear();
                last_key.extend_from_slice(key.user_key());
                let before = transaction.get_at(last_key.as_slice(), from).map_err(Failure::engine)?;
                let value = iterator.value_ref().map_err(Failure::engine)?;
                let after = (!key.is_tombstone()).then_some(&*value);
                if before.as_deref() != after {
                    visit(user_key(&last_key), before.as_deref(), after);
                }
            }
            iterator.next().map_err(Failure::engine)?;
        }
        Ok(())
    }

    fn reclaim(&self, _version: u64) -> Outcome<()> {
        Err(Failure::Unsupported("versions are kept for a time by the clock, not up to a version".to_owned()))
    }

    fn settle(&self) -> Outcome<()> {
        self.tree.flush_wal(true).map_err(Failure::engine)
    }

    fn compact(&mut self) -> Outcome<()> {
        let _context = self.runtime.enter();
        self.tree.compact_range(None, None, &CompactRangeOptions::default()).map_err(Failure::engine)
    }

    fn close(self) -> Outcome<()> {
        self.runtime.block_on(self.tree.close()).map_err(Failure::engine)
    }
}
