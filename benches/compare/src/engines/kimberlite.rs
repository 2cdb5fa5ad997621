//! kimberlite-store with its own versions: a B+tree whose rows carry their version chains.
//!
//! After its documentation of `ProjectionStore`. Reads take the store for themselves, as its interface asks; a key's versions must fit a page
//! together.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use kimberlite_store::{BTreeStore, Key, MAX_KEY_LENGTH, PAGE_SIZE, ProjectionStore, StoreError, TableId, WriteBatch};
use kimberlite_types::Offset;
use thermocline_yardstick::engine::{
    At, Direction, Durability, Engine, Options, Scan, Settings, Skip, Table, VisitChange, Write, mebibytes,
};
use thermocline_yardstick::failure::{Failure, Outcome};

const RELEASE: &str = "kimberlite-store 0.9";
const FILE_NAME: &str = "store.kimberlite";

/// An open store.
pub struct Kimberlite {
    store: Mutex<Open>,
}

struct Open {
    store: BTreeStore,
    /// The store was there before. Such a store cannot be synced: `sync` writes the superblock into its page, which must be in the cache for
    /// that, and the cache refuses to read it back, because it has another header than pages have.
    is_old: bool,
    /// Commits came since the last sync.
    is_changed: bool,
}

impl Open {
    fn sync(&mut self) -> Outcome<()> {
        if self.is_changed {
            self.store.sync().map_err(failure)?;
            self.is_changed = false;
        }
        Ok(())
    }
}

fn failure(error: StoreError) -> Failure {
    match error {
        // The engine's own limit: its documentation sends hot rows to a later release.
        StoreError::EntryTooLarge { .. } => Failure::Unsupported(error.to_string()),
        StoreError::InvalidPageMagic { .. } => Failure::Unsupported(format!(
            "a store larger than its cache: the superblock left it and is refused when read back ({error})"
        )),
        error => Failure::engine(error),
    }
}

fn table_id(table: Table) -> TableId {
    TableId::new(u64::from(table))
}

fn store_key(key: &[u8]) -> Outcome<Key> {
    if key.len() > MAX_KEY_LENGTH {
        return Err(Failure::Unsupported(format!("keys of at most {MAX_KEY_LENGTH} bytes")));
    }
    Ok(Key::from(key))
}

fn offset(at: At) -> Offset {
    // The highest offset marks versions that were not deleted, so it cannot be asked for.
    Offset::new(at.bound().min(u64::MAX - 1))
}

fn all() -> Range<Key> {
    Key::min()..Key::max()
}

impl Kimberlite {
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn get(store: &mut BTreeStore, table: Table, key: &[u8], at: At) -> Outcome<Option<Bytes>> {
    let key = store_key(key)?;
    match at {
        At::Latest => store.get(table_id(table), &key),
        At::Version(_) => store.get_at(table_id(table), &key, offset(at)),
    }
    .map_err(failure)
}

impl Engine for Kimberlite {
    const NAME: &'static str = "kimberlite";
    const PROMISES_LESS_IN: &'static [&'static str] = &["load", "written", "single", "mixed", "sync"];

    fn settings(options: &Options) -> Settings {
        Settings {
            release: RELEASE.to_owned(),
            versions: "its own: version chains in the rows, at most a page of 4 KiB for a key; a store that was opened again takes no \
                       commits; gaps between versions are filled with empty batches; a batch that fails stays applied in part"
                .to_owned(),
            durability: "Buffered: less than asked for, pages changed in memory, lost with the process; Sync: all changed pages written in \
                         place and synced; no log, so a loss of power meanwhile may spoil the store"
                .to_owned(),
            memory: format!("page cache of {}", mebibytes(options.cache_bytes)),
            other: "one mutex for reads and writes, since reads need the store for themselves; no compression".to_owned(),
        }
    }

