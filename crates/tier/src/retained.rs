//! Which versions reads may still ask for, and with that, which stored entries somebody may still see.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::{ErrorKind, Result};
use crate::range::KeyRange;
use crate::table::EntryKind;
use crate::version::Version;

/// Rows of a table that were cleared: reads at `at` and above see nothing of it that is older than `below`.
///
/// ```
/// use thermocline_tier::{Clear, Retained, Version};
///
/// let clear = Clear { at: Version(7), below: Version(7) };
/// let retained = Retained::new(Version(10), []).with_clears([clear].into());
/// assert!(!retained.sees(Version(5), None), "every read that is allowed comes after the clear");
/// assert!(retained.sees(Version(8), None));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Clear {
    /// From which version on it is seen.
    pub at: Version,
    /// What is older is gone; not above `at`.
    pub below: Version,
}

/// Which versions of some keys reads may still ask for: every one from the horizon on, and the pinned ones below it.
///
/// ```
/// use thermocline_tier::{Retained, Version};
///
/// let retained = Retained::new(Version(10), [Version(3), Version(12)]);
/// // Of a key that was written at 2, 4 and 9, a read at 3 sees the first and a read at 10 the last.
/// assert!(retained.sees(Version(2), Some(Version(4))));
/// assert!(!retained.sees(Version(4), Some(Version(9))));
/// assert!(retained.sees(Version(9), None));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retained {
    horizon: Version,
    /// Ascending, all below the horizon.
    pins: Vec<Version>,
    /// So many of the newest entries of each key are kept, whoever may see them.
    newest: u64,
    /// Both fields ascending.
    clears: Arc<[Clear]>,
}

impl Retained {
    /// From a horizon, and pins in any order; pins at or above the horizon change nothing.
    pub fn new(horizon: Version, pins: impl IntoIterator<Item = Version>) -> Self {
        let mut pins: Vec<Version> = pins.into_iter().filter(|pin| *pin < horizon).collect();
        pins.sort_unstable();
        pins.dedup();
        Self { horizon, pins, ..Self::default() }
    }

    /// The same, with so many of the newest entries of each key kept beyond what reads may ask for.
    #[must_use]
    pub fn with_newest(self, newest: u64) -> Self {
        Self { newest, ..self }
    }

    /// The same, for keys of a table that was cleared: both fields of the clears ascend.
    #[must_use]
    pub fn with_clears(self, clears: Arc<[Clear]>) -> Self {
        Self { clears, ..self }
    }

    /// From which version on clears hide an entry of version `version`; `None` if none does.
    fn cleared_at(&self, version: Version) -> Option<Version> {
        let first = self.clears.partition_point(|clear| clear.below <= version);
        self.clears.get(first).map(|clear| clear.at)
    }

    /// Whether every read that is allowed from the horizon on comes after a clear that hides an entry of version `version`.
    pub fn is_cleared(&self, version: Version) -> bool {
        self.cleared_at(version).is_some_and(|at| at <= self.horizon)
    }

    /// The version from which on every version may be read.
    pub fn horizon(&self) -> Version {
        self.horizon
    }

    /// Whether a read at `version` is allowed.
    pub fn allows(&self, version: Version) -> bool {
        version >= self.horizon || self.pins.binary_search(&version).is_ok()
    }

    /// The version up to which the newest entry of a key is settled: it lies at or below the horizon and every pin. 0 if nothing is.
    ///
    /// ```
    /// use thermocline_tier::{Retained, Version};
    ///
    /// assert_eq!(Retained::new(Version(10), [Version(7), Version(3)]).settled_up_to(), Version(3));
    /// assert_eq!(Retained::new(Version(10), [Version(12)]).settled_up_to(), Version(10));
    /// ```
    pub fn settled_up_to(&self) -> Version {
        self.pins.first().copied().unwrap_or(self.horizon)
    }

    /// Whether some allowed read sees the entry of version `version` of a key whose next newer entry is of version `newer`.
    pub fn sees(&self, version: Version, newer: Option<Version>) -> bool {
        let Some(newer) = newer.into_iter().chain(self.cleared_at(version)).min() else { return true };
        if newer > self.horizon {
            return true;
        }
        // Seen by a pin in version..newer.
        let first = self.pins.partition_point(|pin| *pin < version);
        self.pins.get(first).is_some_and(|pin| *pin < newer)
    }

