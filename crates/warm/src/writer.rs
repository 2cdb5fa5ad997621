//! Writing a sorted file from entries in order.

use std::sync::Arc;

use thermocline_format::{ENVELOPE_SIZE_BYTES, Envelope, FileKind, Salt};
use thermocline_io::{DiskFile, Reason, write_all_at};
use thermocline_tier::{EntryKind, Result, TableStats, Version};

use crate::block::{BuiltBlock, HistoryRef, MainBuilder, NewEntry};
use crate::cache::Prefill;
use crate::codec::{Codec, Compression, Encoder};
use crate::error::{disk_error, sync_error};
use crate::filter::{self, Filter};
use crate::frame::seal_frame;
use crate::history::{BuiltHistory, HistoryBuilder, NewOld};
use crate::layout::{
    BLOCK_SIZE_BYTES, FOOTER_SIZE_BYTES, FileIdentity, FileIndex, Footer, HistoryBlockEntry, MainBlockEntry,
    PARTITION_HISTORY_RATIO, PartitionEntry, PartitionIndex, Place, TableEntry, VALUE_APART_SIZE_BYTES_MIN, ValueRef, flags,
    group, to_u64,
};
use crate::meta::FileMeta;
use crate::options::WarmOptions;

/// So much of a file's beginning is looked at, at most, to decide whether a dictionary pays.
const SAMPLE_SIZE_BYTES: usize = 1 << 20;
/// Files with less are not worth a dictionary.
const SAMPLE_SIZE_BYTES_MIN: usize = 128 << 10;
/// Blocks are halved where the data is larger than the cache, but not more than so many times: indexes and filters take 2 to 3 % of it.
const HALVED_CACHES_MAX: u64 = 8;
const DICTIONARY_SIZE_BYTES: usize = 16 << 10;

/// A value as it comes to a file.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value<'a> {
    Tombstone,
    Bytes(&'a [u8]),
    /// One that lies apart in another file: its frame's payload, as it is stored there.
    Stored {
        payload: &'a [u8],
        codec: Codec,
        raw_len: u32,
    },
}

impl Value<'_> {
    fn raw_len(&self) -> usize {
        match self {
            Self::Tombstone => 0,
            Self::Bytes(bytes) => bytes.len(),
            Self::Stored { raw_len, .. } => *raw_len as usize,
        }
    }
}

/// An entry as it comes to a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewVersion<'a> {
    pub(crate) table: EntryKind,
    pub(crate) prefix: &'a [u8],
    pub(crate) suffix: &'a [u8],
    pub(crate) version: Version,
    pub(crate) value: Value<'a>,
}

/// The key that is being written: its newest version, and where the older ones went.
#[derive(Debug, Default)]
struct Current {
    table: Option<EntryKind>,
    prefix: Vec<u8>,
    suffix: Vec<u8>,
    version: Version,
    oldest: Version,
    flags: u8,
    value: Vec<u8>,
    history: Option<HistoryRef>,
    /// The history block that holds the end of its history.
    history_block: u32,
    /// It was read from a cached block.
    is_cached: bool,
}

/// A block that is complete, before compression.
#[derive(Debug)]
enum Built {
    /// With its table, and whether it takes the place of cached ones.
    Main(EntryKind, BuiltBlock, bool),
    History(BuiltHistory),
}

impl Built {
    fn raw(&self) -> &[u8] {
        match self {
            Self::Main(_, block, _) => &block.raw,
            Self::History(block) => &block.raw,
        }
    }
}

/// A main block that waits for its run.
#[derive(Debug)]
struct Waiting {
    table: EntryKind,
    len: usize,
    codec: Codec,
    raw_len: u32,
    entry: MainBlockEntry,
}

/// How large the parts of a file become.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// How much is written at a time. Main blocks are gathered to runs of about this size, so that a scan of the newest versions reads on.
    write: usize,
    /// Of a main block before compression.
    main: usize,
    /// Of a history block before compression.
    history: usize,
    /// Main blocks of a partition.
    partition_blocks: usize,
}

