//! Visiting every entry. Random histories and unusual shapes are visited in `model` and `shapes`, by the harness.

use thermocline_hot::HotTier;
use thermocline_tier::{EntryKind, EntryRef, Error, ErrorKind, RawEntry, TierStorage, Version};

use crate::harness::{Pair, Write, batch, batch_with_suffix, drop_of, put, scaled, visit};

const TABLE: EntryKind = EntryKind::Multi;

/// Table, prefix, suffix, version, value.
type Entry = (EntryKind, Vec<u8>, Vec<u8>, u64, Option<Vec<u8>>);

/// What a visit hands out, to be compared with what was meant.
fn visited(tier: &dyn TierStorage) -> Vec<Entry> {
    let plain = |(table, entry): (EntryKind, RawEntry)| {
        (table, entry.prefix.to_vec(), entry.suffix.to_vec(), entry.version.0, entry.value.map(|value| value.to_vec()))
    };
    visit(tier).into_iter().map(plain).collect()
}

#[test]
fn a_visit_goes_by_table_then_key_then_from_the_newest_version_down() {
    let (tier, source, cleared) = (HotTier::default(), EntryKind::source(7), EntryKind::source(8));
    tier.ensure_table(EntryKind::operator(1)).unwrap();
    assert_eq!(visited(&tier), []);
    let value = |bytes: &[u8]| Some(bytes.to_vec());
    // The last byte of a key is its suffix.
    tier.set(&batch_with_suffix(3, &[(source, b"bX".to_vec(), value(b"b3")), (TABLE, b"X".to_vec(), value(b"empty key"))]))
        .unwrap();
    tier.set(&batch_with_suffix(9, &[(source, b"bY".to_vec(), None), (source, b"aX".to_vec(), value(b""))])).unwrap();
    tier.set(&batch_with_suffix(5, &[(source, b"bZ".to_vec(), value(b"late")), (cleared, b"cX".to_vec(), None)])).unwrap();
    tier.set(&batch_with_suffix(6, &[(source, b"bZ".to_vec(), value(b"dropped")), (source, b"goneX".to_vec(), None)])).unwrap();
    tier.drop_versions(&[drop_of(source, b"b", 6), drop_of(source, b"gone", 6)]).unwrap();
    tier.clear_table(cleared).unwrap();
    let expected = [
        (TABLE, b"".to_vec(), b"X".to_vec(), 3, value(b"empty key")),
        (source, b"a".to_vec(), b"X".to_vec(), 9, value(b"")),
        (source, b"b".to_vec(), b"Y".to_vec(), 9, None),
        (source, b"b".to_vec(), b"Z".to_vec(), 5, value(b"late")),
        (source, b"b".to_vec(), b"X".to_vec(), 3, value(b"b3")),
    ];
    assert_eq!(visited(&tier), expected);
    tier.compact();
    assert_eq!(visited(&tier), expected);
}

#[test]
fn the_first_error_of_the_visitor_ends_the_visit() {
    let tier = HotTier::default();
    tier.set(&batch(1, &[put(b"a", b"1"), put(b"b", b"1"), (EntryKind::source(1), b"c".to_vec(), None)])).unwrap();
    for failing in 1..=3 {
        let mut calls = 0;
        let visit = &mut |_: EntryKind, _: EntryRef<'_>| {
            calls += 1;
            if calls >= failing { Err(Error::new(ErrorKind::DiskFull)) } else { Ok(()) }
        };
        let ended = tier.visit_entries(visit);
        assert!(matches!(ended.unwrap_err().kind(), ErrorKind::DiskFull));
        assert_eq!(calls, failing);
    }
}

#[test]
fn tables_and_histories_longer_than_a_page_are_visited_whole() {
    let pair = Pair::default();
    let count = scaled(10_000, 200) as u64;
    let keys: Vec<Write> = (0..count).map(|n| put(format!("{:05}", n * 7919 % 65_521), n.to_le_bytes())).collect();
    pair.set(&batch(1, &keys));
    for version in 2..count {
        pair.set(&batch(version, &[put(b"00007", version.to_le_bytes())]));
    }
    pair.check_visit();
}

