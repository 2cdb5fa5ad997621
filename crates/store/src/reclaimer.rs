//! What is done in the background so that what need not be kept goes: policies, sweeping of memory, and what must be gone in time.

use std::time::Duration;

use thermocline_drop::{Change, Moment, Sweep};
use thermocline_tier::{Result, RetainedTables, TierStorage};
use thermocline_wal::Durability;

use crate::options::OpenMode;
use crate::store::Core;

/// How many entries a step looks at, unless a key alone has more: so few that a writer waits for less than a millisecond.
const SWEEP_ENTRIES: usize = 512;
/// How many steps of one kind a round does at most, unless it is asked for all: the next one is a second later.
const ROUND_STEPS: usize = 1024;
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

/// What is known of what need not be kept, for the time by which it must be gone. Since when there is any, the authority knows.
#[derive(Debug, Default)]
pub(crate) struct Garbage {
    /// What was retained when it was looked last.
    seen: RetainedTables,
    /// Since when there may be some that the authority does not know of, or that is not of what was asked for.
    new_since: Option<Moment>,
}

impl Core {
    /// One round of all that time calls for. A pass over memory is taken as far as it goes.
    pub(crate) fn reclaim_round(&self, is_patient: bool) -> Result<()> {
        if !self.heed_time()? {
            return Ok(());
        }
        // What fails keeps nothing else from being done.
        let expired = self.steps(is_patient, || self.expire_step());
        if self.is_reclaim_paused() {
            return expired;
        }
        let dropped = self.drop_all(is_patient);
        let kept = self.keep_deadline();
        let swept = self.steps(is_patient, || self.sweep_step(is_patient));
        expired.and(dropped).and(kept).and(swept)
    }

    /// The same, but of what may be much one step; whether more may be left.
    pub(crate) fn reclaim_step(&self) -> Result<bool> {
        if !self.heed_time()? {
            return Ok(false);
        }
        let expired = self.expire_step();
        if self.is_reclaim_paused() {
            return expired;
        }
        let (dropped, kept, swept) = (self.drop_all(false), self.keep_deadline(), self.sweep_step(false));
        let has_expired = dropped.and(kept).and(expired)?;
        Ok(swept? || has_expired)
    }

    /// What time calls for that is little work; false if nothing may be written.
    fn heed_time(&self) -> Result<bool> {
        // Whoever asks for work hears of a poisoned store from that.
        if self.options.mode == OpenMode::ReadOnly || self.storage.check_poison().is_err() {
            return Ok(false);
        }
        self.name_old_readers();
        self.apply_retention()?;
        self.settle_consumers()?;
        self.overtake_consumers()?;
        Ok(true)
    }

