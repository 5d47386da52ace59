//! A canary: some rooms run a new version of their script while the others run the one before, and what both do is
//! compared, until it is clear whether all rooms are to have it.

use std::fmt;
use std::time::Duration;

use globset::{Glob, GlobMatcher};

use super::stats::PolicyStats;
use moonring_wire::id::RoomId;

/// Failures of the new version's hooks after which it can be bad: one or two happen to anybody.
const MIN_FAILURES: u64 = 3;
/// How many times as often as those of the rest its hooks may fail.
const FAILURE_FACTOR: f64 = 2.0;
/// The part of its hooks that may fail beyond that: one in a thousand.
const FAILURE_SLACK: f64 = 0.001;
/// Verdicts of each side that are needed to compare them.
const MIN_VERDICTS: u64 = 30;
/// How far the parts that are rejected may lie apart, beside what chance explains.
const VERDICT_SLACK: f64 = 0.1;
/// Standard deviations that are taken for chance.
const SIGMAS: f64 = 3.0;
/// Steps of each side that are needed to compare their time.
const MIN_STEPS: u64 = 100;
/// How many times as long as those of the rest its steps may take.
const TIME_FACTOR: f64 = 2.0;
/// What they may take beyond that.
const TIME_SLACK: Duration = Duration::from_micros(50);
/// Steps of the new version without which nothing is known of it.
const MIN_SEEN: u64 = 20;
/// A canary that has not seen enough by this many times its length goes back.
const LONGEST: u32 = 10;

/// Which rooms run the new version.
#[derive(Clone, Debug)]
pub enum Chosen {
    /// This part of all rooms, 0 to 1: by their names, so that a room stays what it is.
    Share(f64),
    /// Those whose names fit.
    Rooms(GlobMatcher),
}

impl Chosen {
    /// `5%`, or a pattern of room ids. An error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some(percent) = text.strip_suffix('%') else {
            let glob = Glob::new(text).map_err(|error| error.to_string())?;
            return Ok(Self::Rooms(glob.compile_matcher()));
        };
        match percent.trim().parse::<f64>() {
            Ok(percent) if percent > 0.0 && percent <= 100.0 => Ok(Self::Share(percent / 100.0)),
            _ => Err(format!("{text:?} is not a share of more than 0% and at most 100%")),
        }
    }

    /// Whether a room is among them. `number` is the canary's: each one has other rooms.
    pub fn takes(&self, number: u64, room: &RoomId) -> bool {
        match self {
            Self::Rooms(pattern) => pattern.is_match(room.as_str()),
            Self::Share(share) => {
                // FNV-1a, and a last mixing: every shard has to find the same.
                let bytes = number.to_le_bytes().into_iter().chain(room.as_str().bytes());
                let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                    (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
                });
                let mixed = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 11;
                (mixed as f64) < share * (1_u64 << 53) as f64
            }
        }
    }
}

/// The side that a room is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// It is to run the new version.
    Canary,
    /// It runs the version before.
    Rest,
}

/// What the rooms of one side have done since the canary began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SideCounts {
    /// Rooms, those that have ended included.
    pub rooms: u64,
    /// Those in which a hook has failed, or that could not be given the version.
    pub failing: u64,
    /// Rooms that could not be opened with it.
    pub unopened: u64,
    pub stats: PolicyStats,
}

/// What both sides have done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CanaryCounts {
    /// The canary's number.
    pub number: u64,
    pub canary: SideCounts,
    pub rest: SideCounts,
}

impl CanaryCounts {
    /// Adds those of another shard.
    pub fn add(&mut self, other: &Self) {
        for (sum, more) in [(&mut self.canary, &other.canary), (&mut self.rest, &other.rest)] {
            sum.rooms += more.rooms;
            sum.failing += more.failing;
            sum.unopened += more.unopened;
            sum.stats.add(&more.stats);
        }
    }

    pub(crate) fn side(&mut self, side: Side) -> &mut SideCounts {
        match side {
            Side::Canary => &mut self.canary,
            Side::Rest => &mut self.rest,
        }
    }
}

/// What is to become of a canary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It is too early to say.
    GoOn,
    /// All rooms are to have the new version.
    Promote,
    /// The rooms go back to the version before.
    Back(Reason),
}

