//! Summaries: they live as long as their files, and say what these hold.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use thermocline_io::{CrashPoint, CrashProfile, SimDisk};
use thermocline_tier::{
    Checkpoint, Direction, DropVersion, DurableTier, KeyRange, RangeBatch, RangeRequest, ReadWindow, TierStorage, Version,
};

use super::{Plan, Seen, check_summaries, migrating, open, rows, seen, set_horizon, summed};
use crate::backends::compact;
use crate::support::{MULTI, OPERATOR, Random, SOURCE, batch, one};

#[test]
fn no_files_have_no_summaries() {
    let (disk, plan) = (SimDisk::new(1), Plan::to(2));
    assert!(migrating(&open(&disk, &plan)).summaries().is_empty());
}

#[test]
fn each_file_of_a_rewrite_has_a_summary_of_its_own_and_keeps_it_when_it_is_opened_again() {
    let (disk, plan) = (SimDisk::new(1), Plan::to(2));
    let tier = open(&disk, &plan);
    let mut random = Random(3);
    for version in 1..=4 {
        let writes: Vec<(String, Vec<u8>)> =
            (0..60).map(|key| (format!("{key:03}"), [b"1", random.bytes(200).as_slice()].concat())).collect();
        let writes: Vec<_> = writes.iter().map(|(key, value)| (MULTI, key.as_bytes(), Some(value.as_slice()))).collect();
        tier.set(&batch(version, &writes)).unwrap();
    }
    let flushed = migrating(&tier).summaries();
    assert!(flushed.len() >= 4 && summed(&tier) == Seen::of([(b'1', 240)]));
    set_horizon(&tier, 2);
    compact(&tier).unwrap();
    let compacted = migrating(&tier).summaries();
    assert_eq!(compacted.len(), tier.files().len());
    assert!(compacted.len() > 3 && compacted.iter().all(|file| flushed.iter().all(|before| before.number < file.number)));
    assert_eq!(summed(&tier), Seen::of([(b'1', 120), (b'2', 60)]), "of each key one is settled, and two are above");
    check_summaries(&tier);
    drop(tier);
    let tier = open(&disk, &plan);
    assert_eq!(migrating(&tier).summaries(), compacted);
    check_summaries(&tier);
}

#[test]
fn file_that_a_reader_holds_keeps_its_summary_until_he_lets_go() {
    let (disk, plan) = (SimDisk::new(1), Plan::to(2));
    let tier = open(&disk, &plan);
    tier.set(&batch(1, &[(MULTI, b"a", Some(b"1")), (MULTI, b"b", Some(b"1"))])).unwrap();
    set_horizon(&tier, 1);
    let window = ReadWindow::as_of(Version::MAX);
    let request = RangeRequest { table: MULTI, range: KeyRange::all(), window, direction: Direction::Forward };
    let mut scan = Arc::clone(&tier).scan(request).unwrap();
    let mut page = RangeBatch::new();
    scan.next_batch(1, &mut page).unwrap();
    compact(&tier).unwrap();
    let summaries = migrating(&tier).summaries();
    let held: Vec<(bool, Seen)> = summaries.iter().map(|file| (file.is_live, seen(file))).collect();
    assert_eq!(held, [(true, Seen::of([(b'2', 2)])), (false, Seen::of([(b'1', 2)]))]);
    scan.next_batch(1, &mut page).unwrap();
    assert_eq!(page.get(0).unwrap().value, Some(&b"1"[..]), "he reads what was there when he began");
    drop(scan);
    assert_eq!(migrating(&tier).summaries().iter().map(|file| file.is_live).collect::<Vec<_>>(), [true]);
}

#[test]
fn summaries_that_were_made_anew_hold_what_was_not_offered_yet() {
    let (disk, plan) = (SimDisk::new(1), Plan::to(2));
    {
        // Without a strategy.
        let tier = crate::backends::open(&disk, crate::backends::small()).unwrap();
        tier.set(&one(1, MULTI, "a=1")).unwrap();
        tier.set(&one(2, MULTI, "b=1")).unwrap();
        assert!(tier.migrating().is_none());
    }
    let tier = open(&disk, &plan);
    for file in migrating(&tier).summaries() {
        assert!(file.slot.is_empty());
        migrating(&tier).summarize(file.number).unwrap().unwrap();
    }
    assert_eq!(summed(&tier), Seen::of([(b'1', 2)]));
    drop(tier);
    let tier = open(&disk, &plan);
    assert_eq!(summed(&tier), Seen::of([(b'1', 2)]), "they were kept");
    plan.wants.store(true, Ordering::Relaxed);
    set_horizon(&tier, 2);
    while tier.step().unwrap() {}
    assert_eq!(summed(&tier), Seen::of([(b'2', 2)]));
    tier.verify().unwrap();
}

