//! The simulated directory.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use crate::disk::{Access, DirEntry, Disk, DiskFile, DiskResult, FileId, LockGuard, LockMode, Reason, Space};
use crate::error::{DiskError, DiskErrorKind, SyncFailed};
use crate::random::Generator;
use crate::sim::crash::{CrashPoint, CrashProfile};
use crate::sim::fault::{Call, Fault, FaultId, FaultKind, Operation, Plan, Strike, SyncCache};
use crate::sim::file::SimFile;
use crate::sim::state::{DiskState, Effect, InodeIndex, SyncOutcome};
use crate::sim::to_offset;
use crate::sim::trace::{Recorded, Recording, Replay, TraceEntry};
use crate::sync::{Mutex, MutexGuard};

pub(super) const LABEL: &str = "simulated disk";
/// What a disk without a set capacity says it has.
const TOTAL_BYTES_DEFAULT: u64 = 1 << 40;

/// A directory in memory that records what is done to it, loses power on demand, and has the faults that it is told to have.
/// [`sim`](crate::sim) describes the model; in short, what is not synced may be lost in any combination.
///
/// Clones are handles of the same disk. Everything happens under one lock, so operations of several threads have one order.
///
/// ```
/// use thermocline_io::{Access, CrashPoint, CrashProfile, Disk, FileId, Reason, SimDisk, Survival, write_all_at};
///
/// let disk = SimDisk::new(42);
/// let file = disk.create_new(FileId::Wal(1), Reason::WalPrepare)?;
/// disk.sync_dir(Reason::WalPrepare)?;
/// write_all_at(&*file, 0, b"kept", Reason::WalAppend)?;
/// file.sync_data(Reason::WalSync)?;
/// disk.mark(1);
/// write_all_at(&*file, 4, b"lost", Reason::WalAppend)?;
///
/// let end = CrashPoint::before(disk.operations());
/// let found = disk.crash_image(end, CrashProfile::new(Survival::None), 0);
/// assert_eq!(disk.marks_before(end), [1]);
/// assert_eq!(found.file_bytes(FileId::Wal(1)).as_deref(), Some(&b"kept"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct SimDisk {
    pub(super) shared: Arc<Shared>,
}

type Observer = Arc<dyn Fn(&Call) + Send + Sync>;

pub(super) struct Shared {
    state: Mutex<Inner>,
    observer: Mutex<Option<Observer>>,
}

/// What disks made from this one inherit.
#[derive(Clone, Debug)]
pub(super) struct Traits {
    seed: u64,
    capacity_bytes: Option<u64>,
    /// The lock file is no part of the model: it holds nothing and losing it harms nobody.
    lock_file: bool,
}

pub(super) struct Inner {
    base: Arc<DiskState>,
    pub(super) live: DiskState,
    operations: Vec<Recorded>,
    marks: Vec<(usize, u64)>,
    replay: Option<Replay>,
    traits: Traits,
    pub(super) plan: Plan,
    /// The file's next write fails with this, because its last one was cut short.
    pub(super) next_write_fails: Vec<(InodeIndex, DiskErrorKind)>,
    locks: Locks,
    lists: u64,
}

#[derive(Debug, Default)]
struct Locks {
    exclusive: bool,
    shared: u32,
    /// Grows when all locks are lost; guards of before then hold nothing.
    generation: u64,
}

impl SimDisk {
    /// An empty directory. The order of [`list`](Disk::list) and all choices of faults follow from `seed`.
    pub fn new(seed: u64) -> Self {
        Self::of_state(DiskState::default(), Traits { seed, capacity_bytes: None, lock_file: false })
    }

    pub(super) fn of_state(state: DiskState, traits: Traits) -> Self {
        let inner = Inner {
            base: Arc::new(state.clone()),
            live: state,
            operations: Vec::new(),
            marks: Vec::new(),
            replay: None,
            traits,
            plan: Plan::default(),
            next_write_fails: Vec::new(),
            locks: Locks::default(),
            lists: 0,
        };
        Self { shared: Arc::new(Shared { state: Mutex::new(inner), observer: Mutex::new(None) }) }
    }

    /// How many operations the trace has: those that changed or synced something.
    pub fn operations(&self) -> usize {
        self.lock().operations.len()
    }

    /// The trace, in order.
    pub fn trace(&self) -> Vec<TraceEntry> {
        self.lock().operations.iter().map(|recorded| recorded.entry).collect()
    }

    /// Notes in the trace that the workload has come this far, such as that commit `mark` was acknowledged.
    pub fn mark(&self, mark: u64) {
        let mut inner = self.lock();
        let position = inner.operations.len();
        inner.marks.push((position, mark));
    }

