//! `cargo xtask msrv`: the minimum supported Rust version is stated, kept by every dependency, and watched by a lint.

use std::process::Command;

use serde_json::Value;

use crate::process::{Failure, run as run_command};
use crate::workspace::{Workspace, list, text};

/// Checks what can be read, and builds with the toolchain itself where it is installed.
pub(crate) fn run(workspace: &Workspace) -> Result<(), Failure> {
    let manifest = workspace.read("Cargo.toml")?;
    let stated = manifest.lines().find_map(|line| line.strip_prefix("rust-version = "));
    let stated = stated.ok_or_else(|| Failure::new("msrv: [workspace.package] states no rust-version"))?.trim_matches('"');
    let mut wrong = Vec::new();
    if !manifest.lines().any(|line| line.starts_with("incompatible_msrv = ")) {
        wrong.push("the workspace's lints do not name clippy's incompatible_msrv".to_owned());
    }
    let members = workspace.members()?;
    for member in &members {
        if member.rust_version.as_deref() != Some(stated) {
            wrong.push(format!("{} does not say rust-version.workspace = true", member.name));
        }
        if !inherits_lints(&workspace.read(&format!("{}/Cargo.toml", member.folder))?) {
            wrong.push(format!("{} does not inherit the workspace's lints", member.name));
        }
    }
    let newer = newer_dependencies(&workspace.resolved()?, stated)?;
    wrong.extend(newer);
    if !wrong.is_empty() {
        return Err(Failure::new(format!("msrv: {}", wrong.join("\nmsrv: "))));
    }
    println!("msrv: {} crates state {stated}, and no dependency asks for more", members.len());
    build(workspace, stated)
}

fn inherits_lints(manifest: &str) -> bool {
    let mut lines = manifest.lines().skip_while(|line| line.trim() != "[lints]").skip(1);
    lines.next().is_some_and(|line| line.trim() == "workspace = true")
}

fn newer_dependencies(metadata: &Value, stated: &str) -> Result<Vec<String>, Failure> {
    let mut newer = Vec::new();
    for package in list(metadata, "packages") {
        let Some(asked) = package.get("rust_version").and_then(Value::as_str) else {
            continue;
        };
        if numbers(asked) > numbers(stated) {
            newer.push(format!("{} {} asks for Rust {asked}", text(package, "name")?, text(package, "version")?));
        }
    }
    Ok(newer)
}

/// `1.89` and `1.89.0` are one version.
fn numbers(version: &str) -> [u64; 3] {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(u64::MAX));
    std::array::from_fn(|_| parts.next().unwrap_or(0))
}

fn build(workspace: &Workspace, stated: &str) -> Result<(), Failure> {
    let toolchains = Command::new("rustup").args(["toolchain", "list"]).output();
    let installed = toolchains.is_ok_and(|output| {
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .any(|line| line.starts_with(&format!("{stated}-")) || line.starts_with(&format!("{stated}.")))
    });
    if !installed {
        println!("SKIPPED: building with Rust {stated} (that toolchain is not installed; the lint incompatible_msrv stands in)");
        return Ok(());
    }
    // A folder of its own, so that two compilers do not undo each other's work.
    let target = workspace.target()?.join("msrv");
    let mut command = Command::new("rustup");
    command.current_dir(&workspace.root).env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO").env_remove("RUSTC");
    command.args(["run", stated, "cargo", "check", "--workspace", "--locked", "--target-dir"]).arg(target);
    run_command(&mut command)
}

#[cfg(test)]
mod tests {
    use super::{inherits_lints, newer_dependencies, numbers};

    #[test]
    fn versions_compare_by_number() {
        assert!(numbers("1.9") < numbers("1.89"));
        assert_eq!(numbers("1.89"), numbers("1.89.0"));
        assert!(numbers("1.89.1") > numbers("1.89"));
    }

    #[test]
    fn dependency_that_asks_for_more_is_named() {
        let metadata = serde_json::json!({ "packages": [
            { "name": "old", "version": "1.0.0", "rust_version": "1.70" },
            { "name": "silent", "version": "1.0.0" },
            { "name": "new", "version": "2.1.0", "rust_version": "1.90.1" },
        ] });
        assert_eq!(newer_dependencies(&metadata, "1.89").unwrap(), ["new 2.1.0 asks for Rust 1.90.1"]);
    }

    #[test]
    fn lints_are_inherited_by_the_line_below_their_heading() {
        assert!(inherits_lints("[package]\nname = \"a\"\n\n[lints]\nworkspace = true\n"));
        assert!(!inherits_lints("[package]\nversion.workspace = true\n"));
        assert!(!inherits_lints("[lints]\n[dependencies]\nworkspace = true\n"));
    }
}
