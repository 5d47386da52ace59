//! Whether two flows wait in one queue: their delays side by side.

use std::time::Duration;

/// So many samples are compared, ...
pub(super) const SAMPLES: usize = 32;
/// ... one in this time.
const SAMPLE: Duration = Duration::from_millis(100);
/// The least part of them that both flows must have.
const KNOWN: usize = SAMPLES * 3 / 4;
/// Least standard deviation, in microseconds: of queues that hardly move nothing can be told, ...
const MOVING_US: f64 = 2_500.0;
/// ... but where one moves so much that the other would have to, they are two.
const MOVING_ALONE_US: f64 = 5_000.0;
/// The deviations of two flows in one queue have no smaller ratio.
const RATIO: f64 = 0.4;
/// From this correlation on two queues are one, and below the other one they are two.
const ALIKE: f64 = 0.75;
const UNLIKE: f64 = 0.45;
/// A longer queue counts as this.
const MAX_QUEUE_US: u128 = 10_000_000;

/// The queue of one flow over the last three seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trace {
    /// A ring, by number.
    us: [i32; SAMPLES],
    /// Number of the newest sample since the epoch.
    newest: u64,
    len: usize,
}

/// What two traces say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// One queue.
    Same,
    /// Two queues.
    Other,
    /// Either.
    Unknown,
}

/// The number of the sample that a moment belongs to.
pub(super) fn number_of(at: Duration) -> u64 {
    (at.as_micros() / SAMPLE.as_micros()) as u64
}

impl Trace {
    pub(super) fn new() -> Self {
        Self { us: [0; SAMPLES], newest: 0, len: 0 }
    }

    /// Notes the queue at a moment; in between it is taken for what it was before.
    pub(super) fn note(&mut self, at: Duration, queue: Duration) {
        let number = number_of(at).max(self.newest);
        let passed = (number - self.newest).min(SAMPLES as u64) as usize;
        if self.len == 0 || passed == SAMPLES {
            self.len = 1;
        } else {
            let last = *self.of(self.newest);
            (self.newest + 1..number).for_each(|between| *self.of(between) = last);
            self.len = (self.len + passed).min(SAMPLES);
        }
        self.newest = number;
        *self.of(number) = queue.as_micros().min(MAX_QUEUE_US) as i32;
    }

    fn of(&mut self, number: u64) -> &mut i32 {
        &mut self.us[number as usize % SAMPLES]
    }

    fn begin(&self) -> u64 {
        self.newest + 1 - self.len as u64
    }

    /// Compares two queues over the time of which both are known.
    pub(super) fn compare(&self, other: &Self) -> Verdict {
        if self.len == 0 || other.len == 0 {
            return Verdict::Unknown;
        }
        let samples = self.begin().max(other.begin())..=self.newest.min(other.newest);
        let count = samples.clone().count();
        if count < KNOWN {
            return Verdict::Unknown;
        }
        let pairs = samples.map(|number| {
            let of = |trace: &Self| f64::from(trace.us[number as usize % SAMPLES]);
            (of(self), of(other))
        });
        let count = count as f64;
        let (a, b) = pairs.clone().fold((0.0, 0.0), |(a, b), (x, y)| (a + x / count, b + y / count));
        let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
        for (x, y) in pairs {
            xx += (x - a) * (x - a) / count;
            yy += (y - b) * (y - b) / count;
            xy += (x - a) * (y - b) / count;
        }
        judge(xx.sqrt(), yy.sqrt(), xy)
    }
}

fn judge(a_us: f64, b_us: f64, covariance: f64) -> Verdict {
    let (least, most) = (a_us.min(b_us), a_us.max(b_us));
    if least < RATIO * most {
        return if most > MOVING_ALONE_US { Verdict::Other } else { Verdict::Unknown };
    }
    match covariance / (a_us * b_us) {
        _ if most < MOVING_US => Verdict::Unknown,
        correlation if correlation >= ALIKE => Verdict::Same,
        correlation if correlation < UNLIKE => Verdict::Other,
        _ => Verdict::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The trace of a queue of so many milliseconds at each tenth of a second from `begin` on, noted every `step` of them.
    fn trace(begin: u64, step: usize, queue_ms: impl Fn(u64) -> f64) -> Trace {
        let mut trace = Trace::new();
        for number in (begin..begin + 40).step_by(step) {
            trace.note(SAMPLE * number as u32, Duration::from_secs_f64(queue_ms(number) / 1e3));
        }
        trace
    }

    /// A queue that grows for a second and is drained, `late` tenths of a second later than at zero.
    fn saw(number: u64, late: u64, ms: f64) -> f64 {
        ms * ((number + 100 - late) % 10) as f64 / 10.0
    }

    #[test]
    fn queues_that_grow_and_drain_together_are_one() {
        let queue = trace(0, 1, |n| saw(n, 0, 40.0));
        for (name, other, expected) in [
            ("itself", queue, Verdict::Same),
            ("known from a longer one on", trace(0, 1, |n| 30.0 + saw(n, 0, 40.0)), Verdict::Same),
            ("of shorter frames", trace(0, 1, |n| saw(n, 0, 30.0)), Verdict::Same),
            ("told of every 200 ms", trace(0, 2, |n| saw(n, 0, 40.0)), Verdict::Same),
            ("half a second later", trace(0, 1, |n| saw(n, 5, 40.0)), Verdict::Other),
            ("always there", trace(0, 1, |_| 40.0), Verdict::Other),
            ("much shorter", trace(0, 1, |n| saw(n, 0, 10.0)), Verdict::Other),
            ("a tenth of a second later", trace(0, 1, |n| saw(n, 1, 40.0)), Verdict::Unknown),
            ("of another time", trace(20, 1, |n| saw(n, 0, 40.0)), Verdict::Unknown),
            ("unknown", Trace::new(), Verdict::Unknown),
        ] {
            assert_eq!(queue.compare(&other), expected, "{name}");
            assert_eq!(other.compare(&queue), expected, "{name}, the other way round");
        }
    }

    #[test]
    fn of_queues_that_hardly_move_nothing_can_be_told() {
        let still = trace(0, 1, |n| saw(n, 0, 4.0));
        assert_eq!(still.compare(&still), Verdict::Unknown);
        assert_eq!(still.compare(&trace(0, 1, |_| 0.0)), Verdict::Unknown);
    }

    #[test]
    fn after_a_pause_a_trace_begins_anew() {
        let queue = trace(0, 1, |n| saw(n, 0, 40.0));
        let mut paused = queue;
        paused.note(SAMPLE * 80, Duration::from_millis(1));
        assert_eq!((paused.len, paused.begin()), (1, 80));
        let mut early = queue;
        early.note(Duration::ZERO, Duration::from_secs(1));
        assert_eq!(early.newest, queue.newest, "time does not go back");
    }
}
