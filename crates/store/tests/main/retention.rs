//! Pins that have names and policies of retention, across flushes, rewrites, restarts and power cuts.
//!
//! Hunts: a pin that a restart, a cut log or a flush forgets; a policy that takes from a table that it is not for, or from a reader; a
//! version that is gone and still readable.

use std::sync::Arc;
use std::time::Duration;

use thermocline_io::{Clock, CrashPoint, CrashProfile, Disk, Environment, FileId, MemoryDisk, SimClock, SimDisk, Survival};
use thermocline_store::{
    Amount, Background, Batch, OpenMode, PinRequest, PinVersions, PolicyScope, Retention, Rung, Scope, Store, StoreOptions,
    Tiers, WhyRetained,
};
use thermocline_tier::{EntryKind, ErrorKind, KeyRange, Version};

use super::story::Below;
use super::tiered::{BELOW, entries, hot, open, open_tiers, options};
use super::{T, U, commit, get, texts};

const TABLES: [EntryKind; 2] = [T, U];

/// Every version of the two tables in files, without what nobody may read.
fn rewrite(store: &Store) {
    store.flush().unwrap();
    for table in TABLES {
        store.compact(table, &KeyRange::all()).unwrap();
    }
}

/// Commits to both tables, as often as asked, the version as the value of `k`.
fn fill(store: &Store, count: u64) {
    for _ in 0..count {
        let value = (store.last_version().0 + 1).to_string();
        let mut batch = Batch::new();
        for table in TABLES {
            batch.put(table, b"k", value.as_bytes());
        }
        store.commit(batch).unwrap();
    }
}

fn readable(store: &Store, table: EntryKind) -> Vec<u64> {
    let is_readable = |version: &u64| match store.get_at(table, b"k", Version(*version)) {
        Ok(value) => {
            assert_eq!(value.unwrap(), version.to_string().as_bytes());
            true
        }
        Err(error) => {
            assert!(matches!(error.kind(), ErrorKind::VersionReclaimed { .. }), "{error}");
            false
        }
    };
    (1..=store.last_version().0).filter(is_readable).collect()
}

#[test]
fn pin_keeps_its_version_across_flushes_rewrites_and_restarts_until_it_is_released() {
    for below in BELOW {
        let disk = SimDisk::new(1);
        let store = open(&disk, below, options());
        fill(&store, 9);
        store.pin("report", Version(3)).unwrap();
        store.pin_with("of T", PinRequest { scope: Scope::Table(T), ..PinRequest::from(Version(6)) }).unwrap();
        store.set_horizon(Version(8)).unwrap();
        rewrite(&store);
        let check = |store: &Store| {
            assert_eq!(readable(store, T), [3, 6, 7, 8, 9], "{below:?}");
            assert_eq!(readable(store, U), [3, 8, 9], "{below:?}");
            // Whole, and what differs, too; of the other table nothing.
            let of_t = store.at(Version(6)).unwrap();
            assert_eq!(texts(of_t.range::<&[u8]>(T, ..)), ["k=6"]);
            assert_eq!(of_t.page(T, KeyRange::all(), 5).unwrap().entries.len(), 1);
            assert_eq!(store.diff(T, KeyRange::all(), Version(6)..Version(9)).unwrap().count(), 1);
            for gone in [of_t.get(U, b"k").unwrap_err(), store.at(Version(5)).unwrap_err()] {
                assert!(matches!(gone.kind(), ErrorKind::VersionReclaimed { .. }), "{gone}");
            }
            assert_eq!(store.pins().iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["of T", "report"]);
        };
        check(&store);
        assert_eq!((entries(&store, T), entries(&store, U)), (5, 3), "{below:?}");
        let gone = store.pin("late", Version(5)).unwrap_err();
        assert!(matches!(gone.kind(), ErrorKind::VersionReclaimed { .. }), "{gone}");
        drop(store);
        // Once from the checkpoint alone, and once more with what was noted behind it.
        let store = open(&disk, below, options());
        check(&store);
        rewrite(&store);
        check(&store);
        store.pin("late", Version(9)).unwrap();
        store.release_pin("report").unwrap();
        drop(store);
        let store = open(&disk, below, options());
        assert_eq!(store.pins().len(), 2);
        rewrite(&store);
        assert_eq!((readable(&store, T), readable(&store, U)), (vec![6, 7, 8, 9], vec![8, 9]));
        assert_eq!((entries(&store, T), entries(&store, U)), (4, 2), "{below:?}");
        assert!(matches!(store.release_pin("report").unwrap_err().kind(), ErrorKind::NotFound { .. }));
        assert!(matches!(store.pin("future", Version(10)).unwrap_err().kind(), ErrorKind::InvalidArgument { .. }));
    }
}

