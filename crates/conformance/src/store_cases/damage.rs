//! A log that ends too early, or has bytes that nobody wrote. They hunt tails taken for records, records lost before the damage,
//! and damage that is read as if it were data.

use thermocline_io::{FileId, SimDisk};
use thermocline_store::{Durability, Store, StoreOptions};
use thermocline_tier::{ErrorKind, Result, Version};
use thermocline_wal::{Padding, Preallocate};

use crate::failure::{CaseFailure, CaseResult};
use crate::harness::{expect, expect_that};
use crate::store_backend::StoreBackend;
use crate::store_cases::ledger::Ledger;

/// The first bytes of a log file, of which every bit is flipped.
const HEADER_SIZE_BYTES: usize = 128;

/// A log without room between and behind its records, since every byte of it is tried; and nothing is flushed, so that the log is
/// what the store is opened from.
fn compact() -> StoreOptions {
    let mut options = StoreOptions { hot_budget_bytes: Some(u64::MAX), ..StoreBackend::options() };
    (options.log.padding, options.log.preallocate) = (Padding::None, Preallocate::No);
    options
}

/// A log of a few commits, as it is while its store is open, and where its last record begins and ends.
struct Sample {
    disk: SimDisk,
    ledger: Ledger,
    file: FileId,
    last_record: std::ops::Range<usize>,
}

impl Sample {
    fn new(backend: &StoreBackend) -> std::result::Result<Self, CaseFailure> {
        let disk = backend.disk();
        let store = backend.open(&disk, compact())?;
        let mut ledger = Ledger::new();
        ledger.commit(&store, &["a=first", "b=kept"], Durability::Sync)?;
        ledger.commit(&store, &["a=second", "c=gone"], Durability::Sync)?;
        ledger.clear(&store)?;
        ledger.commit(&store, &["c", "d=after the clear"], Durability::Sync)?;
        let (file, before) = log_of(&disk)?;
        ledger.commit(&store, &["a=last", "b", "e=new"], Durability::Sync)?;
        let (_, after) = log_of(&disk)?;
        let start = before.iter().zip(&after).position(|(old, new)| old != new).unwrap_or(before.len().min(after.len()));
        let is_written = |index: &usize| before.get(*index).copied().unwrap_or(0) != after[*index];
        let end = (start..after.len()).rev().find(is_written).map_or(start, |last| last + 1);
        expect_that(start < end, "a commit writes to the last log file")?;
        Ok(Self { disk: disk.duplicate(), ledger, file, last_record: start..end })
    }

    fn bytes(&self) -> Vec<u8> {
        self.disk.file_bytes(self.file).unwrap_or_default()
    }

    fn with_bytes(&self, bytes: &[u8]) -> SimDisk {
        let image = self.disk.duplicate();
        image.replace_file(self.file, bytes);
        image
    }

    fn last(&self) -> Version {
        self.ledger.last()
    }

    fn before_last(&self) -> Version {
        self.last().previous().unwrap_or_default()
    }

    /// Opens a log with another tail: all but the last commit must be there, that one all or not at all, and the store must go on.
    fn check_tail(&self, backend: &StoreBackend, bytes: &[u8], is_whole: bool, what: &str) -> CaseResult {
        let image = self.with_bytes(bytes);
        let least = if is_whole { self.last() } else { self.before_last() };
        let check = || -> CaseResult {
            let store = backend.open(&image, compact())?;
            self.ledger.check(&store, least)?;
            let next = store.commit(crate::store_cases::ledger::batch(&["z=next"]))?;
            expect_that(next.0 == store.at(Version::MAX)?.version().0, "a commit after the recovery is the latest state")?;
            drop(store);
            let store = backend.open(&image, compact())?;
            expect(|| "the last version after a second recovery".into(), &next.to_string(), &store.last_version().to_string())
        };
        check().map_err(|failure| failure.in_state(what))
    }
}

