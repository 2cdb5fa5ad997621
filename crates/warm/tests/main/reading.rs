//! Reading what is large: keys, histories, values, more data than the cache holds, and readers beside writers.
//!
//! Hunts: limits of a block that a legal entry can pass; searches that go wrong where keys share long prefixes; the wrong group
//! of a long history; blocks that are given up while somebody reads them.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use thermocline_conformance::ModelTier;
use thermocline_io::{DiskErrorKind, Fault, FaultKind, Operation, Reason, SimDisk, When};
use thermocline_tier::{
    Checkpoint, Direction, DurableTier, ErrorKind, KeyRange, Lookup, RangeBatch, RangeRequest, ReadWindow, TierBatch, TierStack,
    TierStorage, Version,
};
use thermocline_warm::{Compression, WarmOptions, WarmTier};

use crate::backends::{compact, open, small};
use crate::support::{MULTI, Question, Random, SOURCE, batch, check_no_orphans, compare, one, questions};

const KEY_MAX: usize = 65_535;

fn with(compression: Compression) -> WarmOptions {
    WarmOptions { compression_flushed: compression, compression, cache_size_bytes: 64 << 10, ..WarmOptions::default() }
}

const COMPRESSIONS: [Compression; 3] = [Compression::None, Compression::Lz4, Compression::Zstd(-1)];

/// Writes the batches to a tier as one flush, and checks all answers, before and after a rewrite and a restart.
fn check(batches: &[TierBatch], versions: &[u64], options: &WarmOptions) {
    let model = Arc::new(ModelTier::new());
    for batch in batches {
        model.set(batch).unwrap();
    }
    let disk = SimDisk::new(1);
    let tier = Arc::new(open(&disk, options.clone()).unwrap());
    tier.absorb(&*model, Checkpoint::default()).unwrap();
    let expected: Arc<dyn TierStorage> = Arc::clone(&model) as Arc<dyn TierStorage>;
    let questions = questions(&expected, versions);
    let compare = |tier: &Arc<WarmTier>| compare(&(Arc::clone(tier) as Arc<dyn TierStorage>), &expected, &questions);
    compare(&tier);
    tier.verify().unwrap();
    compact(&tier).unwrap();
    compare(&tier);
    drop(tier);
    let tier = Arc::new(open(&disk, options.clone()).unwrap());
    compare(&tier);
    tier.verify().unwrap();
    check_no_orphans(&disk, &tier).unwrap();
}

#[test]
fn keys_up_to_the_limit() {
    let mut random = Random(1);
    // Alike but for the last byte, alike but for the first, and unlike; alone in a block and beside short ones.
    let mut keys: Vec<Vec<u8>> = (0..4).map(|last| [vec![b'k'; KEY_MAX - 1], vec![last]].concat()).collect();
    keys.extend((0..3).map(|first| [vec![first], vec![b'k'; KEY_MAX - 1]].concat()));
    keys.extend((0..3).map(|_| random.bytes(KEY_MAX)).map(|key| key.into_iter().map(|byte| byte | 1).collect()));
    keys.extend((0..30).map(|number| format!("k{number:02}").into_bytes()));
    keys.extend([vec![], vec![b'k'; KEY_MAX], vec![b'k'; 300], vec![0xff; KEY_MAX], vec![0xff; KEY_MAX - 1]]);
    for compression in COMPRESSIONS {
        let writes: Vec<_> =
            keys.iter().filter(|key| !key.contains(&b'#')).map(|key| (MULTI, &key[..], Some(&b"value"[..]))).collect();
        let batches = [batch(3, &writes), batch(5, &writes[..5])];
        check(&batches, &[3, 4, u64::MAX], &with(compression));
        // Files of a key each, with 64 KiB keys in the manifest.
        check(&batches, &[4], &WarmOptions { file_size_bytes: 4 << 10, ..with(compression) });
    }
}

#[test]
fn keys_that_share_long_prefixes_within_a_block() {
    let mut keys = Vec::new();
    for tenant in 1..4 {
        for order in 0..60 {
            keys.push(format!("tenant/{tenant:04}/order/{order:08}"));
            keys.push(format!("tenant/{tenant:04}/order/{order:08}/line/{:04}", order * 37 % 100));
        }
        keys.push(format!("tenant/{tenant:04}"));
        keys.push(format!("tenant/{tenant:04}/a"));
        keys.push(format!("tenant/{tenant:04}/z"));
    }
    // Heads that are equal or filled up with zeros.
    keys.extend(["t", "tenant", "tenant/", "tenant/0", "tenant/0001/order/0000"].map(str::to_owned));
    let mut raw: Vec<Vec<u8>> = keys.into_iter().map(String::into_bytes).collect();
    raw.extend((0..8).map(|zeros| [&b"tenant/0002"[..], &vec![0; zeros]].concat()));
    raw.extend((0..8).map(|ones| [&b"tenant/0002"[..], &vec![0xff; ones]].concat()));
    for compression in COMPRESSIONS {
        let writes: Vec<_> = raw.iter().map(|key| (MULTI, &key[..], Some(&key[..]))).collect();
        let some: Vec<_> = writes.iter().copied().step_by(3).map(|(table, key, _)| (table, key, None)).collect();
        check(&[batch(2, &writes), batch(4, &some)], &[1, 3, u64::MAX], &with(compression));
    }
}

