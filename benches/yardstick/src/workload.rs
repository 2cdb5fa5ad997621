//! The data: which keys and values a workload writes in which commit, and what every read must therefore answer.
//!
//! Keys, values and tombstones are pure functions of (seed, key index, round), made anew wherever they are needed, so that the model
//! holds no data and its checks disturb no cache but their own.

use std::cmp::Ordering;

use thermocline::{Direction, EntryKind, Version};

/// The size of every key, in bytes.
pub const KEY_SIZE_BYTES: usize = 16;
/// The size of a value, in bytes, unless a workload says otherwise.
pub const VALUE_SIZE_BYTES: usize = 100;
/// The entries of one commit.
pub const COMMIT_ENTRIES: usize = 100;
/// The tables that the keys are spread over.
pub const TABLES: [EntryKind; 4] = [EntryKind::Multi, EntryKind::source(1), EntryKind::source(2), EntryKind::operator(1)];

/// The part of a value that is the same in all, over and over: what a compressor would find.
const VALUE_FILLER: &[u8] = b"the quick brown fox jumps over the lazy dog while the lazy dog sleeps on unimpressed ";
/// A value names its key and its round in so many bytes, in front.
const VALUE_NAME_SIZE_BYTES: usize = 8;
/// Of this many entries one is a tombstone: 2 %.
const TOMBSTONE_ONE_IN: u32 = 50;

/// What the limit of a scan counts.
#[derive(Clone, Copy, Debug)]
pub enum ScanLimit {
    /// Keys that have a value, as stores count.
    Rows(usize),
    /// Entries, tombstones among them, as tiers count.
    Entries(usize),
}

/// A key as the workloads make them.
pub type Key = [u8; KEY_SIZE_BYTES];

/// A small, fast generator (`splitmix64`): the same cheap cost in every row that draws keys.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number: all 64 bits are random.
    pub fn next_word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u32) -> u32 {
        (((self.next_word() >> 32) * u64::from(bound)) >> 32) as u32
    }
}

/// The finaliser of `splitmix64`: a bijection, so that different indexes give different keys.
fn mix(mut state: u64) -> u64 {
    state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    state ^ (state >> 31)
}

/// The place of a key's table among the tables.
pub fn place_of(index: u32) -> u8 {
    (index % 4) as u8
}

/// The table of a key.
pub fn table_of(index: u32) -> EntryKind {
    TABLES[(index % 4) as usize]
}

/// A workload: `rounds` times every key in a shuffled order, in commits of [`COMMIT_ENTRIES`]; commit n has version n.
#[derive(Debug)]
pub struct Workload {
    /// How many keys it writes.
    pub keys: u32,
    /// How often it writes each.
    pub rounds: u32,
    value_size_bytes: usize,
    seed: u64,
    /// For each round the key indexes in the order of writing.
    orders: Vec<Vec<u32>>,
    /// For each round the place of each key in that order.
    positions: Vec<Vec<u32>>,
    /// For each table its keys in byte order.
    sorted: [Vec<(Key, u32)>; 4],
}

impl Workload {
    /// `keys` must be a multiple of [`COMMIT_ENTRIES`], so that no commit spans two rounds.
    ///
    /// # Panics
    /// If it is not.
    pub fn new(keys: u32, rounds: u32, seed: u64) -> Self {
        assert!((keys as usize).is_multiple_of(COMMIT_ENTRIES), "a round must be made of whole commits");
        let mut random = Random::new(mix(seed) ^ u64::from(keys));
        let orders: Vec<Vec<u32>> = (0..rounds).map(|_| shuffled(keys, &mut random)).collect();
        let positions = orders.iter().map(|order| inverse(order)).collect();
        let value_size_bytes = VALUE_SIZE_BYTES;
        let mut this = Self { keys, rounds, value_size_bytes, seed, orders, positions, sorted: <[_; 4]>::default() };
        for (residue, sorted) in (0..4).zip(&mut this.sorted) {
            *sorted = (residue..keys).step_by(4).map(|index| (key_of(seed, index), index)).collect();
            sorted.sort_unstable();
        }
        this
    }

    /// The same with values of another size: at least 16 bytes.
    ///
    /// # Panics
    /// If it is smaller.
    #[must_use]
    pub fn with_value_size(self, value_size_bytes: usize) -> Self {
        assert!(
            value_size_bytes >= 2 * VALUE_NAME_SIZE_BYTES,
            "a value must have room for the names of its key and round in its first half"
        );
        Self { value_size_bytes, ..self }
    }

