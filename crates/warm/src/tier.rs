//! The tier: files, manifest, readers and background work, together.

mod migrating;
mod rewrite;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use thermocline_format::StoreId;
use thermocline_io::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use thermocline_io::sync::{Condvar, Mutex, RwLock};
use thermocline_io::{DirEntry, Disk, FileId, Reason};
use thermocline_migration::Migration;
use thermocline_tier::{
    Amount, Checkpoint, Direction, DropVersion, DurableTier, EntryKind, EntryRef, Error, ErrorKind, FileCounters, KeyRange,
    KeyRef, Lookup, MigratingTier, MigrationCounters, Pressure, RangeBatch, RangeCursor, RangeRequest, RawEntry, Result,
    RetainedTables, RetentionSource, SCAN_BATCH_SIZE_BYTES, SkipFile, TableStats, TierBatch, TierFile, TierScan, TierStats,
    TierStorage, VerifiedFiles, Version,
};

use self::migrating::Unwanted;
use self::rewrite::{Jobs, Target};
use crate::cache::Cache;
use crate::codec::Compression;
use crate::compaction::{Asked, FileMaker, Output};
use crate::error::{corruption, disk_error};
use crate::filter;
use crate::hooks::Offer;
use crate::layout::FileIdentity;
use crate::manifest::{Edit, Manifest, State};
use crate::merge::{Chain, Keep, KeepWalk, Merge, Moved, verify_rows};
use crate::meta::{FileMeta, TableKey};
use crate::open_files::OpenFiles;
use crate::options::WarmOptions;
use crate::scan::WarmScan;
use crate::segment::{Life, Segment, Wanted};
use crate::view::{LEVELS, Markers, View};
use crate::writer::{NewVersion, Sizes, Value};

/// What changes, and under whose lock.
#[derive(Debug)]
struct Catalog {
    manifest: Option<Manifest>,
    state: State,
}

/// The warm tier: sorted files in levels, listed in a manifest.
///
/// Reads take no lock and see one state each. A write by [`set`](TierStorage::set) makes a file of its own and is durable when it returns;
/// it is meant for bulk loads and for stores without a tier above. [`absorb`](DurableTier::absorb) takes a whole tier. Nothing is
/// rewritten but by [`step`](DurableTier::step) and [`compact`](DurableTier::compact), and by a `set` that finds level 0 full.
///
/// [`stats`](TierStorage::stats) sums up what the files hold: a key that several files hold counts several times, what is cleared or
/// dropped counts until it is rewritten.
///
/// ```
/// use std::sync::Arc;
/// use thermocline_io::MemoryDisk;
/// use thermocline_tier::{BatchBuilder, EntryKind, Lookup, TierStorage, Version, WholeKey};
/// use thermocline_warm::{OpenWarm, WarmOptions, WarmTier};
///
/// let open = || WarmTier::open(OpenWarm {
///     disk: Arc::new(MemoryDisk::new()),
///     store: thermocline_warm::StoreId([7; 16]),
///     options: WarmOptions::default(),
///     is_read_only: false,
///     migration: None,
/// });
/// let tier = open()?;
/// let mut batch = BatchBuilder::new();
/// batch.put(EntryKind::Multi, b"k", b"v")?;
/// tier.set(&batch.finish(&WholeKey, Version(3)))?;
/// assert!(tier.get(EntryKind::Multi, b"k", Version(3))?.is_value());
/// assert_eq!(tier.get(EntryKind::Multi, b"k", Version(2))?, Lookup::Absent);
/// # Ok::<(), thermocline_tier::Error>(())
/// ```
pub struct WarmTier {
    options: WarmOptions,
    is_read_only: bool,
    cache: Arc<Cache>,
    files: Arc<OpenFiles>,
    maker: Arc<FileMaker>,
    view: ArcSwap<View>,
    catalog: Mutex<Catalog>,
    jobs: Mutex<Jobs>,
    /// A part of a rewrite was given back.
    given_back: Condvar,
    retention: RwLock<Option<Arc<dyn RetentionSource>>>,
    migration: Option<Arc<dyn Migration>>,
    migrated: Mutex<MigrationCounters>,
    /// Files that were live, while somebody may read them.
    held: Mutex<Vec<(FileMeta, Life)>>,
    /// Where the strategy wanted nothing rewritten when it was asked last.
    nothing_wanted: Mutex<Option<Unwanted>>,
    /// What must be gone, however little it is.
    asked: Mutex<Option<Asked>>,
    is_reclaim_paused: AtomicBool,
    /// What was left out of what was absorbed and rewritten, since this was opened.
    reclaimed: Mutex<BTreeMap<EntryKind, Amount>>,
    written_bytes: AtomicU64,
    compacted_bytes: AtomicU64,
}

