//! Damage to the files of a tier: flipped bits, cuts, missing, foreign, exchanged and newer files. Whatever is done, an answer is
//! right or it is an error that names the file and the place.
//!
//! Hunts: bytes that no checksum covers; checksums that are not looked at on one of the ways to read; damage that a rewrite
//! launders into a good file; damage taken for an absent key.

use std::sync::Arc;

use thermocline_format::FileKind;
use thermocline_io::{FileId, Operation, SimDisk};
use thermocline_tier::{DurableTier, Error, ErrorKind, KeyRange, TierStorage, Version};
use thermocline_warm::{Compression, OpenWarm, StoreId, WarmTier};

use crate::backends::{compact, open, small};
use crate::golden::{Golden, VERSIONS, all};
use crate::hostile::{Directory, STORE, envelope, samples};
use crate::support::{
    MULTI, Question, Random, SOURCE, Write1, ask, batch, check_no_orphans, compare, damage, live_files, manifest, one, questions,
    sorted_files,
};

/// Questions with the right answers.
struct Truth(Vec<(Question, String)>);

/// How questions were answered.
#[derive(Debug, Default)]
struct Outcomes {
    files: u64,
    right: u64,
    refused: u64,
}

/// An error about damage to `file` says so, and where.
fn check_error(error: &Error, file: FileId, len: u64, what: &dyn Fn() -> String) {
    assert!(error.kind() == &ErrorKind::Corruption, "{}: {error}", what());
    let damage = damage(error).unwrap_or_else(|| panic!("{}: {error} names no place", what()));
    assert_eq!(damage.file().to_string(), file.to_string(), "{}: {damage}", what());
    assert!(damage.offset() <= len, "{}: {damage} is behind the end at {len}", what());
}

impl Truth {
    fn of(tier: &Arc<dyn TierStorage>, versions: &[u64]) -> Self {
        let with_answer = |question: Question| {
            let answer = ask(tier, &question).unwrap();
            (question, answer)
        };
        Self(questions(tier, versions).into_iter().map(with_answer).collect())
    }

    /// Asks some of the questions, the first of them always.
    fn check(
        &self,
        tier: &Arc<dyn TierStorage>,
        some: (usize, usize),
        damaged: (FileId, u64),
        outcomes: &mut Outcomes,
        what: &dyn Fn() -> String,
    ) {
        let (start, step) = some;
        for (question, expected) in self.0.iter().take(2).chain(self.0.iter().skip(2 + start % step).step_by(step)) {
            match ask(tier, question) {
                Ok(found) => {
                    assert!(found == *expected, "{}: {question:?}\nfound\n{found}\nexpected\n{expected}", what());
                    outcomes.right += 1;
                }
                Err(error) => {
                    check_error(&error, damaged.0, damaged.1, what);
                    outcomes.refused += 1;
                }
            }
        }
    }
}

fn open_for_reading(disk: &SimDisk, golden: &Golden) -> Result<Arc<WarmTier>, Error> {
    let request =
        OpenWarm { disk: Arc::new(disk.clone()), store: STORE, options: golden.options(), is_read_only: true, migration: None };
    WarmTier::open(request).map(Arc::new)
}

fn storage(tier: &Arc<WarmTier>) -> Arc<dyn TierStorage> {
    Arc::clone(tier) as Arc<dyn TierStorage>
}

#[test]
fn no_flipped_bit_changes_an_answer_and_verify_finds_each() {
    for golden in all() {
        let disk = golden.write();
        let truth = Truth::of(&golden.model(), &[4, 20, u64::MAX]);
        let file = sorted_files(&disk)[0];
        let len = disk.file_bytes(file).unwrap().len() as u64;
        let mut outcomes = Outcomes::default();
        // Whatever a damaged file says, no more is asked for than there is.
        let all_bytes: u64 = disk.files().iter().map(|(_, len)| len).sum();
        for offset in 0..len {
            let bits = if offset < 64 || offset + 92 >= len { 0..8 } else { offset % 8..offset % 8 + 1 };
            for bit in bits {
                let damaged = disk.duplicate();
                assert!(damaged.flip_bit(file, offset * 8 + bit));
                damaged.observe(move |call| assert!(call.operation != Operation::Read || call.len <= all_bytes, "{call:?}"));
                let what = || format!("{}, byte {offset} bit {bit}", golden.name);
                let tier = open_for_reading(&damaged, &golden).unwrap_or_else(|error| panic!("{}: {error}", what()));
                outcomes.files += 1;
                let step = if offset % 97 == 0 { 1 } else { 29 };
                truth.check(&storage(&tier), (offset as usize, step), (file, len), &mut outcomes, &what);
                let error = tier.verify().expect_err(&what());
                check_error(&error, file, len, &what);
            }
        }
        let Outcomes { files, right, refused } = outcomes;
        println!("{}: {files} damaged files, each found by verify: {right} answers right, {refused} refused", golden.name);
    }
}

