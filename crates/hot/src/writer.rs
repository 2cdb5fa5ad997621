//! The one writer: what batches, drops and clears do to the arena, and the accounts of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use thermocline_tier::{DropVersion, EntryKind, EntryRef, Error, ErrorKind, Result, TableStats, TierBatch, Version};

use crate::arena::values::{ValueAt, ValueWriter, large_size_bytes, node_size_bytes};
use crate::index::Index;
use crate::meter::{Meter, Metered};
use crate::record::{self, BLOCK_WORDS_MAX, Found, Record, record_words};
use crate::region::RegionWriter;
use crate::state::{State, Table};
use crate::tree::{Leaf, Step, Tree};

/// Words set aside for each entry of a batch besides its record: its share of history blocks and tree nodes, generously.
const STRUCTURE_WORDS: usize = 64;
/// No tree node has more words than this.
const NODE_WORDS: usize = 256;
/// Words set aside for each batch: a way of new nodes from leaf to root.
const PATH_WORDS: usize = 8 * NODE_WORDS;
/// Entries whose memory is asked for together before the first of them is written.
const GROUP: usize = 32;
/// Garbage below this is not worth a compaction.
const GARBAGE_BYTES_MIN: u64 = 1 << 20;

/// What a tier takes besides arena and indexes, about: the slots of its readers and itself.
const FIXED_BYTES: usize = 10 << 10;
/// What a table takes besides, about: its entries in the directory, both copies of it, its account, its figures.
const TABLE_BYTES: usize = 512;

/// What a table holds and takes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Account {
    pub(crate) stats: TableStats,
    /// All that was allocated for the table: nodes, records, histories, values.
    memory_bytes: u64,
    /// The part of it that is not used any more.
    garbage_bytes: u64,
    /// Keys in the index, those without entries included.
    records: usize,
}

/// Writes for all tables. Behind a lock: there is one at a time.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) state: Arc<State>,
    region: RegionWriter,
    values: ValueWriter,
    /// One for each table of `state`, in its order.
    accounts: Vec<Account>,
    /// What is not used any more: the tables' garbage, and all that cleared tables took in this arena.
    garbage_bytes: u64,
    /// The tables that were written to since the figures were last handed on, by place.
    touched: Vec<usize>,
    overhead: Metered,
    path: Vec<Step>,
    meter: Meter,
}

/// One entry of a group, located.
#[derive(Clone, Copy, Debug)]
struct Located<'a> {
    table: usize,
    tag: u32,
    entry: EntryRef<'a>,
    record: Option<u32>,
}

/// Ends the program as every failed allocation in Rust does.
fn out_of_memory() -> ! {
    std::alloc::handle_alloc_error(std::alloc::Layout::new::<u64>())
}

impl Writer {
    /// The writer of an empty arena; `None` if there is no memory for one.
    fn new(hash_seed: u64, meter: &Meter) -> Option<Self> {
        let (region, values) = (RegionWriter::new(meter)?, ValueWriter::new(meter)?);
        let state = Arc::new(State::new(Arc::clone(region.region()), Arc::clone(values.values()), hash_seed));
        let overhead = meter.count(FIXED_BYTES);
        Some(Self {
            state,
            region,
            values,
            accounts: Vec::new(),
            garbage_bytes: 0,
            touched: Vec::new(),
            overhead,
            path: Vec::new(),
            meter: meter.clone(),
        })
    }

    /// As [`new`](Self::new), for a tier's first arena, which takes a few dozen KiB.
    pub(crate) fn first(hash_seed: u64, meter: &Meter) -> Self {
        Self::new(hash_seed, meter).unwrap_or_else(|| out_of_memory())
    }

