//! Sorted files with any content and right checksums, as somebody makes them who can write to a directory: whatever is read,
//! nothing may panic, run without end, or ask for memory far beyond the files. Answers may be wrong. The fuzz target calls the
//! same function.
//!
//! A file is taken as a chain of sealed frames: who changes a byte makes the checksum of its frame right again, and then that of
//! every frame that repeats it, up to the footer and the manifest.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use thermocline_format::{Envelope, FileKind, Salt, StoreId, checksum64, checksum128};
use thermocline_hot::HotTier;
use thermocline_io::{Disk, FileId, MemoryDisk, Reason, SimDisk, write_all_at};
use thermocline_tier::{
    BatchBuilder, Direction, DurableTier, EntryKind, ErrorKind, FixedSuffix, KeyRange, RangeBatch, RangeRequest, ReadWindow,
    Result, TierStorage, Version,
};
use thermocline_warm::{Compression, OpenWarm, WarmOptions, WarmTier, dump_sst};

pub(crate) const STORE: StoreId = StoreId([7; 16]);
const TRAILER_LEN: usize = 13;
const FOOTER_LEN: usize = 92;
const FOOTER_CHECKED_LEN: usize = 84;
/// The parts that the footer names: the index, the dictionary, the summary.
const PARTS: usize = 3;
pub(crate) const INDEX: usize = 0;
pub(crate) const DICTIONARY: usize = 1;
/// Where in a manifest its first record stands, and how long the record's header is.
const RECORD_AT: usize = 4096;
const RECORD_HEADER_LEN: usize = 72;
/// Keys that a scan may give for each byte of a file: a block of 120 takes at least 22 bytes of the index.
const KEYS_PER_BYTE: usize = 6;
/// Many keys may name the same history: after so many entries a visit has seen enough.
const ENTRIES_MAX: usize = 50_000;

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk::<4>()).map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()).map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

pub(crate) fn put(bytes: &mut [u8], at: usize, part: &[u8]) {
    bytes[at..at + part.len()].copy_from_slice(part);
}

/// A sorted file that can be changed and sealed again.
#[derive(Clone, Debug)]
pub(crate) struct Sealed {
    salt: Salt,
    pub(crate) bytes: Vec<u8>,
    /// Each frame, without its checksum.
    pub(crate) frames: Vec<Range<usize>>,
}

impl Sealed {
    /// A whole file, without damage. Its frames are found by their checksums alone, one behind the other.
    pub(crate) fn new(number: u64, bytes: Vec<u8>) -> Self {
        let salt = Salt::new(STORE, FileKind::Sst, number);
        let (mut frames, mut start) = (Vec::new(), 64);
        while start + FOOTER_LEN < bytes.len() {
            let is_end = |end: &usize| {
                let len = end - start;
                let raw_len = u32_at(&bytes, *end + 1) as usize;
                bytes[*end] <= 3
                    && (len..=len * 251).contains(&raw_len)
                    && checksum64(salt.at(start as u64), &bytes[start..end + 5]) == u64_at(&bytes, end + 5)
            };
            let end = (start..=(bytes.len() - FOOTER_LEN - TRAILER_LEN)).find(is_end);
            let end = end.unwrap_or_else(|| panic!("no frame begins at byte {start}"));
            frames.push(start..end + 5);
            start = end + TRAILER_LEN;
        }
        assert_eq!(start + FOOTER_LEN, bytes.len(), "frames and the footer fill the file");
        Self { salt, bytes, frames }
    }

    /// The frame that a part of the footer names.
    pub(crate) fn part(&self, part: usize) -> Option<usize> {
        let at = self.bytes.len() - FOOTER_LEN + 20 * part;
        let offset = u64_at(&self.bytes, at) as usize;
        self.frames.iter().position(|frame| frame.start == offset && u32_at(&self.bytes, at + 8) != 0)
    }