    /// Whether of entries whose versions lie from `oldest` to `newest` only the newest of each key must be kept.
    ///
    /// ```
    /// use thermocline_tier::{Retained, Version};
    ///
    /// let retained = Retained::new(Version(10), [Version(3)]);
    /// assert!(retained.keeps_newest_only(Version(4), Version(10)));
    /// assert!(!retained.keeps_newest_only(Version(2), Version(10)) && !retained.keeps_newest_only(Version(4), Version(11)));
    /// ```
    pub fn keeps_newest_only(&self, oldest: Version, newest: Version) -> bool {
        let first = self.pins.partition_point(|pin| *pin < oldest);
        self.newest <= 1 && newest <= self.horizon && self.pins.get(first).is_none_or(|pin| *pin >= newest)
    }

    /// How many superseded versions of a key at most must be kept of those from `oldest` to `newest` that lie below the horizon.
    ///
    /// ```
    /// use thermocline_tier::{Retained, Version};
    ///
    /// let retained = Retained::new(Version(10), [Version(3), Version(7)]);
    /// assert_eq!(retained.keeps_per_key(Version(4), Version(20)), 1);
    /// assert_eq!(retained.with_newest(3).keeps_per_key(Version(1), Version(20)), 4);
    /// ```
    pub fn keeps_per_key(&self, oldest: Version, newest: Version) -> u64 {
        let pins = self.pins.partition_point(|pin| *pin < newest) - self.pins.partition_point(|pin| *pin < oldest.min(newest));
        self.newest.saturating_sub(1).saturating_add(pins as u64)
    }

    /// Whether of entries whose versions lie from `oldest` to `newest` none must be kept, since they were cleared.
    ///
    /// ```
    /// use thermocline_tier::{Clear, Retained, Version};
    ///
    /// let clear = Clear { at: Version(7), below: Version(7) };
    /// let retained = Retained::new(Version(10), [Version(3)]).with_clears([clear].into());
    /// assert!(retained.keeps_none(Version(4), Version(6)));
    /// assert!(!retained.keeps_none(Version(3), Version(6)) && !retained.keeps_none(Version(4), Version(7)));
    /// ```
    pub fn keeps_none(&self, oldest: Version, newest: Version) -> bool {
        let first = self.pins.partition_point(|pin| *pin < oldest);
        let last_seen = self.cleared_at(newest).filter(|at| *at <= self.horizon);
        last_seen.is_some_and(|at| self.pins.get(first).is_none_or(|pin| *pin >= at))
    }

    /// Whether an entry must be kept: some allowed read [sees](Self::sees) it, or it is one of the newest of its key that are kept in any
    /// case. `position` counts the newer entries of the key.
    pub fn keeps(&self, version: Version, newer: Option<Version>, position: u64) -> bool {
        self.keeps_anyway(version, position) || self.sees(version, newer)
    }

    /// Whether an entry of version `version` with so many newer ones of its key is kept whoever may see it.
    pub fn keeps_anyway(&self, version: Version, position: u64) -> bool {
        position < self.newest && !self.is_cleared(version)
    }
}

/// How many kinds of tables there are.
const KINDS: usize = 3;

fn kind_of(table: EntryKind) -> usize {
    usize::from(table.to_parts().0)
}

/// What is retained of each key of each table.
///
/// ```
/// use thermocline_tier::{EntryKind, KeyRange, Retained, RetainedTables, TableRetained, Version};
///
/// let rows = EntryKind::source(7);
/// let mut tables = RetainedTables::new(Retained::new(Version(10), []));
/// let of_rows = TableRetained::new(&[KeyRange::prefix(b"b")], |key| {
///     Retained::new(Version(10), (key == b"b").then_some(Version(3)))
/// });
/// tables.insert(rows, of_rows);
/// assert!(tables.of(rows, b"banana").allows(Version(3)));
/// assert!(!tables.of(rows, b"cherry").allows(Version(3)));
/// assert!(!tables.of(EntryKind::Multi, b"banana").allows(Version(3)));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetainedTables {
    /// Of tables that were not inserted, by their kinds, in the order of the tags of these.
    others: [Retained; KINDS],
    tables: BTreeMap<EntryKind, TableRetained>,
}

impl RetainedTables {
    /// The same for all keys of all tables.
    pub fn new(all: Retained) -> Self {
        Self { others: [all.clone(), all.clone(), all], tables: BTreeMap::new() }
    }