#[test]
fn ranges_begin_and_end_at_every_kind_of_place() {
    let disk = SimDisk::new(1);
    let tier = Arc::new(open(&disk, small()).unwrap());
    let model = Arc::new(ModelTier::new());
    for version in 1..6 {
        let writes: Vec<String> =
            (0..400).filter(|key| (key + version) % 3 != 0).map(|key| format!("tenant/{:03}/{:03}", key / 100, key)).collect();
        let writes: Vec<_> = writes.iter().map(|key| (MULTI, key.as_bytes(), Some(&b"some value of a length"[..]))).collect();
        tier.set(&batch(version, &writes)).unwrap();
        model.set(&batch(version, &writes)).unwrap();
        while tier.step().unwrap() {}
    }
    let mut bounds: Vec<String> = (0..400).step_by(7).map(|key| format!("tenant/{:03}/{:03}", key / 100, key)).collect();
    bounds.extend((0..20).map(|key| format!("tenant/{:03}/{:03}x", key / 5, key * 20)));
    bounds.extend(["", "t", "tenant/", "tenant/001", "tenant/9", "u", "tenant/001/1", "s"].map(str::to_owned));
    let mut random = Random(4);
    let mut ranges = 0;
    for start in &bounds {
        for end in bounds.iter().filter(|_| true).step_by(1 + random.index(9)) {
            let range = match random.below(5) {
                0 => KeyRange::new(start.as_str()..end.as_str()),
                1 => KeyRange::new(start.as_str()..=end.as_str()),
                2 => KeyRange {
                    start: std::ops::Bound::Excluded(start.clone().into()),
                    end: std::ops::Bound::Excluded(end.clone().into()),
                },
                3 => KeyRange::new(start.as_str()..),
                _ => KeyRange::prefix(end.as_bytes()),
            };
            let at = 1 + random.below(6);
            let window = if random.chance(50) {
                ReadWindow::as_of(Version(at))
            } else {
                ReadWindow::between(Version(random.below(at + 1)), Version(at))
            };
            let direction = if random.chance(50) { Direction::Forward } else { Direction::Reverse };
            let request = RangeRequest { table: MULTI, range, window, direction };
            let pages = |tier: &dyn TierStorage, size: usize| {
                let (mut cursor, mut found) = (request.clone().into_cursor(), Vec::new());
                while !cursor.is_exhausted() {
                    let page = match direction {
                        Direction::Forward => tier.range_next(&mut cursor, size).unwrap(),
                        Direction::Reverse => tier.range_rev_next(&mut cursor, size).unwrap(),
                    };
                    found.extend(page.iter().map(|entry| (entry.prefix.to_vec(), entry.version)));
                }
                found
            };
            let (found, expected) = (pages(&*tier, 50), pages(&*model, 1000));
            assert!(found == expected, "{request:?}: {} and {} keys", found.len(), expected.len());
            ranges += 1;
        }
    }
    println!("{ranges} ranges");
}

#[test]
fn ten_thousand_versions_of_one_key() {
    let model = ModelTier::new();
    let value =
        |version: u64| if version % 10 == 7 { None } else { Some(format!("{version} {}", "v".repeat(version as usize % 40))) };
    for version in 1..=10_000_u64 {
        let text = value(version);
        let write = text.as_ref().map_or_else(|| "k".to_owned(), |text| format!("k={text}"));
        model.set(&one(version * 3, MULTI, &write)).unwrap();
    }
    for key in ["a=1", "k0=1", "z=1"] {
        model.set(&one(2, MULTI, key)).unwrap();
    }
    for compression in COMPRESSIONS {
        let disk = SimDisk::new(1);
        let tier = Arc::new(open(&disk, with(compression)).unwrap());
        tier.absorb(&model, Checkpoint::default()).unwrap();
        for _rewritten in 0..2 {
            let mut random = Random(2);
            let sample = (0..300).map(|_| random.below(30_010)).chain([0, 1, 2, 3, 4, 29_999, 30_000, 30_001, u64::MAX]);
            for at in sample {
                let version = (at / 3).min(10_000);
                let expected = match version {
                    0 => Lookup::Absent,
                    _ => value(version).map_or(Lookup::Tombstone { version: Version(version * 3) }, |text| Lookup::Value {
                        version: Version(version * 3),
                        suffix: bytes::Bytes::new(),
                        bytes: text.into(),
                    }),
                };
                assert_eq!(tier.get(MULTI, b"k", Version(at)).unwrap(), expected, "at {at}");
                // A scan from the key before to the one behind.
                let window = ReadWindow::as_of(Version(at));
                let request = RangeRequest { table: MULTI, range: KeyRange::all(), window, direction: Direction::Forward };
                let mut batch = RangeBatch::new();
                Arc::clone(&tier).scan(request).unwrap().next_batch(10, &mut batch).unwrap();
                let found =
                    batch.iter().find(|entry| entry.prefix == b"k").map(|entry| (entry.version, entry.value.map(<[u8]>::to_vec)));
                assert_eq!(
                    found,
                    expected.version().map(|version| (version, expected.clone().into_value().map(|value| value.to_vec())))
                );
            }
            let all = tier.get_all_versions(MULTI, b"k").unwrap();
            assert_eq!(all.len(), 10_000);
            assert!(all.iter().zip((1..=10_000_u64).rev()).all(|(entry, version)| {
                entry.version.0 == version * 3 && entry.value.as_deref() == value(version).as_deref().map(str::as_bytes)
            }));
            tier.verify().unwrap();
            compact(&tier).unwrap();
        }
        // The horizon leaves the last hundred, and one at it.
        tier.set_horizon(Version(29_701)).unwrap();
        compact(&tier).unwrap();
        assert_eq!(tier.get_all_versions(MULTI, b"k").unwrap().len(), 101);
    }
}

