//! Readers beside a writer: what they may never see, whatever the timing. A torn batch, a key that comes and goes, a version above
//! the one that was asked for, bytes of another entry.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use thermocline_hot::HotTier;
use thermocline_tier::{
    Direction, EntryKind, KeyRange, KeyRef, Lookup, RangeRequest, RawEntry, ReadWindow, TierStorage, Version,
};

use crate::harness::{Write, batch, drop_of, entries, page, scaled, visit};

const KEYS: u64 = if cfg!(miri) { 12 } else { 300 };

fn table(n: u64) -> EntryKind {
    EntryKind::source((n % 3) as u32)
}

fn key(n: u64) -> Vec<u8> {
    format!("account {:05}", n * 7919 % 65_521).into_bytes()
}

/// A value that tells its key and version, of varying length.
fn value(n: u64, version: u64) -> Vec<u8> {
    [n.to_le_bytes(), version.to_le_bytes()].concat().repeat(1 + (version % 40) as usize)
}

/// All keys at one version.
fn round(version: u64) -> Vec<Write> {
    (0..KEYS).map(|n| (table(n), key(n), Some(value(n, version)))).collect()
}

fn check_value(n: u64, version: Version, bytes: &[u8]) {
    assert_eq!(bytes, value(n, version.0), "key {n} at {version}");
}

/// Runs `write` in one thread and `read` in two others until the first is done; `read` gets a number that differs each time.
fn race(write: impl FnOnce() + Send, read: impl Fn(u64) + Sync) {
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for reader in 0..if cfg!(miri) { 1 } else { 2 } {
            let (is_done, read) = (&is_done, &read);
            scope.spawn(move || {
                let mut step: u64 = reader * 1_000_003;
                while !is_done.load(Ordering::Acquire) {
                    read(step);
                    step += 1;
                }
            });
        }
        write();
        is_done.store(true, Ordering::Release);
    });
}

/// The versions that one call sees of all keys must be one.
fn check_all_at_one(tier: &HotTier, step: u64, floor: u64, ceiling: Version) {
    let keys: Vec<Vec<u8>> = (0..KEYS).map(key).collect();
    let asked: Vec<KeyRef<'_>> = (0..KEYS).zip(&keys).map(|(n, key)| KeyRef { table: table(n), prefix: key }).collect();
    let found = tier.get_many(&asked, ceiling).unwrap();
    let version = found[0].version();
    for (n, found) in (0..KEYS).zip(&found) {
        assert_eq!(found.version(), version, "a torn batch at step {step}");
        if let Lookup::Value { version, bytes, .. } = found {
            check_value(n, *version, bytes);
        }
    }
    assert!(version.is_none_or(|version| version <= ceiling));
    assert!(version.map_or(0, |version| version.0) >= floor, "what was seen is gone");
}

fn scan_of(step: u64, at: Version) -> RangeRequest {
    let direction = if step.is_multiple_of(2) { Direction::Forward } else { Direction::Reverse };
    RangeRequest { table: table(step), range: KeyRange::all(), window: ReadWindow::as_of(at), direction }
}

#[test]
fn batches_that_append_are_seen_whole() {
    let tier = HotTier::default();
    let seen = AtomicU64::new(0);
    let rounds = scaled(400, 6) as u64;
    race(
        || {
            for version in 1..=rounds {
                tier.set(&batch(version, &round(version))).unwrap();
                seen.store(version, Ordering::Release);
                if version % 100 == 50 {
                    tier.compact();
                }
            }
        },
        |step| {
            let floor = seen.load(Ordering::Acquire);
            check_all_at_one(&tier, step, floor, Version::MAX);
            check_all_at_one(&tier, step, floor / 2, Version((floor / 2).max(1)));
            let mut cursor = scan_of(step, Version(floor)).into_cursor();
            let found = entries(&page(&tier, &mut cursor, 1000));
            assert_eq!(found.len() as u64, if floor == 0 { 0 } else { KEYS / 3 });
            assert!(found.iter().all(|entry| entry.version == Version(floor)));
            let all = tier.get_all_versions(table(step), &key(step % KEYS)).unwrap();
            assert!(all.windows(2).all(|pair| pair[0].version > pair[1].version));
            if table(step) == table(step % KEYS) {
                assert!(all.len() as u64 >= floor);
            }
        },
    );
}

#[test]
fn new_keys_appear_between_old_ones_and_none_goes_missing() {
    let tier = HotTier::default();
    let written = AtomicU64::new(0);
    let total = scaled(20_000, 300) as u64;
    let spread = |n: u64| format!("{:05}", n * 7919 % 65_521).into_bytes();
    race(
        || {
            for version in 1..=total / 20 {
                let writes: Vec<Write> =
                    ((version - 1) * 20..version * 20).map(|n| (EntryKind::Multi, spread(n), Some(spread(n)))).collect();
                tier.set(&batch(version, &writes)).unwrap();
                written.store(version, Ordering::Release);
            }
        },
        |step| {
            let version = written.load(Ordering::Acquire);
            let request = RangeRequest { table: EntryKind::Multi, ..scan_of(step, Version(version)) };
            let is_forward = request.direction == Direction::Forward;
            let found = entries(&page(&tier, &mut request.into_cursor(), usize::MAX - 1));
            assert_eq!(found.len() as u64, version * 20);
            assert!(found.windows(2).all(|pair| (pair[0].prefix < pair[1].prefix) == is_forward));
            assert!(found.iter().all(|entry| entry.value.as_ref() == Some(&entry.prefix)));
            if version > 0 {
                let n = step % (version * 20);
                assert!(tier.contains(EntryKind::Multi, &spread(n), Version::MAX).unwrap());
            }
        },
    );
}

