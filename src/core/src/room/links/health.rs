//! How the way to a shard of another node is: whether it is heard, what is lost on the way here, and how long the way is.
//!
//! Both ends of a link that is in use tell each other, five times a second, how many datagrams they have sent
//! ([`moonring_wire::link::Frame::Alive`]). What is lost for long has a layer less asked for; nothing else is done about
//! congestion between nodes.

use std::time::{Duration, Instant};

/// Between two words that the sender lives.
pub const INTERVAL: Duration = Duration::from_millis(200);
/// A peer that is silent for so long is not there, or the way to it is not.
const SILENCE: Duration = Duration::from_secs(1);
/// For so long after its last use a link is looked after.
const USED: Duration = Duration::from_secs(5);
/// Round trip before one is measured, between machines of one site.
const ASSUMED_RTT: Duration = Duration::from_millis(40);
/// A loss is judged over so long.
const WINDOW: Duration = Duration::from_secs(1);
/// And over so many datagrams: of a few, one is much.
const LEAST: u64 = 25;
/// More than this share lost is bad, in thousandths.
const BAD: i64 = 20;
/// Less than this is good.
const GOOD: i64 = 5;
/// So long it is bad before a layer less is wanted.
const PATIENCE: Duration = Duration::from_secs(5);
/// And so long it is good before one more is.
const RECOVERY: Duration = Duration::from_secs(15);
/// Most layers less.
const MOST: u8 = 2;

/// What has become of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The peer is silent.
    Silent,
    /// It is heard again.
    Heard,
    /// So many layers less than before are wanted over it, as so many thousandths are lost.
    Layers(u8, i64),
}

/// How one link is.
#[derive(Clone, Debug)]
pub struct Health {
    /// Datagrams that have come.
    pub received: u64,
    /// Datagrams that the peer has sent and that have not come.
    pub lost: u64,
    /// So many layers less are wanted over it.
    pub layers_down: u8,
    /// Whether the peer is silent.
    pub is_silent: bool,
    rtt: Option<Duration>,
    /// Until when it is looked after.
    used_until: Option<Instant>,
    heard: Instant,
    said: Option<Instant>,
    /// `at` of the last word of the peer, and when it came.
    word: Option<(u32, Instant)>,
    /// The peer's count and the own one at the beginning of the window.
    window: Option<(Instant, u64, u64)>,
    /// The share that is lost, smoothed over some windows, in thousandths.
    loss: Option<i64>,
    /// Datagrams that the peer has sent and that have not come yet.
    missing: i64,
    bad_since: Option<Instant>,
    good_since: Option<Instant>,
}

impl Health {
    /// Of a link that begins.
    pub fn new(now: Instant) -> Self {
        Self {
            received: 0,
            lost: 0,
            layers_down: 0,
            is_silent: false,
            rtt: None,
            used_until: None,
            heard: now,
            said: None,
            word: None,
            window: None,
            loss: None,
            missing: 0,
            bad_since: None,
            good_since: None,
        }
    }

    /// The round trip, or what is assumed of it.
    pub fn rtt(&self) -> Duration {
        self.rtt.unwrap_or(ASSUMED_RTT)
    }

    /// Something is sent to the peer that is for a room, or has come from there.
    pub fn used(&mut self, now: Instant) {
        if self.used_until.is_none_or(|until| until <= now) {
            // Nobody was to be heard before.
            (self.heard, self.window) = (now, None);
        }
        self.used_until = Some(now + USED);
    }

    /// Whether the link is looked after.
    pub fn is_used(&self, now: Instant) -> bool {
        self.used_until.is_some_and(|until| until > now)
    }

    /// The peer was heard at `now`.
    pub fn heard(&mut self, now: Instant) -> Option<Change> {
        self.heard = now;
        std::mem::take(&mut self.is_silent).then_some(Change::Heard)
    }

    /// The peer's word that it lives, `clock` being the own one: microseconds, modulo 2^32.
    pub fn take_word(
        &mut self,
        now: Instant,
        clock: u32,
        (sent, at, echo, held): (u64, u32, u32, u32),
    ) -> Option<Change> {
        self.word = Some((at, now));
        if echo != 0 {
            let passed = clock.wrapping_sub(echo);
            // One that is longer than a window says nothing.
            let rtt = passed.checked_sub(held).map(|us| Duration::from_micros(us.into())).filter(|rtt| *rtt < WINDOW);
            if let Some(rtt) = rtt {
                self.rtt = Some(self.rtt.map_or(rtt, |smooth| (smooth * 7 + rtt) / 8));
            }
        }
        let Some((begun, sent_then, received_then)) = self.window else {
            self.window = Some((now, sent, self.received));
            return None;
        };
        if now.saturating_duration_since(begun) < WINDOW {
            return None;
        }
        self.window = Some((now, sent, self.received));
        let sent = sent.saturating_sub(sent_then);
        // Less than nothing where some of the window before have been overtaken by its end.
        let lost = sent.cast_signed() - self.received.saturating_sub(received_then).cast_signed();
        self.missing += lost;
        self.lost = self.lost.max(self.missing.try_into().unwrap_or(0));
        if sent < LEAST { None } else { self.judge(now, lost * 1_000 / sent.cast_signed()) }
    }