/// The last log file and its bytes.
fn log_of(disk: &SimDisk) -> std::result::Result<(FileId, Vec<u8>), CaseFailure> {
    let last = disk.files().into_iter().rev().map(|(file, _)| file).find(|file| matches!(file, FileId::Wal(_)));
    last.and_then(|file| disk.file_bytes(file).map(|bytes| (file, bytes)))
        .ok_or_else(|| CaseFailure::new("the store's directory", "a log file", "none"))
}

pub(crate) fn case_106_cut_anywhere_in_the_last_record(backend: &StoreBackend) -> CaseResult {
    let sample = Sample::new(backend)?;
    let bytes = sample.bytes();
    let end = sample.last_record.end;
    for cut in sample.last_record.clone().chain([end]) {
        let is_whole = cut == end;
        sample.check_tail(backend, &bytes[..cut], is_whole, &format!("cut at {cut} of {end} bytes"))?;
    }
    Ok(())
}

/// Bytes that follow from a number (`SplitMix64`).
fn garbage(seed: u64, len: usize) -> Vec<u8> {
    let next = |index: u64| {
        let mut mixed = seed.wrapping_add(index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    };
    (0..).map(next).flat_map(u64::to_le_bytes).take(len).collect()
}

pub(crate) fn case_107_tails_of_zeros_and_garbage(backend: &StoreBackend) -> CaseResult {
    const BEHIND_SIZE_BYTES: usize = 700;
    let sample = Sample::new(backend)?;
    let bytes = sample.bytes();
    let end = sample.last_record.end;
    for cut in sample.last_record.clone().chain([end]) {
        let whole = &bytes[..cut];
        let left = end - cut;
        let tails = [
            ("zeros to its end", vec![0; left]),
            ("zeros beyond its end", vec![0; left + BEHIND_SIZE_BYTES]),
            ("garbage to its end", garbage(cut as u64, left)),
            ("garbage beyond its end", garbage(cut as u64, left + BEHIND_SIZE_BYTES)),
        ];
        for (name, tail) in tails {
            let what = format!("cut at {cut} of {end} bytes, then {name}");
            sample.check_tail(backend, &[whole, &tail[..]].concat(), cut == end, &what)?;
        }
    }
    Ok(())
}

pub(crate) fn case_108_flipped_bit_is_never_a_wrong_value(backend: &StoreBackend) -> CaseResult {
    let sample = Sample::new(backend)?;
    let bytes = sample.bytes();
    let end = sample.last_record.end;
    let choices = garbage(108, bytes.len());
    for (index, choice) in choices.iter().enumerate().take(end) {
        let bits = if index < HEADER_SIZE_BYTES { 0..8 } else { u32::from(choice % 8)..u32::from(choice % 8) + 1 };
        for bit in bits {
            let mut damaged = bytes.clone();
            damaged[index] ^= 1 << bit;
            let opened = backend.open(&sample.with_bytes(&damaged), compact());
            let what = format!("bit {bit} of byte {index} flipped");
            sample.check_damaged(opened, sample.last_record.contains(&index)).map_err(|failure| failure.in_state(&what))?;
        }
    }
    Ok(())
}

impl Sample {
    /// Checks that damage was harmless, cut the last commit alone, or was refused with file and offset.
    fn check_damaged(&self, opened: Result<Store>, is_in_last: bool) -> CaseResult {
        let least = if is_in_last { self.before_last() } else { self.last() };
        let error = match opened {
            Ok(store) => return self.ledger.check(&store, least),
            Err(error) => error,
        };
        let text = error.to_string();
        match error.kind() {
            ErrorKind::Corruption => {
                const WANTED: &str = "Corruption that names file and offset";
                let is_placed = text.contains(&self.file.to_string()) && text.contains(" at byte ");
                expect(|| "the error".into(), WANTED, if is_placed { WANTED } else { &text })
            }
            ErrorKind::ForeignFile | ErrorKind::UnsupportedFormat => {
                expect_that(text.contains(&self.file.to_string()), &format!("the error names the file: {text}"))
            }
            _ => Err(CaseFailure::new("the error", "Corruption, ForeignFile or UnsupportedFormat", text)),
        }
    }
}
