//! The log as a stream of commits, read beside the appends.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use thermocline_format::{Corruption, FileKind, FileLabel, Reader};
use thermocline_io::{Access, DiskFile, FileId, Reason, read_up_to_at};
use thermocline_tier::{Result, Version};

use crate::append::Shared;
use crate::entry::Commit;
use crate::error::{corruption, disk_error, format_error};
use crate::layout::{HeaderRead, RECORD_HEADER_LEN, RECORD_HEADER_SIZE, RecordHeader, RecordKind, SegmentHeader};
use crate::{payload, to_len};

/// How much is read at a time, unless a record is longer.
const BLOCK_LEN: usize = 256 << 10;

/// Reads commits in order, from [`Log::reader`](crate::Log::reader). It keeps its place: asked again, it goes on with what has come
/// since. It holds no lock between calls, and keeps no log from closing.
///
/// ```
/// # use std::sync::Arc;
/// # use thermocline_io::{MemoryDisk, RealClock, SeededRandomness};
/// # use thermocline_tier::{BatchBuilder, EntryKind, Version, WholeKey};
/// # use thermocline_wal::{Durability, Log, LogEntry, LogOptions, OpenLog};
/// # let (disk, options) = (Arc::new(MemoryDisk::new()), LogOptions::default());
/// # let (randomness, clock) = (&SeededRandomness::new(1), &RealClock::new());
/// # let request = OpenLog { disk, randomness, clock, options, layout: &WholeKey, is_read_only: false };
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
}

impl LogReader {
    pub(crate) fn new(shared: Arc<Shared>, since: Version) -> Result<Self> {
        let found = shared.index.read().find(since);
        let place = match found {
            Some((segment, offset)) => Some(Place::open(&shared, segment.header, offset)?),
            None => None,
        };
        Ok(Self { shared, since, place })
    }

    /// The next commit, if there is one at or below `limit`.
    ///
    /// # Errors
    /// [`Corruption`](thermocline_tier::ErrorKind::Corruption) naming the place, [`Io`](thermocline_tier::ErrorKind::Io); and what handing
    /// commits that are only in memory to the operating system fails with. The reader stays where it is, so the call can be repeated.
    pub fn next_commit(&mut self, limit: Version) -> Result<Option<Commit>> {
        while self.since < limit {
            let Some(place) = &mut self.place else { return Ok(None) };
            match next_place(&self.shared, place, limit)? {
                Next::Nothing => return Ok(None),
                Next::Segment(header) => *place = Place::open(&self.shared, header, header.start().offset)?,
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
        let end = index.end_of(place.header.number).map_or(0, |end| end.offset);
        let next = match index.after(place.header.number) {
            _ if place.offset < end => Next::Here { end },
            Some(segment) => Next::Segment(segment.header),
            None => Next::Nothing,
        };
        (next, index.last())
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

/// What the record at a reader's place was.
enum Read {
    Commit(Commit),
    /// One without a version, or with one that is not wanted.
    Skipped,
    /// One with a version above the limit. The reader stays before it.
    Beyond,
}

impl Place {
    fn open(shared: &Shared, header: SegmentHeader, offset: u64) -> Result<Self> {
        let file = shared.disk.open(FileId::Wal(header.number), Access::Read, Reason::WalRead).map_err(disk_error)?;
        Ok(Self { header, file, offset, block: Bytes::new(), block_offset: 0 })
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
        RecordKind::Genesis | RecordKind::EnsureTable | RecordKind::Witness | RecordKind::Close => Ok(Read::Skipped),
    }
}

impl fmt::Debug for LogReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.place.as_ref().map(|place| (place.header.number, place.offset));
        f.debug_struct("LogReader").field("since", &self.since).field("place", &place).finish_non_exhaustive()
    }
}
