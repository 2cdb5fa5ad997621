//! Consumers of the changes: where they go on, what they hold back, and how they are left behind.
//!
//! Hunts: a commit that a consumer misses or gets twice after a checkpoint; a log that is cut, or a version that is reclaimed, before a
//! consumer has been there; one that holds nothing and keeps the log; a batch that waits although there is something to give.

use std::sync::Arc;
use std::time::Duration;

use thermocline_io::SimDisk;
use thermocline_store::{
    Background, Batch, ChangeBatch, Consumer, ConsumerOptions, Durability, Holding, OpenMode, PolicyScope, Retention, Scope,
    Store, StoreOptions,
};
use thermocline_tier::{EntryKind, ErrorKind, KeyRange, Result, Version};
use thermocline_wal::LogOptions;

use super::tiered::{BELOW, open, options};
use super::{T, U, batch, commit};

const SOON: Duration = Duration::from_secs(60);

/// Commits of about two to a segment.
fn fill(store: &Store, table: EntryKind, count: u64) {
    for _ in 0..count {
        let version = store.last_version().0 + 1;
        commit(store, table, &[&format!("k={version} {}", "x".repeat(2_000))]);
    }
}

fn versions(batch: &ChangeBatch) -> Vec<u64> {
    batch.commits.iter().map(|commit| commit.version.0).collect()
}

/// All that there is for it.
fn take(consumer: &mut Consumer) -> Vec<u64> {
    let mut taken = Vec::new();
    loop {
        let before = consumer.delivered();
        let batch = consumer.poll().unwrap();
        assert_eq!(batch.up_to, consumer.delivered());
        taken.extend(versions(&batch));
        if consumer.delivered() == before {
            return taken;
        }
    }
}

fn from_start(holding: Holding) -> ConsumerOptions {
    ConsumerOptions { since: Some(Version::ZERO), holding, ..ConsumerOptions::default() }
}

fn overtaken<T: std::fmt::Debug>(result: Result<T>) -> (u64, u64) {
    match result.unwrap_err().kind() {
        ErrorKind::Overtaken { wanted, oldest } => (wanted.0, oldest.0),
        other => panic!("{other:?}"),
    }
}

#[test]
fn consumer_goes_on_behind_its_checkpoint_after_restarts_flushes_and_rewrites() {
    for below in BELOW {
        let disk = SimDisk::new(1);
        let store = open(&disk, below, options());
        fill(&store, T, 6);
        let mut view = store.consumer("view", from_start(Holding::All)).unwrap();
        assert_eq!(take(&mut view), [1, 2, 3, 4, 5, 6]);
        view.checkpoint(Version(4)).unwrap();
        assert_eq!(store.consumers()[0].state.position, Version(4));
        store.flush().unwrap();
        drop((view, store));

        let store = open(&disk, below, options());
        let mut view = store.consumer("view", ConsumerOptions::default()).unwrap();
        assert_eq!(take(&mut view), [5, 6], "{below:?}");
        fill(&store, T, 3);
        store.flush().unwrap();
        store.compact(T, &KeyRange::all()).unwrap();
        assert_eq!(take(&mut view), [7, 8, 9]);
        view.checkpoint(view.delivered()).unwrap();
        view.checkpoint(Version(2)).unwrap();
        drop((view, store));

        let store = open(&disk, below, options());
        let mut view = store.consumer("view", ConsumerOptions::default()).unwrap();
        assert_eq!((view.state().unwrap().position, take(&mut view)), (Version(9), vec![]), "{below:?}");
    }
}

#[test]
fn log_stays_for_whom_it_is_held_and_goes_once_nobody_holds_it() {
    for below in BELOW {
        let disk = SimDisk::new(1);
        let store = open(&disk, below, options());
        fill(&store, T, 10);
        let mut held = store.consumer("held", from_start(Holding::All)).unwrap();
        let mut loose = store.consumer("loose", from_start(Holding::Nothing)).unwrap();
        store.flush().unwrap();
        assert_eq!(take(&mut held).len(), 10, "{below:?}");
        held.checkpoint(Version(5)).unwrap();
        fill(&store, T, 2);
        store.flush().unwrap();
        let kept = store.stats().log.segments;
        assert!(store.changes(Version(5)).is_ok() && store.changes(Version::ZERO).is_err(), "{below:?}");
        let (wanted, oldest) = overtaken(loose.poll());
        assert!(wanted == 0 && (1..=5).contains(&oldest), "{oldest}");

        // Also when nothing was written since.
        held.poll().unwrap();
        held.checkpoint(Version(12)).unwrap();
        store.flush().unwrap();
        assert!(store.stats().log.segments < kept, "{below:?}");
        assert!(store.changes(Version(5)).is_err());
        drop((held, loose, store));

        let store = open(&disk, below, options());
        assert_eq!(store.consumers().iter().map(|consumer| consumer.is_open).collect::<Vec<_>>(), [false, false]);
        fill(&store, T, 4);
        store.flush().unwrap();
        assert!(store.changes(Version(12)).is_ok());
        store.remove_consumer("held").unwrap();
        store.flush().unwrap();
        assert!(store.changes(Version(12)).is_err(), "{below:?}");
        assert!(matches!(store.remove_consumer("held").unwrap_err().kind(), ErrorKind::NotFound { .. }));
    }
}

