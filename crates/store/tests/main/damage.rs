//! Damage to the sorted files and the manifest of a whole store, with a part of its commits in the log and in memory.
//!
//! Hunts: damage that is read as if it were data, that hides what another tier has, or that ends in a panic or a hang; an error that does not
//! say which file.

use std::collections::BTreeMap;

use thermocline_io::{FileId, SimDisk};
use thermocline_store::Store;
use thermocline_tier::{EntryKind, Error, ErrorKind, KeyRange, Version};

use super::story::{Below, Numbers};
use super::tiered::{hot, open, open_tiers, options};
use super::{T, U, batch};

const KEYS: u64 = 24;
/// Bits that are flipped in each file, and places where it is cut.
const FLIPS: u64 = 150;
const CUTS: u64 = 30;

/// What each key has at a version.
type State = BTreeMap<(EntryKind, String), String>;

/// A store of several levels, closed, and its states by version.
fn sample() -> (SimDisk, Vec<State>) {
    let (disk, mut numbers, mut states) = (SimDisk::new(5), Numbers(5), vec![State::new()]);
    let store = open(&disk, Below::Warm, options());
    for version in 1..=14_u64 {
        let mut state = states[states.len() - 1].clone();
        for table in [T, U] {
            let mut writes = Vec::new();
            for key in 0..KEYS {
                let (name, text) = (format!("key {key:02}"), format!("{version} {}", "of some length ".repeat(3)));
                match numbers.below(4) {
                    0 | 1 => {
                        writes.push(format!("{name}={text}"));
                        state.insert((table, name), text);
                    }
                    2 => {
                        writes.push(name.clone());
                        state.remove(&(table, name));
                    }
                    _ => {}
                }
            }
            let writes: Vec<&str> = writes.iter().map(String::as_str).collect();
            let version = Version(2 * version - u64::from(table == T));
            store.commit_at(version, batch(table, &writes)).unwrap();
            states.push(state.clone());
        }
        if version % 3 == 0 {
            store.flush().unwrap();
        }
        if version == 9 {
            store.compact(T, &KeyRange::all()).unwrap();
        }
    }
    let stats = store.stats();
    assert!(stats.flushes > 2 && store.file_counters().rewritten_bytes > 0 && stats.tiers.tables.len() == 2, "{stats:?}");
    store.close().unwrap();
    (disk, states)
}

fn check_error(error: &Error, file: FileId, repro: &str) {
    let is_expected = matches!(error.kind(), ErrorKind::Corruption | ErrorKind::UnsupportedFormat | ErrorKind::ForeignFile);
    let text = error.to_string();
    // What a manifest says of other files may be what does not agree with these.
    let is_manifest = matches!(file, FileId::Manifest(_));
    let is_named = text.contains(&file.to_string()) || is_manifest && (text.contains("sst-") || text.contains("wal-"));
    assert!(is_expected && is_named, "{repro}: {text}, which does not name {file}");
}

/// Compares every answer of a damaged store with what it must be; whether damage was found.
fn check(image: &SimDisk, file: FileId, states: &[State], repro: &str) -> bool {
    let opened = open_tiers(image, hot().over(|request| Below::Warm.open(request)), options());
    let store: Store = match opened {
        Ok(store) => store,
        Err(error) => {
            check_error(&error, file, repro);
            return true;
        }
    };
    let mut is_found = false;
    for (at, state) in states.iter().enumerate() {
        let at = Version(at as u64);
        for table in [T, U] {
            for key in 0..KEYS {
                let name = format!("key {key:02}");
                match store.get_at(table, name.as_bytes(), at) {
                    Ok(value) => {
                        let expected = state.get(&(table, name.clone()));
                        assert_eq!(value.as_deref(), expected.map(String::as_bytes), "{repro}: {name} of {table} at {at}");
                    }
                    Err(error) => {
                        check_error(&error, file, repro);
                        is_found = true;
                    }
                }
            }
        }
    }
    for table in [T, U] {
        let newest = &states[states.len() - 1];
        let expected: Vec<_> = newest.iter().filter(|((of, _), _)| *of == table).map(|((_, key), value)| (key, value)).collect();
        let mut rows = 0;
        for row in store.snapshot().unwrap().range::<&[u8]>(table, ..) {
            match row {
                Ok((key, value)) => {
                    let right = expected.get(rows).is_some_and(|(of, text)| key == of.as_bytes() && value == text.as_bytes());
                    assert!(right, "{repro}: row {rows} of {table}");
                    rows += 1;
                }
                Err(error) => {
                    check_error(&error, file, repro);
                    is_found = true;
                    rows = expected.len();
                    break;
                }
            }
        }
        assert_eq!(rows, expected.len(), "{repro}: rows of {table}");
    }
    if let Err(error) = store.verify() {
        check_error(&error, file, repro);
        is_found = true;
    }
    is_found
}

#[test]
fn damaged_files_below_a_store_give_right_answers_or_errors_that_name_them() {
    let (disk, states) = sample();
    let files: Vec<(FileId, u64)> =
        disk.files().into_iter().filter(|(file, _)| matches!(file, FileId::Sst(_) | FileId::Manifest(_))).collect();
    assert!(files.iter().filter(|(file, _)| matches!(file, FileId::Sst(_))).count() >= 2, "{files:?}");
    for (file, len) in files {
        let is_sorted_file = matches!(file, FileId::Sst(_));
        let mut found = 0;
        for flip in 0..FLIPS {
            // Each at another place of its part of the file.
            let bit = (flip * len * 8 + flip * 5) / FLIPS;
            let image = disk.duplicate();
            assert!(image.flip_bit(file, bit));
            let is_found = check(&image, file, &states, &format!("bit {bit} of {file}"));
            assert!(is_found || !is_sorted_file, "bit {bit} of {file}");
            found += u64::from(is_found);
        }
        for cut in 0..CUTS {
            let image = disk.duplicate();
            assert!(image.truncate_file(file, len * cut / CUTS));
            let is_found = check(&image, file, &states, &format!("{file} cut at {} of {len}", len * cut / CUTS));
            assert!(is_found || !is_sorted_file, "{file} cut at {} of {len}", len * cut / CUTS);
            found += u64::from(is_found);
        }
        println!("{file}: {found} of {} damages found", FLIPS + CUTS);
        assert!(found > 0, "{file}");
    }
}
