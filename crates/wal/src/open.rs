//! Opening a log: finding what is there, replaying it, and beginning a fresh segment.
//!
//! Nothing old is trusted to be durable because it can be read: after a failed sync the system may show bytes that the device never
//! got. So what no record proves to be durable is written again, into a new segment, before anything else happens.

use std::fmt;
use std::sync::Arc;

use thermocline_format::{Purpose, StoreId};
use thermocline_io::{Clock, Disk, FileId, Randomness, Reason};
use thermocline_tier::{Error, ErrorKind, KeyLayout, Result, Version};

use crate::append::Shared;
use crate::carry::{Begun, Carry};
use crate::chain::{Chain, Directory, Known, Link, identify, inspect, open_segment, refusal};
use crate::decision::{Evidence, Verdict, judge};
use crate::encoder::{Encoder, Span};
use crate::entry::{Genesis, LogBase, Replayed};
use crate::error::{corruption, disk_error, sync_error};
use crate::index::Index;
use crate::layout::{Position, RECORD_HEADER_LEN, RecordHeader, SEGMENT_HEADER_SIZE, SegmentHeader};
use crate::log::Log;
use crate::options::LogOptions;
use crate::payload::LAYOUT_NAME_SIZE_BYTES_MAX;
use crate::prepare::{MakeError, Preparer};
use crate::replay::{Decoder, Sink};
use crate::report::RecoveryReport;
use crate::to_u64;

/// What is needed to open a log.
///
/// ```
/// use std::sync::Arc;
/// use thermocline_io::{MemoryDisk, RealClock, RealRandomness};
/// use thermocline_tier::{ErrorKind, WholeKey};
/// use thermocline_wal::{Log, LogOptions, OpenLog};
///
/// let request = OpenLog {
///     disk: Arc::new(MemoryDisk::new()),
///     randomness: &RealRandomness,
///     clock: &RealClock::new(),
///     options: LogOptions::default(),
///     layout: &WholeKey,
///     is_read_only: true,
///     store: None,
///     base: None,
/// };
/// let error = Log::open(request, &mut |_| Ok(())).unwrap_err();
/// assert!(matches!(error.kind(), ErrorKind::NotFound { .. }));
/// ```
pub struct OpenLog<'a> {
    /// The directory. Its lock is the caller's business, and must be held.
    pub disk: Arc<dyn Disk>,
    /// Makes the identity of a new store.
    pub randomness: &'a dyn Randomness,
    /// Tells when a new store was made.
    pub clock: &'a dyn Clock,
    /// The options.
    pub options: LogOptions,
    /// The store's key layout; its name must be the one that the log was made with.
    pub layout: &'a dyn KeyLayout,
    /// Nothing is written; the log must exist, and appending fails.
    pub is_read_only: bool,
    /// The store's identity: a new log gets it, an existing one must have it. `None`: a new log gets a random one, an existing one
    /// may have any.
    pub store: Option<StoreId>,
    /// Where the log begins, as the caller kept it before it cut: the log must exist and reach back to there. Segments from before are
    /// what an interrupted [`cut`](Log::cut) left; they are removed unread, unless nothing is to be written. `None`: the log must
    /// reach back to the first segment that it ever had.
    pub base: Option<LogBase>,
}

impl OpenLog<'_> {
    pub(crate) fn is_base(&self, number: u64) -> bool {
        self.base.as_ref().is_some_and(|base| base.number == number)
    }

    /// The last version before the first segment.
    fn before(&self) -> Version {
        self.base.as_ref().map_or(Version::ZERO, |base| base.after)
    }
}

impl fmt::Debug for OpenLog<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenLog")
            .field("directory", &self.disk.label())
            .field("options", &self.options)
            .field("is_read_only", &self.is_read_only)
            .field("base", &self.base)
            .finish_non_exhaustive()
    }
}

