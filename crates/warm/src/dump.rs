//! A sorted file with each field beside its meaning.

use std::ops::Range;

use thermocline_format::{Dump, Envelope, Expected, FieldTable, FileKind, Purpose};
use thermocline_tier::Version;

use crate::block::{HistoryRef, MainBlock};
use crate::codec::{Dictionary, decode};
use crate::frame::{open_frame, open_plain_frame};
use crate::history::Group;
use crate::layout::{
    BLOCK_SIZE_BYTES_MAX, FOOTER_SIZE_BYTES, FOOTER_TABLE, FRAME_TABLE, FRAME_TRAILER_SIZE_BYTES, FileIdentity, FileIndex,
    Footer, INDEX_TABLE, LINE_SIZE_BYTES, LINE_TABLE, MainBlockEntry, PARTITION_TABLE, PartitionEntry, PartitionIndex, Place,
    ValueRef, format_tables, to_u64,
};

/// The field tables of a sorted file's format, from which its page of documentation is rendered.
///
/// ```
/// assert!(thermocline_warm::sst_format_tables().iter().any(|table| table.name == "footer"));
/// ```
pub fn sst_format_tables() -> Vec<FieldTable> {
    format_tables()
}

/// The bytes of sorted file `number`, part by part: envelope, footer, index, and of each partition its filter, its index, and of each block
/// its frame and what its entries say.
/// Damage does not stop it before it must: what cannot be read becomes a row that says so.
///
/// ```
/// let dump = thermocline_warm::dump_sst(b"THERMOCL", 1).to_string();
/// assert!(dump.contains("magic"));
/// ```
pub fn dump_sst(bytes: &[u8], number: u64) -> Dump {
    dump_sst_part(bytes, number, 0..u64::MAX)
}

/// As [`dump_sst`], of what lies in `window` alone, in bytes from the start of the file; a block that lies there in part is shown whole.
/// The footer, what the file holds of each table, and where its partitions are is shown in any case.
///
/// ```
/// let dump = thermocline_warm::dump_sst_part(b"THERMOCL", 1, 4096..8192).to_string();
/// assert!(!dump.contains("magic"));
/// ```
pub fn dump_sst_part(bytes: &[u8], number: u64, window: Range<u64>) -> Dump {
    let mut dump = Dump::within(window);
    Envelope::dump(bytes, &mut dump);
    let expected = Expected { kind: FileKind::Sst, number, store: None, purpose: Purpose::Read };
    let store = match Envelope::decode(bytes, &expected) {
        Ok(envelope) => envelope.store,
        Err(error) => {
            dump.note(0, "envelope", error.to_string());
            return dump;
        }
    };
    let mut file = Dumped { bytes, identity: FileIdentity { store, number }, dictionary: None, dump };
    if let Err(error) = file.all() {
        file.dump.note(0, "end", error);
    }
    file.dump
}

struct Dumped<'a> {
    bytes: &'a [u8],
    identity: FileIdentity,
    dictionary: Option<Dictionary>,
    dump: Dump,
}

fn range(place: &Place) -> Range<u64> {
    place.offset..place.end()
}

