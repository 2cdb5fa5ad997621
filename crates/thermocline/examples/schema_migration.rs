//! A store of rows whose schema changes twice while it is read and written, and whose old schemas are forgotten when nothing needs them
//! any more.
//!
//! ```console
//! $ cargo run --example schema_migration                  # the history of the git repository around it
//! $ cargo run --example schema_migration -- history.tsv   # lines of commit, put or del, key, value, between tabs
//! ```
//!
//! A row does not say which schema it has. The last 8 bytes of its key are the hybrid logical clock at which it was written, and the
//! [`Catalog`] knows from which clock on which schema was in use. So the catalog may forget a schema only when no row is left that was written
//! under it: not in memory, not in any file, not in an old version that somebody may still read. The store tells: [`Rows`] has it note the
//! oldest clock of each file, and has it move rows to the newest schema while it compacts its files anyway.
//!
//! | schema | fields of a row |
//! | --- | --- |
//! | 1 | location, content, length |
//! | 2 | location, content |
//! | 3 | directory, name, content |

#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a program of its own: it prints, and removes what it has made"
)]

mod history;

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::SystemTime;

use thermocline::{
    Background, Batch, Durability, FixedSuffix, HookError, KeyLayout, KeyRange, Lookup, Migrate, MigrationContext,
    MigrationContextSource, PassScope, Snapshot, Store, StoredRow, Strategy, Table, Version,
};

pub(crate) use self::history::Changes;

const FILES: Table = Table::source(1);
/// The bytes of a clock, at the end of each key.
const CLOCK_LEN: usize = 8;
/// So many commits can be read back.
const HISTORY_LEN: u64 = 200;

/// What a row means, whatever its schema.
#[derive(Clone, Debug, PartialEq, Eq)]
struct File {
    location: String,
    content: String,
}

/// How a row is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Schema {
    One,
    Two,
    Three,
}

impl Schema {
    fn encode(self, file: &File) -> Vec<u8> {
        let File { location, content } = file;
        let fields = match self {
            Self::One => [location, content, &content.len().to_string()].map(String::as_str).join("\0"),
            Self::Two => [location, content].map(String::as_str).join("\0"),
            Self::Three => {
                let (directory, name) = location.rsplit_once('/').unwrap_or(("", location));
                [directory, name, content].join("\0")
            }
        };
        fields.into_bytes()
    }

    fn decode(self, row: &[u8]) -> Result<File, HookError> {
        let row = std::str::from_utf8(row)?;
        let mut fields = row.splitn(if self == Self::Two { 2 } else { 3 }, '\0');
        let mut field = || fields.next().ok_or_else(|| format!("a row of schema {self:?} with too few fields"));
        let (first, second) = (field()?, field()?);
        Ok(match self {
            Self::One => {
                let length: usize = field()?.parse()?;
                if length != second.len() {
                    return Err(format!("a content of {} bytes, and a length of {length}", second.len()).into());
                }
                File { location: first.to_owned(), content: second.to_owned() }
            }
            Self::Two => File { location: first.to_owned(), content: second.to_owned() },
            Self::Three => {
                let location = if first.is_empty() { second.to_owned() } else { format!("{first}/{second}") };
                File { location, content: field()?.to_owned() }
            }
        })
    }
}

/// Which schema was in use from which clock on, the oldest first. Never empty. A value that is replaced, not changed: whoever has one keeps it.
#[derive(Clone, Debug)]
struct Catalog {
    generation: u64,
    schemas: Vec<(u64, Schema)>,
}

impl Catalog {
    /// The schema of a row that was written at a clock.
    fn at(&self, clock: u64) -> Result<Schema, HookError> {
        let found = self.schemas.iter().rev().find(|(from, _)| *from <= clock);
        found.map(|(_, schema)| *schema).ok_or_else(|| format!("the schema of clock {clock} was forgotten").into())
    }

    /// The newest schema, with the clock from which on it is in use.
    fn newest(&self) -> (u64, Schema) {
        self.schemas[self.schemas.len() - 1]
    }

    fn decode(&self, clock: &[u8], row: &[u8]) -> Result<File, HookError> {
        self.at(clock_of(clock)?)?.decode(row)
    }
}

impl MigrationContext for Catalog {
    fn id(&self) -> u64 {
        self.generation
    }
}

fn clock_of(suffix: &[u8]) -> Result<u64, HookError> {
    Ok(u64::from_le_bytes(suffix.try_into()?))
}

