//! An engine that is the model itself: a map of all versions in memory. It checks the harness, and with an error planted shows that the
//! harness notices.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};

use crate::engine::{At, Direction, Durability, Engine, Options, Scan, Settings, Skip, Table, VisitChange, Write};
use crate::failure::{Failure, Outcome};

type Versions = BTreeMap<u64, Option<Vec<u8>>>;
type Rows = BTreeMap<(Table, Vec<u8>), Versions>;
type Row<'a> = (&'a (Table, Vec<u8>), &'a Versions);

/// Wrong in one way, so that a test can see the harness notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// None: it is right.
    None,
    /// A deleted key still has its last value.
    ForgetsDeletions,
    /// Reads of a version see the one after it.
    ReadsAhead,
    /// Scans leave out every seventh row.
    SkipsRows,
    /// Differences leave out keys that were deleted.
    HidesDeletionsInDiffs,
    /// Commits of a single entry are acknowledged and forgotten.
    LosesCommits,
    /// Nothing is reclaimed.
    KeepsAll,
    /// What was committed is there until it is closed.
    ForgetsWhenClosed,
}

/// The model, and its mistake.
#[derive(Debug)]
pub struct Model<const MISTAKE: u8> {
    directory: PathBuf,
    /// The last version, and all rows.
    rows: Mutex<(u64, Rows)>,
}

/// What closed models held, to be found again when they are opened.
fn closed() -> Outcome<MutexGuard<'static, BTreeMap<PathBuf, (u64, Rows)>>> {
    static CLOSED: Mutex<BTreeMap<PathBuf, (u64, Rows)>> = Mutex::new(BTreeMap::new());
    CLOSED.lock().map_err(|_poisoned| Failure::Panicked)
}

impl<const MISTAKE: u8> Model<MISTAKE> {
    const MISTAKE: Mistake = match MISTAKE {
        1 => Mistake::ForgetsDeletions,
        2 => Mistake::ReadsAhead,
        3 => Mistake::SkipsRows,
        4 => Mistake::HidesDeletionsInDiffs,
        5 => Mistake::LosesCommits,
        6 => Mistake::KeepsAll,
        7 => Mistake::ForgetsWhenClosed,
        _ => Mistake::None,
    };

    fn rows(&self) -> Outcome<MutexGuard<'_, (u64, Rows)>> {
        self.rows.lock().map_err(|_poisoned| Failure::Panicked)
    }

    fn visible(versions: &Versions, at: At) -> Option<&[u8]> {
        let bound = at.bound().saturating_add(u64::from(Self::MISTAKE == Mistake::ReadsAhead));
        let mut below = versions.range(..=bound).rev().map(|(_, value)| value.as_deref());
        if Self::MISTAKE == Mistake::ForgetsDeletions { below.flatten().next() } else { below.next().flatten() }
    }
}

impl<const MISTAKE: u8> Engine for Model<MISTAKE> {
    const NAME: &'static str = "model";

    fn settings(_options: &Options) -> Settings {
        let word = |text: &str| text.to_owned();
        Settings {
            release: word("model"),
            versions: word("map"),
            durability: word("none"),
            memory: word("all"),
            other: word("one lock"),
        }
    }

    fn open(options: &Options) -> Outcome<Self> {
        let rows = closed()?.remove(&options.directory).unwrap_or_default();
        Ok(Self { directory: options.directory.clone(), rows: Mutex::new(rows) })
    }

    fn commit(&self, version: Option<u64>, writes: &[Write<'_>], _durability: Durability) -> Outcome<()> {
        if Self::MISTAKE == Mistake::LosesCommits && writes.len() == 1 {
            return Ok(());
        }
        let mut rows = self.rows()?;
        rows.0 = version.unwrap_or(rows.0 + 1);
        let version = rows.0;
        for write in writes {
            let versions = match rows.1.entry((write.table, write.key.to_vec())) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => entry.insert(Versions::new()),
            };
            versions.insert(version, write.value.map(<[u8]>::to_vec));
        }
        Ok(())
    }

    fn get(&self, table: Table, key: &[u8], at: At, visit: &mut dyn FnMut(Option<&[u8]>)) -> Outcome<()> {
        let rows = self.rows()?;
        visit(rows.1.get(&(table, key.to_vec())).and_then(|versions| Self::visible(versions, at)));
        Ok(())
    }

    fn scan(&self, scan: &Scan<'_>, visit: &mut dyn FnMut(&[u8], &[u8])) -> Outcome<()> {
        let rows = self.rows()?;
        let mut all: Box<dyn Iterator<Item = Row<'_>>> = match (scan.direction, scan.from) {
            (Direction::Forward, from) => Box::new(rows.1.range((scan.table, from.unwrap_or_default().to_vec())..)),
            (Direction::Reverse, Some(from)) => Box::new(rows.1.range(..=(scan.table, from.to_vec())).rev()),
            (Direction::Reverse, None) => Box::new(rows.1.range(..(scan.table + 1, Vec::new())).rev()),
        };
        let visible = all
            .by_ref()
            .take_while(|((table, _), _)| *table == scan.table)
            .filter_map(|((_, key), versions)| Some((key, Self::visible(versions, scan.at)?)));
        let kept = visible.enumerate().filter(|(number, _)| Self::MISTAKE != Mistake::SkipsRows || number % 7 != 6);
        kept.take(scan.limit).for_each(|(_, (key, value))| visit(key, value));
        Ok(())
    }

    fn diff(&self, table: Table, from: u64, to: u64, _skip: Skip, visit: VisitChange<'_>) -> Outcome<()> {
        let rows = self.rows()?;
        for ((_, key), versions) in rows.1.range((table, Vec::new())..(table + 1, Vec::new())) {
            let [before, after] = [from, to].map(|version| Self::visible(versions, At::Version(version)));
            let is_hidden = Self::MISTAKE == Mistake::HidesDeletionsInDiffs && after.is_none();
            if before != after && !is_hidden {
                visit(key, before, after);
            }
        }
        Ok(())
    }

    fn reclaim(&self, version: u64) -> Outcome<()> {
        if Self::MISTAKE == Mistake::KeepsAll {
            return Ok(());
        }
        for versions in self.rows()?.1.values_mut() {
            let newest = versions.range(..=version).next_back().map(|(version, value)| (*version, value.is_none()));
            if let Some((newest, is_deletion)) = newest {
                versions.retain(|at, _| *at > newest || (*at == newest && !is_deletion));
            }
        }
        Ok(())
    }

    fn settle(&self) -> Outcome<()> {
        Ok(())
    }

    fn close(self) -> Outcome<()> {
        let mut rows = self.rows.into_inner().map_err(|_poisoned| Failure::Panicked)?;
        if Self::MISTAKE == Mistake::ForgetsWhenClosed {
            rows.1.clear();
        }
        closed()?.insert(self.directory, rows);
        Ok(())
    }
}
