//! Writes the lines of the tapes of one room.

use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use super::line::{
    Budgets, CallLine, ClientLine, EventLine, FORMAT, Line, Middle, Of, OutcomeLine, ScriptText, Seeds, SeenLine,
    Start, StepLine, VERSION,
};
use super::secrets::{Literals, Secrets, sounds_secret};
use super::seen::{Seen, object_of};
use super::{Delivery, Depth, Sink, nanoseconds, on_clock, words};
use crate::hook::{Action, ClientFacts, HookCall, Outcome};
use crate::host::WaitFor;
use crate::output::{PolicyReply, PolicyRequestId, Ticket};
use crate::reads::Read;
use crate::script::Script;
use crate::settings::PolicySettings;

/// One watcher of a room.
struct Tape {
    sink: Sink,
    depth: Depth,
    start: Instant,
    /// Lines that the watcher was too slow for.
    lost: u64,
    is_gone: bool,
    secrets: Secrets,
    seen: Seen,
    /// The texts of the script, for what is no secret.
    literals: Literals,
}

/// All watchers of a room; mostly none.
#[derive(Default)]
pub(crate) struct Tapes {
    tapes: Vec<Tape>,
    now: Option<Instant>,
    /// True while the room draws its random numbers from seeds that stand in a recording.
    is_seeded: bool,
}

/// What a recording starts from.
pub(crate) struct Beginning<'a> {
    pub(crate) now: Instant,
    pub(crate) unix: Duration,
    pub(crate) opened: Instant,
    pub(crate) room: &'a str,
    pub(crate) metadata: &'a Value,
    pub(crate) script: &'a Script,
    pub(crate) settings: &'a PolicySettings,
    pub(crate) seeds: Seeds,
    /// Of a room that is in the middle of its life: its state, and everybody in it.
    pub(crate) middle: Option<(Middle, Vec<Rc<ClientFacts>>)>,
}

/// A step that has run.
pub(crate) struct Ran<'a> {
    pub(crate) unix: Duration,
    pub(crate) of: Of,
    pub(crate) hook: &'static str,
    pub(crate) cpu: Duration,
    pub(crate) waits: Option<(u64, &'a WaitFor)>,
    pub(crate) failed: Option<String>,
}

impl Tapes {
    pub(crate) fn is_empty(&self) -> bool {
        self.tapes.is_empty()
    }

    /// How many there are, without those that nobody watches any more.
    pub(crate) fn watched(&mut self) -> usize {
        self.tapes.retain(|tape| !tape.sink.is_gone());
        self.tapes.len()
    }

    /// True once after the last recording has ended.
    pub(crate) fn take_end_of_recordings(&mut self) -> bool {
        let is_over = self.is_seeded && !self.tapes.iter().any(|tape| tape.depth == Depth::Recording);
        self.is_seeded &= !is_over;
        is_over
    }

    /// Sets the time of the lines to come.
    pub(crate) fn at(&mut self, now: Instant) {
        self.now = Some(now);
    }

    /// Adds a watcher, and writes its first line.
    pub(crate) fn add(&mut self, sink: Sink, depth: Depth, beginning: Beginning<'_>) {
        self.now = Some(beginning.now);
        let mut tape = Tape {
            sink,
            depth,
            start: beginning.now,
            lost: 0,
            is_gone: false,
            secrets: Secrets::default(),
            seen: Seen::default(),
            literals: Literals::of(&String::from_utf8_lossy(beginning.script.source())),
        };
        let seeds = beginning.seeds.clone();
        let first = tape.beginning(beginning);
        tape.put(&first);
        if depth == Depth::Recording {
            self.each(|tape, t| (tape.depth == depth).then(|| Line::Reseeded { t, seeds: seeds.clone() }));
        }
        self.is_seeded |= depth == Depth::Recording;
        self.tapes.push(tape);
        self.tapes.retain(|tape| !tape.is_gone);
    }

    /// Tells the newest tape of an event that has come before it.
    pub(crate) fn earlier_event(&mut self, ticket: Ticket, call: &HookCall) {
        if let Some(tape) = self.tapes.last_mut() {
            let line = tape.event(0, ticket, call);
            tape.put(&line);
        }
    }

    /// Tells the newest tape of a timer that was due before it, and waits for its turn.
    pub(crate) fn earlier_timer(&mut self, timer: u32) {
        if let Some(tape) = self.tapes.last_mut() {
            tape.put(&Line::Due { t: 0, at: 0, timer: Some(timer), wait: None });
        }
    }

    pub(crate) fn event(&mut self, ticket: Ticket, call: &HookCall) {
        self.each(|tape, t| Some(tape.event(t, ticket, call)));
    }

    pub(crate) fn due(&mut self, at: Instant, timer: Option<u32>, wait: Option<PolicyRequestId>) {
        let wait = wait.map(|wait| wait.0);
        self.each(|tape, t| Some(Line::Due { t, at: on_clock(tape.start, at), timer, wait }));
    }

