//! Rooms begin with their first client, or when an operator opens them, and end with their last one, or later if their
//! script says so ([`crate::room::life`]).

use std::time::{Duration, Instant};

use serde_json::Value;

use super::faults::Subject;
use super::wings::Way;
use super::{PendingHook, Shard, Timer, announce};
use crate::command::{Event, JoinRequest, LeaveCause};
use crate::room::Room;
use moonring_policy::client::CloseReason;
use moonring_policy::hook::HookCall;
use moonring_policy::settings::HOOKS_PATIENCE;
use moonring_wire::id::{RoomId, RoomKey};
use moonring_wire::shared::SharedValue;

/// How long a room that an operator has opened waits for its first client, if its script does not keep it longer.
const OPENED_TIMEOUT: Duration = Duration::from_secs(60);
impl Shard {
    /// A join that can be decided on now. While a room is ending, who asks for it waits until it is gone.
    pub(super) fn not_too_late(&mut self, home: Option<Way>, request: JoinRequest) -> Option<JoinRequest> {
        let key = self.index.rooms.get(&request.room).copied();
        let is_ending = |key: &RoomKey| self.world.rooms.get(*key).is_some_and(|room| room.life.ending.is_some());
        let Some(key) = key.filter(is_ending) else { return Some(request) };
        if self.work.late.len() >= self.settings.max_clients {
            let cause = LeaveCause::Later("too many wait for a room that is ending".to_owned());
            self.work.events.push(Event::Left { client: request.client, cause });
        } else {
            self.work.late.push((key, home, request));
        }
        None
    }

    /// Somebody was admitted, or an operator has opened the room.
    pub(super) fn room_lives(&mut self, key: RoomKey) {
        if let Some(room) = self.world.rooms.get_mut(key)
            && !std::mem::replace(&mut room.life.lived, true)
            && room.policy().is_some()
        {
            tracing::info!(room = %room.id, "room opened");
            self.tell_webhook(key, "room_opened", || Value::Null);
        }
    }

    /// An operator's program opens a room before anybody comes.
    pub(super) fn operator_opens(&mut self, now: Instant, id: u64, room: &RoomId, metadata: Value) {
        if self.index.rooms.contains_key(room) {
            return self.called(id, Err("the room is open already".to_owned()));
        }
        match self.open_room(now, room, SharedValue::from(metadata)) {
            Ok(key) => {
                self.room_lives(key);
                self.keep_opened(now, key);
                self.called(id, Ok(Value::Null));
            }
            Err(error) => {
                self.called(id, Err(error.reason().to_owned()));
                self.work.events.push(Event::RoomClosed(room.clone()));
            }
        }
    }

    /// A room that was opened before anybody came waits for its first client.
    pub(super) fn keep_opened(&mut self, now: Instant, key: RoomKey) {
        let Some(policy) = self.world.rooms.get(key).and_then(Room::policy) else { return };
        let timeout = self.policy.engine.empty_timeout(policy);
        self.keep_no_longer(key);
        self.keep_until(now, key, now + timeout.max(OPENED_TIMEOUT));
    }

    /// A room that nobody is in has to make way for another; one that gives way ends as soon as nobody is in it.
    pub(super) fn close_if_empty(&mut self, now: Instant, room: &RoomId, gives_way: bool) {
        let Some(key) = self.index.rooms.get(room).copied() else { return };
        if gives_way {
            self.end_of_room(now, key, CloseReason::Empty);
        }
        self.keep_not_beyond(now, key);
    }

    fn keep_not_beyond(&mut self, now: Instant, key: RoomKey) {
        if let Some(room) = self.world.rooms.get_mut(key) {
            room.life.kept_until = room.life.kept_until.map(|until| until.min(now));
            self.close_room_if_empty(now, key);
        }
    }

    /// Keeps a room although nobody is in it.
    pub(super) fn keep_until(&mut self, now: Instant, key: RoomKey, until: Instant) {
        let Some(room) = self.world.rooms.get_mut(key) else { return };
        room.life.kept_until = Some(until);
        tracing::debug!(room = %room.id, for_time = ?until.saturating_duration_since(now), "kept without clients");
        self.work.kept.push_back(key);
        self.attend(key);
        if self.work.kept.len() > self.settings.max_kept_rooms {
            let is_idle = |key: &&RoomKey| self.world.rooms.get(**key).is_some_and(|room| room.hooks == 0);
            if let Some(oldest) = self.work.kept.iter().find(is_idle).copied() {
                self.keep_not_beyond(now, oldest);
            }
        }
    }

