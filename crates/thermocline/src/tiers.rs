//! Which tiers a store stands on, and how its memory is shared between them.

use std::sync::Arc;

use thermocline_hot::{HotOptions, HotTier};
use thermocline_io::Environment;
use thermocline_store::{DurableRequest, StoreOptions, Tiers};
use thermocline_tier::{DurableTier, ErrorKind, Result, TierStorage};
use thermocline_warm::{Compression, OpenWarm, WarmOptions, WarmTier};

/// The memory that a store with files may use if it is not told, in bytes.
const MEMORY_BUDGET_DEFAULT: u64 = 512 << 20;
/// A budget is counted in eighths: one for each table in memory, of which there are two, two, but not more than they need, for flushing,
/// compaction and what the allocator loses, and the others for what is read from files.
const SHARES: u64 = 8;
const HOT_TABLES: u64 = 2;
/// Of what the tables in memory leave, six eighths by default, so much is for flushing and compaction.
const BUFFER_SHARES: u64 = 3;
/// More than this they do not need: files in the making are not larger with more memory.
const BUFFER_BYTES_MAX: u64 = 64 << 20;

/// Smaller files are not worth their index.
const WARM_FILE_SIZE_BYTES_MIN: u64 = 64 << 10;
/// Less than a few blocks is no cache.
const CACHE_SIZE_BYTES_MIN: u64 = 64 << 10;
/// Up to three files are in the making, with some buffers of the size of a write each.
const WRITES_PER_BUFFER: u64 = 32;
const WRITE_SIZE_BYTES_MIN: u64 = 64 << 10;

/// Which tiers a store stands on, as [`Builder::tiers`](crate::Builder::tiers) is told.
///
/// | tiers | what is in memory | what is on disk |
/// | --- | --- | --- |
/// | hot alone | everything | the log |
/// | hot over warm (the default) | what was committed last, and what is read often | everything, in sorted files; the log of what is not there yet |
/// | warm alone | what is read often | everything, in sorted files; the log, shortly |
///
/// ```
/// use thermocline::TierSet;
///
/// let tiers = TierSet::default().hot().warm();
/// assert_ne!(tiers, TierSet::default().hot());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct TierSet {
    is_hot: bool,
    is_warm: bool,
}

impl TierSet {
    /// Tables in memory, which take the writes.
    pub fn hot(self) -> Self {
        Self { is_hot: true, ..self }
    }

    /// Sorted files in levels, which take over from the log what was committed.
    pub fn warm(self) -> Self {
        Self { is_warm: true, ..self }
    }
}

/// What a builder was told about memory.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MemoryOptions {
    pub(crate) budget_bytes: Option<u64>,
    pub(crate) hot_bytes: Option<u64>,
}

/// What a builder was told about files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FileOptions {
    /// As they are flushed, and as they come from compaction.
    pub(crate) compression: Option<(Compression, Compression)>,
    pub(crate) block_size_bytes: Option<u64>,
    /// How many threads compact.
    pub(crate) threads: Option<usize>,
}

/// How the memory of a store with files is shared, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_field_names, reason = "the unit")]
pub(crate) struct WarmMemory {
    /// For each table in memory.
    pub(crate) hot_bytes: u64,
    /// For blocks, indexes and filters of the files.
    pub(crate) cache_bytes: u64,
    /// For flushing and compaction.
    pub(crate) buffer_bytes: u64,
}

impl WarmMemory {
    fn new(set: TierSet, memory: MemoryOptions) -> Result<Self> {
        let budget = memory.budget_bytes.unwrap_or(MEMORY_BUDGET_DEFAULT);
        let hot_bytes = memory.hot_bytes.unwrap_or(budget / SHARES);
        let hot_tables = if set.is_hot { HOT_TABLES } else { 0 };
        let Some(left) = budget.checked_sub(hot_bytes.saturating_mul(hot_tables)).filter(|left| *left > 0) else {
            let what = format!("{HOT_TABLES} tables of {hot_bytes} bytes do not fit into a memory budget of {budget} bytes");
            return Err(ErrorKind::InvalidArgument { what }.into());
        };
        let buffer_bytes = (left / BUFFER_SHARES).min(BUFFER_BYTES_MAX);
        Ok(Self { hot_bytes, cache_bytes: left - buffer_bytes, buffer_bytes })
    }
}

