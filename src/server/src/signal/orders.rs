//! What operators order about one room: `POST /rooms/{room}/…`.
//!
//! `resume` and `reload` (which drops the state of the version that runs) are answered with the room's policy afterwards,
//! `call` with what its `on_admin` answers to the body, `kick`, `mute`, `message`, `attributes`, `rights`, `move` and `close`
//! with null. `open` is about a room that is not there yet, and `GET /rooms/{room}/clients` tells who is in one.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::Value;

use super::app::App;
use super::directory::RoomEntry;
use super::homes;
use super::rooms::PolicyLine;
use crate::cluster::{Cluster, NOT_HERE, NodeName};
use moonring_core::command::{Command, PolicyOrder};
use moonring_policy::check_object;
use moonring_policy::client::RightsChange;
use moonring_policy::hook::Action;
use moonring_wire::id::{ClientId, PlaceId, RoomId, TrackId};
use moonring_wire::rights::Sources;

/// What clients are told when the operator gives no reason.
const BY_OPERATOR: &str = "By the operator";

/// The body of `kick`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kick {
    client: ClientId,
    #[serde(default)]
    reason: Option<String>,
}

/// The body of `close`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Close {
    #[serde(default)]
    reason: Option<String>,
}

/// The body of `mute`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mute {
    client: ClientId,
    track: TrackId,
    #[serde(default = "yes")]
    muted: bool,
}

/// The body of `message`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Message {
    message: Value,
    #[serde(default)]
    client: Option<ClientId>,
}

/// The body of `attributes`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Attributes {
    client: ClientId,
    attributes: Value,
}

/// The body of `rights`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RightsOf {
    client: ClientId,
    /// The sources that it may publish.
    #[serde(default)]
    publish: Option<Sources>,
    #[serde(default)]
    subscribe: Option<bool>,
    #[serde(default)]
    message: Option<bool>,
    #[serde(default)]
    reason: Option<String>,
}

/// The body of `move`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Move {
    client: ClientId,
    #[serde(default)]
    node: Option<NodeName>,
    #[serde(default)]
    shard: Option<u16>,
}

fn yes() -> bool {
    true
}

fn reason(given: Option<String>) -> String {
    given.unwrap_or_else(|| BY_OPERATOR.to_owned())
}

/// Which clients: those behind one.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ClientsQuery {
    #[serde(default)]
    after: Option<ClientId>,
}

/// `GET /rooms/{room}/clients`: who is in a room, how each has come, what each publishes and receives.
pub(super) async fn clients(
    State(app): State<App>,
    Path(room): Path<String>,
    Query(ClientsQuery { after }): Query<ClientsQuery>,
    headers: HeaderMap,
) -> Response {
    let entry = match room_of(&app, &room, &headers) {
        Ok(entry) => entry,
        Err(response) => return *response,
    };
    let Some(shard) = app.directory.shard(entry.shard) else { return unknown() };
    match app.calls.answer_of(shard, |id| Command::ListClients { id, room: entry.room, after }).await {
        Ok(mut page) => {
            let cluster = app.cluster.as_ref();
            let here = (cluster.map(Cluster::name), entry.shard, app.directory.shards());
            let name_at = |place| Some(cluster?.name_at(place)?.as_str().to_owned());
            let lines = page["clients"].as_array_mut();
            lines.into_iter().flatten().for_each(|line| name_place(line, here, name_at));
            Json(page).into_response()
        }
        Err(response) => *response,
    }
}

/// Says in an operator's words where a client is. Of a client at another node its home does not know the shard.
fn name_place(
    line: &mut Value,
    (own, shard, shards): (Option<&str>, usize, usize),
    name_at: impl Fn(PlaceId) -> Option<String>,
) {
    let Some(line) = line.as_object_mut() else { return };
    let place = line.remove("place").and_then(|place| u16::try_from(place.as_u64()?).ok());
    let own = || own.map(str::to_owned);
    let (node, shard) = match place {
        _ if line.get("here") == Some(&Value::Bool(true)) => (own(), Some(shard)),
        Some(place) if usize::from(place) < shards => (own(), Some(usize::from(place))),
        Some(place) => (name_at(PlaceId(place)), None),
        None => (None, None),
    };
    line.insert("node".to_owned(), node.into());
    line.insert("shard".to_owned(), shard.into());
}

