//! Clearing, purging and ensuring whole tables.

use std::sync::Arc;

use thermocline_io::{DiskErrorKind, Fault, FaultKind, Reason, SimDisk, When};
use thermocline_store::Batch;
use thermocline_tier::{EntryKind, ErrorKind, KeyRange, Lookup, Version};

use super::story::Below;
use super::tiered::{self, entries};
use super::{T, U, commit, get, open_on, options, store, texts};

#[test]
fn a_cleared_table_is_empty_from_then_on_and_older_versions_keep_their_rows() {
    let (store, disk) = store();
    commit(&store, T, &["a=1", "b=1"]);
    commit(&store, U, &["a=u"]);
    let before = store.snapshot().unwrap();
    assert_eq!(store.clear_table(T).unwrap(), Version(3));
    commit(&store, T, &["b=4"]);
    let check = |store: &thermocline_store::Store| {
        assert_eq!(get(store, T, "a", Version(2)).as_deref(), Some("1"));
        assert_eq!(get(store, T, "a", Version(3)), None);
        assert_eq!(store.lookup(T, b"a").unwrap(), Lookup::Tombstone { version: Version(3) });
        assert!(!store.contains(T, b"a").unwrap());
        assert_eq!(texts(store.snapshot().unwrap().range::<&[u8]>(T, ..)), ["b=4"]);
        assert_eq!(texts(store.at(Version(3)).unwrap().range::<&[u8]>(T, ..)), [""; 0]);
        assert_eq!(texts(store.at(Version(2)).unwrap().range::<&[u8]>(T, ..)), ["a=1", "b=1"]);
        assert_eq!(store.get_many(T, ["a", "b"]).unwrap(), [None, Some("4".into())]);
        assert_eq!(get(store, U, "a", Version::MAX).as_deref(), Some("u"));
        let history: Vec<_> = store.history(T, b"b").unwrap().map(|entry| (entry.version.0, entry.value.is_some())).collect();
        assert_eq!(history, [(4, true), (3, false), (1, true)]);
    };
    check(&store);
    assert_eq!(before.get(T, b"a").unwrap().as_deref(), Some(b"1".as_slice()));
    drop(before);
    store.close().unwrap();
    check(&open_on(&disk, options()).unwrap());
}

#[test]
fn rows_of_a_cleared_table_leave_memory_when_no_read_can_see_them() {
    let (store, _disk) = store();
    commit(&store, T, &["a=1", "b=1"]);
    commit(&store, T, &["a=2"]);
    let before = store.snapshot().unwrap();
    store.clear_table(T).unwrap();
    commit(&store, T, &["b=4", "c"]);
    store.set_horizon(Version(4)).unwrap();
    store.run_until_idle();
    assert_eq!(entries(&store, T), 3, "what the snapshot sees, and what is above the clear");
    assert_eq!(texts(before.range::<&[u8]>(T, ..)), ["a=2", "b=1"]);
    drop(before);
    store.run_until_idle();
    assert_eq!(entries(&store, T), 1);
    assert_eq!(texts(store.snapshot().unwrap().range::<&[u8]>(T, ..)), ["b=4"]);
    assert_eq!(store.lookup(T, b"a").unwrap(), Lookup::Absent);
}

#[test]
fn rows_of_a_cleared_table_leave_files_whole_ones_without_being_read() {
    let disk = SimDisk::new(1);
    let store = tiered::open(&disk, Below::Warm, tiered::options());
    commit(&store, T, &["a=1", "b=1"]);
    store.flush().unwrap();
    commit(&store, U, &["a=u"]);
    store.flush().unwrap();
    let before = store.snapshot().unwrap();
    store.clear_table(T).unwrap();
    store.set_horizon(store.last_version()).unwrap();
    store.wait_idle().unwrap();
    assert_eq!(entries(&store, T), 2, "a snapshot sees them");
    drop(before);
    let fault = Fault::new(FaultKind::Fail(DiskErrorKind::Io), When::From(0)).reason(Reason::SstCompact);
    let reads = disk.inject(fault);
    store.wait_idle().unwrap();
    assert_eq!((entries(&store, T), entries(&store, U), disk.fault_count(reads)), (0, 1, 0));
    disk.clear_faults();

    // A file with rows from before a clear and after it.
    commit(&store, T, &["a=2", "b=2", "c=2", "d=2"]);
    let version = store.clear_table(T).unwrap();
    commit(&store, T, &["c=3"]);
    store.flush().unwrap();
    store.set_horizon(version).unwrap();
    store.compact(T, &KeyRange::all()).unwrap();
    assert_eq!(entries(&store, T), 1);
    store.close().unwrap();
    let store = tiered::open(&disk, Below::Warm, tiered::options());
    assert_eq!(texts(store.snapshot().unwrap().range::<&[u8]>(T, ..)), ["c=3"]);
}

