//! Random histories against the model: whatever is written, in whatever order, both tiers answer alike to every question.

use std::ops::Bound;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence};
use thermocline_hot::HotOptions;
use thermocline_tier::{Direction, EntryKind, KeyRange, RangeRequest, ReadWindow, Version};

use crate::harness::{Pair, Write, batch, batch_with_suffix, cases, drop_of};

#[derive(Clone, Debug)]
enum Operation {
    /// A batch at this much above the last version; 0 repeats it.
    Append(u64, Vec<Write>),
    /// A batch at any version.
    Late(u64, Vec<Write>),
    Drop(Vec<(EntryKind, Vec<u8>, u64)>),
    /// Drops the n-th newest version of keys that exist.
    Thin(usize),
    Clear(EntryKind),
    Ensure(EntryKind),
    Compact,
}

fn table() -> impl Strategy<Value = EntryKind> {
    prop_oneof![4 => Just(EntryKind::Multi), 2 => (0..2_u32).prop_map(EntryKind::source), 1 => Just(EntryKind::operator(9))]
}

/// Few distinct keys, so that histories grow; some that tie in their heads, share long prefixes, or end in zeros.
fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => vec(prop_oneof![Just(0_u8), Just(b'a'), Just(b'b'), Just(0xff)], 0..4),
        2 => (0..40_u8).prop_map(|n| [b"tenant/0001/order/".as_slice(), &[n / 7, n % 7]].concat()),
        1 => (0..12_usize).prop_map(|n| vec![0xff; n]),
        1 => (0..12_usize).prop_map(|n| vec![0; n]),
        1 => any::<[u8; 9]>().prop_map(|bytes| bytes.to_vec()),
    ]
}

fn value() -> impl Strategy<Value = Option<Vec<u8>>> {
    prop_oneof![
        1 => Just(None),
        5 => vec(any::<u8>(), 0..20).prop_map(Some),
        1 => (500..1100_usize, any::<u8>()).prop_map(|(len, byte)| Some(vec![byte; len])),
    ]
}

fn writes() -> impl Strategy<Value = Vec<Write>> {
    vec((table(), key(), value()), 1..30)
}

fn version() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0..60_u64, 1 => Just(u64::MAX), 1 => Just(u64::MAX - 1)]
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        8 => (0..3_u64, writes()).prop_map(|(step, writes)| Operation::Append(step, writes)),
        3 => (version(), writes()).prop_map(|(version, writes)| Operation::Late(version, writes)),
        2 => vec((table(), key(), version()), 1..20).prop_map(Operation::Drop),
        2 => (0..3_usize).prop_map(Operation::Thin),
        1 => table().prop_map(Operation::Clear),
        1 => table().prop_map(Operation::Ensure),
        1 => Just(Operation::Compact),
    ]
}

/// Runs operations on both tiers, and remembers keys and versions.
#[derive(Default)]
struct Run {
    pair: Pair,
    last: u64,
    keys: Vec<(EntryKind, Vec<u8>)>,
    versions: Vec<u64>,
    has_suffix: bool,
}

impl Run {
    fn apply(&mut self, operation: &Operation) {
        match operation {
            Operation::Append(step, writes) => self.write(self.last.saturating_add(*step), writes),
            Operation::Late(version, writes) => self.write(*version, writes),
            Operation::Drop(drops) => {
                let drops: Vec<_> = drops.iter().map(|(table, key, version)| drop_of(*table, key, *version)).collect();
                self.pair.drop_versions(&drops);
            }
            Operation::Thin(nth) => {
                use thermocline_tier::TierStorage;
                let nth_of = |(table, key): &(EntryKind, Vec<u8>)| {
                    let all = self.pair.model.get_all_versions(*table, key).unwrap();
                    all.get(*nth).map(|entry| drop_of(*table, key, entry.version.0))
                };
                let drops: Vec<_> = self.keys.iter().filter_map(nth_of).collect();
                self.pair.drop_versions(&drops);
            }
            Operation::Clear(table) => self.pair.clear(*table),
            Operation::Ensure(table) => {
                use thermocline_tier::TierStorage;
                self.pair.hot.ensure_table(*table).unwrap();
                self.pair.model.ensure_table(*table).unwrap();
            }
            Operation::Compact => self.pair.hot.compact(),
        }
    }

