//! The manifest: which sorted files are live, what they hold, and what belongs to the tier as a whole.
//!
//! A manifest is a file of checksummed records: a snapshot of the [`State`], then an [`Edit`] for each change. An edit is durable
//! when [`Manifest::commit`] returns, and after a crash either all of it is there or nothing. When the file has grown, and
//! whenever a tier is opened for writing, a new file with a new snapshot takes its place.
//!
//! Rules that make this safe, whatever happens between two of them:
//!
//! 1. A page is written once. Every record is a number of whole pages, so no write can harm what another made durable.
//! 2. Nothing is written behind a write that failed: the next commit begins a new file.
//! 3. A file of which a sync failed is never written or synced again: the manifest is poisoned, and opening it finds out what is
//!    there.
//! 4. A new file's length, its header and its snapshot are made durable in this order, then its name; then the old file is removed,
//!    durably; only then is anything written to the new file that the old one does not say.
//! 5. Behind each edit, once it is durable, goes a witness: a record that says so. It is not synced, but the next edit makes it
//!    durable, and so does the system when it likes. From then on damage to the edit cannot be taken for a write that did not
//!    survive.
//! 6. Nothing that was found by opening is trusted to be durable because it can be read: it is written anew first.
//!
//! What [`scan`] does with bytes that are not as they should be follows from these rules.

mod directory;
mod dump;
mod layout;
mod payload;
mod scan;
mod state;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use thermocline_format::{Purpose, StoreId};
use thermocline_io::{Disk, DiskError, DiskFile, FileId, Reason, SyncFailed, write_all_at};
use thermocline_tier::{Error, ErrorKind, Result};

use self::directory::{Chosen, Directory};
use self::layout::{
    Header, PAGE_SIZE, PAYLOAD_SIZE_BYTES_MAX, Position, RECORD_HEADER_LEN, RecordKind, begin_record, seal_record,
};
use self::scan::{Examined, Source};
use crate::error::{corruption, disk_error, sync_error};

pub use self::dump::{dump_manifest, dump_manifest_part, manifest_format_tables};
pub(crate) use self::state::{Edit, LEVEL_MAX, State};

/// A manifest is not written anew before it is this long, in bytes.
const REWRITE_SIZE_BYTES_MIN: u64 = 1 << 20;
/// A manifest is written anew when it is this many times as long as it was with its snapshot alone.
const REWRITE_GROWTH: u64 = 4;

/// An open manifest.
#[derive(Debug)]
pub(crate) struct Manifest {
    disk: Arc<dyn Disk>,
    file: Arc<dyn DiskFile>,
    header: Header,
    /// Behind the last record that was written.
    end: Position,
    /// Behind the last record that is known to be durable. Of a manifest that was opened for reading, behind the last one it has.
    durable: Position,
    /// The number of the next file. Numbers are spent also by files that could not be made.
    number_next: u64,
    /// Manifests that nothing needs, to be removed.
    leftovers: Vec<u64>,
    is_read_only: bool,
    /// Nothing more may be written to this file.
    is_sealed: bool,
    /// The first sync that failed.
    poison: Option<Error>,
    /// A commit is under way, or has panicked: then it is not known what the file says.
    is_committing: bool,
    /// How many edits are behind the snapshot: they may name what the state does not any more.
    edits: u64,
    /// It is written anew when it is this long, in bytes.
    rewrite_at: u64,
    rewrite_size_bytes_min: u64,
    written_bytes: u64,
}

/// Why something could not be written.
#[derive(Debug)]
enum WriteError {
    /// Nothing was changed that anybody could notice.
    Refused(Error),
    /// It is not known what is durable.
    Sync(SyncFailed),
}

impl From<DiskError> for WriteError {
    fn from(error: DiskError) -> Self {
        Self::Refused(disk_error(error))
    }
}

impl From<SyncFailed> for WriteError {
    fn from(failed: SyncFailed) -> Self {
        Self::Sync(failed)
    }
}

impl WriteError {
    fn into_error(self) -> Error {
        match self {
            Self::Refused(error) => error,
            Self::Sync(failed) => sync_error(failed),
        }
    }
}