impl Sizes {
    /// For a tier that holds so much of each table.
    pub(crate) fn new(options: &WarmOptions, tables: impl Iterator<Item = TableStats>) -> Self {
        let (mut newest_bytes, mut all_bytes) = (0_u64, 0_u64);
        for stats in tables {
            let newest = u128::from(stats.user_bytes) * u128::from(stats.keys) / u128::from(stats.entries.max(1));
            newest_bytes = newest_bytes.saturating_add(u64::try_from(newest).unwrap_or(u64::MAX));
            all_bytes = all_bytes.saturating_add(stats.user_bytes);
        }
        let block = usize::try_from(options.block_size_bytes).unwrap_or(usize::MAX).min(BLOCK_SIZE_BYTES);
        // What does not fit is read again and again: half of a block for one value is half of the work. But indexes of small blocks must leave room.
        let cache = options.cache_size_bytes;
        let is_halved = |bytes: u64| bytes > cache && bytes <= cache.saturating_mul(HALVED_CACHES_MAX);
        let fitting = |bytes| if is_halved(bytes) { block / 2 } else { block };
        Self {
            write: usize::try_from(options.write_size_bytes).unwrap_or(usize::MAX),
            main: fitting(newest_bytes),
            history: fitting(all_bytes),
            partition_blocks: options.partition_blocks,
        }
    }
}

/// The partition that is being written.
#[derive(Debug, Default)]
struct Partition {
    /// Where it begins.
    start: u64,
    main_blocks: usize,
    history_blocks: u32,
    /// How many of its main blocks are compressed.
    encoded: u32,
    /// Of its keys.
    hashes: Vec<u64>,
    /// Its versions, and its blocks as far as it is known where they are.
    index: PartitionIndex,
}

/// See the module. Entries come by table, key and falling version.
#[derive(Debug)]
pub(crate) struct SstWriter {
    file: Arc<dyn DiskFile>,
    identity: FileIdentity,
    salt: Salt,
    sizes: Sizes,
    blocks: Encoder,
    values: Encoder,
    /// What is ready to be written, at `offset`.
    out: Vec<u8>,
    offset: u64,
    /// The payloads of the main blocks that wait for their run.
    run: Vec<u8>,
    waiting: Vec<Waiting>,
    /// The first blocks, until it is decided whether there is a dictionary.
    sample: Option<Vec<Built>>,
    sample_size: usize,
    dictionary: Vec<u8>,
    main: MainBuilder,
    history: HistoryBuilder,
    current: Current,
    partition: Partition,
    index: FileIndex,
    entries: u64,
    /// How many keys of the main block that is being filled were read from cached blocks.
    cached_keys: usize,
    prefill: Prefill,
}

impl SstWriter {
    /// Begins a file that is empty.
    pub(crate) fn new(
        file: Arc<dyn DiskFile>,
        identity: FileIdentity,
        compression: Compression,
        sizes: Sizes,
        prefill: Prefill,
    ) -> Self {
        let out = Envelope::new(FileKind::Sst, identity.number, identity.store).encode().to_vec();
        let sample = matches!(compression, Compression::Zstd(_)).then(Vec::new);
        Self {
            file,
            identity,
            salt: identity.salt(),
            sizes,
            blocks: Encoder::new(compression),
            values: Encoder::new(compression),
            out,
            offset: 0,
            run: Vec::new(),
            waiting: Vec::new(),
            sample,
            sample_size: 0,
            dictionary: Vec::new(),
            main: MainBuilder::default(),
            history: HistoryBuilder::default(),
            current: Current::default(),
            partition: Partition { start: to_u64(ENVELOPE_SIZE_BYTES), ..Partition::default() },
            index: FileIndex::default(),
            entries: 0,
            cached_keys: 0,
            prefill,
        }
    }

