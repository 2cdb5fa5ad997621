//! What reclaiming has freed, what it could free, and holding it up.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use thermocline_tier::{Amount, EntryKind, Result, Retained, RetainedTables, TableStats, TierFile, Version};

use crate::store::{Core, Store};

/// What reclaiming does and has done.
///
/// ```
/// # let store = thermocline::Store::in_memory()?;
/// let report = store.reclaim_report()?;
/// assert!(!report.is_paused && report.reclaimed.is_empty() && report.reclaimable.is_empty());
/// # Ok::<(), thermocline_tier::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReclaimReport {
    /// Whether it was [paused](Store::pause_reclaim).
    pub is_paused: bool,
    /// What was removed since the store was opened, by table; without tables of which nothing was.
    pub reclaimed: Vec<(EntryKind, Amount)>,
    /// What could be removed now, by table, as [`would_free`](Store::would_free) estimates it.
    pub reclaimable: Vec<(EntryKind, Amount)>,
}

/// About how much of what a file holds of a table need not be kept, of keys for which `retained` holds.
fn reclaimable(file: &TierFile, stats: &TableStats, retained: &Retained) -> Amount {
    let (oldest, newest) = file.versions;
    if retained.keeps_none(oldest, newest) {
        return Amount { entries: stats.entries, bytes: stats.user_bytes };
    }
    let superseded = stats.entries.saturating_sub(stats.keys);
    let horizon = retained.horizon();
    // As if versions were spread evenly.
    let below = if horizon >= newest {
        superseded
    } else if horizon <= oldest {
        0
    } else {
        share(superseded, horizon.0 - oldest.0, newest.0 - oldest.0)
    };
    // Each pin keeps at most one version of each key, and so does each of the newest that are kept.
    let held = retained.keeps_per_key(oldest, newest).saturating_mul(stats.keys);
    let entries = below.saturating_sub(held);
    Amount { entries, bytes: share(stats.user_bytes, entries, stats.entries) }
}

/// `whole * part / of`.
fn share(whole: u64, part: u64, of: u64) -> u64 {
    u64::try_from(u128::from(whole) * u128::from(part) / u128::from(of.max(1))).unwrap_or(u64::MAX)
}

impl Core {
    /// About how much need not be kept by a rule, by table: exact in memory, from statistics in files.
    fn estimate(&self, rule: &RetainedTables) -> Result<Vec<(EntryKind, Amount)>> {
        let view = self.storage.view_owned();
        let mut amounts: BTreeMap<EntryKind, Amount> = BTreeMap::new();
        for tier in view.in_memory() {
            for (table, amount) in
                Self::tally(&**tier, std::slice::from_ref(rule), view.durable.is_some())?.pop().unwrap_or_default()
            {
                *amounts.entry(table).or_default() += amount;
            }
        }
        for file in view.durable.iter().flat_map(|durable| durable.files()) {
            for (table, stats) in &file.tables {
                // Of the parts of a table it is not known how much lies in each.
                let of_parts = rule.parts(*table).map(|(_, retained)| reclaimable(&file, stats, retained));
                let least = of_parts.min_by_key(|amount| amount.entries).unwrap_or_default();
                *amounts.entry(*table).or_default() += least;
            }
        }
        amounts.retain(|_, amount| amount.entries > 0);
        Ok(amounts.into_iter().collect())
    }

    /// Notes what was removed from memory.
    pub(crate) fn note_reclaimed(&self, table: EntryKind, amount: Amount) {
        if amount.entries > 0 {
            *self.reclaimed.lock().entry(table).or_default() += amount;
        }
    }

    pub(crate) fn is_reclaim_paused(&self) -> bool {
        self.is_reclaim_paused.load(Ordering::Relaxed)
    }

    fn set_reclaim_paused(&self, is_paused: bool) {
        self.is_reclaim_paused.store(is_paused, Ordering::Relaxed);
        if let Some(durable) = self.storage.durable() {
            durable.pause_reclaim(is_paused);
        }
        if !is_paused {
            self.storage.signals.ring();
        }
    }

    /// What nothing but the horizon, policies and holders keep, with the horizon at a version or where it is if that is above.
    fn kept_from(&self, horizon: Version) -> RetainedTables {
        let mut rule = self.reclaim.read().retained_from(horizon.min(self.latest()));
        self.marks.add_clears_to(&mut rule);
        rule
    }
}

