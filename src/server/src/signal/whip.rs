//! WHIP (RFC 9725) and WHEP: one HTTP request publishes into a room or receives from it, so that tools which nobody
//! here wrote can take part.
//!
//! `POST /whip/{room}` with an offer and a bearer token joins the room, publishes every sending section and answers
//! 201 with the answer; `POST /whep/{room}` receives the room's tracks in every receiving section. `Location` names a
//! resource whose secret path is the right to `DELETE` it, which leaves the room.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, post};
use bytes::Bytes;
use serde_json::json;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::app::App;
use super::directory::{Membership, random_text};
use moonring_core::command::{
    Command, Event, JoinRequest, LeaveCause, OfferRequest, PublishIntent, RefusalCode, SubscribeIntent,
};
use moonring_wire::id::RoomId;
use moonring_wire::media::{Kind, Source};
use moonring_wire::message::{MAX_MESSAGE_BYTES, MAX_TOKEN_BYTES};
use moonring_wire::negotiate::SectionOutcome;
use moonring_wire::negotiate::{Answer, Offer, SectionKind};
use moonring_wire::sdp;

/// Characters of a resource's secret name.
const RESOURCE_CHARACTERS: usize = 32;
/// The number of the only offer.
const REQUEST: u64 = 1;
const SDP: &str = "application/sdp";

/// Which of the two protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Whip,
    Whep,
}

/// The resources there are, by their secret names.
#[derive(Debug, Default)]
pub(super) struct Resources(Mutex<HashMap<String, Arc<Notify>>>);

impl Resources {
    fn entries(&self) -> MutexGuard<'_, HashMap<String, Arc<Notify>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a request fails: the status and words for the body.
type Failure = (StatusCode, String);

/// The endpoints and their resources.
pub(super) fn router() -> Router<App> {
    let endpoint = |way| post(move |app, peer, path, headers, body| create(way, app, peer, path, headers, body));
    Router::new()
        .route("/whip/{room}", endpoint(Way::Whip).options(preflight))
        .route("/whep/{room}", endpoint(Way::Whep).options(preflight))
        .route("/whip/{room}/{resource}", delete(remove).options(preflight))
        .route("/whep/{room}/{resource}", delete(remove).options(preflight))
        .layer(axum::middleware::map_response(allow_other_origins))
}

/// Players and cameras on pages of other origins may use the endpoints: the token is the right to, not a cookie.
async fn allow_other_origins(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in
        [(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"), (header::ACCESS_CONTROL_EXPOSE_HEADERS, "Location, ETag")]
    {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn preflight() -> Response {
    let headers: [(HeaderName, &str); 4] = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "POST, DELETE, OPTIONS"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "Authorization, Content-Type, If-Match"),
        (header::ACCESS_CONTROL_MAX_AGE, "86400"),
        // RFC 9725 section 4.6: what the endpoint takes.
        (HeaderName::from_static("accept-post"), SDP),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

async fn create(
    way: Way,
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(room): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    match try_create(way, &app, peer, &room, &headers, body).await {
        Ok(response) => response,
        Err((status, words)) => {
            let mut response = (status, words + "\n").into_response();
            let (name, value) = match status {
                StatusCode::UNAUTHORIZED => (header::WWW_AUTHENTICATE, "Bearer"),
                StatusCode::SERVICE_UNAVAILABLE => (header::RETRY_AFTER, "5"),
                _ => return response,
            };
            response.headers_mut().insert(name, HeaderValue::from_static(value));
            response
        }
    }
}

async fn try_create(
    way: Way,
    app: &App,
    peer: SocketAddr,
    room: &str,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let room = RoomId::parse(room).map_err(|error| (StatusCode::BAD_REQUEST, format!("the room id {error}")))?;
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    if !content_type.split(';').next().unwrap_or("").trim().eq_ignore_ascii_case(SDP) {
        return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, format!("the content type has to be {SDP}")));
    }
    let token = bearer(headers)?;
    let body = read(body, app.settings.join_timeout).await?;
    let text = std::str::from_utf8(&body).map_err(|e| (StatusCode::BAD_REQUEST, e.to_string()))?;
    let offer = sdp::parse_offer(text).map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))?;
    let (publish, subscribe) = intents(way, &offer);
    if publish.is_empty() && subscribe.is_empty() {
        return Err((StatusCode::UNPROCESSABLE_ENTITY, nothing_to_do(way).into()));
    }

    let member = app.directory.enter(&room).map_err(|e| (StatusCode::SERVICE_UNAVAILABLE, e.to_string()))?;
    let mut pending = Pending { member, limit: app.settings.join_timeout };
    let via = if way == Way::Whip { "whip" } else { "whep" };
    let client = pending.member.client.clone();
    let join = Command::Join(JoinRequest {
        room: room.clone(),
        client: client.clone(),
        token: token.unwrap_or("").into(),
        metadata: json!({ "via": via }),
        ip: app.client_ip(peer, headers),
    });
    pending.send(join)?;
    pending.joined(token.is_some()).await?;
    pending.send(Command::Offer(OfferRequest {
        client,
        request: REQUEST,
        offer: Box::new(offer),
        publish,
        subscribe,
    }))?;
    let (answer, sections) = pending.answered(token.is_some()).await?;
    if sections.iter().all(|section| section.track.is_none()) {
        let reason = sections.into_iter().find_map(|s| s.reason).unwrap_or_else(|| nothing_to_do(way).into());
        let status = if way == Way::Whip { StatusCode::FORBIDDEN } else { StatusCode::CONFLICT };
        return Err((status, reason));
    }
    Ok(created(app, via, &room, pending.member, render(&answer, text)))
}

/// The whole body, within its bounds of length and time.
async fn read(body: Body, limit: Duration) -> Result<Bytes, Failure> {
    let too_large = || (StatusCode::PAYLOAD_TOO_LARGE, format!("the offer is longer than {MAX_MESSAGE_BYTES} bytes"));
    match timeout(limit, to_bytes(body, MAX_MESSAGE_BYTES)).await {
        Ok(read) => read.map_err(|_| too_large()),
        Err(_) => Err((StatusCode::REQUEST_TIMEOUT, "the offer did not arrive in time".into())),
    }
}

fn render(answer: &Answer, offer: &str) -> String {
    if sdp::has_bundle(offer) { sdp::render_answer(answer) } else { sdp::render_unbundled_answer(answer) }
}

fn nothing_to_do(way: Way) -> &'static str {
    match way {
        Way::Whip => "the offer has no section that sends",
        Way::Whep => "the offer has no section that receives, or there is nothing to receive",
    }
}

