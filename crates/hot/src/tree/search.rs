//! Binary search over heads.

use std::cmp::Ordering as Order;

use crate::sync::{AtomicU64, Ordering};

/// The number of the first `len` keys, sorted, that lie below a key, or at it too if `or_equal`. `heads` holds their heads, `head` is the
/// key's own, `compare` tells the order of a whole key, by its index, and the key sought; it is asked only where heads tie.
#[inline]
pub(super) fn rank(heads: &[AtomicU64], head: u64, or_equal: bool, compare: impl Fn(usize) -> Order) -> usize {
    let lower = count_below(heads, head);
    if heads.get(lower).is_none_or(|word| word.load(Ordering::Relaxed) != head) {
        return lower;
    }
    // Among the ties, whole keys decide.
    let (mut low, mut high) = (lower, heads.len());
    while low < high {
        let middle = usize::midpoint(low, high);
        let is_below = heads[middle].load(Ordering::Relaxed) == head
            && match compare(middle) {
                Order::Less => true,
                Order::Equal => or_equal,
                Order::Greater => false,
            };
        if is_below { low = middle + 1 } else { high = middle }
    }
    low
}

/// The number of heads below `head`, without a branch that depends on them.
#[inline]
fn count_below(heads: &[AtomicU64], head: u64) -> usize {
    let mut rest = heads;
    let mut below = 0;
    while rest.len() > 1 {
        let half = rest.len() / 2;
        let step = if rest[half - 1].load(Ordering::Relaxed) < head { half } else { 0 };
        below += step;
        rest = &rest[step..step + rest.len() - half];
    }
    below + usize::from(rest.first().is_some_and(|word| word.load(Ordering::Relaxed) < head))
}
