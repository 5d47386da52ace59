//! How a room's home learns where a client is that has moved, and when its former place hears no more of it.
//!
//! ```text
//! former place --Departed--> its lead --Departed--> home <--Arrived-- lead <--Arrived-- new place
//!              <---Noted----          <---Noted----
//! ```
//! Places of other nodes speak to the home by way of their leads, so that each message is behind all that its sender has said
//! before. What the home and leads have for a client goes to where they know it to be, so the former place gets nothing more
//! behind [`MoveMessage::Noted`]; and the home has all that the former place has said of the client before the new one, which
//! waits for that word, says the first.

use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::command::{MoveMessage, PlaceMessage};
use crate::room::{Room, Seat};
use crate::shard::Shard;
use moonring_policy::client::{ClientFacts, Connection, Presence};
use moonring_wire::id::{ClientId, ClientKey, PlaceId, RoomId, RoomKey};
use serde_json::Value;

/// How long the home waits for the other side's word: as long as the new place waits for the client, and as long again for the words.
const PATIENCE: Duration = Duration::from_secs(30);
/// Clients of whose move one side has told.
const MAX_HALVES: usize = 4_096;

/// One side's word of a move; at a lead a word that the home has yet to answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Half {
    word: Word,
    room: RoomKey,
    until: Instant,
}

#[derive(Clone, Copy, Debug)]
enum Word {
    /// It is not at `from` any more, which is reached by way of `wing`.
    Departed { wing: PlaceId, from: PlaceId },
    /// It is at its new place.
    Arrived,
}

impl Shard {
    /// The client was here until now: the home is told, when everything before has been said.
    pub(super) fn tell_departed(&mut self, now: Instant, room: RoomKey, client: &ClientId) {
        let own = self.world.links.own;
        match self.world.rooms.get(room).map(|room| room.home()) {
            Some(Some(home)) => {
                let departed = MoveMessage::Departed { client: client.clone(), from: own };
                self.say(room, home, PlaceMessage::Move(departed));
            }
            Some(None) => self.half(now, (room, client), Word::Departed { wing: own, from: own }),
            None => {}
        }
    }

    /// The client is here from now on.
    pub(super) fn tell_arrived(&mut self, now: Instant, room: RoomKey, client: &ClientId) {
        match self.world.rooms.get(room).map(|room| room.home()) {
            Some(Some(home)) => self.say(room, home, PlaceMessage::Move(MoveMessage::Arrived(client.clone()))),
            Some(None) => self.half(now, (room, client), Word::Arrived),
            None => {}
        }
    }

    /// A wing says that a client is not at `from` any more.
    pub(super) fn client_departed(
        &mut self,
        now: Instant,
        (wing, id): (PlaceId, &RoomId),
        client: ClientId,
        from: PlaceId,
    ) {
        let known = self.index.rooms.get(id).copied();
        let home = known.and_then(|room| self.world.rooms.get(room)).map(|room| room.home());
        match (known, home) {
            (Some(room), Some(Some(home))) => {
                if self.far_of(room, &client) == Some(wing) {
                    self.name_departed(room, &client);
                }
                self.await_note(now, (room, &client), Word::Departed { wing, from });
                self.say(room, home, PlaceMessage::Move(MoveMessage::Departed { client, from }));
            }
            (Some(room), Some(None)) if self.is_known_at(room, wing, &client) || self.has_arrived(room, &client) => {
                self.name_departed(room, &client);
                self.half(now, (room, &client), Word::Departed { wing, from });
            }
            // It is gone, and so nothing comes for it; or it has arrived, and this was said before.
            _ => self.say_noted(id.clone(), wing, client, from),
        }
    }

    /// A client is on its way: until it is named elsewhere, it is not gone.
    fn name_departed(&mut self, room: RoomKey, id: &ClientId) {
        let Some(client) = self.member(room, id).and_then(|key| self.world.clients.get(key)) else { return };
        let (key, tracks) = (client.key, client.inbound.published.clone());
        self.named(room, Some(key), None);
        tracks.into_iter().for_each(|track| self.named(room, None, Some(track)));
    }

    fn far_of(&self, room: RoomKey, id: &ClientId) -> Option<PlaceId> {
        self.member(room, id).and_then(|key| self.world.clients.get(key)).and_then(|client| client.far)
    }

    /// At home: whether a client was at a wing when it was last heard of, or at a place that has told this home nothing.
    fn is_known_at(&self, room: RoomKey, wing: PlaceId, id: &ClientId) -> bool {
        let wings = self.world.rooms.get(room).map(|room| room.wings()).unwrap_or_default();
        self.far_of(room, id).is_some_and(|far| far == wing || !wings.contains(&far))
    }

