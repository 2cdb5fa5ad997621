//! Compaction: what to rewrite next, and the rewrite itself in steps.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use thermocline_io::sync::Mutex;
use thermocline_io::{Disk, FileId, Reason};
use thermocline_tier::{EntryKind, KeyRange, MigrationReport, Result, Retained, RetainedTables, TableStats, Version};

use crate::cache::{Cache, Prefill};
use crate::codec::Compression;
use crate::error::disk_error;
use crate::hooks::{Hooks, Offer};
use crate::layout::FileIdentity;
use crate::merge::{Chain, Keep, Merge, Next, Outside};
use crate::meta::{FileMeta, TableKey};
use crate::options::WarmOptions;
use crate::segment::Segment;
use crate::view::{LEVELS, View};
use crate::writer::{NewVersion, Sizes, SstWriter};

/// What is to be rewritten, and to where.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Those first that were written last.
    pub(crate) inputs: Vec<Arc<Segment>>,
    pub(crate) level: u8,
    /// The other files that may hold older versions of the same keys.
    pub(crate) outside: Arc<Outside>,
    /// The files a level below, by their last keys, with their sizes: what is written is cut before it meets too many.
    pub(crate) below: Arc<[(TableKey, u64)]>,
    /// Whether the files can simply be taken to the level as they are.
    pub(crate) is_move: bool,
    /// Whether it only frees space: then it is for one thread, and leaves the others to those who write.
    pub(crate) is_patient: bool,
}

/// From the first to the last key of some files.
#[derive(Clone, Debug)]
struct Hull {
    first: TableKey,
    last: TableKey,
}

impl Hull {
    fn of<'a>(segments: impl IntoIterator<Item = &'a Arc<Segment>>) -> Option<Self> {
        let mut hull: Option<Self> = None;
        for Segment { meta, .. } in segments.into_iter().map(AsRef::as_ref) {
            hull = Some(match hull {
                None => Self { first: meta.first.clone(), last: meta.last.clone() },
                Some(hull) => Self { first: hull.first.min(meta.first.clone()), last: hull.last.max(meta.last.clone()) },
            });
        }
        hull
    }

    fn meets(&self, segment: &Segment) -> bool {
        segment.meta.first <= self.last && segment.meta.last >= self.first
    }
}

fn size_bytes<'a>(segments: impl IntoIterator<Item = &'a Arc<Segment>>) -> u64 {
    segments.into_iter().map(|segment| segment.meta.size_bytes).sum()
}

/// The most that a level below 0 may hold.
fn level_size_max(options: &WarmOptions, level: usize) -> u64 {
    (1..level).fold(options.level1_size_bytes, |size, _| size.saturating_mul(options.level_size_ratio))
}

/// How many of a file's entries are tombstones and versions that are not the newest, and how many entries there are. As the
/// manifest says, so possibly too large to be added.
fn old_entries(meta: &FileMeta) -> (u64, u64) {
    meta.tables.iter().fold((0, 0), |(old, entries): (u64, u64), (_, stats)| {
        let old_versions = stats.entries.saturating_sub(stats.keys).saturating_add(stats.tombstones);
        (old.saturating_add(old_versions), entries.saturating_add(stats.entries))
    })
}

/// The same in thousandths of all entries.
fn old_permille(meta: &FileMeta) -> u64 {
    let (old, entries) = old_entries(meta);
    permille(old, entries)
}

/// The most that a file should meet a level below, so that to bring it down is no large piece of work.
fn below_size_max(options: &WarmOptions) -> u64 {
    options.file_size_bytes.saturating_mul(BELOW_FILES_MAX)
}

/// A share in thousandths.
fn permille(part: u64, whole: u64) -> u64 {
    u64::try_from(u128::from(part) * 1000 / u128::from(whole.max(1))).unwrap_or(u64::MAX)
}