    /// The indexes and filters of the partitions: the frames whose checksums the index repeats.
    pub(crate) fn partition_parts(&self) -> Vec<usize> {
        let index = self.part(INDEX).map_or(&[][..], |index| self.payload(index));
        let is_named = |frame: &usize| {
            let checksum = &self.bytes[self.frames[*frame].end..][..8];
            index.windows(8).any(|window| window == checksum)
        };
        (0..self.frames.len()).filter(is_named).collect()
    }

    /// Makes the checksum of a frame right, and those of all frames that repeat it.
    pub(crate) fn seal(&mut self, changed: usize) {
        let mut due = vec![changed];
        // A frame is repeated by those above it: values by blocks, blocks by the index of their partition, that by the file's, that by the
        // footer.
        for _ in 0..16 {
            let Some(number) = due.pop() else { break };
            let frame = self.frames[number].clone();
            let (old, new) =
                (u64_at(&self.bytes, frame.end), checksum64(self.salt.at(frame.start as u64), &self.bytes[frame.clone()]));
            put(&mut self.bytes, frame.end, &new.to_le_bytes());
            for (other, frame) in self.frames.iter().enumerate() {
                let body = &mut self.bytes[frame.start..frame.end];
                let mut is_changed = false;
                for at in 0..body.len().saturating_sub(7) {
                    if old != new && body[at..at + 8] == old.to_le_bytes() {
                        put(body, at, &new.to_le_bytes());
                        is_changed = true;
                    }
                }
                if is_changed && other != number {
                    due.push(other);
                }
            }
            let footer = self.bytes.len() - FOOTER_LEN;
            for at in (0..PARTS).map(|part| footer + 20 * part + 12) {
                if u64_at(&self.bytes, at) == old {
                    put(&mut self.bytes, at, &new.to_le_bytes());
                }
            }
        }
        self.seal_footer();
    }

    fn seal_footer(&mut self) {
        let footer = self.bytes.len() - FOOTER_LEN;
        let checksum = checksum64(self.salt.at(footer as u64), &self.bytes[footer..footer + FOOTER_CHECKED_LEN]);
        put(&mut self.bytes, footer + FOOTER_CHECKED_LEN, &checksum.to_le_bytes());
    }

    /// The payload of a frame as it is stored.
    pub(crate) fn payload(&self, frame: usize) -> &[u8] {
        let Range { start, end } = self.frames[frame];
        &self.bytes[start..end - 5]
    }

    /// Puts another payload, uncompressed and of any length, in place of that of a frame behind the blocks.
    pub(crate) fn replace_part(&mut self, part: usize, payload: &[u8]) {
        let parts: Vec<Option<usize>> = (0..PARTS).map(|part| self.part(part)).collect();
        let Some(first) = parts.iter().flatten().min().copied() else { return };
        let payloads: Vec<Vec<u8>> = (0..PARTS)
            .map(|number| match parts[number] {
                _ if number == part => payload.to_vec(),
                Some(frame) => self.payload(frame).to_vec(),
                None => Vec::new(),
            })
            .collect();
        self.cut(first);
        self.end(&payloads);
    }

    /// Leaves only the frames before this one.
    pub(crate) fn cut(&mut self, first: usize) {
        self.bytes.truncate(self.frames[first].start);
        self.frames.truncate(first);
    }

    /// Adds a frame that is not compressed, and gives back its checksum.
    pub(crate) fn push(&mut self, payload: &[u8]) -> u64 {
        let start = self.bytes.len();
        self.bytes.extend(payload);
        self.bytes.push(0);
        self.bytes.extend((payload.len() as u32).to_le_bytes());
        let checksum = checksum64(self.salt.at(start as u64), &self.bytes[start..]);
        self.frames.push(start..self.bytes.len());
        self.bytes.extend(checksum.to_le_bytes());
        checksum
    }

