//! `cargo xtask histories`: real histories through the real program, compared with states that were taken from git's own trees.
//!
//! Each `NAME-history.tsv` is imported into a new store with little memory, so that most of it goes to sorted files and out of the
//! log, and every version that `NAME-history.expected.tsv` samples is scanned and compared by count and SHA-256, before and after
//! the store is compacted. Then come rounds in which the import, and then the compaction, is killed at random moments and started
//! again until it ends by itself; the store must then hold exactly the same states, and again after it was compacted. It hunts
//! commits that are lost, doubled or torn by a kill, by moving them to files, or by rewriting those.
//!
//! At last each store is told to keep the latest alone, and compacted, with kills too: the last state must be right, the files must
//! hold no second version and no tombstone, and a read as of any older version must be refused as reclaimed.

mod expected;
mod options;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::histories::expected::{Sample, State, samples, state_of};
use crate::histories::options::{Options, Random};
use crate::process::{Failure, capture, cargo, run as run_command};
use crate::workspace::Workspace;

/// A store that needs more kills than this in one round is left to finish: the point is made, and the loop must end.
const KILLS_PER_ROUND_MAX: u32 = 5;
/// The table that histories are imported into.
const TABLE: &str = "multi";
const POLL: Duration = Duration::from_micros(200);

/// Runs the checks on every history in the folder; says so loudly if there is none.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<(), Failure> {
    let options = Options::parse(workspace, arguments)?;
    let histories = find(&options.data)?;
    if histories.is_empty() {
        if options.data_was_asked_for {
            return Err(Failure::new(format!("histories: no NAME-history.tsv in {}", options.data.display())));
        }
        println!("SKIPPED: histories (none in {}; name a folder with --data)", options.data.display());
        return Ok(());
    }
    let program = match &options.program {
        Some(program) => program.clone(),
        None => build(workspace)?,
    };
    let folder = workspace.target()?.join("histories");
    println!("histories: seed {}", options.seed);
    let mut random = Random::new(options.seed);
    for history in &histories {
        let hot_budget = &options.hot_budget;
        let check = Check { program: &program, history, store: folder.join(&history.name), hot_budget };
        check.run(options.kill_rounds, &mut random)?;
    }
    println!("histories: {} histories hold exactly the states of git's trees", histories.len());
    Ok(())
}

/// One history and its samples.
struct History {
    name: String,
    changes: PathBuf,
    samples: Vec<Sample>,
}

fn find(data: &Path) -> Result<Vec<History>, Failure> {
    let Ok(entries) = std::fs::read_dir(data) else {
        return Ok(Vec::new());
    };
    let mut histories = Vec::new();
    for entry in entries {
        let changes = entry.map_err(Failure::io("list", data))?.path();
        let Some(name) = changes.file_name().and_then(|name| name.to_str()?.strip_suffix("-history.tsv")).map(str::to_owned)
        else {
            continue;
        };
        let path = data.join(format!("{name}-history.expected.tsv"));
        let text = std::fs::read_to_string(&path).map_err(Failure::io("read", &path))?;
        let samples = samples(&text).map_err(|error| Failure::new(format!("{}: {error}", path.display())))?;
        histories.push(History { name, changes, samples });
    }
    histories.sort_by(|left, right| left.name.cmp(&right.name));
    Ok(histories)
}

/// Builds the program in release, and returns its path.
pub(crate) fn build(workspace: &Workspace) -> Result<PathBuf, Failure> {
    let arguments = ["build", "--release", "--locked", "--package", "thermocline-cli"];
    run_command(cargo().current_dir(&workspace.root).args(arguments))?;
    Ok(workspace.target()?.join("release").join("thermocline"))
}

/// One history, checked in one folder that each round starts anew.
struct Check<'a> {
    program: &'a Path,
    history: &'a History,
    store: PathBuf,
    hot_budget: &'a str,
}

