//! What a simulated disk consists of at one moment: per file a durable and a live image and the changes in between, and the same
//! for the names. The running disk and the replay of its trace change it by the same code, so they cannot differ.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use crate::disk::FileId;
use crate::sim::content::Content;
use crate::sim::{to_index, to_offset};

/// The unit in which a failed sync loses data.
const CLEAN_SECTOR_BYTES: u64 = 512;

/// A file apart from its name: an index into [`DiskState::inodes`], never reused.
pub(super) type InodeIndex = usize;

/// One change of the disk, as the trace records it.
#[derive(Clone, Debug)]
pub(super) enum Effect {
    Create { id: FileId },
    Remove { id: FileId },
    Write { inode: InodeIndex, offset: u64, bytes: Arc<[u8]> },
    SetLen { inode: InodeIndex, len: u64 },
    SyncFile { inode: InodeIndex, outcome: SyncOutcome },
    SyncNames { outcome: SyncOutcome },
    Damage(Damage),
}

/// What a sync did, whatever it answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SyncOutcome {
    /// Everything is durable.
    Durable,
    /// Nothing happened; it stays to be written.
    Nothing,
    /// Nothing was written, but the system takes it for written: readers see it, later syncs pass over it.
    LostKept,
    /// Nothing was written, and the live view went back to what is durable.
    LostDropped,
}

/// What happens to a file behind everybody's back, durable at once.
#[derive(Clone, Debug)]
pub(super) enum Damage {
    Replace { id: FileId, content: Content },
    FlipBit { inode: InodeIndex, offset: u64, mask: u8 },
    Unlink { id: FileId },
    Swap { first: FileId, second: FileId },
    AddForeign(String),
    AddIrregular(FileId),
}

/// A change of a file that a power cut may undo.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) sequence: u64,
    /// Taken for written by the system, though it is not.
    clean: bool,
    pub(super) data: Data,
    /// The file's length after the change, if the change altered it.
    pub(super) length_after: Option<u64>,
}

#[derive(Clone, Debug)]
pub(super) enum Data {
    None,
    Bytes { offset: u64, bytes: Arc<[u8]> },
    Zeros { offset: u64, len: u64 },
}

impl Data {
    pub(super) fn range(&self) -> Range<u64> {
        match self {
            Self::None => 0..0,
            Self::Bytes { offset, bytes } => *offset..*offset + to_offset(bytes.len()),
            Self::Zeros { offset, len } => *offset..*offset + *len,
        }
    }

    /// Puts the part within `clip` onto `content`, whose length covers it.
    pub(super) fn apply(&self, content: &mut Content, clip: &Range<u64>) {
        let range = self.range();
        let (start, end) = (range.start.max(clip.start), range.end.min(clip.end).min(content.len()));
        if start >= end {
            return;
        }
        match self {
            Self::None => {}
            Self::Bytes { offset, bytes } => {
                content.write(start, &bytes[to_index(start - offset)..to_index(end - offset)]);
            }
            Self::Zeros { .. } => content.zero(start..end),
        }
    }

    fn split(&self, sector_bytes: u64) -> Vec<Self> {
        let range = self.range();
        let mut parts = Vec::new();
        let mut start = range.start;
        while start < range.end {
            let end = ((start / sector_bytes + 1) * sector_bytes).min(range.end);
            parts.push(match self {
                Self::Bytes { offset, bytes } => {
                    Self::Bytes { offset: start, bytes: bytes[to_index(start - offset)..to_index(end - offset)].into() }
                }
                Self::None | Self::Zeros { .. } => Self::Zeros { offset: start, len: end - start },
            });
            start = end;
        }
        parts
    }
}

/// A change of a name that a power cut may undo.
#[derive(Clone, Debug)]
pub(super) struct NameChange {
    pub(super) sequence: u64,
    clean: bool,
    pub(super) id: FileId,
    /// What the name stands for afterwards.
    pub(super) inode: Option<InodeIndex>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    pub(super) durable: Content,
    pub(super) live: Content,
    /// In the order in which they were made. Empty only if `durable` equals `live`.
    pub(super) pending: Vec<Change>,
}

impl Inode {
    pub(super) fn settled(content: Content) -> Self {
        Self { durable: content.clone(), live: content, pending: Vec::new() }
    }

