//! Turning records into bytes for a place in a segment. The bytes wait in the stage until they are written.

use thermocline_format::{FileKind, FileLabel, Salt, Writer};
use thermocline_tier::{Error, ErrorKind, Result, Version};

use crate::entry::{Genesis, LogEntry};
use crate::layout::{
    HeaderRead, Position, RECORD_HEADER_LEN, RecordFlags, RecordHeader, RecordKind, SEGMENT_HEADER_SIZE, SegmentHeader,
    TRAILER_SIZE, chain_after,
};
use crate::options::Padding;
use crate::{payload, to_len, to_u64};

/// The longest payload of a record, in bytes.
const PAYLOAD_SIZE_BYTES_MAX: usize = 0xffff_0000;

/// Encodes groups of records one behind the other.
#[derive(Debug)]
pub(crate) struct Encoder {
    salt: Salt,
    padding: Padding,
    number: u64,
    /// Where the stage's first byte goes.
    base: Position,
    /// Where the next record goes.
    next: Position,
    stage: Writer,
    /// The versions in the stage, by group.
    spans: Vec<Span>,
    last_version: Version,
}

/// The versions of one group and where it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) offset: u64,
    pub(crate) first: Version,
    pub(crate) last: Version,
}

/// A state of the encoder to come back to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Checkpoint {
    next: Position,
    stage_len: usize,
    spans: usize,
    last_version: Version,
}

impl Encoder {
    pub(crate) fn new(header: &SegmentHeader, last_version: Version) -> Self {
        Self {
            salt: header.salt(),
            padding: header.padding,
            number: header.number,
            base: header.start(),
            next: header.start(),
            stage: Writer::new(),
            spans: Vec::new(),
            last_version,
        }
    }

    /// Where the stage's first byte goes: behind all that was written.
    pub(crate) fn base(&self) -> Position {
        self.base
    }

    /// Where the next record goes.
    pub(crate) fn next(&self) -> Position {
        self.next
    }

    pub(crate) fn staged(&self) -> &[u8] {
        self.stage.as_slice()
    }

    pub(crate) fn last_version(&self) -> Version {
        self.last_version
    }

    /// Whether the next record would share a unit of padding with the one before.
    pub(crate) fn is_unpadded(&self) -> bool {
        self.padding.round_up(self.next.offset) != self.next.offset
    }

    pub(crate) fn checkpoint(&self) -> Checkpoint {
        Checkpoint { next: self.next, stage_len: self.stage.len(), spans: self.spans.len(), last_version: self.last_version }
    }

    /// Forgets what was encoded since the checkpoint. Nothing of it may have been marked as written.
    pub(crate) fn roll_back(&mut self, to: &Checkpoint) {
        self.next = to.next;
        let mut bytes = std::mem::take(&mut self.stage).finish();
        bytes.truncate(to.stage_len);
        self.stage = Writer::append_to(bytes);
        self.spans.truncate(to.spans);
        self.last_version = to.last_version;
    }

    /// The stage was written: the next one begins behind it. Calls `note` for the versions in it.
    pub(crate) fn mark_written(&mut self, note: impl FnMut(Span)) {
        self.base = self.next;
        self.stage.clear();
        self.spans.drain(..).for_each(note);
    }

