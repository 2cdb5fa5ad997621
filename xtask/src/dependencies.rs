//! `cargo xtask deps`: which crates from outside we build with, under which licences, and that they come from the registry.
//!
//! The list beside this crate is reviewed like code. A crate that moves from `tools` to `engine` is as much a change as a new one:
//! what the engine is built from is what its users build.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::process::Failure;
use crate::workspace::{Workspace, list, text};

/// What to do with the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Compare it with what cargo resolves.
    Check,
    /// Write it.
    Update,
}

const LIST: &str = "xtask/dependencies.tsv";
const HEAD: &str = "# used by\tcrate\tlicence: written by cargo xtask deps --update, on x86_64 Linux\n";
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";
/// The crate that users depend on; what it needs, without its tests, is `engine`. The rest is `tools`.
const ENGINE: &str = "thermocline";
const LICENCES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "LLVM-exception",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Compares or writes the list. Licences and sources are checked in both cases.
pub(crate) fn run(workspace: &Workspace, mode: Mode) -> Result<(), Failure> {
    let metadata = workspace.resolved()?;
    let engine = engine_ids(&metadata)?;
    let resolved: BTreeSet<&str> =
        metadata.get("resolve").map(|resolve| list(resolve, "nodes")).unwrap_or_default().iter().filter_map(id).collect();
    let mut wrong = Vec::new();
    let mut lines = BTreeSet::new();
    for package in list(&metadata, "packages") {
        let (id, name) = (text(package, "id")?, text(package, "name")?);
        let source = package.get("source").and_then(Value::as_str);
        let inside = source.is_none() && text(package, "manifest_path")?.starts_with(&*workspace.root.to_string_lossy());
        if inside || !resolved.contains(id) {
            continue;
        }
        if source != Some(REGISTRY) {
            wrong.push(format!("{name} does not come from the registry: {}", source.unwrap_or("a path")));
        }
        let licence = package.get("license").and_then(Value::as_str).unwrap_or("none stated");
        if !licence_is_allowed(licence) {
            wrong.push(format!("{name} has a licence that is not on our list: {licence}"));
        }
        let user = if engine.contains(id) { "engine" } else { "tools" };
        lines.insert(format!("{user}\t{name}\t{licence}\n"));
    }
    let engine_count = lines.iter().filter(|line| line.starts_with("engine\t")).count();
    compare(workspace, mode, &lines, &mut wrong)?;
    if wrong.is_empty() {
        println!("deps: {engine_count} crates in the engine, {} in tools and tests, as listed", lines.len() - engine_count);
        return Ok(());
    }
    Err(Failure::new(format!("deps: {}", wrong.join("\ndeps: "))))
}

fn compare(workspace: &Workspace, mode: Mode, lines: &BTreeSet<String>, wrong: &mut Vec<String>) -> Result<(), Failure> {
    if mode == Mode::Update {
        let path = workspace.path(LIST);
        let page: String = std::iter::once(HEAD).chain(lines.iter().map(String::as_str)).collect();
        return std::fs::write(&path, page).map_err(Failure::io("write", &path));
    }
    let page = workspace.read(LIST)?;
    let listed: BTreeSet<&str> = page.lines().filter(|line| !line.starts_with('#')).collect();
    let found: BTreeSet<&str> = lines.iter().map(|line| line.trim_end()).collect();
    let shown = |line: &str| line.replace('\t', " ");
    wrong.extend(found.difference(&listed).map(|line| format!("new: {}", shown(line))));
    wrong.extend(listed.difference(&found).map(|line| format!("listed but not used: {}", shown(line))));
    if found != listed {
        wrong.push("if that is meant, run cargo xtask deps --update and say why in the commit".to_owned());
    }
    Ok(())
}

fn id(value: &Value) -> Option<&str> {
    value.get("id").and_then(Value::as_str)
}

/// The packages that the engine is built from: all that can be reached from the facade without the arrows of tests.
fn engine_ids(metadata: &Value) -> Result<BTreeSet<String>, Failure> {
    let nodes = metadata.get("resolve").map(|resolve| list(resolve, "nodes")).unwrap_or_default();
    let by_id: BTreeMap<&str, &Value> = nodes.iter().filter_map(|node| Some((id(node)?, node))).collect();
    let facade = list(metadata, "packages").iter().find(|package| text(package, "name") == Ok(ENGINE));
    let facade = facade.and_then(id).ok_or_else(|| Failure::new(format!("deps: there is no crate {ENGINE}")))?;
    let mut reached = BTreeSet::from([facade.to_owned()]);
    let mut open = vec![facade];
    while let Some(next) = open.pop() {
        for arrow in by_id.get(next).map(|node| list(node, "deps")).unwrap_or_default() {
            let built = list(arrow, "dep_kinds").iter().any(|kind| kind.get("kind").and_then(Value::as_str) != Some("dev"));
            let to = text(arrow, "pkg")?;
            if built && reached.insert(to.to_owned()) {
                open.push(to);
            }
        }
    }
    Ok(reached)
}

/// Strict on purpose: every licence that the expression names must be on the list, also those that it only offers.
fn licence_is_allowed(expression: &str) -> bool {
    let words = expression.split([' ', '/', '(', ')']).filter(|word| !matches!(*word, "" | "AND" | "OR" | "WITH"));
    let mut known = words.map(|word| LICENCES.contains(&word)).peekable();
    known.peek().is_some() && known.all(|known| known)
}

#[cfg(test)]
mod tests {
    use super::{engine_ids, licence_is_allowed};

    #[test]
    fn licences_are_allowed_if_all_their_parts_are() {
        for allowed in ["MIT", "MIT OR Apache-2.0", "MIT/Apache-2.0", "(MIT OR Apache-2.0) AND Unicode-3.0"] {
            assert!(licence_is_allowed(allowed), "{allowed}");
        }
        for refused in ["", "GPL-3.0", "MIT AND GPL-3.0", "MIT OR GPL-3.0", "none stated", " "] {
            assert!(!licence_is_allowed(refused), "{refused}");
        }
    }

    #[test]
    fn engine_is_what_the_facade_reaches_without_its_tests() {
        let metadata = serde_json::json!({
            "packages": [{ "id": "f", "name": "thermocline" }],
            "resolve": { "nodes": [
                { "id": "f", "deps": [
                    { "pkg": "a", "dep_kinds": [{ "kind": null }] },
                    { "pkg": "t", "dep_kinds": [{ "kind": "dev" }] },
                ] },
                { "id": "a", "deps": [{ "pkg": "b", "dep_kinds": [{ "kind": "build" }] }, { "pkg": "f", "dep_kinds": [] }] },
                { "id": "t", "deps": [{ "pkg": "c", "dep_kinds": [{ "kind": null }] }] },
            ] },
        });
        let ids = engine_ids(&metadata).unwrap();
        assert_eq!(ids.iter().map(String::as_str).collect::<Vec<_>>(), ["a", "b", "f"]);
    }
}
