//! Rewriting: several files as one stream of entries, without what no allowed read can see.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use thermocline_tier::{EntryKind, Result, RetainedTables, TableStats, Version};

use crate::ahead::{self, Ahead, STREAM_BLOCKS_MIN};
use crate::block::MainBlock;
use crate::codec::Codec;
use crate::filter;
use crate::history::Group;
use crate::hooks::{Hooks, Offer, Offers};
use crate::index::{HISTORY_NUMBERS, Index, Partitions};
use crate::meta::{FileMeta, TableKey};
use crate::segment::{Seen, Segment, to_u32};
use crate::view::Markers;
use crate::writer::{NewVersion, Value};

/// A value on its way from one file to another.
#[derive(Clone, Debug)]
pub(crate) enum Moved {
    Tombstone,
    Bytes(Bytes),
    /// One that is apart, as it is stored.
    Stored(Bytes, Codec, u32),
}

/// One version of the current key of a [`Rows`].
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) version: Version,
    /// Whether readers have its key's block in the cache.
    pub(crate) is_cached: bool,
    pub(crate) suffix: Bytes,
    pub(crate) value: Moved,
    pub(crate) offer: Offer,
}

/// Where [`Rows`] stands in the current key's history.
#[derive(Debug)]
struct Older {
    number: u32,
    offset: usize,
    /// The block, once something of it was read.
    block: Option<Bytes>,
    index: usize,
    /// How many further blocks the history has.
    more: u32,
}

/// All entries of a file from a key on: keys in order, of each its versions, newest first.
#[derive(Debug)]
pub(crate) struct Rows {
    segment: Arc<Segment>,
    partitions: Arc<Partitions>,
    partition: usize,
    index: Arc<Index>,
    /// The table, by its number in the partition.
    table: usize,
    number: usize,
    block: Option<Bytes>,
    is_cached: bool,
    place: usize,
    newest: Version,
    /// Of the entry that came last, if one did.
    last: Option<Version>,
    older: Option<Older>,
    /// Where the history began that was referred to last, and the last of its blocks that was read: those of later keys come after.
    reached: Option<(u32, u16)>,
    history: Option<(u32, Bytes)>,
    /// Main and history blocks that were read, and those that come next.
    blocks_read: [usize; 2],
    ahead: [Ahead; 2],
    /// The current entry.
    pub(crate) key: TableKey,
    pub(crate) row: Option<Row>,
}

impl Rows {
    /// On the first entry whose key is not below `from`, as one of so many files that are read side by side.
    pub(crate) fn open(segment: &Arc<Segment>, from: Option<&TableKey>, files: usize) -> Result<Self> {
        // Main and history blocks come ahead apart from each other.
        let ahead_size_bytes = ahead::share(ahead::REWRITE_SIZE_BYTES_MAX, files.saturating_mul(2));
        let partitions = Arc::clone(segment.partitions()?);
        let partition = from.and_then(|from| partitions.find(from.table, &from.prefix)).unwrap_or(0);
        let index = segment.index_to_rewrite(&partitions, partition)?;
        let mut rows = Self {
            segment: Arc::clone(segment),
            partitions,
            partition,
            index,
            table: 0,
            number: 0,
            block: None,
            is_cached: false,
            place: 0,
            newest: Version::ZERO,
            last: None,
            older: None,
            reached: None,
            history: None,
            blocks_read: [0; 2],
            ahead: [(); 2].map(|()| Ahead::new(ahead_size_bytes)),
            key: TableKey { table: EntryKind::Multi, prefix: Vec::new() },
            row: None,
        };
        if let Some(from) = from {
            rows.table = rows.index.tables().partition_point(|table| table.table < from.table);
            rows.number = match rows.index.tables().get(rows.table) {
                Some(table) if table.table == from.table => rows.index.find(table, &from.prefix).unwrap_or(table.numbers.start),
                Some(table) => table.numbers.start,
                None => rows.index.main.len(),
            };
        }
        rows.read_newest()?;
        while from.is_some_and(|from| rows.row.is_some() && rows.key < *from) {
            rows.next_key()?;
        }
        Ok(rows)
    }

