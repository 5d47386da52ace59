//! A higher layer is rehearsed before it is sent: padding fills up what is sent to the rate that it would take, for as
//! long as it takes to empty a token bucket on the way. Probes are too short for that: through a bucket of 8 kB (a shaped
//! access line) they pass at any rate, and the layer that they promised freezes. What is far beyond what has arrived so
//! far is rehearsed in steps, each of them from what the one before has shown to pass, so that one that fails leaves a
//! queue that nobody sees.

use std::time::{Duration, Instant};

use crate::bandwidth::{BUCKET_BYTES, NARROW_BPS};

/// How often a token bucket is sent, so that what goes beyond the link shows, though it is little more than the link carries.
const BUCKETS: f64 = 5.0;
/// And on the way up in large steps, below [`NARROW_BPS`] and above: what goes beyond the link goes far beyond it. Of a step by a half
/// a third is too much, when all before was not: three buckets would just fill one.
const BUCKETS_OF_STEP: (f64, f64) = (4.0, 3.0);
/// The range of how long a rehearsal takes. In less time a queue that grows by a fifth of the time, as one does that others fill as
/// well, is not seen to stand; and what others give way for is not there.
const DURATION_S: (f64, f64) = (0.5, 1.5);
/// The next step, relative to what is known to pass, below [`NARROW_BPS`] and above: on a narrow link a moment of too
/// much is a long queue.
const STEP: (f64, f64) = (1.5, 2.0);
/// The same where more has failed before: what is beyond the link by little leaves a short queue.
const CAREFUL_STEP: f64 = 1.4;
/// A queue longer than this ends it: the link carries less.
const QUEUE: Duration = Duration::from_millis(30);
/// And one that is longer by this than it was before, where others fill a longer one.
const MORE_QUEUE: Duration = Duration::from_millis(20);
/// A thorough one takes this many times as long.
const THOROUGH: f64 = 2.0;
/// And so does a greater loss.
const LOSS: f32 = 0.08;
/// Without feedback for this long, and a round trip, nothing is added: what is late waits in a queue.
const FEEDBACK_GAP: Duration = Duration::from_millis(110);
/// The end of a rehearsal of which feedback need not tell: the last packet leaves a moment before.
const LAST: Duration = Duration::from_millis(20);
/// How long after its end the feedback that tells how it went comes, about.
const VERDICT: Duration = Duration::from_millis(60);
/// The least that steps are reckoned from.
const LEAST_BPS: u64 = 10_000;
/// One of which less than this part has left, as the shard has stood still, shows nothing.
const ENOUGH: f64 = 0.8;
/// How long the result holds.
const HOLDS: Duration = Duration::from_secs(1);
/// The pause after one that failed: the first, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_secs(4), Duration::from_secs(6));
/// Within this part of a rate that was rehearsed the rates of the layers vary.
const NEAR: f64 = 1.1;
/// Less than this part of what failed may be tried at once.
const CLEARLY_LESS: f64 = 0.7;

/// What the path is like.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// How long packets wait.
    pub queue: Duration,
    /// The part that is lost.
    pub loss: f32,
    /// When the newest packet that it is known of was sent.
    pub sent: Instant,
    /// The estimator sends less because of a queue.
    pub is_draining: bool,
}

/// What came of a rehearsal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The path carries this, in bit/s.
    Passed(u64),
    /// It carries less.
    Failed,
}

