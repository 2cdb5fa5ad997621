//! Damage that a test does to files directly, durable at once, and a look at what they hold.

use crate::disk::FileId;
use crate::sim::content::Content;
use crate::sim::disk::SimDisk;
use crate::sim::fault::{Call, Operation};
use crate::sim::state::{Damage, Effect};
use crate::sim::to_offset;

impl SimDisk {
    /// The files that have a name, with their lengths in bytes, in order.
    pub fn files(&self) -> Vec<(FileId, u64)> {
        let inner = self.lock();
        inner.live.live_names.iter().map(|(id, inode)| (*id, inner.live.live_len(*inode))).collect()
    }

    /// All bytes of a file as a reader sees them; `None` if there is none of that name.
    pub fn file_bytes(&self, id: FileId) -> Option<Vec<u8>> {
        let inner = self.lock();
        inner.live.live_names.get(&id).map(|inode| inner.live.inode(*inode).live.to_vec())
    }

    /// Puts `bytes` in place of all that the file holds, durable; makes the file if there is none.
    pub fn replace_file(&self, id: FileId, bytes: &[u8]) {
        self.damage(id, to_offset(bytes.len()), Damage::Replace { id, content: Content::from_bytes(bytes) });
    }

    /// Flips one bit of a file, counted from bit 0 of byte 0, durable. Returns whether the file has it.
    pub fn flip_bit(&self, id: FileId, bit: u64) -> bool {
        let (offset, mask) = (bit / 8, 1 << (bit % 8));
        let inode = {
            let inner = self.lock();
            inner.live.live_names.get(&id).copied().filter(|inode| offset < inner.live.live_len(*inode))
        };
        let Some(inode) = inode else { return false };
        self.damage(id, 1, Damage::FlipBit { inode, offset, mask });
        true
    }

    /// Cuts a file, or extends it with zeros, durable. Returns whether there is one of that name.
    pub fn truncate_file(&self, id: FileId, len: u64) -> bool {
        let content = {
            let inner = self.lock();
            inner.live.live_names.get(&id).map(|inode| inner.live.inode(*inode).live.clone())
        };
        let Some(mut content) = content else { return false };
        content.set_len(len);
        self.damage(id, len, Damage::Replace { id, content });
        true
    }

    /// Takes a file away, durable. Returns whether there was one.
    pub fn delete_file(&self, id: FileId) -> bool {
        let there = self.lock().live.live_names.contains_key(&id);
        if there {
            self.damage(id, 0, Damage::Unlink { id });
        }
        there
    }

    /// Exchanges the names of two files, durable; a missing one is exchanged too.
    pub fn swap_files(&self, first: FileId, second: FileId) {
        self.damage(first, 0, Damage::Swap { first, second });
    }

    /// Puts something into the directory whose name is not ours. A name that is ours is refused: returns whether it was added.
    pub fn add_foreign(&self, name: &str) -> bool {
        let foreign = FileId::parse(name).is_none();
        if foreign {
            self.record_damage(None, 0, Damage::AddForeign(name.to_owned()));
        }
        foreign
    }

    /// Puts something under one of our names that is no regular file: a link, a pipe, a directory. A file of that name is taken away.
    pub fn add_irregular(&self, id: FileId) {
        self.delete_file(id);
        self.damage(id, 0, Damage::AddIrregular(id));
    }

    fn damage(&self, id: FileId, len: u64, damage: Damage) {
        self.record_damage(Some(id), len, damage);
    }

    fn record_damage(&self, file: Option<FileId>, len: u64, damage: Damage) {
        let call = Call { operation: Operation::Damage, file, reason: None, offset: 0, len };
        self.lock().carry_out(&call, Effect::Damage(damage));
    }
}
