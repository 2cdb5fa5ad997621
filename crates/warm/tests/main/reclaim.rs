//! Horizon and pins: a rewrite removes exactly what no allowed read can see, and readers of before keep what they see.
//!
//! Hunts: removing what lies between a pin and the horizon too early or never; a tombstone that goes before what it hides; a file
//! that is removed under a reader, or never.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use thermocline_conformance::ModelTier;
use thermocline_io::{Operation, Reason, SimDisk};
use thermocline_tier::{
    Checkpoint, Direction, DropVersion, DurableTier, EntryKind, KeyRange, RangeBatch, RangeRequest, ReadWindow, Retained,
    RetainedTables, RetentionSource, TableRetained, TierStorage, Version,
};
use thermocline_warm::{Compression, WarmOptions, WarmTier};

use crate::backends::{compact, open, small};
use crate::support::{MULTI, Random, SOURCE, batch, check_no_orphans, live_files, one, row, sorted_files};

#[derive(Debug, Default)]
struct PinSet(Mutex<BTreeSet<u64>>, AtomicU64);

impl RetentionSource for PinSet {
    fn retained(&self) -> RetainedTables {
        let horizon = Version(self.1.load(Ordering::Relaxed));
        RetainedTables::new(Retained::new(horizon, self.0.lock().iter().copied().map(Version)))
    }

    fn newest_pin(&self) -> Option<Version> {
        self.0.lock().last().copied().map(Version)
    }
}

type Key = (EntryKind, Vec<u8>);

/// Everything that was ever written and neither dropped nor cleared: of each key its versions.
type History = BTreeMap<Key, BTreeMap<u64, Option<String>>>;

/// What a run knows.
struct Run {
    disk: SimDisk,
    tier: Option<Arc<WarmTier>>,
    options: WarmOptions,
    random: Random,
    history: History,
    pins: Arc<PinSet>,
    horizon: u64,
    version: u64,
    has_late: bool,
    reads: u64,
    removed: u64,
}

impl Run {
    fn new(seed: u64, has_late: bool) -> Self {
        let disk = SimDisk::new(seed);
        let options = WarmOptions { level0_flushes: 1 + seed as usize % 3, level1_size_bytes: 500, ..small() };
        let mut run = Self {
            disk,
            tier: None,
            options,
            random: Random(seed),
            history: History::new(),
            pins: Arc::default(),
            horizon: 0,
            version: 0,
            has_late,
            reads: 0,
            removed: 0,
        };
        run.reopen();
        run
    }

    fn reopen(&mut self) {
        self.tier = None;
        let tier = open(&self.disk, self.options.clone()).unwrap();
        tier.set_retention(Arc::clone(&self.pins) as Arc<dyn RetentionSource>);
        assert_eq!(tier.horizon().0, self.horizon, "the horizon survives");
        self.tier = Some(Arc::new(tier));
    }

    fn tier(&self) -> Arc<WarmTier> {
        Arc::clone(self.tier.as_ref().unwrap())
    }

    fn write(&mut self) {
        let model = ModelTier::new();
        for _ in 0..=self.random.below(6) {
            let is_late = self.has_late && self.version > self.horizon + 1 && self.random.chance(15);
            let version = if is_late {
                self.horizon + 1 + self.random.below(self.version - self.horizon)
            } else {
                self.version += 1;
                self.version
            };
            for _ in 0..=self.random.below(3) {
                let table = if self.random.chance(70) { MULTI } else { SOURCE };
                let key = format!("key/{}", self.random.below(14));
                let value = (!self.random.chance(30)).then(|| format!("{version} {}", "x".repeat(self.random.index(300))));
                let write = value.as_ref().map_or_else(|| key.clone(), |value| format!("{key}={value}"));
                model.set(&one(version, table, &write)).unwrap();
                self.history.entry((table, key.into_bytes())).or_default().insert(version, value);
            }
        }
        self.tier().absorb(&model, Checkpoint::default()).unwrap();
    }

