//! Finding the segments of a log in a directory, and which of them belong together.

use std::sync::Arc;

use thermocline_format::{Corruption, FileKind, FileLabel, FormatError, MAGIC, Purpose, Salt, StoreId};
use thermocline_io::{Access, DirEntry, Disk, DiskFile, FileId, Reason, read_up_to_at};
use thermocline_tier::{Error, Result};

use crate::decision::{Evidence, Row, Verdict, judge};
use crate::error::{corruption, disk_error, format_error};
use crate::layout::{Previous, SEGMENT_HEADER_SIZE, SegmentHeader};
use crate::scan::{Survey, look_into_body, survey};
use crate::to_len;

/// A segment's file as it was found. It is not held open: there may be more segments than a process may have open files.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) number: u64,
    pub(crate) len: u64,
    header: std::result::Result<SegmentHeader, FormatError>,
}

/// A segment of the chain.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) header: SegmentHeader,
    /// Where its records end: as the successor states, or for the last segment behind the last whole group.
    pub(crate) end: u64,
    /// How long its file is.
    pub(crate) file_len: u64,
}

/// The log as it lies in a directory.
#[derive(Debug)]
pub(crate) struct Chain {
    /// Oldest first; at least one.
    pub(crate) links: Vec<Link>,
    /// How the last one ends.
    pub(crate) tail: Survey,
}

/// What is in a directory.
#[derive(Debug)]
pub(crate) struct Directory {
    /// `None` if no log was ever completely made here.
    pub(crate) chain: Option<Chain>,
    /// Files that are not part of the log though they have its names: attempts that were not finished, and what was replaced.
    pub(crate) leftovers: Vec<u64>,
    /// No file had a number as high as this.
    pub(crate) next_number: u64,
}

/// What is known of a log from elsewhere.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Known {
    pub(crate) store: Option<StoreId>,
    /// The number of the segment with which it begins; `None` if it is the first that there ever was.
    pub(crate) base: Option<u64>,
}

/// A look at a directory.
struct Look<'a> {
    disk: &'a dyn Disk,
    reason: Reason,
    /// The identity of the store, as far as it is known or any header tells.
    store: Option<StoreId>,
    base: Option<u64>,
    /// There is a segment with a good header.
    has_good: bool,
}

/// Looks at every segment of a directory and finds the chain. Changes nothing.
///
/// # Errors
/// `Corruption`, `ForeignFile`, `UnsupportedFormat`, `Io`.
pub(crate) fn inspect(disk: &dyn Disk, purpose: Purpose, reason: Reason, known: Known) -> Result<Directory> {
    let mut numbers = segment_numbers(disk, reason)?;
    let next_number = numbers.last().map_or(1, |last| last.saturating_add(1));
    // What is below the base is not even looked at.
    let needed = numbers.split_off(numbers.partition_point(|&number| is_below(number, known.base)));
    let mut leftovers = numbers;
    let mut found = needed.into_iter().map(|number| find(disk, number, purpose, reason)).collect::<Result<Vec<_>>>()?;
    let store = check_stores(&found, known.store)?;
    let has_good = found.iter().any(|segment| segment.header.is_ok());
    let look = Look { disk, reason, store, base: known.base, has_good };
    let chain = loop {
        let Some(head) = found.pop() else { break None };
        match look.consider(&head, &found)? {
            Some((header, tail)) => break Some((head, header, tail)),
            None => leftovers.push(head.number),
        }
    };
    let Some((head, header, tail)) = chain else {
        look.check_base(None)?;
        return Ok(Directory { chain: None, leftovers, next_number });
    };
    let mut links = vec![Link { header, end: tail.good.offset, file_len: head.len }];
    look.collect_links(&mut links, &mut found, &mut leftovers)?;
    links.reverse();
    if header.previous.is_none() && !tail.has_records {
        // The very first records of a store never became durable, so it was never handed to anybody.
        look.check_base(None)?;
        leftovers.push(header.number);
        return Ok(Directory { chain: None, leftovers, next_number });
    }
    Ok(Directory { chain: Some(Chain { links, tail }), leftovers, next_number })
}

/// The identity of the store in the newest header that can be read.
///
/// # Errors
/// `UnsupportedFormat`, `Io`.
pub(crate) fn identify(disk: &dyn Disk, reason: Reason) -> Result<Option<StoreId>> {
    for number in segment_numbers(disk, reason)?.into_iter().rev() {
        if let Ok(header) = find(disk, number, Purpose::Read, reason)?.header {
            return Ok(Some(header.store));
        }
    }
    Ok(None)
}

fn is_below(number: u64, base: Option<u64>) -> bool {
    base.is_some_and(|base| number < base) && judge(&Evidence::BelowBase).verdict() == Verdict::Drop
}

/// Opens a segment for reading.
pub(crate) fn open_segment(disk: &dyn Disk, number: u64, reason: Reason) -> Result<Arc<dyn DiskFile>> {
    disk.open(FileId::Wal(number), Access::Read, reason).map_err(disk_error)
}

