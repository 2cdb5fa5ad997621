//! Buffers of decompressed blocks and of filters. They come and go by the thousand, each freed by another thread than the one that reads
//! the next: an allocator with a heap for each thread would keep the memory of all of them. So they have mappings of their own, and are
//! used again. To unmap one costs more than to read a block from the page cache, so all of them wait for use that the cache has room for.

use std::ops::{Deref, DerefMut, RangeInclusive};
use std::sync::Arc;

use bytes::Bytes;
use thermocline_io::memory::MappedBytes;
use thermocline_io::sync::Mutex;
use thermocline_io::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// A block begins at a cache line: its own lines are aligned to those of the processor.
const ALIGNMENT: usize = 64;
const PAGE_BYTES: usize = 4 << 10;
/// Contents of these sizes, in bytes, have mappings; smaller ones would waste them, larger ones are rare.
const MAPPED_BYTES: RangeInclusive<usize> = PAGE_BYTES + 1..=16 * PAGE_BYTES;
/// So many mappings at most in the whole process: it may have 65,530 by default, and each may be one of its own, though the system mostly
/// makes one of those that lie side by side. Beyond, the heap serves.
const MAPPINGS_MAX: usize = 32_768;
/// How many mappings there are, free ones too.
static MAPPINGS: AtomicUsize = AtomicUsize::new(0);
/// So many buffers wait for use however full the cache is. Mostly it is one: a new block takes the place of another.
const FREE_MIN: usize = 16;

#[derive(Debug)]
enum Memory {
    Mapped(MappedBytes),
    Heap(Vec<u8>),
}

impl Deref for Memory {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(bytes) => bytes,
            Self::Heap(bytes) => bytes,
        }
    }
}

impl DerefMut for Memory {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Mapped(bytes) => bytes,
            Self::Heap(bytes) => bytes,
        }
    }
}

/// Those that nobody uses.
#[derive(Debug)]
pub(crate) struct Buffers {
    free: Mutex<Free>,
    /// What the cache has room for: so much waits for use at most, but for [`FREE_MIN`] buffers.
    room_bytes: AtomicU64,
    mappings: &'static AtomicUsize,
}

#[derive(Debug, Default)]
struct Free {
    /// By how many pages they have, less one.
    by_pages: [OfSize; *MAPPED_BYTES.end() / PAGE_BYTES],
    /// How often one was asked for.
    asked: u64,
    count: usize,
    bytes: u64,
}

#[derive(Debug, Default)]
struct OfSize {
    buffers: Vec<MappedBytes>,
    /// When one was asked for last, by [`Free::asked`].
    asked: u64,
}

impl Free {
    fn of_size(&mut self, size: usize) -> Option<&mut OfSize> {
        self.by_pages.get_mut((size / PAGE_BYTES).checked_sub(1)?)
    }

    fn take(&mut self, size: usize) -> Option<MappedBytes> {
        self.asked += 1;
        let asked = self.asked;
        let of_size = self.of_size(size)?;
        of_size.asked = asked;
        let bytes = of_size.buffers.pop()?;
        Some(self.less(bytes))
    }

    fn put(&mut self, bytes: MappedBytes) {
        let size = bytes.len();
        if let Some(of_size) = self.of_size(size) {
            of_size.buffers.push(bytes);
            self.count += 1;
            self.bytes += size as u64;
        }
    }

    /// One of the size that was not asked for the longest.
    fn give_up(&mut self) -> Option<MappedBytes> {
        let sizes = self.by_pages.iter_mut().filter(|of_size| !of_size.buffers.is_empty());
        let bytes = sizes.min_by_key(|of_size| of_size.asked)?.buffers.pop()?;
        Some(self.less(bytes))
    }

    fn less(&mut self, bytes: MappedBytes) -> MappedBytes {
        self.count -= 1;
        self.bytes -= bytes.len() as u64;
        bytes
    }
}

impl Default for Buffers {
    fn default() -> Self {
        Self { free: Mutex::default(), room_bytes: AtomicU64::new(0), mappings: &MAPPINGS }
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        // Those in use have gone: each has kept this.
        self.mappings.fetch_sub(self.free.get_mut().count, Ordering::Relaxed);
    }
}

/// Room for one block or filter.
#[derive(Debug)]
pub(crate) struct Buffer {
    memory: Memory,
    start: usize,
    len: usize,
    home: Arc<Buffers>,
}

impl Buffers {
    /// What a buffer for so many bytes takes.
    pub(crate) fn size_bytes(len: usize) -> usize {
        if MAPPED_BYTES.contains(&len) { len.next_multiple_of(PAGE_BYTES) } else { len + ALIGNMENT }
    }

    /// A buffer for so many bytes, which hold anything.
    pub(crate) fn take(self: &Arc<Self>, len: usize) -> Buffer {
        let size = Self::size_bytes(len);
        let memory = match MAPPED_BYTES.contains(&len).then(|| self.mapped(size)).flatten() {
            Some(bytes) => Memory::Mapped(bytes),
            None => Memory::Heap(vec![0; len + ALIGNMENT]),
        };
        let start = memory.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        Buffer { memory, start, len, home: Arc::clone(self) }
    }

    /// Says how much the cache has room for.
    pub(crate) fn set_room(&self, bytes: u64) {
        self.room_bytes.store(bytes, Ordering::Relaxed);
        self.trim();
    }

    fn mapped(&self, size: usize) -> Option<MappedBytes> {
        if let Some(found) = self.free.lock().take(size) {
            return Some(found);
        }
        if self.mappings.load(Ordering::Relaxed) >= MAPPINGS_MAX {
            // Better one of another size less than one on the heap.
            self.unmap_one_if(|_| true);
        }
        if self.mappings.fetch_add(1, Ordering::Relaxed) < MAPPINGS_MAX
            && let Ok(bytes) = MappedBytes::new(size)
        {
            self.trim();
            return Some(bytes);
        }
        self.mappings.fetch_sub(1, Ordering::Relaxed);
        None
    }

