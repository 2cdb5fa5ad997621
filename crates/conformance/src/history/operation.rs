//! The operations of a history, and how they are drawn.

use std::ops::Bound;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::sample::select;
use thermocline_tier::{Direction, DropVersion, EntryKind, KeyRange, RangeRequest, ReadWindow, Version};

/// Keys that backends have stumbled over: empty, NUL, high bytes, prefixes of one another, and keys that share their first eight
/// bytes and more. Simple ones first, since shrinking moves towards them.
pub const KEYS: &[&[u8]] = &[
    b"a",
    b"b",
    b"",
    b"\0",
    b"a\0",
    b"ab",
    b"B",
    b"\xff",
    b"\xff\xff",
    b"b\xff",
    b"shared-prefix",
    b"shared-prefix-1",
    b"shared-prefix-2",
    b"shared-p",
    b"shared-\xff",
    b"\0\0\0\0\0\0\0\0",
    b"\0\0\0\0\0\0\0\0\0",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff",
];

const TABLES: &[EntryKind] = &[EntryKind::source(7), EntryKind::source(8), EntryKind::Multi, EntryKind::operator(7)];

/// One write of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The table.
    pub table: EntryKind,
    /// The key's prefix.
    pub prefix: Bytes,
    /// The value; `None` is a tombstone.
    pub value: Option<Bytes>,
}

/// Many keys at a distance from each other, so that a tree of some fan-out gets more than one level.
///
/// ```
/// use thermocline_conformance::Run;
/// use thermocline_tier::EntryKind;
///
/// let run = Run { table: EntryKind::Multi, first: 1, stride: 2, count: 3 };
/// assert_eq!(run.keys().collect::<Vec<_>>(), ["run-00001", "run-00003", "run-00005"]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The table.
    pub table: EntryKind,
    /// The number of the first key.
    pub first: u16,
    /// The distance from one to the next; not 0.
    pub stride: u16,
    /// How many keys.
    pub count: u16,
}

impl Run {
    /// The keys, in order.
    pub fn keys(&self) -> impl Iterator<Item = String> {
        let (first, stride) = (u32::from(self.first), u32::from(self.stride));
        (0..u32::from(self.count)).map(move |index| format!("run-{:05}", first + index * stride))
    }
}

/// One operation of a history.
///
/// ```
/// use std::sync::Arc;
/// use thermocline_conformance::{Backend, ModelTier, Operation, run_history};
/// use thermocline_tier::{EntryKind, Version};
///
/// let backend = Backend::new("model", || Arc::new(ModelTier::new()));
/// let get = Operation::Get { table: EntryKind::Multi, prefix: "k".into(), at: Version::MAX };
/// run_history(&backend, &[Operation::Clear(EntryKind::Multi), get])?;
/// # Ok::<(), thermocline_conformance::CaseFailure>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Writes a batch.
    Set {
        /// The version of the batch: above, below or at others.
        version: Version,
        /// The length of the suffix that every key of the batch has, in bytes.
        suffix_size_bytes: u8,
        /// The writes, in any order, also several of one key.
        writes: Vec<Write>,
    },
    /// Drops versions, whether they are there or not.
    Drop(Vec<DropVersion>),
    /// Writes a value, or every seventh time a tombstone, under each of many keys, one batch a key.
    Fill(Run, Version),
    /// Drops a version of each of many keys, in one call.
    Thin(Run, Version),
    /// Clears a table.
    Clear(EntryKind),
    /// Makes a table.
    Ensure(EntryKind),
    /// Asks for one key: get, contains, the newest below, all versions.
    Get {
        /// The table.
        table: EntryKind,
        /// The key's prefix.
        prefix: Bytes,
        /// The version to read at.
        at: Version,
    },
    /// Asks for many keys at once.
    GetMany {
        /// Table and prefix of each.
        keys: Vec<(EntryKind, Bytes)>,
        /// The version to read at.
        at: Version,
    },
    /// Reads a range to its end, in pages and as a stream.
    Scan {
        /// The range.
        request: RangeRequest,
        /// The size of the pages, in entries.
        batch_size: usize,
    },
    /// Opens a cursor and keeps it.
    Open(RangeRequest),
    /// Reads a page of a kept cursor, whatever was written since.
    Page {
        /// Which one, counted from the newest, modulo their number.
        cursor: usize,
        /// The size of the page, in entries.
        batch_size: usize,
    },
    /// Lists the tables and counts what is in them.
    Stats,
    /// Takes a step of the backend, counted modulo their number.
    Step(usize),
}

