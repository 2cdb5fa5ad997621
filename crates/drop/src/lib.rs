//! What a Thermocline store may forget.
//!
//! An [`Authority`] knows the horizon, every [`Pin`], reader and [consumer](ConsumerState), and the policies of [`Retention`]; of these it
//! says what is retained of each key of each table, which is what compaction keeps, and which reads are allowed. What must survive a restart it hands out as
//! [`Change`]s, with their bytes: whoever has a log makes them durable before they hold.
//!
//! The crate does no I/O, starts no thread and asks no clock: moments are handed in.

#![forbid(unsafe_code)]

mod authority;
mod change;
mod consumers;
mod pending;
mod pins;
mod retention;
mod sweep;
mod times;

pub use authority::{Authority, Expiry, HolderId, PolicyScope};
pub use change::{Change, decode, encode, format_tables};
pub use consumers::{ConsumerState, Holding};
pub use pending::DropCommand;
pub use pins::{NAME_SIZE_BYTES_MAX, Pin, PinVersions, Reader, Readers, Scope};
pub use retention::{Anchor, LADDER_STEPS_MAX, Retention, Rung, Ttl};
pub use sweep::{Sweep, Swept, superseded, superseded_over};
pub use times::{Moment, Reading, Reckoner, Times};
