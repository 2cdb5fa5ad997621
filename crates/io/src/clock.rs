//! Time, real and simulated. Nothing else in the engine asks the system for the time.

use std::fmt::Debug;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::sync::Mutex;

/// A source of time. It may be used for statistics, pacing and labels; order and visibility never depend on it.
pub trait Clock: Send + Sync + Debug {
    /// Time since some fixed moment; it never runs backwards.
    fn now(&self) -> Duration;

    /// What the wall clock shows, since the Unix epoch. It may jump either way; a clock before the epoch shows zero.
    fn wall(&self) -> Duration;
}

/// The system's clocks.
///
/// ```
/// use thermocline_io::{Clock, RealClock};
///
/// let clock = RealClock::new();
/// assert!(clock.now() <= clock.now());
/// ```
#[derive(Clone, Debug)]
pub struct RealClock {
    start: Instant,
}

impl RealClock {
    /// A clock that starts now.
    #[expect(clippy::disallowed_methods, reason = "this is the clock through which everything else asks")]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for RealClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for RealClock {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    #[expect(clippy::disallowed_methods, reason = "this is the clock through which everything else asks")]
    fn wall(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO)
    }
}

/// A clock that stands still until a test moves it.
///
/// ```
/// use std::time::Duration;
/// use thermocline_io::{Clock, SimClock};
///
/// let clock = SimClock::new();
/// clock.advance(Duration::from_secs(2));
/// clock.set_wall(Duration::ZERO);
/// assert_eq!((clock.now(), clock.wall()), (Duration::from_secs(2), Duration::ZERO));
/// ```
#[derive(Debug)]
pub struct SimClock {
    times: Mutex<Times>,
}

#[derive(Debug)]
struct Times {
    now: Duration,
    wall: Duration,
}

impl SimClock {
    /// Zero since its start; the wall clock shows the second 1,700,000,000, a fixed moment in November 2023.
    pub fn new() -> Self {
        Self { times: Mutex::new(Times { now: Duration::ZERO, wall: Duration::from_secs(1_700_000_000) }) }
    }

    /// Moves both clocks on, up to the largest duration.
    pub fn advance(&self, by: Duration) {
        let mut times = self.times.lock();
        times.now = times.now.saturating_add(by);
        times.wall = times.wall.saturating_add(by);
    }

    /// Sets the wall clock alone, forwards or backwards.
    pub fn set_wall(&self, wall: Duration) {
        self.times.lock().wall = wall;
    }
}

impl Default for SimClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SimClock {
    fn now(&self) -> Duration {
        self.times.lock().now
    }

    fn wall(&self) -> Duration {
        self.times.lock().wall
    }
}
