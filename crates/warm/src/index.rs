//! The index of a sorted file in memory: from a key to its block, and the slots in which cached blocks are.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use thermocline_tier::{EntryKind, Version};

use crate::cache::{Cache, Slot, Slots};
use crate::codec::Dictionary;
use crate::filter::Filter;
use crate::layout::{FileIndex, HistoryBlockEntry, LINES_MAX, Place, common_len};

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

/// The blocks of one table.
#[derive(Debug)]
pub(crate) struct TableIndex {
    pub(crate) table: EntryKind,
    /// The number of its first main block in the file.
    pub(crate) first: usize,
    pub(crate) blocks: usize,
    /// What the first keys of all its blocks begin with.
    common: Vec<u8>,
    /// Of the first key of each block the eight bytes behind that.
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
    let mut bytes = [0; 8];
    let len = rest.len().min(bytes.len());
    bytes[..len].copy_from_slice(&rest[..len]);
    // As a big-endian number, so that its order is that of the bytes.
    u64::from_le_bytes(bytes).swap_bytes()
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Index {
    pub(crate) tables: Vec<TableIndex>,
    pub(crate) main: Vec<Resident>,
    /// The oldest and the newest version of each main block, history included.
    pub(crate) versions: Vec<(Version, Version)>,
    places: Vec<Place>,
    firsts: Keys,
    pub(crate) history: Vec<HistoryBlockEntry>,
    history_slots: Vec<Slot>,
    pub(crate) filter: Filter,
    pub(crate) dictionary: Option<Dictionary>,
    /// Where the blocks end.
    pub(crate) data_end: u64,
    size_bytes: usize,
    cache: Arc<Cache>,
}

impl Index {
    /// From what the file says; its memory counts in `cache` until it is dropped.
    pub(crate) fn new(
        file: &FileIndex,
        filter: Filter,
        dictionary: Option<Dictionary>,
        data_end: u64,
        cache: Arc<Cache>,
    ) -> Self {
        let mut index = Self {
            tables: Vec::with_capacity(file.tables.len()),
            main: Vec::new(),
            versions: Vec::new(),
            places: Vec::new(),
            firsts: Keys::default(),
            history: file.history.clone(),
            history_slots: file.history.iter().map(|_| ArcSwapOption::empty()).collect(),
            filter,
            dictionary,
            data_end,
            size_bytes: 0,
            cache,
        };
        let count = file.tables.iter().map(|table| table.blocks.len()).sum();
        index.main.reserve_exact(count);
        for table in &file.tables {
            let (Some(first), Some(last)) = (table.blocks.first(), table.blocks.last()) else { continue };
            let common = first.first[..common_len(&first.first, &last.first)].to_vec();
            let heads = table.blocks.iter().map(|block| head(&block.first[common.len()..])).collect();
            let (table, blocks) = (table.table, &table.blocks);
            index.tables.push(TableIndex { table, first: index.main.len(), blocks: blocks.len(), common, heads });
            for block in blocks {
                let mut heads = [u32::MAX; LINES_MAX];
                for (to, from) in heads.iter_mut().zip(&block.heads) {
                    *to = *from;
                }
                let lines = u16::try_from(block.heads.len().min(LINES_MAX)).unwrap_or(0);
                let (keys, common_len) = (block.keys, block.common_len);
                index.main.push(Resident { heads, slot: ArcSwapOption::empty(), keys, common_len, lines });
                index.versions.push(block.versions);
                index.places.push(block.place);
                index.firsts.push(&block.first);
            }
        }
        index.size_bytes = index.measure();
        index.cache.pin(index.size_bytes);
        index
    }

    fn measure(&self) -> usize {
        let each_main = size_of::<Resident>() + size_of::<(Version, Version)>() + size_of::<Place>() + size_of::<usize>() + 8;
        let each_history = size_of::<HistoryBlockEntry>() + size_of::<Slot>();
        let tables: usize = self.tables.iter().map(|table| size_of::<TableIndex>() + table.common.len()).sum();
        let arrays = self.main.len() * each_main + self.history.len() * each_history + self.firsts.bytes.len();
        size_of::<Self>() + tables + arrays + self.filter.size_bytes()
    }

    #[inline]
    pub(crate) fn table(&self, table: EntryKind) -> Option<&TableIndex> {
        match &self.tables[..] {
            [only] => (only.table == table).then_some(only),
            tables => tables.binary_search_by_key(&table, |index| index.table).ok().map(|found| &tables[found]),
        }
    }

    /// The first key of a main block.
    #[inline]
    pub(crate) fn first(&self, block: usize) -> &[u8] {
        self.firsts.get(block)
    }

