//! Sweeping a tier: what is not retained is dropped, in steps that know where they were.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use thermocline_tier::{
    Amount, Direction, DropVersion, EntryKind, KeyRange, RangeRequest, ReadWindow, Result, Retained, RetainedTables, TierStorage,
    Version,
};

/// How many entries are dropped at once, at most: readers wait for that long.
const DROPS_MAX: usize = 1024;

/// A pass over all keys of a tier that has nothing below it: drops what is not retained. For tiers that drop at once, such as those in
/// memory; sorted files do it as they are rewritten.
///
/// Each step looks at some keys of one table, the next at some of the next table, so that a large one keeps no other waiting. Writers
/// may go on meanwhile: what they write is above every horizon, and tables that they make are for the next pass.
///
/// ```
/// use thermocline_drop::{Sweep, Swept};
/// use thermocline_tier::{Result, RetainedTables, TierStorage};
///
/// /// Returns how many entries a pass has dropped.
/// fn sweep(tier: &dyn TierStorage, retained: &RetainedTables) -> Result<u64> {
///     let (mut sweep, mut dropped) = (Sweep::default(), 0);
///     loop {
///         let step = sweep.step(tier, retained, 256)?;
///         dropped += step.dropped.entries;
///         if step.is_done {
///             return Ok(dropped);
///         }
///     }
/// }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Sweep {
    /// The tables that are not done, and of each the last key that was looked at; `None` between passes.
    left: Option<BTreeMap<EntryKind, Option<Bytes>>>,
    /// The table of the last step.
    last: Option<EntryKind>,
}

/// What a step has done.
///
/// ```
/// assert_eq!(thermocline_drop::Swept::default().dropped.entries, 0);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// How many keys it has looked at.
    pub keys: u64,
    /// The table whose keys they are; `None` if it has looked at none.
    pub table: Option<EntryKind>,
    /// What it has dropped.
    pub dropped: Amount,
    /// Whether the pass is over; the next step begins another one.
    pub is_done: bool,
}

impl Sweep {
    /// Looks at the next keys of a table with all their versions, and drops of each what is not retained, until it has looked at `entries_max`
    /// entries: at one key at least.
    ///
    /// # Errors
    /// What the tier fails with; the next step tries the same again.
    pub fn step(&mut self, tier: &dyn TierStorage, retained: &RetainedTables, entries_max: usize) -> Result<Swept> {
        let tables = tier.tables()?;
        let left = self.left.get_or_insert_with(|| tables.iter().map(|table| (*table, None)).collect());
        left.retain(|table, _| tables.contains(table));
        let next = self.last.and_then(|last| left.range((Bound::Excluded(last), Bound::Unbounded)).next());
        let Some((table, after)) = next.or_else(|| left.iter().next()).map(|(table, after)| (*table, after.clone())) else {
            self.left = None;
            return Ok(Swept { is_done: true, ..Swept::default() });
        };
        let range = KeyRange { start: after.map_or(Bound::Unbounded, Bound::Excluded), end: Bound::Unbounded };
        let request = RangeRequest { table, range, window: ReadWindow::as_of(Version::MAX), direction: Direction::Forward };
        let mut cursor = request.into_cursor();
        let page = tier.range_next(&mut cursor, entries_max.max(1))?;
        let (mut drops, mut swept, mut seen, mut last) = (Vec::new(), Swept { table: Some(table), ..Swept::default() }, 0, None);
        let mut is_cut = !cursor.is_exhausted();
        for newest in page.iter() {
            if seen >= entries_max.max(1) {
                is_cut = true;
                break;
            }
            let entries = tier.get_all_versions(table, newest.prefix)?;
            seen += entries.len();
            swept.keys += 1;
            let versions: Vec<(Version, bool)> = entries.iter().map(|entry| (entry.version, entry.value.is_none())).collect();
            let prefix = Bytes::copy_from_slice(newest.prefix);
            for version in superseded(&versions, retained.of(table, &prefix)) {
                let place = entries.partition_point(|entry| entry.version > version);
                let bytes = entries.get(place).map_or(0, |entry| entry.as_ref().user_bytes());
                swept.dropped += Amount { entries: 1, bytes };
                drops.push(DropVersion { table, prefix: prefix.clone(), version });
            }
            last = Some(prefix);
        }
        drops.chunks(DROPS_MAX).try_for_each(|drops| tier.drop_versions(drops))?;
        self.last = Some(table);
        match last {
            Some(last) if is_cut => left.insert(table, Some(last)),
            _ => left.remove(&table),
        };
        if left.is_empty() {
            *self = Self::default();
            swept.is_done = true;
        }
        Ok(swept)
    }
}

