//! A store on hot tables over a durable tier: what readers see across them, what moves, and what must not be lost on the way.

use std::sync::Arc;

use thermocline_conformance::ModelTier;
use thermocline_hot::{HotOptions, HotTier};
use thermocline_io::{Access, Disk, Environment, FileId, MemoryDisk, Reason, SimDisk, read_up_to_at};
use thermocline_store::{Background, Durability, DurableRequest, Health, OpenMode, Store, StoreOptions, Tiers};
use thermocline_tier::{Checkpoint, ErrorKind, KeyRange, Lookup, Result, TierStorage, Version};
use thermocline_wal::{LogOptions, Preallocate};

use super::story::Below;
use super::{T, U, batch, commit, get, texts};

pub(crate) const BELOW: [Below; 2] = [Below::Model, Below::Warm];

/// Nothing is sealed unless asked for; segments are small.
pub(crate) fn options() -> StoreOptions {
    let log = LogOptions {
        segment_size_bytes: LogOptions::SEGMENT_SIZE_BYTES_MIN,
        preallocate: Preallocate::No,
        ..LogOptions::default()
    };
    StoreOptions { background: Background::ByHand, durability: Durability::Sync, log, ..StoreOptions::default() }
}

pub(crate) fn hot() -> Tiers {
    Tiers::hot(|| Arc::new(HotTier::new(HotOptions::default())) as Arc<dyn TierStorage>)
}

pub(crate) fn open_tiers(disk: &SimDisk, tiers: Tiers, options: StoreOptions) -> Result<Store> {
    Store::open(Arc::new(disk.clone()) as Arc<dyn Disk>, tiers, &Environment::simulated(7), options)
}

pub(crate) fn open(disk: &SimDisk, below: Below, options: StoreOptions) -> Store {
    open_tiers(disk, hot().over(move |request| below.open(request)), options).unwrap()
}

fn store(below: Below) -> (Store, SimDisk) {
    let disk = SimDisk::new(1);
    (open(&disk, below, options()), disk)
}

/// The entries that the tiers hold of a table, all together.
pub(crate) fn entries(store: &Store, table: thermocline_tier::EntryKind) -> u64 {
    store.stats().tiers.tables.into_iter().find(|(of, _)| *of == table).map_or(0, |(_, stats)| stats.entries)
}

/// Commits fill the table in use; a tiny budget seals it before the next.
pub(crate) fn tiny() -> StoreOptions {
    StoreOptions { hot_budget_bytes: Some(1), sealed_tables_max: 3, ..options() }
}

#[test]
fn readers_see_all_tiers_as_one() {
    for below in BELOW {
        let disk = SimDisk::new(1);
        let store = open(&disk, below, tiny());
        commit(&store, T, &["a=1", "b=1", "c=1", "d=1"]);
        store.flush().unwrap();
        // Each of these is sealed by the next; the last is in use.
        commit(&store, T, &["b=2", "e=2"]);
        commit(&store, T, &["c", "e=3"]);
        commit(&store, T, &["a=4", "f=4"]);
        assert_eq!(store.stats().sealed_tables, 2, "{below:?}");
        let check = |store: &Store| {
            let rows = |at| texts(store.at(Version(at)).unwrap().range::<&[u8]>(T, ..));
            assert_eq!(rows(1), ["a=1", "b=1", "c=1", "d=1"]);
            assert_eq!(rows(2), ["a=1", "b=2", "c=1", "d=1", "e=2"]);
            assert_eq!(rows(3), ["a=1", "b=2", "d=1", "e=3"]);
            assert_eq!(rows(4), ["a=4", "b=2", "d=1", "e=3", "f=4"]);
            let snapshot = store.snapshot().unwrap();
            let mut reverse = texts(snapshot.range::<&[u8]>(T, ..).rev());
            reverse.reverse();
            assert_eq!(reverse, rows(4));
            let values = ["a=1 4", "b=1 2", "c=1 -", "d=1 1", "e=- 3", "f=- 4", "g=- -"];
            for text in values {
                let (key, answers) = text.split_once('=').unwrap();
                let answer = |at| get(store, T, key, at).unwrap_or_else(|| "-".into());
                assert_eq!(format!("{} {}", answer(Version(1)), answer(Version::MAX)), answers, "{below:?} {key}");
            }
            let many = snapshot.get_many(T, ["f", "c", "d", "x", "a"]).unwrap();
            let many: Vec<String> = many
                .into_iter()
                .map(|value| value.map_or("-".into(), |value| String::from_utf8(value.to_vec()).unwrap()))
                .collect();
            assert_eq!(many, ["4", "-", "1", "-", "4"]);
            assert_eq!(store.lookup(T, b"c").unwrap(), Lookup::Tombstone { version: Version(3) });
            let history = |key: &[u8]| store.history(T, key).unwrap().map(|entry| entry.version.0).collect::<Vec<_>>();
            assert_eq!([history(b"a"), history(b"c"), history(b"e")], [vec![4, 1], vec![3, 1], vec![3, 2]]);
            let page = snapshot.page(T, KeyRange::all(), 2).unwrap();
            let rest = store.resume(&page.next.unwrap().encode(), 10).unwrap();
            assert_eq!(texts(page.entries.into_iter().chain(rest.entries).map(Ok::<_, ()>)), rows(4));
            let keys = |from, to| {
                let diff = store.diff(T, KeyRange::all(), Version(from)..Version(to)).unwrap();
                diff.map(|entry| String::from_utf8(entry.unwrap().key.to_vec()).unwrap()).collect::<String>()
            };
            assert_eq!([keys(1, 4), keys(2, 3), keys(3, 2), keys(0, 1)], ["abcef", "ce", "ce", "abcd"]);
        };
        check(&store);
        store.flush().unwrap();
        assert_eq!(store.stats().sealed_tables, 0);
        check(&store);
        store.compact(T, &KeyRange::all()).unwrap();
        check(&store);
        drop(store);
        check(&open(&disk, below, tiny()));
    }
}

