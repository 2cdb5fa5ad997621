//! `cargo xtask bench`: the workload harness, in release.

use crate::process::{Failure, cargo, run as run_command};
use crate::workspace::Workspace;

/// Runs the harness with `arguments`.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<(), Failure> {
    let harness = ["run", "--release", "--locked", "--package", "thermocline-benches", "--"];
    run_command(cargo().current_dir(&workspace.root).args(harness).args(arguments))
}
