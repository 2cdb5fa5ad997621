//! Rows that migrate through the whole store, over any history with crashes in it: none is lost, wrong, or migrated twice, and summaries and
//! watermark say what there is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use parking_lot::Mutex;
use thermocline_hot::BTreeTier;
use thermocline_io::{CrashPoint, CrashProfile, Disk, Environment, SimDisk};
use thermocline_migration::{
    HookError, Migrate, MigrationContext, MigrationContextSource, Slot, StoredRow, Strategy, Summary, erase,
};
use thermocline_store::{Background, Batch, Durability, PassScope, Store, StoreOptions, Tiers};
use thermocline_tier::{DurableTier, ErrorKind, FixedSuffix, KeyRange, Lookup, SharedLayout, TierStorage, Version};
use thermocline_wal::{LogOptions, Preallocate};

use super::T;
use super::story::{Below, Numbers};

/// How often each schema occurs: the last byte of a key, which is its suffix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Schemas(BTreeMap<u8, u8>);

impl Summary for Schemas {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.iter().for_each(|(schema, count)| out.extend([*schema, *count]));
    }

    fn decode(bytes: &[u8]) -> Result<Self, HookError> {
        let (pairs, []) = bytes.as_chunks::<2>() else { return Err("half a pair".into()) };
        Ok(Self(pairs.iter().map(|[schema, count]| (*schema, *count)).collect()))
    }

    fn merge(&mut self, other: &Self) {
        other.0.iter().for_each(|(schema, count)| self.add(*schema, *count));
    }
}

impl Schemas {
    fn add(&mut self, schema: u8, count: u8) {
        let sum = self.0.entry(schema).or_default();
        *sum = sum.wrapping_add(count);
    }
}

#[derive(Clone, Debug, Default)]
struct Target(Arc<AtomicU8>);

struct Schema(u8);

impl MigrationContext for Schema {
    fn id(&self) -> u64 {
        u64::from(self.0)
    }
}

impl MigrationContextSource for Target {
    type Context = Schema;

    fn context(&self) -> Result<Schema, HookError> {
        Ok(Schema(self.0.load(Ordering::Relaxed)))
    }
}

/// Brings rows one schema on for each that they are behind: a `+` more in the value, and another suffix.
struct Plus(Target);

impl Strategy for Plus {
    type Summary = Schemas;
    type Context = Schema;
    type ContextSource = Target;

    fn name(&self) -> &'static str {
        "plus"
    }

    fn layout(&self) -> SharedLayout {
        Arc::new(FixedSuffix(1))
    }

    fn contexts(&self) -> &Target {
        &self.0
    }

    fn observe(&self, schemas: &mut Schemas, row: &StoredRow<'_>) -> Result<(), HookError> {
        schemas.add(row.suffix[0], 1);
        Ok(())
    }

    fn migrate(&self, to: &mut Schema, schemas: &mut Schemas, row: &StoredRow<'_>) -> Result<Migrate, HookError> {
        let from = row.suffix[0];
        if from == u8::MAX {
            // What no test writes but the one for keys that would change.
            return Ok(Migrate::Modified { value: None, suffix: Some([1, 2].to_vec().into()) });
        }
        schemas.add(from.max(to.0), 1);
        if from >= to.0 {
            return Ok(Migrate::Unchanged);
        }
        let value = [row.value()?, &vec![b'+'; usize::from(to.0 - from)]].concat();
        Ok(Migrate::Modified { value: Some(value.into()), suffix: Some(vec![to.0].into()) })
    }
}

/// A store, and its durable tier beside it.
struct Opened {
    store: Store,
    tier: Arc<Mutex<Option<Arc<dyn DurableTier>>>>,
}

fn open(disk: &SimDisk, target: &Target) -> Opened {
    let tier: Arc<Mutex<Option<Arc<dyn DurableTier>>>> = Arc::default();
    let place = Arc::clone(&tier);
    let tiers = Tiers::hot(|| Arc::new(BTreeTier::default()) as Arc<dyn TierStorage>).over(move |request| {
        let opened = Below::Warm.open(request)?;
        *place.lock() = Some(Arc::clone(&opened));
        Ok(opened)
    });
    let log = LogOptions {
        segment_size_bytes: LogOptions::SEGMENT_SIZE_BYTES_MIN,
        preallocate: Preallocate::No,
        ..LogOptions::default()
    };
    let options = StoreOptions {
        background: Background::ByHand,
        log,
        layout: Arc::new(FixedSuffix(1)),
        migration: Some(erase(Arc::new(Plus(target.clone())))),
        hot_budget_bytes: Some(2_000),
        durability: Durability::Sync,
        ..StoreOptions::default()
    };
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    Opened { store: Store::open(disk, tiers, &Environment::simulated(7), options).unwrap(), tier }
}