impl Manifest {
    /// Opens the newest complete manifest of the directory and gives back what it says; `None` if there is none, or only the
    /// beginning of a store's very first, and no sorted file. With `store`, it must be that store's.
    ///
    /// Unless it is opened for reading only, what was found is in a new file when this returns, and durable. The caller holds the
    /// directory's lock.
    ///
    /// # Errors
    /// [`Corruption`](ErrorKind::Corruption) with a [`thermocline_format::Corruption`] as its source, also if there are sorted
    /// files and no complete manifest; [`ForeignFile`](ErrorKind::ForeignFile),
    /// [`UnsupportedFormat`](ErrorKind::UnsupportedFormat), [`DiskFull`](ErrorKind::DiskFull), [`Io`](ErrorKind::Io). Nothing is
    /// lost then.
    pub(crate) fn open(disk: Arc<dyn Disk>, store: Option<StoreId>, is_read_only: bool) -> Result<Option<(Self, State)>> {
        let purpose = if is_read_only { Purpose::Read } else { Purpose::Write };
        let Directory { chosen, leftovers, number_next } = directory::find(&*disk, store, purpose)?;
        let Some(Chosen { file, loaded }) = chosen else { return Ok(None) };
        if let Some(tear) = &loaded.tear {
            let offset = loaded.end.offset;
            tracing::warn!(file = %loaded.header.label(), offset, %tear, "the end of the manifest did not survive and was cut");
        }
        let mut manifest = Self {
            disk,
            file,
            header: loaded.header,
            end: loaded.end,
            durable: loaded.end,
            number_next,
            leftovers,
            is_read_only,
            is_sealed: true,
            poison: None,
            is_committing: false,
            edits: 0,
            rewrite_at: 0,
            rewrite_size_bytes_min: REWRITE_SIZE_BYTES_MIN,
            written_bytes: 0,
        };
        if !is_read_only {
            manifest.rewrite(&loaded.state).map_err(WriteError::into_error)?;
        }
        Ok(Some((manifest, loaded.state)))
    }

    /// Makes the manifest of a new store, with the empty state. It is durable when this returns.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) if there is a manifest already, and as [`open`](Self::open).
    pub(crate) fn create(disk: Arc<dyn Disk>, store: StoreId) -> Result<Self> {
        let Directory { chosen, mut leftovers, number_next } = directory::find(&*disk, Some(store), Purpose::Write)?;
        if chosen.is_some() {
            return Err(ErrorKind::InvalidArgument { what: "the directory has a manifest already".into() }.into());
        }
        let header = Header { store, number: number_next, previous: None, first_sequence: 1, chain: 0 };
        let (file, end) = write_file(&*disk, &header, &State::default(), &mut leftovers).map_err(WriteError::into_error)?;
        let mut manifest = Self {
            disk,
            file,
            header,
            end,
            durable: end,
            number_next: number_next.saturating_add(1),
            leftovers,
            is_read_only: false,
            is_sealed: false,
            poison: None,
            is_committing: false,
            edits: 0,
            rewrite_at: 0,
            rewrite_size_bytes_min: REWRITE_SIZE_BYTES_MIN,
            written_bytes: end.offset,
        };
        manifest.plan_rewrite();
        manifest.settle().map_err(WriteError::into_error)?;
        Ok(manifest)
    }

    /// Appends an edit and makes it durable. `state` is the state after it, as [`State::apply`] has made it, for when the
    /// manifest is written anew.
    ///
    /// # Errors
    /// After [`DiskFull`](ErrorKind::DiskFull), [`Io`](ErrorKind::Io) and [`LimitExceeded`](ErrorKind::LimitExceeded) nothing has
    /// changed: the edit will never be found, and the next one can be committed when the cause is gone. After a failed sync, and
    /// from then on, [`Poisoned`](ErrorKind::Poisoned) with that failure as its source: opening the manifest again finds out
    /// whether the edit is there. [`InvalidArgument`](ErrorKind::InvalidArgument) for files and keys that cannot be;
    /// [`Unsupported`](ErrorKind::Unsupported) if it was opened for reading.
    pub(crate) fn commit(&mut self, edit: &Edit, state: &State) -> Result<()> {
        self.check_writable()?;
        self.is_committing = true;
        let committed = self.commit_checked(edit, state);
        self.is_committing = false;
        committed
    }

