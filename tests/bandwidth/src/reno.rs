//! A competing flow that fills the queue until packets drop: Reno's congestion window, with whole packets.

use std::collections::VecDeque;

use crate::link::{Fate, Link};
use crate::random::Random;

const BYTES: usize = 1240;

/// The flow.
#[derive(Debug)]
pub struct Reno {
    window: f64,
    threshold: f64,
    in_flight: usize,
    /// Acknowledgements (true) and losses (false) to come, by time.
    events: VecDeque<(i64, bool)>,
    recover_until: i64,
    from: i64,
    until: i64,
    /// Bytes delivered.
    pub delivered: u64,
}

impl Reno {
    /// A flow with data from `from` to `until`.
    pub fn new(from: i64, until: i64) -> Self {
        let events = VecDeque::new();
        Self { window: 4.0, threshold: 1e9, in_flight: 0, events, recover_until: 0, from, until, delivered: 0 }
    }

    /// One step of time.
    pub fn tick(&mut self, now: i64, link: &mut Link, random: &mut Random) {
        while self.events.front().is_some_and(|event| event.0 <= now) {
            let Some((_, acknowledged)) = self.events.pop_front() else { break };
            self.in_flight -= 1;
            if acknowledged {
                self.delivered += BYTES as u64;
                self.window += if self.window < self.threshold { 1.0 } else { 1.0 / self.window };
            } else if now > self.recover_until {
                self.threshold = (self.window / 2.0).max(2.0);
                self.window = self.threshold;
                self.recover_until = now + link.path.rtt_us + link.queue_us(now);
            }
        }
        while (self.from..self.until).contains(&now) && self.in_flight < self.window as usize {
            self.in_flight += 1;
            let event = match link.send(now, BYTES, random) {
                Fate::Arrives(at) => (at + link.path.rtt_us / 2, true),
                Fate::Lost | Fate::Dropped => (now + link.queue_us(now) + link.path.rtt_us, false),
            };
            let place = self.events.partition_point(|other| other.0 <= event.0);
            self.events.insert(place, event);
        }
    }
}
