//! Pages of a scan: seek, then walk the leaves, asking for the memory of the next entries while the earlier ones are copied.

use std::ops::Bound;

use thermocline_tier::{Direction, RangeBatch, ReadWindow};

use crate::record::{Found, Record, Sight, find};
use crate::region::Region;
use crate::state::{State, Table, View};
use crate::tree::{Leaf, Ordered, SLOTS};

/// Entries that go through the steps together: while one such group is copied, memory answers for the next.
const GROUP: usize = 16;

/// What a page is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Page<'a> {
    pub(crate) start: Bound<&'a [u8]>,
    pub(crate) end: Bound<&'a [u8]>,
    pub(crate) window: ReadWindow,
    pub(crate) direction: Direction,
    pub(crate) entries_max: usize,
}

impl Page<'_> {
    /// The bound where the scan ends.
    fn far(&self) -> Bound<&[u8]> {
        match self.direction {
            Direction::Forward => self.end,
            Direction::Reverse => self.start,
        }
    }

    /// Whether a record lies beyond the end of the scan.
    fn is_past_end(&self, record: Record<'_>) -> bool {
        match (self.direction, self.far()) {
            (_, Bound::Unbounded) => false,
            (Direction::Forward, Bound::Included(end)) => record.compare(end).is_gt(),
            (Direction::Forward, Bound::Excluded(end)) => record.compare(end).is_ge(),
            (Direction::Reverse, Bound::Included(start)) => record.compare(start).is_lt(),
            (Direction::Reverse, Bound::Excluded(start)) => record.compare(start).is_le(),
        }
    }
}

/// A leaf's records in the order of the scan, from the first that the scan wants to the last.
struct Run {
    records: [u32; SLOTS],
    len: usize,
    /// Whether the scan ends in this leaf.
    is_last: bool,
}

impl Run {
    fn of(region: &Region, leaf: Leaf<'_>, page: &Page<'_>, is_first: bool) -> Self {
        let ordered = leaf.ordered(region);
        let records = ordered.records();
        let (mut low, mut high) = (0, records.len());
        if is_first {
            match (page.direction, page.start, page.end) {
                (Direction::Forward, Bound::Included(start), _) => low = leaf.rank(region, &ordered, start, false),
                (Direction::Forward, Bound::Excluded(start), _) => low = leaf.rank(region, &ordered, start, true),
                (Direction::Reverse, _, Bound::Included(end)) => high = leaf.rank(region, &ordered, end, true),
                (Direction::Reverse, _, Bound::Excluded(end)) => high = leaf.rank(region, &ordered, end, false),
                (Direction::Forward, Bound::Unbounded, _) | (Direction::Reverse, _, Bound::Unbounded) => {}
            }
        }
        let mut is_last = false;
        let (nearest, farthest) = match page.direction {
            Direction::Forward => (records.first(), records.last()),
            Direction::Reverse => (records.last(), records.first()),
        };
        if let (Some(_), Some(farthest)) = (nearest, farthest)
            && page.is_past_end(Record::new(region, *farthest))
        {
            is_last = true;
            Self::cut(region, leaf, &ordered, page, &mut low, &mut high);
        }
        let mut run = Self { records: [0; SLOTS], len: high.saturating_sub(low), is_last };
        let wanted = &records[low.min(high)..high];
        match page.direction {
            Direction::Forward => run.records[..run.len].copy_from_slice(wanted),
            Direction::Reverse => run.records.iter_mut().zip(wanted.iter().rev()).for_each(|(to, from)| *to = *from),
        }
        run
    }

    fn cut(region: &Region, leaf: Leaf<'_>, ordered: &Ordered, page: &Page<'_>, low: &mut usize, high: &mut usize) {
        match (page.direction, page.start, page.end) {
            (Direction::Forward, _, Bound::Included(end)) => *high = leaf.rank(region, ordered, end, true),
            (Direction::Forward, _, Bound::Excluded(end)) => *high = leaf.rank(region, ordered, end, false),
            (Direction::Reverse, Bound::Included(start), _) => *low = leaf.rank(region, ordered, start, false),
            (Direction::Reverse, Bound::Excluded(start), _) => *low = leaf.rank(region, ordered, start, true),
            (Direction::Forward, _, Bound::Unbounded) | (Direction::Reverse, Bound::Unbounded, _) => {}
        }
    }
}

/// Room for what the steps of a scan hand on to one another.
struct Steps<'a> {
    records: [Record<'a>; SLOTS],
    /// What is to be copied; [`Found::NOTHING`] for records that show nothing, and for those whose history is still to be looked into.
    found: [Found; SLOTS],
    /// The first history block of those, else 0.
    histories: [u32; SLOTS],
    /// Whether any of a group has one.
    has_history: [bool; SLOTS.div_ceil(GROUP)],
}

