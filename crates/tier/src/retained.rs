//! Which versions reads may still ask for, and with that, which stored entries somebody may still see.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use crate::error::{ErrorKind, Result};
use crate::range::KeyRange;
use crate::table::EntryKind;
use crate::version::Version;

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
}

impl Retained {
    /// From a horizon, and pins in any order; pins at or above the horizon change nothing.
    pub fn new(horizon: Version, pins: impl IntoIterator<Item = Version>) -> Self {
        let mut pins: Vec<Version> = pins.into_iter().filter(|pin| *pin < horizon).collect();
        pins.sort_unstable();
        pins.dedup();
        Self { horizon, pins, newest: 0 }
    }

    /// The same, with so many of the newest entries of each key kept beyond what reads may ask for.
    #[must_use]
    pub fn with_newest(self, newest: u64) -> Self {
        Self { newest, ..self }
    }

    /// The version from which on every version may be read.
    pub fn horizon(&self) -> Version {
        self.horizon
    }

    /// Whether a read at `version` is allowed.
    pub fn allows(&self, version: Version) -> bool {
        version >= self.horizon || self.pins.binary_search(&version).is_ok()
    }

    /// Whether some allowed read sees the entry of version `version` of a key whose next newer entry is of version `newer`.
    pub fn sees(&self, version: Version, newer: Option<Version>) -> bool {
        let Some(newer) = newer else { return true };
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

    /// Whether an entry must be kept: some allowed read [sees](Self::sees) it, or it is one of the newest of its key that are kept in any
    /// case. `position` counts the newer entries of the key.
    pub fn keeps(&self, version: Version, newer: Option<Version>, position: u64) -> bool {
        self.keeps_anyway(position) || self.sees(version, newer)
    }

    /// Whether an entry with so many newer ones of its key is kept whoever may see it.
    pub fn keeps_anyway(&self, position: u64) -> bool {
        position < self.newest
    }
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
    others: Retained,
    tables: BTreeMap<EntryKind, TableRetained>,
}

impl RetainedTables {
    /// The same for all keys of all tables.
    pub fn new(all: Retained) -> Self {
        Self { others: all, tables: BTreeMap::new() }
    }

    /// Something else for a table.
    pub fn insert(&mut self, table: EntryKind, retained: TableRetained) {
        self.tables.insert(table, retained);
    }

    /// What is retained of a key. Cost: a search among the tables that were inserted, and one among the ranges of the table.
    pub fn of(&self, table: EntryKind, key: &[u8]) -> &Retained {
        self.tables.get(&table).map_or(&self.others, |retained| retained.of(key))
    }

    /// What is retained of tables that were not inserted.
    pub fn others(&self) -> &Retained {
        &self.others
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
        let others = of_table.is_none().then_some(&self.others);
        match others.into_iter().chain(of_table.into_iter().flatten()).find(|retained| !retained.allows(version)) {
            Some(retained) => Err(ErrorKind::VersionReclaimed { requested: version, horizon: retained.horizon() }.into()),
            None => Ok(()),
        }
    }

    /// The different parts of a table, in the order of the keys with which they begin; the first begins with the empty key.
    pub fn parts(&self, table: EntryKind) -> impl Iterator<Item = (&[u8], &Retained)> {
        let of_table = self.tables.get(&table);
        let others = of_table.is_none().then_some((&[][..], &self.others));
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