    fn judge(&mut self, now: Instant, lost: i64) -> Option<Change> {
        let lost = self.loss.map_or(lost, |smooth| (3 * smooth + lost) / 4);
        self.loss = Some(lost);
        self.bad_since = if lost > BAD { self.bad_since.or(Some(now)) } else { None };
        self.good_since = if lost < GOOD { self.good_since.or(Some(now)) } else { None };
        let lasts =
            |since: Option<Instant>, patience| since.is_some_and(|at| now.saturating_duration_since(at) >= patience);
        if lasts(self.bad_since, PATIENCE) && self.layers_down < MOST {
            self.layers_down += 1;
            self.bad_since = None;
        } else if lasts(self.good_since, RECOVERY) && self.layers_down > 0 {
            self.layers_down -= 1;
            self.good_since = None;
        } else {
            return None;
        }
        Some(Change::Layers(self.layers_down, lost))
    }

    /// Looks whether the peer is silent.
    pub fn look(&mut self, now: Instant) -> Option<Change> {
        if !self.is_used(now) {
            self.is_silent = false;
            return None;
        }
        let is_silent = now.saturating_duration_since(self.heard) >= SILENCE;
        (is_silent && !std::mem::replace(&mut self.is_silent, true)).then_some(Change::Silent)
    }

    /// What is to be said now, as `echo` and `held` of the word; `None` while it is not time.
    pub fn due(&mut self, now: Instant) -> Option<(u32, u32)> {
        let is_due = self.said.is_none_or(|said| now.saturating_duration_since(said) >= INTERVAL);
        if !is_due || !self.is_used(now) {
            return None;
        }
        self.said = Some(now);
        let held = |at: Instant| now.saturating_duration_since(at).as_micros().try_into().unwrap_or(u32::MAX);
        Some(self.word.map_or((0, 0), |(at, came)| (at, held(came))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn a_peer_is_silent_after_a_second_only_while_the_link_is_used() {
        let start = Instant::now();
        let mut health = Health::new(start);
        assert_eq!(health.look(at(start, 60_000)), None, "nobody was to be heard");
        health.used(at(start, 60_000));
        assert_eq!(health.look(at(start, 60_999)), None);
        assert_eq!(health.look(at(start, 61_000)), Some(Change::Silent));
        assert_eq!(health.look(at(start, 61_200)), None, "it is told once");
        assert_eq!(health.heard(at(start, 61_300)), Some(Change::Heard));
        assert_eq!(health.heard(at(start, 61_400)), None);
        assert_eq!(health.look(at(start, 70_000)), None, "it is not used any more");
    }

    #[test]
    fn the_round_trip_is_without_the_time_that_the_peer_held_it() {
        let start = Instant::now();
        let mut health = Health::new(start);
        assert_eq!(health.rtt(), ASSUMED_RTT);
        health.take_word(start, 50_000, (0, 1, 20_000, 25_000));
        assert_eq!(health.rtt(), Duration::from_millis(5));
        health.take_word(start, 5, (0, 1, 5u32.wrapping_sub(13_000), 0));
        assert_eq!(health.rtt(), Duration::from_millis(6), "over the end of the clock");
        for odd in [(0, 1, 0, 9), (0, 1, 60_000, 70_000), (0, 1, 1, u32::MAX)] {
            health.take_word(start, 50_000, odd);
            assert_eq!(health.rtt(), Duration::from_millis(6), "{odd:?}");
        }
    }

    /// Seconds of so many thousandths lost, of 1,000 datagrams each: the changes with their seconds.
    fn judged(seconds: &[(u64, u64)]) -> Vec<(u64, u8)> {
        let start = Instant::now();
        let (mut health, mut sent, mut now, mut changes) = (Health::new(start), 0, 0, Vec::new());
        health.take_word(start, 0, (0, 1, 0, 0));
        for (lost, times) in seconds {
            for _ in 0..*times {
                (now, sent) = (now + 1, sent + 1_000);
                health.received += 1_000 - lost;
                if let Some(Change::Layers(n, _)) = health.take_word(at(start, 1_000 * now), 0, (sent, 1, 0, 0)) {
                    changes.push((now, n));
                }
            }
        }
        changes
    }

    #[test]
    fn a_layer_less_is_wanted_after_five_bad_seconds_and_one_more_after_fifteen_good_ones() {
        for (seconds, expected) in [
            (&[(30, 5)][..], &[][..]),
            (&[(30, 6)], &[(6, 1)]),
            (&[(30, 30)], &[(6, 1), (12, 2)]),
            (&[(30, 4), (0, 4), (30, 4)], &[]),
            (&[(20, 30)], &[]),
            (&[(30, 6), (0, 20)], &[(6, 1)]),
            (&[(30, 6), (0, 30)], &[(6, 1), (27, 0)]),
            (&[(30, 6), (10, 60)], &[(6, 1)]),
        ] {
            assert_eq!(judged(seconds), expected, "{seconds:?}");
        }
    }
}
