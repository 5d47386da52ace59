//! A higher layer is rehearsed before it is sent: padding fills up what is sent to the rate that it would take, for as
//! long as it takes to empty a token bucket on the way. Probes are too short for that: through a bucket of 8 kB (a shaped
//! access line) they pass at any rate, and the layer that they promised freezes. A rehearsal that fails costs a short queue.

use std::time::{Duration, Instant};

/// What a token bucket on the way may hold, in bits: a multiple of it is sent.
const BUCKET_BITS: f64 = 64_000.0;
/// How often it is sent, so that what goes beyond the link shows, though it is little more than the link carries.
const BUCKETS: f64 = 5.0;
/// The range of how long a rehearsal takes.
const DURATION_S: (f64, f64) = (0.3, 1.0);
/// A queue longer than this ends it: the link carries less.
const QUEUE: Duration = Duration::from_millis(50);
/// And so does a greater loss.
const LOSS: f32 = 0.08;
/// How long the result holds.
const HOLDS: Duration = Duration::from_secs(1);
/// The pause after one that failed: the first, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_secs(4), Duration::from_secs(8));
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
    /// The most to send, in bit/s.
    pub target_bps: u64,
}

#[derive(Clone, Copy, Debug)]
struct Running {
    bps: u64,
    began: Instant,
    ends: Instant,
    /// Bytes of everything that left since.
    sent: u64,
}

/// The rehearsals of one path.
#[derive(Clone, Debug)]
pub struct Rehearsals {
    running: Option<Running>,
    passed: Option<(Instant, u64)>,
    /// What failed, in bit/s, and until when nothing like it is tried again.
    failed: Option<(Instant, u64)>,
    pause: Duration,
}

impl Default for Rehearsals {
    fn default() -> Self {
        Self { running: None, passed: None, failed: None, pause: PAUSE.0 }
    }
}

impl Rehearsals {
    /// Whether `bps` may be sent from now on. If that is not known, a rehearsal begins, unless one has failed lately.
    pub fn may_send(&mut self, now: Instant, bps: u64) -> bool {
        let holds = |at: Instant| now.saturating_duration_since(at) < HOLDS;
        if self.passed.is_some_and(|(at, passed)| holds(at) && bps as f64 <= passed as f64 * NEAR) {
            return true;
        }
        let fails = self.failed.is_some_and(|(until, failed)| now < until && bps as f64 > failed as f64 * CLEARLY_LESS);
        if self.running.is_none() && !fails {
            let seconds = (BUCKETS * BUCKET_BITS / bps.max(1) as f64).clamp(DURATION_S.0, DURATION_S.1);
            let ends = now + Duration::from_secs_f64(seconds);
            self.running = Some(Running { bps, began: now, ends, sent: 0 });
        }
        false
    }

    /// Notes what left.
    pub fn sent(&mut self, bytes: usize) {
        if let Some(running) = &mut self.running {
            running.sent += bytes as u64;
        }
    }

    /// What is missing to the rate that is rehearsed, in bytes; `None` while nothing is.
    pub fn due(&self, now: Instant) -> Option<usize> {
        let Running { bps, began, sent, .. } = self.running?;
        let planned = bps as f64 / 8.0 * now.saturating_duration_since(began).as_secs_f64();
        Some((planned as u64).saturating_sub(sent) as usize)
    }

    /// Takes in what feedback told: the rehearsal ends when it shows that the path carries less, and after its time.
    pub fn observe(&mut self, now: Instant, seen: Seen) {
        let Some(running) = self.running else { return };
        if seen.queue > QUEUE || seen.loss > LOSS || seen.target_bps < running.bps {
            self.fail(now, running.bps);
        } else if now >= running.ends {
            self.running = None;
            self.passed = Some((now, running.bps));
            self.pause = PAUSE.0;
        }
    }

    /// Gives up one of which nothing is heard.
    pub fn expire(&mut self, now: Instant) {
        if let Some(running) = self.running.filter(|running| now > running.ends + HOLDS) {
            self.fail(now, running.bps);
        }
    }

    fn fail(&mut self, now: Instant, bps: u64) {
        self.running = None;
        self.failed = Some((now + self.pause, bps));
        self.pause = (self.pause * 3 / 2).min(PAUSE.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Seen = Seen { queue: Duration::ZERO, loss: 0.0, target_bps: 2_000_000 };

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn what_was_rehearsed_without_a_queue_may_be_sent() {
        let t0 = Instant::now();
        let mut rehearsals = Rehearsals::default();
        assert!(!rehearsals.may_send(t0, 800_000));
        rehearsals.sent(4_000);
        assert_eq!(rehearsals.due(t0 + ms(100)), Some(6_000));
        rehearsals.observe(t0 + ms(300), GOOD);
        assert!(!rehearsals.may_send(t0 + ms(300), 800_000), "it takes 400 ms");
        rehearsals.observe(t0 + ms(410), GOOD);
        assert_eq!(rehearsals.due(t0 + ms(410)), None);
        for (at, bps, expected) in [(420, 800_000, true), (420, 870_000, true), (420, 1_000_000, false)] {
            assert_eq!(rehearsals.may_send(t0 + ms(at), bps), expected, "{at} {bps}");
        }
    }

    #[test]
    fn one_that_leaves_a_queue_ends_at_once_and_is_repeated_after_a_pause() {
        let t0 = Instant::now();
        for bad in [Seen { queue: ms(60), ..GOOD }, Seen { loss: 0.1, ..GOOD }, Seen { target_bps: 500_000, ..GOOD }] {
            let mut rehearsals = Rehearsals::default();
            rehearsals.may_send(t0, 800_000);
            rehearsals.observe(t0 + ms(100), bad);
            assert_eq!(rehearsals.due(t0 + ms(100)), None, "{bad:?}");
            let begins = |at: u64, bps: u64| {
                let mut rehearsals = rehearsals.clone();
                rehearsals.may_send(t0 + ms(at), bps);
                rehearsals.due(t0 + ms(at)).is_some()
            };
            for (at, bps, expected) in [(4_000, 800_000, false), (4_000, 500_000, true), (4_101, 800_000, true)] {
                assert_eq!(begins(at, bps), expected, "{at} {bps}");
            }
        }
    }
}
