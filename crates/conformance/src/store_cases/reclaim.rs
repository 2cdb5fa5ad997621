//! What reclaiming takes and leaves. They hunt versions that go although a read that is allowed sees them, that stay although none does, and
//! answers from below that shine through where something was removed.

use thermocline_store::{Amount, Batch, Store};
use thermocline_tier::{ErrorKind, KeyRange, Version};

use crate::backend::Capability;
use crate::failure::{CaseFailure, CaseResult};
use crate::harness::{TABLE, expect, expect_error, expect_that};
use crate::notation::joined;
use crate::store_backend::StoreBackend;

/// Commits `key=vN` at each version N.
fn put_at(store: &Store, key: &str, versions: impl IntoIterator<Item = u64>) -> CaseResult {
    for version in versions {
        let mut batch = Batch::new();
        batch.put(TABLE, key.as_bytes(), format!("v{version}").as_bytes());
        store.commit_at(Version(version), batch)?;
    }
    Ok(())
}

/// Has all go that need not be kept.
fn reclaim(store: &Store) -> CaseResult {
    store.compact(TABLE, &KeyRange::all())?;
    Ok(store.wait_idle()?)
}

/// The versions of a key that are stored, newest first.
fn stored(store: &Store, key: &str) -> Result<String, CaseFailure> {
    Ok(joined(store.history(TABLE, key.as_bytes())?.map(|entry| entry.version.to_string())))
}

fn check_stored(store: &Store, key: &str, expected: &[u64]) -> CaseResult {
    expect(|| format!("stored versions of {key}"), &joined(expected.iter().map(u64::to_string)), &stored(store, key)?)
}

fn check_read(store: &Store, key: &str, at: u64, expected: u64) -> CaseResult {
    let found = store.get_at(TABLE, key.as_bytes(), Version(at))?;
    expect_that(found.as_deref() == Some(format!("v{expected}").as_bytes()), &format!("{key} at {at} is v{expected}: {found:?}"))
}

fn check_gone(store: &Store, key: &str, at: u64) -> CaseResult {
    let is_reclaimed = |kind: &ErrorKind| matches!(kind, ErrorKind::VersionReclaimed { .. });
    expect_error("a read below the horizon", "VersionReclaimed", store.get_at(TABLE, key.as_bytes(), Version(at)), is_reclaimed)
}

/// The entries that are stored of the table, where that is known exactly.
fn check_entries(backend: &StoreBackend, store: &Store, expected: u64) -> CaseResult {
    if !backend.has(Capability::ExactStats) {
        return Ok(());
    }
    let tables = store.stats().tiers.tables;
    let entries = tables.into_iter().find(|(table, _)| *table == TABLE).map_or(0, |(_, stats)| stats.entries);
    expect(|| "stored entries".into(), &expected.to_string(), &entries.to_string())
}

pub(crate) fn case_091_versions_below_a_cutoff_go_but_the_one_seen_there(backend: &StoreBackend) -> CaseResult {
    let disk = backend.disk();
    let store = backend.open(&disk, StoreBackend::options())?;
    put_at(&store, "a", 1..=100)?;
    store.set_horizon(Version(50))?;
    reclaim(&store)?;
    let check = |store: &Store| -> CaseResult {
        check_stored(store, "a", &(50..=100).rev().collect::<Vec<_>>())?;
        (50..=100).try_for_each(|version| check_read(store, "a", version, version))?;
        (1..50).try_for_each(|version| check_gone(store, "a", version))
    };
    check(&store)?;
    check_entries(backend, &store, 51)?;
    store.close()?;
    let store = backend.open(&disk, StoreBackend::options())?;
    reclaim(&store)?;
    check(&store)
}

pub(crate) fn case_092_version_seen_at_a_cutoff_between_two_stays(backend: &StoreBackend) -> CaseResult {
    let disk = backend.disk();
    let store = backend.open(&disk, StoreBackend::options())?;
    // Below all others, where there are files.
    put_at(&store, "a", [5])?;
    store.flush()?;
    store.pin("old", Version(5))?;
    put_at(&store, "a", [10, 20, 30, 40, 60])?;
    store.pin("nine", Version(9))?;
    store.set_horizon(Version(25))?;
    reclaim(&store)?;
    check_stored(&store, "a", &[60, 40, 30, 20, 5])?;
    for (at, expected) in [(9, 5), (25, 20), (29, 20), (39, 30), (60, 60)] {
        check_read(&store, "a", at, expected)?;
    }
    check_gone(&store, "a", 10)?;
    store.release_pin("old")?;
    store.release_pin("nine")?;
    reclaim(&store)?;
    check_stored(&store, "a", &[60, 40, 30, 20])?;
    check_read(&store, "a", 25, 20)?;
    check_gone(&store, "a", 9)
}

