//! One room of a test: the real engine, and around it the little that a shard would do.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::log::Collector;
use super::store::Store;
use crate::hook::{Action, ClientFacts, HookCall, Outcome, PathFigures, Presence, Traffic, Verdict};
use crate::output::HttpReply;
use crate::{
    PolicyEngine, PolicyKey, PolicyOutput, PolicyReply, PolicyRequest, PolicyRequestId, PolicySettings, Script, Ticket,
};
use moonring_wire::id::{ClientId, RoomId, TrackId};
use moonring_wire::media::TrackInfo;

/// The time of day at which every test begins, since 1970.
pub(super) const START: Duration = Duration::from_secs(1_786_000_000);
/// Where random numbers come from: the same ones in every run.
const SEED: u64 = 7;
/// Outputs of one event after which a script is taken to go round in circles.
const MAX_OUTPUTS: usize = 100_000;

/// A room. What happens in it is collected as JSON for the harness, which drains it after everything it does.
pub(super) struct World {
    engine: PolicyEngine,
    key: PolicyKey,
    room: RoomId,
    now: Instant,
    started: Instant,
    /// Until when the time is to pass.
    until: Instant,
    clients: HashMap<ClientId, Rc<ClientFacts>>,
    /// Clients that wait for their verdict.
    connecting: HashMap<Ticket, Rc<ClientFacts>>,
    /// HTTP replies that are on their way.
    replies: Vec<(Instant, u64, Result<HttpReply, String>)>,
    /// Tracks that wait for their verdict.
    asked: HashMap<Ticket, (Rc<ClientFacts>, TrackInfo)>,
    happened: Vec<Value>,
    store: Rc<RefCell<Store>>,
    log: Collector,
}

impl World {
    /// Opens a room.
    pub(super) fn open(
        now: Instant,
        id: &str,
        script: Arc<Script>,
        config: Map<String, Value>,
        store: Rc<RefCell<Store>>,
        log: Collector,
    ) -> Result<Self, String> {
        // The time of a test stands still, and a share of it would be nothing; a script is never suspended.
        let cpu_burst = Duration::from_secs(3600);
        let budgets =
            PolicySettings { cpu_share: 0.0, shard_share: 0.0, slice: cpu_burst, cpu_burst, ..Default::default() };
        let settings = PolicySettings { strikes: 0, client_strikes: 0, config, ..budgets };
        let mut engine = PolicyEngine::new(settings, SEED);
        engine.set_clock(now, START);
        let room = RoomId::parse(id).map_err(|error| format!("the room id {error}"))?;
        let key = engine.open_room(now, &room, Ok(script)).map_err(|error| error.reason())?;
        Ok(Self {
            engine,
            key,
            room,
            now,
            started: now,
            until: now,
            clients: HashMap::new(),
            connecting: HashMap::new(),
            replies: Vec::new(),
            asked: HashMap::new(),
            happened: Vec::new(),
            store,
            log,
        })
    }

    /// Somebody new.
    pub(super) fn connect(&mut self, id: &str, ip: &str, token: String, metadata: Value) -> Result<Ticket, String> {
        let id = ClientId::parse(id).map_err(|error| format!("the client id {error}"))?;
        let ip: IpAddr = ip.parse().map_err(|_| format!("'{ip}' is no IP address"))?;
        if self.clients.get(&id).is_some_and(|client| client.presence.get() != Presence::Gone) {
            return Err(format!("there is a client '{id}' already"));
        }
        let facts = ClientFacts {
            id: id.clone(),
            ip,
            metadata: metadata.into(),
            since: self.now,
            presence: Cell::new(Presence::Pending),
            tracks: RefCell::default(),
            traffic: Traffic::default(),
        };
        let client = Rc::new(facts);
        self.clients.insert(id, client.clone());
        let ticket = self.submit(HookCall::ClientConnect { client: client.clone(), auth_token: token });
        self.connecting.insert(ticket, client);
        Ok(ticket)
    }

    /// Somebody leaves.
    pub(super) fn disconnect(&mut self, id: &str, reason: String) -> Result<(), String> {
        let client = self.client(id)?;
        self.remove(&client, reason);
        Ok(())
    }

