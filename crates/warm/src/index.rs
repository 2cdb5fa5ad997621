//! The indexes of a sorted file in memory: from a key to its partition, from there to its block, and the slots in which indexes and
//! blocks are.

use std::ops::Range;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption, Guard};
use thermocline_io::sync::atomic::{AtomicU8, Ordering};
use thermocline_tier::{EntryKind, Version};

use crate::cache::{Cache, INDEX_ROUNDS, Indexes, Slot, Slots};
use crate::codec::Dictionary;
use crate::filter::Filter;
use crate::layout::{FileIndex, HistoryBlockEntry, LINES_MAX, PartitionEntry, PartitionIndex, Place, common_len};

/// History blocks are numbered from here on where both kinds share one numbering.
pub(crate) const HISTORY_NUMBERS: u32 = 1 << 31;

/// All that a search within a block needs before it touches the block, in one cache line.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Resident {
    heads: [u32; LINES_MAX],
    pub(crate) slot: Slot,
    pub(crate) keys: u16,
    pub(crate) common_len: u16,
    lines: u16,
}

const _: () = assert!(size_of::<Resident>() == 64, "one cache line");

impl Resident {
    /// The first head of each line.
    #[inline]
    pub(crate) fn heads(&self) -> &[u32] {
        self.heads.get(..usize::from(self.lines)).unwrap_or_default()
    }
}

/// The first keys of one table's blocks, or of the partitions that begin with it.
#[derive(Debug)]
pub(crate) struct TableFirsts {
    pub(crate) table: EntryKind,
    /// Their numbers.
    pub(crate) numbers: Range<usize>,
    /// What all of them begin with.
    common: Vec<u8>,
    /// Of each the eight bytes behind that.
    heads: Vec<u64>,
}

/// Where keys lie in one arena.
#[derive(Debug, Default)]
struct Keys {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Keys {
    fn push(&mut self, key: &[u8]) {
        self.bytes.extend_from_slice(key);
        self.ends.push(self.bytes.len());
    }

    #[inline]
    fn get(&self, number: usize) -> &[u8] {
        let start = if number == 0 { 0 } else { self.ends[number - 1] };
        &self.bytes[start..self.ends[number]]
    }
}

#[inline]
fn head(rest: &[u8]) -> u64 {
    let bytes = rest.first_chunk::<8>().copied().unwrap_or_else(|| {
        let mut bytes = [0; 8];
        bytes[..rest.len()].copy_from_slice(rest);
        bytes
    });
    // As a big-endian number, so that its order is that of the bytes.
    u64::from_le_bytes(bytes).swap_bytes()
}

/// First keys in order, to find the last one that is not above a key.
#[derive(Debug, Default)]
pub(crate) struct Firsts {
    tables: Vec<TableFirsts>,
    keys: Keys,
}

impl Firsts {
    /// Adds the first keys of a table above those that are there, at least one.
    fn push<'a>(&mut self, table: EntryKind, keys: impl Iterator<Item = &'a [u8]>) {
        let start = self.keys.ends.len();
        keys.for_each(|key| self.keys.push(key));
        let numbers = start..self.keys.ends.len();
        if numbers.is_empty() {
            return;
        }
        let common = self.keys.get(start)[..common_len(self.keys.get(start), self.keys.get(numbers.end - 1))].to_vec();
        let heads = numbers.clone().map(|number| head(&self.keys.get(number)[common.len()..])).collect();
        self.tables.push(TableFirsts { table, numbers, common, heads });
    }

    fn shrink_to_fit(&mut self) {
        self.keys.bytes.shrink_to_fit();
        self.keys.ends.shrink_to_fit();
    }

    fn size_bytes(&self) -> usize {
        let tables: usize = self.tables.iter().map(|table| size_of::<TableFirsts>() + table.common.len()).sum();
        tables + self.keys.bytes.len() + self.keys.ends.len() * (size_of::<usize>() + size_of::<u64>())
    }

    #[inline]
    fn table(&self, table: EntryKind) -> Option<&TableFirsts> {
        match &self.tables[..] {
            [only] => (only.table == table).then_some(only),
            tables => tables.binary_search_by_key(&table, |firsts| firsts.table).ok().map(|found| &tables[found]),
        }
    }

