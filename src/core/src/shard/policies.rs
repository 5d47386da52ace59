//! Between rooms and their policies: questions go out with a ticket, outcomes come back and are applied whole.

use std::time::Instant;

use serde_json::Value;

use super::faults::{Stage, Subject};
use super::streams::restart_now;
use super::{PendingHook, Shard};
use crate::command::{Event, LeaveCause, News, RefusalCode};
use crate::room::Seat;
use crate::room::forward::Terms;
use crate::room::track::Layer;
use moonring_policy::hook::{Action, DEFAULT_PRIORITY, HookCall, MAY_NOT_MESSAGE, Outcome, Presence};
use moonring_policy::{PolicyKey, PolicyOutput, PolicyRequest, PolicyRequestId};
use moonring_wire::id::{ClientId, ClientKey, RoomKey, TrackId, TrackKey};
use moonring_wire::packet::SendBatch;
use moonring_wire::shared::Shared;

impl Shard {
    /// Asks the room's policy; the answer comes back through [`Shard::drain_policy`].
    pub(super) fn ask(&mut self, now: Instant, room: RoomKey, asked: PendingHook, call: HookCall) {
        let Some((asked, call)) = self.await_home(room, asked, call) else { return };
        let Some(state) = self.world.rooms.get_mut(room) else { return };
        match state.seat {
            Seat::Home { policy, .. } => {
                state.hooks += 1;
                let Some((asked, call)) = self.await_policy(room, asked, call) else { return };
                let ticket = self.policy.engine.submit(now, policy, call);
                self.policy.pending.insert(ticket, (room, asked));
            }
            Seat::Wing { home, .. } => self.ask_home(room, home, asked, call),
        }
    }

    /// Tells the room's policy of something that is not its to decide.
    pub(super) fn notify_policy(&mut self, now: Instant, room: RoomKey, call: HookCall) {
        self.ask(now, room, PendingHook::Notice, call);
    }

    /// Applies everything that policies have come to say.
    pub(super) fn drain_policy(&mut self, now: Instant, out: &mut SendBatch) {
        while let Some(output) = self.policy.engine.poll_output() {
            match output {
                PolicyOutput::Outcome { ticket, outcome, .. } => {
                    let Some((room, asked)) = self.policy.pending.remove(&ticket) else { continue };
                    self.work.subject = Some(self.subject_of(room, &asked));
                    if let Some(state) = self.world.rooms.get_mut(room) {
                        state.hooks -= 1;
                    }
                    self.apply_outcome(now, room, asked, outcome);
                    self.give_homes(now);
                    self.close_room_if_empty(now, room);
                }
                PolicyOutput::Actions { key, actions } => {
                    if let Some(room) = self.room_of_policy(key) {
                        self.work.subject = Some(Subject::Room(room));
                        self.apply_actions(now, room, actions);
                        self.close_room_if_empty(now, room);
                    }
                }
                PolicyOutput::Request { id, key, request } => self.policy_request(now, id, key, request),
                PolicyOutput::Checkpoint { key, checkpoint } => self.keep_checkpoint(key, checkpoint),
                PolicyOutput::Reloaded { key, result } => self.policy_reloaded(key, &result),
            }
        }
        self.tell_parted(now, out);
    }

    fn policy_request(&mut self, now: Instant, id: PolicyRequestId, key: PolicyKey, request: PolicyRequest) {
        if self.work.events.is_full() {
            return self.policy.engine.resume(now, id, request.refused("the server is overloaded"));
        }
        if let Some(room) = self.room_of_policy(key) {
            let room = self.world.rooms[room].id.clone();
            self.work.events.push(Event::PolicyRequest { id, room, request });
        }
    }

