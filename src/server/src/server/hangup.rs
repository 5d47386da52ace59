//! SIGHUP, with which operators have servers read their files anew. By it a terminal says that it is gone, too, which ends the
//! process in order: see `cli`.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::watch::WatchHandle;

/// Reads the scripts folder at each SIGHUP from now on, as `moonring reload` does. Never ends.
pub(super) fn follow(scripts: WatchHandle) -> impl Future<Output = ()> {
    let hangups = signal(SignalKind::hangup());
    async move {
        match hangups {
            Ok(hangups) => reload_at_each(hangups, scripts).await,
            Err(error) => tracing::warn!(%error, "SIGHUP cannot be followed"),
        }
    }
}

async fn reload_at_each(mut hangups: Signal, scripts: WatchHandle) {
    while hangups.recv().await.is_some() {
        match scripts.reload().await {
            Some((_, report)) => tracing::info!(
                scripts = report.scripts,
                changed = report.changed.len(),
                failed = report.failed.len(),
                error = report.error,
                "SIGHUP: the scripts folder is read again; settings are those of the start"
            ),
            None => tracing::warn!("SIGHUP: the scripts folder is being read already, try again"),
        }
    }
}
