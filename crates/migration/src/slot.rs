//! What a tier keeps of each file for its strategy.
//!
//! ```text
//!   0        8         16           24
//!   | tag u64 | context | observed   | summary, in the strategy's own encoding
//! ```

use thermocline_format::{Encoding, Field, FieldTable};
use thermocline_tier::Version;

/// How much of a [`Slot`] comes before the summary, in bytes.
pub const SLOT_HEADER_SIZE_BYTES: usize = 24;
/// How a slot says that no row was offered: no context may have this id.
const NO_CONTEXT: u64 = u64::MAX;
/// The longest summary of a file, in bytes: 64 KiB with what a tier notes beside it.
pub const SUMMARY_SIZE_BYTES_MAX: usize = 64 * 1024 - SLOT_HEADER_SIZE_BYTES;

/// What a tier keeps of each file for its strategy, in memory and with the list of its files.
///
/// ```
/// use thermocline_migration::Slot;
/// use thermocline_tier::Version;
///
/// let slot = Slot { tag: 7, context: Some(3), observed_from: Version::MAX, summary: b"summary" };
/// assert_eq!(Slot::decode(&slot.encode()), Some(slot));
/// assert_eq!(Slot::decode(b""), None, "a file that was written without a strategy");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot<'a> {
    /// That of the strategy: see [`Migration::tag`](crate::Migration::tag).
    pub tag: u64,
    /// The lowest id of the contexts that its rows were offered to `migrate` under; `None` if none was.
    pub context: Option<u64>,
    /// The lowest version of the rows that a later rewrite may offer, since they were not settled yet; [`Version::MAX`] if there are none.
    pub observed_from: Version,
    /// The summary as the strategy encodes it.
    pub summary: &'a [u8],
}

impl<'a> Slot<'a> {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SLOT_HEADER_SIZE_BYTES.saturating_add(self.summary.len()));
        for number in [self.tag, self.context.unwrap_or(NO_CONTEXT), self.observed_from.0] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(self.summary);
        bytes
    }

    /// Whether a rewrite under a context of this id would offer a row that was not offered under it yet, with rows settled up to this
    /// version.
    pub fn is_behind(&self, context: u64, settled_up_to: Version) -> bool {
        let has_some_to_come = self.observed_from != Version::MAX && self.observed_from <= settled_up_to;
        has_some_to_come || self.context.is_some_and(|own| own < context)
    }

    /// Brings one back; `None` for bytes that are none.
    pub fn decode(bytes: &'a [u8]) -> Option<Self> {
        let (header, summary) = bytes.split_first_chunk::<SLOT_HEADER_SIZE_BYTES>()?;
        let number = |at: usize| {
            let bytes = header.get(at..)?.first_chunk()?;
            Some(u64::from_le_bytes(*bytes))
        };
        Some(Self {
            tag: number(0)?,
            context: Some(number(8)?).filter(|id| *id != NO_CONTEXT),
            observed_from: Version(number(16)?),
            summary,
        })
    }
}

const TABLES: [FieldTable; 1] = [FieldTable::new(
    "file summary",
    "What a strategy noted of the rows of a file; empty for a file that was written without one.",
    &[
        Field::at(0, Encoding::U64, "tag", "XXH3 of the strategy's name"),
        Field::at(8, Encoding::U64, "context", "lowest id of the contexts that rows were offered under; all ones: none was"),
        Field::at(
            16,
            Encoding::U64,
            "observed from",
            "lowest version of the rows that were not settled yet; all ones: there are none",
        ),
        Field::at(24, Encoding::Variable, "summary", "in the strategy's own encoding, at most 65,512 bytes"),
    ],
)];

/// The format of a [`Slot`], for documents and dumps.
pub fn format_tables() -> &'static [FieldTable] {
    &TABLES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_as_they_always_were() {
        let slot = Slot { tag: 0x0102_0304_0506_0708, context: Some(9), observed_from: Version(0x0a0b), summary: b"xyz" };
        let golden = b"\x08\x07\x06\x05\x04\x03\x02\x01\x09\0\0\0\0\0\0\0\x0b\x0a\0\0\0\0\0\0xyz";
        assert_eq!(slot.encode(), golden);
        assert_eq!(Slot::decode(golden), Some(slot));
    }

    #[test]
    fn file_is_behind_if_a_rewrite_would_offer_what_was_not_offered_before() {
        let slot = |context, observed_from| Slot { tag: 1, context, observed_from: Version(observed_from), summary: b"" };
        assert!(slot(Some(2), u64::MAX).is_behind(3, Version(9)) && !slot(Some(3), u64::MAX).is_behind(3, Version(9)));
        assert!(!slot(None, u64::MAX).is_behind(3, Version(9)), "it holds nothing that can be offered");
        assert!(
            !slot(Some(3), u64::MAX).is_behind(3, Version::MAX) && slot(None, 7).is_behind(3, Version::MAX),
            "all are settled"
        );
        assert!(slot(None, 9).is_behind(0, Version(9)) && !slot(None, 10).is_behind(5, Version(9)));
        assert_eq!(Slot::decode(&slot(None, 4).encode()), Some(slot(None, 4)));
    }

    #[test]
    fn anything_shorter_than_a_header_is_none() {
        for len in 0..SLOT_HEADER_SIZE_BYTES {
            assert_eq!(Slot::decode(&vec![1; len]), None);
        }
        assert_eq!(Slot::decode(&[0; SLOT_HEADER_SIZE_BYTES]).map(|slot| slot.summary.len()), Some(0));
    }
}