    /// See [`Recording::marks_before`].
    pub fn marks_before(&self, cut: CrashPoint) -> Vec<u64> {
        self.recording().marks_before(cut)
    }

    /// What was recorded so far.
    pub fn recording(&self) -> Recording {
        let inner = self.lock();
        Recording::new(Arc::clone(&inner.base), &inner.operations, &inner.marks, inner.traits.clone())
    }

    /// Forgets the trace and the marks: the present state, with all that is pending in it, becomes the one that the trace starts from.
    pub fn restart_recording(&self) {
        let mut inner = self.lock();
        inner.base = Arc::new(inner.live.clone());
        inner.operations.clear();
        inner.marks.clear();
        inner.replay = None;
    }

    /// See [`Sweep::crash_image`](crate::Sweep::crash_image). Cuts in ascending order are cheap here too.
    #[must_use]
    pub fn crash_image(&self, cut: CrashPoint, profile: CrashProfile, seed: u64) -> Self {
        let found = self.with_replay(|replay, base, operations| replay.crash(base, operations, cut, profile, seed));
        Self::of_state(found, self.traits())
    }

    /// See [`Sweep::kill_image`](crate::Sweep::kill_image).
    #[must_use]
    pub fn kill_image(&self, cut: CrashPoint, seed: u64) -> Self {
        let found = self.with_replay(|replay, base, operations| replay.kill(base, operations, cut, seed));
        Self::of_state(found, self.traits())
    }

    /// A disk of its own in the same state, with a new trace, without faults and locks. Cheap: the two share their pages.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        let state = self.lock().live.clone();
        Self::of_state(state, self.traits())
    }

    /// Adds a fault. Of several that could strike one call, the one that was added first does.
    pub fn inject(&self, fault: Fault) -> FaultId {
        let mut inner = self.lock();
        let seed = inner.traits.seed;
        inner.plan.add(fault, seed)
    }

    /// How often a fault has struck.
    pub fn fault_count(&self, fault: FaultId) -> u64 {
        self.lock().plan.struck(fault)
    }

    /// Ends all faults. Their counts stay.
    pub fn clear_faults(&self) {
        let mut inner = self.lock();
        inner.plan.stop();
        inner.next_write_fails.clear();
    }

    /// Limits what all files together may hold, in bytes, holes included; `None` for no limit. Writes beyond it are cut short and then
    /// fail with `DiskFull`. Raising the limit, or removing files, lets them go on.
    pub fn set_capacity(&self, capacity_bytes: Option<u64>) {
        self.lock().traits.capacity_bytes = capacity_bytes;
    }

    /// Calls `observer` before every operation, with nothing locked: it may wait, panic, or use this disk. Replaces the last one.
    pub fn observe(&self, observer: impl Fn(&Call) + Send + Sync + 'static) {
        *self.shared.observer.lock() = Some(Arc::new(observer));
    }

    /// Takes the lock away from all who hold it, as a network file system does. Their guards are worth nothing from now on.
    pub fn lose_locks(&self) {
        let mut inner = self.lock();
        let generation = inner.locks.generation + 1;
        inner.locks = Locks { generation, ..Locks::default() };
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.shared.state.lock()
    }

    fn traits(&self) -> Traits {
        self.lock().traits.clone()
    }

    fn with_replay<T>(&self, use_it: impl FnOnce(&mut Replay, &Arc<DiskState>, &[Recorded]) -> T) -> T {
        let mut inner = self.lock();
        let Inner { replay, base, operations, .. } = &mut *inner;
        use_it(replay.get_or_insert_with(|| Replay::new(base)), base, operations)
    }

    /// Tells the observer, then locks, and finds out what strikes the call. A plain failure is returned as an error right away.
    pub(super) fn begin(&self, call: &Call) -> Result<(MutexGuard<'_, Inner>, Option<Strike>), DiskErrorKind> {
        let observer = self.shared.observer.lock().clone();
        if let Some(observer) = observer {
            observer(call);
        }
        let mut inner = self.lock();
        let strike = inner.plan.strike(call);
        match strike {
            Some(Strike { kind: FaultKind::Fail(kind), .. }) if !is_sync(call.operation) => Err(kind),
            strike => Ok((inner, strike)),
        }
    }

    fn begin_on_directory(
        &self,
        operation: Operation,
        file: Option<FileId>,
        reason: Option<Reason>,
    ) -> DiskResult<MutexGuard<'_, Inner>> {
        let call = Call { operation, file, reason, offset: 0, len: 0 };
        match self.begin(&call) {
            Ok((inner, _)) => Ok(inner),
            Err(kind) => Err(failure(kind, &call).with_detail("injected")),
        }
    }

    fn handle(&self, inode: InodeIndex, id: FileId, access: Access) -> Arc<dyn DiskFile> {
        Arc::new(SimFile::new(self.clone(), inode, id, access))
    }
}

