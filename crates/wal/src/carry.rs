//! The segment that every open for writing begins, and what it takes over: records that can be read but are not proven to be durable.

use std::sync::Arc;

use thermocline_format::{Corruption, FileKind, FileLabel};
use thermocline_io::{Access, FileId, Reason, write_all_at};
use thermocline_tier::{Result, Version};

use crate::append::{Active, Shared, Writer};
use crate::chain::{Link, open_segment};
use crate::encoder::Encoder;
use crate::entry::Genesis;
use crate::error::{corruption, disk_error, format_error, sync_error};
use crate::index::Index;
use crate::layout::{Position, Previous, RECORD_HEADER_LEN, RecordKind, SEGMENT_HEADER_SIZE, SegmentHeader, TRAILER_SIZE};
use crate::open::{OpenLog, make_error, remove};
use crate::options::Padding;
use crate::prepare::{Blank, Preparer};
use crate::scan::{Scanned, Scanner};
use crate::to_u64;

/// The stage is written out when it holds so much while records are carried over, in bytes.
const CARRY_CHUNK: usize = 1 << 20;

/// A segment that was begun by opening the log.
pub(crate) struct Begun {
    pub(crate) blank: Blank,
    pub(crate) encoder: Encoder,
    pub(crate) index: Index,
}

impl Begun {
    fn write(&mut self) -> Result<()> {
        let (from, to) = (self.encoder.base().offset, self.encoder.next().offset);
        write_all_at(&*self.blank.file, from, self.encoder.staged(), Reason::WalRecover).map_err(disk_error)?;
        self.blank.prepared = self.blank.prepared.max(to);
        let (encoder, index) = (&mut self.encoder, &mut self.index);
        encoder.mark_written(|span| index.note(span));
        index.set_end(encoder.next());
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        self.blank.file.sync_data(Reason::WalSync).map_err(sync_error)
    }

    /// Writes what is staged and makes everything durable; then says so in the segment itself, durably too, so that from here on
    /// damage to these records can be told from a torn write.
    pub(crate) fn settle(&mut self) -> Result<()> {
        if !self.encoder.staged().is_empty() {
            self.write()?;
        }
        self.sync()?;
        self.encoder.mark(RecordKind::Witness, self.encoder.base().offset);
        self.write()?;
        self.sync()
    }

    pub(crate) fn into_shared(
        self,
        request: &OpenLog<'_>,
        preparer: Preparer,
        header: SegmentHeader,
        genesis: Genesis,
    ) -> Shared {
        let end = self.encoder.base().offset;
        let mut active = Active::new(header, self.blank, request.options.segment_size_bytes.max(end));
        active.synced = end;
        active.witnessed = end;
        let last = self.index.last();
        let writer = Writer::new(self.encoder, active);
        let (disk, options) = (Arc::clone(&request.disk), request.options.clone());
        Shared::new(disk, options, header.store, genesis, Some(writer), preparer, self.index, last)
    }
}

/// What of the last segment goes into the new one.
pub(crate) struct Carry<'a> {
    pub(crate) head: &'a Link,
    /// How far the head is proven to be durable, and the last version there.
    pub(crate) witnessed: Position,
    pub(crate) version_witnessed: Version,
    /// The size of the records behind, headers included.
    pub(crate) bytes: u64,
}

