//! `cargo xtask bench`: the workload harness; `--compare` puts other engines beside this one, `--gate` counts instructions, `--setup`
//! installs what those two need.

use std::path::PathBuf;
use std::process::Command;

use crate::histories;
use crate::process::{Failure, capture, capture_text, cargo, run as run_command};
use crate::workspace::Workspace;

/// What building the other engines needs beyond Rust, and the counter of instructions, as Debian calls it.
const PACKAGES: [&str; 3] = ["g++", "libclang-dev", "valgrind"];

/// The workloads of the gate; its program knows them by these names.
const GATE: [&str; 15] = [
    "load",
    "reopen",
    "get",
    "get-at",
    "get-16",
    "scan",
    "scan-at",
    "scan-full",
    "diff",
    "settled-get",
    "settled-get-at",
    "settled-get-16",
    "settled-scan",
    "settled-scan-at",
    "settled-diff",
];
/// The committed figures: a name and a number of instructions a line, with a tab between.
const GATE_FILE: &str = "benches/gate.tsv";
/// By how much a figure may grow, in thousandths: hash seeds are random, and allocators differ a little.
const GATE_TOLERANCE_PERMILLE: i64 = 30;
/// A figure that falls by more is not believed.
const GATE_TRUST_PERMILLE: i64 = 600;

/// Runs what the first argument names; without one of its words, the harness with all arguments.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<(), Failure> {
    match arguments.split_first() {
        Some((first, [])) if first == "--setup" => setup(),
        Some((first, rest)) if first == "--compare" => compare(workspace, rest),
        Some((first, rest)) if first == "--gate" => gate(workspace, rest),
        _ => {
            let harness = ["run", "--release", "--locked", "--package", "thermocline-benches", "--"];
            run_command(cargo().current_dir(&workspace.root).args(harness).args(arguments))
        }
    }
}

/// Installs the packages, as root or by sudo.
fn setup() -> Result<(), Failure> {
    let is_root = capture_text(Command::new("id").arg("-u"))?.trim() == "0";
    let apt = |words: &[&str]| {
        let mut command = if is_root { Command::new("apt-get") } else { Command::new("sudo") };
        if !is_root {
            command.arg("apt-get");
        }
        run_command(command.args(words).args(if words.contains(&"install") { PACKAGES.as_slice() } else { &[] }))
    };
    apt(&["update"]).and_then(|()| apt(&["install", "--yes", "--no-install-recommends"])).map_err(|failure| {
        Failure::new(format!("{}; on other systems than Debian install what it names by hand", failure.message()))
    })
}

/// Builds the comparison, with the engines that are asked for alone, and runs it, or with `--test` the tests of their adapters.
fn compare(workspace: &Workspace, arguments: &[String]) -> Result<(), Failure> {
    let mut arguments = arguments.to_vec();
    let test = arguments.iter().position(|word| word == "--test").map(|place| arguments.remove(place));
    if let Some(place) = arguments.iter().position(|word| word == "--git") {
        let repository = arguments.get(place + 1).ok_or_else(|| Failure::Usage("--git needs a repository".to_owned()))?;
        let file = export(workspace, repository)?;
        arguments.splice(place..=place + 1, ["--tsv".to_owned(), file.display().to_string()]);
    }
    let mut command = cargo();
    let verb = if test.is_some() { "test" } else { "build" };
    command.current_dir(workspace.path("benches/compare")).args([verb, "--release", "--locked", "--target-dir", "target"]);
    let engines = arguments.iter().position(|word| word == "--engines").and_then(|place| arguments.get(place + 1));
    if let Some(engines) = engines {
        let features: Vec<&str> = engines.split(',').filter(|engine| *engine != "thermocline").collect();
        command.args(["--no-default-features", "--features", &features.join(",")]);
    }
    run_command(&mut command)?;
    if test.is_some() {
        return Ok(());
    }
    let program = workspace.path("benches/compare/target/release/thermocline-compare");
    run_command(Command::new(program).current_dir(&workspace.root).args(arguments))
}

/// Imports a git history into a store of its own, and exports it as a file of changes.
fn export(workspace: &Workspace, repository: &str) -> Result<PathBuf, Failure> {
    let program = histories::build(workspace)?;
    let directory = workspace.target()?.join("compare");
    let (store, file) = (directory.join("history"), directory.join("history.tsv"));
    if store.exists() {
        std::fs::remove_dir_all(&store).map_err(Failure::io("remove", &store))?;
    }
    std::fs::create_dir_all(&directory).map_err(Failure::io("create", &directory))?;
    run_command(Command::new(&program).arg("import").arg(&store).args(["--git", repository]))?;
    let changes = capture(Command::new(&program).arg("export").arg(&store).arg("--history"))?;
    std::fs::write(&file, changes).map_err(Failure::io("write", &file))?;
    Ok(file)
}