#[test]
fn policies_take_what_they_say_of_the_tables_that_they_are_for() {
    for below in BELOW {
        let disk = SimDisk::new(1);
        let store = open(&disk, below, options());
        fill(&store, 9);
        store.set_retention(PolicyScope::Table(T), Some(Retention::LatestOnly)).unwrap();
        assert_eq!(readable(&store, T).len(), 9, "not before it is due");
        let old = store.at(Version(4)).unwrap();
        assert!(store.apply_retention().unwrap());
        assert!(!store.apply_retention().unwrap());
        assert_eq!((store.horizon(), store.table_horizon(T), store.table_horizon(U)), (Version(0), Version(9), Version(0)));
        rewrite(&store);
        assert_eq!((readable(&store, T), readable(&store, U).len()), (vec![4, 9], 9));
        assert_eq!((entries(&store, T), entries(&store, U)), (2, 9), "{below:?}");
        // A snapshot of a version that the table has lost reads the others.
        let late = store.at(Version(6)).unwrap();
        assert_eq!(late.get(U, b"k").unwrap().unwrap(), "6");
        assert_eq!(texts(late.range::<&[u8]>(U, ..)), ["k=6"]);
        let is_gone = |error: thermocline_tier::Error| matches!(error.kind(), ErrorKind::VersionReclaimed { .. });
        assert!(is_gone(late.get(T, b"k").unwrap_err()));
        assert!(is_gone(late.range::<&[u8]>(T, ..).next().unwrap().unwrap_err()));
        assert!(is_gone(late.page(T, KeyRange::all(), 1).unwrap_err()));
        assert!(is_gone(late.clone().get_many(T, ["k"]).unwrap_err()));
        assert!(is_gone(store.diff(T, KeyRange::all(), Version(6)..Version(9)).unwrap_err()));
        assert_eq!(store.diff(U, KeyRange::all(), Version(6)..Version(9)).unwrap().count(), 1);
        assert_eq!(old.get(T, b"k").unwrap().unwrap(), "4");
        drop((late, old));
        drop(store);
        let store = open(&disk, below, options());
        assert_eq!(store.retention(T), Retention::LatestOnly);
        assert_eq!(store.table_horizon(T), Version(9));
        rewrite(&store);
        assert_eq!((readable(&store, T), entries(&store, T)), (vec![9], 1));
    }
}

#[test]
fn newest_versions_are_kept_for_the_history_and_not_for_reads() {
    for below in BELOW {
        let store = open(&SimDisk::new(1), below, options());
        fill(&store, 9);
        store.set_retention(PolicyScope::Table(T), Some(Retention::NewestVersions(3))).unwrap();
        store.apply_retention().unwrap();
        rewrite(&store);
        let versions: Vec<u64> = store.history(T, b"k").unwrap().map(|entry| entry.version.0).collect();
        assert_eq!((versions, readable(&store, T)), (vec![9, 8, 7], vec![9]), "{below:?}");
        assert_eq!(store.history(U, b"k").unwrap().count(), 9);
    }
}

#[test]
fn age_and_leases_go_by_the_clock_and_survive_one_that_runs_backwards() {
    let (disk, clock) = (SimDisk::new(1), Arc::new(SimClock::new()));
    let environment = || Environment { clock: Arc::clone(&clock) as Arc<dyn Clock>, ..Environment::simulated(7) };
    let open = || {
        let shared = Arc::new(disk.clone()) as Arc<dyn Disk>;
        Store::open(shared, hot().over(|request| Below::Warm.open(request)), &environment(), options()).unwrap()
    };
    let store = open();
    store.set_retention(PolicyScope::Table(T), Some(Retention::Age(Duration::from_secs(10)))).unwrap();
    let second = Duration::from_secs(1);
    store.pin_with("lease", PinRequest { lease: Some(12 * second), ..PinRequest::one(Version::ZERO) }).unwrap();
    for _ in 0..20 {
        fill(&store, 1);
        store.apply_retention().unwrap();
        clock.advance(second);
    }
    assert_eq!(store.table_horizon(T), Version(10));
    assert!(store.pins().is_empty(), "the lease is over");
    clock.set_wall(clock.wall().saturating_sub(15 * second));
    drop(store);
    let store = open();
    fill(&store, 1);
    store.pin_with("after", PinRequest { lease: Some(12 * second), ..PinRequest::one(Version(19)) }).unwrap();
    store.apply_retention().unwrap();
    assert_eq!(store.table_horizon(T), Version(10), "nothing is older than it was");
    assert_eq!(store.pins().len(), 1, "a lease that is made by a clock that was set back");
    store.release_pin("after").unwrap();
    rewrite(&store);
    assert_eq!((readable(&store, T), readable(&store, U).len()), ((10..=21).collect(), 21));
}

