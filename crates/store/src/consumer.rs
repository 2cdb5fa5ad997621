//! Consumers of the changes that have names: they go on where they were, and may hold back what they have not seen.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use thermocline_drop::{Authority, Change as Retained, ConsumerState, Holding, Scope, encode};
use thermocline_io::sync::atomic::{AtomicUsize, Ordering, fence};
use thermocline_io::sync::{Condvar, Mutex};
use thermocline_migration::check_not_in_hook;
use thermocline_tier::{Error, ErrorKind, KeyRef, Lookup, Result, Version};
use thermocline_wal::{Change, Commit, Durability, LogEntry, LogReader};

use crate::reclaim::Reader;
use crate::snapshot::Snapshot;
use crate::store::{Core, Inner, Store};

/// What a consumer wants. A consumer that is there already keeps its position; all else is as these options say.
///
/// ```
/// use thermocline_store::{ConsumerOptions, Holding, Scope};
/// use thermocline_tier::EntryKind;
///
/// let options = ConsumerOptions {
///     scope: Scope::Table(EntryKind::source(7)),
///     holding: Holding::Overtake(1 << 30),
///     ..ConsumerOptions::default()
/// };
/// assert_eq!(options.batch_bytes, 4 << 20);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerOptions {
    /// Where a new consumer begins: it gets the commits above this version. `None`, the default, is the last commit there is. One that wants
    /// [previous values](Self::with_previous) cannot begin below the horizon of a table that it is about: if it is about all, not below
    /// that of any, such as those of operators that [keep the latest only](Store::set_retention).
    pub since: Option<Version>,
    /// Of which keys it gets the changes. Default: all of all tables.
    pub scope: Scope,
    /// What it holds back for as long as it exists, open or not. Default: [`Holding::All`], so that it misses nothing.
    pub holding: Holding,
    /// Whether it gets, beside each change, the value that was there before, which counts toward the size of a
    /// batch. For consumers that hold back something. Default: no.
    pub with_previous: bool,
    /// A batch ends with the first commit that brings it to so many bytes of keys and values, at least 1; those that the consumer is not
    /// about count too, so that a batch may be empty. Default: 4 MiB.
    pub batch_bytes: usize,
}

impl Default for ConsumerOptions {
    fn default() -> Self {
        Self { since: None, scope: Scope::All, holding: Holding::All, with_previous: false, batch_bytes: 4 << 20 }
    }
}

/// The next commits of a consumer.
///
/// ```
/// let batch = thermocline_store::ChangeBatch::default();
/// assert!(batch.commits.is_empty() && batch.previous.is_empty());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangeBatch {
    /// In order; of each, what the consumer is about. Commits of which that is nothing are left out.
    pub commits: Vec<Commit>,
    /// For each commit and each of its changes what was there before: `None` if nothing was, or the table was purged since. Empty unless
    /// it was asked for.
    pub previous: Vec<Vec<Option<Bytes>>>,
    /// With this batch the consumer has every commit up to here: what to [checkpoint](Consumer::checkpoint).
    pub up_to: Version,
}

/// What a store says about a consumer.
///
/// ```
/// # let store = thermocline::Store::in_memory()?;
/// let _view = store.consumer("view", Default::default())?;
/// let consumers = store.consumers();
/// assert_eq!((consumers[0].name.as_str(), consumers[0].backlog_bytes, consumers[0].is_open), ("view", 0, true));
/// # Ok::<(), thermocline_tier::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerInfo {
    /// Its name.
    pub name: String,
    /// Where it is, and what it holds.
    pub state: ConsumerState,
    /// How many bytes of the log lie ahead of its position, up to 64 KiB too many; 0 if there is no commit above it.
    pub backlog_bytes: u64,
    /// Whether somebody has it open.
    pub is_open: bool,
}

