//! `cargo xtask models`: the lock-free parts under loom, which runs them through every interleaving within its bounds.

use crate::process::{Failure, cargo, run as run_command};
use crate::workspace::Workspace;

/// Switches away from a running thread that loom tries, besides those where it waits: most races need no more, and the cost grows
/// with the power of it.
const PREEMPTIONS_MAX: &str = "2";

/// Builds apart from everything else, since the flag changes every crate.
pub(crate) fn run(workspace: &Workspace) -> Result<(), Failure> {
    let arguments = ["test", "--release", "--locked", "-p", "thermocline-hot", "--lib", "models::"];
    let mut command = cargo();
    command.current_dir(&workspace.root).args(arguments);
    command.env("RUSTFLAGS", "--cfg loom").env("LOOM_MAX_PREEMPTIONS", PREEMPTIONS_MAX);
    command.env("CARGO_TARGET_DIR", workspace.root.join("target").join("loom"));
    run_command(&mut command)
}