/// Too large for a golden file, and for every byte.
#[test]
fn no_flipped_bit_of_a_file_with_a_dictionary_changes_an_answer_and_verify_finds_each() {
    let directory = &samples()[3];
    let tier = |bytes: &[u8]| {
        let disk = SimDisk::new(1);
        disk.replace_file(FileId::Manifest(directory.manifest.0), &directory.manifest.1);
        disk.replace_file(FileId::Sst(directory.number), bytes);
        Arc::new(crate::hostile::open(Arc::new(disk), Compression::Zstd(3)).unwrap())
    };
    let (bytes, file) = (&directory.file.bytes, FileId::Sst(directory.number));
    assert!(directory.file.frames.iter().any(|frame| bytes[frame.end - 5] == 3), "a frame that needs the dictionary");
    let whole = tier(bytes);
    whole.verify().unwrap();
    let truth = Truth::of(&storage(&whole), &[1]);
    let (len, mut outcomes) = (bytes.len(), Outcomes::default());
    for number in 0..400 {
        let (offset, bit) = (number * (len - 1) / 399, number % 8);
        let mut damaged = bytes.clone();
        damaged[offset] ^= 1 << bit;
        let (tier, what) = (tier(&damaged), || format!("byte {offset} bit {bit}"));
        truth.check(&storage(&tier), (number, 997), (file, len as u64), &mut outcomes, &what);
        check_error(&tier.verify().expect_err(&what()), file, len as u64, &what);
    }
    println!("{} answers right, {} refused", outcomes.right, outcomes.refused);
}

#[test]
fn no_flipped_bit_is_laundered_by_a_rewrite() {
    for golden in all() {
        let disk = golden.write();
        let truth = Truth::of(&golden.model(), &[4, 20, u64::MAX]);
        let file = sorted_files(&disk)[0];
        let len = disk.file_bytes(file).unwrap().len() as u64;
        let mut outcomes = Outcomes::default();
        let mut rewritten = 0;
        for offset in (0..len).step_by(3) {
            let damaged = disk.duplicate();
            assert!(damaged.flip_bit(file, offset * 8 + offset % 8));
            let what = || format!("{}, byte {offset}", golden.name);
            let tier = Arc::new(open(&damaged, golden.options()).unwrap());
            outcomes.files += 1;
            match compact(&tier) {
                Ok(()) => {
                    rewritten += 1;
                    compare(&storage(&tier), &golden.model(), &questions(&golden.model(), &VERSIONS));
                    tier.verify().unwrap();
                }
                Err(error) => {
                    check_error(&error, file, len, &what);
                    assert_eq!(live_files(&tier), [file], "{}: the damaged file stays", what());
                    truth.check(&storage(&tier), (offset as usize, 29), (file, len), &mut outcomes, &what);
                }
            }
            check_no_orphans(&damaged, &tier).unwrap_or_else(|why| panic!("{}: {why}", what()));
        }
        println!(
            "{}: {} damaged files, {rewritten} rewritten with nothing lost, the others refused",
            golden.name, outcomes.files
        );
    }
}

