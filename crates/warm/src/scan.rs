//! Scans: a cursor on each file or level, merged by key and version.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::ops::{Bound, Range};
use std::sync::Arc;

use thermocline_format::Corruption;
use thermocline_tier::{
    Direction, EntryKind, Error, ErrorKind, INLINE_VALUE_SIZE_BYTES_MAX, RangeBatch, RangeRequest, ReadWindow, Result, TierScan,
    Version,
};

use crate::ahead::{self, Ahead, STREAM_BLOCKS_MIN};
use crate::block::{Entry, HistoryRef, MainBlock};
use crate::cache::{Block, Reading};
use crate::error::corruption;
use crate::index::{Index, IndexRef, Partitions};
use crate::merge::verify_rows;
use crate::meta::TableKey;
use crate::segment::{Seen, Segment, impossible};
use crate::view::View;

/// The keys of one table in one file, one after the other.
#[derive(Debug)]
struct Cursor {
    segment: Arc<Segment>,
    partitions: Arc<Partitions>,
    table: EntryKind,
    /// The partitions that can hold keys of the table.
    span: Range<usize>,
    partition: usize,
    index: Arc<Index>,
    /// The main blocks of the table in the partition.
    blocks: Range<usize>,
    number: usize,
    block: Arc<Block>,
    /// The key in the block.
    place: usize,
    /// The current key, if there is one.
    key: Vec<u8>,
    is_valid: bool,
    /// The history block that was read last.
    history: Option<(u32, Arc<Block>)>,
    blocks_read: usize,
    ahead: Ahead,
}

impl Cursor {
    /// On the first key of the range in the direction; `None` if the file has nothing of the table.
    fn open(segment: &Arc<Segment>, request: &RangeRequest, ahead_size_bytes: u64) -> Result<Option<Self>> {
        let partitions = Arc::clone(segment.partitions()?);
        let (table, span) = (request.table, partitions.of_table(request.table));
        let bound = match request.direction {
            Direction::Forward => &request.range.start,
            Direction::Reverse => &request.range.end,
        };
        let mut partition = match (bound, request.direction) {
            (Bound::Included(key) | Bound::Excluded(key), _) => partitions.find(table, key).unwrap_or(span.start),
            (Bound::Unbounded, Direction::Forward) => span.start,
            (Bound::Unbounded, Direction::Reverse) => span.end.wrapping_sub(1),
        };
        let (index, blocks) = loop {
            if !span.contains(&partition) {
                return Ok(None);
            }
            let index = IndexRef::into_inner(segment.index(&partitions, partition, Reading::Point)?);
            if let Some(blocks) = index.table(table).map(|table| table.numbers.clone()) {
                break (index, blocks);
            }
            // The table begins with the next one, if at all.
            partition = if request.direction == Direction::Forward { partition + 1 } else { span.end };
        };
        let first = if request.direction == Direction::Forward { blocks.start } else { blocks.end - 1 };
        let number = match (bound, index.table(table)) {
            (Bound::Included(key) | Bound::Excluded(key), Some(table)) => index.find(table, key).unwrap_or(blocks.start),
            _ => first,
        };
        let block = own(segment.main_block(&index, number, Reading::Point)?)?;
        let mut cursor = Self {
            segment: Arc::clone(segment),
            partitions,
            table,
            span,
            partition,
            index,
            blocks,
            number,
            block,
            place: 0,
            key: Vec::new(),
            is_valid: true,
            history: None,
            blocks_read: 1,
            ahead: Ahead::new(ahead_size_bytes),
        };
        cursor.seek(bound, request)?;
        Ok(Some(cursor))
    }

