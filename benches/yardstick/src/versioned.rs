//! Versions on top of an ordered store that has none: the best common encoding, once for all such engines.
//!
//! An entry's key is table (1 byte), user key, version inverted (8 bytes, big endian): the versions of a key lie together, the newest first,
//! so that a point read is one seek. Where keys differ in length a zero byte ends them, which they must not contain, so that no
//! version is taken for the rest of a key. A value is one byte (0 for a deletion) and the user's bytes.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::engine::{At, Direction, Durability, Engine, Options, Scan, Settings, Skip, Table, VisitChange, Write};
use crate::failure::{Failure, Outcome};

/// How the engines of this module keep versions, for their settings.
pub const VERSIONS_IN_KEYS: &str = "in the keys: table, user key, version inverted; newest first";

const VERSION_SIZE_BYTES: usize = 8;
/// Before the user's bytes of a value: there is one.
const PRESENT: u8 = 1;
/// In place of a value: deleted.
const DELETED: u8 = 0;
/// So many keys `reclaim` deletes with one write, or some more.
const RECLAIM_BATCH_KEYS: usize = 10_000;

/// An ordered store of bytes, as most engines are.
pub trait Ordered: Send + Sync + Sized {
    /// As [`Engine::NAME`].
    const NAME: &'static str;
    /// As [`Engine::PROMISES_LESS_IN`].
    const PROMISES_LESS_IN: &'static [&'static str] = &[];
    /// What reads run on: one consistent state.
    type Snapshot<'a>: Snapshot
    where
        Self: 'a;

    /// As [`Engine::settings`]; the versions are described by [`Versioned`].
    fn settings(options: &Options) -> Settings;

    /// As [`Engine::open`].
    fn open(options: &Options) -> Outcome<Self>;

    /// Writes all puts and deletions, or none. They come in the order of their keys.
    fn write(&self, puts: &[(Vec<u8>, Vec<u8>)], deletes: &[Vec<u8>], durability: Durability) -> Outcome<()>;

    /// The newest state.
    fn snapshot(&self) -> Outcome<Self::Snapshot<'_>>;

    /// The newest state, for one point read and no more: an engine may spare itself a transaction.
    fn snapshot_for_one(&self) -> Outcome<Self::Snapshot<'_>> {
        self.snapshot()
    }

    /// As [`Engine::settle`].
    fn settle(&self) -> Outcome<()>;

    /// As [`Engine::compact`].
    fn compact(&mut self) -> Outcome<()> {
        Ok(())
    }

    /// From now on, leaves out of compactions what no read at `version` or above can see ([`Superseded`]), if the engine can be told so. If
    /// not, false: then it is deleted key by key.
    fn reclaim_while_compacting(&self, _version: u64) -> bool {
        false
    }

    /// As [`Engine::close`].
    fn close(self) -> Outcome<()>;
}

/// Says of stored keys, in their order, which of them no read at a version or above can see, for engines that ask as they compact. Of a key
/// whose newer versions it was not shown, it lets one more stay.
///
/// ```
/// let mut superseded = thermocline_yardstick::versioned::Superseded::new(5);
/// // A table, a user key and the version inverted: 7, 5, 3 of one, 2 of another.
/// let stored = |owner: u8, version: u64| [&[owner, b'k'][..], &(!version).to_be_bytes()].concat();
/// let gone = [(1, 7), (1, 5), (1, 3), (2, 2)].map(|(owner, version)| superseded.is_gone(&stored(owner, version)));
/// assert_eq!(gone, [false, false, true, false]);
/// ```
#[derive(Clone, Debug)]
pub struct Superseded {
    version: u64,
    /// The last one that has an entry which such reads see.
    covered: Vec<u8>,
}

impl Superseded {
    /// For reads at this version and above.
    pub const fn new(version: u64) -> Self {
        Self { version, covered: Vec::new() }
    }

    /// Whether the next key's entry may go.
    pub fn is_gone(&mut self, key: &[u8]) -> bool {
        let Ok(Parts { owner, version }) = Parts::of(key) else { return false };
        if version > self.version {
            return false;
        }
        let is_gone = self.covered == owner;
        if !is_gone {
            self.covered.clear();
            self.covered.extend_from_slice(owner);
        }
        is_gone
    }
}

/// One state of an ordered store.
pub trait Snapshot {
    /// Walks it.
    type Cursor<'s>: Cursor
    where
        Self: 's;

