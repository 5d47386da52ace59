//! What operators order about the policy of one room: `POST /rooms/{room}/resume` and `POST /rooms/{room}/reload`, which
//! drops the state of the version that runs. The answer is the room's policy afterwards.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::app::App;
use super::rooms::PolicyLine;
use moonring_core::command::{Command, PolicyOrder};
use moonring_wire::id::RoomId;

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

/// A page of some website that a browser on this machine shows cannot order anything.
async fn order(app: &App, room: &str, headers: &HeaderMap, order: PolicyOrder) -> Response {
    if headers.contains_key(header::ORIGIN) {
        return (StatusCode::FORBIDDEN, "not from a browser\n").into_response();
    }
    let unknown = || (StatusCode::NOT_FOUND, "there is no such room\n").into_response();
    let Ok(room) = RoomId::parse(room) else { return unknown() };
    let Some(entry) = app.directory.rooms().into_iter().find(|entry| entry.room == room) else { return unknown() };
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
