//! Leaves.
//!
//! ```text
//! 0                meta: kind, number of sorted slots, prefix length p
//! 1                number of slots taken; set after the slot
//! 2                previous leaf, low; next leaf, high
//! 3                the newest version of any entry of its keys, or above it
//! 4                prefix of the keys              p / 8 words
//!                  heads                           64 words
//!                  records                         32 words
//! ```

use thermocline_tier::Version;

use crate::key;
use crate::record::Record;
use crate::region::{Region, RegionWriter, high, join, low, set_half};
use crate::sync::{AtomicU64, Ordering};
use crate::tree::{compare_prefix, meta, shared_prefix_len, starts_with, write_prefix};

/// The slots of a leaf.
pub(crate) const SLOTS: usize = 64;
const HEADER_WORDS: usize = 4;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Leaf<'a> {
    words: &'a [AtomicU64],
    sorted: usize,
    prefix_len: usize,
}

impl<'a> Leaf<'a> {
    #[inline]
    pub(crate) fn new(region: &'a Region, at: u32) -> Self {
        let words = region.words(at);
        let meta = words[0].load(Ordering::Relaxed);
        Self { words, sorted: meta::count(meta), prefix_len: meta::prefix_len(meta) }
    }

    /// Asks for the memory of a whole leaf.
    #[inline]
    pub(crate) fn prefetch(region: &Region, at: u32) {
        const LINE_WORDS: usize = 8;
        let words = region.words(at);
        for word in words.iter().step_by(LINE_WORDS).take(Self::size_words(0) / LINE_WORDS) {
            crate::arena::words::prefetch(word);
        }
    }

    fn size_words(prefix_len: usize) -> usize {
        HEADER_WORDS + key::word_count(prefix_len) + SLOTS + SLOTS / 2
    }

    pub(super) fn size_bytes(self) -> u64 {
        Self::size_words(self.prefix_len) as u64 * 8
    }

    pub(super) fn prefix_len(self) -> usize {
        self.prefix_len
    }

    fn prefix(self) -> &'a [AtomicU64] {
        &self.words[HEADER_WORDS..HEADER_WORDS + key::word_count(self.prefix_len)]
    }

    pub(super) fn shares_prefix(self, key: &[u8]) -> bool {
        starts_with(key, self.prefix(), self.prefix_len)
    }

    #[inline]
    fn heads(self) -> &'a [AtomicU64] {
        let start = HEADER_WORDS + key::word_count(self.prefix_len);
        &self.words[start..start + SLOTS]
    }

    #[inline]
    fn records(self) -> &'a [AtomicU64] {
        let start = HEADER_WORDS + key::word_count(self.prefix_len) + SLOTS;
        &self.words[start..start + SLOTS / 2]
    }

    /// The number of slots taken.
    #[inline]
    pub(crate) fn len(self) -> usize {
        (low(self.words[1].load(Ordering::Acquire)) as usize).min(SLOTS)
    }

    #[inline]
    pub(crate) fn next(self) -> u32 {
        high(self.words[2].load(Ordering::Acquire))
    }

    #[inline]
    pub(crate) fn previous(self) -> u32 {
        low(self.words[2].load(Ordering::Acquire))
    }

    fn set_next(self, next: u32) {
        let previous = self.previous();
        self.words[2].store(join(previous, next), Ordering::Release);
    }

    fn set_previous(self, previous: u32) {
        let next = self.next();
        self.words[2].store(join(previous, next), Ordering::Release);
    }

    /// No key of this leaf has an entry above it.
    pub(crate) fn newest(self) -> Version {
        Version(self.words[3].load(Ordering::Acquire))
    }

    /// Notes that one of its keys is about to have an entry at `version`.
    pub(crate) fn note(self, version: Version) {
        if self.newest() < version {
            self.words[3].store(version.0, Ordering::Release);
        }
    }

    /// Takes the next slot, of which there must be one: first the slot, then the count.
    pub(crate) fn push(self, head: u64, record: u32) {
        let index = self.len();
        self.heads()[index].store(head, Ordering::Relaxed);
        set_half(self.records(), index, record, Ordering::Relaxed);
        self.words[1].store(index as u64 + 1, Ordering::Release);
    }

    /// A leaf that nobody knows yet, with `records` in their order, whose keys share `prefix_len` bytes.
    pub(super) fn create(region: &mut RegionWriter, records: &[u32], prefix_len: usize) -> u32 {
        let at = region.allocate(Self::size_words(prefix_len));
        let shared = region.region();
        let words = shared.words(at);
        words[0].store(meta::new(meta::LEAF, records.len(), prefix_len), Ordering::Relaxed);
        words[1].store(records.len() as u64, Ordering::Relaxed);
        let leaf = Leaf::new(shared, at);
        if let Some(first) = records.first() {
            write_prefix(leaf.prefix(), Record::new(shared, *first), prefix_len);
        }
        at
    }

    /// Its records in the order of their keys.
    pub(crate) fn ordered(self, region: &Region) -> Ordered {
        let mut ordered = Ordered { heads: [0; SLOTS], records: [0; SLOTS], len: self.len() };
        for (to, from) in ordered.heads.iter_mut().zip(self.heads()).take(ordered.len) {
            *to = from.load(Ordering::Relaxed);
        }
        for (pair, word) in ordered.records.as_chunks_mut::<2>().0.iter_mut().zip(self.records()).take(ordered.len.div_ceil(2)) {
            let word = word.load(Ordering::Relaxed);
            *pair = [low(word), high(word)];
        }
        ordered.sort_tail(region, self.sorted);
        ordered
    }

    /// One of its records.
    pub(crate) fn any_record(self) -> Option<u32> {
        (self.len() > 0).then(|| low(self.records()[0].load(Ordering::Relaxed)))
    }

    /// The number of its keys below `key`, or at it too if `or_equal`.
    pub(crate) fn rank(self, region: &Region, ordered: &Ordered, key: &[u8], or_equal: bool) -> usize {
        let is_before = |index: usize| {
            let order = Record::new(region, ordered.records[index]).compare(key);
            order.is_lt() || (or_equal && order.is_eq())
        };
        match compare_prefix(key, self.prefix(), self.prefix_len) {
            std::cmp::Ordering::Less => 0,
            std::cmp::Ordering::Greater => ordered.len,
            std::cmp::Ordering::Equal => {
                let (head, heads) = (key::head(key, self.prefix_len), &ordered.heads[..ordered.len]);
                let mut rank = heads.partition_point(|other| *other < head);
                while rank < ordered.len && heads[rank] == head && is_before(rank) {
                    rank += 1;
                }
                rank
            }
        }
    }

    /// Its records in order, with one more that lies at the rank of its key.
    pub(super) fn ordered_with(self, region: &Region, ordered: &Ordered, record: u32, key: &[u8]) -> Vec<u32> {
        let mut records = Vec::with_capacity(ordered.len + 1);
        records.extend_from_slice(ordered.records());
        records.insert(self.rank(region, ordered, key, false), record);
        records
    }
}

