//! What the arrival times say of the queue in front of the bottleneck: whether it grows, and how long it is.

mod queue;
mod trend;

use queue::QueueDelay;
use trend::Trend;

/// Packets sent within this time are one group.
const GROUP_US: i64 = 5_000;
/// Packets that arrive this close together after a group, and closer than they were sent, left a queue in one go.
const BURST_GAP_US: i64 = 5_000;
/// A burst is not longer than this.
const MAX_BURST_US: i64 = 100_000;
/// Groups that arrive before the one sent before them; after so many the clock of the receiver has stepped.
const REORDERED_BEFORE_RESET: u8 = 3;
/// Arrivals and departures that are further apart than this: the receiver's clock stepped, or it slept.
const MAX_STEP_US: i64 = 3_000_000;

/// Whether the path is used too much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Usage {
    /// The queue gets shorter.
    Under,
    #[default]
    Normal,
    /// The queue grows.
    Over,
}

#[derive(Clone, Copy, Debug)]
struct Group {
    first_sent: i64,
    last_sent: i64,
    first_arrived: i64,
    last_arrived: i64,
}

/// Watches the delay of the packets of one receiver.
#[derive(Clone, Debug, Default)]
pub(super) struct DelayObserver {
    current: Option<Group>,
    previous: Option<Group>,
    reordered: u8,
    trend: Trend,
    queue: QueueDelay,
    /// Mean size of the delay variation between groups, in microseconds.
    variation: f64,
}

impl DelayObserver {
    /// Takes in a packet that arrived, in the order of sending; both times in microseconds, by two clocks. True when
    /// it completed a group that shows overuse.
    pub(super) fn on_packet(&mut self, sent: i64, arrived: i64) -> bool {
        self.queue.on_packet(arrived, arrived - sent);
        let Some(group) = &mut self.current else {
            self.current = Some(Group::new(sent, arrived));
            return false;
        };
        if group.takes(sent, arrived) {
            group.last_sent = group.last_sent.max(sent);
            group.last_arrived = group.last_arrived.max(arrived);
            return false;
        }
        let complete = std::mem::replace(group, Group::new(sent, arrived));
        let previous = self.previous.replace(complete);
        previous.is_some_and(|previous| self.compare(previous, complete))
    }

    fn compare(&mut self, earlier: Group, later: Group) -> bool {
        let sent_gap = later.last_sent - earlier.last_sent;
        let arrival_gap = later.last_arrived - earlier.last_arrived;
        if (arrival_gap - sent_gap).abs() > MAX_STEP_US {
            self.reset();
            return false;
        }
        if arrival_gap < 0 {
            self.reordered += 1;
            if self.reordered >= REORDERED_BEFORE_RESET {
                self.reset();
            }
            return false;
        }
        self.reordered = 0;
        let variation = arrival_gap - sent_gap;
        self.variation += (variation.abs() as f64 - self.variation) / 16.0;
        self.trend.on_group(later.last_arrived, arrival_gap, variation);
        self.trend.usage() == Usage::Over
    }

    /// Forgets everything, because the clocks are no longer comparable.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }

    /// What the last group showed.
    pub(super) fn usage(&self) -> Usage {
        self.trend.usage()
    }

    /// The queue that does not drain between frames, in microseconds.
    pub(super) fn standing_queue_us(&self) -> i64 {
        self.queue.standing()
    }

    /// Takes the present delay for that of an empty path: it does not get shorter whatever is sent, so it is a longer
    /// route or somebody else's queue.
    pub(super) fn accept_queue(&mut self) {
        self.queue.rebase();
    }

    /// The variation of delay between groups, in microseconds; bursts of our own are part of it.
    pub(super) fn variation_us(&self) -> i64 {
        self.variation as i64
    }

    /// The variation of delay that bursts and queues don't explain, in microseconds.
    pub(super) fn jitter_us(&self) -> i64 {
        self.queue.noise()
    }
}

impl Group {
    fn new(sent: i64, arrived: i64) -> Self {
        Self { first_sent: sent, last_sent: sent, first_arrived: arrived, last_arrived: arrived }
    }

    fn takes(&self, sent: i64, arrived: i64) -> bool {
        let arrival_gap = arrived - self.last_arrived;
        let caught_up = arrival_gap < sent - self.last_sent;
        let burst = caught_up && arrival_gap <= BURST_GAP_US && arrived - self.first_arrived < MAX_BURST_US;
        sent - self.first_sent <= GROUP_US || burst
    }
}

#[cfg(test)]
mod tests;
