//! Messages between shards as bytes, for shards of other nodes.
//!
//! ```text
//! version u8 | JSON: { "places": [[number, { run, shard }]...], "messages": [[room, message]...] }
//! ```
//! A process has numbers of its own for places ([`PlaceId`]). Those that the messages name are explained in front of them, and
//! the reader puts its own in.

use serde::Deserialize;
use zeroize::Zeroizing;

use super::{FarTrack, HomeMessage, Members, MoveMessage, PlaceMessage, Roster};
use moonring_wire::id::{PlaceId, RoomId};
use moonring_wire::link::Place;

/// Counts the changes of the encoding.
pub const PLACE_VERSION: u8 = 4;
/// Longest piece that is written or read: NATS takes 1 MiB unless it is told otherwise.
pub const MAX_PLACE_BYTES: usize = 512 * 1024;
/// Places that one piece may name.
const MAX_PLACES: usize = 4_096;
/// What is around the messages of a piece, at most, beside the places.
const AROUND: usize = 64;
/// A place in front of the messages, at most.
const PLACE_BYTES: usize = 96;

/// Why messages of another node are not taken, or cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum BytesError {
    /// They are of another version of this program.
    #[error("messages between shards have version {0}, this node reads version {PLACE_VERSION}")]
    Version(u8),
    /// They are longer than any.
    #[error("messages between shards have {0} bytes, at most {MAX_PLACE_BYTES} are taken")]
    TooLong(usize),
    /// They cannot be read.
    #[error("messages between shards cannot be read: {0}")]
    Malformed(#[from] serde_json::Error),
    /// They name a place that they do not explain, or that this node does not know.
    #[error("messages between shards name the place {}, which is not known", .0.0)]
    UnknownPlace(PlaceId),
    /// They explain more places than a cluster has.
    #[error("messages between shards name {0} places, at most {MAX_PLACES} are taken")]
    Places(usize),
    /// One message alone is too long.
    #[error("a message about room {room} has {bytes} bytes, at most {MAX_PLACE_BYTES} go to other nodes")]
    Message {
        /// The room.
        room: RoomId,
        /// Its length.
        bytes: usize,
    },
}

#[derive(Deserialize)]
struct Read {
    places: Vec<(PlaceId, Place)>,
    messages: Vec<(RoomId, PlaceMessage)>,
}

/// Writes messages in their order, as many to a piece as go into one. `name` says what a place is called among nodes. What
/// cannot be written is left out and told of; the others go.
pub fn write_places(
    messages: Vec<(RoomId, PlaceMessage)>,
    name: &dyn Fn(PlaceId) -> Option<Place>,
) -> (Vec<Vec<u8>>, Vec<BytesError>) {
    let (mut pieces, mut errors) = (Pieces::default(), Vec::new());
    for (room, message) in messages {
        for mut message in small_enough(message) {
            if let Err(error) = pieces.add(&room, &mut message, name) {
                errors.push(error);
            }
        }
    }
    (pieces.done(), errors)
}

/// A piece that says nothing: what reads it learns that pieces before it are lost.
pub fn empty_piece() -> Vec<u8> {
    let mut piece = vec![PLACE_VERSION];
    piece.extend_from_slice(b"{\"places\":[],\"messages\":[]}");
    piece
}

/// Reads a piece; `find` says by which number this process knows a place.
pub fn read_places(
    bytes: &[u8],
    find: &mut dyn FnMut(Place) -> Option<PlaceId>,
) -> Result<Vec<(RoomId, PlaceMessage)>, BytesError> {
    if bytes.len() > MAX_PLACE_BYTES {
        return Err(BytesError::TooLong(bytes.len()));
    }
    let (version, body) = bytes.split_first().map_or((0, bytes), |(version, body)| (*version, body));
    if version != PLACE_VERSION {
        return Err(BytesError::Version(version));
    }
    let Read { places, mut messages } = serde_json::from_slice(body)?;
    if places.len() > MAX_PLACES {
        return Err(BytesError::Places(places.len()));
    }
    let mut known = |theirs: PlaceId| {
        let place = places.iter().find(|(id, _)| *id == theirs)?;
        find(place.1)
    };
    for (_, message) in &mut messages {
        keep_receivers(message, &mut |place| known(place).is_some());
        for place in named(message) {
            let theirs = *place;
            *place = known(theirs).ok_or(BytesError::UnknownPlace(theirs))?;
        }
    }
    Ok(messages)
}

/// The places that a message names.
fn named(message: &mut PlaceMessage) -> Vec<&mut PlaceId> {
    match message {
        PlaceMessage::Attach { home: Some(home), .. } | PlaceMessage::Home(HomeMessage::Moved(home)) => vec![home],
        PlaceMessage::Track(track) => vec![&mut track.place],
        PlaceMessage::Roster(roster) => roster.tracks.iter_mut().map(|track| &mut track.place).collect(),
        PlaceMessage::Members(members) => members.tracks.iter_mut().map(|track| &mut track.place).collect(),
        PlaceMessage::Move(MoveMessage::Expect(expected)) => vec![&mut expected.home],
        PlaceMessage::Move(MoveMessage::Departed { from, .. } | MoveMessage::Noted { from, .. }) => vec![from],
        PlaceMessage::Move(MoveMessage::Moved(moved)) => {
            moved.receivers.iter_mut().map(|(_, place, ..)| place).collect()
        }
        _ => Vec::new(),
    }
}