/// A clock that an operator sets to next year, and back, must take nothing that was promised for ten seconds, nor keep it for a year.
#[test]
fn wall_clock_that_jumps_neither_ends_ages_and_leases_nor_stops_them() {
    let clock = Arc::new(SimClock::new());
    let environment = Environment { clock: Arc::clone(&clock) as Arc<dyn Clock>, ..Environment::simulated(7) };
    let tiers = hot().over(|request| Below::Warm.open(request));
    let store = Store::open(Arc::new(SimDisk::new(1)), tiers, &environment, options()).unwrap();
    let (second, year) = (Duration::from_secs(1), Duration::from_secs(365 * 86_400));
    store.set_retention(PolicyScope::Table(T), Some(Retention::Age(10 * second))).unwrap();
    store.pin_with("lease", PinRequest { lease: Some(60 * second), ..PinRequest::one(Version::ZERO) }).unwrap();
    let pass = |seconds: u32| {
        for _ in 0..seconds {
            fill(&store, 1);
            store.apply_retention().unwrap();
            clock.advance(second);
        }
    };
    pass(5);
    clock.set_wall(clock.wall() + year);
    store.apply_retention().unwrap();
    assert_eq!((store.table_horizon(T), store.pins().len()), (Version::ZERO, 1));
    pass(10);
    let horizon = store.table_horizon(T);
    assert!((5..=10).contains(&horizon.0), "time goes hardly faster: {horizon}");
    assert_eq!(store.pins().len(), 1);
    clock.set_wall(clock.wall().saturating_sub(2 * year));
    pass(40);
    let horizon = store.table_horizon(T);
    assert!((30..=45).contains(&horizon.0), "and hardly slower: {horizon}");
    pass(100);
    assert!(store.pins().is_empty());
}

/// What a wall clock has jumped while the store was open is no more taken at once by the next process than by this one.
#[test]
fn jump_of_the_wall_clock_is_not_made_up_for_by_a_restart() {
    let (disk, clock) = (SimDisk::new(1), Arc::new(SimClock::new()));
    let environment = Environment { clock: Arc::clone(&clock) as Arc<dyn Clock>, ..Environment::simulated(7) };
    let open = || {
        let tiers = hot().over(|request| Below::Warm.open(request));
        Store::open(Arc::new(disk.clone()), tiers, &environment, options()).unwrap()
    };
    let (hour, day) = (Duration::from_secs(3600), Duration::from_secs(86_400));
    let store = open();
    store.set_retention(PolicyScope::Table(T), Some(Retention::Age(day))).unwrap();
    fill(&store, 1);
    store.apply_retention().unwrap();
    // The clock was three days behind, and is set right.
    clock.set_wall(clock.wall() + 3 * day);
    for _ in 0..4 {
        clock.advance(hour);
        fill(&store, 1);
        store.apply_retention().unwrap();
    }
    store.flush().unwrap();
    store.close().unwrap();
    clock.advance(hour);
    let store = open();
    fill(&store, 1);
    store.apply_retention().unwrap();
    assert_eq!(store.table_horizon(T), Version::ZERO, "five hours have passed");
    assert_eq!(readable(&store, T).len(), 6);
    clock.advance(20 * hour);
    store.apply_retention().unwrap();
    assert!((Version(1)..Version(5)).contains(&store.table_horizon(T)), "{}", store.table_horizon(T));
}

