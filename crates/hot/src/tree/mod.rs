//! The ordered tree of one table: a B+tree over records, written by one writer and read without locks.
//!
//! A leaf has 64 slots, each set once: sorted ones from its making, then a tail in the order of arrival. A full leaf is replaced by
//! two; readers inside it go on with it, since it holds all that is at or below the versions they read at, and nothing is given back
//! before the whole arena is. Inner nodes are never changed but for their child pointers: a new child makes a new copy of its parent,
//! published by one store of a pointer.

mod inner;
mod leaf;
mod search;

use crate::key;
use crate::record::Record;
use crate::region::{Region, RegionWriter};
use crate::sync::{AtomicU64, Ordering};

pub(crate) use leaf::{Leaf, Ordered, SLOTS};

/// The first word of every node: its kind, a count, and the length of the prefix that its keys share.
mod meta {
    pub(super) const LEAF: u64 = 1;
    pub(super) const INNER: u64 = 2;

    pub(super) fn new(kind: u64, count: usize, prefix_len: usize) -> u64 {
        kind | (count as u64) << 8 | (prefix_len as u64) << 16
    }

    pub(super) fn kind(word: u64) -> u64 {
        word & 0xff
    }

    pub(super) fn count(word: u64) -> usize {
        (word >> 8 & 0xff) as usize
    }

    pub(super) fn prefix_len(word: u64) -> usize {
        (word >> 16 & 0xff) as usize
    }
}

/// The longest prefix that a node cuts off its keys.
const PREFIX_LEN_MAX: usize = 255;

/// The number of leading bytes that two records' keys share, up to the most that a node cuts off.
fn shared_prefix_len(a: Record<'_>, b: Record<'_>) -> usize {
    let max = a.key_len().min(b.key_len()).min(PREFIX_LEN_MAX);
    let mut len = 0;
    while len < max {
        let shared = key::shared_head_bytes(a.head(len), b.head(len));
        len += shared;
        if shared < 8 {
            break;
        }
    }
    len.min(max)
}

/// Whether `key` starts with the prefix of a node, which lies in `words`.
fn starts_with(key: &[u8], words: &[AtomicU64], prefix_len: usize) -> bool {
    key.len() >= prefix_len && compare_prefix(key, words, prefix_len).is_eq()
}

/// The order of the first `prefix_len` bytes of `key` and a node's prefix.
fn compare_prefix(key: &[u8], words: &[AtomicU64], prefix_len: usize) -> std::cmp::Ordering {
    let start = &key[..key.len().min(prefix_len)];
    for (index, word) in words.iter().enumerate().take(key::word_count(prefix_len)) {
        let order = key::compare_words(key::word(start, index), word.load(Ordering::Relaxed));
        if order.is_ne() {
            return order;
        }
    }
    // Padding makes a shorter key look equal to a prefix that ends in zeros.
    start.len().cmp(&prefix_len)
}

/// Copies the first `prefix_len` bytes of the record's key into `words`, zero-padded.
fn write_prefix(words: &[AtomicU64], record: Record<'_>, prefix_len: usize) {
    for (index, target) in words.iter().enumerate().take(key::word_count(prefix_len)) {
        let kept = (prefix_len - index * 8).min(8);
        let word = record.head(index * 8).swap_bytes();
        let mask = if kept == 8 { u64::MAX } else { (1 << (kept * 8)) - 1 };
        target.store(word & mask, Ordering::Relaxed);
    }
}

/// The root of a table's tree.
#[derive(Debug)]
pub(crate) struct Tree {
    root: AtomicU64,
}

/// A step on the way down: an inner node, and which of its children was taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    node: u32,
    child: usize,
}

/// What an insertion did besides inserting.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Grown {
    /// The bytes of nodes that were superseded.
    pub(crate) garbage_bytes: u64,
}

impl Tree {
    /// An empty tree: one empty leaf.
    pub(crate) fn new(region: &mut RegionWriter) -> Self {
        let leaf = Leaf::create(region, &[], 0);
        Self { root: AtomicU64::new(u64::from(leaf)) }
    }

    #[inline]
    fn root(&self) -> u32 {
        crate::region::low(self.root.load(Ordering::Acquire))
    }

