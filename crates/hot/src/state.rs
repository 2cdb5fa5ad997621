//! What readers reach with one load: the arena and the directory of tables.

use std::sync::Arc;

use thermocline_tier::{EntryKind, Lookup, Version};

use crate::arena::values::Values;
use crate::index::{Index, tag};
use crate::record::{Found, Record, Sight, find};
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
    /// In order.
    pub(crate) tables: Vec<Table>,
    pub(crate) hash_seed: u64,
}

/// The version that a reader reads at, and the published one that it loaded before anything else; the first is not above the second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    pub(crate) at: Version,
    pub(crate) published: Version,
}

impl State {
    /// Where `kind` stands among the tables, or where it would stand.
    #[inline]
    pub(crate) fn position(&self, kind: EntryKind) -> Result<usize, usize> {
        self.tables.binary_search_by_key(&kind.code(), |table| table.kind.code())
    }

    #[inline]
    pub(crate) fn table(&self, kind: EntryKind) -> Option<&Table> {
        // Most reads go to few tables, of which the first is as good a guess as any.
        self.position(kind).ok().map(|index| &self.tables[index])
    }

    #[inline]
    pub(crate) fn tag(&self, prefix: &[u8]) -> u32 {
        tag(prefix, self.hash_seed)
    }

    /// The offset of a key's record.
    #[inline]
    pub(crate) fn record(&self, kind: EntryKind, prefix: &[u8]) -> Option<u32> {
        self.table(kind)?.index.find(&self.region, self.tag(prefix), prefix)
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

    #[inline]
    pub(crate) fn get(&self, kind: EntryKind, prefix: &[u8], view: View) -> Option<Found> {
        self.visible(self.record(kind, prefix)?, view)
    }

    #[inline]
    pub(crate) fn lookup(&self, found: Option<Found>) -> Lookup {
        found.map_or(Lookup::Absent, |found| self.values.lookup(found.version, found.value))
    }
}
