//! One engine through one workload, once: runs in a process of its own, so that memory, processor time and written bytes are the
//! engine's, and one engine's crash or leak is no other's.

use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use thermocline::Version;

use crate::engine::{At, Direction, Durability, Engine, Options, Scan, Settings, Skip, Write};
use crate::failure::{Failure, Outcome};
use crate::meter::{Meter, Timed, join, on_cpu, pin, run_for};
use crate::process::{Usage, forget_peak, size_on_disk};
use crate::reading::{Point, Scans, check_diff, diff, full_scan, many, points, scans};
use crate::spec::{Kind, Spec};
use crate::workload::{COMMIT_ENTRIES, KEY_SIZE_BYTES, Random, Workload, Zipf, place_of};

/// What a worker is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    /// The engine's name.
    pub engine: String,
    /// The workload.
    pub spec: Spec,
    /// Seeds keys, values and orders.
    pub seed: u64,
    /// How long one loop of reads or commits lasts, in milliseconds.
    pub slice_ms: u64,
    /// An empty directory for the store.
    pub directory: PathBuf,
    /// The processors that measuring threads are tied to.
    pub cpus: Vec<usize>,
    /// For [`Kind::Real`]: the history.
    pub history: Option<crate::real::Source>,
}

/// What became of a phase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// It was measured, and no answer was found to be wrong.
    Measured,
    /// The engine cannot do it, and says why.
    Unsupported(String),
    /// It answered wrongly: whatever was measured says nothing.
    Wrong(String),
    /// It failed.
    Failed(String),
}

/// The figure of one phase.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// The phase's name.
    pub phase: String,
    /// In the phase's unit; 0 unless it was measured.
    pub value: f64,
    /// How long the phase took, all that is not timed included; 0 where nothing ran.
    pub seconds: f64,
    /// Processors that the engine's process used meanwhile, on average.
    pub own_cpus: f64,
    /// Processors that others used.
    pub foreign_cpus: f64,
    /// What became of it.
    pub status: Status,
    /// How it was measured, where there was a choice.
    pub note: String,
}

/// What a worker answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// How the engine was set up.
    pub settings: Settings,
    /// As [`Engine::KEEPS_VERSIONS`].
    pub keeps_versions: bool,
    /// As [`Engine::PROMISES_LESS_IN`].
    pub promises_less_in: Vec<String>,
    /// The phases, in order.
    pub figures: Vec<Figure>,
}

