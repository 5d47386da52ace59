//! The events of a recording, and who they are of.

use std::rc::Rc;

use super::account::Cause;
use super::beginning::{facts_of, set_traffic};
use super::run::Run;
use crate::hook::{ClientFacts, HookCall, Presence};
use crate::tape::line::{CallLine, EventLine, Of, SeenLine};
use crate::tape::on_clock;
use moonring_wire::id::ClientId;

impl<'a> Run<'a> {
    /// An event of the recording.
    pub(super) fn event(&mut self, line: usize, event: &'a EventLine) {
        if let CallLine::ClientConnect { client, facts, .. } = &event.call {
            self.clients.insert(client.clone(), facts_of(self.start, facts, Presence::Pending));
        }
        event.seen.iter().for_each(|seen| self.see(seen));
        let (_, id, _) = event.call.told();
        let facts = id.map(|id| self.clients.get(id).cloned());
        let is_pending = facts.as_ref().is_some_and(|facts| is_in(facts.as_ref(), Presence::Pending));
        let is_about_joining = matches!(event.call, CallLine::ClientConnect { .. } | CallLine::ClientDisconnect { .. });
        if is_pending && !is_about_joining {
            if let Some(id) = id {
                self.held.entry(id.clone()).or_default().push((line, event));
            }
            return;
        }
        let is_gone = facts.as_ref().is_some_and(|facts| facts.is_none() || is_in(facts.as_ref(), Presence::Gone));
        let is_refused = event.call.track().is_some_and(|track| self.asked.refused_tracks.contains(track));
        let call = if is_gone || is_refused { None } else { self.call_of(&event.call, facts.flatten()) };
        let Some(call) = call else {
            self.skipped.insert(line);
            return;
        };
        if let HookCall::ClientDisconnect { client, .. } = &call {
            client.presence.set(Presence::Gone);
        }
        self.submit(Cause::Line(line), call, Some(event.ticket));
    }

    /// Brings an event before the script.
    pub(super) fn submit(&mut self, cause: Cause, call: HookCall, recorded: Option<u64>) {
        let ticket = self.engine.next_ticket();
        self.account.tickets.insert(ticket, cause);
        self.account.current = Some(cause);
        match &call {
            HookCall::ClientConnect { client, .. } => drop(self.asked.connects.insert(ticket, client.clone())),
            HookCall::PublishRequest { track, .. } => drop(self.asked.publishes.insert(ticket, track.id.clone())),
            _ => {}
        }
        if let Some(recorded) = recorded {
            self.here.tickets.insert(recorded, ticket);
            self.steps.place(Of::Ticket(ticket), self.index.tickets_with_end.contains(&recorded));
        }
        self.engine.submit(self.now, self.key, call);
        self.absorb();
    }

    /// The events of a client that had to wait until it is let in.
    pub(super) fn let_in(&mut self, client: &ClientId) {
        for (line, event) in self.held.remove(client).unwrap_or_default() {
            self.event(line, event);
        }
    }

    fn call_of(&self, call: &CallLine, client: Option<Rc<ClientFacts>>) -> Option<HookCall> {
        Some(match call.clone() {
            CallLine::ClientConnect { token, .. } => HookCall::ClientConnect { client: client?, auth_token: token },
            CallLine::ClientDisconnect { reason, .. } => HookCall::ClientDisconnect { client: client?, reason },
            CallLine::PublishRequest { track, .. } => HookCall::PublishRequest { client: client?, track },
            CallLine::TrackPublished { track, .. } => HookCall::TrackPublished { client: client?, track },
            CallLine::TrackUnpublished { track, .. } => HookCall::TrackUnpublished { client: client?, track },
            CallLine::SubscribeRequest { track, .. } => HookCall::SubscribeRequest { client: client?, track },
            CallLine::Message { message, .. } => HookCall::Message { client: client?, message },
            CallLine::ActiveSpeakers { clients: ids } => {
                let there = ids.iter().filter_map(|id| self.clients.get(id));
                let there = there.filter(|client| client.presence.get() != Presence::Gone);
                let clients: Vec<_> = there.cloned().collect();
                if clients.is_empty() && !ids.is_empty() {
                    return None;
                }
                HookCall::ActiveSpeakers { clients }
            }
            CallLine::Admin { request } => HookCall::Admin { request },
            CallLine::Close { reason } => HookCall::Close { reason },
        })
    }

    pub(super) fn see(&mut self, seen: &SeenLine) {
        let Some(client) = self.clients.get(&seen.client) else { return };
        if let Some(tracks) = &seen.tracks {
            client.tracks.replace(tracks.clone());
        }
        if let Some(traffic) = seen.traffic {
            set_traffic(client, traffic);
        }
        if seen.path.is_some() {
            client.traffic.path.set(seen.path);
        }
    }

    /// Whether the recording goes on with this client's leaving.
    pub(super) fn leaves_now(&self, client: &ClientId) -> bool {
        self.now == self.at(self.t as i64) && self.index.leaves_now(client, self.line, self.t)
    }

    /// The time, on the recording's clock.
    pub(super) fn clock(&self) -> i64 {
        on_clock(self.start, self.now)
    }
}

fn is_in(client: Option<&Rc<ClientFacts>>, presence: Presence) -> bool {
    client.is_some_and(|client| client.presence.get() == presence)
}
