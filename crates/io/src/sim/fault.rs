//! Faults that a simulated disk can be told to have, apart from power cuts.

use std::ops::Range;

use crate::disk::{FileId, Reason};
use crate::error::DiskErrorKind;
use crate::name::FileClass;
use crate::random::Generator;

/// What is called on the disk or on a file.
///
/// ```
/// use thermocline_io::Operation;
///
/// assert_eq!(Operation::SyncData.to_string(), "sync_data");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// `create_new`.
    CreateNew,
    /// `open`.
    Open,
    /// `remove`.
    Remove,
    /// `list`.
    List,
    /// `sync_dir`.
    SyncDir,
    /// `try_lock`.
    TryLock,
    /// `space`.
    Space,
    /// `read_at`.
    Read,
    /// `write_at`.
    Write,
    /// `len`.
    Length,
    /// `allocate`.
    Allocate,
    /// `set_len`.
    SetLen,
    /// `sync_data`.
    SyncData,
    /// Damage done by a test.
    Damage,
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::CreateNew => "create_new",
            Self::Open => "open",
            Self::Remove => "remove",
            Self::List => "list",
            Self::SyncDir => "sync_dir",
            Self::TryLock => "try_lock",
            Self::Space => "space",
            Self::Read => "read_at",
            Self::Write => "write_at",
            Self::Length => "len",
            Self::Allocate => "allocate",
            Self::SetLen => "set_len",
            Self::SyncData => "sync_data",
            Self::Damage => "damage",
        })
    }
}

/// One call, before it is carried out.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use thermocline_io::{Call, Disk, FileId, Operation, Reason, SimDisk};
///
/// let disk = SimDisk::new(1);
/// let creations = Arc::new(AtomicU64::new(0));
/// let seen = Arc::clone(&creations);
/// disk.observe(move |call: &Call| {
///     if call.operation == Operation::CreateNew && call.file == Some(FileId::Wal(1)) {
///         seen.fetch_add(1, Ordering::Relaxed);
///     }
/// });
/// disk.create_new(FileId::Wal(1), Reason::WalPrepare)?;
/// assert_eq!(creations.load(Ordering::Relaxed), 1);
/// # Ok::<(), thermocline_io::DiskError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// What is called.
    pub operation: Operation,
    /// On which file; `None` for the directory.
    pub file: Option<FileId>,
    /// For what purpose, where the call says so.
    pub reason: Option<Reason>,
    /// From where, in bytes; 0 where that means nothing. For `set_len` the new length.
    pub offset: u64,
    /// How many bytes; 0 where that means nothing.
    pub len: u64,
}

/// What a fault does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultKind {
    /// The call fails with this kind and has no effect. A sync that fails so behaves as with [`FailSync`](Self::FailSync) and
    /// [`SyncCache::Kept`].
    Fail(DiskErrorKind),
    /// A write moves its first half (nothing, if it is one byte), and the next write to that file fails with this kind: how a full
    /// disk shows itself.
    FailAfterPart(DiskErrorKind),
    /// A read or a write moves fewer bytes than asked for, at least one.
    ShortTransfer,
    /// A read or a write moves a single byte.
    SingleByte,
    /// A read or a write moves nothing and reports no error.
    ZeroTransfer,
    /// A sync fails; what was pending is lost, but later syncs say that all is well.
    FailSync {
        /// The kind it fails with.
        cause: DiskErrorKind,
        /// What readers see of the lost data.
        cache: SyncCache,
    },
    /// A sync says that all is well and does nothing. What was pending stays so.
    LieAboutSync,
    /// A read hands out one flipped bit; the file is intact.
    FlipInFlight,
    /// A read finds a flipped bit in the part it reads, durable; or a write is stored with one.
    FlipAtRest,
    /// A write reports success, the length grows, and the bytes stay what they were.
    LoseWrite,
    /// A write reports success and lands elsewhere, at a sector's distance.
    MisdirectWrite(Misdirection),
    /// A read hands out the bytes of another place of the same file, at a sector's distance.
    MisdirectRead,
    /// A read hands out what is durable, not what was written since.
    StaleRead,
}

impl FaultKind {
    pub(super) fn applies_to(self, operation: Operation) -> bool {
        let (read, write) = (operation == Operation::Read, operation == Operation::Write);
        let sync = matches!(operation, Operation::SyncData | Operation::SyncDir);
        match self {
            Self::Fail(_) => true,
            Self::FailAfterPart(_) | Self::LoseWrite | Self::MisdirectWrite(_) => write,
            Self::ShortTransfer | Self::SingleByte | Self::ZeroTransfer | Self::FlipAtRest => read || write,
            Self::FailSync { .. } | Self::LieAboutSync => sync,
            Self::FlipInFlight | Self::MisdirectRead | Self::StaleRead => read,
        }
    }
}

/// What readers see of data that a failed sync has lost, until the power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncCache {
    /// The new data (ext4, XFS: the page stays in memory and counts as clean).
    Kept,
    /// The old data (btrfs, and every system once the page was evicted).
    Dropped,
}

/// Where a misdirected write lands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misdirection {
    /// Elsewhere in the same file.
    SameFile,
    /// In another file; in the same if there is no other.
    OtherFile,
}