/// The seed of a phase: each reads other keys than the one before, which are in the caches by then.
pub(crate) fn seed_of(seed: u64, phase: &str) -> u64 {
    // FNV-1a; Random mixes it further.
    phase.bytes().fold(seed ^ 0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// A figure with a remark.
type Measured = (f64, String);

/// Runs the job.
pub fn run<E: Engine>(job: &Job) -> Outcome<Answer> {
    let options = Options {
        directory: job.directory.clone(),
        cache_bytes: job.spec.cache_bytes,
        data_bytes: job.spec.user_bytes(),
        key_len: (job.spec.kind != Kind::Real).then_some(KEY_SIZE_BYTES),
        value_len: (job.spec.kind != Kind::Real).then_some(job.spec.value_size_bytes),
        has_durable_commits: job.spec.kind == Kind::Commits,
    };
    if let (Kind::Real, Some(source)) = (job.spec.kind, &job.history) {
        return crate::real::run::<E>(job, source, options);
    }
    let workload = Workload::new(job.spec.keys, job.spec.rounds, job.seed).with_value_size(job.spec.value_size_bytes);
    forget_peak();
    let mut worker = Worker { job, workload: &workload, recorder: Recorder::start(), options };
    let outcome = E::open(&worker.options).and_then(|engine| match job.spec.kind {
        Kind::Whole => worker.whole(engine),
        Kind::Curve => worker.curve(engine),
        Kind::Mixed => worker.mixed(engine),
        Kind::Commits => worker.commits(engine),
        Kind::Real => Err(Failure::Usage("workload H needs --tsv FILE or --git REPOSITORY".to_owned())),
    });
    Ok(Answer::new::<E>(&worker.options, worker.recorder.finish(outcome)))
}

impl Answer {
    pub(crate) fn new<E: Engine>(options: &Options, figures: Vec<Figure>) -> Self {
        let promises_less_in = E::PROMISES_LESS_IN.iter().map(|phase| (*phase).to_owned()).collect();
        Self { settings: E::settings(options), keeps_versions: E::KEEPS_VERSIONS, promises_less_in, figures }
    }
}

/// Notes figures, and what the process used.
#[derive(Debug)]
pub(crate) struct Recorder {
    figures: Vec<Figure>,
    before: Usage,
    meter: Meter,
    began: Instant,
}

impl Recorder {
    pub(crate) fn start() -> Self {
        Self { figures: Vec::new(), before: Usage::now(), meter: Meter::start(), began: Instant::now() }
    }

    /// Runs and notes a phase. A phase that fails does not keep the others from being run.
    pub(crate) fn phase(&mut self, name: &str, measure: impl FnOnce() -> Outcome<Measured>) {
        let meter = Meter::start();
        let outcome = measure();
        let load = meter.stop();
        let (value, note, status) = match outcome {
            Ok((value, note)) => (value, note, Status::Measured),
            Err(Failure::Unsupported(why)) => (0.0, String::new(), Status::Unsupported(why)),
            Err(Failure::Wrong(what)) => (0.0, String::new(), Status::Wrong(what)),
            Err(failure) => (0.0, String::new(), Status::Failed(failure.to_string())),
        };
        let (seconds, own_cpus, foreign_cpus) = (load.wall.as_secs_f64(), load.own_cpus, load.foreign_cpus);
        self.figures.push(Figure { phase: name.to_owned(), value, seconds, own_cpus, foreign_cpus, status, note });
    }

    /// Notes a figure that is read off rather than timed.
    pub(crate) fn note(&mut self, name: &str, value: f64) {
        let status = Status::Measured;
        self.figures.push(Figure {
            phase: name.to_owned(),
            value,
            seconds: 0.0,
            own_cpus: 0.0,
            foreign_cpus: 0.0,
            status,
            note: String::new(),
        });
    }

    /// A phase that was measured has turned out to be wrong.
    fn void(&mut self, name: &str, what: String) {
        if let Some(figure) = self.figures.iter_mut().find(|figure| figure.phase == name) {
            (figure.value, figure.status) = (0.0, Status::Wrong(what));
        }
    }

    /// Whether the last phase was measured.
    pub(crate) fn is_measured(&self) -> bool {
        self.figures.last().is_some_and(|figure| figure.status == Status::Measured)
    }

    pub(crate) fn written_bytes(&self) -> u64 {
        Usage::now().written_bytes.saturating_sub(self.before.written_bytes)
    }

    /// The figures, with those of the whole run, and with what ended it before its time.
    pub(crate) fn finish(mut self, outcome: Outcome<()>) -> Vec<Figure> {
        if let Err(failure) = outcome {
            self.phase(END, || Err(failure));
            return self.figures;
        }
        let peak = Usage::now().peak_memory_bytes.saturating_sub(self.before.memory_bytes);
        let cpu = self.meter.stop().own_cpus * self.began.elapsed().as_secs_f64();
        self.note("memory", peak as f64 / f64::from(1 << 20));
        self.note("cpu", cpu);
        self.figures
    }
}

/// The name under which stands why a run ended before its time: all phases that it has not come to have failed.
pub(crate) const END: &str = "end";

/// Waits for the system to have written back what it holds, so that it does not do so during the next phase.
pub(crate) fn write_back(directory: &Path) -> Outcome<()> {
    let directory = std::fs::File::open(directory).map_err(Failure::machine("open the store's directory"))?;
    rustix::fs::syncfs(directory).map_err(|error| Failure::Machine { what: "wait for write-back", source: error.into() })
}

/// How many seconds one of these takes: the mean of as many as a slice has room for, at least one.
pub(crate) fn seconds_each(slice: Duration, mut work: impl FnMut() -> Outcome<()>) -> Outcome<f64> {
    let (began, mut count) = (Instant::now(), 0_u32);
    loop {
        work()?;
        count += 1;
        if began.elapsed() >= slice {
            return Ok(began.elapsed().as_secs_f64() / f64::from(count));
        }
    }
}

fn per_second(timed: &Timed) -> Measured {
    (timed.rate(), String::new())
}

struct Worker<'a> {
    job: &'a Job,
    workload: &'a Workload,
    recorder: Recorder,
    options: Options,
}

impl Worker<'_> {
    fn slice(&self) -> Duration {
        Duration::from_millis(self.job.slice_ms)
    }

    fn cpu(&self, number: usize) -> usize {
        let cpus = &self.job.cpus;
        cpus.get(number % cpus.len().max(1)).copied().unwrap_or(0)
    }

    /// Runs a phase that reads, on a thread that is tied to a processor: the last one, since interrupts tend to go to the first.
    fn read_phase(&mut self, name: &str, measure: impl FnOnce(&Workload, Duration, u64) -> Outcome<Measured> + Send) {
        let (workload, slice, seed) = (self.workload, self.slice(), seed_of(self.job.seed, name));
        let cpu = self.cpu(self.job.cpus.len().saturating_sub(1));
        self.recorder.phase(name, || on_cpu(cpu, || measure(workload, slice, seed)));
    }

    /// Loads the workload, settles it, and brings it into the form in which it is read. Fails if that does.
    fn load<E: Engine>(&mut self, engine: &mut E) -> Outcome<()> {
        let began = Instant::now();
        let workload = self.workload;
        self.recorder.phase("load", || Ok(per_second(&Timed::of(workload.entries(), || load(&*engine, workload))?)));
        if !self.recorder.is_measured() {
            // Whatever is there is a part of it: to measure that would flatter.
            return Err(Failure::Usage("the workload was not loaded".to_owned()));
        }
        let directory = &self.options.directory;
        self.recorder.phase("load-settled", || {
            engine.settle()?;
            write_back(directory)?;
            Ok((workload.entries() as f64 / began.elapsed().as_secs_f64(), String::new()))
        });
        let user_bytes = workload.user_bytes() as f64;
        let written = self.recorder.written_bytes() as f64 / user_bytes;
        self.recorder.note("written", written);
        engine.compact()?;
        write_back(directory)?;
        self.recorder.note("size", size_on_disk(directory) as f64 / user_bytes);
        Ok(())
    }

    /// Reads everything once, as of the middle and now: some engines have filled their caches by loading, others not at all, and some keep
    /// history apart. What is wrong or not supported shows in the phases that follow, each of which begins with reads of its own kind.
    fn warm<E: Engine>(&self, engine: &E) -> Outcome<()> {
        for at in [At::Version(self.workload.last_version().0 / 2), At::Latest] {
            let scan = |table| {
                let direction = Direction::Forward;
                engine.scan(&Scan { table, from: None, direction, at, limit: usize::MAX, skip: Skip::Step }, &mut |_, _| {})
            };
            match (0..4).try_for_each(scan) {
                Ok(()) | Err(Failure::Unsupported(_) | Failure::Wrong(_)) => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }

    fn reopen<E: Engine>(&mut self, engine: E) -> Outcome<E> {
        let (options, workload) = (&self.options, self.workload);
        let mut reopened = None;
        self.recorder.phase("reopen", || {
            let began = Instant::now();
            engine.close()?;
            let engine = E::open(options)?;
            let mut answer = None;
            engine.get(place_of(0), &workload.key(0), At::Latest, &mut |value| answer = Some(value.map(<[u8]>::to_vec)))?;
            let seconds = began.elapsed().as_secs_f64();
            reopened = Some(engine);
            match answer {
                Some(value) if value == workload.expected(0, Version::MAX) => Ok((seconds, String::new())),
                _ => Err(Failure::Wrong("the first read after opening again".to_owned())),
            }
        });
        reopened.ok_or_else(|| Failure::Usage("the store could not be opened again".to_owned()))
    }

    fn gets<E: Engine>(&mut self, engine: &E) {
        self.read_phase("get", |workload, slice, seed| Ok(per_second(&points(engine, workload, Point::Latest, slice, seed)?)));
        self.read_phase("get-at", |workload, slice, seed| Ok(per_second(&points(engine, workload, Point::AsOf, slice, seed)?)));
    }

    /// Tries both ways of skipping where there are two, and keeps the faster.
    fn scans<E: Engine>(&mut self, engine: &E, name: &str, direction: Direction, point: Point) {
        self.read_phase(name, |workload, slice, seed| {
            let run = |skip, slice, seed| scans(engine, workload, Scans { direction, point, skip }, slice, seed);
            // Other keys than those that are measured then, and each way others, or they would be in the caches.
            let trial = |skip| seed_of(seed, if skip == Skip::Step { "steps" } else { "seeks" });
            let (skip, note) = faster::<E>(|skip| Ok(run(skip, slice / 4, trial(skip))?.rate()))?;
            Ok((run(skip, slice, seed)?.rate(), note))
        });
    }

    fn full_scan<E: Engine>(&mut self, engine: &E, name: &str, at: At) {
        self.read_phase(name, |workload, _, _| {
            let run = |skip| Ok(full_scan(engine, workload, at, skip)?.rate());
            let (skip, note) = faster::<E>(run)?;
            Ok((run(skip)?, note))
        });
    }

    fn whole<E: Engine>(&mut self, mut engine: E) -> Outcome<()> {
        self.load(&mut engine)?;
        let mut engine = self.reopen(engine)?;
        self.warm(&engine)?;
        self.gets(&engine);
        self.two_readers(&engine);
        for (name, point) in [("get-16", Point::Latest), ("get-16-at", Point::AsOf)] {
            self.read_phase(name, |workload, slice, seed| Ok(per_second(&many(&engine, workload, point, slice, seed)?)));
        }
        self.read_phase("get-missing", |workload, slice, seed| {
            Ok(per_second(&points(&engine, workload, Point::Missing, slice, seed)?))
        });
        self.scans(&engine, "scan", Direction::Forward, Point::Latest);
        self.scans(&engine, "scan-reverse", Direction::Reverse, Point::Latest);
        self.scans(&engine, "scan-at", Direction::Forward, Point::AsOf);
        let last = self.workload.last_version().0;
        self.full_scan(&engine, "scan-full", At::Latest);
        self.full_scan(&engine, "scan-full-at", At::Version(last / 2 + 1));
        let from = last - (last / 100).max(1);
        self.read_phase("diff", |workload, slice, _| {
            let expected = check_diff(&engine, workload, from, last, Skip::Step)?;
            check_diff(&engine, workload, from, last, Skip::Seek)?;
            let run = |skip| match diff(&engine, from, last, skip)? {
                found if found == expected => Ok(()),
                found => Err(Failure::Wrong(format!("{found} keys, then {expected}"))),
            };
            let (skip, _) = faster::<E>(|skip| Ok(1.0 / seconds_each(Duration::ZERO, || run(skip))?))?;
            Ok((seconds_each(slice, || run(skip))?, format!("{expected} keys")))
        });
        self.reclaim(&mut engine);
        engine.close()
    }

    /// Reclaims all that only reads before the last version see, and checks that what that version sees is what it was.
    fn reclaim<E: Engine>(&mut self, engine: &mut E) {
        let (workload, directory) = (self.workload, self.options.directory.clone());
        let horizon = workload.last_version().0;
        if workload.rounds < 2 {
            // Nothing but tombstones would go.
            return;
        }
        self.recorder.phase("reclaim", || {
            let began = Instant::now();
            engine.reclaim(horizon)?;
            engine.settle()?;
            engine.compact()?;
            let seconds = began.elapsed().as_secs_f64();
            for index in (0..workload.keys).step_by((workload.keys as usize / 1_000).max(1)) {
                for at in [At::Latest, At::Version(horizon)] {
                    let mut answer = None;
                    let key = workload.key(index);
                    engine.get(place_of(index), &key, at, &mut |value| answer = value.map(<[u8]>::to_vec))?;
                    if answer != workload.expected(index, Version(horizon)) {
                        return Err(Failure::Wrong(format!("key {index} at {at:?} after reclaiming up to {horizon}")));
                    }
                }
            }
            check_reclaimed(&*engine, workload, horizon)?;
            Ok((seconds, String::new()))
        });
        if self.recorder.is_measured() {
            let size = size_on_disk(&directory) as f64 / workload.user_bytes() as f64;
            self.recorder.note("size-reclaimed", size);
        }
    }

    fn curve<E: Engine>(&mut self, mut engine: E) -> Outcome<()> {
        self.load(&mut engine)?;
        self.warm(&engine)?;
        self.gets(&engine);
        self.scans(&engine, "scan", Direction::Forward, Point::Latest);
        self.scans(&engine, "scan-at", Direction::Forward, Point::AsOf);
        engine.close()
    }

    fn two_readers<E: Engine>(&mut self, engine: &E) {
        let (workload, slice, seed) = (self.workload, self.slice(), seed_of(self.job.seed, "get-2"));
        let cpus = [self.cpu(0), self.cpu(1)];
        self.recorder.phase("get-2", || {
            let rates = in_parallel(&cpus, |number| points(engine, workload, Point::Latest, slice, seed + number as u64))?;
            Ok((rates.iter().map(Timed::rate).sum(), String::new()))
        });
    }

    fn mixed<E: Engine>(&mut self, mut engine: E) -> Outcome<()> {
        self.load(&mut engine)?;
        self.warm(&engine)?;
        let last: Vec<AtomicU32> = (0..self.workload.keys).map(|_| AtomicU32::new(0)).collect();
        let zipf = Zipf::new(self.workload.keys);
        for (name, reads_percent, threads) in [
            ("mixed-95-1", 95, 1),
            ("mixed-95-2", 95, 2),
            ("mixed-95-4", 95, 4),
            ("mixed-50-1", 50, 1),
            ("mixed-50-2", 50, 2),
            ("mixed-50-4", 50, 4),
        ] {
            let (workload, slice, seed) = (self.workload, self.slice(), seed_of(self.job.seed, name));
            let cpus: Vec<usize> = (0..threads).map(|number| self.cpu(number)).collect();
            let mix = Mix { workload, zipf: &zipf, reads_percent, threads: u32::try_from(threads).unwrap_or(1), last: &last };
            self.recorder.phase(name, || {
                let rates = in_parallel(&cpus, |number| mix.run(&engine, number, slice, seed + number as u64))?;
                Ok((rates.iter().map(Timed::rate).sum(), String::new()))
            });
        }
        engine.close()
    }

    fn commits<E: Engine>(&mut self, engine: E) -> Outcome<()> {
        // A commit with a version comes before those without.
        load(&engine, self.workload)?;
        engine.settle()?;
        write_back(&self.options.directory)?;
        let (workload, slice, seed) = (self.workload, self.slice(), self.job.seed);
        let file = self.options.directory.with_extension("bare");
        let bare = || Ok::<f64, Failure>(bare_syncs(&file, slice / 2)?.rate());
        self.recorder.phase("single", || {
            let commits = Commits { workload, first: 0, threads: 1, durability: Durability::Buffered };
            let (timed, last) = commits.run(&engine, 0, slice, seed)?;
            commits.check(&engine, &last)?;
            Ok(per_second(&timed))
        });
        let (mut before, mut all, mut acknowledged) = (bare()?, Vec::new(), Vec::new());
        all.push(before);
        for (name, threads) in [("sync-1", 1), ("sync-8", 8), ("sync-32", 32)] {
            let commits = Commits { workload, first: threads, threads, durability: Durability::Sync };
            let mut after = before;
            self.recorder.phase(name, || {
                let ran = untied(&vec![None; threads as usize], |number| {
                    commits.run(&engine, number, slice, seed_of(seed, name) + number as u64)
                })?;
                after = bare()?;
                let last: Vec<Last> = ran.iter().flat_map(|(_, last)| last).copied().collect();
                commits.check(&engine, &last)?;
                acknowledged.push((name, commits, last));
                let rate: f64 = ran.iter().map(|(timed, _)| timed.rate()).sum();
                let note = format!(
                    "{:.2} a bare sync, of which there were {before:.0} and {after:.0} a second around it",
                    rate * 2.0 / (before + after)
                );
                Ok((rate, note))
            });
            all.push(after);
            before = after;
        }
        all.sort_by(f64::total_cmp);
        self.recorder.note("fdatasync", all[all.len() / 2]);
        engine.close()?;
        // What was acknowledged as durable is there when the store is opened again.
        let engine = E::open(&self.options)?;
        for (name, commits, last) in &acknowledged {
            match commits.check(&engine, last) {
                Err(Failure::Wrong(what)) => self.recorder.void(name, format!("after closing and opening: {what}")),
                other => other?,
            }
        }
        engine.close()
    }
}

/// The last commit of a key that was acknowledged: the key, and the round of its value.
type Last = (u32, u32);

/// Commits of one entry each, of keys that no other thread and no other phase writes.
#[derive(Clone, Copy)]
struct Commits<'a> {
    workload: &'a Workload,
    /// Keys are told apart by what is left when their number is divided by [`Commits::LANES`]: these belong to the first thread.
    first: u32,
    threads: u32,
    durability: Durability,
}

impl Commits<'_> {
    /// More than all threads of all phases.
    const LANES: u32 = 80;

    /// Commits for a while, and gives back the last ones of all keys that had any.
    fn run(&self, engine: &impl Engine, number: usize, slice: Duration, seed: u64) -> Outcome<(Timed, Vec<Last>)> {
        let lane = self.first + u32::try_from(number).unwrap_or(0);
        let keys = self.workload.keys / Self::LANES;
        let (mut random, mut rounds) = (Random::new(seed), vec![None; keys as usize]);
        let stride = if self.durability == Durability::Sync { 1 } else { 16 };
        let timed = run_for(slice, stride, |round| {
            let key = random.below(keys);
            rounds[key as usize] = Some(write_one(engine, self.workload, key * Self::LANES + lane, round, self.durability)?);
            Ok(1)
        })?;
        let last = (0..keys).zip(rounds).filter_map(|(key, round)| Some((key * Self::LANES + lane, round?)));
        Ok((timed, last.collect()))
    }

    /// Every key has what was committed last.
    fn check(&self, engine: &impl Engine, last: &[Last]) -> Outcome<()> {
        for (index, round) in last {
            let expected = self.workload.value(*index, *round);
            let mut is_right = false;
            engine.get(place_of(*index), &self.workload.key(*index), At::Latest, &mut |value| {
                is_right = value == Some(&expected);
            })?;
            if !is_right {
                let threads = self.threads;
                return Err(Failure::Wrong(format!(
                    "a commit of key {index} by one of {threads} threads was acknowledged, and is not there"
                )));
            }
        }
        Ok(())
    }
}