/// The numbers of all segments there are, ascending.
fn segment_numbers(disk: &dyn Disk, reason: Reason) -> Result<Vec<u64>> {
    let mut numbers: Vec<u64> = Vec::new();
    for entry in disk.list(reason).map_err(disk_error)? {
        if let DirEntry::File(FileId::Wal(number), _) = entry {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn find(disk: &dyn Disk, number: u64, purpose: Purpose, reason: Reason) -> Result<Found> {
    let file = open_segment(disk, number, reason)?;
    let len = file.len().map_err(disk_error)?;
    let mut bytes = vec![0; to_len(len.min(SEGMENT_HEADER_SIZE))];
    let read = read_up_to_at(&*file, 0, &mut bytes, reason).map_err(disk_error)?;
    let header = SegmentHeader::decode(bytes.get(..read).unwrap_or(&bytes), number, None, purpose);
    if let Err(error @ FormatError::Unsupported { .. }) = header {
        return Err(format_error(error));
    }
    Ok(Found { number, len, header })
}

/// All segments must be of one store. Returns its id; `None` if it is not known and no header tells.
fn check_stores(found: &[Found], mut store: Option<StoreId>) -> Result<Option<StoreId>> {
    for segment in found {
        let Ok(header) = &segment.header else { continue };
        match store {
            None => store = Some(header.store),
            Some(store) if store != header.store => {
                let file = FileLabel::numbered(FileKind::Wal, segment.number);
                let (expected, found) = (format!("store id {store}"), format!("store id {}", header.store));
                return Err(format_error(FormatError::Foreign { file, expected, found }));
            }
            Some(_) => {}
        }
    }
    Ok(store)
}

impl Look<'_> {
    fn is_base(&self, number: u64) -> bool {
        self.base == Some(number)
    }

    fn open(&self, segment: &Found) -> Result<Arc<dyn DiskFile>> {
        open_segment(self.disk, segment.number, self.reason)
    }

    /// Whether this segment, which no later one names, is the last of the log. `None`: it is not part of it.
    fn consider(&self, head: &Found, lower: &[Found]) -> Result<Option<(SegmentHeader, Survey)>> {
        let header = match &head.header {
            Ok(header) => *header,
            Err(error) => {
                let (row, error) = self.judge_header(head, error)?;
                return if row.verdict() == Verdict::Refuse { Err(refusal(error, row)) } else { Ok(None) };
            }
        };
        let tail = survey(&self.open(head)?, &header, head.len, self.reason)?;
        let carry = judge(&Evidence::Carry {
            is_whole: tail.is_carry_whole,
            is_witnessed: self.is_base(head.number) || tail.evidence.witnessed_through > SEGMENT_HEADER_SIZE,
            is_source_gone: header.replaces.is_some_and(|source| lower.iter().all(|segment| segment.number != source)),
        });
        match carry.verdict() {
            Verdict::Keep | Verdict::Cut => {}
            Verdict::Drop => return Ok(None),
            Verdict::Refuse => return Err(refusal(fault_of(&tail, head.number), carry)),
        }
        let row = judge(&Evidence::Tail(tail.evidence));
        match row.verdict() {
            Verdict::Keep | Verdict::Cut => Ok(Some((header, tail))),
            Verdict::Drop | Verdict::Refuse => Err(refusal(fault_of(&tail, head.number), row)),
        }
    }

    /// Which rule a segment falls under whose header is bad and that no later one names, and what to say about it.
    fn judge_header(&self, segment: &Found, error: &FormatError) -> Result<(Row, FormatError)> {
        let file = self.open(segment)?;
        // Without another segment to tell, the id in the bad header is the best guess.
        let mut head = vec![0; to_len(segment.len.min(SEGMENT_HEADER_SIZE))];
        let read = read_up_to_at(&*file, 0, &mut head, self.reason).map_err(disk_error)?;
        let head = head.get(..read).unwrap_or(&head);
        let guess = head.get(24..).and_then(|bytes| bytes.first_chunk::<16>()).copied().unwrap_or_default();
        let salt = Salt::new(self.store.unwrap_or(StoreId(guess)), FileKind::Wal, segment.number);
        let body = look_into_body(&file, segment.number, salt, segment.len, self.reason)?;
        let is_stub = segment.len < SEGMENT_HEADER_SIZE && head.iter().any(|&byte| byte != 0);
        let is_ours = head.iter().zip(&MAGIC).all(|(found, expected)| found == expected);
        let row = judge(&Evidence::Header {
            is_named: self.is_base(segment.number),
            holds_record: body.holds_record,
            has_others: self.has_good,
            has_body: body.has_content,
            is_stub,
            is_blank: head.iter().all(|&byte| byte == 0),
            is_foreign: matches!(error, FormatError::Foreign { .. }) || (is_stub && !is_ours),
        });
        let error = match (row, error) {
            (Row::ForeignSegment, FormatError::Corruption(damage)) => FormatError::Foreign {
                file: damage.file(),
                expected: damage.expected().to_owned(),
                found: damage.found().to_owned(),
            },
            (_, error) => error.clone(),
        };
        Ok((row, error))
    }

    /// Follows the names of predecessors from the last link to the first. What lies between is left over.
    fn collect_links(&self, links: &mut Vec<Link>, found: &mut Vec<Found>, leftovers: &mut Vec<u64>) -> Result<()> {
        while let Some((successor, previous)) = links.last().and_then(|link| self.predecessor(link)) {
            while let Some(segment) = found.pop_if(|segment| segment.number > previous.number) {
                self.check_leftover(&segment)?;
                leftovers.push(segment.number);
            }
            let named = found.pop_if(|segment| segment.number == previous.number);
            links.push(self.link(named, successor, previous)?);
        }
        self.check_base(links.last())?;
        while let Some(segment) = found.pop() {
            self.check_leftover(&segment)?;
            leftovers.push(segment.number);
        }
        Ok(())
    }

    /// The number of a link, and the segment before it if that is still part of the log.
    fn predecessor(&self, link: &Link) -> Option<(u64, Previous)> {
        let number = link.header.number;
        let previous = link.header.previous.filter(|previous| !self.is_base(number) && !is_below(previous.number, self.base))?;
        Some((number, previous))
    }

    /// The segment that `successor` names as the one before.
    fn link(&self, named: Option<Found>, successor: u64, previous: Previous) -> Result<Link> {
        let label = FileLabel::numbered(FileKind::Wal, previous.number);
        let Some(named) = named else {
            let row = if self.is_base(previous.number) {
                judge(&Evidence::Base { is_reached: false })
            } else {
                judge(&Evidence::Link { exists: false, is_as_named: false })
            };
            let expected = format!("a segment, which {} names", FileLabel::numbered(FileKind::Wal, successor));
            return Err(refusal(Corruption::new(label, 0, "segment", expected, "no file").into(), row));
        };
        let header = match named.header {
            Ok(header) => header,
            Err(error) => {
                return Err(refusal(
                    error,
                    judge(&Evidence::Header {
                        is_named: true,
                        holds_record: false,
                        has_others: true,
                        has_body: true,
                        is_stub: false,
                        is_blank: false,
                        is_foreign: false,
                    }),
                ));
            }
        };
        if named.len < previous.length {
            let row = judge(&Evidence::Link { exists: true, is_as_named: false });
            let (expected, found) = (format!("at least {} bytes", previous.length), format!("{} bytes", named.len));
            return Err(refusal(Corruption::new(label, named.len, "segment", expected, found).into(), row));
        }
        Ok(Link { header, end: previous.length, file_len: named.len })
    }

    /// The chain must lead back to the base, and to nothing else.
    fn check_base(&self, first: Option<&Link>) -> Result<()> {
        let Some(base) = self.base else { return Ok(()) };
        let row = judge(&Evidence::Base { is_reached: first.is_some_and(|first| first.header.number == base) });
        if row.verdict() == Verdict::Keep {
            return Ok(());
        }
        let found = first.map_or_else(
            || "no log".to_owned(),
            |first| format!("a log that begins with {}", FileLabel::numbered(FileKind::Wal, first.header.number)),
        );
        let label = FileLabel::numbered(FileKind::Wal, base);
        Err(refusal(Corruption::new(label, 0, "segment", "the one with which the log begins", found).into(), row))
    }

    /// A segment outside the chain must not hold anything that was ever known to be durable.
    fn check_leftover(&self, segment: &Found) -> Result<()> {
        let Ok(header) = &segment.header else { return Ok(()) };
        let tail = survey(&self.open(segment)?, header, segment.len, self.reason)?;
        let is_witnessed = tail.evidence.witnessed_through > SEGMENT_HEADER_SIZE;
        let row = judge(&Evidence::Leftover { is_witnessed });
        if row.verdict() == Verdict::Drop {
            return Ok(());
        }
        let file = FileLabel::numbered(FileKind::Wal, segment.number);
        let damage =
            Corruption::new(file, 72, "segment", "a segment that a later one names, or one without durable records", "neither");
        Err(refusal(damage.into(), row))
    }
}

fn fault_of(tail: &Survey, number: u64) -> FormatError {
    tail.fault.clone().unwrap_or_else(|| {
        let file = FileLabel::numbered(FileKind::Wal, number);
        Corruption::new(file, tail.good.offset, "record", "records that a later one says were durable", "nothing").into()
    })
}

/// The error for a verdict of refusal; it names the row of the decision table.
pub(crate) fn refusal(error: FormatError, row: Row) -> Error {
    let error = match error {
        FormatError::Corruption(damage) => corruption(damage),
        // Whatever a damaged header looks like, the file is known to be ours.
        error @ FormatError::Foreign { .. } if row == Row::DamagedHeader => {
            Error::with_source(thermocline_tier::ErrorKind::Corruption, error)
        }
        error => format_error(error),
    };
    error.context(format!("recovery rule {row}"))
}