pub(super) async fn resume(State(app): State<App>, Path(room): Path<String>, headers: HeaderMap) -> Response {
    order(&app, &room, &headers, PolicyOrder::Resume).await
}

pub(super) async fn reload_without_state(
    State(app): State<App>,
    Path(room): Path<String>,
    headers: HeaderMap,
) -> Response {
    order(&app, &room, &headers, PolicyOrder::ReloadWithoutState).await
}

pub(super) async fn call(
    State(app): State<App>,
    Path(room): Path<String>,
    headers: HeaderMap,
    Json(request): Json<Value>,
) -> Response {
    ask(&app, &room, &headers, |id, room| Command::Call { id, room, request }).await
}

pub(super) async fn kick(
    State(app): State<App>,
    Path(room): Path<String>,
    headers: HeaderMap,
    Json(body): Json<Kick>,
) -> Response {
    let action = Action::Kick { client: body.client, reason: reason(body.reason) };
    ask(&app, &room, &headers, |id, room| Command::Act { id, room, action }).await
}

/// Moves a client to another shard, or to another node; answered once it is told to restart ICE. A client of the room that is on
/// another node is moved by that one.
pub(super) async fn move_client(
    State(app): State<App>,
    Path(room): Path<String>,
    headers: HeaderMap,
    Json(Move { client, node, shard }): Json<Move>,
) -> Response {
    let entry = match room_of(&app, &room, &headers) {
        Ok(entry) => entry,
        Err(response) => return *response,
    };
    let moved = match (app.move_here(&entry.room, client.clone(), (node.as_ref(), shard)).await, &app.cluster, node) {
        (Err(why), Some(cluster), Some(node)) if why == NOT_HERE => {
            cluster.order_elsewhere(&entry.room, &client, (node, shard)).await
        }
        (Err(why), ..) if why == NOT_HERE => Err(format!("there is no client {client} in the room")),
        (moved, ..) => moved,
    };
    moved.map_or_else(refused, |()| Json(Value::Null).into_response())
}

pub(super) async fn close(
    State(app): State<App>,
    Path(room): Path<String>,
    headers: HeaderMap,
    Json(body): Json<Close>,
) -> Response {
    let action = Action::CloseRoom { reason: reason(body.reason) };
    ask(&app, &room, &headers, |id, room| Command::Act { id, room, action }).await
}

pub(super) async fn attributes(
    State(app): State<App>,
    Path(room): Path<String>,
    headers: HeaderMap,
    Json(Attributes { client, attributes }): Json<Attributes>,
) -> Response {
    if let Err(why) = check_object("value of attributes", &attributes) {
        return refused(why);
    }
    let action = Action::SetAttributes { client, attributes };
    ask(&app, &room, &headers, |id, room| Command::Act { id, room, action }).await
}

pub(super) async fn rights(
    State(app): State<App>,
    Path(room): Path<String>,
    headers: HeaderMap,
    Json(body): Json<RightsOf>,
) -> Response {
    let change = RightsChange { publish: body.publish, subscribe: body.subscribe, message: body.message };
    let action = Action::SetRights { client: body.client, change, reason: reason(body.reason) };
    ask(&app, &room, &headers, |id, room| Command::Act { id, room, action }).await
}

/// Opens a room; the body is what its script finds as `sfu.room.metadata`.
pub(super) async fn open(
    State(app): State<App>,
    Path(room): Path<String>,
    headers: HeaderMap,
    Json(metadata): Json<Value>,
) -> Response {
    if let Some(refusal) = of_a_browser(&headers) {
        return refusal;
    }
    let room = match RoomId::parse(&room) {
        Ok(room) => room,
        Err(error) => return refused(format!("the room id {error}")),
    };
    if let Err(why) = check_object("metadata", &metadata) {
        return refused(why);
    }
    let _hold = match homes::to_open(&app, &room).await {
        Ok(hold) => hold,
        Err(line) => return (StatusCode::CONFLICT, line).into_response(),
    };
    let shard = match app.directory.open(&room) {
        Ok(shard) => shard,
        Err(refusal) => return (StatusCode::SERVICE_UNAVAILABLE, format!("{refusal}\n")).into_response(),
    };
    let Some(handle) = app.directory.shard(shard) else { return unknown() };
    let name = room.clone();
    let response = app.calls.ask(handle, |id| Command::Open { id, room: name, metadata }).await;
    if response.status() == StatusCode::SERVICE_UNAVAILABLE {
        app.directory.not_opened(&room, shard);
    }
    response
}