/// Which way of skipping is faster, and its name; without a choice no name.
pub(crate) fn faster<E: Engine>(rate: impl Fn(Skip) -> Outcome<f64>) -> Outcome<(Skip, String)> {
    if !E::HAS_SKIPS {
        return Ok((Skip::Step, String::new()));
    }
    let (step, seek) = (rate(Skip::Step)?, rate(Skip::Seek)?);
    Ok(if step >= seek { (Skip::Step, "steps".to_owned()) } else { (Skip::Seek, "seeks".to_owned()) })
}

/// Runs `work` at once on as many threads as there are processors named, each tied to its own.
fn in_parallel<T: Send>(cpus: &[usize], work: impl Fn(usize) -> Outcome<T> + Sync) -> Outcome<Vec<T>> {
    let cpus: Vec<Option<usize>> = cpus.iter().copied().map(Some).collect();
    untied(&cpus, work)
}

fn untied<T: Send>(cpus: &[Option<usize>], work: impl Fn(usize) -> Outcome<T> + Sync) -> Outcome<Vec<T>> {
    let (barrier, work) = (Barrier::new(cpus.len()), &work);
    std::thread::scope(|scope| {
        let threads: Vec<_> = cpus
            .iter()
            .enumerate()
            .map(|(number, cpu)| {
                let barrier = &barrier;
                scope.spawn(move || {
                    let tied = cpu.map_or(Ok(()), pin);
                    barrier.wait();
                    tied?;
                    work(number)
                })
            })
            .collect();
        threads.into_iter().map(join).collect()
    })
}

