//! Rewrites: one at a time, in one part or two, a step at a time, by whichever threads ask for work.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use thermocline_io::sync::atomic::Ordering;
use thermocline_tier::{
    Amount, DurableTier, EntryKind, Error, KeyRange, MigrationReport, Result, Retained, RetainedTables, TableStats,
};

use super::{Catalog, WarmTier};
use crate::compaction::{Asked, Part, Plan, is_hidden};
use crate::manifest::{Edit, State};
use crate::merge::Keep;
use crate::meta::FileMeta;
use crate::segment::impossible;
use crate::view::{Markers, View};

/// A rewrite under way.
#[derive(Debug)]
struct Job {
    plan: Plan,
    /// Who asked for it, if anybody did.
    request: Option<u64>,
    /// The last mark that it knows of.
    applied: u64,
    /// What it finds when it begins of [`WarmTier::asked`].
    asked: Option<Asked>,
    /// Parts that nobody works on at the moment.
    idle: Vec<Part>,
    /// How many parts are being worked on.
    working: usize,
    done: Vec<FileMeta>,
    /// What the strategy did.
    migrated: MigrationReport,
    /// The first failure: the rewrite is given up when the others have stopped.
    failure: Option<Error>,
}

/// What is to be rewritten.
#[derive(Debug)]
pub(super) enum Target {
    /// All that holds keys of a range of a table.
    Range(EntryKind, KeyRange),
    /// A file, by its number.
    File(u64),
    /// Nothing, in its turn.
    Nothing,
}

/// A rewrite that was asked for.
#[derive(Debug)]
struct Request {
    number: u64,
    target: Target,
}

/// Files whose rewrite a hook of the strategy has made fail.
#[derive(Debug, Default)]
struct Failed {
    files: BTreeSet<u64>,
    /// How often, one after the other.
    times: u32,
    /// So many rewrites are chosen among other files before, if there are any.
    rest: u32,
}

impl Failed {
    fn add(&mut self, files: impl Iterator<Item = u64>) {
        self.files.extend(files);
        self.times = self.times.saturating_add(1);
        self.rest = 1_u32.checked_shl(self.times).unwrap_or(REST_MAX).min(REST_MAX);
    }

    /// Some were rewritten after all.
    fn forget(&mut self, files: &BTreeSet<u64>) {
        self.files.retain(|file| !files.contains(file));
        if self.files.is_empty() {
            *self = Self::default();
        }
    }
}

/// The longest rest.
const REST_MAX: u32 = 64;

/// What comes of a part of a rewrite.
#[derive(Debug)]
enum Stepped {
    /// It goes on.
    Part(Box<Part>),
    /// It is complete.
    Done(Vec<FileMeta>, MigrationReport),
}

#[derive(Debug, Default)]
pub(super) struct Jobs {
    job: Option<Job>,
    /// The files that the job reads, until it is taken over.
    pub(super) inputs: BTreeSet<u64>,
    /// A thread is about to take over what is complete.
    is_ending: bool,
    wanted: VecDeque<Request>,
    last_request: u64,
    /// The request that is being begun, with the lock. Whoever finds one with the lock knows that this has panicked.
    beginning: Option<u64>,
    /// While something is asked to be gone, every other rewrite is for that.
    was_for_garbage: bool,
    /// How requests went, until those who wait look.
    answers: BTreeMap<u64, Result<MigrationReport>>,
    failed: Failed,
}

impl Jobs {
    fn answer(&mut self, request: Option<u64>, result: &Result<MigrationReport>) {
        if let Some(number) = request {
            self.answers.insert(number, result.clone());
        }
    }

    /// The files that are to be left alone this time.
    pub(super) fn resting(&mut self) -> BTreeSet<u64> {
        if self.failed.rest == 0 {
            return BTreeSet::new();
        }
        self.failed.rest -= 1;
        self.failed.files.clone()
    }

    /// Others work on all that there is.
    fn is_taken(&self) -> bool {
        self.is_ending || self.job.as_ref().is_some_and(|job| job.idle.is_empty())
    }
}

