//! A scripted run of a log on a simulated disk, and what may be found after it was interrupted anywhere.

use std::sync::Arc;

use thermocline_io::{Disk, SimDisk};
use thermocline_tier::{BatchBuilder, EntryKind, ErrorKind, Result, TierBatch, Version, WholeKey};
use thermocline_wal::{Durability, Log, LogBase, LogEntry, LogOptions, Padding, Preallocate};

use crate::support::{Item, Random, expected, open_from};

/// Runs with seeds from here on also cut their logs.
pub(crate) const CUTTING: u64 = 1_000;

/// What the run knows at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Knowledge {
    /// Groups that were acknowledged, with one that is under way at the end.
    pub(crate) groups: Vec<Vec<Item>>,
    /// So many groups are durable.
    pub(crate) durable: usize,
    /// So many groups the operating system has.
    pub(crate) written: usize,
    /// Where the log begins, as a manifest would say.
    pub(crate) base: Option<LogBase>,
}

impl Knowledge {
    /// Checks a history that was found, of which at least the first `least` groups must be there; returns how many are.
    pub(crate) fn check(&self, found: &[Item], least: usize) -> std::result::Result<usize, String> {
        let mut first = Err("no place to begin".to_owned());
        for start in self.starts() {
            first = self.check_from(start, found, least);
            if first.is_ok() {
                break;
            }
        }
        first
    }

    /// The groups with which the log may begin. More than one only if groups without a version stand at the base.
    fn starts(&self) -> std::ops::RangeInclusive<usize> {
        let Some(base) = &self.base else { return 0..=0 };
        let version = |group: &Vec<Item>| group.iter().filter_map(Item::version).max();
        let is_below = |group: &Vec<Item>| version(group).is_some_and(|version| version <= base.after.0);
        let is_above = |group: &Vec<Item>| version(group).is_some_and(|version| version > base.after.0);
        let below = self.groups.iter().rposition(is_below).map_or(0, |place| place + 1);
        below..=self.groups.iter().position(is_above).unwrap_or(self.groups.len())
    }

    fn check_from(&self, start: usize, found: &[Item], least: usize) -> std::result::Result<usize, String> {
        let mut rest = found;
        for (number, group) in self.groups.iter().enumerate().skip(start) {
            if rest.is_empty() {
                return if number >= least {
                    Ok(number)
                } else {
                    Err(format!("only {number} of {least} groups that must be there"))
                };
            }
            let Some(after) = rest.strip_prefix(group.as_slice()) else {
                return Err(format!("group {number} is {:?}, not {group:?}", rest.get(..group.len().min(rest.len()))));
            };
            rest = after;
        }
        if rest.is_empty() { Ok(self.groups.len()) } else { Err(format!("{} items that nobody wrote: {rest:?}", rest.len())) }
    }
}

/// A run under way.
pub(crate) struct Run {
    pub(crate) disk: SimDisk,
    pub(crate) options: LogOptions,
    pub(crate) random: Random,
    pub(crate) log: Option<Log>,
    pub(crate) knowledge: Knowledge,
    /// By mark.
    pub(crate) marks: Vec<Knowledge>,
    version: u64,
    cuts: bool,
    /// For messages.
    pub(crate) name: String,
}

pub(crate) fn options(seed: u64) -> LogOptions {
    LogOptions {
        segment_size_bytes: [8192, 12_288, 20_480, 65_536][(seed % 4) as usize],
        padding: [Padding::Page4096, Padding::Sector512, Padding::None][(seed / 4 % 3) as usize],
        preallocate: [Preallocate::Zeroed, Preallocate::No][(seed / 12 % 2) as usize],
        stage_size_bytes: [0, 300, 4000][(seed / 3 % 3) as usize],
    }
}

