//! The inspect command: the sorted files of a store, as text, as JSON, and as a page with a picture.
//!
//! Everything comes from what the store says about its files when it is opened: no file's entries are read.

mod grid;
mod html;
mod json;
mod picture;
mod text;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use thermocline::{FileCounters, Store, StoreStats, Table, TableStats, TierFile};

use crate::arguments::Inspect;
use crate::failure::Failure;
use crate::files::{self, FileSum, ratio};
use crate::open;
use crate::output::{Shown, put, put_json};

/// What is known of a store's files.
struct Inspection {
    directory: String,
    stats: StoreStats,
    counters: FileCounters,
    /// By level and key.
    files: Vec<TierFile>,
    levels: BTreeMap<u8, FileSum>,
    total: FileSum,
    tables: BTreeMap<Table, TableSpace>,
}

/// What the files hold of one table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct TableSpace {
    files: u64,
    counts: TableStats,
    /// Its part of its files, by its part of their keys and values.
    size_bytes_estimate: u64,
}

impl Inspection {
    fn new(directory: &Path, store: &Store) -> Self {
        let files = store.files();
        Self {
            directory: Shown(directory.as_os_str().as_encoded_bytes()).to_string(),
            stats: store.stats(),
            counters: store.file_counters(),
            levels: files::levels(&files),
            total: FileSum::of(&files),
            tables: space_by_table(&files),
            files,
        }
    }

    /// In how many files a point read may have to look, at most: in each of level 0, and in one of each level below that has any.
    fn read_files_max(&self) -> u64 {
        let (upper, below) = self.read_files();
        upper + below
    }

    /// The two parts of [`read_files_max`](Self::read_files_max).
    fn read_files(&self) -> (u64, u64) {
        let upper = self.levels.get(&0).map_or(0, |sum| sum.files);
        (upper, self.levels.range(1..).count() as u64)
    }

    /// Bytes of files for each byte of keys and values in them; `None` if there are none.
    fn space_amplification(&self) -> Option<f64> {
        let user_bytes = self.total.counts.user_bytes;
        (user_bytes > 0).then(|| ratio(self.total.size_bytes, user_bytes))
    }
}

fn space_by_table(files: &[TierFile]) -> BTreeMap<Table, TableSpace> {
    let mut tables: BTreeMap<Table, TableSpace> = BTreeMap::new();
    for file in files {
        let all = files::counts_of(file);
        for (table, counts) in &file.tables {
            let space = tables.entry(*table).or_default();
            space.files += 1;
            space.counts.add(counts);
            // Keys and values may all be empty; then only the entries tell.
            let (part, whole) =
                if all.user_bytes > 0 { (counts.user_bytes, all.user_bytes) } else { (counts.entries, all.entries) };
            let share = u128::from(file.size_bytes) * u128::from(part) / u128::from(whole.max(1));
            space.size_bytes_estimate += u64::try_from(share).unwrap_or(u64::MAX);
        }
    }
    tables
}

/// Prints what is known of a store's files, or writes it to a page.
pub(crate) fn run(arguments: &Inspect, out: &mut dyn Write) -> Result<(), Failure> {
    let store = open::for_reading(&arguments.directory)?;
    let inspection = Inspection::new(&arguments.directory, &store);
    match &arguments.html {
        Some(path) => {
            write(path, &html::page(&inspection))?;
            put!(out, "wrote {}", Shown(path.as_os_str().as_encoded_bytes()))
        }
        None if arguments.json => put_json(out, &json::values(&inspection)),
        None => text::put(&inspection, out),
    }
}

fn write(path: &Path, page: &str) -> Result<(), Failure> {
    #[expect(clippy::disallowed_types, reason = "the user's own file, which is no file of a store, and may lie anywhere")]
    let file = std::fs::File::create(path);
    let written = file.and_then(|mut file| file.write_all(page.as_bytes()));
    written.map_err(|source| Failure::Write { path: path.to_path_buf(), source })
}

#[cfg(test)]
mod tests {
    use thermocline::{Bytes, Version};

    use super::*;

    pub(super) fn file(name: &str, level: u8, size_bytes: u64, keys: (&[u8], &[u8]), tables: &[(Table, u64, u64)]) -> TierFile {
        let counts = |entries, user_bytes| TableStats { keys: entries, entries, user_bytes, tombstones: 0 };
        TierFile {
            name: name.to_owned(),
            level,
            size_bytes,
            first: (tables[0].0, Bytes::copy_from_slice(keys.0)),
            last: (tables[tables.len() - 1].0, Bytes::copy_from_slice(keys.1)),
            versions: (Version(1), Version(9)),
            tables: tables.iter().map(|(table, entries, user_bytes)| (*table, counts(*entries, *user_bytes))).collect(),
        }
    }

    #[test]
    fn space_is_shared_among_the_tables_of_a_file_by_their_bytes() {
        let (one, other) = (Table::Multi, Table::source(1));
        let files = [
            file("a", 0, 1000, (b"a", b"b"), &[(one, 1, 30), (other, 1, 10)]),
            file("b", 1, 500, (b"a", b"b"), &[(one, 2, 10)]),
            file("c", 1, 90, (b"", b""), &[(one, 2, 0), (other, 1, 0)]),
        ];
        let tables = space_by_table(&files);
        let space = |table| (tables[&table].files, tables[&table].counts.entries, tables[&table].size_bytes_estimate);
        assert_eq!((space(one), space(other)), ((3, 5, 750 + 500 + 60), (2, 2, 250 + 30)));
    }
}
