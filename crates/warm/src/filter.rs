//! The filter of a sorted file: which keys it surely does not hold.
//!
//! A split block Bloom filter, as the Parquet format specifies it: a key sets one bit in each of the eight words of one block of 32
//! bytes, so that a probe touches one cache line. At 10.5 bits a key about one absent key of a hundred passes. No key that is there is
//! ever denied.

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::buffers::Buffers;

const BITS_PER_KEY_TENTHS: usize = 105;
const WORDS: usize = 8;
const WORD_BYTES: usize = 4;
pub(crate) const BLOCK_SIZE_BYTES: usize = WORDS * WORD_BYTES;

/// Odd constants that spread the lower half of the hash over the words, from the Parquet specification.
const SALTS: [u32; WORDS] =
    [0x47b6_137b, 0x4497_4d91, 0x8824_ad5b, 0xa2b7_289d, 0x7054_95c7, 0x2df1_424b, 0x9efc_4947, 0x5c6b_fb31];

/// The hash of a key with its table, by which filters are asked.
#[inline]
pub(crate) fn hash(table_code: u64, prefix: &[u8]) -> u64 {
    xxh3_64_with_seed(prefix, table_code)
}

/// The bits: blocks of eight little-endian words each.
#[derive(Debug)]
pub(crate) struct Filter {
    bytes: Bytes,
}

#[inline]
fn block_of(hash: u64, blocks: usize) -> usize {
    // The upper half of the hash chooses the block, by a multiplication in place of a division.
    (((hash >> 32) * blocks as u64) >> 32) as usize
}

#[inline]
fn bits(hash: u64) -> [u32; WORDS] {
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is meant")]
    let low = hash as u32;
    SALTS.map(|salt| 1 << (low.wrapping_mul(salt) >> 27))
}

impl Filter {
    /// A filter of exactly these keys, by their hashes.
    pub(crate) fn build(hashes: &[u64]) -> Self {
        let count = (hashes.len() * BITS_PER_KEY_TENTHS / 10).div_ceil(BLOCK_SIZE_BYTES * 8).max(1);
        let mut blocks = vec![[0; WORDS]; count];
        for &hash in hashes {
            let block: &mut [u32; WORDS] = &mut blocks[block_of(hash, count)];
            for (word, bit) in block.iter_mut().zip(bits(hash)) {
                *word |= bit;
            }
        }
        Self { bytes: blocks.iter().flatten().flat_map(|word| word.to_le_bytes()).collect() }
    }

    pub(crate) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// From its bytes; `None` if they are not a whole, positive number of blocks.
    pub(crate) fn decode(bytes: Bytes) -> Option<Self> {
        let is_whole = !bytes.is_empty() && bytes.len().is_multiple_of(BLOCK_SIZE_BYTES);
        is_whole.then_some(Self { bytes })
    }

    /// False if no key of this hash is in the file.
    #[inline]
    pub(crate) fn may_hold(&self, hash: u64) -> bool {
        let (blocks, _) = self.bytes.as_chunks::<BLOCK_SIZE_BYTES>();
        blocks.get(block_of(hash, blocks.len())).is_none_or(|block| {
            let (words, _) = block.as_chunks::<WORD_BYTES>();
            words.iter().zip(bits(hash)).all(|(word, bit)| u32::from_le_bytes(*word) & bit != 0)
        })
    }

    pub(crate) fn size_bytes(&self) -> usize {
        Buffers::size_bytes(self.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashes(from: u64, count: u64) -> Vec<u64> {
        (from..from + count).map(|number| hash(1, &number.to_le_bytes())).collect()
    }

    #[test]
    fn no_key_that_is_there_is_denied_and_few_that_are_not_pass() {
        for count in [1, 2, 100, 10_000] {
            let filter = Filter::decode(Filter::build(&hashes(0, count)).bytes().clone()).unwrap();
            assert!(hashes(0, count).iter().all(|&hash| filter.may_hold(hash)));
            let passed = hashes(1 << 32, 10_000).into_iter().filter(|&hash| filter.may_hold(hash)).count();
            assert!(passed < 200, "{passed} of 10000 at {count} keys");
        }
    }

    #[test]
    fn same_key_of_another_table_is_another_key() {
        let filter = Filter::build(&[hash(1, b"key")]);
        assert!(filter.may_hold(hash(1, b"key")));
        assert!(!filter.may_hold(hash(2, b"key")));
    }

    #[test]
    fn bytes_that_are_no_blocks_are_refused() {
        assert!(Filter::decode(Bytes::new()).is_none());
        assert!(Filter::decode(Bytes::from_static(&[0; BLOCK_SIZE_BYTES + 1])).is_none());
    }
}
