//! Whether an engine answers as a model does: the adapters' test.
//!
//! What an engine has no way to do is listed, not failed.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::Path;

use thermocline_yardstick::engine::{At, Direction, Durability, Engine, Options, Scan, Skip, Table, Write};
use thermocline_yardstick::failure::{Failure, Outcome};

const TABLES: u8 = 4;
const KEYS: u64 = 75;
const COMMITS: u64 = 200;
const WRITES_PER_COMMIT: u64 = 15;
const VALUE_SIZE_BYTES: usize = 100;
const KEY_SIZE_BYTES: usize = 16;
const CACHE_BYTES: u64 = 64 << 20;
const DATA_BYTES: u64 = 16 << 20;
const ROUNDS: u64 = 400;
const THREADS: u64 = 2;
const COMMITS_PER_THREAD: u64 = 20;
/// More than the threads take, even if some commits were tried again.
const VERSIONS_FOR_THREADS: u64 = 100;

type Key = Vec<u8>;
type Value = Vec<u8>;
type Row = (Key, Value);
type Changed = (Key, Option<Value>, Option<Value>);

/// Numbers that look random and are the same in each run: splitmix64.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn table(&mut self) -> Table {
        u8::try_from(self.below(u64::from(TABLES))).unwrap_or_default()
    }
}

/// A key of 16 bytes. Those of odd numbers are never written.
fn key(number: u64) -> Key {
    format!("key{number:013}").into_bytes()
}

fn value(version: u64, table: Table, key: u64) -> Value {
    format!("{version} {table} {key} ").into_bytes().into_iter().cycle().take(VALUE_SIZE_BYTES).collect()
}

/// Every entry that was committed.
#[derive(Default)]
struct Model {
    entries: BTreeMap<(Table, Key), BTreeMap<u64, Option<Value>>>,
    last: u64,
}

impl Model {
    fn get(&self, table: Table, key: &[u8], at: At) -> Option<Value> {
        self.entries.get(&(table, key.to_vec()))?.range(..=at.bound()).next_back()?.1.clone()
    }

    fn keys(&self, table: Table) -> impl DoubleEndedIterator<Item = &Key> {
        self.entries.range((table, Key::new())..(table + 1, Key::new())).map(|((_, key), _)| key)
    }

    fn scan(&self, scan: &Scan<'_>) -> Vec<Row> {
        let row = |key: &Key| Some((key.clone(), self.get(scan.table, key, scan.at)?));
        let keys = self.keys(scan.table);
        match scan.direction {
            Direction::Forward => {
                keys.filter(|key| scan.from.is_none_or(|from| key.as_slice() >= from)).filter_map(row).take(scan.limit).collect()
            }
            Direction::Reverse => keys
                .rev()
                .filter(|key| scan.from.is_none_or(|from| key.as_slice() <= from))
                .filter_map(row)
                .take(scan.limit)
                .collect(),
        }
    }

    fn diff(&self, table: Table, from: u64, to: u64) -> Vec<Changed> {
        self.keys(table)
            .map(|key| (key.clone(), self.get(table, key, At::Version(from)), self.get(table, key, At::Version(to))))
            .filter(|(_, before, after)| before != after)
            .collect()
    }
}

/// A check under way.
struct Check<E> {
    engine: E,
    model: Model,
    numbers: Numbers,
    unsupported: Vec<String>,
    /// The lowest version that may still be read.
    lowest: u64,
    has_thread_keys: bool,
}

fn agree<T: PartialEq + Debug>(what: impl FnOnce() -> String, answer: &T, expected: &T) -> Result<(), String> {
    if answer == expected { Ok(()) } else { Err(format!("{}: answered {answer:?}, the model says {expected:?}", what())) }
}

impl<E: Engine> Check<E> {
    /// The outcome as a message; what is unsupported is noted and gives `None`.
    fn note<T>(&mut self, what: &str, outcome: Outcome<T>) -> Result<Option<T>, String> {
        match outcome {
            Ok(answer) => Ok(Some(answer)),
            Err(Failure::Unsupported(reason)) => {
                let line = format!("{what}: {reason}");
                if !self.unsupported.contains(&line) {
                    self.unsupported.push(line);
                }
                Ok(None)
            }
            Err(failure) => Err(format!("{what}: {failure}")),
        }
    }

    /// The latest, the newest version, one before all, or any between.
    fn at(&mut self) -> At {
        let span = self.model.last + 1 - self.lowest;
        match self.numbers.below(8) {
            0 | 1 => At::Latest,
            2 => At::Version(self.model.last),
            3 => At::Version(self.lowest),
            _ => At::Version(self.lowest + self.numbers.below(span)),
        }
    }