/// Commits the whole workload, commit n at version n.
pub fn load(engine: &impl Engine, workload: &Workload) -> Outcome<()> {
    let mut keys = vec![[0; KEY_SIZE_BYTES]; COMMIT_ENTRIES];
    let mut values = vec![Vec::new(); COMMIT_ENTRIES];
    let mut version = 0;
    for (round, order) in (0..).zip(workload.orders()) {
        for commit in order.chunks(COMMIT_ENTRIES) {
            for ((index, key), value) in commit.iter().zip(&mut keys).zip(&mut values) {
                *key = workload.key(*index);
                workload.write_value(*index, round, value);
            }
            let writes: Vec<Write<'_>> = commit
                .iter()
                .zip(&keys)
                .zip(&values)
                .map(|((index, key), value)| Write {
                    table: place_of(*index),
                    key,
                    value: (!workload.is_tombstone(*index, round)).then_some(value.as_slice()),
                })
                .collect();
            version += 1;
            engine.commit(Some(version), &writes, Durability::Buffered)?;
        }
    }
    Ok(())
}

/// One commit of one key, with a value that names a round behind those of the workload; answers which.
fn write_one(engine: &impl Engine, workload: &Workload, index: u32, number: u64, durability: Durability) -> Outcome<u32> {
    let round = workload.rounds + u32::try_from(number % LATER_ROUNDS).unwrap_or(0);
    let (key, value) = (workload.key(index), workload.value(index, round));
    engine.commit(None, &[Write { table: place_of(index), key: &key, value: Some(&value) }], durability)?;
    Ok(round)
}