    /// At least as many bytes as a group takes, padding included.
    pub(crate) fn group_size_max(&self, entries: &[LogEntry<'_>]) -> u64 {
        let payloads = entries.iter().map(|entry| match entry {
            LogEntry::Commit { batch, clears, .. } => payload::commit_size_max(batch, clears),
            LogEntry::EnsureTable { .. } | LogEntry::PurgeTable { .. } => 64,
            LogEntry::Note { bytes } => bytes.len(),
        });
        let bytes = payloads.fold(0_usize, |sum, len| sum.saturating_add(len).saturating_add(RECORD_HEADER_LEN));
        to_u64(bytes).saturating_add(u64::from(self.padding.unit())).saturating_add(TRAILER_SIZE)
    }

    /// Encodes one group. `is_padded`: the next group begins at a multiple of the padding.
    ///
    /// # Errors
    /// [`VersionNotIncreasing`](ErrorKind::VersionNotIncreasing), [`VersionExhausted`](ErrorKind::VersionExhausted),
    /// [`LimitExceeded`](ErrorKind::LimitExceeded); the caller rolls back.
    pub(crate) fn group(&mut self, entries: &[LogEntry<'_>], is_padded: bool, synced_through: u64) -> Result<()> {
        let offset = self.next.offset;
        let first = entries.iter().find_map(LogEntry::version);
        for (index, entry) in entries.iter().enumerate() {
            if let Some(version) = entry.version() {
                self.check_version(version)?;
                self.last_version = version;
            }
            let ends_group = index + 1 == entries.len();
            let flags = RecordFlags { ends_group, is_padded: is_padded && ends_group };
            self.entry(entry, flags, synced_through)?;
        }
        if let Some(first) = first {
            self.spans.push(Span { offset, first, last: self.last_version });
        }
        Ok(())
    }

    fn check_version(&self, version: Version) -> Result<()> {
        if version <= self.last_version {
            return Err(ErrorKind::VersionNotIncreasing { attempted: version, last: self.last_version }.into());
        }
        if version > Version::COMMIT_MAX {
            return Err(ErrorKind::VersionExhausted { attempted: version }.into());
        }
        Ok(())
    }

    fn entry(&mut self, entry: &LogEntry<'_>, flags: RecordFlags, synced_through: u64) -> Result<()> {
        let start = self.begin();
        let (kind, entries) = match *entry {
            LogEntry::Commit { time, batch, clears } => {
                payload::write_commit(&mut self.stage, time, batch, clears);
                (RecordKind::Commit, u32::try_from(batch.len()).unwrap_or(u32::MAX))
            }
            LogEntry::EnsureTable { table } => {
                payload::write_table(&mut self.stage, table);
                (RecordKind::EnsureTable, 0)
            }
            LogEntry::PurgeTable { version, time, table } => {
                payload::write_purge(&mut self.stage, version, time, table);
                (RecordKind::PurgeTable, 0)
            }
            LogEntry::Note { bytes } => {
                self.stage.bytes(bytes);
                (RecordKind::Note, 0)
            }
        };
        let payload_len = self.stage.len() - start - RECORD_HEADER_LEN;
        if payload_len > PAYLOAD_SIZE_BYTES_MAX {
            let (found, max) = (to_u64(payload_len), to_u64(PAYLOAD_SIZE_BYTES_MAX));
            return Err(Error::new(ErrorKind::LimitExceeded { what: "size of a commit in the log, in bytes,", found, max }));
        }
        self.end(start, kind, flags, entries, synced_through);
        Ok(())
    }

    /// Encodes the first record of a log, a group of its own.
    pub(crate) fn genesis(&mut self, genesis: &Genesis, synced_through: u64) {
        let start = self.begin();
        payload::write_genesis(&mut self.stage, genesis);
        self.end(start, RecordKind::Genesis, RecordFlags { ends_group: true, is_padded: true }, 0, synced_through);
    }

    /// Encodes a record without payload, a group of its own.
    pub(crate) fn mark(&mut self, kind: RecordKind, synced_through: u64) {
        let start = self.begin();
        self.end(start, kind, RecordFlags { ends_group: true, is_padded: true }, 0, synced_through);
    }

    /// Encodes a record that was read elsewhere. The last one of those that belong together is padded.
    pub(crate) fn copy(&mut self, header: &RecordHeader, payload: &[u8], is_padded: bool, synced_through: u64) {
        let start = self.begin();
        self.stage.bytes(payload);
        let flags = RecordFlags { ends_group: header.flags.ends_group, is_padded };
        self.end(start, header.kind, flags, header.entries, synced_through);
    }

    /// Encodes a record that recovery carries over, and notes its version. `group` is where its group begins; it moves on with each
    /// group's end.
    pub(crate) fn carry(&mut self, header: &RecordHeader, payload: &[u8], is_padded: bool, group: &mut u64) {
        if matches!(header.kind, RecordKind::Commit | RecordKind::PurgeTable)
            && let Some(version) = payload.first_chunk::<8>()
        {
            let version = Version(u64::from_le_bytes(*version));
            self.last_version = version;
            self.spans.push(Span { offset: *group, first: version, last: version });
        }
        self.copy(header, payload, is_padded, SEGMENT_HEADER_SIZE);
        if header.flags.ends_group {
            *group = self.next.offset;
        }
    }

    fn begin(&mut self) -> usize {
        let start = self.stage.len();
        self.stage.zeros(RECORD_HEADER_LEN);
        start
    }

    fn end(&mut self, start: usize, kind: RecordKind, mut flags: RecordFlags, entries: u32, synced_through: u64) {
        flags.is_padded &= self.padding != Padding::None;
        let Position { offset, sequence, chain } = self.next;
        let (stage, salt) = (&mut self.stage, self.salt);
        let checksum = RecordHeader::seal(stage, start, salt, offset, kind, flags, sequence, entries, synced_through);
        let mut next = offset + to_u64(self.stage.len() - start);
        if flags.is_padded {
            let end = self.padding.round_up(next + TRAILER_SIZE);
            self.stage.zeros(to_len(end - next - TRAILER_SIZE));
            self.stage.u64(checksum);
            next = end;
        }
        self.next = Position { offset: next, sequence: sequence + 1, chain: chain_after(chain, checksum) };
    }

    /// Goes on in another segment. What is staged, and was accepted, moves along: its checksums are made anew for the new place.
    pub(crate) fn move_to(&mut self, header: &SegmentHeader) {
        let old = std::mem::replace(self, Self::new(header, self.last_version));
        let label = FileLabel::numbered(FileKind::Wal, old.number);
        let mut spans = old.spans.iter().peekable();
        let mut offset = old.base.offset;
        loop {
            let rest = old.stage.since(to_len(offset - old.base.offset));
            let HeaderRead::Valid(record) = RecordHeader::read(rest, label, old.salt, offset) else { break };
            if let Some(span) = spans.next_if(|span| span.offset == offset) {
                self.spans.push(Span { offset: self.next.offset, ..*span });
            }
            let payload_len = to_len(u64::from(record.payload_len));
            let payload = rest.get(RECORD_HEADER_LEN..RECORD_HEADER_LEN + payload_len).unwrap_or_default();
            self.copy(&record, payload, record.flags.is_padded, SEGMENT_HEADER_SIZE);
            offset = record.next(offset, old.padding);
        }
    }
}