    /// Somebody asks to publish.
    pub(super) fn publish(&mut self, id: &str, track: TrackInfo) -> Result<Ticket, String> {
        let client = self.member(id)?;
        let ticket = self.submit(HookCall::PublishRequest { client: client.clone(), track: track.clone() });
        self.asked.insert(ticket, (client, track));
        Ok(ticket)
    }

    /// Somebody stops publishing.
    pub(super) fn unpublish(&mut self, id: &str, track: &str) -> Result<(), String> {
        let client = self.member(id)?;
        let at = client.tracks.borrow().iter().position(|one| one.id.as_str() == track);
        let at = at.ok_or_else(|| format!("client '{id}' does not publish a track '{track}'"))?;
        let track = client.tracks.borrow_mut().remove(at);
        self.submit(HookCall::TrackUnpublished { client, track });
        Ok(())
    }

    /// Somebody asks to receive.
    pub(super) fn subscribe(&mut self, id: &str, track: &str) -> Result<Ticket, String> {
        let client = self.member(id)?;
        let track = self.track(track).ok_or_else(|| format!("nobody publishes a track '{track}'"))?;
        Ok(self.submit(HookCall::SubscribeRequest { client, track }))
    }

    /// Somebody says something to the room.
    pub(super) fn message(&mut self, id: &str, message: Value) -> Result<Ticket, String> {
        let client = self.member(id)?;
        Ok(self.submit(HookCall::Message { client, message }))
    }

    /// An operator's program calls.
    pub(super) fn call(&mut self, request: Value) -> Ticket {
        self.submit(HookCall::Admin { request })
    }

    /// These speak now.
    pub(super) fn speakers(&mut self, ids: &[String]) -> Result<(), String> {
        let clients = ids.iter().map(|id| self.member(id)).collect::<Result<_, _>>()?;
        self.submit(HookCall::ActiveSpeakers { clients });
        Ok(())
    }

    /// What a client has sent and received by now.
    pub(super) fn traffic(
        &mut self,
        id: &str,
        counts: [Option<u64>; 4],
        path: Option<PathFigures>,
    ) -> Result<(), String> {
        let client = self.client(id)?;
        let traffic = &client.traffic;
        let cells = [&traffic.packets_in, &traffic.bytes_in, &traffic.packets_out, &traffic.bytes_out];
        for (cell, count) in cells.into_iter().zip(counts) {
            cell.set(count.unwrap_or(cell.get()));
        }
        traffic.path.set(path.or(traffic.path.get()));
        Ok(())
    }

    /// Replaces the script.
    pub(super) fn reload(&mut self, script: Arc<Script>, drops_state: bool) {
        if drops_state {
            self.engine.reload_without_state(self.now, self.key, script);
        } else {
            self.engine.reload(self.now, self.key, script);
        }
    }

    /// The answer to an HTTP request; it arrives after `delay`.
    pub(super) fn reply(&mut self, request: u64, reply: Result<HttpReply, String>, delay: Duration) {
        if delay.is_zero() {
            return self.engine.resume(self.now, PolicyRequestId(request), PolicyReply::Http(reply));
        }
        self.replies.push((self.now + delay, request, reply));
        self.replies.sort_by_key(|(at, ..)| *at);
    }

    /// Lets time pass, with [`World::step`].
    pub(super) fn pass(&mut self, time: Duration) {
        self.until = self.now + time;
    }

    /// Goes to the next moment at which something is due. False at the end of the time that passes.
    pub(super) fn step(&mut self) -> bool {
        let arrives = self.replies.first().map(|(at, ..)| *at).filter(|at| *at <= self.until);
        let due = self.engine.poll_timeout().filter(|due| *due <= self.until);
        if let Some(at) = arrives.filter(|at| due.is_none_or(|due| *at <= due)) {
            let (_, request, reply) = self.replies.remove(0);
            self.now = self.now.max(at);
            self.reply(request, reply, Duration::ZERO);
            return true;
        }
        match due {
            Some(due) => {
                self.now = self.now.max(due);
                self.engine.handle_timeout(self.now);
                true
            }
            None => {
                self.now = self.until;
                false
            }
        }
    }

    /// The time of day.
    pub(super) fn unix(&self) -> f64 {
        (START + self.now.saturating_duration_since(self.started)).as_secs_f64()
    }

