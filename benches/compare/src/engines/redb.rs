//! redb with versions in the keys.
//!
//! Settings after redb's documentation of `Durability`, `Builder` and `Database::compact`.

use std::ops::Bound;

use redb::{AccessGuard, Database, ReadOnlyTable, ReadableDatabase, TableDefinition};
use thermocline_yardstick::engine::{Direction, Durability, Options, Settings, mebibytes};
use thermocline_yardstick::failure::{Failure, Outcome};
use thermocline_yardstick::versioned::{Cursor, Entry, Ordered, Snapshot, VERSIONS_IN_KEYS, Versioned};

/// The engine.
pub type Redb = Versioned<Store>;

const RELEASE: &str = "redb 4.5";
const FILE_NAME: &str = "store.redb";
const TABLE: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("entries");

/// An open database.
pub struct Store {
    database: Database,
}

impl Store {
    fn commit(
        &self,
        durability: Durability,
        fill: impl FnOnce(&mut redb::Table<'_, &[u8], &[u8]>) -> Outcome<()>,
    ) -> Outcome<()> {
        let mut transaction = self.database.begin_write().map_err(Failure::engine)?;
        let durability = match durability {
            Durability::Sync => redb::Durability::Immediate,
            Durability::Buffered => redb::Durability::None,
        };
        transaction.set_durability(durability).map_err(Failure::engine)?;
        fill(&mut transaction.open_table(TABLE).map_err(Failure::engine)?)?;
        transaction.commit().map_err(Failure::engine)
    }
}

impl Ordered for Store {
    const NAME: &'static str = "redb";
    const PROMISES_LESS_IN: &'static [&'static str] = &["load", "written", "single", "mixed"];
    type Snapshot<'a> = View;

    fn settings(options: &Options) -> Settings {
        Settings {
            release: RELEASE.to_owned(),
            versions: VERSIONS_IN_KEYS.to_owned(),
            durability:
                "Buffered: Durability::None, which is less than asked for: lost with the process unless a Sync commit follows \
                         (redb has nothing between); Sync: Durability::Immediate, one phase"
                    .to_owned(),
            memory: format!("cache of {}", mebibytes(options.cache_bytes)),
            other: "one table; no compression; at rest it is compacted".to_owned(),
        }
    }

    fn open(options: &Options) -> Outcome<Self> {
        let database = Database::builder()
            .set_cache_size(usize::try_from(options.cache_bytes).map_err(Failure::engine)?)
            .create(options.directory.join(FILE_NAME))
            .map_err(Failure::engine)?;
        let store = Self { database };
        // Reads expect the table.
        if let Err(Failure::Engine(_)) = store.snapshot().map(drop) {
            store.commit(Durability::Sync, |_| Ok(()))?;
        }
        Ok(store)
    }

    fn write(&self, puts: &[(Vec<u8>, Vec<u8>)], deletes: &[Vec<u8>], durability: Durability) -> Outcome<()> {
        self.commit(durability, |table| {
            for (key, value) in puts {
                table.insert(key.as_slice(), value.as_slice()).map_err(Failure::engine)?;
            }
            for key in deletes {
                table.remove(key.as_slice()).map_err(Failure::engine)?;
            }
            Ok(())
        })
    }

    fn snapshot(&self) -> Outcome<View> {
        let transaction = self.database.begin_read().map_err(Failure::engine)?;
        Ok(View { table: transaction.open_table(TABLE).map_err(Failure::engine)? })
    }

    fn settle(&self) -> Outcome<()> {
        self.commit(Durability::Sync, |_| Ok(()))
    }

    fn compact(&mut self) -> Outcome<()> {
        self.database.compact().map_err(Failure::engine)?;
        Ok(())
    }

    fn close(self) -> Outcome<()> {
        self.commit(Durability::Sync, |_| Ok(()))?;
        self.database.close().map_err(Failure::engine)
    }
}

/// The table as of a read transaction, which it keeps alive.
pub struct View {
    table: ReadOnlyTable<&'static [u8], &'static [u8]>,
}

impl Snapshot for View {
    type Cursor<'s> = Walk<'s>;

    fn first(&self, key: &[u8], prefix_len: usize, visit: &mut dyn FnMut(Option<Entry<'_>>)) -> Outcome<()> {
        let found = self.table.range(key..).map_err(Failure::engine)?.next().transpose().map_err(Failure::engine)?;
        let entry = found.as_ref().map(|(found, value)| (found.value(), value.value()));
        visit(entry.filter(|(found, _)| key.get(..prefix_len).is_some_and(|prefix| found.starts_with(prefix))));
        Ok(())
    }

    fn cursor(&self, direction: Direction) -> Outcome<Walk<'_>> {
        Ok(Walk { table: &self.table, direction, range: None, entry: None })
    }
}

type Guard = AccessGuard<'static, &'static [u8]>;

/// A walk; each seek makes another range.
pub struct Walk<'s> {
    table: &'s ReadOnlyTable<&'static [u8], &'static [u8]>,
    direction: Direction,
    range: Option<redb::Range<'static, &'static [u8], &'static [u8]>>,
    entry: Option<(Guard, Guard)>,
}

impl Cursor for Walk<'_> {
    fn seek(&mut self, key: &[u8]) -> Outcome<()> {
        let bounds = match self.direction {
            Direction::Forward => (Bound::Included(key), Bound::Unbounded),
            Direction::Reverse => (Bound::Unbounded, Bound::Excluded(key)),
        };
        self.range = Some(self.table.range::<&[u8]>(bounds).map_err(Failure::engine)?);
        self.step()
    }

    fn step(&mut self) -> Outcome<()> {
        let next = match (&mut self.range, self.direction) {
            (Some(range), Direction::Forward) => range.next(),
            (Some(range), Direction::Reverse) => range.next_back(),
            (None, _) => None,
        };
        self.entry = next.transpose().map_err(Failure::engine)?;
        Ok(())
    }

    fn entry(&self) -> Option<Entry<'_>> {
        self.entry.as_ref().map(|(key, value)| (key.value(), value.value()))
    }
}
