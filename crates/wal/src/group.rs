//! Group commit: many threads ask, one of them does the work for all that are waiting.
//!
//! The first thread that comes leads: it takes every request that waits and carries the whole group through one call. The others
//! wait, each on a slot of its own, so that only those whose answer is there are woken. This is flat combining (Hendler, Incze,
//! Shavit, Tzafrir: Flat Combining and the Synchronization-Parallelism Tradeoff, 2010) applied to the log of a database (as in
//! group commit, `DeWitt` et al., 1984).
//!
//! Leadership is handed on only when a group is done and its members were woken. Handed on before, the next leader would find only the
//! requests that came during the work, and groups would be half as large.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use thermocline_io::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use thermocline_io::sync::{Condvar, Mutex, yield_now};

/// How long a thread that waits for a fast group looks for its answer before it sleeps, in turns of the loop.
const SPIN_TURNS: u32 = 200;
/// After how many of them it lets other threads have the processor.
const SPIN_TURNS_ALONE: u32 = 60;

/// How groups are gathered.
///
/// ```
/// let options = thermocline_wal::group::GroupOptions::default();
/// assert!(options.gather_wait.as_micros() > 0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupOptions {
    /// How long the leader of a slow group waits at most for as many requests as the last slow group had; nothing if that had one.
    /// Zero never waits. Default: 200 microseconds, two syncs of a fast device.
    pub gather_wait: Duration,
    /// How many fast groups a thread leads in a row, at most, before it hands leadership on. At least 1. Default: 4.
    pub fast_groups_max: u32,
}

impl Default for GroupOptions {
    fn default() -> Self {
        Self { gather_wait: Duration::from_micros(200), fast_groups_max: 4 }
    }
}

/// A queue of requests `R` with answers `O`.
///
/// ```
/// use thermocline_wal::group::GroupCommit;
///
/// let queue = GroupCommit::new();
/// let doubled = queue.submit(21, false, |group: Vec<u32>| group.into_iter().map(|request| request * 2).collect());
/// assert_eq!(doubled, 42);
/// ```
#[derive(Debug)]
pub struct GroupCommit<R, O> {
    options: GroupOptions,
    queue: Mutex<Queue<R, O>>,
    /// The leader waits here for its group to fill.
    gathered: Condvar,
    /// How many requests the leader waits for; 0 while it does not.
    wanted: AtomicUsize,
}

#[derive(Debug)]
struct Queue<R, O> {
    waiting: VecDeque<Waiting<R, O>>,
    has_leader: bool,
    /// How many requests the last slow group had.
    last_slow_group: usize,
}

#[derive(Debug)]
struct Waiting<R, O> {
    request: R,
    is_slow: bool,
    slot: Arc<Slot<O>>,
}

/// Where one thread waits.
#[derive(Debug)]
struct Slot<O> {
    state: Mutex<State<O>>,
    changed: Condvar,
    /// The state is no longer `Waiting`.
    is_set: AtomicBool,
}

#[derive(Debug)]
enum State<O> {
    Waiting,
    /// This thread leads now; its own request still waits in the queue.
    Lead,
    Done(O),
    /// The leader that took the request panicked.
    Abandoned,
}

impl<O> Slot<O> {
    fn new() -> Self {
        Self { state: Mutex::new(State::Waiting), changed: Condvar::new(), is_set: AtomicBool::new(false) }
    }

    fn set(&self, state: State<O>) {
        *self.state.lock() = state;
        self.is_set.store(true, Ordering::Release);
        self.changed.notify_one();
    }

    /// Waits for the state to be set, and takes it.
    fn wait(&self, is_slow: bool) -> State<O> {
        if !is_slow {
            for turn in 0..SPIN_TURNS {
                if self.is_set.load(Ordering::Acquire) {
                    break;
                }
                if turn < SPIN_TURNS_ALONE { std::hint::spin_loop() } else { yield_now() }
            }
        }
        let mut state = self.state.lock();
        while matches!(*state, State::Waiting) {
            self.changed.wait(&mut state);
        }
        self.is_set.store(false, Ordering::Release);
        std::mem::replace(&mut *state, State::Waiting)
    }
}

impl<R, O> GroupCommit<R, O> {
    /// A queue with the default options.
    pub fn new() -> Self {
        Self::with_options(GroupOptions::default())
    }

    /// A queue with these options.
    pub fn with_options(options: GroupOptions) -> Self {
        let queue = Queue { waiting: VecDeque::new(), has_leader: false, last_slow_group: 0 };
        Self { options, queue: Mutex::new(queue), gathered: Condvar::new(), wanted: AtomicUsize::new(0) }
    }