    /// The sequence of the marks that were applied to the file.
    pub(crate) fn applied(&self) -> u64 {
        self.segment.meta.applied
    }

    /// The oldest version in the file.
    fn version_min(&self) -> Version {
        self.segment.meta.version_min
    }

    /// Goes to the next entry.
    pub(crate) fn advance(&mut self) -> Result<()> {
        if self.older.is_some() { self.read_older() } else { self.next_key() }
    }

    /// Goes to the next key, and reads no history of this one.
    fn next_key(&mut self) -> Result<()> {
        self.older = None;
        self.place += 1;
        self.read_newest()
    }

    /// Reads the newest entry of the key at the place, or of the first key of the next block.
    fn read_newest(&mut self) -> Result<()> {
        self.row = None;
        if self.index.main.get(self.number).is_some_and(|resident| self.place >= usize::from(resident.keys)) {
            self.number += 1;
            self.place = 0;
            self.block = None;
        }
        if self.number >= self.index.main.len() && !self.next_partition()? {
            return Ok(());
        }
        let index = Arc::clone(&self.index);
        let Some(resident) = index.main.get(self.number) else { return Ok(()) };
        let number = u32::try_from(self.number).unwrap_or(u32::MAX);
        if self.block.is_none() {
            let (block, is_cached) = self.read_block(number)?;
            (self.block, self.is_cached) = (Some(block), is_cached);
        }
        while index.tables().get(self.table).is_some_and(|table| table.numbers.end <= self.number) {
            self.table += 1;
        }
        let Some(block) = &self.block else { return Ok(()) };
        let main = MainBlock::new(block, usize::from(resident.keys), index.versions[self.number].0);
        let entry = main.entry(self.place).ok_or_else(|| self.segment.malformed(&index, number))?;
        let table = index.tables().get(self.table).map_or(EntryKind::Multi, |table| table.table);
        // Out of order, a rewrite would make a file that nobody could read.
        let is_first = self.last.is_none() || self.key.table != table;
        if !is_first && !is_below(&self.key.prefix, index.common(self.number), entry.rest) {
            return Err(self.segment.malformed(&index, number));
        }
        self.last = Some(entry.version);
        self.key.table = table;
        self.key.prefix.clear();
        self.key.prefix.extend_from_slice(index.common(self.number));
        self.key.prefix.extend_from_slice(entry.rest);
        self.newest = entry.version;
        let row = self.moved(block, &Seen::newest(&entry))?;
        let history = entry.history;
        self.row = row;
        if let Some(history) = history {
            if self.reached.is_some_and(|reached| (history.block, history.offset) <= reached) {
                // Else a small file could refer to the same versions for each of its keys.
                return Err(self.segment.malformed(&index, number));
            }
            self.reached = Some((history.block, history.offset));
            let (offset, more) = (usize::from(history.offset), history.more);
            self.older = Some(Older { number: history.block, offset, block: None, index: 0, more });
        }
        Ok(())
    }

    /// Goes on to the first block of the next partition; false at the end of the file.
    fn next_partition(&mut self) -> Result<bool> {
        if self.partition + 1 >= self.partitions.len() {
            return Ok(false);
        }
        self.partition += 1;
        self.index = self.segment.index_to_rewrite(&self.partitions, self.partition)?;
        (self.table, self.number, self.place) = (0, 0, 0);
        // History blocks are numbered within their partition.
        (self.block, self.history, self.reached) = (None, None, None);
        Ok(true)
    }