    fn main(&self) -> MainBlock<'_> {
        let keys = self.index.main.get(self.number).map_or(0, |resident| usize::from(resident.keys));
        let base = self.index.versions.get(self.number).map_or(Version::ZERO, |versions| versions.0);
        MainBlock::new(&self.block.data, keys, base)
    }

    fn keys(&self) -> usize {
        self.index.main.get(self.number).map_or(0, |resident| usize::from(resident.keys))
    }

    #[inline]
    fn entry(&self) -> Result<Entry<'_>> {
        self.main().entry(self.place).ok_or_else(|| self.malformed())
    }

    #[cold]
    fn malformed(&self) -> Error {
        self.segment.malformed(&self.index, u32::try_from(self.number).unwrap_or(u32::MAX))
    }

    /// Goes to the first key in the current block, or behind it, that the bound lets in.
    fn seek(&mut self, bound: &Bound<bytes::Bytes>, request: &RangeRequest) -> Result<()> {
        let (key, is_included) = match bound {
            Bound::Included(key) => (key, true),
            Bound::Excluded(key) => (key, false),
            Bound::Unbounded => {
                self.place = if request.direction == Direction::Forward { 0 } else { self.keys() - 1 };
                return self.settle(&request.window, request.direction);
            }
        };
        let common = self.index.common(self.number);
        let (place, is_hit) = match key.strip_prefix(common) {
            Some(rest) => {
                let heads = self.index.main[self.number].heads();
                let (place, entry) = self.main().lower_bound(rest, heads).ok_or_else(|| self.malformed())?;
                (place, entry.is_some())
            }
            None if &key[..] < common => (0, false),
            None => (self.keys(), false),
        };
        match request.direction {
            Direction::Forward => self.place = if is_hit && !is_included { place + 1 } else { place },
            Direction::Reverse if is_hit && is_included => self.place = place,
            // One before; before the first is the end of the block before.
            Direction::Reverse => self.place = place.wrapping_sub(1),
        }
        self.settle(&request.window, request.direction)
    }

    /// Makes the place one that is in a block, if there is any further, and reads its key.
    fn settle(&mut self, window: &ReadWindow, direction: Direction) -> Result<()> {
        if self.place >= self.keys() && !self.next_block(window, direction)? {
            self.is_valid = false;
            return Ok(());
        }
        self.read_key()
    }

    /// Goes to the next block that may hold something to be seen.
    fn next_block(&mut self, window: &ReadWindow, direction: Direction) -> Result<bool> {
        let may_be_seen =
            |(oldest, newest): (Version, Version)| oldest <= window.at && window.after.is_none_or(|after| newest > after);
        loop {
            let next = match direction {
                Direction::Forward => self.number.checked_add(1),
                Direction::Reverse => self.number.checked_sub(1),
            };
            if let Some(number) = next.filter(|number| self.blocks.contains(number)) {
                self.number = number;
            } else if !self.next_partition(may_be_seen, direction)? {
                self.ahead.clear();
                return Ok(false);
            }
            if may_be_seen(self.index.versions[self.number]) {
                break;
            }
        }
        self.blocks_read += 1;
        self.block = match self.reading() {
            Reading::Point => own(self.segment.main_block(&self.index, self.number, Reading::Point)?)?,
            Reading::Stream => {
                let (index, blocks) = (&self.index, &self.blocks);
                let is_wanted = |number: usize| blocks.contains(&number) && may_be_seen(index.versions[number]);
                self.segment.main_block_ahead(index, self.number, direction, is_wanted, &mut self.ahead)?
            }
        };
        self.place = if direction == Direction::Forward { 0 } else { self.keys() - 1 };
        Ok(true)
    }

    /// Goes to the next partition that has the table and may hold something to be seen, on its first block in the direction.
    fn next_partition(&mut self, may_be_seen: impl Fn((Version, Version)) -> bool, direction: Direction) -> Result<bool> {
        loop {
            let next = match direction {
                Direction::Forward => self.partition.checked_add(1),
                Direction::Reverse => self.partition.checked_sub(1),
            };
            let Some(partition) = next.filter(|partition| self.span.contains(partition)) else { return Ok(false) };
            self.partition = partition;
            if !self.partitions.get(partition).is_some_and(|partition| may_be_seen(partition.versions)) {
                continue;
            }
            let index = self.segment.index(&self.partitions, partition, self.reading())?;
            let Some(blocks) = index.table(self.table).map(|table| table.numbers.clone()) else { continue };
            // History blocks are numbered within their partition.
            self.history = None;
            self.number = if direction == Direction::Forward { blocks.start } else { blocks.end - 1 };
            (self.index, self.blocks) = (IndexRef::into_inner(index), blocks);
            return Ok(true);
        }
    }

    fn reading(&self) -> Reading {
        if self.blocks_read < STREAM_BLOCKS_MIN { Reading::Point } else { Reading::Stream }
    }

    #[inline]
    fn read_key(&mut self) -> Result<()> {
        let mut key = std::mem::take(&mut self.key);
        key.clear();
        key.extend_from_slice(self.index.common(self.number));
        key.extend_from_slice(self.entry()?.rest);
        self.key = key;
        Ok(())
    }

    #[inline]
    fn advance(&mut self, window: &ReadWindow, direction: Direction) -> Result<()> {
        self.place = match direction {
            Direction::Forward => self.place + 1,
            Direction::Reverse => self.place.wrapping_sub(1),
        };
        self.settle(window, direction)
    }

    /// What is to be seen of the current key at `at`.
    #[inline]
    fn see(&mut self, at: Version) -> Result<Seen<'_>> {
        let (newest, history) = {
            let entry = self.entry()?;
            (entry.version, entry.history)
        };
        if newest <= at { Ok(Seen::newest(&self.entry()?)) } else { self.see_old(history, newest, at) }
    }

    /// The same for a key whose newest version is above `at`.
    fn see_old(&mut self, history: Option<HistoryRef>, newest: Version, at: Version) -> Result<Seen<'_>> {
        let Some(history) = history else { return Ok(Seen::Nothing) };
        let reading = self.reading();
        let (number, offset) = self.segment.history_group(&self.index, history, newest, at, reading)?;
        if self.history.as_ref().is_none_or(|(held, _)| *held != number) {
            self.history = Some((number, own(self.segment.history_block(&self.index, number, reading)?)?));
        }
        let Some((_, block)) = &self.history else { return Ok(Seen::Nothing) };
        self.segment.see_old(&self.index, &block.data, number, offset, newest, at)
    }

    /// The same without what is marked as dropped. `key` is the current key, which the caller has taken out.
    #[inline]
    fn see_unmarked(&mut self, view: &View, table: EntryKind, key: &[u8], at: Version) -> Result<Seen<'_>> {
        let mut at = at;
        if !view.markers.drops.is_empty() {
            let applied = self.segment.meta.applied;
            while let Some(version) = self.see(at)?.version() {
                if !view.markers.hides(table, key, version, applied) {
                    break;
                }
                match version.previous() {
                    Some(previous) => at = previous,
                    None => return Ok(Seen::Nothing),
                }
            }
        }
        self.see(at)
    }
}

