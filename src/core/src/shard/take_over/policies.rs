//! The scripts of rooms follow their media: `on_unload` in the old process, `on_init` and `on_load` in the new one. Rooms that
//! look for a checkpoint wait for it in the same way.

use std::time::{Duration, Instant};

use crate::command::{LeaveCause, RoomEnd};
use crate::room::Seat;
use crate::shard::{PendingHook, Shard, Timer};
use moonring_policy::client::{CloseReason, Presence};
use moonring_policy::hook::{HookCall, SCRIPT_ERROR, Undecided};
use moonring_policy::tape::Depth;
use moonring_policy::{CarriedPolicy, OpenError, PolicyKey};
use moonring_wire::id::{RoomId, RoomKey};
use moonring_wire::packet::SendBatch;
use moonring_wire::shared::SharedValue;

/// How long a room waits for its script's state; then it begins without.
pub const STATE_PATIENCE: Duration = Duration::from_secs(5);
/// Hook calls of one room that wait for its script, as many as may wait for a hook.
const MAX_CALLS: usize = 1_024;

/// Slices of scripts that run at the end, at most.
const LAST_SLICES: usize = 256;
/// What clients are told whose room's script fails.
pub(in crate::shard) const NO_START: &str = "the room's script does not start";
/// Why a room begins anew, or with its checkpoint.
const NOT_COME: &str = "the state that it had in the process before has not come";
/// Why a process has nothing to hand over of a room.
const UNKNOWN_YET: &str = "it is not known yet what it begins with";
/// What scripts and the log are told of members that do not go along.
const LEFT_BEHIND: &str = "its media transport was not up when another process took over";

/// Where what a room's script begins with comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) enum Origin {
    /// The process that this one takes over from.
    Predecessor,
    /// A checkpoint, if there is one. The room is new here.
    New,
    /// The same, of a room that has lost its home.
    Orphan,
    /// The same, of a room of the process before, which has handed over nothing.
    Left,
}

/// A room whose script is on its way.
pub(in crate::shard) struct Awaited {
    /// What was said of the room when it was opened.
    pub(in crate::shard) metadata: SharedValue,
    pub(in crate::shard) origin: Origin,
    /// When it is waited for no longer.
    until: Instant,
    /// What would call its hooks, in its order.
    calls: Vec<(PendingHook, HookCall)>,
}

impl Awaited {
    pub(in crate::shard) fn new(now: Instant, metadata: SharedValue, origin: Origin) -> Self {
        Self { metadata, origin, until: now + STATE_PATIENCE, calls: Vec::new() }
    }

    /// The process before hands over nothing: from now on it waits for its checkpoint.
    pub(in crate::shard) fn wait_for_checkpoint(&mut self, now: Instant) {
        (self.origin, self.until) = (Origin::Left, now + STATE_PATIENCE);
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
            if self.policy.awaited.contains_key(&key) {
                each(&room.id, Err(UNKNOWN_YET.to_owned()));
            }
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
        self.set_timer(now + STATE_PATIENCE, Timer::Awaited);
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

    /// What the process before hands over of a room's script. Where that is nothing, a checkpoint may tell of it.
    pub(in crate::shard) fn policy_handed_over(&mut self, now: Instant, id: &RoomId, carried: Option<&CarriedPolicy>) {
        let Some(key) = self.index.rooms.get(id).copied() else { return };
        let origin = self.policy.awaited.get(&key).map(|awaited| awaited.origin);
        match (carried, origin) {
            (None, Some(Origin::Predecessor)) if self.may_have_checkpoint(id) => self.find_checkpoint(now, key, id),
            (None, Some(Origin::Left)) => {}
            (carried, _) => self.policy_arrives(now, id, carried),
        }
    }

    /// A room's script is here, with what it has handed over, and goes on where it was.
    pub(in crate::shard) fn policy_arrives(&mut self, now: Instant, id: &RoomId, carried: Option<&CarriedPolicy>) {
        let Some(key) = self.index.rooms.get(id).copied() else { return };
        let Some(awaited) = self.policy.awaited.remove(&key) else { return };
        let opened = match (carried, awaited.origin) {
            (None, Origin::New) => self.begin_policy(now, id, awaited.metadata),
            (None, Origin::Orphan) => {
                self.carry_policy(now, (key, id), awaited.metadata, Some(&CarriedPolicy::default()))
            }
            (carried, _) => self.carry_policy(now, (key, id), awaited.metadata, carried),
        };
        let policy = opened.as_ref().map_or_else(|_| PolicyKey::default(), |policy| *policy);
        if let Some(Seat::Home { policy: seat, .. }) = self.world.rooms.get_mut(key).map(|room| &mut room.seat) {
            *seat = policy;
        }
        if opened.is_ok() {
            self.policy.rooms.insert(policy, key);
            // It was opened by an operator's program, and its script may want it kept for longer.
            let is_new = matches!(awaited.origin, Origin::New | Origin::Left);
            if is_new && self.world.rooms[key].life.kept_until.is_some() {
                self.keep_opened(now, key);
            }
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

    /// A policy that goes on where it was, with those whom it knows.
    pub(in crate::shard) fn carry_policy(
        &mut self,
        now: Instant,
        (key, id): (RoomKey, &RoomId),
        metadata: SharedValue,
        carried: Option<&CarriedPolicy>,
    ) -> Result<PolicyKey, OpenError> {
        let script = self.policy.scripts.resolve(id);
        let roster = self.known_roster(key);
        let policy = self.policy.engine.open_carried(now, (id, metadata, roster), script, carried)?;
        let side = self.policy.scripts.side(id);
        self.policy.engine.set_side(policy, side);
        self.record_carried(now, id, policy);
        Ok(policy)
    }

    /// A room cannot go on without a script that starts: it ends as if its operator had closed it.
    fn end_without_script(&mut self, now: Instant, key: RoomKey) {
        self.end_of_room(now, key, CloseReason::Closed);
        self.end_at_wings(now, key, &RoomEnd::Closed(NO_START.to_owned()));
        let clients = self.world.rooms.get(key).map(|room| room.clients.clone()).unwrap_or_default();
        for key in clients {
            match self.world.clients.get(key) {
                Some(client) if client.far.is_some() => self.remove_far_client(now, key),
                Some(client) => {
                    let cause = match client.facts.presence.get() {
                        Presence::Joined => LeaveCause::Kicked(NO_START.to_owned()),
                        _ => LeaveCause::Undecided(Undecided::Failed, SCRIPT_ERROR.to_owned()),
                    };
                    self.remove_client(now, key, cause, NO_START);
                }
                None => {}
            }
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
        let late = self.policy.awaited.iter().filter(|(_, awaited)| awaited.until <= now);
        let rooms: Vec<(RoomKey, Origin)> = late.map(|(key, awaited)| (*key, awaited.origin)).collect();
        for (key, origin) in rooms {
            let Some(id) = self.world.rooms.get(key).map(|room| room.id.clone()) else { continue };
            let why = match origin {
                Origin::Predecessor if self.may_have_checkpoint(&id) => {
                    tracing::error!(room = %id, "{NOT_COME}: its checkpoint is looked for");
                    self.find_checkpoint(now, key, &id);
                    continue;
                }
                Origin::Predecessor => NOT_COME,
                Origin::New | Origin::Orphan | Origin::Left => "nobody says whether there is a checkpoint",
            };
            tracing::error!(room = %id, "the script begins anew: {why}");
            self.policy_arrives(now, &id, None);
        }
        if let Some(next) = self.policy.awaited.values().map(|awaited| awaited.until).min() {
            self.set_timer(next, Timer::Awaited);
        }
    }
}