    /// A block by its number among both kinds, and whether it is in the cache. Blocks of each kind come one after the other.
    fn read_block(&mut self, number: u32) -> Result<(Bytes, bool)> {
        let kind = usize::from(number >= HISTORY_NUMBERS);
        self.blocks_read[kind] += 1;
        let ahead = (self.blocks_read[kind] > STREAM_BLOCKS_MIN).then_some(&mut self.ahead[kind]);
        self.segment.block_to_rewrite(&self.index, number, ahead)
    }

    fn read_history(&mut self, number: u32) -> Result<Bytes> {
        if let Some((held, block)) = &self.history
            && *held == number
        {
            return Ok(block.clone());
        }
        let (block, _) = self.read_block(number.saturating_add(HISTORY_NUMBERS).max(HISTORY_NUMBERS))?;
        self.history = Some((number, block.clone()));
        Ok(block)
    }

    fn read_older(&mut self) -> Result<()> {
        let Some(mut older) = self.older.take() else { return Ok(()) };
        let mut block = match older.block.take() {
            Some(block) => block,
            None => self.read_history(older.number)?,
        };
        let malformed = |number: u32| self.segment.malformed(&self.index, number.saturating_add(HISTORY_NUMBERS));
        let mut group = Group::read(&block, older.offset, self.newest).ok_or_else(|| malformed(older.number))?;
        if older.index == group.len() {
            if older.more == 0 {
                return self.next_key();
            }
            let number = older.number + 1;
            older = Older { number, offset: 0, block: None, index: 0, more: older.more - 1 };
            block = self.read_history(number)?;
            self.reached = Some((number, 0));
            let malformed = || self.segment.malformed(&self.index, number.saturating_add(HISTORY_NUMBERS));
            group = Group::read(&block, 0, self.newest).ok_or_else(malformed)?;
        }
        let old = group.get(older.index);
        let old = old.ok_or_else(|| self.segment.malformed(&self.index, older.number.saturating_add(HISTORY_NUMBERS)))?;
        if self.last.is_some_and(|last| old.version >= last) {
            return Err(self.segment.malformed(&self.index, older.number.saturating_add(HISTORY_NUMBERS)));
        }
        let (row, version) = (self.moved(&block, &Seen::old(&old))?, old.version);
        self.last = Some(version);
        older.index += 1;
        older.block = Some(block);
        self.row = row;
        self.older = Some(older);
        Ok(())
    }

    /// Whether whoever looks for the current key comes to where it is.
    fn check_found(&self) -> Result<()> {
        let Self { index, key: TableKey { table, prefix }, .. } = self;
        let offset = index.place(to_u32(self.number)).unwrap_or_default().offset;
        let is_partition = self.partitions.find(*table, prefix) == Some(self.partition);
        let is_block = index.table(*table).and_then(|table| index.find(table, prefix)) == Some(self.number);
        if !is_partition || !is_block {
            return Err(self.segment.damaged(offset, "index", "the block of each key", "another block"));
        }
        if !index.filter.may_hold(filter::hash(table.code(), prefix)) {
            return Err(self.segment.damaged(index.data.end, "filter", "each key", "a key that is missing"));
        }
        let (Some(resident), Some(block)) = (index.main.get(self.number), &self.block) else { return Ok(()) };
        let main = MainBlock::new(block, usize::from(resident.keys), index.versions[self.number].0);
        let rest = prefix.strip_prefix(index.common(self.number)).unwrap_or_default();
        match main.lower_bound(rest, resident.heads()) {
            Some((place, Some(_))) if place == self.place => Ok(()),
            _ => Err(self.segment.damaged(offset, "heads of a block", "those of its lines", "others")),
        }
    }