/// The lowest schema of any row, and of any row that the summaries tell of.
fn oldest(tier: &super::WarmTier) -> (Option<u8>, Option<u8>) {
    let mut lowest = None;
    tier.visit_entries(&mut |_, entry| {
        lowest = lowest.into_iter().chain(entry.value.map(|value| value[0])).min();
        Ok(())
    })
    .unwrap();
    (lowest, summed(tier).0.first_key_value().map(|(schema, _)| *schema))
}

#[test]
fn after_any_history_summaries_equal_what_files_hold_and_the_watermark_passes_no_row() {
    for seed in 0..30 {
        let (mut disk, plan) = (SimDisk::new(1), Plan::to(1));
        let mut tier = open(&disk, &plan);
        let mut random = Random(seed);
        let (mut version, mut horizon, mut written) = (0, 0, Vec::new());
        for _ in 0..120 {
            match random.below(20) {
                0..=9 => {
                    version += 1 + random.below(3);
                    let writes: Vec<_> = (0..=random.below(6))
                        .map(|_| {
                            let table = [MULTI, SOURCE, OPERATOR][random.index(3)];
                            let value = [plan.target.load(Ordering::Relaxed).saturating_sub(random.below(2) as u8) + b'0'];
                            (table, format!("{}#{version}", random.below(30)), random.chance(85).then_some(value))
                        })
                        .collect();
                    let writes: Vec<_> = writes
                        .iter()
                        .map(|(table, key, value)| (*table, key.as_bytes(), value.as_ref().map(<[u8; 1]>::as_slice)))
                        .collect();
                    written.extend(writes.iter().map(|(table, key, _)| (*table, key.to_vec(), version)));
                    tier.set(&batch(version, &writes)).unwrap();
                }
                10 => plan.target.store((plan.target.load(Ordering::Relaxed) + 1).min(9), Ordering::Relaxed),
                11 => {
                    horizon = (horizon + random.below(20)).min(version);
                    set_horizon(&tier, horizon);
                }
                12..=14 => (0..=random.below(5)).take_while(|_| tier.step().unwrap()).for_each(drop),
                15 => tier.compact([MULTI, SOURCE][random.index(2)], &KeyRange::all(), &|| {}).unwrap(),
                16 => plan.wants.store(random.chance(50), Ordering::Relaxed),
                17 if !written.is_empty() => {
                    let (table, key, version) = &written[random.index(written.len())];
                    let prefix = key.split(|byte| *byte == b'#').next().unwrap().to_vec().into();
                    tier.drop_versions(&[DropVersion { table: *table, prefix, version: Version(*version) }]).unwrap();
                }
                18 if random.chance(30) => tier.clear_table(OPERATOR).unwrap(),
                _ => {
                    // A crash, now or some operations ago.
                    let cut = CrashPoint::after(disk.operations().saturating_sub(1 + random.index(12)));
                    let image = disk.crash_image(cut, CrashProfile::numbered(random.next()), random.next());
                    drop(tier);
                    disk = image;
                    tier = open(&disk, &plan);
                }
            }
            check_summaries(&tier);
            let (row, noted) = oldest(&tier);
            assert!(row.is_none() || noted.is_some_and(|noted| Some(noted) <= row), "seed {seed}: {noted:?} above {row:?}");
        }
        // Driven to the end, nothing old is left.
        set_horizon(&tier, version);
        plan.target.store(9, Ordering::Relaxed);
        migrating(&tier).finish_rewrite(&|| {}).unwrap();
        for file in migrating(&tier).summaries() {
            migrating(&tier).rewrite(file.number, &|| {}).unwrap();
        }
        assert!(rows(&tier).iter().all(|row| row.contains("=9")), "seed {seed}: {:?}", rows(&tier));
        check_summaries(&tier);
        tier.verify().unwrap();
    }
}

#[test]
fn what_was_absorbed_is_summed_up() {
    let (disk, plan) = (SimDisk::new(1), Plan::to(2));
    let (upper_disk, tier) = (SimDisk::new(2), open(&disk, &plan));
    let upper = crate::backends::open(&upper_disk, crate::backends::small()).unwrap();
    upper.set(&batch(1, &[(MULTI, b"a", Some(b"1")), (MULTI, b"b", None), (SOURCE, b"c", Some(b"3"))])).unwrap();
    tier.absorb(&upper, Checkpoint::default()).unwrap();
    assert_eq!(summed(&tier), Seen::of([(b'1', 1), (b'3', 1)]));
}
