//! A client moves to another shard, of its node or of another one, and goes on there without a new handshake.
//!
//! ```text
//!      former shard A                          client                     new shard B
//!   Command::Move ---- Event::Restart --------->
//!                 <--- offer, ICE restart ------
//!   Expect ------------------------------------------------------------->   knows its new credentials
//!                 ---- answer: B's addresses -->
//!                                               ---- connectivity check -->
//!                                               <--- check of B's own -----
//!                                               ---- its answer ---------->  it is there
//!        <------------------------------------------------------- Freeze
//!   seals nothing more
//!   Moved: keys, counters, numberings ---------------------------------->   goes on at once
//! ```
//! **A key, an SSRC and an index never seal two packets**: A stops, and then tells; B begins with what it is told and with
//! nothing else. Until A has stopped nothing has changed: a client that does not restart, or does not reach B, stays.
//!
//! What still comes to the other place is passed on: datagrams over the link, for [`STRAY_TIME`];
//! commands and actions as messages, in their order, until the control plane and the room's home have said that nothing
//! more will come. What B is given for the client directly waits until then. The home says so once it has heard of both
//! sides ([`chain`]).

mod adopt;
mod arrive;
mod chain;
mod leave;
mod lost;
mod passing;
mod state;
mod strays;
mod tracks;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Shard;
use crate::command::ForMoved;
use crate::room::hop::Hop;
use chain::Half;
use moonring_wire::id::{ClientId, ClientKey, PlaceId, RoomId, TrackId, TrackKey};
use moonring_wire::packet::AddressPair;
use moonring_wire::transport::Transport;

pub(super) use adopt::{Newcomer, Receiving};
pub(super) use state::FactsState;
pub use state::VERSION as STATE_VERSION;
pub use state::{ClientState, MAX_STATE, StateError};

/// How long a client may take from being told to restart ICE to its first check at the other shard.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long the former shard passes on what still comes to it, and answers checks over the old path. Browsers that prefer that
/// path leave it only once it is silent.
pub(super) const STRAY_TIME: Duration = Duration::from_secs(6);
/// Clients of a shard that are on their way, to it and from it each.
const MAX_MOVING: usize = 256;
/// What may wait for a client that is not complete yet.
const MAX_HELD: usize = 256;
/// Datagrams that wait for a client whose state is on its way.
const MAX_WAITING: usize = 256;

/// The clients that are on their way. What is gone through is in order, so that it is said in the same order each time; what is
/// only looked up need not be.
#[derive(Default)]
pub(super) struct Moves {
    /// Members of rooms that do not go along to the process that takes over.
    pub(super) left_behind: Vec<ClientKey>,
    /// Clients of this shard that were told to move.
    leaving: BTreeMap<ClientId, Leaving>,
    /// Those that are somewhere else now.
    departed: BTreeMap<ClientId, Departed>,
    /// Those that come here.
    expected: BTreeMap<ClientId, Expected>,
    /// Those that are here, while something may still come to where they were.
    arriving: BTreeMap<ClientId, Arriving>,
    /// Clients of rooms that have their home here, of whose move one side has told so far.
    halves: BTreeMap<ClientId, Half>,
    /// Finds departed and expected clients by what arrives.
    ufrags: HashMap<String, ClientId>,
    addresses: HashMap<AddressPair, ClientId>,
    /// Tracks whose publisher has moved lately.
    former: Vec<TrackKey>,
    /// What was to be relayed of tracks whose publishers have just left.
    last_hops: Vec<(TrackKey, Vec<Hop>)>,
    /// What was passed on, or has waited, and can be done now.
    due: VecDeque<Due>,
    /// For a datagram that has come over a link.
    scratch: Vec<u8>,
}

#[derive(Debug)]
struct Leaving {
    to: PlaceId,
    /// Where it is reached; empty for a shard of this node, whose addresses are known.
    candidates: Vec<SocketAddr>,
    until: Instant,
    /// The other shard was told of it, with the credentials that the client was answered.
    is_answered: bool,
}

#[derive(Debug)]
struct Departed {
    to: PlaceId,
    room: RoomId,
    /// Answers checks, and knows the addresses.
    transport: Transport,
    until: Instant,
    /// The control plane has sent everything that it had for this shard.
    is_routed: bool,
    /// So has the room's home, or what it has is not waited for.
    is_noted: bool,
    /// It has said so.
    is_answered: bool,
}

#[derive(Debug)]
struct Expected {
    from: PlaceId,
    room: RoomId,
    /// Answers checks, and makes its own.
    transport: Transport,
    since: Instant,
    until: Instant,
    /// When its former place was asked last to stop.
    asked: Option<Instant>,
    /// What it receives, with what has to be known to read the packets: see `ExpectedClient`.
    receives: Vec<(TrackId, Vec<Vec<u8>>)>,
    /// Datagrams that came back from there: whether from the selected address, and the bytes.
    waiting: Vec<(bool, Vec<u8>)>,
    held: Vec<ForMoved>,
}