    fn moved(&self, block: &Bytes, seen: &Seen<'_>) -> Result<Option<Row>> {
        let is_cached = self.is_cached;
        Ok(match *seen {
            Seen::Nothing => None,
            Seen::Tombstone(version) => Some(Row::tombstone(version, is_cached)),
            Seen::Value(version, suffix, value, is_apart) => {
                let suffix = if suffix.is_empty() { Bytes::new() } else { block.slice_ref(suffix) };
                let value = if is_apart {
                    let (payload, codec, raw_len) = self.segment.value_to_rewrite(&self.index, value)?;
                    Moved::Stored(payload, codec, raw_len)
                } else {
                    Moved::Bytes(block.slice_ref(value))
                };
                Some(Row { version, is_cached, suffix, value, offer: Offer::Never })
            }
        })
    }
}

/// Reads every entry of a file, and the values that are apart, which are reached only from there; and compares what the manifest says of them:
/// what is rewritten, and what is left out, goes by that.
pub(crate) fn verify_rows(segment: &Arc<Segment>) -> Result<()> {
    let mut rows = Rows::open(segment, None, 1)?;
    let (mut tables, mut versions) = (BTreeMap::<EntryKind, TableStats>::new(), (Version::MAX, Version::ZERO));
    let mut last: Option<TableKey> = None;
    while let Some(row) = rows.row.take() {
        let is_new_key = last.as_ref() != Some(&rows.key);
        if is_new_key {
            rows.check_found()?;
        }
        let value_len = match &row.value {
            Moved::Tombstone => 0,
            Moved::Bytes(bytes) => bytes.len() as u64,
            Moved::Stored(payload, codec, raw_len) => {
                segment.decoded_value(payload, *codec, *raw_len)?;
                u64::from(*raw_len)
            }
        };
        tables.entry(rows.key.table).or_default().add(&TableStats {
            keys: u64::from(is_new_key),
            entries: 1,
            tombstones: u64::from(matches!(row.value, Moved::Tombstone)),
            user_bytes: (rows.key.prefix.len() + row.suffix.len()) as u64 + value_len,
        });
        versions = (versions.0.min(row.version), versions.1.max(row.version));
        if is_new_key {
            last = Some(rows.key.clone());
        }
        rows.advance()?;
    }
    let FileMeta { tables: said, version_min, version_max, .. } = &segment.meta;
    let is_right = |(found, said): (&TableStats, &TableStats)| {
        // The suffixes of deletions count, and are not read here.
        let is_bytes_right =
            if said.tombstones > 0 { found.user_bytes <= said.user_bytes } else { found.user_bytes == said.user_bytes };
        is_bytes_right && TableStats { user_bytes: said.user_bytes, ..*found } == *said
    };
    let is_same_tables = tables.keys().eq(said.iter().map(|(table, _)| table));
    let are_right = tables.values().zip(said.iter().map(|(_, said)| said)).all(is_right);
    if is_same_tables && are_right && versions == (*version_min, *version_max) {
        return Ok(());
    }
    let expected = format!("{said:?} from version {version_min} to {version_max}, as the manifest says");
    Err(segment.damaged(0, "entries", expected, format!("{tables:?} from version {} to {}", versions.0, versions.1)))
}

/// Whether a key is below the one that consists of two parts.
fn is_below(key: &[u8], head: &[u8], tail: &[u8]) -> bool {
    let (key_head, key_tail) = key.split_at(head.len().min(key.len()));
    key_head.cmp(head).then_with(|| key_tail.cmp(tail)).is_lt()
}

/// One file of level 0; or files of one level below, in the order of their keys, which do not overlap. Only the file whose turn it is has
/// an index, blocks and what was read ahead in memory.
#[derive(Debug)]
pub(crate) struct Chain {
    /// Files to come, the next one last.
    later: Vec<Arc<Segment>>,
    from: Option<TableKey>,
    /// How many chains are read side by side.
    chains: usize,
    /// On an entry; `None` at the end.
    rows: Option<Rows>,
}