    /// The number of the last key of the table that is not above `key`; `None` if all are above.
    #[inline]
    fn find(&self, table: &TableFirsts, key: &[u8]) -> Option<usize> {
        let rest = match key.strip_prefix(table.common.as_slice()) {
            Some(rest) => rest,
            // It differs within what all share, or ends there, which puts it before all of them.
            None if key < table.common.as_slice() => return None,
            None => return Some(table.numbers.end - 1),
        };
        let head = head(rest);
        let mut upper = table.heads.partition_point(|first| *first < head);
        // Equal heads: ask the keys themselves.
        if table.heads.get(upper) == Some(&head) {
            let equal = table.heads[upper..].partition_point(|first| *first == head);
            let below = |number: usize| self.keys.get(table.numbers.start + number) <= key;
            let (mut low, mut high) = (upper, upper + equal);
            while low < high {
                let middle = usize::midpoint(low, high);
                if below(middle) { low = middle + 1 } else { high = middle }
            }
            upper = low;
        }
        upper.checked_sub(1).map(|number| table.numbers.start + number)
    }

    /// The first number of a table not below `table`, or the end.
    fn start_of(&self, table: EntryKind) -> usize {
        let below = self.tables.partition_point(|firsts| firsts.table < table);
        self.tables.get(below).map_or(self.keys.ends.len(), |firsts| firsts.numbers.start)
    }

    /// The number of the last key of any table that is not above `key` of `table`.
    #[inline]
    fn find_in_all(&self, table: EntryKind, key: &[u8]) -> Option<usize> {
        match self.table(table) {
            Some(firsts) => self.find(firsts, key).or_else(|| firsts.numbers.start.checked_sub(1)),
            None => self.start_of(table).checked_sub(1),
        }
    }
}

/// The index of a partition. What every search needs comes first, in one cache line.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Index {
    pub(crate) filter: Filter,
    pub(crate) main: Vec<Resident>,
    /// How often the hand has come by since it was used.
    rounds: AtomicU8,
    firsts: Firsts,
    /// The oldest and the newest version of each main block, history included.
    pub(crate) versions: Vec<(Version, Version)>,
    places: Vec<Place>,
    pub(crate) history: Vec<HistoryBlockEntry>,
    history_slots: Vec<Slot>,
    pub(crate) dictionary: Option<Dictionary>,
    /// Where its blocks and values are.
    pub(crate) data: Range<u64>,
    size_bytes: usize,
    cache: Arc<Cache>,
}

/// An index in use.
pub(crate) type IndexRef = Guard<Arc<Index>>;

impl Index {
    /// From what the file says; its memory counts in `cache` until it is dropped.
    pub(crate) fn new(
        file: &PartitionIndex,
        filter: Filter,
        dictionary: Option<Dictionary>,
        data: Range<u64>,
        cache: Arc<Cache>,
    ) -> Self {
        let mut index = Self::none(filter, cache);
        (index.dictionary, index.data) = (dictionary, data);
        index.history.clone_from(&file.history);
        index.history_slots = file.history.iter().map(|_| ArcSwapOption::empty()).collect();
        let count = file.tables.iter().map(|table| table.blocks.len()).sum();
        index.main.reserve_exact(count);
        index.versions.reserve_exact(count);
        index.places.reserve_exact(count);
        for table in &file.tables {
            index.firsts.push(table.table, table.blocks.iter().map(|block| block.first.as_slice()));
            for block in &table.blocks {
                let mut heads = [u32::MAX; LINES_MAX];
                for (to, from) in heads.iter_mut().zip(&block.heads) {
                    *to = *from;
                }
                let lines = u16::try_from(block.heads.len().min(LINES_MAX)).unwrap_or(0);
                let (keys, common_len) = (block.keys, block.common_len);
                index.main.push(Resident { heads, slot: ArcSwapOption::empty(), keys, common_len, lines });
                index.versions.push(block.versions);
                index.places.push(block.place);
            }
        }
        index.firsts.shrink_to_fit();
        index.size_bytes = index.measure();
        index.cache.hold_index(index.size_bytes);
        index
    }

    /// What stands where an index is not in memory: one without blocks.
    fn none(filter: Filter, cache: Arc<Cache>) -> Self {
        Self {
            filter,
            main: Vec::new(),
            rounds: AtomicU8::new(0),
            firsts: Firsts::default(),
            versions: Vec::new(),
            places: Vec::new(),
            history: Vec::new(),
            history_slots: Vec::new(),
            dictionary: None,
            data: 0..0,
            size_bytes: 0,
            cache,
        }
    }