#[test]
fn large_values_and_a_cache_that_holds_none_of_them() {
    let mut random = Random(8);
    let sizes = [0, 1, 4095, 4096, 4097, 65_535, 65_536, 1 << 20, (1 << 20) + 1];
    let values: Vec<Vec<u8>> =
        sizes.iter().map(|size| random.bytes(*size)).chain(sizes.iter().map(|size| vec![b'z'; *size])).collect();
    for compression in COMPRESSIONS {
        let mut batches = Vec::new();
        for version in [2, 4] {
            let keys: Vec<String> = (0..values.len())
                .map(|number| format!("key/{:02}#s{version}", (number + version as usize) % values.len()))
                .collect();
            let writes: Vec<_> =
                keys.iter().zip(&values).map(|(key, value)| (SOURCE, key.as_bytes(), Some(&value[..]))).collect();
            batches.push(batch(version, &writes));
        }
        check(&batches, &[3, u64::MAX], &with(compression));
    }
}

#[test]
fn full_blocks_with_the_largest_entries_that_may_follow() {
    // A block is closed by what it holds so far, so that one entry of any size may still come: with every field that an entry can
    // have.
    let far = 1 << 40;
    // History: many versions far apart, so that pairs are wide, and then one with the longest suffix and a large value.
    let suffix = "s".repeat(KEY_MAX - 2);
    let large = "v".repeat(4095);
    for count in (1300..1400).step_by(3) {
        let mut batches: Vec<TierBatch> = (0..count).map(|number| one(far * (2000 - number), MULTI, "k=")).collect();
        batches.push(one(far / 2, MULTI, &format!("k#{suffix}={large}")));
        batches.push(one(1, MULTI, "k=1"));
        let model = Arc::new(ModelTier::new());
        for batch in &batches {
            model.set(batch).unwrap();
        }
        let disk = SimDisk::new(1);
        let tier = Arc::new(open(&disk, with(Compression::None)).unwrap());
        tier.absorb(&*model, Checkpoint::default()).unwrap();
        let expected = Arc::clone(&model) as Arc<dyn TierStorage>;
        let asked = [Question::Versions(MULTI, b"k".to_vec()), Question::Get(MULTI, b"k".to_vec(), far)];
        compare(&(tier as Arc<dyn TierStorage>), &expected, &asked);
    }
    // Main: entries with wide heads, histories and suffixes, and then one with the longest key and a large value.
    for len in (100..140).step_by(3) {
        let keys: Vec<String> = (0..118).map(|number| format!("{number:03}#{}", "s".repeat(len))).collect();
        let old: Vec<_> = keys.iter().map(|key| (MULTI, key.as_bytes(), Some(&b""[..]))).collect();
        let last = format!("z{}", "k".repeat(KEY_MAX - 1));
        let new: Vec<_> = old.iter().copied().chain([(MULTI, last.as_bytes(), Some(large.as_bytes()))]).collect();
        check(&[batch(3, &old), batch(far, &new)], &[far], &with(Compression::None));
    }
}

#[test]
fn everything_is_read_right_while_everything_is_given_up_all_the_time() {
    let disk = SimDisk::new(1);
    let tier = Arc::new(open(&disk, WarmOptions { cache_size_bytes: 64 << 10, ..WarmOptions::default() }).unwrap());
    let mut random = Random(6);
    let keys: Vec<String> = (0..4000).map(|key| format!("key/{key:05}")).collect();
    for version in 1..4 {
        let values: Vec<Vec<u8>> = keys.iter().map(|_| random.bytes(100)).collect();
        let writes: Vec<_> = keys.iter().zip(&values).map(|(key, value)| (MULTI, key.as_bytes(), Some(&value[..]))).collect();
        tier.set(&batch(version, &writes)).unwrap();
    }
    compact(&tier).unwrap();
    for at in [1, 2, 3] {
        for _ in 0..2000 {
            let key = &keys[random.index(keys.len())];
            let found = tier.get(MULTI, key.as_bytes(), Version(at)).unwrap();
            assert_eq!(found.version(), Some(Version(at)), "{key}");
        }
    }
    let counters = tier.counters();
    println!("{} blocks read for 6000 reads, {} bytes cached", counters.blocks_read, counters.cached_bytes);
    assert!(counters.blocks_read > 3000, "little is found in so small a cache");
    assert!(counters.cached_bytes <= 64 << 10, "{}", counters.cached_bytes);
    assert_eq!(tier.memory_bytes(), counters.cached_bytes);
}

