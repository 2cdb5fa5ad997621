//! Migration through the store: watermarks, passes, dry runs, snapshots beside them, and hooks that call back.

#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a crash leaves a copy of a directory")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use thermocline::{
    Background, Batch, Durability, ErrorKind, HookError, KeyRange, Migrate, MigrationContext, MigrationContextSource,
    MigrationScope, NoMigration, PassScope, Store, StoredRow, Strategy, Summary, Table, TierSet, Version,
};

const ROWS: Table = Table::source(1);
const OTHERS: Table = Table::source(2);

/// The lowest first byte of any value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Lowest(Option<u8>);

impl Summary for Lowest {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.0);
    }

    fn decode(bytes: &[u8]) -> Result<Self, HookError> {
        match bytes {
            [] => Ok(Self(None)),
            [lowest] => Ok(Self(Some(*lowest))),
            _ => Err("more than a byte".into()),
        }
    }

    fn merge(&mut self, other: &Self) {
        self.0 = self.0.into_iter().chain(other.0).min();
    }
}

#[derive(Debug, Default)]
struct Shared {
    target: AtomicU64,
    fails: AtomicBool,
    observing_fails: AtomicBool,
    drops: AtomicBool,
    /// What it calls back, and how that went.
    store: OnceLock<Store<Raise>>,
    answers: Mutex<Vec<String>>,
}

/// Raises the first byte of values to a target.
#[derive(Clone, Debug, Default)]
struct Raise(Arc<Shared>);

#[derive(Debug)]
struct Target(u8);

impl MigrationContext for Target {
    fn id(&self) -> u64 {
        u64::from(self.0)
    }
}

impl MigrationContextSource for Raise {
    type Context = Target;

    fn context(&self) -> Result<Target, HookError> {
        Ok(Target(u8::try_from(self.0.target.load(Ordering::Relaxed))?))
    }
}

impl Strategy for Raise {
    type Summary = Lowest;
    type Context = Target;
    type ContextSource = Self;

    fn name(&self) -> &'static str {
        "raise"
    }

    fn contexts(&self) -> &Self {
        self
    }

    fn observe(&self, lowest: &mut Lowest, row: &StoredRow<'_>) -> Result<(), HookError> {
        if self.0.observing_fails.load(Ordering::Relaxed) {
            return Err("it looks away".into());
        }
        lowest.merge(&Lowest(row.value()?.first().copied()));
        Ok(())
    }

    fn migrate(&self, target: &mut Target, lowest: &mut Lowest, row: &StoredRow<'_>) -> Result<Migrate, HookError> {
        if self.0.fails.load(Ordering::Relaxed) && row.table == ROWS {
            return Err("no catalog today".into());
        }
        if let Some(store) = self.0.store.get() {
            call_back(store, &mut self.0.answers.lock().unwrap());
        }
        let value = row.value()?;
        lowest.merge(&Lowest(Some(value[0].max(target.0))));
        Ok(if value[0] >= target.0 {
            Migrate::Unchanged
        } else {
            Migrate::Modified { value: Some([&[target.0], &value[1..]].concat().into()), suffix: None }
        })
    }

    fn filter(&self, _target: &mut Target, row: &StoredRow<'_>) -> Result<bool, HookError> {
        Ok(self.0.drops.load(Ordering::Relaxed) && row.value()?.ends_with(b"expired"))
    }
}

fn call_back(store: &Store<Raise>, answers: &mut Vec<String>) {
    if !answers.is_empty() {
        return;
    }
    let mut note = |what: &str, answer: thermocline::Result<()>| {
        answers.push(format!("{what}: {}", answer.map_or_else(|error| error.to_string(), |()| "done".to_owned())));
    };
    note("get", store.get(ROWS, b"key 0").map(drop));
    note("scan", store.snapshot().map(|snapshot| snapshot.scan(ROWS, KeyRange::all()).for_each(drop)));
    note("commit", store.commit(Batch::new()).map(drop));
    note("flush", store.flush());
    note("compact", store.compact(ROWS, &KeyRange::all()));
    note("wait_idle", store.wait_idle());
    note("step", store.step().map(drop));
    note("pass", store.compact_all(&PassScope::All).map(drop));
    note("close", store.close());
}

fn open_with(directory: &Path, strategy: &Raise, background: Background) -> Store<Raise> {
    Store::builder(directory)
        .durability(Durability::Buffered)
        .background(background)
        .memory_budget(1 << 20)
        .hot_budget(64 << 10)
        .strategy(strategy.clone())
        .open()
        .unwrap()
}

