//! Reading every byte of a log and checking it.

use std::sync::Arc;

use thermocline_format::{Corruption, FileKind, FileLabel, Purpose};
use thermocline_io::{Disk, DiskFile, Reason, read_up_to_at};
use thermocline_tier::{ErrorKind, Result, Version};

use crate::append::Shared;
use crate::chain::{Known, inspect, open_segment};
use crate::entry::{Genesis, LogBase, Replayed};
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
            Replayed::EnsureTable { .. } | Replayed::Note { .. } => {}
        }
        Ok(())
    }

    fn passed(&mut self, _header: &RecordHeader, _after: Position) {
        self.report.records += 1;
    }
}

/// Reads and checks every segment of a directory, without opening the log and without changing anything. Memory is bounded by the
/// longest commit. `base` is where the log begins, as for [`OpenLog`](crate::OpenLog::base); what is before is not looked at.
///
/// ```
/// use thermocline_io::MemoryDisk;
/// use thermocline_tier::ErrorKind;
///
/// let error = thermocline_wal::verify(&MemoryDisk::new(), None).unwrap_err();
/// assert!(matches!(error.kind(), ErrorKind::NotFound { .. }));
/// ```
///
/// # Errors
/// [`Corruption`](ErrorKind::Corruption) naming the first damaged place, [`ForeignFile`](ErrorKind::ForeignFile),
/// [`UnsupportedFormat`](ErrorKind::UnsupportedFormat), [`NotFound`](ErrorKind::NotFound) if there is no log, [`Io`](ErrorKind::Io).
pub fn verify(disk: &dyn Disk, base: Option<&LogBase>) -> Result<VerifyReport> {
    let known = Known { store: None, base: base.map(|base| base.number) };
    let directory = inspect(disk, Purpose::Read, Reason::Verify, known)?;
    let Some(chain) = directory.chain else {
        return Err(ErrorKind::NotFound { what: "a log in this directory".into() }.into());
    };
    let is_cut = chain.links.first().is_some_and(|first| first.header.previous.is_some());
    let (mut counter, mut decoder) = begin(base.map_or(Version::ZERO, |base| base.after), is_cut);
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

/// What counts and what decodes the records of a log behind this version.
fn begin(before: Version, is_cut: bool) -> (Counter, Decoder) {
    let report = VerifyReport { last_version: before, ..VerifyReport::default() };
    (Counter { report }, Decoder::new(before, is_cut))
}

/// Checks the segments of an open log up to where they are written now. Those that are cut meanwhile are left out.
pub(crate) fn verify_open(shared: &Shared) -> Result<VerifyReport> {
    let (before, segments): (Version, Vec<(SegmentHeader, Position, Version)>) = {
        let index = shared.index.read();
        (index.before(), index.segments().iter().map(|segment| (segment.header, segment.end, segment.last)).collect())
    };
    let is_cut = segments.first().is_some_and(|(header, ..)| header.previous.is_some());
    let (mut counter, mut decoder) = begin(before, is_cut);
    for (header, end, last) in segments {
        let file = match open_segment(&*shared.disk, header.number, Reason::Verify) {
            Err(_) if shared.index.read().end_of(header.number).is_none() => {
                decoder = Decoder::new(last, true);
                continue;
            }
            file => file?,
        };
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
