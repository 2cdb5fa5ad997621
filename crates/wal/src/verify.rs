//! Reading every byte of a log and checking it.

use std::sync::Arc;

use thermocline_format::{Corruption, FileKind, FileLabel, Purpose};
use thermocline_io::{Disk, DiskFile, Reason, read_up_to_at};
use thermocline_tier::{ErrorKind, Result, Version};

use crate::append::Shared;
use crate::chain::{inspect, open_segment};
use crate::entry::{Genesis, Replayed};
use crate::error::{corruption, disk_error, format_error};
use crate::layout::{Position, RecordHeader, SEGMENT_HEADER_SIZE, SegmentHeader};
use crate::replay::{Decoder, Sink};
use crate::report::VerifyReport;
use crate::{to_len, to_u64};

/// Counts what passes.
#[derive(Default)]
struct Counter {
    report: VerifyReport,
}

impl Sink for Counter {
    fn genesis(&mut self, _genesis: Genesis) -> Result<()> {
        Ok(())
    }

    fn record(&mut self, record: Replayed<'_>, _group: u64) -> Result<()> {
        match record {
            Replayed::Commit(commit) => {
                self.report.commits += 1;
                self.report.entries += to_u64(commit.batch.len());
                self.report.last_version = commit.version;
            }
            Replayed::PurgeTable { version, .. } => self.report.last_version = version,
            Replayed::EnsureTable { .. } => {}
        }
        Ok(())
    }

    fn passed(&mut self, _header: &RecordHeader, _after: Position) {
        self.report.records += 1;
    }
}

/// Reads and checks every segment of a directory, without opening the log and without changing anything. Memory is bounded by the
/// longest commit.
///
/// ```
/// use thermocline_io::MemoryDisk;
/// use thermocline_tier::ErrorKind;
///
/// let error = thermocline_wal::verify(&MemoryDisk::new()).unwrap_err();
/// assert!(matches!(error.kind(), ErrorKind::NotFound { .. }));
/// ```
///
/// # Errors
/// [`Corruption`](ErrorKind::Corruption) naming the first damaged place, [`ForeignFile`](ErrorKind::ForeignFile),
/// [`UnsupportedFormat`](ErrorKind::UnsupportedFormat), [`NotFound`](ErrorKind::NotFound) if there is no log, [`Io`](ErrorKind::Io).
pub fn verify(disk: &dyn Disk) -> Result<VerifyReport> {
    let directory = inspect(disk, Purpose::Read, Reason::Verify)?;
    let Some(chain) = directory.chain else {
        return Err(ErrorKind::NotFound { what: "a log in this directory".into() }.into());
    };
    let mut counter = Counter::default();
    let mut decoder = Decoder::new();
    let mut reached: Option<Position> = None;
    for link in &chain.links {
        crate::open::check_link(link, reached)?;
        let file = open_segment(disk, link.header.number, Reason::Verify)?;
        reached = Some(decoder.segment(&file, &link.header, link.end, Reason::Verify, &mut counter)?);
        counter.report.segments += 1;
        counter.report.size_bytes += link.end;
    }
    counter.report.discarded_bytes = chain.tail.discarded_bytes;
    Ok(counter.report)
}

/// Checks the segments of an open log up to where they are written now.
pub(crate) fn verify_open(shared: &Shared) -> Result<VerifyReport> {
    let segments: Vec<(SegmentHeader, Position, Version)> =
        shared.index.read().segments().iter().map(|segment| (segment.header, segment.end, segment.last)).collect();
    let mut counter = Counter::default();
    let mut decoder = Decoder::new();
    for (header, end, last) in segments {
        let file = open_segment(&*shared.disk, header.number, Reason::Verify)?;
        let label = FileLabel::numbered(FileKind::Wal, header.number);
        check_header(&file, &header)?;
        let reached = decoder.segment(&file, &header, end.offset, Reason::Verify, &mut counter)?;
        if reached != end || counter.report.last_version > last {
            let (expected, found) = (format!("chain {:#018x}", end.chain), format!("chain {:#018x}", reached.chain));
            return Err(corruption(Corruption::new(label, end.offset, "records", expected, found)));
        }
        counter.report.segments += 1;
        counter.report.size_bytes += end.offset;
    }
    Ok(counter.report)
}

fn check_header(file: &Arc<dyn DiskFile>, expected: &SegmentHeader) -> Result<()> {
    let mut bytes = vec![0; to_len(SEGMENT_HEADER_SIZE)];
    let read = read_up_to_at(&**file, 0, &mut bytes, Reason::Verify).map_err(disk_error)?;
    let bytes = bytes.get(..read).unwrap_or(&bytes);
    let found = SegmentHeader::decode(bytes, expected.number, Some(expected.store), Purpose::Read).map_err(format_error)?;
    if found == *expected {
        return Ok(());
    }
    let label = FileLabel::numbered(FileKind::Wal, expected.number);
    Err(corruption(Corruption::new(label, 64, "segment header", "what was written", "another header")))
}