impl Log {
    /// Whether the directory holds a log. What an interrupted attempt to make one left behind does not count.
    ///
    /// # Errors
    /// As [`open`](Log::open) without a base: a log that is damaged or was cut, or foreign files under its names, are no empty
    /// directory.
    pub fn exists(disk: &dyn Disk) -> Result<bool> {
        Ok(inspect(disk, Purpose::Read, Reason::Open, Known::default())?.chain.is_some())
    }

    /// The store's identity as the newest segment says whose header can be read; `None` if there is none. Nothing else is checked.
    ///
    /// # Errors
    /// [`UnsupportedFormat`](ErrorKind::UnsupportedFormat), [`Io`](ErrorKind::Io).
    pub fn identify(disk: &dyn Disk) -> Result<Option<StoreId>> {
        identify(disk, Reason::Open)
    }

    /// Opens the log of a directory, or makes one if there is none, and hands every record of the store's history to `replay`,
    /// oldest first; with a [base](OpenLog::base), every record from there on. Everything is checked on the way. What is not
    /// certain to be durable is made so before this returns; nothing on disk changes if it fails with anything but
    /// [`DiskFull`](ErrorKind::DiskFull) or [`Io`](ErrorKind::Io), and even then nothing is lost.
    ///
    /// `replay` may have been called for some records when this fails; throw away what it built.
    ///
    /// # Errors
    /// [`Corruption`](ErrorKind::Corruption) with a [`thermocline_format::Corruption`] as its source, also if the log does not reach back
    /// to its base; [`ForeignFile`](ErrorKind::ForeignFile), also for a log of another store than the one asked for;
    /// [`UnsupportedFormat`](ErrorKind::UnsupportedFormat), [`NotFound`](ErrorKind::NotFound) if there is no log to open for reading,
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for options out of range or another key layout,
    /// [`DiskFull`](ErrorKind::DiskFull), [`Io`](ErrorKind::Io), and what `replay` fails with.
    #[expect(clippy::needless_pass_by_value, reason = "a request is made for one call")]
    pub fn open(request: OpenLog<'_>, replay: &mut dyn FnMut(Replayed<'_>) -> Result<()>) -> Result<(Self, RecoveryReport)> {
        request.options.check()?;
        let purpose = if request.is_read_only { Purpose::Read } else { Purpose::Write };
        let known = Known { store: request.store, base: request.base.as_ref().map(|base| base.number) };
        let directory = inspect(&*request.disk, purpose, Reason::WalRecover, known)?;
        let Directory { chain, leftovers, next_number } = directory;
        let preparer = Preparer::new(Arc::clone(&request.disk), next_number);
        let (shared, mut report) = match chain {
            Some(chain) => open_chain(&request, &chain, preparer, replay)?,
            None if request.is_read_only => return Err(ErrorKind::NotFound { what: "a log in this directory".into() }.into()),
            None => create(&request, preparer)?,
        };
        if !request.is_read_only {
            report.removed_files += remove(&*request.disk, &leftovers);
        }
        Ok((Self { shared: Arc::new(shared) }, report))
    }
}

/// Removes files that are not part of the log any more. One that cannot be removed is harmless: the next open finds it again.
pub(crate) fn remove(disk: &dyn Disk, numbers: &[u64]) -> u64 {
    let mut removed = 0;
    for &number in numbers {
        match disk.remove(FileId::Wal(number), Reason::WalRemove) {
            Ok(()) => removed += 1,
            Err(error) => tracing::warn!(%error, "could not remove an unused log segment"),
        }
    }
    removed
}

