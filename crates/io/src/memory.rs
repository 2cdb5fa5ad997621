//! Anonymous memory from the system: zeroed, page-aligned, not part of the heap, given back when dropped.

use std::ops::{Deref, DerefMut};

use memmap2::{MmapMut, MmapRaw};

use crate::error::{DiskError, DiskErrorKind};

/// A private, anonymous mapping that starts as zeros. Pages cost memory only once they are touched. The address is a multiple of
/// the page size and stays the same until the value is dropped.
///
/// It hands out a raw pointer and makes no reference to the bytes, so whoever divides it up decides what may alias.
/// It may be sent to and shared between threads: the mapping itself is only an address and a length, both constant, and reading or
/// writing behind the pointer is the `unsafe` act of whoever does it.
///
/// ```
/// use thermocline_io::memory::{Anonymous, HugePages};
///
/// let memory = Anonymous::new(1 << 20)?;
/// assert_eq!(memory.len(), 1 << 20);
/// assert_eq!(memory.as_ptr().addr() % 4096, 0);
/// match memory.advise_huge_pages() {
///     HugePages::Advised | HugePages::Refused => {}
/// }
/// # Ok::<(), thermocline_io::DiskError>(())
/// ```
#[derive(Debug)]
pub struct Anonymous {
    map: MmapRaw,
}

/// Whether the system took the advice to use huge pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum HugePages {
    /// It took it. It need not follow it.
    Advised,
    /// It does not know it, or it is switched off. The memory works all the same.
    Refused,
}

impl Anonymous {
    /// Maps `len` bytes, at least one.
    ///
    /// # Errors
    /// `OutOfMemory` if the system refuses; `InvalidRange` if `len` is zero or more than an address can reach.
    pub fn new(len: usize) -> Result<Self, DiskError> {
        Ok(Self { map: MmapRaw::from(map(len)?) })
    }

    /// The length in bytes, as asked for.
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// The first byte. Valid for reading and writing over [`len`](Self::len) bytes as long as `self` lives.
    pub fn as_ptr(&self) -> *mut u8 {
        self.map.as_mut_ptr()
    }

    /// Asks the system to back the memory with huge pages.
    #[cfg(target_os = "linux")]
    pub fn advise_huge_pages(&self) -> HugePages {
        match self.map.advise(memmap2::Advice::HugePage) {
            Ok(()) => HugePages::Advised,
            Err(_) => HugePages::Refused,
        }
    }

    /// Asks the system to back the memory with huge pages.
    #[cfg(not(target_os = "linux"))]
    pub fn advise_huge_pages(&self) -> HugePages {
        HugePages::Refused
    }
}

fn map(len: usize) -> Result<MmapMut, DiskError> {
    let failure = |kind| DiskError::new(kind, "map memory").with_detail(format!("{len} bytes were asked for"));
    if len == 0 || isize::try_from(len).is_err() {
        return Err(failure(DiskErrorKind::InvalidRange));
    }
    MmapMut::map_anon(len).map_err(|error| failure(DiskErrorKind::OutOfMemory).with_source(error))
}

/// Bytes of a mapping of their own, zeroed at first: for buffers whose memory must be the system's again when they are dropped, whatever
/// the heap around them does. Begins at a page; best a multiple of the page size long.
///
/// ```
/// use thermocline_io::memory::MappedBytes;
///
/// let mut bytes = MappedBytes::new(16 << 10)?;
/// bytes[..2].copy_from_slice(b"ab");
/// assert_eq!((bytes.len(), &bytes[..3]), (16 << 10, &b"ab\0"[..]));
/// # Ok::<(), thermocline_io::DiskError>(())
/// ```
#[derive(Debug)]
pub struct MappedBytes {
    map: MmapMut,
}

impl MappedBytes {
    /// Maps `len` bytes, at least one; none cost memory before they are touched.
    ///
    /// # Errors
    /// `OutOfMemory` if the system refuses, be it for the number of mappings; `InvalidRange` if `len` is zero or more than an address can
    /// reach.
    pub fn new(len: usize) -> Result<Self, DiskError> {
        Ok(Self { map: map(len)? })
    }
}

impl Deref for MappedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}

impl DerefMut for MappedBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.map
    }
}
