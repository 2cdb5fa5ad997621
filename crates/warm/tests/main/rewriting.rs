//! Rewriting and scanning many files at once.
//!
//! Hunts: memory that grows with the number of files, a version that counts although a later file has it, marks that are taken for those of
//! another file.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use thermocline_conformance::ModelTier;
use thermocline_io::{Call, FileId, Operation, Reason, SimDisk};
use thermocline_tier::{Direction, DurableTier, EntryKind, TierStorage, Version};
use thermocline_warm::{Compression, WarmOptions, WarmTier};

use crate::backends::{compact, open, small};
use crate::support::{MULTI, Question, Random, SOURCE, ask, batch, compare, questions};

/// How many files are taken to level 1 together.
const MOVED_FILES: usize = 30;

fn options() -> WarmOptions {
    WarmOptions {
        cache_size_bytes: 64 << 20,
        file_size_bytes: 32 << 10,
        level0_flushes: MOVED_FILES,
        level1_size_bytes: 1 << 30,
        partition_blocks: 256,
        ..small()
    }
}

/// The same in a tier and in the model.
struct Both {
    tier: Arc<WarmTier>,
    model: Arc<ModelTier>,
}

impl Both {
    fn write(&self, version: u64, table: EntryKind, keys: impl Iterator<Item = u32>, value: Option<&str>) {
        let keys: Vec<String> = keys.map(|key| format!("key/{key:06}")).collect();
        let writes: Vec<_> = keys.iter().map(|key| (table, key.as_bytes(), value.map(str::as_bytes))).collect();
        let batch = batch(version, &writes);
        self.tier.set(&batch).unwrap();
        self.model.set(&batch).unwrap();
    }

    /// Disjoint files of 100 keys each.
    fn write_files(&self, files: usize, version: u64, table: EntryKind) {
        for file in 0..files as u32 {
            self.write(version, table, file * 100..file * 100 + 100, Some(&"a value that fills a block ".repeat(8)));
        }
    }

    /// Level 0 is full, and its files are taken to level 1 as they are.
    fn move_files(&self) {
        while self.tier.step().unwrap() {}
    }
}

/// 60 disjoint files on level 1, half of them written after a clear that hides a part of the others; and some on level 0 that begin anew what was
/// cleared, overwrite, delete, and write versions again that level 1 has.
fn many_files(disk: &SimDisk) -> Both {
    let both = Both { tier: Arc::new(open(disk, options()).unwrap()), model: Arc::new(ModelTier::new()) };
    both.write_files(MOVED_FILES - 1, 2, MULTI);
    // The last file of the first half holds both tables, so that it stays with a mark.
    let writes = batch(3, &[(MULTI, b"last", Some(b"1")), (SOURCE, b"a", Some(b"2"))]);
    both.tier.set(&writes).unwrap();
    both.model.set(&writes).unwrap();
    both.move_files();
    both.tier.clear_table(SOURCE).unwrap();
    both.model.clear_table(SOURCE).unwrap();
    both.write_files(MOVED_FILES, 4, SOURCE);
    both.move_files();
    assert_eq!(both.tier.files().iter().filter(|file| file.level == 1).count(), 2 * MOVED_FILES);
    both.write(2, MULTI, (0..3000).step_by(70), Some("the same version, written later"));
    both.write(5, MULTI, (0..3100).step_by(50), Some("newer"));
    both.write(6, SOURCE, (0..3100).step_by(30), None);
    both.write(5, MULTI, (0..3100).step_by(100), Some("once more"));
    both
}

fn is_sst(call: &Call) -> bool {
    matches!(call.file, Some(FileId::Sst(_)))
}

