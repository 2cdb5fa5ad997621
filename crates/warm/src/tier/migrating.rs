//! Migration: summaries of files, rewrites for the strategy's sake, and what its hooks did.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use thermocline_migration::{MigrationScope, Slot};
use thermocline_tier::{
    EntryKind, EntryRef, Error, ErrorKind, FileSummary, MigratingTier, MigrationCounters, MigrationReport, Result,
    RetainedTables, SkipFile, TierFile, Version,
};

use super::rewrite::Target;
use super::{WarmTier, raw_value, tier_file};
use crate::compaction::{Plan, may_hide};
use crate::hooks::{Hooks, Offer, Offers};
use crate::manifest::Edit;
use crate::merge::{Chain, Keep, Merge, Rows};
use crate::meta::{FileMeta, TableKey};
use crate::segment::Segment;
use crate::view::View;

/// Of so many contexts the ids are kept.
const CONTEXTS_MAX: usize = 16;

/// When the strategy was asked last which files it wants rewritten, and wanted none.
#[derive(Debug)]
pub(super) struct Unwanted {
    view: Weak<View>,
    context: u64,
    retained: RetainedTables,
}

/// Whether a job failed for what the engine plugged in.
pub(super) fn is_hook(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::CallbackFailed { .. } | ErrorKind::CallbackViolation { .. })
}

impl WarmTier {
    /// A job of the strategy's, if there is one.
    pub(super) fn hooks(&self) -> Option<Hooks> {
        self.migration.as_deref().map(Hooks::begin)
    }

    /// What a rewrite that begins now offers.
    pub(super) fn offers(&self) -> Option<Offers> {
        let scope = self.migration.as_ref()?.scope();
        let source = self.retention.read().clone();
        Some(Offers { scope, newest_pin: source.and_then(|source| source.newest_pin()) })
    }

    /// Counts what a job did that ended well.
    pub(super) fn note_migrated(&self, hooks: Option<&Hooks>) {
        if let Some(hooks) = hooks {
            self.add_migrated(&hooks.report());
        }
    }

    pub(super) fn add_migrated(&self, report: &MigrationReport) {
        let done = &mut self.migrated.lock().done;
        done.add(report);
        let surplus = done.contexts.len().saturating_sub(CONTEXTS_MAX);
        done.contexts.drain(..surplus);
    }

    /// Counts a job that failed for what the engine plugged in, if it did.
    pub(super) fn note_failed_hook(&self, error: &Error) {
        if !is_hook(error) {
            return;
        }
        tracing::error!(%error, "a hook of the strategy has made a job fail; its files stay, and it is tried again");
        let mut migrated = self.migrated.lock();
        migrated.failures += 1;
        migrated.last_failure = Some(error.clone());
    }

    /// What the present strategy noted of a file.
    fn slot<'a>(&self, meta: &'a FileMeta) -> Option<Slot<'a>> {
        let migration = self.migration.as_ref()?;
        Slot::decode(&meta.summary).filter(|slot| slot.tag == migration.tag())
    }

    /// The present view, and the files of it that a scan may leave out: those that `skip` names and that hide nothing in any other file.
    pub(super) fn skipped(&self, skip: SkipFile<'_>) -> (Arc<View>, BTreeSet<u64>) {
        let view = self.view.load_full();
        let is_named = |segment: &&Arc<Segment>| skip(self.slot(&segment.meta).map_or(&[], |_| &segment.meta.summary));
        let named: Vec<&Arc<Segment>> = view.segments().filter(is_named).collect();
        let mut skipped: BTreeSet<u64> = named.iter().map(|segment| segment.meta.number).collect();
        loop {
            let is_read = |other: &Arc<Segment>| !skipped.contains(&other.meta.number);
            let hides = |segment: &&&Arc<Segment>| !is_read(segment) && may_hide(&view, segment, is_read);
            let hiding: Vec<u64> = named.iter().filter(hides).map(|segment| segment.meta.number).collect();
            if hiding.is_empty() {
                return (view, skipped);
            }
            // What is read now may be hidden by others.
            skipped.retain(|number| !hiding.contains(number));
        }
    }

    /// Up to which versions rows are settled in the parts of tables of which some lowest version is `oldest`: in that where it is lowest, and where
    /// it is highest.
    fn settled(&self, tables: impl Iterator<Item = EntryKind>, oldest: Version, retained: &RetainedTables) -> (Version, Version) {
        let Some(offers) = self.offers() else { return (Version::ZERO, Version::ZERO) };
        match offers.scope {
            MigrationScope::All => (Version::MAX, Version::MAX),
            // Some rows may be free, but a rewrite could leave all as they are.
            MigrationScope::Unpinned if offers.is_pinned(oldest) => (Version::ZERO, Version::ZERO),
            MigrationScope::Settled | MigrationScope::Unpinned => {
                let parts: Vec<Version> =
                    tables.flat_map(|table| retained.parts(table).map(|(_, part)| part.settled_up_to())).collect();
                let lowest = parts.iter().copied().min();
                (lowest.unwrap_or_default(), parts.into_iter().max().unwrap_or_default())
            }
        }
    }

    /// Begins the rewrite of a file that the strategy wants rewritten for its own sake; whether there is one. Calls hooks, so without locks.
    pub(super) fn begin_wanted(&self) -> Result<bool> {
        let Some(migration) = &self.migration else { return Ok(false) };
        let view = self.view.load_full();
        let (context, retained) = (migration.context_id()?, self.retained());
        let is_known = |known: &Unwanted| {
            Weak::ptr_eq(&known.view, &Arc::downgrade(&view)) && known.context == context && known.retained == retained
        };
        if self.nothing_wanted.lock().as_ref().is_some_and(is_known) {
            return Ok(false);
        }
        for segment in view.segments() {
            let meta = &segment.meta;
            let Some(slot) = self.slot(meta) else { continue };
            let settled = self.settled(meta.tables.iter().map(|(table, _)| *table), meta.version_min, &retained).0;
            if slot.is_behind(context, settled) && migration.wants_rewrite(slot.summary)? {
                return self.begin_file(meta.number);
            }
        }
        *self.nothing_wanted.lock() = Some(Unwanted { view: Arc::downgrade(&view), context, retained });
        Ok(false)
    }

    /// A rewrite of a file, if it is live.
    pub(super) fn plan_file(&self, view: &View, number: u64) -> Option<Plan> {
        let segment = view.segments().find(|segment| segment.meta.number == number)?;
        Plan::of_segment(view, &self.options, segment)
    }
}

