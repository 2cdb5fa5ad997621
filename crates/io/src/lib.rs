//! Files, clock, randomness and threads for Thermocline, real and simulated.
//!
//! Everything above this crate reaches the outside world through it, so that tests can put a simulation in its place: a disk that
//! loses power at any operation, a clock that stands still, threads that run when told.

#![forbid(unsafe_code)]

pub mod memory;
pub mod sim;
pub mod sync;

mod clock;
mod disk;
mod environment;
mod error;
mod memory_disk;
mod name;
mod random;
mod real;
mod spawn;
mod transfer;

pub use clock::{Clock, RealClock, SimClock};
pub use disk::{Access, DirEntry, Disk, DiskFile, DiskResult, FileId, LockGuard, LockMode, Reason, Space};
pub use environment::Environment;
pub use error::{DiskError, DiskErrorKind, SyncFailed};
pub use memory_disk::MemoryDisk;
pub use name::FileClass;
pub use random::{Randomness, RealRandomness, SeededRandomness};
pub use real::RealDisk;
pub use sim::{
    Call, CrashPoint, CrashProfile, Fault, FaultId, FaultKind, Misdirection, Operation, Phase, Recording, SectorSize, SimDisk,
    Survival, Sweep, SyncCache, TraceEntry, When,
};
pub use spawn::{JoinHandle, RealSpawner, SimSpawner, Spawner, Task, TaskPanicked};
pub use transfer::{read_exact_at, read_up_to_at, write_all_at};
