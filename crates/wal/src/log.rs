//! The log's handle: what can be asked of it.

use std::fmt;
use std::sync::Arc;
use thermocline_io::sync::atomic::{AtomicU64, Ordering};

use thermocline_format::StoreId;
use thermocline_tier::{Error, Result, Version};

use crate::append::Shared;
use crate::entry::{Genesis, LogEntry};
use crate::layout::{RECORD_HEADER_SIZE, RecordKind};
use crate::options::Durability;
use crate::prepare::Step;
use crate::reader::LogReader;
use crate::report::{LogStats, VerifyReport};

/// The commit log of a store.
///
/// Appending is for one thread at a time (others wait); reading and the background steps may run beside it. A log that is dropped
/// without [`close`](Log::close) is in the state of a crash: commits that are only in memory are lost.
///
/// ```
/// use std::sync::Arc;
/// use thermocline_io::{MemoryDisk, RealClock, SeededRandomness};
/// use thermocline_tier::{BatchBuilder, EntryKind, Version, WholeKey};
/// use thermocline_wal::{Durability, Log, LogEntry, LogOptions, OpenLog, Replayed};
///
/// let disk = Arc::new(MemoryDisk::new());
/// let (randomness, clock) = (SeededRandomness::new(1), RealClock::new());
/// let request = || OpenLog {
///     disk: disk.clone(),
///     randomness: &randomness,
///     clock: &clock,
///     options: LogOptions::default(),
///     layout: &WholeKey,
///     is_read_only: false,
///     store: None,
///     base: None,
/// };
/// let (log, _) = Log::open(request(), &mut |_| Ok(()))?;
/// let mut batch = BatchBuilder::new();
/// batch.put(EntryKind::Multi, b"k", b"v")?;
/// let batch = batch.finish(&WholeKey, Version(1));
/// log.append(&[LogEntry::Commit { time: 0, batch: &batch, clears: &[] }], Durability::Sync)?;
/// log.close()?;
///
/// let mut versions = vec![];
/// let (_log, report) = Log::open(request(), &mut |record| {
///     if let Replayed::Commit(commit) = record {
///         versions.push(commit.version);
///     }
///     Ok(())
/// })?;
/// assert_eq!((versions, report.was_clean_close), (vec![Version(1)], true));
/// # Ok::<(), thermocline_tier::Error>(())
/// ```
pub struct Log {
    pub(crate) shared: Arc<Shared>,
}

impl Log {
    /// Appends one group: after a crash either all of its records are there or none. All groups so far are at least as durable as
    /// `durability` says when this returns; with no entries nothing else happens. One write, and one sync if asked for.
    ///
    /// # Errors
    /// Nothing was appended: [`VersionNotIncreasing`](thermocline_tier::ErrorKind::VersionNotIncreasing),
    /// [`VersionExhausted`](thermocline_tier::ErrorKind::VersionExhausted),
    /// [`LimitExceeded`](thermocline_tier::ErrorKind::LimitExceeded), [`DiskFull`](thermocline_tier::ErrorKind::DiskFull),
    /// [`Io`](thermocline_tier::ErrorKind::Io), [`Poisoned`](thermocline_tier::ErrorKind::Poisoned),
    /// [`Closed`](thermocline_tier::ErrorKind::Closed), [`Unsupported`](thermocline_tier::ErrorKind::Unsupported) if opened for reading.
    /// [`CommitUnknown`](thermocline_tier::ErrorKind::CommitUnknown) with the group's last version: it was written, the sync failed, and the log is
    /// poisoned.
    pub fn append(&self, entries: &[LogEntry<'_>], durability: Durability) -> Result<()> {
        let shared = &*self.shared;
        let mut writer = shared.writer()?.lock();
        shared.check_usable()?;
        if !entries.is_empty() {
            shared.append_group(&mut writer, entries, durability)?;
        }
        if durability == Durability::Sync { shared.sync(&mut writer) } else { Ok(()) }
    }

    /// Makes all that was appended durable. Costs nothing if it is already.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn sync(&self) -> Result<()> {
        self.append(&[], Durability::Sync)
    }

    /// Makes everything durable and marks the log as cleanly closed, so that the next open knows that nothing is missing. The space that
    /// was filled ahead, in this segment and for the next one, is given back. Later appends fail with
    /// [`Closed`](thermocline_tier::ErrorKind::Closed). Closing twice is not an error.
    ///
    /// # Errors
    /// As [`append`](Self::append); the log is closed all the same.
    pub fn close(&self) -> Result<()> {
        let shared = &*self.shared;
        let Some(writer) = &shared.writer else { return Ok(()) };
        let mut writer = writer.lock();
        if shared.is_closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        shared.check_poison()?;
        shared.make_room(&mut writer, RECORD_HEADER_SIZE)?;
        shared.sync(&mut writer)?;
        shared.mark(&mut writer, RecordKind::Close)?;
        shared.sync_file(&mut writer)?;
        shared.release(&writer);
        Ok(())
    }

    /// Does one bounded piece of the work that may wait: preparing the next segment, and noting in the log what has become durable once
    /// no append has come since the last call. Returns whether there was anything to do.
    ///
    /// # Errors
    /// [`DiskFull`](thermocline_tier::ErrorKind::DiskFull) and [`Io`](thermocline_tier::ErrorKind::Io): nothing is
    /// lost, appends do without. [`Poisoned`](thermocline_tier::ErrorKind::Poisoned).
    pub fn background_step(&self) -> Result<bool> {
        Ok(self.prepare_step()? || self.witness_step()?)
    }