/// Tells other threads that this one is done, also if it panics.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "one story of three kinds of threads")]
fn readers_on_several_threads_beside_flushes_and_rewrites_see_whole_commits() {
    let disk = SimDisk::new(1);
    let tier = Arc::new(open(&disk, WarmOptions { step_size_bytes: 4000, ..small() }).unwrap());
    let (published, rounds, is_done) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let keys: Vec<String> = (0..40).map(|key| format!("key/{key:02}")).collect();
    let versions = 60_u64;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _done = Done(&is_done);
            for version in 1..=versions {
                let value = format!("{version:06} {}", "w".repeat(if version % 9 == 0 { 4200 } else { 90 }));
                let writes: Vec<_> = keys.iter().map(|key| (MULTI, key.as_bytes(), Some(value.as_bytes()))).collect();
                let model = ModelTier::new();
                model.set(&batch(version, &writes)).unwrap();
                tier.absorb(&model, Checkpoint { version: Version(version), state: bytes::Bytes::new() }).unwrap();
                published.store(version, Ordering::SeqCst);
                if version % 10 == 0 {
                    tier.set_horizon(Version(version - 9)).unwrap();
                }
            }
        });
        for _ in 0..2 {
            // Two threads at the background work.
            scope.spawn(|| {
                while !is_done.load(Ordering::SeqCst) {
                    if !tier.step().unwrap() {
                        thermocline_io::sync::yield_now();
                    }
                }
            });
        }
        for reader in 0..3_u64 {
            let (tier, keys, published, rounds, is_done) = (&tier, &keys, &published, &rounds, &is_done);
            scope.spawn(move || {
                let mut random = Random(reader);
                while !is_done.load(Ordering::SeqCst) || rounds.load(Ordering::SeqCst) < 30 {
                    let at = published.load(Ordering::SeqCst);
                    if at == 0 {
                        assert!(!is_done.load(Ordering::SeqCst), "the writer has failed");
                        thermocline_io::sync::yield_now();
                        continue;
                    }
                    let request = RangeRequest {
                        table: MULTI,
                        range: KeyRange::all(),
                        window: ReadWindow::as_of(Version(at)),
                        direction: if reader == 0 { Direction::Forward } else { Direction::Reverse },
                    };
                    let mut scan = Arc::clone(tier).scan(request).unwrap();
                    let (mut found, mut batch) = (0, RangeBatch::new());
                    loop {
                        scan.next_batch(7, &mut batch).unwrap();
                        for entry in batch.iter() {
                            assert_eq!(entry.version, Version(at));
                            assert!(entry.value.unwrap().starts_with(format!("{at:06}").as_bytes()));
                        }
                        found += batch.len();
                        if !batch.has_more {
                            break;
                        }
                    }
                    assert_eq!(found, keys.len(), "at {at}");
                    let key = &keys[random.index(keys.len())];
                    // The horizon may have passed `at` by now, but nothing newer is hidden and nothing of `at` is lost to it.
                    let newest = tier.get(MULTI, key.as_bytes(), Version::MAX).unwrap().version().unwrap();
                    assert!(newest >= Version(at));
                    let all = tier.get_all_versions(MULTI, key.as_bytes()).unwrap();
                    assert!(all.windows(2).all(|pair| pair[0].version > pair[1].version));
                    rounds.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
    });
    println!("{} rounds of reading", rounds.load(Ordering::SeqCst));
    while tier.step().unwrap() {}
    compact(&tier).unwrap();
    tier.verify().unwrap();
    check_no_orphans(&disk, &tier).unwrap();
    for key in &keys {
        let all = tier.get_all_versions(MULTI, key.as_bytes()).unwrap();
        assert_eq!(all.iter().map(|entry| entry.version.0).collect::<Vec<_>>(), (51..=60).rev().collect::<Vec<_>>());
    }
}

/// Asks for a rewrite while another thread works on it too and is slow to commit what it has finished; gives back the answer and
/// how many versions of a key are there then.
fn rewrite_with_a_slow_helper(seed: u64, fault: Option<Fault>) -> (thermocline_tier::Result<()>, usize) {
    let disk = SimDisk::new(seed);
    let tier = Arc::new(
        open(&disk, WarmOptions { level0_flushes: 100, level0_flushes_slow: 100, step_size_bytes: 1, ..small() }).unwrap(),
    );
    let keys: Vec<String> = (0..100).map(|key| format!("k{key:03}")).collect();
    for version in 1..6 {
        let writes: Vec<_> = keys.iter().map(|key| (MULTI, key.as_bytes(), Some(&b"v"[..]))).collect();
        tier.set(&batch(version, &writes)).unwrap();
    }
    tier.set_horizon(Version(5)).unwrap();
    let (is_done, asker) = (Arc::new(AtomicBool::new(false)), std::thread::current().id());
    let seen = Arc::clone(&is_done);
    disk.observe(move |call| {
        let is_commit = call.operation == Operation::Write && call.reason == Some(Reason::ManifestWrite);
        if is_commit && std::thread::current().id() != asker {
            (0..20_000).take_while(|_| !seen.load(Ordering::SeqCst)).for_each(|_| thermocline_io::sync::yield_now());
        }
    });
    fault.map(|fault| disk.inject(fault));
    let is_ready = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (is_ready, is_done, tier) = (&is_ready, &is_done, &tier);
        scope.spawn(move || {
            is_ready.store(true, Ordering::SeqCst);
            while !is_done.load(Ordering::SeqCst) {
                if !tier.step().unwrap_or(false) {
                    thermocline_io::sync::yield_now();
                }
            }
        });
        let _done = Done(is_done);
        while !is_ready.load(Ordering::SeqCst) {
            thermocline_io::sync::yield_now();
        }
        let answer = tier.compact(MULTI, &KeyRange::all(), &|| {});
        (answer, tier.get_all_versions(MULTI, b"k000").unwrap().len())
    })
}