/// Adds what was seen of a key, which comes in two parts.
#[inline]
fn push(key: [&[u8]; 2], seen: &Seen<'_>, segment: &Segment, index: &Index, out: &mut RangeBatch) -> Result<()> {
    match *seen {
        Seen::Nothing => {}
        Seen::Tombstone(version) => out.push_parts(key, &[], version, None),
        Seen::Value(version, suffix, value, false) => out.push_parts(key, suffix, version, Some(value)),
        Seen::Value(version, suffix, reference, true) => {
            let value = segment.value(index, reference)?;
            if value.len() > INLINE_VALUE_SIZE_BYTES_MAX {
                out.push_shared(&key.concat(), suffix, version, value);
            } else {
                out.push_parts(key, suffix, version, Some(&value));
            }
        }
    }
    Ok(())
}

impl Cursor {
    /// The first key of the next partition, if it begins with the same table.
    fn next_first(&self) -> Option<&[u8]> {
        let next = &self.partitions.get(self.partition + 1)?.first;
        (next.table == self.table).then_some(next.prefix.as_slice())
    }

    /// Whether all keys of the current block that come now lie within the range.
    fn is_inside(&self, request: &RangeRequest) -> bool {
        match request.direction {
            Direction::Forward => {
                let next = self.number + 1;
                let next = if self.blocks.contains(&next) { Some(self.index.first(next)) } else { self.next_first() };
                next.is_some_and(|next| request.range.is_before_end(next)) || request.range.end == Bound::Unbounded
            }
            Direction::Reverse => request.range.is_after_start(self.index.first(self.number)),
        }
    }

    /// Adds what the window selects from the current block, where no other file has a say. False when the batch is full, with the cursor on
    /// the next selected key; true at the end of the block, behind its last key, or where the range ends, with the cursor no longer valid.
    fn fill(
        &mut self,
        request: &RangeRequest,
        entries_max: usize,
        batch_size_bytes: usize,
        out: &mut RangeBatch,
    ) -> Result<bool> {
        let (segment, index, block) = (Arc::clone(&self.segment), Arc::clone(&self.index), Arc::clone(&self.block));
        let (keys, base) = (self.keys(), index.versions[self.number].0);
        let main = MainBlock::new(&block.data, keys, base);
        let common = index.common(self.number);
        let is_inside = self.is_inside(request);
        let window = request.window;
        while self.place < keys {
            let entry = main.entry(self.place).ok_or_else(|| self.malformed())?;
            if !is_inside {
                self.read_key()?;
                let is_in = match request.direction {
                    Direction::Forward => request.range.is_before_end(&self.key),
                    Direction::Reverse => request.range.is_after_start(&self.key),
                };
                if !is_in {
                    self.is_valid = false;
                    return Ok(true);
                }
            }
            let seen = if entry.version <= window.at {
                Seen::newest(&entry)
            } else {
                self.see_old(entry.history, entry.version, window.at)?
            };
            if seen.version().is_some_and(|version| window.selects(version)) {
                if out.len() == entries_max || out.size_bytes() >= batch_size_bytes {
                    return Ok(false);
                }
                out.make_room(entries_max);
                push([common, entry.rest], &seen, &segment, &index, out)?;
            }
            self.place = match request.direction {
                Direction::Forward => self.place + 1,
                Direction::Reverse => self.place.wrapping_sub(1),
            };
        }
        Ok(true)
    }
}