impl WarmTier {
    /// Does one piece of a rewrite; returns whether there was any that nobody else is at.
    pub(super) fn step_rewrite(&self) -> Result<bool> {
        let part = {
            if self.is_read_only {
                return Ok(false);
            }
            let mut jobs = self.jobs.lock();
            if !self.begin_next(&mut jobs)? {
                if jobs.is_ending {
                    return Ok(false);
                }
                drop(jobs);
                return self.begin_wanted();
            }
            let Some(job) = &mut jobs.job else { return Ok(true) };
            let Some(part) = job.idle.pop() else {
                // Others work on all of its parts.
                return Ok(false);
            };
            job.working += 1;
            part
        };
        let mut part = part;
        let mut given = Given { tier: self, is_back: false };
        let result = match part.step(self.options.step_size_bytes) {
            Ok(true) => part.finish().map(|(files, report)| Stepped::Done(files, report)),
            Ok(false) => Ok(Stepped::Part(Box::new(part))),
            Err(error) => Err(error),
        };
        given.is_back = true;
        self.give_back(result)?;
        Ok(true)
    }

    /// Has something rewritten, with the help of whoever asks for work meanwhile; what the strategy did.
    pub(super) fn rewrite_target(&self, target: Target, wake: &dyn Fn()) -> Result<MigrationReport> {
        self.check_writable()?;
        let mut jobs = self.jobs.lock();
        jobs.last_request += 1;
        let number = jobs.last_request;
        jobs.wanted.push_back(Request { number, target });
        loop {
            if let Some(answer) = jobs.answers.remove(&number) {
                return answer;
            }
            if jobs.beginning == Some(number) {
                return Err(impossible("the beginning of a rewrite panicked"));
            }
            // What is under way ends first, and other threads may take this one up.
            if jobs.is_taken() {
                self.given_back.wait(&mut jobs);
            } else {
                let begins_next = jobs.job.is_none();
                drop(jobs);
                if begins_next {
                    // Whoever looked before has found nothing, and looks no more.
                    wake();
                }
                let stepped = self.step_rewrite();
                jobs = self.jobs.lock();
                if let Err(error) = stepped
                    && !jobs.answers.contains_key(&number)
                {
                    tracing::warn!(%error, "a rewrite failed that another one waited for");
                }
            }
        }
    }

    /// What must be kept, as of now.
    pub(super) fn retained(&self) -> RetainedTables {
        let source = self.retention.read().clone();
        source.map_or_else(|| RetainedTables::new(Retained::new(self.horizon(), [])), |source| source.retained())
    }

    /// Opens a rewrite, in one part or two.
    fn begin(&self, plan: Plan, request: Option<u64>) -> Result<Job> {
        let (applied, markers) = {
            let State { marker_last, drops, clears, .. } = &self.catalog.lock().state;
            (*marker_last, Markers { drops: drops.clone(), clears: clears.clone() })
        };
        let asked = *self.asked.lock();
        let keep = Keep { retained: self.retained(), markers, outside: Arc::clone(&plan.outside), offers: self.offers() };
        // Whoever asks waits for it, and what he asks for again is made whole again; files of the background would become smaller and smaller.
        let divisor = if request.is_some() { 16 } else { 2 };
        let middle = plan.middle(self.options.file_size_bytes / divisor)?;
        let output = || self.output(self.options.compression).over(Arc::clone(&plan.below));
        let mut idle = vec![Part::open(&plan, &keep, (None, middle.clone()), output(), self.hooks())?];
        if let Some(middle) = &middle {
            idle.push(Part::open(&plan, &keep, (Some(middle), None), output(), self.hooks())?);
        }
        tracing::debug!(files = plan.inputs.len(), bytes = plan.size_bytes(), level = plan.level, "rewriting sorted files");
        Ok(Job {
            plan,
            request,
            applied,
            asked,
            idle,
            working: 0,
            done: Vec::new(),
            migrated: MigrationReport::default(),
            failure: None,
        })
    }

