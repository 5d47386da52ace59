//! Whom an event is for.

use super::Event;
use moonring_wire::id::ClientId;

impl Event {
    /// The client that is told; `None` for what is the control plane's own business.
    pub fn client(&self) -> Option<&ClientId> {
        match self {
            Self::Joined { client, .. }
            | Self::Left { client, .. }
            | Self::Answered { client, .. }
            | Self::Refused { client, .. }
            | Self::Connected { client }
            | Self::ClientJoined { client, .. }
            | Self::ClientLeft { client, .. }
            | Self::TrackPublished { client, .. }
            | Self::TrackChanged { client, .. }
            | Self::TrackUnpublished { client, .. }
            | Self::TrackPaused { client, .. }
            | Self::TrackResumed { client, .. }
            | Self::WantedLayers { client, .. }
            | Self::ActiveSpeakers { client, .. }
            | Self::Message { client, .. } => Some(client),
            Self::PolicyRequest { .. }
            | Self::Called { .. }
            | Self::Webhook { .. }
            | Self::Report { .. }
            | Self::Counters(_)
            | Self::RoomClosed(_) => None,
        }
    }
}