/// What [`WarmTier::open`] needs.
///
/// See [`WarmTier`] for an example.
#[derive(Debug)]
pub struct OpenWarm {
    /// The directory. The caller holds its lock.
    pub disk: Arc<dyn Disk>,
    /// The store that the files belong to.
    pub store: StoreId,
    /// How it works.
    pub options: WarmOptions,
    /// Whether nothing may be changed, not even what a crash has left.
    pub is_read_only: bool,
    /// What rows are shown to on their way to files, if anything. May be another one each time: summaries of another strategy are made anew.
    pub migration: Option<Arc<dyn Migration>>,
}

impl fmt::Debug for WarmTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let view = self.view.load();
        let levels: Vec<usize> = view.levels.iter().map(Vec::len).collect();
        f.debug_struct("WarmTier").field("files_by_level", &levels).finish_non_exhaustive()
    }
}

impl WarmTier {
    /// Opens the tier of a directory, or begins an empty one. Files that the manifest does not name are removed; those it names must be
    /// there with their lengths. Cost: reads the manifest; files are opened when they are read.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for impossible options, [`ForeignFile`](ErrorKind::ForeignFile),
    /// [`UnsupportedFormat`](ErrorKind::UnsupportedFormat) and [`Corruption`](ErrorKind::Corruption) naming the file,
    /// [`DiskFull`](ErrorKind::DiskFull) and [`Io`](ErrorKind::Io).
    pub fn open(request: OpenWarm) -> Result<Self> {
        let OpenWarm { disk, store, options, is_read_only, migration } = request;
        options.check()?;
        let found = Manifest::open(Arc::clone(&disk), Some(store), is_read_only)?;
        let (manifest, state) = match found {
            Some((manifest, state)) => (Some(manifest), state),
            None if is_read_only => (None, State::default()),
            None => (Some(Manifest::create(Arc::clone(&disk), store)?), State::default()),
        };
        let next_number = sweep(&*disk, &state, is_read_only)?;
        let cache = Arc::new(Cache::new(options.cache_size_bytes));
        let files = Arc::new(OpenFiles::new(Arc::clone(&disk), options.open_files_max));
        let (next_number, prefills) = (AtomicU64::new(next_number), Mutex::default());
        let maker = Arc::new(FileMaker { disk, store, next_number, cache: Arc::clone(&cache), prefills });
        let tier = Self {
            view: ArcSwap::from_pointee(View::new(vec![Vec::new(); LEVELS], Markers::default(), state.tables.clone())),
            options,
            is_read_only,
            cache,
            files,
            maker,
            catalog: Mutex::new(Catalog { manifest, state }),
            jobs: Mutex::default(),
            given_back: Condvar::default(),
            retention: RwLock::new(None),
            migration,
            migrated: Mutex::default(),
            held: Mutex::default(),
            nothing_wanted: Mutex::default(),
            asked: Mutex::default(),
            is_reclaim_paused: AtomicBool::new(false),
            reclaimed: Mutex::default(),
            written_bytes: AtomicU64::new(0),
            compacted_bytes: AtomicU64::new(0),
        };
        tier.publish(&tier.catalog.lock().state);
        Ok(tier)
    }

    /// The tier's options.
    pub fn options(&self) -> &WarmOptions {
        &self.options
    }

