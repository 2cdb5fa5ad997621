//! Power cuts and kills at every operation of scripted runs, and again within the recovery from them, three levels deep.

use thermocline_io::{CrashPoint, CrashProfile, SectorSize, SimDisk, Survival};

use super::support::{Knowledge, Random, Run, STORE, manifests, open, random_edit, read_only, shared};
use crate::manifest::{Manifest, State};

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

/// Opens an image, checks what it says, and goes on; returns what is known then.
fn recover(image: &SimDisk, knowledge: &Knowledge) -> Result<Knowledge, String> {
    let seen = read_only(image).map_err(|error| format!("open to read: {error}"))?.map(|(_, state)| state);
    knowledge.check(seen.as_ref())?;
    let opened = open(image).map_err(|error| format!("open: {error}"))?;
    let (mut manifest, state) = match opened {
        Some((manifest, state)) if seen.as_ref() == Some(&state) => (manifest, state),
        None if seen.is_none() => {
            let manifest = Manifest::create(shared(image), STORE).map_err(|error| format!("create: {error}"))?;
            (manifest, State::default())
        }
        _ => return Err("reading only and reading to write see different states".into()),
    };
    let found = manifests(image);
    if found.len() != 1 {
        return Err(format!("manifests {found:?} after an open"));
    }
    let (edit, after) = random_edit(&mut Random(1), &state);
    manifest.commit(&edit, &after).map_err(|error| format!("commit: {error}"))?;
    manifest.verify().map_err(|error| format!("verify: {error}"))?;
    // The empty state is not known to be there before it was made.
    let known = seen.map(|_| state.clone());
    Ok(Knowledge { known, possible: Some(after) })
}

/// Cuts the recovery that was recorded on `image`, at each of its operations.
fn nested(image: &SimDisk, knowledge: &Knowledge, depth: u32, random: &mut Random, counts: &mut Counts) {
    // All that was found on the image is durable there, so a second recovery must find the same; or the edit at its end.
    let recording = image.recording();
    let mut sweep = recording.sweep();
    for operation in 0..recording.operations() {
        for cut in [CrashPoint::before(operation), CrashPoint::inside(operation), CrashPoint::after(operation)] {
            let (profile, seed) = (Profiles::Correct.pick(random.next()), random.next());
            let second = sweep.crash_image(cut, profile, seed);
            counts.nested += 1;
            let mut knowledge = knowledge.clone();
            if knowledge.known.is_none() {
                let found = open(&second.duplicate()).ok().flatten().map(|(_, state)| state);
                if found == Some(State::default()) {
                    knowledge.known = found;
                }
            }
            match recover(&second, &knowledge) {
                Ok(after) if depth > 1 && random.chance(4) => nested(&second, &after, depth - 1, random, counts),
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
                match recover(&image, &knowledge) {
                    Ok(after) if random.chance(2) => nested(&image, &after, 2, &mut random, counts),
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
            if let Err(why) = recover(&image, &knowledge) {
                counts.failures.push(format!("seed {seed}, kill {cut:?}, seed {kill_seed}: {why}"));
            }
        }
    }
}

fn check(seeds: std::ops::Range<u64>, profiles: Profiles, images: u64) {
    let mut counts = Counts::default();
    for seed in seeds {
        let mut run = Run::new(seed);
        run.play(40).unwrap();
        sweep(seed, &run, profiles, images, &mut counts);
    }
    println!("{} images, {} nested, {} failures", counts.images, counts.nested, counts.failures.len());
    assert!(
        counts.failures.is_empty(),
        "{} failures, the first: {:#?}",
        counts.failures.len(),
        &counts.failures[..counts.failures.len().min(3)]
    );
}

#[test]
fn no_power_cut_loses_or_tears_an_acknowledged_edit() {
    check(0..6 * scale(), Profiles::Correct, 2);
}

#[test]
fn devices_that_spoil_sectors_harm_no_acknowledged_edit() {
    check(100..100 + scale(), Profiles::Torn(SectorSize::Bytes512), 2);
    check(200..200 + scale(), Profiles::Torn(SectorSize::Bytes4096), 2);
}

#[test]
fn equal_seeds_give_equal_runs() {
    let fingerprint = |seed| {
        let mut run = Run::new(seed);
        run.play(60).unwrap();
        run.disk.recording().fingerprint()
    };
    for seed in 0..3 {
        assert_eq!(fingerprint(seed), fingerprint(seed));
    }
}
