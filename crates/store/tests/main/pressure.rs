//! Back-pressure, full disks and purges of a store over a durable tier: writers wait for work or get its error, and nothing is
//! lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use thermocline_conformance::DurableModel;
use thermocline_io::{
    CrashPoint, CrashProfile, Disk, DiskErrorKind, Environment, Fault, FaultKind, MemoryDisk, Operation, Reason, SimDisk,
    Survival, SyncCache, When,
};
use thermocline_store::{Background, Health, Store, StoreOptions, Tiers};
use thermocline_tier::{EntryKind, ErrorKind, KeyRange, Lookup, Version};

use super::retention::Warnings;
use super::story::Below;
use super::tiered::{BELOW, entries, hot, open, open_tiers, options, tiny};
use super::{T, U, batch, commit, get, texts};

/// What a power cut leaves: only what was synced.
fn power_cut(disk: &SimDisk) -> SimDisk {
    disk.crash_image(CrashPoint::before(usize::MAX), CrashProfile::new(Survival::None), 0)
}

#[test]
fn a_commit_does_the_work_itself_that_it_would_have_to_wait_for() {
    let disk = SimDisk::new(1);
    let store = open(&disk, Below::Model, StoreOptions { sealed_tables_max: 2, ..tiny() });
    for key in 0..3 {
        commit(&store, T, &[&format!("{key}=1")]);
    }
    let stats = store.stats();
    assert_eq!((stats.sealed_tables, stats.flushes, stats.back_pressure.stalls), (2, 0, 0));
    commit(&store, T, &["3=1"]);
    let stats = store.stats();
    // Both tables were flushed or one: as many as let the commit go on.
    assert!(stats.flushes >= 1 && stats.back_pressure.stalls == 1, "{stats:?}");
    for key in 4..40 {
        commit(&store, T, &[&format!("{key}=1")]);
        assert!(store.stats().sealed_tables <= 2);
    }
    store.run_until_idle();
    commit(&store, T, &["40=1"]);
    let pressure = store.stats().back_pressure;
    assert!(pressure.stalls > 10 && pressure.reason.is_none(), "{pressure:?}");
    assert_eq!(store.snapshot().unwrap().range::<&[u8]>(T, ..).count(), 41);
}

#[test]
fn a_tier_that_falls_behind_slows_writers_down_and_then_has_them_do_its_work() {
    let disk = SimDisk::new(1);
    let tiers = hot().over(|request| DurableModel::open_slow(&request, 2, 4));
    let store = open_tiers(&disk, tiers, options()).unwrap();
    let mut seen = Vec::new();
    for round in 1..=6 {
        commit(&store, T, &[&format!("{round}=1")]);
        store.flush().unwrap();
        let pressure = store.stats().back_pressure;
        seen.push((pressure.slow_downs, pressure.stalls));
    }
    assert!(seen[1] == (0, 0) && seen[5].0 > 0, "{seen:?}");
    // By hand, a writer that should slow down does a step, so that it never comes to the worst; unless nobody writes meanwhile.
    for _flush in 0..6 {
        store.clear_table(U).unwrap();
        store.flush().unwrap();
    }
    let before = store.stats().back_pressure.stalls;
    commit(&store, T, &["7=1"]);
    let pressure = store.stats().back_pressure;
    assert_eq!(pressure.stalls, before + 1);
    assert!(pressure.reason.is_none_or(|why| why.contains("flushes is due")));
}

#[test]
fn writers_that_are_held_back_are_told_why_once_for_each_reason() {
    let warnings = Warnings::default();
    tracing::subscriber::with_default(warnings.clone(), || {
        let tiers = hot().over(|request| DurableModel::open_slow(&request, 2, 4));
        let store = open_tiers(&SimDisk::new(1), tiers, options()).unwrap();
        for round in 1..=6 {
            commit(&store, T, &[&format!("{round}=1")]);
            store.flush().unwrap();
        }
        for _flush in 0..6 {
            store.clear_table(U).unwrap();
            store.flush().unwrap();
        }
        commit(&store, T, &["7=1"]);
        assert!(store.stats().back_pressure.stalls > 0);
    });
    let said = warnings.take();
    for what in ["writes are slowed down", "writes wait"] {
        assert!(said.iter().any(|line| line.contains(what) && line.contains("why=") && line.contains("flushes")), "{said:?}");
    }
    assert!(said.windows(2).all(|lines| lines[0] != lines[1]), "{said:?}");
}