/// Without threads.
fn open(directory: &Path, strategy: &Raise) -> Store<Raise> {
    open_with(directory, strategy, Background::ByHand)
}

/// Bytes that do not shrink.
fn noise(place: u64) -> u8 {
    let mixed = place.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 56) as u8
}

/// Commits rows whose values begin with a byte, and flushes them.
fn fill(store: &Store<Raise>, table: Table, keys: std::ops::Range<u32>, first: u8) -> Version {
    let mut batch = Batch::new();
    for key in keys {
        let noise = (0..500_u64).map(|at| noise(u64::from(key) << 32 | at));
        let value: Vec<u8> = std::iter::once(first).chain(noise).collect();
        batch.put(table, format!("key {key}").as_bytes(), &value);
    }
    let version = store.commit(batch).unwrap();
    store.flush().unwrap();
    version
}

fn lowest(store: &Store<Raise>) -> Option<u8> {
    store.live_summary().unwrap().0
}

fn raised(target: u64) -> Raise {
    let strategy = Raise::default();
    strategy.0.target.store(target, Ordering::Relaxed);
    strategy
}

#[test]
fn watermark_counts_what_is_in_memory_and_is_none_of_an_empty_store() {
    let (directory, strategy) = (tempfile::tempdir().unwrap(), raised(2));
    let store = open(directory.path(), &strategy);
    assert_eq!((lowest(&store), store.summaries().unwrap().len()), (None, 0));
    assert!(store.migration_status(|_| true).unwrap().files == (0, 0));
    let mut batch = Batch::new();
    batch.put(ROWS, b"k", &[1]);
    store.commit(batch).unwrap();
    assert_eq!((lowest(&store), store.summaries().unwrap().len()), (Some(1), 0));
    assert_eq!(store.memory_summary().unwrap(), Lowest(Some(1)));
    assert!(store.migration_status(|lowest| lowest.0.is_some_and(|lowest| lowest < 2)).unwrap().is_in_memory);
    store.flush().unwrap();
    assert_eq!((lowest(&store), store.memory_summary().unwrap()), (Some(1), Lowest(None)));
    store.close().unwrap();
    assert_eq!(store.live_summary().unwrap_err().kind(), &ErrorKind::Closed);
    let store = open(directory.path(), &strategy);
    assert_eq!(lowest(&store), Some(1), "what was noted survives");
}

#[test]
fn pass_brings_every_settled_row_along_and_says_how_far_it_is() {
    let (directory, strategy) = (tempfile::tempdir().unwrap(), raised(2));
    let store = open(directory.path(), &strategy);
    for round in 0..10 {
        fill(&store, ROWS, round * 100..round * 100 + 200, 1);
    }
    let settled = fill(&store, OTHERS, 0..10, 1);
    store.set_horizon(settled).unwrap();
    store.run_until_idle();
    let is_old = |lowest: &Lowest| lowest.0.is_some_and(|lowest| lowest < 3);
    strategy.0.target.store(3, Ordering::Relaxed);
    let before = store.migration_status(is_old).unwrap();
    assert!(before.files.0 > 3 && before.files.0 == before.files.1 && before.keys.0 >= 1110, "{before:?}");

    let mut pass = store.compact_all(&PassScope::All).unwrap();
    assert_eq!(pass.progress().files_left, before.files.0);
    assert_eq!(pass.progress().bytes_left, before.bytes.0);
    let mut files_left = before.files.0;
    let mut calls = 0;
    let progress = pass
        .run_with(|progress| {
            calls += 1;
            assert!(progress.files_left < files_left && progress.files_done + progress.files_left == before.files.0);
            files_left = progress.files_left;
        })
        .unwrap()
        .clone();
    assert!(calls > 1);
    assert_eq!((progress.files_left, progress.bytes_left, progress.bytes_done), (0, 0, before.bytes.0));
    assert_eq!((progress.migrated.modified, &progress.migrated.contexts[..]), (1110, &[3][..]));
    assert!(store.migration_status(is_old).unwrap().is_done());
    assert_eq!(lowest(&store), Some(3));
    assert!(!store.compact_all(&PassScope::All).unwrap().step().unwrap(), "nothing is left to do");
    assert_eq!(store.get(ROWS, b"key 5").unwrap().unwrap()[0], 3);
}

