//! Back-pressure: writers slow down, then wait, while background work is behind.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use thermocline_tier::{Error, ErrorKind, Result};

use crate::background::Job;
use crate::options::Background;
use crate::storage::Strain;
use crate::store::Core;

/// How fast writers are while they should slow down, all together, in bytes a second.
const SLOW_BYTES_PER_SECOND: u64 = 16 << 20;
/// Delays shorter than this are saved up for a later commit: no thread sleeps so shortly.
const DELAY_MIN: Duration = Duration::from_millis(1);
/// The longest delay of one commit.
const DELAY_MAX: Duration = Duration::from_millis(100);
/// How long a writer that waits sleeps before it looks again by itself.
const LOOK_WAIT: Duration = Duration::from_millis(50);

/// How writers were held back since the store was opened.
///
/// ```
/// # let store = thermocline::Store::in_memory()?;
/// assert_eq!(store.stats().back_pressure, thermocline_store::BackPressure::default());
/// # Ok::<(), thermocline_tier::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackPressure {
    /// How many commits were slowed down.
    pub slow_downs: u64,
    /// How long, all together.
    pub slow_down_time: Duration,
    /// How many commits had to wait for background work.
    pub stalls: u64,
    /// How long, all together.
    pub stall_time: Duration,
    /// Why writers are slowed down or wait at present; `None` if they are not.
    pub reason: Option<String>,
}

/// Counts how writers are held back.
#[derive(Debug, Default)]
pub(crate) struct PressureMeter {
    slow_downs: AtomicU64,
    slow_down_micros: AtomicU64,
    stalls: AtomicU64,
    stall_micros: AtomicU64,
    /// The delay that was saved up, in microseconds.
    owed_micros: AtomicU64,
    is_strained: AtomicBool,
    reason: Mutex<Option<String>>,
}

impl PressureMeter {
    pub(crate) fn read(&self) -> BackPressure {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        BackPressure {
            slow_downs: load(&self.slow_downs),
            slow_down_time: Duration::from_micros(load(&self.slow_down_micros)),
            stalls: load(&self.stalls),
            stall_time: Duration::from_micros(load(&self.stall_micros)),
            reason: self.reason.lock().clone(),
        }
    }

    fn note(&self, strain: &Strain) {
        match strain {
            Strain::None => self.say(None, "writes go on at full speed"),
            Strain::Slow(why) => self.say(Some(why), "writes are slowed down"),
            Strain::Stop(_, why) => self.say(Some(why), "writes wait"),
        }
    }

    /// Notes why writers are held back, or that they are not any more; says so once for each reason.
    fn say(&self, reason: Option<&String>, what: &'static str) {
        if reason.is_none() && !self.is_strained.load(Ordering::Relaxed) {
            return;
        }
        let mut known = self.reason.lock();
        if known.as_ref() == reason {
            return;
        }
        match reason {
            None => tracing::info!("{what}"),
            Some(why) => tracing::warn!(%why, "{what}"),
        }
        self.is_strained.store(reason.is_some(), Ordering::Relaxed);
        *known = reason.cloned();
    }

    /// How long a commit of so many bytes must be delayed now.
    fn delay(&self, bytes: usize) -> Duration {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let micros = bytes.saturating_mul(1_000_000) / SLOW_BYTES_PER_SECOND;
        let owed = self.owed_micros.fetch_add(micros, Ordering::Relaxed).saturating_add(micros);
        if Duration::from_micros(owed) < DELAY_MIN {
            return Duration::ZERO;
        }
        self.owed_micros.store(0, Ordering::Relaxed);
        Duration::from_micros(owed).min(DELAY_MAX)
    }
}

fn add_micros(counter: &AtomicU64, time: Duration) {
    counter.fetch_add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
}

impl Core {
    /// Holds a write of so many bytes back as far as background work is behind. By hand, the writer does that work itself.
    ///
    /// # Errors
    /// What the work fails with that the write would have to wait for; [`Closed`](thermocline_tier::ErrorKind::Closed).
    pub(crate) fn wait_for_room(&self, bytes: usize) -> Result<()> {
        self.wait_for_consumers()?;
        self.wait_for_background(bytes)
    }

