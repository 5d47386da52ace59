//! What came in leaves.

use std::time::Instant;

use super::{Shard, faults};
use crate::room::fanout;
use crate::room::sealing::Moment;
use moonring_wire::packet::SendBatch;

impl Shard {
    /// Forwards what came in since the last call. True when `out` is full and there is more: flush, and call again.
    pub fn forward(&mut self, now: Instant, out: &mut SendBatch) -> bool {
        self.forward_at(self.moment(now), out)
    }

    /// Forwards everything, also what pacers and holds keep back for a moment: what has not left is lost when another process
    /// goes on, as it has no histories. True like [`Shard::forward`].
    pub fn forward_all(&mut self, now: Instant, out: &mut SendBatch) -> bool {
        for (key, room) in &mut self.world.rooms {
            if room.sound_hold.until.take().is_some() {
                self.work.dirty_rooms.push_back(key);
            }
        }
        for key in self.world.clients.keys().collect::<Vec<_>>() {
            self.touch(key);
        }
        self.forward_at(Moment { is_last: true, ..self.moment(now) }, out)
    }

    fn forward_at(&mut self, moment: Moment, out: &mut SendBatch) -> bool {
        let mut ahead = 0;
        while let Some(key) = self.work.dirty_rooms.front().copied() {
            self.stage(faults::Stage::Forward);
            if ahead == 0 {
                ahead = self.expect_rooms();
            }
            ahead -= 1;
            let is_done = fanout::fan_out(moment, key, &mut self.world, out, &mut self.report.counters.drops);
            self.wake_later(moment.now, key);
            if !is_done {
                return true;
            }
            self.work.dirty_rooms.pop_front();
        }
        false
    }

    pub(super) fn moment(&self, now: Instant) -> Moment {
        let since_start = now.saturating_duration_since(self.start);
        let (is_pressed, reads_ahead) = (self.work.load.is_pressed(), self.reads_ahead());
        Moment { now, since_start, is_last: false, is_pressed, reads_ahead }
    }
}
