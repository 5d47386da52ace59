//! What a client is told of an event.

use super::roster::{self, Page};
use super::{Phase, Session, SessionSettings, Told, refused};
use moonring_core::command::{ClientInfo, Event, LeaveCause, News, RefusalCode};
use moonring_policy::hook::Undecided;
use moonring_wire::message::{ErrorCode, PROTOCOL_VERSION, Participant, SectionResult, ServerMessage};
use moonring_wire::sdp;

impl Session {
    /// What the client is told of an event; `ticket` makes the one that goes with a `joined`.
    pub(in crate::signal) fn tell(&mut self, event: Event, ticket: impl FnOnce() -> String) -> Told {
        if let Phase::Resuming { early, .. } = &mut self.phase
            && !matches!(event, Event::Joined { .. } | Event::Left { .. })
        {
            early.push(event);
            return Told::Later;
        }
        Told::Message(match event {
            Event::Joined { client, clients, tracks, own, attributes, rights } => {
                let phase = std::mem::replace(&mut self.phase, Phase::Joined { client: client.clone() });
                let (room, resumed) = match phase {
                    Phase::Joining { room } => (room, false),
                    Phase::Resuming { room, early } => {
                        self.early = early.into_events();
                        (room, true)
                    }
                    // The answer to the snapshot that an earlier connection of this stay asked for.
                    Phase::New | Phase::Joined { .. } => return Told::Later,
                };
                let mut pages = roster::pages(clients.into_iter().map(participant).collect(), tracks).into_iter();
                let Page { clients, tracks, more } = pages.next().unwrap_or_default();
                self.pages = pages.collect();
                let SessionSettings { resume_s, messages_per_s, .. } = self.settings;
                let ticket = ticket();
                let protocol = PROTOCOL_VERSION;
                ServerMessage::Joined {
                    client,
                    room,
                    clients,
                    tracks,
                    own,
                    attributes,
                    rights,
                    ticket,
                    resume_s,
                    messages_per_s,
                    key_frames: true,
                    resumed,
                    protocol,
                    more,
                }
            }
            Event::Left { cause, .. } => return self.left(cause),
            Event::Answered { request, answer, sections, .. } => {
                let bundled = self.offers.decided(request).is_none_or(|offer| offer.bundled);
                let sdp = if bundled { sdp::render_answer(&answer) } else { sdp::render_unbundled_answer(&answer) };
                let sections = sections
                    .into_iter()
                    .map(|s| SectionResult { mid: s.mid, track: s.track, reason: s.reason })
                    .collect();
                ServerMessage::Answer { request, sdp, sections }
            }
            Event::Refused { request, code, message, .. } => {
                if let Some(request) = request {
                    self.offers.decided(request);
                }
                ServerMessage::Error { code: error_code(code), message, request }
            }
            Event::Connected { .. } => ServerMessage::Connected {},
            Event::Restart { .. } => ServerMessage::RestartIce {},
            Event::News { news, .. } => return Told::Text(news.text(|news| text(&news_message(news)))),
            Event::Rights { rights, .. } => ServerMessage::Rights { rights },
            Event::TrackEnded { track, reason, .. } => ServerMessage::TrackUnpublished { track, reason: Some(reason) },
            Event::Unsubscribed { track, reason, .. } => ServerMessage::Unsubscribed { track, reason },
            Event::TrackPaused { track, reason, .. } => ServerMessage::TrackPaused { track, reason },
            Event::TrackResumed { track, .. } => ServerMessage::TrackResumed { track },
            Event::WantedLayers { track, layers, .. } => ServerMessage::WantedLayers { track, layers },
            Event::KeyFrame { track, .. } => ServerMessage::KeyFrame { track },
            Event::ToPlace { .. }
            | Event::Moved { .. }
            | Event::ClaimHome(_)
            | Event::HomeMoved { .. }
            | Event::PolicyRequest { .. }
            | Event::Checkpoint { .. }
            | Event::Called { .. }
            | Event::Webhook { .. }
            | Event::Report { .. }
            | Event::Counters(_)
            | Event::Links(_)
            | Event::RoomClosed(_) => {
                return Told::Close;
            }
        })
    }

    /// The pages of the roster that follow a `joined`; told once, directly after it.
    pub(in crate::signal) fn take_pages(&mut self) -> impl Iterator<Item = ServerMessage> + use<> {
        let roster = |Page { clients, tracks, more }| ServerMessage::Roster { clients, tracks, more };
        std::mem::take(&mut self.pages).into_iter().map(roster)
    }

    /// The events that waited for the snapshot; told once, after it.
    pub(in crate::signal) fn take_early(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.early)
    }

    fn left(&self, cause: LeaveCause) -> Told {
        let reason = match cause {
            LeaveCause::Rejected(reason) | LeaveCause::Undecided(Undecided::Failed, reason) => {
                return Told::Last(ServerMessage::Rejected { reason });
            }
            LeaveCause::Left => return Told::Close,
            LeaveCause::Later(reason) | LeaveCause::Undecided(_, reason) => {
                return Told::Last(match self.phase {
                    Phase::Joined { .. } | Phase::Resuming { .. } => ServerMessage::Restarting { reason },
                    Phase::New | Phase::Joining { .. } => refused(ErrorCode::TryAgain, reason).into_message(),
                });
            }
            LeaveCause::GoesOn(url) => return Told::Last(ServerMessage::Resume { url: Some(url) }),
            LeaveCause::Moved(url) => return Told::Last(ServerMessage::Moved { url }),
            LeaveCause::Kicked(reason) | LeaveCause::TransportFailed(reason) | LeaveCause::Limit(reason) => reason,
            LeaveCause::Shutdown => return Told::Last(self.shutdown(false)),
        };
        Told::Last(self.end(reason))
    }

    /// The last message to a client, which depends on whether it was in the room.
    pub(in crate::signal) fn end(&self, reason: String) -> ServerMessage {
        match self.phase {
            Phase::Joined { .. } | Phase::Resuming { .. } => ServerMessage::Kicked { reason },
            Phase::New | Phase::Joining { .. } => ServerMessage::Rejected { reason },
        }
    }
}

/// A message as it is sent.
pub(in crate::signal) fn text(message: &ServerMessage) -> String {
    // The protocol's types have no maps with other keys than texts, and no other reason to fail.
    serde_json::to_string(message).unwrap_or_default()
}

fn news_message(news: &News) -> ServerMessage {
    match news.clone() {
        News::ClientJoined(other) => ServerMessage::ClientJoined { participant: participant(other) },
        News::ClientLeft(client) => ServerMessage::ClientLeft { client },
        News::ClientChanged { client, attributes } => ServerMessage::ClientChanged { client, attributes },
        News::TrackPublished(track) => ServerMessage::TrackPublished { track },
        News::TrackChanged(track) => ServerMessage::TrackChanged { track },
        News::TrackUnpublished(track) => ServerMessage::TrackUnpublished { track, reason: None },
        News::ActiveSpeakers(clients) => ServerMessage::ActiveSpeakers { clients },
        News::Message(value) => ServerMessage::Message { value },
    }
}

fn error_code(code: RefusalCode) -> ErrorCode {
    match code {
        RefusalCode::BadOffer => ErrorCode::BadSdp,
        RefusalCode::UnknownTrack => ErrorCode::UnknownTrack,
        RefusalCode::Busy => ErrorCode::Busy,
        RefusalCode::MessageDropped => ErrorCode::MessageDropped,
        RefusalCode::Limit => ErrorCode::Limit,
    }
}

fn participant(info: ClientInfo) -> Participant {
    Participant { client: info.client, metadata: info.metadata, attributes: info.attributes }
}
