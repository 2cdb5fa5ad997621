//! Keys, and where they split into the part that orders and the part that does not.

use std::fmt::Debug;
use std::sync::Arc;

use crate::table::EntryKind;

/// Says where a key splits into its *prefix*, the logical identity and the only part that orders, and its *suffix*,
/// opaque metadata of the engine (typically a hybrid logical clock).
///
/// Two keys of one table with equal prefixes are the same key: writing the second replaces the first at that version, suffix
/// and all. Reads name prefixes; entries that come back carry both parts.
///
/// A layout must be pure: equal input, equal output, for the whole life of a store.
///
/// ```
/// use thermocline_tier::{EntryKind, FixedSuffix, KeyLayout, WholeKey};
///
/// assert_eq!(WholeKey.prefix_len(EntryKind::Multi, b"user/1"), 6);
/// assert_eq!(FixedSuffix(8).prefix_len(EntryKind::Multi, b"user/1\0\0\0\0\0\0\0\x2a"), 6);
/// ```
pub trait KeyLayout: Send + Sync + Debug {
    /// A short name that identifies the layout. It is stored with a store and compared when the store is opened again.
    fn name(&self) -> String;

    /// The length of the prefix in bytes, at most `key.len()` (a longer answer is cut to it).
    fn prefix_len(&self, table: EntryKind, key: &[u8]) -> usize;
}

/// The default layout: the whole key is prefix.
///
/// ```
/// use thermocline_tier::{KeyLayout, WholeKey};
///
/// assert_eq!(WholeKey.name(), "whole-key");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WholeKey;

impl KeyLayout for WholeKey {
    fn name(&self) -> String {
        "whole-key".into()
    }

    fn prefix_len(&self, _table: EntryKind, key: &[u8]) -> usize {
        key.len()
    }
}

/// The last `.0` bytes of every key are suffix; a shorter key is all suffix.
///
/// ```
/// use thermocline_tier::{FixedSuffix, KeyLayout};
///
/// assert_eq!(FixedSuffix(8).name(), "fixed-suffix-8");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FixedSuffix(pub usize);

impl KeyLayout for FixedSuffix {
    fn name(&self) -> String {
        format!("fixed-suffix-{}", self.0)
    }

    fn prefix_len(&self, _table: EntryKind, key: &[u8]) -> usize {
        key.len().saturating_sub(self.0)
    }
}

/// A layout as stores and batches hold it.
pub type SharedLayout = Arc<dyn KeyLayout>;
