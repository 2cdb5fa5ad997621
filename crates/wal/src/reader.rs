//! The log as a stream of commits, read beside the appends.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use thermocline_format::{Corruption, FileKind, FileLabel, Reader};
use thermocline_io::{Access, DiskFile, FileId, Reason, read_up_to_at};
use thermocline_tier::{ErrorKind, Result, Version};

use crate::append::Shared;
use crate::entry::Commit;
use crate::error::{corruption, disk_error, format_error};
use crate::index::Index;
use crate::layout::{HeaderRead, RECORD_HEADER_LEN, RECORD_HEADER_SIZE, RecordHeader, RecordKind, SegmentHeader};
use crate::{payload, to_len};

/// How much is read at a time, unless a record is longer.
const BLOCK_LEN: usize = 256 << 10;

/// Reads commits in order, from [`Log::reader`](crate::Log::reader). It keeps its place: asked again, it goes on with what has come
/// since. It holds no lock between calls, and keeps no log from closing or from being [cut](crate::Log::cut): it then reads to the end
/// of the segment that it has open, and fails if more than that is gone.
///
/// ```
/// # use std::sync::Arc;
/// # use thermocline_io::{MemoryDisk, RealClock, SeededRandomness};
/// # use thermocline_tier::{BatchBuilder, EntryKind, Version, WholeKey};
/// # use thermocline_wal::{Durability, Log, LogEntry, LogOptions, OpenLog};
/// # let (disk, options) = (Arc::new(MemoryDisk::new()), LogOptions::default());
/// # let (randomness, clock) = (&SeededRandomness::new(1), &RealClock::new());
/// # let request = OpenLog { disk, randomness, clock, options, layout: &WholeKey, is_read_only: false, store: None, base: None };
/// # let (log, _) = Log::open(request, &mut |_| Ok(()))?;
/// let mut reader = log.reader(Version::ZERO)?;
/// assert!(reader.next_commit(Version::MAX)?.is_none());
///
/// let mut batch = BatchBuilder::new();
/// batch.put(EntryKind::Multi, b"k", b"v")?;
/// let batch = batch.finish(&WholeKey, Version(1));
/// log.append(&[LogEntry::Commit { time: 0, batch: &batch, clears: &[] }], Durability::Memory)?;
/// assert_eq!(reader.next_commit(Version::MAX)?.map(|commit| commit.changes.len()), Some(1));
/// # Ok::<(), thermocline_tier::Error>(())
/// ```
pub struct LogReader {
    shared: Arc<Shared>,
    /// Commits up to here were returned or are not wanted.
    since: Version,
    place: Option<Place>,
}

/// Where a reader stands.
struct Place {
    header: SegmentHeader,
    file: Arc<dyn DiskFile>,
    /// Of the next record.
    offset: u64,
    block: Bytes,
    block_offset: u64,
}

/// Where the next record is to be found.
enum Next {
    /// Here; the segment is written up to there.
    Here { end: u64 },
    /// In the segment after.
    Segment(SegmentHeader),
    /// Nowhere yet.
    Nothing,
    /// The segment was cut, and the one after it too.
    Cut,
}

impl LogReader {
    pub(crate) fn new(shared: Arc<Shared>, since: Version) -> Result<Self> {
        let place = Place::find(&shared, since)?;
        Ok(Self { shared, since, place })
    }

    /// The next commit, if there is one at or below `limit`.
    ///
    /// # Errors
    /// [`Corruption`](ErrorKind::Corruption) naming the place, [`Io`](ErrorKind::Io);
    /// [`VersionReclaimed`](ErrorKind::VersionReclaimed) if the next commits were cut off; and what handing commits that are only in memory
    /// to the operating system fails with. The reader stays where it is, so the call can be repeated.
    pub fn next_commit(&mut self, limit: Version) -> Result<Option<Commit>> {
        while self.since < limit {
            let Some(place) = &mut self.place else { return Ok(None) };
            match next_place(&self.shared, place, limit)? {
                Next::Nothing => return Ok(None),
                Next::Segment(header) => {
                    // One that is cut in this moment is met again as such.
                    if let Some(next) = Place::open(&self.shared, header, header.start().offset)? {
                        *place = next;
                    }
                }
                Next::Cut => self.place = Place::find(&self.shared, self.since)?,
                Next::Here { end } => match place.read(end, self.since, limit)? {
                    Read::Commit(commit) => {
                        self.since = commit.version;
                        return Ok(Some(commit));
                    }
                    Read::Skipped => {}
                    Read::Beyond => return Ok(None),
                },
            }
        }
        Ok(None)
    }
}

fn next_place(shared: &Shared, place: &Place, limit: Version) -> Result<Next> {
    let look = || {
        let index = shared.index.read();
        (look(&index, place), index.last())
    };
    match look() {
        // Commits that are only in memory are readable as soon as they are published.
        (Next::Nothing, last) if last < limit => {
            shared.write_out()?;
            Ok(look().0)
        }
        (next, _) => Ok(next),
    }
}

fn look(index: &Index, place: &Place) -> Next {
    let number = place.header.number;
    let (end, next) = if let Some(end) = index.end_of(number) {
        (end.offset, index.after(number).map(|segment| segment.header))
    } else {
        // The segment was cut, but the reader has it open. What follows it says where it ends.
        let first = index.segments().first().map(|first| first.header);
        let successor = first.and_then(|first| Some((first, first.previous?)));
        let Some((first, previous)) = successor.filter(|(_, previous)| previous.number == number) else {
            return Next::Cut;
        };
        (previous.length, Some(first))
    };
    match next {
        _ if place.offset < end => Next::Here { end },
        Some(header) => Next::Segment(header),
        None => Next::Nothing,
    }
}

