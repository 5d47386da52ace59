//! What a shard has to hear, however full its queue is.

use std::time::{Duration, Instant};

use super::{Directory, Membership};
use crate::shard_handle::Full;
use moonring_core::command::Command;
use moonring_wire::id::ClientId;

/// Pause before a command is offered again to a shard whose queue is full.
const GOODBYE_RETRY: Duration = Duration::from_millis(20);

impl Membership {
    /// Tells the operator what has ended the connection of a client that had joined. It may come back: what follows is said later.
    pub(in crate::signal) fn tell_of_loss(&self, why: &str) {
        let mut state = self.directory.state();
        let route = state.current(self).filter(|route| route.joining.is_none());
        let Some(room) = route.map(|route| route.room.clone()) else { return };
        drop(state);
        self.directory.door().connection_lost(Instant::now(), &room, &self.client, why);
    }
}

impl Directory {
    /// Sends a goodbye that must not get lost: tries again while the shard's queue is full.
    pub(super) fn say_goodbye(&self, shard: usize, client: ClientId, reason: &str) {
        self.tell_shard(shard, Command::Leave { client, reason: reason.into() });
    }

    /// Sends a command that must not get lost: tries again while the shard's queue is full.
    pub(in crate::signal) fn tell_shard(&self, shard: usize, command: Command) {
        let Some(handle) = self.0.shards.get(shard).cloned() else { return };
        let Err(Full(command)) = handle.send(command) else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            let mut command = command;
            for _ in 0..1000 {
                tokio::time::sleep(GOODBYE_RETRY).await;
                match handle.send(*command) {
                    Ok(()) => return,
                    Err(Full(back)) => command = back,
                }
            }
        });
    }
}
