//! Clears and purges beside snapshots. They hunt clears that reach back into pinned versions, purges that pull rows away from under
//! a pin, and either coming undone by a restart.

use thermocline_store::{Batch, Durability, Snapshot, Store};
use thermocline_tier::{ErrorKind, KeyRange, Result};

use crate::backend::Capability;
use crate::failure::{CaseFailure, CaseResult};
use crate::harness::{OTHER, TABLE, expect, expect_error, expect_that};
use crate::notation;
use crate::store_backend::StoreBackend;
use crate::store_cases::ledger::Ledger;

/// The rows of the default table in a snapshot, forward, in pages and backward, which must agree.
fn rows(snapshot: &Snapshot) -> std::result::Result<String, CaseFailure> {
    let text = |rows: Vec<(bytes::Bytes, bytes::Bytes)>| {
        notation::joined(rows.iter().map(|(key, value)| format!("{}={}", notation::bytes(key), notation::bytes(value))))
    };
    let forward = snapshot.scan(TABLE, KeyRange::all()).collect::<Result<Vec<_>>>()?;
    let mut reverse = snapshot.scan(TABLE, KeyRange::all()).rev().collect::<Result<Vec<_>>>()?;
    reverse.reverse();
    let page = snapshot.page(TABLE, KeyRange::all(), 100)?.entries;
    let forward = text(forward);
    expect(|| "rows from the end".into(), &forward, &text(reverse))?;
    expect(|| "a page of all rows".into(), &forward, &text(page))?;
    Ok(forward)
}

pub(crate) fn case_072_pinned_snapshot_keeps_rows_of_a_cleared_table(backend: &StoreBackend) -> CaseResult {
    let disk = backend.disk();
    let store = backend.open(&disk, StoreBackend::options())?;
    let mut ledger = Ledger::new();
    let before = ledger.commit(&store, &["a=1", "b=2"], Durability::Sync)?;
    let pinned = store.snapshot()?;
    let mut open_scan = store.snapshot()?.scan(TABLE, KeyRange::all());
    let first = open_scan.next().transpose()?;
    expect_that(first.is_some(), "a scan has a first row")?;
    let cleared = ledger.clear(&store)?;
    expect(|| "rows of the pinned snapshot".into(), "a=1 b=2", &rows(&pinned)?)?;
    expect(|| "rows of the latest state".into(), "", &rows(&store.snapshot()?)?)?;
    expect_that(store.get(TABLE, b"a")?.is_none(), "a is gone from the clear on")?;
    expect(|| "the answer from the clear on".into(), &format!("~@{cleared}"), &notation::answer(&store.lookup(TABLE, b"a")?))?;
    expect_that(pinned.get(TABLE, b"a")?.as_deref() == Some(b"1"), "the pinned snapshot still has a")?;
    expect_that(open_scan.count() == 1, "a scan that was open goes on to its second and last row")?;

    ledger.commit(&store, &["b=new"], Durability::Sync)?;
    expect(|| "rows written after the clear".into(), "b=new", &rows(&store.snapshot()?)?)?;
    expect(|| "rows of the pinned snapshot".into(), "a=1 b=2", &rows(&pinned)?)?;
    let versions: Vec<_> = store.history(TABLE, b"b")?.map(|entry| entry.value.is_some()).collect();
    expect(|| "the history of b: written, cleared, written".into(), "[true, false, true]", &format!("{versions:?}"))?;
    drop(pinned);
    store.close()?;
    let store = backend.open(&disk, StoreBackend::options())?;
    expect(|| "rows below the clear after reopen".into(), "a=1 b=2", &rows(&store.at(before)?)?)?;
    expect(|| "rows at the clear after reopen".into(), "", &rows(&store.at(cleared)?)?)?;
    ledger.check(&store, ledger.durable)
}