    /// Who ends when applying an outcome panics: who asked, or else the room.
    pub(super) fn subject_of(&self, room: RoomKey, asked: &PendingHook) -> Subject {
        let client = match asked {
            PendingHook::Connect(key) | PendingHook::Offer(key) | PendingHook::Message(key) => Some(*key),
            PendingHook::Follow(key, ..) => Some(*key),
            PendingHook::Call(_) | PendingHook::Close | PendingHook::Far(_) | PendingHook::Notice => None,
        };
        let id = client.and_then(|key| self.world.clients.get(key)).map(|client| client.id.clone());
        id.map_or(Subject::Room(room), Subject::Client)
    }

    fn room_of_policy(&self, policy: PolicyKey) -> Option<RoomKey> {
        self.policy.rooms.get(policy).copied()
    }

    /// The verdict and the actions of one hook are one step: nobody sees one without the other.
    pub(super) fn apply_outcome(&mut self, now: Instant, room: RoomKey, asked: PendingHook, mut outcome: Outcome) {
        match asked {
            PendingHook::Connect(client) => {
                self.admit_as_asked(now, room, client, &mut outcome);
                self.connect_decided(now, client, outcome.verdict);
            }
            PendingHook::Offer(client) => self.question_decided(now, client, outcome.verdict),
            PendingHook::Follow(client, place, track) => {
                self.follow_decided(now, (client, place), track, &outcome.verdict);
            }
            PendingHook::Message(client) if outcome.missing => {
                self.message_dropped(client, "the room's policy takes no messages".to_owned());
            }
            PendingHook::Message(client) => {
                if let Some(reason) = outcome.refused {
                    self.message_dropped(client, reason);
                }
            }
            PendingHook::Call(id) => self.call_answered(id, &mut outcome),
            PendingHook::Far(question) => return self.far_decided(now, room, &question, outcome),
            PendingHook::Close | PendingHook::Notice => {}
        }
        self.apply_actions(now, room, outcome.actions);
    }

    /// What the connect hook says of a client holds before the client is told that it has joined, and others that it has.
    fn admit_as_asked(&mut self, now: Instant, room: RoomKey, key: ClientKey, outcome: &mut Outcome) {
        let Some(id) = self.world.clients.get(key).map(|client| client.id.clone()) else { return };
        let is_of_it = |action: &Action| match action {
            Action::SetAttributes { client, .. }
            | Action::SetRights { client, .. }
            | Action::SetHidden { client, .. } => *client == id,
            _ => false,
        };
        let (first, others) = std::mem::take(&mut outcome.actions).into_iter().partition(is_of_it);
        outcome.actions = others;
        self.apply_actions(now, room, first);
    }

    fn message_dropped(&mut self, client: ClientKey, reason: String) {
        if let Some(client) = self.world.clients.get(client) {
            let id = client.id.clone();
            self.refuse(&id, None, RefusalCode::MessageDropped, reason);
        }
    }

    pub(super) fn apply_actions(&mut self, now: Instant, room: RoomKey, actions: Vec<Action>) {
        if !actions.is_empty() {
            self.act_everywhere(now, room, actions, None);
        }
    }

