//! Who hears whom: rooms, clients, tracks and the edges between them. No I/O, no Lua.
//!
//! | module | what it does |
//! |---|---|
//! | [`client`], [`track`], [`forward`] | a connected user; what it publishes; the edge from a track to a receiver |
//! | [`negotiation`] | chooses codecs and header extensions for an offer |
//! | [`history`] | keeps the packets of a layer, for forwarding and for retransmissions |
//! | [`links`], [`hop`], [`relay`] | the ways to other shards; the edge from a track to one of them; the loop that sends there |
//! | [`fanout`], [`form`] | the loop that writes headers and encrypts; how a payload leaves |
//! | [`kept_headers`] | what a resend without RTX needs beside the history |
//! | [`life`] | how long a room is there |
//! | [`indexes`], [`pictures`] | numbering that stays continuous when layers are switched |
//! | [`layering`], [`selection`] | the spatial and temporal layers inside an encoding; which of them a receiver gets |
//! | [`rungs`] | the steps of a track's quality, from its lowest layers to all of them |
//! | [`congestion`], [`allocation`] | what a receiver's path carries; which layers it gets of that |
//! | [`cap`] | what a publisher is held to whose single stream fits none of its receivers |
//! | [`rehearsal`] | a higher layer's rate, tried with padding before the layer is sent |
//! | [`load`], [`pauses`] | how much of the video a shard has time for; how long what comes waits for others |
//! | [`sound`] | makes one send of the sound of several speakers |
//! | [`probing`], [`resends`], [`repairs`] | what is sent beyond the media: probes for more, packets asked for again, and how many of them |
//! | [`reports`], [`speakers`] | RTCP reports and feedback; who speaks |
pub mod allocation;
pub mod cap;
pub mod client;
pub mod congestion;
mod fading;
pub mod fanout;
pub mod form;
pub mod formats;
pub mod former;
pub mod forward;
pub mod history;
pub mod hop;
pub mod indexes;
pub mod kept_headers;
pub mod layering;
mod left_out;
pub mod life;
pub mod links;
pub mod load;
pub mod negotiation;
pub mod pauses;
pub mod pictures;
pub mod probing;
pub mod read_ahead;
pub mod rehearsal;
pub mod relay;
pub mod repairs;
pub mod reports;
pub mod resends;
pub mod rungs;
pub mod sealing;
pub mod selection;
pub mod sender_clock;
pub mod sound;
pub mod speakers;
pub mod track;

use std::collections::{BTreeSet, VecDeque};
use std::time::Instant;

use client::Client;
use moonring_policy::PolicyKey;
use moonring_policy::client::Announced;
use slotmap::SlotMap;
use track::Track;

use crate::bandwidth::sharing::Flows;
use moonring_wire::id::{ClientKey, PlaceId, RoomId, RoomKey, TrackId, TrackKey};
use moonring_wire::transport::Transport;

/// Everything that a shard owns, by dense keys.
#[derive(Default)]
pub struct World {
    /// The rooms.
    pub rooms: SlotMap<RoomKey, Room>,
    /// Everybody in them.
    pub clients: SlotMap<ClientKey, Client>,
    /// Everything published in them.
    pub tracks: SlotMap<TrackKey, Track>,
    /// The ways to other shards.
    pub links: links::Links,
    /// What clients' paths share.
    pub flows: Flows<ClientKey>,
    /// Of clients that are gone and have not been told so on their media path.
    pub parted: Vec<Transport>,
}

