//! Scripted runs of everything that changes a tier, and what must be there after each act: for power cuts and faults.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use thermocline_conformance::ModelTier;
use thermocline_hot::HotTier;
use thermocline_io::SimDisk;
use thermocline_tier::{
    Checkpoint, DropVersion, DurableTier, EntryKind, KeyRange, RangeRequest, ReadWindow, Result, TierBatch, TierStorage, Version,
};
use thermocline_warm::{Compression, WarmOptions, WarmTier};

use crate::backends::{compact, open, small};
use crate::support::{MULTI, OPERATOR, Random, SOURCE, batch, row};

const TABLES: [EntryKind; 3] = [MULTI, SOURCE, OPERATOR];

/// Something that is done to a tier.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    Set(TierBatch),
    /// Flushes these batches from a tier in memory: a model, or a hot tier.
    Absorb(Vec<TierBatch>, Checkpoint, bool),
    Ensure(EntryKind),
    Clear(EntryKind),
    Drop(Vec<DropVersion>),
    Horizon(Version),
    Step,
    Compact(EntryKind, KeyRange),
    CompactAll,
}

impl Act {
    pub(crate) fn carry_out(&self, tier: &WarmTier) -> Result<()> {
        match self {
            Self::Set(batch) => tier.set(batch),
            Self::Absorb(batches, checkpoint, is_hot) => {
                let (hot, model) = (HotTier::default(), ModelTier::new());
                let source: &dyn TierStorage = if *is_hot { &hot } else { &model };
                batches.iter().try_for_each(|batch| source.set(batch))?;
                tier.absorb(source, checkpoint.clone())
            }
            Self::Ensure(table) => tier.ensure_table(*table),
            Self::Clear(table) => tier.clear_table(*table),
            Self::Drop(drops) => tier.drop_versions(drops),
            Self::Horizon(horizon) => tier.set_horizon(*horizon),
            Self::Step => tier.step().map(drop),
            Self::Compact(table, range) => tier.compact(*table, range, &|| {}),
            Self::CompactAll => compact(tier),
        }
    }
}

/// What can be seen of a tier: of each key every version above the horizon, and the value at the horizon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) horizon: Version,
    checkpoint: Checkpoint,
    tables: Vec<EntryKind>,
    entries: Vec<String>,
}

impl Look {
    fn of(tier: &dyn TierStorage, horizon: Version, checkpoint: Checkpoint) -> Result<Self> {
        let mut entries = Vec::new();
        let mut last: Option<(EntryKind, Vec<u8>)> = None;
        tier.visit_entries(&mut |table, entry| {
            if entry.version > horizon {
                entries.push(format!("{table} {}", row(entry)));
            } else if last.as_ref().is_none_or(|(last, prefix)| *last != table || *prefix != entry.prefix) {
                // The newest at or below the horizon; a tombstone there is as good as nothing.
                if entry.value.is_some() {
                    entries.push(format!("{table} {}", row(entry)));
                }
                last = Some((table, entry.prefix.to_vec()));
            }
            Ok(())
        })?;
        Ok(Self { horizon, checkpoint, tables: tier.tables()?, entries })
    }

    pub(crate) fn of_tier(tier: &WarmTier) -> Result<Self> {
        Self::of(tier, tier.horizon(), tier.checkpoint())
    }

    /// Whether a scan of the latest state says the same.
    pub(crate) fn check_scan(&self, tier: &Arc<WarmTier>) -> Result<()> {
        for table in &self.tables {
            let request = RangeRequest {
                table: *table,
                range: KeyRange::all(),
                window: ReadWindow::as_of(Version::MAX),
                direction: thermocline_tier::Direction::Forward,
            };
            let mut scan = Arc::clone(tier).scan(request)?;
            let mut batch = thermocline_tier::RangeBatch::new();
            scan.next_batch(10_000, &mut batch)?;
            for entry in batch.iter().filter(|entry| entry.value.is_some()) {
                let found = format!("{table} {}", row(entry));
                assert!(self.entries.contains(&found), "{found} is not among the entries");
                assert_eq!(tier.get(*table, entry.prefix, Version::MAX)?.version(), Some(entry.version));
            }
        }
        Ok(())
    }
}

/// What a run knows beside the tier.
#[derive(Debug)]
pub(crate) struct Script {
    random: Random,
    model: ModelTier,
    horizon: Version,
    checkpoint: Checkpoint,
    version: u64,
    keys: u64,
}

impl Clone for Script {
    fn clone(&self) -> Self {
        let model = ModelTier::new();
        for table in self.model.tables().unwrap() {
            model.ensure_table(table).unwrap();
        }
        let visited = self.model.visit_entries(&mut |table, entry| {
            let mut batch = TierBatch::empty(entry.version);
            batch.push_sorted(table, entry.prefix, entry.suffix, entry.value)?;
            model.set(&batch)
        });
        visited.unwrap();
        let (random, checkpoint) = (self.random.clone(), self.checkpoint.clone());
        Self { random, model, checkpoint, ..*self }
    }
}

impl Script {
    pub(crate) fn new(seed: u64) -> Self {
        let (model, checkpoint) = (ModelTier::new(), Checkpoint::default());
        Self { random: Random(seed), model, horizon: Version::ZERO, checkpoint, version: 0, keys: 12 }
    }

