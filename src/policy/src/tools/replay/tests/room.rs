//! A room that is recorded: the engine, and around it what a shard would do, with clients who do this and that.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::hook::{Action, ClientFacts, HookCall, PathFigures, Presence, Verdict};
use crate::output::HttpReply;
use crate::tape::{Delivery, Depth, Sink};
use crate::tests::{client, compiled, generous, room, track};
use crate::tools::trial::Store;
use crate::{
    PolicyEngine, PolicyKey, PolicyOutput, PolicyReply, PolicyRequest, PolicyRequestId, PolicySettings, Ticket,
};
use moonring_wire::media::{Kind, TrackInfo};
use moonring_wire::shared::SharedValue;

const START: Duration = Duration::from_secs(1_786_000_000);

/// See the module.
pub(super) struct Recorded {
    pub(super) engine: PolicyEngine,
    pub(super) key: PolicyKey,
    pub(super) now: Instant,
    begun: Instant,
    pub(super) random: StdRng,
    pub(super) clients: Vec<Rc<ClientFacts>>,
    connecting: HashMap<Ticket, Rc<ClientFacts>>,
    asked: HashMap<Ticket, (Rc<ClientFacts>, TrackInfo)>,
    replies: Vec<(Instant, PolicyRequestId, PolicyReply)>,
    lines: Receiver<Vec<u8>>,
    store: RefCell<Store>,
    joined: usize,
    tracks: usize,
    is_draining: bool,
}

pub(super) fn sink() -> (Sink, Receiver<Vec<u8>>) {
    let (sender, lines) = channel();
    let sink = Sink::new(move |line| if sender.send(line).is_ok() { Delivery::Taken } else { Delivery::Gone });
    (sink, lines)
}

/// Settings with which steps often have to wait.
pub(super) fn narrow() -> PolicySettings {
    PolicySettings {
        cpu_share: 0.02,
        cpu_burst: Duration::from_micros(200),
        shard_share: 0.25,
        slice: Duration::from_micros(20),
        client_strikes: 5,
        ..patient()
    }
}

/// Settings with which no step is stopped, however busy the machine is: one that was would be another in the next run.
pub(super) fn patient() -> PolicySettings {
    let patience = Duration::from_secs(1);
    PolicySettings { step_budget: patience, load_budget: patience, ..generous() }
}

impl Recorded {
    /// A room that is recorded from its start, or later with [`Recorded::record`].
    pub(super) fn open(script: &str, settings: PolicySettings, seed: u64, from_start: bool) -> Self {
        let mut engine = PolicyEngine::new(settings, seed);
        let now = Instant::now();
        engine.set_clock(now, START);
        let (sink, lines) = sink();
        let sink = from_start.then_some(sink);
        let key = engine
            .open_recorded_room(now, (&room("demo"), SharedValue::empty_object()), Ok(compiled(script)), sink)
            .expect("it starts");
        let mut recorded = Self {
            engine,
            key,
            now,
            begun: now,
            random: StdRng::seed_from_u64(seed),
            clients: Vec::new(),
            connecting: HashMap::new(),
            asked: HashMap::new(),
            replies: Vec::new(),
            lines,
            store: RefCell::default(),
            joined: 0,
            tracks: 0,
            is_draining: false,
        };
        recorded.drain();
        recorded
    }

    /// Begins to record now.
    pub(super) fn record(&mut self) {
        let (sink, lines) = sink();
        self.lines = lines;
        self.engine.watch(self.now, self.key, sink, Depth::Recording).expect("a tape");
    }

    /// The recording so far, and to its end if the room is closed.
    pub(super) fn text(&mut self) -> String {
        self.lines.try_iter().map(|line| String::from_utf8(line).unwrap()).collect()
    }

    pub(super) fn close(&mut self) {
        self.engine.close_room(self.now, self.key);
    }

