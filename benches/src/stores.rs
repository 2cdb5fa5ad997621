//! Stores as the rows use them: opened through the facade, loaded by one or two committers, and read.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::time::Instant;

use bytes::Bytes;
use thermocline::{Batch, Direction, Durability, EntryKind, KeyRange, Result, Snapshot, Store, Version};

use crate::bench::Bench;
use crate::reads::{MANY_KEYS, Reads, SCAN_ENTRIES, ScanOf};
use crate::report::Sample;
use thermocline_yardstick::failure::{Failure, Outcome};
use thermocline_yardstick::meter::{Meter, Timed, join, pin};
use thermocline_yardstick::workload::{COMMIT_ENTRIES, KEY_SIZE_BYTES, Key, ScanLimit, VALUE_SIZE_BYTES, Workload, table_of};

/// The store that the facade derefs to: what the calls are made on.
pub(crate) type Inner = <Store as std::ops::Deref>::Target;

/// An open store and where it lies.
#[derive(Debug)]
pub(crate) struct Placed {
    pub(crate) store: Store,
    pub(crate) directory: PathBuf,
}

impl Placed {
    /// A new store in a directory of its own.
    pub(crate) fn fresh(bench: &mut Bench) -> Outcome<Self> {
        let directory = bench.fresh_directory();
        Ok(Self { store: open(&directory)?, directory })
    }

    /// Closes the store and removes its files, so that neither the disk nor the system's write-back is busy with them later.
    pub(crate) fn remove(self) -> Outcome<()> {
        self.store.close()?;
        drop(self.store);
        fs::remove_dir_all(&self.directory).map_err(Failure::machine("remove a store's directory"))
    }
}

/// A store whose commits are not synced unless they ask for it. Must not be called from a tied thread: the store's own thread would
/// inherit the tie.
pub(crate) fn open(directory: &Path) -> Outcome<Store> {
    Ok(Store::builder(directory).durability(Durability::Buffered).open()?)
}

/// A store read by the calls that need nothing but the store; scans go through a snapshot that is held.
#[derive(Debug)]
pub(crate) struct StoreReads<'a> {
    store: &'a Inner,
    latest: Snapshot,
}

impl<'a> StoreReads<'a> {
    pub(crate) fn new(store: &'a Inner) -> Outcome<Self> {
        Ok(Self { store, latest: store.snapshot()? })
    }
}

impl Reads for StoreReads<'_> {
    const SCAN_LIMIT: ScanLimit = ScanLimit::Rows(SCAN_ENTRIES);

    fn get(&self, table: EntryKind, key: &Key) -> Result<Option<Bytes>> {
        self.store.get(table, key)
    }

    fn get_at(&self, table: EntryKind, key: &Key, at: Version) -> Result<Option<Bytes>> {
        self.store.get_at(table, key, at)
    }

    fn get_many(&self, table: EntryKind, keys: &[Key; MANY_KEYS]) -> Result<Vec<Option<Bytes>>> {
        self.store.get_many(table, keys)
    }

    fn scan(&self, scan: ScanOf<'_>, mut visit: impl FnMut(&[u8], &[u8])) -> Result<()> {
        let rows = if scan.at == self.latest.version() {
            self.latest.scan(scan.table, range_of(&scan))
        } else {
            self.store.at(scan.at)?.scan(scan.table, range_of(&scan))
        };
        let mut visit_row = |row: Result<(Bytes, Bytes)>| row.map(|(key, value)| visit(&key, &value));
        match scan.direction {
            Direction::Forward => rows.take(scan.limit).try_for_each(&mut visit_row),
            Direction::Reverse => rows.rev().take(scan.limit).try_for_each(&mut visit_row),
        }
    }
}

/// The same store read through one snapshot: `get_many` without a pin of its own, and pages in place of iterators.
#[derive(Debug)]
pub(crate) struct SnapshotReads(pub(crate) Snapshot);

impl Reads for SnapshotReads {
    const SCAN_LIMIT: ScanLimit = ScanLimit::Rows(SCAN_ENTRIES);

    fn get(&self, table: EntryKind, key: &Key) -> Result<Option<Bytes>> {
        self.0.get(table, key)
    }

    fn get_at(&self, table: EntryKind, key: &Key, _at: Version) -> Result<Option<Bytes>> {
        self.0.get(table, key)
    }

