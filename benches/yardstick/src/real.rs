//! A real history as a workload: keys of many lengths, commits of many sizes, and a state that is mostly old.
//!
//! The file has a line a change, in the order of the commits: number of the commit, `put` or `del`, key, value, with tabs between;
//! what `thermocline export --history` writes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::engine::{At, Direction, Durability, Engine, Options, Scan, Skip, Write};
use crate::failure::{Failure, Outcome};
use crate::meter::{Timed, on_cpu, run_for};
use crate::process::{forget_peak, size_on_disk};
use crate::reading::touch;
use crate::worker::{Answer, Job, Recorder, faster, seconds_each, seed_of, write_back};
use crate::workload::Random;

/// Where a history comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source(pub PathBuf);

/// One write of a commit: which key, and the value or `None`.
type Change = (usize, Option<Vec<u8>>);

/// A history in memory, and by it what every read must answer.
#[derive(Debug, Default)]
struct History {
    /// In byte order.
    keys: Vec<Vec<u8>>,
    /// Version and writes of each commit that has some.
    commits: Vec<(u64, Vec<Change>)>,
    /// For each key its versions, ascending.
    versions: Vec<Vec<(u64, Option<Vec<u8>>)>>,
}

impl History {
    fn read(source: &Source) -> Outcome<Self> {
        let text = std::fs::read(&source.0).map_err(Failure::machine("read the history"))?;
        Self::parse(&text)
    }

    fn parse(text: &[u8]) -> Outcome<Self> {
        let mut lines = Vec::new();
        for (number, line) in (1_u64..).zip(text.split(|byte| *byte == b'\n')).filter(|(_, line)| !line.is_empty()) {
            let broken = || Failure::Usage(format!("line {number} of the history is no change: {}", line.escape_ascii()));
            let mut fields = line.splitn(4, |byte| *byte == b'\t');
            let mut field = || fields.next().ok_or_else(broken);
            let version: u64 = std::str::from_utf8(field()?).ok().and_then(|text| text.parse().ok()).ok_or_else(broken)?;
            let is_put = field()? == b"put";
            let (key, value) = (field()?, field()?);
            lines.push((version, key, is_put.then(|| value.to_vec())));
        }
        let keys: BTreeMap<&[u8], usize> = lines.iter().map(|(_, key, _)| (*key, 0)).collect();
        let keys: BTreeMap<&[u8], usize> = keys.into_keys().zip(0..).collect();
        let mut this = Self { keys: keys.keys().map(|key| key.to_vec()).collect(), ..Self::default() };
        this.versions = vec![Vec::new(); this.keys.len()];
        for (version, key, value) in lines {
            let index = keys.get(key).copied().unwrap_or(0);
            if this.commits.last().is_none_or(|(last, _)| *last != version) {
                this.commits.push((version, Vec::new()));
            }
            if let Some((_, changes)) = this.commits.last_mut() {
                // A key that a commit writes twice has the last value.
                changes.retain(|(other, _)| *other != index);
                changes.push((index, value.clone()));
            }
            let versions = &mut this.versions[index];
            versions.retain(|(other, _)| *other != version);
            versions.push((version, value));
        }
        if this.commits.is_empty() { Err(Failure::Usage("the history is empty".to_owned())) } else { Ok(this) }
    }

    fn last(&self) -> u64 {
        self.commits.last().map_or(0, |(version, _)| *version)
    }

    fn expected(&self, index: usize, at: At) -> Option<&[u8]> {
        let versions = &self.versions[index];
        let newest = versions[..versions.partition_point(|(version, _)| *version <= at.bound())].last()?;
        newest.1.as_deref()
    }

    fn user_bytes(&self) -> u64 {
        let of_change = |(index, value): &Change| (self.keys[*index].len() + value.as_ref().map_or(0, Vec::len)) as u64;
        self.commits.iter().flat_map(|(_, changes)| changes).map(of_change).sum()
    }

    fn entries(&self) -> u64 {
        self.commits.iter().map(|(_, changes)| changes.len() as u64).sum()
    }