impl Carry<'_> {
    /// Begins a fresh segment behind what is proven to be durable, with what is not at its front. Returns how many files were removed.
    pub(crate) fn begin_segment(
        &self,
        request: &OpenLog<'_>,
        mut preparer: Preparer,
        mut index: Index,
        genesis: Genesis,
    ) -> Result<(Shared, u64)> {
        let head = &self.head.header;
        // If nothing of the last segment is proven to be durable, not even its header need be: the new one takes its place. Unless the
        // log begins with it: then its header was durable before anybody could know that, and it is looked for by its number.
        let replaces = self.witnessed.offset == SEGMENT_HEADER_SIZE && !request.is_base(head.number);
        let previous = if replaces {
            index.pop();
            head.previous
        } else {
            index.cut(self.witnessed, self.version_witnessed);
            Some(Previous { number: head.number, length: self.witnessed.offset, chain: self.witnessed.chain })
        };
        let padding = request.options.padding;
        let mut blank = preparer.take().map_err(make_error)?;
        let header = SegmentHeader {
            store: head.store,
            number: blank.number,
            first_sequence: self.witnessed.sequence,
            previous,
            carried_end: self.end(padding),
            replaces: replaces.then_some(head.number),
            padding,
        };
        if let Err(error) = Preparer::begin(&mut blank, &header) {
            preparer.discard(blank.number);
            return Err(make_error(error));
        }
        index.push(header);
        let number = blank.number;
        let mut begun = Begun { blank, encoder: Encoder::new(&header, self.version_witnessed), index };
        if let Err(error) = self.copy(request, &mut begun, &header) {
            preparer.discard(number);
            return Err(error);
        }
        let removed = if replaces {
            remove(&*request.disk, &[head.number])
        } else {
            self.release(request);
            0
        };
        Ok((begun.into_shared(request, preparer, header, genesis), removed))
    }

    /// Gives back what the head has behind its last good record: zeros that it was filled with, and what was torn. Records that were
    /// carried over stay where they are.
    fn release(&self, request: &OpenLog<'_>) {
        if self.head.file_len <= self.head.end {
            return;
        }
        let id = FileId::Wal(self.head.header.number);
        let file = request.disk.open(id, Access::ReadWrite, Reason::WalRecover);
        if let Err(error) = file.and_then(|file| file.set_len(self.head.end, Reason::WalRecover)) {
            tracing::warn!(%error, "could not give back the unused end of a log segment");
        }
    }

    /// Where the records end in the new segment.
    fn end(&self, padding: Padding) -> u64 {
        let end = SEGMENT_HEADER_SIZE + self.bytes;
        if self.bytes == 0 || padding == Padding::None { end } else { padding.round_up(end + TRAILER_SIZE) }
    }

    /// Writes the records again, for their new place, and makes them durable.
    fn copy(&self, request: &OpenLog<'_>, begun: &mut Begun, header: &SegmentHeader) -> Result<()> {
        if self.bytes == 0 {
            return Ok(());
        }
        let reason = Reason::WalRecover;
        let file = open_segment(&*request.disk, self.head.header.number, reason)?;
        let mut scanner = Scanner::new(file, &self.head.header, self.head.end, reason).starting_at(self.witnessed);
        let mut group = begun.encoder.next().offset;
        let mut left = self.bytes;
        while left > 0 {
            let (record, payload) = match scanner.next()? {
                Scanned::Record { header, payload, .. } => (header, payload),
                Scanned::Broken(damage) => return Err(corruption(damage)),
                Scanned::Impossible(error) => return Err(format_error(error)),
                Scanned::End => {
                    let damage = self.head.damage(self.witnessed.offset, "record", "what was there a moment ago", "nothing");
                    return Err(corruption(damage));
                }
            };
            if !record.kind.is_history() {
                continue;
            }
            left = left.saturating_sub(to_u64(RECORD_HEADER_LEN) + u64::from(record.payload_len));
            begun.encoder.carry(&record, payload, left == 0, &mut group);
            if begun.encoder.staged().len() >= CARRY_CHUNK {
                begun.write()?;
            }
        }
        begun.settle()?;
        debug_assert!(header.carried_end <= begun.encoder.base().offset);
        Ok(())
    }
}

impl Link {
    pub(crate) fn damage(&self, offset: u64, part: &'static str, expected: &str, found: &str) -> Corruption {
        let file = FileLabel::numbered(FileKind::Wal, self.header.number);
        Corruption::new(file, offset, part, expected.to_owned(), found.to_owned())
    }
}
