//! How an engine rewrites its rows while compaction runs, and knows when it is done.
//!
//! The store does not know what keys and values mean; the engine above does. It implements a [`Strategy`], which is shown every row that goes
//! to a file: [`observe`](Strategy::observe) notes in the file's [`Summary`] what there is, and [`migrate`](Strategy::migrate) may also
//! change the row, once it is settled. Summaries live as long as their files and are in memory, so that an engine can tell without reading any
//! file what is the oldest schema or clock that still lives.
//!
//! A tier meets a strategy as a [`Migration`], without its types; [`erase`] makes one. All hooks are called there, outside of the tier's
//! locks: what panics or fails comes back as an error that names the key, and what a hook must not do is refused. [`Slot`] is what a tier
//! keeps of each file.
//!
//! Two things differ from what the design first said, for the sake of whoever implements the trait. Hooks are handed a [`StoredRow`] with
//! named fields, since three slices side by side are easily swapped, and since engines also need the table; its value is read from the file
//! only if the hook asks for it. And hooks return a `Result`: a hook that meets a row that it cannot read should say so, not panic.

#![forbid(unsafe_code)]

mod erased;
mod hook;
mod row;
mod slot;
mod strategy;

pub use erased::{Job, Migration, Modified, erase};
pub use hook::{check_not_in_hook, observe};
pub use row::StoredRow;
pub use slot::{SLOT_HEADER_SIZE_BYTES, SUMMARY_SIZE_BYTES_MAX, Slot, format_tables};
pub use strategy::{
    HookError, Migrate, MigrationContext, MigrationContextSource, MigrationScope, NoMigration, Strategy, Summary,
};
