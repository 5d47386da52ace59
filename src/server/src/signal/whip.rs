//! WHIP (RFC 9725) and WHEP: one HTTP request publishes into a room or receives from it, so that tools which nobody
//! here wrote can take part.
//!
//! `POST /whip/{room}` with an offer and a bearer token joins the room, publishes every sending section and answers
//! 201 with the answer; `POST /whep/{room}` receives the room's tracks in every receiving section, and
//! `POST /whep/{room}/{track or client}` only that track or that client's. `Location` names a resource whose secret
//! path is the right to `DELETE` it, which leaves the room. It is relative to the request, so that it holds behind a
//! proxy that serves this server below a path of its own, and leads through the root, so that OBS finds it.

mod replace;
mod request;
mod session;

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{self, MethodRouter, any, post};
use serde::Deserialize;
use tower_http::cors::{Any, CorsLayer};
use tower_http::set_header::SetResponseHeaderLayer;

use self::request::Request;
use self::session::Created;
pub(super) use self::session::inherit;
use super::app::App;
use super::homes;
use super::problem::Problem;
use super::resources::Protocol;
use super::visit;

/// The content type of offers and answers.
const SDP: &str = "application/sdp";
/// How long browsers may keep what a preflight request was told.
const PREFLIGHT_AGE: Duration = Duration::from_secs(24 * 3600);

/// The endpoints and their resources; each path may end with a slash.
pub(super) fn router() -> Router<App> {
    let whip = with_and_without_slash(Router::new(), "/{room}", create(Protocol::Whip).get(nothing));
    let whip = with_and_without_slash(whip, "/{room}/{resource}", delete(Protocol::Whip).get(is_there));
    let whep = with_and_without_slash(Router::new(), "/{room}", create(Protocol::Whep).get(nothing));
    let player = create(Protocol::Whep).merge(delete(Protocol::Whep)).get(nothing);
    let whep = with_and_without_slash(whep, "/{room}/{resource}", player);
    // A nested router does not see its own path with a slash behind it.
    let nowhere = ["/whip/", "/whep/"].into_iter().fold(Router::new(), |all, path| all.route(path, any(no_endpoint)));
    Router::new().nest("/whip", answered(whip)).nest("/whep", answered(whep)).merge(with_layers(nowhere))
}

fn answered(router: Router<App>) -> Router<App> {
    let not_allowed = || async {
        Problem::new(StatusCode::METHOD_NOT_ALLOWED, "POST an offer to the endpoint, DELETE the session's resource")
    };
    with_layers(router.fallback(no_endpoint).method_not_allowed_fallback(not_allowed))
}

/// Names `OPTIONS` in `Allow` (RFC 9110 section 10.2.1) where the layer for pages of other origins answers it, of which the router
/// does not know. Around all routers, as `Allow` is set outside of their layers.
pub(super) async fn allow_options(request: axum::extract::Request, next: Next) -> Response {
    let path = request.uri().path();
    let is_endpoint = path.starts_with("/whip/") || path.starts_with("/whep/");
    let mut response = next.run(request).await;
    let allowed =
        response.headers().get(header::ALLOW).filter(|_| is_endpoint).and_then(|allowed| allowed.to_str().ok());
    if let Some(Ok(allowed)) = allowed.map(|allowed| HeaderValue::try_from(format!("{allowed},OPTIONS"))) {
        response.headers_mut().insert(header::ALLOW, allowed);
    }
    response
}

async fn no_endpoint() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "the endpoints are /whip/<room> and /whep/<room>")
}

fn with_and_without_slash(router: Router<App>, path: &str, methods: MethodRouter<App>) -> Router<App> {
    router.route(path, methods.clone()).route(&format!("{path}/"), methods)
}

/// Players and cameras on pages of other origins may use the endpoints, and read what went wrong: the token is the
/// right to, not a cookie.
fn with_layers(router: Router<App>) -> Router<App> {
    let cors = CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::POST, Method::PATCH, Method::DELETE, Method::OPTIONS])
        .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE, header::IF_MATCH])
        .expose_headers([header::LOCATION, header::ETAG, header::RETRY_AFTER])
        .max_age(PREFLIGHT_AGE);
    // RFC 9725 section 4.6: what the endpoint takes.
    let accept =
        SetResponseHeaderLayer::if_not_present(HeaderName::from_static("accept-post"), HeaderValue::from_static(SDP));
    router.layer(cors).layer(accept)
}

/// What a path below an endpoint names.
#[derive(Debug, Deserialize)]
struct Target {
    room: String,
    /// The track or client to receive, or the secret name of a session.
    #[serde(default)]
    resource: Option<String>,
}

