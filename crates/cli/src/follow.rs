//! The changes command: commits above a version, those that a consumer has not had, and those to come.

use std::io::Write;
use std::time::Duration;

use thermocline::{Consumer, ConsumerOptions, ErrorKind, Holding, KeyRange, Scope, Store, Table, Version};

use crate::arguments::{Changes, Format};
use crate::changes::{self, Removal, TableChanges, TableCommit};
use crate::failure::Failure;
use crate::read::{Place, put_change, put_removal};
use crate::{open, retain};

/// How far the command has got.
struct Progress {
    /// What was printed; `None` before the first look, if it is to begin there.
    since: Option<Version>,
    /// How many commits may still be printed.
    left: usize,
}

/// Prints the commits that changed the table.
pub(crate) fn changes(arguments: &Changes, out: &mut dyn Write) -> Result<(), Failure> {
    let mut progress = Progress { since: arguments.since.map(Version), left: arguments.limit.unwrap_or(usize::MAX) };
    loop {
        let looked = match &arguments.consumer {
            Some(name) => look_for_consumer(arguments, name, &mut progress, out),
            None => look(arguments, &mut progress, out),
        };
        match looked {
            // Whoever writes to the store will close it some time.
            Err(Failure::Store(error)) if arguments.follow && matches!(error.kind(), ErrorKind::Locked { .. }) => {}
            looked => looked?,
        }
        if !arguments.follow || progress.left == 0 {
            return Ok(());
        }
        pause(arguments.every);
    }
}

#[expect(clippy::disallowed_methods, reason = "another process has the store: there is nothing here to wait on")]
fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

/// Prints what there is; nothing in the directory changes.
fn look(arguments: &Changes, progress: &mut Progress, out: &mut dyn Write) -> Result<(), Failure> {
    let (view, store) = (&arguments.view, open::for_reading(&arguments.directory)?);
    let since = progress.since.unwrap_or(store.last_version());
    let printer = Printer { store: &store, table: view.table, format: view.format };
    for commit in TableChanges::new(&store, view.table, since, view.version())?.take(progress.left) {
        let commit = commit?;
        progress.since = Some(commit.version);
        progress.left -= 1;
        printer.put(commit, out)?;
    }
    if progress.left > 0 {
        progress.since = Some(store.last_version());
    }
    out.flush().map_err(Failure::Output)
}

/// Prints what the consumer has not had, and keeps that it has.
fn look_for_consumer(arguments: &Changes, name: &str, progress: &mut Progress, out: &mut dyn Write) -> Result<(), Failure> {
    let table = arguments.view.table;
    if !arguments.forget && has_all(arguments, name, table)? {
        return Ok(());
    }
    let store = retain::for_keeping(&arguments.directory)?;
    if arguments.forget {
        return Ok(store.remove_consumer(name)?);
    }
    let printer = Printer { store: &store, table, format: arguments.view.format };
    let known = store.consumers().into_iter().find(|consumer| consumer.name == name).map(|consumer| consumer.state);
    if let Some(known) = &known
        && known.scope != Scope::Table(table)
    {
        let what = format!("consumer {name:?} is about {}, not {table}", retain::scope_text(&known.scope));
        return Err(Failure::Refused { what, hint: "say its table with --table, or take another name" });
    }
    let kept = known.map_or(Holding::All, |known| known.holding);
    let options = ConsumerOptions {
        since: progress.since,
        scope: Scope::Table(table),
        holding: arguments.hold.unwrap_or(kept),
        ..ConsumerOptions::default()
    };
    let mut consumer = store.consumer(name, options)?;
    while progress.left > 0 {
        let before = consumer.delivered();
        let batch = match consumer.poll() {
            Err(error) if arguments.resync && matches!(error.kind(), ErrorKind::Overtaken { .. }) => {
                printer.begin_anew(&mut consumer, out)?;
                continue;
            }
            polled => polled?,
        };
        let printed = batch.commits.iter().take(progress.left);
        let mut up_to = if batch.commits.len() > progress.left { before } else { batch.up_to };
        for commit in printed {
            if let Some(commit) = TableCommit::of(table, commit) {
                up_to = up_to.max(commit.version);
                printer.put(commit, out)?;
            }
            progress.left -= 1;
        }
        out.flush().map_err(Failure::Output)?;
        consumer.checkpoint(up_to)?;
        if batch.up_to == before {
            break;
        }
    }
    drop(consumer);
    Ok(store.close()?)
}

/// Whether the consumer is there as it is asked for, and has had everything: then nothing is to be written, and a look leaves no trace.
fn has_all(arguments: &Changes, name: &str, table: Table) -> Result<bool, Failure> {
    let store = open::for_reading(&arguments.directory)?;
    let known = store.consumers().into_iter().find(|consumer| consumer.name == name).map(|consumer| consumer.state);
    Ok(known.is_some_and(|known| {
        let is_same = known.scope == Scope::Table(table) && arguments.hold.is_none_or(|hold| hold == known.holding);
        is_same && !known.is_overtaken && known.position >= store.last_version()
    }))
}

/// Prints commits of one table.
struct Printer<'a> {
    store: &'a Store,
    table: Table,
    format: Format,
}

impl Printer<'_> {
    fn put(&self, commit: TableCommit, out: &mut dyn Write) -> Result<(), Failure> {
        let place = Place { table: self.table, version: commit.version, time_micros: Some(commit.time_micros) };
        put_removal(out, self.format, place, commit.removal)?;
        let changes =
            if self.format == Format::Tsv { changes::spell_out(self.store, self.table, commit)? } else { commit.changes };
        changes.iter().try_for_each(|(key, value)| put_change(out, self.format, place, key, value.as_deref()))
    }

    /// Prints the latest state as a commit that emptied the table before, and has the consumer go on from there.
    fn begin_anew(&self, consumer: &mut Consumer, out: &mut dyn Write) -> Result<(), Failure> {
        if self.format == Format::Tsv {
            return Err(Failure::Refused {
                what: format!(
                    "consumer {:?} was overtaken, and the change format cannot say that all before is gone",
                    consumer.name()
                ),
                hint: "take `--format json`",
            });
        }
        let snapshot = consumer.resynchronize()?;
        let place = Place { table: self.table, version: snapshot.version(), time_micros: None };
        put_removal(out, self.format, place, Removal::Cleared)?;
        for row in snapshot.scan(self.table, KeyRange::all()) {
            let (key, value) = row?;
            put_change(out, self.format, place, &key, Some(&value))?;
        }
        out.flush().map_err(Failure::Output)?;
        Ok(consumer.checkpoint(place.version)?)
    }
}
