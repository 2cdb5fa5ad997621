//! The rows of the table: what each measures and the bar that it must meet.

/// How a figure is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// So many of these a second.
    PerSecond(&'static str),
    /// One rate as a multiple of another, or bytes as a multiple of the user's bytes.
    Times,
    /// Nanoseconds.
    Nanoseconds,
}

/// What a figure must reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bar {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
    /// Shown for what it explains.
    None,
}

impl Bar {
    pub(crate) fn is_met(self, value: f64) -> Option<bool> {
        match self {
            Self::AtLeast(bar) => Some(value >= bar),
            Self::AtMost(bar) => Some(value <= bar),
            Self::None => None,
        }
    }
}

/// One row.
#[derive(Debug)]
pub(crate) struct Row {
    /// The short name, for `--only` and for machines.
    pub(crate) name: &'static str,
    /// What is measured.
    pub(crate) what: &'static str,
    pub(crate) unit: Unit,
    pub(crate) bar: Bar,
}

const fn row(name: &'static str, what: &'static str, unit: Unit, bar: Bar) -> Row {
    Row { name, what, unit, bar }
}

const ENTRIES: Unit = Unit::PerSecond("entries");
const KEYS: Unit = Unit::PerSecond("keys");
const COMMITS: Unit = Unit::PerSecond("commits");

/// The budget of the store layer over the tier, for a point read, in nanoseconds.
const OVERHEAD_NS_MAX: f64 = 80.0;