    /// Hands in a request and waits for its answer. Exactly one of the threads that wait calls its `lead` at a time: with every
    /// request that waits, in the order in which they came, and must give as many answers in the same order. `is_slow` says that the
    /// request needs a sync, so that it pays to gather many.
    ///
    /// # Panics
    /// If `lead` panics or gives another number of answers than there were requests: in the thread that called it, and in every
    /// thread whose request was in the group. Requests that came later are not affected.
    pub fn submit(&self, request: R, is_slow: bool, mut lead: impl FnMut(Vec<R>) -> Vec<O>) -> O {
        let mut queue = self.queue.lock();
        let slot = Arc::new(Slot::new());
        queue.waiting.push_back(Waiting { request, is_slow, slot: Arc::clone(&slot) });
        if queue.has_leader {
            let wanted = self.wanted.load(Ordering::Relaxed);
            if wanted != 0 && queue.waiting.len() >= wanted {
                self.gathered.notify_one();
            }
            drop(queue);
            match slot.wait(is_slow) {
                State::Done(answer) => return answer,
                State::Abandoned => abandoned(),
                State::Lead | State::Waiting => {}
            }
        } else {
            queue.has_leader = true;
            drop(queue);
        }
        self.lead(&slot, &mut lead)
    }

    /// Leads until this thread's own request is answered, and fast groups beyond that as far as the options allow.
    fn lead(&self, own: &Arc<Slot<O>>, lead: &mut impl FnMut(Vec<R>) -> Vec<O>) -> O {
        let mut answer = None;
        let mut groups = 0;
        let mut leadership = Leadership { queue: self, members: Vec::new() };
        loop {
            let (requests, is_slow) = self.take_group(&mut leadership.members);
            let count = requests.len();
            let answers = lead(requests);
            assert!(answers.len() == count, "{} answers to {count} requests", answers.len());
            for (slot, result) in leadership.members.drain(..).zip(answers) {
                if Arc::ptr_eq(&slot, own) {
                    answer = Some(result);
                } else {
                    slot.set(State::Done(result));
                }
            }
            groups += 1;
            if let Some(answer) =
                answer.take_if(|_| is_slow || groups >= self.options.fast_groups_max || !self.has_fast_requests())
            {
                drop(leadership);
                return answer;
            }
        }
    }

    /// Whether requests wait, none of which is slow.
    fn has_fast_requests(&self) -> bool {
        let queue = self.queue.lock();
        !queue.waiting.is_empty() && queue.waiting.iter().all(|waiting| !waiting.is_slow)
    }

    /// Takes everything that waits, after waiting a little if more is to be expected.
    fn take_group(&self, members: &mut Vec<Arc<Slot<O>>>) -> (Vec<R>, bool) {
        let mut queue = self.queue.lock();
        let is_slow = queue.waiting.iter().any(|waiting| waiting.is_slow);
        let expected = queue.last_slow_group;
        if is_slow && expected > 1 && !self.options.gather_wait.is_zero() && queue.waiting.len() < expected {
            self.wanted.store(expected, Ordering::Relaxed);
            // Woken by the request that completes the group, or by time.
            self.gathered.wait_for(&mut queue, self.options.gather_wait);
            self.wanted.store(0, Ordering::Relaxed);
        }
        let mut requests = Vec::with_capacity(queue.waiting.len());
        for waiting in queue.waiting.drain(..) {
            requests.push(waiting.request);
            members.push(waiting.slot);
        }
        if is_slow {
            queue.last_slow_group = requests.len();
        }
        (requests, is_slow)
    }
}

impl<R, O> Default for GroupCommit<R, O> {
    fn default() -> Self {
        Self::new()
    }
}

/// Ends the wait of a thread whose leader panicked, in the same way.
fn abandoned() -> ! {
    std::panic::resume_unwind(Box::new("the thread that led this group of commits panicked"))
}

/// Held by the thread that leads. Dropping it hands leadership on; if that happens in a panic, the members of the group under way are
/// told.
struct Leadership<'a, R, O> {
    queue: &'a GroupCommit<R, O>,
    members: Vec<Arc<Slot<O>>>,
}

impl<R, O> Drop for Leadership<'_, R, O> {
    fn drop(&mut self) {
        for slot in self.members.drain(..) {
            slot.set(State::Abandoned);
        }
        let mut queue = self.queue.queue.lock();
        match queue.waiting.front() {
            Some(next) => next.slot.set(State::Lead),
            None => queue.has_leader = false,
        }
    }
}