#[test]
fn what_is_held_goes_only_when_the_checkpoint_is_on_disk() {
    let disk = SimDisk::new(1);
    let store = open(&disk, BELOW[1], StoreOptions { durability: Durability::Buffered, ..options() });
    fill(&store, T, 4);
    let mut view = store.consumer("view", from_start(Holding::All)).unwrap();
    store.set_horizon(Version(4)).unwrap();
    assert_eq!(take(&mut view), [1, 2, 3, 4]);
    view.checkpoint(Version(3)).unwrap();
    assert_eq!(view.state().unwrap().position, Version(3));
    assert!(store.get_at(T, b"k", Version(2)).is_ok());
    store.run_until_idle();
    assert!(store.get_at(T, b"k", Version(2)).is_err() && store.get_at(T, b"k", Version(3)).is_ok());
    // A flush makes it durable too.
    view.checkpoint(Version(4)).unwrap();
    store.flush().unwrap();
    assert!(store.get_at(T, b"k", Version(3)).is_err());
}

#[test]
fn overtaken_consumer_begins_anew_from_a_snapshot() {
    for below in BELOW {
        let disk = SimDisk::new(1);
        let store = open(&disk, below, options());
        fill(&store, T, 2);
        let options_of = || from_start(Holding::Overtake(50_000));
        let mut view = store.consumer("view", options_of()).unwrap();
        store.flush().unwrap();
        assert_eq!(take(&mut view), [1, 2]);
        view.checkpoint(Version(2)).unwrap();
        fill(&store, T, 20);
        assert!(store.consumers()[0].backlog_bytes > 50_000);
        store.flush().unwrap();
        assert!(view.state().unwrap().is_overtaken, "{below:?}");
        assert_eq!(overtaken(view.poll()).0, 2);
        drop((view, store));

        // It stays so.
        let store = open(&disk, below, options());
        let mut view = store.consumer("view", options_of()).unwrap();
        assert_eq!(overtaken(view.poll()).0, 2);
        let snapshot = view.resynchronize().unwrap();
        assert_eq!(snapshot.version(), Version(22));
        assert!(snapshot.get(T, b"k").unwrap().unwrap().starts_with(b"22 "));
        fill(&store, T, 1);
        assert_eq!(take(&mut view), [23], "{below:?}");
        view.checkpoint(snapshot.version()).unwrap();
        drop(snapshot);
        assert!(!view.state().unwrap().is_overtaken);
        store.flush().unwrap();
        drop((view, store));
        let store = open(&disk, below, options());
        let mut view = store.consumer("view", options_of()).unwrap();
        assert_eq!(take(&mut view), [23], "{below:?}");
    }
}

