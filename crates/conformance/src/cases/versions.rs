//! The list of a key's versions.

use crate::failure::CaseResult;
use crate::harness::{Harness, OTHER, TABLE, expect};

pub(crate) fn case_090_unknown_key_has_no_versions(h: &mut Harness<'_>) -> CaseResult {
    h.write(1, |batch| batch.put(OTHER, b"a", b"x"))?;
    h.set(1, "ab", "x")?;
    h.in_every_state(|h| {
        for key in ["", "a", "abc", "b"] {
            h.check_versions(key, "")?;
        }
        let found = h.tier().get_all_versions(thermocline_tier::EntryKind::Multi, b"a")?;
        expect(|| "the number of versions in a missing table".into(), "0", &found.len().to_string())?;
        h.check_tables(&[TABLE, OTHER])
    })
}