/// The bearer token, if one is sent; policies may let in who has none.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Failure> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let token = value.to_str().ok().and_then(|text| {
        let (scheme, token) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    });
    match token {
        Some(token) if token.len() <= MAX_TOKEN_BYTES => Ok(Some(token)),
        Some(_) => Err((StatusCode::BAD_REQUEST, format!("the token is longer than {MAX_TOKEN_BYTES} bytes"))),
        None => Err((StatusCode::UNAUTHORIZED, "the Authorization header is not of the form Bearer <token>".into())),
    }
}

/// Every sending section publishes, every receiving one takes what the room has of its kind.
fn intents(way: Way, offer: &Offer) -> (Vec<PublishIntent>, Vec<SubscribeIntent>) {
    let (mut publish, mut subscribe) = (Vec::new(), Vec::new());
    for section in offer.sections.iter().filter(|section| !section.stopped) {
        let SectionKind::Media(kind) = section.kind else { continue };
        let mid = section.mid.clone();
        match way {
            Way::Whip if section.direction.sends() => {
                let source = if kind == Kind::Video { Source::Camera } else { Source::Microphone };
                publish.push(PublishIntent { mid, source });
            }
            Way::Whep if section.direction.receives() => subscribe.push(SubscribeIntent { mid, track: None }),
            Way::Whip | Way::Whep => {}
        }
    }
    (publish, subscribe)
}

/// A client between its request and its response.
struct Pending {
    member: Membership,
    limit: Duration,
}

impl Pending {
    fn send(&self, command: Command) -> Result<(), Failure> {
        self.member.send(command).map_err(|full| (StatusCode::SERVICE_UNAVAILABLE, full.to_string()))
    }