    fn act(&mut self) {
        match self.random.below(16) {
            0..6 => self.write(),
            6..11 => drop(self.tier().step().unwrap()),
            11 => {
                // Only what may be read can be pinned.
                let from = self.horizon;
                let pin = from + self.random.below(self.version.saturating_sub(from) + 1);
                self.pins.0.lock().insert(pin);
            }
            12 => {
                let mut pins = self.pins.0.lock();
                let gone = pins.iter().nth(self.random.index(pins.len().max(1))).copied();
                gone.map(|pin| pins.remove(&pin));
            }
            13 => {
                self.horizon = self.horizon.max(self.version.saturating_sub(self.random.below(12)));
                self.tier().set_horizon(Version(self.horizon)).unwrap();
                self.pins.1.store(self.horizon, Ordering::Relaxed);
                self.tier().set_horizon(Version(self.horizon / 2)).unwrap();
                assert_eq!(self.tier().horizon().0, self.horizon);
                if self.random.chance(30) {
                    self.tier().reclaim_all();
                }
            }
            14 => self.drop_one(),
            _ if self.random.chance(50) => self.reopen(),
            _ => {
                let from = self.random.below(14);
                self.tier().compact(MULTI, &KeyRange::new(format!("key/{from}")..), &|| {}).unwrap();
            }
        }
    }

    /// Drops a version above the horizon: of those below nobody can say which ones are there to be uncovered.
    fn drop_one(&mut self) {
        let horizon = self.horizon;
        let all = self.history.iter().flat_map(|(key, versions)| versions.keys().map(move |version| (key.clone(), *version)));
        let all: Vec<(Key, u64)> = all.filter(|(_, version)| *version > horizon).collect();
        let Some((key, version)) = all.get(self.random.index(all.len().max(1))).cloned() else { return };
        let drop = DropVersion { table: key.0, prefix: Bytes::from(key.1.clone()), version: Version(version) };
        self.tier().drop_versions(&[drop]).unwrap();
        self.history.get_mut(&key).unwrap().remove(&version);
    }

    /// The versions at which reads are allowed.
    fn allowed(&self) -> BTreeSet<u64> {
        let pins = self.pins.0.lock().iter().copied().collect::<BTreeSet<u64>>();
        pins.into_iter().chain(self.horizon..=self.version + 1).collect()
    }

    /// Every allowed read sees what was written.
    fn check_reads(&mut self) {
        let tier = self.tier();
        for at in self.allowed() {
            for table in [MULTI, SOURCE] {
                let mut expected = BTreeMap::new();
                for ((_, key), versions) in self.history.iter().filter(|((held, _), _)| *held == table) {
                    if let Some((version, Some(value))) = versions.range(..=at).next_back() {
                        expected.insert(key.clone(), (*version, value.clone()));
                    }
                }
                let window = ReadWindow::as_of(Version(at));
                let request = RangeRequest { table, range: KeyRange::all(), window, direction: Direction::Forward };
                let mut batch = RangeBatch::new();
                Arc::clone(&tier).scan(request).unwrap().next_batch(1000, &mut batch).unwrap();
                let found: BTreeMap<Vec<u8>, (u64, String)> = batch
                    .iter()
                    .filter_map(|entry| {
                        Some((entry.prefix.to_vec(), (entry.version.0, String::from_utf8(entry.value?.to_vec()).unwrap())))
                    })
                    .collect();
                assert_eq!(found, expected, "table {table} at {at}, horizon {}, pins {:?}", self.horizon, self.pins);
                let key = format!("key/{}", self.random.below(14)).into_bytes();
                let value = tier
                    .get(table, &key, Version(at))
                    .unwrap()
                    .into_value()
                    .map(|value| String::from_utf8(value.to_vec()).unwrap());
                assert_eq!(value, expected.get(&key).map(|(_, value)| value.clone()), "{table} {key:?} at {at}");
                self.reads += 2;
            }
        }
    }

