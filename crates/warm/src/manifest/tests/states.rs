//! What an edit does to a state, and what it must not be.

use bytes::Bytes;
use thermocline_tier::{Checkpoint, EntryKind, TableStats, Version};

use super::support::{Random, file, key, random_edit};
use crate::manifest::state::{Counters, LEVEL_MAX, SUMMARY_SIZE_BYTES_MAX};
use crate::manifest::{Edit, State};
use crate::meta::FileMeta;

fn drop_of(prefix: &[u8], version: u64, marker: u64) -> (crate::meta::TableKey, Version, u64) {
    (key(EntryKind::Multi, prefix), Version(version), marker)
}

/// Files 1 to 4: two on level 0, two on level 2; a drop and a clear.
fn sample() -> State {
    let mut state = State::default();
    let edit = Edit {
        add: vec![file(1, 0), file(2, 0), file(3, 2), file(4, 2)],
        tables: vec![EntryKind::Multi],
        horizon: Some(Version(5)),
        drops: vec![drop_of(b"k", 3, 1)],
        clears: vec![(EntryKind::Multi, 2)],
        ..Edit::default()
    };
    state.apply(&edit).unwrap();
    state
}

#[test]
fn edit_changes_what_it_names_and_the_counters() {
    let mut state = sample();
    assert_eq!((state.file_number_next, state.rank_last, state.marker_last), (5, 4, 2));
    let edit = Edit {
        add: vec![FileMeta { rank: 3, applied: 3, ..file(9, 1) }],
        remove: vec![1, 4],
        moves: vec![(2, 2)],
        tables: vec![EntryKind::source(4), EntryKind::Multi],
        checkpoint: Some(Checkpoint { version: Version(8), state: b"state".as_slice().into() }),
        horizon: None,
        drops: vec![drop_of(b"k", 3, 3), drop_of(b"l", 3, 3)],
        clears: vec![],
        forget_drops: vec![(key(EntryKind::Multi, b"k"), Version(3))],
        forget_clears: vec![EntryKind::Multi],
        summaries: vec![(3, Bytes::from_static(b"noted"))],
    };
    let (flushed, rewritten) = (state.flushed_bytes, state.rewritten_bytes);
    state.apply(&edit).unwrap();
    assert_eq!(
        (state.flushed_bytes, state.rewritten_bytes),
        (flushed, rewritten + file(9, 1).size_bytes),
        "moving writes nothing"
    );
    let levels: Vec<(u64, u8)> = state.files.values().map(|file| (file.number, file.level)).collect();
    assert_eq!(levels, [(2, 2), (3, 2), (9, 1)]);
    assert_eq!((state.file_number_next, state.rank_last, state.marker_last), (10, 4, 3));
    assert_eq!(state.drops.values().copied().collect::<Vec<_>>(), [3, 3], "what is forgotten and made anew is there");
    assert!(state.clears.is_empty());
    assert_eq!(state.tables.len(), 2);
    assert_eq!(state.files[&3].summary, b"noted"[..]);
    assert_eq!((state.checkpoint.version, state.horizon), (Version(8), Version(5)));
}

fn add(file: FileMeta) -> Edit {
    Edit { add: vec![file], ..Edit::default() }
}

fn with_tables(tables: &[(EntryKind, u64, u64, u64)]) -> Edit {
    let stats = |keys, entries, tombstones| TableStats { keys, entries, tombstones, user_bytes: 0 };
    let tables: Vec<_> =
        tables.iter().map(|(table, keys, entries, tombstones)| (*table, stats(*keys, *entries, *tombstones))).collect();
    let (first, last) = (tables.first().map(|table| table.0), tables.last().map(|table| table.0));
    let mut made = FileMeta { tables, ..file(9, 0) };
    made.first.table = first.unwrap_or(EntryKind::Multi);
    made.last.table = last.unwrap_or(EntryKind::Multi);
    add(made)
}

