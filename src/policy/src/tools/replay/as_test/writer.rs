//! The parts of a test file, line by line of the recording.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::{Value, json};

use super::Piece;
use super::lua::{answers_of, at, connect_of, got, lua, lua_list, lua_string, track_of, verdict_of, wanted};
use crate::tape::line::{CallLine, EventLine, Line, Of, OutcomeLine, SeenLine};
use crate::tools::replay::read::Recording;
use moonring_wire::id::ClientId;
use moonring_wire::media::TrackInfo;

/// A moment before something, in nanoseconds.
const MOMENT: u64 = 1_000;
/// In the test: what was sent since the last look, to everybody and then to single clients.
const SAID: &str = "local function said()
  local news = {}
  for i = broadcasts + 1, #room.broadcasts do news[#news + 1] = room.broadcasts[i] end
  for i = sends + 1, #room.sends do news[#news + 1] = room.sends[i] end
  broadcasts, sends = #room.broadcasts, #room.sends
  return news
end";
/// In the test: HTTP requests are answered as they were, each answer once.
const ANSWER: &str = "}
room:http(function(request)
  local answer = table.remove(answers[request.method .. \" \" .. request.url] or {}, 1)
  if not answer then return nil, \"the recording has no answer to this request\" end
  if answer.error then return nil, answer.error end
  return answer
end)";

/// Puts the pieces together.
pub(super) struct Writer<'a> {
    recording: &'a Recording,
    script: &'a str,
    pieces: Vec<Piece>,
    /// How far the test's clock has been set, in nanoseconds, and the time of the line that is being taken.
    clock: u64,
    t: u64,
    line: usize,
    outcomes: HashMap<u64, &'a OutcomeLine>,
    /// Events whose first step waits; what the first steps have seen.
    waiting: HashSet<u64>,
    seen: HashMap<u64, &'a [SeenLine]>,
    /// Joins that wait.
    joins: HashMap<u64, &'a ClientId>,
    due: HashMap<u32, u64>,
    /// What was sent and has not been looked at yet.
    said: Vec<Value>,
    /// Who was thrown out, and with which words; who leaves at which time.
    kicked: BTreeMap<&'a str, &'a str>,
    gone: HashSet<&'a str>,
    leaves: HashSet<(&'a ClientId, u64)>,
    /// Ends of tracks whose publisher leaves.
    with_leaving: HashSet<u64>,
    /// Tracks that the script has ended, and clients whose rights have changed, with the time.
    ended: HashSet<String>,
    righted: HashSet<(String, u64)>,
    closed: Option<&'a str>,
    /// The tracks of a client end who leaves.
    is_leaving: bool,
}

impl<'a> Writer<'a> {
    pub(super) fn new(recording: &'a Recording, script: &'a str) -> Self {
        let mut writer = Self {
            recording,
            script,
            pieces: Vec::new(),
            clock: 0,
            t: 0,
            line: 1,
            outcomes: HashMap::new(),
            waiting: HashSet::new(),
            seen: HashMap::new(),
            joins: HashMap::new(),
            due: HashMap::new(),
            said: Vec::new(),
            kicked: BTreeMap::new(),
            gone: HashSet::new(),
            leaves: HashSet::new(),
            with_leaving: HashSet::new(),
            ended: HashSet::new(),
            righted: HashSet::new(),
            closed: None,
            is_leaving: false,
        };
        for (_, line) in &recording.lines {
            match line {
                Line::Outcome { ticket, outcome, .. } => drop(writer.outcomes.insert(*ticket, outcome)),
                Line::Step(step) => {
                    if let Of::Ticket(ticket) = step.of {
                        writer.seen.insert(ticket, &step.seen);
                        writer.waiting.extend(step.waits.as_ref().map(|_| ticket));
                    }
                }
                Line::Event(EventLine { t, call: CallLine::ClientDisconnect { client, .. }, .. }) => {
                    writer.leaves.insert((client, *t));
                }
                _ => {}
            }
        }
        let mut leaving = None;
        for (_, line) in recording.lines.iter().rev() {
            let Line::Event(event) = line else { continue };
            match &event.call {
                CallLine::ClientDisconnect { client, .. } => leaving = Some(client),
                CallLine::TrackUnpublished { client, .. } if leaving == Some(client) => {
                    writer.with_leaving.insert(event.ticket);
                }
                _ => leaving = None,
            }
        }
        writer
    }

    pub(super) fn pieces(mut self) -> Vec<Piece> {
        self.begin();
        let recording = self.recording;
        for (number, line) in &recording.lines {
            (self.line, self.t) = (*number, line.t().unwrap_or(self.t));
            self.take(line);
        }
        self.end();
        self.pieces
    }

    fn begin(&mut self) {
        let start = &self.recording.start;
        let (config, metadata) = (json!(start.config), json!({ "id": start.room, "metadata": start.metadata }));
        self.set_up(format!(
            "local room = test.room({}, {}, {})",
            lua_string(self.script),
            lua(&config),
            lua(&metadata)
        ));
        self.set_up("local c, broadcasts, sends = {}, 0, 0".to_owned());
        self.set_up(SAID.to_owned());
        let answers = answers_of(self.recording);
        if !answers.is_empty() {
            self.set_up("local answers = {".to_owned());
            for (request, answers) in &answers {
                self.set_up(format!("  [{}] = {},", lua_string(request), lua_list(answers.iter().map(lua))));
            }
            self.set_up(ANSWER.to_owned());
        }
    }

    fn end(&mut self) {
        self.look();
        for (client, reason) in std::mem::take(&mut self.kicked) {
            self.expect(format!("c[{}].kicked", lua_string(client)), lua_string(reason), None);
        }
        if let Some(reason) = self.closed {
            self.expect("room.closed".to_owned(), lua_string(reason), None);
        }
        let failed = |line: &&(usize, Line)| matches!(&line.1, Line::Step(step) if step.failed.is_some());
        let failures = self.recording.lines.iter().filter(failed).count();
        self.expect("#room:failures()".to_owned(), failures.to_string(), Some("room:failures()".to_owned()));
    }

    fn take(&mut self, line: &'a Line) {
        match line {
            Line::Event(event) => self.event(event),
            Line::Due { at, timer: Some(timer), .. } => drop(self.due.insert(*timer, (*at).max(0) as u64)),
            Line::Step(step) if !step.seen.is_empty() => {
                let before = match step.of {
                    Of::Timer(timer) => self.due.get(&timer).copied().unwrap_or(step.t),
                    Of::Wait(_) => step.t,
                    // Its event has told of it.
                    Of::Ticket(_) => return,
                };
                self.advance(before.saturating_sub(MOMENT));
                self.traffic(&step.seen);
            }
            Line::Outcome { ticket, outcome, .. } => {
                self.follow(&outcome.actions);
                if let Some(client) = self.joins.remove(ticket) {
                    self.advance(self.t);
                    self.joined(client, outcome);
                }
            }
            Line::Actions { actions, .. } => self.follow(actions),
            Line::Operator { action, .. } => {
                self.look();
                self.advance(self.t);
                self.act(format!("room:operator({})", lua(action)));
                self.note(action);
            }
            Line::Reload { drops_state, .. } => {
                self.look();
                self.advance(self.t);
                self.act(format!("room:reload({}, {{ drop_state = {drops_state} }})", lua_string(self.script)));
            }
            _ => {}
        }
    }

    fn event(&mut self, event: &'a EventLine) {
        if self.comes_by_itself(event) {
            return;
        }
        if !std::mem::take(&mut self.is_leaving) {
            self.look();
        }
        self.advance(self.t);
        self.traffic(&event.seen);
        self.traffic(self.seen.get(&event.ticket).copied().unwrap_or_default());
        let outcome = self.outcomes.get(&event.ticket).copied().filter(|_| !self.waiting.contains(&event.ticket));
        let call = match &event.call {
            CallLine::ClientConnect { client, facts, token } => {
                self.gone.remove(client.as_str());
                self.kicked.remove(client.as_str());
                self.act(format!("{} = room:connect({})", at(client), lua(&connect_of(client, facts, token))));
                match outcome {
                    Some(outcome) => self.joined(client, outcome),
                    None => drop(self.joins.insert(event.ticket, client)),
                }
                return;
            }
            CallLine::ClientDisconnect { client, reason } => {
                self.gone.insert(client.as_str());
                return self.act(format!("{}:disconnect({})", at(client), lua_string(reason)));
            }
            CallLine::TrackUnpublished { client, track } => {
                return self.act(format!("{}:unpublish({})", at(client), lua_string(track.id.as_str())));
            }
            CallLine::TrackPublished { .. } | CallLine::Close { .. } => return,
            CallLine::ActiveSpeakers { clients } => {
                return self.act(format!("room:speakers({})", lua_list(clients.iter().map(at))));
            }
            CallLine::PublishRequest { client, track } => {
                format!("{}:publish({})", at(client), lua(&track_of(track)))
            }
            CallLine::SubscribeRequest { client, track } => {
                format!("{}:subscribe({})", at(client), lua_string(track.id.as_str()))
            }
            CallLine::Message { client, message } => format!("{}:message({})", at(client), lua(message)),
            CallLine::Admin { request } => format!("room:call({})", lua(request)),
        };
        match outcome {
            Some(outcome) => self.expect(got(&event.call, &call), wanted(&event.call, outcome), Some(call)),
            None => self.act(call),
        }
    }

    /// True when the room of a test does it by itself, together with something else.
    fn comes_by_itself(&mut self, event: &'a EventLine) -> bool {
        match &event.call {
            CallLine::TrackPublished { .. } | CallLine::Close { .. } => true,
            CallLine::ClientDisconnect { client, .. } => self.gone.contains(client.as_str()),
            CallLine::TrackUnpublished { client, track } => {
                let goes_with_it = self.with_leaving.contains(&event.ticket) && !self.gone.contains(client.as_str());
                if goes_with_it && !std::mem::replace(&mut self.is_leaving, true) {
                    self.look();
                }
                goes_with_it || self.gone.contains(client.as_str()) || self.has_no_right(client, track)
            }
            _ => false,
        }
    }

    /// True when the script has ended a track, or its publisher has no right to it any more.
    fn has_no_right(&self, client: &ClientId, track: &TrackInfo) -> bool {
        self.ended.contains(track.id.as_str()) || self.righted.contains(&(client.as_str().to_owned(), self.t))
    }

    fn joined(&mut self, client: &ClientId, outcome: &OutcomeLine) {
        let who = at(client);
        self.expect(format!("{{ {who}.allowed, {who}.reason }}"), verdict_of(outcome), None);
    }

    /// What the script does: what it sends is looked at before the next thing happens.
    fn follow(&mut self, actions: &'a [Value]) {
        for action in actions {
            self.note(action);
            if let Some(value) = action.get("broadcast") {
                self.said.push(json!({ "value": value, "except": action["except"] }));
            } else if let Some(value) = action.get("send") {
                self.said.push(json!({ "value": value, "to": action["to"] }));
            }
        }
    }

    /// What follows of an action by itself.
    fn note(&mut self, action: &'a Value) {
        let word = |name: &str| action[name].as_str();
        if let (Some(client), Some(reason)) = (word("kick"), word("reason")) {
            if self.gone.insert(client) {
                self.kicked.insert(client, reason);
            }
        } else if let Some(reason) = word("close") {
            self.closed = Some(reason);
            self.gone.extend(self.leaves.iter().filter(|(_, t)| *t >= self.t).map(|(client, _)| client.as_str()));
        } else if let Some(track) = word("unpublish") {
            self.ended.insert(track.to_owned());
        } else if let (true, Some(client)) = (action.get("set_rights").is_some(), word("client")) {
            self.righted.insert((client.to_owned(), self.t));
        }
    }

    /// Expects what was sent since the last look.
    fn look(&mut self) {
        if self.said.is_empty() {
            return;
        }
        self.advance(self.t);
        let (sends, broadcasts): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.said).into_iter().partition(|said| said.get("to").is_some());
        let told = |said: &Value| {
            let mut said = said.clone();
            if said["except"].is_null()
                && let Some(fields) = said.as_object_mut()
            {
                fields.remove("except");
            }
            lua(&said)
        };
        let wanted = lua_list(broadcasts.iter().chain(&sends).map(told));
        self.expect("said()".to_owned(), wanted, Some("said()".to_owned()));
    }

    /// Lets the test's clock come to a time of the recording.
    fn advance(&mut self, to: u64) {
        if to > self.clock {
            self.act(format!("room:advance({})", (to - self.clock) as f64 / 1e6));
            self.clock = to;
        }
    }

    fn traffic(&mut self, seen: &[SeenLine]) {
        for SeenLine { client, traffic, path, .. } in seen {
            let mut figures = json!({});
            for (name, figure) in
                ["packets_in", "bytes_in", "packets_out", "bytes_out"].iter().zip(traffic.iter().flatten())
            {
                figures[*name] = (*figure).into();
            }
            if let Some(path) = path {
                figures["path"] = json!({ "estimate": path.estimate_bps, "target": path.target_bps, "paused": path.paused,
                    "rtt": path.rtt.map(|rtt| rtt.as_secs_f64() * 1000.0), "loss": path.loss, "resends": path.resends });
                if let Some(fields) = figures["path"].as_object_mut() {
                    fields.retain(|_, figure| !figure.is_null());
                }
            }
            if figures != json!({}) {
                self.act(format!("{}:traffic({})", at(client), lua(&figures)));
            }
        }
    }

    fn set_up(&mut self, text: String) {
        self.pieces.push(Piece::SetUp(text));
    }

    fn act(&mut self, text: String) {
        self.pieces.push(Piece::Do(text));
    }

    fn expect(&mut self, got: String, wanted: String, otherwise: Option<String>) {
        self.pieces.push(Piece::Expect { line: self.line, got, wanted, otherwise });
    }
}