    /// After everything was rewritten, as a whole or piece by piece, there is exactly what an allowed read sees; and no tombstone at or below
    /// the horizon with nothing below it.
    fn check_exact(&mut self) {
        if self.random.chance(50) {
            compact(&self.tier()).unwrap();
        } else {
            self.tier().reclaim_all();
            step_to_the_end(&self.tier());
            assert!(!self.tier().is_reclaiming_all());
        }
        let allowed = self.allowed();
        let tier = self.tier();
        for ((table, key), versions) in &self.history {
            let mut seen: BTreeSet<u64> =
                allowed.iter().filter_map(|at| versions.range(..=*at).next_back()).map(|(version, _)| *version).collect();
            while let Some(lowest) = seen.first().copied().filter(|lowest| *lowest <= self.horizon && versions[lowest].is_none())
            {
                seen.remove(&lowest);
            }
            let found = tier.get_all_versions(*table, key).unwrap();
            let found: BTreeSet<u64> = found.iter().map(|entry| entry.version.0).collect();
            assert_eq!(found, seen, "{table} {key:?} of {versions:?}, horizon {}, pins {:?}", self.horizon, self.pins);
            self.removed += versions.len() as u64 - seen.len() as u64;
        }
        check_no_orphans(&self.disk, &tier).unwrap();
    }
}

fn check(seeds: std::ops::Range<u64>, has_late: bool) {
    let (mut reads, mut removed) = (0, 0);
    for seed in seeds {
        let mut run = Run::new(seed, has_late);
        for number in 0..60 {
            run.act();
            if number % 3 == 0 {
                run.check_reads();
            }
            if number % 20 == 19 {
                run.check_exact();
                run.check_reads();
            }
        }
        (reads, removed) = (reads + run.reads, removed + run.removed);
    }
    println!("{reads} allowed reads were right, {removed} entries that none sees were gone");
}

#[test]
fn rewrites_remove_exactly_what_no_allowed_read_can_see() {
    check(0..80, false);
}

#[test]
fn rewrites_remove_exactly_what_no_allowed_read_can_see_of_versions_in_any_order() {
    check(100..180, true);
}

#[test]
fn tombstone_stays_while_a_file_above_holds_what_it_hides() {
    // An older version that came late lies in level 0, while the tombstone sinks to the lowest level.
    let disk = SimDisk::new(1);
    let options = WarmOptions { level0_flushes: 2, level0_flushes_slow: 9, level1_size_bytes: 1, level_size_ratio: 2, ..small() };
    let tier = open(&disk, options).unwrap();
    tier.set(&batch(1, &[(MULTI, b"a", Some(b"1")), (MULTI, b"z", Some(b"1"))])).unwrap();
    tier.set(&one(2, MULTI, "a=2")).unwrap();
    while tier.step().unwrap() {}
    tier.set(&one(5, MULTI, "k")).unwrap();
    tier.set(&one(6, MULTI, "l=6")).unwrap();
    while tier.files().iter().any(|file| file.level == 0) {
        assert!(tier.step().unwrap());
    }
    tier.set(&one(3, MULTI, "k=3")).unwrap();
    tier.set_horizon(Version(10)).unwrap();
    while tier.step().unwrap() {}
    let levels: Vec<u8> = tier.files().iter().map(|file| file.level).collect();
    assert!(matches!(levels[..], [0, low] if low > 1), "one file in level 0, and one that was rewritten below: {levels:?}");
    assert!(tier.get(MULTI, b"k", Version(10)).unwrap().into_value().is_none());
    compact(&tier).unwrap();
    assert!(tier.get(MULTI, b"k", Version(10)).unwrap().into_value().is_none());
    assert!(tier.get_all_versions(MULTI, b"k").unwrap().is_empty(), "together they vanish");
}

