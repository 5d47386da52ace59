//! The pages for operators, on a listener of their own: `/` for people, `/metrics`, `/rooms`, `/reload` and orders about one
//! room.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Query, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde::Deserialize;
use subtle::ConstantTimeEq;

use super::app::App;
use super::assets;
use super::canaries;
use super::metrics::Counts;
use super::orders;
use super::reloads;
use super::resident;
use super::rooms::{self, RoomsPage, RoomsQuery};
use super::{scripts, streams};
use crate::cluster::{Cluster, NodeLine};
use crate::config::DRAIN_S;
use crate::log_queue;

/// Bytes of an order: a message to a room has as many.
const MAX_BODY: usize = 64 * 1024;
/// Longest deadline of a draining, in seconds.
const MAX_DRAIN_S: u64 = 24 * 3600;
/// What is answered where there is nothing, as in a version that does not know what is asked for.
pub(super) const NO_SUCH_PAGE: &str = "there is no such page\n";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The admin pages.
pub(super) fn router(app: App) -> Router {
    let pages = assets::admin_paths().fold(Router::new(), |router, path| router.route(path, get(assets::serve_admin)));
    pages
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/metrics", get(metrics_page))
        .route("/rooms", get(rooms_page))
        .route("/nodes", get(nodes_page))
        .route("/drain", get(async |State(app): State<App>| Json(app.drain_line())).post(begin_drain))
        .route("/undrain", post(async |State(app): State<App>, headers: HeaderMap| drain(&app, &headers, None)))
        .route("/reload", post(reloads::reload))
        .route("/scripts", get(scripts::show).post(scripts::push).layer(DefaultBodyLimit::max(scripts::MAX_UPLOAD)))
        .route("/canary", get(canaries::status).post(canaries::begin))
        .route("/canary/promote", post(canaries::promote))
        .route("/canary/abort", post(canaries::abort))
        .route("/rooms/{room}/clients", get(orders::clients))
        .route("/rooms/{room}/resume", post(orders::resume))
        .route("/rooms/{room}/reload", post(orders::reload_without_state))
        .route("/rooms/{room}/open", post(orders::open))
        .route("/rooms/{room}/call", post(orders::call))
        .route("/rooms/{room}/attributes", post(orders::attributes))
        .route("/rooms/{room}/rights", post(orders::rights))
        .route("/rooms/{room}/kick", post(orders::kick))
        .route("/rooms/{room}/mute", post(orders::mute))
        .route("/rooms/{room}/move", post(orders::move_client))
        .route("/rooms/{room}/message", post(orders::message))
        .route("/rooms/{room}/close", post(orders::close))
        .route("/rooms/{room}/trace", get(streams::trace))
        .route("/rooms/{room}/record", get(streams::record))
        .fallback(|| async { (StatusCode::NOT_FOUND, NO_SUCH_PAGE) })
        .method_not_allowed_fallback(|method: Method| async move {
            let line = format!("this page does not take {method}: docs/policy.md has the requests\n");
            (StatusCode::METHOD_NOT_ALLOWED, line)
        })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(app.clone(), authorized))
        .layer(middleware::from_fn_with_state(app.clone(), refuse_other_hosts))
        .with_state(app)
}

