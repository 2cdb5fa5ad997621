//! The work that may wait, and who does it: threads of the store's own, or the caller by hand. Both do the same steps.

use std::sync::Arc;
use std::time::Duration;

use thermocline_io::sync::{Condvar, Mutex};
use thermocline_io::{JoinHandle, Spawner};
use thermocline_migration::check_not_in_hook;
use thermocline_tier::{Error, ErrorKind, Result};

use crate::storage::Storage;
use crate::store::{Core, Store};

/// How long the log's thread waits between two looks at a log that is written to.
const BUSY_WAIT: Duration = Duration::from_millis(10);
/// How long it waits when the last look found nothing to do.
const IDLE_WAIT: Duration = Duration::from_millis(100);
/// How long the other threads wait for a ring before they look by themselves.
const LOOK_WAIT: Duration = Duration::from_secs(1);
/// How often it is looked what policies of retention, leases and deadlines call for.
const RETENTION_WAIT: Duration = Duration::from_secs(1);
/// How long a thread pauses after a failure at first, and at most.
const RETRY_WAIT_MIN: Duration = Duration::from_millis(50);
const RETRY_WAIT_MAX: Duration = Duration::from_secs(2);

/// The kinds of work on the tiers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Job {
    /// Moving sealed tables into the durable tier.
    Flush,
    /// The durable tier's own.
    Tier,
}

/// How threads that work and threads that wait for work tell each other.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    state: Mutex<State>,
    /// There may be work, or it is time to stop.
    work: Condvar,
    /// Something was done, or failed, or will never be done.
    progress: Condvar,
}

#[derive(Debug, Default)]
struct State {
    is_stopping: bool,
    /// How often there was something new to do.
    rings: u64,
    /// How often something was done or failed.
    steps: u64,
    flush_failure: Option<Error>,
    tier_failure: Option<Error>,
    /// How many threads do the tier's work, and how many of them have nothing to do.
    tier_workers: usize,
    tier_workers_idle: usize,
}

impl State {
    fn failure(&mut self, job: Job) -> &mut Option<Error> {
        match job {
            Job::Flush => &mut self.flush_failure,
            Job::Tier => &mut self.tier_failure,
        }
    }
}

impl Signals {
    /// Says that something was done that others may wait for.
    pub(crate) fn step_done(&self) {
        self.state.lock().steps += 1;
        self.progress.notify_all();
    }

    /// Says that there is something to do.
    pub(crate) fn ring(&self) {
        self.state.lock().rings += 1;
        self.work.notify_all();
    }

    /// Ends the threads' work, and the waiting for it.
    fn stop(&self) {
        self.state.lock().is_stopping = true;
        self.work.notify_all();
        self.progress.notify_all();
    }

    /// Notes how a step went.
    pub(crate) fn note(&self, job: Job, result: &Result<bool>) {
        let mut state = self.state.lock();
        let failure = match result {
            Ok(_) => None,
            Err(error) => Some(error.clone()),
        };
        if let (Some(error), None) = (&failure, &*state.failure(job)) {
            tracing::warn!(%error, ?job, "background work fails; it is tried again");
        }
        let had_failure = state.failure(job).is_some();
        *state.failure(job) = failure;
        let did_any = matches!(result, Ok(true));
        if did_any || result.is_err() || had_failure {
            state.steps += 1;
            self.progress.notify_all();
        }
        if did_any {
            // A table that was moved down is work for the tier, and what the tier does may call for more.
            state.rings += 1;
            self.work.notify_all();
        }
    }

    /// Why this work fails at the moment, if it does.
    pub(crate) fn failure(&self, job: Job) -> Option<Error> {
        self.state.lock().failure(job).clone()
    }

    /// How many steps there were.
    pub(crate) fn steps(&self) -> u64 {
        self.state.lock().steps
    }

    /// Waits until there were more steps than `seen`, or for `duration`.
    pub(crate) fn wait_for_step(&self, seen: u64, duration: Duration) {
        let mut state = self.state.lock();
        if state.steps == seen && !state.is_stopping {
            self.progress.wait_for(&mut state, duration);
        }
    }

