//! The options of `cargo xtask histories`, and its random moments.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::process::Failure;
use crate::workspace::Workspace;

/// Where histories are looked for when nobody says.
const DATA_DEFAULT: &str = "../shared/data";
const DATA_VARIABLE: &str = "THERMOCLINE_HISTORIES";
const KILL_ROUNDS_DEFAULT: u32 = 5;
/// So little that most of a history leaves memory for files, through several levels of them.
const HOT_BUDGET_DEFAULT: &str = "64KiB";

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Options {
    /// The folder with the histories.
    pub(super) data: PathBuf,
    /// Whether that folder was named, so that an empty one is a failure.
    pub(super) data_was_asked_for: bool,
    /// How many imports are made with kills.
    pub(super) kill_rounds: u32,
    /// What each of the tables may use that take the writes, in words that the program understands.
    pub(super) hot_budget: String,
    /// The seed of the random moments.
    pub(super) seed: u64,
    /// A program to check in place of the one that is built.
    pub(super) program: Option<PathBuf>,
}

impl Options {
    /// Reads the command line; paths are relative to the current folder, the default to the workspace.
    pub(super) fn parse(workspace: &Workspace, arguments: &[String]) -> Result<Self, Failure> {
        let named = std::env::var_os(DATA_VARIABLE).map(PathBuf::from);
        let mut options = Self {
            data_was_asked_for: named.is_some(),
            data: named.unwrap_or_else(|| workspace.path(DATA_DEFAULT)),
            kill_rounds: KILL_ROUNDS_DEFAULT,
            hot_budget: HOT_BUDGET_DEFAULT.to_owned(),
            seed: seed_of_the_moment(),
            program: None,
        };
        let mut words = arguments.iter();
        while let Some(option) = words.next() {
            let value = words.next().ok_or_else(|| Failure::Usage(format!("{option} needs a value")))?;
            let number = || value.parse::<u64>().map_err(|_error| Failure::Usage(format!("{option} {value}: not a number")));
            match option.as_str() {
                "--data" => {
                    options.data = PathBuf::from(value);
                    options.data_was_asked_for = true;
                }
                "--kill" => {
                    options.kill_rounds = u32::try_from(number()?)
                        .map_err(|_error| Failure::Usage(format!("{option} {value}: too many rounds")))?;
                }
                "--hot-budget" => options.hot_budget.clone_from(value),
                "--seed" => options.seed = number()?,
                "--cli" => options.program = Some(PathBuf::from(value)),
                _ => return Err(Failure::Usage(format!("unknown option {option:?}"))),
            }
        }
        Ok(options)
    }
}

fn seed_of_the_moment() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since.as_secs().wrapping_mul(1_000_000_007).wrapping_add(u64::from(since.subsec_nanos()))
}

/// Random moments from a seed: `SplitMix64`.
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    /// A sequence that the seed decides.
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A duration below this one.
    pub(super) fn below(&mut self, limit: Duration) -> Duration {
        let micros = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.next().checked_rem(micros).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::time::Duration;

    use super::{Options, Random};
    use crate::process::Failure;
    use crate::workspace::Workspace;

    fn parse(arguments: &[&str]) -> Result<Options, Failure> {
        let workspace = Workspace { root: PathBuf::from("root") };
        Options::parse(&workspace, &arguments.iter().map(|&word| word.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn options_are_read() {
        assert_eq!(parse(&[]).unwrap().hot_budget, "64KiB");
        let words = ["--data", "folder", "--kill", "7", "--hot-budget", "1MiB", "--seed", "9", "--cli", "program"];
        let options = parse(&words).unwrap();
        assert_eq!(options.hot_budget, "1MiB");
        assert_eq!((options.data.as_path(), options.data_was_asked_for), (Path::new("folder"), true));
        assert_eq!((options.kill_rounds, options.seed, options.program), (7, 9, Some(PathBuf::from("program"))));
    }

    #[test]
    fn options_that_make_no_sense_are_refused() {
        for wrong in [&["--data"][..], &["--kill", "x"], &["--kill", "-1"], &["--kill", "4294967296"], &["--fast", "1"]] {
            assert!(matches!(parse(wrong), Err(Failure::Usage(_))), "{wrong:?}");
        }
    }

    #[test]
    fn moments_follow_from_the_seed_and_stay_below_the_limit() {
        let moments = |seed| {
            let mut random = Random::new(seed);
            (0..100).map(|_| random.below(Duration::from_millis(3))).collect::<Vec<_>>()
        };
        assert_eq!(moments(1), moments(1));
        assert_ne!(moments(1), moments(2));
        assert!(moments(1).iter().all(|moment| *moment < Duration::from_millis(3)));
        assert_eq!(Random::new(1).below(Duration::ZERO), Duration::ZERO);
    }
}