    /// Adds the parts that the footer names, and the footer.
    pub(crate) fn end(&mut self, payloads: &[Vec<u8>]) {
        let (entries, mut footer) = (1_u64, Vec::new());
        for payload in payloads {
            let start = self.bytes.len();
            let checksum = if payload.is_empty() { 0 } else { self.push(payload) };
            footer.extend((start as u64).to_le_bytes());
            footer.extend((payload.len() as u32).to_le_bytes());
            footer.extend(checksum.to_le_bytes());
        }
        footer.extend(((self.bytes.len() + FOOTER_LEN) as u64).to_le_bytes());
        footer.extend(entries.to_le_bytes());
        footer.extend(b"THERMSST");
        footer.extend([0; 8]);
        self.bytes.extend(footer);
        self.seal_footer();
    }

    /// What the manifest must say about the file.
    pub(crate) fn identity(&self) -> (u64, u64) {
        (self.bytes.len() as u64, u64_at(&self.bytes, self.bytes.len() - 8))
    }
}

/// Changes what the first record of a manifest carries, which is all that counts then, and seals it.
fn edit_manifest(manifest: &mut Vec<u8>, number: u64, edit: impl FnOnce(&mut Vec<u8>)) {
    let salt = Salt::new(STORE, FileKind::Manifest, number);
    let start = RECORD_AT + RECORD_HEADER_LEN;
    let mut payload = manifest[start..start + u32_at(manifest, RECORD_AT) as usize].to_vec();
    edit(&mut payload);
    let record_len = (RECORD_HEADER_LEN + payload.len() + 16).next_multiple_of(4096);
    manifest.resize(start, 0);
    put(manifest, RECORD_AT, &(payload.len() as u32).to_le_bytes());
    put(manifest, RECORD_AT + 40, &checksum128(salt.at(start as u64), &payload).to_le_bytes());
    let checksum = checksum128(salt.at(RECORD_AT as u64), &manifest[RECORD_AT..RECORD_AT + 56]);
    put(manifest, RECORD_AT + 56, &checksum.to_le_bytes());
    manifest.extend(payload);
    manifest.resize(RECORD_AT + record_len - 16, 0);
    manifest.extend(checksum.to_le_bytes());
}

/// A directory with one sorted file.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    pub(crate) manifest: (u64, Vec<u8>),
    pub(crate) number: u64,
    pub(crate) file: Sealed,
}

impl Directory {
    /// From a disk on which a tier with one file was opened last.
    pub(crate) fn of(disk: &SimDisk) -> Self {
        let (mut manifest, mut file) = (None, None);
        for (id, _) in disk.files() {
            match id {
                FileId::Manifest(number) => manifest = disk.file_bytes(id).map(|bytes| (number, bytes)),
                FileId::Sst(number) => file = disk.file_bytes(id).map(|bytes| (number, Sealed::new(number, bytes))),
                _ => {}
            }
        }
        let (manifest, (number, file)) = (manifest.expect("a manifest"), file.expect("a sorted file"));
        Self { manifest, number, file }
    }

    /// The same with another file under the same name, which the manifest knows.
    pub(crate) fn with(&self, file: Sealed) -> Self {
        let (size, checksum) = file.identity();
        let described = self.described(|description| {
            put(description, 9, &size.to_le_bytes());
            put(description, 17, &checksum.to_le_bytes());
        });
        Self { file, ..described }
    }

    /// The same with a manifest that says something else of the file: its number, its level, its length, its checksum and so on.
    fn described(&self, edit: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut manifest = self.manifest.clone();
        let (size, checksum) = self.file.identity();
        edit_manifest(&mut manifest.1, manifest.0, |payload| {
            let is_file = |at: &usize| {
                u64_at(payload, *at) == self.number && u64_at(payload, at + 9) == size && u64_at(payload, at + 17) == checksum
            };
            let at = (0..payload.len()).find(is_file).expect("a file that the manifest names");
            let mut description = payload.split_off(at);
            edit(&mut description);
            payload.extend(description);
        });
        Self { manifest, number: self.number, file: self.file.clone() }
    }