    /// Counts the caller among those who do the tier's work until the answer is dropped: others who find nothing to do may wait for it.
    pub(crate) fn join_tier_work(&self) -> TierWork<'_> {
        self.state.lock().tier_workers += 1;
        TierWork(self)
    }

    /// Whether every thread for this work has found that there is none.
    pub(crate) fn is_idle(&self, job: Job) -> bool {
        let state = self.state.lock();
        job == Job::Tier && state.tier_workers_idle >= state.tier_workers
    }

    fn rings(&self) -> u64 {
        self.state.lock().rings
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.state.lock().is_stopping
    }

    /// Waits for `duration`, and says whether to go on.
    fn pause(&self, duration: Duration) -> bool {
        let mut state = self.state.lock();
        if !state.is_stopping {
            self.work.wait_while_for(&mut state, |state| !state.is_stopping, duration);
        }
        !state.is_stopping
    }

    /// Waits for a ring after the `seen` ones, and says whether to go on.
    fn wait_for_ring(&self, job: Job, seen: u64) -> bool {
        let mut state = self.state.lock();
        if job == Job::Tier {
            state.tier_workers_idle += 1;
            self.progress.notify_all();
        }
        self.work.wait_while_for(&mut state, |state| state.rings == seen && !state.is_stopping, LOOK_WAIT);
        if job == Job::Tier {
            state.tier_workers_idle -= 1;
        }
        !state.is_stopping
    }
}

/// See [`Signals::join_tier_work`].
pub(crate) struct TierWork<'a>(&'a Signals);

impl Drop for TierWork<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.tier_workers -= 1;
        state.steps += 1;
        self.0.progress.notify_all();
    }
}

/// The background threads of a store. They hold its parts, not the store, so they never keep a store open.
#[derive(Debug)]
pub(crate) struct Workers {
    storage: Arc<Storage>,
    threads: Vec<Box<dyn JoinHandle>>,
}

impl Workers {
    /// Starts a thread for the log and one for retention, and if there is a durable tier, one for flushing and some for the tier's own
    /// work.
    pub(crate) fn start(core: &Arc<Core>, spawner: &dyn Spawner) -> Result<Self> {
        let mut workers = Self { storage: Arc::clone(&core.storage), threads: Vec::new() };
        match workers.start_all(core, spawner) {
            Ok(()) => Ok(workers),
            Err(error) => {
                workers.stop();
                Err(error)
            }
        }
    }

    fn start_all(&mut self, core: &Arc<Core>, spawner: &dyn Spawner) -> Result<()> {
        let tier_threads = core.options.tier_threads;
        self.spawn(spawner, "thermocline-log", tend_log)?;
        let core = Arc::clone(core);
        self.spawn(spawner, "thermocline-drop", move |_storage| tend_retention(&core))?;
        if self.storage.durable().is_none() {
            return Ok(());
        }
        self.spawn(spawner, "thermocline-flush", |storage| work(storage, Job::Flush, Storage::flush_step))?;
        self.storage.signals.state.lock().tier_workers = tier_threads;
        for _thread in 0..tier_threads {
            self.spawn(spawner, "thermocline-tier", |storage| work(storage, Job::Tier, Storage::tier_step))?;
        }
        Ok(())
    }

    fn spawn(&mut self, spawner: &dyn Spawner, name: &'static str, body: impl FnOnce(&Storage) + Send + 'static) -> Result<()> {
        let guard = PanicGuard { storage: Arc::clone(&self.storage), name, is_done: false };
        let task = Box::new(move || {
            let mut guard = guard;
            body(&guard.storage);
            guard.is_done = true;
        });
        let thread = spawner.spawn(name, task).map_err(|source| Error::with_source(ErrorKind::Io, source))?;
        self.threads.push(thread);
        Ok(())
    }

    /// Stops the threads and waits for them: each ends the step that it is at.
    pub(crate) fn stop(self) {
        self.storage.signals.stop();
        for thread in self.threads {
            if let Err(error) = thread.join() {
                tracing::error!(%error, "a background thread panicked");
            }
        }
    }
}

