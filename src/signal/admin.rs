//! The pages for operators, on a listener of their own: `/metrics` and `/rooms`.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::app::App;
use super::directory::RoomEntry;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const END: &str = "# EOF\n";

/// The admin pages.
pub(super) fn router(app: App) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/metrics", get(metrics))
        .route("/rooms", get(rooms))
        .with_state(app)
}

async fn rooms(State(app): State<App>) -> Json<Vec<RoomEntry>> {
    Json(app.directory.rooms())
}

async fn metrics(State(app): State<App>) -> Response {
    let mut page = control_plane(&app);
    page.truncate(page.len() - if page.ends_with(END) { END.len() } else { 0 });
    (app.metrics)(&mut page);
    page.push_str(END);
    ([(header::CONTENT_TYPE, OPEN_METRICS)], page).into_response()
}

fn control_plane(app: &App) -> String {
    let mut registry = Registry::with_prefix("moonring");
    let rooms = Family::<Vec<(&'static str, String)>, Gauge>::default();
    let clients = Family::<Vec<(&'static str, String)>, Gauge>::default();
    for entry in app.directory.rooms() {
        let shard = vec![("shard", entry.shard.to_string())];
        rooms.get_or_create(&shard).inc();
        clients.get_or_create(&shard).inc_by(i64::try_from(entry.clients).unwrap_or(i64::MAX));
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
    single("signal_errors", "Error messages sent to clients since the start", load(&app.counters.errors_sent));
    single(
        "slow_clients",
        "Clients put out since the start because they took no messages",
        app.directory.slow_clients(),
    );
    let mut page = String::new();
    // Writing to a String does not fail.
    let _ = encode(&mut page, &registry);
    page
}
