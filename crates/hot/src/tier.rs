//! The hot tier: the contract over one arena.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use thermocline_io::sync::Mutex;
use thermocline_tier::{
    Direction, DropVersion, EntryKind, EntryRef, KeyRef, Lookup, RangeBatch, RangeCursor, RangeRequest, RawEntry, Result,
    TableStats, TierBatch, TierScan, TierStats, TierStorage, Version,
};

use crate::arena::cell::Cell;
use crate::gate::Gate;
use crate::meter::Meter;
use crate::options::HotOptions;
use crate::scan::Page;
use crate::state::{State, View};
use crate::visit::{PAGE_ENTRIES, Walk};
use crate::writer::Writer;

/// How often a reader tries again while batches change what it reads, before it waits for the writer's lock.
const TRIES: usize = 32;

/// The in-memory tier: ordered, multi-version, with readers that take no lock.
///
/// Each table is a tree for order and a hash index for point reads, both over key records, which lie in one arena together with
/// all versions. There is one writer at a time; readers neither wait for it nor make it wait, but for the rare changes that are
/// not appends (a version that is not above all others, dropping), for which they read again. Memory that nothing refers to any
/// more is given back by copying what is alive into a new arena, once more than half is garbage.
///
/// ```
/// use thermocline_hot::{HotOptions, HotTier};
/// use thermocline_tier::{BatchBuilder, EntryKind, TierStorage, Version, WholeKey};
///
/// let tier = HotTier::new(HotOptions::default());
/// let mut batch = BatchBuilder::new();
/// batch.put(EntryKind::Multi, b"k", b"v")?;
/// tier.set(&batch.finish(&WholeKey, Version(1)))?;
/// assert_eq!(tier.get(EntryKind::Multi, b"k", Version::MAX)?.into_value().as_deref(), Some(b"v".as_slice()));
/// # Ok::<(), thermocline_tier::Error>(())
/// ```
#[derive(Debug)]
pub struct HotTier {
    options: HotOptions,
    gate: Gate,
    state: Cell<State>,
    meter: Meter,
    writer: Mutex<Writer>,
    ledger: Mutex<Ledger>,
}

/// The figures as of the last write, for whoever must not wait for the next one.
#[derive(Debug, Default)]
struct Ledger {
    tables: Vec<(EntryKind, TableStats)>,
    garbage_bytes: u64,
}

impl Default for HotTier {
    fn default() -> Self {
        Self::new(HotOptions::default())
    }
}

impl HotTier {
    /// An empty tier. It takes a few dozen KiB and grows with its content.
    pub fn new(options: HotOptions) -> Self {
        let meter = Meter::default();
        let writer = Writer::first(options.hash_seed, &meter);
        let state = Cell::new(State::clone(&writer.state));
        Self { options, gate: Gate::new(), state, meter, writer: Mutex::new(writer), ledger: Mutex::default() }
    }

    /// The options that the tier was made with.
    pub fn options(&self) -> &HotOptions {
        &self.options
    }

    /// Gives back the memory of what was dropped, cleared or replaced, by copying what is alive: the tier does so itself when more
    /// than half of its memory is garbage. Writers wait meanwhile, readers do not. Both copies are held until the last reader of
    /// the old one has gone, and values that were handed out hold the 2 MiB around them.
    pub fn compact(&self) {
        let mut writer = self.writer.lock();
        writer.compact(&|state| self.state.replace(state.clone()));
        self.note(&writer);
    }

    /// Runs `read` on a state that does not change meanwhile as far as it can tell.
    #[inline]
    fn read<R>(&self, at: Version, mut read: impl FnMut(&State, View) -> R) -> R {
        for _ in 0..TRIES {
            if let Some(ticket) = self.gate.enter() {
                // The published version is loaded before the state: a later batch may be in tables that an older state lacks.
                let published = ticket.published;
                let answer = self.state.read(|state| read(state, View { at: at.min(published), published }));
                if self.gate.is_valid(ticket) {
                    return answer;
                }
            }
            std::hint::spin_loop();
        }
        let writer = self.writer.lock();
        let published = self.gate.published();
        read(&writer.state, View { at: at.min(published), published })
    }

