//! A history, done to a backend and to the model.

use thermocline_tier::{
    BatchBuilder, Direction, DropVersion, EntryKind, FixedSuffix, KeyRange, KeyRef, RangeCursor, RangeRequest, ReadWindow,
    TierBatch, TierStorage, Version,
};

use crate::backend::{Backend, Capability, Subject};
use crate::failure::CaseResult;
use crate::harness::expect;
use crate::history::operation::{KEYS, Operation, Write};
use crate::model::ModelTier;
use crate::notation;
use crate::scans::{next_page, reversed};
use crate::stacked::drain;

/// No scan of a history has so many rows.
const ROWS_MAX: usize = 10_000;

/// Does `history` to a fresh instance of `backend` and to the model, and compares every answer, and at the end all that can be read.
///
/// # Errors
/// The first answer that differs, with the number of its operation from 0.
pub fn run_history(backend: &Backend, history: &[Operation]) -> CaseResult {
    let mut run =
        Playback { backend, subject: backend.open()?, model: std::sync::Arc::new(ModelTier::new()), cursors: Vec::new() };
    for (number, operation) in history.iter().enumerate() {
        run.operate(operation).map_err(|failure| failure.in_state(&format!("operation {number}")))?;
    }
    run.compare_all().map_err(|failure| failure.in_state("at the end"))
}

struct Playback<'a> {
    backend: &'a Backend,
    subject: Box<dyn Subject>,
    model: std::sync::Arc<ModelTier>,
    /// The backend's cursors and the model's, side by side.
    cursors: Vec<(RangeCursor, RangeCursor)>,
}

