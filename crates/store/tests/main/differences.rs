//! Differences and changes.

use std::collections::BTreeMap;

use proptest::prelude::*;
use thermocline_store::{Batch, DiffEntry, Scope, Store};
use thermocline_tier::{KeyRange, Result, Version};

use super::{T, U, commit, store};

fn lines(diff: impl Iterator<Item = Result<DiffEntry>>) -> Vec<String> {
    let text = |value: Option<bytes::Bytes>| value.map_or("~".into(), |value| String::from_utf8(value.to_vec()).unwrap());
    diff.map(|entry| {
        entry.map(|entry| format!("{} {} {}", text(Some(entry.key)), text(entry.before), text(entry.after))).unwrap()
    })
    .collect()
}

fn diff(store: &Store, from: u64, to: u64) -> Vec<String> {
    lines(store.diff(T, KeyRange::all(), Version(from)..Version(to)).unwrap())
}

#[test]
fn a_difference_is_net_ordered_and_has_both_values() {
    let (store, _disk) = store();
    commit(&store, T, &["a=1", "b=1", "c=1"]);
    commit(&store, T, &["a=2", "d=2", "b"]);
    commit(&store, T, &["d", "c=1", "b=3"]);
    commit(&store, U, &["a=u"]);
    assert_eq!(diff(&store, 1, 3), ["a 1 2", "b 1 3"]);
    assert_eq!(diff(&store, 3, 1), ["a 2 1", "b 3 1"]);
    assert_eq!(diff(&store, 0, 2), ["a ~ 2", "c ~ 1", "d ~ 2"]);
    assert_eq!(diff(&store, 2, 2), [""; 0]);
    assert_eq!(diff(&store, 3, 99), [""; 0]);
    let descending = store.diff(T, KeyRange::new("b"..), Version(0)..Version(2)).unwrap().descending().unwrap();
    assert_eq!(lines(descending), ["d ~ 2", "c ~ 1"]);
}

#[test]
fn a_difference_over_a_clear_names_every_row_that_went() {
    let (store, _disk) = store();
    commit(&store, T, &["a=1", "b=1"]);
    store.clear_table(T).unwrap();
    commit(&store, T, &["b=1", "c=3"]);
    assert_eq!(diff(&store, 1, 2), ["a 1 ~", "b 1 ~"]);
    assert_eq!(diff(&store, 1, 3), ["a 1 ~", "c ~ 3"]);
    assert_eq!(diff(&store, 2, 3), ["b ~ 1", "c ~ 3"]);
    assert_eq!(diff(&store, 3, 1), ["a ~ 1", "c 3 ~"]);
}

#[test]
fn a_difference_resumes_from_its_token_after_any_entry() {
    let (store, _disk) = store();
    for round in 0..3 {
        let mut batch = Batch::new();
        for key in 0..600_u32 {
            batch.put(T, &key.to_be_bytes(), &[round]);
        }
        store.commit(batch).unwrap();
    }
    for (from, to) in [(1, 3), (3, 1)] {
        for taken in [0, 1, 255, 256, 257, 599, 600] {
            let mut whole = store.diff(T, KeyRange::all(), Version(from)..Version(to)).unwrap();
            assert_eq!(whole.by_ref().take(taken).count(), taken);
            let rest: Vec<_> = store.resume_diff(&whole.cursor().encode()).unwrap().map(Result::unwrap).collect();
            assert_eq!(rest, whole.map(Result::unwrap).collect::<Vec<_>>());
            assert_eq!(rest.len(), 600 - taken);
        }
    }
}

#[test]
fn a_difference_up_to_the_latest_stays_at_the_version_it_began_with() {
    let (store, _disk) = store();
    commit(&store, T, &["a=1", "b=1", "c=1"]);
    let mut first = store.diff(T, KeyRange::all(), Version::ZERO..Version::MAX).unwrap();
    assert_eq!(lines(first.by_ref().take(1)), ["a ~ 1"]);
    let token = first.cursor().encode();
    commit(&store, T, &["b=2", "d=2"]);
    assert_eq!(lines(store.resume_diff(&token).unwrap()), ["b ~ 1", "c ~ 1"]);
    assert_eq!(lines(first.descending().unwrap()), ["c ~ 1", "b ~ 1", "a ~ 1"]);
}

