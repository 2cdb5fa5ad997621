//! Power cuts: what of the pending changes is found afterwards.

use std::ops::Range;
use std::sync::Arc;

use crate::random::Generator;
use crate::sim::content::Content;
use crate::sim::state::{Change, DiskState, Effect, Inode, InodeIndex, SyncOutcome, set_name};
use crate::sim::to_index;

/// Where in the trace the power goes.
///
/// ```
/// use thermocline_io::{CrashPoint, Phase};
///
/// assert_eq!(CrashPoint::before(3), CrashPoint { operation: 3, phase: Phase::Before });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CrashPoint {
    /// The number of the operation, from 0. A number past the last means after everything.
    pub operation: usize,
    /// Before, inside or after it.
    pub phase: Phase,
}

/// Before, inside or after an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// It has not begun.
    Before,
    /// A write has got part of its bytes to the system; a sync has made its first part durable; what cannot be divided has happened
    /// or not, by the seed.
    Inside,
    /// It is done, and nothing after it.
    After,
}

impl CrashPoint {
    /// Just before an operation.
    pub fn before(operation: usize) -> Self {
        Self { operation, phase: Phase::Before }
    }

    /// In the middle of an operation.
    pub fn inside(operation: usize) -> Self {
        Self { operation, phase: Phase::Inside }
    }

    /// Just after an operation.
    pub fn after(operation: usize) -> Self {
        Self { operation, phase: Phase::After }
    }
}

/// Which of the pending changes (of data, lengths and names, over the whole disk in the order they were made) a power cut leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Survival {
    /// None.
    None,
    /// All.
    All,
    /// The first few, how many follows from the seed: a disk that writes in order.
    Prefix,
    /// The last few, how many follows from the seed: later changes without the earlier ones.
    Suffix,
    /// Only the last.
    OnlyLast,
    /// All but one, which one follows from the seed.
    AllButOne,
    /// Each sector of each change for itself, with this chance in thousandths; lengths may also be anything in between.
    Random {
        /// 0 to 1000.
        per_mille: u16,
    },
}

/// The unit in which the device writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SectorSize {
    /// 512 bytes.
    Bytes512,
    /// 4096 bytes.
    Bytes4096,
}

impl SectorSize {
    /// In bytes.
    pub fn bytes(self) -> u64 {
        match self {
            Self::Bytes512 => 512,
            Self::Bytes4096 => 4096,
        }
    }
}

/// What a power cut does.
///
/// ```
/// use thermocline_io::{CrashProfile, SectorSize, Survival};
///
/// let profile = CrashProfile::new(Survival::Random { per_mille: 500 }).sector(SectorSize::Bytes4096).garbage_per_mille(20).torn_overwrites();
/// assert_ne!(profile, CrashProfile::new(Survival::None));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct CrashProfile {
    survival: Survival,
    sector: SectorSize,
    powersafe_overwrite: bool,
    garbage_per_mille: u16,
}

impl CrashProfile {
    /// Sectors of 512 bytes, no garbage, and a device that never harms bytes next to those it writes.
    pub fn new(survival: Survival) -> Self {
        Self { survival, sector: SectorSize::Bytes512, powersafe_overwrite: true, garbage_per_mille: 0 }
    }

    /// A profile that follows from a number, for sweeps: every fourth one keeps each sector with even chance; the others go through
    /// the rest of the choices. All of them promise what a correct device promises, sectors of either size, garbage now and then
    /// only where something was being written.
    pub fn numbered(number: u64) -> Self {
        let survival = match number % 12 {
            0 => Survival::None,
            1 => Survival::All,
            2 | 10 => Survival::Prefix,
            4 => Survival::Suffix,
            5 => Survival::OnlyLast,
            6 => Survival::AllButOne,
            8 => Survival::Random { per_mille: 100 },
            9 => Survival::Random { per_mille: 900 },
            _ => Survival::Random { per_mille: 500 },
        };
        let profile = Self::new(survival);
        let profile = if (number / 12) % 2 == 1 { profile.sector(SectorSize::Bytes4096) } else { profile };
        if (number / 24) % 2 == 1 { profile.garbage_per_mille(50) } else { profile }
    }