    /// Options that differ from seed to seed.
    pub(crate) fn options(seed: u64) -> WarmOptions {
        let compression = [Compression::None, Compression::Lz4, Compression::Zstd(-1)][seed as usize % 3];
        WarmOptions { compression_flushed: compression, level0_flushes: 2 + seed as usize % 2, ..small() }
    }

    fn version(&mut self) -> u64 {
        if self.version > self.horizon.0 + 1 && self.random.chance(15) {
            // A late one, or one that is there already; never below the horizon.
            return self.horizon.0 + 1 + self.random.below(self.version - self.horizon.0);
        }
        self.version += 1 + self.random.below(2);
        self.version
    }

    fn batch(&mut self) -> TierBatch {
        let version = self.version();
        let writes: Vec<(EntryKind, String, Option<Vec<u8>>)> = (0..=self.random.below(4))
            .map(|_| {
                let table = TABLES[self.random.index(3)];
                let key = format!("key/{:02}{}", self.random.below(self.keys), if self.random.chance(30) { "#sfx" } else { "" });
                let len = [0, 20, 400, 400, 4200][self.random.index(5)];
                (table, key, (!self.random.chance(25)).then(|| self.random.bytes(len)))
            })
            .collect();
        let writes: Vec<_> = writes.iter().map(|(table, key, value)| (*table, key.as_bytes(), value.as_deref())).collect();
        batch(version, &writes)
    }

    fn drops(&mut self) -> Vec<DropVersion> {
        let mut all = Vec::new();
        let visited = self.model.visit_entries(&mut |table, entry| {
            all.push(DropVersion { table, prefix: Bytes::copy_from_slice(entry.prefix), version: entry.version });
            Ok(())
        });
        visited.unwrap();
        // Below the horizon nobody can say any more which versions are there to be uncovered.
        all.retain(|drop| drop.version > self.horizon);
        let mut drops: Vec<DropVersion> =
            (0..self.random.below(3)).filter_map(|_| all.get(self.random.index(all.len().max(1))).cloned()).collect();
        drops.push(DropVersion { table: MULTI, prefix: "absent".into(), version: Version(1) });
        drops
    }

    pub(crate) fn next(&mut self) -> Act {
        match self.random.below(20) {
            0..6 => Act::Set(self.batch()),
            6..9 => {
                let batches: Vec<TierBatch> = (0..=self.random.below(5)).map(|_| self.batch()).collect();
                let state = Bytes::from(format!("state {}", self.version));
                Act::Absorb(batches, Checkpoint { version: Version(self.version), state }, self.random.chance(50))
            }
            9 => Act::Ensure(TABLES[self.random.index(3)]),
            10 => Act::Clear(TABLES[self.random.index(3)]),
            11 => Act::Drop(self.drops()),
            12 => Act::Horizon(Version(
                self.horizon.0 + self.random.below((self.version - self.horizon.0.min(self.version)) / 2 + 1),
            )),
            13 => {
                let (start, end) = (self.random.below(self.keys), self.random.below(self.keys + 1));
                Act::Compact(TABLES[self.random.index(3)], KeyRange::new(format!("key/{start:02}")..format!("key/{end:02}")))
            }
            14 => Act::CompactAll,
            _ => Act::Step,
        }
    }

    /// What the act makes of the content.
    pub(crate) fn apply(&mut self, act: &Act) {
        match act {
            Act::Set(batch) => self.model.set(batch).unwrap(),
            Act::Absorb(batches, checkpoint, _) => {
                for batch in batches {
                    self.model.set(batch).unwrap();
                }
                self.checkpoint = checkpoint.clone();
            }
            Act::Ensure(table) => self.model.ensure_table(*table).unwrap(),
            Act::Clear(table) => self.model.clear_table(*table).unwrap(),
            Act::Drop(drops) => self.model.drop_versions(drops).unwrap(),
            Act::Horizon(horizon) => self.horizon = self.horizon.max(*horizon),
            Act::Step | Act::Compact(..) | Act::CompactAll => {}
        }
    }

    pub(crate) fn look(&self) -> Look {
        Look::of(&self.model, self.horizon, self.checkpoint.clone()).unwrap()
    }
}

/// A run without faults. Marks on the disk count the acts that were answered.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) disk: SimDisk,
    pub(crate) options: WarmOptions,
    /// After each number of acts.
    pub(crate) looks: Vec<Arc<Look>>,
    pub(crate) acts: BTreeMap<usize, Act>,
}

impl Run {
    /// A tier that is opened anew after every `reopen_every` acts.
    pub(crate) fn play(seed: u64, count: usize, reopen_every: usize) -> Self {
        let (disk, options, mut script) = (SimDisk::new(seed), Script::options(seed), Script::new(seed));
        let mut run =
            Self { disk: disk.clone(), options: options.clone(), looks: vec![Arc::new(script.look())], acts: BTreeMap::new() };
        let mut tier = None;
        for number in 0..count {
            if number % reopen_every == 0 {
                drop(tier.take());
                tier = Some(open(&disk, options.clone()).unwrap());
            }
            let act = script.next();
            act.carry_out(tier.as_ref().unwrap()).unwrap_or_else(|error| panic!("seed {seed}, {act:?}: {error}"));
            script.apply(&act);
            let is_same = matches!(act, Act::Step | Act::Compact(..) | Act::CompactAll);
            let look = if is_same { Arc::clone(run.looks.last().unwrap()) } else { Arc::new(script.look()) };
            run.looks.push(look);
            run.acts.insert(number, act);
            disk.mark(number as u64 + 1);
        }
        run
    }
}