/// A consumer of the changes, from [`Store::consumer`]. Its position is kept by the store: what was [checkpointed](Self::checkpoint) is not
/// given again, also after a restart; what was not, is. Dropping it closes it, and leaves it where it is.
///
/// It gets commits as soon as readers see them, which for others than [`Sync`](Durability::Sync) is before they are on disk: a power cut may take
/// back what it was given, and its place with that. What it has made of them elsewhere must then be made anew.
///
/// It keeps the store open, and holds no lock.
///
/// ```
/// # let store = thermocline::Store::in_memory()?;
/// use std::time::Duration;
/// use thermocline_store::Batch;
/// use thermocline_tier::EntryKind;
///
/// let mut view = store.consumer("view", Default::default())?;
/// let mut batch = Batch::new();
/// batch.put(EntryKind::Multi, b"k", b"v");
/// store.commit(batch)?;
///
/// let changes = view.wait(Duration::from_secs(1))?;
/// assert_eq!(changes.commits[0].changes[0].value.as_deref(), Some(b"v".as_slice()));
/// view.checkpoint(changes.up_to)?;
/// assert!(view.poll()?.commits.is_empty());
/// # Ok::<(), thermocline_tier::Error>(())
/// ```
pub struct Consumer {
    claim: Claim,
    options: ConsumerOptions,
    /// `None` before the first read, and after one that failed.
    reader: Option<LogReader>,
    /// What was given out.
    delivered: Version,
}

/// Names of consumers that somebody has open, and who waits for commits.
#[derive(Debug, Default)]
pub(crate) struct Consumers {
    open: Mutex<Vec<String>>,
    waiting: AtomicUsize,
    turn: Mutex<()>,
    published: Condvar,
}

impl Consumers {
    /// Wakes those who wait for commits. To be called when one has been published.
    #[inline]
    pub(crate) fn wake(&self) {
        // Either this sees who waits, or that one sees what was published.
        fence(Ordering::SeqCst);
        if self.waiting.load(Ordering::Relaxed) > 0 {
            drop(self.turn.lock());
            self.published.notify_all();
        }
    }

    /// Waits until there is a commit above `seen`, for `duration` at most; whether there is.
    pub(crate) fn wait_above(&self, core: &Core, seen: Version, duration: Duration) -> bool {
        let mut turn = self.turn.lock();
        self.waiting.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let is_quiet = |(): &mut ()| core.latest() <= seen && core.check_open().is_ok();
        let waited = self.published.wait_while_for(&mut turn, is_quiet, duration);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        !waited.timed_out()
    }
}

impl Consumer {
    fn open(inner: &Arc<Inner>, name: &str, options: ConsumerOptions) -> Result<Self> {
        inner.check_open()?;
        if options.batch_bytes == 0 {
            return Err(ErrorKind::InvalidArgument { what: format!("consumer {name:?} with batches of 0 bytes") }.into());
        }
        if options.with_previous && options.holding == Holding::Nothing {
            let what = format!("consumer {name:?} asks for previous values, which it does not hold back");
            return Err(ErrorKind::InvalidArgument { what }.into());
        }
        let claim = Claim::new(inner, name)?;
        let delivered = inner.set_up(name, &options)?;
        Ok(Self { claim, options, reader: None, delivered })
    }

    fn core(&self) -> &Core {
        &self.claim.inner
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.claim.name
    }

    /// It has given out every commit up to here.
    pub fn delivered(&self) -> Version {
        self.delivered
    }

    /// What the store knows of it: its checkpoint among others.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if it was removed.
    pub fn state(&self) -> Result<ConsumerState> {
        self.core().reclaim.read().consumer(self.name()).cloned()
    }

    /// The next commits, without waiting; none if the consumer has them all. After an error it is where it was, and may be asked again.
    ///
    /// # Errors
    /// [`Overtaken`](ErrorKind::Overtaken) if it was left behind: go on with [`resynchronize`](Self::resynchronize);
    /// [`NotFound`](ErrorKind::NotFound) if it was removed; [`Closed`](ErrorKind::Closed), or what reading the log fails with.
    pub fn poll(&mut self) -> Result<ChangeBatch> {
        self.next_batch().map(|(batch, _)| batch)
    }

    /// The next batch, and how many bytes of commits it has passed.
    fn next_batch(&mut self) -> Result<(ChangeBatch, usize)> {
        let mut batch = ChangeBatch { up_to: self.delivered, ..ChangeBatch::default() };
        let mut bytes = 0;
        let read = self.read(&mut batch, &mut bytes);
        if read.is_err() {
            self.reader = None;
        }
        // What was read before a failure is good.
        if batch.up_to == self.delivered {
            read?;
        }
        if self.options.with_previous {
            self.add_previous(&mut batch).inspect_err(|_| self.reader = None)?;
        }
        self.delivered = batch.up_to;
        Ok((batch, bytes))
    }

