//! Drops and clears: they take effect at once, survive restarts and power cuts, vanish with the next rewrite, and never take a
//! later write with them.
//!
//! Hunts: marks that hide what was written after them; marks that are forgotten before what they hide is gone; rewrites that
//! bring back what was dropped while they ran.

use std::sync::Arc;

use thermocline_conformance::ModelTier;
use thermocline_io::{CrashPoint, CrashProfile, SimDisk, Survival};
use thermocline_tier::{Amount, Checkpoint, DropVersion, DurableTier, EntryKind, KeyRange, KeyRef, Lookup, TierStorage, Version};
use thermocline_warm::{WarmOptions, WarmTier, dump_manifest};

use crate::backends::{compact, open, small};
use crate::support::{MULTI, OPERATOR, SOURCE, batch, check_no_orphans, live_files, manifest, one, sorted_files};

/// Nothing is rewritten unless it is asked for.
fn quiet() -> WarmOptions {
    WarmOptions { level0_flushes: 1000, level0_flushes_slow: 2000, ..small() }
}

fn drop_of(table: EntryKind, key: &'static str, version: u64) -> DropVersion {
    DropVersion { table, prefix: key.into(), version: Version(version) }
}

fn value(tier: &WarmTier, table: EntryKind, key: &str, at: u64) -> String {
    match tier.get(table, key.as_bytes(), Version(at)).unwrap() {
        Lookup::Value { version, bytes, .. } => format!("{}@{version}", bytes.escape_ascii()),
        Lookup::Tombstone { version } => format!("~@{version}"),
        Lookup::Absent => "-".into(),
    }
}

fn versions(tier: &WarmTier, table: EntryKind, key: &str) -> Vec<u64> {
    tier.get_all_versions(table, key.as_bytes()).unwrap().iter().map(|entry| entry.version.0).collect()
}

/// How many drops and clears the manifest holds. The tier is opened anew, so that the manifest says it in one record.
fn markers(disk: &SimDisk) -> (usize, usize) {
    drop(open(disk, quiet()).unwrap());
    let (number, bytes) = manifest(disk);
    let dump = dump_manifest(&bytes, number).to_string();
    let count = |name: &str| dump.lines().filter(|line| line.split_whitespace().any(|word| word == name)).count();
    // A row for each item, beside the one with their number and those of what was forgotten.
    (count("drop"), count("clear"))
}

/// The disk after a power cut that leaves only what is durable.
fn cut(disk: &SimDisk) -> SimDisk {
    disk.crash_image(CrashPoint::before(usize::MAX), CrashProfile::new(Survival::None), 1)
}

#[test]
fn drop_takes_effect_at_once_and_survives_restarts_and_power_cuts() {
    let disk = SimDisk::new(1);
    let tier = open(&disk, quiet()).unwrap();
    for version in [3, 5, 7] {
        tier.set(&one(version, MULTI, &format!("k={version}"))).unwrap();
        tier.set(&one(version, MULTI, &format!("l={version}"))).unwrap();
    }
    let drops =
        [drop_of(MULTI, "k", 5), drop_of(MULTI, "l", 7), drop_of(MULTI, "k", 4), drop_of(SOURCE, "k", 5), drop_of(MULTI, "m", 1)];
    tier.drop_versions(&drops).unwrap();
    let check = |tier: &WarmTier| {
        assert_eq!(versions(tier, MULTI, "k"), [7, 3]);
        assert_eq!(versions(tier, MULTI, "l"), [5, 3]);
        assert_eq!((value(tier, MULTI, "k", 6), value(tier, MULTI, "k", 9)), ("3@3".into(), "7@7".into()));
        assert_eq!((value(tier, MULTI, "l", 9), value(tier, MULTI, "l", 4)), ("5@5".into(), "3@3".into()));
        let mut all = Vec::new();
        let visited = tier.visit_entries(&mut |_, entry| {
            all.push((entry.prefix.to_vec(), entry.version.0));
            Ok(())
        });
        visited.unwrap();
        assert_eq!(all, [(b"k".to_vec(), 7), (b"k".to_vec(), 3), (b"l".to_vec(), 5), (b"l".to_vec(), 3)]);
    };
    check(&tier);
    check(&open(&cut(&disk), quiet()).unwrap());
    drop(tier);
    check(&open(&disk, quiet()).unwrap());
    assert_eq!(markers(&disk), (2, 0), "what was not there has no mark");
    check(&open(&disk, quiet()).unwrap());
}

