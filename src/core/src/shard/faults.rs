//! What ends when something goes wrong: after a panic what caused it, at shutdown everybody.

use std::time::Instant;

use super::{Shard, Timer};
use crate::command::{Command, Event, LeaveCause, RoomEnd};
use crate::room::client::{Client, SectionUse};
use crate::room::forward::Forward;
use moonring_policy::client::CloseReason;
use moonring_policy::hook::Presence;
use moonring_wire::id::{ClientId, ClientKey, RoomKey};
use moonring_wire::packet::{AddressPair, SendBatch};

/// What a client is told whose packet or timer made the server panic.
const FAULT: &str = "internal error, please join again";

/// Whom the work under way is for: it is what ends when that panics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    Client(ClientId),
    Room(RoomKey),
}

/// Places where a test can make the shard panic, in the middle of a change wherever there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// A join has a client, and the policy has not been asked.
    Joining,
    /// The policy has allowed a join, and nobody was told.
    Admitted,
    /// An offer is taken down, and nothing is asked.
    Offered,
    /// The policy has allowed a track, and its room does not have it.
    Publishing,
    /// A track is out of the world, and its receivers are not told.
    Unpublishing,
    /// A client is out of the world, and still in its room.
    Removing,
    /// A message has come for the policy.
    Message,
    /// A STUN request has been answered, and its address is not noted.
    Stun,
    /// A DTLS record was handled, and what came of it was not.
    Dtls,
    /// A packet is opened.
    Rtp,
    /// A packet is kept, and its track is not marked.
    Kept,
    /// A report is opened.
    Rtcp,
    /// A room is being forwarded.
    Forward,
    /// A client's timer has rung.
    ClientTimer,
    /// The timer of a room's speakers has rung.
    SpeakersTimer,
}

impl Stage {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::Joining,
        Self::Admitted,
        Self::Offered,
        Self::Publishing,
        Self::Unpublishing,
        Self::Removing,
        Self::Message,
        Self::Stun,
        Self::Dtls,
        Self::Rtp,
        Self::Kept,
        Self::Rtcp,
        Self::Forward,
        Self::ClientTimer,
        Self::SpeakersTimer,
    ];
}

impl Shard {
    /// Lets the next pass through `stage` panic, in builds with debug assertions.
    pub fn arm(&mut self, stage: Stage) {
        self.work.fault = Some(stage);
    }

    /// See [`Shard::arm`].
    pub(super) fn stage(&mut self, stage: Stage) {
        if cfg!(debug_assertions) && self.work.fault == Some(stage) {
            self.work.fault = None;
            panic!("a fault that was put in at {stage:?}");
        }
    }

    /// Notes whom a command is about.
    pub(super) fn begin_command(&mut self, command: &Command) {
        self.work.subject = command.client().cloned().map(Subject::Client);
    }

    /// A command, or what a policy had to say after it, made the core panic: its client ends, or its room.
    pub fn end_commanded(&mut self, now: Instant) {
        self.count_panic();
        match self.work.subject.take() {
            Some(Subject::Client(id)) => self.end_client(now, &id),
            Some(Subject::Room(key)) => self.end_room(now, key),
            None => {}
        }
        self.repair(now);
    }

    fn end_client(&mut self, now: Instant, id: &ClientId) {
        let cause = LeaveCause::Later(FAULT.to_owned());
        match self.index.clients.get(id).copied().filter(|key| self.world.clients.contains_key(*key)) {
            Some(key) => self.remove_client(now, key, cause, FAULT),
            // It was not in yet, or half out: its connection must not wait for ever.
            None => self.forget(id, cause),
        }
    }

    /// Takes out what is left of a client whose coming or going was cut short.
    fn forget(&mut self, id: &ClientId, cause: LeaveCause) {
        self.index.clients.remove(id);
        self.work.events.push(Event::Left { client: id.clone(), cause });
    }

    fn end_room(&mut self, now: Instant, key: RoomKey) {
        let end = RoomEnd::Lost(FAULT.to_owned());
        if self.is_wing(key) {
            return self.end_wing(now, key, &end);
        }
        self.end_of_room(now, key, CloseReason::Closed);
        self.end_at_wings(now, key, &end);
        self.end_clients_here(now, key, &(&end).into(), FAULT);
        self.close_room_if_empty(now, key);
    }

