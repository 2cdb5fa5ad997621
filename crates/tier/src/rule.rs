//! Rules that select old versions of one key for removal.

use crate::version::Version;

/// Which versions of one key to drop: those from `from` on and strictly below `up_to` that are not among the newest `keep_last`. Tombstones
/// count as versions.
///
/// ```
/// use thermocline_tier::{DropRule, Version};
///
/// let versions = [100, 20, 10, 5, 1].map(Version);
/// let rule = DropRule { up_to: Some(Version(15)), keep_last: Some(3), ..DropRule::default() };
/// assert_eq!(rule.select(&versions), [5, 1].map(Version));
/// assert_eq!(DropRule::only(Version(10)).select(&versions), [Version(10)]);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DropRule {
    /// Versions below this one stay.
    pub from: Version,
    /// Versions strictly below this one may go; `None` sets no bound.
    pub up_to: Option<Version>,
    /// The newest so many stay; `None` protects none.
    pub keep_last: Option<usize>,
}

impl DropRule {
    /// Drops one version.
    pub const fn only(version: Version) -> Self {
        Self { from: version, up_to: version.next(), keep_last: None }
    }

    /// The versions to drop among `versions`, which are sorted newest first; so is the answer.
    pub fn select(&self, versions: &[Version]) -> Vec<Version> {
        let kept = self.keep_last.unwrap_or(0).min(versions.len());
        let candidates = versions[kept..].iter().copied();
        candidates.filter(|version| *version >= self.from && self.up_to.is_none_or(|up_to| *version < up_to)).collect()
    }
}