#[test]
fn values_are_lent_and_not_copied() {
    let tier = HotTier::default();
    tier.set(&batch(1, &[put(b"large", vec![1; scaled(3 << 20, 100 << 10)]), put(b"middle", vec![2; scaled(60_000, 900)])]))
        .unwrap();
    let mut lent = Vec::new();
    let mut keep = |_: EntryKind, entry: EntryRef<'_>| {
        lent.push((entry.prefix.to_vec(), entry.value.unwrap_or_default().as_ptr()));
        Ok(())
    };
    tier.visit_entries(&mut keep).unwrap();
    assert_eq!(lent.len(), 2);
    for (key, start) in lent {
        assert_eq!(tier.get(TABLE, &key, Version::MAX).unwrap().into_value().unwrap().as_ptr(), start);
    }
}

#[test]
fn a_visitor_may_write_to_the_tier_and_sees_what_was_there_once() {
    let tier = HotTier::default();
    let count = scaled(6000, 150) as u64;
    let keys: Vec<Vec<u8>> = (0..count).map(|n| format!("{n:06}").into_bytes()).collect();
    for version in [10, 20] {
        tier.set(&batch(version, &keys.iter().map(|key| put(key, version.to_le_bytes())).collect::<Vec<_>>())).unwrap();
    }
    let mut seen: Vec<(Vec<u8>, u64)> = Vec::new();
    let mut write = |_: EntryKind, entry: EntryRef<'_>| {
        let step = seen.len() as u64;
        seen.push((entry.prefix.to_vec(), entry.version.0));
        if step.is_multiple_of(97) {
            tier.set(&batch(15, &[put(entry.prefix, b"late")]))?;
            tier.drop_versions(&[drop_of(TABLE, entry.prefix, 15)])?;
            tier.set(&batch(100 + step, &[put(entry.prefix, b"new"), put(format!("0{step}"), b"new key")]))?;
        }
        if step.is_multiple_of(1000) {
            tier.compact();
        }
        Ok(())
    };
    tier.visit_entries(&mut write).unwrap();
    assert!(seen.windows(2).all(|pair| (&pair[0].0, !pair[0].1) < (&pair[1].0, !pair[1].1)));
    seen.retain(|(_, version)| [10, 20].contains(version));
    let expected: Vec<(Vec<u8>, u64)> = keys.into_iter().flat_map(|key| [20, 10].map(|version| (key.clone(), version))).collect();
    assert_eq!(seen, expected);
}

#[test]
fn a_table_cleared_during_the_visit_ends_at_the_page_that_was_read() {
    let tier = HotTier::default();
    let count = scaled(10_000, 200);
    tier.set(&batch(1, &(0..count).map(|n| put(format!("{n:06}"), b"v")).collect::<Vec<_>>())).unwrap();
    tier.set(&batch(2, &[(EntryKind::source(1), b"k".to_vec(), None)])).unwrap();
    let mut seen = Vec::new();
    let mut clear = |table: EntryKind, entry: EntryRef<'_>| {
        if seen.is_empty() {
            tier.clear_table(TABLE)?;
            tier.compact();
        }
        seen.push((table, entry.prefix.to_vec(), entry.value.map(<[u8]>::to_vec)));
        Ok(())
    };
    tier.visit_entries(&mut clear).unwrap();
    assert_eq!(seen.pop(), Some((EntryKind::source(1), b"k".to_vec(), None)));
    assert!(!seen.is_empty());
    for (n, (table, key, value)) in seen.into_iter().enumerate() {
        assert_eq!((table, key, value.as_deref()), (TABLE, format!("{n:06}").into_bytes(), Some(b"v".as_slice())));
    }
}
