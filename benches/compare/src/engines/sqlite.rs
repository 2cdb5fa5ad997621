//! SQLite with versions in the keys, through the `rusqlite` crate with the library it bundles.
//!
//! Settings after sqlite.org: "Write-Ahead Logging", "Clustered Indexes and the WITHOUT ROWID Optimization", "Memory-Mapped I/O" and the
//! list of pragmas. One connection writes; readers take theirs from a pool.

use std::sync::{Mutex, PoisonError};

use rusqlite::fallible_streaming_iterator::FallibleStreamingIterator;
use rusqlite::{CachedStatement, Connection, Row, Rows};
use self_cell::{MutBorrow, self_cell};
use thermocline_yardstick::engine::{Direction, Durability, Options, Settings, mebibytes};
use thermocline_yardstick::failure::{Failure, Outcome};
use thermocline_yardstick::versioned::{Cursor, Entry, Ordered, Snapshot, VERSIONS_IN_KEYS, Versioned};

/// The engine.
pub type Sqlite = Versioned<Store>;

const FILE_NAME: &str = "store.sqlite";
/// `SQLITE_MAX_MMAP_SIZE` as the library is built.
const MAP_SIZE_BYTES_MAX: u64 = 0x7fff_0000;
const CHECKPOINT_PAGES: u32 = 16_384;

const MAKE_TABLE: &str =
    "CREATE TABLE IF NOT EXISTS entries (key BLOB NOT NULL PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID, STRICT";
const PUT: &str = "INSERT INTO entries (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
const DELETE: &str = "DELETE FROM entries WHERE key = ?1";
const FIRST: &str = "SELECT key, value FROM entries WHERE key >= ?1 ORDER BY key LIMIT 1";
const FORWARD: &str = "SELECT key, value FROM entries WHERE key >= ?1 ORDER BY key";
const REVERSE: &str = "SELECT key, value FROM entries WHERE key < ?1 ORDER BY key DESC";
const BEGIN: &str = "BEGIN";
const COMMIT: &str = "COMMIT";
const ROLLBACK: &str = "ROLLBACK";
const VACUUM: &str = "VACUUM";

/// An open database.
pub struct Store {
    writer: Mutex<Writer>,
    /// Connections that no reader uses at the moment.
    readers: Mutex<Vec<Connection>>,
    options: Options,
}

struct Writer {
    connection: Connection,
    durability: Durability,
}

/// Of one connection; there is one for the writer, and one for each thread that reads.
fn cache_bytes(options: &Options) -> u64 {
    options.cache_bytes / 4
}

fn map_bytes(options: &Options) -> u64 {
    options.data_bytes.saturating_mul(4).clamp(1 << 20, MAP_SIZE_BYTES_MAX)
}

/// Rows of a table without ROWID are best below a twentieth of a page, says "Clustered Indexes": larger ones spill to further pages.
fn page_bytes(options: &Options) -> usize {
    let row = options.key_len.unwrap_or_default() + options.value_len.unwrap_or_default();
    (20 * row).next_power_of_two().clamp(4 << 10, 32 << 10)
}

fn connect(options: &Options) -> Outcome<Connection> {
    let connection = Connection::open(options.directory.join(FILE_NAME)).map_err(Failure::engine)?;
    let cache_kibibytes = i64::try_from(cache_bytes(options) >> 10).map_err(Failure::engine)?;
    let map_bytes = i64::try_from(map_bytes(options)).map_err(Failure::engine)?;
    let set = |name: &str, value: &dyn rusqlite::ToSql| connection.pragma_update(None, name, value).map_err(Failure::engine);
    // Before anything is written.
    set("page_size", &i64::try_from(page_bytes(options)).map_err(Failure::engine)?)?;
    set("journal_mode", &"WAL")?;
    set("synchronous", &"NORMAL")?;
    set("cache_size", &-cache_kibibytes)?;
    set("mmap_size", &map_bytes)?;
    set("temp_store", &"MEMORY")?;
    set("wal_autocheckpoint", &CHECKPOINT_PAGES)?;
    Ok(connection)
}

