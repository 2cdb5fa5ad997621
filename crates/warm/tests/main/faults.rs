//! Faults of the disk at every call of scripted runs: full disks, failed syncs, failed writes and reads, short transfers.
//!
//! Hunts: answering what a failed sync left open; trusting names whose sync failed once; half-made files that stay; a read error
//! taken for an absent key; a tier that does not come back when there is space again.

use std::sync::Arc;

use thermocline_conformance::ModelTier;
use thermocline_io::{
    CrashPoint, CrashProfile, DiskErrorKind, Fault, FaultKind, FileClass, Operation, Reason, SimDisk, Survival, SyncCache, When,
};
use thermocline_tier::{
    Checkpoint, Direction, DurableTier, ErrorKind, KeyRange, RangeBatch, RangeRequest, ReadWindow, TierStorage, Version,
};
use thermocline_warm::{Compression, WarmOptions, WarmTier};

use crate::backends::{compact, open, small};
use crate::script::{Act, Look, Script};
use crate::support::{MULTI, Random, SOURCE, batch, check_no_orphans, live_files, one, sorted_files};

/// What a run has left.
struct Left {
    /// What must be there: after everything that was answered.
    look: Look,
    /// What may be there instead: with the act that it is not known of.
    maybe: Option<Look>,
}

impl Left {
    fn check(&self, tier: &Arc<WarmTier>, repro: &str) {
        let look = Look::of_tier(tier).unwrap_or_else(|error| panic!("{repro}: {error}"));
        let is_right = look == self.look || self.maybe.as_ref() == Some(&look);
        assert!(is_right, "{repro}:\nfound\n{look:#?}\nexpected\n{:#?}\nor\n{:#?}", self.look, self.maybe);
    }
}

/// Plays a script with a fault. Acts that fail are not repeated.
fn play(disk: &SimDisk, seed: u64, acts: usize, repro: &str) -> Left {
    let (mut script, options) = (Script::new(seed), Script::options(seed));
    let mut maybe = None;
    let tier = match open(disk, options) {
        Ok(tier) => Arc::new(tier),
        Err(error) => {
            assert!(matches!(error.kind(), ErrorKind::Io | ErrorKind::DiskFull), "{repro}: {error}");
            return Left { look: script.look(), maybe };
        }
    };
    let mut is_poisoned = false;
    for _ in 0..acts {
        let act = script.next();
        let before = sorted_files(disk).len();
        match act.carry_out(&tier) {
            Ok(()) => {
                let is_write = !matches!(act, Act::Step | Act::Compact(..) | Act::CompactAll | Act::Ensure(_) | Act::Horizon(_));
                let may_do_nothing = matches!(act, Act::Clear(_) | Act::Drop(_));
                assert!(!is_poisoned || !is_write || may_do_nothing, "{repro}: {act:.60?} was answered after a failed sync");
                if !is_poisoned {
                    script.apply(&act);
                }
            }
            Err(error) => match error.kind() {
                ErrorKind::Poisoned => {
                    assert!(error.to_string().contains("sync"), "{repro}: {error} does not name its cause");
                    if is_poisoned {
                        assert!(sorted_files(disk).len() <= before, "{repro}: {act:?} leaves a file each time");
                    } else {
                        let mut with = Script::clone(&script);
                        with.apply(&act);
                        maybe = Some(with.look());
                    }
                    is_poisoned = true;
                }
                ErrorKind::Io | ErrorKind::DiskFull => {}
                _ => panic!("{repro}: {act:?}: {error}"),
            },
        }
    }
    // Reading works as before, whatever has failed.
    disk.clear_faults();
    let left = Left { look: script.look(), maybe };
    if is_poisoned {
        let look = Look::of_tier(&tier).unwrap();
        assert!(look == left.look, "{repro}: what was not answered can be read");
    } else {
        left.check(&tier, repro);
        // And so does everything else.
        while tier.step().unwrap_or_else(|error| panic!("{repro}: {error}")) {}
        left.check(&tier, repro);
        check_no_orphans(disk, &tier).unwrap_or_else(|why| panic!("{repro}: {why}"));
    }
    left.look.check_scan(&tier).unwrap();
    left
}

