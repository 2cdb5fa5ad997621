//! What the log costs: appending by one and by a hundred, each durability, replay, reading, and commits from several threads against
//! the bare sync of the device that it runs on.
//!
//! `cargo bench -p thermocline-wal`; the directory is made under the system's temporary one, or under `THERMOCLINE_BENCH_DIR`.

#![expect(
    clippy::expect_used,
    clippy::cast_possible_truncation,
    reason = "a benchmark that meets what it does not expect shall fail"
)]

use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use thermocline_io::{Clock, Disk, FileId, RealClock, RealDisk, Reason, SeededRandomness, write_all_at};
use thermocline_tier::{BatchBuilder, EntryKind, TierBatch, Version, WholeKey};
use thermocline_wal::group::GroupCommit;
use thermocline_wal::{Durability, Log, LogEntry, LogOptions, OpenLog, Padding, Preallocate, Replayed};

/// A directory that goes with the value.
struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Self {
        let root = std::env::var_os("THERMOCLINE_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        Self(tempfile::tempdir_in(root).expect("a scratch directory"))
    }

    fn disk(&self) -> Arc<dyn Disk> {
        Arc::new(RealDisk::open(self.0.path(), true).expect("the scratch directory opens"))
    }
}

fn open(disk: &Arc<dyn Disk>, options: &LogOptions, is_read_only: bool, replay: &mut dyn FnMut(Replayed<'_>)) -> Log {
    let request = OpenLog {
        disk: Arc::clone(disk),
        randomness: &SeededRandomness::new(1),
        clock: &RealClock::new(),
        options: options.clone(),
        layout: &WholeKey,
        is_read_only,
        store: None,
        base: None,
    };
    let opened = Log::open(request, &mut |record| {
        replay(record);
        Ok(())
    });
    opened.expect("the log opens").0
}

/// Keys of 16 bytes over four tables, values of 100 bytes, half of them random.
fn batch(entries: u64, version: u64) -> TierBatch {
    let mut builder = BatchBuilder::with_capacity(entries as usize, entries as usize * 116);
    for number in 0..entries {
        let mixed = (version * 1000 + number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut key = [0; 16];
        key[..8].copy_from_slice(&mixed.to_le_bytes());
        key[8..].copy_from_slice(&number.to_le_bytes());
        let mut value = [7; 100];
        for (index, byte) in value[..50].iter_mut().enumerate() {
            *byte = (mixed >> (index % 8 * 8)) as u8 ^ index as u8;
        }
        builder.put(EntryKind::source((mixed % 4) as u32), &key, &value).expect("within the limits");
    }
    builder.finish(&WholeKey, Version(version))
}

/// Appends a prepared batch so many times, at rising versions, and tells how long that took.
fn append(options: &LogOptions, entries: u64, durability: Durability, sync_every: u64, count: u64) -> Duration {
    let scratch = Scratch::new();
    let log = open(&scratch.disk(), options, false, &mut |_| {});
    let mut batch = batch(entries, 1);
    let clock = RealClock::new();
    let start = clock.now();
    for version in 1..=count {
        batch.set_version(Version(version));
        log.append(&[LogEntry::Commit { time: version, batch: &batch, clears: &[] }], durability).expect("the disk takes it");
        if version % sync_every == 0 {
            log.sync().expect("the disk syncs");
        }
    }
    clock.now().saturating_sub(start)
}

fn appends(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append");
    group.sample_size(10).measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(300));
    for (entries, name) in [(1, "1"), (100, "100")] {
        group.throughput(Throughput::Elements(entries));
        for durability in [Durability::Memory, Durability::Buffered] {
            group.bench_function(BenchmarkId::new(format!("{durability:?}"), name), |bencher| {
                bencher.iter_custom(|count| append(&LogOptions::default(), entries, durability, u64::MAX, count));
            });
        }
    }
    group.throughput(Throughput::Elements(100));
    let grows = LogOptions { preallocate: Preallocate::No, ..LogOptions::default() };
    group.bench_function("Buffered/100, growing file", |bencher| {
        bencher.iter_custom(|count| append(&grows, 100, Durability::Buffered, u64::MAX, count));
    });
    for padding in [Padding::None, Padding::Sector512, Padding::Page4096] {
        let options = LogOptions { padding, ..LogOptions::default() };
        group.bench_function(format!("Buffered/100, sync every 64, {padding:?}"), |bencher| {
            bencher.iter_custom(|count| append(&options, 100, Durability::Buffered, 64, count));
        });
    }
    group.finish();
}

/// The device's own speed: overwriting a page of a zero-filled file and syncing it.
fn bare_sync(len: usize, count: u64) -> Duration {
    let scratch = Scratch::new();
    let file = scratch.disk().create_new(FileId::Wal(1), Reason::WalPrepare).expect("the file is new");
    let pages = 4096;
    write_all_at(&*file, 0, &vec![0; pages * 4096], Reason::WalPrepare).expect("the disk takes it");
    file.sync_data(Reason::WalPrepare).expect("the disk syncs");
    let bytes = vec![1; len];
    let clock = RealClock::new();
    let start = clock.now();
    for number in 0..count {
        write_all_at(&*file, number % pages as u64 * 4096, &bytes, Reason::WalAppend).expect("the disk takes it");
        file.sync_data(Reason::WalSync).expect("the disk syncs");
    }
    clock.now().saturating_sub(start)
}

fn syncs(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sync");
    group.sample_size(10).measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_millis(300));
    group.throughput(Throughput::Elements(1));
    group.bench_function("bare, 4096 bytes", |bencher| bencher.iter_custom(|count| bare_sync(4096, count)));
    for padding in [Padding::None, Padding::Sector512, Padding::Page4096] {
        for preallocate in [Preallocate::Zeroed, Preallocate::No] {
            let options = LogOptions { padding, preallocate, ..LogOptions::default() };
            group.bench_function(format!("1 thread, {padding:?}, {preallocate:?}"), |bencher| {
                bencher.iter_custom(|count| append(&options, 1, Durability::Sync, u64::MAX, count));
            });
        }
    }
    for threads in [2, 8, 32] {
        group.bench_function(format!("{threads} threads"), |bencher| {
            // A fixed number of commits each time, so that starting threads is no part of it.
            bencher.iter_custom(|count| grouped(threads, Durability::Sync, threads * 60) * count as u32 / (threads * 60) as u32);
        });
    }
    for threads in [1, 2, 4] {
        group.bench_function(format!("buffered, {threads} threads"), |bencher| {
            bencher.iter_custom(|count| grouped(threads, Durability::Buffered, 50_000) * count as u32 / 50_000);
        });
    }
    group.bench_function("bare again, 4096 bytes", |bencher| bencher.iter_custom(|count| bare_sync(4096, count)));
    group.finish();
}