    pub(crate) fn disk(&self) -> Arc<dyn Disk> {
        let disk = MemoryDisk::new();
        for (id, bytes) in [(FileId::Manifest(self.manifest.0), &self.manifest.1), (FileId::Sst(self.number), &self.file.bytes)] {
            let file = disk.create_new(id, Reason::Open).expect("an empty directory");
            write_all_at(&*file, 0, bytes, Reason::Open).expect("room in memory");
        }
        Arc::new(disk)
    }
}

/// Some partitions of some blocks.
fn options(compression: Compression) -> WarmOptions {
    let cache_size_bytes = 64 << 10;
    let (block_size_bytes, partition_blocks) = (1000, 2);
    let compression_flushed = compression;
    WarmOptions {
        cache_size_bytes,
        block_size_bytes,
        partition_blocks,
        compression_flushed,
        compression,
        ..WarmOptions::default()
    }
}

pub(crate) fn open(disk: Arc<dyn Disk>, compression: Compression) -> Result<WarmTier> {
    open_with(disk, options(compression))
}

fn open_with(disk: Arc<dyn Disk>, options: WarmOptions) -> Result<WarmTier> {
    WarmTier::open(OpenWarm { disk, store: STORE, options, is_read_only: false, migration: None })
}

/// Directories with a file of everything that a file can have; the last one has a dictionary.
pub(crate) fn samples() -> &'static [Directory] {
    static SAMPLES: OnceLock<Vec<Directory>> = OnceLock::new();
    SAMPLES.get_or_init(|| {
        let all = [Compression::None, Compression::Lz4, Compression::Zstd(3)];
        all.map(|compression| sample(compression, 40)).into_iter().chain([sample(Compression::Zstd(3), 6000)]).collect()
    })
}

fn sample(compression: Compression, keys: u64) -> Directory {
    let disk = SimDisk::new(1);
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let partition_blocks = if keys < 100 { 2 } else { WarmOptions::default().partition_blocks };
    let options = WarmOptions { partition_blocks, ..options(compression) };
    let tier = open_with(Arc::clone(&shared), options).expect("a new tier");
    let hot = HotTier::default();
    let versions = if keys < 100 { vec![1, 2, 3, 1 << 40] } else { vec![1] };
    for (round, version) in (0..).zip(versions) {
        let mut batch = BatchBuilder::new();
        for key in (0..keys).filter(|key| round == 0 || key % 3 == round) {
            let name = format!("key/{key:04}{}", if key % 4 == 0 { "-sfx" } else { "----" });
            let value = format!("value {} of {key}", key * 7919 % 1000);
            for table in [EntryKind::Multi, EntryKind::source(7)] {
                if (key + version) % 7 == 3 {
                    batch.remove(table, name.as_bytes()).expect("a short key");
                } else {
                    batch.put(table, name.as_bytes(), value.as_bytes()).expect("a short value");
                }
            }
        }
        if keys < 100 {
            batch.put(EntryKind::Multi, b"large-----", &[version as u8; 4100]).expect("a value");
            batch.put(EntryKind::Multi, &[b'w'; 300], b"").expect("a key");
        }
        hot.set(&batch.finish(&FixedSuffix(4), Version(version))).expect("room in memory");
    }
    if keys < 100 {
        // A history of several blocks.
        for version in 10..10 + 400_u64 {
            let mut batch = BatchBuilder::new();
            batch.put(EntryKind::Multi, b"old-----", format!("{version:090}").as_bytes()).expect("a value");
            hot.set(&batch.finish(&FixedSuffix(4), Version(version))).expect("room in memory");
        }
    }
    tier.absorb(&hot, thermocline_tier::Checkpoint::default()).expect("a flush");
    drop(tier);
    // The manifest written anew says it all in one record.
    drop(open(shared, compression).expect("the same tier"));
    Directory::of(&disk)
}

