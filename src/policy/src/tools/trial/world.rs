//! One room of a test: the real engine, and around it the little that a shard would do.

mod acts;
mod late;
mod life;
mod lost;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use self::acts::Asked;
use self::late::{Join, Late};
use self::life::Life;
pub(super) use self::life::Opening;
use self::lost::Kept;
use super::log::Collector;
use super::store::Store;
use crate::client::{ClientFacts, Connection, HIDDEN_MAY_NOT_PUBLISH};
use crate::hook::{HookCall, MAY_NOT_MESSAGE, MAY_NOT_PUBLISH, MAY_NOT_SUBSCRIBE, PathFigures, Presence};
use crate::output::HttpReply;
use crate::{PolicyEngine, PolicyKey, PolicyReply, PolicyRequestId, Script, Ticket};
use moonring_wire::id::{ClientId, TrackId};
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
    opening: Opening,
    now: Instant,
    started: Instant,
    /// Until when the time is to pass.
    until: Instant,
    clients: HashMap<ClientId, Rc<ClientFacts>>,
    /// HTTP replies that are on their way.
    replies: Vec<(Instant, u64, Result<HttpReply, String>)>,
    /// What the engine is asked.
    asked: HashMap<Ticket, Asked>,
    /// Tickets of requests that the engine has not been asked: refused before any hook, or yet to be asked.
    own_tickets: u64,
    /// Who receives which track.
    received: Vec<(ClientId, TrackId)>,
    /// How those that are not in the room any more have gone, by their ids.
    farewells: HashMap<String, Farewell>,
    life: Life,
    late: Late,
    kept: Kept,
    happened: Vec<Value>,
    store: Rc<RefCell<Store>>,
    log: Collector,
}

impl World {
    /// Opens a room.
    pub(super) fn open(
        now: Instant,
        opening: Opening,
        store: Rc<RefCell<Store>>,
        log: Collector,
    ) -> Result<Self, String> {
        let mut engine = opening.engine(now, START, 0);
        let key = opening.open(&mut engine, now)?;
        Ok(Self {
            engine,
            key,
            opening,
            now,
            started: now,
            until: now,
            clients: HashMap::new(),
            replies: Vec::new(),
            asked: HashMap::new(),
            own_tickets: 0,
            received: Vec::new(),
            farewells: HashMap::new(),
            life: Life::default(),
            late: Late::default(),
            kept: Kept::default(),
            happened: Vec::new(),
            store,
            log,
        })
    }

    /// Somebody new.
    pub(super) fn connect(
        &mut self,
        id: &str,
        connection: Connection,
        token: String,
        metadata: Value,
    ) -> Result<Ticket, String> {
        let id = ClientId::parse(id).map_err(|error| format!("the client id {error}"))?;
        self.check_not_lost(id.as_str())?;
        let is_there = self.clients.get(&id).is_some_and(|client| client.presence.get() != Presence::Gone);
        if is_there || self.late.waits(id.as_str()) {
            return Err(format!("there is a client '{id}' already"));
        }
        let join = Join { id, connection, token, metadata };
        if self.life.ending.is_some() && !self.life.is_over {
            return Ok(self.wait_for_end(join));
        }
        self.join(join)
    }

    /// Somebody leaves.
    pub(super) fn disconnect(&mut self, id: &str, reason: String) -> Result<(), String> {
        if self.late.give_up(id) {
            self.happened.push(json!({ "op": "gone", "client": id }));
            self.farewells.insert(id.to_owned(), Farewell::Left(reason));
            return Ok(());
        }
        let client = self.client(id)?;
        self.remove(&client, reason);
        Ok(())
    }

    /// Somebody asks to publish.
    pub(super) fn publish(&mut self, id: &str, track: TrackInfo) -> Result<Ticket, String> {
        let client = self.member(id)?;
        if let Some(reason) = no_right_to_publish(&client, &track) {
            return Ok(self.refuse(reason));
        }
        let call = HookCall::PublishRequest { client: client.clone(), track: track.clone() };
        Ok(self.submit_as(Asked::Publish(client, track), call))
    }

    /// Somebody stops publishing.
    pub(super) fn unpublish(&mut self, id: &str, track: &str) -> Result<(), String> {
        let client = self.member(id)?;
        let is_ended = TrackId::parse(track).is_ok_and(|track| self.remove_track(&client, &track));
        if is_ended { Ok(()) } else { Err(format!("client '{id}' does not publish a track '{track}'")) }
    }