impl Run {
    pub(crate) fn new(seed: u64, options: LogOptions) -> Self {
        Self {
            disk: SimDisk::new(seed),
            options,
            random: Random(seed),
            log: None,
            knowledge: Knowledge::default(),
            marks: Vec::new(),
            version: 0,
            cuts: seed >= CUTTING,
            name: format!("seed {seed}"),
        }
    }

    pub(crate) fn shared_disk(&self) -> Arc<dyn Disk> {
        Arc::new(self.disk.clone())
    }

    fn mark(&mut self) {
        self.disk.mark(self.marks.len() as u64);
        self.marks.push(self.knowledge.clone());
    }

    /// What was known when the power went. Without a mark nothing was.
    pub(crate) fn knowledge_at(&self, mark: Option<u64>) -> Knowledge {
        mark.map_or_else(Knowledge::default, |mark| self.marks[mark as usize].clone())
    }

    /// Opens the log on the run's disk and checks what it has. Opening makes it durable.
    pub(crate) fn open(&mut self) -> Result<()> {
        let opened = open_from(&self.shared_disk(), &self.options, false, self.knowledge.base.as_ref())?;
        let found = self.knowledge.check(&opened.items, self.knowledge.written);
        let found = found.unwrap_or_else(|why| panic!("{}: {why}", self.name));
        self.knowledge.groups.truncate(found);
        self.knowledge.written = found;
        self.knowledge.durable = found;
        self.version = self.knowledge.groups.iter().flatten().filter_map(Item::version).max().unwrap_or(0);
        self.log = Some(opened.log);
        self.mark();
        Ok(())
    }

    /// One step of the script.
    pub(crate) fn step(&mut self) -> Result<()> {
        if self.cuts && self.random.chance(15) {
            return self.cut();
        }
        match self.random.below(100) {
            0..5 => {
                let log = self.log.take().unwrap();
                log.close()?;
                drop(log);
                self.knowledge.written = self.knowledge.groups.len();
                self.knowledge.durable = self.knowledge.written;
                self.open()
            }
            5..9 => {
                // The process dies without the power failing.
                self.log = None;
                self.open()
            }
            9..16 => self.log.as_ref().unwrap().background_step().map(|_| ()),
            16..20 => self.log.as_ref().unwrap().witness_step().map(|_| ()),
            20..26 => self.sync(),
            _ => self.append().map(|_| ()),
        }
    }

    /// Some or all of: goes on in a fresh segment, notes where the log is to begin, and cuts it.
    fn cut(&mut self) -> Result<()> {
        let (rotates, keep, cuts) = (self.random.chance(70), self.random.below(4), self.random.chance(70));
        let log = self.log.as_ref().unwrap();
        if rotates {
            log.rotate()?;
            // All but what could not be written to the segment before, and moved along.
            let durable = log.durable_version().0;
            let is_known = |group: &Vec<Item>| group.iter().any(|item| item.version().is_some_and(|version| version <= durable));
            let known = self.knowledge.groups.iter().rposition(is_known).map_or(0, |place| place + 1);
            self.knowledge.durable = self.knowledge.durable.max(known);
            self.knowledge.written = self.knowledge.written.max(known);
        }
        let base = log.base([0, 0, 9_000, u64::MAX][keep as usize]);
        let noted = self.knowledge.base.as_ref().map_or(0, |base| base.number);
        if base.number > noted {
            self.knowledge.base = Some(base.clone());
        }
        self.mark();
        let log = self.log.as_ref().unwrap();
        // An older base than the one that was noted changes nothing that matters.
        if cuts { log.cut(&base).map(|_| ()) } else { Ok(()) }
    }

    pub(crate) fn sync(&mut self) -> Result<()> {
        self.log.as_ref().unwrap().sync()?;
        self.knowledge.written = self.knowledge.groups.len();
        self.knowledge.durable = self.knowledge.written;
        self.mark();
        Ok(())
    }

