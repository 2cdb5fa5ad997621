//! Frames: sealed as they are written, and checked as they are read.

#![deny(
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "bytes from disk must not be able to cause a panic or to be narrowed in silence"
)]

use thermocline_format::{Corruption, Reader, Salt, checksum64};

use crate::codec::{Codec, RATIO_MAX};
use crate::layout::{FileIdentity, Place, to_u64, widen};

/// Appends the trailer to a frame whose payload begins at `start` of `out` and at `offset` of the file.
pub(crate) fn seal_frame(out: &mut Vec<u8>, start: usize, offset: u64, codec: Codec, raw_len: u32, salt: Salt) -> Place {
    let len = u32::try_from(out.len().saturating_sub(start)).unwrap_or(u32::MAX);
    out.push(codec.code());
    out.extend_from_slice(&raw_len.to_le_bytes());
    let checksum = checksum64(salt.at(offset), out.get(start..).unwrap_or_default());
    out.extend_from_slice(&checksum.to_le_bytes());
    Place { offset, len, checksum }
}

/// A frame's payload and what its trailer says.
pub(crate) struct Frame<'a> {
    pub(crate) payload: &'a [u8],
    pub(crate) codec: Codec,
    pub(crate) raw_len: usize,
}

/// Checks a frame as it was read from `place`.
pub(crate) fn open_frame<'a>(bytes: &'a [u8], place: &Place, file: &FileIdentity) -> Result<Frame<'a>, Corruption> {
    let label = file.label();
    let checked_len = place.frame_len().saturating_sub(8);
    let mut whole = Reader::new(bytes, label, place.offset);
    let covered = whole.bytes(checked_len, "frame")?;
    whole.checksum64(file.salt().at(place.offset), covered, "frame checksum")?;
    whole.finish()?;
    let mut reader = Reader::new(covered, label, place.offset);
    let payload = reader.bytes(widen(place.len), "frame payload")?;
    let code = reader.u8("frame codec")?;
    let raw_len = widen(reader.u32("frame raw length")?);
    let damage = |at: usize, part, expected: String, found: String| {
        Corruption::new(label, place.offset.saturating_add(to_u64(payload.len().saturating_add(at))), part, expected, found)
    };
    let found = bytes.get(checked_len..).and_then(|tail| tail.first_chunk::<8>()).map_or(0, |bytes| u64::from_le_bytes(*bytes));
    if found != place.checksum {
        let (expected, found) = (format!("{:#018x} as its parent says", place.checksum), format!("{found:#018x}"));
        return Err(damage(5, "frame checksum", expected, found));
    }
    let Some(codec) = Codec::from_code(code) else {
        return Err(damage(0, "frame codec", "0 to 3".into(), code.to_string()));
    };
    let raw_len_max = payload.len().saturating_mul(RATIO_MAX.saturating_add(1));
    if raw_len > raw_len_max {
        return Err(damage(1, "frame raw length", format!("at most {raw_len_max}"), raw_len.to_string()));
    }
    Ok(Frame { payload, codec, raw_len })
}

/// The content of a frame that is never compressed: of all but blocks and values. So it takes no more memory than the file.
pub(crate) fn open_plain_frame<'a>(bytes: &'a [u8], place: &Place, file: &FileIdentity) -> Result<&'a [u8], Corruption> {
    let Frame { payload, codec, raw_len } = open_frame(bytes, place, file)?;
    let damage = |at: u64, part, expected: String, found: String| {
        let offset = place.offset.saturating_add(u64::from(place.len)).saturating_add(at);
        Err(Corruption::new(file.label(), offset, part, expected, found))
    };
    if codec != Codec::None {
        return damage(0, "frame codec", "0, for what is not compressed".into(), codec.code().to_string());
    }
    if raw_len != payload.len() {
        return damage(1, "frame raw length", payload.len().to_string(), raw_len.to_string());
    }
    Ok(payload)
}