/// Runs a script with a fault, and checks that what was answered is there after going on without it, after a restart, and after a
/// power cut that follows. Returns how often the fault struck.
fn run_with(seed: u64, fault: Fault) -> u64 {
    let repro = format!("seed {seed} {fault:?}");
    let disk = SimDisk::new(seed);
    let id = disk.inject(fault);
    let left = play(&disk, seed, 14, &repro);
    disk.clear_faults();
    for image in [disk.crash_image(CrashPoint::before(usize::MAX), CrashProfile::new(Survival::None), seed), disk.duplicate()] {
        let tier = Arc::new(open(&image, Script::options(seed)).unwrap_or_else(|error| panic!("{repro}: {error}")));
        left.check(&tier, &repro);
        check_no_orphans(&image, &tier).unwrap_or_else(|why| panic!("{repro}: {why}"));
        tier.verify().unwrap_or_else(|error| panic!("{repro}: {error}"));
        let look = Look::of_tier(&tier).unwrap();
        compact(&tier).unwrap();
        drop(tier);
        let cut = image.crash_image(CrashPoint::before(usize::MAX), CrashProfile::new(Survival::None), seed);
        let tier = open(&cut, Script::options(seed)).unwrap_or_else(|error| panic!("{repro}, cut: {error}"));
        assert!(Look::of_tier(&tier).unwrap() == look, "{repro}: restarted, rewritten, cut");
    }
    disk.fault_count(id)
}

/// Lets a kind of fault strike at its first call, its second and so on, until a run has no such call.
fn at_every_call(what: &str, make: impl Fn(When) -> Fault) {
    let mut runs = 0;
    for when in [When::Nth as fn(u64) -> When, When::From] {
        for seed in 0..2 {
            runs += (0..u64::MAX).take_while(|nth| run_with(seed, make(when(*nth))) > 0).count();
        }
    }
    println!("{what}: {runs} runs, 0 lost");
    assert!(runs > 0);
}

#[test]
fn every_failing_sync_leaves_what_was_answered() {
    for cache in [SyncCache::Kept, SyncCache::Dropped] {
        for cause in [DiskErrorKind::Io, DiskErrorKind::DiskFull] {
            for operation in [Operation::SyncData, Operation::SyncDir] {
                let what = format!("{operation:?} failing with {cause:?}, {cache:?}");
                at_every_call(&what, |when| Fault::new(FaultKind::FailSync { cause, cache }, when).on(operation));
            }
        }
    }
}

#[test]
fn every_failing_write_leaves_what_was_answered() {
    for kind in [DiskErrorKind::Io, DiskErrorKind::DiskFull] {
        for fault in [FaultKind::Fail(kind), FaultKind::FailAfterPart(kind)] {
            at_every_call(&format!("{fault:?} of writes"), |when| Fault::new(fault, when).on(Operation::Write));
        }
        for operation in [Operation::CreateNew, Operation::SetLen] {
            at_every_call(&format!("{operation:?} failing with {kind:?}"), |when| {
                Fault::new(FaultKind::Fail(kind), when).on(operation)
            });
        }
    }
}

#[test]
fn every_failing_read_is_an_error_and_nothing_else() {
    let (io, zero) = (FaultKind::Fail(DiskErrorKind::Io), FaultKind::ZeroTransfer);
    let calls =
        [(Operation::Read, io), (Operation::Read, zero), (Operation::Open, io), (Operation::Length, io), (Operation::List, io)];
    for (operation, fault) in calls {
        let mut runs = 0;
        for nth in 0..100 {
            let disk = SimDisk::new(nth);
            let left = play_with_reads(&disk, nth % 3, Fault::new(fault, When::Nth(nth)).on(operation));
            let Some(left) = left else { break };
            runs += 1;
            let tier = Arc::new(open(&disk, Script::options(nth % 3)).unwrap());
            left.check(&tier, &format!("{operation} {nth}"));
            check_no_orphans(&disk, &tier).unwrap();
        }
        println!("failing calls of {operation}: {runs} runs, 0 lost");
        assert!(runs > 0);
    }
}

