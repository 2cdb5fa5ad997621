//! Versions, visibility, refusals, and what comes back after closing.

use std::sync::Arc;

use thermocline_hot::{HotOptions, HotTier};
use thermocline_io::{Disk, Environment, MemoryDisk};
use thermocline_store::{Batch, CommitOptions, Durability, Health, OpenMode, Store, StoreOptions};
use thermocline_tier::{ErrorKind, FixedSuffix, Lookup, Version, limits};

use super::{T, U, batch, commit, get, open_on, options, store};

#[test]
fn versions_start_at_one_and_every_one_reads_exactly() {
    let (store, _disk) = store();
    assert_eq!(store.last_version(), Version::ZERO);
    assert_eq!(commit(&store, T, &["a=1"]), Version(1));
    assert_eq!(store.commit_at(Version(5), batch(T, &["a=5", "b=5"])).unwrap(), Version(5));
    assert_eq!(commit(&store, T, &["a"]), Version(6));
    let reads = [0, 1, 4, 5, 6, 7].map(|at| get(&store, T, "a", Version(at)));
    assert_eq!(reads.map(Option::unwrap_or_default), ["", "1", "1", "5", "", ""]);
    assert_eq!(get(&store, T, "b", Version::MAX).as_deref(), Some("5"));
    assert!(matches!(store.lookup(T, b"a").unwrap(), Lookup::Tombstone { version: Version(6) }));
}

#[test]
fn a_version_that_does_not_increase_is_refused_and_changes_nothing() {
    let (store, _disk) = store();
    store.commit_at(Version(5), batch(T, &["a=5"])).unwrap();
    for attempted in [0, 4, 5].map(Version) {
        let error = store.commit_at(attempted, batch(T, &["a=x"])).unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::VersionNotIncreasing { attempted, last: Version(5) });
    }
    assert_eq!(get(&store, T, "a", Version::MAX).as_deref(), Some("5"));
    assert_eq!(commit(&store, T, &["a=6"]), Version(6));
}

#[test]
fn the_last_version_can_be_used_and_then_the_store_only_reads() {
    let (store, _disk) = store();
    store.commit_at(Version::COMMIT_MAX, batch(T, &["a=1"])).unwrap();
    let error = store.commit(batch(T, &["a=2"])).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::VersionExhausted { attempted: Version::MAX });
    assert_eq!(get(&store, T, "a", Version::MAX).as_deref(), Some("1"));
    assert_eq!(store.stats().health, Health::Healthy);
}

#[test]
fn an_empty_batch_advances_the_version_also_after_reopening() {
    let (store, disk) = store();
    assert_eq!(store.commit(Batch::new()).unwrap(), Version(1));
    store.close().unwrap();
    assert_eq!(open_on(&disk, options()).unwrap().last_version(), Version(1));
}

#[test]
fn a_write_over_a_limit_refuses_the_whole_batch_by_name() {
    let (store, _disk) = store();
    let mut batch = batch(T, &["a=1"]);
    batch.put(T, &vec![b'k'; limits::KEY_SIZE_BYTES_MAX + 1], b"v").put(T, b"b", b"2");
    let error = store.commit(batch).unwrap_err();
    assert_eq!(error.to_string(), "key size in bytes is 65536, over the limit of 65535");
    assert_eq!(store.last_version(), Version::ZERO);
    assert_eq!(store.snapshot().unwrap().range::<&[u8]>(T, ..).count(), 0);
}

#[test]
fn everything_comes_back_after_closing_and_after_dropping() {
    let (store, disk) = store();
    commit(&store, T, &["a=1", "b=1"]);
    commit(&store, U, &["a=u"]);
    store.close().unwrap();
    assert!(matches!(store.get(T, b"a").unwrap_err().kind(), ErrorKind::Closed));

    let again = open_on(&disk, options()).unwrap();
    commit(&again, T, &["a=3", "b"]);
    drop(again);

    let last = open_on(&disk, options()).unwrap();
    assert_eq!(last.last_version(), Version(3));
    assert_eq!(get(&last, T, "a", Version(2)).as_deref(), Some("1"));
    assert_eq!(get(&last, T, "a", Version(3)).as_deref(), Some("3"));
    assert_eq!(get(&last, T, "b", Version(3)), None);
    assert_eq!(get(&last, U, "a", Version(2)).as_deref(), Some("u"));
}

#[test]
fn a_snapshot_keeps_the_store_open_and_sees_the_same_for_ever() {
    let (store, disk) = store();
    commit(&store, T, &["a=1"]);
    let snapshot = store.snapshot().unwrap();
    commit(&store, T, &["a=2"]);
    drop(store);
    assert_eq!(snapshot.get(T, b"a").unwrap().as_deref(), Some(b"1".as_slice()));
    assert!(matches!(open_on(&disk, options()).unwrap_err().kind(), ErrorKind::Locked { .. }));
    drop(snapshot);
    assert_eq!(get(&open_on(&disk, options()).unwrap(), T, "a", Version::MAX).as_deref(), Some("2"));
}