/// Files are cut before they meet so many whole ones a level below, so that bringing one down later is no large piece of work.
const BELOW_FILES_MAX: u64 = 10;
/// A file is rewritten for what it holds that need not be kept once that is so many thousandths of its entries.
const GARBAGE_PERMILLE: u64 = 250;
/// So many drops at most wait for rewrites: readers and each further drop pay for those that do.
const DROPS_MAX: usize = 16_384;
/// And so much of keys, in bytes: they are in memory.
const DROPS_SIZE_BYTES_MAX: usize = 8 << 20;

/// How many thousandths of a file's entries were dropped since it was written.
fn dropped_permille(view: &View, segment: &Segment) -> u64 {
    let FileMeta { first, last, applied, version_min, version_max, .. } = &segment.meta;
    let drops = view.markers.drops.range((first.clone(), Version::ZERO)..=(last.clone(), Version::MAX));
    let is_here = |version: &Version| (version_min..=version_max).contains(&version);
    let count = drops.filter(|((_, version), sequence)| **sequence > *applied && is_here(version)).count();
    // However few, they are not nothing.
    permille(count as u64, old_entries(&segment.meta).1).max(u64::from(count > 0))
}

/// Whether marks may hide something in the files.
fn is_marked(view: &View, inputs: &[Arc<Segment>]) -> bool {
    let newest = view.markers.drops.values().chain(view.markers.clears.values()).max();
    newest.is_some_and(|newest| inputs.iter().any(|segment| segment.meta.applied < *newest))
}

/// The files of a level that may have keys within a hull.
fn met<'a>(view: &'a View, level: usize, hull: &'a Hull) -> impl Iterator<Item = &'a Arc<Segment>> {
    let segments = view.levels.get(level).map(Vec::as_slice).unwrap_or_default();
    // Those of level 0 are in no order of keys.
    let begin = if level == 0 { 0 } else { segments.partition_point(|segment| segment.meta.last < hull.first) };
    let behind = segments.get(begin..).unwrap_or_default().iter();
    behind.take_while(move |segment| level == 0 || segment.meta.first <= hull.last).filter(|segment| hull.meets(segment))
}

/// The files of a level, but for these, that may hold older versions of their keys. `hull` is that of these.
fn outside_at<'a>(
    view: &'a View,
    level: usize,
    inputs: &'a [Arc<Segment>],
    hull: &'a Hull,
) -> impl Iterator<Item = &'a Arc<Segment>> {
    // Versions may come late, so that the older one can also lie above.
    let newest = inputs.iter().map(|segment| segment.meta.version_max).max().unwrap_or_default();
    let is_input = |segment: &Arc<Segment>| inputs.iter().any(|input| Arc::ptr_eq(input, segment));
    met(view, level, hull).filter(move |segment| segment.meta.version_min <= newest && !is_input(segment))
}

/// The other files that may hold older versions of the keys of these; `None` without files.
fn outside(view: &View, inputs: &[Arc<Segment>]) -> Option<Outside> {
    let hull = Hull::of(inputs)?;
    let mut runs = Vec::new();
    for level in 0..view.levels.len() {
        let others = outside_at(view, level, inputs, &hull).map(|segment| segment.meta.clone());
        if level == 0 {
            runs.extend(others.map(|file| vec![file]));
        } else {
            runs.push(others.collect());
        }
    }
    Some(Outside(runs))
}

/// Whether another file for which `counts` holds may hold older versions of the keys of a file.
pub(crate) fn may_hide(view: &View, segment: &Arc<Segment>, counts: impl Fn(&Arc<Segment>) -> bool) -> bool {
    let inputs = std::slice::from_ref(segment);
    Hull::of(inputs).is_some_and(|hull| (0..view.levels.len()).any(|level| outside_at(view, level, inputs, &hull).any(&counts)))
}

/// Whether nothing of what a file holds of a table is seen any more.
pub(crate) fn is_hidden(view: &View, meta: &FileMeta, table: EntryKind, retained: &RetainedTables) -> bool {
    let keeps_none = |(_, part): (_, &Retained)| part.keeps_none(meta.version_min, meta.version_max);
    view.markers.hides_table(table, meta.applied) || retained.parts(table).all(keeps_none)
}