/// Why a canary goes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Rooms could not be given the new version, or not be opened with it.
    NotLoaded(u64),
    /// Its script was suspended in rooms.
    Suspended(u64),
    /// Its hooks fail more often: of the canary and of the rest, failures and hooks.
    Fails([u64; 4]),
    /// It rejects another part: percent of the canary's verdicts, and of the rest's.
    Rejects([u64; 2]),
    /// Its steps take longer: the mean of the canary and of the rest, in microseconds.
    Slow([u64; 2]),
    /// Too little has happened to know.
    Unseen,
    /// The operator wants it.
    Asked,
    /// A newer version has taken its place.
    Newer,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLoaded(rooms) => write!(f, "{rooms} rooms could not be given the new version"),
            Self::Suspended(times) => write!(f, "the new version was suspended in {times} rooms"),
            Self::Fails([failed, hooks, rest_failed, rest_hooks]) => {
                write!(f, "{failed} of {hooks} hooks failed, of the rest {rest_failed} of {rest_hooks}")
            }
            Self::Rejects([canary, rest]) => write!(f, "it rejects {canary} % of all requests, the rest {rest} %"),
            Self::Slow([canary, rest]) => write!(f, "its steps take {canary} µs, those of the rest {rest} µs"),
            Self::Unseen => f.write_str("too little has happened in its rooms to know"),
            Self::Asked => f.write_str("as the operator wants"),
            Self::Newer => f.write_str("a newer version was saved"),
        }
    }
}

/// Judges a canary by what both sides have done in the time since it began. `length` is how long it is to be watched.
pub fn judge(counts: &CanaryCounts, elapsed: Duration, length: Duration) -> Judgement {
    let (canary, rest) = (&counts.canary, &counts.rest);
    if let Some(reason) = bad(canary, rest) {
        return Judgement::Back(reason);
    }
    if elapsed < length {
        return Judgement::GoOn;
    }
    if canary.stats.steps >= MIN_SEEN {
        return Judgement::Promote;
    }
    if elapsed >= length * LONGEST { Judgement::Back(Reason::Unseen) } else { Judgement::GoOn }
}

