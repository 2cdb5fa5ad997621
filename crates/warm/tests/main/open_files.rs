//! Few files are open at a time, however many there are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use thermocline_io::{
    Access, DirEntry, Disk, DiskFile, DiskResult, FileId, LockGuard, LockMode, Reason, SimDisk, Space, SyncFailed,
};
use thermocline_tier::{
    Direction, DurableTier, KeyRange, KeyRef, Lookup, RangeBatch, RangeRequest, ReadWindow, TierStorage, Version,
};
use thermocline_warm::{OpenWarm, StoreId, WarmOptions, WarmTier};

use crate::backends::{compact, small};
use crate::support::{MULTI, Random, batch};

const FILES: usize = 60;
const OPEN_MAX: usize = 8;
const KEYS: usize = 600;
const STORE: StoreId = StoreId([7; 16]);

/// How many sorted files are open for reading: now, at most so far, and how often one was opened.
#[derive(Debug, Default)]
struct Count {
    now: AtomicUsize,
    most: AtomicUsize,
    opened: AtomicUsize,
}

/// A disk that counts.
#[derive(Debug)]
struct Counted {
    disk: SimDisk,
    count: Arc<Count>,
}

#[derive(Debug)]
struct CountedFile {
    file: Arc<dyn DiskFile>,
    count: Arc<Count>,
}

impl Drop for CountedFile {
    fn drop(&mut self) {
        self.count.now.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Disk for Counted {
    fn create_new(&self, id: FileId, reason: Reason) -> DiskResult<Arc<dyn DiskFile>> {
        self.disk.create_new(id, reason)
    }

    fn open(&self, id: FileId, access: Access, reason: Reason) -> DiskResult<Arc<dyn DiskFile>> {
        let file = self.disk.open(id, access, reason)?;
        if !matches!(id, FileId::Sst(_)) {
            return Ok(file);
        }
        let now = self.count.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.count.most.fetch_max(now, Ordering::SeqCst);
        self.count.opened.fetch_add(1, Ordering::SeqCst);
        Ok(Arc::new(CountedFile { file, count: Arc::clone(&self.count) }))
    }

    fn remove(&self, id: FileId, reason: Reason) -> DiskResult<()> {
        self.disk.remove(id, reason)
    }

    fn list(&self, reason: Reason) -> DiskResult<Vec<DirEntry>> {
        self.disk.list(reason)
    }

    fn sync_dir(&self, reason: Reason) -> Result<(), SyncFailed> {
        self.disk.sync_dir(reason)
    }

    fn try_lock(&self, mode: LockMode) -> DiskResult<Box<dyn LockGuard>> {
        self.disk.try_lock(mode)
    }

    fn space(&self) -> DiskResult<Space> {
        self.disk.space()
    }

    fn label(&self) -> String {
        self.disk.label()
    }
}

impl DiskFile for CountedFile {
    fn id(&self) -> FileId {
        self.file.id()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8], reason: Reason) -> DiskResult<usize> {
        self.file.read_at(offset, buffer, reason)
    }

    fn write_at(&self, offset: u64, bytes: &[u8], reason: Reason) -> DiskResult<usize> {
        self.file.write_at(offset, bytes, reason)
    }

    fn len(&self) -> DiskResult<u64> {
        self.file.len()
    }

    fn allocate(&self, offset: u64, len: u64, reason: Reason) -> DiskResult<()> {
        self.file.allocate(offset, len, reason)
    }

    fn set_len(&self, len: u64, reason: Reason) -> DiskResult<()> {
        self.file.set_len(len, reason)
    }

    fn sync_data(&self, reason: Reason) -> Result<(), SyncFailed> {
        self.file.sync_data(reason)
    }
}

fn key(number: usize) -> Vec<u8> {
    format!("key/{number:05}").into_bytes()
}

/// A tier of many files on level 0, each of which spans all others, and what it holds at the last version.
struct Many {
    disk: SimDisk,
    count: Arc<Count>,
    tier: Arc<WarmTier>,
    expected: BTreeMap<Vec<u8>, Vec<u8>>,
}

fn many(cache_size_bytes: u64) -> Many {
    let disk = SimDisk::new(3);
    let count = Arc::new(Count::default());
    let counted = Counted { disk: disk.clone(), count: Arc::clone(&count) };
    let (file_size_bytes, level0_flushes, level0_flushes_slow) = (16 << 10, 1000, 1000);
    let options = WarmOptions {
        open_files_max: OPEN_MAX,
        file_size_bytes,
        level0_flushes,
        level0_flushes_slow,
        cache_size_bytes,
        ..small()
    };
    let tier = Arc::new(
        WarmTier::open(OpenWarm { disk: Arc::new(counted), store: STORE, options, is_read_only: false, migration: None })
            .unwrap(),
    );
    let (mut random, mut expected) = (Random(11), BTreeMap::new());
    for file in 0..FILES {
        // The first key is in all of them. Some values lie apart, so that no cached block holds them.
        let numbers = (file..KEYS).step_by(FILES).filter(|number| *number != 0).chain([0]);
        let written: Vec<_> =
            numbers.map(|number| (key(number), random.bytes(if number % 7 == 1 { 4200 } else { 60 }))).collect();
        let writes: Vec<_> = written.iter().map(|(key, value)| (MULTI, key.as_slice(), Some(value.as_slice()))).collect();
        tier.set(&batch(file as u64 + 1, &writes)).unwrap();
        expected.extend(written);
    }
    assert_eq!(tier.files().len(), FILES);
    Many { disk, count, tier, expected }
}

/// All there is in a direction, in pages of a scan, with something done after some of them.
fn scan(tier: &Arc<WarmTier>, direction: Direction, mut between: impl FnMut(usize)) -> Vec<(Vec<u8>, Vec<u8>)> {
    let request = RangeRequest { table: MULTI, range: KeyRange::all(), window: ReadWindow::as_of(Version::MAX), direction };
    let mut scan = Arc::clone(tier).scan(request).unwrap();
    let (mut found, mut page, mut pages) = (Vec::new(), RangeBatch::new(), 0);
    loop {
        scan.next_batch(50, &mut page).unwrap();
        found.extend(page.iter().map(|entry| (entry.prefix.to_vec(), entry.value.unwrap().to_vec())));
        if !page.has_more {
            return found;
        }
        pages += 1;
        between(pages);
    }
}

impl Many {
    /// Reads all keys, one by one and many at once.
    fn check_keys(&self) {
        let is_value = |found: &Lookup, value: &Vec<u8>| matches!(found, Lookup::Value { bytes, .. } if bytes == value);
        for (key, value) in &self.expected {
            assert!(is_value(&self.tier.get(MULTI, key, Version::MAX).unwrap(), value), "{}", key.escape_ascii());
        }
        let keys: Vec<KeyRef<'_>> = self.expected.keys().map(|prefix| KeyRef { table: MULTI, prefix }).collect();
        for (keys, values) in keys.chunks(16).zip(self.expected.values().collect::<Vec<_>>().chunks(16)) {
            let found = self.tier.get_many(keys, Version::MAX).unwrap();
            assert!(found.len() == keys.len() && found.iter().zip(values).all(|(found, value)| is_value(found, value)));
        }
    }