/// Whether a file may hold something that was cleared.
fn may_be_cleared(meta: &FileMeta, table: EntryKind, retained: &RetainedTables) -> bool {
    retained.parts(table).any(|(_, part)| part.is_cleared(meta.version_min))
}

/// How many thousandths of a file's entries need not be kept, as far as that is certain: then a rewrite leaves none of them.
fn garbage_permille(view: &View, segment: &Arc<Segment>, retained: &RetainedTables) -> u64 {
    let meta = &segment.meta;
    let hidden = meta.tables.iter().filter(|(table, _)| is_hidden(view, meta, *table, retained));
    let hidden = hidden.fold(0_u64, |sum, (_, stats)| sum.saturating_add(stats.entries));
    permille(hidden, old_entries(meta).1).max(superseded_permille(view, segment, retained))
}

/// The same of what is superseded, and of deletions that hide nothing.
fn superseded_permille(view: &View, segment: &Arc<Segment>, retained: &RetainedTables) -> u64 {
    let meta = &segment.meta;
    let hides_nothing = std::cell::OnceCell::new();
    let hides_nothing = || *hides_nothing.get_or_init(|| !may_hide(view, segment, |_| true));
    let of_part = |stats: &TableStats, part: &Retained| {
        if meta.version_max > part.horizon() {
            return 0;
        }
        // Of each key one entry is kept, and no more than these besides.
        let others = part.keeps_per_key(meta.version_min, meta.version_max);
        let superseded = stats.entries.saturating_sub(stats.keys).saturating_sub(stats.keys.saturating_mul(others));
        // Where the newest entries are kept in any case, so are tombstones among them.
        let may_go = others == 0 && stats.tombstones > 0 && !part.keeps_anyway(meta.version_max, 0);
        superseded.saturating_add(if may_go && hides_nothing() { stats.tombstones } else { 0 })
    };
    let of_table = |(table, stats): &(EntryKind, TableStats)| {
        // Of the parts of a table it is not known how much lies in each.
        retained.parts(*table).map(|(_, part)| of_part(stats, part)).min().unwrap_or_default()
    };
    let superseded = meta.tables.iter().map(of_table).fold(0_u64, u64::saturating_add);
    permille(superseded, old_entries(meta).1)
}

/// Whether some versions that a file holds lie at or below the horizon of a table.
fn is_below_horizon_of(table: EntryKind, meta: &FileMeta, retained: &RetainedTables) -> bool {
    retained.parts(table).any(|(_, retained)| meta.version_min <= retained.horizon())
}

/// The same of a table of its own.
fn is_below_horizon(meta: &FileMeta, retained: &RetainedTables) -> bool {
    meta.tables.iter().any(|(table, _)| is_below_horizon_of(*table, meta, retained))
}

/// The same of a table of which it has tombstones, or versions that are not the newest.
fn has_old(meta: &FileMeta, retained: &RetainedTables) -> bool {
    let is_old = |stats: &TableStats| stats.entries > stats.keys || stats.tombstones > 0;
    meta.tables.iter().any(|(table, stats)| is_old(stats) && is_below_horizon_of(*table, meta, retained))
}

/// Whether a file may hold something that need not be kept, whatever other files hold.
fn may_hold_garbage(view: &View, segment: &Arc<Segment>, retained: &RetainedTables) -> bool {
    let meta = &segment.meta;
    let is_cleared = || meta.tables.iter().any(|(table, _)| may_be_cleared(meta, *table, retained));
    is_marked(view, std::slice::from_ref(segment)) || has_old(meta, retained) || is_cleared()
}

/// What was asked to be gone: whatever need not be kept of files with lower numbers, and of versions up to this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) number: u64,
    pub(crate) version: Version,
    /// Once versions lie together: of files with numbers below this one, deletions that had to stay until then.
    pub(crate) deletions_below: Option<u64>,
}

