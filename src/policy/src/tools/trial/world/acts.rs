//! What comes out of the engine, done as a shard does it.

use std::rc::Rc;

use serde_json::{Map, Value, json};

use super::{Farewell, MAX_OUTPUTS, World, no_right_to_publish};
use crate::client::{ClientFacts, CloseReason};
use crate::hook::{Action, HookCall, MAY_NOT_SUBSCRIBE, Outcome, Presence, Verdict};
use crate::output::StoreSpace;
use crate::{PolicyOutput, PolicyReply, PolicyRequest, Ticket};
use moonring_wire::id::{ClientId, TrackId};
use moonring_wire::media::TrackInfo;
use moonring_wire::rights::Rights;

/// What a ticket of the engine stands for.
#[derive(Debug)]
pub(super) enum Asked {
    Connect(Rc<ClientFacts>),
    Publish(Rc<ClientFacts>, TrackInfo),
    Subscribe(Rc<ClientFacts>, TrackInfo),
    Other,
}

impl World {
    /// What happened since the last time.
    pub(in super::super) fn drain(&mut self) -> Vec<Value> {
        for _ in 0..MAX_OUTPUTS {
            match self.engine.poll_output() {
                Some(output) => self.happen(output),
                None if self.end_if_over() => {}
                None => break,
            }
        }
        for line in self.log.take() {
            self.happened.push(json!({ "op": "log", "level": line.level, "text": line.message, "hook": line.hook,
                "of_engine": line.of_engine }));
        }
        std::mem::take(&mut self.happened)
    }

    pub(super) fn submit(&mut self, call: HookCall) -> Ticket {
        self.submit_as(Asked::Other, call)
    }

    pub(super) fn submit_as(&mut self, asked: Asked, call: HookCall) -> Ticket {
        let ticket = self.engine.submit(self.now, self.key, call);
        self.asked.insert(ticket, asked);
        ticket
    }

    /// Answers a request that the client has no right to make, before any hook.
    pub(super) fn refuse(&mut self, reason: &str) -> Ticket {
        let ticket = self.own_ticket();
        self.happened.push(json!({ "op": "outcome", "ticket": ticket.0, "allowed": false, "reason": reason,
            "failed": false, "missing": false, "refused": reason, "answer": null }));
        ticket
    }

    /// A ticket that the engine does not give.
    pub(super) fn own_ticket(&mut self) -> Ticket {
        self.own_tickets += 1;
        // The engine counts from 1, and no test gets that far.
        Ticket((1 << 40) + self.own_tickets)
    }

    fn happen(&mut self, output: PolicyOutput) {
        match output {
            PolicyOutput::Outcome { ticket, outcome, .. } => self.decided(ticket, outcome),
            PolicyOutput::Actions { actions, .. } => actions.into_iter().for_each(|action| self.act(action)),
            PolicyOutput::Request { id, request: PolicyRequest::Shared(request), .. } => {
                let answer = self.store.borrow_mut().serve(self.now, request);
                self.engine.resume(self.now, id, PolicyReply::Shared(answer));
            }
            PolicyOutput::Request { id, request: PolicyRequest::Store(space, mut request), .. } => {
                // No key of the shared store begins so: it would not be text.
                let prefix = match space {
                    StoreSpace::Room { script } => format!("\0{script}\0{}\0", self.opening.room),
                    StoreSpace::Global => "\0".to_owned(),
                };
                request.key_mut().insert_str(0, &prefix);
                let answer = self.store.borrow_mut().serve(self.now, request);
                self.engine.resume(self.now, id, PolicyReply::Shared(answer));
            }
            PolicyOutput::Request { id, request: PolicyRequest::Http(http), .. } => {
                let headers: Map<_, _> = http.headers.into_iter().map(|(name, value)| (name, json!(value))).collect();
                self.happened.push(json!({ "op": "http", "id": id.0, "request": {
                    "method": http.method, "url": http.url, "headers": headers,
                    "body": String::from_utf8_lossy(&http.body), "timeout": http.timeout.as_millis() as u64 } }));
            }
            PolicyOutput::Checkpoint { checkpoint, .. } => self.keep_checkpoint(*checkpoint),
            PolicyOutput::Reloaded { result, .. } => {
                let error = result.err().map(|error| error.to_string());
                self.happened
                    .push(json!({ "op": "reloaded", "ok": error.is_none(), "text": error.unwrap_or_default() }));
            }
        }
    }