#[test]
fn what_was_flushed_is_not_replayed_and_the_log_is_cut_behind_it() {
    for below in BELOW {
        let (store, disk) = store(below);
        let long = "x".repeat(2_000);
        for key in 0..20 {
            commit(&store, T, &[&format!("{key:02}={long}")]);
        }
        let before = store.stats();
        assert!(before.log.segments > 5 && before.checkpoint == Version::ZERO);
        store.flush().unwrap();
        let after = store.stats();
        assert_eq!((after.log.segments, after.checkpoint, after.flushes), (1, Version(20), 1), "{below:?}");
        assert!(matches!(store.changes(Version(19)).unwrap_err().kind(), ErrorKind::VersionReclaimed { .. }));
        assert_eq!(store.changes(Version(20)).unwrap().count(), 0);
        commit(&store, T, &["21=after"]);
        assert_eq!(store.changes(Version(20)).unwrap().count(), 1);
        drop(store);

        let store = open(&disk, below, options());
        let stats = store.stats();
        assert_eq!((stats.recovery.commits, stats.last_version), (1, Version(21)));
        assert_eq!(store.snapshot().unwrap().range::<&[u8]>(T, ..).count(), 21);
        assert_eq!(store.changes(Version(20)).unwrap().count(), 1);
        let report = store.verify().unwrap();
        assert!(report.files.files > 0 && report.files.entries >= 20, "{report:?}");
    }
}

#[test]
fn the_log_keeps_what_the_stream_of_changes_is_to_have() {
    let disk = SimDisk::new(1);
    let keep = || StoreOptions { log_keep_bytes: 20_000, ..options() };
    let store = open(&disk, Below::Model, keep());
    for key in 0..40 {
        commit(&store, T, &[&format!("{key:02}={}", "x".repeat(2_000))]);
    }
    store.flush().unwrap();
    let oldest = (0..=40).find(|since| store.changes(Version(*since)).is_ok()).unwrap();
    // A segment holds one of these commits, with its header in two pages.
    assert!((35..=38).contains(&oldest), "{oldest}");
    let all = |store: &Store| store.changes(Version(oldest)).unwrap().map(|commit| commit.unwrap().version.0).collect::<Vec<_>>();
    assert_eq!(all(&store), (oldest + 1..=40).collect::<Vec<_>>());
    drop(store);
    let store = open(&disk, Below::Model, keep());
    assert_eq!(store.stats().last_version, Version(40));
    assert_eq!(all(&store), (oldest + 1..=40).collect::<Vec<_>>());
    assert_eq!(store.stats().tiers.tables.iter().map(|(_, stats)| stats.entries).sum::<u64>(), 40, "none came back twice");
}