#[test]
fn rewrite_that_was_asked_for_is_done_when_the_call_returns_whoever_does_it() {
    for seed in 0..12 {
        let (answer, versions) = rewrite_with_a_slow_helper(seed, None);
        answer.unwrap();
        assert_eq!(versions, 1, "seed {seed}");
    }
}

#[test]
fn rewrite_that_was_asked_for_and_fails_is_an_error_whoever_does_it() {
    for seed in 0..12 {
        let fault =
            Fault::new(FaultKind::Fail(DiskErrorKind::Io), When::Nth(0)).reason(Reason::ManifestWrite).on(Operation::Write);
        let (answer, versions) = rewrite_with_a_slow_helper(seed, Some(fault));
        assert_eq!(answer.unwrap_err().kind(), &ErrorKind::Io);
        assert_eq!(versions, 5, "seed {seed}");
    }
}

/// How many reads of sorted files there were since the last call.
fn count_reads(disk: &SimDisk) -> impl Fn() -> u64 {
    let reads = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&reads);
    disk.observe(move |call| {
        let is_sst = matches!(call.reason, Some(Reason::SstRead | Reason::SstCompact));
        counted.fetch_add(u64::from(call.operation == Operation::Read && is_sst), Ordering::SeqCst);
    });
    move || reads.swap(0, Ordering::SeqCst)
}

/// The keys of a scan, and the error that has ended it.
fn rows(tier: &Arc<WarmTier>, range: KeyRange, direction: Direction) -> (Vec<Vec<u8>>, Option<thermocline_tier::Error>) {
    let request = RangeRequest { table: MULTI, range, window: ReadWindow::as_of(Version::MAX), direction };
    let (mut keys, mut out) = (Vec::new(), RangeBatch::new());
    let mut scan = match Arc::clone(tier).scan(request) {
        Ok(scan) => scan,
        Err(error) => return (keys, Some(error)),
    };
    loop {
        if let Err(error) = scan.next_batch(1, &mut out) {
            return (keys, Some(error));
        }
        keys.extend(out.iter().map(|entry| entry.prefix.to_vec()));
        if !out.has_more {
            return (keys, None);
        }
    }
}

#[test]
fn long_scans_and_rewrites_read_many_blocks_at_once() {
    let disk = SimDisk::new(1);
    let keys: Vec<String> = (0..10_000).map(|key| format!("key/{key:05}")).collect();
    let tier = many_partitions(&disk, &keys);
    let reads = count_reads(&disk);
    for direction in [Direction::Forward, Direction::Reverse] {
        let before = tier.counters().blocks_read;
        let (mut found, error) = rows(&tier, KeyRange::all(), direction);
        if direction == Direction::Reverse {
            found.reverse();
        }
        assert!(error.is_none() && found.iter().eq(keys.iter().map(String::as_bytes)), "{direction:?}");
        let (blocks, reads) = (tier.counters().blocks_read - before, reads());
        println!("{direction:?}: {blocks} blocks with {reads} reads");
        assert!(blocks > 1000 && reads < blocks / 10, "{blocks} blocks with {reads} reads");
    }
    // Main and history blocks.
    compact(&tier).unwrap();
    let rewriting = reads();
    println!("a rewrite: {rewriting} reads");
    assert!(rewriting < 400, "{rewriting} reads");
    // A short scan reads what it needs.
    let (found, _) = rows(&tier, KeyRange::new("key/05000".."key/05020"), Direction::Forward);
    assert_eq!(found.len(), 20);
    assert!(reads() < 20, "the file's index, a partition's or two, and blocks, which are of half the size in the new file");
}

