//! Reading one manifest file: what it says, and where its good records end.
//!
//! Bytes that are not as they should be are a write that did not survive the loss of power, or damage to what was durable. Evidence
//! alone decides:
//!
//! - A record with right checksums that cannot stand where it stands was written like this: damage, or a newer release.
//! - A bad record, with a good one behind it that says that the file was durable beyond the bad one's beginning: damage.
//! - Any other bad record: the end of what was written. It was never acknowledged, or nothing shows that it was.
//! - A bad header of a file that goes on behind it: damage, since headers are durable before anything follows. A bad header of
//!   exactly one page, or one of zeros: a manifest that was never in use.

#![deny(
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "bytes from disk must not be able to cause a panic or to be narrowed in silence"
)]

use thermocline_format::{Corruption, FormatError, MAGIC, Purpose, Reader, StoreId};
use thermocline_io::{DiskFile, Reason, read_up_to_at};
use thermocline_tier::Result;

use super::layout::{
    Header, HeaderRead, PAGE_LEN, PAGE_SIZE, Position, RECORD_HEADER_LEN, RECORDS_OFFSET, RecordHeader, RecordKind, after,
    label_of,
};
use super::payload::{read_edit, read_snapshot};
use super::state::State;
use super::{to_len, to_u64};
use crate::error::{corruption, disk_error, format_error};

/// A manifest file that is read.
#[derive(Debug)]
pub(super) struct Source<'a> {
    pub(super) file: &'a dyn DiskFile,
    pub(super) number: u64,
    /// How far it is read.
    pub(super) len: u64,
    pub(super) reason: Reason,
}

/// What a file turned out to be.
#[derive(Debug)]
pub(super) enum Examined {
    /// It has a header and at least the snapshot.
    Complete(Box<Loaded>),
    /// It was begun, and never in use.
    Unfinished {
        /// What its header says, if that can be read.
        header: Option<Header>,
        /// Why it is not complete.
        why: FormatError,
    },
}

/// A manifest that was read.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) header: Header,
    pub(super) state: State,
    /// Behind the last good record.
    pub(super) end: Position,
    /// What is wrong behind the end, unless there is nothing.
    pub(super) tear: Option<Corruption>,
}

/// What stands at a place.
enum Next {
    /// The file ends, or goes on with zeros.
    End(Corruption),
    /// No whole record.
    Broken(Corruption),
    /// A good record that follows on those before, and its bytes.
    Record(RecordHeader, Vec<u8>),
}

