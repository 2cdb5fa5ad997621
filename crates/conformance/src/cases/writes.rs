//! Writes: the same version again, replays, tombstones, sizes and refusals. They hunt second versions, writes lost or kept against
//! the rule, keys cut or folded, and refused batches that leave something behind.

use std::sync::Arc;

use thermocline_tier::limits::KEY_SIZE_BYTES_MAX;
use thermocline_tier::{BatchBuilder, ErrorKind, KeyRange, Lookup, TierBatch, TierStorage, Version, WholeKey};

use crate::failure::CaseResult;
use crate::harness::{Harness, OTHER, TABLE, batch_of, dump, expect, expect_error, expect_that};
use crate::notation;
use crate::scans::as_of;

/// The longest value that the cases write, in bytes: 64 MiB.
const LARGE_VALUE_SIZE_BYTES: usize = 64 << 20;
/// A key over every limit, in bytes: 1 MiB.
const HUGE_KEY_SIZE_BYTES: usize = 1 << 20;
/// The budget of the tier that is filled until it refuses, in bytes.
const BUDGET_BYTES: u64 = 8 << 20;
/// The size of the values that fill it, in bytes.
const FILL_VALUE_SIZE_BYTES: usize = 50_000;
/// So many batches of two such values must meet the end of it.
const FILL_BATCHES_MAX: u64 = 200;

pub(crate) fn case_019_same_version_again_replaces(h: &mut Harness<'_>) -> CaseResult {
    h.set_with_suffix(5, b"a", b"first", b"x")?;
    h.set_with_suffix(5, b"a", b"2nd", b"y")?;
    h.set(5, "b", "x")?;
    h.set(5, "b", "yy")?;
    h.in_every_state(|h| {
        h.check_get("a", 5, "y/2nd@5")?;
        h.check_versions("a", "y/2nd@5")?;
        h.check_get("b", 5, "yy@5")?;
        h.check_versions("b", "yy@5")?;
        h.check_get("b", 4, "-")?;
        h.check_stats([2, 2, 0, 8])
    })
}

pub(crate) fn case_020_tombstone_replaces_value_of_its_version(h: &mut Harness<'_>) -> CaseResult {
    h.set(5, "a", "x")?;
    h.remove(5, "a")?;
    h.remove(5, "b")?;
    h.set(5, "b", "x")?;
    h.in_every_state(|h| {
        h.check_get("a", 5, "~@5")?;
        h.check_versions("a", "~@5")?;
        h.check_get("b", 5, "x@5")?;
        h.check_stats([2, 2, 1, 3])
    })
}

pub(crate) fn case_021_replay_changes_nothing(h: &mut Harness<'_>) -> CaseResult {
    let log: Vec<TierBatch> = (1..=4)
        .map(|version| {
            batch_of(version, |batch| {
                batch.put(TABLE, b"a", format!("a{version}").as_bytes())?;
                batch.put(OTHER, format!("k{version}").as_bytes(), b"")?;
                if version % 2 == 0 { batch.remove(TABLE, b"b") } else { batch.put(TABLE, b"b", b"b") }
            })
        })
        .collect::<Result<_, _>>()?;
    log.iter().try_for_each(|batch| h.apply(batch))?;
    let before = h.dump()?;
    for from in [0, 2, 3] {
        log[from..].iter().try_for_each(|batch| h.apply(batch))?;
        h.in_every_state(|h| {
            expect(|| format!("everything after a replay from batch {from}"), &before, &h.dump()?)?;
            h.check_get("a", 3, "a3@3")?;
            h.check_versions("b", "~@4 b@3 ~@2 b@1")
        })?;
    }
    Ok(())
}

pub(crate) fn case_022_tombstone_of_an_unknown_key_is_kept(h: &mut Harness<'_>) -> CaseResult {
    h.remove(1, "a")?;
    h.in_every_state(|h| {
        h.check_get("a", 1, "~@1")?;
        h.check_get("a", 0, "-")?;
        h.check_versions("a", "~@1")?;
        h.check_range(&as_of(TABLE, KeyRange::all(), 1), "a=~@1")?;
        h.check_tables(&[TABLE])
    })
}

