//! What is picked, where work is divided, and what is refused.

use thermocline_io::MemoryDisk;
use thermocline_tier::{ErrorKind, TableRetained};

use super::*;
use crate::open_files::OpenFiles;
use crate::view::Markers;

/// A file of a level with a key for each number.
fn segment(maker: &Arc<FileMaker>, level: u8, numbers: std::ops::Range<u32>, value_len: usize) -> Arc<Segment> {
    let mut output = Output::new(maker, Compression::None, sizes(), u64::MAX);
    let value = vec![b'v'; value_len];
    for number in numbers {
        let prefix = format!("key/{number:06}").into_bytes();
        let value = crate::writer::Value::Bytes(&value);
        let entry = NewVersion { table: EntryKind::Multi, prefix: &prefix, suffix: &[], version: Version(1), value };
        output.push(&entry, None, Offer::Never).unwrap();
    }
    let [mut meta] = <[FileMeta; 1]>::try_from(output.finish(None).unwrap()).unwrap();
    meta.level = level;
    described(maker, meta)
}

fn described(maker: &Arc<FileMaker>, meta: FileMeta) -> Arc<Segment> {
    let identity = FileIdentity { store: maker.store, number: meta.number };
    let files = Arc::new(OpenFiles::new(Arc::clone(&maker.disk), 8));
    Arc::new(Segment::new(meta, identity, files, Arc::new(Cache::new(1 << 20))))
}

#[test]
fn counts_and_versions_that_a_file_does_not_have_are_found_by_verifying() {
    let maker = maker();
    let right = segment(&maker, 1, 0..100, 50);
    crate::merge::verify_rows(&right).unwrap();
    let changes: [fn(&mut FileMeta); 5] = [
        |meta| meta.tables[0].1.entries += 1,
        |meta| meta.tables[0].1.tombstones += 1,
        |meta| meta.tables[0].1.user_bytes -= 1,
        |meta| meta.version_min = Version(0),
        |meta| meta.version_max = Version(2),
    ];
    for change in changes {
        let mut meta = right.meta.clone();
        change(&mut meta);
        let error = crate::merge::verify_rows(&described(&maker, meta)).unwrap_err();
        assert!(error.kind() == &ErrorKind::Corruption && error.to_string().contains("as the manifest says"), "{error}");
    }
}

fn sizes() -> Sizes {
    Sizes::new(&WarmOptions { block_size_bytes: 256, ..WarmOptions::default() }, std::iter::empty())
}

fn maker() -> Arc<FileMaker> {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
    let next_number = thermocline_io::sync::atomic::AtomicU64::new(1);
    let (cache, prefills) = (Arc::new(Cache::new(1 << 20)), Mutex::default());
    Arc::new(FileMaker { disk, store: thermocline_format::StoreId([7; 16]), next_number, cache, prefills })
}

fn plan(inputs: Vec<Arc<Segment>>) -> Plan {
    Plan { inputs, level: 2, outside: Arc::default(), below: Arc::default(), is_move: false, is_patient: false }
}

fn middle(inputs: &[Arc<Segment>]) -> Option<String> {
    let plan = plan(inputs.to_vec());
    let key = plan.middle(2 << 10).unwrap()?;
    assert_eq!(key.table, EntryKind::Multi);
    Some(String::from_utf8(key.prefix).unwrap())
}

#[test]
fn work_is_divided_where_half_of_the_fullest_levels_bytes_are() {
    let maker = maker();
    let nine: Vec<_> = (0..9).map(|file| segment(&maker, 1, file * 100..file * 100 + 100, 50)).collect();
    let parts = |inputs: &[Arc<Segment>]| {
        let key = middle(inputs).unwrap();
        let key = TableKey { table: EntryKind::Multi, prefix: key.into_bytes() };
        let below = inputs.iter().filter(|segment| segment.meta.first < key).count();
        (below, inputs.iter().filter(|segment| segment.meta.last >= key).count())
    };
    assert_eq!(parts(&nine), (5, 5), "the fifth belongs to both");
    let key = middle(&nine).unwrap();
    assert!(("key/000440".."key/000460").contains(&key.as_str()), "{key}");
    // One that is larger than any other, on a level that holds less.
    let upper = segment(&maker, 0, 0..300, 50);
    let inputs: Vec<_> = std::iter::once(upper).chain(nine.iter().cloned()).collect();
    assert_eq!(middle(&inputs), Some(key), "the largest file is not where the work is");
    // Level 0 holds the most: its files overlap, the newest comes first.
    let upper: Vec<_> = [600..1000, 0..400, 300..700].map(|numbers| segment(&maker, 0, numbers, 50)).into();
    let inputs: Vec<_> = upper.into_iter().chain(nine.iter().take(2).cloned()).collect();
    let key = middle(&inputs).unwrap();
    assert!(("key/000480".."key/000520").contains(&key.as_str()), "{key}");
}

#[test]
fn files_of_one_block_are_divided_where_one_begins() {
    let maker = maker();
    let single = |number: u32, value_len: usize| segment(&maker, 1, number..number + 1, value_len);
    let nine: Vec<_> = (0..9).map(|number| single(number, 1000)).collect();
    assert_eq!(middle(&nine).as_deref(), Some("key/000004"));
    assert_eq!(middle(&[single(0, 5000), single(1, 1000)]), None, "nothing lies below it");
    assert_eq!(middle(&nine[..1]), None, "too little for two");
}

