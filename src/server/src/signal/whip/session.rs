//! A session: a client between its request and its response, then until it is deleted or has nothing left to do.

use std::collections::HashSet;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::http::StatusCode;
use serde_json::json;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};

use super::request::{Request, nothing_to_do};
use crate::signal::app::App;
use crate::signal::directory::Membership;
use crate::signal::problem::Problem;
use crate::signal::resources::{Protocol, Resource};
use moonring_core::command::{Command, Event, JoinRequest, LeaveCause, OfferRequest, RefusalCode};
use moonring_wire::id::{ClientId, TrackId};
use moonring_wire::media::{Kind, TrackInfo};
use moonring_wire::negotiate::{Answer, SectionOutcome};
use moonring_wire::sdp;

/// The number of the only offer.
const REQUEST: u64 = 1;

/// A session that has begun.
#[derive(Debug)]
pub(super) struct Created {
    /// The secret name of its resource.
    pub(super) name: String,
    pub(super) client: ClientId,
    pub(super) answer: String,
}

/// A client between its request and its response.
struct Pending {
    member: Membership,
    limit: Duration,
    with_token: bool,
}

/// What a player is there for: once none of it is left for a while, its session ends.
#[derive(Debug)]
struct Watched {
    tracks: HashSet<TrackId>,
    /// Kinds of which a new track will be shown too; none when the player chose what it wants.
    follows: Vec<Kind>,
    grace: Duration,
    ends_at: Option<Instant>,
}

/// Joins the room and has the offer answered.
pub(super) async fn open(app: &App, request: &Request) -> Result<Created, Problem> {
    let member = app.directory.enter(&request.room).map_err(|refusal| Problem::unavailable(refusal.to_string()))?;
    let with_token = request.token.is_some();
    let mut pending = Pending { member, limit: app.settings.join_timeout, with_token };
    let client = pending.member.client.clone();
    pending.send(Command::Join(JoinRequest {
        room: request.room.clone(),
        client: client.clone(),
        token: request.token.clone().unwrap_or_default(),
        metadata: json!({ "via": request.protocol.name() }),
        ip: request.ip,
    }))?;
    let tracks = pending.joined().await?;
    let subscribe = request.subscribe(&tracks)?;
    let mut watched = (request.protocol == Protocol::Whep).then(|| Watched::new(request, tracks, app.settings.whep_grace));
    pending.send(Command::Offer(OfferRequest {
        client: client.clone(),
        request: REQUEST,
        offer: Box::new(request.offer.clone()),
        publish: request.publish(),
        subscribe,
    }))?;
    let (answer, sections) = pending.answered(&mut watched).await?;
    if sections.iter().all(|section| section.track.is_none()) {
        let nothing = || nothing_to_do(request.protocol).into();
        let reason = sections.into_iter().find_map(|s| s.reason).unwrap_or_else(nothing);
        let is_whip = request.protocol == Protocol::Whip;
        return Err(Problem::new(if is_whip { StatusCode::FORBIDDEN } else { StatusCode::CONFLICT }, reason));
    }
    let deleted = Arc::new(Notify::new());
    let name = app.resources.insert(Resource {
        protocol: request.protocol,
        room: request.room.clone(),
        client: client.clone(),
        token: request.token_digest(),
        deleted: deleted.clone(),
    });
    tokio::spawn(hold(app.clone(), name.clone(), pending.member, deleted, watched));
    let answer = if request.bundled { sdp::render_answer(&answer) } else { sdp::render_unbundled_answer(&answer) };
    Ok(Created { name, client, answer })
}

impl Pending {
    fn send(&self, command: Command) -> Result<(), Problem> {
        self.member.send(command).map_err(|full| Problem::unavailable(full.to_string()))
    }

    async fn event(&mut self) -> Result<Event, Problem> {
        match timeout(self.limit, self.member.events.recv()).await {
            Ok(Some(event)) => Ok(event),
            Ok(None) => Err(Problem::unavailable("the server is overloaded")),
            Err(_) => Err(Problem::unavailable("the room did not answer in time")),
        }
    }

    /// The tracks in the room.
    async fn joined(&mut self) -> Result<Vec<TrackInfo>, Problem> {
        loop {
            match self.event().await? {
                Event::Joined { tracks, .. } => return Ok(tracks),
                Event::Left { cause, .. } => return Err(self.problem_of(cause)),
                _ => {}
            }
        }
    }