#[test]
fn late_batches_and_drops_are_seen_whole() {
    let tier = HotTier::default();
    let rounds = scaled(150, 4) as u64;
    tier.set(&batch(2, &round(2))).unwrap();
    tier.set(&batch(1_000_000, &round(1_000_000))).unwrap();
    race(
        || {
            for step in 0..rounds {
                let version = 3 + step * 17 % 50;
                tier.set(&batch(version, &round(version))).unwrap();
                let drops: Vec<_> = (0..KEYS).map(|n| drop_of(table(n), &key(n), version)).collect();
                tier.drop_versions(&drops).unwrap();
                if step % 40 == 20 {
                    tier.compact();
                }
            }
        },
        |step| {
            check_all_at_one(&tier, step, 2, Version(100));
            check_all_at_one(&tier, step, 1_000_000, Version::MAX);
            let found = entries(&page(&tier, &mut scan_of(step, Version(100)).into_cursor(), 1000));
            assert_eq!(found.len() as u64, KEYS / 3);
            assert!(found.iter().all(|entry| entry.version == found[0].version));
        },
    );
}

#[test]
fn a_clear_is_seen_whole() {
    let tier = HotTier::default();
    let rounds = scaled(200, 4) as u64;
    race(
        || {
            for version in 1..=rounds {
                tier.set(&batch(version, &round(version))).unwrap();
                tier.clear_table(table(0)).unwrap();
            }
        },
        |_| {
            let request = scan_of(0, Version::MAX);
            let found = entries(&page(&tier, &mut request.into_cursor(), 1000));
            assert!(found.is_empty() || found.len() as u64 == KEYS / 3);
            assert!(found.iter().all(|entry| entry.version == found[0].version));
        },
    );
}

#[test]
fn a_visit_beside_a_writer_sees_each_entry_once_and_in_order() {
    let tier = HotTier::default();
    let numbers: BTreeMap<Vec<u8>, u64> = (0..KEYS).map(|n| (key(n), n)).collect();
    let rounds = scaled(100, 4) as u64;
    tier.set(&batch(2, &round(2))).unwrap();
    tier.set(&batch(500, &round(500))).unwrap();
    race(
        || {
            for step in 0..rounds {
                let late = 3 + step * 17 % 50;
                tier.set(&batch(late, &round(late))).unwrap();
                tier.set(&batch(1000 + step, &round(1000 + step))).unwrap();
                let drops: Vec<_> =
                    (0..KEYS).flat_map(|n| [late, 1000 + step].map(|version| drop_of(table(n), &key(n), version))).collect();
                tier.drop_versions(&drops).unwrap();
                if step % 20 == 10 {
                    tier.compact();
                }
            }
        },
        |_| {
            let visited = visit(&tier);
            let place = |(table, entry): &(EntryKind, RawEntry)| (*table, entry.prefix.clone(), !entry.version.0);
            assert!(visited.windows(2).all(|pair| place(&pair[0]) < place(&pair[1])));
            // A table fits into one page, which is read at one state: every batch has reached all of its keys, or none.
            let mut versions: Vec<Vec<u64>> = vec![Vec::new(); KEYS as usize];
            for (_, entry) in &visited {
                let n = numbers[&entry.prefix[..]];
                check_value(n, entry.version, entry.value.as_deref().unwrap());
                versions[n as usize].push(entry.version.0);
            }
            for (n, of_key) in versions.iter().enumerate() {
                assert_eq!(*of_key, versions[n % 3], "a torn batch");
                assert!(of_key.contains(&2) && of_key.contains(&500), "{of_key:?}");
            }
        },
    );
}

#[test]
fn values_stay_as_they_were_handed_out() {
    let tier = Arc::new(HotTier::default());
    let rounds = scaled(300, 4) as u64;
    race(
        || {
            for version in 1..=rounds {
                tier.set(&batch(version, &round(version))).unwrap();
                if version % 60 == 0 {
                    tier.clear_table(table(1)).unwrap();
                    tier.compact();
                }
            }
        },
        |step| {
            let kept: Vec<(u64, Lookup)> =
                (0..KEYS).map(|n| (n, tier.get(table(n), &key(n), Version(1 + step % rounds)).unwrap())).collect();
            for (n, lookup) in kept {
                if let Lookup::Value { version, bytes, .. } = lookup {
                    check_value(n, version, &bytes);
                }
            }
        },
    );
}