    fn write(&mut self, version: u64, writes: &[Write]) {
        let batch = if self.has_suffix { batch_with_suffix(version, writes) } else { batch(version, writes) };
        self.pair.set(&batch);
        self.last = self.last.max(version);
        self.versions.push(version);
        self.keys.extend(batch.iter().map(|(table, entry)| (table, entry.prefix.to_vec())));
        self.keys.sort();
        self.keys.dedup();
    }

    fn check(&self) {
        self.pair.check_whole(&self.versions);
        let keys = self.keys.iter().step_by(if cfg!(miri) { 7 } else { 1 });
        keys.for_each(|(table, key)| self.pair.check_key(*table, key, &self.versions));
    }
}

fn bound() -> impl Strategy<Value = Bound<Vec<u8>>> {
    prop_oneof![Just(Bound::Unbounded), key().prop_map(Bound::Included), key().prop_map(Bound::Excluded)]
}

fn request() -> impl Strategy<Value = RangeRequest> {
    let window = (proptest::option::of(version()), version())
        .prop_map(|(after, at)| ReadWindow { after: after.map(Version), at: Version(at) });
    let direction = prop_oneof![Just(Direction::Forward), Just(Direction::Reverse)];
    (table(), bound(), bound(), window, direction).prop_map(|(table, start, end, window, direction)| {
        let owned = |bound: Bound<Vec<u8>>| bound.map(bytes::Bytes::from);
        RangeRequest { table, range: KeyRange { start: owned(start), end: owned(end) }, window, direction }
    })
}

fn config(usual: u32) -> Config {
    let persistence: Option<Box<dyn proptest::test_runner::FailurePersistence>> =
        if cfg!(miri) { None } else { Some(Box::new(FileFailurePersistence::WithSource("regressions"))) };
    Config { cases: cases(usual), failure_persistence: persistence, max_shrink_iters: 2000, ..Config::default() }
}

proptest! {
    #![proptest_config(config(100))]

    #[test]
    fn any_history_reads_like_the_model(
        operations in vec(operation(), 1..if cfg!(miri) { 6 } else { 40 }),
        requests in vec((request(), 1..9_usize), 0..30),
        has_suffix: bool,
        hash_seed: u64,
    ) {
        let pair = Pair::new(HotOptions { hash_seed, ..HotOptions::default() });
        let mut run = Run { pair, has_suffix, ..Run::default() };
        for operation in &operations {
            run.apply(operation);
        }
        run.check();
        for (request, page_size) in &requests {
            run.pair.check_scan(request, *page_size);
        }
    }

    #[test]
    fn many_keys_read_like_the_model(
        keys in vec(prop_oneof![any::<u16>().prop_map(|n| n.to_le_bytes().to_vec()),
                                any::<u16>().prop_map(|n| format!("a/shared/prefix/{n:05}").into_bytes())],
                    1..if cfg!(miri) { 150 } else { 1500 }),
        chunk in 1..200_usize,
        requests in vec((request(), 1..100_usize), 0..20),
    ) {
        let mut run = Run::default();
        for (version, keys) in (1..).zip(keys.chunks(chunk)) {
            let writes: Vec<Write> = keys.iter().map(|key| (EntryKind::Multi, key.clone(), Some(key.clone()))).collect();
            run.write(version, &writes);
        }
        run.versions = vec![run.last / 2, run.last];
        run.pair.check_whole(&run.versions);
        for (request, page_size) in &requests {
            run.pair.check_scan(request, *page_size);
        }
        run.pair.hot.compact();
        run.check();
    }
}