    /// The tables' figures, in order.
    pub(crate) fn tables(&self) -> impl Iterator<Item = (EntryKind, TableStats)> + '_ {
        self.state.tables.iter().zip(&self.accounts).map(|(table, account)| (table.kind, account.stats))
    }

    /// Calls `visit` for the tables that were written to since the last call, with their places.
    pub(crate) fn take_touched(&mut self, mut visit: impl FnMut(usize, TableStats)) {
        for index in self.touched.drain(..) {
            visit(index, self.accounts[index].stats);
        }
    }

    /// The bytes that a compaction would give back.
    pub(crate) fn garbage_bytes(&self) -> u64 {
        self.garbage_bytes
    }

    /// Whether compacting would give back most of the memory.
    pub(crate) fn is_mostly_garbage(&self) -> bool {
        let garbage = self.garbage_bytes();
        garbage > GARBAGE_BYTES_MIN && garbage > self.meter.bytes() / 2
    }

    /// Sets memory aside for batches that are written one after the other.
    ///
    /// # Errors
    /// `MemoryExhausted` if they would take the tier over `limit`, or beyond what the machine has; nothing is changed then.
    pub(crate) fn make_room(&mut self, batches: &[&TierBatch], limit: Option<u64>) -> Result<()> {
        let (mut words, mut longest_words) = (PATH_WORDS, NODE_WORDS.max(BLOCK_WORDS_MAX));
        let (mut bytes, mut longest_bytes, mut large_bytes) = (0, 0, 0);
        for (_, entry) in batches.iter().flat_map(|batch| batch.iter()) {
            let value_len = entry.value.map_or(0, <[u8]>::len);
            let (record, node) = (record_words(entry.prefix.len()), node_size_bytes(entry.suffix.len(), value_len));
            words += record + STRUCTURE_WORDS;
            longest_words = longest_words.max(record);
            bytes += node;
            longest_bytes = longest_bytes.max(node);
            large_bytes += large_size_bytes(value_len);
        }
        let used = self.meter.bytes();
        let exhausted = |what: &str| {
            let budget = limit.unwrap_or(used);
            Error::new(ErrorKind::MemoryExhausted { budget, used }).context(what.to_owned())
        };
        let unreachable = || exhausted("the in-memory tier cannot address more");
        let word_need = self.region.need(words, longest_words).ok_or_else(unreachable)?;
        let value_need = self.values.need(bytes, longest_bytes).ok_or_else(unreachable)?;
        if let Some(limit) = limit {
            let needed = (word_need.bytes + value_need.bytes + large_bytes) as u64 + self.index_growth_bytes(batches);
            if used + needed > limit {
                return Err(exhausted("the in-memory tier"));
            }
        }
        if !self.region.reserve(word_need.chunks) || !self.values.reserve(value_need.chunks) {
            return Err(exhausted("the system has no more memory"));
        }
        Ok(())
    }

    /// The bytes of the indexes that batches may make necessary.
    fn index_growth_bytes(&self, batches: &[&TierBatch]) -> u64 {
        let mut counts: BTreeMap<EntryKind, usize> = BTreeMap::new();
        for (kind, _) in batches.iter().flat_map(|batch| batch.iter()) {
            *counts.entry(kind).or_default() += 1;
        }
        let growth = |(kind, count): (EntryKind, usize)| match self.state.position(kind) {
            Some(index) => {
                let keys = self.accounts[index].records + count;
                if self.state.tables[index].index.is_full(keys) { Index::size_bytes_for(keys) } else { 0 }
            }
            None => Index::size_bytes_for(count),
        };
        counts.into_iter().map(growth).sum()
    }

    /// Creates the tables of a batch that are not there.
    pub(crate) fn ensure_tables(&mut self, kinds: impl Iterator<Item = EntryKind>, publish: &impl Fn(&State)) -> bool {
        let mut changed: Option<State> = None;
        let mut last = None;
        for kind in kinds {
            if last == Some(kind) {
                continue;
            }
            last = Some(kind);
            let state = changed.as_ref().unwrap_or(&self.state);
            if state.position(kind).is_none() {
                let mut state = changed.take().unwrap_or_else(|| State::clone(&self.state));
                let (table, account) = self.new_table(kind);
                self.accounts.insert(state.add(table), account);
                changed = Some(state);
            }
        }
        let is_changed = changed.is_some();
        if let Some(state) = changed {
            self.install(state, publish);
        }
        is_changed
    }

    fn new_table(&mut self, kind: EntryKind) -> (Table, Account) {
        let before = self.region.allocated_bytes();
        let tree = Arc::new(Tree::new(&mut self.region));
        let index = Arc::new(Index::new(0, &self.meter).unwrap_or_else(|| out_of_memory()));
        let memory_bytes = self.region.allocated_bytes() - before;
        (Table { kind, tree, index }, Account { memory_bytes, ..Account::default() })
    }

    fn install(&mut self, state: State, publish: &impl Fn(&State)) {
        self.overhead.grow_to(FIXED_BYTES + state.tables.len() * TABLE_BYTES);
        self.state = Arc::new(state);
        publish(&self.state);
    }

    /// Writes all entries of a batch, whose tables exist and for which there is room.
    pub(crate) fn write(&mut self, batch: &TierBatch, publish: &impl Fn(&State)) {
        let mut group: Vec<Located<'_>> = Vec::with_capacity(GROUP.min(batch.len()));
        let mut entries = batch.iter();
        let mut last: Option<(EntryKind, usize)> = None;
        loop {
            group.clear();
            for (kind, entry) in entries.by_ref().take(GROUP) {
                let table = match last {
                    Some((last, table)) if last == kind => Some(table),
                    _ => self.state.position(kind),
                };
                // Always there: the caller has ensured it.
                let Some(table) = table else { continue };
                if last.is_none_or(|(last, _)| last != kind) {
                    self.touched.push(table);
                }
                last = Some((kind, table));
                let tag = self.state.tag(entry.prefix);
                self.state.tables[table].index.prefetch(tag);
                group.push(Located { table, tag, entry, record: None });
            }
            if group.is_empty() {
                return;
            }
            self.locate(&mut group);
            for located in &group {
                self.put(*located, publish);
            }
        }
    }

    /// Finds the records of a group, and asks for what writing them will touch.
    fn locate(&self, group: &mut [Located<'_>]) {
        let region = self.region.region();
        for located in &*group {
            // The first candidate is nearly always the record itself.
            let candidate = self.state.tables[located.table].index.candidate(located.tag);
            if let Some(slot) = candidate {
                region.prefetch(slot.record);
                region.prefetch(slot.history);
            }
        }
        for located in group {
            let index = &self.state.tables[located.table].index;
            located.record = index.find(region, located.tag, located.entry.prefix, |_| {});
            if let Some(record) = located.record {
                region.prefetch(Record::new(region, record).leaf());
            }
        }
    }

    fn put(&mut self, located: Located<'_>, publish: &impl Fn(&State)) {
        let Located { table, tag, entry, record } = located;
        let before = self.region.allocated_bytes();
        let value = self.values.append(entry.version, entry.suffix, entry.value);
        let found = Found { version: entry.version, value };
        let garbage_bytes = match record {
            Some(record) => self.put_version(table, tag, record, found, entry.prefix.len()),
            None => self.put_key(table, tag, entry.prefix, found, publish),
        };
        let value_len = entry.value.map_or(0, <[u8]>::len);
        let node_bytes = node_size_bytes(entry.suffix.len(), value_len) + large_size_bytes(value_len);
        let account = &mut self.accounts[table];
        account.memory_bytes += self.region.allocated_bytes() - before + node_bytes as u64;
        account.garbage_bytes += garbage_bytes;
        self.garbage_bytes += garbage_bytes;
        account.stats.entries += 1;
        account.stats.tombstones += u64::from(entry.is_tombstone());
        account.stats.user_bytes += (entry.prefix.len() + entry.suffix.len() + value_len) as u64;
    }

    /// The record at an offset.
    fn record(&self, at: u32) -> Record<'_> {
        Record::new(self.region.region(), at)
    }

    /// Adds a version to a key that has a record; answers with the bytes of garbage.
    fn put_version(&mut self, table: usize, tag: u32, at: u32, found: Found, prefix_len: usize) -> u64 {
        let garbage_bytes = self.put_into(table, at, found, prefix_len);
        self.state.tables[table].index.set_hint(tag, at, self.record(at).pointers());
        garbage_bytes
    }

    /// The record is looked up again after each step that allocates: to hold on to its memory would take a count, and every change of
    /// a count waits for all memory that was asked for.
    fn put_into(&mut self, table: usize, at: u32, found: Found, prefix_len: usize) -> u64 {
        let record = self.record(at);
        Leaf::new(self.region.region(), record.leaf()).note(found.version);
        let (newest, history) = (record.newest(), record.history());
        let Some(newest) = newest else {
            record.set(Some(found), 0);
            // It was taken for garbage when it lost its last entry.
            let record_bytes = record_words(prefix_len) as u64 * 8;
            let account = &mut self.accounts[table];
            account.stats.keys += 1;
            account.garbage_bytes -= record_bytes;
            self.garbage_bytes -= record_bytes;
            return 0;
        };
        if newest.version < found.version {
            let history = record::append(&mut self.region, history, newest);
            self.record(at).set(Some(found), history);
            return 0;
        }
        if newest.version == found.version {
            record.replace_newest(found.value);
            return self.forget(table, newest.value, prefix_len);
        }
        let changed = record::insert(&mut self.region, history, found);
        self.record(at).set(Some(newest), changed.history);
        changed.garbage_bytes + changed.old.map_or(0, |old| self.forget(table, old, prefix_len))
    }

    /// Takes an entry out of a table's figures; answers with the bytes of its node.
    fn forget(&mut self, table: usize, value: ValueAt, prefix_len: usize) -> u64 {
        let sizes = self.state.values.sizes(value);
        let stats = &mut self.accounts[table].stats;
        stats.entries -= 1;
        stats.tombstones -= u64::from(value.is_tombstone());
        stats.user_bytes -= prefix_len as u64 + sizes.user_bytes;
        sizes.memory_bytes
    }

    /// Adds a key with its first version; answers with the bytes of garbage.
    fn put_key(&mut self, table: usize, tag: u32, key: &[u8], found: Found, publish: &impl Fn(&State)) -> u64 {
        let record = Record::create(&mut self.region, key, found);
        let grown = self.state.tables[table].tree.insert(&mut self.region, key, record, &mut self.path);
        Leaf::new(self.region.region(), self.record(record).leaf()).note(found.version);
        let account = &mut self.accounts[table];
        account.records += 1;
        account.stats.keys += 1;
        let records = account.records;
        if self.state.tables[table].index.is_full(records) {
            self.grow_index(table, records, publish);
        }
        let hint = self.record(record).pointers();
        self.state.tables[table].index.insert(tag, record, hint);
        grown.garbage_bytes
    }

    fn grow_index(&mut self, table: usize, keys: usize, publish: &impl Fn(&State)) {
        let mut state = State::clone(&self.state);
        let larger = state.tables[table].index.grown(keys, &self.meter).unwrap_or_else(|| out_of_memory());
        state.tables[table].index = Arc::new(larger);
        self.install(state, publish);
    }

    /// Removes the named entries. In place: readers must be made to retry.
    pub(crate) fn remove(&mut self, drops: &[DropVersion]) {
        for DropVersion { table, prefix, version } in drops {
            let Some(index) = self.state.position(*table) else { continue };
            let Some(record) = self.state.record(*table, prefix) else { continue };
            let garbage_bytes = self.remove_version(index, record, *version, prefix.len());
            self.accounts[index].garbage_bytes += garbage_bytes;
            self.garbage_bytes += garbage_bytes;
            self.touched.push(index);
        }
    }

    fn remove_version(&mut self, table: usize, at: u32, version: Version, prefix_len: usize) -> u64 {
        let region = Arc::clone(self.region.region());
        let record = Record::new(&region, at);
        let Some(newest) = record.newest() else { return 0 };
        if newest.version != version {
            let changed = record::remove(&region, record.history(), version);
            record.set(Some(newest), changed.history);
            return changed.garbage_bytes + changed.old.map_or(0, |old| self.forget(table, old, prefix_len));
        }
        let mut garbage_bytes = self.forget(table, newest.value, prefix_len);
        if let Some(older) = record::first(&region, record.history()) {
            let changed = record::remove(&region, record.history(), older.version);
            record.set(Some(older), changed.history);
            garbage_bytes += changed.garbage_bytes;
        } else {
            record.set(None, 0);
            self.accounts[table].stats.keys -= 1;
            garbage_bytes += record_words(prefix_len) as u64 * 8;
        }
        garbage_bytes
    }

    /// Replaces a table by an empty one.
    pub(crate) fn clear(&mut self, table: EntryKind, publish: &impl Fn(&State)) {
        let Some(index) = self.state.position(table) else { return };
        if self.accounts[index].records == 0 {
            return;
        }
        let (table, account) = self.new_table(table);
        let old = std::mem::replace(&mut self.accounts[index], account);
        self.garbage_bytes += old.memory_bytes - old.garbage_bytes;
        let mut state = State::clone(&self.state);
        state.tables[index] = table;
        self.install(state, publish);
    }

    /// Copies everything that is alive into a new arena and leaves the old one to its readers. Does nothing if there is no memory
    /// for it. While it runs, and until the last reader of the old arena has gone, both are held.
    pub(crate) fn compact(&mut self, publish: &impl Fn(&State)) {
        let old = Arc::clone(&self.state);
        let Some(mut new) = Self::new(old.hash_seed, &self.meter) else { return };
        let quiet = |_: &State| {};
        new.ensure_tables(old.tables.iter().map(|table| table.kind), &quiet);
        let mut older = Vec::new();
        for (number, table) in old.tables.iter().enumerate() {
            let keys = usize::try_from(self.accounts[number].stats.keys).unwrap_or(0);
            new.grow_index(number, keys + 1, &quiet);
            let mut leaf = table.tree.end_leaf(&old.region, false);
            loop {
                for record in leaf.ordered(&old.region).records() {
                    new.adopt(number, &old, *record, &mut older);
                }
                match leaf.next() {
                    0 => break,
                    next => leaf = Leaf::new(&old.region, next),
                }
            }
            new.accounts[number].stats = self.accounts[number].stats;
        }
        // The figures that users see have not changed, but some may not have been handed on yet.
        new.touched = std::mem::take(&mut self.touched);
        *self = new;
        publish(&self.state);
    }

    /// Copies one record with all its versions.
    fn adopt(&mut self, table: usize, old: &State, record: u32, older: &mut Vec<Found>) {
        let record = Record::new(&old.region, record);
        let Some(newest) = record.newest() else { return };
        older.clear();
        record::visit(&old.region, record.history(), Version::MAX, |found| {
            older.push(found);
            true
        });
        record.with_key(|key| {
            let before = self.region.allocated_bytes();
            let tag = self.state.tag(key);
            let mut copied = 0;
            let mut at = None;
            for found in older.iter().rev().chain([&newest]) {
                copied += old.values.sizes(found.value).memory_bytes;
                let value = self.values.append_from(&old.values, found.value);
                let found = Found { version: found.version, value };
                match at {
                    None => {
                        self.put_key(table, tag, key, found, &|_| {});
                        at = self.state.tables[table].index.find(self.region.region(), tag, key, |_| {});
                    }
                    Some(record) => {
                        self.put_version(table, tag, record, found, key.len());
                    }
                }
            }
            self.accounts[table].memory_bytes += self.region.allocated_bytes() - before + copied;
        });
    }
}
