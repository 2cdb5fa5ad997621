//! Power cuts, restarts, second openers and full disks. They hunt commits acknowledged before they are durable, directory entries that
//! nobody synced, stores that cannot go on after a restart, and batches half there.

use thermocline_io::{CrashPoint, CrashProfile, Phase, SimDisk, Survival};
use thermocline_store::{Durability, Health, StoreOptions};
use thermocline_tier::{ErrorKind, Version};

use crate::failure::CaseResult;
use crate::harness::{expect_error, expect_that};
use crate::store_backend::StoreBackend;
use crate::store_cases::ledger::{Ledger, batch};

/// Small segments, so that a short run makes many files, in bytes.
const SEGMENT_SIZE_BYTES: u64 = 16 << 10;

fn small_segments() -> StoreOptions {
    let mut options = StoreBackend::options();
    options.log.segment_size_bytes = SEGMENT_SIZE_BYTES;
    options
}

/// What a power cut at the end of the trace leaves: only what was synced.
fn power_cut(disk: &SimDisk) -> SimDisk {
    disk.crash_image(CrashPoint::before(usize::MAX), CrashProfile::new(Survival::None), 0)
}

fn write(number: usize, len: usize) -> [String; 2] {
    let fill = char::from(b'a' + u8::try_from(number % 26).unwrap_or_default());
    [format!("k{:02}={number}-{}", number % 17, fill.to_string().repeat(len)), format!("k{:02}", (number * 7 + 3) % 17)]
}

pub(crate) fn case_109_what_was_acknowledged_survives_a_power_cut(backend: &StoreBackend) -> CaseResult {
    let disk = backend.disk();
    let mut ledger = Ledger::new();
    for round in 0..2 {
        let store = backend.open(&disk, small_segments())?;
        for number in round * 20..round * 20 + 20 {
            let durability = if number % 3 == 1 { Durability::Buffered } else { Durability::Sync };
            ledger.commit(&store, &write(number, 1_500).each_ref().map(String::as_str), durability)?;
            disk.mark(ledger.durable.0);
            if number % 5 == 4 {
                store.run_until_idle();
            }
        }
        store.sync()?;
        ledger.durable = store.last_version();
        disk.mark(ledger.durable.0);
        if round == 0 {
            store.close()?;
        }
    }
    let recording = disk.recording();
    let mut sweep = recording.sweep();
    for operation in 0..=recording.operations() {
        for phase in [Phase::Before, Phase::Inside, Phase::After] {
            let cut = CrashPoint { operation, phase };
            let durable = Version(recording.last_mark_before(cut).unwrap_or(0));
            let image = sweep.crash_image(cut, CrashProfile::new(Survival::None), operation as u64);
            let opened = backend.open(&image, small_segments()).map_err(Into::into);
            let checked = opened.and_then(|store| ledger.check_last(&store, durable));
            checked.map_err(|failure| failure.in_state(&format!("power cut at operation {operation}, {phase:?}")))?;
        }
    }
    Ok(())
}

pub(crate) fn case_110_written_again_after_reopening(backend: &StoreBackend) -> CaseResult {
    let mut disk = backend.disk();
    let mut ledger = Ledger::new();
    for round in 0..4 {
        let store = backend.open(&disk, StoreBackend::options())?;
        ledger.check(&store, ledger.durable)?;
        for number in round * 3..round * 3 + 3 {
            ledger.commit(&store, &write(number, 10).each_ref().map(String::as_str), Durability::Buffered)?;
        }
        store.sync()?;
        ledger.durable = store.last_version();
        if round % 2 == 0 {
            store.close()?;
        }
        drop(store);
        if round > 0 {
            disk = power_cut(&disk);
        }
    }
    let store = backend.open(&disk, StoreBackend::options())?;
    ledger.check(&store, ledger.durable)
}