    /// Begins what is needed most, if nothing is under way; false if nothing is needed.
    fn begin_next(&self, jobs: &mut Jobs) -> Result<bool> {
        if jobs.job.is_some() || jobs.is_ending {
            return Ok(jobs.job.is_some());
        }
        let view = self.view.load_full();
        match self.remove_hidden(&view) {
            Ok(false) => {}
            Ok(true) => return Ok(true),
            Err(error) => {
                // Whoever waits must hear of it, or would try for ever.
                let asked = jobs.wanted.pop_front().map(|request| request.number);
                jobs.answer(asked, &Err(error.clone()));
                return Err(error);
            }
        }
        let Some(Request { number, target }) = jobs.wanted.pop_front() else {
            let Some(plan) = self.pick(jobs, &view) else { return Ok(false) };
            self.check_writable()?;
            return if plan.is_move { self.move_files(&plan) } else { self.start(jobs, plan, None) }.map(|()| true);
        };
        jobs.beginning = Some(number);
        let plan = match &target {
            Target::Range(table, range) => Plan::of_range(&view, *table, range, &self.retained()),
            Target::File(number) => self.plan_file(&view, *number),
            Target::Nothing => None,
        };
        let started = self.check_writable().and_then(|()| match plan {
            Some(plan) => self.start(jobs, plan, Some(number)),
            None => Ok(()),
        });
        jobs.beginning = None;
        if jobs.job.is_none() {
            jobs.answer(Some(number), &started.clone().map(|()| MigrationReport::default()));
        }
        started.map(|()| true)
    }

    /// Counts what was left out.
    pub(super) fn note_reclaimed(&self, left_out: impl IntoIterator<Item = (EntryKind, Amount)>) {
        let mut reclaimed = self.reclaimed.lock();
        for (table, amount) in left_out.into_iter().filter(|(_, amount)| amount.entries > 0) {
            tracing::debug!(%table, entries = amount.entries, bytes = amount.bytes, "reclaimed");
            *reclaimed.entry(table).or_default() += amount;
        }
    }

    /// What is needed most. What must be gone in time waits for no more than one other rewrite each time, however much there is to do.
    fn pick(&self, jobs: &mut Jobs, view: &View) -> Option<Plan> {
        let is_for_garbage = self.asked.lock().is_some() && !jobs.was_for_garbage;
        jobs.was_for_garbage = is_for_garbage;
        let pick = |avoided: &BTreeSet<u64>| {
            let needed = || Plan::pick(view, &self.options, avoided);
            let garbage = || self.pick_garbage(view, avoided).filter(|plan| !plan.meets(avoided));
            if is_for_garbage { garbage().or_else(needed) } else { needed().or_else(garbage) }
        };
        let resting = jobs.resting();
        let others = if resting.is_empty() { None } else { pick(&resting) };
        others.or_else(|| pick(&BTreeSet::new()))
    }

    /// A rewrite for what need not be kept any more.
    fn pick_garbage(&self, view: &View, avoided: &BTreeSet<u64>) -> Option<Plan> {
        let is_below = |plan: &Plan| plan.inputs.iter().all(|segment| segment.meta.level > 0);
        self.find_garbage(view, avoided).map(|plan| Plan { is_patient: is_below(&plan), ..plan })
    }

    fn find_garbage(&self, view: &View, avoided: &BTreeSet<u64>) -> Option<Plan> {
        if self.is_reclaim_paused.load(Ordering::Relaxed) {
            return None;
        }
        // Before what is retained is known: what is asked for after that is not ended by what was known before.
        let asked = *self.asked.lock();
        let retained = self.retained();
        if let Some(mut asked) = asked {
            if let Some(plan) = Plan::bring_together(view, &self.options, &retained, asked.version) {
                return Some(plan);
            }
            let mut now = self.asked.lock();
            if asked.deletions_below.is_none() {
                let before = Some(asked);
                asked.deletions_below = Some(self.maker.next_number.load(Ordering::Relaxed));
                // Unless it is asked for again at the same time.
                if *now == before {
                    *now = Some(asked);
                }
            }
            if let Some(plan) = Plan::any_garbage(view, &self.options, &retained, asked, avoided) {
                return Some(plan);
            }
            drop(now);
            if !avoided.is_empty() {
                // What is asked for may lie there.
                return None;
            }
            if let Err(error) = self.forget_edits() {
                tracing::warn!(%error, "the manifest still names what is gone; it is tried again");
                return None;
            }
            self.asked.lock().take_if(|now| *now == asked);
        }
        let has_markers = !view.markers.clears.is_empty() || !view.markers.drops.is_empty();
        let may_hold = retained != RetainedTables::default() || has_markers;
        may_hold.then(|| Plan::garbage(view, &self.options, &retained, avoided)).flatten()
    }