/// As [`play`], but reads fail too, also those of opening a tier that is there: an error may then be of corruption, if a read
/// finds less than there is. `None` if the fault did not strike.
fn play_with_reads(disk: &SimDisk, seed: u64, fault: Fault) -> Option<Left> {
    let mut script = Script::new(seed);
    let tier = open(disk, Script::options(seed)).unwrap();
    for _ in 0..10 {
        let act = script.next();
        act.carry_out(&tier).unwrap();
        script.apply(&act);
    }
    drop(tier);
    let id = disk.inject(fault);
    let is_clear = |error: &ErrorKind| matches!(error, ErrorKind::Io | ErrorKind::Corruption);
    match open(disk, Script::options(seed)) {
        Ok(tier) => {
            for _ in 0..20 {
                let act = script.next();
                match act.carry_out(&tier) {
                    Ok(()) => script.apply(&act),
                    Err(error) => assert!(is_clear(error.kind()), "{act:.60?}: {error}"),
                }
            }
        }
        Err(error) => assert!(is_clear(error.kind()), "{error}"),
    }
    let has_struck = disk.fault_count(id) > 0;
    disk.clear_faults();
    has_struck.then(|| Left { look: script.look(), maybe: None })
}

#[test]
fn files_that_cannot_be_removed_are_swept_at_the_next_open() {
    for seed in 0..6 {
        let disk = SimDisk::new(seed);
        let (mut script, options) = (Script::new(seed), Script::options(seed));
        let tier = open(&disk, options.clone()).unwrap();
        disk.inject(Fault::new(FaultKind::Fail(DiskErrorKind::Denied), When::From(0)).on(Operation::Remove));
        for _ in 0..30 {
            let act = script.next();
            act.carry_out(&tier).unwrap();
            script.apply(&act);
        }
        drop(tier);
        disk.clear_faults();
        let tier = Arc::new(open(&disk, options).unwrap());
        check_no_orphans(&disk, &tier).unwrap();
        Left { look: script.look(), maybe: None }.check(&tier, &format!("seed {seed}"));
    }
}

#[test]
fn short_transfers_change_nothing() {
    for fault in [FaultKind::ShortTransfer, FaultKind::SingleByte] {
        let disk = SimDisk::new(3);
        disk.inject(Fault::new(fault, When::PerMille { chance: 300, seed: 3 }));
        let left = play(&disk, 3, 20, "short transfers");
        left.check(&Arc::new(open(&disk, Script::options(3)).unwrap()), "short transfers");
    }
}

/// A tier with some files, and a batch that makes a large one.
fn filled(disk: &SimDisk) -> Arc<WarmTier> {
    let tier = Arc::new(open(disk, WarmOptions { level0_flushes: 100, level0_flushes_slow: 200, ..small() }).unwrap());
    for version in 1..9 {
        let value = Random(version).bytes(3000);
        let writes = [b"a", b"b", b"c"].map(|key| (MULTI, &key[..], Some(&value[..])));
        tier.set(&batch(version, &writes)).unwrap();
    }
    tier
}

#[test]
fn full_disk_refuses_and_space_brings_writing_back_without_reopening() {
    let disk = SimDisk::new(1);
    let tier = filled(&disk);
    let look = Look::of_tier(&tier).unwrap();
    let used: u64 = disk.files().iter().map(|(_, len)| *len).sum();
    let model = ModelTier::new();
    model.set(&one(20, MULTI, &format!("large={}", "x".repeat(4000)))).unwrap();
    let mut refused = [0; 4];
    for room in (0..80_000).step_by(400) {
        disk.set_capacity(Some(used + room));
        let acts: [&dyn Fn() -> thermocline_tier::Result<()>; 4] = [
            &|| tier.absorb(&model, Checkpoint { version: Version(20), state: "s".into() }),
            &|| tier.set(&one(21, MULTI, "set=1")),
            &|| tier.set_horizon(Version(2)),
            &|| compact(&tier),
        ];
        for (number, act) in acts.iter().enumerate() {
            // Each of them must fail for want of space at first; once it works there is room enough for it.
            let Err(error) = act() else { continue };
            refused[number] += 1;
            assert_eq!(error.kind(), &ErrorKind::DiskFull, "{error}");
            if refused[0] > 0 && refused[3] > 0 && number == 0 {
                assert!(Look::of_tier(&tier).unwrap().horizon <= Version(2));
            }
            check_no_orphans(&disk, &tier).unwrap();
        }
    }
    println!("flush, set, horizon and compaction were refused {refused:?} times for want of space");
    assert!(refused[0] > 0 && refused[3] > 0, "{refused:?}");
    disk.set_capacity(None);
    tier.set(&one(30, MULTI, "again=1")).unwrap();
    compact(&tier).unwrap();
    for (key, version) in [(&b"again"[..], 30), (b"large", 20), (b"set", 21), (b"a", 8)] {
        assert_eq!(tier.get(MULTI, key, Version::MAX).unwrap().version(), Some(Version(version)));
    }
    assert!(look.horizon < tier.horizon());
    drop(tier);
    let tier = open(&disk, small()).unwrap();
    assert_eq!(tier.checkpoint().version, Version(20));
    assert!(tier.contains(MULTI, b"again", Version::MAX).unwrap());
    check_no_orphans(&disk, &tier).unwrap();
}

