//! LMDB with versions in the keys, through its C interface (the `lmdb-master-sys` crate): safe wrappers make a transaction or a cursor anew
//! for each read, which LMDB can use again.
//!
//! Settings after `lmdb.h` (flags of `mdb_env_open`, `mdb_txn_reset`, `mdb_cursor_renew`, caveats). Flags belong to the environment and
//! not to a commit, but `MDB_NOSYNC` may be changed while it is open: it is on for commits that need not survive the loss of power, and off
//! for those that do, which then sync data and meta page as LMDB does by default.

use std::ffi::{CStr, CString, c_int, c_uint};
use std::marker::PhantomData;
use std::os::unix::ffi::OsStrExt;
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lmdb_master_sys as ffi;
use thermocline_yardstick::engine::{Direction, Durability, Options, Settings, mebibytes};
use thermocline_yardstick::failure::{Failure, Outcome};
use thermocline_yardstick::versioned::{Cursor, Entry, Ordered, Snapshot, VERSIONS_IN_KEYS, Versioned};

/// The engine.
pub type Lmdb = Versioned<Store>;

const RELEASE: &str = "lmdb-master-sys 0.2 (LMDB 0.9.70)";
const FILE_NAME: &str = "data.mdb";
const READERS_MAX: c_uint = 512;
const FILE_MODE: u32 = 0o600;
/// On top of what the data takes.
const MAP_SIZE_BYTES_MIN: u64 = 1 << 30;
/// Room for versions, for half-full pages and for pages that readers keep from being used again.
const MAP_SIZE_FACTOR: u64 = 6;

fn map_size_bytes(options: &Options) -> u64 {
    // A whole number of pages, whatever their size.
    (options.data_bytes.saturating_mul(MAP_SIZE_FACTOR).saturating_add(MAP_SIZE_BYTES_MIN) >> 20) << 20
}

fn check(code: c_int) -> Outcome<()> {
    if code == ffi::MDB_SUCCESS {
        return Ok(());
    }
    // SAFETY: for every code it returns a string that lives as long as the program, or until the next call of strerror.
    let text = unsafe { CStr::from_ptr(ffi::mdb_strerror(code)) };
    Err(Failure::engine(text.to_string_lossy().into_owned()))
}

fn value_of(bytes: &[u8]) -> ffi::MDB_val {
    ffi::MDB_val { mv_size: bytes.len(), mv_data: bytes.as_ptr().cast_mut().cast() }
}

/// # Safety
/// LMDB has returned the value, and its transaction lives for `'a` without writing.
unsafe fn bytes_of<'a>(value: &ffi::MDB_val) -> &'a [u8] {
    // SAFETY: it points into the map, which does not change below a reader.
    unsafe { std::slice::from_raw_parts(value.mv_data.cast(), value.mv_size) }
}

/// An environment, closed when it goes; null once it is closed.
struct Environment(*mut ffi::MDB_env);

impl Environment {
    /// All transactions and cursors must be gone.
    fn close(&mut self) {
        let environment = std::mem::replace(&mut self.0, ptr::null_mut());
        if !environment.is_null() {
            // SAFETY: it is live, and nobody else has it: readers borrow the store, or are dropped before.
            unsafe { ffi::mdb_env_close(environment) };
        }
    }
}

// SAFETY: an environment may be used by any thread (lmdb.h, "Caveats"), with MDB_NOTLS readers may wander between them.
unsafe impl Send for Environment {}
// SAFETY: as above; flags are changed under a lock.
unsafe impl Sync for Environment {}

impl Drop for Environment {
    fn drop(&mut self) {
        self.close();
    }
}

/// A read transaction and the cursor of its point reads: used again after each other, which spares LMDB's locks and the allocator.
struct Reader {
    transaction: *mut ffi::MDB_txn,
    cursor: *mut ffi::MDB_cursor,
}

// SAFETY: with MDB_NOTLS a read transaction may be used by one thread after the other.
unsafe impl Send for Reader {}

impl Drop for Reader {
    fn drop(&mut self) {
        // SAFETY: both are live, and nobody else has them.
        unsafe {
            ffi::mdb_cursor_close(self.cursor);
            ffi::mdb_txn_abort(self.transaction);
        }
    }
}

/// A write transaction, aborted unless it is committed.
struct Writing(*mut ffi::MDB_txn);

impl Writing {
    fn begin(environment: &Environment) -> Outcome<Self> {
        let mut transaction = ptr::null_mut();
        // SAFETY: the environment is open.
        check(unsafe { ffi::mdb_txn_begin(environment.0, ptr::null_mut(), 0, &raw mut transaction) })?;
        Ok(Self(transaction))
    }

    fn commit(mut self) -> Outcome<()> {
        let transaction = std::mem::replace(&mut self.0, ptr::null_mut());
        // SAFETY: it is live; whatever the answer, it is gone afterwards.
        check(unsafe { ffi::mdb_txn_commit(transaction) })
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: it is live.
            unsafe { ffi::mdb_txn_abort(self.0) };
        }
    }
}

