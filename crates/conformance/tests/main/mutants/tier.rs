//! The model with a fault: what every mutation does to it.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use thermocline_conformance::ModelTier;
use thermocline_tier::{
    BatchBuilder, DropVersion, EntryKind, EntryRef, ErrorKind, KeyLayout, KeyRef, Lookup, PagedScan, RangeBatch, RangeCursor,
    RangeRequest, RawEntry, Result, TierBatch, TierScan, TierStats, TierStorage, Version,
};

use crate::mutants::mutation::Mutation as M;
use crate::mutants::page;

/// Gives other threads a chance to look at what is half done.
pub(crate) fn pause() {
    (0..20).for_each(|_| thermocline_io::sync::yield_now());
}

/// The model, wrong in one way.
#[derive(Debug)]
pub(crate) struct MutantTier {
    pub(crate) inner: ModelTier,
    pub(crate) mutation: M,
    pub(crate) memory: Mutex<Memory>,
}

/// What some mutations remember.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// (table, prefix, version) written more than once.
    rewritten: BTreeSet<(EntryKind, Bytes, Version)>,
    /// What was dropped.
    pub(crate) dropped: Vec<(EntryKind, RawEntry)>,
    /// What was cleared.
    pub(crate) cleared: Vec<(EntryKind, RawEntry)>,
    pub(crate) is_flushed: bool,
    /// Tables that are not listed while they are empty.
    pub(crate) forgotten: BTreeSet<EntryKind>,
}

impl MutantTier {
    pub(crate) fn new(mutation: M, inner: ModelTier) -> Self {
        Self { inner, mutation, memory: Mutex::default() }
    }

    pub(crate) fn is(&self, mutation: M) -> bool {
        self.mutation == mutation
    }

    fn name(&self, prefix: &[u8]) -> Vec<u8> {
        match self.mutation {
            M::KeysEndAtZero => prefix.split(|byte| *byte == 0).next().unwrap_or_default().to_vec(),
            M::KeysFoldCase => prefix.to_ascii_lowercase(),
            M::KeysCut => prefix[..prefix.len().min(4096)].to_vec(),
            _ => prefix.to_vec(),
        }
    }

    /// All entries of a table, in order of key, newest first.
    pub(crate) fn entries(&self, table: EntryKind) -> Vec<RawEntry> {
        page::keys_of(&self.inner, table).iter().flat_map(|key| self.all_of(table, key)).collect()
    }

    pub(crate) fn all_of(&self, table: EntryKind, prefix: &[u8]) -> Vec<RawEntry> {
        self.inner.get_all_versions(table, prefix).unwrap_or_default()
    }

    pub(crate) fn write(&self, table: EntryKind, entry: EntryRef<'_>) -> Result<()> {
        self.inner.set(&batch_of_one(table, entry)?)
    }

    fn remove(&self, table: EntryKind, entries: &[RawEntry]) -> Result<()> {
        let named = |entry: &RawEntry| DropVersion { table, prefix: entry.prefix.clone(), version: entry.version };
        self.inner.drop_versions(&entries.iter().map(named).collect::<Vec<_>>())
    }