/// All for a day, one an hour for thirty days, one a day after: exactly these can be read, and nothing else is stored.
#[test]
fn ladder_keeps_what_its_rungs_say_and_nothing_else() {
    const HOUR: u64 = 3600;
    const DAY: u64 = 24 * HOUR;
    let seconds = Duration::from_secs;
    let rung = |age, every| Rung { age: seconds(age), every: seconds(every) };
    let ladder = vec![rung(DAY, 0), rung(30 * DAY, HOUR), rung(40 * 365 * DAY, DAY)];
    for is_tiered in [false, true] {
        let (disk, clock) = (Arc::new(MemoryDisk::new()), Arc::new(SimClock::new()));
        let environment = Environment { clock: Arc::clone(&clock) as Arc<dyn Clock>, ..Environment::simulated(7) };
        let open = || {
            let tiers = if is_tiered { hot().over(|request| Below::Warm.open(request)) } else { hot() };
            let options = StoreOptions { background: Background::ByHand, ..StoreOptions::default() };
            Store::open(Arc::clone(&disk) as Arc<dyn Disk>, tiers, &environment, options).unwrap()
        };
        let store = open();
        store.set_retention(PolicyScope::Table(T), Some(Retention::Ladder(ladder.clone()))).unwrap();
        // Since the epoch, in seconds, of each version.
        let mut times: Vec<u64> = Vec::new();
        for _ in 0..34 * 36 {
            fill(&store, 1);
            times.push(clock.wall().as_secs());
            store.apply_retention().unwrap();
            clock.advance(seconds(40 * 60));
        }
        store.apply_retention().unwrap();
        let now = clock.wall().as_secs();
        let is_kept = |number: usize| {
            let (time, next) = (times[number], times.get(number + 1).copied().unwrap_or(u64::MAX));
            let end_of_hour = (time / HOUR + 1) * HOUR;
            let is_last_of = |span: u64| next / span != time / span;
            // The state of a day ago is one of those of the last day.
            next > now - DAY
                || is_last_of(HOUR) && now - end_of_hour <= 30 * DAY
                || is_last_of(DAY) && now - end_of_hour > 30 * DAY
        };
        let expected: Vec<u64> = (0..times.len()).filter(|number| is_kept(*number)).map(|number| number as u64 + 1).collect();
        assert!((700..900).contains(&expected.len()) && expected[0] < 40, "{}", expected.len());
        assert_eq!(readable(&store, T), expected);
        rewrite(&store);
        let stored = |store: &Store| {
            let mut versions: Vec<u64> = store.history(T, b"k").unwrap().map(|entry| entry.version.0).collect();
            versions.reverse();
            versions
        };
        assert_eq!(stored(&store), expected, "{is_tiered}");
        assert_eq!(readable(&store, U).len(), times.len());
        store.close().unwrap();
        let store = open();
        assert_eq!(readable(&store, T), expected, "after a restart");
        rewrite(&store);
        assert_eq!(stored(&store), expected, "after a restart");
    }
}

/// What was accepted can be read again when the store is opened next.
#[test]
fn what_could_not_be_noted_is_refused() {
    let disk = SimDisk::new(1);
    let store = open(&disk, Below::Warm, options());
    fill(&store, 1);
    let refused = |outcome: thermocline_tier::Result<()>| outcome.unwrap_err().to_string();
    for age in [Duration::from_nanos(1), Duration::MAX] {
        let ladder = Retention::Ladder(vec![Rung { age, every: Duration::ZERO }]);
        assert!(refused(store.set_retention(PolicyScope::Table(T), Some(ladder))).contains("whole microseconds"), "{age:?}");
    }
    let long = vec![b'k'; 65_536];
    let scope = Scope::Range(T, KeyRange::new(..long.as_slice()));
    let request = PinRequest { scope: scope.clone(), ..PinRequest::one(Version(1)) };
    assert!(refused(store.pin_with("long", request)).contains("65535"));
    let options_of_consumer = thermocline_store::ConsumerOptions { scope, ..thermocline_store::ConsumerOptions::default() };
    assert!(refused(store.consumer("long", options_of_consumer).map(drop)).contains("65535"));
    // The longest of each.
    let key = vec![b'k'; 65_535];
    let scope = Scope::Range(T, KeyRange::new(..key.as_slice()));
    store.pin_with("long", PinRequest { scope, ..PinRequest::one(Version(1)) }).unwrap();
    let age = Duration::from_micros(u64::MAX);
    store.set_retention(PolicyScope::Table(U), Some(Retention::Ladder(vec![Rung { age, every: Duration::ZERO }]))).unwrap();
    store.close().unwrap();
    assert_eq!(open(&disk, Below::Warm, options()).pins().len(), 1);
}

/// Rows that live an hour end after an hour, however often the horizon moves meanwhile.
#[test]
fn times_of_what_lies_below_the_horizon_are_known() {
    let clock = Arc::new(SimClock::new());
    let environment = Environment { clock: Arc::clone(&clock) as Arc<dyn Clock>, ..Environment::simulated(7) };
    let tiers = hot().over(|request| Below::Warm.open(request));
    let store = Store::open(Arc::new(SimDisk::new(1)), tiers, &environment, options()).unwrap();
    let ttl = thermocline_store::Ttl { after: Duration::from_secs(3600), anchor: thermocline_store::Anchor::Updated };
    store.set_ttl(PolicyScope::Table(T), Some(ttl)).unwrap();
    commit(&store, T, &["a=1"]);
    for minute in 0..62 {
        let is_there = get(&store, T, "a", Version::MAX).is_some();
        assert_eq!(is_there, minute < 60, "after {minute} minutes");
        store.run_until_idle();
        clock.advance(Duration::from_secs(60));
        commit(&store, U, &["k=1"]);
        store.set_horizon(store.last_version()).unwrap();
        store.run_until_idle();
    }
}