    /// Adds what was there before each change, and ends the batch earlier where that makes it too large.
    fn add_previous(&mut self, batch: &mut ChangeBatch) -> Result<()> {
        let (mut bytes, mut is_cut) = (0, false);
        for (number, commit) in batch.commits.iter().enumerate() {
            let previous = self.core().find_previous(commit)?;
            bytes += size_bytes(commit) + previous.iter().flatten().map(Bytes::len).sum::<usize>();
            if number > 0 && bytes > self.options.batch_bytes {
                // It is read again for the next batch.
                (self.reader, is_cut) = (None, true);
                batch.commits.truncate(number);
                break;
            }
            batch.previous.push(previous);
        }
        if let (true, Some(last)) = (is_cut, batch.commits.last()) {
            batch.up_to = last.version;
        }
        Ok(())
    }

    /// Reads on behind what was given out.
    fn read(&mut self, batch: &mut ChangeBatch, bytes: &mut usize) -> Result<()> {
        let core: &Core = &self.claim.inner;
        core.check_open()?;
        let state = core.reclaim.read().consumer(&self.claim.name).cloned()?;
        if state.is_overtaken && self.delivered <= state.position {
            return Err(core.overtaken(self.delivered));
        }
        let reader = match &mut self.reader {
            Some(reader) => reader,
            none => none.insert(core.changes_above(self.delivered)?),
        };
        let latest = core.latest();
        while *bytes < self.options.batch_bytes {
            let next = reader.next_commit(latest).map_err(|error| core.as_overtaken(error, batch.up_to))?;
            let Some(mut commit) = next else { break };
            batch.up_to = commit.version;
            *bytes += size_bytes(&commit);
            if keep_scope(&mut commit, &self.options.scope) {
                batch.commits.push(commit);
            }
        }
        Ok(())
    }

    /// The next commits, as soon as there are some. None if there are none for so long, or if so many commits have passed that the consumer is
    /// not about that they make a batch, or half of how far it may be behind: a checkpoint of [`up_to`](ChangeBatch::up_to) says that
    /// it is not.
    ///
    /// # Errors
    /// As [`poll`](Self::poll).
    pub fn wait(&mut self, at_most: Duration) -> Result<ChangeBatch> {
        check_not_in_hook("a wait for commits")?;
        let begun = self.core().clock.now();
        let (mut left, mut passed) = (at_most, 0);
        loop {
            let (batch, bytes) = self.next_batch()?;
            passed += bytes;
            if !batch.commits.is_empty() || left.is_zero() || passed >= self.options.batch_bytes {
                return Ok(batch);
            }
            let core = self.core();
            if passed > 0 && core.is_far_behind(self.name()) {
                return Ok(batch);
            }
            left = if core.consumers.wait_above(core, self.delivered, left) {
                at_most.saturating_sub(core.clock.now().saturating_sub(begun))
            } else {
                Duration::ZERO
            };
        }
    }

    /// Keeps that everything up to `version` was taken, as durably as the store's commits are by default, and lets go of what was held for
    /// it, as soon as that is on disk. What is not above the checkpoint before changes nothing. Costs as much as a commit of one entry.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for a version above [`delivered`](Self::delivered); [`Overtaken`](ErrorKind::Overtaken) if
    /// it is to hold again what it has begun anew from, and commits above that are gone already; [`NotFound`](ErrorKind::NotFound) if it was
    /// removed; else as [`Store::commit`].
    pub fn checkpoint(&self, version: Version) -> Result<()> {
        if version > self.delivered {
            let (name, delivered) = (self.name(), self.delivered);
            let what =
                format!("checkpoint of consumer {name:?} at version {version}, above what was given out, up to {delivered}");
            return Err(ErrorKind::InvalidArgument { what }.into());
        }
        let core = self.core();
        core.check_writable()?;
        let _turn = core.retention_turn.lock();
        let state = self.state()?;
        if version < state.position || version == state.position && !state.is_overtaken {
            return Ok(());
        }
        let is_new_beginning = state.is_overtaken;
        let next = ConsumerState { position: version, is_overtaken: false, since: core.moment(), ..state };
        if is_new_beginning {
            core.put_consumer(self.name(), &next, self.options.with_previous)
        } else {
            core.move_consumer(self.name(), next)
        }
    }