    /// The same, with so many of the newest entries of each key kept in all tables of the kind of `table` that are not inserted.
    ///
    /// ```
    /// use thermocline_tier::{EntryKind, Retained, RetainedTables, Version};
    ///
    /// let tables = RetainedTables::new(Retained::new(Version(9), [])).with_newest_of_kind(EntryKind::source(0), 3);
    /// let keeps = |table| tables.of(table, b"k").keeps(Version(5), Some(Version(6)), 2);
    /// assert!(keeps(EntryKind::source(7)) && !keeps(EntryKind::operator(7)));
    /// ```
    #[must_use]
    pub fn with_newest_of_kind(mut self, table: EntryKind, newest: u64) -> Self {
        self.others[kind_of(table)].newest = newest;
        self
    }

    /// Something else for a table.
    pub fn insert(&mut self, table: EntryKind, retained: TableRetained) {
        self.tables.insert(table, retained);
    }

    /// Notes that rows of a table were cleared: both fields of the clears ascend.
    pub fn set_clears(&mut self, table: EntryKind, clears: impl IntoIterator<Item = Clear>) {
        let clears: Arc<[Clear]> = clears.into_iter().collect();
        let retained = self
            .tables
            .entry(table)
            .or_insert_with(|| TableRetained { parts: vec![(Bytes::new(), self.others[kind_of(table)].clone())] });
        for (_, part) in &mut retained.parts {
            part.clears = Arc::clone(&clears);
        }
    }

    /// Of each table that was cleared below its horizon the version below which nothing is seen from there on.
    pub fn cleared_below(&self) -> impl Iterator<Item = (EntryKind, Version)> {
        self.tables.iter().filter_map(|(table, retained)| {
            let of_part = |(_, part): &(Bytes, Retained)| {
                let after = part.clears.partition_point(|clear| clear.at <= part.horizon);
                after.checked_sub(1).map(|last| part.clears[last].below)
            };
            retained.parts.iter().filter_map(of_part).max().map(|below| (*table, below))
        })
    }

    /// What is retained of a key. Cost: a search among the tables that were inserted, and one among the ranges of the table.
    pub fn of(&self, table: EntryKind, key: &[u8]) -> &Retained {
        self.tables.get(&table).map_or(&self.others[kind_of(table)], |retained| retained.of(key))
    }

    /// Which versions of tables that were not inserted may be read.
    pub fn others(&self) -> &Retained {
        &self.others[0]
    }

    /// Whether a read at `version` is allowed of tables that were not inserted, or of some keys of one that was.
    pub fn allows_some(&self, version: Version) -> bool {
        let parts = self.tables.values().flat_map(|of_table| &of_table.parts);
        self.others().allows(version) || parts.into_iter().any(|(_, part)| part.allows(version))
    }

    /// The tables that were inserted, in order.
    pub fn tables(&self) -> impl Iterator<Item = EntryKind> {
        self.tables.keys().copied()
    }

    /// Refuses a read of keys of a table at a version of which something is not retained.
    ///
    /// # Errors
    /// [`VersionReclaimed`](ErrorKind::VersionReclaimed).
    pub fn check_read(&self, table: EntryKind, range: &KeyRange, version: Version) -> Result<()> {
        let of_table = self.tables.get(&table).map(|retained| retained.overlapping(range));
        let others = of_table.is_none().then_some(&self.others[kind_of(table)]);
        match others.into_iter().chain(of_table.into_iter().flatten()).find(|retained| !retained.allows(version)) {
            Some(retained) => Err(ErrorKind::VersionReclaimed { requested: version, horizon: retained.horizon() }.into()),
            None => Ok(()),
        }
    }

    /// The different parts of a table, in the order of the keys with which they begin; the first begins with the empty key.
    pub fn parts(&self, table: EntryKind) -> impl Iterator<Item = (&[u8], &Retained)> {
        let of_table = self.tables.get(&table);
        let others = of_table.is_none().then_some((&[][..], &self.others[kind_of(table)]));
        let parts = of_table.into_iter().flat_map(|of_table| &of_table.parts);
        others.into_iter().chain(parts.map(|(start, retained)| (&start[..], retained)))
    }
}

/// What is retained of each key of one table. See [`RetainedTables`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableRetained {
    /// Where each part begins, ascending, the first with the empty key.
    parts: Vec<(Bytes, Retained)>,
}