#[test]
fn consumer_that_begins_anew_holds_what_comes_until_it_falls_behind_again_or_is_closed() {
    for below in BELOW {
        let disk = SimDisk::new(1);
        let store = open(&disk, below, options());
        store.set_retention(PolicyScope::Table(T), Some(Retention::LatestOnly)).unwrap();
        let asked = ConsumerOptions { holding: Holding::Overtake(50_000), with_previous: true, ..ConsumerOptions::default() };
        let mut view = store.consumer("view", asked.clone()).unwrap();
        let reclaim = || {
            store.apply_retention().unwrap();
            store.flush().unwrap();
            store.compact(T, &KeyRange::all()).unwrap();
        };
        fill(&store, T, 30);
        reclaim();
        assert_eq!(overtaken(view.poll()).0, 0, "{below:?}");

        drop(view.resynchronize().unwrap());
        fill(&store, T, 5);
        reclaim();
        assert_eq!(store.why_retained().unwrap().holders[0].version, Version(30));
        let batch = view.poll().unwrap();
        assert_eq!(versions(&batch), (31..=35).collect::<Vec<_>>(), "{below:?}");
        for (commit, previous) in batch.commits.iter().zip(&batch.previous) {
            let before = format!("{} ", commit.version.0 - 1);
            assert!(previous[0].as_ref().unwrap().starts_with(before.as_bytes()), "{below:?}");
        }
        assert!(view.state().unwrap().is_overtaken, "until it says that it has taken the snapshot");
        let since = |version| ConsumerOptions { since: Some(Version(version)), ..ConsumerOptions::default() };
        assert!(store.consumer("beside", since(30)).is_ok());
        store.remove_consumer("beside").unwrap();

        // Too far behind once more.
        fill(&store, T, 30);
        store.run_until_idle();
        reclaim();
        let failed = loop {
            match view.poll() {
                Ok(batch) if !batch.commits.is_empty() => {}
                other => break other,
            }
        };
        assert!(overtaken(failed).0 >= 35, "{below:?}");
        assert_eq!(overtaken(store.consumer("beside", since(35))).1, 65, "{below:?}");

        // Closed before it has taken what it began with.
        drop(view.resynchronize().unwrap());
        drop(view);
        fill(&store, T, 10);
        reclaim();
        assert_eq!(overtaken(store.consumer("beside", since(65))).1, 75, "{below:?}");

        let mut view = store.consumer("view", asked).unwrap();
        let begun = view.resynchronize().unwrap().version();
        fill(&store, T, 1);
        reclaim();
        view.checkpoint(begun).unwrap();
        assert!(!view.state().unwrap().is_overtaken);
        assert_eq!(take(&mut view), [76], "{below:?}");
    }
}

#[test]
fn ledger_says_how_much_of_the_log_a_consumer_alone_keeps() {
    for below in BELOW {
        let disk = SimDisk::new(1);
        let store = open(&disk, below, options());
        for (name, count) in [("far", 40), ("near", 20), ("there", 5)] {
            drop(store.consumer(name, ConsumerOptions::default()).unwrap());
            fill(&store, T, count);
        }
        let snapshot = store.snapshot().unwrap();
        store.flush().unwrap();
        let log_bytes = |store: &Store| {
            let holders = store.why_retained().unwrap().holders;
            holders.into_iter().map(|holder| holder.alone_log_bytes).collect::<Vec<_>>()
        };
        for name in ["far", "near"] {
            let alone = log_bytes(&store);
            assert!(alone[0] > 30_000 && alone[1..].iter().all(|bytes| *bytes == 0), "{below:?} {name}: {alone:?}");
            let before = store.stats().log.size_bytes;
            store.remove_consumer(name).unwrap();
            store.flush().unwrap();
            // Give or take a segment: the newest one does not count.
            let found = before - store.stats().log.size_bytes;
            assert!(found.abs_diff(alone[0]) <= LogOptions::SEGMENT_SIZE_BYTES_MIN, "{below:?} {name}: {found}, {}", alone[0]);
        }
        drop(snapshot);
    }
    let store = super::store().0;
    drop(store.consumer("view", ConsumerOptions::default()).unwrap());
    fill(&store, T, 40);
    assert_eq!(store.why_retained().unwrap().holders[0].alone_log_bytes, 0, "the log is never cut");
}

