//! `cargo xtask tidy`: the rules of style that neither the compiler nor clippy checks, so that reviews need not.

mod paths;
mod rust;
mod text;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use crate::process::{Failure, capture, capture_text};
use crate::workspace::{Member, Workspace, has_extension};

/// A broken rule: the file, its line if there is one, and what is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    path: String,
    line: Option<usize>,
    what: String,
}

impl Finding {
    fn at(path: &str, index: usize, what: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line: Some(index + 1), what: what.into() }
    }

    fn file(path: &str, what: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line: None, what: what.into() }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.path, self.what),
            None => write!(f, "{}: {}", self.path, self.what),
        }
    }
}

/// Checks every file that git tracks, or would track.
pub(crate) fn run(workspace: &Workspace) -> Result<(), Failure> {
    let paths = tracked(&workspace.root)?;
    let mut findings = paths::check(&paths);
    let mut lines = 0;
    for path in &paths {
        let Some(text) = read_text(&workspace.path(path))? else {
            continue;
        };
        lines += text.lines().count();
        findings.extend(text::check(path, &text));
        if has_extension(path, "rs") {
            findings.extend(rust::check(path, &text));
        }
        if has_extension(path, "md") {
            findings.extend(text::broken_links(path, &text, |target| workspace.path(target).exists()));
        }
    }
    let members = workspace.members()?;
    findings.extend(names(&members));
    findings.extend(test_programs(&members));
    findings.extend(released_golden_files(workspace)?);
    findings.sort();
    if findings.is_empty() {
        println!("tidy: {} files, {lines} lines, nothing to say", paths.len());
        return Ok(());
    }
    let shown: Vec<String> = findings.iter().map(ToString::to_string).collect();
    Err(Failure::new(format!("{}\ntidy: {} findings", shown.join("\n"), shown.len())))
}

/// The paths that git tracks, and new ones that it does not ignore, relative to the root.
fn tracked(root: &Path) -> Result<Vec<String>, Failure> {
    let mut command = Command::new("git");
    command.current_dir(root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let listed = capture(&mut command)?;
    let mut paths: Vec<String> = listed
        .split(|&byte| byte == 0)
        .filter(|path| !path.is_empty())
        .map(|path| String::from_utf8_lossy(path).into_owned())
        .collect();
    paths.sort();
    paths.dedup();
    Ok(paths)
}

/// The text of a file; nothing for a file that was removed, or that is no text.
fn read_text(path: &Path) -> Result<Option<String>, Failure> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8(bytes).ok()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::io("read", path)(error)),
    }
}

/// A crate's name follows from its folder.
fn names(members: &[Member]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for member in members {
        let Some(folder) = member.folder.strip_prefix("crates/") else {
            continue;
        };
        let expected = if folder == "thermocline" { folder.to_owned() } else { format!("thermocline-{folder}") };
        if member.name != expected {
            let what = format!("the crate is named {}, its folder says {expected}", member.name);
            findings.push(Finding::file(&format!("{}/Cargo.toml", member.folder), what));
        }
    }
    findings
}

/// One test program a crate: each further one is linked on its own and costs seconds.
fn test_programs(members: &[Member]) -> Vec<Finding> {
    let several = members.iter().filter(|member| member.test_programs.len() > 1);
    let finding = |member: &Member| {
        let what = format!("test programs {}: make them modules of one, tests/main/main.rs", member.test_programs.join(", "));
        Finding::file(&format!("{}/tests", member.folder), what)
    };
    several.map(finding).collect()
}

/// Golden files of a released format are never edited: whoever has such files on disk has no other promise.
fn released_golden_files(workspace: &Workspace) -> Result<Vec<Finding>, Failure> {
    let git = |arguments: &[&str]| capture_text(Command::new("git").current_dir(&workspace.root).args(arguments));
    let mut changed = BTreeMap::new();
    for tag in git(&["tag", "--list", "v*"])?.lines() {
        for path in git(&["diff", "--name-only", "--diff-filter=DM", tag, "--", "**/golden/**"])?.lines() {
            changed.entry(path.to_owned()).or_insert_with(|| tag.to_owned());
        }
    }
    let what = |tag| format!("golden file of release {tag} was changed: add a new one instead");
    Ok(changed.iter().map(|(path, tag)| Finding::file(path, what(tag))).collect())
}

#[cfg(test)]
mod tests {
    use super::{Finding, names, test_programs};
    use crate::workspace::Member;

    #[test]
    fn crate_is_named_after_its_folder() {
        let member = |name: &str, folder: &str| Member { name: name.to_owned(), folder: folder.to_owned(), ..Member::default() };
        let right =
            [member("thermocline", "crates/thermocline"), member("thermocline-io", "crates/io"), member("xtask", "xtask")];
        assert_eq!(names(&right), []);
        let what = "the crate is named io, its folder says thermocline-io";
        assert_eq!(names(&[member("io", "crates/io")]), [Finding::file("crates/io/Cargo.toml", what)]);
    }

    #[test]
    fn second_test_program_is_found() {
        let member = |programs: &[&str]| Member {
            folder: "crates/io".to_owned(),
            test_programs: programs.iter().map(|&program| program.to_owned()).collect(),
            ..Member::default()
        };
        assert_eq!(test_programs(&[member(&[]), member(&["main"])]), []);
        let found = test_programs(&[member(&["disk", "main"])]);
        let text = "crates/io/tests: test programs disk, main: make them modules of one, tests/main/main.rs";
        assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), [text]);
    }
}