#[test]
fn a_full_disk_stops_the_writers_that_must_wait_and_space_brings_them_back() {
    for below in BELOW {
        let disk = SimDisk::new(1);
        let store = open(&disk, below, StoreOptions { sealed_tables_max: 1, ..tiny() });
        for key in 0..6 {
            commit(&store, T, &[&format!("{key}=1")]);
        }
        let last = store.last_version();
        // No file of the tier can be written, while the log goes on.
        let full = |operation| Fault::new(FaultKind::Fail(DiskErrorKind::DiskFull), When::From(0)).on(operation);
        for reason in [Reason::ManifestWrite, Reason::SstWrite] {
            disk.inject(full(Operation::Write).reason(reason));
            disk.inject(full(Operation::CreateNew).reason(reason));
        }
        let refused = (0..5).find_map(|key| store.commit(batch(T, &[&format!("more{key}=1")])).err()).unwrap();
        assert_eq!(refused.kind(), &ErrorKind::DiskFull, "{below:?} {refused}");
        assert!(refused.to_string().contains("waits for background work"), "{refused}");
        let stats = store.stats();
        assert_eq!(stats.health, Health::Healthy);
        assert!(stats.background_failure.is_some() && stats.back_pressure.reason.is_some(), "{stats:?}");
        assert_eq!(store.flush().unwrap_err().kind(), &ErrorKind::DiskFull);
        // Reads go on, nothing is lost, and what takes no memory is still taken.
        assert_eq!(get(&store, T, "5", Version::MAX).as_deref(), Some("1"));
        assert!(store.last_version() >= last);
        store.sync().unwrap();
        let recovered = open(&power_cut(&disk), below, options());
        assert_eq!(recovered.last_version(), store.last_version());
        drop(recovered);

        disk.clear_faults();
        let next = commit(&store, T, &["again=1"]);
        store.flush().unwrap();
        store.wait_idle().unwrap();
        let stats = store.stats();
        assert_eq!((stats.checkpoint, stats.sealed_tables, stats.background_failure), (next, 0, None));
        let rows = store.snapshot().unwrap().range::<&[u8]>(T, ..).count();
        drop(store);
        assert_eq!(open(&disk, below, options()).snapshot().unwrap().range::<&[u8]>(T, ..).count(), rows);
    }
}

#[test]
fn a_disk_that_is_full_while_opening_leaves_the_rest_in_memory() {
    for below in BELOW {
        let disk = SimDisk::new(1);
        let store = open(&disk, below, options());
        for key in 0..10 {
            commit(&store, T, &[&format!("{key}=1")]);
        }
        drop(store);
        let image = disk.duplicate();
        for reason in [Reason::ManifestWrite, Reason::SstWrite] {
            let full = FaultKind::Fail(DiskErrorKind::DiskFull);
            // What opening itself writes comes first.
            image.inject(Fault::new(full, When::From(4)).on(Operation::Write).reason(reason));
        }
        let store = open(&image, below, tiny());
        assert_eq!(store.snapshot().unwrap().range::<&[u8]>(T, ..).count(), 10, "{below:?}");
        image.clear_faults();
        store.flush().unwrap();
        assert_eq!((store.stats().sealed_tables, store.stats().checkpoint), (0, Version(10)));
    }
}

