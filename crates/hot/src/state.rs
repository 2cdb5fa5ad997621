//! What readers reach with one load: the arena and the directory of tables.

use std::sync::Arc;

use thermocline_tier::{EntryKind, Lookup, Version};

use crate::arena::values::Values;
use crate::index::{Index, Slot, tag};
use crate::record::{self, Found, Record, Sight, find};
use crate::region::Region;
use crate::tree::Tree;

/// One table: its two ways to a record.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) kind: EntryKind,
    pub(crate) tree: Arc<Tree>,
    pub(crate) index: Arc<Index>,
}

/// The state of a tier but for what is changed in place. A new one takes its place when a table comes, is cleared or gets a
/// larger index, and when the arena is compacted; readers of the old one keep what they read alive.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) region: Arc<Region>,
    pub(crate) values: Arc<Values>,
    pub(crate) hash_seed: u64,
    /// In order.
    pub(crate) tables: Vec<Table>,
    directory: Directory,
}

/// From a table's code to its place among the tables: open addressing, a quarter full.
#[derive(Clone, Debug)]
struct Directory {
    /// The code plus one above the place; 0 is empty.
    slots: Box<[u64]>,
    shift: u32,
}

impl Directory {
    /// The bits of a place.
    const PLACE_BITS: u32 = 28;

    fn new(tables: &[Table]) -> Self {
        let len = (tables.len() * 4).next_power_of_two().max(16);
        let mut directory = Self { slots: vec![0; len].into(), shift: u64::BITS - len.ilog2() };
        for (place, table) in (0_u64..).zip(tables) {
            let code = table.kind.code();
            let mut index = directory.first(code);
            while directory.slots[index] != 0 {
                index = (index + 1) % len;
            }
            directory.slots[index] = (code + 1) << Self::PLACE_BITS | place;
        }
        directory
    }

    #[inline]
    fn first(&self, code: u64) -> usize {
        // Multiplicative hashing (Knuth): the codes of a schema are often consecutive.
        #[expect(clippy::cast_possible_truncation, reason = "the shift leaves the bits of an index")]
        let index = (code.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift) as usize;
        index
    }

    #[inline]
    fn place(&self, code: u64) -> Option<usize> {
        let mut index = self.first(code);
        // Ends: three slots of four are empty.
        loop {
            let slot = *self.slots.get(index)?;
            if slot >> Self::PLACE_BITS == code + 1 {
                let place = (slot & ((1 << Self::PLACE_BITS) - 1)) as usize;
                return Some(place);
            }
            if slot == 0 {
                return None;
            }
            index = (index + 1) & (self.slots.len() - 1);
        }
    }
}

/// The version that a reader reads at, and the published one that it loaded before anything else; the first is not above the second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    pub(crate) at: Version,
    pub(crate) published: Version,
}

impl State {
    /// A state of no tables.
    pub(crate) fn new(region: Arc<Region>, values: Arc<Values>, hash_seed: u64) -> Self {
        Self { region, values, hash_seed, tables: Vec::new(), directory: Directory::new(&[]) }
    }

    /// Where `kind` stands among the tables.
    #[inline]
    pub(crate) fn position(&self, kind: EntryKind) -> Option<usize> {
        self.directory.place(kind.code())
    }

    #[inline]
    pub(crate) fn table(&self, kind: EntryKind) -> Option<&Table> {
        self.tables.get(self.position(kind)?)
    }

    /// Adds a table that is not there; answers where it stands.
    pub(crate) fn add(&mut self, table: Table) -> usize {
        let position = self.tables.partition_point(|other| other.kind < table.kind);
        self.tables.insert(position, table);
        self.directory = Directory::new(&self.tables);
        position
    }

    #[inline]
    pub(crate) fn tag(&self, prefix: &[u8]) -> u32 {
        tag(prefix, self.hash_seed)
    }

    /// The offset of a key's record.
    #[inline]
    pub(crate) fn record(&self, kind: EntryKind, prefix: &[u8]) -> Option<u32> {
        self.table(kind)?.index.find(&self.region, self.tag(prefix), prefix, |_| {})
    }

    /// The entry that `view` sees of a record.
    #[inline]
    pub(crate) fn visible(&self, record: u32, view: View) -> Option<Found> {
        match Record::new(&self.region, record).look(&self.values, view.at, view.published) {
            Sight::Nothing => None,
            Sight::Newest(found) => Some(found),
            Sight::History(block) => find(&self.region, block, view.at),
        }
    }

    /// Calls `visit` for every entry of a record that `view` sees, newest first, until it answers `false`.
    #[inline]
    pub(crate) fn all_versions(&self, record: u32, view: View, mut visit: impl FnMut(Found) -> bool) {
        let Some(newest) = self.visible(record, view) else { return };
        // What the writer is adding stands above; the newest may be seen a second time.
        if visit(newest)
            && let Some(older) = newest.version.previous()
        {
            record::visit(&self.region, Record::new(&self.region, record).history(), older, visit);
        }
    }

    #[inline]
    pub(crate) fn get(&self, kind: EntryKind, prefix: &[u8], view: View) -> Option<Found> {
        let hint = |slot: Slot| {
            self.values.prefetch(slot.value);
            if view.at != view.published {
                self.region.prefetch(slot.history);
            }
        };
        let record = self.table(kind)?.index.find(&self.region, self.tag(prefix), prefix, hint)?;
        self.visible(record, view)
    }

    #[inline]
    pub(crate) fn lookup(&self, found: Option<Found>) -> Lookup {
        found.map_or(Lookup::Absent, |found| self.values.lookup(found.version, found.value))
    }
}
