//! What can go wrong on the command line, in words that a person understands, and the exit codes.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use thermocline::{Error, ErrorKind};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The store refused or failed.
    #[error("{0}")]
    Store(Error),
    /// The arguments make no sense together.
    #[error("{0}")]
    Usage(String),
    /// Standard output cannot be written.
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
    /// An input file cannot be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Input {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// An output file cannot be written.
    #[error("cannot write `{}`: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A line of an input file makes no sense.
    #[error("`{}`, line {line}: {what}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What is wrong with it.
        what: String,
    },
    /// Git failed, or is not what was expected.
    #[error("{0}")]
    Git(String),
    /// The command refuses to go on.
    #[error("{what}")]
    Refused {
        /// Why.
        what: String,
        /// What to do.
        hint: &'static str,
    },
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

impl Failure {
    pub(crate) fn input(path: &Path, source: io::Error) -> Self {
        Self::Input { path: path.to_path_buf(), source }
    }

    /// Whether the reader of our output has gone away, as `head` does: no reason to complain.
    pub(crate) fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage(_) => ExitCode::from(2),
            _ => ExitCode::FAILURE,
        }
    }

    /// Writes the message, and what to do about it where that is known.
    pub(crate) fn report(&self, to: &mut dyn Write) -> io::Result<()> {
        writeln!(to, "error: {self}")?;
        match self.hint() {
            Some(hint) => writeln!(to, "hint: {hint}"),
            None => Ok(()),
        }
    }

    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Store(error) => store_hint(error.kind()),
            Self::Line { .. } => {
                Some("all commits before it were imported; mend the line and import again: the import goes on from there")
            }
            Self::Refused { hint, .. } => Some(hint),
            Self::Usage(_) => Some("see `thermocline --help`"),
            Self::Output(_) | Self::Input { .. } | Self::Write { .. } | Self::Git(_) => None,
        }
    }
}

fn store_hint(kind: &ErrorKind) -> Option<&'static str> {
    Some(match kind {
        ErrorKind::Locked { .. } => {
            "wait until the other process has ended, or stop it; an import shuts out readers, readers shut out an import"
        }
        ErrorKind::NotFound { .. } => "check the path; `thermocline import` makes a store",
        ErrorKind::ForeignFile => "check the path; choose an empty or a new directory for a store",
        ErrorKind::UnsupportedFormat => "use the release that wrote the store, or a newer one",
        ErrorKind::Corruption => "restore the store from a backup, or import it again into a new directory",
        ErrorKind::DiskFull => "make room and run the command again: nothing that was committed is lost",
        ErrorKind::VersionReclaimed { .. } => {
            "`thermocline stats` names the horizon, from which on every version can be read; `changes` and `export --history` go back only \
             as far as the log, of which `--log-keep` says how much stays"
        }
        ErrorKind::Overtaken { .. } => {
            "`thermocline changes --consumer NAME --forget` removes the consumer; print the state with `scan`, and begin anew with \
             `--since` its version"
        }
        ErrorKind::Poisoned | ErrorKind::CommitUnknown { .. } => {
            "look at the disk and the system's log, then run the command again: the store recovers when it is opened"
        }
        _ => return None,
    })
}
