//! Rows whose time to live is over: found by the versions of that time, and deleted by commits of the store's own.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use thermocline_drop::{Anchor, Change, Expiry, PolicyScope, Ttl};
use thermocline_tier::{
    BatchBuilder, Direction, EntryKind, KeyRange, Lookup, RangeCursor, RangeRequest, ReadWindow, Result, Version,
};
use thermocline_wal::Durability;

use crate::store::{Core, Store};
use crate::view::View;

/// How many rows a step looks at, and deletes with one commit at most.
const STEP_ROWS: usize = 256;

/// How far expiring has got.
#[derive(Debug, Default)]
pub(crate) struct Expiring {
    /// The tables that it is not through with, by which time to live, and where it is in each.
    at: BTreeMap<EntryKind, (Expiry, Ttl, RangeCursor)>,
    /// The table of the last step.
    last: Option<EntryKind>,
}

/// Rows of a table that may have expired by a time to live.
#[derive(Debug)]
pub(crate) struct ExpiredRows {
    table: EntryKind,
    ttl: Ttl,
    rows: Vec<ExpiredRow>,
}

/// A row to be deleted, if it is still the same.
#[derive(Debug)]
struct ExpiredRow {
    prefix: Bytes,
    suffix: Bytes,
    version: Version,
}

impl Core {
    /// Looks at some rows of a table that may have expired, and deletes those that have; whether there is more to look at. The next step is
    /// for the next table, so that a large one, or one that fails, keeps no other waiting. What would come on top of what a consumer
    /// that holds writers is behind, waits for it.
    pub(crate) fn expire_step(&self) -> Result<bool> {
        let _open = self.storage.enter()?;
        if self.consumer_behind().is_some() {
            return Ok(false);
        }
        let mut expiring = self.expiring.lock();
        let view = self.storage.view_owned();
        let (due, ttl) = {
            let authority = self.reclaim.read();
            let due = authority.expiries(self.moment(), &view.tables()?);
            let behind = due.iter().find(|expiry| expiring.last.is_none_or(|last| expiry.table > last));
            let Some(next) = behind.or(due.first()).copied() else {
                expiring.at.clear();
                return Ok(false);
            };
            expiring.at.retain(|table, _| due.iter().any(|expiry| expiry.table == *table));
            let Some(ttl) = authority.ttl(next.table) else { return Ok(false) };
            (next, ttl)
        };
        let table = due.table;
        expiring.last = Some(table);
        let begun = expiring.at.remove(&table).filter(|(begun, by, _)| *by == ttl && begun.after == due.after);
        let (expiry, _, mut cursor) = begun.unwrap_or_else(|| {
            let window = ReadWindow { at: due.through, after: Some(due.after) };
            let request = RangeRequest { table, range: KeyRange::all(), window, direction: Direction::Forward };
            (due, ttl, request.into_cursor())
        });
        self.expire(&view, &expiry, ttl, &mut cursor)?;
        if !cursor.is_exhausted() {
            expiring.at.insert(table, (expiry, ttl, cursor));
            return Ok(true);
        }
        // By another time other rows are to be looked at.
        let _turn = self.retention_turn.lock();
        if self.reclaim.read().ttl(table) == Some(ttl) {
            let done = Change::Expired { table, through: expiry.through };
            // To look again at what was looked at does no harm.
            self.note_as(vec![done], Durability::Buffered)?;
        }
        Ok(true)
    }

    /// Deletes those of the next rows that have expired.
    fn expire(&self, view: &View, expiry: &Expiry, ttl: Ttl, cursor: &mut RangeCursor) -> Result<()> {
        let page = view.merged()?.range_next(cursor, STEP_ROWS)?;
        let (table, mut rows, mut size_bytes) = (expiry.table, Vec::new(), 0);
        for entry in page.iter().filter(|entry| entry.value.is_some()) {
            let newest = self.newest(view, table, entry.prefix)?;
            let Some((version, suffix)) = newest.filter(|(newest, _)| *newest >= entry.version) else { continue };
            if version > entry.version && !self.has_lived_since(view, expiry, entry.prefix, entry.version)? {
                continue;
            }
            size_bytes += entry.prefix.len() + suffix.len();
            rows.push(ExpiredRow { prefix: Bytes::copy_from_slice(entry.prefix), suffix, version });
        }
        if rows.is_empty() {
            return Ok(());
        }
        self.wait_for_background(size_bytes)?;
        let count = rows.len() as u64;
        self.delete_expired(ExpiredRows { table, ttl, rows })?;
        self.expired_rows.fetch_add(count, Ordering::Relaxed);
        tracing::debug!(%table, rows = count, "rows have expired");
        Ok(())
    }

