//! Uploaded scripts: `GET /scripts` shows them, `POST /scripts` changes them, at all nodes of a cluster or at none.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::app::App;
use super::orders;
use crate::cluster::{Cluster, NodeTold, Pending, Pushed, ScriptHost, Verdict};
use crate::script_set::{MAX_SET_BYTES, Manifest, ScriptChange, ScriptSet, ScriptsTold};
use crate::watch::WatchHandle;

/// Bytes of an upload: JSON may write a byte of a text as six.
pub(super) const MAX_UPLOAD: usize = 2 * MAX_SET_BYTES;
/// What a server is called that is not part of a cluster.
const ALONE: &str = "this server";
const UNWATCHED: &str = "the scripts folder is not watched";

/// The uploaded scripts, and who has them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Uploaded {
    /// Names and hashes.
    pub scripts: Manifest,
    /// Nodes that beat, and whether they have the same ones.
    pub nodes: Vec<(String, bool)>,
}

impl App {
    fn watch(&self) -> Result<&WatchHandle, String> {
        self.scripts.as_ref().ok_or_else(|| UNWATCHED.to_owned())
    }

    /// The same at a server that is alone.
    async fn push_alone(&self, change: ScriptChange) -> Result<Pushed, String> {
        let set = self.uploaded_scripts().await?.changed(change)?;
        let scripts = set.manifest().0.len();
        let checked = self.check_scripts(set.clone()).await;
        let taken = checked.is_good();
        let told = if taken { self.take_scripts(set).await } else { checked };
        let node = NodeTold { node: ALONE.to_owned(), away: false, told };
        Ok(Pushed { taken, scripts: if taken { scripts } else { 0 }, nodes: vec![node] })
    }
}

impl ScriptHost for App {
    fn scripts_id(&self) -> String {
        self.watch().map(WatchHandle::uploaded_id).unwrap_or_default()
    }

    fn uploaded_scripts(&self) -> Pending<'_, Result<ScriptSet, String>> {
        Box::pin(async move { self.watch()?.uploaded().await })
    }

    fn check_scripts(&self, set: ScriptSet) -> Pending<'_, ScriptsTold> {
        Box::pin(async move {
            match self.watch() {
                Ok(watch) => match watch.check(set).await {
                    Ok(failed) => ScriptsTold { failed, ..ScriptsTold::default() },
                    Err(why) => ScriptsTold::error(why),
                },
                Err(why) => ScriptsTold::error(why),
            }
        })
    }

    fn take_scripts(&self, set: ScriptSet) -> Pending<'_, ScriptsTold> {
        Box::pin(async move {
            let names: Vec<_> = set.scripts().map(|(name, _)| name.to_owned()).collect();
            let taken = match self.watch() {
                Ok(watch) => watch.take(set).await,
                Err(why) => Err(why),
            };
            match taken {
                Ok(report) => {
                    // Others may have been broken before.
                    let failed = report.failed.into_iter().filter(|failed| names.contains(&failed.script)).collect();
                    ScriptsTold { changed: report.changed.len(), failed, error: report.error }
                }
                Err(why) => ScriptsTold::error(why),
            }
        })
    }
}

/// The uploaded scripts.
pub(super) async fn show(State(app): State<App>) -> Response {
    let scripts = match app.uploaded_scripts().await {
        Ok(set) => set.manifest(),
        Err(why) => return (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    };
    let id = scripts.id();
    let nodes = match app.cluster.as_ref().map(Cluster::nodes) {
        Some(lines) => {
            let alive = lines.into_iter().filter(|line| line.verdict <= Verdict::Draining);
            let has = |line: crate::cluster::NodeLine| {
                let has = if line.verdict == Verdict::Own { app.scripts_id() } else { line.scripts };
                (line.node.to_string(), has == id)
            };
            alive.map(has).collect()
        }
        None => vec![(ALONE.to_owned(), true)],
    };
    Json(Uploaded { scripts, nodes }).into_response()
}

/// Changes them. What each node says; a 409 where nothing could be done.
pub(super) async fn push(State(app): State<App>, headers: HeaderMap, Json(change): Json<ScriptChange>) -> Response {
    if let Some(refusal) = orders::of_a_browser(&headers) {
        return refusal;
    }
    let pushed = match &app.cluster {
        Some(cluster) => cluster.push_scripts(&app, change).await,
        None => app.push_alone(change).await,
    };
    match pushed {
        Ok(pushed) => Json(pushed).into_response(),
        Err(why) => (StatusCode::CONFLICT, format!("{why}\n")).into_response(),
    }
}
