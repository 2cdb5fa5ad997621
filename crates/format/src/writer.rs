//! Appending values to a buffer: little-endian, with explicit widths. The mirror of [`Reader`](crate::Reader).

/// The longest variable-length integer, in bytes.
pub const VARINT_SIZE_BYTES_MAX: usize = 10;

/// How many bytes [`Writer::varint`] takes for `value`: 1 to [`VARINT_SIZE_BYTES_MAX`].
#[inline]
pub const fn varint_size_bytes(value: u64) -> usize {
    // One byte for each seven significant bits, found without counting down: the widths follow the powers of 2^7.
    match value {
        0..=0x7f => 1,
        0x80..=0x3fff => 2,
        0x4000..=0x1f_ffff => 3,
        0x20_0000..=0xfff_ffff => 4,
        0x1000_0000..=0x7_ffff_ffff => 5,
        0x8_0000_0000..=0x3ff_ffff_ffff => 6,
        0x400_0000_0000..=0x1_ffff_ffff_ffff => 7,
        0x2_0000_0000_0000..=0xff_ffff_ffff_ffff => 8,
        0x100_0000_0000_0000..=0x7fff_ffff_ffff_ffff => 9,
        _ => VARINT_SIZE_BYTES_MAX,
    }
}

/// A buffer that values are appended to. It does not fail: callers check their limits before they write.
///
/// ```
/// use thermocline_format::{Reader, Writer};
///
/// let mut writer = Writer::new();
/// writer.u16(7);
/// writer.prefixed(b"key");
/// assert_eq!(writer.as_slice(), [7, 0, 3, b'k', b'e', b'y']);
///
/// let mut reader = Reader::new(writer.as_slice(), "an example", 0);
/// assert_eq!(reader.u16("count")?, 7);
/// assert_eq!(reader.prefixed(10, "key")?, b"key");
/// reader.finish()?;
/// # Ok::<(), thermocline_format::Corruption>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// An empty writer.
    pub const fn new() -> Self {
        Self { bytes: Vec::new() }
    }

    /// An empty writer with room for `size` bytes.
    pub fn with_capacity(size: usize) -> Self {
        Self { bytes: Vec::with_capacity(size) }
    }

    /// A writer that goes on at the end of `bytes`, so that a buffer and its memory can be used again.
    pub const fn append_to(bytes: Vec<u8>) -> Self {
        Self { bytes }
    }

    /// How many bytes were written.
    pub const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing was written.
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What was written.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    /// What was written from byte `start` on; empty if less was written. For the checksum of what a structure wrote last.
    pub fn since(&self, start: usize) -> &[u8] {
        self.bytes.get(start..).unwrap_or_default()
    }

    /// Empties the writer and keeps its memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Makes room for `size` more bytes.
    pub fn reserve(&mut self, size: usize) {
        self.bytes.reserve(size);
    }

    /// Ends the writing and hands out the bytes.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }

    /// Appends one byte.
    #[inline]
    pub fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    /// Appends 2 bytes, the lowest first.
    #[inline]
    pub fn u16(&mut self, value: u16) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// Appends 4 bytes, the lowest first.
    #[inline]
    pub fn u32(&mut self, value: u32) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// Appends 8 bytes, the lowest first.
    #[inline]
    pub fn u64(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// Appends 16 bytes, the lowest first.
    #[inline]
    pub fn u128(&mut self, value: u128) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// Appends 8 bytes in two's complement, the lowest first.
    #[inline]
    pub fn i64(&mut self, value: i64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// Appends `value` in LEB128: seven bits a byte, the lowest first, the top bit set in all but the last. 1 to 10 bytes.
    #[inline]
    pub fn varint(&mut self, mut value: u64) {
        while value > 0x7f {
            let [low, ..] = value.to_le_bytes();
            self.bytes.push(low | 0x80);
            value >>= 7;
        }
        let [low, ..] = value.to_le_bytes();
        self.bytes.push(low);
    }

    /// Appends `bytes` as they are, without their length.
    #[inline]
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Appends the length of `bytes` as a varint, then the bytes.
    #[inline]
    pub fn prefixed(&mut self, bytes: &[u8]) {
        self.length(bytes.len());
        self.bytes.extend_from_slice(bytes);
    }

    /// Appends a length or a count as a varint.
    #[inline]
    pub fn length(&mut self, length: usize) {
        self.varint(crate::reader::widen(length));
    }

    /// Appends `count` zero bytes: reserved space, or padding.
    pub fn zeros(&mut self, count: usize) {
        self.bytes.resize(self.bytes.len().saturating_add(count), 0);
    }

    /// Writes over the bytes from `position` on, for a length or a checksum that is known only after what follows it.
    ///
    /// # Panics
    /// If not all of `bytes` lies in what was written: the position must come from [`Writer::len`] before the space was written.
    pub fn overwrite(&mut self, position: usize, bytes: &[u8]) {
        let space = self.bytes.get_mut(position..).and_then(|rest| rest.get_mut(..bytes.len()));
        assert!(space.is_some(), "overwriting {} bytes at {position} of {}", bytes.len(), self.bytes.len());
        if let Some(space) = space {
            space.copy_from_slice(bytes);
        }
    }
}
