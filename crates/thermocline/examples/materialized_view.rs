//! A view that is kept up to date from the stream of changes: how many files of each kind a repository has, at any time.
//!
//! ```console
//! $ cargo run --example materialized_view                  # the history of the git repository around it
//! $ cargo run --example materialized_view -- history.tsv   # lines of commit, put or del, key, value, between tabs
//! ```
//!
//! The rows lie in one table, the view in another. A consumer with a name reads what has changed in the first, and commits what that
//! means for the second, together with the version up to which the view is right: so it is never counted twice, wherever the program
//! stops. On the way the store is closed and opened again, and the consumer is left behind so far that it must begin anew, unless the
//! history is very short. In the end the view is the same as one that is counted afresh.

#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a program of its own: it prints, and reads files that are no store's"
)]

mod history;

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

use thermocline::{
    Batch, Consumer, ConsumerOptions, Durability, ErrorKind, Holding, KeyRange, Scope, Snapshot, Store, Table, Version,
};

pub(crate) use self::history::Changes;

/// What happened on the way.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    /// How many commits were followed one by one.
    pub(crate) followed: u64,
    /// How often the view was counted afresh from a snapshot.
    pub(crate) resynchronized: u64,
    /// The view: how many files there are of each kind.
    pub(crate) kinds: BTreeMap<String, i64>,
}

/// Path to content, as the history says.
const FILES: Table = Table::source(1);
/// Kind of file to how many there are: the view.
const KINDS: Table = Table::operator(1);
/// In the view's table: the version of the rows up to which the view is right.
const POSITION: &[u8] = b"\0position";
/// So far behind may the view be, in bytes of the log, before it is left behind.
const BACKLOG_BYTES: u64 = 32 << 10;

fn main() -> Result<(), Box<dyn Error>> {
    let history = history::read()?;
    let directory = std::env::temp_dir().join(format!("thermocline-view-{}", std::process::id()));
    let result = run(&directory, &history);
    std::fs::remove_dir_all(&directory)?;
    let Summary { followed, resynchronized, kinds } = result?;
    println!("{} commits: {followed} followed one by one, begun anew {resynchronized} times", history.len());
    let mut kinds: Vec<_> = kinds.into_iter().collect();
    kinds.sort_by_key(|(_, count)| -count);
    kinds.iter().take(10).for_each(|(kind, count)| println!("{count:6} {kind}"));
    Ok(())
}

/// Commits the history, a part at a time, and keeps the view up to date beside it.
pub(crate) fn run(directory: &Path, history: &[Changes]) -> Result<Summary, Box<dyn Error>> {
    let mut summary = Summary::default();
    let (first, rest) = history.split_at(history.len() / 4);
    let (second, last) = rest.split_at(rest.len() * 2 / 3);
    {
        let store = open(directory)?;
        let mut view = View::open(&store)?;
        for changes in first {
            commit(&store, changes)?;
            view.follow(&mut summary)?;
        }
        check(&store, &mut summary)?;
    }
    {
        // While the view sleeps most of the history comes, and the log is cut behind what lies in files.
        let store = open(directory)?;
        second.iter().try_for_each(|changes| commit(&store, changes))?;
        store.flush()?;
    }
    let store = open(directory)?;
    let mut view = View::open(&store)?;
    view.follow(&mut summary)?;
    check(&store, &mut summary)?;
    for changes in last {
        commit(&store, changes)?;
        view.follow(&mut summary)?;
    }
    check(&store, &mut summary)?;
    Ok(summary)
}

fn open(directory: &Path) -> thermocline::Result<Store> {
    Store::builder(directory).durability(Durability::Buffered).open()
}

fn commit(store: &Store, changes: &Changes) -> Result<(), Box<dyn Error>> {
    let mut batch = Batch::new();
    for (key, value) in changes {
        match value {
            Some(value) => batch.put(FILES, key.as_bytes(), value.as_bytes()),
            None => batch.remove(FILES, key.as_bytes()),
        };
    }
    store.commit(batch)?;
    Ok(())
}

/// The view, and the consumer that feeds it.
struct View<'a> {
    store: &'a Store,
    consumer: Consumer,
}