/// An open environment.
pub struct Store {
    /// Readers that nobody uses, reset. Before the environment, so that they go first.
    idle: Mutex<Vec<Reader>>,
    environment: Environment,
    table: ffi::MDB_dbi,
    /// What the flags are set for. Held by the one writer, since flags may only be changed by one thread at a time.
    durability: Mutex<Durability>,
    options: Options,
}

impl Store {
    /// Takes the place of the one writer, with the flags as they are needed.
    fn lock_for(&self, wanted: Durability) -> Outcome<MutexGuard<'_, Durability>> {
        let mut durability = self.durability.lock().unwrap_or_else(PoisonError::into_inner);
        if *durability != wanted {
            let is_on = c_int::from(wanted == Durability::Buffered);
            // SAFETY: only the holder of the lock calls this; what NO_SYNC risks is stated in the settings.
            check(unsafe { ffi::mdb_env_set_flags(self.environment.0, ffi::MDB_NOSYNC, is_on) })?;
            *durability = wanted;
        }
        Ok(durability)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Reader>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sync(&self) -> Outcome<()> {
        // SAFETY: the environment is open.
        check(unsafe { ffi::mdb_env_sync(self.environment.0, 1) })
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
            other: "MDB_WRITEMAP, MDB_NORDAHEAD, MDB_NOTLS, read transactions and cursors used again (mdb_txn_renew, mdb_cursor_renew); one \
                    unnamed database; no compression; at rest it is copied with MDB_CP_COMPACT, and the copy takes its place"
                .to_owned(),
        }
    }

    fn open(options: &Options) -> Outcome<Self> {
        let path = CString::new(options.directory.as_os_str().as_bytes()).map_err(Failure::engine)?;
        let map_size = usize::try_from(map_size_bytes(options)).map_err(Failure::engine)?;
        let mut environment = ptr::null_mut();
        // SAFETY: it is given a place for the environment.
        check(unsafe { ffi::mdb_env_create(&raw mut environment) })?;
        let environment = Environment(environment);
        let flags = ffi::MDB_NOSYNC | ffi::MDB_WRITEMAP | ffi::MDB_NORDAHEAD | ffi::MDB_NOTLS;
        // SAFETY: the environment was made and is not open yet. The directory is the harness's own, on a local disk; no process but this
        // one has its files, nothing else writes to the map, and what NO_SYNC risks is stated in the settings.
        unsafe {
            check(ffi::mdb_env_set_mapsize(environment.0, map_size))?;
            check(ffi::mdb_env_set_maxreaders(environment.0, READERS_MAX))?;
            check(ffi::mdb_env_open(environment.0, path.as_ptr(), flags, FILE_MODE))?;
        }
        let (mut table, opening) = (0, Writing::begin(&environment)?);
        // SAFETY: the transaction is live, and the only one.
        check(unsafe { ffi::mdb_dbi_open(opening.0, ptr::null(), 0, &raw mut table) })?;
        opening.commit()?;
        Ok(Self {
            idle: Mutex::default(),
            environment,
            table,
            durability: Mutex::new(Durability::Buffered),
            options: options.clone(),
        })
    }

    fn write(&self, puts: &[(Vec<u8>, Vec<u8>)], deletes: &[Vec<u8>], durability: Durability) -> Outcome<()> {
        let writer = self.lock_for(durability)?;
        let transaction = Writing::begin(&self.environment)?;
        for (key, value) in puts {
            let (mut key, mut value) = (value_of(key), value_of(value));
            // SAFETY: the transaction is live; LMDB reads key and value and keeps neither.
            check(unsafe { ffi::mdb_put(transaction.0, self.table, &raw mut key, &raw mut value, 0) })?;
        }
        for key in deletes {
            let mut key = value_of(key);
            // SAFETY: as above.
            match unsafe { ffi::mdb_del(transaction.0, self.table, &raw mut key, ptr::null_mut()) } {
                ffi::MDB_NOTFOUND => {}
                code => check(code)?,
            }
        }
        transaction.commit()?;
        drop(writer);
        Ok(())
    }

    fn snapshot(&self) -> Outcome<View<'_>> {
        let idle = self.idle().pop();
        let reader = match idle {
            Some(reader) => {
                // SAFETY: the transaction was reset, and the cursor belongs to it.
                unsafe {
                    check(ffi::mdb_txn_renew(reader.transaction))?;
                    check(ffi::mdb_cursor_renew(reader.transaction, reader.cursor))?;
                }
                reader
            }
            None => {
                let (mut transaction, mut cursor) = (ptr::null_mut(), ptr::null_mut());
                // SAFETY: the environment is open, and then the transaction is live.
                unsafe {
                    check(ffi::mdb_txn_begin(self.environment.0, ptr::null_mut(), ffi::MDB_RDONLY, &raw mut transaction))?;
                    if let Err(failure) = check(ffi::mdb_cursor_open(transaction, self.table, &raw mut cursor)) {
                        ffi::mdb_txn_abort(transaction);
                        return Err(failure);
                    }
                }
                Reader { transaction, cursor }
            }
        };
        Ok(View { reader: Some(reader), store: self })
    }

    fn settle(&self) -> Outcome<()> {
        self.sync()
    }

    /// What nothing uses any more is left out, and pages lie in the order of their keys (`mdb_copy -c`).
    fn compact(&mut self) -> Outcome<()> {
        let copy = self.options.directory.join("copy");
        std::fs::create_dir(&copy).map_err(Failure::engine)?;
        let path = CString::new(copy.as_os_str().as_bytes()).map_err(Failure::engine)?;
        // SAFETY: the environment is open, and nothing writes.
        check(unsafe { ffi::mdb_env_copy2(self.environment.0, path.as_ptr(), ffi::MDB_CP_COMPACT) })?;
        self.idle().clear();
        self.environment.close();
        std::fs::rename(copy.join(FILE_NAME), self.options.directory.join(FILE_NAME)).map_err(Failure::engine)?;
        std::fs::remove_dir(&copy).map_err(Failure::engine)?;
        *self = Self::open(&self.options)?;
        Ok(())
    }

    fn close(self) -> Outcome<()> {
        self.sync()
    }
}