#[test]
fn pass_can_be_limited_held_up_cancelled_and_taken_up_again() {
    let (directory, strategy) = (tempfile::tempdir().unwrap(), raised(2));
    let store = open(directory.path(), &strategy);
    let settled = (0..10).map(|round| fill(&store, ROWS, round * 100..round * 100 + 100, 1)).fold(Version::ZERO, Version::max);
    store.set_horizon(settled).unwrap();
    store.run_until_idle();
    let last = fill(&store, OTHERS, 0..10, 1);
    store.set_horizon(last).unwrap();
    store.compact(OTHERS, &KeyRange::all()).unwrap();
    strategy.0.target.store(4, Ordering::Relaxed);
    let left = |scope: PassScope| store.compact_all(&scope).unwrap().progress().files_left;
    let all = left(PassScope::All);
    assert_eq!(left(PassScope::Table(ROWS)) + left(PassScope::Table(OTHERS)), all);
    assert_eq!(left(PassScope::Range(ROWS, KeyRange::new("z"..))), 0);

    let mut pass = store.compact_all(&PassScope::Table(ROWS)).unwrap();
    let control = pass.control();
    let progress = pass.run_with(|_| control.cancel()).unwrap();
    assert!(progress.is_cancelled && progress.files_done == 1 && progress.files_left > 0, "{progress:?}");
    let done = progress.files_done;
    drop(pass);
    // As after a crash: the store is not closed, and a copy of its directory is opened.
    let (copy, image) = (tempfile::tempdir().unwrap(), directory.path());
    for file in std::fs::read_dir(image).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    let reopened = open(copy.path(), &strategy);
    let mut pass = reopened.compact_all(&PassScope::All).unwrap();
    assert_eq!(pass.progress().files_left, all - done, "it goes on where it stopped");
    assert_eq!(pass.run().unwrap().files_left, 0);
    assert_eq!(lowest(&reopened), Some(4));

    let mut pass = store.compact_all(&PassScope::All).unwrap();
    let control = pass.control();
    control.pause();
    control.throttle(Some(u64::MAX));
    let running = std::thread::scope(|scope| {
        let running = scope.spawn(move || pass.run().unwrap().clone());
        control.resume();
        running.join().unwrap()
    });
    assert_eq!((running.files_left, running.is_cancelled), (0, false));
    assert_eq!(lowest(&store), Some(4));
}

#[test]
fn driving_rewrites_just_what_is_behind_and_leaves_what_is_not_settled() {
    let (directory, strategy) = (tempfile::tempdir().unwrap(), raised(5));
    let store = open(directory.path(), &strategy);
    let settled = fill(&store, ROWS, 0..10, 1);
    fill(&store, OTHERS, 0..10, 2);
    store.set_horizon(settled).unwrap();
    let is_old = |lowest: &Lowest| lowest.0.is_some_and(|lowest| lowest < 2);
    let mut pass = store.drive_to(is_old).unwrap();
    assert!(pass.progress().files_left > 0);
    pass.run().unwrap();
    assert!(store.migration_status(is_old).unwrap().is_done());
    assert_eq!(lowest(&store), Some(2), "those that were not asked for, or not settled, are as they were");
    let is_old = |lowest: &Lowest| lowest.0.is_some_and(|lowest| lowest < 5);
    let progress = store.drive_to(is_old).unwrap().run().unwrap().clone();
    assert_eq!(
        (progress.files_left, store.migration_status(is_old).unwrap().is_done()),
        (0, false),
        "they cannot be driven further"
    );
    store.set_horizon(store.last_version()).unwrap();
    store.drive_to(is_old).unwrap().run().unwrap();
    assert!(store.migration_status(is_old).unwrap().is_done());
}

#[test]
fn dry_run_says_what_would_change_and_changes_nothing() {
    let (directory, strategy) = (tempfile::tempdir().unwrap(), raised(2));
    let store = open(directory.path(), &strategy);
    fill(&store, ROWS, 0..100, 1);
    fill(&store, OTHERS, 0..50, 2);
    store.set_horizon(store.last_version()).unwrap();
    let files = store.files();
    let found = store.dry_run(u64::MAX).unwrap();
    assert_eq!((found.rows, found.offered, found.modified, found.filtered), (150, 150, 100, 0));
    assert_eq!(found.bytes, (100 * 501, 100 * 501));
    assert!(found.failure.is_none());
    let sampled = store.dry_run(20).unwrap();
    assert!(sampled.rows == 20 && sampled.modified > 0 && sampled.modified < 20, "{sampled:?}");
    strategy.0.fails.store(true, Ordering::Relaxed);
    let failing = store.dry_run(u64::MAX).unwrap();
    assert!(failing.failure.unwrap().to_string().contains("no catalog today"));
    assert_eq!((store.files(), lowest(&store)), (files, Some(1)));
}