    /// Somebody asks to receive.
    pub(super) fn subscribe(&mut self, id: &str, track: &str) -> Result<Ticket, String> {
        let client = self.member(id)?;
        let track = self.track(track).ok_or_else(|| format!("nobody publishes a track '{track}'"))?;
        if !client.rights.get().subscribe {
            return Ok(self.refuse(MAY_NOT_SUBSCRIBE));
        }
        let call = HookCall::SubscribeRequest { client: client.clone(), track: track.clone() };
        Ok(self.submit_as(Asked::Subscribe(client, track), call))
    }

    /// Somebody says something to the room.
    pub(super) fn message(&mut self, id: &str, message: Value) -> Result<Ticket, String> {
        let client = self.member(id)?;
        if !client.rights.get().message {
            return Ok(self.refuse(MAY_NOT_MESSAGE));
        }
        Ok(self.submit(HookCall::Message { client, message }))
    }

    /// An operator's program calls.
    pub(super) fn call(&mut self, request: Value) -> Ticket {
        if self.life.is_over {
            return self.refuse("there is no such room");
        }
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
        self.opening.script = script.clone();
        if self.life.is_over {
            return self.happened.push(json!({ "op": "reloaded", "ok": true, "text": "" }));
        }
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
        let of_life = [self.life.kept_until, self.life.end_by].into_iter().flatten().filter(|due| *due > self.now);
        let due = self.engine.poll_timeout().into_iter().chain(of_life).min().filter(|due| *due <= self.until);
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
        (START + self.passed()).as_secs_f64()
    }

    /// The script's own counters.
    pub(super) fn counter(&self, name: &str) -> f64 {
        self.engine.script_counters().find(|(known, _)| *known == name).map_or(0.0, |(_, sum)| sum)
    }

    fn client(&self, id: &str) -> Result<Rc<ClientFacts>, String> {
        if self.late.waits(id) {
            return Err(format!("client '{id}' waits until the room, which is ending, is gone"));
        }
        self.check_not_lost(id)?;
        let client = self.clients.iter().find(|(known, _)| known.as_str() == id);
        client.map(|(_, client)| client.clone()).ok_or_else(|| format!("there is no client '{id}'"))
    }

    /// A client that is there: in the room, or waiting to be let in.
    fn member(&self, id: &str) -> Result<Rc<ClientFacts>, String> {
        self.client(id).and_then(|client| match client.presence.get() {
            Presence::Gone => Err(self.gone(id)),
            _ => Ok(client),
        })
    }

    /// Who was lost with a server is not known to the next one, and comes back under another id.
    fn check_not_lost(&self, id: &str) -> Result<(), String> {
        match self.farewells.get(id) {
            Some(Farewell::Lost) => Err(format!(
                "client '{id}' was lost with the room's server: who comes back joins anew, with room:connect, and has another id"
            )),
            _ => Ok(()),
        }
    }

    /// The same of one that has gone: how it has.
    fn gone(&self, id: &str) -> String {
        match self.farewells.get(id) {
            Some(Farewell::TurnedAway(reason)) => format!("client '{id}' was not let in: {reason}"),
            Some(Farewell::Left(reason)) => format!("client '{id}' has left: {reason}"),
            Some(Farewell::Lost) | None => format!("client '{id}' has left"),
        }
    }

    fn track(&self, id: &str) -> Option<TrackInfo> {
        let tracks = |client: &Rc<ClientFacts>| client.tracks.borrow().iter().find(|t| t.id.as_str() == id).cloned();
        self.clients.values().find_map(tracks)
    }
}

/// How a client has gone.
enum Farewell {
    TurnedAway(String),
    Left(String),
    /// With the room's server.
    Lost,
}

/// Why a client may not publish a track, whatever the hook would say.
fn no_right_to_publish(client: &ClientFacts, track: &TrackInfo) -> Option<&'static str> {
    match client.rights.get().publish.has(track.source) {
        _ if client.is_hidden.get() => Some(HIDDEN_MAY_NOT_PUBLISH),
        true => None,
        false => Some(MAY_NOT_PUBLISH),
    }
}