    /// The leaf in which `key` belongs: a seek may have to step to a neighbour from there.
    #[inline]
    pub(crate) fn leaf_of<'a>(&self, region: &'a Region, key: &[u8]) -> Leaf<'a> {
        let mut node = self.root();
        loop {
            let words = region.words(node);
            if meta::kind(words[0].load(Ordering::Relaxed)) == meta::LEAF {
                return Leaf::new(region, node);
            }
            let inner = inner::Inner::new(words);
            node = inner.child(inner.child_of(region, key));
        }
    }

    /// The leftmost or the rightmost leaf.
    pub(crate) fn end_leaf<'a>(&self, region: &'a Region, is_last: bool) -> Leaf<'a> {
        let mut node = self.root();
        loop {
            let words = region.words(node);
            if meta::kind(words[0].load(Ordering::Relaxed)) == meta::LEAF {
                return Leaf::new(region, node);
            }
            let inner = inner::Inner::new(words);
            node = inner.child(if is_last { inner.count() - 1 } else { 0 });
        }
    }

    /// The leaf of `key`, and the way to it.
    fn descend(&self, region: &Region, key: &[u8], path: &mut Vec<Step>) -> u32 {
        path.clear();
        let mut node = self.root();
        loop {
            let words = region.words(node);
            if meta::kind(words[0].load(Ordering::Relaxed)) == meta::LEAF {
                return node;
            }
            let inner = inner::Inner::new(words);
            let child = inner.child_of(region, key);
            path.push(Step { node, child });
            node = inner.child(child);
        }
    }

    /// Inserts the record of `key`, which is not in the tree. `path` is room to work in.
    pub(crate) fn insert(&self, region: &mut RegionWriter, key: &[u8], record: u32, path: &mut Vec<Step>) -> Grown {
        let at = self.descend(region.region(), key, path);
        let leaf = Leaf::new(region.region(), at);
        if leaf.shares_prefix(key) && leaf.len() < SLOTS {
            leaf.push(key::head(key, leaf.prefix_len()), record);
            Record::new(region.region(), record).set_leaf(at);
            return Grown::default();
        }
        self.insert_split(region, key, record, at, path)
    }

    /// Inserts the record of `key`, for which leaf `at` at the end of `path` has no room or too long a prefix.
    fn insert_split(&self, region: &mut RegionWriter, key: &[u8], record: u32, at: u32, path: &[Step]) -> Grown {
        let shared = std::sync::Arc::clone(region.region());
        let leaf = Leaf::new(&shared, at);
        let ordered = leaf.ordered(&shared);
        if leaf.len() < SLOTS {
            // The key does not share the prefix: the leaf is made anew with a shorter one.
            let records = leaf.ordered_with(&shared, &ordered, record, key);
            let whole = leaf::replace(region, at, &records, None);
            self.relink(region, path, whole);
            return Grown { garbage_bytes: leaf.size_bytes() };
        }
        if leaf.next() == 0 && leaf.rank(&shared, &ordered, key, false) == leaf.len() {
            // Keys that arrive in order fill every leaf, and none is copied.
            let right = leaf::append(region, at, ordered.first().unwrap_or(record), record);
            let garbage_bytes = self.insert_child(region, path, at, record, right);
            return Grown { garbage_bytes };
        }
        let records = leaf.ordered_with(&shared, &ordered, record, key);
        let (left, right) = records.split_at(records.len() / 2);
        let separator = right[0];
        let left = leaf::replace(region, at, left, Some(right));
        let right = Leaf::new(&shared, left).next();
        let garbage_bytes = leaf.size_bytes() + self.insert_child(region, path, left, separator, right);
        Grown { garbage_bytes }
    }

    /// Lets the parent at the end of `path` point to `child`.
    fn relink(&self, region: &RegionWriter, path: &[Step], child: u32) {
        match path.last() {
            Some(step) => inner::Inner::new(region.region().words(step.node)).set_child(step.child, child),
            None => self.root.store(u64::from(child), Ordering::Release),
        }
    }

    /// Puts `left` in the place of the child that `path` leads to, and `right` behind it, where `separator` is the record of the first
    /// key of `right`. Answers with the bytes of superseded inner nodes.
    fn insert_child(&self, region: &mut RegionWriter, path: &[Step], left: u32, separator: u32, right: u32) -> u64 {
        let shared = std::sync::Arc::clone(region.region());
        let (mut left, mut separator, mut right, mut garbage) = (left, separator, right, 0);
        for (depth, step) in path.iter().enumerate().rev() {
            let old = inner::Inner::new(shared.words(step.node));
            garbage += old.size_bytes();
            match inner::grow(region, old, step.child, left, separator, right) {
                inner::Growth::One(node) => {
                    self.relink(region, &path[..depth], node);
                    return garbage;
                }
                inner::Growth::Two { left: lower, separator: middle, right: upper } => {
                    (left, separator, right) = (lower, middle, upper);
                }
            }
        }
        let root = inner::create(region, &[separator], &[left, right]);
        self.root.store(u64::from(root), Ordering::Release);
        garbage
    }
}
