//! The work that may wait, and who does it: a thread of the store's own, or the caller by hand.

use std::sync::Arc;
use std::time::Duration;

use thermocline_io::sync::{Condvar, Mutex};
use thermocline_io::{JoinHandle, Spawner};
use thermocline_tier::{Error, ErrorKind, Result};
use thermocline_wal::Log;

use crate::store::Store;

/// How long the worker waits between two looks at a log that is written to.
const BUSY_WAIT: Duration = Duration::from_millis(10);
/// How long it waits when the last look found nothing to do.
const IDLE_WAIT: Duration = Duration::from_millis(100);

/// The background thread of a store. It holds the log, not the store, so it never keeps a store open.
#[derive(Debug)]
pub(crate) struct Worker {
    signal: Arc<Signal>,
    thread: Box<dyn JoinHandle>,
}

#[derive(Debug, Default)]
struct Signal {
    is_stopping: Mutex<bool>,
    changed: Condvar,
}

impl Signal {
    /// Waits, and says whether to go on.
    fn wait(&self, duration: Duration) -> bool {
        let mut is_stopping = self.is_stopping.lock();
        if !*is_stopping {
            self.changed.wait_for(&mut is_stopping, duration);
        }
        !*is_stopping
    }

    fn stop(&self) {
        *self.is_stopping.lock() = true;
        self.changed.notify_all();
    }
}

impl Worker {
    /// Starts the thread.
    pub(crate) fn start(log: Arc<Log>, spawner: &dyn Spawner) -> Result<Self> {
        let signal = Arc::new(Signal::default());
        let its = Arc::clone(&signal);
        let body = Box::new(move || {
            let mut wait = BUSY_WAIT;
            while its.wait(wait) {
                wait = if step(&log) { BUSY_WAIT } else { IDLE_WAIT };
            }
        });
        let thread = spawner.spawn("thermocline-log", body).map_err(|source| Error::with_source(ErrorKind::Io, source))?;
        Ok(Self { signal, thread })
    }

    /// Stops the thread and waits for it.
    pub(crate) fn stop(self) {
        self.signal.stop();
        if self.thread.join().is_err() {
            tracing::error!("the background thread of the log panicked");
        }
    }
}

/// Does what waits, in bounded steps; returns whether there was anything. A failure here is not lost: the log meets it again when it
/// needs what could not be prepared, and then tells the committer.
fn step(log: &Log) -> bool {
    let mut did_any = false;
    loop {
        match log.background_step() {
            Ok(true) => did_any = true,
            Ok(false) => return did_any,
            Err(error) => {
                tracing::warn!(%error, "background work on the log failed");
                return did_any;
            }
        }
    }
}

impl Store {
    /// Does all background work that waits, here and now: for stores opened with [`Background::ByHand`](crate::Background::ByHand),
    /// harmless on others.
    pub fn run_until_idle(&self) {
        while step(&self.inner.log) {}
    }
}