    fn give_back(&self, bytes: MappedBytes) {
        self.free.lock().put(bytes);
        self.trim();
    }

    /// Unmaps those that there is no room for.
    fn trim(&self) {
        let is_too_much = |free: &Free| free.count > FREE_MIN && free.bytes > self.room_bytes.load(Ordering::Relaxed);
        while self.unmap_one_if(is_too_much) {}
    }

    /// Unmaps one, if there is one and that is wanted; whether it did.
    fn unmap_one_if(&self, is_wanted: impl Fn(&Free) -> bool) -> bool {
        let unmapped = {
            let mut free = self.free.lock();
            if is_wanted(&free) { free.give_up() } else { None }
        };
        // Without the lock: it takes long.
        let is_any = unmapped.is_some();
        drop(unmapped);
        self.mappings.fetch_sub(usize::from(is_any), Ordering::Relaxed);
        is_any
    }
}

impl Buffer {
    pub(crate) fn as_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.len]
    }

    /// The content. Its buffer is used again when the last slice of it is gone.
    pub(crate) fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Memory::Mapped(bytes) = std::mem::replace(&mut self.memory, Memory::Heap(Vec::new())) {
            self.home.give_back(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With a count of their own.
    fn buffers() -> Arc<Buffers> {
        Arc::new(Buffers { mappings: Box::leak(Box::default()), free: Mutex::default(), room_bytes: AtomicU64::new(0) })
    }

    fn filled(buffers: &Arc<Buffers>, len: usize, with: u8) -> Bytes {
        let mut buffer = buffers.take(len);
        buffer.as_mut().fill(with);
        buffer.into_bytes()
    }

    #[test]
    fn buffer_is_used_again_when_the_last_slice_is_gone_and_not_before() {
        let buffers = buffers();
        let first = filled(&buffers, 16_000, 1);
        let (place, value) = (first.as_ptr(), first.slice(100..200));
        drop(first);
        let second = filled(&buffers, 16_000, 2);
        assert_ne!(second.as_ptr(), place);
        assert_eq!(value, vec![1; 100]);
        drop(value);
        // A block that differs a little fits too.
        let third = filled(&buffers, 16_050, 3);
        assert_eq!((third.as_ptr(), third.len()), (place, 16_050));
        assert_eq!(second, vec![2; 16_000]);
    }

    #[test]
    fn few_are_kept_where_there_is_no_room_and_those_of_other_sizes_leave() {
        let buffers = buffers();
        let free = || {
            let free = buffers.free.lock();
            free.by_pages.iter().flat_map(|of_size| &of_size.buffers).map(|bytes| bytes.len()).collect::<Vec<_>>()
        };
        let many = |len| drop((0..4 * FREE_MIN).map(|_| filled(&buffers, len, 1)).collect::<Vec<_>>());
        many(16_000);
        assert_eq!(free(), [16_384; FREE_MIN]);
        many(20_000);
        assert_eq!(free(), [20_480; FREE_MIN]);
        assert_eq!(buffers.mappings.load(Ordering::Relaxed), FREE_MIN);
        // Tiny and huge ones are the heap's.
        for len in [0, 1, 100, 4096, 65_537, 100_000] {
            let bytes = filled(&buffers, len, 1);
            assert_eq!((bytes.len(), bytes.as_ptr().align_offset(ALIGNMENT)), (len, 0), "{len}");
        }
        assert_eq!(free(), [20_480; FREE_MIN]);
    }

    #[test]
    fn as_many_are_kept_as_there_is_room_for() {
        let buffers = buffers();
        let free_bytes = || buffers.free.lock().bytes;
        buffers.set_room(100 * 16_384);
        drop((0..150).map(|_| filled(&buffers, 16_000, 1)).collect::<Vec<_>>());
        assert_eq!(free_bytes(), 100 * 16_384);
        buffers.set_room(50 * 16_384);
        assert_eq!(free_bytes(), 50 * 16_384);
        // One of another size makes those leave that were not asked for since.
        drop(filled(&buffers, 20_000, 1));
        assert_eq!(free_bytes(), 48 * 16_384 + 20_480);
        assert_eq!(buffers.mappings.load(Ordering::Relaxed), buffers.free.lock().count);
    }

    #[test]
    fn where_no_mapping_more_is_allowed_one_of_another_size_makes_room() {
        let buffers = buffers();
        buffers.set_room(1 << 20);
        drop(filled(&buffers, 16_000, 1));
        buffers.mappings.store(MAPPINGS_MAX, Ordering::Relaxed);
        let other = buffers.take(20_000);
        assert!(matches!(other.memory, Memory::Mapped(_)), "{other:?}");
        assert_eq!((buffers.free.lock().count, buffers.mappings.load(Ordering::Relaxed)), (0, MAPPINGS_MAX));
    }

    #[test]
    fn beyond_the_mappings_that_are_allowed_the_heap_serves() {
        let buffers = buffers();
        buffers.mappings.store(MAPPINGS_MAX - 1, Ordering::Relaxed);
        let (mapped, other) = (filled(&buffers, 16_000, 1), filled(&buffers, 16_000, 2));
        assert_eq!(buffers.mappings.load(Ordering::Relaxed), MAPPINGS_MAX);
        assert_eq!((mapped, other), (vec![1; 16_000].into(), vec![2; 16_000].into()));
        assert_eq!(buffers.free.lock().count, 1);
    }
}
