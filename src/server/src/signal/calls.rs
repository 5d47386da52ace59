//! What operators ask of a shard, and wait for.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use tokio::sync::oneshot;

use crate::shard_handle::ShardHandle;
use moonring_core::command::Command;

/// How long an answer may take: a hook may wait as long as an HTTP request.
const PATIENCE: Duration = Duration::from_secs(35);
/// Calls that wait for their answer.
const MAX_CALLS: usize = 1024;

type Answer = Result<Value, String>;

/// The calls under way.
#[derive(Debug, Default)]
pub(super) struct Calls {
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Answer>>>,
}

impl Calls {
    /// A shard has answered.
    pub(super) fn answer(&self, id: u64, answer: Answer) {
        if let Some(waiting) = self.waiting().remove(&id) {
            // Who asked may have gone.
            let _ = waiting.send(answer);
        }
    }

    /// Asks a shard; the answer as a response: JSON, or a status with a line that says why not.
    pub(super) async fn ask(&self, shard: &ShardHandle, command: impl FnOnce(u64) -> Command) -> Response {
        match self.answer_of(shard, command).await {
            Ok(value) => Json(value).into_response(),
            Err(response) => *response,
        }
    }

    /// The same, without the form that a good answer has.
    pub(super) async fn answer_of(
        &self,
        shard: &ShardHandle,
        command: impl FnOnce(u64) -> Command,
    ) -> Result<Value, Box<Response>> {
        let line = |(status, words): (StatusCode, String)| Box::new((status, format!("{words}\n")).into_response());
        self.told(shard, command).await.map_err(line)
    }

    /// The same; with the status and the words that say why nothing was done.
    pub(super) async fn told(
        &self,
        shard: &ShardHandle,
        command: impl FnOnce(u64) -> Command,
    ) -> Result<Value, (StatusCode, String)> {
        let overloaded = || Err((StatusCode::SERVICE_UNAVAILABLE, "the server is overloaded".to_owned()));
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        {
            let mut waiting = self.waiting();
            if waiting.len() >= MAX_CALLS {
                return overloaded();
            }
            waiting.insert(id, sender);
        }
        if shard.send(command(id)).is_err() {
            self.waiting().remove(&id);
            return overloaded();
        }
        let answer = tokio::time::timeout(PATIENCE, answer).await;
        self.waiting().remove(&id);
        match answer {
            Ok(Ok(Ok(value))) => Ok(value),
            Ok(Ok(Err(reason))) => Err((StatusCode::UNPROCESSABLE_ENTITY, reason)),
            Ok(Err(_)) | Err(_) => Err((StatusCode::GATEWAY_TIMEOUT, "the room does not answer".to_owned())),
        }
    }

    /// A panic while it was held left whole entries behind.
    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<Answer>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
