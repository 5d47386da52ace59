//! One WebSocket connection's side of the protocol, without the socket: texts in, commands or errors out; events in,
//! messages out.

use std::time::Instant;

use serde_json::Value;

use moonring_core::command::{
    ClientInfo, Command, Event, LeaveCause, OfferRequest, PublishIntent, RefusalCode, SubscribeIntent,
};
use moonring_wire::id::{ClientId, RoomId};
use moonring_wire::message::{
    ClientMessage, ErrorCode, MAX_APPLICATION_BYTES, MAX_ERRORS, MAX_MESSAGE_BYTES, MAX_METADATA_BYTES,
    MAX_TOKEN_BYTES, PROTOCOL_VERSION, Participant, SectionResult, ServerMessage,
};
use moonring_wire::sdp;

/// Longest text of an error message, in characters: it may quote the client's own words.
const MAX_ERROR_CHARACTERS: usize = 400;
/// Most publish or subscribe intents in one offer.
const MAX_INTENTS: usize = moonring_wire::negotiate::MAX_SECTIONS;
/// How many seconds' worth of messages may come at once.
const BURST_S: u32 = 10;

/// What a connection has been told and is waiting for.
#[derive(Debug)]
pub(super) struct Session {
    phase: Phase,
    /// The offer without an answer, and whether it has a BUNDLE group.
    offer: Option<(u64, bool)>,
    errors: u32,
    bucket: Bucket,
}

#[derive(Debug, PartialEq)]
enum Phase {
    New,
    Joining,
    Joined { client: ClientId },
}

/// What a client's message asks for.
#[derive(Debug)]
pub(super) enum Step {
    /// To enter a room.
    Join(Join),
    /// Something for the shard.
    Command(Command),
    /// To end the connection.
    Leave,
}

/// A well-formed join.
#[derive(Debug)]
pub(super) struct Join {
    pub(super) room: RoomId,
    pub(super) token: String,
    pub(super) metadata: Value,
}

/// Why a message was refused.
#[derive(Debug, PartialEq)]
pub(super) struct Refused {
    pub(super) code: ErrorCode,
    pub(super) message: String,
    pub(super) request: Option<u64>,
}

/// What an event means for the connection.
#[derive(Debug)]
pub(super) enum Told {
    /// The client is told.
    Message(ServerMessage),
    /// The client is told, then the connection ends.
    Last(ServerMessage),
    /// The connection ends.
    Close,
}

impl Session {
    pub(super) fn new(now: Instant, messages_per_s: u32) -> Self {
        Self { phase: Phase::New, offer: None, errors: 0, bucket: Bucket::new(now, messages_per_s) }
    }

    /// True until a join was accepted for deciding on.
    pub(super) fn is_new(&self) -> bool {
        self.phase == Phase::New
    }

    /// The join is on its way to the shard.
    pub(super) fn joining(&mut self) {
        self.phase = Phase::Joining;
    }

    /// Reads one text message.
    pub(super) fn read(&mut self, now: Instant, text: &str) -> Result<Step, Refused> {
        if !self.bucket.take(now) {
            return Err(refused(ErrorCode::Limit, format!("more than {} messages per second", self.bucket.per_s)));
        }
        if text.len() > MAX_MESSAGE_BYTES {
            return Err(too_large("the message", text.len(), MAX_MESSAGE_BYTES));
        }
        let message: ClientMessage =
            serde_json::from_str(text).map_err(|error| refused(ErrorCode::BadMessage, error.to_string()))?;
        match (message, &self.phase) {
            (ClientMessage::Join { room, token, metadata, protocol }, Phase::New) => {
                check_join(&token, &metadata, protocol)?;
                Ok(Step::Join(Join { room, token, metadata }))
            }
            (ClientMessage::Join { .. }, _) => Err(out_of_order("a second join")),
            (ClientMessage::Leave {}, _) => Ok(Step::Leave),
            (ClientMessage::Offer { request, .. }, Phase::New | Phase::Joining) => {
                Err(Refused { request: Some(request), ..out_of_order("an offer before joined") })
            }
            (_, Phase::New | Phase::Joining) => Err(out_of_order("a message before joined")),
            (message, Phase::Joined { client }) => {
                let client = client.clone();
                self.command(client, message).map(Step::Command)
            }
        }
    }