    /// Makes the state what readers see. Files that stay keep their open handles, indexes and cached blocks.
    fn publish(&self, state: &State) {
        let before = self.view.load_full();
        let mut known: BTreeMap<u64, &Arc<Segment>> = before.segments().map(|segment| (segment.meta.number, segment)).collect();
        let mut levels: Vec<Vec<Arc<Segment>>> = vec![Vec::new(); LEVELS];
        for meta in state.files.values() {
            let segment = match known.remove(&meta.number) {
                Some(segment) if segment.meta.level == meta.level && segment.meta.summary == meta.summary => Arc::clone(segment),
                Some(segment) => Arc::new(segment.with_meta(meta.clone())),
                None => {
                    let identity = FileIdentity { store: self.maker.store, number: meta.number };
                    let segment = Segment::new(meta.clone(), identity, Arc::clone(&self.files), Arc::clone(&self.cache));
                    let prefill = self.maker.prefills.lock().remove(&meta.number);
                    if let Some(Err(error)) = prefill.map(|prefill| segment.prefill(prefill)) {
                        // Whoever needs what could not be read meets it again.
                        tracing::warn!(%error, "the cache could not be filled from a new sorted file");
                    }
                    Arc::new(segment)
                }
            };
            if let Some(level) = levels.get_mut(usize::from(meta.level)) {
                level.push(segment);
            }
        }
        if let Some((upper, lower)) = levels.split_first_mut() {
            let flush = |segment: &Arc<Segment>| std::cmp::Reverse(segment.meta.rank);
            upper.sort_by(|a, b| flush(a).cmp(&flush(b)).then_with(|| a.meta.first.cmp(&b.meta.first)));
            for level in lower {
                level.sort_by(|a, b| a.meta.first.cmp(&b.meta.first));
            }
        }
        if self.migration.is_some() {
            let mut held = self.held.lock();
            held.retain(|(_, life)| !life.is_over());
            // Before they go from view, so that whoever looks at both misses none.
            held.extend(known.values().map(|segment| (segment.meta.clone(), segment.life())));
        }
        let markers = Markers { drops: state.drops.clone(), clears: state.clears.clone() };
        self.view.store(Arc::new(View::new(levels, markers, state.tables.clone())));
        // What is left was live before and is not any more.
        for segment in known.into_values() {
            segment.make_obsolete();
        }
    }

    /// Makes an edit durable and then visible.
    fn commit(&self, catalog: &mut Catalog, mut edit: Edit) -> Result<()> {
        let Some(manifest) = &mut catalog.manifest else { return Err(read_only()) };
        manifest.check_writable()?;
        forget_idle_markers(&catalog.state, &mut edit);
        let mut state = catalog.state.clone();
        state.apply(&edit).map_err(|what| Error::with_source(ErrorKind::Corruption, what).context("edit the manifest"))?;
        manifest.commit(&edit, &state)?;
        catalog.state = state;
        self.publish(&catalog.state);
        Ok(())
    }

    /// Commits an edit that adds new files. If that fails, they are removed.
    fn install(&self, catalog: &mut Catalog, edit: Edit) -> Result<()> {
        let added: Vec<u64> = edit.add.iter().map(|file| file.number).collect();
        let discard = || added.iter().for_each(|number| self.maker.discard(*number));
        self.sync_names(catalog, !added.is_empty()).inspect_err(|_| discard())?;
        self.commit(catalog, edit).inspect_err(|error| {
            // After a failed sync it is not known whether the manifest names them: the next open decides.
            if matches!(error.kind(), ErrorKind::Poisoned) {
                self.maker.prefills.lock().retain(|number, _| !added.contains(number));
            } else {
                discard();
            }
        })
    }

    /// Takes new files of level 0 over.
    fn add(&self, mut files: Vec<FileMeta>, tables: Vec<EntryKind>, checkpoint: Option<Checkpoint>) -> Result<()> {
        let written = files.iter().map(|file| file.size_bytes).sum();
        let mut catalog = self.catalog.lock();
        for file in &mut files {
            // One for all: they hold disjoint keys.
            file.rank = catalog.state.rank_last + 1;
            file.applied = catalog.state.marker_last;
        }
        let tables = tables.into_iter().filter(|table| !catalog.state.tables.contains(table)).collect();
        self.install(&mut catalog, Edit { add: files, tables, checkpoint, ..Edit::default() })?;
        self.written_bytes.fetch_add(written, Ordering::Relaxed);
        Ok(())
    }

    /// Makes the names of new files durable. If that fails, those of files that others are making may be lost with them, also if
    /// a later sync says that all is well. So nothing is written any more then.
    fn sync_names(&self, catalog: &mut Catalog, has_new: bool) -> Result<()> {
        let Some(manifest) = &mut catalog.manifest else { return Err(read_only()) };
        manifest.check_writable()?;
        if !has_new {
            return Ok(());
        }
        self.maker.disk.sync_dir(Reason::SstWrite).map_err(|failed| manifest.poison(failed))
    }