impl TableRetained {
    /// For a table that `ranges`, which may overlap, divide into parts: `of` is asked once for each part, with its first key.
    pub fn new(ranges: &[KeyRange], of: impl Fn(&[u8]) -> Retained) -> Self {
        let bounds = ranges.iter().flat_map(|range| [first_key(&range.start), end_key(&range.end)]);
        let mut starts: Vec<Bytes> = bounds.flatten().chain([Bytes::new()]).collect();
        starts.sort_unstable();
        starts.dedup();
        let mut parts: Vec<(Bytes, Retained)> = Vec::with_capacity(starts.len());
        for start in starts {
            let retained = of(&start);
            if parts.last().is_none_or(|(_, before)| *before != retained) {
                parts.push((start, retained));
            }
        }
        Self { parts }
    }

    /// What is retained of a key.
    pub fn of(&self, key: &[u8]) -> &Retained {
        let after = self.parts.partition_point(|(start, _)| &start[..] <= key);
        // The first part begins with the empty key, which is not above any.
        &self.parts[after.saturating_sub(1)].1
    }

    /// What is retained of the keys of a range: of each part that it meets.
    pub fn overlapping(&self, range: &KeyRange) -> impl Iterator<Item = &Retained> {
        let first = first_key(&range.start).map_or(0, |first| self.parts.partition_point(|(start, _)| *start <= first) - 1);
        let end = end_key(&range.end).map_or(self.parts.len(), |end| self.parts.partition_point(|(start, _)| *start < end));
        let parts = if range.is_empty() { None } else { self.parts.get(first..end) };
        parts.unwrap_or_default().iter().map(|(_, retained)| retained)
    }
}

/// The immediate successor of a key.
fn successor(key: &Bytes) -> Bytes {
    [key, &[0][..]].concat().into()
}

/// The first key that a lower bound lets in.
fn first_key(bound: &Bound<Bytes>) -> Option<Bytes> {
    match bound {
        Bound::Included(key) => Some(key.clone()),
        Bound::Excluded(key) => Some(successor(key)),
        Bound::Unbounded => None,
    }
}

