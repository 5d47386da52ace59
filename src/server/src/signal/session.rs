//! One WebSocket connection's side of the protocol, without the socket: texts in, commands or errors out; events in,
//! messages out.

mod bucket;
mod offers;
mod roster;
mod tell;

use std::borrow::Cow;
use std::time::Instant;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

use self::bucket::Bucket;
use self::offers::{Offers, Taken};
use self::roster::Page;
pub(super) use self::tell::text;
use super::directory::{Kept, PendingOffer};
use crate::config::ShutdownSays;
use moonring_core::command::{Command, Event, OfferRequest, PublishIntent, SubscribeIntent};
use moonring_wire::id::{ClientId, RoomId};
use moonring_wire::message::{
    ClientMessage, ErrorCode, MAX_APPLICATION_BYTES, MAX_ERRORS, MAX_MESSAGE_BYTES, MAX_METADATA_BYTES,
    MAX_TICKET_BYTES, MAX_TOKEN_BYTES, PROTOCOL_VERSION, Publish, ServerMessage, Subscribe,
};
use moonring_wire::sdp;

/// Longest text of an error message, in characters: it may quote the client's own words.
const MAX_ERROR_CHARACTERS: usize = 400;
/// Longest `leave` that is heard of somebody who has said too much.
const MAX_GOODBYE_BYTES: usize = 64;
/// Most publish or subscribe intents in one offer.
const MAX_INTENTS: usize = moonring_wire::negotiate::MAX_SECTIONS;

/// The settings of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct SessionSettings {
    /// Messages per second that a client may send for long.
    pub(super) messages_per_s: u32,
    /// Seconds for which a client stays without its connection.
    pub(super) resume_s: u64,
    /// How clients are told of a shutdown.
    pub(super) shutdown_says: ShutdownSays,
}

/// What a connection has been told and is waiting for.
#[derive(Debug)]
pub(super) struct Session {
    settings: SessionSettings,
    phase: Phase,
    offers: Offers,
    /// What waited for a resume's snapshot and is told after it.
    early: Vec<Event>,
    /// The pages of the roster after the first.
    pages: Vec<Page>,
    errors: u32,
    bucket: Bucket,
}

#[derive(Debug)]
enum Phase {
    New,
    Joining {
        room: RoomId,
    },
    /// The stay goes on, its snapshot is under way; what else happens waits for it.
    Resuming {
        room: RoomId,
        early: Kept,
    },
    Joined {
        client: ClientId,
    },
}

/// What a client's message asks for.
#[derive(Debug)]
pub(super) enum Step {
    /// To enter a room.
    Join(Join),
    /// To go on with the stay of this ticket.
    Resume(String),
    /// Something for the shard.
    Command(Command),
    /// An offer for the shard.
    Offer(Command, PendingOffer),
    /// Nothing yet: an offer that waits for the decision on the one before the resume.
    Wait,
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
    /// The client is told what many are, in the same text.
    Text(Bytes),
    /// Nothing now: it is told after the snapshot.
    Later,
    /// The client is told, then the connection ends.
    Last(ServerMessage),
    /// The connection ends.
    Close,
}

impl Session {
    pub(super) fn new(now: Instant, settings: SessionSettings) -> Self {
        let bucket = Bucket::new(now, settings.messages_per_s);
        Self {
            settings,
            phase: Phase::New,
            offers: Offers::default(),
            early: Vec::new(),
            pages: Vec::new(),
            errors: 0,
            bucket,
        }
    }

    /// True until a join or a resume was accepted for deciding on.
    pub(super) fn is_new(&self) -> bool {
        matches!(self.phase, Phase::New)
    }

    /// The join is on its way to the shard.
    pub(super) fn joining(&mut self, room: RoomId) {
        self.phase = Phase::Joining { room };
    }

    /// The stay goes on: `kept` is told after the snapshot, which is under way.
    pub(super) fn resuming(&mut self, room: RoomId, kept: Kept, offer: Option<PendingOffer>) {
        self.phase = Phase::Resuming { room, early: kept };
        self.offers = Offers::after_resume(offer);
    }

    /// Counts a frame that is no text, a ping mostly; false when there were too many, also before the join.
    pub(super) fn take_control(&mut self, now: Instant, bytes: usize) -> bool {
        self.bucket.take(now, bytes)
    }

    /// Reads one text message. Whatever is wrong with an offer, its number is told with it: its client waits for that.
    pub(super) fn read(&mut self, now: Instant, text: &str) -> Result<Step, Refused> {
        self.step(now, text)
            .map_err(|refused| Refused { request: refused.request.or_else(|| number_of(text)), ..refused })
    }