#[test]
fn rewrite_that_is_asked_for_removes_the_last_entry_that_nobody_sees() {
    // Little garbage in a large file that is where it belongs already.
    let disk = SimDisk::new(1);
    let tier = open(&disk, WarmOptions::default()).unwrap();
    let keys: Vec<String> = (0..3000).map(|key| format!("key/{key:04}")).collect();
    let writes: Vec<_> = keys.iter().map(|key| (MULTI, key.as_bytes(), Some(&b"v"[..]))).collect();
    tier.set(&batch(5, &writes)).unwrap();
    tier.set(&one(6, MULTI, "key/0007=new")).unwrap();
    tier.set(&one(7, MULTI, "key/0008")).unwrap();
    tier.set(&one(7, SOURCE, "alone")).unwrap();
    compact(&tier).unwrap();
    assert_eq!(tier.get_all_versions(MULTI, b"key/0007").unwrap().len(), 2);
    tier.set_horizon(Version(7)).unwrap();
    compact(&tier).unwrap();
    assert_eq!(tier.get_all_versions(MULTI, b"key/0007").unwrap().len(), 1);
    assert_eq!(tier.get_all_versions(MULTI, b"key/0008").unwrap().len(), 0);
    assert_eq!(tier.get_all_versions(SOURCE, b"alone").unwrap().len(), 0, "a tombstone at the horizon itself");
    // And what has nothing to give is left as it is.
    let files = sorted_files(&disk);
    compact(&tier).unwrap();
    assert_eq!(sorted_files(&disk), files);
}

#[test]
fn step_is_bounded_also_where_nothing_is_kept() {
    let disk = SimDisk::new(1);
    let options = WarmOptions { step_size_bytes: 10_000, compression_flushed: Compression::None, ..WarmOptions::default() };
    let tier = open(&disk, options).unwrap();
    let keys: Vec<String> = (0..30_000).map(|key| format!("key/{key:05}")).collect();
    let mut writes: Vec<_> = keys.iter().map(|key| (MULTI, key.as_bytes(), Some(&b"some value"[..]))).collect();
    writes.push((SOURCE, b"other", Some(b"value")));
    tier.set(&batch(1, &writes)).unwrap();
    tier.clear_table(MULTI).unwrap();
    for version in 2..6 {
        tier.set(&one(version, SOURCE, "other=value")).unwrap();
    }
    let read = Arc::new(Mutex::new(0));
    let counter = Arc::clone(&read);
    disk.observe(move |call| {
        if call.operation == Operation::Read {
            *counter.lock() += call.len;
        }
    });
    let (mut steps, mut most, mut all) = (0, 0, 0);
    while tier.step().unwrap() {
        let read = std::mem::take(&mut *read.lock());
        (steps, most, all) = (steps + 1, most.max(read), all + read);
    }
    println!("{steps} steps have read {all} bytes, {most} at most");
    assert!(all > 500_000 && most < 200_000, "a step reads the index and some blocks, not the whole file");
    assert_eq!(live_files(&tier).len(), 1);
}

#[test]
fn old_readers_keep_what_they_see_and_files_go_with_the_last_of_them() {
    let disk = SimDisk::new(1);
    let tier = Arc::new(open(&disk, small()).unwrap());
    let write = |from: u64| {
        for version in from..from + 10 {
            for key in 0..20 {
                tier.set(&one(version, MULTI, &format!("key/{key:02}={version} {}", "y".repeat(200)))).unwrap();
            }
            while tier.step().unwrap() {}
        }
    };
    write(1);
    let request = RangeRequest {
        table: MULTI,
        range: KeyRange::all(),
        window: ReadWindow::as_of(Version::MAX),
        direction: Direction::Forward,
    };
    let mut scans = Vec::new();
    for round in 1..4_u64 {
        let mut scan = Arc::clone(&tier).scan(request.clone()).unwrap();
        let mut batch = RangeBatch::new();
        scan.next_batch(3, &mut batch).unwrap();
        let seen: Vec<String> = batch.iter().map(row).collect();
        scans.push((scan, seen, round * 10));
        write(round * 10 + 1);
        // All that the scan sees is removed below it.
        tier.set_horizon(Version(round * 10 + 10)).unwrap();
        compact(&tier).unwrap();
        assert!(sorted_files(&disk).len() > live_files(&tier).len(), "files stay for the scan");
    }
    tier.clear_table(MULTI).unwrap();
    let mut before = sorted_files(&disk).len();
    // The newest reader goes first: its files do not go with it if an older one needs them too.
    while let Some((mut scan, mut seen, newest)) = scans.pop() {
        let mut batch = RangeBatch::new();
        scan.next_batch(1000, &mut batch).unwrap();
        seen.extend(batch.iter().map(row));
        assert_eq!(seen.len(), 20);
        assert!(seen.iter().all(|row| row.contains(&format!("@{newest}="))), "{seen:?}");
        drop(scan);
        let after = sorted_files(&disk).len();
        assert!(after < before, "files go with their last reader");
        before = after;
    }
    check_no_orphans(&disk, &tier).unwrap();
    assert!(live_files(&tier).is_empty());
}