/// The tiers to open a store with; notes in `options` what follows from them.
pub(crate) fn make(
    set: TierSet,
    memory: MemoryOptions,
    files: FileOptions,
    environment: &Environment,
    options: &mut StoreOptions,
) -> Result<Tiers> {
    // Chosen keys could be made to collide under a seed that is known.
    let mut seed = [0; 8];
    environment.randomness.fill(&mut seed).map_err(thermocline_wal::disk_error)?;
    let hash_seed = u64::from_le_bytes(seed);
    let hot = move |memory_limit_bytes| {
        Tiers::hot(move || Arc::new(HotTier::new(HotOptions { memory_limit_bytes, hash_seed })) as Arc<dyn TierStorage>)
    };
    if !set.is_warm {
        let refused = match memory.hot_bytes {
            _ if !set.is_hot => Some("a store needs a tier"),
            _ if options.migration.is_some() => Some("a strategy has no meaning without files, to which rows would come"),
            Some(_) => Some("a budget for hot tables has no meaning where all must fit into memory: set the memory budget"),
            None if files != FileOptions::default() => {
                Some("compression, block size and threads that compact have no meaning without files")
            }
            None => None,
        };
        return match refused {
            Some(what) => Err(ErrorKind::InvalidArgument { what: what.into() }.into()),
            None => Ok(hot(memory.budget_bytes)),
        };
    }
    if memory.hot_bytes.is_some() && !set.is_hot {
        let what = "a budget for hot tables has no meaning without them: set the memory budget".into();
        return Err(ErrorKind::InvalidArgument { what }.into());
    }
    if let Some(threads) = files.threads {
        options.tier_threads = threads;
    }
    let shares = WarmMemory::new(set, memory)?;
    options.hot_budget_bytes = Some(shares.hot_bytes);
    let open = move |request: DurableRequest<'_>| open_warm(request, shares, files);
    // A store that is only read cannot write to its files what the log still has: that goes into memory.
    let is_read_only = options.mode == thermocline_store::OpenMode::ReadOnly;
    Ok(if set.is_hot || is_read_only { hot(None).over(open) } else { Tiers::durable(open) })
}

/// Opens the warm tier of a directory, with files and buffers that fit the memory.
fn open_warm(request: DurableRequest<'_>, memory: WarmMemory, files: FileOptions) -> Result<Arc<dyn DurableTier>> {
    let defaults = WarmOptions::default();
    // A file in the making keeps a hash for each key and some buffers: a few hundredths of its size.
    let file_size_bytes = memory.hot_bytes.clamp(WARM_FILE_SIZE_BYTES_MIN, defaults.file_size_bytes);
    let options = WarmOptions {
        cache_size_bytes: memory.cache_bytes.max(CACHE_SIZE_BYTES_MIN),
        file_size_bytes,
        level1_size_bytes: 4 * file_size_bytes,
        compression_flushed: files.compression.map_or(defaults.compression_flushed, |(flushed, _)| flushed),
        compression: files.compression.map_or(defaults.compression, |(_, compacted)| compacted),
        block_size_bytes: files.block_size_bytes.unwrap_or(defaults.block_size_bytes),
        write_size_bytes: (memory.buffer_bytes / WRITES_PER_BUFFER).clamp(WRITE_SIZE_BYTES_MIN, defaults.write_size_bytes),
        ..defaults
    };
    let DurableRequest { disk, store, is_read_only, migration, .. } = request;
    Ok(Arc::new(WarmTier::open(OpenWarm { disk, store, options, is_read_only, migration })?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(set: TierSet, budget_bytes: Option<u64>, hot_bytes: Option<u64>) -> Result<[u64; 3]> {
        let memory = WarmMemory::new(set, MemoryOptions { budget_bytes, hot_bytes })?;
        Ok([memory.hot_bytes, memory.cache_bytes, memory.buffer_bytes])
    }

    #[test]
    fn memory_is_shared_in_eighths_and_never_exceeded() {
        let both = TierSet::default().hot().warm();
        assert_eq!(shares(both, Some(800), None).unwrap(), [100, 400, 200]);
        assert_eq!(shares(both, Some(800), Some(40)).unwrap(), [40, 480, 240]);
        assert_eq!(shares(TierSet::default().warm(), Some(1200), None).unwrap(), [150, 800, 400]);
        assert_eq!(shares(both, None, None).unwrap(), [64 << 20, 320 << 20, 64 << 20].map(|bytes: u64| bytes));
        assert!(shares(both, Some(800), Some(400)).is_err());
        for budget in 8..2000 {
            let [hot, cache, buffers] = shares(both, Some(budget), None).unwrap();
            assert_eq!(2 * hot + cache + buffers, budget);
        }
    }
}