/// The next entry that a rewrite keeps: key, version, and whether it is offered.
fn next_kept(merge: &mut Merge) -> Result<Option<(TableKey, Version, Offer)>> {
    Ok(merge.next()?.map(|(key, row)| (key.clone(), row.version, row.offer)))
}

impl MigratingTier for WarmTier {
    fn summaries(&self) -> Vec<FileSummary> {
        // In this order: what goes is noted before it is gone from view.
        let view = self.view.load_full();
        let held = self.held.lock();
        let live = view.segments().map(|segment| (&segment.meta, true));
        let held = held.iter().filter(|(_, life)| !life.is_over()).map(|(meta, _)| (meta, false));
        let is_live = |number: u64| view.segments().any(|segment| segment.meta.number == number);
        let summary = |(meta, is_live): (&FileMeta, bool)| FileSummary {
            file: tier_file(meta),
            number: meta.number,
            slot: if self.slot(meta).is_some() { meta.summary.clone() } else { Bytes::new() },
            is_live,
        };
        // One that went between the two looks is in both.
        let all = live.chain(held.filter(|(meta, _)| !is_live(meta.number)));
        let mut summaries: Vec<FileSummary> = all.map(summary).collect();
        summaries.sort_unstable_by_key(|summary| summary.number);
        summaries
    }

    fn summarize(&self, number: u64) -> Result<Option<Bytes>> {
        let view = self.view.load_full();
        let live = view.segments().find(|segment| segment.meta.number == number).cloned();
        let held = || {
            self.held.lock().iter().find(|(meta, _)| meta.number == number).and_then(|(meta, life)| life.segment(meta.clone()))
        };
        let Some(segment) = live.or_else(|| held().map(Arc::new)) else { return Ok(None) };
        let Some(mut hooks) = self.hooks() else { return Ok(None) };
        tracing::warn!(file = %tier_file(&segment.meta).name, "a file has no summary that the strategy can read; it is made anew");
        let noted = (|| {
            let mut rows = Rows::open(&segment, None, 1)?;
            while let Some(row) = rows.row.take() {
                hooks.pass(&row.as_new(&rows.key), Offer::Later, |_| Ok(()))?;
                rows.advance()?;
            }
            hooks.end_file()
        })();
        let slot = Bytes::from(noted.inspect_err(|error| self.note_failed_hook(error))?);
        let mut catalog = self.catalog.lock();
        if !self.is_read_only && catalog.state.files.contains_key(&number) {
            self.commit(&mut catalog, Edit { summaries: vec![(number, slot.clone())], ..Edit::default() })?;
        }
        for (meta, _) in self.held.lock().iter_mut().filter(|(meta, _)| meta.number == number) {
            meta.summary = slot.clone();
        }
        Ok(Some(slot))
    }

    fn rewrite(&self, number: u64, wake: &dyn Fn()) -> Result<Option<MigrationReport>> {
        if !self.catalog.lock().state.files.contains_key(&number) {
            return Ok(None);
        }
        self.rewrite_target(Target::File(number), wake).map(Some)
    }

    fn finish_rewrite(&self, wake: &dyn Fn()) -> Result<()> {
        self.rewrite_target(Target::Nothing, wake).map(drop)
    }

    fn visit_file(&self, number: u64, visit: &mut dyn FnMut(EntryKind, EntryRef<'_>, bool) -> Result<bool>) -> Result<()> {
        let view = self.view.load_full();
        let Some(segment) = view.segments().find(|segment| segment.meta.number == number) else { return Ok(()) };
        let segments = [Arc::clone(segment)];
        // What a rewrite of this file alone would keep, and all that it holds, side by side.
        let keep =
            Keep { retained: self.retained(), markers: view.markers.clone(), outside: Arc::default(), offers: self.offers() };
        let mut merge = Merge::new(Chain::open_all(&segments, None)?, keep);
        let mut rows = Rows::open(segment, None, 2)?;
        let mut kept = next_kept(&mut merge)?;
        while let Some(row) = rows.row.take() {
            let key = &rows.key;
            let is_kept = kept.as_ref().is_some_and(|(kept, version, _)| kept == key && *version == row.version);
            let is_offered = is_kept && kept.as_ref().is_some_and(|(.., offer)| *offer == Offer::Now);
            if is_kept {
                kept = next_kept(&mut merge)?;
            }
            if let Some(value) = raw_value(&segments, row.value)? {
                let entry = EntryRef { prefix: &key.prefix, suffix: &row.suffix, version: row.version, value: Some(&value) };
                if !visit(key.table, entry, is_offered)? {
                    break;
                }
            }
            rows.advance()?;
        }
        Ok(())
    }

    fn settled_up_to(&self, file: &TierFile) -> Version {
        self.settled(file.tables.iter().map(|(table, _)| *table), file.versions.0, &self.retained()).1
    }

    fn migration_counters(&self) -> MigrationCounters {
        self.migrated.lock().clone()
    }
}