    fn measure(&self) -> usize {
        let each_main = size_of::<Resident>() + size_of::<(Version, Version)>() + size_of::<Place>();
        let each_history = size_of::<HistoryBlockEntry>() + size_of::<Slot>();
        let arrays = self.main.len() * each_main + self.history.len() * each_history;
        size_of::<Self>() + self.firsts.size_bytes() + arrays + self.filter.size_bytes()
    }

    /// The tables that have blocks here, in order.
    pub(crate) fn tables(&self) -> &[TableFirsts] {
        &self.firsts.tables
    }

    #[inline]
    pub(crate) fn table(&self, table: EntryKind) -> Option<&TableFirsts> {
        self.firsts.table(table)
    }

    /// The first key of a main block.
    #[inline]
    pub(crate) fn first(&self, block: usize) -> &[u8] {
        self.firsts.keys.get(block)
    }

    /// The common prefix of a main block's keys.
    #[inline]
    pub(crate) fn common(&self, block: usize) -> &[u8] {
        &self.first(block)[..usize::from(self.main[block].common_len)]
    }

    /// The last main block of a table whose first key is not above `key`: the only one that can hold it. `None` if all are above.
    #[inline]
    pub(crate) fn find(&self, table: &TableFirsts, key: &[u8]) -> Option<usize> {
        self.firsts.find(table, key)
    }

    /// Where a block of [`Slots`] numbering lies.
    pub(crate) fn place(&self, number: u32) -> Option<Place> {
        match number.checked_sub(HISTORY_NUMBERS) {
            Some(history) => self.history.get(history as usize).map(|block| block.place),
            None => self.places.get(number as usize).copied(),
        }
    }

    /// Whether it is one; it has been used then.
    #[inline]
    fn mark(&self) -> bool {
        // Mostly it is marked, and then the cache line is left alone.
        if self.rounds.load(Ordering::Relaxed) != 0 {
            self.rounds.store(0, Ordering::Relaxed);
        }
        !self.main.is_empty()
    }
}

impl Slots for Index {
    #[inline]
    fn slot(&self, number: u32) -> Option<&Slot> {
        match number.checked_sub(HISTORY_NUMBERS) {
            Some(history) => self.history_slots.get(history as usize),
            None => self.main.get(number as usize).map(|resident| &resident.slot),
        }
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        let slots = self.main.iter().map(|resident| &resident.slot).chain(&self.history_slots);
        self.cache.forget_index(self.size_bytes, slots);
    }
}

/// The partitions of a file: small, and in memory as long as the file is in use. Their indexes come and go.
#[derive(Debug)]
pub(crate) struct Partitions {
    /// Their first keys, by the tables that they begin with.
    firsts: Firsts,
    entries: Vec<PartitionEntry>,
    slots: Vec<ArcSwap<Index>>,
    /// What is in the slots of those that are not in memory.
    none: Arc<Index>,
    pub(crate) tables: Vec<EntryKind>,
    pub(crate) dictionary: Option<Dictionary>,
    size_bytes: usize,
    cache: Arc<Cache>,
}