impl Opened {
    /// Each file's summary against its rows.
    fn check_summaries(&self) {
        let tier = self.tier.lock().clone().unwrap();
        for file in self.store.file_summaries().unwrap().iter().filter(|file| file.is_live) {
            let mut found = Schemas::default();
            let mut note = |_, entry: thermocline_tier::EntryRef<'_>, _| {
                found.add(entry.suffix[0], 1);
                Ok(true)
            };
            tier.migrating().unwrap().visit_file(file.number, &mut note).unwrap();
            assert_eq!(Schemas::decode(Slot::decode(&file.slot).unwrap().summary).unwrap(), found, "{}", file.file.name);
        }
    }

    /// The lowest schema that summaries and memory tell of.
    fn watermark(&self) -> Option<u8> {
        let mut lowest = None;
        self.store
            .visit_memory(&mut |_, entry| {
                lowest = lowest.into_iter().chain(entry.value.map(|_| entry.suffix[0])).min();
                Ok(())
            })
            .unwrap();
        let files = self.store.file_summaries().unwrap();
        let of_file = |file: &thermocline_tier::FileSummary| {
            Schemas::decode(Slot::decode(&file.slot).unwrap().summary).unwrap().0.first_key_value().map(|(schema, _)| *schema)
        };
        lowest.into_iter().chain(files.iter().filter_map(of_file)).min()
    }

    /// Every row, as it was written and migrated: key, the schema that it was written under, and what it has become.
    fn check_rows(&self, model: &BTreeMap<u8, (u8, Version)>) {
        let watermark = self.watermark();
        for key in 0..KEYS {
            let found = self.store.lookup(T, &[key]).unwrap();
            match (&found, model.get(&key)) {
                (Lookup::Value { version, suffix, bytes }, Some((schema, written))) => {
                    let steps = usize::from(suffix[0] - schema);
                    assert_eq!((*version, &bytes[..]), (*written, &[vec![key, *schema], vec![b'+'; steps]].concat()[..]));
                    assert!(watermark.is_some_and(|watermark| watermark <= suffix[0]), "{watermark:?} above {found:?}");
                }
                (Lookup::Absent | Lookup::Tombstone { .. }, None) => {}
                other => panic!("{key}: {other:?}"),
            }
        }
    }
}

const KEYS: u8 = 40;

#[test]
fn over_any_history_with_crashes_rows_migrate_once_and_summaries_and_watermark_are_right() {
    for seed in 0..20 {
        let (mut disk, target, mut numbers) = (SimDisk::new(1), Target::default(), Numbers(seed));
        target.0.store(1, Ordering::Relaxed);
        let mut opened = open(&disk, &target);
        let mut model: BTreeMap<u8, (u8, Version)> = BTreeMap::new();
        for _ in 0..150 {
            match numbers.below(16) {
                0..=8 => {
                    let (mut batch, schema) = (Batch::new(), target.0.load(Ordering::Relaxed));
                    let mut written = Vec::new();
                    for _ in 0..=numbers.below(4) {
                        let key = u8::try_from(numbers.below(u64::from(KEYS))).unwrap();
                        if numbers.below(6) == 0 {
                            batch.remove(T, &[key, schema]);
                            written.push((key, None));
                        } else {
                            batch.put(T, &[key, schema], &[key, schema]);
                            written.push((key, Some(schema)));
                        }
                    }
                    let version = opened.store.commit(batch).unwrap();
                    for (key, schema) in written {
                        match schema {
                            Some(schema) => drop(model.insert(key, (schema, version))),
                            None => drop(model.remove(&key)),
                        }
                    }
                }
                9 => target.0.store((target.0.load(Ordering::Relaxed) + 1).min(9), Ordering::Relaxed),
                10 => {
                    let last = opened.store.last_version().0;
                    opened.store.set_horizon(Version(last.saturating_sub(numbers.below(20)))).unwrap();
                }
                11 => (0..numbers.below(6)).take_while(|_| opened.store.step().unwrap()).for_each(drop),
                12 => opened.store.flush().unwrap(),
                13 => drop(opened.store.compact_all(&PassScope::All).unwrap().run().unwrap().clone()),
                14 => opened.store.compact(T, &KeyRange::all()).unwrap(),
                _ => {
                    // Whatever was acknowledged is there.
                    let cut = CrashPoint::after(disk.operations().saturating_sub(1));
                    let image = disk.crash_image(cut, CrashProfile::numbered(numbers.below(u64::MAX)), numbers.below(u64::MAX));
                    disk = image;
                    opened = open(&disk, &target);
                }
            }
            opened.check_summaries();
            opened.check_rows(&model);
        }
        opened.store.set_horizon(opened.store.last_version()).unwrap();
        opened.store.compact_all(&PassScope::All).unwrap().run().unwrap();
        assert!(model.is_empty() || opened.watermark() == Some(target.0.load(Ordering::Relaxed)), "seed {seed}");
        opened.check_rows(&model);
        opened.store.verify().unwrap();
    }
}

#[test]
fn suffix_that_would_make_another_key_is_refused_and_the_store_goes_on() {
    let (disk, target) = (SimDisk::new(1), Target::default());
    target.0.store(1, Ordering::Relaxed);
    let opened = open(&disk, &target);
    let mut batch = Batch::new();
    batch.put(T, &[7, u8::MAX], b"row");
    opened.store.commit(batch).unwrap();
    opened.store.set_horizon(opened.store.last_version()).unwrap();
    let refused = opened.store.compact_all(&PassScope::All).unwrap().run().unwrap_err();
    assert!(matches!(refused.kind(), ErrorKind::CallbackViolation { .. }), "{refused}");
    assert!(
        refused.to_string().contains("layout fixed-suffix-1 takes 2 bytes of the key for its prefix, which has 1"),
        "{refused}"
    );
    assert!(opened.store.get(T, &[7]).unwrap().is_some());
    let mut batch = Batch::new();
    batch.put(T, &[8, 0], b"other");
    opened.store.commit(batch).unwrap();
    opened.store.flush().unwrap();
    assert_eq!(opened.store.stats().migration.unwrap().failures, 1);
}
