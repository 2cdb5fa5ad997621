//! Inner nodes.
//!
//! ```text
//! 0                meta: kind, number of children n, prefix length p
//! 1                prefix of the separators        p / 8 words
//!                  heads of the separators         n - 1 words
//!                  records of the separators       (n - 1) / 2 words
//!                  children                        n / 2 words
//! ```
//! Separator i is the first key of child i + 1.

use crate::key;
use crate::record::Record;
use crate::region::{Region, RegionWriter, half, set_half};
use crate::sync::{AtomicU64, Ordering};
use crate::tree::{compare_prefix, meta, search, shared_prefix_len, starts_with, write_prefix};

/// The most children of an inner node.
const CHILDREN_MAX: usize = 64;

#[derive(Clone, Copy, Debug)]
pub(super) struct Inner<'a> {
    words: &'a [AtomicU64],
    count: usize,
    prefix_len: usize,
}

impl<'a> Inner<'a> {
    #[inline]
    pub(super) fn new(words: &'a [AtomicU64]) -> Self {
        let meta = words[0].load(Ordering::Relaxed);
        Self { words, count: meta::count(meta), prefix_len: meta::prefix_len(meta) }
    }

    fn size_words(count: usize, prefix_len: usize) -> usize {
        1 + key::word_count(prefix_len) + (count - 1) + (count - 1).div_ceil(2) + count.div_ceil(2)
    }

    pub(super) fn size_bytes(self) -> u64 {
        Self::size_words(self.count, self.prefix_len) as u64 * 8
    }

    /// The number of children.
    #[inline]
    pub(super) fn count(self) -> usize {
        self.count
    }

    fn prefix(self) -> &'a [AtomicU64] {
        &self.words[1..=key::word_count(self.prefix_len)]
    }

    #[inline]
    fn heads(self) -> &'a [AtomicU64] {
        let start = 1 + key::word_count(self.prefix_len);
        &self.words[start..start + self.count - 1]
    }

    #[inline]
    fn records(self) -> &'a [AtomicU64] {
        let start = key::word_count(self.prefix_len) + self.count;
        &self.words[start..start + (self.count - 1).div_ceil(2)]
    }

    #[inline]
    fn children(self) -> &'a [AtomicU64] {
        let start = key::word_count(self.prefix_len) + self.count + (self.count - 1).div_ceil(2);
        &self.words[start..start + self.count.div_ceil(2)]
    }

    fn separator(self, index: usize) -> u32 {
        half(self.records(), index, Ordering::Relaxed)
    }

    #[inline]
    pub(super) fn child(self, index: usize) -> u32 {
        half(self.children(), index, Ordering::Acquire)
    }

    pub(super) fn set_child(self, index: usize, child: u32) {
        set_half(self.children(), index, child, Ordering::Release);
    }

    /// The index of the child in which `key` belongs.
    #[inline]
    pub(super) fn child_of(self, region: &Region, key: &[u8]) -> usize {
        match compare_prefix(key, self.prefix(), self.prefix_len) {
            std::cmp::Ordering::Less => 0,
            std::cmp::Ordering::Greater => self.count - 1,
            std::cmp::Ordering::Equal => {
                let whole = |index: usize| Record::new(region, self.separator(index)).compare(key);
                search::rank(self.heads(), key::head(key, self.prefix_len), true, whole)
            }
        }
    }

    fn separators_and_children(self) -> (Vec<u32>, Vec<u32>) {
        (
            (0..self.count - 1).map(|index| self.separator(index)).collect(),
            (0..self.count).map(|index| self.child(index)).collect(),
        )
    }
}

/// Makes an inner node of these separators and one child more.
pub(super) fn create(region: &mut RegionWriter, separators: &[u32], children: &[u32]) -> u32 {
    let shared = std::sync::Arc::clone(region.region());
    let record = |index: usize| Record::new(&shared, separators[index]);
    let prefix_len = shared_prefix_len(record(0), record(separators.len() - 1));
    // A prefix that is the whole of a separator would leave it no head; harmless, since ties are decided by whole keys.
    let heads: Vec<u64> = (0..separators.len()).map(|index| record(index).head(prefix_len)).collect();
    create_with(region, separators, &heads, prefix_len, children)
}

fn create_with(region: &mut RegionWriter, separators: &[u32], heads: &[u64], prefix_len: usize, children: &[u32]) -> u32 {
    let at = region.allocate(Inner::size_words(children.len(), prefix_len));
    let shared = region.region();
    let words = shared.words(at);
    words[0].store(meta::new(meta::INNER, children.len(), prefix_len), Ordering::Relaxed);
    let inner = Inner::new(words);
    write_prefix(inner.prefix(), Record::new(shared, separators[0]), prefix_len);
    for (index, (separator, head)) in separators.iter().zip(heads).enumerate() {
        inner.heads()[index].store(*head, Ordering::Relaxed);
        set_half(inner.records(), index, *separator, Ordering::Relaxed);
    }
    for (index, child) in children.iter().enumerate() {
        set_half(inner.children(), index, *child, Ordering::Relaxed);
    }
    at
}

/// What an inner node became with a child more.
pub(super) enum Growth {
    One(u32),
    Two { left: u32, separator: u32, right: u32 },
}

/// Copies `old` with `left` in the place of child `index` and `right` behind it.
pub(super) fn grow(region: &mut RegionWriter, old: Inner<'_>, index: usize, left: u32, separator: u32, right: u32) -> Growth {
    let (mut separators, mut children) = old.separators_and_children();
    separators.insert(index, separator);
    children[index] = left;
    children.insert(index + 1, right);
    if children.len() > CHILDREN_MAX {
        let middle = separators.len() / 2;
        let lower = create(region, &separators[..middle], &children[..=middle]);
        let upper = create(region, &separators[middle + 1..], &children[middle + 1..]);
        return Growth::Two { left: lower, separator: separators[middle], right: upper };
    }
    let shared = std::sync::Arc::clone(region.region());
    let added = Record::new(&shared, separator);
    if !added.with_key(|key| starts_with(key, old.prefix(), old.prefix_len)) || separators.len() == 2 {
        return Growth::One(create(region, &separators, &children));
    }
    let mut heads: Vec<u64> = old.heads().iter().map(|word| word.load(Ordering::Relaxed)).collect();
    heads.insert(index, added.head(old.prefix_len));
    Growth::One(create_with(region, &separators, &heads, old.prefix_len, &children))
}
