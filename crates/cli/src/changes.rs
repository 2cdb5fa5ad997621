//! The commits of a store that changed one table, as `changes` and `export --history` print them.

use std::collections::BTreeMap;

use thermocline::{Bytes, Commit, KeyRange, Store, Table, Version};

use crate::failure::Failure;

/// What one commit did to one table.
#[derive(Debug)]
pub(crate) struct TableCommit {
    pub(crate) version: Version,
    /// When it was made, in microseconds since the Unix epoch.
    pub(crate) time_micros: u64,
    pub(crate) removal: Removal,
    /// Key and value of each write in key order, after the removal; no value deletes the key.
    pub(crate) changes: Vec<(Bytes, Option<Bytes>)>,
}

/// Whether a commit emptied the table before its writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Removal {
    None,
    /// Every row was deleted; older versions still have them.
    Cleared,
    /// Every row was removed with its history.
    Purged,
}

/// The commits above `since`, up to `until`, that changed a table.
pub(crate) struct TableChanges {
    commits: thermocline::Changes,
    table: Table,
    until: Version,
}

impl TableChanges {
    pub(crate) fn new(store: &Store, table: Table, since: Version, until: Version) -> Result<Self, Failure> {
        Ok(Self { commits: store.changes(since)?, table, until })
    }
}

impl TableCommit {
    /// What a commit did to a table, if it did anything.
    pub(crate) fn of(table: Table, commit: &Commit) -> Option<Self> {
        let removal = match commit.purged {
            Some(purged) if purged == table => Removal::Purged,
            _ if commit.clears.contains(&table) => Removal::Cleared,
            _ => Removal::None,
        };
        let own = commit.changes.iter().filter(|change| change.table == table);
        let key = |prefix: &Bytes, suffix: &Bytes| {
            if suffix.is_empty() { prefix.clone() } else { Bytes::from([&prefix[..], &suffix[..]].concat()) }
        };
        let changes: Vec<_> = own.map(|change| (key(&change.prefix, &change.suffix), change.value.clone())).collect();
        let is_any = removal != Removal::None || !changes.is_empty();
        is_any.then_some(Self { version: commit.version, time_micros: commit.time, removal, changes })
    }
}

impl Iterator for TableChanges {
    type Item = Result<TableCommit, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let commit = match self.commits.next()? {
                Ok(commit) if commit.version <= self.until => commit,
                Ok(_) => return None,
                Err(error) => return Some(Err(error.into())),
            };
            if let Some(selected) = TableCommit::of(self.table, &commit) {
                return Some(Ok(selected));
            }
        }
    }
}

/// The changes of a commit as the change format can say them: a table that was cleared becomes a del of each row that it had.
///
/// # Errors
/// [`Failure::Refused`] for a purge, which no sequence of changes can say.
pub(crate) fn spell_out(store: &Store, table: Table, commit: TableCommit) -> Result<Vec<(Bytes, Option<Bytes>)>, Failure> {
    match commit.removal {
        Removal::None => Ok(commit.changes),
        Removal::Cleared => {
            let mut changes = BTreeMap::new();
            let before = store.at(commit.version.previous().unwrap_or_default())?;
            for row in before.scan(table, KeyRange::all()) {
                changes.insert(row?.0, None);
            }
            changes.extend(commit.changes);
            Ok(changes.into_iter().collect())
        }
        Removal::Purged => Err(Failure::Refused {
            what: format!("table {table} was purged at version {}, which the change format cannot say", commit.version),
            hint: "`thermocline changes --since VERSION --format tsv` prints what came after it, `--format json` everything",
        }),
    }
}
