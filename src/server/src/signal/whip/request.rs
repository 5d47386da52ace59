//! A request for a session, read and checked.

use std::time::Duration;

use axum::body::to_bytes;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use tokio::time::timeout;

use super::{SDP, Target};
use crate::signal::problem::Problem;
use crate::signal::resources::{Protocol, TokenDigest};
use moonring_core::command::{PublishIntent, SubscribeIntent};
use moonring_policy::client::Connection;
use moonring_wire::id::RoomId;
use moonring_wire::media::{CodecName, Kind, Source, TrackInfo};
use moonring_wire::message::{MAX_MESSAGE_BYTES, MAX_TOKEN_BYTES};
use moonring_wire::negotiate::{Offer, OfferSection, SectionKind};
use moonring_wire::sdp;

/// A well-formed request for a session.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) protocol: Protocol,
    pub(super) room: RoomId,
    /// The track or client to receive; `None` leaves the choice to the server.
    pub(super) selector: Option<String>,
    pub(super) token: Option<String>,
    /// What policies see of it.
    pub(super) visit: Connection,
    pub(super) offer: Offer,
    /// Whether the offer's sections share one transport, which the answer then has to say.
    pub(super) bundled: bool,
}

/// A request's body, and how long it may take to arrive.
pub(super) struct Body {
    pub(super) body: axum::body::Body,
    pub(super) limit: Duration,
}

impl Request {
    pub(super) async fn read(
        protocol: Protocol,
        target: &Target,
        visit: Connection,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Self, Problem> {
        let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail);
        let room = RoomId::parse(&target.room).map_err(|error| bad(format!("the room id {error}")))?;
        let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
        if !content_type.split(';').next().unwrap_or("").trim().eq_ignore_ascii_case(SDP) {
            let detail = format!("the content type has to be {SDP}");
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
        }
        let token = bearer(headers)?.map(str::to_owned);
        let bytes = body.read().await?;
        let text = std::str::from_utf8(&bytes).map_err(|error| bad(error.to_string()))?;
        let offer = sdp::parse_offer(text).map_err(|error| match error.problem {
            sdp::Problem::NothingUsable | sdp::Problem::AllStopped => {
                Problem::new(StatusCode::NOT_ACCEPTABLE, error.to_string())
            }
            _ => bad(error.to_string()),
        })?;
        let (bundled, selector) = (sdp::has_bundle(text), target.resource.clone());
        let request = Self { protocol, room, selector, token, visit, offer, bundled };
        if request.used_sections().next().is_none() {
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, nothing_to_do(protocol)));
        }
        if let Some(kind) = request.kind_without_codec() {
            return Err(Problem::new(StatusCode::NOT_ACCEPTABLE, no_codec(kind)));
        }
        match request.section_without_transport() {
            Some(section) => Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, unbundled(section))),
            None => Ok(request),
        }
    }

    /// WHIP: what an encoder sends and nobody could be sent. It would go on without, and believe that all is well.
    fn kind_without_codec(&self) -> Option<Kind> {
        let is_taken = |section: &OfferSection| section.codecs.iter().any(|offered| !offered.codec.is_red());
        let lacks = |wanted: &Kind| {
            let mut of_kind = self.used_sections().filter(|(_, kind)| kind == wanted).peekable();
            of_kind.peek().is_some() && of_kind.all(|(section, _)| !is_taken(section))
        };
        [Kind::Audio, Kind::Video].into_iter().filter(|_| self.protocol == Protocol::Whip).find(lacks)
    }

    /// WHIP: what an encoder sends in a section that would need a transport of its own. RFC 9725 section 4.4.3: no such section
    /// is refused by itself, as the encoder would go on without it.
    fn section_without_transport(&self) -> Option<&OfferSection> {
        let mut used = self.used_sections().filter(|_| self.protocol == Protocol::Whip);
        used.find_map(|(section, _)| section.unbundled.then_some(section))
    }

    /// The right that the request shows, to be compared with others'.
    pub(super) fn token_digest(&self) -> Option<TokenDigest> {
        self.token.as_deref().map(TokenDigest::of)
    }

    /// The sections that send (WHIP) or receive (WHEP), with their kind.
    pub(super) fn used_sections(&self) -> impl Iterator<Item = (&OfferSection, Kind)> {
        let is_used = |section: &OfferSection| match self.protocol {
            Protocol::Whip => section.direction.sends(),
            Protocol::Whep => section.direction.receives(),
        };
        let sections = self.offer.sections.iter().filter(move |section| !section.stopped && is_used(section));
        sections.filter_map(|section| match section.kind {
            SectionKind::Media(kind) => Some((section, kind)),
            _ => None,
        })
    }

    /// WHIP: every sending section publishes.
    pub(super) fn publish(&self) -> Vec<PublishIntent> {
        if self.protocol == Protocol::Whep {
            return Vec::new();
        }
        let source = |kind| if kind == Kind::Video { Source::Camera } else { Source::Microphone };
        self.used_sections()
            .map(|(s, kind)| PublishIntent { mid: s.mid.clone(), source: source(kind), makes_key_frames: false })
            .collect()
    }

    /// WHEP: every receiving section takes a track of its kind; of those that the request selects the newest first.
    pub(super) fn subscribe(&self, tracks: &[TrackInfo]) -> Result<Vec<SubscribeIntent>, Problem> {
        if self.protocol == Protocol::Whip {
            return Ok(Vec::new());
        }
        let Some(selector) = &self.selector else {
            return Ok(self
                .used_sections()
                .map(|(s, _)| SubscribeIntent { mid: s.mid.clone(), track: None })
                .collect());
        };
        let is_selected = |track: &&TrackInfo| track.id.as_str() == selector || track.client.as_str() == selector;
        let mut selected: Vec<_> = tracks.iter().rev().filter(is_selected).collect();
        if selected.is_empty() {
            let detail =
                format!("room {} has no track, and no client with a track, of the name {selector:?}", self.room);
            return Err(Problem::new(StatusCode::NOT_FOUND, detail));
        }
        let mut intents = Vec::new();
        for (section, kind) in self.used_sections() {
            let Some(at) = selected.iter().position(|track| track.kind == kind) else { continue };
            let track = Some(selected.remove(at).id.clone());
            intents.push(SubscribeIntent { mid: section.mid.clone(), track });
        }
        if intents.is_empty() {
            return Err(Problem::new(StatusCode::CONFLICT, "the offer receives nothing of the kind that is selected"));
        }
        Ok(intents)
    }
}

