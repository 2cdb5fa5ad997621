//! How long versions are kept: policies of tables.

use std::iter;
use std::time::Duration;

use thermocline_tier::{ErrorKind, Result, Version};

use crate::times::{Moment, Times};

/// So many versions at most a ladder keeps one by one.
pub const LADDER_STEPS_MAX: u64 = 16_384;

/// Which versions of a table are kept beyond what readers pin.
///
/// A policy moves the table's horizon forward by itself, so that reads below it fail; it never moves it back: after a change to one that
/// keeps more, what is gone stays gone.
///
/// ```
/// use std::time::Duration;
/// use thermocline_drop::{Retention, Rung};
///
/// let day = Duration::from_secs(86_400);
/// let hour = Duration::from_secs(3600);
/// let ladder = Retention::Ladder(vec![
///     Rung { age: day, every: Duration::ZERO },
///     Rung { age: 30 * day, every: hour },
/// ]);
/// assert!(ladder.check().is_ok());
/// assert!(Retention::NewestVersions(0).check().is_err());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Retention {
    /// All that the store's horizon leaves.
    #[default]
    KeepAll,
    /// Every version from this one on.
    Since(Version),
    /// Every version that is not older than this.
    Age(Duration),
    /// So many of the newest versions of each key, tombstones included, at least 1. They show in the key's history; reads as of a version
    /// below the table's horizon fail, since they could miss keys.
    NewestVersions(u64),
    /// The newest version of each key.
    LatestOnly,
    /// Fewer with age: see [`Rung`]. Ascending ages; steps of which each is a multiple of the one before; of all rungs together at most
    /// [`LADDER_STEPS_MAX`] steps, which are one a day for forty years. What is older than the last rung goes.
    Ladder(Vec<Rung>),
}

/// A part of a [ladder](Retention::Ladder): of the versions that are at most this old, and older than the rung before says.
///
/// ```
/// use std::time::Duration;
///
/// let hourly = thermocline_drop::Rung { age: Duration::from_secs(30 * 86_400), every: Duration::from_secs(3600) };
/// assert!(hourly.every < hourly.age);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rung {
    /// Up to which age.
    pub age: Duration,
    /// The last version of each such span is kept, counted from the Unix epoch; zero, in the first rung alone, keeps every version.
    pub every: Duration,
}

/// When rows of a table expire: they are deleted by a commit of the store's own, soon after their time is over.
///
/// ```
/// use std::time::Duration;
/// use thermocline_drop::{Anchor, Ttl};
///
/// let sessions = Ttl { after: Duration::from_secs(1800), anchor: Anchor::Updated };
/// assert!(sessions.check().is_ok());
/// assert!(Ttl { after: Duration::ZERO, ..sessions }.check().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ttl {
    /// How long a row lives.
    pub after: Duration,
    /// Since when.
    pub anchor: Anchor,
}

/// From when on the life of a row counts.
///
/// ```
/// assert_ne!(thermocline_drop::Anchor::Created, thermocline_drop::Anchor::Updated);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// Since the key was written first, or first since it was deleted last. What a table's policy would let go of the time in which rows
    /// live stays, since it says when they were made.
    Created,
    /// Since the key was written last.
    Updated,
}

impl Ttl {
    /// Whether it is one to work by.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) naming what is wrong with it.
    pub fn check(&self) -> Result<()> {
        if self.after.is_zero() {
            return Err(ErrorKind::InvalidArgument { what: "rows that expire after no time".into() }.into());
        }
        Ok(())
    }
}