    fn step(&mut self, now: Instant, text: &str) -> Result<Step, Refused> {
        if !self.bucket.take(now, text.len()) {
            if is_goodbye(text) {
                return Ok(Step::Leave);
            }
            let most = self.settings.messages_per_s;
            return Err(refused(ErrorCode::Limit, format!("more than {most} messages per second")));
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
            (ClientMessage::Resume { ticket }, Phase::New) => match ticket.len() {
                bytes if bytes > MAX_TICKET_BYTES => Err(too_large("ticket", bytes, MAX_TICKET_BYTES)),
                _ => Ok(Step::Resume(ticket)),
            },
            (ClientMessage::Join { .. } | ClientMessage::Resume { .. }, _) => Err(out_of_order("a second join")),
            (ClientMessage::Leave {}, _) => Ok(Step::Leave),
            (ClientMessage::Offer { request, sdp, publish, subscribe }, Phase::Joined { client }) => {
                self.offer(client.clone(), request, &sdp, Intents { publish, subscribe })
            }
            (ClientMessage::Offer { .. }, _) => Err(out_of_order("an offer before joined")),
            (message, Phase::Joined { client }) => command(client.clone(), message).map(Step::Command),
            (_, _) => Err(out_of_order("a message before joined")),
        }
    }

    fn offer(&mut self, client: ClientId, request: u64, sdp: &str, intents: Intents) -> Result<Step, Refused> {
        let Intents { publish, subscribe } = intents;
        if self.offers.is_busy() {
            return Err(refused(ErrorCode::Busy, "the previous offer has no answer yet".into()));
        }
        if publish.len() > MAX_INTENTS || subscribe.len() > MAX_INTENTS {
            return Err(refused(ErrorCode::TooLarge, format!("more than {MAX_INTENTS} sections are named")));
        }
        let offer = sdp::parse_offer(sdp).map_err(|error| refused(ErrorCode::BadSdp, error.to_string()))?;
        let command = Command::Offer(OfferRequest {
            client,
            request,
            offer: Box::new(offer),
            publish: publish.into_iter().map(publish_intent).collect(),
            subscribe: subscribe.into_iter().map(|s| SubscribeIntent { mid: s.mid, track: Some(s.track) }).collect(),
        });
        Ok(match self.offers.take(command, PendingOffer { request, bundled: sdp::has_bundle(sdp) }) {
            Taken::Now(command, pending) => Step::Offer(command, pending),
            Taken::Held => Step::Wait,
        })
    }

    /// Forgets an offer that the shard did not take.
    pub(super) fn offer_lost(&mut self) {
        self.offers.lost();
    }

    /// The offer that waited for the decision on the one before the resume, once that has come.
    pub(super) fn released_offer(&mut self) -> Option<(Command, PendingOffer)> {
        self.offers.release()
    }

    /// Counts an error, and says why the connection ends if it does.
    pub(super) fn count_error(&mut self) -> Option<&'static str> {
        self.errors += 1;
        match () {
            () if self.is_new() => Some("the first message was refused"),
            () => (self.errors >= MAX_ERRORS).then_some("too many errors"),
        }
    }

    /// The last message of a server that shuts down, or that another process has replaced.
    pub(super) fn shutdown(&self, is_replaced: bool) -> ServerMessage {
        match self.settings.shutdown_says {
            _ if is_replaced => ServerMessage::Resume { url: None },
            ShutdownSays::Restarting => ServerMessage::Restarting { reason: RESTARTING.into() },
            ShutdownSays::Closing => ServerMessage::Closing { reason: CLOSING.into() },
        }
    }
}

/// What clients are told when the server restarts.
pub(super) const RESTARTING: &str = "The server is restarting";
/// What clients are told when the server stops.
pub(super) const CLOSING: &str = "The server is shutting down";

/// What an offer's sections are for.
struct Intents {
    publish: Vec<Publish>,
    subscribe: Vec<Subscribe>,
}

fn publish_intent(publish: Publish) -> PublishIntent {
    PublishIntent { mid: publish.mid, source: publish.source, makes_key_frames: publish.key_frames }
}

/// The command of a joined client's message.
fn command(client: ClientId, message: ClientMessage) -> Result<Command, Refused> {
    Ok(match message {
        ClientMessage::Unpublish { track } => Command::Unpublish { client, track },
        ClientMessage::Unsubscribe { track } => Command::Unsubscribe { client, track },
        ClientMessage::Mute { track, muted } => Command::SetMuted { client, track, muted },
        ClientMessage::Layer { track, layer } => Command::SetLayer { client, track, layer },
        ClientMessage::View { track, width, height } => Command::SetView { client, track, width, height },
        ClientMessage::Message { value } => {
            check_size("value", &value, MAX_APPLICATION_BYTES)?;
            Command::Message { client, value }
        }
        ClientMessage::Join { .. }
        | ClientMessage::Resume { .. }
        | ClientMessage::Offer { .. }
        | ClientMessage::Leave {} => return Err(out_of_order("a second join")),
    })
}

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

/// The number of an offer that is otherwise not as it should be.
fn number_of(text: &str) -> Option<u64> {
    #[derive(Deserialize)]
    struct Offer<'a> {
        #[serde(borrow, rename = "type")]
        kind: Cow<'a, str>,
        request: u64,
    }
    serde_json::from_str::<Offer<'_>>(text).ok().filter(|offer| offer.kind == "offer").map(|offer| offer.request)
}

/// Whether somebody leaves, which is heard however much they have said: they would stay for as long as the ticket is good.
fn is_goodbye(text: &str) -> bool {
    text.len() <= MAX_GOODBYE_BYTES && matches!(serde_json::from_str(text), Ok(ClientMessage::Leave {}))
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

#[cfg(test)]
mod tests;
