//! What the tests share: random edits that are possible, scripted runs on a simulated disk, and what may be found after one was
//! interrupted anywhere.

use std::sync::Arc;

use bytes::Bytes;
use thermocline_format::{Corruption, StoreId};
use thermocline_io::{Disk, FileId, SimDisk};
use thermocline_tier::{Checkpoint, EntryKind, Error, ErrorKind, Result, TableStats, Version};

use crate::manifest::state::LEVEL_MAX;
use crate::manifest::{Edit, Manifest, State};
use crate::meta::{FileMeta, TableKey};

pub(super) const STORE: StoreId = StoreId([7; 16]);

/// Random numbers that follow from a seed (`SplitMix64`).
#[derive(Clone, Debug)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn pick<T: Copy>(&mut self, of: impl ExactSizeIterator<Item = T>) -> Option<T> {
        let mut of = of;
        let count = of.len() as u64;
        (count > 0).then(|| of.nth(self.below(count) as usize)).flatten()
    }
}

pub(super) fn shared(disk: &SimDisk) -> Arc<dyn Disk> {
    Arc::new(disk.clone())
}

pub(super) fn open(disk: &SimDisk) -> Result<Option<(Manifest, State)>> {
    Manifest::open(shared(disk), Some(STORE), false)
}

pub(super) fn read_only(disk: &SimDisk) -> Result<Option<(Manifest, State)>> {
    Manifest::open(shared(disk), Some(STORE), true)
}

/// The numbers of the manifests in the directory.
pub(super) fn manifests(disk: &SimDisk) -> Vec<u64> {
    let number = |id| if let FileId::Manifest(number) = id { Some(number) } else { None };
    disk.files().into_iter().filter_map(|(id, _)| number(id)).collect()
}

/// The damage that an error reports.
pub(super) fn damage(error: &Error) -> Option<&Corruption> {
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(damage) = inner.downcast_ref::<Corruption>() {
            return Some(damage);
        }
        source = inner.source();
    }
    None
}

pub(super) fn key(table: EntryKind, prefix: &[u8]) -> TableKey {
    TableKey { table, prefix: prefix.to_vec() }
}

/// A file whose keys no file of another number has.
pub(super) fn file(number: u64, level: u8) -> FileMeta {
    let stats = TableStats { keys: number, entries: 2 * number, tombstones: 1, user_bytes: 100 * number };
    FileMeta {
        number,
        level,
        size_bytes: 4096 * number,
        checksum: number.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        first: key(EntryKind::Multi, format!("{number:020}a").as_bytes()),
        last: key(EntryKind::Multi, format!("{number:020}z").as_bytes()),
        version_min: Version(number),
        version_max: Version(2 * number),
        applied: 0,
        rank: number,
        tables: vec![(EntryKind::Multi, stats)],
        summary: Bytes::new(),
    }
}

fn table(random: &mut Random) -> EntryKind {
    [EntryKind::Multi, EntryKind::source(1), EntryKind::source(7), EntryKind::operator(u32::MAX)][random.below(4) as usize]
}

fn random_file(random: &mut Random, state: &State, number: u64) -> FileMeta {
    let mut made = file(number, random.below(5) as u8);
    made.applied = random.below(state.marker_last + 1);
    let len = match random.below(1000) {
        0 => 64 * 1024,
        1..500 => 0,
        _ => random.below(300) as usize,
    };
    made.summary = vec![random.next() as u8; len].into();
    if random.below(500) == 0 {
        // The longest key there can be.
        made.last.prefix.resize(65_535, b'~');
    }
    if random.chance(20) {
        // Over several tables, and so over whatever else is there: only level 0 can have it.
        made.level = 0;
        let other = EntryKind::source(random.below(9) as u32);
        made.last = key(other, b"");
        let stats = TableStats { keys: 1, entries: u64::MAX, tombstones: u64::MAX, user_bytes: random.next() };
        made.tables.push((other, stats));
    }
    made
}

/// An edit that may be possible.
fn attempt(random: &mut Random, state: &State) -> Edit {
    let mut edit = Edit::default();
    let mut number = state.file_number_next + random.below(3);
    for _ in 0..[0, 0, 1, 1, 1, 2, 3, 8][random.below(8) as usize] {
        edit.add.push(random_file(random, state, number));
        number += 1 + random.below(2);
    }
    for _ in 0..random.below(3) {
        if let Some(number) = random.pick(state.files.keys())
            && !edit.remove.contains(number)
            && !edit.moves.iter().any(|(moved, _)| moved == number)
        {
            if random.chance(60) {
                edit.remove.push(*number);
            } else {
                edit.moves.push((*number, random.below(u64::from(LEVEL_MAX) + 1) as u8));
            }
        }
    }
    if let Some(number) = random.pick(state.files.keys())
        && random.chance(20)
    {
        edit.summaries = vec![(*number, Bytes::from(vec![random.next() as u8; random.below(40) as usize]))];
    }
    if random.chance(30) {
        edit.tables = (0..random.below(3)).map(|_| table(random)).collect();
    }
    if random.chance(30) {
        let longest = if random.chance(5) { 10_000 } else { 50 };
        let len = random.below(longest) as usize;
        let version = Version(state.checkpoint.version.0 + random.below(100));
        edit.checkpoint = Some(Checkpoint { version, state: Bytes::from(vec![random.next() as u8; len]) });
    }
    if random.chance(10) {
        edit.horizon = Some(Version(state.horizon.0 + random.below(10)));
    }
    markers(random, state, &mut edit);
    edit
}