#[test]
fn hook_that_fails_shows_in_the_statistics_and_the_store_goes_on() {
    let (directory, strategy) = (tempfile::tempdir().unwrap(), raised(2));
    let store = open(directory.path(), &strategy);
    fill(&store, ROWS, 0..100, 1);
    store.set_horizon(store.last_version()).unwrap();
    strategy.0.fails.store(true, Ordering::Relaxed);
    let failed = store.compact_all(&PassScope::All).unwrap().run().unwrap_err();
    assert!(matches!(failed.kind(), ErrorKind::CallbackFailed { .. }), "{failed}");
    let migration = store.stats().migration.unwrap();
    assert_eq!((migration.failures, migration.done.modified), (1, 0));
    assert!(migration.last_failure.unwrap().to_string().contains("no catalog today"));
    assert_eq!(store.stats().health, thermocline::Health::Healthy);
    fill(&store, ROWS, 100..200, 2);
    assert_eq!(store.get(ROWS, b"key 7").unwrap().unwrap()[0], 1);
    strategy.0.fails.store(false, Ordering::Relaxed);
    store.set_horizon(store.last_version()).unwrap();
    store.compact_all(&PassScope::All).unwrap().run().unwrap();
    assert_eq!(lowest(&store), Some(2));
}

#[test]
fn hooks_may_read_the_store_and_change_nothing() {
    let (directory, strategy) = (tempfile::tempdir().unwrap(), raised(2));
    let store = open(directory.path(), &strategy);
    fill(&store, ROWS, 0..3, 1);
    store.set_horizon(store.last_version()).unwrap();
    strategy.0.store.set(store.clone()).unwrap();
    store.compact_all(&PassScope::All).unwrap().run().unwrap();
    let answers = strategy.0.answers.lock().unwrap().clone();
    let (reads, others) = answers.split_at(2);
    assert_eq!(reads, ["get: done", "scan: done"]);
    assert_eq!(others.len(), 7);
    assert!(others.iter().all(|answer| answer.contains("was called by a hook")), "{others:?}");
    assert_eq!(store.get(ROWS, b"key 0").unwrap().unwrap()[0], 2);
}

#[test]
fn snapshots_see_the_same_rows_beside_a_migration_and_unsettled_ones_with_the_same_bytes() {
    let (directory, strategy) = (tempfile::tempdir().unwrap(), raised(2));
    let store = open_with(directory.path(), &strategy, Background::Thread);
    let first = fill(&store, ROWS, 0..200, 1);
    let early = store.snapshot().unwrap();
    fill(&store, ROWS, 100..300, 1);
    let late = store.snapshot().unwrap();
    store.pin("report", late.version()).unwrap();
    let read = |snapshot: &thermocline::Snapshot| -> BTreeMap<Vec<u8>, Vec<u8>> {
        snapshot
            .scan(ROWS, KeyRange::all())
            .map(|row| row.map(|(key, value)| (key.to_vec(), value.to_vec())))
            .collect::<Result<_, _>>()
            .unwrap()
    };
    let (early_before, late_before) = (read(&early), read(&late));
    fill(&store, ROWS, 0..300, 1);
    store.set_horizon(store.last_version()).unwrap();
    for target in 3..6 {
        strategy.0.target.store(target, Ordering::Relaxed);
        store.compact_all(&PassScope::All).unwrap().run().unwrap();
        let (early_now, late_now) = (read(&early), read(&late));
        let rest = |rows: &BTreeMap<Vec<u8>, Vec<u8>>| {
            rows.iter().map(|(key, value)| (key.clone(), value[1..].to_vec())).collect::<Vec<_>>()
        };
        assert_eq!((rest(&early_now), rest(&late_now)), (rest(&early_before), rest(&late_before)), "the same rows");
        for (key, value) in &late_now {
            // The oldest pin is `early`: what it does not see is not settled.
            let is_settled = early_before.contains_key(key) && early_now[key] == *value;
            assert!(is_settled || *value == late_before[key], "{}", key.escape_ascii());
        }
    }
    assert!(read(&early).values().all(|value| value[0] == 5), "settled at {first}");
    drop(early);
    store.release_pin("report").unwrap();
    drop(late);
    store.compact_all(&PassScope::All).unwrap().run().unwrap();
    assert_eq!(lowest(&store), Some(5));
}

