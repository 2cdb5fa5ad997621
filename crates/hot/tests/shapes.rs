//! Keys, values and histories of unusual shape.

use bytes::Bytes;
use thermocline_hot::{HotOptions, HotTier};
use thermocline_tier::{
    Direction, EntryKind, KeyRange, KeyRef, Lookup, RangeRequest, ReadWindow, TierStorage, Version, limits::KEY_SIZE_BYTES_MAX,
};

use crate::harness::{Pair, Write, batch, drop_of, put, scaled};

const TABLE: EntryKind = EntryKind::Multi;

fn check_keys(keys: impl IntoIterator<Item = Vec<u8>>) {
    let pair = Pair::default();
    let keys: Vec<Vec<u8>> = keys.into_iter().collect();
    for (version, keys) in (1..).zip(keys.chunks(50)) {
        let writes: Vec<Write> = keys.iter().map(|key| put(key, key)).collect();
        pair.set(&batch(version, &writes));
    }
    pair.check_whole(&[1, 2]);
    for key in keys.iter().step_by(scaled(1, 9)) {
        pair.check_key(TABLE, key, &[1, 2]);
        for direction in [Direction::Forward, Direction::Reverse] {
            for range in
                [KeyRange::new(key.clone()..), KeyRange::new(..key.clone()), KeyRange::new(..=key.clone()), KeyRange::prefix(key)]
            {
                let request = RangeRequest { table: TABLE, range, window: ReadWindow::as_of(Version::MAX), direction };
                let mut cursor = request.clone().into_cursor();
                crate::harness::page(&*pair.hot, &mut cursor, 3);
                pair.check_scan(&request, 1000);
            }
        }
    }
}

#[test]
fn keys_of_zeros_and_of_ones_keep_their_order() {
    let count = scaled(200, 70);
    check_keys((0..count).map(|len| vec![0; len]));
    check_keys((0..count).map(|len| vec![0xff; len]));
}

#[test]
fn heads_that_tie_are_told_apart_by_whole_keys() {
    let count = u16::try_from(scaled(400, 80)).unwrap();
    // Eight equal bytes at every place where a head may begin.
    check_keys((0..count).map(|n| [b"x12345678abcdefgh".as_slice(), &n.reverse_bits().to_le_bytes()].concat()));
    check_keys((0..count).map(|n| [&[(n % 3) as u8; 1], [7; 300].as_slice(), &n.swap_bytes().to_le_bytes()].concat()));
}

#[test]
fn keys_that_leave_the_prefix_of_a_full_leaf_find_their_place() {
    let count = scaled(300, 70);
    let shared = (0..count).map(|n| format!("shared/prefix/{n:04}").into_bytes());
    let others: [&[u8]; 7] = [b"", b"shared/", b"shared/prefix", b"shared/prefiy", b"t", b"\0", b"shared/prefix/0001\0"];
    check_keys(shared.chain(others.iter().map(|key| key.to_vec())));
}

#[test]
fn keys_in_descending_order_find_their_place() {
    check_keys((0..scaled(400, 150)).rev().map(|n| format!("{n:06}").into_bytes()));
}

#[test]
fn the_longest_keys_and_a_large_value_come_back() {
    let pair = Pair::default();
    let long = |last: u8| [vec![b'k'; scaled(KEY_SIZE_BYTES_MAX - 1, 2000)], vec![last]].concat();
    let large = vec![7; scaled(5 << 20, 100 << 10)];
    for (version, last) in (1..).zip([3, 1, 2]) {
        pair.set(&batch(
            version,
            &[put(long(last), b"v"), put([last], vec![last; scaled(60_000, 2000)]), put([last, last], &large)],
        ));
    }
    pair.check_whole(&[1, 2]);
    for last in [1, 2, 3] {
        pair.check_key(TABLE, &long(last), &[1, 2, 3]);
        pair.check_key(TABLE, &[last, last], &[2]);
    }
    let before = pair.hot.get(TABLE, &[1, 1], Version::MAX).unwrap();
    pair.hot.compact();
    assert_eq!(pair.hot.get(TABLE, &[1, 1], Version::MAX).unwrap(), before);
    pair.check_whole(&[1, 2]);
}