#[test]
fn a_commit_that_a_tier_alone_has_no_room_for_is_made_when_there_is_some() {
    for below in BELOW {
        let disk = SimDisk::new(1);
        let open = |disk: &SimDisk| open_tiers(disk, Tiers::durable(move |request| below.open(request)), options());
        let store = open(&disk).unwrap();
        commit(&store, T, &["a=1"]);
        for reason in [Reason::ManifestWrite, Reason::SstWrite] {
            disk.inject(Fault::new(FaultKind::Fail(DiskErrorKind::DiskFull), When::From(0)).on(Operation::Write).reason(reason));
        }
        let unknown = store.commit(batch(T, &["a=2"])).unwrap_err();
        assert_eq!(unknown.kind(), &ErrorKind::CommitUnknown { version: Version(2) }, "{unknown}");
        assert_eq!(store.commit(batch(T, &["b=3"])).unwrap_err().kind(), &ErrorKind::DiskFull);
        assert_eq!(store.purge_table(U).unwrap_err().kind(), &ErrorKind::DiskFull);
        assert_eq!((store.stats().health, store.last_version()), (Health::Healthy, Version(1)));
        assert_eq!(get(&store, T, "a", Version::MAX).as_deref(), Some("1"));
        // A crash now brings the second commit back from the log.
        let image = power_cut(&disk);
        disk.clear_faults();
        for store in [store, open(&image).unwrap()] {
            commit(&store, T, &["b=3"]);
            assert_eq!(texts(store.snapshot().unwrap().range::<&[u8]>(T, ..)), ["a=2", "b=3"]);
            assert_eq!(store.history(T, b"a").unwrap().map(|entry| entry.version.0).collect::<Vec<_>>(), [2, 1]);
            assert_eq!(store.changes(Version::ZERO).unwrap().count(), 3);
        }
    }
}

/// Rows of a table in a durable tier, a sealed table and the one in use.
fn spread(store: &Store, table: EntryKind) {
    commit(store, table, &["a=1", "b=1"]);
    store.flush().unwrap();
    commit(store, table, &["a=2", "c=2"]);
    commit(store, table, &["a=3", "d=3"]);
}

#[test]
fn a_purge_takes_everything_from_every_tier_at_once() {
    for below in BELOW {
        let disk = SimDisk::new(1);
        let store = open(&disk, below, tiny());
        spread(&store, T);
        commit(&store, U, &["u=1"]);
        assert!(store.stats().sealed_tables >= 2);
        let purged = store.purge_table(T).unwrap();
        let check = |store: &Store| {
            assert_eq!(store.lookup(T, b"a").unwrap(), Lookup::Absent);
            assert_eq!(store.snapshot().unwrap().range::<&[u8]>(T, ..).count(), 0);
            assert_eq!(store.history(T, b"a").unwrap().count(), 0);
            let below_it = store.get_at(T, b"a", Version(purged.0 - 1)).unwrap_err();
            assert!(matches!(below_it.kind(), ErrorKind::VersionReclaimed { horizon, .. } if *horizon == purged));
            assert_eq!(get(store, U, "u", Version::MAX).as_deref(), Some("1"));
        };
        check(&store);
        if below == Below::Model {
            assert_eq!(entries(&store, T), 0, "physically");
        }
        // Durable at once, whatever is flushed.
        check(&open(&power_cut(&disk), below, options()));
        store.flush().unwrap();
        check(&store);
        let last = commit(&store, T, &["a=new"]);
        store.flush().unwrap();
        drop(store);
        let store = open(&disk, below, options());
        assert_eq!(texts(store.snapshot().unwrap().range::<&[u8]>(T, ..)), ["a=new"]);
        assert_eq!(store.history(T, b"a").unwrap().map(|entry| entry.version).collect::<Vec<_>>(), [last]);
        assert!(store.at(Version(1)).unwrap().get(T, b"a").is_err(), "the purge is in the checkpoint");
    }
}

