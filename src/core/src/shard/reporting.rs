//! What the shard tells of itself: once a second its counters, on request its rooms.

use std::time::{Duration, Instant};

use super::{Shard, ShardCounters, Timer};
use crate::command::Event;
use crate::report::{MAX_ROOMS_PER_REPORT, RoomReport, ShardReport};
use moonring_wire::id::RoomId;

/// Events that wait for the control plane beyond which no report is added to them.
const MAX_BACKLOG: usize = 4_096;

impl Shard {
    /// Tells the control plane of its counters from now on, again and again.
    pub fn report_every(&mut self, now: Instant, distance: Duration) {
        self.report_distance = Some(distance);
        self.timers.push(std::cmp::Reverse((now + distance, Timer::Report)));
    }

    pub(super) fn report_timer(&mut self, now: Instant) {
        let Some(distance) = self.report_distance else { return };
        self.timers.push(std::cmp::Reverse((now + distance, Timer::Report)));
        if self.events.len() < MAX_BACKLOG {
            let report = Box::new(self.report());
            self.events.push_back(Event::Counters(report));
        }
    }

    /// The shard as it is.
    pub fn report(&self) -> ShardReport {
        let mut counters = ShardCounters { drops: self.counters.drops.clone(), ..self.counters };
        for client in self.clients.values() {
            counters.forwarded += client.facts.traffic.packets_out.get();
            counters.forwarded_bytes += client.facts.traffic.bytes_out.get();
        }
        ShardReport {
            rooms: self.rooms.len(),
            clients: self.clients.len(),
            tracks: self.tracks.len(),
            counters,
            io: self.io,
            policy: *self.engine.stats(),
            script_counters: self.engine.script_counters().map(|(name, n)| (name.to_owned(), n)).collect(),
            reloads_waiting: self.reloads.waiting(),
            longest_reload_slice: self.reloads.longest(),
        }
    }

    /// Those of `rooms` that are here, as far as one tick has time.
    pub(super) fn report_rooms(&mut self, id: u64, rooms: Vec<RoomId>) {
        let report = |room: RoomId| {
            let state = self.rooms.get(*self.room_ids.get(&room)?)?;
            let policy = self.engine.room_status(state.policy);
            Some(RoomReport { room, clients: state.clients.len(), tracks: state.tracks.len(), policy })
        };
        let rooms = rooms.into_iter().take(MAX_ROOMS_PER_REPORT).filter_map(report).collect();
        self.events.push_back(Event::Report { id, rooms });
    }
}
