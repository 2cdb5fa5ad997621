//! What can be chosen about the tiers of this crate.

/// Options of a tier in memory.
///
/// ```
/// use thermocline_hot::{HotOptions, HotTier};
///
/// let tier = HotTier::new(HotOptions { memory_limit_bytes: Some(64 << 20) });
/// assert_eq!(tier.options().memory_limit_bytes, Some(64 << 20));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HotOptions {
    /// The most memory that the tier may hold, in bytes, as [`memory_bytes`](thermocline_tier::TierStats::memory_bytes) counts it;
    /// a write that would need more is refused with [`MemoryExhausted`](thermocline_tier::ErrorKind::MemoryExhausted) and changes
    /// nothing. `None`, the default, sets no bound.
    pub memory_limit_bytes: Option<u64>,
}
