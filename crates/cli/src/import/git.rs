//! Histories of git repositories, through the `git` program.
//!
//! Commit n of the history is the n-th commit on the way of first parents from the oldest that the repository has to the chosen revision.
//! A merge is what it changed against its first parent. A shallow clone begins with the commit where it was cut, whole.
//! Renames are a del and a put. What changes only the mode of a file changes no value and is not written. A symbolic link is a
//! blob like any other. A submodule has the id of its commit as value; with contents it has none and is left out.
//!
//! Only git's plumbing commands are used, whose output no configuration changes; reading merges needs git 2.31 or newer.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use thermocline::{KeyRange, Version};

use super::git_blobs::Blobs;
use super::git_changes::{self, Changes, Content, Tree};
use super::{Held, History, HistoryCommit, KeyWrite};
use crate::failure::Failure;
use crate::output::Shown;

/// A repository that is there, and one revision in it.
pub(super) struct GitHistory {
    repository: Repository,
    /// The id of the last commit. Resolved once, so that the repository may go on while it is read.
    tip: String,
    commits_total: u64,
    /// The version of the commit that was handed out last.
    last: u64,
    changes: Option<Changes>,
    /// Where values are contents.
    blobs: Option<Blobs>,
}

/// A directory in which git finds a repository.
#[derive(Clone, Debug)]
pub(super) struct Repository(PathBuf);

/// Variables that would make git look at another repository than the one that was named.
const LOCAL_VARIABLES: [&str; 9] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_COMMON_DIR",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
    "GIT_SHALLOW_FILE",
];

impl Repository {
    /// Git in this repository. Its complaints go to standard error unless its output is collected.
    fn git<I: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = I>) -> Command {
        let mut command = Command::new("git");
        command.arg("-C").arg(&self.0).args(arguments).stdin(Stdio::null());
        for variable in LOCAL_VARIABLES {
            command.env_remove(variable);
        }
        command.env("LC_ALL", "C").env("GIT_OPTIONAL_LOCKS", "0");
        command
    }

    /// Starts git with its output to be read, and its input to be written or taken from elsewhere.
    pub(super) fn spawn<I: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = I>,
        input: impl Into<Stdio>,
    ) -> Result<Child, Failure> {
        self.git(arguments).stdin(input).stdout(Stdio::piped()).spawn().map_err(|error| no_git(&error))
    }

    fn output(&self, arguments: &[&str]) -> Result<Output, Failure> {
        self.git(arguments).output().map_err(|error| no_git(&error))
    }

    /// The one line that git answers, or what it complains of.
    fn line(&self, arguments: &[&str]) -> Result<Result<String, String>, Failure> {
        let output = self.output(arguments)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        Ok(if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) })
    }

    /// As [`line`](Self::line), where a complaint is nothing that the user could have caused.
    fn answer(&self, arguments: &[&str]) -> Result<String, Failure> {
        self.line(arguments)?.map_err(|complaint| Failure::Git(format!("`git {}` failed: {complaint}", arguments.join(" "))))
    }
}

fn no_git(error: &std::io::Error) -> Failure {
    Failure::Git(format!("cannot run `git`, which reads the repository: {error}"))
}

impl GitHistory {
    pub(super) fn open(path: &Path, revision: &str, with_contents: bool) -> Result<Self, Failure> {
        let repository = Repository(path.to_path_buf());
        let shown = path.display();
        let prefix = repository
            .line(&["rev-parse", "--show-prefix"])?
            .map_err(|complaint| Failure::Git(format!("`{shown}` is no git repository ({complaint})")))?;
        if !prefix.is_empty() {
            let what = format!("`{shown}` is no git repository, but the directory `{prefix}` inside of one");
            return Err(Failure::Refused { what, hint: "name the top directory of the repository" });
        }
        let commit = format!("{revision}^{{commit}}");
        // What begins with a hyphen would be an option to git, and cannot name a commit.
        let found =
            if revision.starts_with('-') { None } else { repository.line(&["rev-parse", "--verify", "--quiet", &commit])?.ok() };
        let tip = found.ok_or_else(|| Failure::Git(format!("the repository `{shown}` has no commit `{revision}`")))?;
        let count = repository.answer(&["rev-list", "--count", "--first-parent", &tip])?;
        let commits_total = count.parse().map_err(|error| Failure::Git(format!("git counted `{count}` commits: {error}")))?;
        let blobs = if with_contents { Some(Blobs::start(&repository)?) } else { None };
        Ok(Self { repository, tip, commits_total, last: 0, changes: None, blobs })
    }