impl Store {
    /// About how much reclaiming would free if the horizon were at `horizon`, with [`Version::ZERO`] as it is: by table, without those of
    /// which nothing would go. Estimated from the statistics of files, of which none is read, as if versions were spread evenly in each;
    /// counted in memory. Not counted are versions that something elsewhere supersedes, and over files tombstones. Cost: goes over what
    /// is in memory, and the list of files.
    ///
    /// ```
    /// # let store = thermocline::Store::in_memory()?;
    /// use thermocline_store::Batch;
    /// use thermocline_tier::EntryKind;
    ///
    /// for value in [b"1", b"2"] {
    ///     let mut batch = Batch::new();
    ///     batch.put(EntryKind::Multi, b"k", value);
    ///     store.commit(batch)?;
    /// }
    /// let freed = store.would_free(store.last_version())?;
    /// assert_eq!(freed[0].1.entries, 1);
    /// # Ok::<(), thermocline_tier::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn would_free(&self, horizon: Version) -> Result<Vec<(EntryKind, Amount)>> {
        self.inner.check_open()?;
        self.inner.estimate(&self.inner.kept_from(horizon))
    }

    /// How much a [compaction](Self::compact) of everything would free if the horizon were at `horizon`, with [`Version::ZERO`] as it is.
    /// Exact, at the cost of [`why_retained`](Self::why_retained): reads everything.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn would_free_exactly(&self, horizon: Version) -> Result<Amount> {
        self.inner.check_open()?;
        Ok(self.inner.not_kept(&[self.inner.kept_from(horizon)])?[0])
    }

    /// What reclaiming has removed and could remove, by table. Cost: as [`would_free`](Self::would_free).
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn reclaim_report(&self) -> Result<ReclaimReport> {
        let reclaimable = self.would_free(Version::ZERO)?;
        let mut reclaimed = self.inner.reclaimed.lock().clone();
        for (table, amount) in self.inner.storage.durable().iter().flat_map(|durable| durable.reclaimed()) {
            *reclaimed.entry(table).or_default() += amount;
        }
        Ok(ReclaimReport { is_paused: self.inner.is_reclaim_paused(), reclaimed: reclaimed.into_iter().collect(), reclaimable })
    }

    /// Holds up what is done in the background only to free space, until it is [resumed](Self::resume_reclaim) or the store is closed: sweeping
    /// memory, [dropping versions](crate::Batch::drop_versions), rewriting files for what they need not keep, also where
    /// [`garbage_max_age`](crate::StoreOptions::garbage_max_age) asks for it. Horizons move on, and what is rewritten for another reason
    /// leaves out what need not be kept.
    pub fn pause_reclaim(&self) {
        self.inner.set_reclaim_paused(true);
    }

    /// Goes on with what [`pause_reclaim`](Self::pause_reclaim) held up.
    pub fn resume_reclaim(&self) {
        self.inner.set_reclaim_paused(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(versions: (u64, u64)) -> TierFile {
        let end = || (EntryKind::Multi, bytes::Bytes::new());
        let (name, versions) = ("a file".into(), (Version(versions.0), Version(versions.1)));
        TierFile { name, level: 1, size_bytes: 1, first: end(), last: end(), versions, tables: Vec::new() }
    }

    #[test]
    fn shares_of_files_are_what_versions_spread_evenly_would_give() {
        let stats = TableStats { keys: 10, entries: 110, tombstones: 0, user_bytes: 1100 };
        let freed = |retained: &Retained| {
            let amount = reclaimable(&file((100, 200)), &stats, retained);
            assert_eq!(amount.bytes, amount.entries * 10);
            amount.entries
        };
        let horizon = |version| Retained::new(Version(version), []);
        assert_eq!([50, 100, 150, 200, 300].map(|version| freed(&horizon(version))), [0, 0, 50, 100, 100]);
        assert_eq!(freed(&horizon(200).with_newest(3)), 80);
        assert_eq!(freed(&Retained::new(Version(200), [Version(90), Version(120), Version(130), Version(200)])), 80);
        let clear = thermocline_tier::Clear { at: Version(300), below: Version(300) };
        assert_eq!(freed(&horizon(300).with_clears([clear].into())), 110);
        assert_eq!(share(u64::MAX, u64::MAX, u64::MAX), u64::MAX);
    }
}
