//! The rows that read loaded stores: points, many points, scans, on W and on D; and what the store layer adds to its tier.

use std::sync::Arc;

use thermocline::{Direction, Durability};
use thermocline_hot::{HotOptions, HotTier};
use thermocline_io::{Environment, RealDisk};
use thermocline_store::StoreOptions;
use thermocline_tier::TierStorage;

use crate::bench::{Bench, progress};
use crate::reads::{Point, Reads, check_edges, many, points, scans};
use crate::report::Sample;
use crate::stores::{self, SnapshotReads, StoreReads};
use crate::tier_rows::TierReads;
use thermocline_yardstick::failure::Outcome;
use thermocline_yardstick::meter::{Meter, Timed, join, pin};
use thermocline_yardstick::workload::Workload;

const W_ROWS: [&str; 10] = [
    "get-latest",
    "get-as-of",
    "get-missing",
    "get-latest-two",
    "scan-forward",
    "scan-reverse",
    "scan-as-of",
    "page-forward",
    "get-many",
    "get-many-snapshot",
];
const D_ROWS: [&str; 3] = ["get-as-of-deep", "scan-deep", "scan-as-of-deep"];

/// The rows over W.
pub(crate) fn measure_w(bench: &mut Bench, workload: &Workload) -> Outcome<()> {
    if !bench.arguments.wants_any(&W_ROWS) {
        return Ok(());
    }
    let placed = stores::loaded(bench, workload)?;
    let reads = StoreReads::new(&placed.store)?;
    let snapshot = SnapshotReads(placed.store.snapshot()?);
    bench.void_if_wrong(&["get-as-of"], check_edges(&reads, workload, 1))?;
    let (slice, latest) = (bench.slice(), Some(workload.last_version()));
    for round in 0..bench.arguments.rounds() {
        progress(&format!("reading W, round {}", round + 1));
        let seed = bench.arguments.seed + u64::from(round);
        bench.row("get-latest", || points(&reads, workload, Point::Latest, slice, seed))?;
        bench.row("get-as-of", || points(&reads, workload, Point::AsOf, slice, seed))?;
        bench.row("get-missing", || points(&reads, workload, Point::Missing, slice, seed))?;
        bench.row("get-many", || many(&reads, workload, slice, seed))?;
        bench.row("get-many-snapshot", || many(&snapshot, workload, slice, seed))?;
        bench.row("scan-forward", || scans(&reads, workload, Direction::Forward, latest, slice, seed))?;
        bench.row("scan-reverse", || scans(&reads, workload, Direction::Reverse, latest, slice, seed))?;
        bench.row("scan-as-of", || scans(&reads, workload, Direction::Forward, None, slice, seed))?;
        bench.row("page-forward", || scans(&snapshot, workload, Direction::Forward, latest, slice, seed))?;
        two_readers(bench, workload, &reads, seed)?;
    }
    drop((reads, snapshot));
    placed.remove()
}

/// Two readers at once, each against one alone.
fn two_readers(bench: &mut Bench, workload: &Workload, reads: &impl Reads, seed: u64) -> Outcome<()> {
    const NAME: &str = "get-latest-two";
    if !bench.wants(NAME) {
        return Ok(());
    }
    let slice = bench.slice();
    let outcome = bench.rate(|| points(reads, workload, Point::Latest, slice, seed)).and_then(|alone| {
        let both = bench.retried(|| {
            let meter = Meter::start();
            let rates: Vec<Outcome<Timed>> = std::thread::scope(|scope| {
                let reader = |number: usize| {
                    let cpu = bench.cpu_of(number);
                    scope.spawn(move || {
                        pin(cpu)?;
                        points(reads, workload, Point::Latest, slice, seed + number as u64)
                    })
                };
                [reader(0), reader(1)].into_iter().map(join).collect()
            });
            let load = meter.stop();
            let rates: Vec<Timed> = rates.into_iter().collect::<Outcome<_>>()?;
            Ok(Sample::new(rates.iter().map(Timed::rate).sum::<f64>() / rates.len() as f64, load))
        })?;
        Ok(crate::bench::ratio(&both, &alone))
    });
    bench.settle(NAME, outcome)
}