    /// Lets time pass, with ticks that come as they please.
    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let due = self.engine.poll_timeout();
            let arrives = self.replies.iter().map(|(at, ..)| *at).min();
            let Some(next) = [due, arrives].into_iter().flatten().min().filter(|next| *next <= end) else { break };
            let late = Duration::from_nanos(self.random.random_range(0..3_000_000));
            self.now = self.now.max(next) + late;
            // The wall clock is set now and then.
            let wall = START + self.now.saturating_duration_since(self.begun);
            self.engine.set_clock(self.now, wall + Duration::from_nanos(self.random.random_range(0..50)));
            let (come, later): (Vec<_>, Vec<_>) = self.replies.drain(..).partition(|(at, ..)| *at <= self.now);
            self.replies = later;
            for (_, id, reply) in come {
                self.engine.resume(self.now, id, reply);
                self.drain();
            }
            self.engine.handle_timeout(self.now);
            self.drain();
        }
        self.now = self.now.max(end);
    }

    pub(super) fn submit(&mut self, call: HookCall) -> Ticket {
        let ticket = self.engine.submit(self.now, self.key, call);
        self.drain();
        ticket
    }

    /// An operator does something past the script.
    pub(super) fn operate(&mut self, action: &Action) {
        self.engine.note_operator(self.now, self.key, action);
        self.act(vec![action.clone()]);
        self.drain();
    }

    pub(super) fn join(&mut self, token: &str) {
        self.joined += 1;
        let client = client(self.now, &format!("c{}", self.joined));
        let ticket = self.engine.submit(
            self.now,
            self.key,
            HookCall::ClientConnect { client: client.clone(), auth_token: token.into() },
        );
        self.clients.push(client.clone());
        self.connecting.insert(ticket, client);
        self.drain();
    }

    /// Whoever is in the room.
    pub(super) fn members(&self) -> Vec<Rc<ClientFacts>> {
        self.clients.iter().filter(|client| client.presence.get() == Presence::Joined).cloned().collect()
    }

    fn anybody(&mut self) -> Option<Rc<ClientFacts>> {
        let members = self.members();
        (!members.is_empty()).then(|| members[self.random.random_range(0..members.len())].clone())
    }

    pub(super) fn remove(&mut self, client: &Rc<ClientFacts>, reason: &str) {
        let tracks: Vec<_> = client.tracks.borrow().clone();
        for track in tracks {
            client.tracks.borrow_mut().retain(|one| one.id != track.id);
            self.submit(HookCall::TrackUnpublished { client: client.clone(), track });
        }
        client.presence.set(Presence::Gone);
        self.submit(HookCall::ClientDisconnect { client: client.clone(), reason: reason.into() });
    }

    /// Something happens.
    pub(super) fn happen(&mut self, messages: &[Value]) {
        match self.random.random_range(0..20) {
            0..=2 => {
                let token = ["good", "bad", "wait"][self.random.random_range(0..3)];
                self.join(token);
            }
            3..=9 => {
                let Some(client) = self.anybody() else { return };
                client.traffic.bytes_in.set(client.traffic.bytes_in.get() + self.random.random_range(0..999));
                let rtt = Some(Duration::from_micros(self.random.random_range(0..90_000)));
                let path = PathFigures { rtt, loss: self.random.random_range(0.0..1.0), ..PathFigures::default() };
                client.traffic.path.set(Some(path));
                let message = messages[self.random.random_range(0..messages.len())].clone();
                self.submit(HookCall::Message { client, message });
            }
            10 | 11 => {
                let Some(client) = self.anybody() else { return };
                self.tracks += 1;
                let kind = if self.random.random() { Kind::Audio } else { Kind::Video };
                let track = track(&format!("t{}", self.tracks), client.id.as_str(), kind);
                let call = HookCall::PublishRequest { client: client.clone(), track: track.clone() };
                let ticket = self.engine.submit(self.now, self.key, call);
                self.asked.insert(ticket, (client, track));
                self.drain();
            }
            12 => {
                let Some(client) = self.anybody() else { return };
                let track = client.tracks.borrow_mut().pop();
                if let Some(track) = track {
                    self.submit(HookCall::TrackUnpublished { client, track });
                }
            }
            13 => {
                let (Some(client), Some(owner)) = (self.anybody(), self.anybody()) else { return };
                let track = owner.tracks.borrow().first().cloned();
                if let Some(track) = track {
                    self.submit(HookCall::SubscribeRequest { client, track });
                }
            }
            14 => {
                let clients = self.members();
                self.submit(HookCall::ActiveSpeakers { clients });
            }
            15 => {
                self.submit(HookCall::Admin { request: json!({ "n": 1 }) });
            }
            16 => {
                // Its publisher mutes it, of which no hook tells.
                let Some(client) = self.anybody() else { return };
                if let Some(track) = client.tracks.borrow_mut().first_mut() {
                    track.muted = !track.muted;
                }
            }
            17 => {
                let pending = self.clients.iter().rev().find(|client| client.presence.get() == Presence::Pending);
                let client = if self.random.random() { pending.cloned() } else { self.anybody() };
                if let Some(client) = client {
                    self.remove(&client, "left");
                }
            }
            _ => {
                let time = Duration::from_micros(self.random.random_range(0..400_000));
                self.pass(time);
            }
        }
    }

    /// As a shard does it: what an output makes happen is behind those that are there.
    fn drain(&mut self) {
        if std::mem::replace(&mut self.is_draining, true) {
            return;
        }
        self.drain_all();
        self.is_draining = false;
    }

    fn drain_all(&mut self) {
        while let Some(output) = self.engine.poll_output() {
            match output {
                PolicyOutput::Outcome { ticket, outcome, .. } => {
                    let is_allowed = outcome.verdict == Verdict::Allow;
                    if let Some(client) = self.connecting.remove(&ticket)
                        && client.presence.get() != Presence::Gone
                    {
                        client.presence.set(if is_allowed { Presence::Joined } else { Presence::Gone });
                    }
                    if let Some((client, track)) = self.asked.remove(&ticket)
                        && is_allowed
                        && client.presence.get() == Presence::Joined
                    {
                        client.tracks.borrow_mut().push(track.clone());
                        self.submit(HookCall::TrackPublished { client, track });
                    }
                    self.act(outcome.actions);
                }
                PolicyOutput::Actions { actions, .. } => self.act(actions),
                PolicyOutput::Request { id, request: PolicyRequest::Http(http), .. } => {
                    let after = Duration::from_micros(self.random.random_range(0..80_000));
                    let reply = match self.random.random_range(0..5) {
                        0 => Err("refused".to_owned()),
                        n => Ok(HttpReply { status: 200 + n, headers: Vec::new(), body: http.url.into_bytes() }),
                    };
                    self.replies.push((self.now + after, id, PolicyReply::Http(reply)));
                }
                PolicyOutput::Request { id, request, .. } => {
                    let answer = self.store.borrow_mut().answer(self.now, &room("demo"), request);
                    let after = Duration::from_micros(self.random.random_range(0..2_000));
                    self.replies.push((self.now + after, id, PolicyReply::Shared(answer)));
                }
                PolicyOutput::Reloaded { .. } | PolicyOutput::Checkpoint { .. } => {}
            }
        }
    }

    fn act(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Kick { client, reason } => {
                    let found = self.clients.iter().rev().find(|other| other.id == client).cloned();
                    if let Some(client) = found.filter(|client| client.presence.get() != Presence::Gone) {
                        self.remove(&client, &reason);
                    }
                }
                Action::SetAttributes { client, attributes } => {
                    for facts in self.clients.iter().filter(|other| other.id == client) {
                        facts.attributes.replace(attributes.clone().into());
                    }
                }
                Action::SetRights { client, change, .. } => {
                    for facts in self.clients.iter().filter(|other| other.id == client) {
                        facts.rights.set(change.applied_to(facts.rights.get()));
                    }
                }
                _ => {}
            }
        }
    }
}
