//! Time stamps behind a switch to a key frame that is older than the last picture before it.
//!
//! Such a key frame, and what has come since, leave at once: whoever goes over to a layer need not wait for another. Their time
//! is over, and time stamps never go back. Were they put behind the last one as they are, all that follows would be late by as
//! much for good, and sound and pictures apart until receivers have learnt the new time. So they are pressed together, and
//! where the layer has caught up it goes on in its publisher's time.

use serde::{Deserialize, Serialize};

/// How long after the last picture it has caught up: this part of a second.
const WITHIN: u32 = 10;
/// The first picture is shown this part of a second after the last one.
const FIRST: u32 = 1_000;
/// So many times the time that it takes after it is over, it counts no more: what left with it is not sent again by then.
const LASTS: u32 = 100;

/// See the module's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CatchingUp {
    /// The publisher's time stamp that it begins with, and the ticks until it is over; 0: there is nothing to catch up with.
    from: u32,
    over: u32,
    /// The time stamp that it begins with, as it leaves, and the ticks until it is over.
    begins: u32,
    takes: u32,
}

impl CatchingUp {
    /// From the publisher's time stamp `from` on, which stands for `time`, behind what left with `last`, which is not before that;
    /// with `rate` ticks a second.
    pub(super) fn new(from: u32, time: u32, last: u32, rate: u32) -> Self {
        let begins = last.wrapping_add(rate / FIRST);
        let takes = rate / WITHIN;
        Self { from, over: begins.wrapping_sub(time).wrapping_add(takes), begins, takes }
    }

    /// Ends it for good long after it is over: time stamps go round in hours, and would be pressed together again.
    pub(super) fn end_behind(&mut self, timestamp: u32) {
        let since_over = timestamp.wrapping_sub(self.from).wrapping_sub(self.over);
        if self.over > 0 && (self.takes.saturating_mul(LASTS)..1 << 31).contains(&since_over) {
            *self = Self::default();
        }
    }

    /// What a packet leaves with that came with `timestamp`, to which `offset` is added afterwards.
    pub(super) fn timestamp(&self, timestamp: u32, offset: u32) -> u32 {
        let since = timestamp.wrapping_sub(self.from);
        if since >= self.over {
            return timestamp.wrapping_add(offset);
        }
        let pressed = u64::from(since) * u64::from(self.takes) / u64::from(self.over);
        self.begins.wrapping_add(pressed as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_of_the_past_are_pressed_together_behind_the_last_one_and_those_behind_them_have_their_time() {
        // Half a second is to be caught up with, over the wrap of both clocks.
        let (from, last, rate) = (u32::MAX - 9_000, u32::MAX - 100, 90_000_u32);
        let time = last.wrapping_sub(45_000);
        let offset = time.wrapping_sub(from);
        let catching_up = CatchingUp::new(from, time, last, rate);
        let leaves = |ms: u32| catching_up.timestamp(from.wrapping_add(ms * 90), offset).wrapping_sub(last);
        // Of 601 ms 100 become.
        for (ms, expected) in [(0, 90), (1, 104), (300, 4_582), (600, 9_075), (601, 9_090), (634, 12_060)] {
            assert_eq!(leaves(ms), expected, "{ms} ms");
        }
        assert!((0..800).all(|ms| leaves(ms) < leaves(ms + 1)), "time goes on");
        assert_eq!(CatchingUp::default().timestamp(7, 9), 16);
    }

    #[test]
    fn what_has_caught_up_is_not_pressed_together_again_when_its_clock_has_gone_round() {
        let (from, last, rate) = (1_000_u32, 50_000_u32, 90_000_u32);
        let time = last - 45_000;
        let offset = time.wrapping_sub(from);
        let mut catching_up = CatchingUp::new(from, time, last, rate);
        // A picture a second, for fourteen hours: the time stamps go round in 13 h 15 min.
        for second in 0..14 * 3_600_u64 {
            let timestamp = from.wrapping_add((second * u64::from(rate)) as u32);
            catching_up.end_behind(timestamp);
            let expected = if second == 0 { last + rate / FIRST } else { timestamp.wrapping_add(offset) };
            assert_eq!(catching_up.timestamp(timestamp, offset), expected, "second {second}");
            let is_sent_again = second < 11;
            assert_eq!(catching_up != CatchingUp::default(), is_sent_again, "second {second}");
        }
    }
}
