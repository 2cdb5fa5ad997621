//! When versions were committed: the index that retention by age goes by.

use std::time::Duration;

use thermocline_tier::Version;

/// So many samples at most; then they are thinned.
const SAMPLES_MAX: usize = 4096;
/// A sample goes if that leaves no gap larger than this part of its age. Of one a second for a year fewer than 2,300 stay.
const GAPS_PER_AGE: u64 = 64;

/// A moment: time since the Unix epoch, as the store reckons it. It never runs backwards, whatever the wall clock does.
///
/// ```
/// use std::time::Duration;
/// use thermocline_drop::Moment;
///
/// let hour = Duration::from_secs(3600);
/// assert_eq!(Moment::from_micros(7_200_000_000).before(hour), Moment::from_micros(3_600_000_000));
/// assert_eq!(Moment::from_micros(1).before(hour), Moment::default());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Moment {
    /// So many microseconds after the Unix epoch.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since the Unix epoch.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// So long before, at the earliest the epoch.
    #[must_use]
    pub fn before(self, age: Duration) -> Self {
        Self(self.0.saturating_sub(micros(age)))
    }

    /// So long after.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(micros(span)))
    }

    /// How long ago `earlier` was; zero if it is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// The last multiple of `step`, which is not zero, at or before this moment.
    pub(crate) fn floor_to(self, step: Duration) -> Self {
        Self(self.0 - self.0 % micros(step).max(1))
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

/// What moment it was when the wall clock showed something.
///
/// ```
/// use thermocline_drop::{Moment, Reading};
///
/// let reading = Reading { moment: Moment::from_micros(5), wall: Moment::from_micros(9) };
/// assert_eq!(reading.ahead(), -4);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The moment.
    pub moment: Moment,
    /// What the wall clock showed.
    pub wall: Moment,
}

impl Reading {
    /// By how much the moment is ahead, in microseconds; negative if it is behind.
    pub fn ahead(self) -> i128 {
        i128::from(self.moment.0) - i128::from(self.wall.0)
    }
}

/// Turns what the wall clock shows into moments that can be relied on: they follow it, but faster or slower than a clock that does not
/// jump by an eighth at most. So a wall clock that is set ahead by a year makes nothing older at once, one that is set back does not
/// stop time, and both are made up for in the course of time, also where that takes longer than the process lives. What the wall clock
/// jumped while nobody asked cannot be told.
///
/// ```
/// use std::time::Duration;
/// use thermocline_drop::{Moment, Reckoner};
///
/// let (hour, at) = (Duration::from_secs(3600), |hours: u64| Moment::from_micros(hours * 3_600_000_000));
/// let mut reckoner = Reckoner::new(at(100), None);
/// assert_eq!(reckoner.read(hour, 110 * hour).moment, at(110));
/// assert_eq!(reckoner.read(2 * hour, 111 * hour).moment, at(111));
/// assert_eq!(reckoner.read(10 * hour, 9000 * hour).moment, at(120), "set ahead");
/// assert_eq!(reckoner.read(18 * hour, 50 * hour).moment, at(127), "set back");
/// ```
#[derive(Clone, Debug)]
pub struct Reckoner {
    /// Since the Unix epoch, finer than moments are: halves of short spans must not be lost.
    last: Duration,
    /// What the clock that does not jump showed then; `None` before the first moment.
    asked: Option<Duration>,
    /// What was so when a process before this one noted it.
    noted: Option<Reading>,
}

/// A clock that jumped is made up for with so many parts of the time that passes.
const PARTS_MADE_UP: u32 = 8;

impl Reckoner {
    /// One that never tells a moment before `last`, and goes on from what was noted when the wall clock had jumped.
    pub const fn new(last: Moment, noted: Option<Reading>) -> Self {
        Self { last: Duration::from_micros(last.0), asked: None, noted }
    }

