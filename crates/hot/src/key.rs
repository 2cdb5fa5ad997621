//! Keys as words: hashing, comparing, and the eight-byte heads that tree nodes search by.

use std::cmp::Ordering as Order;

/// The words that a key of `len` bytes takes.
#[inline]
pub(crate) fn word_count(len: usize) -> usize {
    len.div_ceil(8)
}

/// Word `index` of a key: eight bytes, the first lowest, zero where the key has ended.
#[inline]
pub(crate) fn word(key: &[u8], index: usize) -> u64 {
    let rest = key.get(index * 8..).unwrap_or_default();
    match rest.first_chunk::<8>() {
        Some(bytes) => u64::from_le_bytes(*bytes),
        None => partial(rest),
    }
}

/// Up to seven bytes as a word.
#[inline]
fn partial(bytes: &[u8]) -> u64 {
    let mut padded = [0; 8];
    for (to, from) in padded.iter_mut().zip(bytes) {
        *to = *from;
    }
    u64::from_le_bytes(padded)
}

/// The eight bytes after the first `skip`, zero-padded, as a number whose order is the order of the bytes. Equal heads do not mean
/// equal keys: longer keys go on, and shorter ones end in padding that looks like zeros.
#[inline]
pub(crate) fn head(key: &[u8], skip: usize) -> u64 {
    word(key.get(skip..).unwrap_or_default(), 0).swap_bytes()
}

/// The order of two words of keys as bytes.
#[inline]
pub(crate) fn compare_words(a: u64, b: u64) -> Order {
    a.swap_bytes().cmp(&b.swap_bytes())
}

/// The number of leading bytes that two heads share.
#[inline]
pub(crate) fn shared_head_bytes(a: u64, b: u64) -> usize {
    ((a ^ b).leading_zeros() / 8) as usize
}

const MULTIPLIER_A: u64 = 0x9e37_79b9_7f4a_7c15;
const MULTIPLIER_B: u64 = 0xd6e8_feb8_6659_fd93;

/// The 128-bit product folded to 64 bits: every bit of the input reaches every bit of the output.
#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    #[expect(clippy::cast_possible_truncation, reason = "both halves are used")]
    let folded = (product as u64) ^ ((product >> 64) as u64);
    folded
}

/// A hash of a key: folded multiplication, two words a step, as in wyhash (Wang Yi, public domain).
#[inline]
pub(crate) fn hash(key: &[u8], seed: u64) -> u64 {
    let seed = seed ^ (key.len() as u64).wrapping_mul(MULTIPLIER_A);
    let (first, last) = match (key.first_chunk::<8>(), key.last_chunk::<8>()) {
        // Of 8 to 16 bytes, the first eight and the last eight are all.
        (Some(first), Some(last)) => (u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
        _ => (partial(key), 0),
    };
    let seed = if key.len() > 16 { hash_middle(key, seed) } else { seed };
    fold(fold(first ^ seed, last ^ MULTIPLIER_B) ^ MULTIPLIER_B, MULTIPLIER_A)
}

/// The part of a long key between its first and its last bytes.
fn hash_middle(key: &[u8], mut state: u64) -> u64 {
    let middle = key.get(8..key.len() - 8).unwrap_or_default();
    for pair in middle.chunks(16) {
        state = fold(word(pair, 0) ^ MULTIPLIER_A ^ state, word(pair, 1) ^ MULTIPLIER_B);
    }
    state
}

#[cfg(test)]
mod tests {
    use super::{hash, head, shared_head_bytes};

    #[test]
    fn heads_order_like_bytes() {
        let keys: [&[u8]; 6] = [b"", b"a", b"a\0b", b"ab", b"b", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff"];
        for pair in keys.windows(2) {
            assert!(head(pair[0], 0) < head(pair[1], 0));
        }
        assert_eq!(head(b"a", 0), head(b"a\0", 0), "padding ties");
        assert_eq!(head(b"xyzabc", 3), head(b"abc", 0));
        assert_eq!(head(b"xy", 3), 0);
        assert_eq!(shared_head_bytes(head(b"abcd", 0), head(b"abxd", 0)), 2);
    }

    #[test]
    fn hashes_tell_length_and_content_apart() {
        let keys: [&[u8]; 7] =
            [b"", b"\0", b"\0\0", b"0123456789abcdef", b"0123456789abcdef\0", b"0123456789abcdeg", b"0123456789abcde"];
        for (index, a) in keys.iter().enumerate() {
            for b in &keys[index + 1..] {
                assert_ne!(hash(a, 1) >> 32, hash(b, 1) >> 32, "{a:?} {b:?}");
            }
        }
        assert_ne!(hash(b"a", 1), hash(b"a", 2));
    }
}
