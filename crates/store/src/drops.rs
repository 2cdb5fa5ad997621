//! The drop worker: carries out the commands of commits to drop versions of single keys.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::atomic::Ordering;
use std::time::Duration;

use thermocline_drop::{Change, DropCommand, superseded};
use thermocline_tier::{
    Amount, DropVersion, EntryKind, Error, ErrorKind, RawEntry, Result, RetainedTables, TierStorage, Version,
};
use thermocline_wal::Durability;

use crate::reclaimer::REST_PER_PASS;
use crate::store::Core;
use crate::view::View;

/// How many commands a step carries out at most: snapshots wait to be made for that long.
const STEP_COMMANDS: usize = 256;
/// A step ends with the key that brings what was read to so many bytes.
const STEP_READ_BYTES: u64 = 8 << 20;
/// So many versions at most are dropped at once.
const DROPS_MAX: usize = 1024;
/// What the commands may take that wait, in bytes.
const PENDING_SIZE_BYTES_MAX: usize = 4 << 20;

/// How far the worker has got.
#[derive(Debug, Default)]
pub(crate) struct Dropping {
    /// The last command that it has looked at, of those that wait.
    after: Option<DropCommand>,
    /// What was pinned when something had to wait for it; `None` if nothing had to.
    held_by: Option<RetainedTables>,
    /// Pins came and went meanwhile, or something failed: those that wait are to be looked at again in any case.
    is_unclear: bool,
    /// They are not looked at again before.
    rest_until: Duration,
    /// After a failure one is carried out after the other, so that each fails for itself.
    is_single: bool,
    /// What was dropped, and could not be noted.
    unnoted: Vec<Change>,
}

/// All versions of some keys.
type Keys<'a> = BTreeMap<(EntryKind, &'a [u8]), Vec<RawEntry>>;

/// What a step has done.
struct Step {
    /// How many commands it has looked at.
    commands: usize,
    /// What is pinned, if something must wait for that.
    held_by: Option<RetainedTables>,
}

