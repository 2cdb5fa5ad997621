//! The files of a store's durable tier, for people and programs that look into one.

use thermocline_tier::{FileCounters, TierFile};

use crate::store::Store;

impl Store {
    /// The files that the durable tier consists of, by level and key; none without such a tier, and after closing. What was committed since
    /// the last flush is not in them yet.
    ///
    /// ```
    /// # let store = thermocline::Store::in_memory()?;
    /// assert!(store.files().is_empty());
    /// # Ok::<(), thermocline_tier::Error>(())
    /// ```
    pub fn files(&self) -> Vec<TierFile> {
        self.inner.storage.durable().map_or_else(Vec::new, |durable| durable.files())
    }

    /// What the durable tier has read and written since the store was opened; nothing without one, and after closing.
    pub fn file_counters(&self) -> FileCounters {
        self.inner.storage.durable().map_or_else(FileCounters::default, |durable| durable.counters())
    }
}