/// What was reclaimed is gone: no read of an old version gives what only that version could see. An engine may refuse such a read.
fn check_reclaimed(engine: &impl Engine, workload: &Workload, horizon: u64) -> Outcome<()> {
    for index in (0..workload.keys).step_by((workload.keys as usize / 100).max(1)) {
        let oldest = workload.version_of(index, 0).0;
        let expected = workload.expected(index, Version(oldest));
        if expected.is_none() {
            continue;
        }
        let mut answer = None;
        let read = engine
            .get(place_of(index), &workload.key(index), At::Version(oldest), &mut |value| answer = value.map(<[u8]>::to_vec));
        if read.is_ok() && answer == expected {
            return Err(Failure::Wrong(format!("key {index} at {oldest} is still there after reclaiming up to {horizon}")));
        }
    }
    Ok(())
}

/// Values of so many rounds are told apart beyond those of the workload.
const LATER_ROUNDS: u64 = 1 << 20;

/// Reads and writes by one distribution. Every key has one thread that writes it, which so knows what it must find.
#[derive(Clone, Copy)]
struct Mix<'a> {
    workload: &'a Workload,
    zipf: &'a Zipf,
    reads_percent: u32,
    threads: u32,
    /// The round of each key's last commit, of any phase; 0 if there was none.
    last: &'a [AtomicU32],
}