#[test]
fn watermark_never_passes_a_row_that_lives_while_all_goes_on_at_once() {
    let (directory, strategy) = (tempfile::tempdir().unwrap(), raised(1));
    let store = open_with(directory.path(), &strategy, Background::Thread);
    // Rows are written with a target that is never lowered; a key in each commit says with which.
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..400_u32 {
                let target = u8::try_from(strategy.0.target.load(Ordering::Relaxed)).unwrap();
                let mut batch = Batch::new();
                for key in 0..20 {
                    batch.put(
                        ROWS,
                        format!("key {}", (round * 7 + key * 31) % 500).as_bytes(),
                        &[&[target][..], &[b'v'; 300]].concat(),
                    );
                }
                store.commit(batch).unwrap();
                if round % 40 == 39 {
                    store.set_horizon(store.last_version()).unwrap();
                    strategy.0.target.fetch_add(1, Ordering::Relaxed);
                }
            }
            is_over.store(true, Ordering::Release);
        });
        let mut checks = 0;
        while !is_over.load(Ordering::Acquire) || checks < 10 {
            let snapshot = store.snapshot().unwrap();
            let watermark = lowest(&store);
            let rows = snapshot.scan(ROWS, KeyRange::all()).map(|row| row.unwrap().1[0]).min();
            assert!(rows.is_none() || watermark.is_some_and(|watermark| Some(watermark) <= rows), "{watermark:?} above {rows:?}");
            if checks % 8 == 7 {
                store.compact_all(&PassScope::All).unwrap().run().unwrap();
            }
            checks += 1;
        }
    });
    store.set_horizon(store.last_version()).unwrap();
    store.compact_all(&PassScope::All).unwrap().run().unwrap();
    assert_eq!(lowest(&store), Some(11));
    store.verify().unwrap();
}

#[test]
fn rows_that_expire_go_unless_a_snapshot_sees_them() {
    let (directory, strategy) = (tempfile::tempdir().unwrap(), raised(1));
    let store = open(directory.path(), &strategy);
    let mut batch = Batch::new();
    batch.put(ROWS, b"a", b"\x01 stays").put(ROWS, b"b", b"\x01 expired");
    store.commit(batch).unwrap();
    store.set_horizon(store.last_version()).unwrap();
    strategy.0.drops.store(true, Ordering::Relaxed);
    let snapshot = store.snapshot().unwrap();
    assert_eq!(store.dry_run(10).unwrap().rows, 0, "it is in no file");
    store.compact_all(&PassScope::All).unwrap().run().unwrap();
    assert_eq!(snapshot.scan(ROWS, KeyRange::all()).count(), 2);
    drop(snapshot);
    store.compact(ROWS, &KeyRange::all()).unwrap();
    strategy.0.target.store(2, Ordering::Relaxed);
    store.compact_all(&PassScope::All).unwrap().run().unwrap();
    assert_eq!(store.snapshot().unwrap().scan(ROWS, KeyRange::all()).count(), 1);
    assert_eq!(store.stats().migration.unwrap().done.filtered, 1);
}

#[test]
fn segments_without_wanted_rows_are_skipped_but_for_those_that_hide_something() {
    let (directory, strategy) = (tempfile::tempdir().unwrap(), raised(0));
    let store = open(directory.path(), &strategy);
    fill(&store, ROWS, 0..10, 9);
    store.compact(ROWS, &KeyRange::all()).unwrap();
    let mut batch = Batch::new();
    batch.remove(ROWS, b"key 3");
    batch.put(ROWS, b"key 4", b"\x01");
    store.commit(batch).unwrap();
    store.flush().unwrap();
    // Keys behind all others.
    fill(&store, ROWS, 900..910, 1);
    let count = |skip_below: u8| {
        let rows = store.snapshot().unwrap().scan(ROWS, KeyRange::all());
        let rows = rows.skip_segments(move |lowest: &Lowest| lowest.0.is_some_and(|lowest| lowest < skip_below));
        rows.map(|row| row.unwrap().1[0])
            .fold([0, 0], |[old, new], first| if first < 9 { [old + 1, new] } else { [old, new + 1] })
    };
    assert_eq!(count(0), [11, 8]);
    assert_eq!(count(9), [1, 8], "the deletion still hides key 3, and the new key 4 the old one");
}