pub(crate) fn case_111_data_larger_than_every_segment(backend: &StoreBackend) -> CaseResult {
    const COMMITS: usize = 200;
    const VALUE_SIZE_BYTES: usize = 2_000;
    let disk = backend.disk();
    let mut ledger = Ledger::new();
    // Nothing is flushed while it is written, and everything when it is opened, where there is something to flush to.
    let store = backend.open(&disk, StoreOptions { hot_budget_bytes: Some(u64::MAX), ..small_segments() })?;
    for number in 0..COMMITS {
        let put = format!("k{number:03}={}", "v".repeat(VALUE_SIZE_BYTES));
        ledger.commit(&store, &[&put], Durability::Buffered)?;
    }
    // One that is larger than a segment by itself.
    let large = format!("large={}", "w".repeat(4 * usize::try_from(SEGMENT_SIZE_BYTES).unwrap_or_default()));
    ledger.commit(&store, &[&large], Durability::Buffered)?;
    store.sync()?;
    let files = disk.files().len();
    expect_that(files > 20, &format!("the log has many files: {files}"))?;
    for image in [power_cut(&disk), disk.duplicate()] {
        let store = backend.open(&image, small_segments())?;
        ledger.check_last(&store, ledger.last())?;
        store.verify()?;
    }
    Ok(())
}

pub(crate) fn case_112_second_opener_is_refused(backend: &StoreBackend) -> CaseResult {
    let disk = backend.disk();
    let store = backend.open(&disk, StoreBackend::options())?;
    let mut ledger = Ledger::new();
    ledger.commit(&store, &["a=1"], Durability::Sync)?;
    let is_locked = |kind: &ErrorKind| matches!(kind, ErrorKind::Locked { .. });
    let second = backend.open(&disk, StoreBackend::options());
    expect_error("a second opener", "Locked", second, is_locked)?;
    // The refusal takes nothing from the first.
    ledger.commit(&store, &["a=2"], Durability::Sync)?;
    ledger.check(&store, ledger.durable)?;

    let killed = disk.kill_image(CrashPoint::before(usize::MAX), 0);
    let after_kill = backend.open(&killed, StoreBackend::options())?;
    ledger.check(&after_kill, ledger.durable)?;
    ledger.clone().commit(&after_kill, &["a=3"], Durability::Sync)?;

    store.close()?;
    let reopened = backend.open(&disk, StoreBackend::options())?;
    ledger.check(&reopened, ledger.durable)
}

pub(crate) fn case_113_full_disk_refuses_and_goes_on(backend: &StoreBackend) -> CaseResult {
    const ROOM_SIZE_BYTES: u64 = 24 << 10;
    const COMMITS_MAX: usize = 100;
    for reopens_while_full in [false, true] {
        let disk = backend.disk();
        let mut store = backend.open(&disk, small_segments())?;
        let mut ledger = Ledger::new();
        ledger.commit(&store, &["a=1", "b=2"], Durability::Sync)?;
        let used: u64 = disk.files().iter().map(|(_, len)| len).sum();
        disk.set_capacity(Some(used + ROOM_SIZE_BYTES));
        let mut refused = None;
        for number in 0..COMMITS_MAX {
            let writes = write(number, 1_500);
            if let Err(error) = ledger.commit(&store, &writes.each_ref().map(String::as_str), Durability::Sync) {
                refused = Some(error);
                break;
            }
        }
        let is_full = |kind: &ErrorKind| matches!(kind, ErrorKind::DiskFull);
        // A tier that is written to behind the log may be the one that has no room; then the commit is made when there is some.
        let is_refused = |kind: &ErrorKind| is_full(kind) || matches!(kind, ErrorKind::CommitUnknown { .. });
        expect_error("a commit on a full disk", "DiskFull", refused.map_or(Ok(()), Err), is_refused)?;
        expect_that(store.stats().health == Health::Healthy, "a full disk leaves the store healthy")?;
        ledger.check(&store, ledger.durable)?;
        let large = format!("large={}", "x".repeat(2 << 10));
        expect_error("a commit on a disk that is still full", "DiskFull", store.commit(batch(&[&large])), is_full)?;
        ledger.check(&store, ledger.durable)?;
        if reopens_while_full {
            drop(store);
            disk.set_capacity(None);
            store = backend.open(&disk, small_segments())?;
            ledger.check(&store, ledger.durable)?;
        }
        disk.set_capacity(None);
        for number in 0..5 {
            ledger.commit(&store, &write(number, 1_500).each_ref().map(String::as_str), Durability::Sync)?;
        }
        ledger.check(&store, ledger.durable)?;
        drop(store);
        for image in [power_cut(&disk), disk] {
            let store = backend.open(&image, small_segments())?;
            ledger.check(&store, ledger.durable)?;
        }
    }
    Ok(())
}
