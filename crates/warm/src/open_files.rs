//! The sorted files that are open, within a bound.
//!
//! A file is opened when it is read and is not open. When too many are, the clock's hand closes one that nobody has read since it came by
//! last. A running read keeps what it reads open, and who opens one closes another behind it, so for a moment there may be
//! two more for each thread.

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Weak};

use arc_swap::ArcSwapOption;
use thermocline_io::sync::Mutex;
use thermocline_io::sync::atomic::{AtomicBool, Ordering};
use thermocline_io::{Disk, DiskFile};

/// A file that is open as long as this lives.
#[derive(Debug)]
pub(crate) struct OpenFile {
    file: Arc<dyn DiskFile>,
    /// Read since the hand came by.
    is_used: AtomicBool,
}

impl Deref for OpenFile {
    type Target = dyn DiskFile;

    fn deref(&self) -> &Self::Target {
        &*self.file
    }
}

/// Where a file is, while it is open.
#[derive(Debug, Default)]
pub(crate) struct FileSlot(ArcSwapOption<OpenFile>);

impl FileSlot {
    /// The file, if it is open.
    pub(crate) fn load(&self) -> Option<Arc<OpenFile>> {
        let open = self.0.load_full()?;
        open.is_used.store(true, Ordering::Relaxed);
        Some(open)
    }

    /// The hand comes by: whether it was used since the last time.
    fn pass(&self) -> bool {
        self.0.load().as_ref().is_some_and(|open| open.is_used.swap(false, Ordering::Relaxed))
    }
}

#[derive(Debug, Default)]
struct Ring {
    /// Of the files that are open. The slot of a file that is gone has closed it.
    slots: Vec<Weak<FileSlot>>,
    hand: usize,
}

impl Ring {
    /// Puts a file in the place of the first that was not used since the hand came by, or, if all were, of the one where it began. Gives
    /// back the one to close.
    fn replace(&mut self, slot: &Arc<FileSlot>) -> Option<Arc<OpenFile>> {
        let len = self.slots.len();
        for turn in 0..=len {
            if self.hand >= len {
                self.hand = 0;
            }
            let place = self.slots.get_mut(self.hand)?;
            self.hand += 1;
            let before = place.upgrade();
            let is_used = before.as_ref().is_some_and(|before| before.pass());
            // However quick readers are, the second time it goes.
            if !is_used || turn == len {
                *place = Arc::downgrade(slot);
                return before?.0.swap(None);
            }
        }
        None
    }
}

/// See the module.
pub(crate) struct OpenFiles {
    pub(crate) disk: Arc<dyn Disk>,
    max: usize,
    ring: Mutex<Ring>,
}

impl fmt::Debug for OpenFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenFiles").field("max", &self.max).finish_non_exhaustive()
    }
}

impl OpenFiles {
    pub(crate) fn new(disk: Arc<dyn Disk>, max: usize) -> Self {
        Self { disk, max, ring: Mutex::new(Ring::default()) }
    }

    /// Keeps a file that was opened, unless another reader was first: then it gives that one's.
    pub(crate) fn keep(&self, slot: &Arc<FileSlot>, opened: Arc<dyn DiskFile>) -> Arc<OpenFile> {
        let opened = Arc::new(OpenFile { file: opened, is_used: AtomicBool::new(false) });
        let mut ring = self.ring.lock();
        if let Some(open) = slot.load() {
            return open;
        }
        if ring.slots.len() >= self.max {
            ring.slots.retain(|slot| slot.strong_count() > 0);
        }
        let closed = if ring.slots.len() < self.max {
            ring.slots.push(Arc::downgrade(slot));
            None
        } else {
            ring.replace(slot)
        };
        slot.0.store(Some(Arc::clone(&opened)));
        // To close a file is the system's work, for which nobody shall wait.
        drop(ring);
        drop(closed);
        opened
    }
}

#[cfg(test)]
mod tests {
    use thermocline_io::{Access, FileId, MemoryDisk, Reason};

    use super::*;

    fn files(count: u64) -> (OpenFiles, Vec<Arc<FileSlot>>) {
        let disk = MemoryDisk::new();
        for number in 0..count {
            drop(disk.create_new(FileId::Sst(number), Reason::Open).unwrap());
        }
        (OpenFiles::new(Arc::new(disk), 8), (0..count).map(|_| Arc::default()).collect())
    }

    fn read(files: &OpenFiles, slots: &[Arc<FileSlot>], number: usize) -> (bool, Arc<OpenFile>) {
        if let Some(open) = slots[number].load() {
            return (true, open);
        }
        let opened = files.disk.open(FileId::Sst(number as u64), Access::Read, Reason::SstRead).unwrap();
        (false, files.keep(&slots[number], opened))
    }

    fn open(slots: &[Arc<FileSlot>]) -> usize {
        slots.iter().filter(|slot| slot.0.load().is_some()).count()
    }

    #[test]
    fn files_in_use_stay_open_and_the_bound_is_kept() {
        let (files, slots) = files(100);
        for number in (0..100).chain(0..100) {
            read(&files, &slots, number);
            // One is read all the time.
            assert!(read(&files, &slots, 3).0 || number < 4, "at {number}");
            assert!(open(&slots) <= 8);
        }
        assert_eq!(open(&slots), 8);
    }

    #[test]
    fn bound_is_kept_if_all_files_are_in_use() {
        let (files, slots) = files(100);
        for number in 0..100 {
            for used in (0..100).filter(|used| slots[*used].0.load().is_some()) {
                assert!(read(&files, &slots, used).0);
            }
            assert_eq!(read(&files, &slots, number).1.id(), FileId::Sst(number as u64));
            assert_eq!(open(&slots), 8.min(number + 1));
        }
    }

    #[test]
    fn read_keeps_its_file_and_files_that_are_gone_make_room() {
        let (files, mut slots) = files(100);
        let (_, held) = read(&files, &slots, 0);
        (1..50).for_each(|number| drop(read(&files, &slots, number)));
        assert!(slots[0].0.load().is_none() && held.len().unwrap() == 0, "closed for others");
        slots[45..].fill_with(Arc::default);
        for number in 45..48 {
            assert!(!read(&files, &slots, number).0);
            assert_eq!(open(&slots), 3 + number - 44, "none was closed for it");
        }
        assert_eq!(files.ring.lock().slots.len(), 6);
    }

    #[test]
    fn who_opens_a_file_last_takes_that_of_the_first() {
        let (files, slots) = files(1);
        let open = || files.disk.open(FileId::Sst(0), Access::Read, Reason::SstRead).unwrap();
        let first = files.keep(&slots[0], open());
        assert!(Arc::ptr_eq(&first, &files.keep(&slots[0], open())));
        assert_eq!(files.ring.lock().slots.len(), 1);
    }
}