fn version() -> impl Strategy<Value = Version> {
    let number = prop_oneof![
        8 => 1_u64..5,
        4 => 5_u64..10,
        1 => Just(0),
        1 => Just(u64::MAX - 1),
        1 => Just(u64::MAX),
    ];
    number.prop_map(Version)
}

fn table() -> impl Strategy<Value = EntryKind> {
    // Likewise.
    prop_oneof![6 => Just(TABLES[0]), 2 => select(TABLES)]
}

fn prefix() -> impl Strategy<Value = Bytes> {
    // A few keys most of the time, so that operations meet.
    prop_oneof![3 => select(&KEYS[..4]), 2 => select(KEYS)].prop_map(Bytes::from_static)
}

fn write() -> impl Strategy<Value = Write> {
    let value = prop_oneof![
        4 => select(&["x", "y", "longer value"][..]).prop_map(|value| Some(Bytes::from_static(value.as_bytes()))),
        1 => Just(Some(Bytes::new())),
        1 => Just(Some(Bytes::from_static(&[0xab; 2_000]))),
        2 => Just(None),
    ];
    (table(), prefix(), value).prop_map(|(table, prefix, value)| Write { table, prefix, value })
}

fn range() -> impl Strategy<Value = KeyRange> {
    let bound = || {
        prop_oneof![
            1 => Just(Bound::Unbounded),
            2 => prefix().prop_map(Bound::Included),
            2 => prefix().prop_map(Bound::Excluded),
        ]
    };
    prop_oneof![
        3 => Just(KeyRange::all()),
        4 => (bound(), bound()).prop_map(|(start, end)| KeyRange { start, end }),
        1 => prefix().prop_map(|prefix| KeyRange::prefix(&prefix)),
    ]
}

fn request() -> impl Strategy<Value = RangeRequest> {
    let window = prop_oneof![
        3 => version().prop_map(ReadWindow::as_of),
        1 => (version(), version()).prop_map(|(after, at)| ReadWindow::between(after, at)),
    ];
    let direction = any::<bool>().prop_map(|is_reverse| if is_reverse { Direction::Reverse } else { Direction::Forward });
    (table(), range(), window, direction).prop_map(|(table, range, window, direction)| RangeRequest {
        table,
        range,
        window,
        direction,
    })
}

fn batch_size() -> impl Strategy<Value = usize> {
    prop_oneof![6 => 1_usize..6, 1 => Just(100)]
}

fn run() -> impl Strategy<Value = Run> {
    (table(), 0_u16..50, 1_u16..5, 1_u16..200).prop_map(|(table, first, stride, count)| Run { table, first, stride, count })
}

fn operation() -> impl Strategy<Value = Operation> {
    let drop_version = (table(), prefix(), version()).prop_map(|(table, prefix, version)| DropVersion { table, prefix, version });
    prop_oneof![
        12 => (version(), 0_u8..4, vec(write(), 0..8))
            .prop_map(|(version, suffix_size_bytes, writes)| Operation::Set { version, suffix_size_bytes, writes }),
        4 => vec(drop_version, 0..6).prop_map(Operation::Drop),
        1 => (run(), version()).prop_map(|(run, version)| Operation::Fill(run, version)),
        1 => (run(), version()).prop_map(|(run, version)| Operation::Thin(run, version)),
        1 => table().prop_map(Operation::Clear),
        1 => table().prop_map(Operation::Ensure),
        5 => (table(), prefix(), version()).prop_map(|(table, prefix, at)| Operation::Get { table, prefix, at }),
        3 => (vec((table(), prefix()), 0..12), version()).prop_map(|(keys, at)| Operation::GetMany { keys, at }),
        5 => (request(), batch_size()).prop_map(|(request, batch_size)| Operation::Scan { request, batch_size }),
        3 => request().prop_map(Operation::Open),
        6 => (0_usize..4, batch_size()).prop_map(|(cursor, batch_size)| Operation::Page { cursor, batch_size }),
        1 => Just(Operation::Stats),
        2 => (0_usize..4).prop_map(Operation::Step),
    ]
}

/// Histories of up to `operations_max` operations.
///
/// ```
/// use proptest::strategy::{Strategy, ValueTree};
/// use proptest::test_runner::TestRunner;
///
/// let history = thermocline_conformance::operations(20).new_tree(&mut TestRunner::deterministic()).map(|tree| tree.current());
/// assert!(history.is_ok_and(|history| history.len() <= 20));
/// ```
pub fn operations(operations_max: usize) -> impl Strategy<Value = Vec<Operation>> {
    vec(operation(), 0..=operations_max)
}