    /// Hands the first entry at or above `key` to `visit`, if its key starts with the first `prefix_len` bytes of `key`; else `None`.
    /// An engine may use a filter over such prefixes: they are table and user key.
    fn first(&self, key: &[u8], prefix_len: usize, visit: &mut dyn FnMut(Option<Entry<'_>>)) -> Outcome<()>;

    /// A cursor that stands nowhere yet.
    fn cursor(&self, direction: Direction) -> Outcome<Self::Cursor<'_>>;
}

/// A key and a value.
pub type Entry<'a> = (&'a [u8], &'a [u8]);

/// A walk over a state in one direction.
pub trait Cursor {
    /// Forward: goes to the first entry at or above `key`. Reverse: to the last below `key`.
    fn seek(&mut self, key: &[u8]) -> Outcome<()>;

    /// Goes on by one entry.
    fn step(&mut self) -> Outcome<()>;

    /// The entry that it stands on; `None` beyond the last.
    fn entry(&self) -> Option<Entry<'_>>;
}

/// An [`Ordered`] store with versions in its keys.
#[derive(Debug)]
pub struct Versioned<O> {
    store: O,
    /// The last version given out.
    last: AtomicU64,
    has_terminator: bool,
}

/// A key as stored.
type Key = Vec<u8>;

/// An entry's key, taken apart.
#[derive(Clone, Copy, Debug)]
struct Parts<'a> {
    /// Table and user key as stored.
    owner: &'a [u8],
    version: u64,
}

impl<'a> Parts<'a> {
    #[expect(clippy::big_endian_bytes, reason = "keys are compared as bytes, the highest first")]
    fn of(key: &'a [u8]) -> Outcome<Self> {
        let (owner, version) = key
            .split_last_chunk::<VERSION_SIZE_BYTES>()
            .ok_or_else(|| Failure::Wrong(format!("a key of {} bytes", key.len())))?;
        Ok(Self { owner, version: !u64::from_be_bytes(*version) })
    }

    fn table(self) -> Option<Table> {
        self.owner.first().copied()
    }
}

/// The last bytes of the key of an entry at `version`.
#[expect(clippy::big_endian_bytes, reason = "keys are compared as bytes, the highest first")]
fn inverted(version: u64) -> [u8; VERSION_SIZE_BYTES] {
    (!version).to_be_bytes()
}

fn user_value(value: &[u8]) -> Option<&[u8]> {
    value.split_first().filter(|(mark, _)| **mark == PRESENT).map(|(_, value)| value)
}

/// The key of an owner's entry at `version`: the first that a read at that version looks at.
fn set_key(buffer: &mut Vec<u8>, owner: &[u8], version: u64) {
    buffer.clear();
    buffer.extend_from_slice(owner);
    buffer.extend_from_slice(&inverted(version));
}

/// A key above all of an owner's entries, and not above those of the next.
fn set_key_behind(buffer: &mut Vec<u8>, owner: &[u8]) {
    set_key(buffer, owner, 0);
    buffer.push(0);
}

impl<O: Ordered> Versioned<O> {
    fn owner(&self, table: Table, key: &[u8]) -> Vec<u8> {
        let mut owner = Vec::with_capacity(key.len() + 2 + VERSION_SIZE_BYTES + 1);
        owner.push(table);
        owner.extend_from_slice(key);
        if self.has_terminator {
            owner.push(0);
        }
        owner
    }

