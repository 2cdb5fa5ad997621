//! Mutants that go wrong when data moves: the whole content is taken out and put in again at each step, less faithfully than it
//! should be.

use std::sync::Arc;

use thermocline_conformance::{ModelTier, Step, Subject};
use thermocline_tier::{EntryKind, RawEntry, Result, TierStorage};

use crate::mutants::mutation::Mutation as M;
use crate::mutants::tier::MutantTier;

pub(crate) const STEPS: &[Step] = &[Step::Flush, Step::Compact, Step::Reopen, Step::Crash];

/// A mutant with something like a disk under it.
pub(crate) struct DurableMutant(Arc<MutantTier>);

impl DurableMutant {
    pub(crate) fn new(mutation: M) -> Self {
        Self(Arc::new(MutantTier::new(mutation, ModelTier::new())))
    }
}

impl Subject for DurableMutant {
    fn tier(&self) -> Arc<dyn TierStorage> {
        Arc::clone(&self.0) as Arc<dyn TierStorage>
    }

    fn take(&self, step: Step) -> Result<()> {
        let tier = &*self.0;
        let tables = tier.inner.tables()?;
        let mut entries: Vec<(EntryKind, RawEntry)> = Vec::new();
        for table in &tables {
            entries.extend(tier.entries(*table).into_iter().map(|entry| (*table, entry)));
        }
        let is_newest = |index: usize| {
            index == 0 || (entries[index - 1].0, &entries[index - 1].1.prefix) != (entries[index].0, &entries[index].1.prefix)
        };
        let newest: Vec<_> = (0..entries.len()).filter(|index| is_newest(*index)).map(|index| entries[index].clone()).collect();
        let mut memory = tier.memory.lock();
        match (tier.mutation, step) {
            (M::FlushLosesTombstones, Step::Flush) => entries.retain(|(_, entry)| entry.value.is_some()),
            (M::FlushLosesEmptyValues, Step::Flush) => {
                entries.retain(|(_, entry)| entry.value.as_ref().is_none_or(|value| !value.is_empty()));
            }
            (M::FlushKeepsNewest, Step::Flush) | (M::CompactKeepsNewest, Step::Compact) => entries = newest,
            (M::CompactLosesSuffixes, Step::Compact) => {
                for (_, entry) in &mut entries {
                    entry.suffix.clear();
                }
            }
            (M::ReopenRevivesCleared, Step::Reopen) | (M::CrashRevivesCleared, Step::Crash) => {
                entries.append(&mut memory.cleared);
            }
            (M::ReopenRevivesDropped, Step::Reopen) => entries.append(&mut memory.dropped),
            (M::CompactDropsAgain, Step::Compact) => entries.retain(|(table, entry)| {
                !memory
                    .dropped
                    .iter()
                    .any(|(dropped, old)| dropped == table && old.prefix == entry.prefix && old.version == entry.version)
            }),
            _ => {}
        }
        if tier.is(M::ReopenForgetsEmptyTables) && step == Step::Reopen {
            let is_empty = |table: &EntryKind| !entries.iter().any(|(used, _)| used == table);
            memory.forgotten.extend(tables.iter().copied().filter(is_empty));
        }
        memory.is_flushed |= step == Step::Flush;
        drop(memory);
        tables.iter().try_for_each(|table| tier.inner.clear_table(*table))?;
        entries.iter().try_for_each(|(table, entry)| tier.write(*table, entry.as_ref()))
    }
}
