//! What readers see of the tier at one moment: the live files by level, and the marks that hide a part of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use thermocline_tier::{EntryKind, KeyRef, Lookup, RangeRequest, Result, Version};

use crate::filter;
use crate::meta::TableKey;
use crate::segment::{Located, Segment, Wanted};

/// Levels below which nothing is pushed further down.
pub(crate) const LEVELS: usize = 7;
const _: () = assert!(LEVELS == crate::manifest::LEVEL_MAX as usize + 1, "the manifest takes the levels that there are");

/// Drops and clears: they hide what files hold that were written before them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Markers {
    /// The sequence of the drop of a version of a key.
    pub(crate) drops: BTreeMap<(TableKey, Version), u64>,
    /// The sequence of the last clear of a table.
    pub(crate) clears: BTreeMap<EntryKind, u64>,
}

impl Markers {
    /// Whether what a file to which marks up to `applied` were applied holds of a table was cleared.
    #[inline]
    pub(crate) fn hides_table(&self, table: EntryKind, applied: u64) -> bool {
        !self.clears.is_empty() && self.clears.get(&table).is_some_and(|sequence| *sequence > applied)
    }

    /// The same for a version of a key.
    #[inline]
    pub(crate) fn hides(&self, table: EntryKind, prefix: &[u8], version: Version, applied: u64) -> bool {
        if self.drops.is_empty() {
            return false;
        }
        let key = TableKey { table, prefix: prefix.to_vec() };
        self.drops.get(&(key, version)).is_some_and(|sequence| *sequence > applied)
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct View {
    /// Level 0 with the newest file first; the others in the order of their keys, which do not overlap. All levels, empty ones too.
    pub(crate) levels: Vec<Vec<Arc<Segment>>>,
    /// The levels below 0 that have files.
    lower: Vec<usize>,
    pub(crate) markers: Markers,
    /// Whether there are any.
    is_marked: bool,
    pub(crate) tables: BTreeSet<EntryKind>,
}

#[inline]
fn is_before(key: &TableKey, table: EntryKind, prefix: &[u8]) -> bool {
    (key.table, key.prefix.as_slice()) < (table, prefix)
}

/// Whether a file may hold a key.
#[inline]
fn spans(segment: &Segment, table: EntryKind, prefix: &[u8]) -> bool {
    let first = &segment.meta.first;
    (first.table, first.prefix.as_slice()) <= (table, prefix) && !is_before(&segment.meta.last, table, prefix)
}

/// So many keys are looked for together: enough waits for memory at a time for every processor.
const GROUP_KEYS: usize = 16;

/// Looks in files that lie one behind the other for the keys with the numbers of a group, step by step for all of them, and keeps what is
/// newer than their answers so far.
fn look_for(
    group: &[usize],
    keys: &[KeyRef<'_>],
    files: &[Arc<Segment>],
    markers: &Markers,
    at: Version,
    answers: &mut [Lookup],
) -> Result<()> {
    let mut located = [const { None }; GROUP_KEYS];
    for (to, number) in located.iter_mut().zip(group) {
        let KeyRef { table, prefix } = keys[*number];
        let file = match files.len() {
            1 => 0,
            _ => files.partition_point(|segment| is_before(&segment.meta.last, table, prefix)),
        };
        let is_seen =
            |segment: &&Arc<Segment>| segment.meta.version_min <= at && !markers.hides_table(table, segment.meta.applied);
        let Some(segment) = files.get(file).filter(is_seen) else { continue };
        // Of the same version in two files the one that was written last counts, and it comes first.
        if answers[*number].version().is_none_or(|best| best < segment.meta.version_max) {
            *to = segment.locate(table, prefix, filter::hash(table.code(), prefix))?.map(Located::into_own);
        }
    }
    let mut blocks = [const { None }; GROUP_KEYS];
    for (to, located) in blocks.iter_mut().zip(&located) {
        *to = located.as_ref().map(Located::block).transpose()?;
    }
    let mut guesses = [0; GROUP_KEYS];
    for ((to, located), block) in guesses.iter_mut().zip(&located).zip(&blocks) {
        if let (Some(located), Some(block)) = (located, block) {
            *to = located.guess(block)?;
        }
    }
    for (((located, block), guess), number) in located.iter().zip(&blocks).zip(guesses).zip(group) {
        if let (Some(located), Some(block)) = (located, block) {
            let found = located.get(block, guess, at, Wanted::Value)?;
            if found.version() > answers[*number].version() {
                answers[*number] = found;
            }
        }
    }
    Ok(())
}

impl View {
    pub(crate) fn new(levels: Vec<Vec<Arc<Segment>>>, markers: Markers, tables: BTreeSet<EntryKind>) -> Self {
        let lower = (1..levels.len()).filter(|level| !levels[*level].is_empty()).collect();
        let is_marked = !markers.drops.is_empty() || !markers.clears.is_empty();
        Self { levels, lower, markers, is_marked, tables }
    }

    /// The files that may hold a key, those first that were written last.
    #[inline]
    pub(crate) fn candidates<'a>(&'a self, table: EntryKind, prefix: &'a [u8]) -> impl Iterator<Item = &'a Arc<Segment>> {
        let (upper, lower) = self.levels.split_first().map_or((&[][..], &[][..]), |(upper, lower)| (&upper[..], lower));
        let lower = lower.iter().filter_map(move |level| {
            let number = match level.len() {
                0 => return None,
                1 => 0,
                _ => level.partition_point(|segment| is_before(&segment.meta.last, table, prefix)),
            };
            level.get(number)
        });
        upper.iter().chain(lower).filter(move |segment| spans(segment, table, prefix))
    }

    /// The newest entry of a key at or below `at`.
    #[inline]
    pub(crate) fn get(&self, table: EntryKind, prefix: &[u8], at: Version, wanted: Wanted) -> Result<Lookup> {
        let hash = filter::hash(table.code(), prefix);
        let mut best = Lookup::Absent;
        let mut look = |segment: &Segment| -> Result<()> {
            // Of the same version in two files the one that was written last counts, and it comes first.
            let is_covered = best.version().is_some_and(|best| best >= segment.meta.version_max);
            if is_covered || segment.meta.version_min > at {
                return Ok(());
            }
            let found = if self.is_marked {
                self.get_from(segment, table, prefix, hash, at, wanted)?
            } else {
                segment.get(table, prefix, hash, at, wanted)?
            };
            if found.version() > best.version() {
                best = found;
            }
            Ok(())
        };
        for segment in &self.levels[0] {
            if spans(segment, table, prefix) {
                look(segment)?;
            }
        }
        for level in &self.lower {
            let level = &self.levels[*level];
            let number = match level.len() {
                1 => 0,
                _ => level.partition_point(|segment| is_before(&segment.meta.last, table, prefix)),
            };
            if let Some(segment) = level.get(number) {
                look(segment)?;
            }
        }
        Ok(best)
    }

    /// The newest entry of each key at or below `at`, in the order of the keys.
    pub(crate) fn get_many(&self, keys: &[KeyRef<'_>], at: Version) -> Result<Vec<Lookup>> {
        if !self.markers.drops.is_empty() {
            return keys.iter().map(|key| self.get(key.table, key.prefix, at, Wanted::Value)).collect();
        }
        let mut answers = vec![Lookup::Absent; keys.len()];
        let mut order: Vec<usize> = (0..keys.len()).collect();
        if keys.len() > GROUP_KEYS {
            // So that keys of one block meet in one group, also where blocks do not stay in memory.
            order.sort_unstable_by_key(|number| (keys[*number].table, keys[*number].prefix));
        }
        for group in order.chunks(GROUP_KEYS) {
            for file in &self.levels[0] {
                look_for(group, keys, std::slice::from_ref(file), &self.markers, at, &mut answers)?;
            }
            for level in &self.lower {
                look_for(group, keys, &self.levels[*level], &self.markers, at, &mut answers)?;
            }
        }
        Ok(answers)
    }

    /// The same from one file, without what is marked.
    #[inline]
    pub(crate) fn get_from(
        &self,
        segment: &Segment,
        table: EntryKind,
        prefix: &[u8],
        hash: u64,
        mut at: Version,
        wanted: Wanted,
    ) -> Result<Lookup> {
        let applied = segment.meta.applied;
        if self.markers.hides_table(table, applied) {
            return Ok(Lookup::Absent);
        }
        loop {
            let found = segment.get(table, prefix, hash, at, wanted)?;
            match found.version() {
                Some(version) if self.markers.hides(table, prefix, version, applied) => match version.previous() {
                    Some(previous) => at = previous,
                    None => return Ok(Lookup::Absent),
                },
                _ => return Ok(found),
            }
        }
    }

    /// The files that a scan must read, without those of some numbers, as one list for each flush in level 0 and each level below, in the order of the keys.
    pub(crate) fn sources(&self, request: &RangeRequest, skipped: &BTreeSet<u64>) -> Vec<Vec<Arc<Segment>>> {
        let window = request.window;
        let is_wanted = |segment: &&Arc<Segment>| {
            let meta = &segment.meta;
            // An older entry can neither be in the window nor hide one that is.
            let may_be_seen = meta.version_min <= window.at && window.after.is_none_or(|after| meta.version_max > after);
            let table = request.table;
            let ends_before =
                meta.last.table < table || meta.last.table == table && !request.range.is_after_start(&meta.last.prefix);
            let begins_after =
                meta.first.table > table || meta.first.table == table && !request.range.is_before_end(&meta.first.prefix);
            let is_skipped = skipped.contains(&meta.number);
            may_be_seen && !ends_before && !begins_after && !is_skipped && !self.markers.hides_table(table, meta.applied)
        };
        let Some((upper, lower)) = self.levels.split_first() else { return Vec::new() };
        let upper = upper.chunk_by(|a, b| a.meta.rank == b.meta.rank);
        let upper = upper.map(|flush| flush.iter().filter(is_wanted).cloned().collect::<Vec<_>>());
        let lower = lower.iter().map(|level| level.iter().filter(is_wanted).cloned().collect::<Vec<_>>());
        upper.chain(lower).filter(|segments| !segments.is_empty()).collect()
    }

    /// How many flushes level 0 has the files of.
    pub(crate) fn flushes(&self) -> usize {
        self.levels.first().map_or(0, |upper| upper.chunk_by(|a, b| a.meta.rank == b.meta.rank).count())
    }

    /// All files.
    pub(crate) fn segments(&self) -> impl Iterator<Item = &Arc<Segment>> {
        self.levels.iter().flatten()
    }
}
