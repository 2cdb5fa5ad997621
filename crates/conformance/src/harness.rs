//! What the cases are written with: writes to one instance of a backend, and checks of every way to read it.

use std::fmt;
use std::sync::Arc;

use thermocline_tier::{BatchBuilder, DropVersion, EntryKind, KeyRef, Result, TierBatch, TierStorage, Version, WholeKey};

use crate::backend::{Backend, Capability, Step, Subject};
use crate::failure::{CaseFailure, CaseResult};
use crate::notation;
use crate::scans::{as_of, point, reversed};
use crate::stacked::{PrefixOf, Stacked};

/// The table of a case that names none.
pub(crate) const TABLE: EntryKind = EntryKind::source(7);
/// The second table of a case that needs two.
pub(crate) const OTHER: EntryKind = EntryKind::operator(3);

/// One instance of a backend, with one case's run on it.
///
/// A run has a *schedule*: none, or one step of the backend that is taken after every write, so that each case also meets its data
/// spread over wherever the backend puts it.
pub struct Harness<'a> {
    backend: &'a Backend,
    subject: Box<dyn Subject>,
    schedule: Option<Step>,
    /// The step that was taken last, for messages.
    state: Option<Step>,
}

impl fmt::Debug for Harness<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { backend, schedule, state, subject: _ } = self;
        let mut debug = f.debug_struct("Harness");
        debug.field("backend", backend).field("schedule", schedule).field("state", state).finish_non_exhaustive()
    }
}

impl<'a> Harness<'a> {
    /// An empty instance of `backend`, with `schedule` taken after every write.
    ///
    /// # Errors
    /// If the backend fails to make one.
    pub fn new(backend: &'a Backend, schedule: Option<Step>) -> std::result::Result<Self, CaseFailure> {
        Ok(Self { backend, subject: backend.open()?, schedule, state: None })
    }