    /// The version and the suffix of a key's value in the latest state, if it has one.
    fn newest(&self, view: &View, table: EntryKind, prefix: &[u8]) -> Result<Option<(Version, Bytes)>> {
        let found = self.marks.judge(table, Version::MAX, view.get(table, prefix, Version::MAX)?)?;
        Ok(match found {
            Lookup::Value { version, suffix, .. } => Some((version, suffix)),
            _ => None,
        })
    }

    /// Whether a row that was written again after `version` is the same row since then, and that counts.
    fn has_lived_since(&self, view: &View, expiry: &Expiry, prefix: &[u8], version: Version) -> Result<bool> {
        if expiry.anchor == Anchor::Updated || self.marks.clears(expiry.table).any_between(version, Version::MAX) {
            return Ok(false);
        }
        let entries = view.merged()?.get_all_versions(expiry.table, prefix)?;
        // Below the horizon a deletion in between may be gone, and only that: then the row counts from what is left.
        let horizon = self.reclaim.read().table_horizon(expiry.table);
        let mut newer = entries.iter().take_while(|entry| entry.version > version);
        Ok(newer.all(|entry| entry.value.is_some() && entry.version > horizon))
    }

    /// The batch that deletes those rows that are still the same, if the time to live still is. Nothing is written meanwhile.
    pub(crate) fn expired_batch(&self, ExpiredRows { table, ttl, rows }: &ExpiredRows) -> Result<BatchBuilder> {
        let (view, mut batch) = (self.storage.view_owned(), BatchBuilder::new());
        if self.reclaim.read().ttl(*table) != Some(*ttl) {
            return Ok(batch);
        }
        for ExpiredRow { prefix, suffix, version } in rows {
            if self.newest(&view, *table, prefix)?.is_some_and(|(newest, _)| newest == *version) {
                batch.remove(*table, &[&prefix[..], suffix].concat())?;
            }
        }
        Ok(batch)
    }
}

impl Store {
    /// Sets when rows of a table, or of all tables of a kind that have no time of their own, expire; `None` takes that away. Durable when this
    /// returns. Once its time is over a row is deleted by a commit of the store's own, which the [stream of commits](Self::changes) shows like
    /// any other: within two seconds, or with the next [`run_until_idle`](Self::run_until_idle), and for long times up to a 64th of the time
    /// later, since times are noted less densely the older they are. Older versions keep the row as they keep any that was deleted. Time counts
    /// from when the first policy was set: what was committed before is as old as that.
    ///
    /// ```
    /// # let store = thermocline::Store::in_memory()?;
    /// use std::time::Duration;
    /// use thermocline_store::{Anchor, PolicyScope, Ttl};
    /// use thermocline_tier::EntryKind;
    ///
    /// let sessions = EntryKind::source(4);
    /// let half_an_hour = Ttl { after: Duration::from_secs(1800), anchor: Anchor::Updated };
    /// store.set_ttl(PolicyScope::Table(sessions), Some(half_an_hour))?;
    /// assert_eq!(store.ttl(sessions), Some(half_an_hour));
    /// # Ok::<(), thermocline_tier::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`InvalidArgument`](thermocline_tier::ErrorKind::InvalidArgument) for no time at all; else as [`commit`](Self::commit).
    pub fn set_ttl(&self, scope: PolicyScope, ttl: Option<Ttl>) -> Result<()> {
        self.inner.check_writable()?;
        let _turn = self.inner.retention_turn.lock();
        let change = self.inner.reclaim.read().set_ttl(scope, ttl)?;
        self.inner.note(vec![change])
    }

    /// When rows of a table expire: as was set for it or for its kind.
    pub fn ttl(&self, table: EntryKind) -> Option<Ttl> {
        self.inner.reclaim.read().ttl(table)
    }

    /// The times to live that were set.
    pub fn ttls(&self) -> Vec<(PolicyScope, Ttl)> {
        self.inner.reclaim.read().ttls().collect()
    }
}