impl Asked {
    /// Whether it was asked for what a file may hold, whatever other files hold.
    fn is_about(&self, view: &View, segment: &Arc<Segment>, retained: &RetainedTables) -> bool {
        let meta = &segment.meta;
        let has_tombstones = || meta.tables.iter().any(|(_, stats)| stats.tombstones > 0);
        let is_new = self.deletions_below.is_some_and(|below| meta.number < below) && has_tombstones();
        (meta.number < self.number || is_new) && may_hold_garbage(view, segment, retained)
    }
}

impl Plan {
    /// `move_below_max`: files may be moved that meet at most so much a level below, in bytes.
    fn new(view: &View, inputs: Vec<Arc<Segment>>, level: usize, move_below_max: Option<u64>) -> Option<Self> {
        let outside = Arc::new(outside(view, &inputs)?);
        let is_at_level = inputs.iter().any(|segment| usize::from(segment.meta.level) == level);
        let is_apart = || {
            inputs.iter().enumerate().all(|(number, segment)| {
                let others = inputs.get(number + 1..).unwrap_or_default();
                others.iter().all(|other| segment.meta.last < other.meta.first || other.meta.last < segment.meta.first)
            })
        };
        let meets_little = |max: u64| {
            let hulls = inputs.iter().filter_map(|segment| Hull::of([segment]));
            hulls.into_iter().all(|hull| size_bytes(met(view, level + 1, &hull)) <= max)
        };
        let is_move =
            move_below_max.is_some_and(|max| !is_at_level && is_apart() && !is_marked(view, &inputs) && meets_little(max));
        let hull = Hull::of(&inputs)?;
        let below = met(view, level + 1, &hull).map(|segment| (segment.meta.last.clone(), segment.meta.size_bytes)).collect();
        let level = u8::try_from(level).unwrap_or(u8::MAX);
        Some(Self { inputs, level, outside, below, is_move, is_patient: false })
    }

    /// The rewrite that is needed most, if any is, without these files.
    pub(crate) fn pick(view: &View, options: &WarmOptions, avoided: &BTreeSet<u64>) -> Option<Self> {
        // Level 0 and the levels below by how far each is over its limit: were level 0 always first, level 1 would only grow under load, and
        // each rewrite of level 0 with it.
        let upper = view.flushes();
        let upper = (upper >= options.level0_flushes).then(|| (permille(upper as u64, options.level0_flushes as u64), 0));
        let levels = view.levels.iter().enumerate().skip(1).take(LEVELS - 2);
        let sizes = levels.map(|(level, segments)| (level, size_bytes(segments), level_size_max(options, level)));
        let lower = sizes.filter(|(_, size, max)| size > max).map(|(level, size, max)| (permille(size, max), level));
        let mut full: Vec<(u64, usize)> = upper.into_iter().chain(lower).collect();
        full.sort_by_key(|(permille, level)| (std::cmp::Reverse(*permille), *level));
        full.into_iter().find_map(|(_, level)| match level {
            0 => Self::level0(view, options).filter(|plan| !plan.meets(avoided)),
            level => Self::cheapest(view, options, level, avoided),
        })
    }

    /// Whether it reads one of these files.
    pub(crate) fn meets(&self, files: &BTreeSet<u64>) -> bool {
        self.inputs.iter().any(|segment| files.contains(&segment.meta.number))
    }

    /// The file of a level that is best brought a level down, without these.
    fn cheapest(view: &View, options: &WarmOptions, level: usize, avoided: &BTreeSet<u64>) -> Option<Self> {
        let below = view.levels.get(level + 1).map(Vec::as_slice).unwrap_or_default();
        let overlap = |segment: &Arc<Segment>| {
            let hull = Hull::of([segment]);
            below.iter().filter(move |other| hull.as_ref().is_some_and(|hull| hull.meets(other))).cloned().collect::<Vec<_>>()
        };
        // What costs least to rewrite for what it takes away, and rather what holds much that is old.
        let cost = |segment: &Arc<Segment>| {
            let rewritten = segment.meta.size_bytes + size_bytes(&overlap(segment));
            permille(permille(rewritten, segment.meta.size_bytes), 1000 + old_permille(&segment.meta))
        };
        let is_avoided = |segment: &Arc<Segment>| avoided.contains(&segment.meta.number);
        let is_free =
            |segment: &&Arc<Segment>| avoided.is_empty() || !is_avoided(segment) && !overlap(segment).iter().any(is_avoided);
        let cheapest = view.levels.get(level)?.iter().filter(is_free).min_by_key(|segment| cost(segment))?;
        let inputs = std::iter::once(Arc::clone(cheapest)).chain(overlap(cheapest)).collect();
        Self::new(view, inputs, level + 1, Some(below_size_max(options)))
    }

