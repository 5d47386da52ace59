//! A room's server is lost: nothing of the room is left but its last checkpoint, as a server would have kept it, and with that
//! the next client finds it.

use std::time::{Duration, Instant};

use serde_json::json;

use super::life::Life;
use super::{Farewell, START, World};
use crate::client::Presence;
use crate::settings::CHECKPOINT_LIFE;
use crate::{Checkpoint, PolicyKey};

/// What is kept of a room outside of its server.
#[derive(Default)]
pub(super) struct Kept {
    last: Option<(Checkpoint, Instant)>,
    /// Servers that the room has lost.
    lost: u64,
}

impl World {
    /// The room has made a checkpoint.
    pub(super) fn keep_checkpoint(&mut self, checkpoint: Checkpoint) {
        if self.life.ending.is_none() {
            self.kept.last = Some((checkpoint, self.now));
        }
    }

    /// The room has ended, as its script has been told.
    pub(super) fn drop_checkpoint(&mut self) {
        if self.engine.script(self.key).is_some_and(|script| script.keeps_checkpoints()) {
            self.kept.last = None;
        }
    }

    /// The server ends in the middle of whatever it does. Nobody is told, and time goes on.
    pub(in super::super) fn lose_server(&mut self) {
        let there = self.clients.values().filter(|client| client.presence.get() != Presence::Gone);
        let lost: Vec<_> = there.map(|client| client.id.clone()).chain(self.late.take_all()).collect();
        for id in lost {
            if let Some(client) = self.clients.get(&id) {
                client.presence.set(Presence::Gone);
                client.tracks.take();
            }
            self.farewells.insert(id.as_str().to_owned(), Farewell::Lost);
            self.happened.push(json!({ "op": "gone", "client": id.as_str() }));
        }
        self.kept.lost += 1;
        self.engine = self.opening.engine(self.now, START + self.passed(), self.kept.lost);
        (self.asked, self.replies, self.received) = Default::default();
        // Nobody says anything of the room where it is opened again.
        self.opening.metadata = json!({});
        self.life = Life::over();
    }

    /// Opens the room as a shard does: with its checkpoint, if its script has any and there is one.
    pub(super) fn open_room(&mut self) -> Result<PolicyKey, String> {
        let (opening, now) = (&self.opening, self.now);
        let is_kept = |(_, at): &&(Checkpoint, Instant)| {
            opening.script.keeps_checkpoints() && now.saturating_duration_since(*at) < CHECKPOINT_LIFE
        };
        let Some((checkpoint, _)) = self.kept.last.as_ref().filter(is_kept) else {
            return opening.open(&mut self.engine, now);
        };
        let (carried, metadata) = self.engine.revive(now, checkpoint.clone());
        self.happened.push(json!({ "op": "revived" }));
        let opened = (&opening.room, metadata, Vec::new());
        let opened = self.engine.open_carried(now, opened, Ok(opening.script.clone()), Some(&carried));
        opened.map_err(|error| error.to_string())
    }

    /// The time since the test's beginning.
    pub(super) fn passed(&self) -> Duration {
        self.now.saturating_duration_since(self.started)
    }
}