/// When a fault strikes, counted over the calls that it could strike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// At one call only, the first being number 0.
    Nth(u64),
    /// At this call, the first being number 0, and at every later one.
    From(u64),
    /// At each call with this chance, in thousandths.
    PerMille {
        /// 0 to 1000.
        chance: u16,
        /// What the draws follow from.
        seed: u64,
    },
}

/// A fault to have: what, when, and optionally only for some files, purposes, calls or places.
///
/// ```
/// use thermocline_io::{Disk, DiskErrorKind, Fault, FaultKind, FileClass, FileId, Operation, Reason, SimDisk, When, write_all_at};
///
/// let disk = SimDisk::new(1);
/// let kind = FaultKind::FailAfterPart(DiskErrorKind::DiskFull);
/// let fault = disk.inject(Fault::new(kind, When::Nth(1)).on(Operation::Write).class(FileClass::Wal));
///
/// let file = disk.create_new(FileId::Wal(1), Reason::WalPrepare)?;
/// write_all_at(&*file, 0, b"first", Reason::WalAppend)?;
/// let error = write_all_at(&*file, 5, b"second", Reason::WalAppend).unwrap_err();
/// assert_eq!((error.kind(), error.offset()), (DiskErrorKind::DiskFull, Some(8)));
/// assert_eq!(disk.fault_count(fault), 1);
/// # Ok::<(), thermocline_io::DiskError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Fault {
    kind: FaultKind,
    when: When,
    operation: Option<Operation>,
    class: Option<FileClass>,
    file: Option<FileId>,
    reason: Option<Reason>,
    range: Option<Range<u64>>,
}

impl Fault {
    /// A fault of every call that `kind` can strike.
    pub fn new(kind: FaultKind, when: When) -> Self {
        Self { kind, when, operation: None, class: None, file: None, reason: None, range: None }
    }

    /// Only of this call.
    pub fn on(mut self, operation: Operation) -> Self {
        self.operation = Some(operation);
        self
    }

    /// Only of files of this class.
    pub fn class(mut self, class: FileClass) -> Self {
        self.class = Some(class);
        self
    }

    /// Only of this file.
    pub fn file(mut self, file: FileId) -> Self {
        self.file = Some(file);
        self
    }

    /// Only of calls for this purpose.
    pub fn reason(mut self, reason: Reason) -> Self {
        self.reason = Some(reason);
        self
    }

    /// Only of reads and writes that touch this part of a file, in bytes: a bad sector.
    pub fn range(mut self, range: Range<u64>) -> Self {
        self.range = Some(range);
        self
    }

    fn could_strike(&self, call: &Call) -> bool {
        let end = call.offset.saturating_add(call.len);
        self.kind.applies_to(call.operation)
            && self.operation.is_none_or(|operation| operation == call.operation)
            && self.class.is_none_or(|class| call.file.is_some_and(|file| file.class() == class))
            && self.file.is_none_or(|file| call.file == Some(file))
            && self.reason.is_none_or(|reason| call.reason == Some(reason))
            && self.range.as_ref().is_none_or(|range| call.offset < range.end && range.start < end)
    }
}

/// Names a fault that was injected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FaultId(pub(super) usize);

/// All faults of a disk and how often each could strike and did.
#[derive(Debug, Default)]
pub(super) struct Plan {
    faults: Vec<Planned>,
}

#[derive(Debug)]
struct Planned {
    fault: Fault,
    generator: Generator,
    calls: u64,
    struck: u64,
    active: bool,
}

/// A fault that strikes now, and the source of its random choices.
#[derive(Clone, Debug)]
pub(super) struct Strike {
    pub(super) kind: FaultKind,
    pub(super) generator: Generator,
}

impl Plan {
    pub(super) fn add(&mut self, fault: Fault, disk_seed: u64) -> FaultId {
        let seed = match fault.when {
            When::PerMille { seed, .. } => seed,
            When::Nth(_) | When::From(_) => disk_seed,
        };
        let id = FaultId(self.faults.len());
        self.faults.push(Planned { fault, generator: Generator::new(seed), calls: 0, struck: 0, active: true });
        id
    }

    /// The fault that strikes this call: of several, the one that was injected first.
    pub(super) fn strike(&mut self, call: &Call) -> Option<Strike> {
        let mut found = None;
        for planned in self.faults.iter_mut().filter(|planned| planned.active && planned.fault.could_strike(call)) {
            let number = planned.calls;
            planned.calls += 1;
            let due = match planned.fault.when {
                When::Nth(nth) => number == nth,
                When::From(first) => number >= first,
                When::PerMille { chance, .. } => planned.generator.chance(chance),
            };
            if due && found.is_none() {
                planned.struck += 1;
                let generator = Generator::of_parts(&[planned.generator.next()]);
                found = Some(Strike { kind: planned.fault.kind, generator });
            }
        }
        found
    }

    pub(super) fn struck(&self, id: FaultId) -> u64 {
        self.faults.get(id.0).map_or(0, |planned| planned.struck)
    }

    pub(super) fn stop(&mut self) {
        self.faults.iter_mut().for_each(|planned| planned.active = false);
    }
}
