//! The control plane's part in a take-over ([`crate::take_over`]): who is where and with which ticket goes along, and every
//! client is told to resume.

use std::collections::HashSet;

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

use super::app::{App, Replaced};
use super::directory::Stays;
use super::resources::HeldSession;
use super::services::{SharedEntry, WaitingMessage};
use super::whip;
use crate::take_over::ControlPlane;
use moonring_wire::id::ClientId;

/// What the control plane of a new process begins with.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ControlState {
    stays: Stays,
    sessions: Vec<HeldSession>,
    /// `sfu.shared`.
    shared: Vec<SharedEntry>,
    /// To the webhook. Behind the rest: a process that does not know of it reads none, and one that knows finds none.
    #[serde(skip)]
    messages: Vec<WaitingMessage>,
}

impl ControlState {
    /// Reads what another process has handed over.
    pub(crate) fn read(bytes: &[u8], shards: usize) -> anyhow::Result<Self> {
        let unread = "the control plane's state cannot be read";
        let (mut state, behind): (Self, _) = postcard::take_from_bytes(bytes).context(unread)?;
        ensure!(state.stays.fits(shards), "the control plane's state is of a server with more shards");
        if !behind.is_empty() {
            state.messages = postcard::from_bytes(behind).context(unread)?;
        }
        Ok(state)
    }

    fn write(&self) -> anyhow::Result<Vec<u8>> {
        Ok(postcard::to_extend(&self.messages, postcard::to_extend(self, Vec::new())?)?)
    }
}

/// Goes on with the clients of the process before. Inside a tokio runtime.
pub(super) fn inherit(app: &App, state: ControlState) {
    let ControlState { stays, sessions, shared, messages } = state;
    app.services.inherit_shared(shared);
    app.services.inherit_messages(messages);
    tracing::info!(
        clients = stays.clients(),
        sessions = sessions.len(),
        "goes on with the clients of the process before"
    );
    app.directory.inherit(stays);
    sessions.into_iter().for_each(|session| whip::inherit(app, session));
}

/// The control plane of the running process.
pub(super) struct Leaving(pub(super) App);

impl ControlPlane for Leaving {
    fn close_door(&self, is_closed: bool) {
        self.0.directory.close(is_closed);
    }

    fn hand_over(&self, clients: &HashSet<ClientId>) -> anyhow::Result<Vec<u8>> {
        let stays = self.0.directory.freeze(clients);
        let (sessions, shared) = (self.0.resources.of(clients), self.0.services.shared_entries());
        ControlState { stays, sessions, shared, messages: self.0.services.waiting_messages() }.write()
    }

    fn go_on(&self) {
        self.0.directory.thaw();
    }

    fn is_taken_over(&self) {
        self.0.services.close_store();
        self.0.services.let_messages_go();
        self.0.replaced.send_replace(Replaced::Now);
    }

    fn has_handed_over(&self) {
        self.0.replaced.send_replace(Replaced::Done);
    }
}

#[cfg(test)]
mod tests;
