//! Reading the records of one segment in order, and looking for evidence behind the place where they stop.

use std::ops::Range;
use std::sync::Arc;

use thermocline_format::{Corruption, FileKind, FileLabel, FormatError, Salt};
use thermocline_io::{DiskFile, Reason, read_up_to_at};
use thermocline_tier::Result;

use crate::decision::{Stop, TailEvidence};
use crate::error::disk_error;
use crate::layout::{
    HeaderRead, Position, RECORD_HEADER_LEN, RECORD_HEADER_SIZE, RecordHeader, RecordKind, SEGMENT_HEADER_SIZE, SegmentHeader,
    chain_after,
};
use crate::options::Padding;
use crate::{to_len, to_u64};

/// How much is read at a time, unless a record is longer.
const READ_LEN: usize = 256 << 10;

/// A sliding view of a file.
#[derive(Debug)]
struct Window {
    file: Arc<dyn DiskFile>,
    reason: Reason,
    /// Nothing is read from here on.
    limit: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    /// The bytes from `offset` on: `wanted` of them, fewer only if the limit or the file's end comes first. Memory grows with what is
    /// really there.
    fn get(&mut self, offset: u64, wanted: usize) -> Result<&[u8]> {
        let wanted = wanted.min(to_len(self.limit.saturating_sub(offset)));
        let from = offset.checked_sub(self.start).map_or(usize::MAX, to_len);
        if from.saturating_add(wanted) > self.bytes.len() {
            self.refill(offset, from, wanted)?;
        }
        let from = to_len(offset.saturating_sub(self.start));
        let rest = self.bytes.get(from..).unwrap_or_default();
        Ok(rest.get(..wanted).unwrap_or(rest))
    }

    fn refill(&mut self, offset: u64, from: usize, wanted: usize) -> Result<()> {
        if from < self.bytes.len() {
            self.bytes.drain(..from);
        } else {
            self.bytes.clear();
        }
        self.start = offset;
        let kept = self.bytes.len();
        let target = wanted.max(READ_LEN).min(to_len(self.limit.saturating_sub(offset))).max(kept);
        self.bytes.resize(target, 0);
        let room = self.bytes.get_mut(kept..).unwrap_or_default();
        let read = read_up_to_at(&*self.file, offset.saturating_add(to_u64(kept)), room, self.reason).map_err(disk_error)?;
        self.bytes.truncate(kept.saturating_add(read));
        Ok(())
    }
}

/// Reads records from a segment, from a given place on.
#[derive(Debug)]
pub(crate) struct Scanner {
    window: Window,
    label: FileLabel,
    salt: Salt,
    padding: Padding,
    position: Position,
    /// The last record did not end its group.
    is_group_open: bool,
}

/// What the scanner met.
#[derive(Debug)]
pub(crate) enum Scanned<'a> {
    Record {
        header: RecordHeader,
        offset: u64,
        payload: &'a [u8],
    },
    /// Zeros, or the limit.
    End,
    /// No good record.
    Broken(Corruption),
    /// A record that no writer writes here.
    Impossible(FormatError),
}

impl Scanner {
    /// A scanner of the segment's records up to `limit`, or the file's end.
    pub(crate) fn new(file: Arc<dyn DiskFile>, header: &SegmentHeader, limit: u64, reason: Reason) -> Self {
        Self {
            window: Window { file, reason, limit, start: 0, bytes: Vec::new() },
            label: FileLabel::numbered(FileKind::Wal, header.number),
            salt: header.salt(),
            padding: header.padding,
            position: header.start(),
            is_group_open: false,
        }
    }

    /// The scanner, going on at another place between two records.
    pub(crate) fn starting_at(mut self, position: Position) -> Self {
        self.position = position;
        self
    }

    /// Where the next record is expected.
    pub(crate) fn position(&self) -> Position {
        self.position
    }

    pub(crate) fn label(&self) -> FileLabel {
        self.label
    }