impl Playback<'_> {
    /// Whether the backend can do what the operation asks for.
    fn is_possible(&self, operation: &Operation) -> bool {
        let is_extreme = |version: Version| matches!(version, Version::ZERO | Version::MAX);
        match operation {
            Operation::Set { version, .. } | Operation::Fill(_, version) => {
                !is_extreme(*version) || self.backend.has(Capability::ExtremeVersions)
            }
            Operation::Drop(_) | Operation::Thin(..) => self.backend.has(Capability::Drops),
            _ => true,
        }
    }

    fn operate(&mut self, operation: &Operation) -> CaseResult {
        if !self.is_possible(operation) {
            return Ok(());
        }
        let (tier, model) = (self.subject.tier(), &*self.model);
        match operation {
            Operation::Set { version, suffix_size_bytes, writes } => {
                let suffix_size_bytes = if self.backend.has(Capability::Suffixes) { *suffix_size_bytes } else { 0 };
                let batch = batch(*version, suffix_size_bytes, writes)?;
                tier.set(&batch)?;
                model.set(&batch)?;
            }
            Operation::Drop(drops) => {
                tier.drop_versions(drops)?;
                model.drop_versions(drops)?;
            }
            Operation::Fill(run, version) => {
                for (number, key) in run.keys().enumerate() {
                    let value = (number % 7 != 6).then(|| format!("value-{number}").into());
                    let write = Write { table: run.table, prefix: key.into(), value };
                    let batch = batch(*version, 0, std::slice::from_ref(&write))?;
                    tier.set(&batch)?;
                    model.set(&batch)?;
                }
            }
            Operation::Thin(run, version) => {
                let named = |key: String| DropVersion { table: run.table, prefix: key.into(), version: *version };
                let drops: Vec<DropVersion> = run.keys().map(named).collect();
                tier.drop_versions(&drops)?;
                model.drop_versions(&drops)?;
            }
            Operation::Clear(table) => {
                tier.clear_table(*table)?;
                model.clear_table(*table)?;
            }
            Operation::Ensure(table) => {
                tier.ensure_table(*table)?;
                model.ensure_table(*table)?;
            }
            Operation::Get { table, prefix, at } => self.compare_key(*table, prefix, *at)?,
            Operation::GetMany { keys, at } => {
                let keys: Vec<_> = keys.iter().map(|(table, prefix)| KeyRef { table: *table, prefix }).collect();
                let text = |tier: &dyn TierStorage| {
                    Ok::<_, thermocline_tier::Error>(notation::joined(tier.get_many(&keys, *at)?.iter().map(notation::answer)))
                };
                expect(|| format!("batched get at {at}"), &text(model)?, &text(&*tier)?)?;
            }
            Operation::Scan { request, batch_size } => self.compare_scan(request, *batch_size)?,
            Operation::Open(request) => {
                self.cursors.push((request.clone().into_cursor(), request.clone().into_cursor()));
            }
            Operation::Page { cursor, batch_size } => self.compare_page(*cursor, *batch_size)?,
            Operation::Stats => self.compare_stats()?,
            Operation::Step(number) => {
                let steps = self.backend.steps();
                if let Some(step) = steps.get(number % steps.len().max(1)) {
                    drop(tier);
                    self.subject.take(*step)?;
                }
            }
        }
        Ok(())
    }

    fn compare_key(&self, table: EntryKind, prefix: &[u8], at: Version) -> CaseResult {
        let text = |tier: &dyn TierStorage| -> Result<String, thermocline_tier::Error> {
            let (get, contains) = (tier.get(table, prefix, at)?, tier.contains(table, prefix, at)?);
            let (previous, all) = (tier.get_previous(table, prefix, at)?, tier.get_all_versions(table, prefix)?);
            let (get, previous, all) = (notation::answer(&get), notation::answer(&previous), notation::versions(&all));
            Ok(format!("{get}, contains {contains}, below {previous}, all {all}"))
        };
        let what = || format!("{} in {table} at {at}", notation::bytes(prefix));
        expect(what, &text(&*self.model)?, &text(&*self.subject.tier())?)
    }

    fn compare_scan(&self, request: &RangeRequest, batch_size: usize) -> CaseResult {
        let (tier, model) = (self.subject.tier(), std::sync::Arc::clone(&self.model));
        let (mut found, mut expected) = (request.clone().into_cursor(), request.clone().into_cursor());
        for _page in 0..=ROWS_MAX {
            compare_pages(&*model, &*tier, &mut expected, &mut found, batch_size)?;
            if expected.is_exhausted() {
                break;
            }
        }
        let found = drain(&mut *tier.scan(request.clone())?, batch_size, ROWS_MAX)?;
        let expected = drain(&mut *model.scan(request.clone())?, batch_size, ROWS_MAX)?;
        expect(|| format!("stream of {request:?}"), &notation::rows(expected.iter()), &notation::rows(found.iter()))
    }

    fn compare_page(&mut self, cursor: usize, batch_size: usize) -> CaseResult {
        let count = self.cursors.len();
        let index = count.checked_sub(1 + cursor % count.max(1));
        let Some((found, expected)) = index.and_then(|index| self.cursors.get_mut(index)) else { return Ok(()) };
        compare_pages(&*self.model, &*self.subject.tier(), expected, found, batch_size)
    }

    fn compare_stats(&self) -> CaseResult {
        let tier = self.subject.tier();
        let text = |tables: Vec<EntryKind>| notation::joined(tables.iter().map(ToString::to_string));
        expect(|| "the list of tables".into(), &text(self.model.tables()?), &text(tier.tables()?))?;
        if !self.backend.has(Capability::ExactStats) {
            return Ok(());
        }
        let (found, expected) = (tier.stats(), self.model.stats());
        expect(|| "statistics".into(), &format!("{:?}", expected.tables), &format!("{:?}", found.tables))?;
        let what = || "garbage is a part of memory".into();
        expect(what, "true", if found.garbage_bytes <= found.memory_bytes { "true" } else { "false" })
    }

    fn compare_all(&self) -> CaseResult {
        self.compare_stats()?;
        for table in self.model.tables()? {
            for prefix in KEYS {
                for at in (0..10).chain([u64::MAX]) {
                    self.compare_key(table, prefix, Version(at))?;
                }
            }
            for at in [0, 3, 6, u64::MAX] {
                let window = ReadWindow::as_of(Version(at));
                let forward = RangeRequest { table, range: KeyRange::all(), window, direction: Direction::Forward };
                self.compare_scan(&forward, 16)?;
                self.compare_scan(&reversed(&forward), 16)?;
            }
        }
        Ok(())
    }
}

fn compare_pages(
    model: &dyn TierStorage,
    tier: &dyn TierStorage,
    expected: &mut RangeCursor,
    found: &mut RangeCursor,
    batch_size: usize,
) -> CaseResult {
    let text = |tier: &dyn TierStorage, cursor: &mut RangeCursor| -> Result<String, thermocline_tier::Error> {
        let page = next_page(tier, cursor, batch_size)?;
        let last = cursor.last().map_or_else(|| "the start".into(), |last| notation::bytes(last));
        let (rows, end) = (notation::rows(page.iter()), if cursor.is_exhausted() { ", exhausted" } else { "" });
        Ok(format!("[{rows}], has_more {}, cursor at {last}{end}", page.has_more))
    };
    let request = expected.request().clone();
    let expected = text(model, expected)?;
    expect(|| format!("page of {batch_size} of {request:?}"), &expected, &text(tier, found)?)
}

fn batch(version: Version, suffix_size_bytes: u8, writes: &[Write]) -> Result<TierBatch, thermocline_tier::Error> {
    let mut batch = BatchBuilder::new();
    for (number, write) in (0_u8..).zip(writes) {
        let suffix = vec![number; usize::from(suffix_size_bytes)];
        let key = [&write.prefix[..], &suffix].concat();
        match &write.value {
            Some(value) => batch.put(write.table, &key, value)?,
            None => batch.remove(write.table, &key)?,
        }
    }
    Ok(batch.finish(&FixedSuffix(usize::from(suffix_size_bytes)), version))
}