impl Check<'_> {
    fn run(&self, kill_rounds: u32, random: &mut Random) -> Result<(), Failure> {
        let name = &self.history.name;
        self.start_anew()?;
        let mut import_duration = finish(&mut self.import())?;
        self.compare("imported")?;
        let mut compact_duration = finish(&mut self.compact())?;
        self.compare("compacted")?;
        let count = self.history.samples.len();
        println!(
            "{name}: imported in {:.2} s, compacted in {:.2} s; {count} of {count} sampled versions equal before and after, store \
             verified",
            import_duration.as_secs_f64(),
            compact_duration.as_secs_f64()
        );
        self.keep_the_latest_alone("compacted", || finish(&mut self.compact()).map(|_| ()))?;
        let (mut import_kills, mut compact_kills) = (0, 0);
        for round in 1..=kill_rounds {
            self.start_anew()?;
            let during_import = self.with_kills(|| self.import(), &mut import_duration, random)?;
            self.compare(&format!("round {round}, imported with {during_import} kills"))?;
            let during_compact = self.with_kills(|| self.compact(), &mut compact_duration, random)?;
            self.compare(&format!("round {round}, {during_import} kills before, compacted with {during_compact} kills"))?;
            import_kills += during_import;
            compact_kills += during_compact;
            self.keep_the_latest_alone(&format!("round {round}"), || {
                compact_kills += self.with_kills(|| self.compact(), &mut compact_duration, random)?;
                Ok(())
            })?;
        }
        if kill_rounds > 0 {
            println!(
                "{name}: {kill_rounds} rounds with {import_kills} kills of imports and {compact_kills} of compactions; {count} of \
                 {count} sampled versions equal after each, and the last one alone where the latest is kept"
            );
        }
        self.start_anew()
    }

    fn start_anew(&self) -> Result<(), Failure> {
        if self.store.exists() {
            std::fs::remove_dir_all(&self.store).map_err(Failure::io("remove", &self.store))?;
        }
        let parent = self.store.parent().unwrap_or(&self.store);
        std::fs::create_dir_all(parent).map_err(Failure::io("create", parent))
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.program);
        command.arg(name).arg(&self.store).stdin(Stdio::null());
        command
    }

    /// A command that writes, in little memory, and that keeps no log beyond what recovery needs: the files must hold everything.
    fn writing(&self, name: &str) -> Command {
        let mut command = self.command(name);
        command.args(["--hot-budget", self.hot_budget, "--log-keep", "0"]);
        command
    }

    fn import(&self) -> Command {
        let mut command = self.writing("import");
        command.arg("--tsv").arg(&self.history.changes);
        command
    }

    fn compact(&self) -> Command {
        self.writing("compact")
    }

    /// Runs a command, kills it at a random moment, and goes on until one ends by itself. Returns how many kills hit. `duration` is
    /// how long it takes as a whole, and follows what it really took, so that the moments do not all come too late.
    fn with_kills(&self, command: impl Fn() -> Command, duration: &mut Duration, random: &mut Random) -> Result<u32, Failure> {
        for kills in 0..KILLS_PER_ROUND_MAX {
            let mut command = command();
            command.stdout(Stdio::null()).stderr(Stdio::inherit());
            let start = Instant::now();
            let child = command.spawn().map_err(Failure::io("run", self.program))?;
            if !killed(child, random.below(*duration))? {
                if kills == 0 {
                    *duration = start.elapsed().min(*duration);
                }
                return Ok(kills);
            }
        }
        finish(&mut command())?;
        Ok(KILLS_PER_ROUND_MAX)
    }

    /// Sets the policy, compacts by `compact`, and looks for what must be there, and for what must not.
    fn keep_the_latest_alone(&self, when: &str, compact: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
        let Some((last, older)) = self.history.samples.split_last() else { return Ok(()) };
        capture(self.command("retention").args(["--table", TABLE, "--set", "latest"]))?;
        compact()?;
        self.compare_with(&format!("{when}, latest only"), std::slice::from_ref(last))?;
        let failed = |what: String| Err(Failure::new(format!("{when}, latest only: {}: {what}", self.history.name)));
        let stats = capture(self.command("stats").args(["--format", "json"]))?;
        let stats: Value = serde_json::from_slice(&stats)
            .map_err(|error| Failure::new(format!("`stats --format json` printed no JSON: {error}")))?;
        let count = |name: &str| stats["tables"][TABLE][name].as_u64();
        let (keys, entries, tombstones) = (count("keys"), count("entries"), count("tombstones"));
        if (keys, entries, tombstones) != (Some(last.state.count), Some(last.state.count), Some(0)) {
            return failed(format!(
                "expected {} keys with one entry each, found {keys:?} keys, {entries:?} entries and {tombstones:?} tombstones",
                last.state.count
            ));
        }
        for sample in older {
            let mut scan = self.command("scan");
            let output = scan.args(["--at", &sample.version.to_string()]).output();
            let output = output.map_err(|error| Failure::new(format!("cannot run the program: {error}")))?;
            let said = String::from_utf8_lossy(&output.stderr);
            if output.status.success() || !said.contains(&format!("version {} was reclaimed", sample.version)) {
                return failed(format!("a scan at version {} was not refused as reclaimed: {said}", sample.version));
            }
        }
        Ok(())
    }

    /// Reads every byte of the store, then compares each sampled version. `when` says what was done to it.
    fn compare(&self, when: &str) -> Result<(), Failure> {
        self.compare_with(when, &self.history.samples)
    }

    fn compare_with(&self, when: &str, samples: &[Sample]) -> Result<(), Failure> {
        capture(&mut self.command("verify")).map_err(|failure| Failure::new(format!("{when}: {}", failure.message())))?;
        for sample in samples {
            let mut scan = self.command("scan");
            scan.args(["--at", &sample.version.to_string(), "--format", "tsv"]);
            let found = state_of(&capture(&mut scan)?);
            if found != sample.state {
                let State { count, digest } = &sample.state;
                return Err(Failure::new(format!(
                    "{when}: {} at version {}: expected {count} paths with SHA-256 {digest}, found {} with {}; the store is in {}",
                    self.history.name,
                    sample.version,
                    found.count,
                    found.digest,
                    self.store.display()
                )));
            }
        }
        Ok(())
    }
}