    /// The common prefix of a main block's keys.
    #[inline]
    pub(crate) fn common(&self, block: usize) -> &[u8] {
        &self.first(block)[..usize::from(self.main[block].common_len)]
    }

    /// The last main block of a table whose first key is not above `key`: the only one that can hold it. `None` if all are above.
    #[inline]
    pub(crate) fn find(&self, table: &TableIndex, key: &[u8]) -> Option<usize> {
        let rest = match key.strip_prefix(table.common.as_slice()) {
            Some(rest) => rest,
            // It differs within what all share, or ends there, which puts it before all of them.
            None if key < table.common.as_slice() => return None,
            None => return Some(table.first + table.blocks - 1),
        };
        let head = head(rest);
        let mut upper = table.heads.partition_point(|first| *first < head);
        // Equal heads: ask the keys themselves.
        if table.heads.get(upper) == Some(&head) {
            let equal = table.heads[upper..].partition_point(|first| *first == head);
            let below = |number: usize| self.first(table.first + number) <= key;
            let (mut low, mut high) = (upper, upper + equal);
            while low < high {
                let middle = usize::midpoint(low, high);
                if below(middle) { low = middle + 1 } else { high = middle }
            }
            upper = low;
        }
        upper.checked_sub(1).map(|number| table.first + number)
    }

    /// Where a block of [`Slots`] numbering lies.
    pub(crate) fn place(&self, number: u32) -> Option<Place> {
        match number.checked_sub(HISTORY_NUMBERS) {
            Some(history) => self.history.get(history as usize).map(|block| block.place),
            None => self.places.get(number as usize).copied(),
        }
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
        self.cache.forget(self.size_bytes, slots);
    }
}

#[cfg(test)]
mod tests {
    use thermocline_tier::TableStats;

    use super::*;
    use crate::layout::{MainBlockEntry, TableEntry};

    fn index(keys: &[Vec<u8>]) -> Index {
        let block = |first: &Vec<u8>| MainBlockEntry {
            first: first.clone(),
            place: Place::default(),
            versions: (Version(1), Version(1)),
            keys: 1,
            common_len: 0,
            heads: vec![0],
        };
        let table =
            TableEntry { table: EntryKind::Multi, stats: TableStats::default(), blocks: keys.iter().map(block).collect() };
        let file = FileIndex { tables: vec![table], ..FileIndex::default() };
        Index::new(&file, Filter::build(&[]), None, 0, Arc::new(Cache::new(1 << 20)))
    }

    fn check(mut keys: Vec<Vec<u8>>) {
        keys.sort();
        keys.dedup();
        let index = index(&keys);
        let table = index.table(EntryKind::Multi).unwrap();
        let around = |key: &Vec<u8>| {
            let shorter = key[..key.len().saturating_sub(1)].to_vec();
            let higher = key.iter().map(|byte| byte.saturating_add(1)).collect();
            [key.clone(), [&key[..], &[0]].concat(), [&key[..], &[255; 9]].concat(), shorter, higher, Vec::new(), vec![255; 20]]
        };
        for key in keys.iter().flat_map(around) {
            let expected = keys.partition_point(|first| *first <= key).checked_sub(1);
            assert_eq!(index.find(table, &key), expected, "{key:?}");
        }
    }

    #[test]
    fn block_of_a_key_is_the_last_that_begins_not_above_it() {
        check((0..1).map(|_| b"only".to_vec()).collect());
        check((0..300_u32).map(|number| format!("user/{number:08}").into_bytes()).collect());
        check((0..300_u32).map(|number| (number * 1_000_003).swap_bytes().to_le_bytes().to_vec()).collect());
        check((0..64_u32).map(|number| format!("{}tail{:03}", "a".repeat(number as usize % 4), number).into_bytes()).collect());
        check((0..64_u32).map(|number| format!("p{}", "0".repeat(number as usize)).into_bytes()).collect());
        check(vec![vec![], vec![0], vec![0, 0], vec![0, 0, 0, 0, 0, 0, 0, 0], vec![0, 0, 0, 0, 0, 0, 0, 0, 0], vec![1]]);
        check((0..50_u32).map(|number| format!("exactly8{}same8888{number:02}", number / 25).into_bytes()).collect());
    }

    #[test]
    fn memory_is_given_back_with_the_index() {
        let index = index(&[b"a".to_vec(), b"b".to_vec()]);
        let cache = Arc::clone(&index.cache);
        assert!(cache.used_bytes() > 0);
        drop(index);
        assert_eq!(cache.used_bytes(), 0);
    }
}
