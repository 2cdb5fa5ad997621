//! The workloads by name, and the phases that are measured on them.

use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Outcome};
use crate::workload::{COMMIT_ENTRIES, KEY_SIZE_BYTES, VALUE_SIZE_BYTES};

/// What caches and write buffers may take together, unless a workload says otherwise.
pub const CACHE_BYTES: u64 = 512 << 20;

/// What they may take in the workload that shows whether a small budget is kept.
const SMALL_CACHE_BYTES: u64 = 64 << 20;

/// Which phases a workload has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Load, then every kind of read, a difference, reclaiming.
    Whole,
    /// A point of a curve: load, point reads, scans.
    Curve,
    /// Reads and single commits mixed, by a Zipfian distribution, from several threads.
    Mixed,
    /// Durable commits from several threads, and single ones that are not.
    Commits,
    /// A history that is read from a file or a repository.
    Real,
}

/// A workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// Its name on the command line.
    pub name: String,
    /// Which phases it has.
    pub kind: Kind,
    /// Its keys.
    pub keys: u32,
    /// How often each is written.
    pub rounds: u32,
    /// The size of its values, in bytes.
    pub value_size_bytes: usize,
    /// What engines may use for caches and write buffers.
    pub cache_bytes: u64,
}

/// The versions per key along one curve; the entries stay the same.
pub const VERSION_CURVE: [u32; 5] = [1, 4, 16, 64, 256];
/// The powers of ten of keys along the other.
pub const KEY_CURVE: [u32; 4] = [4, 5, 6, 7];
/// The entries of a commit, each of another key.
const COMMIT_KEYS: u32 = 100;
const _: () = assert!(COMMIT_KEYS as usize == COMMIT_ENTRIES);
/// The entries of each point of the curve over versions.
const VERSION_CURVE_ENTRIES: u32 = 512_000;

impl Spec {
    fn new(name: &str, kind: Kind, keys: u32, rounds: u32) -> Self {
        Self { name: name.to_owned(), kind, keys, rounds, value_size_bytes: VALUE_SIZE_BYTES, cache_bytes: CACHE_BYTES }
    }

    /// Every workload, in the order in which they run.
    pub fn all() -> Vec<Self> {
        let large = Self::new("L", Kind::Whole, 10_000_000, 1);
        let mut all = vec![
            Self::new("W", Kind::Whole, 500_000, 4),
            Self::new("D", Kind::Whole, 40_000, 50),
            Self { value_size_bytes: 1024, ..Self::new("S", Kind::Whole, 200_000, 2) },
            Self { cache_bytes: large.user_bytes() / 3, ..large.clone() },
            Self { name: "B".to_owned(), kind: Kind::Curve, cache_bytes: SMALL_CACHE_BYTES, ..large },
            Self::new("Z", Kind::Mixed, 500_000, 1),
            Self::new("Y", Kind::Commits, 10_000, 1),
            Self::new("H", Kind::Real, 0, 0),
        ];
        all.extend(VERSION_CURVE.map(|versions| {
            Self::new(
                &format!("V{versions}"),
                Kind::Curve,
                (VERSION_CURVE_ENTRIES / versions).next_multiple_of(COMMIT_KEYS),
                versions,
            )
        }));
        all.extend(KEY_CURVE.map(|power| Self::new(&format!("K{power}"), Kind::Curve, 10_u32.pow(power), 1)));
        all
    }

    /// The workload of a name.
    pub fn named(name: &str) -> Outcome<Self> {
        let all = Self::all();
        let names = || all.iter().map(|spec| spec.name.as_str()).collect::<Vec<_>>().join(", ");
        let unknown = || Failure::Usage(format!("there is no workload {name:?}; there are {}", names()));
        all.iter().find(|spec| spec.name == name).cloned().ok_or_else(unknown)
    }

    /// The same with a tenth of the keys, and at most 200,000 entries: shows that everything runs.
    #[must_use]
    pub fn quick(self) -> Self {
        const ENTRIES_MAX: u32 = 200_000;
        let most = ENTRIES_MAX / self.rounds.max(1);
        let keys = (self.keys / 10).min(most).next_multiple_of(COMMIT_KEYS).max(4 * COMMIT_KEYS);
        let share = self.cache_bytes.min(self.user_bytes()) as f64 / self.user_bytes().max(1) as f64;
        let quick = Self { keys: if self.kind == Kind::Real { 0 } else { keys }, ..self };
        // What did not fit into the cache shall not fit now.
        if share < 1.0 { Self { cache_bytes: quick.user_bytes() / 3, ..quick } } else { quick }
    }

