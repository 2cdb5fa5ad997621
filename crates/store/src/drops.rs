//! The drop worker: carries out the commands of commits to drop versions of single keys.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use thermocline_drop::{Change, DropCommand};
use thermocline_tier::{Amount, DropVersion, EntryKind, ErrorKind, RawEntry, Result, RetainedTables, TierStorage, Version};

use crate::store::Core;

/// How many commands a step carries out: snapshots wait to be made for that long.
const STEP_COMMANDS: usize = 256;
/// What the commands may take that wait, in bytes.
const PENDING_SIZE_BYTES_MAX: usize = 4 << 20;

/// How far the worker has got.
#[derive(Debug, Default)]
pub(crate) struct Dropping {
    /// The last command that it has looked at, of those that wait.
    after: Option<DropCommand>,
    /// What was pinned when it began with the first.
    pinned: RetainedTables,
    versions: u64,
}

impl Core {
    /// Carries out some commands, as far as nothing pins what is to go; whether there is more to do. Those of which something stays wait
    /// until what is pinned has changed.
    pub(crate) fn drop_step(&self) -> Result<bool> {
        let _open = self.storage.enter()?;
        if self.is_reclaim_paused() {
            return Ok(false);
        }
        let mut dropping = self.dropping.lock();
        let latest = self.latest();
        let commands: Vec<DropCommand> = {
            let authority = self.reclaim.read();
            let next = authority.pending_drops(dropping.after.as_ref());
            let commands: Vec<DropCommand> =
                next.take_while(|command| command.version <= latest).take(STEP_COMMANDS).cloned().collect();
            if commands.is_empty() {
                let pinned = authority.pinned();
                let begins_again = authority.pending_drops_len() > 0 && dropping.after.is_some() && pinned != dropping.pinned;
                if begins_again {
                    dropping.after = None;
                    dropping.pinned = pinned;
                }
                return Ok(begins_again);
            }
            if dropping.after.is_none() {
                dropping.pinned = authority.pinned();
            }
            commands
        };
        dropping.versions += self.carry_out(&commands).inspect_err(|error| self.storage.heed(error))?;
        dropping.after = commands.into_iter().next_back();
        Ok(true)
    }

    /// Carries out all commands that nothing holds up.
    pub(crate) fn drop_all(&self) -> Result<()> {
        while !self.storage.signals.is_stopping() && self.drop_step()? {}
        Ok(())
    }

    fn carry_out(&self, commands: &[DropCommand]) -> Result<u64> {
        self.storage.check_poison()?;
        let view = self.storage.view_owned();
        // What commands before leave of each key.
        let mut left: BTreeMap<(EntryKind, &[u8]), Vec<RawEntry>> = BTreeMap::new();
        for DropCommand { table, key, .. } in commands {
            if let Entry::Vacant(vacant) = left.entry((*table, key)) {
                vacant.insert(view.merged()?.get_all_versions(*table, key)?);
            }
        }
        let last = commands.iter().map(|command| command.version).max().unwrap_or_default();
        if view.durable.is_some() {
            self.storage.sync_log_up_to(last)?;
        }
        // Nothing moves between the tiers, and nobody pins what goes.
        let moves = self.storage.hold_moves();
        let authority = self.reclaim.hold();
        let pinned = authority.pinned();
        let (mut drops, mut done) = (Vec::new(), Vec::new());
        let mut reclaimed = Vec::new();
        for command in commands {
            let DropCommand { table, key, .. } = command;
            let entries = left.entry((*table, key)).or_default();
            let versions: Vec<Version> = entries.iter().map(|entry| entry.version).collect();
            let (dropped, is_held) = command.select(&versions, pinned.of(*table, key));
            for version in dropped {
                let entry = entries.remove(entries.partition_point(|entry| entry.version > version));
                reclaimed.push((*table, Amount { entries: 1, bytes: entry.as_ref().user_bytes() }));
                drops.push(DropVersion { table: *table, prefix: key.clone(), version });
            }
            if !is_held {
                done.push(command);
            }
        }
        if !drops.is_empty() {
            let view = self.storage.view_owned();
            let durable = view.durable.iter().map(|durable| -> &dyn TierStorage { &**durable });
            let in_memory = view.in_memory().map(|tier| &**tier).collect::<Vec<_>>().into_iter().rev();
            // The oldest first, so that readers meanwhile never see what something newer hid that is dropped, too.
            durable.chain(in_memory).try_for_each(|tier| tier.drop_versions(&drops))?;
            self.note_garbage();
            if view.durable.is_none() {
                // A durable tier counts when it rewrites.
                for (table, amount) in reclaimed {
                    self.note_reclaimed(table, amount);
                }
            }
        }
        drop(authority);
        drop(moves);
        let mut authority = self.reclaim.lock();
        for command in done {
            authority.end_drop(command);
        }
        Ok(drops.len() as u64)
    }

    /// Makes room for a commit's commands by carrying out some that wait.
    pub(crate) fn make_room_for_drops(&self, drops: &[DropCommand]) -> Result<()> {
        let size_bytes: usize = drops.iter().map(DropCommand::size_bytes).sum();
        let refuse = |what, found: usize| {
            Err(ErrorKind::LimitExceeded { what, found: found as u64, max: PENDING_SIZE_BYTES_MAX as u64 }.into())
        };
        if size_bytes > PENDING_SIZE_BYTES_MAX {
            return refuse("size of the drops of one commit, in bytes,", size_bytes);
        }
        loop {
            let waiting = self.reclaim.read().pending_drops_size_bytes() + size_bytes;
            if waiting <= PENDING_SIZE_BYTES_MAX {
                return Ok(());
            }
            if !self.drop_step()? {
                return refuse("size of the drops that wait until pins are released or reclaiming goes on, in bytes,", waiting);
            }
        }
    }

    /// How many versions were dropped, and how many commands wait.
    pub(crate) fn drops(&self) -> (u64, usize) {
        (self.dropping.lock().versions, self.reclaim.read().pending_drops_len())
    }
}

/// The commands of a commit as changes of what is retained.
pub(crate) fn changes(drops: &[DropCommand], version: Version) -> Vec<Change> {
    drops.iter().map(|command| Change::Drop(DropCommand { version, ..command.clone() })).collect()
}