#[test]
fn reader_may_outlive_the_tier() {
    let disk = SimDisk::new(1);
    let tier = Arc::new(open(&disk, small()).unwrap());
    for version in 1..20 {
        tier.set(&one(version, MULTI, &format!("k={version}"))).unwrap();
    }
    let request = RangeRequest {
        table: MULTI,
        range: KeyRange::all(),
        window: ReadWindow::as_of(Version(7)),
        direction: Direction::Reverse,
    };
    let mut scan = Arc::clone(&tier).scan(request).unwrap();
    tier.set_horizon(Version(15)).unwrap();
    compact(&tier).unwrap();
    drop(tier);
    // The next tier sweeps what the scan reads; the scan goes on with its open files.
    let tier = open(&disk, small()).unwrap();
    let mut batch = RangeBatch::new();
    scan.next_batch(10, &mut batch).unwrap();
    assert_eq!(batch.iter().map(row).collect::<Vec<_>>(), ["k@7=7/"]);
    drop(scan);
    for version in 20..30 {
        tier.set(&one(version, MULTI, &format!("k={version}"))).unwrap();
    }
    check_no_orphans(&disk, &tier).unwrap();
    assert_eq!(tier.get(MULTI, b"k", Version::MAX).unwrap().version(), Some(Version(29)));
}

/// Ten keys in two versions each, of one file at level 1.
fn two_versions(disk: &SimDisk) -> (WarmTier, Arc<PinSet>) {
    let tier = open(disk, WarmOptions { file_size_bytes: 1 << 20, level1_size_bytes: 1 << 20, ..small() }).unwrap();
    let pins = Arc::<PinSet>::default();
    tier.set_retention(Arc::clone(&pins) as Arc<dyn RetentionSource>);
    let model = ModelTier::new();
    for version in [1, 2] {
        for key in 0..10 {
            model.set(&one(version, MULTI, &format!("{key}={version}"))).unwrap();
        }
    }
    tier.absorb(&model, Checkpoint::default()).unwrap();
    compact(&tier).unwrap();
    assert_eq!((tier.files()[0].level, tier.files().len(), stored(&tier)), (1, 1, 20));
    (tier, pins)
}

fn stored(tier: &WarmTier) -> u64 {
    tier.files().iter().flat_map(|file| &file.tables).map(|(_, stats)| stats.entries).sum()
}

fn step_to_the_end(tier: &WarmTier) {
    while tier.step().unwrap() {}
}

#[test]
fn file_of_which_much_need_not_be_kept_is_rewritten_by_itself() {
    let disk = SimDisk::new(1);
    let (tier, pins) = two_versions(&disk);
    step_to_the_end(&tier);
    assert_eq!(stored(&tier), 20, "nothing may go");
    pins.0.lock().insert(1);
    pins.1.store(2, Ordering::Relaxed);
    step_to_the_end(&tier);
    assert_eq!(stored(&tier), 20, "a pin sees all of it");
    let files = live_files(&tier);
    pins.0.lock().clear();
    step_to_the_end(&tier);
    assert_eq!((stored(&tier), tier.files()[0].level), (10, 1));
    assert_ne!(live_files(&tier), files);
    let files = live_files(&tier);
    step_to_the_end(&tier);
    assert_eq!(live_files(&tier), files, "what holds nothing of the kind is left alone");
    // Deleted keys go altogether, since nothing lies below.
    let model = ModelTier::new();
    (0..10).for_each(|key| model.set(&one(3, MULTI, &key.to_string())).unwrap());
    tier.absorb(&model, Checkpoint::default()).unwrap();
    compact(&tier).unwrap();
    pins.1.store(3, Ordering::Relaxed);
    step_to_the_end(&tier);
    assert_eq!((stored(&tier), sorted_files(&disk).len()), (0, 0));
}

