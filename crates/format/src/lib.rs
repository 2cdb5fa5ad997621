//! What every file of Thermocline is made with: bounded reading and writing of bytes, checksums that know where they belong, the
//! envelope that heads each file, the registry of file kinds and format versions, one error for damage, and the tables from which
//! dumps and documentation are rendered.
//!
//! The crate does no input or output and relies on no other crate of the workspace. Bytes that come from a disk are hostile until
//! checked, so nothing in here can panic, loop or allocate on their word: the lints below are part of the design.

#![forbid(unsafe_code)]
#![deny(
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "bytes from disk must not be able to cause a panic or to be narrowed in silence"
)]

mod checksum;
mod dump;
mod envelope;
mod error;
mod reader;
mod registry;
mod table;
mod writer;

pub use checksum::{CHECKSUM64_SIZE_BYTES, CHECKSUM128_SIZE_BYTES, Salt, checksum64, checksum128};
pub use dump::Dump;
pub use envelope::{ENVELOPE_SIZE_BYTES, ENVELOPE_TABLE, Envelope, Expected, MAGIC, Purpose};
pub use error::{Corruption, FileLabel, FormatError};
pub use reader::Reader;
pub use registry::{Features, FileKind, FormatVersion, StoreId};
pub use table::{Encoding, Field, FieldTable, render_markdown};
pub use writer::{VARINT_SIZE_BYTES_MAX, Writer, varint_size_bytes};
