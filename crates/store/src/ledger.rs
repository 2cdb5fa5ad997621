//! Who keeps what: how much each pin, consumer and reader alone keeps from being reclaimed.

use std::collections::BTreeMap;
use std::panic::Location;

use thermocline_drop::{Authority, HolderId, Moment, superseded_over};
use thermocline_tier::{Amount, EntryKind, Result, RetainedTables, TierStorage, Version};

use crate::store::{Core, Store};

/// One who keeps versions, and how much.
///
/// ```
/// # let store = thermocline::Store::in_memory()?;
/// let _snapshot = store.snapshot()?;
/// assert!(store.why_retained()?.holders[0].name.starts_with("snapshot "));
/// # Ok::<(), thermocline_tier::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// What it is, and its number or its name in quotes.
    pub name: String,
    /// The oldest version that it keeps.
    pub version: Version,
    /// Since when, as the wall clock showed.
    pub since: Moment,
    /// Where in the program it was made, for a reader.
    pub place: Option<&'static Location<'static>>,
    /// What nobody else keeps: what could go if it went.
    pub alone: Amount,
    /// How many bytes of the log nobody else keeps: by how much a flush could cut it if it went, give or take a segment. 0 for all but consumers,
    /// and without a durable tier, where the log is never cut.
    pub alone_log_bytes: u64,
}

/// Why old versions are still there.
///
/// ```
/// # let store = thermocline::Store::in_memory()?;
/// assert_eq!(store.why_retained()?, thermocline_store::WhyRetained::default());
/// # Ok::<(), thermocline_tier::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WhyRetained {
    /// Pins, consumers that hold something, and readers; the oldest version first.
    pub holders: Vec<Holder>,
    /// What nobody keeps any more, and is still stored.
    pub reclaimable: Amount,
    /// What lies below the horizon of its table, and several keep, none of them alone.
    pub shared: Amount,
}

impl Core {
    /// How much of what is stored is not kept by each of several rules.
    pub(crate) fn not_kept(&self, rules: &[RetainedTables]) -> Result<Vec<Amount>> {
        let by_table = Self::tally(&**self.storage.view_owned().merged()?, rules, false)?;
        let sum = |amounts: BTreeMap<EntryKind, Amount>| {
            amounts.into_values().fold(Amount::default(), |mut sum, amount| {
                sum += amount;
                sum
            })
        };
        Ok(by_table.into_iter().map(sum).collect())
    }

    /// How much longer the log must be for a holder than for the others.
    fn log_bytes_kept_by(&self, authority: &Authority, holder: &HolderId) -> u64 {
        let without = authority.log_from_without(holder);
        if self.storage.durable().is_none() || without == authority.log_from() {
            return 0;
        }
        let kept = |from| self.storage.log.bytes_above(self.log_base(from).after);
        kept(authority.log_from()).saturating_sub(kept(without))
    }

    /// How much of what a tier holds is not kept by each of several rules, by table. `has_below`: others hold older versions of its keys.
    pub(crate) fn tally(
        tier: &dyn TierStorage,
        rules: &[RetainedTables],
        has_below: bool,
    ) -> Result<Vec<BTreeMap<EntryKind, Amount>>> {
        let mut tally = Tally { has_below, rules, amounts: vec![BTreeMap::new(); rules.len()], key: None, versions: Vec::new() };
        tier.visit_entries(&mut |table, entry| {
            tally.add(table, entry.prefix, (entry.version, entry.value.is_none()), entry.user_bytes());
            Ok(())
        })?;
        tally.end_key();
        Ok(tally.amounts)
    }
}

/// Adds up what rules do not keep, key by key.
struct Tally<'a> {
    has_below: bool,
    rules: &'a [RetainedTables],
    amounts: Vec<BTreeMap<EntryKind, Amount>>,
    key: Option<(EntryKind, Vec<u8>)>,
    /// Of the key, newest first: version, whether it is a tombstone, and bytes.
    versions: Vec<((Version, bool), u64)>,
}