impl Partitions {
    /// From what the file says; its memory counts in `cache` until it is dropped.
    pub(crate) fn new(file: FileIndex, dictionary: Option<Dictionary>, cache: Arc<Cache>) -> Self {
        let mut firsts = Firsts::default();
        for of_table in file.partitions.chunk_by(|one, next| one.first.table == next.first.table) {
            if let Some(one) = of_table.first() {
                firsts.push(one.first.table, of_table.iter().map(|partition| partition.first.prefix.as_slice()));
            }
        }
        let none = Arc::new(Index::none(Filter::build(&[]), Arc::clone(&cache)));
        let slots = file.partitions.iter().map(|_| ArcSwap::new(Arc::clone(&none))).collect();
        let tables: Vec<EntryKind> = file.tables.iter().map(|(table, _)| *table).collect();
        let each = size_of::<PartitionEntry>() + size_of::<ArcSwap<Index>>();
        let keys: usize = file.partitions.iter().map(|partition| partition.first.prefix.len()).sum();
        let arrays = file.partitions.len() * each + keys + size_of_val(&tables[..]);
        let size_bytes = size_of::<Self>() + size_of::<Index>() + firsts.size_bytes() + arrays;
        cache.pin(size_bytes);
        Self { firsts, entries: file.partitions, slots, none, tables, dictionary, size_bytes, cache }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn get(&self, number: usize) -> Option<&PartitionEntry> {
        self.entries.get(number)
    }

    /// The only partition that can hold a key: the last one whose first key is not above it. `None` if all are above.
    #[inline]
    pub(crate) fn find(&self, table: EntryKind, key: &[u8]) -> Option<usize> {
        if self.entries.len() == 1 { Some(0) } else { self.firsts.find_in_all(table, key) }
    }

    /// The partitions that can hold keys of a table. The first one need not.
    pub(crate) fn of_table(&self, table: EntryKind) -> Range<usize> {
        if self.tables.binary_search(&table).is_err() {
            return 0..0;
        }
        let end = self.firsts.table(table).map_or_else(|| self.firsts.start_of(table), |firsts| firsts.numbers.end);
        self.firsts.start_of(table).saturating_sub(1)..end
    }

    /// The index of a partition, if it is in memory.
    #[inline]
    pub(crate) fn load(&self, number: usize) -> Option<IndexRef> {
        let index = self.slots.get(number)?.load();
        index.mark().then_some(index)
    }

    /// Puts an index that was read into its slot; false if another one was first.
    pub(crate) fn put(&self, number: usize, index: &Arc<Index>) -> bool {
        let Some(slot) = self.slots.get(number).filter(|slot| slot.load().main.is_empty()) else { return false };
        slot.store(Arc::clone(index));
        true
    }
}

impl Indexes for Partitions {
    fn pass(&self, number: usize) -> bool {
        let Some(slot) = self.slots.get(number) else { return true };
        let rounds = {
            let index = slot.load();
            if index.main.is_empty() { INDEX_ROUNDS } else { index.rounds.fetch_add(1, Ordering::Relaxed).saturating_add(1) }
        };
        if rounds < INDEX_ROUNDS {
            return false;
        }
        slot.store(Arc::clone(&self.none));
        true
    }
}

impl Drop for Partitions {
    fn drop(&mut self) {
        let loaded = self.slots.iter().filter(|slot| !slot.load().main.is_empty()).count();
        self.cache.forget_partitions(self.size_bytes, loaded);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Reading;
    use crate::layout::{MainBlockEntry, TableEntry};
    use crate::meta::TableKey;

    fn index(tables: &[(EntryKind, Vec<Vec<u8>>)], cache: &Arc<Cache>) -> Index {
        let block = |first: &Vec<u8>| MainBlockEntry {
            first: first.clone(),
            place: Place::default(),
            versions: (Version(1), Version(1)),
            keys: 1,
            common_len: 0,
            heads: vec![0],
        };
        let table =
            |(table, keys): &(EntryKind, Vec<Vec<u8>>)| TableEntry { table: *table, blocks: keys.iter().map(block).collect() };
        let file = PartitionIndex { tables: tables.iter().map(table).collect(), ..PartitionIndex::default() };
        Index::new(&file, Filter::build(&[]), None, 0..0, Arc::clone(cache))
    }

    fn partitions(firsts: &[(EntryKind, Vec<u8>)], tables: &[EntryKind], cache: &Arc<Cache>) -> Arc<Partitions> {
        let partition = |(table, prefix): &(EntryKind, Vec<u8>)| PartitionEntry {
            first: TableKey { table: *table, prefix: prefix.clone() },
            start: 0,
            index: Place::default(),
            filter: Place::default(),
            versions: (Version(1), Version(1)),
        };
        let stats = tables.iter().map(|table| (*table, thermocline_tier::TableStats::default())).collect();
        let file = FileIndex { tables: stats, partitions: firsts.iter().map(partition).collect(), ..FileIndex::default() };
        Arc::new(Partitions::new(file, None, Arc::clone(cache)))
    }

    fn around(key: &[u8]) -> [Vec<u8>; 7] {
        let shorter = key[..key.len().saturating_sub(1)].to_vec();
        let higher = key.iter().map(|byte| byte.saturating_add(1)).collect();
        [key.to_vec(), [key, &[0]].concat(), [key, &[255; 9]].concat(), shorter, higher, Vec::new(), vec![255; 20]]
    }

    fn check(mut keys: Vec<Vec<u8>>) {
        keys.sort();
        keys.dedup();
        let cache = Arc::new(Cache::new(1 << 20));
        let tables = [(EntryKind::Multi, keys.clone())];
        let index = index(&tables, &cache);
        let table = index.table(EntryKind::Multi).unwrap();
        let firsts: Vec<_> = keys.iter().map(|key| (EntryKind::Multi, key.clone())).collect();
        let partitions = partitions(&firsts, &[EntryKind::Multi], &cache);
        for key in keys.iter().flat_map(|key| around(key)) {
            let expected = keys.partition_point(|first| *first <= key).checked_sub(1);
            assert_eq!(index.find(table, &key), expected, "{key:?}");
            if keys.len() > 1 {
                assert_eq!(partitions.find(EntryKind::Multi, &key), expected, "{key:?}");
            }
        }
    }

    #[test]
    fn block_and_partition_of_a_key_are_the_last_that_begin_not_above_it() {
        check((0..1).map(|_| b"only".to_vec()).collect());
        check((0..300_u32).map(|number| format!("user/{number:08}").into_bytes()).collect());
        check((0..300_u32).map(|number| (number * 1_000_003).swap_bytes().to_le_bytes().to_vec()).collect());
        check((0..64_u32).map(|number| format!("{}tail{:03}", "a".repeat(number as usize % 4), number).into_bytes()).collect());
        check((0..64_u32).map(|number| format!("p{}", "0".repeat(number as usize)).into_bytes()).collect());
        check(vec![vec![], vec![0], vec![0, 0], vec![0, 0, 0, 0, 0, 0, 0, 0], vec![0, 0, 0, 0, 0, 0, 0, 0, 0], vec![1]]);
        check((0..50_u32).map(|number| format!("exactly8{}same8888{number:02}", number / 25).into_bytes()).collect());
    }

    #[test]
    fn partitions_of_a_table_are_those_that_begin_with_it_and_the_one_before() {
        let [one, two, three, four] = [1, 2, 3, 4].map(EntryKind::source);
        let cache = Arc::new(Cache::new(1 << 20));
        let firsts =
            [(one, b"a"), (one, b"k"), (three, b"c"), (three, b"m"), (three, b"t")].map(|(table, key)| (table, key.to_vec()));
        let partitions = partitions(&firsts, &[one, two, three, four], &cache);
        let found = [one, two, three, four].map(|table| partitions.of_table(table));
        assert_eq!(found, [0..2, 1..2, 1..5, 4..5]);
        assert_eq!(partitions.of_table(EntryKind::source(0)), 0..0, "not in the file");
        for table in [EntryKind::source(0), one, two, three, four, EntryKind::source(5)] {
            for key in firsts.iter().flat_map(|(_, key)| around(key)) {
                let expected = firsts.iter().filter(|(first, prefix)| (*first, prefix) <= (table, &key)).count().checked_sub(1);
                assert_eq!(partitions.find(table, &key), expected, "{table} {key:?}");
            }
        }
    }

    #[test]
    fn memory_is_given_back_with_the_index() {
        let cache = Arc::new(Cache::new(1 << 20));
        let index = index(&[(EntryKind::Multi, vec![b"a".to_vec(), b"b".to_vec()])], &cache);
        assert!(cache.used_bytes() > 0);
        drop(index);
        assert_eq!(cache.used_bytes(), 0);
    }

    #[test]
    fn indexes_that_are_not_used_make_room_and_those_in_use_stay() {
        let keys: Vec<Vec<u8>> = (0..100_u32).map(|number| format!("key/{number:05}").into_bytes()).collect();
        let firsts: Vec<_> = (0..64_u32).map(|number| (EntryKind::Multi, format!("{number:03}").into_bytes())).collect();
        let make = |cache: &Arc<Cache>| Arc::new(index(&[(EntryKind::Multi, keys.clone())], cache));
        let large = Arc::new(Cache::new(1 << 30));
        let measured = partitions(&firsts, &[EntryKind::Multi], &large);
        let top = large.used_bytes();
        drop(measured);
        let measured = make(&large);
        let size = large.used_bytes();
        drop(measured);
        let small = Arc::new(Cache::new(top + 10 * size));
        let partitions = partitions(&firsts, &[EntryKind::Multi], &small);
        let owner: Arc<dyn Indexes> = Arc::clone(&partitions) as Arc<dyn Indexes>;
        let mut held = None;
        for round in 0..20 {
            for number in 0..64 {
                if partitions.load(number).is_none() {
                    let index = make(&small);
                    small.insert_index(&owner, number, Reading::Point, || partitions.put(number, &index));
                    held.get_or_insert(index);
                }
                assert!(
                    partitions.load(7).is_some() || (round, number) < (0, 7),
                    "one that is used all the time: {round} {number}"
                );
                assert!(small.used_bytes() <= top + 11 * size, "the budget and what is held");
            }
        }
        assert!(held.is_some_and(|index| index.find(index.table(EntryKind::Multi).unwrap(), b"key/00005") == Some(5)));
        drop((owner, partitions));
        assert_eq!(small.used_bytes(), 0);
    }
}