/// Reads all there is, in every way, and rewrites it. Errors are answers. Returns how many entries there are.
pub(crate) fn read_all(directory: &Directory) -> usize {
    drop(dump_sst(&directory.file.bytes, directory.number));
    let Ok(tier) = open(directory.disk(), Compression::None) else { return 0 };
    let tier = Arc::new(tier);
    let keys_max = KEYS_PER_BYTE * directory.file.bytes.len();
    let found = read(&tier, keys_max);
    drop(tier.verify());
    if found < ENTRIES_MAX && tier.compact(EntryKind::Multi, &KeyRange::all(), &|| {}).is_ok() {
        // Large values are taken over as they are stored, so this may still fail.
        drop(visit(&tier));
    }
    found
}

type Key = (EntryKind, Vec<u8>);

/// Counts the entries, and gives back some keys.
fn visit(tier: &Arc<WarmTier>) -> Result<(usize, Vec<Key>)> {
    let (mut entries, mut keys) = (0, Vec::new());
    let visited = tier.visit_entries(&mut |table, entry| {
        if entries % 97 == 0 {
            keys.push((table, entry.prefix.to_vec()));
        }
        entries += 1;
        if entries < ENTRIES_MAX { Ok(()) } else { Err(ErrorKind::Closed.into()) }
    });
    match visited {
        Err(error) if error.kind() != &ErrorKind::Closed => Err(error),
        _ => Ok((entries, keys)),
    }
}

fn read(tier: &Arc<WarmTier>, keys_max: usize) -> usize {
    let (found, mut keys) = visit(tier).unwrap_or_default();
    keys.truncate(20);
    keys.extend([&b"key/0004"[..], b"key/0039", b"old-", b"large"].map(|key| (EntryKind::Multi, key.to_vec())));
    for (table, key) in &keys {
        for at in [0, 2, 13, 200, u64::MAX] {
            drop(tier.get(*table, key, Version(at)));
        }
        drop(tier.get_all_versions(*table, key));
    }
    let is_large = keys_max > KEYS_PER_BYTE * 100_000;
    let (versions, size) = if is_large { (&[u64::MAX][..], 4000) } else { (&[2, 200, u64::MAX][..], 2) };
    for table in [EntryKind::Multi, EntryKind::source(7)].into_iter().take(if is_large { 1 } else { 2 }) {
        for direction in [Direction::Forward, Direction::Reverse] {
            for at in versions {
                let window = ReadWindow::as_of(Version(*at));
                let request = RangeRequest { table, range: KeyRange::all(), window, direction };
                scan(tier, request.clone(), size, keys_max);
                page(tier, request, size, keys_max);
            }
        }
    }
    found
}

fn scan(tier: &Arc<WarmTier>, request: RangeRequest, size: usize, keys_max: usize) {
    let Ok(mut scan) = Arc::clone(tier).scan(request) else { return };
    let (mut batch, mut keys) = (RangeBatch::new(), 0);
    while scan.next_batch(size, &mut batch).is_ok() && batch.has_more {
        keys += batch.len();
        assert!(keys <= keys_max, "a scan without end");
    }
}

fn page(tier: &Arc<WarmTier>, request: RangeRequest, size: usize, keys_max: usize) {
    let mut cursor = request.into_cursor();
    let mut keys = 0;
    while !cursor.is_exhausted() {
        let page = match cursor.request().direction {
            Direction::Forward => tier.range_next(&mut cursor, size),
            Direction::Reverse => tier.range_rev_next(&mut cursor, size),
        };
        let Ok(page) = page else { return };
        keys += page.len();
        assert!(keys <= keys_max, "pages without end");
    }
}

/// Takes bytes off the front; zeros where there are no more.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().map_or((0, self.0), |(first, rest)| (*first, rest));
        self.0 = rest;
        first
    }

    fn number(&mut self) -> usize {
        usize::from(u16::from_le_bytes([self.byte(), self.byte()]))
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.byte()).collect()
    }
}