/// One rehearsal on the way up.
#[derive(Clone, Copy, Debug)]
struct Step {
    bps: u64,
    time: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Running {
    bps: u64,
    /// How long packets waited before.
    queue: Duration,
    ends: Instant,
    /// Bytes that are to leave in all.
    all: f64,
    /// Bytes that should have left by `at`, and bytes of everything that left.
    planned: f64,
    at: Instant,
    sent: u64,
    /// When feedback came last.
    heard: Instant,
}

/// The rehearsals of one path.
#[derive(Clone, Debug)]
pub struct Rehearsals {
    running: Option<Running>,
    passed: Option<(Instant, u64)>,
    /// What failed, in bit/s, and until when nothing like it is tried again.
    failed: Option<(Instant, u64)>,
    pause: Duration,
    /// How long packets waited while none was under way.
    queue: Duration,
    /// What begins next has to be sure: what it is for grows little by little, and no layer is there to go back to.
    pub is_thorough: bool,
}

impl Default for Rehearsals {
    fn default() -> Self {
        Self { running: None, passed: None, failed: None, pause: PAUSE.0, queue: Duration::ZERO, is_thorough: false }
    }
}

impl Rehearsals {
    /// Whether `bps` may be sent from now on, where `before` bit/s have been sent so far. If that is not known, a rehearsal
    /// begins, unless one has failed lately or the path is not calm.
    pub fn may_send(&mut self, now: Instant, bps: u64, before: u64, is_calm: bool) -> bool {
        let passed = self.passed_bps(now).unwrap_or(0);
        if bps as f64 <= passed as f64 * NEAR {
            return true;
        }
        let step = self.step(before.max(passed), bps);
        let fails =
            self.failed.is_some_and(|(until, failed)| now < until && step.bps as f64 > failed as f64 * CLEARLY_LESS);
        if self.running.is_none() && !fails && is_calm {
            let (bps, ends, all) = (step.bps, now + step.time, step.bps as f64 / 8.0 * step.time.as_secs_f64());
            let queue = self.queue;
            self.running = Some(Running { bps, queue, ends, all, planned: 0.0, at: now, sent: 0, heard: now });
        }
        false
    }

    /// How long it takes until [`Self::may_send`] says yes, if all goes well.
    pub fn time_for(&self, now: Instant, bps: u64, before: u64) -> Duration {
        let mut known = before.max(self.passed_bps(now).unwrap_or(0)).max(LEAST_BPS);
        let mut time = Duration::ZERO;
        while bps as f64 > known as f64 * NEAR {
            let step = self.step(known, bps);
            (known, time) = (step.bps, time + step.time + VERDICT);
        }
        time
    }

    /// The next step on the way to `bps`, where `known` bit/s are known to pass.
    fn step(&self, known: u64, bps: u64) -> Step {
        let is_careful = self.failed.is_some_and(|(_, failed)| known < failed);
        let factor = match known {
            _ if is_careful => CAREFUL_STEP,
            ..NARROW_BPS => STEP.0,
            _ => STEP.1,
        };
        let step = (known as f64 * factor).min(bps as f64) as u64;
        let buckets = match known {
            _ if step >= bps || is_careful => BUCKETS,
            ..NARROW_BPS => BUCKETS_OF_STEP.0,
            _ => BUCKETS_OF_STEP.1,
        };
        let seconds = (buckets * BUCKET_BYTES as f64 * 8.0 / step.max(1) as f64).clamp(DURATION_S.0, DURATION_S.1);
        let seconds = if self.is_thorough { seconds * THOROUGH } else { seconds };
        Step { bps: step, time: Duration::from_secs_f64(seconds) }
    }

    /// What one has shown of late that the path carries, in bit/s.
    pub fn passed_bps(&self, now: Instant) -> Option<u64> {
        self.passed.filter(|(at, _)| now.saturating_duration_since(*at) < HOLDS).map(|(_, passed)| passed)
    }

    /// Notes what left.
    pub fn sent(&mut self, bytes: usize) {
        if let Some(running) = &mut self.running {
            running.sent += bytes as u64;
        }
    }

    /// What is missing at `now` to the rate that is rehearsed, in bytes; `None` while nothing is.
    pub fn due(&mut self, now: Instant, rtt: Duration) -> Option<usize> {
        let running = self.running.as_mut()?;
        let passed = now.saturating_duration_since(running.at);
        running.at = now;
        if now >= running.ends {
            // The verdict is still under way.
            return Some(0);
        }
        if now.saturating_duration_since(running.heard) > FEEDBACK_GAP + rtt {
            // Not to be caught up with later, either.
            running.ends += passed;
            running.planned = running.planned.min(running.sent as f64);
        } else {
            running.planned += running.bps as f64 / 8.0 * passed.as_secs_f64();
        }
        Some((running.planned as u64).saturating_sub(running.sent) as usize)
    }

