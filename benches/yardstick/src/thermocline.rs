//! Thermocline as a contestant, through the facade's public interface alone.

use std::ops::ControlFlow;

use thermocline::{Batch, CommitOptions, EntryKind, KeyRange, Store, Version};

use crate::engine::{At, Direction, Durability, Engine, Options, Scan, Settings, Skip, Table, VisitChange, Write, mebibytes};
use crate::failure::Outcome;

/// A store whose tables are the sources with the workload's numbers.
#[derive(Debug)]
pub struct Thermocline(Store);

fn kind(table: Table) -> EntryKind {
    EntryKind::source(u32::from(table))
}

impl Thermocline {
    fn rewrite(&self) -> Outcome<()> {
        for table in self.0.tables()? {
            self.0.compact(table, &KeyRange::all())?;
        }
        Ok(self.0.wait_idle()?)
    }
}

impl Engine for Thermocline {
    const NAME: &'static str = "thermocline";

    fn settings(options: &Options) -> Settings {
        Settings {
            release: concat!("thermocline ", env!("CARGO_PKG_VERSION")).to_owned(),
            versions: "native".to_owned(),
            durability: "Buffered: written to the log; Sync: log synced, group commit".to_owned(),
            memory: format!(
                "budget of {}: an eighth for each of two hot tables, a quarter, 64 MiB at most, for flushing and \
                 compaction, the rest for blocks and indexes",
                mebibytes(options.cache_bytes)
            ),
            other: "hot over warm; lz4 in level 0, Zstandard -1 below; blocks of 16 KiB, of 8 where the data is one to eight times the \
                 cache, Bloom filters; log without compression; xxh3 \
                    checksums; at rest compacted as a whole"
                .to_owned(),
        }
    }

    fn open(options: &Options) -> Outcome<Self> {
        let store = Store::builder(&options.directory)
            .durability(thermocline::Durability::Buffered)
            .tiers(|tiers| tiers.hot().warm())
            .memory_budget(options.cache_bytes)
            .open()?;
        Ok(Self(store))
    }

    fn commit(&self, version: Option<u64>, writes: &[Write<'_>], durability: Durability) -> Outcome<()> {
        let bytes = writes.iter().map(|write| write.key.len() + write.value.map_or(0, <[u8]>::len)).sum();
        let mut batch = Batch::with_capacity(writes.len(), bytes);
        for write in writes {
            match write.value {
                Some(value) => batch.put(kind(write.table), write.key, value),
                None => batch.remove(kind(write.table), write.key),
            };
        }
        let durability = match durability {
            Durability::Sync => thermocline::Durability::Sync,
            Durability::Buffered => thermocline::Durability::Buffered,
        };
        let options = CommitOptions { version: version.map(Version), durability: Some(durability) };
        self.0.commit_with(batch, options)?;
        Ok(())
    }

    fn get(&self, table: Table, key: &[u8], at: At, visit: &mut dyn FnMut(Option<&[u8]>)) -> Outcome<()> {
        let value = match at {
            At::Latest => self.0.get(kind(table), key)?,
            At::Version(version) => self.0.get_at(kind(table), key, Version(version))?,
        };
        visit(value.as_deref());
        Ok(())
    }

    fn get_many(&self, table: Table, keys: &[&[u8]], at: At, visit: &mut dyn FnMut(Option<&[u8]>)) -> Outcome<()> {
        let values = match at {
            At::Latest => self.0.get_many(kind(table), keys)?,
            At::Version(version) => self.0.at(Version(version))?.get_many(kind(table), keys)?,
        };
        for value in &values {
            visit(value.as_deref());
        }
        Ok(())
    }

    fn scan(&self, scan: &Scan<'_>, visit: &mut dyn FnMut(&[u8], &[u8])) -> Outcome<()> {
        let snapshot = match scan.at {
            At::Latest => self.0.snapshot()?,
            At::Version(version) => self.0.at(Version(version))?,
        };
        let range = match (scan.direction, scan.from) {
            (_, None) => KeyRange::all(),
            (Direction::Forward, Some(from)) => KeyRange::new(from..),
            (Direction::Reverse, Some(from)) => KeyRange::new(..=from),
        };
        snapshot.visit(kind(scan.table), range, scan.direction, scan.limit, |key, value| {
            visit(key, value);
            ControlFlow::Continue(())
        })?;
        Ok(())
    }

    fn diff(&self, table: Table, from: u64, to: u64, _skip: Skip, visit: VisitChange<'_>) -> Outcome<()> {
        for entry in self.0.diff(kind(table), KeyRange::all(), Version(from)..Version(to))? {
            let entry = entry?;
            visit(&entry.key, entry.before.as_deref(), entry.after.as_deref());
        }
        Ok(())
    }

    fn reclaim(&self, version: u64) -> Outcome<()> {
        self.0.set_horizon(Version(version))?;
        self.rewrite()
    }

    fn settle(&self) -> Outcome<()> {
        self.0.flush()?;
        Ok(self.0.wait_idle()?)
    }

    fn compact(&mut self) -> Outcome<()> {
        self.rewrite()
    }

    fn close(self) -> Outcome<()> {
        Ok(self.0.close()?)
    }
}