    /// About how long the file has become.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.offset + to_u64(self.out.len() + self.run.len() + self.sample_size / 2)
    }

    /// The number of the file.
    pub(crate) fn number(&self) -> u64 {
        self.identity.number
    }

    fn position(&self) -> u64 {
        self.offset + to_u64(self.out.len())
    }

    /// Says that the entry that was pushed last was read from a cached block.
    pub(crate) fn note_cached(&mut self) {
        self.current.is_cached = true;
    }

    /// Adds an entry: of a higher key than the one before, or of the same key and a lower version.
    pub(crate) fn push(&mut self, entry: &NewVersion<'_>) -> Result<()> {
        let is_same_key = self.current.table == Some(entry.table) && self.current.prefix == entry.prefix;
        self.entries += 1;
        let user_bytes = to_u64(entry.prefix.len() + entry.suffix.len() + entry.value.raw_len());
        if is_same_key {
            self.push_old(entry)?;
        } else {
            self.close_key()?;
            if self.current.table != Some(entry.table) {
                // A block holds keys of one table.
                self.end_main()?;
                self.index.tables.push((entry.table, TableStats::default()));
            }
            self.open_key(entry)?;
        }
        // Only now: the key before may have ended a partition.
        for versions in [&mut self.index.versions, &mut self.partition.index.versions] {
            *versions = (versions.0.min(entry.version), versions.1.max(entry.version));
        }
        if let Some((_, stats)) = self.index.tables.last_mut() {
            stats.keys += u64::from(!is_same_key);
            stats.entries += 1;
            stats.tombstones += u64::from(matches!(entry.value, Value::Tombstone));
            stats.user_bytes += user_bytes;
        }
        Ok(())
    }

    fn open_key(&mut self, entry: &NewVersion<'_>) -> Result<()> {
        let mut value = std::mem::take(&mut self.current.value);
        value.clear();
        let flags = match entry.value {
            Value::Tombstone => flags::TOMBSTONE,
            Value::Bytes(bytes) if bytes.len() < VALUE_APART_SIZE_BYTES_MIN => {
                value.extend_from_slice(bytes);
                0
            }
            apart => {
                value.extend_from_slice(&self.write_value(apart)?.encode());
                flags::APART
            }
        };
        let current = &mut self.current;
        current.table = Some(entry.table);
        current.prefix.clear();
        current.prefix.extend_from_slice(entry.prefix);
        current.suffix.clear();
        current.suffix.extend_from_slice(entry.suffix);
        (current.version, current.oldest, current.flags) = (entry.version, entry.version, flags);
        (current.value, current.history, current.is_cached) = (value, None, false);
        self.partition.hashes.push(filter::hash(entry.table.code(), entry.prefix));
        Ok(())
    }

    fn push_old(&mut self, entry: &NewVersion<'_>) -> Result<()> {
        if self.history.is_full(self.sizes.history) {
            self.close_history()?;
        }
        let stored;
        let (bits, value) = match entry.value {
            Value::Tombstone => (group::TOMBSTONE, &[][..]),
            Value::Bytes(bytes) if bytes.len() < VALUE_APART_SIZE_BYTES_MIN => (0, bytes),
            apart => {
                stored = self.write_value(apart)?.encode();
                (group::APART, &stored[..])
            }
        };
        let current = &mut self.current;
        match &mut current.history {
            None => {
                // A block is closed long before 64 KiB.
                let offset = u16::try_from(self.history.offset()).unwrap_or(u16::MAX);
                current.history = Some(HistoryRef { block: self.partition.history_blocks, offset, more: 0 });
            }
            Some(history) if current.history_block != self.partition.history_blocks => history.more += 1,
            Some(_) => {}
        }
        current.history_block = self.partition.history_blocks;
        current.oldest = entry.version;
        self.history.push(&NewOld { version: entry.version, suffix: entry.suffix, bits, value }, current.version);
        Ok(())
    }

    /// Writes a value apart and says where.
    fn write_value(&mut self, value: Value<'_>) -> Result<ValueRef> {
        let offset = self.position();
        let start = self.out.len();
        let (codec, raw_len) = match value {
            Value::Tombstone => (Codec::None, 0),
            Value::Bytes(bytes) => {
                let (codec, payload) = self.values.encode(bytes);
                self.out.extend_from_slice(payload);
                (codec, u32::try_from(bytes.len()).unwrap_or(u32::MAX))
            }
            Value::Stored { payload, codec, raw_len } => {
                self.out.extend_from_slice(payload);
                (codec, raw_len)
            }
        };
        let place = seal_frame(&mut self.out, start, offset, codec, raw_len, self.salt);
        self.write_out(self.sizes.write)?;
        Ok(ValueRef { place, raw_len })
    }

    /// The key's newest version joins its block, now that it is known where the older ones are.
    fn close_key(&mut self) -> Result<()> {
        self.history.close_group();
        let current = &self.current;
        if current.table.is_none() {
            return Ok(());
        }
        let Current { version, oldest, flags, history, is_cached, .. } = self.current;
        self.cached_keys += usize::from(is_cached);
        let Current { prefix, suffix, value, .. } = &self.current;
        self.main.push(&NewEntry { key: prefix, suffix, version, flags, value, history, oldest });
        if self.main.is_full(self.sizes.main) || self.has_much_history() { self.end_main() } else { Ok(()) }
    }

    fn has_much_history(&self) -> bool {
        let history_blocks_max = self.sizes.partition_blocks.saturating_mul(PARTITION_HISTORY_RATIO);
        self.partition.history_blocks as usize >= history_blocks_max
    }

    /// Closes the main block behind a key, and the partition with it if that is full: all that belongs to the key is in it, and nothing of
    /// the next one.
    fn end_main(&mut self) -> Result<()> {
        self.close_main()?;
        let is_full = self.partition.main_blocks >= self.sizes.partition_blocks || self.has_much_history();
        if is_full { self.close_partition() } else { Ok(()) }
    }

    fn close_main(&mut self) -> Result<()> {
        let (Some(block), Some(table)) = (self.main.finish(), self.current.table) else { return Ok(()) };
        self.partition.main_blocks += 1;
        // Most of it, so that few blocks that are cached do not bring many that nobody has read.
        let is_cached = 2 * std::mem::take(&mut self.cached_keys) > usize::from(block.keys);
        self.add(Built::Main(table, block, is_cached))
    }

    fn close_history(&mut self) -> Result<()> {
        let Some(block) = self.history.finish() else { return Ok(()) };
        self.partition.history_blocks += 1;
        self.add(Built::History(block))
    }

    /// Writes the blocks of the partition that still wait, its index and its filter, and begins another one.
    fn close_partition(&mut self) -> Result<()> {
        self.close_history()?;
        self.decide()?;
        self.write_run()?;
        let Partition { start, hashes, index, .. } = std::mem::take(&mut self.partition);
        let versions = index.versions;
        let Some(first) = index.first() else { return Ok(()) };
        let index = self.write_part(&index.encode())?;
        let filter = self.write_part(Filter::build(&hashes).bytes())?;
        self.index.partitions.push(PartitionEntry { first, start, index, filter, versions });
        self.partition.start = filter.end();
        Ok(())
    }

    fn add(&mut self, block: Built) -> Result<()> {
        match &mut self.sample {
            Some(sample) => {
                self.sample_size += block.raw().len();
                sample.push(block);
                if self.sample_size >= SAMPLE_SIZE_BYTES.min(self.sizes.write) { self.decide() } else { Ok(()) }
            }
            None => self.encode(block),
        }
    }

    /// Ends the sample: from now on blocks are encoded as they come, with a dictionary if that pays.
    fn decide(&mut self) -> Result<()> {
        let Some(sample) = self.sample.take() else { return Ok(()) };
        if self.sample_size >= SAMPLE_SIZE_BYTES_MIN
            && let Some(dictionary) = dictionary_that_pays(&sample, self.blocks.compression())
        {
            self.blocks.set_dictionary(&dictionary);
            self.dictionary = dictionary;
        }
        self.sample_size = 0;
        sample.into_iter().try_for_each(|block| self.encode(block))
    }

    fn encode(&mut self, block: Built) -> Result<()> {
        let raw_len = u32::try_from(block.raw().len()).unwrap_or(u32::MAX);
        match block {
            Built::History(BuiltHistory { raw, versions }) => {
                let (offset, start) = (self.position(), self.out.len());
                let (codec, payload) = self.blocks.encode(&raw);
                self.out.extend_from_slice(payload);
                let place = seal_frame(&mut self.out, start, offset, codec, raw_len, self.salt);
                self.partition.index.history.push(HistoryBlockEntry { place, versions });
                self.write_out(self.sizes.write)
            }
            Built::Main(table, BuiltBlock { raw, first, versions, keys, common_len, heads }, is_cached) => {
                if is_cached {
                    self.prefill.keep(self.index.partitions.len(), self.partition.encoded, &raw);
                }
                self.partition.encoded += 1;
                let (codec, payload) = self.blocks.encode(&raw);
                self.run.extend_from_slice(payload);
                let len = payload.len();
                let entry = MainBlockEntry { first, place: Place::default(), versions, keys, common_len, heads };
                self.waiting.push(Waiting { table, len, codec, raw_len, entry });
                if self.run.len() >= self.sizes.write { self.write_run() } else { Ok(()) }
            }
        }
    }

    fn write_run(&mut self) -> Result<()> {
        let mut rest = &self.run[..];
        for Waiting { table, len, codec, raw_len, mut entry } in self.waiting.drain(..) {
            let (payload, behind) = rest.split_at(len);
            rest = behind;
            let (offset, start) = (self.offset + to_u64(self.out.len()), self.out.len());
            self.out.extend_from_slice(payload);
            entry.place = seal_frame(&mut self.out, start, offset, codec, raw_len, self.salt);
            let tables = &mut self.partition.index.tables;
            match tables.last_mut().filter(|last| last.table == table) {
                Some(last) => last.blocks.push(entry),
                None => tables.push(TableEntry { table, blocks: vec![entry] }),
            }
        }
        self.run.clear();
        self.write_out(self.sizes.write)
    }

    /// Hands to the system what is ready, if it is at least `size`.
    fn write_out(&mut self, size: usize) -> Result<()> {
        if self.out.len() >= size {
            write_all_at(&*self.file, self.offset, &self.out, Reason::SstWrite).map_err(disk_error)?;
            self.offset += to_u64(self.out.len());
            self.out.clear();
        }
        Ok(())
    }

    /// Writes something that is not compressed as a frame.
    fn write_part(&mut self, bytes: &[u8]) -> Result<Place> {
        if bytes.is_empty() {
            return Ok(Place::default());
        }
        let (offset, start) = (self.position(), self.out.len());
        self.out.extend_from_slice(bytes);
        let raw_len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let place = seal_frame(&mut self.out, start, offset, Codec::None, raw_len, self.salt);
        self.write_out(self.sizes.write)?;
        Ok(place)
    }

    /// Completes the file and makes its content durable; its entry in the directory is not yet. `None` if nothing was pushed. The
    /// level, the rank and what was applied to it are left to the caller.
    pub(crate) fn finish(mut self) -> Result<Option<(FileMeta, Prefill)>> {
        if self.entries == 0 {
            return Ok(None);
        }
        self.close_key()?;
        self.close_main()?;
        self.close_partition()?;
        self.index.last_key.clone_from(&self.current.prefix);
        let index = self.write_part(&self.index.encode())?;
        let dictionary = std::mem::take(&mut self.dictionary);
        let dictionary = self.write_part(&dictionary)?;
        let file_len = self.position() + to_u64(FOOTER_SIZE_BYTES);
        let footer = Footer { index, dictionary, summary: Place::default(), file_len, entries: self.entries };
        let (bytes, checksum) = footer.encode(self.salt);
        self.out.extend_from_slice(&bytes);
        self.write_out(1)?;
        self.file.sync_data(Reason::SstWrite).map_err(sync_error)?;
        let (Some(first), Some(last)) = (self.index.first().cloned(), self.index.last()) else { return Ok(None) };
        let meta = FileMeta {
            number: self.identity.number,
            level: 0,
            size_bytes: file_len,
            checksum,
            first,
            last,
            version_min: self.index.versions.0,
            version_max: self.index.versions.1,
            applied: 0,
            rank: 0,
            tables: self.index.tables,
            summary: bytes::Bytes::new(),
        };
        Ok(Some((meta, self.prefill)))
    }
}