/// The rows over D, and over its keys with one version.
pub(crate) fn measure_d(bench: &mut Bench, deep: &Workload, flat: &Workload) -> Outcome<()> {
    if !bench.arguments.wants_any(&D_ROWS) {
        return Ok(());
    }
    let (deep_store, flat_store) = (stores::loaded(bench, deep)?, stores::loaded(bench, flat)?);
    let (deep_reads, flat_reads) = (StoreReads::new(&deep_store.store)?, StoreReads::new(&flat_store.store)?);
    bench.void_if_wrong(&["get-as-of-deep"], check_edges(&deep_reads, deep, 1))?;
    let slice = bench.slice();
    for round in 0..bench.arguments.rounds() {
        progress(&format!("reading D, round {}", round + 1));
        let seed = bench.arguments.seed + u64::from(round);
        bench.row("get-as-of-deep", || points(&deep_reads, deep, Point::AsOf, slice, seed))?;
        bench.row("scan-as-of-deep", || scans(&deep_reads, deep, Direction::Forward, None, slice, seed))?;
        bench.ratio_row(
            "scan-deep",
            || scans(&deep_reads, deep, Direction::Forward, Some(deep.last_version()), slice, seed),
            || scans(&flat_reads, flat, Direction::Forward, Some(flat.last_version()), slice, seed),
        )?;
    }
    drop((deep_reads, flat_reads));
    deep_store.remove()?;
    flat_store.remove()
}

/// What a point read costs above the same read of the tier below: both over one loaded tier, in turn.
pub(crate) fn measure_overhead(bench: &mut Bench, workload: &Workload) -> Outcome<()> {
    if !bench.wants("overhead") {
        return Ok(());
    }
    let directory = bench.fresh_directory();
    let disk = RealDisk::open(&directory, true).map_err(thermocline_wal::disk_error)?;
    let tier: Arc<dyn TierStorage> = Arc::new(HotTier::new(HotOptions::default()));
    let options = StoreOptions { durability: Durability::Buffered, ..StoreOptions::default() };
    let store = thermocline_store::Store::open(Arc::new(disk), Arc::clone(&tier), &Environment::real(), options)?;
    stores::load(&store, workload, &workload.commits())?;
    store.sync()?;
    let tier_reads = TierReads { tier, latest: workload.last_version() };
    overhead(bench, "overhead", workload, &tier_reads, &StoreReads::new(&store)?)?;
    store.close()?;
    std::fs::remove_dir_all(&directory).map_err(thermocline_yardstick::failure::Failure::machine("remove a store's directory"))
}

/// What a point read of a store takes more than the same read of its tier, in nanoseconds.
pub(crate) fn overhead(
    bench: &mut Bench,
    name: &'static str,
    workload: &Workload,
    tier: &TierReads,
    store: &StoreReads<'_>,
) -> Outcome<()> {
    let slice = bench.slice();
    for round in 0..bench.arguments.rounds() {
        progress(&format!("the store over its tier, round {}", round + 1));
        let seed = bench.arguments.seed + u64::from(round);
        let of_tier = || bench.rate(|| points(tier, workload, Point::Latest, slice, seed));
        let of_store = || bench.rate(|| points(store, workload, Point::Latest, slice, seed));
        // What comes first finds caches cold: first one that does not count, then in turns.
        let both = || {
            of_tier()?;
            if round % 2 == 0 {
                let of_tier = of_tier()?;
                Ok((of_tier, of_store()?))
            } else {
                let of_store = of_store()?;
                Ok((of_tier()?, of_store))
            }
        };
        let outcome = both().map(|(of_tier, of_store): (Sample, Sample)| {
            Sample::new(nanoseconds(&of_store) - nanoseconds(&of_tier), of_store.load.worse(of_tier.load))
        });
        bench.settle(name, outcome)?;
    }
    Ok(())
}

/// The processor time of one operation: unlike elapsed time, free of waits for a processor that others use.
fn nanoseconds(sample: &Sample) -> f64 {
    1e9 / sample.per_cpu_second.unwrap_or(sample.value)
}