    /// The moment, where `now` is what a clock shows that never jumps, from whenever on, and `wall` what the wall clock does, since the
    /// Unix epoch.
    pub fn read(&mut self, now: Duration, wall: Duration) -> Reading {
        self.last = match (self.asked, self.noted) {
            (Some(asked), _) => {
                let passed = now.saturating_sub(asked);
                let part = passed / PARTS_MADE_UP;
                let (least, most) = (passed.saturating_sub(part), passed.saturating_add(part));
                wall.clamp(self.last.saturating_add(least), self.last.saturating_add(most))
            }
            (None, Some(Reading { moment, wall: before })) => {
                let passed = wall.saturating_sub(Duration::from_micros(before.0));
                let moment = Duration::from_micros(moment.0);
                // What is ahead does not run away from a wall clock that is right again.
                moment.saturating_add(passed).min(wall.max(moment)).max(self.last)
            }
            (None, None) => wall.max(self.last),
        };
        self.asked = Some(now);
        Reading { moment: Moment(micros(self.last)), wall: Moment(micros(wall)) }
    }
}

/// Which version was the last at which time: samples, dense where they are young.
///
/// ```
/// use thermocline_drop::{Moment, Times};
/// use thermocline_tier::Version;
///
/// let mut times = Times::default();
/// times.note(Version(3), Moment::from_micros(1_000));
/// times.note(Version(9), Moment::from_micros(2_000));
/// assert_eq!(times.version_at(Moment::from_micros(1_999)), Version(3));
/// assert_eq!(times.version_at(Moment::from_micros(999)), Version::ZERO);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// Both ascending.
    samples: Vec<(Version, Moment)>,
}

impl Times {
    /// Notes the last version of a moment. One that is not above all that were noted changes nothing; a moment before the last one counts
    /// as that.
    pub fn note(&mut self, version: Version, moment: Moment) {
        let (last_version, last_moment) = self.samples.last().copied().unwrap_or_default();
        if version <= last_version {
            return;
        }
        let moment = moment.max(last_moment);
        match self.samples.last_mut() {
            Some(last) if last.1 == moment => last.0 = version,
            _ => self.samples.push((version, moment)),
        }
        if self.samples.len() > SAMPLES_MAX {
            self.thin(moment);
        }
    }

    fn thin(&mut self, now: Moment) {
        let nexts: Vec<Moment> = self.samples.iter().skip(1).map(|(_, moment)| *moment).collect();
        let mut nexts = nexts.into_iter();
        let mut kept: Option<Moment> = None;
        self.samples.retain(|(_, moment)| {
            let is_close = |(kept, next): (Moment, Moment)| (next.0 - kept.0).saturating_mul(GAPS_PER_AGE) <= now.0 - next.0;
            let is_kept = !kept.zip(nexts.next()).is_some_and(is_close);
            if is_kept {
                kept = Some(*moment);
            }
            is_kept
        });
        if self.samples.len() > SAMPLES_MAX {
            // All in the last moments.
            let mut number = 0;
            self.samples.retain(|_| {
                number += 1;
                number % 2 == 1
            });
        }
    }

    /// A version that was the last at `moment` or before: the newest of which that is known. 0 if none is.
    pub fn version_at(&self, moment: Moment) -> Version {
        let after = self.samples.partition_point(|(_, noted)| *noted <= moment);
        after.checked_sub(1).map_or(Version::ZERO, |last| self.samples[last].0)
    }

    /// When a version was committed, or shortly after; `None` for one above all that were noted.
    pub fn moment_of(&self, version: Version) -> Option<Moment> {
        let first = self.samples.partition_point(|(noted, _)| *noted < version);
        self.samples.get(first).map(|(_, moment)| *moment)
    }

    /// The last moment that was noted.
    pub fn last(&self) -> Moment {
        self.samples.last().map_or(Moment::default(), |(_, moment)| *moment)
    }

    /// The samples, both ascending.
    pub fn samples(&self) -> &[(Version, Moment)] {
        &self.samples
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: u64) -> Moment {
        Moment::from_micros(micros)
    }