#[test]
fn file_of_any_other_length_is_refused() {
    let mut outcomes = Outcomes::default();
    for golden in all() {
        let disk = golden.write();
        let truth = Truth::of(&golden.model(), &[u64::MAX]);
        let file = sorted_files(&disk)[0];
        let bytes = disk.file_bytes(file).unwrap();
        let whole = bytes.len() as u64;
        for len in (0..whole).chain([whole + 1, whole + 92, whole + 4096]) {
            let what = || format!("{}, {len} of {whole} bytes", golden.name);
            let damaged = disk.duplicate();
            // Cut while the tier is open, before the file was ever read.
            let tier = open_for_reading(&damaged, &golden).unwrap();
            assert!(damaged.truncate_file(file, len));
            outcomes.files += 1;
            if len % 7 == 0 {
                truth.check(&storage(&tier), (len as usize, 97), (file, whole), &mut outcomes, &what);
            }
            check_error(&tier.verify().expect_err(&what()), file, whole, &what);
            drop(tier);
            // And at the next open.
            let error = open_for_reading(&damaged, &golden).expect_err(&what());
            check_error(&error, file, whole, &what);
            assert!(error.to_string().contains("length"), "{}: {error}", what());
        }
    }
    println!("{} cut files, all refused: {} answers right, {} refused", outcomes.files, outcomes.right, outcomes.refused);
}

#[test]
fn file_that_is_cut_while_it_is_read_is_refused_or_answered_from_memory() {
    let golden = &all()[0];
    let disk = golden.write();
    let truth = Truth::of(&golden.model(), &[4, 20, u64::MAX]);
    let file = sorted_files(&disk)[0];
    let whole = disk.file_bytes(file).unwrap().len() as u64;
    let mut outcomes = Outcomes::default();
    for len in (0..whole).step_by(61) {
        let damaged = disk.duplicate();
        let tier = open_for_reading(&damaged, golden).unwrap();
        assert!(tier.contains(MULTI, b"key/01", Version::MAX).unwrap(), "index and a block are in memory now");
        assert!(damaged.truncate_file(file, len));
        truth.check(&storage(&tier), (0, 1), (file, whole), &mut outcomes, &|| format!("{len} bytes"));
    }
    println!("cut while open: {} answers right, {} refused", outcomes.right, outcomes.refused);
    assert!(outcomes.right > 0 && outcomes.refused > 0);
}

/// A tier of many files on several levels, and its content.
fn large(disk: &SimDisk) -> Arc<dyn TierStorage> {
    let model: Arc<dyn TierStorage> = Arc::new(thermocline_conformance::ModelTier::new());
    let tier = open(disk, small()).unwrap();
    let mut random = Random(3);
    for version in 1..40 {
        let writes: Vec<(String, Vec<u8>)> = (0..30)
            .map(|_| {
                let len = if random.chance(3) { 5000 } else { random.index(60) };
                (format!("key/{:03}", random.below(150)), random.bytes(len))
            })
            .collect();
        let write = |(key, value)| -> Write1<'_> {
            let (key, value): (&String, &Vec<u8>) = (key, value);
            (MULTI, key.as_bytes(), (value.len() % 7 != 3).then_some(value))
        };
        let writes: Vec<Write1<'_>> = writes.iter().map(|(key, value)| write((key, value))).collect();
        let batch = batch(version, &writes);
        tier.set(&batch).unwrap();
        model.set(&batch).unwrap();
        if version < 37 {
            while tier.step().unwrap() {}
        }
    }
    let levels: Vec<u8> = tier.files().iter().map(|file| file.level).collect();
    assert!(levels.len() > 10 && levels.contains(&0) && levels.contains(&2), "{levels:?}");
    model
}

#[test]
fn damage_to_one_of_many_files_harms_no_other() {
    let disk = SimDisk::new(1);
    let model = large(&disk);
    let truth = Truth::of(&model, &[11, 30, u64::MAX]);
    let files = sorted_files(&disk);
    let (mut random, mut outcomes) = (Random(9), Outcomes::default());
    for round in 0..300 {
        let damaged = disk.duplicate();
        let file = files[random.index(files.len())];
        let len = damaged.file_bytes(file).unwrap().len() as u64;
        let bit = random.below(len * 8);
        assert!(damaged.flip_bit(file, bit));
        let what = || format!("{file} bit {bit} of {len} bytes");
        let tier = Arc::new(open(&damaged, small()).unwrap());
        outcomes.files += 1;
        truth.check(&storage(&tier), (round, 61), (file, len), &mut outcomes, &what);
        check_error(&tier.verify().expect_err(&what()), file, len, &what);
        // Background work stops at the damage, and takes nothing away.
        for _ in 0..60 {
            match tier.step() {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => check_error(&error, file, len, &what),
            }
        }
        truth.check(&storage(&tier), (round + 7, 61), (file, len), &mut outcomes, &what);
    }
    let Outcomes { files, right, refused } = outcomes;
    println!("{files} damaged tiers of many files: {right} answers right, {refused} refused");
    assert!(right > refused, "one file of many is damaged");
}

