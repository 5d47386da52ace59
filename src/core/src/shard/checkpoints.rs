//! Checkpoints of rooms: what their scripts would hand over, kept by the control plane for when this process is lost.
//!
//! ```text
//! a room is opened, its home's node is gone, or
//! the process before hands over nothing of it  ──▶ Find; hooks wait ──▶ CheckpointFound ──▶ on_init, on_load
//! every CHECKPOINT_SECONDS of its script       ──▶ Keep
//! the room has ended                           ──▶ Drop
//! ```

use std::time::Instant;

use super::Shard;
use super::take_over::{Awaited, Origin};
use crate::command::{CheckpointOrder, Event};
use crate::room::{Room, Seat};
use moonring_policy::{Checkpoint, PolicyKey};
use moonring_wire::id::{RoomId, RoomKey};
use moonring_wire::shared::SharedValue;

impl Shard {
    /// Opens a room whose script may have had a checkpoint.
    pub(super) fn open_awaiting(&mut self, now: Instant, id: &RoomId, metadata: SharedValue) -> RoomKey {
        let key = self.add_room(id.clone(), Seat::Home { policy: PolicyKey::default(), wings: Vec::new() });
        self.await_checkpoint(now, key, (metadata, Origin::New));
        key
    }

    /// A room's policy begins once it is known whether there is a checkpoint.
    pub(super) fn await_checkpoint(&mut self, now: Instant, key: RoomKey, (metadata, origin): (SharedValue, Origin)) {
        let Some(room) = self.world.rooms.get(key).map(|room| room.id.clone()) else { return };
        self.policy.awaited.insert(key, Awaited::new(now, metadata, origin));
        self.ask_for_checkpoint(now, room);
    }

    fn ask_for_checkpoint(&mut self, now: Instant, room: RoomId) {
        self.await_policies(now);
        self.work.events.push(Event::Checkpoint { room, order: CheckpointOrder::Find });
    }

    /// Whether a room's script keeps checkpoints.
    pub(super) fn may_have_checkpoint(&self, id: &RoomId) -> bool {
        self.policy.scripts.resolve(id).is_ok_and(|script| script.keeps_checkpoints())
    }

    /// A room for whose script the process before has had nothing goes on waiting: for its checkpoint.
    pub(super) fn find_checkpoint(&mut self, now: Instant, key: RoomKey, id: &RoomId) {
        if let Some(awaited) = self.policy.awaited.get_mut(&key) {
            awaited.wait_for_checkpoint(now);
            self.ask_for_checkpoint(now, id.clone());
        }
    }

    /// What is kept of a room that waits for it.
    pub(super) fn checkpoint_found(&mut self, now: Instant, id: &RoomId, found: Option<Box<Checkpoint>>) {
        let key = self.index.rooms.get(id);
        let awaited = key.and_then(|key| self.policy.awaited.get_mut(key));
        let Some(awaited) = awaited.filter(|awaited| awaited.origin != Origin::Predecessor) else { return };
        let carried = found.map(|found| {
            let (carried, metadata) = self.policy.engine.revive(now, *found);
            // Whoever opens it anew may say something else of it.
            if awaited.metadata.is_empty_object() {
                awaited.metadata = metadata;
            }
            tracing::info!(room = %id, "goes on from its checkpoint: its server was lost");
            carried
        });
        self.policy_arrives(now, id, carried.as_ref());
    }

    pub(super) fn keep_checkpoint(&mut self, key: PolicyKey, checkpoint: Box<Checkpoint>) {
        let room = self.policy.rooms.get(key).and_then(|key| self.world.rooms.get(*key));
        if let Some(room) = room.filter(|room| room.life.ending.is_none() && room.policy() == Some(key)) {
            let order = CheckpointOrder::Keep(checkpoint);
            self.work.events.push(Event::Checkpoint { room: room.id.clone(), order });
        }
    }

    /// A room has ended, as its script has been told.
    pub(super) fn drop_checkpoint(&mut self, room: &Room) {
        let script = room.policy().and_then(|policy| self.policy.engine.script(policy));
        if script.is_some_and(|script| script.keeps_checkpoints()) {
            self.work.events.push(Event::Checkpoint { room: room.id.clone(), order: CheckpointOrder::Drop });
        }
    }
}
