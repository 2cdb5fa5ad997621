//! What all rows share while they are measured: the arguments, the report, the processors, and fresh directories.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::arguments::Arguments;
use crate::report::{Report, Sample};
use thermocline_yardstick::failure::{Failure, Outcome};
use thermocline_yardstick::meter::{Meter, Timed, await_quiet, on_cpu};

/// The run.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) arguments: Arguments,
    pub(crate) report: Report,
    root: PathBuf,
    last_directory: u32,
    cores: usize,
}

impl Bench {
    pub(crate) fn new(arguments: Arguments, root: &Path, cores: usize) -> Self {
        Self { arguments, report: Report::default(), root: root.to_path_buf(), last_directory: 0, cores }
    }

    pub(crate) fn wants(&self, name: &str) -> bool {
        self.arguments.wants(name)
    }

    pub(crate) fn slice(&self) -> Duration {
        self.arguments.slice()
    }

    /// The processor of a row's only, or second, thread: the last one, since interrupts tend to the first.
    pub(crate) fn cpu(&self) -> usize {
        self.cores.saturating_sub(1)
    }

    /// The processor of thread `number` of several.
    pub(crate) fn cpu_of(&self, number: usize) -> usize {
        self.cpu().saturating_sub(number % self.cores.max(1))
    }

    /// A directory that is not there yet.
    pub(crate) fn fresh_directory(&mut self) -> PathBuf {
        self.last_directory += 1;
        self.root.join(format!("store-{}", self.last_directory))
    }

    /// Measures on one tied thread, again while foreign load disturbs it; the quietest measurement is the answer.
    pub(crate) fn rate(&self, measure: impl Fn() -> Outcome<Timed> + Sync) -> Outcome<Sample> {
        self.retried(|| {
            let meter = Meter::start();
            let timed = on_cpu(self.cpu(), &measure)?;
            Ok(Sample::of(&timed, meter.stop()))
        })
    }

    /// Measures again while foreign load disturbs; the quietest measurement is the answer.
    pub(crate) fn retried(&self, mut measure: impl FnMut() -> Outcome<Sample>) -> Outcome<Sample> {
        await_quiet(self.arguments.patience());
        let mut best = measure()?;
        for _ in 0..self.arguments.retries {
            if best.load.is_quiet() {
                break;
            }
            await_quiet(self.arguments.patience());
            let next = measure()?;
            if next.load.foreign_cpus < best.load.foreign_cpus {
                best = next;
            }
        }
        Ok(best)
    }

    /// Notes a row's figure; a wrong answer voids the row and lets the others go on.
    pub(crate) fn settle(&mut self, name: &'static str, outcome: Outcome<Sample>) -> Outcome<()> {
        match outcome {
            Ok(sample) => self.report.add(name, sample),
            Err(Failure::Wrong(what)) => self.report.void(name, what),
            Err(failure) => return Err(failure),
        }
        Ok(())
    }

    /// Voids rows if a check of what they made has failed.
    pub(crate) fn void_if_wrong(&mut self, names: &[&'static str], check: Outcome<()>) -> Outcome<()> {
        match check {
            Err(Failure::Wrong(what)) => names.iter().for_each(|name| self.report.void(name, what.clone())),
            other => return other,
        }
        Ok(())
    }

    /// Measures a row of one thread if it is wanted.
    pub(crate) fn row(&mut self, name: &'static str, measure: impl Fn() -> Outcome<Timed> + Sync) -> Outcome<()> {
        if !self.wants(name) {
            return Ok(());
        }
        let outcome = self.rate(measure);
        self.settle(name, outcome)
    }

    /// Measures two rates in turn and notes the first as a multiple of the second.
    pub(crate) fn ratio_row(
        &mut self,
        name: &'static str,
        measure: impl Fn() -> Outcome<Timed> + Sync,
        base: impl Fn() -> Outcome<Timed> + Sync,
    ) -> Outcome<()> {
        if !self.wants(name) {
            return Ok(());
        }
        let outcome = self.rate(base).and_then(|base| {
            let sample = self.rate(measure)?;
            Ok(ratio(&sample, &base))
        });
        self.settle(name, outcome)
    }
}

/// Tells how far the run has come, on the standard error.
pub(crate) fn progress(what: &str) {
    // Nothing depends on it: a closed standard error must not end the run.
    writeln!(io::stderr(), "{what}").unwrap_or_default();
}

/// A rate as a multiple of another; as disturbed as the worse of both.
pub(crate) fn ratio(sample: &Sample, base: &Sample) -> Sample {
    Sample::new(sample.value / base.value, sample.load.worse(base.load))
}
