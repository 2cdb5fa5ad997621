//! The one place that loops over short transfers. Every loop is bounded: each turn moves at least one byte or counts an
//! interruption.

use crate::disk::{DiskFile, DiskResult, Reason};
use crate::error::{DiskError, DiskErrorKind};

/// Interruptions in a row, without one byte moved, after which a transfer gives up.
const INTERRUPTIONS_MAX: u32 = 10_000;

/// Fills `buffer` from `offset` on. `buffer` may be empty.
///
/// # Errors
/// `UnexpectedEnd` with the offset where the file ended; `InvalidRange`; and what [`DiskFile::read_at`] reports. What `buffer` then
/// holds is not specified.
pub fn read_exact_at(file: &dyn DiskFile, offset: u64, buffer: &mut [u8], reason: Reason) -> DiskResult<()> {
    let wanted = buffer.len();
    let read = read_up_to_at(file, offset, buffer, reason)?;
    if read == wanted {
        return Ok(());
    }
    let end = offset.saturating_add(to_u64(read));
    let detail = format!("{wanted} bytes were asked for from offset {offset} on");
    Err(DiskError::new(DiskErrorKind::UnexpectedEnd, "read")
        .with_file(file.id())
        .with_offset(end)
        .with_reason(reason)
        .with_detail(detail))
}

/// Reads from `offset` on until `buffer` is full or the file ends, and returns how many bytes were read.
///
/// # Errors
/// `InvalidRange`, and what [`DiskFile::read_at`] reports.
pub fn read_up_to_at(file: &dyn DiskFile, offset: u64, buffer: &mut [u8], reason: Reason) -> DiskResult<usize> {
    check_range(file, "read", offset, buffer.len(), reason)?;
    let mut done = 0;
    let mut interruptions = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        let room = rest.len();
        match file.read_at(offset.saturating_add(to_u64(done)), rest, reason) {
            Ok(0) => break,
            Ok(read) => {
                done = done.saturating_add(read.min(room));
                interruptions = 0;
            }
            Err(error) => count_interruption(error, &mut interruptions)?,
        }
    }
    Ok(done)
}

/// Writes all of `bytes` at `offset`.
///
/// # Errors
/// `WriteZero` if the file system takes nothing without naming an error; `InvalidRange`; and what [`DiskFile::write_at`] reports.
/// A part may have been written; the error's offset tells how far it got.
pub fn write_all_at(file: &dyn DiskFile, offset: u64, bytes: &[u8], reason: Reason) -> DiskResult<()> {
    check_range(file, "write", offset, bytes.len(), reason)?;
    let mut done = 0;
    let mut interruptions = 0;
    while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
        let position = offset.saturating_add(to_u64(done));
        match file.write_at(position, rest, reason) {
            Ok(0) => {
                return Err(DiskError::new(DiskErrorKind::WriteZero, "write")
                    .with_file(file.id())
                    .with_offset(position)
                    .with_reason(reason));
            }
            Ok(written) => {
                done = done.saturating_add(written.min(rest.len()));
                interruptions = 0;
            }
            Err(error) => count_interruption(error, &mut interruptions)?,
        }
    }
    Ok(())
}

fn count_interruption(error: DiskError, interruptions: &mut u32) -> DiskResult<()> {
    *interruptions = interruptions.saturating_add(1);
    if error.kind() == DiskErrorKind::Interrupted && *interruptions < INTERRUPTIONS_MAX { Ok(()) } else { Err(error) }
}

fn check_range(file: &dyn DiskFile, operation: &'static str, offset: u64, len: usize, reason: Reason) -> DiskResult<()> {
    // The system's offsets are signed.
    let limit = i64::MAX.unsigned_abs();
    if offset.checked_add(to_u64(len)).is_some_and(|end| end <= limit) {
        return Ok(());
    }
    Err(DiskError::new(DiskErrorKind::InvalidRange, operation).with_file(file.id()).with_offset(offset).with_reason(reason))
}

/// A length in memory as a length in a file; `usize` has at most 64 bits on every platform that Rust supports.
pub(crate) fn to_u64(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}