#[test]
fn a_purge_that_the_durable_tier_has_no_room_for_is_finished_before_anything_is_flushed() {
    for below in BELOW {
        let disk = SimDisk::new(1);
        let store = open(&disk, below, tiny());
        spread(&store, T);
        let full = FaultKind::Fail(DiskErrorKind::DiskFull);
        disk.inject(Fault::new(full, When::From(0)).on(Operation::Write).reason(Reason::ManifestWrite));
        let purged = store.purge_table(T).unwrap();
        let check = |store: &Store| {
            assert_eq!(store.lookup(T, b"a").unwrap(), Lookup::Absent, "{below:?}");
            assert_eq!(store.get_many(T, ["a", "b"]).unwrap(), [None, None]);
            assert_eq!(texts(store.snapshot().unwrap().range::<&[u8]>(T, ..)), [""; 0]);
            assert_eq!(store.snapshot().unwrap().page(T, KeyRange::all(), 10).unwrap().entries.len(), 0);
            assert_eq!(store.history(T, b"b").unwrap().count(), 0);
            assert!(store.get_at(T, b"b", Version(purged.0 - 1)).is_err());
            assert_eq!(store.diff(T, KeyRange::all(), purged..Version::MAX).unwrap().count(), 0);
        };
        check(&store);
        assert!(store.stats().background_failure.is_some());
        assert_eq!(store.flush().unwrap_err().kind(), &ErrorKind::DiskFull);
        let recovered = open(&power_cut(&disk), below, options());
        check(&recovered);
        if below == Below::Model {
            assert_eq!(entries(&recovered, T), 0, "opening finishes it");
        }
        drop(recovered);
        disk.clear_faults();
        let last = commit(&store, T, &["b=new"]);
        store.flush().unwrap();
        assert_eq!(store.history(T, b"b").unwrap().map(|entry| entry.version).collect::<Vec<_>>(), [last]);
        drop(store);
        let store = open(&disk, below, options());
        assert_eq!(texts(store.snapshot().unwrap().range::<&[u8]>(T, ..)), ["b=new"]);
        assert!(store.get_at(T, b"b", Version(purged.0 - 1)).is_err());
    }
}

#[test]
fn a_poisoned_tier_makes_the_store_read_only() {
    for below in BELOW {
        let disk = SimDisk::new(1);
        let store = open(&disk, below, options());
        commit(&store, T, &["a=1"]);
        let fail = FaultKind::FailSync { cause: DiskErrorKind::Io, cache: SyncCache::Dropped };
        disk.inject(Fault::new(fail, When::Nth(0)).on(Operation::SyncData).reason(Reason::ManifestWrite));
        assert_eq!(store.flush().unwrap_err().kind(), &ErrorKind::Poisoned, "{below:?}");
        assert!(matches!(store.stats().health, Health::Poisoned { .. }));
        let refused = [
            store.commit(batch(T, &["a=2"])).map(drop),
            store.flush(),
            store.compact(T, &KeyRange::all()),
            store.set_horizon(Version(1)),
        ];
        for error in refused.map(Result::unwrap_err) {
            assert_eq!(error.kind(), &ErrorKind::Poisoned, "{error}");
        }
        assert_eq!(get(&store, T, "a", Version::MAX).as_deref(), Some("1"));
        drop(store);
        assert_eq!(get(&open(&disk, below, options()), T, "a", Version::MAX).as_deref(), Some("1"));
    }
}