    /// Commits what is random to engine and model, or to neither.
    fn commit(&mut self, durability: Durability) -> Result<(), String> {
        let version = self.model.last + 1;
        let mut writes = BTreeMap::new();
        for _ in 0..WRITES_PER_COMMIT {
            let (table, number) = (self.numbers.table(), 2 * self.numbers.below(KEYS));
            let is_deletion = self.numbers.below(5) == 0;
            writes.insert((table, key(number)), (!is_deletion).then(|| value(version, table, number)));
        }
        let batch: Vec<_> =
            writes.iter().map(|((table, key), value)| Write { table: *table, key, value: value.as_deref() }).collect();
        let outcome = self.engine.commit(Some(version), &batch, durability);
        if self.note(&format!("commit {durability:?}"), outcome)?.is_some() {
            for (place, value) in writes {
                self.model.entries.entry(place).or_default().insert(version, value);
            }
            self.model.last = version;
        }
        Ok(())
    }

    fn check_get(&mut self) -> Result<(), String> {
        let (table, key, at) = (self.numbers.table(), key(self.numbers.below(2 * KEYS + 4)), self.at());
        let mut answers = Vec::new();
        let outcome = self.engine.get(table, &key, at, &mut |value| answers.push(value.map(<[u8]>::to_vec)));
        if self.note(if at == At::Latest { "get latest" } else { "get as of" }, outcome)?.is_some() {
            agree(|| format!("get {table} {key:?} {at:?}"), &answers, &vec![self.model.get(table, &key, at)])?;
        }
        Ok(())
    }

    fn check_get_many(&mut self) -> Result<(), String> {
        let (table, at) = (self.numbers.table(), self.at());
        let keys: Vec<_> = (0..10).map(|_| key(self.numbers.below(2 * KEYS + 4))).collect();
        let slices: Vec<_> = keys.iter().map(Key::as_slice).collect();
        let mut answers = Vec::new();
        let outcome = self.engine.get_many(table, &slices, at, &mut |value| answers.push(value.map(<[u8]>::to_vec)));
        if self.note("get_many", outcome)?.is_some() {
            let expected: Vec<_> = keys.iter().map(|key| self.model.get(table, key, at)).collect();
            agree(|| format!("get_many {table} {at:?}"), &answers, &expected)?;
        }
        Ok(())
    }

    fn check_scan(&mut self) -> Result<(), String> {
        let from = (self.numbers.below(4) > 0).then(|| key(self.numbers.below(2 * KEYS + 4)));
        let limit = [1, 7, 1000].get(usize::try_from(self.numbers.below(3)).unwrap_or_default()).copied().unwrap_or(1);
        let (table, at) = (self.numbers.table(), self.at());
        for direction in [Direction::Forward, Direction::Reverse] {
            for skip in [Skip::Step, Skip::Seek] {
                let scan = Scan { table, from: from.as_deref(), direction, at, limit, skip };
                let mut answers = Vec::new();
                let outcome = self.engine.scan(&scan, &mut |key, value| answers.push((key.to_vec(), value.to_vec())));
                if self.note(&format!("scan {direction:?}"), outcome)?.is_some() {
                    agree(|| format!("{scan:?}"), &answers, &self.model.scan(&scan))?;
                }
            }
        }
        Ok(())
    }

    fn check_diff(&mut self) -> Result<(), String> {
        let span = self.model.last + 1 - self.lowest;
        let (table, first, second) =
            (self.numbers.table(), self.lowest + self.numbers.below(span), self.lowest + self.numbers.below(span));
        let (from, to) = (first.min(second), first.max(second));
        let mut answers = Vec::new();
        let skip = if self.numbers.below(2) == 0 { Skip::Step } else { Skip::Seek };
        let outcome = self.engine.diff(table, from, to, skip, &mut |key, before, after| {
            answers.push((key.to_vec(), before.map(<[u8]>::to_vec), after.map(<[u8]>::to_vec)));
        });
        if self.note("diff", outcome)?.is_some() {
            agree(|| format!("diff {table} {from} {to}"), &answers, &self.model.diff(table, from, to))?;
        }
        Ok(())
    }

    fn check_reads(&mut self, when: &str) -> Result<(), String> {
        for round in 0..ROUNDS {
            let with_place = |message| format!("{when}, {message}");
            self.check_get().map_err(with_place)?;
            self.check_get_many().map_err(with_place)?;
            self.check_scan().map_err(with_place)?;
            if round % 20 == 0 {
                self.check_diff().map_err(with_place)?;
            }
        }
        Ok(())
    }

