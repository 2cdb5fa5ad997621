//! What a manifest says, and the edits that change it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use thermocline_tier::limits::KEY_SIZE_BYTES_MAX;
use thermocline_tier::{Checkpoint, EntryKind, Version};

use crate::meta::{FileMeta, TableKey};

/// The deepest level that a file can be on.
pub(crate) const LEVEL_MAX: u8 = 6;
/// The longest summary of a file, in bytes.
pub(crate) const SUMMARY_SIZE_BYTES_MAX: usize = 64 * 1024;

/// All that the manifest says at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    /// The live files, by number.
    pub(crate) files: BTreeMap<u64, FileMeta>,
    /// The tables that exist.
    pub(crate) tables: BTreeSet<EntryKind>,
    /// How far the tier has taken over from the log.
    pub(crate) checkpoint: Checkpoint,
    /// The version from which on every version may be read.
    pub(crate) horizon: Version,
    /// Versions of keys that are dropped, each with the sequence of its marker: it hides what files with a lower `applied` hold.
    pub(crate) drops: BTreeMap<(TableKey, Version), u64>,
    /// Tables that were cleared, each with the sequence of its newest marker.
    pub(crate) clears: BTreeMap<EntryKind, u64>,
    /// The last sequence that was given to a marker; 0 if none was.
    pub(crate) marker_last: u64,
    /// The highest rank that any file ever had; 0 if there was none.
    pub(crate) rank_last: u64,
    /// Above the number of every file that ever was live, from 1. Numbers are not used again.
    pub(crate) file_number_next: u64,
    /// The sizes of all files that ever came to level 0, added up: what was flushed.
    pub(crate) flushed_bytes: u64,
    /// The sizes of all files that ever came to a level below without having been moved there: what was written again.
    pub(crate) rewritten_bytes: u64,
}

impl Default for State {
    /// The state of a tier that holds nothing.
    fn default() -> Self {
        Self {
            files: BTreeMap::new(),
            tables: BTreeSet::new(),
            checkpoint: Checkpoint::default(),
            horizon: Version::ZERO,
            drops: BTreeMap::new(),
            clears: BTreeMap::new(),
            marker_last: 0,
            rank_last: 0,
            file_number_next: 1,
            flushed_bytes: 0,
            rewritten_bytes: 0,
        }
    }
}

/// A change of the state: all of it happens, or nothing. Files are removed, then moved, then added; markers are forgotten, then
/// made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Edit {
    /// Files that are live from now on, under numbers that are not in use.
    pub(crate) add: Vec<FileMeta>,
    /// The numbers of live files that are not any more.
    pub(crate) remove: Vec<u64>,
    /// The numbers of live files, and the levels that they are on from now on.
    pub(crate) moves: Vec<(u64, u8)>,
    /// Tables that exist from now on, if they did not before.
    pub(crate) tables: Vec<EntryKind>,
    /// A new checkpoint.
    pub(crate) checkpoint: Option<Checkpoint>,
    /// A new horizon, not below the present one.
    pub(crate) horizon: Option<Version>,
    /// New markers of drops, with sequences above all that were given out before this edit.
    pub(crate) drops: Vec<(TableKey, Version, u64)>,
    /// New markers of clears, likewise.
    pub(crate) clears: Vec<(EntryKind, u64)>,
    /// Markers of drops that hide nothing any more.
    pub(crate) forget_drops: Vec<(TableKey, Version)>,
    /// Markers of clears that hide nothing any more.
    pub(crate) forget_clears: Vec<EntryKind>,
    /// The numbers of live files, none twice, and their summaries from now on.
    pub(crate) summaries: Vec<(u64, Bytes)>,
}

impl Edit {
    /// Checks what can be checked without a state: files and keys that cannot be.
    pub(super) fn check(&self) -> Result<(), String> {
        for file in &self.add {
            check_file(file).map_err(|why| format!("file {}: {why}", file.number))?;
        }
        for (number, summary) in &self.summaries {
            check_summary(summary).map_err(|why| format!("file {number}: {why}"))?;
        }
        let dropped = self.drops.iter().map(|(key, ..)| key);
        dropped.chain(self.forget_drops.iter().map(|(key, _)| key)).try_for_each(check_key)
    }
}

/// The counters of a state, which its other parts do not tell: files and markers go, the counters stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counters {
    pub(super) file_number_next: u64,
    pub(super) rank_last: u64,
    pub(super) marker_last: u64,
    pub(super) flushed_bytes: u64,
    pub(super) rewritten_bytes: u64,
}

impl State {
    /// Applies an edit, or says what about it is impossible and changes nothing.
    ///
    /// # Errors
    /// What is wrong, for people: unknown files removed or moved, numbers used twice, files of one level below 0 that overlap,
    /// fields out of range, a horizon that goes back.
    pub(crate) fn apply(&mut self, edit: &Edit) -> Result<(), String> {
        self.check(edit)?;
        self.check_levels(edit)?;
        self.change(edit.clone());
        Ok(())
    }

