//! Uploaded scripts: checked first, then written and read like a file that was saved.

use std::sync::PoisonError;

use tokio::sync::oneshot;

use super::orders::Request;
use super::{ReloadReport, Watch, WatchHandle};
use crate::script_set::{FailedScript, ScriptSet};
use crate::scripts::ScriptFolder;

/// Why a request has no answer.
const UNWATCHED: &str = "the scripts folder is not watched, or too much is asked of it";

impl WatchHandle {
    /// What would not compile if these were the uploaded scripts; an error says why it cannot be said.
    pub(crate) async fn check(&self, set: ScriptSet) -> Result<Vec<FailedScript>, String> {
        self.ask(|reply| Request::Check(set, reply)).await
    }

    /// Makes these the uploaded scripts, which rooms get as if they had been saved; what that has brought.
    pub(crate) async fn take(&self, set: ScriptSet) -> Result<ReloadReport, String> {
        self.ask(|reply| Request::Take(set, reply)).await
    }

    /// The uploaded scripts.
    pub(crate) async fn uploaded(&self) -> Result<ScriptSet, String> {
        self.ask(Request::Uploaded).await
    }

    /// What tells them from any others.
    pub(crate) fn uploaded_id(&self) -> String {
        self.uploaded.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<Result<T, String>>) -> Request) -> Result<T, String> {
        let (reply, answer) = oneshot::channel();
        self.requests.try_send(request(reply)).map_err(|_| UNWATCHED.to_owned())?;
        answer.await.unwrap_or_else(|_| Err(UNWATCHED.to_owned()))
    }
}

impl Watch {
    /// Does what has to be done before the folder is read; what is then still to be served.
    pub(super) async fn prepare(&mut self, request: Request) -> Option<Request> {
        // Who asked may have gone.
        match request {
            Request::Check(set, reply) => {
                let checked = self.blocking(move |folder| (folder.check(&set), folder)).await;
                let _ = reply.send(said(checked));
            }
            Request::Uploaded(reply) => {
                let read = self.blocking(|folder| (folder.uploaded(), folder)).await;
                let _ = reply.send(said(read));
            }
            Request::Take(set, reply) => {
                let id = set.manifest().id();
                let written = self.blocking(move |folder| (folder.upload(&set), folder)).await;
                if let Err(error) = said(written) {
                    tracing::error!("uploaded scripts cannot be kept, those of before stay: {error}");
                    let _ = reply.send(Err(error));
                    return None;
                }
                *self.uploaded.lock().unwrap_or_else(PoisonError::into_inner) = id;
                return Some(Request::Taken(reply));
            }
            request => return Some(request),
        }
        None
    }
}

fn said<T>(result: Option<std::io::Result<T>>) -> Result<T, String> {
    result.unwrap_or_else(|| Err(std::io::Error::other(UNWATCHED))).map_err(|error| error.to_string())
}

/// What is uploaded at the start.
pub(super) fn id_of(folder: &ScriptFolder) -> String {
    match folder.uploaded() {
        Ok(set) => set.manifest().id(),
        Err(error) => {
            tracing::error!("the uploaded scripts cannot be read: {error}");
            String::new()
        }
    }
}
