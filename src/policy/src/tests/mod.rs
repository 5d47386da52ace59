//! The engine from outside: scripts in, outcomes out, on virtual time.

mod admin;
mod api;
mod bounds;
mod carried;
mod cases;
mod checkpoints;
mod fairness;
mod faults;
mod hooks;
mod jwks;
mod jwt;
mod library;
mod life;
mod logs;
mod measure;
mod meeting;
mod reloads;
mod rights;
mod runaways;
mod sandbox;
mod shares;
mod speakers;
mod stores;
mod timers;
mod waits;

use std::net::Ipv4Addr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::hook::{Action, ClientFacts, HookCall, Outcome, PathFigures, Presence, SCRIPT_ERROR, Undecided, Verdict};
use super::{
    OpenError, PolicyEngine, PolicyKey, PolicyOutput, PolicyReply, PolicyRequest, PolicyRequestId, PolicySettings,
    Script, Ticket,
};
use moonring_wire::id::{ClientId, RoomId, TrackId};
use moonring_wire::media::{CodecName, Kind, Source, TrackInfo};

/// An engine with one room, and a clock that stands until it is moved.
pub(crate) struct World {
    pub(super) engine: PolicyEngine,
    pub(super) now: Instant,
    pub(super) key: PolicyKey,
}

/// Keeps events from being switched off for good. Tracing remembers of each place in the code whether anybody listens; a test
/// that comes there first on a thread without a collector, while another one sets up its own, leaves it at "nobody".
pub(crate) fn keep_listening() {
    struct Somebody;
    impl tracing::Subscriber for Somebody {
        fn register_callsite(&self, _: &'static tracing::Metadata<'static>) -> tracing::subscriber::Interest {
            tracing::subscriber::Interest::sometimes()
        }
        fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
            false
        }
        fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
            tracing::span::Id::from_u64(1)
        }
        fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
        fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
        fn event(&self, _: &tracing::Event<'_>) {}
        fn enter(&self, _: &tracing::span::Id) {}
        fn exit(&self, _: &tracing::span::Id) {}
    }
    // An error says that another test was first.
    let _ = tracing::subscriber::set_global_default(Somebody);
}

/// Budgets for tests: nothing is throttled or suspended unless a test is about that.
pub(crate) fn generous() -> PolicySettings {
    PolicySettings {
        // Of the processor's time: a busy machine makes nobody fail, and a loop without end is stopped soon.
        step_budget: Duration::from_millis(100),
        strikes: 0,
        client_strikes: 0,
        ..PolicySettings::unhurried()
    }
}

impl World {
    pub(crate) fn new(script: &str) -> Self {
        Self::with(generous(), script)
    }

    pub(crate) fn with(settings: PolicySettings, script: &str) -> Self {
        Self::try_with(settings, script).expect("the script starts")
    }

    pub(crate) fn try_with(settings: PolicySettings, script: &str) -> Result<Self, OpenError> {
        let mut engine = PolicyEngine::new(settings, 7);
        let now = Instant::now();
        engine.set_clock(now, Duration::from_secs(1_786_000_000));
        let key = engine.open_room(now, &room("demo"), Ok(compiled(script)))?;
        Ok(Self { engine, now, key })
    }

    /// Submits a call and expects its outcome at once.
    pub(crate) fn call(&mut self, call: HookCall) -> Outcome {
        let ticket = self.engine.submit(self.now, self.key, call);
        let mut outcome = None;
        for output in self.outputs() {
            match output {
                PolicyOutput::Outcome { ticket: of, outcome: this, .. } if of == ticket => outcome = Some(this),
                other => panic!("unexpected {other:?}"),
            }
        }
        outcome.expect("an outcome at once")
    }

    pub(crate) fn submit(&mut self, call: HookCall) -> Ticket {
        self.engine.submit(self.now, self.key, call)
    }

    pub(crate) fn outputs(&mut self) -> Vec<PolicyOutput> {
        std::iter::from_fn(|| self.engine.poll_output()).collect()
    }