    fn settle(&mut self) -> Result<(), String> {
        let outcome = self.engine.settle().and_then(|()| self.engine.compact());
        self.note("settle", outcome).map(|_| ())
    }

    /// Commits without versions from several threads, each to a key of its own in a table that nothing else uses.
    fn check_threads(&mut self) -> Result<(), String> {
        let engine = &self.engine;
        let commit_all = |thread: u64| {
            (0..COMMITS_PER_THREAD).try_for_each(|round| {
                let (key, value) = (key(thread), value(round, TABLES, thread));
                engine.commit(None, &[Write { table: TABLES, key: &key, value: Some(&value) }], Durability::Buffered)
            })
        };
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || commit_all(thread))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap_or(Err(Failure::Panicked))).collect()
        });
        for outcome in outcomes {
            if self.note("commit without version", outcome)?.is_none() {
                return Ok(());
            }
        }
        // Which versions they took is the engine's own affair; the next one of the model is above.
        self.model.last += VERSIONS_FOR_THREADS;
        self.has_thread_keys = true;
        self.check_thread_keys()
    }

    fn check_thread_keys(&mut self) -> Result<(), String> {
        for thread in 0..if self.has_thread_keys { THREADS } else { 0 } {
            let expected = vec![Some(value(COMMITS_PER_THREAD - 1, TABLES, thread))];
            let mut answers = Vec::new();
            let outcome = self.engine.get(TABLES, &key(thread), At::Latest, &mut |value| answers.push(value.map(<[u8]>::to_vec)));
            if self.note("get latest", outcome)?.is_some() {
                agree(|| format!("get after the commits of thread {thread}"), &answers, &expected)?;
            }
        }
        Ok(())
    }
}

/// Runs an engine in an empty directory against a model, once told of the length of keys and once not. Returns what the engine has
/// no way to do.
///
/// # Errors
/// The first answer that the model does not give, or the engine's failure.
pub fn check<E: Engine>(directory: &Path) -> Result<Vec<String>, String> {
    let mut unsupported = Vec::new();
    for (name, key_len) in [("fixed", Some(KEY_SIZE_BYTES)), ("open", None)] {
        let directory = directory.join(name);
        std::fs::create_dir(&directory).map_err(|error| format!("cannot make a directory: {error}"))?;
        unsupported = check_with::<E>(&Options {
            directory,
            cache_bytes: CACHE_BYTES,
            data_bytes: DATA_BYTES,
            key_len,
            value_len: None,
            has_durable_commits: false,
        })?;
    }
    Ok(unsupported)
}

/// Commits, reads of all kinds, reclaim, reopening, threads.
fn check_with<E: Engine>(options: &Options) -> Result<Vec<String>, String> {
    let open = || E::open(options).map_err(|failure| format!("{}: open: {failure}", E::NAME));
    let mut check = Check {
        engine: open()?,
        model: Model::default(),
        numbers: Numbers(7),
        unsupported: Vec::new(),
        lowest: 1,
        has_thread_keys: false,
    };
    let with_name = |message| format!("{}: {message}", E::NAME);
    let close = |engine: E| engine.close().map_err(|failure| format!("{}: close: {failure}", E::NAME));

    check.commit(Durability::Sync).map_err(with_name)?;
    for _ in 0..COMMITS {
        check.commit(Durability::Buffered).map_err(with_name)?;
    }
    check.check_reads("fresh").map_err(with_name)?;
    check.check_threads().map_err(with_name)?;
    check.settle().map_err(with_name)?;
    check.check_reads("at rest").map_err(with_name)?;

    close(check.engine)?;
    check.engine = open()?;
    check.check_reads("reopened").map_err(with_name)?;

    let half = COMMITS / 2;
    let reclaimed = check.engine.reclaim(half);
    if check.note("reclaim", reclaimed).map_err(with_name)?.is_some() {
        check.lowest = half;
        check.check_reads("reclaimed").map_err(with_name)?;
        check.settle().map_err(with_name)?;
    }
    for _ in 0..COMMITS / 10 {
        check.commit(Durability::Buffered).map_err(with_name)?;
    }
    check.commit(Durability::Sync).map_err(with_name)?;
    check.check_reads("after more commits").map_err(with_name)?;
    check.check_threads().map_err(with_name)?;

    close(check.engine)?;
    check.engine = open()?;
    check.check_reads("reopened again").map_err(with_name)?;
    check.check_thread_keys().map_err(with_name)?;
    close(check.engine)?;
    Ok(check.unsupported)
}
