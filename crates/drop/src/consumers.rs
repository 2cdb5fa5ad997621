//! Consumers of changes that have names: where they are, and what they hold back.

use thermocline_tier::Version;

use crate::pins::Scope;
use crate::times::Moment;

/// What a consumer keeps from going before it has been there: the log, from its position on, and of the keys that it is about every
/// version from there on, or from where they all were there when it came.
///
/// ```
/// use thermocline_drop::Holding;
///
/// assert_eq!(Holding::Overtake(1 << 30).limit_bytes(), Some(1 << 30));
/// assert_eq!(Holding::All.limit_bytes(), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holding {
    /// Nothing: it may be overtaken at any time.
    Nothing,
    /// Everything, however much that is.
    All,
    /// Everything. While more than so many bytes of the log lie ahead of it, counted as exactly as the log knows (64 KiB), writers wait: not
    /// for a consumer whose own thread writes.
    HoldWriters(u64),
    /// Everything until more than so many bytes of the log lie ahead of it; then it is overtaken, and holds nothing any more.
    Overtake(u64),
}

impl Holding {
    /// How many bytes of the log may lie ahead of the consumer before its policy acts.
    pub fn limit_bytes(self) -> Option<u64> {
        match self {
            Self::Nothing | Self::All => None,
            Self::HoldWriters(bytes) | Self::Overtake(bytes) => Some(bytes),
        }
    }
}

/// What is known of a consumer.
///
/// ```
/// use thermocline_drop::{ConsumerState, Holding, Moment, Scope};
/// use thermocline_tier::Version;
///
/// let now = Moment::from_micros(1_000);
/// let (position, scope, holding) = (Version(7), Scope::All, Holding::All);
/// let consumer = ConsumerState { position, versions_from: Version::ZERO, scope, holding, is_overtaken: false, since: now };
/// assert!(consumer.holds());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerState {
    /// It has taken every commit up to here.
    pub position: Version,
    /// Below this version it holds the log alone: of some of its keys older versions were gone when it came, or was told to be about others.
    /// 0 if none were.
    pub versions_from: Version,
    /// Which keys it is about.
    pub scope: Scope,
    /// What it holds back.
    pub holding: Holding,
    /// Whether it was left behind: it holds nothing until it has begun anew.
    pub is_overtaken: bool,
    /// When it was made, or had got so far.
    pub since: Moment,
}

impl ConsumerState {
    /// Whether it holds anything at present.
    pub fn holds(&self) -> bool {
        self.holding != Holding::Nothing && !self.is_overtaken
    }
}
