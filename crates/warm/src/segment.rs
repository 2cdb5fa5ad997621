//! A sorted file that is open for reading.

use std::fmt;
use std::sync::{Arc, OnceLock, Weak};

use bytes::Bytes;
use thermocline_format::{Corruption, ENVELOPE_SIZE_BYTES, Envelope, Expected, FileKind, Purpose};
use thermocline_io::sync::atomic::{AtomicBool, Ordering};
use thermocline_io::{Access, DiskErrorKind, FileId, Reason, read_exact_at};
use thermocline_tier::{Direction, EntryKind, Error, ErrorKind, Lookup, Result, TierFile, Version};

use crate::ahead::Ahead;
use crate::block::{Entry, HistoryRef, MainBlock, head};
use crate::cache::{Block, BlockRef, Cache, Indexes, Prefill, Reading, Slots};
use crate::codec::{Codec, Dictionary, decode};
use crate::error::{corruption, disk_error, format_error};
use crate::filter::Filter;
use crate::frame::{open_frame, open_plain_frame};
use crate::history::{Group, Old};
use crate::index::{HISTORY_NUMBERS, Index, IndexRef, Partitions};
use crate::layout::{
    BLOCK_SIZE_BYTES_MAX, FOOTER_SIZE_BYTES, FileIdentity, FileIndex, Footer, PartitionEntry, PartitionIndex, Place, ValueRef,
    to_u64,
};
use crate::meta::{FileMeta, TableKey};
use crate::open_files::{FileSlot, OpenFile, OpenFiles};

/// A live file. It is opened when it is read and not open, and removed with its last user once it has become [obsolete](Self::make_obsolete).
pub(crate) struct Segment {
    pub(crate) meta: FileMeta,
    /// What is shown of it, once somebody has asked.
    listed: OnceLock<Arc<TierFile>>,
    shared: Arc<Shared>,
}

/// What stays the same when a file is taken to another level.
struct Shared {
    identity: FileIdentity,
    files: Arc<OpenFiles>,
    cache: Arc<Cache>,
    file: Arc<FileSlot>,
    partitions: OnceLock<Arc<Partitions>>,
    is_obsolete: AtomicBool,
}

/// Tells whether somebody has a file.
pub(crate) struct Life(Weak<Shared>);

impl Life {
    pub(crate) fn is_over(&self) -> bool {
        self.0.strong_count() == 0
    }

    /// The file, if somebody has it.
    pub(crate) fn segment(&self, meta: FileMeta) -> Option<Segment> {
        Some(Segment { meta, listed: OnceLock::new(), shared: self.0.upgrade()? })
    }
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segment").field("number", &self.meta.number).field("level", &self.meta.level).finish_non_exhaustive()
    }
}

/// How much of an answer is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// All of it.
    Value,
    /// Whether there is a value, and of which version; suffix and value are left empty.
    Presence,
}

/// What a key's newest entry at or below a version is, as a reader within the tier wants it.
#[derive(Debug)]
pub(crate) enum Seen<'a> {
    Nothing,
    Tombstone(Version),
    /// With suffix, value and whether the latter is a reference to one apart.
    Value(Version, &'a [u8], &'a [u8], bool),
}

impl<'a> Seen<'a> {
    pub(crate) fn version(&self) -> Option<Version> {
        match self {
            Self::Nothing => None,
            Self::Tombstone(version) | Self::Value(version, ..) => Some(*version),
        }
    }

    #[inline]
    pub(crate) fn newest(entry: &Entry<'a>) -> Self {
        if entry.is_tombstone() {
            Self::Tombstone(entry.version)
        } else {
            Self::Value(entry.version, entry.suffix, entry.value, entry.is_apart())
        }
    }

    #[inline]
    pub(crate) fn old(old: &Old<'a>) -> Self {
        if old.is_tombstone {
            Self::Tombstone(old.version)
        } else {
            Self::Value(old.version, old.suffix, old.value, old.is_apart)
        }
    }
}

impl Segment {
    pub(crate) fn new(meta: FileMeta, identity: FileIdentity, files: Arc<OpenFiles>, cache: Arc<Cache>) -> Self {
        let (file, partitions, is_obsolete) = (Arc::default(), OnceLock::new(), AtomicBool::new(false));
        Self { meta, listed: OnceLock::new(), shared: Arc::new(Shared { identity, files, cache, file, partitions, is_obsolete }) }
    }