    fn check_writable(&self) -> Result<()> {
        if self.is_read_only {
            return Err(read_only());
        }
        self.catalog.lock().manifest.as_ref().map_or_else(|| Err(read_only()), Manifest::check_writable)
    }

    fn output(&self, compression: Compression) -> Output {
        let tables = self.stats().tables.into_iter().map(|(_, stats)| stats);
        Output::new(&self.maker, compression, Sizes::new(&self.options, tables), self.options.file_size_bytes)
    }

    fn page(&self, cursor: &mut RangeCursor, direction: Direction, batch_size: usize) -> Result<RangeBatch> {
        cursor.check_use(direction, batch_size)?;
        let mut page = RangeBatch::new();
        if cursor.is_exhausted() {
            return Ok(page);
        }
        let request = RangeRequest { range: cursor.remaining(), ..cursor.request().clone() };
        // As many as were asked for, however large: a page is what its reader wants to have at once.
        WarmScan::open(self.view.load_full(), request, usize::MAX, &BTreeSet::new())?.next_batch(batch_size, &mut page)?;
        match page.last() {
            Some(last) => cursor.advance(last.prefix, page.has_more),
            None => cursor.exhaust(),
        }
        Ok(page)
    }

    /// All entries of some files of a view, in its order, from a key on, as one stream.
    fn merge(view: &View, segments: &[Arc<Segment>], from: Option<&TableKey>) -> Result<Merge> {
        let (retained, outside) = (RetainedTables::default(), Arc::default());
        let keep = Keep { retained, markers: view.markers.clone(), outside, offers: None };
        Ok(Merge::new(Chain::open_all(segments, from)?, keep))
    }
}

fn read_only() -> Error {
    ErrorKind::Unsupported { what: "writing to a tier that was opened read-only".into() }.into()
}

/// No tier comes as far as this number: a file of such a name, which no manifest names, says nothing about which numbers are free.
const NUMBER_MAX: u64 = 1 << 62;

/// Checks that the files of the manifest are there, and removes those that it does not name. The next free number.
fn sweep(disk: &dyn Disk, state: &State, is_read_only: bool) -> Result<u64> {
    let mut lengths = BTreeMap::new();
    for entry in disk.list(Reason::Open).map_err(disk_error)? {
        if let DirEntry::File(FileId::Sst(number), len) = entry {
            lengths.insert(number, len);
        }
    }
    for file in state.files.values() {
        let label = thermocline_format::FileLabel::numbered(thermocline_format::FileKind::Sst, file.number);
        let damaged = |part, expected, found| corruption(thermocline_format::Corruption::new(label, 0, part, expected, found));
        // Files on a level that nobody reads would be lost without a word.
        if usize::from(file.level) >= LEVELS {
            return Err(damaged("file's level", format!("below {LEVELS}"), file.level.to_string()));
        }
        let found = match lengths.get(&file.number) {
            Some(len) if *len == file.size_bytes => continue,
            Some(len) => format!("{len} bytes"),
            None => "no file".to_owned(),
        };
        return Err(damaged("file length", format!("{} bytes, as the manifest says", file.size_bytes), found));
    }
    let mut has_removed = false;
    for number in lengths.keys().filter(|number| !state.files.contains_key(number)) {
        if is_read_only {
            continue;
        }
        match disk.remove(FileId::Sst(*number), Reason::SstRemove) {
            Ok(()) => has_removed = true,
            Err(error) => tracing::warn!(%error, "could not remove a sorted file that is not in the manifest"),
        }
    }
    if has_removed {
        tracing::info!("removed sorted files that were never completed or not needed any more");
    }
    let last = lengths.into_keys().filter(|number| *number < NUMBER_MAX).max();
    Ok(last.map_or(1, |last| last + 1).max(state.file_number_next))
}

/// Marks that hide nothing once the edit is made.
fn forget_idle_markers(state: &State, edit: &mut Edit) {
    let is_live = |file: &&FileMeta| !edit.remove.contains(&file.number);
    let live = || state.files.values().filter(is_live).chain(&edit.add);
    let drops = state.drops.iter().filter(|((key, version), sequence)| {
        let spans =
            |file: &FileMeta| file.first <= *key && *key <= file.last && (file.version_min..=file.version_max).contains(version);
        !live().any(|file| file.applied < **sequence && spans(file))
    });
    let drops: Vec<(TableKey, Version)> = drops.map(|(marker, _)| marker.clone()).collect();
    let clears = state.clears.iter().filter(|(table, sequence)| {
        !live().any(|file| file.applied < **sequence && file.tables.iter().any(|(held, _)| held == *table))
    });
    let clears: Vec<EntryKind> = clears.map(|(table, _)| *table).collect();
    edit.forget_drops = drops;
    edit.forget_clears = clears;
}