#[test]
fn what_is_gone_cannot_be_held_any_more() {
    for below in BELOW {
        let disk = SimDisk::new(1);
        let store = open(&disk, below, options());
        fill(&store, T, 10);
        store.flush().unwrap();
        assert_eq!(overtaken(store.consumer("late", from_start(Holding::All))), (0, 10), "{below:?}");
        assert!(store.consumers().is_empty());
        // One that holds nothing may be made, and hears of it.
        let mut loose = store.consumer("loose", from_start(Holding::Nothing)).unwrap();
        assert_eq!(overtaken(loose.poll()), (0, 10));
        // Overtaken between its new beginning and the checkpoint.
        let version = loose.resynchronize().unwrap().version();
        fill(&store, T, 4);
        store.flush().unwrap();
        loose.checkpoint(version).unwrap();
        drop(loose);
        let mut now_held = store.consumer("loose", ConsumerOptions::default()).unwrap();
        assert_eq!(overtaken(now_held.poll()), (10, 14));
        assert!(now_held.state().unwrap().is_overtaken);
        drop(now_held);

        // The log has it, but the versions are gone.
        store.consumer("holder", ConsumerOptions::default()).unwrap();
        fill(&store, T, 3);
        store.remove_consumer("holder").unwrap();
        store.set_horizon(Version(17)).unwrap();
        let since = |version| ConsumerOptions { since: Some(Version(version)), ..ConsumerOptions::default() };
        let with_previous = |version| ConsumerOptions { with_previous: true, ..since(version) };
        assert_eq!(overtaken(store.consumer("late", with_previous(15))), (15, 17));
        assert!(store.consumer("late", with_previous(17)).is_ok());
        store.remove_consumer("late").unwrap();
        // That is no matter to one that wants the commits alone; it holds what is there.
        let mut late = store.consumer("late", since(15)).unwrap();
        assert_eq!(late.state().unwrap().versions_from, Version(17));
        commit(&store, T, &["k=18"]);
        store.set_horizon(Version(18)).unwrap();
        assert!(store.get_at(T, b"k", Version(17)).is_ok() && store.get_at(T, b"k", Version(16)).is_err());
        drop(late);
        let asked = ConsumerOptions { with_previous: true, ..ConsumerOptions::default() };
        assert_eq!(overtaken(store.consumer("late", asked).unwrap().poll()).0, 15, "{below:?}");
        late = store.consumer("late", ConsumerOptions::default()).unwrap();
        assert_eq!(take(&mut late), [16, 17, 18], "{below:?}");
    }
}

#[test]
fn consumer_gets_what_it_is_about_with_what_was_there_before() {
    for below in BELOW {
        let disk = SimDisk::new(1);
        let store = open(&disk, below, options());
        commit(&store, T, &["a=1", "m=1"]);
        let scope = Scope::Range(T, KeyRange::new("a".."n"));
        let options = ConsumerOptions { scope, with_previous: true, ..ConsumerOptions::default() };
        let mut view = store.consumer("view", options.clone()).unwrap();
        commit(&store, U, &["a=other"]);
        commit(&store, T, &["a=2", "b=1", "z=1"]);
        commit(&store, T, &["z=2"]);
        commit(&store, T, &["a", "m=2"]);
        store.set_retention(PolicyScope::Table(T), Some(Retention::LatestOnly)).unwrap();
        store.apply_retention().unwrap();
        store.flush().unwrap();
        store.compact(T, &KeyRange::all()).unwrap();

        let batch = view.poll().unwrap();
        assert_eq!((versions(&batch), batch.up_to), (vec![3, 5], Version(5)), "{below:?}");
        let keys = |number: usize| {
            let commit: &thermocline_store::Commit = &batch.commits[number];
            commit.changes.iter().map(|change| (change.prefix.to_vec(), change.value.is_some())).collect::<Vec<_>>()
        };
        assert_eq!(keys(0), [(b"a".to_vec(), true), (b"b".to_vec(), true)]);
        assert_eq!(keys(1), [(b"a".to_vec(), false), (b"m".to_vec(), true)]);
        let previous = |number: usize| batch.previous[number].iter().map(|value| value.as_deref()).collect::<Vec<_>>();
        assert_eq!(previous(0), [Some(b"1".as_slice()), None]);
        assert_eq!(previous(1), [Some(b"2".as_slice()), Some(b"1")]);
        // What it has not taken is kept for it, and nothing else.
        assert!(store.get_at(T, b"a", Version(3)).is_ok() && store.snapshot().is_ok());
        assert!(matches!(store.get_at(T, b"z", Version(3)).unwrap_err().kind(), ErrorKind::VersionReclaimed { .. }));
        view.checkpoint(Version(5)).unwrap();
        assert!(matches!(store.get_at(T, b"a", Version(3)).unwrap_err().kind(), ErrorKind::VersionReclaimed { .. }));

        // Removal of the table is heard of; what lay in it is not known any more.
        commit(&store, T, &["b=2"]);
        store.purge_table(T).unwrap();
        let batch = view.poll().unwrap();
        assert_eq!((batch.commits[1].purged, batch.previous.clone()), (Some(T), vec![vec![None], vec![]]), "{below:?}");
        let refused = ConsumerOptions { holding: Holding::Nothing, ..options };
        assert!(matches!(store.consumer("b", refused).unwrap_err().kind(), ErrorKind::InvalidArgument { .. }));
    }
}