#[test]
fn drop_never_takes_a_later_write_of_the_same_version_with_it() {
    let disk = SimDisk::new(1);
    let tier = open(&disk, quiet()).unwrap();
    tier.set(&one(3, MULTI, "k=old")).unwrap();
    tier.set(&one(5, MULTI, "k=newest")).unwrap();
    tier.drop_versions(&[drop_of(MULTI, "k", 5)]).unwrap();
    // By set, by a flush, and again.
    tier.set(&one(5, MULTI, "k=again")).unwrap();
    assert_eq!(value(&tier, MULTI, "k", 9), "again@5");
    tier.drop_versions(&[drop_of(MULTI, "k", 5)]).unwrap();
    assert_eq!(value(&tier, MULTI, "k", 9), "old@3");
    let model = ModelTier::new();
    model.set(&one(5, MULTI, "k=flushed")).unwrap();
    tier.absorb(&model, Checkpoint::default()).unwrap();
    let check = |tier: &WarmTier| {
        assert_eq!(value(tier, MULTI, "k", 9), "flushed@5");
        assert_eq!(versions(tier, MULTI, "k"), [5, 3]);
    };
    check(&tier);
    check(&open(&cut(&disk), quiet()).unwrap());
    compact(&tier).unwrap();
    check(&tier);
    drop(tier);
    check(&open(&disk, quiet()).unwrap());
    assert_eq!(markers(&disk), (0, 0));
}

#[test]
fn marks_vanish_with_the_rewrite_of_what_they_hide_and_not_before() {
    let disk = SimDisk::new(1);
    let tier = open(&disk, quiet()).unwrap();
    // Two files with the key, one with others that a rewrite of their range takes along, one without.
    tier.set(&one(3, MULTI, "k=3")).unwrap();
    tier.set(&one(5, MULTI, "k=5")).unwrap();
    tier.set(&one(5, MULTI, "z=5")).unwrap();
    tier.drop_versions(&[drop_of(MULTI, "k", 3), drop_of(MULTI, "z", 5)]).unwrap();
    drop(tier);
    assert_eq!(markers(&disk), (2, 0));
    let tier = open(&disk, quiet()).unwrap();
    tier.compact(MULTI, &KeyRange::all(), &|| {}).unwrap();
    assert_eq!(versions(&tier, MULTI, "k"), [5]);
    assert_eq!(value(&tier, MULTI, "z", 9), "-");
    check_no_orphans(&disk, &tier).unwrap();
    assert_eq!(live_files(&tier).len(), 1, "the other file had nothing left");
    drop(tier);
    assert_eq!(markers(&disk), (0, 0));
    // The bytes are gone too.
    let [file] = sorted_files(&disk)[..] else { panic!("one file") };
    assert!(!disk.file_bytes(file).unwrap().windows(2).any(|bytes| bytes == b"z5"));
}

#[test]
fn mark_made_while_its_file_is_rewritten_hides_what_the_rewrite_brings() {
    for (is_clear, is_written_again) in [(false, false), (false, true), (true, false), (true, true)] {
        let disk = SimDisk::new(1);
        let tier = open(&disk, WarmOptions { step_size_bytes: 1, ..quiet() }).unwrap();
        for version in [3, 5] {
            for key in ["a", "k", "z"] {
                tier.set(&one(version, MULTI, &format!("{key}={version}"))).unwrap();
            }
            // In the same files, so that a clear cannot just remove them.
            let model = ModelTier::new();
            model.set(&one(version, MULTI, &format!("k={version}"))).unwrap();
            model.set(&one(version, SOURCE, &format!("k={version}"))).unwrap();
            tier.absorb(&model, Checkpoint::default()).unwrap();
        }
        drop(tier);
        // Everything in level 0 is wanted now, a step at a time.
        let tier = open(&disk, WarmOptions { level0_flushes: 1, level0_flushes_slow: 9, step_size_bytes: 1, ..quiet() }).unwrap();
        let before = sorted_files(&disk).len();
        while sorted_files(&disk).len() == before {
            assert!(tier.step().unwrap());
        }
        if is_clear {
            tier.clear_table(MULTI).unwrap();
        } else {
            tier.drop_versions(&[drop_of(MULTI, "k", 5), drop_of(MULTI, "k", 3)]).unwrap();
        }
        if is_written_again {
            tier.set(&one(5, MULTI, "k=again")).unwrap();
        }
        let (expected, others) = (if is_written_again { "again@5" } else { "-" }, if is_clear { "-" } else { "5@5" });
        let check = |tier: &WarmTier| {
            assert_eq!(value(tier, MULTI, "k", 9), expected);
            assert_eq!(value(tier, MULTI, "a", 9), others);
            assert_eq!(value(tier, SOURCE, "k", 9), "5@5");
            assert_eq!(versions(tier, MULTI, "k").len(), usize::from(is_written_again));
        };
        check(&tier);
        check(&open(&cut(&disk), quiet()).unwrap());
        while tier.step().unwrap() {
            check(&tier);
        }
        check(&tier);
        check(&open(&cut(&disk), quiet()).unwrap());
        compact(&tier).unwrap();
        check(&tier);
        drop(tier);
        assert_eq!(markers(&disk), (0, 0));
        let tier = open(&disk, quiet()).unwrap();
        check(&tier);
        check_no_orphans(&disk, &tier).unwrap();
    }
}