    fn user_key<'a>(&self, owner: &'a [u8]) -> &'a [u8] {
        let end = owner.len().saturating_sub(usize::from(self.has_terminator));
        owner.get(1..end).unwrap_or_default()
    }

    fn get_in(
        &self,
        snapshot: &O::Snapshot<'_>,
        table: Table,
        key: &[u8],
        at: At,
        visit: &mut dyn FnMut(Option<&[u8]>),
    ) -> Outcome<()> {
        let mut seek = self.owner(table, key);
        let owner_len = seek.len();
        seek.extend_from_slice(&inverted(at.bound()));
        snapshot.first(&seek, owner_len, &mut |entry| visit(entry.and_then(|(_, value)| user_value(value))))
    }

    fn scan_forward(&self, snapshot: &O::Snapshot<'_>, scan: &Scan<'_>, visit: &mut dyn FnMut(&[u8], &[u8])) -> Outcome<()> {
        let mut cursor = snapshot.cursor(Direction::Forward)?;
        let mut key = scan.from.map_or_else(|| vec![scan.table], |from| self.owner(scan.table, from));
        let mut owner = Vec::new();
        cursor.seek(&key)?;
        let mut rows = 0;
        while rows < scan.limit {
            let Some((entry_key, value)) = cursor.entry() else { break };
            let parts = Parts::of(entry_key)?;
            if parts.table() != Some(scan.table) {
                break;
            }
            if parts.version > scan.at.bound() {
                match scan.skip {
                    Skip::Step => cursor.step()?,
                    Skip::Seek => {
                        set_key(&mut key, parts.owner, scan.at.bound());
                        cursor.seek(&key)?;
                    }
                }
                continue;
            }
            if let Some(value) = user_value(value) {
                visit(self.user_key(parts.owner), value);
                rows += 1;
            }
            match scan.skip {
                Skip::Seek => {
                    set_key_behind(&mut key, parts.owner);
                    cursor.seek(&key)?;
                }
                Skip::Step => {
                    owner.clear();
                    owner.extend_from_slice(parts.owner);
                    step_over(&mut cursor, &owner)?;
                }
            }
        }
        Ok(())
    }

    fn scan_reverse(&self, snapshot: &O::Snapshot<'_>, scan: &Scan<'_>, visit: &mut dyn FnMut(&[u8], &[u8])) -> Outcome<()> {
        let mut cursor = snapshot.cursor(Direction::Reverse)?;
        let mut key = Vec::new();
        match scan.from {
            Some(from) => set_key_behind(&mut key, &self.owner(scan.table, from)),
            None => key.push(scan.table + 1),
        }
        cursor.seek(&key)?;
        let (mut owner, mut found, mut rows) = (Vec::new(), None::<Vec<u8>>, 0);
        while rows < scan.limit {
            let Some((entry_key, value)) = cursor.entry() else { break };
            let parts = Parts::of(entry_key)?;
            if parts.table() != Some(scan.table) {
                break;
            }
            owner.clear();
            owner.extend_from_slice(parts.owner);
            let mut buffer = found.take().unwrap_or_default();
            buffer.clear();
            match scan.skip {
                Skip::Seek => {
                    set_key(&mut key, &owner, scan.at.bound());
                    snapshot.first(&key, owner.len(), &mut |entry| {
                        buffer.extend_from_slice(entry.map_or(&[], |(_, value)| value));
                    })?;
                    set_key(&mut key, &owner, u64::MAX);
                    cursor.seek(&key)?;
                }
                Skip::Step => {
                    // The oldest comes first; the last one that is wanted stays.
                    if parts.version <= scan.at.bound() {
                        buffer.extend_from_slice(value);
                    }
                    loop {
                        cursor.step()?;
                        let Some((entry_key, value)) = cursor.entry() else { break };
                        let parts = Parts::of(entry_key)?;
                        if parts.owner != owner {
                            break;
                        }
                        if parts.version <= scan.at.bound() {
                            buffer.clear();
                            buffer.extend_from_slice(value);
                        }
                    }
                }
            }
            if let Some(value) = user_value(&buffer) {
                visit(self.user_key(&owner), value);
                rows += 1;
            }
            found = Some(buffer);
        }
        Ok(())
    }

    /// Finds the next entries that no read at `version` or later can see, from `start` on: of whole keys, until there are enough. Answers
    /// with their keys, the oldest of each user key first, and where to go on.
    fn covered(&self, start: &[u8], version: u64) -> Outcome<(Vec<Key>, Option<Key>)> {
        let snapshot = self.store.snapshot()?;
        let mut cursor = snapshot.cursor(Direction::Forward)?;
        cursor.seek(start)?;
        let (mut deletes, mut of_owner): (Vec<Key>, Vec<Key>) = (Vec::new(), Vec::new());
        let (mut owner, mut is_covered) = (Vec::new(), false);
        while let Some((key, value)) = cursor.entry() {
            let parts = Parts::of(key)?;
            if parts.owner != owner {
                deletes.extend(of_owner.drain(..).rev());
                if deletes.len() >= RECLAIM_BATCH_KEYS {
                    return Ok((deletes, Some(key.to_vec())));
                }
                owner = parts.owner.to_vec();
                is_covered = false;
            }
            if parts.version <= version {
                // The newest that a read at `version` sees stays, unless it is a deletion.
                if is_covered || user_value(value).is_none() {
                    of_owner.push(key.to_vec());
                }
                is_covered = true;
            }
            cursor.step()?;
        }
        deletes.extend(of_owner.drain(..).rev());
        Ok((deletes, None))
    }
}

fn step_over(cursor: &mut impl Cursor, owner: &[u8]) -> Outcome<()> {
    loop {
        cursor.step()?;
        let Some((key, _)) = cursor.entry() else { return Ok(()) };
        if Parts::of(key)?.owner != owner {
            return Ok(());
        }
    }
}

/// What a difference knows of the key it is at: of entries that come newest first.
#[derive(Debug, Default)]
struct Change {
    owner: Vec<u8>,
    /// The newest entry between the versions, as stored.
    after: Option<Vec<u8>>,
    /// The newest at or below the earlier version, as stored; only if there is one between.
    before: Option<Vec<u8>>,
    /// Nothing more of this key matters.
    is_settled: bool,
}

impl Change {
    /// Goes to the next key.
    fn start(&mut self, owner: &[u8]) {
        self.owner.clear();
        self.owner.extend_from_slice(owner);
        (self.after, self.before, self.is_settled) = (None, None, false);
    }