/// The next moment of a hybrid logical clock: milliseconds of the wall clock and 16 bits to count within them, above all moments before, also if the wall
/// clock goes back.
fn tick(clock: &AtomicU64) -> u64 {
    let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis());
    let wall = u64::try_from(wall << 16).unwrap_or_default();
    let next = |last: u64| wall.max(last + 1);
    let ticked = clock.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(next(last)));
    next(ticked.unwrap_or_else(|last| last))
}

/// The catalog as all share it, and the clock.
#[derive(Debug)]
struct Engine {
    /// Never held for long: the store's own threads ask for it, and a commit may have to wait for those.
    catalog: Mutex<Arc<Catalog>>,
    /// Shared by whoever writes rows, until they are committed.
    writing: RwLock<()>,
    clock: AtomicU64,
}

impl Engine {
    fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.catalog.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn now(&self) -> u64 {
        tick(&self.clock)
    }

    fn change(&self, change: impl FnOnce(&mut Catalog, &AtomicU64)) {
        // What is being written is committed first: so no row of an older schema comes after this.
        let _alone = self.writing.write().unwrap_or_else(PoisonError::into_inner);
        let mut next = Catalog::clone(&self.catalog());
        change(&mut next, &self.clock);
        next.generation += 1;
        *self.catalog.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
    }

    fn use_schema(&self, schema: Schema) {
        // The clock is read when nobody writes: what was written before is of an older one.
        self.change(|catalog, clock| catalog.schemas.push((tick(clock), schema)));
    }

    /// Forgets the schemas that no row at this clock or later has.
    fn forget_below(&self, watermark: u64) {
        self.change(|catalog, _clock| {
            let newest_needed = catalog.schemas.iter().rposition(|(from, _)| *from <= watermark).unwrap_or(0);
            catalog.schemas.drain(..newest_needed);
        });
    }
}

/// A handle to the engine that the strategy asks for catalogs.
#[derive(Clone, Debug)]
struct Catalogs(Arc<Engine>);

impl MigrationContextSource for Catalogs {
    type Context = Arc<Catalog>;

    fn context(&self) -> Result<Arc<Catalog>, HookError> {
        Ok(self.0.catalog())
    }
}

/// The oldest clock of some rows; `None` of no rows.
#[derive(Clone, Debug, Default)]
struct Oldest(Option<u64>);

impl thermocline::Summary for Oldest {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.0.map(u64::to_le_bytes).into_iter().flatten());
    }

    fn decode(bytes: &[u8]) -> Result<Self, HookError> {
        Ok(Self(if bytes.is_empty() { None } else { Some(clock_of(bytes)?) }))
    }

    fn merge(&mut self, other: &Self) {
        self.0 = self.0.into_iter().chain(other.0).min();
    }
}

impl Oldest {
    fn note(&mut self, clock: u64) {
        self.0 = Some(self.0.map_or(clock, |oldest| oldest.min(clock)));
    }
}

/// How the store sums up and migrates the engine's rows.
struct Rows(Catalogs);

impl Strategy for Rows {
    type Summary = Oldest;
    type Context = Arc<Catalog>;
    type ContextSource = Catalogs;

    fn name(&self) -> &'static str {
        "example-rows-1"
    }

    fn layout(&self) -> Arc<dyn KeyLayout> {
        Arc::new(FixedSuffix(CLOCK_LEN))
    }

    fn contexts(&self) -> &Catalogs {
        &self.0
    }

    fn observe(&self, oldest: &mut Oldest, row: &StoredRow<'_>) -> Result<(), HookError> {
        oldest.note(clock_of(row.suffix)?);
        Ok(())
    }

    fn migrate(&self, catalog: &mut Arc<Catalog>, oldest: &mut Oldest, row: &StoredRow<'_>) -> Result<Migrate, HookError> {
        let (clock, (from, newest)) = (clock_of(row.suffix)?, catalog.newest());
        if clock >= from {
            oldest.note(clock);
            return Ok(Migrate::Unchanged);
        }
        let file = catalog.decode(row.suffix, row.value()?)?;
        oldest.note(from);
        Ok(Migrate::Modified { value: Some(newest.encode(&file).into()), suffix: Some(from.to_le_bytes().to_vec().into()) })
    }

    fn wants_rewrite(&self, catalog: &Arc<Catalog>, oldest: &Oldest) -> bool {
        // Two schemas back is old enough for a rewrite of its own; else it waits for one that comes anyway.
        let before_last = catalog.schemas.len().checked_sub(2).map(|last| catalog.schemas[last].0);
        oldest.0.zip(before_last).is_some_and(|(oldest, before_last)| oldest < before_last)
    }
}

