//! Limits, accounts, and giving memory back.

use thermocline_hot::{HotOptions, HotTier};
use thermocline_tier::{EntryKind, ErrorKind, TableStats, TierStorage, Version};

use crate::harness::{Pair, Write, batch, drop_of, put, scaled};

const TABLE: EntryKind = EntryKind::Multi;

fn round(version: u64, keys: usize, value_len: usize) -> Vec<Write> {
    (0..keys).map(|n| put(format!("key {n:08}"), vec![version as u8; value_len])).collect()
}

#[test]
fn a_batch_over_the_limit_changes_nothing() {
    let limit = scaled(3 << 20, 300 << 10) as u64;
    let tier = HotTier::new(HotOptions { memory_limit_bytes: Some(limit), ..HotOptions::default() });
    let mut version = 0;
    let error = loop {
        let before = tier.stats();
        match tier.set(&batch(version + 1, &round(version + 1, 50, scaled(100, 300)))) {
            Ok(()) => version += 1,
            Err(error) => {
                assert_eq!(tier.stats(), before);
                break error;
            }
        }
    };
    assert!(matches!(error.kind(), ErrorKind::MemoryExhausted { budget, used } if *budget == limit && *used <= limit), "{error}");
    assert!(tier.stats().memory_bytes <= limit);
    assert!(version > 1, "the limit leaves room for something");
    let found = tier.get(TABLE, b"key 00000000", Version::MAX).unwrap();
    assert_eq!(found.version(), Some(Version(version)));
    assert_eq!(tier.get_all_versions(TABLE, b"key 00000001").unwrap().len() as u64, version);
    // What is small enough still fits, and a cleared table makes room.
    tier.clear_table(TABLE).unwrap();
    tier.compact();
    tier.set(&batch(version + 1, &round(1, 50, 100))).unwrap();
}

#[test]
fn a_new_table_is_not_left_behind_by_a_refused_batch() {
    let tier =
        HotTier::new(HotOptions { memory_limit_bytes: Some(scaled(200 << 10, 100 << 10) as u64), ..HotOptions::default() });
    let refused = tier.set(&batch(1, &[put(b"a", vec![0; 1 << 20])]));
    assert!(refused.is_err());
    assert_eq!(tier.tables().unwrap(), []);
}

#[test]
fn an_empty_tier_is_small() {
    assert!(HotTier::default().stats().memory_bytes < 64 << 10);
}

#[test]
fn a_key_that_comes_back_is_not_garbage() {
    let tier = HotTier::default();
    for version in 1..=scaled(500, 20) as u64 {
        tier.set(&batch(version, &[put(b"key", vec![1; 10])])).unwrap();
        tier.drop_versions(&[drop_of(TABLE, b"key", version)]).unwrap();
        tier.set(&batch(version, &[put(b"key", vec![2; 10])])).unwrap();
        let stats = tier.stats();
        assert!(stats.garbage_bytes <= stats.memory_bytes, "{stats:?}");
        tier.drop_versions(&[drop_of(TABLE, b"key", version)]).unwrap();
    }
    tier.clear_table(TABLE).unwrap();
    assert!(tier.stats().garbage_bytes <= tier.stats().memory_bytes);
}

#[test]
fn dropping_and_clearing_give_memory_back() {
    let pair = Pair::default();
    let keys = scaled(2000, 70);
    let rounds = scaled(20, 4) as u64;
    for version in 1..=rounds {
        pair.set(&batch(version, &round(version, keys, 100)));
    }
    let full = pair.hot.stats().memory_bytes;
    let drops: Vec<_> = (0..keys)
        .flat_map(|n| (1..rounds).map(move |version| drop_of(TABLE, format!("key {n:08}").as_bytes(), version)))
        .collect();
    pair.drop_versions(&drops);
    if cfg!(miri) {
        pair.hot.compact();
    }
    pair.check_whole(&[1, rounds]);
    let left = pair.hot.stats();
    assert!(left.memory_bytes <= full && left.garbage_bytes * 2 <= left.memory_bytes.max(2 << 20), "{left:?} of {full}");
    pair.clear(TABLE);
    pair.hot.compact();
    let empty = pair.hot.stats();
    assert_eq!(empty.tables, [(TABLE, TableStats::default())]);
    assert!(empty.memory_bytes < 128 << 10, "{empty:?}");
    assert_eq!(empty.garbage_bytes, 0);
}

#[test]
fn a_queue_does_not_grow() {
    let tier = HotTier::default();
    let mut highest = 0;
    for version in 1..=scaled(400, 3) as u64 {
        let keys: Vec<Vec<u8>> = (0..100_u32).map(|n| format!("{version:08}/{n}").into_bytes()).collect();
        tier.set(&batch(version, &keys.iter().map(|key| put(key, vec![1; 200])).collect::<Vec<_>>())).unwrap();
        tier.drop_versions(&keys.iter().map(|key| drop_of(TABLE, key, version)).collect::<Vec<_>>()).unwrap();
        highest = highest.max(tier.stats().memory_bytes);
    }
    assert!(highest < 8 << 20, "{highest}");
    assert_eq!(tier.stats().tables, [(TABLE, TableStats::default())]);
}

#[test]
fn writing_a_version_again_leaves_garbage_that_goes_away() {
    let pair = Pair::default();
    for _ in 0..scaled(40, 2) {
        pair.set(&batch(7, &round(7, 100, 1000)));
    }
    pair.check_whole(&[7]);
    assert!(pair.hot.stats().memory_bytes < 6 << 20);
}
