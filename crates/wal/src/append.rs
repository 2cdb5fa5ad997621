//! Appending groups, making them durable, and going from segment to segment.
//!
//! Three rules make recovery possible: what is durable is never written again; a segment is durable before its successor says how long
//! it is; and nothing is written behind a write that failed.

use std::fmt;
use std::sync::Arc;
use std::sync::OnceLock;
use thermocline_io::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use thermocline_format::StoreId;
use thermocline_io::sync::{Mutex, RwLock};
use thermocline_io::{Disk, DiskFile, Reason, SyncFailed, write_all_at};
use thermocline_tier::{Error, ErrorKind, Result, Version};

use crate::encoder::Encoder;
use crate::entry::{Genesis, LogEntry};
use crate::error::{disk_error, sync_error};
use crate::index::Index;
use crate::layout::{Position, Previous, RecordKind, SEGMENT_HEADER_SIZE, SegmentHeader};
use crate::options::{Durability, LogOptions, Preallocate};
use crate::prepare::{Blank, FILL_CHUNK, MakeError, Preparer, fill};

/// What the log's handle and its readers share.
pub(crate) struct Shared {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) options: LogOptions,
    pub(crate) store: StoreId,
    pub(crate) genesis: Genesis,
    /// `None` if the log was opened for reading only.
    pub(crate) writer: Option<Mutex<Writer>>,
    /// Locked behind the writer, never before it.
    pub(crate) preparer: Mutex<Preparer>,
    pub(crate) index: RwLock<Index>,
    /// Segments that were cut off and whose files could not be removed yet. Locked before the index.
    pub(crate) cut_off: Mutex<Vec<u64>>,
    /// A next segment waits that is filled with zeros.
    pub(crate) is_next_ready: AtomicBool,
    /// In how many more segments somebody probably waits for syncs: this one and the next after each append that did.
    pub(crate) awaited_segments: AtomicU8,
    pub(crate) poison: OnceLock<Error>,
    pub(crate) is_closed: AtomicBool,
    /// The last version that is known to be durable.
    pub(crate) durable: AtomicU64,
    pub(crate) counters: Counters,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) groups: AtomicU64,
    pub(crate) writes: AtomicU64,
    pub(crate) written_bytes: AtomicU64,
    pub(crate) syncs: AtomicU64,
    pub(crate) rotations: AtomicU64,
    pub(crate) filled_bytes: AtomicU64,
}

impl Counters {
    fn add(counter: &AtomicU64, amount: u64) {
        counter.fetch_add(amount, Ordering::Relaxed);
    }
}

/// What belongs to whoever appends.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) encoder: Encoder,
    pub(crate) active: Active,
    /// The sequence at which the last step of witnessing found the log, to see whether it rests.
    pub(crate) seen_sequence: u64,
}

/// The segment that is written to.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) header: SegmentHeader,
    pub(crate) file: Arc<dyn DiskFile>,
    /// Where it must end, unless a single group is longer.
    pub(crate) limit: u64,
    /// Filled with zeros or records up to here.
    pub(crate) prepared: u64,
    /// Filling failed once; it is not tried again in this segment.
    pub(crate) is_unfillable: bool,
    /// Durable up to here.
    pub(crate) synced: u64,
    /// Records say that it is durable up to here.
    pub(crate) witnessed: u64,
    /// History records were written that are not durable.
    pub(crate) is_dirty: bool,
    /// Nothing more may be written: a write failed, or a successor may already state where it ends.
    pub(crate) is_sealed: bool,
}

impl Active {
    pub(crate) fn new(header: SegmentHeader, blank: Blank, limit: u64) -> Self {
        Self {
            header,
            file: blank.file,
            limit,
            prepared: blank.prepared,
            is_unfillable: false,
            synced: SEGMENT_HEADER_SIZE,
            witnessed: SEGMENT_HEADER_SIZE,
            is_dirty: false,
            is_sealed: false,
        }
    }
}

impl Writer {
    pub(crate) fn new(encoder: Encoder, active: Active) -> Self {
        Self { encoder, active, seen_sequence: 0 }
    }
}

