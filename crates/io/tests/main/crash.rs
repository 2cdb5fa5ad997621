//! Power cuts of the simulated disk: what they keep, what they lose, and that they lose no more than the model allows.

use std::collections::BTreeSet;

use rstest::rstest;
use thermocline_io::{
    Access, CrashPoint, CrashProfile, Disk, FileId, LockMode, Phase, Randomness, Reason, Recording, SectorSize, SeededRandomness,
    SimDisk, Survival, Sweep,
};

use crate::support::{FILE, OTHER, create, create_durable, durable_only, read_all, write};

const PHASES: [Phase; 3] = [Phase::Before, Phase::Inside, Phase::After];

fn end(disk: &SimDisk) -> CrashPoint {
    CrashPoint::before(disk.operations())
}

#[test]
fn synced_data_under_a_synced_name_stays_under_every_profile() {
    let disk = SimDisk::new(1);
    let file = create_durable(&disk, FILE, &[1; 3_000]);
    write(&*file, 3_000, &[2; 3_000]);
    for number in 0..200 {
        let image = disk.crash_image(end(&disk), CrashProfile::numbered(number), number);
        let bytes = image.file_bytes(FILE).unwrap();
        assert!(bytes.len() >= 3_000 && bytes[..3_000].iter().all(|byte| *byte == 1), "profile {number}");
    }
}

#[test]
fn without_survivors_only_what_was_synced_is_there() {
    let disk = SimDisk::new(1);
    let file = create_durable(&disk, FILE, b"one");
    write(&*file, 0, b"two");
    file.set_len(100, Reason::WalPrepare).unwrap();
    create(&disk, OTHER);
    disk.remove(FILE, Reason::WalRemove).unwrap();
    let image = durable_only(&disk);
    assert_eq!(image.files(), [(FILE, 3)]);
    assert_eq!(image.file_bytes(FILE).unwrap(), b"one");
    let everything = disk.crash_image(end(&disk), CrashProfile::new(Survival::All), 0);
    assert_eq!(everything.files(), [(OTHER, 0)]);
}

#[test]
fn a_synced_file_without_a_synced_name_can_be_gone() {
    let disk = SimDisk::new(1);
    let file = create(&disk, FILE);
    write(&*file, 0, b"text");
    file.sync_data(Reason::WalSync).unwrap();
    assert!(durable_only(&disk).files().is_empty());
    disk.sync_dir(Reason::WalSync).unwrap();
    assert_eq!(durable_only(&disk).file_bytes(FILE).unwrap(), b"text");
    disk.remove(FILE, Reason::WalRemove).unwrap();
    assert_eq!(durable_only(&disk).file_bytes(FILE).unwrap(), b"text");
    disk.sync_dir(Reason::WalSync).unwrap();
    assert!(durable_only(&disk).files().is_empty());
}

#[test]
fn a_synced_name_says_nothing_about_the_data() {
    let disk = SimDisk::new(1);
    write(&*create(&disk, FILE), 0, b"text");
    disk.sync_dir(Reason::WalSync).unwrap();
    assert_eq!(durable_only(&disk).file_bytes(FILE).unwrap(), b"");
}

#[test]
fn any_subset_of_names_survives() {
    let disk = SimDisk::new(1);
    for number in 0..3 {
        create(&disk, FileId::Sst(number));
    }
    let profile = CrashProfile::new(Survival::Random { per_mille: 500 });
    let subsets: BTreeSet<Vec<FileId>> = (0..200)
        .map(|seed| disk.crash_image(end(&disk), profile, seed).files().into_iter().map(|(id, _)| id).collect())
        .collect();
    assert_eq!(subsets.len(), 8);
}

