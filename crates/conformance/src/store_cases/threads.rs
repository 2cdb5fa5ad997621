//! Writers on threads of their own, who leave the choice of versions to the store, beside readers of snapshots. They hunt commits that
//! are seen in part, versions given twice, and snapshots that change.

use std::collections::BTreeSet;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use thermocline_store::{Batch, Store};
use thermocline_tier::{KeyRange, Result, Version};

use crate::failure::{CaseFailure, CaseResult};
use crate::harness::{OTHER, TABLE, expect, expect_that};
use crate::store_backend::StoreBackend;

const WRITERS: usize = 3;
const COMMITS: usize = 100;

/// Each commit of an owner counts its rows in both tables up by one.
fn write(store: &Store, owner: usize) -> std::result::Result<Vec<Version>, CaseFailure> {
    let mut versions = Vec::with_capacity(COMMITS);
    for number in 1..=COMMITS {
        let mut batch = Batch::new();
        for table in [TABLE, OTHER] {
            for key in ["x", "y"] {
                batch.put(table, format!("{owner}-{key}").as_bytes(), number.to_string().as_bytes());
            }
        }
        versions.push(store.commit(batch)?);
    }
    expect_that(versions.is_sorted(), "the versions of one thread's commits ascend")?;
    Ok(versions)
}

/// Checks that a snapshot shows each owner's rows of one commit, in both tables, and the same ones twice.
fn look(store: &Store) -> CaseResult {
    let snapshot = store.snapshot()?;
    let first = snapshot.scan(TABLE, KeyRange::all()).collect::<Result<Vec<_>>>()?;
    let other = snapshot.scan(OTHER, KeyRange::all()).collect::<Result<Vec<_>>>()?;
    expect_that(first == other, &format!("both tables show the same commits at {}", snapshot.version()))?;
    for pair in first.chunks(2) {
        let is_whole = matches!(pair, [(_, one), (_, two)] if one == two);
        expect_that(is_whole, &format!("both rows of an owner are of one commit at {}", snapshot.version()))?;
    }
    let mut again = snapshot.scan(TABLE, KeyRange::all()).rev().collect::<Result<Vec<_>>>()?;
    again.reverse();
    expect_that(first == again, &format!("a snapshot shows the same rows again at {}", snapshot.version()))
}

pub(crate) fn case_141_writers_and_readers_share_a_store(backend: &StoreBackend) -> CaseResult {
    let disk = backend.disk();
    let store = backend.open(&disk, StoreBackend::options())?;
    let writing = AtomicUsize::new(WRITERS);
    let read = || -> CaseResult {
        loop {
            let was_last = writing.load(Ordering::Acquire) == 0;
            look(&store)?;
            if was_last {
                return Ok(());
            }
        }
    };
    let given = thread::scope(|scope| {
        let (store, writing) = (&store, &writing);
        let writers: Vec<_> = (0..WRITERS)
            .map(|owner| {
                scope.spawn(move || {
                    let written = write(store, owner);
                    writing.fetch_sub(1, Ordering::Release);
                    written
                })
            })
            .collect();
        let readers: Vec<_> = (0..2).map(|_| scope.spawn(read)).collect();
        let written = writers.into_iter().map(|writer| writer.join().unwrap_or_else(|payload| resume_unwind(payload)));
        let given = written.collect::<std::result::Result<Vec<_>, CaseFailure>>();
        let seen = readers.into_iter().map(|reader| reader.join().unwrap_or_else(|payload| resume_unwind(payload)));
        seen.fold(Ok(()), std::result::Result::and)?;
        given
    })?;
    let distinct: BTreeSet<Version> = given.into_iter().flatten().collect();
    expect(|| "the number of versions given".into(), &(WRITERS * COMMITS).to_string(), &distinct.len().to_string())?;
    store.close()?;
    drop(store);
    let store = backend.open(&disk, StoreBackend::options())?;
    look(&store)?;
    for owner in 0..WRITERS {
        let found = store.get(TABLE, format!("{owner}-x").as_bytes())?;
        expect_that(found.as_deref() == Some(COMMITS.to_string().as_bytes()), "the last commit of every writer is there")?;
    }
    Ok(())
}
