//! Migration: which rows a strategy is shown, what becomes of what it answers, and that summaries say what files hold.

mod failing;
mod offering;
mod skipping;
mod summaries;
mod sweeping;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use parking_lot::Mutex;
use thermocline_io::SimDisk;
use thermocline_migration::{
    HookError, Migrate, MigrationContext, MigrationContextSource, MigrationScope, Slot, StoredRow, Strategy, Summary, erase,
};
use thermocline_tier::{DurableTier, FileSummary, MigratingTier, SharedLayout, TierStorage, Version};
use thermocline_warm::{OpenWarm, StoreId, WarmOptions, WarmTier};

use crate::backends::small;
use crate::support::{MULTI, Marked};

/// How often each schema occurs: the first byte of a value, a digit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen(BTreeMap<u8, u64>);

impl Summary for Seen {
    fn encode(&self, out: &mut Vec<u8>) {
        for (schema, count) in &self.0 {
            out.push(*schema);
            out.extend(count.to_le_bytes());
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, HookError> {
        let (pairs, []) = bytes.as_chunks::<9>() else { return Err("pairs are cut off".into()) };
        pairs.iter().map(|pair| Ok((pair[0], u64::from_le_bytes(pair[1..].try_into()?)))).collect::<Result<_, _>>().map(Self)
    }

    fn merge(&mut self, other: &Self) {
        for (schema, count) in &other.0 {
            *self.0.entry(*schema).or_default() += count;
        }
    }
}

impl Seen {
    fn of<const N: usize>(counts: [(u8, u64); N]) -> Self {
        Self(counts.into())
    }

    fn note(&mut self, value: &[u8]) {
        *self.0.entry(value[0]).or_default() += 1;
    }
}

/// What `migrate` does to a row of an older schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
enum Change {
    /// The schema's digit becomes the new one, and a `+` is added.
    #[default]
    Value,
    /// The suffix becomes `#moved`, and the value stays.
    Suffix,
    Both,
    /// A suffix that begins before where it should.
    OtherPrefix,
    /// A suffix that makes the key too long.
    LongKey,
    /// A value that it would change again.
    Restless,
}

/// What a hook does in its `n`-th call, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    Fails,
    Panics,
}

/// What a test tells its strategy, and what that tells the test.
#[derive(Debug, Default)]
struct Plan {
    /// The schema that rows are to have: a digit. 0: `migrate` changes nothing.
    target: AtomicU8,
    change: Mutex<Change>,
    /// The rows that were shown to `migrate`, as `key@version`, with the context's id.
    offered: Mutex<Vec<(String, u64)>>,
    observed: Mutex<Vec<String>>,
    /// In which call of any hook there is trouble.
    trouble: Mutex<Option<(u64, Trouble)>>,
    calls: AtomicU64,
    /// Whether every row of the first table fails.
    fails_in_multi: AtomicBool,
    /// Whether asking a context for its number panics.
    panics_in_id: AtomicBool,
    /// Whether rows whose values end in `x` are to go.
    filters: AtomicBool,
    filtered: Mutex<Vec<String>>,
    wants: AtomicBool,
    contexts: AtomicU64,
    /// After so many offered rows the target grows by one.
    grows_every: AtomicU64,
    /// After so many it falls by one, once.
    falls_after: AtomicU64,
    /// Summaries become so long.
    padding: AtomicU64,
}

impl Plan {
    fn to(target: u8) -> Arc<Self> {
        let plan = Self::default();
        plan.target.store(target, Ordering::Relaxed);
        Arc::new(plan)
    }

    fn call(&self) -> Result<(), HookError> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        match *self.trouble.lock() {
            Some((at, Trouble::Fails)) if at == call => Err(format!("trouble in call {call}").into()),
            Some((at, Trouble::Panics)) if at == call => panic!("panic in call {call}"),
            _ => Ok(()),
        }
    }

    /// In order: two parts of a rewrite may come in any.
    fn take_offered(&self) -> Vec<String> {
        let mut offered: Vec<String> = self.offered.lock().drain(..).map(|(row, _)| row).collect();
        offered.sort_unstable();
        offered
    }
}

fn name(row: &StoredRow<'_>) -> String {
    format!("{}@{}", row.prefix.escape_ascii(), row.version)
}

#[derive(Debug)]
struct Target(u8, bool);

impl MigrationContext for Target {
    fn id(&self) -> u64 {
        assert!(!self.1, "no number");
        u64::from(self.0)
    }
}

#[derive(Debug)]
struct Targets(Arc<Plan>);

impl MigrationContextSource for Targets {
    type Context = Target;

    fn context(&self) -> Result<Target, HookError> {
        self.0.contexts.fetch_add(1, Ordering::Relaxed);
        Ok(Target(self.0.target.load(Ordering::Relaxed), self.0.panics_in_id.load(Ordering::Relaxed)))
    }
}

/// Summaries with something behind, to make them long.
#[derive(Clone, Debug, Default)]
struct Padded(Seen, u64);

impl Summary for Padded {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
        out.resize(out.len() + 9 * self.1 as usize, b'p');
    }

    fn decode(bytes: &[u8]) -> Result<Self, HookError> {
        Seen::decode(bytes).map(|seen| Self(seen, 0))
    }

    fn merge(&mut self, other: &Self) {
        self.0.merge(&other.0);
    }
}

/// The strategy of these tests; `SCOPE` is 0 for settled rows, 1 for those that nobody pins, 2 for all, 3 for settled ones of which each that
/// is changed is shown to it again.
#[derive(Debug)]
struct Schemas<const SCOPE: u8>(Targets);

