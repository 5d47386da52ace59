//! What the engine says in a replay, as far as the room has to follow.

use std::rc::Rc;

use super::account::Cause;
use super::run::Run;
use crate::PolicyOutput;
use crate::hook::{Action, ClientFacts, HookCall, Outcome, Presence, Verdict};
use crate::output::Ticket;

/// Outputs of one step after which a script is taken to go round in circles.
const MAX_OUTPUTS: usize = 100_000;

impl Run<'_> {
    /// Follows what the engine has said.
    pub(super) fn drain(&mut self) {
        for _ in 0..MAX_OUTPUTS {
            let Some(output) = self.engine.poll_output() else { return };
            match output {
                PolicyOutput::Outcome { ticket, outcome, .. } => self.decided(ticket, outcome),
                PolicyOutput::Actions { actions, .. } => self.act(&actions),
                PolicyOutput::Request { id, request, .. } => self.requested(id, request),
                PolicyOutput::Reloaded { .. } | PolicyOutput::Checkpoint { .. } => {}
            }
        }
    }

    fn decided(&mut self, Ticket(ticket): Ticket, outcome: Outcome) {
        let is_allowed = outcome.verdict == Verdict::Allow;
        if let Some(client) = self.asked.connects.remove(&ticket)
            && client.presence.get() != Presence::Gone
        {
            client.presence.set(if is_allowed { Presence::Joined } else { Presence::Gone });
            self.let_in(&client.id);
        }
        if let Some(track) = self.asked.publishes.remove(&ticket)
            && !is_allowed
        {
            self.asked.refused_tracks.insert(track);
        }
        self.act(&outcome.actions);
    }

    pub(super) fn act(&mut self, actions: &[Action]) {
        for action in actions {
            match action {
                Action::Kick { client, reason } => {
                    if let Some(client) = self.clients.get(client).cloned() {
                        self.kick(&client, reason);
                    }
                }
                Action::CloseRoom { reason } => {
                    let mut everybody: Vec<_> = self.clients.values().cloned().collect();
                    everybody.sort_by(|a, b| a.id.as_str().cmp(b.id.as_str()));
                    everybody.iter().for_each(|client| self.kick(client, reason));
                }
                Action::SetMuted { client, track, muted } => {
                    if let Some(client) = self.clients.get(client) {
                        let mut tracks = client.tracks.borrow_mut();
                        tracks.iter_mut().filter(|one| one.id == *track).for_each(|one| one.muted = *muted);
                    }
                }
                Action::SetAttributes { client, attributes } => {
                    if let Some(client) = self.clients.get(client) {
                        client.attributes.replace(attributes.clone().into());
                    }
                }
                Action::SetRights { client, change, .. } => {
                    if let Some(client) = self.clients.get(client) {
                        client.rights.set(change.applied_to(client.rights.get()));
                    }
                }
                Action::SetHidden { client, hidden } => {
                    if let Some(client) = self.clients.get(client) {
                        client.is_hidden.set(*hidden);
                    }
                }
                _ => {}
            }
        }
    }

    /// A client is thrown out: the recording says how it goes on, or this version alone has done it.
    fn kick(&mut self, client: &Rc<ClientFacts>, reason: &str) {
        if client.presence.get() == Presence::Gone || self.leaves_now(&client.id) {
            return;
        }
        let cause = Cause::Own(self.line, self.clock());
        for track in client.tracks.take() {
            self.submit(cause, HookCall::TrackUnpublished { client: client.clone(), track }, None);
        }
        client.presence.set(Presence::Gone);
        self.submit(cause, HookCall::ClientDisconnect { client: client.clone(), reason: reason.to_owned() }, None);
    }
}