    /// Does it on this shard: see [`Self::apply`].
    pub(super) fn apply_here(&mut self, now: Instant, room: RoomKey, action: Action) {
        match action {
            Action::Kick { client, reason } => {
                if let Some(key) = self.member(room, &client) {
                    self.remove_client(now, key, LeaveCause::Kicked(reason.clone()), &reason);
                }
            }
            Action::Send { client, value } => {
                if self.member(room, &client).is_some() {
                    self.work.events.push(Event::message(client, value));
                }
            }
            Action::Broadcast { value, except } => {
                let except = except.and_then(|id| self.member(room, &id));
                self.tell_here(room, except, &Shared::new(News::Message(value.into())));
            }
            Action::SetMaxBitrate { client, bps } => {
                if let Some(key) = self.member(room, &client) {
                    self.world.clients[key].inbound.max_bitrate_bps = bps.or(self.settings.max_bitrate_bps);
                    // Told at once, not with the next report.
                    self.world.clients[key].deadlines.report = now;
                    self.schedule(key);
                }
            }
            Action::SetMaxLayer { client, track, layer } => {
                self.change_terms(now, room, (&client, &track), |terms| terms.max_layer = layer);
            }
            Action::SetPriority { client, track, priority } => {
                let priority = priority.unwrap_or(DEFAULT_PRIORITY);
                self.change_terms(now, room, (&client, &track), |terms| terms.priority = priority);
            }
            Action::SetMuted { client, track, muted } => {
                if let Some(key) = self.track_of(room, &client, &track) {
                    self.world.tracks[key].muted_by_policy = muted;
                    self.muting_changed(now, key);
                }
            }
            Action::SetAttributes { client, attributes } => {
                if let Some(key) = self.member(room, &client) {
                    self.set_attributes(key, attributes.into());
                }
            }
            Action::SetRights { client, change, reason } => {
                if let Some(key) = self.member(room, &client) {
                    self.change_rights(now, key, change, &reason);
                }
            }
            Action::SetHidden { client, hidden } => {
                if let Some(key) = self.member(room, &client) {
                    self.set_hidden(key, hidden);
                }
            }
            Action::Unpublish { client, track, reason } => {
                if let Some(key) = self.track_of(room, &client, &track) {
                    self.end_track(now, key, &reason);
                }
            }
            Action::Unsubscribe { client, track, reason } => {
                if let Some((key, place)) = self.forward_of(room, &client, &track) {
                    self.end_subscription(now, key, place, &reason);
                }
            }
            Action::Webhook { event, data } => {
                if let Some(room) = self.world.rooms.get(room) {
                    self.work.events.push(Event::Webhook { room: room.id.clone(), event, data });
                }
            }
            Action::Announce { .. } | Action::SetAudioLastN { .. } | Action::CloseRoom { .. } => {
                self.apply_to_room(now, room, action);
            }
        }
    }

    /// Changes what the policy says of a track to a client, which may receive it now or later.
    fn change_terms(
        &mut self,
        now: Instant,
        room: RoomKey,
        (client, id): (&ClientId, &TrackId),
        change: impl FnOnce(&mut Terms),
    ) {
        let (Some(key), Some(track)) = (self.member(room, client), self.track_in(room, id)) else { return };
        let in_room = self.world.rooms.get(room).map_or(0, |room| room.tracks.len());
        let outbound = &mut self.world.clients[key].outbound;
        // Those of tracks that have ended.
        if outbound.terms.len() >= 2 * in_room.max(8) {
            outbound.terms.retain(|id, _| self.index.tracks.contains_key(id));
        }
        let terms = outbound.terms.entry(id.clone()).or_default();
        change(terms);
        let terms = *terms;
        if terms == Terms::default() {
            outbound.terms.remove(id);
        }
        let Some(place) = self.world.clients[key].forward_of(track) else { return };
        self.limit_forward(now, (key, place), |forward, _| forward.limits.policy = terms);
    }

    /// The client `id`, if it is in `room`: a policy reaches nobody else.
    pub(super) fn member(&self, room: RoomKey, id: &ClientId) -> Option<ClientKey> {
        let key = *self.index.clients.get(id)?;
        let client = self.world.clients.get(key)?;
        (client.room == room && client.facts.presence.get() != Presence::Gone).then_some(key)
    }

    pub(super) fn track_of(&self, room: RoomKey, client: &ClientId, track: &TrackId) -> Option<TrackKey> {
        let key = *self.index.tracks.get(track)?;
        let owner = self.member(room, client)?;
        self.world.tracks.get(key).filter(|t| t.owner == owner).map(|_| key)
    }

    pub(super) fn forward_of(&self, room: RoomKey, client: &ClientId, track: &TrackId) -> Option<(ClientKey, u16)> {
        let key = self.member(room, client)?;
        let place = self.world.clients[key].forward_of(*self.index.tracks.get(track)?)?;
        Some((key, place))
    }