    async fn answered(
        &mut self,
        watched: &mut Option<Watched>,
    ) -> Result<(Box<Answer>, Vec<SectionOutcome>), Problem> {
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
                    return Err(Problem::new(status, message));
                }
                Event::Left { cause, .. } => return Err(self.problem_of(cause)),
                event => {
                    if let Some(watched) = watched {
                        watched.take(&event);
                    }
                }
            }
        }
    }

    fn problem_of(&self, cause: LeaveCause) -> Problem {
        match cause {
            LeaveCause::Rejected(reason) | LeaveCause::Kicked(reason) => {
                Problem::new(if self.with_token { StatusCode::FORBIDDEN } else { StatusCode::UNAUTHORIZED }, reason)
            }
            LeaveCause::Limit(reason) | LeaveCause::TransportFailed(reason) => Problem::unavailable(reason),
            LeaveCause::Left => Problem::unavailable("the client left"),
            LeaveCause::Shutdown => Problem::unavailable("the server is shutting down"),
        }
    }
}

impl Watched {
    fn new(request: &Request, tracks: Vec<TrackInfo>, grace: Duration) -> Self {
        let kinds: Vec<Kind> = request.used_sections().map(|(_, kind)| kind).collect();
        let selector = request.selector.as_deref();
        let is_chosen =
            |track: &TrackInfo| selector.is_none_or(|name| track.id.as_str() == name || track.client.as_str() == name);
        let shown = tracks.into_iter().filter(|track| kinds.contains(&track.kind) && is_chosen(track));
        let tracks = shown.map(|track| track.id).collect();
        Self { tracks, follows: if selector.is_none() { kinds } else { Vec::new() }, grace, ends_at: None }
    }

    fn take(&mut self, event: &Event) {
        match event {
            Event::TrackPublished { track, .. } if self.follows.contains(&track.kind) => {
                self.tracks.insert(track.id.clone());
            }
            Event::TrackUnpublished { track, .. } => {
                self.tracks.remove(track);
            }
            _ => {}
        }
        if !self.tracks.is_empty() {
            self.ends_at = None;
        } else if self.ends_at.is_none() {
            self.ends_at = Some(Instant::now() + self.grace);
        }
    }

    /// Ready when there has been nothing to show for the time of grace.
    async fn over(watched: Option<&Self>) {
        match watched.and_then(|watched| watched.ends_at) {
            Some(at) => sleep_until(at).await,
            None => pending().await,
        }
    }
}

/// Holds the client's place until its resource is deleted, the shard ends it, or there is nothing left to watch.
async fn hold(app: App, name: String, mut member: Membership, deleted: Arc<Notify>, mut watched: Option<Watched>) {
    app.counters.whip_sessions.fetch_add(1, Ordering::Relaxed);
    loop {
        tokio::select! {
            event = member.events.recv() => match event {
                Some(Event::Left { .. }) | None => break,
                Some(event) => {
                    if let Some(watched) = &mut watched {
                        watched.take(&event);
                    }
                }
            },
            () = deleted.notified() => {
                member.goodbye = "left";
                break;
            }
            () = Watched::over(watched.as_ref()) => {
                member.goodbye = "nothing left to watch";
                break;
            }
            () = app.shut_down() => break,
        }
    }
    app.resources.forget(&name);
    app.counters.whip_sessions.fetch_sub(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use moonring_wire::media::{CodecName, Source};

    fn track(id: &str, kind: Kind) -> TrackInfo {
        TrackInfo {
            id: TrackId::parse(id).unwrap(),
            client: ClientId::parse("ada").unwrap(),
            kind,
            source: Source::Camera,
            codec: CodecName::Vp8,
            layers: 1,
            temporal_layers: 1,
            muted: false,
        }
    }

    fn watched(follows: Vec<Kind>) -> Watched {
        let tracks = HashSet::from([TrackId::parse("t1").unwrap()]);
        Watched { tracks, follows, grace: Duration::from_millis(1), ends_at: None }
    }

    fn published(id: &str, kind: Kind) -> Event {
        Event::TrackPublished { client: ClientId::parse("me").unwrap(), track: track(id, kind) }
    }

    fn unpublished(id: &str) -> Event {
        Event::TrackUnpublished { client: ClientId::parse("me").unwrap(), track: TrackId::parse(id).unwrap() }
    }

    #[tokio::test]
    async fn a_player_whose_last_track_ends_waits_for_the_next_one_and_not_for_ever() {
        let mut player = watched(vec![Kind::Video]);
        for (event, ends) in [
            (published("t2", Kind::Audio), false),
            (unpublished("t1"), true),
            (published("t3", Kind::Video), false),
            (unpublished("t2"), false),
            (unpublished("t3"), true),
        ] {
            player.take(&event);
            assert_eq!(player.ends_at.is_some(), ends, "{event:?}");
        }
        Watched::over(Some(&player)).await;
    }

    #[test]
    fn a_player_that_chose_a_track_waits_for_no_other() {
        let mut player = watched(vec![]);
        player.take(&published("t2", Kind::Video));
        player.take(&unpublished("t1"));
        let ends_at = player.ends_at.unwrap();
        player.take(&published("t3", Kind::Video));
        assert_eq!(player.ends_at, Some(ends_at));
    }
}
