//! The tiers of an open store at one moment, as readers see them: one value that is never changed, only replaced.

use std::collections::BTreeSet;
use std::sync::Arc;

use thermocline_tier::{
    Checkpoint, DurableTier, EntryKind, ErrorKind, KeyRef, Lookup, Result, TierBatch, TierStack, TierStats, TierStorage, Version,
};
use thermocline_wal::LogBase;

/// A table in memory that takes no more writes and waits to be moved down, with the checkpoint that its move makes.
#[derive(Debug)]
pub(crate) struct Sealed {
    /// `None` if nothing was written since the checkpoint before.
    pub(crate) tier: Option<Arc<dyn TierStorage>>,
    pub(crate) checkpoint: Checkpoint,
    /// Where the log may begin once this is moved; `None` while it must stay as it is.
    pub(crate) base: Option<LogBase>,
}

/// From the tier that takes the writes down to the one on disk.
///
/// Within one store the versions fall strictly from tier to tier: commits take turns, each has a version above the last, and a
/// table is sealed between two of them; so whatever lies in a tier was committed before all that lies above it. Two tiers may hold
/// the same entry, while it moves or when the log brings back what the lower one took already, but never a newer one below an older
/// one. So a point read may stop at the first tier that knows the key at its version: what lies below is older. (A bare
/// [`TierStack`] promises nothing of that kind and asks every tier.)
#[derive(Debug)]
pub(crate) struct View {
    /// Takes the writes. `None` if they go straight to the durable tier, and once the store is closed.
    pub(crate) active: Option<Arc<dyn TierStorage>>,
    /// Something was written to `active`, so that readers must ask it.
    pub(crate) is_active_used: bool,
    /// Newest first.
    pub(crate) sealed: Vec<Arc<Sealed>>,
    pub(crate) durable: Option<Arc<dyn DurableTier>>,
    /// What readers ask, newest first. Empty once the store is closed.
    readable: Vec<Arc<dyn TierStorage>>,
    /// The same as one tier.
    merged: Option<Arc<dyn TierStorage>>,
}

impl View {
    pub(crate) fn new(
        active: Option<Arc<dyn TierStorage>>,
        is_active_used: bool,
        sealed: Vec<Arc<Sealed>>,
        durable: Option<Arc<dyn DurableTier>>,
    ) -> Self {
        let mut readable: Vec<Arc<dyn TierStorage>> = Vec::with_capacity(sealed.len() + 2);
        readable.extend(active.iter().filter(|_| is_active_used).cloned());
        readable.extend(sealed.iter().filter_map(|sealed| sealed.tier.clone()));
        readable.extend(durable.iter().map(|durable| Arc::clone(durable) as Arc<dyn TierStorage>));
        let merged = match readable.as_slice() {
            [one] => Some(Arc::clone(one)),
            several => TierStack::new(several.to_vec()).ok().map(|stack| Arc::new(stack) as Arc<dyn TierStorage>),
        };
        Self { active, is_active_used, sealed, durable, readable, merged }
    }

    /// What is left of a store that was closed.
    pub(crate) fn closed() -> Self {
        Self::new(None, false, Vec::new(), None)
    }

    /// The newest entry of a key at or below `at`.
    pub(crate) fn get(&self, table: EntryKind, prefix: &[u8], at: Version) -> Result<Lookup> {
        let Some((last, above)) = self.readable.split_last() else { return Err(ErrorKind::Closed.into()) };
        for tier in above {
            let found = tier.get(table, prefix, at)?;
            if !matches!(found, Lookup::Absent) {
                return Ok(found);
            }
        }
        last.get(table, prefix, at)
    }

    /// As [`get`](Self::get), for many keys.
    pub(crate) fn get_many(&self, keys: &[KeyRef<'_>], at: Version) -> Result<Vec<Lookup>> {
        let Some((first, below)) = self.readable.split_first() else { return Err(ErrorKind::Closed.into()) };
        let mut answers = first.get_many(keys, at)?;
        for tier in below {
            let open: Vec<usize> = (0..keys.len()).filter(|&index| matches!(answers[index], Lookup::Absent)).collect();
            if open.is_empty() {
                break;
            }
            let wanted: Vec<KeyRef<'_>> = open.iter().map(|&index| keys[index]).collect();
            for (index, found) in open.into_iter().zip(tier.get_many(&wanted, at)?) {
                answers[index] = found;
            }
        }
        Ok(answers)
    }

    /// All tiers that may hold something as one, for scans and histories.
    pub(crate) fn merged(&self) -> Result<&Arc<dyn TierStorage>> {
        self.merged.as_ref().ok_or_else(|| ErrorKind::Closed.into())
    }

    /// The tier that takes the writes.
    pub(crate) fn writable(&self) -> Result<&dyn TierStorage> {
        match (&self.active, &self.durable) {
            (Some(active), _) => Ok(&**active),
            (None, Some(durable)) => {
                let durable: &dyn TierStorage = &**durable;
                Ok(durable)
            }
            (None, None) => Err(ErrorKind::Closed.into()),
        }
    }

    /// Has the tier that takes the writes set aside what they need.
    pub(crate) fn make_room(&self, batches: &[&TierBatch]) -> Result<()> {
        self.writable()?.make_room(batches)
    }

    /// The tables in memory, newest first.
    pub(crate) fn in_memory(&self) -> impl Iterator<Item = &Arc<dyn TierStorage>> + '_ {
        self.active.iter().chain(self.sealed.iter().filter_map(|sealed| sealed.tier.as_ref()))
    }

    /// The bytes that wait in the active table.
    pub(crate) fn active_bytes(&self) -> u64 {
        self.active.as_ref().filter(|_| self.is_active_used).map_or(0, |active| active.memory_bytes())
    }

    pub(crate) fn tables(&self) -> Result<Vec<EntryKind>> {
        let mut all: BTreeSet<EntryKind> = BTreeSet::new();
        for tier in &self.readable {
            all.extend(tier.tables()?);
        }
        Ok(all.into_iter().collect())
    }

    /// The sums over the tiers.
    pub(crate) fn stats(&self) -> TierStats {
        let mut stats = self.merged.as_ref().map(|merged| merged.stats()).unwrap_or_default();
        if let (Some(active), false) = (&self.active, self.is_active_used) {
            stats.memory_bytes += active.memory_bytes();
        }
        stats
    }

    /// The same tiers, of which the active one has been written to.
    pub(crate) fn with_active_used(&self) -> Self {
        Self::new(self.active.clone(), true, self.sealed.clone(), self.durable.clone())
    }

    /// The same tiers with another active one above `sealed`.
    pub(crate) fn with_sealed(&self, active: Option<Arc<dyn TierStorage>>, sealed: Arc<Sealed>) -> Self {
        let below = self.sealed.iter().cloned();
        Self::new(active, false, std::iter::once(sealed).chain(below).collect(), self.durable.clone())
    }

    /// The same tiers without one that was moved down.
    pub(crate) fn without(&self, moved: &Arc<Sealed>) -> Self {
        let sealed = self.sealed.iter().filter(|sealed| !Arc::ptr_eq(sealed, moved)).cloned().collect();
        Self::new(self.active.clone(), self.is_active_used, sealed, self.durable.clone())
    }
}