    fn command(&mut self, client: ClientId, message: ClientMessage) -> Result<Command, Refused> {
        Ok(match message {
            ClientMessage::Offer { request, sdp, publish, subscribe } => {
                let refuse = |code, message: String| Refused { request: Some(request), ..refused(code, message) };
                if self.offer.is_some() {
                    return Err(refuse(ErrorCode::Busy, "the previous offer has no answer yet".into()));
                }
                if publish.len() > MAX_INTENTS || subscribe.len() > MAX_INTENTS {
                    return Err(refuse(ErrorCode::TooLarge, format!("more than {MAX_INTENTS} sections are named")));
                }
                let offer = sdp::parse_offer(&sdp).map_err(|error| refuse(ErrorCode::BadSdp, error.to_string()))?;
                self.offer = Some((request, sdp::has_bundle(&sdp)));
                Command::Offer(OfferRequest {
                    client,
                    request,
                    offer: Box::new(offer),
                    publish: publish.into_iter().map(|p| PublishIntent { mid: p.mid, source: p.source }).collect(),
                    subscribe: subscribe
                        .into_iter()
                        .map(|s| SubscribeIntent { mid: s.mid, track: Some(s.track) })
                        .collect(),
                })
            }
            ClientMessage::Unpublish { track } => Command::Unpublish { client, track },
            ClientMessage::Unsubscribe { track } => Command::Unsubscribe { client, track },
            ClientMessage::Mute { track, muted } => Command::SetMuted { client, track, muted },
            ClientMessage::Layer { track, layer } => Command::SetLayer { client, track, layer },
            ClientMessage::Message { value } => {
                check_size("value", &value, MAX_APPLICATION_BYTES)?;
                Command::Message { client, value }
            }
            ClientMessage::Join { .. } | ClientMessage::Leave {} => return Err(out_of_order("a second join")),
        })
    }

    /// Forgets an offer that the shard did not take.
    pub(super) fn offer_lost(&mut self) {
        self.offer = None;
    }

    /// Counts an error and says whether the connection has had enough of them.
    pub(super) fn count_error(&mut self) -> bool {
        self.errors += 1;
        self.errors >= MAX_ERRORS || self.is_new()
    }

    /// What the client is told of an event.
    pub(super) fn tell(&mut self, room: &RoomId, event: Event) -> Told {
        Told::Message(match event {
            Event::Joined { client, clients, tracks } => {
                self.phase = Phase::Joined { client: client.clone() };
                let clients = clients.into_iter().map(participant).collect();
                ServerMessage::Joined { client, room: room.clone(), clients, tracks, protocol: PROTOCOL_VERSION }
            }
            Event::Left { cause, .. } => return self.left(cause),
            Event::Answered { request, answer, sections, .. } => {
                let bundled = self.offer.take().is_none_or(|(_, bundled)| bundled);
                let sdp = if bundled { sdp::render_answer(&answer) } else { sdp::render_unbundled_answer(&answer) };
                let sections = sections
                    .into_iter()
                    .map(|s| SectionResult { mid: s.mid, track: s.track, reason: s.reason })
                    .collect();
                ServerMessage::Answer { request, sdp, sections }
            }
            Event::Refused { request, code, message, .. } => {
                if self.offer.is_some_and(|(pending, _)| Some(pending) == request) {
                    self.offer = None;
                }
                let code = match code {
                    RefusalCode::BadOffer => ErrorCode::BadSdp,
                    RefusalCode::UnknownTrack => ErrorCode::UnknownTrack,
                    RefusalCode::Busy => ErrorCode::Busy,
                    RefusalCode::MessageDropped => ErrorCode::MessageDropped,
                    RefusalCode::Limit => ErrorCode::Limit,
                };
                ServerMessage::Error { code, message, request }
            }
            Event::Connected { .. } => ServerMessage::Connected {},
            Event::ClientJoined { other, .. } => ServerMessage::ClientJoined { participant: participant(other) },
            Event::ClientLeft { other, .. } => ServerMessage::ClientLeft { client: other },
            Event::TrackPublished { track, .. } => ServerMessage::TrackPublished { track },
            Event::TrackChanged { track, .. } => ServerMessage::TrackChanged { track },
            Event::TrackUnpublished { track, .. } => ServerMessage::TrackUnpublished { track },
            Event::ActiveSpeakers { speakers, .. } => ServerMessage::ActiveSpeakers { clients: speakers },
            Event::Message { value, .. } => ServerMessage::Message { value },
            Event::PolicyRequest { .. } | Event::Report { .. } | Event::Counters(_) | Event::RoomClosed { .. } => {
                return Told::Close;
            }
        })
    }