#[test]
fn a_rewrite_of_many_files_has_one_file_of_each_lower_level_in_memory() {
    let disk = SimDisk::new(1);
    let Both { tier, model } = many_files(&disk);
    let expected: Arc<dyn TierStorage> = model;
    let questions = questions(&expected, &[2, 3, 4, 5, 6]);
    let as_storage = |tier: &Arc<WarmTier>| Arc::clone(tier) as Arc<dyn TierStorage>;
    // All of them are merged for this one too.
    compare(&as_storage(&tier), &expected, &questions);
    drop(tier);

    // What the indexes of all files take; keys that only level 1 has.
    let all = Arc::new(open(&disk.duplicate(), options()).unwrap());
    for key in (1..3000).step_by(100) {
        for table in [MULTI, SOURCE] {
            ask(&as_storage(&all), &Question::Get(table, format!("key/{key:06}").into_bytes(), u64::MAX)).unwrap();
        }
    }
    let all_bytes = all.memory_bytes();
    drop(all);

    let tier = Arc::new(open(&disk, options()).unwrap());
    let files = tier.files().len() as u64;
    let (opened, peak_bytes, is_writing) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)), AtomicBool::new(false));
    let (counted, highest, observed): (_, _, Weak<WarmTier>) =
        (Arc::clone(&opened), Arc::clone(&peak_bytes), Arc::downgrade(&tier));
    disk.observe(move |call| {
        if let Some(tier) = observed.upgrade() {
            highest.fetch_max(tier.memory_bytes(), Ordering::SeqCst);
        }
        if is_sst(call) && call.operation == Operation::CreateNew {
            is_writing.store(true, Ordering::SeqCst);
        }
        if is_sst(call) && call.operation == Operation::Open && !is_writing.load(Ordering::SeqCst) {
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    compact(&tier).unwrap();
    let (opened, peak_bytes) = (opened.load(Ordering::SeqCst), peak_bytes.load(Ordering::SeqCst));
    println!("{opened} of {files} files open when the first output begins, {peak_bytes} of {all_bytes} bytes");
    assert!(files > 60 && opened < 10, "{opened} of {files} files were opened before anything was written");
    assert!(peak_bytes < all_bytes / 3, "{peak_bytes} bytes in memory, where all indexes take {all_bytes}");
    assert!(tier.files().iter().all(|file| file.level == 1), "all was rewritten");
    compare(&as_storage(&tier), &expected, &questions);
    tier.verify().unwrap();
}

/// Reads of several blocks at once.
#[derive(Debug, Default)]
struct Reads {
    /// The last one of each file.
    last: BTreeMap<FileId, u64>,
    longest: u64,
    /// What the last ones were together at most.
    sum: u64,
}

/// What was read since the last call.
fn observe_reads(disk: &SimDisk) -> impl Fn() -> Reads {
    /// Longer than a block of the test.
    const BLOCK_LEN_MAX: u64 = 5 << 10;
    let reads: Arc<Mutex<Reads>> = Arc::default();
    let observed = Arc::clone(&reads);
    disk.observe(move |call| {
        let is_read = call.operation == Operation::Read && matches!(call.reason, Some(Reason::SstRead | Reason::SstCompact));
        if let Some(file) = call.file.filter(|_| is_read && call.len > BLOCK_LEN_MAX) {
            let mut reads = observed.lock();
            reads.last.insert(file, call.len);
            reads.longest = reads.longest.max(call.len);
            reads.sum = reads.sum.max(reads.last.values().sum());
        }
    });
    move || std::mem::take(&mut *reads.lock())
}

#[test]
fn what_is_read_ahead_is_bounded_for_all_files_of_a_reader_together() {
    for (files, longest_max) in [(1, 128 << 10), (3, 128 << 10), (8, 64 << 10), (20, (512 << 10) / 20), (40, 16 << 10)] {
        let disk = SimDisk::new(1);
        let options = WarmOptions {
            cache_size_bytes: 64 << 10,
            level0_flushes: 64,
            level0_flushes_slow: 64,
            block_size_bytes: 4 << 10,
            partition_blocks: 64,
            compression_flushed: Compression::None,
            compression: Compression::None,
            ..WarmOptions::default()
        };
        let tier = Arc::new(open(&disk, options).unwrap());
        let mut random = Random(5);
        for file in 0..files {
            let keys: Vec<String> = (file..6000).step_by(files).map(|key| format!("key/{key:06}")).collect();
            let value = random.bytes(1000);
            let writes: Vec<_> = keys.iter().map(|key| (MULTI, key.as_bytes(), Some(value.as_slice()))).collect();
            tier.set(&batch(1, &writes)).unwrap();
        }
        assert_eq!(tier.files().len(), files);
        let taken = observe_reads(&disk);
        let check = |what: &str| {
            let Reads { longest, sum, .. } = taken();
            println!("{what} of {files} files: {longest} bytes at once, {sum} together");
            assert!(longest <= longest_max && longest > longest_max / 2, "{what} of {files} files: {longest} bytes at once");
            assert!(sum <= (512 << 10).max(files as u64 * (16 << 10)), "{what} of {files} files: {sum} bytes together");
        };
        let storage = Arc::clone(&tier) as Arc<dyn TierStorage>;
        for direction in [Direction::Forward, Direction::Reverse] {
            let window = thermocline_tier::ReadWindow::as_of(Version::MAX);
            let found = ask(&storage, &Question::Scan(MULTI, window, direction, 100)).unwrap();
            assert_eq!(found.lines().count(), 6000);
            check("a scan");
        }
        compact(&tier).unwrap();
        check("a rewrite");
        assert!(tier.files().iter().all(|file| file.level == 1));
    }
}
