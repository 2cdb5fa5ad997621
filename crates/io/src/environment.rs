//! The outside world of a store apart from its disk.

use std::sync::Arc;

use crate::clock::{Clock, RealClock, SimClock};
use crate::random::{Randomness, RealRandomness, SeededRandomness};
use crate::spawn::{RealSpawner, SimSpawner, Spawner};

/// Clock, randomness and threads, handed to everything that needs them.
///
/// ```
/// use thermocline_io::Environment;
///
/// let simulated = Environment::simulated(42);
/// assert_eq!(simulated.clock.now(), simulated.clock.now());
/// let real = Environment::real();
/// assert!(real.clock.wall().as_secs() > 0);
/// ```
#[derive(Clone, Debug)]
pub struct Environment {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Random bytes.
    pub randomness: Arc<dyn Randomness>,
    /// Threads.
    pub spawner: Arc<dyn Spawner>,
}

impl Environment {
    /// The system's own.
    pub fn real() -> Self {
        Self { clock: Arc::new(RealClock::new()), randomness: Arc::new(RealRandomness), spawner: Arc::new(RealSpawner) }
    }

    /// A clock that stands still, bytes that follow from `seed`, and threads that never run by themselves. A test that moves any
    /// of them builds the value from its own parts.
    pub fn simulated(seed: u64) -> Self {
        Self {
            clock: Arc::new(SimClock::new()),
            randomness: Arc::new(SeededRandomness::new(seed)),
            spawner: Arc::new(SimSpawner::new(seed)),
        }
    }
}