/// What happened on the way.
#[derive(Debug)]
pub(crate) struct Report {
    /// The oldest clock that lived when the newest schema came into use, and in the end.
    pub(crate) watermarks: (u64, u64),
    /// How many schemas the catalog knew then, and in the end.
    pub(crate) schemas: (usize, usize),
    /// How many rows were brought to a newer schema.
    pub(crate) migrated: u64,
    /// How many reads were compared with what they should find.
    pub(crate) reads: u64,
    /// How many rows there are in the end.
    pub(crate) rows: u64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let history = history::read()?;
    let directory = std::env::temp_dir().join(format!("thermocline-migration-{}", std::process::id()));
    let result = run(&directory, &history);
    std::fs::remove_dir_all(&directory)?;
    let report = result?;
    println!("{} commits, {} rows, {} reads compared", history.len(), report.rows, report.reads);
    println!("watermark before: clock {}, {} schemas", report.watermarks.0, report.schemas.0);
    println!("watermark after:  clock {}, {} schema", report.watermarks.1, report.schemas.1);
    println!("{} rows were brought to a newer schema", report.migrated);
    Ok(())
}

/// A store, and what its rows should be.
struct Database {
    engine: Arc<Engine>,
    store: Store<Rows>,
    /// Locked for writing while a commit is made.
    expected: RwLock<BTreeMap<String, File>>,
    reads: AtomicU64,
}

impl Database {
    fn open(directory: &Path) -> thermocline::Result<Self> {
        let catalog = Catalog { generation: 1, schemas: vec![(0, Schema::One)] };
        let engine =
            Arc::new(Engine { catalog: Mutex::new(Arc::new(catalog)), writing: RwLock::default(), clock: AtomicU64::new(0) });
        // A little memory, so that there are many files.
        let store = Store::builder(directory)
            .durability(Durability::Buffered)
            .background(Background::Thread)
            .memory_budget(4 << 20)
            .hot_budget(128 << 10)
            .strategy(Rows(Catalogs(Arc::clone(&engine))))
            .open()?;
        Ok(Self { engine, store, expected: RwLock::default(), reads: AtomicU64::new(0) })
    }

    fn commit(&self, changes: &Changes) -> Result<(), Box<dyn Error + Send + Sync>> {
        let mut expected = self.expected.write().unwrap_or_else(PoisonError::into_inner);
        let writing = self.engine.writing.read().unwrap_or_else(PoisonError::into_inner);
        let catalog = self.engine.catalog();
        let mut batch = Batch::new();
        for (location, content) in changes {
            let clock = self.engine.now().to_le_bytes();
            let key = [location.as_bytes(), &clock].concat();
            if let Some(content) = content {
                let file = File { location: location.clone(), content: content.clone() };
                batch.put(FILES, &key, &catalog.newest().1.encode(&file));
                expected.insert(location.clone(), file);
            } else {
                batch.remove(FILES, &key);
                expected.remove(location);
            }
        }
        let version = self.store.commit(batch)?;
        drop(writing);
        if version.0.is_multiple_of(HISTORY_LEN / 4) {
            self.store.set_horizon(Version(version.0.saturating_sub(HISTORY_LEN)))?;
        }
        Ok(())
    }

    /// Reads a row as it is now, whatever schema it has.
    fn read(&self, location: &str) -> Result<Option<File>, HookError> {
        // Before the row: then no schema is missing that it may have.
        let catalog = self.engine.catalog();
        match self.store.lookup(FILES, location.as_bytes())? {
            Lookup::Value { suffix, bytes, .. } => catalog.decode(&suffix, &bytes).map(Some),
            Lookup::Absent | Lookup::Tombstone { .. } => Ok(None),
        }
    }

    /// The oldest clock of any row that lives.
    fn watermark(&self) -> thermocline::Result<u64> {
        Ok(self.store.live_summary()?.0.unwrap_or(u64::MAX))
    }