impl Chain {
    /// Files as chains in the same order: those first that were written last, and files of one flush, or of one level below 0, by their keys.
    /// All entries whose keys are not below `from`.
    pub(crate) fn open_all(segments: &[Arc<Segment>], from: Option<&TableKey>) -> Result<Vec<Self>> {
        let group = |segment: &Arc<Segment>| {
            let FileMeta { level, rank, .. } = segment.meta;
            (level, if level == 0 { rank } else { 0 })
        };
        let is_chained = |one: &Arc<Segment>, next: &Arc<Segment>| group(one) == group(next);
        let chains = segments.chunk_by(is_chained).count();
        segments.chunk_by(is_chained).map(|files| Self::open(files, from, chains)).collect()
    }

    fn open(files: &[Arc<Segment>], from: Option<&TableKey>, chains: usize) -> Result<Self> {
        let mut chain = Self { later: files.iter().rev().cloned().collect(), from: from.cloned(), chains, rows: None };
        chain.settle()?;
        Ok(chain)
    }

    /// Goes to the next entry, or the next key.
    fn advance(&mut self, skips_older: bool) -> Result<()> {
        match &mut self.rows {
            Some(rows) if skips_older => rows.next_key()?,
            Some(rows) => rows.advance()?,
            None => {}
        }
        self.settle()
    }

    /// Moves on to a file that has an entry.
    fn settle(&mut self) -> Result<()> {
        while self.rows.as_ref().is_none_or(|rows| rows.row.is_none()) {
            // What it has in memory goes before the next one takes any.
            let last = self.rows.take().filter(|rows| rows.last.is_some()).map(|rows| rows.key);
            let Some(segment) = self.later.pop() else { return Ok(()) };
            let rows = Rows::open(&segment, self.from.as_ref(), self.chains)?;
            // As within a file.
            if rows.row.is_some() && last.is_some_and(|last| rows.key <= last) {
                return Err(segment.malformed(&rows.index, to_u32(rows.number)));
            }
            self.rows = Some(rows);
        }
        Ok(())
    }
}

/// What a rewrite keeps.
#[derive(Clone, Debug)]
pub(crate) struct Keep {
    pub(crate) retained: RetainedTables,
    pub(crate) markers: Markers,
    /// The files outside of the rewrite that may hold older versions of its keys: where none does, a tombstone at a key's end hides nothing.
    pub(crate) outside: Arc<Outside>,
    /// Which rows are offered to the strategy, if there is one.
    pub(crate) offers: Option<Offers>,
}

/// Files by what they may hold: in runs, each in the order of its keys, which do not overlap.
#[derive(Debug, Default)]
pub(crate) struct Outside(pub(crate) Vec<Vec<FileMeta>>);

impl Outside {
    /// Whether some may hold a version of a key that is this one or an older one.
    fn may_hold(&self, key: &TableKey, version: Version) -> bool {
        let holds = |run: &Vec<FileMeta>| {
            let place = run.partition_point(|file| file.last < *key);
            run.get(place).is_some_and(|file| {
                let has_table = || file.tables.iter().any(|(table, _)| *table == key.table);
                file.first <= *key && file.version_min <= version && has_table()
            })
        };
        self.0.iter().any(holds)
    }
}

/// Goes through the entries of a tier, by key and of each key the newest first, and says which must be kept.
#[derive(Debug)]
pub(crate) struct KeepWalk {
    retained: RetainedTables,
    /// The key that came last.
    key: Option<TableKey>,
    /// Its last version, and how many came before.
    newer: Version,
    position: u64,
}

impl KeepWalk {
    pub(crate) fn new(retained: RetainedTables) -> Self {
        Self { retained, key: None, newer: Version::ZERO, position: 0 }
    }

    /// Whether the next entry must be kept.
    pub(crate) fn keeps(&mut self, table: EntryKind, prefix: &[u8], version: Version) -> bool {
        let key = self.key.get_or_insert_with(|| TableKey { table, prefix: Vec::new() });
        let is_same_key = self.position > 0 && key.table == table && key.prefix == prefix;
        if !is_same_key {
            key.table = table;
            key.prefix.clear();
            key.prefix.extend_from_slice(prefix);
            self.position = 0;
        }
        let newer = is_same_key.then_some(self.newer);
        let is_kept = self.retained.of(table, prefix).keeps(version, newer, self.position);
        self.newer = version;
        self.position += 1;
        is_kept
    }
}