/// The versions of a key that are not kept, the oldest first, so that they may be dropped one after the other: what a tombstone hides goes
/// before it. Of all that it has, newest first, each with whether it is a tombstone; nothing of the key may lie anywhere else.
///
/// ```
/// use thermocline_drop::superseded;
/// use thermocline_tier::{Retained, Version};
///
/// let versions = [(Version(9), false), (Version(5), false), (Version(3), true)];
/// let gone: Vec<_> = superseded(&versions, &Retained::new(Version(6), [])).collect();
/// assert_eq!(gone, [Version(3)]);
/// ```
pub fn superseded(versions: &[(Version, bool)], retained: &Retained) -> impl Iterator<Item = Version> {
    superseded_over(versions, retained, false)
}

/// The same where older versions of the key may lie somewhere else (`has_below`): then tombstones at its end stay.
pub fn superseded_over(
    versions: &[(Version, bool)],
    retained: &Retained,
    has_below: bool,
) -> impl Iterator<Item = Version> + use<> {
    let mut newer = None;
    let mut gone: Vec<bool> = Vec::with_capacity(versions.len());
    for (position, (version, _)) in versions.iter().enumerate() {
        gone.push(!retained.keeps(*version, newer, position as u64));
        newer = Some(*version);
    }
    // Below a tombstone that is the oldest of what is kept there is nothing to hide. A horizon of 0 is none.
    for (position, ((version, is_tombstone), gone)) in versions.iter().zip(&mut gone).enumerate().rev() {
        if *gone {
            continue;
        }
        let may_go = *version <= retained.horizon() && retained.horizon() > Version::ZERO;
        if has_below || !is_tombstone || !may_go || retained.keeps_anyway(*version, position as u64) {
            break;
        }
        *gone = true;
    }
    let of_gone = versions.iter().zip(gone).rev().filter_map(|((version, _), gone)| gone.then_some(*version));
    of_gone.collect::<Vec<_>>().into_iter()
}

#[cfg(test)]
mod tests {
    use thermocline_tier::Clear;

    use super::*;

    #[test]
    fn what_is_superseded_goes_and_with_it_tombstones_that_hide_nothing() {
        let gone = |versions: &[i64], retained: &Retained| {
            // Negative for tombstones.
            let versions: Vec<(Version, bool)> =
                versions.iter().map(|version| (Version(version.unsigned_abs()), *version < 0)).collect();
            superseded(&versions, retained).map(|version| version.0).collect::<Vec<_>>()
        };
        let horizon = Retained::new(Version(25), []);
        assert_eq!(gone(&[60, 40, 30, 20, 10], &horizon), [10]);
        assert_eq!(gone(&[60, 40, 30, -20, 10], &horizon), [10, 20]);
        assert_eq!(gone(&[-60, 20], &horizon), [0; 0]);
        assert_eq!(gone(&[-20, 10], &horizon), [10, 20]);
        assert_eq!(gone(&[-20], &horizon), [20]);
        assert_eq!(gone(&[-26, 24], &horizon), [0; 0]);
        assert_eq!(gone(&[20], &horizon), [0; 0]);
        // A pin sees the value below the tombstone, which stays with it.
        let pinned = Retained::new(Version(25), [Version(12)]);
        assert_eq!(gone(&[-20, -15, 10, 5], &pinned), [5, 15]);
        assert_eq!(gone(&[-20, -11, 10], &pinned), [10, 11, 20]);
        assert_eq!(gone(&[-20, 10], &Retained::default()), [0; 0]);
        assert_eq!(gone(&[24, 23, 22, 21], &horizon.clone().with_newest(3)), [21]);
        assert_eq!(gone(&[24, -20], &horizon.clone().with_newest(3)), [0; 0]);
        assert_eq!(gone(&[24, -20], &horizon), [20]);
        // All of it was cleared.
        let cleared = horizon.with_clears([Clear { at: Version(25), below: Version(22) }].into());
        assert_eq!(gone(&[21, 20, -10], &cleared), [10, 20, 21]);
        assert_eq!(gone(&[22, 21], &cleared), [21]);
        let pinned =
            Retained::new(Version(25), [Version(20)]).with_clears([Clear { at: Version(25), below: Version(22) }].into());
        assert_eq!(gone(&[21, 20, 10], &pinned), [10, 21]);
    }
}