impl<'a> Dumped<'a> {
    fn part(&self, from: u64, len: usize) -> &'a [u8] {
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        self.bytes.get(from..).map_or(&[][..], |rest| rest.get(..len).unwrap_or(rest))
    }

    fn all(&mut self) -> Result<(), String> {
        let len = to_u64(self.bytes.len());
        let offset = len.checked_sub(to_u64(FOOTER_SIZE_BYTES)).ok_or("the file is shorter than a footer")?;
        let footer_bytes = self.part(offset, FOOTER_SIZE_BYTES);
        self.dump.set_place(Some(0..u64::MAX));
        self.dump.table(&FOOTER_TABLE, offset, footer_bytes);
        let own_checksum = footer_bytes.last_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let footer = Footer::decode(footer_bytes, len, own_checksum, &self.identity).map_err(|damage| damage.to_string())?;
        if footer.dictionary.len > 0 {
            let bytes = self.plain_frame("dictionary", &footer.dictionary)?;
            self.dictionary = Some(Dictionary::new(bytes).ok_or("the dictionary is none")?);
        }
        if footer.summary.len > 0
            && let Err(error) = self.plain_frame("summary", &footer.summary)
        {
            self.dump.note(footer.summary.offset, "summary", error);
        }
        let index_bytes = self.plain_frame("index", &footer.index)?;
        self.beginning(&INDEX_TABLE, &footer.index, index_bytes);
        let index = FileIndex::decode(index_bytes, &self.identity, footer.index.offset).map_err(|damage| damage.to_string())?;
        for (table, stats) in &index.tables {
            let what = format!("{} keys, {} entries, {} tombstones", stats.keys, stats.entries, stats.tombstones);
            self.dump.note(0, format!("table {table}"), what);
        }
        for (number, partition) in index.partitions.iter().enumerate() {
            let PartitionEntry { first, start, index, .. } = partition;
            let what = format!("from {} {} on, in bytes {start} to {}", first.table, text(&first.prefix), index.offset);
            self.dump.note(*start, format!("partition {number}"), what);
            if self.dump.wants(&(*start..partition.filter.end()))
                && let Err(error) = self.partition(partition)
            {
                self.dump.note(index.offset, format!("partition {number}"), error);
            }
        }
        Ok(())
    }

    /// The first fields of an index, up to those that repeat.
    fn beginning(&mut self, table: &FieldTable, place: &Place, bytes: &[u8]) {
        let beginning = FieldTable { fields: table.fields.get(..3).unwrap_or_default(), ..*table };
        // It is stored as it is, so its bytes have offsets.
        self.dump.set_place(None);
        self.dump.table(&beginning, place.offset, bytes);
    }

    fn partition(&mut self, partition: &PartitionEntry) -> Result<(), String> {
        if let Err(error) = self.plain_frame("filter", &partition.filter) {
            self.dump.note(partition.filter.offset, "filter", error);
        }
        let bytes = self.plain_frame("partition index", &partition.index)?;
        self.beginning(&PARTITION_TABLE, &partition.index, bytes);
        let index = PartitionIndex::decode(bytes, &self.identity, partition).map_err(|damage| damage.to_string())?;
        // History is found through the keys that it belongs to.
        let has_history = index.history.iter().any(|block| self.dump.wants(&range(&block.place)));
        for table in &index.tables {
            self.dump.set_place(Some(partition.start..partition.filter.end()));
            let (name, what) = (format!("table {}", table.table), format!("{} main blocks", table.blocks.len()));
            self.dump.row(partition.index.offset, &[], name, what);
            for block in &table.blocks {
                if !self.dump.wants(&range(&block.place)) && !has_history {
                    continue;
                }
                if let Err(error) = self.block(&index, block) {
                    self.dump.note(block.place.offset, "main block", error);
                }
            }
        }
        Ok(())
    }

    /// A frame's trailer. Further rows are taken to be about the frame, whose bytes are given back.
    fn trailer(&mut self, name: &str, place: &Place) -> &'a [u8] {
        let trailer_at = place.end().saturating_sub(to_u64(FRAME_TRAILER_SIZE_BYTES));
        self.dump.set_place(Some(range(place)));
        self.dump.row(place.offset, &[], name, format!("a frame of {} bytes", place.frame_len()));
        self.dump.table(&FRAME_TABLE, trailer_at, self.part(trailer_at, FRAME_TRAILER_SIZE_BYTES));
        self.part(place.offset, place.frame_len())
    }

    /// A frame of what is never compressed: its trailer, and its payload.
    fn plain_frame(&mut self, name: &str, place: &Place) -> Result<&'a [u8], String> {
        let bytes = self.trailer(name, place);
        open_plain_frame(bytes, place, &self.identity).map_err(|damage| damage.to_string())
    }

    /// The frame of a block: its trailer, and its payload when decompressed.
    fn frame(&mut self, name: &str, place: &Place) -> Result<Vec<u8>, String> {
        let bytes = self.trailer(name, place);
        let frame = open_frame(bytes, place, &self.identity).map_err(|damage| damage.to_string())?;
        if frame.raw_len > BLOCK_SIZE_BYTES_MAX {
            return Err(format!("{name} has a raw length of {} bytes", frame.raw_len));
        }
        let mut raw = vec![0; frame.raw_len];
        decode(frame.codec, frame.payload, self.dictionary.as_ref(), &mut raw)?;
        Ok(raw)
    }

    fn block(&mut self, index: &PartitionIndex, block: &MainBlockEntry) -> Result<(), String> {
        let raw = self.frame("main block", &block.place)?;
        for (line, bytes) in raw.chunks(LINE_SIZE_BYTES).take(block.heads.len()).enumerate() {
            self.dump.table(&LINE_TABLE, to_u64(line.saturating_mul(LINE_SIZE_BYTES)), bytes);
        }
        let main = MainBlock::new(&raw, usize::from(block.keys), block.versions.0);
        let common = block.first.get(..usize::from(block.common_len)).unwrap_or_default();
        for number in 0..usize::from(block.keys) {
            let entry = main.entry(number).ok_or("an entry that is cut off or malformed")?;
            let key = text(&[common, entry.rest].concat());
            let value = self.value(entry.is_tombstone(), entry.value, entry.is_apart());
            let suffix = if entry.suffix.is_empty() { String::new() } else { format!(" with suffix {}", text(entry.suffix)) };
            self.dump.set_place(Some(range(&block.place)));
            self.dump.row(block.place.offset, &[], "entry", format!("{key}{suffix} at version {}: {value}", entry.version));
            if let Some(history) = entry.history
                && let Err(error) = self.history(index, history, entry.version)
            {
                self.dump.note(block.place.offset, "history", format!("of {key}: {error}"));
            }
        }
        Ok(())
    }

    /// A value as its entry has it; of one that is apart also the frame.
    fn value(&mut self, is_tombstone: bool, value: &[u8], is_apart: bool) -> String {
        if is_tombstone {
            return "tombstone".to_owned();
        }
        if !is_apart {
            return text(value);
        }
        let Some(ValueRef { place, raw_len }) = ValueRef::decode(value, &(0..to_u64(self.bytes.len()))) else {
            return "a value apart, which is nowhere".to_owned();
        };
        let bytes = self.trailer("value apart", &place);
        if let Err(damage) = open_frame(bytes, &place, &self.identity) {
            self.dump.note(place.offset, "value apart", damage.to_string());
        }
        format!("a value apart of {raw_len} bytes, in bytes {} to {}", place.offset, place.end())
    }

    fn history(&mut self, index: &PartitionIndex, history: HistoryRef, newest: Version) -> Result<(), String> {
        let mut offset = usize::from(history.offset);
        for number in history.block..=history.block.saturating_add(history.more) {
            let block = usize::try_from(number).ok().and_then(|number| index.history.get(number));
            let place = &block.ok_or("a history block that is not in the index")?.place;
            if self.dump.wants(&range(place)) {
                let raw = self.frame("history block", place)?;
                self.dump.row(place.offset, &[], "history group", format!("at byte {offset} of block {number}"));
                let group = Group::read(&raw, offset, newest).ok_or("a history group that is cut off or malformed")?;
                for version in 0..group.len() {
                    let old = group.get(version).ok_or("an older version that is cut off or malformed")?;
                    let value = self.value(old.is_tombstone, old.value, old.is_apart);
                    self.dump.set_place(Some(range(place)));
                    self.dump.row(place.offset, &[], "older entry", format!("at version {}: {value}", old.version));
                }
            }
            offset = 0;
        }
        Ok(())
    }
}

fn text(bytes: &[u8]) -> String {
    const SHOWN_BYTES_MAX: usize = 64;
    let shown = bytes.get(..SHOWN_BYTES_MAX).unwrap_or(bytes).escape_ascii();
    if bytes.len() > SHOWN_BYTES_MAX { format!("\"{shown}\"... of {} bytes", bytes.len()) } else { format!("\"{shown}\"") }
}
