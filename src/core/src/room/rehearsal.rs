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
/// The same where a larger bucket has shown.
const LONGEST_S: f64 = 3.0;
/// The next step, relative to what is known to pass, below [`NARROW_BPS`] and above: on a narrow link a moment of too
/// much is a long queue.
const STEP: (f64, f64) = (1.5, 2.0);
/// The same where more has failed before: what is beyond the link by little leaves a short queue.
const CAREFUL_STEP: f64 = 1.4;
/// And on a path that is new, however narrow it is: its first probes have shown more than is rehearsed, and time counts.
const FIRST_STEP: f64 = 2.0;
/// A queue longer than this ends it: the link carries less.
const QUEUE: Duration = Duration::from_millis(30);
/// And one that is longer by this than it was before, where others fill a longer one.
const MORE_QUEUE: Duration = Duration::from_millis(20);
/// A thorough one takes this many times as long.
const THOROUGH: f64 = 2.0;
/// And so does a greater loss, and one that is greater by this than it was before, where a part is lost whatever is sent.
const LOSS: f32 = 0.08;
const MORE_LOSS: f32 = 0.08;
/// Weight of what is lost as of a feedback in what is lost usually: among few packets that varies.
const LOSS_WEIGHT: f32 = 0.06;
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
    /// It takes as long as a bucket does to get empty.
    is_proof: bool,
}

#[derive(Clone, Copy, Debug)]
struct Running {
    bps: u64,
    /// How long packets waited before, and the part that was lost.
    queue: Duration,
    loss: f32,
    ends: Instant,
    is_proof: bool,
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
    /// Of that, what was rehearsed for as long as it takes to empty a bucket.
    proven: u64,
    /// What failed, in bit/s, and until when nothing like it is tried again.
    failed: Option<(Instant, u64)>,
    pause: Duration,
    /// How long packets waited while none was under way, and the part that was lost.
    queue: Duration,
    loss: f32,
    /// What begins next has to be sure: what it is for grows little by little, and no layer is there to go back to.
    pub is_thorough: bool,
    /// The path is new.
    pub is_new: bool,
    /// What a token bucket on the way may hold, in bytes.
    pub bucket: u64,
}

impl Default for Rehearsals {
    fn default() -> Self {
        let (running, passed, proven, failed) = (None, None, 0, None);
        let (queue, loss, bucket) = (Duration::ZERO, 0.0, BUCKET_BYTES);
        let (is_thorough, is_new) = (false, false);
        Self { running, passed, proven, failed, pause: PAUSE.0, queue, loss, is_thorough, is_new, bucket }
    }
}

impl Rehearsals {
    /// Whether `bps` may be sent from now on, where `before` bit/s have been sent so far. If that is not known, a rehearsal
    /// begins, unless one has failed lately or the path is not calm.
    pub fn may_send(&mut self, now: Instant, bps: u64, before: u64, is_calm: bool) -> bool {
        let passed = self.passed_bps(now).unwrap_or(0);
        let proven = if self.bucket > BUCKET_BYTES { passed.min(self.proven) } else { passed };
        if bps as f64 <= proven as f64 * NEAR {
            return true;
        }
        let step = self.step(before.max(passed), bps);
        let fails =
            self.failed.is_some_and(|(until, failed)| now < until && step.bps as f64 > failed as f64 * CLEARLY_LESS);
        if self.running.is_none() && !fails && is_calm {
            let Step { bps, time, is_proof } = step;
            let (ends, all) = (now + time, bps as f64 / 8.0 * time.as_secs_f64());
            let Self { queue, loss, .. } = *self;
            let (planned, at, sent, heard) = (0.0, now, 0, now);
            self.running = Some(Running { bps, queue, loss, ends, is_proof, all, planned, at, sent, heard });
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
            _ if self.is_new => FIRST_STEP,
            ..NARROW_BPS => STEP.0,
            _ => STEP.1,
        };
        let step = known as f64 * factor;
        // What is near enough may be sent.
        let step = if step * NEAR >= bps as f64 { bps } else { step as u64 };
        let is_proof = step >= bps;
        let bytes = match known {
            _ if is_proof => BUCKETS * self.bucket as f64,
            _ if is_careful => BUCKETS * BUCKET_BYTES as f64,
            ..NARROW_BPS => BUCKETS_OF_STEP.0 * BUCKET_BYTES as f64,
            _ => BUCKETS_OF_STEP.1 * BUCKET_BYTES as f64,
        };
        let longest = if self.bucket > BUCKET_BYTES { LONGEST_S } else { DURATION_S.1 };
        let seconds = (bytes * 8.0 / step.max(1) as f64).clamp(DURATION_S.0, longest);
        let seconds = if self.is_thorough { seconds * THOROUGH } else { seconds };
        Step { bps: step, time: Duration::from_secs_f64(seconds), is_proof }
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

    /// The rate that is rehearsed now, in bit/s.
    pub fn running_bps(&self) -> Option<u64> {
        self.running.map(|running| running.bps)
    }

    /// True while one is under way.
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Takes in what feedback told: the rehearsal ends when it shows that the path carries less, and after its time.
    pub fn observe(&mut self, now: Instant, seen: Seen) -> Option<Verdict> {
        let Some(running) = &mut self.running else {
            self.queue = seen.queue;
            self.loss += (seen.loss - self.loss) * LOSS_WEIGHT;
            return None;
        };
        running.heard = now;
        let Running { bps, ends, is_proof, all, planned, sent, .. } = *running;
        let longest = QUEUE.max(running.queue + MORE_QUEUE);
        let most = LOSS.max(running.loss + MORE_LOSS);
        if seen.queue > longest || seen.loss > most || seen.is_draining {
            self.fail(now, bps);
            return Some(Verdict::Failed);
        }
        // What left last is what has seen the longest queue.
        if seen.sent + LAST < ends {
            return None;
        }
        self.running = None;
        (planned.min(sent as f64) >= ENOUGH * all).then_some(())?;
        let before = self.passed_bps(now).map_or(0, |_| self.proven);
        self.proven = if is_proof { bps } else { before };
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
mod tests;
