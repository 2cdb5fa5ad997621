//! What hooks cost: compaction in memory without a strategy, with one that changes nothing, and with one that rewrites every 8th value; and
//! a look at the summaries of many files.
//!
//! `cargo bench -p thermocline-warm --bench migration`

#![expect(clippy::expect_used, reason = "a benchmark that meets what it does not expect shall fail")]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use thermocline_io::MemoryDisk;
use thermocline_migration::{HookError, Migrate, Migration, NoMigration, StoredRow, Strategy, erase};
use thermocline_tier::{BatchBuilder, DurableTier, EntryKind, KeyRange, TierStorage, Version, WholeKey};
use thermocline_warm::{OpenWarm, StoreId, WarmOptions, WarmTier};

const KEYS: u64 = 50_000;
const VERSIONS: u64 = 4;
const FILES: u64 = 10_000;

/// Rewrites one value of eight.
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
        let value = row.value()?;
        if row.prefix.last().is_none_or(|byte| byte % 8 != 0) || value.first() == Some(&u8::MAX) {
            return Ok(Migrate::Unchanged);
        }
        let mut value = value.to_vec();
        if let Some(first) = value.first_mut() {
            *first = u8::MAX;
        }
        Ok(Migrate::Modified { value: Some(value.into()), suffix: None })
    }
}

fn open(options: WarmOptions, migration: Option<Arc<dyn Migration>>) -> WarmTier {
    let request =
        OpenWarm { disk: Arc::new(MemoryDisk::new()), store: StoreId([7; 16]), options, is_read_only: false, migration };
    WarmTier::open(request).expect("the tier opens")
}

/// A value of which half shrinks.
fn value(seed: u64, len: usize) -> Vec<u8> {
    let mut mixed = seed;
    let mut next = || {
        mixed = mixed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (word ^ (word >> 27)).to_le_bytes()[0]
    };
    (0..len).map(|at| if at < len / 2 { b'v' } else { next() }).collect()
}

/// Each key in several versions, in level 0.
fn filled(migration: Option<Arc<dyn Migration>>) -> WarmTier {
    let tier = open(WarmOptions::default(), migration);
    for version in 1..=VERSIONS {
        let mut batch = BatchBuilder::new();
        for key in 0..KEYS {
            batch
                .put(EntryKind::Multi, format!("key/{key:012}").as_bytes(), &value(version << 32 | key, 100))
                .expect("within the limits");
        }
        tier.set(&batch.finish(&WholeKey, Version(version))).expect("written");
    }
    tier.set_horizon(Version(VERSIONS)).expect("moved");
    tier
}

fn compaction(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("compaction");
    group.throughput(Throughput::Elements(KEYS * VERSIONS)).sample_size(20);
    let strategies: [(&str, Option<Arc<dyn Migration>>); 3] = [
        ("without a strategy", None),
        ("that changes nothing", Some(erase(Arc::new(NoMigration)))),
        ("that rewrites every 8th value", Some(erase(Arc::new(Eighth)))),
    ];
    for (name, migration) in strategies {
        group.bench_function(name, |bencher| {
            let compact = |tier: WarmTier| {
                tier.compact(EntryKind::Multi, &KeyRange::all(), &|| {}).expect("compacted");
                tier
            };
            bencher.iter_batched(|| filled(migration.clone()), compact, BatchSize::PerIteration);
        });
    }
    group.finish();
}

fn summaries(criterion: &mut Criterion) {
    // As small as files can be.
    let options = WarmOptions { file_size_bytes: 4 << 10, ..WarmOptions::default() };
    let tier = open(options, Some(erase(Arc::new(NoMigration))));
    let mut batch = BatchBuilder::new();
    for key in 0..FILES {
        batch.put(EntryKind::Multi, format!("key/{key:012}").as_bytes(), &value(key, 10_000)).expect("within the limits");
    }
    tier.set(&batch.finish(&WholeKey, Version(1))).expect("written");
    let migrating = tier.migrating().expect("a strategy");
    assert_eq!(migrating.summaries().len() as u64, FILES);
    criterion.bench_function("summaries of 10,000 files", |bencher| bencher.iter(|| black_box(migrating.summaries())));
}

criterion_group!(benches, compaction, summaries);
criterion_main!(benches);
