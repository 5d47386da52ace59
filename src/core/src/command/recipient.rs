//! Whom an event is for, and what it tells them.

use super::{Event, News};
use moonring_wire::id::ClientId;
use moonring_wire::shared::{Shared, SharedValue};

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
            | Self::WantedLayers { client, .. } => Some(client),
            Self::ToPlace { .. }
            | Self::PolicyRequest { .. }
            | Self::Called { .. }
            | Self::Webhook { .. }
            | Self::Report { .. }
            | Self::Counters(_)
            | Self::RoomClosed(_) => None,
        }
    }
}