#[test]
fn commits_that_write_no_rows_are_checkpointed_too() {
    for below in BELOW {
        let (store, disk) = store(below);
        commit(&store, T, &["a=1"]);
        store.flush().unwrap();
        store.clear_table(T).unwrap();
        store.ensure_table(U).unwrap();
        store.commit(thermocline_store::Batch::new()).unwrap();
        store.flush().unwrap();
        assert_eq!(store.stats().checkpoint, Version(3));
        drop(store);
        let store = open(&disk, below, options());
        assert_eq!((store.stats().recovery.commits, store.last_version()), (0, Version(3)));
        assert_eq!(store.lookup(T, b"a").unwrap(), Lookup::Tombstone { version: Version(2) });
        assert_eq!(get(&store, T, "a", Version(1)).as_deref(), Some("1"));
        assert_eq!(store.tables().unwrap(), [T, U]);
        // Nothing new is nothing to do.
        store.flush().unwrap();
        assert_eq!(store.stats().flushes, 0);
    }
}

#[test]
fn a_directory_with_files_is_refused_to_memory_alone_by_the_name_of_a_file() {
    for below in BELOW {
        let (store, disk) = store(below);
        commit(&store, T, &["a=1"]);
        drop(store);
        for mode in [OpenMode::CreateIfMissing, OpenMode::ReadOnly] {
            let error = open_tiers(&disk, hot(), StoreOptions { mode, ..options() }).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::InvalidArgument { .. }), "{error}");
            assert!(error.to_string().contains("manifest-00"), "{error}");
        }
        assert_eq!(get(&open(&disk, below, options()), T, "a", Version(1)).as_deref(), Some("1"));
    }
}

#[test]
fn a_store_that_was_in_memory_alone_moves_into_a_durable_tier() {
    for below in BELOW {
        let disk = SimDisk::new(1);
        let store = open_tiers(&disk, hot(), options()).unwrap();
        commit(&store, T, &["a=1", "b=1"]);
        store.clear_table(T).unwrap();
        commit(&store, T, &["c=3"]);
        store.flush().unwrap();
        assert_eq!(store.stats().flushes, 0, "there is nowhere to flush to");
        drop(store);
        // Only to be read, it stays as it is.
        let reader = open(&disk, below, StoreOptions { mode: OpenMode::ReadOnly, ..options() });
        assert_eq!(get(&reader, T, "a", Version(1)).as_deref(), Some("1"));
        drop(reader);
        assert!(open_tiers(&disk, hot(), options()).is_ok());

        let store = open(&disk, below, options());
        assert_eq!(store.stats().recovery.commits, 3);
        store.flush().unwrap();
        drop(store);
        let store = open(&disk, below, options());
        assert_eq!((store.stats().recovery.commits, store.last_version()), (0, Version(3)));
        assert_eq!(texts(store.snapshot().unwrap().range::<&[u8]>(T, ..)), ["c=3"]);
        assert_eq!(texts(store.at(Version(1)).unwrap().range::<&[u8]>(T, ..)), ["a=1", "b=1"]);
    }
}

#[test]
fn a_log_longer_than_memory_is_opened_in_pieces() {
    for below in BELOW {
        let (store, disk) = store(below);
        for key in 0..60 {
            commit(&store, T, &[&format!("{key:02}={}", "x".repeat(10_000))]);
        }
        store.purge_table(T).unwrap();
        commit(&store, U, &["u=1"]);
        store.clear_table(U).unwrap();
        for key in 60..90 {
            commit(&store, T, &[&format!("{key:02}={}", "x".repeat(10_000))]);
        }
        drop(store);
        let store = open(&disk, below, StoreOptions { hot_budget_bytes: Some(100_000), ..options() });
        let stats = store.stats();
        assert!(stats.flushes >= 3 && stats.sealed_tables == 0, "{below:?} {}", stats.flushes);
        assert!(stats.checkpoint > Version(60) && stats.last_version == Version(93));
        let check = |store: &Store| {
            assert_eq!(store.snapshot().unwrap().range::<&[u8]>(T, ..).count(), 30);
            assert_eq!(store.snapshot().unwrap().range::<&[u8]>(U, ..).count(), 0);
            assert_eq!(get(store, U, "u", Version(62)).as_deref(), Some("1"));
            assert!(store.get_at(T, b"01", Version(60)).is_err());
            assert_eq!(store.changes(Version::ZERO).unwrap().count(), 93, "opening cuts nothing off the log");
        };
        check(&store);
        drop(store);
        check(&open(&disk, below, options()));
    }
}