    /// Writes the manifest anew if it holds more than the state: keys of files that are gone, and of versions that were dropped.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub(crate) fn forget_edits(&mut self, state: &State) -> Result<()> {
        if self.edits == 0 {
            return Ok(());
        }
        self.check_writable()?;
        self.rewrite(state).map_err(|error| self.fail(error))
    }

    fn commit_checked(&mut self, edit: &Edit, state: &State) -> Result<()> {
        // What could be written but not be read back would be the end of the store.
        edit.check().map_err(|what| ErrorKind::InvalidArgument { what })?;
        if self.is_sealed {
            return self.rewrite(state).map_err(|error| self.fail(error));
        }
        self.append(edit).map_err(|error| self.fail(error))?;
        self.witness();
        if self.end.offset >= self.rewrite_at {
            // The edit is durable, whatever comes of this.
            if let Err(error) = self.rewrite(state) {
                let error = self.fail(error);
                tracing::warn!(%error, "could not write the manifest anew");
                self.rewrite_at = self.end.offset.saturating_add(self.rewrite_size_bytes_min);
            }
        }
        Ok(())
    }

    /// Reads the manifest's file and checks every byte that is known to be durable. Returns how many files and bytes were read.
    ///
    /// # Errors
    /// [`Corruption`](ErrorKind::Corruption), [`Io`](ErrorKind::Io).
    pub(crate) fn verify(&self) -> Result<(u64, u64)> {
        let len = self.durable.offset;
        let source = Source { file: &*self.file, number: self.header.number, len, reason: Reason::Verify };
        match source.examine(Some(self.header.store), Purpose::Read, &mut |_| {})? {
            Examined::Complete(loaded) if loaded.end == self.durable && loaded.header == self.header => Ok((1, len)),
            Examined::Complete(loaded) => Err(corruption(loaded.tear.unwrap_or_else(|| {
                let (expected, found) = (format!("records to byte {len}"), format!("{} bytes", loaded.end.offset));
                thermocline_format::Corruption::new(self.header.label(), loaded.end.offset, "record", expected, found)
            }))),
            Examined::Unfinished { why, .. } => Err(crate::error::format_error(why)),
        }
    }

    /// How many bytes were written since it was opened.
    pub(crate) fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    /// From the next rewrite on, the manifest is not written anew before it is this long, in bytes.
    #[cfg(test)]
    fn set_rewrite_size_bytes_min(&mut self, bytes: u64) {
        self.rewrite_size_bytes_min = bytes;
        self.rewrite_at = self.rewrite_at.min(bytes);
    }

    /// Whether an edit could be committed.
    ///
    /// # Errors
    /// As [`commit`](Self::commit): [`Poisoned`](ErrorKind::Poisoned), [`Unsupported`](ErrorKind::Unsupported).
    pub(crate) fn check_writable(&self) -> Result<()> {
        if let Some(cause) = &self.poison {
            return Err(Error::with_source(ErrorKind::Poisoned, cause.clone()));
        }
        if self.is_committing {
            return Err(Error::with_source(ErrorKind::Poisoned, "a commit to the manifest panicked"));
        }
        if self.is_read_only {
            return Err(ErrorKind::Unsupported { what: "writing to a manifest that was opened for reading".into() }.into());
        }
        Ok(())
    }

    /// The error of a write for the caller. A failed sync poisons the manifest.
    fn fail(&mut self, error: WriteError) -> Error {
        match error {
            WriteError::Refused(error) => error,
            WriteError::Sync(failed) => self.poison(failed),
        }
    }

    /// After a failed sync, of this file or of the names of those that it is to list, nothing is written any more.
    pub(crate) fn poison(&mut self, failed: SyncFailed) -> Error {
        let cause = sync_error(failed);
        tracing::error!(error = %cause, "the manifest is read-only from now on");
        let first = self.poison.get_or_insert(cause);
        Error::with_source(ErrorKind::Poisoned, first.clone())
    }

    fn append(&mut self, edit: &Edit) -> std::result::Result<(), WriteError> {
        let mut writer = begin_record();
        payload::write_edit(&mut writer, edit);
        check_payload(writer.len()).map_err(WriteError::Refused)?;
        self.edits += 1;
        self.write(writer, RecordKind::Edit)?;
        self.file.sync_data(Reason::ManifestWrite)?;
        self.durable = self.end;
        Ok(())
    }

    /// Says in the file that all of it is durable. Nobody needs this to have worked.
    fn witness(&mut self) {
        if let Err(error) = self.write(begin_record(), RecordKind::Witness) {
            tracing::debug!(%error, "could not write a witness record to the manifest");
        }
    }

    /// Writes a record behind the others. If that fails, nothing is written behind it any more.
    fn write(&mut self, writer: thermocline_format::Writer, kind: RecordKind) -> std::result::Result<(), DiskError> {
        let (bytes, after) = seal_record(writer, &self.header, self.end, kind, self.durable.offset);
        if let Err(error) = write_all_at(&*self.file, self.end.offset, &bytes, Reason::ManifestWrite) {
            self.is_sealed = true;
            return Err(error);
        }
        self.written_bytes += to_u64(bytes.len());
        self.end = after;
        Ok(())
    }

    /// Writes `state` to a new file, which takes the place of this one.
    fn rewrite(&mut self, state: &State) -> std::result::Result<(), WriteError> {
        let number = self.number_next;
        // Also if making it fails: the name may be there all the same.
        self.number_next = number.saturating_add(1);
        let Position { sequence: first_sequence, chain, .. } = self.durable;
        let header = Header { number, previous: Some(self.header.number), first_sequence, chain, ..self.header };
        let (file, end) = write_file(&*self.disk, &header, state, &mut self.leftovers)?;
        self.written_bytes += end.offset;
        self.leftovers.push(self.header.number);
        self.file = file;
        self.header = header;
        self.end = end;
        self.durable = end;
        (self.is_sealed, self.edits) = (false, 0);
        self.plan_rewrite();
        self.settle()
    }

    fn plan_rewrite(&mut self) {
        self.rewrite_at = self.end.offset.saturating_mul(REWRITE_GROWTH).max(self.rewrite_size_bytes_min);
    }

    /// Removes the manifests that this one has replaced, so that none of them comes back, and says in this one that it is durable.
    fn settle(&mut self) -> std::result::Result<(), WriteError> {
        let had_leftovers = !self.leftovers.is_empty();
        let disk = &*self.disk;
        self.leftovers.retain(|number| !remove(disk, *number));
        if had_leftovers {
            disk.sync_dir(Reason::ManifestRemove)?;
        }
        self.witness();
        Ok(())
    }
}

