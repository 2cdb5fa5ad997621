//! Power cuts and kills at every operation of scripted runs, and again within the recovery from them, three levels deep.

use std::sync::Arc;

use thermocline_io::{CrashPoint, CrashProfile, Disk, FileId, SectorSize, SimDisk, Survival};
use thermocline_tier::{ErrorKind, Version};
use thermocline_wal::{Log, LogBase, LogOptions, Padding};

use crate::support::{Item, Random, commit, open_from};
use crate::workload::{CUTTING, Knowledge, Run, options};

/// Environment variable that multiplies how many images are looked at.
const SCALE: &str = "THERMOCLINE_CRASH_SCALE";

fn scale() -> u64 {
    std::env::var(SCALE).ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// Which profiles a run is cut with.
#[derive(Clone, Copy, Debug)]
enum Profiles {
    /// What every correct device may do.
    Correct,
    /// Devices that spoil whole sectors of this size around what they write.
    Torn(SectorSize),
}

impl Profiles {
    fn pick(self, number: u64) -> CrashProfile {
        match self {
            Self::Correct => CrashProfile::numbered(number),
            Self::Torn(sector) => {
                let survival = match number % 4 {
                    0 => Survival::Random { per_mille: 500 },
                    1 => Survival::AllButOne,
                    2 => Survival::Prefix,
                    _ => Survival::Random { per_mille: 100 },
                };
                CrashProfile::new(survival).sector(sector).garbage_per_mille(200).torn_overwrites()
            }
        }
    }
}

/// What a sweep has looked at.
#[derive(Debug, Default)]
struct Counts {
    images: u64,
    nested: u64,
    failures: Vec<String>,
}

/// Opens an image, checks the history, and goes on writing; returns how many groups were found.
fn recover(image: &SimDisk, options: &LogOptions, knowledge: &Knowledge, least: usize) -> Result<(usize, Vec<Item>), String> {
    let disk: Arc<dyn Disk> = Arc::new(image.clone());
    let opened = open_from(&disk, options, false, knowledge.base.as_ref()).map_err(|error| format!("open: {error}"))?;
    let found = knowledge.check(&opened.items, least)?;
    if let Some(base) = &knowledge.base {
        check_base(image, &opened.log, &opened.items, base)?;
    }
    let mut items = opened.items;
    let before = knowledge.base.as_ref().map_or(0, |base| base.after.0);
    let version = items.iter().filter_map(Item::version).max().unwrap_or(before) + 1;
    items.push(commit(&opened.log, version, thermocline_wal::Durability::Sync).map_err(|error| format!("commit: {error}"))?);
    drop(opened.log);
    Ok((found, items))
}

/// A log that was opened with a base has nothing from before, neither as files nor for readers.
fn check_base(image: &SimDisk, log: &Log, items: &[Item], base: &LogBase) -> Result<(), String> {
    if let Some((id, _)) = image.files().iter().find(|(id, _)| matches!(id, FileId::Wal(number) if *number < base.number)) {
        return Err(format!("{id} is left, below {base:?}"));
    }
    let mut reader = log.reader(base.after).map_err(|error| format!("reader: {error}"))?;
    let mut read = vec![];
    while let Some(commit) = reader.next_commit(Version::MAX).map_err(|error| format!("reader: {error}"))? {
        read.push(commit.version.0);
    }
    if read != items.iter().filter_map(Item::version).collect::<Vec<_>>() {
        return Err(format!("versions {read:?} were read of {items:?}"));
    }
    let Some(before) = base.after.0.checked_sub(1) else { return Ok(()) };
    match log.reader(Version(before)) {
        Err(error) if matches!(error.kind(), ErrorKind::VersionReclaimed { horizon, .. } if *horizon == base.after) => Ok(()),
        other => Err(format!("a reader below the base: {other:?}")),
    }
}

/// Cuts the recovery that was recorded on `image`, at some of its operations.
fn nested(
    image: &SimDisk,
    options: &LogOptions,
    base: Option<&LogBase>,
    after: &[Item],
    depth: u32,
    random: &mut Random,
    counts: &mut Counts,
) {
    // After the first recovery everything found is durable, so a second one must find the same; the commit at its end may be there.
    let (last, before) = after.split_last().unwrap();
    let groups = vec![before.to_vec(), vec![last.clone()]];
    let knowledge = Knowledge { groups, durable: 1, written: 1, base: base.cloned() };
    for operation in 0..image.operations() {
        let profile = Profiles::Correct.pick(random.next());
        for cut in [CrashPoint::before(operation), CrashPoint::inside(operation), CrashPoint::after(operation)] {
            let seed = random.next();
            let second = image.crash_image(cut, profile, seed);
            counts.nested += 1;
            // An empty history is one group of no items.
            match recover(&second, options, &knowledge, usize::from(!before.is_empty())) {
                Ok((_, after)) if depth > 1 && random.chance(4) => {
                    nested(&second, options, base, &after, depth - 1, random, counts);
                }
                Ok(_) => {}
                Err(why) => counts.failures.push(format!("depth {depth}, {cut:?}, {profile:?}, seed {seed}: {why}")),
            }
        }
    }
}

fn sweep(seed: u64, run: &Run, profiles: Profiles, images: u64, counts: &mut Counts) {
    let recording = run.disk.recording();
    let mut sweep = recording.sweep();
    let mut random = Random(seed ^ 0xc0ff_ee00);
    for operation in 0..=recording.operations() {
        for cut in [CrashPoint::before(operation), CrashPoint::inside(operation), CrashPoint::after(operation)] {
            let knowledge = run.knowledge_at(recording.last_mark_before(cut));
            for _ in 0..images {
                let (number, image_seed) = (random.next(), random.next());
                let image = sweep.crash_image(cut, profiles.pick(number), image_seed);
                counts.images += 1;
                match recover(&image, &run.options, &knowledge, knowledge.durable) {
                    Ok((_, after)) if random.chance(1) => {
                        nested(&image, &run.options, knowledge.base.as_ref(), &after, 2, &mut random, counts);
                    }
                    Ok(_) => {}
                    Err(why) => counts.failures.push(format!(
                        "seed {seed}, {cut:?} of {}, profile {number}, image {image_seed}: {why}",
                        recording.operations()
                    )),
                }
            }
            let kill_seed = random.next();
            let image = sweep.kill_image(cut, kill_seed);
            counts.images += 1;
            if let Err(why) = recover(&image, &run.options, &knowledge, knowledge.written) {
                counts.failures.push(format!("seed {seed}, kill {cut:?}, seed {kill_seed}: {why}"));
            }
        }
    }
}

fn check(seeds: std::ops::Range<u64>, profiles: Profiles, padding: Option<Padding>, images: u64) {
    let mut counts = Counts::default();
    for seed in seeds {
        let mut options = options(seed);
        if let Some(padding) = padding {
            options.padding = padding;
        }
        let mut run = Run::new(seed, options);
        run.play(60).unwrap();
        sweep(seed, &run, profiles, images, &mut counts);
    }
    println!("{} images, {} nested, {} failures", counts.images, counts.nested, counts.failures.len());
    assert!(
        counts.failures.is_empty(),
        "{} failures, the first: {:#?}",
        counts.failures.len(),
        &counts.failures[..counts.failures.len().min(5)]
    );
}

#[test]
fn no_power_cut_loses_or_tears_an_acknowledged_commit() {
    check(0..10 * scale(), Profiles::Correct, None, 2);
}

#[test]
fn no_power_cut_around_a_cut_of_the_log_loses_what_is_behind_its_base() {
    check(CUTTING..CUTTING + 12 * scale(), Profiles::Correct, None, 2);
    check(CUTTING + 8..CUTTING + 8 + 2 * scale(), Profiles::Torn(SectorSize::Bytes512), Some(Padding::Sector512), 2);
    check(CUTTING + 8..CUTTING + 8 + 2 * scale(), Profiles::Torn(SectorSize::Bytes4096), Some(Padding::Page4096), 2);
}

#[test]
fn padding_protects_durable_records_on_devices_that_spoil_sectors() {
    check(100..100 + 2 * scale(), Profiles::Torn(SectorSize::Bytes512), Some(Padding::Sector512), 2);
    check(200..200 + 2 * scale(), Profiles::Torn(SectorSize::Bytes4096), Some(Padding::Page4096), 2);
}

#[test]
fn without_padding_such_devices_do_harm() {
    // The reason for padding: were this to pass, the sweep above would prove nothing.
    let mut counts = Counts::default();
    for seed in 200..204 {
        let mut run = Run::new(seed, LogOptions { padding: Padding::None, ..options(seed) });
        run.play(60).unwrap();
        sweep(seed, &run, Profiles::Torn(SectorSize::Bytes512), 2, &mut counts);
    }
    assert!(!counts.failures.is_empty(), "of {} images", counts.images);
}

#[test]
fn equal_seeds_give_equal_runs() {
    let fingerprint = |seed| {
        let mut run = Run::new(seed, options(seed));
        run.play(80).unwrap();
        run.disk.recording().fingerprint()
    };
    for seed in (0..4).chain(CUTTING..CUTTING + 4) {
        assert_eq!(fingerprint(seed), fingerprint(seed));
    }
}