pub(crate) fn case_083_purge_is_refused_by_the_name_of_the_pin(backend: &StoreBackend) -> CaseResult {
    let disk = backend.disk();
    let store = backend.open(&disk, StoreBackend::options())?;
    let mut ledger = Ledger::new();
    let pinned_at = ledger.commit(&store, &["a=1"], Durability::Sync)?;
    let pinned = store.snapshot()?;
    let last = ledger.commit(&store, &["a=2", "b=2"], Durability::Sync)?;
    let scan = store.snapshot()?.scan(TABLE, KeyRange::all());
    let names_oldest = |kind: &ErrorKind| match kind {
        ErrorKind::Pinned { pin, version } => pin.starts_with("snapshot ") && *version == pinned_at,
        _ => false,
    };
    expect_error("a purge below which a snapshot reads", "Pinned, by that snapshot", store.purge_table(TABLE), names_oldest)?;
    expect_that(store.last_version() == last, "a refused purge makes no version")?;
    ledger.check(&store, last)?;
    drop(pinned);
    let is_pinned = |kind: &ErrorKind| matches!(kind, ErrorKind::Pinned { version, .. } if *version == last);
    expect_error("a purge beside an open scan", "Pinned, by the scan's snapshot", store.purge_table(TABLE), is_pinned)?;
    drop(scan);
    let purged = store.purge_table(TABLE)?;
    if backend.has(Capability::ExactStats) {
        // No read shows whether the rows are gone or only hidden.
        let left =
            store.stats().tiers.tables.into_iter().find(|(table, _)| *table == TABLE).map_or(0, |(_, stats)| stats.entries);
        expect(|| "entries left by the purge".into(), "0", &left.to_string())?;
    }
    let check = |store: &Store| -> CaseResult {
        expect(|| "rows after the purge".into(), "", &rows(&store.snapshot()?)?)?;
        expect_that(store.history(TABLE, b"a")?.next().is_none(), "the purge takes the history away")?;
        expect_that(store.at(last)?.get(OTHER, b"a")?.as_deref() == Some(b"2"), "another table keeps its history")?;
        let is_reclaimed = |kind: &ErrorKind| matches!(kind, ErrorKind::VersionReclaimed { horizon, .. } if *horizon == purged);
        expect_error("reading below the purge", "VersionReclaimed", store.get_at(TABLE, b"a", last), is_reclaimed)
    };
    check(&store)?;
    store.close()?;
    check(&backend.open(&disk, StoreBackend::options())?)
}

pub(crate) fn case_086_drop_rule_of_a_commit_spares_what_it_writes(backend: &StoreBackend) -> CaseResult {
    let disk = backend.disk();
    let store = backend.open(&disk, StoreBackend::options())?;
    let keep_one = |value: &[u8]| {
        let mut batch = Batch::new();
        batch.put(TABLE, b"a", value).keep_last(TABLE, b"a", 1);
        batch
    };
    let versions = |store: &Store| -> std::result::Result<String, CaseFailure> {
        Ok(notation::joined(store.history(TABLE, b"a")?.map(|entry| entry.version.to_string())))
    };
    let first = store.commit(keep_one(b"1"))?;
    store.run_until_idle();
    expect(|| "versions after the first commit".into(), &first.to_string(), &versions(&store)?)?;
    let is_too_low = |kind: &ErrorKind| matches!(kind, ErrorKind::VersionNotIncreasing { .. });
    expect_error("a commit at an old version", "VersionNotIncreasing", store.commit_at(first, keep_one(b"x")), is_too_low)?;
    store.run_until_idle();
    expect(|| "versions after a commit that failed".into(), &first.to_string(), &versions(&store)?)?;

    // What a snapshot sees stays as long as that.
    let pinned = store.snapshot()?;
    let second = store.commit(keep_one(b"2"))?;
    store.run_until_idle();
    expect(|| "versions beside a snapshot".into(), &format!("{second} {first}"), &versions(&store)?)?;
    expect_that(pinned.get(TABLE, b"a")?.as_deref() == Some(b"1"), "the snapshot still reads its version")?;
    let mut plain = Batch::new();
    plain.put(TABLE, b"a", b"3");
    let third = store.commit(plain)?;
    // The rule is that of its commit: what came after it is not concerned, also after a restart that finds the rule in the log.
    drop(pinned);
    store.close()?;
    let store = backend.open(&disk, StoreBackend::options())?;
    store.run_until_idle();
    expect(|| "versions after a restart".into(), &format!("{third} {second}"), &versions(&store)?)?;
    expect_that(store.get(TABLE, b"a")?.as_deref() == Some(b"3"), "the newest value stands")?;
    store.close()?;
    let store = backend.open(&disk, StoreBackend::options())?;
    expect(|| "versions after another restart".into(), &format!("{third} {second}"), &versions(&store)?)
}