/// Changes a file as the input says, seals it, and reads all of it. Returns how many entries it has then.
pub(crate) fn check(data: &[u8]) -> usize {
    let mut input = Input(data);
    // The one with the dictionary is large.
    let directory = &samples()[[0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 3][usize::from(input.byte() % 16)]];
    let mut file = directory.file.clone();
    for _ in 0..8 {
        if input.0.is_empty() {
            break;
        }
        change(&mut file, &mut input);
    }
    read_all(&directory.with(file))
}

fn change(file: &mut Sealed, input: &mut Input<'_>) {
    // Each kind of frame is met about as often.
    let choice = input.byte();
    let frame = match choice % 8 {
        0 => file.part(INDEX).unwrap_or(0),
        1 | 2 => {
            let parts = file.partition_parts();
            parts.get(input.number() % parts.len().max(1)).copied().unwrap_or(0)
        }
        3 => file.part(DICTIONARY).or(file.part(INDEX)).unwrap_or(0),
        _ => input.number() % file.frames.len(),
    };
    match choice / 8 % 16 {
        // A part of any content and length.
        0 => {
            let len = input.number() % 600;
            let payload = input.bytes(len);
            return file.replace_part(usize::from(choice / 128), &payload);
        }
        // Some bytes more, or fewer, within the index.
        1 => {
            let Some(index) = file.part(INDEX) else { return };
            let mut payload = file.payload(index).to_vec();
            let at = input.number() % payload.len().max(1);
            let len = usize::from(input.byte() % 32);
            let part = input.bytes(len);
            if choice >= 128 {
                payload.splice(at..at, part);
            } else {
                payload.drain(at..(at + len).min(payload.len()));
            }
            return file.replace_part(INDEX, &payload);
        }
        _ => {}
    }
    let Range { start, end } = file.frames[frame];
    // Codec and raw length are the last five bytes; what is near the front or the end matters most.
    let place = input.number();
    let at = match choice / 8 % 16 {
        2 => end - 1 - place % 5,
        3..6 => start + place % (end - start).min(128),
        _ => start + place % (end - start),
    };
    let len = [1, 1, 1, 2, 4, 8][usize::from(input.byte()) % 6].min(end - at);
    let bytes = match input.byte() {
        0 => vec![0; len],
        1 => vec![0xff; len],
        2 => vec![0x7f; len],
        _ => input.bytes(len),
    };
    put(&mut file.bytes, at, &bytes);
    file.seal(frame);
}

/// The envelope of a file, for those who replace it.
pub(crate) fn envelope(number: u64, store: StoreId) -> [u8; 64] {
    Envelope::new(FileKind::Sst, number, store).encode()
}

#[cfg(test)]
mod tests {
    use thermocline_tier::Error;

    use super::*;
    use crate::support::Random;

    /// Environment variable that multiplies how many inputs are tried.
    const SCALE: &str = "THERMOCLINE_HOSTILE_SCALE";
    const INPUTS: u64 = 1_500;

    #[test]
    fn sealing_what_was_not_changed_changes_nothing() {
        for sample in samples() {
            let mut file = sample.file.clone();
            (0..file.frames.len()).for_each(|frame| file.seal(frame));
            assert!(file.bytes == sample.file.bytes);
            let index = file.payload(file.part(INDEX).unwrap()).to_vec();
            file.replace_part(INDEX, &index);
            assert!(file.frames == sample.file.frames, "the same but for the count of entries");
            assert!(read_all(&sample.with(file)) > 100);
        }
        assert!(samples()[3].file.part(DICTIONARY).is_some(), "the last sample has a dictionary");
        assert!(samples()[0].file.partition_parts().len() >= 6, "three partitions at least");
        println!("{:?} bytes", samples().iter().map(|sample| sample.file.bytes.len()).collect::<Vec<_>>());
    }

