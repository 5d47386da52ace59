//! At the shard that a client comes to.

use std::time::{Duration, Instant};

use super::{Arriving, Due, Expected, MAX_MOVING, PATIENCE};
use crate::command::{Event, ExpectedClient, LeaveCause, MoveMessage, MovedClient, PlaceMessage};
use crate::room::layering::{Layering, LayeringState};
use crate::shard::Shard;
use moonring_wire::drops::DropReason;
use moonring_wire::id::{ClientId, PlaceId, RoomId, RoomKey, TrackKey};
use moonring_wire::packet::{AddressPair, SendBatch};
use moonring_wire::transport::Transport;
use moonring_wire::transport::stun::BindingRequest;
use moonring_wire::transport::stun::check::Answer;
use rand::Rng;

/// Time after which a client's former place is asked again to stop.
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// How long tracks that a client receives may be unknown before they count as ended.
const ROSTER_PATIENCE: Duration = Duration::from_secs(2);

impl Shard {
    /// A client of another shard is asked to come: what it receives is received here from now on.
    pub(super) fn expect_client(&mut self, now: Instant, (from, id): (PlaceId, RoomId), expected: ExpectedClient) {
        let ExpectedClient { client, home, lead, local, remote, receives } = expected;
        let is_new = !self.moves.expected.contains_key(&client);
        let is_ending = self.index.rooms.get(&id).and_then(|key| self.world.rooms.get(*key)?.life.ending).is_some();
        if is_ending || (is_new && self.moves.expected.len() >= MAX_MOVING) {
            tracing::debug!(%client, from = from.0, "is not expected: there is no place for it");
            return;
        }
        // What was told of when it left this shard is over: it is somewhere else since.
        self.moves.forget_departed(&client);
        let key = match self.index.rooms.get(&id).copied() {
            Some(key) => key,
            None if home == self.world.links.own => return,
            None => match lead.filter(|lead| *lead != self.world.links.own) {
                Some(lead) => self.open_wing(now, &id, (lead, Some(home))),
                None => self.open_wing(now, &id, (home, None)),
            },
        };
        self.keep_no_longer(key);
        let transport = Transport::awaiting(now, &self.settings.transport, local, remote);
        let tracks: Vec<_> = receives.iter().filter_map(|(id, _)| self.index.tracks.get(id).copied()).collect();
        let before = self.moves.expected.remove(&client);
        let held = before.map(|before| before.held).unwrap_or_default();
        let expected = Expected {
            from,
            room: id,
            transport,
            since: now,
            until: now + PATIENCE,
            asked: None,
            receives,
            waiting: Vec::new(),
            held,
        };
        self.moves.expected.insert(client.clone(), expected);
        self.moves.note(&client);
        tracks.into_iter().for_each(|key| self.await_receiver_of(now, key));
        self.schedule_places(now);
    }

    /// If somebody who receives a track is expected, it is received from now on, and its packets are read as where they are.
    pub(in crate::shard) fn await_receiver_of(&mut self, now: Instant, key: TrackKey) {
        let Some(track) = self.world.tracks.get_mut(key) else { return };
        let known = self.moves.expected.values().flat_map(|expected| &expected.receives);
        let Some((_, descriptors)) = known.into_iter().find(|(id, _)| *id == track.info.id) else { return };
        for (layer, descriptor) in track.layers.iter_mut().zip(descriptors).filter(|(_, d)| !d.is_empty()) {
            let layering = layer.layering.get_or_insert_with(|| Box::new(Layering::new(now)));
            layering.learn(&LayeringState::brought_by(descriptor));
        }
        self.want_far_track(key);
    }

    /// A connectivity check of a client that is on its way here, or was here.
    pub(in crate::shard) fn moving_checks(
        &mut self,
        now: Instant,
        (from, id): (AddressPair, ClientId),
        request: &BindingRequest<'_>,
        out: &mut SendBatch,
    ) -> Result<(), DropReason> {
        // Another client is there: a source is easily forged.
        if self.index.addresses.contains_key(&from) || self.moves.at(from).is_some_and(|holder| holder != id) {
            return Err(DropReason::StunAddressTaken);
        }
        let transport = self.moves.transport(&id).ok_or(DropReason::StunUnknownUser)?;
        transport.handle_stun(now, from, request, out)?;
        if transport.ice().needs_check(now, from) {
            let transaction = self.rng.random();
            transport.check(now, from, transaction, out);
        }
        self.moves.note(&id);
        self.ask_to_freeze(now, &id);
        Ok(())
    }

    /// Asks the clients on their way here again what they have not answered.
    pub(in crate::shard) fn check_expected_again(&mut self, now: Instant, out: &mut SendBatch) {
        for Expected { transport, .. } in self.moves.expected.values_mut() {
            if let Some(address) = transport.check_again(now) {
                transport.check(now, address, self.rng.random(), out);
            }
        }
    }