#[test]
fn full_disk_puts_off_the_switch_to_a_new_manifest_and_refuses_to_open() {
    let disk = SimDisk::new(1);
    let tier = filled(&disk);
    let used = || disk.files().iter().map(|(_, len)| *len).sum::<u64>();
    let manifests = || disk.files().into_iter().filter(|(id, _)| id.class() == FileClass::Manifest).collect::<Vec<_>>();
    let before = manifests();
    for horizon in 1..300 {
        // Room for an edit and its witness, and for no second manifest.
        disk.set_capacity(Some(used() + 9000));
        tier.set_horizon(Version(horizon)).unwrap();
    }
    let [(id, len)] = manifests()[..] else { panic!("one manifest") };
    assert!(id == before[0].0 && len > 2 << 20, "it could not be written anew");
    drop(tier);
    disk.set_capacity(Some(used() + 5000));
    let error = open(&disk, small()).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::DiskFull, "{error}");
    assert_eq!(manifests(), [(id, len)]);
    disk.set_capacity(None);
    let tier = Arc::new(open(&disk, small()).unwrap());
    assert_eq!(tier.horizon(), Version(299));
    assert!(manifests().len() == 1 && manifests()[0].1 < 100_000);
    for horizon in 300..500 {
        tier.set_horizon(Version(horizon)).unwrap();
    }
    assert!(manifests().len() == 1 && manifests()[0].1 < 1 << 20, "now it is written anew in time");
    check_no_orphans(&disk, &tier).unwrap();
    assert_eq!(tier.get(MULTI, b"a", Version::MAX).unwrap().version(), Some(Version(8)));
}

#[test]
fn read_that_fails_in_the_middle_of_a_scan_ends_it_and_harms_nothing() {
    let disk = SimDisk::new(1);
    let tier = Arc::new(open(&disk, WarmOptions { compression_flushed: Compression::None, ..small() }).unwrap());
    let keys: Vec<String> = (0..2000).map(|key| format!("key/{key:05}")).collect();
    let writes: Vec<_> = keys.iter().map(|key| (MULTI, key.as_bytes(), Some(&b"some value of some length"[..]))).collect();
    tier.set(&batch(1, &writes)).unwrap();
    let request = RangeRequest {
        table: MULTI,
        range: KeyRange::all(),
        window: ReadWindow::as_of(Version::MAX),
        direction: Direction::Forward,
    };
    let mut failed = 0;
    for nth in 0..60 {
        disk.inject(Fault::new(FaultKind::Fail(DiskErrorKind::Io), When::Nth(nth)).on(Operation::Read).class(FileClass::Sst));
        let (mut batch, mut found) = (RangeBatch::new(), Vec::new());
        let ended = Arc::clone(&tier).scan(request.clone()).and_then(|mut scan| {
            loop {
                scan.next_batch(100, &mut batch)?;
                found.extend(batch.iter().map(|entry| String::from_utf8(entry.prefix.to_vec()).unwrap()));
                if !batch.has_more {
                    return Ok(());
                }
            }
        });
        disk.clear_faults();
        if let Err(error) = &ended {
            assert_eq!(error.kind(), &ErrorKind::Io, "{error}");
            failed += 1;
        }
        assert!(found == keys[..found.len()], "what came before the failure is right");
        assert_eq!(ended.is_ok(), found.len() == keys.len());
    }
    println!("{failed} scans of 60 failed in the middle");
    assert!(failed > 10);
    assert!(tier.contains(MULTI, b"key/00000", Version::MAX).unwrap());
}