#[test]
fn sectors_survive_without_older_ones() {
    let disk = SimDisk::new(1);
    let file = create_durable(&disk, FILE, &[0; 1_024]);
    write(&*file, 0, &[1; 512]);
    write(&*file, 512, &[2; 512]);
    write(&*file, 512, &[3; 512]);
    let profile = CrashProfile::new(Survival::Random { per_mille: 500 });
    let found: BTreeSet<(u8, u8)> = (0..200)
        .map(|seed| {
            let bytes = disk.crash_image(end(&disk), profile, seed).file_bytes(FILE).unwrap();
            (bytes[0], bytes[512])
        })
        .collect();
    assert_eq!(found, (0..2).flat_map(|first| [0, 2, 3].map(|second| (first, second))).collect());
}

#[rstest]
#[case(Survival::Prefix, &[[0, 0, 0], [1, 0, 0], [1, 2, 0]])]
#[case(Survival::Suffix, &[[1, 2, 3], [0, 2, 3], [0, 0, 3]])]
#[case(Survival::OnlyLast, &[[0, 0, 3]])]
#[case(Survival::AllButOne, &[[0, 2, 3], [1, 0, 3], [1, 2, 0]])]
fn ordered_profiles_keep_what_their_name_says(#[case] survival: Survival, #[case] expected: &[[u8; 3]]) {
    let disk = SimDisk::new(1);
    let files = [FILE, OTHER, FileId::Cold(3)].map(|id| create_durable(&disk, id, &[0]));
    for (file, value) in files.iter().zip(1..) {
        write(&**file, 0, &[value]);
    }
    let found: BTreeSet<[u8; 3]> = (0..100)
        .map(|seed| {
            let image = disk.crash_image(end(&disk), CrashProfile::new(survival), seed);
            [FILE, OTHER, FileId::Cold(3)].map(|id| image.file_bytes(id).unwrap()[0])
        })
        .collect();
    assert_eq!(found, expected.iter().copied().collect());
}

#[test]
fn the_length_is_independent_of_the_data() {
    let disk = SimDisk::new(1);
    let file = create_durable(&disk, FILE, &[1; 100]);
    write(&*file, 100, &[2; 900]);
    let profile = CrashProfile::new(Survival::Random { per_mille: 500 });
    let (mut longer_without_data, mut partial) = (0, 0);
    for seed in 0..300 {
        let bytes = disk.crash_image(end(&disk), profile, seed).file_bytes(FILE).unwrap();
        assert!((100..=1_000).contains(&bytes.len()));
        partial += u32::from(bytes.len() > 100 && bytes.len() < 1_000);
        longer_without_data += u32::from(bytes.len() > 100 && bytes[100] == 0);
    }
    assert!(partial > 50 && longer_without_data > 50, "{partial} {longer_without_data}");
}

#[rstest]
#[case::powersafe(true)]
#[case::torn(false)]
fn garbage_stays_within_what_was_written_if_overwriting_is_powersafe(#[case] powersafe: bool) {
    let disk = SimDisk::new(1);
    let file = create_durable(&disk, FILE, &[1; 1_024]);
    create_durable(&disk, OTHER, &[7; 1_024]);
    write(&*file, 100, &[2; 50]);
    let profile = CrashProfile::new(Survival::Random { per_mille: 500 }).garbage_per_mille(1_000);
    let profile = if powersafe { profile } else { profile.torn_overwrites() };
    let (mut neighbours_harmed, mut values) = (0, BTreeSet::new());
    for seed in 0..200 {
        let bytes = disk.crash_image(end(&disk), profile, seed).file_bytes(FILE).unwrap();
        assert!(bytes[512..].iter().all(|byte| *byte == 1), "another sector was harmed");
        neighbours_harmed += u32::from(bytes[..100].iter().chain(&bytes[150..512]).any(|byte| *byte != 1));
        values.insert(bytes[120]);
    }
    assert!([0, 0xaa, 7].iter().all(|value| values.contains(value)) && values.len() > 10);
    // Stale garbage can be what was there before.
    assert!(if powersafe { neighbours_harmed == 0 } else { neighbours_harmed > 150 }, "{neighbours_harmed}");
}