    /// Appends a random group.
    pub(crate) fn append(&mut self) -> Result<Durability> {
        let durability = match self.random.below(10) {
            0..4 => Durability::Sync,
            4..7 => Durability::Buffered,
            _ => Durability::Memory,
        };
        let count = 1 + self.random.below(3);
        let parts: Vec<Part> = (0..count).map(|_| self.part()).collect();
        let entries: Vec<LogEntry<'_>> = parts.iter().map(Part::entry).collect();
        self.knowledge.groups.push(entries.iter().map(expected).collect());
        self.mark();
        let result = self.log.as_ref().unwrap().append(&entries, durability);
        match result {
            Ok(()) => {
                if durability >= Durability::Buffered {
                    self.knowledge.written = self.knowledge.groups.len();
                }
                if durability == Durability::Sync {
                    self.knowledge.durable = self.knowledge.groups.len();
                }
                self.mark();
                Ok(durability)
            }
            Err(error) => {
                // Refused: it must never be found. Unknown: it may be.
                if !matches!(error.kind(), ErrorKind::CommitUnknown { .. }) {
                    self.knowledge.groups.pop();
                }
                self.mark();
                Err(error)
            }
        }
    }

    fn part(&mut self) -> Part {
        let table = [EntryKind::Multi, EntryKind::source(1), EntryKind::operator(9)][self.random.below(3) as usize];
        let time = self.random.next();
        match self.random.below(12) {
            0 => Part::Ensure(table),
            1 => Part::Purge(self.next_version(), time, table),
            2 => Part::Note(vec![0x6e; self.random.below(300) as usize]),
            _ => {
                let version = self.next_version();
                let clears = if self.random.chance(10) { vec![table] } else { vec![] };
                Part::Commit(time, self.batch(version), clears)
            }
        }
    }

    fn next_version(&mut self) -> Version {
        self.version += 1 + self.random.below(2);
        Version(self.version)
    }

    fn batch(&mut self, version: Version) -> TierBatch {
        let mut builder = BatchBuilder::new();
        let count = self.random.below(5);
        // Now and then a commit that is longer than a segment.
        let long = if self.random.chance(3) { 9_000 } else { 200 };
        for _ in 0..count {
            let key = format!("{}", self.random.below(40));
            let table = [EntryKind::Multi, EntryKind::source(1), EntryKind::operator(9)][self.random.below(3) as usize];
            if self.random.chance(20) {
                builder.remove(table, key.as_bytes()).unwrap();
            } else {
                let len = self.random.below(long) as usize;
                let byte = self.random.next() as u8;
                builder.put(table, key.as_bytes(), &vec![byte; len]).unwrap();
            }
        }
        builder.finish(&WholeKey, version)
    }

    /// Takes a step; failures other than of syncs are looked at and survived. Returns whether the log can go on.
    pub(crate) fn step_through(&mut self, refused: &mut u64) -> bool {
        let result = if self.log.is_some() { self.step() } else { self.open() };
        let Err(error) = result else { return true };
        *refused += 1;
        match error.kind() {
            ErrorKind::CommitUnknown { .. } | ErrorKind::Poisoned => false,
            ErrorKind::DiskFull | ErrorKind::Io => true,
            _ => panic!("unexpected: {error}"),
        }
    }

    /// Opens a log and takes so many steps.
    pub(crate) fn play(&mut self, steps: usize) -> Result<()> {
        self.open()?;
        (0..steps).try_for_each(|_| self.step())
    }
}

enum Part {
    Commit(u64, TierBatch, Vec<EntryKind>),
    Ensure(EntryKind),
    Purge(Version, u64, EntryKind),
    Note(Vec<u8>),
}

impl Part {
    fn entry(&self) -> LogEntry<'_> {
        match self {
            Self::Commit(time, batch, clears) => LogEntry::Commit { time: *time, batch, clears },
            Self::Ensure(table) => LogEntry::EnsureTable { table: *table },
            Self::Note(bytes) => LogEntry::Note { bytes },
            Self::Purge(version, time, table) => LogEntry::PurgeTable { version: *version, time: *time, table: *table },
        }
    }
}
