//! Commit versions.

use std::fmt;

/// The version of a commit: a point in the history of a whole store.
///
/// Versions of one store increase strictly from commit to commit and may leave gaps. A store's first commit is 1, so
/// [`Version::ZERO`] names the empty state before it; [`Version::MAX`] means "the latest". Inside a tier every `u64` is usable.
///
/// ```
/// use thermocline_tier::Version;
///
/// assert!(Version(3) < Version::MAX);
/// assert_eq!(Version::ZERO.next(), Some(Version(1)));
/// assert_eq!(Version(0).previous(), None);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

impl Version {
    /// The empty state before a store's first commit.
    pub const ZERO: Self = Self(0);
    /// "The latest": no commit can be above it.
    pub const MAX: Self = Self(u64::MAX);
    /// The highest version that a store accepts in a commit, so that [`Version::MAX`] stays free for "the latest".
    pub const COMMIT_MAX: Self = Self(u64::MAX - 1);

    /// The version after this one; `None` after [`Version::MAX`].
    pub const fn next(self) -> Option<Self> {
        match self.0.checked_add(1) {
            Some(next) => Some(Self(next)),
            None => None,
        }
    }

    /// The version before this one; `None` before [`Version::ZERO`].
    pub const fn previous(self) -> Option<Self> {
        match self.0.checked_sub(1) {
            Some(previous) => Some(Self(previous)),
            None => None,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::MAX { f.write_str("latest") } else { self.0.fmt(f) }
    }
}