#[test]
fn large_sectors_survive_whole() {
    let disk = SimDisk::new(1);
    let file = create_durable(&disk, FILE, &[0; 4_096]);
    write(&*file, 0, &[1; 4_096]);
    let profile = CrashProfile::new(Survival::Random { per_mille: 500 }).sector(SectorSize::Bytes4096);
    for seed in 0..50 {
        let bytes = disk.crash_image(end(&disk), profile, seed).file_bytes(FILE).unwrap();
        assert!(bytes.iter().all(|byte| *byte == bytes[0]));
    }
}

#[test]
fn inside_a_write_part_of_it_is_there() {
    let disk = SimDisk::new(1);
    let file = create_durable(&disk, FILE, &[]);
    write(&*file, 0, &[5; 100]);
    let cut = CrashPoint::inside(disk.operations() - 1);
    let lengths: BTreeSet<usize> = (0..100)
        .map(|seed| disk.crash_image(cut, CrashProfile::new(Survival::All), seed).file_bytes(FILE).unwrap().len())
        .collect();
    assert!(lengths.len() > 30 && lengths.iter().all(|len| (1..100).contains(len)));
}

#[test]
fn inside_a_sync_the_first_part_is_durable() {
    let disk = SimDisk::new(1);
    let file = create_durable(&disk, FILE, &[]);
    write(&*file, 0, &[1; 10]);
    write(&*file, 10, &[2; 10]);
    file.sync_data(Reason::WalSync).unwrap();
    let cut = CrashPoint::inside(disk.operations() - 1);
    let lengths: BTreeSet<usize> = (0..50)
        .map(|seed| disk.crash_image(cut, CrashProfile::new(Survival::None), seed).file_bytes(FILE).unwrap().len())
        .collect();
    assert_eq!(lengths, BTreeSet::from([0, 10, 20]));
}

#[test]
fn a_killed_process_leaves_all_it_wrote_and_a_later_power_cut_takes_it() {
    let disk = SimDisk::new(1);
    let file = create_durable(&disk, FILE, b"durable");
    write(&*file, 7, b" and not");
    let guard = disk.try_lock(LockMode::Exclusive).unwrap();
    let killed = disk.kill_image(end(&disk), 0);
    assert_eq!(killed.file_bytes(FILE).unwrap(), b"durable and not");
    assert_eq!(durable_only(&killed).file_bytes(FILE).unwrap(), b"durable");
    drop(killed.try_lock(LockMode::Exclusive).unwrap());
    drop(guard);
    let file = killed.open(FILE, Access::ReadWrite, Reason::Open).unwrap();
    file.sync_data(Reason::WalSync).unwrap();
    assert_eq!(durable_only(&killed).file_bytes(FILE).unwrap(), b"durable and not");
}

#[test]
fn an_image_is_a_disk_that_can_be_cut_again() {
    let disk = SimDisk::new(1);
    create_durable(&disk, FILE, b"first");
    let image = durable_only(&disk);
    assert_eq!(image.operations(), 0);
    let file = image.open(FILE, Access::ReadWrite, Reason::Open).unwrap();
    write(&*file, 0, b"FIRST");
    assert_eq!(durable_only(&image).file_bytes(FILE).unwrap(), b"first");
    file.sync_data(Reason::WalSync).unwrap();
    assert_eq!(durable_only(&image).file_bytes(FILE).unwrap(), b"FIRST");
    assert_eq!(disk.file_bytes(FILE).unwrap(), b"first", "the image must not share its files with the disk");
}

#[test]
fn marks_tell_what_was_acknowledged_at_a_cut() {
    let disk = SimDisk::new(1);
    disk.mark(1);
    create(&disk, FILE);
    disk.mark(2);
    disk.sync_dir(Reason::WalSync).unwrap();
    disk.mark(3);
    assert_eq!(disk.marks_before(CrashPoint::before(0)), [1]);
    assert_eq!(disk.marks_before(CrashPoint::after(0)), [1]);
    assert_eq!(disk.marks_before(CrashPoint::before(1)), [1, 2]);
    assert_eq!(disk.marks_before(CrashPoint::inside(1)), [1, 2]);
    assert_eq!(disk.marks_before(end(&disk)), [1, 2, 3]);
    assert_eq!(disk.recording().last_mark_before(CrashPoint::after(1)), Some(2));
}