impl Body {
    /// The whole body, within its bounds of length and time.
    async fn read(self) -> Result<Bytes, Problem> {
        match timeout(self.limit, to_bytes(self.body, MAX_MESSAGE_BYTES)).await {
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(_)) => {
                let detail = format!("the offer is longer than {MAX_MESSAGE_BYTES} bytes");
                Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail))
            }
            Err(_) => Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "the offer did not arrive in time")),
        }
    }
}

fn no_codec(kind: Kind) -> String {
    let taken: Vec<_> = CodecName::ALL.iter().filter(|name| name.kind() == kind).map(|name| name.as_sdp()).collect();
    format!("the offer sends {} in no codec that this server takes: {}", kind.as_str(), taken.join(", "))
}

fn unbundled(section: &OfferSection) -> String {
    format!(
        "the {} section is not in a=group:BUNDLE with the others: set the bundle policy max-bundle",
        section.line.media
    )
}

/// Why a session without any section in use is refused.
pub(super) fn nothing_to_do(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Whip => "the offer has no section that sends",
        Protocol::Whep => "the offer has no section that receives, or there is nothing to receive",
    }
}

/// The bearer token, if one is sent; policies may let in who has none.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let token = value.to_str().ok().and_then(|text| {
        let (scheme, token) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    });
    match token {
        Some(token) if token.len() <= MAX_TOKEN_BYTES => Ok(Some(token)),
        Some(_) => {
            let detail = format!("the token is longer than {MAX_TOKEN_BYTES} bytes");
            Err(Problem::new(StatusCode::BAD_REQUEST, detail))
        }
        None => {
            let detail = "the Authorization header is not of the form Bearer <token>";
            Err(Problem::new(StatusCode::UNAUTHORIZED, detail))
        }
    }
}