#[test]
fn a_store_is_read_over_its_files_without_a_write() {
    for below in BELOW {
        let (store, disk) = store(below);
        commit(&store, T, &["a=1", "b=1"]);
        store.flush().unwrap();
        commit(&store, T, &["b=2"]);
        commit(&store, U, &["u=3"]);
        store.purge_table(U).unwrap();
        drop(store);
        let operations = disk.operations();
        let read_only = || StoreOptions { mode: OpenMode::ReadOnly, hot_budget_bytes: Some(1), ..options() };
        let readers = [open(&disk, below, read_only()), open(&disk, below, read_only())];
        for reader in &readers {
            assert_eq!(texts(reader.snapshot().unwrap().range::<&[u8]>(T, ..)), ["a=1", "b=2"]);
            assert_eq!(reader.get(U, b"u").unwrap(), None);
            for refused in [reader.flush(), reader.set_horizon(Version(1)), reader.compact(T, &KeyRange::all())] {
                assert!(matches!(refused.unwrap_err().kind(), ErrorKind::Unsupported { .. }));
            }
            reader.run_until_idle();
            reader.wait_idle().unwrap();
            reader.verify().unwrap();
        }
        drop(readers);
        assert_eq!(disk.operations(), operations, "{below:?}");
        assert_eq!(open(&disk, below, options()).last_version(), Version(4));
    }
}

/// Writes a checkpoint into the durable tier of a store that is closed.
fn plant(disk: &SimDisk, checkpoint: Checkpoint) {
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let store = thermocline_wal::Log::identify(&*shared).unwrap().unwrap();
    let environment = Environment::simulated(1);
    let request = DurableRequest { disk: shared, environment: &environment, store, is_read_only: false, migration: None };
    Below::Model.open(request).unwrap().absorb(&ModelTier::new(), checkpoint).unwrap();
}

#[test]
fn a_checkpoint_that_cannot_be_right_is_refused() {
    let (store, disk) = store(Below::Model);
    commit(&store, T, &["a=1"]);
    store.flush().unwrap();
    commit(&store, T, &["a=2"]);
    drop(store);
    let opened = |checkpoint| {
        let image = disk.duplicate();
        plant(&image, checkpoint);
        open_tiers(&image, hot().over(|request| Below::Model.open(request)), options()).unwrap_err()
    };
    let garbage = opened(Checkpoint { version: Version(1), state: b"not what a store writes".as_slice().into() });
    assert_eq!(garbage.kind(), &ErrorKind::Corruption);
    assert!(garbage.to_string().contains("the state in the checkpoint is damaged at byte"), "{garbage}");
    // Without a base the log's beginning is missing; with a version that the log has not reached, its end is.
    let no_base = opened(Checkpoint { version: Version(1), state: bytes::Bytes::new() });
    assert_eq!(no_base.kind(), &ErrorKind::Corruption, "{no_base}");

    let disk = SimDisk::new(1);
    drop(open_tiers(&disk, hot(), options()).unwrap());
    plant(&disk, Checkpoint { version: Version(5), state: bytes::Bytes::new() });
    let ahead = open_tiers(&disk, hot().over(|request| Below::Model.open(request)), options()).unwrap_err();
    assert_eq!(ahead.kind(), &ErrorKind::Corruption);
    assert!(ahead.to_string().contains("the log ends at version 0, below the checkpoint at version 5"), "{ahead}");
}

#[test]
fn files_without_a_log_are_refused() {
    let (store, disk) = store(Below::Model);
    commit(&store, T, &["a=1"]);
    drop(store);
    let log = |file: &FileId| matches!(file, FileId::Wal(_));
    for file in disk.files().into_iter().map(|(file, _)| file).filter(log) {
        disk.remove(file, Reason::WalRemove).unwrap();
    }
    let opened = open_tiers(&disk, hot().over(|request| Below::Model.open(request)), options());
    let error = opened.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Corruption);
    assert!(error.to_string().contains("but no log"), "{error}");
}