    /// The entries of the whole workload.
    pub fn entries(&self) -> u64 {
        u64::from(self.keys) * u64::from(self.rounds)
    }

    /// The commits of one round.
    fn round_commits(&self) -> u64 {
        u64::from(self.keys) / COMMIT_ENTRIES as u64
    }

    /// The version of the last commit.
    pub fn last_version(&self) -> Version {
        Version(self.round_commits() * u64::from(self.rounds))
    }

    /// The bytes of all entries as users count them: keys and values.
    pub fn user_bytes(&self) -> u64 {
        let of_entry = |index, round| KEY_SIZE_BYTES + if self.is_tombstone(index, round) { 0 } else { self.value_size_bytes };
        (0..self.rounds).flat_map(|round| (0..self.keys).map(move |index| of_entry(index, round) as u64)).sum()
    }

    /// Key `index`. Indexes from `keys` on give keys that the workload never writes.
    pub fn key(&self, index: u32) -> Key {
        key_of(self.seed, index)
    }

    /// The value that `round` gives to key `index`: it names both, then come words, then random bytes, which are half of it.
    pub fn value(&self, index: u32, round: u32) -> Vec<u8> {
        let mut value = Vec::with_capacity(self.value_size_bytes);
        self.write_value(index, round, &mut value);
        value
    }

    /// Makes `value` the value that [`value`](Self::value) gives, without another allocation once it is large enough.
    pub fn write_value(&self, index: u32, round: u32, value: &mut Vec<u8>) {
        value.clear();
        value.extend_from_slice(&index.to_le_bytes());
        value.extend_from_slice(&round.to_le_bytes());
        let words_end = self.value_size_bytes / 2;
        while value.len() < words_end {
            let rest = words_end - value.len();
            value.extend_from_slice(&VALUE_FILLER[..rest.min(VALUE_FILLER.len())]);
        }
        let mut random = Random::new(self.seed ^ (u64::from(round) << 32 | u64::from(index)));
        while value.len() < self.value_size_bytes {
            let rest = self.value_size_bytes - value.len();
            value.extend_from_slice(&random.next_word().to_le_bytes()[..rest.min(8)]);
        }
    }

    /// Whether `round` deletes key `index`.
    pub fn is_tombstone(&self, index: u32, round: u32) -> bool {
        let hash = mix(self.seed ^ 0x5851_F42D_4C95_7F2D ^ (u64::from(round) << 32 | u64::from(index)));
        ((hash >> 32) as u32).is_multiple_of(TOMBSTONE_ONE_IN)
    }

    /// The commits of one committer that writes the whole workload.
    pub fn commits(&self) -> Vec<Vec<u32>> {
        self.orders.clone()
    }

    /// For each round the keys in the order in which they are written.
    pub fn orders(&self) -> &[Vec<u32>] {
        &self.orders
    }

    /// The orders of two committers that share the keys of every table between them.
    pub fn commits_of_half(&self, half: u32) -> Vec<Vec<u32>> {
        let own = |order: &Vec<u32>| order.iter().copied().filter(|index| (index / 4) % 2 == half).collect();
        self.orders.iter().map(own).collect()
    }

    /// The version at which `round` writes key `index`.
    pub fn version_of(&self, index: u32, round: u32) -> Version {
        let position = self.positions[round as usize][index as usize];
        Version(u64::from(round) * self.round_commits() + u64::from(position) / COMMIT_ENTRIES as u64 + 1)
    }

    /// The round whose entry of key `index` is the newest at or below `at`; `None` if the key was not yet written.
    pub fn round_at(&self, index: u32, at: Version) -> Option<u32> {
        if index >= self.keys {
            return None;
        }
        let last = at.min(self.last_version()).0.checked_sub(1)?;
        let round = u32::try_from(last / self.round_commits()).ok()?;
        let position = self.positions[round as usize][index as usize];
        let is_written = u64::from(position) / COMMIT_ENTRIES as u64 <= last % self.round_commits();
        if is_written { Some(round) } else { round.checked_sub(1) }
    }

    /// What reading key `index` at `at` must answer.
    pub fn expected(&self, index: u32, at: Version) -> Option<Vec<u8>> {
        let round = self.round_at(index, at)?;
        (!self.is_tombstone(index, round)).then(|| self.value(index, round))
    }