    /// Copies the writer's figures to the ledger.
    fn note(&self, writer: &Writer) {
        let mut ledger = self.ledger.lock();
        ledger.tables.clear();
        ledger.tables.extend(writer.tables());
        ledger.garbage_bytes = writer.garbage_bytes();
    }

    /// Compacts if that gives back most of the memory, and notes the figures that changed.
    fn settle(&self, writer: &mut Writer) {
        if writer.is_mostly_garbage() {
            writer.compact(&|state| self.state.replace(state.clone()));
        }
        let mut ledger = self.ledger.lock();
        writer.take_touched(|index, stats| ledger.tables[index].1 = stats);
        ledger.garbage_bytes = writer.garbage_bytes();
        drop(ledger);
        self.state.collect();
    }

    /// Sets memory aside for a batch, if need be by compacting.
    fn set_aside(&self, writer: &mut Writer, batches: &[&TierBatch]) -> Result<()> {
        let limit = self.options.memory_limit_bytes;
        writer.make_room(batches, limit).or_else(|error| {
            if writer.garbage_bytes() < self.meter.bytes() / 4 {
                return Err(error);
            }
            writer.compact(&|state| self.state.replace(state.clone()));
            writer.make_room(batches, limit)
        })
    }

    /// Replaces the content of `out` by the next page of a cursor.
    fn page(&self, cursor: &mut RangeCursor, direction: Direction, entries_max: usize, out: &mut RangeBatch) -> Result<()> {
        cursor.check_use(direction, entries_max)?;
        out.clear();
        if cursor.is_exhausted() {
            return Ok(());
        }
        let request = cursor.request();
        let (mut start, mut end) = (borrow(&request.range.start), borrow(&request.range.end));
        if let Some(last) = cursor.last() {
            match direction {
                Direction::Forward => start = Bound::Excluded(last),
                Direction::Reverse => end = Bound::Excluded(last),
            }
        }
        let page = Page { start, end, window: request.window, direction, entries_max };
        self.read(request.window.at, |state, view| {
            out.clear();
            if let Some(table) = state.table(request.table) {
                state.fill(table, &page, view, out);
            }
        });
        match out.last() {
            Some(last) => cursor.advance(last.prefix, out.has_more),
            None => cursor.exhaust(),
        }
        Ok(())
    }

    /// As [`visit_entries`](TierStorage::visit_entries), in pages of so many entries.
    pub(crate) fn visit_pages(
        &self,
        page_entries: usize,
        visit: &mut dyn FnMut(EntryKind, EntryRef<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut walk = Walk::new(page_entries);
        for table in self.tables()? {
            walk.start();
            // The visitor runs between the reads: it may take its time, and sees each entry once however often a read is repeated.
            while let Some(arena) = self.read(Version::MAX, |state, view| state.next_page(table, view, &mut walk)) {
                walk.hand_out(&arena, &mut |entry| visit(table, entry))?;
            }
        }
        Ok(())
    }
}

fn borrow(bound: &Bound<Bytes>) -> Bound<&[u8]> {
    match bound {
        Bound::Included(key) => Bound::Included(key),
        Bound::Excluded(key) => Bound::Excluded(key),
        Bound::Unbounded => Bound::Unbounded,
    }
}

impl TierStorage for HotTier {
    fn get(&self, table: EntryKind, prefix: &[u8], at: Version) -> Result<Lookup> {
        Ok(self.read(at, |state, view| state.lookup(state.get(table, prefix, view))))
    }

    fn contains(&self, table: EntryKind, prefix: &[u8], at: Version) -> Result<bool> {
        Ok(self.read(at, |state, view| state.get(table, prefix, view).is_some_and(|found| !found.value.is_tombstone())))
    }

