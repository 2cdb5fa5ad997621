//! The trace of a simulated disk: every operation that changed or synced something, and the marks that the workload set. Disks as
//! they were at any moment are built from it, without running the workload again.

use std::sync::Arc;

use crate::disk::{FileId, Reason};
use crate::random::Generator;
use crate::sim::crash::{CrashPoint, CrashProfile, Phase, apply_inside, cut_power};
use crate::sim::disk::{SimDisk, Traits};
use crate::sim::fault::Operation;
use crate::sim::state::{DiskState, Effect, SyncOutcome};
use crate::sim::to_offset;

/// An operation of the trace. Enough to check the order in which things must happen, such as a file's sync before its removal of
/// another.
///
/// ```
/// use thermocline_io::{Disk, FileId, Operation, Reason, SimDisk};
///
/// let disk = SimDisk::new(1);
/// disk.create_new(FileId::Wal(1), Reason::WalPrepare)?;
/// let entry = disk.trace()[0];
/// assert_eq!((entry.operation, entry.file, entry.reason), (Operation::CreateNew, Some(FileId::Wal(1)), Some(Reason::WalPrepare)));
/// # Ok::<(), thermocline_io::DiskError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceEntry {
    /// What was done. [`Operation::Damage`] was done by the test or by a fault.
    pub operation: Operation,
    /// To which file; `None` for the directory.
    pub file: Option<FileId>,
    /// For what purpose.
    pub reason: Option<Reason>,
    /// From where, in bytes; for `set_len` the new length.
    pub offset: u64,
    /// How many bytes were written or allocated.
    pub len: u64,
    /// Whether the caller was told that it worked. Only syncs that failed are in the trace; other failed calls changed nothing.
    pub succeeded: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Recorded {
    pub(super) entry: TraceEntry,
    pub(super) effect: Effect,
}

/// What a disk has recorded up to some moment. Cheap to clone, and can be sent to other threads, each of which makes its own
/// [`sweep`](Self::sweep).
///
/// ```
/// use thermocline_io::{CrashPoint, CrashProfile, Disk, FileId, Reason, SimDisk, Survival};
///
/// let disk = SimDisk::new(1);
/// disk.create_new(FileId::Wal(1), Reason::WalPrepare)?;
/// disk.sync_dir(Reason::WalPrepare)?;
/// disk.mark(7);
///
/// let recording = disk.recording();
/// let mut sweep = recording.sweep();
/// let profile = CrashProfile::new(Survival::None);
/// assert_eq!(sweep.crash_image(CrashPoint::before(1), profile, 0).list(Reason::Open)?.len(), 0);
/// assert_eq!(sweep.crash_image(CrashPoint::after(1), profile, 0).list(Reason::Open)?.len(), 1);
/// assert_eq!(recording.marks_before(CrashPoint::before(2)), [7]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Recording {
    base: Arc<DiskState>,
    operations: Arc<[Recorded]>,
    marks: Arc<[(usize, u64)]>,
    traits: Traits,
}

impl Recording {
    pub(super) fn new(base: Arc<DiskState>, operations: &[Recorded], marks: &[(usize, u64)], traits: Traits) -> Self {
        Self { base, operations: operations.into(), marks: marks.into(), traits }
    }

    /// How many operations there are. Cuts are possible before, inside and after each of them.
    pub fn operations(&self) -> usize {
        self.operations.len()
    }

    /// The operations in order.
    pub fn trace(&self) -> Vec<TraceEntry> {
        self.operations.iter().map(|recorded| recorded.entry).collect()
    }

    /// The marks that had been set when the power went, oldest first. A mark counts once the operation before it is done and the
    /// workload has gone on: a cut just after that operation does not include it, a cut before the next operation does.
    pub fn marks_before(&self, cut: CrashPoint) -> Vec<u64> {
        marks_before(&self.marks, cut).iter().map(|(_, mark)| *mark).collect()
    }

    /// The last of [`marks_before`](Self::marks_before).
    pub fn last_mark_before(&self, cut: CrashPoint) -> Option<u64> {
        marks_before(&self.marks, cut).last().map(|(_, mark)| *mark)
    }

    /// Something that walks along the trace and makes disks.
    pub fn sweep(&self) -> Sweep {
        Sweep { recording: self.clone(), replay: Replay::new(&self.base) }
    }

    /// A number that follows from everything that is recorded. Equal runs have equal ones.
    pub fn fingerprint(&self) -> u64 {
        let mut generator = Generator::new(to_offset(self.operations.len()));
        let mut mix = |part: u64| generator = Generator::of_parts(&[generator.next(), part]);
        for recorded in self.operations.iter() {
            let entry = recorded.entry;
            mix(entry.operation as u64);
            mix(entry.file.map_or(0, |file| 1 + file.class() as u64));
            mix(entry.file.and_then(FileId::number).unwrap_or(0));
            mix(entry.reason.map_or(0, |reason| 1 + reason as u64));
            mix(entry.offset);
            mix(entry.len);
            mix(u64::from(entry.succeeded));
            if let Effect::Write { bytes, .. } = &recorded.effect {
                bytes.iter().for_each(|byte| mix(u64::from(*byte)));
            }
        }
        self.marks.iter().for_each(|(position, mark)| {
            mix(to_offset(*position));
            mix(*mark);
        });
        generator.next()
    }
}