    /// Compares some rows with what they should be.
    fn check_some(&self, seed: u64) -> Result<(), HookError> {
        let expected = self.expected.read().unwrap_or_else(PoisonError::into_inner);
        let step = (expected.len() / 50).max(1);
        for (location, file) in expected.iter().skip(usize::try_from(seed)? % step).step_by(step) {
            assert_eq!(self.read(location)?.as_ref(), Some(file), "{location}");
            self.reads.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// All rows that a snapshot sees.
    fn rows(&self, snapshot: &Snapshot) -> Result<BTreeMap<String, File>, HookError> {
        let catalog = self.engine.catalog();
        let mut rows = BTreeMap::new();
        for row in snapshot.scan(FILES, KeyRange::all()) {
            let (key, value) = row?;
            let (location, clock) = key.split_at(key.len() - CLOCK_LEN);
            rows.insert(String::from_utf8(location.to_vec())?, catalog.decode(clock, &value)?);
        }
        Ok(rows)
    }
}

/// Commits the history in three parts, each under another schema, while rows are read; then forgets the schemas that nothing needs.
pub(crate) fn run(directory: &Path, history: &[Changes]) -> Result<Report, Box<dyn Error>> {
    let database = Database::open(directory)?;
    let third = history.len().div_ceil(3).max(1);
    let mut before = (0, 1);
    // The schema that comes into use while that part of the history is written.
    for (part, schema) in history.chunks(third).zip([None, Some(Schema::Two), Some(Schema::Three)]) {
        let watermark = live_through(&database, part, schema).map_err(|error| -> Box<dyn Error> { error })?;
        before = (watermark, database.engine.catalog().schemas.len());
    }
    forget_old_schemas(&database, before).map_err(|error| -> Box<dyn Error> { error })
}

/// Commits some of the history, reads beside it, changes the schema meanwhile if there is a new one, and has all files rewritten beside all that. The
/// oldest clock that lived when the schema had changed.
fn live_through(database: &Database, history: &[Changes], schema: Option<Schema>) -> Result<u64, HookError> {
    let before = database.store.snapshot()?;
    let rows_before = database.rows(&before)?;
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seed = 0;
            while !is_over.load(Ordering::Acquire) {
                database.check_some(seed)?;
                seed += 1;
            }
            Ok::<(), HookError>(())
        });
        let writer = scope.spawn(|| history.iter().try_for_each(|changes| database.commit(changes)));
        if let Some(schema) = schema {
            // In the middle of what is written.
            let half = database.store.last_version().0 + history.len() as u64 / 2;
            while database.store.last_version().0 < half && !writer.is_finished() {
                std::thread::yield_now();
            }
            database.engine.use_schema(schema);
        }
        let watermark = database.watermark()?;
        let mut passes = 0;
        let migrated = loop {
            let was_over = writer.is_finished();
            match database.store.compact_all(&PassScope::All).and_then(|mut pass| pass.run().cloned()) {
                Ok(_) => passes += 1,
                Err(error) => break Err(error),
            }
            if was_over {
                break Ok(());
            }
        };
        is_over.store(true, Ordering::Release);
        writer.join().map_err(|_panic| "the writer panicked")??;
        reader.join().map_err(|_panic| "the reader panicked")??;
        migrated?;
        assert!(passes > 0);
        // The same rows as at first, however they lie in files by now.
        assert_eq!(database.rows(&before)?, rows_before);
        Ok(watermark)
    })
}

/// Has what is left of old schemas migrated, and forgets them. `before`: the watermark, and how many schemas there were, when the newest came into use.
fn forget_old_schemas(database: &Database, before: (u64, usize)) -> Result<Report, HookError> {
    let Database { engine, store, expected, reads } = database;
    let (newest_from, _) = engine.catalog().newest();
    // Old versions can still be read, and lie there as they were written: that keeps their schemas.
    engine.forget_below(database.watermark()?);
    store.set_horizon(store.last_version())?;
    let is_old = move |oldest: &Oldest| oldest.0.is_some_and(|clock| clock < newest_from);
    store.drive_to(is_old)?.run()?;
    let status = store.migration_status(is_old)?;
    assert!(status.is_done(), "{status:?}");

    let after = database.watermark()?;
    engine.forget_below(after);
    // A catalog that knows the newest schema alone can read everything.
    let rows = database.rows(&store.snapshot()?)?;
    assert_eq!(rows, *expected.read().unwrap_or_else(PoisonError::into_inner));
    assert!(store.summaries()?.iter().all(|file| !is_old(file)), "a file holds rows of an old schema");
    store.verify()?;
    let report = Report {
        watermarks: (before.0, after),
        schemas: (before.1, engine.catalog().schemas.len()),
        migrated: store.stats().migration.map_or(0, |migration| migration.done.modified),
        reads: reads.load(Ordering::Relaxed),
        rows: rows.len() as u64,
    };
    store.close()?;
    Ok(report)
}