#[test]
fn table_is_not_purged_while_a_pin_reads_it() {
    let store = open(&SimDisk::new(1), Below::Warm, options());
    commit(&store, T, &["a=1"]);
    commit(&store, U, &["u=1"]);
    store.pin_with("of T", PinRequest { scope: Scope::Table(T), ..PinRequest::one(Version(1)) }).unwrap();
    assert_eq!(store.pins()[0].1.versions, PinVersions::One(Version(1)));
    let refused = store.purge_table(T).unwrap_err();
    assert!(refused.to_string().contains("pinned by \"of T\""), "{refused}");
    store.purge_table(U).unwrap();
    store.release_pin("of T").unwrap();
    store.purge_table(T).unwrap();
    assert_eq!(get(&store, T, "a", Version::MAX), None);
}

#[test]
fn memory_alone_lets_go_of_what_nobody_may_read() {
    let disk = SimDisk::new(1);
    let open = || open_tiers(&disk, hot(), options()).unwrap();
    let store = open();
    fill(&store, 9);
    commit(&store, T, &["gone=1"]);
    commit(&store, T, &["gone"]);
    let old = store.at(Version(4)).unwrap();
    store.pin_with("of U", PinRequest { scope: Scope::Table(U), ..PinRequest::one(Version(2)) }).unwrap();
    store.set_horizon(Version(11)).unwrap();
    assert_eq!(entries(&store, T), 11, "not at once");
    store.run_until_idle();
    let readable = |store: &Store, table| {
        let is_there = |version: &u64| store.get_at(table, b"k", Version(*version)).is_ok();
        (1..=11).filter(is_there).collect::<Vec<_>>()
    };
    assert_eq!((readable(&store, T), readable(&store, U)), (vec![4, 11], vec![2, 4, 11]));
    assert_eq!((entries(&store, T), entries(&store, U)), (2, 3));
    assert_eq!(old.get(T, b"k").unwrap().unwrap(), "4");
    assert_eq!(get(&store, T, "k", Version::MAX).as_deref(), Some("9"));
    drop(old);
    store.run_until_idle();
    assert_eq!((entries(&store, T), entries(&store, U)), (1, 2));
    assert_eq!(store.stats().swept_entries, 10 + 7);
    drop(store);

    // The log has it all; the horizon holds at once.
    let store = open();
    assert_eq!((store.horizon(), readable(&store, T), readable(&store, U)), (Version(11), vec![11], vec![2, 11]));
    assert_eq!(get(&store, U, "k", Version(2)).as_deref(), Some("2"));
    store.compact(T, &KeyRange::all()).unwrap();
    assert_eq!((entries(&store, T), entries(&store, U)), (1, 2));
    assert_eq!(get(&store, U, "k", Version(2)).as_deref(), Some("2"));
}

#[test]
fn policies_and_leases_need_nobody_to_apply_them() {
    for background in [Background::ByHand, Background::Thread] {
        let disk = SimDisk::new(1);
        let options = StoreOptions { background, ..options() };
        let tiers = || hot().over(|request| Below::Warm.open(request));
        let shared = Arc::new(disk.clone()) as Arc<dyn Disk>;
        let store = Store::open(shared, tiers(), &Environment::real(), options).unwrap();
        fill(&store, 3);
        store.set_retention(PolicyScope::Table(T), Some(Retention::LatestOnly)).unwrap();
        store.pin_with("lease", PinRequest { lease: Some(Duration::ZERO), ..PinRequest::one(Version(1)) }).unwrap();
        while store.table_horizon(T) < Version(3) || !store.pins().is_empty() {
            if background == Background::ByHand {
                store.run_until_idle();
            }
            thermocline_io::sync::yield_now();
        }
        assert_eq!(store.table_horizon(U), Version::ZERO);
        store.close().unwrap();
    }
}

#[test]
fn tables_of_operators_keep_the_latest_alone_unless_they_are_told_to_keep_more() {
    let (kept, state) = (EntryKind::operator(1), EntryKind::operator(2));
    for below in BELOW {
        let disk = SimDisk::new(1);
        let mut store = open(&disk, below, options());
        store.set_retention(PolicyScope::Table(kept), Some(Retention::KeepAll)).unwrap();
        for version in 1..=5 {
            for table in [T, kept, state] {
                commit(&store, table, &[&format!("k={version}")]);
            }
        }
        store.run_until_idle();
        let last = store.last_version();
        assert_eq!([T, kept, state].map(|table| store.table_horizon(table)), [Version::ZERO, Version::ZERO, last], "{below:?}");
        drop(store);
        store = open(&disk, below, options());
        let refused = store.get_at(state, b"k", Version(2)).unwrap_err();
        assert!(matches!(refused.kind(), ErrorKind::VersionReclaimed { .. }), "{below:?}: {refused}");
        assert_eq!(get(&store, kept, "k", Version(2)).as_deref(), Some("1"));
        store.flush().unwrap();
        store.compact(state, &KeyRange::all()).unwrap();
        store.compact(kept, &KeyRange::all()).unwrap();
        assert_eq!([T, kept, state].map(|table| entries(&store, table)), [5, 5, 1], "{below:?}");
        assert_eq!(store.retentions().len(), 1, "only what was set");
    }
}