#[test]
fn clear_of_a_table_costs_a_rewrite_of_others_nothing_of_its_work() {
    for is_written_again in [false, true] {
        let disk = SimDisk::new(1);
        let options = WarmOptions { level0_flushes: 3, level0_flushes_slow: 99, step_size_bytes: 1, ..quiet() };
        let tier = open(&disk, options).unwrap();
        // A rewrite of files of one table each.
        tier.set(&one(1, MULTI, "a=0")).unwrap();
        tier.set(&one(2, SOURCE, "b=2")).unwrap();
        tier.set(&one(3, MULTI, "a=1")).unwrap();
        let files = sorted_files(&disk);
        while sorted_files(&disk) == files {
            assert!(tier.step().unwrap());
        }
        tier.clear_table(SOURCE).unwrap();
        assert_eq!(value(&tier, SOURCE, "b", 9), "-");
        // After a power cut there is no such rewrite, and the file that it left goes without one.
        let image = cut(&disk);
        let reopened = open(&image, WarmOptions { level0_flushes: 9, level0_flushes_slow: 99, ..quiet() }).unwrap();
        assert_eq!(live_files(&reopened).len(), 3);
        while reopened.step().unwrap() {}
        assert_eq!(live_files(&reopened).len(), 2);
        check_no_orphans(&image, &reopened).unwrap();
        drop(reopened);
        assert_eq!(markers(&image), (0, 0));
        if is_written_again {
            tier.set(&one(2, SOURCE, "b=again")).unwrap();
        }
        while tier.step().unwrap() {}
        assert!(tier.files().iter().any(|file| file.level == 1), "the rewrite was taken over");
        assert!(!live_files(&tier).iter().any(|file| files.contains(file)));
        let check = |tier: &WarmTier| {
            assert_eq!(value(tier, MULTI, "a", 9), "1@3");
            assert_eq!(value(tier, SOURCE, "b", 9), if is_written_again { "again@2" } else { "-" });
        };
        check(&tier);
        check_no_orphans(&disk, &tier).unwrap();
        check(&open(&cut(&disk), quiet()).unwrap());
    }
}