    /// The first sample, not compressed, with two stretches of a frame exchanged.
    fn exchanged(frame: usize, first: Range<usize>, second: Range<usize>) -> Arc<WarmTier> {
        let mut file = samples()[0].file.clone();
        let start = file.frames[frame].start;
        for (one, other) in first.zip(second) {
            file.bytes.swap(start + one, start + other);
        }
        file.seal(frame);
        let tier = open(samples()[0].with(file).disk(), Compression::None).unwrap();
        Arc::new(tier)
    }

    fn is_corruption<T>(result: Result<T>) -> bool {
        result.is_err_and(|error| error.kind() == &ErrorKind::Corruption)
    }

    #[test]
    fn keys_out_of_order_end_pages_and_are_refused_by_rewrites() {
        // The block before the last index of a partition is of the second table; the offsets of its first two entries.
        let table = EntryKind::source(7);
        let parts = samples()[0].file.partition_parts();
        let tier = exchanged(parts[parts.len() - 2] - 1, 40..42, 42..44);
        assert!(is_corruption(tier.verify()));
        for (direction, size) in
            [Direction::Forward, Direction::Reverse].into_iter().flat_map(|direction| [(direction, 1), (direction, 3)])
        {
            let window = ReadWindow::as_of(Version::MAX);
            let mut cursor = RangeRequest { table, range: KeyRange::all(), window, direction }.into_cursor();
            let mut page = || match direction {
                Direction::Forward => tier.range_next(&mut cursor, size),
                Direction::Reverse => tier.range_rev_next(&mut cursor, size),
            };
            let end = (0..1000).map(|_| page()).find(|page| !matches!(page, Ok(page) if page.has_more));
            let end = end.expect("pages that come to an end");
            let is_named = |error: Error| error.kind() == &ErrorKind::Corruption && error.to_string().contains("sst-");
            assert!(end.map_or_else(is_named, |page| !page.has_more), "{direction:?} by {size}");
        }
        assert!(is_corruption(tier.visit_entries(&mut |_, _| Ok(()))));
        assert!(is_corruption(tier.compact(table, &KeyRange::all(), &|| {})));
    }

    #[test]
    fn versions_out_of_order_are_refused_by_rewrites() {
        // A history block that begins with a group of several versions: how far its first two are below the newest one.
        let file = &samples()[0].file;
        let is_group = |payload: &[u8]| payload.len() > 900 && payload[0] > 5 && payload[1..4] == [0, 2, 0];
        let frame = (0..file.frames.len()).find(|frame| is_group(file.payload(*frame))).unwrap();
        let tier = exchanged(frame, 4..8, 12..16);
        assert!(is_corruption(tier.verify()));
        assert!(is_corruption(tier.get_all_versions(EntryKind::Multi, b"old-")));
        assert!(is_corruption(tier.compact(EntryKind::Multi, &KeyRange::all(), &|| {})));
        assert_eq!(tier.files().len(), 1, "the file stays");
    }

    #[test]
    fn dictionary_that_is_none_is_refused() {
        let sample = &samples()[3];
        let mut file = sample.file.clone();
        let dictionary = file.part(DICTIONARY).unwrap();
        let start = file.frames[dictionary].start;
        assert_eq!(u32_at(&file.bytes, start), 0xec30_a437, "Zstandard's own magic");
        put(&mut file.bytes, start + 8, &[0xff; 100]);
        file.seal(dictionary);
        let tier = open(sample.with(file).disk(), Compression::None).unwrap();
        let error = tier.get(EntryKind::Multi, b"key/0004", Version::MAX).unwrap_err();
        assert!(error.kind() == &ErrorKind::Corruption && error.to_string().contains("dictionary"), "{error}");
    }

    #[test]
    fn frame_that_its_parent_does_not_name_is_refused_though_its_checksum_is_right() {
        // So it is with a block that was written to this place of a file of this number at another time.
        for sample in samples() {
            for (number, frame) in sample.file.frames.iter().enumerate() {
                let mut file = sample.file.clone();
                file.bytes[frame.start] ^= 1;
                let checksum = checksum64(file.salt.at(frame.start as u64), &file.bytes[frame.clone()]);
                put(&mut file.bytes, frame.end, &checksum.to_le_bytes());
                let directory = Directory { file, ..sample.clone() };
                let tier = open(directory.disk(), Compression::None).unwrap();
                let error = tier.verify().unwrap_err().to_string();
                assert!(error.contains("as its parent says"), "frame {number}: {error}");
            }
        }
    }

