//! persistent-kv: a hash map that keeps its contents. Reads of the latest version only; no ranges, no batches.
//!
//! Settings after its documentation of `Config`. The store knows neither versions nor order, and its sync mode is chosen when it is opened.

use std::fs::{File, create_dir_all, read_dir};
use std::path::PathBuf;

use persistent_kv::{Config, PersistentKeyValueStore, SyncMode};
use thermocline_yardstick::engine::{At, Durability, Engine, Options, Scan, Settings, Skip, Table, VisitChange, Write};
use thermocline_yardstick::failure::{Failure, Outcome};

const RELEASE: &str = "persistent-kv 1.0";
const DIRECTORY_NAME: &str = "store";
/// Changes between two snapshots of the whole map, each of which writes all of it.
const SNAPSHOT_INTERVAL: u64 = 1_000_000;

/// An open store.
pub struct PersistentKv {
    store: PersistentKeyValueStore<Vec<u8>, Vec<u8>>,
    directory: PathBuf,
}

fn stored_key(table: Table, key: &[u8]) -> Vec<u8> {
    let mut stored = Vec::with_capacity(1 + key.len());
    stored.push(table);
    stored.extend_from_slice(key);
    stored
}

fn unsupported<T>(reason: &str) -> Outcome<T> {
    Err(Failure::Unsupported(reason.to_owned()))
}

fn failure(error: Box<dyn std::error::Error + Send + Sync>) -> Failure {
    Failure::Engine(error)
}

impl Engine for PersistentKv {
    const NAME: &'static str = "persistent-kv";
    const KEEPS_VERSIONS: bool = false;

    fn settings(_options: &Options) -> Settings {
        Settings {
            release: RELEASE.to_owned(),
            versions: "none: the latest only; a commit of several writes is NOT atomic, they are made one after the other".to_owned(),
            durability: "Buffered: SyncMode::BlockNoExplicitSync (log written to the operating system); Sync: not supported, the mode belongs \
                         to the store"
                .to_owned(),
            memory: "all data in memory, whatever the bound".to_owned(),
            other: format!("defaults, but for a snapshot every {SNAPSHOT_INTERVAL} changes"),
        }
    }

    fn open(options: &Options) -> Outcome<Self> {
        let directory = options.directory.join(DIRECTORY_NAME);
        create_dir_all(&directory).map_err(Failure::engine)?;
        let config = Config {
            silent: true,
            snapshot_interval: SNAPSHOT_INTERVAL,
            sync_mode: SyncMode::BlockNoExplicitSync,
            ..Config::default()
        };
        Ok(Self { store: PersistentKeyValueStore::new(&directory, config).map_err(failure)?, directory })
    }

    fn commit(&self, _version: Option<u64>, writes: &[Write<'_>], durability: Durability) -> Outcome<()> {
        if durability == Durability::Sync {
            return unsupported("the sync mode is chosen when the store is opened");
        }
        for write in writes {
            let key = stored_key(write.table, write.key);
            match write.value {
                Some(value) => self.store.set(key, value),
                None => self.store.unset(&key),
            }
            .map_err(failure)?;
        }
        Ok(())
    }

    fn get(&self, table: Table, key: &[u8], at: At, visit: &mut dyn FnMut(Option<&[u8]>)) -> Outcome<()> {
        if at != At::Latest {
            return unsupported("keeps the latest version only");
        }
        visit(self.store.get(&stored_key(table, key)).as_deref());
        Ok(())
    }

    fn get_many(&self, _table: Table, _keys: &[&[u8]], _at: At, _visit: &mut dyn FnMut(Option<&[u8]>)) -> Outcome<()> {
        unsupported("has no reads of many keys as of one moment")
    }

    fn scan(&self, _scan: &Scan<'_>, _visit: &mut dyn FnMut(&[u8], &[u8])) -> Outcome<()> {
        unsupported("has no order")
    }

    fn diff(&self, _table: Table, _from: u64, _to: u64, _skip: Skip, _visit: VisitChange<'_>) -> Outcome<()> {
        unsupported("keeps the latest version only")
    }

    fn reclaim(&self, _version: u64) -> Outcome<()> {
        unsupported("keeps the latest version only")
    }

    fn settle(&self) -> Outcome<()> {
        // Snapshots are made by their interval alone, and there is no way to wait for one.
        Ok(())
    }

    fn close(self) -> Outcome<()> {
        drop(self.store);
        for entry in read_dir(&self.directory).map_err(Failure::engine)? {
            File::open(entry.map_err(Failure::engine)?.path()).and_then(|file| file.sync_all()).map_err(Failure::engine)?;
        }
        Ok(())
    }
}
