//! Fixed small workloads whose instructions `cargo xtask bench --gate` counts: `gate NAME DIRECTORY` prepares one, and runs it once inside
//! [`measured`], which is all that is counted.

#![forbid(unsafe_code)]
#![expect(clippy::print_stderr, reason = "a program for automation: it talks to a terminal")]

use std::path::Path;
use std::process::ExitCode;

use thermocline_yardstick::engine::{At, Direction, Engine, Options, Scan, Skip, Table};
use thermocline_yardstick::failure::{Failure, Outcome};
use thermocline_yardstick::reading;
use thermocline_yardstick::spec::CACHE_BYTES;
use thermocline_yardstick::thermocline::Thermocline;
use thermocline_yardstick::worker;
use thermocline_yardstick::workload::{KEY_SIZE_BYTES, Random, Workload, place_of};

const KEYS: u32 = 12_000;
const ROUNDS: u32 = 4;
const READS: u32 = 10_000;
const SCANS: u32 = 100;
const TABLES: Table = 4;
const SEED: u64 = 7;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match words.as_slice() {
        [name, directory] => run(name, Path::new(directory)),
        _ => Err(Failure::Usage("usage: gate NAME DIRECTORY".to_owned())),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// The one function whose instructions are counted; never inlined, so that it can be named.
#[inline(never)]
fn measured<T>(work: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    work()
}

fn run(name: &str, directory: &Path) -> Outcome<()> {
    let workload = Workload::new(KEYS, ROUNDS, SEED);
    let options = Options {
        directory: directory.to_path_buf(),
        cache_bytes: CACHE_BYTES,
        data_bytes: 0,
        key_len: Some(KEY_SIZE_BYTES),
        value_len: None,
        has_durable_commits: false,
    };
    let mut engine = Thermocline::open(&options)?;
    if name == "load" {
        measured(|| worker::load(&engine, &workload))?;
        return engine.close();
    }
    worker::load(&engine, &workload)?;
    let last = workload.last_version().0;
    // The same reads in memory, and, as `settled-NAME`, in files at rest whose blocks are cached.
    let (name, is_settled) = name.strip_prefix("settled-").map_or((name, false), |name| (name, true));
    if is_settled {
        engine.settle()?;
        engine.compact()?;
        for at in [At::Latest, At::Version(last / 2)] {
            (0..TABLES).try_for_each(|table| scan(&engine, table, None, at, usize::MAX))?;
        }
    }
    match name {
        "reopen" => {
            engine.close()?;
            return measured(|| Thermocline::open(&options))?.close();
        }
        "get" => measured(|| gets(&engine, &workload, |_| At::Latest))?,
        "get-at" => measured(|| gets(&engine, &workload, |random| At::Version(random.next_word() % last + 1)))?,
        "get-16" => measured(|| many(&engine, &workload))?,
        "scan" => measured(|| scans(&engine, &workload, At::Latest))?,
        "scan-at" => measured(|| scans(&engine, &workload, At::Version(last / 2)))?,
        "scan-full" => measured(|| scan(&engine, 0, None, At::Latest, usize::MAX))?,
        "diff" => measured(|| reading::diff(&engine, last - last / 10, last, Skip::Step).map(drop))?,
        other => return Err(Failure::Usage(format!("there is no workload {other:?}"))),
    }
    engine.close()
}

fn gets(engine: &impl Engine, workload: &Workload, at: impl Fn(&mut Random) -> At) -> Outcome<()> {
    let mut random = Random::new(SEED);
    for _ in 0..READS {
        let index = random.below(KEYS);
        let at = at(&mut random);
        engine.get(place_of(index), &workload.key(index), at, &mut reading::touch)?;
    }
    Ok(())
}

fn many(engine: &impl Engine, workload: &Workload) -> Outcome<()> {
    let mut random = Random::new(SEED);
    for _ in 0..READS / 16 {
        let keys: [[u8; KEY_SIZE_BYTES]; 16] = std::array::from_fn(|_| workload.key(random.below(KEYS / 4) * 4));
        engine.get_many(0, &keys.each_ref().map(<[u8; KEY_SIZE_BYTES]>::as_slice), At::Latest, &mut reading::touch)?;
    }
    Ok(())
}

fn scans(engine: &impl Engine, workload: &Workload, at: At) -> Outcome<()> {
    let mut random = Random::new(SEED);
    for _ in 0..SCANS {
        let from = random.below(KEYS);
        scan(engine, place_of(from), Some(workload.key(from).as_slice()), at, reading::SCAN_ROWS)?;
    }
    Ok(())
}

fn scan(engine: &impl Engine, table: Table, from: Option<&[u8]>, at: At, limit: usize) -> Outcome<()> {
    let scan = Scan { table, from, direction: Direction::Forward, at, limit, skip: Skip::Step };
    engine.scan(&scan, &mut |_, value| reading::touch(Some(value)))
}
