//! What a store must hold, version by version, and the check that it does.

use std::collections::BTreeMap;
use std::ops::Bound;

use thermocline_store::{Batch, CommitOptions, Durability, Store};
use thermocline_tier::{EntryKind, ErrorKind, KeyRange, Result, Version};

use crate::failure::{CaseFailure, CaseResult};
use crate::harness::{OTHER, TABLE, expect, expect_that};
use crate::notation;

const TABLES: [EntryKind; 2] = [TABLE, OTHER];

type Rows = BTreeMap<(EntryKind, Vec<u8>), Vec<u8>>;

/// The rows at every version that was committed, and the last of them that is durable.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    states: BTreeMap<Version, Rows>,
    pub(crate) durable: Version,
}

/// What one commit does: `key=value` puts, `key` removes, in the default table and, with its values reversed, in the other.
pub(crate) fn batch(writes: &[&str]) -> Batch {
    let mut batch = Batch::new();
    for write in writes {
        for table in TABLES {
            match write.split_once('=') {
                Some((key, value)) => batch.put(table, key.as_bytes(), &value_in(table, value)),
                None => batch.remove(table, write.as_bytes()),
            };
        }
    }
    batch
}

/// The tables hold different values, so that a mix-up shows.
fn value_in(table: EntryKind, value: &str) -> Vec<u8> {
    if table == TABLE { value.bytes().collect() } else { value.bytes().rev().collect() }
}

impl Ledger {
    pub(crate) fn new() -> Self {
        Self { states: BTreeMap::from([(Version::ZERO, Rows::new())]), durable: Version::ZERO }
    }

    pub(crate) fn last(&self) -> Version {
        self.states.last_key_value().map_or(Version::ZERO, |(version, _)| *version)
    }

    fn rows(&self) -> Rows {
        self.states.last_key_value().map(|(_, rows)| rows.clone()).unwrap_or_default()
    }

    /// Commits and notes it, as durable if it is. A commit of which it is not known whether it was made is noted too, so that it may
    /// turn up.
    pub(crate) fn commit(&mut self, store: &Store, writes: &[&str], durability: Durability) -> Result<Version> {
        let options = CommitOptions { durability: Some(durability), ..CommitOptions::default() };
        let committed = store.commit_with(batch(writes), options);
        let version = match &committed {
            Ok(version) => *version,
            Err(error) => match error.kind() {
                ErrorKind::CommitUnknown { version } => *version,
                _ => return committed,
            },
        };
        let mut rows = self.rows();
        for write in writes {
            for table in TABLES {
                match write.split_once('=') {
                    Some((key, value)) => rows.insert((table, key.into()), value_in(table, value)),
                    None => rows.remove(&(table, write.as_bytes().to_vec())),
                };
            }
        }
        self.states.insert(version, rows);
        if committed.is_ok() && durability == Durability::Sync {
            self.durable = version;
        }
        committed
    }

    /// Clears the default table and notes it.
    pub(crate) fn clear(&mut self, store: &Store) -> Result<Version> {
        let version = store.clear_table(TABLE)?;
        let mut rows = self.rows();
        rows.retain(|(table, _), _| *table != TABLE);
        self.states.insert(version, rows);
        self.durable = version;
        Ok(version)
    }

    /// Checks a store that was opened again: its last version is one that was committed, not below `least`, and it has exactly the rows
    /// of every version up to there, by each way to read them.
    pub(crate) fn check(&self, store: &Store, least: Version) -> CaseResult {
        let last = store.last_version();
        expect_that(last >= least, &format!("version {least} is there: the last one is {last}"))?;
        expect_that(self.states.contains_key(&last), &format!("the last version, {last}, is one that was committed"))?;
        self.states.range(..=last).try_for_each(|(version, rows)| check_rows(store, *version, rows))
    }

    /// As [`check`](Self::check), at the last version alone.
    pub(crate) fn check_last(&self, store: &Store, least: Version) -> CaseResult {
        let last = store.last_version();
        expect_that(last >= least, &format!("version {least} is there: the last one is {last}"))?;
        match self.states.get(&last) {
            Some(rows) => check_rows(store, last, rows),
            None => Err(CaseFailure::new("the last version", "one that was committed", last.to_string())),
        }
    }
}

fn check_rows(store: &Store, at: Version, rows: &Rows) -> CaseResult {
    let snapshot = store.at(at)?;
    for table in TABLES {
        let of_table = rows.range((Bound::Included((table, Vec::new())), Bound::Unbounded));
        let expected: Vec<(&[u8], &[u8])> =
            of_table.take_while(|((of, _), _)| *of == table).map(|((_, key), value)| (&key[..], &value[..])).collect();
        let text = |rows: &mut dyn Iterator<Item = (&[u8], &[u8])>| {
            notation::joined(rows.map(|(key, value)| format!("{}={}", notation::bytes(key), notation::bytes(value))))
        };
        let wanted = text(&mut expected.iter().copied());
        let found = snapshot.scan(table, KeyRange::all()).collect::<Result<Vec<_>>>()?;
        expect(
            || format!("rows of {table} at {at}"),
            &wanted,
            &text(&mut found.iter().map(|(key, value)| (&key[..], &value[..]))),
        )?;
        let is_equal = found.iter().map(|(key, value)| (&key[..], &value[..])).eq(expected.iter().copied());
        expect_that(is_equal, &format!("the rows of {table} at {at} are equal to their last byte"))?;
        let values = snapshot.get_many(table, expected.iter().map(|(key, _)| key))?;
        let is_same = values.iter().map(Option::as_deref).eq(expected.iter().map(|(_, value)| Some(*value)));
        expect_that(is_same, &format!("a batched get of {table} at {at} finds what the range shows"))?;
        if let Some((key, value)) = expected.last() {
            expect_that(
                snapshot.get(table, key)?.as_deref() == Some(*value),
                &format!("get in {table} at {at} finds the last row"),
            )?;
        }
    }
    Ok(())
}