/// Runs a statement without rows that the connection has prepared before.
fn run(connection: &Connection, statement: &str) -> Outcome<()> {
    connection.prepare_cached(statement).and_then(|mut statement| statement.execute([])).map(|_rows| ()).map_err(Failure::engine)
}

fn blob<'a>(row: &'a Row<'_>, column: usize) -> Outcome<&'a [u8]> {
    row.get_ref(column).map_err(Failure::engine)?.as_blob().map_err(Failure::engine)
}

impl Writer {
    fn prepare_for(&mut self, wanted: Durability) -> Outcome<()> {
        if self.durability != wanted {
            let synchronous = match wanted {
                Durability::Sync => "FULL",
                Durability::Buffered => "NORMAL",
            };
            self.connection.pragma_update(None, "synchronous", synchronous).map_err(Failure::engine)?;
            self.durability = wanted;
        }
        Ok(())
    }

    fn write(&self, puts: &[(Vec<u8>, Vec<u8>)], deletes: &[Vec<u8>]) -> Outcome<()> {
        let mut put = self.connection.prepare_cached(PUT).map_err(Failure::engine)?;
        for (key, value) in puts {
            put.execute((key, value)).map_err(Failure::engine)?;
        }
        let mut delete = self.connection.prepare_cached(DELETE).map_err(Failure::engine)?;
        for key in deletes {
            delete.execute([key]).map_err(Failure::engine)?;
        }
        Ok(())
    }
}

impl Ordered for Store {
    const NAME: &'static str = "sqlite";
    type Snapshot<'a> = View<'a>;

    fn settings(options: &Options) -> Settings {
        Settings {
            release: format!("rusqlite 0.41 (SQLite {})", rusqlite::version()),
            versions: VERSIONS_IN_KEYS.to_owned(),
            durability: "WAL; Buffered: synchronous = NORMAL (log written to the operating system, synced at checkpoints); \
                         Sync: synchronous = FULL (log synced by each commit)"
                .to_owned(),
            memory: format!(
                "page cache of {} for each connection, one for writes and one for each thread that reads; map of {}",
                mebibytes(cache_bytes(options)),
                mebibytes(map_bytes(options))
            ),
            other: format!(
                "one table WITHOUT ROWID, key and value blobs; pages of {} KiB; checkpoint after {CHECKPOINT_PAGES} pages; \
                 prepared statements; point reads are statements of their own, other reads in BEGIN and COMMIT; no compression; at rest it is vacuumed",
                page_bytes(options) >> 10
            ),
        }
    }

    fn open(options: &Options) -> Outcome<Self> {
        let connection = connect(options)?;
        connection.execute(MAKE_TABLE, []).map_err(Failure::engine)?;
        let writer = Mutex::new(Writer { connection, durability: Durability::Buffered });
        Ok(Self { writer, readers: Mutex::new(Vec::new()), options: options.clone() })
    }

