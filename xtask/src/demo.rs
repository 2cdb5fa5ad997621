//! `cargo xtask demo`: the main job, on a real git repository and through the real program.
//!
//! It imports the repository's history and kills the import with SIGKILL on its way, some times; each time the store must open again
//! with everything that the import had reported. Then it lets the import end, reads three versions back, shows a difference and
//! one key's history, and compares versions with `git ls-tree`, path for path. Any difference is a failure.

mod trees;

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::demo::trees::{expected_rows, git_text};
use crate::histories;
use crate::process::{Failure, capture};
use crate::workspace::Workspace;

/// How often the import is killed, if the history is long enough.
const KILLS_MAX: u32 = 3;
/// How many commits an import gets at most before it is killed: each of them waits for the disk.
const COMMITS_BEFORE_KILL_MAX: u64 = 500;
/// How many versions are compared besides the first, the middle and the last.
const RANDOM_VERSIONS: usize = 5;
/// How many lines of a command's output are shown.
const LINES_SHOWN: usize = 6;
/// Among how many of the newest commits the key is chosen whose history is shown.
const RECENT_COMMITS: u64 = 2_000;

/// Runs the main job on the repository that is named, or on the workspace's own.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<(), Failure> {
    let (repository, seed) = parse(arguments)?;
    let repository = repository.unwrap_or_else(|| workspace.root.clone());
    let tip = git_text(&repository, &["rev-parse", "--verify", "HEAD^{commit}"])
        .map_err(|failure| Failure::new(format!("{}; name a git repository: cargo xtask demo REPOSITORY", failure.message())))?;
    let commits: Vec<String> =
        git_text(&repository, &["rev-list", "--first-parent", "--reverse", &tip])?.lines().map(str::to_owned).collect();
    let program = histories::build(workspace)?;
    let store = workspace.target()?.join("demo").join("store");
    if store.exists() {
        std::fs::remove_dir_all(&store).map_err(Failure::io("remove", &store))?;
    }
    let parent = store.parent().unwrap_or(&store);
    std::fs::create_dir_all(parent).map_err(Failure::io("create", parent))?;
    println!("\nThe history of {}: {} commits. Seed {seed}.", repository.display(), commits.len());
    let mut demo = Demo { program, store, repository, tip, commits, random: seed };
    demo.import_with_kills()?;
    demo.finish_import()?;
    demo.read_back()?;
    demo.show_changes()?;
    demo.compare()
}

/// The repository, if one is named, and the seed.
fn parse(arguments: &[String]) -> Result<(Option<PathBuf>, u64), Failure> {
    let (mut repository, mut seed) = (None, u64::from(std::process::id()));
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--seed" => {
                let value = words.next().ok_or_else(|| Failure::Usage("--seed needs a number".to_owned()))?;
                seed = value.parse().map_err(|_error| Failure::Usage(format!("--seed {value}: not a number")))?;
            }
            option if option.starts_with('-') => return Err(Failure::Usage(format!("unknown option {option:?}"))),
            path if repository.is_none() => repository = Some(PathBuf::from(path)),
            more => return Err(Failure::Usage(format!("one repository is enough: {more:?}"))),
        }
    }
    Ok((repository, seed))
}

struct Demo {
    program: PathBuf,
    store: PathBuf,
    repository: PathBuf,
    /// The commit up to which the history is imported, so that new commits do not matter.
    tip: String,
    /// The ids of the history's commits: version n is the commit at n - 1.
    commits: Vec<String>,
    random: u64,
}

impl Demo {
    fn last(&self) -> u64 {
        self.commits.len() as u64
    }