    /// At a wing whose words were lost, or the home's: those who have left from here lately are on their way, not gone. What the home
    /// has to say of it is not waited for.
    pub(in crate::shard) fn say_departed(&mut self, now: Instant, key: RoomKey, home: PlaceId) {
        let Some(id) = self.world.rooms.get(key).map(|room| room.id.clone()) else { return };
        let own = self.world.links.own;
        let departed = self.moves.departed.iter().filter(|(_, departed)| departed.room == id && !departed.is_answered);
        let mut departed: Vec<_> = departed.map(|(client, _)| (client.clone(), own)).collect();
        departed.extend(self.moves.halves.iter().filter_map(|(client, half)| match half.word {
            Word::Departed { from, .. } if half.room == key => Some((client.clone(), from)),
            _ => None,
        }));
        self.home_says_no_more(now, &id);
        // Whoever is at another shard of this node is named.
        departed.retain(|(client, _)| !self.is_ours(key, client));
        for (client, from) in departed {
            self.say(key, home, PlaceMessage::Move(MoveMessage::Departed { client, from }));
        }
    }

    /// A wing says that a client has moved there, or to where the wing leads.
    pub(super) fn client_arrived(&mut self, now: Instant, (wing, id): (PlaceId, &RoomId), client: &ClientId) {
        let Some(room) = self.index.rooms.get(id).copied() else { return };
        if !self.knows_or_asks((room, wing), client) {
            return;
        }
        let key = match self.member(room, client) {
            Some(key) => key,
            // A lead has to know where the home's words for it go.
            None => self.add_led_client(now, room, wing, client),
        };
        let Some(known) = self.world.clients.get_mut(key) else { return };
        if known.far.is_some() {
            known.far = Some(wing);
        }
        // Where it was has lost words, perhaps, and does not name it any more: it is here all the same.
        self.named(room, Some(key), None);
        self.tell_arrived(now, room, client);
    }

    /// At home: a wing names a client of which its former place has said that it is gone. That it is there may have been said to
    /// the former home.
    pub(in crate::shard) fn moved_client_is_named(&mut self, now: Instant, room: RoomKey, client: &ClientId) {
        // A lead keeps words, too, until the home has answered them.
        let half = self.moves.halves.get(client).filter(|half| half.room == room && !self.is_wing(room));
        if half.is_some_and(|half| matches!(half.word, Word::Departed { .. })) {
            self.half(now, (room, client), Word::Arrived);
        }
    }

    /// At home: whether a client has arrived where it has moved to, while its former place has yet to say that it is gone.
    pub(in crate::shard) fn has_arrived(&self, room: RoomKey, client: &ClientId) -> bool {
        let half = self.moves.halves.get(client).filter(|half| half.room == room && !self.is_wing(room));
        half.is_some_and(|half| matches!(half.word, Word::Arrived))
    }

    fn add_led_client(&mut self, now: Instant, room: RoomKey, wing: PlaceId, client: &ClientId) -> ClientKey {
        let facts = ClientFacts::new(client.clone(), Connection::from([0, 0, 0, 0]), Value::Null.into(), now);
        facts.presence.set(Presence::Joined);
        self.add_far_client(now, room, wing, Rc::new(facts))
    }

    /// At home: both sides have told of a move, or one of them has so far.
    fn half(&mut self, now: Instant, (room, client): (RoomKey, &ClientId), word: Word) {
        let before = self.moves.halves.remove(client).filter(|half| half.room == room).map(|half| half.word);
        match (before, word) {
            (Some(Word::Departed { wing, from }), Word::Arrived)
            | (Some(Word::Arrived), Word::Departed { wing, from }) => self.note(room, wing, (client, from)),
            (Some(Word::Departed { wing, from }), Word::Departed { .. }) => {
                self.note(room, wing, (client, from));
                self.keep_half(now, (room, client), word);
            }
            (Some(Word::Arrived) | None, word) => self.keep_half(now, (room, client), word),
        }
    }

    /// At a lead: the home is to note what another shard of this node has said. If it is lost before, this one does.
    fn await_note(&mut self, now: Instant, (room, client): (RoomKey, &ClientId), word: Word) {
        self.forget_half(now, client);
        self.keep_half(now, (room, client), word);
    }

    /// The home of a room notes nothing more: what this lead has passed on to it counts as noted.
    pub(super) fn home_notes_no_more(&mut self, now: Instant, room: &RoomId) {
        let Some(room) = self.index.rooms.get(room).copied().filter(|room| self.is_wing(*room)) else { return };
        let passed = self.moves.halves.iter().filter(|(_, half)| half.room == room).map(|(client, _)| client.clone());
        passed.collect::<Vec<_>>().iter().for_each(|client| self.forget_half(now, client));
    }