#[test]
fn what_must_be_gone_is_rewritten_however_little_it_is_and_once() {
    let disk = SimDisk::new(1);
    let (tier, pins) = two_versions(&disk);
    let model = ModelTier::new();
    for key in 0..10 {
        model.set(&one(3, SOURCE, &format!("{key}=1"))).unwrap();
    }
    model.set(&one(4, SOURCE, "1=2")).unwrap();
    tier.absorb(&model, Checkpoint::default()).unwrap();
    pins.1.store(3, Ordering::Relaxed);
    pins.0.lock().insert(1);
    step_to_the_end(&tier);
    assert_eq!(stored(&tier), 31, "nothing is certain");
    let files = live_files(&tier);
    tier.reclaim_all();
    step_to_the_end(&tier);
    assert_eq!(stored(&tier), 31, "nothing could go");
    assert!(live_files(&tier).iter().all(|file| !files.contains(file)));
    let files = live_files(&tier);
    step_to_the_end(&tier);
    assert_eq!(live_files(&tier), files);
    pins.0.lock().clear();
    pins.1.store(4, Ordering::Relaxed);
    tier.reclaim_all();
    step_to_the_end(&tier);
    assert_eq!(stored(&tier), 20);
}

/// Keys and the newest version so far, of a tier that is written a flush at a time.
struct Stream {
    tier: WarmTier,
    pins: Arc<PinSet>,
    random: Random,
    version: u64,
    /// Of each key whether its newest entry is a value.
    newest: BTreeMap<u64, bool>,
}

const STREAM_KEYS: u64 = 4_000;

impl Stream {
    /// A tier with many files on several levels, all of which have older versions below.
    fn new(disk: &SimDisk) -> Self {
        let tier = open(disk, WarmOptions { level0_flushes: 4, ..small() }).unwrap();
        let pins = Arc::<PinSet>::default();
        tier.set_retention(Arc::clone(&pins) as Arc<dyn RetentionSource>);
        let mut stream = Self { tier, pins, random: Random(7), version: 0, newest: BTreeMap::new() };
        for _ in 0..60 {
            stream.flush();
            step_to_the_end(&stream.tier);
        }
        let levels = stream.tier.files().iter().map(|file| file.level).collect::<BTreeSet<_>>();
        assert!(levels.len() >= 3, "{levels:?}");
        stream
    }

    fn flush(&mut self) {
        let keys: Vec<u64> = (1..=400)
            .map(|number| self.version + number)
            .map(|version| if version <= STREAM_KEYS { version } else { self.random.below(STREAM_KEYS) + 1 })
            .collect();
        self.write(&keys);
    }

    fn write(&mut self, keys: &[u64]) {
        let model = ModelTier::new();
        for key in keys {
            self.version += 1;
            let (version, noise) = (self.version, self.random.next());
            let is_value = version % 16 != 0;
            let write = if is_value { format!("{key:04}={version} {noise:016x}") } else { format!("{key:04}") };
            self.newest.insert(*key, is_value);
            model.set(&one(version, MULTI, &write)).unwrap();
        }
        self.tier.absorb(&model, Checkpoint::default()).unwrap();
    }

    /// Has all go that need not be kept, and gives back how many files went at once, at most.
    fn reclaim_all(&mut self, mut meanwhile: impl FnMut(&mut Self, u64)) -> usize {
        self.pins.1.store(self.version, Ordering::Relaxed);
        self.tier.reclaim_all();
        let (mut largest, mut steps) = (0, 0);
        while self.tier.is_reclaiming_all() {
            meanwhile(self, steps);
            let files = live_files(&self.tier);
            self.tier.step().unwrap();
            let left = live_files(&self.tier);
            largest = largest.max(files.iter().filter(|file| !left.contains(file)).count());
            steps += 1;
            assert!(steps < 100_000, "it does not come to an end");
        }
        largest
    }

