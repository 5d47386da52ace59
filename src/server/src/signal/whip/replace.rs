//! An encoder that comes back takes the place of its dead predecessor.
//!
//! An encoder that crashed, or changed its network, leaves a session behind that ends only after half a minute of
//! silence; until then a policy that allows one publisher would refuse the encoder itself. So a session of WHIP that
//! was opened in the same room with the same token, and from which no media came for [`SILENCE`], ends before the
//! policy is asked. When the policy refuses although such a session exists, the encoder or one of its tracks, that one may
//! have been silent for less: it gets the rest of the time, and the policy is asked once more if it is dead. One that sends
//! is never touched.

use std::time::Duration;

use axum::http::StatusCode;
use tokio::time::sleep;

use super::request::Request;
use super::session::{self, Created};
use crate::signal::app::App;
use crate::signal::problem::Problem;
use crate::signal::resources::Protocol;
use moonring_core::command::Command;
use moonring_wire::id::ClientId;

/// Silence of the media after which an encoder is believed to be dead, given that it has come back.
const SILENCE: Duration = Duration::from_secs(2);
/// For a shard's word that a session has ended.
const CHECKS: u32 = 25;
const CHECK_INTERVAL: Duration = Duration::from_millis(20);

/// Opens the session that a request asks for.
pub(super) async fn open(app: &App, request: &Request) -> Result<Created, Problem> {
    let before = predecessors(app, request);
    end_silent(app, &before);
    let outcome = session::open(app, request).await;
    let is_refused =
        |problem: &Problem| matches!(problem.status, StatusCode::FORBIDDEN | StatusCode::UNPROCESSABLE_ENTITY);
    if before.is_empty() || !outcome.as_ref().is_err_and(is_refused) {
        return outcome;
    }
    sleep(SILENCE).await;
    end_silent(app, &before);
    if !any_ended(app, request, &before).await {
        return outcome;
    }
    session::open(app, request).await
}

fn predecessors(app: &App, request: &Request) -> Vec<ClientId> {
    match (request.protocol, request.token_digest()) {
        (Protocol::Whip, Some(token)) => app.resources.publishers(&request.room, token),
        _ => Vec::new(),
    }
}

/// Commands are handled in their order, so that these come before the join.
fn end_silent(app: &App, clients: &[ClientId]) {
    for client in clients {
        let reason = "replaced by the same encoder".to_owned();
        // A full queue refuses the join as well.
        let _ = app.directory.send(client, Command::LeaveIfSilent { client: client.clone(), silence: SILENCE, reason });
    }
}

async fn any_ended(app: &App, request: &Request, before: &[ClientId]) -> bool {
    for _ in 0..CHECKS {
        let now = predecessors(app, request);
        if before.iter().any(|client| !now.contains(client)) {
            return true;
        }
        sleep(CHECK_INTERVAL).await;
    }
    false
}