    /// Reads the next record and checks it.
    ///
    /// # Errors
    /// Only if the file cannot be read; what is wrong with the bytes is an answer.
    pub(crate) fn next(&mut self) -> Result<Scanned<'_>> {
        let at = self.position;
        let (label, salt) = (self.label, self.salt);
        if at.offset >= self.window.limit {
            return Ok(Scanned::End);
        }
        let header = match RecordHeader::read(self.window.get(at.offset, RECORD_HEADER_LEN)?, label, salt, at.offset) {
            HeaderRead::Valid(header) => header,
            HeaderRead::Empty => return Ok(Scanned::End),
            HeaderRead::Broken(damage) => return Ok(Scanned::Broken(damage)),
            HeaderRead::Impossible(error) => return Ok(Scanned::Impossible(error)),
        };
        if header.sequence != at.sequence {
            let (expected, found) = (at.sequence.to_string(), header.sequence.to_string());
            let damage = Corruption::new(label, at.offset.saturating_add(8), "record sequence", expected, found);
            return Ok(Scanned::Impossible(damage.into()));
        }
        if !header.kind.is_history() && (self.is_group_open || !header.flags.ends_group) {
            let damage = Corruption::new(
                label,
                at.offset.saturating_add(4),
                "record kind",
                "a record of its own group",
                "one among others",
            );
            return Ok(Scanned::Impossible(damage.into()));
        }
        let next = header.next(at.offset, self.padding);
        let end = to_len(header.end(at.offset).saturating_sub(at.offset));
        let len = to_len(next.saturating_sub(at.offset));
        let group = self.window.get(at.offset, len)?;
        let payload = group.get(RECORD_HEADER_LEN..end.min(group.len())).unwrap_or_default();
        if group.len() < end {
            let (expected, found) = (format!("{} bytes", header.payload_len), format!("{} bytes", payload.len()));
            let payload_offset = at.offset.saturating_add(RECORD_HEADER_SIZE);
            return Ok(Scanned::Broken(Corruption::new(label, payload_offset, "record payload", expected, found)));
        }
        if let Err(damage) = header.check_payload(payload, label, salt, at.offset) {
            return Ok(Scanned::Broken(damage));
        }
        if let Err(damage) = header.check_trailer(group, len, label, at.offset) {
            return Ok(Scanned::Broken(damage));
        }
        self.is_group_open = !header.flags.ends_group;
        self.position =
            Position { offset: next, sequence: at.sequence.saturating_add(1), chain: chain_after(at.chain, header.checksum) };
        Ok(Scanned::Record { header, offset: at.offset, payload })
    }

    /// Looks at every byte from `from` to the limit for good headers of records whose sequence is in `sequences`.
    fn look_behind(&mut self, from: u64, sequences: &Range<u64>) -> Result<Behind> {
        let mut behind = Behind::default();
        let (label, salt) = (self.label, self.salt);
        let mut offset = from;
        while offset < self.window.limit {
            let bytes = self.window.get(offset, READ_LEN)?;
            if bytes.is_empty() {
                break;
            }
            // Headers that begin in the last bytes of this part are met again in the next one.
            let is_last = bytes.len() < READ_LEN;
            let starts = if is_last { bytes.len() } else { bytes.len() - (RECORD_HEADER_LEN - 1) };
            if let Some(last) = last_content(bytes.get(..starts).unwrap_or_default()) {
                behind.content_end = offset + to_u64(last) + 1;
                for (index, candidate) in bytes.windows(RECORD_HEADER_LEN).enumerate().take(last + 1) {
                    if may_be_header(candidate, sequences) {
                        behind.note(&RecordHeader::read(candidate, label, salt, offset + to_u64(index)));
                    }
                }
            }
            offset += to_u64(starts);
        }
        Ok(behind)
    }
}

/// The last byte that is not zero. Looks at 64 at a time, which the compiler makes a few wide instructions: behind the records lie up to
/// whole segments of zeros, and every opening reads them.
fn last_content(bytes: &[u8]) -> Option<usize> {
    const STEP: usize = 64;
    let has_content = |part: &[u8]| part.iter().fold(0, |all, byte| all | byte) != 0;
    let part = bytes.chunks(STEP).rposition(has_content)?;
    let start = part * STEP;
    let within = bytes.get(start..)?.iter().take(STEP).rposition(|&byte| byte != 0)?;
    Some(start + within)
}

/// A cheap test that all but a few bytes fail, before a checksum is computed at every one of them.
fn may_be_header(bytes: &[u8], sequences: &Range<u64>) -> bool {
    let zero = |from: usize, to: usize| bytes.get(from..to).is_some_and(|part| part.iter().all(|&byte| byte == 0));
    let sequence = bytes.get(8..).and_then(|rest| rest.first_chunk::<8>()).copied().map(u64::from_le_bytes);
    sequence.is_some_and(|sequence| sequences.contains(&sequence)) && zero(6, 8) && zero(20, 24)
}

/// What lies behind the place where the records stop.
#[derive(Clone, Copy, Debug, Default)]
struct Behind {
    witnessed_through: u64,
    has_records: bool,
    closed_through: u64,
    /// Behind the last byte that is not zero; 0 if all are.
    content_end: u64,
}

impl Behind {
    fn note(&mut self, read: &HeaderRead) {
        match read {
            HeaderRead::Valid(header) => {
                self.has_records = true;
                self.witnessed_through = self.witnessed_through.max(header.synced_through);
                if header.kind == RecordKind::Close {
                    self.closed_through = self.closed_through.max(header.synced_through);
                }
            }
            HeaderRead::Impossible(_) => self.has_records = true,
            HeaderRead::Empty | HeaderRead::Broken(_) => {}
        }
    }
}