#[test]
fn restarting_the_recording_keeps_what_is_pending() {
    let disk = SimDisk::new(1);
    let file = create_durable(&disk, FILE, b"old");
    write(&*file, 0, b"new");
    disk.mark(1);
    disk.restart_recording();
    assert_eq!((disk.operations(), disk.marks_before(CrashPoint::before(0)).len()), (0, 0));
    assert_eq!(durable_only(&disk).file_bytes(FILE).unwrap(), b"old");
    file.sync_data(Reason::WalSync).unwrap();
    assert_eq!(durable_only(&disk).file_bytes(FILE).unwrap(), b"new");
    assert_eq!(disk.crash_image(CrashPoint::before(0), CrashProfile::new(Survival::None), 0).file_bytes(FILE).unwrap(), b"old");
}

/// A run of random operations on one file, with what the file looked like after each since its last sync.
struct Run {
    disk: SimDisk,
    /// Per number of operations done.
    versions: Vec<Vec<Vec<u8>>>,
}

fn random_run(seed: u64) -> Run {
    let randomness = SeededRandomness::new(seed);
    let draw = |bound: u64| {
        let mut bytes = [0; 8];
        randomness.fill(&mut bytes).unwrap();
        u64::from_le_bytes(bytes) % bound
    };
    let disk = SimDisk::new(seed);
    let file = create_durable(&disk, FILE, &[]);
    disk.restart_recording();
    let (mut live, mut since_sync, mut versions) = (Vec::new(), vec![Vec::new()], vec![vec![Vec::new()]]);
    for value in 1..60 {
        match draw(8) {
            0 => {
                file.sync_data(Reason::WalSync).unwrap();
                since_sync.clear();
            }
            1 => {
                live.resize(usize::try_from(draw(6_000)).unwrap(), 0);
                file.set_len(live.len() as u64, Reason::WalPrepare).unwrap();
            }
            _ => {
                let (offset, len) = (usize::try_from(draw(5_000)).unwrap(), 1 + usize::try_from(draw(1_500)).unwrap());
                live.resize(live.len().max(offset + len), 0);
                live[offset..offset + len].fill(value);
                write(&*file, offset as u64, &vec![value; len]);
            }
        }
        since_sync.push(live.clone());
        // A length that stays as it is changes nothing, but is an operation all the same.
        versions.resize(disk.operations() + 1, since_sync.clone());
        versions.last_mut().unwrap().clone_from(&since_sync);
    }
    Run { disk, versions }
}

/// The model by itself: per sector, one of the versions since the last sync.
#[test]
fn every_sector_of_an_image_is_a_version_that_it_had() {
    for seed in 0..30 {
        let run = random_run(seed);
        let mut sweep = run.disk.recording().sweep();
        for (operation, versions) in run.versions.iter().enumerate() {
            for number in 0..24 {
                let image = sweep.crash_image(CrashPoint::before(operation), CrashProfile::numbered(number), seed);
                let found = image.file_bytes(FILE).unwrap();
                let lengths = || versions.iter().map(Vec::len);
                assert!((lengths().min().unwrap()..=lengths().max().unwrap()).contains(&found.len()));
                for (index, sector) in found.chunks(512).enumerate() {
                    let had = |version: &Vec<u8>| {
                        (0..sector.len()).all(|at| version.get(index * 512 + at).copied().unwrap_or(0) == sector[at])
                    };
                    assert!(versions.iter().any(had), "seed {seed}, operation {operation}, profile {number}, sector {index}");
                }
            }
        }
    }
}