    /// Up to `asked` there is the newest version of each key alone, or nothing where it was deleted then.
    fn check(&self, asked: u64, newest: &BTreeMap<u64, bool>) {
        for (key, is_value) in newest {
            let versions = self.tier.get_all_versions(MULTI, format!("{key:04}").as_bytes()).unwrap();
            let old: Vec<bool> =
                versions.iter().filter(|entry| entry.version.0 <= asked).map(|entry| entry.value.is_some()).collect();
            assert_eq!(old, vec![true; usize::from(*is_value)], "{key}");
        }
    }
}

#[test]
fn what_must_be_gone_goes_in_pieces_while_more_is_written() {
    let disk = SimDisk::new(1);
    let mut stream = Stream::new(&disk);
    let (before, asked, newest) = (live_files(&stream.tier).len(), stream.version, stream.newest.clone());
    let largest = stream.reclaim_all(|stream, steps| {
        if steps % 256 == 0 {
            stream.flush();
        }
    });
    assert!(before > 40 && largest < before / 2, "{largest} of {before} at once");
    stream.check(asked, &newest);
}

#[test]
fn file_that_meets_many_sinks_in_pieces() {
    let disk = SimDisk::new(1);
    let mut stream = Stream::new(&disk);
    stream.reclaim_all(|_, _| {});
    let before = live_files(&stream.tier).len();
    stream.write(&[1, STREAM_KEYS / 2, STREAM_KEYS]);
    let largest = stream.reclaim_all(|_, _| {});
    // Ten whole ones, those at both ends, and what sinks.
    assert!(before > 30 && largest <= 13, "{largest} of {before} at once");
    stream.check(stream.version, &stream.newest);
}

#[test]
fn rows_of_a_removed_table_in_a_file_of_others_go_when_they_must() {
    let disk = SimDisk::new(1);
    let (tier, _) = two_versions(&disk);
    let model = ModelTier::new();
    model.set(&one(3, SOURCE, "k=1")).unwrap();
    model.set(&one(3, MULTI, "5=3")).unwrap();
    tier.absorb(&model, Checkpoint::default()).unwrap();
    compact(&tier).unwrap();
    assert_eq!(stored(&tier), 22);
    tier.clear_table(SOURCE).unwrap();
    step_to_the_end(&tier);
    assert_eq!((stored(&tier), tier.stats().tables.len()), (22, 2), "one row is not worth it");
    tier.reclaim_all();
    step_to_the_end(&tier);
    assert_eq!(stored(&tier), 21);
}

#[test]
fn what_need_not_be_kept_is_not_flushed() {
    let tier = open(&SimDisk::new(1), small()).unwrap();
    let model = ModelTier::new();
    for version in 1..=9 {
        model.set(&one(version, MULTI, &format!("k={version}"))).unwrap();
        model.set(&one(version, SOURCE, &format!("k={version}"))).unwrap();
    }
    model.set(&one(5, SOURCE, "gone")).unwrap();
    let pins = Arc::<PinSet>::default();
    pins.0.lock().insert(3);
    pins.1.store(7, Ordering::Relaxed);
    tier.set_retention(Arc::clone(&pins) as Arc<dyn RetentionSource>);
    tier.absorb(&model, Checkpoint::default()).unwrap();
    let versions =
        |table, key: &[u8]| tier.get_all_versions(table, key).unwrap().iter().map(|entry| entry.version.0).collect::<Vec<_>>();
    assert_eq!((versions(MULTI, b"k"), versions(SOURCE, b"k")), (vec![9, 8, 7, 3], vec![9, 8, 7, 3]));
    assert_eq!(versions(SOURCE, b"gone"), [5], "older ones may lie below");
}