#[test]
fn whoever_opens_for_reading_only_hears_since_when_garbage_waits() {
    let disk = SimDisk::new(1);
    let store = open(&disk, BELOW[0], StoreOptions { garbage_max_age: Some(Duration::from_secs(86_400)), ..options() });
    fill(&store, 9);
    rewrite(&store);
    store.set_horizon(Version(8)).unwrap();
    store.run_until_idle();
    let since = store.stats().garbage_since;
    assert!(since.is_some());
    drop(store);
    let reader = open(&disk, BELOW[0], StoreOptions { mode: OpenMode::ReadOnly, ..options() });
    assert_eq!(reader.stats().garbage_since, since);
}

#[test]
fn in_time_no_file_holds_what_nobody_may_read() {
    check_gone_in_time(&mut |passed| passed % 5 == 0);
}

/// Opening writes the manifest anew, which names keys of files that are gone until then.
#[test]
fn without_a_restart_in_time_no_file_holds_it_either() {
    check_gone_in_time(&mut |_| false);
}

fn check_gone_in_time(restarts: &mut dyn FnMut(u64) -> bool) {
    let (mut disk, clock) = (SimDisk::new(1), Arc::new(SimClock::new()));
    let environment = Environment { clock: Arc::clone(&clock) as Arc<dyn Clock>, ..Environment::simulated(7) };
    let hour = Duration::from_secs(3600);
    let options = StoreOptions { garbage_max_age: Some(24 * hour), ..options() };
    let open = |disk: &SimDisk| {
        let shared = Arc::new(disk.clone()) as Arc<dyn Disk>;
        Store::open(shared, hot().over(|request| Below::Warm.open(request)), &environment, options.clone()).unwrap()
    };
    let mut store = open(&disk);
    let secret = "no compression finds anything in 7f3a9c1e5b";
    for key in 0..200 {
        commit(&store, T, &[&format!("{key}=v")]);
    }
    // The first key of a file is in the manifest too.
    let secret_key = "!e41b0d2a96";
    commit(&store, T, &[&format!("100={secret}"), &format!("{secret_key}=v")]);
    rewrite(&store);
    commit(&store, T, &["100=other", secret_key]);
    store.run_until_idle();
    assert_eq!(store.stats().garbage_since, None);
    store.set_horizon(store.last_version()).unwrap();
    store.run_until_idle();
    assert!(store.stats().garbage_since.is_some());
    let holds_secret = |disk: &SimDisk| {
        let holds = |bytes: &[u8], secret: &str| bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
        let is_there = |bytes: Vec<u8>| holds(&bytes, secret) || holds(&bytes, secret_key);
        disk.files()
            .into_iter()
            .filter(|(file, _)| disk.file_bytes(*file).is_some_and(is_there))
            .map(|(file, _)| file)
            .collect::<Vec<_>>()
    };
    let in_files = holds_secret(&disk);
    assert!(in_files.iter().any(|file| matches!(file, FileId::Manifest(_))) && in_files.len() > 1, "{in_files:?}");
    for passed in 1..=24 {
        clock.advance(hour);
        if restarts(passed) {
            // Neither a restart nor a power cut puts it off.
            let cut = CrashPoint::before(usize::MAX);
            let image = disk.crash_image(cut, CrashProfile::new(Survival::None), passed);
            drop(store);
            disk = if passed % 2 == 1 { image } else { disk };
            store = open(&disk);
        }
        store.run_until_idle();
        assert!(passed >= 12 || !holds_secret(&disk).is_empty() && store.stats().garbage_since.is_some(), "after {passed} hours");
    }
    assert_eq!(holds_secret(&disk), []);
    assert_eq!(get(&store, T, "100", Version::MAX).as_deref(), Some("other"));
}