    pub(crate) fn reply(&mut self, wait: PolicyRequestId, reply: &PolicyReply) {
        self.each(|tape, t| Some(Line::Reply { t, wait: wait.0, reply: tape.hidden(words::reply(reply)) }));
    }

    pub(crate) fn step(&mut self, read: &Read, ran: &Ran<'_>) {
        self.each(|tape, t| Some(tape.step(t, read, ran)));
    }

    pub(crate) fn outcome(&mut self, ticket: Ticket, outcome: &Outcome) {
        self.each(|tape, t| {
            let outcome = tape.outcome(words::outcome(outcome));
            Some(Line::Outcome { t, ticket: ticket.0, outcome })
        });
    }

    pub(crate) fn actions(&mut self, actions: &[Action]) {
        self.each(|tape, t| {
            let actions = actions.iter().map(|action| tape.hidden(words::action(action))).collect();
            Some(Line::Actions { t, actions })
        });
    }

    pub(crate) fn operator(&mut self, action: &Action) {
        self.each(|tape, t| Some(Line::Operator { t, action: tape.hidden(words::action(action)) }));
    }

    pub(crate) fn reload(&mut self, script: &Script, drops_state: bool, (seed, unix): (u64, Duration)) {
        self.each(|tape, t| {
            tape.literals = Literals::of(&String::from_utf8_lossy(script.source()));
            let script = (tape.depth == Depth::Recording).then(|| script_text(script));
            Some(Line::Reload { t, seed, unix: nanoseconds(unix), drops_state, script })
        });
    }

    pub(crate) fn reloaded(&mut self, result: Result<u64, String>) {
        let (version, error) = match result {
            Ok(version) => (Some(format!("{version:016x}")), None),
            Err(error) => (None, Some(error)),
        };
        self.each(|tape, t| {
            let error = error.clone().map(|error| tape.hidden_text(error));
            Some(Line::Reloaded { t, version: version.clone(), error })
        });
    }

    pub(crate) fn resumed(&mut self) {
        self.each(|_, t| Some(Line::Resumed { t }));
    }

    /// The last line of all.
    pub(crate) fn end(&mut self, reason: &str) {
        self.each(|_, _| Some(Line::End { reason: reason.to_owned() }));
        self.tapes.clear();
    }

    /// Writes a line on each tape.
    fn each(&mut self, mut line: impl FnMut(&mut Tape, u64) -> Option<Line>) {
        let Some(now) = self.now else { return };
        for tape in &mut self.tapes {
            let t = nanoseconds(now.saturating_duration_since(tape.start));
            if let Some(line) = line(tape, t) {
                tape.put(&line);
            }
        }
        self.tapes.retain(|tape| !tape.is_gone);
    }
}

impl Tape {
    fn put(&mut self, line: &Line) {
        if self.lost > 0 && self.deliver(&Line::Lost { lines: self.lost }) == Delivery::Taken {
            self.lost = 0;
        }
        match self.deliver(line) {
            Delivery::Taken => {}
            Delivery::Full => self.lost += 1,
            Delivery::Gone => self.is_gone = true,
        }
    }

    fn deliver(&mut self, line: &Line) -> Delivery {
        // Of a line all is JSON: what has no form in it (a number that is none) has none in a value either.
        let Ok(mut text) = serde_json::to_vec(line) else { return Delivery::Full };
        text.push(b'\n');
        self.sink.put(text)
    }

    fn hidden(&mut self, mut value: Value) -> Value {
        self.secrets.hide(&mut value, &self.literals);
        value
    }

    fn hidden_object(&mut self, object: Map<String, Value>) -> Map<String, Value> {
        match self.hidden(Value::Object(object)) {
            Value::Object(object) => object,
            _ => Map::new(),
        }
    }

    /// Everything about a client, without its secrets.
    fn client(&mut self, start: Instant, client: &ClientFacts) -> ClientLine {
        let mut line = self.seen.whole(start, client);
        line.metadata = self.hidden(line.metadata);
        line.attributes = self.hidden_object(line.attributes);
        for (name, value) in &mut line.connection.headers {
            *value = if sounds_secret(name) { self.secret(value) } else { self.hidden_text(std::mem::take(value)) };
        }
        line
    }

    fn hidden_text(&self, mut text: String) -> String {
        self.secrets.hide_text(&mut text);
        text
    }

    fn secret(&mut self, text: &str) -> String {
        self.secrets.add(text, &self.literals)
    }

    fn beginning(&mut self, beginning: Beginning<'_>) -> Line {
        let Beginning { now, unix, opened, room, metadata, script, settings, seeds, middle } = beginning;
        if self.depth == Depth::Trace {
            let version = format!("{:016x}", script.version());
            return Line::Watching { room: room.to_owned(), script: script.name().to_owned(), version };
        }
        let config = self.hidden_object(settings.config.clone());
        let metadata = self.hidden_object(object_of(metadata));
        let middle = middle.map(|(mut middle, clients)| {
            for state in [&mut middle.state, &mut middle.state_version].into_iter().flatten() {
                self.hide_list(state);
            }
            for client in clients {
                middle.clients.push(self.client(now, &client));
            }
            middle
        });
        Line::Start(Box::new(Start {
            format: FORMAT.to_owned(),
            version: VERSION,
            room: room.to_owned(),
            metadata,
            unix: nanoseconds(unix),
            opened: on_clock(now, opened),
            script: script_text(script),
            config,
            budgets: budgets_of(settings),
            seeds,
            middle,
        }))
    }