impl TierStorage for WarmTier {
    fn get(&self, table: EntryKind, prefix: &[u8], at: Version) -> Result<Lookup> {
        self.view.load().get(table, prefix, at, Wanted::Value)
    }

    fn contains(&self, table: EntryKind, prefix: &[u8], at: Version) -> Result<bool> {
        Ok(self.view.load().get(table, prefix, at, Wanted::Presence)?.is_value())
    }

    fn get_many(&self, keys: &[KeyRef<'_>], at: Version) -> Result<Vec<Lookup>> {
        self.view.load().get_many(keys, at)
    }

    fn set(&self, batch: &TierBatch) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        self.check_writable()?;
        while matches!(self.pressure(), Pressure::Stop { .. }) && self.step()? {}
        let (mut output, mut hooks) = (self.output(self.options.compression_flushed), self.hooks());
        let mut tables = Vec::new();
        let written = batch.iter().try_for_each(|(table, entry)| {
            if tables.last() != Some(&table) {
                tables.push(table);
            }
            output.push(&new_version(table, &entry), hooks.as_mut(), Offer::Later)
        });
        let files = written.and_then(|()| output.finish(hooks.as_mut()));
        self.add(files.inspect_err(|error| self.note_failed_hook(error))?, tables, None)?;
        self.note_migrated(hooks.as_ref());
        Ok(())
    }

    fn range_next(&self, cursor: &mut RangeCursor, batch_size: usize) -> Result<RangeBatch> {
        self.page(cursor, Direction::Forward, batch_size)
    }

    fn range_rev_next(&self, cursor: &mut RangeCursor, batch_size: usize) -> Result<RangeBatch> {
        self.page(cursor, Direction::Reverse, batch_size)
    }

    fn scan(self: Arc<Self>, request: RangeRequest) -> Result<Box<dyn TierScan>> {
        Ok(Box::new(WarmScan::open(self.view.load_full(), request, SCAN_BATCH_SIZE_BYTES, &BTreeSet::new())?))
    }

    fn scan_skipping(self: Arc<Self>, request: RangeRequest, skip: SkipFile<'_>) -> Result<Box<dyn TierScan>> {
        let (view, skipped) = self.skipped(skip);
        Ok(Box::new(WarmScan::open(view, request, SCAN_BATCH_SIZE_BYTES, &skipped)?))
    }

    fn ensure_table(&self, table: EntryKind) -> Result<()> {
        let mut catalog = self.catalog.lock();
        if catalog.state.tables.contains(&table) {
            return Ok(());
        }
        self.commit(&mut catalog, Edit { tables: vec![table], ..Edit::default() })
    }

    fn tables(&self) -> Result<Vec<EntryKind>> {
        Ok(self.view.load().tables.iter().copied().collect())
    }

    fn clear_table(&self, table: EntryKind) -> Result<()> {
        // What a rewrite reads stays until that has ended, or its work would be in vain; no other begins meanwhile.
        let jobs = self.jobs.lock();
        let mut catalog = self.catalog.lock();
        let holds = |file: &&FileMeta| file.tables.iter().any(|(held, _)| *held == table);
        let may_go = |file: &&FileMeta| file.tables.len() == 1 && !jobs.inputs.contains(&file.number);
        let (alone, shared): (Vec<&FileMeta>, Vec<&FileMeta>) = catalog.state.files.values().filter(holds).partition(may_go);
        let clears = if shared.is_empty() { Vec::new() } else { vec![(table, catalog.state.marker_last + 1)] };
        let remove: Vec<u64> = alone.iter().map(|file| file.number).collect();
        if remove.is_empty() && clears.is_empty() {
            return Ok(());
        }
        self.commit(&mut catalog, Edit { remove, clears, ..Edit::default() })
    }