#[test]
fn file_is_rewritten_for_what_is_certain_to_go_beside_pins_newest_entries_and_other_tables() {
    let disk = SimDisk::new(1);
    let tier = open(&disk, WarmOptions { file_size_bytes: 1 << 20, level1_size_bytes: 1 << 20, ..small() }).unwrap();
    let kept = Arc::new(Mutex::new(RetainedTables::default()));
    tier.set_retention(Arc::new(Rules(Arc::clone(&kept))) as Arc<dyn RetentionSource>);
    let model = ModelTier::new();
    for version in 1..=20 {
        for key in 0..5 {
            model.set(&one(version, MULTI, &format!("{key}={version}"))).unwrap();
        }
        // Of this table all is kept.
        model.set(&one(version, SOURCE, &format!("k={version}"))).unwrap();
    }
    tier.absorb(&model, Checkpoint::default()).unwrap();
    compact(&tier).unwrap();
    assert_eq!(stored(&tier), 120);
    let all = || RetainedTables::new(Retained::new(Version::ZERO, []));
    for (retained, left) in [
        (Retained::new(Version(20), [Version(3), Version(7)]), 3),
        (Retained::new(Version(20), [Version(3)]).with_newest(2), 2 + 1),
        (Retained::new(Version(20), []), 1),
    ] {
        let mut rules = all();
        rules.insert(MULTI, TableRetained::new(&[], |_| retained.clone()));
        *kept.lock() = rules;
        step_to_the_end(&tier);
        assert!(stored(&tier) <= 20 + 5 * left, "{} entries, {retained:?}", stored(&tier));
        let files = live_files(&tier);
        step_to_the_end(&tier);
        assert_eq!(live_files(&tier), files, "once");
    }
}

/// The bet of the format, for reclaim: what nobody may read any more costs nothing but its own size.
#[test]
fn history_is_not_read_where_all_of_it_goes() {
    // The oldest version, which somebody reads, is looked for.
    for (pin, versions) in [(Some(1), vec![40, 1]), (None, vec![40])] {
        let disk = SimDisk::new(1);
        let tier = open(&disk, WarmOptions { cache_size_bytes: 1 << 20, ..small() }).unwrap();
        let pins = Arc::<PinSet>::default();
        tier.set_retention(Arc::clone(&pins) as Arc<dyn RetentionSource>);
        let keys: Vec<String> = (0..60).map(|key| format!("k{key:02}")).collect();
        for version in 1..=40 {
            let value = format!("{version:020}");
            let writes: Vec<_> = keys.iter().map(|key| (MULTI, key.as_bytes(), Some(value.as_bytes()))).collect();
            tier.set(&batch(version, &writes)).unwrap();
        }
        compact(&tier).unwrap();
        let size_bytes = || tier.files().iter().map(|file| file.size_bytes).sum::<u64>();
        let (before, read) = (size_bytes(), Arc::new(AtomicU64::new(0)));
        let sum = Arc::clone(&read);
        disk.observe(move |call| {
            if call.operation == Operation::Read && call.reason == Some(Reason::SstCompact) {
                sum.fetch_add(call.len, Ordering::Relaxed);
            }
        });
        *pins.0.lock() = pin.into_iter().collect();
        pins.1.store(40, Ordering::Relaxed);
        compact(&tier).unwrap();
        let read = read.load(Ordering::Relaxed);
        assert_eq!(read >= before / 2, pin.is_some(), "{read} bytes of {before}");
        for key in &keys {
            let found: Vec<u64> =
                tier.get_all_versions(MULTI, key.as_bytes()).unwrap().iter().map(|entry| entry.version.0).collect();
            assert_eq!(found, versions, "{key}");
        }
        assert!(size_bytes() < before / 5);
    }
}

#[derive(Debug)]
struct Rules(Arc<Mutex<RetainedTables>>);

impl RetentionSource for Rules {
    fn retained(&self) -> RetainedTables {
        self.0.lock().clone()
    }

    fn newest_pin(&self) -> Option<Version> {
        None
    }
}