    fn check_scans(&self) {
        let mut expected: Vec<_> = self.expected.clone().into_iter().collect();
        assert!(scan(&self.tier, Direction::Forward, |_| {}) == expected);
        expected.reverse();
        assert!(scan(&self.tier, Direction::Reverse, |_| {}) == expected);
    }

    /// No more files were open than the bound, and two for each of so many threads: the one it reads, and the one it is about to close.
    fn check_bound(&self, threads: usize) {
        assert!(self.count.most.load(Ordering::SeqCst) <= OPEN_MAX + 2 * threads, "{:?}", self.count);
        assert!(self.count.now.load(Ordering::SeqCst) <= OPEN_MAX, "{:?}", self.count);
    }

    fn files_on_disk(&self) -> usize {
        self.disk.files().iter().filter(|(id, _)| matches!(id, FileId::Sst(_))).count()
    }
}

#[test]
fn reads_and_scans_of_many_files_keep_few_open() {
    let many = many(small().cache_size_bytes);
    many.check_keys();
    many.check_scans();
    assert_eq!(many.tier.verify().unwrap().files, FILES as u64 + 1);
    many.check_bound(1);
    assert!(many.count.opened.load(Ordering::SeqCst) > 10 * FILES, "they were opened again and again: {:?}", many.count);
}

#[test]
fn reads_of_cached_blocks_open_no_file() {
    let many = many(64 << 20);
    let inline: Vec<_> = many.expected.iter().filter(|(_, value)| value.len() < 100).collect();
    let read = || inline.iter().all(|(key, _)| many.tier.get(MULTI, key, Version::MAX).unwrap().is_value());
    assert!(read());
    let opened = many.count.opened.load(Ordering::SeqCst);
    assert!(opened >= FILES && read());
    assert_eq!(many.count.opened.load(Ordering::SeqCst), opened);
    many.check_bound(1);
}

#[test]
fn rewrites_keep_few_files_open_and_scans_go_on_in_obsolete_ones() {
    let many = many(small().cache_size_bytes);
    let made = many.files_on_disk();
    let found = scan(&many.tier, Direction::Forward, |pages| {
        if pages == 2 {
            compact(&many.tier).unwrap();
            assert!(many.files_on_disk() >= made + 2, "new files, and the old ones as long as they are read");
            many.check_keys();
        }
    });
    assert!(found.into_iter().eq(many.expected.clone()));
    let live = many.tier.files().len();
    assert!(live > 2 * OPEN_MAX && live != FILES, "{live} files");
    assert_eq!(many.files_on_disk(), live, "the last who read the old files is done");
    many.check_keys();
    many.check_scans();
    many.check_bound(1);
}

#[test]
fn threads_that_read_at_once_have_two_more_files_each_at_most() {
    let many = many(small().cache_size_bytes);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                many.check_keys();
                many.check_scans();
            });
        }
        scope.spawn(|| compact(&many.tier).unwrap());
    });
    many.check_keys();
    many.check_bound(4);
    assert_eq!(many.files_on_disk(), many.tier.files().len());
}
