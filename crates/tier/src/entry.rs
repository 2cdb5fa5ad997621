//! Entries, and the answers to point reads.

use bytes::Bytes;

use crate::table::EntryKind;
use crate::version::Version;

/// A key of a table, borrowed: what a point read asks for.
///
/// ```
/// use thermocline_tier::{EntryKind, KeyRef};
///
/// let asked = KeyRef { table: EntryKind::Multi, prefix: b"a" };
/// assert_eq!(asked.prefix.len(), 1);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyRef<'a> {
    /// The table.
    pub table: EntryKind,
    /// The key's prefix.
    pub prefix: &'a [u8],
}

/// The answer to a point read. A tombstone is an answer of its own: it must stop the search in lower tiers, where "absent"
/// lets it go on.
///
/// ```
/// use bytes::Bytes;
/// use thermocline_tier::{Lookup, Version};
///
/// let found = Lookup::Value { version: Version(3), suffix: Bytes::new(), bytes: Bytes::from_static(b"x") };
/// assert_eq!(found.version(), Some(Version(3)));
/// assert_eq!(found.into_value().as_deref(), Some(b"x".as_slice()));
/// assert_eq!(Lookup::Absent.into_value(), None);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Lookup {
    /// The key has a value.
    Value {
        /// The version at which it was written (not the one that was asked for).
        version: Version,
        /// The key's suffix as it was written with this version; empty where the layout has none.
        suffix: Bytes,
        /// The value. May be empty, which is not the same as deleted.
        bytes: Bytes,
    },
    /// The key was deleted.
    Tombstone {
        /// The version at which it was deleted.
        version: Version,
    },
    /// Nothing is known of the key at or below the version that was asked for.
    #[default]
    Absent,
}

impl Lookup {
    /// The version of the entry that answered; `None` if nothing did.
    pub fn version(&self) -> Option<Version> {
        match self {
            Self::Value { version, .. } | Self::Tombstone { version } => Some(*version),
            Self::Absent => None,
        }
    }

    /// The value, without telling tombstone and absent apart.
    pub fn into_value(self) -> Option<Bytes> {
        match self {
            Self::Value { bytes, .. } => Some(bytes),
            Self::Tombstone { .. } | Self::Absent => None,
        }
    }

    /// Whether there is a value.
    pub fn is_value(&self) -> bool {
        matches!(self, Self::Value { .. })
    }
}

/// One stored entry, borrowed from what holds it.
///
/// ```
/// use thermocline_tier::{EntryRef, Version};
///
/// let entry = EntryRef { prefix: b"k", suffix: b"", version: Version(1), value: None };
/// assert!(entry.is_tombstone());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryRef<'a> {
    /// The part of the key that orders.
    pub prefix: &'a [u8],
    /// The rest of the key; empty where the layout has no suffix.
    pub suffix: &'a [u8],
    /// The version at which the entry was written.
    pub version: Version,
    /// The value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
}

impl EntryRef<'_> {
    /// Whether the entry says that the key is deleted.
    pub fn is_tombstone(&self) -> bool {
        self.value.is_none()
    }

    /// The bytes of key and value, as [`TableStats::user_bytes`](crate::TableStats::user_bytes) counts them.
    pub fn user_bytes(&self) -> u64 {
        let bytes = self.prefix.len() + self.suffix.len() + self.value.map_or(0, <[u8]>::len);
        bytes as u64
    }
}

/// One stored entry, owned. Cheap to clone: its bytes are counted references.
///
/// ```
/// use bytes::Bytes;
/// use thermocline_tier::{RawEntry, Version};
///
/// let entry = RawEntry { prefix: "k".into(), suffix: Bytes::new(), version: Version(1), value: Some("v".into()) };
/// assert_eq!(entry.as_ref().value, Some(b"v".as_slice()));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawEntry {
    /// The part of the key that orders.
    pub prefix: Bytes,
    /// The rest of the key; empty where the layout has no suffix.
    pub suffix: Bytes,
    /// The version at which the entry was written.
    pub version: Version,
    /// The value; `None` is a tombstone.
    pub value: Option<Bytes>,
}

impl RawEntry {
    /// The entry, borrowed.
    pub fn as_ref(&self) -> EntryRef<'_> {
        EntryRef { prefix: &self.prefix, suffix: &self.suffix, version: self.version, value: self.value.as_deref() }
    }
}

impl From<RawEntry> for Lookup {
    fn from(entry: RawEntry) -> Self {
        match entry.value {
            Some(bytes) => Self::Value { version: entry.version, suffix: entry.suffix, bytes },
            None => Self::Tombstone { version: entry.version },
        }
    }
}