pub(super) async fn mute(
    State(app): State<App>,
    Path(room): Path<String>,
    headers: HeaderMap,
    Json(body): Json<Mute>,
) -> Response {
    let action = Action::SetMuted { client: body.client, track: body.track, muted: body.muted };
    ask(&app, &room, &headers, |id, room| Command::Act { id, room, action }).await
}

pub(super) async fn message(
    State(app): State<App>,
    Path(room): Path<String>,
    headers: HeaderMap,
    Json(body): Json<Message>,
) -> Response {
    let value = body.message;
    let action = match body.client {
        Some(client) => Action::Send { client, value },
        None => Action::Broadcast { value, except: None },
    };
    ask(&app, &room, &headers, |id, room| Command::Act { id, room, action }).await
}

/// The room, unless it is not there or the request comes from a browser.
pub(super) fn room_of(app: &App, room: &str, headers: &HeaderMap) -> Result<RoomEntry, Box<Response>> {
    if let Some(refusal) = of_a_browser(headers) {
        return Err(Box::new(refusal));
    }
    let entry = RoomId::parse(room).ok().and_then(|room| app.directory.room(&room));
    let elsewhere = || {
        let words = "there is no such room at this node: `moonring rooms` says which node has it\n";
        (StatusCode::NOT_FOUND, words).into_response()
    };
    entry.ok_or_else(|| Box::new(if app.cluster.is_some() { elsewhere() } else { unknown() }))
}

/// What a browser gets: a page of some website that a browser on this machine shows cannot order anything. A picture of a page is
/// asked for without `Origin`; where the page is from, browsers then say by Fetch Metadata.
pub(super) fn of_a_browser(headers: &HeaderMap) -> Option<Response> {
    let is_foreign = headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site" || site == "same-site");
    let is_refused = is_foreign || headers.contains_key(header::ORIGIN);
    is_refused.then(|| (StatusCode::FORBIDDEN, "not from a browser\n").into_response())
}

fn refused(why: String) -> Response {
    (StatusCode::UNPROCESSABLE_ENTITY, format!("{why}\n")).into_response()
}

pub(super) fn unknown() -> Response {
    (StatusCode::NOT_FOUND, "there is no such room\n").into_response()
}

async fn ask(app: &App, room: &str, headers: &HeaderMap, command: impl FnOnce(u64, RoomId) -> Command) -> Response {
    let entry = match room_of(app, room, headers) {
        Ok(entry) => entry,
        Err(response) => return *response,
    };
    match app.directory.shard(entry.shard) {
        Some(shard) => app.calls.ask(shard, |id| command(id, entry.room)).await,
        None => unknown(),
    }
}

async fn order(app: &App, room: &str, headers: &HeaderMap, order: PolicyOrder) -> Response {
    let entry = match room_of(app, room, headers) {
        Ok(entry) => entry,
        Err(response) => return *response,
    };
    let room = entry.room.clone();
    let command = Command::Policy { room: room.clone(), order };
    let sent = app.directory.shard(entry.shard).is_some_and(|shard| shard.send(command).is_ok());
    if !sent {
        return (StatusCode::SERVICE_UNAVAILABLE, "the server is overloaded\n").into_response();
    }
    // The shard takes its commands in order: its report is of the time after.
    let report = app.reports.rooms(&app.directory, &[entry]).await.remove(&room);
    match report.and_then(|report| report.policy) {
        Some(policy) => Json(PolicyLine::from(policy)).into_response(),
        None => unknown(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_operator_is_told_the_node_and_the_shard_of_a_client_as_far_as_its_home_knows_them() {
        let name_at = |place| (place == PlaceId(5)).then(|| "n2".to_owned());
        for (here, place, own, expected) in [
            (true, json!(null), Some("n1"), json!(["n1", 1])),
            (true, json!(null), None, json!([null, 1])),
            (false, json!(0), None, json!([null, 0])),
            (false, json!(0), Some("n1"), json!(["n1", 0])),
            (false, json!(5), Some("n1"), json!(["n2", null])),
            (false, json!(6), Some("n1"), json!([null, null])),
            (false, json!(null), Some("n1"), json!([null, null])),
        ] {
            let mut line = json!({ "here": here, "place": place });
            name_place(&mut line, (own, 1, 2), name_at);
            assert_eq!(line, json!({ "here": here, "node": expected[0], "shard": expected[1] }));
        }
    }
}