/// The records of a leaf in the order of their keys.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ordered {
    heads: [u64; SLOTS],
    records: [u32; SLOTS],
    len: usize,
}

impl Ordered {
    #[inline]
    pub(crate) fn records(&self) -> &[u32] {
        &self.records[..self.len]
    }

    pub(super) fn first(&self) -> Option<u32> {
        self.records().first().copied()
    }

    /// Sorts the slots from `sorted` on by themselves, then merges them with those before, from the back.
    fn sort_tail(&mut self, region: &Region, sorted: usize) {
        let is_below = |a: (u64, u32), b: (u64, u32)| {
            a.0 < b.0 || (a.0 == b.0 && Record::new(region, a.1).compare_record(Record::new(region, b.1)).is_lt())
        };
        let mut tail = [(0, 0); SLOTS];
        let mut tail_len = 0;
        for index in sorted..self.len {
            let slot = (self.heads[index], self.records[index]);
            let mut rank = tail_len;
            while rank > 0 && is_below(slot, tail[rank - 1]) {
                tail[rank] = tail[rank - 1];
                rank -= 1;
            }
            tail[rank] = slot;
            tail_len += 1;
        }
        let (mut left, mut target) = (sorted, self.len);
        // Once the tail is used up, the rest is in its place.
        while tail_len > 0 {
            target -= 1;
            let last = tail[tail_len - 1];
            if left > 0 && is_below(last, (self.heads[left - 1], self.records[left - 1])) {
                left -= 1;
                (self.heads[target], self.records[target]) = (self.heads[left], self.records[left]);
            } else {
                tail_len -= 1;
                (self.heads[target], self.records[target]) = last;
            }
        }
    }
}

/// Puts a leaf of `left`, and one of `right` behind it, in the place of leaf `old`, between its neighbours; answers with the
/// first. Readers in `old` go on undisturbed.
pub(super) fn replace(region: &mut RegionWriter, old: u32, left: &[u32], right: Option<&[u32]>) -> u32 {
    let shared = std::sync::Arc::clone(region.region());
    let dead = Leaf::new(&shared, old);
    let (previous, next, newest) = (dead.previous(), dead.next(), dead.newest());
    let first = fill(region, left, newest);
    let mut last = first;
    if let Some(right) = right {
        last = fill(region, right, newest);
        Leaf::new(&shared, first).set_next(last);
        Leaf::new(&shared, last).set_previous(first);
    }
    Leaf::new(&shared, first).set_previous(previous);
    Leaf::new(&shared, last).set_next(next);
    if previous != 0 {
        Leaf::new(&shared, previous).set_next(first);
    }
    if next != 0 {
        Leaf::new(&shared, next).set_previous(last);
    }
    first
}

/// Makes a leaf of sorted records, which become its own.
fn fill(region: &mut RegionWriter, records: &[u32], newest: Version) -> u32 {
    let shared = std::sync::Arc::clone(region.region());
    let record = |index: usize| Record::new(&shared, records[index]);
    for at in records {
        shared.prefetch(*at);
    }
    let prefix_len = match records.len() {
        0 | 1 => 0,
        len => shared_prefix_len(record(0), record(len - 1)),
    };
    let at = Leaf::create(region, records, prefix_len);
    let leaf = Leaf::new(&shared, at);
    for (index, record_at) in records.iter().enumerate() {
        let record = record(index);
        leaf.heads()[index].store(record.head(prefix_len), Ordering::Relaxed);
        set_half(leaf.records(), index, *record_at, Ordering::Relaxed);
        record.set_leaf(at);
    }
    leaf.note(newest);
    at
}

/// Puts a leaf with one record behind the rightmost one. Its prefix is what `record` shares with the left one's `first`, on the
/// guess that the keys go on like that.
pub(super) fn append(region: &mut RegionWriter, left: u32, first: u32, record: u32) -> u32 {
    let shared = std::sync::Arc::clone(region.region());
    let added = Record::new(&shared, record);
    let prefix_len = shared_prefix_len(Record::new(&shared, first), added);
    let at = Leaf::create(region, &[record], prefix_len);
    let leaf = Leaf::new(&shared, at);
    leaf.heads()[0].store(added.head(prefix_len), Ordering::Relaxed);
    set_half(leaf.records(), 0, record, Ordering::Relaxed);
    added.set_leaf(at);
    leaf.set_previous(left);
    Leaf::new(&shared, left).set_next(at);
    at
}