    /// What outcomes there are, as ticket and verdict.
    pub(crate) fn outcomes(&mut self) -> Vec<(Ticket, Verdict)> {
        let verdict = |output| match output {
            PolicyOutput::Outcome { ticket, outcome, .. } => Some((ticket, outcome.verdict)),
            _ => None,
        };
        self.outputs().into_iter().filter_map(verdict).collect()
    }

    /// The one request among the outputs.
    pub(crate) fn request(&mut self) -> (PolicyRequestId, PolicyRequest) {
        let request = |output| match output {
            PolicyOutput::Request { id, request, .. } => Some((id, request)),
            _ => None,
        };
        self.outputs().into_iter().find_map(request).expect("a request")
    }

    pub(crate) fn resume(&mut self, id: PolicyRequestId, reply: PolicyReply) {
        self.engine.resume(self.now, id, reply);
    }

    /// Moves the clock, stopping at everything that is due on the way.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(next) = self.engine.poll_timeout().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            self.engine.handle_timeout(self.now);
        }
        self.now = end;
    }

    /// Joins a client and checks that it may.
    pub(crate) fn join(&mut self, id: &str) -> Rc<ClientFacts> {
        let client = client(self.now, id);
        let outcome = self.call(HookCall::ClientConnect { client: client.clone(), auth_token: "good".into() });
        assert_eq!(outcome.verdict, Verdict::Allow, "{id}");
        assert_eq!(client.presence.get(), Presence::Admitted);
        client.presence.set(Presence::Joined);
        client
    }

    pub(crate) fn leave(&mut self, client: &Rc<ClientFacts>) -> Outcome {
        client.presence.set(Presence::Gone);
        self.call(HookCall::ClientDisconnect { client: client.clone(), reason: "bye".into() })
    }

    pub(crate) fn message(&mut self, client: &Rc<ClientFacts>, message: Value) -> Outcome {
        self.call(HookCall::Message { client: client.clone(), message })
    }

    /// Evaluates Lua within a hook of `EVAL` and returns what it sends.
    pub(crate) fn eval(&mut self, client: &Rc<ClientFacts>, name: &str) -> Value {
        let outcome = self.message(client, json!(name));
        match outcome.actions.first() {
            Some(Action::Send { value, .. }) => value.clone(),
            other => panic!("{name}: {other:?} in {outcome:?}"),
        }
    }

    /// Reloads at once; an error as the operator reads it.
    pub(crate) fn reload(&mut self, script: &str) -> Result<u64, String> {
        self.engine.reload(self.now, self.key, compiled(script));
        let result = |output| match output {
            PolicyOutput::Reloaded { result, .. } => Some(result.map_err(|error| error.to_string())),
            _ => None,
        };
        self.outputs().into_iter().find_map(result).expect("the reload has ended")
    }
}

pub(crate) fn compiled(script: &str) -> Arc<Script> {
    Arc::new(Script::compile("room.lua", script.as_bytes()).expect("the script compiles"))
}

pub(crate) fn room(id: &str) -> RoomId {
    RoomId::parse(id).unwrap()
}

pub(crate) fn client(now: Instant, id: &str) -> Rc<ClientFacts> {
    let (id, ip) = (ClientId::parse(id).unwrap(), Ipv4Addr::new(192, 0, 2, 7));
    let metadata = json!({ "name": id.as_str() });
    Rc::new(ClientFacts::new(id, ip.into(), metadata.into(), now))
}

pub(crate) fn track(id: &str, owner: &str, kind: Kind) -> TrackInfo {
    let (source, codec) = match kind {
        Kind::Audio => (Source::Microphone, CodecName::Opus),
        Kind::Video => (Source::Camera, CodecName::Vp8),
    };
    TrackInfo {
        id: TrackId::parse(id).unwrap(),
        client: ClientId::parse(owner).unwrap(),
        kind,
        source,
        codec,
        layers: 3,
        temporal_layers: 1,
        muted: false,
    }
}

/// A shard's stack: LuaJIT does not check how deep C code nests.
pub(crate) fn on_a_shards_stack(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(64 << 20).spawn(test).unwrap();
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// The verdict of a script that fails.
fn failing() -> Verdict {
    undecided(Undecided::Failed, SCRIPT_ERROR)
}

fn undecided(why: Undecided, words: &str) -> Verdict {
    Verdict::Undecided(why, words.to_owned())
}