#[test]
fn missing_and_irregular_files_are_refused_by_name() {
    let disk = SimDisk::new(1);
    let model = large(&disk);
    for file in sorted_files(&disk) {
        let bytes = disk.file_bytes(file).unwrap();
        for is_irregular in [false, true] {
            let remove = |disk: &SimDisk| {
                disk.delete_file(file);
                if is_irregular {
                    disk.add_irregular(file);
                }
            };
            let damaged = disk.duplicate();
            remove(&damaged);
            let there = sorted_files(&damaged);
            let error = open(&damaged, small()).unwrap_err();
            check_error(&error, file, u64::MAX, &|| format!("without {file}"));
            assert_eq!(sorted_files(&damaged), there, "nothing was swept");
            if !is_irregular {
                damaged.replace_file(file, &bytes);
                let tier: Arc<dyn TierStorage> = Arc::new(open(&damaged, small()).unwrap());
                compare(&tier, &model, &[Question::Entries]);
            }
            // While the tier is open.
            let damaged = disk.duplicate();
            let tier = open(&damaged, small()).unwrap();
            remove(&damaged);
            let error = tier.verify().unwrap_err();
            assert!(error.to_string().contains(&file.to_string()), "{error}");
        }
    }
}

#[test]
fn files_under_each_others_names_are_refused() {
    let disk = SimDisk::new(1);
    let tier = open(&disk, small()).unwrap();
    tier.set(&one(1, MULTI, "a=1")).unwrap();
    tier.set(&one(2, MULTI, "b=2")).unwrap();
    drop(tier);
    let [first, second] = sorted_files(&disk)[..] else { panic!("two files") };
    disk.swap_files(first, second);
    let tier = open(&disk, small()).unwrap();
    for key in [b"a", b"b"] {
        let error = tier.get(MULTI, key, Version::MAX).unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Corruption, "{error}");
    }
    // The same name, an older content of the same length: the manifest knows the checksum.
    let again = SimDisk::new(1);
    let tier = open(&again, small()).unwrap();
    tier.set(&one(1, MULTI, "a=2")).unwrap();
    drop(tier);
    let other = SimDisk::new(1);
    let tier = open(&other, small()).unwrap();
    tier.set(&one(1, MULTI, "a=1")).unwrap();
    drop(tier);
    other.replace_file(first, &again.file_bytes(first).unwrap());
    let error = open(&other, small()).unwrap().get(MULTI, b"a", Version::MAX).unwrap_err();
    check_error(&error, first, u64::MAX, &|| "an older content".into());
}

