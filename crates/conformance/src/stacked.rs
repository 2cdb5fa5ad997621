//! Two instances of a backend, one above the other: a backend of its own, which is flushed from the upper to the lower.

use std::sync::Arc;

use thermocline_tier::{
    BatchBuilder, Direction, DropVersion, EntryKind, EntryRef, KeyLayout, KeyRange, RangeBatch, RangeRequest, ReadWindow, Result,
    TierScan, TierStack, TierStorage, Version,
};

use crate::backend::{Backend, Capability, Step, Subject};

/// The entries that a flush reads at once.
const FLUSH_PAGE_ENTRIES: usize = 64;

/// The stack of two instances of `backend`, as a backend of its own. [`Step::Flush`] moves every entry from the upper to the lower
/// instance, then flushes that one if it offers the step.
///
/// It lacks exact statistics and atomic drops: a [`TierStack`] adds up its tiers, and reaches them one after the other.
///
/// ```
/// use std::sync::Arc;
/// use thermocline_conformance::{Backend, ModelTier, Step, stacked};
///
/// let stack = stacked(&Backend::new("model", || Arc::new(ModelTier::new())));
/// assert_eq!((stack.name(), stack.steps()), ("model over model", [Step::Flush].as_slice()));
/// ```
pub fn stacked(backend: &Backend) -> Backend {
    let (inner, name) = (backend.clone(), format!("{0} over {0}", backend.name()));
    let mut steps = vec![Step::Flush];
    steps.extend(backend.steps().iter().filter(|step| **step != Step::Flush));
    let open = move || Ok(Box::new(Stacked::open(&inner)?) as Box<dyn Subject>);
    Backend::with_subjects(&name, &steps, open).lacking(Capability::ExactStats).lacking(Capability::AtomicDrops)
}

/// Two instances of a backend and the stack of them.
pub(crate) struct Stacked {
    upper: Box<dyn Subject>,
    lower: Box<dyn Subject>,
    takes: Vec<Step>,
}

impl Stacked {
    pub(crate) fn open(backend: &Backend) -> Result<Self> {
        Ok(Self { upper: backend.open()?, lower: backend.open()?, takes: backend.steps().to_vec() })
    }

    pub(crate) fn upper(&self) -> Arc<dyn TierStorage> {
        self.upper.tier()
    }

    pub(crate) fn lower(&self) -> Arc<dyn TierStorage> {
        self.lower.tier()
    }

    pub(crate) fn stack(&self) -> Result<Arc<TierStack>> {
        Ok(Arc::new(TierStack::new(vec![self.upper(), self.lower()])?))
    }
}

impl Subject for Stacked {
    fn tier(&self) -> Arc<dyn TierStorage> {
        // A stack of two is never refused; were it so, the upper tier alone would fail every case that needs both.
        self.stack().map_or_else(|_refused| self.upper(), |stack| stack as Arc<dyn TierStorage>)
    }

    fn take(&self, step: Step) -> Result<()> {
        if step == Step::Flush {
            move_entries(&*self.upper(), &*self.lower())?;
            return if self.takes.contains(&step) { self.lower.take(step) } else { Ok(()) };
        }
        self.upper.take(step)?;
        self.lower.take(step)
    }
}

/// Moves every entry of `from` to `to`: written there before it is dropped here, so that a reader from above misses none.
pub(crate) fn move_entries(from: &dyn TierStorage, to: &dyn TierStorage) -> Result<()> {
    for table in from.tables()? {
        to.ensure_table(table)?;
        let request = RangeRequest {
            table,
            range: KeyRange::all(),
            window: ReadWindow::as_of(Version::MAX),
            direction: Direction::Forward,
        };
        let mut cursor = request.into_cursor();
        while !cursor.is_exhausted() {
            let page = from.range_next(&mut cursor, FLUSH_PAGE_ENTRIES)?;
            if page.is_empty() {
                break;
            }
            for entry in page.iter() {
                move_key(from, to, table, entry.prefix)?;
            }
        }
    }
    Ok(())
}

fn move_key(from: &dyn TierStorage, to: &dyn TierStorage, table: EntryKind, prefix: &[u8]) -> Result<()> {
    let entries = from.get_all_versions(table, prefix)?;
    for entry in &entries {
        write_entry(to, table, entry.as_ref())?;
    }
    let named = |entry: thermocline_tier::RawEntry| DropVersion { table, prefix: entry.prefix, version: entry.version };
    from.drop_versions(&entries.into_iter().map(named).collect::<Vec<_>>())
}

/// Writes one entry as a batch of its own, with its suffix.
pub(crate) fn write_entry(tier: &dyn TierStorage, table: EntryKind, entry: EntryRef<'_>) -> Result<()> {
    let key = [entry.prefix, entry.suffix].concat();
    let mut batch = BatchBuilder::with_capacity(1, key.len() + entry.value.map_or(0, <[u8]>::len));
    match entry.value {
        Some(value) => batch.put(table, &key, value)?,
        None => batch.remove(table, &key)?,
    }
    tier.set(&batch.finish(&PrefixOf(entry.prefix.len()), entry.version))
}

/// The first `.0` bytes of a key are its prefix.
#[derive(Debug)]
pub(crate) struct PrefixOf(pub(crate) usize);

impl KeyLayout for PrefixOf {
    fn name(&self) -> String {
        format!("prefix-of-{}", self.0)
    }

    fn prefix_len(&self, _table: EntryKind, _key: &[u8]) -> usize {
        self.0
    }
}

/// Everything that a scan returns, in pages of `entries_max`.
pub(crate) fn drain(scan: &mut dyn TierScan, entries_max: usize, rows_max: usize) -> Result<RangeBatch> {
    let (mut all, mut page) = (RangeBatch::new(), RangeBatch::new());
    page.has_more = true;
    while page.has_more && all.len() <= rows_max {
        scan.next_batch(entries_max, &mut page)?;
        (0..page.len()).for_each(|index| all.push_from(&page, index));
        if page.is_empty() {
            break;
        }
    }
    all.has_more = page.has_more;
    Ok(all)
}
