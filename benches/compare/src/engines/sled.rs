//! sled, the stable 0.34, with versions in the keys.
//!
//! Settings after sled's documentation of `Config` and `Tree::flush`, and its source for what a flush does.

use std::ops::Bound;

use sled::{Batch, Config, Db, IVec, Iter, Mode};
use thermocline_yardstick::engine::{Direction, Durability, Options, Settings, mebibytes};
use thermocline_yardstick::failure::{Failure, Outcome};
use thermocline_yardstick::versioned::{Cursor, Entry, Ordered, Snapshot, VERSIONS_IN_KEYS, Versioned};

/// The engine.
pub type Sled = Versioned<Store>;

const RELEASE: &str = "sled 0.34";
const FLUSH_INTERVAL_MS: u64 = 500;

/// An open database.
pub struct Store {
    database: Db,
}

impl Ordered for Store {
    const NAME: &'static str = "sled";
    const PROMISES_LESS_IN: &'static [&'static str] = &["load", "written", "single", "mixed", "sync"];
    type Snapshot<'a> = View<'a>;

    fn settings(options: &Options) -> Settings {
        Settings {
            release: RELEASE.to_owned(),
            versions: format!("{VERSIONS_IN_KEYS}; no snapshots, so a read of the latest may see a part of a commit"),
            durability: format!(
                "Buffered: less than asked for, a log in memory that is flushed every {FLUSH_INTERVAL_MS} ms; \
                 Sync: Tree::flush, which on Linux is sync_file_range, without a flush of the disk's own cache"
            ),
            memory: format!("cache of {}", mebibytes(options.cache_bytes)),
            other: "Mode::HighThroughput; default tree; no compression; no compaction to ask for".to_owned(),
        }
    }

    fn open(options: &Options) -> Outcome<Self> {
        let config = Config::default()
            .path(&options.directory)
            .cache_capacity(options.cache_bytes)
            .mode(Mode::HighThroughput)
            .flush_every_ms(Some(FLUSH_INTERVAL_MS));
        Ok(Self { database: config.open().map_err(Failure::engine)? })
    }

    fn write(&self, puts: &[(Vec<u8>, Vec<u8>)], deletes: &[Vec<u8>], durability: Durability) -> Outcome<()> {
        let mut batch = Batch::default();
        for (key, value) in puts {
            batch.insert(key.as_slice(), value.as_slice());
        }
        for key in deletes {
            batch.remove(key.as_slice());
        }
        self.database.apply_batch(batch).map_err(Failure::engine)?;
        match durability {
            Durability::Sync => self.settle(),
            Durability::Buffered => Ok(()),
        }
    }

    fn snapshot(&self) -> Outcome<View<'_>> {
        Ok(View { database: &self.database })
    }

    fn settle(&self) -> Outcome<()> {
        self.database.flush().map(|_bytes| ()).map_err(Failure::engine)
    }

    fn close(self) -> Outcome<()> {
        self.settle()
    }
}

/// Whatever is newest at each read.
pub struct View<'a> {
    database: &'a Db,
}

impl Snapshot for View<'_> {
    type Cursor<'s>
        = Walk<'s>
    where
        Self: 's;

    fn first(&self, key: &[u8], prefix_len: usize, visit: &mut dyn FnMut(Option<Entry<'_>>)) -> Outcome<()> {
        let found = self.database.range(key..).next().transpose().map_err(Failure::engine)?;
        let entry = found.as_ref().map(|(found, value)| (&**found, &**value));
        visit(entry.filter(|(found, _)| key.get(..prefix_len).is_some_and(|prefix| found.starts_with(prefix))));
        Ok(())
    }

    fn cursor(&self, direction: Direction) -> Outcome<Walk<'_>> {
        Ok(Walk { database: self.database, direction, range: None, entry: None })
    }
}

/// A walk; each seek makes another range.
pub struct Walk<'s> {
    database: &'s Db,
    direction: Direction,
    range: Option<Iter>,
    entry: Option<(IVec, IVec)>,
}

impl Cursor for Walk<'_> {
    fn seek(&mut self, key: &[u8]) -> Outcome<()> {
        let bounds = match self.direction {
            Direction::Forward => (Bound::Included(key), Bound::Unbounded),
            Direction::Reverse => (Bound::Unbounded, Bound::Excluded(key)),
        };
        self.range = Some(self.database.range::<&[u8], _>(bounds));
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
        self.entry.as_ref().map(|(key, value)| (&**key, &**value))
    }
}
