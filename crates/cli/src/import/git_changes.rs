//! What git prints of commits and trees, read as a stream: `git rev-list | git diff-tree --stdin -z` for the changes of every
//! commit, and `git ls-tree -r -z` for one whole tree.
//!
//! ```text
//! diff-tree:  <commit id> NUL { ":" <mode> " " <mode> " " <id> " " <id> " " <status> NUL <path> NUL }
//! ls-tree:    { <mode> " " <type> " " <id> TAB <path> NUL }
//! ```

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Stdio};

use super::git::Repository;
use crate::failure::Failure;
use crate::output::Shown;

/// The longest piece that git may print between two NULs: far above any path of a real tree.
const PIECE_SIZE_BYTES_MAX: usize = 1 << 20;

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Nothing,
    /// A file or a symbolic link, by the id of its blob in hexadecimal digits.
    Blob(Vec<u8>),
    /// A submodule, by the id of its commit.
    Submodule(Vec<u8>),
}

impl Content {
    /// The id, of a blob or of a commit.
    pub(super) fn id(&self) -> Option<&[u8]> {
        match self {
            Self::Nothing => None,
            Self::Blob(id) | Self::Submodule(id) => Some(id),
        }
    }

    pub(super) fn blob_id(&self) -> Option<&[u8]> {
        match self {
            Self::Blob(id) => Some(id),
            Self::Nothing | Self::Submodule(_) => None,
        }
    }

    fn parse(mode: &[u8], id: &[u8]) -> Option<Self> {
        let is_id = (40..=64).contains(&id.len()) && id.iter().all(u8::is_ascii_hexdigit);
        match mode {
            _ if !is_id => None,
            b"000000" => Some(Self::Nothing),
            b"160000" => Some(Self::Submodule(id.to_vec())),
            [b'1', ..] if mode.len() == 6 => Some(Self::Blob(id.to_vec())),
            _ => None,
        }
    }
}

/// One path that a commit changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) path: Vec<u8>,
    pub(super) before: Content,
    pub(super) after: Content,
}

/// The output of a git process in pieces that end with NUL.
struct Pieces<R> {
    reader: R,
    command: &'static str,
}

impl<R: BufRead> Pieces<R> {
    /// The next piece without its NUL; `None` at the end.
    fn next_piece(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        let mut piece = Vec::new();
        let most = PIECE_SIZE_BYTES_MAX as u64;
        let read = self.reader.by_ref().take(most).read_until(0, &mut piece);
        read.map_err(|error| Failure::Git(format!("cannot read what {} prints: {error}", self.command)))?;
        match piece.pop() {
            None => Ok(None),
            Some(0) => Ok(Some(piece)),
            Some(_) => Err(self.unexpected(&piece)),
        }
    }

    fn unexpected(&self, piece: &[u8]) -> Failure {
        Failure::Git(format!("{} printed something else than expected, or was cut short: `{}`", self.command, Shown(piece)))
    }
}

/// A git process that is ended and waited for in any case.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    command: &'static str,
}

impl Process {
    pub(super) fn new(child: Child, command: &'static str) -> Self {
        Self { child, command }
    }

    pub(super) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    fn stdout(&mut self) -> Result<ChildStdout, Failure> {
        self.child.stdout.take().ok_or_else(|| Failure::Git(format!("{} has no output", self.command)))
    }

