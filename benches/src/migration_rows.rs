//! The rows about migration: what hooks cost while files are compacted, and how long it takes to look at all summaries.

use std::sync::Arc;
use std::time::Instant;

use thermocline::{
    Background, Batch, Durability, HookError, KeyRange, Migrate, NoMigration, Store, StoredRow, Strategy, Summary,
};
use thermocline_hot::{HotOptions, HotTier};
use thermocline_io::{Environment, MemoryDisk};
use thermocline_migration::{Slot, erase};
use thermocline_store::{StoreOptions, Tiers};
use thermocline_tier::{DurableTier, TierStorage};
use thermocline_warm::{OpenWarm, WarmOptions, WarmTier};

use crate::bench::{Bench, progress, ratio};
use crate::report::Sample;
use crate::stores;
use thermocline_yardstick::failure::{Failure, Outcome};
use thermocline_yardstick::meter::Meter;
use thermocline_yardstick::workload::{TABLES, Workload};

const COMPACTION_ROWS: [&str; 2] = ["migration-identity", "migration-eighth"];
const SUMMARIES_ROW: &str = "migration-summaries";
/// How many files there are to be looked at.
const FILES: usize = 10_000;
/// Of values of which each fills a file, though half of them shrinks.
const VALUE_SIZE_BYTES: usize = 10_000;
/// How often they are looked at, for one sample.
const LOOKS: u32 = 20;
/// What values begin with that were migrated.
const NEW: u8 = u8::MAX;

/// Rewrites the values of one key of eight.
struct Eighth;

impl Strategy for Eighth {
    type Summary = ();
    type Context = ();
    type ContextSource = ();

    fn name(&self) -> &'static str {
        "eighth"
    }

    fn contexts(&self) -> &() {
        &()
    }

    fn observe(&self, (): &mut (), _row: &StoredRow<'_>) -> Result<(), HookError> {
        Ok(())
    }

    fn migrate(&self, (): &mut (), (): &mut (), row: &StoredRow<'_>) -> Result<Migrate, HookError> {
        let is_chosen = row.prefix.last().is_some_and(|byte| byte % 8 == 0);
        if !is_chosen || row.value()?.first() == Some(&NEW) {
            return Ok(Migrate::Unchanged);
        }
        let mut value = row.value()?.to_vec();
        if let Some(first) = value.first_mut() {
            *first = NEW;
        }
        Ok(Migrate::Modified { value: Some(value.into()), suffix: None })
    }
}

/// The speed of a compaction of the whole workload with hooks, against that without: each round the three in turn, and another one first, since
/// the first of three is a little faster.
pub(crate) fn measure_compaction(bench: &mut Bench, workload: &Workload) -> Outcome<()> {
    if !bench.arguments.wants_any(&COMPACTION_ROWS) {
        return Ok(());
    }
    for round in 0..bench.arguments.rounds() {
        progress(&format!("compacting W with hooks, round {}", round + 1));
        let mut samples: [Option<(Sample, u64)>; 3] = [None, None, None];
        for turn in 0..3 {
            let contestant = (round + turn) as usize % 3;
            samples[contestant] = Some(match contestant {
                0 => compaction(bench, workload, |builder| builder)?,
                1 => compaction(bench, workload, |builder| builder.strategy(NoMigration))?,
                _ => compaction(bench, workload, |builder| builder.strategy(Eighth))?,
            });
        }
        let [Some((without, _)), Some((identity, _)), Some((eighth, modified))] = samples else { return Ok(()) };
        let keys = u64::from(workload.keys);
        if !(keys / 10..keys / 7).contains(&modified) {
            let wrong = Failure::Wrong(format!("{modified} rows were migrated of {} keys", workload.keys));
            bench.void_if_wrong(&COMPACTION_ROWS, Err(wrong))?;
        }
        bench.settle("migration-identity", Ok(ratio(&identity, &without)))?;
        bench.settle("migration-eighth", Ok(ratio(&eighth, &without)))?;
    }
    Ok(())
}

