//! `GET /rooms/{room}/trace` and `…/record`: a stream of lines that ends with the room.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;

use super::app::App;
use super::orders::{room_of, unknown};
use super::watchers::{end, queue};
use moonring_core::command::Command;
use moonring_policy::tape::Depth;

/// A stream that has nothing to tell says so with an empty line.
const HEARTBEAT: Duration = Duration::from_secs(10);

pub(super) async fn trace(State(app): State<App>, Path(room): Path<String>, headers: HeaderMap) -> Response {
    watch(app, &room, &headers, Depth::Trace).await
}

pub(super) async fn record(State(app): State<App>, Path(room): Path<String>, headers: HeaderMap) -> Response {
    watch(app, &room, &headers, Depth::Recording).await
}

async fn watch(app: App, room: &str, headers: &HeaderMap, depth: Depth) -> Response {
    let entry = match room_of(&app, room, headers) {
        Ok(entry) => entry,
        Err(response) => return *response,
    };
    let Some(place) = app.watchers.place() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many rooms are being watched\n").into_response();
    };
    let Some(shard) = app.directory.shard(entry.shard) else { return unknown() };
    let (sink, reader) = queue(depth, app.watchers.recording_bytes, place);
    let asked = app.calls.answer_of(shard, |id| Command::Watch { id, room: entry.room, sink, depth }).await;
    if let Err(response) = asked {
        return *response;
    }
    let lines = stream::unfold((app.clone(), Some(reader)), |(app, reader)| async move {
        let mut reader = reader?;
        let line = tokio::select! {
            line = reader.next() => line,
            () = tokio::time::sleep(HEARTBEAT) => Some(Bytes::from_static(b"\n")),
            () = app.shut_down() => return Some((Ok(end("the server shuts down")), (app, None))),
        };
        line.map(|line| (Ok::<_, Infallible>(line), (app, Some(reader))))
    });
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}
