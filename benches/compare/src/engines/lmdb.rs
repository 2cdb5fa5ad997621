//! LMDB with versions in the keys, through the `heed` crate.
//!
//! Settings after `lmdb.h` (flags of `mdb_env_open`, caveats) and heed's documentation. Flags belong to the environment and not to a
//! commit, but `MDB_NOSYNC` may be changed while it is open: it is on for commits that need not survive the loss of power, and off for
//! those that do, which then sync data and meta page as LMDB does by default.

use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions, FlagSetMode, RoRange, RoRevRange, RoTxn, WithoutTls};
use thermocline_yardstick::engine::{Direction, Durability, Options, Settings};
use thermocline_yardstick::failure::{Failure, Outcome};
use thermocline_yardstick::versioned::{Cursor, Entry, Ordered, Snapshot, Versioned};

use super::{VERSIONS_IN_KEYS, mebibytes};

/// The engine.
pub type Lmdb = Versioned<Store>;

const RELEASE: &str = "heed 0.23 (LMDB 0.9.70)";
const READERS_MAX: u32 = 512;
/// On top of what the data takes.
const MAP_SIZE_BYTES_MIN: u64 = 1 << 30;
/// Room for versions, for half-full pages and for pages that readers keep from being used again.
const MAP_SIZE_FACTOR: u64 = 6;

type Table = Database<'static, Bytes, Bytes>;

/// An open environment.
pub struct Store {
    environment: Env<WithoutTls>,
    table: Table,
    /// What the flags are set for. Held by the one writer, since flags may only be changed by one thread at a time.
    durability: Mutex<Durability>,
}

fn map_size_bytes(options: &Options) -> u64 {
    // A whole number of pages, whatever their size.
    (options.data_bytes.saturating_mul(MAP_SIZE_FACTOR).saturating_add(MAP_SIZE_BYTES_MIN) >> 20) << 20
}

impl Store {
    /// Takes the place of the one writer, with the flags as they are needed.
    fn lock_for(&self, wanted: Durability) -> Outcome<MutexGuard<'_, Durability>> {
        let mut durability = self.durability.lock().unwrap_or_else(PoisonError::into_inner);
        if *durability != wanted {
            let mode = match wanted {
                Durability::Sync => FlagSetMode::Disable,
                Durability::Buffered => FlagSetMode::Enable,
            };
            // SAFETY: only the holder of the lock calls this; what NO_SYNC risks is stated in the settings.
            unsafe { self.environment.set_flags(EnvFlags::NO_SYNC, mode) }.map_err(Failure::engine)?;
            *durability = wanted;
        }
        Ok(durability)
    }
}

impl Ordered for Store {
    const NAME: &'static str = "lmdb";
    type Snapshot<'a> = View<'a>;

    fn settings(options: &Options) -> Settings {
        Settings {
            release: RELEASE.to_owned(),
            versions: VERSIONS_IN_KEYS.to_owned(),
            durability:
                "Buffered: MDB_NOSYNC, pages are in the operating system's cache, a loss of power may cost the whole store; \
                         Sync: LMDB's default, data and meta page synced; the flag is switched between commits"
                    .to_owned(),
            memory: format!(
                "map of {}; no cache of its own, the operating system's is bounded by nothing but the machine",
                mebibytes(map_size_bytes(options))
            ),
            other: "MDB_WRITEMAP, MDB_NORDAHEAD, MDB_NOTLS; one unnamed database; no compression".to_owned(),
        }
    }