/// Makes the log of a new store.
fn create(request: &OpenLog<'_>, mut preparer: Preparer) -> Result<(Shared, RecoveryReport)> {
    let layout = request.layout.name();
    if layout.len() > LAYOUT_NAME_SIZE_BYTES_MAX {
        let (found, max) = (to_u64(layout.len()), to_u64(LAYOUT_NAME_SIZE_BYTES_MAX));
        return Err(ErrorKind::LimitExceeded { what: "length of the key layout's name in bytes", found, max }.into());
    }
    let store = if let Some(store) = request.store {
        store
    } else {
        let mut id = [0; 16];
        request.randomness.fill(&mut id).map_err(disk_error)?;
        StoreId(id)
    };
    let time = u64::try_from(request.clock.wall().as_micros()).unwrap_or(u64::MAX);
    let genesis = Genesis { layout, time };

    let mut blank = preparer.take().map_err(make_error)?;
    let header = SegmentHeader {
        store,
        number: blank.number,
        first_sequence: 1,
        previous: None,
        carried_end: SEGMENT_HEADER_SIZE,
        replaces: None,
        padding: request.options.padding,
    };
    Preparer::begin(&mut blank, &header).map_err(make_error)?;
    let mut encoder = Encoder::new(&header, Version::ZERO);
    encoder.genesis(&genesis, SEGMENT_HEADER_SIZE);
    let mut index = Index::new(Version::ZERO);
    index.push(header);
    let mut begun = Begun { blank, encoder, index };
    begun.settle()?;
    let shared = begun.into_shared(request, preparer, header, genesis);
    let report = RecoveryReport { is_new: true, segments: 1, ..RecoveryReport::default() };
    Ok((shared, report))
}

pub(crate) fn make_error(error: MakeError) -> Error {
    match error {
        MakeError::Disk(error) => disk_error(error),
        MakeError::Sync(failed) => sync_error(failed),
    }
}

/// Gathers what replay tells about the chain.
struct Replayer<'a> {
    replay: &'a mut dyn FnMut(Replayed<'_>) -> Result<()>,
    layout: &'a str,
    genesis: Option<Genesis>,
    index: Index,
    report: RecoveryReport,
    /// How far the segment is proven to be durable, if it is the last one.
    witnessed_through: Option<u64>,
    /// The place there.
    witnessed: Option<Position>,
    /// The last version before that place.
    version_witnessed: Version,
    /// What must be carried over.
    carried_records: u64,
    carried_bytes: u64,
}

impl Sink for Replayer<'_> {
    fn genesis(&mut self, genesis: Genesis) -> Result<()> {
        if genesis.layout != self.layout {
            let what = format!("the store was made with key layout `{}`, not `{}`", genesis.layout, self.layout);
            return Err(ErrorKind::InvalidArgument { what }.into());
        }
        self.genesis = Some(genesis);
        Ok(())
    }

    fn record(&mut self, record: Replayed<'_>, group: u64) -> Result<()> {
        let report = &mut self.report;
        report.records += 1;
        let version = match &record {
            Replayed::Commit(commit) => {
                report.commits += 1;
                report.entries += to_u64(commit.batch.len());
                Some(commit.version)
            }
            Replayed::PurgeTable { version, .. } => Some(*version),
            Replayed::EnsureTable { .. } | Replayed::Note { .. } => None,
        };
        if let Some(version) = version {
            report.last_version = version;
            self.index.note(Span { offset: group, first: version, last: version });
        }
        (self.replay)(record)
    }

    fn passed(&mut self, header: &RecordHeader, after: Position) {
        if self.witnessed.is_some() && header.kind.is_history() {
            self.carried_records += 1;
            self.carried_bytes += to_u64(RECORD_HEADER_LEN) + u64::from(header.payload_len);
        }
        if self.witnessed_through == Some(after.offset) && header.flags.ends_group {
            self.reach_witness(after);
        }
    }
}

