//! SIGHUP. By it a terminal says that it is gone, which ends the process in order; at any other operators have servers read their
//! files anew.

use std::io::{IsTerminal, stdin};

use tokio::signal::unix::{SignalKind, signal};

use crate::watch::WatchHandle;

/// Reads the scripts folder at each SIGHUP from now on, as `moonring reload` does, until the standard input was a terminal that is
/// gone.
pub(super) fn until_terminal_closes(scripts: WatchHandle) -> impl Future<Output = ()> {
    let (hangups, was_terminal) = (signal(SignalKind::hangup()), stdin().is_terminal());
    async move {
        let mut hangups = match hangups {
            Ok(hangups) => hangups,
            Err(error) => {
                tracing::warn!(%error, "SIGHUP cannot be followed");
                return std::future::pending().await;
            }
        };
        while !was_terminal || stdin().is_terminal() {
            hangups.recv().await;
            if !was_terminal || stdin().is_terminal() {
                // By itself: a folder that hangs does not keep the terminal's end from being heard.
                tokio::spawn(reload(scripts.clone()));
            }
        }
    }
}

async fn reload(scripts: WatchHandle) {
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