#[test]
fn impossible_edits_are_refused_and_change_nothing() {
    let (multi, source) = (EntryKind::Multi, EntryKind::source(1));
    let cases: Vec<(&str, Edit)> = vec![
        ("file 7 is removed or moved, but is not live", Edit { remove: vec![7], ..Edit::default() }),
        ("file 7 is removed or moved, but is not live", Edit { moves: vec![(7, 1)], ..Edit::default() }),
        ("file 1 is removed or moved twice", Edit { remove: vec![1, 1], ..Edit::default() }),
        ("file 1 is removed or moved twice", Edit { remove: vec![1], moves: vec![(1, 1)], ..Edit::default() }),
        ("file 1 is moved to level 7", Edit { moves: vec![(1, LEVEL_MAX + 1)], ..Edit::default() }),
        ("file 1 is added, but its number is in use", add(file(1, 0))),
        ("file 1 is added, but its number is in use", Edit { remove: vec![1], ..add(file(1, 0)) }),
        ("file 9 is added, but its number is in use", Edit { add: vec![file(9, 0), file(9, 1)], ..Edit::default() }),
        ("file 9: level 255", add(FileMeta { level: 255, ..file(9, 0) })),
        ("file 0: its number is out of range", add(FileMeta { number: 0, ..file(9, 0) })),
        ("its number is out of range", add(FileMeta { number: u64::MAX, ..file(9, 0) })),
        ("file 9: it is empty", add(FileMeta { size_bytes: 0, ..file(9, 0) })),
        ("first key is above its last", add(FileMeta { first: key(multi, b"~"), ..file(9, 0) })),
        ("oldest version 19 is above its newest 18", add(FileMeta { version_min: Version(19), ..file(9, 0) })),
        ("a key of 65536 bytes", add(FileMeta { last: key(multi, &vec![b'~'; 65_536]), ..file(9, 0) })),
        ("file 7 is summarized, but is not live", Edit { summaries: vec![(7, Bytes::new())], ..Edit::default() }),
        (
            "file 1 is summarized, but is not live, or changed otherwise",
            Edit { remove: vec![1], summaries: vec![(1, Bytes::new())], ..Edit::default() },
        ),
        (
            "file 1: a summary of 65537 bytes",
            Edit { summaries: vec![(1, vec![0; SUMMARY_SIZE_BYTES_MAX + 1].into())], ..Edit::default() },
        ),
        ("a summary of 65537 bytes", add(FileMeta { summary: vec![0; SUMMARY_SIZE_BYTES_MAX + 1].into(), ..file(9, 0) })),
        ("applied markers up to 3, but the last one is 2", add(FileMeta { applied: 3, ..file(9, 0) })),
        ("other tables than it lists", add(FileMeta { tables: vec![], ..file(9, 0) })),
        ("other tables than it lists", add(FileMeta { last: key(source, b""), ..file(9, 0) })),
        ("its tables are not in order", with_tables(&[(multi, 1, 1, 0), (source, 1, 1, 0), (source, 1, 1, 0)])),
        ("0 keys, 1 entries", with_tables(&[(multi, 0, 1, 0)])),
        ("2 keys, 1 entries", with_tables(&[(multi, 2, 1, 0)])),
        ("2 tombstones", with_tables(&[(multi, 1, 1, 2)])),
        ("files 3 and 4 of level 2 overlap", Edit { remove: vec![3], ..add(FileMeta { number: 3, ..file(4, 2) }) }),
        ("files 3 and 9 of level 2 overlap", add(FileMeta { first: file(3, 2).last, last: file(3, 2).last, ..file(9, 2) })),
        ("the horizon goes back from 5 to 4", Edit { horizon: Some(Version(4)), ..Edit::default() }),
        ("a drop of version 1 has marker 2, but 2", Edit { drops: vec![drop_of(b"k", 1, 2)], ..Edit::default() }),
        ("a key of 65536 bytes", Edit { drops: vec![drop_of(&vec![0; 65_536], 1, 3)], ..Edit::default() }),
        ("a clear of table multi has marker 0, but 2", Edit { clears: vec![(multi, 0)], ..Edit::default() }),
        (
            "a drop of version 4 is forgotten that is not there",
            Edit { forget_drops: vec![(key(multi, b"k"), Version(4))], ..Edit::default() },
        ),
        (
            "a drop of version 3 is forgotten that is not there",
            Edit { forget_drops: vec![(key(multi, b"k"), Version(3)); 2], ..Edit::default() },
        ),
        ("a clear of table source:1 is forgotten", Edit { forget_clears: vec![source], ..Edit::default() }),
        ("a clear of table multi is forgotten", Edit { forget_clears: vec![multi, multi], ..Edit::default() }),
    ];
    for (expected, edit) in cases {
        let mut state = sample();
        // Removing file 3 and adding it on file 4's keys is a number used twice before it is an overlap.
        let expected = if expected.starts_with("files 3 and 4") { "file 3 is added, but its number is in use" } else { expected };
        let why = state.apply(&edit).expect_err(expected);
        assert!(why.contains(expected), "expected `{expected}`, got `{why}`");
        assert_eq!(state, sample(), "{expected}");
    }
}