    /// Does one bounded piece of work towards the next segment: makes its file, writes up to 1 MiB of zeros, or syncs them. Returns
    /// whether there was anything to do. That begins when the segment in use is half full: a log that hardly grows keeps no other.
    ///
    /// # Errors
    /// As [`background_step`](Self::background_step).
    pub fn prepare_step(&self) -> Result<bool> {
        let shared = &*self.shared;
        let is_idle = shared.writer.is_none() || !shared.is_filling();
        if is_idle || shared.is_closed.load(Ordering::Acquire) || shared.is_next_ready.load(Ordering::Acquire) {
            return Ok(false);
        }
        shared.check_poison()?;
        if !shared.is_half_full() {
            return Ok(false);
        }
        let mut preparer = shared.preparer.lock();
        match preparer.step(shared.options.segment_size_bytes).map_err(|error| shared.make_error(error))? {
            Step::Unfinished => Ok(true),
            Step::Ready => {
                // Under the lock: whoever takes the file takes the flag back.
                shared.is_next_ready.store(true, Ordering::Release);
                Ok(false)
            }
        }
    }

    /// Writes a record that says how far the log is durable, if none says so yet and nothing was appended since the last call. It is not
    /// synced: the next sync, or the system, carries it. Returns whether there was anything to do.
    ///
    /// # Errors
    /// As [`background_step`](Self::background_step).
    pub fn witness_step(&self) -> Result<bool> {
        let shared = &*self.shared;
        let Some(writer) = &shared.writer else { return Ok(false) };
        // Whoever appends is not idle, and must not be kept waiting.
        let Some(mut writer) = writer.try_lock() else { return Ok(false) };
        if shared.is_closed.load(Ordering::Acquire) {
            return Ok(false);
        }
        shared.check_poison()?;
        let sequence = writer.encoder.next().sequence;
        let rests = std::mem::replace(&mut writer.seen_sequence, sequence) == sequence;
        let active = &writer.active;
        let is_known = active.witnessed >= active.synced || active.is_dirty || active.is_sealed;
        if !rests || is_known || !writer.encoder.staged().is_empty() {
            return Ok(false);
        }
        shared.mark(&mut writer, RecordKind::Witness)?;
        writer.seen_sequence = writer.encoder.next().sequence;
        Ok(true)
    }

    /// The store's identity, from the segments' headers.
    pub fn store_id(&self) -> StoreId {
        self.shared.store
    }

    /// What the first record of the log says.
    pub fn genesis(&self) -> &Genesis {
        &self.shared.genesis
    }

    /// Whether a sync has failed, after which only opening the log again helps.
    pub fn is_poisoned(&self) -> bool {
        self.shared.poison.get().is_some()
    }

    /// The failure that poisoned the log.
    pub fn poison_cause(&self) -> Option<&Error> {
        self.shared.poison.get()
    }

    /// The last version that is known to be on the device.
    pub fn durable_version(&self) -> Version {
        Version(self.shared.durable.load(Ordering::Acquire))
    }

    /// Reads the commits above `since`, in order. [`Version::ZERO`] gives all of a log that was never cut.
    ///
    /// # Errors
    /// [`VersionReclaimed`](thermocline_tier::ErrorKind::VersionReclaimed) if commits above `since` were cut off, with the oldest `since` that
    /// is possible as its horizon; [`Io`](thermocline_tier::ErrorKind::Io).
    pub fn reader(&self, since: Version) -> Result<LogReader> {
        LogReader::new(Arc::clone(&self.shared), since)
    }

    /// How many bytes of the log hold the commits above `since`, 0 if there are none; counted from a place up to 64 KiB before them, or more
    /// if a group is longer: what a reader has ahead of it, and what [`base`](Self::base) must be told for them to stay.
    pub fn bytes_above(&self, since: Version) -> u64 {
        self.shared.index.read().bytes_above(since)
    }

    /// Reads every byte of the log and checks it, up to the last group that was written when it began.
    ///
    /// # Errors
    /// [`Corruption`](thermocline_tier::ErrorKind::Corruption) naming the first damaged place; [`Io`](thermocline_tier::ErrorKind::Io).
    pub fn verify(&self) -> Result<VerifyReport> {
        self.shared.write_out()?;
        crate::verify::verify_open(&self.shared)
    }

    /// What the log holds and has done.
    pub fn stats(&self) -> LogStats {
        let shared = &*self.shared;
        let counters = &shared.counters;
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (segments, size_bytes, last_version) = {
            let index = shared.index.read();
            let size = index.segments().iter().map(|segment| segment.end.offset).sum();
            (crate::to_u64(index.segments().len()), size, index.last())
        };
        LogStats {
            segments,
            size_bytes,
            last_version,
            durable_version: self.durable_version(),
            groups: load(&counters.groups),
            writes: load(&counters.writes),
            written_bytes: load(&counters.written_bytes),
            syncs: load(&counters.syncs),
            rotations: load(&counters.rotations),
            filled_bytes: load(&counters.filled_bytes),
        }
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.fmt(f)
    }
}