#[test]
fn open_modes_are_honoured() {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
    let with = |mode| StoreOptions { mode, ..options() };
    assert!(matches!(open_on(&disk, with(OpenMode::MustExist)).unwrap_err().kind(), ErrorKind::NotFound { .. }));
    assert!(matches!(open_on(&disk, with(OpenMode::ReadOnly)).unwrap_err().kind(), ErrorKind::NotFound { .. }));
    commit(&open_on(&disk, with(OpenMode::CreateNew)).unwrap(), T, &["a=1"]);
    assert!(matches!(open_on(&disk, with(OpenMode::CreateNew)).unwrap_err().kind(), ErrorKind::InvalidArgument { .. }));

    let readers = [(); 2].map(|()| open_on(&disk, with(OpenMode::ReadOnly)).unwrap());
    for reader in &readers {
        assert_eq!(get(reader, T, "a", Version::MAX).as_deref(), Some("1"));
        assert!(matches!(reader.commit(batch(T, &["a=2"])).unwrap_err().kind(), ErrorKind::Unsupported { .. }));
    }
    assert!(matches!(open_on(&disk, options()).unwrap_err().kind(), ErrorKind::Locked { .. }));
}

#[test]
fn another_layout_than_the_stored_one_is_refused() {
    let (store, disk) = store();
    drop(store);
    let error = open_on(&disk, StoreOptions { layout: Arc::new(FixedSuffix(8)), ..options() }).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::InvalidArgument { .. }), "{error}");
    assert!(error.to_string().contains("fixed-suffix-8") && error.to_string().contains("whole-key"), "{error}");
}

#[test]
fn a_suffix_travels_with_its_version_and_does_not_order() {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
    let open = || open_on(&disk, StoreOptions { layout: Arc::new(FixedSuffix(2)), ..options() }).unwrap();
    let store = open();
    commit(&store, T, &["a-2=1", "b-9=1"]);
    commit(&store, T, &["a-1=2"]);
    drop(store);
    let store = open();
    assert_eq!(get(&store, T, "a", Version(1)).as_deref(), Some("1"));
    let rows = |at| super::texts(store.at(at).unwrap().range::<&[u8]>(T, ..));
    assert_eq!(rows(Version(1)), ["a-2=1", "b-9=1"]);
    assert_eq!(rows(Version(2)), ["a-1=2", "b-9=1"]);
}

#[test]
fn a_commit_that_does_not_fit_into_memory_is_refused_before_it_is_logged() {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
    let open = |memory_limit_bytes| {
        let tier = Arc::new(HotTier::new(HotOptions { memory_limit_bytes, ..HotOptions::default() }));
        Store::open(Arc::clone(&disk), tier, &Environment::real(), options())
    };
    let store = open(Some(32 << 20)).unwrap();
    let mut large = Batch::new();
    large.put(T, b"k", &vec![7; 40 << 20]);
    assert!(matches!(store.commit(large).unwrap_err().kind(), ErrorKind::MemoryExhausted { .. }));
    assert_eq!(store.stats().health, Health::Healthy);
    assert_eq!(commit(&store, T, &["k=small"]), Version(1));
    let mut filling = 2;
    while store.commit(batch(T, &[&format!("{filling}={}", "x".repeat(1 << 20))])).is_ok() {
        filling += 1;
    }
    // Full, but what needs no memory goes on, and frees it.
    store.sync().unwrap();
    store.ensure_table(U).unwrap();
    store.clear_table(U).unwrap();
    store.purge_table(T).unwrap();
    let last = commit(&store, T, &["k=again"]);
    drop(store);
    let store = open(Some(32 << 20)).unwrap();
    assert_eq!(store.last_version(), last);
    assert_eq!(get(&store, T, "k", last).as_deref(), Some("again"));
}

#[test]
fn buffered_and_memory_commits_are_there_after_sync_and_close() {
    let (store, disk) = store();
    for (version, durability) in (1..).zip([Durability::Memory, Durability::Buffered, Durability::Sync, Durability::Memory]) {
        let options = CommitOptions { durability: Some(durability), ..CommitOptions::default() };
        assert_eq!(store.commit_with(batch(T, &["k=v"]), options).unwrap(), Version(version));
    }
    store.sync().unwrap();
    store.close().unwrap();
    assert_eq!(open_on(&disk, options()).unwrap().last_version(), Version(4));
}

#[test]
fn a_read_at_the_latest_version_never_sees_a_later_one() {
    const COMMITS: u64 = 20_000;
    let (store, _disk) = store();
    commit(&store, T, &["k=1"]);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for version in 2..=COMMITS {
                let mut batch = Batch::new();
                batch.put(T, b"k", version.to_string().as_bytes());
                store.commit(batch).unwrap();
            }
        });
        loop {
            let at = store.last_version();
            let value: u64 = get(&store, T, "k", at).unwrap().parse().unwrap();
            assert_eq!(value, at.0);
            if at == Version(COMMITS) {
                break;
            }
        }
    });
}

#[test]
fn a_purge_beside_them_does_not_fail_reads_of_the_latest_state() {
    let (store, _disk) = store();
    commit(&store, T, &["k=1"]);
    let is_done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..3_000 {
                store.purge_table(T).unwrap();
                commit(&store, T, &["k=1"]);
            }
            is_done.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        while !is_done.load(std::sync::atomic::Ordering::Relaxed) {
            assert_eq!(store.get_many(T, [b"k", b"l"]).unwrap().len(), 2);
            assert!(store.history(T, b"k").unwrap().count() <= 1);
        }
    });
}
