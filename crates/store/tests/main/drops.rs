//! Commands of commits that drop versions of single keys: random ones beside snapshots and restarts, power cuts at every operation, and limits.
//!
//! Hunts: a version that goes although its rule spares it, or a snapshot reads it; one that stays; a command that a restart forgets, or carries
//! out on what came after its commit; files that have lost what a commit dropped that a power cut has taken back.

use std::collections::BTreeMap;

use thermocline_io::{CrashPoint, CrashProfile, Phase, SimDisk};
use thermocline_store::{Batch, CommitOptions, Durability, OpenMode, Snapshot, Store, StoreOptions};
use thermocline_tier::{DropRule, EntryKind, ErrorKind, KeyRange, Version};

use super::story::{Below, Numbers, Setup, open_as};
use super::tiered::{BELOW, open, options};
use super::{T, U, commit, store};

const KEYS: u64 = 4;

/// The versions of each key, oldest first, each with whether it is a value.
type Stored = BTreeMap<(EntryKind, u8), Vec<(u64, bool)>>;

#[derive(Clone, Debug)]
struct Command {
    version: u64,
    key: (EntryKind, u8),
    rule: DropRule,
}

#[derive(Clone, Debug, Default)]
struct Model {
    last: u64,
    stored: Stored,
    waiting: Vec<Command>,
}

impl Model {
    /// Carries out what waits, with some versions pinned. What is held then is known, whatever comes later.
    fn work(&mut self, pins: &[u64]) {
        let mut held = Vec::new();
        for Command { version, key, rule } in std::mem::take(&mut self.waiting) {
            let Some(entries) = self.stored.get_mut(&key) else { continue };
            let before = entries.clone();
            let count = before.iter().filter(|(stored, _)| *stored <= version).count();
            let mut number = 0;
            entries.retain(|(stored, _)| {
                number += 1;
                let is_newest = number + rule.keep_last.unwrap_or(0) > count;
                let is_selected = *stored <= version
                    && !is_newest
                    && *stored >= rule.from.0
                    && rule.up_to.is_none_or(|up_to| *stored < up_to.0);
                let next = before.get(number).map_or(u64::MAX, |(next, _)| *next);
                let is_pinned = pins.iter().any(|pin| (*stored..next).contains(pin));
                if is_selected && is_pinned {
                    held.push(Command { version, key, rule: DropRule::only(Version(*stored)) });
                }
                !is_selected || is_pinned
            });
        }
        self.waiting = held;
    }

    fn visible(&self, key: (EntryKind, u8), at: u64) -> Option<u64> {
        let newest = self.stored.get(&key)?.iter().rev().find(|(version, _)| *version <= at)?;
        newest.1.then_some(newest.0)
    }
}

fn name(key: u8) -> [u8; 2] {
    [b'k', key]
}

fn keys() -> impl Iterator<Item = (EntryKind, u8)> {
    [T, U].into_iter().flat_map(|table| (0..KEYS).map(move |key| (table, u8::try_from(key).unwrap())))
}

/// Commits some writes and commands to a store and to its model.
fn write(store: &Store, model: &mut Model, numbers: &mut Numbers, durability: Durability) {
    let version = model.last + 1 + numbers.below(2);
    let mut batch = Batch::new();
    for (table, key) in keys() {
        let kind = numbers.below(8);
        if kind < 4 {
            if kind == 0 {
                batch.remove(table, &name(key));
            } else {
                batch.put(table, &name(key), version.to_string().as_bytes());
            }
            model.stored.entry((table, key)).or_default().push((version, kind > 0));
        }
        let any = Version(numbers.below(version + 2));
        let count = usize::try_from(numbers.below(4)).unwrap();
        let rule = match numbers.below(12) {
            0 => DropRule::only(any),
            1 => DropRule { up_to: Some(any), ..DropRule::default() },
            2 => DropRule { keep_last: Some(count), ..DropRule::default() },
            3 => DropRule { up_to: Some(any), keep_last: Some(count), ..DropRule::default() },
            _ => continue,
        };
        batch.drop_versions(table, &name(key), rule);
        model.waiting.push(Command { version, key: (table, key), rule });
    }
    store.commit_with(batch, CommitOptions { version: Some(Version(version)), durability: Some(durability) }).unwrap();
    model.last = version;
}