/// What a path names, unless that is no text.
type Named = Result<Path<Target>, PathRejection>;

fn named(target: Named) -> Result<Target, Problem> {
    target.map(|Path(target)| target).map_err(|rejection| Problem::new(rejection.status(), rejection.body_text()))
}

/// What is read of an endpoint: RFC 9725 section 4.1 has it that it has no representation, and that this is no error.
async fn nothing() -> StatusCode {
    StatusCode::NO_CONTENT
}

/// The same of an encoder's session, as long as there is one.
async fn is_there(State(app): State<App>, target: Named) -> Result<StatusCode, Problem> {
    let target = named(target)?;
    let name = target.resource.unwrap_or_default();
    match app.resources.has(Protocol::Whip, &target.room, &name) {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(no_session()),
    }
}

fn no_session() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is no such session in this room")
}

fn create(protocol: Protocol) -> MethodRouter<App> {
    post(
        move |State(app): State<App>,
              ConnectInfo(peer): ConnectInfo<SocketAddr>,
              target: Named,
              uri: Uri,
              headers: HeaderMap,
              body: Body| async move {
            let target = named(target)?;
            let limit = app.settings.join_timeout;
            let ip = app.client_ip(peer, &headers);
            let location = Location { protocol, path: uri.path().to_owned(), room: target.room.clone() };
            let visit = visit::connection(&app, ip, protocol.via(), &headers)?;
            let hold = match homes::of_request(&app, protocol, &target.room, ip, &uri).await? {
                Ok(hold) => hold,
                Err(redirect) => return Ok(redirect),
            };
            let request = Request::read(protocol, &target, visit, &headers, request::Body { body, limit }).await?;
            let created = replace::open(&app, &request).await?;
            if hold.is_some_and(|hold| !hold.is_good()) {
                app.resources.delete(protocol, &target.room, &created.name);
                return Err(homes::problem(homes::CHANGES));
            }
            Ok::<_, Problem>(respond(&location, created))
        },
    )
}

/// What the resource's URL is relative to.
struct Location {
    protocol: Protocol,
    path: String,
    room: String,
}

impl Location {
    /// The reference that leads from the request's path to `/whip/{room}/{name}` (RFC 3986 section 5.2). It goes up to where
    /// the endpoints are, for OBS: that does not resolve it but sets it as the whole path, whose ".." curl takes out.
    fn of(&self, name: &str) -> String {
        format!("{}{}/{}/{name}", "../".repeat(self.path.matches('/').count()), self.protocol.name(), self.room)
    }
}

fn respond(location: &Location, created: Created) -> Response {
    let location = location.of(&created.name);
    // RFC 9725 section 4.3.1: the entity tag names the ICE session; there is one per resource, as there are no restarts.
    let etag = format!("\"{}\"", created.client);
    let headers = [(header::CONTENT_TYPE, SDP), (header::LOCATION, &location), (header::ETAG, &etag)];
    (StatusCode::CREATED, headers, created.answer).into_response()
}

fn delete(protocol: Protocol) -> MethodRouter<App> {
    routing::delete(move |State(app): State<App>, target: Named| async move {
        let target = named(target)?;
        // The secret name is all the proof that is asked for.
        let name = target.resource.unwrap_or_default();
        match app.resources.delete(protocol, &target.room, &name) {
            true => Ok(StatusCode::OK),
            false => Err(no_session()),
        }
    })
}

#[cfg(test)]
mod tests {
    use reqwest::Url;

    use super::*;

    #[test]
    fn the_location_leads_to_the_resource_also_behind_a_proxy_with_a_path_of_its_own() {
        for (asked, path, resource) in [
            ("https://a.example/whip/demo", "/demo", "/whip/demo/secret"),
            ("https://a.example/whip/demo/", "/demo/", "/whip/demo/secret"),
            ("https://a.example/whep/demo/t1", "/demo/t1", "/whep/demo/secret"),
            ("https://a.example/whep/demo/t1/", "/demo/t1/", "/whep/demo/secret"),
            ("https://a.example/sfu/7/whip/demo", "/demo", "/sfu/7/whip/demo/secret"),
            ("https://a.example/sfu/whep/demo/t1?x=/", "/demo/t1", "/sfu/whep/demo/secret"),
        ] {
            let protocol = if asked.contains("/whip/") { Protocol::Whip } else { Protocol::Whep };
            let location = Location { protocol, path: path.into(), room: "demo".into() };
            let led = Url::parse(asked).unwrap().join(&location.of("secret")).unwrap();
            assert_eq!(led.as_str(), format!("https://a.example{resource}"), "{asked}");
        }
    }
}