impl Shared {
    #[expect(clippy::too_many_arguments, reason = "the parts of a log, gathered by opening it")]
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        options: LogOptions,
        store: StoreId,
        genesis: Genesis,
        writer: Option<Writer>,
        preparer: Preparer,
        index: Index,
        durable: Version,
    ) -> Self {
        Self {
            disk,
            options,
            store,
            genesis,
            writer: writer.map(Mutex::new),
            preparer: Mutex::new(preparer),
            index: RwLock::new(index),
            cut_off: Mutex::new(Vec::new()),
            is_next_ready: AtomicBool::new(false),
            awaited_segments: AtomicU8::new(0),
            poison: OnceLock::new(),
            is_closed: AtomicBool::new(false),
            durable: AtomicU64::new(durable.0),
            counters: Counters::default(),
        }
    }

    pub(crate) fn writer(&self) -> Result<&Mutex<Writer>> {
        self.writer
            .as_ref()
            .ok_or_else(|| ErrorKind::Unsupported { what: "writing to a log that was opened for reading".into() }.into())
    }

    pub(crate) fn check_usable(&self) -> Result<()> {
        if self.is_closed.load(Ordering::Acquire) {
            return Err(ErrorKind::Closed.into());
        }
        self.check_poison()
    }

    pub(crate) fn check_poison(&self) -> Result<()> {
        match self.poison.get() {
            None => Ok(()),
            Some(cause) => Err(Error::with_source(ErrorKind::Poisoned, cause.clone())),
        }
    }

    /// Poisons the log and keeps the first cause.
    fn poison(&self, failed: SyncFailed) -> Error {
        let error = sync_error(failed);
        if self.poison.set(error.clone()).is_ok() {
            tracing::error!(%error, "the log is read-only from now on");
        }
        error
    }

    /// What a failure to make a file means for whoever needed it.
    pub(crate) fn make_error(&self, error: MakeError) -> Error {
        match error {
            MakeError::Disk(error) => disk_error(error),
            MakeError::Sync(failed) => Error::with_source(ErrorKind::Poisoned, self.poison(failed)),
        }
    }

    pub(crate) fn append_group(&self, writer: &mut Writer, entries: &[LogEntry<'_>], durability: Durability) -> Result<()> {
        let size_max = writer.encoder.group_size_max(entries);
        if durability == Durability::Sync {
            self.awaited_segments.store(2, Ordering::Relaxed);
        }
        self.make_room(writer, size_max)?;
        let checkpoint = writer.encoder.checkpoint();
        let synced = writer.active.synced;
        if let Err(error) = writer.encoder.group(entries, durability == Durability::Sync, synced) {
            writer.encoder.roll_back(&checkpoint);
            return Err(error);
        }
        Counters::add(&self.counters.groups, 1);
        if durability == Durability::Memory && writer.encoder.staged().len() < self.options.stage_size_bytes {
            return Ok(());
        }
        self.write_stage(writer).inspect_err(|_| writer.encoder.roll_back(&checkpoint))
    }

    /// Writes what is staged. If that fails the segment is sealed where it was good, and the stage stays as it is.
    fn write_stage(&self, writer: &mut Writer) -> Result<()> {
        let Writer { encoder, active, .. } = writer;
        let (from, to) = (encoder.base().offset, encoder.next().offset);
        self.fill_ahead(active, to);
        if let Err(error) = write_all_at(&*active.file, from, encoder.staged(), Reason::WalAppend) {
            active.is_sealed = true;
            return Err(disk_error(error));
        }
        Counters::add(&self.counters.writes, 1);
        Counters::add(&self.counters.written_bytes, to - from);
        active.prepared = active.prepared.max(to);
        active.witnessed = active.synced;
        active.is_dirty = true;
        let end = encoder.next();
        let mut index = self.index.write();
        encoder.mark_written(|span| index.note(span));
        index.set_end(end);
        Ok(())
    }

    /// Whether segments are filled ahead: only where somebody waits for syncs, since it doubles what is written.
    pub(crate) fn is_filling(&self) -> bool {
        self.options.preallocate == Preallocate::Zeroed && self.awaited_segments.load(Ordering::Relaxed) > 0
    }

    /// Fills the segment with zeros beyond `needed`, unless it is already, or cannot be.
    fn fill_ahead(&self, active: &mut Active, needed: u64) {
        // A group longer than a chunk is not worth writing twice.
        let is_long = needed.saturating_sub(active.prepared) > FILL_CHUNK;
        if !self.is_filling() || active.is_unfillable || needed <= active.prepared || is_long {
            return;
        }
        let to = active.limit.min(active.prepared + FILL_CHUNK).max(needed);
        match fill(&*active.file, active.prepared, to) {
            Ok(end) => {
                Counters::add(&self.counters.filled_bytes, end - active.prepared);
                active.prepared = end;
            }
            Err(error) => {
                // Not needed for correctness. If the disk is full, the append itself will say so.
                tracing::debug!(%error, "could not fill a log segment ahead");
                active.is_unfillable = true;
            }
        }
    }

    /// Writes one record of the log's own, and pads it.
    pub(crate) fn mark(&self, writer: &mut Writer, kind: RecordKind) -> Result<()> {
        let was_dirty = writer.active.is_dirty;
        let checkpoint = writer.encoder.checkpoint();
        writer.encoder.mark(kind, writer.active.synced);
        self.write_stage(writer).inspect_err(|_| writer.encoder.roll_back(&checkpoint))?;
        // Nobody waits for such a record to become durable.
        writer.active.is_dirty = was_dirty;
        Ok(())
    }

    /// Makes everything durable.
    pub(crate) fn sync(&self, writer: &mut Writer) -> Result<()> {
        if !writer.encoder.staged().is_empty() {
            self.make_room(writer, 0)?;
            // Moving to another segment may have written it already.
            if !writer.encoder.staged().is_empty() {
                self.write_stage(writer)?;
            }
        }
        if !writer.active.is_dirty {
            return Ok(());
        }
        if writer.encoder.is_unpadded() && !writer.active.is_sealed {
            // The next record must not share a sector with what is durable from now on.
            self.mark(writer, RecordKind::Witness)?;
        }
        self.sync_file(writer)
    }

    pub(crate) fn sync_file(&self, writer: &mut Writer) -> Result<()> {
        let active = &mut writer.active;
        Counters::add(&self.counters.syncs, 1);
        match active.file.sync_data(Reason::WalSync) {
            Ok(()) => {
                active.synced = writer.encoder.base().offset;
                active.is_dirty = false;
                self.durable.store(self.index.read().last().0, Ordering::Release);
                Ok(())
            }
            Err(failed) => {
                let version = writer.encoder.last_version();
                Err(Error::with_source(ErrorKind::CommitUnknown { version }, self.poison(failed)))
            }
        }
    }

    /// Goes on in another segment if `needed` more bytes do not fit, or if this one can take no more.
    pub(crate) fn make_room(&self, writer: &mut Writer, needed: u64) -> Result<()> {
        let end = writer.encoder.next().offset;
        let needed_end = end.saturating_add(needed);
        let active = &mut writer.active;
        let is_empty = end == SEGMENT_HEADER_SIZE;
        if !active.is_sealed && needed_end > active.limit && is_empty {
            active.limit = needed_end;
        }
        // Rather than filling this segment here and now, go on in the one that is filled already.
        let is_better_next = needed_end > active.prepared && !is_empty && self.is_next_ready.load(Ordering::Acquire);
        if active.is_sealed || needed_end > active.limit || is_better_next {
            self.rotate(writer, needed)?;
        }
        Ok(())
    }

    /// Goes on in another segment, unless this one holds no record, and gives back the space that this one was filled with ahead.
    pub(crate) fn move_on(&self, writer: &mut Writer) -> Result<()> {
        if writer.encoder.next().offset == SEGMENT_HEADER_SIZE {
            return Ok(());
        }
        // Padded, so that this segment can go on if there is no room for another.
        self.sync(writer)?;
        let old = self.rotate(writer, 0)?;
        if let Some(previous) = writer.active.header.previous {
            give_back(&old, previous.length);
        }
        Ok(())
    }

    /// Begins the next segment. The old one is durable, and never written again, before the new one's header says how long it is; the
    /// new header is durable before the first record follows it. Returns the old one.
    fn rotate(&self, writer: &mut Writer, needed: u64) -> Result<Active> {
        if !writer.active.is_sealed && !writer.encoder.staged().is_empty() {
            self.write_stage(writer)?;
        }
        // Not only if it is dirty: the new header names the end of the last record, also if nobody waits for that one.
        if writer.active.synced < writer.encoder.base().offset {
            self.sync_file(writer).map_err(|error| Error::with_source(ErrorKind::Poisoned, error))?;
        }
        let Position { offset: length, sequence, chain } = writer.encoder.base();
        let mut preparer = self.preparer.lock();
        self.is_next_ready.store(false, Ordering::Release);
        // If there is no room for another segment, this one goes on taking what fits, unless that would touch a sector that is durable.
        writer.active.is_sealed |= writer.encoder.is_unpadded();
        let mut blank = preparer.take().map_err(|error| self.make_error(error))?;
        writer.active.is_sealed = true;
        let header = SegmentHeader {
            store: self.store,
            number: blank.number,
            first_sequence: sequence,
            previous: Some(Previous { number: writer.active.header.number, length, chain }),
            carried_end: SEGMENT_HEADER_SIZE,
            replaces: None,
            padding: self.options.padding,
        };
        if let Err(error) = Preparer::begin(&mut blank, &header) {
            preparer.discard(blank.number);
            return Err(self.make_error(error));
        }
        Counters::add(&self.counters.syncs, 1);
        drop(preparer);
        writer.encoder.move_to(&header);
        let limit = self.options.segment_size_bytes.max(writer.encoder.next().offset.saturating_add(needed));
        let old = std::mem::replace(&mut writer.active, Active::new(header, blank, limit));
        self.index.write().push(header);
        Counters::add(&self.counters.rotations, 1);
        let awaited = self.awaited_segments.load(Ordering::Relaxed);
        self.awaited_segments.store(awaited.saturating_sub(1), Ordering::Relaxed);
        Ok(old)
    }

    /// The segment in use is so far written that it is time to prepare the next one.
    pub(crate) fn is_half_full(&self) -> bool {
        let end = self.index.read().segments().last().map_or(0, |newest| newest.end.offset);
        end.saturating_sub(SEGMENT_HEADER_SIZE) >= (self.options.segment_size_bytes - SEGMENT_HEADER_SIZE) / 2
    }

    /// Gives back the space that was filled with zeros and is not needed any more. Nothing depends on it.
    pub(crate) fn release(&self, writer: &Writer) {
        give_back(&writer.active, writer.encoder.base().offset);
        self.preparer.lock().discard_ahead();
    }

    /// Hands what is only in memory to the operating system, so that the files hold every commit.
    pub(crate) fn write_out(&self) -> Result<()> {
        let Some(writer) = &self.writer else { return Ok(()) };
        let mut writer = writer.lock();
        if writer.encoder.staged().is_empty() {
            return Ok(());
        }
        self.check_poison()?;
        self.make_room(&mut writer, 0)?;
        if writer.encoder.staged().is_empty() { Ok(()) } else { self.write_stage(&mut writer) }
    }
}

/// Cuts off the zeros that a segment was filled with behind its end. Nothing depends on it. The sector that holds the last record stays
/// whole: to cut a file within a sector is to write that sector again.
fn give_back(segment: &Active, end: u64) {
    let end = segment.header.padding.round_up(end);
    if segment.prepared > end
        && let Err(error) = segment.file.set_len(end, Reason::WalPrepare)
    {
        tracing::warn!(%error, "could not give back the unused end of a log segment");
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("directory", &self.disk.label())
            .field("store", &self.store)
            .field("last_version", &self.index.read().last())
            .field("durable_version", &Version(self.durable.load(Ordering::Acquire)))
            .field("poison", &self.poison.get())
            .finish_non_exhaustive()
    }
}
