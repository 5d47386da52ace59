//! Whom an event or a command is for, and what events tell them.

use super::{Command, Event, News};
use moonring_wire::id::ClientId;
use moonring_wire::shared::{Shared, SharedValue};

impl Command {
    /// The client that it is about; `None` for what is about a room, or the shard.
    pub fn client(&self) -> Option<&ClientId> {
        match self {
            Self::Join(request) | Self::JoinWing { request, .. } => Some(&request.client),
            Self::Offer(request) => Some(&request.client),
            Self::Unpublish { client, .. }
            | Self::Unsubscribe { client, .. }
            | Self::SetMuted { client, .. }
            | Self::SetLayer { client, .. }
            | Self::SetView { client, .. }
            | Self::Snapshot { client }
            | Self::Message { client, .. }
            | Self::LeaveIfSilent { client, .. }
            | Self::Leave { client, .. } => Some(client),
            Self::FromPlace { .. }
            | Self::PlaceLost { .. }
            | Self::TellLinks
            | Self::Peers(_)
            | Self::PlaceAway { .. }
            | Self::BecomeHome { .. }
            | Self::HomeIs { .. }
            | Self::Move { .. }
            | Self::RouteMoved { .. }
            | Self::MoveHome { .. }
            | Self::HomeClaimed { .. }
            | Self::PolicyReply { .. }
            | Self::PolicyCarried { .. }
            | Self::CheckpointFound { .. }
            | Self::Scripts(_)
            | Self::Report { .. }
            | Self::ListClients { .. }
            | Self::Candidates { .. }
            | Self::Policy { .. }
            | Self::Call { .. }
            | Self::Open { .. }
            | Self::CloseIfEmpty { .. }
            | Self::Act { .. }
            | Self::Watch { .. } => None,
        }
    }
}

impl Event {
    /// A message from the policy to one client.
    pub fn message(client: ClientId, value: impl Into<SharedValue>) -> Self {
        Self::News { client, news: Shared::new(News::Message(value.into())) }
    }

    /// The news that it tells, if it does.
    pub fn news(&self) -> Option<&News> {
        match self {
            Self::News { news, .. } => Some(news),
            _ => None,
        }
    }

    /// The client that is told; `None` for what is the control plane's own business.
    pub fn client(&self) -> Option<&ClientId> {
        match self {
            Self::Joined { client, .. }
            | Self::Left { client, .. }
            | Self::Answered { client, .. }
            | Self::Refused { client, .. }
            | Self::Connected { client }
            | Self::News { client, .. }
            | Self::TrackEnded { client, .. }
            | Self::Rights { client, .. }
            | Self::Unsubscribed { client, .. }
            | Self::TrackPaused { client, .. }
            | Self::TrackResumed { client, .. }
            | Self::WantedLayers { client, .. }
            | Self::KeyFrame { client, .. }
            | Self::Restart { client } => Some(client),
            Self::ToPlace { .. }
            | Self::Moved { .. }
            | Self::ClaimHome(_)
            | Self::HomeMoved { .. }
            | Self::PolicyRequest { .. }
            | Self::Checkpoint { .. }
            | Self::Called { .. }
            | Self::Webhook { .. }
            | Self::Report { .. }
            | Self::Counters(_)
            | Self::Links(_)
            | Self::RoomClosed(_) => None,
        }
    }
}