#[test]
fn failed_sync_of_the_directory_takes_no_file_of_a_rewrite_under_way_with_it() {
    // A rewrite has made a file whose name is not yet durable. The sync of the directory that a flush makes fails, and the name
    // is lost, while every later sync says that all is well.
    let disk = SimDisk::new(1);
    let tier = filled(&disk);
    let look = Look::of_tier(&tier).unwrap();
    let before = sorted_files(&disk);
    drop(tier);
    let tier = Arc::new(open(&disk, small()).unwrap());
    while sorted_files(&disk) == before {
        assert!(tier.step().unwrap(), "a rewrite makes files");
    }
    let fault = FaultKind::FailSync { cause: DiskErrorKind::Io, cache: SyncCache::Kept };
    disk.inject(Fault::new(fault, When::Nth(0)).on(Operation::SyncDir));
    tier.set(&one(20, MULTI, "k=v")).unwrap_err();
    for _ in 0..100 {
        if !tier.step().unwrap_or(false) {
            break;
        }
    }
    drop(tier);
    let image = disk.crash_image(CrashPoint::before(usize::MAX), CrashProfile::new(Survival::None), 1);
    let tier = open(&image, small()).unwrap();
    assert!(Look::of_tier(&tier).unwrap() == look);
}

#[test]
fn after_a_failed_sync_of_the_manifest_reads_go_on_and_writes_are_refused_with_the_first_cause() {
    let disk = SimDisk::new(1);
    let tier = filled(&disk);
    let look = Look::of_tier(&tier).unwrap();
    let fault = FaultKind::FailSync { cause: DiskErrorKind::Io, cache: SyncCache::Kept };
    disk.inject(Fault::new(fault, When::Nth(0)).reason(Reason::ManifestWrite));
    let error = tier.set(&one(20, MULTI, "k=v")).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Poisoned, "{error}");
    disk.clear_faults();
    let syncs = |disk: &SimDisk| disk.trace().iter().filter(|entry| entry.operation == Operation::SyncData).count();
    let (synced, files) = (syncs(&disk), sorted_files(&disk).len());
    for _again in 0..3 {
        let model = ModelTier::new();
        model.set(&one(21, MULTI, "k=v")).unwrap();
        for error in [
            tier.set(&one(21, MULTI, "k=v")).unwrap_err(),
            tier.absorb(&model, Checkpoint::default()).unwrap_err(),
            tier.set_horizon(Version(5)).unwrap_err(),
            tier.clear_table(MULTI).unwrap_err(),
            tier.compact(MULTI, &KeyRange::all(), &|| {}).unwrap_err(),
        ] {
            assert_eq!(error.kind(), &ErrorKind::Poisoned, "{error}");
            assert!(error.to_string().contains("sync"), "{error}");
        }
    }
    assert_eq!(sorted_files(&disk).len(), files, "no write leaves a file behind");
    assert_eq!(syncs(&disk), synced, "and none syncs anything");
    assert!(Look::of_tier(&tier).unwrap() == look);
    assert!(live_files(&tier).len() < files, "of the set it is not known whether it is durable, so its file stays");
    drop(tier);
    let tier = open(&disk, small()).unwrap();
    check_no_orphans(&disk, &tier).unwrap();
    tier.set(&one(22, MULTI, "k=v")).unwrap();
}

#[test]
fn rewrite_that_panics_fails_and_nobody_waits_for_it() {
    // While it reads, and while its files are taken over.
    let took_over = [(Operation::SyncDir, Reason::SstWrite), (Operation::SyncData, Reason::ManifestWrite)];
    for (operation, reason) in [(Operation::Read, Reason::SstCompact)].into_iter().chain(took_over) {
        let disk = SimDisk::new(1);
        let tier = filled(&disk);
        let look = Look::of_tier(&tier).unwrap();
        disk.observe(move |call| {
            assert!((call.operation, call.reason) != (operation, Some(reason)), "as a broken disk would");
        });
        let broken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| tier.compact(MULTI, &KeyRange::all(), &|| {})));
        assert!(broken.is_err(), "{operation:?}");
        disk.observe(|_| {});
        match tier.compact(MULTI, &KeyRange::all(), &|| {}) {
            // What the manifest says then, the next open finds out.
            Err(error) => assert!(error.kind() == &ErrorKind::Poisoned && reason == Reason::ManifestWrite, "{error}"),
            Ok(()) => assert_ne!(reason, Reason::ManifestWrite),
        }
        assert_eq!(Look::of_tier(&tier).unwrap(), look);
        drop(tier);
        let tier = open(&disk, small()).unwrap();
        assert_eq!(Look::of_tier(&tier).unwrap(), look);
        check_no_orphans(&disk, &tier).unwrap();
    }
}