/// A dictionary made from the blocks, if they become smaller by it, itself included.
fn dictionary_that_pays(sample: &[Built], compression: Compression) -> Option<Vec<u8>> {
    /// The trainer wants many samples, each far smaller than the dictionary.
    const PIECE_SIZE_BYTES: usize = 1024;
    /// Larger blocks hold enough to learn from by themselves (measured: 1 to 2 % at 16 KiB, 10 % at 4 KiB), and training and looking for
    /// more takes time (measured: a third more of it for a rewrite at 8 KiB).
    const BLOCK_SIZE_BYTES_WORTH: usize = BLOCK_SIZE_BYTES / 4;
    let size: usize = sample.iter().map(|block| block.raw().len()).sum();
    if size / sample.len().max(1) > BLOCK_SIZE_BYTES_WORTH {
        return None;
    }
    let pieces: Vec<&[u8]> = sample.iter().flat_map(|block| block.raw().chunks(PIECE_SIZE_BYTES)).collect();
    let dictionary = match zstd::dict::from_samples(&pieces, DICTIONARY_SIZE_BYTES) {
        Ok(dictionary) => dictionary,
        Err(error) => {
            tracing::debug!(%error, "no dictionary for a sorted file");
            return None;
        }
    };
    let size = |encoder: &mut Encoder| sample.iter().map(|block| encoder.encode(block.raw()).1.len()).sum::<usize>();
    let mut encoder = Encoder::new(compression);
    let without = size(&mut encoder);
    encoder.set_dictionary(&dictionary);
    let with = size(&mut encoder) + dictionary.len();
    (with < without - without / 32).then_some(dictionary)
}