    fn drop_versions(&self, drops: &[DropVersion]) -> Result<()> {
        let mut catalog = self.catalog.lock();
        let view = self.view.load();
        let sequence = catalog.state.marker_last + 1;
        let mut marks = BTreeMap::new();
        for DropVersion { table, prefix, version } in drops {
            let hash = filter::hash(table.code(), prefix);
            for segment in view.candidates(*table, prefix) {
                let found = view.get_from(segment, *table, prefix, hash, *version, Wanted::Presence)?;
                if found.version() == Some(*version) {
                    marks.insert((TableKey { table: *table, prefix: prefix.to_vec() }, *version), sequence);
                }
            }
        }
        if marks.is_empty() {
            return Ok(());
        }
        let drops = marks.into_iter().map(|((key, version), sequence)| (key, version, sequence)).collect();
        self.commit(&mut catalog, Edit { drops, ..Edit::default() })
    }

    fn get_all_versions(&self, table: EntryKind, prefix: &[u8]) -> Result<Vec<RawEntry>> {
        let view = self.view.load_full();
        let key = TableKey { table, prefix: prefix.to_vec() };
        let hash = filter::hash(table.code(), prefix);
        let mut segments = Vec::new();
        for segment in view.candidates(table, prefix) {
            if segment.may_hold(table, prefix, hash)? {
                segments.push(Arc::clone(segment));
            }
        }
        let mut merge = Self::merge(&view, &segments, Some(&key))?;
        let prefix = Bytes::copy_from_slice(prefix);
        let mut entries = Vec::new();
        while let Some((found, row)) = merge.next()? {
            if *found != key {
                break;
            }
            let value = raw_value(&segments, row.value)?;
            entries.push(RawEntry { prefix: prefix.clone(), suffix: row.suffix, version: row.version, value });
        }
        Ok(entries)
    }

    fn visit_entries(&self, visit: &mut dyn FnMut(EntryKind, EntryRef<'_>) -> Result<()>) -> Result<()> {
        let view = self.view.load_full();
        let segments: Vec<Arc<Segment>> = view.segments().cloned().collect();
        let mut merge = Self::merge(&view, &segments, None)?;
        while let Some((key, row)) = merge.next()? {
            let (table, prefix) = (key.table, key.prefix.as_slice());
            let value = raw_value(&segments, row.value)?;
            visit(table, EntryRef { prefix, suffix: &row.suffix, version: row.version, value: value.as_deref() })?;
        }
        Ok(())
    }

    fn stats(&self) -> TierStats {
        let view = self.view.load();
        let mut tables: BTreeMap<EntryKind, TableStats> =
            view.tables.iter().map(|table| (*table, TableStats::default())).collect();
        for segment in view.segments() {
            for (table, held) in
                segment.meta.tables.iter().filter(|(table, _)| !view.markers.hides_table(*table, segment.meta.applied))
            {
                tables.entry(*table).or_default().add(held);
            }
        }
        TierStats { tables: tables.into_iter().collect(), memory_bytes: self.cache.used_bytes(), garbage_bytes: 0 }
    }

    fn memory_bytes(&self) -> u64 {
        self.cache.used_bytes()
    }
}

fn new_version<'a>(table: EntryKind, entry: &EntryRef<'a>) -> NewVersion<'a> {
    let value = entry.value.map_or(Value::Tombstone, Value::Bytes);
    NewVersion { table, prefix: entry.prefix, suffix: entry.suffix, version: entry.version, value }
}

/// The value of a row as its writer gave it.
fn raw_value(segments: &[Arc<Segment>], value: Moved) -> Result<Option<Bytes>> {
    Ok(match value {
        Moved::Tombstone => None,
        Moved::Bytes(bytes) => Some(bytes),
        Moved::Stored(payload, codec, raw_len) => match segments.first() {
            Some(segment) => Some(segment.decoded_value(&payload, codec, raw_len)?),
            None => None,
        },
    })
}

impl DurableTier for WarmTier {
    fn checkpoint(&self) -> Checkpoint {
        self.catalog.lock().state.checkpoint.clone()
    }