#[test]
fn the_horizon_reclaims_what_nobody_reads_and_spares_what_is_pinned() {
    for below in BELOW {
        let disk = SimDisk::new(1);
        let store = open(&disk, below, options());
        for version in 1..=9 {
            commit(&store, T, &[&format!("a={version}"), &format!("b{version}=1")]);
            if version % 2 == 0 {
                store.flush().unwrap();
            }
        }
        store.clear_table(U).unwrap();
        let pinned = store.at(Version(3)).unwrap();
        let token = store.at(Version(5)).unwrap().page(T, KeyRange::all(), 1).unwrap().next.unwrap().encode();
        store.set_horizon(Version(7)).unwrap();
        assert_eq!(store.horizon(), Version(7));
        store.set_horizon(Version(2)).unwrap();
        assert_eq!(store.horizon(), Version(7), "it only moves forward");
        store.compact(T, &KeyRange::all()).unwrap();
        store.wait_idle().unwrap();

        let reclaimed = |at| ErrorKind::VersionReclaimed { requested: Version(at), horizon: Version(7) };
        for at in [0, 2, 4, 6] {
            assert_eq!(store.at(Version(at)).unwrap_err().kind(), &reclaimed(at), "{below:?}");
            assert_eq!(store.get_at(T, b"a", Version(at)).unwrap_err().kind(), &reclaimed(at));
        }
        assert_eq!(store.resume(&token, 1).unwrap_err().kind(), &reclaimed(5));
        assert!(store.diff(T, KeyRange::all(), Version(4)..Version(9)).is_err());
        for at in [7, 8, 9, 10] {
            let expected = at.min(9).to_string();
            assert_eq!(get(&store, T, "a", Version(at)), Some(expected));
            assert_eq!(store.at(Version(at)).unwrap().range::<&[u8]>(T, ..).count() as u64, 1 + at.min(9));
        }
        // Pinned, by whoever asks and as long as anybody holds it.
        assert_eq!(pinned.get(T, b"a").unwrap().as_deref(), Some(b"3".as_slice()));
        assert_eq!(get(&store, T, "a", Version(3)).as_deref(), Some("3"));
        let again = store.at(Version(3)).unwrap();
        drop(pinned);
        assert_eq!(texts(again.range::<&[u8]>(T, ..)), ["a=3", "b1=1", "b2=1", "b3=1"]);
        drop(again);
        assert_eq!(store.at(Version(3)).unwrap_err().kind(), &reclaimed(3));
        // Versions 1, 2, 4, 5 and 6 of `a` are gone; 3 goes next.
        let versions = |store: &Store| store.history(T, b"a").unwrap().map(|entry| entry.version.0).collect::<Vec<_>>();
        assert_eq!(versions(&store), [9, 8, 7, 3], "{below:?}");
        store.compact(T, &KeyRange::all()).unwrap();
        assert_eq!(versions(&store), [9, 8, 7]);
        drop(store);
        let store = open(&disk, below, options());
        assert_eq!(store.horizon(), Version(7));
        assert_eq!(store.get_at(T, b"a", Version(6)).unwrap_err().kind(), &reclaimed(6));
        store.set_horizon(Version::MAX).unwrap();
        assert_eq!(store.horizon(), store.last_version(), "at most to the last commit");
        assert_eq!(get(&store, T, "a", Version::MAX).as_deref(), Some("9"));
    }
}

/// Opens with threads of its own, over a disk in memory.
fn threaded(disk: &Arc<dyn Disk>, below: Below) -> Store {
    let tiers = hot().over(move |request| below.open(request));
    let options = StoreOptions { background: Background::Thread, hot_budget_bytes: Some(1), tier_threads: 2, ..options() };
    Store::open(Arc::clone(disk), tiers, &Environment::real(), options).unwrap()
}