/// Every row, in the order of the table.
pub(crate) const ROWS: &[Row] = &[
    row("load", "load W, `Buffered`, commits of 100, one thread", ENTRIES, Bar::AtLeast(2e6)),
    row("load-two", "two committing threads against one", Unit::Times, Bar::AtLeast(1.0)),
    row("get-latest", "point reads on W, latest, one thread", KEYS, Bar::AtLeast(4e6)),
    row("get-as-of", "point reads on W, as of a random version", KEYS, Bar::AtLeast(2e6)),
    row("get-missing", "point reads on W, missing keys", KEYS, Bar::AtLeast(8e6)),
    row("get-latest-two", "point reads on W, latest, each of two threads against one alone", Unit::Times, Bar::None),
    row("get-as-of-deep", "point reads on D, as of a random version", KEYS, Bar::AtLeast(1.5e6)),
    row("scan-forward", "scans of 100 on W, latest, forward", ENTRIES, Bar::AtLeast(10e6)),
    row("scan-reverse", "scans of 100 on W, latest, reverse", ENTRIES, Bar::AtLeast(10e6)),
    row("scan-as-of", "scans of 100 on W, as of a random version, forward", ENTRIES, Bar::None),
    row("page-forward", "pages of 100 on W, latest, forward", ENTRIES, Bar::None),
    row("scan-deep", "scans of 100 on D, latest, against the same keys with one version", Unit::Times, Bar::AtLeast(0.75)),
    row("scan-as-of-deep", "scans of 100 on D, as of a random version", ENTRIES, Bar::None),
    row("get-many", "`get_many` of 32 on W", KEYS, Bar::AtLeast(8e6)),
    row("get-many-snapshot", "`get_many` of 32 on W, of a snapshot that is held", KEYS, Bar::None),
    row("beside-reader", "a reader beside a writer, against itself alone", Unit::Times, Bar::AtLeast(0.6)),
    row("beside-writer", "a writer beside a reader, against itself alone", Unit::Times, Bar::AtLeast(0.6)),
    row("beside-gets", "a reader beside a writer", KEYS, Bar::None),
    row("beside-inserts", "a writer beside a reader", ENTRIES, Bar::None),
    row("fdatasync", "bare fdatasync of a 4 KiB overwrite", Unit::PerSecond("syncs"), Bar::None),
    row("sync-1", "`Sync` commits from 1 thread, against bare fdatasync", Unit::Times, Bar::AtLeast(0.95)),
    row("sync-8", "`Sync` commits from 8 threads, against bare fdatasync", Unit::Times, Bar::AtLeast(4.0)),
    row("sync-32", "`Sync` commits from 32 threads, against bare fdatasync", Unit::Times, Bar::AtLeast(8.0)),
    row("single", "`Buffered` commits of one entry, one thread", COMMITS, Bar::AtLeast(350e3)),
    row("replay", "log replay, checksums verified: reopening the loaded store", ENTRIES, Bar::AtLeast(1.5e6)),
    row("replay-log", "log replay, checksums verified: the log alone, into nothing", ENTRIES, Bar::None),
    row("changes", "a consumer that reads all changes of W from the log", ENTRIES, Bar::AtLeast(1.5e6)),
    row(
        "load-followed",
        "load W with a consumer that follows and checkpoints, against one without",
        Unit::Times,
        Bar::AtLeast(0.95),
    ),
    row("memory", "memory on W as the tier accounts it, against the user's bytes", Unit::Times, Bar::AtMost(1.7)),
    row("memory-resident", "resident set that W adds, against the user's bytes", Unit::Times, Bar::AtMost(1.7)),
    row("memory-latency-8", "one dependent load from 8 MiB: the machine, not the store", Unit::Nanoseconds, Bar::None),
    row("memory-latency-256", "one dependent load from 256 MiB: the machine, not the store", Unit::Nanoseconds, Bar::None),
    row(
        "reclaim-reader",
        "point reads beside the reclaim of W, the 99th percentile of their latency against that without",
        Unit::Times,
        Bar::AtMost(2.0),
    ),
    row("reclaim-writer", "commits beside the reclaim of W, against their rate without", Unit::Times, Bar::AtLeast(0.7)),
    row(
        "reclaim-size",
        "files of W once all but its last round was reclaimed, against a store of that round",
        Unit::Times,
        Bar::AtMost(1.05),
    ),
    row("reclaim-size-deep", "the same of D", Unit::Times, Bar::AtMost(1.05)),
    row(
        "steady-size",
        "40,000 keys written 50 times, the latest alone kept: size on disk, against that of the first tenth",
        Unit::Times,
        Bar::AtMost(1.5),
    ),
    row("steady-memory", "the same: resident set", Unit::Times, Bar::AtMost(1.2)),
    row("migration-identity", "compacting W with a strategy that changes nothing, against none", Unit::Times, Bar::AtLeast(0.97)),
    row(
        "migration-eighth",
        "compacting W with a strategy that rewrites every 8th value, against none",
        Unit::Times,
        Bar::AtLeast(0.8),
    ),
    row("migration-summaries", "the summaries of 10,000 files, decoded", Unit::Nanoseconds, Bar::AtMost(1e6)),
    row("overhead", "the store over its tier, for a point read", Unit::Nanoseconds, Bar::AtMost(OVERHEAD_NS_MAX)),
    row("overhead-warm", "the store over its tier of files, for a point read", Unit::Nanoseconds, Bar::AtMost(OVERHEAD_NS_MAX)),
    row(
        "open-warm",
        "opening 5 million entries in files after a clean close, until the first answer",
        Unit::Nanoseconds,
        Bar::AtMost(20e6),
    ),
];

/// The same at the level of the tier, without store and log: shown on demand.
pub(crate) const TIER_ROWS: &[Row] = &[
    row("tier-load", "tier: load W by batches of 100", ENTRIES, Bar::None),
    row("tier-get-latest", "tier: point reads on W, latest", KEYS, Bar::None),
    row("tier-get-as-of", "tier: point reads on W, as of a random version", KEYS, Bar::None),
    row("tier-get-missing", "tier: point reads on W, missing keys", KEYS, Bar::None),
    row("tier-get-as-of-deep", "tier: point reads on D, as of a random version", KEYS, Bar::None),
    row("tier-scan-forward", "tier: scans of 100 on W, latest, forward", ENTRIES, Bar::None),
    row("tier-scan-reverse", "tier: scans of 100 on W, latest, reverse", ENTRIES, Bar::None),
    row("tier-get-many", "tier: `get_many` of 32 on W", KEYS, Bar::None),
    row("tier-scan-deep", "tier: scans of 100 on D, latest, against one version", Unit::Times, Bar::None),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = ROWS.iter().chain(TIER_ROWS).map(|row| row.name).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn a_bar_is_met_at_its_very_value() {
        assert_eq!(Bar::AtLeast(2.0).is_met(2.0), Some(true));
        assert_eq!(Bar::AtMost(2.0).is_met(2.1), Some(false));
        assert_eq!(Bar::None.is_met(1.0), None);
    }
}