    /// The keys with values that a scan from key `from` (inclusive) must give: the first `limit`, or those among the first `limit` entries.
    pub fn expected_scan(&self, from: u32, at: Version, direction: Direction, limit: ScanLimit) -> Vec<u32> {
        let sorted = &self.sorted[(from % 4) as usize];
        let key = self.key(from);
        let place = sorted.partition_point(|(other, _)| other.cmp(&key) == Ordering::Less);
        let keys: Box<dyn Iterator<Item = &(Key, u32)>> = match direction {
            Direction::Forward => Box::new(sorted[place..].iter()),
            Direction::Reverse => Box::new(sorted[..=place].iter().rev()),
        };
        let is_tombstone = |(index, round): (u32, u32)| self.is_tombstone(index, round);
        let entries = keys.filter_map(|(_, index)| Some((*index, self.round_at(*index, at)?)));
        let visible = |entries: &mut dyn Iterator<Item = (u32, u32)>, limit| {
            entries.filter(|entry| !is_tombstone(*entry)).map(|(index, _)| index).take(limit).collect()
        };
        match limit {
            ScanLimit::Rows(limit) => visible(&mut { entries }, limit),
            ScanLimit::Entries(limit) => visible(&mut entries.take(limit), limit),
        }
    }

    /// The keys of a table, by its place, in byte order.
    pub fn sorted_keys(&self, table: u8) -> impl Iterator<Item = u32> + '_ {
        self.sorted[usize::from(table)].iter().map(|(_, index)| *index)
    }

    /// The keys of a table, by its place, that have a value at a version, in byte order.
    pub fn expected_scan_all(&self, table: u8, at: Version) -> impl Iterator<Item = u32> + '_ {
        let is_there = move |index: &u32| self.round_at(*index, at).is_some_and(|round| !self.is_tombstone(*index, round));
        self.sorted_keys(table).filter(is_there)
    }

    /// Whether `value` is what some round below `rounds` gives to key `index`: for reads beside a writer, where either may be right.
    pub fn is_some_rounds_value(&self, index: u32, value: &[u8], rounds: u32) -> bool {
        let round = value.get(4..8).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
        round.is_some_and(|round| round < rounds && value == self.value(index, round))
    }
}

/// Draws few keys often: rank r with a chance of about 1 / r^0.99, as YCSB does, by the method of Gray et al., Quickly Generating
/// Billion-Record Synthetic Databases (1994). Ranks are spread over the keys, so that neighbours are not hot together.
#[derive(Clone, Copy, Debug)]
pub struct Zipf {
    keys: u32,
    zeta: f64,
    eta: f64,
}

impl Zipf {
    const THETA: f64 = 0.99;

    /// The distribution over so many keys, at least two.
    pub fn new(keys: u32) -> Self {
        let zeta = |count: u32| (1..=count).map(|rank| f64::from(rank).powf(-Self::THETA)).sum::<f64>();
        let all = zeta(keys);
        let eta = (1.0 - (2.0 / f64::from(keys)).powf(1.0 - Self::THETA)) / (1.0 - zeta(2) / all);
        Self { keys, zeta: all, eta }
    }

    /// A key's index.
    pub fn draw(&self, random: &mut Random) -> u32 {
        let uniform = (random.next_word() >> 11) as f64 / (1_u64 << 53) as f64;
        let scaled = uniform * self.zeta;
        let rank = if scaled < 1.0 {
            0
        } else if scaled < 1.0 + 0.5_f64.powf(Self::THETA) {
            1
        } else {
            let rank = f64::from(self.keys) * (self.eta * uniform - self.eta + 1.0).powf(1.0 / (1.0 - Self::THETA));
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and the number of keys")]
            let rank = rank as u32;
            rank.min(self.keys - 1)
        };
        // As `Random::below`: the upper half of a mixed number, scaled.
        (((mix(u64::from(rank)) >> 32) * u64::from(self.keys)) >> 32) as u32
    }
}

fn key_of(seed: u64, index: u32) -> Key {
    let head = mix(seed ^ u64::from(index));
    let mut key = [0; KEY_SIZE_BYTES];
    key[..8].copy_from_slice(&head.to_le_bytes());
    key[8..].copy_from_slice(&mix(head).to_le_bytes());
    key
}

fn shuffled(count: u32, random: &mut Random) -> Vec<u32> {
    let mut order: Vec<u32> = (0..count).collect();
    for last in (1..count).rev() {
        order.swap(last as usize, random.below(last + 1) as usize);
    }
    order
}

