//! `cargo xtask test`: every test of the workspace.

use crate::process::{Failure, cargo, run as run_command};
use crate::workspace::Workspace;

/// Runs all tests with nextest where it is installed, else with cargo's own runner, and then the doctests, which nextest does not run.
/// Both print their own summaries. With `arguments` the runner gets them, and the doctests stay away.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<(), Failure> {
    let runner: &[&str] = if nextest_is_installed() { &["nextest", "run"] } else { &["test", "--tests"] };
    // Without --workspace, so that a `--package` among the arguments narrows the run; a virtual manifest stands for all its crates.
    run_command(cargo().current_dir(&workspace.root).args(runner).arg("--locked").args(arguments))?;
    if arguments.is_empty() {
        run_command(cargo().current_dir(&workspace.root).args(["test", "--doc", "--locked"]))?;
    }
    Ok(())
}

fn nextest_is_installed() -> bool {
    cargo().args(["nextest", "--version"]).output().is_ok_and(|output| output.status.success())
}