    /// With sectors of this size.
    pub fn sector(mut self, sector: SectorSize) -> Self {
        self.sector = sector;
        self
    }

    /// With this chance, in thousandths, that a sector being written holds garbage: zeros, 0xAA, random bytes, or what another file
    /// holds there.
    pub fn garbage_per_mille(mut self, per_mille: u16) -> Self {
        self.garbage_per_mille = per_mille;
        self
    }

    /// With garbage over the whole sector, also over bytes that were durable and that nobody was writing (a device without powersafe
    /// overwrite). Means something only together with [`garbage_per_mille`](Self::garbage_per_mille).
    pub fn torn_overwrites(mut self) -> Self {
        self.powersafe_overwrite = false;
        self
    }
}

/// Carries out the part of `effect` that has happened when the power goes in the middle of it.
pub(super) fn apply_inside(state: &mut DiskState, effect: &Effect, generator: &mut Generator) {
    match effect {
        Effect::Write { inode, offset, bytes } if bytes.len() > 1 => {
            let count = 1 + generator.index(bytes.len() - 1);
            state.apply(&Effect::Write { inode: *inode, offset: *offset, bytes: bytes[..count].into() });
        }
        Effect::SyncFile { inode, outcome: SyncOutcome::Durable } => {
            let pending = state.inode(*inode).pending.len();
            state.inode_mut(*inode).settle_first(generator.index(pending + 1));
        }
        Effect::SyncNames { outcome: SyncOutcome::Durable } => {
            let pending = state.pending_names.len();
            state.settle_first_names(generator.index(pending + 1));
        }
        other => {
            if generator.chance(500) {
                state.apply(other);
            }
        }
    }
}

/// What is found after the power has gone at `state`: a settled state.
pub(super) fn cut_power(state: &DiskState, profile: CrashProfile, generator: &mut Generator) -> DiskState {
    let mut cut = Cut { state, profile, choice: choose(state, profile.survival, generator), touches: Vec::new() };
    let mut names = state.durable_names.clone();
    for change in &state.pending_names {
        if cut.choice.survives(change.sequence, generator) {
            set_name(&mut names, change.id, change.inode);
        }
    }
    let mut found = DiskState::default();
    found.foreign.clone_from(&state.foreign);
    found.irregular.clone_from(&state.irregular);
    for (id, index) in names {
        let inode = cut.inode(index, generator);
        found.inodes.push(inode);
        let index = found.inodes.len() - 1;
        found.durable_names.insert(id, index);
        found.live_names.insert(id, index);
    }
    found
}

/// The decision for one change or, with chance, for one sector of it.
enum Choice {
    UpTo(u64),
    From(u64),
    Except(u64),
    PerMille(u16),
}

impl Choice {
    fn survives(&self, sequence: u64, generator: &mut Generator) -> bool {
        match self {
            Self::UpTo(end) => sequence < *end,
            Self::From(start) => sequence >= *start,
            Self::Except(omitted) => sequence != *omitted,
            Self::PerMille(per_mille) => generator.chance(*per_mille),
        }
    }
}

fn choose(state: &DiskState, survival: Survival, generator: &mut Generator) -> Choice {
    match survival {
        Survival::None => return Choice::UpTo(0),
        Survival::All => return Choice::From(0),
        Survival::Random { per_mille } => return Choice::PerMille(per_mille),
        Survival::Prefix | Survival::Suffix | Survival::OnlyLast | Survival::AllButOne => {}
    }
    let data = state.inodes.iter().flat_map(|inode| inode.pending.iter().map(|change| change.sequence));
    let mut sequences: Vec<u64> = data.chain(state.pending_names.iter().map(|change| change.sequence)).collect();
    sequences.sort_unstable();
    sequences.dedup();
    let Some(last) = sequences.last().copied() else { return Choice::UpTo(0) };
    let picked = sequences[generator.index(sequences.len())];
    match survival {
        // Not all of them: that is what `All` is for. Not none of the last ones either.
        Survival::Prefix => Choice::UpTo(picked),
        Survival::Suffix => Choice::From(picked),
        Survival::OnlyLast => Choice::From(last),
        _ => Choice::Except(picked),
    }
}

