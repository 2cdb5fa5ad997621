//! Real histories for the examples.

use std::collections::BTreeMap;
use std::error::Error;
use std::process::Command;

/// One commit: keys with their new values, or none for those that are deleted.
pub(crate) type Changes = Vec<(String, Option<String>)>;

/// The history that the first argument names, or that of the git repository around the program.
pub(crate) fn read() -> Result<Vec<Changes>, Box<dyn Error>> {
    match std::env::args().nth(1) {
        Some(file) => read_tsv(&file),
        None => read_git(),
    }
}

fn read_tsv(file: &str) -> Result<Vec<Changes>, Box<dyn Error>> {
    let mut commits: BTreeMap<u64, Changes> = BTreeMap::new();
    for line in std::fs::read_to_string(file)?.lines() {
        let mut fields = line.splitn(4, '\t');
        let mut field = || fields.next().ok_or_else(|| format!("no four fields: {line}"));
        let (commit, action, key, value) = (field()?.parse()?, field()?, field()?.to_owned(), field()?.to_owned());
        commits.entry(commit).or_default().push((key, (action == "put").then_some(value)));
    }
    Ok(commits.into_values().collect())
}

fn read_git() -> Result<Vec<Changes>, Box<dyn Error>> {
    let log =
        ["log", "--first-parent", "--reverse", "--diff-merges=first-parent", "--raw", "--no-renames", "--format=tformat:commit"];
    let output = Command::new("git").args(log).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    let mut commits: Vec<Changes> = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        // `:100644 100644 <before> <after> M<TAB>path`
        match line.strip_prefix(':').and_then(|line| line.split_once('\t')) {
            None if line == "commit" => commits.push(Changes::new()),
            None => {}
            Some((change, path)) => {
                let fields: Vec<&str> = change.split(' ').collect();
                let [_, _, _, content, status] = fields[..] else { continue };
                let value = (status != "D").then(|| content.to_owned());
                commits.last_mut().ok_or("a change before the first commit")?.push((path.to_owned(), value));
            }
        }
    }
    Ok(commits)
}