/// What the store holds of every key, against the model.
fn check(store: &Store, model: &Model, context: &str) {
    for (table, key) in keys() {
        let found: Vec<(u64, bool)> =
            store.history(table, &name(key)).unwrap().map(|entry| (entry.version.0, entry.value.is_some())).collect();
        let mut expected = model.stored.get(&(table, key)).cloned().unwrap_or_default();
        expected.reverse();
        assert_eq!(found, expected, "{context}: {table} {key}");
        let value = store.get(table, &name(key)).unwrap();
        let expected = model.visible((table, key), u64::MAX).map(|version| version.to_string());
        assert_eq!(value.as_deref(), expected.as_ref().map(String::as_bytes), "{context}: {table} {key}");
    }
}

/// Who pins a version, and what is to be seen there as long as that.
struct Held {
    at: u64,
    /// `None` for a pin with a name, which survives restarts.
    snapshot: Option<Snapshot>,
    seen: Vec<Option<u64>>,
}

impl Held {
    fn check(&self, store: &Store, context: &str) {
        for ((table, key), seen) in keys().zip(&self.seen) {
            let value = match &self.snapshot {
                Some(snapshot) => snapshot.get(table, &name(key)),
                None => store.get_at(table, &name(key), Version(self.at)),
            };
            let expected = seen.map(|version| version.to_string());
            let at = self.at;
            assert_eq!(value.unwrap().as_deref(), expected.as_ref().map(String::as_bytes), "{context}: {table} {key} at {at}");
        }
    }
}

#[test]
fn rules_drop_what_they_select_and_nothing_that_is_pinned_whatever_comes_between() {
    let setups = [Setup::Hot, Setup::Over(Below::Warm, 1), Setup::Over(Below::Model, 2_000), Setup::Alone(Below::Warm, 2_000)];
    let mut waited = 0;
    for (setup, seed) in setups.into_iter().flat_map(|setup| (0..12).map(move |seed| (setup, seed))) {
        let (disk, mut numbers, mut model) = (SimDisk::new(seed), Numbers(seed), Model::default());
        let mut store = open_as(&disk, setup).unwrap();
        let mut pinned: Vec<Held> = Vec::new();
        let pins = |pinned: &[Held]| pinned.iter().map(|held| held.at).collect::<Vec<u64>>();
        for step in 0..100 {
            let context = format!("{setup:?} seed {seed} step {step}");
            match numbers.below(12) {
                0..5 => write(&store, &mut model, &mut numbers, Durability::Buffered),
                5 if setup != Setup::Hot => store.flush().unwrap(),
                6 if setup != Setup::Hot => store.compact(T, &KeyRange::all()).unwrap(),
                7 => {
                    let at = numbers.below(model.last + 1);
                    let seen = keys().map(|key| model.visible(key, at)).collect();
                    let is_named = numbers.below(2) == 0;
                    if is_named {
                        store.pin(&at.to_string(), Version(at)).unwrap();
                    }
                    pinned.push(Held { at, snapshot: (!is_named).then(|| store.at(Version(at)).unwrap()), seen });
                }
                8 | 9 if !pinned.is_empty() => {
                    let number = numbers.below(pinned.len() as u64);
                    let gone = pinned.swap_remove(usize::try_from(number).unwrap());
                    // Another pin of the same version has the same name.
                    let is_last = !pinned.iter().any(|held| held.snapshot.is_none() && held.at == gone.at);
                    if gone.snapshot.is_none() && is_last {
                        store.release_pin(&gone.at.to_string()).unwrap();
                    }
                }
                10 if numbers.below(4) == 0 => {
                    pinned.retain(|held| held.snapshot.is_none());
                    store.close().unwrap();
                    store = open_as(&disk, setup).unwrap();
                    model.work(&pins(&pinned));
                    check(&store, &model, &format!("{context}: opened"));
                }
                _ => {}
            }
            // Not always, so that commands wait while others come; what was seen before by who pins it must not change.
            if numbers.below(3) > 0 {
                store.run_until_idle();
                model.work(&pins(&pinned));
                waited += model.waiting.len();
                check(&store, &model, &context);
                assert_eq!(store.stats().pending_drops, model.waiting.len(), "{context}");
            }
            for held in &pinned {
                held.check(&store, &context);
            }
        }
        pinned.retain(|held| held.snapshot.is_none());
        for (name, _) in store.pins() {
            store.release_pin(&name).unwrap();
        }
        store.run_until_idle();
        model.work(&[]);
        check(&store, &model, &format!("{setup:?} seed {seed} at the end"));
        assert_eq!(store.stats().pending_drops, 0);
    }
    assert!(waited > 0, "nothing ever waited for a pin");
}