    async fn event(&mut self) -> Result<Event, Failure> {
        match timeout(self.limit, self.member.events.recv()).await {
            Ok(Some(event)) => Ok(event),
            Ok(None) => Err((StatusCode::SERVICE_UNAVAILABLE, "the server is overloaded".into())),
            Err(_) => Err((StatusCode::SERVICE_UNAVAILABLE, "the room did not answer in time".into())),
        }
    }

    async fn joined(&mut self, with_token: bool) -> Result<(), Failure> {
        loop {
            match self.event().await? {
                Event::Joined { .. } => return Ok(()),
                Event::Left { cause, .. } => return Err(failure_of(cause, with_token)),
                _ => {}
            }
        }
    }

    async fn answered(&mut self, with_token: bool) -> Result<(Box<Answer>, Vec<SectionOutcome>), Failure> {
        loop {
            match self.event().await? {
                Event::Answered { request: REQUEST, answer, sections, .. } => return Ok((answer, sections)),
                Event::Refused { request: Some(REQUEST), code, message, .. } => {
                    let status = match code {
                        // RFC 9725 section 4.2: an offer that can't be taken as it is.
                        RefusalCode::BadOffer => StatusCode::NOT_ACCEPTABLE,
                        RefusalCode::UnknownTrack | RefusalCode::MessageDropped => StatusCode::CONFLICT,
                        RefusalCode::Busy | RefusalCode::Limit => StatusCode::SERVICE_UNAVAILABLE,
                    };
                    return Err((status, message));
                }
                Event::Left { cause, .. } => return Err(failure_of(cause, with_token)),
                _ => {}
            }
        }
    }
}

fn failure_of(cause: LeaveCause, with_token: bool) -> Failure {
    match cause {
        LeaveCause::Rejected(reason) | LeaveCause::Kicked(reason) => {
            (if with_token { StatusCode::FORBIDDEN } else { StatusCode::UNAUTHORIZED }, reason)
        }
        LeaveCause::Limit(reason) | LeaveCause::TransportFailed(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason),
        LeaveCause::Left => (StatusCode::SERVICE_UNAVAILABLE, "the client left".into()),
        LeaveCause::Shutdown => (StatusCode::SERVICE_UNAVAILABLE, super::session::SHUTDOWN.into()),
    }
}

/// Makes the resource and a task that holds the client's place until it is deleted or the shard ends it.
fn created(app: &App, via: &str, room: &RoomId, member: Membership, sdp: String) -> Response {
    let name = random_text(RESOURCE_CHARACTERS);
    let ended = Arc::new(Notify::new());
    app.resources.entries().insert(name.clone(), ended.clone());
    let location = format!("/{via}/{room}/{name}");
    // RFC 9725 section 4.3.1: the entity tag names the ICE session; there is one per resource, as there are no restarts.
    let etag = format!("\"{}\"", member.client);
    tokio::spawn(hold(app.clone(), name, member, ended));
    let headers = [(header::CONTENT_TYPE, SDP), (header::LOCATION, &location), (header::ETAG, &etag)];
    (StatusCode::CREATED, headers, sdp).into_response()
}

async fn hold(app: App, name: String, mut member: Membership, ended: Arc<Notify>) {
    app.counters.whip_sessions.fetch_add(1, Ordering::Relaxed);
    loop {
        tokio::select! {
            event = member.events.recv() => match event {
                Some(Event::Left { .. }) | None => break,
                Some(_) => {}
            },
            () = ended.notified() => {
                member.goodbye = "left";
                break;
            }
            () = app.shut_down() => break,
        }
    }
    app.resources.entries().remove(&name);
    app.counters.whip_sessions.fetch_sub(1, Ordering::Relaxed);
}

/// `DELETE` of a resource: leaves the room.
async fn remove(State(app): State<App>, Path((_, name)): Path<(String, String)>) -> Response {
    match app.resources.entries().remove(&name) {
        Some(ended) => {
            ended.notify_one();
            StatusCode::OK.into_response()
        }
        None => (StatusCode::NOT_FOUND, "there is no such session\n").into_response(),
    }
}
