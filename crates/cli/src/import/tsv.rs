//! Histories in files of the change format, read as a stream: one commit is held at a time.
//!
//! A malformed line stops the import with its number. Commits are applied only when they are known to be whole, which the first line
//! of a later commit proves: a line that does not even tell its commit may belong to the one before it, so that one is not
//! applied either.

use std::collections::BTreeMap;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use thermocline::{Version, limits};

use super::tsv_lines::{Line, LineError, Lines, Malformed};
use super::{Held, History, HistoryCommit, KeyWrite};
use crate::failure::Failure;
use crate::output::Shown;

#[expect(clippy::disallowed_types, reason = "the user's input file is no file of a store, and may lie anywhere")]
type InputFile = std::fs::File;

pub(super) struct TsvHistory {
    path: PathBuf,
    /// Not known of a pipe.
    size_bytes: Option<u64>,
    lines: Lines<BufReader<InputFile>>,
    /// The first line of the next commit.
    ahead: Option<Line>,
    /// What stopped the reading, to be told once the commits before it are handed out.
    failure: Option<Failure>,
    last: Version,
    /// The first commit that the store does not hold, once it was found.
    pending: Option<HistoryCommit>,
}

impl TsvHistory {
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let failed = |source| Failure::input(path, source);
        let file = InputFile::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if metadata.is_dir() {
            return Err(failed(std::io::ErrorKind::IsADirectory.into()));
        }
        Ok(Self {
            path: path.to_path_buf(),
            size_bytes: metadata.is_file().then_some(metadata.len()),
            lines: Lines::new(BufReader::with_capacity(1 << 16, file)),
            ahead: None,
            failure: None,
            last: Version::ZERO,
            pending: None,
        })
    }

    /// The next commit of the file, whether or not the store holds it.
    fn next_commit(&mut self) -> Result<Option<HistoryCommit>, Failure> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        let Some(first) = self.take_ahead()? else { return Ok(None) };
        let version = first.version;
        if version <= self.last {
            return Err(self.refuse_line(format!("commit {version} comes after commit {}; commits must be in order", self.last)));
        }
        self.last = version;
        let mut size_bytes = 0;
        let mut writes = vec![first.write];
        loop {
            size_bytes += writes.last().map_or(0, size_of_write);
            if size_bytes > limits::BATCH_SIZE_BYTES_MAX {
                let what =
                    format!("commit {version} is over {} bytes, the most that a commit can hold", limits::BATCH_SIZE_BYTES_MAX);
                return Err(self.refuse_line(what));
            }
            match self.lines.next_line() {
                Ok(Some(line)) if line.version == version => writes.push(line.write),
                Ok(ahead) => {
                    self.ahead = ahead;
                    break;
                }
                Err(LineError::Malformed(Malformed { version: Some(other), what })) if other != version => {
                    self.failure = Some(self.refuse_line(what));
                    break;
                }
                Err(error) => return Err(self.explain(error)),
            }
        }
        Ok(Some(HistoryCommit { version, writes }))
    }

    fn take_ahead(&mut self) -> Result<Option<Line>, Failure> {
        match self.ahead.take() {
            Some(line) => Ok(Some(line)),
            None => self.lines.next_line().map_err(|error| self.explain(error)),
        }
    }

    fn explain(&self, error: LineError) -> Failure {
        match error {
            LineError::Malformed(malformed) => self.refuse_line(malformed.what),
            LineError::Read(source) => Failure::input(&self.path, source),
        }
    }

    fn refuse_line(&self, what: String) -> Failure {
        Failure::Line { path: self.path.clone(), line: self.lines.number, what }
    }
}

fn size_of_write(write: &KeyWrite) -> usize {
    write.key.len() + write.value.as_ref().map_or(0, Vec::len)
}

impl History for TsvHistory {
    fn resume(&mut self, held: &Held<'_>) -> Result<(), Failure> {
        while let Some(commit) = self.next_commit()? {
            if commit.version > held.last {
                self.pending = Some(commit);
                break;
            }
            check_held(held, &commit)?;
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Option<HistoryCommit>, Failure> {
        match self.pending.take() {
            Some(commit) => Ok(Some(commit)),
            None => self.next_commit(),
        }
    }

    fn size(&self) -> (Option<u64>, &'static str) {
        (self.size_bytes, "bytes")
    }

    fn position(&self) -> u64 {
        self.lines.offset
    }
}

/// Proves that the store holds a commit of the file: its last write to each key is the key's entry at exactly that version.
fn check_held(held: &Held<'_>, commit: &HistoryCommit) -> Result<(), Failure> {
    let snapshot = held.store.at(commit.version)?;
    let last_writes: BTreeMap<&[u8], Option<&[u8]>> =
        commit.writes.iter().map(|write| (&write.key[..], write.value.as_deref())).collect();
    for (key, value) in last_writes {
        let found = snapshot.lookup(held.table, key)?;
        if found.version() != Some(commit.version) || found.into_value().as_deref() != value {
            let detail = format!("commit {} of the file writes key `{}` otherwise", commit.version, Shown(key));
            return Err(held.other_history(&detail));
        }
    }
    Ok(())
}