    /// Somebody comes, or the room ends.
    pub(super) fn keep_no_longer(&mut self, key: RoomKey) {
        let Some(room) = self.world.rooms.get_mut(key) else { return };
        if room.life.ending.is_none() {
            room.life.end_by = None;
        }
        if room.life.kept_until.take().is_some() {
            self.work.kept.retain(|kept| *kept != key);
        }
    }

    /// Decides that a room ends, whoever is in it.
    pub(super) fn end_of_room(&mut self, now: Instant, key: RoomKey, reason: CloseReason) {
        let Some(room) = self.world.rooms.get_mut(key).filter(|room| room.policy().is_some()) else { return };
        if room.life.ending.is_none() {
            (room.life.ending, room.life.end_by) = (Some(reason), Some(now + reason.patience()));
            self.keep_no_longer(key);
            self.attend(key);
        }
    }

    /// A room ends when nobody is in it, its script does not keep it, and its hooks have nothing left to say, or have had
    /// their time.
    pub(super) fn close_room_if_empty(&mut self, now: Instant, key: RoomKey) {
        let Some(room) = self.world.rooms.get_mut(key) else { return };
        if room.policy().is_none() {
            return self.close_wing_if_empty(now, key);
        }
        // One whose script is on its way ends, if it does, once that is here.
        if !room.is_empty() || self.policy.awaited.contains_key(&key) {
            return;
        }
        if room.hooks > 0 {
            let is_kept = room.life.kept_until.is_some_and(|until| until > now);
            if room.life.ending.is_none() && !is_kept {
                room.life.end_by.get_or_insert(now + HOOKS_PATIENCE);
            }
            return self.attend(key);
        }
        self.end_if_not_kept(now, key);
    }

    /// The same of one whose hooks are waited for no longer.
    fn end_if_not_kept(&mut self, now: Instant, key: RoomKey) {
        let Some(room) = self.world.rooms.get_mut(key) else { return };
        let Some(policy) = room.policy() else { return };
        if room.life.ending.is_none() {
            room.life.end_by = None;
            match room.life.kept_until {
                Some(until) if until > now => return self.attend(key),
                Some(_) => {}
                None if room.life.lived => {
                    let timeout = self.policy.engine.empty_timeout(policy);
                    if !timeout.is_zero() {
                        return self.keep_until(now, key, now + timeout);
                    }
                }
                None => {}
            }
            self.end_of_room(now, key, CloseReason::Empty);
        }
        self.tell_of_end_or_end(now, key);
    }

    /// Tells the script that its room ends; the second time the room is gone.
    fn tell_of_end_or_end(&mut self, now: Instant, key: RoomKey) {
        let Some(room) = self.world.rooms.get_mut(key) else { return };
        let reason = room.life.ending.filter(|_| room.life.lived && !room.life.is_told);
        let Some(reason) = reason else { return self.remove_room(now, key) };
        (room.life.is_told, room.life.end_by) = (true, Some(now + reason.patience()));
        self.attend(key);
        self.ask(now, key, PendingHook::Close, HookCall::Close { reason });
    }

    fn remove_room(&mut self, now: Instant, key: RoomKey) {
        let is_lived = self.world.rooms.get(key).is_some_and(|room| room.life.lived);
        if is_lived {
            self.tell_webhook(key, "room_closed", || Value::Null);
        }
        let Some(room) = self.take_out_room(key) else { return };
        self.policy.awaited.remove(&key);
        if is_lived {
            self.drop_checkpoint(&room);
        }
        if room.hooks > 0 {
            self.forget_hooks(key);
        }
        match is_lived {
            true => tracing::info!(room = %room.id, "room closed"),
            false => tracing::debug!(room = %room.id, "room closed: nobody was admitted"),
        }
        self.close_home(now, key, &room);
    }

    /// Takes a room, or a wing, out of all that this shard has of rooms.
    pub(super) fn take_out_room(&mut self, key: RoomKey) -> Option<Room> {
        self.keep_no_longer(key);
        self.work.attended.remove(&key);
        self.work.dirty_rooms.retain(|k| *k != key);
        let room = self.world.rooms.remove(key)?;
        self.index.rooms.remove(&room.id);
        Some(room)
    }

