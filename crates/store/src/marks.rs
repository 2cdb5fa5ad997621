//! What holds for a whole table from a version on: clears, which hide older rows, and purge floors, below which reads fail.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;
use thermocline_tier::{Clear, EntryKind, ErrorKind, Lookup, Result, RetainedTables, Version};

/// The marks of all tables. Most stores have none, so reads ask one flag first.
#[derive(Debug, Default)]
pub(crate) struct TableMarks {
    has_any: AtomicBool,
    tables: RwLock<BTreeMap<EntryKind, Marks>>,
}

#[derive(Debug, Default)]
struct Marks {
    /// The versions at which the table was cleared, ascending. Shared, since every scan takes a copy.
    clears: Arc<Vec<Version>>,
    /// The version of the last purge: older states of the table are gone.
    floor: Version,
}

/// The marks of one table as bytes carry them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MarkedTable {
    pub(crate) table: EntryKind,
    pub(crate) floor: Version,
    /// Ascending.
    pub(crate) clears: Vec<Version>,
}

/// The marks of one table, as a scan needs them.
#[derive(Clone, Debug, Default)]
pub(crate) struct TableClears {
    clears: Arc<Vec<Version>>,
    floor: Version,
}

/// The newest of ascending clears at or below `at`.
fn newest(clears: &[Version], at: Version) -> Option<Version> {
    clears[..clears.partition_point(|clear| *clear <= at)].last().copied()
}

impl TableClears {
    /// The newest clear at or below `at`.
    pub(crate) fn newest(&self, at: Version) -> Option<Version> {
        newest(&self.clears, at)
    }

    /// The version below which a reader at `at` must not see rows: of the newest clear, or of the purge, which counts as one: what
    /// it removes may lie on disk for a while.
    pub(crate) fn hidden_below(&self, at: Version) -> Option<Version> {
        let purged = (self.floor > Version::ZERO && self.floor <= at).then_some(self.floor);
        self.newest(at).max(purged)
    }

    /// Whether the table was cleared in (after, at].
    pub(crate) fn any_between(&self, after: Version, at: Version) -> bool {
        self.newest(at).is_some_and(|clear| clear > after)
    }

    /// The clears at or below `at`, oldest first.
    pub(crate) fn oldest_first(&self, at: Version) -> impl Iterator<Item = Version> + '_ {
        self.clears.iter().copied().take_while(move |clear| *clear <= at)
    }

    /// The version of the last purge.
    pub(crate) fn floor(&self) -> Version {
        self.floor
    }
}

impl TableMarks {
    /// Notes a clear. Readers at `version` must not be let in before.
    pub(crate) fn clear(&self, table: EntryKind, version: Version) {
        let mut tables = self.tables.write();
        Arc::make_mut(&mut tables.entry(table).or_default().clears).push(version);
        self.has_any.store(true, Ordering::Release);
    }

    /// Notes a purge at `version`. Must precede the removal of the rows. Earlier clears stay: a reader that is under way
    /// still needs them.
    pub(crate) fn purge(&self, table: EntryKind, version: Version) {
        self.tables.write().entry(table).or_default().floor = version;
        self.has_any.store(true, Ordering::Release);
    }

    /// Brings back what a checkpoint holds.
    pub(crate) fn restore(&self, marked: Vec<MarkedTable>) {
        let mut tables = self.tables.write();
        for MarkedTable { table, floor, clears } in marked {
            tables.insert(table, Marks { clears: Arc::new(clears), floor });
        }
        self.has_any.store(!tables.is_empty(), Ordering::Release);
    }

    /// The marks as of a version, for a checkpoint there: without later ones, which replaying the log brings back, and without
    /// clears that a purge has made pointless.
    pub(crate) fn as_of(&self, at: Version) -> Vec<MarkedTable> {
        let tables = self.tables.read();
        let marked = |(table, marks): (&EntryKind, &Marks)| {
            let floor = if marks.floor <= at { marks.floor } else { Version::ZERO };
            let clears: Vec<Version> = marks.clears.iter().copied().filter(|clear| *clear > floor && *clear <= at).collect();
            let has_any = floor > Version::ZERO || !clears.is_empty();
            has_any.then_some(MarkedTable { table: *table, floor, clears })
        };
        tables.iter().filter_map(marked).collect()
    }

    /// Forgets the clears that no allowed read can tell from the next one.
    pub(crate) fn thin(&self, retained: &RetainedTables) {
        for (table, marks) in self.tables.write().iter_mut() {
            let is_seen = |clear, next| retained.parts(*table).any(|(_, retained)| retained.sees(clear, next));
            let nexts = marks.clears.iter().skip(1).map(Some).chain([None]);
            let kept: Vec<Version> = marks
                .clears
                .iter()
                .zip(nexts)
                .filter(|(clear, next)| is_seen(**clear, next.copied()))
                .map(|(clear, _)| *clear)
                .collect();
            if kept.len() < marks.clears.len() {
                marks.clears = Arc::new(kept);
            }
        }
    }