    /// Writes one entry wrongly; `Ok(false)` if the mutation leaves it to be written rightly.
    fn write_mutated(&self, table: EntryKind, entry: EntryRef<'_>) -> Result<bool> {
        let all = self.all_of(table, entry.prefix);
        let newest = all.first().map(|newest| newest.version);
        let same = all.iter().find(|stored| stored.version == entry.version).cloned();
        if same.is_some() {
            let key = (table, Bytes::copy_from_slice(entry.prefix), entry.version);
            self.memory.lock().rewritten.insert(key);
        }
        match self.mutation {
            M::MaximumVersionReserved if entry.version == Version::MAX => {
                self.write(table, EntryRef { version: Version::COMMIT_MAX, ..entry })?;
            }
            M::EmptyValueAsTombstone if entry.value == Some(b"") => self.write(table, EntryRef { value: None, ..entry })?,
            M::LateVersionHidesNewer if newest > Some(entry.version) => {
                self.remove(table, &all.into_iter().filter(|stored| stored.version > entry.version).collect::<Vec<_>>())?;
                self.write(table, entry)?;
            }
            M::LateVersionIgnored if newest > Some(entry.version) => {}
            M::FirstWriteStays if same.is_some() => {}
            M::RewriteKeepsSuffix if same.is_some() => {
                let suffix = same.map_or_else(Bytes::new, |same| same.suffix);
                self.write(table, EntryRef { suffix: &suffix, ..entry })?;
            }
            M::UnknownTombstoneIgnored if all.is_empty() && entry.is_tombstone() => {}
            M::SecondRemoveRefused if entry.is_tombstone() && all.first().is_some_and(|newest| newest.value.is_none()) => {
                return Err(ErrorKind::NotFound { what: "the key".into() }.into());
            }
            M::TombstoneForgetsHistory if entry.is_tombstone() => {
                self.remove(table, &all.into_iter().filter(|stored| stored.version < entry.version).collect::<Vec<_>>())?;
                self.write(table, entry)?;
            }
            M::ValuesCut if entry.value.is_some_and(|value| value.len() > 16 << 20) => {
                self.write(table, EntryRef { value: entry.value.map(|value| &value[..16 << 20]), ..entry })?;
            }
            M::ClearHidesLaterWrites if self.is_cleared(table, entry.version) => {}
            M::DropIsForEver if self.is_dropped(table, &entry) => {}
            M::UpdateRemovesFirst if !all.is_empty() => {
                self.remove(table, &all)?;
                pause();
                all.iter().try_for_each(|stored| self.write(table, stored.as_ref()))?;
                self.write(table, entry)?;
            }
            M::ValueInHalves => {
                self.write(table, EntryRef { value: entry.value.map(|value| &value[..value.len() / 2]), ..entry })?;
                pause();
                self.write(table, entry)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn is_cleared(&self, table: EntryKind, version: Version) -> bool {
        self.memory.lock().cleared.iter().any(|(cleared, entry)| *cleared == table && entry.version >= version)
    }

    fn is_dropped(&self, table: EntryKind, entry: &EntryRef<'_>) -> bool {
        let memory = self.memory.lock();
        memory
            .dropped
            .iter()
            .any(|(dropped, old)| *dropped == table && old.prefix == entry.prefix && old.version == entry.version)
    }

    fn drop_one(&self, one: &DropVersion) -> Result<()> {
        let all = self.all_of(one.table, &one.prefix);
        let is_there = all.iter().any(|entry| entry.version == one.version);
        let older: Vec<RawEntry> = all.iter().filter(|entry| entry.version <= one.version).cloned().collect();
        let exact: Vec<RawEntry> = all.iter().filter(|entry| entry.version == one.version).cloned().collect();
        self.memory.lock().dropped.extend(exact.iter().map(|entry| (one.table, entry.clone())));
        match self.mutation {
            M::DropRemovesOlder => self.remove(one.table, &older),
            M::DropRemovesKey if is_there => self.remove(one.table, &all),
            M::DropIsTombstone if is_there => {
                self.write(one.table, EntryRef { prefix: &one.prefix, suffix: b"", version: one.version, value: None })
            }
            M::DropUnknownFails if !is_there => Err(ErrorKind::NotFound { what: "the version".into() }.into()),
            M::DropMakesTable => {
                self.inner.ensure_table(one.table)?;
                self.remove(one.table, &exact)
            }
            M::DropTakesNextOlder => self.remove(one.table, &older[..older.len().min(1)]),
            M::DropKeepsTombstones if exact.first().is_some_and(|entry| entry.value.is_none()) => Ok(()),
            M::DropKeepsLastVersion if all.len() == 1 => Ok(()),
            _ => self.remove(one.table, &exact),
        }
    }
}

/// The first so many bytes are the prefix.
#[derive(Debug)]
struct PrefixOf(usize);

impl KeyLayout for PrefixOf {
    fn name(&self) -> String {
        "prefix-of".into()
    }

    fn prefix_len(&self, _table: EntryKind, _key: &[u8]) -> usize {
        self.0
    }
}

fn batch_of_one(table: EntryKind, entry: EntryRef<'_>) -> Result<TierBatch> {
    let mut batch = BatchBuilder::new();
    let key = [entry.prefix, entry.suffix].concat();
    match entry.value {
        Some(value) => batch.put(table, &key, value)?,
        None => batch.remove(table, &key)?,
    }
    Ok(batch.finish(&PrefixOf(entry.prefix.len()), entry.version))
}

impl TierStorage for MutantTier {
    fn get(&self, table: EntryKind, prefix: &[u8], at: Version) -> Result<Lookup> {
        if self.is(M::ReadingMakesTable) {
            self.inner.ensure_table(table)?;
        }
        let prefix = &self.name(prefix)[..];
        let found = match (self.mutation, at.previous()) {
            (M::BoundaryExclusive | M::VersionZeroInvisible, None) => Lookup::Absent,
            (M::BoundaryExclusive, Some(below)) if at != Version::MAX => self.inner.get(table, prefix, below)?,
            _ => self.inner.get(table, prefix, at)?,
        };
        Ok(match (self.mutation, found) {
            (M::AnswersRequestedVersion, Lookup::Value { suffix, bytes, .. }) => Lookup::Value { version: at, suffix, bytes },
            (M::TombstoneAsAbsent, Lookup::Tombstone { .. }) => Lookup::Absent,
            (M::AbsentAsTombstone, Lookup::Absent) => Lookup::Tombstone { version: Version::ZERO },
            (_, found) => found,
        })
    }

    fn contains(&self, table: EntryKind, prefix: &[u8], at: Version) -> Result<bool> {
        Ok(match (self.mutation, self.get(table, prefix, at)?) {
            (M::ContainsTombstone, found) => found != Lookup::Absent,
            (M::ContainsNeedsBytes, Lookup::Value { bytes, .. }) => !bytes.is_empty(),
            (_, found) => found.is_value(),
        })
    }

    fn get_many(&self, keys: &[KeyRef<'_>], at: Version) -> Result<Vec<Lookup>> {
        let mut keys = keys.to_vec();
        match self.mutation {
            M::ManySorted => keys.sort(),
            M::ManyDeduplicated => keys.dedup(),
            M::ManyInFirstTable => {
                let first = keys.first().map_or(EntryKind::Multi, |key| key.table);
                for key in &mut keys {
                    key.table = first;
                }
            }
            M::ManyOneByOne => {}
            _ if self.mutation.is_about_threads() => return self.inner.get_many(&keys, at),
            _ => {}
        }
        if self.is(M::ManyDeduplicated) {
            let mut seen = BTreeSet::new();
            keys.retain(|key| seen.insert(*key));
        }
        let count = keys.len();
        let answer = |(number, key): (usize, &KeyRef<'_>)| {
            if self.is(M::ManyOneByOne) {
                pause();
            }
            let is_remainder = self.is(M::ManyForgetsRemainder) && count % 8 == 1 && number + 1 == count;
            if is_remainder { Ok(Lookup::Absent) } else { self.get(key.table, key.prefix, at) }
        };
        keys.iter().enumerate().map(answer).collect()
    }

    fn get_previous(&self, table: EntryKind, prefix: &[u8], before: Version) -> Result<Lookup> {
        if self.is(M::PreviousInclusive) {
            return self.get(table, prefix, before);
        }
        let mut before = before;
        loop {
            let Some(at) = before.previous() else { return Ok(Lookup::Absent) };
            match self.get(table, prefix, at)? {
                Lookup::Tombstone { version } if self.is(M::PreviousSkipsTombstone) => before = version,
                found => return Ok(found),
            }
        }
    }

    fn set(&self, batch: &TierBatch) -> Result<()> {
        if self.is(M::EmptyBatchMakesTable) && batch.is_empty() {
            return self.inner.ensure_table(EntryKind::Multi);
        }
        if self.is(M::Unchanged) {
            return self.inner.set(batch);
        }
        let first_table = batch.iter().next().map(|(table, _)| table);
        let by_entry = [M::BatchEntryByEntry, M::KeysEndAtZero, M::KeysFoldCase, M::KeysCut, M::RefusedBatchHalfApplied];
        let mut is_mutated = false;
        for (table, entry) in batch.iter() {
            if self.is(M::FirstTableOnly) && Some(table) != first_table {
                is_mutated = true;
                continue;
            }
            is_mutated |= self.write_mutated(table, entry)?;
            is_mutated |= self.is(M::FirstTableOnly);
        }
        if !is_mutated && !by_entry.contains(&self.mutation) {
            return self.inner.set(batch);
        }
        for (table, entry) in batch.iter() {
            if self.is(M::FirstTableOnly) && Some(table) != first_table {
                continue;
            }
            let name = self.name(entry.prefix);
            if by_entry.contains(&self.mutation) || !self.write_mutated(table, entry)? {
                self.write(table, EntryRef { prefix: &name, ..entry })?;
            }
            if self.is(M::BatchEntryByEntry) {
                pause();
            }
        }
        Ok(())
    }

    fn range_next(&self, cursor: &mut RangeCursor, batch_size: usize) -> Result<RangeBatch> {
        page::page(self, cursor, thermocline_tier::Direction::Forward, batch_size)
    }

    fn range_rev_next(&self, cursor: &mut RangeCursor, batch_size: usize) -> Result<RangeBatch> {
        page::page(self, cursor, thermocline_tier::Direction::Reverse, batch_size)
    }

    fn scan(self: Arc<Self>, request: RangeRequest) -> Result<Box<dyn TierScan>> {
        let direction = if self.is(M::StreamIsForward) { thermocline_tier::Direction::Forward } else { request.direction };
        Ok(Box::new(PagedScan::new(self, RangeRequest { direction, ..request })))
    }

    fn ensure_table(&self, table: EntryKind) -> Result<()> {
        if self.is(M::EnsureClears) {
            self.inner.clear_table(table)?;
        }
        self.inner.ensure_table(table)
    }

    fn tables(&self) -> Result<Vec<EntryKind>> {
        let mut tables = self.inner.tables()?;
        if self.is(M::EmptyTablesUnlisted) {
            tables.retain(|table| !self.entries(*table).is_empty());
        }
        if self.is(M::ReopenForgetsEmptyTables) {
            let memory = self.memory.lock();
            tables.retain(|table| !memory.forgotten.contains(table) || !self.entries(*table).is_empty());
        }
        if self.is(M::ClearRemovesTable) {
            let memory = self.memory.lock();
            tables
                .retain(|table| !self.entries(*table).is_empty() || !memory.cleared.iter().any(|(cleared, _)| cleared == table));
        }
        Ok(tables)
    }

    fn clear_table(&self, table: EntryKind) -> Result<()> {
        if self.is(M::ClearMissingFails) && !self.inner.tables()?.contains(&table) {
            return Err(ErrorKind::NotFound { what: table.to_string() }.into());
        }
        let entries = self.entries(table);
        self.memory.lock().cleared.extend(entries.iter().map(|entry| (table, entry.clone())));
        match self.mutation {
            M::ClearLeavesOne => {
                self.inner.clear_table(table)?;
                entries.last().map_or(Ok(()), |last| self.write(table, last.as_ref()))
            }
            M::ClearsAllTables => self.inner.tables()?.into_iter().try_for_each(|table| self.inner.clear_table(table)),
            M::ClearKeepsHistory => {
                let keys = page::keys_of(&self.inner, table);
                keys.iter().try_for_each(|key| self.remove(table, &self.all_of(table, key)[..1]))
            }
            M::ClearKeyByKey => entries.iter().try_for_each(|entry| {
                pause();
                self.remove(table, std::slice::from_ref(entry))
            }),
            _ => self.inner.clear_table(table),
        }
    }

    fn drop_versions(&self, drops: &[DropVersion]) -> Result<()> {
        if self.is(M::Unchanged) {
            return self.inner.drop_versions(drops);
        }
        let first_table = drops.first().map(|one| one.table);
        let is_taken = |one: &&DropVersion| !self.is(M::DropInFirstTableOnly) || Some(one.table) == first_table;
        drops.iter().filter(is_taken).try_for_each(|one| {
            if self.is(M::DropOneByOne) {
                pause();
            }
            self.drop_one(one)
        })
    }

    fn get_all_versions(&self, table: EntryKind, prefix: &[u8]) -> Result<Vec<RawEntry>> {
        let name = self.name(prefix);
        let mut all = self.inner.get_all_versions(table, &name)?;
        match self.mutation {
            M::VersionsOldestFirst => all.reverse(),
            M::VersionsWithoutTombstones => all.retain(|entry| entry.value.is_some()),
            M::VersionsOfNextKey if all.is_empty() => {
                let next = page::keys_of(&self.inner, table).into_iter().find(|key| &key[..] > prefix);
                all = next.map_or(Ok(Vec::new()), |next| self.inner.get_all_versions(table, &next))?;
            }
            M::SameVersionTwice => {
                let memory = self.memory.lock();
                let times =
                    |entry: &RawEntry| 1 + usize::from(memory.rewritten.contains(&(table, entry.prefix.clone(), entry.version)));
                all = all.into_iter().flat_map(|entry| vec![entry.clone(); times(&entry)]).collect();
            }
            _ => {}
        }
        Ok(all)
    }

    fn stats(&self) -> TierStats {
        let mut stats = self.inner.stats();
        let memory = self.memory.lock();
        for (table, found) in &mut stats.tables {
            if self.is(M::StatsIgnoreDrops) {
                found.entries += memory.dropped.iter().filter(|(dropped, _)| dropped == table).count() as u64;
            }
            if self.is(M::StatsIgnoreTombstones) {
                found.tombstones = 0;
            }
        }
        stats
    }
}