    /// Makes the first `count` pending changes durable, as a sync does on its way.
    pub(super) fn settle_first(&mut self, count: usize) {
        for change in self.pending.drain(..count) {
            if let Some(len) = change.length_after {
                self.durable.set_len(len);
            }
            change.data.apply(&mut self.durable, &(0..u64::MAX));
        }
    }

    fn sync(&mut self, outcome: SyncOutcome) {
        match outcome {
            SyncOutcome::Nothing => {}
            SyncOutcome::LostDropped => {
                self.live = self.durable.clone();
                self.pending.clear();
            }
            SyncOutcome::LostKept => self.lose(),
            SyncOutcome::Durable if self.pending.iter().all(|change| !change.clean) => {
                self.durable = self.live.clone();
                self.pending.clear();
            }
            SyncOutcome::Durable => self.sync_dirty(),
        }
    }

    /// Marks every pending change as clean, in sectors, since each sector is written anew on its own when something touches it.
    fn lose(&mut self) {
        let mut lost = Vec::new();
        for change in self.pending.drain(..) {
            let sequence = change.sequence;
            if change.length_after.is_some() {
                lost.push(Change { sequence, clean: true, data: Data::None, length_after: change.length_after });
            }
            let parts = change.data.split(CLEAN_SECTOR_BYTES);
            lost.extend(parts.into_iter().map(|data| Change { sequence, clean: true, data, length_after: None }));
        }
        self.pending = lost;
    }

