//! Who hears whom: rooms, clients, tracks and the edges between them. No I/O, no Lua.
//!
//! `history` keeps a layer's packets, `track` is what is published, `forward` is one edge to one client, `fanout`
//! is the loop that encrypts, `resend` answers NACKs, `negotiation` chooses codecs, `layers` and `bandwidth` choose
//! what each client gets, `speakers` hears who speaks.
pub mod client;
pub mod fanout;
pub mod forward;
pub mod history;
pub mod indexes;
pub mod layers;
pub mod negotiation;
pub mod pictures;
pub mod reports;
pub mod speakers;
pub mod track;

use client::Client;
use moonring_policy::PolicyKey;
use slotmap::SlotMap;
use track::Track;

use moonring_wire::id::{ClientKey, RoomId, RoomKey, TrackKey};

/// Everything that a shard owns, by dense keys.
#[derive(Default)]
pub struct World {
    /// The rooms.
    pub rooms: SlotMap<RoomKey, Room>,
    /// Everybody in them.
    pub clients: SlotMap<ClientKey, Client>,
    /// Everything published in them.
    pub tracks: SlotMap<TrackKey, Track>,
}

/// A set of clients and tracks with one policy.
pub struct Room {
    /// Its name.
    pub id: RoomId,
    /// Its policy's state.
    pub policy: PolicyKey,
    /// Everybody in it, also those whose join is not decided yet, in the order of coming.
    pub clients: Vec<ClientKey>,
    /// Everything published in it, in the order of publishing.
    pub tracks: Vec<TrackKey>,
    /// Tracks with packets waiting to be forwarded.
    pub dirty: Vec<TrackKey>,
    /// Clients with forwards waiting, while a fan-out is under way.
    pub touched: Vec<ClientKey>,
    /// Hooks under way.
    pub hooks: u32,
    /// Who speaks.
    pub speakers: speakers::Speakers,
}