/// What the record at a reader's place was.
enum Read {
    Commit(Commit),
    /// One without a version, or with one that is not wanted.
    Skipped,
    /// One with a version above the limit. The reader stays before it.
    Beyond,
}

impl Place {
    /// The place from which on every commit above `since` is to be met; `None` if there is no segment.
    fn find(shared: &Shared, since: Version) -> Result<Option<Self>> {
        loop {
            let found = {
                let index = shared.index.read();
                if since < index.before() {
                    return Err(ErrorKind::VersionReclaimed { requested: since, horizon: index.before() }.into());
                }
                index.find(since)
            };
            let Some((segment, offset)) = found else { return Ok(None) };
            // A segment that was cut in between is not found again.
            if let Some(place) = Self::open(shared, segment.header, offset)? {
                return Ok(Some(place));
            }
        }
    }

    /// `None` if the segment was cut since it was looked up.
    fn open(shared: &Shared, header: SegmentHeader, offset: u64) -> Result<Option<Self>> {
        match shared.disk.open(FileId::Wal(header.number), Access::Read, Reason::WalRead) {
            Ok(file) => Ok(Some(Self { header, file, offset, block: Bytes::new(), block_offset: 0 })),
            Err(_) if shared.index.read().end_of(header.number).is_none() => Ok(None),
            Err(error) => Err(disk_error(error)),
        }
    }

    fn read(&mut self, end: u64, since: Version, limit: Version) -> Result<Read> {
        let (label, salt) = (FileLabel::numbered(FileKind::Wal, self.header.number), self.header.salt());
        let bytes = self.bytes(RECORD_HEADER_LEN, end)?;
        let header = match RecordHeader::read(&bytes, label, salt, self.offset) {
            HeaderRead::Valid(header) => header,
            HeaderRead::Empty => {
                return Err(corruption(Corruption::new(label, self.offset, "record header", "a record", "zeros")));
            }
            HeaderRead::Broken(damage) => return Err(corruption(damage)),
            HeaderRead::Impossible(error) => return Err(format_error(error)),
        };
        let len = RECORD_HEADER_LEN + to_len(u64::from(header.payload_len));
        let record = self.bytes(len, end)?;
        if record.len() < len {
            let (expected, found) = (format!("{len} bytes"), format!("{} bytes", record.len()));
            return Err(corruption(Corruption::new(label, self.offset, "record", expected, found)));
        }
        let payload = record.slice(RECORD_HEADER_LEN..);
        header.check_payload(&payload, label, salt, self.offset).map_err(corruption)?;
        let read = decode(&header, &payload, label, self.offset, since, limit).map_err(corruption)?;
        if !matches!(read, Read::Beyond) {
            self.offset = header.next(self.offset, self.header.padding);
        }
        Ok(read)
    }

    /// The bytes from the reader's place on: `wanted` of them, fewer only at `end` or the file's end.
    fn bytes(&mut self, wanted: usize, end: u64) -> Result<Bytes> {
        let wanted = wanted.min(to_len(end.saturating_sub(self.offset)));
        let from = self.offset.checked_sub(self.block_offset).map_or(usize::MAX, to_len);
        if from.saturating_add(wanted) > self.block.len() {
            let len = wanted.max(BLOCK_LEN).min(to_len(end.saturating_sub(self.offset)));
            let mut block = vec![0; len];
            let read = read_up_to_at(&*self.file, self.offset, &mut block, Reason::WalRead).map_err(disk_error)?;
            block.truncate(read);
            self.block = Bytes::from(block);
            self.block_offset = self.offset;
        }
        let from = to_len(self.offset - self.block_offset);
        Ok(self.block.slice(from..from.saturating_add(wanted).min(self.block.len())))
    }
}

fn decode(
    header: &RecordHeader,
    payload: &Bytes,
    label: FileLabel,
    offset: u64,
    since: Version,
    limit: Version,
) -> std::result::Result<Read, Corruption> {
    let mut reader = Reader::new(payload, label, offset + RECORD_HEADER_SIZE);
    match header.kind {
        RecordKind::Commit => {
            let mut clears = Vec::new();
            let front = payload::read_commit_front(&mut reader, &mut clears)?;
            if front.version <= since {
                return Ok(Read::Skipped);
            }
            if front.version > limit {
                return Ok(Read::Beyond);
            }
            payload::read_changes(reader, header.entries, payload, clears, &front).map(Read::Commit)
        }
        RecordKind::PurgeTable => {
            let (version, time, table) = payload::read_purge(reader)?;
            if version <= since {
                return Ok(Read::Skipped);
            }
            if version > limit {
                return Ok(Read::Beyond);
            }
            Ok(Read::Commit(Commit { version, time, clears: Vec::new(), purged: Some(table), changes: Vec::new() }))
        }
        RecordKind::Genesis | RecordKind::EnsureTable | RecordKind::Witness | RecordKind::Close | RecordKind::Note => {
            Ok(Read::Skipped)
        }
    }
}

impl fmt::Debug for LogReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.place.as_ref().map(|place| (place.header.number, place.offset));
        f.debug_struct("LogReader").field("since", &self.since).field("place", &place).finish_non_exhaustive()
    }
}