    /// Says in `retained` which tables were cleared, and when.
    pub(crate) fn add_clears_to(&self, retained: &mut RetainedTables) {
        if !self.has_any() {
            return;
        }
        for (table, marks) in self.tables.read().iter().filter(|(_, marks)| !marks.clears.is_empty()) {
            retained.set_clears(*table, marks.clears.iter().map(|clear| Clear { at: *clear, below: *clear }));
        }
    }

    /// Whether any table has marks. If not, neither clears nor floors need asking.
    pub(crate) fn has_any(&self) -> bool {
        self.has_any.load(Ordering::Acquire)
    }

    /// The marks of a table.
    pub(crate) fn clears(&self, table: EntryKind) -> TableClears {
        if !self.has_any() {
            return TableClears::default();
        }
        let of_table = |marks: &Marks| TableClears { clears: Arc::clone(&marks.clears), floor: marks.floor };
        self.tables.read().get(&table).map(of_table).unwrap_or_default()
    }

    /// The answer to a point read at `at` once the table's marks are taken into account. Ask *after* reading, as for
    /// [`check_floor`](Self::check_floor).
    ///
    /// # Errors
    /// As [`check_floor`](Self::check_floor).
    pub(crate) fn judge(&self, table: EntryKind, at: Version, found: Lookup) -> Result<Lookup> {
        if !self.has_any() {
            return Ok(found);
        }
        let tables = self.tables.read();
        let Some(marks) = tables.get(&table) else { return Ok(found) };
        if at < marks.floor {
            return Err(ErrorKind::VersionReclaimed { requested: at, horizon: marks.floor }.into());
        }
        let Some(written) = found.version() else { return Ok(found) };
        if written < marks.floor {
            return Ok(Lookup::Absent);
        }
        match newest(&marks.clears, at) {
            Some(cleared) if written < cleared => Ok(Lookup::Tombstone { version: cleared }),
            _ => Ok(found),
        }
    }

    /// Refuses a read of `table` at `at` if a purge took that state away. Ask *after* reading: a purge sets the floor
    /// before it removes rows, so a read that missed rows cannot pass.
    pub(crate) fn check_floor(&self, table: EntryKind, at: Version) -> Result<()> {
        if !self.has_any() {
            return Ok(());
        }
        let floor = self.tables.read().get(&table).map_or(Version::ZERO, |marks| marks.floor);
        if at >= floor {
            return Ok(());
        }
        Err(ErrorKind::VersionReclaimed { requested: at, horizon: floor }.into())
    }
}

#[cfg(test)]
mod tests {
    use thermocline_tier::Retained;

    use super::*;

    #[test]
    fn newest_clear_is_the_last_at_or_below_the_version() {
        let marks = TableMarks::default();
        marks.clear(EntryKind::Multi, Version(3));
        marks.clear(EntryKind::Multi, Version(7));
        let clears = marks.clears(EntryKind::Multi);
        assert_eq!(clears.newest(Version(2)), None);
        assert_eq!(clears.newest(Version(3)), Some(Version(3)));
        assert_eq!(clears.newest(Version(6)), Some(Version(3)));
        assert!(clears.any_between(Version(3), Version(7)));
        assert!(!clears.any_between(Version(3), Version(6)));
    }

    #[test]
    fn marks_as_of_a_version_are_those_that_replay_cannot_bring_back() {
        let marks = TableMarks::default();
        for version in [2, 4, 8] {
            marks.clear(EntryKind::Multi, Version(version));
        }
        marks.clear(EntryKind::source(1), Version(9));
        let at = |version| marks.as_of(Version(version));
        let marked = |floor: u64, clears: &[u64]| {
            let clears = clears.iter().copied().map(Version).collect();
            MarkedTable { table: EntryKind::Multi, floor: Version(floor), clears }
        };
        assert_eq!(at(1), []);
        assert_eq!(at(5), [marked(0, &[2, 4])]);
        marks.purge(EntryKind::Multi, Version(6));
        assert_eq!(at(5), [marked(0, &[2, 4])]);
        assert_eq!(at(8), [marked(6, &[8])]);
        let restored = TableMarks::default();
        restored.restore(marks.as_of(Version(9)));
        assert_eq!(restored.as_of(Version(9)), marks.as_of(Version(9)));
        assert_eq!(restored.clears(EntryKind::Multi).hidden_below(Version(7)), Some(Version(6)));
        assert_eq!(restored.clears(EntryKind::Multi).hidden_below(Version(5)), None);
    }

    #[test]
    fn thinning_keeps_the_clear_that_each_allowed_read_sees() {
        let marks = TableMarks::default();
        (1..=9).for_each(|version| marks.clear(EntryKind::Multi, Version(10 * version)));
        let newest = |at: u64| marks.clears(EntryKind::Multi).newest(Version(at)).map(|clear| clear.0);
        let before = [25, 64, 65, 70, 200].map(newest);
        marks.thin(&RetainedTables::new(Retained::new(Version(64), [Version(25)])));
        assert_eq!([25, 64, 65, 70, 200].map(newest), before);
        assert_eq!(marks.clears(EntryKind::Multi).oldest_first(Version::MAX).count(), 5);
    }
}