pub(crate) fn case_023_removing_twice_is_legal(h: &mut Harness<'_>) -> CaseResult {
    h.set(1, "a", "x")?;
    h.remove(2, "a")?;
    h.remove(3, "a")?;
    h.in_every_state(|h| {
        h.check_get("a", 3, "~@3")?;
        h.check_get("a", 2, "~@2")?;
        h.check_get("a", 1, "x@1")?;
        h.check_versions("a", "~@3 ~@2 x@1")
    })
}

pub(crate) fn case_024_set_remove_set(h: &mut Harness<'_>) -> CaseResult {
    h.set(1, "a", "v1")?;
    h.remove(2, "a")?;
    h.set(3, "a", "v3")?;
    h.in_every_state(|h| {
        h.check_get("a", 1, "v1@1")?;
        h.check_get("a", 2, "~@2")?;
        h.check_get("a", 3, "v3@3")
    })
}

pub(crate) fn case_025_remove_with_and_without_pre_image(h: &mut Harness<'_>) -> CaseResult {
    h.write(1, |batch| {
        batch.put(TABLE, b"k", b"x")?;
        batch.put(OTHER, b"k", b"x")
    })?;
    let image = h.tier().get_previous(TABLE, b"k", Version(2))?;
    expect(|| "the pre-image of k".into(), "x@1", &notation::answer(&image))?;
    h.write(2, |batch| batch.remove(TABLE, b"k"))?;
    h.write(2, |batch| batch.remove(OTHER, b"k"))?;
    h.in_every_state(|h| {
        for table in [TABLE, OTHER] {
            h.check_get_in(table, "k", 0, "-")?;
            h.check_get_in(table, "k", 1, "x@1")?;
            h.check_get_in(table, "k", 2, "~@2")?;
        }
        Ok(())
    })
}

pub(crate) fn case_026_keys_and_values_of_every_kind(h: &mut Harness<'_>) -> CaseResult {
    let (almost, longest) = (vec![b'k'; KEY_SIZE_BYTES_MAX - 1], vec![b'k'; KEY_SIZE_BYTES_MAX]);
    // In byte order; some share eight bytes and more, so that an order by the first bytes alone shows.
    let keys: [&[u8]; 15] = [
        b"",
        b"\0",
        b"\0\0",
        b"A",
        b"a",
        b"a\0",
        b"a\0b",
        b"eight-by",
        b"eight-bytes-alike-1",
        b"eight-bytes-alike-10",
        b"eight-bytes-alike-2",
        b"eight-bytez",
        &almost,
        &longest,
        "\u{65e5}\u{672c}\u{e9}".as_bytes(),
    ];
    for (index, key) in keys.iter().enumerate().rev() {
        h.set(1, key, format!("value-{index}"))?;
    }
    h.set(1, "zero", "")?;
    h.set(1, "zero-byte", "\0")?;
    let mut large = vec![0x5a; LARGE_VALUE_SIZE_BYTES];
    large[LARGE_VALUE_SIZE_BYTES - 1] = 1;
    h.write(1, |batch| batch.put(OTHER, b"large", &large))?;
    let huge = vec![b'k'; HUGE_KEY_SIZE_BYTES];
    refuse_key(&huge)?;

    let mut rows: Vec<String> = Vec::new();
    for (index, key) in keys.iter().enumerate() {
        rows.push(format!("{}=value-{index}@1", notation::bytes(key)));
    }
    let last = rows.pop().unwrap_or_default();
    let rows = format!("{} zero=@1 zero-byte=\\x00@1 {last}", rows.join(" "));
    h.in_every_state(|h| {
        for (index, key) in keys.iter().enumerate() {
            h.check_get(key, 1, &format!("value-{index}@1"))?;
            h.check_get(key, 0, "-")?;
        }
        h.check_get("zero", 1, "@1")?;
        h.check_get("zero-byte", 1, "\\x00@1")?;
        h.check_get(&huge, 1, "-")?;
        h.check_range(&as_of(TABLE, KeyRange::all(), 1), &rows)?;
        match h.tier().get(OTHER, b"large", Version(1))? {
            Lookup::Value { bytes, .. } => expect_that(bytes == large, "a value of 64 MiB comes back byte for byte"),
            other => expect(|| "get of large".into(), "a value of 64 MiB", &notation::answer(&other)),
        }
    })
}

