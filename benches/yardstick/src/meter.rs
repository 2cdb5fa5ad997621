//! What the machine did while something was measured: whose the processors were, and how long the measuring thread had to wait
//! for one. On shared cores a busy neighbour turns every parallel figure into a plausible wrong one.

use std::fs;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

use crate::failure::{Failure, Outcome};

/// From this many foreign processors on, a figure is marked.
pub(crate) const FOREIGN_CPUS_MAX: f64 = 0.2;

/// What happened on the machine during one slice.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Load {
    /// The slice's length.
    pub(crate) wall: Duration,
    /// Processors that others used, on average, the kernel's background threads and the hypervisor's other guests among them.
    pub(crate) foreign_cpus: f64,
    /// Processors that this process used, on average.
    pub(crate) own_cpus: f64,
}

impl Load {
    pub(crate) fn is_quiet(&self) -> bool {
        self.foreign_cpus <= FOREIGN_CPUS_MAX
    }

    /// The processor time of this process, all threads, for each of `units`: what shows wasted work where elapsed time shows waits.
    pub(crate) fn own_nanoseconds(&self, units: u64) -> f64 {
        self.own_cpus * self.wall.as_secs_f64() * 1e9 / units as f64
    }

    /// Two slices taken as one figure: as disturbed as the worse of them.
    pub(crate) fn worse(self, other: Self) -> Self {
        if other.foreign_cpus > self.foreign_cpus { other } else { self }
    }
}

/// Measures the machine's load from its creation on.
#[derive(Debug)]
pub(crate) struct Meter {
    began: Instant,
    all: Duration,
    own: Duration,
}

impl Meter {
    pub(crate) fn start() -> Self {
        Self { all: busy_time(), own: clock(ClockId::ProcessCPUTime), began: Instant::now() }
    }

    /// The load since the start. The kernel counts in ticks of 10 ms, so slices under 0.2 s say little.
    pub(crate) fn stop(&self) -> Load {
        let wall = self.began.elapsed();
        let own = clock(ClockId::ProcessCPUTime).saturating_sub(self.own);
        let foreign = busy_time().saturating_sub(self.all).saturating_sub(own);
        let per_second = |time: Duration| time.as_secs_f64() / wall.as_secs_f64().max(1e-9);
        Load { wall, foreign_cpus: per_second(foreign), own_cpus: per_second(own) }
    }
}

/// Waits until others have left the processors for a fifth of a second, but not longer than `patience`.
pub(crate) fn await_quiet(patience: Duration) {
    let began = Instant::now();
    while began.elapsed() < patience {
        let meter = Meter::start();
        std::thread::sleep(Duration::from_millis(200));
        if meter.stop().is_quiet() {
            return;
        }
    }
}

/// The time that all processors have spent on anything, since the machine started.
fn busy_time() -> Duration {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields = text.lines().next().unwrap_or_default().split_whitespace().skip(1);
    let ticks: Vec<u64> = fields.filter_map(|field| field.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq, steal; guests' time is within user's.
    let busy: u64 = [0, 1, 2, 5, 6, 7].iter().filter_map(|field| ticks.get(*field)).sum();
    Duration::from_secs_f64(busy as f64 / rustix::param::clock_ticks_per_second() as f64)
}

fn clock(id: ClockId) -> Duration {
    Duration::try_from(clock_gettime(id)).unwrap_or_default()
}

/// The processor time of the calling thread.
pub(crate) fn thread_time() -> Duration {
    clock(ClockId::ThreadCPUTime)
}

/// The resident set of this process, in bytes.
pub(crate) fn resident_bytes() -> u64 {
    let text = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = text.split_whitespace().nth(1).and_then(|field| field.parse().ok()).unwrap_or_default();
    pages * rustix::param::page_size() as u64
}

/// Ties the calling thread to one processor; threads that it starts inherit that.
pub(crate) fn pin(cpu: usize) -> Outcome<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set)
        .map_err(|source| Failure::Machine { what: "tie a thread to a processor", source: source.into() })
}

/// Runs `work` on a thread of its own that is tied to `cpu`, so that nothing started elsewhere inherits the tie.
pub(crate) fn on_cpu<T: Send>(cpu: usize, work: impl FnOnce() -> Outcome<T> + Send) -> Outcome<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            pin(cpu)?;
            work()
        });
        join(thread)
    })
}

/// The result of a scoped thread.
pub(crate) fn join<T>(thread: std::thread::ScopedJoinHandle<'_, Outcome<T>>) -> Outcome<T> {
    thread.join().unwrap_or(Err(Failure::Panicked))
}