struct Cut<'a> {
    state: &'a DiskState,
    profile: CrashProfile,
    choice: Choice,
    /// Which pending change touches which sector; kept for its capacity.
    touches: Vec<(u64, usize)>,
}

impl Cut<'_> {
    fn inode(&mut self, index: InodeIndex, generator: &mut Generator) -> Arc<Inode> {
        let inode = &self.state.inodes[index];
        if inode.pending.is_empty() {
            return Arc::clone(inode);
        }
        let content = match self.choice {
            Choice::UpTo(0) if self.profile.garbage_per_mille == 0 => inode.durable.clone(),
            Choice::From(0) if self.profile.garbage_per_mille == 0 => inode.live.clone(),
            _ => self.content(inode, generator),
        };
        Arc::new(Inode::settled(content))
    }

    fn content(&mut self, inode: &Inode, generator: &mut Generator) -> Content {
        let len = self.length(inode, generator);
        let mut content = inode.durable.clone();
        content.set_len(longest(inode));
        let sector_bytes = self.profile.sector.bytes();
        let mut touches = std::mem::take(&mut self.touches);
        touches.clear();
        for (number, change) in inode.pending.iter().enumerate() {
            let range = change.data.range();
            if !range.is_empty() {
                touches.extend((range.start / sector_bytes..range.end.div_ceil(sector_bytes)).map(|sector| (sector, number)));
            }
        }
        touches.sort_unstable();
        for touch in touches.chunk_by(|a, b| a.0 == b.0) {
            let start = touch[0].0 * sector_bytes;
            let sector = start..start + sector_bytes;
            // A sector holds what it held at one moment: the newest surviving change with all older ones.
            let newest = touch.iter().rposition(|(_, number)| self.choice.survives(inode.pending[*number].sequence, generator));
            for (_, number) in &touch[..newest.map_or(0, |newest| newest + 1)] {
                inode.pending[*number].data.apply(&mut content, &sector);
            }
            if self.profile.garbage_per_mille > 0 && generator.chance(self.profile.garbage_per_mille) {
                self.spoil(&mut content, &inode.pending, touch, &sector, generator);
            }
        }
        self.touches = touches;
        content.set_len(len);
        content
    }

    /// The length is kept apart from the data, and may be older or newer than it.
    fn length(&self, inode: &Inode, generator: &mut Generator) -> u64 {
        let durable = inode.durable.len();
        let lengths = || inode.pending.iter().filter_map(|change| change.length_after.map(|len| (change.sequence, len)));
        if matches!(self.choice, Choice::PerMille(_)) && generator.chance(500) {
            let shortest = lengths().map(|(_, len)| len).fold(durable, u64::min);
            return shortest + generator.below(longest(inode) - shortest + 1);
        }
        lengths().fold(durable, |found, (sequence, len)| if self.choice.survives(sequence, generator) { len } else { found })
    }

    fn spoil(
        &self,
        content: &mut Content,
        pending: &[Change],
        touch: &[(u64, usize)],
        sector: &Range<u64>,
        generator: &mut Generator,
    ) {
        let kind = generator.below(4);
        let other = generator.index(self.state.inodes.len());
        for part in self.harmed(pending, touch, sector) {
            let end = part.end.min(content.len());
            if part.start >= end {
                continue;
            }
            let mut bytes = vec![0; to_index(end - part.start)];
            match kind {
                0 => {}
                1 => bytes.fill(0xaa),
                2 => generator.fill(&mut bytes),
                _ => {
                    self.state.inodes[other].live.read(part.start, &mut bytes);
                }
            }
            content.write(part.start, &bytes);
        }
    }

    fn harmed(&self, pending: &[Change], touch: &[(u64, usize)], sector: &Range<u64>) -> Vec<Range<u64>> {
        if !self.profile.powersafe_overwrite {
            return vec![sector.clone()];
        }
        let written = touch.iter().map(|(_, number)| pending[*number].data.range());
        written.map(|range| range.start.max(sector.start)..range.end.min(sector.end)).collect()
    }
}

/// The most that the file ever was since it was last durable.
fn longest(inode: &Inode) -> u64 {
    let lengths = inode.pending.iter().filter_map(|change| change.length_after);
    lengths.fold(inode.durable.len().max(inode.live.len()), u64::max)
}
