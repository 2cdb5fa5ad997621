//! Structures for a tier in memory, side by side: what `docs/adr/0001-hot-structure.md` rests on.
//!
//! `THERMOCLINE_BENCH_KEYS` sets the number of keys of workload W (default 50,000; the record was taken with 500,000): 16-byte keys over 4 tables, 4 shuffled
//! rounds, 100-byte values, batches of 100, 2 % tombstones. D has a twelfth of the keys and 50 rounds.

#![expect(
    clippy::expect_used,
    clippy::cast_possible_truncation,
    clippy::print_stderr,
    reason = "a benchmark that meets what it does not expect shall fail"
)]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::ops::Bound;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use crossbeam_skiplist::SkipMap;
use parking_lot::RwLock;
use thermocline_hot::{HotOptions, HotTier};
use thermocline_tier::{
    BatchBuilder, Direction, EntryKind, EntryRef, KeyRange, KeyRef, RangeRequest, ReadWindow, TierBatch, TierStorage, Version,
    WholeKey,
};

const TABLES: u64 = 4;
const SCAN: usize = 100;

/// splitmix64 (Vigna): equal input, equal workload.
fn mix(n: u64) -> u64 {
    let mut x = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

fn key(n: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&mix(n).to_le_bytes());
    key[8..].copy_from_slice(&mix(n ^ 1 << 40).to_le_bytes());
    key
}

fn table(n: u64) -> EntryKind {
    EntryKind::source((n % TABLES) as u32)
}

#[derive(Clone, Copy)]
struct Shape {
    name: &'static str,
    keys: u64,
    rounds: u64,
}

fn batches(shape: Shape) -> Vec<TierBatch> {
    let mut batches = Vec::new();
    let mut random = 1;
    for round in 0..shape.rounds {
        let mut order: Vec<u64> = (0..shape.keys).collect();
        for index in (1..order.len()).rev() {
            random = mix(random);
            order.swap(index, (random % (index as u64 + 1)) as usize);
        }
        for numbers in order.chunks(100) {
            let mut builder = BatchBuilder::with_capacity(100, 12_000);
            for n in numbers {
                random = mix(random);
                let mut value = [b'v'; 100];
                for (index, part) in value.chunks_mut(8).take(6).enumerate() {
                    part.copy_from_slice(&mix(random ^ index as u64).to_le_bytes());
                }
                if round > 0 && random.is_multiple_of(50) {
                    builder.remove(table(*n), &key(*n)).expect("within limits");
                } else {
                    builder.put(table(*n), &key(*n), &value).expect("within limits");
                }
            }
            let version = Version(batches.len() as u64 + 1);
            batches.push(builder.finish(&WholeKey, version));
        }
    }
    batches
}

/// One structure. Answers are sizes, so that nobody can skip the reading.
trait Contestant: Default {
    const NAME: &'static str;
    fn set(&self, batch: &TierBatch);
    fn get(&self, n: u64, at: u64) -> usize;
    fn scan(&self, n: u64, at: u64, direction: Direction) -> usize;
    /// Structures that have no faster way look the keys up one by one.
    fn get_many(&self, numbers: &[u64], at: u64) -> usize {
        numbers.iter().map(|n| self.get(*n, at)).sum()
    }
}

#[derive(Default)]
struct Hot(HotTier);

impl Contestant for Hot {
    const NAME: &'static str = "hot tier";

    fn set(&self, batch: &TierBatch) {
        self.0.set(batch).expect("no limit is set");
    }

    fn get(&self, n: u64, at: u64) -> usize {
        let found = self.0.get(table(n), &key(n), Version(at)).expect("memory does not fail");
        found.into_value().map_or(0, |value| value.len())
    }

    fn get_many(&self, numbers: &[u64], at: u64) -> usize {
        let keys: Vec<[u8; 16]> = numbers.iter().map(|n| key(*n)).collect();
        let asked: Vec<KeyRef<'_>> = numbers.iter().zip(&keys).map(|(n, key)| KeyRef { table: table(*n), prefix: key }).collect();
        let found = self.0.get_many(&asked, Version(at)).expect("memory does not fail");
        found.into_iter().filter_map(thermocline_tier::Lookup::into_value).map(|value| value.len()).sum()
    }

    fn scan(&self, n: u64, at: u64, direction: Direction) -> usize {
        let range = match direction {
            Direction::Forward => KeyRange::new(key(n)..),
            Direction::Reverse => KeyRange::new(..key(n)),
        };
        let mut cursor = RangeRequest { table: table(n), range, window: ReadWindow::as_of(Version(at)), direction }.into_cursor();
        let page = match direction {
            Direction::Forward => self.0.range_next(&mut cursor, SCAN),
            Direction::Reverse => self.0.range_rev_next(&mut cursor, SCAN),
        };
        page.expect("memory does not fail").iter().filter_map(|entry| entry.value).map(<[u8]>::len).sum()
    }
}

type Chain = Vec<(u64, Option<Bytes>)>;