#[test]
fn values_handed_out_outlive_everything() {
    let tier = HotTier::new(HotOptions::default());
    let mut kept: Vec<(u64, Bytes)> = Vec::new();
    for version in 1..=scaled(3000, 60) as u64 {
        let value = version.to_le_bytes().repeat(1 + version as usize % 200);
        tier.set(&batch(version, &[put(b"k", &value)])).unwrap();
        kept.push((version, tier.get(TABLE, b"k", Version::MAX).unwrap().into_value().unwrap()));
        if version % 500 == 0 {
            tier.clear_table(TABLE).unwrap();
            tier.compact();
        }
    }
    drop(tier);
    for (version, bytes) in kept {
        assert_eq!(bytes, version.to_le_bytes().repeat(1 + version as usize % 200));
    }
}

#[test]
fn a_long_history_reads_at_every_version() {
    let count = scaled(10_000, 60) as u64;
    for order in 0..3 {
        let pair = Pair::default();
        for step in 0..count {
            let version = match order {
                0 => step,
                1 => count - 1 - step,
                _ => step * 7919 % count,
            };
            let value = (version % 5 != 0).then(|| version.to_string().into_bytes());
            pair.set(&batch(2 * version + 1, &[(TABLE, b"k".to_vec(), value)]));
        }
        let versions: Vec<u64> = (0..count).step_by(scaled(37, 3)).map(|version| 2 * version).collect();
        pair.check_key(TABLE, b"k", &versions);
        let drops: Vec<_> = (0..count).filter(|version| version % 3 != 1).map(|v| drop_of(TABLE, b"k", 2 * v + 1)).collect();
        pair.check_visit();
        pair.drop_versions(&drops);
        pair.check_key(TABLE, b"k", &versions);
        pair.hot.compact();
        pair.check_key(TABLE, b"k", &versions);
        pair.check_visit();
    }
}

#[test]
fn hundreds_of_tables_stay_apart() {
    let pair = Pair::default();
    let count = scaled(300, 12) as u32;
    for version in 1..4 {
        let writes: Vec<Write> = (0..count)
            .flat_map(|n| [(EntryKind::source(n * 3), vec![n as u8], Some(vec![1])), (EntryKind::operator(n), vec![2], None)])
            .collect();
        pair.set(&batch(version, &writes));
    }
    pair.clear(EntryKind::source(6));
    pair.check_whole(&[2]);
    let keys: Vec<KeyRef<'_>> = (0..count).map(|n| KeyRef { table: EntryKind::source(n), prefix: b"\x01" }).collect();
    let expected: Vec<Lookup> = keys.iter().map(|key| pair.model.get(key.table, key.prefix, Version::MAX).unwrap()).collect();
    assert_eq!(pair.hot.get_many(&keys, Version::MAX).unwrap(), expected);
}

#[test]
fn the_first_and_the_last_version_can_be_stored() {
    let pair = Pair::default();
    pair.set(&batch(0, &[put(b"a", b"0")]));
    pair.set(&batch(u64::MAX, &[put(b"a", b"max")]));
    pair.set(&batch(5, &[put(b"a", b"5"), put(b"b", b"5")]));
    pair.set(&batch(u64::MAX, &[put(b"b", b"again")]));
    pair.check_whole(&[0, 5, u64::MAX]);
    pair.check_key(TABLE, b"a", &[0, 5, u64::MAX]);
    pair.check_key(TABLE, b"b", &[0, 5, u64::MAX]);
}

#[test]
fn a_difference_skips_what_did_not_change() {
    let pair = Pair::default();
    let keys: Vec<Vec<u8>> = (0..scaled(3000, 200)).map(|n| format!("{n:06}").into_bytes()).collect();
    pair.set(&batch(1, &keys.iter().map(|key| put(key, b"1")).collect::<Vec<_>>()));
    pair.set(&batch(2, &[put(&keys[3], b"2"), put(&keys[150], b"2"), put(b"new", b"2")]));
    for direction in [Direction::Forward, Direction::Reverse] {
        for range in [
            KeyRange::all(),
            KeyRange::new(keys[10].clone()..keys[180].clone()),
            KeyRange::new(keys[4].clone()..=keys[5].clone()),
        ] {
            for (after, at) in [(0, 1), (1, 2), (1, 1), (0, 2), (2, 9)] {
                let window = ReadWindow::between(Version(after), Version(at));
                pair.check_scan(&RangeRequest { table: TABLE, range: range.clone(), window, direction }, 2);
            }
        }
    }
}