/// What is wrong with the canary's side.
fn bad(canary: &SideCounts, rest: &SideCounts) -> Option<Reason> {
    let unloaded = canary.stats.reloads_failed + canary.unopened;
    if unloaded > 0 {
        return Some(Reason::NotLoaded(unloaded));
    }
    if canary.stats.suspensions > rest.stats.suspensions {
        return Some(Reason::Suspended(canary.stats.suspensions));
    }
    let part = |some: u64, all: u64| some as f64 / all.max(1) as f64;
    let of = |side: &SideCounts| (side.stats.failures(), side.stats.hooks);
    let ((failed, hooks), (rest_failed, rest_hooks)) = (of(canary), of(rest));
    let allowed = part(rest_failed, rest_hooks) * FAILURE_FACTOR + FAILURE_SLACK;
    if failed >= MIN_FAILURES && part(failed, hooks) > allowed {
        return Some(Reason::Fails([failed, hooks, rest_failed, rest_hooks]));
    }
    let verdicts = |side: &SideCounts| (side.stats.rejected, side.stats.allowed + side.stats.rejected);
    let ((rejected, all), (rest_rejected, rest_all)) = (verdicts(canary), verdicts(rest));
    if all >= MIN_VERDICTS && rest_all >= MIN_VERDICTS {
        let (p, q) = (part(rejected, all), part(rest_rejected, rest_all));
        let both = part(rejected + rest_rejected, all + rest_all);
        let deviation = (both * (1.0 - both) * (1.0 / all as f64 + 1.0 / rest_all as f64)).sqrt();
        if (p - q).abs() > VERDICT_SLACK + SIGMAS * deviation {
            return Some(Reason::Rejects([(p * 100.0).round() as u64, (q * 100.0).round() as u64]));
        }
    }
    let mean = |side: &SideCounts| side.stats.latency.sum_ns as f64 / side.stats.steps.max(1) as f64;
    if canary.stats.steps >= MIN_STEPS && rest.stats.steps >= MIN_STEPS {
        let (mean, rest_mean) = (mean(canary), mean(rest));
        if mean > rest_mean * TIME_FACTOR + TIME_SLACK.as_nanos() as f64 {
            return Some(Reason::Slow([mean, rest_mean].map(|ns| (ns / 1000.0).round() as u64)));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn side(hooks: u64, failed: u64, rejected: u64, us: u64) -> SideCounts {
        let mut stats = PolicyStats { hooks, steps: hooks, errors: failed, rejected, ..PolicyStats::default() };
        (stats.allowed, stats.latency.sum_ns) = (hooks - rejected, hooks * us * 1000);
        SideCounts { rooms: 10, stats, ..SideCounts::default() }
    }

    fn judged(canary: SideCounts, rest: SideCounts, minutes: u32) -> Judgement {
        judge(&CanaryCounts { number: 1, canary, rest }, MINUTE * minutes, MINUTE * 5)
    }

    #[test]
    fn what_fails_more_rejects_otherwise_or_takes_longer_goes_back_and_what_does_not_goes_on() {
        let rest = side(10_000, 10, 300, 10);
        for (canary, expected) in [
            (side(500, 0, 15, 10), Judgement::GoOn),
            (side(500, 2, 15, 10), Judgement::GoOn),
            (side(500, 3, 15, 10), Judgement::Back(Reason::Fails([3, 500, 10, 10_000]))),
            (side(5_000, 9, 150, 10), Judgement::GoOn),
            (side(500, 0, 120, 10), Judgement::Back(Reason::Rejects([24, 3]))),
            (side(40, 0, 6, 10), Judgement::GoOn),
            (side(500, 0, 15, 69), Judgement::GoOn),
            (side(500, 0, 15, 71), Judgement::Back(Reason::Slow([71, 10]))),
            (side(99, 0, 3, 900), Judgement::GoOn),
        ] {
            assert_eq!(judged(canary, rest, 1), expected, "{canary:?}");
        }
        let strict = judged(side(500, 0, 0, 10), side(10_000, 0, 3_000, 10), 1);
        assert_eq!(strict, Judgement::Back(Reason::Rejects([0, 30])), "whoever lets everybody in is as bad");
    }

    #[test]
    fn one_room_that_cannot_be_given_the_version_or_is_suspended_is_enough() {
        let mut canary = side(500, 0, 15, 10);
        canary.stats.reloads_failed = 1;
        assert_eq!(judged(canary, side(500, 0, 15, 10), 0), Judgement::Back(Reason::NotLoaded(1)));
        let mut canary = side(500, 0, 15, 10);
        canary.stats.suspensions = 2;
        assert_eq!(judged(canary, side(500, 0, 15, 10), 0), Judgement::Back(Reason::Suspended(2)));
        let unopened = SideCounts { unopened: 1, ..SideCounts::default() };
        assert_eq!(judged(unopened, side(500, 0, 15, 10), 0), Judgement::Back(Reason::NotLoaded(1)));
    }

    #[test]
    fn it_ends_when_its_time_is_over_and_enough_was_seen_or_never_will_be() {
        let rest = side(10_000, 0, 0, 10);
        for (hooks, minutes, expected) in [
            (500, 4, Judgement::GoOn),
            (500, 5, Judgement::Promote),
            (MIN_SEEN - 1, 5, Judgement::GoOn),
            (MIN_SEEN, 5, Judgement::Promote),
            (0, 49, Judgement::GoOn),
            (0, 50, Judgement::Back(Reason::Unseen)),
        ] {
            assert_eq!(judged(side(hooks, 0, 0, 10), rest, minutes), expected, "{hooks} {minutes}");
        }
    }

    #[test]
    fn a_share_takes_about_that_many_rooms_and_each_canary_others() {
        let room = |n: u64| RoomId::parse(&format!("room-{n}")).unwrap();
        for (text, share) in [("5%", 0.05), ("0.5 %", 0.005), ("100%", 1.0)] {
            let chosen = Chosen::parse(text).unwrap();
            let taken = (0..20_000).filter(|n| chosen.takes(1, &room(*n))).count() as f64 / 20_000.0;
            assert!((taken - share).abs() < share * 0.15 + 0.0005, "{text}: {taken}");
        }
        let five = Chosen::parse("5%").unwrap();
        let both = (0..20_000).filter(|n| five.takes(1, &room(*n)) && five.takes(2, &room(*n))).count();
        assert!(both < 150, "{both}");
        assert!(Chosen::parse("demo-*").unwrap().takes(1, &RoomId::parse("demo-7").unwrap()));
        for bad in ["0%", "-1%", "101%", "x%", "NaN%", "["] {
            assert!(Chosen::parse(bad).is_err(), "{bad}");
        }
    }
}