impl Inner {
    /// Carries out and records an effect.
    pub(super) fn carry_out(&mut self, call: &Call, effect: Effect) {
        self.live.apply(&effect);
        let Call { operation, file, reason, offset, len } = *call;
        let entry = TraceEntry { operation, file, reason, offset, len, succeeded: Recorded::answered_ok(&effect) };
        self.operations.push(Recorded { entry, effect });
    }

    /// The bytes that files may still grow by.
    pub(super) fn available_bytes(&self) -> u64 {
        self.traits.capacity_bytes.unwrap_or(TOTAL_BYTES_DEFAULT).saturating_sub(self.live.used_bytes())
    }
}

fn is_sync(operation: Operation) -> bool {
    matches!(operation, Operation::SyncData | Operation::SyncDir)
}

/// What a sync does under a fault, and the kind it fails with.
pub(super) fn sync_outcome(strike: Option<&Strike>) -> (SyncOutcome, Option<DiskErrorKind>) {
    match strike.map(|strike| strike.kind) {
        Some(FaultKind::Fail(cause) | FaultKind::FailSync { cause, cache: SyncCache::Kept }) => {
            (SyncOutcome::LostKept, Some(cause))
        }
        Some(FaultKind::FailSync { cause, cache: SyncCache::Dropped }) => (SyncOutcome::LostDropped, Some(cause)),
        Some(FaultKind::LieAboutSync) => (SyncOutcome::Nothing, None),
        _ => (SyncOutcome::Durable, None),
    }
}

/// An error of a call, as the real disk describes it.
pub(super) fn failure(kind: DiskErrorKind, call: &Call) -> DiskError {
    let verb = match call.operation {
        Operation::CreateNew => "create",
        Operation::Open => "open",
        Operation::Remove => "remove",
        Operation::List => "list the directory",
        Operation::SyncDir | Operation::SyncData => "sync",
        Operation::TryLock => "lock",
        Operation::Space => "ask for the space of the device",
        Operation::Read => "read",
        Operation::Write => "write",
        Operation::Length => "ask for the length of",
        Operation::Allocate => "allocate",
        Operation::SetLen => "set the length of",
        Operation::Damage => "damage",
    };
    let mut error = DiskError::new(kind, verb).with_label(LABEL);
    if let Some(file) = call.file {
        error = error.with_file(file);
    }
    if let Some(reason) = call.reason {
        error = error.with_reason(reason);
    }
    if matches!(call.operation, Operation::Read | Operation::Write | Operation::Allocate | Operation::SetLen) {
        error = error.with_offset(call.offset);
    }
    error
}

impl Disk for SimDisk {
    fn create_new(&self, id: FileId, reason: Reason) -> DiskResult<Arc<dyn DiskFile>> {
        let mut inner = self.begin_on_directory(Operation::CreateNew, Some(id), Some(reason))?;
        let call = Call { operation: Operation::CreateNew, file: Some(id), reason: Some(reason), offset: 0, len: 0 };
        let taken = inner.live.irregular.contains(&id) || (id == FileId::Lock && inner.traits.lock_file);
        if taken || inner.live.live_names.contains_key(&id) {
            return Err(failure(DiskErrorKind::AlreadyExists, &call));
        }
        let inode = inner.live.inodes.len();
        inner.carry_out(&call, Effect::Create { id });
        drop(inner);
        Ok(self.handle(inode, id, Access::ReadWrite))
    }

    fn open(&self, id: FileId, access: Access, reason: Reason) -> DiskResult<Arc<dyn DiskFile>> {
        let inner = self.begin_on_directory(Operation::Open, Some(id), Some(reason))?;
        let inode = find(&inner, id, Operation::Open, reason)?;
        drop(inner);
        Ok(self.handle(inode, id, access))
    }

    fn remove(&self, id: FileId, reason: Reason) -> DiskResult<()> {
        let mut inner = self.begin_on_directory(Operation::Remove, Some(id), Some(reason))?;
        find(&inner, id, Operation::Remove, reason)?;
        let call = Call { operation: Operation::Remove, file: Some(id), reason: Some(reason), offset: 0, len: 0 };
        inner.carry_out(&call, Effect::Remove { id });
        Ok(())
    }