    /// The backend.
    pub fn backend(&self) -> &'a Backend {
        self.backend
    }

    /// The tier as it is now. Not to be held across a write or a step.
    pub fn tier(&self) -> Arc<dyn TierStorage> {
        self.subject.tier()
    }

    pub(crate) fn has(&self, capability: Capability) -> bool {
        self.backend.has(capability)
    }

    /// Ends the case, as skipped, if the backend lacks what comes next.
    pub(crate) fn need(&self, capability: Capability) -> CaseResult {
        if self.has(capability) { Ok(()) } else { Err(CaseFailure::lacking(capability)) }
    }

    /// Whether a step is taken after every write. Writers on threads of their own take none, so that once without is enough for them.
    pub(crate) fn has_schedule(&self) -> bool {
        self.schedule.is_some()
    }

    /// Two fresh instances, and a harness over the stack of them without a schedule.
    pub(crate) fn two_tiers(&self) -> std::result::Result<TwoTiers<'a>, CaseFailure> {
        self.need(Capability::Stacking)?;
        let pair = Stacked::open(self.backend)?;
        let (upper, lower) = (pair.upper(), pair.lower());
        let stack = Harness { backend: self.backend, subject: Box::new(pair), schedule: None, state: None };
        Ok(TwoTiers { upper, lower, stack })
    }

    // Writes.

    pub(crate) fn set(&mut self, version: u64, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> CaseResult {
        self.write(version, |batch| batch.put(TABLE, key.as_ref(), value.as_ref()))
    }

    pub(crate) fn remove(&mut self, version: u64, key: impl AsRef<[u8]>) -> CaseResult {
        self.write(version, |batch| batch.remove(TABLE, key.as_ref()))
    }

    pub(crate) fn set_with_suffix(&mut self, version: u64, key: &[u8], suffix: &[u8], value: &[u8]) -> CaseResult {
        let mut batch = BatchBuilder::new();
        batch.put(TABLE, &[key, suffix].concat(), value)?;
        self.apply(&batch.finish(&PrefixOf(key.len()), Version(version)))
    }

    /// Writes a batch to any tables.
    pub(crate) fn write(&mut self, version: u64, fill: impl FnOnce(&mut BatchBuilder) -> Result<()>) -> CaseResult {
        self.apply(&batch_of(version, fill)?)
    }

    pub(crate) fn apply(&mut self, batch: &TierBatch) -> CaseResult {
        if matches!(batch.version(), Version::ZERO | Version::MAX) {
            self.need(Capability::ExtremeVersions)?;
        }
        if batch.iter().any(|(_, entry)| !entry.suffix.is_empty()) {
            self.need(Capability::Suffixes)?;
        }
        self.tier().set(batch)?;
        self.after_write()
    }

    /// Writes many batches; the schedule is followed in the middle and at the end instead of after each.
    pub(crate) fn write_all(&mut self, batches: &[TierBatch]) -> CaseResult {
        let (first, second) = batches.split_at(batches.len() / 2);
        for half in [first, second] {
            let tier = self.tier();
            half.iter().try_for_each(|batch| tier.set(batch))?;
            drop(tier);
            self.after_write()?;
        }
        Ok(())
    }

    pub(crate) fn drop_one(&mut self, version: u64, key: impl AsRef<[u8]>) -> CaseResult {
        self.drop_all(&[drop_of(TABLE, key, version)])
    }

    pub(crate) fn drop_all(&mut self, drops: &[DropVersion]) -> CaseResult {
        self.need(Capability::Drops)?;
        self.tier().drop_versions(drops)?;
        self.after_write()
    }

    pub(crate) fn clear(&mut self, table: EntryKind) -> CaseResult {
        self.tier().clear_table(table)?;
        self.after_write()
    }

    pub(crate) fn ensure(&mut self, table: EntryKind) -> CaseResult {
        self.tier().ensure_table(table)?;
        self.after_write()
    }

    fn after_write(&mut self) -> CaseResult {
        self.schedule.map_or(Ok(()), |step| self.take(step))
    }

    // Steps.

    pub(crate) fn take(&mut self, step: Step) -> CaseResult {
        self.state = Some(step);
        self.subject.take(step).map_err(|error| self.annotate(error.into()))
    }

    /// For threads that take steps themselves.
    pub(crate) fn subject(&self) -> &dyn Subject {
        &*self.subject
    }

    /// Checks as it stands, then after each step that the backend offers.
    pub(crate) fn in_every_state(&mut self, check: impl Fn(&Self) -> CaseResult) -> CaseResult {
        check(self).map_err(|failure| self.annotate(failure))?;
        for step in self.backend.steps() {
            self.take(*step)?;
            check(self).map_err(|failure| self.annotate(failure))?;
        }
        Ok(())
    }

    pub(crate) fn annotate(&self, failure: CaseFailure) -> CaseFailure {
        let last = self.state.map(|step| format!("after {step}"));
        let schedule = self.schedule.map(|step| format!("with {step} after every write"));
        match (schedule, last) {
            (Some(schedule), Some(last)) => failure.in_state(&format!("{schedule}, {last}")),
            (Some(state), None) | (None, Some(state)) => failure.in_state(&state),
            (None, None) => failure,
        }
    }

    // Checks.

    /// Checks the answer at `at`, by each way to ask for it: get, batched get, contains, the version before the next, and a range of the one
    /// key in both directions.
    pub(crate) fn check_get(&self, key: impl AsRef<[u8]>, at: u64, expected: &str) -> CaseResult {
        self.check_get_in(TABLE, key, at, expected)
    }

    pub(crate) fn check_get_in(&self, table: EntryKind, key: impl AsRef<[u8]>, at: u64, expected: &str) -> CaseResult {
        let (tier, prefix, version) = (self.tier(), key.as_ref(), Version(at));
        let what = |way: &str| format!("{way} of {} in {table} at version {version}", notation::bytes(prefix));
        let found = tier.get(table, prefix, version)?;
        expect(|| what("get"), expected, &notation::answer(&found))?;
        let many = tier.get_many(&[KeyRef { table, prefix }], version)?;
        expect(|| what("batched get"), expected, &notation::joined(many.iter().map(notation::answer)))?;
        let contains = tier.contains(table, prefix, version)?;
        expect(|| what("contains"), if found.is_value() { "true" } else { "false" }, &contains.to_string())?;
        if let Some(before) = version.next() {
            expect(
                || what("newest below the next version"),
                expected,
                &notation::answer(&tier.get_previous(table, prefix, before)?),
            )?;
        }
        let row = if expected == "-" { String::new() } else { format!("{}={expected}", notation::bytes(prefix)) };
        let mut cursor = point(table, prefix, at).into_cursor();
        expect(|| what("range"), &row, &notation::rows(tier.range_next(&mut cursor, 1)?.iter()))?;
        let mut cursor = reversed(&point(table, prefix, at)).into_cursor();
        expect(|| what("reverse range"), &row, &notation::rows(tier.range_rev_next(&mut cursor, 1)?.iter()))
    }

    /// Checks the list of all versions.
    pub(crate) fn check_versions(&self, key: impl AsRef<[u8]>, expected: &str) -> CaseResult {
        let found = self.tier().get_all_versions(TABLE, key.as_ref())?;
        let what = || format!("all versions of {}", notation::bytes(key.as_ref()));
        expect(what, expected, &notation::versions(&found))?;
        let wrong = found.iter().find(|entry| entry.prefix != key.as_ref());
        expect(what, "entries of that key", wrong.map_or("entries of that key", |_| "an entry of another key"))
    }

    pub(crate) fn check_tables(&self, expected: &[EntryKind]) -> CaseResult {
        let names = |tables: &[EntryKind]| notation::joined(tables.iter().map(ToString::to_string));
        expect(|| "the list of tables".into(), &names(expected), &names(&self.tier().tables()?))
    }

    /// Checks the numbers of keys, entries, tombstones and user bytes of the default table, if the backend counts exactly.
    pub(crate) fn check_stats(&self, expected: [u64; 4]) -> CaseResult {
        if self.has(Capability::ExactStats) { self.check_counts(expected) } else { Ok(()) }
    }

    /// The same in every state; of a backend that does not count exactly when everything was rewritten, or skipped if it cannot be.
    pub(crate) fn check_stats_of_rewritten(&mut self, expected: [u64; 4]) -> CaseResult {
        if self.has(Capability::ExactStats) {
            return self.in_every_state(|h| h.check_counts(expected));
        }
        for step in [Step::Flush, Step::Compact] {
            if !self.has(Capability::Takes(step)) {
                return self.need(Capability::ExactStats);
            }
            self.take(step)?;
        }
        self.check_counts(expected)
    }

    fn check_counts(&self, expected: [u64; 4]) -> CaseResult {
        let stats = self.tier().stats();
        let found = stats.tables.iter().find(|(table, _)| *table == TABLE).map(|(_, found)| *found).unwrap_or_default();
        let text = |[keys, entries, tombstones, bytes]: [u64; 4]| {
            format!("{keys} keys, {entries} entries, {tombstones} tombstones, {bytes} bytes")
        };
        let found = [found.keys, found.entries, found.tombstones, found.user_bytes];
        expect(|| format!("statistics of {TABLE}"), &text(expected), &text(found))
    }

    /// Everything that can be read, as text: to check that something changed nothing.
    pub(crate) fn dump(&self) -> std::result::Result<String, CaseFailure> {
        dump(&*self.tier(), self.has(Capability::ExactStats))
    }
}