    /// The script's own counters.
    pub(super) fn counter(&self, name: &str) -> f64 {
        let status = self.engine.room_status(self.key);
        let counters = status.map(|status| status.counters).unwrap_or_default();
        counters.into_iter().find(|(known, _)| known == name).map_or(0.0, |(_, sum)| sum)
    }

    /// What happened since the last time.
    pub(super) fn drain(&mut self) -> Vec<Value> {
        for _ in 0..MAX_OUTPUTS {
            let Some(output) = self.engine.poll_output() else { break };
            self.happen(output);
        }
        for line in self.log.take() {
            self.happened.push(json!({ "op": "log", "level": line.level, "text": line.message, "hook": line.hook }));
        }
        std::mem::take(&mut self.happened)
    }

    fn submit(&mut self, call: HookCall) -> Ticket {
        self.engine.submit(self.now, self.key, call)
    }

    fn happen(&mut self, output: PolicyOutput) {
        match output {
            PolicyOutput::Outcome { ticket, outcome, .. } => self.decided(ticket, outcome),
            PolicyOutput::Actions { actions, .. } => actions.into_iter().for_each(|action| self.act(action)),
            PolicyOutput::Request { id, request: PolicyRequest::Http(http), .. } => {
                let headers: Map<_, _> = http.headers.into_iter().map(|(name, value)| (name, json!(value))).collect();
                self.happened.push(json!({ "op": "http", "id": id.0, "request": {
                    "method": http.method, "url": http.url, "headers": headers,
                    "body": String::from_utf8_lossy(&http.body), "timeout": http.timeout.as_millis() as u64 } }));
            }
            PolicyOutput::Request { id, request, .. } => {
                let answer = self.store.borrow_mut().answer(self.now, &self.room, request);
                self.engine.resume(self.now, id, PolicyReply::Shared(answer));
            }
            PolicyOutput::Reloaded { result, .. } => {
                let error = result.err().map(|error| error.to_string());
                self.happened
                    .push(json!({ "op": "reloaded", "ok": error.is_none(), "text": error.unwrap_or_default() }));
            }
        }
    }

    fn decided(&mut self, ticket: Ticket, outcome: Outcome) {
        let (allowed, reason) = match outcome.verdict {
            Verdict::Allow => (true, String::new()),
            Verdict::Reject(reason) => (false, reason),
        };
        if let Some(client) = self.connecting.remove(&ticket)
            && client.presence.get() == Presence::Admitted
        {
            client.presence.set(Presence::Joined);
        }
        self.happened.push(json!({ "op": "outcome", "ticket": ticket.0, "allowed": allowed, "reason": reason,
            "failed": outcome.failed, "missing": outcome.missing, "refused": outcome.refused, "answer": outcome.answer }));
        if let Some((client, track)) = self.asked.remove(&ticket)
            && allowed
        {
            client.tracks.borrow_mut().push(track.clone());
            self.submit(HookCall::TrackPublished { client, track });
        }
        outcome.actions.into_iter().for_each(|action| self.act(action));
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
                json!({ "op": "close", "reason": reason })
            }
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

    /// As a shard does it: the tracks go first.
    fn remove(&mut self, client: &Rc<ClientFacts>, reason: String) {
        let tracks = client.tracks.take();
        for track in tracks {
            self.submit(HookCall::TrackUnpublished { client: client.clone(), track });
        }
        client.presence.set(Presence::Gone);
        self.happened.push(json!({ "op": "gone", "client": client.id.as_str() }));
        self.submit(HookCall::ClientDisconnect { client: client.clone(), reason });
    }

    fn client(&self, id: &str) -> Result<Rc<ClientFacts>, String> {
        let client = self.clients.iter().find(|(known, _)| known.as_str() == id);
        client.map(|(_, client)| client.clone()).ok_or_else(|| format!("there is no client '{id}'"))
    }

    /// A client that is there: in the room, or waiting to be let in.
    fn member(&self, id: &str) -> Result<Rc<ClientFacts>, String> {
        self.client(id).and_then(|client| match client.presence.get() {
            Presence::Gone => Err(format!("client '{id}' has left")),
            _ => Ok(client),
        })
    }

    fn track(&self, id: &str) -> Option<TrackInfo> {
        let tracks = |client: &Rc<ClientFacts>| client.tracks.borrow().iter().find(|t| t.id.as_str() == id).cloned();
        self.clients.values().find_map(tracks)
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