impl Core {
    /// Carries out all commands that are there now, as far as nothing pins what is to go. Those of which something stays wait until what is
    /// pinned has changed; patiently, with rests. One that fails is tried again later, and keeps no other from being carried out.
    pub(crate) fn drop_all(&self, is_patient: bool) -> Result<()> {
        let (latest, begun) = (self.latest(), self.clock.now());
        let looks_again = {
            let mut dropping = self.dropping.lock();
            let may_go =
                dropping.is_unclear || dropping.held_by.as_ref().is_some_and(|held| *held != self.reclaim.read().pinned());
            let looks_again = may_go && (!is_patient || begun >= dropping.rest_until);
            if looks_again {
                *dropping = Dropping { unnoted: std::mem::take(&mut dropping.unnoted), ..Dropping::default() };
            }
            looks_again
        };
        let mut failure = Ok(());
        while !self.storage.signals.is_stopping() {
            match self.drop_step(latest) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) if matches!(error.kind(), ErrorKind::Closed | ErrorKind::Poisoned) => return Err(error),
                Err(error) => failure = failure.and(Err(error)),
            }
        }
        let mut dropping = self.dropping.lock();
        dropping.is_single = false;
        if looks_again {
            let now = self.clock.now();
            dropping.rest_until = now + now.saturating_sub(begun) * REST_PER_PASS;
        }
        failure
    }

    /// Carries out some commands of commits up to a version, behind those that were looked at; whether there were any.
    fn drop_step(&self, up_to: Version) -> Result<bool> {
        let _open = self.storage.enter()?;
        if self.is_reclaim_paused() {
            return Ok(false);
        }
        self.storage.check_poison()?;
        // No pin with a name is made between what is dropped and the note that it was.
        let _turn = self.retention_turn.lock();
        let mut dropping = self.dropping.lock();
        let step_commands = if dropping.is_single { 1 } else { STEP_COMMANDS };
        let commands: Vec<DropCommand> = {
            let authority = self.reclaim.read();
            let next = authority.pending_drops(dropping.after.as_ref());
            next.take_while(|command| command.version <= up_to).take(step_commands).cloned().collect()
        };
        let Some(last) = commands.last() else { return Ok(false) };
        let done = match self.carry_out(&commands, &mut dropping.unnoted) {
            Ok(step) => {
                dropping.is_unclear |= matches!((&step.held_by, &dropping.held_by), (Some(now), Some(before)) if now != before);
                dropping.held_by = step.held_by.or(dropping.held_by.take());
                commands.get(step.commands.saturating_sub(1)).unwrap_or(last).clone()
            }
            Err(error) => {
                self.storage.heed(&error);
                dropping.is_unclear = true;
                if !std::mem::replace(&mut dropping.is_single, true) && commands.len() > 1 {
                    return Ok(true);
                }
                dropping.after = Some(last.clone());
                return Err(error);
            }
        };
        dropping.after = Some(done);
        Ok(true)
    }

    /// All versions of the keys of the first of some commands, until so much was read; and of how many commands.
    fn read_keys<'a>(view: &View, commands: &'a [DropCommand]) -> Result<(Keys<'a>, usize)> {
        let (mut keys, mut bytes) = (BTreeMap::new(), 0);
        for (number, DropCommand { table, key, .. }) in commands.iter().enumerate() {
            if bytes >= STEP_READ_BYTES {
                return Ok((keys, number));
            }
            if let Entry::Vacant(vacant) = keys.entry((*table, &key[..])) {
                let entries = view.merged()?.get_all_versions(*table, key)?;
                bytes += entries.iter().map(|entry| entry.as_ref().user_bytes()).sum::<u64>();
                vacant.insert(entries);
            }
        }
        Ok((keys, commands.len()))
    }

    /// Carries out the first of some commands.
    fn carry_out(&self, commands: &[DropCommand], unnoted: &mut Vec<Change>) -> Result<Step> {
        let view = self.storage.view_owned();
        // What commands before leave of each key.
        let (mut left, count) = Self::read_keys(&view, commands)?;
        let commands = &commands[..count];
        let last = commands.iter().map(|command| command.version).max().unwrap_or_default();
        if view.durable.is_some() {
            self.storage.sync_log_up_to(last)?;
        }
        // Nothing moves between the tiers, and nobody pins what goes.
        let moves = self.storage.hold_moves();
        let authority = self.reclaim.hold();
        let (pinned, kept) = (authority.pinned(), self.reclaim.kept());
        let (mut drops, mut changes, mut is_held) = (Vec::new(), Vec::new(), false);
        let mut reclaimed: BTreeMap<EntryKind, Amount> = BTreeMap::new();
        let mut done = 0;
        for command in commands {
            if drops.len() >= DROPS_MAX {
                break;
            }
            done += 1;
            let DropCommand { table, key, .. } = command;
            let entries = left.entry((*table, key)).or_default();
            let versions: Vec<(Version, bool)> = entries.iter().map(|entry| (entry.version, entry.value.is_none())).collect();
            // What nobody may read any more goes first: of what lies in several files some may be gone, and what that hid must not be seen.
            let superseded: Vec<Version> = superseded(&versions, kept.of(*table, key)).collect();
            let stays = |version: &Version| superseded.binary_search(version).is_err();
            let versions: Vec<Version> = versions.into_iter().map(|(version, _)| version).filter(stays).collect();
            let (dropped, held) = command.select(&versions, pinned.of(*table, key));
            for version in superseded.into_iter().chain(dropped.iter().copied()) {
                let entry = entries.remove(entries.partition_point(|entry| entry.version > version));
                *reclaimed.entry(*table).or_default() += Amount { entries: 1, bytes: entry.as_ref().user_bytes() };
                drops.push(DropVersion { table: *table, prefix: key.clone(), version });
            }
            is_held |= !held.is_empty();
            let left = held.iter().map(|version| command.only(*version));
            let left: Vec<DropCommand> = left.filter(|left| left != command).collect();
            // What is held now is known: what comes later does not change what the rule selects.
            if held.is_empty() || !left.is_empty() {
                changes.extend(gaps(&versions, &dropped).map(|(first, last)| Change::Dropped(command.between(first, last))));
                changes.push(Change::DropEnd(command.clone()));
                changes.extend(left.into_iter().map(Change::Drop));
            }
        }
        if !drops.is_empty() {
            // Whoever reads a state before sees something else from now on, and reads a later one.
            self.dropped_through.fetch_max(last.0, Ordering::SeqCst);
            let view = self.storage.view_owned();
            let durable = view.durable.iter().map(|durable| -> &dyn TierStorage { &**durable });
            let in_memory = view.in_memory().map(|tier| &**tier).collect::<Vec<_>>().into_iter().rev();
            // The oldest first, so that readers meanwhile never see what something newer hid that is dropped, too.
            for tier in durable.chain(in_memory) {
                drops.chunks(DROPS_MAX).try_for_each(|drops| tier.drop_versions(drops))?;
            }
            self.note_garbage();
            self.dropped_versions.fetch_add(drops.len() as u64, Ordering::Relaxed);
            if view.durable.is_none() {
                // A durable tier counts when it rewrites.
                for (table, amount) in reclaimed {
                    self.note_reclaimed(table, amount);
                }
            }
        }
        drop(authority);
        drop(moves);
        if !changes.is_empty() {
            // What is gone is not found when it is tried again.
            unnoted.extend(changes);
            self.note_as(unnoted.clone(), Durability::Memory)?;
            unnoted.clear();
        }
        Ok(Step { commands: done, held_by: is_held.then_some(pinned) })
    }

    /// Makes room for a commit's commands by carrying out some that wait.
    pub(crate) fn make_room_for_drops(&self, drops: &[DropCommand]) -> Result<()> {
        let size_bytes = size_bytes(drops);
        let refuse = |what, found: usize| -> Result<()> {
            let (found, max) = (found as u64, PENDING_SIZE_BYTES_MAX as u64);
            Err(Error::new(ErrorKind::LimitExceeded { what, found, max }))
        };
        if size_bytes > PENDING_SIZE_BYTES_MAX {
            return refuse("size of the drops of one commit, in bytes,", size_bytes);
        }
        let waiting = || self.reclaim.read().pending_drops_size_bytes() + size_bytes;
        if waiting() > PENDING_SIZE_BYTES_MAX {
            self.drop_all(false)?;
        }
        match waiting() {
            waiting if waiting <= PENDING_SIZE_BYTES_MAX => Ok(()),
            waiting => refuse("size of the drops that wait until pins are released or reclaiming goes on, in bytes,", waiting),
        }
    }
}