fn inverse(order: &[u32]) -> Vec<u32> {
    let mut positions = vec![0; order.len()];
    for (position, index) in (0..).zip(order) {
        positions[*index as usize] = position;
    }
    positions
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    type State = BTreeMap<(EntryKind, Key), (u32, Option<Vec<u8>>)>;
    type Row<'a> = (&'a (EntryKind, Key), &'a (u32, Option<Vec<u8>>));

    /// The model against the obvious: replay every commit into a map and ask both.
    #[test]
    fn model_agrees_with_a_replay_of_the_commits() {
        let workload = Workload::new(400, 3, 7);
        let mut state: State = BTreeMap::new();
        let mut version = Version::ZERO;
        for (round, order) in (0..).zip(workload.commits()) {
            for commit in order.chunks(COMMIT_ENTRIES) {
                version = version.next().unwrap();
                for index in commit {
                    let value = (!workload.is_tombstone(*index, round)).then(|| workload.value(*index, round));
                    state.insert((table_of(*index), workload.key(*index)), (*index, value));
                    assert_eq!(workload.version_of(*index, round), version);
                }
                check_state(&workload, &state, version);
            }
        }
        assert_eq!(version, workload.last_version());
        assert_eq!(workload.expected(workload.keys, Version::MAX), None);
    }

    fn check_state(workload: &Workload, state: &State, at: Version) {
        for index in 0..workload.keys {
            let known = state.get(&(table_of(index), workload.key(index))).and_then(|(_, value)| value.clone());
            assert_eq!(workload.expected(index, at), known, "key {index} at {at}");
        }
        for from in [0, 1, 2, 3, 200, 399] {
            let (table, key) = (table_of(from), workload.key(from));
            let of_table = |((other, _), (index, value)): Row<'_>| (*other == table && value.is_some()).then_some(*index);
            let forward: Vec<u32> = state.range((table, key)..).filter_map(of_table).take(10).collect();
            let reverse: Vec<u32> = state.range(..=(table, key)).rev().filter_map(of_table).take(10).collect();
            assert_eq!(workload.expected_scan(from, at, Direction::Forward, ScanLimit::Rows(10)), forward);
            assert_eq!(workload.expected_scan(from, at, Direction::Reverse, ScanLimit::Rows(10)), reverse);
            let is_table = |entry: &Row<'_>| entry.0.0 == table;
            let entries = state.range((table, key)..).filter(is_table).take(10).filter_map(of_table).collect::<Vec<u32>>();
            assert_eq!(workload.expected_scan(from, at, Direction::Forward, ScanLimit::Entries(10)), entries);
        }
    }

    #[test]
    fn halves_share_every_table_and_no_key() {
        let workload = Workload::new(800, 1, 7);
        let [first, second] = [0, 1].map(|half| workload.commits_of_half(half).remove(0));
        assert_eq!(first.len() + second.len(), 800);
        assert!(first.iter().all(|index| !second.contains(index)));
        for residue in 0..4 {
            assert_eq!(first.iter().filter(|index| **index % 4 == residue).count(), 100);
        }
    }

    #[test]
    fn few_keys_are_drawn_often() {
        let (zipf, mut random) = (Zipf::new(10_000), Random::new(1));
        let mut counts = vec![0_u32; 10_000];
        for _ in 0..100_000 {
            counts[zipf.draw(&mut random) as usize] += 1;
        }
        counts.sort_unstable_by(|a, b| b.cmp(a));
        // The first of 10,000 ranks has a share of 1 / 9.8, the first hundred 53 %, of which chance takes or gives a little.
        assert!((9_000..11_500).contains(&counts[0]), "{}", counts[0]);
        let hundred = counts[..100].iter().sum::<u32>();
        assert!((50_000..57_000).contains(&hundred), "{hundred}");
    }

    #[test]
    fn values_name_their_key_and_round() {
        let workload = Workload::new(100, 4, 7);
        let value = workload.value(3, 2);
        assert!(workload.is_some_rounds_value(3, &value, 3));
        assert!(!workload.is_some_rounds_value(3, &value, 2));
        assert!(!workload.is_some_rounds_value(4, &value, 3));
        assert!(!workload.is_some_rounds_value(3, b"short", 3));
    }

    #[test]
    fn about_two_in_a_hundred_entries_are_tombstones() {
        let workload = Workload::new(50_000, 1, 7);
        let count = (0..workload.keys).filter(|index| workload.is_tombstone(*index, 0)).count();
        assert!((900..1100).contains(&count), "{count}");
    }
}
