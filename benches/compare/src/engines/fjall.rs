//! fjall with versions in the keys.
//!
//! Settings after fjall's documentation of `DatabaseBuilder`, `KeyspaceCreateOptions` and `PersistMode`; what it recommends as its default
//! stays as it is.

use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::Duration;

use fjall::compaction::filter::{CompactionFilter, CompactionFilterResult, Context, Factory, ItemAccessor, Verdict};
use fjall::{Database, Iter, Keyspace, KeyspaceCreateOptions, KvPair, PersistMode, Readable};
use thermocline_yardstick::engine::{Direction, Durability, Options, Settings, mebibytes};
use thermocline_yardstick::failure::{Failure, Outcome};
use thermocline_yardstick::versioned::{Cursor, Entry, Ordered, Snapshot, Superseded, VERSIONS_IN_KEYS, Versioned};

/// The engine.
pub type Fjall = Versioned<Store>;

const RELEASE: &str = "fjall 3.1";
const KEYSPACE: &str = "entries";
/// What a key goes on with behind table and user key, at most.
const LAST_VERSION: [u8; 8] = [u8::MAX; 8];
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// An open database with its one keyspace.
pub struct Store {
    database: Database,
    keyspace: Keyspace,
    /// What no read at this version or above can see is left out of compactions; 0 for nothing.
    reclaimed: Arc<AtomicU64>,
}

/// Makes a filter for each compaction.
struct Filters(Arc<AtomicU64>);

/// `None` where nothing goes.
struct Filter(Option<Superseded>);

const FILTER_NAME: &str = "thermocline.superseded";

impl Factory for Filters {
    fn name(&self) -> &str {
        FILTER_NAME
    }

    fn make_filter(&self, _context: &Context) -> Box<dyn CompactionFilter> {
        let version = self.0.load(Ordering::Relaxed);
        Box::new(Filter((version > 0).then(|| Superseded::new(version))))
    }
}

impl CompactionFilter for Filter {
    /// No key is ever written twice, since its version is a part of it, so that nothing older can come back.
    fn filter_item(&mut self, item: ItemAccessor<'_>, _context: &Context) -> CompactionFilterResult {
        let is_gone = self.0.as_mut().is_some_and(|superseded| superseded.is_gone(item.key()));
        Ok(if is_gone { Verdict::Destroy } else { Verdict::Keep })
    }
}

/// A quarter of the memory for the memtable that is written and one that is flushed, in the bounds that fjall recommends for each.
fn memtable_bytes(options: &Options) -> u64 {
    (options.cache_bytes / 8).clamp(8 << 20, 64 << 20)
}

fn cache_bytes(options: &Options) -> u64 {
    options.cache_bytes.saturating_sub(2 * memtable_bytes(options)).max(options.cache_bytes / 2)
}

impl Ordered for Store {
    const NAME: &'static str = "fjall";
    type Snapshot<'a> = View<'a>;

    fn settings(options: &Options) -> Settings {
        Settings {
            release: RELEASE.to_owned(),
            versions: VERSIONS_IN_KEYS.to_owned(),
            durability: "Buffered: batch with PersistMode::Buffer (log written to the operating system); Sync: PersistMode::SyncData (fdatasync)"
                .to_owned(),
            memory: format!(
                "block cache of {}, memtables of {}",
                mebibytes(cache_bytes(options)),
                mebibytes(memtable_bytes(options))
            ),
            other: "fjall's defaults: lz4 from level 2 down, bloom filters (not used by ranges, which point reads are), 4 KiB blocks, \
                    leveled compaction; superseded versions left out by a compaction filter; at rest compacted as a whole"
                .to_owned(),
        }
    }

    fn open(options: &Options) -> Outcome<Self> {
        let reclaimed = Arc::new(AtomicU64::new(0));
        let filters: Arc<dyn Factory> = Arc::new(Filters(Arc::clone(&reclaimed)));
        let database = Database::builder(&options.directory)
            .cache_size(cache_bytes(options))
            .with_compaction_filter_factories(Arc::new(move |_keyspace| Some(Arc::clone(&filters))))
            .open()
            .map_err(Failure::engine)?;
        let keyspace = database
            .keyspace(KEYSPACE, || KeyspaceCreateOptions::default().max_memtable_size(memtable_bytes(options)))
            .map_err(Failure::engine)?;
        Ok(Self { database, keyspace, reclaimed })
    }