    fn decided(&mut self, ticket: Ticket, outcome: Outcome) {
        let (asked, ticket) = (self.asked.remove(&ticket).unwrap_or(Asked::Other), self.late.told(ticket));
        let mut verdict = outcome.verdict;
        // Rights may have been taken while the hook waited.
        match &asked {
            Asked::Publish(client, track) => {
                if let Some(reason) = no_right_to_publish(client, track) {
                    verdict = Verdict::Reject(reason.to_owned());
                }
            }
            Asked::Subscribe(client, _) if !client.rights.get().subscribe => {
                verdict = Verdict::Reject(MAY_NOT_SUBSCRIBE.to_owned());
            }
            _ => {}
        }
        let (allowed, reason) = (verdict == Verdict::Allow, verdict.reason().unwrap_or_default().to_owned());
        self.happened.push(json!({ "op": "outcome", "ticket": ticket.0, "allowed": allowed, "reason": reason,
            "failed": outcome.failed, "missing": outcome.missing, "refused": outcome.refused, "answer": outcome.answer }));
        match asked {
            Asked::Connect(client) if client.presence.get() == Presence::Admitted => {
                client.presence.set(Presence::Joined);
                self.life.has_lived = true;
            }
            Asked::Connect(client) => {
                client.presence.set(Presence::Gone);
                self.farewells.insert(client.id.as_str().to_owned(), Farewell::TurnedAway(reason));
            }
            Asked::Publish(client, track) if allowed => {
                client.tracks.borrow_mut().push(track.clone());
                self.submit(HookCall::TrackPublished { client, track });
            }
            Asked::Subscribe(client, track) if allowed => self.received.push((client.id.clone(), track.id)),
            _ => {}
        }
        outcome.actions.into_iter().for_each(|action| self.act(action));
    }

    /// An operator does something past the script.
    pub(in super::super) fn operator(&mut self, action: Action) -> Result<(), String> {
        match &action {
            Action::Kick { client, .. }
            | Action::Send { client, .. }
            | Action::SetMuted { client, .. }
            | Action::SetAttributes { client, .. }
            | Action::SetRights { client, .. } => drop(self.member(client.as_str())?),
            _ => {}
        }
        self.act(action);
        Ok(())
    }

    fn act(&mut self, action: Action) {
        let happened = match action {
            Action::Kick { client, reason } => {
                let Ok(facts) = self.member(client.as_str()) else { return };
                self.remove(&facts, reason.clone());
                json!({ "op": "kick", "client": client.as_str(), "reason": reason })
            }
            Action::CloseRoom { reason } => {
                let everybody: Vec<_> = self.clients.values().cloned().collect();
                for client in everybody.iter().filter(|client| client.presence.get() != Presence::Gone) {
                    self.remove(client, reason.clone());
                    let id = client.id.as_str();
                    self.happened.push(json!({ "op": "kick", "client": id, "reason": reason }));
                }
                self.life.end(self.now, CloseReason::Closed);
                json!({ "op": "close", "reason": reason })
            }
            Action::SetAttributes { client, attributes } => {
                let Ok(facts) = self.member(client.as_str()) else { return };
                let happened = json!({ "op": "attributes", "client": client.as_str(), "attributes": &attributes });
                facts.attributes.replace(attributes.into());
                happened
            }
            Action::SetRights { client, change, reason } => {
                let Ok(facts) = self.member(client.as_str()) else { return };
                let rights = change.applied_to(facts.rights.get());
                facts.rights.set(rights);
                self.end_without_right(&facts, rights, &reason);
                json!({ "op": "rights", "client": client.as_str(), "rights": rights })
            }
            Action::SetHidden { client, hidden } => {
                let Ok(facts) = self.member(client.as_str()) else { return };
                facts.is_hidden.set(hidden);
                json!({ "op": "hidden", "client": client.as_str(), "hidden": hidden })
            }
            Action::Unpublish { client, track, reason } => {
                let Ok(facts) = self.member(client.as_str()) else { return };
                return self.end_track(&facts, &track, &reason);
            }
            Action::Unsubscribe { client, track, reason } => return self.end_subscription(&client, &track, &reason),
            Action::Announce { who } => json!({ "op": "announce", "who": who.as_str() }),
            Action::Webhook { event, data } => json!({ "op": "webhook", "event": event, "data": data }),
            Action::Send { client, value } => json!({ "op": "send", "client": client.as_str(), "value": value }),
            Action::Broadcast { value, except } => {
                let others = self.clients.values().filter(|client| client.presence.get() == Presence::Joined);
                let to: Vec<_> = others.filter(|c| Some(&c.id) != except.as_ref()).map(|c| c.id.as_str()).collect();
                let except = except.as_ref().map_or("", |id| id.as_str());
                json!({ "op": "broadcast", "value": value, "except": except, "to": to })
            }
            Action::SetMaxBitrate { client, bps } => with_number("bitrate", &client, None, bps),
            Action::SetMaxLayer { client, track, layer } => {
                with_number("layer", &client, Some(&track), layer.map(u64::from))
            }
            Action::SetPriority { client, track, priority } => {
                with_number("priority", &client, Some(&track), priority.map(u64::from))
            }
            Action::SetAudioLastN { n: Some(n) } => json!({ "op": "audio_last_n", "n": n }),
            Action::SetAudioLastN { n: None } => json!({ "op": "audio_last_n" }),
            Action::SetMuted { client, track, muted } => {
                let Ok(facts) = self.member(client.as_str()) else { return };
                facts.tracks.borrow_mut().iter_mut().filter(|one| one.id == track).for_each(|one| one.muted = muted);
                json!({ "op": "mute", "client": client.as_str(), "track": track.as_str(), "muted": muted })
            }
        };
        self.happened.push(happened);
    }