    /// As [`apply`](Self::apply), but leaves it to [`check_disjoint`](Self::check_disjoint) to look at all files together, once,
    /// after many edits.
    pub(super) fn replay(&mut self, edit: Edit) -> Result<(), String> {
        self.check(&edit)?;
        self.change(edit);
        Ok(())
    }

    /// The state that a snapshot holds, written as the edit that makes it of nothing, and its counters.
    pub(super) fn restore(edit: Edit, counters: Counters) -> Result<Self, String> {
        let mut state = Self::default();
        check_horizon(&state, &edit)?;
        check_drops(&state, &edit)?;
        check_clears(&state, &edit)?;
        state.check_files(&edit, counters.marker_last)?;
        edit.check()?;
        state.change(edit);
        let Counters { file_number_next, rank_last, marker_last, flushed_bytes, rewritten_bytes } = counters;
        require(file_number_next >= state.file_number_next, || format!("next file number {file_number_next} is in use"))?;
        require(rank_last >= state.rank_last, || format!("last rank {rank_last}, but a file of rank {}", state.rank_last))?;
        require(marker_last >= state.marker_last, || {
            format!("last marker {marker_last}, but a marker of sequence {}", state.marker_last)
        })?;
        Ok(Self { marker_last, rank_last, file_number_next, flushed_bytes, rewritten_bytes, ..state })
    }

    pub(super) fn counters(&self) -> Counters {
        let Self { file_number_next, rank_last, marker_last, flushed_bytes, rewritten_bytes, .. } = *self;
        Counters { file_number_next, rank_last, marker_last, flushed_bytes, rewritten_bytes }
    }

    /// Checks that files of the same level below 0, and of the same flush on level 0, hold disjoint keys.
    pub(super) fn check_disjoint(&self) -> Result<(), String> {
        check_disjoint(self.files.values().map(|file| (file.level, file)))
    }

    /// Everything but whether files overlap.
    fn check(&self, edit: &Edit) -> Result<(), String> {
        edit.check()?;
        check_horizon(self, edit)?;
        let last_drop = check_drops(self, edit)?;
        let last_clear = check_clears(self, edit)?;
        self.check_files(edit, last_drop.max(last_clear))
    }

    fn check_files(&self, edit: &Edit, marker_last: u64) -> Result<(), String> {
        let mut seen = BTreeSet::new();
        for number in edit.remove.iter().chain(edit.moves.iter().map(|(number, _)| number)) {
            require(self.files.contains_key(number), || format!("file {number} is removed or moved, but is not live"))?;
            require(seen.insert(*number), || format!("file {number} is removed or moved twice"))?;
        }
        for (number, _) in &edit.summaries {
            let is_new = self.files.contains_key(number) && seen.insert(*number);
            require(is_new, || format!("file {number} is summarized, but is not live, or changed otherwise"))?;
        }
        for (number, level) in &edit.moves {
            require(*level <= LEVEL_MAX, || format!("file {number} is moved to level {level}"))?;
        }
        for file in &edit.add {
            let number = file.number;
            let is_new = !self.files.contains_key(&number) && seen.insert(number);
            require(is_new, || format!("file {number} is added, but its number is in use"))?;
            require(file.applied <= marker_last, || {
                format!("file {number}: applied markers up to {}, but the last one is {marker_last}", file.applied)
            })?;
        }
        Ok(())
    }

    /// Whether files would overlap on the levels that the edit touches.
    fn check_levels(&self, edit: &Edit) -> Result<(), String> {
        let removed: BTreeSet<u64> = edit.remove.iter().copied().collect();
        let moved: BTreeMap<u64, u8> = edit.moves.iter().copied().collect();
        let touched: BTreeSet<u8> = edit.add.iter().map(|file| file.level).chain(moved.values().copied()).collect();
        let kept = self.files.values().filter(|file| !removed.contains(&file.number));
        let kept = kept.map(|file| (moved.get(&file.number).copied().unwrap_or(file.level), file));
        let added = edit.add.iter().map(|file| (file.level, file));
        check_disjoint(kept.chain(added).filter(|(level, _)| touched.contains(level)))
    }

    /// Carries out an edit that was checked.
    fn change(&mut self, edit: Edit) {
        for number in edit.remove {
            self.files.remove(&number);
        }
        for (number, level) in edit.moves {
            if let Some(file) = self.files.get_mut(&number) {
                file.level = level;
            }
        }
        for (number, summary) in edit.summaries {
            if let Some(file) = self.files.get_mut(&number) {
                file.summary = summary;
            }
        }
        for file in edit.add {
            self.file_number_next = self.file_number_next.max(file.number.saturating_add(1));
            self.rank_last = self.rank_last.max(file.rank);
            let written = if file.level == 0 { &mut self.flushed_bytes } else { &mut self.rewritten_bytes };
            *written = written.saturating_add(file.size_bytes);
            self.files.insert(file.number, file);
        }
        self.tables.extend(edit.tables);
        if let Some(checkpoint) = edit.checkpoint {
            self.checkpoint = checkpoint;
        }
        if let Some(horizon) = edit.horizon {
            self.horizon = horizon;
        }
        for forgotten in edit.forget_drops {
            self.drops.remove(&forgotten);
        }
        for (key, version, marker) in edit.drops {
            self.marker_last = self.marker_last.max(marker);
            self.drops.insert((key, version), marker);
        }
        for table in edit.forget_clears {
            self.clears.remove(&table);
        }
        for (table, marker) in edit.clears {
            self.marker_last = self.marker_last.max(marker);
            let newest = self.clears.entry(table).or_insert(marker);
            *newest = marker.max(*newest);
        }
    }
}

