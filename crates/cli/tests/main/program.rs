//! Running the program in a folder of its own.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// What a run of the program left.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) bytes: Vec<u8>,
    pub(crate) text: String,
    pub(crate) errors: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        Self { code: output.status.code(), bytes: output.stdout, text, errors }
    }
}

impl Ran {
    /// The output of a run that succeeded in silence.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!((self.code, self.errors.as_str()), (Some(0), ""), "{}", self.text);
        self.text
    }

    /// Checks an error's exit code and a part of its message, and that nothing else was printed.
    #[track_caller]
    pub(crate) fn refused(&self, code: i32, part: &str) {
        assert_eq!(self.code, Some(code), "{}{}", self.text, self.errors);
        assert!(self.errors.contains(part), "expected `{part}` in: {}", self.errors);
        assert_eq!(self.text, "");
    }
}

/// A folder with a store and input files, gone at the end of the test.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.path("store")
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// The command on the store, with options.
    pub(crate) fn command<A: AsRef<OsStr>>(&self, name: &str, options: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_thermocline"));
        command.arg(name).arg(self.store()).args(options).stdin(Stdio::null());
        command
    }

    pub(crate) fn run<A: AsRef<OsStr>>(&self, name: &str, options: impl IntoIterator<Item = A>) -> Ran {
        self.command(name, options).output().unwrap().into()
    }

    /// Runs a command whose options have no spaces inside.
    pub(crate) fn say(&self, line: &str) -> Ran {
        let mut words = line.split_whitespace();
        let name = words.next().unwrap_or_default();
        self.run(name, words)
    }

    /// Every file of the store with its name and its bytes.
    pub(crate) fn content(&self) -> BTreeMap<String, Vec<u8>> {
        let entries = std::fs::read_dir(self.store()).unwrap().map(|entry| entry.unwrap().path());
        let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
        entries.map(|path| (name(&path), std::fs::read(&path).unwrap())).collect()
    }

    /// What a command prints as one JSON object.
    #[track_caller]
    pub(crate) fn json(&self, line: &str) -> serde_json::Value {
        serde_json::from_str(&self.say(line).ok()).unwrap()
    }

    /// Imports lines of the change format, written with spaces for tabs and `;` for line feeds.
    pub(crate) fn import(&self, lines: &str) -> Ran {
        let path = self.write("changes.tsv", changes(lines));
        self.run("import", [OsStr::new("--tsv"), path.as_os_str()])
    }
}

/// Lines of the change format, from a short form: fields between spaces, lines between semicolons, `-` for an empty value.
pub(crate) fn changes(lines: &str) -> String {
    let line = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().map(|field| if field == "-" { "" } else { field }).collect();
        fields.join("\t") + "\n"
    };
    lines.split(';').filter(|text| !text.trim().is_empty()).map(line).collect()
}

/// A folder whose store holds four versions.
pub(crate) fn sample() -> Folder {
    let folder = Folder::new();
    folder.import("1 put a 1; 1 put b 1; 2 put b 2; 2 put c 2; 4 del a -; 4 put d 4").ok();
    folder
}