    fn get_many(&self, keys: &[KeyRef<'_>], at: Version) -> Result<Vec<Lookup>> {
        Ok(self.read(at, |state, view| state.get_many(keys, view)))
    }

    fn set(&self, batch: &TierBatch) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let mut writer = self.writer.lock();
        let publish = |state: &State| self.state.replace(state.clone());
        self.set_aside(&mut writer, &[batch])?;
        if writer.ensure_tables(batch.iter().map(|(table, _)| table), &publish) {
            self.note(&writer);
        }
        if batch.version() > self.gate.published() {
            writer.write(batch, &publish);
            self.gate.publish(batch.version());
        } else {
            self.gate.change(|| writer.write(batch, &publish));
        }
        self.settle(&mut writer);
        Ok(())
    }

    fn make_room(&self, batches: &[&TierBatch]) -> Result<()> {
        self.set_aside(&mut self.writer.lock(), batches)
    }

    fn range_next(&self, cursor: &mut RangeCursor, batch_size: usize) -> Result<RangeBatch> {
        let mut page = RangeBatch::new();
        self.page(cursor, Direction::Forward, batch_size, &mut page)?;
        Ok(page)
    }

    fn range_rev_next(&self, cursor: &mut RangeCursor, batch_size: usize) -> Result<RangeBatch> {
        let mut page = RangeBatch::new();
        self.page(cursor, Direction::Reverse, batch_size, &mut page)?;
        Ok(page)
    }

    fn scan(self: Arc<Self>, request: RangeRequest) -> Result<Box<dyn TierScan>> {
        // It sees the state of this moment: later versions are above what is published now.
        let mut request = request;
        request.window.at = request.window.at.min(self.gate.published());
        Ok(Box::new(HotScan { tier: self, cursor: request.into_cursor() }))
    }

    fn ensure_table(&self, table: EntryKind) -> Result<()> {
        let mut writer = self.writer.lock();
        if writer.ensure_tables([table].into_iter(), &|state| self.state.replace(state.clone())) {
            self.note(&writer);
        }
        Ok(())
    }

    fn tables(&self) -> Result<Vec<EntryKind>> {
        Ok(self.state.read(|state| state.tables.iter().map(|table| table.kind).collect()))
    }

    fn clear_table(&self, table: EntryKind) -> Result<()> {
        let mut writer = self.writer.lock();
        writer.clear(table, &|state| self.state.replace(state.clone()));
        self.note(&writer);
        self.settle(&mut writer);
        Ok(())
    }

    fn drop_versions(&self, drops: &[DropVersion]) -> Result<()> {
        let mut writer = self.writer.lock();
        self.gate.change(|| writer.remove(drops));
        self.settle(&mut writer);
        Ok(())
    }

    fn get_all_versions(&self, table: EntryKind, prefix: &[u8]) -> Result<Vec<RawEntry>> {
        Ok(self.read(Version::MAX, |state, view| {
            let mut entries = Vec::new();
            if let Some(record) = state.record(table, prefix) {
                let prefix = Bytes::copy_from_slice(prefix);
                state.all_versions(record, view, |found| {
                    entries.push(state.values.raw_entry(prefix.clone(), found.version, found.value));
                    true
                });
            }
            entries
        }))
    }

    fn visit_entries(&self, visit: &mut dyn FnMut(EntryKind, EntryRef<'_>) -> Result<()>) -> Result<()> {
        self.visit_pages(PAGE_ENTRIES, visit)
    }

    fn stats(&self) -> TierStats {
        let ledger = self.ledger.lock();
        TierStats { tables: ledger.tables.clone(), memory_bytes: self.meter.bytes(), garbage_bytes: ledger.garbage_bytes }
    }

    fn memory_bytes(&self) -> u64 {
        self.meter.bytes()
    }
}

/// A scan that keeps its cursor and lets its caller reuse the page.
#[derive(Debug)]
struct HotScan {
    tier: Arc<HotTier>,
    cursor: RangeCursor,
}

impl TierScan for HotScan {
    fn next_batch(&mut self, entries_max: usize, out: &mut RangeBatch) -> Result<()> {
        let direction = self.cursor.request().direction;
        self.tier.page(&mut self.cursor, direction, entries_max, out)
    }
}
