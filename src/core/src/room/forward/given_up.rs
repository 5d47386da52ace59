//! What a client has lost for good: no longer here, or more than may be sent again in a time. Its picture would stand until it
//! gives up waiting, which takes Chromium three seconds. So a key frame is asked for in its place, and what was lost
//! before that is not sent again: the path is needed for the key frame.

use std::time::{Duration, Instant};

use super::Forward;
use crate::room::congestion::Congestion;
use crate::room::track::Track;

/// A key frame is waited for so long before what is asked for is sent again after all: some publishers make none when asked.
const AWAITED: Duration = Duration::from_secs(1);
/// A packet that was asked for is given up when the budget has not had room for it for so long, and a round trip.
const PATIENCE: Duration = Duration::from_millis(500);
/// But not again so soon after a key frame: a path that always loses more than may be sent again is not to get key frames besides.
const BETWEEN: Duration = Duration::from_secs(2);
/// A request that has come so shortly before feedback tells of an outage has come after the outage.
const JUST_NOW: Duration = Duration::from_millis(300);

/// What a client may be sent again.
#[derive(Clone, Copy, Debug)]
pub struct Means {
    /// Bytes at once, and at most after a while.
    pub bytes: (usize, usize),
    /// The round trip.
    pub rtt: Duration,
}

/// What is not sent again.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct GivenUp {
    /// Packets before this index.
    before: u64,
    /// Likewise packets before this index, while a key frame is waited for.
    until_then: u64,
    /// When it was asked for.
    asked: Option<Instant>,
}

impl GivenUp {
    fn has(&self, now: Instant, index: u64) -> bool {
        index < self.before || (index < self.until_then && self.is_asked_within(AWAITED, now))
    }

    fn is_asked_within(&self, time: Duration, now: Instant) -> bool {
        self.asked.is_some_and(|at| now.saturating_duration_since(at) < time)
    }

    /// No key frame has begun since something was given up.
    fn is_open(&self) -> bool {
        self.until_then > 0
    }

    fn begin(&mut self, now: Instant, next: u64) {
        (self.asked, self.until_then) = (Some(now), next);
    }

    /// A key frame begins with packet `index`.
    pub(super) fn key_frame_begins(&mut self, index: u64) {
        if std::mem::take(&mut self.until_then) > 0 {
            self.before = index;
        }
    }
}

/// What helps against a loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cure {
    /// Sending again what is asked for.
    Resends,
    /// The same, and a key frame: something is no longer here.
    Both,
    /// A key frame alone: it is too much.
    KeyFrame,
}

impl Forward {
    /// What helps a client that asks for these packets again. Those of upper temporal layers need no key frame: nothing waits
    /// for them.
    pub fn cure(&self, now: Instant, track: &Track, sequences: impl Iterator<Item = u16>, means: Means) -> Cure {
        let begins = self.last_key_frame.map_or(0, |key_frame| key_frame.begins());
        let (mut bytes, mut oldest, mut is_gone) = (0, now, false);
        for sequence in sequences {
            let Some(index) = self.index_of(sequence).filter(|n| *n >= begins && !self.given_up.has(now, *n)) else {
                continue;
            };
            match self.find_sent(track, sequence) {
                Some((_, packet, _)) if packet.layers().1 > 0 => {}
                Some((_, packet, _)) => {
                    bytes += packet.payload_len();
                    oldest = oldest.min(packet.arrival);
                }
                // What has not left is the publisher's loss, and may still come.
                None => is_gone |= self.indexes.is_used(index),
            }
        }
        let (at_once, most) = means.bytes;
        let has_waited = now.saturating_duration_since(oldest) > PATIENCE + means.rtt;
        // From a publisher that makes no key frame when it is asked for one, nothing but resends can be had.
        let is_time =
            || !self.given_up.is_open() && self.last_key_frame.is_none_or(|key_frame| key_frame.age(now) > BETWEEN);
        let is_too_much = (bytes > most || (bytes > at_once && has_waited)) && is_time();
        match (is_too_much, is_gone) {
            (true, _) => Cure::KeyFrame,
            (false, true) => Cure::Both,
            (false, false) => Cure::Resends,
        }
    }

    /// Sends nothing again of what has left so far: a key frame is to come.
    pub fn give_up(&mut self, now: Instant) {
        self.given_up.begin(now, self.indexes.next());
    }

    /// Whether a key frame would only be lost, as nothing arrives at present: packets without pictures tell when that is over.
    pub fn awaits_return(&self, path: Option<&Congestion>) -> bool {
        self.stream.rtx.is_some() && self.stream.numbered && path.is_some_and(Congestion::is_silent)
    }

    /// Goes on at the next key frame after an outage, unless one has been asked for since then: requests for what is lost come
    /// sooner than feedback. False when it goes on as it is.
    pub fn begin_after_outage(&mut self, now: Instant, track: &Track) -> bool {
        let begins =
            self.allotted.paused.is_none() && self.has_begun() && !self.given_up.is_asked_within(JUST_NOW, now);
        if begins {
            self.give_up(now);
            self.restart(track);
        }
        begins
    }

    /// Whether the packet that went out with `sequence` is given up.
    pub fn has_given_up(&self, now: Instant, sequence: u16) -> bool {
        self.index_of(sequence).is_some_and(|index| self.given_up.has(now, index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_lost_is_given_up_until_a_key_frame_begins_and_then_all_before_that() {
        let t0 = Instant::now();
        let at = |ms: u64| t0 + Duration::from_millis(ms);
        let mut given_up = GivenUp::default();
        given_up.key_frame_begins(50);
        assert!(!given_up.has(t0, 10), "nobody waited for that key frame");
        given_up.begin(t0, 90);
        assert_eq!([10, 89, 90].map(|index| given_up.has(at(999), index)), [true, true, false]);
        assert!(!given_up.has(at(1_000), 10), "none comes");
        given_up.key_frame_begins(100);
        assert_eq!([90, 99, 100].map(|index| given_up.has(at(300), index)), [true, true, false]);
        given_up.key_frame_begins(200);
        assert!(!given_up.has(at(300), 150));
    }
}