#[test]
fn strategy_and_layout_must_agree_and_need_files() {
    let directory = tempfile::tempdir().unwrap();
    let other = Store::builder(directory.path().join("a")).layout(thermocline::FixedSuffix(8)).strategy(raised(1)).open();
    let refused = other.unwrap_err().to_string();
    assert!(refused.contains("strategy raise splits keys by whole-key, but the store's layout is fixed-suffix-8"), "{refused}");
    let warm = Store::builder(directory.path().join("d")).tiers(TierSet::warm).strategy(raised(1)).open();
    assert!(warm.unwrap_err().to_string().contains("replaying the log would undo what was migrated"));
    let hot = Store::builder(directory.path().join("b")).tiers(TierSet::hot).strategy(raised(1)).open();
    assert!(hot.unwrap_err().to_string().contains("no meaning without files"));
    let without = Store::open(directory.path().join("c")).unwrap();
    assert!(matches!(without.compact_all(&PassScope::All).unwrap_err().kind(), ErrorKind::Unsupported { .. }));
    assert!(matches!(without.file_summaries().unwrap_err().kind(), ErrorKind::Unsupported { .. }));
    assert!(without.stats().migration.is_none());
    assert_eq!(NoMigration::SCOPE, MigrationScope::Settled);
}

#[test]
fn store_that_had_no_strategy_can_be_given_one() {
    let (directory, strategy) = (tempfile::tempdir().unwrap(), raised(2));
    {
        let store = Store::open(directory.path()).unwrap();
        let mut batch = Batch::new();
        batch.put(ROWS, b"k", &[1, 2, 3]);
        store.commit(batch).unwrap();
        store.flush().unwrap();
        store.close().unwrap();
    }
    let store = open(directory.path(), &strategy);
    assert_eq!(store.summaries().unwrap()[0].summary, Lowest(Some(1)));
    store.set_horizon(store.last_version()).unwrap();
    store.compact_all(&PassScope::All).unwrap().run().unwrap();
    assert_eq!(store.get(ROWS, b"k").unwrap().unwrap()[..], [2, 2, 3]);
}

#[test]
fn watermark_counts_a_table_that_was_flushed_while_somebody_reads_it() {
    let (directory, strategy) = (tempfile::tempdir().unwrap(), raised(3));
    let store = open(directory.path(), &strategy);
    let mut batch = Batch::new();
    for key in 0..100_u8 {
        batch.put(ROWS, &[key], &[1]);
    }
    store.commit(batch).unwrap();
    let mut scan = store.snapshot().unwrap().scan(ROWS, KeyRange::all());
    assert_eq!(scan.next().unwrap().unwrap().1[..], [1]);
    store.flush().unwrap();
    store.set_horizon(store.last_version()).unwrap();
    store.compact_all(&PassScope::All).unwrap().run().unwrap();
    assert_eq!(store.get(ROWS, &[7]).unwrap().as_deref(), Some(&[3][..]));
    assert_eq!(lowest(&store), Some(1), "the scan still hands out rows of the old form");
    assert!(scan.all(|row| row.unwrap().1[..] == [1]));
    drop(scan);
    assert_eq!(lowest(&store), Some(3));
}

#[test]
fn store_can_be_opened_while_the_strategy_fails() {
    let (directory, strategy) = (tempfile::tempdir().unwrap(), raised(2));
    {
        let store = open(directory.path(), &strategy);
        let mut batch = Batch::new();
        for key in 0..100_u8 {
            batch.put(ROWS, &[key], &[1; 400]);
        }
        store.commit(batch).unwrap();
        store.close().unwrap();
    }
    strategy.0.observing_fails.store(true, Ordering::Relaxed);
    // So little memory that what is in the log must be flushed.
    let small = || {
        let builder = Store::builder(directory.path()).background(Background::ByHand).memory_budget(64 << 10);
        builder.hot_budget(4 << 10).strategy(strategy.clone()).open().unwrap()
    };
    let store = small();
    assert_eq!(store.get(ROWS, &[7]).unwrap().unwrap()[..], [1; 400]);
    assert!(store.flush().unwrap_err().to_string().contains("it looks away"));
    assert_eq!(store.stats().health, thermocline::Health::Healthy);
    store.close().unwrap();
    strategy.0.observing_fails.store(false, Ordering::Relaxed);
    let store = small();
    store.flush().unwrap();
    assert_eq!(store.summaries().unwrap()[0].summary, Lowest(Some(1)));
}