/// Checks that a batch refuses a key over the limit, written or removed, and stays as it was.
fn refuse_key(huge: &[u8]) -> CaseResult {
    let mut refused = BatchBuilder::new();
    refused.put(TABLE, b"a", b"kept")?;
    let is_limit = |kind: &ErrorKind| matches!(kind, ErrorKind::LimitExceeded { .. });
    expect_error("a key of 1 MiB", "LimitExceeded", refused.put(TABLE, huge, b"v"), is_limit)?;
    expect_error("removing a key of 1 MiB", "LimitExceeded", refused.remove(TABLE, huge), is_limit)?;
    expect_that(refused.len() == 1, "a refused write leaves the batch as it was")
}

pub(crate) fn case_027_empty_value_is_present(h: &mut Harness<'_>) -> CaseResult {
    h.set(1, "a", "")?;
    h.set(2, "b", "x")?;
    h.set(3, "b", "")?;
    h.in_every_state(|h| {
        h.check_get("a", 1, "@1")?;
        h.check_get("b", 2, "x@2")?;
        h.check_get("b", 3, "@3")?;
        expect_that(h.tier().contains(TABLE, b"a", Version(1))?, "contains is true for an empty value")?;
        h.check_range(&as_of(TABLE, KeyRange::all(), 3), "a=@1 b=@3")?;
        h.check_versions("b", "@3 x@2")?;
        h.check_stats([2, 3, 0, 4])
    })
}

pub(crate) fn case_028_refused_batch_changes_nothing(h: &mut Harness<'_>) -> CaseResult {
    h.set(1, "a", "a1")?;
    h.set(2, "b", "b2")?;
    let before = h.dump()?;
    let refused = batch_of(3, |batch| {
        batch.put(TABLE, b"a", b"a3")?;
        batch.put(TABLE, &vec![b'k'; KEY_SIZE_BYTES_MAX + 1], b"")?;
        batch.put(TABLE, b"b", b"b3")
    });
    let is_limit = |kind: &ErrorKind| matches!(kind, ErrorKind::LimitExceeded { .. });
    expect_error("a batch with an oversized key in its middle", "LimitExceeded", refused, is_limit)?;
    h.in_every_state(|h| expect(|| "everything after a refused batch".into(), &before, &h.dump()?))?;
    match h.backend().open_with_budget(BUDGET_BYTES) {
        Some(tier) => fill_until_refused(&tier),
        None => Ok(()),
    }
}

/// Fills a tier with rewrites of few keys and with new ones until it refuses; a refused batch must leave every key as it was.
fn fill_until_refused(tier: &Arc<dyn TierStorage>) -> CaseResult {
    let is_full = |kind: &ErrorKind| {
        matches!(kind, ErrorKind::MemoryExhausted { .. } | ErrorKind::DiskFull | ErrorKind::LimitExceeded { .. })
    };
    let with_stats = false;
    for version in 1..=FILL_BATCHES_MAX {
        let mut batch = BatchBuilder::new();
        for table in [TABLE, OTHER] {
            batch.put(table, b"a", format!("a{version}").as_bytes())?;
            batch.put(table, format!("k{version}").as_bytes(), &vec![b'v'; FILL_VALUE_SIZE_BYTES])?;
            batch.remove(table, b"z")?;
        }
        let batch = batch.finish(&WholeKey, Version(version));
        let before = dump(&**tier, with_stats)?;
        if let Err(error) = tier.set(&batch) {
            expect_that(version > 1, "the first batch fits into the budget")?;
            expect_error("a batch over the budget", "MemoryExhausted, DiskFull or LimitExceeded", Err::<(), _>(error), is_full)?;
            expect(|| "everything after a batch over the budget".into(), &before, &dump(&**tier, with_stats)?)?;
            let again = tier.set(&batch);
            expect_error("the same batch again", "MemoryExhausted, DiskFull or LimitExceeded", again, is_full)?;
            return expect(|| "everything after the second refusal".into(), &before, &dump(&**tier, with_stats)?);
        }
    }
    expect_that(
        false,
        &format!(
            "a tier with a budget of {BUDGET_BYTES} bytes refuses one of {FILL_BATCHES_MAX} batches that are larger together"
        ),
    )
}
