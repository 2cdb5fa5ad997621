//! What both ways of keeping versions in RocksDB share: memory, files, compaction.
//!
//! After RocksDB's wiki: "Setup Options and Basic Tuning", "RocksDB Tuning Guide", "Block Cache", "Write Buffer Manager", "Compression",
//! "Space Tuning".

use std::thread::available_parallelism;

use rocksdb::{
    BlockBasedOptions, BottommostLevelCompaction, Cache, CompactOptions, DB, DBCompressionType, Options as DbOptions,
    WaitForCompactOptions, WriteBufferManager, WriteOptions,
};
use thermocline_yardstick::engine::{Durability, Options, mebibytes};
use thermocline_yardstick::failure::{Failure, Outcome};

/// The crate's release, and that of the library in it.
pub(super) const RELEASE: &str = "0.25 (library 11.8)";
/// The newest format of tables of that library.
const FORMAT_VERSION: i32 = 7;
const FILTER_BITS_PER_KEY: f64 = 10.0;
const MEMTABLE_FILTER_RATIO: f64 = 0.1;
const BYTES_PER_SYNC: u64 = 1 << 20;
/// So that a sync need not write the file's size too (`options.h`).
const LOGS_RECYCLED: usize = 4;
const MEMTABLES_MAX: i32 = 4;
/// What the wiki would have tried where space counts.
const LARGE_BLOCK_SIZE_BYTES: usize = 16 << 10;

/// What tables are made for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tuned {
    /// lz4 and blocks of 4 KiB, the default.
    ForSpeed,
    /// Zstandard in the last level, and blocks of 16 KiB.
    ForSpace,
}

/// One write buffer: an eighth of the memory, from 4 to 64 MiB.
fn write_buffer_bytes(options: &Options) -> u64 {
    (options.cache_bytes / 8).clamp(4 << 20, 64 << 20)
}

fn background_threads() -> i32 {
    available_parallelism().map_or(2, |count| i32::try_from(count.get()).unwrap_or(2).max(2))
}

/// The setting as words: memory.
pub(super) fn memory_setting(options: &Options) -> String {
    format!(
        "one HyperClockCache of {} for blocks, indexes, filters and memtables (write buffer manager, without stalls); memtables of {}, {MEMTABLES_MAX} at most",
        mebibytes(options.cache_bytes),
        mebibytes(write_buffer_bytes(options))
    )
}

/// The setting as words: durability.
pub(super) const DURABILITY: &str =
    "Buffered: log written to the operating system by each commit, no sync; Sync: WriteOptions::sync (fdatasync)";

/// The setting as words: what both ways share.
pub(super) fn shared_setting(options: &Options, tuned: Tuned) -> String {
    let (codec, block_kib) = match tuned {
        Tuned::ForSpeed => ("lz4", 4),
        Tuned::ForSpace => ("lz4, Zstandard in the last level", LARGE_BLOCK_SIZE_BYTES >> 10),
    };
    let logs = if options.has_durable_commits { format!(", {LOGS_RECYCLED} log files used again") } else { String::new() };
    format!(
        "{codec}, full bloom filters of {FILTER_BITS_PER_KEY} bits and memtable bloom {MEMTABLE_FILTER_RATIO}, format {FORMAT_VERSION}, \
         {block_kib} KiB blocks, indexes and filters in the cache with high priority and pinned for level 0, leveled compaction with dynamic level sizes, \
         {} background threads, as many subcompactions, bytes_per_sync 1 MiB{logs}",
        background_threads()
    )
}

/// Sets the database's options, and makes those of tables, but for what says which part of a key the filters know.
pub(super) fn prepare(database: &mut DbOptions, options: &Options, tuned: Tuned) -> Outcome<BlockBasedOptions> {
    let cache_bytes = usize::try_from(options.cache_bytes).map_err(Failure::engine)?;
    let write_buffer = write_buffer_bytes(options);
    let write_buffer_size = usize::try_from(write_buffer).map_err(Failure::engine)?;
    let cache = Cache::new_hyper_clock_cache(cache_bytes, 0);

    database.create_if_missing(true);
    database.increase_parallelism(background_threads());
    database.set_max_subcompactions(u32::try_from(background_threads()).map_err(Failure::engine)?);
    database.set_write_buffer_manager(&WriteBufferManager::new_write_buffer_manager_with_cache(
        write_buffer_size.saturating_mul(4).min(cache_bytes / 2),
        false,
        cache.clone(),
    ));
    database.set_write_buffer_size(write_buffer_size);
    database.set_max_write_buffer_number(MEMTABLES_MAX);
    database.set_max_bytes_for_level_base(write_buffer * 4);
    database.set_level_compaction_dynamic_level_bytes(true);
    database.set_compression_type(DBCompressionType::Lz4);
    database.set_bytes_per_sync(BYTES_PER_SYNC);
    if options.has_durable_commits {
        database.set_recycle_log_file_num(LOGS_RECYCLED);
    }
    database.set_memtable_prefix_bloom_ratio(MEMTABLE_FILTER_RATIO);

    let mut tables = BlockBasedOptions::default();
    tables.set_block_cache(&cache);
    tables.set_format_version(FORMAT_VERSION);
    tables.set_bloom_filter(FILTER_BITS_PER_KEY, false);
    tables.set_cache_index_and_filter_blocks(true);
    tables.set_cache_index_and_filter_blocks_with_high_priority(true);
    tables.set_pin_l0_filter_and_index_blocks_in_cache(true);
    if tuned == Tuned::ForSpace {
        database.set_bottommost_compression_type(DBCompressionType::Zstd);
        tables.set_block_size(LARGE_BLOCK_SIZE_BYTES);
    }
    Ok(tables)
}

/// Write options for a durability.
pub(super) fn write_options(durability: Durability) -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(durability == Durability::Sync);
    options
}

/// Flushes, and waits for the compactions that come of it.
pub(super) fn settle(database: &DB) -> Outcome<()> {
    database.flush().map_err(Failure::engine)?;
    wait(database)
}

/// Flushes, compacts everything, and waits.
pub(super) fn compact(database: &DB) -> Outcome<()> {
    database.flush().map_err(Failure::engine)?;
    let mut compaction = CompactOptions::default();
    compaction.set_bottommost_level_compaction(BottommostLevelCompaction::ForceOptimized);
    database.compact_range_opt(None::<&[u8]>, None::<&[u8]>, &compaction);
    wait(database)
}

fn wait(database: &DB) -> Outcome<()> {
    let mut wait = WaitForCompactOptions::default();
    wait.set_flush(true);
    database.wait_for_compact(&wait).map_err(Failure::engine)
}
