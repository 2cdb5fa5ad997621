//! Where rows on their way to files meet the engine's strategy.

use bytes::Bytes;
use thermocline_format::Corruption;
use thermocline_migration::{Job, Migration, MigrationScope, Modified, StoredRow};
use thermocline_tier::{MigrationReport, Result, Version};

use crate::codec::{Codec, decode};
use crate::error::corruption;
use crate::writer::{NewVersion, Value};

/// Whether a row is offered to the strategy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Offer {
    /// Not by this rewrite, nor by a later one.
    #[default]
    Never,
    /// By a later one.
    Later,
    Now,
}

/// Which rows of a rewrite are offered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offers {
    pub(crate) scope: MigrationScope,
    /// The newest version that a snapshot or a pin holds.
    pub(crate) newest_pin: Option<Version>,
}

impl Offers {
    /// Of a row of a key whose rows are settled up to a version; `is_first`: it is the newest one up to there.
    pub(crate) fn of(self, version: Version, settled_up_to: Version, is_first: bool) -> Offer {
        match self.scope {
            MigrationScope::All => Offer::Now,
            _ if version > settled_up_to => Offer::Later,
            _ if !is_first => Offer::Never,
            MigrationScope::Unpinned if self.is_pinned(version) => Offer::Later,
            MigrationScope::Settled | MigrationScope::Unpinned => Offer::Now,
        }
    }

    /// Whether a snapshot or a pin may see a row.
    pub(crate) fn is_pinned(self, version: Version) -> bool {
        self.newest_pin.is_some_and(|pin| pin >= version)
    }
}

/// A strategy's job for one stream of rows.
#[derive(Debug)]
pub(crate) struct Hooks {
    job: Box<dyn Job>,
    /// The context is to be asked for again before the next key.
    is_stale: bool,
}

impl Hooks {
    pub(crate) fn begin(migration: &dyn Migration) -> Self {
        Self { job: migration.begin(), is_stale: true }
    }

    /// Has the context asked for again.
    pub(crate) fn begin_step(&mut self) {
        self.is_stale = true;
    }

    /// To be called between two keys, at which the context may change.
    pub(crate) fn turn_to_key(&mut self) -> Result<()> {
        if self.is_stale {
            self.job.refresh()?;
            self.is_stale = false;
        }
        Ok(())
    }

    /// Whether a row is to go.
    pub(crate) fn filter(&mut self, entry: &NewVersion<'_>) -> Result<bool> {
        with_row(entry, |row| self.job.filter(row)).unwrap_or(Ok(false))
    }

    /// Shows a row to the strategy, and hands it on to `push` as it shall be.
    pub(crate) fn pass(
        &mut self,
        entry: &NewVersion<'_>,
        offer: Offer,
        push: impl FnOnce(&NewVersion<'_>) -> Result<()>,
    ) -> Result<()> {
        let modified = with_row(entry, |row| match offer {
            Offer::Now => self.job.migrate(row),
            Offer::Later | Offer::Never => self.job.observe(row, offer == Offer::Later).map(|()| None),
        });
        match modified.transpose()?.flatten() {
            None => push(entry),
            Some(Modified { value, suffix }) => push(&NewVersion {
                value: value.as_deref().map_or(entry.value, Value::Bytes),
                suffix: suffix.as_deref().unwrap_or(entry.suffix),
                ..*entry
            }),
        }
    }

    /// Ends a file: what is to be kept of it.
    pub(crate) fn end_file(&mut self) -> Result<Vec<u8>> {
        self.job.end_file()
    }

    pub(crate) fn report(&self) -> MigrationReport {
        self.job.report()
    }
}

/// What an entry is to a strategy, unless it is a tombstone.
fn with_row<T>(entry: &NewVersion<'_>, show: impl FnOnce(&StoredRow<'_>) -> T) -> Option<T> {
    let NewVersion { table, prefix, suffix, version, value } = *entry;
    match value {
        Value::Tombstone => None,
        Value::Bytes(value) => Some(show(&StoredRow::new(table, prefix, suffix, version, value))),
        Value::Stored { payload, codec, raw_len } => {
            let read = || read_apart(payload, codec, raw_len);
            Some(show(&StoredRow::with_value_apart(table, prefix, suffix, version, &read)))
        }
    }
}

/// A value that is apart, from the payload of its frame.
fn read_apart(payload: &[u8], codec: Codec, raw_len: u32) -> Result<Bytes> {
    let mut raw = vec![0; raw_len as usize];
    decode(codec, payload, None, &mut raw).map_err(|found| {
        corruption(Corruption::new("a sorted file", 0, "compressed value", format!("{raw_len} bytes"), found))
    })?;
    Ok(raw.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settled_row_of_each_key_is_offered_and_those_above_are_offered_later() {
        let offer =
            |scope, newest_pin, version, is_first| Offers { scope, newest_pin }.of(Version(version), Version(10), is_first);
        assert_eq!(offer(MigrationScope::Settled, None, 11, true), Offer::Later);
        assert_eq!(offer(MigrationScope::Settled, Some(Version(20)), 10, true), Offer::Now);
        assert_eq!(offer(MigrationScope::Settled, None, 9, false), Offer::Never, "superseded, and kept for some other reason");
        assert_eq!(offer(MigrationScope::Unpinned, Some(Version(10)), 10, true), Offer::Later);
        assert_eq!(offer(MigrationScope::Unpinned, Some(Version(9)), 10, true), Offer::Now);
        assert_eq!(offer(MigrationScope::All, Some(Version(20)), 12, false), Offer::Now);
    }
}
