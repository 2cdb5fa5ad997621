//! The registry of file kinds, of their format versions and of their feature bits, and the identity of a store.
//!
//! Any change of bytes in a file gets a new version here. Numbers are never used again for something else.

use std::fmt;

/// The identity of a store: 128 random bits, made when the store is created.
///
/// ```
/// use thermocline_format::StoreId;
///
/// assert_eq!(StoreId([0xab; 16]).to_string(), "abababababababababababababababab");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreId(pub [u8; 16]);

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The version of one kind of file. The first is 1.
///
/// ```
/// use thermocline_format::{FileKind, FormatVersion};
///
/// assert!(FileKind::Wal.version_max() >= FormatVersion(1));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FormatVersion(pub u16);

impl fmt::Display for FormatVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Sets of feature bits, by what a release that does not know a bit may still do with the file.
///
/// ```
/// use thermocline_format::{Features, FileKind};
///
/// assert_eq!(FileKind::Wal.features_known(), Features::NONE);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Features {
    /// A release that does not know one of these bits cannot read the file.
    pub incompatible: u32,
    /// A release that does not know one of these bits can read the file but must not write to it.
    pub read_only: u32,
    /// A release that does not know one of these bits can read and write the file.
    pub compatible: u32,
}

impl Features {
    /// No feature at all.
    pub const NONE: Self = Self { incompatible: 0, read_only: 0, compatible: 0 };
}

/// A kind of file. The number is written in every file's envelope.
///
/// ```
/// use thermocline_format::FileKind;
///
/// assert_eq!(FileKind::Wal.code(), 1);
/// assert_eq!(FileKind::from_code(1), Some(FileKind::Wal));
/// assert_eq!(FileKind::from_code(0), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum FileKind {
    /// A segment of the commit log.
    Wal,
    /// A manifest of the warm tier: which sorted files are live.
    Manifest,
    /// A sorted file of the warm tier.
    Sst,
}

impl FileKind {
    /// All kinds, by number.
    pub const ALL: &'static [Self] = &[Self::Wal, Self::Manifest, Self::Sst];
    /// The highest number in use.
    pub const CODE_MAX: u16 = Self::Sst.code();

    /// The number that stands for this kind in an envelope.
    pub const fn code(self) -> u16 {
        match self {
            Self::Wal => 1,
            Self::Manifest => 2,
            Self::Sst => 3,
        }
    }

    /// The kind of a number; `None` if this release knows none.
    pub const fn from_code(code: u16) -> Option<Self> {
        match code {
            1 => Some(Self::Wal),
            2 => Some(Self::Manifest),
            3 => Some(Self::Sst),
            _ => None,
        }
    }

    /// The first part of the names of such files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Wal => "wal",
            Self::Manifest => "manifest",
            Self::Sst => "sst",
        }
    }

    /// What such files are.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Wal => "a segment of the commit log",
            Self::Manifest => "the list of the warm tier's live files, and what belongs to it",
            Self::Sst => "a sorted file of the warm tier",
        }
    }

    /// The oldest format version that this release reads.
    pub const fn version_min(self) -> FormatVersion {
        match self {
            Self::Wal | Self::Manifest | Self::Sst => FormatVersion(1),
        }
    }

    /// The newest format version that this release reads, and the one that it writes.
    pub const fn version_max(self) -> FormatVersion {
        match self {
            Self::Wal | Self::Manifest | Self::Sst => FormatVersion(1),
        }
    }

    /// The feature bits that this release knows.
    pub const fn features_known(self) -> Features {
        match self {
            Self::Wal | Self::Manifest | Self::Sst => Features::NONE,
        }
    }
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
