//! Where somebody who wants to join goes, when this server is a node of a cluster: a room has one home, and may spread to further nodes.

use std::net::IpAddr;
use std::time::Instant;

use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};

use super::app::App;
use super::directory::WingHold;
use super::problem::Problem;
use super::resources::Protocol;
use crate::cluster::{Cluster, Hold, Place, RETRY_S, Wing};
use moonring_wire::id::RoomId;

/// Why nobody gets in while a room changes its home.
pub(super) const CHANGES: &str = "the room's home changes";

/// Keeps the room here until the join has its place.
#[derive(Debug)]
pub(super) enum Stay {
    /// This node is its home.
    Home(Hold),
    /// Another one is, and this one has clients of it, too.
    Wing(#[expect(dead_code, reason = "it is held")] WingHold),
}

impl Stay {
    /// Whether the room is still here: to be asked once whoever was on the way is in it.
    pub(super) fn is_good(&self) -> bool {
        match self {
            Self::Home(hold) => hold.is_good(),
            Self::Wing(_) => true,
        }
    }
}

/// Not here.
#[derive(Debug)]
pub(super) enum Elsewhere {
    /// At the node at this URL, which ends with a slash.
    Moved(String),
    /// It cannot be said now: why.
    TryAgain(&'static str),
}

/// What keeps the room here until the join has its place; `None` for a server that is alone.
pub(super) async fn here(app: &App, room: &RoomId, ip: IpAddr) -> Result<Option<Stay>, Elsewhere> {
    // Whoever may not join is told so by the directory, and makes no room.
    if app.cluster.is_some() && app.directory.door().may_join(Instant::now(), ip).is_err() {
        return Ok(None);
    }
    match (placed(app, room).await, &app.cluster) {
        (Err(Elsewhere::Moved(url)), Some(cluster)) => spreads(app, cluster, room, url).await,
        // Its home was another node, and those who are still in its wing here are being sent away.
        (Ok(Some(_)), _) if app.directory.far_home(room).is_some() => Err(Elsewhere::TryAgain(CHANGES)),
        (placed, _) => Ok(placed?.map(Stay::Home)),
    }
}

/// Somebody wants into a room of the node at `url`: there, or here, where the room then has a wing.
async fn spreads(app: &App, cluster: &Cluster, room: &RoomId, url: String) -> Result<Option<Stay>, Elsewhere> {
    match cluster.wing(room, url, app.directory.far_home(room).is_some()).await {
        Wing::There(url) => Err(Elsewhere::Moved(url)),
        Wing::TryAgain(why) => Err(Elsewhere::TryAgain(why)),
        Wing::Here(home) => match app.directory.open_wing(room, home) {
            Some(hold) => Ok(Some(Stay::Wing(hold))),
            None => Err(Elsewhere::TryAgain(CHANGES)),
        },
    }
}

async fn placed(app: &App, room: &RoomId) -> Result<Option<Hold>, Elsewhere> {
    let Some(cluster) = &app.cluster else { return Ok(None) };
    match cluster.place(room).await {
        Place::Here(hold) => Ok(Some(hold)),
        Place::There(url) => Err(Elsewhere::Moved(url)),
        Place::TryAgain(why) => Err(Elsewhere::TryAgain(why)),
    }
}

/// The same for a request of WHIP or WHEP, whose `uri` is that below `/whip` or `/whep`: the response that leads it to its node (RFC 9725 section 4.5).
pub(super) async fn of_request(
    app: &App,
    protocol: Protocol,
    room: &str,
    ip: IpAddr,
    uri: &Uri,
) -> Result<Result<Option<Stay>, Response>, Problem> {
    // An id that is none is refused where it is read.
    let Ok(room) = RoomId::parse(room) else { return Ok(Ok(None)) };
    match here(app, &room, ip).await {
        Ok(hold) => Ok(Ok(hold)),
        Err(Elsewhere::Moved(url)) => {
            let path = uri.path_and_query().map_or(uri.path(), |path| path.as_str());
            let location = format!("{url}{}{path}", protocol.name());
            Ok(Err((StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, location)]).into_response()))
        }
        Err(Elsewhere::TryAgain(why)) => Err(problem(why)),
    }
}

/// The room cannot be joined for the moment.
pub(super) fn problem(why: &str) -> Problem {
    Problem::try_again(format!("{why}: try again"), RETRY_S)
}

/// The same for an operator who opens a room; the line says why not.
pub(super) async fn to_open(app: &App, room: &RoomId) -> Result<Option<Hold>, String> {
    placed(app, room).await.map_err(|elsewhere| match elsewhere {
        Elsewhere::Moved(url) => format!("the room is on the node at {url}: ask there\n"),
        Elsewhere::TryAgain(why) => format!("{why}: try again\n"),
    })
}

/// The address of a node's WebSockets.
pub(super) fn websocket_url(url: &str) -> String {
    // https becomes wss, http becomes ws.
    format!("ws{}ws", url.strip_prefix("http").unwrap_or(url))
}

/// A ticket, as clients get it: it says on which node the stay is.
pub(super) fn ticket(app: &App, ticket: String) -> String {
    match &app.cluster {
        Some(cluster) if !ticket.is_empty() => format!("{}.{ticket}", cluster.name()),
        _ => ticket,
    }
}

/// This node's part of a ticket, or where the stay is; `None`: nowhere.
pub(super) async fn ticket_of<'a>(app: &App, ticket: &'a str) -> Result<&'a str, Option<Elsewhere>> {
    let Some(cluster) = &app.cluster else { return Ok(ticket) };
    match ticket.split_once('.') {
        // Also one of another node, whose stay has come here.
        Some((node, rest)) if node == cluster.name() || app.directory.has_stay(rest) => Ok(rest),
        Some((node, _)) => Err(cluster.url_of(node).await.map(Elsewhere::Moved)),
        None => Err(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_websockets_of_a_node_are_below_its_url() {
        for (url, expected) in [
            ("https://n1.example:8080/", "wss://n1.example:8080/ws"),
            ("http://127.0.0.1:1/", "ws://127.0.0.1:1/ws"),
            ("https://sfu.example/n1/", "wss://sfu.example/n1/ws"),
        ] {
            assert_eq!(websocket_url(url), expected);
        }
    }
}