#[test]
fn clear_takes_effect_at_once_survives_and_spares_what_comes_later() {
    let disk = SimDisk::new(1);
    let tier = open(&disk, quiet()).unwrap();
    // Files of the table alone and together with another.
    tier.set(&one(3, MULTI, "k=3")).unwrap();
    let model = ModelTier::new();
    for table in [MULTI, SOURCE] {
        model.set(&one(5, table, "k=5")).unwrap();
        model.set(&one(6, table, "l")).unwrap();
    }
    tier.absorb(&model, Checkpoint { version: Version(6), state: "s".into() }).unwrap();
    tier.ensure_table(OPERATOR).unwrap();
    tier.clear_table(MULTI).unwrap();
    tier.clear_table(OPERATOR).unwrap();
    let check = |tier: &WarmTier| {
        assert_eq!(tier.tables().unwrap(), [MULTI, SOURCE, OPERATOR], "a cleared table remains");
        assert!(versions(tier, MULTI, "k").is_empty() && versions(tier, MULTI, "l").is_empty());
        assert_eq!((value(tier, SOURCE, "k", 9), value(tier, SOURCE, "l", 9)), ("5@5".into(), "~@6".into()));
        assert_eq!(tier.checkpoint().version, Version(6));
        let stats = tier.stats();
        assert_eq!(stats.tables.iter().map(|(_, stats)| stats.entries).collect::<Vec<_>>(), [0, 2, 0]);
    };
    check(&tier);
    assert_eq!(live_files(&tier).len(), 1, "what held nothing else is gone at once");
    check_no_orphans(&disk, &tier).unwrap();
    check(&open(&cut(&disk), quiet()).unwrap());
    drop(tier);
    assert_eq!(markers(&disk), (0, 1));
    let tier = open(&disk, quiet()).unwrap();
    check(&tier);
    // Older versions than those that were cleared, too.
    tier.set(&one(2, MULTI, "k=2")).unwrap();
    tier.set(&one(5, MULTI, "l=again")).unwrap();
    let check = |tier: &WarmTier| {
        assert_eq!(versions(tier, MULTI, "k"), [2]);
        assert_eq!(versions(tier, MULTI, "l"), [5]);
        assert_eq!(value(tier, SOURCE, "k", 9), "5@5");
    };
    check(&tier);
    compact(&tier).unwrap();
    check(&tier);
    drop(tier);
    assert_eq!(markers(&disk), (0, 0), "the rewrite has done what the mark asked for");
    check(&open(&disk, quiet()).unwrap());
}

#[test]
fn drops_of_one_call_are_seen_together_by_readers_on_other_threads() {
    let disk = SimDisk::new(1);
    let tier = Arc::new(open(&disk, quiet()).unwrap());
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for version in 1..400_u64 {
                let text = version.to_string();
                let writes = [b"a", b"b"].map(|key| (MULTI, key.as_slice(), Some(text.as_bytes())));
                tier.set(&batch(version, &writes)).unwrap();
                tier.drop_versions(&[drop_of(MULTI, "a", version), drop_of(MULTI, "b", version)]).unwrap();
                if version % 64 == 0 {
                    compact(&tier).unwrap();
                }
            }
        });
        let keys = [b"a", b"b"].map(|prefix| KeyRef { table: MULTI, prefix });
        let (mut there, mut gone) = (0, 0);
        while !writer.is_finished() || there + gone < 10 {
            let found = tier.get_many(&keys, Version::MAX).unwrap();
            assert_eq!(found[0], found[1]);
            *if found[0].is_value() { &mut there } else { &mut gone } += 1;
        }
        println!("there {there} times, gone {gone} times");
        writer.join().unwrap();
    });
    assert!(versions(&tier, MULTI, "a").is_empty() && versions(&tier, MULTI, "b").is_empty());
    compact(&tier).unwrap();
    assert!(live_files(&tier).is_empty(), "nothing is left");
    check_no_orphans(&disk, &tier).unwrap();
}

#[test]
fn markers_of_a_reader_that_may_not_write_are_refused() {
    let disk = SimDisk::new(1);
    let tier = open(&disk, quiet()).unwrap();
    tier.set(&one(3, MULTI, "k=3")).unwrap();
    tier.set(&one(3, SOURCE, "k=3")).unwrap();
    drop(tier);
    let request = thermocline_warm::OpenWarm {
        disk: Arc::new(disk.clone()),
        store: crate::hostile::STORE,
        options: quiet(),
        is_read_only: true,
        migration: None,
    };
    let before = disk.files();
    let tier = WarmTier::open(request).unwrap();
    tier.drop_versions(&[drop_of(MULTI, "k", 3)]).unwrap_err();
    tier.clear_table(MULTI).unwrap_err();
    tier.set(&one(4, MULTI, "k=4")).unwrap_err();
    tier.set_horizon(Version(4)).unwrap_err();
    tier.ensure_table(OPERATOR).unwrap_err();
    tier.compact(MULTI, &KeyRange::all(), &|| {}).unwrap_err();
    assert!(!tier.step().unwrap());
    assert_eq!(value(&tier, MULTI, "k", 9), "3@3");
    drop(tier);
    assert_eq!(disk.files(), before);
}