fn markers(random: &mut Random, state: &State, edit: &mut Edit) {
    let mut marker = state.marker_last;
    let mut next = || {
        marker += 1;
        marker
    };
    for _ in 0..random.below(10).saturating_sub(7) {
        let prefix = random.below(1000).to_le_bytes();
        edit.drops.push((key(table(random), &prefix), Version(random.below(5)), next()));
    }
    if random.chance(10) {
        edit.clears.push((table(random), next()));
    }
    if let Some(drop) = random.pick(state.drops.keys())
        && random.chance(20)
    {
        edit.forget_drops.push(drop.clone());
    }
    if let Some(table) = random.pick(state.clears.keys())
        && random.chance(20)
    {
        edit.forget_clears.push(*table);
    }
}

/// A random edit, and the state after it.
pub(super) fn random_edit(random: &mut Random, state: &State) -> (Edit, State) {
    loop {
        let edit = attempt(random, state);
        let mut after = state.clone();
        if after.apply(&edit).is_ok() {
            return (edit, after);
        }
    }
}

/// What a run knows at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Knowledge {
    /// What was acknowledged last; `None` before the manifest was.
    pub(super) known: Option<State>,
    /// What is under way, or of which it was never said whether it is there.
    pub(super) possible: Option<State>,
}

impl Knowledge {
    pub(super) fn check(&self, found: Option<&State>) -> std::result::Result<(), String> {
        let is_right = found == self.known.as_ref() || (found.is_some() && found == self.possible.as_ref());
        if is_right {
            Ok(())
        } else {
            Err(format!("found {}, known {self:?}", found.map_or("nothing".into(), |state| format!("{state:?}"))))
        }
    }
}

/// A scripted run under way.
pub(super) struct Run {
    pub(super) disk: SimDisk,
    pub(super) random: Random,
    pub(super) manifest: Option<Manifest>,
    pub(super) knowledge: Knowledge,
    /// By mark.
    marks: Vec<Knowledge>,
    pub(super) rewrite_size_bytes_min: u64,
}

impl Run {
    pub(super) fn new(seed: u64) -> Self {
        let rewrite_size_bytes_min = [20_000, 40_000, 1 << 20][(seed % 3) as usize];
        let (manifest, knowledge, marks) = (None, Knowledge::default(), Vec::new());
        Self { disk: SimDisk::new(seed), random: Random(seed), manifest, knowledge, marks, rewrite_size_bytes_min }
    }

    fn mark(&mut self) {
        self.disk.mark(self.marks.len() as u64);
        self.marks.push(self.knowledge.clone());
    }

    /// What was known when the power went.
    pub(super) fn knowledge_at(&self, mark: Option<u64>) -> Knowledge {
        mark.map_or_else(Knowledge::default, |mark| self.marks[mark as usize].clone())
    }

    /// Opens the manifest, or makes it, and checks what it says.
    pub(super) fn open(&mut self) -> Result<()> {
        let (mut manifest, state) = if let Some(opened) = open(&self.disk)? {
            opened
        } else {
            assert!(self.knowledge.known.is_none(), "the manifest is gone");
            self.knowledge.possible = Some(State::default());
            self.mark();
            (Manifest::create(shared(&self.disk), STORE)?, State::default())
        };
        self.knowledge.check(Some(&state)).unwrap();
        self.knowledge = Knowledge { known: Some(state), possible: None };
        self.mark();
        manifest.set_rewrite_size_bytes_min(self.rewrite_size_bytes_min);
        self.manifest = Some(manifest);
        Ok(())
    }

    /// Commits a random edit.
    pub(super) fn commit(&mut self) -> Result<()> {
        let before = self.knowledge.known.clone().unwrap();
        let (edit, after) = random_edit(&mut self.random, &before);
        self.knowledge.possible = Some(after.clone());
        self.mark();
        let result = self.manifest.as_mut().unwrap().commit(&edit, &after);
        match &result {
            Ok(()) => self.knowledge = Knowledge { known: Some(after), possible: None },
            // It is not known whether it is there.
            Err(error) if error.kind() == &ErrorKind::Poisoned => {}
            // It must never be found.
            Err(_) => self.knowledge.possible = None,
        }
        self.mark();
        result
    }

    /// One step of the script.
    pub(super) fn step(&mut self) -> Result<()> {
        if self.manifest.is_none() || self.random.chance(5) {
            self.manifest = None;
            return self.open();
        }
        if self.random.chance(10) {
            self.manifest.as_ref().unwrap().verify()?;
        }
        self.commit()
    }

    pub(super) fn play(&mut self, steps: usize) -> Result<()> {
        self.open()?;
        (0..steps).try_for_each(|_| self.step())
    }
}