    /// Does steps while there are any; patiently, so many that what else there is to do each second has its turn.
    fn steps(&self, is_patient: bool, step: impl Fn() -> Result<bool>) -> Result<()> {
        let mut left = if is_patient { ROUND_STEPS } else { usize::MAX };
        while left > 0 && !self.storage.signals.is_stopping() && step()? {
            left -= 1;
        }
        Ok(())
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

    /// Notes that something was removed that may be stored still.
    pub(crate) fn note_garbage(&self) {
        if self.options.garbage_max_age.is_some() {
            self.garbage.lock().new_since.get_or_insert(self.moment());
        }
    }

    /// Has what need not be kept removed when half of the time is over in which it must be gone: the rest is for the work.
    fn keep_deadline(&self) -> Result<()> {
        let Some(max_age) = self.options.garbage_max_age else { return Ok(()) };
        // Whoever else has the turn is at the same.
        let Some(mut is_asked) = self.garbage_asked.try_lock() else { return Ok(()) };
        let now = self.moment();
        let is_busy = self.storage.durable().is_some_and(|durable| durable.is_reclaiming_all());
        let known = self.reclaim.read().garbage_since();
        let new = {
            let retained = self.reclaim.kept();
            let mut garbage = self.garbage.lock();
            if retained != garbage.seen {
                garbage.seen = retained;
                garbage.new_since.get_or_insert(now);
            }
            garbage.new_since
        };
        let since = match (*is_asked, is_busy) {
            (true, true) => known,
            (true, false) => new,
            // The clock may have been ahead.
            (false, _) => known.or(new).map(|since| since.min(now)),
        };
        if since != known {
            // What is there to be removed is known over a crash, too.
            let durability = if since.is_some() { Durability::Sync } else { Durability::Memory };
            self.note_as(vec![Change::Garbage(since)], durability)?;
        }
        *is_asked &= is_busy;
        if *is_asked {
            return Ok(());
        }
        // What is noted from now on is something else.
        self.garbage.lock().new_since.take_if(|noted| Some(*noted) == new);
        if since.is_none_or(|since| now.since(since) < max_age / 2) {
            return Ok(());
        }
        match self.storage.durable() {
            Some(durable) => {
                self.flush()?;
                durable.reclaim_all();
            }
            None => self.sweep_all()?,
        }
        *is_asked = true;
        self.storage.signals.ring();
        tracing::debug!("what need not be kept is being removed");
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
        let swept = sweeping.sweep.step(&**tier, &retained, SWEEP_ENTRIES)?;
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

#[cfg(test)]
mod tests {
    use thermocline_hot::{HotOptions, HotTier};
    use thermocline_tier::{Amount, EntryKind, Retained, TierBatch, Version};

    use super::*;

    #[test]
    fn sweep_takes_tables_in_turns_and_no_more_entries_than_it_may() {
        let tier = HotTier::new(HotOptions::default());
        let (large, long, small) = (EntryKind::source(1), EntryKind::source(2), EntryKind::source(3));
        for version in 1..=3 {
            let mut batch = TierBatch::empty(Version(version));
            for (table, keys) in [(large, 1_000_u32), (small, 20)] {
                for key in 0..keys {
                    batch.push_sorted(table, format!("{key:04}").as_bytes(), b"", Some(b"v")).unwrap();
                }
            }
            tier.set(&batch).unwrap();
        }
        for version in 4..=2_000 {
            let mut batch = TierBatch::empty(Version(version));
            batch.push_sorted(long, b"k", b"", Some(b"v")).unwrap();
            tier.set(&batch).unwrap();
        }
        let retained = RetainedTables::new(Retained::new(Version(2_000), []));
        let (mut sweep, mut steps) = (Sweep::default(), Vec::new());
        loop {
            let step = sweep.step(&tier, &retained, 99).unwrap();
            steps.push((step.table.unwrap(), step.keys, step.dropped.entries));
            if step.is_done {
                break;
            }
        }
        // Of keys with three versions 33 make 99.
        assert_eq!(steps[..3], [(large, 33, 66), (long, 1, 1_996), (small, 20, 40)]);
        assert!(steps[3..].iter().all(|(table, keys, dropped)| *table == large && *dropped == 2 * keys && *keys <= 33));
        assert_eq!(steps.iter().map(|(_, _, dropped)| dropped).sum::<u64>(), 2_000 + 1_996 + 40);
        assert_eq!(sweep.step(&tier, &retained, usize::MAX).unwrap().keys, 1_000, "the next pass");
    }

    /// Case 94 of the conformance kit on memory alone, whose steps are larger where a store takes them.
    #[test]
    fn slices_of_seventeen_entries_leave_what_one_pass_leaves() {
        let table = EntryKind::source(1);
        let filled = || {
            let tier = HotTier::new(HotOptions::default());
            for version in 1..=5 {
                let mut batch = TierBatch::empty(Version(version));
                for key in 0..50_u32 {
                    let value = format!("v{version}");
                    // Every seventh key is deleted by the last commit.
                    let value = (version < 5 || key % 7 > 0).then_some(value.as_bytes());
                    batch.push_sorted(table, format!("k{key:02}").as_bytes(), b"", value).unwrap();
                }
                tier.set(&batch).unwrap();
            }
            tier
        };
        let left = |tier: &HotTier| -> Vec<_> {
            let keys = (0..50_u32).map(|key| tier.get_all_versions(table, format!("k{key:02}").as_bytes()).unwrap());
            keys.collect()
        };
        let retained = RetainedTables::new(Retained::new(Version(5), [Version(2)]));
        let (sliced, whole) = (filled(), filled());
        let one = Sweep::default().step(&whole, &retained, usize::MAX).unwrap();
        assert!(one.is_done && one.keys == 50 && one.dropped.entries == 150, "{one:?}");
        let (mut sweep, mut steps, mut keys, mut dropped) = (Sweep::default(), 0, 0, Amount::default());
        loop {
            let step = sweep.step(&sliced, &retained, 17).unwrap();
            assert!(step.keys <= 4, "four keys of five entries: {step:?}");
            (steps, keys) = (steps + 1, keys + step.keys);
            dropped += step.dropped;
            if step.is_done {
                break;
            }
            // A writer between the steps: what it writes is above the horizon, and stays.
            let mut batch = TierBatch::empty(Version(5 + steps));
            batch.push_sorted(table, b"l", b"", Some(b"new")).unwrap();
            sliced.set(&batch).unwrap();
        }
        assert!(steps >= 13, "{steps}");
        assert_eq!((keys, dropped), (one.keys + 1, one.dropped), "with the key that was written meanwhile");
        assert_eq!(left(&sliced), left(&whole));
        assert_eq!(sliced.get_all_versions(table, b"l").unwrap().len() as u64, steps - 1);
    }
}