fn own(block: crate::cache::BlockRef) -> Result<Arc<Block>> {
    block.into_own().ok_or_else(|| impossible("a block that was there is not"))
}

/// The keys of a file of level 0, or of all files of a level below.
#[derive(Debug)]
struct Source {
    /// Files to come, the next one last.
    later: Vec<Arc<Segment>>,
    cursor: Option<Cursor>,
    /// What it may read ahead.
    ahead_size_bytes: u64,
}

impl Source {
    fn open(mut segments: Vec<Arc<Segment>>, request: &RangeRequest, ahead_size_bytes: u64) -> Result<Self> {
        if request.direction == Direction::Forward {
            segments.reverse();
        }
        let mut source = Self { later: segments, cursor: None, ahead_size_bytes };
        source.settle(request)?;
        Ok(source)
    }

    /// Moves on to a file that has a key, and ends where the range does.
    fn settle(&mut self, request: &RangeRequest) -> Result<()> {
        while self.cursor.as_ref().is_none_or(|cursor| !cursor.is_valid) {
            let Some(segment) = self.later.pop() else {
                self.cursor = None;
                return Ok(());
            };
            self.cursor = Cursor::open(&segment, request, self.ahead_size_bytes)?;
        }
        let is_inside = self.cursor.as_ref().is_some_and(|cursor| match request.direction {
            Direction::Forward => request.range.is_before_end(&cursor.key),
            Direction::Reverse => request.range.is_after_start(&cursor.key),
        });
        if !is_inside {
            self.cursor = None;
            self.later.clear();
        }
        Ok(())
    }

    #[inline]
    fn advance(&mut self, request: &RangeRequest) -> Result<()> {
        if let Some(cursor) = &mut self.cursor {
            cursor.advance(&request.window, request.direction)?;
        }
        self.settle(request)
    }
}

/// A scan over a view of the tier.
#[derive(Debug)]
pub(crate) struct WarmScan {
    view: Arc<View>,
    request: RangeRequest,
    sources: Vec<Source>,
    /// The sources that stand at the lowest key (in the direction), those first that were written last.
    at_key: Vec<usize>,
    /// The last key of the batch before.
    last: Option<Vec<u8>>,
    /// A batch that has become as large as this ends.
    batch_size_bytes: usize,
}

impl WarmScan {
    /// Without the files of these numbers, of which the caller knows that they hide nothing.
    pub(crate) fn open(view: Arc<View>, request: RangeRequest, batch_size_bytes: usize, skipped: &BTreeSet<u64>) -> Result<Self> {
        let mut sources = Vec::new();
        if !request.range.is_empty() {
            let found = view.sources(&request, skipped);
            let ahead_size_bytes = ahead::share(ahead::SCAN_SIZE_BYTES_MAX, found.len());
            for segments in found {
                sources.push(Source::open(segments, &request, ahead_size_bytes)?);
            }
            sources.retain(|source| source.cursor.is_some());
        }
        Ok(Self { view, request, sources, at_key: Vec::new(), last: None, batch_size_bytes })
    }

    /// Finds which sources stand at the next key; false at the end.
    #[inline]
    fn gather(&mut self) -> bool {
        self.at_key.clear();
        let direction = self.request.direction;
        let mut best: Option<&[u8]> = None;
        for (number, source) in self.sources.iter().enumerate() {
            let Some(cursor) = &source.cursor else { continue };
            let order = best.map_or(Ordering::Less, |best| {
                let order = cursor.key.as_slice().cmp(best);
                if direction == Direction::Forward { order } else { order.reverse() }
            });
            match order {
                Ordering::Less => {
                    best = Some(&cursor.key);
                    self.at_key.clear();
                    self.at_key.push(number);
                }
                Ordering::Equal => self.at_key.push(number),
                Ordering::Greater => {}
            }
        }
        !self.at_key.is_empty()
    }