fn push(chain: &mut Chain, version: u64, value: Option<&[u8]>) {
    chain.push((version, value.map(Bytes::copy_from_slice)));
}

fn visible(chain: &Chain, at: u64) -> Option<Bytes> {
    let rank = chain.partition_point(|(version, _)| *version <= at);
    chain.get(rank.checked_sub(1)?)?.1.clone()
}

fn size(value: Option<Bytes>) -> usize {
    value.map_or(0, |value| value.len())
}

/// std's ordered map behind a lock, one for each table.
struct ShardedMap([RwLock<BTreeMap<[u8; 16], Chain>>; TABLES as usize]);

impl Default for ShardedMap {
    fn default() -> Self {
        Self(std::array::from_fn(|_| RwLock::default()))
    }
}

impl ShardedMap {
    fn shard(&self, n: u64) -> &RwLock<BTreeMap<[u8; 16], Chain>> {
        &self.0[(n % TABLES) as usize]
    }
}

impl Contestant for ShardedMap {
    const NAME: &'static str = "locked BTreeMap a table";

    fn set(&self, batch: &TierBatch) {
        for (kind, entry) in batch.iter() {
            let prefix = entry.prefix.try_into().expect("16 bytes");
            let mut map = self.shard(u64::from(kind.to_parts().1)).write();
            push(map.entry(prefix).or_default(), entry.version.0, entry.value);
        }
    }

    fn get(&self, n: u64, at: u64) -> usize {
        size(self.shard(n).read().get(&key(n)).and_then(|chain| visible(chain, at)))
    }

    fn scan(&self, n: u64, at: u64, direction: Direction) -> usize {
        let map = self.shard(n).read();
        let sum = |chains: &mut dyn Iterator<Item = &Chain>| {
            chains.filter_map(|chain| visible(chain, at)).take(SCAN).map(|value| value.to_vec().len()).sum()
        };
        match direction {
            Direction::Forward => sum(&mut map.range(key(n)..).map(|(_, chain)| chain)),
            Direction::Reverse => sum(&mut map.range(..key(n)).rev().map(|(_, chain)| chain)),
        }
    }
}

/// A lock-free skip list from key to a locked chain of versions.
#[derive(Default)]
struct SkipChain(SkipMap<(u64, [u8; 16]), RwLock<Chain>>);

impl Contestant for SkipChain {
    const NAME: &'static str = "skip list, chain a key";

    fn set(&self, batch: &TierBatch) {
        for (kind, entry) in batch.iter() {
            let prefix = entry.prefix.try_into().expect("16 bytes");
            let found = self.0.get_or_insert_with((kind.code(), prefix), RwLock::default);
            push(&mut found.value().write(), entry.version.0, entry.value);
        }
    }

    fn get(&self, n: u64, at: u64) -> usize {
        size(self.0.get(&(table(n).code(), key(n))).and_then(|found| visible(&found.value().read(), at)))
    }

    fn scan(&self, n: u64, at: u64, direction: Direction) -> usize {
        let (code, key) = (table(n).code(), key(n));
        let value = |chain: &RwLock<Chain>| visible(&chain.read(), at);
        let sum = |values: &mut dyn Iterator<Item = Bytes>| values.take(SCAN).map(|value| value.to_vec().len()).sum();
        match direction {
            Direction::Forward => sum(&mut self.0.range((code, key)..(code + 1, [0; 16])).filter_map(|e| value(e.value()))),
            Direction::Reverse => sum(&mut self.0.range((code, [0; 16])..(code, key)).rev().filter_map(|e| value(e.value()))),
        }
    }
}

/// A lock-free skip list over (table, key, inverted version): one node for each version.
#[derive(Default)]
struct SkipComposite(SkipMap<(u64, [u8; 16], u64), Option<Bytes>>);

impl Contestant for SkipComposite {
    const NAME: &'static str = "skip list, composite keys";

    fn set(&self, batch: &TierBatch) {
        for (kind, entry) in batch.iter() {
            let prefix = entry.prefix.try_into().expect("16 bytes");
            self.0.insert((kind.code(), prefix, !entry.version.0), entry.value.map(Bytes::copy_from_slice));
        }
    }

    fn get(&self, n: u64, at: u64) -> usize {
        let (code, key) = (table(n).code(), key(n));
        let found = self.0.lower_bound(Bound::Included(&(code, key, !at)));
        size(found.filter(|found| found.key().1 == key).and_then(|found| found.value().clone()))
    }