#[test]
fn files_may_touch_each_other_in_level_0_only_and_swap_places_in_one_edit() {
    let mut state = sample();
    let over_all = FileMeta { first: file(1, 0).first, last: file(9, 0).last, ..file(9, 0) };
    state.apply(&add(over_all.clone())).unwrap();
    assert!(state.apply(&Edit { moves: vec![(9, 2)], ..Edit::default() }).unwrap_err().contains("overlap"));
    state.apply(&Edit { moves: vec![(9, 1)], ..Edit::default() }).unwrap();
    let swap = Edit { moves: vec![(9, 2), (3, 1), (4, 1)], ..Edit::default() };
    state.apply(&swap).unwrap();
    let replace =
        Edit { remove: vec![9], moves: vec![(3, 2)], add: vec![FileMeta { level: 1, ..file(10, 1) }], ..Edit::default() };
    state.apply(&replace).unwrap();
    assert!(state.check_disjoint().is_ok());
}

#[test]
fn counters_of_a_snapshot_cannot_lie_below_what_it_lists() {
    let state = sample();
    let edit = Edit {
        add: state.files.values().cloned().collect(),
        drops: vec![drop_of(b"k", 3, 1)],
        clears: vec![(EntryKind::Multi, 2)],
        ..Edit::default()
    };
    let counters = state.counters();
    assert!(State::restore(edit.clone(), counters).is_ok());
    for (counters, expected) in [
        (Counters { file_number_next: 4, ..counters }, "next file number 4 is in use"),
        (Counters { rank_last: 3, ..counters }, "last rank 3, but a file of rank 4"),
        (Counters { marker_last: 1, ..counters }, "last marker 1, but a marker of sequence 2"),
    ] {
        assert_eq!(State::restore(edit.clone(), counters).unwrap_err(), expected);
    }
    let forgetful = Edit { forget_clears: vec![EntryKind::Multi], ..edit.clone() };
    assert!(State::restore(forgetful, counters).is_err());
    let removing = Edit { remove: vec![1], ..edit };
    assert!(State::restore(removing, counters).is_err());
}

#[test]
fn replaying_gives_what_applying_gave() {
    let mut random = Random(5);
    let (mut applied, mut replayed) = (State::default(), State::default());
    for _ in 0..300 {
        let (edit, after) = random_edit(&mut random, &applied);
        applied = after;
        replayed.replay(edit).unwrap();
    }
    assert_eq!(applied, replayed);
    let Counters { file_number_next, marker_last, .. } = applied.counters();
    assert!(file_number_next > 300 && marker_last > 50, "{file_number_next}, {marker_last}");
    assert!(applied.files.len() > 10 && !applied.drops.is_empty(), "{} files", applied.files.len());
}