/// Lets through who shows the `admin_token`, if there is one; `/healthz` and the page without its figures tell nothing
/// and are open.
async fn authorized(State(app): State<App>, request: Request, next: Next) -> Response {
    let token = app.admin_token.0.as_bytes();
    let shown =
        request.headers().get(header::AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    let path = request.uri().path();
    let is_open = token.is_empty() || path == "/healthz" || assets::admin_paths().any(|open| open == path);
    if is_open || shown.is_some_and(|shown| bool::from(shown.ct_eq(token))) {
        return next.run(request).await;
    }
    let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
    (StatusCode::UNAUTHORIZED, challenge, "show the admin_token: Authorization: Bearer TOKEN\n").into_response()
}

/// A page of some website can let its own name lead to loopback, and a browser on this machine then takes the admin pages
/// for that website's (DNS rebinding). So on loopback only addresses and `localhost` are answered. Who listens elsewhere
/// has given the pages to others, whatever they call this machine.
async fn refuse_other_hosts(State(app): State<App>, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if app.settings.admin_on_loopback && !is_local_name(host) {
        return (StatusCode::FORBIDDEN, "ask by address, or as localhost\n").into_response();
    }
    next.run(request).await
}

/// Whether a `Host` is an address or `localhost`; also none at all, which no browser sends.
fn is_local_name(host: &str) -> bool {
    let without_port = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = without_port.trim_start_matches('[').trim_end_matches(']');
    name.is_empty() || name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

async fn rooms_page(State(app): State<App>, Query(query): Query<RoomsQuery>) -> Json<RoomsPage> {
    Json(if query.everywhere { rooms::page_of_all(&app, &query).await } else { rooms::page(&app, &query).await })
}

/// The nodes of the cluster as this one sees them, itself first; none where there is no cluster.
async fn nodes_page(State(app): State<App>) -> Json<Vec<NodeLine>> {
    Json(app.cluster.as_ref().map(Cluster::nodes).unwrap_or_default())
}

/// The body of `drain`; it may be left out.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Drain {
    /// After so many seconds whoever is still here is sent to other nodes.
    deadline_s: u64,
}

async fn begin_drain(State(app): State<App>, headers: HeaderMap, body: Bytes) -> Response {
    let deadline = match body.is_empty() {
        true => Ok(DRAIN_S),
        false => serde_json::from_slice(&body).map(|Drain { deadline_s }| deadline_s),
    };
    match deadline {
        Ok(seconds) => drain(&app, &headers, Some(Duration::from_secs(seconds.min(MAX_DRAIN_S)))),
        Err(error) => (StatusCode::UNPROCESSABLE_ENTITY, format!("{error}\n")).into_response(),
    }
}

/// Lets this node take no new rooms and has its clients go elsewhere, or lets it take them again; what it is then.
fn drain(app: &App, headers: &HeaderMap, deadline: Option<Duration>) -> Response {
    if let Some(refusal) = orders::of_a_browser(headers) {
        return refusal;
    }
    let Some(cluster) = &app.cluster else {
        return (StatusCode::CONFLICT, "the server is alone: there is no node that its rooms could go to\n")
            .into_response();
    };
    tracing::info!(is_draining = deadline.is_some(), "ordered by the operator");
    app.drain(cluster, deadline);
    Json(cluster.own_line()).into_response()
}

async fn metrics_page(State(app): State<App>) -> Response {
    let mut registry = Registry::with_prefix("moonring");
    register_control_plane(&mut registry, &app);
    let scripts = app.scripts.as_ref().map(|scripts| scripts.counts());
    let cluster = app.cluster.as_ref().map(Cluster::counts).unwrap_or_default();
    let (shards, services) = (app.reports.shards(), app.services.counts());
    let (log_lost, resident) = (log_queue::lost(), resident::resident());
    let counts = Counts { shards, services, scripts, cluster, log_lost, resident };
    registry.register_collector(Box::new(counts));
    let mut page = String::new();
    // Writing to a String does not fail.
    let _ = encode(&mut page, &registry);
    ([(header::CONTENT_TYPE, OPEN_METRICS)], page).into_response()
}

fn register_control_plane(registry: &mut Registry, app: &App) {
    let rooms = Family::<Vec<(&'static str, String)>, Gauge>::default();
    let clients = Family::<Vec<(&'static str, String)>, Gauge>::default();
    // Those of a shard without any, too: a gauge whose line is gone is not zero to who watches it, but unknown.
    for (shard, (rooms_placed, clients_placed)) in app.directory.placed().into_iter().enumerate() {
        let shard = vec![("shard", shard.to_string())];
        rooms.get_or_create(&shard).set(i64::try_from(rooms_placed).unwrap_or(i64::MAX));
        clients.get_or_create(&shard).set(i64::try_from(clients_placed).unwrap_or(i64::MAX));
    }
    registry.register("rooms", "Rooms placed on a shard", rooms);
    registry.register("clients", "Clients placed on a shard", clients);
    let mut single = |name: &str, help: &str, value: u64| {
        let gauge: Gauge = Gauge::default();
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        registry.register(name, help, gauge);
    };
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    single("websockets", "Open WebSocket connections", load(&app.counters.websockets));
    single("whip_sessions", "Clients of WHIP and WHEP", load(&app.counters.whip_sessions));
    let mut counted = |name: &str, help: &str, value: u64| {
        let counter: Counter = Counter::default();
        counter.inc_by(value);
        registry.register(name, help, counter);
    };
    counted("signal_errors", "Error messages sent to clients", load(&app.counters.errors_sent));
    counted("turned_away", "Connections and joins that met a limit", app.directory.door().turned_away());
    counted("slow_clients", "Clients disconnected because they took no messages", app.directory.slow_clients());
}

#[cfg(test)]
mod tests;