/// How far a segment's records are good, and why they stop.
#[derive(Debug)]
pub(crate) struct Survey {
    /// Behind the last whole group.
    pub(crate) good: Position,
    /// What the decision is made from.
    pub(crate) evidence: TailEvidence,
    /// What is wrong where the records stop, unless they simply end there.
    pub(crate) fault: Option<FormatError>,
    /// How many bytes behind the good records are not part of the log though they are not just zeros.
    pub(crate) discarded_bytes: u64,
    /// The records that were carried over are all there.
    pub(crate) is_carry_whole: bool,
    /// The last record is that of a clean close.
    pub(crate) is_closed: bool,
    /// There is a good record.
    pub(crate) has_records: bool,
}

/// Reads a whole segment, up to the end of its file, and gathers the evidence about its end.
///
/// # Errors
/// Only if the file cannot be read.
pub(crate) fn survey(file: &Arc<dyn DiskFile>, header: &SegmentHeader, file_len: u64, reason: Reason) -> Result<Survey> {
    let mut scanner = Scanner::new(Arc::clone(file), header, file_len, reason);
    let label = scanner.label();
    let mut good = scanner.position();
    let mut witnessed_through = SEGMENT_HEADER_SIZE;
    let mut is_carry_whole = header.carried_end == SEGMENT_HEADER_SIZE;
    let mut is_closed = false;
    let mut has_records = false;
    let fault = loop {
        let before = scanner.position();
        match scanner.next()? {
            Scanned::Record { offset, .. } if is_closed => {
                let damage = Corruption::new(label, offset, "record", "nothing after a clean close", "a record");
                break Some((Stop::Impossible, damage.into()));
            }
            Scanned::Record { header: record, .. } => {
                witnessed_through = witnessed_through.max(record.synced_through);
                has_records = true;
                if record.flags.ends_group {
                    good = scanner.position();
                    is_closed = record.kind == RecordKind::Close;
                    is_carry_whole |= good.offset == header.carried_end;
                }
            }
            Scanned::Impossible(error) => break Some((Stop::Impossible, error)),
            Scanned::Broken(damage) => break Some((Stop::Broken, damage.into())),
            Scanned::End if before == good => break None,
            Scanned::End => {
                let damage = Corruption::new(label, before.offset, "group of records", "the rest of it", "zeros");
                break Some((Stop::Broken, damage.into()));
            }
        }
    };
    let room = file_len.saturating_sub(good.offset) / RECORD_HEADER_SIZE;
    let sequences = good.sequence..good.sequence.saturating_add(room).saturating_add(2);
    let behind = scanner.look_behind(good.offset, &sequences)?;
    let (stop, fault) = match fault {
        Some((stop, fault)) => (stop, Some(fault)),
        None if behind.content_end == 0 => (Stop::Zeros, None),
        None => {
            let damage = Corruption::new(label, good.offset, "record header", "a record", "zeros before other bytes");
            (Stop::Broken, Some(damage.into()))
        }
    };
    let evidence = TailEvidence {
        good_end: good.offset,
        stop,
        witnessed_through: witnessed_through.max(behind.witnessed_through),
        closed_through: behind.closed_through,
        has_records_behind: behind.has_records,
    };
    let discarded_bytes = behind.content_end.saturating_sub(good.offset);
    Ok(Survey { good, evidence, fault, discarded_bytes, is_carry_whole, is_closed, has_records })
}

/// What stands behind a header that cannot be read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Body {
    /// A record with right checksums under the given salt.
    pub(crate) holds_record: bool,
    /// Anything but zeros.
    pub(crate) has_content: bool,
}

/// Looks through the body of a segment whose header is bad.
///
/// # Errors
/// Only if the file cannot be read.
pub(crate) fn look_into_body(file: &Arc<dyn DiskFile>, number: u64, salt: Salt, file_len: u64, reason: Reason) -> Result<Body> {
    let mut scanner = Scanner {
        window: Window { file: Arc::clone(file), reason, limit: file_len, start: 0, bytes: Vec::new() },
        label: FileLabel::numbered(FileKind::Wal, number),
        salt,
        padding: Padding::None,
        position: Position { offset: SEGMENT_HEADER_SIZE, sequence: 0, chain: 0 },
        is_group_open: false,
    };
    let behind = scanner.look_behind(SEGMENT_HEADER_SIZE, &(1..u64::MAX))?;
    Ok(Body { holds_record: behind.has_records, has_content: behind.content_end > 0 })
}