    /// The file, but for some, that holds most of what need not be kept, rewritten where it is, if that is much of it.
    pub(crate) fn garbage(
        view: &View,
        options: &WarmOptions,
        retained: &RetainedTables,
        avoided: &BTreeSet<u64>,
    ) -> Option<Self> {
        let has_drops = !view.markers.drops.is_empty();
        let dropped = |segment: &Arc<Segment>| if has_drops { dropped_permille(view, segment) } else { 0 };
        let garbage = |segment| (garbage_permille(view, segment, retained).max(dropped(segment)), segment);
        let is_free = |segment: &&Arc<Segment>| !avoided.contains(&segment.meta.number);
        let shares = view.levels.iter().skip(1).flatten().filter(is_free).map(garbage);
        let drops_bytes = || view.markers.drops.keys().map(|(key, _)| key.prefix.len()).sum::<usize>();
        let has_many_drops = view.markers.drops.len() > DROPS_MAX || drops_bytes() > DROPS_SIZE_BYTES_MAX;
        let least = if has_many_drops { 1 } else { GARBAGE_PERMILLE };
        match shares.filter(|(share, _)| *share >= least).max_by_key(|(share, _)| *share) {
            Some((_, segment)) => Self::new(view, vec![Arc::clone(segment)], usize::from(segment.meta.level), None),
            // They are in files as they were flushed.
            None if has_many_drops => Self::level0(view, options),
            None => None,
        }
    }

    /// A file that may hold something by itself that was asked to be gone: for when versions [lie together](Self::bring_together).
    pub(crate) fn any_garbage(
        view: &View,
        options: &WarmOptions,
        retained: &RetainedTables,
        asked: Asked,
        avoided: &BTreeSet<u64>,
    ) -> Option<Self> {
        let is_free = |segment: &&Arc<Segment>| !avoided.contains(&segment.meta.number);
        let segment = view.segments().filter(is_free).find(|segment| asked.is_about(view, segment, retained))?;
        Self::of_segment(view, options, segment)
    }

    /// A file where it is, or all of level 0 if it lies there.
    pub(crate) fn of_segment(view: &View, options: &WarmOptions, segment: &Arc<Segment>) -> Option<Self> {
        match segment.meta.level {
            0 => Self::level0(view, options),
            level => Self::new(view, vec![Arc::clone(segment)], usize::from(level), None),
        }
    }

    /// Brings a file one level down below which another one has keys of its range, if both hold versions up to `version` that need not be
    /// kept where there are newer ones.
    pub(crate) fn bring_together(
        view: &View,
        options: &WarmOptions,
        retained: &RetainedTables,
        version: Version,
    ) -> Option<Self> {
        let is_old = |segment: &&Arc<Segment>| segment.meta.version_min <= version && is_below_horizon(&segment.meta, retained);
        for (level, segments) in view.levels.iter().enumerate() {
            for segment in segments.iter().filter(is_old) {
                let hull = Hull::of([segment])?;
                let is_other = |other: &&Arc<Segment>| !Arc::ptr_eq(segment, other) && is_old(other);
                // The files of a level below 0 have nothing in common.
                let mut levels = level.max(1)..view.levels.len();
                let beside = level == 0 && met(view, 0, &hull).any(|other| is_other(&other));
                if !beside && !levels.any(|level| met(view, level, &hull).any(|other| is_other(&other))) {
                    continue;
                }
                if level == 0 {
                    return Self::level0(view, options);
                }
                let inputs = std::iter::once(segment).chain(met(view, level + 1, &hull)).cloned().collect();
                return Self::new(view, inputs, level + 1, Some(below_size_max(options)));
            }
        }
        None
    }