    /// The same file on another level, or with another summary.
    pub(crate) fn with_meta(&self, meta: FileMeta) -> Self {
        Self { meta, listed: OnceLock::new(), shared: Arc::clone(&self.shared) }
    }

    /// As the tier shows it.
    pub(crate) fn listed(&self) -> &Arc<TierFile> {
        self.listed.get_or_init(|| Arc::new(self.meta.to_tier_file()))
    }

    /// Tells whether somebody still has the file, without having it.
    pub(crate) fn life(&self) -> Life {
        Life(Arc::downgrade(&self.shared))
    }

    /// From now on nothing but those who have it uses the file: it is removed when the last of them is done.
    pub(crate) fn make_obsolete(&self) {
        self.shared.is_obsolete.store(true, Ordering::Release);
    }

    /// The file's partitions, read when they are first needed.
    #[inline]
    pub(crate) fn partitions(&self) -> Result<&Arc<Partitions>> {
        match self.shared.partitions.get() {
            Some(partitions) => Ok(partitions),
            None => self.read_partitions(),
        }
    }

    #[cold]
    fn read_partitions(&self) -> Result<&Arc<Partitions>> {
        let partitions = self.load_partitions(Reason::SstRead)?;
        Ok(self.shared.partitions.get_or_init(|| Arc::new(partitions)))
    }

    /// The index of a partition, read if it is not in memory.
    #[inline]
    pub(crate) fn index(&self, partitions: &Arc<Partitions>, number: usize, reading: Reading) -> Result<IndexRef> {
        match partitions.load(number) {
            Some(index) => Ok(index),
            None => self.read_index(partitions, number, reading),
        }
    }

    #[cold]
    fn read_index(&self, partitions: &Arc<Partitions>, number: usize, reading: Reading) -> Result<IndexRef> {
        let index = Arc::new(self.load_index(partitions, number, Reason::SstRead)?);
        let owner: Arc<dyn Indexes> = Arc::clone(partitions) as Arc<dyn Indexes>;
        self.shared.cache.insert_index(&owner, number, reading, || partitions.put(number, &index));
        Ok(IndexRef::from_inner(index))
    }

    /// The index of a partition for a rewrite, which leaves nothing in the cache.
    pub(crate) fn index_to_rewrite(&self, partitions: &Partitions, number: usize) -> Result<Arc<Index>> {
        match partitions.load(number) {
            Some(index) => Ok(IndexRef::into_inner(index)),
            None => self.load_index(partitions, number, Reason::SstCompact).map(Arc::new),
        }
    }

    pub(crate) fn damaged(
        &self,
        offset: u64,
        part: &'static str,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Error {
        corruption(Corruption::new(self.shared.identity.label(), offset, part, expected.into(), found.into()))
    }

    /// The file, opened if it is not open.
    fn file(&self, reason: Reason) -> Result<Arc<OpenFile>> {
        if let Some(file) = self.shared.file.load() {
            return Ok(file);
        }
        let opened =
            self.shared.files.disk.open(FileId::Sst(self.meta.number), Access::Read, reason).map_err(|error| {
                match error.kind() {
                    DiskErrorKind::NotFound => self.damaged(0, "file", "the file that the manifest names", "no file"),
                    _ => disk_error(error),
                }
            })?;
        let len = opened.len().map_err(disk_error)?;
        if len != self.meta.size_bytes {
            let expected = format!("{} bytes, as the manifest says", self.meta.size_bytes);
            return Err(self.damaged(len.min(self.meta.size_bytes), "file length", expected, format!("{len} bytes")));
        }
        Ok(self.shared.files.keep(&self.shared.file, opened))
    }