    /// Ends what a client has no right to any more.
    fn end_without_right(&mut self, client: &Rc<ClientFacts>, rights: Rights, reason: &str) {
        let tracks: Vec<_> = client.tracks.borrow().iter().map(|track| (track.id.clone(), track.source)).collect();
        for (track, _) in tracks.iter().filter(|(_, source)| !rights.publish.has(*source)) {
            self.end_track(client, track, reason);
        }
        let received = self.received.iter().filter(|(who, _)| !rights.subscribe && *who == client.id);
        for (who, track) in received.cloned().collect::<Vec<_>>() {
            self.end_subscription(&who, &track, reason);
        }
    }

    fn end_track(&mut self, client: &Rc<ClientFacts>, track: &TrackId, reason: &str) {
        if self.remove_track(client, track) {
            let (client, track) = (client.id.as_str(), track.as_str());
            self.happened.push(json!({ "op": "ended", "client": client, "track": track, "reason": reason }));
        }
    }

    fn end_subscription(&mut self, client: &ClientId, track: &TrackId, reason: &str) {
        let before = self.received.len();
        self.received.retain(|(who, what)| who != client || what != track);
        if self.received.len() < before {
            let (client, track) = (client.as_str(), track.as_str());
            self.happened.push(json!({ "op": "ended", "client": client, "track": track, "reason": reason }));
        }
    }

    /// False when the client does not publish it.
    pub(super) fn remove_track(&mut self, client: &Rc<ClientFacts>, track: &TrackId) -> bool {
        let at = client.tracks.borrow().iter().position(|one| one.id == *track);
        let Some(at) = at else { return false };
        let track = client.tracks.borrow_mut().remove(at);
        self.received.retain(|(_, what)| *what != track.id);
        self.submit(HookCall::TrackUnpublished { client: client.clone(), track });
        true
    }

    /// As a shard does it: the tracks go first.
    pub(super) fn remove(&mut self, client: &Rc<ClientFacts>, reason: String) {
        let tracks: Vec<_> = client.tracks.borrow().iter().map(|track| track.id.clone()).collect();
        for track in &tracks {
            self.remove_track(client, track);
        }
        self.received.retain(|(who, _)| *who != client.id);
        client.presence.set(Presence::Gone);
        self.happened.push(json!({ "op": "gone", "client": client.id.as_str() }));
        self.farewells.insert(client.id.as_str().to_owned(), Farewell::Left(reason.clone()));
        self.submit(HookCall::ClientDisconnect { client: client.clone(), reason });
    }
}

fn with_number(op: &str, client: &ClientId, track: Option<&TrackId>, n: Option<u64>) -> Value {
    let mut happened = json!({ "op": op, "client": client.as_str() });
    if let Some(track) = track {
        happened["track"] = json!(track.as_str());
    }
    if let Some(n) = n {
        happened["n"] = json!(n);
    }
    happened
}
