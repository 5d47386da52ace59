//! What operators ask of rooms from outside: calls of the policy, and what they do themselves; and what their webhook is
//! told.

use std::time::Instant;

use serde_json::Value;

use super::homes::CHANGES;
use super::{PendingHook, Shard};
use crate::command::Event;
use crate::room::Room;
use moonring_policy::hook::{Action, HookCall, Outcome};
use moonring_policy::tape::{Depth, Sink};
use moonring_wire::id::{RoomId, RoomKey};

pub(super) const NO_ROOM: &str = "there is no such room";
const ELSEWHERE: &str = "the room has its home on another node: orders go to its admin pages";

/// Says of a room that is being opened where its recording goes, if it is to be recorded.
pub type SinkFor = Box<dyn FnMut(&RoomId) -> Option<Sink>>;

/// Who records rooms from their first moment on.
#[derive(Default)]
pub(super) struct Recorder(Option<SinkFor>);

impl Recorder {
    pub(super) fn sink_for(&mut self, room: &RoomId) -> Option<Sink> {
        self.0.as_mut().and_then(|sink_for| sink_for(room))
    }
}

impl Shard {
    /// Calls the policy of a room; the answer comes back through [`Shard::drain_policy`].
    pub(super) fn operator_calls(&mut self, now: Instant, id: u64, room: &RoomId, request: Value) {
        match self.index.rooms.get(room).copied() {
            Some(room) if self.is_wing(room) => self.called(id, Err(ELSEWHERE.to_owned())),
            Some(room) => self.ask(now, room, PendingHook::Call(id), HookCall::Admin { request }),
            None => self.called(id, Err(NO_ROOM.to_owned())),
        }
    }

    /// Records the policies of rooms from their first moment on.
    pub fn record_rooms(&mut self, sink_for: SinkFor) {
        self.policy.recorder = Recorder(Some(sink_for));
    }

    /// Lets somebody trace or record the policy of a room.
    pub(super) fn watch_room(&mut self, now: Instant, id: u64, room: &RoomId, (sink, depth): (Sink, Depth)) {
        let key = self.index.rooms.get(room).and_then(|key| self.world.rooms.get(*key)).and_then(|room| room.policy());
        let answer = match key {
            Some(policy) => self.policy.engine.watch(now, policy, sink, depth).map(|()| Value::Null),
            None => Err(NO_ROOM.to_owned()),
        };
        if answer.is_ok() {
            tracing::info!(%room, ?depth, "an operator watches the room");
        }
        self.called(id, answer);
    }

    /// The policy of a room has answered a call.
    pub(super) fn call_answered(&mut self, id: u64, outcome: &mut Outcome) {
        let answer = if outcome.missing {
            Err("the room's script has no on_admin".to_owned())
        } else if outcome.failed {
            Err("the script failed; the server's log says how".to_owned())
        } else if let Some(reason) = outcome.refused.take() {
            Err(reason)
        } else {
            Ok(outcome.answer.take().unwrap_or_default())
        };
        self.called(id, answer);
    }

    /// Does something to a room or to a client in it, as its policy could. The policy is told as of anything else.
    pub(super) fn operator_acts(&mut self, now: Instant, id: u64, room: &RoomId, action: Action) {
        let Some(key) = self.index.rooms.get(room).copied() else {
            return self.called(id, Err(NO_ROOM.to_owned()));
        };
        if self.is_wing(key) {
            return self.called(id, Err(ELSEWHERE.to_owned()));
        }
        if self.homes.is_given(key) {
            return self.called(id, Err(CHANGES.to_owned()));
        }
        let is_there = match &action {
            Action::CloseRoom { .. }
            | Action::Broadcast { .. }
            | Action::Webhook { .. }
            | Action::Announce { .. }
            | Action::SetAudioLastN { .. } => true,
            Action::SetMuted { client, track, .. } | Action::Unpublish { client, track, .. } => {
                self.track_of(key, client, track).is_some()
            }
            Action::Unsubscribe { client, track, .. } => {
                self.is_far(key, client) || self.forward_of(key, client, track).is_some()
            }
            Action::Kick { client, .. }
            | Action::Send { client, .. }
            | Action::SetMaxBitrate { client, .. }
            | Action::SetAttributes { client, .. }
            | Action::SetRights { client, .. }
            | Action::SetHidden { client, .. }
            | Action::SetMaxLayer { client, .. }
            | Action::SetPriority { client, .. } => self.member(key, client).is_some(),
        };
        if !is_there {
            return self.called(id, Err("there is no such client or track in the room".to_owned()));
        }
        tracing::info!(%room, action = name_of(&action), "an operator acts");
        if let Some(policy) = self.world.rooms.get(key).and_then(Room::policy) {
            self.policy.engine.note_operator(now, policy, &action);
        }
        self.apply_actions(now, key, vec![action]);
        self.close_room_if_empty(now, key);
        self.called(id, Ok(Value::Null));
    }

    /// Tells the operator's webhook of something, if there is one.
    pub(super) fn tell_webhook(&mut self, room: RoomKey, event: &str, data: impl FnOnce() -> Value) {
        if self.settings.webhooks
            && let Some(room) = self.world.rooms.get(room)
        {
            let (room, event) = (room.id.clone(), event.to_owned());
            self.work.events.push(Event::Webhook { room, event, data: data() });
        }
    }

    pub(super) fn called(&mut self, id: u64, answer: Result<Value, String>) {
        self.work.events.push(Event::Called { id, answer });
    }
}

/// What an action is called in the log, which has none of what is said.
fn name_of(action: &Action) -> &'static str {
    match action {
        Action::Kick { .. } => "kick",
        Action::Send { .. } | Action::Broadcast { .. } => "message",
        Action::SetMaxBitrate { .. } => "set_max_bitrate",
        Action::SetMaxLayer { .. } => "set_max_layer",
        Action::SetPriority { .. } => "set_priority",
        Action::SetMuted { .. } => "mute",
        Action::SetAudioLastN { .. } => "set_audio_last_n",
        Action::SetAttributes { .. } => "set_attributes",
        Action::SetRights { .. } => "set_rights",
        Action::SetHidden { .. } => "set_hidden",
        Action::Unpublish { .. } => "unpublish",
        Action::Unsubscribe { .. } => "unsubscribe",
        Action::Announce { .. } => "announce",
        Action::CloseRoom { .. } => "close",
        Action::Webhook { .. } => "webhook",
    }
}