    /// All of level 0 and what it meets in level 1.
    fn level0(view: &View, options: &WarmOptions) -> Option<Self> {
        let upper = view.levels.first()?;
        let hull = Hull::of(upper)?;
        let inputs = upper.iter().chain(met(view, 1, &hull)).cloned().collect();
        Self::new(view, inputs, 1, Some(below_size_max(options)))
    }

    /// All that holds keys of a range, to the lowest level that has any; `None` if it is there already and holds nothing to be removed.
    pub(crate) fn of_range(view: &View, table: EntryKind, range: &KeyRange, retained: &RetainedTables) -> Option<Self> {
        let horizon = retained.parts(table).map(|(_, retained)| retained.horizon()).max()?;
        let in_range = |segment: &Arc<Segment>| {
            let meta = &segment.meta;
            let ends_before = meta.last.table < table || meta.last.table == table && !range.is_after_start(&meta.last.prefix);
            let begins_after = meta.first.table > table || meta.first.table == table && !range.is_before_end(&meta.first.prefix);
            !ends_before && !begins_after
        };
        let plan = Self::all_that_meets(view, Hull::of(view.segments().filter(|segment| in_range(segment)))?)?;
        let is_there = plan.inputs.iter().all(|segment| segment.meta.level == plan.level);
        let has_old = |segment: &Arc<Segment>| {
            let meta = &segment.meta;
            meta.version_min <= horizon && old_entries(meta).0 > 0 || may_be_cleared(meta, table, retained)
        };
        let is_needed = !is_there || plan.inputs.iter().any(has_old) || is_marked(view, &plan.inputs);
        is_needed.then_some(plan)
    }

    /// What meets some keys, and what that meets, to the lowest level that has any of it.
    fn all_that_meets(view: &View, mut hull: Hull) -> Option<Self> {
        loop {
            // Files of level 0 go together, since a newer one must not sink below an older one.
            let has_upper = view.levels.first().is_some_and(|upper| upper.iter().any(|segment| hull.meets(segment)));
            let is_met = |segment: &&Arc<Segment>| hull.meets(segment) || (has_upper && segment.meta.level == 0);
            let inputs: Vec<Arc<Segment>> = view.segments().filter(is_met).cloned().collect();
            let wider = Hull::of(&inputs)?;
            if (&wider.first, &wider.last) == (&hull.first, &hull.last) {
                let level = inputs.iter().map(|segment| usize::from(segment.meta.level)).max()?.max(1);
                return Self::new(view, inputs, level, None);
            }
            hull = wider;
        }
    }

    pub(crate) fn size_bytes(&self) -> u64 {
        size_bytes(&self.inputs)
    }

    /// The key at which the work is best divided between two threads, if it is at least so much and for two.
    pub(crate) fn middle(&self, size_bytes_min: u64) -> Result<Option<TableKey>> {
        if self.is_patient || self.size_bytes() < size_bytes_min {
            return Ok(None);
        }
        let levels = self.inputs.chunk_by(|one, next| one.meta.level == next.meta.level);
        let Some(fullest) = levels.max_by_key(|segments| size_bytes(*segments)) else { return Ok(None) };
        let mut segments: Vec<&Arc<Segment>> = fullest.iter().collect();
        segments.sort_by(|one, other| one.meta.first.cmp(&other.meta.first));
        let half = size_bytes(fullest).div_ceil(2);
        let mut reached = 0;
        let holds_half = |segment: &&&Arc<Segment>| {
            reached += segment.meta.size_bytes;
            reached >= half
        };
        let Some(segment) = segments.iter().find(holds_half) else { return Ok(None) };
        let is_above = segments.first().is_some_and(|lowest| lowest.meta.first < segment.meta.first);
        Ok(segment.middle()?.or_else(|| is_above.then(|| segment.meta.first.clone())))
    }
}