    fn open(options: &Options) -> Outcome<Self> {
        let pages = usize::try_from(options.cache_bytes).map_err(Failure::engine)? / PAGE_SIZE;
        let path = options.directory.join(FILE_NAME);
        let is_old = path.exists();
        let store = BTreeStore::open_with_capacity(path, pages).map_err(failure)?;
        Ok(Self { store: Mutex::new(Open { store, is_old, is_changed: !is_old }) })
    }

    fn commit(&self, version: Option<u64>, writes: &[Write<'_>], durability: Durability) -> Outcome<()> {
        let mut open = self.lock();
        if open.is_old {
            return Err(Failure::Unsupported("commits to a store that was opened again could never be synced".to_owned()));
        }
        open.is_changed = true;
        let store = &mut open.store;
        let next = store.applied_position().as_u64() + 1;
        let version = version.unwrap_or(next);
        for skipped in next..version {
            store.apply(WriteBatch::new(Offset::new(skipped))).map_err(failure)?;
        }
        let mut batch = WriteBatch::with_capacity(Offset::new(version), writes.len());
        for write in writes {
            let key = store_key(write.key)?;
            match write.value {
                Some(value) => batch.push_put(table_id(write.table), key, Bytes::copy_from_slice(value)),
                None => batch.push_delete(table_id(write.table), key),
            }
        }
        store.apply(batch).map_err(failure)?;
        match durability {
            Durability::Sync => open.sync(),
            Durability::Buffered => Ok(()),
        }
    }

    fn get(&self, table: Table, key: &[u8], at: At, visit: &mut dyn FnMut(Option<&[u8]>)) -> Outcome<()> {
        visit(get(&mut self.lock().store, table, key, at)?.as_deref());
        Ok(())
    }

    fn get_many(&self, table: Table, keys: &[&[u8]], at: At, visit: &mut dyn FnMut(Option<&[u8]>)) -> Outcome<()> {
        let mut open = self.lock();
        for key in keys {
            visit(get(&mut open.store, table, key, at)?.as_deref());
        }
        Ok(())
    }

    fn scan(&self, scan: &Scan<'_>, visit: &mut dyn FnMut(&[u8], &[u8])) -> Outcome<()> {
        if scan.direction == Direction::Reverse {
            return Err(Failure::Unsupported("scans forward only".to_owned()));
        }
        let range = match scan.from {
            Some(from) => store_key(from)?..Key::max(),
            None => all(),
        };
        let rows = match scan.at {
            At::Latest => self.lock().store.scan(table_id(scan.table), range, scan.limit),
            At::Version(_) => self.lock().store.scan_at(table_id(scan.table), range, scan.limit, offset(scan.at)),
        };
        for (key, value) in rows.map_err(failure)? {
            visit(key.as_bytes(), &value);
        }
        Ok(())
    }

    /// There is no way but to read the whole table at both versions.
    fn diff(&self, table: Table, from: u64, to: u64, _skip: Skip, visit: VisitChange<'_>) -> Outcome<()> {
        let mut open = self.lock();
        let mut rows_at =
            |version| open.store.scan_at(table_id(table), all(), usize::MAX, offset(At::Version(version))).map_err(failure);
        let (before, after) = (rows_at(from)?, rows_at(to)?);
        let (mut before, mut after) = (before.iter().peekable(), after.iter().peekable());
        loop {
            let key = match (before.peek(), after.peek()) {
                (Some((old, _)), Some((new, _))) => old.min(new),
                (Some((key, _)), None) | (None, Some((key, _))) => key,
                (None, None) => return Ok(()),
            };
            let old = before.next_if(|(old, _)| old == key).map(|(_, value)| &**value);
            let new = after.next_if(|(new, _)| new == key).map(|(_, value)| &**value);
            if old != new {
                visit(key.as_bytes(), old, new);
            }
        }
    }

    fn reclaim(&self, _version: u64) -> Outcome<()> {
        Err(Failure::Unsupported("keeps all versions".to_owned()))
    }

    fn settle(&self) -> Outcome<()> {
        self.lock().sync()
    }

    fn close(self) -> Outcome<()> {
        self.store.into_inner().unwrap_or_else(PoisonError::into_inner).sync()
    }
}
