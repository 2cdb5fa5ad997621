//! A power cut anywhere while rows are migrated: each is in its old form or in its new one, and summaries say which.

use std::sync::atomic::Ordering;

use thermocline_io::{CrashPoint, CrashProfile, Phase, SimDisk};
use thermocline_tier::{TierStorage, Version};

use super::{Plan, Seen, check_summaries, migrating, open, rows, set_horizon, summed};
use crate::backends::compact;
use crate::support::{MULTI, batch, check_no_orphans};

const KEYS: u64 = 30;

#[test]
fn a_power_cut_anywhere_leaves_each_row_old_or_new_and_its_summary_with_it() {
    let (disk, plan) = (SimDisk::new(1), Plan::to(2));
    let tier = open(&disk, &plan);
    let keys: Vec<String> = (0..KEYS).map(|key| format!("{key:03}#{key}")).collect();
    for part in keys.chunks(7) {
        let writes: Vec<_> = part.iter().map(|key| (MULTI, key.as_bytes(), Some(&b"1"[..]))).collect();
        let version = tier.stats().tables.first().map_or(0, |(_, stats)| stats.entries) + 1;
        tier.set(&batch(version, &writes)).unwrap();
    }
    set_horizon(&tier, KEYS);
    disk.restart_recording();
    // Once for a summary that was lost, then for the rows.
    let first = migrating(&tier).summaries()[0].number;
    migrating(&tier).summarize(first).unwrap();
    compact(&tier).unwrap();
    plan.target.store(3, Ordering::Relaxed);
    for file in migrating(&tier).summaries() {
        migrating(&tier).rewrite(file.number, &|| {}).unwrap();
    }
    assert_eq!(summed(&tier), Seen::of([(b'3', KEYS)]));
    drop(tier);

    let recording = disk.recording();
    let (mut walk, mut images, mut forms) = (recording.sweep(), 0, [0; 3]);
    for operation in 0..=recording.operations() {
        for phase in [Phase::Before, Phase::Inside, Phase::After] {
            let profile = CrashProfile::numbered(operation as u64);
            let image = walk.crash_image(CrashPoint { operation, phase }, profile, operation as u64);
            let plan = Plan::to(2);
            let tier = open(&image, &plan);
            let found = rows(&tier);
            assert_eq!(found.len() as u64, KEYS, "{operation} {phase:?}: {found:?}");
            for row in &found {
                // Once more for each time that it was migrated.
                let form = ["=1", "=2+", "=3++"].iter().position(|form| row.ends_with(form));
                forms[form.unwrap_or_else(|| panic!("{operation} {phase:?}: {row}"))] += 1;
            }
            check_summaries(&tier);
            check_no_orphans(&image, &tier).unwrap();
            images += 1;
            if images % 4 == 0 {
                plan.target.store(4, Ordering::Relaxed);
                for file in migrating(&tier).summaries() {
                    migrating(&tier).rewrite(file.number, &|| {}).unwrap();
                }
                assert_eq!(summed(&tier), Seen::of([(b'4', KEYS)]));
                check_summaries(&tier);
                assert!(tier.contains(MULTI, b"000", Version::MAX).unwrap());
            }
        }
    }
    assert!(forms.iter().all(|count| *count > 0), "{forms:?}");
    println!("power cut at every one of {} operations, {images} images", recording.operations());
}
