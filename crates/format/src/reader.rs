//! Reading values from bytes that may be damaged: bounded, little-endian, with explicit widths. The mirror of
//! [`Writer`](crate::Writer).

use std::borrow::Cow;

use crate::checksum::{checksum64, checksum128};
use crate::error::{Corruption, FileLabel};

/// Lengths of slices as the width that offsets have. `usize` has at most 64 bits on every machine that Rust supports.
#[inline]
pub(crate) fn widen(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// Reads values from a slice, from front to back.
///
/// Each method takes the name of the part that it reads and fails with a [`Corruption`] that names the file, the absolute offset,
/// the part, what was expected and what was found. A length is compared with what remains before anything is sliced or allocated.
/// After an error the reader stands where it stood before.
///
/// ```
/// use thermocline_format::{FileKind, FileLabel, Reader};
///
/// let file = FileLabel::numbered(FileKind::Wal, 1);
/// let mut reader = Reader::new(&[200, 1, 2, 3], file, 4096);
/// let error = reader.prefixed(1000, "key").unwrap_err();
/// assert_eq!(error.offset(), 4096);
/// assert_eq!(
///     error.to_string(),
///     "wal-0000000000000001 is damaged at byte 4096: key: expected at most 2 bytes, found a length of 200 bytes"
/// );
/// ```
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    file: FileLabel,
    end: u64,
}

impl<'a> Reader<'a> {
    /// A reader of `bytes`, the first of which lies `offset` bytes after the start of `file`.
    #[inline]
    pub fn new(bytes: &'a [u8], file: impl Into<FileLabel>, offset: u64) -> Self {
        Self { rest: bytes, file: file.into(), end: offset.saturating_add(widen(bytes.len())) }
    }

    /// The file, for messages.
    pub const fn file(&self) -> FileLabel {
        self.file
    }

    /// Where the next byte lies, in bytes from the start of the file.
    #[inline]
    pub fn offset(&self) -> u64 {
        self.end.saturating_sub(widen(self.rest.len()))
    }