/// So many single-entry commits from several threads, gathered in groups.
fn grouped(threads: u64, durability: Durability, count: u64) -> Duration {
    let scratch = Scratch::new();
    let log = open(&scratch.disk(), &LogOptions::default(), false, &mut |_| {});
    let queue: GroupCommit<TierBatch, ()> = GroupCommit::new();
    let version = AtomicU64::new(0);
    let left = AtomicU64::new(count);
    let clock = RealClock::new();
    let start = clock.now();
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (log, queue, version, left) = (&log, &queue, &version, &left);
            scope.spawn(move || {
                while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                    queue.submit(batch(1, thread + 1), durability == Durability::Sync, |mut group| {
                        for batch in &mut group {
                            batch.set_version(Version(version.fetch_add(1, Ordering::Relaxed) + 1));
                        }
                        let entries: Vec<_> =
                            group.iter().map(|batch| LogEntry::Commit { time: 0, batch, clears: &[] }).collect();
                        log.append(&entries, durability).expect("the disk takes it");
                        vec![(); group.len()]
                    });
                }
            });
        }
    });
    clock.now().saturating_sub(start)
}

fn reads(criterion: &mut Criterion) {
    const ENTRIES: u64 = 400_000;
    let mut group = criterion.benchmark_group("read");
    group.sample_size(10).measurement_time(Duration::from_secs(2)).throughput(Throughput::Elements(ENTRIES));
    for size in [1, 100] {
        let scratch = Scratch::new();
        let disk = scratch.disk();
        let log = open(&disk, &LogOptions::default(), false, &mut |_| {});
        for version in 1..=ENTRIES / size {
            let batch = batch(size, version);
            log.append(&[LogEntry::Commit { time: 0, batch: &batch, clears: &[] }], Durability::Memory)
                .expect("the disk takes it");
        }
        log.close().expect("the disk syncs");
        group.bench_function(BenchmarkId::new("replay", size), |bencher| {
            bencher.iter(|| {
                let mut entries = 0;
                open(&disk, &LogOptions::default(), true, &mut |record| {
                    if let Replayed::Commit(commit) = record {
                        entries += black_box(commit.batch).len();
                    }
                });
                assert_eq!(entries as u64, ENTRIES);
            });
        });
        let log = open(&disk, &LogOptions::default(), true, &mut |_| {});
        group.bench_function(BenchmarkId::new("changes", size), |bencher| {
            bencher.iter(|| {
                let mut reader = log.reader(Version::ZERO).expect("the log opens");
                let mut entries = 0;
                while let Some(commit) = reader.next_commit(Version::MAX).expect("the log is good") {
                    entries += black_box(commit.changes).len();
                }
                assert_eq!(entries as u64, ENTRIES);
            });
        });
        group.bench_function(BenchmarkId::new("verify", size), |bencher| bencher.iter(|| log.verify().expect("the log is good")));
    }
    group.finish();
}

criterion_group!(benches, appends, syncs, reads);
criterion_main!(benches);