/// A cut further back starts over, and must give what going forwards gave.
#[test]
fn images_follow_from_their_arguments_alone() {
    let run = random_run(77);
    let image = |sweep: &mut Sweep, operation, phase, number| {
        let image = sweep.crash_image(CrashPoint { operation, phase }, CrashProfile::numbered(number), number);
        (image.files(), image.file_bytes(FILE))
    };
    let recording: Recording = run.disk.recording();
    let cuts = || (0..recording.operations()).flat_map(|operation| PHASES.map(|phase| (operation, phase)));
    let mut forwards = recording.sweep();
    let found: Vec<_> = cuts().map(|(operation, phase)| image(&mut forwards, operation, phase, 3)).collect();
    let mut backwards = recording.sweep();
    for ((operation, phase), expected) in cuts().zip(&found).collect::<Vec<_>>().into_iter().rev() {
        assert_eq!(&image(&mut backwards, operation, phase, 3), expected);
        let direct = run.disk.crash_image(CrashPoint { operation, phase }, CrashProfile::numbered(3), 3);
        assert_eq!(&(direct.files(), direct.file_bytes(FILE)), expected);
    }
    let other: Vec<_> = cuts().map(|(operation, phase)| image(&mut backwards, operation, phase, 7)).collect();
    assert_ne!(found, other);
}

#[test]
fn equal_runs_have_equal_fingerprints() {
    let fingerprint = |seed| random_run(seed).disk.recording().fingerprint();
    assert_eq!(fingerprint(5), fingerprint(5));
    assert_ne!(fingerprint(5), fingerprint(6));
}

#[derive(Clone, Copy, PartialEq)]
enum Bug {
    None,
    AcknowledgeBeforeSync,
    NoSync,
    NoDirectorySync,
}

/// A toy log whose records are their own number, over and over.
fn append_records(bug: Bug) -> SimDisk {
    let disk = SimDisk::new(1);
    let file = create(&disk, FILE);
    if bug != Bug::NoDirectorySync {
        disk.sync_dir(Reason::WalPrepare).unwrap();
    }
    for record in 1..=20 {
        write(&*file, (record - 1) * 100, &[u8::try_from(record).unwrap(); 100]);
        if bug == Bug::AcknowledgeBeforeSync {
            disk.mark(record);
        }
        if bug != Bug::NoSync {
            file.sync_data(Reason::WalSync).unwrap();
        }
        if bug != Bug::AcknowledgeBeforeSync {
            disk.mark(record);
        }
    }
    disk
}

/// The simulation must be able to find a fault, and must not find one where there is none.
#[rstest]
#[case(Bug::None, false)]
#[case(Bug::AcknowledgeBeforeSync, true)]
#[case(Bug::NoSync, true)]
#[case(Bug::NoDirectorySync, true)]
fn a_sweep_tells_a_sound_log_from_a_broken_one(#[case] bug: Bug, #[case] caught: bool) {
    let recording = append_records(bug).recording();
    let mut sweep = recording.sweep();
    let (mut images, mut losses) = (0, 0);
    for operation in 0..=recording.operations() {
        for phase in PHASES {
            for number in 0..48 {
                let cut = CrashPoint { operation, phase };
                let found = sweep.crash_image(cut, CrashProfile::numbered(number), number).file_bytes(FILE).unwrap_or_default();
                let acknowledged = recording.last_mark_before(cut).unwrap_or(0);
                let whole = (1..=acknowledged).all(|record| {
                    let start = usize::try_from((record - 1) * 100).unwrap();
                    found.get(start..start + 100).is_some_and(|bytes| bytes.iter().all(|byte| u64::from(*byte) == record))
                });
                images += 1;
                losses += u32::from(!whole);
            }
        }
    }
    assert_eq!(losses > 0, caught, "{losses} of {images} images lost a record");
}

#[test]
fn a_duplicate_goes_its_own_way() {
    let disk = SimDisk::new(1);
    let file = create_durable(&disk, FILE, &[1; 5_000]);
    let copy = disk.duplicate();
    write(&*file, 0, &[2; 10]);
    let copied = copy.open(FILE, Access::ReadWrite, Reason::Open).unwrap();
    assert_eq!(read_all(&*copied), [1; 5_000]);
    write(&*copied, 0, &[3; 10]);
    assert_eq!(disk.file_bytes(FILE).unwrap()[..10], [2; 10]);
}