/// Removes a manifest. One that cannot be removed is harmless: it is tried again with the next.
fn remove(disk: &dyn Disk, number: u64) -> bool {
    match disk.remove(FileId::Manifest(number), Reason::ManifestRemove) {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(%error, "could not remove an unused manifest");
            false
        }
    }
}

/// Makes the file of a new manifest, with a snapshot of `state`; it and its name are durable when this returns. Returns the file
/// and where the snapshot ends. A file that could not be finished and not be removed is added to `leftovers`.
fn write_file(
    disk: &dyn Disk,
    header: &Header,
    state: &State,
    leftovers: &mut Vec<u64>,
) -> std::result::Result<(Arc<dyn DiskFile>, Position), WriteError> {
    let mut writer = begin_record();
    payload::write_snapshot(&mut writer, state);
    check_payload(writer.len()).map_err(WriteError::Refused)?;
    let (snapshot, end) = seal_record(writer, header, header.start(), RecordKind::Snapshot, layout::RECORDS_OFFSET);

    let file = disk.create_new(FileId::Manifest(header.number), Reason::ManifestWrite)?;
    let write = || {
        // In this order, so that a file with content behind a bad header, and one with content that is shorter than a header, are
        // known to be damaged or not ours.
        file.set_len(PAGE_SIZE, Reason::ManifestWrite)?;
        file.sync_data(Reason::ManifestWrite)?;
        write_all_at(&*file, 0, &header.encode(), Reason::ManifestWrite)?;
        file.sync_data(Reason::ManifestWrite)?;
        write_all_at(&*file, header.start().offset, &snapshot, Reason::ManifestWrite)?;
        file.sync_data(Reason::ManifestWrite)?;
        disk.sync_dir(Reason::ManifestWrite)?;
        Ok(())
    };
    if let Err(error) = write() {
        // After a failed sync it is not known what this file is, so it stays.
        if matches!(error, WriteError::Refused(_)) && !remove(disk, header.number) {
            leftovers.push(header.number);
        }
        return Err(error);
    }
    Ok((file, end))
}

/// Refuses what could not be read back.
fn check_payload(record_len: usize) -> Result<()> {
    let found = to_u64(record_len.saturating_sub(RECORD_HEADER_LEN));
    let max = u64::from(PAYLOAD_SIZE_BYTES_MAX);
    if found <= max {
        return Ok(());
    }
    Err(ErrorKind::LimitExceeded { what: "size of a manifest record in bytes", found, max }.into())
}

/// A length in memory as a length in a file; `usize` has at most 64 bits on every platform that Rust supports.
fn to_u64(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

/// A length in a file as one in memory. What is too long for memory stays too long.
fn to_len(len: u64) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}