/// Runs a command to its end; says how long it took.
fn finish(command: &mut Command) -> Result<Duration, Failure> {
    let start = Instant::now();
    capture(command)?;
    Ok(start.elapsed())
}

/// Waits so long, then kills the child. Whether it was killed; one that failed by itself is a failure here, too.
fn killed(mut child: Child, delay: Duration) -> Result<bool, Failure> {
    let failed = |error| Failure::new(format!("cannot wait for the program: {error}"));
    let start = Instant::now();
    while start.elapsed() < delay {
        if let Some(status) = child.try_wait().map_err(failed)? {
            return if status.success() { Ok(false) } else { Err(Failure::new(format!("the program failed: {status}"))) };
        }
        std::thread::sleep(POLL);
    }
    child.kill().map_err(failed)?;
    let status = child.wait().map_err(failed)?;
    match (status.success(), status.code()) {
        (true, _) => Ok(false),
        (false, None) => Ok(true),
        (false, Some(_)) => Err(Failure::new(format!("the program failed: {status}"))),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Duration;

    use super::killed;

    #[test]
    fn child_is_killed_or_ends_or_fails() {
        let child = |script: &str| Command::new("sh").args(["-c", script]).spawn().unwrap();
        assert_eq!(killed(child("exec sleep 600"), Duration::ZERO), Ok(true));
        assert_eq!(killed(child("exit 0"), Duration::from_secs(600)), Ok(false));
        assert!(killed(child("exit 3"), Duration::from_secs(600)).is_err());
    }
}
