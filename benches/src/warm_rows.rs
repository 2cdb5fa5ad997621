//! The rows about a store whose data lies in files: what its layers add to a point read of the tier, and how long it takes to open.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use thermocline::Durability;
use thermocline_hot::{HotOptions, HotTier};
use thermocline_io::{Environment, RealDisk};
use thermocline_store::{StoreOptions, Tiers};
use thermocline_tier::{DurableTier, KeyRange, TierStorage};
use thermocline_warm::{OpenWarm, WarmOptions, WarmTier};

use crate::bench::{Bench, progress};
use crate::read_rows::overhead;
use crate::report::Sample;
use crate::stores::{self, Placed, StoreReads};
use crate::tier_rows::TierReads;
use thermocline_yardstick::failure::{Failure, Outcome};
use thermocline_yardstick::meter::Meter;
use thermocline_yardstick::workload::{TABLES, Workload, table_of};

/// All of W fits, as it does with the default memory of a store.
const CACHE_SIZE_BYTES: u64 = 320 << 20;
const HOT_TABLE_SIZE_BYTES: u64 = 64 << 20;
/// One sample is the mean of so many.
const OPENS: u32 = 20;

/// What a point read of a store costs above the same read of its warm tier, while the table in memory is empty: both over the same
/// files and the same cached blocks, in turn.
pub(crate) fn measure_overhead(bench: &mut Bench, workload: &Workload) -> Outcome<()> {
    const NAME: &str = "overhead-warm";
    if !bench.wants(NAME) {
        return Ok(());
    }
    let directory = bench.fresh_directory();
    let disk = RealDisk::open(&directory, true).map_err(thermocline_wal::disk_error)?;
    let opened: Arc<OnceLock<Arc<WarmTier>>> = Arc::default();
    let place = Arc::clone(&opened);
    let tiers = Tiers::hot(|| Arc::new(HotTier::new(HotOptions::default()))).over(move |request| {
        let options = WarmOptions { cache_size_bytes: CACHE_SIZE_BYTES, ..WarmOptions::default() };
        let (disk, store, is_read_only) = (request.disk, request.store, request.is_read_only);
        let tier = Arc::new(WarmTier::open(OpenWarm { disk, store, options, is_read_only, migration: None })?);
        Ok(Arc::clone(place.get_or_init(|| tier)) as Arc<dyn DurableTier>)
    });
    let options = StoreOptions {
        durability: Durability::Buffered,
        hot_budget_bytes: Some(HOT_TABLE_SIZE_BYTES),
        ..StoreOptions::default()
    };
    let store = thermocline_store::Store::open(Arc::new(disk), tiers, &Environment::real(), options)?;
    let Some(tier) = opened.get() else { return Err(Failure::Wrong("the store has opened no tier of files".into())) };
    stores::load(&store, workload, &workload.commits())?;
    for table in TABLES {
        store.compact(table, &KeyRange::all())?;
    }
    store.wait_idle()?;
    let tier_reads = TierReads { tier: Arc::clone(tier) as Arc<dyn TierStorage>, latest: workload.last_version() };
    overhead(bench, NAME, workload, &tier_reads, &StoreReads::new(&store)?)?;
    store.close()?;
    std::fs::remove_dir_all(&directory).map_err(Failure::machine("remove a store's directory"))
}

/// Opening a store that was closed, until its first read is answered.
pub(crate) fn measure_open(bench: &mut Bench, workload: &Workload) -> Outcome<()> {
    const NAME: &str = "open-warm";
    let mut placed = Placed::fresh(bench)?;
    let Some(last) = workload.orders().last().and_then(|order| order.last()).copied() else { return Ok(()) };
    let expected = workload.expected(last, workload.last_version());
    stores::load(&placed.store, workload, &workload.commits())?;
    placed.store.flush()?;
    placed.store.wait_idle()?;
    for round in 0..bench.arguments.rounds() {
        progress(&format!("opening a store, round {}", round + 1));
        // Some, since the load of others is counted in ticks of ten milliseconds.
        let (meter, mut elapsed) = (Meter::start(), Duration::ZERO);
        for _ in 0..OPENS {
            placed.store.close()?;
            drop(placed.store);
            let began = Instant::now();
            placed.store = stores::open(&placed.directory)?;
            let found = placed.store.get(table_of(last), &workload.key(last))?;
            elapsed += began.elapsed();
            if found.as_deref() != expected.as_deref() {
                let wrong = Failure::Wrong("an opened store does not have what was committed last".into());
                bench.void_if_wrong(&[NAME], Err(wrong))?;
            }
        }
        let nanoseconds = elapsed.as_secs_f64() * 1e9 / f64::from(OPENS);
        bench.settle(NAME, Ok(Sample::new(nanoseconds, meter.stop())))?;
    }
    placed.remove()
}