    fn scan(&self, n: u64, at: u64, direction: Direction) -> usize {
        let (code, key) = (table(n).code(), key(n));
        let (mut count, mut sum) = (0, 0);
        if direction == Direction::Forward {
            let mut last = None;
            for entry in self.0.range((code, key, 0)..(code + 1, [0; 16], 0)) {
                if last != Some(entry.key().1) && !entry.key().2 <= at {
                    last = Some(entry.key().1);
                    sum += entry.value().as_ref().map_or(0, |value| value.to_vec().len());
                    count += 1;
                    if count == SCAN {
                        break;
                    }
                }
            }
            return sum;
        }
        // Backwards the oldest version of a key comes first: the last visible one is the answer.
        let mut current: Option<([u8; 16], usize)> = None;
        for entry in self.0.range((code, [0; 16], 0)..(code, key, 0)).rev() {
            if current.is_some_and(|(key, _)| key != entry.key().1) {
                sum += current.map_or(0, |(_, size)| size);
                current = None;
                count += 1;
                if count == SCAN {
                    break;
                }
            }
            if !entry.key().2 <= at {
                current = Some((entry.key().1, entry.value().as_ref().map_or(0, |value| value.to_vec().len())));
            }
        }
        sum
    }
}

fn bench<C: Contestant>(criterion: &mut Criterion, shape: Shape, batches: &[TierBatch]) {
    let mut group = criterion.benchmark_group(format!("{}/{}", shape.name, C::NAME));
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.warm_up_time(std::time::Duration::from_millis(300)).measurement_time(std::time::Duration::from_secs(1));
    let entries: usize = batches.iter().map(TierBatch::len).sum();
    let load = |contestant: &mut C| batches.iter().for_each(|batch| contestant.set(batch));
    group.throughput(Throughput::Elements(entries as u64));
    group.bench_function("load", |b| b.iter_batched_ref(C::default, load, BatchSize::PerIteration));

    let mut contestant = C::default();
    load(&mut contestant);
    let last = batches.len() as u64;
    let mut random = 7;
    let mut next = move || {
        random = mix(random);
        random
    };
    group.throughput(Throughput::Elements(1));
    group.bench_function("get latest", |b| b.iter(|| contestant.get(next() % shape.keys, u64::MAX)));
    group.bench_function("get as of", |b| b.iter(|| contestant.get(next() % shape.keys, 1 + (next() >> 32) % last)));
    group.bench_function("get missing", |b| b.iter(|| contestant.get(shape.keys + next() % shape.keys, u64::MAX)));
    group.throughput(Throughput::Elements(32));
    group.bench_function("get_many of 32", |b| {
        b.iter(|| {
            let numbers: [u64; 32] = std::array::from_fn(|_| next() % shape.keys);
            contestant.get_many(&numbers, u64::MAX)
        });
    });
    group.throughput(Throughput::Elements(SCAN as u64));
    for (name, direction) in [("scan 100", Direction::Forward), ("scan 100 reverse", Direction::Reverse)] {
        group.bench_function(name, |b| b.iter(|| black_box(contestant.scan(next() % shape.keys, u64::MAX, direction))));
    }
    group.bench_function("scan 100 as of", |b| {
        b.iter(|| contestant.scan(next() % shape.keys, 1 + (next() >> 32) % last, Direction::Forward));
    });
    group.finish();
}

/// What moving a tier's content to another begins with.
fn bench_visit(criterion: &mut Criterion, shape: Shape, tier: &HotTier) {
    let mut group = criterion.benchmark_group(format!("{}/{}", shape.name, Hot::NAME));
    group.sample_size(10).throughput(Throughput::Elements(tier.stats().tables.iter().map(|(_, table)| table.entries).sum()));
    group.bench_function("visit all", |b| {
        b.iter(|| {
            let mut sum = 0;
            let mut add = |_: EntryKind, entry: EntryRef<'_>| {
                sum += entry.prefix.len() + entry.value.map_or(0, |value| value.iter().step_by(64).count());
                Ok(())
            };
            tier.visit_entries(&mut add).expect("memory does not fail");
            sum
        });
    });
    group.finish();
}

fn structures(criterion: &mut Criterion) {
    let keys = std::env::var("THERMOCLINE_BENCH_KEYS").ok().and_then(|keys| keys.parse().ok()).unwrap_or(50_000);
    let shapes = [
        Shape { name: "W", keys, rounds: 4 },
        Shape { name: "D", keys: (keys / 12).max(100), rounds: 50 },
        Shape { name: "D with one version", keys: (keys / 12).max(100), rounds: 1 },
    ];
    for shape in shapes {
        let batches = batches(shape);
        bench::<Hot>(criterion, shape, &batches);
        bench::<ShardedMap>(criterion, shape, &batches);
        bench::<SkipChain>(criterion, shape, &batches);
        bench::<SkipComposite>(criterion, shape, &batches);
        let tier = HotTier::new(HotOptions::default());
        for batch in &batches {
            tier.set(batch).expect("no limit is set");
        }
        bench_visit(criterion, shape, &tier);
        let stats = tier.stats();
        let user: u64 = stats.tables.iter().map(|(_, table)| table.user_bytes).sum();
        eprintln!(
            "{}: {} bytes of memory for {user} user bytes: {:.3}",
            shape.name,
            stats.memory_bytes,
            ratio(stats.memory_bytes, user)
        );
    }
}

#[expect(clippy::cast_precision_loss, reason = "for people to read")]
fn ratio(a: u64, b: u64) -> f64 {
    a as f64 / b as f64
}

criterion_group!(benches, structures);
criterion_main!(benches);
