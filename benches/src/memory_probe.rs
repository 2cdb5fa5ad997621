//! What one wait for main memory costs here and now: point reads are two or three such waits, so this tells a slow machine from a slow
//! store.

use std::hint::black_box;
use std::time::Duration;

use crate::bench::Bench;
use crate::report::Sample;
use thermocline_yardstick::failure::Outcome;
use thermocline_yardstick::meter::run_for;
use thermocline_yardstick::workload::Random;

/// The sizes that are walked, as rows and words: what the last cache should hold, and what no cache holds. Neighbours on the same chip
/// show in the first, long before the second.
pub(crate) const SIZES: [(&str, u32); 2] = [("memory-latency-8", 1 << 20), ("memory-latency-256", 1 << 25)];
/// The waits between two looks at the clock.
const STEPS: u64 = 256;

/// A cycle through words in random order.
#[derive(Debug)]
pub(crate) struct Probe {
    next: Vec<u64>,
}

impl Probe {
    /// Sattolo's shuffle, which gives one cycle through everything.
    pub(crate) fn new(words: u32, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut next: Vec<u64> = (0..u64::from(words)).collect();
        for last in (1..words).rev() {
            next.swap(last as usize, random.below(last) as usize);
        }
        Self { next }
    }

    /// The nanoseconds of one dependent load, in processor time.
    pub(crate) fn measure(&self, bench: &Bench) -> Outcome<Sample> {
        let slice = Duration::from_millis(100);
        let sample = bench.rate(|| {
            let mut place = 0;
            let timed = run_for(slice, 1, |_| {
                for _ in 0..STEPS {
                    place = self.next[place as usize];
                }
                Ok(STEPS)
            })?;
            black_box(place);
            Ok(timed)
        })?;
        Ok(Sample { value: 1e9 / sample.per_cpu_second.unwrap_or(sample.value), per_cpu_second: None, load: sample.load })
    }
}