#[test]
fn gauge_of_what_must_go_stands_until_it_is_gone() {
    let hour = Duration::from_secs(3600);
    let options = StoreOptions { garbage_max_age: Some(24 * hour), ..options() };
    for below in [None, Some(Below::Warm), Some(Below::Model)] {
        let clock = Arc::new(SimClock::new());
        let environment = Environment { clock: Arc::clone(&clock) as Arc<dyn Clock>, ..Environment::simulated(7) };
        let shared = Arc::new(SimDisk::new(1)) as Arc<dyn Disk>;
        let tiers = match below {
            None => hot(),
            Some(below) => hot().over(move |request| below.open(request)),
        };
        let store = Store::open(shared, tiers, &environment, options.clone()).unwrap();
        for version in 0..100 {
            // Too little for a sweep by itself.
            commit(&store, T, &[&format!("{}=v", version.min(95))]);
        }
        store.flush().unwrap();
        store.set_horizon(store.last_version()).unwrap();
        store.run_until_idle();
        let since = store.stats().garbage_since;
        assert!(since.is_some(), "{below:?}");
        clock.advance(11 * hour);
        store.run_until_idle();
        // Another one, which does not change since when.
        commit(&store, T, &["0=w"]);
        store.set_horizon(store.last_version()).unwrap();
        store.run_until_idle();
        assert_eq!(store.stats().garbage_since, since, "{below:?}");
        assert!(below != Some(Below::Warm) || entries(&store, T) > 96, "so little is not worth a rewrite by itself");
        clock.advance(hour);
        store.run_until_idle();
        store.run_until_idle();
        assert_eq!(store.stats().garbage_since, None, "{below:?}");
        assert_eq!(entries(&store, T), 96, "{below:?}");
    }
}

#[test]
fn reopening_a_tier_of_files_alone_takes_nothing_that_is_pinned() {
    let disk = SimDisk::new(1);
    let open = || open_tiers(&disk, Tiers::durable(|request| Below::Warm.open(request)), options()).unwrap();
    let store = open();
    fill(&store, 9);
    store.pin("report", Version(3)).unwrap();
    store.set_horizon(Version(9)).unwrap();
    rewrite(&store);
    // So many files at level 0 that each commit that is put back rewrites some.
    for _ in 0..12 {
        fill(&store, 1);
        drop(store.pin("other", store.last_version()));
    }
    drop(store);
    let store = open();
    for table in TABLES {
        assert_eq!(readable(&store, table), [vec![3], (9..=21).collect()].concat());
    }
    rewrite(&store);
    assert_eq!(readable(&store, T), [vec![3], (9..=21).collect()].concat());
}

/// The bytes of keys and values that the tiers hold.
fn stored_bytes(store: &Store) -> u64 {
    store.stats().tiers.tables.iter().map(|(_, stats)| stats.user_bytes).sum()
}

#[test]
fn reclaiming_that_is_paused_removes_nothing_goes_on_when_resumed_and_says_what_it_removed() {
    for setup in [hot(), hot().over(|request| Below::Warm.open(request))] {
        let store = open_tiers(&SimDisk::new(1), setup, options()).unwrap();
        fill(&store, 6);
        store.flush().unwrap();
        store.compact(T, &KeyRange::all()).unwrap();
        store.wait_idle().unwrap();
        let stored = |store: &Store| store.stats().tiers.tables.iter().map(|(_, stats)| stats.entries).sum::<u64>();
        let (entries, bytes) = (stored(&store), stored_bytes(&store));
        store.pause_reclaim();
        store.set_horizon(store.last_version()).unwrap();
        let mut batch = Batch::new();
        batch.keep_last(U, b"k", 1);
        store.commit(batch).unwrap();
        store.wait_idle().unwrap();
        let report = store.reclaim_report().unwrap();
        assert!(report.is_paused && report.reclaimed.is_empty(), "{report:?}");
        assert_eq!((stored(&store), store.stats().pending_drops), (entries, 1));
        let reclaimable = report.reclaimable.iter().map(|(_, amount)| amount.entries).sum::<u64>();
        let exact = store.would_free_exactly(Version::ZERO).unwrap();
        assert!(exact.entries > 0);
        assert_eq!(reclaimable, exact.entries, "each key lies in one place");

        store.resume_reclaim();
        store.wait_idle().unwrap();
        rewrite(&store);
        let report = store.reclaim_report().unwrap();
        assert!(!report.is_paused && report.reclaimable.is_empty(), "{report:?}");
        let removed = report.reclaimed.iter().fold(Amount::default(), |mut sum, (_, amount)| {
            sum += *amount;
            sum
        });
        assert_eq!(removed, Amount { entries: entries - stored(&store), bytes: bytes - stored_bytes(&store) });
        assert_eq!((removed.entries, store.stats().pending_drops), (exact.entries, 0));
    }
}