/// Entries a second of a compaction of everything to the latest versions, on this thread alone; and how many rows were migrated.
fn compaction<S: Strategy>(
    bench: &mut Bench,
    workload: &Workload,
    choose: impl FnOnce(thermocline::Builder) -> thermocline::Builder<S>,
) -> Outcome<(Sample, u64)> {
    let directory = bench.fresh_directory();
    let builder = Store::builder(&directory).durability(Durability::Buffered).background(Background::ByHand);
    let store = choose(builder).open()?;
    stores::load(&store, workload, &workload.commits())?;
    store.flush()?;
    store.set_horizon(workload.last_version())?;
    let (meter, began) = (Meter::start(), Instant::now());
    for table in TABLES {
        store.compact(table, &KeyRange::all())?;
    }
    let sample = Sample::new(workload.entries() as f64 / began.elapsed().as_secs_f64(), meter.stop());
    let modified = store.stats().migration.map_or(0, |migration| migration.done.modified);
    store.close()?;
    drop(store);
    std::fs::remove_dir_all(&directory).map_err(Failure::machine("remove a store's directory"))?;
    Ok((sample, modified))
}

/// A summary of the usual size: a clock.
#[derive(Clone, Debug, Default)]
struct Clock(u64);

impl Summary for Clock {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.0.to_le_bytes());
    }

    fn decode(bytes: &[u8]) -> Result<Self, HookError> {
        Ok(Self(u64::from_le_bytes(bytes.try_into()?)))
    }

    fn merge(&mut self, other: &Self) {
        self.0 = self.0.max(other.0);
    }
}

/// Notes the newest version.
struct Clocks;

impl Strategy for Clocks {
    type Summary = Clock;
    type Context = ();
    type ContextSource = ();

    fn name(&self) -> &'static str {
        "clocks"
    }

    fn contexts(&self) -> &() {
        &()
    }

    fn observe(&self, clock: &mut Clock, row: &StoredRow<'_>) -> Result<(), HookError> {
        clock.merge(&Clock(row.version.0));
        Ok(())
    }
}

/// Looking at the summaries of ten thousand files, decoded.
pub(crate) fn measure_summaries(bench: &mut Bench) -> Outcome<()> {
    if !bench.wants(SUMMARIES_ROW) {
        return Ok(());
    }
    let migration = erase(Arc::new(Clocks));
    let hot = || Arc::new(HotTier::new(HotOptions::default())) as Arc<dyn TierStorage>;
    let tiers = Tiers::hot(hot).over(|request| {
        // As small as files can be.
        let options = WarmOptions {
            file_size_bytes: 4 << 10,
            level0_flushes: 1 << 20,
            level0_flushes_slow: 1 << 20,
            ..WarmOptions::default()
        };
        let (disk, store, is_read_only) = (request.disk, request.store, request.is_read_only);
        let tier = WarmTier::open(OpenWarm { disk, store, options, is_read_only, migration: request.migration })?;
        Ok(Arc::new(tier) as Arc<dyn DurableTier>)
    });
    let options = StoreOptions { migration: Some(migration), background: Background::ByHand, ..StoreOptions::default() };
    let store = thermocline_store::Store::open(Arc::new(MemoryDisk::new()), tiers, &Environment::real(), options)?;
    let workload = Workload::new(FILES as u32, 1, bench.arguments.seed).with_value_size(VALUE_SIZE_BYTES);
    let (mut batch, mut value) = (Batch::new(), Vec::new());
    (0..workload.keys).for_each(|index| stores::write(&mut batch, &workload, index, 0, &mut value));
    store.commit(batch)?;
    store.flush()?;
    let files = store.files().len();
    if files < FILES / 2 {
        return bench.void_if_wrong(&[SUMMARIES_ROW], Err(Failure::Wrong(format!("{files} files"))));
    }
    for _ in 0..bench.arguments.rounds() {
        let (meter, began) = (Meter::start(), Instant::now());
        for _ in 0..LOOKS {
            let mut newest = Clock::default();
            for file in store.file_summaries()? {
                let slot = Slot::decode(&file.slot).map(|slot| Clock::decode(slot.summary));
                newest.merge(&slot.and_then(Result::ok).unwrap_or_default());
            }
            if newest.0 != store.last_version().0 {
                bench.void_if_wrong(&[SUMMARIES_ROW], Err(Failure::Wrong(format!("{newest:?}"))))?;
            }
        }
        let nanoseconds = began.elapsed().as_secs_f64() * 1e9 / f64::from(LOOKS) * FILES as f64 / files as f64;
        bench.settle(SUMMARIES_ROW, Ok(Sample::new(nanoseconds, meter.stop())))?;
    }
    Ok(())
}