#[test]
fn batches_end_where_they_are_large_enough() {
    let disk = SimDisk::new(1);
    let store = open(&disk, BELOW[0], options());
    fill(&store, T, 7);
    let options = ConsumerOptions { batch_bytes: 4_000, ..from_start(Holding::All) };
    let mut view = store.consumer("view", options).unwrap();
    let mut sizes = Vec::new();
    while view.delivered() < Version(7) {
        sizes.push(versions(&view.poll().unwrap()).len());
    }
    assert_eq!(sizes, [2, 2, 2, 1]);
    let none = ConsumerOptions { batch_bytes: 0, ..ConsumerOptions::default() };
    assert!(matches!(store.consumer("none", none).unwrap_err().kind(), ErrorKind::InvalidArgument { .. }));
}

#[test]
fn a_name_is_open_once_and_belongs_to_the_store() {
    let disk = SimDisk::new(1);
    let store = open(&disk, BELOW[0], options());
    fill(&store, T, 1);
    let mut view = store.consumer("view", ConsumerOptions::default()).unwrap();
    assert!(matches!(store.consumer("view", ConsumerOptions::default()).unwrap_err().kind(), ErrorKind::Locked { .. }));
    assert_eq!(view.name(), "view");
    assert!(matches!(view.checkpoint(Version(2)).unwrap_err().kind(), ErrorKind::InvalidArgument { .. }));
    let future = ConsumerOptions { since: Some(Version(2)), ..ConsumerOptions::default() };
    assert!(matches!(store.consumer("future", future).unwrap_err().kind(), ErrorKind::InvalidArgument { .. }));
    for (name, is_long) in [(String::new(), false), ("x".repeat(256), true)] {
        let error = store.consumer(&name, ConsumerOptions::default()).unwrap_err();
        assert_eq!(matches!(error.kind(), ErrorKind::LimitExceeded { .. }), is_long, "{error}");
    }
    // What could not be opened left nothing behind.
    assert_eq!(store.consumers().len(), 1);
    store.remove_consumer("view").unwrap();
    assert!(matches!(view.poll().unwrap_err().kind(), ErrorKind::NotFound { .. }));
    assert!(matches!(view.checkpoint(Version(1)).unwrap_err().kind(), ErrorKind::NotFound { .. }));
    drop(view);
    store.consumer("view", ConsumerOptions::default()).unwrap();
    drop(store);

    let store = open(&disk, BELOW[0], StoreOptions { mode: OpenMode::ReadOnly, ..options() });
    let view = store.consumer("view", ConsumerOptions::default()).unwrap();
    assert!(matches!(view.checkpoint(Version(1)).map_err(|error| error.kind().clone()), Err(ErrorKind::Unsupported { .. })));
    assert!(store.consumer("new", ConsumerOptions::default()).is_err());
}

/// A store with threads of its own.
fn threaded() -> Store {
    super::open_on(
        &(Arc::new(thermocline_io::MemoryDisk::new()) as Arc<dyn thermocline_io::Disk>),
        StoreOptions { background: Background::Thread, ..StoreOptions::default() },
    )
    .unwrap()
}

#[test]
fn whoever_waits_gets_what_comes_and_hears_of_the_end() {
    let store = threaded();
    let mut view = store.consumer("view", ConsumerOptions { scope: Scope::Table(T), ..ConsumerOptions::default() }).unwrap();
    assert_eq!(view.wait(Duration::ZERO).unwrap(), ChangeBatch::default());
    assert_eq!(view.wait(Duration::from_millis(1)).unwrap(), ChangeBatch::default());
    let (heard, hears) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            assert_eq!(versions(&view.wait(SOON).unwrap()), [2]);
            heard.send(()).unwrap();
            view.wait(SOON).unwrap_err()
        });
        // Another table is not what it waits for.
        store.commit(batch(U, &["a=1"])).unwrap();
        store.commit(batch(T, &["a=1"])).unwrap();
        hears.recv().unwrap();
        store.close().unwrap();
        assert_eq!(waiting.join().unwrap().kind(), &ErrorKind::Closed);
    });
}

#[test]
fn changes_can_be_waited_for() {
    let store = threaded();
    let mut changes = store.changes(Version::ZERO).unwrap().about(Scope::Table(T));
    assert!(changes.wait(Duration::ZERO).unwrap().is_none() && changes.wait(Duration::from_millis(1)).unwrap().is_none());
    let (heard, hears) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            assert_eq!(changes.wait(SOON).unwrap().unwrap().version, Version(2));
            heard.send(()).unwrap();
            changes.wait(SOON).unwrap_err()
        });
        // Another table is not what it waits for.
        store.commit(batch(U, &["a=1"])).unwrap();
        store.commit(batch(T, &["a=1"])).unwrap();
        hears.recv().unwrap();
        store.close().unwrap();
        assert_eq!(waiting.join().unwrap().kind(), &ErrorKind::Closed);
    });
}