#[test]
fn ledger_says_what_each_holder_keeps_and_that_is_freed_when_it_goes() {
    let setups = [hot(), hot().over(|request| Below::Warm.open(request)), hot().over(|request| Below::Model.open(request))];
    for (number, setup) in setups.into_iter().enumerate() {
        let store = open_tiers(&SimDisk::new(1), setup, options()).unwrap();
        fill(&store, 12);
        commit(&store, T, &["gone=a long value that somebody pins"]);
        commit(&store, T, &["gone"]);
        fill(&store, 2);
        store.pin("report", Version(3)).unwrap();
        store.pin_with("of T", PinRequest { scope: Scope::Table(T), ..PinRequest::from(Version(13)) }).unwrap();
        store.pin("twin", Version(7)).unwrap();
        let reader = store.at(Version(7)).unwrap();
        let before = stored_bytes(&store);
        let freed = store.would_free_exactly(Version(16)).unwrap();
        let estimated = store.would_free(Version(16)).unwrap().iter().map(|(_, amount)| amount.entries).sum::<u64>();
        // Over files, what is in memory may hide something in them.
        let is_as_exact = if number == 0 { estimated == freed.entries } else { estimated <= freed.entries };
        assert!(is_as_exact, "{estimated} of {freed:?}");
        store.set_horizon(Version(16)).unwrap();
        let why = store.why_retained().unwrap();
        assert_eq!(why.reclaimable, freed);
        let rewritten = |store: &Store| {
            rewrite(store);
            stored_bytes(store)
        };
        assert_eq!(rewritten(&store), before - freed.bytes);
        let names =
            |why: &WhyRetained| why.holders.iter().map(|holder| (holder.name.clone(), holder.version.0)).collect::<Vec<_>>();
        let report = ("pin \"report\"".to_owned(), 3);
        assert_eq!(names(&why)[0], report);
        assert_eq!(names(&why).len(), 4, "{why:?}");
        assert!(
            why.holders[1].alone == Amount::default() && why.holders[2].alone == Amount::default(),
            "each keeps it for the other"
        );
        assert!(why.shared.entries >= 2, "{why:?}");
        assert!(why.holders.iter().any(|holder| holder.place.is_some_and(|place| place.file().ends_with("retention.rs"))));
        // One after the other goes, and takes along what it alone kept.
        drop(reader);
        for name in ["of T", "report", "twin"] {
            let why = store.why_retained().unwrap();
            let holder = why.holders.iter().find(|holder| holder.name == format!("pin {name:?}")).unwrap();
            assert!(holder.alone.bytes > 0, "{holder:?}");
            let before = stored_bytes(&store);
            store.release_pin(name).unwrap();
            assert_eq!(rewritten(&store), before - holder.alone.bytes, "{name}");
        }
        assert_eq!(store.why_retained().unwrap(), WhyRetained::default());
    }
}

/// Notes what is said, as text.
#[derive(Clone, Default)]
pub(super) struct Warnings(Arc<std::sync::Mutex<Vec<String>>>);

impl Warnings {
    /// What was said since this was last asked.
    pub(super) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl tracing::Subscriber for Warnings {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::WARN
    }

    fn new_span(&self, _span: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _span: &tracing::span::Id, _values: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _span: &tracing::span::Id, _follows: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut fields = Vec::new();
        event.record(&mut |field: &tracing::field::Field, value: &dyn std::fmt::Debug| {
            fields.push(format!("{}={value:?}", field.name()));
        });
        self.0.lock().unwrap().push(fields.join(" "));
    }

    fn enter(&self, _span: &tracing::span::Id) {}

    fn exit(&self, _span: &tracing::span::Id) {}
}

#[test]
fn a_snapshot_that_was_forgotten_is_named_once_in_a_warning() {
    let clock = Arc::new(SimClock::new());
    let environment = Environment { clock: Arc::clone(&clock) as Arc<dyn Clock>, ..Environment::simulated(7) };
    let warnings = Warnings::default();
    tracing::subscriber::with_default(warnings.clone(), || {
        let store = Store::open(Arc::new(MemoryDisk::new()), hot(), &environment, options()).unwrap();
        commit(&store, T, &["a=1"]);
        let (forgotten, line) = (store.snapshot().unwrap(), line!());
        let step = |minutes: u64| {
            clock.advance(Duration::from_secs(60 * minutes));
            store.run_until_idle();
            warnings.take()
        };
        assert_eq!(step(50), [""; 0]);
        let young = store.snapshot().unwrap();
        assert_eq!(step(9), [""; 0]);
        let found = step(1);
        let expected = format!("retention.rs:{line}:");
        assert!(found.len() == 1 && found[0].contains("snapshot 1 is still there") && found[0].contains(&expected), "{found:?}");
        assert_eq!(step(30), [""; 0]);
        drop(young);
        assert_eq!(step(60), [""; 0], "the younger one has gone in time, the older one was named");
        drop(forgotten);
        store.close().unwrap();
    });
}