    #[test]
    fn clock_that_runs_backwards_never_makes_a_version_older_than_one_before_it() {
        let mut times = Times::default();
        times.note(Version(1), at(100));
        times.note(Version(2), at(50));
        times.note(Version(3), at(100));
        times.note(Version(4), at(120));
        assert_eq!(times.version_at(at(99)), Version::ZERO);
        assert_eq!(times.version_at(at(100)), Version(3));
        assert_eq!(times.version_at(at(1000)), Version(4));
        assert_eq!(times.moment_of(Version(2)), Some(at(100)));
        assert_eq!(times.moment_of(Version(5)), None);
        times.note(Version(4), at(500));
        assert_eq!(times.last(), at(120));
    }

    #[test]
    fn moments_follow_a_wall_clock_that_jumps_without_jumping_or_standing_still() {
        const DAY: u64 = 86_400_000_000;
        let days = |days: u64| Duration::from_micros(days * DAY);
        let mut reckoner = Reckoner::new(at(1000 * DAY), None);
        let moments: Vec<u64> = (0..500)
            .map(|day| {
                let wall = match day {
                    10..20 => 2000 + day,
                    20..60 => 960 + day,
                    _ => 1000 + day,
                };
                // Most of it by a process that is started anew, and knows what was noted before.
                let reading = reckoner.read(days(day), days(wall));
                if day == 15 {
                    reckoner = Reckoner::new(at(0), Some(reading));
                    assert_eq!(reckoner.read(days(7), days(wall)), reading);
                    reckoner.asked = Some(days(day));
                }
                reading.moment.as_micros()
            })
            .collect();
        for pair in moments.windows(2) {
            let passed = pair[1] - pair[0];
            assert!((DAY * 7 / 8..=DAY * 9 / 8).contains(&passed), "{moments:?}");
        }
        assert_eq!(moments[9] / DAY, 1009);
        assert!(moments[19] / DAY <= 1021 && moments[59] / DAY < 1060, "{moments:?}");
        assert_eq!(moments[499] / DAY, 1499, "what was lost and won is made up for");
        // What passes in steps too short for a moment is not lost.
        let before = reckoner.read(days(500), days(1)).moment.as_micros();
        let after = (1..=1000).map(|step| reckoner.read(days(500) + Duration::from_nanos(800 * step), days(1)).moment).max();
        assert_eq!(after.unwrap().as_micros() - before, 700);
    }

    #[test]
    fn clock_that_was_behind_and_is_right_when_a_store_is_opened_next_takes_it_nowhere_else() {
        let (year, at_year) = (Duration::from_secs(31_556_952), |years: u64| at(years * 31_556_952_000_000));
        let noted = |moment, wall| Some(Reading { moment: at_year(moment), wall: at_year(wall) });
        let opened = |noted, wall: u32| Reckoner::new(at_year(54), noted).read(Duration::ZERO, year * wall).moment;
        // Its battery was empty; two years have passed since.
        assert_eq!(opened(noted(54, 0), 56), at_year(56));
        assert_eq!(opened(noted(54, 0), 1), at_year(54), "still behind");
        // It was ahead by a year when it was noted, and is so still, or no more.
        assert_eq!(opened(noted(54, 55), 57), at_year(56));
        assert_eq!(opened(noted(54, 55), 54), at_year(54));
    }

    #[test]
    fn many_samples_are_thinned_where_they_are_old_and_never_tell_a_version_too_new() {
        let mut times = Times::default();
        let count = 100_000;
        for number in 1..=count {
            times.note(Version(number), at(number * 10));
            assert!(times.samples().len() <= SAMPLES_MAX);
        }
        for moment in (0..count * 10).step_by(7919) {
            let exact = moment / 10;
            let found = times.version_at(at(moment)).0;
            assert!(found <= exact);
            let age = count - exact;
            assert!(exact - found <= 2 + age / 64, "{found} for {exact}, age {age}");
        }
        assert_eq!(times.version_at(at(count * 10)), Version(count));
    }
}
