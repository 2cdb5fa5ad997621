//! Devices that lie: syncs without effect, writes that are lost, land elsewhere or are stored with a flipped bit, reads of other
//! places. What was acknowledged may then be lost, but never may anything be read that was not written.

use std::sync::Arc;

use thermocline_io::{CrashPoint, CrashProfile, Disk, Fault, FaultKind, Misdirection, Operation, SimDisk, When};
use thermocline_tier::{ErrorKind, Version};

use crate::support::open;
use crate::workload::{Run, options};

#[derive(Debug, Default)]
struct Counts {
    struck: u64,
    whole: u64,
    shorter: u64,
    detected: u64,
}

/// Whatever can be read is what was written, from its beginning on.
fn check_truth(run: &Run, disk: &SimDisk, counts: &mut Counts, what: &str) {
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    match open(&shared, &run.options) {
        Ok(opened) => {
            let found = run.knowledge.check(&opened.items, 0).unwrap_or_else(|why| panic!("{what}: {why}"));
            if found == run.knowledge.groups.len() {
                counts.whole += 1;
            } else {
                counts.shorter += 1;
            }
        }
        Err(error) => {
            let kinds = [ErrorKind::Corruption, ErrorKind::ForeignFile];
            assert!(kinds.contains(error.kind()), "{what}: {error}");
            counts.detected += 1;
        }
    }
}

/// Runs with a fault now and then, and looks at what is left: as it is, and after a power cut.
fn lie(kind: FaultKind, operation: Operation, seeds: std::ops::Range<u64>) -> Counts {
    let mut counts = Counts::default();
    for seed in seeds {
        let what = format!("seed {seed}, {kind:?}");
        let mut run = Run::new(seed, options(seed));
        what.clone_into(&mut run.name);
        run.open().unwrap();
        let fault = run.disk.inject(Fault::new(kind, When::PerMille { chance: 30, seed }).on(operation));
        for _ in 0..60 {
            // Only what belongs to one incarnation: what a lying device does to a reopening is looked at below.
            if run.append().is_err() {
                break;
            }
            let log = run.log.as_ref().unwrap();
            let mut reader = log.reader(Version::ZERO).unwrap();
            while let Ok(Some(commit)) = reader.next_commit(Version::MAX) {
                let known = run.knowledge.groups.iter().flatten().any(|item| item.version() == Some(commit.version.0));
                assert!(known, "{what}: read {commit:?}");
            }
        }
        counts.struck += run.disk.fault_count(fault);
        run.disk.clear_faults();
        run.log = None;
        let end = CrashPoint::before(run.disk.operations());
        for number in 0..4 {
            let cut = run.disk.crash_image(end, CrashProfile::numbered(seed + number), number);
            check_truth(&run, &cut, &mut counts, &what);
        }
        let disk = run.disk.duplicate();
        check_truth(&run, &disk, &mut counts, &what);
    }
    counts
}

#[test]
fn lying_devices_never_make_up_data() {
    let lies = [
        (FaultKind::LieAboutSync, Operation::SyncData),
        (FaultKind::LieAboutSync, Operation::SyncDir),
        (FaultKind::LoseWrite, Operation::Write),
        (FaultKind::MisdirectWrite(Misdirection::SameFile), Operation::Write),
        (FaultKind::MisdirectWrite(Misdirection::OtherFile), Operation::Write),
        (FaultKind::FlipAtRest, Operation::Write),
        (FaultKind::FlipAtRest, Operation::Read),
        (FaultKind::FlipInFlight, Operation::Read),
        (FaultKind::MisdirectRead, Operation::Read),
        (FaultKind::StaleRead, Operation::Read),
    ];
    for (kind, operation) in lies {
        let counts = lie(kind, operation, 0..24);
        println!("{operation} {kind:?}: {counts:?}");
    }
}
