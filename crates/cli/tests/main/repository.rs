//! A small git repository that a test makes, whatever git is configured to do on this machine.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub(crate) struct Repository(pub(crate) PathBuf);

impl Repository {
    pub(crate) fn new(path: PathBuf) -> Self {
        std::fs::create_dir_all(&path).unwrap();
        let repository = Self(path);
        repository.git(&["init", "--quiet", "--initial-branch=main"]);
        repository
    }

    fn command(&self) -> Command {
        let mut command = Command::new("git");
        command.arg("-C").arg(&self.0).stdin(Stdio::null());
        for (variable, value) in [
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_CONFIG_SYSTEM", "/dev/null"),
            ("GIT_AUTHOR_NAME", "A"),
            ("GIT_AUTHOR_EMAIL", "a@example.org"),
            ("GIT_COMMITTER_NAME", "A"),
            ("GIT_COMMITTER_EMAIL", "a@example.org"),
        ] {
            command.env(variable, value);
        }
        for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"] {
            command.env_remove(variable);
        }
        command
    }

    /// What git prints.
    #[track_caller]
    pub(crate) fn git(&self, arguments: &[&str]) -> Vec<u8> {
        let output = self.command().args(arguments).output().unwrap();
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// Writes a file, or removes it, without committing.
    pub(crate) fn edit(&self, path: impl AsRef<Path>, content: Option<&[u8]>) {
        let path = self.0.join(path);
        match content {
            Some(content) => {
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, content).unwrap();
            }
            None => std::fs::remove_file(path).unwrap(),
        }
    }

    pub(crate) fn commit(&self, message: &str) {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message", message]);
    }

    /// The ids of the commits on the way of first parents, oldest first.
    pub(crate) fn commits(&self) -> Vec<String> {
        let ids = self.git(&["log", "--first-parent", "--reverse", "--format=%H"]);
        String::from_utf8(ids).unwrap().lines().map(str::to_owned).collect()
    }

    /// The tree of a commit: path and blob id, with the mode before, in byte order of paths.
    pub(crate) fn tree(&self, commit: &str) -> Vec<(String, Vec<u8>, Vec<u8>)> {
        let listed = self.git(&["ls-tree", "-r", "-z", commit]);
        let entries = listed.split(|byte| *byte == 0).filter(|entry| !entry.is_empty()).map(|entry| {
            let tab = entry.iter().position(|byte| *byte == b'\t').unwrap();
            let words: Vec<&[u8]> = entry[..tab].split(|byte| *byte == b' ').collect();
            (String::from_utf8(words[0].to_vec()).unwrap(), entry[tab + 1..].to_vec(), words[2].to_vec())
        });
        let mut entries: Vec<_> = entries.collect();
        entries.sort_by(|left, right| left.1.cmp(&right.1));
        entries
    }
}

/// A repository with everything that a history can hold: an empty commit, a merge, a rename, a delete, a file that becomes a
/// directory and one that becomes a symbolic link, a change of mode alone, a submodule, and names that git quotes.
pub(crate) fn eventful(path: PathBuf) -> Repository {
    let repository = Repository::new(path);
    repository.edit("plain", Some(b"one\n"));
    repository.edit("with space/\u{e4}\u{f6}\u{fc} \"quoted\"", Some(b"\x00\xff binary\n"));
    repository.edit("becomes", Some(b"a file"));
    repository.commit("first");
    repository.commit("nothing");
    repository.git(&["checkout", "--quiet", "-b", "side"]);
    repository.edit("side", Some(b"side\n"));
    repository.commit("on the side");
    repository.git(&["checkout", "--quiet", "main"]);
    repository.edit("main", Some(b""));
    repository.commit("on main");
    repository.git(&["merge", "--quiet", "--no-ff", "--message", "merge", "side"]);
    repository.git(&["mv", "plain", "renamed"]);
    repository.commit("rename");
    repository.edit("becomes", None);
    repository.edit("becomes/a/directory", Some(b"inside"));
    repository.edit("side", None);
    repository.commit("directory, delete");
    repository.git(&["update-index", "--chmod=+x", "renamed"]);
    repository.git(&["commit", "--quiet", "--message", "mode"]);
    repository.git(&["reset", "--hard", "--quiet"]);
    // A submodule needs no repository behind it to be in a tree.
    let id = "587be6b4c3f93f93c489c0111bba5596147a26cb";
    repository.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{id},module")]);
    repository.git(&["commit", "--quiet", "--message", "submodule"]);
    link(&repository);
    repository
}

#[cfg(unix)]
fn link(repository: &Repository) {
    repository.edit("main", None);
    std::os::unix::fs::symlink("renamed", repository.0.join("main")).unwrap();
    repository.git(&["add", "main"]);
    repository.git(&["commit", "--quiet", "--message", "link"]);
}

#[cfg(not(unix))]
fn link(_repository: &Repository) {}
