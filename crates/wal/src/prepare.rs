//! Making segment files, and filling them with zeros ahead of use.

use std::sync::Arc;

use thermocline_io::{Disk, DiskFile, DiskResult, FileId, Reason, SyncFailed, write_all_at};

use crate::layout::{SEGMENT_HEADER_SIZE, SegmentHeader};
use crate::to_len;

/// How much is filled with zeros at a time.
pub(crate) const FILL_CHUNK: u64 = 1 << 20;

/// How much zero-filled space may be on its way to the device: what a rotation may have to give up.
const SYNC_CHUNK: u64 = 8 << 20;

static ZEROS: [u8; 1 << 20] = [0; 1 << 20];

/// A file that was made for a segment and is not in use yet. Its entry in the directory is durable.
#[derive(Debug)]
pub(crate) struct Blank {
    pub(crate) number: u64,
    pub(crate) file: Arc<dyn DiskFile>,
    /// Filled with zeros up to here, from the end of the header on.
    pub(crate) prepared: u64,
    /// The zeros are durable up to here.
    durable: u64,
}

/// Gives out the numbers of segments and makes their files. Whoever holds it alone makes files, so a file that was made ahead of
/// time always has a higher number than the segment in use, and no other can get between.
#[derive(Debug)]
pub(crate) struct Preparer {
    disk: Arc<dyn Disk>,
    next_number: u64,
    ahead: Option<Blank>,
}

/// Why a file could not be made.
#[derive(Debug)]
pub(crate) enum MakeError {
    Disk(thermocline_io::DiskError),
    Sync(SyncFailed),
}

impl Preparer {
    pub(crate) fn new(disk: Arc<dyn Disk>, next_number: u64) -> Self {
        Self { disk, next_number, ahead: None }
    }

    /// The next segment's file: the one that was made ahead of time, or a new one.
    pub(crate) fn take(&mut self) -> Result<Blank, MakeError> {
        match self.ahead.take() {
            Some(blank) => Ok(blank),
            None => self.make(),
        }
    }

    fn make(&mut self) -> Result<Blank, MakeError> {
        let number = self.next_number;
        // Also if making it fails: the entry may be there all the same, and numbers are never used again.
        self.next_number += 1;
        let file = self.disk.create_new(FileId::Wal(number), Reason::WalPrepare).map_err(MakeError::Disk)?;
        if let Err(error) = self.make_durable(&*file) {
            self.discard(number);
            return Err(error);
        }
        Ok(Blank { number, file, prepared: SEGMENT_HEADER_SIZE, durable: SEGMENT_HEADER_SIZE })
    }

    fn make_durable(&self, file: &dyn DiskFile) -> Result<(), MakeError> {
        // The length of a header is durable before its bytes are written. So a file with content that is shorter was never ours, and
        // recovery can refuse it without taking a torn header for a foreign file.
        file.set_len(SEGMENT_HEADER_SIZE, Reason::WalPrepare).map_err(MakeError::Disk)?;
        file.sync_data(Reason::WalPrepare).map_err(MakeError::Sync)?;
        self.disk.sync_dir(Reason::WalPrepare).map_err(MakeError::Sync)
    }

    /// Begins a segment in a blank file: the header is durable when this returns. Nothing may be written behind it before.
    pub(crate) fn begin(blank: &mut Blank, header: &SegmentHeader) -> Result<(), MakeError> {
        if blank.prepared > blank.durable {
            // Zeros that are still on their way could be found as anything; behind a torn header that would look like damage. Syncing them
            // could take long, so they are given up.
            blank.file.set_len(blank.durable, Reason::WalPrepare).map_err(MakeError::Disk)?;
            blank.file.sync_data(Reason::WalPrepare).map_err(MakeError::Sync)?;
            blank.prepared = blank.durable;
        }
        write_all_at(&*blank.file, 0, &header.encode(), Reason::WalPrepare).map_err(MakeError::Disk)?;
        blank.file.sync_data(Reason::WalSync).map_err(MakeError::Sync)
    }

    /// Gives up the file that was made ahead of time.
    pub(crate) fn discard_ahead(&mut self) {
        if let Some(blank) = self.ahead.take() {
            self.discard(blank.number);
        }
    }

    /// Removes the file of a segment that could not be begun. Failing to is harmless: the next open removes it.
    pub(crate) fn discard(&self, number: u64) {
        if let Err(error) = self.disk.remove(FileId::Wal(number), Reason::WalRemove) {
            tracing::warn!(%error, "could not remove an unused log segment");
        }
    }

    /// Does one bounded piece of work towards a next segment of `size` bytes: whoever needs the segment meanwhile waits for no more
    /// than that.
    pub(crate) fn step(&mut self, size: u64) -> Result<Step, MakeError> {
        let Some(blank) = &mut self.ahead else {
            self.ahead = Some(self.make()?);
            return Ok(Step::Unfinished);
        };
        if blank.durable >= size {
            return Ok(Step::Ready);
        }
        let is_filled = blank.prepared >= size;
        if is_filled || blank.prepared - blank.durable >= SYNC_CHUNK {
            if let Err(failed) = blank.file.sync_data(Reason::WalPrepare) {
                // The file must not be used, and its number is spent: it is left for the next open to remove.
                self.ahead = None;
                return Err(MakeError::Sync(failed));
            }
            blank.durable = blank.prepared;
        } else {
            // On a full disk, less than a whole segment is still worth having; whoever appends meets the full disk.
            blank.prepared =
                fill(&*blank.file, blank.prepared, size.min(blank.prepared + FILL_CHUNK)).map_err(MakeError::Disk)?;
        }
        Ok(Step::Unfinished)
    }
}

/// What a step of preparation left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Unfinished,
    /// Nothing is left to do.
    Ready,
}

/// Writes zeros from `from` to `to`, and returns `to`.
pub(crate) fn fill(file: &dyn DiskFile, from: u64, to: u64) -> DiskResult<u64> {
    let mut at = from;
    while at < to {
        let len = to_len((to - at).min(FILL_CHUNK));
        write_all_at(file, at, ZEROS.get(..len).unwrap_or(&ZEROS), Reason::WalPrepare)?;
        at += crate::to_u64(len);
    }
    Ok(to)
}
