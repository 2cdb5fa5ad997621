//! What can be wrong with bytes from a file: they are damaged, they are somebody else's, or they are from a newer release.

use std::borrow::Cow;
use std::fmt;

use crate::registry::FileKind;

/// Which file some bytes come from, for messages. Cheap to copy, so that a reader of many small records carries it for nothing.
///
/// ```
/// use thermocline_format::{FileKind, FileLabel};
///
/// assert_eq!(FileLabel::numbered(FileKind::Wal, 26).to_string(), "wal-000000000000001a");
/// assert_eq!(FileLabel::from("a cursor").to_string(), "a cursor");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FileLabel {
    /// A file of a store. It is shown as its name on disk.
    Numbered {
        /// Its kind.
        kind: FileKind,
        /// Its number.
        number: u64,
    },
    /// Bytes that are no file of a store, such as a serialised cursor.
    Named(&'static str),
}

impl FileLabel {
    /// The label of file `number` of `kind`.
    pub const fn numbered(kind: FileKind, number: u64) -> Self {
        Self::Numbered { kind, number }
    }
}

impl From<&'static str> for FileLabel {
    fn from(name: &'static str) -> Self {
        Self::Named(name)
    }
}

impl fmt::Display for FileLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Numbered { kind, number } => write!(f, "{}-{number:016x}", kind.name()),
            Self::Named(name) => f.write_str(name),
        }
    }
}

/// Bytes that are not what was written: which file, where, which part, what was expected and what was found.
///
/// One word wide, so that results of small reads stay small.
///
/// ```
/// use thermocline_format::{Corruption, FileKind, FileLabel};
///
/// let file = FileLabel::numbered(FileKind::Wal, 1);
/// let damage = Corruption::new(file, 4096, "record kind", "1 to 5", "0");
/// assert_eq!(
///     damage.to_string(),
///     "wal-0000000000000001 is damaged at byte 4096: record kind: expected 1 to 5, found 0"
/// );
/// ```
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is damaged at byte {}: {}: expected {}, found {}", .0.file, .0.offset, .0.part, .0.expected, .0.found)]
pub struct Corruption(Box<Damage>);

#[derive(Clone, PartialEq, Eq)]
struct Damage {
    file: FileLabel,
    offset: u64,
    part: Cow<'static, str>,
    expected: Cow<'static, str>,
    found: Cow<'static, str>,
}

impl Corruption {
    /// The only way to build one. `offset` is in bytes from the start of the file and names the first byte of `part`;
    /// `expected` and `found` are short texts in lower case.
    #[cold]
    pub fn new(
        file: impl Into<FileLabel>,
        offset: u64,
        part: impl Into<Cow<'static, str>>,
        expected: impl Into<Cow<'static, str>>,
        found: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self(Box::new(Damage { file: file.into(), offset, part: part.into(), expected: expected.into(), found: found.into() }))
    }

    /// The file that is damaged.
    pub fn file(&self) -> FileLabel {
        self.0.file
    }

    /// Where the damaged part begins, in bytes from the start of the file.
    pub fn offset(&self) -> u64 {
        self.0.offset
    }

    /// The part that is damaged, such as "record length".
    pub fn part(&self) -> &str {
        &self.0.part
    }

    /// What should have stood there.
    pub fn expected(&self) -> &str {
        &self.0.expected
    }

    /// What stands there.
    pub fn found(&self) -> &str {
        &self.0.found
    }
}

impl fmt::Debug for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Corruption")
            .field("file", &self.0.file)
            .field("offset", &self.0.offset)
            .field("part", &self.0.part)
            .field("expected", &self.0.expected)
            .field("found", &self.0.found)
            .finish()
    }
}

/// Why a file cannot be read.
///
/// ```
/// use thermocline_format::{FileKind, FileLabel, FormatError};
///
/// let file = FileLabel::numbered(FileKind::Wal, 1);
/// let error = FormatError::Unsupported { file, what: "format version", found: 2, max: 1 };
/// assert_eq!(
///     error.to_string(),
///     "wal-0000000000000001 was written by a newer release: format version 0x2 is not supported, this release knows 0x1"
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The bytes are damaged. Restore from a backup, or salvage.
    #[error(transparent)]
    Corruption(#[from] Corruption),
    /// The file is none of ours, or belongs to another store. Check the path; nothing was changed.
    #[error("{file} is not a file of this store: expected {expected}, found {found}")]
    Foreign {
        /// The file that was read.
        file: FileLabel,
        /// What a file of this store has.
        expected: String,
        /// What this one has.
        found: String,
    },
    /// A newer release wrote the file. Use that release; nothing was changed.
    #[error("{file} was written by a newer release: {what} {found:#x} is not supported, this release knows {max:#x}")]
    Unsupported {
        /// The file that was read.
        file: FileLabel,
        /// What is too new: "file kind", "format version" or one of the sets of feature bits.
        what: &'static str,
        /// The number or the set of bits in the file.
        found: u64,
        /// The highest number, or all bits, that this release knows.
        max: u64,
    },
}