    /// True while one is under way.
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Takes in what feedback told: the rehearsal ends when it shows that the path carries less, and after its time.
    pub fn observe(&mut self, now: Instant, seen: Seen) -> Option<Verdict> {
        let Some(running) = &mut self.running else {
            self.queue = seen.queue;
            return None;
        };
        running.heard = now;
        let Running { bps, ends, all, planned, sent, .. } = *running;
        let longest = QUEUE.max(running.queue + MORE_QUEUE);
        if seen.queue > longest || seen.loss > LOSS || seen.is_draining {
            self.fail(now, bps);
            return Some(Verdict::Failed);
        }
        // What left last is what has seen the longest queue.
        if seen.sent + LAST < ends {
            return None;
        }
        self.running = None;
        (planned.min(sent as f64) >= ENOUGH * all).then_some(())?;
        self.passed = Some((now, bps));
        self.pause = PAUSE.0;
        Some(Verdict::Passed(bps))
    }

    /// Gives up what is under way: there is nothing any more that it can be sent in.
    pub fn give_up(&mut self) {
        self.running = None;
    }

    /// Gives up one of which nothing is heard.
    pub fn expire(&mut self, now: Instant) {
        if let Some(running) = self.running.filter(|running| now > running.heard + HOLDS) {
            self.fail(now, running.bps);
        }
    }