#[test]
fn foreign_and_newer_files_are_refused_as_such() {
    let golden = &all()[0];
    let disk = golden.write();
    let file = sorted_files(&disk)[0];
    let FileId::Sst(number) = file else { panic!("a sorted file") };
    let bytes = disk.file_bytes(file).unwrap();
    let newer = {
        // The format version is at byte 10, its checksum at 56, seeded with the magic.
        let mut bytes = envelope(number, STORE);
        bytes[10] = 2;
        let checksum = thermocline_format::checksum64(u64::from_le_bytes(*b"THERMOCL"), &bytes[8..56]);
        bytes[56..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    };
    let cases = [
        (envelope(number, StoreId([8; 16])), ErrorKind::ForeignFile),
        ([b'x'; 64], ErrorKind::ForeignFile),
        ([0; 64], ErrorKind::Corruption),
        (envelope(number + 1, STORE), ErrorKind::Corruption),
        (newer, ErrorKind::UnsupportedFormat),
    ];
    for (head, kind) in cases {
        let damaged = disk.duplicate();
        damaged.replace_file(file, &[&head[..], &bytes[64..]].concat());
        let tier = open(&damaged, golden.options()).unwrap();
        for error in [
            tier.get(MULTI, b"key/01", Version::MAX).unwrap_err(),
            tier.verify().unwrap_err(),
            tier.compact(MULTI, &KeyRange::all(), &|| {}).unwrap_err(),
        ] {
            assert_eq!(error.kind(), &kind, "{error}");
            assert!(error.to_string().contains(&number.to_string()), "{error}");
        }
    }
    assert_eq!(FileKind::Sst.version_max().0, 1, "the newer version above is newer");
}

#[test]
fn files_that_no_manifest_names_are_swept_whatever_their_numbers() {
    let golden = &all()[2];
    let disk = golden.write();
    let live = sorted_files(&disk)[0];
    for number in [0, 1 << 40, u64::MAX - 1, u64::MAX] {
        let image = disk.duplicate();
        image.replace_file(FileId::Sst(number), b"left by somebody");
        // A reader leaves it alone.
        let tier = open_for_reading(&image, golden).unwrap();
        assert!(image.file_bytes(FileId::Sst(number)).is_some());
        drop(tier);
        let tier = Arc::new(open(&image, golden.options()).unwrap());
        assert_eq!(sorted_files(&image), [live], "{number}");
        // And it can go on writing.
        tier.set(&one(9, MULTI, "k=v")).unwrap();
        check_no_orphans(&image, &tier).unwrap();
        drop(tier);
        let tier: Arc<dyn TierStorage> = Arc::new(open(&image, golden.options()).unwrap());
        assert!(tier.contains(MULTI, b"k", Version::MAX).unwrap());
        assert!(tier.contains(SOURCE, b"value", Version::MAX).unwrap());
    }
}

#[test]
fn of_two_manifests_the_newer_one_counts_and_a_foreign_one_is_refused() {
    let golden = &all()[2];
    let disk = golden.write();
    let (number, older) = manifest(&disk);
    let tier = open(&disk, golden.options()).unwrap();
    tier.set(&one(9, MULTI, "k=v")).unwrap();
    drop(tier);
    let image = disk.duplicate();
    image.replace_file(FileId::Manifest(number), &older);
    let tier = Arc::new(open(&image, golden.options()).unwrap());
    assert!(tier.contains(MULTI, b"k", Version::MAX).unwrap());
    assert!(image.file_bytes(FileId::Manifest(number)).is_none(), "what nothing needs is swept");
    check_no_orphans(&image, &tier).unwrap();

    // A manifest of another store, with a higher or a lower number.
    let other = SimDisk::new(1);
    let request = OpenWarm {
        disk: Arc::new(other.clone()),
        store: StoreId([8; 16]),
        options: small(),
        is_read_only: false,
        migration: None,
    };
    drop(WarmTier::open(request).unwrap());
    let (foreign, bytes) = manifest(&other);
    let image = disk.duplicate();
    image.replace_file(FileId::Manifest(foreign), &bytes);
    let before = image.files();
    let error = open(&image, golden.options()).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::ForeignFile, "{error}");
    assert_eq!(image.files(), before, "nothing was swept");
    drop(Directory::of(&disk.duplicate()));
}

#[test]
fn no_flipped_bit_of_the_manifest_changes_an_answer() {
    let disk = SimDisk::new(1);
    let model = large(&disk);
    let truth = Truth::of(&model, &[u64::MAX]);
    let (number, bytes) = manifest(&disk);
    let file = FileId::Manifest(number);
    let mut outcomes = Outcomes::default();
    for (offset, _) in bytes.iter().enumerate().filter(|(offset, byte)| **byte != 0 && offset % 11 == 0 || offset % 2039 == 0) {
        let damaged = disk.duplicate();
        damaged.flip_bit(file, offset as u64 * 8 + offset as u64 % 8);
        outcomes.files += 1;
        match open(&damaged, small()) {
            Ok(tier) => truth
                .check(&storage(&Arc::new(tier)), (offset, 211), (file, u64::MAX), &mut outcomes, &|| format!("byte {offset}")),
            Err(error) => {
                let is_clear =
                    matches!(error.kind(), ErrorKind::Corruption | ErrorKind::ForeignFile | ErrorKind::UnsupportedFormat);
                assert!(is_clear, "byte {offset}: {error}");
                outcomes.refused += 1;
            }
        }
    }
    println!("{} damaged manifests: {} answers right, {} refused", outcomes.files, outcomes.right, outcomes.refused);
}