impl State {
    /// Appends the entries of a page to `out` and sets its `has_more`.
    pub(crate) fn fill(&self, table: &Table, page: &Page<'_>, view: View, out: &mut RangeBatch) {
        let region = &*self.region;
        let near = match page.direction {
            Direction::Forward => page.start,
            Direction::Reverse => page.end,
        };
        let mut leaf = match near {
            Bound::Included(key) | Bound::Excluded(key) => table.tree.leaf_of(region, key),
            Bound::Unbounded => table.tree.end_leaf(region, page.direction == Direction::Reverse),
        };
        let mut is_first = true;
        let mut steps = Steps {
            records: [Record::new(region, 0); SLOTS],
            found: [Found::NOTHING; SLOTS],
            histories: [0; SLOTS],
            has_history: [false; SLOTS.div_ceil(GROUP)],
        };
        loop {
            let next = match page.direction {
                Direction::Forward => leaf.next(),
                Direction::Reverse => leaf.previous(),
            };
            Leaf::prefetch(region, next);
            let is_last = if page.window.after.is_some_and(|after| leaf.newest() <= after) {
                // Nothing in this leaf is in the window. It may hold the end of the range all the same: if it does not, as far as one
                // of its keys tells, the next one will.
                leaf.any_record().is_some_and(|record| page.is_past_end(Record::new(region, record)))
            } else {
                let run = Run::of(region, leaf, page, is_first);
                !self.emit(&run, page, view, &mut steps, out) || run.is_last
            };
            if is_last || next == 0 {
                return;
            }
            is_first = false;
            leaf = Leaf::new(region, next);
        }
    }

    /// Emits the entries of a run; `false` once the page is full, and known to be so.
    fn emit<'a>(&'a self, run: &Run, page: &Page<'_>, view: View, steps: &mut Steps<'a>, out: &mut RangeBatch) -> bool {
        let records = &run.records[..run.len];
        let mut done = 0;
        // One entry more than the page has room for tells whether there is more; those that the window leaves out come on top.
        while done < records.len() {
            let wanted = (page.entries_max - out.len()).saturating_add(1).min(records.len() - done);
            if !self.emit_part(&records[done..done + wanted], page, view, steps, out) {
                return false;
            }
            done += wanted;
        }
        true
    }

    /// Takes the records of a part through four steps, each a group behind the one before: ask for the record; look at it and ask for what it
    /// points at; find the entry and ask for it; copy it.
    fn emit_part<'a>(&'a self, part: &[u32], page: &Page<'_>, view: View, steps: &mut Steps<'a>, out: &mut RangeBatch) -> bool {
        let region = &*self.region;
        let Steps { records, found, histories, has_history } = steps;
        let group = |number: usize| number * GROUP..(number * GROUP + GROUP).min(part.len());
        let groups = part.len().div_ceil(GROUP);
        Self::ask(region, &part[group(0)], &mut records[group(0)]);
        for step in 0..groups + 2 {
            if step + 1 < groups {
                Self::ask(region, &part[group(step + 1)], &mut records[group(step + 1)]);
            }
            if step < groups {
                has_history[step] = self.look(&records[group(step)], view, &mut found[group(step)], &mut histories[group(step)]);
            }
            if let Some(number) = step.checked_sub(1).filter(|number| *number < groups && has_history[*number]) {
                self.resolve(&histories[group(number)], view, &mut found[group(number)]);
            }
            if let Some(number) = step.checked_sub(2)
                && !self.copy(&records[group(number)], &found[group(number)], page, out)
            {
                return false;
            }
        }
        true
    }

    #[inline]
    fn ask<'a>(region: &'a Region, places: &[u32], records: &mut [Record<'a>]) {
        for (place, record) in places.iter().zip(records) {
            *record = Record::new(region, *place);
            record.prefetch();
        }
    }

    /// Looks at records; answers whether any history is to be looked into.
    #[inline]
    fn look(&self, records: &[Record<'_>], view: View, found: &mut [Found], histories: &mut [u32]) -> bool {
        let mut has_history = false;
        for ((record, found), history) in records.iter().zip(found).zip(histories) {
            (*found, *history) = (Found::NOTHING, 0);
            match record.look(&self.values, view.at, view.published) {
                Sight::Newest(newest) => {
                    self.values.prefetch_value(newest.value);
                    *found = newest;
                }
                Sight::History(block) => {
                    self.region.prefetch(block);
                    *history = block;
                    has_history = true;
                }
                Sight::Nothing => {}
            }
        }
        has_history
    }

    #[inline]
    fn resolve(&self, histories: &[u32], view: View, found: &mut [Found]) {
        for (block, found) in histories.iter().zip(found).filter(|(block, _)| **block != 0) {
            if let Some(older) = find(&self.region, *block, view.at) {
                self.values.prefetch_value(older.value);
                *found = older;
            }
        }
    }

    /// Copies entries to the page; `false` once it is full, and known to be so.
    #[inline]
    fn copy(&self, records: &[Record<'_>], found: &[Found], page: &Page<'_>, out: &mut RangeBatch) -> bool {
        for (record, found) in records.iter().zip(found) {
            if found.value.is_none() {
                continue;
            }
            let visible = *found;
            if page.window.after.is_some_and(|after| visible.version <= after) {
                continue;
            }
            if out.len() == page.entries_max {
                out.has_more = true;
                return false;
            }
            out.make_room(page.entries_max);
            self.values.push(out, *record, visible.version, visible.value);
        }
        true
    }
}