/// Whoever had asked for it found neither an answer nor anything to do, and looked again for ever.
#[test]
fn rewrite_whose_beginning_panics_is_answered() {
    let disk = SimDisk::new(1);
    drop(filled(&disk));
    let tier = open(&disk, small()).unwrap();
    let asks = std::thread::current().id();
    disk.observe(move |call| {
        let is_helper = std::thread::current().id() != asks;
        assert!(!(is_helper && call.operation == Operation::Read), "as a broken disk would");
    });
    let help = || {
        let helper = std::thread::scope(|scope| scope.spawn(|| tier.step()).join());
        assert!(helper.is_err(), "it panicked");
    };
    let answer = tier.compact(MULTI, &KeyRange::all(), &help).unwrap_err();
    assert!(answer.to_string().contains("panicked"), "{answer}");
    disk.observe(|_| {});
    tier.compact(MULTI, &KeyRange::all(), &|| {}).unwrap();
}

/// What was kept for the readers of its files counts as cached, and nothing would give it up.
#[test]
fn rewrite_that_is_not_taken_over_leaves_nothing_in_the_cache() {
    let sync = FaultKind::FailSync { cause: DiskErrorKind::Io, cache: SyncCache::Kept };
    for (fault, operation) in [(sync, Operation::SyncData), (FaultKind::Fail(DiskErrorKind::DiskFull), Operation::Write)] {
        let disk = SimDisk::new(1);
        drop(filled(&disk));
        let tier = open(&disk, WarmOptions { cache_size_bytes: 16 << 20, ..small() }).unwrap();
        let look = Look::of_tier(&tier).unwrap();
        let nothing_read = tier.memory_bytes();
        let mut keys = Vec::new();
        tier.visit_entries(&mut |table, entry| {
            keys.push((table, entry.prefix.to_vec()));
            Ok(())
        })
        .unwrap();
        let read = || {
            let before = tier.counters().blocks_read;
            for (table, key) in &keys {
                tier.get(*table, key, Version::MAX).unwrap();
            }
            tier.counters().blocks_read - before
        };
        assert!(read() > 0 && read() == 0 && tier.memory_bytes() > nothing_read);
        let before = tier.memory_bytes();
        disk.inject(Fault::new(fault, When::Nth(0)).reason(Reason::ManifestWrite).on(operation));
        let failed = tier.compact(MULTI, &KeyRange::all(), &|| {}).unwrap_err();
        assert_eq!(tier.memory_bytes(), before, "{operation:?}");
        assert!(Look::of_tier(&tier).unwrap() == look);
        disk.clear_faults();
        if failed.kind() != &ErrorKind::Poisoned {
            // There was something to leave.
            tier.compact(MULTI, &KeyRange::all(), &|| {}).unwrap();
            assert_eq!(read(), 0, "what takes the place of cached blocks is cached");
        }
    }
}

/// It tried again for ever, without a pause, and held whoever wanted to close the store.
#[test]
fn rewrite_that_was_asked_for_fails_when_hidden_files_cannot_be_removed_before() {
    for fault in [DiskErrorKind::DiskFull, DiskErrorKind::Io] {
        let disk = SimDisk::new(1);
        let tier = filled(&disk);
        compact(&tier).unwrap();
        // Two tables share a file: one clear is a mark, and with the other one nothing of the file is seen any more.
        tier.set(&batch(50, &[(MULTI, b"a", Some(b"1")), (SOURCE, b"a", Some(b"1"))])).unwrap();
        for table in tier.tables().unwrap() {
            tier.clear_table(table).unwrap();
        }
        assert!(!tier.files().is_empty(), "nobody has removed the file yet");
        // Not for ever, or the test would not end without the mending.
        for number in 0..20 {
            let kind = FaultKind::Fail(fault);
            disk.inject(Fault::new(kind, When::Nth(number)).reason(Reason::ManifestWrite).on(Operation::Write));
        }
        let refused = tier.compact(MULTI, &KeyRange::all(), &|| {}).unwrap_err();
        let expected = if fault == DiskErrorKind::DiskFull { ErrorKind::DiskFull } else { ErrorKind::Io };
        assert_eq!(refused.kind(), &expected);
    }
}