impl<'a> Replayer<'a> {
    fn new(before: Version, layout: &'a str, replay: &'a mut dyn FnMut(Replayed<'_>) -> Result<()>) -> Self {
        Self {
            replay,
            layout,
            genesis: None,
            index: Index::new(before),
            report: RecoveryReport { last_version: before, ..RecoveryReport::default() },
            witnessed_through: None,
            witnessed: None,
            version_witnessed: before,
            carried_records: 0,
            carried_bytes: 0,
        }
    }

    fn reach_witness(&mut self, at: Position) {
        self.witnessed = Some(at);
        self.version_witnessed = self.report.last_version;
    }
}

fn open_chain(
    request: &OpenLog<'_>,
    chain: &Chain,
    preparer: Preparer,
    replay: &mut dyn FnMut(Replayed<'_>) -> Result<()>,
) -> Result<(Shared, RecoveryReport)> {
    let layout = request.layout.name();
    let mut replayer = Replayer::new(request.before(), &layout, replay);
    let (Some(first), Some((head, before))) = (chain.links.first(), chain.links.split_last()) else {
        return Err(ErrorKind::NotFound { what: "a log in this directory".into() }.into());
    };
    if let Some(base) = &request.base {
        // The record that says so may be cut off.
        replayer.genesis(base.genesis.clone())?;
    }
    let open = |link: &Link| open_segment(&*request.disk, link.header.number, Reason::WalRecover);
    let mut decoder = Decoder::new(request.before(), first.header.previous.is_some());
    let mut reached: Option<Position> = None;
    for link in before {
        check_link(link, reached)?;
        replayer.index.push(link.header);
        let end = decoder.segment(&open(link)?, &link.header, link.end, Reason::WalRecover, &mut replayer)?;
        replayer.index.set_end(end);
        reached = Some(end);
    }
    check_link(head, reached)?;
    let witnessed_through = chain.tail.evidence.witnessed_through;
    replayer.index.push(head.header);
    replayer.witnessed_through = Some(witnessed_through);
    if witnessed_through == SEGMENT_HEADER_SIZE {
        replayer.reach_witness(head.header.start());
    }
    let end = decoder.segment(&open(head)?, &head.header, head.end, Reason::WalRecover, &mut replayer)?;
    replayer.index.set_end(end);

    let Replayer { genesis, index, mut report, witnessed, version_witnessed, carried_records, carried_bytes, .. } = replayer;
    let (Some(genesis), Some(witnessed)) = (genesis, witnessed) else {
        let damage = head.damage(witnessed_through, "record synced through", "where a group ends", "within one");
        return Err(corruption(damage));
    };
    check_genesis(first, request.base.as_ref(), &genesis)?;
    report.segments = to_u64(chain.links.len());
    report.was_clean_close = chain.tail.is_closed;
    report.discarded_bytes = chain.tail.discarded_bytes;
    report.tear = chain.tail.fault.as_ref().map(ToString::to_string);
    let carry = Carry { head, witnessed, version_witnessed, bytes: carried_bytes };
    if request.is_read_only {
        let (disk, options, store) = (Arc::clone(&request.disk), request.options.clone(), head.header.store);
        return Ok((Shared::new(disk, options, store, genesis, None, preparer, index, version_witnessed), report));
    }
    report.carried_records = carried_records;
    let (shared, removed) = carry.begin_segment(request, preparer, index, genesis)?;
    report.removed_files = removed;
    Ok((shared, report))
}

/// A log that still has its first record must say there what the caller kept.
fn check_genesis(first: &Link, base: Option<&LogBase>, found: &Genesis) -> Result<()> {
    let Some(base) = base.filter(|base| base.genesis != *found) else { return Ok(()) };
    let text = |genesis: &Genesis| format!("key layout `{}`, time {}", genesis.layout, genesis.time);
    let damage = first.damage(SEGMENT_HEADER_SIZE, "genesis", &text(&base.genesis), &text(found));
    Err(corruption(damage))
}

/// A segment must continue where the one before it ended, with the chain hash that it states.
pub(crate) fn check_link(link: &Link, reached: Option<Position>) -> Result<()> {
    let (Some(previous), Some(reached)) = (link.header.previous, reached) else { return Ok(()) };
    let row = judge(&Evidence::Link {
        exists: true,
        is_as_named: previous.chain == reached.chain && link.header.first_sequence == reached.sequence,
    });
    if row.verdict() == Verdict::Keep {
        return Ok(());
    }
    let expected = format!("{:#018x}, sequence {}", reached.chain, reached.sequence);
    let found = format!("{:#018x}, sequence {}", previous.chain, link.header.first_sequence);
    Err(refusal(link.damage(88, "previous chain", &expected, &found).into(), row))
}