#[test]
fn consumer_that_hears_of_nothing_holds_nobody() {
    let store = threaded();
    let holding = Holding::HoldWriters(200_000);
    let options = ConsumerOptions { holding, scope: Scope::Table(T), ..ConsumerOptions::default() };
    let mut view = store.consumer("view", options).unwrap();
    std::thread::scope(|scope| {
        let following = scope.spawn(|| {
            loop {
                let batch = view.wait(SOON).unwrap();
                view.checkpoint(batch.up_to).unwrap();
                if !batch.commits.is_empty() {
                    return versions(&batch);
                }
            }
        });
        for _ in 0..100 {
            store.commit(batch(U, &[&format!("k={}", "x".repeat(10_000))])).unwrap();
        }
        store.commit(batch(T, &["k=1"])).unwrap();
        assert_eq!(following.join().unwrap(), [101]);
    });
}

#[test]
fn new_consumer_that_is_far_behind_is_overtaken_where_nothing_is_flushed_too() {
    let store = super::store().0;
    let mut view = store.consumer("view", ConsumerOptions { holding: Holding::Overtake(50_000), ..Default::default() }).unwrap();
    fill(&store, T, 40);
    store.set_horizon(Version(40)).unwrap();
    store.run_until_idle();
    assert_eq!(overtaken(view.poll()).0, 0);
    store.run_until_idle();
    assert_eq!(super::tiered::entries(&store, T), 1, "what it held is gone");
    drop(view.resynchronize().unwrap());
    view.checkpoint(Version(40)).unwrap();
    view.checkpoint(Version(3)).unwrap();
    assert_eq!(view.state().unwrap().position, Version(40));
}

#[test]
fn writers_wait_for_a_consumer_that_holds_them() {
    const LIMIT: u64 = 400_000;
    let store = threaded();
    let mut view =
        store.consumer("view", ConsumerOptions { holding: Holding::HoldWriters(LIMIT), ..Default::default() }).unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for _ in 0..200 {
                let mut batch = Batch::new();
                batch.put(T, b"k", &vec![1; 20_000]);
                store.commit(batch).unwrap();
            }
        });
        let mut taken = 0;
        while taken < 200 {
            let batch = view.wait(SOON).unwrap();
            assert!(!batch.commits.is_empty());
            taken += batch.commits.len();
            // Most of it lies behind by now, and no more comes than may.
            while !writer.is_finished() && store.consumers()[0].backlog_bytes <= LIMIT {
                thermocline_io::sync::yield_now();
            }
            assert!(store.consumers()[0].backlog_bytes < 2 * LIMIT);
            view.checkpoint(batch.up_to).unwrap();
        }
        writer.join().unwrap();
    });
    let pressure = store.stats().back_pressure;
    assert!(pressure.stalls > 0, "{pressure:?}");

    // By hand there is nobody to wait for.
    let by_hand = super::store().0;
    let holding = Holding::HoldWriters(50_000);
    let mut view = by_hand.consumer("slow view", ConsumerOptions { holding, ..ConsumerOptions::default() }).unwrap();
    let mut batches = 0;
    let error = loop {
        let mut batch = Batch::new();
        batch.put(T, b"k", &[1; 2_000]);
        match by_hand.commit(batch) {
            Ok(_) => batches += 1,
            Err(error) => break error,
        }
    };
    assert!((3..20).contains(&batches), "{batches}");
    assert!(error.to_string().contains("slow view") && matches!(error.kind(), ErrorKind::LimitExceeded { .. }), "{error}");
    view.poll().unwrap();
    view.checkpoint(view.delivered()).unwrap();
    commit(&by_hand, T, &["a=1"]);
}

#[test]
fn consumer_that_several_threads_write_beside_misses_nothing() {
    let store = threaded();
    let mut view = store.consumer("view", ConsumerOptions::default()).unwrap();
    let (threads, each) = (4, 300);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let store = &store;
            scope.spawn(move || {
                for number in 0..each {
                    commit(store, T, &[&format!("{thread}-{number}=x")]);
                }
            });
        }
        let mut expected = 1;
        while expected <= threads * each {
            for version in versions(&view.wait(SOON).unwrap()) {
                assert_eq!(version, expected);
                expected += 1;
            }
        }
    });
}