    fn load(&self, engine: &impl Engine) -> Outcome<()> {
        for (version, changes) in &self.commits {
            let writes: Vec<Write<'_>> = changes
                .iter()
                .map(|(index, value)| Write { table: 0, key: &self.keys[*index], value: value.as_deref() })
                .collect();
            engine.commit(Some(*version), &writes, Durability::Buffered)?;
        }
        Ok(())
    }

    fn points(&self, engine: &impl Engine, is_latest: bool, slice: Duration, seed: u64) -> Outcome<Timed> {
        const CHECK_ONE_IN: u64 = 64;
        let mut wrong = None;
        let mut read = |number: u64, random: &mut Random| {
            let mut below = |count: usize| random.below(u32::try_from(count).unwrap_or(u32::MAX)) as usize;
            let index = below(self.keys.len());
            let at = if is_latest { At::Latest } else { At::Version(self.commits[below(self.commits.len())].0) };
            let is_checked = number.is_multiple_of(CHECK_ONE_IN);
            engine.get(0, &self.keys[index], at, &mut |value| {
                touch(value);
                if is_checked && value != self.expected(index, at) {
                    wrong = Some((index, at));
                }
            })?;
            Ok(1)
        };
        // First others of the same kind, which bring into the caches what such reads keep there.
        let (mut before, mut random) = (Random::new(seed_of(seed, "lead-in")), Random::new(seed));
        run_for(slice, 64, |number| read(number, &mut before))?;
        let timed = run_for(slice, 256, |number| read(number, &mut random))?;
        match wrong {
            Some((index, at)) => Err(Failure::Wrong(format!("{} at {at:?}", self.keys[index].escape_ascii()))),
            None => Ok(timed),
        }
    }

    /// A full scan that is checked whole, and another that is timed.
    fn full_scan(&self, engine: &impl Engine, at: At, skip: Skip) -> Outcome<Timed> {
        let mut found = Vec::with_capacity(self.keys.len());
        let scan = Scan { table: 0, from: None, direction: Direction::Forward, at, limit: usize::MAX, skip };
        engine.scan(&scan, &mut |key, value| found.push((key.to_vec(), value.to_vec())))?;
        let expected = (0..self.keys.len()).filter_map(|index| Some((&self.keys[index], self.expected(index, at)?)));
        let is_right = expected.clone().count() == found.len()
            && expected.zip(&found).all(|((key, value), (found_key, found_value))| key == found_key && value == found_value);
        if !is_right {
            return Err(Failure::Wrong(format!("a full scan at {at:?} of {} rows", found.len())));
        }
        Timed::of(found.len() as u64, || {
            engine.scan(&scan, &mut |key, value| {
                touch(Some(key));
                touch(Some(value));
            })
        })
    }

    /// What differs between two versions: checked whole, then timed.
    /// Seconds for one difference, of as many as a slice has room for, and its keys.
    fn diff(&self, engine: &impl Engine, from: u64, to: u64, skip: Skip, slice: Duration) -> Outcome<(f64, usize)> {
        let mut found = Vec::new();
        engine.diff(0, from, to, skip, &mut |key, before, after| {
            found.push((key.to_vec(), before.map(<[u8]>::to_vec), after.map(<[u8]>::to_vec)));
        })?;
        let side = |index, version| self.expected(index, At::Version(version)).map(<[u8]>::to_vec);
        let both = (0..self.keys.len()).map(|index| (self.keys[index].clone(), side(index, from), side(index, to)));
        let expected: Vec<_> = both.filter(|(_, before, after)| before != after).collect();
        if found != expected {
            return Err(Failure::Wrong(format!("{} keys, not {}", found.len(), expected.len())));
        }
        let seconds = seconds_each(slice, || {
            engine.diff(0, from, to, skip, &mut |key, before, after| {
                touch(Some(key));
                touch(before);
                touch(after);
            })
        })?;
        Ok((seconds, expected.len()))
    }
}

/// All phases over a history.
pub(crate) fn run<E: Engine>(job: &Job, source: &Source, mut options: Options) -> Outcome<Answer> {
    let history = History::read(source)?;
    options.data_bytes = history.user_bytes();
    forget_peak();
    let mut recorder = Recorder::start();
    let outcome = E::open(&options).and_then(|engine| phases(job, &history, &options, &mut recorder, engine));
    Ok(Answer::new::<E>(&options, recorder.finish(outcome)))
}

