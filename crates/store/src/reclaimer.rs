//! What is done in the background so that what need not be kept goes: policies, sweeping of memory, and what must be gone in time.

use std::time::Duration;

use thermocline_drop::{Moment, Sweep};
use thermocline_tier::{Result, RetainedTables, TierStorage};

use crate::options::OpenMode;
use crate::store::Core;

/// How many keys a step looks at: so few that a writer waits for less than a millisecond.
const SWEEP_KEYS: usize = 256;
/// A pass begins once one of so many entries is an older version or a tombstone.
const SWEEP_SHARE: u64 = 8;
/// After a pass, so many times as long as it has taken none begins.
pub(crate) const REST_PER_PASS: u32 = 9;

/// How far the sweeping of a store without a durable tier has got.
#[derive(Debug, Default)]
pub(crate) struct Sweeping {
    sweep: Sweep,
    /// What was retained when the pass began, and when that was; `None` between passes.
    pass: Option<(RetainedTables, Duration)>,
    /// What was retained when the last pass began that is over.
    last: RetainedTables,
    /// No pass begins before.
    rest_until: Duration,
    dropped: u64,
}

/// Since when there may be something in files that need not be kept.
#[derive(Debug, Default)]
pub(crate) struct Garbage {
    /// What was retained when it was looked last.
    seen: RetainedTables,
    pub(crate) since: Option<Moment>,
}

impl Core {
    /// One round of all that time calls for. A pass over memory is taken as far as it goes.
    pub(crate) fn reclaim_round(&self, is_patient: bool) -> Result<()> {
        // Whoever asks for work hears of a poisoned store from that.
        if self.options.mode == OpenMode::ReadOnly || self.storage.check_poison().is_err() {
            return Ok(());
        }
        self.name_old_readers();
        if self.reclaim.read().has_duties() {
            self.apply_retention()?;
        }
        while !self.storage.signals.is_stopping() && self.expire_step()? {}
        self.settle_consumers()?;
        self.overtake_consumers()?;
        if self.is_reclaim_paused() {
            return Ok(());
        }
        let dropped = self.drop_all(is_patient);
        self.keep_deadline()?;
        while !self.storage.signals.is_stopping() && self.sweep_step(is_patient)? {}
        dropped
    }

    /// Warns of readers that have become older than they should, once of each.
    fn name_old_readers(&self) {
        let Some(age) = self.options.snapshot_warn_age else { return };
        let now = self.moment();
        let until = now.before(age);
        let from = std::mem::replace(&mut *self.warned_until.lock(), until);
        for (version, number, reader) in self.reclaim.read().readers().iter() {
            if from < reader.since && reader.since <= until {
                let (holder, place, age) = (reader.holder, reader.place, now.since(reader.since));
                tracing::warn!(%version, %place, ?age, "{holder} {number} is still there, and keeps what it can read");
            }
        }
    }

    /// Notes that something was removed that files may hold.
    pub(crate) fn note_garbage(&self) {
        if self.options.garbage_max_age.is_some() {
            self.garbage.lock().since.get_or_insert(self.moment());
        }
    }

    /// Has what need not be kept rewritten when half of the time is over in which it must be gone: the rest is for the rewriting.
    fn keep_deadline(&self) -> Result<()> {
        let (Some(max_age), Some(durable)) = (self.options.garbage_max_age, self.storage.durable()) else { return Ok(()) };
        let now = self.moment();
        let due = {
            let retained = self.reclaim.kept();
            let mut garbage = self.garbage.lock();
            if retained != garbage.seen {
                garbage.seen = retained;
                garbage.since.get_or_insert(now);
            }
            // From now on something else is noted anew.
            garbage.since.take_if(|since| now.since(*since) >= max_age / 2)
        };
        let Some(since) = due else { return Ok(()) };
        self.flush().inspect_err(|_| self.garbage.lock().since = Some(since))?;
        durable.reclaim_all();
        self.storage.signals.ring();
        tracing::debug!("what need not be kept is rewritten");
        Ok(())
    }

    /// Looks at some keys of the table in memory, where nothing lies below it; whether there is more to look at. Patiently: only where it is
    /// worth it, and with rests.
    fn sweep_step(&self, is_patient: bool) -> Result<bool> {
        let _open = self.storage.enter()?;
        let view = self.storage.view_owned();
        let (Some(tier), None) = (&view.active, &view.durable) else { return Ok(false) };
        let mut sweeping = self.sweeping.lock();
        let retained = self.reclaim.kept();
        if sweeping.pass.is_none() {
            let now = self.clock.now();
            let is_worth_it = || is_worth_it(&**tier) || retained.cleared_below().next().is_some();
            if retained == sweeping.last || is_patient && (now < sweeping.rest_until || !is_worth_it()) {
                return Ok(false);
            }
            sweeping.pass = Some((retained.clone(), now));
        }
        let swept = sweeping.sweep.step(&**tier, &retained, SWEEP_KEYS)?;
        sweeping.dropped += swept.dropped.entries;
        if let Some(table) = swept.table {
            self.note_reclaimed(table, swept.dropped);
        }
        if swept.is_done {
            let now = self.clock.now();
            if let Some((retained, begun)) = sweeping.pass.take() {
                sweeping.last = retained;
                sweeping.rest_until = now + now.saturating_sub(begun) * REST_PER_PASS;
            }
            tracing::debug!(dropped = sweeping.dropped, "memory was swept");
        }
        Ok(!swept.is_done)
    }

    /// A whole pass over the table in memory, here and now.
    pub(crate) fn sweep_all(&self) -> Result<()> {
        {
            let mut sweeping = self.sweeping.lock();
            sweeping.pass = None;
            sweeping.sweep = Sweep::default();
            sweeping.last = RetainedTables::default();
        }
        while self.sweep_step(false)? {}
        Ok(())
    }

    /// How many entries were dropped from memory.
    pub(crate) fn swept_entries(&self) -> u64 {
        self.sweeping.lock().dropped
    }
}

fn is_worth_it(tier: &dyn TierStorage) -> bool {
    let sum = |(old, entries), (_, stats): &(_, thermocline_tier::TableStats)| {
        (old + stats.entries.saturating_sub(stats.keys) + stats.tombstones, entries + stats.entries)
    };
    let (old, entries) = tier.stats().tables.iter().fold((0, 0), sum);
    old > 0 && old * SWEEP_SHARE >= entries
}