impl Source<'_> {
    /// Reads the file. `visit` sees the header of each record that is good.
    pub(super) fn examine(
        &self,
        store: Option<StoreId>,
        purpose: Purpose,
        visit: &mut dyn FnMut(&RecordHeader),
    ) -> Result<Examined> {
        let header = match self.header(purpose)? {
            Ok(header) => header,
            Err(why) => return Ok(Examined::Unfinished { header: None, why }),
        };
        // A store that was never finished may be begun again, as another.
        if header.previous.is_some() {
            check_store(&header, store)?;
        }
        let mut state = None;
        let mut at = header.start();
        let (stop, is_torn) = loop {
            let (record, bytes) = match self.next(&header, at)? {
                Next::End(stop) => break (stop, false),
                Next::Broken(stop) => break (stop, true),
                Next::Record(record, bytes) => (record, bytes),
            };
            let payload = match record.payload(&bytes, header.label(), header.salt(), at.offset) {
                Ok(payload) => payload,
                Err(stop) => break (stop, true),
            };
            self.apply(&mut state, &record, payload, at.offset).map_err(corruption)?;
            visit(&record);
            at = after(&record, at);
        };
        let has_garbage = self.look_behind(&header, at.offset, &stop)?;
        let Some(state) = state else {
            return Ok(Examined::Unfinished { header: Some(header), why: stop.into() });
        };
        check_store(&header, store)?;
        if let Err(why) = state.check_disjoint() {
            return Err(corruption(Corruption::new(header.label(), RECORDS_OFFSET, "live files", "apart on each level", why)));
        }
        let tear = (is_torn || has_garbage).then_some(stop);
        Ok(Examined::Complete(Box::new(Loaded { header, state, end: at, tear })))
    }

    /// The file's header. The inner error: it is bad, but the file was never in use.
    fn header(&self, purpose: Purpose) -> Result<std::result::Result<Header, FormatError>> {
        let head = self.page(0)?;
        let error = match Header::decode(&head, self.number, purpose) {
            Ok(header) => return Ok(Ok(header)),
            Err(error @ FormatError::Unsupported { .. }) => return Err(format_error(error)),
            Err(error) => error,
        };
        let is_blank = head.iter().all(|&byte| byte == 0);
        if self.len <= PAGE_SIZE && (is_blank || self.len == PAGE_SIZE) {
            return Ok(Err(error));
        }
        // The length of a page is durable before the page is written, so this was never ours, or somebody has cut it.
        let is_ours = head.iter().zip(&MAGIC).all(|(found, expected)| found == expected);
        Err(format_error(match error {
            FormatError::Corruption(damage) if !is_ours && self.len < PAGE_SIZE => {
                let (expected, found) = (damage.expected().to_owned(), damage.found().to_owned());
                FormatError::Foreign { file: damage.file(), expected, found }
            }
            error => error,
        }))
    }

    /// As much of the page at `offset` as there is.
    fn page(&self, offset: u64) -> Result<Vec<u8>> {
        let mut page = vec![0; to_len(self.len.saturating_sub(offset)).min(PAGE_LEN)];
        let read = read_up_to_at(self.file, offset, &mut page, self.reason).map_err(disk_error)?;
        page.truncate(read);
        Ok(page)
    }

    /// What stands at a place behind good records. A record that cannot stand there is an error.
    fn next(&self, header: &Header, at: Position) -> Result<Next> {
        let label = header.label();
        let mut bytes = self.page(at.offset)?;
        let record = match RecordHeader::read(&bytes, label, header.salt(), at.offset) {
            HeaderRead::Valid(record) => record,
            HeaderRead::Empty => {
                let found = if bytes.is_empty() { "the end of the file" } else { "zeros" };
                return Ok(Next::End(Corruption::new(label, at.offset, "record header", "a record", found)));
            }
            HeaderRead::Broken(damage) => return Ok(Next::Broken(damage)),
            HeaderRead::Impossible(error) => return Err(format_error(error)),
        };
        record.check_place(at, RECORDS_OFFSET, label).map_err(corruption)?;
        let room = self.len.saturating_sub(at.offset);
        if record.size() > room {
            let (expected, found) = (format!("{} bytes", record.size()), format!("{room} bytes"));
            return Ok(Next::Broken(Corruption::new(label, at.offset, "record", expected, found)));
        }
        let mut end = bytes.len();
        bytes.resize(to_len(record.size()), 0);
        if let Some(rest) = bytes.get_mut(end..) {
            let offset = at.offset.saturating_add(to_u64(end));
            end = end.saturating_add(read_up_to_at(self.file, offset, rest, self.reason).map_err(disk_error)?);
        }
        bytes.truncate(end);
        Ok(Next::Record(record, bytes))
    }

    /// Applies what a record carries.
    fn apply(
        &self,
        state: &mut Option<State>,
        record: &RecordHeader,
        payload: &[u8],
        offset: u64,
    ) -> std::result::Result<(), Corruption> {
        let label = label_of(self.number);
        let reader = Reader::new(payload, label, offset.saturating_add(to_u64(RECORD_HEADER_LEN)));
        let result = match (record.kind, &mut *state) {
            (RecordKind::Snapshot, _) => {
                let (edit, counters) = read_snapshot(reader)?;
                State::restore(edit, counters).map(|restored| *state = Some(restored))
            }
            (RecordKind::Edit, Some(state)) => state.replay(read_edit(reader)?),
            // The first record is a snapshot: its place was checked.
            (RecordKind::Edit, None) | (RecordKind::Witness, _) => Ok(()),
        };
        result.map_err(|why| Corruption::new(label, offset, "record content", "a possible change", why))
    }

    /// Looks at what is behind the last good record. A record there that says that the file was durable beyond `end` makes damage
    /// of what stands at `end`. Returns whether there is anything but zeros.
    fn look_behind(&self, header: &Header, end: u64, stop: &Corruption) -> Result<bool> {
        let mut has_garbage = false;
        let mut offset = end;
        while offset < self.len {
            let page = self.page(offset)?;
            has_garbage |= page.iter().any(|&byte| byte != 0);
            let is_witnessed = match RecordHeader::read(&page, header.label(), header.salt(), offset) {
                HeaderRead::Valid(record) => record.synced_through > end,
                HeaderRead::Impossible(_) => true,
                HeaderRead::Empty | HeaderRead::Broken(_) => false,
            };
            if is_witnessed {
                return Err(corruption(stop.clone()));
            }
            offset = offset.saturating_add(PAGE_SIZE);
        }
        Ok(has_garbage)
    }
}

/// A manifest of another store than `store` is somebody else's.
pub(super) fn check_store(header: &Header, store: Option<StoreId>) -> Result<()> {
    match store {
        Some(store) if store != header.store => {
            let (expected, found) = (format!("store id {store}"), format!("store id {}", header.store));
            Err(format_error(FormatError::Foreign { file: header.label(), expected, found }))
        }
        _ => Ok(()),
    }
}