/// The first key that an upper bound keeps out.
fn end_key(bound: &Bound<Bytes>) -> Option<Bytes> {
    match bound {
        Bound::Included(key) => Some(successor(key)),
        Bound::Excluded(key) => Some(key.clone()),
        Bound::Unbounded => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_read_sees_is_retained_and_nothing_else() {
        let retained = Retained::new(Version(10), [Version(7), Version(3)]);
        // Versions of a key, newest first, and for each whether a read at 3, 7 or from 10 on sees it.
        let versions = [(12, true), (11, true), (10, true), (9, false), (8, false), (6, true), (5, false), (3, true), (2, false)];
        let mut newer = None;
        for (version, is_seen) in versions {
            assert_eq!(retained.sees(Version(version), newer), is_seen, "version {version}");
            newer = Some(Version(version));
        }
    }

    #[test]
    fn nothing_is_reclaimed_below_a_horizon_of_zero() {
        assert!(Retained::default().sees(Version(1), Some(Version(2))));
    }

    #[test]
    fn newest_entries_are_kept_whoever_sees_them() {
        let retained = Retained::new(Version(10), [Version(3)]).with_newest(3);
        let kept = |version, newer, position| retained.keeps(Version(version), Some(Version(newer)), position);
        assert!(kept(8, 9, 1) && kept(7, 8, 2));
        assert!(!kept(6, 7, 3));
        assert!(kept(2, 6, 4), "a pin sees it");
    }

    #[test]
    fn cleared_entries_are_seen_by_reads_before_the_clear_alone() {
        let clear = |at, below| Clear { at: Version(at), below: Version(below) };
        let clears: Arc<[Clear]> = [clear(4, 4), clear(8, 6), clear(12, 12)].into();
        let retained = Retained::new(Version(10), [Version(3), Version(5), Version(7)]).with_newest(2).with_clears(clears);
        let kept = |version| retained.keeps(Version(version), None, 0);
        assert_eq!((1..13).filter(|version| kept(*version)).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
        let unpinned = Retained { pins: vec![Version(7)], ..retained };
        let kept = |version| unpinned.keeps(Version(version), None, 0);
        // 4 and 5 are seen at 7; a clear above the horizon hides nothing yet.
        assert_eq!((1..13).filter(|version| kept(*version)).collect::<Vec<_>>(), [4, 5, 6, 7, 8, 9, 10, 11, 12]);
        assert!(unpinned.keeps_none(Version(1), Version(3)) && !unpinned.keeps_none(Version(1), Version(4)));
        assert!(!unpinned.keeps_none(Version(6), Version(6)));
        let unseen = Retained { pins: vec![], ..unpinned };
        assert!(unseen.keeps_none(Version(1), Version(5)) && !unseen.keeps_none(Version(1), Version(6)));
        let nothing_reclaimed = Retained { horizon: Version::ZERO, ..unseen };
        assert!(nothing_reclaimed.keeps(Version(1), None, 5));
    }

    #[test]
    fn clears_of_a_table_hold_for_all_its_parts_and_for_no_other() {
        let mut tables = RetainedTables::new(Retained::new(Version(5), []));
        let rows = EntryKind::source(1);
        tables.insert(rows, TableRetained::new(&[KeyRange::new("m"..)], |key| Retained::new(Version(4 + key.len() as u64), [])));
        for table in [rows, EntryKind::source(2)] {
            tables.set_clears(table, [3, 5].map(|at| Clear { at: Version(at), below: Version(at) }));
        }
        let sees = |table, key: &str, version| tables.of(table, key.as_bytes()).sees(Version(version), None);
        assert!(!sees(rows, "a", 2) && sees(rows, "a", 3) && !sees(rows, "z", 4) && sees(rows, "z", 5));
        assert!(!sees(EntryKind::source(2), "a", 4) && sees(EntryKind::Multi, "a", 4));
        let below: Vec<(EntryKind, Version)> = tables.cleared_below().collect();
        assert_eq!(below, [(rows, Version(5)), (EntryKind::source(2), Version(5))]);
    }

    #[test]
    fn reads_are_allowed_from_the_horizon_on_and_at_pins() {
        let retained = Retained::new(Version(10), [Version(3), Version(11)]);
        let allowed: Vec<u64> = (0..13).filter(|version| retained.allows(Version(*version))).collect();
        assert_eq!(allowed, [3, 10, 11, 12]);
    }

    #[test]
    fn ranges_divide_a_table_exactly_where_they_say() {
        let ranges = [
            KeyRange::new("b"..="d"),
            KeyRange { start: Bound::Excluded(Bytes::from_static(b"c")), end: Bound::Unbounded },
            KeyRange::new("b".."b"),
        ];
        let horizon = |key: &[u8]| {
            let of_range = |(number, range): (usize, &KeyRange)| u64::from(range.contains(key)) << number;
            Version(ranges.iter().enumerate().map(of_range).sum())
        };
        let table = TableRetained::new(&ranges, |key| Retained::new(horizon(key), []));
        for key in ["", "a", "azz", "b", "b\0", "c", "c\0", "cc", "d", "d\0", "da", "zzz"] {
            assert_eq!(table.of(key.as_bytes()).horizon(), horizon(key.as_bytes()), "{key:?}");
        }
        let horizons = |range| table.overlapping(&range).map(|retained| retained.horizon().0).collect::<Vec<_>>();
        assert_eq!(horizons(KeyRange::new("a".."b")), [0]);
        assert_eq!(horizons(KeyRange::new("a"..="b")), [0, 1]);
        assert_eq!(horizons(KeyRange::new("d"..)), [3, 2]);
        assert_eq!(horizons(KeyRange::new("x".."z")), [2]);
        assert_eq!(horizons(KeyRange::new("z".."x")), [0; 0]);
        // "", "b", "c\0", "d\0": the empty range makes none.
        assert_eq!(table.parts.len(), 4);
    }

    #[test]
    fn parts_of_a_table_begin_with_the_empty_key() {
        let mut tables = RetainedTables::new(Retained::new(Version(5), []));
        tables.insert(
            EntryKind::Multi,
            TableRetained::new(&[KeyRange::new("m"..)], |key| Retained::new(Version(key.len() as u64), [])),
        );
        let parts =
            |table| tables.parts(table).map(|(start, retained)| (start.to_vec(), retained.horizon().0)).collect::<Vec<_>>();
        assert_eq!(parts(EntryKind::Multi), [(vec![], 0), (b"m".to_vec(), 1)]);
        assert_eq!(parts(EntryKind::source(1)), [(vec![], 5)]);
    }
}