impl Mix<'_> {
    fn run(&self, engine: &impl Engine, number: usize, slice: Duration, seed: u64) -> Outcome<Timed> {
        let Self { workload, zipf, reads_percent, threads, last } = *self;
        let own = u32::try_from(number).unwrap_or(0);
        let mut random = Random::new(seed);
        let rounds_max = workload.rounds + u32::try_from(LATER_ROUNDS).unwrap_or(0);
        let mut wrong = None;
        let timed = run_for(slice, 16, |number| {
            let index = zipf.draw(&mut random);
            if random.below(100) >= reads_percent {
                // Each thread writes to every table: numbers that are four apart lie in one.
                let (slot, slots) = (index / 4, workload.keys / 4);
                let slot = (slot - slot % threads + own).min(slots - threads + own);
                let index = slot * 4 + index % 4;
                let round = write_one(engine, workload, index, number, Durability::Buffered)?;
                last[index as usize].store(round, Ordering::Relaxed);
                return Ok(1);
            }
            let is_checked = number % 64 == 0;
            // Before the read: what was acknowledged by then must be seen.
            let round = last[index as usize].load(Ordering::Relaxed);
            engine.get(place_of(index), &workload.key(index), At::Latest, &mut |value| {
                std::hint::black_box(value.map(|value| (value.first(), value.last())));
                if is_checked {
                    let is_right = match value {
                        Some(value) if index / 4 % threads == own && round != 0 => *value == workload.value(index, round),
                        // Another thread's newest value, or what the load left.
                        Some(value) => workload.is_some_rounds_value(index, value, rounds_max),
                        None => round == 0 && workload.expected(index, Version::MAX).is_none(),
                    };
                    wrong = if is_right { wrong } else { Some(index) };
                }
            })?;
            Ok(1)
        })?;
        wrong.map_or(Ok(timed), |index| Err(Failure::Wrong(format!("key {index} beside writers"))))
    }
}

/// Bare syncs of one block, overwritten in place.
fn bare_syncs(path: &Path, slice: Duration) -> Outcome<Timed> {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::create(path).map_err(Failure::machine("make a file to sync"))?;
    let block = [7; 4096];
    let sync = || {
        file.write_all_at(&block, 0)?;
        file.sync_data()
    };
    sync().map_err(Failure::machine("sync a file"))?;
    let timed = run_for(slice, 1, |_| sync().map(|()| 1).map_err(Failure::machine("sync a file")))?;
    std::fs::remove_file(path).map_err(Failure::machine("remove the synced file"))?;
    Ok(timed)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::spec::PHASES;

    #[test]
    fn each_phase_draws_other_keys() {
        let draws = |seed| {
            std::array::from_fn::<u32, 8, _>({
                let mut random = Random::new(seed);
                move |_| random.below(1 << 30)
            })
        };
        let names = || PHASES.iter().map(|phase| phase.name).chain(["lead-in", "steps", "seeks"]);
        let seeds = (42..47).flat_map(|round| names().map(move |name| seed_of(round, name)));
        let drawn: BTreeSet<[u32; 8]> = seeds.map(draws).collect();
        assert_eq!(drawn.len(), 5 * names().count());
    }
}