/// Everything that can be read of `tier`, as text.
pub(crate) fn dump(tier: &dyn TierStorage, with_stats: bool) -> std::result::Result<String, CaseFailure> {
    let mut lines = Vec::new();
    for table in tier.tables()? {
        lines.push(format!("[{table}]"));
        let mut cursor = as_of(table, thermocline_tier::KeyRange::all(), u64::MAX).into_cursor();
        while !cursor.is_exhausted() {
            let page = tier.range_next(&mut cursor, 100)?;
            if page.is_empty() {
                break;
            }
            for row in page.iter() {
                let all = tier.get_all_versions(table, row.prefix)?;
                lines.push(format!("{} then {}", notation::row(row), notation::versions(&all)));
            }
        }
    }
    if with_stats {
        lines.push(format!("{:?}", tier.stats().tables));
    }
    Ok(lines.join("; "))
}

/// Two instances of a backend, each written to as the case wants, and what is read through both.
pub(crate) struct TwoTiers<'a> {
    pub(crate) upper: Arc<dyn TierStorage>,
    pub(crate) lower: Arc<dyn TierStorage>,
    pub(crate) stack: Harness<'a>,
}

/// Writes one entry of the default table; `None` is a tombstone.
pub(crate) fn put(tier: &dyn TierStorage, version: u64, key: impl AsRef<[u8]>, value: Option<&str>) -> CaseResult {
    let batch = batch_of(version, |batch| match value {
        Some(value) => batch.put(TABLE, key.as_ref(), value.as_bytes()),
        None => batch.remove(TABLE, key.as_ref()),
    })?;
    Ok(tier.set(&batch)?)
}

pub(crate) fn batch_of(version: u64, fill: impl FnOnce(&mut BatchBuilder) -> Result<()>) -> Result<TierBatch> {
    let mut batch = BatchBuilder::new();
    fill(&mut batch)?;
    Ok(batch.finish(&WholeKey, Version(version)))
}

pub(crate) fn drop_of(table: EntryKind, key: impl AsRef<[u8]>, version: u64) -> DropVersion {
    DropVersion { table, prefix: bytes::Bytes::copy_from_slice(key.as_ref()), version: Version(version) }
}

/// The one comparison that every check ends in.
pub(crate) fn expect(what: impl FnOnce() -> String, expected: &str, found: &str) -> CaseResult {
    if expected == found {
        return Ok(());
    }
    let shown = |text: &str| if text.is_empty() { "nothing".into() } else { text.to_owned() };
    Err(CaseFailure::new(what(), shown(expected), shown(found)))
}

/// Checks that something is so.
pub(crate) fn expect_that(is_so: bool, what: &str) -> CaseResult {
    expect(|| what.to_owned(), "true", if is_so { "true" } else { "false" })
}

/// Checks that `result` is an error whose kind `is_right` accepts; `expected` describes it.
pub(crate) fn expect_error<T>(
    what: &str,
    expected: &str,
    result: Result<T>,
    is_right: impl FnOnce(&thermocline_tier::ErrorKind) -> bool,
) -> CaseResult {
    match result {
        Err(error) if is_right(error.kind()) => Ok(()),
        Err(error) => Err(CaseFailure::new(what, expected, error.to_string())),
        Ok(_) => Err(CaseFailure::new(what, expected, "no error")),
    }
}
