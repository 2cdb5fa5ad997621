//! How many disks as found after a power cut the simulation makes in a second, on one thread. A sweep makes one image for every
//! operation, phase and seed, so this bounds how many cuts a test can look at.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use thermocline_io::{
    CrashPoint, CrashProfile, Disk, FileId, Phase, Reason, Recording, SimDisk, Survival, read_exact_at, write_all_at,
};

const COMMITS: u64 = 100;
const SEGMENTS: u64 = 4;
const SEEDS: u64 = 16;

/// A log of several segments: per commit one append and one sync, per segment a new file and a removed one. About 220 operations.
fn log() -> Result<Recording, Box<dyn std::error::Error>> {
    let disk = SimDisk::new(1);
    for segment in 0..SEGMENTS {
        let file = disk.create_new(FileId::Wal(segment), Reason::WalPrepare)?;
        write_all_at(&*file, 0, &[1; 64], Reason::WalPrepare)?;
        file.sync_data(Reason::WalPrepare)?;
        disk.sync_dir(Reason::WalPrepare)?;
        let per_segment = COMMITS / SEGMENTS;
        for commit in 0..per_segment {
            let bytes = vec![7; usize::try_from(100 + commit % 7 * 100)?];
            write_all_at(&*file, 64 + commit * 512, &bytes, Reason::WalAppend)?;
            file.sync_data(Reason::WalSync)?;
            disk.mark(segment * per_segment + commit);
        }
        if segment > 1 {
            disk.remove(FileId::Wal(segment - 2), Reason::WalRemove)?;
        }
    }
    Ok(disk.recording())
}

/// Every operation, before, inside and after it, under every seed; `look` is what is done with each image.
fn sweep(recording: &Recording, profile: impl Fn(u64) -> CrashProfile, mut look: impl FnMut(&SimDisk)) {
    let mut sweep = recording.sweep();
    for operation in 0..recording.operations() {
        for phase in [Phase::Before, Phase::Inside, Phase::After] {
            for seed in 0..SEEDS {
                look(&sweep.crash_image(CrashPoint { operation, phase }, profile(seed), seed));
            }
        }
    }
}

/// Nothing but the making of the image.
fn touch(image: &SimDisk) {
    black_box(image);
}

/// Reads every file of an image whole, the least that a recovery does.
fn read_whole(image: &SimDisk) {
    for (id, len) in image.files() {
        let Ok(file) = image.open(id, thermocline_io::Access::Read, Reason::WalRecover) else { continue };
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
        black_box(read_exact_at(&*file, 0, &mut bytes, Reason::WalRecover).is_ok());
    }
}

fn crash_images(criterion: &mut Criterion) {
    let Ok(recording) = log() else { return };
    let mut group = criterion.benchmark_group("crash_images");
    group.throughput(Throughput::Elements(recording.operations() as u64 * 3 * SEEDS));
    group.bench_function("mixed_profiles", |bencher| {
        bencher.iter(|| sweep(&recording, CrashProfile::numbered, touch));
    });
    let random = CrashProfile::new(Survival::Random { per_mille: 500 }).garbage_per_mille(50).torn_overwrites();
    group.bench_function("random_with_garbage", |bencher| {
        bencher.iter(|| sweep(&recording, |_| random, touch));
    });
    group.bench_function("mixed_profiles_and_read_whole", |bencher| {
        bencher.iter(|| sweep(&recording, CrashProfile::numbered, read_whole));
    });
    group.finish();
}

criterion_group!(benches, crash_images);
criterion_main!(benches);
