//! Warm tiers for the conformance kit, on simulated disks, with options so small that everything happens all the time.

use std::sync::Arc;

use parking_lot::Mutex;
use thermocline_conformance::{Backend, Capability, Step, Subject};
use thermocline_io::{CrashPoint, CrashProfile, Disk, SimDisk, Survival};
use thermocline_tier::{DurableTier, KeyRange, Result, TierStorage};
use thermocline_warm::{Compression, OpenWarm, StoreId, WarmOptions, WarmTier};

/// Blocks and files of a few entries, partitions of a few blocks, and levels of a few files.
pub(crate) fn small() -> WarmOptions {
    WarmOptions {
        cache_size_bytes: 64 << 10,
        file_size_bytes: 4 << 10,
        level0_flushes: 2,
        level0_flushes_slow: 64,
        level1_size_bytes: 8 << 10,
        level_size_ratio: 2,
        step_size_bytes: 1000,
        block_size_bytes: 256,
        partition_blocks: 2,
        open_files_max: 8,
        ..WarmOptions::default()
    }
}

pub(crate) fn open(disk: &SimDisk, options: WarmOptions) -> Result<WarmTier> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    WarmTier::open(OpenWarm { disk, store: StoreId([7; 16]), options, is_read_only: false, migration: None })
}

/// Rewrites everything.
pub(crate) fn compact(tier: &WarmTier) -> Result<()> {
    for table in tier.tables()? {
        tier.compact(table, &KeyRange::all(), &|| {})?;
    }
    while tier.step()? {}
    Ok(())
}

struct Warm {
    options: WarmOptions,
    now: Mutex<(SimDisk, Option<Arc<WarmTier>>)>,
}

impl Subject for Warm {
    fn tier(&self) -> Arc<dyn TierStorage> {
        let now = self.now.lock();
        Arc::clone(now.1.as_ref().expect("a tier that is open")) as Arc<dyn TierStorage>
    }

    fn take(&self, step: Step) -> Result<()> {
        let mut now = self.now.lock();
        let (disk, tier) = &mut *now;
        match step {
            Step::Flush => while tier.as_ref().expect("a tier that is open").step()? {},
            Step::Compact => compact(tier.as_ref().expect("a tier that is open"))?,
            Step::Reopen => {
                *tier = None;
                *tier = Some(Arc::new(open(disk, self.options.clone())?));
            }
            Step::Crash => {
                let cut = CrashPoint::after(disk.operations().saturating_sub(1));
                let image = disk.crash_image(cut, CrashProfile::new(Survival::None), 7);
                *tier = Some(Arc::new(open(&image, self.options.clone())?));
                *disk = image;
            }
        }
        Ok(())
    }
}

pub(crate) fn backend(name: &str, options: WarmOptions) -> Backend {
    let steps = [Step::Flush, Step::Compact, Step::Reopen, Step::Crash];
    let make = move || {
        let disk = SimDisk::new(1);
        let tier = Arc::new(open(&disk, options.clone())?);
        Ok(Box::new(Warm { options: options.clone(), now: Mutex::new((disk, Some(tier))) }) as Box<dyn Subject>)
    };
    Backend::with_subjects(name, &steps, make).lacking(Capability::ExactStats).with_concurrent_steps()
}

pub(crate) fn plain() -> Backend {
    backend("warm", WarmOptions { compression_flushed: Compression::None, compression: Compression::None, ..small() })
}

pub(crate) fn compressed() -> Backend {
    backend("warm, compressed", small())
}
