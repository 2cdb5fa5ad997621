//! Decoding the records of a segment up to a known end, for replay and for checking.

use std::sync::Arc;

use thermocline_format::{Corruption, FileLabel, FormatError, Reader};
use thermocline_io::{DiskFile, Reason};
use thermocline_tier::{EntryKind, Result, TierBatch, Version};

use crate::entry::{Genesis, Replayed, ReplayedCommit};
use crate::error::{corruption, format_error};
use crate::layout::{Position, RECORD_HEADER_SIZE, RecordHeader, RecordKind, SegmentHeader};
use crate::payload;
use crate::scan::{Scanned, Scanner};

/// What comes out of the records.
pub(crate) trait Sink {
    /// The first record of the log.
    fn genesis(&mut self, genesis: Genesis) -> Result<()>;

    /// A record of the store's history. `offset` is where its group begins.
    fn record(&mut self, record: Replayed<'_>, group: u64) -> Result<()>;

    /// Any record, after it was decoded, and the place behind it.
    fn passed(&mut self, header: &RecordHeader, after: Position);
}

/// Decodes records from segment to segment.
#[derive(Debug)]
pub(crate) struct Decoder {
    batch: TierBatch,
    clears: Vec<EntryKind>,
    last_version: Version,
    has_genesis: bool,
}

impl Decoder {
    /// A decoder of records behind this version. `is_cut`: the log's first record lies before them, too.
    pub(crate) fn new(before: Version, is_cut: bool) -> Self {
        Self { batch: TierBatch::empty(Version::ZERO), clears: Vec::new(), last_version: before, has_genesis: is_cut }
    }

    /// Decodes the records of a segment, all of which must be good, up to `end`, where a group must end.
    ///
    /// # Errors
    /// `Corruption` and `UnsupportedFormat` for the first record that is not as it should be; `Io`; what the sink fails with.
    pub(crate) fn segment(
        &mut self,
        file: &Arc<dyn DiskFile>,
        header: &SegmentHeader,
        end: u64,
        reason: Reason,
        sink: &mut dyn Sink,
    ) -> Result<Position> {
        let mut scanner = Scanner::new(Arc::clone(file), header, end, reason);
        let label = scanner.label();
        let mut group = scanner.position().offset;
        let mut is_group_open = false;
        loop {
            let record = match scanner.next()? {
                Scanned::Record { header, offset, payload } => {
                    let payload = Reader::new(payload, label, offset + RECORD_HEADER_SIZE);
                    self.record(&header, payload, group, sink)?;
                    header
                }
                Scanned::End => break,
                Scanned::Broken(damage) => return Err(corruption(damage)),
                Scanned::Impossible(error) => return Err(format_error(error)),
            };
            let after = scanner.position();
            is_group_open = !record.flags.ends_group;
            if !is_group_open {
                group = after.offset;
            }
            sink.passed(&record, after);
        }
        let stopped = scanner.position();
        if stopped.offset != end || is_group_open {
            let expected = format!("records up to byte {end}");
            return Err(corruption(Corruption::new(label, stopped.offset, "record", expected, "no record")));
        }
        Ok(stopped)
    }

    fn record(&mut self, header: &RecordHeader, mut payload: Reader<'_>, group: u64, sink: &mut dyn Sink) -> Result<()> {
        let (file, offset) = (payload.file(), payload.offset());
        if self.has_genesis == (header.kind == RecordKind::Genesis) {
            let (expected, found) =
                if self.has_genesis { ("another kind", "a second genesis") } else { ("genesis", "another kind") };
            return Err(corruption(Corruption::new(file, offset - RECORD_HEADER_SIZE, "record kind", expected, found)));
        }
        if header.entries != 0 && header.kind != RecordKind::Commit {
            let found = header.entries.to_string();
            return Err(corruption(Corruption::new(file, offset - 32, "record entries", "0", found)));
        }
        match header.kind {
            RecordKind::Genesis => {
                sink.genesis(payload::read_genesis(payload).map_err(corruption)?)?;
                self.has_genesis = true;
            }
            RecordKind::Commit => {
                let front = payload::read_commit_front(&mut payload, &mut self.clears).map_err(corruption)?;
                self.check_version(front.version, file, offset)?;
                payload::read_entries(payload, header.entries, front.version, &mut self.batch).map_err(corruption)?;
                let (batch, clears) = (&self.batch, self.clears.as_slice());
                let commit = ReplayedCommit { version: front.version, time: front.time, batch, clears };
                sink.record(Replayed::Commit(commit), group)?;
            }
            RecordKind::EnsureTable => {
                let table = payload::read_ensure_table(payload).map_err(corruption)?;
                sink.record(Replayed::EnsureTable { table }, group)?;
            }
            RecordKind::PurgeTable => {
                let (version, time, table) = payload::read_purge(payload).map_err(corruption)?;
                self.check_version(version, file, offset)?;
                sink.record(Replayed::PurgeTable { version, time, table }, group)?;
            }
            RecordKind::Note => sink.record(Replayed::Note { bytes: payload.take_rest() }, group)?,
            RecordKind::Witness | RecordKind::Close => payload.finish().map_err(corruption)?,
        }
        Ok(())
    }

    fn check_version(&mut self, version: Version, file: FileLabel, offset: u64) -> Result<()> {
        if version <= self.last_version {
            let (expected, found) = (format!("above {}", self.last_version), version.to_string());
            return Err(format_error(FormatError::from(Corruption::new(file, offset, "version", expected, found))));
        }
        self.last_version = version;
        Ok(())
    }
}