    fn absorb(&self, source: &dyn TierStorage, checkpoint: Checkpoint) -> Result<()> {
        self.check_writable()?;
        let (mut output, mut hooks) = (self.output(self.options.compression_flushed), self.hooks());
        let retained = self.retention.read().clone().map(|source| source.retained());
        // Where nothing may go, nothing needs looking at.
        let mut walk = retained.filter(|retained| *retained != RetainedTables::default()).map(KeepWalk::new);
        let mut left_out: BTreeMap<EntryKind, Amount> = BTreeMap::new();
        let visited = source.visit_entries(&mut |table, entry| {
            if walk.as_mut().is_none_or(|walk| walk.keeps(table, entry.prefix, entry.version)) {
                return output.push(&new_version(table, &entry), hooks.as_mut(), Offer::Later);
            }
            *left_out.entry(table).or_default() += Amount { entries: 1, bytes: entry.user_bytes() };
            Ok(())
        });
        let files = visited.and_then(|()| output.finish(hooks.as_mut()));
        self.add(files.inspect_err(|error| self.note_failed_hook(error))?, source.tables()?, Some(checkpoint))?;
        self.note_migrated(hooks.as_ref());
        self.note_reclaimed(left_out);
        Ok(())
    }

    fn horizon(&self) -> Version {
        self.catalog.lock().state.horizon
    }

    fn set_horizon(&self, horizon: Version) -> Result<()> {
        let mut catalog = self.catalog.lock();
        if horizon <= catalog.state.horizon {
            return Ok(());
        }
        self.commit(&mut catalog, Edit { horizon: Some(horizon), ..Edit::default() })
    }

    fn set_retention(&self, source: Arc<dyn RetentionSource>) {
        *self.retention.write() = Some(source);
    }

    fn step(&self) -> Result<bool> {
        self.step_rewrite()
    }

    fn pause_reclaim(&self, is_paused: bool) {
        self.is_reclaim_paused.store(is_paused, Ordering::Relaxed);
    }

    fn reclaimed(&self) -> Vec<(EntryKind, Amount)> {
        self.reclaimed.lock().iter().map(|(table, amount)| (*table, *amount)).collect()
    }

    fn reclaim_all(&self) {
        // Files that appear in between are newer, and may be asked for without need.
        let version = self.view.load().segments().map(|segment| segment.meta.version_max).max().unwrap_or_default();
        // A number of its own, so that no two are alike.
        let number = self.maker.next_number.fetch_add(1, Ordering::Relaxed);
        *self.asked.lock() = Some(Asked { number, version, deletions_below: None });
    }

    fn is_reclaiming_all(&self) -> bool {
        self.asked.lock().is_some()
    }

    fn pressure(&self) -> Pressure {
        let flushes = self.view.load().flushes();
        let slow = self.options.level0_flushes_slow;
        let why = || format!("level 0 has the files of {flushes} flushes, and {slow} are many");
        match flushes {
            flushes if flushes >= 2 * slow => Pressure::Stop { why: why() },
            flushes if flushes >= slow => Pressure::Slow { why: why() },
            _ => Pressure::None,
        }
    }

    fn compact(&self, table: EntryKind, range: &KeyRange, wake: &dyn Fn()) -> Result<()> {
        self.rewrite_target(Target::Range(table, range.clone()), wake).map(drop)
    }

    fn files(&self) -> Vec<TierFile> {
        self.view.load().segments().map(|segment| TierFile::clone(segment.listed())).collect()
    }

    fn counters(&self) -> FileCounters {
        let catalog = self.catalog.lock();
        let manifest = catalog.manifest.as_ref().map_or(0, Manifest::written_bytes);
        FileCounters {
            written_bytes: self.written_bytes.load(Ordering::Relaxed) + manifest,
            rewritten_bytes: self.compacted_bytes.load(Ordering::Relaxed),
            flushed_total_bytes: catalog.state.flushed_bytes,
            rewritten_total_bytes: catalog.state.rewritten_bytes,
            blocks_read: self.cache.misses(),
            cached_bytes: self.cache.used_bytes(),
        }
    }

    fn migrating(&self) -> Option<&dyn MigratingTier> {
        self.migration.is_some().then_some(self)
    }

    fn verify(&self) -> Result<VerifiedFiles> {
        let view = self.view.load_full();
        let mut verified = match &self.catalog.lock().manifest {
            Some(manifest) => {
                let (files, bytes) = manifest.verify()?;
                VerifiedFiles { files, bytes, entries: 0 }
            }
            None => VerifiedFiles::default(),
        };
        for segment in view.segments() {
            verified.files += 1;
            verified.bytes += segment.meta.size_bytes;
            verified.entries += segment.verify()?;
            verify_rows(segment)?;
        }
        Ok(verified)
    }
}