    /// Makes the tables agree again after a change that was cut short: what refers to something that is gone goes too.
    /// It looks at everything on the shard, which takes as long as a tick or two; panics are rare.
    pub fn repair(&mut self, now: Instant) {
        let (world, index) = (&mut self.world, &mut self.index);
        let lost: Vec<_> =
            world.tracks.iter().filter(|(_, t)| !world.clients.contains_key(t.owner)).map(|t| t.0).collect();
        for key in lost {
            world.tracks.remove(key);
        }
        index.tracks.retain(|_, key| world.tracks.contains_key(*key));
        index.clients.retain(|_, key| world.clients.contains_key(*key));
        let is_joining = |client: &&Client| client.far.is_none() && client.facts.presence.get() != Presence::Joined;
        index.joining = world.clients.values().filter(is_joining).count();
        index.far = world.clients.values().filter(|client| client.far.is_some()).count();
        index.addresses.retain(|_, key| world.clients.contains_key(*key));
        index.ufrags.retain(|_, key| world.clients.contains_key(*key));
        for client in world.clients.values_mut() {
            client.inbound.published.retain(|track| world.tracks.contains_key(*track));
            client.inbound.streams.retain(|_, incoming| world.tracks.contains_key(incoming.track));
            let is_lost =
                |f: &Option<Forward>| f.as_ref().is_some_and(|f| !f.follows && !world.tracks.contains_key(f.track));
            let lost: Vec<_> =
                (0..client.outbound.forwards.len()).filter(|at| is_lost(&client.outbound.forwards[*at])).collect();
            lost.into_iter().for_each(|place| drop(client.remove_forward(place as u16)));
            let published = client.inbound.published.clone();
            client
                .negotiated
                .sections
                .retain(|(_, used)| !matches!(used, SectionUse::Publish(key) if !published.contains(key)));
        }
        for (key, track) in &mut world.tracks {
            let receives = |client: ClientKey, place: u16| {
                let forwards = world.clients.get(client).map(|client| &client.outbound.forwards);
                let forward = forwards.and_then(|forwards| forwards.get(usize::from(place))?.as_ref());
                forward.is_some_and(|forward| forward.track == key)
            };
            track.subscribers.retain(|(client, place)| receives(*client, *place));
        }
        for (key, room) in &mut world.rooms {
            room.clients = room.clients.iter().copied().filter(|c| world.clients.contains_key(*c)).collect();
            let members = || room.clients.iter().filter_map(|key| world.clients.get(*key));
            let is_home = room.policy().is_some();
            let is_member = |c: &&Client| c.facts.presence.get() == Presence::Joined && (is_home || c.far.is_none());
            room.here = members().filter(|client| client.far.is_none()).count();
            room.members = members().filter(is_member).count();
            room.announced = members().filter(|client| client.is_announced).map(|client| client.key).collect();
            room.hopping.retain(|track| world.tracks.contains_key(*track));
            room.touched.retain(|client| world.clients.contains_key(*client));
            room.waiting.retain(|(client, _)| world.clients.contains_key(*client));
            room.tracks.retain(|track| world.tracks.contains_key(*track));
            room.dirty.retain(|track| world.tracks.contains_key(*track));
            if !room.dirty.is_empty() && !self.work.dirty_rooms.contains(&key) {
                self.work.dirty_rooms.push_back(key);
            }
        }
        for key in self.world.rooms.keys().collect::<Vec<_>>() {
            self.close_room_if_empty(now, key);
        }
    }

    /// A datagram from `from` made the core panic: its client ends.
    pub fn end_client_at(&mut self, now: Instant, from: AddressPair) {
        self.count_panic();
        // A request says whose it is by its name, not by where it comes from.
        let at = self.index.addresses.get(&from).copied();
        // Where it was nobody's, nothing has changed.
        if let Some(key) = self.work.current.take().or(at) {
            self.remove_client(now, key, LeaveCause::Later(FAULT.to_owned()), FAULT);
            self.repair(now);
        }
    }

    /// Forwarding made the core panic: the room that was forwarded ends.
    pub fn end_forwarding_room(&mut self, now: Instant) {
        self.count_panic();
        if let Some(key) = self.work.dirty_rooms.pop_front() {
            self.end_room(now, key);
        }
        self.repair(now);
    }

    /// A timer made the core panic: its client ends.
    pub fn end_timed_client(&mut self, now: Instant) {
        self.count_panic();
        match self.work.running_timer.take() {
            Some(Timer::Client(key)) => {
                self.remove_client(now, key, LeaveCause::Later(FAULT.to_owned()), FAULT);
            }
            // The room that panicked is off the queue; the others go on.
            Some(Timer::Reloads) => self.schedule_reloads(now),
            Some(Timer::Speakers(key) | Timer::Sound(key)) => self.end_room(now, key),
            Some(Timer::Links) => self.schedule_links(now),
            Some(Timer::Report | Timer::Places) => {}
            // The room that panicked waits no longer; the others do.
            Some(Timer::Awaited) => self.await_policies(now),
            // It was a room's own, or a policy's.
            Some(Timer::Rooms) | None => {
                self.attend_what_is_left();
                if let Some(Subject::Room(key)) = self.work.subject.take() {
                    self.end_room(now, key);
                }
            }
        }
        self.repair(now);
    }

    /// Ending what had panicked panicked, too. The tables are made to agree, and what they still have of it ends.
    pub fn end_after_second_panic(&mut self, now: Instant) {
        self.count_panic();
        self.work.running_timer = None;
        self.repair(now);
    }

    /// Counts a panic that was contained; the panic hook has logged it.
    pub fn count_panic(&mut self) {
        self.report.counters.panics += 1;
    }

    /// Says goodbye to everybody, over media and signalling.
    pub fn shut_down(&mut self, now: Instant, out: &mut SendBatch) {
        self.end_all_rooms(now);
        for key in self.world.clients.keys().collect::<Vec<_>>() {
            if self.world.clients.get(key).is_some_and(|client| client.far.is_none()) {
                self.close_transport(now, key, out);
                self.remove_client(now, key, LeaveCause::Shutdown, "the server shuts down");
            }
        }
        for key in self.world.rooms.keys().collect::<Vec<_>>() {
            // Other shards end by themselves.
            for wing in self.world.rooms.get(key).map(|room| room.wings().to_vec()).unwrap_or_default() {
                self.detach(now, key, wing);
            }
            self.close_room_if_empty(now, key);
        }
        self.drain_policy(now, out);
    }
}