    fn fail(&mut self, now: Instant, bps: u64) {
        self.running = None;
        self.passed = None;
        self.failed = Some((now + self.pause, bps));
        self.pause = (self.pause * 3 / 2).min(PAUSE.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(20);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// A path without a queue, of which feedback tells up to `sent`.
    fn good(sent: Instant) -> Seen {
        Seen { queue: Duration::ZERO, loss: 0.0, sent, is_draining: false }
    }

    /// Lets time pass from `from` to `to` in steps of 10 ms, with feedback every 50 ms, and sends what is due. What left,
    /// in bytes.
    fn rehearse(rehearsals: &mut Rehearsals, t0: Instant, from: u64, to: u64) -> usize {
        let mut all = 0;
        for at in (from..to).step_by(10) {
            let bytes = rehearsals.due(t0 + ms(at), RTT).unwrap_or(0);
            rehearsals.sent(bytes);
            all += bytes;
            if at % 50 == 0 {
                rehearsals.observe(t0 + ms(at), good(t0 + ms(at) - RTT));
            }
        }
        all
    }

    #[test]
    fn what_was_rehearsed_without_a_queue_may_be_sent() {
        let t0 = Instant::now();
        let mut rehearsals = Rehearsals::default();
        assert!(!rehearsals.may_send(t0, 800_000, 500_000, true));
        rehearsals.sent(4_000);
        assert_eq!(rehearsals.due(t0 + ms(100), RTT), Some(6_000));
        rehearsals.sent(6_000);
        assert_eq!(rehearsals.observe(t0 + ms(100), good(t0 + ms(80))), None);
        rehearse(&mut rehearsals, t0, 110, 500);
        assert!(!rehearsals.may_send(t0 + ms(490), 800_000, 500_000, true), "it takes 500 ms");
        assert_eq!(rehearsals.observe(t0 + ms(510), good(t0 + ms(470))), None, "what left last is still under way");
        assert_eq!(rehearsals.observe(t0 + ms(530), good(t0 + ms(490))), Some(Verdict::Passed(800_000)));
        assert_eq!(rehearsals.due(t0 + ms(530), RTT), None);
        for (at, bps, expected) in [(540, 800_000, true), (540, 870_000, true), (540, 1_000_000, false)] {
            assert_eq!(rehearsals.may_send(t0 + ms(at), bps, 500_000, true), expected, "{at} {bps}");
        }
    }

    #[test]
    fn what_is_far_beyond_what_is_sent_is_rehearsed_in_steps() {
        let t0 = Instant::now();
        let mut rehearsals = Rehearsals::default();
        let (mut at, mut steps) = (0, Vec::new());
        while !rehearsals.may_send(t0 + ms(at), 1_500_000, 200_000, true) {
            let began = at;
            while rehearsals.is_running() {
                rehearse(&mut rehearsals, t0, at, at + 10);
                at += 10;
            }
            steps.push(at - began);
            assert!(steps.len() < 9);
        }
        // 300, 450, 900 and 1,500 kbit/s, to the next feedback each.
        assert_eq!(steps, [910, 600, 550, 550]);
        let expected = Rehearsals::default().time_for(t0, 1_500_000, 200_000).as_millis();
        assert!(expected.abs_diff(steps.iter().sum::<u64>().into()) < 100, "{expected} ms reckoned");
        assert!(rehearsals.time_for(t0 + ms(at), 1_500_000, 200_000).is_zero(), "nothing is left to rehearse");
    }

    #[test]
    fn one_that_leaves_a_queue_ends_at_once_and_is_repeated_after_a_pause() {
        let t0 = Instant::now();
        let bad = good(t0);
        for bad in [Seen { queue: ms(40), ..bad }, Seen { loss: 0.1, ..bad }, Seen { is_draining: true, ..bad }] {
            let mut rehearsals = Rehearsals::default();
            rehearsals.may_send(t0, 800_000, 500_000, true);
            assert_eq!(rehearsals.observe(t0 + ms(100), bad), Some(Verdict::Failed));
            assert!(!rehearsals.is_running(), "{bad:?}");
            let begins = |at: u64, bps: u64, is_calm: bool| {
                let mut rehearsals = rehearsals.clone();
                rehearsals.may_send(t0 + ms(at), bps, 500_000, is_calm);
                rehearsals.is_running()
            };
            for (at, bps, is_calm, expected) in [
                (4_000, 800_000, true, false),
                (4_000, 500_000, true, true),
                (4_101, 800_000, true, true),
                (4_101, 800_000, false, false),
            ] {
                assert_eq!(begins(at, bps, is_calm), expected, "{at} {bps} {is_calm}");
            }
        }
    }

    #[test]
    fn where_others_fill_a_queue_one_ends_when_it_gets_longer() {
        let t0 = Instant::now();
        for (before, during, verdict) in [
            (0, 30, None),
            (0, 31, Some(Verdict::Failed)),
            (5, 31, Some(Verdict::Failed)),
            (20, 40, None),
            (20, 41, Some(Verdict::Failed)),
        ] {
            let mut rehearsals = Rehearsals::default();
            let seen = |queue: u64| Seen { queue: ms(queue), ..good(t0) };
            assert_eq!(rehearsals.observe(t0, seen(before)), None);
            rehearsals.may_send(t0, 800_000, 500_000, true);
            assert_eq!(rehearsals.observe(t0 + ms(100), seen(during)), verdict, "{before} {during}");
        }
    }

    #[test]
    fn a_thorough_one_takes_twice_as_long() {
        let t0 = Instant::now();
        let mut rehearsals = Rehearsals { is_thorough: true, ..Rehearsals::default() };
        rehearsals.may_send(t0, 800_000, 500_000, true);
        for (from, at, passed) in [(0, 510, None), (510, 990, Some(Verdict::Passed(800_000)))] {
            rehearse(&mut rehearsals, t0, from, at);
            assert_eq!(rehearsals.observe(t0 + ms(at), good(t0 + ms(at))), passed, "{at}");
        }
    }

    #[test]
    fn one_of_which_most_has_not_left_shows_nothing_and_begins_again() {
        let t0 = Instant::now();
        let mut rehearsals = Rehearsals::default();
        rehearsals.may_send(t0, 800_000, 500_000, true);
        rehearse(&mut rehearsals, t0, 0, 110);
        assert_eq!(rehearsals.due(t0 + ms(600), RTT), Some(0));
        rehearsals.sent(1_000);
        assert_eq!(rehearsals.observe(t0 + ms(620), good(t0 + ms(600))), None);
        assert!(!rehearsals.is_running() && rehearsals.passed_bps(t0 + ms(620)).is_none());
        assert!(!rehearsals.may_send(t0 + ms(620), 800_000, 500_000, true));
        rehearse(&mut rehearsals, t0, 620, 1_120);
        assert_eq!(rehearsals.observe(t0 + ms(1_140), good(t0 + ms(1_110))), Some(Verdict::Passed(800_000)));
    }

    #[test]
    fn while_feedback_is_late_nothing_is_added() {
        let t0 = Instant::now();
        let mut rehearsals = Rehearsals::default();
        rehearsals.may_send(t0, 800_000, 500_000, true);
        let before = rehearse(&mut rehearsals, t0, 0, 51);
        // 130 ms after the last feedback it stops, and does not catch up.
        for at in (60..=300).step_by(10) {
            let due = rehearsals.due(t0 + ms(at), RTT).unwrap();
            assert_eq!(due > 0, at <= 180, "{at}");
            rehearsals.sent(due);
        }
        assert_eq!(before, 5_000);
        rehearsals.observe(t0 + ms(300), good(t0 + ms(280)));
        assert_eq!(rehearsals.due(t0 + ms(310), RTT), Some(1_000));
    }
}
