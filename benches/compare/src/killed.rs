//! Whether an engine keeps what `Buffered` promises: that an acknowledged commit survives the death of the process.
//!
//! A test cannot die and go on. It starts its own program anew, as the same test alone, with a directory in the environment; that one commits
//! and aborts, which runs no destructor and flushes nothing; what it left is read here.

use std::path::Path;
use std::process::Command;

use thermocline_yardstick::engine::{At, Durability, Engine, Options, Write};

const DOOMED: &str = "THERMOCLINE_DOOMED";
const COMMITS: u64 = 1_000;

fn options(directory: &Path) -> Options {
    let directory = directory.to_owned();
    Options { directory, cache_bytes: 64 << 20, data_bytes: 16 << 20, key_len: None, value_len: None, has_durable_commits: false }
}

fn commit_and_die<E: Engine>(directory: &Path) -> ! {
    let store = E::open(&options(directory)).expect("a store");
    for version in 1..=COMMITS {
        let key = version.to_be_bytes();
        store.commit(Some(version), &[Write { table: 0, key: &key, value: Some(&key) }], Durability::Buffered).expect("a commit");
    }
    std::process::abort()
}

/// The test of an engine, which lies in this module. Engines that say that they promise less are let off, and what they kept is printed.
pub(crate) fn check<E: Engine>(module: &str) {
    if let Some(directory) = std::env::var_os(DOOMED) {
        commit_and_die::<E>(Path::new(&directory));
    }
    let directory = tempfile::tempdir().expect("a directory for the store");
    let test = format!("{module}::keeps_commits_when_the_process_dies");
    let program = std::env::current_exe().expect("this program");
    let output = Command::new(program).args(["--exact", &test]).env(DOOMED, directory.path()).output().expect("a child");
    // Of the program under test, not of the runner: a test that fails ends it with a code.
    assert!(output.status.code().is_none(), "it did not abort: {}", String::from_utf8_lossy(&output.stdout));

    let promises_less = E::PROMISES_LESS_IN.contains(&"load");
    let kept = |store: &E| {
        let is_there = |version: &u64| {
            let mut found = None;
            let outcome = store.get(0, &version.to_be_bytes(), At::Latest, &mut |value| found = value.map(<[u8]>::to_vec));
            outcome.is_ok() && found.is_some_and(|value| value == version.to_be_bytes())
        };
        (1..=COMMITS).filter(is_there).count()
    };
    let kept = E::open(&options(directory.path())).map(|store| kept(&store));
    println!("{}: {kept:?} of {COMMITS} commits are there after the process died", E::NAME);
    let is_whole = kept.is_ok_and(|kept| kept == COMMITS as usize);
    assert!(is_whole || promises_less, "{} lost acknowledged commits, and does not say so", E::NAME);
}
