//! The tests of the format crate: literal bytes, round trips, every flipped bit, every truncation, hostile lengths.
//!
//! Expected checksums come from the reference implementation of XXH3, not from this crate: a checksum that is wrong in the same way on
//! both sides would pass every round trip.

#[cfg(test)]
mod checksum;
#[cfg(test)]
mod dump;
#[cfg(test)]
mod envelope;
#[cfg(test)]
mod reader;
#[cfg(test)]
mod table;
