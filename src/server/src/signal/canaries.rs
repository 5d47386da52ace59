//! The canary on the admin pages: `GET /canary` shows it, or how the last one ended; `POST /canary` begins one,
//! `POST /canary/promote` gives its version to all rooms, `POST /canary/abort` takes it back.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::app::App;
use super::orders;
use crate::watch::{CanaryOrder, Wanted};

/// Most seconds of a canary.
const MAX_SECONDS: u64 = 30 * 86_400;

/// The body of `POST /canary`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Begin {
    /// A share such as `5%`, or a pattern of room ids.
    pub(super) rooms: String,
    pub(super) seconds: u64,
}

pub(super) async fn status(State(app): State<App>) -> Response {
    serve(&app, Wanted::Status).await
}

pub(super) async fn begin(State(app): State<App>, headers: HeaderMap, Json(body): Json<Begin>) -> Response {
    let length = Duration::from_secs(body.seconds.clamp(1, MAX_SECONDS));
    match CanaryOrder::parse(&body.rooms, length) {
        Ok(order) => from_programs(&app, &headers, Wanted::Begin(order)).await,
        Err(error) => (StatusCode::UNPROCESSABLE_ENTITY, format!("{error}\n")).into_response(),
    }
}

pub(super) async fn promote(State(app): State<App>, headers: HeaderMap) -> Response {
    from_programs(&app, &headers, Wanted::Promote).await
}

pub(super) async fn abort(State(app): State<App>, headers: HeaderMap) -> Response {
    from_programs(&app, &headers, Wanted::Abort).await
}

async fn from_programs(app: &App, headers: &HeaderMap, wanted: Wanted) -> Response {
    if let Some(refusal) = orders::of_a_browser(headers) {
        return refusal;
    }
    serve(app, wanted).await
}

async fn serve(app: &App, wanted: Wanted) -> Response {
    let report = match &app.scripts {
        Some(scripts) => scripts.canary(wanted).await,
        None => None,
    };
    match report {
        Some(Ok(report)) => Json(report).into_response(),
        Some(Err(error)) => (StatusCode::UNPROCESSABLE_ENTITY, format!("{error}\n")).into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, "the scripts folder is not watched\n").into_response(),
    }
}
