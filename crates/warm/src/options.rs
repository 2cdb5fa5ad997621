//! Options of the warm tier.

use thermocline_tier::{ErrorKind, Result};

use crate::codec::Compression;
use crate::layout::{BLOCK_SIZE_BYTES, PARTITION_BLOCKS};

/// How a warm tier works. All sizes are in bytes.
///
/// ```
/// let options = thermocline_warm::WarmOptions::default();
/// assert!(options.check().is_ok());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WarmOptions {
    /// What blocks, indexes and filters in memory may take together. Those that were not used for long make room for others, indexes later
    /// than blocks. Buffers of what is gone stay the process's, for what comes, as far as the rest of this allows. At least 64 KiB.
    pub cache_size_bytes: u64,
    /// How many files are kept open for reading. When more are read, those that were not read for long are closed, and opened again when
    /// they are read; reads that find all in memory need no open file. Each thread that reads or rewrites may have two more open for a
    /// moment. At least 8.
    pub open_files_max: usize,
    /// How large a file of a level below 0 becomes, before it is closed at the next key. At least 4 KiB.
    pub file_size_bytes: u64,
    /// How many flushes level 0 may have the files of before they are merged into level 1. At least 1.
    pub level0_flushes: usize,
    /// With how many flushes in level 0 writers are slowed down; with twice as many they wait.
    pub level0_flushes_slow: usize,
    /// What level 1 may hold before files of it are merged into level 2.
    pub level1_size_bytes: u64,
    /// How many times larger than itself each level lets the next one become. At least 2.
    pub level_size_ratio: u64,
    /// The compression of files as they are flushed.
    pub compression_flushed: Compression,
    /// The compression of files that come from compaction.
    pub compression: Compression,
    /// How large a block of a file becomes before compression: 256 bytes to 16 KiB. A read of one key reads one block; small ones take
    /// more index. While the newest keys and values of the tier are one to eight times as large as `cache_size_bytes`, new main blocks are
    /// half as large, and new history blocks while all of its versions are: most reads then take a block for one value.
    pub block_size_bytes: u64,
    /// How many blocks of a file share an index and a filter, which are read and given up together. 1 to 256.
    pub partition_blocks: usize,
    /// How much is gathered before it is written to a file. At least 4 KiB.
    pub write_size_bytes: u64,
    /// How much of its input a step of background work rewrites.
    pub step_size_bytes: u64,
}

impl Default for WarmOptions {
    fn default() -> Self {
        Self {
            cache_size_bytes: 64 << 20,
            open_files_max: 256,
            file_size_bytes: 64 << 20,
            level0_flushes: 4,
            level0_flushes_slow: 12,
            level1_size_bytes: 256 << 20,
            level_size_ratio: 10,
            compression_flushed: Compression::Lz4,
            compression: Compression::Zstd(-1),
            block_size_bytes: BLOCK_SIZE_BYTES as u64,
            partition_blocks: PARTITION_BLOCKS,
            write_size_bytes: 1 << 20,
            step_size_bytes: 8 << 20,
        }
    }
}

impl WarmOptions {
    /// Whether each option is one that the tier can work by.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) naming the option and its limit.
    pub fn check(&self) -> Result<()> {
        let least = [
            ("cache_size_bytes", self.cache_size_bytes, 64 << 10),
            ("open_files_max", self.open_files_max as u64, 8),
            ("file_size_bytes", self.file_size_bytes, 4 << 10),
            ("level0_flushes", self.level0_flushes as u64, 1),
            ("level0_flushes_slow", self.level0_flushes_slow as u64, self.level0_flushes as u64),
            ("level1_size_bytes", self.level1_size_bytes, 1),
            ("level_size_ratio", self.level_size_ratio, 2),
            ("block_size_bytes", self.block_size_bytes, 256),
            ("partition_blocks", self.partition_blocks as u64, 1),
            ("write_size_bytes", self.write_size_bytes, 4 << 10),
            ("step_size_bytes", self.step_size_bytes, 1),
        ];
        for (name, found, min) in least {
            if found < min {
                return Err(ErrorKind::InvalidArgument { what: format!("{name} is {found}, below {min}") }.into());
            }
        }
        let most = [
            ("block_size_bytes", self.block_size_bytes, BLOCK_SIZE_BYTES as u64),
            ("partition_blocks", self.partition_blocks as u64, PARTITION_BLOCKS as u64),
        ];
        for (name, found, max) in most {
            if found > max {
                return Err(ErrorKind::InvalidArgument { what: format!("{name} is {found}, above {max}") }.into());
            }
        }
        for (name, compression) in [("compression_flushed", self.compression_flushed), ("compression", self.compression)] {
            if let Compression::Zstd(level) = compression
                && !(-7..=19).contains(&level)
            {
                let what = format!("{name} is Zstandard at level {level}, outside of -7 to 19");
                return Err(ErrorKind::InvalidArgument { what }.into());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_options_are_refused_by_name() {
        let refused = |options: WarmOptions| options.check().unwrap_err().to_string();
        let defaults = WarmOptions::default();
        assert!(refused(WarmOptions { cache_size_bytes: 1, ..defaults.clone() }).contains("cache_size_bytes is 1, below 65536"));
        assert!(refused(WarmOptions { open_files_max: 7, ..defaults.clone() }).contains("open_files_max is 7, below 8"));
        assert!(refused(WarmOptions { level_size_ratio: 1, ..defaults.clone() }).contains("level_size_ratio"));
        assert!(
            refused(WarmOptions { block_size_bytes: 16_385, ..defaults.clone() }).contains("block_size_bytes is 16385, above")
        );
        assert!(refused(WarmOptions { partition_blocks: 0, ..defaults.clone() }).contains("partition_blocks is 0, below 1"));
        let refused_large = refused(WarmOptions { partition_blocks: 257, ..defaults.clone() });
        assert!(refused_large.contains("partition_blocks is 257, above 256"), "{refused_large}");
        assert!(refused(WarmOptions { compression: Compression::Zstd(20), ..defaults }).contains("level 20"));
    }
}
