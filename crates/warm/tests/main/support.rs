//! What the tests share: random numbers, batches, and questions that every tier must answer alike.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::Arc;

use thermocline_format::{Corruption, checksum64};
use thermocline_io::{FileId, SimDisk};
use thermocline_tier::{
    BatchBuilder, Direction, DurableTier, EntryKind, EntryRef, Error, KeyLayout, KeyRange, KeyRef, Lookup, RangeBatch,
    RangeRequest, ReadWindow, Result, TierBatch, TierStorage, Version,
};
use thermocline_warm::WarmTier;

pub(crate) const MULTI: EntryKind = EntryKind::Multi;
pub(crate) const SOURCE: EntryKind = EntryKind::source(3);
pub(crate) const OPERATOR: EntryKind = EntryKind::operator(u32::MAX);

/// Random numbers that follow from a seed (`SplitMix64`).
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// Bytes that do not shrink.
    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

/// What is behind the last `#` of a key is its suffix.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Marked;

impl KeyLayout for Marked {
    fn name(&self) -> String {
        "marked".into()
    }

    fn prefix_len(&self, _table: EntryKind, key: &[u8]) -> usize {
        key.iter().rposition(|byte| *byte == b'#').unwrap_or(key.len())
    }
}

/// A write of a test: table, key with its suffix, and value or tombstone.
pub(crate) type Write1<'a> = (EntryKind, &'a [u8], Option<&'a [u8]>);