    /// The same, but for consumers.
    pub(crate) fn wait_for_background(&self, bytes: usize) -> Result<()> {
        let strain = self.storage.strain();
        self.pressure.note(&strain);
        match strain {
            Strain::None => Ok(()),
            Strain::Slow(_) => {
                self.slow_down(bytes);
                Ok(())
            }
            Strain::Stop(job, _) => self.stall(job),
        }
    }

    /// Waits while a consumer is further behind than it may be. By hand nobody would bring it forward meanwhile: then that is an error.
    fn wait_for_consumers(&self) -> Result<()> {
        if !self.reclaim.may_hold_writers() {
            return Ok(());
        }
        let Some((name, found, max)) = self.consumer_behind() else { return Ok(()) };
        if self.options.background == Background::ByHand {
            let error = Error::from(ErrorKind::LimitExceeded { what: "the log ahead of a consumer in bytes", found, max });
            return Err(error.context(format!("consumer {name:?} holds writers")));
        }
        self.pressure.stalls.fetch_add(1, Ordering::Relaxed);
        let begun = self.clock.now();
        let signals = &self.storage.signals;
        let result = loop {
            let seen = signals.steps();
            if let Err(error) = self.check_open().and_then(|()| self.storage.poison.check()) {
                break Err(error);
            }
            let Some((name, behind, max)) = self.consumer_behind() else { break Ok(()) };
            self.pressure.say(Some(&format!("consumer {name:?} is {behind} bytes behind, and may be {max}")), "writes wait");
            signals.wait_for_step(seen, LOOK_WAIT);
        };
        add_micros(&self.pressure.stall_micros, self.clock.now().saturating_sub(begun));
        result
    }

    fn slow_down(&self, bytes: usize) {
        let meter = &self.pressure;
        meter.slow_downs.fetch_add(1, Ordering::Relaxed);
        let begun = self.clock.now();
        match self.options.background {
            Background::Thread => {
                let delay = meter.delay(bytes);
                if !delay.is_zero() {
                    self.storage.signals.wait_for_step(self.storage.signals.steps(), delay);
                }
            }
            // A failure is noted, and met again by the write that must wait.
            Background::ByHand => drop(self.storage.work_step()),
        }
        add_micros(&meter.slow_down_micros, self.clock.now().saturating_sub(begun));
    }

    fn stall(&self, job: Job) -> Result<()> {
        self.pressure.stalls.fetch_add(1, Ordering::Relaxed);
        let begun = self.clock.now();
        let result = match self.options.background {
            Background::Thread => self.wait_while_stopped(job),
            Background::ByHand => self.work_while_stopped(),
        };
        add_micros(&self.pressure.stall_micros, self.clock.now().saturating_sub(begun));
        result.map_err(|error| error.context("writing waits for background work, which fails"))
    }

    fn wait_while_stopped(&self, mut job: Job) -> Result<()> {
        let signals = &self.storage.signals;
        loop {
            let seen = signals.steps();
            self.check_open()?;
            self.storage.poison.check()?;
            if let Some(error) = signals.failure(job) {
                return Err(error);
            }
            // Asked before the strain, so that a tier that asks for patience and has nothing to do cannot hold writers up for ever.
            let is_idle = signals.is_idle(job);
            let strain = self.storage.strain();
            self.pressure.note(&strain);
            match strain {
                Strain::Stop(next, _) if !is_idle => job = next,
                _ => return Ok(()),
            }
            signals.wait_for_step(seen, LOOK_WAIT);
        }
    }

    fn work_while_stopped(&self) -> Result<()> {
        let signals = &self.storage.signals;
        loop {
            let seen = signals.steps();
            // As above.
            let is_idle = signals.is_idle(Job::Tier);
            let strain = self.storage.strain();
            self.pressure.note(&strain);
            if !matches!(strain, Strain::Stop(..)) {
                return Ok(());
            }
            if !self.storage.work_step()? {
                if is_idle {
                    return Ok(());
                }
                // Another thread compacts.
                self.check_open()?;
                signals.wait_for_step(seen, LOOK_WAIT);
            }
        }
    }
}