#[test]
fn readers_writers_purges_and_horizons_go_on_beside_flushes() {
    const ROUNDS: u64 = 150;
    for below in BELOW {
        let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
        let store = threaded(&disk, below);
        commit(&store, T, &["k=0", "l=0"]);
        let is_done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let store = &store;
            scope.spawn(|| {
                for round in 1..=ROUNDS {
                    // Both rows change together, and never go away.
                    commit(store, T, &[&format!("k={round}"), &format!("l={round}")]);
                    commit(store, U, &[&format!("{round}=1")]);
                    if round % 10 == 0 {
                        let purged = store.purge_table(U);
                        assert!(purged.is_ok() || matches!(purged.unwrap_err().kind(), ErrorKind::Pinned { .. }));
                        store.set_horizon(store.last_version()).unwrap();
                    }
                }
                is_done.store(true, Ordering::Release);
            });
            let read = || {
                let mut last = 0;
                while !is_done.load(Ordering::Acquire) {
                    let both = store.get_many(T, ["k", "l"]).unwrap();
                    assert_eq!(both[0], both[1], "of one commit");
                    let value: u64 = String::from_utf8(both[0].as_ref().unwrap().to_vec()).unwrap().parse().unwrap();
                    assert!(value >= last, "{value} after {last}");
                    last = value;
                    assert!(store.get(T, b"k").unwrap().is_some());
                    let snapshot = store.snapshot().unwrap();
                    let rows = texts(snapshot.range::<&[u8]>(T, ..));
                    assert_eq!(rows[0].replace('k', "l"), rows[1]);
                    assert_eq!(texts(snapshot.range::<&[u8]>(T, ..)), rows, "a snapshot repeats itself");
                    let _rows_of_a_purged_table = store.get(U, b"1").unwrap();
                }
            };
            scope.spawn(read);
            scope.spawn(read);
        });
        let stats = store.stats();
        assert!(stats.flushes > 10 && stats.health == Health::Healthy && stats.background_failure.is_none(), "{stats:?}");
        let last = store.last_version();
        store.wait_idle().unwrap();
        store.close().unwrap();
        drop(store);
        let store = threaded(&disk, below);
        assert_eq!(store.last_version(), last);
        assert_eq!(get(&store, T, "l", last), Some(ROUNDS.to_string()));
    }
}

#[test]
fn writers_get_the_error_of_background_threads_that_they_would_wait_for() {
    let disk = SimDisk::new(1);
    let tiers = hot().over(|request| Below::Model.open(request));
    let options = StoreOptions { background: Background::Thread, hot_budget_bytes: Some(1), ..options() };
    let store = Store::open(Arc::new(disk.clone()) as Arc<dyn Disk>, tiers, &Environment::real(), options).unwrap();
    commit(&store, T, &["a=1"]);
    let full = FaultKind::Fail(DiskErrorKind::DiskFull);
    for operation in [Operation::Write, Operation::CreateNew] {
        disk.inject(Fault::new(full, When::From(0)).on(operation).reason(Reason::ManifestWrite));
    }
    let refused = (0..).find_map(|key| store.commit(batch(T, &[&format!("{key}=1")])).err()).unwrap();
    assert_eq!(refused.kind(), &ErrorKind::DiskFull, "{refused}");
    assert_eq!(store.stats().health, Health::Healthy);
    disk.clear_faults();
    store.flush().unwrap();
    store.wait_idle().unwrap();
    commit(&store, T, &["b=1"]);
    assert_eq!(store.stats().background_failure, None);
}

#[test]
fn a_tier_that_panics_in_the_background_poisons_the_store() {
    /// Panics when it is asked for work.
    #[derive(Debug)]
    struct Panics;
    let disk = SimDisk::new(1);
    let panics = Arc::new(AtomicBool::new(false));
    let observed = Arc::clone(&panics);
    disk.observe(move |call| {
        assert!(
            !(observed.load(Ordering::Acquire) && call.reason == Some(Reason::ManifestWrite)),
            "as a broken tier would: {Panics:?}"
        );
    });
    let tiers = hot().over(|request| Below::Model.open(request));
    let options = StoreOptions { background: Background::Thread, hot_budget_bytes: Some(1), ..options() };
    let store = Store::open(Arc::new(disk) as Arc<dyn Disk>, tiers, &Environment::real(), options).unwrap();
    panics.store(true, Ordering::Release);
    let refused = (0..).find_map(|key| store.commit(batch(T, &[&format!("{key}=1")])).err()).unwrap();
    assert_eq!(refused.kind(), &ErrorKind::Poisoned, "{refused}");
    assert!(refused.to_string().contains("background thread"), "{refused}");
    assert_eq!(get(&store, T, "0", Version::MAX).as_deref(), Some("1"));
    panics.store(false, Ordering::Release);
}