    fn write(&self, puts: &[(Vec<u8>, Vec<u8>)], deletes: &[Vec<u8>], durability: Durability) -> Outcome<()> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        writer.prepare_for(durability)?;
        run(&writer.connection, BEGIN)?;
        let written = writer.write(puts, deletes);
        run(&writer.connection, if written.is_ok() { COMMIT } else { ROLLBACK })?;
        written
    }

    fn snapshot(&self) -> Outcome<View<'_>> {
        let mut view = self.snapshot_for_one()?;
        run(view.connection()?, BEGIN)?;
        view.is_begun = true;
        Ok(view)
    }

    /// A statement alone sees one state.
    fn snapshot_for_one(&self) -> Outcome<View<'_>> {
        let pooled = self.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = pooled.map_or_else(|| connect(&self.options), Ok)?;
        Ok(View { connection: Some(connection), is_begun: false, store: self })
    }

    fn settle(&self) -> Outcome<()> {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let was_busy: bool =
            writer.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)).map_err(Failure::engine)?;
        if was_busy { Err(Failure::engine("a reader kept the checkpoint from finishing")) } else { Ok(()) }
    }

    fn compact(&mut self) -> Outcome<()> {
        run(&self.writer.get_mut().unwrap_or_else(PoisonError::into_inner).connection, VACUUM)?;
        self.settle()
    }

    fn close(self) -> Outcome<()> {
        self.settle()?;
        for reader in self.readers.into_inner().unwrap_or_else(PoisonError::into_inner) {
            reader.close().map_err(|(_, error)| Failure::engine(error))?;
        }
        let writer = self.writer.into_inner().unwrap_or_else(PoisonError::into_inner);
        writer.connection.close().map_err(|(_, error)| Failure::engine(error))
    }
}

/// A read transaction on a connection of its own.
pub struct View<'a> {
    /// Gone only while it is dropped.
    connection: Option<Connection>,
    /// It has a transaction.
    is_begun: bool,
    store: &'a Store,
}

impl View<'_> {
    fn connection(&self) -> Outcome<&Connection> {
        self.connection.as_ref().ok_or_else(|| Failure::engine("the connection is gone"))
    }
}

impl Drop for View<'_> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take()
            && (!self.is_begun || run(&connection, COMMIT).is_ok())
        {
            self.store.readers.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        }
    }
}

impl Snapshot for View<'_> {
    type Cursor<'s>
        = Walk<'s>
    where
        Self: 's;

    fn first(&self, key: &[u8], prefix_len: usize, visit: &mut dyn FnMut(Option<Entry<'_>>)) -> Outcome<()> {
        let mut statement = self.connection()?.prepare_cached(FIRST).map_err(Failure::engine)?;
        let mut rows = statement.query([key]).map_err(Failure::engine)?;
        let Some(row) = rows.next().map_err(Failure::engine)? else {
            visit(None);
            return Ok(());
        };
        let (found, value) = (blob(row, 0)?, blob(row, 1)?);
        visit(key.get(..prefix_len).is_some_and(|prefix| found.starts_with(prefix)).then_some((found, value)));
        Ok(())
    }

    fn cursor(&self, direction: Direction) -> Outcome<Walk<'_>> {
        Ok(Walk { connection: self.connection()?, direction, query: None })
    }
}

self_cell! {
    /// A statement and the rows it gives.
    struct Query<'s> {
        owner: MutBorrow<CachedStatement<'s>>,
        #[covariant]
        dependent: Rows,
    }
}

/// A walk; each seek runs the statement of its direction again.
pub struct Walk<'s> {
    connection: &'s Connection,
    direction: Direction,
    query: Option<Query<'s>>,
}

impl Cursor for Walk<'_> {
    fn seek(&mut self, key: &[u8]) -> Outcome<()> {
        let text = match self.direction {
            Direction::Forward => FORWARD,
            Direction::Reverse => REVERSE,
        };
        // First back into the connection's cache with the statement, so that it is found there.
        self.query = None;
        let statement = self.connection.prepare_cached(text).map_err(Failure::engine)?;
        let query = Query::try_new(MutBorrow::new(statement), |statement| statement.borrow_mut().query([key]));
        self.query = Some(query.map_err(Failure::engine)?);
        self.step()
    }

    fn step(&mut self) -> Outcome<()> {
        match &mut self.query {
            Some(query) => query.with_dependent_mut(|_, rows| rows.advance()).map_err(Failure::engine),
            None => Ok(()),
        }
    }

    fn entry(&self) -> Option<Entry<'_>> {
        let row = self.query.as_ref()?.borrow_dependent().get()?;
        Some((blob(row, 0).ok()?, blob(row, 1).ok()?))
    }
}
