//! What the machine did while something was measured: whose the processors were, and how long the measuring thread had to wait
//! for one. On shared cores a busy neighbour turns every parallel figure into a plausible wrong one.

use std::fs;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

use crate::failure::{Failure, Outcome};

/// From this many foreign processors on, a figure is marked.
pub const FOREIGN_CPUS_MAX: f64 = 0.2;

/// What happened on the machine during one slice.
#[derive(Clone, Copy, Debug, Default)]
pub struct Load {
    /// The slice's length.
    pub wall: Duration,
    /// Processors that others used, on average, the kernel's background threads and the hypervisor's other guests among them.
    pub foreign_cpus: f64,
    /// Processors that this process used, on average.
    pub own_cpus: f64,
}

impl Load {
    /// Whether others used less than [`FOREIGN_CPUS_MAX`].
    pub fn is_quiet(&self) -> bool {
        self.foreign_cpus <= FOREIGN_CPUS_MAX
    }

    /// The processor time of this process, all threads, for each of `units`: what shows wasted work where elapsed time shows waits.
    pub fn own_nanoseconds(&self, units: u64) -> f64 {
        self.own_cpus * self.wall.as_secs_f64() * 1e9 / units as f64
    }

    /// Two slices taken as one figure: as disturbed as the worse of them.
    #[must_use]
    pub fn worse(self, other: Self) -> Self {
        if other.foreign_cpus > self.foreign_cpus { other } else { self }
    }
}

/// Measures the machine's load from its creation on.
#[derive(Debug)]
pub struct Meter {
    began: Instant,
    all: Duration,
    own: Duration,
}

impl Meter {
    /// Starts to measure.
    pub fn start() -> Self {
        Self { all: busy_time(), own: clock(ClockId::ProcessCPUTime), began: Instant::now() }
    }

    /// The load since the start. The kernel counts in ticks of 10 ms, so slices under 0.2 s say little.
    pub fn stop(&self) -> Load {
        let wall = self.began.elapsed();
        let own = clock(ClockId::ProcessCPUTime).saturating_sub(self.own);
        let foreign = busy_time().saturating_sub(self.all).saturating_sub(own);
        let per_second = |time: Duration| time.as_secs_f64() / wall.as_secs_f64().max(1e-9);
        Load { wall, foreign_cpus: per_second(foreign), own_cpus: per_second(own) }
    }
}

/// Waits until others have left the processors for a fifth of a second, but not longer than `patience`.
pub fn await_quiet(patience: Duration) {
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
pub fn thread_time() -> Duration {
    clock(ClockId::ThreadCPUTime)
}

/// The resident set of this process, in bytes.
pub fn resident_bytes() -> u64 {
    let text = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = text.split_whitespace().nth(1).and_then(|field| field.parse().ok()).unwrap_or_default();
    pages * rustix::param::page_size() as u64
}

/// The processors that this process may use, in order; the first alone if that cannot be found out.
pub fn own_cpus() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(None) else { return vec![0] };
    (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect()
}

/// Ties the calling thread to one processor; threads that it starts inherit that.
pub fn pin(cpu: usize) -> Outcome<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set)
        .map_err(|source| Failure::Machine { what: "tie a thread to a processor", source: source.into() })
}

/// Runs `work` on a thread of its own that is tied to `cpu`, so that nothing started elsewhere inherits the tie.
pub fn on_cpu<T: Send>(cpu: usize, work: impl FnOnce() -> Outcome<T> + Send) -> Outcome<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            pin(cpu)?;
            work()
        });
        join(thread)
    })
}

/// The result of a scoped thread.
pub fn join<T>(thread: std::thread::ScopedJoinHandle<'_, Outcome<T>>) -> Outcome<T> {
    thread.join().unwrap_or(Err(Failure::Panicked))
}

/// What one slice counted.
#[derive(Clone, Copy, Debug)]
pub struct Timed {
    /// What was counted.
    pub units: u64,
    /// The time that it took.
    pub wall: Duration,
    /// The processor time of the measuring thread; zero where several threads measured.
    pub cpu: Duration,
}

impl Timed {
    /// Times work of a known size.
    pub fn of(units: u64, work: impl FnOnce() -> Outcome<()>) -> Outcome<Self> {
        let (began, cpu) = (Instant::now(), thread_time());
        work()?;
        Ok(Self { units, wall: began.elapsed(), cpu: thread_time().saturating_sub(cpu) })
    }

    /// Units a second.
    pub fn rate(&self) -> f64 {
        self.units as f64 / self.wall.as_secs_f64()
    }
}

/// Repeats `operation`, which is told its number and answers how many units it did, for `slice`; looks at the clock after every
/// `stride` times.
pub fn run_for(slice: Duration, stride: u64, mut operation: impl FnMut(u64) -> Outcome<u64>) -> Outcome<Timed> {
    let (began, cpu) = (Instant::now(), thread_time());
    let (mut number, mut units) = (0, 0);
    loop {
        for _ in 0..stride {
            units += operation(number)?;
            number += 1;
        }
        let wall = began.elapsed();
        if wall >= slice {
            return Ok(Timed { units, wall, cpu: thread_time().saturating_sub(cpu) });
        }
    }
}
