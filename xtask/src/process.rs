//! Running other programs, and the one kind of failure.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

/// Why a command did not succeed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The command line makes no sense. The usage is shown.
    Usage(String),
    /// A check or a program failed.
    Failed(String),
}

impl Failure {
    /// A failure with this message.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self::Failed(message.into())
    }

    /// For `map_err` on operations on files.
    pub(crate) fn io<'a>(what: &'a str, path: &'a Path) -> impl Fn(io::Error) -> Self + 'a {
        move |error| Self::Failed(format!("cannot {what} {}: {error}", path.display()))
    }

    /// The message alone.
    pub(crate) fn message(&self) -> &str {
        match self {
            Self::Usage(message) | Self::Failed(message) => message,
        }
    }
}

/// Cargo, as it runs this program, so that a chosen toolchain stays chosen.
pub(crate) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").as_deref().unwrap_or(OsStr::new("cargo")))
}

/// Shows the command line, runs it with the terminal of this process, and fails if it does.
pub(crate) fn run(command: &mut Command) -> Result<(), Failure> {
    let line = command_line(command);
    println!("$ {line}");
    let status = command.status().map_err(|error| Failure::new(format!("cannot run {line}: {error}")))?;
    if status.success() { Ok(()) } else { Err(Failure::new(format!("{line}: {status}"))) }
}

/// Runs a command in silence and returns what it printed; its errors go to the terminal.
pub(crate) fn capture(command: &mut Command) -> Result<Vec<u8>, Failure> {
    let line = command_line(command);
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| Failure::new(format!("cannot run {line}: {error}")))?;
    if output.status.success() { Ok(output.stdout) } else { Err(Failure::new(format!("{line}: {}", output.status))) }
}

/// As [`capture`], for output that must be UTF-8.
pub(crate) fn capture_text(command: &mut Command) -> Result<String, Failure> {
    let line = command_line(command);
    String::from_utf8(capture(command)?)
        .map_err(|error| Failure::new(format!("{line} printed bytes that are not UTF-8: {error}")))
}

fn command_line(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_stem().unwrap_or(command.get_program());
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