/// A read transaction.
pub struct View<'a> {
    /// Until it is given back.
    reader: Option<Reader>,
    store: &'a Store,
}

impl Drop for View<'_> {
    fn drop(&mut self) {
        if let Some(reader) = self.reader.take() {
            // SAFETY: it is live, and no cursor uses it any more: they borrow this.
            unsafe { ffi::mdb_txn_reset(reader.transaction) };
            self.store.idle().push(reader);
        }
    }
}

/// Moves a cursor; the entry that it then stands on, if there is one.
///
/// # Safety
/// The cursor is live, and its transaction lives for `'a`.
unsafe fn moved<'a>(cursor: *mut ffi::MDB_cursor, key: &[u8], operation: ffi::MDB_cursor_op) -> Outcome<Option<Entry<'a>>> {
    let (mut key, mut value) = (value_of(key), value_of(&[]));
    // SAFETY: as the caller promises; LMDB reads the key, and then writes both.
    match unsafe { ffi::mdb_cursor_get(cursor, &raw mut key, &raw mut value, operation) } {
        ffi::MDB_NOTFOUND => Ok(None),
        code => {
            check(code)?;
            // SAFETY: LMDB has returned both, and as the caller promises.
            Ok(Some(unsafe { (bytes_of(&key), bytes_of(&value)) }))
        }
    }
}

impl Snapshot for View<'_> {
    type Cursor<'s>
        = Walk<'s>
    where
        Self: 's;

    fn first(&self, key: &[u8], prefix_len: usize, visit: &mut dyn FnMut(Option<Entry<'_>>)) -> Outcome<()> {
        let Some(reader) = &self.reader else { return Err(Failure::engine("the reader was given back")) };
        // SAFETY: the reader is live until this is dropped.
        let found = unsafe { moved(reader.cursor, key, ffi::MDB_SET_RANGE) }?;
        visit(found.filter(|(found, _)| key.get(..prefix_len).is_some_and(|prefix| found.starts_with(prefix))));
        Ok(())
    }

    fn cursor(&self, direction: Direction) -> Outcome<Walk<'_>> {
        let Some(reader) = &self.reader else { return Err(Failure::engine("the reader was given back")) };
        let mut cursor = ptr::null_mut();
        // SAFETY: the transaction is live.
        check(unsafe { ffi::mdb_cursor_open(reader.transaction, self.store.table, &raw mut cursor) })?;
        Ok(Walk { cursor, direction, entry: None, view: PhantomData })
    }
}

/// A walk with an LMDB cursor.
pub struct Walk<'s> {
    cursor: *mut ffi::MDB_cursor,
    direction: Direction,
    entry: Option<Entry<'s>>,
    view: PhantomData<&'s View<'s>>,
}

impl Walk<'_> {
    fn go(&mut self, key: &[u8], operation: ffi::MDB_cursor_op) -> Outcome<()> {
        // SAFETY: the cursor is live until this is dropped, and its transaction as long as the view that this borrows.
        self.entry = unsafe { moved(self.cursor, key, operation) }?;
        Ok(())
    }
}

impl Drop for Walk<'_> {
    fn drop(&mut self) {
        // SAFETY: it is live, and nobody else has it.
        unsafe { ffi::mdb_cursor_close(self.cursor) };
    }
}

impl Cursor for Walk<'_> {
    fn seek(&mut self, key: &[u8]) -> Outcome<()> {
        self.go(key, ffi::MDB_SET_RANGE)?;
        match self.direction {
            Direction::Forward => Ok(()),
            Direction::Reverse => self.go(&[], if self.entry.is_some() { ffi::MDB_PREV } else { ffi::MDB_LAST }),
        }
    }

    fn step(&mut self) -> Outcome<()> {
        self.go(&[], if self.direction == Direction::Forward { ffi::MDB_NEXT } else { ffi::MDB_PREV })
    }

    fn entry(&self) -> Option<Entry<'_>> {
        self.entry
    }
}
