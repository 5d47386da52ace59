//! What the shard tells of itself: once a second its counters, on request its rooms.

use std::time::{Duration, Instant};

use super::{Shard, Timer};
use crate::command::Event;
use crate::report::{
    IoStats, MAX_PATHS_PER_ROOM, MAX_ROOMS_PER_REPORT, PathReport, RoomReport, ShardCounters, ShardReport,
};
use crate::room::client::Client;
use crate::room::congestion::Congestion;
use moonring_policy::client::Traffic;
use moonring_policy::hook::PathFigures;
use moonring_wire::id::RoomId;

/// What the shard tells of itself.
#[derive(Default)]
pub(super) struct Reporting {
    pub(super) counters: ShardCounters,
    pub(super) io: IoStats,
    pub(super) interval: Option<Duration>,
    /// What has been used of the core's time since the last report.
    pub(super) busy: Duration,
}

/// What clients that are here were sent is in their own figures, and those go along to the next shard.
impl Reporting {
    /// A client is here no more: what it was sent still counts.
    pub(super) fn keep_sent(&mut self, traffic: &Traffic) {
        let ShardCounters { forwarded, forwarded_bytes, .. } = &mut self.counters;
        *forwarded = forwarded.wrapping_add(traffic.packets_out.get());
        *forwarded_bytes = forwarded_bytes.wrapping_add(traffic.bytes_out.get());
    }

    /// A client is here from now on: what it was sent elsewhere has been counted there. Its figures are more than all that is
    /// left here, at first.
    pub(super) fn leave_out_sent(&mut self, traffic: &Traffic) {
        let ShardCounters { forwarded, forwarded_bytes, .. } = &mut self.counters;
        *forwarded = forwarded.wrapping_sub(traffic.packets_out.get());
        *forwarded_bytes = forwarded_bytes.wrapping_sub(traffic.bytes_out.get());
    }
}

impl Shard {
    /// Tells the control plane of its counters from now on, again and again.
    pub fn report_every(&mut self, now: Instant, distance: Duration) {
        self.report.interval = Some(distance);
        self.set_timer(now + distance, Timer::Report);
    }

    pub(super) fn report_timer(&mut self, now: Instant) {
        let Some(distance) = self.report.interval else { return };
        self.set_timer(now + distance, Timer::Report);
        let busy = std::mem::take(&mut self.report.busy);
        if !self.is_backed_up() {
            let busy_permille = (1_000.0 * busy.as_secs_f64() / distance.as_secs_f64()) as u32;
            let report = Box::new(ShardReport { busy_permille, ..self.report() });
            self.work.events.push(Event::Counters(report));
        }
    }

    /// The shard as it is.
    pub fn report(&self) -> ShardReport {
        let mut counters = self.report.counters.clone();
        counters.events_lost = self.work.events.lost();
        counters.relayed_out = self.world.links.relayed;
        for client in self.world.clients.values().filter(|client| client.far.is_none()) {
            let traffic = &client.facts.traffic;
            counters.forwarded = counters.forwarded.wrapping_add(traffic.packets_out.get());
            counters.forwarded_bytes = counters.forwarded_bytes.wrapping_add(traffic.bytes_out.get());
        }
        ShardReport {
            busy_permille: 0,
            video_kept_permille: (1_000.0 * self.work.load.kept()) as u32,
            coalescing_us: self.work.load.coalescing().as_micros() as u32,
            rooms: self.world.rooms.len(),
            clients: self.world.clients.len() - self.index.far,
            tracks: self.world.tracks.values().filter(|track| track.far.is_none()).count(),
            counters,
            io: self.report.io,
            policy: *self.policy.engine.stats(),
            script_counters: self.policy.engine.script_counters().map(|(name, n)| (name.to_owned(), n)).collect(),
            reloads_waiting: self.policy.reloads.waiting(),
            reloads: self.policy.reloads.progress(self.policy.scripts.orders()),
            longest_reload_slice: self.policy.reloads.longest(),
            links: self.link_reports(),
            canary: self.policy.engine.canary().copied(),
        }
    }

    /// Those of `rooms` that are here, as far as one tick has time.
    pub(super) fn report_rooms(&mut self, id: u64, rooms: Vec<RoomId>) {
        let report = |room: RoomId| {
            let state = self.world.rooms.get(*self.index.rooms.get(&room)?)?;
            let policy = state.policy().and_then(|policy| self.policy.engine.room_status(policy));
            let clients = state.clients.iter().filter_map(|key| self.world.clients.get(*key));
            let paths = clients.filter_map(path).take(MAX_PATHS_PER_ROOM).collect();
            Some(RoomReport { room, clients: state.clients.len(), tracks: state.tracks.len(), policy, paths })
        };
        let rooms = rooms.into_iter().take(MAX_ROOMS_PER_REPORT).filter_map(report).collect();
        self.work.events.push(Event::Report { id, rooms });
    }
}

fn path(client: &Client) -> Option<PathReport> {
    let (via, transport) = (client.facts.connection.via, client.transport_name());
    let sharing = client.outbound.congestion.as_deref().map_or(0, Congestion::shares_with);
    Some(PathReport { client: client.id.clone(), via, transport, sharing, figures: path_figures(client)? })
}

/// How the path to a client is; `None` while nothing is forwarded to it.
pub(super) fn path_figures(client: &Client) -> Option<PathFigures> {
    let path = client.outbound.congestion.as_deref()?;
    let paused = client.outbound.forwards.iter().flatten().filter(|f| f.allotted.paused.is_some()).count();
    Some(PathFigures {
        estimate_bps: path.stable_bps(),
        target_bps: path.target_bps(),
        paused,
        rtt: path.rtt(),
        loss: path.loss(),
        resends: path.repairs.resent(),
    })
}