    /// The latest state, from which to begin anew; the commits after it come next. The checkpoint stays where it is until what the
    /// snapshot holds was taken, and [`checkpoint`](Self::checkpoint) is called with its version. Until then a consumer that was overtaken
    /// [holds](Holding) from the snapshot on what it is to hold, unless it falls too far behind once more; when it is closed, that ends.
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed), or what reading the log fails with.
    #[track_caller]
    pub fn resynchronize(&mut self) -> Result<Snapshot> {
        let core = self.core();
        core.reclaim.resume(self.name(), || core.latest());
        loop {
            let snapshot = Snapshot::pin(&self.claim.inner, Version::MAX, "consumer that begins anew")?;
            match self.core().changes_above(snapshot.version()) {
                // Opened now, it reads the segment that it has to the end, also if that is cut off meanwhile.
                Ok(reader) => {
                    self.reader = Some(reader);
                    self.delivered = snapshot.version();
                    return Ok(snapshot);
                }
                // A commit and a flush came in between.
                Err(error) if is_overtaken(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn is_overtaken(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Overtaken { .. })
}

/// Leaves of a commit what a scope is about, and says whether that is anything.
pub(crate) fn keep_scope(commit: &mut Commit, scope: &Scope) -> bool {
    let Some(table) = scope.table() else { return true };
    commit.clears.retain(|cleared| *cleared == table);
    commit.changes.retain(|change| scope.covers(change.table, &change.prefix));
    commit.purged = commit.purged.filter(|purged| *purged == table);
    !commit.clears.is_empty() || !commit.changes.is_empty() || commit.purged.is_some()
}

/// How much a commit counts in a batch; one without changes counts too.
fn size_bytes(commit: &Commit) -> usize {
    let of_change = |change: &Change| change.prefix.len() + change.suffix.len() + change.value.as_ref().map_or(0, Bytes::len);
    size_of::<Commit>() + commit.changes.iter().map(of_change).sum::<usize>()
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("name", &self.name()).field("delivered", &self.delivered).finish_non_exhaustive()
    }
}

/// A consumer's name, taken until this is dropped.
struct Claim {
    inner: Arc<Inner>,
    name: String,
}

impl Claim {
    fn new(inner: &Arc<Inner>, name: &str) -> Result<Self> {
        let mut open = inner.consumers.open.lock();
        if open.iter().any(|other| other == name) {
            return Err(ErrorKind::Locked { holder: format!("another handle of consumer {name:?}") }.into());
        }
        open.push(name.to_owned());
        Ok(Self { inner: Arc::clone(inner), name: name.to_owned() })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.inner.reclaim.end_resumption(&self.name) {
            self.inner.storage.signals.ring();
            self.inner.storage.signals.step_done();
        }
        self.inner.consumers.open.lock().retain(|name| *name != self.name);
    }
}

impl Core {
    /// Makes a consumer, or gives one that is there other options. Returns where it is.
    fn set_up(&self, name: &str, options: &ConsumerOptions) -> Result<Version> {
        let _turn = self.retention_turn.lock();
        loop {
            match self.try_set_up(name, options) {
                // Asked for what comes from now on, and meanwhile commits came, and a flush.
                Err(error) if options.since.is_none() && is_overtaken(&error) => {}
                result => return result,
            }
        }
    }

    fn try_set_up(&self, name: &str, options: &ConsumerOptions) -> Result<Version> {
        let known = self.reclaim.read().consumer(name).ok().cloned();
        let latest = self.latest();
        let (scope, holding) = (options.scope.clone(), options.holding);
        let state = if let Some(known) = &known {
            ConsumerState { scope, holding, ..known.clone() }
        } else {
            let position = options.since.unwrap_or(latest);
            let (versions_from, since) = (Version::ZERO, self.moment());
            ConsumerState { position, versions_from, scope, holding, is_overtaken: false, since }
        };
        if state.position > latest {
            let what = format!("consumer {name:?} at version {}, above the last commit {latest}", state.position);
            return Err(ErrorKind::InvalidArgument { what }.into());
        }
        if known.as_ref() != Some(&state) {
            self.check_writable()?;
            match self.put_consumer(name, &state, options.with_previous) {
                // One that is there is told when it reads, and can begin anew.
                Err(error) if known.is_some() && is_overtaken(&error) => {}
                put => put?,
            }
        }
        Ok(state.position)
    }

    /// Has a state of a consumer hold, durably, and with it whatever it holds back. The caller has the turn.
    fn put_consumer(&self, name: &str, state: &ConsumerState, needs_versions: bool) -> Result<()> {
        let was_there = self.reclaim.read().consumer(name).is_ok();
        let set = |authority: &Authority| authority.set_consumer(name, state.clone(), needs_versions);
        let lost = match self.note_pinning(set).map_err(|error| self.as_overtaken(error, state.position)) {
            Err(error) if is_overtaken(&error) => error,
            Err(error) => return Err(error),
            // From now on the log is kept from its position on; but what it was about to be cut off before is lost.
            Ok(()) if state.holds() && state.position < self.storage.log_from() => self.overtaken(state.position),
            Ok(()) => return Ok(()),
        };
        let is_there = self.reclaim.read().consumer(name).is_ok();
        let (name, consumer) = (name.to_owned(), ConsumerState { is_overtaken: true, ..state.clone() });
        match (was_there, is_there) {
            (true, _) => self.note(vec![Retained::Consumer { name, consumer }])?,
            (false, true) => self.note(vec![Retained::RemoveConsumer { name }])?,
            (false, false) => {}
        }
        Err(lost)
    }

    /// Moves a consumer forward. The caller has the turn.
    fn move_consumer(&self, name: &str, state: ConsumerState) -> Result<()> {
        let change = self.reclaim.read().set_consumer(name, state, false)?;
        self.note_as(vec![change], self.options.durability)?;
        if self.options.durability == Durability::Sync {
            self.reclaim.settle();
        }
        self.storage.signals.step_done();
        Ok(())
    }

    /// Has consumers let go of what lies below their positions once these are durable.
    pub(crate) fn settle_consumers(&self) -> Result<()> {
        let noted = self.reclaim.read().unsettled();
        if !noted.is_empty() {
            self.storage.log.sync()?;
            self.reclaim.lock().settle(&noted);
        }
        Ok(())
    }

    /// Leaves behind the consumers that are too far behind, durably.
    pub(crate) fn overtake_consumers(&self) -> Result<()> {
        let _turn = self.retention_turn.lock();
        let changes = self.consumers_to_overtake();
        if changes.is_empty() { Ok(()) } else { self.note(changes) }
    }

    /// The same, before the log is cut. The caller is the leader.
    pub(crate) fn overtake_as_leader(&self) -> Result<()> {
        // Whoever has the turn may be about to move the same consumer; then it is for the next time.
        let Some(_turn) = self.retention_turn.try_lock() else { return Ok(()) };
        let changes = self.consumers_to_overtake();
        if changes.is_empty() {
            return Ok(());
        }
        self.storage.log.append(&[LogEntry::Note { bytes: &encode(&changes) }], Durability::Sync)?;
        self.reclaim.apply(&changes);
        Ok(())
    }

    fn changes_above(&self, since: Version) -> Result<LogReader> {
        self.storage.log.reader(since).map_err(|error| self.as_overtaken(error, since))
    }

    fn overtaken(&self, wanted: Version) -> Error {
        ErrorKind::Overtaken { wanted, oldest: self.storage.log_from() }.into()
    }

    /// What is gone, as consumers hear of it.
    fn as_overtaken(&self, error: Error, wanted: Version) -> Error {
        match error.kind() {
            ErrorKind::VersionReclaimed { horizon, .. } => {
                let oldest = (*horizon).max(self.storage.log_from());
                Error::with_source(ErrorKind::Overtaken { wanted, oldest }, error)
            }
            _ => error,
        }
    }

    /// What was there before each change of a commit. Nothing, for tables that were purged since.
    fn find_previous(&self, commit: &Commit) -> Result<Vec<Option<Bytes>>> {
        let before = Version(commit.version.0.saturating_sub(1));
        let find = || -> Result<Vec<Option<Bytes>>> {
            let is_there = |change: &Change| self.marks.check_floor(change.table, before).is_ok();
            let there: Vec<bool> = commit.changes.iter().map(is_there).collect();
            let asked = commit.changes.iter().zip(&there).filter(|(_, is_there)| **is_there);
            let keys: Vec<KeyRef<'_>> = asked.map(|(change, _)| KeyRef { table: change.table, prefix: &change.prefix }).collect();
            let mut found = self.lookup_many_at(&keys, before, Reader::Unpinned)?.into_iter();
            let value = |is_there: bool| is_there.then(|| found.next()).flatten().and_then(Lookup::into_value);
            Ok(there.into_iter().map(value).collect())
        };
        let found = match find() {
            // A table that is purged at the same moment is seen as such the next time.
            Err(error) if matches!(error.kind(), ErrorKind::VersionReclaimed { .. }) => find(),
            found => found,
        };
        found.map_err(|error| self.as_overtaken(error, before))
    }

    /// A consumer that is further behind than it may be while writers go on: its name, how many bytes it is behind, and may be.
    pub(crate) fn consumer_behind(&self) -> Option<(String, u64, u64)> {
        self.reclaim.read().holding_consumers().find_map(|(name, consumer, from)| match consumer.holding {
            Holding::HoldWriters(max) => {
                let behind = self.storage.log.bytes_above(from);
                (behind > max).then(|| (name.to_owned(), behind, max))
            }
            _ => None,
        })
    }

    /// Whether a consumer is behind by more than half of what it may be.
    fn is_far_behind(&self, name: &str) -> bool {
        let authority = self.reclaim.read();
        let own = authority.holding_consumers().find(|(own, ..)| *own == name);
        own.is_some_and(|(_, consumer, from)| {
            consumer.holding.limit_bytes().is_some_and(|max| self.storage.log.bytes_above(from) > max / 2)
        })
    }

    /// The consumers that are further behind than they may be without being overtaken: those that had begun anew hold nothing from now on;
    /// of the others, what is to be noted.
    fn consumers_to_overtake(&self) -> Vec<Retained> {
        let (mut changes, mut ended) = (Vec::new(), Vec::new());
        for (name, consumer, from) in self.reclaim.read().holding_consumers() {
            let Holding::Overtake(max) = consumer.holding else { continue };
            if self.storage.log.bytes_above(from) <= max {
                continue;
            }
            tracing::warn!(consumer = name, position = %from, "a consumer is overtaken");
            if consumer.is_overtaken {
                ended.push(name.to_owned());
            } else {
                let consumer = ConsumerState { is_overtaken: true, ..consumer.clone() };
                changes.push(Retained::Consumer { name: name.to_owned(), consumer });
            }
        }
        for name in ended {
            self.reclaim.end_resumption(&name);
        }
        changes
    }

    /// How much of the log lies ahead of a consumer, about, in bytes.
    fn backlog_bytes(&self, consumer: &ConsumerState) -> u64 {
        self.storage.log.bytes_above(consumer.position)
    }
}

impl Store {
    /// Opens the consumer of that name, and makes it if there is none. A durable consumer: it goes on from its last
    /// [checkpoint](Consumer::checkpoint), and what it [holds](Holding) stays for it until it is [removed](Self::remove_consumer).
    ///
    /// Without a durable tier the log is never cut; a consumer that may be overtaken lets go of old versions all the same.
    ///
    /// # Errors
    /// [`Locked`](ErrorKind::Locked) while another handle has it open; [`Overtaken`](ErrorKind::Overtaken) for a new one that is to hold what
    /// is gone already; [`InvalidArgument`](ErrorKind::InvalidArgument) for an empty name, a version above the last commit, batches of 0 bytes, and
    /// previous values that are not held; [`LimitExceeded`](ErrorKind::LimitExceeded) for a name of more than 255 bytes; else as
    /// [`commit`](Self::commit).
    pub fn consumer(&self, name: &str, options: ConsumerOptions) -> Result<Consumer> {
        Consumer::open(&self.inner, name, options)
    }

    /// The consumers, in the order of their names.
    pub fn consumers(&self) -> Vec<ConsumerInfo> {
        let open = self.inner.consumers.open.lock().clone();
        let authority = self.inner.reclaim.read();
        let info = |(name, state): (&str, &ConsumerState)| ConsumerInfo {
            name: name.to_owned(),
            state: state.clone(),
            backlog_bytes: self.inner.backlog_bytes(state),
            is_open: open.iter().any(|open| open == name),
        };
        authority.consumers().map(info).collect()
    }

    /// Removes a consumer, and lets go of what it holds. Whoever has it open hears of it with the next call.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if there is none of that name; else as [`commit`](Self::commit).
    pub fn remove_consumer(&self, name: &str) -> Result<()> {
        self.inner.check_writable()?;
        let _turn = self.inner.retention_turn.lock();
        let change = self.inner.reclaim.read().remove_consumer(name)?;
        self.inner.note(vec![change])?;
        self.inner.storage.signals.ring();
        self.inner.storage.signals.step_done();
        Ok(())
    }
}
