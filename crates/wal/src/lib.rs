//! Thermocline's commit log.
//!
//! Every commit goes through the log before anyone can read it. A [`Log`] is a chain of numbered segment files, each with a header that
//! says where the one before it ends; appending writes a whole group of commits with one write, makes it durable with one sync, and
//! never touches again what is durable. Opening replays it: a torn end is cut and reported, damage anywhere else is refused
//! (`docs/recovery.md` has the rules, `docs/formats/wal.md` the bytes). The log is also the stream of changes: a [`LogReader`] reads
//! its commits in order from any version on, while it is written.
//!
//! The log does not grow for ever: once a durable tier holds what a part of it says, the caller notes a [`LogBase`] and the log is cut
//! before it ([`Log::rotate`], [`Log::base`], [`Log::cut`]).
//!
//! [`group`] gathers the commits of many threads into groups, and does not depend on the log.
//!
//! The crate relies on `thermocline-format` for bytes and checksums, and on `thermocline-io` for files; it starts no thread and asks no
//! clock for decisions.
//!
//! # What can be lost
//! | durability | the process dies | the power fails |
//! | --- | --- | --- |
//! | [`Durability::Sync`] | nothing | nothing |
//! | [`Durability::Buffered`] | nothing | what came after the last sync |
//! | [`Durability::Memory`] | up to [`LogOptions::stage_size_bytes`] of the last commits | what came after the last sync |
//!
//! What is lost is always the end: a commit is never there without all commits before it.
//!
//! # What cannot be told from a torn write
//! A device that spoils bytes of the very last group that was synced before the power failed leaves what a torn write leaves, so that
//! group is cut. The window closes as soon as anything later says that the group was durable: the next group that is appended, the
//! record that [`Log::witness_step`] writes when the log rests, or the record of a clean close.

#![forbid(unsafe_code)]

pub mod group;

mod append;
mod carry;
mod chain;
mod cut;
mod decision;
mod dump;
mod encoder;
mod entry;
mod error;
mod index;
mod layout;
mod log;
mod open;
mod options;
mod payload;
mod prepare;
mod reader;
mod replay;
mod report;
mod scan;
mod verify;

pub use dump::{dump_segment, dump_segment_part, format_tables};
pub use entry::{Change, Commit, Genesis, LogBase, LogEntry, Replayed, ReplayedCommit};
pub use error::disk_error;
pub use log::Log;
pub use open::OpenLog;
pub use options::{Durability, LogOptions, Padding, Preallocate};
pub use payload::LAYOUT_NAME_SIZE_BYTES_MAX;
pub use reader::LogReader;
pub use report::{LogStats, RecoveryReport, VerifyReport};
pub use verify::verify;

/// A length in memory as a length in a file; `usize` has at most 64 bits on every platform that Rust supports.
pub(crate) fn to_u64(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

/// A length in a file as one in memory. What is too long for memory stays too long.
pub(crate) fn to_len(len: u64) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}