    /// What a change writes to the store; `None` if that is nothing.
    fn write_of(blobs: Option<&mut Blobs>, change: git_changes::Change) -> Result<Option<KeyWrite>, Failure> {
        let Some(blobs) = blobs else {
            let (before, after) = (change.before.id(), change.after.id());
            let write = KeyWrite { key: change.path, value: after.map(<[u8]>::to_vec) };
            return Ok((before != after).then_some(write));
        };
        let (before, after) = (change.before.blob_id(), change.after.blob_id());
        if before == after {
            return Ok(None);
        }
        let value = after.map(|id| blobs.read(id)).transpose()?;
        Ok(Some(KeyWrite { key: change.path, value }))
    }

    /// Proves that the store's state is the tree of the commit that was imported last, path for path.
    fn check_tree(&mut self, held: &Held<'_>) -> Result<(), Failure> {
        let newer_commits = format!("--skip={}", self.commits_total - held.last.0);
        let commit = self.repository.answer(&["rev-list", "--first-parent", "--max-count=1", &newer_commits, &self.tip])?;
        let mut rows = held.store.at(held.last)?.scan(held.table, KeyRange::all());
        let mut tree = Tree::open(&self.repository, &commit)?;
        loop {
            let entry = match tree.next_entry()? {
                Some((_, Content::Submodule(_))) if self.blobs.is_some() => continue,
                entry => entry,
            };
            let row = rows.next().transpose()?;
            let is_same = match (&entry, &row) {
                (None, None) => return Ok(()),
                (Some((path, content)), Some((key, value))) => path[..] == key[..] && self.is_value(content, value)?,
                _ => false,
            };
            if !is_same {
                let path = entry.map(|(path, _)| path).or(row.map(|(key, _)| key.to_vec())).unwrap_or_default();
                let detail = format!("commit {} of the repository is {commit}, and has `{}` otherwise", held.last, Shown(&path));
                return Err(held.other_history(&detail));
            }
        }
    }

    fn is_value(&mut self, content: &Content, value: &[u8]) -> Result<bool, Failure> {
        match (&mut self.blobs, content.id()) {
            (_, None) => Ok(false),
            (None, Some(id)) => Ok(id == value),
            (Some(blobs), Some(id)) => Ok(blobs.read(id)? == value),
        }
    }
}

impl History for GitHistory {
    fn resume(&mut self, held: &Held<'_>) -> Result<(), Failure> {
        self.last = held.last.0;
        if self.last > self.commits_total {
            return Err(held.other_history(&format!("the repository has only {} commits on this way", self.commits_total)));
        }
        if self.last > 0 {
            self.check_tree(held)?;
        }
        self.changes = Some(Changes::start(&self.repository, &self.tip, self.commits_total - self.last)?);
        Ok(())
    }

    fn next(&mut self) -> Result<Option<HistoryCommit>, Failure> {
        let Some(changes) = &mut self.changes else { return Ok(None) };
        if !changes.next_commit()? {
            return Ok(None);
        }
        let mut writes = Vec::new();
        while let Some(change) = changes.next_change()? {
            writes.extend(Self::write_of(self.blobs.as_mut(), change)?);
        }
        self.last += 1;
        Ok(Some(HistoryCommit { version: Version(self.last), writes }))
    }

    fn size(&self) -> (Option<u64>, &'static str) {
        (Some(self.commits_total), "commits")
    }

    fn position(&self) -> u64 {
        self.last
    }
}