/// Of each run of versions that are dropped, among all that a key has, newest first: from where on nothing is left below, and the last. What lies
/// between and is not there now had gone before. `dropped` ascends.
fn gaps(versions: &[Version], dropped: &[Version]) -> impl Iterator<Item = (Version, Version)> {
    let is_dropped = |version: &Version| dropped.binary_search(version).is_ok();
    let runs: Vec<&[Version]> = versions.chunk_by(|newer, older| is_dropped(newer) == is_dropped(older)).collect();
    let gap = |(number, run): (usize, &&[Version])| {
        let last = *run.first().filter(|version| is_dropped(version))?;
        let below = runs.get(number + 1).and_then(|left| left.first()?.next());
        Some((below.unwrap_or_default(), last))
    };
    runs.iter().enumerate().filter_map(gap).collect::<Vec<_>>().into_iter()
}

/// Drops from a tier what had been dropped before a store was opened, and what its log has brought back since. Nothing pins that: whoever pins
/// something since then knows it as it was afterwards.
pub(crate) fn drop_again(tier: &dyn TierStorage, dropped: &[DropCommand]) -> Result<()> {
    for DropCommand { table, key, rule, .. } in dropped {
        let versions: Vec<Version> = tier.get_all_versions(*table, key)?.iter().map(|entry| entry.version).collect();
        let drop_of = |version| DropVersion { table: *table, prefix: key.clone(), version };
        // The oldest first.
        let drops: Vec<DropVersion> = rule.select(&versions).into_iter().rev().map(drop_of).collect();
        drops.chunks(DROPS_MAX).try_for_each(|drops| tier.drop_versions(drops))?;
    }
    Ok(())
}

/// What commands take while they wait, about, in bytes.
pub(crate) fn size_bytes(drops: &[DropCommand]) -> usize {
    drops.iter().map(DropCommand::size_bytes).sum()
}

/// The commands of a commit as changes of what is retained.
pub(crate) fn changes(drops: &[DropCommand], version: Version) -> Vec<Change> {
    drops.iter().map(|command| Change::Drop(DropCommand { version, ..command.clone() })).collect()
}