impl Tally<'_> {
    fn add(&mut self, table: EntryKind, prefix: &[u8], version: (Version, bool), bytes: u64) {
        let is_same = self.key.as_ref().is_some_and(|(of, key)| *of == table && key == prefix);
        if !is_same {
            self.end_key();
            self.key = Some((table, prefix.to_vec()));
        }
        self.versions.push((version, bytes));
    }

    fn end_key(&mut self) {
        let Some((table, prefix)) = &self.key else { return };
        let versions: Vec<(Version, bool)> = self.versions.iter().map(|(version, _)| *version).collect();
        for (rule, amount) in self.rules.iter().zip(&mut self.amounts) {
            for gone in superseded_over(&versions, rule.of(*table, prefix), self.has_below) {
                let place = self.versions.partition_point(|((version, _), _)| *version > gone);
                let bytes = self.versions.get(place).map_or(0, |(_, bytes)| *bytes);
                *amount.entry(*table).or_default() += Amount { entries: 1, bytes };
            }
        }
        self.versions.clear();
    }
}

/// All who keep something, with how to name them to the authority.
fn holders(authority: &Authority) -> Vec<(HolderId, Holder)> {
    let (alone, alone_log_bytes) = (Amount::default(), 0);
    let pins = authority.pins().map(|(name, pin)| {
        let (version, since) = (pin.versions.first(), pin.created);
        (
            HolderId::Pin(name.to_owned()),
            Holder { name: format!("pin {name:?}"), version, since, place: None, alone, alone_log_bytes },
        )
    });
    let consumers = authority.holding_consumers().map(|(name, consumer, version)| {
        let since = consumer.since;
        (
            HolderId::Consumer(name.to_owned()),
            Holder { name: format!("consumer {name:?}"), version, since, place: None, alone, alone_log_bytes },
        )
    });
    let readers = authority.readers().iter().map(|(version, number, reader)| {
        let (name, place) = (format!("{} {number}", reader.holder), Some(reader.place));
        (HolderId::Reader(version, number), Holder { name, version, since: reader.since, place, alone, alone_log_bytes })
    });
    let mut all: Vec<(HolderId, Holder)> = pins.chain(consumers).chain(readers).collect();
    all.sort_by_key(|(_, holder)| holder.version);
    all
}

impl Store {
    /// Who keeps old versions, and how much each alone: what a [compaction](Self::compact) of everything would free if it went. Exact
    /// while nothing is written. Cost: reads everything that is stored, once, and asks for each key as many times as there are holders.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn why_retained(&self) -> Result<WhyRetained> {
        self.inner.check_open()?;
        let (holders, mut rules) = {
            let authority = self.inner.reclaim.read();
            let mut holders = holders(&authority);
            for (id, holder) in &mut holders {
                holder.alone_log_bytes = self.inner.log_bytes_kept_by(&authority, id);
            }
            let rules: Vec<_> = holders.iter().map(|(id, _)| authority.retained_without(id)).collect();
            (holders, [vec![authority.retained(), authority.retained_by_nobody()], rules].concat())
        };
        for rule in &mut rules {
            self.inner.marks.add_clears_to(rule);
        }
        let amounts = self.inner.not_kept(&rules)?;
        let (now, nobody) = (amounts[0], amounts[1]);
        let less = |more: Amount, less: Amount| Amount {
            entries: more.entries.saturating_sub(less.entries),
            bytes: more.bytes.saturating_sub(less.bytes),
        };
        let mut shared = less(nobody, now);
        let alone = amounts[2..].iter().map(|without| less(*without, now));
        let holders: Vec<Holder> =
            holders.into_iter().zip(alone).map(|((_, holder), alone)| Holder { alone, ..holder }).collect();
        for holder in &holders {
            shared = less(shared, holder.alone);
        }
        Ok(WhyRetained { holders, reclaimable: now, shared })
    }
}