/// What is old of one table, and what is below the horizon of another, make no garbage together.
#[test]
fn file_is_asked_about_for_tables_whose_own_horizon_reaches_what_is_old() {
    let maker = maker();
    let mut meta = segment(&maker, 1, 0..10, 50).meta.clone();
    let (many, once) = (EntryKind::source(1), EntryKind::operator(1));
    let stats = |entries| TableStats { keys: 10, entries, tombstones: 0, user_bytes: 1000 };
    meta.tables = vec![(many, stats(50)), (once, stats(10))];
    let file = described(&maker, meta);
    let mut levels = vec![Vec::new(); LEVELS];
    levels[1].push(Arc::clone(&file));
    let view = View::new(levels, Markers::default(), std::iter::empty().collect());
    let holds = |table: EntryKind| {
        let mut retained = RetainedTables::new(Retained::default());
        retained.insert(table, TableRetained::new(&[], |_| Retained::new(Version(9), [])));
        may_hold_garbage(&view, &file, &retained)
    };
    assert!(!holds(once) && holds(many));
}

#[test]
fn drops_of_long_keys_are_carried_out_before_they_are_many() {
    let maker = maker();
    let file = segment(&maker, 1, 0..1000, 50);
    let is_picked = |key_len: usize| {
        let key = |number: u32| TableKey {
            table: EntryKind::Multi,
            prefix: [format!("key/{number:06}").into_bytes(), vec![b'x'; key_len]].concat(),
        };
        let drops = (0..200).map(|number| ((key(number), Version(1)), 1)).collect();
        let mut levels = vec![Vec::new(); LEVELS];
        levels[1].push(Arc::clone(&file));
        let view = View::new(levels, Markers { drops, ..Markers::default() }, std::iter::empty().collect());
        Plan::garbage(&view, &WarmOptions::default(), &RetainedTables::default(), &BTreeSet::new()).is_some()
    };
    assert!(!is_picked(100) && is_picked(60_000));
}

#[test]
fn level_that_is_too_full_gives_what_costs_least_and_rather_what_is_old() {
    let maker = maker();
    let options = WarmOptions { level1_size_bytes: 1, ..WarmOptions::default() };
    let upper: Vec<_> = [0..100, 100..200, 200..300].map(|numbers| segment(&maker, 1, numbers, 50)).into();
    // Tombstones or versions that are not the newest, as the manifest counts them.
    let aged = |segment: &Arc<Segment>, change: fn(&mut TableStats)| {
        let mut meta = segment.meta.clone();
        change(&mut meta.tables[0].1);
        described(&maker, meta)
    };
    let picked = |upper: &[Arc<Segment>], lower: &[Arc<Segment>]| {
        let mut levels = vec![Vec::new(); LEVELS];
        (levels[1], levels[2]) = (upper.to_vec(), lower.to_vec());
        let plan =
            Plan::pick(&View::new(levels, Markers::default(), std::iter::empty().collect()), &options, &BTreeSet::new()).unwrap();
        let numbers: Vec<u64> = plan.inputs.iter().map(|segment| segment.meta.number).collect();
        (upper.iter().position(|segment| segment.meta.number == numbers[0]).unwrap(), numbers.len(), plan.level, plan.is_move)
    };
    let below = |numbers| segment(&maker, 2, numbers, 50);
    assert_eq!(picked(&upper, &[below(0..100), below(200..250)]), (1, 1, 2, true), "what meets nothing is moved");
    let lower = [below(0..100), below(100..200), below(200..300)];
    for change in [|stats: &mut TableStats| stats.keys = 10, |stats: &mut TableStats| stats.tombstones = 90] {
        for old in 0..3 {
            let mut upper = upper.clone();
            upper[old] = aged(&upper[old], change);
            assert_eq!(picked(&upper, &lower), (old, 2, 2, false));
        }
    }
    // A third that is old does not outweigh three times as much to rewrite.
    let upper = [aged(&upper[0], |stats| stats.tombstones = 30), Arc::clone(&upper[1])];
    assert_eq!(picked(&upper, &[below(0..50), below(50..100), below(100..130)]).0, 1);
}

#[test]
fn files_of_a_level_that_overlap_are_refused_by_a_rewrite() {
    let maker = maker();
    let step = |ranges: [std::ops::Range<u32>; 2]| {
        let inputs = ranges.map(|numbers| segment(&maker, 1, numbers, 50)).to_vec();
        let plan = plan(inputs);
        let (retained, markers) = (RetainedTables::default(), Markers::default());
        let keep = Keep { retained, markers, outside: Arc::default(), offers: None };
        let output = Output::new(&maker, Compression::None, sizes(), u64::MAX);
        let mut part = Part::open(&plan, &keep, (None, None), output, None).unwrap();
        part.step(u64::MAX)
    };
    assert!(step([0..10, 10..20]).unwrap(), "one behind the other");
    assert_eq!(step([0..10, 9..20]).unwrap_err().kind(), &ErrorKind::Corruption);
}
