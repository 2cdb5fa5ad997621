//! `cargo xtask formats`: the pages under docs/formats, rendered from the code.
//!
//! A crate that owns a format has an example `formats` that prints its page, or several, each after a line that names it. So the pages
//! come from the field tables that the code itself checks and dumps by, and this program needs to know no crate of the engine.

use std::collections::BTreeMap;
use std::path::Path;

use crate::process::{Failure, capture_text, cargo};
use crate::workspace::{Workspace, has_extension};

/// What to do with the pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Write them.
    Write,
    /// Compare them with what is there.
    Check,
}

const FOLDER: &str = "docs/formats";
/// What begins the line that names the next page; ` -->` ends it.
const PAGE: &str = "<!-- page: ";
const HEAD: &str = "<!-- Rendered from the code by `cargo xtask formats`; do not edit. -->\n";

/// Renders each page and writes or compares it; refuses pages that no crate renders.
pub(crate) fn run(workspace: &Workspace, mode: Mode) -> Result<(), Failure> {
    let pages = render(workspace)?;
    let folder = workspace.path(FOLDER);
    if mode == Mode::Write {
        std::fs::create_dir_all(&folder).map_err(Failure::io("create", &folder))?;
    }
    let mut wrong: Vec<String> = strays(&folder, &pages)?;
    for (name, text) in &pages {
        let path = folder.join(name);
        match mode {
            Mode::Write => std::fs::write(&path, text).map_err(Failure::io("write", &path))?,
            Mode::Check => {
                if std::fs::read_to_string(&path).ok().as_deref() != Some(text) {
                    wrong.push(format!("{FOLDER}/{name} differs from the code: run cargo xtask formats and review the change"));
                }
            }
        }
    }
    if !wrong.is_empty() {
        return Err(Failure::new(wrong.join("\n")));
    }
    let done = if mode == Mode::Write { "written" } else { "equal to the code" };
    println!("formats: {done}: {}", pages.keys().cloned().collect::<Vec<_>>().join(", "));
    Ok(())
}

fn render(workspace: &Workspace) -> Result<BTreeMap<String, String>, Failure> {
    let mut pages = BTreeMap::new();
    for member in workspace.members()? {
        if !workspace.path(&member.folder).join("examples/formats.rs").is_file() {
            continue;
        }
        let mut command = cargo();
        command.current_dir(&workspace.root).args([
            "run",
            "--quiet",
            "--locked",
            "--package",
            &member.name,
            "--example",
            "formats",
        ]);
        let printed = capture_text(&mut command)?;
        pages.extend(split(&member.folder, &printed).into_iter().map(|(name, text)| (name, format!("{HEAD}\n{text}"))));
    }
    Ok(pages)
}

/// The pages that a crate has printed, with their names. One without a line that names it is named after the crate.
fn split(folder: &str, printed: &str) -> Vec<(String, String)> {
    let mut pages = Vec::new();
    for line in printed.split_inclusive('\n') {
        if let Some(name) = line.strip_prefix(PAGE).and_then(|rest| rest.trim_end().strip_suffix(" -->")) {
            pages.push((name.to_owned(), String::new()));
            continue;
        }
        if pages.is_empty() {
            pages.push((page_name(folder), String::new()));
        }
        if let Some((_, text)) = pages.last_mut() {
            text.push_str(line);
        }
    }
    pages
}

/// A page is named after the crate's folder; what all files share is named after the envelope.
fn page_name(folder: &str) -> String {
    match folder.rsplit('/').next().unwrap_or(folder) {
        "format" => "envelope.md".to_owned(),
        name => format!("{name}.md"),
    }
}

fn strays(folder: &Path, pages: &BTreeMap<String, String>) -> Result<Vec<String>, Failure> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Ok(Vec::new());
    };
    let mut strays = Vec::new();
    for entry in entries {
        let name = entry.map_err(Failure::io("list", folder))?.file_name().to_string_lossy().into_owned();
        if has_extension(&name, "md") && !pages.contains_key(&name) {
            strays.push(format!("{FOLDER}/{name} is rendered by no crate: remove it"));
        }
    }
    strays.sort();
    Ok(strays)
}

#[cfg(test)]
mod tests {
    use super::{page_name, split};

    #[test]
    fn page_is_named_after_the_folder() {
        assert_eq!(page_name("crates/wal"), "wal.md");
        assert_eq!(page_name("crates/format"), "envelope.md");
    }

    #[test]
    fn pages_are_told_apart_by_the_lines_that_name_them() {
        let page = |name: &str, text: &str| (name.to_owned(), text.to_owned());
        assert_eq!(split("crates/wal", "# The log\n\ntext\n"), [page("wal.md", "# The log\n\ntext\n")]);
        let printed = "<!-- page: one.md -->\n# One\n<!-- page: two.md -->\n# Two\n\ntext\n";
        assert_eq!(split("crates/warm", printed), [page("one.md", "# One\n"), page("two.md", "# Two\n\ntext\n")]);
    }
}