    fn note(&mut self, version: u64, value: &[u8], from: u64, to: u64) {
        if self.is_settled || version > to {
            return;
        }
        if version <= from {
            self.is_settled = true;
            self.before = self.after.is_some().then(|| value.to_vec());
        } else if self.after.is_none() {
            self.after = Some(value.to_vec());
        }
    }

    fn hand_out(&self, user_key: &[u8], visit: VisitChange<'_>) {
        let Some(after) = &self.after else { return };
        let (before, after) = (self.before.as_deref().and_then(user_value), user_value(after));
        if before != after {
            visit(user_key, before, after);
        }
    }
}

impl<O: Ordered> Engine for Versioned<O> {
    const NAME: &'static str = O::NAME;
    const HAS_SKIPS: bool = true;
    const PROMISES_LESS_IN: &'static [&'static str] = O::PROMISES_LESS_IN;

    fn settings(options: &Options) -> Settings {
        O::settings(options)
    }

    fn open(options: &Options) -> Outcome<Self> {
        let store = O::open(options)?;
        Ok(Self { store, last: AtomicU64::new(0), has_terminator: options.key_len.is_none() })
    }

    fn commit(&self, version: Option<u64>, writes: &[Write<'_>], durability: Durability) -> Outcome<()> {
        let version = match version {
            Some(version) => {
                self.last.store(version, Ordering::Relaxed);
                version
            }
            None => self.last.fetch_add(1, Ordering::Relaxed) + 1,
        };
        let mut puts: Vec<(Vec<u8>, Vec<u8>)> = Vec::with_capacity(writes.len());
        for write in writes {
            let mut key = self.owner(write.table, write.key);
            key.extend_from_slice(&inverted(version));
            let mut value = Vec::with_capacity(1 + write.value.map_or(0, <[u8]>::len));
            value.push(if write.value.is_some() { PRESENT } else { DELETED });
            value.extend_from_slice(write.value.unwrap_or_default());
            puts.push((key, value));
        }
        puts.sort_unstable();
        self.store.write(&puts, &[], durability)
    }

    fn get(&self, table: Table, key: &[u8], at: At, visit: &mut dyn FnMut(Option<&[u8]>)) -> Outcome<()> {
        self.get_in(&self.store.snapshot_for_one()?, table, key, at, visit)
    }

    fn get_many(&self, table: Table, keys: &[&[u8]], at: At, visit: &mut dyn FnMut(Option<&[u8]>)) -> Outcome<()> {
        let snapshot = self.store.snapshot()?;
        keys.iter().try_for_each(|key| self.get_in(&snapshot, table, key, at, visit))
    }

    fn scan(&self, scan: &Scan<'_>, visit: &mut dyn FnMut(&[u8], &[u8])) -> Outcome<()> {
        let snapshot = self.store.snapshot()?;
        match scan.direction {
            Direction::Forward => self.scan_forward(&snapshot, scan, visit),
            Direction::Reverse => self.scan_reverse(&snapshot, scan, visit),
        }
    }

    fn diff(&self, table: Table, from: u64, to: u64, skip: Skip, visit: VisitChange<'_>) -> Outcome<()> {
        let snapshot = self.store.snapshot()?;
        let mut cursor = snapshot.cursor(Direction::Forward)?;
        let (mut change, mut key) = (Change::default(), vec![table]);
        cursor.seek(&key)?;
        while let Some((entry_key, value)) = cursor.entry() {
            let parts = Parts::of(entry_key)?;
            if parts.table() != Some(table) {
                break;
            }
            if parts.owner != change.owner {
                change.hand_out(self.user_key(&change.owner), visit);
                change.start(parts.owner);
            }
            change.note(parts.version, value, from, to);
            match skip {
                Skip::Seek if change.is_settled => {
                    set_key_behind(&mut key, parts.owner);
                    cursor.seek(&key)?;
                }
                Skip::Seek if change.after.is_some() || parts.version > to => {
                    set_key(&mut key, parts.owner, if parts.version > to { to } else { from });
                    cursor.seek(&key)?;
                }
                Skip::Seek | Skip::Step => cursor.step()?,
            }
        }
        change.hand_out(self.user_key(&change.owner), visit);
        Ok(())
    }

    fn reclaim(&self, version: u64) -> Outcome<()> {
        if self.store.reclaim_while_compacting(version) {
            return Ok(());
        }
        let mut start = Some(vec![0]);
        while let Some(from) = start {
            // The snapshot is gone before the write: an old state that is held keeps some engines from using space again.
            let (deletes, next) = self.covered(&from, version)?;
            if !deletes.is_empty() {
                self.store.write(&[], &deletes, Durability::Buffered)?;
            }
            start = next;
        }
        Ok(())
    }

    fn settle(&self) -> Outcome<()> {
        self.store.settle()
    }

    fn compact(&mut self) -> Outcome<()> {
        self.store.compact()
    }

    fn close(self) -> Outcome<()> {
        self.store.close()
    }
}
