//! What a store can be asked to do for its durable tier: flushing, compaction, moving the horizon.

use std::sync::Arc;

use thermocline_drop::Change;
use thermocline_migration::check_not_in_hook;
use thermocline_tier::{EntryKind, ErrorKind, KeyRange, Result, Version};

use crate::options::OpenMode;
use crate::store::{Core, Store};

impl Core {
    pub(crate) fn check_writable(&self) -> Result<()> {
        check_not_in_hook("a change of the store")?;
        self.check_open()?;
        if self.options.mode == OpenMode::ReadOnly {
            return Err(ErrorKind::Unsupported { what: "maintaining a store that was opened read-only".into() }.into());
        }
        Ok(())
    }

    /// Moves everything that was committed so far into the durable tier.
    pub(crate) fn flush(&self) -> Result<()> {
        let newest = {
            let mut writer = self.writer.lock();
            self.check_open()?;
            self.storage.check_poison()?;
            self.apply_late(&mut writer)?;
            let view = self.storage.view_owned();
            // Of the log less may be held than when it was cut last.
            let can_cut = self.log_base(self.reclaim.read().log_from()).after > self.storage.log_from();
            if view.is_active_used || writer.last > writer.covered || can_cut {
                self.seal(&mut writer)?;
            }
            self.storage.view().sealed.first().cloned()
        };
        let Some(newest) = newest else {
            // Nothing but what a purge left may be there to do.
            return self.storage.flush_step().map(drop);
        };
        // Oldest first, by whoever comes first: until the newest of now is gone.
        while self.storage.view().sealed.iter().any(|sealed| Arc::ptr_eq(sealed, &newest)) {
            self.storage.flush_step()?;
        }
        Ok(())
    }

    fn move_horizon(&self, version: Version) -> Result<()> {
        let _turn = self.retention_turn.lock();
        if version <= self.horizon() {
            return Ok(());
        }
        // Durable first: what is retained, and with it what a rewrite keeps, changes when it is applied.
        match self.storage.durable() {
            Some(durable) => {
                let _open = self.storage.enter()?;
                self.storage.check_poison()?;
                durable.set_horizon(version).inspect_err(|error| self.storage.heed(error))?;
                self.reclaim.apply(&[Change::Horizon(version)]);
            }
            None => self.note(vec![Change::Horizon(version)])?,
        }
        self.marks.thin(&self.reclaim.read().retained());
        self.storage.signals.ring();
        Ok(())
    }
}

impl Store {
    /// Moves everything that was committed so far into the durable tier, and cuts the log behind it. Without a durable tier there
    /// is nowhere to move it, and nothing happens.
    ///
    /// # Errors
    /// [`DiskFull`](ErrorKind::DiskFull), after which all is as before and a later flush may succeed;
    /// [`Poisoned`](ErrorKind::Poisoned), [`Unsupported`](ErrorKind::Unsupported) for a store that was opened read-only,
    /// [`Closed`](ErrorKind::Closed), [`Io`](ErrorKind::Io).
    pub fn flush(&self) -> Result<()> {
        self.inner.check_writable()?;
        if self.inner.storage.durable().is_none() { Ok(()) } else { self.inner.flush() }
    }

    /// Flushes, then rewrites what holds keys of a range of a table, so that each key lies in one place and what nobody may read
    /// any more is gone. Without a durable tier, that is dropped from memory, in all tables. No other files are rewritten meanwhile, so that writers wait
    /// if many tables are flushed before it ends.
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    pub fn compact(&self, table: EntryKind, range: &KeyRange) -> Result<()> {
        self.flush()?;
        let _open = self.inner.storage.enter()?;
        let Some(durable) = self.inner.storage.durable() else { return self.inner.sweep_all() };
        self.inner.storage.check_poison()?;
        let _working = self.inner.storage.signals.join_tier_work();
        let wake = || self.inner.storage.signals.ring();
        durable.compact(table, range, &wake).inspect_err(|error| self.inner.storage.heed(error))
    }

    /// The version from which on every version can be read, but of tables whose policy keeps less
    /// ([`table_horizon`](Self::table_horizon)). It survives restarts; 0 until it is moved.
    pub fn horizon(&self) -> Version {
        self.inner.horizon()
    }

    /// Moves the horizon forward, durably, at most to the last commit: versions below it can be read only while they are pinned,
    /// and what no allowed read can see is removed with later rewrites; without a durable tier, by sweeping memory when an eighth of it is
    /// old. A version at or below the present horizon changes nothing. All commits so far are made durable first.
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    pub fn set_horizon(&self, version: Version) -> Result<()> {
        self.inner.check_writable()?;
        let last = self.inner.latest();
        // The horizon must not be above what a crash would leave.
        self.sync()?;
        self.inner.move_horizon(version.min(last))
    }
}