#[test]
fn a_power_cut_anywhere_leaves_what_commits_dropped_and_drops_nothing_of_a_commit_that_is_lost() {
    for (seed, setup) in [(41, Setup::Hot), (42, Setup::Over(Below::Warm, 1)), (43, Setup::Over(Below::Warm, 1_000))] {
        let (disk, mut numbers, mut model) = (SimDisk::new(seed), Numbers(seed), Model::default());
        let store = open_as(&disk, setup).unwrap();
        // By the last version, with all commands of commits so far carried out.
        let mut states = BTreeMap::from([(0, model.clone())]);
        for _step in 0..40 {
            match numbers.below(8) {
                0 if setup != Setup::Hot => store.flush().unwrap(),
                1 if setup != Setup::Hot => store.compact(T, &KeyRange::all()).unwrap(),
                2 | 3 => store.run_until_idle(),
                _ => {
                    let durability = [Durability::Sync, Durability::Memory][usize::from(numbers.below(3) > 0)];
                    write(&store, &mut model, &mut numbers, durability);
                    model.work(&[]);
                    states.insert(model.last, model.clone());
                }
            }
        }
        drop(store);
        let recording = disk.recording();
        let (mut walk, mut images, mut lost) = (recording.sweep(), 0_u64, 0);
        for operation in 0..=recording.operations() {
            for phase in [Phase::Before, Phase::Inside, Phase::After] {
                let (cut, profile) = (CrashPoint { operation, phase }, CrashProfile::numbered(images));
                let repro = format!("{setup:?} seed {seed} {cut:?} {profile:?}");
                let image = walk.crash_image(cut, profile, images);
                images += 1;
                let store = open_as(&image, setup).unwrap_or_else(|error| panic!("{repro}: {error}"));
                let last = store.last_version().0;
                lost += usize::from(last < model.last);
                check(&store, &states[&last], &repro);
            }
        }
        println!("{setup:?} seed {seed}: {images} images of {} operations", recording.operations());
        assert!(lost > 0 && model.last > 20, "{lost} lost of {}", model.last);
    }
}

/// The longest keys there are, so that few fill what may wait.
fn long(number: u16) -> Vec<u8> {
    let mut key = vec![b'x'; 65_535];
    key[..2].copy_from_slice(&number.to_be_bytes());
    key
}

#[test]
fn commands_that_wait_for_a_pin_are_bounded_and_nothing_is_lost_when_there_is_no_room() {
    let (store, _disk) = store();
    for number in 0..80 {
        let mut batch = Batch::new();
        batch.put(T, &long(number), b"1");
        store.commit(batch).unwrap();
    }
    let seen = store.snapshot().unwrap();
    let mut committed = 0;
    let error = loop {
        let mut batch = Batch::new();
        batch.put(T, b"other", b"1").keep_last(T, &long(committed), 0);
        match store.commit(batch) {
            Ok(_) => committed += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error.kind(), ErrorKind::LimitExceeded { what, .. } if what.contains("pins")), "{error}");
    assert!((60..65).contains(&committed), "{committed}");
    assert_eq!(store.stats().pending_drops, usize::from(committed));
    assert_eq!(store.last_version(), Version(80 + u64::from(committed)), "the refused commit made no version");
    drop(seen);
    let mut batch = Batch::new();
    batch.keep_last(T, &long(committed), 0);
    store.commit(batch).unwrap();
    store.run_until_idle();
    let left = (0..80).filter(|number| store.contains(T, &long(*number)).unwrap()).count();
    assert_eq!(left, 80 - usize::from(committed) - 1);
    assert_eq!(store.stats().dropped_versions, u64::from(committed) + 1);
}

#[test]
fn commands_that_nothing_holds_up_make_room_for_one_another() {
    let (store, _disk) = store();
    for number in 0..200 {
        let mut batch = Batch::new();
        batch.put(T, b"k", b"1").keep_last(T, &long(number), 0).keep_last(T, b"k", 1);
        store.commit(batch).unwrap();
    }
    assert!(store.stats().pending_drops < 200, "the worker was never asked for");
    let mut batch = Batch::new();
    for number in 0..70 {
        batch.keep_last(T, &long(number), 0);
    }
    let error = store.commit(batch).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::LimitExceeded { what, .. } if what.contains("one commit")), "{error}");
    let mut batch = Batch::new();
    batch.keep_last(T, &vec![0; 65_536], 0);
    assert!(store.commit(batch).is_err(), "a key over the limit");
    store.run_until_idle();
    assert_eq!(store.history(T, b"k").unwrap().count(), 1);
}

