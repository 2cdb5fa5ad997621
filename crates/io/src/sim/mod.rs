//! A simulated disk that can lose power and have faults. Deterministic: equal seeds and equal calls give equal answers.
//!
//! # The model of a power cut
//! Per file there is a *durable* image, a *live* image that readers see, and the list of changes in between; the same for the names
//! in the directory. A [`CrashProfile`] decides what of the changes is found after the cut.
//! - **Data.** A change is split into sectors of 512 or 4,096 bytes. Every sector takes, independently of the others, any of the
//!   versions that it had since the last sync of its file, so a newer write may survive without an older one. With a small
//!   chance a sector that was being written holds garbage: zeros, 0xAA, random bytes, what another (perhaps removed) file holds.
//! - **Overwriting.** With powersafe overwrite the garbage covers only bytes that were being written. Without it, it covers
//!   the whole sector, durable bytes included.
//! - **Length.** Kept apart from the data: anything between the durable and the live length, and all that it ever was in between.
//!   Bytes inside the length that were never written read as zeros.
//! - **Names.** Creating and removing files is pending until `sync_dir`; any subset survives. A synced file whose name
//!   was lost is gone, a removed one may come back.
//! - **`sync_data`** makes that file's data and length durable, nothing else; `sync_dir` the names, nothing else.
//! - **Cuts** are possible before, inside and after each operation that changes something. Reads are not counted.
//! - A **killed process** without a power cut keeps the live image and what is pending.
//!
//! # The faults
//! [`Fault`] lists them: errors of every kind, partial and short and empty transfers, failed syncs after which the system takes lost
//! data for written, syncs that lie, flipped bits, lost, misdirected and stale transfers. A capacity makes the disk full until it
//! is raised. [`SimDisk::flip_bit`] and its neighbours damage files directly; [`SimDisk::observe`] lets a test stop, stall or
//! panic at any call.
//!
//! # Cost
//! The disk records its trace once. An image is computed from a walk along the trace, and shares all pages of 4 KiB that a cut
//! does not touch; so an image costs microseconds where files are small. Recorded writes stay in memory until
//! [`SimDisk::restart_recording`].

mod content;
mod crash;
mod damage;
mod disk;
mod fault;
mod file;
mod state;
mod trace;

pub use crash::{CrashPoint, CrashProfile, Phase, SectorSize, Survival};
pub use disk::SimDisk;
pub use fault::{Call, Fault, FaultId, FaultKind, Misdirection, Operation, SyncCache, When};
pub use trace::{Recording, Sweep, TraceEntry};

/// An offset in a file as an index in memory. Files here are limited to 4 GiB, so it fails on no machine with that much memory.
fn to_index(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

fn to_offset(index: usize) -> u64 {
    crate::transfer::to_u64(index)
}
