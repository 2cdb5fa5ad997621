//! A row as hooks see it.

use std::cell::OnceCell;
use std::fmt;

use bytes::Bytes;
use thermocline_tier::{EntryKind, Result, Version};

/// Reads a value that lies apart from its key.
type ReadValue<'a> = dyn Fn() -> Result<Bytes> + 'a;

enum Held<'a> {
    Bytes(&'a [u8]),
    Apart { read: &'a ReadValue<'a>, bytes: OnceCell<Bytes> },
}

/// A row, never a deletion, that goes to a file: what [`Strategy`](crate::Strategy)'s hooks are shown.
///
/// ```
/// use thermocline_migration::StoredRow;
/// use thermocline_tier::{EntryKind, Version};
///
/// let row = StoredRow::new(EntryKind::Multi, b"user/1", b"hlc", Version(7), b"value");
/// assert_eq!((row.prefix, row.suffix, row.value()?), (&b"user/1"[..], &b"hlc"[..], &b"value"[..]));
/// # Ok::<(), thermocline_tier::Error>(())
/// ```
pub struct StoredRow<'a> {
    /// Its table.
    pub table: EntryKind,
    /// The part of its key that orders.
    pub prefix: &'a [u8],
    /// The rest of its key; may be empty.
    pub suffix: &'a [u8],
    /// The version at which it was committed.
    pub version: Version,
    value: Held<'a>,
}

impl<'a> StoredRow<'a> {
    /// A row whose value is at hand: for tiers, and for tests of a strategy.
    pub const fn new(table: EntryKind, prefix: &'a [u8], suffix: &'a [u8], version: Version, value: &'a [u8]) -> Self {
        Self { table, prefix, suffix, version, value: Held::Bytes(value) }
    }

    /// A row whose value is read by `read`, at most once, if a hook asks for it.
    pub const fn with_value_apart(
        table: EntryKind,
        prefix: &'a [u8],
        suffix: &'a [u8],
        version: Version,
        read: &'a ReadValue<'a>,
    ) -> Self {
        Self { table, prefix, suffix, version, value: Held::Apart { read, bytes: OnceCell::new() } }
    }

    /// Its value. Cost: nothing for short ones, and for long ones, which files hold apart, that of decompressing it when it is asked for
    /// first.
    ///
    /// # Errors
    /// [`Corruption`](thermocline_tier::ErrorKind::Corruption) if what the file holds cannot be read: to be handed on with `?`.
    pub fn value(&self) -> Result<&[u8]> {
        match &self.value {
            Held::Bytes(bytes) => Ok(bytes),
            Held::Apart { read, bytes } => {
                if let Some(bytes) = bytes.get() {
                    return Ok(bytes);
                }
                let value = read()?;
                Ok(bytes.get_or_init(|| value))
            }
        }
    }

    /// Where it lies, for people.
    pub(crate) fn place(&self) -> String {
        format!("table {}, key {:?}, version {}", self.table, Bytes::copy_from_slice(self.prefix), self.version)
    }
}

impl fmt::Debug for StoredRow<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredRow")
            .field("table", &self.table)
            .field("prefix", &self.prefix)
            .field("suffix", &self.suffix)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use thermocline_tier::ErrorKind;

    use super::*;

    #[test]
    fn value_apart_is_read_once_and_only_when_it_is_asked_for() {
        let reads = Cell::new(0);
        let read = || {
            reads.set(reads.get() + 1);
            Ok(Bytes::from_static(b"long"))
        };
        let row = StoredRow::with_value_apart(EntryKind::Multi, b"k", b"", Version(1), &read);
        assert_eq!(reads.get(), 0);
        assert_eq!((row.value().unwrap(), row.value().unwrap()), (&b"long"[..], &b"long"[..]));
        assert_eq!(reads.get(), 1);
    }

    #[test]
    fn value_that_cannot_be_read_is_an_error_each_time() {
        let read = || Err(ErrorKind::Corruption.into());
        let row = StoredRow::with_value_apart(EntryKind::Multi, b"k", b"", Version(1), &read);
        assert!(row.value().is_err() && row.value().is_err());
    }
}