    /// Tells everybody how muted a track is now, and lets its forwards start afresh after a pause.
    fn muting_changed(&mut self, now: Instant, key: TrackKey) {
        let Some(track) = self.world.tracks.get_mut(key) else { return };
        let muted = track.is_muted();
        if track.info.muted == muted {
            return;
        }
        track.info.muted = muted;
        let (info, room, owner) = (track.info.clone(), track.room, track.owner);
        if muted {
            // What is missing already would be asked for in vain.
            track.layers.iter_mut().for_each(Layer::forget_missing);
        } else {
            track.layers.iter_mut().for_each(Layer::pass_gap);
            for (client, place) in track.subscribers.clone() {
                let Some(client) = self.world.clients.get_mut(client) else { continue };
                let Some(forward) = &mut client.outbound.forwards[usize::from(place)] else { continue };
                restart_now(now, forward, track);
            }
            self.schedule(owner);
        }
        self.update_facts(owner);
        self.tell_room(room, None, News::TrackChanged(info));
    }

    pub(super) fn set_muted_by_client(&mut self, now: Instant, id: &ClientId, track: &TrackId, muted: bool) {
        match self.own_track(id, track) {
            Some(key) => {
                self.world.tracks[key].muted_by_client = muted;
                self.muting_changed(now, key);
            }
            None => self.refuse_unknown_track(id, track),
        }
    }

    pub(super) fn set_client_layer(&mut self, now: Instant, id: &ClientId, track: &TrackId, layer: Option<u8>) {
        let key = self.index.clients.get(id).copied();
        let place = key.and_then(|k| self.world.clients[k].forward_of(*self.index.tracks.get(track)?));
        let (Some(key), Some(place)) = (key, place) else { return self.refuse_unknown_track(id, track) };
        self.limit_forward(now, (key, place), |forward, _| forward.limits.client = layer);
    }

    pub(super) fn message(&mut self, now: Instant, id: &ClientId, value: Value) {
        let Some(key) = self.index.clients.get(id).copied() else { return };
        let client = &self.world.clients[key];
        if client.facts.presence.get() == Presence::Joined && !client.facts.rights.get().message {
            self.refuse(id, None, RefusalCode::MessageDropped, MAY_NOT_MESSAGE.to_owned());
        } else if client.facts.presence.get() == Presence::Joined {
            self.stage(Stage::Message);
            let client = &self.world.clients[key];
            let (room, call) = (client.room, HookCall::Message { client: client.facts.clone(), message: value });
            self.ask(now, room, PendingHook::Message(key), call);
        }
    }

    /// The track `track`, if client `id` publishes it.
    pub(super) fn own_track(&self, id: &ClientId, track: &TrackId) -> Option<TrackKey> {
        let (owner, key) = (*self.index.clients.get(id)?, *self.index.tracks.get(track)?);
        self.world.tracks.get(key).filter(|t| t.owner == owner).map(|_| key)
    }

    /// Whether somebody in the client's room publishes the track.
    pub(super) fn is_in_room_of(&self, key: ClientKey, track: &TrackId) -> bool {
        let track = self.index.tracks.get(track).and_then(|track| self.world.tracks.get(*track));
        track.is_some_and(|track| track.room == self.world.clients[key].room)
    }

    /// Says that there is no such track; of one that ended lately the news and the request have crossed.
    pub(super) fn refuse_unknown_track(&mut self, id: &ClientId, track: &TrackId) {
        let Some(client) = self.index.clients.get(id).and_then(|key| self.world.clients.get(*key)) else { return };
        if !self.world.rooms.get(client.room).is_some_and(|room| room.gone.contains(track)) {
            let words = format!("there is no track {track} that this could be done to");
            self.refuse(id, None, RefusalCode::UnknownTrack, words);
        }
    }
}