#[derive(Debug)]
struct Arriving {
    /// Where it was.
    from: PlaceId,
    /// What came here directly, and waits for what came to the former place.
    held: Vec<ForMoved>,
}

/// What can be done now for a client that has moved here.
#[derive(Debug)]
enum Due {
    /// Of the control plane, or of its room's policy.
    Told(ForMoved),
    /// A datagram of its own that had been passed on.
    Datagram { client: ClientKey, is_selected: bool, bytes: Vec<u8> },
}

impl Moves {
    /// Whether anybody is on the way, or was lately.
    pub(super) fn are_under_way(&self) -> bool {
        let Self { leaving, departed, expected, arriving, former, halves, .. } = self;
        let is_nobody = leaving.is_empty() && departed.is_empty() && expected.is_empty() && arriving.is_empty();
        !(is_nobody && former.is_empty() && halves.is_empty())
    }

    /// Whether somebody who receives a track is expected.
    pub(super) fn awaits_receiver_of(&self, track: &TrackId) -> bool {
        self.expected.values().any(|expected| expected.receives.iter().any(|(id, _)| id == track))
    }

    /// Whether a room stays although nobody is in it: somebody is expected, or has just left for another shard, which may ask
    /// for packets that only this one has.
    pub(super) fn hold(&self, room: &RoomId) -> bool {
        let mut rooms = self.expected.values().map(|expected| &expected.room);
        rooms.any(|expected| expected == room) || self.departed.values().any(|departed| departed.room == *room)
    }

    /// Whether what comes for a client is passed on to where it is now.
    pub(super) fn passes_on(&self, client: Option<&ClientId>) -> bool {
        client.is_some_and(|client| self.departed.contains_key(client))
    }

    /// The client of a ufrag that is departed or expected.
    pub(super) fn named(&self, ufrag: &str) -> Option<ClientId> {
        self.ufrags.get(ufrag).cloned()
    }

    /// The client at an address that is departed or expected.
    pub(super) fn at(&self, address: AddressPair) -> Option<ClientId> {
        self.addresses.get(&address).cloned()
    }

    fn transport(&mut self, id: &ClientId) -> Option<&mut Transport> {
        if let Some(expected) = self.expected.get_mut(id) {
            return Some(&mut expected.transport);
        }
        self.departed.get_mut(id).map(|departed| &mut departed.transport)
    }

    /// Knows a client by its transport's ufrags and addresses from now on.
    fn note(&mut self, id: &ClientId) {
        let Some(transport) = self.transport(id) else { return };
        let ice = transport.ice();
        let ufrags: Vec<_> = [Some(ice.local().ufrag.clone()), ice.previous_ufrag().map(str::to_owned)].into();
        let addresses: Vec<_> = ice.validated().collect();
        self.forget_names(id);
        self.ufrags.extend(ufrags.into_iter().flatten().map(|ufrag| (ufrag, id.clone())));
        self.addresses.extend(addresses.into_iter().map(|address| (address, id.clone())));
    }

    fn forget_names(&mut self, id: &ClientId) {
        self.ufrags.retain(|_, of| of != id);
        self.addresses.retain(|_, of| of != id);
    }

    fn forget_departed(&mut self, id: &ClientId) {
        if self.departed.remove(id).is_some() && !self.expected.contains_key(id) {
            self.forget_names(id);
        }
    }

    /// A client of this shard is gone: it goes nowhere, and nothing waits for it.
    pub(super) fn forget_client(&mut self, id: &ClientId) {
        self.leaving.remove(id);
        self.arriving.remove(id);
    }
}

impl Shard {
    /// Looks after the clients that are on their way: who does not come stays, and who has gone is forgotten.
    pub(super) fn sweep_moves(&mut self, now: Instant) {
        self.moves.leaving.retain(|_, leaving| leaving.until > now);
        let gone: Vec<_> = self
            .moves
            .departed
            .iter()
            .filter(|(_, d)| d.until <= now && d.is_complete())
            .map(|(id, _)| id.clone())
            .collect();
        gone.iter().for_each(|id| self.forget_departed(now, id));
        let late: Vec<_> =
            self.moves.expected.iter().filter(|(_, e)| e.until <= now).map(|(id, _)| id.clone()).collect();
        late.iter().for_each(|id| self.expect_no_longer(now, id));
        let asking: Vec<_> = self.moves.expected.keys().cloned().collect();
        asking.iter().for_each(|id| self.ask_to_freeze(now, id));
        self.sweep_former(now);
        self.sweep_halves(now);
    }

    /// Nothing is passed on any more for a client that has left.
    fn forget_departed(&mut self, now: Instant, id: &ClientId) {
        let room = self.moves.departed.get(id).and_then(|departed| self.index.rooms.get(&departed.room).copied());
        self.moves.forget_departed(id);
        room.into_iter().for_each(|room| self.close_room_if_empty(now, room));
    }
}

impl Departed {
    fn is_complete(&self) -> bool {
        self.is_routed && self.is_noted
    }
}