pub(crate) fn case_093_cutoffs_below_and_above_everything(backend: &StoreBackend) -> CaseResult {
    let disk = backend.disk();
    let store = backend.open(&disk, StoreBackend::options())?;
    put_at(&store, "a", [1, 3, 5])?;
    store.set_horizon(Version::ZERO)?;
    reclaim(&store)?;
    check_stored(&store, "a", &[5, 3, 1])?;
    store.set_horizon(Version(1000))?;
    reclaim(&store)?;
    check_stored(&store, "a", &[5])?;
    expect(|| "the horizon, at most the last commit".into(), "5", &store.horizon().to_string())?;
    let mut batch = Batch::new();
    batch.remove(TABLE, b"a");
    let removed = store.commit(batch)?;
    store.set_horizon(removed)?;
    reclaim(&store)?;
    expect_that(store.get(TABLE, b"a")?.is_none(), "a is deleted")?;
    check_stored(&store, "a", &[])?;
    check_entries(backend, &store, 0)
}

pub(crate) fn case_094_slices_take_what_one_pass_takes_and_say_how_much(backend: &StoreBackend) -> CaseResult {
    let disk = backend.disk();
    let store = backend.open(&disk, StoreBackend::options())?;
    let keys: Vec<String> = (0..50).map(|key| format!("k{key:02}")).collect();
    let mut version = 0;
    for _round in 0..5 {
        let mut batch = Batch::new();
        version += 1;
        for key in &keys {
            batch.put(TABLE, key.as_bytes(), format!("v{version}").as_bytes());
        }
        store.commit_at(Version(version), batch)?;
    }
    store.flush()?;
    store.set_horizon(Version(version))?;
    // By the store's own steps, as far as they find it worth it, and then whatever is left.
    let reclaimed_entries = || -> Result<u64, CaseFailure> {
        let reclaimed = store.reclaim_report()?.reclaimed;
        Ok(reclaimed.iter().map(|(_, amount)| amount.entries).sum())
    };
    let mut entries = 0;
    while store.step()? {
        let now = reclaimed_entries()?;
        expect_that(now >= entries, "what was reclaimed only grows")?;
        entries = now;
        (0..5).try_for_each(|key| check_read(&store, &format!("k{:02}", key * 11), version, version))?;
    }
    reclaim(&store)?;
    for key in &keys {
        check_stored(&store, key, &[version])?;
        check_read(&store, key, version, version)?;
    }
    let reclaimed = store.reclaim_report()?.reclaimed;
    let of_table = reclaimed.iter().find(|(table, _)| *table == TABLE).map_or(Amount::default(), |(_, amount)| *amount);
    // Of each of the four versions before of each key: three bytes and two.
    expect(
        || "what was reclaimed".into(),
        "200 entries, 1000 bytes",
        &format!("{} entries, {} bytes", of_table.entries, of_table.bytes),
    )
}

pub(crate) fn case_095_version_of_an_open_snapshot_stays_as_long(backend: &StoreBackend) -> CaseResult {
    let disk = backend.disk();
    let store = backend.open(&disk, StoreBackend::options())?;
    put_at(&store, "a", [1, 2])?;
    let pinned = store.at(Version(1))?;
    put_at(&store, "a", [3, 4])?;
    store.set_horizon(Version(4))?;
    reclaim(&store)?;
    check_stored(&store, "a", &[4, 1])?;
    expect_that(pinned.get(TABLE, b"a")?.as_deref() == Some(b"v1"), "the snapshot reads its version")?;
    let again = pinned.clone();
    drop(pinned);
    reclaim(&store)?;
    expect_that(again.get(TABLE, b"a")?.as_deref() == Some(b"v1"), "its clone pins it, too")?;
    drop(again);
    reclaim(&store)?;
    check_stored(&store, "a", &[4])?;
    check_gone(&store, "a", 1)
}
