//! Files, clock, randomness and threads for Thermocline, real and simulated.
//!
//! Everything above this crate reaches the outside world through it, so that tests can put a simulation in its place: a disk that
//! loses power at any operation, a clock that stands still, threads that run when told.

#![forbid(unsafe_code)]

pub mod memory;
pub mod sync;

mod disk;
mod error;
mod name;
mod real;
mod transfer;

pub use disk::{Access, DirEntry, Disk, DiskFile, DiskResult, FileId, LockGuard, LockMode, Reason, Space};
pub use error::{DiskError, DiskErrorKind, SyncFailed};
pub use name::FileClass;
pub use real::RealDisk;
pub use transfer::{read_exact_at, read_up_to_at, write_all_at};