    fn write(&self, puts: &[(Vec<u8>, Vec<u8>)], deletes: &[Vec<u8>], durability: Durability) -> Outcome<()> {
        let mode = match durability {
            Durability::Sync => PersistMode::SyncData,
            Durability::Buffered => PersistMode::Buffer,
        };
        let mut batch = self.database.batch().durability(Some(mode));
        for (key, value) in puts {
            batch.insert(&self.keyspace, key.as_slice(), value.as_slice());
        }
        for key in deletes {
            batch.remove(&self.keyspace, key.as_slice());
        }
        batch.commit().map_err(Failure::engine)
    }

    fn snapshot(&self) -> Outcome<View<'_>> {
        Ok(View { snapshot: self.database.snapshot(), keyspace: &self.keyspace })
    }

    fn settle(&self) -> Outcome<()> {
        self.keyspace.rotate_memtable_and_wait().map_err(Failure::engine)?;
        while self.database.outstanding_flushes() > 0 || self.database.active_compactions() > 0 {
            sleep(POLL_INTERVAL);
        }
        self.database.persist(PersistMode::SyncAll).map_err(Failure::engine)
    }

    fn compact(&mut self) -> Outcome<()> {
        self.keyspace.major_compact().map_err(Failure::engine)
    }

    fn reclaim_while_compacting(&self, version: u64) -> bool {
        self.reclaimed.store(version, Ordering::Relaxed);
        true
    }

    fn close(self) -> Outcome<()> {
        self.database.persist(PersistMode::SyncAll).map_err(Failure::engine)
    }
}

/// A snapshot of the database.
pub struct View<'a> {
    snapshot: fjall::Snapshot,
    keyspace: &'a Keyspace,
}

impl Snapshot for View<'_> {
    type Cursor<'s>
        = Walk<'s>
    where
        Self: 's;

    /// With an upper bound, so that only tables that may have the key are opened.
    fn first(&self, key: &[u8], prefix_len: usize, visit: &mut dyn FnMut(Option<Entry<'_>>)) -> Outcome<()> {
        let mut last = key.get(..prefix_len).unwrap_or(key).to_vec();
        last.extend_from_slice(&LAST_VERSION);
        let bounds = (Bound::Included(key), Bound::Included(last.as_slice()));
        match self.snapshot.range::<&[u8], _>(self.keyspace, bounds).next() {
            Some(guard) => {
                let (key, value) = guard.into_inner().map_err(Failure::engine)?;
                visit(Some((&key, &value)));
            }
            None => visit(None),
        }
        Ok(())
    }

    fn cursor(&self, direction: Direction) -> Outcome<Walk<'_>> {
        Ok(Walk { snapshot: &self.snapshot, keyspace: self.keyspace, direction, range: None, entry: None })
    }
}

/// A walk; each seek makes another range.
pub struct Walk<'s> {
    snapshot: &'s fjall::Snapshot,
    keyspace: &'s Keyspace,
    direction: Direction,
    range: Option<Iter>,
    entry: Option<KvPair>,
}

impl Cursor for Walk<'_> {
    fn seek(&mut self, key: &[u8]) -> Outcome<()> {
        let bounds = match self.direction {
            Direction::Forward => (Bound::Included(key), Bound::Unbounded),
            Direction::Reverse => (Bound::Unbounded, Bound::Excluded(key)),
        };
        self.range = Some(self.snapshot.range::<&[u8], _>(self.keyspace, bounds));
        self.step()
    }

    fn step(&mut self) -> Outcome<()> {
        let next = match (&mut self.range, self.direction) {
            (Some(range), Direction::Forward) => range.next(),
            (Some(range), Direction::Reverse) => range.next_back(),
            (None, _) => None,
        };
        self.entry = next.map(fjall::Guard::into_inner).transpose().map_err(Failure::engine)?;
        Ok(())
    }

    fn entry(&self) -> Option<Entry<'_>> {
        self.entry.as_ref().map(|(key, value)| (&**key, &**value))
    }
}