#[test]
fn damage_in_a_block_that_was_read_ahead_is_found_when_the_scan_comes_to_it() {
    let disk = SimDisk::new(1);
    let keys: Vec<String> = (0..2000).map(|key| format!("key/{key:05}")).collect();
    let file = crate::support::live_files(&many_partitions(&disk, &keys))[0];
    let len = disk.file_bytes(file).unwrap().len() as u64;
    let open =
        |disk: &SimDisk| Arc::new(open(disk, WarmOptions { cache_size_bytes: 64 << 10, ..WarmOptions::default() }).unwrap());
    let mut found_ahead = 0;
    for byte in (64..len).step_by(997) {
        for direction in [Direction::Forward, Direction::Reverse] {
            let damaged = disk.duplicate();
            assert!(damaged.flip_bit(file, byte * 8));
            let (found, error) = rows(&open(&damaged), KeyRange::all(), direction);
            let ordered: Vec<&str> = match direction {
                Direction::Forward => keys.iter().map(String::as_str).collect(),
                Direction::Reverse => keys.iter().rev().map(String::as_str).collect(),
            };
            assert!(found.iter().zip(&ordered).all(|(found, key)| found == key.as_bytes()), "byte {byte}");
            let Some(error) = error else {
                assert_eq!(found.len(), keys.len(), "byte {byte}, which is of history");
                continue;
            };
            let Some(last) = found.len().checked_sub(1) else { continue };
            // Key by key all is right up to there, and then there is the same damage.
            let tier = open(&damaged);
            assert!(tier.contains(MULTI, ordered[last].as_bytes(), Version::MAX).unwrap(), "byte {byte}");
            // The batch with the key before the damage must say whether there is more.
            let mut next = ordered[last + 1..].iter().take(2).map(|key| tier.get(MULTI, key.as_bytes(), Version::MAX));
            let alone = next.find_map(Result::err).unwrap_or_else(|| panic!("byte {byte}: {error}"));
            let (alone, error) = (crate::support::damage(&alone).unwrap(), crate::support::damage(&error).unwrap());
            assert_eq!((alone.offset(), alone.to_string()), (error.offset(), error.to_string()), "byte {byte}");
            // A scan that ends before it does not know of it.
            let range = match direction {
                Direction::Forward => KeyRange::new(..=ordered[last]),
                Direction::Reverse => KeyRange::new(ordered[last]..),
            };
            let (found, error) = rows(&open(&damaged), range, direction);
            assert!(error.is_none() && found.len() == last + 1, "byte {byte}: {error:?}");
            found_ahead += 1;
        }
    }
    println!("{found_ahead} damaged blocks found in their turn");
    assert!(found_ahead > 50);
}

/// A tier with one file of many partitions, whose indexes take far more than the cache may.
fn many_partitions(disk: &SimDisk, keys: &[String]) -> Arc<WarmTier> {
    let options = WarmOptions {
        cache_size_bytes: 64 << 10,
        block_size_bytes: 256,
        partition_blocks: 32,
        compression_flushed: Compression::None,
        compression: Compression::None,
        ..WarmOptions::default()
    };
    let tier = Arc::new(open(disk, options).unwrap());
    let model = ModelTier::new();
    for version in [2, 4] {
        let writes: Vec<_> = keys.iter().map(|key| (MULTI, key.as_bytes(), Some(&b"some value of some length"[..]))).collect();
        model.set(&batch(version, &writes)).unwrap();
    }
    tier.absorb(&model, Checkpoint::default()).unwrap();
    assert_eq!(tier.files().len(), 1);
    tier
}

#[test]
fn indexes_larger_than_the_cache_come_and_go_within_its_budget() {
    let disk = SimDisk::new(1);
    let keys: Vec<String> = (0..20_000).map(|key| format!("key/{key:05}")).collect();
    let tier = many_partitions(&disk, &keys);
    let mut random = Random(3);
    let (mut most, mut scans) = (0, Vec::new());
    for round in 0..4000 {
        let number = if round % 2 == 0 { random.index(keys.len()) } else { random.index(50) };
        let at = 1 + random.below(5);
        let found = tier.get(MULTI, keys[number].as_bytes(), Version(at)).unwrap();
        assert_eq!(found.version().map_or(0, |version| version.0), at / 2 * 2, "{} at {at}", keys[number]);
        assert_eq!(tier.get(MULTI, format!("{}x", keys[number]).as_bytes(), Version(at)).unwrap(), Lookup::Absent);
        most = most.max(tier.memory_bytes());
        if round % 500 == 0 {
            // These hold an index and a block each, from now on.
            let range = KeyRange::new(keys[number].as_str()..);
            let window = ReadWindow::as_of(Version(3));
            let request = RangeRequest { table: MULTI, range, window, direction: Direction::Forward };
            scans.push((Arc::clone(&tier).scan(request).unwrap(), number));
        }
        let held = 16 * 1024 * scans.len() as u64;
        assert!(tier.memory_bytes() <= (64 << 10) + held, "{} in round {round}", tier.memory_bytes());
    }
    for (mut scan, from) in scans {
        let (mut count, mut out) = (0, RangeBatch::new());
        loop {
            scan.next_batch(1000, &mut out).unwrap();
            assert!(out.iter().all(|entry| entry.version == Version(2)));
            count += out.len();
            if !out.has_more {
                break;
            }
        }
        assert_eq!(count, keys.len() - from);
    }
    assert!(tier.memory_bytes() <= 64 << 10, "nothing is held any more: {}", tier.memory_bytes());
    println!("at most {most} bytes");
}

