//! Thermocline's warm tier: sorted files in levels, larger than memory.
//!
//! A file holds each key once, with its newest entry, in *main blocks*; older versions lie apart, in *history blocks*. So a read of the
//! present passes by all history, and a read of the past goes to one group of versions. docs/formats/sst.md has the bytes,
//! docs/adr/0004 why they are as they are.
//!
//! - `layout` declares the format, and `frame` checks what is read; `block` and `history` build and search blocks, `codec` compresses them,
//!   `filter` says which keys a file surely lacks, `writer` makes a file of all that.
//! - `segment` reads a file through the `index` of each partition and the `cache` of blocks and indexes; `open_files` bounds how many are
//!   open; `scan` walks several as one, and reads `ahead`.
//! - `manifest` lists the live files; a `view` is what readers see of them; `compaction` chooses what to rewrite and `merge` does it.
//! - `tier` puts it together as [`WarmTier`].

#![forbid(unsafe_code)]

mod ahead;
mod block;
mod buffers;
mod cache;
mod codec;
mod compaction;
mod dump;
mod error;
mod filter;
mod frame;
mod history;
mod hooks;
mod index;
mod layout;
mod manifest;
mod merge;
mod meta;
mod open_files;
mod options;
mod scan;
mod segment;
mod tier;
mod view;
mod writer;

pub use codec::Compression;
pub use dump::{dump_sst, dump_sst_part, sst_format_tables};
pub use manifest::{dump_manifest, dump_manifest_part, manifest_format_tables};
pub use options::WarmOptions;
pub use thermocline_format::StoreId;
pub use tier::{OpenWarm, WarmTier};