impl<'a> View<'a> {
    fn open(store: &'a Store) -> Result<Self, Box<dyn Error>> {
        let options = ConsumerOptions {
            since: Some(Version::ZERO),
            scope: Scope::Table(FILES),
            holding: Holding::Overtake(BACKLOG_BYTES),
            with_previous: true,
            ..ConsumerOptions::default()
        };
        Ok(Self { store, consumer: store.consumer("files by kind", options)? })
    }

    /// Brings the view up to date.
    fn follow(&mut self, summary: &mut Summary) -> Result<(), Box<dyn Error>> {
        loop {
            let batch = match self.consumer.poll() {
                Ok(batch) => batch,
                Err(error) if matches!(error.kind(), ErrorKind::Overtaken { .. }) => {
                    let snapshot = self.consumer.resynchronize()?;
                    self.write(&count(&snapshot)?, true, snapshot.version())?;
                    self.consumer.checkpoint(snapshot.version())?;
                    summary.resynchronized += 1;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            if batch.commits.is_empty() {
                return Ok(());
            }
            // What the view had before the program stopped, it is not given again.
            let position = self.position()?;
            let mut deltas = BTreeMap::new();
            for (commit, previous) in batch.commits.iter().zip(&batch.previous) {
                if commit.version <= position {
                    continue;
                }
                summary.followed += 1;
                for (change, before) in commit.changes.iter().zip(previous) {
                    let delta = i64::from(change.value.is_some()) - i64::from(before.is_some());
                    *deltas.entry(kind(&change.prefix)).or_default() += delta;
                }
            }
            self.write(&deltas, false, batch.up_to)?;
            self.consumer.checkpoint(batch.up_to)?;
        }
    }

    fn position(&self) -> Result<Version, Box<dyn Error>> {
        let text = self.store.get(KINDS, POSITION)?;
        Ok(Version(text.map_or(Ok(0), |text| String::from_utf8_lossy(&text).parse())?))
    }

    /// Adds to the view, or replaces it.
    fn write(&self, counts: &BTreeMap<String, i64>, is_new: bool, up_to: Version) -> Result<(), Box<dyn Error>> {
        let mut batch = Batch::new();
        if is_new {
            batch.clear_table(KINDS);
        }
        for (kind, delta) in counts {
            let before = if is_new { 0 } else { number(self.store.get(KINDS, kind.as_bytes())?.as_deref())? };
            match before + delta {
                0 => batch.remove(KINDS, kind.as_bytes()),
                count => batch.put(KINDS, kind.as_bytes(), count.to_string().as_bytes()),
            };
        }
        batch.put(KINDS, POSITION, up_to.to_string().as_bytes());
        self.store.commit(batch)?;
        Ok(())
    }
}

fn number(text: Option<&[u8]>) -> Result<i64, Box<dyn Error>> {
    Ok(text.map_or(Ok(0), |text| String::from_utf8_lossy(text).parse())?)
}

/// What a file's name ends with.
fn kind(path: &[u8]) -> String {
    let path = String::from_utf8_lossy(path);
    Path::new(&*path).extension().map_or_else(|| "no extension".to_owned(), |kind| kind.to_string_lossy().into_owned())
}

/// The view, counted from all rows.
fn count(snapshot: &Snapshot) -> Result<BTreeMap<String, i64>, Box<dyn Error>> {
    let mut counts = BTreeMap::new();
    for row in snapshot.scan(FILES, KeyRange::all()) {
        *counts.entry(kind(&row?.0)).or_default() += 1;
    }
    Ok(counts)
}

/// Compares the view with one that is counted afresh.
fn check(store: &Store, summary: &mut Summary) -> Result<(), Box<dyn Error>> {
    let snapshot = store.snapshot()?;
    let mut view = BTreeMap::new();
    for row in snapshot.scan(KINDS, KeyRange::all()) {
        let (kind, count) = row?;
        if *kind != *POSITION {
            view.insert(String::from_utf8_lossy(&kind).into_owned(), number(Some(&count))?);
        }
    }
    assert_eq!(view, count(&snapshot)?, "the view is not what the rows say");
    summary.kinds = view;
    Ok(())
}