#[test]
fn files_of_a_tier_larger_than_its_cache_have_blocks_of_half_the_size() {
    let blocks_of = |cache_size_bytes| {
        let tier = open(&SimDisk::new(1), WarmOptions { cache_size_bytes, ..WarmOptions::default() }).unwrap();
        let keys: Vec<String> = (0..10_000).map(|key| format!("key/{key:05}")).collect();
        let value = [7; 100];
        let writes: Vec<_> = keys.iter().map(|key| (MULTI, key.as_bytes(), Some(&value[..]))).collect();
        tier.set(&batch(1, &writes)).unwrap();
        compact(&tier).unwrap();
        let before = tier.counters().blocks_read;
        for key in &keys {
            assert!(tier.contains(MULTI, key.as_bytes(), Version(1)).unwrap());
        }
        tier.counters().blocks_read - before
    };
    // Keys and values take 1.09 million bytes, and a block of the half size with its index is still in memory for the next key.
    let (whole, halves) = (blocks_of(1_090_000), blocks_of(1_089_999));
    assert!((70..=90).contains(&whole), "{whole} blocks");
    assert!((18 * whole..22 * whole).contains(&(10 * halves)), "{halves} blocks of half the size, {whole} whole ones");
    let beyond = blocks_of(1_089_999 / 8);
    // Some are read twice there: a block and its index do not always stay for the next key.
    assert!(
        (10 * whole..14 * whole).contains(&(10 * beyond)),
        "{beyond} blocks where the cache is for indexes, {whole} whole ones"
    );
}

#[test]
fn rewrites_and_checks_leave_no_index_and_no_block_behind() {
    let disk = SimDisk::new(1);
    let keys: Vec<String> = (0..5000).map(|key| format!("key/{key:05}")).collect();
    let tier = many_partitions(&disk, &keys);
    assert!(tier.contains(MULTI, b"key/00001", Version::MAX).unwrap());
    let before = tier.memory_bytes();
    tier.verify().unwrap();
    let mut entries = 0;
    tier.visit_entries(&mut |_, _| {
        entries += 1;
        Ok(())
    })
    .unwrap();
    assert_eq!(entries, 10_000);
    assert_eq!(tier.memory_bytes(), before);
    drop(tier);
    let tier = open(&disk, WarmOptions { cache_size_bytes: 64 << 10, ..WarmOptions::default() }).unwrap();
    compact(&tier).unwrap();
    assert!(tier.memory_bytes() < before, "nothing was read of the new file, nor of the old one");
}

#[test]
fn what_is_cached_is_cached_after_a_rewrite() {
    check_cached_after_a_rewrite(64 << 20, 0..=0);
}

#[test]
fn rewrite_caches_nothing_that_there_is_no_room_for() {
    check_cached_after_a_rewrite(800_000, 5..=50);
}

/// Whether blocks are in the cache, the count of those read tells.
fn check_cached_after_a_rewrite(cache_size_bytes: u64, missed_blocks: RangeInclusive<u64>) {
    let options = WarmOptions { cache_size_bytes, file_size_bytes: 100_000, partition_blocks: 7, ..WarmOptions::default() };
    let tier = open(&SimDisk::new(1), options).unwrap();
    let keys: Vec<String> = (0..10_000).map(|key| format!("key/{key:05}")).collect();
    let table = |number: usize| if number < 3_000 { MULTI } else { SOURCE };
    for version in 1..=2 {
        let value = Some(&b"some value of some length, as long as that"[..]);
        let writes: Vec<_> = (0..).zip(&keys).map(|(number, key)| (table(number), key.as_bytes(), value)).collect();
        tier.set(&batch(version, &writes)).unwrap();
    }
    compact(&tier).unwrap();
    let read = |numbers: &mut dyn Iterator<Item = usize>| {
        let before = tier.counters().blocks_read;
        for number in numbers {
            assert!(tier.contains(table(number), keys[number].as_bytes(), Version::MAX).unwrap(), "{number}");
        }
        tier.counters().blocks_read - before
    };
    let hot = || (0..2_000).chain(5_000..8_000);
    let blocks = read(&mut hot());
    assert!(blocks > 20 && read(&mut hot()) == 0, "{blocks}");
    tier.set(&batch(3, &[(MULTI, b"key/02500", Some(b"new")), (SOURCE, b"key/09999", Some(b"new"))])).unwrap();
    tier.set_horizon(Version(3)).unwrap();
    compact(&tier).unwrap();
    assert!(tier.memory_bytes() <= cache_size_bytes, "{} bytes", tier.memory_bytes());
    let missed = read(&mut hot());
    assert!(missed_blocks.contains(&missed), "{missed} of {blocks} blocks were read again");
    assert!(read(&mut (8_100..9_900)) > 5, "what nobody has read is not there");
}

