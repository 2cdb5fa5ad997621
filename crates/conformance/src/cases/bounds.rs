//! Bounds of ranges, and the order of keys as bytes. They hunt bounds taken for their opposite, signed or cut comparisons, and
//! prefixes whose successor overflows.

use std::ops::Bound;

use bytes::Bytes;
use thermocline_tier::KeyRange;

use crate::failure::CaseResult;
use crate::harness::{Harness, TABLE};
use crate::notation::joined;
use crate::scans::as_of;

fn rows(keys: &str) -> String {
    joined(keys.split(' ').filter(|key| !key.is_empty()).map(|key| format!("{key}=x@1")))
}

fn check(h: &Harness<'_>, range: KeyRange, keys: &str) -> CaseResult {
    h.check_range(&as_of(TABLE, range, 1), &rows(keys))
}

fn bounds(start: Bound<&'static str>, end: Bound<&'static str>) -> KeyRange {
    let bytes = |bound: Bound<&'static str>| bound.map(|key| Bytes::from_static(key.as_bytes()));
    KeyRange { start: bytes(start), end: bytes(end) }
}

pub(crate) fn case_039_bounds_in_byte_order(h: &mut Harness<'_>) -> CaseResult {
    ["b", "C", "bb", "a", "c", "ba"].iter().try_for_each(|key| h.set(1, key, "x"))?;
    h.in_every_state(|h| {
        check(h, KeyRange::new("b".."bb"), "b ba")?;
        check(h, KeyRange::new("b"..="c"), "b ba bb c")?;
        check(h, KeyRange::new("bb"..), "bb c")?;
        check(h, KeyRange::new(..="b"), "C a b")?;
        check(h, KeyRange::all(), "C a b ba bb c")
    })
}

pub(crate) fn case_040_bounds_of_every_kind(h: &mut Harness<'_>) -> CaseResult {
    ["a", "b", "c"].iter().try_for_each(|key| h.set(1, key, "x"))?;
    h.in_every_state(|h| {
        use Bound::{Excluded, Included, Unbounded};
        check(h, bounds(Included("a"), Included("c")), "a b c")?;
        check(h, bounds(Included("a"), Excluded("c")), "a b")?;
        check(h, bounds(Excluded("a"), Included("c")), "b c")?;
        check(h, bounds(Excluded("a"), Excluded("c")), "b")?;
        check(h, bounds(Excluded("a"), Unbounded), "b c")?;
        check(h, bounds(Unbounded, Excluded("a")), "")?;
        check(h, bounds(Excluded("c"), Unbounded), "")?;
        // Bounds that are no keys themselves.
        check(h, bounds(Excluded("aa"), Excluded("bb")), "b")?;
        check(h, bounds(Excluded("a"), Excluded("a\0")), "")?;
        // The same key at both ends.
        check(h, bounds(Excluded("b"), Excluded("b")), "")?;
        check(h, bounds(Included("b"), Excluded("b")), "")?;
        check(h, bounds(Excluded("b"), Included("b")), "")?;
        check(h, bounds(Included("b"), Included("b")), "b")
    })
}

pub(crate) fn case_047_keys_and_prefixes_of_high_bytes(h: &mut Harness<'_>) -> CaseResult {
    let keys: [&[u8]; 9] =
        [b"\xff\xff", b"b\xff\xff", b"b", b"\xff", b"b\xff\x00", b"b\xff", b"\xff\xff\xff\xff", b"b\xffb", b"\xff\xff\xff"];
    keys.iter().try_for_each(|key| h.set(1, key, "x"))?;
    let with_b = r"b\xff b\xff\x00 b\xffb b\xff\xff";
    let with_ff = r"\xff \xff\xff \xff\xff\xff \xff\xff\xff\xff";
    h.in_every_state(|h| {
        check(h, KeyRange::all(), &format!("b {with_b} {with_ff}"))?;
        check(h, KeyRange::prefix(b""), &format!("b {with_b} {with_ff}"))?;
        check(h, KeyRange::prefix(b"b"), &format!("b {with_b}"))?;
        check(h, KeyRange::prefix(b"b\xff"), with_b)?;
        check(h, KeyRange::prefix(b"b\xff\xff"), r"b\xff\xff")?;
        check(h, KeyRange::prefix(b"\xff"), with_ff)?;
        check(h, KeyRange::prefix(b"\xff\xff\xff"), r"\xff\xff\xff \xff\xff\xff\xff")?;
        check(h, KeyRange::prefix(b"\xff\xff\xff\xff\xff"), "")
    })?;
    h.set(1, [0xff; 300], "long")?;
    h.in_every_state(|h| {
        h.check_get([0xff; 300], 1, "long@1")?;
        let shown = format!("{0}..{0}<300>=long@1", r"\xff".repeat(8));
        h.check_range(&as_of(TABLE, KeyRange::prefix(b"\xff\xff\xff\xff\xff"), 1), &shown)?;
        h.check_range(&as_of(TABLE, KeyRange::all(), 1), &format!("{} {shown}", rows(&format!("b {with_b} {with_ff}"))))
    })
}
