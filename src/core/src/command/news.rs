//! What rooms are told.

use serde::{Deserialize, Serialize};

use moonring_wire::id::{ClientId, TrackId};
use moonring_wire::media::TrackInfo;
use moonring_wire::shared::{SharedValue, as_text};

/// What a joined client is told of another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClientInfo {
    /// Its id.
    pub client: ClientId,
    /// What it said of itself.
    #[serde(with = "as_text")]
    pub metadata: SharedValue,
    /// What the policy says of it.
    #[serde(with = "as_text")]
    pub attributes: SharedValue,
}

/// What a whole room is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum News {
    /// Another client came, or is to be seen now.
    ClientJoined(ClientInfo),
    /// Another client left, or is not to be seen any more.
    ClientLeft(ClientId),
    /// The policy says something else of a client, which is told, too.
    ClientChanged {
        /// Of whom.
        client: ClientId,
        /// What is said of it now.
        #[serde(with = "as_text")]
        attributes: SharedValue,
    },
    /// A track can be subscribed to.
    TrackPublished(TrackInfo),
    /// A track changed (muted): as it is now.
    TrackChanged(TrackInfo),
    /// A track is gone.
    TrackUnpublished(TrackId),
    /// Who speaks, loudest first.
    ActiveSpeakers(Vec<ClientId>),
    /// A message from the policy.
    Message(#[serde(with = "as_text")] SharedValue),
}