/// Makes the files of the tier, by number.
#[derive(Debug)]
pub(crate) struct FileMaker {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) store: thermocline_format::StoreId,
    pub(crate) next_number: thermocline_io::sync::atomic::AtomicU64,
    pub(crate) cache: Arc<Cache>,
    /// What complete files have for the cache, by their numbers, until they are live.
    pub(crate) prefills: Mutex<BTreeMap<u64, Prefill>>,
}

impl FileMaker {
    pub(crate) fn begin(&self, compression: Compression, sizes: Sizes) -> Result<SstWriter> {
        let number = self.next_number.fetch_add(1, thermocline_io::sync::atomic::Ordering::Relaxed);
        let file = self.disk.create_new(FileId::Sst(number), Reason::SstWrite).map_err(disk_error)?;
        let (identity, prefill) = (FileIdentity { store: self.store, number }, Prefill::new(&self.cache));
        Ok(SstWriter::new(file, identity, compression, sizes, prefill))
    }

    /// Removes a file that will not be used.
    pub(crate) fn discard(&self, number: u64) {
        self.prefills.lock().remove(&number);
        if let Err(error) = self.disk.remove(FileId::Sst(number), Reason::SstRemove) {
            tracing::warn!(%error, "could not remove an unfinished sorted file");
        }
    }
}

/// Files that are being written, one after the other, cut where keys end. What is not taken out is removed.
#[derive(Debug)]
pub(crate) struct Output {
    maker: Arc<FileMaker>,
    compression: Compression,
    sizes: Sizes,
    file_size_bytes: u64,
    writer: Option<SstWriter>,
    last: Option<TableKey>,
    /// The files a level below, by their last keys, with their sizes, and how many lie before the last key.
    below: Arc<[(TableKey, u64)]>,
    below_passed: usize,
    /// The size of those that the file that is being written has passed.
    below_size_bytes: u64,
    done: Vec<FileMeta>,
}

impl Output {
    pub(crate) fn new(maker: &Arc<FileMaker>, compression: Compression, sizes: Sizes, file_size_bytes: u64) -> Self {
        Self {
            maker: Arc::clone(maker),
            compression,
            sizes,
            file_size_bytes,
            writer: None,
            last: None,
            below: Arc::default(),
            below_passed: 0,
            below_size_bytes: 0,
            done: Vec::new(),
        }
    }

    /// The same, cut where it would meet too much of these files.
    pub(crate) fn over(mut self, below: Arc<[(TableKey, u64)]>) -> Self {
        self.below = below;
        self
    }

    /// Notes which files a level below end before the last key.
    fn pass_below(&mut self) {
        let Some(last) = &self.last else { return };
        while let Some((_, size_bytes)) = self.below.get(self.below_passed).filter(|(end, _)| end < last) {
            self.below_passed += 1;
            if self.writer.is_some() {
                self.below_size_bytes = self.below_size_bytes.saturating_add(*size_bytes);
            }
        }
    }

    /// Adds an entry, as the strategy wants it to be if there are hooks: the same for all entries.
    pub(crate) fn push(&mut self, entry: &NewVersion<'_>, hooks: Option<&mut Hooks>, offer: Offer) -> Result<()> {
        let mut hooks = hooks;
        let is_new_key = self.last.as_ref().is_none_or(|last| last.table != entry.table || last.prefix != entry.prefix);
        if is_new_key {
            let is_new_table = self.last.as_ref().is_some_and(|last| last.table != entry.table);
            // A table that fills a good part of a file has its files for itself.
            let size_max = if is_new_table { self.file_size_bytes / 8 } else { self.file_size_bytes };
            if self.writer.as_ref().is_some_and(|writer| writer.size_bytes() >= size_max) {
                self.close(hooks.as_deref_mut())?;
            }
            let last = self.last.get_or_insert_with(|| TableKey { table: entry.table, prefix: Vec::new() });
            last.table = entry.table;
            last.prefix.clear();
            last.prefix.extend_from_slice(entry.prefix);
            self.pass_below();
            if self.below_size_bytes > self.file_size_bytes.saturating_mul(BELOW_FILES_MAX) {
                self.close(hooks.as_deref_mut())?;
            }
        }
        let writer = match &mut self.writer {
            Some(writer) => writer,
            None => self.writer.insert(self.maker.begin(self.compression, self.sizes)?),
        };
        match hooks {
            Some(hooks) => hooks.pass(entry, offer, |entry| writer.push(entry)),
            None => writer.push(entry),
        }
    }