/// A set of clients and tracks with one policy.
pub struct Room {
    /// Its name.
    pub id: RoomId,
    /// Whether its policy is here.
    pub seat: Seat,
    /// Everybody in it, also those whose join is not decided yet, in the order of coming; of those who are on other shards
    /// the ones that this one knows.
    pub clients: Vec<ClientKey>,
    /// How many of them are on this shard.
    pub here: usize,
    /// How many are admitted: at home of all, at a wing of those who are here.
    pub members: usize,
    /// Those of them of whom the others are told, in the order of telling.
    pub announced: Vec<ClientKey>,
    /// Everything published in it, in the order of publishing.
    pub tracks: Vec<TrackKey>,
    /// Tracks with packets waiting to be forwarded.
    pub dirty: Vec<TrackKey>,
    /// Tracks with packets waiting for other shards, while a fan-out is under way.
    pub hopping: Vec<TrackKey>,
    /// Clients with forwards waiting, while a fan-out is under way.
    pub touched: Vec<ClientKey>,
    /// Clients of which something waits, for their pacer or for what is behind it, and until when. The shard sets their timers.
    pub waiting: Vec<(ClientKey, Instant)>,
    /// Publishers of whom a fan-out wants key frames that nobody wanted before. The shard sets their timers.
    pub asked: Vec<ClientKey>,
    /// Hooks under way.
    pub hooks: u32,
    /// How it came about, and how it ends.
    pub life: life::Life,
    /// Of whom the others are told.
    pub announcing: Announcing,
    /// Whether its sound is held back for a moment.
    pub sound_hold: sound::SoundHold,
    /// Who speaks.
    pub speakers: speakers::Speakers,
    /// Tracks that ended lately, the last at the end: at most [`Room::GONE_TRACKS`].
    pub gone: VecDeque<TrackId>,
    /// What is known by way of places whose messages were lost, until they have told it anew.
    pub doubts: Vec<Doubt>,
    /// Places of nodes that were taken for gone: of their clients the policy has heard that they are.
    pub lost: Vec<PlaceId>,
}

/// What is known of a room by way of another place, and may be wrong; in order, as it is told of when it is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Doubt {
    /// Which place.
    pub place: PlaceId,
    /// Clients.
    pub clients: BTreeSet<ClientKey>,
    /// What they publish.
    pub tracks: BTreeSet<TrackKey>,
}

/// Where a room's policy is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seat {
    /// Here.
    Home {
        /// The policy's state.
        policy: PolicyKey,
        /// The shards that have clients of the room, too; of another node its lead alone.
        wings: Vec<PlaceId>,
    },
    /// On another shard.
    Wing {
        /// Which; where that is of another node and this shard is not its node's lead, the lead.
        home: PlaceId,
        /// The home, where `home` is the lead.
        beyond: Option<PlaceId>,
        /// Where this shard is its node's lead: the node's other shards that have clients of the room. They ask it what they
        /// would ask the home.
        wings: Vec<PlaceId>,
    },
}

/// Of whom the others in a room are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Announcing {
    /// What the policy wants; until it says so, the size of the room decides.
    pub wanted: Option<Announced>,
    /// Some who are in the room are not told of as it wants, yet.
    pub is_pending: bool,
    /// When some were last: there is a pause before the next.
    pub changed: Option<Instant>,
}

impl Room {
    /// Its policy's state, if that is here.
    pub fn policy(&self) -> Option<PolicyKey> {
        match self.seat {
            Seat::Home { policy, .. } => Some(policy),
            Seat::Wing { .. } => None,
        }
    }

    /// The place of its policy; `None`: here.
    pub fn home(&self) -> Option<PlaceId> {
        match self.seat {
            Seat::Home { .. } => None,
            Seat::Wing { home, .. } => Some(home),
        }
    }

    /// Whether this place and `place` speak to each other about the room.
    pub fn is_joined_to(&self, place: PlaceId) -> bool {
        match &self.seat {
            Seat::Home { wings, .. } => wings.contains(&place),
            Seat::Wing { home, wings, .. } => *home == place || wings.contains(&place),
        }
    }

    /// The places that ask this one what they would ask the room's policy.
    pub fn wings(&self) -> &[PlaceId] {
        let (Seat::Home { wings, .. } | Seat::Wing { wings, .. }) = &self.seat;
        wings
    }

    /// The same, to change it.
    pub fn wings_mut(&mut self) -> &mut Vec<PlaceId> {
        let (Seat::Home { wings, .. } | Seat::Wing { wings, .. }) = &mut self.seat;
        wings
    }

    /// Whether nobody is in it, nor on its way.
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty() && self.wings().is_empty()
    }

    /// Ended tracks that are remembered.
    pub const GONE_TRACKS: usize = 256;

    /// Notes that a track has ended: what clients ask of it now crosses the news, and is no mistake of theirs.
    pub fn track_ended(&mut self, track: TrackId) {
        if self.gone.len() == Self::GONE_TRACKS {
            self.gone.pop_front();
        }
        self.gone.push_back(track);
    }
}