impl<const SCOPE: u8> Strategy for Schemas<SCOPE> {
    type Summary = Padded;
    type Context = Target;
    type ContextSource = Targets;

    const SCOPE: MigrationScope = match SCOPE {
        0 | 3 => MigrationScope::Settled,
        1 => MigrationScope::Unpinned,
        _ => MigrationScope::All,
    };
    const IDEMPOTENCE_SAMPLE: u64 = if SCOPE == 3 { 1 } else { 0 };

    fn name(&self) -> &'static str {
        "schemas"
    }

    fn layout(&self) -> SharedLayout {
        Arc::new(Marked)
    }

    fn contexts(&self) -> &Targets {
        &self.0
    }

    fn observe(&self, summary: &mut Padded, row: &StoredRow<'_>) -> Result<(), HookError> {
        let plan = &self.0.0;
        plan.call()?;
        plan.observed.lock().push(name(row));
        summary.0.note(row.value()?);
        summary.1 = plan.padding.load(Ordering::Relaxed);
        Ok(())
    }

    fn migrate(&self, target: &mut Target, summary: &mut Padded, row: &StoredRow<'_>) -> Result<Migrate, HookError> {
        let plan = &self.0.0;
        plan.call()?;
        if row.table == MULTI && plan.fails_in_multi.load(Ordering::Relaxed) {
            return Err("not this table".into());
        }
        let grows_every = plan.grows_every.load(Ordering::Relaxed);
        {
            let mut offered = plan.offered.lock();
            offered.push((name(row), target.id()));
            if grows_every > 0 && (offered.len() as u64).is_multiple_of(grows_every) {
                plan.target.fetch_add(1, Ordering::Relaxed);
            }
            if offered.len() as u64 == plan.falls_after.load(Ordering::Relaxed) {
                plan.target.fetch_sub(1, Ordering::Relaxed);
            }
        }
        summary.1 = plan.padding.load(Ordering::Relaxed);
        let (value, change) = (row.value()?, *plan.change.lock());
        let is_old = value[0] - b'0' < target.0 && (change != Change::Suffix || row.suffix != b"#moved");
        if !is_old {
            summary.0.note(value);
            return Ok(Migrate::Unchanged);
        }
        let mut new = value.to_vec();
        if change != Change::Suffix {
            if change != Change::Restless {
                new[0] = b'0' + target.0;
            }
            new.push(b'+');
        }
        summary.0.note(&new);
        let value = (change != Change::Suffix).then(|| new.into());
        let suffix = match change {
            Change::Value | Change::Restless => None,
            Change::Suffix | Change::Both => Some("#moved".into()),
            Change::OtherPrefix => Some("more#moved".into()),
            Change::LongKey => Some(format!("#{}", "x".repeat(70_000)).into()),
        };
        Ok(Migrate::Modified { value, suffix })
    }

    fn filter(&self, _target: &mut Target, row: &StoredRow<'_>) -> Result<bool, HookError> {
        let plan = &self.0.0;
        let goes = plan.filters.load(Ordering::Relaxed) && row.value()?.ends_with(b"x");
        if goes {
            plan.filtered.lock().push(name(row));
        }
        Ok(goes)
    }

    fn wants_rewrite(&self, target: &Target, summary: &Padded) -> bool {
        self.0.0.wants.load(Ordering::Relaxed) && summary.0.0.keys().any(|schema| schema - b'0' < target.0)
    }
}

fn open_scope<const SCOPE: u8>(disk: &SimDisk, options: WarmOptions, plan: &Arc<Plan>) -> Arc<WarmTier> {
    let migration = Some(erase(Arc::new(Schemas::<SCOPE>(Targets(Arc::clone(plan))))));
    let disk = Arc::new(disk.clone());
    Arc::new(WarmTier::open(OpenWarm { disk, store: StoreId([7; 16]), options, is_read_only: false, migration }).unwrap())
}

/// With a strategy that is offered settled rows.
fn open(disk: &SimDisk, plan: &Arc<Plan>) -> Arc<WarmTier> {
    open_scope::<0>(disk, small(), plan)
}

fn migrating(tier: &WarmTier) -> &dyn MigratingTier {
    tier.migrating().expect("a strategy")
}

fn seen(file: &FileSummary) -> Seen {
    Padded::decode(Slot::decode(&file.slot).expect("a slot").summary).unwrap().0
}

/// What the summaries say of all live files.
fn summed(tier: &WarmTier) -> Seen {
    let mut all = Seen::default();
    migrating(tier).summaries().iter().filter(|file| file.is_live).for_each(|file| all.merge(&seen(file)));
    all
}

/// Compares each file's summary with its rows.
fn check_summaries(tier: &WarmTier) {
    for file in migrating(tier).summaries().iter().filter(|file| file.is_live) {
        let mut found = Seen::default();
        let mut note = |_, entry: thermocline_tier::EntryRef<'_>, _| {
            found.note(entry.value.expect("a row"));
            Ok(true)
        };
        migrating(tier).visit_file(file.number, &mut note).unwrap();
        assert_eq!(seen(file), found, "{}", file.file.name);
    }
}

/// Every row of every version, as `key#suffix@version=value`.
fn rows(tier: &WarmTier) -> Vec<String> {
    let mut rows = Vec::new();
    tier.visit_entries(&mut |_, entry| {
        if let Some(value) = entry.value {
            let [prefix, suffix, value] = [entry.prefix, entry.suffix, value].map(|bytes| bytes.escape_ascii().to_string());
            rows.push(format!("{prefix}{suffix}@{}={value}", entry.version));
        }
        Ok(())
    })
    .unwrap();
    rows
}

fn set_horizon(tier: &WarmTier, version: u64) {
    tier.set_horizon(Version(version)).unwrap();
}
