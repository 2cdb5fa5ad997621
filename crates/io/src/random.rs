//! Random bytes, from the system or from a seed.

use std::fmt::Debug;

use crate::disk::DiskResult;
use crate::error::{DiskError, DiskErrorKind};
use crate::sync::Mutex;

/// A source of random bytes, for identities such as the store's.
pub trait Randomness: Send + Sync + Debug {
    /// Fills `bytes`, which may be empty.
    ///
    /// # Errors
    /// `Io` if the system has none to give.
    fn fill(&self, bytes: &mut [u8]) -> DiskResult<()>;
}

/// The system's random bytes.
///
/// ```
/// use thermocline_io::{Randomness, RealRandomness};
///
/// let (mut a, mut b) = ([0; 16], [0; 16]);
/// RealRandomness.fill(&mut a)?;
/// RealRandomness.fill(&mut b)?;
/// assert_ne!(a, b);
/// # Ok::<(), thermocline_io::DiskError>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct RealRandomness;

impl Randomness for RealRandomness {
    fn fill(&self, bytes: &mut [u8]) -> DiskResult<()> {
        getrandom::fill(bytes)
            .map_err(|error| DiskError::new(DiskErrorKind::Io, "get random bytes").with_detail(error.to_string()))
    }
}

/// Bytes that follow from a seed: equal seeds give equal bytes. Not for secrets.
///
/// ```
/// use thermocline_io::{Randomness, SeededRandomness};
///
/// let (mut a, mut b) = ([0; 16], [0; 16]);
/// SeededRandomness::new(7).fill(&mut a)?;
/// SeededRandomness::new(7).fill(&mut b)?;
/// assert_eq!(a, b);
/// # Ok::<(), thermocline_io::DiskError>(())
/// ```
#[derive(Debug)]
pub struct SeededRandomness {
    generator: Mutex<Generator>,
}

impl SeededRandomness {
    /// The sequence of `seed`.
    pub fn new(seed: u64) -> Self {
        Self { generator: Mutex::new(Generator::new(seed)) }
    }
}

impl Randomness for SeededRandomness {
    fn fill(&self, bytes: &mut [u8]) -> DiskResult<()> {
        self.generator.lock().fill(bytes);
        Ok(())
    }
}

/// `SplitMix64` (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014): one addition and two multiplications a
/// number, which matters where a crash image draws hundreds of them, and every seed is a good one.
#[derive(Clone, Debug)]
pub(crate) struct Generator {
    state: u64,
}

impl Generator {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// A generator whose sequence depends on every part.
    pub(crate) fn of_parts(parts: &[u64]) -> Self {
        let mut generator = Self::new(0);
        for part in parts {
            generator.state = generator.next().wrapping_add(*part);
        }
        generator
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 if the bound is 0. The bias is below `bound` / 2^64.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.next()) * u128::from(bound);
        u64::try_from(wide >> 64).unwrap_or(0)
    }

    /// An index below `bound`.
    pub(crate) fn index(&mut self, bound: usize) -> usize {
        usize::try_from(self.below(bound as u64)).unwrap_or(0)
    }

    /// True in `per_mille` of a thousand cases.
    pub(crate) fn chance(&mut self, per_mille: u16) -> bool {
        self.below(1000) < u64::from(per_mille)
    }

    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let drawn = self.next().to_le_bytes();
            chunk.iter_mut().zip(drawn).for_each(|(byte, drawn)| *byte = drawn);
        }
    }

    /// Fisher-Yates.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.index(last + 1));
        }
    }
}
