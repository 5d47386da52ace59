//! A client on its way from one shard to another.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::Command;
use moonring_policy::hook::Action;
use moonring_wire::id::{ClientId, PlaceId, TrackId};
use moonring_wire::negotiate::IceCredentials;

/// A client of this shard is to go on at another one, of this node or of another.
#[derive(Clone, Debug)]
pub struct MoveOrder {
    /// Who.
    pub client: ClientId,
    /// Which shard.
    pub to: PlaceId,
    /// Where clients reach that shard, if it is of another node; of this node's shards it is known.
    pub candidates: Vec<SocketAddr>,
}

/// A client that is asked to come to another shard, and will prove that it reaches it.
#[derive(Debug, Serialize, Deserialize)]
pub struct ExpectedClient {
    /// Who.
    pub client: ClientId,
    /// The shard with its room's policy.
    pub home: PlaceId,
    /// The shard of the receiver's node that speaks to the home, where that is of another node; from another node its control
    /// plane puts it in.
    #[serde(skip)]
    pub lead: Option<PlaceId>,
    /// The server's credentials of its ICE restart.
    pub local: IceCredentials,
    /// The client's.
    pub remote: IceCredentials,
    /// What it receives: the track, and for each encoding the last dependency descriptor that had a structure.
    pub receives: Vec<(TrackId, Vec<Vec<u8>>)>,
}

/// A client as it was when its shard stopped to seal for it, in bytes that another shard reads. They have its keys: they are
/// overwritten when this is dropped, and not shown.
#[derive(Serialize, Deserialize)]
pub struct MovedClient {
    /// Who.
    pub client: ClientId,
    /// Who receives what it publishes: the place, and the layers that are wanted and of use there, as bits.
    pub receivers: Vec<(TrackId, PlaceId, u8, u8)>,
    /// All else.
    #[serde(with = "as_base64")]
    pub state: Zeroizing<Vec<u8>>,
    /// What the control planes of two nodes say to each other of it.
    #[serde(with = "as_base64")]
    pub stay: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for MovedClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MovedClient({}, {} bytes)", self.client, self.state.len())
    }
}

/// What came to a client's former shard for it.
#[derive(Debug, Serialize, Deserialize)]
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

/// Bytes in the text that messages between nodes are.
pub(super) mod as_base64 {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD_NO_PAD;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};
    use zeroize::Zeroizing;

    pub(in crate::command) fn serialize<S: Serializer>(
        bytes: &Zeroizing<Vec<u8>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Zeroizing::new(STANDARD_NO_PAD.encode(bytes.as_slice())))
    }

    pub(in crate::command) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Zeroizing<Vec<u8>>, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        STANDARD_NO_PAD.decode(text.as_bytes()).map(Zeroizing::new).map_err(D::Error::custom)
    }
}