    fn get_many(&self, table: EntryKind, keys: &[Key; MANY_KEYS]) -> Result<Vec<Option<Bytes>>> {
        self.0.get_many(table, keys)
    }

    fn scan(&self, scan: ScanOf<'_>, mut visit: impl FnMut(&[u8], &[u8])) -> Result<()> {
        let page = match scan.direction {
            Direction::Forward => self.0.page(scan.table, range_of(&scan), scan.limit)?,
            Direction::Reverse => self.0.page_rev(scan.table, range_of(&scan), scan.limit)?,
        };
        page.entries.iter().for_each(|(key, value)| visit(key, value));
        Ok(())
    }
}

fn range_of(scan: &ScanOf<'_>) -> KeyRange {
    match scan.direction {
        Direction::Forward => KeyRange::new::<Key>(*scan.from..),
        Direction::Reverse => KeyRange::new::<Key>(..=*scan.from),
    }
}

/// Adds what `round` writes to key `index`; `value` is room to make the value in.
pub(crate) fn write(batch: &mut Batch, workload: &Workload, index: u32, round: u32, value: &mut Vec<u8>) {
    let (table, key) = (table_of(index), workload.key(index));
    if workload.is_tombstone(index, round) {
        batch.remove(table, &key);
    } else {
        workload.write_value(index, round, value);
        batch.put(table, &key, value);
    }
}

/// An empty batch with room for a commit of the workloads.
pub(crate) fn batch_of(entries: usize) -> Batch {
    Batch::with_capacity(entries, entries * (KEY_SIZE_BYTES + VALUE_SIZE_BYTES))
}

/// Commits the rounds in order.
pub(crate) fn load(store: &Inner, workload: &Workload, rounds: &[Vec<u32>]) -> Outcome<()> {
    (0..).zip(rounds).try_for_each(|(round, order)| load_round(store, workload, round, order))
}

/// Commits one round.
pub(crate) fn load_round(store: &Inner, workload: &Workload, round: u32, order: &[u32]) -> Outcome<()> {
    let mut value = Vec::new();
    for commit in order.chunks(COMMIT_ENTRIES) {
        let mut batch = batch_of(commit.len());
        for index in commit {
            write(&mut batch, workload, *index, round, &mut value);
        }
        store.commit(batch)?;
    }
    Ok(())
}

/// Loads the whole workload from as many threads as there are lists of rounds, each tied to a processor of its own; the time runs until
/// the last has finished.
pub(crate) fn timed_load(bench: &Bench, store: &Inner, workload: &Workload, committers: &[Vec<Vec<u32>>]) -> Outcome<Sample> {
    let barrier = Barrier::new(committers.len() + 1);
    let committer = |number: usize, rounds: &[Vec<u32>]| {
        let pinned = pin(bench.cpu_of(number));
        barrier.wait();
        pinned?;
        Timed::of(workload.entries(), || load(store, workload, rounds))
    };
    let (meter, began, timed) = std::thread::scope(|scope| {
        let committer = &committer;
        let threads: Vec<_> =
            committers.iter().enumerate().map(|(number, rounds)| scope.spawn(move || committer(number, rounds))).collect();
        barrier.wait();
        let (meter, began) = (Meter::start(), Instant::now());
        let timed: Vec<Outcome<Timed>> = threads.into_iter().map(join).collect();
        (meter, began, timed)
    });
    let wall = began.elapsed();
    let load = meter.stop();
    let timed: Vec<Timed> = timed.into_iter().collect::<Outcome<_>>()?;
    let expected = workload.last_version();
    if store.last_version() != expected {
        return Err(Failure::Wrong(format!("the load ended at version {}, not {expected}", store.last_version())));
    }
    let cpu = if let [only] = timed[..] { only.cpu } else { std::time::Duration::ZERO };
    Ok(Sample::of(&Timed { units: workload.entries(), wall, cpu }, load))
}

/// A store that holds the workload, all of whose bytes have reached the disk, so that write-back disturbs nothing later.
pub(crate) fn loaded(bench: &mut Bench, workload: &Workload) -> Outcome<Placed> {
    let placed = Placed::fresh(bench)?;
    load(&placed.store, workload, &workload.commits())?;
    placed.store.sync()?;
    Ok(placed)
}