/// Counts instructions and compares them with the committed figures, or with `--update` commits to new ones.
fn gate(workspace: &Workspace, arguments: &[String]) -> Result<(), Failure> {
    let is_update = match arguments {
        [] => false,
        [word] if word == "--update" => true,
        [word, ..] => return Err(Failure::Usage(format!("unknown option {word:?} of --gate"))),
    };
    let build = ["build", "--release", "--locked", "--package", "thermocline-yardstick", "--bin", "gate"];
    run_command(cargo().current_dir(&workspace.root).args(build))?;
    let known = if is_update { String::new() } else { workspace.read(GATE_FILE)? };
    let (mut lines, mut grown) = (Vec::new(), Vec::new());
    for name in GATE {
        let count = instructions(workspace, name)?;
        lines.push(format!("{name}\t{count}\n"));
        let before = known.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('\t')?.parse::<u64>().ok());
        let Some(before) = before else {
            println!("{name:<12} {count:>14}");
            grown.push(format!("{name} is not in {GATE_FILE}"));
            continue;
        };
        let change = permille(count, before);
        let sign = if change < 0 { "-" } else { "+" };
        println!("{name:<12} {count:>14} {sign}{}.{} %", change.abs() / 10, change.abs() % 10);
        // Far fewer are no progress: nothing was counted.
        if !(-GATE_TRUST_PERMILLE..=GATE_TOLERANCE_PERMILLE).contains(&change) {
            grown.push(format!("{name} from {before} to {count}"));
        }
    }
    if is_update {
        let path = workspace.path(GATE_FILE);
        return std::fs::write(&path, lines.concat()).map_err(Failure::io("write", &path));
    }
    if grown.is_empty() {
        println!("gate: none is more than {} % above {GATE_FILE}", GATE_TOLERANCE_PERMILLE / 10);
        return Ok(());
    }
    let hint = "if that is the price of something, say so in the commit and run cargo xtask bench --gate --update";
    Err(Failure::new(format!("gate: more instructions than {GATE_FILE} allows: {}; {hint}", grown.join(", "))))
}

/// By how many thousandths a count is above another.
fn permille(count: u64, before: u64) -> i64 {
    let ratio = i64::try_from(u128::from(count) * 1000 / u128::from(before.max(1))).unwrap_or(i64::MAX);
    ratio.saturating_sub(1000)
}

/// The instructions of one workload, as callgrind counts them.
fn instructions(workspace: &Workspace, name: &str) -> Result<u64, Failure> {
    let target = workspace.target()?;
    let directory = target.join("gate");
    if directory.exists() {
        std::fs::remove_dir_all(&directory).map_err(Failure::io("remove", &directory))?;
    }
    std::fs::create_dir_all(&directory).map_err(Failure::io("create", &directory))?;
    let counts = target.join("gate.callgrind");
    let mut command = Command::new("valgrind");
    command.args(["--quiet", "--tool=callgrind", "--collect-atstart=no", "--toggle-collect=gate::measured*"]);
    command.arg(format!("--callgrind-out-file={}", counts.display()));
    command.arg(target.join("release").join("gate")).arg(name).arg(&directory);
    capture_text(&mut command)
        .map_err(|failure| Failure::new(format!("{}; cargo xtask bench --setup installs valgrind", failure.message())))?;
    let text = std::fs::read_to_string(&counts).map_err(Failure::io("read", &counts))?;
    let total = text.lines().find_map(|line| line.strip_prefix("summary:").or_else(|| line.strip_prefix("totals:")));
    total
        .and_then(|total| total.split_whitespace().next()?.parse().ok())
        .ok_or_else(|| Failure::new(format!("{} has no total", counts.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_counted_in_thousandths() {
        assert_eq!([permille(1030, 1000), permille(1000, 1000), permille(900, 1000)], [30, 0, -100]);
        assert_eq!(permille(u64::MAX, 1), i64::MAX - 1000);
    }

    #[test]
    fn gate_has_a_committed_figure_for_each_of_its_workloads() {
        let known = Workspace::find().unwrap().read(GATE_FILE).unwrap();
        let names: Vec<&str> = known.lines().filter_map(|line| line.split_once('\t')).map(|(name, _)| name).collect();
        assert_eq!(names, GATE);
    }

    /// The comparison is built with its own list of locked crates, by nobody until somebody compares: it must not fall behind.
    #[test]
    fn comparison_has_locked_all_that_this_workspace_depends_on() {
        let workspace = Workspace::find().unwrap();
        let lock = workspace.read("benches/compare/Cargo.lock").unwrap();
        let members = workspace.members().unwrap();
        let (mut wanted, mut seen) = (vec!["thermocline-yardstick"], Vec::new());
        while let Some(name) = wanted.pop() {
            let Some(member) = members.iter().find(|member| member.name == name && !seen.contains(&name)) else { continue };
            seen.push(name);
            let package = lock.split("[[package]]").find(|package| package.contains(&format!("name = \"{name}\"\n")));
            let package = package.unwrap_or_else(|| panic!("{name} is not locked"));
            for dependency in member.dependencies.iter().filter(|dependency| !dependency.development) {
                let other = &dependency.name;
                let is_locked = package.contains(&format!(" \"{other}\"")) || package.contains(&format!(" \"{other} "));
                assert!(is_locked, "{name} depends on {other}: run cargo update --workspace in benches/compare");
                wanted.push(other);
            }
        }
        assert!(seen.contains(&"thermocline-warm"), "{seen:?}");
    }
}
