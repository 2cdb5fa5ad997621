//! Cursors that can leave the process: a scan's place as bytes, and back.

use std::ops::Bound;

use bytes::Bytes;
use thermocline_format::{Reader, StoreId, Writer, checksum64};
use thermocline_tier::{
    Direction, EntryKind, Error, ErrorKind, KeyRange, RangeCursor, RangeRequest, ReadWindow, Result, Version,
};

/// The version of the token's form, in its first byte.
const TOKEN_FORM: u8 = 1;
/// The seed of a token's checksum, so that no other checked bytes of ours pass for a token.
const TOKEN_SEED: u64 = u64::from_le_bytes(*b"tcursor1");

/// The longest bound that a token may hold, in bytes. Bounds need not be keys, so they may be longer than those.
const BOUND_SIZE_BYTES_MAX: usize = 1 << 30;

/// Where a paged read of one store stands: a small value that pins nothing and can be kept, sent away and resumed in another
/// process.
///
/// ```
/// # let store = thermocline::Store::in_memory()?;
/// use thermocline_store::{Batch, Cursor};
/// use thermocline_tier::{EntryKind, KeyRange};
///
/// let mut batch = Batch::new();
/// batch.put(EntryKind::Multi, b"a", b"1").put(EntryKind::Multi, b"b", b"2");
/// store.commit(batch)?;
/// let page = store.snapshot()?.page(EntryKind::Multi, KeyRange::all(), 1)?;
/// let token = page.next.map(|cursor| cursor.encode()).unwrap_or_default();
/// let rest = store.resume(&token, 10)?;
/// assert_eq!(rest.entries, [("b".into(), "2".into())]);
/// assert!(rest.next.is_none());
/// # Ok::<(), thermocline_tier::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub(crate) store: StoreId,
    pub(crate) position: RangeCursor,
}

impl Cursor {
    /// The scan that the cursor belongs to.
    pub fn request(&self) -> &RangeRequest {
        self.position.request()
    }

    /// Refuses a scan that the cursor does not belong to.
    ///
    /// # Errors
    /// [`CursorMismatch`](ErrorKind::CursorMismatch) naming what differs: table, start, end, version or direction.
    pub fn check(&self, request: &RangeRequest) -> Result<()> {
        self.position.check(request)
    }

    /// The cursor as bytes: the bounds and the last key, and about 60 bytes around them.
    pub fn encode(&self) -> Vec<u8> {
        encode(self.store, &self.position)
    }

    /// A cursor from its bytes.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) if they are not a whole, unchanged token.
    pub fn decode(token: &[u8]) -> Result<Self> {
        let (store, position) = decode(token)?;
        Ok(Self { store, position })
    }
}

/// Writes form, store, table, direction, window, bounds, last key, checksum.
pub(crate) fn encode(store: StoreId, position: &RangeCursor) -> Vec<u8> {
    let request = position.request();
    let mut out = Writer::new();
    out.u8(TOKEN_FORM);
    out.bytes(&store.0);
    let (tag, id) = request.table.to_parts();
    out.u8(tag);
    out.u32(id);
    out.u8(match request.direction {
        Direction::Forward => 0,
        Direction::Reverse => 1,
    });
    out.u8(u8::from(request.window.after.is_some()));
    out.u64(request.window.after.unwrap_or_default().0);
    out.u64(request.window.at.0);
    encode_bound(&mut out, request.range.start.as_ref());
    encode_bound(&mut out, request.range.end.as_ref());
    encode_bound(&mut out, position.last().map_or(Bound::Unbounded, Bound::Included));
    out.u8(u8::from(position.is_exhausted()));
    let checksum = checksum64(TOKEN_SEED, out.as_slice());
    out.u64(checksum);
    out.finish()
}

pub(crate) fn decode(token: &[u8]) -> Result<(StoreId, RangeCursor)> {
    let damaged = |source: thermocline_format::Corruption| {
        Error::with_source(ErrorKind::InvalidArgument { what: "the cursor token is damaged".into() }, source)
    };
    read(token).map_err(damaged)?.ok_or_else(|| {
        ErrorKind::InvalidArgument { what: "the cursor token is not of a form that this release knows".into() }.into()
    })
}

/// The parts of a token; `None` where a field has a value that no token of ours has.
fn read(token: &[u8]) -> std::result::Result<Option<(StoreId, RangeCursor)>, thermocline_format::Corruption> {
    let Some((body, sum)) = token.split_last_chunk::<8>() else { return Ok(None) };
    if checksum64(TOKEN_SEED, body) != u64::from_le_bytes(*sum) {
        return Ok(None);
    }
    let mut reader = Reader::new(body, "cursor token", 0);
    let form = reader.u8("form")?;
    let mut store = [0; 16];
    store.copy_from_slice(reader.bytes(16, "store id")?);
    let table = EntryKind::from_parts(reader.u8("table tag")?, reader.u32("table id")?);
    let direction = match reader.u8("direction")? {
        0 => Direction::Forward,
        1 => Direction::Reverse,
        _ => return Ok(None),
    };
    let has_after = reader.u8("has lower version")?;
    let (after, at) = (Version(reader.u64("lower version")?), Version(reader.u64("version")?));
    let after = (has_after == 1).then_some(after);
    let (start, end) = (read_bound(&mut reader)?, read_bound(&mut reader)?);
    let last = read_bound(&mut reader)?;
    let is_exhausted = reader.u8("exhausted")? == 1;
    reader.finish()?;
    let (Some(table), Some(start), Some(end), Some(last), TOKEN_FORM) = (table, start, end, last, form) else { return Ok(None) };
    let last = match last {
        Bound::Included(key) => Some(key),
        Bound::Unbounded => None,
        Bound::Excluded(_) => return Ok(None),
    };
    let request = RangeRequest { table, range: KeyRange { start, end }, window: ReadWindow { after, at }, direction };
    Ok(Some((StoreId(store), RangeCursor::from_parts(request, last, is_exhausted))))
}

fn encode_bound(out: &mut Writer, bound: Bound<&Bytes>) {
    let (kind, key): (u8, &[u8]) = match bound {
        Bound::Unbounded => (0, &[]),
        Bound::Included(key) => (1, key),
        Bound::Excluded(key) => (2, key),
    };
    out.u8(kind);
    out.prefixed(key);
}

fn read_bound(reader: &mut Reader<'_>) -> std::result::Result<Option<Bound<Bytes>>, thermocline_format::Corruption> {
    let kind = reader.u8("bound kind")?;
    let key = Bytes::copy_from_slice(reader.prefixed(BOUND_SIZE_BYTES_MAX, "bound")?);
    Ok(match kind {
        0 => Some(Bound::Unbounded),
        1 => Some(Bound::Included(key)),
        2 => Some(Bound::Excluded(key)),
        _ => None,
    })
}
