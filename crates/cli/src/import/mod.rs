//! The import command: one commit of a history after the other becomes one commit of the store, at the history's own numbers.
//!
//! **Going on.** Commit n has version n, so the store's last version says where an earlier import stopped, and nothing about
//! an import has to be kept beside the data. Before it goes on, each source proves that the store holds what the history holds
//! up to there: a git history by the whole tree of the commit that was imported last, a file by every line that it skips.
//! A store that was made from something else is refused, and nothing is changed.

mod git;
mod git_blobs;
mod git_changes;
mod tsv;
mod tsv_lines;

use std::io::Write;

use thermocline::{Batch, OpenMode, Store, Table, Version};

use crate::arguments::Import;
use crate::failure::Failure;
use crate::output::put;
use crate::{files, open, progress};

/// A write to one key; no value deletes it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct KeyWrite {
    key: Vec<u8>,
    value: Option<Vec<u8>>,
}

/// One commit of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
struct HistoryCommit {
    version: Version,
    writes: Vec<KeyWrite>,
}

/// A history to import.
trait History {
    /// Moves past what the store already holds.
    ///
    /// # Errors
    /// [`Failure::Refused`] if the store's content up to its last version is not that of this history.
    fn resume(&mut self, held: &Held<'_>) -> Result<(), Failure>;

    /// The next commit, above the last one.
    fn next(&mut self) -> Result<Option<HistoryCommit>, Failure>;

    /// How much there is in all, if known, and of what; and how much of it has been read.
    fn size(&self) -> (Option<u64>, &'static str);
    fn position(&self) -> u64;
}

/// What an earlier import left in the store.
struct Held<'a> {
    store: &'a Store,
    table: Table,
    last: Version,
}

/// What an import did.
#[derive(Default)]
struct Report {
    first: Option<Version>,
    last: Version,
    commits: u64,
    writes: u64,
    /// Of keys and values.
    size_bytes: u64,
}

/// Imports a history.
pub(crate) fn run(arguments: &Import, out: &mut dyn Write) -> Result<(), Failure> {
    // The history first: where it cannot be read, no store is made.
    let mut history: Box<dyn History> = match (&arguments.source.git, &arguments.source.tsv) {
        (Some(repository), _) => Box::new(git::GitHistory::open(repository, &arguments.rev, arguments.contents)?),
        (None, Some(path)) => Box::new(tsv::TsvHistory::open(path)?),
        (None, None) => return Err(Failure::Usage("import needs --git or --tsv".into())),
    };
    let builder = open::for_writing(&arguments.directory, &arguments.writing);
    let store = builder.mode(OpenMode::CreateIfMissing).durability(arguments.durability.into()).open()?;
    let imported = copy(arguments, &store, &mut *history, out);
    let (counters, flushes) = (store.file_counters(), store.stats().flushes);
    // What was committed before a failure stays, and closing makes it durable.
    let closed = store.close();
    let report = imported?;
    closed?;
    summarise(&report, out)?;
    if flushes == 0 || report.size_bytes == 0 {
        return Ok(());
    }
    let amplification = files::ratio(counters.written_bytes, report.size_bytes);
    put!(out, "{}: {amplification:.1} bytes for each byte of keys and values", files::written(&counters))
}

fn copy(arguments: &Import, store: &Store, history: &mut dyn History, out: &mut dyn Write) -> Result<Report, Failure> {
    let last = store.last_version();
    let mut report = Report { last, ..Report::default() };
    let (total, unit) = history.size();
    let bar = progress::bar(total, unit);
    bar.set_message("importing");
    history.resume(&Held { store, table: arguments.table, last })?;
    while let Some(commit) = history.next()? {
        let mut batch = Batch::with_capacity(commit.writes.len(), commit.size_bytes());
        for write in &commit.writes {
            match &write.value {
                Some(value) => batch.put(arguments.table, &write.key, value),
                None => batch.remove(arguments.table, &write.key),
            };
        }
        store.commit_at(commit.version, batch).map_err(|error| error.context(format!("import commit {}", commit.version)))?;
        report.add(&commit);
        bar.set_position(history.position());
        if arguments.report_every.is_some_and(|every| report.commits.is_multiple_of(every)) {
            acknowledge(commit.version, out)?;
        }
    }
    bar.finish_and_clear();
    Ok(report)
}

/// Tells whoever started the import that a commit is made. A reader that has gone away stops the import, and is not mistaken
/// for its success.
fn acknowledge(version: Version, out: &mut dyn Write) -> Result<(), Failure> {
    writeln!(out, "committed {version}").and_then(|()| out.flush()).map_err(|error| Failure::Refused {
        what: format!("the import stopped after version {version}: standard output cannot be written: {error}"),
        hint: "run it again: it goes on from there",
    })
}

fn summarise(report: &Report, out: &mut dyn Write) -> Result<(), Failure> {
    match report.first {
        Some(first) => put!(
            out,
            "imported {} commits, {first} to {}, with {} changes; the store is at version {}",
            report.commits,
            report.last,
            report.writes,
            report.last
        ),
        None => put!(out, "nothing to import; the store is at version {}", report.last),
    }
}

impl Report {
    fn add(&mut self, commit: &HistoryCommit) {
        self.first.get_or_insert(commit.version);
        self.last = commit.version;
        self.commits += 1;
        self.writes += commit.writes.len() as u64;
        self.size_bytes += commit.size_bytes() as u64;
    }
}

impl HistoryCommit {
    fn size_bytes(&self) -> usize {
        self.writes.iter().map(|write| write.key.len() + write.value.as_ref().map_or(0, Vec::len)).sum()
    }
}

impl Held<'_> {
    /// The refusal of a store that was made from something else.
    fn other_history(&self, detail: &str) -> Failure {
        Failure::Refused {
            what: format!(
                "the store is at version {}, but its table {} does not hold this history up to there: {detail}",
                self.last, self.table
            ),
            hint: "import into a new directory, or name the history, table and kind of values that the store was made from",
        }
    }
}