    /// Keys and values of all entries, in bytes.
    pub fn user_bytes(&self) -> u64 {
        u64::from(self.keys) * u64::from(self.rounds) * (KEY_SIZE_BYTES + self.value_size_bytes) as u64
    }
}

/// Which figure is the better one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// The higher.
    Higher,
    /// The lower.
    Lower,
}

/// One row of a result.
#[derive(Clone, Copy, Debug)]
pub struct Phase {
    /// Its name in tables and files.
    pub name: &'static str,
    /// What is measured.
    pub what: &'static str,
    /// In what.
    pub unit: &'static str,
    /// Which is better.
    pub better: Better,
}

const fn phase(name: &'static str, unit: &'static str, better: Better, what: &'static str) -> Phase {
    Phase { name, what, unit, better }
}

/// All phases, in the order in which they run and are shown.
pub const PHASES: &[Phase] = &[
    phase("load", "entries/s", Better::Higher, "commits of 100 over four tables, buffered, one thread"),
    phase("load-settled", "entries/s", Better::Higher, "the same until flushes, compactions and write-back are done"),
    phase("size", "bytes/user byte", Better::Lower, "files after that, against the keys and values of all versions"),
    phase("written", "bytes/user byte", Better::Lower, "bytes that the process wrote to the device until then"),
    phase("reopen", "s", Better::Lower, "closing, and opening until the first read is answered"),
    phase("get", "keys/s", Better::Higher, "point reads of random keys, latest, one thread"),
    phase("get-2", "keys/s", Better::Higher, "the same from two threads, together"),
    phase("get-at", "keys/s", Better::Higher, "point reads as of random versions"),
    phase("get-16", "keys/s", Better::Higher, "sixteen random keys of a table at a time, latest"),
    phase("get-16-at", "keys/s", Better::Higher, "sixteen at a time as of a random version"),
    phase("get-missing", "keys/s", Better::Higher, "point reads of keys that are not there"),
    phase("scan", "rows/s", Better::Higher, "scans of 100 from random keys, latest"),
    phase("scan-reverse", "rows/s", Better::Higher, "the same towards smaller keys"),
    phase("scan-at", "rows/s", Better::Higher, "scans of 100 as of random versions"),
    phase("scan-full", "rows/s", Better::Higher, "all rows of all tables, latest"),
    phase("scan-full-at", "rows/s", Better::Higher, "all rows as of the middle version"),
    phase("diff", "s", Better::Lower, "what differs between the last version and the one a hundredth of the commits before"),
    phase("reclaim", "s", Better::Lower, "removing what no read of the last version can see, until settled"),
    phase("size-reclaimed", "bytes/user byte", Better::Lower, "files after that, against all keys and values ever written"),
    phase("mixed-95-1", "operations/s", Better::Higher, "95 % latest reads, 5 % single commits, Zipfian, one thread"),
    phase("mixed-95-2", "operations/s", Better::Higher, "two threads"),
    phase("mixed-95-4", "operations/s", Better::Higher, "four threads"),
    phase("mixed-50-1", "operations/s", Better::Higher, "half reads, half single commits, Zipfian, one thread"),
    phase("mixed-50-2", "operations/s", Better::Higher, "two threads"),
    phase("mixed-50-4", "operations/s", Better::Higher, "four threads"),
    phase("fdatasync", "syncs/s", Better::Higher, "bare fdatasync of a 4 KiB overwrite: the machine"),
    phase("sync-1", "commits/s", Better::Higher, "durable commits of one entry, one thread"),
    phase("sync-8", "commits/s", Better::Higher, "eight threads"),
    phase("sync-32", "commits/s", Better::Higher, "thirty-two threads"),
    phase("single", "commits/s", Better::Higher, "buffered commits of one entry, one thread"),
    phase(
        "memory",
        "MiB",
        Better::Lower,
        "the highest resident set above that before the engine was opened, mapped files included",
    ),
    phase("cpu", "s", Better::Lower, "processor time of the whole run, all threads"),
];

/// The phase of a name.
pub fn phase_named(name: &str) -> Option<&'static Phase> {
    PHASES.iter().find(|phase| phase.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_workload_is_made_of_whole_commits_also_when_quick() {
        for spec in Spec::all() {
            for spec in [spec.clone(), spec.quick()] {
                assert!((spec.keys as usize).is_multiple_of(COMMIT_ENTRIES), "{spec:?}");
                assert!(spec.keys.is_multiple_of(4), "{spec:?}");
            }
        }
    }

    #[test]
    fn an_unknown_workload_is_refused_with_those_there_are() {
        assert!(Spec::named("Q").unwrap_err().to_string().contains("W, D, S, L"));
    }
}
