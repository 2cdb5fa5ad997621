//! Migration: summaries of files, rewrites for the strategy's sake, and what its hooks did.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use thermocline_migration::{MigrationScope, Slot};
use thermocline_tier::{
    EntryKind, EntryRef, Error, FileSummary, MigratingTier, MigrationCounters, MigrationReport, Result, RetainedTables, SkipFile,
    TierFile, Version,
};

use super::rewrite::Target;
use super::{WarmTier, raw_value};
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
        if !error.kind().is_callback() {
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

    /// Begins the rewrite of a file that the strategy wants rewritten for its own sake; whether there is one. Calls hooks, so without locks.
    pub(super) fn begin_wanted(&self) -> Result<bool> {
        let (Some(migration), Some(offers)) = (&self.migration, self.offers()) else { return Ok(false) };
        let view = self.view.load_full();
        let context = migration.context_id().inspect_err(|error| self.note_failed_hook(error))?;
        let retained = self.retained();
        let is_known = |known: &Unwanted| {
            Weak::ptr_eq(&known.view, &Arc::downgrade(&view)) && known.context == context && known.retained == retained
        };
        if self.nothing_wanted.lock().as_ref().is_some_and(is_known) {
            return Ok(false);
        }
        let resting = self.jobs.lock().resting();
        for segment in view.segments().filter(|segment| !resting.contains(&segment.meta.number)) {
            let meta = &segment.meta;
            let slot = self.slot(meta).filter(|slot| migration.check_summary(slot.summary).is_ok());
            let Some(slot) = slot else { return self.summarize(meta.number).map(|_| true) };
            let settled = settled(segment.listed(), offers, &retained).0;
            let wants = || migration.wants_rewrite(slot.summary).inspect_err(|error| self.note_failed_hook(error));
            if slot.is_behind(context, settled) && wants()? {
                return self.begin_file(meta.number);
            }
        }
        if resting.is_empty() {
            *self.nothing_wanted.lock() = Some(Unwanted { view: Arc::downgrade(&view), context, retained });
        }
        Ok(false)
    }

    /// A rewrite of a file, if it is live.
    pub(super) fn plan_file(&self, view: &View, number: u64) -> Option<Plan> {
        let segment = view.segments().find(|segment| segment.meta.number == number)?;
        Plan::of_segment(view, &self.options, segment)
    }
}

/// Up to which versions rows of a file are settled: in the part of its tables where that is lowest, and where it is highest.
fn settled(file: &TierFile, offers: Offers, retained: &RetainedTables) -> (Version, Version) {
    match offers.scope {
        MigrationScope::All => (Version::MAX, Version::MAX),
        // Some rows may be free, but a rewrite could leave all as they are.
        MigrationScope::Unpinned if offers.is_pinned(file.versions.0) => (Version::ZERO, Version::ZERO),
        MigrationScope::Settled | MigrationScope::Unpinned => {
            let parts = file.tables.iter().flat_map(|(table, _)| retained.parts(*table).map(|(_, part)| part.settled_up_to()));
            let bounds = parts.fold(None, |bounds: Option<(Version, Version)>, version| {
                Some(bounds.map_or((version, version), |(lowest, highest)| (lowest.min(version), highest.max(version))))
            });
            bounds.unwrap_or_default()
        }
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
        let summary = |meta: &FileMeta, file: Arc<TierFile>, is_live| {
            let slot = if self.slot(meta).is_some() { meta.summary.clone() } else { Bytes::new() };
            FileSummary { file, number: meta.number, slot, is_live }
        };
        let live = view.segments().map(|segment| summary(&segment.meta, Arc::clone(segment.listed()), true));
        // One that went between the two looks is in both.
        let is_live = |number: u64| view.segments().any(|segment| segment.meta.number == number);
        let held = held.iter().filter(|(meta, life)| !life.is_over() && !is_live(meta.number));
        live.chain(held.map(|(meta, _)| summary(meta, Arc::new(meta.to_tier_file()), false))).collect()
    }

    fn summarize(&self, number: u64) -> Result<Option<Bytes>> {
        let view = self.view.load_full();
        let live = view.segments().find(|segment| segment.meta.number == number).cloned();
        let held = || {
            self.held.lock().iter().find(|(meta, _)| meta.number == number).and_then(|(meta, life)| life.segment(meta.clone()))
        };
        let Some(segment) = live.or_else(|| held().map(Arc::new)) else { return Ok(None) };
        let Some(mut hooks) = self.hooks() else { return Ok(None) };
        tracing::warn!(file = %segment.listed().name, "a file has no summary that the strategy can read; it is made anew");
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

    fn behind(&self, context: u64) -> Vec<FileSummary> {
        let (Some(offers), retained) = (self.offers(), self.retained()) else { return Vec::new() };
        let is_behind = |file: &FileSummary| {
            let settled = settled(&file.file, offers, &retained).1;
            file.is_live && Slot::decode(&file.slot).is_none_or(|slot| slot.is_behind(context, settled))
        };
        self.summaries().into_iter().filter(is_behind).collect()
    }

    fn migration_counters(&self) -> MigrationCounters {
        self.migrated.lock().clone()
    }
}