/// What a row counts beside its bytes where work is measured, so that rows without any count too.
const ROW_SIZE_BYTES: usize = 8;

/// What [`Merge::next_within`] has come upon.
#[derive(Debug)]
pub(crate) enum Next {
    /// An entry of the [key](Merge::key).
    Entry(Row),
    /// Nothing so far: to be called again.
    Later,
    /// There is nothing more.
    End,
}

/// Several files as one: each entry once, without what is marked as dropped and what no allowed read can see.
#[derive(Debug)]
pub(crate) struct Merge {
    /// Those first that were written last.
    inputs: Vec<Chain>,
    keep: Keep,
    /// The first key that does not belong to it any more.
    end: Option<TableKey>,
    /// The strategy's, in a rewrite that has one.
    pub(crate) hooks: Option<Hooks>,
    /// The key of the entry that came last, and its version, whether it was kept or not.
    pub(crate) key: TableKey,
    newer: Option<Version>,
    /// How many of its entries came before.
    position: u64,
    /// Whether the settled one has come.
    has_settled: bool,
    /// Tombstones that are kept only if something older follows.
    tombstones: Vec<Version>,
    ready: std::collections::VecDeque<Row>,
    read: u64,
}

impl Merge {
    pub(crate) fn new(inputs: Vec<Chain>, keep: Keep) -> Self {
        Self {
            inputs,
            keep,
            end: None,
            hooks: None,
            key: TableKey { table: EntryKind::Multi, prefix: Vec::new() },
            newer: None,
            position: 0,
            has_settled: false,
            tombstones: Vec::new(),
            ready: std::collections::VecDeque::new(),
            read: 0,
        }
    }

    /// The same without keys from `end` on, and with the strategy's hooks.
    pub(crate) fn part(self, end: Option<TableKey>, hooks: Option<Hooks>) -> Self {
        Self { end, hooks, ..self }
    }

    /// The bytes of keys and values that were read since this was last asked.
    pub(crate) fn take_read_bytes(&mut self) -> u64 {
        std::mem::take(&mut self.read)
    }

