//! What can be chosen about the tiers of this crate.

/// Options of a tier in memory.
///
/// ```
/// use thermocline_hot::{HotOptions, HotTier};
///
/// let tier = HotTier::new(HotOptions { memory_limit_bytes: Some(64 << 20), ..HotOptions::default() });
/// assert_eq!(tier.options().memory_limit_bytes, Some(64 << 20));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HotOptions {
    /// The most memory that the tier may hold, in bytes, as [`memory_bytes`](thermocline_tier::TierStats::memory_bytes) counts it;
    /// a write that would need more is refused with [`MemoryExhausted`](thermocline_tier::ErrorKind::MemoryExhausted) and changes
    /// nothing. `None`, the default, sets no bound.
    pub memory_limit_bytes: Option<u64>,
    /// The seed of the hash of keys: any number. A random one keeps whoever chooses the keys from choosing collisions; nothing
    /// that the tier answers depends on it.
    pub hash_seed: u64,
}

impl Default for HotOptions {
    fn default() -> Self {
        Self { memory_limit_bytes: None, hash_seed: 0x7468_6572_6d6f_636c }
    }
}
