//! What holds for a whole table from a version on: clears, which hide older rows, and purge floors, below which reads fail.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;
use thermocline_tier::{EntryKind, ErrorKind, Result, Version};

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

/// The clears of one table, as a scan needs them.
#[derive(Clone, Debug, Default)]
pub(crate) struct TableClears(Arc<Vec<Version>>);

impl TableClears {
    /// The newest clear at or below `at`.
    pub(crate) fn newest(&self, at: Version) -> Option<Version> {
        self.0[..self.0.partition_point(|clear| *clear <= at)].last().copied()
    }

    /// Whether the table was cleared in (after, at].
    pub(crate) fn any_between(&self, after: Version, at: Version) -> bool {
        self.newest(at).is_some_and(|clear| clear > after)
    }

    /// The clears at or below `at`, oldest first.
    pub(crate) fn oldest_first(&self, at: Version) -> impl Iterator<Item = Version> + '_ {
        self.0.iter().copied().take_while(move |clear| *clear <= at)
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

    /// Whether any table has marks. If not, neither clears nor floors need asking.
    pub(crate) fn has_any(&self) -> bool {
        self.has_any.load(Ordering::Acquire)
    }

    /// The clears of a table.
    pub(crate) fn clears(&self, table: EntryKind) -> TableClears {
        if !self.has_any() {
            return TableClears::default();
        }
        TableClears(self.tables.read().get(&table).map(|marks| Arc::clone(&marks.clears)).unwrap_or_default())
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
}
