//! Tests of the store layer over the in-memory tier, on disks in memory and simulated ones.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::big_endian_bytes,
    reason = "a test fails by panicking, prints how much it tried, and needs keys that order as their numbers"
)]

mod commits;
mod consumers;
mod crashes;
mod damage;
mod differences;
mod drops;
mod expiry;
mod faults;
mod kept;
mod migrating;
mod pressure;
mod ranges;
mod retained_crashes;
mod retention;
mod story;
mod tables;
mod tiered;

use std::sync::Arc;

use thermocline_hot::{HotOptions, HotTier};
use thermocline_io::{Disk, Environment, MemoryDisk};
use thermocline_store::{Background, Batch, Store, StoreOptions};
use thermocline_tier::{EntryKind, Result, Version};

/// The table that most tests use.
const T: EntryKind = EntryKind::source(1);
/// Another one.
const U: EntryKind = EntryKind::source(2);

/// Opens the store on `disk` over a fresh tier.
fn open_on(disk: &Arc<dyn Disk>, options: StoreOptions) -> Result<Store> {
    let tier = Arc::new(HotTier::new(HotOptions::default()));
    Store::open(Arc::clone(disk), tier, &Environment::real(), options)
}

fn options() -> StoreOptions {
    StoreOptions { background: Background::ByHand, ..StoreOptions::default() }
}

/// A store on a disk in memory, and that disk.
fn store() -> (Store, Arc<dyn Disk>) {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
    (open_on(&disk, options()).unwrap(), disk)
}

/// Commits `key=value` pairs, and `key` alone as a removal.
fn commit(store: &Store, table: EntryKind, writes: &[&str]) -> Version {
    store.commit(batch(table, writes)).unwrap()
}

fn batch(table: EntryKind, writes: &[&str]) -> Batch {
    let mut batch = Batch::new();
    for write in writes {
        match write.split_once('=') {
            Some((key, value)) => batch.put(table, key.as_bytes(), value.as_bytes()),
            None => batch.remove(table, write.as_bytes()),
        };
    }
    batch
}

/// The value of a key at a version, as text.
fn get(store: &Store, table: EntryKind, key: &str, at: Version) -> Option<String> {
    store.get_at(table, key.as_bytes(), at).unwrap().map(|value| String::from_utf8(value.to_vec()).unwrap())
}

/// Rows as `key=value` texts.
fn texts<E: std::fmt::Debug>(
    rows: impl IntoIterator<Item = std::result::Result<(bytes::Bytes, bytes::Bytes), E>>,
) -> Vec<String> {
    let text = |bytes: bytes::Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    rows.into_iter().map(|row| row.map(|(key, value)| format!("{}={}", text(key), text(value))).unwrap()).collect()
}