    fn forget_edits(&self) -> Result<()> {
        let mut catalog = self.catalog.lock();
        let Catalog { manifest, state } = &mut *catalog;
        manifest.as_mut().map_or(Ok(()), |manifest| manifest.forget_edits(state))
    }

    /// Removes files of which nothing is seen any more: a clear left them for a rewrite that has ended since, or never did, or all that they
    /// hold was cleared before the horizon.
    fn remove_hidden(&self, view: &View) -> Result<bool> {
        let is_paused = self.is_reclaim_paused.load(Ordering::Relaxed);
        let retained = if is_paused { RetainedTables::default() } else { self.retained() };
        if view.markers.clears.is_empty() && retained.cleared_below().next().is_none() {
            return Ok(false);
        }
        let is_hidden = |meta: &FileMeta| meta.tables.iter().all(|(table, _)| is_hidden(view, meta, *table, &retained));
        let hidden: Vec<u64> =
            view.segments().filter(|segment| is_hidden(&segment.meta)).map(|segment| segment.meta.number).collect();
        if hidden.is_empty() {
            return Ok(false);
        }
        let mut catalog = self.catalog.lock();
        let (remove, gone): (Vec<u64>, Vec<FileMeta>) =
            hidden.into_iter().filter_map(|number| Some((number, catalog.state.files.get(&number)?.clone()))).unzip();
        self.commit(&mut catalog, Edit { remove, ..Edit::default() })?;
        self.note_reclaimed(less(&gone, &[]));
        Ok(true)
    }

    fn start(&self, jobs: &mut Jobs, plan: Plan, request: Option<u64>) -> Result<()> {
        let inputs = plan.inputs.iter().map(|segment| segment.meta.number).collect();
        jobs.job = Some(self.begin(plan, request)?);
        jobs.inputs = inputs;
        Ok(())
    }

    fn move_files(&self, plan: &Plan) -> Result<()> {
        let mut catalog = self.catalog.lock();
        let moves = plan.inputs.iter().map(|segment| segment.meta.number);
        let moves = moves.filter(|number| catalog.state.files.contains_key(number)).map(|number| (number, plan.level)).collect();
        self.commit(&mut catalog, Edit { moves, ..Edit::default() })
    }

    /// A part comes back: complete with its files, to be continued, or failed.
    fn give_back(&self, result: Result<Stepped>) -> Result<()> {
        let ended = self.take_back(result);
        self.given_back.notify_all();
        ended
    }

    fn take_back(&self, result: Result<Stepped>) -> Result<()> {
        let mut jobs = self.jobs.lock();
        let Jobs { job: Some(job), failed, .. } = &mut *jobs else { return Ok(()) };
        job.working -= 1;
        match result {
            Ok(Stepped::Part(part)) => job.idle.push(*part),
            Ok(Stepped::Done(files, report)) => {
                job.done.extend(files);
                job.migrated.add(&report);
            }
            // It fails as one, whichever part was first.
            Err(_) if job.failure.is_some() => {}
            Err(error) => {
                if error.kind().is_callback() {
                    failed.add(job.plan.inputs.iter().map(|segment| segment.meta.number));
                    self.note_failed_hook(&error);
                }
                job.failure = Some(error);
            }
        }
        // With contexts of the engine's in them: these go without the lock.
        let given_up = if job.failure.is_some() { std::mem::take(&mut job.idle) } else { Vec::new() };
        if job.working > 0 || !job.idle.is_empty() {
            drop(jobs);
            drop(given_up);
            return Ok(());
        }
        let Some(job) = jobs.job.take() else { return Ok(()) };
        jobs.is_ending = true;
        drop(jobs);
        drop(given_up);
        let mut ending = Ending { tier: self, request: job.request, result: Err(impossible("the end of a rewrite panicked")) };
        ending.result = self.end(job);
        ending.result.clone().map(drop)
    }