    /// The answer to a check of such a client.
    pub(in crate::shard) fn moving_answers(
        &mut self,
        now: Instant,
        from: AddressPair,
        answer: &Answer<'_>,
    ) -> Result<(), DropReason> {
        let id = self.moves.at(from).ok_or(DropReason::StunUnexpectedAnswer)?;
        let transport = self.moves.transport(&id).ok_or(DropReason::StunUnexpectedAnswer)?;
        transport.handle_answer(now, from, answer)?;
        self.ask_to_freeze(now, &id);
        Ok(())
    }

    /// Has a client's former place stop for it, once it is known to be here.
    pub(super) fn ask_to_freeze(&mut self, now: Instant, id: &ClientId) {
        let Some(expected) = self.moves.expected.get_mut(id) else { return };
        let is_due = expected.asked.is_none_or(|at| now.saturating_duration_since(at) >= ASK_AGAIN);
        // What is not known here could not go on: a new wing waits for the home's roster.
        let knows_all = expected.receives.iter().all(|(id, _)| self.index.tracks.contains_key(id));
        let is_ready = knows_all || now.saturating_duration_since(expected.since) >= ROSTER_PATIENCE;
        if expected.transport.selected().is_some() && is_due && is_ready {
            if expected.asked.is_none() {
                expected.until = now + PATIENCE;
            }
            expected.asked = Some(now);
            let (room, from) = (expected.room.clone(), expected.from);
            self.say_of(room, from, PlaceMessage::Move(MoveMessage::Freeze(id.clone())));
        }
    }

    /// The room's home has told what there is: clients that have waited for it come.
    pub(in crate::shard) fn ask_all_to_freeze(&mut self, now: Instant, room: RoomKey) {
        let Some(room) = self.world.rooms.get(room).map(|room| &room.id) else { return };
        let expected = self.moves.expected.iter().filter(|(_, expected)| expected.room == *room);
        let expected: Vec<_> = expected.map(|(client, _)| client.clone()).collect();
        expected.iter().for_each(|client| self.ask_to_freeze(now, client));
    }

    /// A client has not come in time. One that has proven to be here is not where it was any more, as far as it knows.
    pub(super) fn expect_no_longer(&mut self, now: Instant, id: &ClientId) {
        let Some(expected) = self.moves.expected.remove(id) else { return };
        self.moves.forget_names(id);
        if expected.asked.is_some() {
            let words = "the shard that it was on did not let it move, please join again";
            tracing::info!(client = %id, reason = words, "client left");
            self.work.events.push(Event::Left { client: id.clone(), cause: LeaveCause::Later(words.to_owned()) });
        }
        if let Some(key) = self.index.rooms.get(&expected.room).copied() {
            self.close_room_if_empty(now, key);
        }
        for track in
            expected.receives.iter().filter_map(|(id, _)| self.index.tracks.get(id).copied()).collect::<Vec<_>>()
        {
            self.want_far_track(track);
        }
    }

    /// A room ends: nobody comes to it any more.
    pub(in crate::shard) fn expect_nobody_in(&mut self, now: Instant, key: RoomKey) {
        let Some(id) = self.world.rooms.get(key).map(|room| room.id.clone()) else { return };
        let expected = self.moves.expected.iter().filter(|(_, expected)| expected.room == id);
        let expected: Vec<_> = expected.map(|(client, _)| client.clone()).collect();
        expected.iter().for_each(|client| self.expect_no_longer(now, client));
    }

    /// A client's former place has stopped: it goes on here.
    pub(super) fn take_moved(&mut self, now: Instant, (from, room): (PlaceId, RoomId), moved: &MovedClient) {
        let id = &moved.client;
        let expected = self.moves.expected.remove(id);
        self.moves.forget_names(id);
        let Some(key) = self.index.rooms.get(&room).copied().filter(|key| self.may_be_adopted(*key, id)) else {
            let cause = LeaveCause::Kicked("the room has ended".to_owned());
            return self.work.events.push(Event::Left { client: id.clone(), cause });
        };
        let adopted = match expected {
            Some(Expected { transport, waiting, held, .. }) => {
                self.adopt(now, (key, moved), transport).map(|client| (client, waiting, held))
            }
            None => Err("it was not expected any more".to_owned()),
        };
        let (client, waiting, held) = match adopted {
            Ok(adopted) => adopted,
            Err(words) => return self.end_moved(now, (key, id), &words),
        };
        tracing::debug!(client = %id, from = from.0, "goes on at this shard");
        self.moves.arriving.insert(id.clone(), Arriving { from, held });
        let datagram = |(is_selected, bytes)| Due::Datagram { client, is_selected, bytes };
        self.moves.due.extend(waiting.into_iter().map(datagram));
    }

    /// Ends a client that has left where it was and cannot go on here: it joins anew.
    fn end_moved(&mut self, now: Instant, (key, id): (RoomKey, &ClientId), words: &str) {
        tracing::error!(client = %id, "cannot go on at this shard: {words}");
        let reason = format!("the server could not move it: {words}; please join again");
        let client = self.adopt_bare(now, key, id);
        self.remove_client(now, client, LeaveCause::Later(reason.clone()), &reason);
    }
}
