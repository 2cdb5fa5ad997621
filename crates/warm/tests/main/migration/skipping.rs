//! Scans that leave files out by their summaries: nothing comes back from the dead, and nothing is missing.

use std::collections::BTreeMap;
use std::sync::Arc;

use thermocline_io::SimDisk;
use thermocline_migration::{Slot, Summary};
use thermocline_tier::{Direction, DurableTier, KeyRange, RangeBatch, RangeRequest, ReadWindow, TierStorage, Version};

use super::{Padded, Plan, migrating, open, set_horizon};
use crate::backends::compact;
use crate::support::{MULTI, Random, batch, name_of, one};

/// The rows of a scan that does not want files of which `skip` holds: keys with values.
fn scan(tier: &Arc<super::WarmTier>, direction: Direction, skip: impl Fn(&super::Seen) -> bool) -> BTreeMap<String, String> {
    let request = RangeRequest { table: MULTI, range: KeyRange::all(), window: ReadWindow::as_of(Version::MAX), direction };
    let skip = |slot: &[u8]| Slot::decode(slot).is_some_and(|slot| skip(&Padded::decode(slot.summary).unwrap().0));
    let mut scan = Arc::clone(tier).scan_skipping(request, &skip).unwrap();
    let (mut page, mut rows) = (RangeBatch::new(), BTreeMap::new());
    loop {
        scan.next_batch(7, &mut page).unwrap();
        let visible = page.iter().filter_map(|row| Some((name_of(row.prefix), name_of(row.value?))));
        rows.extend(visible);
        if !page.has_more {
            return rows;
        }
    }
}

/// Only rows of schema 2 are wanted.
fn has_none_of_2(seen: &super::Seen) -> bool {
    !seen.0.contains_key(&b'2')
}

fn found(tier: &Arc<super::WarmTier>) -> Vec<String> {
    let rows = scan(tier, Direction::Forward, has_none_of_2);
    assert_eq!(rows, scan(tier, Direction::Reverse, has_none_of_2));
    rows.into_iter().map(|(key, value)| format!("{key}={value}")).collect()
}

#[test]
fn files_without_wanted_rows_are_left_out() {
    let (disk, plan) = (SimDisk::new(1), Plan::to(0));
    let tier = open(&disk, &plan);
    tier.set(&one(1, MULTI, "a=1")).unwrap();
    tier.set(&one(2, MULTI, "b=2")).unwrap();
    tier.set(&batch(3, &[(MULTI, b"c", Some(b"1")), (MULTI, b"d", Some(b"2"))])).unwrap();
    assert_eq!(found(&tier), ["b=2", "c=1", "d=2"]);
}

#[test]
fn deletion_that_hides_a_row_of_another_file_is_not_skipped() {
    let (disk, plan) = (SimDisk::new(1), Plan::to(0));
    let tier = open(&disk, &plan);
    tier.set(&batch(1, &[(MULTI, b"a", Some(b"2")), (MULTI, b"k", Some(b"2"))])).unwrap();
    compact(&tier).unwrap();
    // A file with nothing but a deletion and a row that nobody wants.
    tier.set(&batch(2, &[(MULTI, b"k", None), (MULTI, b"l", Some(b"1"))])).unwrap();
    assert_eq!(found(&tier), ["a=2", "l=1"], "k stays dead");
}

#[test]
fn newer_row_that_hides_one_of_another_file_is_not_skipped() {
    let (disk, plan) = (SimDisk::new(1), Plan::to(0));
    let tier = open(&disk, &plan);
    tier.set(&batch(1, &[(MULTI, b"a", Some(b"2")), (MULTI, b"k", Some(b"2old"))])).unwrap();
    compact(&tier).unwrap();
    tier.set(&one(2, MULTI, "k=1")).unwrap();
    assert_eq!(found(&tier), ["a=2", "k=1"], "what k was is not shown as if it were");
}

#[test]
fn file_below_one_that_is_read_is_skipped_and_so_is_what_hides_only_skipped_files() {
    let (disk, plan) = (SimDisk::new(1), Plan::to(0));
    let tier = open(&disk, &plan);
    tier.set(&batch(1, &[(MULTI, b"a", Some(b"1")), (MULTI, b"k", Some(b"1"))])).unwrap();
    tier.set(&batch(2, &[(MULTI, b"a", Some(b"1")), (MULTI, b"k", None)])).unwrap();
    tier.set(&batch(3, &[(MULTI, b"a", Some(b"2"))])).unwrap();
    assert_eq!(found(&tier), ["a=2"]);
    // An older file that is read makes all above it be read.
    tier.set(&one(4, MULTI, "b=2")).unwrap();
    assert_eq!(found(&tier), ["a=2", "b=2"]);
}

#[test]
fn with_any_files_no_wanted_row_is_missing_and_every_row_that_comes_is_there() {
    for seed in 0..40 {
        let (disk, plan) = (SimDisk::new(1), Plan::to(0));
        let tier = open(&disk, &plan);
        let mut random = Random(seed);
        for version in 1..=40 {
            let schema = b'1' + random.below(3) as u8;
            let (from, len) = (random.below(60), 1 + random.below(8));
            let writes: Vec<(String, Option<Vec<u8>>)> = (from..from + len)
                .map(|key| (format!("{key:03}"), random.chance(75).then(|| format!("{}@{version}", char::from(schema)).into())))
                .collect();
            let writes: Vec<_> = writes.iter().map(|(key, value)| (MULTI, key.as_bytes(), value.as_deref())).collect();
            tier.set(&batch(version, &writes)).unwrap();
            if random.chance(20) {
                set_horizon(&tier, random.below(version));
            }
            (0..random.below(4)).take_while(|_| tier.step().unwrap()).for_each(drop);
            let all = scan(&tier, Direction::Forward, |_| false);
            for direction in [Direction::Forward, Direction::Reverse] {
                let wanted = scan(&tier, direction, has_none_of_2);
                assert!(wanted.iter().all(|(key, value)| all.get(key) == Some(value)), "seed {seed}: {wanted:?} of {all:?}");
                let is_missing = |(key, value): (&String, &String)| value.starts_with('2') && !wanted.contains_key(key);
                assert!(!all.iter().any(is_missing), "seed {seed}: {wanted:?} of {all:?}");
            }
        }
        assert!(migrating(&tier).summaries().len() > 1);
    }
}
