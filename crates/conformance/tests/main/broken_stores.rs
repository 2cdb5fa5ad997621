//! Stores that are wrong on purpose, by their disk or their tier: the store cases must fail on them.

use std::sync::Arc;

use thermocline_conformance::{ModelTier, StoreBackend, StoreCase};
use thermocline_io::{Fault, FaultKind, When};
use thermocline_tier::{
    DropVersion, EntryKind, KeyRef, Lookup, PagedScan, RangeBatch, RangeCursor, RangeRequest, RawEntry, Result, TierBatch,
    TierScan, TierStats, TierStorage, Version,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    Nothing,
    LosesEvenVersions,
    ForgetsClears,
    ReadsLatest,
    ForgetsDrops,
    DropsTheNewest,
}

#[derive(Debug)]
struct WrongTier(Wrong, Arc<ModelTier>);

impl WrongTier {
    fn version(&self, at: Version) -> Version {
        if self.0 == Wrong::ReadsLatest { Version::MAX } else { at }
    }
}

impl TierStorage for WrongTier {
    fn get(&self, table: EntryKind, prefix: &[u8], at: Version) -> Result<Lookup> {
        self.1.get(table, prefix, self.version(at))
    }

    fn get_many(&self, keys: &[KeyRef<'_>], at: Version) -> Result<Vec<Lookup>> {
        self.1.get_many(keys, self.version(at))
    }

    fn set(&self, batch: &TierBatch) -> Result<()> {
        let is_lost = self.0 == Wrong::LosesEvenVersions && batch.version().0.is_multiple_of(2);
        if is_lost { Ok(()) } else { self.1.set(batch) }
    }

    fn range_next(&self, cursor: &mut RangeCursor, batch_size: usize) -> Result<RangeBatch> {
        self.1.range_next(cursor, batch_size)
    }

    fn range_rev_next(&self, cursor: &mut RangeCursor, batch_size: usize) -> Result<RangeBatch> {
        self.1.range_rev_next(cursor, batch_size)
    }

    fn scan(self: Arc<Self>, request: RangeRequest) -> Result<Box<dyn TierScan>> {
        Ok(Box::new(PagedScan::new(self, request)))
    }

    fn ensure_table(&self, table: EntryKind) -> Result<()> {
        self.1.ensure_table(table)
    }

    fn tables(&self) -> Result<Vec<EntryKind>> {
        self.1.tables()
    }

    fn clear_table(&self, table: EntryKind) -> Result<()> {
        if self.0 == Wrong::ForgetsClears { Ok(()) } else { self.1.clear_table(table) }
    }

    fn drop_versions(&self, drops: &[DropVersion]) -> Result<()> {
        match self.0 {
            Wrong::ForgetsDrops => Ok(()),
            Wrong::DropsTheNewest => {
                let mut newest = Vec::new();
                for DropVersion { table, prefix, .. } in drops {
                    let entries = self.1.get_all_versions(*table, prefix)?;
                    newest.extend(entries.first().map(|entry| entry.version));
                }
                let drops = drops.iter().zip(newest).map(|(drop, version)| DropVersion { version, ..drop.clone() });
                self.1.drop_versions(&drops.collect::<Vec<_>>())
            }
            _ => self.1.drop_versions(drops),
        }
    }

    fn get_all_versions(&self, table: EntryKind, prefix: &[u8]) -> Result<Vec<RawEntry>> {
        self.1.get_all_versions(table, prefix)
    }

    fn stats(&self) -> TierStats {
        self.1.stats()
    }
}

fn over(wrong: Wrong) -> StoreBackend {
    StoreBackend::new("broken store", move || Arc::new(WrongTier(wrong, Arc::new(ModelTier::new()))))
}

fn failing(backend: &StoreBackend, among: &[u16]) -> Vec<u16> {
    let fails = |number: &u16| StoreCase::find(*number).is_some_and(|case| case.run_on(backend).is_failure());
    among.iter().copied().filter(fails).collect()
}

#[test]
fn wrapper_that_breaks_nothing_passes() {
    assert_eq!(failing(&over(Wrong::Nothing), &[72, 83, 86, 91, 92, 93, 94, 95, 109, 110, 111, 112, 113]), []);
}

#[test]
fn disk_that_lies_about_syncs_is_found() {
    let lie = |disk: &thermocline_io::SimDisk| {
        disk.inject(Fault::new(FaultKind::LieAboutSync, When::From(0)));
    };
    assert_eq!(failing(&over(Wrong::Nothing).with_disk(lie), &[109, 110]), [109, 110]);
}

#[test]
fn disk_that_loses_writes_is_found() {
    let lose = |disk: &thermocline_io::SimDisk| {
        disk.inject(Fault::new(FaultKind::LoseWrite, When::From(4)));
    };
    assert_eq!(failing(&over(Wrong::Nothing).with_disk(lose), &[109, 110]), [109, 110]);
}

#[test]
fn tier_that_loses_even_versions_is_found() {
    let among = [106, 110, 112, 113];
    assert_eq!(failing(&over(Wrong::LosesEvenVersions), &among), among);
}

#[test]
fn tier_that_forgets_clears_is_found() {
    assert_eq!(failing(&over(Wrong::ForgetsClears), &[83]), [83]);
}

#[test]
fn tier_that_reads_the_latest_version_is_found() {
    assert_eq!(failing(&over(Wrong::ReadsLatest), &[72, 110]), [72, 110]);
}

#[test]
fn tier_that_forgets_drops_is_found() {
    let among = [91, 92, 93, 94, 95];
    assert_eq!(failing(&over(Wrong::ForgetsDrops), &among), among);
}

#[test]
fn tier_that_drops_the_newest_version_instead_is_found() {
    let among = [86, 91, 92, 93, 94, 95];
    assert_eq!(failing(&over(Wrong::DropsTheNewest), &among), among);
}