    /// Says that the entry that was pushed last was read from a cached block.
    fn note_cached(&mut self) {
        if let Some(writer) = &mut self.writer {
            writer.note_cached();
        }
    }

    fn close(&mut self, hooks: Option<&mut Hooks>) -> Result<()> {
        self.below_size_bytes = 0;
        let Some(writer) = self.writer.take() else { return Ok(()) };
        let number = writer.number();
        let summary = hooks.map_or_else(|| Ok(Vec::new()), Hooks::end_file);
        match summary.and_then(|summary| Ok(writer.finish()?.map(|complete| (complete, summary)))) {
            Ok(Some(((meta, prefill), summary))) => {
                if !prefill.is_empty() {
                    self.maker.prefills.lock().insert(number, prefill);
                }
                self.done.push(FileMeta { summary: summary.into(), ..meta });
            }
            Ok(None) => self.maker.discard(number),
            Err(error) => {
                self.maker.discard(number);
                return Err(error);
            }
        }
        Ok(())
    }

    /// The complete files, whose content is durable and whose names are not yet. Whoever takes them keeps or [discards](FileMaker::discard) them.
    pub(crate) fn finish(mut self, hooks: Option<&mut Hooks>) -> Result<Vec<FileMeta>> {
        self.close(hooks)?;
        Ok(std::mem::take(&mut self.done))
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        let unfinished = self.writer.take().map(|writer| writer.number());
        for number in self.done.iter().map(|meta| meta.number).chain(unfinished) {
            self.maker.discard(number);
        }
    }
}

/// A part of a rewrite: the keys of a range, as one thread works on them.
#[derive(Debug)]
pub(crate) struct Part {
    merge: Merge,
    output: Output,
}

impl Part {
    pub(crate) fn open(
        plan: &Plan,
        keep: &Keep,
        keys: (Option<&TableKey>, Option<TableKey>),
        output: Output,
        hooks: Option<Hooks>,
    ) -> Result<Self> {
        let (from, end) = keys;
        let is_in = |segment: &&Arc<Segment>| {
            from.is_none_or(|from| segment.meta.last >= *from) && end.as_ref().is_none_or(|end| segment.meta.first < *end)
        };
        let segments: Vec<Arc<Segment>> = plan.inputs.iter().filter(is_in).cloned().collect();
        let inputs = Chain::open_all(&segments, from)?;
        Ok(Self { merge: Merge::new(inputs, keep.clone()).part(end, hooks), output })
    }

    /// Works until about so much was read; true when the part is complete.
    pub(crate) fn step(&mut self, size_bytes: u64) -> Result<bool> {
        let mut done = 0;
        if let Some(hooks) = &mut self.merge.hooks {
            hooks.begin_step();
        }
        while done < size_bytes {
            match self.merge.next_within(size_bytes - done)? {
                Next::Entry(row) => {
                    self.output.push(&row.as_new(&self.merge.key), self.merge.hooks.as_mut(), row.offer)?;
                    if row.is_cached {
                        self.output.note_cached();
                    }
                }
                Next::End => return Ok(true),
                Next::Later => {}
            }
            done += self.merge.take_read_bytes();
        }
        Ok(false)
    }

    /// Its files, and what the strategy did.
    pub(crate) fn finish(mut self) -> Result<(Vec<FileMeta>, MigrationReport)> {
        let files = self.output.finish(self.merge.hooks.as_mut())?;
        Ok((files, self.merge.hooks.map(|hooks| hooks.report()).unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests;
