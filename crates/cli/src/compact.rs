//! The compact command: moves everything into sorted files, and rewrites them until each key lies in one place.

use std::io::Write;

use serde_json::json;
use thermocline::{Background, OpenMode, Store};

use crate::arguments::{Compact, Format};
use crate::failure::Failure;
use crate::files::{self, FileSum};
use crate::output::{put, put_values};
use crate::sizes::Size;
use crate::{open, progress};

/// What the files and the log were at one moment.
pub(crate) struct Moment {
    files: FileSum,
    log_size_bytes: u64,
}

impl Moment {
    pub(crate) fn of(store: &Store) -> Self {
        Self { files: FileSum::of(&store.files()), log_size_bytes: store.stats().log.size_bytes }
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        let mut value = self.files.json();
        files::merge(&mut value, json!({ "log_bytes": self.log_size_bytes }));
        value
    }

    pub(crate) fn put(&self, when: &str, out: &mut dyn Write) -> Result<(), Failure> {
        let FileSum { files, size_bytes, counts } = &self.files;
        let (size, log) = (Size(*size_bytes), Size(self.log_size_bytes));
        let old = files::old_versions(counts);
        put!(
            out,
            "{when}: {files} files with {size} hold {} entries, of them {old} older versions and {} tombstones; the log has {log}",
            counts.entries,
            counts.tombstones
        )
    }
}

/// Flushes and compacts, and prints what that has changed.
pub(crate) fn run(arguments: &Compact, out: &mut dyn Write) -> Result<(), Failure> {
    let range = arguments.range()?;
    // By hand, so that nothing else is rewritten meanwhile, and what is printed is what this command did.
    let builder = open::for_writing(&arguments.directory, &arguments.writing);
    let store = builder.mode(OpenMode::MustExist).background(Background::ByHand).open()?;
    let before = Moment::of(&store);
    let tables = arguments.table.map_or_else(|| store.tables(), |table| Ok(vec![table]))?;
    let bar = progress::bar(Some(tables.len() as u64), "tables");
    bar.set_message("compacting");
    for table in tables {
        store.compact(table, &range)?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    let (after, counters) = (Moment::of(&store), store.file_counters());
    store.close()?;
    if arguments.format != Format::Text {
        let values = json!({ "before": before.json(), "after": after.json(), "session": files::counters_json(&counters) });
        return put_values(out, arguments.format, &values);
    }
    before.put("before", out)?;
    after.put("after", out)?;
    put!(out, "{}", files::written(&counters))
}