    fn keep_half(&mut self, now: Instant, (room, client): (RoomKey, &ClientId), word: Word) {
        if self.moves.halves.len() >= MAX_HALVES {
            tracing::warn!(%client, "too many clients of this shard's rooms move at once: one is not waited for");
            return;
        }
        self.moves.halves.insert(client.clone(), Half { word, room, until: now + PATIENCE });
        self.schedule_places(now);
    }

    /// At home: a client's former place hears that nothing more comes.
    fn note(&mut self, room: RoomKey, wing: PlaceId, (client, from): (&ClientId, PlaceId)) {
        match wing == self.world.links.own {
            true => self.departed_is_noted(client),
            false => {
                let Some(id) = self.world.rooms.get(room).map(|room| room.id.clone()) else { return };
                self.say_noted(id, wing, client.clone(), from);
            }
        }
    }

    fn say_noted(&mut self, room: RoomId, wing: PlaceId, client: ClientId, from: PlaceId) {
        self.say_of(room, wing, PlaceMessage::Move(MoveMessage::Noted { client, from }));
    }

    /// The home has nothing more for the place `from` of a client that has moved from there.
    pub(super) fn hear_noted(&mut self, now: Instant, id: &RoomId, client: ClientId, from: PlaceId) {
        if from == self.world.links.own {
            return self.departed_is_noted(&client);
        }
        // It was on another shard of this lead's node.
        let is_of_it = |half: &Half| matches!(half.word, Word::Departed { from: place, .. } if place == from);
        if self.moves.halves.get(&client).is_some_and(is_of_it) {
            self.moves.halves.remove(&client);
        }
        self.pass_noted(now, id, client, from);
    }

    /// At a lead: the client is known by way of the home from here on, and its former place hears that.
    fn pass_noted(&mut self, now: Instant, id: &RoomId, client: ClientId, from: PlaceId) {
        let room = self.index.rooms.get(id).copied();
        if let Some((room, key)) = room.and_then(|room| Some((room, self.member(room, &client)?)))
            && let Some(Seat::Wing { home, .. }) = self.world.rooms.get(room).map(|room| &room.seat)
            && let Some(known) = self.world.clients.get_mut(key).filter(|known| known.far == Some(from))
        {
            known.far = Some(*home);
            self.forget_unknown(now, key);
        }
        self.say_noted(id.clone(), from, client, from);
    }

    fn departed_is_noted(&mut self, client: &ClientId) {
        if let Some(departed) = self.moves.departed.get_mut(client) {
            (departed.is_noted, departed.is_answered) = (true, true);
        }
        self.tell_complete(client);
    }

    /// At home: a client is gone, and who waits for a word about its move gets it. At a lead: without the home's.
    pub(in crate::shard) fn forget_half(&mut self, now: Instant, client: &ClientId) {
        let Some(Half { word: Word::Departed { wing, from }, room, .. }) = self.moves.halves.remove(client) else {
            return;
        };
        match self.world.rooms.get(room).filter(|room| room.home().is_some()).map(|room| room.id.clone()) {
            Some(id) => self.pass_noted(now, &id, client.clone(), from),
            None => self.note(room, wing, (client, from)),
        }
    }

    /// Words that the other side has not answered for too long are answered all the same, and who has come nowhere is gone: what
    /// its former place has told of it was lost. Leads wait for the home, and all for words that do not get through now.
    pub(super) fn sweep_halves(&mut self, now: Instant) {
        let is_reached =
            |room: &Room| room.home().is_none() && !room.wings().iter().any(|w| self.policy.away.contains(w));
        let is_over = |half: &Half| half.until <= now && self.world.rooms.get(half.room).is_none_or(is_reached);
        let over = self.moves.halves.iter().filter(|(_, half)| is_over(half));
        for (client, half) in over.map(|(client, half)| (client.clone(), *half)).collect::<Vec<_>>() {
            let is_nowhere = match half.word {
                Word::Departed { wing, .. } if wing == self.world.links.own => {
                    self.far_of(half.room, &client).is_some()
                }
                Word::Departed { wing, .. } => self.is_known_at(half.room, wing, &client),
                Word::Arrived => false,
            };
            self.forget_half(now, &client);
            if let Some(key) = self.member(half.room, &client).filter(|_| is_nowhere) {
                self.moved_client_is_gone(now, half.room, key);
            }
        }
    }
}
