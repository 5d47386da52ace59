//! A path that carries nothing at all for a while, as a radio link does between two cells, is not a full one: a queue that
//! overflows lets pass what it has room for.

/// What was sent within so long is lost, all of it: that is an outage. Frames of 10 a second are nearer to each other.
const OUTAGE_US: i64 = 150_000;
/// And so many packets at least.
const OUTAGE_PACKETS: u32 = 3;

/// Packets that were lost one after the other. Those of which nothing was told, as they were too many, are no others.
#[derive(Clone, Copy, Debug)]
struct Run {
    first: u64,
    last: u64,
    lost: u32,
    /// When the first of them was sent.
    since: i64,
}

/// Looks for outages in what feedback tells.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outages {
    run: Option<Run>,
}

impl Outages {
    /// Packet `index`, sent at `at` (in microseconds), was lost.
    pub(super) fn on_lost(&mut self, index: u64, at: i64) {
        let run = self.run.get_or_insert(Run { first: index, last: index, lost: 0, since: at });
        // What is told late of the past is no part of it.
        if index >= run.last {
            (run.last, run.lost) = (index, run.lost.saturating_add(1));
        }
    }

    /// Packet `index`, sent at `at`, arrived. How many packets an outage before it has cost.
    pub(super) fn on_arrived(&mut self, index: u64, at: i64) -> u32 {
        let Some(run) = self.run.take_if(|run| index > run.first) else { return 0 };
        let is_behind = index > run.last;
        if is_behind && run.lost >= OUTAGE_PACKETS && at - run.since >= OUTAGE_US { run.lost } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an outage has cost at each packet that arrives of these: (index, sent after so many ms, arrived).
    fn costs(packets: &[(u64, i64, bool)]) -> Vec<u32> {
        let mut outages = Outages::default();
        let cost = |(index, ms, arrived): &(u64, i64, bool)| match arrived {
            true => Some(outages.on_arrived(*index, ms * 1_000)),
            false => {
                outages.on_lost(*index, ms * 1_000);
                None
            }
        };
        packets.iter().filter_map(cost).collect()
    }

    #[test]
    fn an_outage_is_a_time_in_which_everything_that_was_sent_is_lost() {
        let after = |ms: i64| [(10, 0, true), (11, 50, false), (13, 60, false), (14, 70, false), (15, ms, true)];
        assert_eq!(costs(&after(200)), [0, 3], "of packet 12 nothing was told");
        assert_eq!(costs(&after(199)), [0, 0], "a burst is none");
        // One of them has arrived.
        let packets = [(11, 50, false), (12, 100, true), (13, 120, false), (14, 180, false), (15, 240, true)];
        assert_eq!(costs(&packets), [0, 0]);
        // Two are too few to tell.
        assert_eq!(costs(&[(10, 0, true), (11, 400, false), (12, 800, false), (13, 1_200, true)]), [0, 0]);
    }

    #[test]
    fn what_is_told_late_is_of_the_time_it_was_sent_at() {
        let lost = [(11, 50, false), (12, 60, false), (13, 70, false)];
        let with = |told: (u64, i64, bool)| {
            let packets: Vec<_> = lost.into_iter().chain([told, (14, 210, true), (15, 220, true)]).collect();
            costs(&packets)
        };
        assert_eq!(with((9, -5, true)), [0, 3, 0], "it arrived before the outage");
        assert_eq!(with((9, -5, false)), [3, 0], "it was lost before");
        assert_eq!(with((12, 60, true)), [0, 0, 0], "it arrived within");
    }
}
