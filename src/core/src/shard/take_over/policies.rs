//! The scripts of rooms follow their media: `on_unload` in the old process, `on_init` and `on_load` in the new one.

use std::time::{Duration, Instant};

use crate::command::LeaveCause;
use crate::room::Seat;
use crate::shard::{PendingHook, Shard, Timer};
use moonring_policy::client::CloseReason;
use moonring_policy::hook::HookCall;
use moonring_policy::tape::Depth;
use moonring_policy::{CarriedPolicy, PolicyKey};
use moonring_wire::id::{RoomId, RoomKey};
use moonring_wire::packet::SendBatch;
use moonring_wire::shared::SharedValue;

/// How long a room waits for its script's state; then it begins without.
const PATIENCE: Duration = Duration::from_secs(5);
/// Hook calls of one room that wait for its script, as many as may wait for a hook.
const MAX_CALLS: usize = 1_024;

/// Slices of scripts that run at the end, at most.
const LAST_SLICES: usize = 256;
/// What scripts and the log are told of members that do not go along.
const LEFT_BEHIND: &str = "its media transport was not up when another process took over";

/// A room whose script is on its way.
pub(in crate::shard) struct Awaited {
    /// What was said of the room when it was opened.
    pub(super) metadata: SharedValue,
    /// What would call its hooks, in its order.
    calls: Vec<(PendingHook, HookCall)>,
}

impl Awaited {
    pub(super) fn new(metadata: SharedValue) -> Self {
        Self { metadata, calls: Vec::new() }
    }
}

impl Shard {
    /// Calls `on_unload` of each room and hands out what it returns; an error says why a room has nothing to hand over.
    /// Everything else of this shard has ended. Scripts are told first of members that do not go along.
    pub fn hand_over_policies(&mut self, now: Instant, mut each: impl FnMut(&RoomId, Result<CarriedPolicy, String>)) {
        self.end_left_behind(now);
        let rooms: Vec<RoomKey> = self.world.rooms.keys().collect();
        for key in rooms {
            let Some(room) = self.world.rooms.get(key).filter(|room| room.life.ending.is_none()) else { continue };
            let Some(policy) = room.policy() else { continue };
            if let Some(carried) = self.policy.engine.hand_over(now, policy) {
                each(&room.id, carried.map_err(|error| error.to_string()));
            }
        }
    }

    fn end_left_behind(&mut self, now: Instant) {
        for key in std::mem::take(&mut self.moves.left_behind) {
            self.remove_client(now, key, LeaveCause::Shutdown, LEFT_BEHIND);
        }
        for _ in 0..LAST_SLICES {
            if !self.has_scripts_due(now) {
                break;
            }
            self.run_scripts(now, &mut SendBatch::new(0, 0));
        }
    }

    /// Rooms whose scripts are awaited wait from now on.
    pub(in crate::shard) fn await_policies(&mut self, now: Instant) {
        self.set_timer(now + PATIENCE, Timer::Awaited);
    }

    /// A hook that can be called now; that of a room whose script is on its way waits for it.
    pub(in crate::shard) fn await_policy(
        &mut self,
        room: RoomKey,
        asked: PendingHook,
        call: HookCall,
    ) -> Option<(PendingHook, HookCall)> {
        match self.policy.awaited.get_mut(&room) {
            // Beyond the bound it fails, as its policy is not there.
            Some(awaited) if awaited.calls.len() < MAX_CALLS => {
                awaited.calls.push((asked, call));
                None
            }
            _ => Some((asked, call)),
        }
    }

    /// A room's script is here, with what it has handed over, and goes on where it was.
    pub(in crate::shard) fn policy_arrives(&mut self, now: Instant, id: &RoomId, carried: Option<&CarriedPolicy>) {
        let Some(key) = self.index.rooms.get(id).copied() else { return };
        let Some(awaited) = self.policy.awaited.remove(&key) else { return };
        let script = self.policy.scripts.resolve(id);
        let roster = self.roster_of(key);
        let opened = self.policy.engine.open_carried(now, (id, awaited.metadata, roster), script, carried);
        let policy = opened.as_ref().map_or_else(|_| PolicyKey::default(), |policy| *policy);
        if let Some(Seat::Home { policy: seat, .. }) = self.world.rooms.get_mut(key).map(|room| &mut room.seat) {
            *seat = policy;
        }
        if opened.is_ok() {
            self.policy.rooms.insert(policy, key);
            let side = self.policy.scripts.side(id);
            self.policy.engine.set_side(policy, side);
            self.record_carried(now, id, policy);
        }
        // Without a script they fail.
        for (asked, call) in awaited.calls {
            let ticket = self.policy.engine.submit(now, policy, call);
            self.policy.pending.insert(ticket, (key, asked));
        }
        match opened {
            Ok(_) => self.close_room_if_empty(now, key),
            Err(_) => self.end_without_script(now, key),
        }
    }

    /// A room cannot go on without a script that starts: it ends as if its operator had closed it.
    fn end_without_script(&mut self, now: Instant, key: RoomKey) {
        let clients = self.world.rooms.get(key).map(|room| room.clients.clone()).unwrap_or_default();
        self.end_of_room(now, key, CloseReason::Closed);
        for client in clients {
            let reason = "the room's script does not start";
            let cause = LeaveCause::Kicked(reason.to_owned());
            self.remove_client(now, client, cause, reason);
        }
        self.close_room_if_empty(now, key);
    }

    /// A room that is recorded is recorded from here on.
    pub(in crate::shard) fn record_carried(&mut self, now: Instant, id: &RoomId, policy: PolicyKey) {
        if let Some(sink) = self.policy.recorder.sink_for(id)
            && let Err(words) = self.policy.engine.watch(now, policy, sink, Depth::Recording)
        {
            tracing::warn!(room = %id, "is not recorded any more: {words}");
        }
    }

    /// Scripts that have not come begin anew.
    pub(in crate::shard) fn await_no_longer(&mut self, now: Instant) {
        let rooms: Vec<RoomKey> = self.policy.awaited.keys().copied().collect();
        for key in rooms {
            let Some(id) = self.world.rooms.get(key).map(|room| room.id.clone()) else { continue };
            tracing::error!(room = %id, "the script begins anew: the state that it had in the process before has not come");
            self.policy_arrives(now, &id, None);
        }
    }
}
