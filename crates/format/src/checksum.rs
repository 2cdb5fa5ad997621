//! Checksums: XXH3 in 64 and 128 bits, seeded with the place that the bytes belong to.
//!
//! They find accidents, not attackers: whoever can write to a file can also make its checksums right. Parsers therefore check every
//! length and every number as if there were no checksum.

use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128_with_seed};

use crate::registry::{FileKind, StoreId};

/// The width of a 64-bit checksum in a file, in bytes.
pub const CHECKSUM64_SIZE_BYTES: usize = 8;
/// The width of a 128-bit checksum in a file, in bytes.
pub const CHECKSUM128_SIZE_BYTES: usize = 16;

/// XXH3-64 of `bytes`, for records and blocks. Writing and checking take the same seed, see [`Salt::at`].
#[inline]
pub fn checksum64(seed: u64, bytes: &[u8]) -> u64 {
    xxh3_64_with_seed(bytes, seed)
}

/// XXH3-128 of `bytes`, for footers, manifest records and whole files.
#[inline]
pub fn checksum128(seed: u64, bytes: &[u8]) -> u128 {
    xxh3_128_with_seed(bytes, seed)
}

/// What ties a checksum to its place: bytes that are valid in one file, or at one offset, are not valid in another. This is how a
/// block is recognised that the disk wrote to the wrong place, or that was copied from another store.
///
/// ```
/// use thermocline_format::{FileKind, Salt, StoreId, checksum64};
///
/// let salt = Salt::new(StoreId([7; 16]), FileKind::Wal, 1);
/// let other = Salt::new(StoreId([7; 16]), FileKind::Wal, 2);
/// assert_ne!(checksum64(salt.at(64), b"block"), checksum64(salt.at(512), b"block"));
/// assert_ne!(checksum64(salt.at(64), b"block"), checksum64(other.at(64), b"block"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Salt(u64);

impl Salt {
    /// The salt of file `number` of `kind` in `store`: XXH3-64, seed 0, of the 16 bytes of the store id, the kind's number as u16 and
    /// the file number as u64, both little-endian.
    pub fn new(store: StoreId, kind: FileKind, number: u64) -> Self {
        let mut identity = [0; 26];
        let number = number.to_le_bytes();
        let kind = kind.code().to_le_bytes();
        for (to, from) in identity.iter_mut().zip(store.0.iter().chain(&kind).chain(&number)) {
            *to = *from;
        }
        Self(checksum64(0, &identity))
    }

    /// The seed for what begins `offset` bytes after the start of the file.
    ///
    /// The mix is the finaliser of `SplitMix64` (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014) over the
    /// salt plus the offset times its odd constant. Each step is a bijection, so two offsets of one file never share a seed.
    #[inline]
    pub const fn at(self, offset: u64) -> u64 {
        let mut mixed = self.0.wrapping_add(offset.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