    /// Takes a complete rewrite over, or gives it up; what the strategy did.
    fn end(&self, job: Job) -> Result<MigrationReport> {
        let Job { plan, applied, asked, done: mut files, migrated, failure, .. } = job;
        if let Some(error) = failure {
            for file in &files {
                self.maker.discard(file.number);
            }
            return Err(error);
        }
        let written = files.iter().map(|file| file.size_bytes).sum();
        let mut catalog = self.catalog.lock();
        let remove: Vec<u64> = plan.inputs.iter().map(|segment| segment.meta.number).collect();
        let rank = plan.inputs.iter().map(|segment| segment.meta.rank).max().unwrap_or_default();
        for file in &mut files {
            (file.level, file.rank, file.applied) = (plan.level, rank, applied);
        }
        let inputs: Vec<FileMeta> = plan.inputs.iter().map(|segment| segment.meta.clone()).collect();
        let left_out = less(&inputs, &files);
        self.install(&mut catalog, Edit { add: files, remove, ..Edit::default() })?;
        self.note_reclaimed(left_out);
        self.written_bytes.fetch_add(written, Ordering::Relaxed);
        self.compacted_bytes.fetch_add(written, Ordering::Relaxed);
        let is_asked = self.asked.lock().is_some_and(|now| asked.is_none_or(|before| before.number < now.number));
        if is_asked {
            // It was asked for meanwhile: what this one has written may hold what need not be kept since.
            self.reclaim_all();
        }
        self.add_migrated(&migrated);
        Ok(migrated)
    }

    /// Begins the rewrite of a file, unless something else is under way; false if it is not live any more.
    pub(super) fn begin_file(&self, number: u64) -> Result<bool> {
        let mut jobs = self.jobs.lock();
        if jobs.job.is_some() || jobs.is_ending {
            return Ok(jobs.job.is_some());
        }
        self.check_writable()?;
        let view = self.view.load_full();
        match self.plan_file(&view, number) {
            Some(plan) => self.start(&mut jobs, plan, None).map(|()| true),
            None => Ok(false),
        }
    }
}

/// By how much files hold more of each table than others do.
fn less(files: &[FileMeta], others: &[FileMeta]) -> BTreeMap<EntryKind, Amount> {
    let sums = |files: &[FileMeta]| {
        let mut sums: BTreeMap<EntryKind, TableStats> = BTreeMap::new();
        for (table, stats) in files.iter().flat_map(|file| &file.tables) {
            sums.entry(*table).or_default().add(stats);
        }
        sums
    };
    let others = sums(others);
    let less = |(table, stats): (EntryKind, TableStats)| {
        let other = others.get(&table).copied().unwrap_or_default();
        let entries = stats.entries.saturating_sub(other.entries);
        (table, Amount { entries, bytes: stats.user_bytes.saturating_sub(other.user_bytes) })
    };
    sums(files).into_iter().map(less).collect()
}

/// A rewrite that is being taken over. If that panics, it has failed, and nobody waits for it.
struct Ending<'a> {
    tier: &'a WarmTier,
    request: Option<u64>,
    result: Result<MigrationReport>,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let mut jobs = self.tier.jobs.lock();
        jobs.is_ending = false;
        let inputs = std::mem::take(&mut jobs.inputs);
        if self.result.is_ok() {
            jobs.failed.forget(&inputs);
        }
        jobs.answer(self.request, &self.result);
        drop(jobs);
        self.tier.given_back.notify_all();
    }
}

/// A part that somebody works on. If that panics, the rewrite has failed, and nobody waits for it.
struct Given<'a> {
    tier: &'a WarmTier,
    is_back: bool,
}

impl Drop for Given<'_> {
    fn drop(&mut self) {
        if !self.is_back {
            let failed = self.tier.give_back(Err(impossible("a rewrite panicked")));
            tracing::error!(error = ?failed.err(), "a rewrite ended too early");
        }
    }
}