    /// Writes the sectors that were touched since the failed sync, with all that is in them, and the length; not the others.
    fn sync_dirty(&mut self) {
        let sectors = |data: &Data| {
            let range = data.range();
            range.start / CLEAN_SECTOR_BYTES..range.end.div_ceil(CLEAN_SECTOR_BYTES)
        };
        let dirty: BTreeSet<u64> =
            self.pending.iter().filter(|change| !change.clean).flat_map(|change| sectors(&change.data)).collect();
        if self.pending.iter().all(|change| change.clean) {
            return;
        }
        self.durable.set_len(self.live.len());
        for change in std::mem::take(&mut self.pending) {
            let touched = sectors(&change.data).any(|sector| dirty.contains(&sector));
            if !change.clean || touched {
                change.data.apply(&mut self.durable, &(0..u64::MAX));
            } else if !matches!(change.data, Data::None) {
                self.pending.push(change);
            }
        }
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct DiskState {
    pub(super) inodes: Vec<Arc<Inode>>,
    pub(super) durable_names: BTreeMap<FileId, InodeIndex>,
    pub(super) live_names: BTreeMap<FileId, InodeIndex>,
    pub(super) pending_names: Vec<NameChange>,
    pub(super) foreign: BTreeSet<String>,
    pub(super) irregular: BTreeSet<FileId>,
    sequence: u64,
}

impl DiskState {
    pub(super) fn inode(&self, inode: InodeIndex) -> &Inode {
        &self.inodes[inode]
    }

    pub(super) fn live_len(&self, inode: InodeIndex) -> u64 {
        self.inodes[inode].live.len()
    }

    /// The bytes of all files that have a name.
    pub(super) fn used_bytes(&self) -> u64 {
        self.live_names.values().map(|inode| self.live_len(*inode)).sum()
    }

    pub(super) fn apply(&mut self, effect: &Effect) {
        self.sequence += 1;
        match effect {
            Effect::Create { id } => {
                let inode = self.add_inode(Inode::default());
                self.change_name(*id, Some(inode));
            }
            Effect::Remove { id } => self.change_name(*id, None),
            Effect::Write { inode, offset, bytes } => self.write(*inode, *offset, bytes),
            Effect::SetLen { inode, len } => self.set_len(*inode, *len),
            Effect::SyncFile { inode, outcome } => self.inode_mut(*inode).sync(*outcome),
            Effect::SyncNames { outcome } => self.sync_names(*outcome),
            Effect::Damage(damage) => self.damage(damage),
        }
    }

    pub(super) fn inode_mut(&mut self, inode: InodeIndex) -> &mut Inode {
        Arc::make_mut(&mut self.inodes[inode])
    }

    /// Makes the first `count` pending name changes durable.
    pub(super) fn settle_first_names(&mut self, count: usize) {
        for change in self.pending_names.drain(..count) {
            set_name(&mut self.durable_names, change.id, change.inode);
        }
    }

    fn add_inode(&mut self, inode: Inode) -> InodeIndex {
        self.inodes.push(Arc::new(inode));
        self.inodes.len() - 1
    }

    fn change_name(&mut self, id: FileId, inode: Option<InodeIndex>) {
        set_name(&mut self.live_names, id, inode);
        self.pending_names.push(NameChange { sequence: self.sequence, clean: false, id, inode });
    }

    fn write(&mut self, inode: InodeIndex, offset: u64, bytes: &Arc<[u8]>) {
        let sequence = self.sequence;
        let inode = self.inode_mut(inode);
        let len_before = inode.live.len();
        inode.live.write(offset, bytes);
        let length_after = (inode.live.len() != len_before).then_some(inode.live.len());
        let data = Data::Bytes { offset, bytes: Arc::clone(bytes) };
        inode.pending.push(Change { sequence, clean: false, data, length_after });
    }

    fn set_len(&mut self, inode: InodeIndex, len: u64) {
        let sequence = self.sequence;
        let inode = self.inode_mut(inode);
        let len_before = inode.live.len();
        if len == len_before {
            return;
        }
        inode.live.set_len(len);
        let data = if len < len_before { Data::Zeros { offset: len, len: len_before - len } } else { Data::None };
        inode.pending.push(Change { sequence, clean: false, data, length_after: Some(len) });
    }

    fn sync_names(&mut self, outcome: SyncOutcome) {
        match outcome {
            SyncOutcome::Nothing => {}
            SyncOutcome::LostDropped => {
                self.live_names = self.durable_names.clone();
                self.pending_names.clear();
            }
            SyncOutcome::LostKept => self.pending_names.iter_mut().for_each(|change| change.clean = true),
            SyncOutcome::Durable => {
                let dirty: BTreeSet<FileId> =
                    self.pending_names.iter().filter(|change| !change.clean).map(|change| change.id).collect();
                for id in &dirty {
                    set_name(&mut self.durable_names, *id, self.live_names.get(id).copied());
                }
                self.pending_names.retain(|change| !dirty.contains(&change.id));
            }
        }
    }

    fn damage(&mut self, damage: &Damage) {
        match damage {
            Damage::Replace { id, content } => {
                let inode = Inode::settled(content.clone());
                let index = match self.live_names.get(id) {
                    Some(index) => *index,
                    None => self.add_inode(Inode::default()),
                };
                self.inodes[index] = Arc::new(inode);
                self.settle_name(*id, Some(index));
            }
            Damage::FlipBit { inode, offset, mask } => {
                let inode = self.inode_mut(*inode);
                flip(&mut inode.live, *offset, *mask);
                flip(&mut inode.durable, *offset, *mask);
            }
            Damage::Unlink { id } => self.settle_name(*id, None),
            Damage::Swap { first, second } => {
                let (inode_first, inode_second) = (self.live_names.get(first).copied(), self.live_names.get(second).copied());
                self.settle_name(*first, inode_second);
                self.settle_name(*second, inode_first);
            }
            Damage::AddForeign(name) => drop(self.foreign.insert(name.clone())),
            Damage::AddIrregular(id) => drop(self.irregular.insert(*id)),
        }
    }

    fn settle_name(&mut self, id: FileId, inode: Option<InodeIndex>) {
        set_name(&mut self.live_names, id, inode);
        set_name(&mut self.durable_names, id, inode);
        self.pending_names.retain(|change| change.id != id);
    }
}

pub(super) fn set_name(names: &mut BTreeMap<FileId, InodeIndex>, id: FileId, inode: Option<InodeIndex>) {
    match inode {
        Some(inode) => names.insert(id, inode),
        None => names.remove(&id),
    };
}

/// Flips bits of one byte if the content has it.
fn flip(content: &mut Content, offset: u64, mask: u8) {
    let mut byte = [0];
    if content.read(offset, &mut byte) == 1 {
        content.write(offset, &[byte[0] ^ mask]);
    }
}