    fn list(&self, reason: Reason) -> DiskResult<Vec<DirEntry>> {
        let mut inner = self.begin_on_directory(Operation::List, None, Some(reason))?;
        let live = &inner.live;
        let named: BTreeSet<FileId> = live.live_names.keys().copied().chain(live.irregular.iter().copied()).collect();
        let lengths = live.live_names.iter().map(|(id, inode)| DirEntry::File(*id, live.live_len(*inode)));
        let mut entries: Vec<DirEntry> = lengths.collect();
        entries.extend(live.irregular.iter().map(|id| DirEntry::File(*id, 0)));
        entries.extend(live.foreign.iter().map(|name| DirEntry::Foreign(name.clone())));
        if inner.traits.lock_file && !named.contains(&FileId::Lock) {
            entries.push(DirEntry::File(FileId::Lock, 0));
        }
        inner.lists += 1;
        Generator::of_parts(&[inner.traits.seed, inner.lists]).shuffle(&mut entries);
        Ok(entries)
    }

    fn sync_dir(&self, reason: Reason) -> Result<(), SyncFailed> {
        let call = Call { operation: Operation::SyncDir, file: None, reason: Some(reason), offset: 0, len: 0 };
        let fail = |kind| SyncFailed::new(kind, None, reason).with_label(LABEL);
        let (mut inner, strike) = self.begin(&call).map_err(fail)?;
        let (outcome, failed) = sync_outcome(strike.as_ref());
        inner.carry_out(&call, Effect::SyncNames { outcome });
        failed.map_or(Ok(()), |kind| Err(fail(kind).with_detail("injected")))
    }

    fn try_lock(&self, mode: LockMode) -> DiskResult<Box<dyn LockGuard>> {
        let mut inner = self.begin_on_directory(Operation::TryLock, Some(FileId::Lock), Some(Reason::Open))?;
        let call =
            Call { operation: Operation::TryLock, file: Some(FileId::Lock), reason: Some(Reason::Open), offset: 0, len: 0 };
        if inner.live.irregular.contains(&FileId::Lock) {
            return Err(failure(DiskErrorKind::NotRegular, &call));
        }
        let there = inner.traits.lock_file || inner.live.live_names.contains_key(&FileId::Lock);
        if mode == LockMode::Shared && !there {
            return Err(failure(DiskErrorKind::NotFound, &call));
        }
        let locks = &mut inner.locks;
        if locks.exclusive || (mode == LockMode::Exclusive && locks.shared > 0) {
            return Err(failure(DiskErrorKind::Locked, &call).with_detail("another handle of this process holds it"));
        }
        match mode {
            LockMode::Exclusive => locks.exclusive = true,
            LockMode::Shared => locks.shared += 1,
        }
        let generation = locks.generation;
        inner.traits.lock_file = true;
        drop(inner);
        Ok(Box::new(SimLock { disk: self.clone(), mode, generation }))
    }

    fn space(&self) -> DiskResult<Space> {
        let inner = self.begin_on_directory(Operation::Space, None, None)?;
        let total_bytes = inner.traits.capacity_bytes.unwrap_or(TOTAL_BYTES_DEFAULT);
        Ok(Space { total_bytes, available_bytes: inner.available_bytes() })
    }

    fn label(&self) -> String {
        LABEL.to_owned()
    }
}

fn find(inner: &Inner, id: FileId, operation: Operation, reason: Reason) -> DiskResult<InodeIndex> {
    let call = Call { operation, file: Some(id), reason: Some(reason), offset: 0, len: 0 };
    if inner.live.irregular.contains(&id) {
        return Err(failure(DiskErrorKind::NotRegular, &call));
    }
    inner.live.live_names.get(&id).copied().ok_or_else(|| failure(DiskErrorKind::NotFound, &call))
}

struct SimLock {
    disk: SimDisk,
    mode: LockMode,
    generation: u64,
}

impl LockGuard for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut inner = self.disk.lock();
        if inner.locks.generation != self.generation {
            return;
        }
        match self.mode {
            LockMode::Exclusive => inner.locks.exclusive = false,
            LockMode::Shared => inner.locks.shared = inner.locks.shared.saturating_sub(1),
        }
    }
}

impl fmt::Debug for SimLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimLock").field("mode", &self.mode).finish_non_exhaustive()
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A panic of a test may print this while the disk is in use.
        let Some(inner) = self.shared.state.try_lock() else { return f.write_str("SimDisk (in use)") };
        f.debug_struct("SimDisk")
            .field("files", &inner.live.live_names.keys())
            .field("operations", &to_offset(inner.operations.len()))
            .finish_non_exhaustive()
    }
}