#[test]
fn in_a_batch_a_clear_takes_back_earlier_writes_and_spares_later_ones() {
    let (store, _disk) = store();
    commit(&store, T, &["a=1", "b=1", "c=1"]);
    let mut batch = Batch::new();
    batch.put(T, b"a", b"2").clear_table(T).put(T, b"b", b"2");
    store.commit(batch).unwrap();
    assert_eq!(texts(store.snapshot().unwrap().range::<&[u8]>(T, ..)), ["b=2"]);
    let history: Vec<_> = store.history(T, b"b").unwrap().map(|entry| (entry.version.0, entry.value.is_some())).collect();
    assert_eq!(history, [(2, true), (1, true)]);
}

#[test]
fn a_purge_is_refused_by_the_name_of_the_pin_and_then_takes_everything() {
    let (store, disk) = store();
    commit(&store, T, &["a=1"]);
    commit(&store, U, &["a=u"]);
    let pinned = store.at(Version(1)).unwrap();
    let error = store.purge_table(T).unwrap_err();
    assert_eq!(error.to_string(), "version 1 is pinned by snapshot 1");
    assert_eq!(pinned.get(T, b"a").unwrap().as_deref(), Some(b"1".as_slice()));
    drop(pinned);

    assert_eq!(store.purge_table(T).unwrap(), Version(3));
    let check = |store: &thermocline_store::Store| {
        assert_eq!(get(store, T, "a", Version(3)), None);
        let expected = ErrorKind::VersionReclaimed { requested: Version(2), horizon: Version(3) };
        assert_eq!(store.get_at(T, b"a", Version(2)).unwrap_err().kind(), &expected);
        let old = store.at(Version(2)).unwrap();
        assert_eq!(old.get(T, b"a").unwrap_err().kind(), &expected);
        assert_eq!(old.range::<&[u8]>(T, ..).next().unwrap().unwrap_err().kind(), &expected);
        assert_eq!(old.get(U, b"a").unwrap().as_deref(), Some(b"u".as_slice()));
        assert_eq!(store.tables().unwrap(), [T, U]);
    };
    check(&store);
    store.close().unwrap();
    let store = open_on(&disk, options()).unwrap();
    check(&store);
    commit(&store, T, &["a=4"]);
    assert_eq!(get(&store, T, "a", Version(4)).as_deref(), Some("4"));
}

#[test]
fn an_ensured_table_is_listed_also_after_reopening() {
    let (store, disk) = store();
    for _twice in 0..2 {
        store.ensure_table(EntryKind::source(9)).unwrap();
    }
    assert_eq!(store.last_version(), Version::ZERO);
    store.close().unwrap();
    assert_eq!(open_on(&disk, options()).unwrap().tables().unwrap(), [EntryKind::source(9)]);
}

#[test]
fn reads_beside_clears_see_all_rows_or_none() {
    let (store, _disk) = store();
    let store = Arc::new(store);
    let rows: Vec<String> = (0..50).map(|key| format!("{key:02}=v")).collect();
    let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _round in 0..50 {
                commit(&store, T, &rows);
                store.clear_table(T).unwrap();
            }
        });
        for _round in 0..200 {
            let count = store.snapshot().unwrap().range::<&[u8]>(T, ..).count();
            assert!(count == 0 || count == rows.len(), "{count}");
        }
    });
}