    pub(crate) fn read_at(&self, offset: u64, len: usize, reason: Reason) -> Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        match read_exact_at(&**self.file(reason)?, offset, &mut bytes, reason) {
            Ok(()) => Ok(bytes),
            Err(error) if error.kind() == DiskErrorKind::UnexpectedEnd => {
                Err(self.damaged(offset, "file", format!("{len} bytes from here on"), "the end of the file"))
            }
            Err(error) => Err(disk_error(error)),
        }
    }

    /// Reads a part that the footer names.
    fn read_part(&self, place: &Place, reason: Reason) -> Result<Vec<u8>> {
        if place.len == 0 {
            return Ok(Vec::new());
        }
        let mut bytes = self.read_at(place.offset, place.frame_len(), reason)?;
        let len = self.opened(place, &bytes)?.len();
        bytes.truncate(len);
        Ok(bytes)
    }

    /// The content of a frame other than a block or a value.
    fn opened<'a>(&self, place: &Place, bytes: &'a [u8]) -> Result<&'a [u8]> {
        open_plain_frame(bytes, place, &self.shared.identity).map_err(corruption)
    }

    fn decoded(
        &self,
        codec: Codec,
        payload: &[u8],
        raw_len: usize,
        place: &Place,
        dictionary: Option<&Dictionary>,
    ) -> Result<Vec<u8>> {
        let mut raw = vec![0; raw_len];
        match decode(codec, payload, dictionary, &mut raw) {
            Ok(()) => Ok(raw),
            Err(found) => Err(self.damaged(place.offset, "compressed payload", format!("{raw_len} bytes"), found)),
        }
    }

    fn load_partitions(&self, reason: Reason) -> Result<Partitions> {
        let head =
            self.read_at(0, usize::try_from(self.meta.size_bytes).unwrap_or(usize::MAX).min(ENVELOPE_SIZE_BYTES), reason)?;
        let expected = Expected {
            kind: FileKind::Sst,
            number: self.meta.number,
            store: Some(self.shared.identity.store),
            purpose: Purpose::Read,
        };
        Envelope::decode(&head, &expected).map_err(format_error)?;
        let footer = self.footer(reason)?;
        let bytes = self.read_part(&footer.index, reason)?;
        let file = FileIndex::decode(&bytes, &self.shared.identity, footer.index.offset).map_err(corruption)?;
        let is_as_listed = file.first() == Some(&self.meta.first)
            && file.last().as_ref() == Some(&self.meta.last)
            && file.versions == (self.meta.version_min, self.meta.version_max);
        if !is_as_listed {
            return Err(self.damaged(footer.index.offset, "index", "keys and versions as the manifest says", "others"));
        }
        let bytes = self.read_part(&footer.dictionary, reason)?;
        let dictionary =
            if bytes.is_empty() {
                None
            } else {
                let found = Dictionary::new(&bytes);
                Some(found.ok_or_else(|| {
                    self.damaged(footer.dictionary.offset, "dictionary", "a Zstandard dictionary", "other bytes")
                })?)
            };
        Ok(Partitions::new(file, dictionary, Arc::clone(&self.shared.cache)))
    }

    fn load_index(&self, partitions: &Partitions, number: usize, reason: Reason) -> Result<Index> {
        let Some(partition) = partitions.get(number) else { return Err(impossible("a partition that was there is not")) };
        let PartitionEntry { start, index: place, filter: filter_place, .. } = partition;
        // Both with one read: the filter lies right behind the index.
        let mut bytes = self.read_at(place.offset, place.frame_len().saturating_add(filter_place.frame_len()), reason)?;
        let filter_bytes = bytes.split_off(place.frame_len().min(bytes.len()));
        let index = PartitionIndex::decode(self.opened(place, &bytes)?, &self.shared.identity, partition).map_err(corruption)?;
        let next = partitions.get(number + 1).map(|next| (next.first.table, next.first.prefix.as_slice()));
        if next.is_some_and(|next| index.last_first().is_some_and(|last| last >= next)) {
            return Err(self.damaged(place.offset, "partition index", "keys below those of the next partition", "others"));
        }
        let bytes = self.opened(filter_place, &filter_bytes)?;
        let mut buffer = self.shared.cache.buffers.take(bytes.len());
        buffer.as_mut().copy_from_slice(bytes);
        let filter = Filter::decode(buffer.into_bytes());
        let filter = filter
            .ok_or_else(|| self.damaged(filter_place.offset, "filter", "whole blocks", format!("{} bytes", bytes.len())))?;
        Ok(Index::new(&index, filter, partitions.dictionary.clone(), *start..place.offset, Arc::clone(&self.shared.cache)))
    }

    fn footer(&self, reason: Reason) -> Result<Footer> {
        let size = self.meta.size_bytes;
        let Some(offset) = size.checked_sub(to_u64(FOOTER_SIZE_BYTES)) else {
            return Err(self.damaged(0, "file", "a footer", format!("{size} bytes")));
        };
        let bytes = self.read_at(offset, FOOTER_SIZE_BYTES, reason)?;
        Footer::decode(&bytes, size, self.meta.checksum, &self.shared.identity).map_err(corruption)
    }

    /// A block by its number among both kinds.
    #[inline]
    fn block(&self, index: &Arc<Index>, number: u32, reading: Reading) -> Result<BlockRef> {
        match index.slot(number).and_then(BlockRef::load) {
            Some(block) => Ok(block),
            None => self.read_block(index, number, reading).map(BlockRef::Own),
        }
    }

    #[cold]
    fn read_block(&self, index: &Arc<Index>, number: u32, reading: Reading) -> Result<Arc<Block>> {
        let block = self.load_block(index, number, Reason::SstRead)?;
        Ok(self.keep_block(index, number, block, reading))
    }

    fn keep_block(&self, index: &Arc<Index>, number: u32, block: Block, reading: Reading) -> Arc<Block> {
        self.shared.cache.count_miss();
        let block = Arc::new(block);
        let owner: Arc<dyn Slots> = Arc::clone(index) as Arc<dyn Slots>;
        self.shared.cache.insert(&owner, number, &block, reading);
        block
    }

    /// A main block for a scan that has read much and goes on in a direction, through blocks that are wanted.
    pub(crate) fn main_block_ahead(
        &self,
        index: &Arc<Index>,
        number: usize,
        direction: Direction,
        is_wanted: impl Fn(usize) -> bool,
        ahead: &mut Ahead,
    ) -> Result<Arc<Block>> {
        let number = to_u32(number);
        if let Some(block) = index.slot(number).and_then(BlockRef::load).and_then(BlockRef::into_own) {
            return Ok(block);
        }
        // Those that are in memory need no reading.
        let is_wanted = |number: u32| index.slot(number).is_some_and(|slot| slot.load().is_none()) && is_wanted(number as usize);
        let block = ahead.block(self, index, number, direction, is_wanted, Reason::SstRead)?;
        Ok(self.keep_block(index, number, block, Reading::Stream))
    }

    pub(crate) fn load_block(&self, index: &Index, number: u32, reason: Reason) -> Result<Block> {
        let Some(place) = index.place(number) else {
            let history = number.saturating_sub(HISTORY_NUMBERS);
            return Err(self.damaged(0, "block number", format!("below {}", index.history.len()), history.to_string()));
        };
        let bytes = self.read_at(place.offset, place.frame_len(), reason)?;
        self.open_block(index, &place, &bytes)
    }

    pub(crate) fn open_block(&self, index: &Index, place: &Place, bytes: &[u8]) -> Result<Block> {
        let frame = open_frame(bytes, place, &self.shared.identity).map_err(corruption)?;
        if frame.raw_len > BLOCK_SIZE_BYTES_MAX {
            let expected = format!("at most {BLOCK_SIZE_BYTES_MAX} bytes");
            return Err(self.damaged(place.offset, "block", expected, format!("{} bytes", frame.raw_len)));
        }
        let mut buffer = self.shared.cache.buffers.take(frame.raw_len);
        decode(frame.codec, frame.payload, index.dictionary.as_ref(), buffer.as_mut())
            .map_err(|found| self.damaged(place.offset, "compressed block", format!("{} bytes", frame.raw_len), found))?;
        Ok(Block::new(buffer.into_bytes()))
    }

    /// A main block for a reader that goes on from block to block.
    #[inline]
    pub(crate) fn main_block(&self, index: &Arc<Index>, number: usize, reading: Reading) -> Result<BlockRef> {
        self.block(index, to_u32(number), reading)
    }

    /// A history block.
    #[inline]
    pub(crate) fn history_block(&self, index: &Arc<Index>, number: u32, reading: Reading) -> Result<BlockRef> {
        self.block(index, number.saturating_add(HISTORY_NUMBERS).max(HISTORY_NUMBERS), reading)
    }

    /// A block for a rewrite, which leaves nothing in the cache, and whether it is there; read ahead, if the rewrite has read much.
    pub(crate) fn block_to_rewrite(&self, index: &Index, number: u32, ahead: Option<&mut Ahead>) -> Result<(Bytes, bool)> {
        if let Some(block) = index.slot(number).and_then(arc_swap::ArcSwapOption::load_full) {
            return Ok((block.data.clone(), true));
        }
        let block = match ahead {
            Some(ahead) => ahead.block(self, index, number, Direction::Forward, |_| true, Reason::SstCompact),
            None => self.load_block(index, number, Reason::SstCompact),
        };
        block.map(|block| (block.data, false))
    }

    /// Puts blocks into the cache that were kept when the file was written.
    pub(crate) fn prefill(&self, mut prefill: Prefill) -> Result<()> {
        let partitions = self.partitions()?;
        // Blocks of one partition come together. Where there is no room for its index there is none for them.
        let mut last: Option<(usize, Arc<Index>)> = None;
        while let Some((partition, number, block)) = prefill.take() {
            let index = match last.take().filter(|(last, _)| *last == partition) {
                Some((_, index)) => index,
                None => IndexRef::into_inner(self.index(partitions, partition, Reading::Stream)?),
            };
            debug_assert!(
                self.load_block(&index, number, Reason::SstRead).map_or(true, |read| read.data == block.data),
                "block {number} of partition {partition} is another one"
            );
            let owner: Arc<dyn Slots> = Arc::clone(&index) as Arc<dyn Slots>;
            self.shared.cache.insert(&owner, number, &block, Reading::Stream);
            last = Some((partition, index));
        }
        Ok(())
    }

    /// The error for a block whose checksum is right and whose content is not.
    #[cold]
    pub(crate) fn malformed(&self, index: &Index, number: u32) -> Error {
        let place = index.place(number).unwrap_or_default();
        let part = if number < HISTORY_NUMBERS { "main block" } else { "history block" };
        self.damaged(place.offset, part, "entries", "others bytes")
    }

    /// The newest entry of a key at or below `at`. `hash` is that of the filters.
    #[inline]
    pub(crate) fn get(&self, table: EntryKind, prefix: &[u8], hash: u64, at: Version, wanted: Wanted) -> Result<Lookup> {
        let Some(located) = self.locate(table, prefix, hash)? else { return Ok(Lookup::Absent) };
        let block = located.block()?;
        located.get(&block, located.guess(&block)?, at, wanted)
    }

    /// Where a key is, if it is in the file.
    #[inline]
    pub(crate) fn locate<'a>(&'a self, table: EntryKind, prefix: &'a [u8], hash: u64) -> Result<Option<Located<'a>>> {
        let partitions = self.partitions()?;
        let Some(partition) = partitions.find(table, prefix) else { return Ok(None) };
        let index = self.index(partitions, partition, Reading::Point)?;
        if !index.filter.may_hold(hash) {
            return Ok(None);
        }
        let Some(number) = index.table(table).and_then(|table| index.find(table, prefix)) else { return Ok(None) };
        let Some(rest) = prefix.strip_prefix(index.common(number)) else { return Ok(None) };
        Ok(Some(Located { segment: self, index, number, rest }))
    }

    /// False if a key is surely not in the file.
    pub(crate) fn may_hold(&self, table: EntryKind, prefix: &[u8], hash: u64) -> Result<bool> {
        let partitions = self.partitions()?;
        let Some(partition) = partitions.find(table, prefix) else { return Ok(false) };
        Ok(self.index(partitions, partition, Reading::Point)?.filter.may_hold(hash))
    }

    /// A key at about the middle of the file, if it has more than one block.
    pub(crate) fn middle(&self) -> Result<Option<TableKey>> {
        let partitions = self.partitions()?;
        let number = partitions.len() / 2;
        if partitions.len() % 2 == 0 {
            return Ok(partitions.get(number).map(|partition| partition.first.clone()));
        }
        let index = self.index_to_rewrite(partitions, number)?;
        let block = index.main.len() / 2;
        let table = index.tables().iter().find(|table| table.numbers.contains(&block));
        let key = table.map(|table| TableKey { table: table.table, prefix: index.first(block).to_vec() });
        Ok(key.filter(|key| *key > self.meta.first))
    }

    fn get_old(&self, index: &Arc<Index>, history: HistoryRef, newest: Version, at: Version, wanted: Wanted) -> Result<Lookup> {
        let (number, offset) = self.history_group(index, history, newest, at, Reading::Point)?;
        let block = self.history_block(index, number, Reading::Point)?;
        let seen = self.see_old(index, &block, number, offset, newest, at)?;
        self.lookup(index, &block, &seen, wanted)
    }

    /// The history block that holds the newest version at or below `at`, if any does, and where in it the key's group is.
    pub(crate) fn history_group(
        &self,
        index: &Arc<Index>,
        history: HistoryRef,
        newest: Version,
        at: Version,
        reading: Reading,
    ) -> Result<(u32, usize)> {
        let first = (history.block, usize::from(history.offset));
        if history.more == 0 {
            return Ok(first);
        }
        let block = self.history_block(index, history.block, reading)?;
        let group = Group::read(&block, first.1, newest);
        let oldest = group.and_then(|group| group.oldest());
        if oldest.ok_or_else(|| self.malformed(index, history.block.saturating_add(HISTORY_NUMBERS)))? <= at {
            return Ok(first);
        }
        // The blocks between the first and the last hold nothing but this history, so their ranges are those of its groups.
        let between = index.history.get(history.block as usize + 1..history.block.saturating_add(history.more) as usize);
        let between = between.ok_or_else(|| self.malformed(index, history.block.saturating_add(HISTORY_NUMBERS)))?;
        let found = between.partition_point(|block| block.versions.0 > at);
        Ok((history.block + 1 + to_u32(found), 0))
    }

    /// What is to be seen of a group at `at`.
    #[inline]
    pub(crate) fn see_old<'a>(
        &self,
        index: &Index,
        block: &'a [u8],
        number: u32,
        offset: usize,
        newest: Version,
        at: Version,
    ) -> Result<Seen<'a>> {
        let seen = Group::read(block, offset, newest).and_then(|group| {
            let found = group.find(at)?;
            if found == group.len() { Some(Seen::Nothing) } else { group.get(found).map(|old| Seen::old(&old)) }
        });
        seen.ok_or_else(|| self.malformed(index, number.saturating_add(HISTORY_NUMBERS)))
    }

    /// The answer for what was seen in a block.
    #[inline]
    fn lookup(&self, index: &Index, block: &Bytes, seen: &Seen<'_>, wanted: Wanted) -> Result<Lookup> {
        Ok(match *seen {
            Seen::Nothing => Lookup::Absent,
            Seen::Tombstone(version) => Lookup::Tombstone { version },
            Seen::Value(version, ..) if wanted == Wanted::Presence => {
                Lookup::Value { version, suffix: Bytes::new(), bytes: Bytes::new() }
            }
            Seen::Value(version, suffix, value, is_apart) => {
                let suffix = if suffix.is_empty() { Bytes::new() } else { block.slice_ref(suffix) };
                let bytes = if is_apart { self.value(index, value)? } else { block.slice_ref(value) };
                Lookup::Value { version, suffix, bytes }
            }
        })
    }

    /// A value as its writer gave it, from what is stored.
    pub(crate) fn decoded_value(&self, payload: &Bytes, codec: Codec, raw_len: u32) -> Result<Bytes> {
        if codec == Codec::None {
            return Ok(payload.clone());
        }
        self.decoded(codec, payload, raw_len as usize, &Place::default(), None).map(Bytes::from)
    }

    fn value_ref(&self, index: &Index, reference: &[u8]) -> Result<ValueRef> {
        let found = ValueRef::decode(reference, &index.data);
        found.ok_or_else(|| self.damaged(0, "value's reference", "a place in its partition", "another"))
    }

    /// A value that is apart.
    pub(crate) fn value(&self, index: &Index, reference: &[u8]) -> Result<Bytes> {
        let reference = self.value_ref(index, reference)?;
        let (payload, codec) = self.stored_value(&reference, Reason::SstRead)?;
        if codec == Codec::None {
            return Ok(payload);
        }
        self.decoded(codec, &payload, reference.raw_len as usize, &reference.place, None).map(Bytes::from)
    }

    /// A value that is apart, as it is stored, for a rewrite.
    pub(crate) fn value_to_rewrite(&self, index: &Index, reference: &[u8]) -> Result<(Bytes, Codec, u32)> {
        let reference = self.value_ref(index, reference)?;
        let (payload, codec) = self.stored_value(&reference, Reason::SstCompact)?;
        Ok((payload, codec, reference.raw_len))
    }

    fn stored_value(&self, reference: &ValueRef, reason: Reason) -> Result<(Bytes, Codec)> {
        let place = &reference.place;
        let bytes = self.read_at(place.offset, place.frame_len(), reason)?;
        let frame = open_frame(&bytes, place, &self.shared.identity).map_err(corruption)?;
        if frame.raw_len != reference.raw_len as usize {
            let expected = format!("{} bytes, as its entry says", reference.raw_len);
            return Err(self.damaged(place.offset, "value", expected, format!("{} bytes", frame.raw_len)));
        }
        let (codec, len) = (frame.codec, frame.payload.len());
        Ok((Bytes::from(bytes).slice(..len), codec))
    }

    /// Reads and checks every byte but those of values apart.
    pub(crate) fn verify(&self) -> Result<u64> {
        let partitions = self.load_partitions(Reason::Verify)?;
        let footer = self.footer(Reason::Verify)?;
        self.read_part(&footer.summary, Reason::Verify)?;
        for number in 0..partitions.len() {
            let index = self.load_index(&partitions, number, Reason::Verify)?;
            let history = (0..to_u32(index.history.len())).map(|number| number + HISTORY_NUMBERS);
            for number in (0..to_u32(index.main.len())).chain(history) {
                self.load_block(&index, number, Reason::Verify)?;
            }
        }
        Ok(footer.entries)
    }
}

