//! The pages, embedded in the binary: the demo's, and the operators'.

use axum::extract::State;
use axum::http::{HeaderName, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};

use super::app::App;

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const TYPES: &str = "application/typescript; charset=utf-8";

/// The page needs its own files, the WebSocket beside them or those of `$connect`, pictures of streams and nothing else.
macro_rules! policy {
    ($connect:literal) => {
        concat!(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; media-src blob:; connect-src ",
            $connect,
            "; worker-src blob:; base-uri 'none'; form-action 'self'"
        )
    };
}
const POLICY: &str = policy!("'self'");
/// On a node of a cluster also the WebSockets of the others.
const POLICY_OF_NODES: &str = policy!("'self' ws: wss:");
/// What stands in the folder for npm or for operators.
#[cfg(test)]
const NOT_SERVED: [&str; 3] = ["/package.json", "/types", "/admin"];

/// Other sites may use the client, and read what is wrong.
const EVERYWHERE: [(HeaderName, &str); 1] = [(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*")];

/// Path, content type, content.
type Asset = (&'static str, &'static str, &'static [u8]);

const ASSETS: &[Asset] = &[
    ("/", HTML, include_bytes!("../../../../web/index.html")),
    ("/app.js", SCRIPT, include_bytes!("../../../../web/app.js")),
    ("/call.css", STYLE, include_bytes!("../../../../web/call.css")),
    ("/capture.js", SCRIPT, include_bytes!("../../../../web/capture.js")),
    ("/chat.js", SCRIPT, include_bytes!("../../../../web/chat.js")),
    ("/client.js", SCRIPT, include_bytes!("../../../../web/client.js")),
    ("/controls.js", SCRIPT, include_bytes!("../../../../web/controls.js")),
    ("/devices.js", SCRIPT, include_bytes!("../../../../web/devices.js")),
    ("/errors.js", SCRIPT, include_bytes!("../../../../web/errors.js")),
    ("/events.js", SCRIPT, include_bytes!("../../../../web/events.js")),
    ("/exchange.js", SCRIPT, include_bytes!("../../../../web/exchange.js")),
    ("/extensions.js", SCRIPT, include_bytes!("../../../../web/extensions.js")),
    ("/figures.js", SCRIPT, include_bytes!("../../../../web/figures.js")),
    ("/layers.js", SCRIPT, include_bytes!("../../../../web/layers.js")),
    ("/lobby.js", SCRIPT, include_bytes!("../../../../web/lobby.js")),
    ("/media.js", SCRIPT, include_bytes!("../../../../web/media.js")),
    ("/pace.js", SCRIPT, include_bytes!("../../../../web/pace.js")),
    ("/page.js", SCRIPT, include_bytes!("../../../../web/page.js")),
    ("/panels.js", SCRIPT, include_bytes!("../../../../web/panels.js")),
    ("/people.js", SCRIPT, include_bytes!("../../../../web/people.js")),
    ("/protocol.d.ts", TYPES, include_bytes!("../../../../web/protocol.d.ts")),
    ("/publication.js", SCRIPT, include_bytes!("../../../../web/publication.js")),
    ("/quality.js", SCRIPT, include_bytes!("../../../../web/quality.js")),
    ("/room.js", SCRIPT, include_bytes!("../../../../web/room.js")),
    ("/section.js", SCRIPT, include_bytes!("../../../../web/section.js")),
    ("/signal.js", SCRIPT, include_bytes!("../../../../web/signal.js")),
    ("/sound.js", SCRIPT, include_bytes!("../../../../web/sound.js")),
    ("/stage.js", SCRIPT, include_bytes!("../../../../web/stage.js")),
    ("/style.css", STYLE, include_bytes!("../../../../web/style.css")),
    ("/tile.js", SCRIPT, include_bytes!("../../../../web/tile.js")),
    ("/views.js", SCRIPT, include_bytes!("../../../../web/views.js")),
    ("/watchdog.js", SCRIPT, include_bytes!("../../../../web/watchdog.js")),
];

/// For operators alone.
const ADMIN: &[Asset] = &[
    ("/", HTML, include_bytes!("../../../../web/admin/index.html")),
    ("/admin.css", STYLE, include_bytes!("../../../../web/admin/admin.css")),
    ("/canary.js", SCRIPT, include_bytes!("../../../../web/admin/canary.js")),
    ("/admin.js", SCRIPT, include_bytes!("../../../../web/admin/admin.js")),
    ("/nodes.js", SCRIPT, include_bytes!("../../../../web/admin/nodes.js")),
    ("/rows.js", SCRIPT, include_bytes!("../../../../web/admin/rows.js")),
];

/// The asset of a path, else 404.
pub(super) async fn serve(State(app): State<App>, uri: Uri) -> Response {
    let Some(asset) = ASSETS.iter().find(|(path, ..)| *path == uri.path()) else {
        return (StatusCode::NOT_FOUND, EVERYWHERE, "there is no such page\n").into_response();
    };
    let policy = if app.cluster.is_some() { POLICY_OF_NODES } else { POLICY };
    (EVERYWHERE, response(asset, policy)).into_response()
}

/// What another method than GET is answered.
pub(super) async fn only_read() -> Response {
    (StatusCode::METHOD_NOT_ALLOWED, EVERYWHERE, "this page is read: GET or HEAD\n").into_response()
}

/// The operators' asset of a path that [`admin_paths`] names, else 404.
pub(super) async fn serve_admin(uri: Uri) -> Response {
    match ADMIN.iter().find(|(path, ..)| *path == uri.path()) {
        Some(asset) => response(asset, POLICY),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn response((_, content_type, content): &Asset, policy: &'static str) -> Response {
    let headers: [(HeaderName, &str); 5] = [
        (header::CONTENT_TYPE, content_type),
        // Another version of the binary has another page.
        (header::CACHE_CONTROL, "no-cache"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CONTENT_SECURITY_POLICY, policy),
    ];
    (headers, *content).into_response()
}

/// The paths that have an asset.
pub(super) fn paths() -> impl Iterator<Item = &'static str> {
    ASSETS.iter().map(|(path, ..)| *path)
}

/// The paths of the operators' page: they tell nothing, and are open to whoever may ask for a token.
pub(super) fn admin_paths() -> impl Iterator<Item = &'static str> {
    ADMIN.iter().map(|(path, ..)| *path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_page_is_served() {
        let pages = [("", paths().collect::<Vec<_>>()), ("/admin", admin_paths().collect())];
        for (folder, served) in pages {
            let entries = std::fs::read_dir(format!("{}/../../web{folder}", env!("CARGO_MANIFEST_DIR"))).unwrap();
            let mut files: Vec<String> =
                entries.map(|file| format!("/{}", file.unwrap().file_name().to_str().unwrap())).collect();
            files.retain(|file| !NOT_SERVED.contains(&file.as_str()));
            files.sort();
            let mut served: Vec<_> =
                served.iter().map(|path| if *path == "/" { "/index.html" } else { path }).collect();
            served.sort();
            assert_eq!(files, served);
        }
    }
}
