//! Which of the manifests in a directory counts.
//!
//! A new manifest is complete and durable, and so is its name, before the one whose place it takes is removed; and that one is gone
//! for good before the new one says anything that the old one does not. So the newest complete one counts. A newer one that is not
//! complete was never in use if the one that it was to replace is still there; if that one is gone, it is damaged.

use std::sync::Arc;

use thermocline_format::{Corruption, FormatError, Purpose, StoreId};
use thermocline_io::{Access, DirEntry, Disk, DiskFile, FileId, Reason};
use thermocline_tier::Result;

use super::layout::{Header, RecordHeader, RecordKind, label_of};
use super::scan::{Examined, Loaded, Source, check_store};
use crate::error::{corruption, disk_error, format_error};

/// What a directory holds of manifests.
#[derive(Debug)]
pub(super) struct Directory {
    /// The one that counts.
    pub(super) chosen: Option<Chosen>,
    /// The others, which nothing needs.
    pub(super) leftovers: Vec<u64>,
    /// Above the number of every manifest there is.
    pub(super) number_next: u64,
}

/// The manifest that counts.
#[derive(Debug)]
pub(super) struct Chosen {
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) loaded: Loaded,
}

/// Finds the manifest that counts, and reads it.
///
/// # Errors
/// `Corruption`, `ForeignFile`, `UnsupportedFormat`, `Io`.
pub(super) fn find(disk: &dyn Disk, store: Option<StoreId>, purpose: Purpose) -> Result<Directory> {
    let mut numbers = Vec::new();
    let mut has_sorted_files = false;
    for entry in disk.list(Reason::ManifestRead).map_err(disk_error)? {
        match entry {
            DirEntry::File(FileId::Manifest(number), _) => numbers.push(number),
            DirEntry::File(FileId::Sst(_), _) => has_sorted_files = true,
            DirEntry::File(..) | DirEntry::Foreign(_) => {}
        }
    }
    numbers.sort_unstable();
    let number_next = numbers.last().map_or(1, |last| last.saturating_add(1));

    let mut unfinished = Vec::new();
    let mut chosen = None;
    let mut older = numbers;
    while let Some(number) = older.pop() {
        let (file, examined) = examine(disk, number, store, purpose, &mut |_| {})?;
        match examined {
            Examined::Complete(loaded) => {
                chosen = Some(Chosen { file, loaded: *loaded });
                break;
            }
            Examined::Unfinished { header, why } => unfinished.push(Unfinished { number, header, why }),
        }
    }
    match &chosen {
        Some(chosen) => {
            check_unfinished(&unfinished, &chosen.loaded.header)?;
            check_older(disk, &older, &chosen.loaded.header)?;
        }
        None => check_none(&unfinished, has_sorted_files)?,
    }
    let mut leftovers = older;
    leftovers.extend(unfinished.iter().map(|manifest| manifest.number));
    Ok(Directory { chosen, leftovers, number_next })
}

/// A manifest that was never in use.
struct Unfinished {
    number: u64,
    header: Option<Header>,
    why: FormatError,
}

fn examine(
    disk: &dyn Disk,
    number: u64,
    store: Option<StoreId>,
    purpose: Purpose,
    visit: &mut dyn FnMut(&RecordHeader),
) -> Result<(Arc<dyn DiskFile>, Examined)> {
    let reason = Reason::ManifestRead;
    let file = disk.open(FileId::Manifest(number), Access::Read, reason).map_err(disk_error)?;
    let len = file.len().map_err(disk_error)?;
    let examined = Source { file: &*file, number, len, reason }.examine(store, purpose, visit)?;
    Ok((file, examined))
}

/// What was begun and not finished must have been begun to replace the manifest that counts, or it was in use once.
fn check_unfinished(unfinished: &[Unfinished], chosen: &Header) -> Result<()> {
    for manifest in unfinished {
        let Some(header) = &manifest.header else { continue };
        check_store(header, Some(chosen.store))?;
        if header.previous != Some(chosen.number) {
            return Err(format_error(manifest.why.clone()));
        }
    }
    Ok(())
}

/// Without a complete manifest: either there is none, or what is there is the beginning of a store's first.
fn check_none(unfinished: &[Unfinished], has_sorted_files: bool) -> Result<()> {
    let was_in_use = |manifest: &&Unfinished| manifest.header.is_some_and(|header| header.previous.is_some());
    let damaged = unfinished.iter().find(was_in_use).or_else(|| unfinished.first().filter(|_| has_sorted_files));
    match damaged {
        Some(manifest) => Err(format_error(manifest.why.clone())),
        None if has_sorted_files => {
            let damage = Corruption::new("the directory", 0, "manifest", "a manifest that lists the sorted files", "none");
            Err(corruption(damage))
        }
        None => Ok(()),
    }
}

/// Manifests below the one that counts are of the same store; and the one that it takes the place of must not have gone on
/// without it. What else may be wrong with them does not matter any more.
fn check_older(disk: &dyn Disk, older: &[u64], chosen: &Header) -> Result<()> {
    for &number in older {
        let mut contradiction = None;
        let mut visit = |record: &RecordHeader| {
            let is_last = record.sequence.saturating_add(1) == chosen.first_sequence;
            let is_beyond = record.sequence >= chosen.first_sequence && record.kind == RecordKind::Edit;
            if is_beyond || (is_last && record.checksum != chosen.chain) {
                contradiction = contradiction.or(Some(record.sequence));
            }
        };
        let Ok((_, Examined::Complete(loaded))) = examine(disk, number, None, Purpose::Read, &mut visit) else { continue };
        check_store(&loaded.header, Some(chosen.store))?;
        if let Some(sequence) = contradiction.filter(|_| chosen.previous == Some(number)) {
            let expected = format!("nothing in {} that contradicts it", label_of(number));
            let found = format!("a record of sequence {sequence} there that does");
            return Err(corruption(Corruption::new(chosen.label(), 72, "first sequence and chain", expected, found)));
        }
    }
    Ok(())
}