    /// Waits for the end of a process whose output has ended.
    fn finish(&mut self) -> Result<(), Failure> {
        match self.child.wait() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(Failure::Git(format!("{} failed ({status}); what it complains of stands above", self.command))),
            Err(error) => Err(Failure::Git(format!("cannot wait for {}: {error}", self.command))),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The changes of every commit, oldest first.
pub(super) struct Changes {
    rev_list: Process,
    diff_tree: Process,
    pieces: Pieces<BufReader<ChildStdout>>,
    /// The first piece of the next commit.
    ahead: Option<Vec<u8>>,
    commits_left: u64,
}

impl Changes {
    /// The newest `commits` commits up to `tip`.
    pub(super) fn start(repository: &Repository, tip: &str, commits: u64) -> Result<Self, Failure> {
        let newest = format!("--max-count={commits}");
        let arguments = ["rev-list", "--first-parent", "--reverse", &newest, tip];
        let mut rev_list = Process::new(repository.spawn(arguments, Stdio::null())?, "`git rev-list`");
        let ids = rev_list.stdout()?;
        let arguments = "diff-tree --stdin --always --root --diff-merges=first-parent -r --raw -z --no-renames --no-abbrev --ignore-submodules=none";
        let mut diff_tree = Process::new(repository.spawn(arguments.split(' '), ids)?, "`git diff-tree`");
        let pieces = Pieces { reader: BufReader::with_capacity(1 << 16, diff_tree.stdout()?), command: diff_tree.command };
        Ok(Self { rev_list, diff_tree, pieces, ahead: None, commits_left: commits })
    }

    /// Moves to the next commit, past whatever is left of this one; false after the last.
    pub(super) fn next_commit(&mut self) -> Result<bool, Failure> {
        while self.next_change()?.is_some() {}
        if self.ahead.take().is_some() {
            if self.commits_left == 0 {
                return Err(Failure::Git("`git diff-tree` printed more commits than `git rev-list` counted".into()));
            }
            self.commits_left -= 1;
            return Ok(true);
        }
        self.diff_tree.finish()?;
        self.rev_list.finish()?;
        match self.commits_left {
            0 => Ok(false),
            left => Err(Failure::Git(format!("`git diff-tree` ended {left} commits before the last"))),
        }
    }

    /// The next change of this commit; `None` after its last.
    pub(super) fn next_change(&mut self) -> Result<Option<Change>, Failure> {
        if self.ahead.is_some() {
            return Ok(None);
        }
        let Some(piece) = self.pieces.next_piece()? else { return Ok(None) };
        let Some(description) = piece.strip_prefix(b":") else {
            self.ahead = Some(piece);
            return Ok(None);
        };
        let (before, after) = parse_description(description).ok_or_else(|| self.pieces.unexpected(&piece))?;
        let path = self.pieces.next_piece()?.ok_or_else(|| self.pieces.unexpected(&piece))?;
        Ok(Some(Change { path, before, after }))
    }
}

/// Parses `<mode> <mode> <id> <id> <status>`.
fn parse_description(description: &[u8]) -> Option<(Content, Content)> {
    let mut fields = description.split(|byte| *byte == b' ');
    let (mode_before, mode_after) = (fields.next()?, fields.next()?);
    let (id_before, id_after) = (fields.next()?, fields.next()?);
    let _status = fields.next()?;
    Some((Content::parse(mode_before, id_before)?, Content::parse(mode_after, id_after)?))
}

/// The paths of a commit's tree with what stands there, in byte order of paths.
pub(super) struct Tree {
    process: Process,
    pieces: Pieces<BufReader<ChildStdout>>,
}

impl Tree {
    pub(super) fn open(repository: &Repository, commit: &str) -> Result<Self, Failure> {
        let arguments = ["ls-tree", "-r", "-z", "--full-tree", commit];
        let mut process = Process::new(repository.spawn(arguments, Stdio::null())?, "`git ls-tree`");
        let pieces = Pieces { reader: BufReader::new(process.stdout()?), command: process.command };
        Ok(Self { process, pieces })
    }

    /// The next path; `None` after the last.
    pub(super) fn next_entry(&mut self) -> Result<Option<(Vec<u8>, Content)>, Failure> {
        let Some(piece) = self.pieces.next_piece()? else {
            self.process.finish()?;
            return Ok(None);
        };
        parse_entry(&piece).map(Some).ok_or_else(|| self.pieces.unexpected(&piece))
    }
}

/// Parses `<mode> <type> <id> TAB <path>`.
fn parse_entry(piece: &[u8]) -> Option<(Vec<u8>, Content)> {
    let tab = piece.iter().position(|byte| *byte == b'\t')?;
    let (description, path) = (piece.get(..tab)?, piece.get(tab + 1..)?);
    let mut fields = description.split(|byte| *byte == b' ');
    let (mode, _type, id) = (fields.next()?, fields.next()?, fields.next()?);
    Some((path.to_vec(), Content::parse(mode, id)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "587be6b4c3f93f93c489c0111bba5596147a26cb";

    #[test]
    fn descriptions_of_every_kind_of_entry_are_read() {
        let zero = "0".repeat(40);
        let parse = |text: String| parse_description(text.as_bytes());
        let blob = || Content::Blob(ID.into());
        assert_eq!(parse(format!("000000 100644 {zero} {ID} A")), Some((Content::Nothing, blob())));
        assert_eq!(parse(format!("120000 000000 {ID} {zero} D")), Some((blob(), Content::Nothing)));
        assert_eq!(parse(format!("100755 160000 {ID} {ID} T")), Some((blob(), Content::Submodule(ID.into()))));
    }

    #[test]
    fn other_descriptions_are_refused() {
        for text in ["", "100644", "100644 100644 1 2 M", "100644 100644 x x M", &format!("1 100644 {ID} {ID} M")] {
            assert_eq!(parse_description(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn tree_entries_keep_every_byte_of_a_path() {
        let piece = [b"100644 blob ".as_slice(), ID.as_bytes(), b"\ta\tb\n\xff"].concat();
        assert_eq!(parse_entry(&piece), Some((b"a\tb\n\xff".to_vec(), Content::Blob(ID.into()))));
        assert_eq!(parse_entry(b"100644 blob"), None);
    }

    #[test]
    fn output_that_is_cut_short_is_no_end() {
        let mut pieces = Pieces { reader: &b"one\0tw"[..], command: "git" };
        assert_eq!(pieces.next_piece().unwrap().as_deref(), Some(b"one".as_slice()));
        assert!(pieces.next_piece().is_err());
        assert!(pieces.next_piece().unwrap().is_none());
    }
}