    fn open(options: &Options) -> Outcome<Self> {
        let mut open_options = EnvOpenOptions::new().read_txn_without_tls();
        open_options.map_size(usize::try_from(map_size_bytes(options)).map_err(Failure::engine)?).max_readers(READERS_MAX);
        // SAFETY: no process but this one has the files, nothing else writes to the map, and what NO_SYNC risks is stated in the settings.
        unsafe { open_options.flags(EnvFlags::NO_SYNC | EnvFlags::WRITE_MAP | EnvFlags::NO_READ_AHEAD) };
        // SAFETY: the directory is the harness's own, on a local disk, and the environment is opened once at a time.
        let environment = unsafe { open_options.open(&options.directory) }.map_err(Failure::engine)?;
        let transaction = environment.write_txn().map_err(Failure::engine)?;
        let table = environment
            .create_databases_and_commit(transaction, |opener, transaction| {
                opener.create_database(transaction, None).map(CommitOrAbort::<_, ()>::Commit)
            })
            .map_err(|error: heed::Error| Failure::engine(error))?
            .commit()
            .ok_or_else(|| Failure::engine("the database was not made"))?;
        Ok(Self { environment, table, durability: Mutex::new(Durability::Buffered) })
    }

    fn write(&self, puts: &[(Vec<u8>, Vec<u8>)], deletes: &[Vec<u8>], durability: Durability) -> Outcome<()> {
        let writer = self.lock_for(durability)?;
        let mut transaction = self.environment.write_txn().map_err(Failure::engine)?;
        for (key, value) in puts {
            self.table.put(&mut transaction, key, value).map_err(Failure::engine)?;
        }
        for key in deletes {
            self.table.delete(&mut transaction, key).map_err(Failure::engine)?;
        }
        transaction.commit().map_err(Failure::engine)?;
        drop(writer);
        Ok(())
    }

    fn snapshot(&self) -> Outcome<View<'_>> {
        Ok(View { transaction: self.environment.read_txn().map_err(Failure::engine)?, table: self.table })
    }

    fn settle(&self) -> Outcome<()> {
        self.environment.force_sync().map_err(Failure::engine)
    }

    fn close(self) -> Outcome<()> {
        self.environment.force_sync().map_err(Failure::engine)?;
        self.environment.prepare_for_closing().wait();
        Ok(())
    }
}

/// A read transaction.
pub struct View<'a> {
    transaction: RoTxn<'a, WithoutTls>,
    table: Table,
}

impl Snapshot for View<'_> {
    type Cursor<'s>
        = Walk<'s>
    where
        Self: 's;

    fn first(&self, key: &[u8], prefix_len: usize, visit: &mut dyn FnMut(Option<Entry<'_>>)) -> Outcome<()> {
        let found = self.table.get_greater_than_or_equal_to(&self.transaction, key).map_err(Failure::engine)?;
        visit(found.filter(|(found, _)| key.get(..prefix_len).is_some_and(|prefix| found.starts_with(prefix))));
        Ok(())
    }

    fn cursor(&self, direction: Direction) -> Outcome<Walk<'_>> {
        Ok(Walk { transaction: &self.transaction, table: self.table, direction, range: None, entry: None })
    }
}

/// A range in one direction; each seek makes another, which is an LMDB cursor.
enum Range<'s> {
    Forward(RoRange<'s, Bytes, Bytes>),
    Reverse(RoRevRange<'s, Bytes, Bytes>),
}

/// A walk with LMDB cursors.
pub struct Walk<'s> {
    transaction: &'s RoTxn<'s, WithoutTls>,
    table: Table,
    direction: Direction,
    range: Option<Range<'s>>,
    entry: Option<Entry<'s>>,
}

impl Cursor for Walk<'_> {
    fn seek(&mut self, key: &[u8]) -> Outcome<()> {
        self.range = Some(match self.direction {
            Direction::Forward => {
                let bounds = (Bound::Included(key), Bound::Unbounded);
                Range::Forward(self.table.range(self.transaction, &bounds).map_err(Failure::engine)?)
            }
            Direction::Reverse => {
                let bounds = (Bound::Unbounded, Bound::Excluded(key));
                Range::Reverse(self.table.rev_range(self.transaction, &bounds).map_err(Failure::engine)?)
            }
        });
        self.step()
    }

    fn step(&mut self) -> Outcome<()> {
        let next = match &mut self.range {
            Some(Range::Forward(range)) => range.next(),
            Some(Range::Reverse(range)) => range.next(),
            None => None,
        };
        self.entry = next.transpose().map_err(Failure::engine)?;
        Ok(())
    }

    fn entry(&self) -> Option<Entry<'_>> {
        self.entry
    }
}