fn marks_before(marks: &[(usize, u64)], cut: CrashPoint) -> &[(usize, u64)] {
    &marks[..marks.partition_point(|(position, _)| *position <= cut.operation)]
}

/// Walks along a [`Recording`] and makes disks as they were found after a power cut or a killed process. Cuts in ascending order
/// cost one walk; a cut further back starts over.
///
/// ```
/// use thermocline_io::{CrashPoint, CrashProfile, Disk, FileId, Reason, SimDisk};
///
/// let disk = SimDisk::new(1);
/// disk.create_new(FileId::Wal(1), Reason::WalPrepare)?;
/// let mut sweep = disk.recording().sweep();
/// for number in 0..24 {
///     let image = sweep.crash_image(CrashPoint::after(0), CrashProfile::numbered(number), number);
///     assert!(image.list(Reason::Open)?.len() <= 1);
/// }
/// # Ok::<(), thermocline_io::DiskError>(())
/// ```
#[derive(Debug)]
pub struct Sweep {
    recording: Recording,
    replay: Replay,
}

impl Sweep {
    /// The disk that is found after a power cut. It follows from the arguments alone. It is a disk like any other, records its own
    /// trace from here on, and can be cut again.
    pub fn crash_image(&mut self, cut: CrashPoint, profile: CrashProfile, seed: u64) -> SimDisk {
        let Recording { base, operations, traits, .. } = &self.recording;
        let found = self.replay.crash(base, operations, cut, profile, seed);
        SimDisk::of_state(found, traits.clone())
    }

    /// The disk that is found after the process was killed and the system went on: everything is visible that was written, and
    /// what was not durable still is not, nor will be what a failed sync has lost.
    pub fn kill_image(&mut self, cut: CrashPoint, seed: u64) -> SimDisk {
        let Recording { base, operations, traits, .. } = &self.recording;
        let found = self.replay.kill(base, operations, cut, seed);
        SimDisk::of_state(found, traits.clone())
    }
}

/// The state after the first `position` operations.
#[derive(Debug)]
pub(super) struct Replay {
    state: DiskState,
    position: usize,
}

impl Replay {
    pub(super) fn new(base: &Arc<DiskState>) -> Self {
        Self { state: DiskState::clone(base), position: 0 }
    }

    pub(super) fn crash(
        &mut self,
        base: &Arc<DiskState>,
        operations: &[Recorded],
        cut: CrashPoint,
        profile: CrashProfile,
        seed: u64,
    ) -> DiskState {
        let mut generator = generator_of(cut, seed);
        match self.seek(base, operations, cut) {
            None => cut_power(&self.state, profile, &mut generator),
            Some(effect) => {
                let mut state = self.state.clone();
                apply_inside(&mut state, effect, &mut generator);
                cut_power(&state, profile, &mut generator)
            }
        }
    }

    pub(super) fn kill(&mut self, base: &Arc<DiskState>, operations: &[Recorded], cut: CrashPoint, seed: u64) -> DiskState {
        let inside = self.seek(base, operations, cut);
        let mut state = self.state.clone();
        if let Some(effect) = inside {
            apply_inside(&mut state, effect, &mut generator_of(cut, seed));
        }
        state
    }

    /// Goes to the cut; returns the operation that it is inside of.
    fn seek<'a>(&mut self, base: &Arc<DiskState>, operations: &'a [Recorded], cut: CrashPoint) -> Option<&'a Effect> {
        let done = match cut.phase {
            Phase::Before | Phase::Inside => cut.operation.min(operations.len()),
            Phase::After => cut.operation.saturating_add(1).min(operations.len()),
        };
        if done < self.position {
            *self = Self::new(base);
        }
        for recorded in &operations[self.position..done] {
            self.state.apply(&recorded.effect);
        }
        self.position = done;
        operations.get(done).filter(|_| cut.phase == Phase::Inside).map(|recorded| &recorded.effect)
    }
}

/// What a cut draws from: its own place and the seed.
fn generator_of(cut: CrashPoint, seed: u64) -> Generator {
    Generator::of_parts(&[seed, to_offset(cut.operation), cut.phase as u64])
}

impl Recorded {
    /// Whether the caller was told that all is well.
    pub(super) fn answered_ok(effect: &Effect) -> bool {
        let (Effect::SyncFile { outcome, .. } | Effect::SyncNames { outcome }) = effect else { return true };
        matches!(outcome, SyncOutcome::Durable | SyncOutcome::Nothing)
    }
}
