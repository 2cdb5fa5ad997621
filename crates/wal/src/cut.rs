//! Cutting the log: what a durable tier has taken over need not be kept twice.
//!
//! The caller, who alone knows what is taken over, goes through three steps: it notes durably where the log begins from now on (a
//! [`LogBase`]), cuts, and opens the log with that base ever after. The log makes two promises for it. A base names a segment whose
//! header is durable, and such a segment is never replaced by another; and everything from there on is there, or opening fails. So
//! segments before the base are leftovers whatever they hold, and a cut may be interrupted anywhere.

use thermocline_io::{DiskErrorKind, FileId, Reason};
use thermocline_tier::{ErrorKind, Result};

use crate::entry::LogBase;
use crate::error::disk_error;
use crate::log::Log;

impl Log {
    /// Goes on in a fresh segment; all others are durable when this returns. Does nothing if the segment in use holds no record.
    ///
    /// # Errors
    /// As [`append`](Self::append). After [`DiskFull`](ErrorKind::DiskFull) and [`Io`](ErrorKind::Io) nothing is lost, and the log goes on
    /// where it can.
    pub fn rotate(&self) -> Result<()> {
        let shared = &*self.shared;
        let mut writer = shared.writer()?.lock();
        shared.check_usable()?;
        shared.move_on(&mut writer)
    }

    /// The latest place where the log may begin so that, without the segment in use, at least `keep_bytes` of it are left: 0 names the
    /// segment in use, [`u64::MAX`] the first one there is. Whether what lies before is needed is for the caller to see, by
    /// [`LogBase::after`].
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use thermocline_io::{MemoryDisk, RealClock, SeededRandomness};
    /// # use thermocline_tier::{BatchBuilder, EntryKind, ErrorKind, Version, WholeKey};
    /// # use thermocline_wal::{Durability, Log, LogBase, LogEntry, LogOptions, OpenLog};
    /// # let disk = Arc::new(MemoryDisk::new());
    /// # let (randomness, clock) = (&SeededRandomness::new(1), &RealClock::new());
    /// # let open = |base: Option<LogBase>| {
    /// #     let options = LogOptions::default();
    /// #     let disk = disk.clone();
    /// #     let request = OpenLog { disk, randomness, clock, options, layout: &WholeKey, is_read_only: false, store: None, base };
    /// #     Log::open(request, &mut |_| Ok(())).map(|(log, _)| log)
    /// # };
    /// # let log = open(None)?;
    /// # let mut batch = BatchBuilder::new();
    /// # batch.put(EntryKind::Multi, b"k", b"v")?;
    /// # let batch = batch.finish(&WholeKey, Version(1));
    /// # log.append(&[LogEntry::Commit { time: 0, batch: &batch, clears: &[] }], Durability::Sync)?;
    /// // Version 1 is on its way to another place. When it has arrived there:
    /// log.rotate()?;
    /// let base = log.base(0);
    /// assert_eq!(base.after, Version(1));
    /// // Here the caller writes the base to where it will find it again, and makes that durable.
    /// assert_eq!(log.cut(&base)?, 1);
    /// assert!(matches!(log.reader(Version::ZERO).unwrap_err().kind(), ErrorKind::VersionReclaimed { .. }));
    ///
    /// log.close()?;
    /// assert!(open(None).is_err(), "without the base, the log is one of which the beginning is missing");
    /// assert!(open(Some(base)).is_ok());
    /// # Ok::<(), thermocline_tier::Error>(())
    /// ```
    pub fn base(&self, keep_bytes: u64) -> LogBase {
        let index = self.shared.index.read();
        // A log has a segment at all times.
        let (number, after) = index.keeping(keep_bytes).unwrap_or((0, index.before()));
        LogBase { number, after, genesis: self.shared.genesis.clone() }
    }

    /// Removes the segments before `base`, which [`base`](Self::base) gave and the caller keeps durably by now, and returns how many.
    /// Nothing happens to those that are cut off already, so this may be repeated, and an older base is no error. Readers go on to the
    /// end of the segment that they have open.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for a base that this log did not give. [`Io`](ErrorKind::Io) if a file could not be
    /// removed: the log is cut all the same, and the next call tries again, as does the next open.
    /// [`Poisoned`](ErrorKind::Poisoned), [`Closed`](ErrorKind::Closed), [`Unsupported`](ErrorKind::Unsupported) if opened for reading.
    pub fn cut(&self, base: &LogBase) -> Result<u64> {
        let shared = &*self.shared;
        shared.writer()?;
        shared.check_usable()?;
        let mut cut_off = shared.cut_off.lock();
        {
            let mut index = shared.index.write();
            let first = index.segments().first().map_or(0, |first| first.header.number);
            if base.number >= first {
                if index.before_segment(base.number) != Some(base.after) || base.genesis != shared.genesis {
                    let what = format!("segment {} behind version {} is no base of this log", base.number, base.after);
                    return Err(ErrorKind::InvalidArgument { what }.into());
                }
                cut_off.extend(index.remove_before(base.number));
            }
        }
        let (mut removed, mut failure) = (0, None);
        cut_off.retain(|&number| match shared.disk.remove(FileId::Wal(number), Reason::WalRemove) {
            Ok(()) => {
                removed += 1;
                false
            }
            Err(error) if error.kind() == DiskErrorKind::NotFound => false,
            Err(error) => {
                failure.get_or_insert(error);
                true
            }
        });
        failure.map_or(Ok(removed), |error| Err(disk_error(error)))
    }
}
