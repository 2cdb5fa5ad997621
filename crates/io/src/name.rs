//! Names of files, derived from kind and number. Nothing but these names is ever opened.

use std::fmt;

use crate::disk::{FileId, Reason};

const LOCK_NAME: &str = "LOCK";
const DIGITS: usize = 16;

/// The kind of a file without its number.
///
/// ```
/// use thermocline_io::{FileClass, FileId};
///
/// assert_eq!(FileId::Wal(3).class(), FileClass::Wal);
/// assert_eq!(FileClass::Wal.to_string(), "wal");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum FileClass {
    /// The lock file.
    Lock,
    /// Manifests.
    Manifest,
    /// Segments of the commit log.
    Wal,
    /// Sorted files of the warm tier.
    Sst,
    /// Shards of cold snapshots.
    Cold,
    /// Completion records of backups.
    Backup,
}

impl FileClass {
    fn prefix(self) -> &'static str {
        match self {
            Self::Lock => LOCK_NAME,
            Self::Manifest => "manifest",
            Self::Wal => "wal",
            Self::Sst => "sst",
            Self::Cold => "cold",
            Self::Backup => "backup",
        }
    }
}

impl fmt::Display for FileClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.prefix())
    }
}

impl FileId {
    /// The kind without the number.
    pub fn class(self) -> FileClass {
        match self {
            Self::Lock => FileClass::Lock,
            Self::Manifest(_) => FileClass::Manifest,
            Self::Wal(_) => FileClass::Wal,
            Self::Sst(_) => FileClass::Sst,
            Self::Cold(_) => FileClass::Cold,
            Self::Backup(_) => FileClass::Backup,
        }
    }

    /// The number; `None` for the lock file, of which there is one.
    pub fn number(self) -> Option<u64> {
        match self {
            Self::Lock => None,
            Self::Manifest(number) | Self::Wal(number) | Self::Sst(number) | Self::Cold(number) | Self::Backup(number) => {
                Some(number)
            }
        }
    }

    /// The file that has exactly this name; `None` for every other name, also for a near miss such as upper-case digits.
    pub fn parse(name: &str) -> Option<Self> {
        if name == LOCK_NAME {
            return Some(Self::Lock);
        }
        let (prefix, digits) = name.split_once('-')?;
        let lower_hex = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if digits.len() != DIGITS || !lower_hex {
            return None;
        }
        let number = u64::from_str_radix(digits, 16).ok()?;
        match prefix {
            "manifest" => Some(Self::Manifest(number)),
            "wal" => Some(Self::Wal(number)),
            "sst" => Some(Self::Sst(number)),
            "cold" => Some(Self::Cold(number)),
            "backup" => Some(Self::Backup(number)),
            _ => None,
        }
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number() {
            None => f.write_str(LOCK_NAME),
            Some(number) => write!(f, "{}-{number:016x}", self.class()),
        }
    }
}

impl fmt::Display for Reason {
    /// The purpose as a verb phrase that follows `to`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open the store",
            Self::WalPrepare => "prepare a log segment",
            Self::WalAppend => "append to the log",
            Self::WalSync => "make the log durable",
            Self::WalRecover => "read the log back",
            Self::WalRead => "read the log as a stream",
            Self::WalRemove => "remove a log segment",
            Self::SstWrite => "write a sorted file",
            Self::SstRead => "read a sorted file",
            Self::SstCompact => "rewrite sorted files",
            Self::SstRemove => "remove a sorted file",
            Self::ManifestWrite => "write the manifest",
            Self::ManifestRead => "read the manifest",
            Self::ManifestRemove => "remove a manifest",
            Self::Verify => "check files",
        })
    }
}
