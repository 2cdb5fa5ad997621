//! The contents of blobs, through one `git cat-file --batch` that lives as long as the import.
//!
//! ```text
//! asked:     <id> LF
//! answered:  <id> " " <type> " " <size> LF <size bytes> LF      or      <id> " missing" LF
//! ```

use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{ChildStdin, ChildStdout, Stdio};

use thermocline::limits;

use super::git::Repository;
use super::git_changes::Process;
use crate::failure::Failure;
use crate::output::Shown;

/// The longest head of an answer: an id, a type and a size.
const HEAD_SIZE_BYTES_MAX: u64 = 256;

/// Reads blobs by id.
#[derive(Debug)]
pub(super) struct Blobs {
    // Before the process, so that it sees the end of its input before it is waited for.
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
    _process: Process,
}

impl Blobs {
    pub(super) fn start(repository: &Repository) -> Result<Self, Failure> {
        let mut process = Process::new(repository.spawn(["cat-file", "--batch"], Stdio::piped())?, "`git cat-file`");
        let child = process.child();
        match (child.stdin.take(), child.stdout.take()) {
            (Some(requests), Some(answers)) => Ok(Self { requests, answers: BufReader::new(answers), _process: process }),
            _ => Err(Failure::Git("`git cat-file` has no input or no output".into())),
        }
    }

    /// The content of a blob.
    pub(super) fn read(&mut self, id: &[u8]) -> Result<Vec<u8>, Failure> {
        let head = self.ask(id).map_err(|error| failed(id, &error.to_string()))?;
        let size = parse_head(&head, id).map_err(|what| failed(id, &what))?;
        if size > limits::VALUE_SIZE_BYTES_MAX {
            let what = format!("it has {size} bytes, over the limit of {} for a value", limits::VALUE_SIZE_BYTES_MAX);
            return Err(failed(id, &what));
        }
        let mut content = vec![0; size];
        let mut end = [0];
        let read = self.answers.read_exact(&mut content).and_then(|()| self.answers.read_exact(&mut end));
        read.map_err(|error| failed(id, &error.to_string()))?;
        if end == *b"\n" { Ok(content) } else { Err(failed(id, "its end is not where git says")) }
    }

    fn ask(&mut self, id: &[u8]) -> io::Result<Vec<u8>> {
        self.requests.write_all(&[id, b"\n"].concat())?;
        self.requests.flush()?;
        let mut head = Vec::new();
        self.answers.by_ref().take(HEAD_SIZE_BYTES_MAX).read_until(b'\n', &mut head)?;
        Ok(head)
    }
}

fn failed(id: &[u8], what: &str) -> Failure {
    Failure::Git(format!("`git cat-file` does not give blob {}: {what}", Shown(id)))
}

/// The size that the head of an answer announces.
fn parse_head(head: &[u8], id: &[u8]) -> Result<usize, String> {
    let unexpected = || format!("it answers `{}`", Shown(head.trim_ascii_end()));
    let head = std::str::from_utf8(head).ok().and_then(|head| head.strip_suffix('\n')).ok_or_else(unexpected)?;
    let fields: Vec<&str> = head.split(' ').collect();
    match fields[..] {
        [found, "blob", size] if found.as_bytes() == id => size.parse().map_err(|error| format!("size `{size}`: {error}")),
        [_, "missing"] => Err("it is missing in the repository".into()),
        _ => Err(unexpected()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_of_answers_are_read_strictly() {
        assert_eq!(parse_head(b"ab blob 12\n", b"ab"), Ok(12));
        for head in [&b""[..], b"ab blob 12", b"ab tree 12\n", b"cd blob 12\n", b"ab missing\n", b"ab blob -1\n"] {
            assert!(parse_head(head, b"ab").is_err(), "{}", head.escape_ascii());
        }
    }
}