/// The only place where a key can be: a main block. Looking there takes three steps, each of which waits for memory, so that whoever
/// looks for many keys takes each step for all of them.
#[derive(Debug)]
pub(crate) struct Located<'a> {
    segment: &'a Segment,
    index: IndexRef,
    number: usize,
    /// The key after the common prefix of the block's keys.
    rest: &'a [u8],
}

impl Located<'_> {
    /// The same with a count on the index: a thread has few places for what it only looks at, and more of them cost more than counts.
    #[inline]
    pub(crate) fn into_own(self) -> Self {
        Self { index: IndexRef::from_inner(IndexRef::into_inner(self.index)), ..self }
    }

    /// The block.
    #[inline]
    pub(crate) fn block(&self) -> Result<BlockRef> {
        self.segment.main_block(&self.index, self.number, Reading::Point)
    }

    #[inline]
    fn main<'a>(&self, block: &'a BlockRef) -> MainBlock<'a> {
        let keys = usize::from(self.index.main[self.number].keys);
        MainBlock::new(block, keys, self.index.versions[self.number].0)
    }

    /// The number of the first key in the block that may be it.
    #[inline]
    pub(crate) fn guess(&self, block: &BlockRef) -> Result<usize> {
        let guess = self.main(block).first_at_least(head(self.rest), self.index.main[self.number].heads());
        guess.ok_or_else(|| self.malformed())
    }

    /// The newest entry at or below `at`, from what the steps before have found.
    #[inline]
    pub(crate) fn get(&self, block: &BlockRef, guess: usize, at: Version, wanted: Wanted) -> Result<Lookup> {
        let found = self.main(block).lower_bound_from(guess, self.rest);
        let Some(entry) = found.ok_or_else(|| self.malformed())?.1 else { return Ok(Lookup::Absent) };
        if entry.version <= at {
            return self.segment.lookup(&self.index, block, &Seen::newest(&entry), wanted);
        }
        match entry.history {
            Some(history) => self.segment.get_old(&self.index, history, entry.version, at, wanted),
            None => Ok(Lookup::Absent),
        }
    }

    #[cold]
    fn malformed(&self) -> Error {
        self.segment.malformed(&self.index, to_u32(self.number))
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if self.is_obsolete.load(Ordering::Acquire)
            && let Err(error) = self.files.disk.remove(FileId::Sst(self.identity.number), Reason::SstRemove)
        {
            // It is in no manifest any more, so that the next open sweeps it.
            tracing::warn!(%error, "could not remove a sorted file that nothing needs");
        }
    }
}

/// The number of a block; a file has far fewer than 2^32.
pub(crate) fn to_u32(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// An error for what cannot be, in place of a panic.
pub(crate) fn impossible(what: &str) -> Error {
    Error::with_source(ErrorKind::Corruption, what.to_owned())
}