impl Retention {
    /// Whether it is one to work by.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) naming what is wrong with it.
    pub fn check(&self) -> Result<()> {
        let refuse = |what: String| Err(ErrorKind::InvalidArgument { what }.into());
        match self {
            Self::NewestVersions(0) => refuse("retention of the newest 0 versions: at least 1 is kept".into()),
            Self::Ladder(rungs) if rungs.is_empty() => refuse("a ladder of retention without rungs".into()),
            Self::Ladder(rungs) => {
                for (number, rung) in rungs.iter().enumerate() {
                    let before = number.checked_sub(1).map(|before| rungs[before]);
                    if rung.age.subsec_nanos() % 1000 != 0 || rung.age > Duration::from_micros(u64::MAX) {
                        return refuse(format!(
                            "rung {} of a ladder ends at {:?}: not whole microseconds, or too many",
                            number + 1,
                            rung.age
                        ));
                    }
                    if before.is_some_and(|before| rung.age <= before.age) || rung.age.is_zero() {
                        return refuse(format!("rung {} of a ladder ends at an age not above the one before", number + 1));
                    }
                    let finer = before.map_or(Duration::ZERO, |before| before.every);
                    let is_multiple = finer.is_zero() || rung.every.as_nanos().is_multiple_of(finer.as_nanos());
                    if number > 0 && rung.every.is_zero() || !is_multiple || rung.every.subsec_nanos() % 1000 != 0 {
                        return refuse(format!(
                            "rung {} of a ladder keeps a version every {:?}: not whole microseconds, or no multiple of the rung before",
                            number + 1,
                            rung.every
                        ));
                    }
                }
                let found = steps_max(rungs);
                if found > LADDER_STEPS_MAX {
                    return Err(ErrorKind::LimitExceeded { what: "the steps of a ladder", found, max: LADDER_STEPS_MAX }.into());
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// From which version on every one is kept at a moment, when `last` is the last version. What a ladder keeps below are its steps.
    pub(crate) fn horizon(&self, now: Moment, last: Version, times: &Times) -> Version {
        let horizon = match self {
            Self::KeepAll => Version::ZERO,
            Self::Since(version) => *version,
            Self::Age(age) => times.version_at(now.before(*age)),
            Self::NewestVersions(_) | Self::LatestOnly => last,
            Self::Ladder(rungs) => times.version_at(now.before(whole_age(rungs))),
        };
        horizon.min(last)
    }

    /// How many of the newest entries of each key are kept, whoever may see them.
    pub(crate) fn newest(&self) -> u64 {
        match self {
            Self::NewestVersions(count) => *count,
            _ => 0,
        }
    }
}

/// Up to which age a ladder keeps every version.
fn whole_age(rungs: &[Rung]) -> Duration {
    rungs.first().filter(|rung| rung.every.is_zero()).map_or(Duration::ZERO, |rung| rung.age)
}

/// The span of which the first rung that keeps fewer than all keeps one version.
fn finest(rungs: &[Rung]) -> Option<Duration> {
    rungs.iter().map(|rung| rung.every).find(|every| !every.is_zero())
}

/// How many ends of spans a ladder holds at most, those that it may need later included.
fn steps_max(rungs: &[Rung]) -> u64 {
    let ages = rungs.iter().map(|rung| rung.age);
    let starts = iter::once(Duration::ZERO).chain(ages);
    let steps = rungs.iter().zip(starts).filter_map(|(rung, start)| {
        let every = if rung.every.is_zero() { finest(rungs)? } else { rung.every };
        Some(rung.age.saturating_sub(start).as_nanos().div_ceil(every.as_nanos()))
    });
    u64::try_from(steps.sum::<u128>()).unwrap_or(u64::MAX)
}

/// The versions that a ladder keeps, or will have to, below its table's horizon: each the last of a span of time. Chosen once, when the
/// span is over, so that what is kept at a moment was kept before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Steps {
    /// The end of the span and its last version, both ascending.
    kept: Vec<(Moment, Version)>,
}

impl Steps {
    pub(crate) fn new(kept: Vec<(Moment, Version)>) -> Self {
        Self { kept }
    }

    pub(crate) fn kept(&self) -> &[(Moment, Version)] {
        &self.kept
    }

    /// Brings them up to a moment. What is below `floor` is gone, but for the steps that were kept.
    pub(crate) fn advance(&mut self, rungs: &[Rung], floor: Version, now: Moment, times: &Times) {
        let Some(every) = finest(rungs) else {
            self.kept.clear();
            return;
        };
        self.note_ends(every, floor, now, times);
        // Of the ends of spans those stay that are ends in the rung of their age.
        self.kept.retain(|(end, _)| {
            let age = now.since(*end);
            let rung = rungs.iter().find(|rung| age <= rung.age);
            rung.is_some_and(|rung| rung.every.is_zero() || end.floor_to(rung.every) == *end)
        });
        self.kept.dedup_by_key(|(_, version)| *version);
    }

    /// Notes the ends of all spans before `now` that are not noted, also those before others that are: a ladder before may have been coarser.
    /// Between two samples nothing was committed, so that only spans with a
    /// sample have a last version of their own.
    fn note_ends(&mut self, every: Duration, floor: Version, now: Moment, times: &Times) {
        let samples = times.samples();
        for (number, (version, moment)) in samples.iter().enumerate() {
            // The first end of a span at or after the sample.
            let start = moment.floor_to(every);
            let end = if start == *moment { start } else { start.after(every) };
            let is_last_of_span = samples.get(number + 1).is_none_or(|(_, next)| *next > end);
            if is_last_of_span && end < now && *version >= floor {
                // An end that is noted was noted when more was known of it.
                let place = self.kept.partition_point(|(noted, _)| *noted < end);
                let is_noted = self.kept.get(place).is_some_and(|(noted, _)| *noted == end);
                let is_in_order = place.checked_sub(1).is_none_or(|before| self.kept[before].1 < *version)
                    && self.kept.get(place).is_none_or(|(_, next)| *next > *version);
                if !is_noted && is_in_order {
                    self.kept.insert(place, (end, *version));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const DAY: Duration = Duration::from_secs(86_400);

    fn hours(count: u64) -> Moment {
        Moment::default().after(HOUR * u32::try_from(count).unwrap())
    }

    fn ladder() -> Vec<Rung> {
        vec![Rung { age: DAY, every: Duration::ZERO }, Rung { age: 3 * DAY, every: 6 * HOUR }, Rung { age: 10 * DAY, every: DAY }]
    }

    #[test]
    fn horizon_follows_the_policy() {
        let mut times = Times::default();
        (1..=100).for_each(|version| times.note(Version(version), hours(version)));
        let at = |retention: &Retention| retention.horizon(hours(100), Version(100), &times).0;
        assert_eq!(at(&Retention::KeepAll), 0);
        assert_eq!(at(&Retention::Since(Version(40))), 40);
        assert_eq!(at(&Retention::Since(Version(400))), 100);
        assert_eq!(at(&Retention::Age(10 * HOUR)), 90);
        assert_eq!(at(&Retention::Age(1000 * HOUR)), 0);
        assert_eq!(at(&Retention::LatestOnly), 100);
        assert_eq!(at(&Retention::NewestVersions(7)), 100);
        assert_eq!(at(&Retention::Ladder(ladder())), 76);
    }

    #[test]
    fn policies_that_make_no_sense_are_refused_by_name() {
        let refused = |retention: Retention| retention.check().unwrap_err().to_string();
        assert!(refused(Retention::NewestVersions(0)).contains("at least 1"));
        assert!(refused(Retention::Ladder(vec![])).contains("without rungs"));
        let rungs = |rungs: &[(u32, u32)]| {
            Retention::Ladder(rungs.iter().map(|(age, every)| Rung { age: HOUR * *age, every: HOUR * *every }).collect())
        };
        assert!(refused(rungs(&[(0, 0)])).contains("rung 1"));
        for age in [Duration::from_nanos(1), Duration::from_nanos(1_000_001), Duration::MAX] {
            let ladder = vec![Rung { age, every: Duration::ZERO }];
            assert!(refused(Retention::Ladder(ladder)).contains("whole microseconds"), "{age:?}");
        }
        assert!(refused(rungs(&[(24, 0), (24, 1)])).contains("rung 2"));
        assert!(refused(rungs(&[(24, 0), (48, 0)])).contains("rung 2"));
        assert!(refused(rungs(&[(24, 2), (48, 3)])).contains("no multiple"));
        assert!(rungs(&[(24, 0), (48, 2), (96, 6)]).check().is_ok());
        assert!(rungs(&[(16_384, 1)]).check().is_ok());
        assert!(refused(rungs(&[(16_385, 1)])).contains("16384"));
        assert!(refused(rungs(&[(16_380, 0), (16_384, 1), (16_390, 6)])).contains("16385"));
    }

    /// The samples of times are thinned where they are old; what a ladder will need is chosen before.
    #[test]
    fn fine_ladder_below_a_long_whole_age_keeps_every_step() {
        let rungs = [Rung { age: 30 * DAY, every: Duration::ZERO }, Rung { age: 40 * DAY, every: HOUR }];
        let (mut times, mut steps) = (Times::default(), Steps::default());
        let minutes = |count: u64| Moment::from_micros(60_000_000 * count);
        for minute in (1..=45 * 24 * 60_u64).step_by(7) {
            times.note(Version(minute), minutes(minute));
            steps.advance(&rungs, Version::ZERO, minutes(minute), &times);
        }
        let below = steps.kept().iter().filter(|(end, _)| minutes(45 * 24 * 60).since(*end) > 30 * DAY);
        assert_eq!(below.count(), 10 * 24);
    }

    #[test]
    fn steps_are_not_chosen_of_what_is_gone() {
        let (mut times, mut steps) = (Times::default(), Steps::default());
        (1..=240).for_each(|version| times.note(Version(version), hours(version)));
        steps.advance(&ladder(), Version(190), hours(240), &times);
        assert_eq!(steps.kept().first(), Some(&(hours(192), Version(192))));
    }

    /// What a coarser ladder has not chosen, and is still there, is chosen by a finer one.
    #[test]
    fn finer_ladder_chooses_among_what_is_still_there() {
        let ladder = |every| vec![Rung { age: 2 * DAY, every: Duration::ZERO }, Rung { age: 30 * DAY, every }];
        let (mut times, mut steps) = (Times::default(), Steps::default());
        (1..=84).for_each(|version| times.note(Version(version), hours(version)));
        // Half past three days and a half.
        let floor = Retention::Ladder(ladder(DAY)).horizon(hours(84), Version(84), &times);
        steps.advance(&ladder(DAY), floor, hours(84), &times);
        assert_eq!(steps.kept(), [(hours(48), Version(48)), (hours(72), Version(72))]);
        (85..=240).for_each(|version| {
            times.note(Version(version), hours(version));
            steps.advance(&ladder(HOUR), floor, hours(version), &times);
        });
        let versions: Vec<u64> = steps.kept().iter().map(|(_, version)| version.0).collect();
        assert_eq!(versions, (36..240).collect::<Vec<_>>());
    }

    /// A ladder that is looked at every hour, and one that is looked at only now and then, keep what the rungs say.
    #[test]
    fn ladder_keeps_one_version_of_each_span_and_never_brings_one_back() {
        for ticks in [1, 5, 24] {
            let (mut times, mut steps, mut horizon) = (Times::default(), Steps::default(), Version::ZERO);
            let mut before: Vec<Version> = Vec::new();
            for hour in 1..=500_u64 {
                // The version of each hour is a hundred times its number; nothing is written in every third day.
                if hour / 24 % 3 != 2 {
                    times.note(Version(hour * 100), hours(hour));
                }
                if hour % ticks != 0 {
                    continue;
                }
                steps.advance(&ladder(), horizon, hours(hour), &times);
                horizon = Retention::Ladder(ladder()).horizon(hours(hour), Version(hour * 100), &times);
                let kept: Vec<Version> = steps.kept().iter().map(|(_, version)| *version).collect();
                let was_there =
                    |version: &Version| before.contains(version) || *version >= before.last().copied().unwrap_or_default();
                assert!(kept.iter().all(was_there), "at {hour}: {kept:?} after {before:?}");
                assert!(kept.is_sorted(), "at {hour}");
                for (end, version) in steps.kept() {
                    let age = hours(hour).since(*end);
                    assert!(age <= 10 * DAY, "at {hour}: {age:?}");
                    assert_eq!(times.version_at(*end), *version);
                    assert!(age <= 3 * DAY || end.floor_to(DAY) == *end);
                }
                assert!(kept.len() as u64 <= steps_max(&ladder()));
                before = kept;
            }
            assert!(steps.kept().iter().filter(|(end, _)| hours(500).since(*end) > DAY).count() >= 8, "{:?}", steps.kept());
        }
    }
}