    /// A room that was taken out has its home here no longer: its policy ends here, and what has waited for that goes on.
    pub(super) fn close_home(&mut self, now: Instant, key: RoomKey, room: &Room) {
        if let Some(policy) = room.policy() {
            self.policy.rooms.remove(policy);
            self.policy.engine.close_room(now, policy);
        }
        self.work.events.push(Event::RoomClosed(room.id.clone()));
        self.join_late(now, key);
        self.say_late_messages(now, key, &room.id);
    }

    /// A room is gone: who waits for that joins now.
    pub(super) fn join_late(&mut self, now: Instant, key: RoomKey) {
        let (late, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.work.late).into_iter().partition(|(of, ..)| *of == key);
        self.work.late = others;
        for (_, home, request) in late {
            match home {
                Some(way) => self.join_wing(now, way, request),
                None => self.join(now, request),
            }
        }
    }

    /// Hooks of a room that does not wait for them any longer: no outcome comes.
    fn forget_hooks(&mut self, key: RoomKey) {
        let mut calls = Vec::new();
        self.policy.pending.retain(|_, (room, asked)| {
            if *room == key
                && let PendingHook::Call(id) = asked
            {
                calls.push(*id);
            }
            *room != key
        });
        calls.into_iter().for_each(|id| self.called(id, Err("the room has ended".to_owned())));
    }

    /// Looks after a room when something is due there.
    pub(super) fn attend(&mut self, key: RoomKey) {
        if let Some(due) = self.due(key) {
            self.work.attended.insert(key);
            self.schedule_rooms(due);
        }
    }

    fn due(&self, key: RoomKey) -> Option<Instant> {
        let room = self.world.rooms.get(key)?;
        let announcing = room.announcing.changed.filter(|_| room.announcing.is_pending);
        let announced = announcing.map(|at| at + announce::SLICE_INTERVAL);
        let end_by = room.life.end_by.filter(|_| room.is_empty());
        let kept_until = room.life.kept_until.filter(|_| end_by.is_none());
        // One whose script is on its way is asked again once that is here: before, it would be due for ever.
        let ends = kept_until.or(end_by).filter(|_| !self.policy.awaited.contains_key(&key));
        [ends, announced].into_iter().flatten().min()
    }

    fn schedule_rooms(&mut self, at: Instant) {
        if self.work.rooms_at.is_none_or(|scheduled| at < scheduled) {
            self.work.rooms_at = Some(at);
            self.set_timer(at, Timer::Rooms);
        }
    }

    /// Something may be due in some rooms.
    pub(super) fn rooms_timer(&mut self, now: Instant) {
        self.work.rooms_at = None;
        for key in self.work.attended.clone() {
            self.work.subject = Some(Subject::Room(key));
            if self.due(key).is_some_and(|due| due <= now) {
                self.look_after(now, key);
            }
        }
        self.attend_what_is_left();
    }

    /// Forgets the rooms where nothing is due any more, and sets the timer for the others.
    pub(super) fn attend_what_is_left(&mut self) {
        let attended = std::mem::take(&mut self.work.attended);
        attended.into_iter().for_each(|key| self.attend(key));
    }

    fn look_after(&mut self, now: Instant, key: RoomKey) {
        self.announce_slice(now, key);
        let Some(room) = self.world.rooms.get(key) else { return };
        let is_late = room.life.end_by.is_some_and(|by| by <= now) && room.is_empty();
        if is_late && room.hooks > 0 {
            let (room, hooks) = (&room.id, room.hooks);
            tracing::warn!(%room, hooks, "the room does not wait for its hooks any longer");
            self.end_if_not_kept(now, key);
        } else {
            self.close_room_if_empty(now, key);
        }
    }

    /// Every room ends: the server shuts down. Who waits for one that was ending is told.
    pub(super) fn end_all_rooms(&mut self, now: Instant) {
        for (_, _, request) in std::mem::take(&mut self.work.late) {
            self.work.events.push(Event::Left { client: request.client, cause: LeaveCause::Shutdown });
        }
        for key in self.world.rooms.keys().collect::<Vec<_>>() {
            self.end_of_room(now, key, CloseReason::Shutdown);
        }
    }
}