fn require(holds: bool, why: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(why()) }
}

fn check_horizon(state: &State, edit: &Edit) -> Result<(), String> {
    let horizon = edit.horizon.unwrap_or(state.horizon);
    require(horizon >= state.horizon, || format!("the horizon goes back from {} to {horizon}", state.horizon))
}

/// Returns the last marker after the edit.
fn check_drops(state: &State, edit: &Edit) -> Result<u64, String> {
    let mut last = state.marker_last;
    for (_, version, marker) in &edit.drops {
        require(*marker > state.marker_last, || {
            format!("a drop of version {version} has marker {marker}, but {} was given out before", state.marker_last)
        })?;
        last = last.max(*marker);
    }
    let mut seen = BTreeSet::new();
    for forgotten in &edit.forget_drops {
        let is_there = state.drops.contains_key(forgotten) && seen.insert(forgotten);
        require(is_there, || format!("a drop of version {} is forgotten that is not there", forgotten.1))?;
    }
    Ok(last)
}

/// Returns the last marker after the edit.
fn check_clears(state: &State, edit: &Edit) -> Result<u64, String> {
    let mut last = state.marker_last;
    for (table, marker) in &edit.clears {
        require(*marker > state.marker_last, || {
            format!("a clear of table {table} has marker {marker}, but {} was given out before", state.marker_last)
        })?;
        last = last.max(*marker);
    }
    let mut seen = BTreeSet::new();
    for table in &edit.forget_clears {
        let is_there = state.clears.contains_key(table) && seen.insert(table);
        require(is_there, || format!("a clear of table {table} is forgotten that is not there"))?;
    }
    Ok(last)
}

fn check_key(key: &TableKey) -> Result<(), String> {
    let len = key.prefix.len();
    require(len <= KEY_SIZE_BYTES_MAX, || format!("a key of {len} bytes, more than {KEY_SIZE_BYTES_MAX}"))
}

fn check_summary(summary: &[u8]) -> Result<(), String> {
    let len = summary.len();
    require(len <= SUMMARY_SIZE_BYTES_MAX, || format!("a summary of {len} bytes, more than {SUMMARY_SIZE_BYTES_MAX}"))
}

/// Whether a file can be as it is described.
fn check_file(file: &FileMeta) -> Result<(), String> {
    check_key(&file.first)?;
    check_key(&file.last)?;
    require((1..u64::MAX).contains(&file.number), || "its number is out of range".to_owned())?;
    require(file.level <= LEVEL_MAX, || format!("level {}", file.level))?;
    require(file.size_bytes > 0, || "it is empty".to_owned())?;
    require(file.first <= file.last, || "its first key is above its last".to_owned())?;
    let (oldest, newest) = (file.version_min, file.version_max);
    require(oldest <= newest, || format!("its oldest version {oldest} is above its newest {newest}"))?;
    check_summary(&file.summary)?;

    let ends = (file.tables.first().map(|(table, _)| *table), file.tables.last().map(|(table, _)| *table));
    require(ends == (Some(file.first.table), Some(file.last.table)), || "its keys are of other tables than it lists".to_owned())?;
    require(file.tables.is_sorted_by(|one, other| one.0 < other.0), || "its tables are not in order".to_owned())?;
    for (table, stats) in &file.tables {
        let is_possible = (1..=stats.entries).contains(&stats.keys) && stats.tombstones <= stats.entries;
        require(is_possible, || {
            format!("{} keys, {} entries, {} tombstones in table {table}", stats.keys, stats.entries, stats.tombstones)
        })?;
    }
    Ok(())
}

fn check_disjoint<'a>(files: impl Iterator<Item = (u8, &'a FileMeta)>) -> Result<(), String> {
    // The flush that it comes from, on level 0.
    let group = |(level, file): (u8, &'a FileMeta)| (level, if level == 0 { file.rank } else { 0 }, file);
    let mut files: Vec<(u8, u64, &FileMeta)> = files.map(group).collect();
    files.sort_by(|one, other| (one.0, one.1, &one.2.first).cmp(&(other.0, other.1, &other.2.first)));
    for pair in files.windows(2) {
        if let [(level, rank, file), (next_level, next_rank, next)] = pair {
            let is_apart = (level, rank) != (next_level, next_rank) || file.last < next.first;
            require(is_apart, || format!("files {} and {} of level {level} overlap", file.number, next.number))?;
        }
    }
    Ok(())
}