#[test]
fn changes_give_every_commit_once_and_go_on_where_they_ended() {
    let (store, _disk) = store();
    let mut all = store.changes(Version::ZERO).unwrap();
    assert!(all.next().is_none());
    commit(&store, T, &["a=1", "b=1"]);
    commit(&store, U, &["a"]);
    let commits: Vec<_> = all.by_ref().map(Result::unwrap).collect();
    assert_eq!(commits.iter().map(|commit| (commit.version.0, commit.changes.len())).collect::<Vec<_>>(), [(1, 2), (2, 1)]);
    assert_eq!((commits[1].changes[0].table, commits[1].changes[0].value.clone()), (U, None));
    store.clear_table(T).unwrap();
    let cleared = all.next().unwrap().unwrap();
    assert_eq!((cleared.version, &cleared.clears[..]), (Version(3), &[T][..]));
    assert!(all.next().is_none());
    assert_eq!(store.changes(Version(1)).unwrap().map(|commit| commit.unwrap().version.0).collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn changes_of_some_keys_alone_pass_over_all_other_commits() {
    let (store, _disk) = store();
    commit(&store, T, &["a=1", "b=1"]);
    commit(&store, U, &["a=1"]);
    commit(&store, T, &["a=2"]);
    commit(&store, T, &["c=3"]);
    let keys_of = |scope| {
        let of = |commit: thermocline_store::Commit| {
            let keys: Vec<_> = commit.changes.iter().map(|change| String::from_utf8(change.prefix.to_vec()).unwrap()).collect();
            format!("{}:{}", commit.version, keys.concat())
        };
        store.changes(Version::ZERO).unwrap().about(scope).map(|commit| of(commit.unwrap())).collect::<Vec<_>>()
    };
    assert_eq!(keys_of(Scope::Table(T)), ["1:ab", "3:a", "4:c"]);
    assert_eq!(keys_of(Scope::Range(T, KeyRange::new("b"..))), ["1:b", "4:c"]);
    assert_eq!(keys_of(Scope::Table(U)), ["2:a"]);
}

/// A step of a random history: writes of some keys, or a clear.
#[derive(Clone, Debug)]
enum Step {
    Write(Vec<(u8, Option<u8>)>),
    Clear,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let write = prop::collection::vec((0..12_u8, prop::option::of(0..3_u8)), 0..6).prop_map(Step::Write);
    prop::collection::vec(prop_oneof![8 => write, 1 => Just(Step::Clear)], 1..12)
}

proptest! {
    /// Against a model that keeps the whole state of every version.
    #[test]
    fn differences_changes_and_histories_agree_with_a_model(steps in steps()) {
        let (store, _disk) = store();
        let mut states = vec![BTreeMap::new()];
        for step in &steps {
            let mut state = states.last().cloned().unwrap_or_default();
            let mut batch = Batch::new();
            match step {
                Step::Clear => { state.clear(); batch.clear_table(T); }
                Step::Write(writes) => for (key, value) in writes {
                    if let Some(value) = value {
                        state.insert(*key, *value);
                        batch.put(T, &[*key], &[*value]);
                    } else {
                        state.remove(key);
                        batch.remove(T, &[*key]);
                    }
                },
            }
            store.commit(batch).unwrap();
            states.push(state);
        }
        let states: Vec<_> = (0..).map(Version).zip(&states).collect();
        for (from, before) in &states {
            for (to, after) in &states {
                let keys: std::collections::BTreeSet<u8> = before.keys().chain(after.keys()).copied().collect();
                let expected: Vec<_> = keys.into_iter().filter(|key| before.get(key) != after.get(key))
                    .map(|key| (vec![key], before.get(&key).map(|v| vec![*v]), after.get(&key).map(|v| vec![*v]))).collect();
                let found: Vec<_> = store.diff(T, KeyRange::all(), *from..*to).unwrap().map(Result::unwrap)
                    .map(|entry| (entry.key.to_vec(), entry.before.map(|v| v.to_vec()), entry.after.map(|v| v.to_vec()))).collect();
                prop_assert_eq!(&found, &expected);
                let mut back: Vec<_> = store.diff(T, KeyRange::all(), *from..*to).unwrap().descending().unwrap()
                    .map(|entry| entry.unwrap().key.to_vec()).collect();
                back.reverse();
                prop_assert_eq!(back, expected.into_iter().map(|entry| entry.0).collect::<Vec<_>>());
            }
        }
        for key in 0..12_u8 {
            let mut expected: Vec<(Version, Option<u8>)> = Vec::new();
            for (at, state) in &states {
                let (old, new) = (expected.first().and_then(|entry| entry.1), state.get(&key).copied());
                let wrote = at.0 > 0 && matches!(&steps[usize::try_from(at.0 - 1).unwrap()], Step::Write(writes) if writes.iter().any(|write| write.0 == key));
                if wrote || old != new {
                    expected.insert(0, (*at, new));
                }
                let found: Vec<_> = store.at(*at).unwrap().history(T, &[key]).unwrap()
                    .map(|entry| (entry.version, entry.value.map(|value| value[0]))).collect();
                prop_assert_eq!(&found, &expected);
            }
        }
    }
}
