//! A client on its way from one shard to another.

use std::fmt;

use zeroize::Zeroizing;

use super::Command;
use moonring_policy::hook::Action;
use moonring_wire::id::{ClientId, PlaceId, TrackId};
use moonring_wire::negotiate::IceCredentials;

/// A client that is asked to come to another shard, and will prove that it reaches it.
#[derive(Debug)]
pub struct ExpectedClient {
    /// Who.
    pub client: ClientId,
    /// The shard with its room's policy.
    pub home: PlaceId,
    /// The server's credentials of its ICE restart.
    pub local: IceCredentials,
    /// The client's.
    pub remote: IceCredentials,
    /// What it receives: the track, and for each encoding the last dependency descriptor that had a structure.
    pub receives: Vec<(TrackId, Vec<Vec<u8>>)>,
}

/// A client as it was when its shard stopped to seal for it, in bytes that another shard reads. They have its keys: they are
/// overwritten when this is dropped, and not shown.
pub struct MovedClient {
    /// Who.
    pub client: ClientId,
    /// The shard with its room's policy.
    pub home: PlaceId,
    /// All else.
    pub state: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for MovedClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MovedClient({}, {} bytes)", self.client, self.state.len())
    }
}

/// What came to a client's former shard for it.
#[derive(Debug)]
pub enum ForMoved {
    /// Of the control plane.
    Command(Box<Command>),
    /// Of its room's policy.
    Action(Action),
}

impl ForMoved {
    /// Who it is for.
    pub fn client(&self) -> Option<&ClientId> {
        match self {
            Self::Command(command) => command.client(),
            Self::Action(action) => action.client(),
        }
    }
}