/// The call came before there was anything to do: whoever heard it found nothing, and slept.
#[test]
fn compaction_calls_for_help_once_there_is_something_to_help_with() {
    let tier = open(&SimDisk::new(1), small()).unwrap();
    tier.set(&one(1, MULTI, "a=1 b=2")).unwrap();
    let calls = std::cell::Cell::new((0, 0));
    let help = || calls.set((calls.get().0 + 1, calls.get().1 + u32::from(tier.step().unwrap())));
    tier.compact(MULTI, &KeyRange::all(), &help).unwrap();
    assert_eq!(calls.get(), (1, 1), "calls, and how many of them found something");
}

#[test]
fn reads_of_any_kind_cross_partitions_of_several_tables() {
    // Tables begin and end within partitions and at their ends; keys with long histories fill partitions alone.
    let tables = [MULTI, SOURCE, crate::support::OPERATOR];
    let mut batches = Vec::new();
    for version in 1..5_u64 {
        let mut keys = Vec::new();
        for (number, table) in (0_usize..).zip(tables) {
            for key in 0..[37, 3, 60][number] {
                if !(key as u64 + version).is_multiple_of(3) || key == 2 {
                    keys.push((table, format!("{number}/{key:03}"), "v".repeat(10 + key % 40)));
                }
            }
        }
        let writes: Vec<_> = keys.iter().map(|(table, key, value)| (*table, key.as_bytes(), Some(value.as_bytes()))).collect();
        batches.push(batch(version, &writes));
    }
    batches.extend((5..300).map(|version| one(version, SOURCE, &format!("1/001=history {version}"))));
    for compression in COMPRESSIONS {
        for (block_size_bytes, partition_blocks) in [(256, 1), (256, 3), (600, 2)] {
            let options = WarmOptions { block_size_bytes, partition_blocks, ..with(compression) };
            check(&batches, &[1, 3, 4, 60, u64::MAX], &options);
        }
    }
}

#[test]
fn batches_of_a_scan_end_where_values_are_large_and_pages_do_not() {
    let tier = Arc::new(open(&SimDisk::new(1), WarmOptions::default()).unwrap());
    let (large, small) = (vec![7; 300 << 10], vec![8; 100]);
    let keys: Vec<String> = (0..40).map(|key| format!("key/{key:02}")).collect();
    let value = |key: usize| if key.is_multiple_of(3) { large.as_slice() } else { small.as_slice() };
    let writes: Vec<_> = keys.iter().enumerate().map(|(key, name)| (MULTI, name.as_bytes(), Some(value(key)))).collect();
    tier.set(&batch(1, &writes)).unwrap();
    // In one file, over two levels, and merged with another tier.
    let stack = |lower: &Arc<WarmTier>| {
        let upper = Arc::new(ModelTier::new());
        upper.set(&batch(2, &[(MULTI, keys[0].as_bytes(), Some(value(0)))])).unwrap();
        TierStack::new(vec![upper, Arc::clone(lower) as Arc<dyn TierStorage>]).unwrap()
    };
    let check = |tier: Arc<dyn TierStorage>| {
        for direction in [Direction::Forward, Direction::Reverse] {
            let window = ReadWindow::as_of(Version::MAX);
            let request = RangeRequest { table: MULTI, range: KeyRange::all(), window, direction };
            let (mut scan, mut out, mut found, mut batches) =
                (Arc::clone(&tier).scan(request.clone()).unwrap(), RangeBatch::new(), Vec::new(), 0);
            loop {
                scan.next_batch(1000, &mut out).unwrap();
                assert!(!out.is_empty() && out.size_bytes() < (1 << 20) + (301 << 10), "{} bytes", out.size_bytes());
                found.extend(out.iter().map(|entry| (entry.prefix.to_vec(), entry.value.map(<[u8]>::len))));
                batches += 1;
                if !out.has_more {
                    break;
                }
            }
            if direction == Direction::Reverse {
                found.reverse();
            }
            let expected = keys.iter().enumerate().map(|(key, name)| (name.as_bytes().to_vec(), Some(value(key).len())));
            assert!(found.into_iter().eq(expected), "{direction:?}");
            assert!((3..8).contains(&batches), "{batches} batches");
            let mut cursor = request.into_cursor();
            let page = match direction {
                Direction::Forward => tier.range_next(&mut cursor, 40),
                Direction::Reverse => tier.range_rev_next(&mut cursor, 40),
            };
            assert_eq!(page.unwrap().len(), 40, "a page has what was asked for");
        }
    };
    check(Arc::clone(&tier) as Arc<dyn TierStorage>);
    check(Arc::new(stack(&tier)));
    compact(&tier).unwrap();
    tier.set(&batch(3, &[(MULTI, keys[20].as_bytes(), Some(value(20)))])).unwrap();
    check(Arc::clone(&tier) as Arc<dyn TierStorage>);
    check(Arc::new(stack(&tier)));
}