    /// The next entry in order, with its key; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<(&TableKey, Row)>> {
        Ok(match self.next_within(u64::MAX)? {
            Next::Entry(row) => Some((&self.key, row)),
            Next::Later | Next::End => None,
        })
    }

    /// The next entry in order, unless so many bytes were read without coming upon one that is kept.
    pub(crate) fn next_within(&mut self, read_max: u64) -> Result<Next> {
        loop {
            if let Some(row) = self.ready.pop_front() {
                return Ok(Next::Entry(row));
            }
            if self.read >= read_max {
                return Ok(Next::Later);
            }
            let Some(number) = self.lowest() else {
                self.tombstones.clear();
                return Ok(Next::End);
            };
            let chain = &mut self.inputs[number];
            let Some(input) = &mut chain.rows else { return Ok(Next::End) };
            let Some(mut row) = input.row.take() else { return Ok(Next::End) };
            let (applied, version_min) = (input.applied(), input.version_min());
            let is_same_key = self.newer.is_some() && self.key == input.key;
            if !is_same_key {
                self.key.table = input.key.table;
                self.key.prefix.clone_from(&input.key.prefix);
                self.newer = None;
                self.position = 0;
                self.has_settled = false;
                self.tombstones.clear();
                if self.end.as_ref().is_some_and(|end| self.key >= *end) {
                    return Ok(Next::End);
                }
                if let Some(hooks) = &mut self.hooks {
                    hooks.turn_to_key()?;
                }
            }
            self.read += (ROW_SIZE_BYTES + self.key.prefix.len() + row.suffix.len()) as u64 + value_len(&row.value);
            let is_table_hidden = self.keep.markers.hides_table(self.key.table, applied);
            let is_hidden = is_table_hidden || self.keep.markers.hides(self.key.table, &self.key.prefix, row.version, applied);
            let retained = self.keep.retained.of(self.key.table, &self.key.prefix);
            // Where nothing is kept of what the file has below, it need not be read.
            chain.advance(is_table_hidden || !is_hidden && retained.keeps_newest_only(version_min, row.version))?;
            // The same version in an earlier file was written later.
            if is_hidden || self.newer == Some(row.version) {
                continue;
            }
            let is_kept = retained.keeps(row.version, self.newer, self.position);
            self.newer = Some(row.version);
            self.position += 1;
            if let Some(offers) = self.keep.offers {
                let (settled_up_to, is_first) = (retained.settled_up_to(), !self.has_settled);
                self.has_settled |= row.version <= settled_up_to;
                row.offer = offers.of(row.version, settled_up_to, is_first);
                let may_go = is_kept && is_first && row.version <= settled_up_to && !offers.is_pinned(row.version);
                if may_go
                    && let Some(hooks) = &mut self.hooks
                    && hooks.filter(&row.as_new(&self.key))?
                {
                    // It hides what other files have of its key, as long as there is any.
                    row = Row::tombstone(row.version, row.is_cached);
                }
            }
            if is_kept {
                self.take(row);
            }
        }
    }

    fn take(&mut self, row: Row) {
        if matches!(row.value, Moved::Tombstone) && !self.keep.outside.may_hold(&self.key, row.version) {
            // A horizon of 0 is none.
            let retained = self.keep.retained.of(self.key.table, &self.key.prefix);
            let (horizon, position) = (retained.horizon(), self.position.saturating_sub(1));
            if horizon > Version::ZERO && row.version <= horizon && !retained.keeps_anyway(row.version, position) {
                self.tombstones.push(row.version);
                return;
            }
        }
        let is_cached = row.is_cached;
        self.ready.extend(self.tombstones.drain(..).map(|version| Row::tombstone(version, is_cached)));
        self.ready.push_back(row);
    }

    /// The input with the lowest key, of several the one with the newest version, of several the one that was written last.
    fn lowest(&self) -> Option<usize> {
        let mut best: Option<(usize, &TableKey, Version)> = None;
        for (number, chain) in self.inputs.iter().enumerate() {
            let Some(input) = &chain.rows else { continue };
            let Some(row) = &input.row else { continue };
            let is_better = best.is_none_or(|(_, key, version)| match input.key.cmp(key) {
                std::cmp::Ordering::Less => true,
                std::cmp::Ordering::Equal => row.version > version,
                std::cmp::Ordering::Greater => false,
            });
            if is_better {
                best = Some((number, &input.key, row.version));
            }
        }
        best.map(|(number, ..)| number)
    }
}

fn value_len(value: &Moved) -> u64 {
    match value {
        Moved::Tombstone => 0,
        Moved::Bytes(bytes) | Moved::Stored(bytes, ..) => bytes.len() as u64,
    }
}

impl Row {
    fn tombstone(version: Version, is_cached: bool) -> Self {
        Self { version, is_cached, suffix: Bytes::new(), value: Moved::Tombstone, offer: Offer::Never }
    }

    /// As a writer takes it.
    pub(crate) fn as_new<'a>(&'a self, key: &'a TableKey) -> NewVersion<'a> {
        let value = match &self.value {
            Moved::Tombstone => Value::Tombstone,
            Moved::Bytes(bytes) => Value::Bytes(bytes),
            Moved::Stored(payload, codec, raw_len) => Value::Stored { payload, codec: *codec, raw_len: *raw_len },
        };
        NewVersion { table: key.table, prefix: &key.prefix, suffix: &self.suffix, version: self.version, value }
    }
}