/// Poisons the store if its thread panics: what the thread was there for will not be done any more, and nobody may wait for it.
struct PanicGuard {
    storage: Arc<Storage>,
    name: &'static str,
    is_done: bool,
}

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if !self.is_done {
            let what = format!("the background thread {} ended too early", self.name);
            self.storage.poison.set(&Error::with_source(ErrorKind::Io, what));
            self.storage.signals.progress.notify_all();
        }
    }
}

/// Does steps while there are any, waits for a ring when there are none, and pauses after a failure.
fn work(storage: &Storage, job: Job, step: impl Fn(&Storage) -> Result<bool>) {
    let signals = &storage.signals;
    let mut retry_wait = RETRY_WAIT_MIN;
    while !signals.is_stopping() {
        let seen = signals.rings();
        let goes_on = match step(storage) {
            Ok(did_any) => {
                retry_wait = RETRY_WAIT_MIN;
                did_any || signals.wait_for_ring(job, seen)
            }
            Err(_noted) => {
                let pause = retry_wait;
                retry_wait = (retry_wait * 2).min(RETRY_WAIT_MAX);
                signals.pause(pause)
            }
        };
        if !goes_on {
            return;
        }
    }
}

/// Looks at the log from time to time. A failure here is not lost: the log meets it again when it needs what could not be prepared,
/// and then tells the committer.
fn tend_log(storage: &Storage) {
    let mut wait = BUSY_WAIT;
    while storage.signals.pause(wait) {
        wait = IDLE_WAIT;
        loop {
            match storage.log.background_step() {
                Ok(true) => wait = BUSY_WAIT,
                Ok(false) => break,
                Err(error) => {
                    tracing::warn!(%error, "background work on the log failed");
                    break;
                }
            }
        }
    }
}

/// Looks from time to time what policies, leases and deadlines call for, and sweeps memory.
fn tend_retention(core: &Core) {
    while core.storage.signals.pause(RETENTION_WAIT) {
        if let Err(error) = core.reclaim_round(true) {
            tracing::warn!(%error, "reclaiming fails; it is tried again");
        }
    }
}

impl Store {
    /// Does all background work that waits, here and now: for stores opened with [`Background::ByHand`](crate::Background::ByHand),
    /// harmless on others. Work that fails is left, and noted in [`stats`](Store::stats); it is tried again when it is asked for
    /// next.
    pub fn run_until_idle(&self) {
        if check_not_in_hook("background work").is_err() {
            return;
        }
        if let Err(error) = self.inner.reclaim_round(false) {
            tracing::warn!(%error, "reclaiming fails; it is tried again");
        }
        while let Ok(true) = self.inner.storage.work_step() {}
    }

    /// Does one piece of the background work that waits, here and now, each kind of work one step; whether more may be left. Between two
    /// pieces anything else may be done: for those who simulate, or share a thread with other work.
    ///
    /// ```
    /// # let store = thermocline::Store::in_memory()?;
    /// while store.step()? {}
    /// # Ok::<(), thermocline_tier::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed), or what the work fails with; it is tried again when it is asked for next.
    pub fn step(&self) -> Result<bool> {
        check_not_in_hook("a step of background work")?;
        self.inner.check_open()?;
        // What fails keeps nothing else from being done.
        let (reclaimed, worked) = (self.inner.reclaim_step(), self.inner.storage.work_step());
        let has_worked = worked?;
        Ok(reclaimed? || has_worked)
    }

    /// Waits until all background work is done, helping with it. What was written last stays in memory: [`flush`](Store::flush)
    /// moves it.
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed), or what the work fails with; it is tried again later.
    pub fn wait_idle(&self) -> Result<()> {
        check_not_in_hook("a wait for background work")?;
        self.inner.check_open()?;
        self.inner.reclaim_round(false)?;
        loop {
            while self.inner.storage.work_step()? {}
            // What others are at may call for more.
            self.inner.storage.settle();
            if !self.inner.storage.work_step()? {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tier_is_not_idle_while_a_caller_does_its_work() {
        let signals = Signals::default();
        assert!(signals.is_idle(Job::Tier), "there are no threads");
        let seen = signals.steps();
        let working = signals.join_tier_work();
        assert!(!signals.is_idle(Job::Tier));
        drop(working);
        assert!(signals.is_idle(Job::Tier) && signals.steps() > seen, "whoever waits looks again");
    }
}