#[test]
fn a_durable_tier_alone_takes_every_commit_at_once() {
    for below in BELOW {
        let disk = SimDisk::new(1);
        let open = |mode| {
            let tiers = Tiers::durable(move |request| below.open(request));
            let options = StoreOptions { mode, durability: Durability::Memory, hot_budget_bytes: Some(3_000), ..options() };
            open_tiers(&disk, tiers, options)
        };
        let store = open(OpenMode::CreateIfMissing).unwrap();
        for key in 0..20 {
            commit(&store, T, &[&format!("{key:02}={}", "x".repeat(1_000))]);
            store.run_until_idle();
        }
        store.clear_table(U).unwrap();
        let stats = store.stats();
        assert_eq!(entries(&store, T), 20);
        assert!(stats.log.durable_version == Version(21), "the tier is never ahead of the log");
        assert!(stats.checkpoint >= Version(15) && stats.log.segments < 8, "{stats:?}");
        store.purge_table(T).unwrap();
        commit(&store, T, &["a=1"]);
        drop(store);
        let refused = open(OpenMode::ReadOnly);
        assert!(matches!(refused.unwrap_err().kind(), ErrorKind::Unsupported { .. }), "its log holds what its files may lack");
        let store = open(OpenMode::CreateIfMissing).unwrap();
        assert_eq!(texts(store.snapshot().unwrap().range::<&[u8]>(T, ..)), ["a=1"]);
        store.flush().unwrap();
        drop(store);
        let reader = open(OpenMode::ReadOnly).unwrap();
        assert_eq!(texts(reader.snapshot().unwrap().range::<&[u8]>(T, ..)), ["a=1"]);
        drop(reader);
        // Another day with tables in memory.
        let store = super::tiered::open(&disk, below, tiny());
        commit(&store, T, &["b=2"]);
        assert_eq!(texts(store.snapshot().unwrap().range::<&[u8]>(T, ..)), ["a=1", "b=2"]);
    }
}

#[test]
fn closing_ends_everything_and_needs_no_flush() {
    for background in [Background::ByHand, Background::Thread] {
        let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
        let open = || {
            let tiers = hot().over(|request| Below::Model.open(request));
            let options = StoreOptions { background, hot_budget_bytes: Some(1), tier_threads: 2, ..options() };
            Store::open(Arc::clone(&disk), tiers, &Environment::real(), options).unwrap()
        };
        let store = open();
        for key in 0..50 {
            commit(&store, T, &[&format!("{key:02}=1")]);
        }
        let mut scan = store.snapshot().unwrap().range::<&[u8]>(T, ..);
        assert!(scan.next().is_some());
        store.close().unwrap();
        assert_eq!(store.stats().health, Health::Closed);
        for refused in [store.get(T, b"01").map(drop), store.flush(), store.wait_idle(), store.verify().map(drop)] {
            assert!(matches!(refused.unwrap_err().kind(), ErrorKind::Closed));
        }
        assert!(scan.any(|row| row.is_err()), "a scan that was open ends in an error");
        drop(scan);
        let store = open();
        assert_eq!(store.snapshot().unwrap().range::<&[u8]>(T, ..).count(), 50);
        store.wait_idle().unwrap();
        // A snapshot keeps the store open after the last handle.
        let snapshot = store.snapshot().unwrap();
        drop(store);
        assert_eq!(snapshot.get(T, b"49").unwrap().as_deref(), Some(b"1".as_slice()));
    }
}

#[test]
fn options_that_make_no_sense_are_refused_by_name() {
    for (name, options) in [
        ("sealed_tables_max", StoreOptions { sealed_tables_max: 0, ..options() }),
        ("tier_threads", StoreOptions { tier_threads: 0, ..options() }),
    ] {
        let error = open_tiers(&SimDisk::new(1), hot(), options).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
}

/// What the sweeps rely on: a store without a durable tier writes the same files as before there was one.
#[test]
fn nothing_but_the_log_is_written_for_memory_alone() {
    let disk = SimDisk::new(1);
    let store = open_tiers(&disk, hot(), StoreOptions { log: LogOptions::default(), ..tiny() }).unwrap();
    for key in 0..20 {
        commit(&store, T, &[&format!("{key}=1")]);
    }
    let stats = store.stats();
    assert_eq!((stats.sealed_tables, stats.flushes, stats.log.rotations), (0, 0, 0));
    assert!(disk.files().iter().all(|(file, _)| matches!(file, FileId::Wal(_) | FileId::Lock)));
    let file = disk.open(FileId::Wal(1), Access::Read, Reason::Verify).unwrap();
    assert!(read_up_to_at(&*file, 0, &mut [0; 8], Reason::Verify).is_ok());
    assert!(matches!(
        store.commit_at(Version(1), batch(T, &["a=1"])).unwrap_err().kind(),
        ErrorKind::VersionNotIncreasing { .. }
    ));
}