    /// How many bytes are left.
    #[inline]
    pub const fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Whether all was read.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The bytes that are left, without reading them.
    #[inline]
    pub const fn peek(&self) -> &'a [u8] {
        self.rest
    }

    /// Damage at the next byte, for checks that the caller makes. For a value that was read already take [`Reader::offset`] before
    /// reading it, and [`Corruption::new`].
    #[cold]
    pub fn corruption(
        &self,
        part: impl Into<Cow<'static, str>>,
        expected: impl Into<Cow<'static, str>>,
        found: impl Into<Cow<'static, str>>,
    ) -> Corruption {
        Corruption::new(self.file, self.offset(), part, expected, found)
    }

    #[cold]
    fn short(&self, part: &'static str, wanted: usize) -> Corruption {
        self.corruption(part, bytes_text(wanted), bytes_text(self.rest.len()))
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// If bytes are left: they would be data that no reader looks at, so they are damage.
    pub fn finish(self) -> Result<(), Corruption> {
        if self.rest.is_empty() {
            return Ok(());
        }
        let more = if self.rest.len() == 1 { "1 more byte".to_owned() } else { format!("{} more bytes", self.rest.len()) };
        Err(self.corruption("end", "no more bytes", more))
    }

    /// The next `N` bytes.
    ///
    /// # Errors
    /// If fewer are left.
    #[inline]
    pub fn array<const N: usize>(&mut self, part: &'static str) -> Result<[u8; N], Corruption> {
        let Some((head, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(self.short(part, N));
        };
        self.rest = rest;
        Ok(*head)
    }

    /// The next byte.
    ///
    /// # Errors
    /// If none is left.
    #[inline]
    pub fn u8(&mut self, part: &'static str) -> Result<u8, Corruption> {
        self.array(part).map(u8::from_le_bytes)
    }

    /// The next 2 bytes, the lowest first.
    ///
    /// # Errors
    /// If fewer are left.
    #[inline]
    pub fn u16(&mut self, part: &'static str) -> Result<u16, Corruption> {
        self.array(part).map(u16::from_le_bytes)
    }

    /// The next 4 bytes, the lowest first.
    ///
    /// # Errors
    /// If fewer are left.
    #[inline]
    pub fn u32(&mut self, part: &'static str) -> Result<u32, Corruption> {
        self.array(part).map(u32::from_le_bytes)
    }

    /// The next 8 bytes, the lowest first.
    ///
    /// # Errors
    /// If fewer are left.
    #[inline]
    pub fn u64(&mut self, part: &'static str) -> Result<u64, Corruption> {
        self.array(part).map(u64::from_le_bytes)
    }

    /// The next 16 bytes, the lowest first.
    ///
    /// # Errors
    /// If fewer are left.
    #[inline]
    pub fn u128(&mut self, part: &'static str) -> Result<u128, Corruption> {
        self.array(part).map(u128::from_le_bytes)
    }

    /// The next 8 bytes in two's complement, the lowest first.
    ///
    /// # Errors
    /// If fewer are left.
    #[inline]
    pub fn i64(&mut self, part: &'static str) -> Result<i64, Corruption> {
        self.array(part).map(i64::from_le_bytes)
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// If fewer are left.
    #[inline]
    pub fn bytes(&mut self, count: usize, part: &'static str) -> Result<&'a [u8], Corruption> {
        let Some((head, rest)) = self.rest.split_at_checked(count) else {
            return Err(self.short(part, count));
        };
        self.rest = rest;
        Ok(head)
    }

    /// All that is left; may be empty.
    #[inline]
    pub fn take_rest(&mut self) -> &'a [u8] {
        let (head, rest) = (self.rest, &[]);
        self.rest = rest;
        head
    }

    /// A reader of the next `count` bytes alone. Its [`Reader::finish`] shows that a structure fills the space that it claims.
    ///
    /// # Errors
    /// If fewer are left.
    pub fn part(&mut self, count: usize, part: &'static str) -> Result<Self, Corruption> {
        let offset = self.offset();
        let bytes = self.bytes(count, part)?;
        Ok(Self::new(bytes, self.file, offset))
    }

    /// The next LEB128 integer, as [`Writer::varint`](crate::Writer::varint) wrote it.
    ///
    /// # Errors
    /// If the bytes end within it, if it does not fit 64 bits, or if it is longer than it needs to be: each number has one form, so
    /// that equal values are equal bytes.
    #[inline]
    pub fn varint(&mut self, part: &'static str) -> Result<u64, Corruption> {
        if let Some((&byte, rest)) = self.rest.split_first()
            && byte < 0x80
        {
            self.rest = rest;
            return Ok(u64::from(byte));
        }
        self.varint_long(part)
    }

    fn varint_long(&mut self, part: &'static str) -> Result<u64, Corruption> {
        let mut value = 0;
        let mut rest = self.rest;
        for shift in (0_u32..64).step_by(7) {
            let Some((&byte, after)) = rest.split_first() else {
                return Err(self.cut_varint(part));
            };
            rest = after;
            if shift == 63 && byte > 1 {
                return Err(self.corruption(part, "an integer of 64 bits", "a longer one"));
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                if byte == 0 && shift > 0 {
                    return Err(self.corruption(part, "the shortest form of an integer", "a zero byte at its end"));
                }
                self.rest = rest;
                return Ok(value);
            }
        }
        // The tenth byte either ends the integer or is refused as too large, so the loop does not come to its end.
        Err(self.corruption(part, "an integer of 64 bits", "a longer one"))
    }

    #[cold]
    fn cut_varint(&self, part: &'static str) -> Corruption {
        let found = match self.rest.len() {
            0 => "nothing".to_owned(),
            count => format!("its first {} and no more", bytes_text(count)),
        };
        self.corruption(part, "a variable-length integer", found)
    }

    /// The length, in bytes, of something that lies further on in these same bytes, as a varint of at most `max`.
    ///
    /// # Errors
    /// As [`Reader::varint`]; or if it is more than `max` or than what is left after it.
    #[inline]
    pub fn length(&mut self, max: usize, part: &'static str) -> Result<usize, Corruption> {
        self.count(max, 1, part)
    }

    /// The number of things that lie further on in these same bytes, each at least `size_min` bytes long, as a varint of at most
    /// `max`. Memory for that many things may then be allocated: it is bounded by the bytes that are really there.
    ///
    /// # Errors
    /// As [`Reader::varint`]; or if there are more than `max` or than could fit in what is left.
    #[inline]
    pub fn count(&mut self, max: usize, size_min: usize, part: &'static str) -> Result<usize, Corruption> {
        let before = self.clone();
        let found = self.varint(part)?;
        let fits = self.rest.len().checked_div(size_min).unwrap_or(max).min(max);
        match usize::try_from(found) {
            Ok(count) if count <= fits => Ok(count),
            _ => {
                *self = before;
                Err(self.over(part, size_min, fits, found))
            }
        }
    }

    #[cold]
    fn over(&self, part: &'static str, size_min: usize, max: usize, found: u64) -> Corruption {
        if size_min == 1 {
            return self.corruption(part, format!("at most {}", bytes_text(max)), format!("a length of {found} bytes"));
        }
        self.corruption(part, format!("at most {max} items"), format!("a count of {found}"))
    }

    /// The next bytes after their own length, as [`Writer::prefixed`](crate::Writer::prefixed) wrote them: at most `max` of them.
    ///
    /// # Errors
    /// As [`Reader::length`].
    #[inline]
    pub fn prefixed(&mut self, max: usize, part: &'static str) -> Result<&'a [u8], Corruption> {
        let length = self.length(max, part)?;
        self.bytes(length, part)
    }

    /// Reads `count` bytes that must be zero: reserved space, or padding.
    ///
    /// # Errors
    /// If fewer are left, or if one of them is not zero.
    pub fn zeros(&mut self, count: usize, part: &'static str) -> Result<(), Corruption> {
        let before = self.clone();
        let bytes = self.bytes(count, part)?;
        let Some(index) = bytes.iter().position(|&byte| byte != 0) else {
            return Ok(());
        };
        let found = bytes.get(index).copied().unwrap_or_default();
        *self = before;
        let offset = self.offset().saturating_add(widen(index));
        Err(Corruption::new(self.file, offset, part, "zero", format!("{found:#04x}")))
    }

    /// Reads a 64-bit checksum and compares it with that of `covered`.
    ///
    /// # Errors
    /// If fewer than 8 bytes are left, or if they differ.
    #[inline]
    pub fn checksum64(&mut self, seed: u64, covered: &[u8], part: &'static str) -> Result<(), Corruption> {
        let before = self.clone();
        let found = self.u64(part)?;
        let expected = checksum64(seed, covered);
        if found == expected {
            return Ok(());
        }
        *self = before;
        Err(self.corruption(part, format!("{expected:#018x}"), format!("{found:#018x}")))
    }

    /// Reads a 128-bit checksum and compares it with that of `covered`.
    ///
    /// # Errors
    /// If fewer than 16 bytes are left, or if they differ.
    pub fn checksum128(&mut self, seed: u64, covered: &[u8], part: &'static str) -> Result<(), Corruption> {
        let before = self.clone();
        let found = self.u128(part)?;
        let expected = checksum128(seed, covered);
        if found == expected {
            return Ok(());
        }
        *self = before;
        Err(self.corruption(part, format!("{expected:#034x}"), format!("{found:#034x}")))
    }
}

fn bytes_text(count: usize) -> String {
    if count == 1 { "1 byte".to_owned() } else { format!("{count} bytes") }
}
