//! What the manifest says about a sorted file.

use bytes::Bytes;
use thermocline_io::FileId;
use thermocline_tier::{EntryKind, TableStats, TierFile, Version};

/// A key with its table: the order of a sorted file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TableKey {
    pub(crate) table: EntryKind,
    pub(crate) prefix: Vec<u8>,
}

/// A live sorted file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileMeta {
    /// The number in its name.
    pub(crate) number: u64,
    /// 0 for files as they were flushed, which may overlap; below, the files of a level hold disjoint keys.
    pub(crate) level: u8,
    /// Its whole length.
    pub(crate) size_bytes: u64,
    /// The checksum that ends its footer. The footer holds that of the index, the index those of its
    /// partitions' indexes and filters, and they those of all blocks.
    pub(crate) checksum: u64,
    /// Its first key.
    pub(crate) first: TableKey,
    /// Its last key.
    pub(crate) last: TableKey,
    /// The oldest version in it.
    pub(crate) version_min: Version,
    /// The newest version in it.
    pub(crate) version_max: Version,
    /// Drops and clears up to this sequence were applied when it was written: only later ones hide its entries.
    pub(crate) applied: u64,
    /// Of two files with the same version of a key, the one of the higher rank was written later and wins. On level 0 the files of one flush
    /// have the same, and hold disjoint keys.
    pub(crate) rank: u64,
    /// What it holds of each table, in order; at least one.
    pub(crate) tables: Vec<(EntryKind, TableStats)>,
    /// What an engine's strategy has noted about its rows, as a [`Slot`](thermocline_migration::Slot); empty without one.
    pub(crate) summary: Bytes,
}

impl FileMeta {
    /// As the tier shows it.
    pub(crate) fn to_tier_file(&self) -> TierFile {
        let key = |key: &TableKey| (key.table, Bytes::copy_from_slice(&key.prefix));
        TierFile {
            name: FileId::Sst(self.number).to_string(),
            level: self.level,
            size_bytes: self.size_bytes,
            first: key(&self.first),
            last: key(&self.last),
            versions: (self.version_min, self.version_max),
            tables: self.tables.clone(),
        }
    }
}