    fn left(&self, cause: LeaveCause) -> Told {
        let reason = match cause {
            LeaveCause::Rejected(reason) => return Told::Last(ServerMessage::Rejected { reason }),
            LeaveCause::Left => return Told::Close,
            LeaveCause::Kicked(reason) | LeaveCause::TransportFailed(reason) | LeaveCause::Limit(reason) => reason,
            LeaveCause::Shutdown => SHUTDOWN.into(),
        };
        Told::Last(self.end(reason))
    }

    /// The last message to a client, which depends on whether it was in the room.
    pub(super) fn end(&self, reason: String) -> ServerMessage {
        match self.phase {
            Phase::Joined { .. } => ServerMessage::Kicked { reason },
            Phase::New | Phase::Joining => ServerMessage::Rejected { reason },
        }
    }
}

/// What clients are told when the server shuts down.
pub(super) const SHUTDOWN: &str = "The server shuts down";

impl Refused {
    pub(super) fn into_message(self) -> ServerMessage {
        let message = match self.message.char_indices().nth(MAX_ERROR_CHARACTERS) {
            Some((at, _)) => format!("{}...", &self.message[..at]),
            None => self.message,
        };
        ServerMessage::Error { code: self.code, message, request: self.request }
    }
}

pub(super) fn refused(code: ErrorCode, message: String) -> Refused {
    Refused { code, message, request: None }
}

fn out_of_order(what: &str) -> Refused {
    refused(ErrorCode::OutOfOrder, format!("{what}: the first message is join, once; then wait for joined"))
}

fn too_large(what: &str, bytes: usize, most: usize) -> Refused {
    refused(ErrorCode::TooLarge, format!("{what} has {bytes} bytes, at most {most} are allowed"))
}

fn check_join(token: &str, metadata: &Value, protocol: Option<u32>) -> Result<(), Refused> {
    if let Some(version) = protocol.filter(|version| *version != PROTOCOL_VERSION) {
        let message = format!("this server speaks protocol {PROTOCOL_VERSION}, not {version}");
        return Err(refused(ErrorCode::Protocol, message));
    }
    if token.len() > MAX_TOKEN_BYTES {
        return Err(too_large("token", token.len(), MAX_TOKEN_BYTES));
    }
    check_size("metadata", metadata, MAX_METADATA_BYTES)
}

fn check_size(what: &str, value: &Value, most: usize) -> Result<(), Refused> {
    // A value that came from JSON always goes back to it.
    let bytes = serde_json::to_string(value).map_or(usize::MAX, |text| text.len());
    if bytes > most { Err(too_large(what, bytes, most)) } else { Ok(()) }
}

fn participant(info: ClientInfo) -> Participant {
    Participant { client: info.client, metadata: info.metadata }
}

/// A token bucket: messages per second, with a burst.
#[derive(Debug)]
struct Bucket {
    per_s: u32,
    tokens: f64,
    at: Instant,
}

impl Bucket {
    fn new(now: Instant, per_s: u32) -> Self {
        Self { per_s, tokens: f64::from(per_s) * f64::from(BURST_S), at: now }
    }

    fn take(&mut self, now: Instant) -> bool {
        let per_s = f64::from(self.per_s);
        let refill = now.saturating_duration_since(self.at).as_secs_f64() * per_s;
        self.tokens = (self.tokens + refill).min(per_s * f64::from(BURST_S));
        self.at = now;
        let allowed = self.tokens >= 1.0;
        if allowed {
            self.tokens -= 1.0;
        }
        allowed
    }
}

#[cfg(test)]
mod tests;