    #[test]
    fn value_that_cannot_be_decoded_is_found_by_verify() {
        let sample = &samples()[0];
        let mut file = sample.file.clone();
        let value = (0..file.frames.len()).find(|frame| file.payload(*frame).len() == 4100).unwrap();
        let codec = file.frames[value].end - 5;
        file.bytes[codec] = 1;
        file.seal(value);
        let tier = open(sample.with(file).disk(), Compression::None).unwrap();
        assert!(tier.get(EntryKind::Multi, b"key/0004", Version::MAX).unwrap().is_value());
        let error = tier.verify().unwrap_err();
        assert!(error.to_string().contains("compressed payload"), "{error}");
        assert!(is_corruption(tier.get_all_versions(EntryKind::Multi, b"large-")));
    }

    #[test]
    fn file_on_a_level_that_this_release_does_not_have_is_refused() {
        // Level 6 is the lowest one; a manifest can name 32.
        for level in [6, 7, 31] {
            let directory = samples()[0].described(|description| description[8] = level);
            match open(directory.disk(), Compression::None) {
                Ok(tier) => {
                    assert_eq!(level, 6);
                    assert!(tier.contains(EntryKind::Multi, b"key/0004", Version::MAX).unwrap());
                }
                Err(error) => assert!(level > 6 && error.kind() == &ErrorKind::Corruption, "level {level}: {error}"),
            }
        }
    }

    #[test]
    fn statistics_that_cannot_be_added_do_no_harm() {
        // The statistics of both tables: keys, entries, tombstones and user bytes, each behind its table.
        let huge = [&[0xff; 9][..], &[1]].concat();
        let directory = samples()[0].described(|description| {
            for table in [&[0, 0, 0, 0, 0][..], &[1, 7, 0, 0, 0]] {
                // Behind the two keys, which begin with tables too.
                let is_table = |at: &usize| {
                    description[*at..].starts_with(table) && description[at + 5..at + 9].iter().all(|byte| *byte != 0)
                };
                let at = (57..description.len() - 9).rfind(is_table).expect("statistics of the table");
                // Two bytes for each of entries and user bytes, one for the others, if there are as many as a sample has.
                let mut end = at + 5;
                for _ in 0..4 {
                    end += description[end..].iter().position(|byte| *byte < 0x80).expect("the end of a varint") + 1;
                }
                description.splice(at + 5..end, [&[1][..], &huge, &[0], &huge].concat());
            }
        });
        let tier = Arc::new(open(directory.disk(), Compression::None).expect("possible numbers"));
        assert!(tier.stats().tables.len() == 2 && !format!("{tier:?}").is_empty());
        drop(tier.compact(EntryKind::Multi, &KeyRange::all(), &|| {}));
    }

    #[test]
    fn no_bytes_with_right_checksums_do_harm() {
        let scale: u64 = std::env::var(SCALE).ok().and_then(|text| text.parse().ok()).unwrap_or(1);
        let mut random = Random(5);
        let (mut accepted, mut failures) = (0, Vec::new());
        for _ in 0..INPUTS * scale {
            let len = 8 + random.below(16) as usize;
            let data = random.bytes(len);
            match std::panic::catch_unwind(|| check(&data)) {
                Ok(rows) => accepted += u64::from(rows > 0),
                Err(_) => failures.push(data),
            }
        }
        println!("{} changed files: {accepted} gave entries, the others were refused", INPUTS * scale);
        assert!(failures.is_empty(), "{} failures, the first: {:?}", failures.len(), failures.first());
        assert!(accepted > INPUTS * scale / 10, "most changes get past the checksums");
    }
}