    /// The source whose version of the gathered key counts, if the window selects it.
    #[inline]
    fn choose(&mut self) -> Result<Option<usize>> {
        let (table, window) = (self.request.table, self.request.window);
        let mut best: Option<(usize, Version)> = None;
        for &number in &self.at_key {
            let Some(cursor) = &mut self.sources[number].cursor else { continue };
            let key = std::mem::take(&mut cursor.key);
            let version = cursor.see_unmarked(&self.view, table, &key, window.at)?.version();
            cursor.key = key;
            if let Some(version) = version
                && best.is_none_or(|(_, best)| version > best)
            {
                best = Some((number, version));
            }
        }
        Ok(best.filter(|(_, version)| window.selects(*version)).map(|(number, _)| number))
    }

    fn advance(&mut self) -> Result<()> {
        for &number in &self.at_key {
            self.sources[number].advance(&self.request)?;
        }
        Ok(())
    }

    /// Goes to the next key that the window selects; the source of its entry, or `None` at the end.
    #[inline]
    fn next_selected(&mut self) -> Result<Option<usize>> {
        while self.gather() {
            if let Some(number) = self.choose()? {
                return Ok(Some(number));
            }
            self.advance()?;
        }
        Ok(None)
    }

    /// Each batch ends further on than the one before, within the range. Blocks with right checksums and wrong content could make it
    /// otherwise, and whoever reads page by page would never come to an end.
    fn check_order(&mut self, out: &RangeBatch) -> Result<()> {
        let (Some(first), Some(end)) = (out.get(0), out.last()) else { return Ok(()) };
        let is_above = |key: &[u8], last: &[u8]| match self.request.direction {
            Direction::Forward => key > last,
            Direction::Reverse => key < last,
        };
        let is_first_right = match &self.last {
            Some(last) => is_above(first.prefix, last),
            None => self.request.range.contains(first.prefix),
        };
        if !is_first_right || (out.len() > 1 && !is_above(end.prefix, first.prefix)) {
            let [first, end] = [first, end].map(|entry| TableKey { table: self.request.table, prefix: entry.prefix.to_vec() });
            return Err(self.find_disorder(&[first, end]));
        }
        if let Some(entry) = out.last() {
            let last = self.last.get_or_insert_default();
            last.clear();
            last.extend_from_slice(entry.prefix);
        }
        Ok(())
    }

    /// Which of the files that may hold keys has some in a wrong order, and where.
    #[cold]
    fn find_disorder(&self, keys: &[TableKey; 2]) -> Error {
        let may_hold = |segment: &&Arc<Segment>| keys.iter().any(|key| (&segment.meta.first..=&segment.meta.last).contains(&key));
        let found = self.view.segments().filter(may_hold).find_map(|segment| verify_rows(segment).err());
        found.unwrap_or_else(|| corruption(Corruption::new("a sorted file", 0, "keys of main blocks", "keys in order", "others")))
    }

    fn push(&mut self, number: usize, out: &mut RangeBatch) -> Result<()> {
        let (table, at) = (self.request.table, self.request.window.at);
        let Some(cursor) = &mut self.sources[number].cursor else { return Ok(()) };
        let (segment, index) = (Arc::clone(&cursor.segment), Arc::clone(&cursor.index));
        let key = std::mem::take(&mut cursor.key);
        push([&key, &[]], &cursor.see_unmarked(&self.view, table, &key, at)?, &segment, &index, out)?;
        cursor.key = key;
        Ok(())
    }

    /// The next batch where all comes from one source: block by block.
    fn fill_alone(&mut self, entries_max: usize, out: &mut RangeBatch) -> Result<()> {
        let Some(source) = self.sources.first_mut() else { return Ok(()) };
        while let Some(cursor) = &mut source.cursor {
            if !cursor.fill(&self.request, entries_max, self.batch_size_bytes, out)? {
                out.has_more = true;
                return Ok(());
            }
            if cursor.is_valid {
                cursor.settle(&self.request.window, self.request.direction)?;
            } else {
                source.later.clear();
            }
            source.settle(&self.request)?;
        }
        Ok(())
    }
}

impl TierScan for WarmScan {
    fn next_batch(&mut self, entries_max: usize, out: &mut RangeBatch) -> Result<()> {
        out.clear();
        if entries_max == 0 {
            return Err(ErrorKind::InvalidArgument { what: "a batch size of 0 can never finish a scan".into() }.into());
        }
        if self.sources.len() == 1 && self.view.markers.drops.is_empty() {
            self.fill_alone(entries_max, out)?;
            return self.check_order(out);
        }
        while let Some(number) = self.next_selected()? {
            if out.len() == entries_max || out.size_bytes() >= self.batch_size_bytes {
                out.has_more = true;
                break;
            }
            out.make_room(entries_max);
            self.push(number, out)?;
            self.advance()?;
        }
        self.check_order(out)
    }
}
