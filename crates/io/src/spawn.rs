//! Background threads, real and simulated.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt::{self, Debug};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use crate::disk::DiskResult;
use crate::error::{DiskError, DiskErrorKind};
use crate::random::Generator;
use crate::sync::Mutex;

/// What a thread runs, once.
pub type Task = Box<dyn FnOnce() + Send + 'static>;

/// Something that runs tasks beside the caller.
pub trait Spawner: Send + Sync + Debug {
    /// Starts `task` under a name that debuggers show.
    ///
    /// # Errors
    /// `OutOfMemory` if the system has no thread left; the task is gone then and has not run.
    fn spawn(&self, name: &str, task: Task) -> DiskResult<Box<dyn JoinHandle>>;
}

/// A task that was started. Dropping the handle lets the task go on alone.
#[must_use = "a task that nobody joins may outlive what it works on"]
pub trait JoinHandle: Send + Debug {
    /// Whether the task has ended, by returning or by a panic.
    fn is_finished(&self) -> bool;

    /// Waits for the end of the task.
    ///
    /// # Errors
    /// [`TaskPanicked`].
    fn join(self: Box<Self>) -> Result<(), TaskPanicked>;
}

/// A task panicked.
///
/// ```
/// use thermocline_io::{RealSpawner, Spawner};
///
/// let handle = RealSpawner.spawn("sweeper", Box::new(|| panic!("dust")))?;
/// assert_eq!(handle.join().unwrap_err().to_string(), "background task sweeper panicked: dust");
/// # Ok::<(), thermocline_io::DiskError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("background task {name} panicked: {message}")]
pub struct TaskPanicked {
    /// The task's name.
    pub name: String,
    /// What it said, as far as that was text.
    pub message: String,
}

impl TaskPanicked {
    fn new(name: String, payload: &(dyn Any + Send)) -> Self {
        let text = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        Self { name, message: text.unwrap_or("no message").to_owned() }
    }
}

/// Threads of the system.
///
/// ```
/// use std::sync::mpsc::channel;
/// use thermocline_io::{RealSpawner, Spawner};
///
/// let (sender, receiver) = channel();
/// let handle = RealSpawner.spawn("worker", Box::new(move || drop(sender.send(7))))?;
/// assert_eq!(receiver.recv(), Ok(7));
/// assert!(handle.join().is_ok());
/// # Ok::<(), thermocline_io::DiskError>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct RealSpawner;

#[derive(Debug)]
struct RealHandle {
    name: String,
    thread: thread::JoinHandle<()>,
}

impl Spawner for RealSpawner {
    fn spawn(&self, name: &str, task: Task) -> DiskResult<Box<dyn JoinHandle>> {
        // The standard library panics on a zero byte.
        let name = name.replace('\0', " ");
        #[expect(clippy::disallowed_methods, reason = "the one place where threads come from")]
        let spawned = thread::Builder::new().name(name.clone()).spawn(task);
        match spawned {
            Ok(thread) => Ok(Box::new(RealHandle { name, thread })),
            Err(error) => {
                let detail = format!("task {name}");
                Err(DiskError::new(DiskErrorKind::OutOfMemory, "start a thread").with_detail(detail).with_source(error))
            }
        }
    }
}

impl JoinHandle for RealHandle {
    fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    fn join(self: Box<Self>) -> Result<(), TaskPanicked> {
        let Self { name, thread } = *self;
        thread.join().map_err(|payload| TaskPanicked::new(name, &*payload))
    }
}

/// Tasks that wait until a test runs them, one at a time, on the test's own thread, in an order that follows from a seed. Joining a
/// task that has not run runs it. Clones share their tasks.
///
/// ```
/// use thermocline_io::{SimSpawner, Spawner};
///
/// let spawner = SimSpawner::new(1);
/// let handle = spawner.spawn("worker", Box::new(|| ()))?;
/// assert_eq!(spawner.waiting(), ["worker"]);
/// assert!(spawner.run_one());
/// assert!(handle.is_finished() && !spawner.run_one());
/// # Ok::<(), thermocline_io::DiskError>(())
/// ```
#[derive(Clone, Debug)]
pub struct SimSpawner {
    queue: Arc<Mutex<Queue>>,
}

#[derive(Debug)]
struct Queue {
    waiting: VecDeque<Arc<SimTask>>,
    order: Generator,
}

struct SimTask {
    name: String,
    state: Mutex<SimState>,
}

enum SimState {
    Waiting(Task),
    Running,
    Ended(Result<(), TaskPanicked>),
}

impl SimSpawner {
    /// No tasks yet; their order will follow from `seed`.
    pub fn new(seed: u64) -> Self {
        Self { queue: Arc::new(Mutex::new(Queue { waiting: VecDeque::new(), order: Generator::new(seed) })) }
    }

    /// The names of the tasks that have not run, oldest first.
    pub fn waiting(&self) -> Vec<String> {
        self.queue.lock().waiting.iter().map(|task| task.name.clone()).collect()
    }

    /// Runs one waiting task to its end, and returns whether there was one.
    pub fn run_one(&self) -> bool {
        let task = {
            let mut queue = self.queue.lock();
            let count = queue.waiting.len();
            let index = queue.order.index(count);
            queue.waiting.remove(index)
        };
        task.as_deref().map(SimTask::run).is_some()
    }
}

impl SimTask {
    /// Runs the task unless it has been run; nothing is locked meanwhile, it may start others.
    fn run(&self) {
        let task = {
            let mut state = self.state.lock();
            match std::mem::replace(&mut *state, SimState::Running) {
                SimState::Waiting(task) => task,
                other => {
                    *state = other;
                    return;
                }
            }
        };
        let ended = catch_unwind(AssertUnwindSafe(task)).map_err(|payload| TaskPanicked::new(self.name.clone(), &*payload));
        *self.state.lock() = SimState::Ended(ended);
    }
}

impl Debug for SimTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Spawner for SimSpawner {
    fn spawn(&self, name: &str, task: Task) -> DiskResult<Box<dyn JoinHandle>> {
        let task = Arc::new(SimTask { name: name.to_owned(), state: Mutex::new(SimState::Waiting(task)) });
        self.queue.lock().waiting.push_back(Arc::clone(&task));
        Ok(Box::new(SimHandle { task, queue: Arc::clone(&self.queue) }))
    }
}

#[derive(Debug)]
struct SimHandle {
    task: Arc<SimTask>,
    queue: Arc<Mutex<Queue>>,
}

impl JoinHandle for SimHandle {
    fn is_finished(&self) -> bool {
        matches!(*self.task.state.lock(), SimState::Ended(_))
    }

    fn join(self: Box<Self>) -> Result<(), TaskPanicked> {
        self.queue.lock().waiting.retain(|task| !Arc::ptr_eq(task, &self.task));
        self.task.run();
        match &*self.task.state.lock() {
            SimState::Ended(ended) => ended.clone(),
            SimState::Waiting(_) | SimState::Running => {
                let message = "it was joined from inside itself".to_owned();
                Err(TaskPanicked { name: self.task.name.clone(), message })
            }
        }
    }
}