    /// Takes the secrets out of a state that crosses as a list: also values whose key, which is before them, sounds so.
    fn hide_list(&mut self, items: &mut [Value]) {
        let mut is_named = false;
        for item in items.iter_mut() {
            let names_next = item["s"].as_str().is_some_and(sounds_secret);
            if let Some(text) = item["s"].as_str().filter(|_| is_named) {
                item["s"] = self.secrets.add(text, &self.literals).into();
            }
            is_named = names_next;
        }
        for item in items {
            *item = self.hidden(item.take());
        }
    }

    fn event(&mut self, t: u64, ticket: Ticket, call: &HookCall) -> Line {
        let id = |client: &Rc<ClientFacts>| client.id.clone();
        let told = match call {
            HookCall::ClientConnect { client, auth_token } => {
                // Whose token is its own id has none.
                let has_none = auth_token == client.id.as_str();
                let token = if has_none { auth_token.clone() } else { self.secret(auth_token) };
                let facts = Box::new(self.client(self.start, client));
                CallLine::ClientConnect { client: id(client), facts, token }
            }
            HookCall::ClientDisconnect { client, reason } => {
                CallLine::ClientDisconnect { client: id(client), reason: self.hidden_text(reason.clone()) }
            }
            HookCall::PublishRequest { client, track } => {
                CallLine::PublishRequest { client: id(client), track: track.clone() }
            }
            HookCall::TrackPublished { client, track } => {
                CallLine::TrackPublished { client: id(client), track: track.clone() }
            }
            HookCall::TrackUnpublished { client, track } => {
                CallLine::TrackUnpublished { client: id(client), track: track.clone() }
            }
            HookCall::SubscribeRequest { client, track } => {
                CallLine::SubscribeRequest { client: id(client), track: track.clone() }
            }
            HookCall::Message { client, message } => {
                CallLine::Message { client: id(client), message: self.hidden(message.clone()) }
            }
            HookCall::ActiveSpeakers { clients } => {
                CallLine::ActiveSpeakers { clients: clients.iter().map(id).collect() }
            }
            HookCall::Admin { request } => CallLine::Admin { request: self.hidden(request.clone()) },
            HookCall::Close { reason } => CallLine::Close { reason: *reason },
        };
        let seen = self.changes(call.client().into_iter());
        Line::Event(EventLine { t, ticket: ticket.0, call: told, seen })
    }

    fn changes<'a>(&mut self, clients: impl Iterator<Item = &'a Rc<ClientFacts>>) -> Vec<SeenLine> {
        if self.depth == Depth::Trace { Vec::new() } else { clients.filter_map(|c| self.seen.change(c)).collect() }
    }

    fn step(&mut self, t: u64, read: &Read, ran: &Ran<'_>) -> Line {
        for key in &read.secrets {
            self.secrets.add(key, &self.literals);
        }
        let signatures = read.signatures.iter().map(|(signature, holds)| (self.secret(signature), *holds)).collect();
        Line::Step(StepLine {
            t,
            unix: nanoseconds(ran.unix),
            of: ran.of,
            hook: ran.hook.to_owned(),
            cpu_ns: nanoseconds(ran.cpu),
            seen: self.changes(read.clients.iter()),
            signatures,
            waits: ran.waits.map(|(id, wait)| (id, self.hidden(words::wait(wait)))),
            failed: ran.failed.clone().map(|text| self.hidden_text(text)),
        })
    }

    fn outcome(&mut self, outcome: OutcomeLine) -> OutcomeLine {
        OutcomeLine {
            reason: outcome.reason.map(|text| self.hidden_text(text)),
            refused: outcome.refused.map(|text| self.hidden_text(text)),
            answer: outcome.answer.map(|answer| self.hidden(answer)),
            actions: outcome.actions.into_iter().map(|action| self.hidden(action)).collect(),
            ..outcome
        }
    }
}

fn script_text(script: &Script) -> ScriptText {
    let modules = script.module_sources().map(|(name, text)| (name.to_owned(), words::bytes(text)));
    ScriptText {
        name: script.name().to_owned(),
        version: format!("{:016x}", script.version()),
        text: words::bytes(script.source()),
        modules: modules.collect(),
    }
}

fn budgets_of(settings: &PolicySettings) -> Budgets {
    let us = |time: Duration| nanoseconds(time) / 1000;
    Budgets {
        step_us: us(settings.step_budget),
        load_us: us(settings.load_budget),
        memory_bytes: settings.memory_bytes,
        state_bytes: settings.state_bytes,
        host_bytes: settings.host_bytes,
        max_queued_events: settings.max_queued_events,
        max_queued_joins: settings.max_queued_joins,
        strikes: settings.strikes,
        client_strikes: settings.client_strikes,
    }
}