/// A receiver that one of both sides does not know any more, or not yet, says itself what it wants: no client is lost for it.
fn keep_receivers(message: &mut PlaceMessage, is_known: &mut dyn FnMut(PlaceId) -> bool) {
    if let PlaceMessage::Move(MoveMessage::Moved(moved)) = message {
        moved.receivers.retain(|(_, place, ..)| is_known(*place));
    }
}

/// A roster may be longer than a piece: its parts add up at the reader. So may be the members of a wing, and the state of a room.
fn small_enough(message: PlaceMessage) -> Vec<PlaceMessage> {
    /// Clients, or tracks, of one part.
    const PART: usize = 16;
    /// Bytes of one part of a state, which is text of four thirds of them.
    const STATE_PART: usize = 256 * 1024;
    let roster = match message {
        PlaceMessage::Roster(roster) => roster,
        PlaceMessage::Members(members) if members.clients.len() <= PART && members.tracks.len() <= PART => {
            return vec![PlaceMessage::Members(members)];
        }
        PlaceMessage::Members(members) => {
            let Members { clients, tracks } = *members;
            let of_clients =
                clients.chunks(PART).map(|clients| Members { clients: clients.to_vec(), tracks: Vec::new() });
            let of_tracks = tracks.chunks(PART).map(|tracks| Members { clients: Vec::new(), tracks: tracks.to_vec() });
            return of_clients.chain(of_tracks).map(|members| PlaceMessage::Members(Box::new(members))).collect();
        }
        PlaceMessage::Home(HomeMessage::Take(state)) => {
            let (parts, last) = state.split_at(state.len().saturating_sub(1) / STATE_PART * STATE_PART);
            let part = |part: &[u8]| Zeroizing::new(part.to_vec());
            let parts = parts.chunks(STATE_PART).map(|bytes| HomeMessage::Part(part(bytes)));
            return parts.chain([HomeMessage::Take(part(last))]).map(PlaceMessage::Home).collect();
        }
        message => return vec![message],
    };
    if roster.clients.len() <= PART && roster.tracks.len() <= PART {
        return vec![PlaceMessage::Roster(roster)];
    }
    let Roster { clients, tracks, announcing, loudest, speakers } = *roster;
    let part = |clients: &[_], tracks: &[FarTrack]| Roster {
        clients: clients.to_vec(),
        tracks: tracks.to_vec(),
        announcing,
        loudest: loudest.clone(),
        speakers: speakers.clone(),
    };
    let of_clients = clients.chunks(PART).map(|clients| part(clients, &[]));
    let parts = of_clients.chain(tracks.chunks(PART).map(|tracks| part(&[], tracks)));
    parts.map(|roster| PlaceMessage::Roster(Box::new(roster))).collect()
}

/// Messages as text, gathered to pieces.
#[derive(Default)]
struct Pieces {
    done: Vec<Vec<u8>>,
    places: Vec<(PlaceId, Place)>,
    messages: String,
}

impl Pieces {
    fn add(
        &mut self,
        room: &RoomId,
        message: &mut PlaceMessage,
        name: &dyn Fn(PlaceId) -> Option<Place>,
    ) -> Result<(), BytesError> {
        keep_receivers(message, &mut |place| name(place).is_some());
        let text = serde_json::to_string(&(room, &*message))?;
        let mut places = Vec::new();
        for id in named(message) {
            places.push((*id, name(*id).ok_or(BytesError::UnknownPlace(*id))?));
        }
        let alone = AROUND + text.len() + PLACE_BYTES * places.len();
        if alone > MAX_PLACE_BYTES {
            return Err(BytesError::Message { room: room.clone(), bytes: text.len() });
        }
        let together = alone + self.messages.len() + PLACE_BYTES * self.places.len();
        if together > MAX_PLACE_BYTES || self.places.len() + places.len() > MAX_PLACES {
            self.close();
        }
        for place in places {
            if !self.places.contains(&place) {
                self.places.push(place);
            }
        }
        if !self.messages.is_empty() {
            self.messages.push(',');
        }
        self.messages.push_str(&text);
        Ok(())
    }

    fn close(&mut self) {
        if self.messages.is_empty() {
            return;
        }
        let (places, messages) = (std::mem::take(&mut self.places), std::mem::take(&mut self.messages));
        // Numbers only, which always can be written.
        let places = serde_json::to_string(&places).unwrap_or_default();
        let mut piece = vec![PLACE_VERSION];
        piece.extend_from_slice(format!("{{\"places\":{places},\"messages\":[{messages}]}}").as_bytes());
        self.done.push(piece);
    }

    fn done(mut self) -> Vec<Vec<u8>> {
        self.close();
        self.done
    }
}

#[cfg(test)]
mod tests;