    /// A number below `limit`, which is not 0.
    fn below(&mut self, limit: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ (mixed >> 31)) % limit
    }

    fn command(&self, name: &str, options: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(name).arg(&self.store).args(options).stdin(Stdio::null());
        command
    }

    fn import(&self, options: &[&str]) -> Command {
        let mut command = self.command("import", &["--git"]);
        command.arg(&self.repository).args(["--rev", &self.tip]).args(options);
        command
    }

    /// Shows a command and the first lines of what it prints.
    fn show(&self, command: &mut Command) -> Result<(), Failure> {
        self.announce(command);
        let output = capture(command)?;
        let text = String::from_utf8_lossy(&output);
        for line in text.lines().take(LINES_SHOWN) {
            println!("  {line}");
        }
        match text.lines().count().saturating_sub(LINES_SHOWN) {
            0 => {}
            more => println!("  .. and {more} more lines"),
        }
        Ok(())
    }

    fn announce(&self, command: &Command) {
        let words =
            command.get_args().map(|word| if word == self.store.as_os_str() { "STORE".into() } else { word.to_string_lossy() });
        println!("$ thermocline {}", words.collect::<Vec<_>>().join(" "));
    }

    fn import_with_kills(&mut self) -> Result<(), Failure> {
        println!("\n1. Import with every commit made durable, and kill the process on its way");
        let mut found = 0;
        for _ in 0..KILLS_MAX {
            let left = self.last() - found;
            if left < 2 {
                break;
            }
            let wanted = found + 1 + self.below(COMMITS_BEFORE_KILL_MAX.min(left - 1));
            let mut import = self.import(&["--durability", "sync", "--report-every", "1"]);
            self.announce(&import);
            let child = import.stdout(Stdio::piped()).spawn().map_err(Failure::io("run", &self.program))?;
            let reported = kill_after(child, wanted)?;
            self.show(&mut self.command("verify", &[]))?;
            found = self.last_version()?;
            if found < reported {
                return Err(Failure::new(format!("version {reported} was reported as durable, but the store is at {found}")));
            }
            println!("  the store is at version {found}: nothing that was reported is lost");
        }
        if self.last() < 2 {
            println!("  the history has one commit: too short to kill an import on its way");
        }
        Ok(())
    }

    fn last_version(&self) -> Result<u64, Failure> {
        let stats = capture(&mut self.command("stats", &["--format", "json"]))?;
        let stats: Option<serde_json::Value> = serde_json::from_slice(&stats).ok();
        let version = stats.as_ref().and_then(|stats| stats.get("last_version")?.as_u64());
        version.ok_or_else(|| Failure::new("thermocline stats does not tell the last version"))
    }

    fn finish_import(&self) -> Result<(), Failure> {
        println!("\n2. Go on to the end of the history");
        self.show(&mut self.import(&[]))?;
        match self.last_version()? {
            found if found == self.last() => Ok(()),
            found => Err(Failure::new(format!("the store is at version {found} after {} commits", self.last()))),
        }
    }

    fn read_back(&self) -> Result<(), Failure> {
        println!("\n3. Read three versions back");
        let mut versions = vec![1, self.last().div_ceil(2), self.last()];
        versions.dedup();
        for version in versions {
            self.show(&mut self.command("scan", &["--at", &version.to_string(), "--limit", "3"]))?;
        }
        Ok(())
    }

    fn show_changes(&self) -> Result<(), Failure> {
        println!("\n4. What changed between two of them, and every version of one key");
        // Version 0, the empty state, is what a history of one commit can be compared with.
        let (from, to) = ((self.last() / 2).to_string(), self.last().to_string());
        self.show(&mut self.command("diff", &[&from, &to]))?;
        match self.busiest_key()? {
            Some(key) => self.show(&mut self.command("history", &["--", &key])),
            None => Ok(()),
        }
    }

    /// The key that was written most often of late.
    fn busiest_key(&self) -> Result<Option<String>, Failure> {
        let since = self.last().saturating_sub(RECENT_COMMITS).to_string();
        let changes = capture(&mut self.command("changes", &["--since", &since, "--format", "tsv"]))?;
        let mut keys: Vec<&str> =
            changes.split(|&byte| byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok()?.split('\t').nth(2)).collect();
        keys.sort_unstable();
        let busiest = keys.chunk_by(|left, right| left == right).max_by_key(|same| same.len());
        Ok(busiest.and_then(|same| same.first()).map(|&key| key.to_owned()))
    }

    fn compare(&mut self) -> Result<(), Failure> {
        println!("\n5. Compare the first, the middle, the last and some random versions with git");
        let last = self.last();
        let mut versions = vec![1, last.div_ceil(2), last];
        versions.extend((0..RANDOM_VERSIONS).map(|_| 1 + self.below(last)));
        versions.sort_unstable();
        versions.dedup();
        for version in &versions {
            self.compare_one(*version)?;
        }
        println!("\nAll {} compared versions are exactly git's trees.", versions.len());
        Ok(())
    }

    fn compare_one(&self, version: u64) -> Result<(), Failure> {
        let index = usize::try_from(version - 1).map_err(|error| Failure::new(error.to_string()))?;
        let commit = self.commits.get(index).ok_or_else(|| Failure::new(format!("there is no commit {version}")))?;
        let (paths, expected) = expected_rows(&self.repository, commit)?;
        let found = capture(&mut self.command("scan", &["--at", &version.to_string(), "--format", "tsv"]))?;
        if found != expected {
            let store = self.store.display();
            return Err(Failure::new(format!("version {version} of {store} differs from git ls-tree -r {commit}")));
        }
        println!("  version {version}: all {paths} paths have the blob ids that git ls-tree -r {commit} names");
        Ok(())
    }
}

/// Waits until the import reports a version, kills it, and returns what it reported last.
fn kill_after(mut import: Child, wanted: u64) -> Result<u64, Failure> {
    let failed = |error| Failure::new(format!("cannot follow the import: {error}"));
    let mut reported = 0;
    if let Some(output) = import.stdout.take() {
        // Read a little at a time, so that the import is not far ahead of what was read.
        for line in BufReader::with_capacity(64, output).lines() {
            if let Some(version) = line.map_err(failed)?.strip_prefix("committed ").and_then(|version| version.parse().ok()) {
                reported = version;
            }
            if reported >= wanted {
                import.kill().map_err(failed)?;
                break;
            }
        }
    }
    let status = import.wait().map_err(failed)?;
    if status.success() {
        println!("  it ended before it could be killed, after it reported version {reported}");
    } else if status.code().is_none() {
        println!("  killed after it reported version {reported}");
    } else {
        return Err(Failure::new(format!("the import failed: {status}")));
    }
    Ok(reported)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::{Command, Stdio};

    use super::{kill_after, parse};
    use crate::process::Failure;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn options_are_a_repository_and_a_seed() {
        let (repository, seed) = parse(&words("--seed 7 some/where")).unwrap();
        assert_eq!((repository.as_deref(), seed), (Some(Path::new("some/where")), 7));
        assert_eq!(parse(&[]).unwrap().0, None);
        for line in ["--seed", "--seed x", "--other", "a b"] {
            assert!(matches!(parse(&words(line)), Err(Failure::Usage(_))), "{line}");
        }
    }

    #[test]
    fn import_is_killed_at_the_version_or_ends_or_fails() {
        let child = |script: &str| Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        assert_eq!(kill_after(child("echo committed 1; echo committed 2; exec sleep 600"), 2), Ok(2));
        assert_eq!(kill_after(child("echo committed 1; echo imported"), 9), Ok(1));
        assert!(kill_after(child("echo committed 1; exit 3"), 9).is_err());
    }
}
