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
use crate::signal::directory::{Membership, SHUTS_DOWN};
use crate::signal::problem::Problem;
use crate::signal::resources::{HeldSession, Protocol, Resource};
use moonring_core::command::{
    Command, Event, JoinRequest, LeaveCause, News, OfferRequest, RefusalCode, SubscribeIntent,
};
use moonring_policy::hook::Undecided;
use moonring_wire::id::{ClientId, TrackId};
use moonring_wire::media::TrackInfo;
use moonring_wire::negotiate::{Answer, SectionOutcome};
use moonring_wire::sdp;

/// The number of the only offer.
const REQUEST: u64 = 1;
/// How long a player stays when none of the tracks that it chose is left; as the shard lets others wait.
const GRACE: Duration = Duration::from_secs(20);

/// What is said to who comes during a shutdown.
const SHUTDOWN: &str = "the server is shutting down";

/// A session that has begun.
#[derive(Debug)]
pub(super) struct Created {
    /// The secret name of its resource.
    pub(super) name: String,
    pub(super) client: ClientId,
    pub(super) answer: String,
}

/// A client between its request and its response.
struct Pending<'a> {
    app: &'a App,
    member: Membership,
    with_token: bool,
}

/// The tracks that a player chose: once none of them is left, its session ends after a while. (A player that leaves the
/// choice to the server is the shard's to end: it knows what there is to go on with.)
#[derive(Debug)]
struct Chosen {
    tracks: HashSet<TrackId>,
    ends_at: Option<Instant>,
}

/// Joins the room and has the offer answered.
pub(super) async fn open(app: &App, request: &Request) -> Result<Created, Problem> {
    let member =
        app.directory.enter(&request.room, request.visit.ip).map_err(|refusal| match refusal.retry_after() {
            Some(seconds) => Problem::too_many(refusal.to_string(), seconds),
            None => Problem::unavailable(refusal.to_string()),
        })?;
    let with_token = request.token.is_some();
    let mut pending = Pending { app, member, with_token };
    let client = pending.member.client.clone();
    let negotiated = pending.negotiate(request).await;
    let (answer, chosen) = negotiated.inspect_err(|problem| {
        // It may have joined, and leaves then.
        pending.member.goodbye = format!("its request is refused: {}", problem.detail).into();
    })?;
    let deleted = Arc::new(Notify::new());
    let name = app.resources.insert(Resource {
        protocol: request.protocol,
        room: request.room.clone(),
        client: client.clone(),
        token: request.token_digest(),
        deleted: deleted.clone(),
    });
    tokio::spawn(hold(app.clone(), name.clone(), pending.member, deleted, chosen));
    let answer = if request.bundled { sdp::render_answer(&answer) } else { sdp::render_unbundled_answer(&answer) };
    Ok(Created { name, client, answer })
}

/// Why there is no session, given how its sections came out. A player is content with less than it can show. Of what an encoder sends
/// all is published or nothing (RFC 9725 section 4.4.3): nobody would tell its user that a part is missing.
fn refusal(request: &Request, sections: &[SectionOutcome]) -> Option<Problem> {
    let refused: Vec<_> = sections.iter().filter(|section| section.track.is_none()).collect();
    let is_whip = request.protocol == Protocol::Whip;
    let reason = || refused.iter().find_map(|section| section.reason.clone());
    if refused.len() == sections.len() {
        let reason = reason().unwrap_or_else(|| nothing_to_do(request.protocol).into());
        return Some(Problem::new(if is_whip { StatusCode::FORBIDDEN } else { StatusCode::CONFLICT }, reason));
    }
    let (one, _) = request.used_sections().find(|(s, _)| refused.iter().any(|refused| refused.mid == s.mid))?;
    let detail = format!("{} is refused, so that nothing is published", one.line.media);
    let detail = reason().map_or_else(|| detail.clone(), |reason| format!("{detail}: {reason}"));
    is_whip.then(|| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail))
}

