//! An ordered store without versions: a map behind a lock, copied for each snapshot.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use thermocline_yardstick::engine::{Direction, Durability, Options, Settings};
use thermocline_yardstick::failure::Outcome;
use thermocline_yardstick::versioned::{Cursor, Entry, Ordered, Snapshot};

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

static CLOSED: Mutex<BTreeMap<PathBuf, Arc<Map>>> = Mutex::new(BTreeMap::new());

#[derive(Debug)]
pub(crate) struct OrderedMap {
    directory: PathBuf,
    map: Mutex<Arc<Map>>,
}

pub(crate) struct MapSnapshot(Arc<Map>);

pub(crate) struct MapCursor<'s> {
    map: &'s Map,
    direction: Direction,
    entry: Option<(&'s Vec<u8>, &'s Vec<u8>)>,
}

impl Ordered for OrderedMap {
    const NAME: &'static str = "ordered-map";
    type Snapshot<'a> = MapSnapshot;

    fn settings(_options: &Options) -> Settings {
        let word = || "map".to_owned();
        Settings { release: word(), versions: word(), durability: word(), memory: word(), other: word() }
    }

    fn open(options: &Options) -> Outcome<Self> {
        let map = CLOSED.lock().unwrap().remove(&options.directory).unwrap_or_default();
        Ok(Self { directory: options.directory.clone(), map: Mutex::new(map) })
    }

    fn write(&self, puts: &[(Vec<u8>, Vec<u8>)], deletes: &[Vec<u8>], _durability: Durability) -> Outcome<()> {
        let mut map = self.map.lock().unwrap();
        let map = Arc::make_mut(&mut map);
        map.extend(puts.iter().cloned());
        for key in deletes {
            assert!(map.remove(key).is_some(), "only what is there is deleted");
        }
        Ok(())
    }

    fn snapshot(&self) -> Outcome<MapSnapshot> {
        Ok(MapSnapshot(Arc::clone(&self.map.lock().unwrap())))
    }

    fn settle(&self) -> Outcome<()> {
        Ok(())
    }

    fn close(self) -> Outcome<()> {
        CLOSED.lock().unwrap().insert(self.directory, self.map.into_inner().unwrap());
        Ok(())
    }
}

impl Snapshot for MapSnapshot {
    type Cursor<'s> = MapCursor<'s>;

    fn first(&self, key: &[u8], prefix_len: usize, visit: &mut dyn FnMut(Option<Entry<'_>>)) -> Outcome<()> {
        let found = self.0.range(key.to_vec()..).next().filter(|(other, _)| other.starts_with(&key[..prefix_len]));
        visit(found.map(|(key, value)| (key.as_slice(), value.as_slice())));
        Ok(())
    }

    fn cursor(&self, direction: Direction) -> Outcome<MapCursor<'_>> {
        Ok(MapCursor { map: &self.0, direction, entry: None })
    }
}

impl Cursor for MapCursor<'_> {
    fn seek(&mut self, key: &[u8]) -> Outcome<()> {
        self.entry = match self.direction {
            Direction::Forward => self.map.range(key.to_vec()..).next(),
            Direction::Reverse => self.map.range(..key.to_vec()).next_back(),
        };
        Ok(())
    }

    fn step(&mut self) -> Outcome<()> {
        let Some((key, _)) = self.entry else { return Ok(()) };
        self.entry = match self.direction {
            Direction::Forward => self.map.range::<Vec<u8>, _>((Bound::Excluded(key), Bound::Unbounded)).next(),
            Direction::Reverse => self.map.range::<Vec<u8>, _>(..key).next_back(),
        };
        Ok(())
    }

    fn entry(&self) -> Option<Entry<'_>> {
        self.entry.map(|(key, value)| (key.as_slice(), value.as_slice()))
    }
}