fn phases<E: Engine>(job: &Job, history: &History, options: &Options, recorder: &mut Recorder, mut engine: E) -> Outcome<()> {
    let (began, user_bytes) = (Instant::now(), history.user_bytes() as f64);
    recorder.phase("load", || Ok((Timed::of(history.entries(), || history.load(&engine))?.rate(), String::new())));
    if !recorder.is_measured() {
        return Err(Failure::Usage("the history was not loaded".to_owned()));
    }
    recorder.phase("load-settled", || {
        engine.settle()?;
        write_back(&options.directory)?;
        Ok((history.entries() as f64 / began.elapsed().as_secs_f64(), String::new()))
    });
    let written = recorder.written_bytes() as f64 / user_bytes;
    recorder.note("written", written);
    engine.compact()?;
    write_back(&options.directory)?;
    recorder.note("size", size_on_disk(&options.directory) as f64 / user_bytes);
    let mut reopened = None;
    recorder.phase("reopen", || {
        let began = Instant::now();
        engine.close()?;
        let engine = E::open(options)?;
        let mut answer = None;
        engine.get(0, &history.keys[0], At::Latest, &mut |value| answer = Some(value.map(<[u8]>::to_vec)))?;
        let seconds = began.elapsed().as_secs_f64();
        reopened = Some(engine);
        match answer {
            Some(value) if value.as_deref() == history.expected(0, At::Latest) => Ok((seconds, String::new())),
            _ => Err(Failure::Wrong("the first read after opening again".to_owned())),
        }
    });
    let engine = reopened.ok_or_else(|| Failure::Usage("the store could not be opened again".to_owned()))?;
    let (slice, cpu) = (Duration::from_millis(job.slice_ms), job.cpus.last().copied().unwrap_or(0));
    let mut read = |name: &str, measure: &(dyn Fn() -> Outcome<(f64, String)> + Sync)| {
        recorder.phase(name, || on_cpu(cpu, measure));
    };
    for (name, is_latest) in [("get", true), ("get-at", false)] {
        read(name, &|| Ok((history.points(&engine, is_latest, slice, seed_of(job.seed, name))?.rate(), String::new())));
    }
    let last = history.last();
    for (name, at) in [("scan-full", At::Latest), ("scan-full-at", At::Version(last / 2 + 1))] {
        read(name, &|| {
            let (skip, note) = faster::<E>(|skip| Ok(history.full_scan(&engine, at, skip)?.rate()))?;
            Ok((history.full_scan(&engine, at, skip)?.rate(), note))
        });
    }
    let from = last - (last / 100).max(1);
    read("diff", &|| {
        let (skip, _) = faster::<E>(|skip| Ok(1.0 / history.diff(&engine, from, last, skip, Duration::ZERO)?.0))?;
        let (seconds, keys) = history.diff(&engine, from, last, skip, slice)?;
        Ok((seconds, format!("{keys} keys")))
    });
    engine.close()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_answers_for_every_version() {
        let history = History::parse(b"1\tput\tb\tx\n1\tput\ta\ty\n3\tdel\tb\t\n3\tput\tc\tz z\n").unwrap();
        assert_eq!(history.keys, [b"a", b"b", b"c"]);
        assert_eq!((history.last(), history.entries(), history.user_bytes()), (3, 4, 3 + 1 + 1 + 4));
        let at = |index, version| history.expected(index, At::Version(version));
        assert_eq!((at(1, 0), at(1, 1), at(1, 2), at(1, 3)), (None, Some(b"x".as_slice()), Some(b"x".as_slice()), None));
        assert_eq!(history.expected(2, At::Latest), Some(b"z z".as_slice()));
    }

    #[test]
    fn a_line_that_is_no_change_is_named() {
        let error = History::parse(b"1\tput\ta\tb\nnonsense\n").unwrap_err();
        assert!(error.to_string().contains("line 2"), "{error}");
    }
}