/// The log brings back versions that had gone before a command was carried out, and the count of one that keeps some is another one then.
#[test]
fn restart_drops_again_what_had_been_dropped_and_nothing_else() {
    for setup in [Setup::Hot, Setup::Over(Below::Warm, 1 << 20), Setup::Over(Below::Model, 1 << 20)] {
        let disk = SimDisk::new(1);
        let store = open_as(&disk, setup).unwrap();
        let put = |version: u64| {
            let mut batch = Batch::new();
            batch.put(T, b"k", version.to_string().as_bytes());
            store.commit_at(Version(version), batch).unwrap();
        };
        let give_up = |store: &Store, rule: DropRule| {
            let mut batch = Batch::new();
            batch.drop_versions(T, b"k", rule);
            store.commit(batch).unwrap();
            store.run_until_idle();
        };
        put(4);
        store.pin("a", Version(4)).unwrap();
        [7, 8, 9].into_iter().for_each(put);
        store.set_horizon(Version(9)).unwrap();
        give_up(&store, DropRule { keep_last: Some(2), ..DropRule::default() });
        let check = |store: &Store, newest: &str, when: &str| {
            let found = [Version(4), Version::MAX].map(|at| store.get_at(T, b"k", at).unwrap().unwrap());
            assert_eq!(found, ["4", newest], "{setup:?} {when}");
        };
        check(&store, "9", "carried out");
        store.close().unwrap();
        let store = open_as(&disk, setup).unwrap();
        check(&store, "9", "opened again");
        // What the newest hid is not seen where that goes.
        give_up(&store, DropRule::only(Version(9)));
        check(&store, "4", "the newest dropped");
        store.close().unwrap();
        let store = open_as(&disk, setup).unwrap();
        check(&store, "4", "opened once more");
        store.compact(T, &KeyRange::all()).unwrap();
        check(&store, "4", "rewritten");
    }
}

/// What a dropped version uncovered is what everybody reads, whatever the horizon is then.
#[test]
fn restart_leaves_what_a_dropped_version_has_uncovered() {
    for (setup, is_flushed) in
        [(Setup::Hot, false), (Setup::Over(Below::Warm, 1 << 20), false), (Setup::Over(Below::Warm, 1 << 20), true)]
    {
        let disk = SimDisk::new(1);
        let store = open_as(&disk, setup).unwrap();
        let put = |value: Option<&str>| {
            let mut batch = Batch::new();
            match value {
                Some(value) => batch.put(T, b"k", value.as_bytes()),
                None => batch.remove(T, b"k"),
            };
            store.commit(batch).unwrap()
        };
        put(Some("1"));
        if is_flushed {
            store.flush().unwrap();
        }
        let give_up = |version: Version| {
            let mut batch = Batch::new();
            batch.drop_versions(T, b"k", DropRule::only(version));
            store.commit(batch).unwrap();
            store.run_until_idle();
        };
        for hiding in [Some("2"), None] {
            give_up(put(hiding));
            assert_eq!(store.get(T, b"k").unwrap().as_deref(), Some(&b"1"[..]), "{setup:?}");
        }
        store.set_horizon(store.last_version()).unwrap();
        store.close().unwrap();
        for _twice in 0..2 {
            let store = open_as(&disk, setup).unwrap();
            assert_eq!(store.get(T, b"k").unwrap().as_deref(), Some(&b"1"[..]), "{setup:?} {is_flushed}");
            store.run_until_idle();
            store.close().unwrap();
        }
        let store = open_as(&disk, setup).unwrap();
        store.compact(T, &KeyRange::all()).unwrap();
        assert_eq!(store.get(T, b"k").unwrap().as_deref(), Some(&b"1"[..]), "{setup:?} {is_flushed}");
    }
}

#[test]
fn what_was_dropped_stays_gone_in_a_store_that_is_opened_for_reading_only() {
    for below in BELOW {
        let disk = SimDisk::new(1);
        let store = open(&disk, below, options());
        for value in 1..=3 {
            commit(&store, T, &[&format!("k={value}")]);
        }
        let mut batch = Batch::new();
        batch.drop_versions(T, b"k", DropRule { keep_last: Some(1), ..DropRule::default() });
        store.commit(batch).unwrap();
        store.run_until_idle();
        assert_eq!(store.history(T, b"k").unwrap().count(), 1);
        drop(store);
        let reader = open(&disk, below, StoreOptions { mode: OpenMode::ReadOnly, ..options() });
        assert_eq!(reader.history(T, b"k").unwrap().count(), 1, "{below:?}");
    }
}