impl Pending<'_> {
    /// Joins, and has the offer answered; with what a player chose.
    async fn negotiate(&mut self, request: &Request) -> Result<(Box<Answer>, Option<Chosen>), Problem> {
        self.send(Command::Join(JoinRequest {
            room: request.room.clone(),
            client: self.member.client.clone(),
            token: request.token.clone().unwrap_or_default(),
            metadata: json!({ "via": request.protocol.name() }),
            connection: Box::new(request.visit.clone()),
        }))?;
        let tracks = self.joined().await?;
        let subscribe = request.subscribe(&tracks)?;
        let mut chosen = request.selector.is_some().then(|| Chosen::new(&subscribe));
        self.send(Command::Offer(OfferRequest {
            client: self.member.client.clone(),
            request: REQUEST,
            offer: Box::new(request.offer.clone()),
            publish: request.publish(),
            subscribe,
        }))?;
        let (answer, sections) = self.answered(&mut chosen).await?;
        match refusal(request, &sections) {
            Some(problem) => Err(problem),
            None => Ok((answer, chosen)),
        }
    }

    fn send(&self, command: Command) -> Result<(), Problem> {
        self.member.send(command).map_err(|full| Problem::unavailable(full.to_string()))
    }

    async fn event(&mut self) -> Result<Event, Problem> {
        let event = timeout(self.app.settings.join_timeout, self.member.events.recv());
        tokio::select! {
            biased;
            () = self.app.shut_down() => Err(Problem::unavailable(SHUTDOWN)),
            event = event => match event {
                Ok(Some(event)) => Ok(event),
                Ok(None) => Err(Problem::unavailable("the server is overloaded")),
                Err(_) => Err(Problem::unavailable("the room did not answer in time")),
            },
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

    async fn answered(&mut self, chosen: &mut Option<Chosen>) -> Result<(Box<Answer>, Vec<SectionOutcome>), Problem> {
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
                    if let Some(chosen) = chosen {
                        chosen.take(&event);
                    }
                }
            }
        }
    }

    fn problem_of(&self, cause: LeaveCause) -> Problem {
        match cause {
            LeaveCause::Rejected(reason)
            | LeaveCause::Undecided(Undecided::Failed, reason)
            | LeaveCause::Kicked(reason) => {
                Problem::new(if self.with_token { StatusCode::FORBIDDEN } else { StatusCode::UNAUTHORIZED }, reason)
            }
            LeaveCause::Limit(reason)
            | LeaveCause::Later(reason)
            | LeaveCause::Undecided(_, reason)
            | LeaveCause::TransportFailed(reason) => Problem::unavailable(reason),
            LeaveCause::Left => Problem::unavailable("the client left"),
            LeaveCause::Moved(_) | LeaveCause::GoesOn(_) => Problem::unavailable("the room has moved to another node"),
            LeaveCause::Shutdown => Problem::unavailable(SHUTDOWN),
        }
    }
}

impl Chosen {
    fn new(subscribe: &[SubscribeIntent]) -> Self {
        Self { tracks: subscribe.iter().filter_map(|intent| intent.track.clone()).collect(), ends_at: None }
    }

    fn take(&mut self, event: &Event) {
        if let Event::News { news, .. } = event
            && let News::TrackUnpublished(track) = &**news
        {
            self.tracks.remove(track);
            if self.tracks.is_empty() && self.ends_at.is_none() {
                self.ends_at = Some(Instant::now() + GRACE);
            }
        }
    }

    /// Ready when there has been nothing to show for a while.
    async fn over(chosen: Option<&Self>) {
        match chosen.and_then(|chosen| chosen.ends_at) {
            Some(at) => sleep_until(at).await,
            None => pending().await,
        }
    }
}

/// Goes on with a session of the process before. A player that chose its tracks there stays until it leaves or falls silent.
pub(in crate::signal) fn inherit(app: &App, session: HeldSession) {
    let HeldSession { name, protocol, room, client, token } = session;
    let Some(member) = app.directory.attach(&client) else { return };
    let deleted = Arc::new(Notify::new());
    app.resources.inherit(name.clone(), Resource { protocol, room, client, token, deleted: deleted.clone() });
    tokio::spawn(hold(app.clone(), name, member, deleted, None));
}

/// Holds the client's place until its resource is deleted, the shard ends it, or there is nothing left to watch.
async fn hold(app: App, name: String, mut member: Membership, deleted: Arc<Notify>, mut chosen: Option<Chosen>) {
    app.counters.whip_sessions.fetch_add(1, Ordering::Relaxed);
    loop {
        tokio::select! {
            event = member.events.recv() => match event {
                Some(Event::Left { .. }) | None => break,
                Some(event) => {
                    if let Some(chosen) = &mut chosen {
                        chosen.take(&event);
                    }
                }
            },
            () = deleted.notified() => {
                member.goodbye = "left".into();
                break;
            }
            () = Chosen::over(chosen.as_ref()) => {
                member.goodbye = "nothing left to watch".into();
                break;
            }
            () = app.shut_down() => {
                member.goodbye = SHUTS_DOWN.into();
                break;
            }
        }
    }
    app.resources.forget(&name);
    app.counters.whip_sessions.fetch_sub(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use moonring_wire::id::Mid;
    use moonring_wire::shared::Shared;

    #[test]
    fn a_player_ends_when_the_last_track_that_it_chose_has_ended() {
        let track = |id: &str| TrackId::parse(id).unwrap();
        let intent = |id| SubscribeIntent { mid: Mid::parse("0").unwrap(), track: Some(track(id)) };
        let mut chosen = Chosen::new(&[intent("t1"), intent("t2")]);
        for (ended, ends) in [("t1", false), ("t3", false), ("t2", true)] {
            let (client, track) = (ClientId::parse("me").unwrap(), track(ended));
            chosen.take(&Event::News { client, news: Shared::new(News::TrackUnpublished(track)) });
            assert_eq!(chosen.ends_at.is_some(), ends, "{ended}");
        }
    }
}