/// Nothing rewrote a file that a purge had left mostly hidden, and as long as the mark was there many keys were read one by one.
#[test]
fn file_that_is_mostly_of_a_cleared_table_is_rewritten_by_itself() {
    let disk = SimDisk::new(1);
    let tier = open(&disk, WarmOptions { file_size_bytes: 1 << 20, ..quiet() }).unwrap();
    let keys: Vec<String> = (0..200).map(|key| format!("{key:03}")).collect();
    let write = |table, count: usize| keys[..count].iter().map(move |key| (table, key.as_bytes(), Some(&b"some value"[..])));
    let writes: Vec<_> = write(MULTI, 100).chain(write(SOURCE, 200)).collect();
    tier.set(&batch(1, &writes)).unwrap();
    compact(&tier).unwrap();
    assert_eq!(tier.files().len(), 1);
    tier.clear_table(SOURCE).unwrap();
    let many = |table| {
        let keys: Vec<_> = keys.iter().map(|key| KeyRef { table, prefix: key.as_bytes() }).collect();
        tier.get_many(&keys, Version::MAX).unwrap().into_iter().filter(Lookup::is_value).count()
    };
    assert_eq!((many(MULTI), many(SOURCE)), (100, 0));
    tier.set(&batch(2, &write(SOURCE, 7).collect::<Vec<_>>())).unwrap();
    assert_eq!((many(MULTI), many(SOURCE)), (100, 7));
    let before = tier.files().iter().map(|file| file.size_bytes).max();
    while tier.step().unwrap() {}
    assert!(tier.files().iter().map(|file| file.size_bytes).max() < before, "the hidden table is gone from the file");
    assert_eq!((many(MULTI), many(SOURCE)), (100, 7));
    // A file of that table alone goes without a rewrite.
    let rewritten = tier.counters().rewritten_bytes;
    tier.clear_table(SOURCE).unwrap();
    while tier.step().unwrap() {}
    assert_eq!((tier.counters().rewritten_bytes, many(SOURCE)), (rewritten, 0));
}

#[test]
fn file_of_which_much_was_dropped_is_rewritten_by_itself() {
    let disk = SimDisk::new(1);
    let tier = open(&disk, quiet()).unwrap();
    let keys: Vec<String> = (0..100).map(|number| format!("{number:03}")).collect();
    let writes: Vec<_> = keys.iter().map(|key| (MULTI, key.as_bytes(), Some(&b"v"[..]))).collect();
    tier.set(&batch(3, &writes)).unwrap();
    tier.compact(MULTI, &KeyRange::all(), &|| {}).unwrap();
    let drop_some = |numbers: std::ops::Range<usize>| {
        let drop_of = |key: &String| DropVersion { table: MULTI, prefix: key.clone().into(), version: Version(3) };
        tier.drop_versions(&keys[numbers].iter().map(drop_of).collect::<Vec<_>>()).unwrap();
        while tier.step().unwrap() {}
        tier.stats().tables[0].1.entries
    };
    assert_eq!(drop_some(0..10), 100, "not worth it yet");
    assert_eq!(drop_some(10..30), 70);
    assert_eq!(tier.reclaimed(), [(MULTI, Amount { entries: 30, bytes: 30 * 4 })]);
    tier.pause_reclaim(true);
    assert_eq!(drop_some(30..90), 70);
    tier.pause_reclaim(false);
    assert_eq!(drop_some(0..0), 10);
    drop(tier);
    assert_eq!(markers(&disk), (0, 0));
}

#[test]
fn many_drops_are_worked_off_however_little_of_each_file_they_are() {
    let disk = SimDisk::new(1);
    let options = WarmOptions { level0_flushes: 1000, level0_flushes_slow: 2000, ..WarmOptions::default() };
    let tier = open(&disk, options).unwrap();
    let keys: Vec<String> = (0..70_000).map(|number| format!("{number:06}")).collect();
    let writes: Vec<_> = keys.iter().map(|key| (MULTI, key.as_bytes(), Some(&b"v"[..]))).collect();
    tier.set(&batch(3, &writes)).unwrap();
    let drop_of = |key: &String| DropVersion { table: MULTI, prefix: key.clone().into(), version: Version(3) };
    // In a file as it was flushed, which is never rewritten alone; then in one that was.
    for (numbers, left) in [(0..16_384, 70_000), (16_384..16_500, 53_500), (16_500..29_000, 53_500), (29_000..33_000, 37_000)] {
        for some in keys[numbers].chunks(4_096) {
            tier.drop_versions(&some.iter().map(drop_of).collect::<Vec<_>>()).unwrap();
        }
        while tier.step().unwrap() {}
        assert_eq!(tier.stats().tables[0].1.entries, left);
    }
}