pub(crate) fn batch(version: u64, writes: &[Write1<'_>]) -> TierBatch {
    let mut builder = BatchBuilder::new();
    for (table, key, value) in writes {
        match value {
            Some(value) => builder.put(*table, key, value).unwrap(),
            None => builder.remove(*table, key).unwrap(),
        }
    }
    builder.finish(&Marked, Version(version))
}

/// One write as a batch: `k` a tombstone, `k=v` a value.
pub(crate) fn one(version: u64, table: EntryKind, write: &str) -> TierBatch {
    match write.split_once('=') {
        Some((key, value)) => batch(version, &[(table, key.as_bytes(), Some(value.as_bytes()))]),
        None => batch(version, &[(table, write.as_bytes(), None)]),
    }
}

/// An entry as short text. The suffix of a tombstone means nothing.
pub(crate) fn row(entry: EntryRef<'_>) -> String {
    let mut text = format!("{}@{}", name_of(entry.prefix), entry.version);
    match entry.value {
        Some(value) => write!(text, "={}/{}", name_of(value), name_of(entry.suffix)).unwrap(),
        None => text.push('~'),
    }
    text
}

/// Long bytes by their length and checksum.
pub(crate) fn name_of(bytes: &[u8]) -> String {
    if bytes.len() <= 40 { bytes.escape_ascii().to_string() } else { format!("<{}:{:016x}>", bytes.len(), checksum64(0, bytes)) }
}

/// Something to ask a tier.
#[derive(Clone, Debug)]
pub(crate) enum Question {
    Tables,
    Get(EntryKind, Vec<u8>, u64),
    Has(EntryKind, Vec<u8>, u64),
    Many(Vec<(EntryKind, Vec<u8>)>, u64),
    Versions(EntryKind, Vec<u8>),
    Pages(EntryKind, ReadWindow, Direction, usize),
    Scan(EntryKind, ReadWindow, Direction, usize),
    Entries,
}

/// No scan of a test has more entries: more is a scan that never ends.
const ENTRIES_MAX: usize = 100_000;

/// The answer as text.
pub(crate) fn ask(tier: &Arc<dyn TierStorage>, question: &Question) -> Result<String> {
    let mut text = String::new();
    let mut add = |entry: EntryRef<'_>| writeln!(text, "{}", row(entry)).unwrap();
    match question {
        Question::Tables => return Ok(format!("{:?}", tier.tables()?)),
        Question::Get(table, key, at) => return tier.get(*table, key, Version(*at)).map(|found| answer(&found)),
        Question::Has(table, key, at) => return tier.contains(*table, key, Version(*at)).map(|found| found.to_string()),
        Question::Many(keys, at) => {
            let keys: Vec<KeyRef<'_>> = keys.iter().map(|(table, prefix)| KeyRef { table: *table, prefix }).collect();
            return Ok(tier.get_many(&keys, Version(*at))?.iter().map(answer).collect());
        }
        Question::Versions(table, key) => tier.get_all_versions(*table, key)?.iter().for_each(|entry| add(entry.as_ref())),
        Question::Pages(table, window, direction, size) => {
            let request = RangeRequest { table: *table, range: KeyRange::all(), window: *window, direction: *direction };
            let mut cursor = request.into_cursor();
            let mut count = 0;
            while !cursor.is_exhausted() && count < ENTRIES_MAX {
                let page = match direction {
                    Direction::Forward => tier.range_next(&mut cursor, *size)?,
                    Direction::Reverse => tier.range_rev_next(&mut cursor, *size)?,
                };
                assert_eq!(page.has_more, !cursor.is_exhausted());
                count += page.len();
                page.iter().for_each(&mut add);
            }
            assert!(count < ENTRIES_MAX, "pages without end");
        }
        Question::Scan(table, window, direction, size) => {
            let request = RangeRequest { table: *table, range: KeyRange::all(), window: *window, direction: *direction };
            let mut scan = Arc::clone(tier).scan(request)?;
            let (mut found, mut count) = (RangeBatch::new(), 0);
            loop {
                scan.next_batch(*size, &mut found)?;
                count += found.len();
                found.iter().for_each(&mut add);
                if !found.has_more || count >= ENTRIES_MAX {
                    break;
                }
            }
            assert!(count < ENTRIES_MAX, "a scan without end");
        }
        Question::Entries => tier.visit_entries(&mut |table, entry| {
            writeln!(text, "{table} {}", row(entry)).unwrap();
            Ok(())
        })?,
    }
    Ok(text)
}

fn answer(found: &Lookup) -> String {
    match found {
        Lookup::Value { version, suffix, bytes } => format!("{version}={}/{} ", name_of(bytes), name_of(suffix)),
        Lookup::Tombstone { version } => format!("{version}~ "),
        Lookup::Absent => "- ".into(),
    }
}

/// Everything that can be asked about what a tier holds, at these versions.
pub(crate) fn questions(tier: &Arc<dyn TierStorage>, versions: &[u64]) -> Vec<Question> {
    let mut keys: BTreeSet<(EntryKind, Vec<u8>)> = BTreeSet::new();
    tier.visit_entries(&mut |table, entry| {
        keys.insert((table, entry.prefix.to_vec()));
        keys.insert((table, [entry.prefix, b"\0"].concat()));
        Ok(())
    })
    .unwrap();
    let mut questions = vec![Question::Tables, Question::Entries];
    for (table, key) in &keys {
        questions.push(Question::Versions(*table, key.clone()));
        for at in versions {
            questions.push(Question::Get(*table, key.clone(), *at));
            questions.push(Question::Has(*table, key.clone(), *at));
        }
    }
    for &at in versions {
        questions.push(Question::Many(keys.iter().cloned().collect(), at));
        for table in tier.tables().unwrap() {
            for direction in [Direction::Forward, Direction::Reverse] {
                let as_of = ReadWindow::as_of(Version(at));
                let between = ReadWindow::between(Version(at / 2), Version(at));
                questions.extend([as_of, between].map(|window| Question::Pages(table, window, direction, 3)));
                questions.extend([as_of, between].map(|window| Question::Scan(table, window, direction, 1000)));
            }
        }
    }
    questions
}

/// Whether two tiers say the same, and if not, where.
pub(crate) fn compare(found: &Arc<dyn TierStorage>, expected: &Arc<dyn TierStorage>, questions: &[Question]) {
    for question in questions {
        let (found, expected) = (ask(found, question), ask(expected, question).unwrap());
        match found {
            Ok(found) => assert!(found == expected, "{question:?}\nfound\n{found}\nexpected\n{expected}"),
            Err(error) => panic!("{question:?}: {error}"),
        }
    }
}

/// The damage that an error reports.
pub(crate) fn damage(error: &Error) -> Option<&Corruption> {
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(damage) = inner.downcast_ref::<Corruption>() {
            return Some(damage);
        }
        source = inner.source();
    }
    None
}

/// The sorted files in a directory.
pub(crate) fn sorted_files(disk: &SimDisk) -> Vec<FileId> {
    disk.files().into_iter().map(|(id, _)| id).filter(|id| matches!(id, FileId::Sst(_))).collect()
}

/// The sorted files of a tier.
pub(crate) fn live_files(tier: &WarmTier) -> Vec<FileId> {
    let mut live: Vec<FileId> = tier.files().iter().map(|file| FileId::parse(&file.name).unwrap()).collect();
    live.sort_unstable();
    live
}

/// The bytes of the newest manifest and its number.
pub(crate) fn manifest(disk: &SimDisk) -> (u64, Vec<u8>) {
    let number = |(id, _): (FileId, u64)| if let FileId::Manifest(number) = id { Some(number) } else { None };
    let number = disk.files().into_iter().filter_map(number).max().unwrap();
    (number, disk.file_bytes(FileId::Manifest(number)).unwrap())
}

/// Nothing is in the directory but the live files.
pub(crate) fn check_no_orphans(disk: &SimDisk, tier: &WarmTier) -> std::result::Result<(), String> {
    let (there, live) = (sorted_files(disk), live_files(tier));
    if there == live { Ok(()) } else { Err(format!("files {there:?} are there, and {live:?} are live")) }
}
