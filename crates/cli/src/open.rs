//! Opening stores, with a tier of sorted files below the tables in memory. A store that was hot alone so far opens in the same way.

use std::path::Path;

use thermocline::{Builder, OpenMode, Store};

use crate::arguments::Writing;
use crate::failure::Failure;

/// Opens a store that must exist, for reading: nothing in the directory changes.
pub(crate) fn for_reading(directory: &Path) -> Result<Store, Failure> {
    Ok(Store::builder(directory).tiers(|tiers| tiers.hot().warm()).mode(OpenMode::ReadOnly).open()?)
}

/// What a command that writes opens the store with.
pub(crate) fn for_writing(directory: &Path, writing: &Writing) -> Builder {
    let mut builder = Store::builder(directory).tiers(|tiers| tiers.hot().warm()).log_keep(writing.log_keep);
    if let Some(bytes) = writing.memory_budget {
        builder = builder.memory_budget(bytes);
    }
    if let Some(bytes) = writing.hot_budget {
        builder = builder.hot_budget(bytes);
    }
    builder
}
